"""Reductions over segments."""

import numpy
import pytest

import funcgrad as fg
import funcgrad.numpy as np
from funcgrad.errors import DtypeError, ShapeError, TracedValueError

IDS = numpy.array([2, 0, 2, 5, -1, 0, 1, 9], numpy.int32)
KINDS = {
    "segment_sum": (numpy.add, 0),
    "segment_prod": (numpy.multiply, 1),
    "segment_max": (numpy.maximum, -numpy.inf),
    "segment_min": (numpy.minimum, numpy.inf),
}


def expected(name, data, ids, count):
    ufunc, start = KINDS[name]
    if data.dtype.kind in "iu" and abs(start) > 1:
        limits = numpy.iinfo(data.dtype)
        start = limits.min if start < 0 else limits.max
    result = numpy.full((count, *data.shape[1:]), start, data.dtype)
    for row, number in zip(data, ids, strict=True):
        if 0 <= number < count:
            result[number] = ufunc(result[number], row)
    return result


@pytest.mark.parametrize("jitted", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint8"])
@pytest.mark.parametrize("shape", [(8,), (8, 3), (8, 2, 2)])
@pytest.mark.parametrize("name", KINDS)
def test_segments(name, shape, dtype, jitted):
    data = (numpy.random.RandomState(0).uniform(1, 4, shape)).astype(dtype)

    def f(x, ids):
        return getattr(fg.ops, name)(x, ids, num_segments=6)

    result = (fg.jit(f) if jitted else f)(data, IDS)
    assert result.dtype == data.dtype
    numpy.testing.assert_allclose(result, expected(name, data, IDS, 6), rtol=1e-6)


def test_the_number_of_segments_is_found():
    assert fg.ops.segment_sum(np.ones(8), IDS).shape == (10,)
    assert fg.ops.segment_sum(np.ones((0, 2)), np.zeros(0, fg.int32)).shape == (0, 2)


def test_bool_data():
    data, ids = fg.array([True, False, True]), fg.array([0, 0, 1])
    assert fg.ops.segment_max(data, ids, 3).tolist() == [True, True, False]
    assert fg.ops.segment_min(data, ids, 3).tolist() == [False, True, True]
    assert fg.ops.segment_sum(data, ids, 3).tolist() == [True, True, False]
    assert fg.ops.segment_prod(data, ids, 3).tolist() == [False, True, True]


def test_derivatives_and_batches():
    data = numpy.random.RandomState(1).randn(8, 3)
    for name in KINDS:
        fg.testing.check_grads(lambda x, name=name: getattr(fg.ops, name)(x, IDS % 3, 3), (data,), order=1)
    ids = np.stack([IDS, IDS[::-1]])
    both = fg.vmap(lambda ids: fg.ops.segment_sum(data, ids, 6))(ids)
    numpy.testing.assert_allclose(both[1], expected("segment_sum", data, IDS[::-1], 6))


def test_clipped_numbers():
    result = fg.ops.segment_sum(np.ones(3), fg.array([-1, 1, 7]), 3, mode="clip")
    assert result.tolist() == [1.0, 1.0, 1.0]


def test_what_is_refused():
    with pytest.raises(DtypeError, match="integers"):
        fg.ops.segment_sum(np.ones(3), np.ones(3))
    with pytest.raises(ShapeError, match="one integer for each"):
        fg.ops.segment_sum(np.ones(3), np.zeros(2, fg.int32))
    with pytest.raises(ShapeError, match="one integer for each"):
        fg.ops.segment_sum(1.0, 0)
    with pytest.raises(TracedValueError, match="num_segments"):
        fg.jit(fg.ops.segment_sum)(np.ones(3), np.zeros(3, fg.int32))
