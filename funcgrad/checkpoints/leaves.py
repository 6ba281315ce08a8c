"""The leaves of a pytree as arrays and JSON, and back.

An array keeps its bytes in the file under a name made of its path, `layers.0.weight`; numbers, texts and bytes of
Python go into JSON. `funcgrad.leaves` in the metadata of a file lists the leaves by their paths. Nothing is said there
of classes, since making an object of a class that a file names would run code: a tree is put together as an example of
it is, leaf by leaf, by path.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy

from funcgrad import dtypes, tree
from funcgrad.array import AbstractArray, Array, as_array, wrap
from funcgrad.devices import CPU, Device, move, to_host
from funcgrad.errors import ArgumentTypeError, TreeError

# What kind of array a leaf was: those of funcgrad, of NumPy, and NumPy's scalars come back as what they were.
STRONG, WEAK, NUMPY, NUMPY_SCALAR = "array", "weak array", "numpy array", "numpy scalar"
_SCALARS = (bool, int, float, complex)


class Record(NamedTuple):
    """A leaf in a file: where it stands in the tree; and its kind and array's name, or its type and value as JSON."""

    path: str
    kind: str
    value: Any

    @property
    def is_array(self) -> bool:
        return self.kind in (STRONG, WEAK, NUMPY, NUMPY_SCALAR)


def paths_and_leaves(value: Any) -> tuple[list[tuple[str, tree.Path, Any]], tree.TreeDef]:
    """The leaves of a tree with their paths, as text and as such."""
    pairs, structure = tree.flatten_with_path(value)
    items = [(tree.keystr(path), path, leaf) for path, leaf in pairs]
    if len({text for text, _, _ in items}) < len(items):
        seen: set[str] = set()
        twice = next(text for text, _, _ in items if text in seen or seen.add(text))
        raise TreeError(f"two leaves of the tree have the path {twice}; use keys that differ when they are printed.")
    return items, structure


def take_apart(value: Any, *, copy: bool = False) -> tuple[list[Record], dict[str, numpy.ndarray]]:
    """The records of a tree's leaves, and its arrays by name.

    Arguments:
        value: any pytree.
        copy: whether to copy NumPy's arrays, which somebody may write to before they are stored.

    Raises:
        ArgumentTypeError: a leaf is nothing that a checkpoint can hold.
    """
    records: list[Record] = []
    arrays: dict[str, numpy.ndarray] = {}
    for text, path, leaf in paths_and_leaves(value)[0]:
        if type(leaf) in _TO_JSON:
            records.append(Record(text, type(leaf).__name__, _TO_JSON[type(leaf)](leaf)))
            continue
        kind, array = _array_of(text, leaf)
        if copy and kind == NUMPY:
            array = array.copy()
        name = tree.keystr(path, simple=True, separator=".") or "value"
        if name in arrays or name == "__metadata__":  # as of the keys "a.b" and "b" within "a"
            name = f"{name} at {text}"
        while name in arrays:
            name += "'"
        arrays[name] = array
        records.append(Record(text, kind, name))
    return records, arrays


def _array_of(path: str, leaf: Any) -> tuple[str, numpy.ndarray]:
    if isinstance(leaf, Array):
        concrete = leaf.concrete("saving a checkpoint")
        return (WEAK if leaf.weak_type else STRONG), numpy.asarray(to_host(concrete._data))
    if isinstance(leaf, (numpy.ndarray, numpy.generic)) and _is_known(leaf.dtype):
        array = numpy.asarray(leaf, leaf.dtype.newbyteorder("="))
        return (NUMPY if isinstance(leaf, numpy.ndarray) else NUMPY_SCALAR), array
    what = f"{leaf.dtype.name} array" if isinstance(leaf, (numpy.ndarray, numpy.generic)) else type(leaf).__name__
    raise ArgumentTypeError(
        f"the leaf {path or 'that is the whole tree'} is a {what}, which a checkpoint cannot hold; it holds arrays, "
        "numbers, texts, bytes and None. Leave this leaf out, or register its class as a pytree."
    )


def _is_known(dtype: numpy.dtype) -> bool:
    return dtype.newbyteorder("=") in dtypes.KIND


# Python's scalars as JSON, which has neither infinities nor complex numbers, and whose integers should stay short


