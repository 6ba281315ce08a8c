"""Reductions of transposed arrays: along other axes, or with the array transposed before."""

import numpy
import pytest

import funcgrad as fg
import funcgrad.numpy as np
from funcgrad.compiler import turned

X, Y = (np.asarray(numpy.random.default_rng(seed).standard_normal((130, 140)).astype(numpy.float32)) for seed in (1, 2))
Z = np.asarray(numpy.random.default_rng(3).standard_normal((20, 30, 40)).astype(numpy.float32))

MIXED = {
    "rows": lambda x, y: (x.T * y).sum(1),
    "columns": lambda x, y: (x.T * y).sum(0),
    "all": lambda x, y: (x.T * y).max(),
    "in between": lambda x, y: (np.exp(x.T) - y).sum(1) * 2.0,
    "twice": lambda x, y: x.T - x.T.max(1, keepdims=True),
    "an output": lambda x, y: (x.T, (x.T + y).sum(1)),
    "a product": lambda x, y: ((x.T + y).sum(1), x.T @ x),
    "both": lambda x, y: (x.T * np.roll(x, 1, 0).T * y).sum(1),
}


def is_close(found, wanted):
    for one, other in zip(fg.tree.leaves(found), fg.tree.leaves(wanted), strict=True):
        numpy.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", MIXED)
def test_reductions_of_what_lies_in_two_ways(name):
    function = MIXED[name]
    is_close(fg.jit(function)(X, Y.T), fg.jit(function, compiler="reference")(X, Y.T))


@pytest.mark.native
@pytest.mark.parametrize("name", MIXED)
def test_what_is_read_down_its_columns_is_transposed_before(name):
    kernels = str(fg.jit(MIXED[name]).lower(X, Y.T).kernels)
    assert "square0" in kernels or fg.config.vector_bits == 0


@pytest.mark.native
def test_what_lies_in_one_way_is_read_where_it_is():
    for function in (lambda x: x.T.sum(1), lambda x: np.exp(x.T).sum(0), lambda x: (x.T + 2.0 * x.T).sum()):
        lowered = fg.jit(function).lower(X)
        assert "square" not in str(lowered.kernels) and not turned.turned(lowered.simplified)


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 2), (0, 1, 2)])
@pytest.mark.parametrize("permutation", [(2, 0, 1), (1, 2, 0), (2, 1, 0), (0, 2, 1)])
def test_reductions_go_along_other_axes_instead(permutation, axes):
    def function(z):
        return z.transpose(permutation).sum(axes), z.transpose(permutation).max(axes)

    simplified = fg.jit(function).lower(Z).simplified
    large = [x for x in simplified.equations if x.primitive.name == "transpose" and len(x.results[0].shape) == 3]
    assert not large
    found, wanted = fg.jit(function)(Z), function(Z)
    assert [x.shape for x in found] == [x.shape for x in wanted]
    is_close(found, wanted)
