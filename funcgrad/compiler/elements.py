"""What one element of a result is, in terms of elements of the operands.

This is all that the compiler has to know about a primitive which computes its elements one by one: elementwise
functions, and movements of data such as transposes, slices and gathers. A movement turns into another index and costs
nothing of its own, wherever it stands between two computations.

A rule gets the index of the element, a reader for each operand, which gives the element of that operand at any index,
and the equation; it gives an Expression (a tuple of them, for several results), or None for what only the host can do.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy

from funcgrad import dtypes
from funcgrad.compiler.complex_numbers import Complex, choose
from funcgrad.compiler.expressions import INT32, INT64, Expression, binary, computing_dtype, constant, convert, select
from funcgrad.compiler.indices import Index, constant_index, flatten, index_of, index_value, unflatten
from funcgrad.compiler.lower_complex import lower, supports
from funcgrad.compiler.reductions import REDUCTIONS, collecting_dtype, is_reduction, reduced_count
from funcgrad.compiler.structures import IDENTITIES
from funcgrad.core import Primitive
from funcgrad.primitives import indexing, movement, shapes
from funcgrad.primitives.counting import iota
from funcgrad.primitives.elementwise import stop_gradient
from funcgrad.primitives.gathering import fill_value, gather, left_axes, scatter_add
from funcgrad.program import Equation, Variable

Indices = tuple[Index, ...]
Reader = Callable[[Indices], Any]  # an Expression, or a Complex of two
Rule = Callable[[Indices, Sequence[Reader], Equation], Any]


def broadcast_index(index: Indices, shape: Sequence[int], result_shape: Sequence[int]) -> Indices:
    """The index of the element that NumPy's broadcasting puts at `index` of the result."""
    aligned = index[len(index) - len(shape) :]
    lengths = result_shape[len(index) - len(shape) :]
    return tuple(constant_index(0) if n == 1 and m != 1 else i for i, n, m in zip(aligned, shape, lengths, strict=True))


def _elementwise(index: Indices, readers: Sequence[Reader], equation: Equation) -> Any:
    shape = equation.results[0].shape
    operands = [
        read(broadcast_index(index, x.shape, shape)) for read, x in zip(readers, equation.operands, strict=True)
    ]
    results = lower(equation.primitive, operands, equation.params)
    if not equation.params:
        name_formula(equation.primitive.name, operands, results)
    return results


def name_formula(name: str, operands: Sequence[Any], results: Any) -> None:
    """Let a formula be printed as the function that it computes, where it is more than one operation."""
    several = results if isinstance(results, tuple) else (results,)
    if any(type(x) is not Expression for x in (*operands, *several)):
        return
    for number, x in enumerate(several):
        if x.operation not in ("constant", "load") and x.operands != tuple(operands) and x not in operands:
            x.origin = name if len(several) == 1 else f"{name}.{number}", tuple(operands)
            if x.operation == "convert" and x.operands[0].operation == "rounded":
                x.operands[0].origin = x.origin


# Movements


def _reshape(index: Indices, readers: Sequence[Reader], equation: Equation) -> Expression:
    (x,), (result,) = equation.operands, equation.results
    return readers[0](unflatten(flatten(index, result.shape), x.shape))


def _transpose(index: Indices, readers: Sequence[Reader], equation: Equation) -> Expression:
    before: list[Any] = [None] * len(index)
    for i, axis in zip(index, equation.params["permutation"], strict=True):
        before[axis] = i
    return readers[0](tuple(before))


def _broadcast_in_dim(index: Indices, readers: Sequence[Reader], equation: Equation) -> Expression:
    (x,), (result,) = equation.operands, equation.results
    taken = [(index[axis], n, result.shape[axis]) for n, axis in zip(x.shape, equation.params["axes"], strict=True)]
    return readers[0](tuple(constant_index(0) if n == 1 and m != 1 else i for i, n, m in taken))


def _slice(index: Indices, readers: Sequence[Reader], equation: Equation) -> Expression:
    starts, strides = equation.params["starts"], equation.params["strides"]
    return readers[0](tuple(i * step + start for i, start, step in zip(index, starts, strides, strict=True)))


def _rev(index: Indices, readers: Sequence[Reader], equation: Equation) -> Expression:
    (x,), axes = equation.operands, equation.params["axes"]
    turned = [i * -1 + (x.shape[axis] - 1) if axis in axes else i for axis, i in enumerate(index)]
    return readers[0](tuple(turned))


