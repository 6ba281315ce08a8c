"""The rows: each file of this folder holds one, under the name `row`."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from benchmarks.row import Row


def row_names() -> list[str]:
    """The names of all rows, in alphabetical order, without importing them."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load_row(name: str) -> Row:
    """Imports the row with this name.

    **Raises:** `ValueError` if the row's own name is not that of its file.
    """
    row: Row = import_module(f"{__name__}.{name}").row
    if row.name != name:
        raise ValueError(f"the row in benchmarks/rows/{name}.py calls itself {row.name!r}; a row has its file's name")
    return row
