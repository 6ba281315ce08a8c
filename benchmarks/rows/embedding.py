"""Rows gathered from a large table, and their gradients added back into it."""

from __future__ import annotations

from typing import Any

import numpy

from benchmarks.libraries import autograd_function, functions, numpy_function, torch_functions
from benchmarks.row import BEST, CallRow, Data


def data(small: bool = False) -> Data:
    generator = numpy.random.default_rng(0)
    rows, width, count = (20, 3, 30) if small else (50_000, 128, 8192)
    return {
        "table": generator.standard_normal((rows, width), numpy.float32),
        "indices": generator.integers(0, rows, count).astype(numpy.int32),
        "target": generator.standard_normal((count, width), numpy.float32),
    }


def program(library: Any) -> Any:
    np = library.numpy

    def loss(table: Any, indices: Any, target: Any) -> Any:
        error = table[indices] - target
        return np.mean(error * error)

    return library.api.value_and_grad(loss, argnums=(0,))


def numpy_value_and_gradient(table: Any, indices: Any, target: Any) -> Any:
    error = table[indices] - target
    gradient = numpy.zeros_like(table)
    numpy.add.at(gradient, indices, error * (2 / error.size))
    return numpy.mean(error * error), (gradient,)


def reference(data: Data) -> Any:
    table, target = data["table"].astype(numpy.float64), data["target"].astype(numpy.float64)
    loss, (gradient,) = numpy_value_and_gradient(table, data["indices"], target)
    return numpy.float32(loss), (gradient.astype(numpy.float32),)


def torch_loss(table: Any, indices: Any, target: Any) -> Any:
    from torch.nn.functional import embedding, mse_loss

    return mse_loss(embedding(indices, table), target)


def plain_loss(np: Any, table: Any, indices: Any, target: Any) -> Any:
    error = table[indices] - target
    return np.mean(error * error)


row = CallRow(
    name="embedding",
    title="8192 rows of a 50,000 x 128 table: mean squared error, and its gradient in the table",
    unit="ms",
    data=data,
    # The gradient of the table is written; of the table and for the gradient, rows are read and written.
    moved_bytes=4 * 128 * (50_000 + 3 * 8192),
    reference=reference,
    sources={
        **functions(program),
        **numpy_function(numpy_value_and_gradient),
        **torch_functions(torch_loss, differentiate=["table"]),
        **autograd_function(plain_loss, differentiate=["table"]),
    },
    required={BEST: 1.5},
    absolute_tolerance=1e-10,
)
