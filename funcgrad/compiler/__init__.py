"""From a Program to something that runs.

`compile_program` is the seam between transforms and execution: it takes a Program without free tracers and gives a
function from buffers to buffers. What there is to choose from stands in `COMPILERS`. "reference" runs the Program as it
was written down, one primitive after the other, and so defines what any other compiler has to compute.
"""

from __future__ import annotations

from collections.abc import Callable

from funcgrad.compiler.execute import PROGRAM_OF_CALL, Executable, executor
from funcgrad.compiler.simplify import simplified, simplify
from funcgrad.compiler.structures import IDENTITIES, STRUCTURES, Choice, Condition, Repetition
from funcgrad.config import config
from funcgrad.program import Program


def _native(program: Program) -> Executable:
    # Whoever never compiles need not wait for LLVM.
    from funcgrad.compiler.native import with_native_segments
    from funcgrad.compiler.whole import as_whole

    lowered = with_native_segments(simplified(program))
    return as_whole(lowered) or executor(lowered)


COMPILERS: dict[str, Callable[[Program], Executable]] = {
    "default": _native,
    "reference": lambda program: executor(program, "reference"),
}


def compile_program(program: Program, compiler: str = "default") -> Executable:
    """A function from the buffers of the inputs to the buffers of the outputs; made once for a Program."""
    return program.derived(("executable", compiler, config.vector_bits), lambda: _compiled(program, compiler))


def _compiled(program: Program, compiler: str) -> Executable:
    if config.dump_folder is not None and compiler == "default":
        from funcgrad.compiler.stages import dump

        dump(program, config.dump_folder)
    return COMPILERS[compiler](program)


__all__ = ["COMPILERS", "PROGRAM_OF_CALL", "Executable", "compile_program", "simplified", "simplify"]
