"""Checkpoints of a run: saved as it goes on, and gone on from when it is started again."""

from __future__ import annotations

import json
import os
from typing import Any

from funcgrad import checkpoints, tree
from funcgrad.checkpoints import CheckpointManager
from funcgrad.errors import ArgumentError, CheckpointError
from funcgrad.numpy import asarray
from funcgrad.train.loop import Callback, Run, plain


class Checkpoints(Callback):
    """Saves the run in a folder as it goes on, and goes on from there when it is started again.

    Saved are the state, the numbers of epoch and step, the history, what the steps of the epoch have reported so far,
    and the place in the data if they have `state` and `restore`, as a `DataLoader` has. A run that was killed and
    started again with the same arguments goes through the same steps as one that was not, and gives the same state and
    history.

    Arguments:
        manager: a `fg.checkpoints.CheckpointManager`, or a folder for one.
        every_epochs: after how many epochs to save; the last one is always saved.
        every_steps: after how many steps to save besides; None for never. It needs data with `state` and `restore`, and
            a manager that does not go by a metric, because there is none within an epoch.
        resume: whether to go on from the latest checkpoint in the folder, if there is one.

    Raises:
        ArgumentError: the settings make no sense, or the data cannot say where they are within an epoch.
        CheckpointError: from `fit`, if a checkpoint cannot be written, is damaged, or holds another kind of state.

    Example:
        >>> import funcgrad as fg
        >>> def train(epochs):
        ...     step = lambda total, x: (total + x, {"x": x})
        ...     saving = fg.train.Checkpoints("saved-run")
        ...     return fg.train.fit(step, fg.numpy.zeros(()), [1.0, 2.0], epochs, callbacks=[saving])
        >>> _ = train(epochs=3)
        >>> state, history = train(epochs=4)  # goes on after the third epoch
        >>> state, len(history)
        (Array(12., dtype=float32), 4)
    """

    is_outermost = True

    def __init__(
        self,
        manager: CheckpointManager | str | os.PathLike[str],
        *,
        every_epochs: int = 1,
        every_steps: int | None = None,
        resume: bool = True,
    ):
        if every_epochs < 1 or every_steps is not None and every_steps < 1:
            raise ArgumentError(f"Checkpoints saves after 1 epoch or step or more, not {every_epochs}, {every_steps}.")
        self.manager = manager if isinstance(manager, CheckpointManager) else CheckpointManager(manager)
        self._every_epochs, self._every_steps, self._resume = every_epochs, every_steps, resume

    def on_start(self, run: Run) -> None:
        if self._every_steps is not None and not _has_place(run.data):
            raise ArgumentError(
                "Checkpoints got every_steps, and the data cannot say where they are within an epoch; use a "
                "DataLoader, or save after epochs only."
            )
        path = self.manager.latest() if self._resume else None
        if path is None:
            return
        try:
            self._restore(run, path)
        except CheckpointError as error:
            error.add_note(
                f"The run would go on from {path}. Remove it to go on from the checkpoint before it, or use "
                "Checkpoints(..., resume=False) or another folder to begin anew."
            )
            raise

    def _restore(self, run: Run, path: Any) -> None:
        like = dict.fromkeys(("epoch", "step", "batch"), 0) | dict.fromkeys(("data", "history", "reported"), "")
        saved = checkpoints.restore(path, like, at="['run']")
        run.state = checkpoints.restore(path, run.state, at="['state']")
        if any(name.startswith("['kept']") for name in checkpoints.read_info(path).leaves):
            run.kept = checkpoints.restore(path, run.state, at="['kept']")
        run.epoch, run.step, run.batch = saved["epoch"], saved["step"], saved["batch"]
        run.history = [{name: _from_json(x) for name, x in m.items()} for m in json.loads(saved["history"])]
        if run.batch:
            numbers = json.loads(saved["reported"])
            names = [f"leaves.{i}" for i in range(sum(numbers["leaves"].values()))]
            arrays = checkpoints.load_arrays(path, names)
            run.reported.restore(numbers, [arrays[name] for name in names])
        if _has_place(run.data):
            run.data.restore(json.loads(saved["data"]))  # pyright: ignore

    def on_step(self, run: Run) -> None:
        if self._every_steps is not None and run.step % self._every_steps == 0 and run.batch != run.batches:
            self._save(run, run.epoch, run.batch)

    def on_epoch(self, run: Run) -> None:
        is_last = run.epoch + 1 == run.epochs or run.should_stop or run.step == run.steps
        if is_last or (run.epoch + 1) % self._every_epochs == 0:
            was_left = run.batches is not None and run.batch < run.batches and _has_place(run.data)
            self._save(run, *(run.epoch, run.batch) if was_left else (run.epoch + 1, 0))

    def on_end(self, run: Run) -> None:
        self.manager.wait()

    def _save(self, run: Run, epoch: int, batch: int) -> None:
        numbers, leaves = run.reported.state() if batch else ({"leaves": {}}, [])
        history = run.history if batch else [*run.history, run.metrics]
        facts = {
            "epoch": epoch,
            "step": run.step,
            "batch": batch,
            "data": json.dumps(run.data.state()) if _has_place(run.data) else "",  # pyright: ignore
            "history": json.dumps([{name: _to_json(value) for name, value in m.items()} for m in history]),
            "reported": json.dumps(numbers),
        }
        content = {"state": run.state, "run": facts, "leaves": leaves}
        if run.kept is not None:
            content["kept"] = run.kept
        metrics = {name: value for name, value in run.metrics.items() if isinstance(value, (int, float))}
        self.manager.save(run.step, content, metrics=metrics)
        if run.donates:
            self.manager.wait()  # before the next step writes into the arrays that are being saved


def _has_place(data: Any) -> bool:
    return callable(getattr(data, "state", None)) and callable(getattr(data, "restore", None))


def _to_json(value: Any) -> Any:
    """A metric as JSON: an array as a dict of its dtype and its elements."""
    value = plain(value)
    if hasattr(value, "dtype"):
        return {"dtype": value.dtype.name, "elements": value.tolist()}
    if isinstance(value, (bool, int, float, str, type(None))):
        return value
    return {"leaves": [_to_json(leaf) for leaf in tree.leaves(value)]}


def _from_json(value: Any) -> Any:
    if isinstance(value, dict) and "dtype" in value:
        return asarray(value["elements"], dtype=value["dtype"])
    return [_from_json(x) for x in value["leaves"]] if isinstance(value, dict) else value
