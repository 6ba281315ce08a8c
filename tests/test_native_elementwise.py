"""Elementwise primitives as native code give what their `evaluate` rules give, bit for bit."""

import platform

import ml_dtypes
import numpy
import pytest
from native_functions import native

from funcgrad import dtypes
from funcgrad.array import AbstractArray
from funcgrad.compiler.expressions import computing_dtype
from funcgrad.compiler.lower_elementwise import RULES, lower, supports
from funcgrad.compiler.target import host_target
from funcgrad.errors import FuncgradError
from funcgrad.primitives import elementwise

COUNT = 3001
REAL = [x for x in dtypes.ALL if x.kind != "c"]
# Functions with a rounding error of their own are in test_native_mathematics.py.
APPROXIMATE = (
    *("exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "logistic", "sinh", "cosh", "tanh"),
    *("asinh", "acosh", "atanh", "cbrt", "sin", "cos", "tan", "asin", "acos", "atan", "atan2"),
    *("erf", "erfc", "erf_inv", "lgamma", "digamma", "polygamma", "bessel_i0e", "bessel_i1e"),
)
OF_TWO = (
    *("add", "sub", "mul", "div", "rem", "max", "min", "pow", "nextafter", "eq", "ne", "lt", "le", "gt", "ge"),
    *("and", "or", "xor", "shift_left", "shift_right_logical", "shift_right_arithmetic", "gcd"),
)
OPERANDS = {"select": 3, "threefry2x32": 4} | dict.fromkeys(OF_TWO, 2)
EXACT = [x for x in RULES if x.name not in (*APPROXIMATE, "convert", "convert_weak")]

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, of NaN and overflow


def numbers(dtype, generator, count=COUNT):
    """Random bits, small numbers and special ones."""
    if dtype.kind == "b":
        return generator.integers(0, 2, count).astype(bool)
    if dtype.kind in "iu":
        limits = numpy.iinfo(dtype)
        x = generator.integers(limits.min, limits.max, count, dtype, endpoint=True)
        x[::2] = generator.integers(-9 if dtype.kind == "i" else 0, 70, x[::2].size)
        special = [limits.min, limits.max, 0, 1] + ([-1] if dtype.kind == "i" else [])
        x[generator.integers(0, count, count // 4)] = generator.choice(numpy.array(special, dtype), count // 4)
        return x
    x = generator.integers(0, 2 ** (8 * dtype.itemsize) - 1, count, f"u{dtype.itemsize}", endpoint=True).view(dtype)
    x[::2] = (10 * generator.standard_normal(x[::2].size)).astype(dtype)
    limits = ml_dtypes.finfo(dtype)
    special = [0.0, -0.0, 1.0, -1.0, 0.5, 2.5, -3.5, 100.0, limits.max, -limits.max, limits.tiny, -limits.tiny]
    special += [limits.smallest_subnormal, -limits.smallest_subnormal, numpy.inf, -numpy.inf, numpy.nan]
    x[generator.integers(0, count, count // 2)] = generator.choice(numpy.array(special, dtype), count // 2)
    return x


def bits(x):
    """The bits, with one pattern for all that is NaN."""
    if x.dtype.kind in "biu":
        return x
    x = x.copy()
    x[x != x] = numpy.array(numpy.nan).astype(x.dtype)
    return x.view(f"u{x.dtype.itemsize}")


def run(primitive, arrays, params=None, target=None):
    params = params or {}
    found = native(lambda *xs: lower(primitive, xs, params), [x.dtype for x in arrays], target)(*arrays)
    return found, primitive.evaluate(*arrays, **params)


def operands(primitive, dtype, generator):
    arrays = [numbers(dtype, generator) for _ in range(OPERANDS.get(primitive.name, 1))]
    if primitive is elementwise.select:
        arrays[0] = numbers(dtypes.bool_, generator)
    if primitive.name == "pow" and dtype == dtypes.float16:
        arrays = [numpy.nan_to_num(x) for x in arrays]  # NumPy's float16 has another nan**0 and 1**nan than its float32
    return arrays


def is_accepted(primitive, arrays, params):
    try:
        primitive.abstract(*[AbstractArray(x.shape, x.dtype) for x in arrays], **params)
    except FuncgradError:
        return False
    return supports(primitive, [x.dtype for x in arrays], params)


@pytest.fixture
def generator():
    return numpy.random.default_rng(4)


@pytest.mark.parametrize("dtype", REAL, ids=str)
@pytest.mark.parametrize("primitive", EXACT, ids=lambda x: x.name)
def test_as_numpy(primitive, dtype, generator):
    arrays = operands(primitive, dtype, generator)
    for params in [{"exponent": n} for n in (0, 1, 2, 3, 7, -1, -2)] if primitive.name == "integer_pow" else [{}]:
        if not is_accepted(primitive, arrays, params):
            continue
        found, expected = run(primitive, arrays, params)
        short = computing_dtype(dtype) is not dtype
        if short and primitive.name in ("integer_pow", "rsqrt", "pow"):
            close(found, expected)  # rounded once at the end, while NumPy rounds each step
        elif primitive.name == "pow" and dtype.kind == "f":
            numpy.testing.assert_allclose(found, expected, rtol=4 * numpy.finfo(dtype).eps, atol=0)
        elif primitive.name in ("min", "max", "sign"):  # which zero is the smaller one is left open
            assert ((found == expected) | (found != found) & (expected != expected)).all()
        elif primitive.multiple_results:
            numpy.testing.assert_array_equal(found, expected)
        else:
            assert found.dtype == expected.dtype
            numpy.testing.assert_array_equal(bits(found), bits(expected))


def close(found, expected):
    """Within two steps of a short float, or beyond the range of both."""
    dtype = found.dtype
    limits = ml_dtypes.finfo(dtype)
    found, expected = found.astype(float), expected.astype(float)
    usual = (
        numpy.isfinite(expected) & (abs(expected) > 4 * float(limits.tiny)) & (abs(expected) < float(limits.max) / 2)
    )
    numpy.testing.assert_allclose(found[usual], expected[usual], rtol=8 * float(limits.eps), atol=0)
    numpy.testing.assert_array_equal(numpy.isnan(found), numpy.isnan(expected))


@pytest.mark.parametrize("after", REAL, ids=str)
@pytest.mark.parametrize("before", REAL, ids=str)
def test_conversions(before, after, generator):
    x = numbers(before, generator)
    if before.kind not in "biu" and after.kind in "iu":
        # Beyond its range, C leaves the result open. Of signed numbers, x86 gives the least one.
        wide, limits = x.astype(float), numpy.iinfo(after)
        inside = (wide > limits.min - 1) & (wide < limits.max + 1 if after.itemsize < 8 else wide < float(limits.max))
        if after.kind == "u" or after.itemsize < 4 or platform.machine() not in ("x86_64", "AMD64"):
            x = x[inside]
    found, expected = run(elementwise.convert, [x], {"dtype": after})
    if before == dtypes.float64 and after == dtypes.bfloat16:
        expected = rounded_once(x)
    assert found.dtype == expected.dtype
    numpy.testing.assert_array_equal(bits(found), bits(expected))


def rounded_once(x):
    """float64 as bfloat16, rounded once: half way between float32 numbers goes where the rest of the bits points."""
    near = x.astype(numpy.float32)
    towards = numpy.where(abs(near.astype(float)) > abs(x), numpy.nextafter(near, numpy.float32(0)), near)
    odd = towards.view(numpy.uint32) | (towards.astype(float) != x)
    odd = numpy.where(numpy.isfinite(x), odd, near.view(numpy.uint32))
    return odd.astype(numpy.uint32).view(numpy.float32).astype(ml_dtypes.bfloat16)


def test_float64_is_rounded_once_to_short_floats():
    # just above the middle between two short floats; as float32 it would be the middle, and go to the even one
    for dtype, digits in ((dtypes.bfloat16, 8), (dtypes.float16, 11)):
        x = numpy.array([1 + 2.0**-digits + 2.0**-40, 1 + 2.0**-digits - 2.0**-40, 1 + 2.0**-digits])
        found = native(lambda v, dtype=dtype: lower(elementwise.convert, [v], {"dtype": dtype}), [dtypes.float64])(x)
        step = 2.0 ** (1 - digits)
        numpy.testing.assert_array_equal(found.astype(float), [1 + step, 1, 1])


@pytest.mark.parametrize("dtype", [dtypes.float32, dtypes.float64], ids=str)
def test_remainders_over_the_whole_range(dtype, generator):
    x, y = (numbers(dtype, generator, 1 << 16) for _ in range(2))
    found, expected = run(elementwise.rem, [x, y])
    numpy.testing.assert_array_equal(bits(found), bits(expected))


@pytest.mark.parametrize("bits_of_vectors", [256, 128, 0])
@pytest.mark.parametrize("name", ["add", "div", "rem", "shift_left", "nextafter", "sign", "max"])
def test_at_other_widths(name, bits_of_vectors, generator):
    target = host_target().without_vectors_above(bits_of_vectors)
    primitive = next(x for x in RULES if x.name == name)
    for dtype in (dtypes.int8, dtypes.uint32, dtypes.int64, dtypes.float32, dtypes.float64, dtypes.bfloat16):
        arrays = operands(primitive, dtype, generator)
        if is_accepted(primitive, arrays, {}):
            found, expected = run(primitive, arrays, target=target)
            assert ((found == expected) | (found != found) & (expected != expected)).all()


def test_what_has_no_rule():
    assert not supports(elementwise.conj, [dtypes.float32], {})
    assert not supports(elementwise.add, [dtypes.complex64] * 2, {})
    assert not supports(elementwise.convert, [dtypes.float32], {"dtype": dtypes.complex64})
    assert lower(elementwise.conj, [], {}) is None
    assert computing_dtype(dtypes.bfloat16) == dtypes.float32
