"""Prices of options: many transcendental functions for every element that is read."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy

from benchmarks.libraries import functions, numpy_function, torch_functions
from benchmarks.row import BEST, CallRow, Data

RATE, VOLATILITY = 0.02, 0.3


def data(small: bool = False) -> Data:
    generator = numpy.random.default_rng(0)
    count = 1000 if small else 4_000_000
    bounds = {"spot": (10, 50), "strike": (10, 50), "years": (0.2, 2)}
    return {name: generator.uniform(*bound, count).astype(numpy.float32) for name, bound in bounds.items()}


def black_scholes(library: Any) -> Any:
    """The prices of a call and a put; for all libraries. `library.lax` has erf."""
    np, lax = library.numpy, library.lax

    def normal_cdf(x: Any) -> Any:
        return 0.5 * (1 + lax.erf(x * 0.7071067811865476))

    def prices(spot: Any, strike: Any, years: Any) -> Any:
        deviation = VOLATILITY * np.sqrt(years)
        first = (np.log(spot / strike) + (RATE + VOLATILITY**2 / 2) * years) / deviation
        discounted = strike * np.exp(-RATE * years)
        call = spot * normal_cdf(first) - discounted * normal_cdf(first - deviation)
        return call, call - spot + discounted

    return prices


def with_numpy(spot: Any, strike: Any, years: Any) -> Any:
    from scipy import special

    return black_scholes(SimpleNamespace(numpy=numpy, lax=special))(spot, strike, years)


def with_torch(spot: Any, strike: Any, years: Any) -> Any:
    import torch

    return black_scholes(SimpleNamespace(numpy=torch, lax=torch))(spot, strike, years)


def reference(data: Data) -> Any:
    call, put = with_numpy(*(value.astype(numpy.float64) for value in data.values()))
    return call.astype(numpy.float32), put.astype(numpy.float32)


row = CallRow(
    name="black_scholes",
    title="Black-Scholes prices of 4,000,000 calls and puts, float32",
    unit="ms",
    data=data,
    moved_bytes=5 * 4 * 4_000_000,
    reference=reference,
    sources={**functions(black_scholes), **numpy_function(with_numpy), **torch_functions(with_torch)},
    required={BEST: 1.5},
    # A price is a difference of numbers up to 50, in which float32 has steps of 4e-6.
    absolute_tolerance=5e-5,
)
