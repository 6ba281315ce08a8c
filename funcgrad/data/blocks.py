"""Blocks: many batches of arrays made at once.

A small batch of arrays is copied in less time than it takes a loader to ask a worker for it. So the loop takes the rows
of many batches together, and cuts the copy into batches, which are views of it.
"""

from __future__ import annotations

from typing import Any

import numpy

from funcgrad import tree
from funcgrad.array import ConcreteArray
from funcgrad.data.collating import to_arrays
from funcgrad.data.datasets import ArrayDataset
from funcgrad.data.plans import Noting, described
from funcgrad.data.transforming import Subset

PyTree = Any

BLOCK_BYTES = 2**20  # so many that the calls are few for each batch, and so few that they stay in a cache


def batches_of_block(dataset: Any, batch_size: int) -> int:
    """How many batches to make at once: 1 unless the dataset has plain rows of arrays, and a batch of them is small."""
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    if not isinstance(dataset, ArrayDataset) or type(dataset).take is not ArrayDataset.take:
        return 1
    size = sum(leaf.nbytes for leaf in tree.leaves(dataset.arrays)) / len(dataset)
    return max(1, int(BLOCK_BYTES / max(1, size * batch_size)))


def make_block(dataset: Any, number: int, indices: numpy.ndarray, batch_size: int, as_arrays: bool) -> list[PyTree]:
    """The batches of the examples with these indices, in their order; the last may be smaller.

    Arguments:
        dataset: an `ArrayDataset`, or a part of one.
        number: that of the first batch.
        indices: those of the examples of all batches.
        batch_size: examples in a batch.
        as_arrays: whether the leaves are funcgrad arrays, and not NumPy's.
    """
    last = number + (len(indices) - 1) // batch_size
    which = f"batch {number}" if number == last else f"one of the batches {number} to {last}"
    with Noting(lambda: f"in {which}, made of the {described(indices)}"):
        block = dataset.take(indices)
    leaves, structure = tree.flatten(to_arrays(block, copy=False) if as_arrays else block)
    columns = [_cut(leaf._data if as_arrays else leaf, batch_size) for leaf in leaves]
    if as_arrays:
        columns = [map(ConcreteArray, column) for column in columns]
    return list(map(structure.unflatten, zip(*columns, strict=True)))


def _cut(rows: numpy.ndarray, size: int) -> list[numpy.ndarray]:
    """Views of so many rows after the other."""
    whole = len(rows) // size * size
    pieces = list(rows[:whole].reshape(-1, size, *rows.shape[1:]))
    return pieces if whole == len(rows) else [*pieces, rows[whole:]]
