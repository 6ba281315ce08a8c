"""How each reduction collects: with which operation, in which dtype, and beginning with what."""

from __future__ import annotations

from typing import Any

import numpy

from funcgrad.compiler.loops import computing_dtype
from funcgrad.core import Primitive
from funcgrad.primitives import reductions
from funcgrad.primitives.shapes import reduce_sum
from funcgrad.program import Equation

REDUCTIONS: dict[Primitive, str] = {
    reduce_sum: "add",
    reductions.reduce_prod: "mul",
    reductions.reduce_max: "max",
    reductions.reduce_min: "min",
    reductions.reduce_and: "and",
    reductions.reduce_or: "or",
    reductions.reduce_xor: "xor",
}
"""The operation that each of these primitives collects with."""


def is_reduction(equation: Equation) -> bool:
    """Whether an equation reduces more than one element to one."""
    if equation.primitive not in REDUCTIONS:
        return False
    shape = equation.operands[0].shape
    return any(shape[axis] != 1 for axis in equation.params["axes"])


def reduced_axes(equation: Equation) -> tuple[int, ...]:
    """The axes of the operand that a reduction takes away."""
    return equation.params["axes"]


def collecting_dtype(equation: Equation) -> numpy.dtype:
    """The dtype in which a reduction collects; short floats would soon stop growing in their own."""
    return computing_dtype(equation.operands[0].dtype)


def neutral(operation: str, dtype: numpy.dtype) -> Any:
    """The number that changes nothing."""
    if operation == "mul":
        return 1
    if operation == "and":
        return True if dtype.kind == "b" else -1 if dtype.kind == "i" else numpy.iinfo(dtype).max
    if operation in ("max", "min"):
        lowest = operation == "max"
        if dtype.kind == "f":
            return -numpy.inf if lowest else numpy.inf
        if dtype.kind == "b":
            return not lowest
        limits = numpy.iinfo(dtype)
        return limits.min if lowest else limits.max
    return 0
