"""What elementwise primitives of complex numbers are, in the language of kernels.

A complex number is a pair of Expressions; the language itself knows only real ones. What is infinite or NaN comes out
as C's standard says (ISO C, annex G), which NumPy follows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy

from funcgrad import dtypes
from funcgrad.compiler.expressions import FLOAT64, Expression, computing_dtype, constant, convert, fma, select, unary
from funcgrad.compiler.lower_elementwise import lower as lower_real
from funcgrad.compiler.lower_elementwise import supports as supports_real
from funcgrad.compiler.mathematics import (
    copysign,
    cosh,
    exp,
    format_of,
    log,
    log1p,
    magnitude,
    quick_two_sum,
    sinh,
    two_product,
    two_sum,
)
from funcgrad.compiler.trigonometry import atan2, cos, sin, tan
from funcgrad.core import Primitive
from funcgrad.primitives import elementwise


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
        return _divide(self, y)


Value = Expression | Complex


def parts_of(x: Value) -> list[Expression]:
    """The numbers that a number is made of: one, or two for a complex one."""
    return [x.real, x.imaginary] if isinstance(x, Complex) else [x]


def is_complex(*dtypes_: numpy.dtype) -> bool:
    """Whether one of the dtypes is complex."""
    return any(x.kind == "c" for x in dtypes_)


def supports(primitive: Primitive, operands: Sequence[numpy.dtype], params: dict[str, Any]) -> bool:
    """Whether `lower` has a rule for the primitive with operands of these dtypes, complex or not."""
    wanted = params.get("dtype")
    if is_complex(*operands) or primitive is elementwise.complex_ or wanted is not None and is_complex(wanted):
        return primitive in RULES
    return supports_real(primitive, operands, params)


def lower(primitive: Primitive, operands: Sequence[Value], params: dict[str, Any]) -> Any:
    """The result of a primitive for single elements: an Expression, a Complex, or a tuple; None without a rule."""
    kinds = [x.dtype for x in operands]
    if not supports(primitive, kinds, params):
        return None
    if supports_real(primitive, kinds, params):
        return lower_real(primitive, operands, params)  # pyright: ignore[reportArgumentType]
    return RULES[primitive](*operands, **params)


def choose(condition: Expression, x: Complex, y: Complex) -> Complex:
    """`x` where the condition holds, `y` elsewhere."""
    return Complex(select(condition, x.real, y.real), select(condition, x.imaginary, y.imaginary))


def _number(real: float, imaginary: float, like: Complex) -> Complex:
    dtype = like.real.dtype
    return Complex(constant(real, dtype), constant(imaginary, dtype))


def _is_finite(x: Expression) -> Expression:
    return magnitude(x).less(math.inf)


def _is_infinite(x: Expression) -> Expression:
    return magnitude(x).equal(math.inf)


def _is_nan(z: Complex) -> Expression:
    return z.real.not_equal(z.real) | z.imaginary.not_equal(z.imaginary)


# Arithmetic


def _divide(x: Complex, y: Complex) -> Complex:
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


def _scaled(z: Complex) -> tuple[Complex, Expression]:
    """The parts, divided by a factor so that their squares are in range, and the factor."""
    largest = _larger(magnitude(z.real), magnitude(z.imaginary))
    small = select(largest.less(2.0**-400), z.real._other(2.0**-600), 1.0)
    factor = select(largest.greater(2.0**400), z.real._other(2.0**600), small)
    inverse = 1.0 / factor
    return Complex(z.real * inverse, z.imaginary * inverse), factor


def _larger(x: Expression, y: Expression) -> Expression:
    return select(x.greater(y), x, y)


def _in_float64(z: Complex) -> Complex:
    return Complex(convert(z.real, FLOAT64), convert(z.imaginary, FLOAT64))


def magnitude_of(z: Complex) -> Expression:
    """The absolute value; infinite if one part is, even beside NaN."""
    wide, factor = _scaled(_in_float64(z))
    square = fma(wide.real, wide.real, wide.imaginary * wide.imaginary)
    size = convert(unary("sqrt", square) * factor, z.real.dtype)
    return select(_is_infinite(z.real) | _is_infinite(z.imaginary), math.inf, size)


def _sign(z: Complex) -> Complex:
    size = magnitude_of(z)
    result = Complex(z.real / size, z.imaginary / size)
    both = _is_infinite(z.real) & _is_infinite(z.imaginary)
    one = constant(1.0, z.real.dtype)
    of_infinite = Complex(
        select(_is_infinite(z.real), copysign(one, z.real), 0.0),
        select(_is_infinite(z.imaginary), copysign(one, z.imaginary), 0.0),
    )
    result = choose(size.equal(math.inf), of_infinite, result)
    result = choose(size.equal(0.0), _number(0.0, 0.0, z), result)
    return choose(both | size.not_equal(size), _number(math.nan, math.nan, z), result)


def _integer_pow(z: Complex, exponent: int) -> Complex:
    result, square, n = None, z, abs(exponent)
    while n:
        if n & 1:
            result = square if result is None else result * square
        n >>= 1
        square = square * square if n else square
    one = _number(1.0, 0.0, z)
    if result is None:
        return one
    return one / result if exponent < 0 else result


# Comparisons go by the real part, then by the imaginary one, as NumPy's do.


def _equal(x: Complex, y: Complex) -> Expression:
    return x.real.equal(y.real) & x.imaginary.equal(y.imaginary)


def _less(x: Complex, y: Complex, or_equal: bool = False) -> Expression:
    known = x.imaginary.equal(x.imaginary) & y.imaginary.equal(y.imaginary)
    second = x.imaginary.less_equal(y.imaginary) if or_equal else x.imaginary.less(y.imaginary)
    return x.real.less(y.real) & known | x.real.equal(y.real) & second


def _maximum(x: Complex, y: Complex) -> Complex:
    return choose(_less(y, x, or_equal=True) | _is_nan(x), x, y)


def _minimum(x: Complex, y: Complex) -> Complex:
    return choose(_less(x, y, or_equal=True) | _is_nan(x), x, y)


# Functions


def _sqrt(z: Complex) -> Complex:
    x, y = z.real, z.imaginary
    wide, factor = _scaled(_in_float64(z))
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
    return choose(_is_infinite(y), Complex(magnitude(y), y), result)


def _scaled_exp(x: Expression) -> tuple[Expression, Expression]:
    """exp(x) as a product of two numbers: it may be too large, while its product with a small sine is not."""
    large = x.greater(format_of(x).pick(80.0, 700.0))
    part = format_of(x).pick(60.0, 600.0)
    return exp(select(large, x - part, x)), select(large, x._other(math.exp(part)), 1.0)


def _exp(z: Complex) -> Complex:
    x, y = z.real, z.imaginary
    size, more = _scaled_exp(x)
    result = Complex(size * cos(y) * more, select(y.equal(0.0), y, size * sin(y) * more))
    endless = ~_is_finite(y)
    result = choose(x.equal(-math.inf) & endless, _number(0.0, 0.0, z), result)
    return Complex(select(x.equal(math.inf) & endless, x, result.real), result.imaginary)


def _log_of_size(z: Complex) -> Expression:
    """log|z|; of numbers of a size near 1 by log1p(|z|**2 - 1)."""
    wide = _in_float64(z)
    scaled, factor = _scaled(wide)
    square = fma(scaled.real, scaled.real, scaled.imaginary * scaled.imaginary)
    far = log(factor) + 0.5 * log(square)
    across, up = magnitude(wide.real), magnitude(wide.imaginary)
    flat = across.greater(up)
    large, small = select(flat, across, up), select(flat, up, across)
    product, product_error = two_product(large, large)
    other, other_error = two_product(small, small)
    total, error = quick_two_sum(product._other(-1.0), product)
    total, more = two_sum(total, other)
    near = 0.5 * log1p(total + (more + (error + (product_error + other_error))))
    is_near = square.greater(0.5) & square.less(3.0) & factor.equal(1.0)
    result = convert(select(is_near, near, far), z.real.dtype)
    return select(_is_infinite(z.real) | _is_infinite(z.imaginary), math.inf, result)


def _log(z: Complex) -> Complex:
    return Complex(_log_of_size(z), atan2(z.imaginary, z.real))


def _times(z: Complex, factor: float) -> Complex:
    return Complex(z.real * factor, z.imaginary * factor)


def _logistic(z: Complex) -> Complex:
    one = _number(1.0, 0.0, z)
    return one / (one + _exp(-z))


def _hyperbolic(x: Expression) -> tuple[Expression, Expression, Expression]:
    """sinh(x) and cosh(x), and a number that both are to be multiplied by."""
    size, more = _scaled_exp(magnitude(x))
    large = more.not_equal(1.0)
    return select(large, copysign(0.5 * size, x), sinh(x)), select(large, 0.5 * size, cosh(x)), more


def _sinh(z: Complex) -> Complex:
    x, y = z.real, z.imaginary
    of_sine, of_cosine, more = _hyperbolic(x)
    real = select(x.equal(0.0), x, of_sine * cos(y) * more)
    imaginary = select(y.equal(0.0), y, of_cosine * sin(y) * more)
    return Complex(select(_is_infinite(x) & ~_is_finite(y), magnitude(x), real), imaginary)


def _cosh(z: Complex) -> Complex:
    x, y = z.real, z.imaginary
    of_sine, of_cosine, more = _hyperbolic(x)
    real = of_cosine * cos(y) * more
    either_zero = x.equal(0.0) | y.equal(0.0)
    zero = copysign(constant(0.0, x.dtype), x) * copysign(constant(1.0, x.dtype), y)
    imaginary = select(either_zero, zero, of_sine * sin(y) * more)
    return Complex(select(_is_infinite(x) & ~_is_finite(y), magnitude(x), real), imaginary)


def _tanh(z: Complex) -> Complex:
    """By W. Kahan's method ("Branch Cuts for Complex Elementary Functions", 1987)."""
    x, y = z.real, z.imaginary
    tangent, sine = tan(y), sinh(x)
    beta = fma(tangent, tangent, 1.0)
    root = unary("sqrt", fma(sine, sine, 1.0))
    bottom = fma(beta * sine, sine, 1.0)
    result = Complex(beta * root * sine / bottom, tangent / bottom)
    # far out: the real part is 1
    size = magnitude(x)
    far = size.greater(format_of(x).pick(11.0, 22.0))
    small = exp(-2.0 * size)
    zero, one = constant(0.0, x.dtype), constant(1.0, x.dtype)
    turning = select(size.equal(math.inf), copysign(zero, y), sin(y) * cos(y) * 4.0 * small)
    result = choose(far, Complex(copysign(one, x), turning), result)
    undefined = _is_finite(x) & ~_is_finite(y)
    result = choose(undefined, _number(math.nan, math.nan, z), result)
    result = Complex(select(x.equal(0.0), x, result.real), result.imaginary)
    return Complex(result.real, select(y.equal(0.0), y, result.imaginary))


