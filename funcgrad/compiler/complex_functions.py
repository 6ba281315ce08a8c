"""Functions of complex numbers, in the language of kernels: exponentials, logarithms, powers, hyperbolic functions and
their inverses.

They are made of real functions of the parts, arranged such that no part is a difference of numbers that are nearly
equal, and that nothing overflows before the result does. As in `mathematics`, there is no branch: what is special is
selected at the end. Inverse functions and powers are computed in float64 for both dtypes.

Trigonometric functions are hyperbolic ones of a number turned by a quarter: i sin(z) = sinh(i z).

Sources: W. Kahan, "Branch Cuts for Complex Elementary Functions" (1987); T. Hull, T. Fairgrieve and P. Tang,
"Implementing the complex arcsine and arccosine functions using exception handling" (ACM Transactions on Mathematical
Software 23, 1997).
"""

from __future__ import annotations

import math
from collections.abc import Callable

from funcgrad.compiler import mathematics, trigonometry
from funcgrad.compiler.complex_numbers import (
    Complex,
    choose,
    divide,
    in_float64,
    is_finite,
    is_infinite,
    number,
    parts_of,
    scaled,
)
from funcgrad.compiler.expressions import FLOAT64, INT32, Expression, constant, convert, fma, select, unary
from funcgrad.compiler.mathematics import (
    LOG_2,
    Pair,
    copysign,
    format_of,
    magnitude,
    two_product,
    two_sum,
)
from funcgrad.compiler.trigonometry import atan2

Function = Callable[[Complex], Complex]

LARGE = 2.0**60  # from here on, 1 is nothing beside a number, and beside its square


def _rounded(z: Complex, like: Complex) -> Complex:
    """A number of complex128 in the dtype of another one."""
    return Complex(*[convert(x, like.real.dtype) for x in parts_of(z)])


def _rotated(function: Function, name: str) -> Function:
    """i f(-i z), which makes a sine of a hyperbolic sine."""

    def rule(z: Complex) -> Complex:
        value = function(Complex(z.imaginary, -z.real))
        return Complex(-value.imaginary, value.real)

    rule.__name__ = name
    return rule


# Roots


def sqrt(z: Complex) -> Complex:
    """The root with a real part that is not negative."""
    x, y = z.real, z.imaginary
    wide, factor = scaled(in_float64(z))
    back = unary("sqrt", factor)
    wide_x, wide_y = wide.real, wide.imaginary
    size = unary("sqrt", fma(wide_x, wide_x, wide_y * wide_y))
    root = unary("sqrt", 0.5 * (size + magnitude(wide_x)))
    other = magnitude(wide_y) / (2.0 * root)
    narrow = [convert(v * back, x.dtype) for v in (root, other)]
    negative = x.less(0.0)
    result = Complex(select(negative, narrow[1], narrow[0]), copysign(select(negative, narrow[0], narrow[1]), y))
    # zero; an infinite real part; NaN; an infinite imaginary part, which comes before all others
    result = choose(x.equal(0.0) & y.equal(0.0), Complex(magnitude(x), y), result)
    nothing = y - y
    result = choose(x.equal(math.inf), Complex(x, copysign(nothing, y)), result)
    result = choose(x.equal(-math.inf), Complex(magnitude(nothing), copysign(-x, y)), result)
    result = choose(x.not_equal(x), Complex(x, x), result)
    return choose(is_infinite(y), Complex(magnitude(y), y), result)


def rsqrt(z: Complex) -> Complex:
    """1 / sqrt(z)."""
    return divide(number(1.0, 0.0, z), sqrt(z))


# Exponentials


def _scaled_exp(x: Expression) -> Pair:
    """exp(x) as a product of two numbers: it may be too large, while its product with a small sine is not."""
    large = x.greater(format_of(x).pick(80.0, 700.0))
    part = format_of(x).pick(60.0, 600.0)
    return mathematics.exp(select(large, x - part, x)), select(large, x._other(math.exp(part)), 1.0)


def _scaled_exp2(x: Expression) -> Pair:
    """The same for 2 to the x."""
    part = format_of(x).pick(100.0, 1000.0)
    large = x.greater(part)
    return mathematics.exp2(select(large, x - part, x)), select(large, x._other(2.0**part), 1.0)


