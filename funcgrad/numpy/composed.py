"""Functions that work element by element and are composed of several primitives.

Each is written so that its derivative is right, and finite where the function is smooth, at the points where a plain
formula divides zero by zero: hypot(0, 0), logaddexp of equal infinities, sinc(0). The means are always the same:
keep the dangerous operand away *before* the operation, with `where`, not after it.
"""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy

from funcgrad import dtypes
from funcgrad.array import Array, as_array
from funcgrad.errors import ArgumentError, DtypeError
from funcgrad.numpy.searching import as_condition
from funcgrad.primitives import elementwise as e
from funcgrad.primitives.bessel import bessel_i0e
from funcgrad.primitives.integers import gcd as _gcd
from funcgrad.primitives.operators import (
    Composed,
    absolute,
    always,
    cast,
    direct_function,
    floor_divide,
    promote,
    promote_inexact,
)
from funcgrad.primitives.reductions import reduce_and
from funcgrad.primitives.shapes import broadcast_to
from funcgrad.transforms.custom_derivatives import custom_jvp


def _scalar(value: bool | int | float | complex, like: Array) -> Array:
    return e.full((), value, like.dtype)


def _real_only(name: str, *arrays: Array) -> None:
    if dtypes.is_complex(arrays[0].dtype):
        raise DtypeError(f"{name} takes real numbers, not {arrays[0].dtype.name}; take x.real, x.imag or abs(x) first.")


def clip(arr: Any, /, min: Any = None, max: Any = None, *, a_min: Any = None, a_max: Any = None) -> Array:
    """Elements limited to the range from `min` to `max`.

    Arguments:
        arr: an array.
        min, max: the limits, arrays or numbers that broadcast; None for no limit. NumPy's older names for them are
            `a_min` and `a_max`.

    Returns:
        An array of the common shape. NaN stays NaN.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.clip(np.array([-1.0, 0.5, 3.0]), 0, 1)
        Array([0. , 0.5, 1. ], dtype=float32)
    """
    low, high = a_min if min is None else min, a_max if max is None else max
    if low is not None and high is not None:
        return _clip.call(arr, low, high)
    result = as_array(arr)
    if low is not None:
        result = e.max_(*promote(result, low))
    if high is not None:
        result = e.min_(*promote(result, high))
    return result


def _limit(arr: Any, low: Any, high: Any) -> Array:
    return e.min_(*promote(e.max_(*promote(as_array(arr), low)), high))


_clip = direct_function("clip", _limit, 3, always(Composed("clip", _limit)))


def nan_to_num(x: Any, copy: bool = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None) -> Array:
    """NaN and infinities replaced by numbers.

    Arguments:
        x: an array.
        copy: of no consequence, since arrays are immutable.
        nan: what takes the place of NaN.
        posinf, neginf: what takes the place of infinities; by default the largest finite numbers of the dtype.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.nan_to_num(np.array([1.0, np.nan, -np.inf]), neginf=-9.0)
        Array([ 1.,  0., -9.], dtype=float32)
    """
    x = as_array(x)
    if not dtypes.is_differentiable(x.dtype):
        return x
    if dtypes.is_complex(x.dtype):
        return e.complex_(*(nan_to_num(part, copy, nan, posinf, neginf) for part in (e.real(x), e.imag(x))))
    largest = float(ml_dtypes.finfo(x.dtype).max)
    x = e.select(e.is_nan(x), _filler(nan, x), x)
    x = e.select(isposinf(x), _filler(largest if posinf is None else posinf, x), x)
    return e.select(isneginf(x), _filler(-largest if neginf is None else neginf, x), x)


def _filler(value: Any, like: Array) -> Array:
    # The largest float64 does not pass through float32, the dtype that a Python float has otherwise.
    return _scalar(value, like) if isinstance(value, (int, float)) else cast(as_array(value), like.dtype)


# Predicates


