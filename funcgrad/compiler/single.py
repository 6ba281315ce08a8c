"""One elementwise primitive as native code: what eager operations run.

What is kept in the cache is found here without loading what makes it, `single_kernel`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy

from funcgrad.compiler.lower_complex import supports
from funcgrad.compiler.machine import Loaded, code_key, host_target, kept
from funcgrad.core import Primitive


def has_kernel(primitive: Primitive, operands: Sequence[numpy.dtype]) -> bool:
    """Whether there is native code for operands of these dtypes."""
    return supports(primitive, operands, {})


def loaded_single(
    primitive: Primitive, operands: Sequence[numpy.dtype], result: numpy.dtype, numbers: Sequence[bool]
) -> Loaded:
    """The functions of `single_kernel.single_ir` in memory.

    Arguments:
        primitive: an elementwise primitive without params, for which `has_kernel` holds.
        operands: the dtypes of the operands.
        result: the dtype of the result.
        numbers: which of the operands are single numbers.
    """

    def ir() -> str:
        from funcgrad.compiler.single_kernel import single_ir

        return single_ir(primitive, operands, result, numbers)

    target = host_target()
    name = f"{primitive.name} {[str(x) for x in operands]} {result} {[bool(x) for x in numbers]}"
    return kept(code_key(name, target), ir, ["entry", "chunk"], target)
