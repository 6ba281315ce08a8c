"""The area under the ROC curve, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funcgrad import numpy as np
from funcgrad.annotations import Array
from funcgrad.array import ConcreteArray
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.train.metrics import Metric, checked_mask, ratio


class AUC(Metric):
    """The area under the ROC curve: how often a positive example has a greater score than a negative one.

    It is for two classes; of more, take one against the rest: `AUC().update(scores[:, k], labels == k)`. It is exact,
    so all scores have to be kept, and `update` makes the arrays longer. Update it outside of `jit`, which would compile
    anew for each length; a step that makes a new one for its own batch may be jitted.

    Source: T. Fawcett, "An introduction to ROC analysis", Pattern Recognition Letters 27, 2006. Ties count half.

    Example:
        >>> import funcgrad as fg
        >>> fg.train.AUC().update(fg.array([0.1, 0.4, 0.35, 0.8]), fg.array([0, 0, 1, 1])).compute()
        Array(0.75, dtype=float64)
    """

    scores: Array
    labels: Array
    weights: Array

    def __init__(self):
        self.scores = self.weights = np.zeros(0, dtype=np.float64)
        self.labels = np.zeros(0, dtype=np.bool_)

    def update(self, scores: Array, labels: Array, mask: Array | None = None) -> AUC:
        """Adds a batch.

        Arguments:
            scores: greater for examples that are more likely positive.
            labels: 1 or True for positive examples, 0 or False for negative ones, of the shape of `scores`.
            mask: which of them count, boolean, of the same shape.

        Raises:
            ShapeError: the shapes do not fit.
            ArgumentError: a label is neither 0 nor 1. Inside of `jit`, `compute` raises it later.
        """
        scores, labels = np.asarray(scores), np.asarray(labels)
        if scores.shape != labels.shape:
            raise ShapeError(
                f"AUC got scores of shape {scores.shape} and labels of shape {labels.shape}; give one for each label."
            )
        is_invalid = (labels != 0) & (labels != 1)
        weights = np.where(is_invalid, np.nan, np.ones(labels.shape, dtype=np.float64))
        weights = np.where(checked_mask("AUC", mask, labels), weights, 0.0)
        _check(weights)
        return self.replace(
            scores=np.concatenate([self.scores, scores.astype(np.float64).reshape(-1)]),
            labels=np.concatenate([self.labels, (labels != 0).reshape(-1)]),
            weights=np.concatenate([self.weights, weights.reshape(-1)]),
        )

    def merge(self, other: Any) -> AUC:
        """The metric of the examples of both."""
        return self.merge_all([other])

    def merge_all(self, others: Sequence[Any]) -> AUC:
        """The metric of the examples of all."""
        for other in others:
            if not isinstance(other, AUC):
                raise ArgumentError(f"AUC cannot be merged with {type(other).__name__}; merge metrics of one kind.")
        parts = [self, *others]
        fields = ("scores", "labels", "weights")
        return self.replace(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in fields})

    def compute(self) -> Array:
        """The area, float64 of shape (); NaN if the examples are all positive or all negative, or a score is NaN.

        Raises:
            ArgumentError: a label is neither 0 nor 1.
        """
        _check(self.weights)
        if not self.scores.size:
            return np.full((), np.nan, dtype=np.float64)
        order = np.argsort(self.scores)
        scores, is_positive, weights = self.scores[order], self.labels[order], self.weights[order]
        negative = np.where(is_positive, 0.0, weights)
        positive = weights - negative
        below = np.concatenate([np.zeros(1, dtype=np.float64), np.cumsum(negative)])
        first, last = (np.searchsorted(scores, scores, side=side) for side in ("left", "right"))
        area = (positive * (below[first] + below[last]) / 2).sum()
        area = np.where((np.isnan(scores) & (weights != 0)).any(), np.nan, area)
        return ratio(area, positive.sum() * negative.sum(), np.nan)


def _check(weights: Array) -> None:
    """Invalid labels have the weight NaN. Where values are not known, it makes the area NaN."""
    if isinstance(weights, ConcreteArray):
        count = int(np.isnan(weights).sum())
        if count:
            raise ArgumentError(
                f"AUC got {count} label{'s' * (count > 1)} that {'are' if count > 1 else 'is'} neither 0 nor 1; give "
                "the labels of one class against the rest as truth values, such as labels == 3."
            )
