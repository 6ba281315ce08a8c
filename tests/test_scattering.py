"""Scatters in order, in batches, in parts and in tables; the results are the same for any number of threads."""

import numpy
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad.compiler.loops import Loop, When, statements

pytestmark = pytest.mark.native

random = numpy.random.default_rng(0)


def numbers(*shape, dtype="float32"):
    x = random.standard_normal(shape) * 10
    return fg.array(x.astype(numpy.int32) if dtype == "int32" else x.astype(numpy.float32)).astype(dtype)


def positions(low, high, *shape):
    return fg.array(random.integers(low, high, shape).astype(numpy.int32))


METHODS = ("add", "set", "multiply", "min", "max")


def write(method, x, where, updates, mode=None):
    return getattr(x.at[where], method)(updates, mode=mode)


CASES = {
    "rows in parts": (lambda m, x, i, u, mode: write(m, x, i, u, mode), (700, 40), (-900, 900, 2000), (2000, 40)),
    "more rows in parts": (
        lambda m, x, i, u, mode: write(m, x, i, u, mode),
        (9000, 24),
        (-9999, 9999, 6000),
        (6000, 24),
    ),
    "rows of several axes": (
        lambda m, x, i, u, mode: write(m, x, i, u, mode),
        (333, 3, 16),
        (-400, 400, 50, 41),
        (50, 41, 3, 16),
    ),
    "zeros in parts": (
        lambda m, x, i, u, mode: write(m, fnp.zeros_like(x), i, u, mode),
        (701, 40),
        (-900, 900, 2000),
        (2000, 40),
    ),
    "a number in parts": (
        lambda m, x, i, u, mode: write(m, fnp.broadcast_to(x[0, 0], x.shape), i, u, mode),
        (64, 40),
        (-100, 100, 2000),
        (2000, 40),
    ),
    "tables": (lambda m, x, i, u, mode: write(m, x, i, u, mode), (37,), (-50, 50, 70000), (70000,)),
    "tables of rows": (lambda m, x, i, u, mode: write(m, x, i, u, mode), (9, 5), (-12, 12, 20000), (20000, 5)),
    "tables of long rows": (lambda m, x, i, u, mode: write(m, x, i, u, mode), (9, 40), (-12, 12, 5000), (5000, 40)),
    "tables of zeros": (
        lambda m, x, i, u, mode: write(m, fnp.zeros_like(x), i, u, mode),
        (37,),
        (-50, 50, 70000),
        (70000,),
    ),
    "batches": (
        lambda m, x, i, u, mode: write(m, x, (slice(None), i), u, mode),
        (30, 100),
        (-120, 120, 50),
        (30, 50),
    ),
    "mapped": (
        lambda m, x, i, u, mode: fg.vmap(lambda x, i, u: write(m, x, i, u, mode))(x, i, u),
        (30, 100),
        (-120, 120, 30, 60),
        (30, 60),
    ),
    "two axes": (
        lambda m, x, i, u, mode: write(m, x, (i, i // 3), u, mode),
        (70, 30, 40),
        (-80, 80, 1700),
        (1700, 40),
    ),
    "apart": (
        lambda m, x, i, u, mode: write(m, x, (i, slice(None), i // 3), u, mode),
        (70, 4, 30),
        (-80, 80, 100),
        (100, 4),
    ),
    "equal updates in tables": (
        lambda m, x, i, u, mode: write(m, x, i, u[0], mode),
        (37,),
        (-50, 50, 70000),
        (3,),
    ),
    "equal updates in parts": (
        lambda m, x, i, u, mode: write(m, x, i, u[0], mode),
        (700, 40),
        (-900, 900, 2000),
        (3,),
    ),
    "in order": (lambda m, x, i, u, mode: write(m, x, i, u, mode), (500,), (-600, 600, 300), (300,)),
    "one row": (lambda m, x, i, u, mode: write(m, x, i, u, mode), (500, 20), (-600, 600), (20,)),
}


def exactly(x, y):
    return numpy.testing.assert_array_equal(numpy.asarray(x), numpy.asarray(y))


def nearly(x, y):
    x, y = (numpy.asarray(z).astype(numpy.float64) for z in (x, y))
    return numpy.testing.assert_allclose(x, y, rtol=2e-2 if x.dtype.itemsize < 4 else 2e-3, atol=2e-2)


def made(case, method, mode=None, dtype="float32"):
    f, shape, where, of_updates = CASES[case]
    x, i, u = numbers(*shape, dtype=dtype), positions(*where), numbers(*of_updates, dtype=dtype)
    if method == "multiply" and dtype != "int32":
        x, u = fnp.sign(x), fnp.sign(u) * fg.array(1.0, dtype)  # products that overflow nothing
    return lambda x, i, u: f(method, x, i, u, mode), (x, i, u)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", CASES)
def test_scatters_agree_with_the_reference(case, method):
    f, arguments = made(case, method)
    compare = nearly if method == "add" else exactly
    compare(fg.jit(f)(*arguments), fg.jit(f, compiler="reference")(*arguments))


@pytest.mark.parametrize("mode", ["clip", "drop"])
@pytest.mark.parametrize("dtype", ["bfloat16", "int32", "float64"])
@pytest.mark.parametrize("case", CASES)
def test_modes_and_dtypes_agree_with_the_reference(case, dtype, mode):
    for method in ("add", "max"):
        f, arguments = made(case, method, mode, dtype)
        found, expected = fg.jit(f)(*arguments), fg.jit(f, compiler="reference")(*arguments)
        if dtype == "bfloat16" and method == "add":
            x, y = (numpy.asarray(z).astype(numpy.float32) for z in (found, expected))
            numpy.testing.assert_allclose(x, y, rtol=1e-2, atol=1e-1)
        else:
            (nearly if dtype == "float64" else exactly)(found, expected)


@pytest.mark.parametrize("case", CASES)
def test_sums_are_the_same_bits_for_any_number_of_threads(case):
    f, arguments = made(case, "add")
    with fg.config.override(threads=1):
        alone = fg.jit(f)(*arguments)
    with fg.config.override(threads=3):
        exactly(fg.jit(f)(*arguments), alone)


@pytest.mark.parametrize("case", CASES)
def test_donated_arrays_are_updated_as_well(case):
    f, (x, i, u) = made(case, "add")
    expected = fg.jit(f)(x, i, u)
    exactly(fg.jit(f, donate_argnums=0)(x + 0, i, u), expected)


def shape_of(case, method="add"):
    f, arguments = made(case, method)
    kernels = fg.jit(f).lower(*arguments).kernels
    return [statement for kernel in kernels for statement in statements(kernel.body)]


def test_long_rows_are_updated_in_parts():
    assert any(isinstance(x, Loop) and x.bounds is not None for x in shape_of("rows in parts"))
    assert any(isinstance(x, When) for x in shape_of("rows in parts"))


def test_batches_run_side_by_side():
    for case in ("batches", "mapped"):
        (loop,) = [x for x in shape_of(case) if isinstance(x, Loop) and x.axis.name == "i"][-1:]
        assert loop.kind == "parallel" and loop.axis.extent == 30


def test_zeros_are_neither_stored_nor_copied_first():
    f, arguments = made("zeros in parts", "add")
    text = str(fg.jit(f).lower(*arguments).kernels)
    assert "copy" not in text and text.count("= 0\n") == 4  # of counts, the first end, their sum, and the result


def test_minus_zero_stays_where_nothing_is_added():
    x, i, u = fg.array(numpy.full(37, -0.0, numpy.float32)), positions(0, 5, 70000), fnp.ones(70000)
    found = numpy.asarray(fg.jit(lambda x, i, u: x.at[i].add(u))(x, i, u))
    assert numpy.signbit(found[5:]).all() and not numpy.signbit(found[:5]).any()


def test_a_histogram_counts():
    x = random.integers(0, 256, 100_000).astype(numpy.int32)
    exactly(fg.jit(lambda x: fnp.bincount(x, length=256))(fg.array(x)), numpy.bincount(x, minlength=256))


def test_equal_updates_are_not_stored():
    text = str(fg.jit(lambda i: fnp.zeros(9).at[i].add(1.0)).lower(positions(0, 9, 70000)).kernels)
    assert "+ 1)" in text and "c0" not in text
