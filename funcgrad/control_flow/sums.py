"""Sums over the steps of a loop that need not be added up in it.

In the transpose of a loop, the cotangent of a constant is the sum of what each step gives. For a matrix of weights that
is a product in each step:

    for t: total += x[t].T @ y[t]

To add up large matrices costs as much as to multiply small ones. But the sum of the products is one product, of all
the x and y beside each other, and so the loop only has to keep these.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from funcgrad.array import Array
from funcgrad.primitives.contraction import dot_general
from funcgrad.primitives.shapes import reduce_sum, reshape, transpose
from funcgrad.program import Equation, Program, Variable


@dataclass(frozen=True)
class LaterSum:
    """The sum over all steps of `equation`, and what is done to it after.

    Attributes:
        equation: a product, or a sum of the elements of an array.
        after: equations of transposes and reshapes, each of the result of the one before.
    """

    equation: Equation
    after: tuple[Equation, ...]

    def __call__(self, *operands: Array) -> Array:
        """The sum, from the operands of all steps, stacked along a new first axis."""
        params = self.equation.params
        if self.equation.primitive is dot_general:
            contract, batch = (
                tuple(tuple(axis + 1 for axis in axes) for axes in pair) for pair in params["dimension_numbers"]
            )
            numbers = (tuple((0, *axes) for axes in contract), batch)
            result = dot_general(*operands, **{**params, "dimension_numbers": numbers})
        else:
            result = reduce_sum(*operands, axes=(0, *(axis + 1 for axis in params["axes"])))
        for equation in self.after:
            result = equation.primitive(result, **equation.params)
        return result


def later_sums(
    program: Program, terms: Sequence[Any], stacked: Sequence[Variable], constant: Sequence[Variable]
) -> tuple[list[LaterSum | None], list[Variable]]:
    """Which sums of outputs of a step are computed after the loop.

    Arguments:
        program: one step.
        terms: the outputs that are summed up over the steps; None where there is none.
        stacked: variables whose values of all steps are there after the loop anyway.
        constant: inputs that are the same in each step.

    Returns:
        For each of the terms its sum, or None if it has to be added up in the loop; and the variables that have to be
        stacked for that, besides. They take no more memory than the inputs of the loop do, or the sums.
    """
    definition = {x: equation for equation in program.equations for x in equation.results}
    kept, fixed = set(stacked), set(constant)
    room = sum(math.prod(x.shape) for x in stacked)
    found: list[LaterSum | None] = [None] * len(terms)
    more: list[Variable] = []
    for primitive in (dot_general, reduce_sum):  # sums of what products need come for nothing
        for place, term in enumerate(terms):
            equation, after = _behind_movements(term, definition.get)
            if equation is None or equation.primitive is not primitive:
                continue
            operands = equation.operands
            if not all(type(x) is Variable and x not in fixed for x in operands):
                continue
            new = [x for x in dict.fromkeys(operands) if x not in kept]
            size = sum(math.prod(x.shape) for x in new)
            if primitive is reduce_sum and new or size > max(room, math.prod(term.shape)):
                continue
            found[place] = LaterSum(equation, after)
            more += new
            kept.update(new)
            room -= min(size, room)
    return found, more


def _behind_movements(
    x: Any, definition: Callable[[Any], Equation | None]
) -> tuple[Equation | None, tuple[Equation, ...]]:
    """The equation that computes what `x` is made of by moving elements, and these movements in order."""
    after: list[Equation] = []
    equation = definition(x) if type(x) is Variable else None
    while equation is not None and equation.primitive in (transpose, reshape):
        after.insert(0, equation)
        equation = definition(equation.operands[0]) if type(equation.operands[0]) is Variable else None
    return equation, tuple(after)
