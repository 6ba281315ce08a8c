"""Loops over arrays that lie in memory in awkward ways: columns, strides, transposes, short rows, odd lengths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
import pytest

import funcgrad as fg
import funcgrad.numpy as np

generator = numpy.random.default_rng(0)


def floats(*shape: int, dtype: str = "float32") -> Any:
    return np.array(generator.standard_normal(shape).astype(dtype))


def integers(limit: int, *shape: int, dtype: str = "int32") -> Any:
    return np.array(generator.integers(0, limit, shape).astype(dtype))


def softmax(x: Any, axis: int) -> Any:
    e = np.exp(x - np.max(x, axis=axis, keepdims=True))
    return e / np.sum(e, axis=axis, keepdims=True)


CASES: dict[str, tuple[Callable[..., Any], list[Any]]] = {
    # down columns
    "sums of columns": (lambda x: np.sum(x, axis=0), [floats(1031, 37)]),
    "sums of many columns": (lambda x: np.sum(x * x, axis=0), [floats(130, 1000)]),
    "sums of columns of a stack": (lambda x: (np.sum(x, axis=1), np.max(x, axis=1)), [floats(9, 67, 33)]),
    "sums over all but the last axis": (lambda x: np.mean(x, axis=(0, 1)), [floats(64, 31, 48)]),
    "sums over the first and the third axis": (lambda x: np.sum(x, axis=(0, 2)), [floats(40, 3, 50, 64)]),
    "greatest of columns with NaN": (
        lambda x: np.max(np.where(x > 2.5, np.nan, x), axis=0),
        [floats(600, 40)],
    ),
    "float16 sums of columns": (lambda x: np.sum(x, axis=0), [floats(513, 64, dtype="float16")]),
    "integer sums of columns": (lambda x: np.sum(x, axis=0), [integers(100, 513, 64, dtype="int8")]),
    "standardized columns": (
        lambda x: (x - np.mean(x, axis=0)) / np.sqrt(np.var(x, axis=0) + 1e-5),
        [floats(515, 130)],
    ),
    "softmax down columns": (lambda x: softmax(x, 0), [floats(300, 70)]),
    # several results of one pass, and few long rows
    "two functions of each element": (lambda x, y: (np.sin(x), np.cos(x) * y, x + 1.0), [floats(900), floats(900)]),
    "statistics of all elements": (
        lambda x: (np.mean(x), np.max(x), np.sum(x * x), np.var(x)),
        [floats(40_003)],
    ),
    "statistics of rows and columns": (
        lambda x: (np.mean(x, axis=1), np.max(x, axis=1), np.min(x, axis=0), np.sum(x, axis=0), np.sum(np.abs(x))),
        [floats(300, 130)],
    ),
    "a long softmax": (lambda x: softmax(x, 0), [floats(70_000)]),
    "two long rows of unit length": (
        lambda x: x / np.sqrt(np.sum(x * x, axis=1, keepdims=True)),
        [floats(2, 33_000)],
    ),
    "one after the other": (
        lambda x: (np.sum(x), np.sum(x * np.sum(x)), np.exp(x - np.max(x))),
        [floats(500) * 0.1],
    ),
    # transposes
    "sums of a transpose": (lambda x: np.sum(np.transpose(x, (2, 1, 0)), axis=0), [floats(30, 20, 70)]),
    "sums of a transpose and its own": (
        lambda x, y: np.sum(x.T * y, axis=1) + np.sum(x.T, axis=1),
        [floats(50, 70), floats(70, 50)],
    ),
    "neighbours on all sides": (
        lambda x: 4 * x[1:-1, 1:-1] - x[:-2, 1:-1] - x[2:, 1:-1] - x[1:-1, :-2] - x[1:-1, 2:],
        [floats(40, 101)],
    ),
    "transpose": (lambda x: np.transpose(x) * 2.0, [floats(100, 67)]),
    "sum with a transpose": (lambda x, y: x + y.T * np.arange(70), [floats(51, 70), floats(70, 51)]),
    "transposes of a stack": (lambda x: np.transpose(x, (0, 2, 1)) + 1.0, [floats(3, 33, 129)]),
    "last axis first": (lambda x: np.transpose(x, (2, 0, 1)) + 1.0, [floats(5, 21, 30)]),
    "axes backward": (lambda x: np.transpose(x, (2, 1, 0)) + 1.0, [floats(31, 21, 30, dtype="float64")]),
    "transpose of bytes": (lambda x: x.T + x[::-1].T, [integers(100, 40, 90, dtype="int8")]),
    "transpose of booleans": (lambda x, y: x.T & ~y, [floats(40, 33) > 0, floats(33, 40) > 0]),
    "two dtypes transposed": (
        lambda x, y: x.T * y.T + x.T,
        [floats(50, 64), integers(9, 50, 64, dtype="int16")],
    ),
    "part of a transpose": (lambda x: x.T[3:60, ::2] * 2.0, [floats(90, 70)]),
    "transpose of what was looked up": (lambda x, i: x[i].T + 1.0, [floats(90, 70), integers(90, 40)]),
    "symmetric part": (lambda x: (x + np.transpose(x)) / 2.0, [floats(77, 77)]),
    "transpose for a narrow table": (lambda x: x.T + 1.0, [floats(3, 200)]),
    # strides
    "every second one": (lambda x: x[::2] + x[1::2], [floats(1000)]),
    "every third one, backward": (lambda x: x[::-3] * 2.0, [floats(1000)]),
    "columns of a narrow table": (lambda x: x[:, 0] * x[:, 1] + x[:, 4], [floats(301, 5)]),
    "columns of a wide table": (lambda x: x[:, 3] - x[:, 8], [floats(301, 40)]),
    "booleans that are apart": (lambda x: ~x[::2] | x[1::2], [floats(400) > 0]),
    "bytes that are apart": (lambda x: x[::5] + x[4::5], [integers(100, 640, dtype="int8")]),
    "float64 that are apart": (lambda x: x[::4] - x[3::4], [floats(640, dtype="float64")]),
    "two interleaved": (lambda x, y: np.stack([x * 2.0, y + x], axis=-1), [floats(500), floats(500)]),
    # running sums and the like
    "running sums of rows": (lambda x: np.cumsum(x, axis=1), [floats(20, 77)]),
    "a long running sum": (lambda x: np.cumsum(x), [floats(50_001)]),
    "two long running sums, backward": (lambda x: fg.lax.cumsum(x, axis=1, reverse=True), [floats(2, 40_000)]),
    "gradient of running sums": (
        lambda x: fg.grad(lambda x: np.sum(np.sin(np.cumsum(x, axis=-1))))(x),
        [floats(3, 5, 133, dtype="float64")],
    ),
    "running maximum with NaN": (
        lambda x: fg.lax.cummax(np.where(x > 3.0, np.nan, x), axis=0),
        [floats(35_000)],
    ),
    "running products of integers": (lambda x: fg.lax.cumprod(x * 2 + 1, axis=1), [integers(100, 5, 301)]),
    "running minimum of columns": (lambda x: fg.lax.cummin(x, axis=0), [floats(50, 33)]),
    "running sum of one row": (lambda x: np.cumsum(x * 2.0, axis=1), [floats(1, 100, dtype="float64")]),
    # elements several times
    "repeated": (lambda x: np.repeat(x, 4, axis=1) * 2.0, [floats(33, 50)]),
    "repeated seven times": (lambda x, y: np.repeat(x, 7, axis=-1) + y, [floats(33, 50), floats(33, 350)]),
    "only repeated": (lambda x: np.repeat(x, 3, axis=1), [floats(33, 50)]),
    "tiles": (lambda x: np.tile(x, (2, 3)) * 2.0, [floats(33, 50)]),
    "scaled in groups": (
        lambda x, s: (x.reshape(9, 5, 4, 16) * s).reshape(9, 5, 64) + x,
        [floats(9, 5, 64), floats(4, 1)],
    ),
    "sums of what was repeated": (lambda x: np.sum(np.repeat(x, 5, axis=1) ** 2, axis=1), [floats(33, 40)]),
    "normalized in groups": (
        lambda x: (
            lambda g: ((g - np.mean(g, (2, 3), keepdims=True)) / np.std(g, (2, 3), keepdims=True)).reshape(x.shape)
        )(x.reshape(4, 3, 5, 49)),
        [floats(4, 15, 7, 7)],
    ),
    "enlarged": (lambda x: np.repeat(np.repeat(x, 2, axis=1), 2, axis=2) + 1.0, [floats(3, 14, 20)]),
    # positions
    "gradient of an element of each row": (
        lambda x, i: fg.value_and_grad(lambda x: np.sum(np.take_along_axis(np.sin(x), i[:, None], axis=1)))(x),
        [floats(70, 45), integers(45, 70)],
    ),
    "an element of each row set": (
        lambda x, i: (x * 2.0).at[np.arange(70), i].set(np.sum(x, axis=1)),
        [floats(70, 45), integers(60, 70)],
    ),
    "an element of each column raised": (
        lambda x, i: x.at[i, np.arange(45)].max(1.0),
        [floats(70, 45), integers(90, 45, dtype="int64")],
    ),
    "an element of a stack of rows": (
        lambda x, i: fg.vmap(lambda x, i: x.at[i].add(5.0))(x, i),
        [floats(70, 45), integers(45, 70, dtype="uint8")],
    ),
    "looked up in what is computed": (
        lambda x, i: (x * 2.0 - np.max(x))[i] + (np.transpose(x) + 1.0)[:30][i[:30]][:, :1].sum(),
        [floats(64, 64), integers(30, 50)],
    ),
    "looked up in both axes": (lambda x, i, j: (x + 1.0)[i, j], [floats(64, 30), integers(64, 999), integers(30, 999)]),
    "a part at a computed place": (
        lambda x, i: fg.lax.dynamic_slice(np.transpose(x * 3.0), (i[0], i[1]), (7, 40)),
        [floats(64, 30), integers(20, 2)],
    ),
    "triangle": (lambda x: np.tril(x) + np.triu(x, 3), [floats(70, 51)]),
    "counted": (lambda x: x * np.arange(1000) + np.arange(1000, dtype="float32") % 7, [floats(3, 1000)]),
}


@pytest.mark.parametrize("bits", [512, 256, 0])
@pytest.mark.parametrize("name", CASES)
def test_agrees_with_the_reference(name: str, bits: int) -> None:
    function, arguments = CASES[name]
    expected = fg.jit(function, compiler="reference")(*arguments)
    with fg.config.override(vector_bits=bits):
        compiled = fg.jit(function)
        assert not compiled.lower(*arguments).host_calls
        found = compiled(*arguments)
        with fg.config.override(threads=1):
            alone = compiled(*arguments)
    for x, y, z in zip(fg.tree.leaves(found), fg.tree.leaves(expected), fg.tree.leaves(alone), strict=True):
        assert x.dtype == y.dtype and x.shape == y.shape
        tolerance = {"float16": 2e-3, "float32": 2e-6, "float64": 1e-14}.get(str(x.dtype), 0)
        scale = numpy.nanmax(numpy.abs(numpy.asarray(y).astype(float)))
        numpy.testing.assert_allclose(
            numpy.asarray(x), numpy.asarray(y), rtol=20 * tolerance, atol=2 * tolerance * scale
        )
        numpy.testing.assert_array_equal(numpy.asarray(x), numpy.asarray(z))
