"""Making arrays: from Python's values, of constants, of ranges, and the triangles and diagonals of matrices.

Eager code gets ordinary, contiguous buffers from NumPy. While a transform runs the function, constants and ranges are
bound as primitives instead, so that a compiled program holds an expression and not a large block of numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import index
from typing import Any

import numpy

from funcgrad import dtypes
from funcgrad.array import Array, ConcreteArray, as_array, to_buffer, wrap
from funcgrad.core import current_interpreter, ground
from funcgrad.devices import Device, _cupy
from funcgrad.errors import ArgumentError, ArgumentTypeError, ShapeError
from funcgrad.numpy.axes import as_shape
from funcgrad.numpy.dtype_functions import astype
from funcgrad.numpy.placement import device_put
from funcgrad.primitives import elementwise as e
from funcgrad.primitives.movement import concatenate, iota, pad, slice_
from funcgrad.primitives.operators import cast, promote
from funcgrad.primitives.shapes import broadcast_in_dim, broadcast_to, reshape, transpose
from funcgrad.transforms.vmap import vmap


def array(
    object: Any,
    dtype: Any = None,
    copy: bool | None = True,
    order: str | None = "K",
    ndmin: int = 0,
    *,
    device: Device | None = None,
) -> Array:
    """An array of the given values.

    Arguments:
        object: a number, an array-like, or nested lists of numbers, arrays and traced values.
        dtype: the dtype; by default that of the values. Python floats give float32 and ints int32, while NumPy's
            arrays keep their dtype, float64 as well.
        copy, order: of no consequence, since arrays are immutable; a NumPy array is always copied.
        ndmin: axes of length 1 are put in front until there are so many.
        device: where to put it; by default where the values are.

    Returns:
        An array.

    Raises:
        ArgumentTypeError: for values that are no numbers, and for rows of different lengths.
        DtypeError: for integers that do not fit into the dtype.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.array([[1, 2], [3, 4]], dtype=np.float32)
        Array([[1., 2.],
               [3., 4.]], dtype=float32)
    """
    wanted = None if dtype is None else dtypes.canonical(dtype)
    if isinstance(object, Array):
        result = object if wanted is None and not object.weak_type else astype(object, wanted or object.dtype)
    elif isinstance(object, (list, tuple)) and _holds_array(object):
        result = _stacked(object)
        result = result if wanted is None else astype(result, wanted)
    else:
        result = ConcreteArray(to_buffer(object, wanted))
    if result.ndim < ndmin:
        result = reshape(result, shape=(1,) * (ndmin - result.ndim) + result.shape)
    return result if device is None else device_put(result, device)


def _holds_array(values: Any) -> bool:
    """Whether a nested list holds arrays of ours, which have to be stacked rather than read."""
    return any(isinstance(value, Array) or isinstance(value, (list, tuple)) and _holds_array(value) for value in values)


def _stacked(values: Sequence[Any]) -> Array:
    parts = [_stacked(v) if isinstance(v, (list, tuple)) else as_array(v) for v in values]
    if not parts:
        return zeros((0,))
    parts = promote(*parts)
    shape = parts[0].shape
    for part in parts:
        if part.shape != shape:
            raise ArgumentTypeError(
                f"a list that holds arrays of shapes {shape} and {part.shape} is not an array; "
                "give the rows one shape, or join them with fg.numpy.concatenate."
            )
    if all(part.weak_type for part in parts):
        parts = [cast(part, part.dtype) for part in parts]
    return concatenate(*[reshape(part, shape=(1, *shape)) for part in parts], axis=0)


def asarray(
    a: Any,
    dtype: Any = None,
    order: str | None = None,
    *,
    copy: bool | None = None,
    device: Device | None = None,
) -> Array:
    """An array of the given values; an array that has the dtype already is returned as it is.

    Arguments are those of `array`.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.asarray([1.0, 2.0])
        Array([1., 2.], dtype=float32)
    """
    return array(a, dtype, device=device)


def copy(a: Any, order: str | None = None) -> Array:
    """An array with the same values; arrays are immutable, so this is the array itself.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.copy(np.array([1, 2]))
        Array([1, 2], dtype=int32)
    """
    return array(a)


# Constants


def _shape_of(name: str, shape: Any) -> tuple[int, ...]:
    found = as_shape(name, shape.tolist() if isinstance(shape, numpy.ndarray) else shape)
    if any(length < 0 for length in found):
        raise ShapeError(f"{name} got the shape {found}; lengths cannot be negative.")
    return found


def _constant(name: str, shape: Any, value: Any, dtype: Any, device: Device | None) -> Array:
    shape, dtype = _shape_of(name, shape), dtypes.canonical(dtype)
    if current_interpreter() is ground:
        # The system hands out zeroed memory without touching it, but only positive zeros.
        is_plain_zero = not value and type(value) is int
        result: Array = ConcreteArray(numpy.zeros(shape, dtype) if is_plain_zero else numpy.full(shape, value, dtype))
    else:
        result = e.full(shape, value, dtype)
    return result if device is None else device_put(result, device)


def zeros(shape: Any, dtype: Any = None, *, device: Device | None = None) -> Array:
    """An array of zeros.

    Arguments:
        shape: an integer or a tuple of integers.
        dtype: float32 by default.
        device: where to put it.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.zeros(3)
        Array([0., 0., 0.], dtype=float32)
    """
    return _constant("zeros", shape, 0, dtype or dtypes.float32, device)


def ones(shape: Any, dtype: Any = None, *, device: Device | None = None) -> Array:
    """An array of ones; arguments as for `zeros`.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.ones((1, 2), dtype=int)
        Array([[1, 1]], dtype=int32)
    """
    return _constant("ones", shape, 1, dtype or dtypes.float32, device)


def empty(shape: Any, dtype: Any = None, *, device: Device | None = None) -> Array:
    """The same as `zeros`: an immutable array without values could not be used for anything.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.empty(2)
        Array([0., 0.], dtype=float32)
    """
    return _constant("empty", shape, 0, dtype or dtypes.float32, device)


def full(shape: Any, fill_value: Any, dtype: Any = None, *, device: Device | None = None) -> Array:
    """An array of one value.

    Arguments:
        shape: an integer or a tuple of integers.
        fill_value: a number, or an array that broadcasts to the shape.
        dtype: by default that of the value.
        device: where to put it.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.full(3, 2.5)
        Array([2.5, 2.5, 2.5], dtype=float32)
    """
    default = dtypes.DEFAULT_OF_SCALAR.get(type(fill_value))
    if default is not None and (dtype is None or type(fill_value) is not complex):
        return _constant("full", shape, fill_value, dtype or default, device)
    result = broadcast_to(array(fill_value, dtype), _shape_of("full", shape))
    return result if device is None else device_put(result, device)


def _like(a: Any, dtype: Any, shape: Any) -> tuple[Any, Any]:
    if not hasattr(a, "shape") or not hasattr(a, "dtype"):
        a = as_array(a)
    return (a.shape if shape is None else shape), (a.dtype if dtype is None else dtype)


def zeros_like(a: Any, dtype: Any = None, shape: Any = None, *, device: Device | None = None) -> Array:
    """Zeros of the shape and dtype of another array.

    Arguments:
        a: an array, or anything else with `shape` and `dtype`.
        dtype, shape: where they should differ from those of `a`.
        device: where to put it.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.zeros_like(np.array([1, 2]))
        Array([0, 0], dtype=int32)
    """
    shape, dtype = _like(a, dtype, shape)
    return _constant("zeros_like", shape, 0, dtype, device)


def ones_like(a: Any, dtype: Any = None, shape: Any = None, *, device: Device | None = None) -> Array:
    """Ones of the shape and dtype of another array; arguments as for `zeros_like`.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.ones_like(np.array([1, 2]))
        Array([1, 1], dtype=int32)
    """
    shape, dtype = _like(a, dtype, shape)
    return _constant("ones_like", shape, 1, dtype, device)


def empty_like(prototype: Any, dtype: Any = None, shape: Any = None, *, device: Device | None = None) -> Array:
    """The same as `zeros_like`.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.empty_like(np.array([1, 2]))
        Array([0, 0], dtype=int32)
    """
    shape, dtype = _like(prototype, dtype, shape)
    return _constant("empty_like", shape, 0, dtype, device)


def full_like(a: Any, fill_value: Any, dtype: Any = None, shape: Any = None, *, device: Device | None = None) -> Array:
    """One value in the shape and dtype of another array; arguments as for `full` and `zeros_like`.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.full_like(np.array([1.0, 2.0]), 7)
        Array([7., 7.], dtype=float32)
    """
    shape, dtype = _like(a, dtype, shape)
    return full(shape, fill_value, dtype, device=device)


# Matrices of zeros and ones, triangles, diagonals


def _band(rows: int, columns: int, k: int, compare: Any) -> Array:
    """Where `compare(row + k, column)` holds, as bools."""
    row = iota(shape=(rows, 1), dtype=dtypes.int32, axis=0)
    column = iota(shape=(1, columns), dtype=dtypes.int32, axis=1)
    return compare(row + k, column)


def eye(N: int, M: int | None = None, k: int = 0, dtype: Any = None, *, device: Device | None = None) -> Array:
    """A matrix with ones on a diagonal and zeros elsewhere.

    Arguments:
        N, M: rows and columns; as many columns as rows by default.
        k: which diagonal; 0 is the main one, positive ones lie above it.
        dtype: float32 by default.
        device: where to put it.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.eye(2)
        Array([[1., 0.],
               [0., 1.]], dtype=float32)
    """
    dtype, (rows, columns) = dtypes.canonical(dtype or dtypes.float32), _shape_of("eye", (N, N if M is None else M))
    if current_interpreter() is ground:
        result: Array = ConcreteArray(numpy.eye(rows, columns, index(k), dtype))
    else:
        result = cast(_band(rows, columns, k, e.eq), dtype)
    return result if device is None else device_put(result, device)


def identity(n: int, dtype: Any = None) -> Array:
    """The square matrix with ones on the main diagonal.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.identity(2, dtype=int)
        Array([[1, 0],
               [0, 1]], dtype=int32)
    """
    return eye(n, dtype=dtype)


def tri(N: int, M: int | None = None, k: int = 0, dtype: Any = None) -> Array:
    """A matrix with ones on and below a diagonal; arguments as for `eye`.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.tri(2)
        Array([[1., 0.],
               [1., 1.]], dtype=float32)
    """
    rows, columns = _shape_of("tri", (N, N if M is None else M))
    return cast(_band(rows, columns, k, e.ge), dtypes.canonical(dtype or dtypes.float32))


def _matrix(name: str, m: Any) -> Array:
    x = as_array(m)
    if x.ndim < 2:
        raise ShapeError(f"{name} takes matrices, and got an array of shape {x.shape}; add axes to it first.")
    return x


def tril(m: Any, k: int = 0) -> Array:
    """The lower triangle of matrices; zeros above the k-th diagonal.

    Arguments:
        m: shape (..., rows, columns).
        k: which diagonal is the last that is kept.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.tril(np.ones((2, 2)))
        Array([[1., 0.],
               [1., 1.]], dtype=float32)
    """
    x = _matrix("tril", m)
    rows, columns = x.shape[-2:]
    return e.select(_band(rows, columns, k, e.ge), x, e.full((), 0, x.dtype))


def triu(m: Any, k: int = 0) -> Array:
    """The upper triangle of matrices; zeros below the k-th diagonal. Arguments as for `tril`.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.triu(np.ones((2, 2)))
        Array([[1., 1.],
               [0., 1.]], dtype=float32)
    """
    x = _matrix("triu", m)
    rows, columns = x.shape[-2:]
    return e.select(_band(rows, columns, k, e.le), x, e.full((), 0, x.dtype))


def diagonal_of(x: Array, offset: int, axis1: int, axis2: int) -> Array:
    """The diagonal of two axes as the new last axis; axes count from the front.

    In a square of side n the diagonal is every (n + 1)-th element.
    """
    order = [axis for axis in range(x.ndim) if axis not in (axis1, axis2)]
    if (axis1, axis2) != (x.ndim - 2, x.ndim - 1):
        x = transpose(x, permutation=(*order, axis1, axis2))
    *outer, rows, columns = x.shape
    row, column = max(-offset, 0), max(offset, 0)
    side = max(min(rows - row, columns - column), 0)
    if side == 0:
        return zeros((*outer, 0), x.dtype)
    zero = (0,) * len(outer)
    if (rows, columns) != (side, side):
        x = slice_(
            x,
            starts=(*zero, row, column),
            limits=(*outer, row + side, column + side),
            strides=(1,) * x.ndim,
        )
    x = reshape(x, shape=(*outer, side * side))
    return slice_(x, starts=(*zero, 0), limits=x.shape, strides=(*(1,) * len(outer), side + 1))


def diag(v: Any, k: int = 0) -> Array:
    """The diagonal of a matrix, or the matrix with a given diagonal.

    Arguments:
        v: a matrix, or a vector.
        k: which diagonal; positive ones lie above the main one.

    Returns:
        For a matrix its k-th diagonal; for a vector the square matrix that has it there and zeros elsewhere.

    Raises:
        ShapeError: if `v` has neither one nor two axes.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.diag(np.array([1.0, 2.0]))
        Array([[1., 0.],
               [0., 2.]], dtype=float32)
    """
    x = as_array(v)
    if x.ndim == 2:
        return diagonal_of(x, k, 0, 1)
    if x.ndim != 1:
        raise ShapeError(f"diag takes a vector or a matrix, and got an array of shape {x.shape}.")
    side = x.shape[0] + abs(k)
    zero = e.full((), 0, x.dtype)
    if k:
        x = pad(x, zero, config=((0, abs(k), 0),))
    # Above the main diagonal the row says which element it is, below it the column.
    spread = broadcast_in_dim(x, shape=(side, 1) if k >= 0 else (1, side), axes=(0,) if k >= 0 else (1,))
    return e.select(_band(side, side, k, e.eq), spread, zero)


def diagflat(v: Any, k: int = 0) -> Array:
    """The matrix that has all elements of an array, in order, on its k-th diagonal.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.diagflat(np.array([[1.0], [2.0]]))
        Array([[1., 0.],
               [0., 2.]], dtype=float32)
    """
    x = as_array(v)
    return diag(reshape(x, shape=(x.size,)), k)


def vander(x: Any, N: int | None = None, increasing: bool = False) -> Array:
    """The powers of a vector's elements as the columns of a matrix.

    Arguments:
        x: shape (n,).
        N: how many columns; n by default.
        increasing: whether powers rise from left to right.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.vander(np.array([2, 3]), 3)
        Array([[4, 2, 1],
               [9, 3, 1]], dtype=int32)
    """
    x = as_array(x)
    if x.ndim != 1:
        raise ShapeError(f"vander takes a vector, and got an array of shape {x.shape}.")
    count = x.shape[0] if N is None else N
    if count == 0:
        return zeros((x.shape[0], 0), x.dtype)
    columns = [e.integer_pow(x, exponent=k) for k in range(count)]
    columns = columns if increasing else columns[::-1]
    return concatenate(*[reshape(c, shape=(x.shape[0], 1)) for c in columns], axis=1)


# Grids


def meshgrid(*xi: Any, copy: bool = True, sparse: bool = False, indexing: str = "xy") -> list[Array]:
    """Coordinates of the points of a grid.

    Arguments:
        xi: the coordinates along each axis, vectors.
        copy: of no consequence, since arrays are immutable.
        sparse: leave axes along which a result does not change at length 1.
        indexing: "xy" lays the first coordinate along axis 1, as in a picture; "ij" along axis 0.

    Returns:
        A list of arrays, one for each coordinate.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.meshgrid(np.array([1, 2]), np.array([3, 4]))
        [Array([[1, 2],
               [1, 2]], dtype=int32), Array([[3, 3],
               [4, 4]], dtype=int32)]
    """
    if indexing not in ("xy", "ij"):
        raise ArgumentError(f"meshgrid got indexing={indexing!r}; choose 'xy' or 'ij'.")
    vectors = [reshape(x, shape=(1,)) if x.ndim == 0 else x for x in map(as_array, xi)]
    for x in vectors:
        if x.ndim != 1:
            raise ShapeError(f"meshgrid takes vectors, and got an array of shape {x.shape}.")
    axes = list(range(len(vectors)))
    if indexing == "xy" and len(vectors) >= 2:
        axes[:2] = [1, 0]
    lengths = [0] * len(vectors)
    for x, axis in zip(vectors, axes, strict=True):
        lengths[axis] = x.shape[0]
    results = []
    for x, axis in zip(vectors, axes, strict=True):
        shape = [1] * len(vectors) if sparse else list(lengths)
        shape[axis] = x.shape[0]
        results.append(broadcast_in_dim(x, shape=tuple(shape), axes=(axis,)))
    return results


def indices(dimensions: Sequence[int], dtype: Any = None, sparse: bool = False) -> Array | tuple[Array, ...]:
    """The indices of every element of an array of a given shape.

    Arguments:
        dimensions: the shape.
        dtype: int32 by default.
        sparse: give a tuple of arrays with lengths of 1, which broadcast, instead of one array.

    Returns:
        Shape (number of axes, *dimensions).

    Example:
        >>> import funcgrad.numpy as np
        >>> np.indices((2, 2))[0]
        Array([[0, 0],
               [1, 1]], dtype=int32)
    """
    shape, dtype = _shape_of("indices", dimensions), dtypes.canonical(dtype or dtypes.int32)
    results = []
    for axis, length in enumerate(shape):
        narrow = tuple(length if a == axis else 1 for a in range(len(shape)))
        results.append(iota(shape=narrow if sparse else (1, *shape), dtype=dtype, axis=axis if sparse else axis + 1))
    if sparse:
        return tuple(results)
    return concatenate(*results, axis=0) if results else zeros((0,), dtype)


def fromfunction(function: Callable, shape: Any, *, dtype: Any = float, **kwargs: Any) -> Any:
    """The array whose element at each index is a function of that index.

    Arguments:
        function: takes one index for each axis, as 0-dimensional arrays.
        shape: of the result.
        dtype: of the indices; float32 by default.
        kwargs: given to the function as they are.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.fromfunction(lambda i, j: 10 * i + j, (2, 3))
        Array([[ 0.,  1.,  2.],
               [10., 11., 12.]], dtype=float32)
    """
    shape = _shape_of("fromfunction", shape)
    mapped = lambda *indices: function(*indices, **kwargs)
    for axis in reversed(range(len(shape))):
        mapped = vmap(mapped, in_axes=tuple(0 if a == axis else None for a in range(len(shape))))
    return mapped(*(iota(shape=(length,), dtype=dtypes.canonical(dtype), axis=0) for length in shape))


# From other libraries


def from_dlpack(x: Any, /, *, device: Device | None = None, copy: bool | None = None) -> Array:
    """An array from a DLPack object, such as a tensor of another library.

    Arguments:
        x: an object with `__dlpack__` and `__dlpack_device__`.
        device: where to put it; by default where it is.
        copy: with True the memory is copied; otherwise it is shared, and nobody may write to it from then on.

    Example:
        >>> import funcgrad.numpy as np
        >>> import numpy
        >>> np.from_dlpack(numpy.arange(3.0))
        Array([0., 1., 2.], dtype=float64)
    """
    if isinstance(x, ConcreteArray):
        return x if device is None else device_put(x, device)
    if not hasattr(x, "__dlpack__"):
        raise ArgumentTypeError(f"from_dlpack takes objects with a __dlpack__ method, and {type(x).__name__} has none.")
    if x.__dlpack_device__()[0] in (1, 3):  # in the machine's memory, plain or pinned
        buffer = numpy.from_dlpack(x)
        buffer = buffer.copy() if copy else buffer
    else:
        buffer = _cupy().from_dlpack(x)
        buffer = buffer.copy() if copy else buffer
    result = wrap(buffer.view(dtypes.canonical(buffer.dtype)) if buffer.dtype not in dtypes.KIND else buffer)
    return result if device is None else device_put(result, device)


def frombuffer(buffer: Any, dtype: Any = float, count: int = -1, offset: int = 0) -> Array:
    """A vector from the bytes of a buffer, which are copied.

    Arguments:
        buffer: bytes, or another object with the buffer interface.
        dtype: of the elements; float32 by default.
        count: how many elements; all by default.
        offset: how many bytes to leave out at the start.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.frombuffer(bytes([1, 2, 3]), dtype=np.uint8)
        Array([1, 2, 3], dtype=uint8)
    """
    return ConcreteArray(numpy.frombuffer(buffer, dtypes.canonical(dtype), count, offset).copy())


__all__ = [
    "array",
    "asarray",
    "copy",
    "diag",
    "diagflat",
    "empty",
    "empty_like",
    "eye",
    "from_dlpack",
    "frombuffer",
    "fromfunction",
    "full",
    "full_like",
    "identity",
    "indices",
    "meshgrid",
    "ones",
    "ones_like",
    "tri",
    "tril",
    "triu",
    "vander",
    "zeros",
    "zeros_like",
]
