"""Exponentials, logarithms, hyperbolic functions and powers, in the language of kernels.

There is no branch in them: the same few operations are done for every number, so that they are done for a whole
vector at a time. A function splits its argument into a part that bits of the exponent can hold, and a small rest, for
which there is a polynomial. What is special (infinities, NaN, the ends of the domain) comes out by itself or is
selected at the end.

Numbers that are not quite representable are kept as pairs, `high + low`; `fma` rounds once and so gives the rounding
error of a product. The polynomials interpolate at Chebyshev points, or were fitted with weights by Lawson's algorithm,
in 60 digits, to an error that is small beside the rounding error. The errors of the functions, in units in the last
place, are listed in `tests/test_native_mathematics.py`, which measures them.

Sources: J.-M. Muller, "Elementary Functions: Algorithms and Implementation" (3rd edition, 2016), chapters 5, 9 and 11.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy

from funcgrad.compiler.expressions import (
    FLOAT32,
    FLOAT64,
    INT32,
    INT64,
    Expression,
    binary,
    bitcast,
    convert,
    fma,
    select,
    unary,
)

UINT32, UINT64 = numpy.dtype("uint32"), numpy.dtype("uint64")

Pair = tuple[Expression, Expression]


class Format:
    """The numbers of a floating dtype: how they are laid out in bits, and constants that do not fit in one of them."""

    def __init__(self, dtype: numpy.dtype, precision: int, bias: int):
        self.dtype, self.precision, self.bias = dtype, precision, bias
        self.unsigned, self.signed = (UINT32, INT32) if dtype == FLOAT32 else (UINT64, INT64)
        self.mantissa_bits = precision - 1
        # Adding it to a number makes the last bits those of the nearest whole number, plus what is added to it here.
        self.rounder = 1.5 * 2.0**self.mantissa_bits
        self.least_normal = 2.0 ** (1 - bias)

    def pick(self, single: Any, double: Any) -> Any:
        """What a function uses for float32, or for float64."""
        return single if self.dtype == FLOAT32 else double


SINGLE, DOUBLE = Format(FLOAT32, 24, 127), Format(FLOAT64, 53, 1023)


def format_of(x: Expression) -> Format:
    """How the numbers of an expression are laid out."""
    return SINGLE if x.dtype == FLOAT32 else DOUBLE


def polynomial(x: Expression, coefficients: Sequence[float]) -> Expression:
    """Horner's rule, from the highest power down."""
    result = x._other(coefficients[0])
    for coefficient in coefficients[1:]:
        result = fma(result, x, coefficient)
    return result


def magnitude(x: Expression) -> Expression:
    """The absolute value."""
    return unary("abs", x)


def copysign(x: Expression, sign: Expression) -> Expression:
    """`x` with the sign of another number."""
    return binary("copysign", x, sign)


def at_most(x: Expression, limit: float) -> Expression:
    """The smaller one of a number and a limit; NaN stays NaN."""
    return select(x.greater(limit), limit, x)


def at_least(x: Expression, limit: float) -> Expression:
    """The greater one of a number and a limit; NaN stays NaN."""
    return select(x.less(limit), limit, x)


def two_sum(x: Expression, y: Expression) -> Pair:
    """A sum and its rounding error (D. Knuth)."""
    total = x + y
    of_y = total - x
    return total, (x - (total - of_y)) + (y - of_y)


def quick_two_sum(x: Expression, y: Expression) -> Pair:
    """The same for an `x` that is the larger one (T. Dekker)."""
    total = x + y
    return total, y - (total - x)


def two_product(x: Expression, y: Expression) -> Pair:
    """A product and its rounding error."""
    product = x * y
    return product, fma(x, y, -product)


# Powers of e: x = n log(2) + r with |r| <= log(2) / 2, and exp(x) = 2**n (1 + r + r**2 Q(r))

LOG2_E = {FLOAT32: (1.44269502, 1.92596303e-8), FLOAT64: (1.4426950408889634, 2.0355273740931033e-17)}
LOG_2 = {FLOAT32: (0.693147182, -1.90465421e-9), FLOAT64: (0.6931471805599453, 2.3190468138462996e-17)}

_EXP_SINGLE = (0.0013950601, 0.00836895313, 0.041666206, 0.166665182, 0.5)
_EXP_DOUBLE = (
    *(2.09147553258932e-09, 2.5105312729622103e-08, 2.755727347871858e-07, 2.755725517000089e-06),
    *(2.480158732567746e-05, 0.0001984126987500228, 0.0013888888888883711, 0.008333333333326084),
    *(0.04166666666666667, 0.1666666666666667, 0.5),
)


