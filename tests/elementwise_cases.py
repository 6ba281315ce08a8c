"""The cases of elementwise primitives: one row each, as in `funcgrad.primitives.elementwise`.

These primitives rely on their callers, which promote operands to one dtype that the function takes; so what they do to
others, the mode "wrong_dtypes", is not checked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy
import scipy.special
from case_building import (
    ANY,
    BOOL,
    COMPLEX,
    EVEN_SIXTEENTHS,
    EVERYWHERE,
    FLOATS,
    INEXACT,
    INTEGERS,
    NONZERO,
    NUMBERS,
    ODD_SIXTEENTHS,
    POSITIVE,
    REALS,
    SOMETIMES_INFINITE,
    WITHIN_ONE,
    Case,
    Domain,
    Example,
    between_jumps,
    broadcasting_shapes,
    dtypes_of,
    example_of,
    seeds,
)
from hypothesis import strategies as st

from funcgrad import dtypes
from funcgrad.core import Primitive
from funcgrad.primitives import elementwise as e
from funcgrad.primitives.bessel import bessel_i0e, bessel_i1e
from funcgrad.primitives.integers import gcd
from funcgrad.primitives.randomness import threefry2x32
from funcgrad.testing import FORWARD_MODES, MODES


def elementwise_examples(
    domains: Sequence[Domain],
    accepted: Sequence[numpy.dtype],
    params: st.SearchStrategy[dict[str, Any]] | None = None,
    own_dtypes: dict[int, numpy.dtype] | None = None,
) -> st.SearchStrategy[Example]:
    """Operands of one dtype, except where `own_dtypes` gives another, whose shapes broadcast."""

    def build(random, shapes, dtype, params):
        def make():
            return [
                domain.values(random, shape, (own_dtypes or {}).get(i, dtype))
                for i, (domain, shape) in enumerate(zip(domains, shapes, strict=True))
            ]

        return example_of(make, params)

    params = st.just({}) if params is None else params
    return st.builds(build, seeds, broadcasting_shapes(len(domains)), dtypes_of(accepted), params)


def elementwise_case(
    primitive: Primitive,
    reference: Callable[..., Any] | None,
    *domains: Domain,
    accepts: Sequence[numpy.dtype] = NUMBERS,
    linear: tuple[tuple[int, ...], ...] = (),
    modes: tuple[str, ...] = MODES,
    special: bool = True,
) -> Case:
    special_values = tuple(d for d in accepts if d in (dtypes.float32, dtypes.float64)) if special else ()
    return Case(
        primitive,
        elementwise_examples(domains or [EVERYWHERE], accepts),
        reference,
        linear=linear,
        modes=modes,
        special_values=special_values,
        operand_count=len(domains) or 1,
    )


SIGNED = (*FLOATS, *COMPLEX, *(d for d in INTEGERS if d.kind == "i"))


def truncated_quotient(x, y):
    return numpy.trunc(x / y).astype(x.dtype) if x.dtype.kind in "iu" else x / y


def logistic(x):
    return scipy.special.expit(x) if x.dtype.kind == "f" else 1 / (1 + numpy.exp(-x))


def popcount(x):
    width = x.dtype.itemsize * 8
    counts = [bin(int(value) % 2**width).count("1") for value in x.reshape(-1)]
    return numpy.array(counts, x.dtype).reshape(x.shape)


def shifted(shift: Callable[[int, int, int], int]):
    """A shift of Python's unbounded integers, cut to the width of the dtype."""

    def reference(x, amount):
        x, amount = numpy.broadcast_arrays(x, amount)
        bits = x.dtype.itemsize * 8
        found = [shift(int(a), int(b), bits) % 2**bits for a, b in zip(x.reshape(-1), amount.reshape(-1), strict=True)]
        return numpy.array(found, f"u{x.dtype.itemsize}").view(x.dtype).reshape(x.shape)

    return reference


def integer_power(x, *, exponent):
    return x**exponent if x.dtype.kind in "iu" else numpy.power(x, float(exponent))


def sign(x):
    return x / numpy.abs(x) if x.dtype.kind == "c" else numpy.sign(x)


