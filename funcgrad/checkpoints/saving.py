"""Saving pytrees and restoring them: `save`, `restore`, `read_info`, and flat dicts of arrays."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy

from funcgrad import tree
from funcgrad.array import AbstractArray, Array
from funcgrad.checkpoints import leaves
from funcgrad.checkpoints.file_format import PREFIX, Header, damaged, read_file, read_header, write_file
from funcgrad.checkpoints.leaves import Record
from funcgrad.errors import ArgumentError, ArgumentTypeError, CheckpointError, CheckpointMismatchError

PyTree = Any
StrPath = str | os.PathLike[str]
_SHOWN = 8  # how many wrong leaves an error lists


class CheckpointInfo(NamedTuple):
    """What a checkpoint says of itself.

    Attributes:
        step: the number that was given to `save`, or None.
        metadata: the dict that was given to `save`; empty if none was.
        leaves: for the path of each leaf, as `fg.tree.keystr` writes it, what it is: `float32[3,2]`, `a Python int`.
    """

    step: int | None
    metadata: dict[str, Any]
    leaves: dict[str, str]


def save(path: StrPath, tree: PyTree, *, step: int | None = None, metadata: Mapping[str, Any] | None = None) -> Path:
    """Saves a pytree to one file: modules, optimizer states, keys, counters, and whatever else training goes on from.

    The file is in the safetensors format, so that other programs can read its arrays. It is written atomically: whoever
    looks finds the old file or the new one, whole, also if the process is killed or the disk is full.

    Arguments:
        path: where to; an older file there is replaced. By convention it ends with `.safetensors`.
        tree: a pytree of arrays of funcgrad or NumPy, Python scalars, texts and bytes, with None as an empty tree.
        step: a number to store with it, such as the count of training steps.
        metadata: more to store with it: a dict that JSON can hold, such as metrics and settings.

    Returns:
        The path.

    Raises:
        ArgumentTypeError: a leaf, or something in `metadata`, is nothing that a checkpoint can hold.
        CheckpointError: the file cannot be written; an older one is unchanged.

    Example:
        >>> import funcgrad as fg
        >>> state = {"w": fg.array([1.0, 2.0]), "epoch": 3, "name": "small"}
        >>> path = fg.checkpoints.save("state.safetensors", state, step=100, metadata={"loss": 0.25})
        >>> fg.checkpoints.restore(path, state)
        {'w': Array([1., 2.], dtype=float32), 'epoch': 3, 'name': 'small'}
    """
    return prepare(path, tree, step, metadata)()


def prepare(
    path: StrPath, value: PyTree, step: int | None, metadata: Mapping[str, Any] | None, *, copy: bool = False
) -> Callable[[], Path]:
    """Everything of `save` that needs the caller's values as they are now; the function given back writes the file."""
    records, arrays = leaves.take_apart(value, copy=copy)
    target = Path(path)
    texts = {
        PREFIX + "leaves": leaves.encode_records(records),
        PREFIX + "info": json.dumps({"step": step, "metadata": dict(metadata or {})}, default=_to_json),
    }

    def write() -> Path:
        write_file(target, arrays, texts)
        return target

    return write


def _to_json(value: Any) -> Any:
    """Numbers of NumPy and funcgrad, and arrays of them, as JSON."""
    if isinstance(value, (Array, numpy.ndarray, numpy.generic)):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise ArgumentTypeError(
        f"the metadata of a checkpoint hold a {type(value).__name__}, which JSON does not know; use dicts with text "
        "keys, lists, texts, numbers and None there."
    )