def _small_exponential(r: Expression) -> Expression:
    """exp(r) - 1 for |r| <= log(2) / 2."""
    coefficients = format_of(r).pick(_EXP_SINGLE, _EXP_DOUBLE)
    return fma(r * r, polynomial(r, coefficients), r)


def _split_exponential(x: Expression, offset: int, low: Expression | None = None) -> Pair:
    """exp(r) - 1 and the whole number n plus `offset`, in the last bits of a number, for exp(x) = 2**n exp(r)."""
    rounder = format_of(x).rounder + offset
    (high_factor, _), (high, tail) = LOG2_E[x.dtype], LOG_2[x.dtype]
    shifted = fma(x, high_factor, rounder)
    n = shifted - rounder
    r = fma(n, -tail, fma(n, -high, x))
    return _small_exponential(r if low is None else r + low), shifted


def _power_of_two(shifted: Expression) -> Expression:
    """2**n, from a number whose last bits are n plus the bias of exponents."""
    layout = format_of(shifted)
    return bitcast(bitcast(shifted, layout.unsigned) << layout.mantissa_bits, shifted.dtype)


def _times_power_of_two(x: Expression, shifted: Expression) -> Expression:
    """`x * 2**n`, also where only the product is in range; the last bits of `shifted` are n plus twice the bias."""
    layout = format_of(x)
    whole = bitcast(shifted, layout.unsigned)
    half = whole >> 1
    for part in (half, whole - half):
        x = x * bitcast(part << layout.mantissa_bits, x.dtype)
    return x


def exp_of_negative(x: Expression, low: Expression | None = None, factor: Expression | None = None) -> Expression:
    """exp(x + low) times a factor, for x below 1; `low` is small beside x, and the factor of the order of 1."""
    layout = format_of(x)
    # So low that the powers of two become 0: a product that is too small for a normal number costs a CPU much time.
    x = at_least(x, layout.pick(-176.0, -1418.0))
    rest, shifted = _split_exponential(x, 2 * layout.bias, low)
    value = 1.0 + rest if factor is None else fma(rest, factor, factor)
    return _times_power_of_two(value, shifted)


def exp_in_range(x: Expression) -> Expression:
    """exp(x) for x of which the result is neither too large nor too small for a normal number."""
    rest, shifted = _split_exponential(x, format_of(x).bias)
    power = _power_of_two(shifted)
    return fma(rest, power, power)


def exp(x: Expression) -> Expression:
    """e to the x."""
    return exp_of_negative(at_most(x, format_of(x).pick(89.0, 710.0)))


def exp2(x: Expression) -> Expression:
    """2 to the x."""
    layout = format_of(x)
    x = at_least(at_most(x, layout.bias + 1.0), layout.pick(-152.0, -1076.0))
    rounder = layout.rounder + 2 * layout.bias
    shifted = x + rounder
    high, low = LOG_2[x.dtype]
    part = x - (shifted - rounder)
    rest = _small_exponential(fma(part, high, part * low))
    return _times_power_of_two(1.0 + rest, shifted)


def _part_of_expm1(x: Expression, halvings: int) -> Expression:
    """exp(x) - 1, divided by two `halvings` times so that it does not overflow early."""
    part = 0.5**halvings
    rest, shifted = _split_exponential(x, format_of(x).bias - halvings)
    power = _power_of_two(shifted)
    return fma(rest, power, power - part)


def expm1(x: Expression) -> Expression:
    """exp(x) - 1, exact near 0, too."""
    layout = format_of(x)
    limited = at_least(at_most(x, layout.pick(89.0, 710.0)), -60.0)
    result = _part_of_expm1(limited, 1) * 2.0
    return select(magnitude(x).less(2.0**-60), x, result)


def logistic(x: Expression) -> Expression:
    """1 / (1 + exp(-x))."""
    e = exp_of_negative(-magnitude(x))
    return select(x.less(0.0), e, 1.0) / (1.0 + e)


def tanh(x: Expression) -> Expression:
    """The hyperbolic tangent, (exp(2 x) - 1) / (exp(2 x) + 1)."""
    half = _part_of_expm1(2.0 * at_most(magnitude(x), format_of(x).pick(10.0, 20.0)), 1)
    return copysign(half / (half + 1.0), x)


