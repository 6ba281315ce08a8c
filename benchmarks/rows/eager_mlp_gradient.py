"""The gradient of a model so small that only the machinery of automatic differentiation costs anything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

from benchmarks.row import CallRow, Data


def data(small: bool = False) -> Data:
    generator = numpy.random.default_rng(0)
    shapes = {"x": (2, 4), "w1": (4, 8), "b1": (8,), "w2": (8, 1)}
    return {name: generator.standard_normal(shape).astype(numpy.float32) for name, shape in shapes.items()}


def parameters_of(data: Data) -> dict[str, numpy.ndarray]:
    """The arrays with respect to which the loss is differentiated."""
    return {name: data[name] for name in ("w1", "b1", "w2")}


def reference(data: Data) -> tuple[numpy.ndarray, dict[str, numpy.ndarray]]:
    hidden = numpy.tanh(data["x"] @ data["w1"] + data["b1"])
    output_gradient = numpy.ones((2, 1), numpy.float32)
    before_tanh = (output_gradient @ data["w2"].T) * (1 - hidden**2)
    gradient = {"w1": data["x"].T @ before_tanh, "b1": before_tanh.sum(0), "w2": hidden.T @ output_gradient}
    return (hidden @ data["w2"]).sum(), gradient


def with_funcgrad(data: Data) -> Callable[[], Any]:
    import funcgrad as fg
    import funcgrad.numpy as fnp

    def loss(parameters: Any, x: Any) -> Any:
        hidden = fnp.tanh(x @ parameters["w1"] + parameters["b1"])
        return fnp.sum(hidden @ parameters["w2"])

    x = fg.array(data["x"])
    parameters = {name: fg.array(value) for name, value in parameters_of(data).items()}
    value_and_gradient = fg.value_and_grad(loss)
    return lambda: value_and_gradient(parameters, x)


def with_jax(data: Data) -> Callable[[], Any]:
    import jax
    import jax.numpy

    def loss(parameters: Any, x: Any) -> Any:
        hidden = jax.numpy.tanh(x @ parameters["w1"] + parameters["b1"])
        return jax.numpy.sum(hidden @ parameters["w2"])

    x = jax.numpy.asarray(data["x"])
    parameters = {name: jax.numpy.asarray(value) for name, value in parameters_of(data).items()}
    value_and_gradient = jax.value_and_grad(loss)
    return lambda: jax.block_until_ready(value_and_gradient(parameters, x))


def with_torch(data: Data) -> Callable[[], Any]:
    import torch

    x = torch.from_numpy(data["x"])
    parameters = {name: torch.from_numpy(value).requires_grad_() for name, value in parameters_of(data).items()}

    def value_and_gradient() -> Any:
        hidden = torch.tanh(x @ parameters["w1"] + parameters["b1"])
        loss = torch.sum(hidden @ parameters["w2"])
        gradient = torch.autograd.grad(loss, list(parameters.values()))
        return loss, dict(zip(parameters, gradient, strict=True))

    return value_and_gradient


def with_autograd(data: Data) -> Callable[[], Any]:
    import autograd
    import autograd.numpy

    def loss(parameters: Any, x: Any) -> Any:
        hidden = autograd.numpy.tanh(autograd.numpy.dot(x, parameters["w1"]) + parameters["b1"])
        return autograd.numpy.sum(autograd.numpy.dot(hidden, parameters["w2"]))

    x, parameters = data["x"], parameters_of(data)
    value_and_gradient = autograd.value_and_grad(loss)
    return lambda: value_and_gradient(parameters, x)


row = CallRow(
    name="eager_mlp_gradient",
    title="value and gradient of a tiny two-layer tanh MLP, eager (no jit)",
    unit="µs",
    data=data,
    compiled=False,
    reference=reference,
    sources={"funcgrad": with_funcgrad, "jax": with_jax, "torch": with_torch, "autograd": with_autograd},
    required={"torch": 1.3, "jax": 20},
)
