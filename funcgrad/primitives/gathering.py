"""gather and scatter_add: reading elements at given positions, and adding to elements at given positions.

They are each other's transposes: an element that is read three times on the way forward gets three cotangents added on
the way back. Both say with `axes` which axes of `x` are indexed, and take one array of integers for each of those; all
have one common shape I. What is read, and what is added, has the shape I followed by the axes of `x` that are left:

    gather(x, i, j, axes=(0, 2))[a, b, k] = x[i[a, b], k, j[a, b]]

Indices count from the start; a negative one is out of bounds. `mode` says what that means:

    "clip"               take the nearest element there is
    "fill"               of gather: read NaN, or for integers the lowest signed or highest unsigned one, or True
    "zero"               of gather: read zero; the linear part of "fill"
    "drop"               of scatters: leave this update out
    "promise_in_bounds"  it does not happen
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Any

import numpy

from funcgrad import dtypes
from funcgrad.array import AbstractArray, Array
from funcgrad.core import Primitive
from funcgrad.devices import array_module
from funcgrad.errors import ArgumentError, DtypeError, ShapeError
from funcgrad.primitives.counting import iota
from funcgrad.primitives.elementwise import instantiate, is_linear, zeros_like
from funcgrad.primitives.shapes import broadcast_in_dim, check_axes, move_axis, to_front

READ_MODES = ("clip", "fill", "zero", "promise_in_bounds")
WRITE_MODES = ("drop", "clip", "promise_in_bounds")
READ_OF_WRITE = {"drop": "zero", "clip": "clip", "promise_in_bounds": "promise_in_bounds"}
WRITE_OF_READ = {"fill": "drop", "zero": "drop", "clip": "clip", "promise_in_bounds": "promise_in_bounds"}
LINEAR_READ = {"fill": "zero", "zero": "zero", "clip": "clip", "promise_in_bounds": "promise_in_bounds"}


def left_axes(ndim: int, axes: Sequence[int]) -> tuple[int, ...]:
    """The axes that are not indexed."""
    return tuple(axis for axis in range(ndim) if axis not in axes)


def indexed_shape(name: str, x: Any, indices: Sequence[Any], axes: tuple[int, ...], mode: str) -> tuple[int, ...]:
    """The shape of what `indices` name: that of the index arrays, then the axes of `x` that are left.

    Raises:
        ShapeError, DtypeError: if axes and indices do not fit together.
    """
    check_axes(name, axes, len(x.shape))
    if len(axes) != len(indices):
        raise ShapeError(f"{name} got {len(indices)} index arrays for {len(axes)} axes; give one an axis.")
    shape = tuple(indices[0].shape) if indices else ()
    for index in indices:
        if not dtypes.is_integer(index.dtype):
            raise DtypeError(
                f"{name} needs integer indices, not {index.dtype.name}; convert them with x.astype(fg.int32)."
            )
        if tuple(index.shape) != shape:
            raise ShapeError(
                f"{name} got index arrays of shapes {shape} and {tuple(index.shape)}; broadcast them to one."
            )
    if mode in ("clip", "promise_in_bounds") and math.prod(shape) and any(x.shape[axis] == 0 for axis in axes):
        raise ShapeError(
            f"{name} cannot find an element in an array of shape {tuple(x.shape)}, which has none; "
            "give an array with elements, or no indices."
        )
    return (*shape, *(x.shape[axis] for axis in left_axes(len(x.shape), axes)))


def check_mode(name: str, mode: str, known: Sequence[str]) -> None:
    """Raise ArgumentError for a mode that `name` does not have."""
    if mode not in known:
        raise ArgumentError(f"{name} has no mode {mode!r} for indices out of bounds; choose one of {', '.join(known)}.")


# Finding rows. With the indexed axes in front, `x` is a matrix whose rows are what one tuple of indices names.


def find_rows(module: Any, indices: Sequence[Any], lengths: Sequence[int], need_inside: bool) -> tuple[Any, Any]:
    """The number of the row that each tuple of indices names, clipped; and where all of a tuple are inside, None for
    everywhere or where that is not needed."""
    for index in indices:
        if index.dtype.kind not in "iu" or index.shape != indices[0].shape:
            raise TypeError("not integers of one shape")
    if module is numpy and indices and not any(index.dtype == numpy.uint64 for index in indices):
        try:
            return numpy.ravel_multi_index(indices, lengths, mode="raise" if need_inside else "clip"), None
        except (TypeError, ValueError):
            pass  # something is outside, or an axis is empty
    rows, inside = None, None
    for index, length in zip(indices, lengths, strict=True):
        if index.dtype.itemsize == 8 and index.dtype.kind == "u":  # what int64 cannot hold is out of bounds in any case
            index = module.minimum(index, numpy.iinfo(numpy.int64).max)
        index = module.asarray(index).astype(numpy.int64, copy=False)
        if need_inside:
            within = (index >= 0) & (index < length)
            inside = within if inside is None else inside & within
        index = module.minimum(module.maximum(index, 0), length - 1)
        rows = index if rows is None else rows * length + index
    return (module.zeros((), numpy.int64), None) if rows is None else (rows, inside)


@lru_cache(maxsize=4096)
def _axes_in_front(shape: tuple[int, ...], axes: tuple[int, ...]):
    """The permutation that brings `axes` to the front, the one back, and the lengths of both kinds of axes."""
    if any(axis < 0 for axis in axes):
        raise ValueError("no such axis")
    left = left_axes(len(shape), axes)
    order = (*axes, *left)
    back = tuple(order.index(axis) for axis in range(len(shape)))
    return order, back, tuple(shape[a] for a in axes), tuple(shape[a] for a in left)


# gather


def _gather_abstract(x, *indices, axes, mode):
    check_mode("gather", mode, READ_MODES)
    return AbstractArray(indexed_shape("gather", x, indices, axes, mode), x.dtype)


def _gather_evaluate(x, *indices, axes, mode):
    module = array_module(x)
    clipped = mode == "clip" or mode == "promise_in_bounds"
    if clipped and len(axes) == 1 and 0 not in x.shape and module is numpy:
        (axis,), (index,) = axes, indices
        if axis < 0 or index.dtype.kind not in "iu" or index.dtype.char in "QL":
            return _gather_rows(module, x, indices, axes, mode)
        result = x.take(index, axis, mode="clip")
        if axis == 0 or index.ndim == 0:
            return result
        there = range(axis, axis + index.ndim)
        return result.transpose((*there, *(a for a in range(result.ndim) if a not in there)))
    if mode not in READ_MODES:
        raise ValueError("no such mode")
    return _gather_rows(module, x, indices, axes, mode)


def _gather_rows(module, x, indices, axes, mode):
    order, _, lengths, left = _axes_in_front(x.shape, axes)
    filling = mode == "fill" or mode == "zero"
    rows, inside = find_rows(module, indices, lengths, filling)
    shape = (*rows.shape, *left)
    if 0 in shape:
        if not filling and rows.size and 0 in lengths:
            raise ValueError("nothing to take from")
        return module.empty(shape, x.dtype)
    fill = fill_value(x.dtype) if mode == "fill" else 0
    if 0 in lengths:
        if not filling:
            raise ValueError("nothing to take from")
        return module.full(shape, fill, x.dtype)
    x = x.transpose(order)
    if x.flags.c_contiguous:
        result = x.reshape(-1, *left).take(rows, 0)
    else:  # one index an axis, so that x need not be copied
        result = x[tuple(module.unravel_index(rows, lengths))] if lengths else x
    if inside is None or inside.all():
        return result
    inside = inside.reshape((*inside.shape, *(1,) * len(left)))
    return module.where(inside, result, module.asarray(fill, x.dtype))


@cache
def fill_value(dtype: numpy.dtype) -> Any:
    """What the mode "fill" reads outside of an array: a value that shows, as JAX has it."""
    if dtypes.is_bool(dtype):
        return True
    if dtypes.is_differentiable(dtype):
        return math.nan
    limits = numpy.iinfo(dtype)
    return limits.min if dtype.kind == "i" else limits.max


def _gather_jvp(primals, tangents, *, axes, mode):
    x, *indices = primals
    result = gather(x, *indices, axes=axes, mode=mode)
    return result, gather(tangents[0], *indices, axes=axes, mode=LINEAR_READ[mode])


def _gather_transpose(cotangent, x, *indices, axes, mode):
    none = [None] * len(indices)
    return [scatter_add(zeros_like(x), cotangent, *indices, axes=axes, mode=WRITE_OF_READ[mode]), *none]


def batched_indices(size: int, indices: Sequence[Array], index_axes: Sequence[int | None]) -> list[Array]:
    """Index arrays with their batch axis in front, and before them the one that indexes the batch axis of `x`."""
    fronted = [to_front(index, axis, size) for index, axis in zip(indices, index_axes, strict=True)]
    return [iota(shape=fronted[0].shape, dtype=dtypes.int32, axis=0), *fronted]


def shift_axes(axes: Sequence[int], inserted: int) -> tuple[int, ...]:
    """The same axes, counted after another one was put in at `inserted`."""
    return tuple(axis + (axis >= inserted) for axis in axes)


def gather_batch(size, operands, batch_axes, *, axes, mode):
    """The batch rule of gather, which dynamic_slice uses as well."""
    (x, *indices), (x_axis, *index_axes) = operands, batch_axes
    if all(axis is None for axis in index_axes):
        # The batch axis of x is one more axis that is left.
        axes = shift_axes(axes, x_axis)
        place = (indices[0].ndim if indices else 0) + left_axes(x.ndim, axes).index(x_axis)
        return gather(x, *indices, axes=axes, mode=mode), place
    numbers, *indices = batched_indices(size, indices, index_axes)
    if x_axis is None:
        return gather(x, *indices, axes=axes, mode=mode), 0
    return gather(x, numbers, *indices, axes=(x_axis, *shift_axes(axes, x_axis)), mode=mode), 0


gather = Primitive(
    "gather",
    abstract=_gather_abstract,
    evaluate=_gather_evaluate,
    jvp=_gather_jvp,
    transpose=_gather_transpose,
    batch=gather_batch,
)


def take_along(x: Array, index: Array, axis: int) -> Array:
    """`x` read at `index` along one axis, and at its own place along the others; both have the same other axes."""
    if x.ndim == 1:
        return gather(x, index, axes=(0,), mode="promise_in_bounds")
    indices = [iota(shape=index.shape, dtype=dtypes.int32, axis=a) for a in range(x.ndim)]
    indices[axis] = index
    return gather(x, *indices, axes=tuple(range(x.ndim)), mode="promise_in_bounds")


# Scattering


def scatter_abstract(name: str, accepts_bool: bool):
    """The abstract rule of a scatter."""

    def abstract(x, updates, *indices, axes, mode):
        check_mode(name, mode, WRITE_MODES)
        shape = indexed_shape(name, x, indices, axes, mode)
        if tuple(updates.shape) != shape:
            raise ShapeError(
                f"{name} got updates of shape {tuple(updates.shape)} where the indices name elements of shape {shape}; "
                "broadcast the updates to that shape."
            )
        if x.dtype is not updates.dtype:
            raise DtypeError(f"{name} got updates of {updates.dtype.name} for an array of {x.dtype.name}; convert one.")
        if dtypes.is_bool(x.dtype) and not accepts_bool:
            raise DtypeError(f"{name} takes numbers, and a bool is none; convert it with x.astype(fg.int32).")
        return AbstractArray(tuple(x.shape), x.dtype)

    return abstract


def scatter_evaluate(ufunc: numpy.ufunc | None, accepts_bool: bool = True):
    """The evaluate rule of a scatter that combines old and new by `ufunc`; None: the new one replaces the old."""

    def evaluate(x, updates, *indices, axes, mode):
        module = array_module(x)
        order, back, lengths, left = _axes_in_front(x.shape, axes)
        rows, inside = find_rows(module, indices, lengths, mode == "drop")
        refused = (
            x.dtype is not updates.dtype
            or updates.shape != (*rows.shape, *left)
            or mode not in WRITE_MODES
            or (mode != "drop" and rows.size and 0 in lengths)
            or (x.dtype.kind == "b" and not accepts_bool)
        )
        if refused:
            raise ValueError("operands do not fit")
        if 0 in updates.shape:
            return x
        width = math.prod(left)
        if ufunc is not None and (x.dtype is dtypes.bfloat16 or x.dtype is dtypes.float16):
            wide, updates = x.astype(numpy.float32), updates.astype(numpy.float32)
        else:
            wide = x
        result = module.array(wide.transpose(order), order="C", copy=True)
        table, rows, updates = result.reshape(math.prod(lengths), width), rows.reshape(-1), updates.reshape(-1, width)
        if inside is not None and not inside.all():
            inside = inside.reshape(-1)
            rows, updates = rows[inside], updates[inside]
        if ufunc is None:
            table[rows] = updates
        elif rows.size == 1:
            table[rows[0]] = ufunc(table[rows[0]], updates[0])
        else:
            # Element by element along one axis is several times quicker than row by row.
            places = rows if width == 1 else (rows[:, None] * width + module.arange(width)).reshape(-1)
            getattr(module, ufunc.__name__).at(table.reshape(-1), places, updates.reshape(-1))
        if wide is not x:
            result = result.astype(x.dtype)
        return result.transpose(back)

    return evaluate


def scatter_batch(primitive_of: Callable[[], Primitive]):
    """The batch rule of a scatter; `primitive_of()` is that primitive, which does not exist yet."""

    def batch(size, operands, batch_axes, *, axes, mode):
        (x, updates, *indices), (x_axis, updates_axis, *index_axes) = operands, batch_axes
        x, inner = to_front(x, x_axis, size), shift_axes(axes, 0)
        if all(axis is None for axis in index_axes):
            place = indices[0].ndim if indices else 0
            if updates_axis is None:
                shape = (*updates.shape[:place], size, *updates.shape[place:])
                updates = broadcast_in_dim(updates, shape=shape, axes=shift_axes(range(updates.ndim), place))
            else:
                updates = move_axis(updates, updates_axis, place)
            return primitive_of()(x, updates, *indices, axes=inner, mode=mode), 0
        indices = batched_indices(size, indices, index_axes)
        return primitive_of()(x, to_front(updates, updates_axis, size), *indices, axes=(0, *inner), mode=mode), 0

    return batch


def _scatter_add_jvp(primals, tangents, **params):
    x, updates, *indices = primals
    s, t = instantiate(tangents[0], x), instantiate(tangents[1], updates)
    return scatter_add(*primals, **params), scatter_add(s, t, *indices, **params)


def _scatter_add_transpose(cotangent, x, updates, *indices, axes, mode):
    return [
        cotangent if is_linear(x) else None,
        gather(cotangent, *indices, axes=axes, mode=READ_OF_WRITE[mode]) if is_linear(updates) else None,
        *[None] * len(indices),
    ]


scatter_add = Primitive(
    "scatter_add",
    abstract=scatter_abstract("scatter_add", accepts_bool=False),
    evaluate=scatter_evaluate(numpy.add, accepts_bool=False),
    jvp=_scatter_add_jvp,
    transpose=_scatter_add_transpose,
    batch=scatter_batch(lambda: scatter_add),
)


def _gather_transpose_into(total, cotangent, x, *indices, axes, mode):
    return scatter_add(total, cotangent, *indices, axes=axes, mode=WRITE_OF_READ[mode])


gather.transpose_into = _gather_transpose_into


def over_left_axes(mask: Array, shape: tuple[int, ...]) -> Array:
    """Something of the shape of the index arrays, repeated over the axes that are left."""
    return broadcast_in_dim(mask, shape=shape, axes=tuple(range(mask.ndim)))
