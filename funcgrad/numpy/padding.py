"""`pad`: an array with elements added at its edges."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

from funcgrad import dtypes
from funcgrad.array import Array, ConcreteArray, as_array
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.numpy.manipulation import flip, piece, take_static
from funcgrad.primitives import elementwise as e
from funcgrad.primitives import movement, shapes
from funcgrad.primitives.operators import cast, promote
from funcgrad.primitives.reductions import reduce_max, reduce_min
from funcgrad.primitives.sorting import sort as sort_p

Widths = tuple[int, int]
OPTIONS = {
    "constant": {"constant_values"},
    "linear_ramp": {"end_values"},
    "reflect": {"reflect_type"},
    "symmetric": {"reflect_type"},
    "maximum": {"stat_length"},
    "minimum": {"stat_length"},
    "mean": {"stat_length"},
    "median": {"stat_length"},
    "edge": set(),
    "wrap": set(),
    "empty": set(),
}


def pad(array: Any, pad_width: Any, mode: str = "constant", **kwargs: Any) -> Array:
    """An array with elements added before and after it along each axis.

    Arguments:
        array: an array.
        pad_width: how many: an integer; (before, after); one such pair an axis; or a dict from axis to either.
        mode: what they are. "constant": `constant_values` (0). "edge": the element at the edge. "reflect" and
            "symmetric": the mirror image, without or with the edge itself; `reflect_type="odd"` mirrors at the value
            of the edge too. "wrap": what stands at the other end. "linear_ramp": from the edge down to `end_values`
            (0). "maximum", "minimum", "mean", "median": of the `stat_length` elements (all) next to the edge.
            "empty": unspecified, here 0.

    Raises:
        ArgumentError: for modes or options that do not exist.
        ShapeError: if `pad_width` does not fit the array.

    Example:
        >>> import funcgrad as fg
        >>> fg.numpy.pad(fg.array([1, 2]), (1, 2))
        Array([0, 1, 2, 0, 0], dtype=int32)
    """
    x = as_array(array)
    if mode not in OPTIONS:
        raise ArgumentError(f"pad has no mode {mode!r:.40}; choose one of {', '.join(map(repr, OPTIONS))}.")
    unknown = set(kwargs) - OPTIONS[mode]
    if unknown:
        raise ArgumentError(f"pad takes no {', '.join(sorted(unknown))} in the mode {mode!r}.")
    widths = _widths(pad_width, x.ndim)
    if mode in ("constant", "empty"):
        return _pad_constant(x, widths, kwargs.get("constant_values", 0))
    if mode == "linear_ramp":
        ends = _pairs(kwargs.get("end_values", 0), x.ndim, "end_values")
        return _each_axis(x, widths, lambda x, axis, w: _ramp(x, axis, w, ends[axis]))
    if mode in ("maximum", "minimum", "mean", "median"):
        counts = _pairs(kwargs.get("stat_length"), x.ndim, "stat_length")
        return _each_axis(x, widths, lambda x, axis, w: _statistic(x, axis, w, mode, counts[axis]))
    reflect_type = kwargs.get("reflect_type", "even")
    if reflect_type not in ("even", "odd"):
        raise ArgumentError(f"pad has no reflect_type {reflect_type!r}; choose 'even' or 'odd'.")
    if reflect_type == "odd":
        return _each_axis(x, widths, lambda x, axis, w: _odd_mirror(x, axis, w, mode))
    return _each_axis(x, widths, lambda x, axis, w: _copied(x, axis, w, mode))


def _widths(pad_width: Any, ndim: int) -> list[Widths]:
    if isinstance(pad_width, dict):
        given = pad_width
        pad_width = [(0, 0)] * ndim
        for axis, width in given.items():
            pad_width[axis] = width if isinstance(width, tuple) else (width, width)
    host = numpy.asarray(pad_width)
    try:
        host = numpy.broadcast_to(host, (ndim, 2))
    except ValueError:
        raise ShapeError(
            f"pad got widths {pad_width!r:.60} for an array of {ndim} axes; give an integer, (before, after), or one "
            "such pair for each axis."
        ) from None
    if host.dtype.kind not in "iu" and host.size or (host < 0).any():
        raise ArgumentError(f"pad takes widths that are integers and not negative, not {pad_width!r:.60}.")
    return [(int(low), int(high)) for low, high in host]


def _pairs(values: Any, ndim: int, name: str) -> list[tuple[Any, Any]]:
    """A value, a pair, or a pair for each axis, as a pair for each axis."""
    if isinstance(values, (tuple, list)):
        if len(values) == 1:
            return _pairs(values[0], ndim, name)
        if any(isinstance(v, (tuple, list)) for v in values):
            found = [tuple(v) if isinstance(v, (tuple, list)) else (v,) for v in values]
            found = [v * 2 if len(v) == 1 else v for v in found]
            if len(found) == ndim and all(len(v) == 2 for v in found):
                return found  # type: ignore[return-value]
        elif len(values) == 2:
            return [(values[0], values[1])] * ndim
        raise ArgumentError(f"pad takes {name} as a value, a pair (before, after), or a pair for each axis.")
    if isinstance(values, (Array, numpy.ndarray)) and values.ndim:
        return _pairs([tuple(v) if v.ndim else v for v in values], ndim, name)
    return [(values, values)] * ndim


def _each_axis(x: Array, widths: list[Widths], pad_axis: Callable[[Array, int, Widths], Array]) -> Array:
    for axis, width in enumerate(widths):
        if width != (0, 0):
            if x.shape[axis] == 0:
                raise ShapeError(f"pad cannot extend axis {axis}, which has no elements; use the mode 'constant'.")
            x = pad_axis(x, axis, width)
    return x


def _joined(x: Array, axis: int, before: Array | None, after: Array | None) -> Array:
    parts = [p for p in (before, x, after) if p is not None and p.shape[axis]]
    return movement.concatenate(*parts, axis=axis) if len(parts) > 1 else parts[0]


def _pad_constant(x: Array, widths: list[Widths], values: Any) -> Array:
    if all(width == (0, 0) for width in widths):
        return x
    pairs = _pairs(values, x.ndim, "constant_values")
    first = pairs[0][0]
    if all(value is first for pair in pairs for value in pair):
        fill = _scalar(first, x)
        return movement.pad(x, fill, config=tuple((low, high, 0) for low, high in widths))
    for axis, ((low, high), (before, after)) in enumerate(zip(widths, pairs, strict=True)):
        for config, value in [((low, 0, 0), before), ((0, high, 0), after)]:
            if config != (0, 0, 0):
                full = tuple(config if k == axis else (0, 0, 0) for k in range(x.ndim))
                x = movement.pad(x, _scalar(value, x), config=full)
    return x


def _scalar(value: Any, x: Array) -> Array:
    scalar = cast(as_array(value), x.dtype)
    if scalar.ndim:
        if scalar.size != 1:
            raise ArgumentError("pad takes a single value for each edge.")
        scalar = shapes.reshape(scalar, shape=())
    return scalar


def _copied(x: Array, axis: int, width: Widths, mode: str) -> Array:
    """The modes in which each new element is a copy of an old one: NumPy says of which."""
    length, low = x.shape[axis], width[0]
    places = numpy.pad(numpy.arange(length), width, mode)  # type: ignore[call-overload]
    before, after = _runs(places[:low]), _runs(places[low + length :])
    if len(before) + len(after) > MOST_RUNS:
        return take_static(x, places, axis)
    parts = [_run(x, axis, *run) for run in before], [_run(x, axis, *run) for run in after]
    return movement.concatenate(*parts[0], x, *parts[1], axis=axis)


MOST_RUNS = 8  # parts that are joined; more, of a short axis that is padded with many copies of itself, are looked up


def _runs(places: numpy.ndarray) -> list[tuple[int, int, int]]:
    """Places as runs upwards, downwards, or of one place: (first, step, how many)."""
    steps, runs, begin = numpy.diff(places), [], 0
    while begin < len(places):
        end, step = begin + 1, int(steps[begin]) if begin < len(steps) else 1
        if abs(step) <= 1:
            others = numpy.flatnonzero(steps[begin:] != step)
            end = begin + 1 + int(others[0]) if others.size else len(places)
        runs.append((int(places[begin]), step, end - begin))
        begin = end
    return runs


def _run(x: Array, axis: int, first: int, step: int, count: int) -> Array:
    if step == 0:
        shape = tuple(count if k == axis else n for k, n in enumerate(x.shape))
        return shapes.broadcast_to(piece(x, axis, first, first + 1), shape)
    if step < 0:
        return flip(piece(x, axis, first - count + 1, first + 1), axis)
    return piece(x, axis, first, first + count)


def _odd_mirror(x: Array, axis: int, width: Widths, mode: str) -> Array:
    """Mirror images that continue through the edge: twice the edge minus the mirrored element."""
    low, high = width
    skip = 1 if mode == "reflect" else 0  # whether the edge itself is left out of its image
    if x.shape[axis] == 1 and skip:
        return _copied(x, axis, width, "edge")
    while low or high:
        length = x.shape[axis]
        before, after = min(low, length - skip), min(high, length - skip)
        two = e.full((), 2, x.dtype)
        left = right = None
        if before:
            edge = piece(x, axis, 0, 1)
            left = e.sub(e.mul(two, edge), flip(piece(x, axis, skip, skip + before), axis))
        if after:
            edge = piece(x, axis, length - 1, length)
            right = e.sub(e.mul(two, edge), flip(piece(x, axis, length - skip - after, length - skip), axis))
        x = _joined(x, axis, left, right)
        low, high = low - before, high - after
    return x


def _ramp(x: Array, axis: int, width: Widths, ends: tuple[Any, Any]) -> Array:
    low, high = width
    length = x.shape[axis]
    before = _line(piece(x, axis, 0, 1), ends[0], low, axis) if low else None
    after = flip(_line(piece(x, axis, length - 1, length), ends[1], high, axis), axis) if high else None
    return _joined(x, axis, before, after)


def _line(edge: Array, end: Any, count: int, axis: int) -> Array:
    """`count` elements that go evenly from `end` towards the edge, which is not among them."""
    dtype = edge.dtype
    inexact = dtypes.is_differentiable(dtype)
    working = dtype if inexact else dtypes.float64
    shares = numpy.arange(count, dtype=numpy.float64) / count
    shape = tuple(count if k == axis else 1 for k in range(edge.ndim))
    share = ConcreteArray(shares.astype(working).reshape(shape))
    start, stop = cast(as_array(end), working), cast(edge, working)
    line = e.add(start, e.mul(share, e.sub(stop, start)))
    return cast(line if inexact else e.floor(line), dtype)


def _statistic(x: Array, axis: int, width: Widths, mode: str, counts: tuple[Any, Any]) -> Array:
    length = x.shape[axis]
    sides: list[Array | None] = []
    for size, count, is_start in [(width[0], counts[0], True), (width[1], counts[1], False)]:
        if not size:
            sides.append(None)
            continue
        count = length if count is None else min(int(count), length)
        if count < 1:
            raise ArgumentError("pad needs a stat_length of at least 1.")
        near = piece(x, axis, 0, count) if is_start else piece(x, axis, length - count, length)
        value = _summary(near, axis, mode)
        shape = tuple(size if k == axis else n for k, n in enumerate(x.shape))
        sides.append(shapes.broadcast_to(value, shape))
    return _joined(x, axis, *sides)


def _summary(near: Array, axis: int, mode: str) -> Array:
    """The statistic of elements along an axis, which stays with length one."""
    shape = tuple(1 if k == axis else n for k, n in enumerate(near.shape))
    if mode in ("maximum", "minimum"):
        reduce = reduce_max if mode == "maximum" else reduce_min
        return shapes.reshape(reduce(near, axes=(axis,)), shape=shape)
    dtype, count = near.dtype, near.shape[axis]
    inexact = dtypes.is_differentiable(dtype)
    values = near if inexact else cast(near, dtypes.float64)
    if mode == "median":
        (values,) = sort_p(values, axis=axis, num_keys=1)
        values = piece(values, axis, (count - 1) // 2, count // 2 + 1)
        count = values.shape[axis]
    total = shapes.reshape(shapes.reduce_sum(values, axes=(axis,)), shape=shape)
    mean = e.div(*promote(total, float(count)))
    return mean if inexact else cast(e.round_(mean), dtype)
