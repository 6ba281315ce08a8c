"""Moving elements about without computing: slices, padding, joining, reversing; at fixed places and at traced ones.

All are linear. A slice and a pad are each other's transposes, and so are reading a block and writing one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funcgrad import dtypes
from funcgrad.array import AbstractArray, Array
from funcgrad.core import Primitive
from funcgrad.devices import array_module
from funcgrad.errors import DtypeError, ShapeError
from funcgrad.primitives.counting import iota, positions
from funcgrad.primitives.elementwise import add, convert, full, instantiate, is_linear, max_, min_, select, zeros_like
from funcgrad.primitives.gathering import gather_batch, shift_axes
from funcgrad.primitives.indexing import scatter_set
from funcgrad.primitives.shapes import (
    broadcast_in_dim,
    check_axes,
    linear_jvp,
    reduce_sum,
    reshape,
    to_front,
    transpose,
)

# slice: the elements starts, starts + strides, ... before limits, along every axis


def _slice_abstract(x, *, starts, limits, strides):
    bounds = list(zip(starts, limits, strides, strict=False))
    fits = len(starts) == len(limits) == len(strides) == len(x.shape)
    if not fits or any(not (0 <= a <= b <= n and s > 0) for (a, b, s), n in zip(bounds, x.shape, strict=True)):
        raise ShapeError(
            f"slice got starts {starts}, limits {limits} and strides {strides} for an array of shape {tuple(x.shape)}; "
            "give one of each an axis, with 0 <= start <= limit <= length and a positive stride."
        )
    return AbstractArray(tuple(-(-(b - a) // s) for a, b, s in bounds), x.dtype)


def _slice_evaluate(x, *, starts, limits, strides):
    bounds = []
    for start, limit, stride, length in zip(starts, limits, strides, x.shape, strict=True):
        if not 0 <= start <= limit <= length or stride <= 0:
            raise ValueError("slice out of bounds")
        bounds.append(slice(start, limit, stride))
    return x[tuple(bounds)]


def _slice_transpose(cotangent, x, *, starts, limits, strides):
    config = []
    for start, stride, taken, length in zip(starts, strides, cotangent.shape, x.shape, strict=True):
        end = start + (taken - 1) * stride + 1 if taken else start
        config.append((start, length - end, stride - 1))
    return [pad(cotangent, full((), 0, cotangent.dtype), config=tuple(config))]


def _slice_batch(size, operands, axes, *, starts, limits, strides):
    (x,), (axis,) = operands, axes
    starts, limits, strides = (
        (*values[:axis], own, *values[axis:]) for values, own in ((starts, 0), (limits, size), (strides, 1))
    )
    return slice_(x, starts=starts, limits=limits, strides=strides), axis


slice_ = Primitive(
    "slice", abstract=_slice_abstract, evaluate=_slice_evaluate, transpose=_slice_transpose, batch=_slice_batch
)
slice_.jvp = linear_jvp(slice_)


def slice_axis(x: Array, start: int, limit: int, axis: int, stride: int = 1) -> Array:
    """A slice along one axis, all of the others."""
    starts, limits, strides = [0] * x.ndim, list(x.shape), [1] * x.ndim
    starts[axis], limits[axis], strides[axis] = start, limit, stride
    return slice_(x, starts=tuple(starts), limits=tuple(limits), strides=tuple(strides))


# pad: `config` gives for each axis how many elements are put before, after, and between; before and after may be
# negative, which takes elements away


def _padded_length(length: int, low: int, high: int, interior: int) -> int:
    return low + length + max(length - 1, 0) * interior + high


def _pad_abstract(x, padding_value, *, config):
    if padding_value.shape:
        raise ShapeError(f"pad takes one number as padding_value, not an array of shape {tuple(padding_value.shape)}.")
    if x.dtype is not padding_value.dtype:
        raise DtypeError(
            f"pad got a padding_value of {padding_value.dtype.name} for an array of {x.dtype.name}; convert it."
        )
    if len(config) != len(x.shape):
        raise ShapeError(f"pad got {len(config)} entries of config for {len(x.shape)} axes; give one an axis.")
    shape = tuple(_padded_length(n, *entry) for n, entry in zip(x.shape, config, strict=True))
    if any(length < 0 for length in shape) or any(interior < 0 for _, _, interior in config):
        raise ShapeError(
            f"pad cannot take more elements away than there are: {config} would turn the shape {tuple(x.shape)} into "
            f"{shape}; use smaller negative amounts, and none between elements."
        )
    return AbstractArray(shape, x.dtype)


def _pad_evaluate(x, padding_value, *, config):
    if padding_value.ndim or padding_value.dtype is not x.dtype:
        raise ValueError("padding_value does not fit")
    shape, taken, places = [], [], []
    for length, (low, high, interior) in zip(x.shape, config, strict=True):
        if interior < 0:
            raise ValueError("negative interior padding")
        new, step = _padded_length(length, low, high, interior), interior + 1
        # Element i goes to low + i * step; these are the elements that stay inside.
        first = max(0, -(low // step))
        count = max(0, min(length, -((low - new) // step)) - first)
        shape.append(new)
        taken.append(slice(first, first + count))
        place = low + first * step
        places.append(slice(place, place + count * step, step) if count else slice(0, 0))
    result = array_module(x).full(shape, padding_value, x.dtype)
    result[tuple(places)] = x[tuple(taken)]
    return result


def _pad_jvp(primals, tangents, *, config):
    given = [instantiate(t, x) for t, x in zip(tangents, primals, strict=True)]
    return pad(*primals, config=config), pad(*given, config=config)


def _is_padding(x: Any, config) -> Array:
    """Where the padded array holds the padding value."""
    inside, outside = full(x.shape, False, dtypes.bool_), full((), True, dtypes.bool_)
    return pad(inside, outside, config=config)


def _pad_transpose(cotangent, x, padding_value, *, config):
    of_x = of_padding = None
    zero = full((), 0, cotangent.dtype)
    if is_linear(x):
        of_x = pad(cotangent, zero, config=tuple((-low, -high, 0) for low, high, _ in config))
        if any(interior for _, _, interior in config):
            strides = tuple(interior + 1 for _, _, interior in config)
            of_x = slice_(of_x, starts=(0,) * len(config), limits=of_x.shape, strides=strides)
    if is_linear(padding_value):
        of_padding = select(_is_padding(x, config), cotangent, zero)
        of_padding = reduce_sum(of_padding, axes=tuple(range(of_padding.ndim)))
    return [of_x, of_padding]


def _pad_batch(size, operands, axes, *, config):
    (x, padding_value), (x_axis, value_axis) = operands, axes
    if value_axis is None:
        return pad(x, padding_value, config=(*config[:x_axis], (0, 0, 0), *config[x_axis:])), x_axis
    # Each example has a padding value of its own: pad with anything, and put the values in.
    x = to_front(x, x_axis, size)
    config = ((0, 0, 0), *config)
    padded = pad(x, full((), 0, x.dtype), config=config)
    return select(_is_padding(x, config), reshape(padding_value, shape=(size, *(1,) * (x.ndim - 1))), padded), 0


pad = Primitive(
    "pad",
    abstract=_pad_abstract,
    evaluate=_pad_evaluate,
    jvp=_pad_jvp,
    transpose=_pad_transpose,
    batch=_pad_batch,
)

# concatenate


def _concatenate_abstract(*operands, axis):
    if not operands:
        raise ShapeError("concatenate needs at least one array.")
    first = operands[0]
    ndim = len(first.shape)
    if not 0 <= axis < ndim:
        raise ShapeError(f"concatenate got axis {axis} for arrays of {ndim} axes; name an axis that they have.")
    others = [tuple(n for a, n in enumerate(x.shape) if a != axis) for x in operands]
    if any(len(x.shape) != ndim for x in operands) or len(set(others)) > 1:
        shapes = " and ".join(str(tuple(x.shape)) for x in operands)
        raise ShapeError(f"concatenate got shapes {shapes}; along all axes but {axis} they must be equal.")
    for x in operands:
        if x.dtype is not first.dtype:
            raise DtypeError(
                f"concatenate got arrays of {first.dtype.name} and {x.dtype.name}; convert one with x.astype(...)."
            )
    length = sum(x.shape[axis] for x in operands)
    return AbstractArray((*first.shape[:axis], length, *first.shape[axis + 1 :]), first.dtype)


def _concatenate_evaluate(*operands, axis):
    dtype = operands[0].dtype
    for x in operands:
        if x.dtype is not dtype:
            raise TypeError("dtypes differ")
    if axis < 0:
        raise ValueError("negative axis")
    module = array_module(operands[0])
    if all(x.flags.c_contiguous for x in operands):
        return module.concatenate(operands, axis)
    # Else NumPy would choose an order of axes like that of the operands; results of joining lie row by row.
    return module.ascontiguousarray(module.concatenate(operands, axis))


def _concatenate_jvp(primals, tangents, *, axis):
    given = [instantiate(t, x) for t, x in zip(tangents, primals, strict=True)]
    return concatenate(*primals, axis=axis), concatenate(*given, axis=axis)


def _concatenate_transpose(cotangent, *operands, axis):
    cotangents, start = [], 0
    for x in operands:
        limit = start + x.shape[axis]
        cotangents.append(slice_axis(cotangent, start, limit, axis) if is_linear(x) else None)
        start = limit
    return cotangents


def _concatenate_batch(size, operands, axes, *, axis):
    fronted = [to_front(x, a, size) for x, a in zip(operands, axes, strict=True)]
    return concatenate(*fronted, axis=axis + 1), 0


concatenate = Primitive(
    "concatenate",
    abstract=_concatenate_abstract,
    evaluate=_concatenate_evaluate,
    jvp=_concatenate_jvp,
    transpose=_concatenate_transpose,
    batch=_concatenate_batch,
)

# rev: the elements in reversed order along `axes`


def _rev_abstract(x, *, axes):
    check_axes("rev", axes, len(x.shape))
    return AbstractArray(tuple(x.shape), x.dtype)


def _rev_evaluate(x, *, axes):
    backwards = [slice(None)] * x.ndim
    for axis in axes:
        if axis < 0 or backwards[axis].step:
            raise ValueError("no such axis, or one named twice")
        backwards[axis] = slice(None, None, -1)
    return x[tuple(backwards)]


rev = Primitive(
    "rev",
    abstract=_rev_abstract,
    evaluate=_rev_evaluate,
    transpose=lambda cotangent, x, *, axes: [rev(cotangent, axes=axes)],
    batch=lambda size, operands, batch_axes, *, axes: (
        rev(*operands, axes=shift_axes(axes, batch_axes[0])),
        batch_axes[0],
    ),
)
rev.jvp = linear_jvp(rev)

# dynamic_slice and dynamic_update_slice: a block of fixed size whose place is a value. A place from which the block
# would stick out is moved until it fits, as in JAX.


def _check_block(name: str, x: Any, sizes: Sequence[int], starts: Sequence[Any]) -> None:
    if len(starts) != len(x.shape) or len(sizes) != len(x.shape):
        raise ShapeError(
            f"{name} got {len(starts)} starts and a block of {len(sizes)} axes for an array of {len(x.shape)}; "
            "give one an axis."
        )
    if any(not 0 <= size <= length for size, length in zip(sizes, x.shape, strict=True)):
        raise ShapeError(f"{name} got a block of shape {tuple(sizes)}, larger than the array's {tuple(x.shape)}.")
    for start in starts:
        if start.shape or not dtypes.is_integer(start.dtype):
            raise DtypeError(
                f"{name} takes integer scalars as starts, not {start.dtype.name} of shape {tuple(start.shape)}."
            )


def _block(x, starts, sizes) -> tuple[slice, ...]:
    block = []
    for start, size, length in zip(starts, sizes, x.shape, strict=True):
        if start.ndim or start.dtype.kind not in "iu" or not 0 <= size <= length:
            raise ValueError("block does not fit")
        first = min(max(int(start), 0), length - size)
        block.append(slice(first, first + size))
    return tuple(block)


def _block_indices(size: int, x_shape: Sequence[int], sizes: Sequence[int], starts: Sequence[Array]):
    """The axes along which a block is smaller than the array, and the indices that each example's block has there."""
    axes = tuple(axis for axis, length in enumerate(x_shape) if sizes[axis] != length)
    shape = (size, *(sizes[axis] for axis in axes))
    indices = []
    for place, axis in enumerate(axes):
        start = starts[axis]
        if start.dtype.itemsize < 4:  # a narrow integer may not hold the length to compare with
            start = convert(start, dtype=dtypes.int32)
        lowest, highest = full((), 0, start.dtype), full((), x_shape[axis] - sizes[axis], start.dtype)
        start = min_(max_(start, lowest), highest)
        start = broadcast_in_dim(start, shape=shape, axes=(0,) if start.ndim else ())
        indices.append(add(start, iota(shape=shape, dtype=start.dtype, axis=place + 1)))
    return axes, indices


