"""Buffers for random Programs: plain numbers, and at moderate probability all that floats and memory have in store."""

from __future__ import annotations

import math

import numpy

from funcgrad import dtypes
from funcgrad.testing.random_programs.choices import Choices

LENGTHS = (1, 2, 2, 3, 3, 4, 5, 7, 8, 9, 16, 17, 33, 65, 130)
"""Lengths of axes: short ones, and what lies around the widths of vectors."""

MOST_ELEMENTS = 4000
"""No array of a random Program is larger, but for those that are made of `LONG` axes."""

LONG = (4099, 40000)
"""Lengths that only one-dimensional arrays have, enough to be divided among threads."""

STYLES = ("whole", "plain", "plain", "plain", "wide", "special", "special")
LAYOUTS = ("rows", "rows", "rows", "rows", "columns", "stepped", "reversed", "repeated", "offset", "unaligned")


def random_buffer(choices: Choices, shape: tuple[int, ...], dtype: numpy.dtype) -> numpy.ndarray:
    """A buffer of a shape and dtype, its values of some style and its memory in some layout."""
    generator = numpy.random.default_rng(choices.integer(0, 2**32 - 1))
    style, layout = choices.pick(STYLES), choices.pick(LAYOUTS)
    return laid_out(random_values(generator, shape, dtype, style), layout)


def random_values(
    generator: numpy.random.Generator, shape: tuple[int, ...], dtype: numpy.dtype, style: str
) -> numpy.ndarray:
    """Values of one style: "whole" numbers, "plain" floats, of a "wide" range, or with "special" ones in between."""
    if dtypes.is_bool(dtype):
        return generator.integers(0, 2, shape).astype(bool)
    if dtypes.is_integer(dtype):
        low = 0 if dtype.kind == "u" else -4
        values = generator.integers(low, 7, shape)
        if style == "wide":
            limits = numpy.iinfo(dtype)
            return generator.integers(limits.min, limits.max, shape, dtype, endpoint=True)
        if style == "special":
            limits = numpy.iinfo(dtype)
            extremes = generator.choice(numpy.array([limits.min, limits.max, 0, 1], dtype), shape)
            return numpy.where(generator.random(shape) < 0.5, values.astype(dtype), extremes)
        return values.astype(dtype)
    if dtypes.is_complex(dtype):
        parts = [random_values(generator, shape, dtypes.real_of(dtype), style) for _ in range(2)]
        result = numpy.empty(shape, dtype)
        result.real, result.imag = parts
        return result
    with numpy.errstate(all="ignore"):
        if style == "whole":
            return (generator.integers(0, 5, shape) * generator.choice([1.0, -1.0], shape)).astype(dtype)
        values = generator.normal(size=shape) * 2
        if style == "wide":
            values *= 10.0 ** generator.integers(-4, 5, shape)
        if style == "special":
            tiny = {2: 2.0**-20, 4: 2.0**-140, 8: 2.0**-1060}[dtype.itemsize]
            tiny = 2.0**-130 if dtype is dtypes.bfloat16 else tiny
            largest = 6e4 if dtype is dtypes.float16 else 1e300 if dtype.itemsize == 8 else 3e38
            unusual = [0.0, -0.0, math.inf, -math.inf, math.nan, 1.0, -1.0, tiny, -tiny, largest]
            values = numpy.where(generator.random(shape) < 0.7, values, generator.choice(unusual, shape))
        return numpy.asarray(values).astype(dtype)


def laid_out(values: numpy.ndarray, layout: str) -> numpy.ndarray:
    """The same values in a buffer that lies in memory in another way ("repeated" repeats the first of an axis)."""
    values = numpy.ascontiguousarray(values).reshape(values.shape)
    shape = values.shape
    if layout == "unaligned":
        memory = numpy.empty(values.nbytes + 1, numpy.uint8)
        found = numpy.ndarray(shape, values.dtype, memory, 1)
        found[...] = values
        return found
    if not shape or layout == "rows":
        return values
    if layout == "columns":
        return numpy.asfortranarray(values)
    if layout == "stepped":
        wide = numpy.zeros((*shape[:-1], 2 * shape[-1]), values.dtype)
        wide[..., ::2] = values
        return wide[..., ::2]
    if layout == "reversed":
        return numpy.ascontiguousarray(values[::-1])[::-1]
    if layout == "repeated":
        return numpy.broadcast_to(values[:1], shape)
    assert layout == "offset"
    longer = numpy.zeros((shape[0] + 1, *shape[1:]), values.dtype)
    longer[1:] = values
    return longer[1:]
