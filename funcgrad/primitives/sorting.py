"""sort: one or more arrays, brought into the order of the first of them.

All operands have one shape and are permuted together, so that sorting a column of numbers along with the keys gives the
order itself. Later keys decide where earlier ones are equal, and where all keys are, the old order stays. NaN is larger
than any number.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy

from funcgrad import dtypes
from funcgrad.array import AbstractArray
from funcgrad.core import Primitive
from funcgrad.devices import array_module
from funcgrad.errors import ShapeError
from funcgrad.primitives.counting import iota
from funcgrad.primitives.gathering import take_along
from funcgrad.primitives.shapes import to_front


def _abstract(*operands, axis, num_keys):
    if not 1 <= num_keys <= len(operands):
        raise ShapeError(f"sort got {len(operands)} operands of which {num_keys} are keys; name at least one key.")
    shape = tuple(operands[0].shape)
    if any(tuple(x.shape) != shape for x in operands):
        shapes = " and ".join(str(tuple(x.shape)) for x in operands)
        raise ShapeError(f"sort got operands of shapes {shapes}; they are permuted together, so they need one shape.")
    if not 0 <= axis < len(shape):
        raise ShapeError(f"sort got axis {axis} for an array of shape {shape}; name an axis that it has.")
    return [AbstractArray(shape, x.dtype) for x in operands]


def _evaluate(*operands, axis, num_keys):
    first = operands[0]
    if axis < 0 or not 1 <= num_keys <= len(operands) or any(x.shape != first.shape for x in operands):
        raise ValueError("operands do not fit")
    module = array_module(first)
    if len(operands) == 1:
        if first.dtype is dtypes.bfloat16:  # whose own comparison does not know where to put NaN
            return [module.sort(first.astype(numpy.float32), axis=axis).astype(first.dtype)]
        return [module.sort(first, axis=axis)]
    order = None
    for key in reversed(operands[:num_keys]):
        if key.dtype is dtypes.bfloat16:
            key = key.astype(numpy.float32)
        if order is not None:
            key = module.take_along_axis(key, order, axis)
        step = module.argsort(key, axis=axis, kind="stable")
        order = step if order is None else module.take_along_axis(order, step, axis)
    return [module.take_along_axis(x, order, axis) for x in operands]


def _jvp(primals, tangents, *, axis, num_keys):
    numbers = iota(shape=primals[0].shape, dtype=dtypes.int32, axis=axis)
    *results, order = sort(*primals, numbers, axis=axis, num_keys=num_keys)
    return results, [None if t is None else take_along(t, order, axis) for t in tangents]


def _batch(size, operands, batch_axes, *, axis, num_keys):
    fronted: list[Any] = list(map(partial(to_front, size=size), operands, batch_axes))
    return sort(*fronted, axis=axis + 1, num_keys=num_keys), [0] * len(operands)


sort = Primitive("sort", abstract=_abstract, evaluate=_evaluate, jvp=_jvp, batch=_batch, multiple_results=True)
