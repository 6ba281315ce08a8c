"""`CheckpointManager`: a folder of checkpoints, saved in the background, of which the last and the best are kept."""

from __future__ import annotations

import math
import re
import warnings
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

from funcgrad.checkpoints.atomic import remove_abandoned
from funcgrad.checkpoints.saving import PyTree, StrPath, prepare, read_info, restore
from funcgrad.errors import ArgumentError, CheckpointError, FuncgradError, MissingCheckpointError, user_line

_NAME = re.compile(r"checkpoint-(\d{8,})\.safetensors")


class CheckpointManager:
    """Keeps the last and the best checkpoints of a training run in a folder.

    Each checkpoint is a file of `fg.checkpoints.save`, named by its step. Saving happens in a thread: `save` returns as
    soon as the leaves are listed, and arrays need no copy because they never change. At most one checkpoint is being
    written; another `save` waits for it. An error of the thread is raised by the next `save`, `wait` or `close`.
    Older checkpoints are removed only after a new one is on the disk, so that a process that is killed at any moment
    leaves at least the last good one behind.

    Before arrays are given away with `donate_argnums`, call `wait()`: a checkpoint that still reads them must not find
    the next step's values there.

    Arguments:
        folder: where the checkpoints are; it is made if it is not there.
        keep_last: how many of the latest to keep, at least 1; None to keep all.
        keep_best: how many of the best by `metric` to keep besides.
        metric: the name of the metric by which checkpoints are compared; `save` then wants it in `metrics`.
        mode: whether the best has the least ("min") or the greatest ("max") value. NaN is worse than anything.
        asynchronous: whether to save in a thread.

    Raises:
        ArgumentError: the arguments do not fit together.
        CheckpointError: the folder cannot be made.

    Example:
        >>> import funcgrad as fg
        >>> state = {"w": fg.array([1.0]), "step": 0}
        >>> with fg.checkpoints.CheckpointManager("run", keep_last=1, keep_best=1, metric="loss") as manager:
        ...     for step, loss in enumerate([0.5, 0.1, 0.3]):
        ...         manager.save(step, {**state, "step": step}, metrics={"loss": loss})
        >>> manager.steps()
        [1, 2]
        >>> manager.restore(state)["step"], manager.best().name
        (2, 'checkpoint-00000001.safetensors')
    """

    def __init__(
        self,
        folder: StrPath,
        *,
        keep_last: int | None = 3,
        keep_best: int = 0,
        metric: str | None = None,
        mode: Literal["min", "max"] = "min",
        asynchronous: bool = True,
    ):
        if keep_last is not None and keep_last < 1:
            raise ArgumentError(f"keep_last is at least 1, or None to keep all checkpoints, not {keep_last}.")
        if keep_best < 0 or mode not in ("min", "max"):
            raise ArgumentError(f"keep_best is at least 0 and mode 'min' or 'max', not {keep_best} and {mode!r}.")
        if keep_best and metric is None:
            raise ArgumentError("keep_best needs a metric to compare checkpoints by; give metric='loss', for example.")
        self.folder = Path(folder)
        self._keep_last, self._keep_best, self._metric, self._mode = keep_last, keep_best, metric, mode
        self._executor = ThreadPoolExecutor(1, "checkpoints") if asynchronous else None
        self._values: dict[int, float] = {}  # metrics of checkpoints, so that each file is asked once
        self._running: list[Future] = []  # at most one
        self._is_closed = False
        # A program may end without asking whether the last checkpoint was saved.
        weakref.finalize(self, _warn_of_failure, self._running)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            remove_abandoned(self.folder)
        except OSError as error:
            raise CheckpointError(
                f"the folder {self.folder} cannot be used: {error.strerror or error}; use one that can be written to."
            ) from error

    def save(
        self,
        step: int,
        tree: PyTree,
        *,
        metrics: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Saves a pytree as the checkpoint of a step.

        Arguments:
            step: the number of the step; a checkpoint that it has already is replaced.
            tree: what `fg.checkpoints.save` takes.
            metrics: numbers by name, stored in the metadata as `metrics`; with the metric that the manager compares by.
            metadata: more to store, a dict that JSON can hold.

        Raises:
            ArgumentError: the step is negative, the metric is not there, or the manager is closed.
            ArgumentTypeError: a leaf is nothing that a checkpoint can hold.
            CheckpointError: this checkpoint cannot be written, or, in a thread, the one before it could not.
        """
        if self._is_closed:
            raise ArgumentError("this CheckpointManager is closed; make another one to save more.")
        if step < 0:
            raise ArgumentError(f"a step is at least 0, not {step}.")
        numbers = {name: float(value) for name, value in (metrics or {}).items()}
        if self._metric is not None and self._metric not in numbers:
            raise ArgumentError(
                f"the manager compares checkpoints by '{self._metric}', and save was given the metrics "
                f"{sorted(numbers)}; pass metrics={{'{self._metric}': value}}."
            )
        info = {**(metadata or {}), "metrics": numbers}
        self.wait()
        write = prepare(self._path(step), tree, step, info, copy=self._executor is not None)
        if self._executor is None:
            self._write(write, step, numbers)
        else:
            self._running.append(self._executor.submit(self._write, write, step, numbers))

    def wait(self) -> None:
        """Waits until the checkpoint that is being saved is on the disk.

        Raises:
            CheckpointError: it could not be written.
        """
        if self._running:
            try:
                self._running.pop().result()
            except FuncgradError as error:
                error.source = user_line()  # instead of a line of the thread
                raise

    def close(self) -> None:
        """Waits for the last checkpoint, and ends the thread. Reading from the manager still works.

        Raises:
            CheckpointError: the last checkpoint could not be written.
        """
        self._is_closed = True
        try:
            self.wait()
        finally:
            if self._executor is not None:
                self._executor.shutdown()

    def __enter__(self) -> CheckpointManager:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        try:
            self.close()
        except CheckpointError as failure:
            if error is None:
                raise
            error.add_note(f"Besides, {failure.message}")

    def steps(self) -> list[int]:
        """The steps whose checkpoints are in the folder, in ascending order."""
        matches = (_NAME.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted(int(match[1]) for match in matches if match)

    def latest(self) -> Path | None:
        """The checkpoint of the greatest step, or None if there is none."""
        steps = self.steps()
        return self._path(steps[-1]) if steps else None

    def best(self) -> Path | None:
        """The best checkpoint by the manager's metric, the later one of equals, or None if there is none.

        Raises:
            ArgumentError: the manager has no metric, or a checkpoint in the folder was saved without it.
        """
        if self._metric is None:
            raise ArgumentError("the manager does not know what is best; make it with metric='loss', for example.")
        ranked = self._best_first()
        return self._path(ranked[0]) if ranked else None

    def restore(self, like: PyTree, step: int | None = None, **options: Any) -> PyTree:
        """Restores the latest checkpoint, or that of a step.

        Arguments:
            like: an example of the saved tree.
            step: whose checkpoint; by default the greatest that is there.
            options: what else `fg.checkpoints.restore` takes.

        Raises:
            MissingCheckpointError: there is no checkpoint.
            and whatever `fg.checkpoints.restore` raises.
        """
        self.wait()
        path = self.latest() if step is None else self._path(step)
        if path is None:
            raise MissingCheckpointError(f"there is no checkpoint in {self.folder} yet; ask latest() before restoring.")
        return restore(path, like, **options)

    def _path(self, step: int) -> Path:
        return self.folder / f"checkpoint-{step:08d}.safetensors"

    def _write(self, write: Callable[[], Path], step: int, metrics: dict[str, float]) -> None:
        write()
        if self._metric is not None:
            self._values[step] = metrics[self._metric]
        if self._keep_last is not None:
            kept = {step, *self.steps()[-self._keep_last :]}
            if self._keep_best:
                kept.update(self._best_first()[: self._keep_best])
            for old in set(self.steps()) - kept:
                self._path(old).unlink(missing_ok=True)
                self._values.pop(old, None)

    def _best_first(self) -> list[int]:
        return sorted(self.steps(), key=lambda step: (*self._badness(step), -step))

    def _badness(self, step: int) -> tuple[bool, float]:
        assert self._metric is not None
        if step not in self._values:
            metrics = read_info(self._path(step)).metadata.get("metrics", {})
            if self._metric not in metrics:
                raise ArgumentError(
                    f"{self._path(step)} was saved without the metric '{self._metric}'; use a folder of its own for "
                    "checkpoints that are compared by it."
                )
            self._values[step] = metrics[self._metric]
        value = self._values[step]
        return math.isnan(value), value if self._mode == "min" else -value


def _warn_of_failure(running: list[Future]) -> None:
    for future in running:
        error = future.exception()
        if error is not None:
            warnings.warn(f"the last checkpoint was not saved: {error}", stacklevel=1)
