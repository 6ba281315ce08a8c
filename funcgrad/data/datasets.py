"""Datasets: anything with a length and an index; and arrays as a dataset."""

from __future__ import annotations

import mmap
import operator
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy

from funcgrad import tree
from funcgrad.array import Array
from funcgrad.devices import to_host
from funcgrad.errors import ArgumentTypeError, IndexTypeError, OutOfBoundsError, ShapeError

PyTree = Any


@runtime_checkable
class Dataset(Protocol):
    """What a dataset has to offer: a length, and an example for each index from 0 to the length less 1.

    An example is a pytree of arrays and numbers. So a list of examples is a dataset, and so is an object of any class
    with these two methods. Two more methods are used where a dataset has them: `take(indices)`, with a NumPy array of
    indices, gives a whole batch of new NumPy arrays at once; `at_epoch(epoch)` gives the dataset as it is in that
    epoch, for datasets that are random.

    Example:
        >>> import funcgrad as fg
        >>> class Squares:
        ...     def __len__(self):
        ...         return 4
        ...     def __getitem__(self, index):
        ...         return {"x": index, "y": index**2}
        >>> isinstance(Squares(), fg.data.Dataset)
        True
        >>> next(iter(fg.data.DataLoader(Squares(), batch_size=4)))["y"]
        Array([0, 1, 4, 9], dtype=int32)
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> PyTree: ...


@runtime_checkable
class IterableDataset(Protocol):
    """A dataset that is only read from beginning to end, such as the lines of a large file or a simulation.

    Each call of `iter` begins anew, so a generator is none: write a class whose `__iter__` is a generator function.
    """

    def __iter__(self) -> Iterator[PyTree]: ...


def is_indexed(name: str, dataset: Any) -> bool:
    """Whether a dataset has a length and an index; otherwise it has to be one that can be iterated over again.

    Raises:
        ArgumentTypeError: if it is neither.
    """
    if isinstance(dataset, (Array, numpy.ndarray, Mapping)):
        raise ArgumentTypeError(
            f"{name} got {'a dict' if isinstance(dataset, Mapping) else 'an array'}, and takes datasets; "
            "make one of it with fg.data.ArrayDataset(arrays)."
        )
    if hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__"):
        return True
    if isinstance(dataset, Iterator) or not isinstance(dataset, Iterable):
        kind = "an iterator, which can be read only once" if isinstance(dataset, Iterator) else type(dataset).__name__
        raise ArgumentTypeError(
            f"{name} got {kind}, and takes datasets: objects with __len__ and __getitem__, or with an __iter__ that "
            "begins anew each time."
        )
    return False


def at_epoch(dataset: Any, epoch: int) -> Any:
    """The dataset as it is in an epoch: itself, unless it says otherwise."""
    return dataset.at_epoch(epoch) if hasattr(dataset, "at_epoch") else dataset


def checked_index(index: Any, length: int) -> int:
    """An index from 0 to `length` - 1; negative ones count from the end."""
    try:
        number = operator.index(index)
    except TypeError:
        raise IndexTypeError(f"a dataset is indexed with an integer, not with {type(index).__name__}.") from None
    if not -length <= number < length:
        raise OutOfBoundsError(f"index {number} is out of range for a dataset of {length} examples.")
    return number % length


class ArrayDataset:
    """Arrays whose first axis counts the examples.

    Arguments:
        arrays: a pytree of NumPy or funcgrad arrays, all with the same length of their first axis. NumPy arrays are not
            copied, so do not write into them while they are in use; memory-mapped ones stay on disk.
        metadata: what else is known about the data, such as the names of the classes.

    Raises:
        ShapeError: if the first axes have different lengths, or an array has no axis.
        ArgumentTypeError: if there is no array, or something that is none.

    Example:
        >>> import numpy
        >>> import funcgrad as fg
        >>> dataset = fg.data.ArrayDataset({"x": numpy.arange(6.0).reshape(3, 2), "y": numpy.array([0, 1, 1])})
        >>> len(dataset), dataset[2]
        (3, {'x': array([4., 5.]), 'y': np.int64(1)})
    """

    def __init__(self, arrays: PyTree, metadata: Mapping[str, Any] | None = None):
        self.arrays: PyTree = tree.map(_as_numpy, arrays)
        self.metadata: dict[str, Any] = dict(metadata or {})
        pairs = tree.leaves_with_path(self.arrays)
        if not pairs:
            raise ArgumentTypeError("ArrayDataset got a pytree without arrays; give it at least one.")
        for path, leaf in pairs:
            if leaf.ndim == 0:
                raise ShapeError(
                    f"ArrayDataset got an array without axes{_place(path)}; the first axis has to count the examples."
                )
        first_path, first = pairs[0]
        for path, leaf in pairs:
            if len(leaf) != len(first):
                raise ShapeError(
                    f"ArrayDataset got {len(first)} examples{_place(first_path)}, but {len(leaf)}{_place(path)}; "
                    "the first axes of all arrays need the same length."
                )
        self._length = len(first)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> PyTree:
        number = checked_index(index, self._length)
        return tree.map(lambda leaf: leaf[number], self.arrays)

    def __iter__(self) -> Iterator[PyTree]:
        return (self[index] for index in range(self._length))

    def take(self, indices: numpy.ndarray) -> PyTree:
        """The examples with these indices as one batch: a pytree of new NumPy arrays."""
        # `take` copies whole rows, where indexing with an array copies element after element.
        return tree.map(lambda leaf: numpy.asarray(leaf).take(indices, axis=0), self.arrays)

    def __repr__(self) -> str:
        shapes = tree.map(lambda leaf: f"{leaf.dtype.name}[{','.join(map(str, leaf.shape))}]", self.arrays)
        return f"ArrayDataset({shapes})".replace("'", "")

    def __getstate__(self) -> dict[str, Any]:
        # What lies on disk stays there: another process maps the same file rather than getting a copy of its contents.
        return {**self.__dict__, "arrays": tree.map(_mapped_file, self.arrays)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.arrays = tree.map(lambda leaf: leaf.open() if isinstance(leaf, MappedFile) else leaf, self.arrays)


class MappedFile:
    """Where on disk a memory-mapped array lies."""

    def __init__(self, path: Any, dtype: numpy.dtype, shape: tuple[int, ...], offset: int, order: Any):
        self.path, self.dtype, self.shape, self.offset, self.order = path, dtype, shape, offset, order

    def open(self) -> numpy.ndarray:
        """The array, read from the file where it is used."""
        return numpy.memmap(self.path, self.dtype, "r", self.offset, self.shape, self.order)


def _mapped_file(leaf: numpy.ndarray) -> Any:
    # A view of a mapped array has that array as its base, and nothing says where in the file it begins.
    if isinstance(leaf, numpy.memmap) and isinstance(leaf.base, mmap.mmap) and leaf.filename is not None:
        order = "C" if leaf.flags.c_contiguous else "F"
        return MappedFile(leaf.filename, leaf.dtype, leaf.shape, leaf.offset, order)
    return leaf


def _as_numpy(leaf: Any) -> numpy.ndarray:
    if isinstance(leaf, Array):
        return leaf.concrete("a dataset").__array__()
    if isinstance(leaf, numpy.ndarray):
        return leaf
    if hasattr(leaf, "__array__") or hasattr(leaf, "get"):
        return numpy.asarray(to_host(leaf))
    raise ArgumentTypeError(
        f"ArrayDataset got {type(leaf).__name__} {leaf!r:.40}, which is not an array; convert lists with fg.array, "
        "or use a list of examples as the dataset itself."
    )


def _place(path: tree.Path) -> str:
    text = tree.keystr(path)
    return f" at {text}" if text else ""
