"""Kernels of primitives that are not computed element by element: joining, padding, writing at positions, running sums.

Each has a function from an equation to its kernels, which run one after the other. They read their operands from memory
and are not fused with others.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from funcgrad.compiler.complex_numbers import Parts, is_complex
from funcgrad.compiler.elements import Indices, as_position, clamped, is_real
from funcgrad.compiler.expressions import (
    INT64,
    Accumulator,
    Axis,
    Buffer,
    Expression,
    accumulated,
    binary,
    computing_dtype,
    constant,
    convert,
    select,
)
from funcgrad.compiler.indices import Index, axis_index, constant_index, flatten, index_value, unflatten
from funcgrad.compiler.largest import is_selected, largest_of_rows
from funcgrad.compiler.loops import Accumulate, Kernel, Loop, Statement, Store, finished
from funcgrad.compiler.nests import copied, element, loops_over
from funcgrad.compiler.reductions import neutral
from funcgrad.compiler.running import product_of_complex, running, running_logsumexp, running_product
from funcgrad.compiler.scattering import scatter
from funcgrad.compiler.sorting import sorted_rows, sorts_natively
from funcgrad.core import Primitive
from funcgrad.primitives import indexing, movement, reductions, windows
from funcgrad.primitives.gathering import scatter_add
from funcgrad.primitives.sorting import sort, top_k
from funcgrad.program import Equation


class Special(NamedTuple):
    """How a primitive is computed: whether an equation has a native form, and its kernels, one after the other."""

    kernels: Callable[[Equation, Any], list[Kernel]]
    supports: Callable[[Equation], bool] = lambda equation: is_real(*equation.operands)


# Complex arrays. Whoever moves or adds up elements may take a complex array for one of real numbers, in which one more
# axis goes from the real part to the imaginary one.


class BuffersOfParts:
    """The buffers of arrays and of parts of arrays."""

    def __init__(self, buffers: Any):
        self.buffers = buffers

    def __getitem__(self, x: Any) -> Buffer:
        return self.buffers[x.whole if isinstance(x, Parts) else x]


def by_parts(
    kernels: Callable[[Equation, Any], list[Kernel]],
    more: Callable[[dict[str, Any]], dict[str, Any]] = lambda params: params,
    supports: Callable[[Equation], bool] = lambda equation: True,
) -> Special:
    """How a primitive is computed that does with complex numbers just what it does with their parts.

    Arguments:
        kernels: those for real numbers.
        more: makes its params those for one axis more.
        supports: whether an equation has a native form.
    """

    def of_any(equation: Equation, buffers: Any) -> list[Kernel]:
        if is_real(*equation.operands):
            return kernels(equation, buffers)
        operands: list[Any] = [x if is_real(x) else Parts(x) for x in equation.operands]
        results: list[Any] = list(map(Parts, equation.results))
        of_parts = Equation(equation.primitive, operands, more(equation.params), results)
        return kernels(of_parts, BuffersOfParts(buffers))

    return Special(of_any, supports)


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
        part = index[len(index) - len(filling.shape) :]  # of a complex number
        return [Store(buffers[result], flatten(index, result.shape), element(buffers, filling, part))]

    everything = math.prod(taken) == math.prod(result.shape)
    return [*([] if everything else loops_over(result.shape, fill)), *loops_over(taken, body)]


def _dynamic_update_slice(equation: Equation, buffers: Any) -> list[Kernel]:
    x, update, *starts = equation.operands
    (result,) = equation.results
    starts += [None] * (len(x.shape) - len(starts))  # of parts of complex numbers, which are never taken alone

    def body(index: Indices) -> list[Statement]:
        place = []
        for i, start, length, size in zip(index, starts, x.shape, update.shape, strict=True):
            whole = length == size
            place.append(i if whole else i + clamped(as_position(element(buffers, start, ())), 0, length - size))
        return [Store(buffers[result], flatten(place, x.shape), element(buffers, update, index))]

    return [*copied(buffers, x, result), *loops_over(update.shape, body)]


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


# Windows


def _windows(operation: str, wants_place: bool = False) -> Callable[[Equation, Any], list[Kernel]]:
    """Each window is gone through; what lies outside of the array, or between its elements, does not count.

    For the place of an extremum, windows are gone through a second time, for the first element that attains it.
    """

    def kernels(equation: Equation, buffers: Any) -> list[Kernel]:
        (x,), (result,), params = equation.operands, equation.results, equation.params
        dtype = computing_dtype(x.dtype)
        sizes = params["window_dimensions"]
        counted = windows.counted_axes(**params)
        if 0 in x.shape:  # nothing counts
            nothing = constant(-1 if wants_place else neutral(operation, dtype), result.dtype)
            return loops_over(
                result.shape, lambda index: [Store(buffers[result], flatten(index, result.shape), nothing)]
            )

        def body(index: Indices) -> list[Statement]:
            outer = frozenset[Axis]().union(*(i.axes for i in index))

            def over_window(how: str, kind: Any, first: Any, value_of: Callable[..., Expression]) -> Accumulator:
                axes = [Axis(length, f"w{place}") for place, length in enumerate(sizes) if length > 1]
                steps = iter(axes)
                places: list[Index] = []
                inside = None
                for axis, (i, length) in enumerate(zip(index, sizes, strict=True)):
                    step = axis_index(next(steps)) if length > 1 else constant_index(0)
                    place, within = position(axis, i, step)
                    places.append(place)
                    if within is not None:
                        inside = within if inside is None else inside & within
                chain = [
                    Accumulator(how, kind, first, outer | frozenset(axes[:depth]), f"{how}{len(loops)}" + "'" * depth)
                    for depth in range(max(len(axes), 1))
                ]
                loop: list[Statement] = [Accumulate(chain[-1], value_of(tuple(places), inside))]
                for depth in range(len(axes) - 1, -1, -1):
                    loop = [Loop(axes[depth], loop)]
                    if depth:
                        loop.append(Accumulate(chain[depth - 1], accumulated(chain[depth])))
                loops.extend(loop if axes else [Loop(Axis(1, "w"), loop)])
                return chain[0]

            def position(axis: int, i: Index, step: Index) -> tuple[Index, Expression | None]:
                """Where along an axis an element of a window is, and whether it is one of the array."""
                low, high = params["padding"][axis]
                base, length = params["base_dilation"][axis], x.shape[axis]
                place = i * params["window_strides"][axis] + step * params["window_dilation"][axis] + -low
                if low <= 0 and high <= 0 and base == 1:
                    return place, None
                number = index_value(place)
                within = number.greater_equal(0) & number.less((length - 1) * base + 1)
                if base > 1:
                    within = within & binary("rem", number, constant(base, INT64)).equal(0)
                    number = binary("div", number, constant(base, INT64))
                return clamped(number, 0, length - 1), within

            def value_of(places: Indices, inside: Expression | None) -> Expression:
                value = convert(element(buffers, x, places), dtype)
                return value if inside is None else select(inside, value, neutral(operation, dtype))

            def place_of(places: Indices, inside: Expression | None) -> Expression:
                value = convert(element(buffers, x, places), dtype)
                there = value.equal(accumulated(best))
                if dtype.kind == "f":
                    there = there | value.not_equal(value)
                number = index_value(flatten([places[axis] for axis in counted], [x.shape[axis] for axis in counted]))
                return select(there if inside is None else there & inside, number, NOWHERE)

            loops: list[Statement] = []
            best = over_window(operation, dtype, neutral(operation, dtype), value_of)
            found = accumulated(best)
            if wants_place:
                found = accumulated(over_window("min", INT64, NOWHERE, place_of))
                found = select(found.equal(NOWHERE), -1, found)
            return [*loops, Store(buffers[result], flatten(index, result.shape), convert(found, result.dtype))]

        return loops_over(result.shape, body)

    return kernels


NOWHERE = 2**62


def _windows_of_parts(params: dict[str, Any]) -> dict[str, Any]:
    more = {"padding": (0, 0)}
    return {name: (*values, more.get(name, 1)) for name, values in params.items()}


SPECIAL: dict[Primitive, Special] = {
    movement.concatenate: by_parts(_concatenate),
    movement.pad: by_parts(_pad, lambda params: params | {"config": (*params["config"], (0, 0, 0))}),
    movement.dynamic_update_slice: by_parts(_dynamic_update_slice),
    scatter_add: by_parts(scatter("add")),
    indexing.scatter_set: by_parts(scatter(None)),
    indexing.scatter_mul: by_parts(scatter("mul")),
    indexing.scatter_min: Special(scatter("min")),
    indexing.scatter_max: Special(scatter("max")),
    reductions.reduce_prod: Special(product_of_complex, lambda equation: is_complex(equation.operands[0].dtype)),
    reductions.cumsum: by_parts(running("add")),
    reductions.cumprod: Special(running_product, lambda equation: True),
    reductions.cummax: Special(running("max")),
    reductions.cummin: Special(running("min")),
    reductions.cumlogsumexp: Special(running_logsumexp),
    reductions.argmax: Special(_argument("max")),
    reductions.argmin: Special(_argument("min")),
    sort: Special(sorted_rows, sorts_natively),
    top_k: Special(largest_of_rows, is_selected),
    windows.reduce_window_sum: by_parts(_windows("add"), _windows_of_parts),
    windows.reduce_window_max: Special(_windows("max")),
    windows.reduce_window_min: Special(_windows("min")),
    windows.reduce_window_argmax: Special(_windows("max", wants_place=True)),
    windows.reduce_window_argmin: Special(_windows("min", wants_place=True)),
}
