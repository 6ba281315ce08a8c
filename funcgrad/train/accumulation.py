"""What the steps of an epoch report, put together: metrics merged, numbers and arrays averaged.

It costs a step about as much as adding up its loss by hand. What lies on a GPU, or is large, is put together some steps
later, for many steps at once, so that no step waits for the results of the one before it.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy

from funcgrad import tree
from funcgrad.array import Array, ConcreteArray, wrap
from funcgrad.errors import ArgumentTypeError
from funcgrad.train.metrics import Metric

_STEPS = 64  # put together at once, at most
_NUMBERS = 1024  # added at once, at most
_BYTES = 2**24  # of results that wait for it
_WIDE = (numpy.dtype(numpy.float64), numpy.dtype(numpy.int64))


class Accumulator:
    """Adds up mappings from names to metrics, arrays and numbers. Pytrees of other kinds are left alone."""

    __slots__ = ("_adders", "_keys", "_parts", "_saved")

    def __init__(self):
        self._parts: dict[str, MeanOfElements | SumOfFields | AnyMetric] = {}
        self._adders: list[tuple[str, Callable[[Any], None]]] = []
        self._keys: tuple[str, ...] | None = None  # of the outputs that were looked at last
        self._saved: dict[str, list[Array]] = {}  # leaves of metrics whose kind is not known before they are met

    def add(self, outputs: Mapping[str, Any]) -> None:
        """Adds what a step reports."""
        if tuple(outputs) != self._keys:
            self._learn(outputs)
        for name, add in self._adders:
            add(outputs[name])

    def _learn(self, outputs: Mapping[str, Any]) -> None:
        """Finds out how each value is put together."""
        self._keys, self._adders = tuple(outputs), []
        for name, value in outputs.items():
            if name not in self._parts and not _is_kept_apart(name, value):
                self._parts[name] = self._part_for(name, value)
            if name in self._parts:
                self._adders.append((name, self._parts[name].add))

    def _part_for(self, name: str, value: Any) -> MeanOfElements | SumOfFields | AnyMetric:
        if not isinstance(value, Metric):
            return MeanOfElements()
        part = SumOfFields(name, value) if SumOfFields.can_take(value) else AnyMetric(value)
        if name in self._saved:
            part.add(tree.unflatten(tree.structure(value), self._saved.pop(name)))
        return part

    def results(self) -> dict[str, Any]:
        """The metrics themselves, and the means."""
        return {name: part.result() for name, part in self._parts.items() if not part.is_empty()}

    def clear(self) -> None:
        """Forgets all values, but not how each is put together."""
        self._saved = {}
        for part in self._parts.values():
            part.clear()

    # Saving in the middle of an epoch

    def state(self) -> tuple[dict[str, Any], list[Array]]:
        """All of it, as numbers that JSON can hold and as arrays."""
        parts = {name: part for name, part in self._parts.items() if not part.is_empty()}
        means = {name: part.state() for name, part in parts.items() if isinstance(part, MeanOfElements)}
        metrics = {name: part.result() for name, part in parts.items() if not isinstance(part, MeanOfElements)}
        leaves = {name: tree.leaves(metric) for name, metric in metrics.items()} | self._saved
        numbers = {"means": means, "leaves": {name: len(found) for name, found in leaves.items()}}
        return numbers, [leaf for found in leaves.values() for leaf in found]

    def restore(self, numbers: Mapping[str, Any], leaves: list[Array]) -> None:
        """Goes on from what `state` gave."""
        self._parts, self._keys = {n: MeanOfElements(*map(float, state)) for n, state in numbers["means"].items()}, None
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


class MeanOfElements:
    """The mean of numbers, and of all elements of arrays: as if all were added exactly, and rounded at the end."""

    __slots__ = ("_lost", "_numbers", "_total", "_waiting", "_weight")

    def __init__(self, total: float = 0.0, lost: float = 0.0, weight: float = 0.0):
        self._total, self._lost, self._weight = total, lost, weight  # a sum, what rounding took from it, the weights
        self._numbers: list[float] = []  # to be added, each of weight 1
        self._waiting: list[Any] = []  # on a GPU, to be read

    def clear(self) -> None:
        self.__init__()

    def is_empty(self) -> bool:
        return not self._weight and not self._numbers and not self._waiting

    def add(self, value: Any) -> None:
        data = value._data if type(value) is ConcreteArray or isinstance(value, Array) else value
        if type(data) is numpy.ndarray:
            self._numbers.append(self._sum(data) if data.ndim else float(data))
            if len(self._numbers) >= _NUMBERS:
                self._add_all()
        elif hasattr(data, "__cuda_array_interface__"):
            self._waiting.append(data)
            if len(self._waiting) >= _STEPS:
                self._add_all()
        else:
            self._numbers.append(float(data))

    def _sum(self, data: Any) -> float:
        self._weight += data.size - 1
        return float(data.astype(numpy.float64).sum())

    def _add_all(self) -> None:
        waiting, self._waiting = self._waiting, []
        numbers, self._numbers = [*self._numbers, *map(self._sum, waiting)], []
        self._weight += len(numbers)
        numbers += self._total, self._lost
        try:
            self._total = math.fsum(numbers)
            self._lost = math.fsum([*numbers, -self._total])
        except (OverflowError, ValueError):  # of infinities of both signs
            self._total = sum(numbers)
        if math.isnan(self._lost):  # an infinity less itself
            self._lost = 0.0

    def result(self) -> float:
        self._add_all()
        return (self._total + self._lost) / self._weight

    def state(self) -> list[float]:
        self._add_all()
        return [self._total, self._lost, self._weight]


class SumOfFields:
    """A metric whose fields are numbers and are added up when it is merged; Python adds them soonest."""

    __slots__ = ("_buffers_of", "_first", "_name", "_names", "_static", "_totals")

    def __init__(self, name: str, metric: Metric):
        self._name, self._first = name, metric
        self._names = [field for field in vars(metric) if field not in metric._static_names]
        self._static = [(field, getattr(metric, field)) for field in metric._static_names]
        self._buffers_of = operator.attrgetter(*(f"{name}._data" for name in self._names))
        self._totals: list[Any] | None = None

    @staticmethod
    def can_take(metric: Metric) -> bool:
        """Whether a metric is one of these."""
        fields = [value for name, value in vars(metric).items() if name not in metric._static_names]
        return (
            type(metric).merge is Metric.merge
            and len(fields) > 1
            and all(
                type(x) is ConcreteArray and type(x._data) is numpy.ndarray and x.ndim == 0 and x.dtype in _WIDE
                for x in fields
            )
        )

    def add(self, metric: Any) -> None:
        if type(metric) is not type(self._first) or self._static and self._differs(metric):
            raise ArgumentTypeError(
                f"the training step reports '{self._name}' in one step as one metric and in another as another; report "
                "the same in each step."
            )
        numbers = [buffer.item() for buffer in self._buffers_of(metric)]
        self._totals = numbers if self._totals is None else [*map(operator.add, self._totals, numbers)]

    def clear(self) -> None:
        self._totals = None

    def is_empty(self) -> bool:
        return self._totals is None

    def _differs(self, metric: Metric) -> bool:
        return any(getattr(metric, name) != value for name, value in self._static)

    def result(self) -> Metric:
        sums = {
            name: wrap(numpy.asarray(total, getattr(self._first, name).dtype))
            for name, total in zip(self._names, self._totals or (), strict=True)
        }
        return self._first.replace(**sums)


class AnyMetric:
    """A metric of any other kind: it is merged by its own method, some steps later."""

    __slots__ = ("_limit", "_merged", "_waiting")

    def __init__(self, metric: Metric):
        size = sum(getattr(x, "nbytes", 8) for x in tree.leaves(metric))
        self._limit = max(1, min(_STEPS, _BYTES // max(size, 1)))
        self._merged: Metric | None = None
        self._waiting: list[Metric] = []

    def add(self, metric: Any) -> None:
        self._waiting.append(metric)
        if len(self._waiting) >= self._limit:
            self.result()

    def clear(self) -> None:
        self._merged, self._waiting = None, []

    def is_empty(self) -> bool:
        return self._merged is None and not self._waiting

    def result(self) -> Metric:
        parts, self._waiting = [*([] if self._merged is None else [self._merged]), *self._waiting], []
        merged = self._merged = parts[0].merge_all(parts[1:])
        return merged
