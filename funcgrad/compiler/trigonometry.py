"""Sine, cosine, tangent and their inverses, in the language of kernels; see `compiler.mathematics` for how it is done.

The period of a sine is no number that a float can hold: x - n pi needs more digits of pi the larger x is. Up to 2**17
(2**40 in float64) pi is taken as a sum of floats. Beyond, those bits of 1/pi are chosen that matter for the exponent
of x.

Sources: M. Payne and R. Hanek, "Radian Reduction for Trigonometric Functions" (SIGNUM Newsletter 18, 1983);
J.-M. Muller, "Elementary Functions" (3rd edition, 2016), chapter 11.
"""

from __future__ import annotations

import math

from funcgrad.compiler.expressions import (
    FLOAT32,
    FLOAT64,
    Expression,
    binary,
    bitcast,
    convert,
    fma,
    rarely,
    select,
    unary,
)
from funcgrad.compiler.mathematics import (
    DOUBLE,
    UINT64,
    Pair,
    copysign,
    format_of,
    magnitude,
    polynomial,
    quick_two_sum,
    two_product,
    two_sum,
)

PI = (3.141592653589793, 1.2246467991473532e-16, -2.9947698097183397e-33)
INVERSE_PI = 1 / math.pi

CHUNK = 50  # bits of 1/pi in one float; a product with them and its rounding error are exact
INVERSE_PI_BITS = (
    "517cc1b727220a94fe13abe8fa9a6ee06db14acc9e21c820ff28b1d5ef5de2b0db92371d2126e9700324977504e8c90e7f0e"
    "f58e5894d39f74411afa975da24274ce38135a2fbf209cc8eb1cc1a99cfa4e422fc5defc941d8ffc4bffef02cc07f79788c5"
    "ad05368fb69b3f6793e584dba7a31fb34f2ff516ba93dd63f5f2f8bd9e839cfbc529497535fdafd88fc6ae842b0198237e3d"
)
_CHUNKS = [
    float(int(INVERSE_PI_BITS, 16) >> (1200 - CHUNK * (k + 1)) & ((1 << CHUNK) - 1)) / 2.0**CHUNK for k in range(24)
]


def _chosen_chunks(block: Expression, like: Expression, blocks: int) -> list[Expression]:
    """Five neighbours of the chunks, from number `block` on, which is below `blocks`."""
    chunks = [like._other(x) for x in _CHUNKS[: blocks + 4]]
    stage = 1 << max(0, (blocks - 1).bit_length() - 1)
    while stage:
        further = (block & stage).not_equal(0)
        chunks = [
            select(further, chunks[i + stage], x) if i + stage < len(chunks) else x
            for i, x in enumerate(chunks[: stage + 4])
        ]
        stage >>= 1
    return chunks


def _modulo_two(x: Expression) -> Expression:
    return x - 2.0 * unary("round", 0.5 * x)


def _add_to_pair(pair: Pair, x: Expression) -> Pair:
    total, error = two_sum(pair[0], x)
    return quick_two_sum(total, pair[1] + error)


