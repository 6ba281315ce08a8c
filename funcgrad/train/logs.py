"""Logs: the callback that sends the numbers of a run to loggers, and the logger of the console."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from funcgrad.errors import ArgumentError
from funcgrad.train.loop import Callback, Run, plain, shown


class Logger(Protocol):
    """Whatever has this method can be given to `Log`.

    Two more are called where a logger has them: `resume(step)`, when a run goes on from a checkpoint after that step,
    so that what was logged later is forgotten; and `flush()`, at the end of a run, after which all has to be in its
    place.
    """

    def log(self, values: Mapping[str, Any], step: int) -> None:
        """Takes numbers, texts, arrays, metrics and pytrees of arrays by name."""
        ...


class Log(Callback):
    """Sends the metrics of each epoch to loggers, with the number of finished epochs as `epoch`.

    Arguments:
        loggers: objects with a method `log(values, step)`.
        every_steps: after how many steps to send the outputs of the step besides, each named `batch/...`, arrays as
            their means; None for never.

    Raises:
        ArgumentError: `every_steps` is less than 1.
        LogError: from `fit`, if a logger cannot write.

    Example:
        >>> import funcgrad as fg
        >>> log = fg.train.Log(fg.train.ConsoleLogger())
        >>> _ = fg.train.fit(lambda s, x: (s, {"loss": x}), 0, [1.0, 2.0], epochs=2, callbacks=[log])
        step 2: loss 1.5  epoch 1
        step 4: loss 1.5  epoch 2
    """

    def __init__(self, *loggers: Logger, every_steps: int | None = None):
        if every_steps is not None and every_steps < 1:
            raise ArgumentError(f"Log sends outputs after 1 step or more, or never with None, not {every_steps}.")
        self._loggers, self._every_steps = loggers, every_steps

    def on_start(self, run: Run) -> None:
        if run.step:
            for logger in self._loggers:
                getattr(logger, "resume", _nothing)(run.step)

    def on_step(self, run: Run) -> None:
        if self._every_steps is not None and run.step % self._every_steps == 0:
            values = {f"batch/{name}": value for name, value in shown(run.outputs).items()}
            for logger in self._loggers:
                logger.log(values, run.step)

    def on_epoch(self, run: Run) -> None:
        for logger in self._loggers:
            logger.log({**run.metrics, "epoch": run.epoch + 1}, run.step)

    def on_end(self, run: Run) -> None:
        for logger in self._loggers:
            getattr(logger, "flush", _nothing)()


def _nothing(*_: Any) -> None:
    pass


class ConsoleLogger:
    """Prints a line for each call: numbers and short texts, without arrays.

    Arguments:
        digits: how many digits of a number to print.

    Example:
        >>> import funcgrad as fg
        >>> fg.train.ConsoleLogger().log({"loss": 0.123456, "accuracy": fg.array(0.5)}, step=10)
        step 10: loss 0.1235  accuracy 0.5
    """

    def __init__(self, digits: int = 4):
        self._digits = digits

    def log(self, values: Mapping[str, Any], step: int) -> None:
        """Prints the values of a step."""
        print(f"step {step}: {describe(values, self._digits)}", flush=True)


def describe(values: Mapping[str, Any], digits: int = 4) -> str:
    """The numbers among values as text."""
    numbers = {name: plain(value) for name, value in values.items()}
    return "  ".join(
        f"{name} {value:.{digits}g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in numbers.items()
        if isinstance(value, (int, float, str))
    )
