"""A training step of a small convolutional network on images of digits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

from benchmarks.libraries import TorchTraining, torch_parameters, torch_sources, training_steps
from benchmarks.optimizers import MOMENTUM, MOMENTUM_RATE, momentum_state, momentum_update
from benchmarks.row import CallRow, Data
from benchmarks.stored import stored

CHANNELS_LAST = ("NHWC", "HWIO", "NHWC")


def data(small: bool = False) -> Data:
    generator = numpy.random.default_rng(0)
    size, batch, channels, hidden = (8, 2, (3, 4), 5) if small else (28, 64, (32, 64), 128)
    shapes = {
        "w1": (3, 3, 1, channels[0]),
        "w2": (3, 3, *channels),
        "w3": (size // 4, size // 4, channels[1], hidden),
        "w4": (hidden, 10),
    }
    parameters = {}
    for name, shape in shapes.items():
        inputs = numpy.prod(shape[:-1])
        parameters[name] = generator.standard_normal(shape, numpy.float32) * numpy.float32((2 / inputs) ** 0.5)
        parameters[name.replace("w", "b")] = numpy.full(shape[-1], 0.1, numpy.float32)
    images = generator.random((batch, size, size, 1), numpy.float32)
    labels = generator.integers(0, 10, batch).astype(numpy.int32)
    return {"state": momentum_state(parameters), "batch": (images, labels)}


def program(library: Any) -> Any:
    np, lax = library.numpy, library.lax

    def layer(x: Any, weights: Any, bias: Any) -> Any:
        x = lax.conv_general_dilated(x, weights, (1, 1), "SAME", dimension_numbers=CHANNELS_LAST)
        x = np.maximum(x + bias, 0)
        return lax.reduce_window(x, -np.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")

    def loss(parameters: Any, images: Any, labels: Any) -> Any:
        hidden = layer(images, parameters["w1"], parameters["b1"])
        hidden = layer(hidden, parameters["w2"], parameters["b2"])
        hidden = hidden.reshape(len(labels), -1)
        weights = parameters["w3"].reshape(hidden.shape[1], -1)
        hidden = np.maximum(hidden @ weights + parameters["b3"], 0)
        logits = hidden @ parameters["w4"] + parameters["b4"]
        shifted = logits - lax.stop_gradient(np.max(logits, axis=1, keepdims=True))
        right = np.take_along_axis(shifted, labels[:, None], axis=1)[:, 0]
        return np.mean(np.log(np.sum(np.exp(shifted), axis=1)) - right)

    def step(state: Any, batch: Any) -> Any:
        value, gradient = library.api.value_and_grad(loss)(state["parameters"], *batch)
        return momentum_update(state, gradient), value

    return step


def outputs_first(name: str, tensor: Any) -> Any:
    """The order of axes that PyTorch's layers want: outputs, inputs, height, width."""
    return {1: lambda: tensor, 2: lambda: tensor.T, 4: lambda: tensor.permute(3, 2, 0, 1)}[tensor.ndim]()


def outputs_last(name: str, tensor: Any) -> Any:
    return {1: lambda: tensor, 2: lambda: tensor.T, 4: lambda: tensor.permute(2, 3, 1, 0)}[tensor.ndim]()


def with_torch(data: Data, wrap: Callable[..., Any]) -> Any:
    import torch
    from torch.nn.functional import conv2d, cross_entropy, linear, max_pool2d

    parameters = torch_parameters(data["state"]["parameters"], hide=outputs_first)
    w1, b1, w2, b2, w3, b3, w4, b4 = parameters.values()

    def loss(images: Any, labels: Any) -> Any:
        hidden = images.permute(0, 3, 1, 2)  # whose channels stay the fastest axis in memory
        hidden = max_pool2d(torch.relu(conv2d(hidden, w1, b1, padding=1)), 2)
        hidden = max_pool2d(torch.relu(conv2d(hidden, w2, b2, padding=1)), 2)
        hidden, weights = (x.permute(0, 2, 3, 1).flatten(1) for x in (hidden, w3))
        hidden = torch.relu(linear(hidden, weights, b3))
        return cross_entropy(linear(hidden, w4, b4), labels.long())

    optimizer = torch.optim.SGD(parameters.values(), lr=MOMENTUM_RATE, momentum=MOMENTUM, fused=True)
    return TorchTraining(parameters, wrap(loss), optimizer, {"velocity": "momentum_buffer"}, data, show=outputs_last)


row = CallRow(
    name="cnn_momentum",
    title="training step of a CNN (3x3: 32, 64 channels, pooled; 128; 10) on 28 x 28, batch 64, SGD with momentum",
    unit="ms",
    data=data,
    # Three products a layer, without the gradient in the images.
    operations=2 * 64 * (2 * 28**2 * 9 * 32 + 3 * (14**2 * 9 * 32 * 64 + 7**2 * 64 * 128 + 128 * 10)),
    reference=stored("cnn_momentum"),
    sources={**training_steps(program), **torch_sources(with_torch)},
    required={"torch": 1.0, "torch.compile": 1.0, "jax": 3.0},
    absolute_tolerance=1e-8,
    # An element that rounding moves across the corner of a ReLU shows in the gradient of a weight.
    scaled_tolerance=1e-2,
)
