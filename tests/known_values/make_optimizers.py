"""Writes optimizers.json: what Optax's optimizers make of a sequence of gradients, in float64.

Run it with a Python that has jax, optax and torch. PyTorch's SGD and Adam have to agree with Optax's to 1e-12 before
anything is written.
"""

import json
from pathlib import Path

import jax
import numpy
import optax
import torch

jax.config.update("jax_enable_x64", True)

STEPS = 20
START = {"weight": [[0.5, -1.0, 2.0], [0.1, 0.0, -0.3]], "bias": [1.0, -0.5]}
OPTIMIZERS = {
    "sgd(0.1)": optax.sgd(0.1),
    "sgd(0.1, momentum=0.9)": optax.sgd(0.1, momentum=0.9),
    "sgd(0.1, momentum=0.9, nesterov=True)": optax.sgd(0.1, momentum=0.9, nesterov=True),
    "sgd(lambda count: 0.1 / (1 + count))": optax.sgd(lambda count: 0.1 / (1 + count)),
    "adam(0.01)": optax.adam(0.01),
    "adam(0.1, b1=0.8, b2=0.99, eps=1e-3, eps_root=1e-4)": optax.adam(0.1, b1=0.8, b2=0.99, eps=1e-3, eps_root=1e-4),
    "chain(clip_by_global_norm(1.0), adam(0.01))": optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.01)),
    "chain(clip_by_global_norm(1.0), sgd(0.1))": optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1)),
}
IN_TORCH = {
    "sgd(0.1)": lambda params: torch.optim.SGD(params, 0.1),
    "sgd(0.1, momentum=0.9)": lambda params: torch.optim.SGD(params, 0.1, momentum=0.9),
    "sgd(0.1, momentum=0.9, nesterov=True)": lambda params: torch.optim.SGD(params, 0.1, momentum=0.9, nesterov=True),
    "adam(0.01)": lambda params: torch.optim.Adam(params, 0.01),
}


def gradients():
    """Gradients of very different sizes, among them zeros, which change sign now and then."""
    random = numpy.random.default_rng(0)
    scale = {"weight": numpy.array([[1e-3, 1.0, 30.0], [0.1, 0.0, 1.0]]), "bias": numpy.array([1.0, 1e-2])}
    return [
        {name: (s * (0.5 + random.normal(size=s.shape))).round(6).tolist() for name, s in scale.items()}
        for _ in range(STEPS)
    ]


def as_arrays(values):
    return {name: numpy.array(value) for name, value in values.items()}


def optax_trajectory(optimizer, gradients):
    params = as_arrays(START)
    state = optimizer.init(params)
    trajectory = []
    for gradient in gradients:
        updates, state = optimizer.update(as_arrays(gradient), state, params)
        params = optax.apply_updates(params, updates)
        trajectory.append({name: numpy.asarray(value).tolist() for name, value in params.items()})
    return trajectory


def torch_trajectory(make, gradients):
    params = {name: torch.tensor(value, dtype=torch.float64) for name, value in START.items()}
    optimizer = make(list(params.values()))
    trajectory = []
    for gradient in gradients:
        for name, param in params.items():
            param.grad = torch.tensor(gradient[name], dtype=torch.float64)
        optimizer.step()
        trajectory.append({name: param.tolist() for name, param in params.items()})
    return trajectory


def main():
    given = gradients()
    found = {name: optax_trajectory(optimizer, given) for name, optimizer in OPTIMIZERS.items()}
    for name, make in IN_TORCH.items():
        for ours, theirs in zip(found[name], torch_trajectory(make, given), strict=True):
            for key in START:
                numpy.testing.assert_allclose(ours[key], theirs[key], rtol=1e-12, atol=1e-12)
    # A few of the steps are enough to tell a wrong recurrence, and keep the file small.
    values = {
        "start": START,
        "gradients": given,
        "params_after": {name: {str(n): steps[n - 1] for n in (1, 2, 5, 10, 20)} for name, steps in found.items()},
    }
    path = Path(__file__).with_name("optimizers.json")
    path.write_text(json.dumps(values, separators=(",", ":")) + "\n")
    print(f"wrote {path.name}, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
