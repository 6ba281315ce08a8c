"""The progress bar."""

from __future__ import annotations

import sys
import time
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

from funcgrad.errors import ArgumentError, MissingPackageError
from funcgrad.train.logs import describe
from funcgrad.train.loop import Callback, Run, shown

_SECONDS = 0.2  # between two drawings of the bar, each of which takes about a millisecond


class ProgressBar(Callback):
    """Shows how a run goes on: a line of metrics for each epoch, and, in a terminal, a bar for the epoch that runs.

    Arguments:
        style: "rich" for a bar, "plain" for lines only, "auto" for a bar if rich is installed and the output is a
            terminal.

    Raises:
        MissingPackageError: "rich" was asked for and is not installed.

    Example:
        >>> import funcgrad as fg
        >>> bar = fg.train.ProgressBar(style="plain")
        >>> _ = fg.train.fit(lambda s, x: (s, {"loss": x}), 0, [1.0, 2.0], epochs=2, callbacks=[bar])
        epoch 1/2  loss 1.5  (... s)
        epoch 2/2  loss 1.5  (... s)
    """

    def __init__(self, style: Literal["auto", "rich", "plain"] = "auto"):
        if style not in ("auto", "rich", "plain"):
            raise ArgumentError(f"the style of a ProgressBar is 'auto', 'rich' or 'plain', not {style!r}.")
        has_rich = find_spec("rich") is not None
        if style == "rich" and not has_rich:
            raise MissingPackageError("this ProgressBar needs rich; install it with pip install 'funcgrad[train]'.")
        self._is_rich = style == "rich" or style == "auto" and has_rich and sys.stdout.isatty()
        self._bar: Any = None
        self._task: Any = None
        self._start = self._shown = 0.0

    def on_start(self, run: Run) -> None:
        if self._is_rich:
            columns = import_module("rich.progress")
            self._bar = columns.Progress(
                columns.TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
                columns.BarColumn(),
                columns.MofNCompleteColumn(),
                columns.TimeRemainingColumn(),
                columns.TextColumn("{task.description}"),
                transient=True,
                auto_refresh=False,  # a thread that draws would take turns with the training
            )
            self._bar.start()

    def on_epoch_start(self, run: Run) -> None:
        self._start = self._shown = time.monotonic()
        if self._bar is not None:
            self._task = self._bar.add_task("", total=run.batches, epoch=run.epoch + 1, epochs=run.epochs)

    def on_step(self, run: Run) -> None:
        if self._bar is None:
            return
        now = time.monotonic()
        if now - self._shown >= _SECONDS or run.batch == run.batches:
            self._shown = now
            self._bar.update(self._task, completed=run.batch, description=describe(shown(run.outputs)))
            self._bar.refresh()

    def on_epoch(self, run: Run) -> None:
        seconds = time.monotonic() - self._start
        line = f"epoch {run.epoch + 1}/{run.epochs}  {describe(run.metrics)}  ({seconds:.1f} s)"
        if self._bar is None:
            print(line, flush=True)
        else:
            self._bar.remove_task(self._task)
            self._bar.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def on_end(self, run: Run) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
