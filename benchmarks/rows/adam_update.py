"""The update of an optimizer alone: nothing but memory traffic, over many arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

from benchmarks.libraries import (
    TorchTraining,
    map_arrays,
    torch_parameters,
    torch_sources,
    torch_tensors,
    training_steps,
)
from benchmarks.optimizers import ADAM_RATE, adam_state, adam_update
from benchmarks.row import BEST, CallRow, Data


def data(small: bool = False) -> Data:
    generator = numpy.random.default_rng(0)
    shape = (4, 5) if small else (500, 1000)
    names = [f"array{number:02}" for number in range(20)]
    parameters = {name: generator.standard_normal(shape, numpy.float32) for name in names}
    gradient = {name: 1e-2 * generator.standard_normal(shape, numpy.float32) for name in names}
    return {"state": adam_state(parameters), "batch": gradient}


def program(library: Any) -> Any:
    return lambda state, gradient: (adam_update(library.numpy, state, gradient), ())


def reference(data: Data) -> Any:
    state, gradient = map_arrays(lambda array: array.astype(numpy.float64), (data["state"], data["batch"]))
    return map_arrays(numpy.float32, (adam_update(numpy, state, gradient), ()))


def with_torch(data: Data, wrap: Callable[..., Any]) -> Any:
    import torch

    parameters = torch_parameters(data["state"]["parameters"])
    gradient = torch_tensors(data["batch"])
    for name, parameter in parameters.items():
        parameter.grad = gradient[name]
    optimizer = torch.optim.Adam(parameters.values(), lr=ADAM_RATE, fused=True)
    step = wrap(optimizer.step)
    slots = {"mean": "exp_avg", "square": "exp_avg_sq"}

    class Update(TorchTraining):
        def __call__(self) -> Any:
            step()
            return self._state, ()

    return Update(parameters, lambda: None, optimizer, slots, {**data, "batch": ()})


row = CallRow(
    name="adam_update",
    title="Adam step on 10 million float32 parameters in 20 arrays, state donated",
    unit="ms",
    data=data,
    # Gradients are read; parameters and both moments are read and written.
    moved_bytes=7 * 4 * 10_000_000,
    reference=reference,
    sources={**training_steps(program), **torch_sources(with_torch)},
    required={BEST: 1.0},
    absolute_tolerance=1e-7,
)
