"""iota: the numbers 0, 1, 2, ... along an axis, made from nothing; other primitives count positions with it."""

from __future__ import annotations

import math

import numpy

from funcgrad import dtypes
from funcgrad.array import AbstractArray, Array
from funcgrad.core import Primitive
from funcgrad.errors import DtypeError, ShapeError
from funcgrad.primitives.shapes import reshape


def _abstract(*, shape, dtype, axis):
    if not 0 <= axis < len(shape) or any(length < 0 for length in shape):
        raise ShapeError(f"iota cannot count along axis {axis} of the shape {tuple(shape)}; name one of its axes.")
    if dtypes.is_bool(dtype):
        raise DtypeError("iota counts, and a bool cannot; choose an integer or floating dtype.")
    return AbstractArray(tuple(shape), dtype)


def _evaluate(*, shape, dtype, axis):
    if axis < 0 or dtype.kind == "b":
        raise ValueError("no such axis or dtype")
    numbers = numpy.arange(shape[axis]).astype(dtype, copy=False)
    if len(shape) == 1:
        return numbers
    return numpy.broadcast_to(numbers.reshape(-1, *(1,) * (len(shape) - axis - 1)), shape)


iota = Primitive("iota", abstract=_abstract, evaluate=_evaluate)


def positions(shape: tuple[int, ...]) -> Array:
    """The number of each element of an array of this shape, counted row by row; int32."""
    from_start = iota(shape=(math.prod(shape),), dtype=dtypes.int32, axis=0)
    return from_start if len(shape) == 1 else reshape(from_start, shape=shape)
