"""One eager operation on large arrays: memory traffic, and what the memory of the result costs."""

from __future__ import annotations

from operator import add

import numpy

from benchmarks.libraries import functions, numpy_function, torch_functions
from benchmarks.row import CallRow, Data


def data(small: bool = False) -> Data:
    generator = numpy.random.default_rng(0)
    return {name: generator.standard_normal(10 if small else 1_000_000, numpy.float32) for name in ("a", "b")}


row = CallRow(
    name="eager_add_million",
    title="a + b on 1,000,000-element float32 arrays, eager",
    unit="µs",
    data=data,
    reference=lambda data: data["a"] + data["b"],
    sources={
        **functions(lambda library: add, jit=False),
        **numpy_function(add),
        "torch": torch_functions(add)["torch"],
    },
    required={"numpy": 1.5},
    compiled=False,
)