def sides_of_convert(source: Sequence[numpy.dtype], target: Sequence[numpy.dtype]):
    return elementwise_examples([Domain(0, 3)], source, st.fixed_dictionaries({"dtype": dtypes_of(target)}))


NON_INTEGER_QUARTERS = Domain(keep=lambda x: (x * 8) % 2 == 1)
HALVES_ONES_TWOS = Domain(-2, 2, keep=lambda x: numpy.isin(numpy.abs(x), [0.5, 1, 2]))
DIVISOR = Domain(keep=lambda x: numpy.abs(x) >= 0.5)

ARITHMETIC = [
    elementwise_case(e.add, numpy.add, EVERYWHERE, EVERYWHERE, linear=((0, 1),)),
    elementwise_case(e.sub, numpy.subtract, EVERYWHERE, EVERYWHERE, linear=((0, 1),)),
    elementwise_case(e.mul, numpy.multiply, EVERYWHERE, EVERYWHERE, linear=((0,), (1,))),
    elementwise_case(e.div, truncated_quotient, EVERYWHERE, DIVISOR, linear=((0,),)),
    elementwise_case(e.neg, numpy.negative, accepts=SIGNED, linear=((0,),)),
    Case(
        e.rem,
        st.one_of(
            elementwise_examples([NON_INTEGER_QUARTERS, HALVES_ONES_TWOS], FLOATS),
            elementwise_examples([EVERYWHERE, DIVISOR], INTEGERS),
        ),
        numpy.fmod,
        modes=MODES,
    ),
    elementwise_case(e.max_, numpy.maximum, EVEN_SIXTEENTHS, ODD_SIXTEENTHS, accepts=FLOATS),
    elementwise_case(e.min_, numpy.minimum, EVEN_SIXTEENTHS, ODD_SIXTEENTHS, accepts=FLOATS),
    elementwise_case(e.pow_, numpy.power, POSITIVE, Domain(0, 2), special=False),
    Case(
        e.integer_pow,
        st.one_of(
            elementwise_examples([DIVISOR], INEXACT, st.fixed_dictionaries({"exponent": st.integers(-3, 5)})),
            elementwise_examples([EVERYWHERE], INTEGERS, st.fixed_dictionaries({"exponent": st.integers(0, 3)})),
        ),
        integer_power,
        modes=MODES,
    ),
    elementwise_case(e.abs_, numpy.abs, NONZERO),
    elementwise_case(e.sign, sign, NONZERO),
]

ROUNDING = [
    elementwise_case(e.floor, numpy.floor, between_jumps(0), accepts=FLOATS),
    elementwise_case(e.ceil, numpy.ceil, between_jumps(0), accepts=FLOATS),
    elementwise_case(e.trunc, numpy.trunc, between_jumps(0), accepts=FLOATS),
    elementwise_case(e.round_, numpy.rint, between_jumps(0.5), accepts=FLOATS),
    # Its result differs from x by nothing that a difference quotient sees, and its tangent is zero by convention.
    elementwise_case(
        e.nextafter,
        None,
        EVERYWHERE,
        EVERYWHERE,
        accepts=FLOATS,
        modes=("abstract", "batch", "program", "jit"),
        special=False,
    ),
]

