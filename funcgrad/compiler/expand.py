"""Equations that are computed by way of other ones.

Sums, products and convolutions are computed by loops and by a generator that know just the usual cases. The others are
made of these: the sum of complex numbers is a sum of real parts and one of imaginary parts, which are in one loop once
they are fused; a complex convolution is four real ones; where there is nothing to add up, the result is zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

from funcgrad import dtypes
from funcgrad.array import constant
from funcgrad.compiler.reductions import reduced_count
from funcgrad.core import Primitive
from funcgrad.primitives import elementwise as ew
from funcgrad.primitives.contraction import dot_general
from funcgrad.primitives.convolution import conv_general_dilated
from funcgrad.primitives.shapes import broadcast_in_dim, reduce_sum
from funcgrad.program import Equation, Program, Variable

Apply = Callable[..., Variable]  # one more equation: a primitive, its operands and its params; gives the result
Rule = Callable[[Apply, Equation], Variable]


def _zeros(apply: Apply, equation: Equation) -> Variable:
    (result,) = equation.results
    return apply(broadcast_in_dim, constant(0, result.dtype), shape=result.shape, axes=())


def _complex_sum(apply: Apply, equation: Equation) -> Variable:
    (z,) = equation.operands
    return apply(ew.complex_, *(apply(reduce_sum, apply(part, z), **equation.params) for part in (ew.real, ew.imag)))


def _complex_convolution(apply: Apply, equation: Equation) -> Variable:
    (a, b), (c, d) = ([apply(part, z) for part in (ew.real, ew.imag)] for z in equation.operands)
    params = equation.params | {"preferred_element_type": dtypes.real_of(equation.results[0].dtype)}

    def convolved(x: Variable, kernel: Variable) -> Variable:
        return apply(conv_general_dilated, x, kernel, **params)

    real, imaginary = (ew.sub, convolved(a, c), convolved(b, d)), (ew.add, convolved(a, d), convolved(b, c))
    return apply(ew.complex_, apply(*real), apply(*imaginary))


def _convolution_in(dtype: numpy.dtype) -> Rule:
    """The same with operands of another dtype, and the result converted back."""

    def rule(apply: Apply, equation: Equation) -> Variable:
        operands = [apply(ew.convert, x, dtype=dtype) for x in equation.operands]
        result = apply(conv_general_dilated, *operands, **(equation.params | {"preferred_element_type": None}))
        return apply(ew.convert, result, dtype=equation.results[0].dtype)

    return rule


def _rule(equation: Equation) -> Rule | None:
    if equation.primitive not in (reduce_sum, dot_general, conv_general_dilated):
        return None
    x, result = equation.operands[0], equation.results[0]
    if equation.primitive is reduce_sum:
        return _complex_sum if x.dtype.kind == "c" and reduced_count(equation) != 1 else None
    if any(0 in y.shape for y in (*equation.operands, result)):
        return _zeros
    if equation.primitive is dot_general:
        return None
    short = x.dtype is dtypes.float16 or x.dtype is dtypes.bfloat16
    computed = dtypes.float32 if short else dtypes.int32 if dtypes.is_bool(result.dtype) else result.dtype
    if computed is not x.dtype and not (short and result.dtype in (x.dtype, computed)):
        return _convolution_in(computed)
    return _complex_convolution if x.dtype.kind == "c" else None


def expanded(equation: Equation) -> list[Equation]:
    """The equations that an equation is computed by; just itself, if there is no need for others."""
    rule = _rule(equation)
    if rule is None:
        return [equation]
    equations: list[Equation] = []

    def apply(primitive: Primitive, *operands: Any, **params: Any) -> Variable:
        found = Equation(primitive, operands, params, [Variable(primitive.abstract(*operands, **params))])
        equations.append(found)
        return found.results[0]

    rule(apply, equation)
    equations[-1].results = equation.results
    return [part for found in equations for part in expanded(found)]


def expanded_program(program: Program) -> Program:
    """The same Program with `expanded` for each of its equations."""
    equations = [part for equation in program.equations for part in expanded(equation)]
    if equations == list(program.equations):
        return program
    return Program(program.inputs, equations, program.outputs, program.name)