def _polar(z: Complex, size: Pair, cosine: Expression, sine: Expression) -> Complex:
    """A number of which the size, a product, and the direction are known; z says what is special."""
    x, y = z.real, z.imaginary
    first, more = size
    result = Complex(first * cosine * more, select(y.equal(0.0), y, first * sine * more))
    endless = ~is_finite(y)
    result = choose(x.equal(-math.inf) & endless, number(0.0, 0.0, z), result)
    return Complex(select(x.equal(math.inf) & endless, x, result.real), result.imaginary)


def exp(z: Complex) -> Complex:
    """e to the z."""
    return _polar(z, _scaled_exp(z.real), trigonometry.cos(z.imaginary), trigonometry.sin(z.imaginary))


def exp2(z: Complex) -> Complex:
    """2 to the z. The rounding error of the angle is made good to first order, as far as that is right."""
    high, low = LOG_2[z.real.dtype]
    angle, error = two_product(z.imaginary, z.imaginary._other(high))
    error = fma(z.imaginary, low, error)
    error = select(magnitude(error).less(format_of(angle).pick(2.0**-13, 2.0**-27)), error, 0.0)
    cosine, sine = trigonometry.cos(angle), trigonometry.sin(angle)
    return _polar(z, _scaled_exp2(z.real), fma(-sine, error, cosine), fma(cosine, error, sine))


def expm1(z: Complex) -> Complex:
    """exp(z) - 1: its real part is expm1(x) trigonometry.cos(y) - (1 - trigonometry.cos(y))."""
    x, y = z.real, z.imaginary
    whole = exp(z)
    half = trigonometry.sin(0.5 * y)
    loss = 2.0 * half * half
    real = mathematics.expm1(x) * (1.0 - loss) - loss
    far = magnitude(x).greater(format_of(x).pick(40.0, 80.0))
    return Complex(select(far, whole.real - 1.0, real), whole.imaginary)


def logistic(z: Complex) -> Complex:
    """1 / (1 + exp(-z))."""
    one = number(1.0, 0.0, z)
    return one / (one + exp(-z))


# Logarithms


def _log_of_size(z: Complex, excess: Expression) -> Expression:
    """log|z|, from |z|**2 - 1 if that is small; in float64."""
    fitting, factor = scaled(z)
    square = fma(fitting.real, fitting.real, fitting.imaginary * fitting.imaginary)
    far = mathematics.log(factor) + 0.5 * mathematics.log(square)
    near = 0.5 * mathematics.log1p(excess)
    result = select(square.greater(0.5) & square.less(3.0) & factor.equal(1.0), near, far)
    return select(is_infinite(z.real) | is_infinite(z.imaginary), math.inf, result)


def _sum_of_squares(x: Expression, y: Expression, more: Expression) -> Expression:
    """x**2 + y**2 + more, of which what is left may be small."""
    first, first_error = two_product(x, x)
    second, second_error = two_product(y, y)
    total, error = two_sum(more, first)
    total, last_error = two_sum(total, second)
    return total + (last_error + (error + (first_error + second_error)))


def log(z: Complex) -> Complex:
    """The natural logarithm."""
    wide = in_float64(z)
    across, up = magnitude(wide.real), magnitude(wide.imaginary)
    flat = across.greater(up)
    large, small = select(flat, across, up), select(flat, up, across)
    size = _log_of_size(wide, _sum_of_squares(large, small, large._other(-1.0)))
    return Complex(convert(size, z.real.dtype), atan2(z.imaginary, z.real))


def log2(z: Complex) -> Complex:
    """The logarithm to base 2."""
    return _times(log(z), 1 / math.log(2))


def log10(z: Complex) -> Complex:
    """The logarithm to base 10."""
    return _times(log(z), 1 / math.log(10))


def _times(z: Complex, factor: float) -> Complex:
    return Complex(z.real * factor, z.imaginary * factor)


def log1p(z: Complex) -> Complex:
    """log(1 + z), exact near 0, too."""
    wide = in_float64(z)
    total = Complex(1.0 + wide.real, wide.imaginary)
    size = _log_of_size(total, _sum_of_squares(wide.real, wide.imaginary, 2.0 * wide.real))
    return _rounded(Complex(size, atan2(total.imaginary, total.real)), z)


# Powers

MOST_FACTORS = 100