def isinf(x: Any, /) -> Array:
    """Whether each element is an infinity.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.isinf(np.array([1.0, -np.inf, np.nan]))
        Array([False,  True, False], dtype=bool)
    """
    x = as_array(x)
    if dtypes.is_complex(x.dtype):
        return e.or_(isinf(e.real(x)), isinf(e.imag(x)))
    if not dtypes.is_floating(x.dtype):
        return e.full(x.shape, False, dtypes.bool_)
    return e.eq(e.abs_(x), _scalar(math.inf, x))


def _is_infinity(name: str, x: Any, value: float) -> Array:
    x = as_array(x)
    _real_only(name, x)
    if not dtypes.is_floating(x.dtype):
        return e.full(x.shape, False, dtypes.bool_)
    return e.eq(x, _scalar(value, x))


def isposinf(x: Any, /) -> Array:
    """Whether each element is positive infinity.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.isposinf(np.array([np.inf, -np.inf]))
        Array([ True, False], dtype=bool)
    """
    return _is_infinity("isposinf", x, math.inf)


def isneginf(x: Any, /) -> Array:
    """Whether each element is negative infinity.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.isneginf(np.array([np.inf, -np.inf]))
        Array([False,  True], dtype=bool)
    """
    return _is_infinity("isneginf", x, -math.inf)


def iscomplex(x: Any) -> Array:
    """Whether each element has an imaginary part that is not zero.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.iscomplex(np.array([1 + 0j, 1 + 2j]))
        Array([False,  True], dtype=bool)
    """
    x = as_array(x)
    return as_condition(e.imag(x)) if dtypes.is_complex(x.dtype) else e.full(x.shape, False, dtypes.bool_)


def isreal(x: Any) -> Array:
    """Whether each element has no imaginary part.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.isreal(np.array([1 + 0j, 1 + 2j]))
        Array([ True, False], dtype=bool)
    """
    return e.not_(iscomplex(x))


def isclose(a: Any, b: Any, rtol: Any = 1e-05, atol: Any = 1e-08, equal_nan: bool = False) -> Array:
    """Whether elements are equal up to a tolerance: |a - b| <= atol + rtol * |b|.

    Arguments:
        a, b: arrays or numbers that broadcast.
        rtol, atol: the relative and the absolute tolerance.
        equal_nan: whether NaN is close to NaN.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.isclose(np.array([1.0, 2.0]), np.array([1.000001, 2.1]))
        Array([ True, False], dtype=bool)
    """
    a, b = promote_inexact(a, b)
    near = e.le(*promote(e.abs_(e.sub(a, b)), atol + rtol * e.abs_(b)))
    # Infinities are close only to themselves; their difference and tolerance are NaN or infinite.
    both_finite = e.and_(e.is_finite(a), e.is_finite(b))
    close = e.or_(e.and_(near, both_finite), e.eq(a, b))
    if equal_nan:
        close = e.or_(close, e.and_(e.is_nan(a), e.is_nan(b)))
    return close


def _all(x: Array) -> Array:
    return reduce_and(x, axes=tuple(range(x.ndim)))


def allclose(a: Any, b: Any, rtol: Any = 1e-05, atol: Any = 1e-08, equal_nan: bool = False) -> Array:
    """Whether all elements are equal up to a tolerance; see `isclose`.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.allclose(np.array([1.0, 2.0]), np.array([1.0, 2.000001]))
        Array(True, dtype=bool)
    """
    return _all(isclose(a, b, rtol, atol, equal_nan))


def array_equal(a1: Any, a2: Any, equal_nan: bool = False) -> Array:
    """Whether two arrays have the same shape and the same elements.

    Arguments:
        a1, a2: arrays.
        equal_nan: whether NaN equals NaN.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.array_equal(np.array([1, 2]), np.array([1.0, 2.0]))
        Array(True, dtype=bool)
    """
    a, b = promote(a1, a2)
    if a.shape != b.shape:
        return e.full((), False, dtypes.bool_)
    same = e.eq(a, b)
    if equal_nan:
        same = e.or_(same, e.and_(e.is_nan(a), e.is_nan(b)))
    return _all(same)


