"""A product of the Hessian with one vector, which needs no Hessian: forward mode over reverse mode."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy

from benchmarks.libraries import functions, torch_sources, torch_tensors
from benchmarks.row import BEST, CallRow, Data
from benchmarks.small_networks import network_data, network_loss
from benchmarks.stored import stored


def data(small: bool = False) -> Data:
    operands = network_data(small)
    vector = numpy.random.default_rng(1).standard_normal(len(operands["parameters"]), numpy.float32)
    return {**operands, "vector": vector}


def program(library: Any) -> Any:
    gradient = library.api.grad(partial(network_loss, library.numpy))

    def product(parameters: Any, inputs: Any, targets: Any, vector: Any) -> Any:
        return library.api.jvp(lambda parameters: gradient(parameters, inputs, targets), (parameters,), (vector,))[1]

    return product


def with_torch(data: Data, wrap: Callable[..., Any]) -> Callable[[], Any]:
    import torch

    parameters, inputs, targets, vector = (torch_tensors(value) for value in data.values())

    def gradient(parameters: Any) -> Any:
        return torch.func.grad(lambda parameters: network_loss(torch, parameters, inputs, targets))(parameters)

    @wrap
    def product(parameters: Any, vector: Any) -> Any:
        return torch.func.jvp(gradient, (parameters,), (vector,))[1]

    return lambda: product(parameters, vector)


def with_autograd(data: Data) -> Callable[[], Any]:
    import autograd
    import autograd.numpy

    parameters, inputs, targets, vector = data.values()
    product = autograd.hessian_vector_product(
        lambda parameters: network_loss(autograd.numpy, parameters, inputs, targets)
    )
    return lambda: product(parameters, vector)


row = CallRow(
    name="mlp_hessian_vector",
    title="Hessian-vector product of an MLP with 300 parameters, 32 examples",
    unit="µs",
    data=data,
    reference=stored("mlp_hessian_vector"),
    sources={**functions(program), **torch_sources(with_torch), "autograd": with_autograd},
    required={BEST: 1.5},
    scaled_tolerance=1e-4,
)
