"""How each reduction collects: with which operation, in which dtype, and beginning with what.

A reduction is a loop. One of a few elements, such as the coordinates of a point, is not: it is written out, as an
expression of its elements, and joins the loops of others like any function of single elements.
"""

from __future__ import annotations

import math
from typing import Any

import numpy

from funcgrad.compiler.expressions import computing_dtype
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


SHORT = 4
"""Of so many elements, no loop is made."""


def is_reduction(equation: Equation) -> bool:
    """Whether an equation reduces many elements to one, by a loop; they are real numbers."""
    if equation.primitive not in REDUCTIONS or equation.operands[0].dtype.kind == "c":
        return False
    return not 0 < reduced_count(equation) <= SHORT


def reduced_count(equation: Equation) -> int:
    """How many elements a reduction reduces to one."""
    shape = equation.operands[0].shape
    return math.prod(shape[axis] for axis in equation.params["axes"])


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
