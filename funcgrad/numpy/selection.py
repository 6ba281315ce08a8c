"""Choosing elements by number, and replacing them: take, choose, put, diagonals, grids."""

from __future__ import annotations

import math
from typing import Any

import numpy

from funcgrad import dtypes
from funcgrad.array import Array, ConcreteArray, as_array
from funcgrad.errors import ArgumentError, OutOfBoundsError, ShapeError
from funcgrad.numpy.axes import normalize_axis
from funcgrad.numpy.creation import diagonal_of
from funcgrad.numpy.index_arrays import as_indices, from_start
from funcgrad.numpy.indexing import READ_MODES, WRITE_MODES, at_once, checked_mode, gather_or_fill
from funcgrad.numpy.manipulation import broadcast_arrays, broadcast_to, gather_along, ravel, reshape, take_static
from funcgrad.numpy.searching import as_condition, nonzero
from funcgrad.primitives import elementwise as e
from funcgrad.primitives import shapes
from funcgrad.primitives.counting import iota
from funcgrad.primitives.indexing import scatter_set
from funcgrad.primitives.operators import cast, mod, promote
from funcgrad.primitives.reductions import cumsum


def take(
    a: Any,
    indices: Any,
    axis: int | None = None,
    out: None = None,
    mode: str | None = None,
    unique_indices: bool = False,
    indices_are_sorted: bool = False,
    fill_value: Any = None,
) -> Array:
    """The elements, or subarrays along an axis, with the given numbers.

    Arguments:
        a: an array.
        indices: an integer array, of any shape; negative ones count from the end.
        axis: along which axis; None takes from the flattened array.
        mode: what stands for numbers out of range: "fill" (the default) gives `fill_value`, "clip" the nearest
            element (of negative numbers the first one), "wrap" counts on from the start; "promise_in_bounds" says that
            there are none.
        fill_value: by default NaN, the lowest signed or highest unsigned integer, or True.

    Example:
        >>> import funcgrad as fg
        >>> fg.numpy.take(fg.array([10, 20, 30]), fg.array([2, 0]))
        Array([30, 10], dtype=int32)
    """
    x = as_array(a)
    if axis is None:
        x, axis = ravel(x), 0
    axis = normalize_axis("take", axis, x.ndim)
    index = as_indices("take", indices)
    length = x.shape[axis]
    if mode == "wrap":
        return gather_along(x, mod(index, length), axis, "promise_in_bounds")
    if mode != "clip":  # in which, as in NumPy, negative numbers are out of range
        index = from_start(index, length)
    return gather_along(x, index, axis, checked_mode(mode or "fill", READ_MODES), fill_value)


def take_along_axis(
    arr: Any, indices: Any, axis: int | None = -1, mode: str | None = None, fill_value: Any = None
) -> Array:
    """Elements along an axis by numbers that differ from place to place, such as `argsort` gives.

    Arguments:
        arr: an array.
        indices: integers; broadcasts against `arr` in all axes but `axis`.
        axis: along which axis; None takes from the flattened array by flattened numbers.
        mode, fill_value: for numbers out of range, as in `take`.

    Example:
        >>> import funcgrad as fg
        >>> x = fg.array([[3, 1], [2, 5]])
        >>> fg.numpy.take_along_axis(x, fg.numpy.argsort(x, axis=1), axis=1)
        Array([[1, 3],
               [2, 5]], dtype=int32)
    """
    x, index = as_array(arr), as_indices("take_along_axis", indices)
    if axis is None:
        x, index, axis = ravel(x), ravel(index), 0
    if at_once(x) and isinstance(index, ConcreteArray) and x.ndim == index.ndim:
        try:
            return ConcreteArray(numpy.take_along_axis(x._data, index._data, axis))
        except (IndexError, ValueError):
            pass  # out of range, which NumPy refuses
    axis, axes, places = _along_axis("take_along_axis", x, index, axis)
    return gather_or_fill(x, places, axes, checked_mode(mode or "fill", READ_MODES), fill_value)


