"""Connectionist temporal classification: the loss of a sequence that is not aligned with its labels.

Source: A. Graves et al., "Connectionist Temporal Classification: Labelling Unsegmented Sequence Data with Recurrent
Neural Networks", International Conference on Machine Learning 2006.
"""

from __future__ import annotations

import math

from funcgrad import dtypes
from funcgrad import numpy as np
from funcgrad.annotations import Array, ArrayLike, Float, Integer, Real
from funcgrad.control_flow.scan import scan
from funcgrad.errors import ArgumentError, DtypeError, ShapeError
from funcgrad.losses.arguments import known_classes, only_where, working_precision
from funcgrad.nn.activations import log_softmax
from funcgrad.numpy.axes import as_integer
from funcgrad.primitives.elementwise import stop_gradient
from funcgrad.primitives.operators import cast


def _log_add(*terms: Array) -> Array:
    """The logarithm of a sum of exponentials, with finite derivatives where all of them are 0."""
    largest = terms[0]
    for term in terms[1:]:
        largest = np.maximum(largest, term)
    largest = stop_gradient(largest)
    nothing = largest == -math.inf
    largest = np.where(nothing, 0, largest)
    total = sum((np.exp(term - largest) for term in terms[1:]), np.exp(terms[0] - largest))
    return np.where(nothing, -math.inf, largest + np.log(np.where(nothing, 1, total)))


def _shifted(x: Array, places: int, filling: Real) -> Array:
    """`x` moved to the right along its last axis."""
    filled = np.concatenate([np.full((*x.shape[:-1], places), filling, x.dtype), x], axis=-1)
    return filled[..., : x.shape[-1]]


def _check(logits: Array, logit_paddings: Array, labels: Array, label_paddings: Array, blank_id: int) -> None:
    if logits.ndim < 2:
        raise ShapeError(f"ctc_loss needs logits of shape (..., times, classes), and got shape {logits.shape}.")
    if not dtypes.is_integer(labels.dtype):
        raise DtypeError(
            f"ctc_loss takes the numbers of classes as integers, not {labels.dtype}; use labels.astype(fg.int32)."
        )
    if logit_paddings.shape != logits.shape[:-1]:
        raise ShapeError(
            f"ctc_loss got logits of shape {logits.shape} and logit_paddings of shape {logit_paddings.shape}; "
            f"give one for each time, shape {logits.shape[:-1]}."
        )
    if labels.shape[:-1] != logits.shape[:-2] or labels.ndim != logits.ndim - 1:
        raise ShapeError(
            f"ctc_loss got logits of shape {logits.shape} and labels of shape {labels.shape}; the labels must have the "
            f"axes {logits.shape[:-2]} of the batch and one more, on which a sequence lies."
        )
    if label_paddings.shape != labels.shape:
        raise ShapeError(
            f"ctc_loss got labels of shape {labels.shape} and label_paddings of shape {label_paddings.shape}; give one "
            "for each label."
        )
    if not 0 <= blank_id < logits.shape[-1]:
        raise ArgumentError(f"blank_id of ctc_loss must be a class from 0 to {logits.shape[-1] - 1}, not {blank_id}.")


