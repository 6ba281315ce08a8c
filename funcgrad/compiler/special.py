"""Kernels of primitives that are not computed element by element: joining, padding, writing at positions, running sums.

Each has a function from an equation to its kernels, which run one after the other. They read their operands from memory
and are not fused with others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from funcgrad.compiler.elements import Indices, as_position, clamped, is_supported_dtype
from funcgrad.compiler.loops import (
    BOOL,
    INT64,
    Accumulate,
    Accumulator,
    Axis,
    Buffer,
    Expression,
    Index,
    Kernel,
    Loop,
    Statement,
    Store,
    accumulated,
    axis_index,
    binary,
    computing_dtype,
    constant,
    constant_index,
    convert,
    finished,
    flatten,
    index_value,
    load,
    select,
    unflatten,
)
from funcgrad.compiler.reductions import neutral
from funcgrad.core import Primitive
from funcgrad.primitives import indexing, movement, reductions
from funcgrad.primitives.gathering import left_axes, scatter_add
from funcgrad.program import Equation

Body = Callable[[Indices], list[Statement]]


@dataclass(frozen=True)
class Special:
    """How a primitive is computed: whether an equation has a native form, and its kernels, one after the other."""

    kernels: Callable[[Equation, Any], list[Kernel]]
    supports: Callable[[Equation], bool] = lambda equation: all(
        is_supported_dtype(x.dtype) for x in (*equation.operands, *equation.results)
    )


def loops_over(shape: Sequence[int], body: Body) -> list[Kernel]:
    """A kernel that does `body` at every index of a shape, along the last axis for several at a time."""
    if 0 in shape:
        return []
    *rows, width = shape or (1,)
    row, column = Axis(math.prod(rows), "i"), Axis(width, "j")
    index = (*unflatten(axis_index(row), rows), axis_index(column))[: len(shape)]
    loop = Loop(column, body(index), "parallel vector" if row.extent == 1 else "vector")
    return [finished([loop if row.extent == 1 else Loop(row, [loop], "parallel")])]


def element(buffers: Any, x: Any, index: Indices) -> Expression:
    return load(buffers[x], flatten(index, x.shape))


def copied(buffers: Any, x: Any, result: Any) -> list[Kernel]:
    """A copy of an array as the beginning of a result."""
    return loops_over(
        x.shape, lambda index: [Store(buffers[result], flatten(index, x.shape), element(buffers, x, index))]
    )


def _concatenate(equation: Equation, buffers: Any) -> list[Kernel]:
    (result,), axis = equation.results, equation.params["axis"]
    kernels, start = [], 0
    for x in equation.operands:

        def body(index: Indices, x: Any = x, start: int = start) -> list[Statement]:
            place = (*index[:axis], index[axis] + start, *index[axis + 1 :])
            return [Store(buffers[result], flatten(place, result.shape), element(buffers, x, index))]

        kernels += loops_over(x.shape, body)
        start += x.shape[axis]
    return kernels


def _pad(equation: Equation, buffers: Any) -> list[Kernel]:
    (x, filling), (result,) = equation.operands, equation.results
    taken, starts, steps, first = [], [], [], []
    for length, new, (low, _, interior) in zip(x.shape, result.shape, equation.params["config"], strict=True):
        step = interior + 1
        # Element i goes to low + i * step; these are the elements that stay inside.
        begin = max(0, -(low // step))
        taken.append(max(0, min(length, -((low - new) // step)) - begin))
        first.append(begin)
        starts.append(low + begin * step)
        steps.append(step)

    def body(index: Indices) -> list[Statement]:
        place = tuple(i * step + start for i, step, start in zip(index, steps, starts, strict=True))
        source = tuple(i + begin for i, begin in zip(index, first, strict=True))
        return [Store(buffers[result], flatten(place, result.shape), element(buffers, x, source))]

    def fill(index: Indices) -> list[Statement]:
        return [Store(buffers[result], flatten(index, result.shape), element(buffers, filling, ()))]

    everything = math.prod(taken) == math.prod(result.shape)
    return [*([] if everything else loops_over(result.shape, fill)), *loops_over(taken, body)]


def _dynamic_update_slice(equation: Equation, buffers: Any) -> list[Kernel]:
    x, update, *starts = equation.operands
    (result,) = equation.results

    def body(index: Indices) -> list[Statement]:
        place = []
        for i, start, length, size in zip(index, starts, x.shape, update.shape, strict=True):
            whole = length == size
            place.append(i if whole else i + clamped(as_position(element(buffers, start, ())), 0, length - size))
        return [Store(buffers[result], flatten(place, x.shape), element(buffers, update, index))]

    return [*copied(buffers, x, result), *loops_over(update.shape, body)]


# Writing at positions


def _scatter(operation: str | None) -> Callable[[Equation, Any], list[Kernel]]:
    """Updates come one after the other, since any two may go to the same position; along the other axes, side by side."""

    def kernels(equation: Equation, buffers: Any) -> list[Kernel]:
        x, updates, *numbers = equation.operands
        (result,), axes, mode = equation.results, equation.params["axes"], equation.params["mode"]
        first = copied(buffers, x, result)
        if 0 in updates.shape or 0 in x.shape:
            return first
        shape = tuple(numbers[0].shape) if numbers else ()
        left = left_axes(len(x.shape), axes)
        update = Axis(math.prod(shape), "n")
        around = [Axis(x.shape[axis], f"k{place}") for place, axis in enumerate(left)]
        position = unflatten(axis_index(update), shape)
        places: list[Index] = [constant_index(0)] * len(x.shape)
        for axis, k in zip(left, around, strict=True):
            places[axis] = axis_index(k)
        inside = None
        for axis, number in zip(axes, numbers, strict=True):
            value = as_position(element(buffers, number, position))
            if mode == "drop":
                within = value.greater_equal(0) & value.less(x.shape[axis])
                inside = within if inside is None else inside & within
            places[axis] = clamped(value, 0, x.shape[axis] - 1)
        place = flatten(places, x.shape)
        new = element(buffers, updates, (*position, *(axis_index(k) for k in around)))
        old = load(buffers[result], place)
        if operation is not None:
            dtype = computing_dtype(x.dtype)
            new = convert(binary(operation, convert(old, dtype), convert(new, dtype)), x.dtype)
        if inside is not None:
            new = select(inside, new, old)
        body: list[Statement] = [Store(buffers[result], place, new)]
        for k in reversed(around):
            body = [Loop(k, body, "vector" if k is around[-1] else "serial")]
        return [*first, finished([Loop(update, body, "serial")])]

    return kernels


# Running reductions


def _running(operation: str) -> Callable[[Equation, Any], list[Kernel]]:
    def kernels(equation: Equation, buffers: Any) -> list[Kernel]:
        (x,), (result,) = equation.operands, equation.results
        axis, reverse = equation.params["axis"], equation.params["reverse"]
        length = x.shape[axis]
        if 0 in x.shape:
            return []

        def body(index: Indices) -> list[Statement]:
            def place(step: Index) -> Indices:
                along = step * -1 + (length - 1) if reverse else step
                return (*index[:axis], along, *index[axis:])

            def at(step: Index) -> Index:
                return flatten(place(step), x.shape)

            step = Axis(length - 1, "k")
            before = load(buffers[result], at(axis_index(step)))
            taken = element(buffers, x, place(axis_index(step) + 1))
            begin = Store(buffers[result], at(constant_index(0)), element(buffers, x, place(constant_index(0))))
            if length == 1:
                return [begin]
            return [
                begin,
                Loop(step, [Store(buffers[result], at(axis_index(step) + 1), binary(operation, before, taken))]),
            ]

        return loops_over([*x.shape[:axis], *x.shape[axis + 1 :]], body)

    return kernels


def _running_supports(equation: Equation) -> bool:
    dtype = equation.operands[0].dtype
    return is_supported_dtype(dtype) and computing_dtype(dtype) is dtype


# The place of an extremum


def _argument(operation: str) -> Callable[[Equation, Any], list[Kernel]]:
    """First the extremum is found, then the first place where it stands."""

    def kernels(equation: Equation, buffers: Any) -> list[Kernel]:
        (x,), (result,), axis = equation.operands, equation.results, equation.params["axis"]
        dtype = computing_dtype(x.dtype)
        along_rows = axis == len(x.shape) - 1

        def body(index: Indices) -> list[Statement]:
            outer = frozenset[Axis]().union(*(i.axes for i in index))
            loops: list[Statement] = []
            collected = []
            for name, how, kind, first in [
                ("m", operation, dtype, neutral(operation, dtype)),
                ("place", "min", INT64, x.shape[axis]),
            ]:
                k = Axis(x.shape[axis], f"k{len(loops)}")
                value = convert(element(buffers, x, (*index[:axis], axis_index(k), *index[axis:])), dtype)
                if collected:
                    found = accumulated(collected[0])
                    there = value.equal(found)
                    if dtype.kind == "f":
                        there = there | value.not_equal(value)
                    value = select(there, index_value(axis_index(k)), x.shape[axis])
                collected.append(Accumulator(how, kind, first, outer, name))
                loops.append(Loop(k, [Accumulate(collected[-1], value)], "vector" if along_rows else "serial"))
            place = convert(accumulated(collected[1]), result.dtype)
            return [*loops, Store(buffers[result], flatten(index, result.shape), place)]

        if 0 in result.shape:
            return []
        if not along_rows:
            return loops_over(result.shape, body)
        row = Axis(math.prod(result.shape), "i")
        found = body(unflatten(axis_index(row), result.shape))
        return [finished(found if row.extent == 1 else [Loop(row, found, "parallel")])]

    return kernels


SPECIAL: dict[Primitive, Special] = {
    movement.concatenate: Special(_concatenate),
    movement.pad: Special(_pad),
    movement.dynamic_update_slice: Special(_dynamic_update_slice),
    scatter_add: Special(_scatter("add")),
    indexing.scatter_set: Special(_scatter(None)),
    indexing.scatter_mul: Special(_scatter("mul")),
    indexing.scatter_min: Special(_scatter("min")),
    indexing.scatter_max: Special(_scatter("max")),
    reductions.cumsum: Special(_running("add"), _running_supports),
    reductions.cumprod: Special(_running("mul"), _running_supports),
    reductions.cummax: Special(_running("max"), _running_supports),
    reductions.cummin: Special(_running("min"), _running_supports),
    reductions.argmax: Special(_argument("max")),
    reductions.argmin: Special(_argument("min")),
}
