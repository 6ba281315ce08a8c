"""Programs: functions written down as data.

A `Program` is a list of equations in the order in which they run. Every equation applies one primitive to variables
and constants and names the results. `Stage` is the interpreter that writes programs: it runs a Python function on
variables instead of values and notes each primitive that the function binds. A Program can be printed, checked, run
again under any interpreter (and so differentiated or batched), and compiled.

    f(x: float32[3], w: float32[3,2]) =
      a: float32[2] = dot_general(x, w, dimension_numbers=...)   # model.py:12
      b: float32[2] = tanh(a)                                    # model.py:12
      return b
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from typing import Any

from funcgrad.array import AbstractArray, Array
from funcgrad.core import Interpreter, Primitive, Tracer, current_interpreter, within
from funcgrad.devices import to_host
from funcgrad.errors import ProgramError, SourceLine, TracedValueError, user_line


class Variable:
    """A name for a value in a Program. Two variables are the same only if they are one object."""

    __slots__ = ("dtype", "shape", "weak_type")

    def __init__(self, like: Any):
        """A variable with the shape, dtype and weakness of `like`: an abstract value or any array."""
        self.shape, self.dtype, self.weak_type = like.shape, like.dtype, like.weak_type

    @property
    def aval(self) -> AbstractArray:
        return AbstractArray(self.shape, self.dtype, self.weak_type)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __repr__(self) -> str:
        return f"Variable({self.aval!r})"


class Equation:
    """`results = primitive(*operands, **params)`, and the user's line that asked for it."""

    __slots__ = ("operands", "params", "primitive", "results", "source")

    def __init__(
        self,
        primitive: Primitive,
        operands: Sequence[Any],
        params: dict[str, Any],
        results: Sequence[Variable],
        source: SourceLine | None = None,
    ):
        self.primitive, self.operands, self.params, self.results = primitive, operands, params, results
        self.source = source

    @property
    def has_effects(self) -> bool:
        """Whether it does more than compute its results, itself or in a Program that it carries."""
        return self.primitive.has_effects or any(
            equation.has_effects for program in programs_in(self.params) for equation in program.equations
        )

    def __repr__(self) -> str:
        return Printer().equation(self)


def programs_in(params: dict[str, Any]) -> list[Program]:
    """The Programs that a primitive carries among its params, alone or in tuples."""
    values = [y for x in params.values() for y in (x if isinstance(x, tuple) else (x,))]
    return [x for x in values if isinstance(x, Program)]


class Program:
    """A function as data: `inputs`, `equations`, `outputs`. Immutable.

    Operands and outputs are variables, or arrays for constants. Calling a Program runs it under the current
    interpreter, on a flat list of arrays.
    """

    __slots__ = ("_derived", "equations", "inputs", "name", "outputs")

    def __init__(
        self,
        inputs: Sequence[Variable],
        equations: Sequence[Equation],
        outputs: Sequence[Any],
        name: str = "f",
    ):
        self.inputs, self.equations, self.outputs = tuple(inputs), tuple(equations), tuple(outputs)
        self.name = name
        self._derived: dict[Any, Any] = {}

    @property
    def in_avals(self) -> tuple[AbstractArray, ...]:
        return tuple(x.aval for x in self.inputs)

    @property
    def out_avals(self) -> tuple[AbstractArray, ...]:
        return tuple(x.aval for x in self.outputs)

    def __call__(self, *arguments: Array) -> list[Array]:
        """Run the equations one after the other: the reference for what a Program means."""
        values: dict[Any, Any] = dict(zip(self.inputs, arguments, strict=True))
        for equation in self.equations:
            operands = [values[x] if type(x) is Variable else x for x in equation.operands]
            result = equation.primitive(*operands, **equation.params)
            results = result if equation.primitive.multiple_results else (result,)
            values.update(zip(equation.results, results, strict=True))
        return [values[x] if type(x) is Variable else x for x in self.outputs]

    def derived(self, key: Any, make: Callable[[], Any]) -> Any:
        """Something computed from this Program, such as its derivative: made once, kept as long as the Program."""
        found = self._derived.get(key)
        if found is None:
            found = self._derived[key] = make()
        return found

    def check(self) -> None:
        """Verify that every variable is defined before it is used and that every result has the stated shape and dtype.

        Raises:
            ProgramError: naming the first equation that is not well typed.
        """
        defined = set(self.inputs)
        for equation in self.equations:
            for x in equation.operands:
                if type(x) is Variable and x not in defined:
                    raise ProgramError(f"in '{equation}' a variable is used before it is defined.", equation.source)
            if equation.primitive.abstract is not None:
                expected = equation.primitive.abstract(*equation.operands, **equation.params)
                expected = expected if equation.primitive.multiple_results else [expected]
                stated = [x.aval for x in equation.results]
                if stated != list(expected):
                    raise ProgramError(f"'{equation}' states {stated} but computes {expected}.", equation.source)
            for x in equation.results:
                if x in defined:
                    raise ProgramError(f"in '{equation}' a variable is defined twice.", equation.source)
                defined.add(x)
        for x in self.outputs:
            if type(x) is Variable and x not in defined:
                raise ProgramError(f"program '{self.name}' returns a variable that is never defined.")

    def close_over(self) -> tuple[Program, list[Tracer]]:
        """Make the tracers of other interpreters that occur in the equations into further inputs, put first.

        Returns the closed Program and those tracers, which are the arguments for the new inputs.
        """
        variables: dict[int, tuple[Tracer, Variable]] = {}

        def close(x: Any) -> Any:
            if not isinstance(x, Tracer):
                return x
            if id(x) not in variables:
                variables[id(x)] = (x, Variable(x.aval))
            return variables[id(x)][1]

        equations = [
            Equation(e.primitive, [close(x) for x in e.operands], e.params, e.results, e.source) for e in self.equations
        ]
        outputs = [close(x) for x in self.outputs]
        captured = list(variables.values())
        inputs = [*(variable for _, variable in captured), *self.inputs]
        return Program(inputs, equations, outputs, self.name), [tracer for tracer, _ in captured]

    def __str__(self) -> str:
        return self.pretty()

    def pretty(self, colors: bool = False) -> str:
        """The Program as text: one equation a line, with the user's source lines; `colors` uses terminal colours."""
        return Printer(colors).program(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.pretty())}</pre>"


