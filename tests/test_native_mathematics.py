"""How exact the native functions are, in units in the last place (ulp), and what they give for special numbers.

`LARGEST_ERRORS` is the table of errors. Of functions of one float32 a million numbers are tried, or all of them:

    FUNCGRAD_EVERY_FLOAT32=1 pytest tests/test_native_mathematics.py -k every
"""

import os
from functools import cache

import mpmath
import numpy
import pytest
import scipy.special
from native_functions import native

from funcgrad.compiler import mathematics, special_functions, trigonometry
from funcgrad.compiler.expressions import constant
from funcgrad.compiler.target import host_target

# The largest error of float32 and of float64, rounded up. Those of lgamma and digamma in float64 hold for positive
# numbers: see test_functions_that_reflect.
LARGEST_ERRORS = {
    "exp": (1.1, 1.1),
    "exp2": (1.1, 1.1),
    "expm1": (1.6, 1.9),
    "log": (0.91, 0.9),
    "log2": (1.1, 1.1),
    "log10": (1.0, 1.0),
    "log1p": (1.6, 1.5),
    "logistic": (2.41, 2.4),
    "sinh": (2.4, 2.5),
    "cosh": (1.6, 1.6),
    "tanh": (2.6, 2.7),
    "asinh": (1.9, 1.8),
    "acosh": (2.1, 2.1),
    "atanh": (2.2, 2.1),
    "cbrt": (0.9, 0.9),
    "rsqrt": (1.5, 1.5),
    "sin": (2.0, 2.0),
    "cos": (2.0, 2.0),
    "tan": (1.3, 2.9),
    "asin": (2.2, 2.1),
    "acos": (1.3, 1.3),
    "atan": (2.0, 2.0),
    "erf": (1.2, 1.2),
    "erfc": (3.5, 2.5),
    "erf_inv": (3.1, 2.3),
    "lgamma": (0.6, 2.6),
    "digamma": (0.6, 2.6),
    "bessel_i0e": (0.6, 2.6),
    "bessel_i1e": (0.6, 3.4),
    "atan2": (2.0, 2.0),
    "pow_": (0.6, 1.4),
}
OF_ONE = [name for name in LARGEST_ERRORS if name not in ("atan2", "pow_")]
FLOAT32, FLOAT64 = numpy.dtype("float32"), numpy.dtype("float64")


def function_named(name):
    return next(getattr(x, name) for x in (mathematics, trigonometry, special_functions) if name in vars(x))


@cache
def compiled(name, dtype, bits=None):
    target = host_target() if bits is None else host_target().without_vectors_above(bits)
    return native(function_named(name), [dtype] * (1 if name in OF_ONE else 2), target)


# What is right: in float64 for float32, by mpmath for float64


def _logistic(x):
    e = numpy.exp(-abs(x))
    return numpy.where(x < 0, e, 1) / (1 + e)


IN_FLOAT64 = {
    "logistic": _logistic,
    "rsqrt": lambda x: 1 / numpy.sqrt(x),
    "asinh": numpy.arcsinh,
    "acosh": numpy.arccosh,
    "atanh": numpy.arctanh,
    "asin": numpy.arcsin,
    "acos": numpy.arccos,
    "atan": numpy.arctan,
    "atan2": numpy.arctan2,
    "pow_": numpy.power,
    "erf": scipy.special.erf,
    "erfc": scipy.special.erfc,
    "erf_inv": scipy.special.erfinv,
    "lgamma": scipy.special.gammaln,
    "digamma": scipy.special.psi,
    "bessel_i0e": scipy.special.i0e,
    "bessel_i1e": scipy.special.i1e,
}


def _log_gamma(x):
    return mpmath.log(abs(mpmath.gamma(x))) if x < 100 else mpmath.loggamma(x)


