"""A chain of elementwise operations: fused, it reads and writes memory once; unfused, once an operation."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy

from benchmarks.libraries import functions, numpy_function, torch_functions
from benchmarks.row import BEST, CallRow, Data


def data(small: bool = False) -> Data:
    generator = numpy.random.default_rng(0)
    return {"x": 3 * generator.standard_normal(1000 if small else 10_000_000, numpy.float32)}


def program(library: Any) -> Any:
    np = library.numpy

    def gelu(x: Any) -> Any:
        return 0.5 * x * (1 + np.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))

    return gelu


numpy_gelu = program(SimpleNamespace(numpy=numpy))


def reference(data: Data) -> numpy.ndarray:
    return numpy_gelu(data["x"].astype(numpy.float64)).astype(numpy.float32)


def torch_gelu(x: Any) -> Any:
    from torch.nn.functional import gelu

    return gelu(x, approximate="tanh")


row = CallRow(
    name="gelu_chain",
    title="gelu (tanh form, written out) of 10,000,000 float32",
    unit="ms",
    data=data,
    moved_bytes=2 * 4 * 10_000_000,
    reference=reference,
    sources={**functions(program), **numpy_function(numpy_gelu), **torch_functions(torch_gelu)},
    required={BEST: 3.0},
)
