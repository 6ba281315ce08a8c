"""Ten eager operations on arrays of a size where calls and arithmetic cost about the same."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy

from benchmarks.libraries import functions, numpy_function, torch_functions
from benchmarks.row import CallRow, Data


def data(small: bool = False) -> Data:
    generator = numpy.random.default_rng(0)
    return {name: generator.standard_normal(10 if small else 1000, numpy.float32) for name in ("a", "b")}


def program(library: Any) -> Any:
    np = library.numpy

    def chain(a: Any, b: Any) -> Any:
        difference = a - b
        scaled = 0.5 * difference + a
        bounded = np.tanh(scaled) * b
        return np.exp(bounded * bounded) + np.sqrt(np.abs(a))

    return chain


numpy_chain = program(SimpleNamespace(numpy=numpy))


def torch_chain(a: Any, b: Any) -> Any:
    import torch

    return program(SimpleNamespace(numpy=torch))(a, b)


row = CallRow(
    name="eager_chain",
    title="ten operations on 1,000-element float32 arrays, eager",
    unit="µs",
    data=data,
    reference=lambda data: numpy_chain(*(value.astype(numpy.float64) for value in data.values())).astype(numpy.float32),
    sources={
        **functions(program, jit=False),
        **numpy_function(numpy_chain),
        "torch": torch_functions(torch_chain)["torch"],
    },
    required={"numpy": 1.5},
    compiled=False,
)