BY_MPMATH = {
    "exp2": lambda x: mpmath.power(2, x),
    "log2": lambda x: mpmath.log(x, 2) if x > 0 else mpmath.nan,
    "log": lambda x: mpmath.log(x) if x > 0 else mpmath.nan,
    "log10": lambda x: mpmath.log10(x) if x > 0 else mpmath.nan,
    "log1p": lambda x: mpmath.log1p(x) if x > -1 else mpmath.nan,
    "logistic": lambda x: 1 / (1 + mpmath.exp(-x)),
    "cbrt": lambda x: mpmath.sign(x) * mpmath.cbrt(abs(x)),
    "rsqrt": lambda x: 1 / mpmath.sqrt(x) if x > 0 else mpmath.nan,
    "acosh": lambda x: mpmath.acosh(x) if x >= 1 else mpmath.nan,
    "atanh": lambda x: mpmath.atanh(x) if abs(x) < 1 else mpmath.nan,
    "asin": lambda x: mpmath.asin(x) if abs(x) <= 1 else mpmath.nan,
    "acos": lambda x: mpmath.acos(x) if abs(x) <= 1 else mpmath.nan,
    "erf_inv": lambda x: mpmath.erfinv(x) if abs(x) < 1 else mpmath.nan,
    "lgamma": lambda x: _log_gamma(x) if x > 0 else mpmath.nan,
    "digamma": lambda x: mpmath.digamma(x) if x > 0 else mpmath.nan,
    "bessel_i0e": lambda x: mpmath.besseli(0, x) * mpmath.exp(-abs(x)),
    "bessel_i1e": lambda x: mpmath.besseli(1, x) * mpmath.exp(-abs(x)),
    "pow_": lambda x, y: mpmath.power(x, y) if x > 0 else mpmath.nan,
}

# Where the numbers of float64 are taken from, besides those around 1
WHERE = {
    "exp": (-750, 712),
    "exp2": (-1080, 1026),
    "expm1": (-40, 712),
    "logistic": (-750, 40),
    "sinh": (-712, 712),
    "cosh": (-712, 712),
    "tanh": (-22, 22),
    "acosh": (1, 100),
    "erf": (-6, 6),
    "erfc": (-6, 27.4),
    "asin": (-1, 1),
    "acos": (-1, 1),
    "atanh": (-1, 1),
    "erf_inv": (-1, 1),
    "lgamma": (0, 30),
    "digamma": (0, 30),
}
HUGE = ["log", "log2", "log10", "log1p", "asinh", "cbrt", "rsqrt", "sin", "cos", "tan", "atan", "erf"]


def reference(name, *arrays):
    """The function of float32 arrays, in float64."""
    function = IN_FLOAT64.get(name) or getattr(numpy, name)
    with numpy.errstate(all="ignore"):
        return function(*[x.astype(FLOAT64) for x in arrays])


def errors(found, exact):
    """The errors in ulp; infinite for what is wrong about infinities, NaN and signs of zero.

    Arguments:
        found: float32 or float64.
        exact: the same in a wider dtype.
    """
    dtype, largest = found.dtype, numpy.finfo(found.dtype).max
    with numpy.errstate(all="ignore"):
        nearest = exact.astype(dtype)
        unit = numpy.spacing(numpy.where(numpy.isfinite(nearest), abs(nearest), largest)).astype(exact.dtype)
        error = abs(found.astype(exact.dtype) - exact) / unit
        # the largest number and infinity are neighbours
        overflows = abs(exact) > exact.dtype.type(largest) * (1 - 8 * numpy.finfo(dtype).eps)
    special = ~(numpy.isfinite(found) & numpy.isfinite(nearest))
    same = (found == nearest) | (numpy.isnan(found) & numpy.isnan(nearest)) | overflows & (abs(found) >= largest)
    error[special] = numpy.where(same, 0, numpy.inf)[special]
    error[(found == 0) & (nearest == 0) & (numpy.signbit(found) != numpy.signbit(nearest))] = numpy.inf
    return error


