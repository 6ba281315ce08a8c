"""The functions of `fg.lax` that reduce, run along an axis, sort and multiply matrices, with JAX's signatures."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from funcgrad import dtypes
from funcgrad.array import Array, as_array
from funcgrad.core import Primitive
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.lax.elementwise import checked, match
from funcgrad.numpy.axes import normalize_axes, normalize_axis
from funcgrad.primitives import contraction, reductions, shapes, sorting

_DOCUMENT = """{summary}

    Arguments:
        operand: an array.
        {arguments}

    Raises:
        ShapeError: if the array has no such axis.{more}

    Example:
        >>> import funcgrad as fg
        >>> fg.lax.{example}
        {result}
    """


def _document(function: Any, summary: str, arguments: str, more: str, example: str, result: str) -> Any:
    function.__name__ = function.__qualname__ = example.partition("(")[0]
    function.__doc__ = _DOCUMENT.format(summary=summary, arguments=arguments, more=more, example=example, result=result)
    return function


# Reductions


def _reduction(primitive: Primitive, summary: str, example: str, result: str, more: str = ""):
    def function(operand: Any, axes: Sequence[int]) -> Array:
        x = as_array(operand)
        return checked(primitive, x, axes=normalize_axes(primitive.name, tuple(axes), x.ndim))

    more = f"\n        {more}" if more else ""
    return _document(function, summary, "axes: the axes that are reduced; the others stay.", more, example, result)


_NO_BOOL = "DtypeError: for a bool array."
_LOGIC = "DtypeError: for an array that is neither bool nor integer."

reduce_sum = _reduction(
    shapes.reduce_sum,
    "The sum over some axes.",
    "reduce_sum(fg.array([1, 2, 3]), (0,))",
    "Array(6, dtype=int32)",
    _NO_BOOL,
)
reduce_prod = _reduction(
    reductions.reduce_prod,
    "The product over some axes.",
    "reduce_prod(fg.array([2, 3, 4]), (0,))",
    "Array(24, dtype=int32)",
    _NO_BOOL,
)
reduce_max = _reduction(
    reductions.reduce_max,
    "The largest element over some axes, which must not be empty; NaN if there is one.",
    "reduce_max(fg.array([[1, 5], [3, 2]]), (1,))",
    "Array([5, 3], dtype=int32)",
)
reduce_min = _reduction(
    reductions.reduce_min,
    "The smallest element over some axes, which must not be empty; NaN if there is one.",
    "reduce_min(fg.array([[1, 5], [3, 2]]), (1,))",
    "Array([1, 2], dtype=int32)",
)
reduce_and = _reduction(
    reductions.reduce_and,
    "Whether all elements over some axes are True; the common bits of integers.",
    "reduce_and(fg.array([True, False]), (0,))",
    "Array(False, dtype=bool)",
    _LOGIC,
)
reduce_or = _reduction(
    reductions.reduce_or,
    "Whether any element over some axes is True; the bits that any of the integers has.",
    "reduce_or(fg.array([True, False]), (0,))",
    "Array(True, dtype=bool)",
    _LOGIC,
)
reduce_xor = _reduction(
    reductions.reduce_xor,
    "Whether an odd number of elements over some axes is True; for integers, bit by bit.",
    "reduce_xor(fg.array([True, True]), (0,))",
    "Array(False, dtype=bool)",
    _LOGIC,
)


def _argument(primitive: Primitive, summary: str, example: str, result: str):
    def function(operand: Any, axis: int, index_dtype: Any) -> Array:
        x = as_array(operand)
        axis = normalize_axis(primitive.name, axis, x.ndim)
        return checked(primitive, x, axis=axis, index_dtype=dtypes.canonical(index_dtype))

    arguments = "axis: the axis along which it is searched.\n        index_dtype: the integer dtype of the result."
    return _document(function, summary, arguments, "", example, result)


argmax = _argument(
    reductions.argmax,
    "The place of the first largest element along an axis; of the first NaN if there is one.",
    "argmax(fg.array([1.0, 5.0, 5.0]), 0, fg.int32)",
    "Array(1, dtype=int32)",
)
argmin = _argument(
    reductions.argmin,
    "The place of the first smallest element along an axis; of the first NaN if there is one.",
    "argmin(fg.array([1.0, 5.0, 1.0]), 0, fg.int32)",
    "Array(0, dtype=int32)",
)

# Running reductions


def _running(primitive: Primitive, summary: str, example: str, result: str):
    def function(operand: Any, axis: int = 0, reverse: bool = False) -> Array:
        x = as_array(operand)
        return checked(primitive, x, axis=normalize_axis(primitive.name, axis, x.ndim), reverse=bool(reverse))

    arguments = "axis: the axis to run along.\n        reverse: whether to start at its end."
    return _document(function, summary, arguments, "", example, result)


cumsum = _running(
    reductions.cumsum,
    "The sum of all elements up to each, along an axis.",
    "cumsum(fg.array([1, 2, 3]))",
    "Array([1, 3, 6], dtype=int32)",
)
cumprod = _running(
    reductions.cumprod,
    "The product of all elements up to each, along an axis.",
    "cumprod(fg.array([1, 2, 3]), reverse=True)",
    "Array([6, 6, 3], dtype=int32)",
)
cummax = _running(
    reductions.cummax,
    "The largest of all elements up to each, along an axis.",
    "cummax(fg.array([1, 3, 2]))",
    "Array([1, 3, 3], dtype=int32)",
)
cummin = _running(
    reductions.cummin,
    "The smallest of all elements up to each, along an axis.",
    "cummin(fg.array([3, 1, 2]))",
    "Array([3, 1, 1], dtype=int32)",
)
cumlogsumexp = _running(
    reductions.cumlogsumexp,
    "The logarithm of the sum of the exponentials of all elements up to each, along an axis.",
    "cumlogsumexp(fg.array([0.0, 0.0, 0.0])).round(3)",
    "Array([0.   , 0.693, 1.099], dtype=float32)",
)

# Sorting


def sort(operand: Any, dimension: int = -1, is_stable: bool = True, num_keys: int = 1) -> Any:
    """One or more arrays sorted along an axis; NaN comes last.

    Arguments:
        operand: an array, or a sequence of arrays of one shape that are permuted together.
        dimension: the axis.
        is_stable: kept for JAX's signature; equal elements always keep their order.
        num_keys: how many of the arrays decide the order, the first before the second and so on.

    Returns:
        The sorted array, or a tuple of arrays.

    Example:
        >>> import funcgrad as fg
        >>> fg.lax.sort([fg.array([2, 1]), fg.array([10, 20])])
        (Array([1, 2], dtype=int32), Array([20, 10], dtype=int32))
    """
    arrays = [as_array(x) for x in operand] if isinstance(operand, (tuple, list)) else [as_array(operand)]
    if not arrays:
        raise ArgumentError("sort needs at least one array.")
    axis = normalize_axis("sort", dimension, arrays[0].ndim)
    result = checked(sorting.sort, *arrays, axis=axis, num_keys=operator.index(num_keys))
    return tuple(result) if isinstance(operand, (tuple, list)) else result[0]


def sort_key_val(keys: Any, values: Any, dimension: int = -1, is_stable: bool = True) -> tuple[Array, Array]:
    """`keys` sorted along an axis, and `values` permuted with them.

    Example:
        >>> import funcgrad as fg
        >>> fg.lax.sort_key_val(fg.array([3, 1]), fg.array([0.5, 0.25]))
        (Array([1, 3], dtype=int32), Array([0.25, 0.5 ], dtype=float32))
    """
    sorted_keys, sorted_values = sort((keys, values), dimension, is_stable)
    return sorted_keys, sorted_values


def top_k(operand: Any, k: int, *, axis: int = -1) -> list[Array]:
    """The `k` largest elements along an axis, the largest first, and their places.

    Arguments:
        operand: an array.
        k: how many; at most the length of the axis.
        axis: the axis.

    Returns:
        The elements, and their int32 places. NaN counts as largest; of equal elements the earlier one comes first.

    Example:
        >>> import funcgrad as fg
        >>> values, places = fg.lax.top_k(fg.array([1.0, 9.0, 4.0]), 2)
        >>> values, places
        (Array([9., 4.], dtype=float32), Array([1, 2], dtype=int32))
    """
    x = as_array(operand)
    axis, k = normalize_axis("top_k", axis, x.ndim), operator.index(k)
    return list(checked(sorting.top_k, x, k=k, axis=axis))


# Products


def dot_general(
    lhs: Any,
    rhs: Any,
    dimension_numbers: Any,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Array:
    """A product of two arrays, summed over shared axes.

    Arguments:
        lhs, rhs: arrays of one dtype.
        dimension_numbers: `((lhs_contracting, rhs_contracting), (lhs_batch, rhs_batch))`: which axes are summed
            together, and which run side by side.
        precision: kept for JAX's signature; products have the precision of their dtype.
        preferred_element_type: the dtype of the result, by default that of the operands.

    Returns:
        An array with the batch axes, then what is left of `lhs`, then what is left of `rhs`.

    Raises:
        ShapeError, DtypeError: if the operands do not fit together.

    Example:
        >>> import funcgrad as fg
        >>> fg.lax.dot_general(fg.array([[1, 2]]), fg.array([[3, 4]]), (((1,), (1,)), ((), ())))
        Array([[11]], dtype=int32)
    """
    x, y = match(lhs, rhs)
    (contract_x, contract_y), (batch_x, batch_y) = dimension_numbers

    def axes(given: Any, x: Array) -> tuple[int, ...]:
        return normalize_axes("dot_general", tuple(given), x.ndim)

    numbers = ((axes(contract_x, x), axes(contract_y, y)), (axes(batch_x, x), axes(batch_y, y)))
    if preferred_element_type is None:
        return contraction.dot_general(x, y, dimension_numbers=numbers)
    dtype = dtypes.canonical(preferred_element_type)
    return contraction.dot_general(x, y, dimension_numbers=numbers, preferred_element_type=dtype)


def dot(
    lhs: Any,
    rhs: Any,
    *,
    dimension_numbers: Any = None,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Array:
    """The product of two vectors, a matrix and a vector, or two matrices; with `dimension_numbers`, `dot_general`.

    Example:
        >>> import funcgrad as fg
        >>> fg.lax.dot(fg.array([[1, 2], [3, 4]]), fg.array([1, 1]))
        Array([3, 7], dtype=int32)
    """
    x, y = match(lhs, rhs)
    if dimension_numbers is None:
        if not (1 <= x.ndim <= 2 and 1 <= y.ndim <= 2):
            raise ShapeError(
                f"dot takes vectors and matrices, not shapes {x.shape} and {y.shape}; "
                "use x @ y or dot_general for others."
            )
        dimension_numbers = (((x.ndim - 1,), (0,)), ((), ()))
    return dot_general(x, y, dimension_numbers, precision, preferred_element_type)


def batch_matmul(lhs: Any, rhs: Any, precision: Any = None) -> Array:
    """The matrix products of the last two axes, for all equal axes before them.

    Example:
        >>> import funcgrad as fg
        >>> fg.lax.batch_matmul(fg.lax.full((5, 2, 3), 1.0), fg.lax.full((5, 3, 4), 1.0)).shape
        (5, 2, 4)
    """
    x, y = match(lhs, rhs)
    if x.ndim < 2 or x.ndim != y.ndim:
        raise ShapeError(
            f"batch_matmul takes stacks of matrices with as many axes, not shapes {x.shape} and {y.shape}; use x @ y."
        )
    batch = tuple(range(x.ndim - 2))
    return dot_general(x, y, (((x.ndim - 1,), (y.ndim - 2,)), (batch, batch)))
