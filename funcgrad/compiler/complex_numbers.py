"""Complex numbers in the language of kernels: pairs of Expressions, and arithmetic on them.

The language itself knows only real numbers. What is infinite or NaN comes out as C's standard says (ISO C, annex G),
which NumPy follows.
"""

from __future__ import annotations

import math
from typing import Any

import numpy

from funcgrad import dtypes
from funcgrad.compiler.expressions import FLOAT64, Expression, constant, convert, fma, select, unary
from funcgrad.compiler.mathematics import copysign, magnitude, repeated_product


class Complex:
    """A complex number of two parts of one floating dtype."""

    __slots__ = ("imaginary", "real")

    def __init__(self, real: Expression, imaginary: Expression):
        self.real, self.imaginary = real, imaginary

    @property
    def dtype(self) -> numpy.dtype:
        """complex64 or complex128."""
        return dtypes.complex128 if self.real.dtype == FLOAT64 else dtypes.complex64

    def __add__(self, y: Complex) -> Complex:
        return Complex(self.real + y.real, self.imaginary + y.imaginary)

    def __sub__(self, y: Complex) -> Complex:
        return Complex(self.real - y.real, self.imaginary - y.imaginary)

    def __neg__(self) -> Complex:
        return Complex(-self.real, -self.imaginary)

    def __mul__(self, y: Complex) -> Complex:
        return Complex(
            self.real * y.real - self.imaginary * y.imaginary, self.real * y.imaginary + self.imaginary * y.real
        )

    def __truediv__(self, y: Complex) -> Complex:
        return divide(self, y)


Value = Expression | Complex


def parts_of(x: Value) -> list[Expression]:
    """The numbers that a number is made of: one, or two for a complex one."""
    return [x.real, x.imaginary] if isinstance(x, Complex) else [x]


def is_complex(*dtypes_: numpy.dtype) -> bool:
    """Whether one of the dtypes is complex."""
    return any(x.kind == "c" for x in dtypes_)


def choose(condition: Expression, x: Complex, y: Complex) -> Complex:
    """`x` where the condition holds, `y` elsewhere."""
    return Complex(select(condition, x.real, y.real), select(condition, x.imaginary, y.imaginary))


def number(real: float, imaginary: float, like: Complex) -> Complex:
    """A constant of the dtype of another number."""
    dtype = like.real.dtype
    return Complex(constant(real, dtype), constant(imaginary, dtype))


def is_finite(x: Expression) -> Expression:
    """Whether a real number is neither infinite nor NaN."""
    return magnitude(x).less(math.inf)


def is_infinite(x: Expression) -> Expression:
    """Whether a real number is infinite."""
    return magnitude(x).equal(math.inf)


def is_nan(z: Complex) -> Expression:
    """Whether one part is NaN."""
    return z.real.not_equal(z.real) | z.imaginary.not_equal(z.imaginary)


# Arithmetic


def divide(x: Complex, y: Complex) -> Complex:
    """By R. Smith's method (Communications of the ACM 5, 1962), which squares nothing and so does not overflow."""
    upright = magnitude(y.real).greater_equal(magnitude(y.imaginary))
    large, small = select(upright, y.real, y.imaginary), select(upright, y.imaginary, y.real)
    ratio = small / large
    scale = 1.0 / (large + small * ratio)
    first = select(upright, x.real + x.imaginary * ratio, x.real * ratio + x.imaginary)
    second = select(upright, x.imaginary - x.real * ratio, x.imaginary * ratio - x.real)
    result = Complex(first * scale, second * scale)
    zero = y.real.equal(0.0) & y.imaginary.equal(0.0)
    size = magnitude(y.real)
    return choose(zero, Complex(x.real / size, x.imaginary / size), result)


def scaled(z: Complex) -> tuple[Complex, Expression]:
    """The parts, divided by a factor so that their squares are in range, and the factor."""
    largest = _larger(magnitude(z.real), magnitude(z.imaginary))
    small = select(largest.less(2.0**-400), z.real._other(2.0**-600), 1.0)
    factor = select(largest.greater(2.0**400), z.real._other(2.0**600), small)
    inverse = 1.0 / factor
    return Complex(z.real * inverse, z.imaginary * inverse), factor


def _larger(x: Expression, y: Expression) -> Expression:
    return select(x.greater(y), x, y)


def in_float64(z: Complex) -> Complex:
    """The same number in complex128."""
    return Complex(convert(z.real, FLOAT64), convert(z.imaginary, FLOAT64))


def magnitude_of(z: Complex) -> Expression:
    """The absolute value; infinite if one part is, even beside NaN."""
    wide, factor = scaled(in_float64(z))
    square = fma(wide.real, wide.real, wide.imaginary * wide.imaginary)
    size = convert(unary("sqrt", square) * factor, z.real.dtype)
    return select(is_infinite(z.real) | is_infinite(z.imaginary), math.inf, size)


def sign(z: Complex) -> Complex:
    """The number of length 1 in the same direction; 0 for 0."""
    size = magnitude_of(z)
    result = Complex(z.real / size, z.imaginary / size)
    both = is_infinite(z.real) & is_infinite(z.imaginary)
    one = constant(1.0, z.real.dtype)
    of_infinite = Complex(
        select(is_infinite(z.real), copysign(one, z.real), 0.0),
        select(is_infinite(z.imaginary), copysign(one, z.imaginary), 0.0),
    )
    result = choose(size.equal(math.inf), of_infinite, result)
    result = choose(size.equal(0.0), number(0.0, 0.0, z), result)
    return choose(both | size.not_equal(size), number(math.nan, math.nan, z), result)


def integer_pow(z: Complex, exponent: int) -> Complex:
    """A power that is known when code is written, multiplied out."""
    one = number(1.0, 0.0, z)
    if exponent == 0:
        return one
    result = repeated_product(z, abs(exponent))
    return one / result if exponent < 0 else result


# Comparisons go by the real part, then by the imaginary one, as NumPy's do.


def equal(x: Complex, y: Complex) -> Expression:
    """Whether both parts are equal."""
    return x.real.equal(y.real) & x.imaginary.equal(y.imaginary)


def less(x: Complex, y: Complex, or_equal: bool = False) -> Expression:
    """Whether `x` comes before `y`, or with `or_equal` not after it."""
    known = x.imaginary.equal(x.imaginary) & y.imaginary.equal(y.imaginary)
    second = x.imaginary.less_equal(y.imaginary) if or_equal else x.imaginary.less(y.imaginary)
    return x.real.less(y.real) & known | x.real.equal(y.real) & second


def maximum(x: Complex, y: Complex) -> Complex:
    """The one that comes last; NaN if there is one."""
    return choose(less(y, x, or_equal=True) | is_nan(x), x, y)


def minimum(x: Complex, y: Complex) -> Complex:
    """The one that comes first; NaN if there is one."""
    return choose(less(x, y, or_equal=True) | is_nan(x), x, y)


class Parts:
    """A complex array as an array of real numbers."""

    def __init__(self, x: Any):
        self.whole, self.shape, self.dtype = x, (*x.shape, 2), dtypes.real_of(x.dtype)
