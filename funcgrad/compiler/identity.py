"""What a Program is, as bytes: the same for Programs that compute the same in the same way, also in another process.

With it, a Program that was compiled before is found without compiling anything of it again. Names of variables, lines
of the user, and rules for derivatives do not matter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

from funcgrad import dtypes
from funcgrad.compiler.cache import sha256
from funcgrad.compiler.execute import called_program
from funcgrad.errors import SourceLine
from funcgrad.program import Equation, Program, Variable

LARGEST_CONSTANTS = 1 << 20  # bytes; to read more takes longer than it saves


class _NoIdentityError(Exception):
    """The Program holds something that is known only by its address."""


def identity(program: Program) -> bytes | None:
    """A hash of a Program; None if it holds what means something in this process only, such as a Python function.

    Only Programs of the library's own primitives have one.
    """
    try:
        text = _Writer().program(program)
    except _NoIdentityError:
        return None
    return sha256(text.encode()).digest()


class _Writer:
    def __init__(self):
        self.constant_bytes = 0
        self.constants: dict[int, str] = {}  # those that occurred
        self.described: dict[int, str] = {}  # Programs that occur in several places

    def program(self, program: Program) -> str:
        numbers: dict[Any, str] = {x: f"{n}" for n, x in enumerate(program.inputs)}
        lines = [",".join([_aval(x) for x in program.inputs])]
        for equation in program.equations:
            operands = ",".join([numbers[x] if type(x) is Variable else self.constant(x) for x in equation.operands])
            lines.append(self.operation(equation) + operands)
            for x in equation.results:
                numbers[x] = f"{len(numbers)}"
        lines.append(",".join([numbers[x] if type(x) is Variable else self.constant(x) for x in program.outputs]))
        return "\n".join(lines)

    def operation(self, equation: Equation) -> str:
        primitive, params = equation.primitive, equation.params
        called = called_program(equation)
        if called is not None:  # its rules for derivatives, if it has such, are done with
            return f"call {self.nested(called)} {params.get('compiler')} "
        if not primitive.module.startswith("funcgrad."):
            raise _NoIdentityError
        described = [f"{name}={self.value(x)}" for name, x in params.items()] if params else ""
        return f"{primitive.name} {' '.join(described)} "

    def nested(self, program: Program) -> str:
        found = self.described.get(id(program))
        if found is None:
            found = self.described[id(program)] = f"{{{self.program(program)}}}"
        return found

    def value(self, x: Any) -> str:
        describe = _DESCRIBED.get(type(x))
        if describe is not None:
            return describe(x)
        if isinstance(x, tuple):
            return f"{type(x).__name__}({','.join([self.value(y) for y in x])})"
        if isinstance(x, Program):
            return self.nested(x)
        if isinstance(x, numpy.dtype):
            return x.name
        raise _NoIdentityError

    def constant(self, x: Any) -> str:
        buffer = x._data
        if type(buffer) is not numpy.ndarray:
            raise _NoIdentityError
        described = self.constants.get(id(buffer))
        if described is None:
            self.constant_bytes += buffer.nbytes
            if self.constant_bytes > LARGEST_CONSTANTS:
                raise _NoIdentityError
            contents = buffer.tobytes()
            described = contents.hex() if len(contents) <= 64 else sha256(contents).hexdigest()
            self.constants[id(buffer)] = described
        return f"{_aval(x)}{described}"


_DESCRIBED: dict[type, Callable[[Any], str]] = {
    **dict.fromkeys((bool, int, float, complex, str, type(None)), repr),
    SourceLine: lambda line: "",  # where an equation stands in the user's code
}


def _aval(x: Any) -> str:
    return f"{dtypes.canonical(x.dtype).name}{x.shape}{'w' if x.weak_type else ''}"