FUNCTIONS = [
    elementwise_case(e.sqrt, numpy.sqrt, POSITIVE, accepts=INEXACT),
    elementwise_case(e.rsqrt, lambda x: 1 / numpy.sqrt(x), POSITIVE, accepts=INEXACT),
    elementwise_case(e.cbrt, numpy.cbrt, DIVISOR, accepts=FLOATS),
    elementwise_case(e.exp, numpy.exp, accepts=INEXACT),
    elementwise_case(e.exp2, numpy.exp2, accepts=INEXACT),
    elementwise_case(e.expm1, numpy.expm1, accepts=INEXACT),
    elementwise_case(e.log, numpy.log, POSITIVE, accepts=INEXACT),
    elementwise_case(e.log2, numpy.log2, POSITIVE, accepts=INEXACT),
    elementwise_case(e.log10, numpy.log10, POSITIVE, accepts=INEXACT),
    elementwise_case(e.log1p, numpy.log1p, Domain(-0.75, 3), accepts=INEXACT),
    elementwise_case(e.logistic, logistic, accepts=INEXACT),
    elementwise_case(e.sin, numpy.sin, accepts=INEXACT),
    elementwise_case(e.cos, numpy.cos, accepts=INEXACT),
    elementwise_case(e.tan, numpy.tan, Domain(-1.25, 1.25), accepts=INEXACT),
    elementwise_case(e.asin, numpy.arcsin, WITHIN_ONE, accepts=INEXACT),
    elementwise_case(e.acos, numpy.arccos, WITHIN_ONE, accepts=INEXACT),
    elementwise_case(e.atan, numpy.arctan, accepts=INEXACT),
    elementwise_case(e.atan2, numpy.arctan2, NONZERO, POSITIVE, accepts=FLOATS),
    elementwise_case(e.sinh, numpy.sinh, accepts=INEXACT),
    elementwise_case(e.cosh, numpy.cosh, accepts=INEXACT),
    elementwise_case(e.tanh, numpy.tanh, accepts=INEXACT),
    elementwise_case(e.asinh, numpy.arcsinh, accepts=INEXACT),
    elementwise_case(e.acosh, numpy.arccosh, Domain(1.25, 4), accepts=INEXACT),
    elementwise_case(e.atanh, numpy.arctanh, WITHIN_ONE, accepts=INEXACT),
    elementwise_case(e.erf, scipy.special.erf, accepts=FLOATS),
    elementwise_case(e.erfc, scipy.special.erfc, accepts=FLOATS),
    elementwise_case(e.erf_inv, scipy.special.erfinv, WITHIN_ONE, accepts=FLOATS),
    elementwise_case(e.lgamma, scipy.special.gammaln, POSITIVE, accepts=FLOATS),
    elementwise_case(e.digamma, scipy.special.digamma, POSITIVE, accepts=FLOATS),
]

COMPARISONS = [
    elementwise_case(e.eq, numpy.equal, EVERYWHERE, EVERYWHERE, accepts=ANY),
    elementwise_case(e.ne, numpy.not_equal, EVERYWHERE, EVERYWHERE, accepts=ANY),
    elementwise_case(e.lt, numpy.less, EVERYWHERE, EVERYWHERE, accepts=REALS),
    elementwise_case(e.le, numpy.less_equal, EVERYWHERE, EVERYWHERE, accepts=REALS),
    elementwise_case(e.gt, numpy.greater, EVERYWHERE, EVERYWHERE, accepts=REALS),
    elementwise_case(e.ge, numpy.greater_equal, EVERYWHERE, EVERYWHERE, accepts=REALS),
    elementwise_case(e.is_finite, numpy.isfinite, SOMETIMES_INFINITE, accepts=ANY),
    elementwise_case(e.is_nan, numpy.isnan, SOMETIMES_INFINITE, accepts=ANY),
    elementwise_case(e.sign_bit, numpy.signbit, accepts=REALS),
]

BITS = [
    elementwise_case(e.and_, numpy.bitwise_and, EVERYWHERE, EVERYWHERE, accepts=(*INTEGERS, *BOOL)),
    elementwise_case(e.or_, numpy.bitwise_or, EVERYWHERE, EVERYWHERE, accepts=(*INTEGERS, *BOOL)),
    elementwise_case(e.xor, numpy.bitwise_xor, EVERYWHERE, EVERYWHERE, accepts=(*INTEGERS, *BOOL)),
    elementwise_case(e.not_, numpy.invert, accepts=(*INTEGERS, *BOOL)),
    elementwise_case(e.population_count, popcount, Domain(-100, 100), accepts=INTEGERS),
    elementwise_case(
        e.shift_left, shifted(lambda x, n, bits: x << n), Domain(-100, 100), Domain(0, 100), accepts=INTEGERS
    ),
    elementwise_case(
        e.shift_right_arithmetic,
        shifted(lambda x, n, bits: x >> n),
        Domain(-100, 100),
        Domain(0, 100),
        accepts=INTEGERS,
    ),
    elementwise_case(
        e.shift_right_logical,
        shifted(lambda x, n, bits: x % 2**bits >> n),
        Domain(-100, 100),
        Domain(0, 100),
        accepts=INTEGERS,
    ),
]

