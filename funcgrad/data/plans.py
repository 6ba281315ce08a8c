"""Plans: what each batch of an epoch consists of, and how it is made, wherever that happens."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy

from funcgrad.data.collating import stack
from funcgrad.data.datasets import at_epoch
from funcgrad.errors import FuncgradError

PyTree = Any
Collate = Callable[[list[PyTree]], PyTree]

# What a plan gives for a batch beyond the end of a dataset whose length nobody knows.
END = "END"


class IndexedPlan:
    """The batches of an epoch of a dataset with an index.

    Arguments:
        dataset: a dataset with an index.
        collate: makes a batch of a list of examples; None for the default.
        epoch: the number of the epoch.
        order: the indices of the examples, in the order in which they come.
        batch_size: how many make a batch.
    """

    def __init__(self, dataset: Any, collate: Collate | None, epoch: int, order: numpy.ndarray, batch_size: int):
        self.dataset, self.collate, self.order, self.batch_size = at_epoch(dataset, epoch), collate, order, batch_size

    def make(self, number: int) -> PyTree:
        """The batch of this number."""
        indices = self.order[number * self.batch_size : (number + 1) * self.batch_size]
        if self.collate is None and hasattr(self.dataset, "take"):
            with Noting(lambda: f"in batch {number}, made of the {described(indices)}"):
                return self.dataset.take(indices)
        examples = []
        for index in indices.tolist():
            with Noting(lambda index=index: f"by example {index} of the dataset, in batch {number}"):
                examples.append(self.dataset[index])
        with Noting(lambda: f"while batch {number} was made of the {described(indices)}"):
            return (self.collate or stack)(examples)


class StreamPlan:
    """The batches of an epoch of a dataset that is iterated over. They are made in their order, each once.

    Arguments:
        dataset: a dataset to iterate over.
        collate: makes a batch of a list of examples; None for the default.
        epoch: the number of the epoch.
        start: the number of the first batch; the examples before it are read and dropped.
        batch_size: how many examples make a batch.
        drop_last: whether a smaller last batch is left out.
        shard: (i, n): take the examples i, i + n, i + 2 n and so on.
    """

    def __init__(
        self,
        dataset: Any,
        collate: Collate | None,
        epoch: int,
        start: int,
        batch_size: int,
        drop_last: bool,
        shard: tuple[int, int],
    ):
        self.dataset, self.collate, self.batch_size, self.drop_last = (
            at_epoch(dataset, epoch),
            collate,
            batch_size,
            drop_last,
        )
        self.shard, self.position = shard, start * batch_size
        self.examples: Iterator[PyTree] | None = None

    def make(self, number: int) -> PyTree:
        """The batch of this number, or END."""
        with Noting(lambda: f"by example {self.position} of the dataset, in batch {number}"):
            if self.examples is None:
                self.examples = itertools.islice(iter(self.dataset), self.shard[0], None, self.shard[1])
                next(itertools.islice(self.examples, self.position, self.position), None)
            group = []
            for example in itertools.islice(self.examples, self.batch_size):
                group.append(example)
                self.position += 1
        if not group or (self.drop_last and len(group) < self.batch_size):
            return END
        with Noting(lambda: f"while batch {number} was made"):
            return (self.collate or stack)(group)


class Noting:
    """Adds to an exception that passes by where it was raised: the user's own traceback does not say."""

    def __init__(self, where: Callable[[], str]):
        self.where = where

    def __enter__(self) -> None:
        pass

    def __exit__(self, cls: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, Exception):
            error.add_note(f"Raised {self.where()}.")


def described(indices: numpy.ndarray) -> str:
    """The examples of a batch in words, the first of them by number."""
    shown = ", ".join(map(str, indices[:8].tolist()))
    return f"examples {shown}{', ...' if len(indices) > 8 else ''} of the dataset"


_STANDARD_LIBRARY = os.path.dirname(threading.__file__) + os.sep


def forget_worker_line(error: BaseException) -> BaseException:
    """A worker's stack has no line of the user at its bottom, so that a line of the standard library would be named."""
    if isinstance(error, FuncgradError) and error.source is not None:
        file = error.source.file
        if file.startswith(_STANDARD_LIBRARY) and "site-packages" not in file:
            error.source = None
    return error
