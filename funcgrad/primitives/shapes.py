"""Four primitives that change only the shape of things: reshape, transpose, broadcast_in_dim, reduce_sum.

They stand together because they are each other's transposes: what is broadcast on the way forward is summed on the way
back, and the other way round. All are linear.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy

from funcgrad import dtypes
from funcgrad.array import AbstractArray, Array
from funcgrad.core import IN_ALL, Primitive
from funcgrad.devices import array_module
from funcgrad.errors import DtypeError, ShapeError
from funcgrad.program import linear_step


def linear_jvp(primitive: Primitive):
    """The jvp rule of a primitive that is linear in its only operand: do the same to the tangent."""

    def jvp(primals, tangents, **params):
        result = primitive(*primals, **params)
        return result, linear_step(result, primitive, *tangents, **params)

    primitive.linearity = IN_ALL, jvp
    return jvp


def move_axis(x: Array, source: int, destination: int) -> Array:
    """`x` with one axis moved; `x` itself when it is there already."""
    if source == destination:
        return x
    order = [axis for axis in range(x.ndim) if axis != source]
    order.insert(destination, source)
    return transpose(x, permutation=tuple(order))


def to_front(x: Array, axis: int | None, size: int) -> Array:
    """`x` with its batch axis first; where it has none, repeated `size` times without copying."""
    if axis is None:
        return broadcast_in_dim(x, shape=(size, *x.shape), axes=tuple(range(1, x.ndim + 1)))
    return move_axis(x, axis, 0)


def check_axes(name: str, axes: Sequence[int], ndim: int) -> None:
    """Raise unless each of `axes` exists and is named once."""
    if len(set(axes)) != len(axes) or any(not 0 <= axis < ndim for axis in axes):
        raise ShapeError(f"{name} got axes {tuple(axes)} for an array of {ndim} axes; each may be named once.")


# reshape


def _reshape_abstract(x, *, shape):
    if math.prod(shape) != math.prod(x.shape) or any(length < 0 for length in shape):
        raise ShapeError(
            f"reshape cannot turn shape {tuple(x.shape)} ({math.prod(x.shape)} elements) into {tuple(shape)} "
            f"({math.prod(shape)} elements); the number of elements must stay the same."
        )
    return AbstractArray(tuple(shape), x.dtype)


def _reshape_batch(size, operands, axes, *, shape):
    (x,), (axis,) = operands, axes
    return reshape(move_axis(x, axis, 0), shape=(size, *shape)), 0


reshape = Primitive(
    "reshape",
    abstract=_reshape_abstract,
    evaluate=lambda x, *, shape: x.reshape(shape),
    transpose=lambda cotangent, x, *, shape: [reshape(cotangent, shape=x.shape)],
    batch=_reshape_batch,
)
reshape.jvp = linear_jvp(reshape)


# transpose


def _transpose_abstract(x, *, permutation):
    if sorted(permutation) != list(range(len(x.shape))):
        raise ShapeError(
            f"transpose got the axes {tuple(permutation)} for an array of {len(x.shape)} axes; "
            "each axis must be named exactly once."
        )
    return AbstractArray(tuple(x.shape[axis] for axis in permutation), x.dtype)


def _inverse(permutation: Sequence[int]) -> tuple[int, ...]:
    inverse = [0] * len(permutation)
    for position, axis in enumerate(permutation):
        inverse[axis] = position
    return tuple(inverse)


def _transpose_batch(size, operands, axes, *, permutation):
    (x,), (axis,) = operands, axes
    inner = [a + (a >= axis) for a in permutation]
    return transpose(x, permutation=(axis, *inner)), 0


transpose = Primitive(
    "transpose",
    abstract=_transpose_abstract,
    evaluate=lambda x, *, permutation: x.transpose(permutation),
    transpose=lambda cotangent, x, *, permutation: [transpose(cotangent, permutation=_inverse(permutation))],
    batch=_transpose_batch,
)
transpose.jvp = linear_jvp(transpose)


# broadcast_in_dim: axis i of the operand becomes axis axes[i] of the result, where lengths of 1 are stretched


def _broadcast_abstract(x, *, shape, axes):
    fits = len(axes) == len(x.shape) and list(axes) == sorted(set(axes)) and all(0 <= a < len(shape) for a in axes)
    if not fits or any(length not in (1, shape[axis]) for length, axis in zip(x.shape, axes, strict=False)):
        raise ShapeError(
            f"an array of shape {tuple(x.shape)} cannot be broadcast to {tuple(shape)} along the axes {tuple(axes)}; "
            "a length must equal the new one or be 1."
        )
    return AbstractArray(shape, x.dtype)


def _broadcast_evaluate(x, *, shape, axes):
    if x.ndim == 0 and not axes and type(x) is numpy.ndarray:
        return numpy.ndarray(shape, x.dtype, x, 0, (0,) * len(shape))
    widened = _widened(x.shape, shape, axes)
    if type(x) is not numpy.ndarray:
        return array_module(x).broadcast_to(x.reshape(widened), shape)
    # numpy.broadcast_to does the same eight times slower: repeated lengths are steps of zero bytes.
    x = x.reshape(widened)
    try:
        return numpy.ndarray(
            shape, x.dtype, x, 0, [s if n == m else 0 for s, n, m in zip(x.strides, widened, shape, strict=True)]
        )
    except ValueError:  # the constructor takes contiguous memory only
        return numpy.broadcast_to(x, shape)


@lru_cache(maxsize=4096)
def _widened(old: tuple[int, ...], shape: tuple[int, ...], axes: tuple[int, ...]) -> list[int]:
    """The old shape with axes of length one put in, so that it has as many as the new one."""
    widened = [1] * len(shape)
    for length, axis in zip(old, axes, strict=True):
        if length not in (1, shape[axis]):
            raise ValueError("shapes do not fit")
        widened[axis] = length
    return widened


def _broadcast_transpose(cotangent, x, *, shape, axes):
    summed = tuple(a for a in range(len(shape)) if a not in axes)
    stretched = tuple(axis for length, axis in zip(x.shape, axes, strict=True) if length != shape[axis])
    if summed or stretched:
        cotangent = reduce_sum(cotangent, axes=tuple(sorted(summed + stretched)))
    return [reshape(cotangent, shape=x.shape) if stretched else cotangent]


def _broadcast_batch(size, operands, axes_of_batch, *, shape, axes):
    x = move_axis(operands[0], axes_of_batch[0], 0)
    return broadcast_in_dim(x, shape=(size, *shape), axes=(0, *(a + 1 for a in axes))), 0


broadcast_in_dim = Primitive(
    "broadcast_in_dim",
    abstract=_broadcast_abstract,
    evaluate=_broadcast_evaluate,
    transpose=_broadcast_transpose,
    batch=_broadcast_batch,
)
broadcast_in_dim.jvp = linear_jvp(broadcast_in_dim)


def broadcast_to(x: Array, shape: tuple[int, ...]) -> Array:
    """`x` broadcast to `shape` by NumPy's rule (axes aligned at the end); `x` itself where it has that shape."""
    if x.shape == shape:
        return x
    return broadcast_in_dim(x, shape=shape, axes=tuple(range(len(shape) - x.ndim, len(shape))))


