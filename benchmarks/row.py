"""What a row of the comparison is. Every interpreter that takes part imports this file, so it needs no package."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Data = Mapping[str, Any]
"""The operands of a computation, by name: NumPy arrays, or trees of them. The same for every library."""

Source = Callable[[Any], Callable[[], Any]]
"""Takes the row's data, sets up whatever need not be timed, and returns the function without arguments to be timed.

What it returns may have a method `restart`, which brings the computation back to its beginning and is not timed: a
training step whose parameters are donated has no other way to give the same result twice.
"""

UNITS = {"ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "s": 1.0}
"""Units in which a row may be shown, in seconds. Everything is measured and stored in seconds."""


def restart(call: Callable[[], Any]) -> None:
    """Brings a computation with a state back to its beginning; for all others there is nothing to do."""
    getattr(call, "restart", lambda: None)()


BEST = "best"
"""The key of a requirement that holds against the fastest peer, whichever it is."""


def peer_of(label: str) -> str:
    """The name by which a source is chosen on the command line: the first word of its label."""
    return label.split()[0]


def library_of(label: str) -> str:
    """The module that a source needs: `"torch.compile"` needs `torch`."""
    return peer_of(label).partition(".")[0]


@dataclass(frozen=True, kw_only=True)
class Row:
    """What every kind of row has.

    **Arguments:**

    - `name`: how the row is asked for on the command line; the name of its file.
    - `title`: one line for the reader of the table.
    - `unit`: the unit of the table, a key of `UNITS`.
    - `required`: for some labels, or for `BEST`, the least ratio (theirs divided by funcgrad's) that funcgrad is to
      reach.
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

    - `data`: makes the operands, or with `small=True` some of the same kind that are small enough for a test. It is
      called once in each process, so it must be deterministic.
    - `reference`: the right result for the data: an array, or tuples, lists and dicts of arrays, computed with NumPy.
      Its leaves may also be the weaker expectations of `agreement.py`.
    - `sources`: for each label, the function that sets the computation up and returns what is timed. It imports its
      library itself, and waits for the result where the library computes asynchronously.
    - `moved_bytes`, `operations`: what the computation needs at least, to tell how fast it could be: the bytes of
      operands and results that do not fit into a cache, and the multiplications and additions of its products; 0 for
      unknown.
    - `compiled`: whether funcgrad and JAX compile the row's function, so that its first call is of interest.
    - `relative_tolerance`, `absolute_tolerance`, `scaled_tolerance`: how far a result may be from the reference: the
      first times the expected value, plus the second, plus the third times the root mean square of the expected array
      (for sums such as gradients, where rounding errors go with the terms and not with what is left of them). Its
      structure, shapes and dtypes must be the reference's own: less precise arithmetic would be another computation.
    """

    data: Callable[..., Data]
    reference: Callable[[Any], Any]
    sources: Mapping[str, Source]
    moved_bytes: float = 0
    operations: float = 0
    compiled: bool = True
    relative_tolerance: float = 1e-5
    absolute_tolerance: float = 1e-6
    scaled_tolerance: float = 0.0

    @property
    def labels(self) -> list[str]:
        return list(self.sources)


@dataclass(frozen=True, kw_only=True)
class ProcessRow(Row):
    """Times a fresh Python process from its start to its end.

    **Arguments:**

    - `statements`: for each label, the Python code that the process runs.
    - `modules`: for some labels, what the code imports besides the library.
    - `check`: says what is wrong with what a process has printed, or None.
    """

    statements: Mapping[str, str]
    modules: Mapping[str, Sequence[str]] = field(default_factory=dict)
    check: Callable[[str], str | None] = lambda printed: None

    @property
    def labels(self) -> list[str]:
        return list(self.statements)
