"""Reading the arguments that functions on axes share: negative axes, tuples of axes, shapes."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from funcgrad.array import Array
from funcgrad.errors import ArgumentTypeError, ShapeError


def as_integer(value: Any, what: str) -> int:
    """A static integer; traced values and floats raise, naming `what`."""
    try:
        return operator.index(value)
    except TypeError as error:
        if isinstance(value, Array):
            raise
        raise ArgumentTypeError(f"{what} must be an integer, not {value!r:.40}.") from error


def normalize_axis(name: str, axis: Any, ndim: int) -> int:
    """The axis counted from the start.

    Raises:
        ShapeError: if an array of `ndim` axes does not have it.
    """
    axis = as_integer(axis, f"the axis of {name}")
    if not -ndim <= axis < ndim:
        raise ShapeError(
            f"{name} got axis {axis} for an array of {ndim} axes; "
            + (f"choose one from {-ndim} to {ndim - 1}." if ndim else "a 0-dimensional array has none.")
        )
    return axis % ndim


def normalize_axes(name: str, axes: Any, ndim: int) -> tuple[int, ...]:
    """An axis, several, or None for all, as a tuple of distinct axes counted from the start."""
    if axes is None:
        return tuple(range(ndim))
    if not isinstance(axes, (tuple, list)):
        return (normalize_axis(name, axes, ndim),)
    found = tuple(normalize_axis(name, axis, ndim) for axis in axes)
    if len(set(found)) != len(found):
        raise ShapeError(f"{name} got the axes {tuple(axes)}, of which two are the same; name each axis once.")
    return found


def as_shape(name: str, shape: Any) -> tuple[int, ...]:
    """A shape given as an integer or a sequence of them."""
    if isinstance(shape, (tuple, list, Sequence)) or (isinstance(shape, Array) and shape.ndim):
        return tuple(n if type(n) is int else as_integer(n, f"a length in the shape of {name}") for n in shape)
    return (as_integer(shape, f"the shape of {name}"),)
