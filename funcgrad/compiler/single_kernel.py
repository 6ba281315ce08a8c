"""One operation on elements as a kernel, for arrays of any length.

It is the kernel that a compiled Program has for the same operation, with two differences. It does not know how long the
arrays are, and each operand is an array or a single number, which stands for an array of equal ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy

from funcgrad import dtypes
from funcgrad.array import ConcreteArray
from funcgrad.compiler.complex_numbers import Complex, Value
from funcgrad.compiler.expressions import UNKNOWN_EXTENT, Axis, Buffer, constant, forget_expressions
from funcgrad.compiler.indices import Index, axis_index, constant_index, load
from funcgrad.compiler.llvm import kernel_text
from funcgrad.compiler.locks import COMPILING
from funcgrad.compiler.loops import Kernel, Loop, Store, expressions_in
from funcgrad.compiler.lower_complex import lower
from funcgrad.compiler.module import Module
from funcgrad.compiler.schedule import ELEMENTS_A_CHUNK
from funcgrad.compiler.target import host_target
from funcgrad.program import Program, Variable

LITTLE_WORK, LEAST_CHUNK = 4, 1 << 12

ENTRY = """define void @entry(ptr %context, i64 %low, i64 %high) #0 {
  call void @kernel(ptr %context, i64 %low, i64 %high)
  ret void
}"""
CHUNK = """define i64 @chunk() #0 {{
  ret i64 {}
}}"""


def single_kernel(program: Program, numbers: Sequence[bool]) -> Kernel:
    """The kernel of an operation.

    Arguments:
        program: the operation on single elements, as `single.single_program` gives it.
        numbers: which of the operands are single numbers.

    Returns:
        A kernel whose arguments are the operands, in their order, and the result.
    """
    axis = Axis(UNKNOWN_EXTENT, "i")
    place = axis_index(axis)
    buffers = [_buffer(x.dtype, f"x{number}") for number, x in enumerate(program.inputs)]
    values: dict[Variable, Value] = {}
    for x, buffer, is_number in zip(program.inputs, buffers, numbers, strict=True):
        values[x] = _element(buffer, x.dtype, constant_index(0) if is_number else place)
    for equation in program.equations:
        operands = [values[x] if type(x) is Variable else _constant(x) for x in equation.operands]
        values[equation.results[0]] = lower(equation.primitive, operands, equation.params)
    (output,) = program.outputs
    target, value = _buffer(output.dtype, "y"), values[output]
    if isinstance(value, Complex):
        stores = [Store(target, place * 2, value.real), Store(target, place * 2 + 1, value.imaginary)]
    else:
        stores = [Store(target, place, value)]
    return Kernel([*buffers, target], [target], [Loop(axis, [*stores], "parallel vector")], program.name)


def _buffer(dtype: numpy.dtype, name: str) -> Buffer:
    """A buffer of any length; a complex number is two numbers, one after the other."""
    return Buffer(2 * UNKNOWN_EXTENT, dtypes.real_of(dtype), name)


def _element(buffer: Buffer, dtype: numpy.dtype, place: Index) -> Value:
    if dtype.kind == "c":
        return Complex(load(buffer, place * 2), load(buffer, place * 2 + 1))
    return load(buffer, place)


def _constant(x: ConcreteArray) -> Value:
    number = x._data[()]
    if x.dtype.kind == "c":
        part = dtypes.real_of(x.dtype)
        return Complex(constant(number.real, part), constant(number.imag, part))
    return constant(number, x.dtype)


def single_ir(program: Program, numbers: Sequence[bool]) -> str:
    """The code of `single_kernel`.

    `void entry(ptr context, i64 low, i64 high)` computes; `context` points to the addresses of the operands and of the
    result. `i64 chunk()` says how many elements are worth another thread.
    """
    with COMPILING:
        kernel = single_kernel(program, numbers)
        work = sum(1 for _ in expressions_in(kernel.body))
        chunk = max(LEAST_CHUNK, ELEMENTS_A_CHUNK * LITTLE_WORK // max(work, LITTLE_WORK))
        module = Module(host_target())
        module.functions += [kernel_text(module, kernel, "kernel"), ENTRY, CHUNK.format(-(-chunk // 128) * 128)]
        forget_expressions()
        return module.text()
