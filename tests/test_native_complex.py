"""Elementwise primitives of complex numbers as native code: near NumPy's results, and special where those are."""

import numpy
import pytest
from native_functions import native

from funcgrad import dtypes
from funcgrad.compiler.lower_complex import RULES, Complex, lower, supports
from funcgrad.primitives import elementwise

OF_TWO = ("add", "sub", "mul", "div", "max", "min", "eq", "ne", "lt", "le", "gt", "ge")
# complex64 and complex128, in units of the rounding error of 1, relative to the size of the result
LARGEST_ERROR = {"logistic": 100, "integer_pow": 6} | dict.fromkeys(["sinh", "cosh", "tanh", "sin", "cos", "tan"], 5)
OTHERS = ("convert", "convert_weak", "complex", "select")

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, of NaN and overflow


def numbers(dtype, generator):
    """All pairs of special parts, and numbers around 1."""
    part = dtypes.real_of(dtype)
    special = numpy.array([0, -0.0, 1, -1, 0.5, 2, numpy.inf, -numpy.inf, numpy.nan, 1e30, 1e-30, 100, -100, 3], part)
    parts = numpy.array(numpy.meshgrid(special, special)).reshape(2, -1)
    usual = generator.standard_normal((2, 3000)) * 10 ** generator.uniform(-2, 2, (2, 3000))
    near_circle = numpy.array([numpy.cos(x := generator.uniform(-4, 4, 300)), numpy.sin(x)])
    parts = numpy.concatenate([parts, usual.astype(part), near_circle.astype(part)], axis=1)
    return generator.permutation(parts.T.copy().view(dtype)[:, 0])


def native_complex(primitive, arrays, params=None):
    """The result of a primitive for arrays, of which the complex ones go in and come out as two real ones."""
    planes = []
    for x in arrays:
        planes += [x.real.copy(), x.imag.copy()] if x.dtype.kind == "c" else [x]

    def function(*elements):
        rest = iter(elements)
        operands = [Complex(next(rest), next(rest)) if x.dtype.kind == "c" else next(rest) for x in arrays]
        result = lower(primitive, operands, params or {})
        return (result.real, result.imaginary) if isinstance(result, Complex) else result

    result = native(function, [x.dtype for x in planes])(*planes)
    if not isinstance(result, tuple):
        return result
    made = numpy.empty(result[0].shape, dtypes.complex_of(result[0].dtype))
    made.real, made.imag = result
    return made


def kind_of(x):
    """0 for finite numbers, others for infinities and NaN."""
    return numpy.where(numpy.isnan(x), 3, numpy.where(numpy.isinf(x), numpy.sign(x), 0))


@pytest.fixture
def generator():
    return numpy.random.default_rng(8)


@pytest.mark.parametrize("dtype", dtypes.COMPLEX, ids=str)
@pytest.mark.parametrize("primitive", [x for x in RULES if x.name not in OTHERS], ids=lambda x: x.name)
def test_as_numpy(primitive, dtype, generator):
    arrays = [numbers(dtype, generator) for _ in range(2 if primitive.name in OF_TWO else 1)]
    for params in [{"exponent": n} for n in (0, 2, 5, -1)] if primitive.name == "integer_pow" else [{}]:
        found = native_complex(primitive, arrays, params)
        expected = primitive.evaluate(*arrays, **params)
        assert found.dtype == expected.dtype
        if expected.dtype.kind == "b":
            numpy.testing.assert_array_equal(found, expected)
            continue
        exact = primitive.evaluate(*[x.astype(dtypes.complex128) for x in arrays], **params)
        unit = float(numpy.finfo(dtype).eps)
        least = float(numpy.finfo(dtype).tiny)
        finite = numpy.isfinite(expected) & numpy.isfinite(exact)
        if primitive.name == "logistic":  # 1 + exp(-z) may overflow, and near the poles it has lost its digits
            finite &= (abs(exact) < 10) & (abs(exact) > 1e-30)
        error = abs(found.astype(exact.dtype) - exact)[finite] / (abs(exact)[finite] + least) / unit
        assert error.max() <= LARGEST_ERROR.get(primitive.name, 3)
        if primitive.name != "integer_pow":  # NumPy's products of infinities depend on the length of its vectors
            for part in ("real", "imag"):
                numpy.testing.assert_array_equal(
                    kind_of(getattr(found, part)[~finite]), kind_of(getattr(expected, part)[~finite])
                )


def test_logarithms_on_the_circle():
    """log|z| of the smallest steps away from |z| = 1."""
    z = numpy.array([1 + 1e-9j, 1 + 1e-12j, 0.6 + 0.8j, 1 - 2.0**-53 + 1e-9j])
    found = native_complex(elementwise.log, [z]).real
    # of 0.6 + 0.8 i as they are in float64, and others by their series
    numpy.testing.assert_allclose(found[:2], [0.5e-18, 0.5e-24], rtol=1e-15)
    numpy.testing.assert_allclose(found[3], -(2.0**-53) + 0.5e-18, rtol=1e-14)
    assert abs(found[2]) < 1e-16


def test_between_real_and_complex(generator):
    x, y = generator.standard_normal((2, 100))
    numpy.testing.assert_array_equal(native_complex(elementwise.complex_, [x, y]), x + 1j * y)
    short = [v.astype(dtypes.float16) for v in (x, y)]
    assert native_complex(elementwise.complex_, short).dtype == dtypes.complex64
    wide = native_complex(elementwise.convert, [x.astype(dtypes.float32)], {"dtype": dtypes.complex128})
    numpy.testing.assert_array_equal(wide, x.astype(dtypes.float32).astype(dtypes.complex128))
    whole = native_complex(elementwise.convert, [numpy.arange(100)], {"dtype": dtypes.complex64})
    numpy.testing.assert_array_equal(whole, numpy.arange(100))
    narrow = native_complex(elementwise.convert, [x + 1j * y], {"dtype": dtypes.complex64})
    numpy.testing.assert_array_equal(narrow, (x + 1j * y).astype(dtypes.complex64))
    chosen = native_complex(elementwise.select, [x > 0, x + 1j * y, y + 1j * x])
    numpy.testing.assert_array_equal(chosen, numpy.where(x > 0, x + 1j * y, y + 1j * x))


def test_what_has_no_rule():
    assert not supports(elementwise.asin, [dtypes.complex64], {})
    assert supports(elementwise.asin, [dtypes.float32], {})