OTHERS = [
    elementwise_case(e.real, numpy.real, accepts=COMPLEX, linear=((0,),)),
    elementwise_case(e.imag, numpy.imag, accepts=COMPLEX, linear=((0,),)),
    elementwise_case(e.conj, numpy.conj, accepts=COMPLEX, linear=((0,),)),
    elementwise_case(
        e.complex_,
        lambda x, y: x + 1j * y,
        EVERYWHERE,
        EVERYWHERE,
        accepts=(dtypes.float32, dtypes.float64),
        linear=((0, 1),),
        special=False,
    ),
    Case(
        e.select,
        st.one_of(
            *(
                elementwise_examples([EVERYWHERE] * 3, accepted, own_dtypes={0: dtypes.bool_})
                for accepted in (INEXACT, ANY)
            )
        ),
        numpy.where,
        linear=((1, 2),),
        modes=MODES,
    ),
    Case(
        e.convert,
        st.one_of(
            sides_of_convert(INEXACT, COMPLEX),
            sides_of_convert(REALS, REALS),
            sides_of_convert(FLOATS, FLOATS),
            sides_of_convert(BOOL, ANY),
        ),
        lambda x, *, dtype: x.astype(dtype),
        linear=((0,),),
    ),
    Case(
        e.convert_weak,
        st.one_of(sides_of_convert(INTEGERS, FLOATS), sides_of_convert(FLOATS, (*FLOATS, *COMPLEX))),
        lambda x, *, dtype: x.astype(dtype),
        linear=((0,),),
    ),
    # The derivative of this identity is zero on purpose, which no finite difference agrees with.
    elementwise_case(e.stop_gradient, lambda x: x, accepts=ANY, modes=FORWARD_MODES),
]


@st.composite
def polygamma_examples(draw):
    random, (order_shape, x_shape), dtype = draw(seeds), draw(broadcasting_shapes(2)), draw(dtypes_of(FLOATS))
    orders = Domain(1, 3, keep=lambda n: n == numpy.floor(n))
    return example_of(lambda: [orders.values(random, order_shape, dtype), POSITIVE.values(random, x_shape, dtype)])


def threefry_reference(key0, key1, count0, count1):
    """Threefry-2x32 with 20 rounds as its paper states it, in Python's integers."""
    operands = numpy.broadcast_arrays(key0, key1, count0, count1)
    words = numpy.zeros((2, *operands[0].shape), numpy.uint32)
    for index in numpy.ndindex(operands[0].shape):
        k0, k1, x0, x1 = (int(x[index]) for x in operands)
        schedule = [k0, k1, 0x1BD11BDA ^ k0 ^ k1]
        x0, x1 = (x0 + k0) % 2**32, (x1 + k1) % 2**32
        for round_ in range(20):
            turn = (13, 15, 26, 6, 17, 29, 16, 24)[round_ % 8]
            x0 = (x0 + x1) % 2**32
            x1 = (x1 << turn | x1 >> 32 - turn) % 2**32 ^ x0
            if round_ % 4 == 3:
                injection = round_ // 4 + 1
                x0 = (x0 + schedule[injection % 3]) % 2**32
                x1 = (x1 + schedule[(injection + 1) % 3] + injection) % 2**32
        words[(0, *index)], words[(1, *index)] = x0, x1
    return list(words)


SPECIAL = [
    elementwise_case(bessel_i0e, scipy.special.i0e, NONZERO, accepts=FLOATS),
    elementwise_case(bessel_i1e, scipy.special.i1e, NONZERO, accepts=FLOATS),
    elementwise_case(gcd, numpy.gcd, Domain(-30, 30), Domain(-30, 30), accepts=INTEGERS),
    Case(threefry2x32, elementwise_examples([Domain(0, 2.0**32 - 1)] * 4, [dtypes.uint32]), threefry_reference),
    # Differentiable in x alone: the order is a whole number.
    Case(e.polygamma, polygamma_examples(), scipy.special.polygamma, wrt=(1,), modes=MODES),
]

ELEMENTWISE = [*ARITHMETIC, *ROUNDING, *FUNCTIONS, *COMPARISONS, *BITS, *OTHERS, *SPECIAL]
