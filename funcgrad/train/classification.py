"""Metrics of classification: accuracies, the confusion matrix, and what follows from it.

A label that is no class makes every number wrong, and `jit` knows no values. So labels out of range are counted, and
`compute` refuses to give a number if there are any.
"""

from __future__ import annotations

from typing import Any, Literal

from funcgrad import numpy as np
from funcgrad.annotations import Array
from funcgrad.array import ConcreteArray
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.train.metrics import Metric, checked_mask, ratio

Average = Literal["macro", "micro", "weighted", "binary", "none"]


class _OfClasses(Metric):
    """What metrics of classes have in common: a count of labels that are no class."""

    invalid: Array

    def _invalid_with(self, is_invalid: Array, classes: int) -> Array:
        """The count with those of a batch; an error right away where values are known."""
        count = self.invalid + np.sum(is_invalid, dtype=np.int64)
        if isinstance(count, ConcreteArray) and int(count):
            self._refuse(int(count), f"from 0 to {classes - 1}")
        return count

    def _refuse(self, count: int, classes: str) -> None:
        raise ArgumentError(
            f"{type(self).__name__} got {count} label{'s' * (count > 1)} or predictions that are not {classes}; "
            "correct the data, or leave them out with mask."
        )

    def _checked(self, result: Array) -> Array:
        """A result, unless labels were invalid; where values are not known, it becomes NaN."""
        if isinstance(self.invalid, ConcreteArray):
            if int(self.invalid):
                self._refuse(int(self.invalid), "one of the classes")
            return result
        return np.where(self.invalid > 0, np.nan, result)


class Accuracy(_OfClasses):
    """How many of the predictions are right.

    Example:
        >>> import funcgrad as fg
        >>> logits = fg.array([[2.0, 1.0], [0.0, 1.0], [3.0, 1.0]])
        >>> round(float(fg.train.Accuracy().update(logits, fg.array([0, 1, 1])).compute()), 4)
        0.6667
    """

    right: Array
    count: Array

    def __init__(self):
        self.right = self.count = self.invalid = np.zeros((), dtype=np.int64)

    def update(self, predictions: Array, labels: Array, mask: Array | None = None) -> Accuracy:
        """Adds a batch.

        Arguments:
            predictions: scores of shape (..., classes), of which the greatest counts; or classes, of the shape of
                `labels`.
            labels: the right classes, integers from 0 to classes - 1.
            mask: which of them count, boolean, of the shape of `labels`.

        Raises:
            ShapeError: the shapes do not fit.
            ArgumentError: a label is out of range. Inside of `jit`, `compute` raises it later.
        """
        predictions, labels = np.asarray(predictions), np.asarray(labels)
        is_right = _classes("Accuracy", predictions, labels) == labels
        return self._add(predictions if predictions.ndim > labels.ndim else None, labels, is_right, mask)

    def _add(self, scores: Array | None, labels: Array, is_right: Array, mask: Array | None) -> Any:
        number = labels.size
        if mask is not None:
            mask = checked_mask(type(self).__name__, mask, labels)
            is_right, number = is_right & mask, np.sum(mask, dtype=np.int64)
        invalid = self.invalid
        if scores is not None:
            is_invalid = _out_of_range(labels, scores.shape[-1])
            invalid = self._invalid_with(is_invalid if mask is None else is_invalid & mask, scores.shape[-1])
        right = self.right + np.sum(is_right, dtype=np.int64)
        return self.replace(right=right, count=self.count + number, invalid=invalid)

    def compute(self) -> Array:
        """The share of right predictions, float64 of shape (); NaN if there were none at all.

        Raises:
            ArgumentError: labels were out of range.
        """
        return self._checked(ratio(self.right, self.count, np.nan))


