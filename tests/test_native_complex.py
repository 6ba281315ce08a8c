"""Elementwise primitives of complex numbers as native code: near NumPy's results, and special where those are.

Where NumPy has lost digits, results are compared with those of mpmath.
"""

import mpmath
import numpy
import pytest
from native_functions import native

from funcgrad import dtypes
from funcgrad.compiler.complex_numbers import Complex
from funcgrad.compiler.lower_complex import RULES, lower
from funcgrad.primitives import elementwise

OF_TWO = ("add", "sub", "mul", "div", "max", "min", "eq", "ne", "lt", "le", "gt", "ge")
# complex64 and complex128, in units of the rounding error of 1, relative to the size of the result
LARGEST_ERROR = {"logistic": 100, "integer_pow": 6} | dict.fromkeys(["sinh", "cosh", "tanh", "sin", "cos", "tan"], 5)
INVERSE = ("asin", "acos", "atan", "asinh", "acosh", "atanh")
EXACT = {"exp2": lambda z: mpmath.power(2, z), "expm1": mpmath.expm1, "log1p": lambda z: mpmath.log(1 + z)}
"""Functions that NumPy computes from others, whose rounding errors may be all that is left."""
OTHERS = ("convert", "convert_weak", "complex", "select", "pow", *EXACT)
"""What is not compared with NumPy number by number."""

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
@pytest.mark.parametrize(
    "primitive", [x for x in RULES if x.name not in (*OTHERS, *EXACT, "pow")], ids=lambda x: x.name
)
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


def numbers_near_one(generator, count):
    """Numbers of all sizes, and such that are close to 0, 1, -1, i, the circle around 0, and that around -1."""
    close = 10 ** generator.uniform(-15, 0, (2, count)) * generator.choice([-1, 1], (2, count))
    sign, turn = generator.choice([-1, 1], count), numpy.exp(1j * generator.uniform(-4, 4, count))
    close = close[0] + 1j * close[1]
    usual = (generator.standard_normal((2, count)) * 10 ** generator.uniform(-9, 2, (2, count))).T.copy()
    return numpy.concatenate(
        [usual.view(complex)[:, 0], close, close + sign, close + 1j, turn + close, turn - 1 + close]
    )


@pytest.mark.parametrize("dtype", dtypes.COMPLEX, ids=str)
@pytest.mark.parametrize("name", [*EXACT, *INVERSE])
def test_exactly(name, dtype, generator):
    z = numbers_near_one(generator, 40).astype(dtype)
    found = native_complex(getattr(elementwise, name), [z])
    function = EXACT.get(name) or getattr(mpmath, name)
    unit = float(numpy.finfo(dtype).eps)
    with mpmath.workprec(200):
        for x, y in zip(z, found, strict=True):
            exact = function(mpmath.mpc(complex(x)))
            if abs(exact) < numpy.finfo(dtype).max:
                assert abs(mpmath.mpc(complex(y)) - exact) <= 2.5 * unit * abs(exact), (x, y)


SPECIAL = {
    "exp2": numpy.exp2,
    "expm1": lambda z: numpy.exp(z) - 1,
    "log1p": lambda z: numpy.log(1 + z),
}


@pytest.mark.parametrize("name", SPECIAL)
def test_special_numbers_of_composed_functions(name, generator):
    z = numbers(dtypes.complex128, generator)
    z = z[~numpy.isfinite(z)]
    found, expected = native_complex(getattr(elementwise, name), [z]), SPECIAL[name](z)
    for part in ("real", "imag"):
        numpy.testing.assert_array_equal(kind_of(getattr(found, part)), kind_of(getattr(expected, part)))


@pytest.mark.parametrize("name", INVERSE)
def test_sides_of_cuts(name):
    """The sign of a zero says on which side of a cut a number is."""
    parts = numpy.array([0.0, -0.0, 0.5, -0.5, 1, -1, 2, -2, 1e200, -1e200, numpy.inf, -numpy.inf])
    z = numpy.array(numpy.meshgrid(parts, parts)).reshape(2, -1).T.copy().view(complex)[:, 0]
    primitive = getattr(elementwise, name)
    found, expected = native_complex(primitive, [z]), primitive.evaluate(z)
    for part in ("real", "imag"):
        x, y = getattr(found, part), getattr(expected, part)
        numpy.testing.assert_allclose(x, y, rtol=1e-15)
        numpy.testing.assert_array_equal(numpy.signbit(x), numpy.signbit(y))


@pytest.mark.parametrize("dtype", dtypes.COMPLEX, ids=str)
def test_powers(dtype, generator):
    x, y = (generator.standard_normal((400, 2)).view(complex)[:, 0] for _ in range(2))
    y[::2] = generator.integers(-30, 30, 200)
    x, y = x.astype(dtype), (y * 10 ** generator.uniform(-2, 1, 400)).astype(dtype)
    y[::2] = numpy.rint(y[::2])
    found = native_complex(elementwise.pow_, [x, y])
    with mpmath.workprec(200):
        for a, b, z in zip(x, y, found, strict=True):
            logarithm = mpmath.log(mpmath.mpc(complex(a))) * mpmath.mpc(complex(b))
            exact = mpmath.exp(logarithm)
            if 1e-30 < abs(exact) < 1e30:
                units = 1 if dtype == dtypes.complex64 else 2 + abs(logarithm) + abs(b)
                assert abs(mpmath.mpc(complex(z)) - exact) <= units * float(numpy.finfo(dtype).eps) * abs(exact), (a, b)


def test_special_powers():
    parts = numpy.array([0.0, -0.0, 1, -1, 0.5, 2, 3, 1e30])
    planes = numpy.array(numpy.meshgrid(*[parts] * 4)).reshape(4, -1).T.copy()
    x, y = planes.view(complex).T
    found, expected = native_complex(elementwise.pow_, [x, y]), elementwise.pow_.evaluate(x, y)
    missing, endless = numpy.isnan(expected), numpy.isinf(expected)
    numpy.testing.assert_array_equal(numpy.isnan(found), missing)
    numpy.testing.assert_array_equal(numpy.isinf(found), endless & ~missing)
    rest = ~(missing | endless)
    numpy.testing.assert_allclose(found[rest], expected[rest], rtol=1e-12)
    infinite = numpy.array([numpy.inf + 1j, 2 - 1j * numpy.inf])
    ones, zeros = numpy.ones(2, complex), numpy.zeros(2, complex)
    numpy.testing.assert_array_equal(native_complex(elementwise.pow_, [infinite, ones]), infinite)
    numpy.testing.assert_array_equal(native_complex(elementwise.pow_, [infinite, zeros]), ones)


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
