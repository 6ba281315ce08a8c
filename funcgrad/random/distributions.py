"""Random numbers of continuous distributions: each a function of uniform ones."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy

from funcgrad import dtypes
from funcgrad.array import Array, as_array, constant
from funcgrad.primitives import elementwise as e
from funcgrad.primitives.operators import cast
from funcgrad.random.arguments import Shape, broadcasting_shape, checked_dtype, checked_shape
from funcgrad.random.keys import split
from funcgrad.random.uniform_numbers import uniform_between


def normal(key: Array, shape: Shape = (), dtype: Any = dtypes.float32) -> Array:
    """Normal random numbers, of mean 0 and variance 1.

    Those of complex dtypes have independent real and imaginary parts of variance 1/2.

    Arguments:
        key: a random key.
        shape: of the result.
        dtype: a floating or complex dtype.

    Returns:
        An array of this shape and dtype.

    Raises:
        ArgumentTypeError: if `key` is not a random key.
        DtypeError: if the dtype is not floating or complex.

    Example:
        >>> import funcgrad as fg
        >>> fg.random.normal(fg.random.key(0), (2, 3)).shape
        (2, 3)
    """
    shape, dtype = checked_shape("normal", shape), checked_dtype("normal", dtype, "floating or complex")
    if dtypes.is_complex(dtype):
        parts = (normal(subkey, shape, dtypes.real_of(dtype)) for subkey in split(key))
        return e.div(e.complex_(*parts), constant(math.sqrt(2), dtype))
    # The quantile function, at numbers between -1, exclusive, and 1.
    u = uniform_between("normal", key, shape, dtype, above_minus_one(dtype), 1.0)
    return e.mul(constant(math.sqrt(2), dtype), e.erf_inv(u))


def above_minus_one(dtype: numpy.dtype) -> float:
    """The smallest number of this dtype above -1."""
    return float(ml_dtypes.finfo(dtype).epsneg) - 1


def truncated_normal(
    key: Array, lower: Any, upper: Any, shape: Shape | None = None, dtype: Any = dtypes.float32
) -> Array:
    """Normal random numbers under the condition that they lie between `lower` and `upper`.

    Arguments:
        key: a random key.
        lower, upper: numbers, or arrays that broadcast together, in which the result is differentiable.
        shape: of the result, to which they broadcast; by default their common shape.
        dtype: a floating dtype.

    Returns:
        An array of this shape and dtype; its elements lie strictly between the bounds.

    Raises:
        ArgumentTypeError: if `key` is not a random key.
        DtypeError: if the dtype is not floating.
        ShapeError: if the bounds do not broadcast to the shape.

    Example:
        >>> import funcgrad as fg
        >>> x = fg.random.truncated_normal(fg.random.key(0), -2.0, 2.0, (1000,))
        >>> bool((abs(x) < 2).all())
        True
    """
    dtype = checked_dtype("truncated_normal", dtype)
    low, high = (cast(as_array(x), dtype) for x in (lower, upper))
    shape = broadcasting_shape("truncated_normal", shape, low, high)
    root = constant(math.sqrt(2), dtype)
    ends = [
        # Bounds known now need no special function library, whose import every training program would wait for.
        math.erf(bound / math.sqrt(2)) if isinstance(bound, (int, float)) else e.erf(e.div(array, root))
        for bound, array in ((lower, low), (upper, high))
    ]
    u = uniform_between("truncated_normal", key, shape, dtype, *ends)
    u = e.max_(u, constant(above_minus_one(dtype), dtype))
    result = e.mul(root, e.erf_inv(u))
    infinity = constant(math.inf, dtype)
    above = e.nextafter(e.stop_gradient(low), infinity)
    below = e.nextafter(e.stop_gradient(high), e.neg(infinity))
    return e.min_(e.max_(result, above), below)


def exponential(key: Array, shape: Shape = (), dtype: Any = dtypes.float32) -> Array:
    """Exponential random numbers, of mean 1.

    Arguments:
        key: a random key.
        shape: of the result.
        dtype: a floating dtype.

    Returns:
        An array of this shape and dtype.

    Raises:
        ArgumentTypeError: if `key` is not a random key.
        DtypeError: if the dtype is not floating.

    Example:
        >>> import funcgrad as fg
        >>> bool((fg.random.exponential(fg.random.key(0), (10,)) >= 0).all())
        True
    """
    u = uniform_between(
        "exponential", key, checked_shape("exponential", shape), checked_dtype("exponential", dtype), 0.0, 1.0
    )
    return e.neg(e.log1p(e.neg(u)))


def gumbel(key: Array, shape: Shape = (), dtype: Any = dtypes.float32) -> Array:
    """Gumbel random numbers: -log(-log(u)) of uniform ones, the distribution of largest values.

    Arguments:
        key: a random key.
        shape: of the result.
        dtype: a floating dtype.

    Returns:
        An array of this shape and dtype.

    Raises:
        ArgumentTypeError: if `key` is not a random key.
        DtypeError: if the dtype is not floating.

    Example:
        >>> import funcgrad as fg
        >>> fg.random.gumbel(fg.random.key(0), (3,)).shape
        (3,)
    """
    return e.neg(e.log(e.neg(e.log(_positive("gumbel", key, shape, dtype)))))


def _positive(name: str, key: Any, shape: Shape, dtype: Any) -> Array:
    """Uniform numbers of which none is 0: the smallest normal number of the dtype stands in for it."""
    dtype = checked_dtype(name, dtype)
    u = uniform_between(name, key, checked_shape(name, shape), dtype, 0.0, 1.0)
    return e.max_(u, constant(float(ml_dtypes.finfo(dtype).tiny), dtype))


def laplace(key: Array, shape: Shape = (), dtype: Any = dtypes.float32) -> Array:
    """Laplace random numbers, of density exp(-abs(x)) / 2.

    Arguments:
        key: a random key.
        shape: of the result.
        dtype: a floating dtype.

    Returns:
        An array of this shape and dtype.

    Raises:
        ArgumentTypeError: if `key` is not a random key.
        DtypeError: if the dtype is not floating.

    Example:
        >>> import funcgrad as fg
        >>> fg.random.laplace(fg.random.key(0), (3,)).shape
        (3,)
    """
    dtype = checked_dtype("laplace", dtype)
    u = uniform_between("laplace", key, checked_shape("laplace", shape), dtype, above_minus_one(dtype), 1.0)
    return e.mul(e.sign(u), e.log1p(e.neg(e.abs_(u))))


def logistic(key: Array, shape: Shape = (), dtype: Any = dtypes.float32) -> Array:
    """Logistic random numbers: log(u / (1 - u)) of uniform ones.

    Arguments:
        key: a random key.
        shape: of the result.
        dtype: a floating dtype.

    Returns:
        An array of this shape and dtype.

    Raises:
        ArgumentTypeError: if `key` is not a random key.
        DtypeError: if the dtype is not floating.

    Example:
        >>> import funcgrad as fg
        >>> fg.random.logistic(fg.random.key(0), (3,)).shape
        (3,)
    """
    u = _positive("logistic", key, shape, dtype)
    return e.sub(e.log(u), e.log1p(e.neg(u)))


def cauchy(key: Array, shape: Shape = (), dtype: Any = dtypes.float32) -> Array:
    """Cauchy random numbers: the tangent of a uniform angle. They have no mean.

    Arguments:
        key: a random key.
        shape: of the result.
        dtype: a floating dtype.

    Returns:
        An array of this shape and dtype.

    Raises:
        ArgumentTypeError: if `key` is not a random key.
        DtypeError: if the dtype is not floating.

    Example:
        >>> import funcgrad as fg
        >>> fg.random.cauchy(fg.random.key(0), (3,)).shape
        (3,)
    """
    dtype = checked_dtype("cauchy", dtype)
    epsilon = float(ml_dtypes.finfo(dtype).eps)
    u = uniform_between("cauchy", key, checked_shape("cauchy", shape), dtype, epsilon, 1.0)
    return e.tan(e.mul(constant(math.pi, dtype), e.sub(u, constant(0.5, dtype))))