class TopKAccuracy(Accuracy):
    """How often the right class is among the k with the greatest scores.

    Of equal scores, that of the smaller class counts as the greater one.

    Arguments:
        k: how many classes to look at; at least 1.

    Example:
        >>> import funcgrad as fg
        >>> scores = fg.array([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2]])
        >>> fg.train.TopKAccuracy(2).update(scores, fg.array([1, 2])).compute()
        Array(0.5, dtype=float64)
    """

    k: int

    def __init__(self, k: int):
        if k < 1:
            raise ArgumentError(f"TopKAccuracy takes a k of at least 1, not {k}.")
        super().__init__()
        self.k = k

    def update(self, predictions: Array, labels: Array, mask: Array | None = None) -> TopKAccuracy:
        """Adds a batch.

        Arguments:
            predictions: scores of shape (..., classes).
            labels: the right classes, integers from 0 to classes - 1.
            mask: which of them count, boolean, of the shape of `labels`.

        Raises:
            ShapeError: the shapes do not fit.
            ArgumentError: a label is out of range. Inside of `jit`, `compute` raises it later.
        """
        scores, labels = np.asarray(predictions), np.asarray(labels)
        _check_scores("TopKAccuracy", scores, labels)
        own = np.take_along_axis(scores, labels[..., None], axis=-1)
        before = (scores > own) | (scores == own) & (np.arange(scores.shape[-1]) < labels[..., None])
        return self._add(scores, labels, (before.sum(axis=-1) < self.k) & ~np.isnan(own[..., 0]), mask)


class ConfusionMatrix(_OfClasses):
    """How often each class was taken for each other.

    Arguments:
        num_classes: how many classes there are; at least 2.

    Example:
        >>> import funcgrad as fg
        >>> matrix = fg.train.ConfusionMatrix(2).update(fg.array([0, 1, 1]), fg.array([0, 0, 1]))
        >>> matrix.compute()
        Array([[1, 1],
               [0, 1]], dtype=int64)
    """

    counts: Array
    num_classes: int

    def __init__(self, num_classes: int):
        if num_classes < 2:
            raise ArgumentError(f"{type(self).__name__} takes at least 2 classes, not {num_classes}.")
        self.counts = np.zeros((num_classes, num_classes), dtype=np.int64)
        self.invalid = np.zeros((), dtype=np.int64)
        self.num_classes = num_classes

    def update(self, predictions: Array, labels: Array, mask: Array | None = None) -> Any:
        """Adds a batch.

        Arguments:
            predictions: scores of shape (..., classes), of which the greatest counts; or classes, of the shape of
                `labels`.
            labels: the right classes, integers from 0 to num_classes - 1.
            mask: which of them count, boolean, of the shape of `labels`.

        Raises:
            ShapeError: the shapes do not fit.
            ArgumentError: a class is out of range. Inside of `jit`, `compute` raises it later.
        """
        name, n = type(self).__name__, self.num_classes
        labels = np.asarray(labels)
        found = _classes(name, predictions, labels)
        mask = checked_mask(name, mask, labels)
        is_invalid = mask & (_out_of_range(found, n) | _out_of_range(labels, n))
        invalid = self._invalid_with(is_invalid, n)
        cells = np.where(mask & ~is_invalid, labels.astype(np.int64) * n + found.astype(np.int64), n * n)
        counts = np.zeros(n * n + 1, dtype=np.int64).at[cells.reshape(-1)].add(1)[:-1].reshape(n, n)
        return self.replace(counts=self.counts + counts, invalid=invalid)

    def compute(self) -> Array:
        """The matrix, int64 of shape (num_classes, num_classes): at [i, j], the examples of class i taken for j.

        Raises:
            ArgumentError: labels or predictions were out of range.
        """
        if isinstance(self.invalid, ConcreteArray) and int(self.invalid):
            self._refuse(int(self.invalid), f"from 0 to {self.num_classes - 1}")
        return self.counts