def _slot(starts: Sequence[Array], axis: int) -> list[Array]:
    return [*starts[:axis], full((), 0, dtypes.int32), *starts[axis:]]


def _dynamic_slice_abstract(x, *starts, sizes):
    _check_block("dynamic_slice", x, sizes, starts)
    return AbstractArray(tuple(sizes), x.dtype)


def _dynamic_slice_jvp(primals, tangents, *, sizes):
    return dynamic_slice(*primals, sizes=sizes), dynamic_slice(tangents[0], *primals[1:], sizes=sizes)


def _dynamic_slice_transpose(cotangent, x, *starts, sizes):
    return [dynamic_update_slice(zeros_like(x), cotangent, *starts), *[None] * len(starts)]


def _dynamic_slice_batch(size, operands, axes, *, sizes):
    (x, *starts), (x_axis, *start_axes) = operands, axes
    if all(axis is None for axis in start_axes):
        sizes = (*sizes[:x_axis], size, *sizes[x_axis:])
        return dynamic_slice(x, *_slot(starts, x_axis), sizes=sizes), x_axis
    shape = tuple(n for axis, n in enumerate(x.shape) if axis != x_axis)
    indexed, indices = _block_indices(size, shape, sizes, starts)
    if not indexed:  # the block is the whole array
        return x, x_axis
    result, _ = gather_batch(size, [x, *indices], [x_axis, *[0] * len(indices)], axes=indexed, mode="promise_in_bounds")
    order = [*indexed, *(axis for axis in range(len(sizes)) if axis not in indexed)]
    return transpose(result, permutation=(0, *(order.index(axis) + 1 for axis in range(len(sizes))))), 0