def _whole_power(z: Complex, exponent: Expression) -> Complex:
    """A power with a whole exponent of a size below 128, by repeated multiplication."""
    factors = convert(magnitude(exponent), INT32)
    result, square = number(1.0, 0.0, z), z
    for place in range(MOST_FACTORS.bit_length()):
        wanted = (factors & (1 << place)).not_equal(0)
        result = choose(wanted, square if place == 0 else result * square, result)
        square = square * square
    return choose(exponent.less(0.0), number(1.0, 0.0, z) / result, result)


def pow_(z: Complex, w: Complex) -> Complex:
    """z to the w: exp(w log(z)), or a product if w is a small whole number.

    In complex128, the rounding errors of w log(z) are as many times those of the result as it is large.
    """
    base, exponent = in_float64(z), in_float64(w)
    n = exponent.real
    is_whole = exponent.imaginary.equal(0.0) & unary("trunc", n).equal(n) & magnitude(n).less_equal(MOST_FACTORS)
    product = _whole_power(base, select(is_whole, n, 0.0))
    result = exp(exponent * log(base))
    is_exact = n.equal(1.0) | is_finite(product.real) & is_finite(product.imaginary)
    result = choose(is_whole & is_exact, product, result)
    of_zero = choose(n.greater(0.0), number(0.0, 0.0, base), number(math.nan, math.nan, base))
    result = choose(base.real.equal(0.0) & base.imaginary.equal(0.0), of_zero, result)
    result = choose(n.equal(0.0) & exponent.imaginary.equal(0.0), number(1.0, 0.0, base), result)
    return _rounded(result, z)


# Hyperbolic functions


def _hyperbolic(x: Expression) -> tuple[Expression, Expression, Expression]:
    """sinh(x) and cosh(x), and a number that both are to be multiplied by."""
    size, more = _scaled_exp(magnitude(x))
    large = more.not_equal(1.0)
    sine = select(large, copysign(0.5 * size, x), mathematics.sinh(x))
    return sine, select(large, 0.5 * size, mathematics.cosh(x)), more


def sinh(z: Complex) -> Complex:
    """The hyperbolic sine."""
    x, y = z.real, z.imaginary
    of_sine, of_cosine, more = _hyperbolic(x)
    real = select(x.equal(0.0), x, of_sine * trigonometry.cos(y) * more)
    imaginary = select(y.equal(0.0), y, of_cosine * trigonometry.sin(y) * more)
    return Complex(select(is_infinite(x) & ~is_finite(y), magnitude(x), real), imaginary)


def cosh(z: Complex) -> Complex:
    """The hyperbolic cosine."""
    x, y = z.real, z.imaginary
    of_sine, of_cosine, more = _hyperbolic(x)
    real = of_cosine * trigonometry.cos(y) * more
    either_zero = x.equal(0.0) | y.equal(0.0)
    zero = copysign(constant(0.0, x.dtype), x) * copysign(constant(1.0, x.dtype), y)
    imaginary = select(either_zero, zero, of_sine * trigonometry.sin(y) * more)
    return Complex(select(is_infinite(x) & ~is_finite(y), magnitude(x), real), imaginary)


def tanh(z: Complex) -> Complex:
    """The hyperbolic tangent, by Kahan's method."""
    x, y = z.real, z.imaginary
    tangent, sine = trigonometry.tan(y), mathematics.sinh(x)
    beta = fma(tangent, tangent, 1.0)
    root = unary("sqrt", fma(sine, sine, 1.0))
    bottom = fma(beta * sine, sine, 1.0)
    result = Complex(beta * root * sine / bottom, tangent / bottom)
    # far out: the real part is 1
    size = magnitude(x)
    far = size.greater(format_of(x).pick(11.0, 22.0))
    zero, one = constant(0.0, x.dtype), constant(1.0, x.dtype)
    turning = trigonometry.sin(y) * trigonometry.cos(y) * 4.0 * mathematics.exp(-2.0 * size)
    turning = select(is_finite(y), turning, copysign(zero, y))
    result = choose(far, Complex(copysign(one, x), turning), result)
    undefined = is_finite(x) & ~is_finite(y)
    result = choose(undefined, number(math.nan, math.nan, z), result)
    result = Complex(select(x.equal(0.0), x, result.real), result.imaginary)
    return Complex(result.real, select(y.equal(0.0), y, result.imaginary))


