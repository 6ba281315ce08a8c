"""Kernels of running reductions: each element becomes the reduction of all elements up to it, along one axis.

Sums, products and extrema of real numbers take in several elements at a time, and long rows in parts. Whatever else
collects in another way goes along the axis one element after the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy

from funcgrad import dtypes
from funcgrad.compiler.complex_numbers import Complex, parts_of
from funcgrad.compiler.elements import Indices, is_real
from funcgrad.compiler.expressions import (
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
from funcgrad.compiler.indices import Index, axis_index, constant_index, flatten, load, unflatten
from funcgrad.compiler.loops import Accumulate, Kernel, Loop, Statement, Store, finished
from funcgrad.compiler.mathematics import exp, log1p
from funcgrad.compiler.nests import loops_over
from funcgrad.compiler.reductions import neutral
from funcgrad.program import Equation

PART = 1 << 14  # elements at least that are a part of a row
MOST_PARTS = 64
ENOUGH_TASKS = 8  # rows, from which on there is no need for parts


def running(operation: str) -> Callable[[Equation, Any], list[Kernel]]:
    """Along rows, several elements at a time; few long rows in parts, whose totals are found first. Along other axes
    many columns go side by side."""

    def kernels(equation: Equation, buffers: Any) -> list[Kernel]:
        (x,), (result,) = equation.operands, equation.results
        axis, reverse = equation.params["axis"], equation.params["reverse"]
        length, before = x.shape[axis], x.shape[:axis]
        if 0 in x.shape:
            return []
        dtype = computing_dtype(x.dtype)  # short floats are collected in longer ones
        # -0.0 is what changes no float, not even another -0.0.
        first = -0.0 if operation == "add" else neutral(operation, dtype)

        def at(outer: Indices, step: Index) -> Index:
            along = step * -1 + (length - 1) if reverse else step
            return flatten((*outer[:axis], along, *outer[axis:]), x.shape)

        def run(outer: Indices, begin: Index, count: int, store: bool, start: Any = None) -> tuple[Loop, Accumulator]:
            """The loop over `count` elements; either stores what comes out at each, or only finds their total."""
            around = frozenset[Axis]().union(begin.axes, *(i.axes for i in outer))
            so_far = Accumulator(operation, dtype, first, around, "s")
            step = Axis(count, "k")
            place = at(outer, begin + axis_index(step))
            value = convert(load(buffers[x], place), dtype)
            body: list[Statement] = [Accumulate(so_far, value)]
            if store:
                following = binary(operation, accumulated(so_far), value)
                if start is not None:
                    following = binary(operation, start, following)
                body.insert(0, Store(buffers[result], place, convert(following, x.dtype)))
            along_rows = math.prod(x.shape[axis + 1 :]) == 1
            return Loop(step, body, "vector" if along_rows else "serial"), so_far

        none = constant_index(0)
        if math.prod(x.shape[axis + 1 :]) > 1:
            return loops_over([*before, *x.shape[axis + 1 :]], lambda outer: [run(outer, none, length, True)[0]])
        last = (none,) * (len(x.shape) - axis - 1)
        count, part = math.prod(before), PART
        if count >= ENOUGH_TASKS or length < 2 * part:
            row = Axis(count, "i")
            loop, _ = run((*unflatten(axis_index(row), before), *last), none, length, True)
            return [finished([loop if count == 1 else Loop(row, [loop], "parallel")])]

        part = max(part, -(-length // MOST_PARTS // 128) * 128)
        parts, rest = divmod(length, part)
        totals = Buffer(count * parts, dtype, "totals")
        starts = Buffer(count * (parts + 1), dtype, "starts")

        def in_parts(body: Callable[[Indices, Index, Index], list[Statement]]) -> Kernel:
            both = Axis(count * parts, "p")
            row, number = unflatten(axis_index(both), (count, parts))
            outer = (*unflatten(row, before), *last)
            return finished([Loop(both, body(outer, row, number), "parallel")])

        def total(outer: Indices, row: Index, number: Index) -> list[Statement]:
            loop, so_far = run(outer, number * part, part, False)
            return [loop, Store(totals, row * parts + number, accumulated(so_far))]

        def done(outer: Indices, row: Index, number: Index) -> list[Statement]:
            return [run(outer, number * part, part, True, load(starts, row * (parts + 1) + number))[0]]

        # With what each part begins, and the rest, which is no whole part.
        row, number = Axis(count, "i"), Axis(parts, "p")
        begin = axis_index(row) * (parts + 1)
        so_far = Accumulator(operation, dtype, first, frozenset([row]), "s")
        value = load(totals, axis_index(row) * parts + axis_index(number))
        following = binary(operation, accumulated(so_far), value)
        store = Store(starts, begin + axis_index(number) + 1, following)
        sums = Loop(number, [store, Accumulate(so_far, value)])
        between = [Loop(row, [Store(starts, begin, constant(first, dtype)), sums], "serial")]
        found = [in_parts(total), finished(list[Statement](between)), in_parts(done)]
        if rest:
            outer = (*unflatten(axis_index(row), before), *last)
            start = load(starts, begin + parts)
            found.append(
                finished([Loop(row, [run(outer, constant_index(parts * part), rest, True, start)[0]], "parallel")])
            )
        return found

    return kernels


def _of_complex(equation: Equation, buffers: Any) -> list[Kernel]:
    (x,), (result,) = equation.operands, equation.results

    def body(outer: frozenset[Axis], source: Index, target: Index) -> list[Statement]:
        so_far = _complex_so_far(outer, dtypes.real_of(x.dtype))
        parts = parts_of(_product(so_far, _complex_element(buffers, x, source)))
        stores: list[Statement] = [Store(buffers[result], target * 2 + n, y) for n, y in enumerate(parts)]
        return [*stores, *(Accumulate(s, y) for s, y in zip(so_far, parts, strict=True))]

    return _one_after_another(equation, body)


def running_product(equation: Equation, buffers: Any) -> list[Kernel]:
    """The products of the elements up to each one."""
    real = is_real(*equation.operands)
    return (running("mul") if real else _of_complex)(equation, buffers)


def product_of_complex(equation: Equation, buffers: Any) -> list[Kernel]:
    """The product along some axes, which are gone through one element after the other."""
    (x,), (result,), reduced = equation.operands, equation.results, equation.params["axes"]
    kept = [axis for axis in range(len(x.shape)) if axis not in reduced]

    def body(index: Indices) -> list[Statement]:
        step = Axis(math.prod(x.shape[axis] for axis in reduced), "k")
        inner = unflatten(axis_index(step), [x.shape[axis] for axis in reduced])
        places = dict(zip(kept, index, strict=True)) | dict(zip(reduced, inner, strict=True))
        place = flatten([places[axis] for axis in range(len(x.shape))], x.shape)
        outer = frozenset[Axis]().union(*(i.axes for i in index))
        so_far, value = _complex_so_far(outer, dtypes.real_of(x.dtype)), _complex_element(buffers, x, place)
        collect = [Accumulate(*pair) for pair in zip(so_far, parts_of(_product(so_far, value)), strict=True)]
        target = flatten(index, result.shape) * 2
        stores = [Store(buffers[result], target + n, accumulated(y)) for n, y in enumerate(so_far)]
        return [Loop(step, [*collect]), *stores]

    return loops_over(result.shape, body)


def _complex_so_far(outer: frozenset[Axis], part: numpy.dtype) -> list[Accumulator]:
    """The two parts of a product, beginning with 1."""
    return [Accumulator("last", part, first, outer, name) for first, name in ((1, "real"), (0, "imaginary"))]


def _complex_element(buffers: Any, x: Any, place: Index) -> Complex:
    return Complex(load(buffers[x], place * 2), load(buffers[x], place * 2 + 1))


def _product(so_far: Sequence[Accumulator], value: Complex) -> Complex:
    return Complex(*map(accumulated, so_far)) * value


def _one_after_another(
    equation: Equation, body: Callable[[frozenset[Axis], Index, Index], list[Statement]]
) -> list[Kernel]:
    """Go along the axis of a running reduction, side by side along the others. `body` gets the axes around it, and
    the places of an element of the operand and of the result."""
    (x,), (result,) = equation.operands, equation.results
    axis, reverse = equation.params["axis"], equation.params["reverse"]
    length = x.shape[axis]
    if 0 in x.shape:
        return []

    def rows(index: Indices) -> list[Statement]:
        step = Axis(length, "k")
        along = axis_index(step) * -1 + (length - 1) if reverse else axis_index(step)
        place = (*index[:axis], along, *index[axis:])
        outer = frozenset[Axis]().union(*(i.axes for i in index))
        return [Loop(step, body(outer, flatten(place, x.shape), flatten(place, result.shape)))]

    return loops_over([*x.shape[:axis], *x.shape[axis + 1 :]], rows)


def running_logsumexp(equation: Equation, buffers: Any) -> list[Kernel]:
    """log(exp(x[0]) + ... + exp(x[k])) for each k."""
    (x,), (result,) = equation.operands, equation.results
    dtype = computing_dtype(x.dtype)

    def body(outer: frozenset[Axis], source: Index, target: Index) -> list[Statement]:
        so_far = Accumulator("last", dtype, -math.inf, outer, "s")
        following = _logaddexp(accumulated(so_far), convert(load(buffers[x], source), dtype))
        return [Store(buffers[result], target, convert(following, x.dtype)), Accumulate(so_far, following)]

    return _one_after_another(equation, body)


def _logaddexp(x: Expression, y: Expression) -> Expression:
    """log(exp(x) + exp(y))."""
    high, low = binary("max", x, y), binary("min", x, y)
    return select(x.equal(y), x + math.log(2), high + log1p(exp(low - high)))
