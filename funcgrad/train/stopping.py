"""Early stopping: the run ends when it does not become better any more."""

from __future__ import annotations

import math
from typing import Literal

from funcgrad import tree
from funcgrad.array import ConcreteArray, wrap
from funcgrad.errors import ArgumentError
from funcgrad.train.loop import Callback, Run, is_better, watched


class EarlyStopping(Callback):
    """Ends the run when a metric has not become better for some epochs.

    A run that goes on from a checkpoint waits no longer than one that was never broken off.

    Arguments:
        metric: the name of the metric.
        patience: how many epochs without a better value to wait for one.
        mode: whether less ("min") or more ("max") is better. NaN is never better.
        min_delta: by how much a value has to be better to count.
        keep_best: whether the run ends with the state of the best epoch instead of the last one.

    Attributes:
        best: the best value, NaN before there is one.
        best_epoch: the number of its epoch, -1 before there is one.

    Raises:
        ArgumentError: the settings make no sense; from `fit`, if there is no such metric.

    Example:
        >>> import funcgrad as fg
        >>> losses = [3.0, 2.0, 2.5, 2.6, 1.0]
        >>> stop = fg.train.EarlyStopping("loss", patience=2)
        >>> step = lambda epoch, loss: (epoch + 1, {"loss": loss})
        >>> _, history = fg.train.fit(step, 0, lambda epoch: [losses[epoch]], epochs=5, callbacks=[stop])
        >>> [metrics["loss"] for metrics in history]
        [3.0, 2.0, 2.5, 2.6]
    """

    def __init__(
        self,
        metric: str,
        *,
        patience: int = 3,
        mode: Literal["min", "max"] = "min",
        min_delta: float = 0.0,
        keep_best: bool = False,
    ):
        if patience < 1 or mode not in ("min", "max") or min_delta < 0:
            raise ArgumentError(
                "EarlyStopping takes a patience of at least 1, mode 'min' or 'max', and a min_delta of at least 0, "
                f"not {patience}, {mode!r} and {min_delta}."
            )
        self._metric, self._patience, self._mode, self._min_delta = metric, patience, mode, min_delta
        self._keep_best = keep_best
        self.best, self.best_epoch = math.nan, -1

    def on_start(self, run: Run) -> None:
        self.best, self.best_epoch = math.nan, -1
        for epoch, metrics in enumerate(run.history):
            run.should_stop = self._look(epoch, float(metrics.get(self._metric, math.nan)))

    def on_epoch(self, run: Run) -> None:
        if self._look(run.epoch, watched(run, self._metric, "EarlyStopping")):
            run.should_stop = True
        if self._keep_best and self.best_epoch == run.epoch:
            run.kept = _copy(run.state) if run.donates else run.state

    def on_end(self, run: Run) -> None:
        if self._keep_best and self.best_epoch >= 0 and run.kept is not None:
            run.state = run.kept

    def _look(self, epoch: int, value: float) -> bool:
        """Takes note of the value of an epoch, and says whether to stop."""
        if is_better(value, self.best, self._mode, self._min_delta):
            self.best, self.best_epoch = value, epoch
        return epoch - self.best_epoch >= self._patience


def _copy(state: object) -> object:
    """The state in arrays of its own, because the next step gives the present ones away."""
    return tree.map(lambda x: wrap(x._data.copy(), x.weak_type) if isinstance(x, ConcreteArray) else x, state)