def check(name, found, exact, limit, *arrays):
    error = errors(found, exact)
    worst = error.argmax()
    arguments = ", ".join(repr(x[worst]) for x in arrays)
    assert error[worst] <= limit, f"{name}({arguments}) is {exact[worst]!r}, not {found[worst]!r}: {error[worst]} ulp"


def special_numbers(dtype):
    limits = numpy.finfo(dtype)
    least, tiny, largest = limits.smallest_subnormal, limits.tiny, limits.max
    positive = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 10.0, 100.0, least, 3 * least, tiny, tiny - least, 2 * tiny, largest]
    positive += [numpy.inf, 1 + limits.eps, 1 - limits.epsneg, numpy.pi / 2, 88.8, 103.9, 709.8, 745.2, 1e5, 1e22]
    both = numpy.array(positive, dtype)
    return numpy.concatenate([both, -both, [numpy.array(numpy.nan, dtype)]])


def float32_sample(count, generator):
    """Numbers with random bits, and as many around 1."""
    bits = generator.integers(0, 2**32, count // 2, numpy.uint32).view(FLOAT32)
    scale = 10 ** generator.uniform(-3, 3, count - count // 2)
    normal = (generator.standard_normal(scale.size) * scale).astype(FLOAT32)
    return numpy.concatenate([special_numbers(FLOAT32), bits, normal])


@pytest.fixture
def generator():
    return numpy.random.default_rng(20)


def scipy_differs(name, x):
    """Where the references themselves are off: signs of zero, and the smallest numbers."""
    if name in ("bessel_i1e", "erf_inv", "lgamma"):
        return (x == 0) | (abs(x) < numpy.finfo(FLOAT32).tiny)
    return numpy.zeros(x.shape, bool)


@pytest.mark.parametrize("name", OF_ONE)
def test_float32_of_one(name, generator):
    x = float32_sample(1 << 18, generator)
    x = x[~scipy_differs(name, x)]
    check(name, compiled(name, FLOAT32)(x), reference(name, x), LARGEST_ERRORS[name][0], x)


@pytest.mark.parametrize("name", OF_ONE)
@pytest.mark.skipif("FUNCGRAD_EVERY_FLOAT32" not in os.environ, reason="takes minutes a function")
def test_every_float32(name):
    block = 1 << 22
    for start in range(0, 1 << 32, block):
        x = numpy.arange(start, start + block, dtype=numpy.uint32).view(FLOAT32)
        x = x[~scipy_differs(name, x)]
        if x.size:
            check(name, compiled(name, FLOAT32)(x), reference(name, x), LARGEST_ERRORS[name][0], x)


def exactly(name, *arrays):
    """The function of float64 arrays, as long doubles if those are longer than doubles."""
    function = BY_MPMATH.get(name) or getattr(mpmath, name)
    with mpmath.workdps(40):
        values = [function(*map(mpmath.mpf, map(float, row))) for row in zip(*arrays, strict=True)]
        if numpy.finfo(numpy.longdouble).nmant > 52:
            return numpy.array([numpy.longdouble(mpmath.nstr(x, 25)) for x in values])
        return numpy.array([float(x) for x in values])


def mpmath_numbers(name, generator, count):
    x = [generator.uniform(*WHERE.get(name, (-30, 30)), count), generator.standard_normal(count)]
    if name in HUGE:
        x.append(generator.choice([-1, 1], count) * 10 ** generator.uniform(-300, 300, count))
    x = numpy.concatenate(x)
    if name in ("asin", "acos", "atanh", "erf_inv"):
        x = numpy.concatenate([x, numpy.copysign(1 - 10 ** generator.uniform(-15, 0, count), x[:count])])
    return abs(x) if name in ("lgamma", "digamma") else x


@pytest.mark.parametrize("name", OF_ONE)
def test_float64_of_one(name, generator):
    x = mpmath_numbers(name, generator, 100)
    exact = exactly(name, x)
    found = compiled(name, FLOAT64)(x)
    inside = ~numpy.isnan(exact)
    # where long doubles are no longer than doubles, the reference is rounded
    slack = 0 if numpy.finfo(numpy.longdouble).nmant > 52 else 0.5
    check(name, found[inside], exact[inside], LARGEST_ERRORS[name][1] + slack, x[inside])


@pytest.mark.parametrize("name", [name for name in OF_ONE if name not in ("lgamma", "digamma")])
def test_float64_special_numbers(name):
    # NumPy and SciPy are not exact, but know what is special.
    x = special_numbers(FLOAT64)
    x = x[~scipy_differs(name, x)]
    check(name, compiled(name, FLOAT64)(x), reference(name, x).astype(numpy.longdouble), 10, x)


@pytest.mark.parametrize("name", ["lgamma", "digamma"])
def test_functions_that_reflect(name, generator):
    """Of negative numbers, they are differences, which are exact to an ulp of what is subtracted; so are SciPy's."""
    x = generator.uniform(-20, 0, 2000)
    found, expected = compiled(name, FLOAT64)(x), reference(name, x)
    numpy.testing.assert_allclose(found, expected, rtol=1e-12, atol=5e-14)
    special = numpy.array([0.0, -0.0, -1.0, -2.0, -1e300, numpy.inf, -numpy.inf, numpy.nan])
    numpy.testing.assert_array_equal(compiled(name, FLOAT64)(special), reference(name, special))


def test_sine_of_the_hardest_numbers():
    """Doubles that are closest to a multiple of pi / 2 (Muller, "Elementary Functions", section 11.2)."""
    x = numpy.array([6381956970095103 * 2.0**797, 5.319372648326541e255, -(6381956970095103 * 2.0**797), 2.0**1023])
    for name in ("sin", "cos", "tan"):
        check(name, compiled(name, FLOAT64)(x), exactly_big(name, x), LARGEST_ERRORS[name][1], x)


def exactly_big(name, x):
    with mpmath.workdps(400):
        values = [getattr(mpmath, name)(mpmath.mpf(float(v))) for v in x]
        return numpy.array([numpy.longdouble(mpmath.nstr(v, 25)) for v in values])


@pytest.mark.parametrize("name", ["atan2", "pow_"])
@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64])
def test_special_pairs(name, dtype):
    special = special_numbers(dtype)
    x, y = (v.ravel() for v in numpy.meshgrid(special, special))
    exact = reference(name, x, y)
    check(name, compiled(name, dtype)(x, y), exact.astype(numpy.longdouble), 4, x, y)


