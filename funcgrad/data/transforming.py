"""Datasets made from datasets: mapped, filtered, batched, shuffled, split, augmented.

All of them are lazy: an example is made when it is asked for. They take datasets with an index, and those that can only
be iterated over, and give one of the same kind.
"""

from __future__ import annotations

import builtins
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy

from funcgrad.annotations import Key
from funcgrad.data.collating import stack
from funcgrad.data.datasets import Dataset, IterableDataset, PyTree, at_epoch, checked_index, is_indexed
from funcgrad.errors import ArgumentError, ArgumentTypeError
from funcgrad.random import fold_in, permutation, randint

AnyDataset = Dataset | IterableDataset


class _Indexed:
    """What the datasets of this file with an index have in common."""

    dataset: Any

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> PyTree:
        return self.example(checked_index(index, len(self)))

    def __iter__(self) -> Iterator[PyTree]:
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        return f"<{type(self).__name__.lower()} dataset of {len(self)} examples>"

    def example(self, index: int) -> PyTree:
        """The example of an index that is known to be in range."""
        raise NotImplementedError

    def at_epoch(self, epoch: int) -> Any:
        """The same over the dataset as it is in that epoch."""
        inner = at_epoch(self.dataset, epoch)
        if inner is self.dataset:
            return self
        copy = object.__new__(type(self))
        copy.__dict__.update(self.__dict__, dataset=inner)
        return copy


class Stream:
    """A dataset to iterate over: what a generator function makes of another one."""

    def __init__(self, read: Callable[..., Iterator[PyTree]], dataset: Any, *arguments: Any, epoch: int = 0):
        self.read, self.dataset, self.arguments, self.epoch = read, dataset, arguments, epoch

    def __iter__(self) -> Iterator[PyTree]:
        return self.read(self.dataset, self.epoch, *self.arguments)

    def at_epoch(self, epoch: int) -> Stream:
        """The same in another epoch."""
        return Stream(self.read, at_epoch(self.dataset, epoch), *self.arguments, epoch=epoch)


class Mapped(_Indexed):
    """A function of each example."""

    def __init__(self, f: Callable[[PyTree], PyTree], dataset: Any):
        self.f, self.dataset = f, dataset

    def example(self, index: int) -> PyTree:
        return self.f(self.dataset[index])


def map(f: Callable[[PyTree], PyTree], dataset: AnyDataset) -> Any:
    """The dataset of `f(example)` for each example.

    Arguments:
        f: a function from an example to an example. For worker processes it has to be defined at the top of a module.
        dataset: a dataset, with an index or not.

    Raises:
        ArgumentTypeError: if `dataset` is none.

    Example:
        >>> import funcgrad as fg
        >>> list(fg.data.map(lambda x: x * 10, [1, 2, 3]))
        [10, 20, 30]
    """
    if is_indexed("map", dataset):
        return Mapped(f, dataset)
    return Stream(_read_mapped, dataset, f)


def _read_mapped(dataset: Any, epoch: int, f: Callable[[PyTree], PyTree]) -> Iterator[PyTree]:
    return builtins.map(f, dataset)


class Subset(_Indexed):
    """Some of the examples of a dataset, in a given order.

    Arguments:
        dataset: a dataset with an index.
        indices: integers from 0 to the length of the dataset less 1; an example may appear more than once.

    Raises:
        OutOfBoundsError: for an index that is out of range.

    Example:
        >>> import funcgrad as fg
        >>> list(fg.data.Subset(["a", "b", "c"], [2, 0]))
        ['c', 'a']
    """

    def __init__(self, dataset: Any, indices: Sequence[int] | numpy.ndarray):
        self.dataset = dataset
        self.indices = numpy.asarray(indices, numpy.int64).reshape(-1)
        for index in (self.indices.min(), self.indices.max()) if self.indices.size else ():
            checked_index(index, len(dataset))

    def __len__(self) -> int:
        return len(self.indices)

    def example(self, index: int) -> PyTree:
        return self.dataset[int(self.indices[index])]

    @property
    def take(self) -> Callable[[numpy.ndarray], PyTree]:
        """Whole batches, if the dataset gives them; otherwise there is no such attribute."""
        take = self.dataset.take
        return lambda indices: take(self.indices[indices])


