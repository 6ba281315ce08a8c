"""Losses that are 0 once a score is right by a margin: hinges.

At the margin itself the derivative is 0.
"""

from __future__ import annotations

import numpy

from funcgrad import numpy as np
from funcgrad.annotations import Array, ArrayLike, Float, Integer, Real
from funcgrad.errors import ArgumentError
from funcgrad.losses.arguments import (
    along_classes,
    check_same_shape,
    integer_labels,
    known_classes,
    of_class,
    only_where,
    working_precision,
)
from funcgrad.nn.activations import relu
from funcgrad.primitives.operators import cast


def _signed(name: str, what: str, scores: ArrayLike, targets: ArrayLike) -> tuple[Array, Array, Array, numpy.dtype]:
    """Scores, targets, and which of these are -1 or 1."""
    (scores, targets), dtype = working_precision(scores, targets)
    if targets.ndim:
        check_same_shape(name, **{what: scores, "targets": targets})
    return scores, targets, np.abs(targets) == 1, dtype


def hinge_loss(predictor_outputs: Float[ArrayLike, "*shape"], targets: ArrayLike) -> Float[Array, "*shape"]:
    """How much is missing to a score of the right sign and at least size 1: `max(0, 1 - predictor_outputs * targets)`.

    Arguments:
        predictor_outputs: scores of any shape, positive for yes.
        targets: -1 or 1, of the same shape, or a single number.

    Returns:
        An array of the same shape. It is NaN, with the gradient 0, where a target is neither -1 nor 1 (0, mostly).

    Raises:
        ShapeError: if the shapes differ.

    Example:
        >>> import funcgrad as fg
        >>> fg.losses.hinge_loss(fg.array([0.25, -3.0]), fg.array([1, -1]))
        Array([0.75, 0.  ], dtype=float32)
    """
    scores, targets, valid, dtype = _signed("hinge_loss", "predictor_outputs", predictor_outputs, targets)
    return cast(only_where(valid, relu(1.0 - scores * targets)), dtype)


def squared_hinge_loss(predictor_outputs: Float[ArrayLike, "*shape"], targets: ArrayLike) -> Float[Array, "*shape"]:
    """The square of `hinge_loss`, which has no kink. Arguments, result and errors are the same.

    Example:
        >>> import funcgrad as fg
        >>> fg.losses.squared_hinge_loss(fg.array([0.5, -3.0]), fg.array([1, -1]))
        Array([0.25, 0.  ], dtype=float32)
    """
    scores, targets, valid, dtype = _signed("squared_hinge_loss", "predictor_outputs", predictor_outputs, targets)
    missing = relu(1.0 - scores * targets)
    return cast(only_where(valid, missing * missing), dtype)


def _missing(name: str, scores: ArrayLike, labels: ArrayLike, margin: Real) -> tuple[Array, Array, Array, numpy.dtype]:
    """How much is missing between the right class and each other one, to the margin; which labels are classes."""
    (scores,), dtype = working_precision(scores)
    labels = integer_labels(name, labels, scores.shape, max(scores.ndim - 1, 0))
    is_class, labels = known_classes(labels, scores.shape[-1])
    of_label = np.expand_dims(of_class(scores, labels, -1), -1)
    is_other = np.expand_dims(labels, -1) != np.arange(scores.shape[-1])
    # The difference first: next to a large score, the margin would be rounded away.
    return np.where(is_other, relu((scores - of_label) + margin), 0), is_class, labels, dtype


def multiclass_hinge_loss(
    scores: Float[ArrayLike, "*batch classes"], labels: Integer[ArrayLike, "..."]
) -> Float[Array, "*batch"]:
    """How much is missing to a score of the right class that is larger by 1 than that of every other class.

    Arguments:
        scores: floats, with the classes along the last axis.
        labels: the numbers of the right classes.

    Returns:
        An array of the shape of `labels`. It is NaN, with the gradient 0, where a label is no class.

    Raises:
        ShapeError: if the shape of `labels` is not that of `scores` without the last axis.
        DtypeError: if `labels` are no integers.

    Source: K. Crammer and Y. Singer, "On the Algorithmic Implementation of Multiclass Kernel-based Vector Machines",
    Journal of Machine Learning Research 2 (2001).

    Example:
        >>> import funcgrad as fg
        >>> fg.losses.multiclass_hinge_loss(fg.array([[1.0, 1.5, 0.0], [5.0, 0.0, 1.0]]), fg.array([0, 0]))
        Array([1.5, 0. ], dtype=float32)
    """
    missing, is_class, _, dtype = _missing("multiclass_hinge_loss", scores, labels, 1.0)
    return cast(only_where(is_class, missing.max(axis=-1)), dtype)


def multi_margin_loss(
    scores: Float[ArrayLike, "*batch classes"],
    labels: Integer[ArrayLike, "..."],
    *,
    p: int = 1,
    margin: Real = 1.0,
    class_weights: Float[ArrayLike, " classes"] | None = None,
) -> Float[Array, "*batch"]:
    """What is missing to a margin between the right class and each other one, summed and divided by the classes.

    Arguments:
        scores: floats, with the classes along the last axis.
        labels: the numbers of the right classes.
        p: 1, or 2 for the squares of what is missing.
        margin: by how much the score of the right class shall be larger.
        class_weights: a factor for each class.

    Returns, errors and source are those of `multiclass_hinge_loss`, and:

    Raises:
        ArgumentError: if `p` is neither 1 nor 2.

    Example:
        >>> import funcgrad as fg
        >>> fg.losses.multi_margin_loss(fg.array([[1.0, 1.5, 0.0, 0.5]]), fg.array([0]))
        Array([0.5], dtype=float32)
    """
    if p not in (1, 2):
        raise ArgumentError(f"p of multi_margin_loss must be 1 or 2, not {p!r}.")
    missing, is_class, labels, dtype = _missing("multi_margin_loss", scores, labels, margin)
    loss = (missing if p == 1 else missing * missing).mean(axis=-1)
    if class_weights is not None:
        shape = missing.shape
        loss = loss * along_classes("multi_margin_loss", class_weights, shape, (len(shape) - 1,)).reshape(-1)[labels]
    return cast(only_where(is_class, loss), dtype)


def margin_ranking_loss(
    first: Float[ArrayLike, "*shape"],
    second: Float[ArrayLike, "*shape"],
    targets: ArrayLike,
    *,
    margin: Real = 0.0,
) -> Float[Array, "*shape"]:
    """How much is missing to the right order of two scores, `max(0, margin - targets * (first - second))`.

    Arguments:
        first, second: scores of one shape.
        targets: 1 where the first shall be the larger one, -1 where the second, of the same shape, or a single number.
        margin: by how much it shall be larger.

    Returns:
        An array of the same shape. It is NaN, with the gradient 0, where a target is neither -1 nor 1.

    Raises:
        ShapeError: if the shapes differ.

    Example:
        >>> import funcgrad as fg
        >>> fg.losses.margin_ranking_loss(fg.array([1.0, 1.0]), fg.array([3.0, 3.0]), fg.array([1, -1]))
        Array([2., 0.], dtype=float32)
    """
    (first, second, targets), dtype = working_precision(first, second, targets)
    check_same_shape("margin_ranking_loss", first=first, second=second)
    if targets.ndim:
        check_same_shape("margin_ranking_loss", first=first, targets=targets)
    return cast(only_where(np.abs(targets) == 1, relu(margin - targets * (first - second))), dtype)
