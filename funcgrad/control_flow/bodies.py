"""What branches and loops share: they trace the functions they are given, and rearrange the Programs that result.

A branch or a loop is one operation, a primitive that carries Programs. Transforming it means transforming those
Programs, as for a jitted function, and then giving the results the form that the primitive wants: all branches have the
same results, and what a loop carries has a tangent (or a batch axis) before a step where it has one after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from funcgrad import dtypes
from funcgrad.array import AbstractArray, Array
from funcgrad.core import Tracer, ground, within
from funcgrad.errors import DtypeError, ShapeError
from funcgrad.primitives.elementwise import (
    abs_,
    add,
    and_,
    convert,
    convert_weak,
    eq,
    ge,
    gt,
    le,
    lt,
    max_,
    min_,
    mul,
    ne,
    neg,
    not_,
    or_,
    select,
    sub,
    zeros_like,
)
from funcgrad.primitives.operators import cast
from funcgrad.primitives.shapes import to_front
from funcgrad.program import Equation, Program, Variable, stage, stage_closed
from funcgrad.transforms.arguments import spread
from funcgrad.transforms.jvp import jvp_program
from funcgrad.transforms.vmap import batch_program

T = TypeVar("T")


def name_of(fun: Callable) -> str:
    """What a function is called, for messages and as the name of its Program."""
    return getattr(fun, "__name__", "f").strip("<>")


def parts(values: Sequence[T], *counts: int) -> list[Sequence[T]]:
    """`values` cut into pieces of these lengths, and the rest."""
    pieces, start = [], 0
    for count in counts:
        pieces.append(values[start : start + count])
        start += count
    return [*pieces, values[start:]]


def some(values: Iterable[T | None]) -> list[T]:
    """The values that are not None."""
    return [x for x in values if x is not None]


def given(values: Sequence[Any]) -> tuple[bool, ...]:
    """Which of the values are not None."""
    return tuple(x is not None for x in values)


def constant_zeros(aval: Any) -> Array:
    """Zeros as a constant of a Program: not an operation of whatever transform is active."""
    with within(ground):
        return zeros_like(aval)


def settle(after: Callable[[tuple[bool, ...]], Sequence[bool]], flags: tuple[bool, ...], start: int, count: int):
    """What holds of a loop's operands in every step, when it holds of `flags` in the first.

    Among the operands `count` are carried, from position `start` on. `after(flags)` says of what they become in one
    step whether it holds; this is repeated until no more are added.
    """
    while True:
        before = flags[start : start + count]
        now = tuple(a or b for a, b in zip(before, after(flags)[:count], strict=True))
        if now == before:
            return flags
        flags = (*flags[:start], *now, *flags[start + count :])


# What depends on what in a Program


def reached(program: Program, flags: Sequence[bool]) -> list[bool]:
    """Which outputs depend on the flagged inputs."""
    found = {x for x, flag in zip(program.inputs, flags, strict=True) if flag}
    for equation in program.equations:
        if any(type(x) is Variable and x in found for x in equation.operands):
            found.update(equation.results)
    return [type(x) is Variable and x in found for x in program.outputs]


def following(program: Program, known: Iterable[Variable]) -> set[Variable]:
    """All variables that can be computed from the known ones alone, and without effects."""
    found = set(known)
    for equation in program.equations:
        if all(type(x) is not Variable or x in found for x in equation.operands) and not equation.has_effects:
            found.update(equation.results)
    return found


def needed(
    equations: Sequence[Equation], outputs: Iterable[Any], known: Iterable[Variable] = (), effects: bool = False
) -> list[Equation]:
    """The equations without which the outputs cannot be computed from the inputs and the `known` variables; with
    `effects` also those that do more than compute."""
    stop, kept = set(known), []
    wanted = {x for x in outputs if type(x) is Variable} - stop
    for equation in reversed(equations):
        if any(x in wanted for x in equation.results) or (effects and equation.has_effects):
            kept.append(equation)
            wanted.update(x for x in equation.operands if type(x) is Variable and x not in stop)
    return kept[::-1]


QUICK = frozenset([add, sub, mul, neg, abs_, max_, min_, select, convert, eq, ne, lt, le, gt, ge, not_, and_, or_])
"""Operations that take less time than writing their results into memory and reading them again."""

MOST_COMPUTED_AGAIN = 4  # operations for one value


def computed_again(
    equations: Sequence[Equation], names: dict[Variable, Variable], candidates: Sequence[Variable]
) -> list[Equation]:
    """Equations that compute some of the values that a later Program needs, from others that it needs as well.

    Arguments:
        equations: those that computed the values the first time.
        names: for each value that is needed later its variable in the later Program.
        candidates: values that may be computed there again, if that takes just a few quick operations.

    Returns:
        Equations between variables of the later Program. They define the variables of those values that are computed.
    """
    definition = {x: equation for equation in equations for x in equation.results if equation.primitive in QUICK}
    position = {x: place for place, equation in enumerate(equations) for x in equation.results}
    inner: dict[Variable, Variable] = {}
    chosen: set[Equation] = set()
    for x in candidates:
        own: set[Equation] = set()
        waiting = [x]
        while waiting and len(own) <= MOST_COMPUTED_AGAIN:
            y = waiting.pop()
            equation = definition.get(y)
            if equation is None:
                break
            own.add(equation)
            waiting += [z for z in equation.operands if type(z) is Variable and z not in names and z not in inner]
        else:
            if not waiting and len(own) <= MOST_COMPUTED_AGAIN:
                chosen |= own
                inner |= {y: Variable(y) for equation in own for y in equation.results if y not in names}
    new = {**inner, **names}
    return [
        Equation(
            equation.primitive,
            [new[y] if type(y) is Variable else y for y in equation.operands],
            equation.params,
            [new[y] for y in equation.results],
            equation.source,
        )
        for equation in sorted(chosen, key=lambda equation: position[equation.results[0]])
    ]


# Programs with other inputs or outputs


def with_outputs(program: Program, present: Sequence[bool], wanted: Sequence[bool], like: Sequence[Any]) -> Program:
    """The same Program with zeros where a result is wanted and not present."""
    if list(present) == list(wanted):
        return program

    def make():
        outputs = spread(program.outputs, present)
        found = [constant_zeros(a) if x is None else x for x, w, a in zip(outputs, wanted, like, strict=True) if w]
        return Program(program.inputs, program.equations, found, program.name)

    return program.derived(("with zeros", tuple(present), tuple(wanted)), make)


def batched(
    program: Program, size: int, axes: tuple[int | None, ...], axis_name: Any, in_front: Sequence[bool]
) -> tuple[Program, list[int | None]]:
    """`batch_program`, with the batch axis first in the results that are wanted `in_front`, and where it is in all."""
    inner, out_axes = batch_program(program, size, axes, axis_name)
    if all(axis == 0 for axis, front in zip(out_axes, in_front, strict=True) if front):
        return inner, out_axes
    wanted = tuple(in_front)

    def make():
        def function(*arguments):
            results = inner(*arguments)
            return [
                to_front(x, axis, size) if front else x
                for x, axis, front in zip(results, out_axes, wanted, strict=True)
            ]

        return stage(function, inner.in_avals, inner.name)

    return inner.derived(("in front", wanted), make), [
        0 if front else axis for axis, front in zip(out_axes, wanted, strict=True)
    ]


# Loops


def trace_step(
    step: Callable[..., tuple[Sequence[Array], Sequence[Array]]],
    carry: Sequence[Array],
    others: Sequence[AbstractArray],
    transform: str,
    name: str,
    where: Callable[[int], str],
) -> tuple[Program, list[Tracer], list[Array]]:
    """Write down one step of a loop.

    Arguments:
        step: from the flat carried values and the others to the flat carried values and further results.
        carry: the values before the first step. Those that are Python scalars take the dtype that a step gives them.
        others: what else a step gets.
        transform, name, where: for messages: who asks, what the function is called, and where in what it carries the
            value with an index stands.

    Returns:
        The closed Program, the tracers that it captured, and `carry` with the dtypes that the Program takes.

    Raises:
        ShapeError, DtypeError: if a carried value has another shape or dtype after a step than before it.
    """
    avals = [x.aval for x in carry]
    while True:

        def function(*arguments, avals=avals):
            after, results = step(arguments[: len(avals)], arguments[len(avals) :])
            return [*map(_given_way, after, avals), *results]

        program, captured = stage_closed(function, [*avals, *others], name, transform)
        after = program.out_avals[: len(avals)]
        promoted = [_promoted(a, b) for a, b in zip(avals, after, strict=True)]
        if promoted == avals:
            break
        avals = promoted
    for index, (a, b) in enumerate(zip(avals, after, strict=True)):
        place = where(index)
        what = f"what {transform} carries{f' at {place}' if place else ''}"
        if a.shape != b.shape:
            raise ShapeError(
                f"{what} is {a.strong()!r} before a step of {name} and {b.strong()!r} after it; a loop keeps its "
                "shapes, so let the function return the shape that it gets, or start with an array of that shape."
            )
        if a.dtype is not b.dtype:
            raise DtypeError(
                f"{what} is {a.strong()!r} before a step of {name} and {b.strong()!r} after it; a loop keeps its "
                f"dtypes, so start with {b.dtype.name}, or return x.astype('{a.dtype.name}')."
            )
    return program, captured, [_with_type(x, a) for x, a in zip(carry, avals, strict=True)]


def _given_way(after: Array, before: AbstractArray) -> Array:
    """What a step returned; a Python scalar in the dtype of the array that it takes the place of."""
    gives_way = after.weak_type and not before.weak_type and after.dtype is not before.dtype
    fits = dtypes.KIND[after.dtype] <= dtypes.KIND[before.dtype]
    return cast(after, before.dtype) if gives_way and fits else after


def _promoted(before: AbstractArray, after: AbstractArray) -> AbstractArray:
    """What a Python scalar becomes that is carried to something else."""
    if not before.weak_type or before.shape != after.shape:
        return before
    dtype = dtypes.result_type(before, after)
    return AbstractArray(before.shape, dtype, after.weak_type) if dtype is after.dtype else before


def _with_type(x: Array, aval: AbstractArray) -> Array:
    if x.dtype is aval.dtype and x.weak_type == aval.weak_type:
        return x
    return convert_weak(x, dtype=aval.dtype) if aval.weak_type else cast(x, aval.dtype)


def derivative_of_step(program: Program, const_count: int, carry_count: int, active: tuple[bool, ...]):
    """The Program of one step together with its tangents.

    The inputs of `program` are constants, carried values and others, its outputs carried values and others. In the
    derivative every one of these groups is followed by its tangents.

    Returns:
        The Program; which inputs have a tangent, where carried values may have got one; and which outputs do.
    """

    def make():
        flags = settle(lambda a: jvp_program(program, a)[1], active, const_count, carry_count)
        derivative, has_tangent = jvp_program(program, flags)
        moving = [*flags[const_count : const_count + carry_count], *has_tangent[carry_count:]]
        count_in, count_out = len(program.inputs), len(program.outputs)
        inputs = grouped(
            derivative.inputs[:count_in], spread(derivative.inputs[count_in:], flags), const_count, carry_count
        )
        moved = spread(derivative.outputs[count_out:], has_tangent)
        moved = [
            constant_zeros(x) if m is None and wanted else m
            for m, x, wanted in zip(moved, program.outputs, moving, strict=True)
        ]
        outputs = grouped(derivative.outputs[:count_out], moved, carry_count)
        return Program(inputs, derivative.equations, outputs, derivative.name), flags, moving

    return program.derived(("derivative of step", const_count, carry_count, active), make)


def grouped(values: Sequence[Any], tangents: Sequence[Any], *counts: int) -> list[Any]:
    """Groups of values, each followed by the tangents that are there."""
    found = []
    for group, moved in zip(parts(values, *counts), parts(tangents, *counts), strict=True):
        found += [*group, *some(moved)]
    return found


def ungrouped(values: Sequence[Any], moving: Sequence[bool], *counts: int) -> tuple[list[Any], list[Any]]:
    """Undoes `grouped`: the values, and their tangents or None."""
    found, tangents, start = [], [], 0
    for flags in parts(moving, *counts):
        end = start + len(flags)
        found += values[start:end]
        tangents += spread(values[end:], flags)
        start = end + sum(flags)
    return found, tangents
