"""Metrics: numbers about a whole epoch, put together from batches of any size.

A metric is a pytree of sums. `update` adds a batch, `merge` adds another metric, `compute` gives the number. The result
is that of all examples at once, also where the last batch is smaller; a mean of the batches' results is not. All is
pure and works inside `jit`: a training step may return `Accuracy().update(logits, labels)`.

Sums are int64 and float64, so that adding up an epoch costs no digits.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Any

import numpy

from funcgrad import nn, tree
from funcgrad import numpy as np
from funcgrad.annotations import Array, ArrayLike
from funcgrad.array import ConcreteArray, wrap
from funcgrad.errors import ShapeError

_WIDE = (np.float64, np.int64)


class Metric(nn.Module):
    """The base class of metrics. A metric of one's own has fields that add up, `update` and `compute`.

    Example:
        >>> import funcgrad as fg
        >>> class Largest(fg.train.Metric):
        ...     value: fg.Array = fg.array(-fg.numpy.inf)
        ...     def update(self, values):
        ...         return self.replace(value=fg.numpy.maximum(self.value, values.max()))
        ...     def merge(self, other):
        ...         return self.update(other.value)
        ...     def compute(self):
        ...         return self.value
        >>> Largest().update(fg.array([1.0, 3.0])).merge(Largest().update(fg.array([2.0]))).compute()
        Array(3., dtype=float32)
    """

    def update(self, *args: Any, **kwargs: Any) -> Any:
        """The metric with a batch added."""
        raise NotImplementedError

    def merge(self, other: Any) -> Any:
        """The metric of both together; by default the sum, field by field.

        Raises:
            TreeError: `other` is a metric of another kind, or with other settings.
        """
        return tree.map(operator.add, self, other)

    def merge_all(self, others: Sequence[Any]) -> Any:
        """The metric of many together: `merge` with one after the other, and quicker where that is a sum."""
        if type(self).merge is Metric.merge:
            sums = self._sums([self, *others])
            if sums is not None:
                return self.replace(**sums)
        return functools.reduce(lambda a, b: a.merge(b), others, self)

    def _sums(self, parts: list[Any]) -> dict[str, Array] | None:
        """The sums of the fields, computed on bare buffers; None if that cannot be."""
        if set(map(type, parts)) != {type(self)}:
            return None
        for name in self._static_names:
            if any(getattr(part, name) != getattr(self, name) for part in parts):
                return None
        sums = {}
        for name in self.__dict__.keys() - self._static_names:
            column = list(map(operator.attrgetter(name), parts))
            if set(map(type, column)) != {ConcreteArray}:
                return None
            first, buffers = column[0], [x._data for x in column]
            if first.ndim == 0 and first.dtype in _WIDE:  # Python adds such numbers as NumPy does, and sooner
                total = functools.reduce(operator.add, [x.item() for x in buffers])
                sums[name] = wrap(numpy.asarray(total, first.dtype))
            else:
                sums[name] = wrap(functools.reduce(operator.add, buffers))
        return sums

    def compute(self) -> Any:
        """The number, or the array of numbers, that the metric stands for."""
        raise NotImplementedError


class Mean(Metric):
    """The mean of numbers, such as losses.

    Example:
        >>> import funcgrad as fg
        >>> loss = fg.train.Mean().update(fg.array([1.0, 2.0, 3.0])).update(fg.array([6.0]))
        >>> loss.compute()
        Array(3., dtype=float64)
    """

    total: Array
    weight: Array

    def __init__(self):
        self.total = self.weight = np.zeros((), dtype=np.float64)

    def update(self, values: ArrayLike, weights: ArrayLike | None = None) -> Mean:
        """Adds numbers of any shape.

        Arguments:
            values: numbers; a mean over a batch is given with the size of the batch as its weight.
            weights: how much each counts, of a shape that broadcasts to that of `values`; a mask, for example.

        Numbers whose weight is 0 do not count, even if they are not finite.
        """
        x = np.asarray(values, dtype=np.float64)
        if weights is None:
            return self.replace(total=self.total + x.sum(), weight=self.weight + x.size)
        w = np.broadcast_to(np.asarray(weights, dtype=np.float64), x.shape)
        total = np.where(w == 0, 0.0, x * w).sum()
        return self.replace(total=self.total + total, weight=self.weight + w.sum())

    def compute(self) -> Array:
        """The mean, float64 of shape (); NaN if there were no numbers."""
        return ratio(self.total, self.weight, np.nan)


class Perplexity(Mean):
    """The exponential of the mean cross entropy of tokens, in nats.

    Example:
        >>> import funcgrad as fg
        >>> logits, labels = fg.numpy.zeros((5, 4)), fg.numpy.arange(5) % 4
        >>> losses = fg.losses.softmax_cross_entropy_with_integer_labels(logits, labels)
        >>> round(float(fg.train.Perplexity().update(losses).compute()), 5)
        4.0
    """

    def compute(self) -> Array:
        """The perplexity, float64 of shape ()."""
        return np.exp(super().compute())


def ratio(numerator: Array, denominator: Array, otherwise: float) -> Array:
    """The quotient in float64; `otherwise` where it would divide by 0."""
    if type(numerator) is type(denominator) is ConcreteArray and numerator.ndim == denominator.ndim == 0:
        below = float(denominator)
        return wrap(numpy.asarray(float(numerator) / below if below else otherwise))
    numerator, denominator = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    return np.where(denominator == 0, otherwise, numerator / np.where(denominator == 0, 1.0, denominator))


def checked_mask(name: str, mask: Array | None, labels: Array) -> Array:
    """Which labels count: all without a mask."""
    if mask is None:
        return np.ones(labels.shape, dtype=np.bool_)
    mask = np.asarray(mask)
    if mask.shape != labels.shape:
        raise ShapeError(
            f"{name} got a mask of shape {mask.shape} for labels of shape {labels.shape}; give a truth value for each."
        )
    return mask != 0
