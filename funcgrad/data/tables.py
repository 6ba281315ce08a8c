"""Tables: CSV and Parquet files, as datasets of their columns."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy

from funcgrad import dtypes
from funcgrad.data.datasets import ArrayDataset
from funcgrad.data.packages import needed
from funcgrad.errors import ArgumentError, DataError

Path = str | os.PathLike


def read_csv(
    path: Path,
    *,
    columns: Sequence[str] | None = None,
    header: bool | Sequence[str] = True,
    delimiter: str = ",",
    dtype: Any = dtypes.float32,
    encoding: str = "utf-8",
) -> ArrayDataset:
    """A CSV file as a dataset whose examples are dicts of the columns.

    A column of integers becomes int32, or int64 where that is too narrow; a column of other numbers has the floating
    `dtype`, and so has one with empty fields, which become NaN. Any other column holds texts: it becomes int32, the
    position of the text among the distinct texts of the column in sorted order, which are in
    `dataset.metadata["categories"]`. The file is read into memory.

    Arguments:
        path: of the file.
        columns: which columns; by default all.
        header: whether the first line names the columns; or their names, for a file that does not name them. Without
            names they are "0", "1" and so on.
        delimiter: stands between the fields.
        dtype: a floating dtype.
        encoding: of the file.

    Raises:
        DataError: if the file has no lines, a line has too many or too few fields, or a name appears twice.
        ArgumentError: for a column that is not there, or a dtype that is not floating.

    Example:
        >>> from pathlib import Path
        >>> import funcgrad as fg
        >>> _ = Path("flowers.csv").write_text("length,kind\\n5.1,rose\\n4.9,aster\\n")
        >>> flowers = fg.data.read_csv("flowers.csv")
        >>> flowers.arrays["kind"], flowers.metadata["categories"]
        (array([1, 0], dtype=int32), {'kind': ('aster', 'rose')})
    """
    dtype = dtypes.canonical(dtype)
    if not dtypes.is_floating(dtype):
        raise ArgumentError(f"read_csv needs a floating dtype for its numbers, not {dtype.name}; use fg.float32.")
    with open(path, newline="", encoding=encoding) as file:
        lines = csv.reader(file, delimiter=delimiter)
        try:
            rows = [(lines.line_num, row) for row in lines if row]
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(f"{path} is not a CSV file in {encoding} ({error}).") from error
    names = list(header) if not isinstance(header, bool) else None
    if header is True and rows:
        names = [name.strip() for name in rows.pop(0)[1]]
    if not rows:
        raise DataError(f"{path} holds no rows; check that it is the right file.")
    names = [str(i) for i in range(len(rows[0][1]))] if names is None else names
    if len(set(names)) != len(names):
        raise DataError(f"{path} has two columns of one name; give other names with header=[...].")
    for line, row in rows:
        if len(row) != len(names):
            raise DataError(f"line {line} of {path} has {len(row)} fields, and there are {len(names)} columns.")
    categories: dict[str, tuple[str, ...]] = {}
    arrays = {}
    for name in _chosen(path, columns, names):
        position = names.index(name)
        arrays[name] = _column([row[position].strip() for _, row in rows], dtype, name, categories)
    return ArrayDataset(arrays, {"categories": categories})


def read_parquet(path: Path, *, columns: Sequence[str] | None = None) -> ArrayDataset:
    """A Parquet file as a dataset whose examples are dicts of the columns; pyarrow reads it, into memory.

    Columns of numbers and truth values keep their dtype; missing numbers become NaN, in a float64 column where they
    were integers. Texts become int32 as in `read_csv`. Lists of numbers that have one length become an array with one
    axis more.

    Arguments:
        path: of the file.
        columns: which columns; by default all.

    Raises:
        MissingPackageError: if pyarrow is not installed.
        DataError: if it is no Parquet file, has no rows, or a column holds what cannot become an array.
        ArgumentError: for a column that is not there.
    """
    parquet = needed("pyarrow.parquet", "pyarrow", "reading Parquet files")
    arrow = needed("pyarrow", "pyarrow", "reading Parquet files")
    try:
        with parquet.ParquetFile(os.fspath(path)) as file:
            chosen = _chosen(path, columns, file.schema_arrow.names)
            table = file.read(columns=chosen)
    except (arrow.ArrowInvalid, arrow.ArrowTypeError) as error:
        raise DataError(f"{path} is not a Parquet file that can be read ({error}).") from error
    if not table.num_rows:
        raise DataError(f"{path} holds no rows; check that it is the right file.")
    categories: dict[str, tuple[str, ...]] = {}
    arrays = {}
    for name in chosen:
        kind = table[name].type
        if arrow.types.is_dictionary(kind):
            kind = kind.value_type
        if arrow.types.is_string(kind) or arrow.types.is_large_string(kind):
            texts = ["" if text is None else text for text in table[name].to_pylist()]
            arrays[name] = _encoded(texts, name, categories)
            continue
        values = table[name].to_numpy()
        if values.dtype == object and values.size and isinstance(values[0], numpy.ndarray):
            if len({None if value is None else value.shape for value in values}) > 1:
                raise DataError(
                    f"the column {name!r} of {path} holds lists of different lengths; choose other columns."
                )
            values = numpy.stack(list(values))
        if values.dtype.kind not in "biufc":
            raise DataError(
                f"the column {name!r} of {path} has the type {kind}, which does not become an array of numbers; choose "
                "other columns, or convert it before."
            )
        arrays[name] = values
    return ArrayDataset(arrays, {"categories": categories})


def _chosen(path: Path, columns: Sequence[str] | None, names: Sequence[str]) -> list[str]:
    for name in columns or ():
        if name not in names:
            raise ArgumentError(f"{path} has no column {name!r}; choose from {', '.join(names)}.")
    return list(names if columns is None else columns)


def _column(texts: list[str], dtype: numpy.dtype, name: str, categories: dict) -> numpy.ndarray:
    try:
        integers = numpy.array([int(text) for text in texts], numpy.int64)
        narrow = not integers.size or numpy.abs(integers).max() < 2**31
        return integers.astype(numpy.int32) if narrow else integers
    except (ValueError, OverflowError):
        pass
    try:
        return numpy.array([float(text) if text else numpy.nan for text in texts]).astype(dtype)
    except ValueError:
        return _encoded(texts, name, categories)


def _encoded(texts: Iterable[str], name: str, categories: dict[str, tuple[str, ...]]) -> numpy.ndarray:
    texts = list(texts)
    categories[name] = tuple(sorted(set(texts)))
    codes = {text: code for code, text in enumerate(categories[name])}
    return numpy.array([codes[text] for text in texts], numpy.int32)