def _along_axis(name: str, x: Array, index: Array, axis: int) -> tuple[int, tuple[int, ...], list[Array]]:
    """For each axis of `x` the places that an index along one axis means."""
    if x.ndim != index.ndim:
        raise ShapeError(f"{name} needs an index with {x.ndim} axes, like the array, and got shape {index.shape}.")
    axis = normalize_axis(name, axis, x.ndim)
    others = [(n, m) for k, (n, m) in enumerate(zip(x.shape, index.shape, strict=True)) if k != axis]
    if any(n != m and 1 not in (n, m) for n, m in others):
        raise ShapeError(f"{name} got an array of shape {x.shape} and an index of shape {index.shape}: no fit.")
    common = tuple(
        index.shape[k] if k == axis else max(n, m) if 0 not in (n, m) else 0
        for k, (n, m) in enumerate(zip(x.shape, index.shape, strict=True))
    )
    places = []
    for k, length in enumerate(x.shape):
        if k == axis:
            place = from_start(index, length)
        else:
            # An axis of length one is repeated: every index finds its only element.
            shape = tuple(common[k] if j == k and length == common[k] else 1 for j in range(x.ndim))
            place = iota(shape=shape, dtype=dtypes.int32, axis=k)
        places.append(shapes.broadcast_to(place, common))
    return axis, tuple(range(x.ndim)), places


def put_along_axis(
    arr: Any, indices: Any, values: Any, axis: int | None, inplace: bool = False, *, mode: str | None = None
) -> Array:
    """A copy of an array in which the elements that `take_along_axis` would take are replaced by `values`.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.put_along_axis(np.zeros((2, 2)), np.array([[1], [0]]), 5.0, axis=1)
        Array([[0., 5.],
               [5., 0.]], dtype=float32)
    """
    _check_not_in_place("put_along_axis", inplace)
    x, index = as_array(arr), as_indices("put_along_axis", indices)
    if axis is None:
        flat = put_along_axis(ravel(x), ravel(index), ravel(broadcast_to(values, index.shape)), 0, mode=mode)
        return reshape(flat, x.shape)
    axis, axes, places = _along_axis("put_along_axis", x, index, axis)
    values = broadcast_to(cast(as_array(values), x.dtype), places[0].shape)
    return scatter_set(x, values, *places, axes=axes, mode=checked_mode(mode, WRITE_MODES))


def _check_not_in_place(name: str, inplace: bool) -> None:
    if inplace:
        raise ArgumentError(f"{name} cannot change an array, since arrays are immutable; it returns a changed copy.")


def put(a: Any, ind: Any, v: Any, mode: str | None = None, *, inplace: bool = False) -> Array:
    """A copy of an array in which the elements with these numbers, in flattened order, are replaced by values.

    The values are repeated if they are fewer than the numbers. `mode`: "clip" (the default), "wrap" or "drop".

    Example:
        >>> import funcgrad.numpy as np
        >>> np.put(np.zeros(4), np.array([0, 2]), 1.0)
        Array([1., 0., 1., 0.], dtype=float32)
    """
    _check_not_in_place("put", inplace)
    x, index, values = as_array(a), ravel(as_indices("put", ind)), ravel(v)
    if not index.shape[0] or not values.shape[0]:
        return x
    size = math.prod(x.shape)
    if values.shape[0] != index.shape[0]:
        values = take_static(values, numpy.arange(index.shape[0]) % values.shape[0], 0)
    index = mod(index, size) if mode == "wrap" else from_start(index, size)
    writes = "clip" if mode in (None, "wrap") else checked_mode(mode, WRITE_MODES)
    return reshape(scatter_set(ravel(x), cast(values, x.dtype), index, axes=(0,), mode=writes), x.shape)


def place(arr: Any, mask: Any, vals: Any, *, inplace: bool = False) -> Array:
    """A copy of an array in which the elements under a mask are replaced by values, taken in order and repeated.

    Example:
        >>> import funcgrad.numpy as np
        >>> x = np.arange(4)
        >>> np.place(x, x > 1, [8, 9])
        Array([0, 1, 8, 9], dtype=int32)
    """
    _check_not_in_place("place", inplace)
    x, chosen, values = as_array(arr), as_condition(mask), ravel(vals)
    if chosen.shape != x.shape or not values.shape[0]:
        raise ShapeError(f"place needs a mask of the array's shape {x.shape} and at least one value.")
    flat = reshape(chosen, (-1,))
    number = e.sub(cumsum(cast(flat, dtypes.int32), axis=0, reverse=False), e.full((), 1, dtypes.int32))
    picked = gather_along(cast(values, x.dtype), mod(number, values.shape[0]), 0)
    return e.select(chosen, reshape(picked, x.shape), x)


