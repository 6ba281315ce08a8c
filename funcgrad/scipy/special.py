"""Special functions, under the names of SciPy. They compute in float32 where they get integers."""

from __future__ import annotations

import math
from typing import Any

from funcgrad import dtypes
from funcgrad.array import Array
from funcgrad.numpy.reductions import Axis, keep_axes, reduction_axes
from funcgrad.numpy.searching import as_condition
from funcgrad.primitives import elementwise as e
from funcgrad.primitives.bessel import bessel_i0e, bessel_i1e
from funcgrad.primitives.operators import promote_inexact
from funcgrad.primitives.reductions import reduce_max
from funcgrad.primitives.shapes import broadcast_to, reduce_sum, reshape


def _scalar(value: float, like: Array) -> Array:
    return e.full((), value, like.dtype)


# Error functions and the normal distribution


def erf(x: Any) -> Array:
    """The error function, 2 / sqrt(pi) times the integral of exp(-t**2) from 0 to x.

    Example:
        >>> import funcgrad.numpy as np
        >>> from funcgrad.scipy import special
        >>> special.erf(np.array([0.0, 1.0])).round(3)
        Array([0.   , 0.843], dtype=float32)
    """
    return e.erf(*promote_inexact(x))


def erfc(x: Any) -> Array:
    """1 - erf(x), precise for large x as well.

    Example:
        >>> import funcgrad.numpy as np
        >>> from funcgrad.scipy import special
        >>> special.erfc(np.array([0.0]))
        Array([1.], dtype=float32)
    """
    return e.erfc(*promote_inexact(x))


def erfinv(x: Any) -> Array:
    """The y with erf(y) = x, for x from -1 to 1.

    Example:
        >>> import funcgrad.numpy as np
        >>> from funcgrad.scipy import special
        >>> special.erfinv(np.array([0.0, 1.0]))
        Array([ 0., inf], dtype=float32)
    """
    return e.erf_inv(*promote_inexact(x))


def ndtr(x: Any) -> Array:
    """The probability that a normal random number is at most x.

    Example:
        >>> import funcgrad.numpy as np
        >>> from funcgrad.scipy import special
        >>> special.ndtr(np.array([0.0]))
        Array([0.5], dtype=float32)
    """
    (x,) = promote_inexact(x)
    return e.mul(e.erfc(e.mul(x, _scalar(-math.sqrt(0.5), x))), _scalar(0.5, x))


def log_ndtr(x: Any) -> Array:
    """The logarithm of `ndtr(x)`, precise also where that is nearly 0 or 1.

    Source for the left tail: M. Abramowitz and I. Stegun, "Handbook of Mathematical Functions", 26.2.12.

    Example:
        >>> import funcgrad.numpy as np
        >>> from funcgrad.scipy import special
        >>> special.log_ndtr(np.array([-100.0])).round(1)
        Array([-5005.5], dtype=float32)
    """
    (x,) = promote_inexact(x)
    # Where the series below is exact to the last digit, and erfc is not yet 0.
    edge, terms = (-20.0, 10) if x.dtype is dtypes.float64 else (-10.0, 6)
    in_tail, positive = e.lt(x, _scalar(edge, x)), e.gt(x, _scalar(0, x))
    zero, half, root = _scalar(0, x), _scalar(0.5, x), _scalar(math.sqrt(0.5), x)
    right = e.log1p(e.neg(e.mul(half, e.erfc(e.mul(e.select(positive, x, zero), root)))))
    left = e.log(e.mul(half, e.erfc(e.mul(e.neg(e.select(e.or_(in_tail, positive), zero, x)), root))))
    far = e.select(in_tail, x, _scalar(edge, x))
    inverse_square = e.div(_scalar(1, x), e.mul(far, far))
    series = _scalar(1, x)
    for k in range(terms, 0, -1):
        series = 1 - series * inverse_square * (2 * k - 1)
    tail = e.mul(far, far) * -0.5 - e.log(e.neg(far)) - 0.5 * math.log(2 * math.pi) + e.log(series)
    return e.select(in_tail, tail, e.select(positive, right, left))


# The gamma function and its relatives


def gammaln(x: Any) -> Array:
    """The logarithm of the absolute value of the gamma function.

    Example:
        >>> import funcgrad.numpy as np
        >>> from funcgrad.scipy import special
        >>> special.gammaln(np.array([1.0, 5.0])).round(3)
        Array([0.   , 3.178], dtype=float32)
    """
    return e.lgamma(*promote_inexact(x))