@pytest.mark.parametrize("name", ["atan2", "pow_"])
def test_float32_pairs(name, generator):
    x, y = float32_sample(1 << 18, generator), float32_sample(1 << 18, generator)
    generator.shuffle(y)
    if name == "pow_":
        with numpy.errstate(all="ignore"):
            y[::2] = generator.uniform(-90, 90, y[::2].size) / numpy.log(abs(x[::2]))
        y[::8] = numpy.rint(y[::8])
    check(name, compiled(name, FLOAT32)(x, y), reference(name, x, y), LARGEST_ERRORS[name][0], x, y)


@pytest.mark.parametrize("name", ["atan2", "pow_"])
def test_float64_pairs(name, generator):
    x, y = (generator.standard_normal(400) * 10 ** generator.uniform(-4, 4, 400) for _ in range(2))
    if name == "pow_":
        x = abs(x)
        y = generator.uniform(-740, 709, y.size) / numpy.log(x)
    check(name, compiled(name, FLOAT64)(x, y), exactly(name, x, y), LARGEST_ERRORS[name][1] + 0.1, x, y)


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64])
@pytest.mark.parametrize("name", ["exp", "log", "sin", "tanh", "erf", "cbrt", "pow_"])
def test_the_same_bits_at_any_width(name, dtype, generator):
    count = 1003 if name in OF_ONE else 1001
    sample = float32_sample(2 * count, generator)
    sample = numpy.concatenate([sample[numpy.isfinite(sample)], special_numbers(FLOAT32)]).astype(dtype)
    arrays = [generator.permutation(sample) for _ in range(1 if name in OF_ONE else 2)]
    results = [compiled(name, dtype, bits)(*arrays) for bits in (512, 256, 128, 0)]
    for other in results[1:]:
        numpy.testing.assert_array_equal(results[0], other)