def sum_to(x: Array, shape: tuple[int, ...]) -> Array:
    """The transpose of `broadcast_to`: sums the axes that broadcasting from `shape` to that of `x` had repeated."""
    if x.shape == shape:
        return x
    extra = x.ndim - len(shape)
    stretched = [axis + extra for axis, length in enumerate(shape) if length != x.shape[axis + extra]]
    x = reduce_sum(x, axes=(*range(extra), *stretched))
    return reshape(x, shape=shape) if stretched else x


# reduce_sum


def reduced_shape(name: str, x: Any, axes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape left after reducing `axes`.

    Raises:
        ShapeError: if an axis does not exist or is named twice.
    """
    return _reduced_shape(name, x.shape, axes)


@lru_cache(maxsize=4096)
def _reduced_shape(name: str, shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    check_axes(name, axes, len(shape))
    return tuple(length for axis, length in enumerate(shape) if axis not in axes)


def _sum_abstract(x, *, axes):
    if x.dtype is dtypes.bool_:
        raise DtypeError(
            "reduce_sum adds numbers, and a bool array has none; convert it with x.astype(fg.int32) first."
        )
    return AbstractArray(reduced_shape("reduce_sum", x, axes), x.dtype)


def _sum_evaluate(x, *, axes):
    if x.dtype is dtypes.bool_:
        raise TypeError("bool")  # explained by the abstract rule
    if x.dtype is dtypes.bfloat16:
        # So few digits that adding a thousand ones would stop at 256: accumulate in float32.
        return numpy.add.reduce(x.astype(numpy.float32), axis=axes).astype(x.dtype)
    if type(x) is numpy.ndarray and len(axes) == x.ndim:
        # As an array at once: to make one of the number that NumPy gives takes a third as long as a small sum does.
        return numpy.add.reduce(x, axes, x.dtype, numpy.empty((), x.dtype))  # pyright: ignore[reportArgumentType]
    return numpy.add.reduce(x, axis=axes, dtype=x.dtype)


def _sum_transpose(cotangent, x, *, axes):
    kept = tuple([axis for axis in range(len(x.shape)) if axis not in axes])
    return [broadcast_in_dim(cotangent, shape=x.shape, axes=kept)]


def reduction_batch(primitive: Primitive):
    """The batch rule of reductions over `axes`: reduce the other axes, the batch axis stays."""

    def batch(size, operands, axes_of_batch, *, axes, **params):
        (x,), (axis,) = operands, axes_of_batch
        x = move_axis(x, axis, 0)
        return primitive(x, axes=tuple(a + 1 for a in axes), **params), 0

    return batch


reduce_sum = Primitive("reduce_sum", abstract=_sum_abstract, evaluate=_sum_evaluate, transpose=_sum_transpose)
reduce_sum.jvp = linear_jvp(reduce_sum)
reduce_sum.batch = reduction_batch(reduce_sum)