def sinh(x: Expression) -> Expression:
    """The hyperbolic sine. With t = exp(|x|) - 1, it is (t + t / (t + 1)) / 2."""
    size = magnitude(x)
    half = _part_of_expm1(at_most(size, format_of(x).pick(89.5, 710.6)), 2) * 2.0
    finite = at_most(half, 2.0**60)
    result = half + finite / fma(finite, 2.0, 1.0)
    return copysign(select(size.less(2.0**-30), size, result), x)


def cosh(x: Expression) -> Expression:
    """The hyperbolic cosine. With h = exp(|x|) / 2, it is h + 1 / (4 h)."""
    layout = format_of(x)
    rest, shifted = _split_exponential(at_most(magnitude(x), layout.pick(89.5, 710.6)), layout.bias - 2)
    power = _power_of_two(shifted)
    half = fma(rest, power, power) * 2.0
    return half + 0.25 / half


# Logarithms: x = 2**e (1 + f) with 1 + f between the root of 1/2 and the root of 2, and log(1 + f) = f + tail(f)

_LOG_SINGLE = (
    *(-0.0785961673, 0.1288165, -0.13128753, 0.141811922),
    *(-0.166245535, 0.200022861, -0.250008106, 0.333333164),
)
_LOG_DOUBLE = (
    *(0.1310072138350349, 0.13267418596474884, 0.15386290534658992, 0.181817947008978),
    *(0.2222222240054776, 0.2857142857076445, 0.4000000000000094, 0.6666666666666666),
)

LOG10_E = {FLOAT32: (0.434294492, -1.01030478e-8), FLOAT64: (0.4342944819032518, 1.098319650216765e-17)}
LOG10_2 = {FLOAT32: (0.30103001, -1.43209888e-8), FLOAT64: (0.3010299956639812, -2.8037281277851704e-18)}


def split_exponent(x: Expression, correction: Expression | None = None) -> Pair:
    """e and f of a positive number `x + correction` = 2**e (1 + f), where the correction is small beside x."""
    layout = format_of(x)
    root = int(layout.pick(0x3F3504F3, 0x3FE6A09E667F3BCD))
    one, place = layout.bias << layout.mantissa_bits, layout.mantissa_bits
    lowest: Any = layout.bias
    if correction is None:
        # numbers below the least normal one are made normal first
        small = x.less(layout.least_normal)
        x = select(small, x * 2.0**layout.precision, x)
        lowest = select(small, x._other(float(layout.bias + layout.precision)), float(layout.bias))
    bits = bitcast(x, layout.unsigned) + (one - root)
    field = bits >> place
    whole = bitcast((bits & ((1 << place) - 1)) + root, x.dtype)
    # a whole number in the last bits of a float, which is 2**place more than it
    exponent = bitcast(field | ((layout.bias + place) << place), x.dtype) - 2.0**place - lowest
    f = whole - 1.0
    if correction is not None:
        inverse = (2 * layout.bias) - binary("min", field, field._other(2 * layout.bias - 1))
        f = fma(correction, bitcast(inverse << place, x.dtype), f)
    return exponent, f


def log_tail(f: Expression) -> Expression:
    """log(1 + f) - f."""
    square = f * f
    if f.dtype == FLOAT32:
        return fma(square * f, polynomial(f, _LOG_SINGLE), -0.5 * square)
    s, half = f / (f + 2.0), 0.5 * square
    z = s * s
    return s * fma(z, polynomial(z, _LOG_DOUBLE), half) - half


def natural_log(exponent: Expression, f: Expression) -> Expression:
    """The logarithm of 2**e (1 + f)."""
    high, low = LOG_2[f.dtype]
    return fma(exponent, high, f + fma(exponent, low, log_tail(f)))


def at_log_ends(result: Expression, x: Expression) -> Expression:
    """A logarithm, made right for arguments that have no finite one."""
    result = select(x.equal(math.inf), x, result)
    return select(x.greater(0.0), result, select(x.equal(0.0), x._other(-math.inf), math.nan))


def log(x: Expression) -> Expression:
    """The natural logarithm."""
    return at_log_ends(natural_log(*split_exponent(x)), x)


def _scaled_log(f: Expression, factor: tuple[float, float]) -> Expression:
    """log(1 + f) times a factor that is given as a pair."""
    high, low = factor
    return fma(f, high, fma(log_tail(f), high, f * low))


