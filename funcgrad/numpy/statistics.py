"""Statistics that need more than one reduction: quantiles, covariances, and all that leave NaN out."""

from __future__ import annotations

import math
from typing import Any

from funcgrad import dtypes
from funcgrad.array import Array, as_array
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.numpy import reductions
from funcgrad.numpy.reductions import Axis, reduction_axes, refuse_out
from funcgrad.primitives import elementwise as e
from funcgrad.primitives.contraction import dot_general
from funcgrad.primitives.indexing import gather
from funcgrad.primitives.movement import concatenate, iota
from funcgrad.primitives.operators import cast, promote_inexact
from funcgrad.primitives.shapes import broadcast_to, reduce_sum, reshape, transpose
from funcgrad.primitives.sorting import sort

METHODS = ("linear", "lower", "higher", "midpoint", "nearest")


# Quantiles. The elements are sorted; a quantile q lies at position q * (n - 1), mostly between two of them.


def _quantile(name: str, a: Any, q: Any, axis: Axis, method: str, keepdims: bool, skip_nan: bool) -> Array:
    if method not in METHODS:
        raise ArgumentError(f"{name} got method={method!r}; choose one of {', '.join(map(repr, METHODS))}.")
    (x,) = promote_inexact(a)
    if dtypes.is_complex(x.dtype):
        raise ArgumentError(f"{name} needs an order, and complex numbers have none; take x.real or abs(x).")
    (q,) = promote_inexact(q)
    q = cast(q, dtypes.float64 if x.dtype is dtypes.float64 else dtypes.float32)
    if q.ndim > 1:
        raise ShapeError(f"{name} takes one quantile or a vector of them, not an array of shape {q.shape}.")
    axes = reduction_axes(name, axis, x.ndim)
    kept = [i for i in range(x.ndim) if i not in axes]
    if (*kept, *axes) != tuple(range(x.ndim)):
        lanes = transpose(x, permutation=(*kept, *axes))
    else:
        lanes = x
    outer = tuple(x.shape[i] for i in kept)
    count = math.prod(x.shape[i] for i in axes)
    if count == 0:
        raise ShapeError(f"{name} of no elements is not defined; the array has shape {x.shape}.")
    rows = math.prod(outer)
    lanes = reshape(lanes, shape=(rows, count))
    result = _quantiles_of_rows(lanes, q, method, skip_nan)  # (*q.shape, rows)
    result = reshape(result, shape=(*q.shape, *outer))
    if keepdims:
        result = reshape(result, shape=(*q.shape, *(1 if i in axes else n for i, n in enumerate(x.shape))))
    return result


def _quantiles_of_rows(rows: Array, q: Array, method: str, skip_nan: bool) -> Array:
    """The quantiles of each row: shape (*q.shape, number of rows)."""
    count = rows.shape[1]
    (ordered,) = sort(rows, axis=1, num_keys=1)  # NaN comes last
    nans = reduce_sum(cast(e.is_nan(rows), dtypes.int32), axes=(1,))
    nan = e.full((), math.nan, rows.dtype)
    q = reshape(q, shape=(*q.shape, 1))
    last = e.full((), count - 1, dtypes.int32)
    if skip_nan:
        last = e.max_(e.sub(last, nans), e.full((), 0, dtypes.int32))
    position = e.mul(q, cast(last, q.dtype))
    low, high = e.floor(position), e.ceil(position)
    shape = e.broadcast_shape("quantile", q, nans)
    row = broadcast_to(iota(shape=(rows.shape[0],), dtype=dtypes.int32, axis=0), shape)

    def pick(where: Array) -> Array:
        column = broadcast_to(cast(e.stop_gradient(where), dtypes.int32), shape)
        return gather(ordered, row, column, axes=(0, 1), mode="clip")

    if method == "lower":
        result = pick(low)
    elif method == "higher":
        result = pick(high)
    elif method == "nearest":
        result = pick(e.round_(position))
    else:
        below, above = pick(low), pick(high)
        weight = e.sub(position, low)
        if method == "midpoint":
            weight = e.select(e.eq(low, high), e.zeros_like(weight), e.full((), 0.5, weight.dtype))
        weight = cast(weight, rows.dtype)
        # The same number on both sides is that number, be it infinite.
        distance = e.select(e.eq(below, above), e.zeros_like(below), e.sub(above, below))
        result = e.add(below, e.mul(distance, weight))
    spoiled = e.eq(nans, e.full((), count, dtypes.int32)) if skip_nan else e.gt(nans, e.full((), 0, dtypes.int32))
    return e.select(spoiled, nan, result)


