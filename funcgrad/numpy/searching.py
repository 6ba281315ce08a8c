"""Finding elements: where conditions hold, and where values stand in a sorted vector."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy

from funcgrad import dtypes
from funcgrad.array import Array, ConcreteArray, as_array
from funcgrad.core import current_interpreter, ground
from funcgrad.devices import array_module, to_host
from funcgrad.errors import ArgumentError, ShapeError, TracedValueError
from funcgrad.numpy.axes import normalize_axis
from funcgrad.numpy.index_arrays import numbers, unravel_index
from funcgrad.numpy.joining import stack
from funcgrad.numpy.manipulation import flip, gather_along, ravel, take_static
from funcgrad.primitives import elementwise as e
from funcgrad.primitives import shapes
from funcgrad.primitives.indexing import scatter_set
from funcgrad.primitives.operators import always, cast, direct_function, promote
from funcgrad.primitives.reductions import cumsum


def as_condition(value: Any) -> Array:
    """An array as bools: what is not zero is True."""
    x = as_array(value)
    return x if dtypes.is_bool(x.dtype) else e.ne(x, e.full((), 0, x.dtype))


def where(condition: Any, x: Any = None, y: Any = None, /, *, size: int | None = None, fill_value: Any = None) -> Any:
    """Elements of `x` where a condition holds and of `y` elsewhere; with the condition alone, where it holds.

    The side that is not taken has the gradient zero, but it is computed: to keep NaN and infinity out of gradients,
    make the operand harmless first, as in `where(x > 0, log(where(x > 0, x, 1)), 0)`.

    Arguments:
        condition: a bool array; of other dtypes, what is not zero is True.
        x, y: what to choose from. All three broadcast together.
        size, fill_value: for `where(condition)`, as in `nonzero`.

    Returns:
        An array of the dtype in which those of `x` and `y` meet; for `where(condition)` a tuple of index arrays.

    Example:
        >>> import funcgrad as fg
        >>> fg.numpy.where(fg.array([True, False]), 1.0, fg.array([5.0, 6.0]))
        Array([1., 6.], dtype=float32)
    """
    if x is None and y is None:
        return nonzero(condition, size=size, fill_value=fill_value)
    if x is None or y is None:
        raise ArgumentError("where takes the condition alone, or both of the values to choose from.")
    return _where.call(condition, x, y)


def _choose(condition: Any, x: Any, y: Any) -> Array:
    on_true, on_false = promote(x, y)
    return e.select(as_condition(condition), on_true, on_false)


_where = direct_function("where", _choose, 3, always(e.select))


def select(condlist: Sequence[Any], choicelist: Sequence[Any], default: Any = 0) -> Array:
    """For each element the choice that belongs to the first condition that holds, or `default`.

    Arguments:
        condlist: bool arrays.
        choicelist: as many arrays; all broadcast together.
        default: what to take where no condition holds.

    Example:
        >>> import funcgrad.numpy as np
        >>> x = np.arange(4)
        >>> np.select([x < 1, x > 2], [-1, x], 0)
        Array([-1,  0,  0,  3], dtype=int32)
    """
    if len(condlist) != len(choicelist) or not condlist:
        raise ArgumentError(f"select got {len(condlist)} conditions and {len(choicelist)} choices; give one each.")
    *choices, result = promote(*choicelist, default)
    for condition, choice in zip(reversed(condlist), reversed(choices), strict=True):
        result = e.select(as_condition(condition), choice, result)
    return result


def nonzero(a: Any, *, size: int | None = None, fill_value: Any = None) -> tuple[Array, ...]:
    """The places of the elements that are not zero: an index array for each axis.

    Arguments:
        a: an array.
        size: how many places to give; needed under jit and vmap, where their number is not known. Further ones are left
            out, missing ones are `fill_value`.
        fill_value: an integer, or one an axis; 0 by default.

    Raises:
        TracedValueError: if the array is traced and no `size` is given.

    Example:
        >>> import funcgrad as fg
        >>> fg.numpy.nonzero(fg.array([0, 3, 0, 5]))
        (Array([1, 3], dtype=int32),)
    """
    x = as_array(a)
    if x.ndim == 0:
        raise ShapeError("nonzero needs an array with at least one axis; use fg.numpy.atleast_1d(x).")
    mask = as_condition(x)
    if size is None:
        found = known_mask(mask, "nonzero").nonzero()
        return tuple(ConcreteArray(index.astype(numpy.int32)) for index in found)
    flat, count = _places(shapes.reshape(mask, shape=(math.prod(x.shape),)), size)
    fills = fill_value if isinstance(fill_value, (tuple, list)) else [0 if fill_value is None else fill_value] * x.ndim
    given = e.lt(numbers(size), count)
    coordinates = unravel_index(flat, x.shape) if math.prod(x.shape) else [flat] * x.ndim
    return tuple(e.select(given, c, cast(as_array(f), dtypes.int32)) for c, f in zip(coordinates, fills, strict=True))


def known_mask(mask: Array, name: str) -> numpy.ndarray:
    """The values of a mask, for functions whose result has as many elements as it has True.

    Raises:
        TracedValueError: naming the function and its remedy, `size=`.
    """
    try:
        return to_host(mask.concrete(name)._data)
    except TracedValueError:
        raise TracedValueError(
            f"the length of the result of {name} depends on values that are not known while traced (under jit, or "
            "different from example to example under vmap); give size=n, the length that it is to have."
        ) from None


def _places(mask: Array, size: int) -> tuple[Array, Array]:
    """The numbers of the first `size` True elements of a vector, 0 where there are fewer; and how many there are."""
    ordinal = cumsum(cast(mask, dtypes.int32), axis=0, reverse=False)
    count = shapes.reduce_sum(cast(mask, dtypes.int32), axes=(0,))
    # The k-th True element writes its place at k - 1; all others write beyond the end, which drops them.
    one, beyond = e.full((), 1, dtypes.int32), e.full((), size, dtypes.int32)
    targets = e.select(mask, e.sub(ordinal, one), beyond)
    zeros = e.full((size,), 0, dtypes.int32)
    return scatter_set(zeros, numbers(mask.shape[0]), targets, axes=(0,), mode="drop"), count


def flatnonzero(a: Any, *, size: int | None = None, fill_value: Any = None) -> Array:
    """The places of the elements that are not zero in the flattened array; `size` as in `nonzero`.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.flatnonzero(np.array([[0, 3], [5, 0]]))
        Array([1, 2], dtype=int32)
    """
    return nonzero(ravel(a), size=size, fill_value=fill_value)[0]


def argwhere(a: Any, *, size: int | None = None, fill_value: Any = None) -> Array:
    """The places of the elements that are not zero, one row each; `size` as in `nonzero`.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.argwhere(np.array([[0, 3], [5, 0]]))
        Array([[0, 1],
               [1, 0]], dtype=int32)
    """
    x = as_array(a)
    if x.ndim == 0:
        count = as_condition(x)
        rows = int(known_mask(count, "argwhere")) if size is None else size
        return e.full((rows, 0), 0, dtypes.int32)
    return stack(nonzero(x, size=size, fill_value=fill_value), axis=1)


def compress(condition: Any, a: Any, axis: int | None = None, *, size: int | None = None, fill_value: Any = 0) -> Array:
    """The elements, or subarrays along an axis, for which a vector of conditions holds.

    Arguments:
        condition: a bool vector, at most as long as the axis.
        a: an array; flattened if `axis` is None.
        axis: along which axis to choose.
        size: the length of the result, needed where the condition is traced; `fill_value` fills what is missing.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.compress(np.array([True, False, True]), np.array([1, 2, 3]))
        Array([1, 3], dtype=int32)
    """
    x, chosen = as_array(a), as_condition(condition)
    if chosen.ndim != 1:
        raise ShapeError(f"compress needs a vector of conditions, not shape {chosen.shape}.")
    if axis is None:
        x, axis = ravel(x), 0
    axis = normalize_axis("compress", axis, x.ndim)
    if chosen.shape[0] > x.shape[axis]:
        raise ShapeError(f"compress got {chosen.shape[0]} conditions for an axis of length {x.shape[axis]}.")
    if size is None:
        return take_static(x, known_mask(chosen, "compress").nonzero()[0], axis)
    (index,) = nonzero(chosen, size=size, fill_value=x.shape[axis])
    return gather_along(x, index, axis, "fill", fill_value)


def extract(condition: Any, arr: Any, *, size: int | None = None, fill_value: Any = 0) -> Array:
    """The elements of an array for which a condition of the same shape holds; `size` as in `compress`.

    Example:
        >>> import funcgrad.numpy as np
        >>> x = np.array([[1, 5], [7, 2]])
        >>> np.extract(x > 3, x)
        Array([5, 7], dtype=int32)
    """
    return compress(ravel(as_array(condition)), ravel(arr), size=size, fill_value=fill_value)


# In sorted vectors


def searchsorted(a: Any, v: Any, side: str = "left", sorter: Any = None, *, method: str | None = None) -> Array:
    """The places in a sorted vector before which values can be inserted so that it stays sorted.

    Arguments:
        a: a sorted vector.
        v: the values, of any shape.
        side: for values that `a` contains, "left" gives the place before the equal ones, "right" the one after them.
        sorter: numbers that sort `a`, if it is not sorted.
        method: accepted from JAX; the way of searching is the same for all.

    Returns:
        int32 numbers of the shape of `v`.

    Example:
        >>> import funcgrad as fg
        >>> fg.numpy.searchsorted(fg.array([1, 2, 2, 3]), fg.array([2, 5]), side="right")
        Array([3, 4], dtype=int32)
    """
    if side not in ("left", "right"):
        raise ArgumentError(f"searchsorted has no side {side!r}; choose 'left' or 'right'.")
    haystack, values = promote(a, v)
    if haystack.ndim != 1:
        raise ShapeError(f"searchsorted searches in a vector, not in an array of shape {haystack.shape}.")
    if sorter is not None:
        haystack = gather_along(haystack, cast(as_array(sorter), dtypes.int32), 0)
    if current_interpreter() is ground and isinstance(haystack, ConcreteArray) and isinstance(values, ConcreteArray):
        module = array_module(haystack._data)
        found = module.searchsorted(haystack._data, values._data, side)
        return ConcreteArray(module.asarray(found, numpy.int32))
    return _binary_search(haystack, values, side)


def _binary_search(haystack: Array, values: Array, side: str) -> Array:
    """Halve the range of possible places, for all values at once, until it is a single one."""
    length = haystack.shape[0]
    low = e.full(values.shape, 0, dtypes.int32)
    high = e.full(values.shape, length, dtypes.int32)
    one = e.full((), 1, dtypes.int32)
    for _ in range(length.bit_length()):
        middle = e.shift_right_arithmetic(e.add(low, high), one)
        element = gather_along(haystack, middle, 0)
        before = _less(element, values) if side == "left" else e.not_(_less(values, element))
        before = e.and_(before, e.lt(low, high))
        low = e.select(before, e.add(middle, one), low)
        high = e.select(before, high, middle)
    return low


def _less(x: Array, y: Array) -> Array:
    """Whether x comes before y when sorted: NaN comes last."""
    if not dtypes.is_differentiable(x.dtype):
        return e.lt(x, y)
    return e.or_(e.lt(x, y), e.and_(e.is_nan(y), e.not_(e.is_nan(x))))


def digitize(x: Any, bins: Any, right: bool = False) -> Array:
    """The number of the bin that each value falls into.

    Arguments:
        x: the values.
        bins: the edges, a vector that rises or falls.
        right: whether a bin holds its right edge rather than its left one.

    Example:
        >>> import funcgrad as fg
        >>> fg.numpy.digitize(fg.array([0.5, 3.0]), fg.array([1.0, 2.0]))
        Array([0, 2], dtype=int32)
    """
    edges, values = as_array(bins), as_array(x)
    if edges.ndim != 1:
        raise ShapeError(f"digitize needs its edges as a vector, and got shape {edges.shape}.")
    side = "left" if right else "right"
    length = edges.shape[0]
    if length == 0:
        return e.full(values.shape, 0, dtypes.int32)
    rising = searchsorted(edges, values, side)
    # Falling edges are rising ones from the other end.
    falling = e.sub(e.full((), length, dtypes.int32), searchsorted(flip(edges, 0), values, side))
    return e.select(e.ge(edges[-1], edges[0]), rising, falling)
