"""Random bits, and the uniform numbers that are made of them."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy

from funcgrad import dtypes
from funcgrad.array import Array, as_array, constant
from funcgrad.primitives import elementwise as e
from funcgrad.primitives.operators import cast
from funcgrad.random.arguments import Shape, broadcasting_shape, checked_dtype, checked_shape
from funcgrad.random.keys import words


def bits(key: Array, shape: Shape = (), dtype: Any = dtypes.uint32) -> Array:
    """Random bits: unsigned integers of which each value is equally likely.

    Arguments:
        key: a random key.
        shape: of the result.
        dtype: uint8, uint16, uint32 or uint64.

    Returns:
        An array of this shape and dtype.

    Raises:
        ArgumentTypeError: if `key` is not a random key.
        DtypeError: if the dtype is not unsigned.

    Example:
        >>> import funcgrad as fg
        >>> fg.random.bits(fg.random.key(0), (2,), fg.uint8)
        Array([167, 146], dtype=uint8)
    """
    return random_bits("bits", key, checked_shape("bits", shape), checked_dtype("bits", dtype, "unsigned"))


def random_bits(name: str, key: Any, shape: tuple[int, ...], dtype: numpy.dtype) -> Array:
    """`bits` with checked arguments, for the function called `name`."""
    first, second = words(name, key, shape)
    if dtype is dtypes.uint64:
        upper = e.shift_left(cast(first, dtype), constant(32, dtype))
        return e.or_(upper, cast(second, dtype))
    return cast(e.xor(first, second), dtype)


def uniform(key: Array, shape: Shape = (), dtype: Any = dtypes.float32, minval: Any = 0.0, maxval: Any = 1.0) -> Array:
    """Uniform random numbers from `minval`, inclusive, to `maxval`, exclusive.

    Before scaling they are multiples of 2**-23 in float32 (2**-52 in float64, 2**-10 in float16; bfloat16 has but 128
    values, so draw in float32 and convert where that is too coarse).

    Arguments:
        key: a random key.
        shape: of the result.
        dtype: a floating dtype.
        minval, maxval: numbers, or arrays that broadcast to the shape. The result is differentiable in both.

    Returns:
        An array of this shape and dtype.

    Raises:
        ArgumentTypeError: if `key` is not a random key.
        DtypeError: if the dtype is not floating.
        ShapeError: if the bounds do not broadcast to the shape.

    Example:
        >>> import funcgrad as fg
        >>> fg.random.uniform(fg.random.key(0), (3,), minval=-1.0)
        Array([ 0.895334  ,  0.95715976, -0.33541703], dtype=float32)
    """
    return uniform_between(
        "uniform", key, checked_shape("uniform", shape), checked_dtype("uniform", dtype), minval, maxval
    )


def uniform_between(name: str, key: Any, shape: tuple[int, ...], dtype: numpy.dtype, minval: Any, maxval: Any) -> Array:
    """`uniform` with checked arguments, for the function called `name`."""
    # As many random bits as the fraction of the dtype has. An integer that small converts exactly, and so does its
    # product with a power of two: no rounding yet.
    fraction = ml_dtypes.finfo(dtype).nmant
    width = 8 if fraction < 8 else dtype.itemsize * 8
    unsigned = dtypes.canonical(f"uint{width}")
    integers = e.shift_right_logical(random_bits(name, key, shape, unsigned), constant(width - fraction, unsigned))
    unit = e.mul(cast(integers, dtype), constant(2.0**-fraction, dtype))

    if isinstance(minval, (int, float)) and isinstance(maxval, (int, float)):
        with numpy.errstate(over="ignore", invalid="ignore"):
            low = numpy.array(minval, dtype)
            span = numpy.array(maxval, dtype) - low
        exact = math.frexp(float(span))[0] == 0.5  # a power of two only moves the exponent
        ordered = bool(span >= 0)
        unit_span, at_zero = bool(span == 1), not low
        low, span = constant(float(low), dtype), constant(float(span), dtype)
    else:
        low, high = (cast(as_array(x), dtype) for x in (minval, maxval))
        broadcasting_shape(name, shape, low, high)
        span = e.sub(high, low)
        exact = ordered = unit_span = at_zero = False
    if exact or dtype.itemsize == 2:
        result = unit if unit_span else e.mul(unit, span)
        result = result if at_zero else e.add(result, low)
    else:
        result = _multiply_add(unit, span, low)
    return result if ordered else e.max_(result, low)


def _multiply_add(x: Array, y: Array, z: Array) -> Array:
    """x * y + z with one rounding, for x in [0, 1): what processors do in one instruction and compilers make of it.

    Written out, so that eager and compiled code, on any processor, give the same numbers.
    """
    if x.dtype is dtypes.float32:
        x, y, z = (cast(v, dtypes.float64) for v in (x, y, z))
        return cast(e.add(e.mul(x, y), z), dtypes.float32)
    # Error-free transformations: the rounding errors of the product and of the sum are float64 numbers themselves.
    # Source: T. J. Dekker, "A floating-point technique for extending the available precision" (1971).
    product = x * y
    result = product + z
    x1, x2 = _split_float(x)
    y1, y2 = (part * 2.0**30 for part in _split_float(y * 2.0**-30))  # scaled, since splitting multiplies by 2**27
    of_product = ((x1 * y1 - product) + x1 * y2 + x2 * y1) + x2 * y2
    z_seen = result - product
    of_sum = (product - (result - z_seen)) + (z - z_seen)
    return result + e.stop_gradient(of_product + of_sum)


def _split_float(x: Array) -> tuple[Array, Array]:
    """A float64 number as a sum of two with 26 bits each, whose products are exact."""
    scaled = x * (2.0**27 + 1)
    upper = scaled - (scaled - x)
    return upper, x - upper