def log2(x: Expression) -> Expression:
    """The logarithm to base 2; whole for powers of 2."""
    exponent, f = split_exponent(x)
    return at_log_ends(exponent + _scaled_log(f, LOG2_E[x.dtype]), x)


def log10(x: Expression) -> Expression:
    """The logarithm to base 10."""
    exponent, f = split_exponent(x)
    high, low = LOG10_2[x.dtype]
    return at_log_ends(fma(exponent, high, fma(exponent, low, _scaled_log(f, LOG10_E[x.dtype]))), x)


def log1p(x: Expression) -> Expression:
    """log(1 + x), exact near 0, too."""
    total, error = two_sum(x._other(1.0), x)
    result = at_log_ends(natural_log(*split_exponent(total, error)), total)
    return select(x.equal(0.0), x, result)


def _log1p_or_log_of_double(x: Expression, large: Expression, size: Expression) -> Expression:
    """log(1 + x), but log(2 size) where that is large."""
    total, error = two_sum(x._other(1.0), x)
    total = select(large, size, total)
    exponent, f = split_exponent(total, select(large, 0.0, error))
    return at_log_ends(natural_log(select(large, exponent + 1.0, exponent), f), total)


def asinh(x: Expression) -> Expression:
    """The inverse of sinh: log(1 + |x| + x**2 / (1 + sqrt(1 + x**2)))."""
    size = magnitude(x)
    large = size.greater(format_of(x).pick(2.0**13, 2.0**28))
    root = unary("sqrt", fma(size, size, 1.0))
    small = size + size * (size / (1.0 + root))
    result = _log1p_or_log_of_double(small, large, size)
    return copysign(select(size.less(2.0**-30), size, result), x)


def acosh(x: Expression) -> Expression:
    """The inverse of cosh. With t = x - 1, it is log(1 + t + sqrt(2 t + t**2))."""
    t = select(x.less(1.0), math.nan, x - 1.0)
    large = x.greater(format_of(x).pick(2.0**13, 2.0**28))
    return _log1p_or_log_of_double(t + unary("sqrt", fma(t, t, 2.0 * t)), large, x)


def atanh(x: Expression) -> Expression:
    """The inverse of tanh: log(1 + 2 |x| / (1 - |x|)) / 2."""
    size = magnitude(x)
    return copysign(0.5 * log1p(2.0 * size / (1.0 - size)), x)


# Powers


def repeated_product(x: Any, count: int) -> Any:
    """`x` times itself, for a positive number of factors: the products of its squares, of their squares, and so on."""
    result = None
    while True:
        if count & 1:
            result = x if result is None else result * x
        count >>= 1
        if not count:
            return result
        x = x * x


_POW_TAIL = (
    *(0.053878005446940706, 0.052274330133643576, 0.0588343932799463, 0.06666647505950053),
    *(0.0769230789032387, 0.09090909089761286, 0.11111111111114441, 0.14285714285714282, 0.2),
)


def _log_pair(f: Expression) -> Pair:
    """log(1 + f) as a pair, for float64: 2 s (1 + s**2 / 3 + s**4 P(s**2)) with s = f / (2 + f)."""
    bottom, bottom_error = quick_two_sum(f._other(2.0), f)
    s = f / bottom
    s_error = fma(-s, bottom_error, fma(-s, bottom, f)) / bottom
    z, z_error = two_product(s, s)
    z_error = fma(2.0 * s, s_error, z_error)
    # z / 3 as a pair, and the further terms, which need no second part
    third, third_error = two_product(z, z._other(1 / 3))
    third_error = third_error + fma(z, 1.850371707708594e-17, z_error * (1 / 3))
    more = z * z * polynomial(z, _POW_TAIL)
    w, w_error = quick_two_sum(third, more)
    w_error = w_error + third_error
    product, product_error = two_product(s, w)
    product_error = product_error + fma(s, w_error, s_error * w)
    total, total_error = quick_two_sum(s, product)
    return 2.0 * total, 2.0 * (total_error + (product_error + s_error))


