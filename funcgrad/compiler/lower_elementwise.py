"""What elementwise primitives are, in the language of kernels: one rule a primitive.

A rule gets an `Expression` for the element of each operand and the parameters of the equation, and gives the Expression
of the element of the result. Rules follow the `evaluate` rules of the primitives to the letter: what NumPy gives for a
division by zero, for NaN or for a shift by too many places is what the compiled code gives.

The two short floats have no arithmetic of their own: `lower` widens their elements to float32 and rounds the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy

from funcgrad import dtypes
from funcgrad.compiler import mathematics, special_functions, trigonometry
from funcgrad.compiler.expressions import (
    BOOL,
    FLOAT32,
    FLOAT64,
    INT32,
    Expression,
    binary,
    bitcast,
    compare,
    computing_dtype,
    constant,
    constant_value,
    fma,
    rarely,
    rounded,
    select,
    unary,
)
from funcgrad.compiler.expressions import convert as converted
from funcgrad.core import Primitive
from funcgrad.primitives import elementwise
from funcgrad.primitives.bessel import bessel_i0e, bessel_i1e
from funcgrad.primitives.integers import gcd
from funcgrad.primitives.randomness import PARITY, ROTATIONS, threefry2x32

Rule = Callable[..., Any]


def supports(primitive: Primitive, operands: Sequence[numpy.dtype], params: dict[str, Any]) -> bool:
    """Whether `lower` has a rule for the primitive with operands of these dtypes."""
    if primitive not in RULES or any(x.kind == "c" for x in operands):
        return False
    return getattr(params.get("dtype"), "kind", "") != "c" and primitive is not elementwise.complex_


def lower(primitive: Primitive, operands: Sequence[Expression], params: dict[str, Any]) -> Any:
    """The result of a primitive for single elements; a tuple of them for several results; None without a rule."""
    if not supports(primitive, [x.dtype for x in operands], params):
        return None
    rule = RULES[primitive]
    dtype = operands[0].dtype
    if computing_dtype(dtype) is dtype or primitive in ON_ANY_DTYPE:
        return rule(*operands, **params)
    result = rule(*[converted(x, computing_dtype(dtype)) for x in operands], **params)
    if result.dtype != FLOAT32:
        return result
    return converted(rounded(result, is_result=True) if dtype == dtypes.bfloat16 else result, dtype)


def unsigned(x: Expression) -> Expression:
    """The same bits as a number without a sign."""
    return bitcast(x, numpy.dtype(f"u{x.dtype.itemsize}"))


def signed(x: Expression) -> Expression:
    """The bits of a number as a whole number with a sign."""
    return bitcast(x, numpy.dtype(f"i{x.dtype.itemsize}"))


def either(x: Expression, y: Expression) -> Expression:
    """Whether one of two conditions holds."""
    return binary("or", x, y)


def _operator(operation: str) -> Rule:
    return lambda x, y: binary(operation, x, y)


def _one_operand(operation: str) -> Rule:
    return lambda x: unary(operation, x)


def _comparison(operation: str) -> Rule:
    return lambda x, y: compare(operation, x, y)


# Division


def _constant_divisor(y: Expression) -> bool:
    """Whether a whole divisor is known, and harmless."""
    return y.operation == "constant" and int(constant_value(y)) not in (0, -1)


def _safe_divisor(x: Expression, y: Expression) -> Expression:
    """The divisor, but 1 where CPUs trap: for 0, and for the one quotient that does not fit, the least number by -1."""
    trap = y.equal(0)
    if x.dtype.kind == "i":
        trap = either(trap, y.equal(-1) & x.equal(int(numpy.iinfo(x.dtype).min)))
    return select(trap, 1, y)


def _whole_quotient(x: Expression, y: Expression) -> Expression:
    if x.dtype.itemsize == 8 or y.operation == "constant":
        return binary("div", x, y)
    # CPUs divide vectors of floats, but not of whole numbers. Rounding never takes a quotient up to the next whole
    # number: it is away from that by 1/x of itself or more.
    wide = FLOAT32 if x.dtype.itemsize <= 2 else FLOAT64
    return converted(binary("div", converted(x, wide), converted(y, wide)), x.dtype)


def _div(x: Expression, y: Expression) -> Expression:
    if x.dtype.kind == "f":
        return x / y
    if _constant_divisor(y):
        return binary("div", x, y)
    quotient = _whole_quotient(x, _safe_divisor(x, y))
    # By zero: what the primitive gives, which corrects NumPy's 0 as if it had been rounded down.
    of_zero = converted(x.less(0), x.dtype) if x.dtype.kind == "i" else constant(0, x.dtype)
    return select(y.equal(0), of_zero, quotient)


def _rem(x: Expression, y: Expression) -> Expression:
    if x.dtype.kind == "f":
        return _float_remainder(x, y)
    if _constant_divisor(y):
        return binary("rem", x, y)
    safe = _safe_divisor(x, y)
    return select(y.equal(0), 0, x - _whole_quotient(x, safe) * safe)


def _significand(x: Expression) -> tuple[Expression, Expression]:
    """A positive number as a float that is a whole number of full precision, times two to a power, which is second."""
    layout = mathematics.format_of(x)
    integer, precision, bias = layout.signed, layout.precision, layout.bias
    small = x.less(float(numpy.finfo(x.dtype).tiny))
    bits = bitcast(select(small, x * 2.0**precision, x), integer)
    exponent = (bits >> (precision - 1)) - select(small, constant(precision, integer), constant(0, integer))
    mantissa = bits & ((1 << (precision - 1)) - 1)
    whole = bias + precision - 1
    return bitcast(mantissa | (whole << (precision - 1)), x.dtype), exponent - whole


def _float_remainder(x: Expression, y: Expression) -> Expression:
    """fmod: what is left when the largest whole multiple of y that fits is taken from x; exact.

    Long division in base 2**20 or 2**48. A digit is the nearest whole number to the quotient so far, so that what is
    left is a whole number smaller than the divisor, which a float holds exactly. The last one may be negative.
    """
    layout = mathematics.format_of(x)
    integer, precision, bias = layout.signed, layout.precision, layout.bias
    step = 20 if precision == 24 else 48
    length, width = unary("abs", x), unary("abs", y)
    left, exponent = _significand(length)
    divisor, divisor_exponent = _significand(width)
    places, inverse = exponent - divisor_exponent, 1.0 / divisor

    def scaled(number: Expression, power: Expression) -> Expression:
        return number * bitcast((power + bias) << (precision - 1), x.dtype)

    def divided(left: Expression, places: Expression) -> tuple[Expression, Expression]:
        now = binary("max", binary("min", places, constant(step, integer)), constant(0, integer))
        left = scaled(left, now)
        return fma(-unary("round", left * inverse), divisor, left), places - now

    # Most quotients have one digit.
    left, places = divided(left, places)
    more, more_places = left, places
    for _ in range((2 * bias + precision) // step):
        more, more_places = divided(more, more_places)
    left = rarely(places.greater(0), more, left)
    left = select(left.less(0.0), left + divisor, left)
    half = divisor_exponent >> 1  # in two steps, since 2**divisor_exponent may be too small for a normal number
    left = scaled(scaled(left, half), divisor_exponent - half)
    result = binary("copysign", select(length.less(width), length, left), x)
    return select(length.less(numpy.inf) & width.greater(0.0), result, numpy.nan)


# Powers and signs


def _integer_pow(x: Expression, exponent: int) -> Expression:
    if exponent == 0:
        return constant(1, x.dtype)
    result = mathematics.repeated_product(x, abs(exponent))
    return 1 / result if exponent < 0 else result


def _whole_pow(x: Expression, y: Expression) -> Expression:
    result, square = constant(1, x.dtype), x
    for place in range(8 * x.dtype.itemsize):
        result = select((y & (1 << place)).not_equal(0), result * square, result)
        square = square * square
    if x.dtype.kind == "u":
        return result
    # The quotient 1 / x**-y, rounded towards zero, is whole for 1 and -1 alone.
    inverse = select(unary("abs", x).equal(1), select((y & 1).equal(0), 1, x), 0)
    return select(y.less(0), inverse, result)


def _pow(x: Expression, y: Expression) -> Expression:
    return mathematics.pow_(x, y) if x.dtype.kind == "f" else _whole_pow(x, y)


def _sign(x: Expression) -> Expression:
    one, zero = constant(1, x.dtype), constant(0, x.dtype)
    if x.dtype.kind == "u":
        return select(x.greater(0), one, zero)
    negative = select(x.less(0), constant(-1, x.dtype), zero)
    result = select(x.greater(0), one, negative)
    return select(x.equal(x), result, x) if x.dtype.kind == "f" else result


def _nextafter(x: Expression, y: Expression) -> Expression:
    """One step up or down is one step in the bits, which are a number with a separate sign."""
    integer = numpy.dtype(f"i{x.dtype.itemsize}")
    wide_x, wide_y = (converted(v, computing_dtype(v.dtype)) for v in (x, y))
    bits, zero = bitcast(x, integer), wide_x.equal(0.0)
    away = wide_y.greater(wide_x) ^ bits.less(0)
    moved = bits + select(away, constant(1, integer), constant(-1, integer))
    least = bitcast(y, integer) & numpy.iinfo(integer).min | 1
    stepped = bitcast(select(zero, least, moved), x.dtype)
    # Between equal numbers, NumPy gives the second one, of float16 the first.
    same = x if x.dtype == dtypes.float16 else y
    result = select(wide_x.equal(wide_y), same, stepped)
    missing = either(wide_x.not_equal(wide_x), wide_y.not_equal(wide_y))
    return select(missing, constant(numpy.nan, x.dtype), result)


# Questions


def _always(value: bool, x: Expression) -> Expression:
    return constant(value, BOOL)


def _is_finite(x: Expression) -> Expression:
    return unary("abs", x).less(numpy.inf) if x.dtype.kind == "f" else _always(True, x)


def _is_nan(x: Expression) -> Expression:
    return x.not_equal(x) if x.dtype.kind == "f" else _always(False, x)


def _sign_bit(x: Expression) -> Expression:
    return _always(False, x) if x.dtype.kind == "u" else signed(x).less(0)


# Shifts: by the width or more they give what repeated shifts would give.


def _shift(operation: str) -> Rule:
    def rule(x: Expression, amount: Expression) -> Expression:
        width = 8 * x.dtype.itemsize
        places = unsigned(amount)
        if operation == "ashr":
            places = binary("min", places, constant(width - 1, places.dtype))
            return x >> bitcast(places, x.dtype)
        return select(places.less(width), binary(operation, x, amount & (width - 1)), 0)

    return rule


def _gcd(x: Expression, y: Expression) -> Expression:
    return bitcast(binary("gcd", unsigned(unary("abs", x)), unsigned(unary("abs", y))), x.dtype)


# Conversions


def round_to_odd(x: Expression) -> Expression:
    """A float64 as a float32 towards zero, with the last bit set unless that is exact.

    Rounding it once more, to fewer bits, gives what rounding at once would have given.

    Source: S. Boldo and G. Melquiond, "Emulation of FMA and correctly rounded sums: proved algorithms using rounding to
    odd" (IEEE Transactions on Computers 57, 2008).
    """
    nearest = converted(x, FLOAT32)
    back, size = unary("abs", converted(nearest, FLOAT64)), unary("abs", x)
    bits = bitcast(nearest, INT32)
    towards_zero = select(back.greater(size), bits - 1, bits)
    inexact = either(back.greater(size), back.less(size))
    return bitcast(select(inexact, towards_zero | 1, bits), FLOAT32)


def _convert(x: Expression, dtype: numpy.dtype) -> Expression:
    if x.dtype == dtype:
        return x
    if x.dtype.kind == "b":
        return select(x, constant(1, dtype), constant(0, dtype))
    if computing_dtype(dtype) is not dtype:
        return converted(round_to_odd(x) if x.dtype == FLOAT64 else converted(x, FLOAT32), dtype)
    x = converted(x, computing_dtype(x.dtype))
    if dtype.kind == "b":
        return x.not_equal(0)
    if x.dtype.kind == "f" and dtype in (dtypes.uint32, dtypes.uint64):
        # In two halves, as C compilers do it on CPUs that convert to signed numbers only.
        integer = numpy.dtype(f"i{dtype.itemsize}")
        least = numpy.iinfo(integer).min
        upper = x.greater_equal(-float(least))
        bits = converted(select(upper, x + float(least), x), integer)
        return bitcast(bits ^ select(upper, constant(least, integer), constant(0, integer)), dtype)
    return converted(x, dtype)


# Random bits


def _threefry(
    key0: Expression, key1: Expression, count0: Expression, count1: Expression
) -> tuple[Expression, Expression]:
    keys = (key0, key1, key0 ^ key1 ^ PARITY)
    word0, word1 = count0 + key0, count1 + key1
    for step in range(5):
        for rotation in ROTATIONS[step % 2]:
            word0 = word0 + word1
            word1 = (word1 << rotation | word1 >> (32 - rotation)) ^ word0
        word0 = word0 + keys[(step + 1) % 3]
        word1 = word1 + (keys[(step + 2) % 3] + (step + 1))
    return word0, word1


# Primitives whose rules have the same names as they
_NAMES = {
    mathematics: "exp exp2 expm1 log log2 log10 log1p logistic rsqrt cbrt sinh cosh tanh asinh acosh atanh",
    trigonometry: "sin cos tan asin acos atan atan2",
    special_functions: "erf erfc erf_inv lgamma digamma polygamma",
}

RULES: dict[Primitive, Rule] = {
    **{getattr(elementwise, name): getattr(module, name) for module, names in _NAMES.items() for name in names.split()},
    bessel_i0e: special_functions.bessel_i0e,
    bessel_i1e: special_functions.bessel_i1e,
    elementwise.add: _operator("add"),
    elementwise.sub: _operator("sub"),
    elementwise.mul: _operator("mul"),
    elementwise.div: _div,
    elementwise.rem: _rem,
    elementwise.neg: _one_operand("neg"),
    elementwise.max_: _operator("max"),
    elementwise.min_: _operator("min"),
    elementwise.integer_pow: _integer_pow,
    elementwise.sqrt: _one_operand("sqrt"),
    elementwise.pow_: _pow,
    elementwise.abs_: _one_operand("abs"),
    elementwise.sign: _sign,
    elementwise.floor: _one_operand("floor"),
    elementwise.ceil: _one_operand("ceil"),
    elementwise.round_: _one_operand("round"),
    elementwise.trunc: _one_operand("trunc"),
    elementwise.nextafter: _nextafter,
    elementwise.eq: _comparison("eq"),
    elementwise.ne: _comparison("ne"),
    elementwise.lt: _comparison("lt"),
    elementwise.le: _comparison("le"),
    elementwise.gt: _comparison("gt"),
    elementwise.ge: _comparison("ge"),
    elementwise.is_finite: _is_finite,
    elementwise.is_nan: _is_nan,
    elementwise.sign_bit: _sign_bit,
    elementwise.and_: _operator("and"),
    elementwise.or_: _operator("or"),
    elementwise.xor: _operator("xor"),
    elementwise.not_: _one_operand("not"),
    elementwise.population_count: _one_operand("popcount"),
    elementwise.shift_left: _shift("shl"),
    elementwise.shift_right_logical: _shift("lshr"),
    elementwise.shift_right_arithmetic: _shift("ashr"),
    elementwise.select: select,
    gcd: _gcd,
    elementwise.convert: _convert,
    elementwise.convert_weak: _convert,
    elementwise.stop_gradient: lambda x: x,
    threefry2x32: _threefry,
}

ON_ANY_DTYPE = frozenset(
    [
        elementwise.select,
        elementwise.convert,
        elementwise.convert_weak,
        elementwise.nextafter,
        elementwise.stop_gradient,
    ]
)
"""Rules that take the short floats as they are."""
