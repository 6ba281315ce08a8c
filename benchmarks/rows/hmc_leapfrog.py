"""A Hamiltonian Monte Carlo proposal for logistic regression (Neal, 2011): gradients in a loop, randomness inside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

from benchmarks.agreement import Anything
from benchmarks.libraries import functional, torch_sources, torch_tensors
from benchmarks.row import BEST, CallRow, Data, Source

STEP = 2e-3


def data(small: bool = False) -> Data:
    generator = numpy.random.default_rng(0)
    count, features, steps = (20, 3, 10) if small else (1000, 20, 100)
    inputs = generator.standard_normal((count, features), numpy.float32)
    weights = generator.standard_normal(features, numpy.float32)
    signs = numpy.where(generator.random(count) < 1 / (1 + numpy.exp(-(inputs @ weights))), 1, -1)
    return {
        "position": 0.1 * generator.standard_normal(features, numpy.float32),
        "inputs": inputs,
        "signs": signs.astype(numpy.float32),
        "steps": numpy.zeros(steps, numpy.float32),
    }


def reference(data: Data) -> Any:
    """The error of the energy is small when the gradients are right; where the walk ends is left to chance."""
    return numpy.float32(0), Anything(data["position"].shape, "float32")


def program(library: Any) -> Any:
    np, lax, random = library.numpy, library.lax, library.random

    def propose(key: Any, position: Any, inputs: Any, signs: Any, steps: Any) -> Any:
        def potential(position: Any) -> Any:
            return np.sum(np.logaddexp(0.0, -signs * (inputs @ position))) + np.sum(position * position) / 2

        force = library.api.grad(potential)

        def leapfrog(state: Any, _: Any) -> Any:
            position, momentum = state
            momentum = momentum - STEP / 2 * force(position)
            position = position + STEP * momentum
            momentum = momentum - STEP / 2 * force(position)
            return (position, momentum), None

        momentum_key, accept_key = random.split(key)
        momentum = random.normal(momentum_key, position.shape)
        (new_position, new_momentum), _ = lax.scan(leapfrog, (position, momentum), steps)
        before = potential(position) + np.sum(momentum * momentum) / 2
        after = potential(new_position) + np.sum(new_momentum * new_momentum) / 2
        accepted = np.log(random.uniform(accept_key)) < before - after
        return after - before, np.where(accepted, new_position, position)

    return library.api.jit(propose)


def functional_source(name: str) -> Source:
    """Every call gets another key, as every step of a chain does."""

    def with_library(data: Data) -> Callable[[], Any]:
        library = functional(name)
        propose, operands = program(library), [library.arrays(value) for value in data.values()]
        keys = [library.wait(key) for key in library.random.split(library.random.key(0), 16)]
        count = 0

        def call() -> Any:
            nonlocal count
            count += 1
            return library.wait(propose(keys[count % len(keys)], *operands))

        return call

    return with_library


def with_torch(data: Data, wrap: Callable[..., Any]) -> Callable[[], Any]:
    import torch

    position, inputs, signs, steps = (torch_tensors(value) for value in data.values())

    def potential(position: Any) -> Any:
        losses = torch.logaddexp(torch.zeros(()), -signs * (inputs @ position))
        return losses.sum() + (position * position).sum() / 2

    @wrap
    def leapfrog(position: Any, momentum: Any) -> Any:
        force = torch.func.grad(potential)
        momentum = momentum - STEP / 2 * force(position)
        position = position + STEP * momentum
        return position, momentum - STEP / 2 * force(position)

    def propose() -> Any:
        momentum = torch.randn(position.shape)
        new_position, new_momentum = position, momentum
        for _ in range(len(steps)):
            new_position, new_momentum = leapfrog(new_position, new_momentum)
        before = potential(position) + (momentum * momentum).sum() / 2
        after = potential(new_position) + (new_momentum * new_momentum).sum() / 2
        accepted = torch.log(torch.rand(())) < before - after
        return after - before, torch.where(accepted, new_position, position)

    return propose


row = CallRow(
    name="hmc_leapfrog",
    title="100 leapfrog steps of HMC on logistic regression, 1000 examples of 20 features, randomness inside",
    unit="ms",
    data=data,
    reference=reference,
    sources={**{name: functional_source(name) for name in ("funcgrad", "jax")}, **torch_sources(with_torch)},
    required={BEST: 2.0},
    absolute_tolerance=0.1,
)
