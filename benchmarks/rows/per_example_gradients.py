"""A gradient for every example instead of their mean, as for differential privacy: grad inside vmap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

from benchmarks.libraries import functions, torch_sources, torch_tensors
from benchmarks.row import BEST, CallRow, Data


def data(small: bool = False) -> Data:
    generator = numpy.random.default_rng(0)
    inputs, hidden, outputs, count = (4, 3, 2, 5) if small else (64, 64, 10, 256)
    shapes = {"w1": (inputs, hidden), "b1": (hidden,), "w2": (hidden, outputs), "b2": (outputs,)}
    parameters = {name: generator.standard_normal(shape, numpy.float32) / 8 for name, shape in shapes.items()}
    return {
        "parameters": parameters,
        "inputs": generator.standard_normal((count, inputs), numpy.float32),
        "targets": generator.standard_normal((count, outputs), numpy.float32),
    }


def loss_of_one(np: Any, parameters: Any, example: Any, target: Any) -> Any:
    hidden = np.tanh(example @ parameters["w1"] + parameters["b1"])
    error = hidden @ parameters["w2"] + parameters["b2"] - target
    return np.sum(error * error)


def program(library: Any) -> Any:
    def loss(parameters: Any, example: Any, target: Any) -> Any:
        return loss_of_one(library.numpy, parameters, example, target)

    return library.api.vmap(library.api.grad(loss), in_axes=(None, 0, 0))


def reference(data: Data) -> Any:
    parameters = {name: value.astype(numpy.float64) for name, value in data["parameters"].items()}
    inputs, targets = data["inputs"].astype(numpy.float64), data["targets"].astype(numpy.float64)
    hidden = numpy.tanh(inputs @ parameters["w1"] + parameters["b1"])
    output_slope = 2 * (hidden @ parameters["w2"] + parameters["b2"] - targets)
    hidden_slope = (output_slope @ parameters["w2"].T) * (1 - hidden**2)
    gradient = {
        "w1": inputs[:, :, None] * hidden_slope[:, None, :],
        "b1": hidden_slope,
        "w2": hidden[:, :, None] * output_slope[:, None, :],
        "b2": output_slope,
    }
    return {name: value.astype(numpy.float32) for name, value in gradient.items()}


def with_torch(data: Data, wrap: Callable[..., Any]) -> Callable[[], Any]:
    import torch

    def loss(parameters: Any, example: Any, target: Any) -> Any:
        return loss_of_one(torch, parameters, example, target)

    operands = [torch_tensors(value) for value in data.values()]
    gradients = wrap(torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0)))
    return lambda: gradients(*operands)


row = CallRow(
    name="per_example_gradients",
    title="256 per-example gradients of an MLP 64-64-10",
    unit="ms",
    data=data,
    moved_bytes=256 * 4 * (65 * 64 + 65 * 10),
    reference=reference,
    sources={**functions(program), **torch_sources(with_torch)},
    required={BEST: 1.0},
    scaled_tolerance=1e-5,
)