def gamma(x: Any) -> Array:
    """The gamma function, which for whole n is (n - 1)!.

    Example:
        >>> import funcgrad.numpy as np
        >>> from funcgrad.scipy import special
        >>> special.gamma(np.array([0.5])).round(3)
        Array([1.772], dtype=float32)
    """
    (x,) = promote_inexact(x)
    zero, two = _scalar(0, x), _scalar(2, x)
    whole = e.floor(x)
    # Between negative whole numbers the sign alternates; at them there is a pole of no sign.
    odd = e.and_(e.lt(x, zero), e.ne(whole, e.mul(two, e.floor(e.div(whole, two)))))
    size = e.exp(e.lgamma(x))
    result = e.select(odd, e.neg(size), size)
    pole = e.and_(e.lt(x, zero), e.eq(x, whole))
    return e.select(pole, _scalar(math.nan, x), e.select(e.eq(x, zero), e.div(_scalar(1, x), x), result))


def betaln(a: Any, b: Any) -> Array:
    """The logarithm of the beta function, gammaln(a) + gammaln(b) - gammaln(a + b).

    Example:
        >>> import funcgrad.numpy as np
        >>> from funcgrad.scipy import special
        >>> special.betaln(np.array([1.0]), 1.0)
        Array([0.], dtype=float32)
    """
    a, b = promote_inexact(a, b)
    return e.sub(e.add(e.lgamma(a), e.lgamma(b)), e.lgamma(e.add(a, b)))


def digamma(x: Any) -> Array:
    """The derivative of `gammaln`.

    Example:
        >>> import funcgrad.numpy as np
        >>> from funcgrad.scipy import special
        >>> special.digamma(np.array([1.0])).round(3)
        Array([-0.577], dtype=float32)
    """
    return e.digamma(*promote_inexact(x))


def polygamma(n: Any, x: Any) -> Array:
    """The n-th derivative of `digamma`, for whole numbers n; NaN for others, and infinite for n above 170.

    Example:
        >>> import funcgrad.numpy as np
        >>> from funcgrad.scipy import special
        >>> special.polygamma(1, np.array([1.0])).round(3)
        Array([1.645], dtype=float32)
    """
    return e.polygamma(*promote_inexact(n, x))


# Logistic functions and entropies


def expit(x: Any) -> Array:
    """The logistic function 1 / (1 + exp(-x)), also known as the sigmoid.

    Example:
        >>> import funcgrad.numpy as np
        >>> from funcgrad.scipy import special
        >>> special.expit(np.array([0.0, 100.0]))
        Array([0.5, 1. ], dtype=float32)
    """
    return e.logistic(*promote_inexact(x))


def logit(x: Any) -> Array:
    """The inverse of `expit`, log(x / (1 - x)), for x from 0 to 1.

    Example:
        >>> import funcgrad.numpy as np
        >>> from funcgrad.scipy import special
        >>> special.logit(np.array([0.5, 1.0]))
        Array([ 0., inf], dtype=float32)
    """
    (x,) = promote_inexact(x)
    return e.sub(e.log(x), e.log1p(e.neg(x)))


def xlogy(x: Any, y: Any) -> Array:
    """x * log(y), and 0 where x is 0, whatever y is. The gradient at (0, 0) is zero.

    Example:
        >>> import funcgrad.numpy as np
        >>> from funcgrad.scipy import special
        >>> special.xlogy(np.array([0.0, 2.0]), np.array([0.0, 1.0]))
        Array([0., 0.], dtype=float32)
    """
    x, y = promote_inexact(x, y)
    return _times_log(x, y, e.log, 1.0)


def xlog1py(x: Any, y: Any) -> Array:
    """x * log(1 + y), and 0 where x is 0, whatever y is. The gradient at (0, -1) is zero.

    Example:
        >>> import funcgrad.numpy as np
        >>> from funcgrad.scipy import special
        >>> special.xlog1py(np.array([0.0]), -1.0)
        Array([0.], dtype=float32)
    """
    x, y = promote_inexact(x, y)
    return _times_log(x, y, e.log1p, 0.0)


def _times_log(x: Array, y: Array, log: Any, harmless: float) -> Array:
    logarithm = e.stop_gradient(log(y))
    # NaN of y itself shows in the result; other logarithms that are no numbers do not when they are multiplied by 0.
    ignored = e.and_(e.eq(x, _scalar(0, x)), e.and_(e.not_(e.is_finite(logarithm)), e.not_(e.is_nan(y))))
    return e.mul(x, log(e.select(ignored, _scalar(harmless, y), y)))


