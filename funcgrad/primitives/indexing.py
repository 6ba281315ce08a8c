"""Writing to elements at given positions: scatter_set, scatter_mul, scatter_min, scatter_max.

Axes, indices and modes are those of `gather` and `scatter_add`, which live in `gathering` and are offered here too.
Where a position is named more than once, products, minima and maxima take in all updates; of several replacements the
last one stands, and it alone has a derivative.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy

from funcgrad import dtypes
from funcgrad.array import Array
from funcgrad.core import Primitive
from funcgrad.primitives.counting import iota, positions
from funcgrad.primitives.elementwise import (
    add,
    add_tangents,
    and_,
    convert,
    div,
    eq,
    full,
    ge,
    instantiate,
    is_linear,
    is_nan,
    max_,
    min_,
    mul,
    or_,
    select,
    sub,
    zeros_like,
)
from funcgrad.primitives.gathering import (
    READ_OF_WRITE,
    gather,
    over_left_axes,
    scatter_abstract,
    scatter_add,
    scatter_batch,
    scatter_evaluate,
    take_along,
)
from funcgrad.primitives.shapes import reshape
from funcgrad.primitives.sorting import sort

# scatter_set


def _set_jvp(primals, tangents, **params):
    x, updates, *indices = primals
    s, t = instantiate(tangents[0], x), instantiate(tangents[1], updates)
    return scatter_set(*primals, **params), scatter_set(s, t, *indices, **params)


def _set_transpose(cotangent, x, updates, *indices, axes, mode):
    params: dict[str, Any] = {"axes": axes, "mode": mode}
    of_x = scatter_set(cotangent, zeros_like(updates), *indices, **params) if is_linear(x) else None
    of_updates = None
    if is_linear(updates):
        of_updates = gather(cotangent, *indices, axes=axes, mode=READ_OF_WRITE[mode])
        if indices and math.prod(indices[0].shape) != 1:
            last = _is_last(indices, tuple(x.shape[axis] for axis in axes), mode)
            of_updates = select(over_left_axes(last, of_updates.shape), of_updates, zeros_like(of_updates))
    return [of_x, of_updates, *[None] * len(indices)]


def _is_last(indices: Sequence[Array], lengths: tuple[int, ...], mode: str) -> Array:
    """Where an update is the last one of its position, found by letting the updates' numbers be written."""
    numbers, axes = positions(indices[0].shape), tuple(range(len(lengths)))
    written = scatter_set(full(lengths, -1, dtypes.int32), numbers, *indices, axes=axes, mode=mode)
    return eq(gather(written, *indices, axes=axes, mode=READ_OF_WRITE[mode]), numbers)


scatter_set = Primitive(
    "scatter_set",
    abstract=scatter_abstract("scatter_set", accepts_bool=True),
    evaluate=scatter_evaluate(None),
    jvp=_set_jvp,
    transpose=_set_transpose,
    batch=scatter_batch(lambda: scatter_set),
)

# scatter_mul


def _mul_jvp(primals, tangents, *, axes, mode):
    (x, updates, *indices), (s, t, *_) = primals, tangents
    params: dict[str, Any] = {"axes": axes, "mode": mode}
    tangent = None if s is None else scatter_mul(s, updates, *indices, **params)
    if t is not None:
        others = gather(x, *indices, axes=axes, mode=READ_OF_WRITE[mode])
        if indices and math.prod(indices[0].shape) > 1:
            others = mul(others, _product_of_others(updates, indices, tuple(x.shape[axis] for axis in axes), mode))
        tangent = add_tangents(tangent, scatter_add(zeros_like(x), mul(t, others), *indices, **params))
    return scatter_mul(*primals, **params), tangent


