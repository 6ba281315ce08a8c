"""The functions of `fg.lax` that make arrays, change their shape, and move elements, with JAX's signatures."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

from funcgrad import dtypes
from funcgrad.array import Array, as_array
from funcgrad.errors import ArgumentError, OutOfBoundsError, ShapeError
from funcgrad.lax.elementwise import match
from funcgrad.numpy.axes import as_shape, normalize_axes, normalize_axis
from funcgrad.primitives import elementwise as e
from funcgrad.primitives import gathering, movement, shapes
from funcgrad.primitives.operators import cast

builtin_slice = slice  # which a function of this file is named like

# Making arrays


def full(shape: Sequence[int], fill_value: Any, dtype: Any = None) -> Array:
    """An array that holds one value everywhere; it takes the memory of one element.

    Arguments:
        shape: a tuple of lengths.
        fill_value: a scalar.
        dtype: by default that of the value.

    Example:
        >>> import funcgrad as fg
        >>> fg.lax.full((2,), 7.0)
        Array([7., 7.], dtype=float32)
    """
    value = as_array(fill_value)
    if value.ndim:
        raise ShapeError(f"full takes a scalar as fill_value, not an array of shape {value.shape}; use broadcast.")
    value = cast(value, value.dtype if dtype is None else dtypes.canonical(dtype))
    return shapes.broadcast_in_dim(value, shape=as_shape("full", shape), axes=())


def full_like(x: Any, fill_value: Any, dtype: Any = None, shape: Sequence[int] | None = None) -> Array:
    """An array that holds one value everywhere, with the shape and dtype of `x` unless others are given.

    Example:
        >>> import funcgrad as fg
        >>> fg.lax.full_like(fg.array([1, 2]), 5)
        Array([5, 5], dtype=int32)
    """
    x = as_array(x)
    return full(x.shape if shape is None else shape, fill_value, x.dtype if dtype is None else dtype)


def iota(dtype: Any, size: int) -> Array:
    """The numbers 0, 1, ..., size - 1.

    Example:
        >>> import funcgrad as fg
        >>> fg.lax.iota(fg.int32, 3)
        Array([0, 1, 2], dtype=int32)
    """
    return broadcasted_iota(dtype, (size,), 0)


def broadcasted_iota(dtype: Any, shape: Sequence[int], dimension: int) -> Array:
    """An array whose elements count along one axis.

    Example:
        >>> import funcgrad as fg
        >>> fg.lax.broadcasted_iota(fg.int32, (2, 3), 1)
        Array([[0, 1, 2],
               [0, 1, 2]], dtype=int32)
    """
    shape = as_shape("broadcasted_iota", shape)
    axis = normalize_axis("broadcasted_iota", dimension, len(shape))
    return movement.iota(shape=shape, dtype=dtypes.canonical(dtype), axis=axis)


# Changing the shape


def reshape(operand: Any, new_sizes: Sequence[int], dimensions: Sequence[int] | None = None) -> Array:
    """The elements in row-major order, in another shape.

    Arguments:
        operand: an array.
        new_sizes: lengths whose product is the number of elements.
        dimensions: an order into which the axes are brought first.

    Raises:
        ShapeError: if the number of elements would change.

    Example:
        >>> import funcgrad as fg
        >>> fg.lax.reshape(fg.array([[1, 2], [3, 4]]), (4,), dimensions=(1, 0))
        Array([1, 3, 2, 4], dtype=int32)
    """
    x = as_array(operand)
    if dimensions is not None:
        x = transpose(x, dimensions)
    return shapes.reshape(x, shape=as_shape("reshape", new_sizes))


def transpose(operand: Any, permutation: Sequence[int]) -> Array:
    """The axes in another order: axis i of the result is axis `permutation[i]` of the operand.

    Example:
        >>> import funcgrad as fg
        >>> fg.lax.transpose(fg.array([[1, 2], [3, 4]]), (1, 0))
        Array([[1, 3],
               [2, 4]], dtype=int32)
    """
    x = as_array(operand)
    return shapes.transpose(x, permutation=normalize_axes("transpose", tuple(permutation), x.ndim))


def broadcast(operand: Any, sizes: Sequence[int]) -> Array:
    """The operand repeated along new axes in front, of the given sizes.

    Example:
        >>> import funcgrad as fg
        >>> fg.lax.broadcast(fg.array([1, 2]), (3,)).shape
        (3, 2)
    """
    x = as_array(operand)
    sizes = as_shape("broadcast", sizes)
    return broadcast_in_dim(x, (*sizes, *x.shape), range(len(sizes), len(sizes) + x.ndim))


def broadcast_in_dim(operand: Any, shape: Sequence[int], broadcast_dimensions: Sequence[int]) -> Array:
    """The operand repeated to fill `shape`: its axis i becomes axis `broadcast_dimensions[i]` of the result.

    Raises:
        ShapeError: if a length is neither the new one nor 1.

    Example:
        >>> import funcgrad as fg
        >>> fg.lax.broadcast_in_dim(fg.array([1, 2]), (2, 3), (0,))
        Array([[1, 1, 1],
               [2, 2, 2]], dtype=int32)
    """
    shape = as_shape("broadcast_in_dim", shape)
    axes = normalize_axes("broadcast_in_dim", tuple(broadcast_dimensions), len(shape))
    return shapes.broadcast_in_dim(as_array(operand), shape=shape, axes=axes)


def expand_dims(array: Any, dimensions: Sequence[int]) -> Array:
    """Axes of length one put in; `dimensions` says where they are in the result.

    Example:
        >>> import funcgrad as fg
        >>> fg.lax.expand_dims(fg.array([1, 2]), (0, 2)).shape
        (1, 2, 1)
    """
    x = as_array(array)
    ndim = x.ndim + len(dimensions)
    new = normalize_axes("expand_dims", tuple(dimensions), ndim)
    lengths = iter(x.shape)
    return shapes.reshape(x, shape=tuple(1 if axis in new else next(lengths) for axis in range(ndim)))


def squeeze(array: Any, dimensions: Sequence[int]) -> Array:
    """Axes of length one left out.

    Raises:
        ShapeError: if one of them has another length.

    Example:
        >>> import funcgrad as fg
        >>> fg.lax.squeeze(fg.array([[1, 2]]), (0,))
        Array([1, 2], dtype=int32)
    """
    x = as_array(array)
    gone = normalize_axes("squeeze", tuple(dimensions), x.ndim)
    for axis in gone:
        if x.shape[axis] != 1:
            raise ShapeError(
                f"squeeze leaves out axes of length 1, and axis {axis} of shape {x.shape} has length {x.shape[axis]}."
            )
    return shapes.reshape(x, shape=tuple(n for axis, n in enumerate(x.shape) if axis not in gone))


def collapse(operand: Any, start_dimension: int, stop_dimension: int | None = None) -> Array:
    """The axes from `start_dimension` up to but without `stop_dimension` made into one.

    Example:
        >>> import funcgrad as fg
        >>> fg.lax.collapse(fg.lax.full((2, 3, 4), 0), 0, 2).shape
        (6, 4)
    """
    x = as_array(operand)
    start, stop, _ = builtin_slice(start_dimension, stop_dimension, None).indices(x.ndim)
    if start >= stop:
        raise ShapeError(f"collapse got no axes between {start_dimension} and {stop_dimension}; name at least one.")
    return shapes.reshape(x, shape=(*x.shape[:start], math.prod(x.shape[start:stop]), *x.shape[stop:]))


# Taking parts, at places that are fixed


def slice(
    operand: Any, start_indices: Sequence[int], limit_indices: Sequence[int], strides: Sequence[int] | None = None
) -> Array:
    """A block of an array: along every axis the elements `start`, `start + stride`, ... before `limit`.

    Raises:
        ShapeError: if the block is not inside of the array.

    Example:
        >>> import funcgrad as fg
        >>> fg.lax.slice(fg.array([0, 1, 2, 3, 4]), (1,), (5,), (2,))
        Array([1, 3], dtype=int32)
    """
    starts, limits = tuple(map(operator.index, start_indices)), tuple(map(operator.index, limit_indices))
    steps = (1,) * len(starts) if strides is None else tuple(map(operator.index, strides))
    return movement.slice_(as_array(operand), starts=starts, limits=limits, strides=steps)


def slice_in_dim(
    operand: Any, start_index: int | None, limit_index: int | None, stride: int = 1, axis: int = 0
) -> Array:
    """A slice along one axis; negative places count from the end, None is the end.

    Example:
        >>> import funcgrad as fg
        >>> fg.lax.slice_in_dim(fg.array([0, 1, 2, 3, 4]), 1, -1)
        Array([1, 2, 3], dtype=int32)
    """
    x = as_array(operand)
    axis = normalize_axis("slice_in_dim", axis, x.ndim)
    length = x.shape[axis]
    start = 0 if start_index is None else operator.index(start_index)
    limit = length if limit_index is None else operator.index(limit_index)
    start, limit = (place + length if place < 0 else place for place in (start, limit))
    return movement.slice_axis(x, start, limit, axis, operator.index(stride))


def index_in_dim(operand: Any, index: int, axis: int = 0, keepdims: bool = True) -> Array:
    """The part at one place along an axis; negative places count from the end.

    Raises:
        OutOfBoundsError: if there is no such place.

    Example:
        >>> import funcgrad as fg
        >>> fg.lax.index_in_dim(fg.array([[1, 2], [3, 4]]), -1, keepdims=False)
        Array([3, 4], dtype=int32)
    """
    x = as_array(operand)
    axis, place = normalize_axis("index_in_dim", axis, x.ndim), operator.index(index)
    length = x.shape[axis]
    if not -length <= place < length:
        raise OutOfBoundsError(f"index {place} is out of bounds for axis {axis} of shape {x.shape}.")
    x = movement.slice_axis(x, place % length, place % length + 1, axis)
    return x if keepdims else squeeze(x, (axis,))


def split(operand: Any, sizes: Sequence[int], axis: int = 0) -> list[Array]:
    """An array cut along an axis into parts of the given sizes, which must add up to its length.

    Example:
        >>> import funcgrad as fg
        >>> fg.lax.split(fg.array([1, 2, 3]), (1, 2))
        [Array([1], dtype=int32), Array([2, 3], dtype=int32)]
    """
    x = as_array(operand)
    axis = normalize_axis("split", axis, x.ndim)
    if sum(sizes) != x.shape[axis] or any(size < 0 for size in sizes):
        raise ShapeError(
            f"split got sizes {tuple(sizes)} for axis {axis} of length {x.shape[axis]}; they must add up to it."
        )
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return [movement.slice_axis(x, end - size, end, axis) for size, end in zip(sizes, ends, strict=True)]


# Taking and replacing parts, at places that are values. A negative place counts from the end, and a block that would
# stick out is moved until it fits.


def _starts(x: Array, start_indices: Any) -> list[Array]:
    if isinstance(start_indices, Array):
        places = [squeeze(index_in_dim(start_indices, i), (0,)) for i in range(start_indices.shape[0])]
    else:
        places = [as_array(start) for start in start_indices]
    if len(places) != x.ndim:
        raise ShapeError(f"{len(places)} start indices were given for an array of {x.ndim} axes; give one an axis.")
    return [_from_start(place, length) for place, length in zip(places, x.shape, strict=True)]


def _from_start(place: Array, length: int) -> Array:
    if place.dtype.kind != "i":
        return place
    if place.dtype.itemsize < 4:
        place = cast(place, dtypes.int32)
    zero, count = e.full((), 0, place.dtype), e.full((), length, place.dtype)
    return e.select(e.lt(place, zero), e.add(place, count), place)


def dynamic_slice(operand: Any, start_indices: Any, slice_sizes: Sequence[int]) -> Array:
    """A block of a fixed size, at a place that may be traced.

    Arguments:
        operand: an array.
        start_indices: where the block starts: a sequence of integer scalars, or an integer array of one axis.
        slice_sizes: the shape of the block.

    Returns:
        The block. Where it would stick out of the operand it is moved until it fits.

    Example:
        >>> import funcgrad as fg
        >>> fg.lax.dynamic_slice(fg.array([0, 1, 2, 3, 4]), (1,), (3,))
        Array([1, 2, 3], dtype=int32)
    """
    x = as_array(operand)
    return movement.dynamic_slice(x, *_starts(x, start_indices), sizes=as_shape("dynamic_slice", slice_sizes))


def dynamic_slice_in_dim(operand: Any, start_index: Any, slice_size: int, axis: int = 0) -> Array:
    """`dynamic_slice` along one axis, all of the others.

    Example:
        >>> import funcgrad as fg
        >>> fg.lax.dynamic_slice_in_dim(fg.array([0, 1, 2, 3, 4]), -2, 2)
        Array([3, 4], dtype=int32)
    """
    x = as_array(operand)
    axis = normalize_axis("dynamic_slice_in_dim", axis, x.ndim)
    sizes = (*x.shape[:axis], operator.index(slice_size), *x.shape[axis + 1 :])
    return movement.dynamic_slice(x, *_one_start(x, start_index, axis), sizes=sizes)


def _one_start(x: Array, start_index: Any, axis: int) -> list[Array]:
    starts: list[Array] = [e.full((), 0, dtypes.int32)] * x.ndim
    starts[axis] = _from_start(as_array(start_index), x.shape[axis])
    return starts


def dynamic_index_in_dim(operand: Any, index: Any, axis: int = 0, keepdims: bool = True) -> Array:
    """The part at one place along an axis, which may be traced.

    Example:
        >>> import funcgrad as fg
        >>> fg.lax.dynamic_index_in_dim(fg.array([[1, 2], [3, 4]]), 1, keepdims=False)
        Array([3, 4], dtype=int32)
    """
    part = dynamic_slice_in_dim(operand, index, 1, axis)
    return part if keepdims else squeeze(part, (axis,))


def dynamic_update_slice(operand: Any, update: Any, start_indices: Any) -> Array:
    """The operand with a block replaced, at a place that may be traced.

    Arguments:
        operand: an array.
        update: the new block, with as many axes and the dtype of the operand.
        start_indices: where it goes: a sequence of integer scalars, or an integer array of one axis.

    Example:
        >>> import funcgrad as fg
        >>> fg.lax.dynamic_update_slice(fg.array([0, 1, 2, 3]), fg.array([8, 9]), (1,))
        Array([0, 8, 9, 3], dtype=int32)
    """
    x, update = match(operand, update)
    return movement.dynamic_update_slice(x, update, *_starts(x, start_indices))


def dynamic_update_slice_in_dim(operand: Any, update: Any, start_index: Any, axis: int) -> Array:
    """`dynamic_update_slice` that starts at the beginning of all axes but one.

    Example:
        >>> import funcgrad as fg
        >>> fg.lax.dynamic_update_slice_in_dim(fg.array([0, 1, 2, 3]), fg.array([8, 9]), 2, axis=0)
        Array([0, 1, 8, 9], dtype=int32)
    """
    x, update = match(operand, update)
    axis = normalize_axis("dynamic_update_slice_in_dim", axis, x.ndim)
    return movement.dynamic_update_slice(x, update, *_one_start(x, start_index, axis))


def dynamic_update_index_in_dim(operand: Any, update: Any, index: Any, axis: int) -> Array:
    """The operand with the part at one place along an axis replaced; the update may lack that axis.

    Example:
        >>> import funcgrad as fg
        >>> fg.lax.dynamic_update_index_in_dim(fg.array([[1, 2], [3, 4]]), fg.array([8, 9]), 0, axis=0)
        Array([[8, 9],
               [3, 4]], dtype=int32)
    """
    x, update = match(operand, update)
    axis = normalize_axis("dynamic_update_index_in_dim", axis, x.ndim)
    if update.ndim == x.ndim - 1:
        update = expand_dims(update, (axis,))
    return dynamic_update_slice_in_dim(x, update, index, axis)


def index_take(src: Any, idxs: Sequence[Any], axes: Sequence[int]) -> Array:
    """The parts of an array at integer indices along some axes; indices out of bounds are clipped.

    Arguments:
        src: an array.
        idxs: one integer array an axis, all of one shape.
        axes: the axes that they index.

    Returns:
        An array with the axes of the index arrays, then those of `src` that are left.

    Example:
        >>> import funcgrad as fg
        >>> fg.lax.index_take(fg.array([10, 20, 30]), [fg.array([2, 0])], (0,))
        Array([30, 10], dtype=int32)
    """
    x = as_array(src)
    axes = normalize_axes("index_take", tuple(axes), x.ndim)
    return gathering.gather(x, *map(as_array, idxs), axes=axes, mode="clip")


# Joining, padding, reversing


def concatenate(operands: Sequence[Any] | Array, dimension: int) -> Array:
    """Arrays of one dtype joined along an axis that they have.

    Example:
        >>> import funcgrad as fg
        >>> fg.lax.concatenate([fg.array([1]), fg.array([2, 3])], 0)
        Array([1, 2, 3], dtype=int32)
    """
    arrays = match(*operands) if len(operands) else []
    if not arrays:
        raise ArgumentError("concatenate needs at least one array.")
    return movement.concatenate(*arrays, axis=normalize_axis("concatenate", dimension, arrays[0].ndim))


def pad(operand: Any, padding_value: Any, padding_config: Sequence[tuple[int, int, int]]) -> Array:
    """An array with `padding_value` put before, after and between its elements.

    Arguments:
        operand: an array.
        padding_value: a scalar of its dtype.
        padding_config: for each axis how many go before, after, and between each two neighbours. Negative numbers
            before and after take elements away.

    Raises:
        ShapeError: if more elements are taken away than there are.

    Example:
        >>> import funcgrad as fg
        >>> fg.lax.pad(fg.array([1, 2, 3]), 0, [(2, -1, 1)])
        Array([0, 0, 1, 0, 2, 0], dtype=int32)
    """
    x, value = match(operand, padding_value)
    config = tuple((operator.index(a), operator.index(b), operator.index(c)) for a, b, c in padding_config)
    return movement.pad(x, value, config=config)


def rev(operand: Any, dimensions: Sequence[int]) -> Array:
    """The elements in reversed order along some axes.

    Example:
        >>> import funcgrad as fg
        >>> fg.lax.rev(fg.array([1, 2, 3]), (0,))
        Array([3, 2, 1], dtype=int32)
    """
    x = as_array(operand)
    return movement.rev(x, axes=normalize_axes("rev", tuple(dimensions), x.ndim))
