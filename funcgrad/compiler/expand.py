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
from funcgrad.compiler.largest import is_selected
from funcgrad.compiler.reductions import reduced_count
from funcgrad.core import Primitive
from funcgrad.primitives import elementwise as ew
from funcgrad.primitives import reductions, windows
from funcgrad.primitives.contraction import dot_general
from funcgrad.primitives.convolution import conv_general_dilated
from funcgrad.primitives.counting import iota
from funcgrad.primitives.movement import rev, slice_
from funcgrad.primitives.shapes import broadcast_in_dim, reduce_sum
from funcgrad.primitives.sorting import sort, top_k
from funcgrad.program import Equation, Program, Variable

Apply = Callable[..., Any]  # one more equation: a primitive, its operands and its params; gives the result, or all
Rule = Callable[[Apply, Equation], Any]  # gives the results, of which each belongs to an equation that nothing reads


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


def _top_by_sorting(apply: Apply, equation: Equation) -> list[Variable]:
    """Backwards before and after, so that equal elements end up in the order of their places."""
    (x,), k, axis = equation.operands, equation.params["k"], equation.params["axis"]
    numbers = apply(iota, shape=x.shape, dtype=dtypes.int32, axis=axis)
    backwards = [apply(rev, array, axes=(axis,)) for array in (x, numbers)]
    starts = [x.shape[axis] - k if a == axis else 0 for a in range(x.ndim)]
    return [
        apply(rev, apply(slice_, found, starts=tuple(starts), limits=x.shape, strides=(1,) * x.ndim), axes=(axis,))
        for found in apply(sort, *backwards, axis=axis, num_keys=1)
    ]


WINDOWS = {
    windows.reduce_window_sum: reduce_sum,
    windows.reduce_window_max: reductions.reduce_max,
    windows.reduce_window_min: reductions.reduce_min,
}


def _by_pieces(apply: Apply, equation: Equation) -> Variable:
    """Windows that lie apart are axes of their own, so that their sums are fused with what is around them."""
    (x,), counts, params = equation.operands, equation.results[0].shape, equation.params
    is_sum = equation.primitive is windows.reduce_window_sum
    fill = 0 if is_sum else windows.neutral(x.dtype, equation.primitive is windows.reduce_window_max)
    pieces = windows.pieces_of(x, constant(fill, x.dtype), counts, params, apply)
    return windows.over_windows(WINDOWS[equation.primitive], pieces, counts, params, apply)


def _rule(equation: Equation) -> Rule | None:
    if equation.primitive in WINDOWS:
        x, result = equation.operands[0], equation.results[0]
        return _by_pieces if windows.lie_apart(x.shape, result.shape, **equation.params) else None
    if equation.primitive is top_k:
        return None if is_selected(equation) else _top_by_sorting
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

    def apply(primitive: Primitive, *operands: Any, **params: Any) -> Any:
        results = primitive.abstract(*operands, **params)
        results = list(map(Variable, results if primitive.multiple_results else [results]))
        equations.append(Equation(primitive, operands, params, results))
        return results if primitive.multiple_results else results[0]

    results = rule(apply, equation)
    stated = dict(zip(results if type(results) is list else [results], equation.results, strict=True))
    for found in equations:
        found.results = [stated.get(x, x) for x in found.results]
    return [part for found in equations for part in expanded(found)]


def expanded_program(program: Program) -> Program:
    """The same Program with `expanded` for each of its equations."""
    equations = [part for equation in program.equations for part in expanded(equation)]
    if equations == list(program.equations):
        return program
    return Program(program.inputs, equations, program.outputs, program.name)