class StageTracer(Tracer):
    """Stands for a variable of the Program that a `Stage` is writing."""

    __slots__ = ("dtype", "shape", "variable", "weak_type")

    def __init__(self, interpreter: Stage, variable: Variable):
        self.interpreter, self.variable = interpreter, variable
        # Attributes of its own rather than the properties of other tracers: tracing asks for them all the time.
        self.shape, self.dtype, self.weak_type = variable.shape, variable.dtype, variable.weak_type  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def aval(self) -> AbstractArray:
        return self.variable.aval

    def concrete(self, purpose: str):
        what = f"{purpose} needs the value of"
        remedy = "keep it an array, compute it before the jitted function, or pass it as a static argument"
        if purpose == "bool()":
            what = "a Python `if`, `while`, `and`, `or`, `not` or bool() depends on"
            remedy = (
                "use fg.numpy.where(condition, a, b), or make the argument static (static_argnums) if it is a setting"
            )
        elif purpose == "a NumPy function":
            remedy = "use the function of fg.numpy, which every transform understands"
        raise TracedValueError(
            f"{what} a traced value ({self.aval!r}), which is not known while {self.interpreter.transform} "
            f"traces; {remedy}."
        )


class Stage(Interpreter):
    """Writes a Program: gives every primitive a variable for its result instead of a value."""

    transform = "jit"

    def __init__(self, transform: str = "jit"):
        self.equations: list[Equation] = []
        self.transform = transform  # what users know the tracing by, for messages

    def new_input(self, aval: AbstractArray) -> StageTracer:
        return StageTracer(self, Variable(aval))

    def interpret(self, primitive: Primitive, operands: Sequence[Array], params: dict[str, Any]) -> Any:
        if primitive.stage is not None:
            return primitive.stage(self, operands, params)
        abstract = primitive.abstract or primitive.rule("abstract", "jit")
        return self.record(primitive, operands, params, abstract(*operands, **params))

    def record(self, primitive: Primitive, operands: Sequence[Any], params: dict[str, Any], avals: Any) -> Any:
        """Write an equation whose results have these abstract values; gives tracers for them."""
        atoms = [x.variable if type(x) is StageTracer and x.interpreter is self else x for x in operands]
        results = [Variable(aval) for aval in avals] if primitive.multiple_results else [Variable(avals)]
        self.equations.append(Equation(primitive, atoms, params, results, self.source()))
        tracers = [StageTracer(self, variable) for variable in results]
        return tracers if primitive.multiple_results else tracers[0]

    def source(self) -> SourceLine | None:
        return user_line()

    def atom(self, x: Any) -> Any:
        """What stands for a value in an equation: its variable, or the value itself where it is a constant here."""
        return x.variable if type(x) is StageTracer and x.interpreter is self else x

    def program(self, inputs: Sequence[StageTracer], outputs: Sequence[Any], name: str = "f") -> Program:
        return Program([x.variable for x in inputs], self.equations, [self.atom(x) for x in outputs], name)