def restore(
    path: StrPath,
    like: PyTree,
    *,
    at: str = "",
    only: Callable[[str], bool] | None = None,
    strict: bool = True,
) -> PyTree:
    """Restores a pytree that was saved with `save`, as an example of it is made.

    Leaves are matched by their paths. Those of the example say only what kind, shape and dtype is expected; they may be
    `ShapeDtypeStruct`s, so `fg.eval_shape(make_state)` is an example that takes no memory. The restored arrays are on
    the devices of the example's.

    Arguments:
        path: the file.
        like: a pytree with the structure, shapes and dtypes of what was saved.
        at: where in the saved tree the part to restore stands, as `fg.tree.keystr` writes it: `"['network']"`.
        only: called with the path of a leaf of the example; where it gives False, the example's leaf stays as it is,
            and it does not matter what was saved there.
        strict: whether it is an error if a leaf is only in the example, which otherwise stays as it is, or only in the
            file, which otherwise does not matter. Shapes and dtypes have to agree in any case.

    Returns:
        A pytree like the example, with the saved values.

    Raises:
        CheckpointMismatchError: leaves are missing, left over, or of another shape, dtype or type; all are named.
        MissingCheckpointError: there is no such file.
        DamagedCheckpointError: the file is not what was written; nothing is ever restored from such a file.
        CheckpointError: it was not written by `save`, or by a later version of funcgrad.

    Example:
        >>> import funcgrad as fg
        >>> key = fg.random.key(0)
        >>> model = fg.nn.Linear(2, 3, key=key)
        >>> _ = fg.checkpoints.save("run.safetensors", {"model": model, "step": 7})
        >>> example = fg.eval_shape(lambda: fg.nn.Linear(2, 3, key=key))
        >>> restored = fg.checkpoints.restore("run.safetensors", example, at="['model']")
        >>> bool((restored.weight == model.weight).all())
        True
    """
    file = Path(path)
    items, structure = leaves.paths_and_leaves(like)
    chosen: dict[str, Record] = {}

    def choose(header: Header) -> Iterable[str]:
        stored = _records_at(at, _records(header, file), file)
        chosen.update(_match(header, stored, items, file, only, strict))
        return [record.value for record in chosen.values() if record.is_array]

    arrays = read_file(file, choose)[1]
    result = []
    for text, _, example in items:
        record = chosen.get(text)
        if record is not None:
            example = leaves.put_in_place(record, arrays[record.value] if record.is_array else None, example)
        result.append(example)
    return tree.unflatten(structure, result)


def _match(
    header: Header,
    stored: dict[str, Record],
    items: list[tuple[str, tree.Path, Any]],
    file: Path,
    only: Callable[[str], bool] | None,
    strict: bool,
) -> dict[str, Record]:
    """The record for each leaf of the example that is to be restored."""
    chosen: dict[str, Record] = {}
    missing, different = [], []
    for text, _, example in items:
        if only is not None and not only(text):
            continue
        record = stored.get(text)
        if record is not None:
            dtype, shape = _dtype_and_shape(record, header)
            chosen[text] = record
            if not leaves.fits(record, dtype, shape, example):
                saved, expected = leaves.describe_stored(record, dtype, shape), leaves.describe_example(example)
                different.append(f"{_place(text)} is {saved} in the file and {expected} in the example")
        elif strict or isinstance(example, AbstractArray):
            missing.append(f"{_place(text)} ({leaves.describe_example(example)})")
    texts = {text for text, _, _ in items}
    extra = [_place(text) for text in stored if text not in texts] if strict and only is None else []
    if missing or extra or different:
        parts = [
            "only in the example: " + _shorten(missing, ", ") if missing else "",
            "only in the file: " + _shorten(extra, ", ") if extra else "",
            _shorten(different, "; "),
        ]
        raise CheckpointMismatchError(
            f"{file} does not fit the example; {'; '.join(part for part in parts if part)}. Make the example as the "
            "saved tree was made, or restore a part with at=, only= or strict=False."
        )
    return chosen


def _shorten(items: list[str], separator: str) -> str:
    more = f"{separator}and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return separator.join(items[:_SHOWN]) + more


def _place(path: str) -> str:
    return path or "the whole tree"


def _records(header: Header, file: Path) -> list[Record]:
    if PREFIX + "leaves" not in header.metadata:
        raise CheckpointError(
            f"{file} holds arrays by name and no pytree; read them with fg.checkpoints.load_arrays(path)."
        )
    try:
        records = leaves.decode_records(header.metadata[PREFIX + "leaves"])
        for record in records:
            _dtype_and_shape(record, header)
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(file, f"its list of leaves is wrong ({error})") from None
    return records


def _dtype_and_shape(record: Record, header: Header) -> tuple[Any, tuple[int, ...]]:
    return header.entries[record.value][:2] if record.is_array else (None, ())


