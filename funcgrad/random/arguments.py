"""Reading the arguments that the random functions share: shapes and dtypes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy

from funcgrad import dtypes
from funcgrad.errors import DtypeError, ShapeError
from funcgrad.numpy.axes import as_shape
from funcgrad.primitives.elementwise import broadcast_shape

Shape = int | Sequence[int]


def checked_shape(name: str, shape: Shape) -> tuple[int, ...]:
    """The shape as a tuple, of lengths of 0 or more."""
    shape = as_shape(name, shape)
    if any(length < 0 for length in shape):
        raise ShapeError(f"{name} got the shape {shape}; lengths are 0 or more.")
    return shape


def broadcasting_shape(name: str, shape: Shape | None, *operands: Any) -> tuple[int, ...]:
    """The shape of a result that has one element for each of its parameters; given, or else that of the parameters."""
    common = broadcast_shape(name, *operands)
    if shape is None:
        return common
    shape = checked_shape(name, shape)
    fits = len(common) <= len(shape) and all(
        n in (1, m) for n, m in zip(reversed(common), reversed(shape), strict=False)
    )
    if not fits:
        raise ShapeError(
            f"{name} got the shape {shape} for parameters of shape {common}, which do not broadcast to it; "
            "give a shape that ends like theirs, or none."
        )
    return shape


def checked_dtype(name: str, dtype: Any, kind: str = "floating") -> numpy.dtype:
    """The dtype object, which must be of this kind."""
    dtype = dtypes.canonical(dtype)
    accepted = {
        "floating": dtypes.FLOATING,
        "integer": dtypes.INTEGER,
        "unsigned": dtypes.UNSIGNED,
        "floating or complex": dtypes.FLOATING + dtypes.COMPLEX,
        "number": dtypes.INTEGER + dtypes.FLOATING + dtypes.COMPLEX,
    }[kind]
    if dtype not in accepted:
        raise DtypeError(
            f"{name} gives {kind} dtypes, not {dtype.name}; choose {' or '.join(d.name for d in accepted)}."
        )
    return dtype