dynamic_slice = Primitive(
    "dynamic_slice",
    abstract=_dynamic_slice_abstract,
    evaluate=lambda x, *starts, sizes: x[_block(x, starts, sizes)],
    jvp=_dynamic_slice_jvp,
    transpose=_dynamic_slice_transpose,
    batch=_dynamic_slice_batch,
)


def _dynamic_slice_transpose_into(total, cotangent, x, *starts, sizes):
    return dynamic_update_slice(total, add(dynamic_slice(total, *starts, sizes=sizes), cotangent), *starts)


dynamic_slice.transpose_into = _dynamic_slice_transpose_into


def _dynamic_update_abstract(x, update, *starts):
    _check_block("dynamic_update_slice", x, update.shape, starts)
    if x.dtype is not update.dtype:
        raise DtypeError(
            f"dynamic_update_slice got an update of {update.dtype.name} for an array of {x.dtype.name}; convert one."
        )
    return AbstractArray(tuple(x.shape), x.dtype)


def _dynamic_update_evaluate(x, update, *starts):
    if x.dtype is not update.dtype:
        raise TypeError("dtypes differ")
    block = _block(x, starts, update.shape)
    result = x.copy()
    result[block] = update
    return result


def _dynamic_update_jvp(primals, tangents):
    x, update, *starts = primals
    s, t = instantiate(tangents[0], x), instantiate(tangents[1], update)
    return dynamic_update_slice(*primals), dynamic_update_slice(s, t, *starts)