class Record(Stage):
    """Writes down only what depends on its own variables and lets the parent compute everything else at once.

    Reverse mode runs derivative rules under it: what touches a tangent is recorded, and is linear; all else is known.
    """

    transform = "grad"
    passes_constants = True

    def __init__(self):
        self.equations = []

    def interpret(self, primitive: Primitive, operands: Sequence[Array], params: dict[str, Any]) -> Any:
        if primitive.multiple_results or primitive.stage is not None:
            if any(type(x) is StageTracer and x.interpreter is self for x in operands):
                return super().interpret(primitive, operands, params)
            return primitive(*operands, **params)
        return self.step(primitive, operands, params, None)

    def step(self, primitive: Primitive, operands: Sequence[Array], params: dict[str, Any], like: Any) -> Any:
        """Record a primitive with one result that looks like `like`, or like what its abstract rule says."""
        atoms, constant = [], True
        for x in operands:
            if type(x) is StageTracer and x.interpreter is self:
                atoms.append(x.variable)
                constant = False
            else:
                atoms.append(x)
        if constant:
            with within(self.parent):
                return primitive(*operands, **params)
        if like is None:
            like = (primitive.abstract or primitive.rule("abstract", "reverse mode"))(*operands, **params)
        variable = Variable(like)
        variable.weak_type = False  # a tangent is no Python scalar, even that of one
        self.equations.append(Equation(primitive, atoms, params, (variable,)))
        return StageTracer(self, variable)

    def source(self) -> None:
        return None  # walking the stack would cost as much as a small operation; linear steps mirror the primal ones


class LinearStep:
    """The class of `linear_step`, whose call becomes native (see `compiler.eager`)."""

    __slots__ = ()

    def __call__(self, like: Array, primitive: Primitive, *operands: Array, **params: Any) -> Any:
        """`primitive(*operands, **params)`, for the step of a derivative rule whose result looks like `like`.

        The same as calling the primitive, and quicker where an eager gradient records it: nothing is left to find out.
        """
        interpreter = current_interpreter()
        if type(interpreter) is Record:
            return interpreter.step(primitive, operands, params, like)
        return primitive(*operands, **params)


linear_step = LinearStep()


def stage(
    function: Callable[..., Sequence[Any]], avals: Sequence[AbstractArray], name: str = "f", transform: str = "jit"
) -> Program:
    """Write down a function from flat arrays to a flat list of arrays, as it behaves on arguments like `avals`.

    The Program may hold tracers of outer interpreters that the function closes over: see `Program.close_over`.
    """
    with Stage(transform) as interpreter:
        inputs = [interpreter.new_input(aval) for aval in avals]
        outputs = function(*inputs)
    return interpreter.program(inputs, outputs, name)


def stage_closed(
    function: Callable[..., Sequence[Any]], avals: Sequence[AbstractArray], name: str = "f", transform: str = "jit"
):
    """Like `stage`, followed by `close_over`."""
    return stage(function, avals, name, transform).close_over()


class Printer:
    """Gives names to variables and prints. Names are a, b, ..., z, aa, ab, ... in the order of definition."""

    def __init__(self, colors: bool = False):
        self.names: dict[Variable, str] = {}
        self.colors = colors

    def paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colors else text

    def name(self, variable: Variable) -> str:
        if variable not in self.names:
            number, letters = len(self.names), ""
            while number >= 0:
                letters = chr(ord("a") + number % 26) + letters
                number = number // 26 - 1
            self.names[variable] = letters
        return self.names[variable]

    def typed(self, variable: Variable) -> str:
        return f"{self.name(variable)}: {self.paint(repr(variable.aval), '2')}"

    def atom(self, x: Any) -> str:
        if type(x) is Variable:
            return self.name(x)
        if isinstance(x, Tracer):
            return repr(x)
        if x.ndim == 0:
            return str(to_host(x._data)[()])  # in as many digits as the dtype has
        return f"{{constant {x.aval!r}}}"

    def param(self, value: Any) -> str:
        if isinstance(value, Program):
            return value.name
        if isinstance(value, tuple) and any(isinstance(x, Program) for x in value):
            return f"({','.join(map(self.param, value))})"
        name = getattr(value, "__name__", None)
        return name if name is not None else str(value).replace(" ", "")

    def equation(self, equation: Equation) -> str:
        arguments = [self.atom(x) for x in equation.operands]
        arguments += [f"{key}={self.param(value)}" for key, value in equation.params.items()]
        results = ", ".join(self.typed(x) for x in equation.results)
        return f"{results} = {self.paint(equation.primitive.name, '1;34')}({', '.join(arguments)})"

    def program(self, program: Program) -> str:
        head = f"{program.name}({', '.join(self.typed(x) for x in program.inputs)}) ="
        lines = [(self.equation(e), e) for e in program.equations]
        width = min(max((len(text) for text, _ in lines), default=0), 100)
        body = []
        for text, equation in lines:
            source = f"  # {equation.source}" if equation.source else ""
            body.append(f"  {text:{width}}{self.paint(source, '32')}".rstrip())
            for inner in programs_in(equation.params):
                body += ["    where " + Printer(self.colors).program(inner).replace("\n", "\n      ")]
        tail = f"  return {', '.join(self.atom(x) for x in program.outputs)}"
        return "\n".join([head, *body, tail])
