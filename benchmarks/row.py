"""What a row of the comparison is. Every interpreter that takes part imports this file, so it needs no package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy

Data = Mapping[str, "numpy.ndarray"]
"""The operands of a computation, by name, as NumPy arrays: the same for every library."""

Source = Callable[[Any], Callable[[], Any]]
"""Takes the row's data, sets up whatever need not be timed, and returns the function without arguments to be timed."""

UNITS = {"ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "s": 1.0}
"""Units in which a row may be shown, in seconds. Everything is measured and stored in seconds."""


def library_of(label: str) -> str:
    """The module that a source needs: the first word of its label (`"torch compile"` needs `torch`)."""
    return label.split()[0]


@dataclass(frozen=True, kw_only=True)
class Row:
    """What every kind of row has.

    **Arguments:**

    - `name`: how the row is asked for on the command line; the name of its file.
    - `title`: one line for the reader of the table.
    - `unit`: the unit of the table, a key of `UNITS`.
    - `required`: for some labels, the least ratio (theirs divided by funcgrad's) that funcgrad is to reach.
    """

    name: str
    title: str
    unit: str
    required: Mapping[str, float] = field(default_factory=dict)

    @property
    def labels(self) -> list[str]:
        """The labels of all libraries in the row, funcgrad's first."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class CallRow(Row):
    """Times a function that is called again and again in one long-lived process per library.

    **Arguments:**

    - `data`: makes the operands; called once in each process, so it must be deterministic.
    - `reference`: computes the right result with NumPy: an array, or tuples, lists and dicts of arrays.
    - `sources`: for each label, the function that sets the computation up and returns what is timed. It imports its
      library itself, and waits for the result where the library computes asynchronously.
    - `relative_tolerance`, `absolute_tolerance`: how far a result may be from the reference. Its structure, shapes and
      dtypes must be the reference's own: less precise arithmetic would be another computation.
    """

    data: Callable[[], Data]
    reference: Callable[[Any], Any]
    sources: Mapping[str, Source]
    relative_tolerance: float = 1e-5
    absolute_tolerance: float = 1e-6

    @property
    def labels(self) -> list[str]:
        return list(self.sources)


@dataclass(frozen=True, kw_only=True)
class ProcessRow(Row):
    """Times a fresh Python process from its start to its end.

    **Arguments:**

    - `statements`: for each label, the Python code that the process runs.
    """

    statements: Mapping[str, str]

    @property
    def labels(self) -> list[str]:
        return list(self.statements)
