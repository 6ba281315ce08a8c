"""Evenly spaced numbers: arange, linspace, logspace, geomspace."""

from __future__ import annotations

import math
from typing import Any

import numpy

from funcgrad import dtypes
from funcgrad.array import Array, ConcreteArray, as_array
from funcgrad.core import Tracer, current_interpreter, ground
from funcgrad.devices import Device
from funcgrad.errors import ArgumentError, DtypeError, TracedValueError
from funcgrad.numpy.axes import normalize_axis
from funcgrad.numpy.dtype_functions import astype
from funcgrad.numpy.placement import device_put
from funcgrad.primitives import elementwise as e
from funcgrad.primitives.movement import iota
from funcgrad.primitives.operators import promote_inexact
from funcgrad.primitives.shapes import broadcast_to, move_axis, reshape

_PLAIN_NUMBERS: Any = (bool, int, float, complex, numpy.generic)


def arange(start: Any, stop: Any = None, step: Any = None, dtype: Any = None, *, device: Device | None = None) -> Array:
    """Numbers from `start` up to but without `stop`, `step` apart.

    Arguments:
        start: the first number; where it is given alone it is `stop`, and the first number is 0.
        stop, step: the end, and the distance, 1 by default. How many numbers there are depends on all three, so they
            are numbers or arrays with known values.
        dtype: by default that of the numbers: int32 for Python ints, float32 for floats.
        device: where to put it.

    Returns:
        Shape (ceil((stop - start) / step),).

    Raises:
        TracedValueError: if an argument has no value while the function is traced.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.arange(1, 10, 3)
        Array([1, 4, 7], dtype=int32)
    """
    if stop is None:
        start, stop = 0, start
    step = 1 if step is None else step
    for value in (start, stop, step):
        if isinstance(value, Tracer):
            raise TracedValueError(
                "arange makes as many elements as its arguments say, and one of them is traced; "
                "make it static (static_argnums), or take a part of a longer range with fg.numpy.where."
            )
    found = dtypes.canonical(dtype) if dtype is not None else dtypes.result_type(start, stop, step)
    start, stop, step = (
        x.item() if isinstance(x, (Array, numpy.generic, numpy.ndarray)) else x for x in (start, stop, step)
    )
    if step == 0:
        raise ArgumentError("arange got step=0; give the distance between the numbers, or use linspace.")
    if dtypes.is_bool(found) or isinstance(start, complex) or isinstance(stop, complex) or isinstance(step, complex):
        raise DtypeError("arange counts with integers or floats; give it a dtype that is one.")
    if current_interpreter() is ground:
        wide = dtypes.float32 if found.itemsize == 2 and dtypes.is_floating(found) else found
        result: Array = ConcreteArray(numpy.arange(start, stop, step, dtype=wide).astype(found, copy=False))
    else:
        length = max(math.ceil((stop - start) / step), 0)
        result = iota(shape=(length,), dtype=found, axis=0)
        if step != 1:
            result = e.mul(result, e.full((), step, found))
        if start != 0:
            result = e.add(result, e.full((), start, found))
    return result if device is None else device_put(result, device)


def linspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: Any = None,
    axis: int = 0,
    *,
    device: Device | None = None,
) -> Any:
    """`num` evenly spaced numbers from `start` to `stop`.

    Arguments:
        start, stop: numbers or arrays, which broadcast.
        num: how many.
        endpoint: whether `stop` is the last of them.
        retstep: whether to give the distance as well.
        dtype: by default the floating dtype of the ends.
        axis: which axis of the result runs along the range, where the ends are arrays.
        device: where to put it.

    Returns:
        Shape (num,), or with arrays (num, ...); with `retstep` a pair of that and the distance.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.linspace(0, 1, 5)
        Array([0.  , 0.25, 0.5 , 0.75, 1.  ], dtype=float32)
    """
    if num < 0:
        raise ArgumentError(f"linspace got num={num}; the number of elements cannot be negative.")
    wanted = None if dtype is None else dtypes.canonical(dtype)
    parts = num - 1 if endpoint else num
    if isinstance(start, _PLAIN_NUMBERS) and isinstance(stop, _PLAIN_NUMBERS):
        found = dtypes.to_floating(dtypes.result_type(start, stop))
        values = numpy.linspace(start, stop, num, endpoint)
        result = ConcreteArray(_converted(values, wanted or found))
        distance = as_array((stop - start) / parts if parts > 0 else math.nan)
    else:
        low, high = promote_inexact(start, stop)
        shape = e.broadcast_shape("linspace", low, high)
        axis = normalize_axis("linspace", axis, len(shape) + 1)
        low, high = (reshape(broadcast_to(x, shape), shape=(1, *shape)) for x in (low, high))
        # Weights that are exactly 0 and 1 at the ends, so that the ends come out exactly.
        weights = numpy.arange(num) / max(parts, 1)
        weight = ConcreteArray(weights.reshape(num, *(1,) * len(shape)).astype(low.dtype))
        result = e.add(e.mul(low, e.sub(e.full((), 1, low.dtype), weight)), e.mul(high, weight))
        result = move_axis(result, 0, axis)
        distance = reshape((high - low) / parts if parts > 0 else (high - low) * math.nan, shape=shape)
        if wanted is not None:
            result = astype(e.floor(result) if dtypes.is_integer(wanted) else result, wanted)
    if device is not None:
        result = device_put(result, device)
    return (result, distance) if retstep else result


def _converted(values: numpy.ndarray, dtype: numpy.dtype) -> numpy.ndarray:
    # Down, not towards zero, as NumPy's linspace converts to integers.
    return (numpy.floor(values) if dtypes.is_integer(dtype) else values).astype(dtype)


def logspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    base: Any = 10.0,
    dtype: Any = None,
    axis: int = 0,
) -> Array:
    """`num` numbers from base**start to base**stop, whose logarithms are evenly spaced; arguments as for `linspace`.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.logspace(0, 2, 3)
        Array([  1.,  10., 100.], dtype=float32)
    """
    if all(isinstance(x, _PLAIN_NUMBERS) for x in (start, stop, base)):
        found = dtypes.to_floating(dtypes.result_type(start, stop, base)) if dtype is None else dtypes.canonical(dtype)
        return ConcreteArray(numpy.logspace(start, stop, num, endpoint, base).astype(found))
    exponents, base = promote_inexact(linspace(start, stop, num, endpoint, axis=axis), base)
    result = e.pow_(base, exponents)
    return result if dtype is None else astype(result, dtype)


def geomspace(start: Any, stop: Any, num: int = 50, endpoint: bool = True, dtype: Any = None, axis: int = 0) -> Array:
    """`num` numbers from `start` to `stop`, each the same multiple of the one before; arguments as for `linspace`.

    Raises:
        ArgumentError: if an end is zero.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.geomspace(1, 8, 4)
        Array([1., 2., 4., 8.], dtype=float32)
    """
    if isinstance(start, _PLAIN_NUMBERS) and isinstance(stop, _PLAIN_NUMBERS):
        if start == 0 or stop == 0:
            raise ArgumentError("geomspace multiplies its way from start to stop, so neither can be zero.")
        found = dtypes.to_floating(dtypes.result_type(start, stop)) if dtype is None else dtypes.canonical(dtype)
        return ConcreteArray(numpy.geomspace(start, stop, num, endpoint).astype(found))
    low, high = promote_inexact(start, stop)
    shape = e.broadcast_shape("geomspace", low, high)
    low, high = broadcast_to(low, shape), broadcast_to(high, shape)
    axis = normalize_axis("geomspace", axis, len(shape) + 1)
    # start * (stop / start)**t keeps the sign of the ends.
    exponents = linspace(e.zeros_like(low), e.log(e.div(high, low)), num, endpoint)
    result = move_axis(e.mul(reshape(low, shape=(1, *shape)), e.exp(exponents)), 0, axis)
    return result if dtype is None else astype(result, dtype)


__all__ = ["arange", "geomspace", "linspace", "logspace"]