# Of polygamma, the order is the first operand: a number known when code is written, or one of many.


def exact_polygamma(n, x):
    """By the sum, of which the terms from 60 on are summed by the formula of Euler and Maclaurin."""
    x, s, value = mpmath.mpf(float(x)), mpmath.mpf(int(n) + 1), mpmath.mpf(0)
    for _ in range(60):
        value, x = value + x**-s, x + 1
    rest = x / (s - 1) + 0.5
    for j in range(1, 25):
        rest += mpmath.bernoulli(2 * j) / mpmath.factorial(2 * j) * mpmath.rf(s, 2 * j - 1) / x ** (2 * j - 1)
    return (-1) ** int(s) * mpmath.factorial(int(n)) * (value + x**-s * rest)


@pytest.mark.parametrize("order", [1, 2, 3, 7, 20, None])
@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64])
def test_polygamma(order, dtype, generator):
    x = numpy.concatenate([generator.uniform(-20, 30, 80), 10 ** generator.uniform(-4, 4, 80)]).astype(dtype)
    if order is None:
        n = generator.integers(1, 171, x.size).astype(dtype)
        found = native(special_functions.polygamma, [dtype, dtype])(n, x)
    else:
        n = numpy.full(x.shape, order, dtype)
        found = native(lambda x: special_functions.polygamma(constant(order, dtype), x), [dtype])(x)
    with mpmath.workdps(60):
        values = [exact_polygamma(*pair) for pair in zip(n, x, strict=True)]
        exact = numpy.array([numpy.longdouble(mpmath.nstr(v, 25)) for v in values])
    with numpy.errstate(all="ignore"):
        nearest = exact.astype(dtype)
    # Of even order, those of negative numbers are differences; others may be too small, or too large on the way.
    inside = (x > 0) | (n % 2 == 1)
    inside &= (abs(exact) > numpy.finfo(dtype).tiny) & (abs(exact) < numpy.finfo(dtype).max) & ((x > 0) | (n < 100))
    check("polygamma", found[inside], exact[inside], 0.6 if dtype == FLOAT32 else 3.9, n[inside], x[inside])
    others = ~inside & (abs(nearest) < numpy.finfo(dtype).max) & ((x > 0) | (n < 100))
    numpy.testing.assert_allclose(found[others], nearest[others], rtol=1e-5, atol=numpy.finfo(dtype).tiny)


def test_special_numbers_of_polygamma():
    orders = numpy.array([0, 1, 2, 3, 0.5, -1, -2, numpy.nan, 171])
    special = numpy.array([0.0, -0.0, -1.0, -2.0, -1e300, 5e-324, 1e-200, 1, numpy.inf, -numpy.inf, numpy.nan])
    n, x = (v.ravel() for v in numpy.meshgrid(orders, special))
    found = native(special_functions.polygamma, [FLOAT64, FLOAT64])(n, x)
    with numpy.errstate(all="ignore"):
        expected = numpy.where(n == 171, numpy.where(numpy.isnan(x), x, numpy.inf), scipy.special.polygamma(n, x))
    numpy.testing.assert_allclose(found, expected, rtol=1e-14)
    for order in (0, 1, 2, 171, 0.5, -1):
        alone = native(lambda x, order=order: special_functions.polygamma(constant(order, FLOAT64), x), [FLOAT64])
        numpy.testing.assert_allclose(alone(special), found[n == order], rtol=1e-14)