class _Score(ConfusionMatrix):
    """What precision, recall and F1 have in common: a ratio for each class, and a mean of them."""

    average: str

    def __init__(self, num_classes: int = 2, average: Average | None = None):
        super().__init__(num_classes)
        self.average = average or ("binary" if num_classes == 2 else "macro")
        if self.average not in ("macro", "micro", "weighted", "binary", "none"):
            raise ArgumentError(
                f"{type(self).__name__} got average={average!r}; use 'macro', 'micro', 'weighted', 'binary' or 'none'."
            )
        if self.average == "binary" and num_classes != 2:
            raise ArgumentError(f"average='binary' is for 2 classes, and there are {num_classes}; use 'macro'.")

    def _score(self, right: Array, found: Array, there: Array) -> Array:
        raise NotImplementedError

    def compute(self) -> Array:
        """The score, float64 of shape (), or (num_classes,) with average="none"; 0 where it would divide by 0."""
        return self._checked(self._averaged(self.counts))

    def _averaged(self, counts: Array) -> Array:
        right, found, there = np.diagonal(counts), counts.sum(axis=0), counts.sum(axis=1)
        if self.average == "micro":
            return self._score(right.sum(), found.sum(), there.sum())
        scores = self._score(right, found, there)
        if self.average == "none":
            return scores
        if self.average == "binary":
            return scores[1]
        if self.average == "weighted":
            return ratio((scores * there).sum(), there.sum(), 0.0)
        # A class that neither is there nor was found says nothing.
        is_used = found + there > 0
        return ratio(np.where(is_used, scores, 0.0).sum(), is_used.sum(), 0.0)


class Precision(_Score):
    """How many of those that were taken for a class belong to it.

    Arguments:
        num_classes: how many classes there are.
        average: "binary", of class 1 only, the default for 2 classes; "macro", the mean over the classes that occur,
            the default for more; "weighted", each class by its examples; "micro", over all examples; "none", each
            alone.

    Example:
        >>> import funcgrad as fg
        >>> fg.train.Precision().update(fg.array([1, 1, 0, 1]), fg.array([1, 0, 1, 0])).compute()
        Array(0.33333333, dtype=float64)
    """

    def _score(self, right: Array, found: Array, there: Array) -> Array:
        return ratio(right, found, 0.0)


class Recall(_Score):
    """How many of those that belong to a class were taken for it. The arguments are those of `Precision`.

    Example:
        >>> import funcgrad as fg
        >>> fg.train.Recall().update(fg.array([1, 1, 0, 1]), fg.array([1, 0, 1, 0])).compute()
        Array(0.5, dtype=float64)
    """

    def _score(self, right: Array, found: Array, there: Array) -> Array:
        return ratio(right, there, 0.0)


class F1(_Score):
    """The harmonic mean of precision and recall. The arguments are those of `Precision`.

    Example:
        >>> import funcgrad as fg
        >>> fg.train.F1().update(fg.array([1, 1, 0, 1]), fg.array([1, 0, 1, 0])).compute()
        Array(0.4, dtype=float64)
    """

    def _score(self, right: Array, found: Array, there: Array) -> Array:
        return ratio(2 * right, found + there, 0.0)


def _check_scores(name: str, scores: Array, labels: Array) -> None:
    if scores.ndim != labels.ndim + 1 or scores.shape[:-1] != labels.shape or labels.dtype.kind not in "iu":
        raise ShapeError(
            f"{name} got scores {scores.aval!r} and labels {labels.aval!r}; give integer labels of shape (...), and "
            "scores of shape (..., classes)."
        )


def _classes(name: str, predictions: Array, labels: Array) -> Array:
    """The predicted classes, from scores or from classes."""
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    if predictions.shape == labels.shape and predictions.dtype.kind in "biu":
        return predictions
    _check_scores(name, predictions, labels)
    return np.argmax(predictions, axis=-1)


def _out_of_range(classes: Array, count: int) -> Array:
    return (classes < 0) | (classes >= count)
