"""Losses of several classes of which one is right: cross entropies.

Labels are the numbers of the right classes, or the probabilities of all classes.
"""

from __future__ import annotations

import math
from typing import Any

from funcgrad import numpy as np
from funcgrad.annotations import Array, ArrayLike, Bool, Float, Integer, Real
from funcgrad.losses.arguments import (
    along_classes,
    check_number,
    element_mask,
    integer_labels,
    known_classes,
    of_class,
    only_where,
    times_weight,
    working_precision,
)
from funcgrad.nn.activations import log_softmax
from funcgrad.numpy.axes import normalize_axes, normalize_axis
from funcgrad.primitives.elementwise import stop_gradient
from funcgrad.primitives.operators import cast


def smooth_labels(labels: Float[ArrayLike, "*shape"], alpha: Real | Float[Array, ""]) -> Float[Array, "*shape"]:
    """Mixes probabilities of classes with the uniform distribution: `(1 - alpha) * labels + alpha / classes`.

    Arguments:
        labels: probabilities, such as one-hot vectors, with the classes along the last axis.
        alpha: the share of the uniform distribution, from 0 to 1.

    Raises:
        ArgumentError: if `alpha` is a number that is not from 0 to 1.

    Source: C. Szegedy et al., https://arxiv.org/abs/1512.00567.

    Example:
        >>> import funcgrad as fg
        >>> fg.losses.smooth_labels(fg.array([1.0, 0.0, 0.0, 0.0]), 0.5)
        Array([0.625, 0.125, 0.125, 0.125], dtype=float32)
    """
    check_number("smooth_labels", "alpha", alpha, 0, 1)
    (labels,), dtype = working_precision(labels)
    return cast((1.0 - alpha) * labels + alpha / labels.shape[-1], dtype)


def _counted(logits: Array, where: Array | None, axis: Any) -> tuple[Array, Array | None]:
    """The logits with -inf for classes that do not count, and which examples have a class that does.

    An example that has none, which may hold anything, gets zeros, so that it can be computed and thrown away.
    """
    if where is None:
        return logits, None
    examples = np.any(where, axis=axis, keepdims=True)
    return np.where(where, logits, np.where(examples, -math.inf, 0.0)), examples.squeeze(axis)


def softmax_cross_entropy(
    logits: Float[ArrayLike, "..."],
    labels: ArrayLike,
    axis: int | tuple[int, ...] | None = -1,
    where: Bool[ArrayLike, "..."] | None = None,
    *,
    label_smoothing: Real = 0.0,
    class_weights: Float[ArrayLike, "..."] | None = None,
) -> Float[Array, "..."]:
    """The cross entropy of the distributions `labels` and softmax(`logits`), `-sum(labels * log_softmax(logits))`.

    Arguments:
        logits: floats of any shape, with the classes along `axis`; -inf stands for an impossible class.
        labels: the probabilities of the classes, one-hot vectors for known classes; broadcast to the shape of `logits`.
        axis: the axis, or axes, of the classes.
        where: which elements to count, with as many axes as `logits`, or which examples, without the axes of the
            classes. An example that does not count costs 0 and has the gradient 0, whatever it holds.
        label_smoothing: the share, from 0 to 1, of the uniform distribution over the counted classes in the labels.
        class_weights: a factor for each class, of the shape of the axes of the classes. The mean in which an example
            counts as much as its class is `losses.sum() / (labels * class_weights).sum()`.

    Returns:
        An array without the axes of the classes; infinite only where an impossible class has a label above 0.

    Raises:
        ShapeError: if the shape of `where` or `class_weights` does not fit.
        ArgumentError: if `label_smoothing` is not from 0 to 1.

    Example:
        >>> import funcgrad as fg
        >>> logits = fg.array([[100.0, 0.0], [0.0, 0.0]])
        >>> labels = fg.array([[0.0, 1.0], [0.5, 0.5]])
        >>> fg.losses.softmax_cross_entropy(logits, labels)
        Array([100.       ,   0.6931472], dtype=float32)
    """
    name = "softmax_cross_entropy"
    check_number(name, "label_smoothing", label_smoothing, 0, 1)
    (logits, labels), dtype = working_precision(logits, labels)
    if where is not None:
        where = element_mask(name, where, logits.shape, axis)
    logits, examples = _counted(logits, where, axis)
    log_probabilities = log_softmax(logits, axis)
    if label_smoothing:
        counted = np.ones((), logits.dtype) if where is None else where.astype(logits.dtype)
        classes = np.broadcast_to(counted, logits.shape).sum(axis=axis, keepdims=True)
        labels = (1.0 - label_smoothing) * labels + label_smoothing / np.maximum(classes, 1)
    if class_weights is not None:
        labels = labels * along_classes(name, class_weights, logits.shape, normalize_axes(name, axis, logits.ndim))
    # 0 * -inf is NaN, but a class that is impossible and not the label costs nothing.
    harmless = np.logical_and(labels == 0, log_probabilities == -math.inf)
    if where is not None:
        harmless = np.logical_or(harmless, np.logical_not(where))
    loss = -(labels * np.where(harmless, 0, log_probabilities)).sum(axis=axis)
    return cast(loss if examples is None else np.where(examples, loss, 0), dtype)