def _dynamic_update_transpose(cotangent, x, update, *starts):
    return [
        dynamic_update_slice(cotangent, zeros_like(update), *starts) if is_linear(x) else None,
        dynamic_slice(cotangent, *starts, sizes=tuple(update.shape)) if is_linear(update) else None,
        *[None] * len(starts),
    ]


def _dynamic_update_batch(size, operands, axes):
    (x, update, *starts), (x_axis, update_axis, *start_axes) = operands, axes
    x, update = to_front(x, x_axis, size), to_front(update, update_axis, size)
    if all(axis is None for axis in start_axes):
        return dynamic_update_slice(x, update, *_slot(starts, 0)), 0
    indexed, indices = _block_indices(size, x.shape[1:], update.shape[1:], starts)
    if not indexed:  # everything is replaced
        return update, 0
    numbers = iota(shape=indices[0].shape, dtype=dtypes.int32, axis=0)
    order = (*indexed, *(axis for axis in range(update.ndim - 1) if axis not in indexed))
    update = transpose(update, permutation=(0, *(axis + 1 for axis in order)))
    axes = (0, *(axis + 1 for axis in indexed))
    return scatter_set(x, update, numbers, *indices, axes=axes, mode="promise_in_bounds"), 0


dynamic_update_slice = Primitive(
    "dynamic_update_slice",
    abstract=_dynamic_update_abstract,
    evaluate=_dynamic_update_evaluate,
    jvp=_dynamic_update_jvp,
    transpose=_dynamic_update_transpose,
    batch=_dynamic_update_batch,
)

__all__ = [
    "concatenate",
    "dynamic_slice",
    "dynamic_update_slice",
    "iota",
    "pad",
    "positions",
    "rev",
    "slice_",
    "slice_axis",
]