def choose(a: Any, choices: Any, out: None = None, mode: str = "raise") -> Array:
    """For each element the entry at that place of the choice with the number that the element says.

    Arguments:
        a: an integer array.
        choices: arrays that broadcast with it.
        mode: what to do with numbers out of range: "raise" (needs values, so not under jit), "wrap" or "clip".

    Example:
        >>> import funcgrad.numpy as np
        >>> np.choose(np.array([1, 0]), [np.array([1, 2]), np.array([10, 20])])
        Array([10,  2], dtype=int32)
    """
    number = as_indices("choose", a)
    arrays = [as_array(c) for c in choices]
    count = len(arrays)
    if mode == "raise":
        host = numpy.asarray(number.concrete("choose with mode='raise' (use 'clip' or 'wrap' under jit)")._data)
        if ((host < 0) | (host >= count)).any():
            raise OutOfBoundsError(f"choose got a number out of range for {count} choices; use mode='clip' or 'wrap'.")
    elif mode == "wrap":
        number = mod(number, count)
    elif mode != "clip":
        raise ArgumentError(f"choose has no mode {mode!r}; use 'raise', 'wrap' or 'clip'.")
    number, *arrays = broadcast_arrays(number, *promote(*arrays))
    result = arrays[-1]
    for k in reversed(range(count - 1)):
        result = e.select(e.le(number, e.full((), k, number.dtype)), arrays[k], result)
    return result


# Diagonals and triangles


def diagonal(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Array:
    """The diagonals of the matrices in two axes of an array, along a new last axis.

    Arguments:
        a: an array of at least two axes.
        offset: which diagonal: 0 for the main one, positive for those above.
        axis1, axis2: the axes of rows and columns.

    Example:
        >>> import funcgrad as fg
        >>> fg.numpy.diagonal(fg.array([[1, 2], [3, 4]]))
        Array([1, 4], dtype=int32)
    """
    x = as_array(a)
    if x.ndim < 2:
        raise ShapeError(f"diagonal needs at least two axes, and the array has {x.ndim}.")
    rows, columns = normalize_axis("diagonal", axis1, x.ndim), normalize_axis("diagonal", axis2, x.ndim)
    if rows == columns:
        raise ShapeError("diagonal needs two different axes.")
    return diagonal_of(x, offset, rows, columns)


def fill_diagonal(a: Any, val: Any, wrap: bool = False, *, inplace: bool = False) -> Array:
    """A copy of an array with its main diagonal replaced by `val`, repeated or cut to the length of the diagonal.

    Arguments:
        a: a matrix, or an array of more axes of one length.
        val: a scalar or an array of values.
        wrap: whether the diagonal of a tall matrix starts again after the last column.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.fill_diagonal(np.zeros((2, 2)), 1.0)
        Array([[1., 0.],
               [0., 1.]], dtype=float32)
    """
    _check_not_in_place("fill_diagonal", inplace)
    x, values = as_array(a), ravel(val)
    if x.ndim < 2 or (x.ndim > 2 and len(set(x.shape)) > 1):
        raise ShapeError(f"fill_diagonal needs a matrix or axes of one length, and got shape {x.shape}.")
    if x.ndim == 2:
        step = x.shape[1] + 1
        end = math.prod(x.shape) if wrap else min(x.shape[1] ** 2, math.prod(x.shape))
    else:
        step, end = 1 + sum(x.shape[0] ** k for k in range(1, x.ndim)), math.prod(x.shape)
    return put(x, numpy.arange(0, end, step, dtype=numpy.int32), values)


# Grids


def ix_(*args: Any) -> tuple[Array, ...]:
    """Index vectors shaped so that together they name a grid: `x[ix_(rows, columns)]`. Masks become index vectors.

    Example:
        >>> import funcgrad as fg
        >>> fg.numpy.arange(6).reshape(2, 3)[fg.numpy.ix_([0, 1], [0, 2])]
        Array([[0, 2],
               [3, 5]], dtype=int32)
    """
    results = []
    for k, vector in enumerate(args):
        x = as_array(numpy.zeros(0, numpy.int32) if isinstance(vector, (list, tuple)) and not len(vector) else vector)
        if x.ndim != 1:
            raise ShapeError(f"ix_ takes vectors, and argument {k} has shape {x.shape}.")
        x = nonzero(x)[0] if dtypes.is_bool(x.dtype) else x
        results.append(reshape(x, tuple(x.shape[0] if j == k else 1 for j in range(len(args)))))
    return tuple(results)
