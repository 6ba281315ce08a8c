"""From a Program to something that runs.

`compile_program` is the seam between transforms and execution: it takes a Program without free tracers and gives a
function from buffers to buffers. What there is to choose from stands in `COMPILERS`. "default" makes native code.
"reference" runs the Program as it was written down, one primitive after the other, and so defines what any other has to
compute.

To read about native code from its beginning to its end:

    identity.py, whole.py                a Program that was compiled before is found on disk
    simplify.py                          the Program in fewer equations
    native.py, one_segment.py            the parts of it that become native code
    fuse.py, elements.py                 which equations are computed together, and what one element of each is
    expressions.py, indices.py, loops.py what loops do, as data
    kernels.py                           the loops of what is computed together
    schedule.py, memory.py               the steps in order, and where the values between them live
    in_place.py                          which values may be in one place of memory
    llvm.py, entry.py, contraction/      all of that in LLVM's language
    machine.py, image.py, cache.py       machine code, by LLVM (llvm_library.py) for a CPU (target.py)
    bridge/, pool.py                     how Python calls it, and how threads share it
    stages.py, cost.py                   to look at it

And for operations outside of `jit`:

    counter.py, eager.py                 when they become native, and which they are
    single.py                            one primitive as a kernel
"""

from __future__ import annotations

from collections.abc import Callable

from funcgrad.compiler.counter import counter
from funcgrad.compiler.execute import PROGRAM_OF_CALL, Executable, executor
from funcgrad.compiler.simplify import simplified, simplify
from funcgrad.compiler.structures import IDENTITIES, STRUCTURES, Choice, Condition, Repetition
from funcgrad.config import config
from funcgrad.program import Program


def _native(program: Program) -> Executable:
    # Whoever never compiles need not wait for any of it, and whoever compiled the Program before needs little.
    from funcgrad.compiler.whole import Shelf, WholeProgram

    shelf = Shelf(program)
    found = shelf.recipe()
    if found is not None:
        return WholeProgram(*found, lambda: _on_the_host(program))
    if not shelf.is_several:
        from funcgrad.compiler.machine import load_llvm_meanwhile

        load_llvm_meanwhile()
    from funcgrad.compiler.one_segment import only_segment

    lowered = _with_native_segments(program)
    one = only_segment(lowered)
    if one is None:
        shelf.put(None)
        return executor(lowered)
    segment, recipe = one
    whole = WholeProgram(recipe, segment.code(), lambda: _on_the_host(program))
    shelf.put(recipe)
    return whole


def _on_the_host(program: Program) -> Executable:
    program = simplified(program)
    return program.derived("executor", lambda: executor(program))


def _with_native_segments(program: Program) -> Program:
    from funcgrad.compiler.native import with_native_segments

    return with_native_segments(simplified(program))


COMPILERS: dict[str, Callable[[Program], Executable]] = {
    "default": _native,
    "reference": lambda program: executor(program, "reference"),
}


def compile_program(program: Program, compiler: str = "default") -> Executable:
    """A function from the buffers of the inputs to the buffers of the outputs; made once for a Program.

    "default" leaves the choice to `fg.config.compiler`.
    """
    if compiler == "default":
        compiler = config.compiler
    return program.derived(("executable", compiler, config.vector_bits), lambda: _compiled(program, compiler))


def _compiled(program: Program, compiler: str) -> Executable:
    if config.dump_folder is not None:
        from funcgrad.compiler.stages import dump

        dump(program, config.dump_folder)
    return COMPILERS[compiler](program)


__all__ = [
    "COMPILERS",
    "PROGRAM_OF_CALL",
    "Executable",
    "compile_program",
    "counter",
    "simplified",
    "simplify",
]