def _rotated(function: Callable[[Complex], Complex]) -> Callable[[Complex], Complex]:
    """i f(-i z), which makes a sine of a hyperbolic sine."""

    def rule(z: Complex) -> Complex:
        value = function(Complex(z.imaginary, -z.real))
        return Complex(-value.imaginary, value.real)

    return rule


def _convert(x: Value, dtype: numpy.dtype) -> Complex:
    part = dtypes.real_of(dtype)
    if isinstance(x, Complex):
        return Complex(convert(x.real, part), convert(x.imaginary, part))
    return Complex(lower_real(elementwise.convert, [x], {"dtype": part}), constant(0, part))


def _complex(x: Expression, y: Expression) -> Complex:
    return Complex(*[convert(v, computing_dtype(v.dtype)) for v in (x, y)])


RULES: dict[Primitive, Callable[..., Any]] = {
    elementwise.add: lambda x, y: x + y,
    elementwise.sub: lambda x, y: x - y,
    elementwise.mul: lambda x, y: x * y,
    elementwise.div: _divide,
    elementwise.neg: lambda x: -x,
    elementwise.integer_pow: _integer_pow,
    elementwise.max_: _maximum,
    elementwise.min_: _minimum,
    elementwise.abs_: magnitude_of,
    elementwise.sign: _sign,
    elementwise.real: lambda x: x.real,
    elementwise.imag: lambda x: x.imaginary,
    elementwise.conj: lambda x: Complex(x.real, -x.imaginary),
    elementwise.complex_: _complex,
    elementwise.eq: _equal,
    elementwise.ne: lambda x, y: ~_equal(x, y),
    elementwise.lt: _less,
    elementwise.le: lambda x, y: _less(x, y, or_equal=True),
    elementwise.gt: lambda x, y: _less(y, x),
    elementwise.ge: lambda x, y: _less(y, x, or_equal=True),
    elementwise.is_finite: lambda x: _is_finite(x.real) & _is_finite(x.imaginary),
    elementwise.is_nan: _is_nan,
    elementwise.select: choose,
    elementwise.convert: _convert,
    elementwise.convert_weak: _convert,
    elementwise.stop_gradient: lambda x: x,
    elementwise.sqrt: _sqrt,
    elementwise.rsqrt: lambda x: _divide(_number(1.0, 0.0, x), _sqrt(x)),
    elementwise.exp: _exp,
    elementwise.log: _log,
    elementwise.log2: lambda x: _times(_log(x), 1 / math.log(2)),
    elementwise.log10: lambda x: _times(_log(x), 1 / math.log(10)),
    elementwise.logistic: _logistic,
    elementwise.sinh: _sinh,
    elementwise.cosh: _cosh,
    elementwise.tanh: _tanh,
    elementwise.sin: _rotated(_sinh),
    elementwise.cos: lambda x: _cosh(Complex(-x.imaginary, x.real)),
    elementwise.tan: _rotated(_tanh),
}
"""Powers, inverse functions, and those that are exact near zero are left to the host."""
