"""NumPy's own files as datasets that stay on disk."""

from __future__ import annotations

import os
import zipfile
from typing import Any

import numpy

from funcgrad.data.datasets import ArrayDataset
from funcgrad.errors import DataError

Path = str | os.PathLike


def read_numpy(path: Path, *, memory_map: bool = True) -> ArrayDataset:
    """A `.npy` file as a dataset of its array, or a `.npz` file as one of the dict of its arrays.

    The arrays are memory-mapped: examples are read from the disk when they are asked for, so that the file may be
    larger than the memory, and worker processes share what is read. Members of a `.npz` file are mapped if they were
    stored without compression (`numpy.savez`); compressed ones (`numpy.savez_compressed`) have to be read into memory.

    Arguments:
        path: of the file. NumPy's format of pickled objects is refused, since loading it runs code.
        memory_map: whether to map; otherwise the file is read into memory.

    Raises:
        DataError: if it is no such file, or holds objects.
        ShapeError: if the arrays have first axes of different lengths.

    Example:
        >>> import numpy
        >>> import funcgrad as fg
        >>> numpy.savez("data.npz", x=numpy.ones((3, 2)), y=numpy.arange(3))
        >>> fg.data.read_numpy("data.npz")
        ArrayDataset({x: float64[3,2], y: int64[3]})
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
                if not members:
                    raise DataError(f"{path} holds no arrays; check that numpy.savez wrote it.")
                arrays: Any = {
                    info.filename.removesuffix(".npy"): _member(path, archive, info, memory_map) for info in members
                }
        else:
            arrays = numpy.load(path, mmap_mode="r" if memory_map else None, allow_pickle=False)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is not a .npy or .npz file of numbers ({error}).") from error
    return ArrayDataset(arrays)


def _member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, memory_map: bool) -> numpy.ndarray:
    with archive.open(info) as member:
        if memory_map and info.compress_type == zipfile.ZIP_STORED:
            version = numpy.lib.format.read_magic(member)
            readers = {(1, 0): numpy.lib.format.read_array_header_1_0, (2, 0): numpy.lib.format.read_array_header_2_0}
            if version in readers:
                shape, fortran, dtype = readers[version](member)
                if not dtype.hasobject and 0 not in shape and shape:
                    offset = _start(path, info) + member.tell()
                    return numpy.memmap(path, dtype, "r", offset, shape, "F" if fortran else "C")
    with archive.open(info) as member:
        return numpy.lib.format.read_array(member, allow_pickle=False)


def _start(path: Path, info: zipfile.ZipInfo) -> int:
    """Where in the archive the bytes of a member begin: after its local header, which ends with its name and more.

    Source: PKWARE, "APPNOTE.TXT - .ZIP File Format Specification", section 4.3.7.
    """
    with open(path, "rb") as file:
        file.seek(info.header_offset)
        header = file.read(30)
    return info.header_offset + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