def _product_of_others(updates: Array, indices: Sequence[Array], lengths: tuple[int, ...], mode: str) -> Array:
    """For each update, the product of all other updates of the same position.

    Not the product of all divided by the update, which could be zero. Sorted by position, the updates of one position
    stand side by side, and the others of each are those before it and those after it. Their products come from
    doubling: after k steps each place holds the product of the 2**k places up to it, as far as they share its position.
    """
    shape, count = updates.shape, math.prod(indices[0].shape)
    keys = [reshape(index, shape=(count,)) for index in indices]
    if mode != "drop":  # indices that are clipped to one position have that position
        bounds = [(full((), 0, k.dtype), full((), n - 1, k.dtype)) for k, n in zip(keys, lengths, strict=True)]
        keys = [min_(max_(key, low), high) for key, (low, high) in zip(keys, bounds, strict=True)]
    numbers = iota(shape=(count,), dtype=dtypes.int32, axis=0)
    *keys, order = sort(*keys, numbers, axis=0, num_keys=len(keys))
    rest = shape[indices[0].ndim :]
    x = gather(reshape(updates, shape=(count, *rest)), order, axes=(0,), mode="promise_in_bounds")
    one = full((), 1, x.dtype)

    def neighbours(step: int) -> tuple[Array, Array]:
        """The place `step` before each, and whether it holds an update of the same position."""
        place = sub(numbers, full((), step, dtypes.int32))
        same = ge(place, full((), 0, dtypes.int32)) if step > 0 else ge(full((), count - 1, dtypes.int32), place)
        for key in keys:
            same = and_(same, eq(key, gather(key, place, axes=(0,), mode="clip")))
        return place, reshape(same, shape=(count, *(1,) * len(rest)))

    def product_towards(direction: int) -> Array:
        product, step = x, 1
        while step < count:
            place, same = neighbours(step * direction)
            product = mul(product, select(same, gather(product, place, axes=(0,), mode="clip"), one))
            step *= 2
        place, same = neighbours(direction)
        return select(same, gather(product, place, axes=(0,), mode="clip"), one)

    others = mul(product_towards(1), product_towards(-1))
    back = scatter_set(zeros_like(order), numbers, order, axes=(0,), mode="promise_in_bounds")
    return reshape(gather(others, back, axes=(0,), mode="promise_in_bounds"), shape=shape)


def _mul_transpose(cotangent, x, updates, *indices, **params):
    return [scatter_mul(cotangent, updates, *indices, **params), None, *[None] * len(indices)]


scatter_mul = Primitive(
    "scatter_mul",
    abstract=scatter_abstract("scatter_mul", accepts_bool=False),
    evaluate=scatter_evaluate(numpy.multiply, accepts_bool=False),
    jvp=_mul_jvp,
    transpose=_mul_transpose,
    batch=scatter_batch(lambda: scatter_mul),
)

# scatter_min and scatter_max


def same_value(x: Array, y: Array) -> Array:
    """Where two arrays are equal, NaN to NaN as well."""
    return or_(eq(x, y), and_(is_nan(x), is_nan(y)))


def _extremum(name: str, ufunc: numpy.ufunc) -> Primitive:
    """Whoever equals the result shares the tangent equally: what was there before, and the updates."""

    def jvp(primals, tangents, *, axes, mode):
        (x, updates, *indices), (s, t, *_) = primals, tangents
        params: dict[str, Any] = {"axes": axes, "mode": mode}
        result = primitive(*primals, **params)
        old = convert(same_value(x, result), dtype=x.dtype)
        there = gather(result, *indices, axes=axes, mode=READ_OF_WRITE[mode])
        new = convert(same_value(updates, there), dtype=x.dtype)
        total = scatter_add(old, new, *indices, **params)
        tangent = None if s is None else mul(s, div(old, total))
        if t is not None:
            # At least one, so that nothing is divided by the zero that is read for an update that is dropped.
            winners = max_(gather(total, *indices, axes=axes, mode=READ_OF_WRITE[mode]), full((), 1, x.dtype))
            share = div(new, winners)
            moved = scatter_add(zeros_like(x), mul(t, share), *indices, **params)
            tangent = moved if tangent is None else add(tangent, moved)
        return result, tangent

    primitive = Primitive(
        name,
        abstract=scatter_abstract(name, accepts_bool=True),
        evaluate=scatter_evaluate(ufunc),
        jvp=jvp,
        batch=scatter_batch(lambda: primitive),
    )
    return primitive


scatter_min = _extremum("scatter_min", numpy.minimum)
scatter_max = _extremum("scatter_max", numpy.maximum)

__all__ = [
    "gather",
    "same_value",
    "scatter_add",
    "scatter_max",
    "scatter_min",
    "scatter_mul",
    "scatter_set",
    "take_along",
]