def quantile(
    a: Any,
    q: Any,
    axis: Axis = None,
    out: None = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
) -> Array:
    """The numbers below which a fraction `q` of the elements lies.

    Arguments:
        a: an array; integers are computed as float32.
        q: fractions from 0 to 1: a number or a vector.
        axis, keepdims: as for `sum`.
        out: refused, since arrays are immutable.
        overwrite_input: of no consequence.
        method: what to do between two elements: "linear", "lower", "higher", "midpoint" or "nearest".

    Returns:
        Shape (*q.shape, *the axes that are left); NaN where an element is.

    Raises:
        ShapeError: if there are no elements.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.quantile(np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.0, 0.5]))
        Array([1. , 2.5], dtype=float32)
    """
    refuse_out("quantile", out)
    return _quantile("quantile", a, q, axis, method, keepdims, False)


def nanquantile(
    a: Any,
    q: Any,
    axis: Axis = None,
    out: None = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
) -> Array:
    """Quantiles of the elements that are not NaN; arguments as for `quantile`.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.nanquantile(np.array([1.0, np.nan, 3.0]), 0.5)
        Array(2., dtype=float32)
    """
    refuse_out("nanquantile", out)
    return _quantile("nanquantile", a, q, axis, method, keepdims, True)


def _fraction(q: Any) -> Array:
    (percent,) = promote_inexact(q)
    return e.div(percent, e.full((), 100, percent.dtype))


def percentile(
    a: Any,
    q: Any,
    axis: Axis = None,
    out: None = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
) -> Array:
    """Quantiles with `q` in percent, from 0 to 100; arguments as for `quantile`.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.percentile(np.array([1.0, 2.0, 3.0]), 50)
        Array(2., dtype=float32)
    """
    refuse_out("percentile", out)
    return _quantile("percentile", a, _fraction(q), axis, method, keepdims, False)


def nanpercentile(
    a: Any,
    q: Any,
    axis: Axis = None,
    out: None = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
) -> Array:
    """Percentiles of the elements that are not NaN; arguments as for `quantile`.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.nanpercentile(np.array([1.0, np.nan, 3.0]), 100)
        Array(3., dtype=float32)
    """
    refuse_out("nanpercentile", out)
    return _quantile("nanpercentile", a, _fraction(q), axis, method, keepdims, True)


def median(a: Any, axis: Axis = None, out: None = None, overwrite_input: bool = False, keepdims: bool = False) -> Array:
    """The middle element over axes, or the mean of the two in the middle.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.median(np.array([5.0, 1.0, 3.0]))
        Array(3., dtype=float32)
    """
    refuse_out("median", out)
    return _quantile("median", a, 0.5, axis, "midpoint", keepdims, False)


def nanmedian(
    a: Any, axis: Axis = None, out: None = None, overwrite_input: bool = False, keepdims: bool = False
) -> Array:
    """The median of the elements that are not NaN.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.nanmedian(np.array([5.0, np.nan, 3.0]))
        Array(4., dtype=float32)
    """
    refuse_out("nanmedian", out)
    return _quantile("nanmedian", a, 0.5, axis, "midpoint", keepdims, True)


# Reductions that leave NaN out


def _without_nan(a: Any, filler: bool | int | float) -> tuple[Array, Array | None]:
    """The array with NaN replaced, and where it was; None for dtypes that have no NaN."""
    x = as_array(a)
    if not dtypes.is_differentiable(x.dtype):
        return x, None
    missing = e.is_nan(x)
    return e.select(missing, e.full((), filler, x.dtype), x), missing


def nansum(
    a: Any,
    axis: Axis = None,
    dtype: Any = None,
    out: None = None,
    keepdims: bool = False,
    initial: Any = None,
    where: Any = None,
) -> Array:
    """The sum of the elements that are not NaN; arguments as for `sum`.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.nansum(np.array([1.0, np.nan]))
        Array(1., dtype=float32)
    """
    return reductions.sum(_without_nan(a, 0)[0], axis, dtype, out, keepdims, initial, where)


def nanprod(
    a: Any,
    axis: Axis = None,
    dtype: Any = None,
    out: None = None,
    keepdims: bool = False,
    initial: Any = None,
    where: Any = None,
) -> Array:
    """The product of the elements that are not NaN; arguments as for `prod`.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.nanprod(np.array([2.0, np.nan]))
        Array(2., dtype=float32)
    """
    return reductions.prod(_without_nan(a, 1)[0], axis, dtype, out, keepdims, initial, where)


def nancumsum(a: Any, axis: int | None = None, dtype: Any = None, out: None = None) -> Array:
    """The running sum with NaN taken as 0; arguments as for `cumsum`.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.nancumsum(np.array([1.0, np.nan, 2.0]))
        Array([1., 1., 3.], dtype=float32)
    """
    return reductions.cumsum(_without_nan(a, 0)[0], axis, dtype, out)