def _large_turns(x: Expression, largest: int, per_turn: int, offset: float) -> Pair:
    """x in units of `pi / per_turn`: the nearest whole number plus `offset`, and what is left, not in those units.

    The whole number is in the last bits of a float, modulo 2. For float64 from 2**17 up to 2**(largest + 1).
    """
    field = (bitcast(x, UINT64) >> 52) & 0x7FF
    lowest = DOUBLE.bias + 53
    above = binary("max", field, field._other(lowest)) - lowest
    block = (above * 1311) >> 16  # divided by 50
    scaled = x * bitcast((DOUBLE.bias - block * CHUNK) << 52, FLOAT64)
    chunks = _chosen_chunks(block, x, (largest - 53) // CHUNK + 1)
    parts = [two_product(scaled * 2.0 ** -(CHUNK * k), chunk) for k, chunk in enumerate(chunks)]
    total: Pair = two_sum(_modulo_two(parts[0][0]), _modulo_two(parts[0][1]))
    for part in (_modulo_two(parts[1][0]), parts[1][1], parts[2][0]):
        total = _add_to_pair(total, part)
    # So far it was exact. What is still to come is small, and has its full say once the whole number is gone.
    total = per_turn * total[0], per_turn * total[1]
    if offset:
        total = _add_to_pair(total, x._other(-offset))
    shifted = total[0] + DOUBLE.rounder
    total = quick_two_sum(total[0] - (shifted - DOUBLE.rounder), total[1])
    for part in (parts[2][1], parts[3][0], parts[3][1], parts[4][0]):
        total = _add_to_pair(total, part * float(per_turn))
    high, low, _ = PI
    return shifted, fma(total[0], high / per_turn, fma(total[0], low / per_turn, total[1] * (high / per_turn)))


def _turns(x: Expression, per_turn: int, offset: float) -> Pair:
    """The same for all other numbers; the rest is in float64."""
    layout = format_of(x)
    scaled = x * (INVERSE_PI * per_turn) if not offset else fma(x, INVERSE_PI * per_turn, -offset)
    shifted = scaled + layout.rounder
    n = shifted - layout.rounder
    n, rest = convert(n + offset if offset else n, FLOAT64), convert(x, FLOAT64)
    for part in PI if x.dtype == FLOAT64 else PI[:2]:
        rest = fma(n, -part / per_turn, rest)
    return shifted, rest


def _is_large(x: Expression) -> Expression:
    return magnitude(x).greater(format_of(x).pick(2.0**17, 2.0**40))


def _signed_rest(turns: Pair) -> Expression:
    """The rest, with the other sign if the number of half turns is odd."""
    shifted, rest = turns
    places = 8 * shifted.dtype.itemsize - 1
    bits = bitcast(shifted, format_of(shifted).unsigned) << places
    if rest.dtype != shifted.dtype:
        rest = convert(rest, shifted.dtype)
    return bitcast(bitcast(rest, bits.dtype) ^ bits, rest.dtype)


_SIN_SINGLE = (2.60501724e-06, -0.000198092763, 0.00833306182, -0.166666597)
_SIN_DOUBLE = (
    *(-8.00498832777573e-18, 2.8104587439436393e-15, -7.64713874550285e-13, 1.6059043472100833e-10),
    *(-2.5052108382313065e-08, 2.755731922397081e-06, -0.00019841269841269806, 0.008333333333333333),
    *(-0.16666666666666666,),
)


def sine_polynomial(r: Expression) -> Expression:
    """The sine of |r| <= pi / 2."""
    square = r * r
    return fma(r * square, polynomial(square, format_of(r).pick(_SIN_SINGLE, _SIN_DOUBLE)), r)


def _sine(x: Expression, offset: float) -> Expression:
    """The sine of x reduced by a whole number of half turns plus `offset`."""
    layout = format_of(x)
    large = _signed_rest(_large_turns(convert(x, FLOAT64), layout.bias, 1, offset))
    return sine_polynomial(rarely(_is_large(x), convert(large, x.dtype), _signed_rest(_turns(x, 1, offset))))


def sin(x: Expression) -> Expression:
    """The sine."""
    return select(x.equal(0.0), x, _sine(x, 0.0))


def cos(x: Expression) -> Expression:
    """The cosine: the sine of what is left after an odd number of quarter turns, with the other sign."""
    return -_sine(x, 0.5)


_TAN_SIN_SINGLE = (2.72458874e-06, -0.00019840055, 0.00833333191, -0.166666672)
_TAN_SIN_DOUBLE = (
    *(-7.585901341559535e-13, 1.6058518030197686e-10, -2.505210614614823e-08, 2.755731921908908e-06),
    *(-0.0001984126984126474, 0.008333333333333331, -0.16666666666666666),
)
_TAN_COS_SINGLE = (2.48005745e-05, -0.00138888881, 0.0416666679)
_TAN_COS_DOUBLE = (
    *(4.745429462726575e-14, -1.1470453332483415e-11, 2.0876755743099744e-09, -2.7557319221263784e-07),
    *(2.4801587301584466e-05, -0.0013888888888888887, 0.041666666666666664),
)


def _tangent(turns: Pair) -> Expression:
    """The tangent of what is left after quarter turns, given with their number; in float64."""
    shifted, r = turns
    single = shifted.dtype == FLOAT32
    odd = (bitcast(shifted, format_of(shifted).unsigned) & 1).not_equal(0)
    square = r * r
    sine = fma(r * square, polynomial(square, _TAN_SIN_SINGLE if single else _TAN_SIN_DOUBLE), r)
    more = polynomial(square, _TAN_COS_SINGLE if single else _TAN_COS_DOUBLE)
    near_one = fma(square, -0.5, 1.0)
    cosine = near_one + fma(square * square, more, fma(square, -0.5, 1.0 - near_one))
    return select(odd, -cosine, sine) / select(odd, sine, cosine)


def tan(x: Expression) -> Expression:
    """The tangent: sine by cosine of what is left after quarter turns, or the other way round."""
    large = _large_turns(convert(x, FLOAT64), format_of(x).bias, 2, 0.0)
    result = convert(rarely(_is_large(x), _tangent(large), _tangent(_turns(x, 2, 0.0))), x.dtype)
    return select(x.equal(0.0), x, result)


# The inverses of sine and cosine: a polynomial up to 1/2; beyond, asin(x) = pi/2 - 2 asin(sqrt((1 - x) / 2))

_ASIN_SINGLE = (0.0337402821, 0.0171215869, 0.0311060008, 0.0445989892, 0.0750009567, 0.166666657)
_ASIN_DOUBLE = (
    *(0.02886097438799853, -0.014999855783811349, 0.017493569476248205, 0.005424230839804001, 0.010330370295404406),
    *(0.011478047472510145, 0.013971325328728771, 0.017352385393480947, 0.022372173243832207, 0.0303819441312372),
    *(0.04464285714644605, 0.07499999999998389, 0.16666666666666669),
)

HALF_PI = {FLOAT32: (1.57079637, -4.37113883e-8), FLOAT64: (1.5707963267948966, 6.123233995736766e-17)}


def _inverse_sine(x: Expression) -> tuple[Expression, Expression, Expression]:
    """Whether |x| is above 1/2, and the arc of |x| or of sqrt((1 - |x|) / 2), in two parts."""
    size = magnitude(x)
    large = size.greater(0.5)
    square = select(large, fma(size, -0.5, 0.5), size * size)
    s = select(large, unary("sqrt", square), size)
    return large, s, s * square * polynomial(square, format_of(x).pick(_ASIN_SINGLE, _ASIN_DOUBLE))


def asin(x: Expression) -> Expression:
    """The inverse of the sine, between -pi/2 and pi/2."""
    large, s, more = _inverse_sine(x)
    high, low = HALF_PI[x.dtype]
    result = select(large, fma(s, -2.0, high) + fma(more, -2.0, low), s + more)
    return copysign(result, x)


def acos(x: Expression) -> Expression:
    """The inverse of the cosine, between 0 and pi."""
    large, s, more = _inverse_sine(x)
    high, low = HALF_PI[x.dtype]
    negative = x.less(0.0)
    factor = select(large, select(negative, x._other(-2.0), 2.0), select(negative, x._other(1.0), -1.0))
    # from pi, from 0, or from pi / 2
    quarters = select(large, select(negative, x._other(2.0), 0.0), 1.0)
    return fma(factor, s, quarters * high) + fma(factor, more, quarters * low)


# The inverse of the tangent: atan(a) = pi/2 - atan(1/a), and atan(a/b) = pi/4 + atan((a - b) / (a + b)) around 1

_ATAN_SINGLE = (-0.0644915774, 0.107428953, -0.142638788, 0.199995384, -0.333333313)
_ATAN_DOUBLE = (
    *(-0.019157273875052977, 0.03921563261717332, -0.050848946488512896, 0.05858042767486098, -0.06664499220441451),
    *(0.07692182322230513, -0.0909090454071021, 0.11111111014334958, -0.1428571428465508, 0.19999999999995466),
    *(-0.3333333333333333,),
)
THREE_QUARTERS_PI = {FLOAT32: (2.3561945, -5.96244032e-09), FLOAT64: (2.356194490192345, 9.184850993605148e-17)}


def _arc(small: Expression, large: Expression, swapped: Expression, negative: Expression | None = None) -> Expression:
    """The angle of the point (large, small) of the first octant.

    If `swapped`, of the point mirrored at the diagonal; then, if `negative`, mirrored at the vertical axis.
    """
    near_diagonal = small.greater(0.41421356 * large)
    top, bottom = select(near_diagonal, small - large, small), select(near_diagonal, small + large, large)
    t = top / bottom
    square = t * t
    more = t * square * polynomial(square, format_of(small).pick(_ATAN_SINGLE, _ATAN_DOUBLE))
    high, low = HALF_PI[small.dtype]
    quarters = select(near_diagonal, small._other(0.5), select(swapped, small._other(1.0), 0.0))
    down = swapped
    start, start_low = quarters * high, quarters * low
    if negative is not None:
        down = swapped ^ negative
        third, third_low = THREE_QUARTERS_PI[small.dtype]
        start = select(negative, select(near_diagonal, third, (2.0 - quarters) * high), start)
        start_low = select(negative, select(near_diagonal, third_low, (2.0 - quarters) * low), start_low)
    t, more = select(down, -t, t), select(down, -more, more)
    return (start + t) + (start_low + more)


def atan(x: Expression) -> Expression:
    """The inverse of the tangent, between -pi/2 and pi/2."""
    size = magnitude(x)
    swapped = size.greater(1.0)
    return copysign(_arc(select(swapped, 1.0, size), select(swapped, size, 1.0), swapped), x)


def atan2(y: Expression, x: Expression) -> Expression:
    """The angle of the point (x, y), between -pi and pi."""
    height, width = magnitude(y), magnitude(x)
    swapped = height.greater(width)
    small, large = select(swapped, width, height), select(swapped, height, width)
    # Both infinite is like both 1; both zero like a zero over 1. Large ones are made smaller, since they are added up.
    infinite = small.equal(math.inf) & large.equal(math.inf)
    scale = select(large.greater(format_of(x).pick(2.0**126, 2.0**1022)), x._other(0.25), 1.0)
    small = select(infinite, 1.0, small * scale)
    large = select(infinite | large.equal(0.0), 1.0, large * scale)
    negative = bitcast(x, format_of(x).signed).less(0)
    return copysign(_arc(small, large, swapped, negative), y)
