"""Losses: how far predictions are from what they should be.

A loss has one value for each example, so that it can be weighted, masked and looked at; take the mean to train on it.
Only functions whose names begin with `mean_` take it themselves. The names are Optax's where it has the function.
"""

from __future__ import annotations

import math

from funcgrad import numpy as np
from funcgrad.annotations import Array, ArrayLike, Bool, Float, Integer
from funcgrad.errors import ShapeError
from funcgrad.nn.activations import log_softmax
from funcgrad.numpy.axes import normalize_axis
from funcgrad.primitives.elementwise import stop_gradient
from funcgrad.primitives.operators import promote_inexact


def _difference(name: str, predictions: ArrayLike, targets: ArrayLike | None) -> Array:
    if targets is None:
        return np.asarray(predictions)
    predictions, targets = promote_inexact(predictions, targets)
    if predictions.shape != targets.shape and targets.ndim:
        # Broadcasting (n, 1) against (n,) to (n, n) is the commonest silent mistake in a regression.
        raise ShapeError(
            f"{name} got predictions of shape {predictions.shape} and targets of shape {targets.shape}; give them one "
            "shape, for example with predictions.squeeze(-1) or targets[:, None]."
        )
    return predictions - targets


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
    difference = _difference("squared_error", predictions, targets)
    return difference * difference


def l2_loss(predictions: Float[ArrayLike, "*shape"], targets: ArrayLike | None = None) -> Float[Array, "*shape"]:
    """Half of the squared error, the derivative of which is the difference itself.

    Arguments and errors are those of `squared_error`.

    Example:
        >>> import funcgrad as fg
        >>> fg.losses.l2_loss(fg.array([1.0, 2.0]), fg.array([1.0, 5.0]))
        Array([0. , 4.5], dtype=float32)
    """
    difference = _difference("l2_loss", predictions, targets)
    return 0.5 * (difference * difference)


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
    difference = _difference("mean_squared_error", predictions, targets)
    return (difference * difference).mean()


def softmax_cross_entropy(
    logits: Float[ArrayLike, "..."],
    labels: ArrayLike,
    axis: int | tuple[int, ...] | None = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "..."]:
    """The cross entropy of the distributions `labels` and softmax(`logits`), `-sum(labels * log_softmax(logits))`.

    Arguments:
        logits: floats of any shape, with the classes along `axis`; -inf stands for an impossible class.
        labels: the probabilities of the classes, one-hot vectors for known classes; broadcast to the shape of `logits`.
        axis: the axis, or axes, of the classes.
        where: which classes to count, broadcast to the shape of `logits`.

    Returns:
        An array without the axes of the classes; infinite only where an impossible class has a label above 0.

    Example:
        >>> import funcgrad as fg
        >>> logits = fg.array([[100.0, 0.0], [0.0, 0.0]])
        >>> labels = fg.array([[0.0, 1.0], [0.5, 0.5]])
        >>> fg.losses.softmax_cross_entropy(logits, labels)
        Array([100.       ,   0.6931472], dtype=float32)
    """
    logits, labels = promote_inexact(logits, labels)
    log_probabilities = log_softmax(logits, axis, where)
    # 0 * -inf is NaN, but a class that is impossible and not the label costs nothing.
    harmless = np.logical_and(labels == 0, log_probabilities == -math.inf)
    if where is not None:
        harmless = np.logical_or(harmless, np.logical_not(where))
    return -(labels * np.where(harmless, 0, log_probabilities)).sum(axis=axis)


def softmax_cross_entropy_with_integer_labels(
    logits: Float[ArrayLike, "..."], labels: Integer[ArrayLike, "..."], axis: int = -1
) -> Float[Array, "..."]:
    """The negative logarithm of the probability that softmax(`logits`) gives to the right class.

    Arguments:
        logits: floats of any shape, with the classes along `axis`; -inf stands for an impossible class.
        labels: integers of the shape of `logits` without that axis: the numbers of the right classes, from 0 on.
        axis: the axis of the classes.

    Returns:
        An array of the shape of `labels`. It is NaN where a label is no class, negative or too large, since a jitted
        function cannot raise for a value.

    Raises:
        ShapeError: if the shape of `labels` is not that of `logits` without the axis of the classes.

    Example:
        >>> import funcgrad as fg
        >>> logits = fg.array([[100.0, 0.0], [0.0, 0.0]])
        >>> fg.losses.softmax_cross_entropy_with_integer_labels(logits, fg.array([1, 0]))
        Array([100.       ,   0.6931472], dtype=float32)
    """
    (logits,) = promote_inexact(logits)
    labels = np.asarray(labels)
    axis = normalize_axis("softmax_cross_entropy_with_integer_labels", axis, logits.ndim)
    classes = logits.shape[axis]
    expected = logits.shape[:axis] + logits.shape[axis + 1 :]
    if labels.shape != expected:
        raise ShapeError(
            f"softmax_cross_entropy_with_integer_labels got logits of shape {logits.shape} with the classes along axis "
            f"{axis}, and labels of shape {labels.shape}; they must have shape {expected}, one integer an example."
        )
    # Shifted before the difference is taken: large logits have no digits left for small losses.
    shifted = logits - stop_gradient(logits.max(axis=axis, keepdims=True))
    is_class = np.logical_and(labels >= 0, labels < classes)
    index = np.expand_dims(np.where(is_class, labels, 0), axis)
    of_label = np.take_along_axis(shifted, index, axis=axis).squeeze(axis)
    return np.where(is_class, np.log(np.exp(shifted).sum(axis=axis)) - of_label, math.nan)
