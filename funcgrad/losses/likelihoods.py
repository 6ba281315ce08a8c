"""Losses of predicted distributions: how unlikely they make what is, and how far they are from each other."""

from __future__ import annotations

import math

from funcgrad import numpy as np
from funcgrad.annotations import Array, ArrayLike, Bool, Float, Real
from funcgrad.losses.arguments import (
    check_broadcasts,
    check_number,
    check_same_shape,
    element_mask,
    only_where,
    times_weight,
    working_precision,
)
from funcgrad.primitives.elementwise import lgamma, stop_gradient
from funcgrad.primitives.operators import cast


def kl_divergence(
    log_predictions: Float[ArrayLike, "..."],
    targets: Float[ArrayLike, "..."],
    axis: int | tuple[int, ...] | None = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "..."]:
    """The Kullback-Leibler divergence of predictions from targets, `sum(targets * (log(targets) - log_predictions))`.

    Arguments:
        log_predictions: logarithms of probabilities, such as `log_softmax` gives; -inf stands for the probability 0.
        targets: probabilities, of the same shape.
        axis: the axis, or axes, of the distributions.
        where: which elements to count, of as many axes as the arrays, or which examples, without `axis`.

    Returns:
        An array without the axes of the distributions; infinite only where a probability above 0 is predicted to be 0.
        A target of 0 costs nothing, and the infinite derivative of its logarithm is left out of its gradient.

    Raises:
        ShapeError: if the shapes do not fit.

    Example:
        >>> import funcgrad as fg
        >>> fg.losses.kl_divergence(fg.numpy.log(fg.array([0.5, 0.5])), fg.array([1.0, 0.0]))
        Array(0.6931472, dtype=float32)
    """
    (log_q, p), dtype = working_precision(log_predictions, targets)
    check_same_shape("kl_divergence", log_predictions=log_q, targets=p)
    if where is not None:
        where = element_mask("kl_divergence", where, p.shape, axis)
        log_q, p = np.where(where, log_q, 0), np.where(where, p, 0)
    is_zero = p == 0
    log_p = np.where(is_zero, 0, np.log(np.where(is_zero, 1, p)))
    return cast(times_weight(p, log_p - log_q).sum(axis=axis), dtype)


def kl_divergence_with_log_targets(
    log_predictions: Float[ArrayLike, "..."],
    log_targets: Float[ArrayLike, "..."],
    axis: int | tuple[int, ...] | None = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "..."]:
    """The Kullback-Leibler divergence of predictions from targets, both as logarithms.

    Arguments, result and errors are those of `kl_divergence`; here the targets are `exp(log_targets)`, and -inf stands
    for the probability 0 in both.

    Example:
        >>> import funcgrad as fg
        >>> log = fg.numpy.log
        >>> fg.losses.kl_divergence_with_log_targets(log(fg.array([0.5, 0.5])), log(fg.array([1.0, 0.0])))
        Array(0.6931472, dtype=float32)
    """
    (log_q, log_p), dtype = working_precision(log_predictions, log_targets)
    check_same_shape("kl_divergence_with_log_targets", log_predictions=log_q, log_targets=log_p)
    counted = log_p != -math.inf
    if where is not None:
        where = element_mask("kl_divergence_with_log_targets", where, log_p.shape, axis)
        counted = np.logical_and(counted, where)
    log_q, log_p = np.where(counted, log_q, 0), np.where(counted, log_p, 0)
    return cast((np.exp(log_p) * (log_p - log_q)).sum(axis=axis), dtype)


def poisson_nll_loss(
    predictions: Float[ArrayLike, "*shape"],
    targets: ArrayLike,
    *,
    log_input: bool = True,
    full: bool = False,
    eps: Real = 1e-8,
) -> Float[Array, "*shape"]:
    """The negative logarithm of the probability of counts, if they have Poisson distributions of predicted means.

    That is `exp(predictions) - targets * predictions`, without the term log(targets!), which no prediction changes.

    Arguments:
        predictions: the logarithms of the means, floats of any shape.
        targets: the counts, at least 0, of the same shape, or a single number.
        log_input: False if `predictions` are the means themselves.
        full: whether to add log(targets!).
        eps: a small number that is added to means before the logarithm is taken, if `log_input` is False.

    Returns:
        An array of the shape of `predictions`. It is NaN, with the gradient 0, where a target is negative.

    Raises:
        ShapeError: if the shapes differ.

    Example:
        >>> import funcgrad as fg
        >>> fg.losses.poisson_nll_loss(fg.array([0.0, 0.0]), fg.array([0, 3]), full=True)
        Array([1.       , 2.7917595], dtype=float32)
    """
    (predictions, targets), dtype = working_precision(predictions, targets)
    if targets.ndim:
        check_same_shape("poisson_nll_loss", predictions=predictions, targets=targets)
    log_means = predictions if log_input else np.log(predictions + eps)
    loss = (np.exp(predictions) if log_input else predictions) - times_weight(targets, log_means)
    valid = targets >= 0
    if full:
        loss = loss + lgamma(np.where(valid, targets, 0) + 1.0)
    return cast(only_where(valid, loss), dtype)


def gaussian_nll_loss(
    predictions: Float[ArrayLike, "*shape"],
    targets: ArrayLike,
    variances: ArrayLike,
    *,
    full: bool = False,
    eps: Real = 1e-6,
) -> Float[Array, "*shape"]:
    """The negative logarithm of the density of targets, if they have normal distributions of predicted means.

    That is `(log(variances) + (predictions - targets)**2 / variances) / 2`, without the constant log(2 * pi) / 2.

    Arguments:
        predictions: the means, floats of any shape.
        targets: numbers of the same shape, or a single number.
        variances: the predicted variances, of the same shape, or with length 1 along some axes, or a number.
        full: whether to add the constant.
        eps: the least variance that is computed with; the gradient is the one there, so that it can grow again.

    Returns:
        An array of the shape of `predictions`. It is NaN, with the gradient 0, where a variance is negative.

    Raises:
        ShapeError: if the shapes do not fit.
        ArgumentError: if `eps` is negative.

    Source: D. Nix and A. Weigend, "Estimating the Mean and Variance of the Target Probability Distribution",
    International Conference on Neural Networks 1994.

    Example:
        >>> import funcgrad as fg
        >>> fg.losses.gaussian_nll_loss(fg.array([1.0, 1.0]), fg.array([1.0, 3.0]), 1.0)
        Array([0., 2.], dtype=float32)
    """
    check_number("gaussian_nll_loss", "eps", eps, 0)
    (predictions, targets, variances), dtype = working_precision(predictions, targets, variances)
    if targets.ndim:
        check_same_shape("gaussian_nll_loss", predictions=predictions, targets=targets)
    if variances.ndim:
        check_broadcasts("gaussian_nll_loss", "variances", variances, predictions.shape)
    valid = variances >= 0
    variances = variances + stop_gradient(np.maximum(variances, eps) - variances)
    difference = predictions - targets
    loss = 0.5 * (np.log(variances) + difference / variances * difference)
    if full:
        loss = loss + 0.5 * math.log(2 * math.pi)
    return cast(only_where(valid, loss), dtype)
