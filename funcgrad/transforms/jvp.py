"""Forward mode: `jvp` runs a function on pairs of a value and its tangent.

The tangent of a value says how the value moves when the inputs move. Each primitive has a rule that turns the tangents
of its operands into the tangent of its result (its Jacobian-vector product), so one pass through the function gives
the result and its directional derivative. `Forward` is the interpreter that carries the pairs.

Source: Griewank and Walther, Evaluating Derivatives, 2nd edition (2008), chapter 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy

from funcgrad import dtypes, tree
from funcgrad.array import AbstractArray, Array, ConcreteArray
from funcgrad.core import Interpreter, Primitive, Tracer
from funcgrad.errors import ArgumentError, DtypeError, TracedValueError
from funcgrad.primitives.elementwise import instantiate
from funcgrad.primitives.operators import cast
from funcgrad.program import Program, stage
from funcgrad.transforms.arguments import as_arrays, name_leaf, unwrap_outputs


class DualTracer(Tracer):
    """A value together with its tangent."""

    __slots__ = ("dtype", "primal", "shape", "tangent")

    def __init__(self, interpreter: Interpreter, primal: Array, tangent: Array):
        self.interpreter, self.primal, self.tangent = interpreter, primal, tangent
        self.shape, self.dtype = primal.shape, primal.dtype  # pyright: ignore[reportAttributeAccessIssue, reportIncompatibleMethodOverride]

    @property
    def aval(self) -> AbstractArray:
        return self.primal.aval

    @property
    def weak_type(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.primal.weak_type

    def concrete(self, purpose: str) -> ConcreteArray:
        # Python's control flow looks at values only, so it may go by the primal.
        return self.primal.concrete(purpose)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> numpy.ndarray:
        # The value may be known, but handing it to NumPy would silently cut it off from its derivative.
        raise TracedValueError(
            f"a NumPy function got a value that is being differentiated ({self.aval!r}); use the function of fg.numpy, "
            "which every transform understands, or fg.stop_gradient(x) where only the value is needed."
        )


class Forward(Interpreter):
    """Applies the jvp rule of every primitive that meets one of its tracers."""

    transform = "jvp"
    passes_constants = True
    splits_known_from_linear = False
    """Whether a primitive's `linearize` rule is wanted, where it has one: see `grad.Linearize`."""

    def dual(self, primal: Array, tangent: Array | None) -> Array:
        """The pair as one value; a value without a tangent needs no pair."""
        return primal if tangent is None else DualTracer(self, primal, tangent)

    def split(self, x: Any) -> tuple[Any, Any]:
        """The primal and the tangent of a value; what belongs to other interpreters is a constant."""
        return (x.primal, x.tangent) if type(x) is DualTracer and x.interpreter is self else (x, None)

    def interpret(self, primitive: Primitive, operands: Sequence[Array], params: dict[str, Any]) -> Any:
        primals, tangents, constant = [], [], True
        for x in operands:
            if type(x) is DualTracer and x.interpreter is self:
                primals.append(x.primal)
                tangents.append(x.tangent)
                constant = False
            else:
                primals.append(x)
                tangents.append(None)
        if constant:
            return primitive(*operands, **params)
        rule = (primitive.linearize if self.splits_known_from_linear else None) or primitive.jvp
        result, tangent = (rule or primitive.rule("jvp", "differentiation"))(primals, tangents, **params)
        if primitive.multiple_results:
            return [self.dual(x, t) for x, t in zip(result, tangent, strict=True)]
        return result if tangent is None else DualTracer(self, result, tangent)


def jvp_flat(function: Callable[..., Sequence[Any]], primals: Sequence[Any], tangents: Sequence[Any]):
    """`function` and its directional derivative, on flat lists of arrays; tangents may be None for zero."""
    with Forward() as forward:
        outputs = function(*map(forward.dual, primals, tangents))
    pairs = [forward.split(x) for x in outputs]
    return [primal for primal, _ in pairs], [tangent for _, tangent in pairs]


def jvp_program(program: Program, active: tuple[bool, ...]) -> tuple[Program, list[bool]]:
    """The Program that computes `program` and its tangents, from its inputs and the tangents of its `active` inputs.

    Also says which outputs have a tangent: the results are the outputs, then the tangents of those.
    """

    def make():
        has_tangent: list[bool] = []

        def function(*arguments):
            primals, given = arguments[: len(active)], iter(arguments[len(active) :])
            outputs, out_tangents = jvp_flat(program, primals, [next(given) if a else None for a in active])
            has_tangent[:] = [t is not None for t in out_tangents]
            return [*outputs, *(t for t in out_tangents if t is not None)]

        avals = [*program.in_avals, *(x.strong() for x, a in zip(program.in_avals, active, strict=True) if a)]
        return stage(function, avals, f"jvp_of_{program.name}"), has_tangent

    return program.derived(("jvp", active), make)