def array_equiv(a1: Any, a2: Any) -> Array:
    """Whether two arrays broadcast together and then have the same elements.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.array_equiv(np.array([1, 1]), 1)
        Array(True, dtype=bool)
    """
    a, b = promote(a1, a2)
    try:
        e.broadcast_shape("array_equiv", a, b)
    except ValueError:
        return e.full((), False, dtypes.bool_)
    return _all(e.eq(a, b))


# Arithmetic


def _fmax_or_fmin(primitive: Any, x: Any, y: Any) -> Array:
    x, y = promote(x, y)
    if not dtypes.is_differentiable(x.dtype):
        return primitive(x, y)
    return e.select(e.is_nan(x), y, e.select(e.is_nan(y), x, primitive(x, y)))


def fmax(x: Any, y: Any, /) -> Array:
    """The larger of x and y; where one is NaN, the other.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.fmax(np.array([1.0, np.nan]), 0.5)
        Array([1. , 0.5], dtype=float32)
    """
    return _fmax_or_fmin(e.max_, x, y)


def fmin(x: Any, y: Any, /) -> Array:
    """The smaller of x and y; where one is NaN, the other.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.fmin(np.array([1.0, np.nan]), 0.5)
        Array([0.5, 0.5], dtype=float32)
    """
    return _fmax_or_fmin(e.min_, x, y)


def copysign(x: Any, y: Any, /) -> Array:
    """The number with the size of x and the sign of y; -0.0 has a minus sign.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.copysign(np.array([1.0, -2.0]), np.array([-0.0, 3.0]))
        Array([-1.,  2.], dtype=float32)
    """
    x, y = promote_inexact(x, y)
    return e.select(e.eq(e.sign_bit(x), e.sign_bit(y)), x, e.neg(x))


def heaviside(x: Any, y: Any, /) -> Array:
    """The step function: 0 for negative x, 1 for positive x, and y where x is 0.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.heaviside(np.array([-1.0, 0.0, 1.0]), 0.5)
        Array([0. , 0.5, 1. ], dtype=float32)
    """
    x, y = promote_inexact(x, y)
    zero = _scalar(0, x)
    step = e.select(e.lt(x, zero), zero, e.select(e.eq(x, zero), y, _scalar(1, x)))
    return e.select(e.is_nan(x), _scalar(math.nan, x), step)


def hypot(x: Any, y: Any, /) -> Array:
    """The length of the hypotenuse, sqrt(x**2 + y**2), without overflow on the way. Its gradient at (0, 0) is zero.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.hypot(np.array([3.0, 0.0]), np.array([4.0, 0.0]))
        Array([5., 0.], dtype=float32)
    """
    x, y = promote_inexact(x, y)
    _real_only("hypot", x)
    zero, one = _scalar(0, x), _scalar(1, x)
    # Any positive scale gives the same result, so it is a constant to derivatives.
    scale = e.stop_gradient(e.max_(e.abs_(x), e.abs_(y)))
    scale = e.select(e.and_(e.gt(scale, zero), e.is_finite(scale)), scale, one)
    u, v = e.div(x, scale), e.div(y, scale)
    squares = e.add(e.mul(u, u), e.mul(v, v))
    at_zero = e.eq(squares, zero)
    length = e.select(at_zero, zero, e.mul(scale, e.sqrt(e.select(at_zero, one, squares))))
    return e.select(e.or_(isinf(x), isinf(y)), _scalar(math.inf, x), length)


def gcd(x1: Any, x2: Any) -> Array:
    """The greatest common divisor of integers; never negative.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.gcd(np.array([12, -18]), 8)
        Array([4, 2], dtype=int32)
    """
    return _gcd(*promote(x1, x2))


