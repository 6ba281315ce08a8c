"""Losses of yes or no: each element is a decision of its own."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy

from funcgrad import numpy as np
from funcgrad.annotations import Array, ArrayLike, Bool, Float, Real
from funcgrad.losses.arguments import (
    check_number,
    check_same_shape,
    element_mask,
    only_where,
    times_weight,
    working_precision,
)
from funcgrad.nn.activations import softplus
from funcgrad.primitives.elementwise import logistic, stop_gradient
from funcgrad.primitives.operators import cast
from funcgrad.transforms.custom_derivatives import custom_jvp


def _prepared(name: str, what: str, predictions: ArrayLike, labels: ArrayLike) -> tuple[Array, Array, numpy.dtype]:
    (predictions, labels), dtype = working_precision(predictions, labels)
    if labels.ndim:
        check_same_shape(name, **{what: predictions, "labels": labels})
    return predictions, labels, dtype


def _are_probabilities(x: Array) -> Array:
    return np.logical_and(x >= 0, x <= 1)


def sigmoid_binary_cross_entropy(
    logits: Float[ArrayLike, "*shape"],
    labels: ArrayLike,
    where: Bool[ArrayLike, "..."] | None = None,
    *,
    label_smoothing: Real = 0.0,
    pos_weight: Real | Float[ArrayLike, "..."] = 1.0,
) -> Float[Array, "*shape"]:
    """The cross entropy of the probabilities `labels` and sigmoid(`logits`), for each element by itself.

    It is `-(labels * log(p) + (1 - labels) * log(1 - p))` for p = sigmoid(logits), without overflow.

    Arguments:
        logits: floats of any shape; infinite ones stand for certainty.
        labels: 0, 1, False, True, or a probability between, of the shape of `logits`, or a single number.
        where: which elements to count, of as many axes as `logits`; the others cost 0 and have the gradient 0.
        label_smoothing: the share, from 0 to 1, of the undecided label 0.5 in the labels.
        pos_weight: a factor for the part of the label 1, a number or an array that broadcasts to the shape of
            `logits`, to make up for rare ones.

    Returns:
        An array of the shape of `logits`. It is NaN, with the gradient 0, where a label is not from 0 to 1.

    Raises:
        ShapeError: if the shapes do not fit.
        ArgumentError: if `label_smoothing` is not from 0 to 1.

    Example:
        >>> import funcgrad as fg
        >>> fg.losses.sigmoid_binary_cross_entropy(fg.array([0.0, 1e3, 1e3]), fg.array([1, 1, 0]))
        Array([6.931472e-01, 0.000000e+00, 1.000000e+03], dtype=float32)
    """
    name = "sigmoid_binary_cross_entropy"
    check_number(name, "label_smoothing", label_smoothing, 0, 1)
    x, labels, dtype = _prepared(name, "logits", logits, labels)
    if where is not None:
        where = element_mask(name, where, x.shape)
        x = np.where(where, x, 0)
    valid = _are_probabilities(labels)
    if label_smoothing:
        labels = (1.0 - label_smoothing) * labels + 0.5 * label_smoothing
    positive, negative = labels, 1.0 - labels
    if not isinstance(pos_weight, (int, float)) or pos_weight != 1:
        factor = np.asarray(pos_weight)
        if factor.ndim > x.ndim or np.broadcast_shapes(factor.shape, x.shape) != x.shape:
            check_same_shape(name, logits=x, pos_weight=factor)
        positive = factor * labels
    loss = times_weight(positive, softplus(-x)) + times_weight(negative, softplus(x))
    loss = only_where(valid, loss)
    return cast(loss if where is None else np.where(where, loss, 0), dtype)


# What PyTorch's function of the same name does at probabilities of 0 and 1 that are wrong: a large finite loss.
_LOWEST_LOGARITHM = -100.0


def _limited(logarithm: Callable[[Array], Array], plus: float) -> Callable[[Array], Array]:
    """A logarithm of x + plus that is at least -100, with a derivative of at most 1e18 instead of infinity.

    Behind a saturated sigmoid, infinity times 0 would be NaN. The square of 1e18 is a float32, for second derivatives.
    """

    @custom_jvp
    def limited(x: Array) -> Array:
        return np.maximum(logarithm(x), _LOWEST_LOGARITHM)

    @limited.defjvp
    def limited_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
        (x,), (tangent,) = primals, tangents
        return limited(x), tangent / np.maximum(x + plus, 1e-18)

    return limited


_limited_log = _limited(np.log, 0.0)
_limited_log1p = _limited(np.log1p, 1.0)


def binary_cross_entropy(probabilities: Float[ArrayLike, "*shape"], labels: ArrayLike) -> Float[Array, "*shape"]:
    """The cross entropy of the probabilities `labels` and `probabilities`, for each element by itself.

    Where it can be had, `sigmoid_binary_cross_entropy` is better: a probability that was rounded to 1 has lost what
    matters. So as not to be infinite there, the logarithms are at least -100, and their derivatives at most 1e18.

    Arguments:
        probabilities: floats from 0 to 1, of any shape.
        labels: 0, 1, False, True, or a probability between, of the same shape, or a single number.

    Returns:
        An array of the shape of `probabilities`. It is NaN, with the gradient 0, where one of both is not from 0 to 1.

    Raises:
        ShapeError: if the shapes differ.

    Example:
        >>> import funcgrad as fg
        >>> fg.losses.binary_cross_entropy(fg.array([0.5, 1.0, 1.0]), fg.array([1, 1, 0]))
        Array([  0.6931472,  -0.       , 100.       ], dtype=float32)
    """
    x, labels, dtype = _prepared("binary_cross_entropy", "probabilities", probabilities, labels)
    valid = np.logical_and(_are_probabilities(labels), _are_probabilities(x))
    x = np.where(valid, x, 0.5)
    loss = -(labels * _limited_log(x) + (1.0 - labels) * _limited_log1p(-x))
    return cast(only_where(valid, loss), dtype)


def sigmoid_focal_loss(
    logits: Float[ArrayLike, "*shape"],
    labels: ArrayLike,
    alpha: Real | None = None,
    gamma: Real = 2.0,
) -> Float[Array, "*shape"]:
    """The cross entropy of yes or no, made small where the prediction is right already, so that rare cases are heard.

    With the probability p that sigmoid(`logits`) gives to the label, it is `-(1 - p) ** gamma * log(p)`.

    Arguments:
        logits: floats of any shape.
        labels: 0, 1, False, True, or a probability between, of the shape of `logits`, or a single number.
        alpha: if given, a factor for the label 1, from 0 to 1; 1 - alpha is that for the label 0.
        gamma: how much easy elements are played down, at least 0; for 0 it is `sigmoid_binary_cross_entropy`.

    Returns:
        An array of the shape of `logits`. It is NaN, with the gradient 0, where a label is not from 0 to 1.

    Raises:
        ShapeError: if the shapes differ.
        ArgumentError: if `alpha` or `gamma` is out of range.

    Source: T. Lin et al., "Focal Loss for Dense Object Detection", https://arxiv.org/abs/1708.02002.

    Example:
        >>> import funcgrad as fg
        >>> fg.losses.sigmoid_focal_loss(fg.array([0.0, 100.0, -100.0]), fg.array([1, 1, 1]))
        Array([  0.1732868,   0.       , 100.       ], dtype=float32)
    """
    name = "sigmoid_focal_loss"
    check_number(name, "alpha", alpha, 0, 1)
    check_number(name, "gamma", gamma, 0)
    logits, labels, dtype = _prepared(name, "logits", logits, labels)
    loss = times_weight(labels, softplus(-logits)) + times_weight(1.0 - labels, softplus(logits))
    # The probability of the other label, as a sum: 1 - p would have no digits where p is almost 1.
    wrong = labels * logistic(-logits) + (1.0 - labels) * logistic(logits)
    # The power has an infinite slope at 0 for a gamma below 1; far below 1e-30, the loss is 0 and flat.
    power = np.maximum(wrong, 1e-30) ** gamma
    # Certain and wrong: the power is flat, but an infinite loss times its slope 0 would be NaN.
    loss = loss * np.where(np.abs(logits) == math.inf, stop_gradient(power), power)
    if alpha is not None:
        loss = loss * (alpha * labels + (1.0 - alpha) * (1.0 - labels))
    return cast(only_where(_are_probabilities(labels), loss), dtype)