def check_tangents(primals: Sequence[Array], tangents: Sequence[Array | None], names: Callable[[int], str]) -> None:
    """Raise unless every tangent has the shape and dtype of its primal."""
    for index, (x, t) in enumerate(zip(primals, tangents, strict=True)):
        if t is None:
            continue
        if not dtypes.is_differentiable(x.dtype):
            raise DtypeError(
                f"the primal `{names(index)}` has dtype {x.dtype.name}, which has no tangents; pass None for it, "
                "or make it floating with x.astype(fg.float32)."
            )
        if t.shape != x.shape or (t.dtype is not x.dtype and not t.weak_type):
            raise ArgumentError(
                f"the tangent of `{names(index)}` is {t.dtype.name}{list(t.shape)} but its primal is {x.dtype.name}"
                f"{list(x.shape)}; a tangent has the shape and dtype of its primal."
            )


def jvp(fun: Callable, primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool = False) -> Any:
    """The value of `fun` and its derivative in the direction of `tangents` (forward mode).

    Arguments:
        fun: a function of arrays, or pytrees of them, that gives an array or pytree.
        primals: the arguments, as a tuple or list.
        tangents: for each argument a pytree of the same structure, shapes and dtypes; None stands for zero.
        has_aux: whether `fun` gives a pair of its result and auxiliary data, which is passed through.

    Returns:
        `(result, tangent)`, of one structure; with `has_aux`, `(result, tangent, aux)`. An integer or bool result has
        the tangent None.

    Raises:
        ArgumentError: if a tangent does not have the shape and dtype of its primal.

    Example:
        >>> import funcgrad as fg
        >>> fg.jvp(fg.numpy.sin, (0.0,), (1.0,))
        (Array(0., dtype=float32, weak_type=True), Array(1., dtype=float32))
    """
    if not isinstance(primals, (tuple, list)) or not isinstance(tangents, (tuple, list)):
        raise ArgumentError("jvp takes its primals and tangents as tuples, one entry an argument: jvp(f, (x,), (t,)).")
    if len(primals) != len(tangents):
        raise ArgumentError(f"jvp got {len(primals)} primals and {len(tangents)} tangents; give one tangent a primal.")
    flat, structure = tree.flatten(tuple(primals))
    flat = as_arrays(flat, structure, "jvp", lambda i: name_leaf(fun, tuple(primals), {}, i))
    flat_tangents = _flat_tangents(tuple(primals), tuple(tangents), len(flat))
    check_tangents(flat, flat_tangents, lambda i: name_leaf(fun, tuple(primals), {}, i))
    flat_tangents = [t if t is None else cast(t, x.dtype) for x, t in zip(flat, flat_tangents, strict=True)]
    with Forward() as forward:
        output = fun(*tree.unflatten(structure, map(forward.dual, flat, flat_tangents)))
        outputs, out_structure, aux = unwrap_outputs(output, has_aux, "jvp")
    pairs = [forward.split(x) for x in outputs]
    results = tree.unflatten(out_structure, [x for x, _ in pairs])
    out_tangents = tree.unflatten(
        out_structure, [instantiate(t, x) if dtypes.is_differentiable(x.dtype) else None for x, t in pairs]
    )
    if not has_aux:
        return results, out_tangents
    return results, out_tangents, tree.map(lambda x: forward.split(x)[0], aux)


def _flat_tangents(primals: tuple, tangents: tuple, count: int) -> list[Array | None]:
    found: list[Array | None] = []
    for primal, tangent in zip(primals, tangents, strict=True):
        leaves = tree.leaves(primal)
        if tangent is None:
            found += [None] * len(leaves)
            continue
        given, structure = tree.flatten(tangent, is_leaf=lambda x: x is None)
        tree.check_same_structure(primal, tangent, what="the tangents of jvp") if len(given) != len(leaves) else None
        arrays = as_arrays([0.0 if t is None else t for t in given], structure, "jvp")
        found += [None if t is None else x for t, x in zip(given, arrays, strict=True)]
    assert len(found) == count
    return found
