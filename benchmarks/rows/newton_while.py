"""A loop whose length depends on the data, over many elements at once: Newton's method for Kepler's equation."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy

from benchmarks.libraries import functions, numpy_function, torch_sources, torch_tensors
from benchmarks.row import BEST, CallRow, Data

TOLERANCE, LIMIT = 1e-6, 50


def data(small: bool = False) -> Data:
    generator = numpy.random.default_rng(0)
    count = 10 if small else 10_000
    return {
        "anomalies": generator.uniform(0, numpy.pi, count).astype(numpy.float32),
        "eccentricities": generator.uniform(0, 0.8, count).astype(numpy.float32),
    }


def newton_step(library: Any, estimate: Any, anomaly: Any, eccentricity: Any) -> Any:
    """How far Newton's method moves the estimate E in E - e sin(E) = M."""
    np = library.numpy
    error = estimate - eccentricity * np.sin(estimate) - anomaly
    return error / (1 - eccentricity * np.cos(estimate))


def program(library: Any) -> Any:
    np, lax = library.numpy, library.lax

    def solve(anomaly: Any, eccentricity: Any) -> Any:
        def unfinished(state: Any) -> Any:
            _, change, count = state
            return (np.abs(change) > TOLERANCE) & (count < LIMIT)

        def improve(state: Any) -> Any:
            estimate, _, count = state
            change = newton_step(library, estimate, anomaly, eccentricity)
            return estimate - change, change, count + 1

        start = (anomaly, np.full_like(anomaly, np.inf), 0)
        return lax.while_loop(unfinished, improve, start)[0]

    return library.api.vmap(solve)


def in_python(library: Any, step: Callable[..., Any], anomalies: Any, eccentricities: Any) -> Any:
    """The loop of the libraries that have none of their own: until the last element is done."""
    np = library.numpy
    estimates = anomalies
    active = anomalies == anomalies
    for _ in range(LIMIT):
        changes = np.where(active, step(estimates, anomalies, eccentricities), 0)
        estimates = estimates - changes
        active = np.abs(changes) > TOLERANCE
        if not active.any():
            break
    return estimates


def with_numpy(anomalies: Any, eccentricities: Any) -> Any:
    library = SimpleNamespace(numpy=numpy)
    return in_python(library, lambda *operands: newton_step(library, *operands), anomalies, eccentricities)


def reference(data: Data) -> Any:
    return with_numpy(*(value.astype(numpy.float64) for value in data.values())).astype(numpy.float32)


def with_torch(data: Data, wrap: Callable[..., Any]) -> Callable[[], Any]:
    import torch

    library = SimpleNamespace(numpy=torch)
    step = wrap(lambda *operands: newton_step(library, *operands))
    operands = [torch_tensors(value) for value in data.values()]
    return lambda: in_python(library, step, *operands)


row = CallRow(
    name="newton_while",
    title="Newton's method for Kepler's equation in a while_loop, vmapped over 10,000 elements",
    unit="µs",
    data=data,
    reference=reference,
    sources={**functions(program), **numpy_function(with_numpy), **torch_sources(with_torch)},
    required={BEST: 2.0},
    absolute_tolerance=1e-5,
)