def softmax_cross_entropy_with_integer_labels(
    logits: Float[ArrayLike, "..."],
    labels: Integer[ArrayLike, "..."],
    axis: int = -1,
    where: Bool[ArrayLike, "..."] | None = None,
    *,
    label_smoothing: Real = 0.0,
    class_weights: Float[ArrayLike, " classes"] | None = None,
) -> Float[Array, "..."]:
    """The negative logarithm of the probability that softmax(`logits`) gives to the right class.

    Arguments:
        logits: floats of any shape, with the classes along `axis`; -inf stands for an impossible class.
        labels: integers of the shape of `logits` without that axis: the numbers of the right classes, from 0 on.
        axis: the axis of the classes.
        where: which elements to count, with as many axes as `logits`, or which examples, of the shape of `labels`. An
            example that does not count costs 0 and has the gradient 0, whatever it holds: `where=labels != -100`.
        label_smoothing: the share, from 0 to 1, of the uniform distribution over the counted classes in the labels.
        class_weights: a factor for each class. The mean in which an example counts as much as its class is
            `losses.sum() / class_weights[labels].sum()`.

    Returns:
        An array of the shape of `labels`. It is NaN, with the gradient 0, where a label that counts is no class,
        negative or too large, since a jitted function cannot raise for a value.

    Raises:
        ShapeError: if the shape of `labels` is not that of `logits` without the axis of the classes, or the shape of
            `where` or `class_weights` does not fit.
        DtypeError: if `labels` are no integers.
        ArgumentError: if `label_smoothing` is not from 0 to 1.

    Example:
        >>> import funcgrad as fg
        >>> logits = fg.array([[100.0, 0.0], [0.0, 0.0]])
        >>> fg.losses.softmax_cross_entropy_with_integer_labels(logits, fg.array([1, 0]))
        Array([100.       ,   0.6931472], dtype=float32)
    """
    name = "softmax_cross_entropy_with_integer_labels"
    check_number(name, "label_smoothing", label_smoothing, 0, 1)
    (logits,), dtype = working_precision(logits)
    axis = normalize_axis(name, axis, logits.ndim)
    labels = integer_labels(name, labels, logits.shape, axis)
    if where is not None:
        where = element_mask(name, where, logits.shape, axis)
    logits, examples = _counted(logits, where, axis)
    # Shifted before the difference is taken: large logits have no digits left for small losses.
    shifted = logits - stop_gradient(logits.max(axis=axis, keepdims=True))
    log_sum = np.log(np.exp(shifted).sum(axis=axis))
    is_class, labels = known_classes(labels, logits.shape[axis])
    loss = log_sum - of_class(shifted, labels, axis)
    weights = None
    if class_weights is not None:
        weights = along_classes(name, class_weights, logits.shape, (axis,))
        loss = times_weight(weights.reshape(-1)[labels], loss)
    if label_smoothing:
        costs = np.expand_dims(log_sum, axis) - shifted
        classes = logits.shape[axis]
        if where is not None:
            costs = np.where(where, costs, 0)
            counted = np.broadcast_to(where, logits.shape).astype(logits.dtype)
            classes = np.maximum(counted.sum(axis=axis), 1)
        if weights is not None:
            costs = times_weight(weights, costs)
        loss = (1.0 - label_smoothing) * loss + (label_smoothing / classes) * costs.sum(axis=axis)
    loss = only_where(is_class, loss)
    return cast(loss if examples is None else np.where(examples, loss, 0), dtype)


def nll_loss(
    log_probabilities: Float[ArrayLike, "..."],
    labels: Integer[ArrayLike, "..."],
    axis: int = -1,
    where: Bool[ArrayLike, "..."] | None = None,
    *,
    class_weights: Float[ArrayLike, " classes"] | None = None,
) -> Float[Array, "..."]:
    """The negative logarithm of the probability of the right class, from logarithms such as `log_softmax` gives.

    Arguments:
        log_probabilities: floats of any shape, with the classes along `axis`; nothing makes them sum to 1.
        labels: integers of the shape of `log_probabilities` without that axis: the numbers of the right classes.
        axis: the axis of the classes.
        where: which examples to count, of the shape of `labels`; the others cost 0 and have the gradient 0.
        class_weights: a factor for each class.

    Returns:
        An array of the shape of `labels`. It is NaN, with the gradient 0, where a label that counts is no class.

    Raises:
        ShapeError: if the shapes do not fit.
        DtypeError: if `labels` are no integers.

    Example:
        >>> import funcgrad as fg
        >>> log_probabilities = fg.nn.log_softmax(fg.array([[100.0, 0.0], [0.0, 0.0]]))
        >>> fg.losses.nll_loss(log_probabilities, fg.array([1, 0]))
        Array([100.       ,   0.6931472], dtype=float32)
    """
    (log_probabilities,), dtype = working_precision(log_probabilities)
    axis = normalize_axis("nll_loss", axis, log_probabilities.ndim)
    shape = log_probabilities.shape
    labels = integer_labels("nll_loss", labels, shape, axis)
    is_class, labels = known_classes(labels, shape[axis])
    loss = -of_class(log_probabilities, labels, axis)
    if class_weights is not None:
        loss = times_weight(along_classes("nll_loss", class_weights, shape, (axis,)).reshape(-1)[labels], loss)
    loss = only_where(is_class, loss)
    if where is not None:
        loss = np.where(element_mask("nll_loss", where, labels.shape), loss, 0)
    return cast(loss, dtype)
