"""What every script and every test run pays before its first line: a fresh process that imports the library."""

from __future__ import annotations

from benchmarks.row import ProcessRow

row = ProcessRow(
    name="import_time",
    title="a fresh process that imports the library and ends (the interpreter's own start included)",
    unit="ms",
    statements={library: f"import {library}" for library in ("funcgrad", "numpy", "jax", "torch", "autograd")},
    required={"numpy": 1 / 2},
)
