"""What losses do with their arguments before they compute: dtypes, shapes, labels, masks."""

from __future__ import annotations

import math
from typing import Any

import numpy

from funcgrad import dtypes
from funcgrad import numpy as np
from funcgrad.annotations import Array, Real
from funcgrad.errors import ArgumentError, DtypeError, ShapeError
from funcgrad.numpy.axes import normalize_axes
from funcgrad.primitives.operators import cast, promote_inexact


def working_precision(*values: Any) -> tuple[list[Array], numpy.dtype]:
    """The values in one floating dtype with enough digits to compute a loss, and the dtype of its result.

    In float16, 300 squared is infinite and a sum of 3000 ones is lost in its own rounding; bfloat16 has no digits for
    differences. Losses of both are computed in float32 and rounded once, at the end.
    """
    arrays = promote_inexact(*values)
    dtype = arrays[0].dtype
    if dtype.itemsize < 4:
        arrays = [cast(x, dtypes.float32) for x in arrays]
    return arrays, dtype


def check_same_shape(name: str, **arrays: Array) -> None:
    """Refuses arrays of different shapes, which would broadcast: (n, 1) against (n,) silently becomes (n, n)."""
    (first, x), *others = arrays.items()
    for other, y in others:
        if x.shape != y.shape:
            raise ShapeError(
                f"{name} got {first} of shape {x.shape} and {other} of shape {y.shape}; give them one shape, for "
                f"example with {first}.squeeze(-1) or {other}[:, None]."
            )


def check_number(name: str, argument: str, value: Any, low: Real, high: Real = math.inf) -> None:
    """Refuses a Python number outside of [low, high], and NaN. A traced number is let through: it has no value yet."""
    if isinstance(value, (int, float)) and not low <= value <= high:
        range_ = f"at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
        raise ArgumentError(f"{argument} of {name} must be {range_}, not {value!r}.")


def integer_labels(name: str, labels: Any, shape: tuple[int, ...], axis: int) -> Array:
    """The labels as integers, one for each example of an array of `shape` with the classes along `axis`."""
    labels = np.asarray(labels)
    expected = shape[:axis] + shape[axis + 1 :]
    if not dtypes.is_integer(labels.dtype):
        raise DtypeError(
            f"{name} takes the numbers of the right classes as integers, not {labels.dtype}; use "
            "labels.astype(fg.int32), or softmax_cross_entropy for the probabilities of all classes."
        )
    if labels.shape != expected:
        raise ShapeError(
            f"{name} got an array of shape {shape} with the classes along axis {axis}, and labels of shape "
            f"{labels.shape}; they must have shape {expected}, one integer an example."
        )
    return labels


def known_classes(labels: Array, classes: int) -> tuple[Array, Array]:
    """Which labels are classes, and the labels with class 0 in the place of those that are not."""
    is_class = np.logical_and(labels >= 0, labels < classes)
    return is_class, np.where(is_class, labels, 0)


def of_class(values: Array, labels: Array, axis: int) -> Array:
    """The value of the class of each example."""
    return np.take_along_axis(values, np.expand_dims(labels, axis), axis=axis).squeeze(axis)


def along_classes(name: str, class_weights: Any, shape: tuple[int, ...], axes: tuple[int, ...]) -> Array:
    """Weights of the classes, shaped so that they broadcast along their axes in an array of `shape`."""
    weights = np.asarray(class_weights)
    axes = tuple(sorted(axes))
    if weights.shape != tuple(shape[axis] for axis in axes):
        raise ShapeError(
            f"class_weights of {name} have shape {weights.shape}, and the classes lie along axes of shape "
            f"{tuple(shape[axis] for axis in axes)}; give one weight for each class."
        )
    return weights.reshape([n if axis in axes else 1 for axis, n in enumerate(shape)])


def times_weight(weights: Array, values: Array) -> Array:
    """`weights * values`, and 0 where a weight of 0 meets an infinite value: what counts nothing costs nothing."""
    uncounted = np.logical_and(weights == 0, np.abs(values) == math.inf)
    return weights * np.where(uncounted, 0, values)


def check_broadcasts(name: str, argument: str, x: Array, shape: tuple[int, ...]) -> None:
    """Refuses an array that does not broadcast to `shape` with as many axes."""
    if x.ndim != len(shape) or any(m not in (1, n) for m, n in zip(x.shape, shape, strict=True)):
        raise ShapeError(
            f"{argument} of {name} has shape {x.shape}; it must have the shape {shape}, or length 1 along "
            "some of its axes."
        )


def element_mask(name: str, where: Any, shape: tuple[int, ...], axis: Any = ()) -> Array:
    """`where` with as many axes as an array of `shape`.

    It may count elements, or examples, and then does not have the axes that an example consists of.
    """
    where = np.asarray(where)
    axes = normalize_axes(name, axis, len(shape))
    if axes and where.ndim == len(shape) - len(axes):
        check_broadcasts(name, "where", where, tuple(n for axis, n in enumerate(shape) if axis not in axes))
        return np.expand_dims(where, axes)
    check_broadcasts(name, "where", where, shape)
    return where


def only_where(valid: Array, loss: Array) -> Array:
    """The loss of the valid examples, and NaN for the others, since a jitted function cannot raise for a value."""
    return np.where(valid, loss, math.nan)