def entr(x: Any) -> Array:
    """-x * log(x), a term of the entropy: 0 at 0, and -inf for negative x.

    Example:
        >>> import funcgrad.numpy as np
        >>> from funcgrad.scipy import special
        >>> special.entr(np.array([0.0, 1.0, -1.0]))
        Array([  0.,   0., -inf], dtype=float32)
    """
    (x,) = promote_inexact(x)
    negative = e.lt(x, _scalar(0, x))
    safe = e.select(negative, _scalar(1, x), x)
    return e.select(negative, _scalar(-math.inf, x), e.sub(_scalar(0, x), xlogy(safe, safe)))


def rel_entr(x: Any, y: Any) -> Array:
    """x * log(x / y), a term of the relative entropy: 0 where x is 0 and y at least 0, infinite outside of that.

    Example:
        >>> import funcgrad.numpy as np
        >>> from funcgrad.scipy import special
        >>> special.rel_entr(np.array([0.0, 1.0]), np.array([1.0, 0.0]))
        Array([ 0., inf], dtype=float32)
    """
    x, y = promote_inexact(x, y)
    zero, one = _scalar(0, x), _scalar(1, x)
    inside = e.and_(e.gt(x, zero), e.gt(y, zero))
    x_safe, y_safe = e.select(inside, x, one), e.select(inside, y, one)
    value = e.mul(x_safe, e.sub(e.log(x_safe), e.log(y_safe)))
    at_zero = e.and_(e.eq(x, zero), e.ge(y, zero))
    missing = e.or_(e.is_nan(x), e.is_nan(y))
    outside = e.select(at_zero, zero, e.select(missing, _scalar(math.nan, x), _scalar(math.inf, x)))
    return e.select(inside, value, outside)


def kl_div(x: Any, y: Any) -> Array:
    """x * log(x / y) - x + y, a term of the Kullback-Leibler divergence that is never negative.

    Example:
        >>> import funcgrad.numpy as np
        >>> from funcgrad.scipy import special
        >>> special.kl_div(np.array([1.0, 0.0]), np.array([1.0, 2.0]))
        Array([0., 2.], dtype=float32)
    """
    x, y = promote_inexact(x, y)
    return e.add(rel_entr(x, y), e.sub(y, x))


# Sums of exponentials


def _shift(x: Array, axes: tuple[int, ...]) -> Array:
    """The largest element, kept apart from derivatives; 0 where it is infinite or there is none."""
    real = e.real(x) if dtypes.is_complex(x.dtype) else x
    if 0 in [x.shape[axis] for axis in axes]:
        shape = tuple(1 if axis in axes else length for axis, length in enumerate(x.shape))
        return e.full(shape, 0, real.dtype)
    largest = keep_axes(reduce_max(e.stop_gradient(real), axes=axes), x.shape, axes)
    return e.select(e.is_finite(largest), largest, e.zeros_like(largest))


def logsumexp(
    a: Any, axis: Axis = None, b: Any = None, keepdims: bool = False, return_sign: bool = False, where: Any = None
) -> Any:
    """log(sum(exp(a))) over axes, without overflow; -inf where there are no elements.

    Arguments:
        a: an array.
        axis, keepdims: as for `fg.numpy.sum`.
        b: factors of the exponentials, which broadcast with `a`.
        return_sign: whether to give the sign of the sum as well, which may be negative only with `b`.
        where: which elements take part.

    Returns:
        The logarithm; with `return_sign` a pair of the logarithm of the sum's size and the sign. Without it a negative
        sum gives NaN.

    Example:
        >>> import funcgrad.numpy as np
        >>> from funcgrad.scipy import special
        >>> special.logsumexp(np.array([1000.0, 1000.0])).round(1)
        Array(1000.7, dtype=float32)
    """
    x, factor = (*promote_inexact(a), None) if b is None else promote_inexact(a, b)
    if factor is not None:
        shape = e.broadcast_shape("logsumexp", x, factor)
        x, factor = broadcast_to(x, shape), broadcast_to(factor, shape)
        # A factor of zero takes its element out, infinite or not.
        where = e.ne(factor, _scalar(0, factor)) if where is None else e.and_(as_condition(where), as_condition(factor))
    axes = reduction_axes("logsumexp", axis, x.ndim)
    taken = None if where is None else broadcast_to(as_condition(where), x.shape)
    if taken is not None:
        x = e.select(taken, x, _scalar(-math.inf, x))
    shift = _shift(x, axes)
    shift_of_x = e.complex_(shift, e.zeros_like(shift)) if dtypes.is_complex(x.dtype) else shift
    exponentials = e.exp(e.sub(x, shift_of_x))
    if factor is not None:
        exponentials = e.mul(exponentials, factor)
        if taken is not None:
            exponentials = e.select(taken, exponentials, _scalar(0, x))
    total = keep_axes(reduce_sum(exponentials, axes=axes), x.shape, axes)
    sign = e.sign(total)
    empty = e.eq(total, _scalar(0, total))
    size = e.select(empty, _scalar(1, total), total)
    size = e.abs_(size) if return_sign else size
    log = e.log(size)
    result = e.add(log, shift if log.dtype is shift.dtype else shift_of_x)
    result = e.select(empty, _scalar(-math.inf, result), result)
    if not keepdims:
        shape = tuple(length for axis, length in enumerate(x.shape) if axis not in axes)
        result, sign = reshape(result, shape=shape), reshape(sign, shape=shape)
    return (result, sign) if return_sign else result


