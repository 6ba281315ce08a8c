"""Losses of predicted numbers: how far they are from the targets."""

from __future__ import annotations

import math

import numpy

from funcgrad import numpy as np
from funcgrad.annotations import Array, ArrayLike, Float, Real
from funcgrad.losses.arguments import check_number, check_same_shape, working_precision
from funcgrad.primitives.operators import cast, promote_inexact
from funcgrad.transforms.custom_derivatives import custom_jvp


def _difference(name: str, predictions: ArrayLike, targets: ArrayLike | None) -> tuple[Array, numpy.dtype]:
    """The errors in working precision, and the dtype of the result."""
    if targets is None:
        (difference,), dtype = working_precision(predictions)
        return difference, dtype
    (predictions, targets), dtype = working_precision(predictions, targets)
    if targets.ndim:
        check_same_shape(name, predictions=predictions, targets=targets)
    return predictions - targets, dtype


def squared_error(predictions: Float[ArrayLike, "*shape"], targets: ArrayLike | None = None) -> Float[Array, "*shape"]:
    """The square of the difference of each prediction and its target.

    Arguments:
        predictions: floats of any shape.
        targets: numbers of the same shape, or a single number; by default zeros.

    Returns:
        An array of the shape of `predictions`.

    Raises:
        ShapeError: if the shapes differ.

    Example:
        >>> import funcgrad as fg
        >>> fg.losses.squared_error(fg.array([1.0, 2.0]), fg.array([1.0, 5.0]))
        Array([0., 9.], dtype=float32)
    """
    difference, dtype = _difference("squared_error", predictions, targets)
    return cast(difference * difference, dtype)


def l2_loss(predictions: Float[ArrayLike, "*shape"], targets: ArrayLike | None = None) -> Float[Array, "*shape"]:
    """Half of the squared error, the derivative of which is the difference itself.

    Arguments and errors are those of `squared_error`.

    Example:
        >>> import funcgrad as fg
        >>> fg.losses.l2_loss(fg.array([1.0, 2.0]), fg.array([1.0, 5.0]))
        Array([0. , 4.5], dtype=float32)
    """
    difference, dtype = _difference("l2_loss", predictions, targets)
    return cast(0.5 * (difference * difference), dtype)


def mean_squared_error(predictions: Float[ArrayLike, "..."], targets: ArrayLike | None = None) -> Float[Array, ""]:
    """The mean of the squared errors of all elements.

    Arguments and errors are those of `squared_error`.

    Returns:
        An array of shape ().

    Example:
        >>> import funcgrad as fg
        >>> fg.losses.mean_squared_error(fg.array([1.0, 2.0]), fg.array([1.0, 5.0]))
        Array(4.5, dtype=float32)
    """
    difference, dtype = _difference("mean_squared_error", predictions, targets)
    return cast((difference * difference).mean(), dtype)


def absolute_error(predictions: Float[ArrayLike, "*shape"], targets: ArrayLike | None = None) -> Float[Array, "*shape"]:
    """The size of the difference of each prediction and its target. Its derivative at the target is 0.

    Arguments and errors are those of `squared_error`.

    Example:
        >>> import funcgrad as fg
        >>> fg.losses.absolute_error(fg.array([1.0, 2.0]), fg.array([1.0, 5.0]))
        Array([0., 3.], dtype=float32)
    """
    difference, dtype = _difference("absolute_error", predictions, targets)
    return cast(np.abs(difference), dtype)


def mean_absolute_error(predictions: Float[ArrayLike, "..."], targets: ArrayLike | None = None) -> Float[Array, ""]:
    """The mean of the absolute errors of all elements.

    Arguments and errors are those of `squared_error`.

    Returns:
        An array of shape ().

    Example:
        >>> import funcgrad as fg
        >>> fg.losses.mean_absolute_error(fg.array([1.0, 2.0]), fg.array([1.0, 5.0]))
        Array(1.5, dtype=float32)
    """
    difference, dtype = _difference("mean_absolute_error", predictions, targets)
    return cast(np.abs(difference).mean(), dtype)


