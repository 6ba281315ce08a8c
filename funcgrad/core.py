"""The heart of funcgrad: primitives, interpreters, and `bind`, where the two meet.

A *primitive* is something that can be computed, such as `add` or `dot`. Every array operation is, in the end, a call
of `bind(primitive, *operands, **params)`.

An *interpreter* gives meaning to primitives while a function runs. The ground interpreter, `Evaluate`, computes
with buffers. A transform installs another one, runs the user's function, and sees every primitive that the function
binds: to differentiate it, to batch it, or to write it down. Interpreters nest. While an interpreter treats one
primitive, its `parent`, the interpreter outside of it, is the current one, so whatever it computes is in turn
interpreted by the transforms outside. That is all there is to the composition of transforms:

    vmap(grad(f))(x)     Evaluate  <-  Batch  <-  Forward  <-  f's operations enter here

A *tracer* is an array whose value an interpreter manages. A tracer belongs to exactly one interpreter. To every other
interpreter it is a constant, and that is what keeps the tangents of nested derivatives apart.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

import numpy
from numpy import ndarray

from funcgrad.array import AbstractArray, Array, ConcreteArray, WeakArray, wrap
from funcgrad.errors import (
    DeviceError,
    FuncgradError,
    LeakedTracerError,
    MissingRuleError,
    TracedValueError,
)

IN_ALL, IN_EACH = "in all operands together", "in each operand"


class Primitive:
    """Something that can be computed, with all of its rules.

    Operands are arrays or tracers; `params` are static Python values. A primitive with `multiple_results` takes and
    gives lists of results where others have a single one. Calling a primitive binds it: `add(x, y)`.

    Rules:
        abstract(*operands, **params): the `AbstractArray` of the result. `operands` have `shape`, `dtype` and
            `weak_type`. The only place where shapes and dtypes are checked.
        evaluate(*buffers, **params): the buffer of the result, computed with the buffers' own module.
        jvp(primals, tangents, **params): the result and its tangent. A tangent None is zero; at least one is not.
        transpose(cotangent, *operands, **params): for a primitive that is linear in some operands: the cotangent of
            each operand. The linear operands arrive as `program.Variable`s, the others as arrays; for these, and for
            zeros, the rule returns None.
        batch(size, operands, axes, **params): the result with an extra axis, and where that is. `axes` says at which
            axis each operand has its extra axis of length `size`, None for none; at least one is not None.
        linearize(primals, tangents, **params): takes the place of `jvp` when reverse mode records the linear part.
        stage(interpreter, operands, params): takes the place of `abstract` when a Program is written down; for
            primitives that carry Python functions.
        collect(size, *operands, **params): for collectives: the result over the named axis, which is the first one of
            every operand, and where the result still has it.

    A primitive that `carries_functions` (Programs or Python functions) is told, in its batch rule, the `axis_name` as
    well, to which collectives inside those functions may refer. One that `has_effects` does more than compute, such as
    printing: it runs once wherever the user's function comes by, and is never left out, moved or run again.

    `module` is the name of the module that made it. Together with its name it says which primitive it is, also to
    another process.
    """

    __slots__ = (
        "abstract",
        "batch",
        "carries_functions",
        "collect",
        "evaluate",
        "has_effects",
        "jvp",
        "keeps_weak_type",
        "linearity",
        "linearize",
        "module",
        "multiple_results",
        "name",
        "native",
        "stage",
        "transpose",
        "transpose_into",
    )

    # A rule is None where there is none; callers that cannot do without it ask `rule`.
    abstract: Any
    evaluate: Any
    jvp: Any
    transpose: Any
    batch: Any
    linearize: Any
    stage: Any
    collect: Any

    linearity: tuple[str, Any] | None
    """For a primitive that is linear: IN_ALL or IN_EACH, and the rule `jvp` that says the same in Python."""

    transpose_into: Any
    """For a primitive that reads few elements of its first operand: `transpose_into(total, cotangent, *operands,
    **params)` is the sum of a cotangent of that operand and the one of `transpose`, which is zero for all others."""

    native: Any
    """How the compiler computes it eagerly, once it does: see `compiler.eager`."""

    def __init__(
        self,
        name: str,
        *,
        abstract: Callable[..., Any] | None = None,
        evaluate: Callable[..., Any] | None = None,
        jvp: Callable[..., Any] | None = None,
        transpose: Callable[..., Any] | None = None,
        batch: Callable[..., Any] | None = None,
        linearize: Callable[..., Any] | None = None,
        stage: Callable[..., Any] | None = None,
        collect: Callable[..., Any] | None = None,
        multiple_results: bool = False,
        keeps_weak_type: bool = False,
        carries_functions: bool = False,
        has_effects: bool = False,
    ):
        self.name = name
        self.module: str = sys._getframe(1).f_globals.get("__name__", "")
        self.abstract, self.evaluate, self.jvp, self.transpose = abstract, evaluate, jvp, transpose
        self.batch, self.linearize, self.stage, self.collect = batch, linearize, stage, collect
        self.multiple_results, self.keeps_weak_type = multiple_results, keeps_weak_type
        self.carries_functions, self.has_effects = carries_functions, has_effects
        self.linearity = self.native = self.transpose_into = None

    def rule(self, kind: str, transform: str) -> Callable[..., Any]:
        """The rule of this kind. Raises MissingRuleError, naming the transform that needs it, where there is none."""
        found = getattr(self, kind)
        if found is None:
            raise MissingRuleError(
                f"the primitive '{self.name}' has no {kind} rule, which {transform} needs; "
                "add one, or keep this operation out of the transformed function."
            )
        return found

    def __call__(self, *operands: Array, **params: Any) -> Any:
        interpreter = _current()
        if (interpreter is ground or interpreter.only_cares_for_tracers) and not self.carries_functions:
            buffers = []
            for x in operands:
                if type(x) is not ConcreteArray:
                    break
                buffers.append(x._data)
            else:  # plain values concern no transform, from here down to the ground
                try:
                    result = self.evaluate(*buffers, **params) if params else self.evaluate(*buffers)
                except Exception as error:
                    result = evaluate_after(error, self, operands, params)
                return ConcreteArray(result) if type(result) is ndarray else wrap_result(self, operands, result)
        if interpreter is ground:
            return ground.interpret(self, operands, params)
        _set_current(interpreter.parent)
        try:
            return interpreter.interpret(self, operands, params)
        finally:
            _set_current(interpreter)

    def __repr__(self) -> str:
        return self.name


def bind(primitive: Primitive, *operands: Array, **params: Any) -> Any:
    """Apply a primitive under the current interpreter; the same as calling it."""
    return primitive(*operands, **params)


class Interpreter:
    """Gives meaning to primitives while a function runs. Subclass it to write a transform or a tool of your own.

    `with interpreter:` makes it the current one. Each primitive that is bound then arrives in `interpret`, which runs
    with `parent` as the current interpreter: whatever it binds in turn goes outward.

    Example, an interpreter that prints what a function does:
        >>> import funcgrad as fg
        >>> class Log(fg.Interpreter):
        ...     def interpret(self, primitive, operands, params):
        ...         print(primitive.name)
        ...         return primitive(*operands, **params)
        >>> with Log():
        ...     y = fg.numpy.tanh(fg.array(1.0) * 2)
        mul
        tanh
    """

    parent: Interpreter
    active: bool = False

    transform: str = "an interpreter"
    """What users know it by, for messages."""

    axis_name: Any = None
    size: int = 1
    """The name of the axis that this interpreter batches over, for collectives, and its length."""

    passes_constants: bool = False
    """Set by interpreters that hand every operation without one of their own tracers on to their parent unchanged."""

    only_cares_for_tracers: bool = False
    """Whether this interpreter and all outside of it pass constants, so that operations on them need no dispatch."""

    def interpret(self, primitive: Primitive, operands: Sequence[Array], params: dict[str, Any]) -> Any:
        """The result of the primitive; a list of results where the primitive has several."""
        raise NotImplementedError

    def interpret_program(self, program: Any, operands: Sequence[Array]) -> list[Array]:
        """Run a Program under this interpreter: for `call` and others that carry one, to see what is inside."""
        with within(self):
            return program(*operands)

    def open(self, parent: Interpreter) -> None:
        """Take the place inside of `parent`; part of entering the `with` block."""
        self.parent, self.active = parent, True
        self.only_cares_for_tracers = self.passes_constants and parent.only_cares_for_tracers

    def __enter__(self):
        self.open(_current())
        _set_current(self)
        return self

    def __exit__(self, *exception: object) -> None:
        _set_current(self.parent)
        self.active = False


class Evaluate(Interpreter):
    """The ground: computes with buffers. Knows no shapes or dtypes to check until NumPy refuses something."""

    active = True
    passes_constants = only_cares_for_tracers = True

    def interpret(self, primitive: Primitive, operands: Sequence[Array], params: dict[str, Any]) -> Any:
        try:
            result = primitive.evaluate(*[x._data for x in operands], **params)
        except Exception as error:
            result = evaluate_after(error, primitive, operands, params)
        return wrap_result(primitive, operands, result)


def wrap_result(primitive: Primitive, operands: Sequence[Array], result: Any) -> Any:
    """What a primitive computed, as arrays."""
    if primitive.multiple_results:
        return [wrap(x) for x in result]
    weak = primitive.keeps_weak_type and operands and all(type(x) is WeakArray for x in operands)
    return wrap(result, bool(weak))


def evaluate_after(error: Exception, primitive: Primitive, operands: Sequence[Array], params: dict[str, Any]) -> Any:
    """What to do when a buffer computation failed: say why in the user's words, or carry on where NumPy only warned.

    Nothing is checked before a computation, which keeps small arrays fast; a failure is explained afterwards.
    """
    if isinstance(error, FuncgradError):
        raise error
    for x in operands:
        if isinstance(x, Tracer):  # it got out of the function that it belongs to
            raise x.leaked() from None
        if x.is_deleted():
            _ = x._data.shape  # raises
    if isinstance(error, (RuntimeWarning, FloatingPointError)):
        # NaN and infinity are values here; somebody told NumPy to treat them as errors.
        with numpy.errstate(all="ignore"):
            return primitive.evaluate(*[x._data for x in operands], **params)
    primitive.rule("evaluate", "running it")
    if len({x.device for x in operands}) > 1:
        raise DeviceError(
            f"{primitive.name} got arrays on different devices; move them to one with fg.device_put(x, device)."
        ) from None
    if primitive.abstract is not None:
        primitive.abstract(*operands, **params)
    raise error


# NaN and infinity are values; NumPy's warnings about them would name lines of this package.
warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"funcgrad\.")

ground = Evaluate()
context: ContextVar[Interpreter] = ContextVar("funcgrad_interpreter", default=ground)
_current, _set_current = context.get, context.set

# Public names for the same: the interpreter that the next operation of this thread or task goes to.
current_interpreter, set_current_interpreter = _current, _set_current


def named_axes() -> tuple[tuple[Any, int], ...]:
    """The names and lengths of the batch axes around the next operation, innermost first."""
    interpreter, found = _current(), []
    while interpreter is not ground:
        if interpreter.axis_name is not None:
            found.append((interpreter.axis_name, interpreter.size))
        interpreter = interpreter.parent
    return tuple(found)


class within:
    """Run a block with `interpreter` as the current one, without opening it: for rules that work on two levels."""

    __slots__ = ("interpreter", "outer")

    def __init__(self, interpreter: Interpreter):
        self.interpreter = interpreter

    def __enter__(self) -> Interpreter:
        self.outer = _current()
        _set_current(self.interpreter)
        return self.interpreter

    def __exit__(self, *exception: object) -> None:
        _set_current(self.outer)


class Tracer(Array):
    """An array whose value is managed by an interpreter while it runs a function."""

    __slots__ = ("interpreter",)
    interpreter: Interpreter

    @property
    def aval(self) -> AbstractArray:
        raise NotImplementedError

    @property
    def shape(self) -> tuple[int, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.aval.shape

    @property
    def dtype(self) -> numpy.dtype:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.aval.dtype

    @property
    def weak_type(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.aval.weak_type

    def leaked(self) -> LeakedTracerError:
        return LeakedTracerError(
            f"a value traced by {self.interpreter.transform} ({self.aval!r}) was used outside of the transformed "
            "function that it belongs to; return it from that function instead of storing it in a variable outside."
        )

    def concrete(self, purpose: str) -> ConcreteArray:
        raise TracedValueError(f"{purpose} needs a value, and {self!r} has none while it is traced.")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> numpy.ndarray:
        return self.concrete("a NumPy function").__array__(dtype, copy)

    def __repr__(self) -> str:
        return f"Tracer<{self.aval!r} in {self.interpreter.transform}>"


def check_not_traced(values: Sequence[Any]) -> None:
    """Raise if one of `values` is a tracer whose transform has ended."""
    for value in values:
        if isinstance(value, Tracer) and not value.interpreter.active:
            raise value.leaked()


__all__ = [
    "Evaluate",
    "Interpreter",
    "Primitive",
    "Tracer",
    "bind",
    "check_not_traced",
    "current_interpreter",
    "ground",
    "named_axes",
    "set_current_interpreter",
    "within",
]