def double_power(size: Expression, y: Expression, factor: Expression | None = None, places: int = 0) -> Expression:
    """`size ** y` for float64 of which the first is positive: exp(y log(size)) with the logarithm as a pair.

    With a factor, times that and times 2**places: the power alone may be out of range.
    """
    exponent, f = split_exponent(size)
    high, low = LOG_2[FLOAT64]
    part, part_error = _log_pair(f)
    product, product_error = two_product(exponent, exponent._other(high))
    total, error = two_sum(product, part)
    error = error + (fma(exponent, low, product_error) + part_error)
    total, error = quick_two_sum(total, error)
    # of zero and infinity
    edge = select(size.equal(0.0), size._other(-math.inf), math.inf)
    regular = size.greater(0.0) & size.less(math.inf)
    total = select(regular, total, select(size.equal(size), edge, size))
    product, product_error = two_product(y, total)
    limited = at_least(at_most(product, 720.0), -1418.0 - places * LOG_2[FLOAT64][0])
    inside = limited.equal(product) & regular
    low_part = select(inside, fma(y, error, product_error), 0.0)
    rest, shifted = _split_exponential(limited, 2 * DOUBLE.bias + places, low_part)
    return _times_power_of_two(1.0 + rest if factor is None else fma(rest, factor, factor), shifted)


def _single_power(size: Expression, y: Expression) -> Expression:
    """`size ** y` for float32 of which the first is positive: 2**(y log2(size)) in float64."""
    wide = convert(size, FLOAT64)
    bits = bitcast(wide, UINT64) + (0x3FF0000000000000 - 0x3FE6A09E667F3BCD)
    exponent = bitcast((bits >> 52) | (0x433 << 52), FLOAT64) - (2.0**52 + 1023)
    f = bitcast((bits & ((1 << 52) - 1)) + 0x3FE6A09E667F3BCD, FLOAT64) - 1.0
    s = f / (f + 2.0)
    z = s * s
    logarithm = fma(s * z, polynomial(z, _LOG_DOUBLE[2:]), 2.0 * s)
    logarithm = fma(logarithm, LOG2_E[FLOAT64][0], exponent)
    edge = select(size.equal(0.0), size._other(-math.inf), size)
    logarithm = select(size.greater(0.0) & size.less(math.inf), logarithm, convert(edge, FLOAT64))
    t = convert(y, FLOAT64) * logarithm
    t = at_least(at_most(t, 130.0), -160.0)
    rounder = DOUBLE.rounder + DOUBLE.bias
    shifted = t + rounder
    r = (t - (shifted - rounder)) * LOG_2[FLOAT64][0]
    power = _power_of_two(shifted)
    rest = fma(r * r, polynomial(r, _EXP_DOUBLE[4:]), r)
    return convert(fma(rest, power, power), FLOAT32)


def pow_(x: Expression, y: Expression) -> Expression:
    """x to the y, for all that C's `pow` gives a value."""
    size = magnitude(x)
    result = (_single_power if x.dtype == FLOAT32 else double_power)(size, y)
    result = select(size.equal(1.0), 1.0, result)
    whole = unary("trunc", y).equal(y)
    half = 0.5 * y
    odd = whole & unary("trunc", half).not_equal(half)
    result = select(odd, copysign(result, x), result)
    undefined = x.less(0.0) & x.greater(-math.inf) & ~whole
    result = select(undefined, math.nan, result)
    return select(y.equal(0.0) | x.equal(1.0), 1.0, result)


def cbrt(x: Expression) -> Expression:
    """The cube root: a third of the bits, which are a rough logarithm; Halley's iteration; a step of Newton's."""
    layout = format_of(x)
    size = magnitude(x)
    small = size.less(layout.least_normal)
    scale, back = layout.pick((2.0**24, 2.0**-8), (2.0**54, 2.0**-18))
    number = select(small, size * scale, size)
    if x.dtype == FLOAT32:
        third = convert(convert(bitcast(number, INT32), FLOAT32) * (1 / 3), INT32)
        root = bitcast(third + 0x2A514067, FLOAT32)
    else:
        third = ((bitcast(number, UINT64) >> 32) * 0x55555556) >> 32
        root = bitcast((third + 0x2A9F7893) << 32, FLOAT64)
    quarter = number * 0.25
    for _ in range(layout.pick(1, 2)):
        cube = (root * 0.25) * root * root
        root = root * (fma(quarter, 2.0, cube) / fma(cube, 2.0, quarter))
    square, square_error = two_product(root, root)
    error = fma(square, root, -number) + square_error * root
    root = root - error / (3.0 * square)
    result = copysign(select(small, root * back, root), x)
    return select(size.greater(0.0) & size.less(math.inf), result, x)


def rsqrt(x: Expression) -> Expression:
    """1 / sqrt(x)."""
    return 1.0 / unary("sqrt", x)
