"""Reductions over axes: sums, products, extremes, means, and their running versions.

All take `axis` (an integer, a tuple, or None for all axes) and `keepdims`. `where` says which elements take part, and
`initial` is one more element to start from. `out` is refused: arrays are immutable.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy

from funcgrad import dtypes
from funcgrad.array import Array, as_array, constant
from funcgrad.core import Primitive
from funcgrad.errors import ArgumentError
from funcgrad.numpy.axes import normalize_axes, normalize_axis
from funcgrad.numpy.searching import as_condition
from funcgrad.primitives import elementwise as e
from funcgrad.primitives import reductions as r
from funcgrad.primitives.movement import concatenate
from funcgrad.primitives.operators import cast, promote, promote_inexact
from funcgrad.primitives.shapes import broadcast_to, reduce_sum, reshape, transpose

Axis = int | Sequence[int] | None


def refuse_out(name: str, out: Any) -> None:
    """Raise if an array to write into was given."""
    if out is not None:
        raise ArgumentError(f"{name} cannot write into out=..., since arrays are immutable; use the array it returns.")


def reduction_axes(name: str, axis: Axis, ndim: int) -> tuple[int, ...]:
    """The reduced axes as a rising tuple, so that equal reductions are written alike."""
    if axis is None:
        return tuple(range(ndim))
    axes = normalize_axes(name, axis, ndim)
    return axes if len(axes) == 1 else tuple(sorted(axes))


def keep_axes(result: Array, shape: Sequence[int], axes: Sequence[int]) -> Array:
    """The reduced axes put back with length 1."""
    return reshape(result, shape=tuple(1 if axis in axes else length for axis, length in enumerate(shape)))


def _accumulator(dtype: numpy.dtype) -> numpy.dtype:
    """The dtype in which numbers are added up: small integers and bools would overflow at once."""
    if dtypes.is_bool(dtype):
        return dtypes.int32
    if dtypes.is_integer(dtype) and dtype.itemsize < 4:
        return dtypes.int32 if dtype.kind == "i" else dtypes.uint32
    return dtype


_ACCUMULATORS = {dtype: _accumulator(dtype) for dtype in dtypes.ALL}


def _fold(
    name: str,
    a: Any,
    axis: Axis,
    keepdims: bool,
    where: Any,
    initial: Any,
    reduce: Primitive,
    combine: Primitive,
    neutral: bool | int | None,
) -> Array:
    """A reduction by an operation whose neutral element is `neutral`; None for an operation that has none."""
    x = as_array(a)
    axes = reduction_axes(name, axis, x.ndim)
    if where is None and initial is None:
        result = reduce(x, axes=axes)
        return keep_axes(result, x.shape, axes) if keepdims else result
    start = None if initial is None else cast(as_array(initial), x.dtype)
    if where is not None:
        if neutral is None and start is None:
            raise ArgumentError(
                f"{name} over part of an array may have no elements at all; pass initial=... with where."
            )
        filler: Any = start if neutral is None else e.full((), neutral, x.dtype)
        x = e.select(broadcast_to(as_condition(where), x.shape), x, filler)
    if neutral is None and start is not None and _any_zero(x.shape, axes):
        shape = tuple(length for axis, length in enumerate(x.shape) if axis not in axes)
        result, start = broadcast_to(start, shape), None
    else:
        result = reduce(x, axes=axes)
    if start is not None:
        result = combine(result, start)
    return keep_axes(result, x.shape, axes) if keepdims else result


def _any_zero(shape: Sequence[int], axes: Sequence[int]) -> bool:
    return 0 in [shape[axis] for axis in axes]


def sum(
    a: Any,
    axis: Axis = None,
    dtype: Any = None,
    out: None = None,
    keepdims: bool = False,
    initial: Any = None,
    where: Any = None,
) -> Array:
    """The sum of elements over axes.

    Arguments:
        a: an array.
        axis: an integer or a tuple of integers; None for all axes.
        dtype: in which to add; by default that of the array, but at least 32 bits for integers and bools.
        out: refused, since arrays are immutable.
        keepdims: whether the reduced axes stay, with length 1.
        initial: a number to which the sum is added.
        where: bools that broadcast to the shape of `a`: which elements take part.

    Returns:
        An array without the reduced axes.

    Raises:
        ShapeError: if an axis does not exist or is named twice.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.sum(np.array([[1.0, 2.0], [3.0, 4.0]]), axis=0)
        Array([4., 6.], dtype=float32)
    """
    if out is not None:
        refuse_out("sum", out)
    x = a if isinstance(a, Array) else as_array(a)
    wanted = _ACCUMULATORS[x.dtype] if dtype is None else dtypes.canonical(dtype)
    if x.dtype is not wanted:
        x = cast(x, wanted)
    if where is not None or initial is not None:
        return _fold("sum", x, axis, keepdims, where, initial, reduce_sum, e.add, 0)
    axes = reduction_axes("sum", axis, x.ndim)
    result = reduce_sum(x, axes=axes)
    return keep_axes(result, x.shape, axes) if keepdims else result


def prod(
    a: Any,
    axis: Axis = None,
    dtype: Any = None,
    out: None = None,
    keepdims: bool = False,
    initial: Any = None,
    where: Any = None,
) -> Array:
    """The product of elements over axes; arguments as for `sum`. The gradient is right at zeros as well.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.prod(np.array([1, 2, 3, 4]))
        Array(24, dtype=int32)
    """
    refuse_out("prod", out)
    x = as_array(a)
    x = cast(x, _accumulator(x.dtype) if dtype is None else dtypes.canonical(dtype))
    return _fold("prod", x, axis, keepdims, where, initial, r.reduce_prod, e.mul, 1)


def max(
    a: Any, axis: Axis = None, out: None = None, keepdims: bool = False, initial: Any = None, where: Any = None
) -> Array:
    """The largest element over axes; NaN where there is one.

    Arguments:
        a: an array.
        axis, keepdims: as for `sum`.
        out: refused, since arrays are immutable.
        initial: a number that the result is at least.
        where: which elements take part; needs `initial`.

    Raises:
        ArgumentError: if `where` is given without `initial`.
        ShapeError: if there are no elements, and no `initial`.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.max(np.array([[1, 5], [7, 2]]), axis=1)
        Array([5, 7], dtype=int32)
    """
    refuse_out("max", out)
    return _fold("max", a, axis, keepdims, where, initial, r.reduce_max, e.max_, None)


def min(
    a: Any, axis: Axis = None, out: None = None, keepdims: bool = False, initial: Any = None, where: Any = None
) -> Array:
    """The smallest element over axes; NaN where there is one. Arguments as for `max`.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.min(np.array([[1, 5], [7, 2]]), axis=1)
        Array([1, 2], dtype=int32)
    """
    refuse_out("min", out)
    return _fold("min", a, axis, keepdims, where, initial, r.reduce_min, e.min_, None)


def ptp(a: Any, axis: Axis = None, out: None = None, keepdims: bool = False) -> Array:
    """The range from the smallest to the largest element over axes ("peak to peak").

    Example:
        >>> import funcgrad.numpy as np
        >>> np.ptp(np.array([3, 9, 4]))
        Array(6, dtype=int32)
    """
    refuse_out("ptp", out)
    return e.sub(max(a, axis, keepdims=keepdims), min(a, axis, keepdims=keepdims))


def all(a: Any, axis: Axis = None, out: None = None, keepdims: bool = False, *, where: Any = None) -> Array:
    """Whether all elements over axes are true; numbers are where they are not zero.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.all(np.array([[True, False], [True, True]]), axis=1)
        Array([False,  True], dtype=bool)
    """
    refuse_out("all", out)
    return _fold("all", as_condition(a), axis, keepdims, where, None, r.reduce_and, e.and_, True)


def any(a: Any, axis: Axis = None, out: None = None, keepdims: bool = False, *, where: Any = None) -> Array:
    """Whether at least one element over axes is true; numbers are where they are not zero.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.any(np.array([[True, False], [False, False]]), axis=1)
        Array([ True, False], dtype=bool)
    """
    refuse_out("any", out)
    return _fold("any", as_condition(a), axis, keepdims, where, None, r.reduce_or, e.or_, False)


def count_nonzero(a: Any, axis: Axis = None, keepdims: bool = False) -> Array:
    """How many elements over axes are not zero.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.count_nonzero(np.array([0.0, 2.0, 3.0]))
        Array(2, dtype=int32)
    """
    return sum(as_condition(a), axis, keepdims=keepdims)


# Means and variances


def _count(x: Array, axes: Sequence[int], where: Any) -> Any:
    """How many elements of each result take part: an integer, or an array where `where` decides."""
    if where is None:
        return math.prod(x.shape[axis] for axis in axes)
    return reduce_sum(cast(broadcast_to(as_condition(where), x.shape), dtypes.int32), axes=tuple(axes))


def _divide(total: Array, count: Any) -> Array:
    if isinstance(count, (int, float)):
        return e.div(total, constant(count, total.dtype))
    return e.div(total, cast(count, total.dtype))


def _wide(x: Array) -> Array:
    """Half-width floats as float32: sums of squares would overflow, and counts are not exact in them."""
    return cast(x, dtypes.float32) if dtypes.is_floating(x.dtype) and x.dtype.itemsize == 2 else x


def mean(
    a: Any, axis: Axis = None, dtype: Any = None, out: None = None, keepdims: bool = False, *, where: Any = None
) -> Array:
    """The arithmetic mean over axes; NaN where there are no elements.

    Arguments:
        a: an array; integers are computed as float32.
        axis, keepdims, where: as for `sum`.
        dtype: of the result.
        out: refused, since arrays are immutable.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.mean(np.array([[1, 2], [3, 4]]), axis=0)
        Array([2., 3.], dtype=float32)
    """
    refuse_out("mean", out)
    (x,) = promote_inexact(a)
    wanted = x.dtype if dtype is None else dtypes.canonical(dtype)
    x = _wide(x if dtype is None or not dtypes.is_differentiable(wanted) else cast(x, wanted))
    axes = reduction_axes("mean", axis, x.ndim)
    total = x if where is None else e.select(broadcast_to(as_condition(where), x.shape), x, e.full((), 0, x.dtype))
    result = _divide(reduce_sum(total, axes=axes), _count(x, axes, where))
    if keepdims:
        result = keep_axes(result, x.shape, axes)
    return result if result.dtype is wanted else cast(result, wanted)


def var(
    a: Any,
    axis: Axis = None,
    dtype: Any = None,
    out: None = None,
    ddof: int | float = 0,
    keepdims: bool = False,
    *,
    where: Any = None,
    mean: Any = None,
    correction: int | float | None = None,
) -> Array:
    """The variance over axes: the mean squared distance from the mean.

    Arguments:
        a: an array; integers are computed as float32.
        axis, keepdims, where: as for `sum`.
        dtype: of the result.
        out: refused, since arrays are immutable.
        ddof: what is subtracted from the number of elements before dividing by it; `correction` is the array API
            standard's name for it.
        mean: the mean where it is known already, with the reduced axes kept.

    Returns:
        A real array, also for complex `a`.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.var(np.array([1.0, 2.0, 3.0, 4.0]), ddof=1)
        Array(1.6666666, dtype=float32)
    """
    refuse_out("var", out)
    result, wanted = _variance("var", a, axis, dtype, ddof if correction is None else correction, keepdims, where, mean)
    return result if result.dtype is wanted else cast(result, wanted)


def _variance(
    name: str, a: Any, axis: Axis, dtype: Any, ddof: float, keepdims: bool, where: Any, mean: Any
) -> tuple[Array, numpy.dtype]:
    (x,) = promote_inexact(a)
    wanted = dtypes.real_of(x.dtype) if dtype is None else dtypes.canonical(dtype)
    x = _wide(x if dtype is None or dtypes.is_complex(x.dtype) else cast(x, wanted))
    axes = reduction_axes(name, axis, x.ndim)
    count = _count(x, axes, where)
    taken = None if where is None else broadcast_to(as_condition(where), x.shape)

    def total(values: Array) -> Array:
        if taken is not None:
            values = e.select(taken, values, e.full((), 0, values.dtype))
        return reduce_sum(values, axes=axes)

    center = keep_axes(_divide(total(x), count), x.shape, axes) if mean is None else as_array(mean)
    distance = e.sub(*promote(x, center))
    if dtypes.is_complex(distance.dtype):
        real, imag = e.real(distance), e.imag(distance)
        squares = e.add(e.mul(real, real), e.mul(imag, imag))
    else:
        squares = e.mul(distance, distance)
    divisor = count - ddof if isinstance(count, int) else cast(as_array(count), squares.dtype) - ddof
    if isinstance(divisor, (int, float)):
        divisor = divisor if divisor > 0 else 0  # as in NumPy: with too few elements the result is NaN or infinite
    else:
        divisor = e.max_(divisor, e.zeros_like(divisor))
    result = _divide(total(squares), divisor)
    return (keep_axes(result, x.shape, axes) if keepdims else result), wanted


def std(
    a: Any,
    axis: Axis = None,
    dtype: Any = None,
    out: None = None,
    ddof: int | float = 0,
    keepdims: bool = False,
    *,
    where: Any = None,
    mean: Any = None,
    correction: int | float | None = None,
) -> Array:
    """The standard deviation over axes, the root of the variance; arguments as for `var`.

    Where all elements are equal the standard deviation is 0, and so is its gradient.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.std(np.array([1.0, 3.0]))
        Array(1., dtype=float32)
    """
    refuse_out("std", out)
    result, wanted = _variance("std", a, axis, dtype, ddof if correction is None else correction, keepdims, where, mean)
    zero, one = e.full((), 0, result.dtype), e.full((), 1, result.dtype)
    is_zero = e.eq(result, zero)
    result = e.select(is_zero, zero, e.sqrt(e.select(is_zero, one, result)))
    return result if result.dtype is wanted else cast(result, wanted)


def average(a: Any, axis: Axis = None, weights: Any = None, returned: bool = False, keepdims: bool = False) -> Any:
    """The weighted mean over axes.

    Arguments:
        a: an array.
        axis, keepdims: as for `sum`.
        weights: the shape of `a`, or that of the axes that are reduced; None for equal weights.
        returned: whether to give the sum of the weights as well.

    Returns:
        The mean; with `returned` a pair of that and the sum of the weights.

    Raises:
        ArgumentError: if the weights fit neither the array nor the axes.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.average(np.array([1.0, 2.0]), weights=np.array([3.0, 1.0]))
        Array(1.25, dtype=float32)
    """
    (x,) = promote_inexact(a)
    axes = reduction_axes("average", axis, x.ndim)
    if weights is None:
        result = mean(x, axes, keepdims=keepdims)
        total = e.full(result.shape, _count(x, axes, None), result.dtype)
        return (result, total) if returned else result
    x, w = promote_inexact(x, weights)
    if w.shape != x.shape:
        named = (axis,) if isinstance(axis, int) else axis
        if named is None or w.shape != tuple(x.shape[a] for a in named):
            raise ArgumentError(
                f"average got weights of shape {w.shape} for an array of shape {x.shape} and axis={axis}; "
                "give the weights the shape of the array, or that of the reduced axes."
            )
        order = sorted(range(len(named)), key=lambda i: normalize_axis("average", named[i], x.ndim))
        w = transpose(w, permutation=tuple(order))
        w = reshape(w, shape=tuple(x.shape[axis] if axis in axes else 1 for axis in range(x.ndim)))
        w = broadcast_to(w, x.shape)
    total = reduce_sum(w, axes=axes)
    result = e.div(reduce_sum(e.mul(x, w), axes=axes), total)
    if keepdims:
        result, total = keep_axes(result, x.shape, axes), keep_axes(total, x.shape, axes)
    return (result, total) if returned else result


# Where the extremes are


def _arg_extreme(name: str, primitive: Primitive, a: Any, axis: int | None, keepdims: bool | None) -> Array:
    x = as_array(a)
    if axis is None:
        result = primitive(reshape(x, shape=(x.size,)), axis=0, index_dtype=dtypes.int32)
        return reshape(result, shape=(1,) * x.ndim) if keepdims else result
    axis = normalize_axis(name, axis, x.ndim)
    result = primitive(x, axis=axis, index_dtype=dtypes.int32)
    return keep_axes(result, x.shape, (axis,)) if keepdims else result


def argmax(a: Any, axis: int | None = None, out: None = None, keepdims: bool | None = None) -> Array:
    """The index of the first largest element along an axis, as int32. NaN counts as the largest.

    Arguments:
        a: an array with at least one element along the axis.
        axis: None for the index in the flattened array.
        out: refused, since arrays are immutable.
        keepdims: whether the axis stays, with length 1.

    Raises:
        ShapeError: if there are no elements.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.argmax(np.array([[1, 9, 2], [8, 3, 4]]), axis=1)
        Array([1, 0], dtype=int32)
    """
    refuse_out("argmax", out)
    return _arg_extreme("argmax", r.argmax, a, axis, keepdims)


def argmin(a: Any, axis: int | None = None, out: None = None, keepdims: bool | None = None) -> Array:
    """The index of the first smallest element along an axis; arguments as for `argmax`.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.argmin(np.array([[1, 9, 2], [8, 3, 4]]), axis=1)
        Array([0, 1], dtype=int32)
    """
    refuse_out("argmin", out)
    return _arg_extreme("argmin", r.argmin, a, axis, keepdims)


# Running sums and products


def _cumulative(name: str, primitive: Primitive, a: Any, axis: int | None, dtype: Any) -> Array:
    x = as_array(a)
    x = cast(x, _accumulator(x.dtype) if dtype is None else dtypes.canonical(dtype))
    if axis is None:
        x, axis = reshape(x, shape=(x.size,)), 0
    return primitive(x, axis=normalize_axis(name, axis, x.ndim), reverse=False)


def cumsum(a: Any, axis: int | None = None, dtype: Any = None, out: None = None) -> Array:
    """The running sum along an axis.

    Arguments:
        a: an array.
        axis: None for the flattened array.
        dtype: in which to add; as for `sum`.
        out: refused, since arrays are immutable.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.cumsum(np.array([1, 2, 3]))
        Array([1, 3, 6], dtype=int32)
    """
    refuse_out("cumsum", out)
    return _cumulative("cumsum", r.cumsum, a, axis, dtype)


def cumprod(a: Any, axis: int | None = None, dtype: Any = None, out: None = None) -> Array:
    """The running product along an axis; arguments as for `cumsum`.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.cumprod(np.array([1, 2, 3]))
        Array([1, 2, 6], dtype=int32)
    """
    refuse_out("cumprod", out)
    return _cumulative("cumprod", r.cumprod, a, axis, dtype)


def _standard_cumulative(
    name: str, primitive: Primitive, x: Any, axis: int | None, dtype: Any, include_initial: bool, neutral: int
) -> Array:
    x = as_array(x)
    if axis is None:
        if x.ndim != 1:
            raise ArgumentError(f"{name} needs an axis for an array of shape {x.shape}; pass axis=...")
        axis = 0
    axis = normalize_axis(name, axis, x.ndim)
    result = _cumulative(name, primitive, x, axis, dtype)
    if include_initial:
        shape = tuple(1 if a == axis else length for a, length in enumerate(x.shape))
        result = concatenate(e.full(shape, neutral, result.dtype), result, axis=axis)
    return result


def cumulative_sum(x: Any, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False) -> Array:
    """The running sum along an axis, as the array API standard has it.

    Arguments:
        x: an array.
        axis: may be left out for vectors only.
        dtype: in which to add; as for `sum`.
        include_initial: whether a zero comes first.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.cumulative_sum(np.array([1, 2, 3]), include_initial=True)
        Array([0, 1, 3, 6], dtype=int32)
    """
    return _standard_cumulative("cumulative_sum", r.cumsum, x, axis, dtype, include_initial, 0)


def cumulative_prod(x: Any, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False) -> Array:
    """The running product along an axis, as the array API standard has it; arguments as for `cumulative_sum`.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.cumulative_prod(np.array([1, 2, 3]), include_initial=True)
        Array([1, 1, 2, 6], dtype=int32)
    """
    return _standard_cumulative("cumulative_prod", r.cumprod, x, axis, dtype, include_initial, 1)


amax, amin = max, min

__all__ = [
    "all",
    "amax",
    "amin",
    "any",
    "argmax",
    "argmin",
    "average",
    "count_nonzero",
    "cumprod",
    "cumsum",
    "cumulative_prod",
    "cumulative_sum",
    "max",
    "mean",
    "min",
    "prod",
    "ptp",
    "std",
    "sum",
    "var",
]
