"""Sorting, where the best peer is NumPy with the vector instructions of the CPU."""

from __future__ import annotations

from typing import Any

import numpy

from benchmarks.libraries import functions, numpy_function, torch_functions
from benchmarks.row import BEST, CallRow, Data


def data(small: bool = False) -> Data:
    return {"x": numpy.random.default_rng(0).standard_normal(100 if small else 1_000_000, numpy.float32)}


def torch_sort(x: Any) -> Any:
    import torch

    return torch.sort(x).values


row = CallRow(
    name="sort",
    title="sort of 1,000,000 float32",
    unit="ms",
    data=data,
    reference=lambda data: numpy.sort(data["x"]),
    # torch.compile calls PyTorch's own sort.
    sources={
        **functions(lambda library: library.numpy.sort),
        **numpy_function(numpy.sort),
        "torch": torch_functions(torch_sort)["torch"],
    },
    required={BEST: 1.0},
    relative_tolerance=0.0,
    absolute_tolerance=0.0,
)