def filter(predicate: Callable[[PyTree], bool], dataset: AnyDataset) -> Any:
    """The examples for which `predicate(example)` is true.

    To have a length and an index, a dataset with an index is read once, here; one to iterate over is filtered as it is
    read.

    Arguments:
        predicate: a function from an example to a truth value.
        dataset: a dataset, with an index or not.

    Raises:
        ArgumentTypeError: if `dataset` is none.

    Example:
        >>> import funcgrad as fg
        >>> list(fg.data.filter(lambda x: x % 2 == 0, range(6)))
        [0, 2, 4]
    """
    if not is_indexed("filter", dataset):
        return Stream(_read_filtered, dataset, predicate)
    length = len(dataset)  # type: ignore[arg-type]
    return Subset(dataset, [index for index in range(length) if predicate(dataset[index])])  # type: ignore[index]


def _read_filtered(dataset: Any, epoch: int, predicate: Callable[[PyTree], bool]) -> Iterator[PyTree]:
    return builtins.filter(predicate, dataset)


class Batched(_Indexed):
    """Consecutive examples, stacked."""

    def __init__(self, dataset: Any, batch_size: int, drop_last: bool):
        self.dataset, self.batch_size, self.drop_last = dataset, batch_size, drop_last

    def __len__(self) -> int:
        length = len(self.dataset)
        return length // self.batch_size if self.drop_last else -(-length // self.batch_size)

    def example(self, index: int) -> PyTree:
        start = index * self.batch_size
        stop = min(start + self.batch_size, len(self.dataset))
        if hasattr(self.dataset, "take"):
            return self.dataset.take(numpy.arange(start, stop))
        return stack([self.dataset[i] for i in range(start, stop)])


def batch(dataset: AnyDataset, batch_size: int, drop_last: bool = False) -> Any:
    """The dataset of batches of consecutive examples: pytrees of NumPy arrays with one axis more.

    Arguments:
        dataset: a dataset, with an index or not.
        batch_size: examples in each batch; 1 or more.
        drop_last: leave out the last batch if it is smaller.

    Raises:
        ArgumentError: for a batch size that is no positive integer.
        ShapeError: when a batch is made, if its examples have different shapes.

    Example:
        >>> import funcgrad as fg
        >>> list(fg.data.batch(range(5), 2))
        [array([0, 1], dtype=int32), array([2, 3], dtype=int32), array([4], dtype=int32)]
    """
    batch_size = positive("batch", "batch_size", batch_size)
    if is_indexed("batch", dataset):
        return Batched(dataset, batch_size, drop_last)
    return Stream(_read_batched, dataset, batch_size, drop_last)


def _read_batched(dataset: Any, epoch: int, batch_size: int, drop_last: bool) -> Iterator[PyTree]:
    examples = iter(dataset)
    while group := list(itertools.islice(examples, batch_size)):
        if len(group) == batch_size or not drop_last:
            yield stack(group)


def shuffle(key: Key, dataset: AnyDataset, buffer_size: int | None = None) -> Any:
    """The examples in a random order, which depends on nothing but the key.

    To have another order in each epoch, give the key to the `DataLoader` instead (`shuffle_key`).

    Arguments:
        key: a random key.
        dataset: a dataset, with an index or not.
        buffer_size: for a dataset to iterate over, from how many examples, held in memory, the next is chosen. The
            order is then another one in each epoch of a loader.

    Raises:
        ArgumentTypeError: if `key` is not a random key, or `dataset` no dataset.
        ArgumentError: if a buffer size is missing, or given for a dataset with an index.

    Example:
        >>> import funcgrad as fg
        >>> list(fg.data.shuffle(fg.random.key(1), "abcdef")) == list(fg.data.shuffle(fg.random.key(1), "abcdef"))
        True
    """
    if is_indexed("shuffle", dataset):
        if buffer_size is not None:
            raise ArgumentError(
                "shuffle got a buffer_size for a dataset with an index, which is shuffled as a whole; leave it out."
            )
        return Subset(dataset, shuffled_indices(key, len(dataset)))  # type: ignore[arg-type]
    if buffer_size is None:
        raise ArgumentError("shuffle needs a buffer_size for a dataset without an index; give one, such as 1000.")
    return Stream(_read_shuffled, dataset, key, positive("shuffle", "buffer_size", buffer_size))


def shuffled_indices(key: Key, length: int) -> numpy.ndarray:
    """A random order of the numbers from 0 to `length` - 1, as int64."""
    return permutation(key, length).__array__().astype(numpy.int64)


