"""A training step of a small dense network on images of digits: matrix products, a loss, and an optimizer."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy

from benchmarks.libraries import TorchTraining, map_arrays, torch_parameters, torch_sources, training_steps
from benchmarks.optimizers import ADAM_RATE, adam_state, adam_update
from benchmarks.row import BEST, CallRow, Data


def data(small: bool = False) -> Data:
    generator = numpy.random.default_rng(0)
    sizes, batch = ((6, 5, 5, 4), 3) if small else ((784, 512, 512, 10), 128)
    parameters = {}
    for number, (inputs, outputs) in enumerate(pairwise(sizes), start=1):
        weights = generator.standard_normal((inputs, outputs), numpy.float32) * numpy.float32((2 / inputs) ** 0.5)
        parameters |= {f"w{number}": weights, f"b{number}": numpy.full(outputs, 0.1, numpy.float32)}
    images = generator.random((batch, sizes[0]), numpy.float32)
    labels = generator.integers(0, sizes[-1], batch).astype(numpy.int32)
    return {"state": adam_state(parameters), "batch": (images, labels)}


def program(library: Any) -> Any:
    np, lax = library.numpy, library.lax

    def loss(parameters: Any, images: Any, labels: Any) -> Any:
        hidden = np.maximum(images @ parameters["w1"] + parameters["b1"], 0)
        hidden = np.maximum(hidden @ parameters["w2"] + parameters["b2"], 0)
        logits = hidden @ parameters["w3"] + parameters["b3"]
        shifted = logits - lax.stop_gradient(np.max(logits, axis=1, keepdims=True))
        right = np.take_along_axis(shifted, labels[:, None], axis=1)[:, 0]
        return np.mean(np.log(np.sum(np.exp(shifted), axis=1)) - right)

    def step(state: Any, batch: Any) -> Any:
        value, gradient = library.api.value_and_grad(loss)(state["parameters"], *batch)
        return adam_update(np, state, gradient), value

    return step


def reference(data: Data) -> Any:
    state = map_arrays(lambda array: array.astype(numpy.float64), data["state"])
    parameters, (images, labels) = state["parameters"], data["batch"]
    layers = [images.astype(numpy.float64)]
    for number in (1, 2, 3):
        total = layers[-1] @ parameters[f"w{number}"] + parameters[f"b{number}"]
        layers.append(numpy.maximum(total, 0) if number < 3 else total)
    rows = numpy.arange(len(labels))
    shifted = layers[3] - layers[3].max(axis=1, keepdims=True)
    logarithms = numpy.log(numpy.exp(shifted).sum(axis=1, keepdims=True))
    loss = numpy.mean(logarithms[:, 0] - shifted[rows, labels])
    slope = numpy.exp(shifted - logarithms)
    slope[rows, labels] -= 1
    slope /= len(labels)
    gradient = {}
    for number in (3, 2, 1):
        gradient |= {f"w{number}": layers[number - 1].T @ slope, f"b{number}": slope.sum(axis=0)}
        slope = (slope @ parameters[f"w{number}"].T) * (layers[number - 1] > 0)
    new_state = adam_update(numpy, state, gradient)
    return map_arrays(numpy.float32, new_state), numpy.float32(loss)


def with_torch(data: Data, wrap: Callable[..., Any]) -> Any:
    import torch
    from torch.nn.functional import cross_entropy, linear

    def transpose(name: str, tensor: Any) -> Any:
        return tensor.T if tensor.ndim == 2 else tensor

    parameters = torch_parameters(data["state"]["parameters"], hide=transpose)
    w1, b1, w2, b2, w3, b3 = parameters.values()

    def loss(images: Any, labels: Any) -> Any:
        hidden = torch.relu(linear(images, w1, b1))
        hidden = torch.relu(linear(hidden, w2, b2))
        return cross_entropy(linear(hidden, w3, b3), labels.long())

    optimizer = torch.optim.Adam(parameters.values(), lr=ADAM_RATE, fused=True)
    slots = {"mean": "exp_avg", "square": "exp_avg_sq"}
    return TorchTraining(parameters, wrap(loss), optimizer, slots, data, show=transpose)


row = CallRow(
    name="mlp_adam",
    title="training step of an MLP 784-512-512-10 with Adam, batch 128, state donated",
    unit="ms",
    data=data,
    # Three products a layer, without the gradient in the images.
    operations=2 * 128 * (3 * (784 * 512 + 512 * 512 + 512 * 10) - 784 * 512),
    reference=reference,
    sources={**training_steps(program), **torch_sources(with_torch)},
    required={BEST: 1.2},
    absolute_tolerance=1e-8,
    scaled_tolerance=1e-4,
)
