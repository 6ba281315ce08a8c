"""From a Program to something that runs.

`compile_program` is the seam between transforms and execution: it takes a Program without free tracers and gives a
function from buffers to buffers. The compiler here is the reference: it runs one primitive after the other, and so
defines what any other compiler has to compute.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from funcgrad.array import ConcreteArray
from funcgrad.program import Program

Executable = Callable[..., Sequence[Any]]


def compile_program(program: Program) -> Executable:
    """A function from the buffers of the inputs to the buffers of the outputs; made once for a Program."""
    return program.derived("executable", lambda: reference(program))


def reference(program: Program) -> Executable:
    """Run the equations one after the other, each by its `evaluate` rule."""

    def execute(*buffers: Any) -> list[Any]:
        return [x._data for x in program(*map(ConcreteArray, buffers))]  # type: ignore[attr-defined]

    return execute
