"""What the steps of an epoch report, put together: metrics merged, numbers and arrays averaged.

Most of it happens some steps later, for many steps at once. That is quicker, because the processor stays with one kind
of work, and no step waits for the results of the one before it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy

from funcgrad import tree
from funcgrad.array import Array
from funcgrad.errors import ArgumentTypeError
from funcgrad.train.metrics import Metric

_STEPS = 64  # put together at once, at most
_BYTES = 2**24  # of results that wait for it


class Accumulator:
    """Adds up mappings from names to metrics, arrays and numbers. Pytrees of other kinds are left alone."""

    def __init__(self):
        self._metrics: dict[str, Metric] = {}
        self._means: dict[str, list[float]] = {}  # a sum, what rounding took from it, and the sum of the weights
        self._saved: dict[str, list[Array]] = {}  # leaves of metrics whose kind is not known before they are met
        self._waiting: list[Mapping[str, Any]] = []
        self._names: list[str] = []
        self._count = -1  # of names when they were looked at last
        self._limit = 1

    def add(self, outputs: Mapping[str, Any]) -> None:
        """Adds what a step reports."""
        if len(outputs) != self._count:
            self._learn(outputs)
        waiting = self._waiting
        if self._names:
            waiting.append(outputs if len(self._names) == self._count else {n: outputs[n] for n in self._names})
        if len(waiting) >= self._limit:
            self._put_together()

    def _learn(self, outputs: Mapping[str, Any]) -> None:
        """Finds out which values can be put together, and how many steps of them may wait."""
        self._put_together()
        self._count = len(outputs)
        self._names = [name for name, value in outputs.items() if not _is_kept_apart(name, value)]
        size = sum(getattr(x, "nbytes", 8) for name in self._names for x in tree.leaves(outputs[name]))
        self._limit = max(1, min(_STEPS, _BYTES // max(size, 1)))

    def _put_together(self) -> None:
        waiting, self._waiting = self._waiting, []
        by_name: dict[str, list[Any]] = {}
        for outputs in waiting:
            for name, value in outputs.items():
                by_name.setdefault(name, []).append(value)
        for name, values in by_name.items():
            if isinstance(values[0], Metric):
                self._merge(name, values)
            else:
                self._average(name, values)

    def _merge(self, name: str, values: list[Metric]) -> None:
        saved = self._saved.pop(name, None)
        if saved is not None:
            values = [tree.unflatten(tree.structure(values[0]), saved), *values]
        if name in self._metrics:
            values = [self._metrics[name], *values]
        self._metrics[name] = values[0].merge_all(values[1:])

    def _average(self, name: str, values: list[Any]) -> None:
        total, lost, weight = self._means.get(name, (0.0, 0.0, 0.0))
        for value in values:
            if getattr(value, "ndim", 0):
                data = value._data if isinstance(value, Array) else value
                number, size = float(data.astype(numpy.float64).sum()), data.size
            else:
                number, size = float(value), 1
            # Two-sum: Knuth, The Art of Computer Programming, volume 2, section 4.2.2.
            following = total + number
            part = following - total
            if math.isfinite(following):
                lost += (total - (following - part)) + (number - part)
            total, weight = following, weight + size
        self._means[name] = [total, lost, weight]

    def results(self) -> dict[str, Any]:
        """The metrics themselves, and the means."""
        self._put_together()
        means = {n: (total + lost) / weight if weight else math.nan for n, (total, lost, weight) in self._means.items()}
        found = {**self._metrics, **means}
        return {name: found[name] for name in [*(n for n in self._names if n in found), *found]}

    # Saving in the middle of an epoch

    def state(self) -> tuple[dict[str, Any], list[Array]]:
        """All of it, as numbers that JSON can hold and as arrays."""
        self._put_together()
        parts = {name: tree.leaves(metric) for name, metric in self._metrics.items()} | self._saved
        numbers = {"means": self._means, "leaves": {name: len(leaves) for name, leaves in parts.items()}}
        return numbers, [leaf for leaves in parts.values() for leaf in leaves]

    def restore(self, numbers: Mapping[str, Any], leaves: list[Array]) -> None:
        """Goes on from what `state` gave."""
        self._means = {name: list(map(float, mean)) for name, mean in numbers["means"].items()}
        rest = iter(leaves)
        self._saved = {name: [next(rest) for _ in range(count)] for name, count in numbers["leaves"].items()}


def _is_kept_apart(name: str, value: Any) -> bool:
    if isinstance(value, (Metric, Array, numpy.ndarray, numpy.generic, bool, int, float)):
        return False
    if isinstance(value, (str, complex)) or callable(value) and not tree.leaves(value):
        raise ArgumentTypeError(
            f"the training step reports '{name}', a {type(value).__name__}; report metrics, arrays, numbers, or "
            "pytrees of arrays for callbacks, such as gradients."
        )
    return True
