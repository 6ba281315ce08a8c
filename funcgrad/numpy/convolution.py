"""convolve and correlate: one sequence of numbers slid along another."""

from __future__ import annotations

from typing import Any

from funcgrad import dtypes
from funcgrad.array import Array
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.primitives import elementwise as e
from funcgrad.primitives.convolution import ConvDimensionNumbers, conv_general_dilated
from funcgrad.primitives.movement import rev
from funcgrad.primitives.operators import cast, promote
from funcgrad.primitives.shapes import reshape

_NUMBERS = ConvDimensionNumbers((0, 1, 2), (0, 1, 2), (0, 1, 2))


def _slide(x: Array, kernel: Array, low: int, high: int, preferred_element_type: Any) -> Array:
    """The products of `kernel` with all stretches of `x`, padded with zeros by `low` and `high`."""
    result = conv_general_dilated(
        reshape(x, shape=(1, 1, x.size)),
        reshape(kernel, shape=(1, 1, kernel.size)),
        window_strides=(1,),
        padding=((low, high),),
        lhs_dilation=(1,),
        rhs_dilation=(1,),
        dimension_numbers=_NUMBERS,
        feature_group_count=1,
        batch_group_count=1,
        preferred_element_type=None if preferred_element_type is None else dtypes.canonical(preferred_element_type),
    )
    return reshape(result, shape=(result.size,))


def _sequences(name: str, a: Any, v: Any) -> tuple[Array, Array]:
    x, y = promote(a, v)
    if x.ndim != 1 or y.ndim != 1 or not x.size or not y.size:
        raise ShapeError(f"{name} takes two arrays of one axis, not empty, and got the shapes {x.shape} and {y.shape}.")
    if x.weak_type or y.weak_type:
        x, y = cast(x, x.dtype), cast(y, y.dtype)
    return x, y


def _padding(name: str, mode: str, length: int) -> tuple[int, int]:
    """How many zeros the longer sequence gets on both sides for a kernel of this length."""
    if mode == "full":
        return length - 1, length - 1
    if mode == "valid":
        return 0, 0
    if mode == "same":
        return length // 2, length - 1 - length // 2
    raise ArgumentError(f"{name} got mode={mode!r}; choose 'full', 'same' or 'valid'.")


def convolve(a: Any, v: Any, mode: str = "full", *, precision: Any = None, preferred_element_type: Any = None) -> Array:
    """The convolution of two sequences: `result[n] = sum over m of a[m] * v[n - m]`.

    Arguments:
        a, v: arrays of one axis, not empty. Integers stay integers, as in NumPy.
        mode: "full" for every place where the sequences overlap; "same" for as many results as the longer one has
            elements; "valid" for the places where the shorter one lies inside the longer one.
        precision: of no consequence: products are always computed in full precision.
        preferred_element_type: the dtype in which to add up, which is that of the result.

    Returns:
        Shape (len(a) + len(v) - 1,) or the part of it that `mode` says.

    Raises:
        ShapeError: if an array is empty or has not one axis.
        ArgumentError: for another mode.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.convolve(np.array([1.0, 2.0, 3.0]), np.array([1.0, 10.0]))
        Array([ 1., 12., 23., 30.], dtype=float32)
    """
    x, y = _sequences("convolve", a, v)
    if x.size < y.size:
        x, y = y, x
    low, high = _padding("convolve", mode, y.size)
    return _slide(x, rev(y, axes=(0,)), low, high, preferred_element_type)


def correlate(
    a: Any, v: Any, mode: str = "valid", *, precision: Any = None, preferred_element_type: Any = None
) -> Array:
    """The correlation of two sequences: `result[k] = sum over n of a[n + k] * conj(v[n])`, in the order of k.

    Arguments:
        a, v: arrays of one axis, not empty. Integers stay integers, as in NumPy.
        mode: "full", "same" or "valid": as for `convolve`.
        precision, preferred_element_type: as for `convolve`.

    Returns:
        Shape (len(a) + len(v) - 1,) or the part of it that `mode` says.

    Raises:
        ShapeError: if an array is empty or has not one axis.
        ArgumentError: for another mode.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.correlate(np.array([1.0, 2.0, 3.0]), np.array([0.0, 1.0]))
        Array([2., 3.], dtype=float32)
    """
    x, y = _sequences("correlate", a, v)
    if dtypes.is_complex(y.dtype):
        y = e.conj(y)
    low, high = _padding("correlate", mode, min(x.size, y.size))
    if x.size >= y.size:
        return _slide(x, y, low, high, preferred_element_type)
    # With the sequences exchanged, the shifts count the other way.
    return rev(_slide(y, x, low, high, preferred_element_type), axes=(0,))


__all__ = ["convolve", "correlate"]
