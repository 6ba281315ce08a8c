"""Sums and extrema over windows that slide along the axes: what pooling is made of.

All three take, with one entry an axis of the array:

    window_dimensions   how many elements a window has
    window_strides      how far apart the starts of neighbouring windows are
    padding             (before, after): how many elements are added at the ends; negative amounts take elements away
    base_dilation       how far apart neighbouring elements are put before windows are placed; 1 leaves them as they are
    window_dilation     how far apart the elements of a window are

What is added at the ends and between elements never counts: it is 0 in a sum and the lowest value in a maximum. A
maximum hands its derivative to the first element of the window that attains it, in row-major order, as XLA's select and
scatter does (https://openxla.org/xla/operation_semantics, "SelectAndScatter").
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy

from funcgrad import dtypes
from funcgrad.array import AbstractArray, Array
from funcgrad.core import Primitive
from funcgrad.devices import array_module
from funcgrad.errors import DtypeError, ShapeError
from funcgrad.primitives.counting import iota
from funcgrad.primitives.elementwise import eq, full, is_nan, or_, select, zeros_like
from funcgrad.primitives.gathering import gather
from funcgrad.primitives.movement import pad, slice_
from funcgrad.primitives.reductions import reduce_min
from funcgrad.primitives.shapes import broadcast_in_dim, linear_jvp, reduce_sum, reshape, transpose

Padding = tuple[tuple[int, int], ...]


# How many windows fit, which convolution asks too


def dilated(length: int, dilation: int) -> int:
    """How long `length` elements are when neighbours are `dilation` apart."""
    return (length - 1) * dilation + 1 if length else 0


def check_windows(
    name: str,
    lengths: Sequence[int],
    window: Sequence[int],
    strides: Sequence[int],
    padding: Padding,
    base_dilation: Sequence[int],
    window_dilation: Sequence[int],
) -> tuple[int, ...]:
    """How many windows fit along each axis.

    Raises:
        ShapeError: if an argument has not one entry an axis, or one that makes no sense.
    """
    given = {
        "window lengths": window,
        "strides": strides,
        "pairs of padding": padding,
        "dilations of the array": base_dilation,
        "dilations of the window": window_dilation,
    }
    for what, entries in given.items():
        if len(entries) != len(lengths):
            raise ShapeError(f"{name} got {len(entries)} {what} for {len(lengths)} axes; give one an axis.")
        if what != "pairs of padding" and any(entry < 1 for entry in entries):
            raise ShapeError(f"{name} got the {what} {tuple(entries)}; each must be at least 1.")
    counts = []
    for length, size, stride, (low, high), base, apart in zip(
        lengths, window, strides, padding, base_dilation, window_dilation, strict=True
    ):
        padded = low + dilated(length, base) + high
        if padded < 0:
            raise ShapeError(
                f"{name} cannot take away {-low} and {-high} elements from an axis that has {dilated(length, base)}; "
                "use smaller negative padding."
            )
        counts.append(max(0, (padded - dilated(size, apart)) // stride + 1))
    return tuple(counts)


def transposed_padding(
    length: int, window: int, stride: int, padding: tuple[int, int], base: int, apart: int, count: int
) -> tuple[int, int]:
    """The padding with which windows go back from `count` results to `length` elements: every element meets the results
    that it has taken part in. The stride and the dilation of the array swap their roles."""
    low = dilated(window, apart) - 1 - padding[0]
    return low, dilated(length, base) + dilated(window, apart) - 1 - dilated(count, stride) - low


def spread(x: Any, fill: Any, padding: Padding, dilation: Sequence[int]) -> Any:
    """A buffer with its elements `dilation` apart and its ends padded; itself where nothing is to do."""
    if all(entry == (0, 0) for entry in padding) and all(d == 1 for d in dilation):
        return x
    config = tuple((low, high, d - 1) for (low, high), d in zip(padding, dilation, strict=True))
    return pad.evaluate(x, array_module(x).asarray(fill, x.dtype), config=config)


# The rules that all share


@lru_cache(maxsize=4096)
def _result_shape(name, shape, window_dimensions, window_strides, padding, base_dilation, window_dilation):
    return check_windows(name, shape, window_dimensions, window_strides, padding, base_dilation, window_dilation)


def _check_dtype(name: str, dtype: numpy.dtype) -> None:
    if name == "reduce_window_sum":
        if dtypes.is_bool(dtype):
            raise DtypeError(f"{name} adds numbers, and a bool array has none; convert it with x.astype(fg.int32).")
    elif dtypes.is_complex(dtype):
        raise DtypeError(
            f"{name} takes an ordered dtype, and {dtype.name} has no order; take the absolute value first."
        )


def _batch_rule(primitive_of: Callable[[], Primitive]):
    """The batch axis gets windows of one element that move by one."""

    def batch(
        size, operands, axes, *, window_dimensions, window_strides, padding, base_dilation, window_dilation, **others
    ):
        (x,), (axis,) = operands, axes

        def insert(entries, entry):
            return (*entries[:axis], entry, *entries[axis:])

        result = primitive_of()(
            x,
            window_dimensions=insert(window_dimensions, 1),
            window_strides=insert(window_strides, 1),
            padding=insert(padding, (0, 0)),
            base_dilation=insert(base_dilation, 1),
            window_dilation=insert(window_dilation, 1),
            **others,
        )
        return result, axis

    return batch


def _along(axis: int, start: int, count: int, step: int) -> tuple[slice, ...]:
    return (*(slice(None),) * axis, slice(start, start + (count - 1) * step + 1 if count else start, step))


_LONG = 16  # elements of a window from which on partial results are combined instead of elements


def _reduce_windows(x: Any, ufunc: Any, counts, window_dimensions, window_strides, window_dilation) -> Any:
    """The reduction of every window by `ufunc`, one axis after the other."""
    for axis, (count, size, stride, apart) in enumerate(
        zip(counts, window_dimensions, window_strides, window_dilation, strict=True)
    ):
        if size < _LONG or count == 0:
            result = x[_along(axis, 0, count, stride)]
            for k in range(1, size):
                place = _along(axis, k * apart, count, stride)
                result = ufunc(result, x[place], out=result) if k > 1 else ufunc(result, x[place])
            x = result
            continue
        # Windows of 1, 2, 4, ... elements, of which those that add up to `size` are laid end to end.
        total, begun, part, length = None, 0, x, 1
        while length <= size:
            if size & length:
                piece = part[_along(axis, begun * apart, count, stride)]
                total = piece if total is None else ufunc(total, piece)
                begun += length
            if 2 * length <= size:
                left = part.shape[axis] - length * apart
                part = ufunc(part[_along(axis, 0, left, 1)], part[_along(axis, length * apart, left, 1)])
            length *= 2
        x = total
    return x


# Windows that do not overlap, as of most pooling: axes are cut into pieces, in each of which one window begins. What
# follows has two axes for each of them then, and the second one is that of the window.


def lie_apart(shape, counts, window_dimensions, window_strides, padding, base_dilation, window_dilation) -> bool:
    """Whether there are windows and elements, no element is in two windows, and none is put between elements."""
    entries = zip(window_dimensions, window_strides, base_dilation, window_dilation, counts, strict=True)
    return not (0 in shape or 0 in counts) and all(
        base == 1 and (apart == 1 or size == 1) and (size <= stride or count == 1)
        for size, stride, base, apart, count in entries
    )


def pieces_of(x: Any, fill: Any, counts: Sequence[int], params: dict[str, Any], apply: Callable[..., Any]) -> Any:
    """An array cut into windows that lie apart: of shape (windows, length of a window) for each axis.

    Arguments:
        x, fill: the array, and what is added at its ends.
        counts: how many windows there are along each axis.
        params: of the primitive.
        apply: takes a primitive, its operands and its params.
    """
    sizes, strides = params["window_dimensions"], params["window_strides"]
    ends, cut = [], []
    for length, size, stride, (low, _), count in zip(x.shape, sizes, strides, params["padding"], counts, strict=True):
        step = stride if count > 1 else size
        ends.append((low, count * step - low - length, 0))
        cut += [count, step]
    if any(entry != (0, 0, 0) for entry in ends):
        x = apply(pad, x, fill, config=tuple(ends))
    x = apply(reshape, x, shape=tuple(cut))
    limits = tuple(size if place % 2 else n for place, (n, size) in enumerate(zip(cut, _doubled(sizes), strict=True)))
    if limits != tuple(cut):
        x = apply(slice_, x, starts=(0,) * len(cut), limits=limits, strides=(1,) * len(cut))
    return x


def _doubled(entries: Sequence[int]) -> list[int]:
    return [entry for entry in entries for _ in range(2)]


def axes_of_windows(params: dict[str, Any]) -> tuple[int, ...]:
    """The axes of the pieces along which windows have more than one element."""
    return tuple(2 * axis + 1 for axis, size in enumerate(params["window_dimensions"]) if size > 1)


def over_windows(reduce: Primitive, pieces: Any, counts: Sequence[int], params: Any, apply: Callable[..., Any]) -> Any:
    """What a reduction of pieces comes to in each window."""
    axes = axes_of_windows(params)
    return apply(reshape, apply(reduce, pieces, axes=axes) if axes else pieces, shape=tuple(counts))


def _for_each_element(x: Array, pieces_shape: Sequence[int]) -> Array:
    """A number of each window for all elements of its piece."""
    return broadcast_in_dim(x, shape=tuple(pieces_shape), axes=tuple(range(0, 2 * x.ndim, 2)))


def _apply(primitive: Primitive, *operands: Any, **params: Any) -> Any:
    return primitive(*operands, **params)


def _spread_back(cotangent: Array, shape: Sequence[int], params: dict[str, Any]) -> Array:
    """What each window of a sum gives to its elements, and zero to the others."""
    sizes, strides, counts = params["window_dimensions"], params["window_strides"], cotangent.shape
    zero, cut, ends = full((), 0, cotangent.dtype), [], []
    result = _for_each_element(cotangent, [n for pair in zip(counts, sizes, strict=True) for n in pair])
    steps = [stride if count > 1 else size for stride, size, count in zip(strides, sizes, counts, strict=True)]
    for length, size, step, (low, _), count in zip(shape, sizes, steps, params["padding"], counts, strict=True):
        cut += [(0, 0, 0), (0, step - size, 0)]
        ends.append((-low, length + low - count * step, 0))
    if any(entry != (0, 0, 0) for entry in cut):
        result = pad(result, zero, config=tuple(cut))
    result = reshape(result, shape=tuple(count * step for count, step in zip(counts, steps, strict=True)))
    return pad(result, zero, config=tuple(ends)) if any(entry != (0, 0, 0) for entry in ends) else result


# reduce_window_sum


def _sum_abstract(x, **params):
    _check_dtype("reduce_window_sum", x.dtype)
    return AbstractArray(_result_shape("reduce_window_sum", x.shape, **params), x.dtype)


def _sum_evaluate(x, **params):
    dtype = x.dtype
    _check_dtype("reduce_window_sum", dtype)
    counts = _result_shape("reduce_window_sum", x.shape, **params)
    if dtype is dtypes.bfloat16 or dtype is dtypes.float16:
        x = x.astype(numpy.float32)  # half-width sums would lose most digits
    x = spread(x, 0, params["padding"], params["base_dilation"])
    names = ("window_dimensions", "window_strides", "window_dilation")
    return _reduce_windows(x, numpy.add, counts, *(params[name] for name in names)).astype(dtype, copy=False)


def _sum_transpose(cotangent, x, *, window_dimensions, window_strides, padding, base_dilation, window_dilation):
    if 0 in cotangent.shape or 0 in x.shape:
        return [zeros_like(x)]
    params = {"window_dimensions": window_dimensions, "window_strides": window_strides, "padding": padding}
    if lie_apart(x.shape, cotangent.shape, **params, base_dilation=base_dilation, window_dilation=window_dilation):
        return [_spread_back(cotangent, x.shape, params)]
    axes = zip(
        x.shape,
        window_dimensions,
        window_strides,
        padding,
        base_dilation,
        window_dilation,
        cotangent.shape,
        strict=True,
    )
    result = reduce_window_sum(
        cotangent,
        window_dimensions=window_dimensions,
        window_strides=base_dilation,
        padding=tuple(transposed_padding(*axis) for axis in axes),
        base_dilation=window_strides,
        window_dilation=window_dilation,
    )
    return [result]


reduce_window_sum = Primitive(
    "reduce_window_sum", abstract=_sum_abstract, evaluate=_sum_evaluate, transpose=_sum_transpose
)
reduce_window_sum.jvp = linear_jvp(reduce_window_sum)
reduce_window_sum.batch = _batch_rule(lambda: reduce_window_sum)


# The place of an extremum: the number, counted row by row, of the first element of each window that attains it, or -1
# where a window lies outside of the array. Only axes along which windows do something are counted; the others, a batch
# axis among them, keep their place in the result.


@lru_cache(maxsize=4096)
def counted_axes(window_dimensions, window_strides, padding, base_dilation, window_dilation) -> tuple[int, ...]:
    """The axes along which windows do something."""
    entries = zip(window_dimensions, window_strides, padding, base_dilation, strict=True)
    return tuple(axis for axis, entry in enumerate(entries) if entry != (1, 1, (0, 0), 1))


def neutral(dtype: numpy.dtype, is_max: bool) -> Any:
    """What never wins against a value of this dtype."""
    if dtypes.is_bool(dtype):
        return not is_max
    if dtypes.is_differentiable(dtype):
        return -math.inf if is_max else math.inf
    limits = numpy.iinfo(dtype)
    return limits.min if is_max else limits.max


def _place(name: str, is_max: bool) -> Primitive:
    def abstract(x, **params):
        _check_dtype(name, x.dtype)
        return AbstractArray(_result_shape(name, x.shape, **params), dtypes.int32)

    def evaluate(x, *, window_dimensions, window_strides, padding, base_dilation, window_dilation):
        params = (window_dimensions, window_strides, padding, base_dilation, window_dilation)
        module = array_module(x)
        _check_dtype(name, x.dtype)
        counts = _result_shape(name, x.shape, *params)
        counted = counted_axes(*params)
        lengths = [length if axis in counted else 1 for axis, length in enumerate(x.shape)]
        numbers = module.arange(math.prod(lengths), dtype=numpy.int32).reshape(lengths)
        places = module.broadcast_to(numbers, x.shape)
        x = spread(x, neutral(x.dtype, is_max), padding, base_dilation)
        places = spread(places, -1, padding, base_dilation)
        has_nan = dtypes.is_differentiable(x.dtype) and bool(module.isnan(x).any())
        # The last axis first, so that of equal elements the first in row-major order remains.
        for axis in reversed(range(x.ndim)):
            size, stride, apart, count = (p[axis] for p in (window_dimensions, window_strides, window_dilation, counts))
            at = _along(axis, 0, count, stride)
            best, best_place = x[at], places[at]
            for k in range(1, size):
                at = _along(axis, k * apart, count, stride)
                other, other_place = x[at], places[at]
                wins = other > best if is_max else other < best
                if has_nan:
                    wins |= module.isnan(other) & ~module.isnan(best)
                wins |= (best_place < 0) & (other_place >= 0)  # an infinity in the array counts, one around it does not
                best, best_place = module.where(wins, other, best), module.where(wins, other_place, best_place)
            x, places = best, best_place
        return places

    primitive = Primitive(name, abstract=abstract, evaluate=evaluate)
    primitive.jvp = lambda primals, tangents, **params: (primitive(*primals, **params), None)
    primitive.batch = _batch_rule(lambda: primitive)
    return primitive


reduce_window_argmax = _place("reduce_window_argmax", True)
reduce_window_argmin = _place("reduce_window_argmin", False)

# reduce_window_max and reduce_window_min


def _read_places(x, places, counted):
    """The elements of `x` at the places that one of the primitives above has found; 0 where there is none."""
    others = tuple(axis for axis in range(x.ndim) if axis not in counted)
    order = (*others, *counted)
    rows = math.prod(x.shape[axis] for axis in others)
    table = reshape(transpose(x, permutation=order), shape=(rows, math.prod(x.shape[axis] for axis in counted)))
    found = transpose(places, permutation=order)
    shape = found.shape
    found = reshape(found, shape=(rows, math.prod(shape[len(others) :])))
    numbers = iota(shape=found.shape, dtype=dtypes.int32, axis=0)
    result = reshape(gather(table, numbers, found, axes=(0, 1), mode="zero"), shape=shape)
    return transpose(result, permutation=tuple(order.index(axis) for axis in range(x.ndim)))


def _read_first(t: Array, x: Array, best: Array, params: dict[str, Any]) -> Array:
    """The elements of `t` where, of each window, the first element of `x` is that attains the extremum.

    Windows lie apart here. So this is a sum of all elements of each that are not masked, whose transpose needs no
    positions to write at.
    """
    counts, zero = best.shape, full((), 0, t.dtype)
    pieces = pieces_of(x, zero, counts, params, _apply)
    sizes = [n if place % 2 else 1 for place, n in enumerate(pieces.shape)]
    numbers = reshape(iota(shape=(math.prod(sizes),), dtype=dtypes.int32, axis=0), shape=tuple(sizes))
    attains = or_(eq(pieces, _for_each_element(best, pieces.shape)), is_nan(pieces))
    candidates = select(attains, numbers, full((), math.prod(sizes), dtypes.int32))
    first = over_windows(reduce_min, candidates, counts, params, _apply)
    chosen = eq(_for_each_element(first, pieces.shape), numbers)
    return over_windows(
        reduce_sum, select(chosen, pieces_of(t, zero, counts, params, _apply), zero), counts, params, _apply
    )


def _extremum(name: str, ufunc: Any, is_max: bool, place: Primitive) -> Primitive:
    def abstract(x, **params):
        _check_dtype(name, x.dtype)
        return AbstractArray(_result_shape(name, x.shape, **params), x.dtype)

    def evaluate(x, **params):
        _check_dtype(name, x.dtype)
        counts = _result_shape(name, x.shape, **params)
        x = spread(x, neutral(x.dtype, is_max), params["padding"], params["base_dilation"])
        names = ("window_dimensions", "window_strides", "window_dilation")
        return _reduce_windows(x, ufunc, counts, *(params[name] for name in names))

    def jvp(primals, tangents, **params):
        (x,), (t,) = primals, tangents
        result = primitive(x, **params)
        is_added = any(entry > 0 for entries in params["padding"] for entry in entries)
        if lie_apart(x.shape, result.shape, **params) and not is_added:
            return result, _read_first(t, x, result, params)
        return result, _read_places(t, place(x, **params), counted_axes(**params))

    primitive = Primitive(name, abstract=abstract, evaluate=evaluate, jvp=jvp)
    primitive.batch = _batch_rule(lambda: primitive)
    return primitive


reduce_window_max = _extremum("reduce_window_max", numpy.maximum, True, reduce_window_argmax)
reduce_window_min = _extremum("reduce_window_min", numpy.minimum, False, reduce_window_argmin)

__all__ = [
    "check_windows",
    "dilated",
    "neutral",
    "reduce_window_argmax",
    "reduce_window_argmin",
    "reduce_window_max",
    "reduce_window_min",
    "reduce_window_sum",
    "spread",
    "transposed_padding",
]
