"""The call of a jitted function that does next to nothing: the way in and out of compiled code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

from benchmarks.row import CallRow, Data


def data(small: bool = False) -> Data:
    return {"x": numpy.array(2.5, numpy.float32)}


def reference(data: Data) -> numpy.ndarray:
    return data["x"] + numpy.float32(1)


def with_funcgrad(data: Data) -> Callable[[], Any]:
    import funcgrad as fg

    x = fg.array(data["x"])
    add_one = fg.jit(lambda x: x + 1)
    return lambda: add_one(x)


def with_jax(data: Data) -> Callable[[], Any]:
    import jax
    import jax.numpy

    x = jax.numpy.asarray(data["x"])
    add_one = jax.jit(lambda x: x + 1)
    return lambda: add_one(x).block_until_ready()


row = CallRow(
    name="jit_call_scalar",
    title="call of the jitted x + 1 on a float32 scalar",
    unit="µs",
    data=data,
    reference=reference,
    sources={"funcgrad": with_funcgrad, "jax": with_jax},
    required={"jax": 5.0},
)
