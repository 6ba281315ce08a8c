"""Making a batch of examples."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy

from funcgrad import dtypes, tree
from funcgrad.array import Array, ConcreteArray
from funcgrad.errors import ArgumentError, ArgumentTypeError, DtypeError, ShapeError

PyTree = Any


def stack(examples: Sequence[PyTree]) -> PyTree:
    """Examples as one batch: each of their arrays with a new first axis. What a `DataLoader` does by default.

    Arguments:
        examples: pytrees of arrays and numbers, all of one structure and with the same shapes. Python's numbers become
            int32, float32, complex64 or bool.

    Returns:
        A pytree of NumPy arrays.

    Raises:
        ArgumentError: if there is no example.
        TreeError: if the structures differ.
        ShapeError: if the shapes differ.
        ArgumentTypeError: for something that is neither an array nor a number, such as a text.

    Example:
        >>> import funcgrad as fg
        >>> fg.data.stack([{"x": 1.0, "y": 0}, {"x": 2.0, "y": 1}])
        {'x': array([1., 2.], dtype=float32), 'y': array([0, 1], dtype=int32)}
    """
    if not examples:
        raise ArgumentError("stack got no examples; a batch has at least one.")
    first, structure = tree.flatten(examples[0])
    columns: list[list[Any]] = [[] for _ in first]
    for position, example in enumerate(examples):
        leaves, other = tree.flatten(example)
        if other != structure:
            tree.check_same_structure(structure, other, what=f"example {position} of a batch")
        for column, leaf in zip(columns, leaves, strict=True):
            column.append(leaf)
    return tree.unflatten(structure, [_stack_column(column, structure, i) for i, column in enumerate(columns)])


def _stack_column(leaves: list[Any], structure: tree.TreeDef, position: int) -> numpy.ndarray:
    arrays = [_to_numpy(leaf, structure, position) for leaf in leaves]
    shape, dtype = arrays[0].shape, arrays[0].dtype
    for number, array in enumerate(arrays):
        if array.shape != shape:
            raise ShapeError(
                f"example {number} of a batch has shape {array.shape}{_place(structure, position)}, and example 0 has "
                f"{shape}; give them one shape, for example by padding or cropping with fg.data.map, or use a collate "
                "function of your own."
            )
        if array.dtype != dtype:
            dtype = reduce(dtypes.promote, (dtypes.canonical(array.dtype) for array in arrays))
    return numpy.stack(arrays, dtype=dtype, casting="unsafe")


def _to_numpy(leaf: Any, structure: tree.TreeDef, position: int) -> numpy.ndarray:
    if isinstance(leaf, Array):
        return leaf.concrete("an example of a batch").__array__()
    default = dtypes.DEFAULT_OF_SCALAR.get(type(leaf))
    if default is not None:
        try:
            return numpy.asarray(leaf, default)
        except OverflowError:
            raise DtypeError(
                f"the Python integer {leaf}{_place(structure, position)} of an example does not fit into int32; "
                "make it numpy.int64(value)."
            ) from None
    if isinstance(leaf, (numpy.ndarray, numpy.generic)):
        return numpy.asarray(leaf)
    raise ArgumentTypeError(
        f"an example holds {type(leaf).__name__} {leaf!r:.40}{_place(structure, position)}, which is neither an array "
        "nor a number; convert it or leave it out with fg.data.map, or use a collate function of your own."
    )


def _place(structure: tree.TreeDef, position: int) -> str:
    text = tree.keystr(structure.accessors()[position])
    return f" at {text}" if text else ""


def to_arrays(batch: PyTree, copy: bool) -> PyTree:
    """The batch with funcgrad arrays in place of NumPy's, into which then nobody writes unless `copy` is set."""
    return tree.map(lambda leaf: to_array(leaf, copy), batch)


def to_array(leaf: Any, copy: bool) -> Any:
    """The same for one leaf."""
    if not isinstance(leaf, (numpy.ndarray, numpy.generic)):
        return leaf
    if leaf.dtype.kind in "OSUMm" or leaf.dtype.names:
        raise DtypeError(
            f"a batch holds an array of dtype {leaf.dtype}, which funcgrad does not have; leave it out with "
            "fg.data.map, turn it into numbers, or take NumPy arrays from the loader with to_arrays=False."
        )
    dtype = dtypes.canonical(leaf.dtype)
    return ConcreteArray(numpy.array(leaf, dtype) if copy else numpy.asarray(leaf, dtype))