def softmax(x: Any, axis: Axis = None) -> Array:
    """Exponentials divided by their sum over axes, without overflow.

    Example:
        >>> import funcgrad.numpy as np
        >>> from funcgrad.scipy import special
        >>> special.softmax(np.array([1000.0, 1000.0]))
        Array([0.5, 0.5], dtype=float32)
    """
    (x,) = promote_inexact(x)
    axes = reduction_axes("softmax", axis, x.ndim)
    exponentials = e.exp(e.sub(x, _shift(x, axes)))
    return e.div(exponentials, keep_axes(reduce_sum(exponentials, axes=axes), x.shape, axes))


def log_softmax(x: Any, axis: Axis = None) -> Array:
    """The logarithm of `softmax`.

    Example:
        >>> import funcgrad.numpy as np
        >>> from funcgrad.scipy import special
        >>> special.log_softmax(np.array([0.0, -1000.0]))
        Array([    0., -1000.], dtype=float32)
    """
    (x,) = promote_inexact(x)
    axes = reduction_axes("log_softmax", axis, x.ndim)
    shifted = e.sub(x, _shift(x, axes))
    return e.sub(shifted, e.log(keep_axes(reduce_sum(e.exp(shifted), axes=axes), x.shape, axes)))


# Bessel functions


def i0e(x: Any) -> Array:
    """The modified Bessel function of order 0, times exp(-|x|).

    Example:
        >>> import funcgrad.numpy as np
        >>> from funcgrad.scipy import special
        >>> special.i0e(np.array([0.0]))
        Array([1.], dtype=float32)
    """
    return bessel_i0e(*promote_inexact(x))


def i1e(x: Any) -> Array:
    """The modified Bessel function of order 1, times exp(-|x|).

    Example:
        >>> import funcgrad.numpy as np
        >>> from funcgrad.scipy import special
        >>> special.i1e(np.array([0.0]))
        Array([0.], dtype=float32)
    """
    return bessel_i1e(*promote_inexact(x))


def i0(x: Any) -> Array:
    """The modified Bessel function of order 0.

    Example:
        >>> import funcgrad.numpy as np
        >>> from funcgrad.scipy import special
        >>> special.i0(np.array([0.0]))
        Array([1.], dtype=float32)
    """
    (x,) = promote_inexact(x)
    return e.mul(e.exp(e.abs_(x)), bessel_i0e(x))


def i1(x: Any) -> Array:
    """The modified Bessel function of order 1.

    Example:
        >>> import funcgrad.numpy as np
        >>> from funcgrad.scipy import special
        >>> special.i1(np.array([0.0]))
        Array([0.], dtype=float32)
    """
    (x,) = promote_inexact(x)
    return e.mul(e.exp(e.abs_(x)), bessel_i1e(x))


__all__ = [
    "betaln",
    "digamma",
    "entr",
    "erf",
    "erfc",
    "erfinv",
    "expit",
    "gamma",
    "gammaln",
    "i0",
    "i0e",
    "i1",
    "i1e",
    "kl_div",
    "log_ndtr",
    "log_softmax",
    "logit",
    "logsumexp",
    "ndtr",
    "polygamma",
    "rel_entr",
    "softmax",
    "xlog1py",
    "xlogy",
]
