"""One eager operation on small arrays: nearly all of it is the library's overhead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

from benchmarks.row import CallRow, Data


def data(small: bool = False) -> Data:
    generator = numpy.random.default_rng(0)
    return {name: generator.standard_normal(100).astype(numpy.float32) for name in ("a", "b")}


def reference(data: Data) -> numpy.ndarray:
    return data["a"] + data["b"]


def with_funcgrad(data: Data) -> Callable[[], Any]:
    import funcgrad as fg

    a, b = fg.array(data["a"]), fg.array(data["b"])
    return lambda: a + b


def with_numpy(data: Data) -> Callable[[], Any]:
    a, b = data["a"], data["b"]
    return lambda: a + b


def with_jax(data: Data) -> Callable[[], Any]:
    import jax.numpy

    a, b = jax.numpy.asarray(data["a"]), jax.numpy.asarray(data["b"])
    return lambda: (a + b).block_until_ready()


def with_torch(data: Data) -> Callable[[], Any]:
    import torch

    a, b = torch.from_numpy(data["a"]), torch.from_numpy(data["b"])
    return lambda: a + b


row = CallRow(
    name="eager_add",
    title="a + b on 100-element float32 arrays, eager",
    unit="µs",
    data=data,
    compiled=False,
    reference=reference,
    sources={"funcgrad": with_funcgrad, "numpy": with_numpy, "jax": with_jax, "torch": with_torch},
    required={"numpy": 1.5},
)
