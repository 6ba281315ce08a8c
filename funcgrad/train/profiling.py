"""Profiling: where the time of a run goes, and whether its steps wait for data."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from funcgrad.checkpoints.atomic import write_atomically
from funcgrad.errors import ArgumentError, LogError
from funcgrad.train.loop import Callback, Run


class Profile(Callback):
    """Measures where the time goes: waiting for data, in steps, in callbacks, in evaluation.

    At the end of each epoch, `idle_share` and `steps_per_second` join the metrics: the part of the time of training
    that went by waiting for data, and the speed. The first epoch includes compilation.

    Arguments:
        trace: a file for the times of single steps, which Perfetto (https://ui.perfetto.dev) and Chrome's
            `chrome://tracing` show; written at the end of the run.
        trace_steps: how many steps it holds, at most: the first ones.

    Attributes:
        epochs: for each epoch, a dict of seconds: `data`, `step`, `callbacks`, `evaluation`; and its count of `steps`.

    Raises:
        ArgumentError: `trace_steps` is less than 1.
        LogError: from `fit`, if the trace cannot be written.

    On a GPU, a step only starts the work; the time that it takes shows where a value is waited for.

    Example:
        >>> import time
        >>> import funcgrad as fg
        >>> def batches(epoch):
        ...     for i in range(3):
        ...         time.sleep(0.01)
        ...         yield i
        >>> profile = fg.train.Profile()
        >>> _, history = fg.train.fit(lambda s, x: (s, {}), 0, batches, callbacks=[profile])
        >>> history[0]["idle_share"] > 0.9
        True
        >>> print(profile.report())
        epoch  steps  ms/step   data   step  callbacks  evaluation
            0      3 ...
    """

    def __init__(self, *, trace: str | os.PathLike[str] | None = None, trace_steps: int = 1000):
        if trace_steps < 1:
            raise ArgumentError(f"the trace of a Profile holds at least 1 step, not {trace_steps}.")
        self._path, self._trace_steps = None if trace is None else Path(trace), trace_steps
        self.epochs: list[dict[str, Any]] = []
        self._events: list[dict[str, Any]] = []
        self._before = {"callbacks": 0.0, "data": 0.0, "step": 0.0}
        self._start, self._now, self._first_batch = 0.0, 0.0, 0

    def on_start(self, run: Run) -> None:
        self.epochs, self._events = [], []
        self._start = time.perf_counter()

    def on_epoch_start(self, run: Run) -> None:
        self._before, self._first_batch = dict.fromkeys(self._before, 0.0), run.batch
        self._now = time.perf_counter() - self._start

    def on_step(self, run: Run) -> None:
        if self._path is None or len(self._events) >= 3 * self._trace_steps:
            return
        # The loop has added up what this step waited and took, and the callbacks of the step before.
        for name, before in self._before.items():
            after = getattr(run.seconds, name)
            if after > before:
                self._events.append(_event(name, self._now, after - before, run.step - (name == "callbacks")))
                self._now, self._before[name] = self._now + after - before, after

    def on_epoch(self, run: Run) -> None:
        seconds, steps = run.seconds, run.batch - self._first_batch
        total = seconds.data + seconds.step + seconds.callbacks
        run.metrics["idle_share"] = seconds.idle_share
        run.metrics["steps_per_second"] = steps / total if total else 0.0
        names = ("data", "step", "callbacks", "evaluation")
        self.epochs.append({name: getattr(seconds, name) for name in names} | {"steps": steps, "epoch": run.epoch})

    def on_end(self, run: Run) -> None:
        if self._path is not None:
            text = json.dumps({"traceEvents": self._events, "displayTimeUnit": "ms"})
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(self._path, [text.encode()])
            except OSError as error:
                raise LogError(f"the trace {self._path} cannot be written: {error.strerror or error}.") from error

    def report(self) -> str:
        """A table: the steps of each epoch, milliseconds for each, and the parts of the time."""
        lines = ["epoch  steps  ms/step   data   step  callbacks  evaluation"]
        for e in self.epochs:
            training = e["data"] + e["step"] + e["callbacks"]
            total, each = max(training + e["evaluation"], 1e-12), 1e3 * training / max(e["steps"], 1)
            lines.append(
                f"{e['epoch']:5d}  {e['steps']:5d}  {each:7.3f}  {e['data'] / total:5.1%}  {e['step'] / total:5.1%}"
                f"  {e['callbacks'] / total:9.1%}  {e['evaluation'] / total:10.1%}"
            )
        return "\n".join(lines)


def _event(name: str, start: float, seconds: float, step: int) -> dict[str, Any]:
    """An event of the Trace Event Format, with times in microseconds."""
    place = {"pid": 1, "tid": 1, "args": {"step": step}}
    return {"name": name, "ph": "X", "ts": round(1e6 * start, 3), "dur": round(1e6 * seconds, 3), **place}