def ctc_loss(
    logits: Float[ArrayLike, "*batch times classes"],
    logit_paddings: ArrayLike,
    labels: Integer[ArrayLike, "..."],
    label_paddings: ArrayLike,
    *,
    blank_id: int = 0,
) -> Float[Array, "*batch"]:
    """The negative logarithm of the probability of a sequence of labels, summed over all of its alignments.

    At each time softmax(`logits`) gives a class, or a blank. An alignment of the labels is a sequence of classes that
    becomes the labels when repetitions are merged and then blanks are left out.

    Arguments:
        logits: floats of shape (..., times, classes), where the classes include the blank.
        logit_paddings: True or 1 for times that are padding, False or 0 for others, of shape (..., times).
        labels: integers of shape (..., labels): the classes in their order, without blanks.
        label_paddings: True or 1 for labels that are padding, which are at the end, of the shape of `labels`.
        blank_id: the number of the class that is the blank.

    Returns:
        An array of shape (...), one value for each sequence. It is infinite, with the gradient 0, where the times are
        too few for the labels (labels that repeat need a blank between them), and NaN, with the gradient 0, where a
        label that is no padding is the blank or no class.

    Raises:
        ShapeError: if the shapes do not fit.
        DtypeError: if `labels` are no integers.
        ArgumentError: if `blank_id` is no class.

    Example:
        >>> import funcgrad as fg
        >>> import funcgrad.numpy as np
        >>> logits = np.zeros((1, 3, 4))  # 64 equally probable sequences of 3 classes
        >>> loss = fg.losses.ctc_loss(logits, np.zeros((1, 3)), fg.array([[1, 2]]), np.zeros((1, 2)))
        >>> (64 * np.exp(-loss)).round(3)  # 1 2 -, 1 - 2, - 1 2, 1 1 2 and 1 2 2 stand for 1 2
        Array([5.], dtype=float32)
    """
    (logits,), dtype = working_precision(logits)
    labels = np.asarray(labels)
    logit_paddings, label_paddings = np.not_equal(logit_paddings, 0), np.not_equal(label_paddings, 0)
    blank_id = as_integer(blank_id, "blank_id of ctc_loss")
    _check(logits, logit_paddings, labels, label_paddings, blank_id)
    is_label = np.logical_and(known_classes(labels, logits.shape[-1])[0], labels != blank_id)
    valid = np.logical_or(is_label, label_paddings).all(axis=-1)
    letters = np.where(is_label, labels, blank_id)

    # The states of an alignment: a blank before each label, each label, and a blank at the end.
    pairs = np.stack([np.full(letters.shape, blank_id, letters.dtype), letters], axis=-1)
    batch, count = letters.shape[:-1], 2 * letters.shape[-1] + 1
    states = np.concatenate(
        [pairs.reshape((*batch, count - 1)), np.full((*batch, 1), blank_id, letters.dtype)], axis=-1
    )
    # From label to label directly, past the blank between them, if they differ.
    may_skip = np.logical_and(states != blank_id, states != _shifted(states, 2, blank_id))

    # What stands in padding must not matter, not even if it is NaN.
    frames = np.where(np.expand_dims(logit_paddings, -1), 0, logits)
    emissions = np.take_along_axis(log_softmax(frames), np.expand_dims(states, -2), axis=-1)

    def advance(alphas: Array, now: tuple[Array, Array]) -> tuple[Array, None]:
        """Logarithms of the probabilities of all that leads to each state, from one time to the next."""
        emission, is_padding = now
        skipped = np.where(may_skip, _shifted(alphas, 2, -math.inf), -math.inf)
        advanced = _log_add(alphas, _shifted(alphas, 1, -math.inf), skipped) + emission
        return np.where(np.expand_dims(is_padding, -1), alphas, advanced), None

    # Before the first time it is as if in the first blank, without having emitted it.
    start = np.broadcast_to(np.where(np.arange(count) == 0, 0.0, -math.inf), (*batch, count)).astype(frames.dtype)
    alphas, _ = scan(advance, start, (np.moveaxis(emissions, -2, 0), np.moveaxis(logit_paddings, -1, 0)))

    # A sequence ends with its last label, or the blank after it.
    end = np.expand_dims(2 * np.logical_not(label_paddings).sum(axis=-1), -1)
    in_blank = np.take_along_axis(alphas, end, axis=-1)
    in_label = np.where(end > 0, np.take_along_axis(alphas, np.maximum(end - 1, 0), axis=-1), -math.inf)
    return cast(only_where(valid, -_log_add(in_blank, in_label).squeeze(-1)), dtype)