def cos(z: Complex) -> Complex:
    """The cosine, cosh(i z)."""
    return cosh(Complex(-z.imaginary, z.real))


sin, tan = _rotated(sinh, "sin"), _rotated(tanh, "tan")


# Inverse functions. With s = sqrt(1 - z) and t = sqrt(1 + z), the arcsine is
#
#     atan(x / Re(s t)) + i asinh(Im(conj(s) t))
#
# and the arccosine 2 atan(Re(s) / Re(t)) - i asinh(Im(conj(s) t)). Both parts of s and t are exact to a few units each,
# and no product of them is subtracted from one of the same sign. Far out, their imaginary parts are log(2 |z|).


def _roots_around_one(z: Complex) -> tuple[Complex, Complex]:
    """sqrt(1 - z) and sqrt(1 + z)."""
    return sqrt(Complex(1.0 - z.real, -z.imaginary)), sqrt(Complex(1.0 + z.real, z.imaginary))


def _is_far(z: Complex) -> Expression:
    return magnitude(z.real).greater(LARGE) | magnitude(z.imaginary).greater(LARGE)


def _height(z: Complex, s: Complex, t: Complex) -> Expression:
    """The imaginary part of the arcsine."""
    near = mathematics.asinh(s.real * t.imaginary - s.imaginary * t.real)
    far = _log_of_size(z, constant(0.0, FLOAT64)) + math.log(2)
    return copysign(select(_is_far(z), far, near), z.imaginary)


def asin(z: Complex) -> Complex:
    """The arcsine; its cuts are the real numbers below -1 and above 1."""
    wide = in_float64(z)
    x, y = wide.real, wide.imaginary
    s, t = _roots_around_one(wide)
    bottom = select(_is_far(wide), magnitude(y), s.real * t.real - s.imaginary * t.imaginary)
    angle = select(x.equal(0.0), x, atan2(x, bottom))
    return _rounded(Complex(angle, _height(wide, s, t)), z)


def acos(z: Complex) -> Complex:
    """The arccosine, with the same cuts as the arcsine."""
    wide = in_float64(z)
    x, y = wide.real, wide.imaginary
    s, t = _roots_around_one(wide)
    angle = select(_is_far(wide), atan2(magnitude(y), x), 2.0 * atan2(s.real, t.real))
    angle = select(x.equal(0.0), math.pi / 2, angle)
    return _rounded(Complex(angle, -_height(wide, s, t)), z)


def acosh(z: Complex) -> Complex:
    """The inverse of cosh: the arccosine, turned so that its real part is not negative."""
    value = acos(z)
    return Complex(magnitude(value.imaginary), copysign(value.real, z.imaginary))


def atanh(z: Complex) -> Complex:
    """The inverse of tanh: log(1 + 4 x / ((1 - x)**2 + y**2)) / 4 + i atan(2 y / ((1 - x) (1 + x) - y**2)) / 2."""
    wide = in_float64(z)
    x, y = wide.real, wide.imaginary
    size, height = magnitude(x), magnitude(y)
    left = 1.0 - size
    real = 0.25 * mathematics.log1p(4.0 * size / fma(left, left, y * y))
    # whose square is too small for a number
    real = select(left.equal(0.0) & height.less(2.0**-100), 0.5 * (math.log(2) - mathematics.log(height)), real)
    imaginary = 0.5 * atan2(2.0 * y, fma(left, 1.0 + size, -(y * y)))
    # far out: 1 / z, turned by a quarter
    fitting, factor = scaled(wide)
    square = fma(fitting.real, fitting.real, fitting.imaginary * fitting.imaginary)
    inverse = magnitude(fitting.real) / square / factor
    endless = is_infinite(x) | is_infinite(y)
    inverse = select(endless, 0.0, inverse)
    known = y.equal(y) & (x.equal(x) | endless)
    quarter = select(known, copysign(constant(math.pi / 2, FLOAT64), y), math.nan)
    result = choose(_is_far(wide), Complex(inverse, quarter), Complex(real, imaginary))
    return _rounded(Complex(select(x.equal(0.0), x, copysign(result.real, x)), result.imaginary), z)


asinh, atan = _rotated(asin, "asinh"), _rotated(atanh, "atan")