def _read_shuffled(dataset: Any, epoch: int, key: Key, buffer_size: int) -> Iterator[PyTree]:
    key = fold_in(key, epoch)
    examples = iter(dataset)
    buffer = list(itertools.islice(examples, buffer_size))
    full = len(buffer)
    draws = 1024  # numbers that are drawn together
    for block in itertools.count():
        for choice in randint(fold_in(key, block + 1), (draws,), 0, full).tolist():
            try:
                following = next(examples)
            except StopIteration:
                yield from (buffer[index] for index in shuffled_indices(fold_in(key, 0), full))
                return
            yield buffer[choice]
            buffer[choice] = following


def split(dataset: Dataset, parts: Sequence[int | float], key: Key | None = None) -> list[Subset]:
    """Divides a dataset into parts that have no example in common.

    Arguments:
        dataset: a dataset with an index.
        parts: how many examples each part has, as integers that sum to the length of the dataset, or as fractions that
            sum to 1.
        key: a random key, for examples at random; by default the first part has the first examples, and so on.

    Returns:
        A list of datasets.

    Raises:
        ArgumentError: if the parts do not sum to the whole.
        ArgumentTypeError: if `dataset` has no index.

    Example:
        >>> import funcgrad as fg
        >>> train, test = fg.data.split(range(10), [0.8, 0.2], key=fg.random.key(0))
        >>> len(train), len(test), sorted([*train, *test]) == list(range(10))
        (8, 2, True)
    """
    if not is_indexed("split", dataset):
        raise ArgumentTypeError("split needs a dataset with a length and an index, and this one can only be iterated.")
    length = len(dataset)
    if all(isinstance(part, (int, numpy.integer)) for part in parts):
        ends, whole = numpy.cumsum([0, *parts]), length
        fits = all(part >= 0 for part in parts) and ends[-1] == whole
    else:
        fractions = numpy.cumsum([0.0, *parts])
        ends, whole = numpy.rint(fractions * length).astype(int), 1
        fits = all(part >= 0 for part in parts) and abs(fractions[-1] - 1) < 1e-6
    if not fits:
        raise ArgumentError(
            f"split got the parts {list(parts)} for a dataset of {length} examples; give integers that sum to "
            f"{length}, or fractions that sum to 1, none of them negative."
        )
    order = numpy.arange(length) if key is None else shuffled_indices(key, length)
    return [Subset(dataset, order[start:stop]) for start, stop in itertools.pairwise(ends)]


class Augmented(_Indexed):
    """A random function of each example."""

    def __init__(self, f: Callable[[Key, PyTree], PyTree], key: Key, dataset: Any, epoch: int = 0):
        self.f, self.key, self.dataset, self.epoch = f, key, dataset, epoch
        self._epoch_key = fold_in(key, epoch)

    def example(self, index: int) -> PyTree:
        return self.f(fold_in(self._epoch_key, index), self.dataset[index])

    def at_epoch(self, epoch: int) -> Augmented:
        if epoch == self.epoch:
            return self
        return Augmented(self.f, self.key, at_epoch(self.dataset, epoch), epoch)


def augment(f: Callable[[Key, PyTree], PyTree], key: Key, dataset: AnyDataset) -> Any:
    """The dataset of `f(key, example)`, with a random key of its own for each example and each epoch of a loader.

    The key of an example is made from `key`, the epoch and the index of the example in `dataset`, by `fold_in`. So it
    does not depend on the order, nor on the number of workers.

    Arguments:
        f: a function of a random key and an example. For worker processes it has to be defined at the top of a module.
        key: a random key.
        dataset: a dataset, with an index or not.

    Raises:
        ArgumentTypeError: if `key` is not a random key, or `dataset` no dataset.

    Example:
        >>> import funcgrad as fg
        >>> noisy = fg.data.augment(lambda key, x: x + fg.random.normal(key), fg.random.key(0), [1.0, 1.0])
        >>> bool(noisy[0] == noisy[0]), bool(noisy[0] == noisy[1])
        (True, False)
    """
    if is_indexed("augment", dataset):
        return Augmented(f, key, dataset)
    fold_in(key, 0)  # a wrong key is found here, not where it is used
    return Stream(_read_augmented, dataset, f, key)


def _read_augmented(dataset: Any, epoch: int, f: Callable[[Key, PyTree], PyTree], key: Key) -> Iterator[PyTree]:
    key = fold_in(key, epoch)
    return (f(fold_in(key, index), example) for index, example in enumerate(dataset))


def positive(name: str, argument: str, value: Any) -> int:
    """An argument that has to be an integer of 1 or more."""
    if isinstance(value, bool) or not isinstance(value, (int, numpy.integer)) or value < 1:
        raise ArgumentError(f"{name} got {argument}={value!r}; give an integer of 1 or more.")
    return int(value)
