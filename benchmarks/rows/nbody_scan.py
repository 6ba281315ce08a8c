"""A long loop of small steps: bodies that attract each other, by the classical Runge-Kutta method."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy

from benchmarks.libraries import functions, map_arrays, numpy_function, torch_sources, torch_tensors
from benchmarks.row import BEST, CallRow, Data

STEP = 1e-3
SOFTENING = 1e-2
"""Added to squared distances, so that no two bodies pull at each other without bounds."""


def data(small: bool = False) -> Data:
    generator = numpy.random.default_rng(0)
    # The steps are counted by an operand, so that loops over an axis see them as well.
    return {
        "positions": generator.standard_normal((10, 3), numpy.float32),
        "velocities": 0.3 * generator.standard_normal((10, 3), numpy.float32),
        "masses": generator.uniform(0.5, 1.5, 10).astype(numpy.float32) / 10,
        "steps": numpy.zeros(20 if small else 1000, numpy.float32),
    }


def runge_kutta_step(library: Any, masses: Any) -> Callable[..., Any]:
    """The function from the state at one time to the state at the next; for all libraries."""
    np = library.numpy

    def slope(positions: Any, velocities: Any) -> Any:
        differences = positions[None, :, :] - positions[:, None, :]
        squares = np.sum(differences * differences, axis=-1) + SOFTENING
        pulls = masses / (squares * np.sqrt(squares))
        return velocities, np.sum(pulls[:, :, None] * differences, axis=1)

    def step(positions: Any, velocities: Any) -> Any:
        p1, v1 = slope(positions, velocities)
        p2, v2 = slope(positions + STEP / 2 * p1, velocities + STEP / 2 * v1)
        p3, v3 = slope(positions + STEP / 2 * p2, velocities + STEP / 2 * v2)
        p4, v4 = slope(positions + STEP * p3, velocities + STEP * v3)
        positions = positions + STEP / 6 * (p1 + 2 * p2 + 2 * p3 + p4)
        velocities = velocities + STEP / 6 * (v1 + 2 * v2 + 2 * v3 + v4)
        return positions, velocities

    return step


def program(library: Any) -> Any:
    def simulate(positions: Any, velocities: Any, masses: Any, steps: Any) -> Any:
        step = runge_kutta_step(library, masses)
        state, _ = library.lax.scan(lambda state, _: (step(*state), None), (positions, velocities), steps)
        return state

    return simulate


def in_python(step: Callable[..., Any], positions: Any, velocities: Any, steps: Any) -> Any:
    """The loop of the libraries that have none of their own."""
    for _ in range(len(steps)):
        positions, velocities = step(positions, velocities)
    return positions, velocities


def with_numpy(positions: Any, velocities: Any, masses: Any, steps: Any) -> Any:
    return in_python(runge_kutta_step(SimpleNamespace(numpy=numpy), masses), positions, velocities, steps)


def reference(data: Data) -> Any:
    result = with_numpy(*(value.astype(numpy.float64) for value in data.values()))
    return map_arrays(numpy.float32, result)


def with_torch(data: Data, wrap: Callable[..., Any]) -> Callable[[], Any]:
    import torch

    positions, velocities, masses, steps = map(torch_tensors, data.values())
    step = wrap(runge_kutta_step(SimpleNamespace(numpy=torch), masses))
    return lambda: in_python(step, positions, velocities, steps)


row = CallRow(
    name="nbody_scan",
    title="10 bodies, 1000 steps of Runge-Kutta 4 in a scan, float32",
    unit="ms",
    data=data,
    reference=reference,
    sources={**functions(program), **numpy_function(with_numpy), **torch_sources(with_torch)},
    required={BEST: 3.0},
    scaled_tolerance=1e-4,
)
