"""`fit`: the training loop, which is the one that you would write yourself, with places for callbacks."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from time import perf_counter
from typing import Any, ClassVar

import numpy

from funcgrad import tree
from funcgrad.array import Array
from funcgrad.errors import ArgumentError, ArgumentTypeError
from funcgrad.train.accumulation import Accumulator
from funcgrad.train.metrics import Metric

PyTree = Any
Batches = Iterable[Any] | Callable[[int], Iterable[Any]]
_NO_MORE = object()


class Run:
    """What callbacks see of a run, and may change.

    Attributes:
        state: what the last step gave back; a callback may put another state in its place.
        epoch: the number of the epoch, from 0.
        step: how many steps were taken, in all epochs.
        batch: how many of them in this epoch.
        epochs: how many epochs there will be.
        steps: how many steps there will be at most, or None.
        batches: how many batches an epoch has, or None if the data do not say.
        data: what `fit` was given.
        outputs: what the last step reported.
        metrics: the numbers of the last epoch, as far as they are known.
        history: the metrics of all epochs before this one, those before a restart included.
        kept: a state that a callback keeps to give it back at the end, or None. Checkpoints hold it as well.
        donates: whether the step gives the memory of its state away, so that only the newest state can be read; None
            before the first step.
        seconds: how long this epoch has waited for data, computed steps, and been in callbacks and evaluation.
        should_stop: set it to True to end the run after this step.
    """

    def __init__(self, state: PyTree, data: Batches, epochs: int, steps: int | None):
        self.reported = Accumulator()
        self.state, self.data, self.epochs, self.steps = state, data, epochs, steps
        self.epoch, self.step, self.batch = 0, 0, 0
        self.batches: int | None = None
        self.outputs: Mapping[str, Any] = {}
        self.metrics: dict[str, Any] = {}
        self.history: list[dict[str, Any]] = []
        self.kept: PyTree = None
        self.donates: bool | None = None
        self.seconds = Seconds()
        self.should_stop = False


class Seconds:
    """How long an epoch took, in parts: waiting for data, in steps and their reports, in callbacks, in evaluation."""

    __slots__ = ("callbacks", "data", "evaluation", "step")

    def __init__(self):
        self.data = self.step = self.callbacks = self.evaluation = 0.0

    @property
    def idle_share(self) -> float:
        """Which part of the time of training went by waiting for data; NaN before the first step."""
        total = self.data + self.step + self.callbacks
        return self.data / total if total else math.nan


class Callback:
    """The base class of callbacks: methods that `fit` calls as it goes on. Each does nothing unless overridden.

    Attributes:
        is_outermost: whether it is asked before all others when the run starts, and after all others from then on, as
            one has to be that puts a run back to where it was and saves what the others made of it.

    Example:
        >>> import funcgrad as fg
        >>> class StopSoon(fg.train.Callback):
        ...     def on_step(self, run):
        ...         run.should_stop = run.step == 3
        >>> state, history = fg.train.fit(lambda n, x: (n + x, {}), 0, [1] * 10, callbacks=[StopSoon()])
        >>> state
        3
    """

    is_outermost: ClassVar[bool] = False

    def on_start(self, run: Run) -> None:
        """Before the first epoch."""

    def on_epoch_start(self, run: Run) -> None:
        """Before the first step of each epoch."""

    def on_step(self, run: Run) -> None:
        """After each step: `run.state` and `run.outputs` are those of the step."""

    def on_epoch(self, run: Run) -> None:
        """After the last step of each epoch: `run.metrics` are those of the epoch."""

    def on_end(self, run: Run) -> None:
        """After the last epoch, and also when an error or Ctrl-C ends the run."""


def fit(
    step: Callable[[PyTree, Any], tuple[PyTree, Mapping[str, Any]]],
    state: PyTree,
    data: Batches,
    epochs: int = 1,
    *,
    steps: int | None = None,
    evaluate: Callable[[PyTree], Mapping[str, Any]] | None = None,
    callbacks: Sequence[Callback] = (),
) -> tuple[PyTree, list[dict[str, Any]]]:
    """Trains: calls `state, outputs = step(state, batch)` for all batches of all epochs.

    Arguments:
        step: the training step, most often jitted. It gives the next state, and a dict of what to report: metrics of
            the batch, such as `Accuracy().update(logits, labels)`, which are put together exactly; arrays, such as the
            losses of the examples, of which the mean over all elements is taken; or numbers, such as the loss of the
            batch, of which the mean over the steps is taken. Pytrees, such as gradients, are for callbacks only.
        state: a pytree: parameters, state of the optimizer, and whatever else changes from step to step.
        data: what gives the batches of an epoch when it is iterated over, such as a list or a `DataLoader`; or a
            function that gives that for the number of an epoch.
        epochs: how many times to go through the data, in all; a run that a callback restores has fewer left.
        steps: how many steps to take at most, in all; what is left of the last epoch is left out.
        evaluate: called with the state after each epoch; gives more metrics, such as those on other data: see
            `evaluate`.
        callbacks: called in their order; see `Callback`.

    Returns:
        The last state, and the history: a dict of metrics for each epoch, as Python's numbers or as arrays.

    Raises:
        ArgumentError: an epoch has no batches, or two metrics have one name.
        ArgumentTypeError: `step` gives something else than a state and a dict.
        and whatever step, data and callbacks raise, with a note that says in which step.

    Example:
        >>> import funcgrad as fg
        >>> import funcgrad.numpy as np
        >>> @fg.jit
        ... def step(w, batch):
        ...     x, y = batch
        ...     loss, gradient = fg.value_and_grad(lambda w: ((w * x - y) ** 2).mean())(w)
        ...     return w - 0.1 * gradient, {"loss": loss}
        >>> x = np.arange(4.0)
        >>> w, history = fg.train.fit(step, np.array(0.0), [(x, 3 * x)], epochs=20)
        >>> round(float(w), 3), len(history), history[-1]["loss"] < 1e-3
        (3.0, 20, True)
    """
    if epochs < 1 or steps is not None and steps < 1:
        raise ArgumentError(f"fit takes at least 1 epoch and at least 1 step, not {epochs} and {steps}.")
    run = Run(state, data, epochs, steps)
    outermost = [c for c in callbacks if c.is_outermost]
    others = [c for c in callbacks if not c.is_outermost]
    ordered = others + outermost
    with contextlib.ExitStack() as stack:
        for callback in outermost + others:
            stack.callback(callback.on_end, run)
            callback.on_start(run)
        while run.epoch < epochs and not run.should_stop and (steps is None or run.step < steps):
            _train_epoch(run, step, ordered)
            if evaluate is not None:
                before = perf_counter()
                _add_metrics(run, evaluate(run.state))
                run.seconds.evaluation += perf_counter() - before
            for callback in ordered:
                callback.on_epoch(run)
            run.history.append(run.metrics)
            run.epoch, run.batch = run.epoch + 1, 0
    return run.state, run.history


def _train_epoch(run: Run, step: Callable, callbacks: Sequence[Callback]) -> None:
    batches = run.data(run.epoch) if callable(run.data) else run.data
    run.batches = _length(batches)
    run.metrics, run.seconds = {}, Seconds()
    if run.batch == 0:
        run.reported.clear()
    for callback in callbacks:
        callback.on_epoch_start(run)
    # Only callbacks that look at steps cost time at each of them.
    watchers = [c.on_step for c in callbacks if type(c).on_step is not Callback.on_step]
    clock, seconds, reported = perf_counter, run.seconds, run.reported
    place, batch = "making batch", None
    waited = computed = 0.0
    start = clock()
    try:
        iterator = iter(batches)
        while not run.should_stop and run.step != run.steps:
            place = "making batch"
            batch = next(iterator, _NO_MORE)
            ready = clock()
            if batch is _NO_MORE:
                break
            place = "step"
            result = step(run.state, batch)
            if type(result) is not tuple or len(result) != 2 or type(result[1]) is not dict:
                result = _checked_result(result)
            if run.donates is None and callbacks:  # nobody else asks
                run.donates = _is_given_away(run.state)
            run.state, run.outputs = result
            run.step += 1
            run.batch += 1
            place = "callbacks after step"
            reported.add(run.outputs)
            done = clock()
            waited += ready - start
            computed += done - ready
            start = done
            if watchers:
                seconds.data, seconds.step = waited, computed
                for watch in watchers:
                    watch(run)
                start = clock()
                seconds.callbacks += start - done
    except Exception as error:
        error.add_note(_where(run, place, batch))
        raise
    finally:
        seconds.data, seconds.step = waited, computed
    if not run.batch:
        raise ArgumentError(
            f"epoch {run.epoch} has no batches; give data that are not empty, and that can be iterated over once for "
            "each epoch: a list or a loader, or a function that makes a generator."
        )
    _add_metrics(run, reported.results())


def _checked_result(result: Any) -> tuple[PyTree, Mapping[str, Any]]:
    if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[1], Mapping):
        raise ArgumentTypeError(
            "the training step gives something else than (state, outputs); return the next state and a dict of what to "
            "report, which may be empty."
        )
    return result


def _length(batches: Any) -> int | None:
    try:
        return len(batches)
    except TypeError:  # generators have no length, and neither have loaders of data that come one after the other
        return None


def _is_given_away(state: PyTree) -> bool:
    return any(isinstance(leaf, Array) and leaf.is_deleted() for leaf in tree.leaves(state))


def _where(run: Run, place: str, batch: Any) -> str:
    number = run.batch + (place != "callbacks after step")
    text = f"In {place} {number} of epoch {run.epoch}"
    if place == "step":
        leaves = itertools.islice(tree.leaves_with_path(batch), 8)
        text += "; the batch was " + (", ".join(_describe(path, leaf) for path, leaf in leaves) or "empty")
    return text + "."


def _describe(path: tree.Path, leaf: Any) -> str:
    is_array = hasattr(leaf, "shape") and hasattr(leaf, "dtype")
    kind = f"{leaf.dtype.name}[{','.join(map(str, leaf.shape))}]" if is_array else type(leaf).__name__
    return f"{tree.keystr(path)}: {kind}" if path else kind


def _add_metrics(run: Run, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if name in run.metrics:
            raise ArgumentError(f"the metric '{name}' is reported by both step and evaluate; rename one of them.")
        run.metrics[name] = plain(value)


def plain(value: Any) -> Any:
    """A metric as its result, and an array of no axes as a number of Python's."""
    value = value.compute() if isinstance(value, Metric) else value
    return value.item() if getattr(value, "ndim", None) == 0 else value


