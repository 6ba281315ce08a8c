"""Products that sum over shared axes: `@`, dot, tensordot and their relatives. All become `dot_general`.

`einsum` has a file of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy

from funcgrad import dtypes
from funcgrad.array import AbstractArray, Array, ConcreteArray, as_array, wrap
from funcgrad.core import current_interpreter, ground
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.numpy.axes import normalize_axis
from funcgrad.numpy.creation import diagonal_of
from funcgrad.numpy.reductions import refuse_out
from funcgrad.numpy.reductions import sum as sum_of
from funcgrad.primitives import elementwise as e
from funcgrad.primitives.contraction import MATRIX_PRODUCT, dot_general
from funcgrad.primitives.movement import concatenate
from funcgrad.primitives.operators import cast, is_operand, promote
from funcgrad.primitives.shapes import broadcast_to, move_axis, reshape


def _operands(a: Any, b: Any, preferred_element_type: Any) -> tuple[Array, Array, dict[str, Any]]:
    x, y = promote(a, b)
    if preferred_element_type is None:
        return x, y, {}
    return x, y, {"preferred_element_type": dtypes.canonical(preferred_element_type)}


def _reject_scalar(name: str, *arrays: Array) -> None:
    for x in arrays:
        if x.ndim == 0:
            raise ShapeError(
                f"{name} takes arrays with at least one axis, not a single number; multiply with * instead."
            )


def matmul(a: Any, b: Any, *, precision: Any = None, preferred_element_type: Any = None) -> Array:
    """The matrix product `a @ b`.

    Arguments:
        a: shape (..., n, k), or (k,) for a row.
        b: shape (..., k, m), or (k,) for a column. Axes in front of the matrices broadcast.
        precision: of no consequence: products are always computed in full precision.
        preferred_element_type: the dtype in which to add up, which is that of the result.

    Returns:
        Shape (..., n, m), without n or m where a vector was given.

    Raises:
        ShapeError: if the lengths k differ, the axes in front do not broadcast, or an operand is a number.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.matmul(np.array([[1.0, 2.0]]), np.array([3.0, 4.0]))
        Array([11.], dtype=float32)
    """
    x, y, params = _operands(a, b, preferred_element_type)
    if x.ndim == 2 and y.ndim == 2:
        return dot_general(x, y, dimension_numbers=MATRIX_PRODUCT, **params)
    _reject_scalar("matmul", x, y)
    if y.ndim <= 2:
        # All axes of x but the last stay as they are, in order: no batch axes are needed.
        return dot_general(x, y, dimension_numbers=_last_with_first(x.ndim), **params)
    if x.ndim == 1:
        return dot_general(x, y, dimension_numbers=(((0,), (y.ndim - 2,)), ((), ())), **params)
    shape = e.broadcast_shape("matmul", AbstractArray(x.shape[:-2], x.dtype), AbstractArray(y.shape[:-2], y.dtype))
    x, y = broadcast_to(x, (*shape, *x.shape[-2:])), broadcast_to(y, (*shape, *y.shape[-2:]))
    return dot_general(x, y, dimension_numbers=_batched_product(len(shape)), **params)


@cache
def _last_with_first(ndim: int) -> Any:
    return (((ndim - 1,), (0,)), ((), ()))


@cache
def _batched_product(batch: int) -> Any:
    axes = tuple(range(batch))
    return (((batch + 1,), (batch,)), (axes, axes))


def dot(a: Any, b: Any, *, precision: Any = None, preferred_element_type: Any = None) -> Array:
    """The product summed over the last axis of `a` and the second to last of `b` (the only one of a vector).

    Arguments:
        a: shape (..., k), or a number.
        b: shape (..., k, m) or (k,), or a number.
        precision, preferred_element_type: as for `matmul`.

    Returns:
        All axes of `a` without its last, then all of `b` without the one that was summed.

    Raises:
        ShapeError: if the lengths k differ.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.dot(np.array([1.0, 2.0]), np.array([3.0, 4.0]))
        Array(11., dtype=float32)
    """
    x, y, params = _operands(a, b, preferred_element_type)
    if x.ndim == 2 and y.ndim == 2:
        return dot_general(x, y, dimension_numbers=MATRIX_PRODUCT, **params)
    if x.ndim == 0 or y.ndim == 0:
        if params:
            x, y = (cast(v, params["preferred_element_type"]) for v in (x, y))
        return (e.and_ if dtypes.is_bool(x.dtype) else e.mul)(x, y)
    return dot_general(x, y, dimension_numbers=(((x.ndim - 1,), (max(y.ndim - 2, 0),)), ((), ())), **params)


def vdot(a: Any, b: Any, *, precision: Any = None, preferred_element_type: Any = None) -> Array:
    """The sum of products of all elements, those of `a` conjugated. Both arrays are flattened.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.vdot(np.array([1j, 2.0]), np.array([1j, 1.0]))
        Array(3.+0.j, dtype=complex64)
    """
    x, y = as_array(a), as_array(b)
    x = e.conj(x) if dtypes.is_complex(x.dtype) else x
    x, y = reshape(x, shape=(x.size,)), reshape(y, shape=(y.size,))
    return dot(x, y, preferred_element_type=preferred_element_type)


def vecdot(x1: Any, x2: Any, /, *, axis: int = -1, precision: Any = None, preferred_element_type: Any = None) -> Array:
    """Scalar products of vectors, those of `x1` conjugated.

    Arguments:
        x1, x2: arrays whose shapes broadcast.
        axis: along which the vectors lie, counted in both.
        precision, preferred_element_type: as for `matmul`.

    Returns:
        The broadcast shape without that axis.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.vecdot(np.ones((2, 3)), np.array([1.0, 2.0, 3.0]))
        Array([6., 6.], dtype=float32)
    """
    x, y, params = _operands(x1, x2, preferred_element_type)
    _reject_scalar("vecdot", x, y)
    x, y = (move_axis(v, normalize_axis("vecdot", axis, v.ndim), v.ndim - 1) for v in (x, y))
    if x.shape[-1] != y.shape[-1]:
        raise ShapeError(f"vecdot got vectors of lengths {x.shape[-1]} and {y.shape[-1]}; both need one length.")
    x = e.conj(x) if dtypes.is_complex(x.dtype) else x
    shape = e.broadcast_shape("vecdot", x, y)
    batch = tuple(range(len(shape) - 1))
    numbers = (((len(batch),), (len(batch),)), (batch, batch))
    return dot_general(broadcast_to(x, shape), broadcast_to(y, shape), dimension_numbers=numbers, **params)


def matvec(x1: Any, x2: Any, /) -> Array:
    """Products of matrices and vectors.

    Arguments:
        x1: shape (..., n, k).
        x2: shape (..., k). Axes in front broadcast.

    Returns:
        Shape (..., n).

    Example:
        >>> import funcgrad.numpy as np
        >>> np.matvec(np.eye(2), np.array([[1.0, 2.0], [3.0, 4.0]]))
        Array([[1., 2.],
               [3., 4.]], dtype=float32)
    """
    y = as_array(x2)
    _reject_scalar("matvec", as_array(x1), y)
    result = matmul(x1, reshape(y, shape=(*y.shape, 1)))
    return reshape(result, shape=result.shape[:-1])


def vecmat(x1: Any, x2: Any, /) -> Array:
    """Products of vectors, conjugated, and matrices.

    Arguments:
        x1: shape (..., k).
        x2: shape (..., k, m). Axes in front broadcast.

    Returns:
        Shape (..., m).

    Example:
        >>> import funcgrad.numpy as np
        >>> np.vecmat(np.array([1.0, 2.0]), np.eye(2))
        Array([1., 2.], dtype=float32)
    """
    x = as_array(x1)
    _reject_scalar("vecmat", x, as_array(x2))
    x = e.conj(x) if dtypes.is_complex(x.dtype) else x
    result = matmul(reshape(x, shape=(*x.shape[:-1], 1, x.shape[-1])), x2)
    return reshape(result, shape=(*result.shape[:-2], result.shape[-1]))


def inner(a: Any, b: Any, *, precision: Any = None, preferred_element_type: Any = None) -> Array:
    """The product summed over the last axes of both; of numbers, their product.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.inner(np.array([[1.0, 2.0]]), np.array([3.0, 4.0]))
        Array([11.], dtype=float32)
    """
    x, y, params = _operands(a, b, preferred_element_type)
    if x.ndim == 0 or y.ndim == 0:
        return dot(x, y, preferred_element_type=preferred_element_type)
    return dot_general(x, y, dimension_numbers=(((x.ndim - 1,), (y.ndim - 1,)), ((), ())), **params)


def outer(a: Any, b: Any, out: None = None) -> Array:
    """The product of every element of `a` with every element of `b`; both are flattened.

    Returns:
        Shape (a.size, b.size).

    Example:
        >>> import funcgrad.numpy as np
        >>> np.outer(np.array([1, 2]), np.array([3, 4]))
        Array([[3, 4],
               [6, 8]], dtype=int32)
    """
    refuse_out("outer", out)
    x, y = promote(a, b)
    x, y = reshape(x, shape=(x.size, 1)), reshape(y, shape=(1, y.size))
    return (e.and_ if dtypes.is_bool(x.dtype) else e.mul)(x, y)


def tensordot(
    a: Any, b: Any, axes: int | Sequence[Any] = 2, *, precision: Any = None, preferred_element_type: Any = None
) -> Array:
    """The product summed over several axes.

    Arguments:
        a, b: arrays.
        axes: how many of the last axes of `a` are summed with the first of `b`; or a pair that lists them.
        precision, preferred_element_type: as for `matmul`.

    Returns:
        The other axes of `a`, then those of `b`.

    Raises:
        ShapeError: if the lengths of summed axes differ.
        ArgumentError: if `axes` lists unequal numbers of axes.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.tensordot(np.ones((2, 3, 4)), np.ones((3, 4, 5)), axes=([1, 2], [0, 1])).shape
        (2, 5)
    """
    x, y, params = _operands(a, b, preferred_element_type)
    if isinstance(axes, int):
        if not 0 <= axes <= min(x.ndim, y.ndim):
            raise ShapeError(f"tensordot cannot sum {axes} axes of arrays of shapes {x.shape} and {y.shape}.")
        of_x, of_y = tuple(range(x.ndim - axes, x.ndim)), tuple(range(axes))
    else:
        of_x, of_y = (tuple(group) if isinstance(group, (tuple, list)) else (group,) for group in axes)
        if len(of_x) != len(of_y):
            raise ArgumentError(f"tensordot got axes={axes}; list as many axes of the first array as of the second.")
        of_x = tuple(normalize_axis("tensordot", axis, x.ndim) for axis in of_x)
        of_y = tuple(normalize_axis("tensordot", axis, y.ndim) for axis in of_y)
    return dot_general(x, y, dimension_numbers=((of_x, of_y), ((), ())), **params)


def kron(a: Any, b: Any) -> Array:
    """The Kronecker product: `b` repeated at every element of `a`, and multiplied with it.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.kron(np.array([1, 10]), np.array([1, 2]))
        Array([ 1,  2, 10, 20], dtype=int32)
    """
    x, y = promote(a, b)
    ndim = max(x.ndim, y.ndim)
    shape_x = (1,) * (ndim - x.ndim) + x.shape
    shape_y = (1,) * (ndim - y.ndim) + y.shape
    x = reshape(x, shape=tuple(n for length in shape_x for n in (length, 1)))
    y = reshape(y, shape=tuple(n for length in shape_y for n in (1, length)))
    product = (e.and_ if dtypes.is_bool(x.dtype) else e.mul)(x, y)
    return reshape(product, shape=tuple(m * n for m, n in zip(shape_x, shape_y, strict=True)))


def trace(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None, out: None = None) -> Array:
    """The sum along a diagonal.

    Arguments:
        a: an array with at least two axes.
        offset: which diagonal; positive ones lie above the main one.
        axis1, axis2: which axes are rows and columns.
        dtype: in which to add; as for `sum`.
        out: refused, since arrays are immutable.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.trace(np.array([[1.0, 2.0], [3.0, 4.0]]))
        Array(5., dtype=float32)
    """
    refuse_out("trace", out)
    x = as_array(a)
    if x.ndim < 2:
        raise ShapeError(f"trace takes matrices, and got an array of shape {x.shape}.")
    rows, columns = normalize_axis("trace", axis1, x.ndim), normalize_axis("trace", axis2, x.ndim)
    if rows == columns:
        raise ShapeError(
            f"trace got axis1={axis1} and axis2={axis2}, which are the same axis; name two different ones."
        )
    return sum_of(diagonal_of(x, offset, rows, columns), axis=-1, dtype=dtype)


def cross(a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None) -> Array:
    """The cross product of vectors in space.

    Arguments:
        a, b: arrays of vectors with 2 or 3 components; the third is 0 where it is missing.
        axisa, axisb, axisc: along which axes the vectors of `a`, of `b` and of the result lie.
        axis: the same for all three.

    Returns:
        Vectors with 3 components; where both have 2, only the third component, without its axis.

    Raises:
        ShapeError: for vectors of another length.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.cross(np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0]))
        Array([0., 0., 1.], dtype=float32)
    """
    if axis is not None:
        axisa = axisb = axisc = axis
    x, y = promote(a, b)
    x = move_axis(x, normalize_axis("cross", axisa, x.ndim), x.ndim - 1)
    y = move_axis(y, normalize_axis("cross", axisb, y.ndim), y.ndim - 1)
    for v in (x, y):
        if v.shape[-1] not in (2, 3):
            raise ShapeError(f"cross takes vectors with 2 or 3 components, and got {v.shape[-1]}.")
    third = e.sub(x[..., 0] * y[..., 1], x[..., 1] * y[..., 0])
    if x.shape[-1] == y.shape[-1] == 2:
        return third
    zero = e.full((), 0, x.dtype)
    x2, y2 = (v[..., 2] if v.shape[-1] == 3 else zero for v in (x, y))
    parts = [x[..., 1] * y2 - x2 * y[..., 1], x2 * y[..., 0] - x[..., 0] * y2, third]
    result = concatenate(*[reshape(part, shape=(*third.shape, 1)) for part in parts], axis=third.ndim)
    return move_axis(result, third.ndim, normalize_axis("cross", axisc, result.ndim))


# The operators


def _matmul_method(x: Array, y: Any) -> Any:
    if type(x) is ConcreteArray and type(y) is ConcreteArray and current_interpreter() is ground:
        # What eager code does most: matrices and vectors of one dtype that needs no wider sums.
        a, b = x._data, y._data
        if (
            type(a) is type(b) is numpy.ndarray
            and 0 < a.ndim <= 2
            and 0 < b.ndim <= 2
            and a.dtype is b.dtype
            and a.dtype.char in "fdFD"
        ):
            try:
                return wrap(a.dot(b))  # in less than half of the time that matmul takes for small matrices
            except ValueError:
                return matmul(x, y)  # which says what is wrong
    elif isinstance(y, Array) and x.dtype is y.dtype and len(x.shape) == len(y.shape) == 2:
        return dot_general(x, y, dimension_numbers=MATRIX_PRODUCT)
    return matmul(x, y) if is_operand(y) else NotImplemented


def _reflected_matmul_method(x: Array, y: Any) -> Any:
    return matmul(y, x) if is_operand(y) else NotImplemented


def attach_matmul() -> None:
    """Give `Array` the operator `@`."""
    for name, method in [("__matmul__", _matmul_method), ("__rmatmul__", _reflected_matmul_method)]:
        method.__name__, method.__qualname__ = name, f"Array.{name}"
        setattr(Array, name, method)


attach_matmul()

__all__ = [
    "cross",
    "dot",
    "inner",
    "kron",
    "matmul",
    "matvec",
    "outer",
    "tensordot",
    "trace",
    "vdot",
    "vecdot",
    "vecmat",
]
