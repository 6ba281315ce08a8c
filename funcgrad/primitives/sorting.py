"""sort: one or more arrays, brought into the order of the first of them; top_k: the largest elements and their places.

All operands have one shape and are permuted together, so that sorting a column of numbers along with the keys gives the
order itself. Later keys decide where earlier ones are equal, and where all keys are, the old order stays. NaN is larger
than any number.
"""

from __future__ import annotations

import math
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
        # NumPy's comparison of bfloat16 does not know where to put NaN, and that of float16 puts the smallest negative
        # numbers behind zero.
        if first.dtype is dtypes.bfloat16 or first.dtype is dtypes.float16:
            return [module.sort(first.astype(numpy.float32), axis=axis).astype(first.dtype)]
        return [module.sort(first, axis=axis)]
    order = None
    for key in reversed(operands[:num_keys]):
        if key.dtype is dtypes.bfloat16:
            key = key.astype(numpy.float32)
        if order is not None:
            key = key.take(order)
        step = _flat_places(module, _stable_order(module, key, axis), axis)
        order = step if order is None else order.take(step)
    return [x.take(order) for x in operands]


def _flat_places(module: Any, order: Any, axis: int) -> Any:
    """From places along an axis to places in the flattened array, which `take` reads at once."""
    if order.ndim == 1:
        return order
    places = order * math.prod(order.shape[axis + 1 :])
    for other in range(order.ndim):
        if other != axis and order.shape[other] > 1:
            steps = module.arange(order.shape[other]) * math.prod(order.shape[other + 1 :])
            places += steps.reshape(-1, *(1,) * (order.ndim - other - 1))
    return places


MANY = 256  # elements, from which on the packing below is quicker


def _stable_order(module: Any, key: Any, axis: int) -> Any:
    """The places of the elements in sorted order, equal ones in the order in which they are.

    Sorting values is many times quicker than sorting places, so a key of at most 32 bits is packed with its place into
    one 64-bit integer: bits that compare as the key does above, the place below.
    """
    if module is not numpy or key.dtype.itemsize > 4 or key.size < MANY:
        return module.argsort(key, axis=axis, kind="stable")
    bits = key
    if key.dtype.kind == "f":
        key = key.astype(numpy.float32) + numpy.float32(0)  # for minus zero, which equals zero
        bits = key.view(numpy.uint32)
        bits = numpy.where(bits >> 31, ~bits, bits | numpy.uint32(1 << 31))  # negative ones the other way round
        bits[numpy.isnan(key)] = 0xFFFFFFFF
    elif key.dtype.kind == "i":
        bits = key.astype(numpy.uint32) ^ numpy.uint32(1 << 31)
    packed = bits.astype(numpy.uint64)
    packed <<= 32
    packed |= numpy.arange(key.shape[axis], dtype=numpy.uint64).reshape(-1, *(1,) * (key.ndim - axis - 1))
    packed.sort(axis=axis)
    packed &= 0xFFFFFFFF
    return packed.view(numpy.int64)


def _jvp(primals, tangents, *, axis, num_keys):
    numbers = iota(shape=primals[0].shape, dtype=dtypes.int32, axis=axis)
    *results, order = sort(*primals, numbers, axis=axis, num_keys=num_keys)
    return results, [None if t is None else take_along(t, order, axis) for t in tangents]


def _batch(size, operands, batch_axes, *, axis, num_keys):
    fronted: list[Any] = list(map(partial(to_front, size=size), operands, batch_axes))
    return sort(*fronted, axis=axis + 1, num_keys=num_keys), [0] * len(operands)


sort = Primitive("sort", abstract=_abstract, evaluate=_evaluate, jvp=_jvp, batch=_batch, multiple_results=True)


# top_k


def _top_abstract(x, *, k, axis):
    if not 0 <= axis < len(x.shape):
        raise ShapeError(f"top_k got axis {axis} for an array of shape {tuple(x.shape)}; name an axis that it has.")
    if not 0 <= k <= x.shape[axis]:
        raise ShapeError(f"top_k cannot take {k} elements of {x.shape[axis]} along axis {axis}; choose a smaller k.")
    shape = (*x.shape[:axis], k, *x.shape[axis + 1 :])
    return [AbstractArray(shape, x.dtype), AbstractArray(shape, dtypes.int32)]


def _top_evaluate(x, *, k, axis):
    if axis < 0 or not 0 <= k <= x.shape[axis]:
        raise ValueError("no such axis, or too few elements")
    module, length = array_module(x), x.shape[axis]
    # Backwards before and after, so that equal elements end up in the order of their places.
    numbers = module.arange(length - 1, -1, -1, dtype=numpy.int32).reshape(-1, *(1,) * (x.ndim - axis - 1))
    backwards = [module.flip(x, axis), module.broadcast_to(numbers, x.shape)]
    largest = (*(slice(None),) * axis, slice(length - k, None))
    return [module.flip(found[largest], axis) for found in _evaluate(*backwards, axis=axis, num_keys=1)]


def _top_jvp(primals, tangents, *, k, axis):
    values, places = top_k(*primals, k=k, axis=axis)
    return [values, places], [take_along(tangents[0], places, axis), None]


def _top_batch(size, operands, batch_axes, *, k, axis):
    return top_k(to_front(*operands, *batch_axes, size=size), k=k, axis=axis + 1), [0, 0]


top_k = Primitive(
    "top_k", abstract=_top_abstract, evaluate=_top_evaluate, jvp=_top_jvp, batch=_top_batch, multiple_results=True
)
