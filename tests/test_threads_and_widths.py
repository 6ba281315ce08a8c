"""Results are bitwise the same on any number of threads, in vectors of any width; and right in all of them."""

from __future__ import annotations

import numpy
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad.config import VECTOR_BITS

pytestmark = pytest.mark.native


def array(*shape, dtype="float32", seed=0):
    values = numpy.random.default_rng(seed).standard_normal((2, *shape))
    dtype = fg.dtypes.canonical(dtype)
    return fg.array((values[0] + 1j * values[1]).astype(dtype) if dtype.kind == "c" else (values[0] * 3).astype(dtype))


WIDE, TALL = array(300, 517), array(20011, 7)
LONG, WHOLE = array(100_003), array(200, 331, dtype="int32")
PLACES = fg.array(numpy.random.default_rng(1).integers(0, 300, 4001).astype(numpy.int32))
IMAGES, KERNEL = array(4, 8, 30, 31), array(16, 8, 3, 3, seed=1)
MATRICES = array(12, 70, 90), array(12, 90, 65, seed=1)


def attention(x):
    scores = x @ x.T / 20.0
    return fg.nn.softmax(fnp.where(fnp.tri(x.shape[0]) > 0, scores, -1e9)) @ x


def recurrent(x):
    return fg.lax.scan(lambda c, row: (fnp.tanh(c * 0.5 + row), c.sum()), x[0], x)


def layer_norm(x):
    mean = fnp.mean(x, -1, keepdims=True)
    return (x - mean) / fnp.sqrt(fnp.mean((x - mean) ** 2, -1, keepdims=True) + 1e-5)


PROGRAMS = {
    "elementwise": (lambda x: fnp.tanh(x) * fnp.exp(-x * x) + fnp.sin(x) / 3.0, WIDE),
    "broadcasting": (lambda x: x * x[0] + x[:, :1] - x.reshape(517, 300).T[::-1], WIDE),
    "sum of all": (lambda x: (fnp.sum(x), fnp.mean(x * x), fnp.max(x), fnp.prod(1 + x * 1e-4)), LONG),
    "rows": (lambda x: (fnp.sum(x, 1), fnp.max(x, 1), fnp.var(x, 1), fnp.argmax(x, 1)), WIDE),
    "columns": (lambda x: (fnp.sum(x, 0), fnp.min(x, 0), fnp.std(x, 0), fnp.argmin(x, 0)), TALL),
    "axes": (lambda x: (fnp.sum(x, (0, 2)), fnp.sum(x, (1, 3))), IMAGES),
    "softmax": (lambda x: (fg.nn.softmax(x), fg.nn.log_softmax(x, 0)), WIDE),
    "layer norm": (fg.value_and_grad(lambda x: fnp.sum(layer_norm(x) ** 3)), WIDE),
    "attention": (attention, array(150, 64)),
    "product": (lambda x: x @ x.T, WIDE),
    "matrix and vector": (lambda x: (x @ x[0], x[:, 0] @ x, x[:, 3] @ x[:, 4]), WIDE),
    "batched product": (lambda x, y: fnp.tanh(x @ y) + 1.0, *MATRICES),
    "short products": (lambda x: x @ x.T, array(150, 140, dtype="bfloat16")),
    "convolution": (lambda x, k: fg.lax.conv_general_dilated(x, k, (1, 2), "SAME"), IMAGES, KERNEL),
    "gradients of convolution": (
        fg.grad(lambda x, k: fnp.sum(fg.lax.conv_general_dilated(x, k, (1, 1), "SAME") ** 2), argnums=(0, 1)),
        IMAGES,
        KERNEL,
    ),
    "pooling": (lambda x: fg.lax.reduce_window(x, -fnp.inf, fg.lax.max, (1, 1, 3, 3), (1, 1, 2, 2), "SAME"), IMAGES),
    "running": (lambda x: (fnp.cumsum(x), fnp.cumsum(x * x)), LONG),
    "running columns": (lambda x: (fnp.cumsum(x, 0), fnp.cumprod(1 + x * 1e-3, 1)), TALL),
    "sort": (lambda x: (fnp.sort(x, 1), fnp.argsort(x, 0), fnp.median(x, 1)), WIDE),
    "long sort": (lambda x: (fnp.argsort(x), fnp.sort(x[:9000])), LONG),
    "gather and scatter": (lambda x, i: (x[i], fnp.zeros_like(x).at[i].add(x[i] * 2), x.at[i].set(1)), WIDE, PLACES),
    "joining": (lambda x: fnp.pad(fnp.concatenate([x, x[::-1]], 1), ((1, 2), (0, 3))), WIDE),
    "whole numbers": (lambda x: (fnp.sum(x, 0), x // 7, fnp.gcd(x, 12), fnp.sort(x, 1), x @ x.T), WHOLE),
    "random": (lambda x: fg.random.normal(fg.random.key(3), (70_001,)) + x, array()),
    "complex": (
        lambda x: (fnp.sum(x * x, 1), fnp.exp(x), fnp.cumsum(x, 1), x @ x.T),
        array(90, 201, dtype="complex64"),
    ),
    "double": (lambda x: (fnp.exp(x), fnp.sum(x, 1), fnp.sum(x), x @ x.T), array(201, 190, dtype="float64")),
    "loop": (recurrent, array(40, 3001)),
}


def bits(results):
    return [numpy.asarray(x).tobytes() for x in fg.tree.leaves(results)]


@pytest.mark.parametrize("width", VECTOR_BITS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_same_bits_on_any_number_of_threads(name, width):
    function, *arguments = PROGRAMS[name]
    with fg.config.override(vector_bits=width):
        compiled = fg.jit(lambda *x: function(*x))
        results = {}
        for threads in (1, 2, 5):
            with fg.config.override(threads=threads):
                results[threads] = compiled(*arguments)
        assert compiled.lower(*arguments).host_calls == []
    assert bits(results[1]) == bits(results[2]) == bits(results[5])
    expected = fg.jit(lambda *x: function(*x), compiler="reference")(*arguments)
    for x, y in zip(fg.tree.leaves(results[1]), fg.tree.leaves(expected), strict=True):
        tolerance = {"float64": 1e-9, "bfloat16": 3e-2}.get(str(y.dtype), 3e-4 if y.dtype.kind in "fcV" else 0)
        wide = [numpy.asarray(z).astype(complex if z.dtype.kind == "c" else float) for z in (x, y)]
        scale = numpy.nanmax(abs(wide[1])) if y.size else 1.0
        numpy.testing.assert_allclose(*wide, rtol=tolerance, atol=tolerance * min(scale, 1e3))