def _iota(index: Indices, readers: Sequence[Reader], equation: Equation) -> Any:
    number, dtype = index_value(index[equation.params["axis"]]), equation.params["dtype"]
    if dtype.kind == "c":
        part = dtypes.real_of(dtype)
        return Complex(convert(number, part), constant(0, part))
    return convert(number, dtype)


def _identity(index: Indices, readers: Sequence[Reader], equation: Equation) -> Expression:
    return readers[0](index)


def as_position(number: Expression) -> Expression:
    """A number that somebody computed as an index, as int64; what int64 cannot hold becomes its largest."""
    if number.dtype.kind == "u" and number.dtype.itemsize == 8:
        number = binary("min", number, constant(2**63 - 1, number.dtype))
    return convert(number, INT64)


def as_short_position(number: Expression, length: int) -> Expression:
    """The same for an axis of some length: as int32, if that is enough."""
    is_short = number.dtype.itemsize < 4 or number.dtype == INT32
    return convert(number, INT32) if is_short and length < 2**31 else as_position(number)


def clamped(position: Expression, low: int, high: int) -> Index:
    """The nearest place between low and high."""
    first, last = constant(low, position.dtype), constant(high, position.dtype)
    return index_of(binary("min", binary("max", position, first), last), (low, high))


def _dynamic_slice(index: Indices, readers: Sequence[Reader], equation: Equation) -> Expression:
    x, *starts = equation.operands
    places = []
    for i, read, length, size, _ in zip(index, readers[1:], x.shape, equation.params["sizes"], starts, strict=True):
        places.append(i if length == size else i + clamped(as_position(read(())), 0, length - size))
    return readers[0](tuple(places))


def _gather(index: Indices, readers: Sequence[Reader], equation: Equation) -> Any:
    x, *numbers = equation.operands
    axes, mode = equation.params["axes"], equation.params["mode"]
    count = len(numbers[0].shape) if numbers else 0
    places: list[Any] = [None] * len(x.shape)
    for axis, i in zip(left_axes(len(x.shape), axes), index[count:], strict=True):
        places[axis] = i
    inside = None
    for axis, read in zip(axes, readers[1:], strict=True):
        position = as_short_position(read(index[:count]), x.shape[axis])
        if mode in ("fill", "zero"):
            within = position.greater_equal(0) & position.less(x.shape[axis])
            inside = within if inside is None else inside & within
        places[axis] = clamped(position, 0, x.shape[axis] - 1)
    filling: Any = fill_value(x.dtype) if mode == "fill" else 0
    if x.dtype.kind == "c":
        filling = Complex(*(constant(part, dtypes.real_of(x.dtype)) for part in (filling, 0)))
    else:
        filling = constant(filling, x.dtype)
    if 0 in x.shape:  # where nothing is inside
        return filling
    value = readers[0](tuple(places))
    if inside is None:
        return value
    return choose(inside, value, filling) if isinstance(value, Complex) else select(inside, value, filling)


MOVEMENTS: dict[Primitive, Rule] = {
    shapes.reshape: _reshape,
    shapes.transpose: _transpose,
    shapes.broadcast_in_dim: _broadcast_in_dim,
    movement.slice_: _slice,
    movement.rev: _rev,
    iota: _iota,
    stop_gradient: _identity,
}
"""These have no computation of their own and are never kept in memory for the sake of it."""


def _single(index: Indices, readers: Sequence[Reader], equation: Equation) -> Expression:
    """A reduction of single elements, which are what they are."""
    (place,) = reduced_places(index, equation)
    return readers[0](place)


def reduced_places(index: Indices, equation: Equation) -> list[Indices]:
    """Where the elements are that a reduction of a few reduces to the one at an index."""
    axes, shape = equation.params["axes"], equation.operands[0].shape
    places = []
    for counts in itertools.product(*(range(shape[axis]) for axis in axes)):
        reduced, rest = dict(zip(axes, counts, strict=True)), iter(index)
        places.append(
            tuple(constant_index(reduced[axis]) if axis in reduced else next(rest) for axis in range(len(shape)))
        )
    return places


