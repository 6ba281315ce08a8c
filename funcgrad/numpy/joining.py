"""Putting arrays together and taking them apart: concatenate, stack, block, split, insert, delete."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy

from funcgrad import dtypes
from funcgrad.array import Array, ConcreteArray, as_array
from funcgrad.core import Tracer
from funcgrad.errors import ArgumentError, OutOfBoundsError, ShapeError, TracedValueError
from funcgrad.numpy.axes import as_integer, normalize_axis
from funcgrad.numpy.indexing import normalized
from funcgrad.numpy.manipulation import (
    atleast_1d,
    atleast_2d,
    atleast_3d,
    broadcast_to,
    expand_dims,
    gather_along,
    moveaxis,
    piece,
    ravel,
    reshape,
    take_static,
)
from funcgrad.primitives import elementwise as e
from funcgrad.primitives import movement, shapes
from funcgrad.primitives.counting import iota
from funcgrad.primitives.operators import cast, promote
from funcgrad.primitives.sorting import sort as sort_p


def _operands(name: str, arrays: Any, dtype: Any = None) -> list[Array]:
    """The arrays of a sequence, or along the first axis of an array, as one dtype."""
    found = [as_array(x) for x in arrays]
    if not found:
        raise ArgumentError(f"{name} needs at least one array.")
    if dtype is not None:
        dtype = dtypes.canonical(dtype)
        return [cast(x, dtype) for x in found]
    return promote(*found)


def concatenate(arrays: Sequence[Any] | Array, axis: int | None = 0, dtype: Any = None) -> Array:
    """Arrays joined along an axis that they have.

    Arguments:
        arrays: arrays of equal shape except along `axis`.
        axis: along which axis; None flattens the arrays first.
        dtype: of the result; by default the one in which the dtypes meet.

    Raises:
        ShapeError: if the other lengths differ, or for 0-dimensional arrays.

    Example:
        >>> import funcgrad as fg
        >>> fg.numpy.concatenate([fg.array([1, 2]), fg.array([3])])
        Array([1, 2, 3], dtype=int32)
    """
    operands = _operands("concatenate", arrays, dtype)
    if axis is None:
        operands, axis = [ravel(x) for x in operands], 0
    ndim = operands[0].ndim
    if ndim == 0:
        raise ShapeError("concatenate joins along an axis, which 0-dimensional arrays lack; use fg.numpy.stack.")
    axis = normalize_axis("concatenate", axis, ndim)
    return operands[0] if len(operands) == 1 else movement.concatenate(*operands, axis=axis)


def concat(arrays: Sequence[Any], /, *, axis: int | None = 0) -> Array:
    """`concatenate`, by its name in the array API standard.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.concat([np.array([1, 2]), np.array([3])])
        Array([1, 2, 3], dtype=int32)
    """
    return concatenate(arrays, axis)


def stack(arrays: Sequence[Any] | Array, axis: int = 0, out: None = None, dtype: Any = None) -> Array:
    """Arrays of one shape joined along a new axis.

    Example:
        >>> import funcgrad as fg
        >>> fg.numpy.stack([fg.array([1, 2]), fg.array([3, 4])], axis=1)
        Array([[1, 3],
               [2, 4]], dtype=int32)
    """
    operands = _operands("stack", arrays, dtype)
    shape = operands[0].shape
    for x in operands:
        if x.shape != shape:
            raise ShapeError(f"stack needs arrays of one shape, and got {shape} and {x.shape}.")
    axis = normalize_axis("stack", axis, len(shape) + 1)
    widened = (*shape[:axis], 1, *shape[axis:])
    operands = [shapes.reshape(x, shape=widened) for x in operands]
    return operands[0] if len(operands) == 1 else movement.concatenate(*operands, axis=axis)


def unstack(x: Any, /, *, axis: int = 0) -> tuple[Array, ...]:
    """The subarrays along an axis, as a tuple: the inverse of `stack`.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.unstack(np.array([[1, 2], [3, 4]]))
        (Array([1, 2], dtype=int32), Array([3, 4], dtype=int32))
    """
    x = as_array(x)
    axis = normalize_axis("unstack", axis, x.ndim)
    shape = x.shape[:axis] + x.shape[axis + 1 :]
    return tuple(shapes.reshape(piece(x, axis, k, k + 1), shape=shape) for k in range(x.shape[axis]))


def vstack(tup: Sequence[Any] | Array, dtype: Any = None) -> Array:
    """Arrays joined along the first axis; vectors count as rows.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.vstack([np.array([1, 2]), np.array([3, 4])])
        Array([[1, 2],
               [3, 4]], dtype=int32)
    """
    return concatenate([atleast_2d(x) for x in tup], 0, dtype)


def hstack(tup: Sequence[Any] | Array, dtype: Any = None) -> Array:
    """Arrays joined along the second axis; vectors along their only one.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.hstack([np.array([1, 2]), np.array([3, 4])])
        Array([1, 2, 3, 4], dtype=int32)
    """
    arrays = [atleast_1d(x) for x in tup]
    return concatenate(arrays, 0 if arrays and arrays[0].ndim == 1 else 1, dtype)


def dstack(tup: Sequence[Any] | Array, dtype: Any = None) -> Array:
    """Arrays joined along the third axis, which is added where missing.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.dstack([np.array([1, 2]), np.array([3, 4])])
        Array([[[1, 3],
                [2, 4]]], dtype=int32)
    """
    return concatenate([atleast_3d(x) for x in tup], 2, dtype)


def column_stack(tup: Sequence[Any] | Array) -> Array:
    """Vectors as the columns of a matrix; matrices are joined side by side.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.column_stack([np.array([1, 2]), np.array([3, 4])])
        Array([[1, 3],
               [2, 4]], dtype=int32)
    """
    arrays = [as_array(x) for x in tup]
    return concatenate([reshape(x, (-1, 1)) if x.ndim < 2 else x for x in arrays], 1)


def block(arrays: Any) -> Array:
    """An array assembled from nested lists of blocks: the innermost lists are joined along the last axis.

    Example:
        >>> import funcgrad as fg
        >>> i = fg.numpy.ones((1, 1))
        >>> fg.numpy.block([[i, 0 * i], [2 * i, 3 * i]])
        Array([[1., 0.],
               [2., 3.]], dtype=float32)
    """
    depth = _depth(arrays)
    ndim = max(depth, max(as_array(x).ndim for x in _blocks(arrays)))

    def join(part: Any, level: int) -> Array:
        if not isinstance(part, list):
            x = as_array(part)
            return reshape(x, (1,) * (ndim - x.ndim) + x.shape)
        return concatenate([join(inner, level + 1) for inner in part], axis=level - depth)

    return join(arrays, 0)


def _depth(arrays: Any) -> int:
    if isinstance(arrays, tuple):
        raise ArgumentError("block takes nested lists of arrays, not tuples.")
    if not isinstance(arrays, list):
        return 0
    depths = {_depth(inner) for inner in arrays}
    if len(depths) != 1:
        raise ArgumentError("block needs lists that are nested equally deep, and none of them empty.")
    return depths.pop() + 1


def _blocks(arrays: Any) -> list[Any]:
    return [x for inner in arrays for x in _blocks(inner)] if isinstance(arrays, list) else [arrays]


# Taking apart


def array_split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Array]:
    """An array cut into pieces along an axis.

    Arguments:
        ary: an array.
        indices_or_sections: how many pieces of equal length (the first ones are longer by one where it does not
            divide), or the places at which to cut.
        axis: along which axis.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.array_split(np.arange(3), 2)
        [Array([0, 1], dtype=int32), Array([2], dtype=int32)]
    """
    x = as_array(ary)
    axis = normalize_axis("split", axis, x.ndim)
    length = x.shape[axis]
    if isinstance(indices_or_sections, (tuple, list)) or getattr(indices_or_sections, "ndim", 0):
        # Python's slices know what to do with places that are negative or too far.
        cuts = [as_integer(cut, "a place at which split cuts") for cut in indices_or_sections]
        ranges = [slice(start, stop).indices(length) for start, stop in zip([0, *cuts], [*cuts, None], strict=True)]
        return [piece(x, axis, start, max(start, stop)) for start, stop, _ in ranges]
    sections = as_integer(indices_or_sections, "the number of pieces of split")
    if sections <= 0:
        raise ArgumentError(f"split cannot cut an array into {sections} pieces.")
    short, longer = divmod(length, sections)
    bounds = [k * short + min(k, longer) for k in range(sections + 1)]
    return [piece(x, axis, start, stop) for start, stop in pairwise(bounds)]


def split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Array]:
    """Like `array_split`, for a number of pieces that divides the length.

    Raises:
        ShapeError: if it does not.

    Example:
        >>> import funcgrad as fg
        >>> fg.numpy.split(fg.numpy.arange(4), 2)
        [Array([0, 1], dtype=int32), Array([2, 3], dtype=int32)]
    """
    x = as_array(ary)
    length = x.shape[normalize_axis("split", axis, x.ndim)]
    if not isinstance(indices_or_sections, (tuple, list)) and not getattr(indices_or_sections, "ndim", 0):
        sections = as_integer(indices_or_sections, "the number of pieces of split")
        if sections > 0 and length % sections:
            raise ShapeError(
                f"split cannot cut axis {axis} of length {length} into {sections} equal pieces; use "
                "fg.numpy.array_split, which allows unequal ones."
            )
    return array_split(x, indices_or_sections, axis)


def vsplit(ary: Any, indices_or_sections: Any) -> list[Array]:
    """`split` along the first axis.

    Example:
        >>> import funcgrad.numpy as np
        >>> [x.shape for x in np.vsplit(np.ones((4, 3)), 2)]
        [(2, 3), (2, 3)]
    """
    return split(ary, indices_or_sections, 0)


def hsplit(ary: Any, indices_or_sections: Any) -> list[Array]:
    """`split` along the second axis, or the only one of a vector.

    Example:
        >>> import funcgrad.numpy as np
        >>> [x.shape for x in np.hsplit(np.ones((4, 3)), 3)]
        [(4, 1), (4, 1), (4, 1)]
    """
    return split(ary, indices_or_sections, 0 if as_array(ary).ndim == 1 else 1)


def dsplit(ary: Any, indices_or_sections: Any) -> list[Array]:
    """`split` along the third axis.

    Example:
        >>> import funcgrad.numpy as np
        >>> [x.shape for x in np.dsplit(np.ones((2, 3, 4)), 2)]
        [(2, 3, 2), (2, 3, 2)]
    """
    return split(ary, indices_or_sections, 2)


# Adding and removing elements


def append(arr: Any, values: Any, axis: int | None = None) -> Array:
    """An array with values added at the end of an axis; flattened without `axis`.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.append(np.array([1, 2]), 3)
        Array([1, 2, 3], dtype=int32)
    """
    return concatenate([arr, values], axis)


def insert(arr: Any, obj: Any, values: Any, axis: int | None = None) -> Array:
    """An array with values inserted before given places of an axis.

    Arguments:
        arr: an array.
        obj: before which places: an integer, a slice, or an integer array.
        values: what to insert; broadcasts to the shape of what is inserted.
        axis: along which axis; None flattens the array first.

    Example:
        >>> import funcgrad as fg
        >>> fg.numpy.insert(fg.array([1, 2, 3]), 1, 9)
        Array([1, 9, 2, 3], dtype=int32)
    """
    x = as_array(arr)
    if axis is None:
        x, axis = ravel(x), 0
    axis = normalize_axis("insert", axis, x.ndim)
    length = x.shape[axis]
    new = cast(as_array(values), x.dtype)
    if isinstance(obj, slice):
        obj = numpy.arange(length)[obj]
    elif not isinstance(obj, Array):
        obj = numpy.asarray(obj, numpy.int64 if isinstance(obj, (list, tuple)) and not len(obj) else None)
        if obj.size == 1 and not -length <= int(obj.reshape(())) <= length:
            raise OutOfBoundsError(f"insert got the place {int(obj.reshape(()))} for an axis of length {length}.")
    scalar = obj.ndim == 0
    places = normalized(_as_host(obj), length)
    places = reshape(places, (-1,)) if places.ndim != 1 else places
    new = reshape(new, (1,) * (x.ndim - new.ndim) + new.shape) if new.ndim < x.ndim else new
    if scalar:
        # One place takes a block, and the first axis of the values runs along the axis of insertion.
        new = moveaxis(new, 0, axis)
        count = new.shape[axis]
    else:
        count = places.shape[0] if places.shape[0] != 1 else new.shape[axis]
    places = broadcast_to(places, (count,))
    new = broadcast_to(new, tuple(count if k == axis else n for k, n in enumerate(x.shape)))
    # Sort by place; what is inserted at k stands just before element k, and in the order given.
    two = e.full((), 2, places.dtype)
    own = iota(shape=(length,), dtype=places.dtype, axis=0) * 2 + 1
    keys = movement.concatenate(e.mul(places, two), own, axis=0)
    numbers = iota(shape=(count + length,), dtype=dtypes.int32, axis=0)
    _, order = sort_p(keys, numbers, axis=0, num_keys=1)
    return gather_along(movement.concatenate(new, x, axis=axis), order, axis)


def delete(arr: Any, obj: Any, axis: int | None = None, *, assume_unique_indices: bool = False) -> Array:
    """An array without the elements at given places of an axis.

    Arguments:
        arr: an array.
        obj: which places: an integer (may be traced), a slice, a mask, or an integer array.
        axis: along which axis; None flattens the array first.
        assume_unique_indices: says that an index array names no place twice, so that it may be traced.

    Example:
        >>> import funcgrad as fg
        >>> fg.numpy.delete(fg.array([1, 2, 3]), 1)
        Array([1, 3], dtype=int32)
    """
    x = as_array(arr)
    if axis is None:
        x, axis = ravel(x), 0
    axis = normalize_axis("delete", axis, x.ndim)
    length = x.shape[axis]
    if isinstance(obj, Tracer) and not dtypes.is_bool(obj.dtype) and (obj.ndim == 0 or assume_unique_indices):
        return _delete_traced(x, obj, axis)
    if isinstance(obj, Tracer):
        raise TracedValueError(
            "delete with a traced index array gives a result of unknown length, since places may repeat; give "
            "assume_unique_indices=True if they do not."
        )
    kept = numpy.ones(length, bool)
    obj = obj if isinstance(obj, slice) else numpy.asarray(obj)
    try:
        kept[obj if isinstance(obj, slice) or obj.size else obj.astype(numpy.int64)] = False
    except IndexError:
        raise OutOfBoundsError(
            f"delete got places {obj!r:.60}, which an axis of length {length} does not have."
        ) from None
    return take_static(x, kept.nonzero()[0], axis)


def _delete_traced(x: Array, places: Array, axis: int) -> Array:
    places = normalized(places, x.shape[axis])
    places = reshape(places, (-1,))
    (ordered,) = sort_p(places, axis=0, num_keys=1)
    count = places.shape[0]
    # The k-th place removed shifts what comes after it by one more.
    shifted = e.sub(ordered, iota(shape=(count,), dtype=places.dtype, axis=0))
    numbers = iota(shape=(x.shape[axis] - count,), dtype=places.dtype, axis=0)
    passed = cast(e.le(expand_dims(shifted, 1), numbers), places.dtype)
    return gather_along(x, e.add(numbers, shapes.reduce_sum(passed, axes=(0,))), axis)


def _as_host(index: Any) -> Any:
    """An index array as NumPy's where it has a value."""
    return numpy.asarray(index) if isinstance(index, ConcreteArray) else index
