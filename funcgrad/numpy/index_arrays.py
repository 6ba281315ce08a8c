"""Arrays of indices: the places of diagonals and triangles, and places as numbers that count elements in order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy

from funcgrad import dtypes
from funcgrad.array import Array, ConcreteArray, as_array
from funcgrad.devices import to_host
from funcgrad.errors import ArgumentError, OutOfBoundsError, ShapeError
from funcgrad.numpy.axes import as_shape
from funcgrad.numpy.indexing import normalized
from funcgrad.primitives import elementwise as e
from funcgrad.primitives.counting import iota
from funcgrad.primitives.operators import mod


def numbers(count: int) -> Array:
    """0, 1, 2, ... as indices."""
    return iota(shape=(count,), dtype=dtypes.int32, axis=0)


def as_indices(name: str, indices: Any) -> Array:
    """An integer array, for the argument of `name` that is to be one."""
    x = as_array(numpy.zeros(0, numpy.int32) if isinstance(indices, (list, tuple)) and not len(indices) else indices)
    if not dtypes.is_integer(x.dtype):
        raise ArgumentError(f"{name} needs integer indices, not {x.dtype.name}; convert them with i.astype(fg.int32).")
    return x


def from_start(index: Array, length: int) -> Array:
    """An index array with negative entries counted from the start; at once where it has a value."""
    return normalized(to_host(index._data) if isinstance(index, ConcreteArray) else index, length)


def unravel_index(indices: Any, shape: int | Sequence[int]) -> tuple[Array, ...]:
    """The place in an array of this shape, one number an axis, for numbers that count its elements in order.

    Numbers out of range are clipped; negative ones count from the end.

    Example:
        >>> import funcgrad as fg
        >>> fg.numpy.unravel_index(fg.array([5]), (2, 3))
        (Array([1], dtype=int32), Array([2], dtype=int32))
    """
    index, shape = as_indices("unravel_index", indices), as_shape("unravel_index", shape)
    size = math.prod(shape)
    rest = from_start(index, size)
    rest = e.min_(e.max_(rest, e.full((), 0, rest.dtype)), e.full((), max(size - 1, 0), rest.dtype))
    found = []
    for length in reversed(shape):
        divisor = e.full((), max(length, 1), rest.dtype)
        found.append(e.rem(rest, divisor))
        rest = e.div(rest, divisor)
    return tuple(reversed(found))


def ravel_multi_index(
    multi_index: Sequence[Any], dims: Sequence[int], mode: str | Sequence[str] = "raise", order: str = "C"
) -> Array:
    """The number that counts the element at a place in an array of shape `dims`: the inverse of `unravel_index`.

    Arguments:
        multi_index: an integer array for each axis.
        dims: the shape.
        mode: for places out of range, one or one an axis: "raise" (needs values, so not under jit), "wrap", "clip".
        order: "C" counts with the last axis fastest, "F" with the first.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.ravel_multi_index((np.array([1]), np.array([2])), (2, 3))
        Array([5], dtype=int32)
    """
    shape = as_shape("ravel_multi_index", dims)
    if len(multi_index) != len(shape):
        raise ArgumentError(f"ravel_multi_index got {len(multi_index)} index arrays for {len(shape)} axes.")
    modes = [mode] * len(shape) if isinstance(mode, str) else list(mode)
    total = None
    axes = range(len(shape)) if order == "C" else reversed(range(len(shape)))
    for axis in axes:
        index, length = as_indices("ravel_multi_index", multi_index[axis]), shape[axis]
        if modes[axis] == "raise":
            host = numpy.asarray(index.concrete("ravel_multi_index with mode='raise' (use 'clip' or 'wrap')")._data)
            if ((host < 0) | (host >= length)).any():
                raise OutOfBoundsError(f"ravel_multi_index got a place beyond axis {axis} of length {length}.")
        elif modes[axis] == "wrap":
            index = mod(index, length)
        elif modes[axis] == "clip":
            index = e.min_(e.max_(index, e.full((), 0, index.dtype)), e.full((), length - 1, index.dtype))
        else:
            raise ArgumentError(f"ravel_multi_index has no mode {modes[axis]!r}; use 'raise', 'wrap' or 'clip'.")
        total = index if total is None else total * length + index
    return as_array(0) if total is None else total


# Diagonals and triangles


def diag_indices(n: int, ndim: int = 2) -> tuple[Array, ...]:
    """The places of the main diagonal of an array with `ndim` axes of length `n`: an index array for each axis.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.diag_indices(2)
        (Array([0, 1], dtype=int32), Array([0, 1], dtype=int32))
    """
    return (numbers(n),) * ndim


def diag_indices_from(arr: Any) -> tuple[Array, ...]:
    """`diag_indices` for the shape of an array whose axes have one length.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.diag_indices_from(np.ones((2, 2)))
        (Array([0, 1], dtype=int32), Array([0, 1], dtype=int32))
    """
    shape = as_array(arr).shape
    if len(shape) < 2 or len(set(shape)) > 1:
        raise ShapeError(f"diag_indices_from needs at least two axes, all of one length, and got shape {shape}.")
    return diag_indices(shape[0], len(shape))


def tril_indices(n: int, k: int = 0, m: int | None = None) -> tuple[Array, Array]:
    """The places on and below the diagonal `k` of an `n` by `m` matrix: row numbers and column numbers.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.tril_indices(2)
        (Array([0, 1, 1], dtype=int32), Array([0, 0, 1], dtype=int32))
    """
    rows, columns = numpy.tril_indices(n, k, m)
    return ConcreteArray(rows.astype(numpy.int32)), ConcreteArray(columns.astype(numpy.int32))


def triu_indices(n: int, k: int = 0, m: int | None = None) -> tuple[Array, Array]:
    """The places on and above the diagonal `k` of an `n` by `m` matrix: row numbers and column numbers.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.triu_indices(2)
        (Array([0, 0, 1], dtype=int32), Array([0, 1, 1], dtype=int32))
    """
    rows, columns = numpy.triu_indices(n, k, m)
    return ConcreteArray(rows.astype(numpy.int32)), ConcreteArray(columns.astype(numpy.int32))


def tril_indices_from(arr: Any, k: int = 0) -> tuple[Array, Array]:
    """`tril_indices` for the shape of a matrix.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.tril_indices_from(np.ones((2, 2)), -1)
        (Array([1], dtype=int32), Array([0], dtype=int32))
    """
    rows, columns = _matrix_shape("tril_indices_from", arr)
    return tril_indices(rows, k, columns)


def triu_indices_from(arr: Any, k: int = 0) -> tuple[Array, Array]:
    """`triu_indices` for the shape of a matrix.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.triu_indices_from(np.ones((2, 2)), 1)
        (Array([0], dtype=int32), Array([1], dtype=int32))
    """
    rows, columns = _matrix_shape("triu_indices_from", arr)
    return triu_indices(rows, k, columns)


def _matrix_shape(name: str, arr: Any) -> tuple[int, int]:
    shape = as_array(arr).shape
    if len(shape) != 2:
        raise ShapeError(f"{name} needs a matrix, and got shape {shape}.")
    return shape  # type: ignore[return-value]
