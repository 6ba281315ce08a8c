"""The call of a jitted function of many small arrays, such as the parameters of a model."""

from __future__ import annotations

from typing import Any

import numpy

from benchmarks.libraries import functions
from benchmarks.row import CallRow, Data


def data(small: bool = False) -> Data:
    leaves = {f"leaf{number:02}": numpy.full(4, number, numpy.float32) for number in range(3 if small else 50)}
    return {"leaves": leaves}


def reference(data: Data) -> Any:
    return {name: value + 1 for name, value in data["leaves"].items()}


def program(library: Any) -> Any:
    return lambda leaves: {name: value + 1 for name, value in leaves.items()}


row = CallRow(
    name="jit_call_leaves",
    title="call of a jitted function from a dict of 50 float32 arrays to another",
    unit="µs",
    data=data,
    reference=reference,
    sources=functions(program),
    required={"jax": 4.0},
)
