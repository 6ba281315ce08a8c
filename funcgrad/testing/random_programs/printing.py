"""A random Program as Python code that makes it again."""

from __future__ import annotations

from typing import Any

import numpy

from funcgrad import dtypes
from funcgrad.array import AbstractArray
from funcgrad.program import Equation, Program, Variable
from funcgrad.testing.random_programs.generating import Case

HEAD = """\
import numpy
from numpy import array, inf, nan
import funcgrad as fg
from funcgrad import dtypes
from funcgrad.array import AbstractArray, wrap
from funcgrad.primitives.convolution import ConvDimensionNumbers
from funcgrad.program import Equation, Program, Variable
from funcgrad.testing.random_programs import Case, check_agreement, primitive_named
from funcgrad.testing.random_programs.nesting import HostCall, no_derivative

def variable(dtype, *shape):
    return Variable(AbstractArray(shape, dtypes.canonical(dtype)))

def constant(values, dtype):
    return wrap(numpy.array(values, dtypes.canonical(dtype)))

def equation(results, primitive, operands, /, **params):
    return Equation(primitive_named(primitive), operands, params, results)
"""


class _Writer:
    def __init__(self):
        self.lines: list[str] = []
        self.names: dict[Any, str] = {}

    def name(self, variable: Variable) -> str:
        if variable not in self.names:
            name = self.names[variable] = f"x{len(self.names)}"
            shape = "".join(f", {n}" for n in variable.shape)
            self.lines.append(f'{name} = variable("{variable.dtype.name}"{shape})')
        return self.names[variable]

    def atom(self, x: Any) -> str:
        if type(x) is Variable:
            return self.name(x)
        return f'constant({values_of(x._data)}, "{x.dtype.name}")'

    def atoms(self, atoms: Any) -> str:
        return f"[{', '.join(map(self.atom, atoms))}]"

    def param(self, value: Any) -> str:
        if isinstance(value, Program):
            return self.program(value)
        if isinstance(value, numpy.dtype):
            return f'dtypes.canonical("{value.name}")'
        if isinstance(value, AbstractArray):
            return f'AbstractArray({value.shape}, dtypes.canonical("{value.dtype.name}"))'
        if type(value) is tuple:
            return f"({''.join(self.param(x) + ', ' for x in value)})"
        if callable(value):
            name = getattr(value, "__name__", "")
            effects = "None" if getattr(value, "effects", None) is None else "effects"
            return name if name == "no_derivative" else f"HostCall({name!r}, {effects})"
        return repr(value)

    def equation(self, e: Equation) -> str:
        params = "".join(f", {name}={self.param(value)}" for name, value in e.params.items())
        return f'equation({self.atoms(e.results)}, "{e.primitive.name}", {self.atoms(e.operands)}{params})'

    def program(self, program: Program) -> str:
        inputs = self.atoms(program.inputs)
        equations = [self.equation(e) for e in program.equations]
        name = f"program{sum(line.startswith('program') for line in self.lines)}"
        body = "".join(f"\n    {e}," for e in equations)
        self.lines.append(f"{name} = Program({inputs}, [{body}\n], {self.atoms(program.outputs)}, {program.name!r})")
        return name


def values_of(buffer: numpy.ndarray) -> str:
    """A buffer as a Python expression of its values."""
    number = buffer.reshape(-1)[:1]
    if buffer.size > 1 and (buffer.reshape(-1).view(f"V{buffer.itemsize}") == number.view(f"V{buffer.itemsize}")).all():
        return f"numpy.full({buffer.shape}, {literal(number[0].item())})"
    if not buffer.size:
        return f"numpy.zeros({buffer.shape})"
    return literal(buffer.tolist())


def literal(value: Any) -> str:
    """A number or nested lists of numbers as Python reads them; the sign of a zero and infinite parts survive."""
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    return f"complex({value.real}, {value.imag})" if isinstance(value, complex) else repr(value)


def as_source(case: Case, compiler: str = "default", reference: str = "reference") -> str:
    """Python code that makes the case again and checks it."""
    writer = _Writer()
    program = writer.program(case.program)
    buffers = []
    for x in case.buffers:
        made = f"constant({values_of(x)}, {dtypes.canonical(x.dtype).name!r})._data"
        if not x.flags.c_contiguous:
            made += f"  # its strides were {x.strides}"
        buffers.append(f"\n    {made}," if "#" not in made else f"\n    {made.replace('  #', ',  #')}")
    return "\n".join(
        [
            HEAD,
            "effects = []",
            *writer.lines,
            f"case = Case({program}, [{''.join(buffers)}\n], effects)",
            f'check_agreement(case, "{compiler}", "{reference}")',
        ]
    )
