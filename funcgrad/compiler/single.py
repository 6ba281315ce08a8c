"""One operation on elements as native code: what eager operations run.

An operation is a primitive or, where a function is several of them, such as the remainder with the sign of the divisor,
a Program of these. What is kept in the cache is found here without loading what makes it, `single_kernel`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy

from funcgrad.array import AbstractArray
from funcgrad.compiler.identity import identity
from funcgrad.compiler.lower_complex import supports
from funcgrad.compiler.machine import Code, Loaded, Part, kept, library_key
from funcgrad.compiler.target import host_target
from funcgrad.core import Primitive
from funcgrad.errors import FuncgradError
from funcgrad.primitives.operators import Composed
from funcgrad.program import Program, Variable, stage


def single_program(operation: Primitive | Composed, operands: Sequence[numpy.dtype | AbstractArray]) -> Program | None:
    """The operation on single elements of these dtypes, as a Program; None if there is no native code for it."""
    function = operation.function if isinstance(operation, Composed) else operation
    try:
        avals = [x if isinstance(x, AbstractArray) else AbstractArray((), x) for x in operands]
        program = stage(lambda *x: [function(*x)], avals, str(operation))
    except FuncgradError:
        return None  # it does not take such dtypes
    (output,) = program.outputs
    elementwise = bool(program.equations) and all(
        not equation.primitive.multiple_results
        and supports(equation.primitive, [x.dtype for x in equation.operands], equation.params)
        for equation in program.equations
    )
    return program if elementwise and type(output) is Variable and not output.shape else None


def loaded_single(program: Program, numbers: Sequence[bool]) -> Loaded:
    """The functions of `single_kernel.single_ir` in memory.

    Arguments:
        program: what `single_program` gave.
        numbers: which of the operands are single numbers.
    """

    def parts() -> list[Part]:
        from funcgrad.compiler.single_kernel import single_ir

        return [Part(single_ir(program, numbers), host_target())]

    known = identity(program)
    assert known is not None, program
    return kept(Code(library_key(f"{known.hex()} {[*map(bool, numbers)]}"), parts, ["entry", "chunk"]))