def _records_at(at: str, records: list[Record], file: Path) -> dict[str, Record]:
    """The records below a path, by the rest of their paths."""
    found = {
        record.path[len(at) :]: record
        for record in records
        if record.path.startswith(at) and (len(record.path) == len(at) or not at or record.path[len(at)] in ".[")
    }
    if at and not found:
        shown = _shorten([record.path for record in records], ", ")
        raise ArgumentError(f"{file} has nothing at {at!r}; its leaves are {shown}.")
    return found


def read_info(path: StrPath) -> CheckpointInfo:
    """What a checkpoint says of itself, without reading its arrays.

    Arguments:
        path: a file that `save` wrote.

    Returns:
        A `CheckpointInfo`: step, metadata, and a description of each leaf.

    Raises:
        MissingCheckpointError: there is no such file.
        DamagedCheckpointError: the header of the file is not what was written.
        CheckpointError: it was not written by `save`, or by a later version of funcgrad.

    Example:
        >>> import funcgrad as fg
        >>> path = fg.checkpoints.save("state.safetensors", {"w": fg.array([1.0]), "epoch": 3}, step=100)
        >>> fg.checkpoints.read_info(path)
        CheckpointInfo(step=100, metadata={}, leaves={"['epoch']": 'a Python int', "['w']": 'float32[1]'})
    """
    file = Path(path)
    header = read_header(file)
    found = {r.path: leaves.describe_stored(r, *_dtype_and_shape(r, header)) for r in _records(header, file)}
    info = json.loads(header.metadata[PREFIX + "info"])
    return CheckpointInfo(info["step"], info["metadata"], found)


def save_arrays(path: StrPath, arrays: Mapping[str, Any], *, metadata: Mapping[str, str] | None = None) -> Path:
    """Writes a flat dict of arrays as a safetensors file: for PyTorch, and for other programs that read the format.

    Arguments:
        path: where to; an older file there is replaced, atomically.
        arrays: arrays by name. complex128 is not in the format: other programs find pairs of float64.
        metadata: texts by name. Some programs look for `{"format": "pt"}`.

    Returns:
        The path.

    Raises:
        ArgumentError: a name is not a text, or a name in `metadata` begins with `funcgrad.`.
        ArgumentTypeError: a value is no array.
        CheckpointError: the file cannot be written; an older one is unchanged.

    Example:
        >>> import funcgrad as fg
        >>> path = fg.checkpoints.save_arrays("weights.safetensors", {"layer.weight": fg.numpy.ones((2, 3))})
        >>> fg.checkpoints.load_arrays(path)["layer.weight"].shape
        (2, 3)
    """
    texts = dict(metadata or {})
    for name in (*arrays, *texts, *texts.values()):
        if not isinstance(name, str):
            raise ArgumentError(f"names and metadata of a safetensors file are texts, and {name!r} is none; use str().")
        if name in texts and name.startswith(PREFIX):
            raise ArgumentError(f"names in metadata that begin with {PREFIX} are taken; rename {name!r}.")
    target = Path(path)
    write_file(target, {name: leaves.to_numpy(name, value) for name, value in arrays.items()}, texts)
    return target


def load_arrays(path: StrPath, names: Iterable[str] | None = None) -> dict[str, Array]:
    """Reads the arrays of a safetensors file by their names: one of `save`, of `save_arrays`, or of another program.

    The checksums of files that funcgrad wrote are verified. In a file of `save`, the names are the paths of the leaves
    with dots in between, such as `model.layers.0.weight`; leaves that are no arrays are not among them.

    Arguments:
        path: the file.
        names: which arrays to read; by default all.

    Returns:
        A dict of arrays by name.

    Raises:
        ArgumentError: there is no array of a name in `names`.
        MissingCheckpointError: there is no such file.
        DamagedCheckpointError: it is not a safetensors file, or not what was written.
        CheckpointError: an array has a dtype that funcgrad lacks, or the file cannot be read.

    Example:
        >>> import funcgrad as fg
        >>> model = fg.nn.MLP(2, 1, width=8, depth=1, key=fg.random.key(0))
        >>> path = fg.checkpoints.save("model.safetensors", {"model": model})
        >>> sorted(fg.checkpoints.load_arrays(path))[:2]
        ['model.layers.0.bias', 'model.layers.0.weight']
    """
    chosen = None if names is None else list(names)
    arrays = read_file(Path(path), lambda header: header.entries if chosen is None else chosen)[1]
    return {name: leaves.to_array(array) for name, array in arrays.items()}