def shown(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """What a step reports as an epoch sums it up: results of metrics, and means of arrays."""
    results = {}
    for name, value in outputs.items():
        if isinstance(value, (Array, numpy.ndarray)) and value.ndim:
            value = value._data if isinstance(value, Array) else value
            value = float(value.astype(numpy.float64).mean())
        results[name] = plain(value)
    return results


def evaluate(
    step: Callable[[PyTree, Any], Mapping[str, Any]], state: PyTree, data: Iterable[Any], prefix: str = ""
) -> dict[str, Any]:
    """Metrics over data without training: of the outputs of `step(state, batch)`, put together as `fit` does.

    Arguments:
        step: gives a dict of metrics, arrays or numbers for a batch, as the training step does.
        state: its first argument.
        data: the batches.
        prefix: put before the names of all metrics, such as "test ".

    Returns:
        A dict of results, as Python's numbers or as arrays.

    Raises:
        ArgumentError: there are no batches.
        ArgumentTypeError: `step` gives something else than a dict.

    Example:
        >>> import funcgrad as fg
        >>> def step(w, batch):
        ...     x, y = batch
        ...     return {"error": fg.train.Mean().update(abs(w * x - y))}
        >>> batches = [(fg.array([1.0, 2.0]), fg.array([2.0, 4.0])), (fg.array([3.0]), fg.array([9.0]))]
        >>> fg.train.evaluate(step, 2.0, batches, prefix="test ")
        {'test error': 1.0}
    """
    reported, number = Accumulator(), 0
    for batch in data:
        outputs = step(state, batch)
        if not isinstance(outputs, Mapping):
            raise ArgumentTypeError(
                f"the step of evaluate gives {type(outputs).__name__}; return a dict of what to report."
            )
        reported.add(outputs)
        number += 1
    if not number:
        raise ArgumentError("evaluate got no batches; give data that are not empty, such as a list or a loader.")
    return {prefix + name: plain(value) for name, value in reported.results().items()}


def watched(run: Run, name: str, who: str) -> float:
    """The number that a callback goes by."""
    if name not in run.metrics:
        known = ", ".join(run.metrics) or "none"
        raise ArgumentError(
            f"{who} goes by the metric '{name}', and the run has {known}; report it in step or evaluate."
        )
    return float(run.metrics[name])


def is_better(value: float, best: float, mode: str, by: float = 0.0) -> bool:
    """Whether a value is better than the best so far; NaN never is."""
    if math.isnan(best):
        return not math.isnan(value)
    return value < best - by if mode == "min" else value > best + by
