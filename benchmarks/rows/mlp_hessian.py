"""All second derivatives of a small network: forward mode over reverse mode, vectorised over the parameters."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.libraries import functions, torch_sources, torch_tensors
from benchmarks.row import BEST, CallRow, Data
from benchmarks.small_networks import network_data, network_loss
from benchmarks.stored import stored


def program(library: Any) -> Any:
    return library.api.hessian(partial(network_loss, library.numpy))


def with_torch(data: Data, wrap: Callable[..., Any]) -> Callable[[], Any]:
    import torch

    operands = [torch_tensors(value) for value in data.values()]
    hessian = wrap(torch.func.hessian(lambda *operands: network_loss(torch, *operands)))
    return lambda: hessian(*operands)


def with_autograd(data: Data) -> Callable[[], Any]:
    import autograd
    import autograd.numpy

    parameters, inputs, targets = data.values()
    hessian = autograd.hessian(lambda parameters: network_loss(autograd.numpy, parameters, inputs, targets))
    return lambda: hessian(parameters)


row = CallRow(
    name="mlp_hessian",
    title="Hessian of an MLP with 300 parameters, 32 examples",
    unit="ms",
    data=network_data,
    reference=stored("mlp_hessian"),
    sources={**functions(program), **torch_sources(with_torch), "autograd": with_autograd},
    required={BEST: 2.0},
    scaled_tolerance=1e-4,
)
