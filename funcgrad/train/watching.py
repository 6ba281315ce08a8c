"""Callbacks that watch: for NaN and infinities, the size of gradients, the learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy

from funcgrad import numpy as np
from funcgrad import tree
from funcgrad.array import Array
from funcgrad.errors import ArgumentError, NotFiniteError
from funcgrad.optim import InjectHyperparamsState
from funcgrad.train.loop import Callback, Run
from funcgrad.train.metrics import Metric


class NaNWatch(Callback):
    """Raises an error as soon as something that a step gives is NaN or infinite, and says what.

    Arguments:
        every_steps: how often to look at the outputs of a step.
        check_state: whether to look at all arrays of the state as well, which takes time.

    Raises:
        ArgumentError: `every_steps` is less than 1.
        NotFiniteError: from `fit`; the message names the step and the places in outputs and state.

    Example:
        >>> import funcgrad as fg
        >>> step = lambda w, x: (w * x, {"loss": w * x})
        >>> try:
        ...     fg.train.fit(step, fg.array(1e30), [1e5, 1e5], callbacks=[fg.train.NaNWatch(check_state=True)])
        ... except fg.errors.NotFiniteError as error:
        ...     print(error.message)
        step 2 of epoch 0 gave values that are not finite: ['loss'] of the outputs (inf), the state (1 of 1 elements)...
    """

    def __init__(self, *, every_steps: int = 1, check_state: bool = False):
        self._every_steps, self._check_state = _steps("NaNWatch", every_steps), check_state

    def on_step(self, run: Run) -> None:
        if run.step % self._every_steps:
            return
        found = []
        for name, value in run.outputs.items():
            # The common case, a number, has to be quick.
            if getattr(value, "ndim", None) == 0 and math.isfinite(value):
                continue
            found += _not_finite({name: value}, "outputs")
        if found or self._check_state:
            found += _not_finite(run.state, "state")
        if found:
            shown = ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
            raise NotFiniteError(
                f"step {run.step} of epoch {run.epoch} gave values that are not finite: {shown}; lower the learning "
                "rate, clip the gradients, or look for a label out of range, or a logarithm or quotient of zero."
            )


def _not_finite(values: Any, what: str) -> list[str]:
    found = []
    for path, leaf in tree.leaves_with_path(values, is_leaf=lambda x: isinstance(x, Metric)):
        place = f"{tree.keystr(path)} of the {what}" if path else f"the {what}"
        for value in tree.leaves(leaf):
            if isinstance(value, float):
                if not math.isfinite(value):
                    found.append(f"{place} ({value})")
            elif hasattr(value, "dtype") and value.dtype.kind not in "biuUSO":
                data = value._data if isinstance(value, Array) else numpy.asarray(value)
                bad = data.size - int(np.isfinite(value).sum())
                if bad:
                    is_number = data.ndim == 0 and what == "outputs"
                    found.append(f"{place} ({value})" if is_number else f"{place} ({bad} of {data.size} elements)")
    return found


class GradientWatch(Callback):
    """Watches the size of gradients, which a step reports as a pytree: `{"loss": loss, "gradients": gradient}`.

    At the end of each epoch, `gradient_norm` and `largest_gradient_norm` join the metrics: mean and maximum of the
    Euclidean norm of the whole gradient over the steps. `NaNWatch` names gradients that are not finite, and `Log` sends
    those of a step to TensorBoard as histograms.

    Arguments:
        output: the name under which the step reports the gradient.
        every_steps: how often to look, since it takes time.

    Attributes:
        norms: the norm of each leaf by its path, at the last look; vanishing and exploding layers can be seen here.

    Raises:
        ArgumentError: `every_steps` is less than 1; from `fit`, if the step reports no gradient under this name.

    Example:
        >>> import funcgrad as fg
        >>> def step(w, x):
        ...     gradient = fg.grad(lambda w: (w["a"] * x - w["b"]) ** 2)(w)
        ...     return w, {"gradients": gradient}
        >>> watch = fg.train.GradientWatch()
        >>> _, history = fg.train.fit(step, {"a": 1.0, "b": 0.0}, [1.0, 2.0], callbacks=[watch])
        >>> {name: round(value, 3) for name, value in history[0].items()}
        {'gradient_norm': 5.886, 'largest_gradient_norm': 8.944}
        >>> watch.norms
        {"['a']": 8.0, "['b']": 4.0}
    """

    def __init__(self, output: str = "gradients", *, every_steps: int = 1):
        self._output, self._every_steps = output, _steps("GradientWatch", every_steps)
        self.norms: dict[str, float] = {}
        self._seen: list[float] = []

    def on_epoch_start(self, run: Run) -> None:
        self._seen = []

    def on_step(self, run: Run) -> None:
        if run.step % self._every_steps:
            return
        if self._output not in run.outputs:
            raise ArgumentError(
                f"GradientWatch looks for '{self._output}', and the step reports {', '.join(run.outputs) or 'nothing'}"
                f"; report the gradient, as in {{'loss': loss, '{self._output}': gradient}}."
            )
        pairs = tree.leaves_with_path(run.outputs[self._output])
        self.norms = {tree.keystr(path): _norm(leaf) for path, leaf in pairs}
        self._seen.append(math.hypot(*self.norms.values()))

    def on_epoch(self, run: Run) -> None:
        if self._seen:
            run.metrics["gradient_norm"] = math.fsum(self._seen) / len(self._seen)
            run.metrics["largest_gradient_norm"] = max(self._seen)


def _norm(leaf: Any) -> float:
    """The Euclidean norm, in float64 so that squares do not overflow."""
    x = np.asarray(leaf)._data.reshape(-1)
    x = abs(x) if x.dtype.kind == "c" else x
    return math.sqrt(float((x.astype(numpy.float64) ** 2).sum()))


class LearningRate(Callback):
    """Adds the learning rate at the end of each epoch to the metrics, as `learning_rate`.

    Arguments:
        schedule: the function of the count of steps that the optimizer was given; or None to find the rate in the
            state, where `fg.optim.inject_hyperparams` puts it.
        every_steps: after how many steps to add it to the outputs of the step besides, where a `Log` that comes later
            in the list finds it; None for never.

    Raises:
        ArgumentError: `every_steps` is less than 1; from `fit`, if the rate is not in the state.

    Example:
        >>> import funcgrad as fg
        >>> rate = fg.train.LearningRate(lambda count: 0.5 ** count)
        >>> _, history = fg.train.fit(lambda s, x: (s, {}), 0, [1, 2], epochs=2, callbacks=[rate])
        >>> [metrics["learning_rate"] for metrics in history]
        [0.25, 0.0625]
    """

    def __init__(self, schedule: Callable[[Any], Any] | None = None, *, every_steps: int | None = None):
        self._schedule = schedule
        self._every_steps = None if every_steps is None else _steps("LearningRate", every_steps)

    def on_step(self, run: Run) -> None:
        if self._every_steps is not None and run.step % self._every_steps == 0:
            run.outputs = {**run.outputs, "learning_rate": self._rate(run)}

    def on_epoch(self, run: Run) -> None:
        run.metrics["learning_rate"] = self._rate(run)

    def _rate(self, run: Run) -> float:
        if self._schedule is not None:
            return float(self._schedule(run.step))
        found = tree.leaves(run.state, is_leaf=lambda x: isinstance(x, InjectHyperparamsState))
        for state in found:
            if isinstance(state, InjectHyperparamsState) and "learning_rate" in state.hyperparams:
                return float(state.hyperparams["learning_rate"])
        raise ArgumentError(
            "LearningRate found no learning rate in the state; give it the schedule, or make the optimizer with "
            "fg.optim.inject_hyperparams."
        )


def _steps(name: str, every_steps: int) -> int:
    if every_steps < 1:
        raise ArgumentError(f"{name} looks after 1 step or more, not {every_steps}.")
    return every_steps
