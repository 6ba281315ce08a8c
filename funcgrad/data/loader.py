"""The loader: batches of a dataset, epoch after epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy

from funcgrad.annotations import Key
from funcgrad.data.blocks import Blocks, blocks_of
from funcgrad.data.collating import to_arrays
from funcgrad.data.datasets import Dataset, IterableDataset, is_indexed
from funcgrad.data.orders import random_order
from funcgrad.data.plans import END, Collate, IndexedPlan, StreamPlan
from funcgrad.data.transforming import positive
from funcgrad.data.workers import Failure, Serial, Threads
from funcgrad.errors import ArgumentError, ArgumentTypeError, FuncgradError, user_line
from funcgrad.random import fold_in

PyTree = Any


class DataLoader:
    """Batches of the examples of a dataset.

    Iterating over it is an epoch. The order of the examples is a function of the key and of the number of the epoch
    alone, and batches come in that order, however many workers make them.

    Arguments:
        dataset: a dataset with a length and an index, or one to iterate over.
        batch_size: examples in a batch; 1 or more. The last batch of an epoch may be smaller.
        shuffle_key: a random key, for another random order in each epoch; by default the order is that of the dataset.
        drop_last: leave out the last batch if it is smaller.
        workers: how many threads or processes make batches; with 0 each is made when it is asked for. Small batches of
            an `ArrayDataset` or a part of one are copied in less time than it takes to hand them over: the loop makes
            many of them at once, of 1 MiB together, and threads have nothing to do.
        worker_kind: "thread", for reading files and for NumPy's work, which share memory and start at once; or
            "process", for Python code that takes long. Processes are started afresh, keep running until `close`, and
            need a dataset that can be pickled and a program that begins with `if __name__ == "__main__":`.
        prefetch: how many batches are made ahead, at most, and so how many are in memory; by default 2 for each worker.
        collate: a function that makes a batch of a list of examples; by default `fg.data.stack`.
        shard: (i, n), to take part i of n of the examples of each epoch, for training on n machines. The batches of
            the same number of all parts are together the batch of a loader of n times the batch size. With `drop_last`
            every part has equally many batches; without, every example is in one part.
        to_arrays: whether NumPy arrays in the batches become funcgrad arrays, which costs no copy.

    Raises:
        ArgumentError: for an empty dataset, for settings that leave no batch, and for ones that do not fit together.
        ArgumentTypeError: for something that is no dataset, and for a dataset that cannot be sent to processes.
        WorkerError: while iterating, if a worker process dies.

    An exception of the dataset or of `collate` is raised as it is, with a note that says for which example.

    Example:
        >>> import funcgrad as fg
        >>> loader = fg.data.DataLoader(range(10), batch_size=4, shuffle_key=fg.random.key(0))
        >>> [len(batch) for batch in loader]
        [4, 4, 2]
        >>> loader.state()["epoch"]
        1
    """

    def __init__(
        self,
        dataset: Dataset | IterableDataset,
        batch_size: int,
        *,
        shuffle_key: Key | None = None,
        drop_last: bool = False,
        workers: int = 0,
        worker_kind: Literal["thread", "process"] = "thread",
        prefetch: int | None = None,
        collate: Collate | None = None,
        shard: tuple[int, int] = (0, 1),
        to_arrays: bool = True,
    ):
        self._pool: Any = None
        self.dataset, self.drop_last, self.collate, self.to_arrays = dataset, bool(drop_last), collate, to_arrays
        self.batch_size = positive("DataLoader", "batch_size", batch_size)
        self.workers = workers if workers == 0 else positive("DataLoader", "workers", workers)
        self.worker_kind = worker_kind
        self.prefetch = positive("DataLoader", "prefetch", prefetch or 2 * max(self.workers, 1))
        self.shard = _checked_shard(shard)
        self.shuffle_key = shuffle_key
        if shuffle_key is not None:
            fold_in(shuffle_key, 0)  # a wrong key is found here
        if worker_kind not in ("thread", "process"):
            raise ArgumentError(f"DataLoader got worker_kind={worker_kind!r}; choose 'thread' or 'process'.")
        self._indexed = is_indexed("DataLoader", dataset)
        self._check_kind()
        self._length = None
        if self._indexed:
            self._length = self._checked_length(len(dataset))  # type: ignore[arg-type]
        self._has_processes = self.workers > 0 and worker_kind == "process"
        by_itself = self._indexed and collate is None and not self._has_processes
        self._blocks = blocks_of(dataset, self.batch_size, self.to_arrays) if by_itself else None
        self._generation = 0
        self._epoch, self._batch = 0, 0  # the batch that comes next
        self._begun = False  # whether an iteration has taken up this position

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        if self._length is None:
            raise ArgumentTypeError(
                "a loader of a dataset without a length has none either; count the batches of an epoch instead."
            )
        return self._length

    def __iter__(self) -> Iterator[PyTree]:
        """The batches of the next epoch; after `restore`, those that are left of the restored one.

        There is one iteration at a time: a new one ends the one before.
        """
        if self._begun:  # and left in the middle, or it would have gone on to the next epoch by itself
            self._epoch, self._batch = self._epoch + 1, 0
        self._begun = True
        self._generation += 1
        return _batches(self, self._generation)

    def state(self) -> dict[str, Any]:
        """Where the loader is: after which batch of which epoch.

        Returns:
            A dict of numbers, lists and None, which JSON can hold. It counts the batches that were taken, not those
            that workers have made ahead. It also holds the settings on which the order depends.

        Example:
            >>> import funcgrad as fg
            >>> loader = fg.data.DataLoader(range(6), batch_size=2)
            >>> first = next(iter(loader))
            >>> state = loader.state()
            >>> other = fg.data.DataLoader(range(6), batch_size=2)
            >>> other.restore(state)
            >>> [batch.tolist() for batch in other]
            [[2, 3], [4, 5]]
        """
        key, epoch, batch = self.shuffle_key, self._epoch, self._batch
        if batch == self._length:  # the last batch was taken, though the loop does not know yet that it was the last
            epoch, batch = epoch + 1, 0
        return {
            "epoch": epoch,
            "batch": batch,
            "batch_size": self.batch_size,
            "drop_last": self.drop_last,
            "shard": list(self.shard),
            "shuffle_key": None if key is None else numpy.asarray(key).tolist(),
            "examples": len(self.dataset) if self._indexed else None,  # type: ignore[arg-type]
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where another loader was: the next iteration begins with the batch after its last.

        A dataset without an index is read from its beginning up to there.

        Arguments:
            state: what `state` gave.

        Raises:
            ArgumentError: if the state is none, or was taken with other settings or another number of examples.
        """
        own = self.state()
        missing = [name for name in own if not isinstance(state, Mapping) or name not in state]
        if missing:
            raise ArgumentError(
                f"restore got a state without {', '.join(missing)}; give it what state() of a loader returned."
            )
        for name in own:
            if name in ("epoch", "batch"):
                if not isinstance(state[name], int) or state[name] < 0:
                    raise ArgumentError(
                        f"restore got {name}={state[name]!r}; give it what state() of a loader returned."
                    )
            elif state[name] != own[name]:
                raise ArgumentError(
                    f"restore got a state with {name}={state[name]!r}, and this loader has {own[name]!r}; make the "
                    "loader with the settings and the data with which the state was taken."
                )
        if self._length is not None and state["batch"] > self._length:
            raise ArgumentError(
                f"restore got batch {state['batch']} of an epoch of {self._length} batches; give it what state() of a "
                "loader returned."
            )
        self._epoch, self._batch = state["epoch"], state["batch"]
        self._begun = False
        self._generation += 1  # an iteration that is under way cannot go on

    def close(self) -> None:
        """End the workers and wait until they have ended. An iteration begins new ones, so a loader can be used again.

        It happens by itself when the loader is not used any more, when the program ends, and after an exception.
        """
        self._close(wait=True)

    def _close(self, wait: bool) -> None:
        pool, self._pool = self._pool, None
        self._generation += 1
        if pool is not None:
            pool.close(wait)

    def __enter__(self) -> DataLoader:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()

    def _check_kind(self) -> None:
        if not self._indexed and (self.workers > 1 or (self.workers and self.worker_kind == "process")):
            raise ArgumentError(
                "a dataset without an index can be read by one worker thread only, since only one can follow its "
                "order; use workers=1 and worker_kind='thread', or workers=0."
            )
        if not self._indexed and self.shuffle_key is not None:
            raise ArgumentError(
                "a dataset without an index cannot be shuffled as a whole; leave out shuffle_key and shuffle with "
                "fg.data.shuffle(key, dataset, buffer_size)."
            )
        if self.workers and self.worker_kind == "process":
            from funcgrad.data.processes import TASKS_OF_WORKER

            if self.prefetch > TASKS_OF_WORKER * self.workers:
                raise ArgumentError(
                    f"DataLoader got prefetch={self.prefetch}; it is at most {TASKS_OF_WORKER} for each worker process."
                )

    def _checked_length(self, examples: int) -> int:
        if examples == 0:
            raise ArgumentError(
                "the dataset of a DataLoader is empty; check the path or the filter that it comes from."
            )
        index, count = self.shard
        own = examples // count if self.drop_last else len(range(index, examples, count))
        batches = own // self.batch_size if self.drop_last else -(-own // self.batch_size)
        if batches == 0:
            part = f" has {examples} examples" if count == 1 else f", shard {index} of {count}, has {own} examples"
            raise ArgumentError(
                f"the dataset{part}, too few for one batch of {self.batch_size}"
                f"{' with drop_last=True' if self.drop_last else ''}; use a smaller batch or more examples."
            )
        return batches

    def _order(self, epoch: int) -> numpy.ndarray:
        """The indices of the examples of this shard, in the order of an epoch."""
        examples = len(self.dataset)  # type: ignore[arg-type]
        if self._checked_length(examples) != self._length:
            raise ArgumentError(
                f"the dataset of a DataLoader has {examples} examples now, and had another number when the loader was "
                "made; make a new loader when the data has changed."
            )
        key = self.shuffle_key
        order = numpy.arange(examples) if key is None else random_order(key, epoch, examples)
        index, count = self.shard
        return order[: examples // count * count if self.drop_last else None][index::count]

    def _plan(self) -> IndexedPlan | StreamPlan:
        """What the epoch that begins consists of."""
        if self._indexed:
            return IndexedPlan(self.dataset, self.collate, self._epoch, self._order(self._epoch), self.batch_size)
        return StreamPlan(
            self.dataset, self.collate, self._epoch, self._batch, self.batch_size, self.drop_last, self.shard
        )

    def _begin(self, plan: IndexedPlan | StreamPlan) -> Any:
        """The pool of workers, at work on a plan."""
        if self._pool is None:
            self._pool = self._new_pool()
        self._pool.begin(self._generation, plan, self._epoch)
        return self._pool

    def _new_pool(self) -> Any:
        if self.workers == 0:
            return Serial()
        if self.worker_kind == "thread":
            return Threads(self.workers)
        from funcgrad.data.processes import Processes

        return Processes(self.dataset, self.collate, self.workers)


def _batches(loader: DataLoader, generation: int) -> Iterator[PyTree]:
    """The batches of one epoch, from the position of the loader on. It holds the loader, never the other way round."""
    blocks = loader._blocks
    try:
        _check_generation(loader, generation)
        for made in _in_blocks(loader, blocks) if blocks is not None else _one_by_one(loader, generation):
            while made:
                loader._batch += 1
                yield made.pop()  # and hold it no more
                if loader._generation != generation:
                    _check_generation(loader, generation)
        loader._epoch, loader._batch, loader._begun = loader._epoch + 1, 0, False
    except GeneratorExit:  # the loop was left, and the workers wait for the next one
        raise
    except BaseException as error:
        if isinstance(error, FuncgradError) and error.source is None:
            error.source = user_line()
        if loader._generation == generation:
            loader._close(wait=False)
        raise


def _check_generation(loader: DataLoader, generation: int) -> None:
    if loader._generation != generation:
        raise ArgumentError(
            "this iteration over a DataLoader cannot go on, since the loader was iterated over anew, restored or "
            "closed meanwhile; use one loader for each loop that runs at the same time."
        )


def _in_blocks(loader: DataLoader, blocks: Blocks) -> Iterator[list[PyTree]]:
    """Lists of batches that are made at once; the next one last."""
    order, size, many = loader._order(loader._epoch), loader.batch_size, blocks.batches_at_once
    for number in range(loader._batch, len(loader), many):
        made = blocks.make(number, order[number * size : min(number + many, len(loader)) * size])
        made.reverse()
        yield made


def _one_by_one(loader: DataLoader, generation: int) -> Iterator[list[PyTree]]:
    """Lists of one batch, from the pool of workers."""
    # A batch of ours is new, and so is what comes from a process. A function of the user's in this process may keep the
    # arrays that it returns, and write into them later.
    foreign = loader.collate is not None and not loader._has_processes
    stop = math.inf if loader._length is None else loader._length
    number = submitted = loader._batch
    if number >= stop:
        return
    pool = loader._begin(loader._plan())
    ready: dict[int, Any] = {}  # batches that were made before their turn came

    def submit_until(end: int) -> None:
        nonlocal submitted
        while submitted < min(end, stop):
            pool.submit(submitted)
            submitted += 1

    while number < stop:
        submit_until(number + (loader.prefetch if loader.workers else 1))
        while number not in ready:
            ready |= {made: outcome for of, made, outcome in pool.receive() if of == generation}
        if isinstance(ready[number], Failure):
            raise ready[number].error
        if ready[number] is END:
            if number == 0:
                raise ArgumentError(
                    "the dataset of a DataLoader gave no batch: it is empty"
                    f"{', or too small for a batch with drop_last=True' if loader.drop_last else ''}; check where its "
                    "examples come from."
                )
            return
        batch = ready.pop(number)
        made = [to_arrays(batch, copy=foreign) if loader.to_arrays else batch]
        del batch
        number += 1
        if loader.workers:
            submit_until(number + loader.prefetch)
        yield made


def _checked_shard(shard: tuple[int, int]) -> tuple[int, int]:
    try:
        index, count = map(int, shard)
    except (TypeError, ValueError):
        raise ArgumentError(f"DataLoader got shard={shard!r}; give (i, n) for part i of n, such as (0, 2).") from None
    if not 0 <= index < count:
        raise ArgumentError(f"DataLoader got shard={shard!r}; in (i, n), i is from 0 to n - 1.")
    return index, count
