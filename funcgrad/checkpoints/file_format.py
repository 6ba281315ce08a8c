"""The file format: safetensors, in which every byte is under a checksum.

A safetensors file is the length of its header (8 bytes, little-endian), the header, and the arrays one after another.
The header is JSON: for each name a dtype, a shape and the range of its bytes, and under `__metadata__` texts by name.
Reading one runs no code, whatever it holds. Files written here carry further entries in `__metadata__`, which other
readers of the format ignore:

    funcgrad.checksum      SHA-256 of the length and the header, computed with zeros in the place of this checksum
    funcgrad.checksums     JSON: the SHA-256 of the bytes of each array
    funcgrad.version       the version of all that is described here and in `leaves`
    funcgrad.complex128    JSON: names of complex128 arrays, which are stored as pairs of float64

Source: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

import numpy

from funcgrad import dtypes
from funcgrad.checkpoints.atomic import write_atomically
from funcgrad.errors import ArgumentError, CheckpointError, DamagedCheckpointError, MissingCheckpointError

VERSION = 1
PREFIX = "funcgrad."
_LONGEST_HEADER = 100_000_000  # the limit of the format
_NO_CHECKSUM = "0" * 64
_DTYPES = {
    "BOOL": dtypes.bool_,
    "U8": dtypes.uint8,
    "I8": dtypes.int8,
    "U16": dtypes.uint16,
    "I16": dtypes.int16,
    "F16": dtypes.float16,
    "BF16": dtypes.bfloat16,
    "U32": dtypes.uint32,
    "I32": dtypes.int32,
    "F32": dtypes.float32,
    "C64": dtypes.complex64,
    "F64": dtypes.float64,
    "I64": dtypes.int64,
    "U64": dtypes.uint64,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


class Entry(NamedTuple):
    """An array in a file: what it is, and where its bytes are. The dtype is a text if funcgrad does not have it."""

    dtype: numpy.dtype | str
    shape: tuple[int, ...]
    start: int
    end: int
    checksum: str | None


class Header(NamedTuple):
    """All that is known of a file before its arrays are read."""

    entries: dict[str, Entry]
    metadata: dict[str, str]

    @property
    def is_ours(self) -> bool:
        return any(key.startswith(PREFIX) for key in self.metadata)


# Writing


def write_file(path: Path, arrays: Mapping[str, numpy.ndarray], metadata: Mapping[str, str]) -> None:
    """Writes arrays and texts atomically.

    Raises:
        CheckpointError: the file cannot be written, for example because the disk is full; an old one is still there.
    """
    if "__metadata__" in arrays:
        raise ArgumentError("an array cannot be named __metadata__ in a safetensors file; choose another name.")
    stored: dict[str, Any] = {
        name: numpy.ascontiguousarray(array).reshape(array.shape) for name, array in arrays.items()
    }
    complex128 = sorted(name for name, array in stored.items() if array.dtype == dtypes.complex128)
    for name in complex128:
        stored[name] = stored[name].reshape(*stored[name].shape, 1).view(numpy.float64)
    # Wide dtypes come first, so that every array is aligned in the file.
    stored = dict(sorted(stored.items(), key=lambda item: (-item[1].itemsize, item[0])))
    contents = {name: array.reshape(-1).view(numpy.uint8).data for name, array in stored.items()}
    texts = {
        **metadata,
        PREFIX + "version": str(VERSION),
        PREFIX + "checksums": json.dumps({name: _checksum(content) for name, content in contents.items()}),
    }
    if complex128:
        texts[PREFIX + "complex128"] = json.dumps(complex128)
    header = _encode_header(stored, texts)
    try:
        write_atomically(path, [header, *(content for content in contents.values() if content.nbytes)])
    except OSError as error:
        kept = "; the one that is there is whole" if path.exists() else ""
        raise CheckpointError(
            f"the checkpoint {path} could not be written: {error.strerror or error}{kept}; make room or choose a "
            "folder that can be written to, and save again."
        ) from error


def _encode_header(arrays: Mapping[str, numpy.ndarray], metadata: Mapping[str, str]) -> bytes:
    fields: dict[str, Any] = {"__metadata__": {PREFIX + "checksum": _NO_CHECKSUM, **metadata}}
    end = 0
    for name, array in arrays.items():
        start, end = end, end + array.nbytes
        fields[name] = {"dtype": _NAMES[array.dtype], "shape": list(array.shape), "data_offsets": [start, end]}
    text = json.dumps(fields, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > _LONGEST_HEADER:
        raise CheckpointError(
            f"the checkpoint has {len(arrays)} arrays, whose names and paths take more than the {_LONGEST_HEADER} "
            "bytes that the format allows; save parts of the tree in files of their own, or stack small arrays."
        )
    header = len(text).to_bytes(8, "little") + text
    # It is the first entry, and the quotes of all other texts are escaped: nothing else is replaced.
    return header.replace(_NO_CHECKSUM.encode(), _checksum(header).encode(), 1)


def _checksum(data: bytes | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()


# Reading


def read_header(path: Path) -> Header:
    """The header of a file, checked.

    Raises:
        MissingCheckpointError: there is no such file.
        DamagedCheckpointError: it is not a safetensors file, or not what was written.
        CheckpointError: it cannot be read, or comes from a later version of funcgrad.
    """
    with _open(path) as file:
        return _read_header(file, path)[0]


def read_file(
    path: Path, choose: Callable[[Header], Iterable[str]] = lambda header: header.entries
) -> tuple[Header, dict[str, numpy.ndarray]]:
    """The header and the arrays of a file, or those arrays whose names are chosen; all that is given is checked.

    Raises:
        as `read_header`, and:
        ArgumentError: there is no array of a chosen name.
    """
    with _open(path) as file:
        header, start = _read_header(file, path)
        names = choose(header)
        try:
            return header, {name: _read_array(file, start, name, header, path) for name in names}
        except OSError as error:
            raise CheckpointError(f"{path} could not be read: {error.strerror or error}.") from error


def _open(path: Path) -> BufferedReader:
    try:
        return open(path, "rb")
    except FileNotFoundError:
        raise MissingCheckpointError(f"there is no checkpoint at {path}; check the path.") from None
    except OSError as error:
        raise CheckpointError(f"{path} could not be opened: {error.strerror or error}.") from error


def damaged(path: Path, reason: str) -> DamagedCheckpointError:
    """The error for a file that is not what was written."""
    return DamagedCheckpointError(
        f"{path} is damaged, or no safetensors file: {reason}; nothing was restored from it, use an earlier checkpoint."
    )


def _read_header(file: BufferedReader, path: Path) -> tuple[Header, int]:
    size = os.fstat(file.fileno()).st_size
    first = file.read(8)
    length = int.from_bytes(first, "little")
    if len(first) < 8 or length > min(size - 8, _LONGEST_HEADER):
        raise damaged(path, f"its {size} bytes end before its header does")
    text = file.read(length)
    try:
        fields = json.loads(text, object_pairs_hook=_without_duplicates)
        metadata = fields.pop("__metadata__", {})
        if not all(type(value) is str for value in metadata.values()):
            raise ValueError("metadata that is no text")
        header = Header({}, metadata)
        if header.is_ours:
            _check_header(first + text, metadata, path)
        sums = json.loads(metadata.get(PREFIX + "checksums", "{}"))
        complex128 = set(json.loads(metadata.get(PREFIX + "complex128", "[]")))
        entries = {name: _entry(value, sums.get(name), name in complex128) for name, value in fields.items()}
    except DamagedCheckpointError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise damaged(path, f"its header is wrong ({error})") from None
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].end)):
        if entry.start != end:
            raise damaged(path, f"the array '{name}' does not begin where the array before it ends")
        end = entry.end
    if 8 + length + end != size:
        raise damaged(path, f"it has {size} bytes, and its header speaks of {8 + length + end}")
    return Header(entries, metadata), 8 + length


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name that is there twice")
    return fields


def _check_header(header: bytes, metadata: dict[str, str], path: Path) -> None:
    checksum = metadata.get(PREFIX + "checksum", "")
    plain = header.replace(checksum.encode(), _NO_CHECKSUM.encode(), 1) if len(checksum) == 64 else header
    if _checksum(plain) != checksum:
        raise damaged(path, "its header does not have the checksum that was written with it")
    version = int(metadata[PREFIX + "version"])
    if version > VERSION:
        raise CheckpointError(
            f"{path} has version {version} of the format, and this funcgrad reads versions up to {VERSION}; "
            "install a later funcgrad."
        )


def _entry(fields: dict[str, Any], checksum: str | None, is_complex128: bool) -> Entry:
    shape, (start, end) = tuple(fields["shape"]), fields["data_offsets"]
    if not all(type(n) is int and 0 <= n < 2**63 for n in (*shape, start, end)):
        raise ValueError("a size that is no size")
    dtype: numpy.dtype | str = _DTYPES.get(fields["dtype"], fields["dtype"])
    if isinstance(dtype, numpy.dtype) and math.prod(shape) * dtype.itemsize != end - start:
        raise ValueError(f"{dtype.name}{list(shape)} in {end - start} bytes")
    if is_complex128:
        dtype, shape = dtypes.complex128, shape[:-1]
    return Entry(dtype, shape, start, end, checksum)


def _read_array(file: BufferedReader, start: int, name: str, header: Header, path: Path) -> numpy.ndarray:
    entry = header.entries.get(name)
    if entry is None:
        shown = ", ".join(sorted(header.entries)[:10]) or "no arrays"
        raise ArgumentError(f"{path} has no array named {name!r}; it has {shown}.")
    if isinstance(entry.dtype, str):
        raise CheckpointError(f"the array '{name}' of {path} is of the dtype {entry.dtype}, which funcgrad lacks.")
    array = numpy.empty(entry.shape, entry.dtype)
    content = array.reshape(-1).view(numpy.uint8).data
    file.seek(start + entry.start)
    if file.readinto(content) != content.nbytes:
        raise damaged(path, f"it ends within the array '{name}'")
    if header.is_ours and _checksum(content) != entry.checksum:
        raise damaged(path, f"the array '{name}' does not have the checksum that was written with it")
    if entry.dtype == dtypes.bool_ and array.size and array.view(numpy.uint8).max() > 1:
        raise damaged(path, f"the array '{name}' of truth values holds other bytes than 0 and 1")
    return array