def nancumprod(a: Any, axis: int | None = None, dtype: Any = None, out: None = None) -> Array:
    """The running product with NaN taken as 1; arguments as for `cumprod`.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.nancumprod(np.array([2.0, np.nan, 3.0]))
        Array([2., 2., 6.], dtype=float32)
    """
    return reductions.cumprod(_without_nan(a, 1)[0], axis, dtype, out)


def _nan_extreme(reduce: Any, a: Any, axis: Axis, out: None, keepdims: bool, initial: Any, where: Any, worst: float):
    x, missing = _without_nan(a, worst)
    result = reduce(x, axis, out, keepdims, initial, where)
    if missing is None or initial is not None:
        return result
    return e.select(reductions.all(missing, axis, keepdims=keepdims), e.full((), math.nan, x.dtype), result)


def nanmax(
    a: Any, axis: Axis = None, out: None = None, keepdims: bool = False, initial: Any = None, where: Any = None
) -> Array:
    """The largest element that is not NaN; NaN where there is none. Arguments as for `max`.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.nanmax(np.array([1.0, np.nan]))
        Array(1., dtype=float32)
    """
    return _nan_extreme(reductions.max, a, axis, out, keepdims, initial, where, -math.inf)


def nanmin(
    a: Any, axis: Axis = None, out: None = None, keepdims: bool = False, initial: Any = None, where: Any = None
) -> Array:
    """The smallest element that is not NaN; NaN where there is none. Arguments as for `max`.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.nanmin(np.array([1.0, np.nan]))
        Array(1., dtype=float32)
    """
    return _nan_extreme(reductions.min, a, axis, out, keepdims, initial, where, math.inf)


def _nan_arg(reduce: Any, a: Any, axis: int | None, out: None, keepdims: bool | None, worst: float) -> Array:
    x, missing = _without_nan(a, worst)
    result = reduce(x, axis, out, keepdims)
    if missing is None:
        return result
    # Where everything is missing there is no index: -1, as in JAX.
    return e.select(reductions.all(missing, axis, keepdims=bool(keepdims)), e.full((), -1, result.dtype), result)


def nanargmax(a: Any, axis: int | None = None, out: None = None, keepdims: bool | None = None) -> Array:
    """The index of the largest element that is not NaN; -1 where there is none. Arguments as for `argmax`.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.nanargmax(np.array([1.0, np.nan, 3.0]))
        Array(2, dtype=int32)
    """
    return _nan_arg(reductions.argmax, a, axis, out, keepdims, -math.inf)


def nanargmin(a: Any, axis: int | None = None, out: None = None, keepdims: bool | None = None) -> Array:
    """The index of the smallest element that is not NaN; -1 where there is none. Arguments as for `argmax`.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.nanargmin(np.array([np.nan, 1.0, 3.0]))
        Array(1, dtype=int32)
    """
    return _nan_arg(reductions.argmin, a, axis, out, keepdims, math.inf)


def _present(a: Any, where: Any) -> tuple[Array, Any]:
    """The array with NaN made harmless, and the condition for the elements that take part."""
    x, missing = _without_nan(a, 0)
    if missing is None:
        return x, where
    present = e.not_(missing)
    return x, present if where is None else e.and_(present, broadcast_to(as_array(where), x.shape))


def nanmean(
    a: Any, axis: Axis = None, dtype: Any = None, out: None = None, keepdims: bool = False, where: Any = None
) -> Array:
    """The mean of the elements that are not NaN; arguments as for `mean`.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.nanmean(np.array([1.0, np.nan, 3.0]))
        Array(2., dtype=float32)
    """
    x, present = _present(a, where)
    return reductions.mean(x, axis, dtype, out, keepdims, where=present)


def nanvar(
    a: Any,
    axis: Axis = None,
    dtype: Any = None,
    out: None = None,
    ddof: int = 0,
    keepdims: bool = False,
    where: Any = None,
) -> Array:
    """The variance of the elements that are not NaN; arguments as for `var`.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.nanvar(np.array([1.0, np.nan, 3.0]))
        Array(1., dtype=float32)
    """
    x, present = _present(a, where)
    return reductions.var(x, axis, dtype, out, ddof, keepdims, where=present)


def nanstd(
    a: Any,
    axis: Axis = None,
    dtype: Any = None,
    out: None = None,
    ddof: int = 0,
    keepdims: bool = False,
    where: Any = None,
) -> Array:
    """The standard deviation of the elements that are not NaN; arguments as for `std`.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.nanstd(np.array([1.0, np.nan, 3.0]))
        Array(1., dtype=float32)
    """
    x, present = _present(a, where)
    return reductions.std(x, axis, dtype, out, ddof, keepdims, where=present)


