"""Sorting: whole arrays, by several keys, and partially."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funcgrad import dtypes
from funcgrad.array import Array, as_array
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.numpy.axes import as_integer, normalize_axis
from funcgrad.numpy.manipulation import flip, ravel
from funcgrad.primitives import elementwise as e
from funcgrad.primitives.counting import iota
from funcgrad.primitives.operators import cast
from funcgrad.primitives.sorting import sort as sort_p


def _flattened(name: str, a: Any, axis: int | None) -> tuple[Array, int]:
    x = as_array(a)
    if axis is None:
        return ravel(x), 0
    return x, normalize_axis(name, axis, x.ndim)


def _check_kind(kind: Any, order: Any) -> None:
    if order is not None:
        raise ArgumentError("there are no structured arrays, so order must be None.")
    if kind not in (None, "quicksort", "mergesort", "heapsort", "stable"):
        raise ArgumentError(f"there is no kind of sort {kind!r}; leave it out, sorting is always stable.")


def sort(
    a: Any,
    axis: int | None = -1,
    *,
    kind: str | None = None,
    order: None = None,
    stable: bool = True,
    descending: bool = False,
) -> Array:
    """The elements in rising order along an axis; NaN counts as larger than any number.

    Arguments:
        a: an array.
        axis: along which axis; None sorts the flattened array.
        descending: whether the order is falling instead.
        kind, order, stable: accepted from NumPy; sorting is always stable.

    Example:
        >>> import funcgrad as fg
        >>> fg.numpy.sort(fg.array([3, 1, 2]))
        Array([1, 2, 3], dtype=int32)
    """
    _check_kind(kind, order)
    x, axis = _flattened("sort", a, axis)
    (result,) = sort_p(x, axis=axis, num_keys=1)
    return flip(result, axis) if descending else result


def numbers_along(shape: tuple[int, ...], axis: int) -> Array:
    """0, 1, 2, ... along one axis, repeated along the others."""
    return iota(shape=shape, dtype=dtypes.int32, axis=axis)


def argsort(
    a: Any,
    axis: int | None = -1,
    *,
    kind: str | None = None,
    order: None = None,
    stable: bool = True,
    descending: bool = False,
) -> Array:
    """The numbers of the elements along an axis in the order in which `sort` puts them; equal ones keep theirs.

    Example:
        >>> import funcgrad as fg
        >>> fg.numpy.argsort(fg.array([3.0, 1.0, 2.0]))
        Array([1, 2, 0], dtype=int32)
    """
    _check_kind(kind, order)
    x, axis = _flattened("argsort", a, axis)
    x = flip(x, axis) if descending else x
    _, index = sort_p(x, numbers_along(x.shape, axis), axis=axis, num_keys=1)
    if descending:  # sorted from the other end, so that equal elements come out in their first order when turned round
        index = e.sub(e.full((), x.shape[axis] - 1, dtypes.int32), flip(index, axis))
    return index


def lexsort(keys: Sequence[Any] | Array, axis: int = -1) -> Array:
    """The numbers that sort by several keys, of which the last one counts most.

    Example:
        >>> import funcgrad as fg
        >>> fg.numpy.lexsort((fg.array([1, 0, 2]), fg.array([5, 5, 4])))
        Array([2, 1, 0], dtype=int32)
    """
    arrays = [as_array(key) for key in keys]
    if not arrays:
        raise ArgumentError("lexsort needs at least one key.")
    shape = arrays[0].shape
    if any(key.shape != shape for key in arrays):
        raise ShapeError(f"lexsort needs keys of one shape, and got {' and '.join(str(k.shape) for k in arrays)}.")
    axis = normalize_axis("lexsort", axis, len(shape))
    return sort_p(*reversed(arrays), numbers_along(shape, axis), axis=axis, num_keys=len(arrays))[-1]


def _check_kth(name: str, kth: Any, length: int) -> None:
    for k in kth if isinstance(kth, (tuple, list)) else (kth,):
        if not -length <= as_integer(k, f"kth of {name}") < length:
            raise ShapeError(f"{name} got kth={k} for an axis of length {length}.")


def partition(a: Any, kth: int | Sequence[int], axis: int = -1) -> Array:
    """The elements along an axis so that the `kth` stands where sorting would put it, with smaller ones before it.

    The parts on both sides come out sorted.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.partition(np.array([3, 1, 2]), 1)
        Array([1, 2, 3], dtype=int32)
    """
    x = as_array(a)
    _check_kth("partition", kth, x.shape[normalize_axis("partition", axis, x.ndim)])
    return sort(x, axis)


def argpartition(a: Any, kth: int | Sequence[int], axis: int = -1) -> Array:
    """The numbers of the elements in the order in which `partition` puts them.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.argpartition(np.array([3, 1, 2]), 1)
        Array([1, 2, 0], dtype=int32)
    """
    x = as_array(a)
    _check_kth("argpartition", kth, x.shape[normalize_axis("argpartition", axis, x.ndim)])
    return argsort(x, axis)


def sort_complex(a: Any) -> Array:
    """The elements sorted along the last axis, first by real and then by imaginary part, as complex numbers.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.sort_complex(np.array([2.0, 1.0]))
        Array([1.+0.j, 2.+0.j], dtype=complex64)
    """
    x = sort(a)
    return x if dtypes.is_complex(x.dtype) else cast(x, dtypes.complex_of(x.dtype))
