"""Loggers that write files for other programs: JSON lines and CSV."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from funcgrad.checkpoints.atomic import write_atomically
from funcgrad.errors import LogError
from funcgrad.train.loop import plain

StrPath = str | os.PathLike[str]


class _FileLogger:
    """A text file that lines are added to. It is opened when it is needed, so that it can be used again once closed."""

    def __init__(self, path: StrPath):
        self.path = Path(path)
        self._file: IO[str] | None = None

    def close(self) -> None:
        """Closes the file; another `log` opens it again."""
        file, self._file = self._file, None
        if file is not None:
            with refusing(self.path):
                file.close()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self):
        if self._file is not None:
            self._file.close()

    def _open(self) -> IO[str]:
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.exists() and not self._read_text().endswith("\n"):
                self._keep(lambda line: line.endswith("\n"))  # the writer was killed within a line
            self._file = self.path.open("a", encoding="utf-8", newline="")
        return self._file

    def _write(self, text: str) -> None:
        with refusing(self.path):
            file = self._open()
            try:
                file.write(text)
                file.flush()
            except OSError:
                self._file = None
                with contextlib.suppress(OSError):
                    file.close()
                raise

    def _read_text(self) -> str:
        with self.path.open(encoding="utf-8", newline="") as file:
            return file.read()

    def _keep(self, is_wanted: Callable[[str], bool]) -> None:
        """Leaves out lines of the file."""
        lines = [line for line in io.StringIO(self._read_text()) if is_wanted(line)]
        write_atomically(self.path, ["".join(lines).encode()])


@contextlib.contextmanager
def refusing(path: Path) -> Iterator[None]:
    """Says in an error of its own that a log cannot be written."""
    try:
        yield
    except OSError as error:
        raise LogError(
            f"the log {path} cannot be written: {error.strerror or error}; make room, or log into another folder."
        ) from error


class JSONLinesLogger(_FileLogger):
    """Adds a line of JSON to a file for each call: a dict with `step` first. NaN and infinities become null.

    A run that goes on from a checkpoint first removes the lines of later steps.

    Arguments:
        path: the file; it is made, with its folder, if it is not there, and added to if it is.

    Raises:
        LogError: from `log`, if the file cannot be written.

    Example:
        >>> import funcgrad as fg
        >>> log = fg.train.JSONLinesLogger("log.jsonl")
        >>> log.log({"loss": 0.5}, step=1)
        >>> log.close()
        >>> print(log.path.read_text().strip())
        {"step": 1, "loss": 0.5}
    """

    def log(self, values: Mapping[str, Any], step: int) -> None:
        """Writes numbers, texts and arrays; pytrees, such as gradients, are left out."""
        row = {"step": step, **{name: _json(value) for name, value in _rows(values).items()}}
        self._write(json.dumps(row, ensure_ascii=False) + "\n")

    def resume(self, step: int) -> None:
        """Removes what was logged after a step."""
        self.close()
        if self.path.exists():
            with refusing(self.path):
                self._keep(lambda line: line.endswith("\n") and self._step_of(line) <= step)

    def _step_of(self, line: str) -> int:
        try:
            return int(json.loads(line)["step"])
        except (ValueError, TypeError, KeyError):
            raise LogError(f"the file {self.path} is no log of JSON lines with a step; choose another one.") from None


class CSVLogger(_FileLogger):
    """Adds a row to a CSV file for each call; its columns are `step` and the names of the values.

    A name that comes later becomes one more column, and the rows before it are empty there. A run that goes on from a
    checkpoint first removes the rows of later steps.

    Arguments:
        path: the file; it is made, with its folder, if it is not there, and added to if it is.

    Raises:
        LogError: from `log`, if the file cannot be written, or is no such file.

    Example:
        >>> import funcgrad as fg
        >>> with fg.train.CSVLogger("log.csv") as log:
        ...     log.log({"loss": 0.5}, step=1)
        ...     log.log({"loss": 0.25, "accuracy": 1.0}, step=2)
        >>> print(log.path.read_text().strip())
        step,loss,accuracy
        1,0.5,
        2,0.25,1.0
    """

    def __init__(self, path: StrPath):
        super().__init__(path)
        self._columns: list[str] | None = None

    def log(self, values: Mapping[str, Any], step: int) -> None:
        """Writes numbers, texts and arrays; pytrees are left out."""
        row = {"step": step, **{name: _listed(value) for name, value in _rows(values).items()}}
        if self._columns is None or any(name not in self._columns for name in row):
            with refusing(self.path):
                self._add_columns(row)
        self._write(_csv_text([[row.get(name, "") for name in self._columns or ()]]))

    def resume(self, step: int) -> None:
        """Removes what was logged after a step."""
        self.close()
        if self.path.exists():
            with refusing(self.path):
                columns, rows, _ = self._read()
                self._rewrite(columns, [row for row in rows if int(row[0]) <= step])

    def _add_columns(self, row: Mapping[str, Any]) -> None:
        self.close()
        columns, rows, is_whole = self._read() if self.path.exists() else ([], [], True)
        self._columns = list(dict.fromkeys([*columns, *row]))
        if self._columns != columns or not is_whole:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._rewrite(self._columns, [r + [""] * (len(self._columns) - len(r)) for r in rows])

    def _rewrite(self, columns: list[str], rows: list[list[str]]) -> None:
        write_atomically(self.path, [_csv_text([columns, *rows]).encode()])

    def _read(self) -> tuple[list[str], list[list[str]], bool]:
        """The columns, the rows, and whether the last row is whole; one is not if its writer was killed."""
        text = self._read_text()
        is_whole = text.endswith("\n") and text.count('"') % 2 == 0
        rows = list(csv.reader(io.StringIO(text, newline="")))
        rows = rows if is_whole else rows[:-1]
        if rows and rows[0][:1] != ["step"]:
            raise LogError(f"the file {self.path} is no log, since its first column is not 'step'; choose another one.")
        return (rows[0], [row for row in rows[1:] if row], is_whole) if rows else ([], [], is_whole)


def _csv_text(rows: list[list[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _rows(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that a row can hold: metrics as their results, and no pytrees."""
    results = {name: plain(value) for name, value in values.items()}
    return {name: value for name, value in results.items() if _is_leaf(value)}


def _listed(value: Any) -> Any:
    """An array as nested lists."""
    return value.tolist() if hasattr(value, "tolist") else value


def _json(value: Any) -> Any:
    value = _listed(value)
    if isinstance(value, list):
        return [_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _is_leaf(value: Any) -> bool:
    return hasattr(value, "dtype") or isinstance(value, (bool, int, float, str))