# Covariances


def cov(
    m: Any,
    y: Any = None,
    rowvar: bool = True,
    bias: bool = False,
    ddof: int | None = None,
    fweights: Any = None,
    aweights: Any = None,
    *,
    dtype: Any = None,
) -> Array:
    """The covariance matrix of variables.

    Arguments:
        m: shape (variables, observations), or (observations,) for one variable.
        y: further variables of the same form.
        rowvar: False where each column is a variable.
        bias: whether to divide by the number of observations n rather than by n - 1.
        ddof: what to subtract from n instead.
        fweights: how often each observation was made, integers of shape (observations,).
        aweights: how much each observation counts, shape (observations,).
        dtype: of the result.

    Returns:
        Shape (variables, variables); () for one variable.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.cov(np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]))
        Array([[ 1., -1.],
               [-1.,  1.]], dtype=float32)
    """
    x = _variables("cov", m, rowvar)
    if y is not None:
        x, other = promote_inexact(x, _variables("cov", y, rowvar))
        x = concatenate(x, other, axis=0)
    (x,) = promote_inexact(x)
    x = x if dtype is None else cast(x, dtypes.canonical(dtype))
    ddof = (0 if bias else 1) if ddof is None else ddof
    weights = None
    for given in (fweights, aweights):
        if given is not None:
            (w,) = promote_inexact(given)
            if w.shape != x.shape[1:]:
                raise ShapeError(
                    f"cov got weights of shape {w.shape} for {x.shape[1]} observations; give one for each."
                )
            w = cast(w, dtypes.real_of(x.dtype))
            weights = w if weights is None else e.mul(weights, w)
    if weights is None:
        total: Any = x.shape[1]
        center = reductions.mean(x, 1, keepdims=True)
        factor: Any = total - ddof
    else:
        total = reduce_sum(weights, axes=(0,))
        center = reductions.sum(e.mul(*promote_inexact(x, weights)), 1, keepdims=True) / total
        if ddof == 0:
            factor = total
        elif aweights is None:
            factor = total - ddof
        else:
            (a,) = promote_inexact(aweights)
            factor = total - ddof * reduce_sum(e.mul(*promote_inexact(weights, a)), axes=(0,)) / total
    x = x - center
    weighted = x if weights is None else x * weights
    other = e.conj(x) if dtypes.is_complex(x.dtype) else x
    product = dot_general(*promote_inexact(weighted, other), dimension_numbers=(((1,), (1,)), ((), ())))
    if isinstance(factor, (int, float)):
        factor = max(factor, 0)
    result = e.div(product, cast(as_array(factor), product.dtype))
    return reshape(result, shape=()) if result.shape == (1, 1) else result


def _variables(name: str, m: Any, rowvar: bool) -> Array:
    (x,) = promote_inexact(m)
    if x.ndim > 2:
        raise ShapeError(f"{name} takes a matrix of variables and observations, not an array of shape {x.shape}.")
    if x.ndim < 2:
        return reshape(x, shape=(1, x.size))
    return x if rowvar else transpose(x, permutation=(1, 0))


def corrcoef(x: Any, y: Any = None, rowvar: bool = True) -> Array:
    """The correlation matrix of variables: covariances divided by both standard deviations. Arguments as for `cov`.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.corrcoef(np.array([[1.0, 2.0, 3.0], [6.0, 4.0, 2.0]]))
        Array([[ 1., -1.],
               [-1.,  1.]], dtype=float32)
    """
    c = cov(x, y, rowvar)
    if c.ndim == 0:
        return c / c
    side = c.shape[0]
    variances = reshape(c, shape=(side * side,))
    index = iota(shape=(side,), dtype=dtypes.int32, axis=0) * (side + 1)
    variances = gather(variances, index, axes=(0,), mode="clip")
    deviation = e.sqrt(e.real(variances) if dtypes.is_complex(c.dtype) else variances)
    deviation = cast(deviation, c.dtype)
    result = e.div(e.div(c, reshape(deviation, shape=(side, 1))), reshape(deviation, shape=(1, side)))
    if dtypes.is_complex(c.dtype):
        return result
    one = e.full((), 1, result.dtype)
    return e.min_(e.max_(result, e.neg(one)), one)


__all__ = [
    "corrcoef",
    "cov",
    "median",
    "nanargmax",
    "nanargmin",
    "nancumprod",
    "nancumsum",
    "nanmax",
    "nanmean",
    "nanmedian",
    "nanmin",
    "nanpercentile",
    "nanprod",
    "nanquantile",
    "nanstd",
    "nansum",
    "nanvar",
    "percentile",
    "quantile",
]
