"""Arrays as sets: unique, isin, union, intersection, difference.

The number of distinct elements is not known while values are traced, so these functions take `size=`, the length that
the result is to have, for use under jit and vmap.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy

from funcgrad import dtypes
from funcgrad.array import Array, ConcreteArray, as_array
from funcgrad.errors import ShapeError
from funcgrad.numpy.axes import normalize_axis
from funcgrad.numpy.joining import concatenate, unstack
from funcgrad.numpy.manipulation import gather_along, moveaxis, piece, ravel, reshape
from funcgrad.numpy.searching import known_mask, nonzero, searchsorted
from funcgrad.numpy.sorting import sort
from funcgrad.primitives import elementwise as e
from funcgrad.primitives.counting import iota
from funcgrad.primitives.indexing import scatter_add, scatter_set
from funcgrad.primitives.operators import cast, promote
from funcgrad.primitives.reductions import cumsum
from funcgrad.primitives.sorting import sort as sort_p


class UniqueAll(NamedTuple):
    """The result of `unique_all`."""

    values: Array
    indices: Array
    inverse_indices: Array
    counts: Array


class UniqueCounts(NamedTuple):
    """The result of `unique_counts`."""

    values: Array
    counts: Array


class UniqueInverse(NamedTuple):
    """The result of `unique_inverse`."""

    values: Array
    inverse_indices: Array


def unique(
    ar: Any,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: int | None = None,
    *,
    equal_nan: bool = True,
    size: int | None = None,
    fill_value: Any = None,
    sorted: bool = True,
) -> Any:
    """The distinct elements of an array, sorted.

    Arguments:
        ar: an array.
        return_index: whether to give also the place at which each first occurs.
        return_inverse: whether to give also the number of the distinct element that stands at each place.
        return_counts: whether to give also how often each occurs.
        axis: find the distinct subarrays along this axis; None takes elements.
        equal_nan: whether all NaN count as one.
        size: the length of the result; needed under jit and vmap. Further elements are left out, missing ones are
            `fill_value`, by default the smallest element, with the count 0.
        sorted: accepted from NumPy; the result is always sorted.

    Returns:
        The distinct elements, or a tuple that starts with them.

    Example:
        >>> import funcgrad as fg
        >>> fg.numpy.unique(fg.array([3, 1, 3]), return_counts=True)
        (Array([1, 3], dtype=int32), Array([1, 2], dtype=int32))
    """
    x = as_array(ar)
    if axis is None:
        rows, inverse_shape = reshape(ravel(x), (-1, 1)) if math.prod(x.shape) else reshape(x, (0, 1)), x.shape
        shape: tuple[int, ...] = ()
    else:
        x = moveaxis(x, normalize_axis("unique", axis, x.ndim), 0)
        shape, inverse_shape = x.shape[1:], (x.shape[0],)
        rows = reshape(x, (x.shape[0], math.prod(shape)))
    found = _unique_rows(rows, equal_nan, size)
    values = reshape(gather_along(rows, found.first, 0), (found.first.shape[0], *shape))
    if size is not None and fill_value is not None:
        given = reshape(e.gt(found.counts, e.full((), 0, dtypes.int32)), (size, *(1,) * len(shape)))
        values = e.select(given, values, cast(as_array(fill_value), values.dtype))
    if axis is not None:
        values = moveaxis(values, 0, axis)
    extra = [
        found.first if return_index else None,
        reshape(found.inverse, inverse_shape) if return_inverse else None,
        found.counts if return_counts else None,
    ]
    results = [values, *(r for r in extra if r is not None)]
    return tuple(results) if len(results) > 1 else values


class _Found(NamedTuple):
    first: Array
    inverse: Array
    counts: Array


def _unique_rows(rows: Array, equal_nan: bool, size: int | None) -> _Found:
    """The distinct rows of a matrix in sorted order: where each first occurs, which one each row is, and how often."""
    length = rows.shape[0]
    numbers = iota(shape=(length,), dtype=dtypes.int32, axis=0)
    keys = unstack(rows, axis=1) or (e.full((length,), 0, dtypes.int32),)
    *ordered, order = sort_p(*keys, numbers, axis=0, num_keys=len(keys))
    # A row is new where it differs from the one before it in sorted order.
    new = ConcreteArray(numpy.ones(min(length, 1), numpy.bool_))
    if length > 1:
        differs = None
        for key in ordered:
            one = _differ(piece(key, 0, 1, length), piece(key, 0, 0, length - 1), equal_nan)
            differs = one if differs is None else e.or_(differs, one)
        new = concatenate([new, differs])
    if size is None:
        starts = ConcreteArray(known_mask(new, "unique").nonzero()[0].astype(numpy.int32))
        size = starts.shape[0]
    else:
        (starts,) = nonzero(new, size=size, fill_value=0)
    number = e.sub(cumsum(cast(new, dtypes.int32), axis=0, reverse=False), e.full((), 1, dtypes.int32))
    zeros = e.full((length,), 0, dtypes.int32)
    inverse = scatter_set(zeros, number, order, axes=(0,), mode="promise_in_bounds") if length else zeros
    ones, counts = e.full((length,), 1, dtypes.int32), e.full((size,), 0, dtypes.int32)
    counts = scatter_add(counts, ones, number, axes=(0,), mode="drop") if length else counts
    first = gather_along(order, starts, 0) if length else starts
    return _Found(first, inverse, counts)


def _differ(x: Array, y: Array, equal_nan: bool) -> Array:
    unequal = e.ne(x, y)
    if equal_nan and dtypes.is_differentiable(x.dtype):
        unequal = e.and_(unequal, e.not_(e.and_(e.is_nan(x), e.is_nan(y))))
    return unequal


def unique_all(x: Any, /, *, size: int | None = None, fill_value: Any = None) -> UniqueAll:
    """The distinct elements, where each first occurs, which one is at each place, and how often. NaN are distinct.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.unique_all(np.array([3, 1, 3])).indices
        Array([1, 0], dtype=int32)
    """
    return UniqueAll(*unique(x, True, True, True, equal_nan=False, size=size, fill_value=fill_value))


def unique_counts(x: Any, /, *, size: int | None = None, fill_value: Any = None) -> UniqueCounts:
    """The distinct elements and how often each occurs. NaN are distinct.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.unique_counts(np.array([3, 1, 3])).counts
        Array([1, 2], dtype=int32)
    """
    return UniqueCounts(*unique(x, return_counts=True, equal_nan=False, size=size, fill_value=fill_value))


def unique_inverse(x: Any, /, *, size: int | None = None, fill_value: Any = None) -> UniqueInverse:
    """The distinct elements and which one stands at each place. NaN are distinct.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.unique_inverse(np.array([3, 1, 3])).inverse_indices
        Array([1, 0, 1], dtype=int32)
    """
    return UniqueInverse(*unique(x, return_inverse=True, equal_nan=False, size=size, fill_value=fill_value))


def unique_values(x: Any, /, *, size: int | None = None, fill_value: Any = None) -> Array:
    """The distinct elements. NaN are distinct.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.unique_values(np.array([3, 1, 3]))
        Array([1, 3], dtype=int32)
    """
    return unique(x, equal_nan=False, size=size, fill_value=fill_value)


def isin(
    element: Any, test_elements: Any, assume_unique: bool = False, invert: bool = False, *, method: str | None = None
) -> Array:
    """For each element whether it occurs among others.

    Arguments:
        element: an array.
        test_elements: the others, of any shape.
        invert: whether to say that it does not.
        assume_unique, method: accepted from NumPy and JAX; they change nothing.

    Example:
        >>> import funcgrad as fg
        >>> fg.numpy.isin(fg.array([1, 2, 3]), fg.array([3, 1]))
        Array([ True, False,  True], dtype=bool)
    """
    x, others = promote(element, test_elements)
    others = sort(ravel(others))
    if others.shape[0] == 0:
        return e.full(x.shape, bool(invert), dtypes.bool_)
    place = searchsorted(others, x)
    found = e.eq(gather_along(others, place, 0), x)
    return e.not_(found) if invert else found


def _chosen(x: Array, mask: Array, name: str, size: int | None, fill_value: Any) -> Array:
    """The elements of a vector under a mask; missing ones are `fill_value`, by default the first of them."""
    if size is None:
        index = ConcreteArray(known_mask(mask, name).nonzero()[0].astype(numpy.int32))
        return gather_along(x, index, 0)
    (index,) = nonzero(mask, size=size, fill_value=x.shape[0])
    chosen = gather_along(x, index, 0, "fill", 0 if fill_value is None else fill_value)
    if fill_value is not None or size == 0:
        return chosen
    return e.select(e.lt(index, e.full((), x.shape[0], index.dtype)), chosen, chosen[0])


def setdiff1d(
    ar1: Any, ar2: Any, assume_unique: bool = False, *, size: int | None = None, fill_value: Any = None
) -> Array:
    """The distinct elements of one array that do not occur in another, sorted.

    Arguments:
        ar1, ar2: arrays, flattened if they have more axes.
        assume_unique: whether the elements of `ar1` are known to be distinct; then they keep their order.
        size: the length of the result, needed under jit; missing elements are `fill_value` (0).

    Example:
        >>> import funcgrad.numpy as np
        >>> np.setdiff1d(np.array([1, 2, 3]), np.array([2]))
        Array([1, 3], dtype=int32)
    """
    x, others = ravel(ar1), ravel(ar2)
    fill_value = 0 if fill_value is None else fill_value
    if assume_unique:
        return _chosen(x, isin(x, others, invert=True), "setdiff1d", size, fill_value)
    x, fresh = _sorted_and_new(x)
    return _chosen(x, e.and_(fresh, isin(x, others, invert=True)), "setdiff1d", size, fill_value)


def _sorted_and_new(x: Array) -> tuple[Array, Array]:
    """A vector, sorted, and a mask of the elements that differ from the one before them."""
    x = sort(x)
    length = x.shape[0]
    fresh = ConcreteArray(numpy.ones(min(length, 1), numpy.bool_))
    if length > 1:
        fresh = concatenate([fresh, _differ(piece(x, 0, 1, length), piece(x, 0, 0, length - 1), True)])
    return x, fresh


def union1d(ar1: Any, ar2: Any, *, size: int | None = None, fill_value: Any = None) -> Array:
    """The distinct elements of two arrays together, sorted; `size` as in `unique`.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.union1d(np.array([1, 3]), np.array([2, 3]))
        Array([1, 2, 3], dtype=int32)
    """
    return unique(concatenate([ravel(ar1), ravel(ar2)]), size=size, fill_value=fill_value)


def intersect1d(
    ar1: Any,
    ar2: Any,
    assume_unique: bool = False,
    return_indices: bool = False,
    *,
    size: int | None = None,
    fill_value: Any = None,
) -> Any:
    """The distinct elements that occur in both of two arrays, sorted.

    Arguments:
        ar1, ar2: arrays, flattened if they have more axes.
        assume_unique: accepted from NumPy; changes nothing.
        return_indices: whether to give also where each first occurs in `ar1` and in `ar2`.
        size: the length of the result, needed under jit; missing elements are `fill_value`, by default the smallest
            one found, and their places the lengths of the arrays.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.intersect1d(np.array([1, 3]), np.array([2, 3]))
        Array([3], dtype=int32)
    """
    first, second = promote(ar1, ar2)
    first, second = ravel(first), ravel(second)
    numbers = [iota(shape=x.shape, dtype=dtypes.int32, axis=0) for x in (first, second)]
    x, place = sort_p(first, numbers[0], axis=0, num_keys=1)
    mask = e.and_(_sorted_and_new(x)[1], isin(x, second))
    values = _chosen(x, mask, "intersect1d", size, fill_value)
    if not return_indices:
        return values
    others, other_place = sort_p(second, numbers[1], axis=0, num_keys=1)
    both = searchsorted(others, x) if others.shape[0] else e.full(x.shape, 0, dtypes.int32)
    in_second = gather_along(other_place, both, 0) if others.shape[0] else both
    return (
        values,
        _chosen(place, mask, "intersect1d", size, x.shape[0]),
        _chosen(in_second, mask, "intersect1d", size, others.shape[0]),
    )


def setxor1d(
    ar1: Any, ar2: Any, assume_unique: bool = False, *, size: int | None = None, fill_value: Any = None
) -> Array:
    """The distinct elements that occur in exactly one of two arrays, sorted; `size` as in `intersect1d`.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.setxor1d(np.array([1, 3]), np.array([2, 3]))
        Array([1, 2], dtype=int32)
    """
    first, second = promote(ar1, ar2)
    x, fresh = _sorted_and_new(concatenate([ravel(first), ravel(second)]))
    in_one = e.ne(cast(isin(x, first), dtypes.int32), cast(isin(x, second), dtypes.int32))
    return _chosen(x, e.and_(fresh, in_one), "setxor1d", size, fill_value)


def trim_zeros(filt: Any, trim: str = "fb") -> Array:
    """A vector without the zeros at its front ("f" in `trim`) and back ("b"); needs values, so not under jit.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.trim_zeros(np.array([0, 1, 2, 0]))
        Array([1, 2], dtype=int32)
    """
    x = as_array(filt)
    if x.ndim != 1:
        raise ShapeError(f"trim_zeros takes a vector, not shape {x.shape}.")
    places = known_mask(e.ne(x, e.zeros_like(x)), "trim_zeros").nonzero()[0]
    if not places.size:
        return piece(x, 0, 0, 0)
    start = int(places[0]) if "f" in trim.lower() else 0
    stop = int(places[-1]) + 1 if "b" in trim.lower() else x.shape[0]
    return piece(x, 0, start, stop)
