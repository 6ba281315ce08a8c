"""Compiled sorts: rows of any length and any dtype, with several keys; NaN last, equal keys in their old order."""

from __future__ import annotations

import numpy
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad import dtypes
from funcgrad.compiler.sorting import LEFT_TO_NUMPY, MANY, MOST_COUNTED
from funcgrad.primitives.sorting import sort

pytestmark = pytest.mark.native

DTYPES = [dtypes.float32, dtypes.float64, dtypes.float16, dtypes.bfloat16, dtypes.bool_]
DTYPES += [numpy.dtype(f"{kind}{size}") for kind in "iu" for size in (1, 2, 4, 8)]
SPECIAL = [0.0, -0.0, numpy.nan, -numpy.nan, numpy.inf, -numpy.inf, 1e-7, -1e-7]


def values(dtype, shape, generator):
    """Any values of a dtype, or few ones, so that many are equal."""
    few = generator.random() < 0.5
    if dtype.kind == "b":
        return generator.integers(0, 2, shape).astype(bool)
    if dtype.kind in "iu":
        limits = numpy.iinfo(dtype)
        low, high = (0, 5) if few else (limits.min, limits.max)
        return generator.integers(low, high, shape, dtype=dtype, endpoint=True)
    found = generator.standard_normal(shape) * 10 ** generator.uniform(-4, 4, shape)
    found = found.round().clip(-4, 4) if few else found
    with numpy.errstate(over="ignore"):
        return numpy.where(generator.random(shape) < 0.3, generator.choice(SPECIAL, shape), found).astype(dtype)


def comparable(x):
    x = numpy.asarray(x)
    return x if x.dtype.kind in "biu" else x.astype(numpy.float64)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((), None),
        ((1,), 0),
        ((0, 3), 0),
        ((3, 0), 0),
        ((2, 7, 3), 1),
        ((5, MOST_COUNTED), 1),
        ((MOST_COUNTED + 1, 4), 0),
        ((2, 300), 1),
        ((2, MANY + 1), 1),
    ],
)
def test_as_the_reference_sorts(dtype, shape, axis):
    generator = numpy.random.default_rng(len(str(dtype)) + sum(shape))
    if axis is None:
        shape, axis = (MOST_COUNTED // 2,), 0
    for count, num_keys in [(1, 1), (2, 1), (3, 2)]:
        kinds = [dtype, *(DTYPES[k] for k in generator.integers(0, len(DTYPES), count - 1))]
        operands = [fg.array(values(kind, shape, generator)) for kind in kinds]
        compiled = fg.jit(lambda *x, n=num_keys: sort(*x, axis=axis, num_keys=n))
        assert compiled.lower(*operands).host_calls == []
        for found, expected in zip(compiled(*operands), sort(*operands, axis=axis, num_keys=num_keys), strict=True):
            numpy.testing.assert_array_equal(comparable(found), comparable(expected))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("shape", "axis"),
    [((1,), 0), ((33,), 0), ((100, 3), 0), ((2, 1000), 1), ((2, 4097, 2), 1), ((20_000,), 0), ((0, 3), 1), ((3, 0), 0)],
)
def test_the_largest_elements_are_those_of_the_reference(dtype, shape, axis):
    generator, length = numpy.random.default_rng(len(str(dtype)) + sum(shape)), shape[axis]
    for k in {0, min(1, length), min(5, length), length // 2, length}:
        x = fg.array(values(dtype, shape, generator))
        compiled = fg.jit(lambda x, k=k: fg.lax.top_k(x, k, axis=axis))
        assert compiled.lower(x).host_calls == []
        for found, expected in zip(compiled(x), fg.lax.top_k(x, k, axis=axis), strict=True):
            assert found.dtype == expected.dtype
            numpy.testing.assert_array_equal(comparable(found), comparable(expected))


def test_a_few_largest_elements_are_found_without_sorting():
    x = fnp.zeros((3, 1000))
    kernels = [str(fg.jit(lambda x, k=k: fg.lax.top_k(x, k)).lower(x).kernels) for k in (5, 1000)]
    assert ["top_k(" in text for text in kernels] == [True, False]
    assert ["sort(" in text for text in kernels] == [False, True]


def test_the_derivative_of_the_largest_elements():
    x = numpy.random.default_rng(0).standard_normal((4, 200))
    for compiler in ("default", "reference"):
        f = fg.jit(lambda x: fg.lax.top_k(x, 3)[0], compiler=compiler)
        fg.testing.check_grads(f, (x,), order=1)


@pytest.mark.parametrize("length", [20, 500])
def test_zeros_of_both_signs_are_equal_and_stay_in_order(length):
    generator = numpy.random.default_rng(length)
    keys = generator.choice(numpy.array([0.0, -0.0, 1.0, numpy.nan, -numpy.nan], numpy.float32), length)
    order = numpy.asarray(fg.jit(fnp.argsort)(fg.array(keys)))
    expected = [k for kind in (keys == 0, keys == 1, numpy.isnan(keys)) for k in numpy.flatnonzero(kind)]
    numpy.testing.assert_array_equal(order, expected)


def test_a_sort_of_values_keeps_zeros_of_both_signs():
    keys = numpy.array([0.0, -0.0] * 100 + [-1.0, 1.0], numpy.float32)
    found = numpy.asarray(fg.jit(fnp.sort)(fg.array(keys)))
    assert numpy.signbit(found).sum() == numpy.signbit(keys).sum()
    numpy.testing.assert_array_equal(found, numpy.sort(keys))


def test_what_is_built_on_sorting_is_native():
    x = fg.array(numpy.random.default_rng(0).standard_normal((4, 131)).astype(numpy.float32))
    for function in (
        lambda x: fnp.median(x, axis=1),
        lambda x: fnp.quantile(x, 0.3, axis=1),
        lambda x: fnp.argsort(x, axis=0),
        fg.grad(lambda x: (fnp.sort(x, axis=1) * fnp.arange(131.0)).sum()),
        fg.vmap(lambda row: fnp.sort(row)[-5:]),
    ):
        compiled = fg.jit(function)
        assert compiled.lower(x).host_calls == []
        numpy.testing.assert_allclose(compiled(x), function(x), rtol=1e-6)


def test_the_smallest_numbers_of_float16_are_in_order():
    keys = numpy.random.default_rng(0).choice(numpy.array([-6e-8, -1.2e-7, -0.0, 6e-8, 1.0], numpy.float16), 5000)
    for compiler in ("default", "reference"):
        found = numpy.asarray(fg.jit(fnp.sort, compiler=compiler)(fg.array(keys))).astype(numpy.float32)
        assert (numpy.diff(found) >= 0).all()


def test_long_rows_of_plain_numbers_are_left_to_numpy():
    x = fnp.zeros(LEFT_TO_NUMPY)
    assert [call.name for call in fg.jit(fnp.sort).lower(x).host_calls] == ["sort"]
    assert fg.jit(fnp.sort).lower(x[1:]).host_calls == []
    assert fg.jit(fnp.argsort).lower(x).host_calls == []