def _written_out(index: Indices, readers: Sequence[Reader], equation: Equation) -> Expression:
    """A reduction of a few elements."""
    dtype, operation = collecting_dtype(equation), REDUCTIONS[equation.primitive]
    first, *others = (convert(readers[0](place), dtype) for place in reduced_places(index, equation))
    for x in others:
        first = binary(operation, first, x)
    return convert(first, equation.results[0].dtype)


def movement_rule(equation: Equation) -> Rule | None:
    """The rule of an equation that only moves elements; None for others."""
    found = _identity if equation.primitive in IDENTITIES else MOVEMENTS.get(equation.primitive)
    if found is None and equation.primitive in REDUCTIONS and reduced_count(equation) == 1:
        return _single
    return found


# Writing one update to each row


def _single_write(operation: str | None) -> Rule:
    """A scatter of which each element has one update that may be for it: it is, or the element stays as it is."""

    def rule(index: Indices, readers: Sequence[Reader], equation: Equation) -> Expression:
        x, _, *numbers = equation.operands
        axes, mode = equation.params["axes"], equation.params["mode"]
        own = own_axes(equation)
        assert own is not None
        number = flatten([index[axis] for axis in own], [x.shape[axis] for axis in own])
        position = unflatten(number, numbers[0].shape)
        old = readers[0](index)
        new = readers[1]((*position, *(index[axis] for axis in left_axes(len(x.shape), axes))))
        if operation is not None:
            wide = computing_dtype(x.dtype)
            new = convert(binary(operation, convert(old, wide), convert(new, wide)), x.dtype)
        here = None
        for axis, read in zip(axes, readers[2:], strict=True):
            if axis not in own:
                wanted = as_short_position(read(position), x.shape[axis])
                if mode != "drop":
                    first, last = (constant(place, wanted.dtype) for place in (0, x.shape[axis] - 1))
                    wanted = binary("min", binary("max", wanted, first), last)
                same = wanted.equal(convert(index_value(index[axis]), wanted.dtype))
                here = same if here is None else here & same
        return new if here is None else select(here, new, old)

    return rule


def own_axes(equation: Equation) -> tuple[int, ...] | None:
    """The axes of a scatter that say which update an element has: their positions, which are constants, count the
    updates. Of the derivative of `take_along_axis` these are all axes but one. None if there are no such axes."""
    x, _, *numbers = equation.operands
    if not numbers or 0 in x.shape:
        return None
    constants = [
        (axis, y._data) for axis, y in zip(equation.params["axes"], numbers, strict=True) if type(y) is not Variable
    ]
    own = tuple(axis for axis, _ in constants)
    count = math.prod(numbers[0].shape)
    if not own or math.prod(x.shape[axis] for axis in own) != count:
        return None
    place: Any = 0
    for axis, data in constants:
        if data.min() < 0 or data.max() >= x.shape[axis]:
            return None
        place = place * x.shape[axis] + data.astype(numpy.int64)
    return own if (place.reshape(-1) == numpy.arange(count)).all() else None


SINGLE_WRITES: dict[Primitive, Rule] = {
    scatter_add: _single_write("add"),
    indexing.scatter_set: _single_write(None),
    indexing.scatter_mul: _single_write("mul"),
    indexing.scatter_min: _single_write("min"),
    indexing.scatter_max: _single_write("max"),
}
"""Scatters, where each element has one update that may be for it."""

LOOKUPS: dict[Primitive, Rule] = {gather: _gather, movement.dynamic_slice: _dynamic_slice, **SINGLE_WRITES}
"""These read at places that only their rules know, some of them only when the program runs."""


def is_real(*values: Any) -> bool:
    """Whether none of these arrays is complex. Complex elements are pairs, of which only movements and elementwise
    functions know."""
    return all(x.dtype.kind != "c" for x in values)


def element_rule(equation: Equation) -> Rule | None:
    """The rule for an equation, or None if its elements are not computed one by one, or not natively."""
    primitive, moved = equation.primitive, movement_rule(equation)
    if moved is not None:
        return moved
    if primitive in REDUCTIONS and not is_reduction(equation):
        return _written_out if is_real(*equation.operands) else None
    if primitive in LOOKUPS:
        x = equation.operands[0]
        if primitive in SINGLE_WRITES and (not is_real(x) or 0 in x.shape or own_axes(equation) is None):
            return None
        return LOOKUPS[primitive]
    return _elementwise if supports(primitive, [x.dtype for x in equation.operands], equation.params) else None
