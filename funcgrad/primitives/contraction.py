"""dot_general: products of two arrays summed over shared axes, the primitive behind `@`, `dot`, `tensordot`, `einsum`.

`dimension_numbers = ((contract_x, contract_y), (batch_x, batch_y))` says which axes are summed together and which run
side by side. The result has the batch axes first, then what is left of `x`, then what is left of `y`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy

from funcgrad import dtypes
from funcgrad.array import AbstractArray
from funcgrad.core import Primitive
from funcgrad.devices import array_module
from funcgrad.errors import DtypeError, ShapeError
from funcgrad.primitives.elementwise import add_tangents, convert, is_linear
from funcgrad.primitives.shapes import transpose

DimensionNumbers = tuple[tuple[tuple[int, ...], tuple[int, ...]], tuple[tuple[int, ...], tuple[int, ...]]]


def _free_axes(ndim: int, *used: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(axis for axis in range(ndim) if not any(axis in axes for axes in used))


def _abstract(x, y, *, dimension_numbers, preferred_element_type=None):
    (contract_x, contract_y), (batch_x, batch_y) = dimension_numbers
    for kind, axes_x, axes_y in [("contracted", contract_x, contract_y), ("batch", batch_x, batch_y)]:
        if len(axes_x) != len(axes_y) or any(a >= len(x.shape) for a in axes_x) or any(a >= len(y.shape) for a in axes_y):
            raise ShapeError(
                f"a product of shapes {tuple(x.shape)} and {tuple(y.shape)} cannot have the {kind} axes "
                f"{axes_x} and {axes_y}; name existing axes, as many on each side."
            )
        for a, b in zip(axes_x, axes_y, strict=True):
            if x.shape[a] != y.shape[b]:
                raise ShapeError(
                    f"a product of shapes {tuple(x.shape)} and {tuple(y.shape)} needs axis {a} of the first and axis "
                    f"{b} of the second to have one length, not {x.shape[a]} and {y.shape[b]}; "
                    "transpose an operand, or check that features and weights fit."
                )
    if x.dtype is not y.dtype:
        raise DtypeError(f"a product got dtypes {x.dtype.name} and {y.dtype.name}; convert one with x.astype(...).")
    shape = (
        *(x.shape[a] for a in batch_x),
        *(x.shape[a] for a in _free_axes(len(x.shape), contract_x, batch_x)),
        *(y.shape[a] for a in _free_axes(len(y.shape), contract_y, batch_y)),
    )
    return AbstractArray(shape, preferred_element_type or x.dtype)


@lru_cache(maxsize=4096)
def _plan(ndim_x: int, ndim_y: int, dimension_numbers: DimensionNumbers) -> tuple[Any, ...]:
    """How to bring the operands into the form of a matrix product: permutations (None for none) and axis counts."""
    (contract_x, contract_y), (batch_x, batch_y) = dimension_numbers
    free_x, free_y = _free_axes(ndim_x, contract_x, batch_x), _free_axes(ndim_y, contract_y, batch_y)
    order_x, order_y = (*batch_x, *free_x, *contract_x), (*batch_y, *contract_y, *free_y)
    is_matrix_product = (len(free_x), len(free_y), len(contract_x)) == (1, 1, 1)
    return (
        None if order_x == tuple(range(ndim_x)) else order_x,
        None if order_y == tuple(range(ndim_y)) else order_y,
        len(batch_x),
        len(free_x),
        len(contract_x),
        is_matrix_product,
    )



def _evaluate(x, y, *, dimension_numbers, preferred_element_type=None):
    order_x, order_y, batch, free, contract, is_matrix_product = _plan(x.ndim, y.ndim, dimension_numbers)
    if x.dtype is not y.dtype:
        raise TypeError("dtypes differ")
    result_dtype = preferred_element_type or x.dtype
    # Half-width floats are multiplied in float32: their own sums would lose most digits.
    compute_dtype = numpy.float32 if x.dtype.itemsize == 2 and dtypes.is_floating(x.dtype) else result_dtype
    if x.dtype != compute_dtype:
        x, y = x.astype(compute_dtype), y.astype(compute_dtype)
    if order_x is not None:
        x = x.transpose(order_x)
    if order_y is not None:
        y = y.transpose(order_y)
    matmul = array_module(x).matmul
    if is_matrix_product:
        result = matmul(x, y)
    else:
        batch_shape, free_x, shared = x.shape[:batch], x.shape[batch : batch + free], x.shape[batch + free :]
        free_y = y.shape[batch + contract :]
        if shared != y.shape[batch : batch + contract]:
            raise ValueError("contracted lengths differ")  # explained by the abstract rule
        rows, inner, columns = (int(numpy.prod(s, dtype=int)) for s in (free_x, shared, free_y))
        result = matmul(x.reshape(*batch_shape, rows, inner), y.reshape(*batch_shape, inner, columns))
        result = result.reshape(*batch_shape, *free_x, *free_y)
    return result if result.dtype == result_dtype else result.astype(result_dtype)


def _jvp(primals, tangents, **params):
    (x, y), (s, t) = primals, tangents
    tangent = None if s is None else dot_general(s, y, **params)
    if t is not None:
        tangent = add_tangents(tangent, dot_general(x, t, **params))
    return dot_general(x, y, **params), tangent


def _transpose(cotangent, x, y, *, dimension_numbers, preferred_element_type=None):
    (contract_x, contract_y), (batch_x, batch_y) = dimension_numbers
    linear, known = (x, y) if is_linear(x) else (y, x)
    if cotangent.dtype is not linear.dtype:
        cotangent = convert(cotangent, dtype=linear.dtype)
    free_x = _free_axes(len(x.shape), contract_x, batch_x)
    free_y = _free_axes(len(y.shape), contract_y, batch_y)
    batch = tuple(range(len(batch_x)))
    of_x = tuple(range(len(batch), len(batch) + len(free_x)))
    of_y = tuple(range(len(batch) + len(free_x), cotangent.ndim))
    # The cotangent is multiplied with the known operand over the axes that the known operand brought along. Of the
    # result, batch axes come first, then the linear operand's free axes and the contracted ones, in some order.
    if linear is x:
        batch_linear, free_linear, contract_linear = batch_x, free_x, contract_x
        numbers, contract_known = ((of_y, free_y), (batch, batch_y)), contract_y
        first, second = (cotangent, known)
        shared = [contract_linear[contract_known.index(axis)] for axis in sorted(contract_known)]
        order = [*batch_linear, *free_linear, *shared]
    else:
        batch_linear, free_linear, contract_linear = batch_y, free_y, contract_y
        numbers, contract_known = ((free_x, of_x), (batch_x, batch)), contract_x
        first, second = (known, cotangent)
        shared = [contract_linear[contract_known.index(axis)] for axis in sorted(contract_known)]
        order = [*batch_linear, *shared, *free_linear]
    result = dot_general(first, second, dimension_numbers=numbers)
    permutation = tuple(order.index(axis) for axis in range(len(order)))
    if permutation != tuple(range(len(order))):
        result = transpose(result, permutation=permutation)
    return [result, None] if linear is x else [None, result]


def _shift(axes: tuple[int, ...], inserted: int) -> tuple[int, ...]:
    """The axes after an axis was inserted in front of them at `inserted`."""
    return tuple(axis + (axis >= inserted) for axis in axes)


def _batch(size, operands, axes, *, dimension_numbers, **params):
    (x, y), (axis_x, axis_y) = operands, axes
    (contract_x, contract_y), (batch_x, batch_y) = dimension_numbers
    if axis_x is not None:
        contract_x, batch_x = _shift(contract_x, axis_x), _shift(batch_x, axis_x)
    if axis_y is not None:
        contract_y, batch_y = _shift(contract_y, axis_y), _shift(batch_y, axis_y)
    if axis_x is not None and axis_y is not None:
        numbers = ((contract_x, contract_y), ((axis_x, *batch_x), (axis_y, *batch_y)))
        return dot_general(x, y, dimension_numbers=numbers, **params), 0
    # One operand is batched: its batch axis is one more free axis, whose place in the result follows from its own.
    numbers = ((contract_x, contract_y), (batch_x, batch_y))
    result = dot_general(x, y, dimension_numbers=numbers, **params)
    if axis_x is not None:
        return result, len(batch_x) + _free_axes(x.ndim, contract_x, batch_x).index(axis_x)
    free_x = x.ndim - len(contract_x) - len(batch_x)
    return result, len(batch_y) + free_x + _free_axes(y.ndim, contract_y, batch_y).index(axis_y)


dot_general = Primitive(
    "dot_general", abstract=_abstract, evaluate=_evaluate, jvp=_jvp, transpose=_transpose, batch=_batch
)
