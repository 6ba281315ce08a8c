"""A cumulative sum, in which every element waits for the one before, unless the work is split cleverly."""

from __future__ import annotations

from typing import Any

import numpy

from benchmarks.libraries import functions, numpy_function, torch_functions
from benchmarks.row import BEST, CallRow, Data


def data(small: bool = False) -> Data:
    return {"x": numpy.random.default_rng(0).standard_normal(100 if small else 10_000_000, numpy.float32)}


def reference(data: Data) -> numpy.ndarray:
    return numpy.cumsum(data["x"], dtype=numpy.float64).astype(numpy.float32)


def torch_sum(x: Any) -> Any:
    import torch

    return torch.cumsum(x, 0)


row = CallRow(
    name="cumulative_sum",
    title="cumulative sum of 10,000,000 float32",
    unit="ms",
    data=data,
    moved_bytes=2 * 4 * 10_000_000,
    reference=reference,
    sources={
        **functions(lambda library: library.numpy.cumsum),
        **numpy_function(numpy.cumsum),
        **torch_functions(torch_sum),
    },
    required={BEST: 2.0},
    # Each of up to ten million additions rounds a sum in the thousands.
    scaled_tolerance=1e-3,
)
