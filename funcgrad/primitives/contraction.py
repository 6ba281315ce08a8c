"""dot_general: products of two arrays summed over shared axes, the primitive behind `@`, `dot`, `tensordot`, `einsum`.

`dimension_numbers = ((contract_x, contract_y), (batch_x, batch_y))` says which axes are summed together and which run
side by side. The result has the batch axes first, then what is left of `x`, then what is left of `y`.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

from funcgrad import dtypes
from funcgrad.array import AbstractArray
from funcgrad.core import Primitive
from funcgrad.devices import array_module
from funcgrad.errors import DtypeError, ShapeError
from funcgrad.primitives.elementwise import bilinear_jvp, convert
from funcgrad.primitives.shapes import transpose
from funcgrad.program import Variable

DimensionNumbers = tuple[tuple[tuple[int, ...], tuple[int, ...]], tuple[tuple[int, ...], tuple[int, ...]]]


def _free_axes(ndim: int, *used: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(axis for axis in range(ndim) if not any(axis in axes for axes in used))


def _abstract(x, y, *, dimension_numbers, preferred_element_type=None):
    return _result(x.shape, y.shape, x.dtype, y.dtype, dimension_numbers, preferred_element_type)


@lru_cache(maxsize=4096)
def _result(shape_x, shape_y, dtype_x, dtype_y, dimension_numbers, preferred_element_type):
    x, y = AbstractArray(shape_x, dtype_x), AbstractArray(shape_y, dtype_y)
    (contract_x, contract_y), (batch_x, batch_y) = dimension_numbers
    for kind, axes_x, axes_y in [("contracted", contract_x, contract_y), ("batch", batch_x, batch_y)]:
        if (
            len(axes_x) != len(axes_y)
            or any(a >= len(x.shape) for a in axes_x)
            or any(a >= len(y.shape) for a in axes_y)
        ):
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
    is_plain = not batch_x and len(contract_x) == 1 and max(len(free_x), len(free_y)) <= 1  # vectors as well
    return (
        None if order_x == tuple(range(ndim_x)) else order_x,
        None if order_y == tuple(range(ndim_y)) else order_y,
        len(batch_x),
        len(free_x),
        len(contract_x),
        is_matrix_product,
        is_plain,
    )


_COMPUTED_AS_THEY_ARE = frozenset([dtypes.float32, dtypes.float64, dtypes.complex64, dtypes.complex128])

MATRIX_PRODUCT: DimensionNumbers = (((1,), (0,)), ((), ()))
"""The numbers of `x @ y` for two matrices. Using this very object is quickest."""

# Those of `x @ y.T` and `x.T @ y`, which are the transposes of the former
ROWS_WITH_ROWS: DimensionNumbers = (((1,), (1,)), ((), ()))
COLUMNS_WITH_COLUMNS: DimensionNumbers = (((0,), (0,)), ((), ()))


def _evaluate(x, y, *, dimension_numbers, preferred_element_type=None):
    dtype = x.dtype
    if dtype is not y.dtype:
        raise TypeError("dtypes differ")  # explained by the abstract rule
    widened = preferred_element_type is not None or dtype not in _COMPUTED_AS_THEY_ARE
    if widened:
        # Half-width floats are multiplied in float32: their own sums would lose most digits.
        is_half = dtype is dtypes.bfloat16 or dtype is dtypes.float16
        compute_dtype = dtypes.float32 if is_half else preferred_element_type or dtype
        x, y = x.astype(compute_dtype, copy=False), y.astype(compute_dtype, copy=False)
    elif x.ndim == y.ndim == 2:
        # The method does what matmul does, in less than half of the time for small matrices.
        if dimension_numbers is MATRIX_PRODUCT:
            return x.dot(y)
        if dimension_numbers is ROWS_WITH_ROWS:
            return x.dot(y.T)
        if dimension_numbers is COLUMNS_WITH_COLUMNS:
            return x.T.dot(y)
    order_x, order_y, batch, free, contract, is_matrix_product, is_plain = _plan(x.ndim, y.ndim, dimension_numbers)
    if order_x is not None:
        x = x.transpose(order_x)
    if order_y is not None:
        y = y.transpose(order_y)
    if batch and x.shape[:batch] != y.shape[:batch]:  # matmul would stretch a length of one
        raise ValueError("batch lengths differ")
    if is_plain:
        result = x.dot(y)
    elif is_matrix_product:
        result = array_module(x).matmul(x, y)
    else:
        batch_shape, free_x, shared = x.shape[:batch], x.shape[batch : batch + free], x.shape[batch + free :]
        free_y = y.shape[batch + contract :]
        if shared != y.shape[batch : batch + contract]:
            raise ValueError("contracted lengths differ")  # explained by the abstract rule
        rows, inner, columns = math.prod(free_x), math.prod(shared), math.prod(free_y)
        result = array_module(x).matmul(x.reshape(*batch_shape, rows, inner), y.reshape(*batch_shape, inner, columns))
        result = result.reshape((*batch_shape, *free_x, *free_y))
    return result.astype(preferred_element_type or dtype, copy=False) if widened else result


def _transpose(cotangent, x, y, *, dimension_numbers, preferred_element_type=None):
    of_x = type(x) is Variable
    if dimension_numbers is MATRIX_PRODUCT and preferred_element_type is None and len(x.shape) == len(y.shape) == 2:
        if of_x:
            return [dot_general(cotangent, y, dimension_numbers=ROWS_WITH_ROWS), None]
        return [None, dot_general(x, cotangent, dimension_numbers=COLUMNS_WITH_COLUMNS)]
    linear, known = (x, y) if of_x else (y, x)
    if cotangent.dtype is not linear.dtype:
        cotangent = convert(cotangent, dtype=linear.dtype)
    numbers, permutation = _transpose_plan(len(x.shape), len(y.shape), dimension_numbers, of_x)
    first, second = (cotangent, known) if of_x else (known, cotangent)
    result = dot_general(first, second, dimension_numbers=numbers)
    if permutation is not None:
        result = transpose(result, permutation=permutation)
    return [result, None] if of_x else [None, result]


@lru_cache(maxsize=4096)
def _transpose_plan(ndim_x: int, ndim_y: int, dimension_numbers: DimensionNumbers, transpose_x: bool):
    """The product that gives the cotangent of one operand, and the permutation of its axes (None for none)."""
    (contract_x, contract_y), (batch_x, batch_y) = dimension_numbers
    free_x = _free_axes(ndim_x, contract_x, batch_x)
    free_y = _free_axes(ndim_y, contract_y, batch_y)
    batch = tuple(range(len(batch_x)))
    of_x = tuple(range(len(batch), len(batch) + len(free_x)))
    of_y = tuple(range(len(batch) + len(free_x), len(batch) + len(free_x) + len(free_y)))
    # The cotangent is multiplied with the known operand over the axes that the known operand brought along. Of the
    # result, batch axes come first, then the linear operand's free axes and the contracted ones, in some order.
    if transpose_x:
        numbers = ((of_y, free_y), (batch, batch_y))
        shared = [contract_x[contract_y.index(axis)] for axis in sorted(contract_y)]
        order = [*batch_x, *free_x, *shared]
    else:
        numbers = ((free_x, of_x), (batch_x, batch))
        shared = [contract_y[contract_x.index(axis)] for axis in sorted(contract_x)]
        order = [*batch_y, *shared, *free_y]
    permutation = tuple(order.index(axis) for axis in range(len(order)))
    return numbers, None if permutation == tuple(range(len(order))) else permutation


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


dot_general = Primitive("dot_general", abstract=_abstract, evaluate=_evaluate, transpose=_transpose, batch=_batch)
dot_general.jvp = bilinear_jvp(dot_general)
