"""Blocks: many batches of arrays made at once.

A small batch of arrays is copied in less time than it takes a loader to ask a worker for it. So the loop takes the rows
of many batches together, and cuts the copy into batches, which are views of it. All that can be known before is found
out once, since a training step may take as little as twenty microseconds.
"""

from __future__ import annotations

from typing import Any

import numpy

from funcgrad import tree
from funcgrad.array import ConcreteArray
from funcgrad.data.collating import to_array
from funcgrad.data.datasets import ArrayDataset
from funcgrad.data.plans import Noting, described
from funcgrad.data.transforming import Subset

PyTree = Any

BLOCK_BYTES = 2**20  # so many that the calls are few for each batch, and so few that they stay in a cache


class Blocks:
    """Makes batches of the rows of arrays.

    Arguments:
        arrays: an `ArrayDataset`.
        places: the rows that are the examples, in their order; None for all.
        batch_size: examples in a batch.
        as_arrays: whether the leaves of batches are funcgrad arrays, and not NumPy's.
    """

    def __init__(self, arrays: ArrayDataset, places: numpy.ndarray | None, batch_size: int, as_arrays: bool):
        leaves, self._structure = tree.flatten(arrays.arrays)
        self._leaves = [numpy.asarray(leaf) for leaf in leaves]
        self._places, self._size, self._as_arrays = places, batch_size, as_arrays
        bytes_of_batch = batch_size * sum(leaf.nbytes for leaf in leaves) / len(arrays)
        self.batches_at_once = int(BLOCK_BYTES / max(1, bytes_of_batch))

    def make(self, number: int, indices: numpy.ndarray) -> list[PyTree]:
        """The batches of the examples with these indices, in their order; the last may be smaller.

        Arguments:
            number: that of the first batch.
            indices: those of the examples of all batches.
        """
        rows = indices if self._places is None else self._places[indices]
        last = number + (len(rows) - 1) // self._size
        which = f"batch {number}" if number == last else f"one of the batches {number} to {last}"
        with Noting(lambda: f"in {which}, made of the {described(indices)}"):
            columns = [self._column(leaf, rows) for leaf in self._leaves]
        return list(map(self._structure.unflatten, zip(*columns, strict=True)))

    def _column(self, leaf: numpy.ndarray, rows: numpy.ndarray) -> list[Any]:
        """One leaf of all batches."""
        size, whole = self._size, len(rows) // self._size * self._size
        taken = leaf.take(rows, axis=0)
        taken = to_array(taken, copy=False)._data if self._as_arrays else taken
        pieces = list(taken[:whole].reshape(-1, size, *taken.shape[1:]))
        if whole < len(rows):
            pieces.append(taken[whole:])
        return _arrays(pieces) if self._as_arrays else pieces


def _arrays(pieces: list[numpy.ndarray]) -> list[Any]:
    """funcgrad arrays of these buffers, all but the last of which have one shape: asking each takes longer."""
    first, last = pieces[0], pieces[-1]
    shape, dtype, new, arrays = first.shape, first.dtype, object.__new__, []
    for buffer in pieces:
        array: Any = new(ConcreteArray)
        array._data, array.shape, array.dtype = buffer, shape, dtype
        arrays.append(array)
    arrays[-1].shape = last.shape
    return arrays


def blocks_of(dataset: Any, batch_size: int, as_arrays: bool) -> Blocks | None:
    """What makes the batches of a dataset in blocks; None unless it has rows of arrays, and its batches are small."""
    places = None
    while isinstance(dataset, Subset):
        places = dataset.indices if places is None else dataset.indices[places]
        dataset = dataset.dataset
    if not isinstance(dataset, ArrayDataset) or type(dataset).take is not ArrayDataset.take:
        return None
    blocks = Blocks(dataset, places, batch_size, as_arrays)
    return blocks if blocks.batches_at_once > 1 else None