def _float_to_json(value: float) -> float | str:
    return value if math.isfinite(value) else repr(value)


_TO_JSON: dict[type, Callable[[Any], Any]] = {
    bool: lambda value: value,
    int: lambda value: value if abs(value) < 2**63 else hex(value),
    float: _float_to_json,
    complex: lambda value: [_float_to_json(value.real), _float_to_json(value.imag)],
    str: lambda value: value,
    bytes: lambda value: value.hex(),
}
_FROM_JSON: dict[str, Callable[[Any], Any]] = {
    "bool": bool,
    "int": lambda value: value if isinstance(value, int) else int(value, 16),
    "float": float,
    "complex": lambda value: complex(float(value[0]), float(value[1])),
    "str": str,
    "bytes": bytes.fromhex,
}


def encode_records(records: list[Record]) -> str:
    """The records as JSON."""
    return json.dumps(records, allow_nan=False, separators=(",", ":"))


def decode_records(text: str) -> list[Record]:
    """The records from JSON; ValueError, TypeError or KeyError if that is not what it is."""
    records = [Record(*fields) for fields in json.loads(text)]
    return [r if r.is_array else r._replace(value=_FROM_JSON[r.kind](r.value)) for r in records]


# Fitting what was stored to an example


def describe_example(leaf: Any) -> str:
    """A leaf of an example in a few words, to compare with `describe_stored`."""
    if isinstance(leaf, (Array, AbstractArray)):
        return _describe_array(WEAK if leaf.weak_type else STRONG, leaf.dtype, leaf.shape)
    if isinstance(leaf, (numpy.ndarray, numpy.generic)):
        return _describe_array(NUMPY if isinstance(leaf, numpy.ndarray) else NUMPY_SCALAR, leaf.dtype, leaf.shape)
    return f"a Python {type(leaf).__name__}"


def describe_stored(record: Record, dtype: Any, shape: tuple[int, ...]) -> str:
    """What a file holds in a few words."""
    return _describe_array(record.kind, dtype, shape) if record.is_array else f"a Python {record.kind}"


def _describe_array(kind: str, dtype: Any, shape: tuple[int, ...]) -> str:
    if kind == WEAK and not shape:
        return f"a Python scalar as {getattr(dtype, 'name', dtype)}"
    return f"{getattr(dtype, 'name', dtype)}[{','.join(map(str, shape))}]"


def fits(record: Record, dtype: Any, shape: tuple[int, ...], example: Any) -> bool:
    """Whether what is stored can take the place of a leaf of an example.

    The arrays of NumPy and funcgrad stand for each other, and so do Python scalars and the weak arrays that they become
    on their way through a transform. Shapes, dtypes and types must be the same.
    """
    if not record.is_array:
        if isinstance(example, (Array, AbstractArray)) and example.weak_type and not example.shape:
            return dtypes.DEFAULT_OF_SCALAR.get(type(record.value)) == example.dtype
        return type(record.value) is type(example)
    if record.kind == WEAK and type(example) in _SCALARS and not shape:
        return dtypes.DEFAULT_OF_SCALAR[type(example)] == dtype
    if isinstance(example, (Array, AbstractArray, numpy.ndarray, numpy.generic)):
        return dtype == example.dtype.newbyteorder("=") and shape == example.shape
    return False


def put_in_place(record: Record, array: numpy.ndarray | None, example: Any) -> Any:
    """What is stored, as the kind of leaf that the example is."""
    if array is None:
        return as_array(record.value) if isinstance(example, (Array, AbstractArray)) else record.value
    if type(example) in _SCALARS:
        return array.item()
    if isinstance(example, numpy.ndarray):
        return array
    if isinstance(example, numpy.generic):
        return array[()]
    return to_array(array, getattr(example, "device", CPU), example.weak_type)


def to_array(array: numpy.ndarray, device: Device = CPU, weak: bool = False) -> Array:
    """An array of a file as one of funcgrad."""
    return wrap(move(array, device), weak)


def to_numpy(name: str, value: Any) -> numpy.ndarray:
    """A value of a flat dict as an array for a file."""
    return _array_of(f"'{name}'", value if isinstance(value, (numpy.ndarray, numpy.generic)) else as_array(value))[1]
