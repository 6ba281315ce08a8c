"""The loss of every classifier with its gradient: rows that are reduced twice and read three times."""

from __future__ import annotations

from typing import Any

import numpy

from benchmarks.libraries import autograd_function, functions, numpy_function, torch_functions
from benchmarks.row import BEST, CallRow, Data


def data(small: bool = False) -> Data:
    generator = numpy.random.default_rng(0)
    count, classes = (8, 10) if small else (4096, 1024)
    return {
        "logits": 3 * generator.standard_normal((count, classes), numpy.float32),
        "labels": generator.integers(0, classes, count).astype(numpy.int32),
    }


def program(library: Any) -> Any:
    np, lax = library.numpy, library.lax

    def loss(logits: Any, labels: Any) -> Any:
        shifted = logits - lax.stop_gradient(np.max(logits, axis=1, keepdims=True))
        right = np.take_along_axis(shifted, labels[:, None], axis=1)[:, 0]
        return np.mean(np.log(np.sum(np.exp(shifted), axis=1)) - right)

    return library.api.value_and_grad(loss, argnums=(0,))


def numpy_value_and_gradient(logits: numpy.ndarray, labels: numpy.ndarray) -> Any:
    rows = numpy.arange(len(labels))
    shifted = logits - logits.max(axis=1, keepdims=True)
    exponentials = numpy.exp(shifted)
    sums = exponentials.sum(axis=1, keepdims=True)
    loss = numpy.mean(numpy.log(sums[:, 0]) - shifted[rows, labels])
    exponentials /= sums
    exponentials[rows, labels] -= 1
    exponentials /= len(labels)
    return loss, (exponentials,)


def reference(data: Data) -> Any:
    loss, (gradient,) = numpy_value_and_gradient(data["logits"].astype(numpy.float64), data["labels"])
    return numpy.float32(loss), (gradient.astype(numpy.float32),)


def torch_loss(logits: Any, labels: Any) -> Any:
    from torch.nn.functional import cross_entropy

    return cross_entropy(logits, labels.long())


def plain_loss(np: Any, logits: Any, labels: Any) -> Any:
    shifted = logits - np.max(logits, axis=1, keepdims=True)
    return np.mean(np.log(np.sum(np.exp(shifted), axis=1)) - shifted[numpy.arange(len(labels)), labels])


row = CallRow(
    name="softmax_cross_entropy",
    title="softmax cross entropy of 4096 x 1024 float32 logits, value and gradient",
    unit="ms",
    data=data,
    moved_bytes=2 * 4 * 4096 * 1024,
    reference=reference,
    sources={
        **functions(program),
        **numpy_function(numpy_value_and_gradient),
        **torch_functions(torch_loss, differentiate=["logits"]),
        **autograd_function(plain_loss, differentiate=["logits"]),
    },
    required={BEST: 1.5},
    absolute_tolerance=1e-9,
    scaled_tolerance=1e-5,
)