def lcm(x1: Any, x2: Any) -> Array:
    """The least common multiple of integers; never negative.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.lcm(np.array([4, 0]), 6)
        Array([12,  0], dtype=int32)
    """
    x, y = promote(x1, x2)
    divisor = _gcd(x, y)
    divisor = e.select(e.eq(divisor, _scalar(0, x)), _scalar(1, x), divisor)
    return absolute(e.mul(e.div(x, divisor), y))


def _power_of_two(exponent: Array, dtype: numpy.dtype) -> list[Array]:
    """2**exponent as three factors, since one alone may lie outside the range where the product does not."""
    limit = 14 if dtype is dtypes.float16 else 126 if dtype.itemsize <= 4 else 1022
    factors = []
    for _ in range(3):
        part = e.min_(e.max_(exponent, _scalar(-limit, exponent)), _scalar(limit, exponent))
        exponent = e.sub(exponent, part)
        factors.append(e.exp2(cast(part, dtype)))
    return factors


def ldexp(x1: Any, x2: Any, /) -> Array:
    """x1 * 2**x2, for integers x2.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.ldexp(np.array([1.0, 0.75]), np.array([3, 2]))
        Array([8., 3.], dtype=float32)
    """
    (x,), exponent = promote_inexact(x1), as_array(x2)
    if not dtypes.is_integer(exponent.dtype):
        raise DtypeError(f"ldexp takes integer exponents, not {exponent.dtype.name}; use x * 2.0**y for others.")
    _real_only("ldexp", x)
    for factor in _power_of_two(exponent, x.dtype):
        x = e.mul(x, factor)
    return x


def frexp(x: Any, /) -> tuple[Array, Array]:
    """The mantissa, from 0.5 to 1 in size, and the integer exponent: x = mantissa * 2**exponent.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.frexp(np.array([8.0, 3.0]))
        (Array([0.5 , 0.75], dtype=float32), Array([4, 2], dtype=int32))
    """
    (x,) = promote_inexact(x)
    _real_only("frexp", x)
    one = _scalar(1, x)
    usual = e.and_(e.is_finite(x), e.ne(x, _scalar(0, x)))
    size = e.abs_(e.stop_gradient(e.select(usual, x, one)))
    exponent = cast(e.floor(e.log2(size)), dtypes.int32) + 1
    # A logarithm may be off by one next to a power of two.
    mantissa = ldexp(size, e.neg(exponent))
    exponent = exponent + cast(e.ge(mantissa, one), dtypes.int32) - cast(e.lt(mantissa, _scalar(0.5, x)), dtypes.int32)
    exponent = e.select(usual, exponent, e.zeros_like(exponent))
    return ldexp(x, e.neg(exponent)), exponent


def modf(x: Any, /) -> tuple[Array, Array]:
    """The fractional and the whole part, both with the sign of x.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.modf(np.array([1.5, -2.25]))
        (Array([ 0.5 , -0.25], dtype=float32), Array([ 1., -2.], dtype=float32))
    """
    (x,) = promote_inexact(x)
    whole = e.trunc(x)
    fraction = e.select(isinf(x), _scalar(0, x), e.sub(x, e.select(isinf(x), _scalar(0, x), whole)))
    return copysign(fraction, x), whole


def spacing(x: Any, /) -> Array:
    """The distance from x to the next float away from zero, with the sign of x.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.spacing(np.array([1.0]))
        Array([1.1920929e-07], dtype=float32)
    """
    (x,) = promote_inexact(x)
    away = e.select(e.sign_bit(x), _scalar(-math.inf, x), _scalar(math.inf, x))
    step = e.sub(e.nextafter(x, away), x)
    return e.select(e.is_finite(x), step, _scalar(math.nan, x))