def huber_loss(
    predictions: Float[ArrayLike, "*shape"],
    targets: ArrayLike | None = None,
    *,
    delta: Real | Float[Array, "..."] = 1.0,
) -> Float[Array, "*shape"]:
    """Half of the squared error near the target, and a line that touches that parabola further away.

    Its derivative is the error limited to [-delta, delta], so that an outlier pulls no harder than that.

    Arguments:
        predictions, targets: as of `squared_error`.
        delta: the error from which on the loss is a line: positive, a number or an array that broadcasts.

    Raises:
        ShapeError: if the shapes differ.
        ArgumentError: if `delta` is a negative number.

    Source: P. Huber, "Robust Estimation of a Location Parameter", Annals of Mathematical Statistics 35 (1964).

    Example:
        >>> import funcgrad as fg
        >>> fg.losses.huber_loss(fg.array([0.5, 10.0]), fg.array([0.0, 0.0]))
        Array([0.125, 9.5  ], dtype=float32)
    """
    check_number("huber_loss", "delta", delta, 0)
    difference, dtype = _difference("huber_loss", predictions, targets)
    return cast(_huber(difference, delta), dtype)


def _huber(difference: Array, delta: Real | Array) -> Array:
    difference, delta = promote_inexact(difference, delta)
    limited = np.where(np.abs(difference) <= delta, difference, np.sign(difference) * delta)
    # Nothing is squared beyond delta, where it might overflow; and both sides have the same derivative at delta.
    return limited * (difference - 0.5 * limited)


def smooth_l1_loss(
    predictions: Float[ArrayLike, "*shape"], targets: ArrayLike | None = None, *, beta: Real = 1.0
) -> Float[Array, "*shape"]:
    """The absolute error with its kink rounded off: `huber_loss` with delta=beta, divided by beta.

    Arguments:
        predictions, targets: as of `squared_error`.
        beta: the error from which on the loss is a line of slope 1. For 0 it is the absolute error.

    Raises:
        ShapeError: if the shapes differ.
        ArgumentError: if `beta` is negative.

    Source: R. Girshick, "Fast R-CNN", https://arxiv.org/abs/1504.08083.

    Example:
        >>> import funcgrad as fg
        >>> fg.losses.smooth_l1_loss(fg.array([0.5, 10.0]), fg.array([0.0, 0.0]), beta=0.5)
        Array([0.25, 9.75], dtype=float32)
    """
    check_number("smooth_l1_loss", "beta", beta, 0)
    difference, dtype = _difference("smooth_l1_loss", predictions, targets)
    return cast(np.abs(difference) if beta == 0 else _huber(difference, beta) / beta, dtype)


@custom_jvp
def _log_cosh(x: Array) -> Array:
    size = np.abs(x)
    is_small = size < 1
    half_sinh = np.sinh(0.5 * np.where(is_small, x, 0))
    # Each formula loses all of its digits where the other one is used.
    small = np.log1p(2 * half_sinh * half_sinh)
    large = size + np.log1p(np.exp(-2 * size)) - math.log(2)
    return np.where(is_small, small, large)


@_log_cosh.defjvp
def _log_cosh_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (tangent,) = primals, tangents
    return _log_cosh(x), tangent * np.tanh(x)


def log_cosh(predictions: Float[ArrayLike, "*shape"], targets: ArrayLike | None = None) -> Float[Array, "*shape"]:
    """The logarithm of the hyperbolic cosine of the error: a smooth relative of `huber_loss`.

    It is about half of the squared error near the target, and the absolute error less log(2) further away. Its
    derivative is the hyperbolic tangent of the error. Arguments and errors are those of `squared_error`.

    Source: P. Chen et al., "Log Hyperbolic Cosine Loss Improves Variational Auto-Encoder",
    https://openreview.net/pdf?id=rkglvsC9Ym.

    Example:
        >>> import funcgrad as fg
        >>> fg.losses.log_cosh(fg.array([0.0, 1000.0])).round(2)
        Array([  0.  , 999.31], dtype=float32)
    """
    difference, dtype = _difference("log_cosh", predictions, targets)
    return cast(_log_cosh(difference), dtype)
