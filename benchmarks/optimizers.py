"""Optimizers as formulas over dicts of arrays, for funcgrad, JAX and (in float64) the references."""

from __future__ import annotations

from typing import Any

import numpy

Tree = dict[str, Any]

MOMENTUM_RATE, MOMENTUM = 0.01, 0.9
ADAM_RATE, FIRST_DECAY, SECOND_DECAY, EPSILON = 1e-3, 0.9, 0.999, 1e-8


def momentum_state(parameters: Tree) -> Tree:
    """The state in the middle of a training: random, so that a step that forgets a part of it is found out."""
    generator = numpy.random.default_rng(1)
    velocity = {name: 0.1 * generator.standard_normal(value.shape, numpy.float32) for name, value in parameters.items()}
    return {"parameters": parameters, "velocity": velocity}


def momentum_update(state: Tree, gradient: Tree) -> Tree:
    """Stochastic gradient descent with (heavy-ball) momentum, as in torch.optim.SGD."""
    velocity = {name: MOMENTUM * state["velocity"][name] + gradient[name] for name in gradient}
    parameters = {name: state["parameters"][name] - MOMENTUM_RATE * velocity[name] for name in gradient}
    return {"parameters": parameters, "velocity": velocity}


def adam_state(parameters: Tree) -> Tree:
    """The state in the middle of a training (see `momentum_state`)."""
    generator = numpy.random.default_rng(1)

    def noise(value: Any) -> numpy.ndarray:
        return 1e-2 * generator.standard_normal(value.shape, numpy.float32)

    return {
        "parameters": parameters,
        "mean": {name: noise(value) for name, value in parameters.items()},
        "square": {name: noise(value) ** 2 + numpy.float32(1e-6) for name, value in parameters.items()},
        "count": numpy.array(10, numpy.float32),
    }


def adam_update(np: Any, state: Tree, gradient: Tree, weight_decay: float = 0.0) -> Tree:
    """Adam (Kingma and Ba, 2015), with decoupled weight decay (Loshchilov and Hutter, 2019) where there is one."""
    count = state["count"] + 1
    new: Tree = {"parameters": {}, "mean": {}, "square": {}, "count": count}
    first_correction, second_correction = 1 - FIRST_DECAY**count, 1 - SECOND_DECAY**count
    for name, slope in gradient.items():
        parameter = state["parameters"][name] * (1 - ADAM_RATE * weight_decay)
        mean = FIRST_DECAY * state["mean"][name] + (1 - FIRST_DECAY) * slope
        square = SECOND_DECAY * state["square"][name] + (1 - SECOND_DECAY) * slope * slope
        step = (mean / first_correction) / (np.sqrt(square / second_correction) + EPSILON)
        new["parameters"][name] = parameter - ADAM_RATE * step
        new["mean"][name], new["square"][name] = mean, square
    return new
