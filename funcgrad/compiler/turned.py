"""Which transposed arrays are written down, although a transpose is but another index.

A kernel that reads an array down its columns, and something else along rows, wastes most of each line of the cache. If
it computes one element for each that it reads, it goes from square to square (`squares.py`). A reduction has its rows
to go along, or its columns, and so cannot. For it, the array is transposed before, by a kernel that can.

    c = transpose(a)
    d = mul(c, b)
    e = reduce_sum(d, axes=(1,))    # reads a down its columns and b along rows, so c is written down
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from funcgrad.compiler.elements import element_rule, movement_rule
from funcgrad.compiler.reductions import is_reduction
from funcgrad.primitives.shapes import transpose
from funcgrad.program import Equation, Program, Variable

FEWEST = 1 << 14  # elements; fewer stay in the first cache


def turned(program: Program) -> set[Variable]:
    """The results of transposes that a reduction reads along with something that lies otherwise, or more than once."""
    candidates = [x for x in program.equations if is_turned(x)]
    if not candidates:
        return set()
    definition = {x: equation for equation in program.equations for x in equation.results}
    found: set[Variable] = set()
    for equation in program.equations:
        if not is_reduction(equation):
            continue
        (x,), (result, *_) = equation.operands, equation.results
        if math.prod(x.shape) < FEWEST:
            continue
        leaves = set(leaves_of(x, definition))
        columns = {leaf for leaf in leaves if leaf in definition and is_turned(definition[leaf])}
        if not columns:
            continue
        ways = {definition[leaf].params["permutation"] if leaf in columns else None for leaf in leaves}
        if len(ways) > 1 or is_read_again(program, columns, result):
            found |= columns
    return found


def is_turned(equation: Equation) -> bool:
    """Whether an equation is a transpose of a large array after which other elements are neighbours."""
    if equation.primitive is not transpose or math.prod(equation.results[0].shape) < FEWEST:
        return False
    permutation = [axis for axis in equation.params["permutation"] if equation.operands[0].shape[axis] != 1]
    return permutation[-1] != max(permutation)


def is_elementwise(equation: Equation) -> bool:
    """Whether each element of the results is computed from the elements of the operands at the same place."""
    return element_rule(equation) is not None and movement_rule(equation) is None


def leaves_of(x: object, definition: dict[Variable, Equation]) -> Iterator[Variable]:
    """The arrays of the same size that an array is computed from, element by element."""
    seen: set[Variable] = set()
    waiting = [x]
    while waiting:
        x = waiting.pop()
        if type(x) is not Variable or x in seen:
            continue
        seen.add(x)
        equation = definition.get(x)
        if equation is None or not is_elementwise(equation):
            yield x
        else:
            waiting += [y for y in equation.operands if math.prod(y.shape) == math.prod(x.shape)]


def is_read_again(program: Program, columns: set[Variable], result: Variable) -> bool:
    """Whether something is computed from arrays, element by element, and from what they are reduced to."""
    of_columns, of_result = set(columns), {result}
    for equation in program.equations:
        operands = {x for x in equation.operands if type(x) is Variable}
        if not (is_elementwise(equation) or movement_rule(equation) is not None):
            continue
        if not operands.isdisjoint(of_columns):
            of_columns.update(equation.results)
        if not operands.isdisjoint(of_result):
            of_result.update(equation.results)
    return not of_columns.isdisjoint(of_result)