def round(a: Any, decimals: int = 0, out: None = None) -> Array:
    """Rounded to a number of decimals, halves to even.

    Arguments:
        a: an array.
        decimals: how many digits are kept after the decimal point; negative ones round to tens, hundreds and so on.
        out: refused, since arrays are immutable.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.round(np.array([1.25, 2.675]), 1)
        Array([1.2, 2.7], dtype=float32)
    """
    if out is not None:
        raise ArgumentError("round cannot write into out=..., since arrays are immutable; use the array it returns.")
    x = as_array(a)
    if dtypes.is_complex(x.dtype):
        return e.complex_(round(e.real(x), decimals), round(e.imag(x), decimals))
    if not dtypes.is_floating(x.dtype):
        return x if decimals >= 0 or dtypes.is_bool(x.dtype) else _round_integer(x, 10**-decimals)
    if decimals == 0:
        return e.round_(x)
    wide = cast(x, dtypes.float32) if x.dtype.itemsize == 2 else x
    factor = _scalar(10.0 ** abs(decimals), wide)
    if decimals > 0:
        result = e.div(e.round_(e.mul(wide, factor)), factor)
    else:
        result = e.mul(e.round_(e.div(wide, factor)), factor)
    return cast(result, x.dtype)


def _round_integer(x: Array, unit: int) -> Array:
    if unit > numpy.iinfo(x.dtype).max:
        return e.zeros_like(x)
    quotient = floor_divide(x, unit)
    rest = x - quotient * unit
    up = e.or_(rest > unit // 2, e.and_(e.eq(rest, _scalar(unit // 2, x)), e.ne(quotient & 1, _scalar(0, x))))
    return (quotient + cast(up, x.dtype)) * unit


# Exponentials and logarithms


def _log_add(x: Array, y: Array) -> tuple[Array, Array]:
    """What both functions need: the larger operand, and x - y, which is zero for equal infinities."""
    same_infinity = e.and_(e.eq(x, y), isinf(x))
    distance = e.select(same_infinity, _scalar(0, x), e.sub(x, y))
    return e.max_(x, y), distance


def _log_add_tangent(s: Array, t: Array, distance: Array, log_of_base: float) -> Array:
    # The weights exp(x) / (exp(x) + exp(y)) and 1 minus that are smooth, so higher derivatives are right as well.
    scaled = e.mul(distance, _scalar(log_of_base, distance))
    return s * e.logistic(scaled) + t * e.logistic(e.neg(scaled))


@custom_jvp
def _logaddexp(x: Array, y: Array) -> Array:
    larger, distance = _log_add(x, y)
    return e.add(larger, e.log1p(e.exp(e.neg(e.abs_(distance)))))


@_logaddexp.defjvp
def _logaddexp_jvp(primals, tangents):
    (x, y), (s, t) = primals, tangents
    return _logaddexp(x, y), _log_add_tangent(s, t, _log_add(x, y)[1], 1.0)


@custom_jvp
def _logaddexp2(x: Array, y: Array) -> Array:
    larger, distance = _log_add(x, y)
    return e.add(larger, e.log1p(e.exp2(e.neg(e.abs_(distance)))) * (1 / math.log(2)))


@_logaddexp2.defjvp
def _logaddexp2_jvp(primals, tangents):
    (x, y), (s, t) = primals, tangents
    return _logaddexp2(x, y), _log_add_tangent(s, t, _log_add(x, y)[1], math.log(2))


def _log_add_operands(name: str, x: Any, y: Any) -> tuple[Array, Array]:
    x, y = promote_inexact(x, y)
    _real_only(name, x)
    shape = e.broadcast_shape(name, x, y)
    return broadcast_to(x, shape), broadcast_to(y, shape)


def logaddexp(x: Any, y: Any, /) -> Array:
    """log(exp(x) + exp(y)), without overflow.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.logaddexp(np.array([500.0, -np.inf]), np.array([0.0, 0.0]))
        Array([500.,   0.], dtype=float32)
    """
    return _logaddexp(*_log_add_operands("logaddexp", x, y))


def logaddexp2(x: Any, y: Any, /) -> Array:
    """log2(2**x + 2**y), without overflow.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.logaddexp2(np.array([1000.0]), 1000.0)
        Array([1001.], dtype=float32)
    """
    return _logaddexp2(*_log_add_operands("logaddexp2", x, y))


def sinc(x: Any, /) -> Array:
    """sin(pi x) / (pi x), and 1 at x = 0; derivatives of every order are right there too.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.sinc(np.array([0.0, 0.5])).round(3)
        Array([1.   , 0.637], dtype=float32)
    """
    (x,) = promote_inexact(x)
    y = e.mul(x, _scalar(math.pi, x))
    # Near zero the quotient and its derivatives cancel; there the Taylor series takes over, which at |y| < 1/2 is
    # exact to float64 with eight terms.
    near = e.lt(e.abs_(y), e.full((), 0.5, dtypes.real_of(y.dtype)))
    far = e.select(near, _scalar(1, y), y)
    square = e.select(near, e.mul(y, y), _scalar(0, y))
    series = _scalar((-1) ** 7 / math.factorial(15), y)
    for k in range(6, -1, -1):
        series = e.add(e.mul(series, square), _scalar((-1) ** k / math.factorial(2 * k + 1), y))
    return e.select(near, series, e.div(e.sin(far), far))


def i0(x: Any) -> Array:
    """The modified Bessel function of the first kind, of order 0.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.i0(np.array([0.0, 1.0])).round(3)
        Array([1.   , 1.266], dtype=float32)
    """
    (x,) = promote_inexact(x)
    _real_only("i0", x)
    return e.mul(e.exp(e.abs_(x)), bessel_i0e(x))


def angle(z: Any, deg: bool = False) -> Array:
    """The angle of complex numbers in the plane, from -pi to pi; in degrees with `deg`.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.angle(np.array([1j, -1]), deg=True)
        Array([ 90., 180.], dtype=float32)
    """
    (z,) = promote_inexact(z)
    if dtypes.is_complex(z.dtype):
        result = e.atan2(e.imag(z), e.real(z))
    else:
        half_turn = e.select(e.sign_bit(z), _scalar(math.pi, z), _scalar(0, z))
        result = e.select(e.is_nan(z), _scalar(math.nan, z), half_turn)
    return e.mul(result, _scalar(180 / math.pi, result)) if deg else result


def polyval(p: Any, x: Any, *, unroll: int = 16) -> Array:
    """The value at `x` of the polynomial with the coefficients `p`, from the highest power down.

    Arguments:
        p: shape (degree + 1, ...); axes after the first broadcast with `x`.
        x: where to evaluate, any shape.
        unroll: of no consequence; it is here because JAX has it.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.polyval(np.array([1.0, 2.0, 3.0]), 10.0)
        Array(123., dtype=float32)
    """
    coefficients, x = promote(p, x)
    if coefficients.ndim == 0:
        raise ArgumentError("polyval needs an array of coefficients with at least one axis, not a single number.")
    shape = e.broadcast_shape("polyval", e.zeros_like(coefficients[0]) if len(coefficients) else x, x)
    result = e.full(shape, 0, x.dtype)
    for k in range(len(coefficients)):
        result = e.add(e.mul(result, x), coefficients[k])
    return result


around = round

__all__ = [
    "allclose",
    "angle",
    "around",
    "array_equal",
    "array_equiv",
    "clip",
    "copysign",
    "fmax",
    "fmin",
    "frexp",
    "gcd",
    "heaviside",
    "hypot",
    "i0",
    "isclose",
    "iscomplex",
    "isinf",
    "isneginf",
    "isposinf",
    "isreal",
    "lcm",
    "ldexp",
    "logaddexp",
    "logaddexp2",
    "modf",
    "nan_to_num",
    "polyval",
    "round",
    "sinc",
    "spacing",
]
