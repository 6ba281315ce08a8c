"""Changing the shape of arrays: reshaping, moving axes, broadcasting, repeating, reversing, rolling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy

from funcgrad import dtypes
from funcgrad.array import Array, ConcreteArray, as_array
from funcgrad.core import Tracer
from funcgrad.errors import ArgumentError, ShapeError, TracedValueError
from funcgrad.numpy.axes import as_integer, as_shape, normalize_axes, normalize_axis
from funcgrad.numpy.indexing import at_once, gather_or_fill, normalized
from funcgrad.primitives import elementwise as e
from funcgrad.primitives import shapes
from funcgrad.primitives.counting import iota
from funcgrad.primitives.indexing import scatter_add
from funcgrad.primitives.movement import concatenate as concatenate_p
from funcgrad.primitives.movement import rev, slice_
from funcgrad.primitives.operators import cast, mod, promote
from funcgrad.primitives.reductions import cumsum

# Reshaping


def reshape(a: Any, shape: int | Sequence[int], order: str = "C", *, copy: bool | None = None) -> Array:
    """The elements of an array in another shape.

    Arguments:
        a: an array.
        shape: the new shape; one length may be -1 and follows from the others.
        order: "C" reads and fills with the last axis fastest, "F" with the first.
        copy: has no meaning for immutable arrays; accepted for the array API standard.

    Raises:
        ShapeError: if the number of elements differs.

    Example:
        >>> import funcgrad as fg
        >>> fg.numpy.reshape(fg.numpy.arange(4), (2, -1))
        Array([[0, 1],
               [2, 3]], dtype=int32)
    """
    x = as_array(a)
    if order == "C" and at_once(x):
        try:
            return ConcreteArray(x._data.reshape(shape))
        except (TypeError, ValueError):
            pass  # what is wrong is said below
    shape = as_shape("reshape", shape)
    if -1 in shape:
        shape = _with_inferred_length(x.shape, shape)
    if order not in ("C", "F", "A"):
        raise ArgumentError(f"reshape has no order {order!r}; choose 'C' or 'F'.")
    if order == "F":
        return transpose(reshape(transpose(x), shape[::-1]))
    if shape == x.shape:
        return x
    return shapes.reshape(x, shape=shape)


def _with_inferred_length(old: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    known = math.prod(n for n in shape if n != -1)
    size = math.prod(old)
    if shape.count(-1) > 1 or not known or size % known:
        raise ShapeError(
            f"reshape cannot turn shape {old} ({size} elements) into {shape}; one length may be -1, and the others "
            "must divide the number of elements."
        )
    return tuple(size // known if n == -1 else n for n in shape)


def ravel(a: Any, order: str = "C") -> Array:
    """All elements of an array in one axis, with the last axis fastest (`order` "C") or the first ("F").

    Example:
        >>> import funcgrad.numpy as np
        >>> np.ravel(np.array([[1, 2], [3, 4]]))
        Array([1, 2, 3, 4], dtype=int32)
    """
    return reshape(a, (-1,) if math.prod(as_array(a).shape) else (0,), order)


def expand_dims(a: Any, axis: int | Sequence[int]) -> Array:
    """An array with axes of length one inserted.

    Arguments:
        a: an array.
        axis: where the new axes are in the result.

    Example:
        >>> import funcgrad as fg
        >>> fg.numpy.expand_dims(fg.numpy.zeros(3), 0).shape
        (1, 3)
    """
    x = as_array(a)
    count = len(axis) if isinstance(axis, (tuple, list)) else 1
    ndim = x.ndim + count
    axes = normalize_axes("expand_dims", axis, ndim)
    lengths = iter(x.shape)
    return shapes.reshape(x, shape=tuple(1 if k in axes else next(lengths) for k in range(ndim)))


def squeeze(a: Any, axis: int | Sequence[int] | None = None) -> Array:
    """An array without its axes of length one, or without the given ones.

    Raises:
        ShapeError: if a given axis has another length.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.squeeze(np.ones((1, 3, 1))).shape
        (3,)
    """
    x = as_array(a)
    if axis is None:
        axes: tuple[int, ...] = tuple(k for k, n in enumerate(x.shape) if n == 1)
    else:
        axes = normalize_axes("squeeze", axis, x.ndim)
    for k in axes:
        if x.shape[k] != 1:
            raise ShapeError(
                f"squeeze cannot remove axis {k} of shape {x.shape}, whose length is not 1; take one element of it "
                "with an index instead."
            )
    return shapes.reshape(x, shape=tuple(n for k, n in enumerate(x.shape) if k not in axes)) if axes else x


def atleast_1d(*arys: Any) -> Any:
    """Arrays with at least one axis: 0-dimensional ones get one. One argument gives an array, several a list.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.atleast_1d(5.0)
        Array([5.], dtype=float32)
    """
    return _each(arys, lambda x: reshape(x, (1,)) if x.ndim == 0 else x)


def atleast_2d(*arys: Any) -> Any:
    """Arrays with at least two axes; new ones come first.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.atleast_2d(np.array([1, 2]))
        Array([[1, 2]], dtype=int32)
    """
    return _each(arys, lambda x: reshape(x, (*(1,) * (2 - x.ndim), *x.shape)) if x.ndim < 2 else x)


def atleast_3d(*arys: Any) -> Any:
    """Arrays with at least three axes; a vector of length n becomes (1, n, 1), a matrix (m, n) becomes (m, n, 1).

    Example:
        >>> import funcgrad.numpy as np
        >>> np.atleast_3d(np.ones((2, 3))).shape
        (2, 3, 1)
    """

    def widen(x: Array) -> Array:
        shape = {0: (1, 1, 1), 1: (1, *x.shape, 1), 2: (*x.shape, 1)}.get(x.ndim, x.shape)
        return reshape(x, shape)

    return _each(arys, widen)


def _each(arrays: Sequence[Any], function: Any) -> Any:
    if len(arrays) == 1 and isinstance(arrays[0], (tuple, list)) and any(isinstance(x, Array) for x in arrays[0]):
        arrays = arrays[0]
    results = [function(as_array(x)) for x in arrays]
    return results[0] if len(results) == 1 else results


# Moving axes


def transpose(a: Any, axes: Sequence[int] | None = None) -> Array:
    """An array with its axes in another order; reversed without `axes`.

    Example:
        >>> import funcgrad as fg
        >>> fg.numpy.transpose(fg.numpy.zeros((2, 3, 4)), (1, 0, 2)).shape
        (3, 2, 4)
    """
    x = as_array(a)
    if axes is None and at_once(x):
        return ConcreteArray(x._data.T)
    if axes is None:
        return shapes.transpose(x, permutation=tuple(range(x.ndim - 1, -1, -1))) if x.ndim > 1 else x
    permutation = normalize_axes("transpose", tuple(axes), x.ndim)
    if permutation == tuple(range(x.ndim)):
        return x
    return shapes.transpose(x, permutation=permutation)


def permute_dims(a: Any, /, axes: Sequence[int]) -> Array:
    """`transpose`, by its name in the array API standard.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.permute_dims(np.ones((2, 3, 4)), (1, 0, 2)).shape
        (3, 2, 4)
    """
    return transpose(a, axes)


def matrix_transpose(x: Any, /) -> Array:
    """An array with its last two axes exchanged.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.matrix_transpose(np.array([[1, 2], [3, 4]]))
        Array([[1, 3],
               [2, 4]], dtype=int32)
    """
    x = as_array(x)
    if x.ndim < 2:
        raise ShapeError(f"matrix_transpose needs at least two axes, and the array has {x.ndim}.")
    return swapaxes(x, -1, -2)


def swapaxes(a: Any, axis1: int, axis2: int) -> Array:
    """An array with two axes exchanged.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.swapaxes(np.ones((2, 3, 4)), 0, 2).shape
        (4, 3, 2)
    """
    x = as_array(a)
    first, second = normalize_axis("swapaxes", axis1, x.ndim), normalize_axis("swapaxes", axis2, x.ndim)
    order = list(range(x.ndim))
    order[first], order[second] = second, first
    return transpose(x, order)


def moveaxis(a: Any, source: int | Sequence[int], destination: int | Sequence[int]) -> Array:
    """An array with some axes moved; the others keep their order.

    Arguments:
        a: an array.
        source: the axis, or axes, to move.
        destination: where each of them goes.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.moveaxis(np.ones((2, 3, 4)), 0, -1).shape
        (3, 4, 2)
    """
    x = as_array(a)
    sources = normalize_axes("moveaxis", source, x.ndim)
    destinations = normalize_axes("moveaxis", destination, x.ndim)
    if len(sources) != len(destinations):
        raise ArgumentError(f"moveaxis got {len(sources)} source axes but {len(destinations)} destinations.")
    order = [axis for axis in range(x.ndim) if axis not in sources]
    for to, axis in sorted(zip(destinations, sources, strict=True)):
        order.insert(to, axis)
    return transpose(x, order)


def rollaxis(a: Any, axis: int, start: int = 0) -> Array:
    """An array with `axis` moved to before the axis `start`.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.rollaxis(np.ones((2, 3, 4)), 2).shape
        (4, 2, 3)
    """
    x = as_array(a)
    axis = normalize_axis("rollaxis", axis, x.ndim)
    start = start + x.ndim if start < 0 else start
    if not 0 <= start <= x.ndim:
        raise ShapeError(f"rollaxis got start={start} for an array of {x.ndim} axes.")
    return moveaxis(x, axis, start - 1 if axis < start else start)


# Broadcasting


def broadcast_shapes(*shapes: int | Sequence[int]) -> tuple[int, ...]:
    """The shape that arrays of these shapes have together.

    Raises:
        ShapeError: if they do not broadcast.

    Example:
        >>> import funcgrad as fg
        >>> fg.numpy.broadcast_shapes((3, 1), (4,))
        (3, 4)
    """
    wanted = [as_shape("broadcast_shapes", shape) for shape in shapes]
    try:
        return numpy.broadcast_shapes(*wanted)
    except ValueError:
        raise ShapeError(
            f"the shapes {' and '.join(map(str, wanted))} do not broadcast; lengths must be equal or 1."
        ) from None


def broadcast_to(array: Any, shape: int | Sequence[int]) -> Array:
    """An array repeated along new axes and axes of length one until it has the given shape; takes no memory.

    Raises:
        ShapeError: if a length is neither 1 nor the new one.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.broadcast_to(np.array([1, 2]), (2, 2))
        Array([[1, 2],
               [1, 2]], dtype=int32)
    """
    x, shape = as_array(array), as_shape("broadcast_to", shape)
    if len(shape) < x.ndim or any(n not in (1, m) for n, m in zip(x.shape[::-1], shape[::-1], strict=False)):
        raise ShapeError(f"an array of shape {x.shape} cannot be broadcast to {shape}; lengths must be equal or 1.")
    return shapes.broadcast_to(x, shape)


def broadcast_arrays(*args: Any) -> list[Array]:
    """The arrays, broadcast to their common shape.

    Example:
        >>> import funcgrad.numpy as np
        >>> [x.shape for x in np.broadcast_arrays(np.ones((2, 1)), np.ones(3))]
        [(2, 3), (2, 3)]
    """
    arrays = [as_array(x) for x in args]
    shape = broadcast_shapes(*(x.shape for x in arrays))
    return [shapes.broadcast_to(x, shape) for x in arrays]


# Repeating


def tile(A: Any, reps: int | Sequence[int]) -> Array:
    """An array laid next to itself, `reps` times along each axis.

    Example:
        >>> import funcgrad as fg
        >>> fg.numpy.tile(fg.array([1, 2]), 2)
        Array([1, 2, 1, 2], dtype=int32)
    """
    x, reps = as_array(A), as_shape("tile", reps)
    ndim = max(x.ndim, len(reps))
    lengths, reps = (1,) * (ndim - x.ndim) + x.shape, (1,) * (ndim - len(reps)) + reps
    if all(n == 1 for n in reps):
        return reshape(x, lengths)
    between = shapes.reshape(x, shape=tuple(n for length in lengths for n in (1, length)))
    wide = shapes.broadcast_to(between, tuple(n for pair in zip(reps, lengths, strict=True) for n in pair))
    return shapes.reshape(wide, shape=tuple(r * n for r, n in zip(reps, lengths, strict=True)))


def repeat(a: Any, repeats: Any, axis: int | None = None, *, total_repeat_length: int | None = None) -> Array:
    """Each element, or subarray along an axis, several times in a row.

    Arguments:
        a: an array.
        repeats: how often: an integer, or an integer array with one entry an element.
        axis: along which axis; None repeats the elements of the flattened array.
        total_repeat_length: the length of the result. Needed where `repeats` is traced; a shorter result is cut off, a
            longer one repeats the last element.

    Example:
        >>> import funcgrad as fg
        >>> fg.numpy.repeat(fg.array([1, 2]), fg.array([2, 1]))
        Array([1, 1, 2], dtype=int32)
    """
    x = as_array(a)
    if axis is None:
        x, axis = ravel(x), 0
    axis = normalize_axis("repeat", axis, max(x.ndim, 1))
    x = reshape(x, (1,)) if x.ndim == 0 else x
    length = x.shape[axis]
    if isinstance(repeats, Tracer):
        if total_repeat_length is None:
            raise TracedValueError(
                "repeat with traced counts gives a result of unknown length; give total_repeat_length=n, the length "
                "that it is to have."
            )
        return _repeat_traced(x, repeats, axis, total_repeat_length)
    counts = numpy.asarray(repeats)
    if counts.dtype.kind not in "iu" or (counts.size and counts.min() < 0) or counts.ndim > 1:
        raise ArgumentError("repeat takes its counts as an integer or a 1-dimensional array of them, none negative.")
    if counts.size not in (1, length):
        raise ShapeError(f"repeat got {counts.size} counts for {length} elements along axis {axis}; give one for each.")
    if counts.size == 1 and total_repeat_length is None:
        return _repeat_evenly(x, int(counts.reshape(())), axis)
    index = numpy.repeat(numpy.arange(length), counts)
    if total_repeat_length is not None:
        missing = max(0, total_repeat_length - index.size)
        index = numpy.append(index, numpy.full(missing, length - 1))[:total_repeat_length]
    return take_static(x, index, axis)


def _repeat_evenly(x: Array, count: int, axis: int) -> Array:
    shape, after = x.shape, x.shape[axis + 1 :]
    x = shapes.reshape(x, shape=(*shape[: axis + 1], 1, *after))
    x = shapes.broadcast_to(x, (*shape[: axis + 1], count, *after))
    return shapes.reshape(x, shape=(*shape[:axis], shape[axis] * count, *after))


def _repeat_traced(x: Array, repeats: Array, axis: int, total: int) -> Array:
    counts = shapes.broadcast_to(cast(repeats, dtypes.int32), (x.shape[axis],))
    # Element k of the result is the one that comes after all whose copies end at k or before it.
    ends = cumsum(counts, axis=0, reverse=False)
    ended = scatter_add(
        e.full((total,), 0, dtypes.int32), e.full(ends.shape, 1, dtypes.int32), ends, axes=(0,), mode="drop"
    )
    return gather_along(x, cumsum(ended, axis=0, reverse=False), axis)


def take_static(x: Array, index: numpy.ndarray, axis: int) -> Array:
    """`x` at known places, all of them in range, along one axis."""
    return gather_along(x, normalized(index, x.shape[axis]), axis)


def gather_along(x: Array, index: Array, axis: int, mode: str = "clip", fill_value: Any = None) -> Array:
    """`x` at the places of an index array along one axis; the axes of the index come in its stead."""
    result = gather_or_fill(x, [index], (axis,), mode, fill_value)
    if axis == 0 or index.ndim == 0:
        return result
    rank = index.ndim
    order = (*range(rank, rank + axis), *range(rank), *range(rank + axis, result.ndim))
    return shapes.transpose(result, permutation=order)


def resize(a: Any, new_shape: int | Sequence[int]) -> Array:
    """The elements of an array in a new shape of any size: repeated from the start where there are too few.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.resize(np.array([1, 2, 3]), (2, 2))
        Array([[1, 2],
               [3, 1]], dtype=int32)
    """
    x, shape = ravel(a), as_shape("resize", new_shape)
    size = math.prod(shape)
    if size == 0 or x.shape[0] == 0:
        if size:
            raise ShapeError(f"resize cannot fill the shape {shape} from an array without elements.")
        return reshape(x[:0], shape)
    x = tile(x, -(-size // x.shape[0]))
    return reshape(slice_(x, starts=(0,), limits=(size,), strides=(1,)) if x.shape[0] > size else x, shape)


# Reversing and rolling


def flip(m: Any, axis: int | Sequence[int] | None = None) -> Array:
    """An array with the order of its elements reversed along the given axes, or all.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.flip(np.array([1, 2, 3]))
        Array([3, 2, 1], dtype=int32)
    """
    x = as_array(m)
    axes = normalize_axes("flip", axis, x.ndim)
    return rev(x, axes=axes) if axes else x


def fliplr(m: Any) -> Array:
    """An array reversed along its second axis: left becomes right.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.fliplr(np.array([[1, 2], [3, 4]]))
        Array([[2, 1],
               [4, 3]], dtype=int32)
    """
    return flip(m, 1)


def flipud(m: Any) -> Array:
    """An array reversed along its first axis: up becomes down.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.flipud(np.array([[1, 2], [3, 4]]))
        Array([[3, 4],
               [1, 2]], dtype=int32)
    """
    return flip(m, 0)


def rot90(m: Any, k: int = 1, axes: Sequence[int] = (0, 1)) -> Array:
    """An array turned by 90 degrees `k` times, from the first of the two axes towards the second.

    Example:
        >>> import funcgrad as fg
        >>> fg.numpy.rot90(fg.array([[1, 2], [3, 4]]))
        Array([[2, 4],
               [1, 3]], dtype=int32)
    """
    x = as_array(m)
    found = normalize_axes("rot90", tuple(axes), x.ndim)
    if len(found) != 2:
        raise ArgumentError(f"rot90 turns in the plane of two axes, and {len(found)} were given.")
    first, second = found
    turns = k % 4
    if turns == 0:
        return x
    if turns == 2:
        return flip(x, found)
    if turns == 1:
        return swapaxes(flip(x, second), first, second)
    return flip(swapaxes(x, first, second), second)


def roll(a: Any, shift: Any, axis: int | Sequence[int] | None = None) -> Array:
    """An array whose elements are shifted along axes; those that fall off the end come in at the start.

    Arguments:
        a: an array.
        shift: by how much, an integer or one for each axis; may be traced.
        axis: along which axes; None shifts the flattened array and restores its shape.

    Example:
        >>> import funcgrad as fg
        >>> fg.numpy.roll(fg.numpy.arange(5), 2)
        Array([3, 4, 0, 1, 2], dtype=int32)
    """
    x = as_array(a)
    if axis is None:
        return reshape(roll(ravel(x), shift, 0), x.shape)
    axes = [normalize_axis("roll", k, x.ndim) for k in (axis if isinstance(axis, (tuple, list)) else (axis,))]
    shifts = _entries(shift)
    if len(shifts) == 1:
        shifts = shifts * len(axes)
    if len(axes) == 1:
        axes = axes * len(shifts)
    if len(shifts) != len(axes):
        raise ArgumentError(f"roll got {len(shifts)} shifts for {len(axes)} axes; give one shift for each axis.")
    for k, amount in zip(axes, shifts, strict=True):
        x = _roll_axis(x, amount, k)
    return x


def _entries(shift: Any) -> list[Any]:
    if isinstance(shift, Tracer):
        return [shift] if shift.ndim == 0 else list(shift)
    if isinstance(shift, (tuple, list)):
        return list(shift)
    return list(numpy.atleast_1d(numpy.asarray(shift)))


def _roll_axis(x: Array, shift: Any, axis: int) -> Array:
    length = x.shape[axis]
    if length == 0:
        return x
    if isinstance(shift, Tracer):
        places = iota(shape=(length,), dtype=dtypes.int32, axis=0)
        index = mod(e.sub(*promote(places, shift)), length)
        return gather_along(x, index, axis)
    cut = -as_integer(shift, "the shift of roll") % length
    if cut == 0:
        return x
    return concatenate_p(piece(x, axis, cut, length), piece(x, axis, 0, cut), axis=axis)


def piece(x: Array, axis: int, start: int, limit: int) -> Array:
    """`x` from `start` up to `limit` along one axis."""
    if start == 0 and limit == x.shape[axis]:
        return x
    starts = tuple(start if k == axis else 0 for k in range(x.ndim))
    limits = tuple(limit if k == axis else n for k, n in enumerate(x.shape))
    return slice_(x, starts=starts, limits=limits, strides=(1,) * x.ndim)
