"""Which Programs are one native function from beginning to end, and the recipes to run them by."""

from __future__ import annotations

from collections.abc import Sequence

from funcgrad.compiler.in_place import in_place_pairs
from funcgrad.compiler.native import Segment, native
from funcgrad.compiler.whole import Recipe
from funcgrad.primitives.shapes import reshape
from funcgrad.program import Program, Variable


def only_segment(program: Program) -> tuple[Segment, Recipe] | None:
    """The segment and the recipe of a Program with native segments; None if there is more to do than one segment does.

    Besides the segment, there may be inputs that are given back, and results that get another shape.
    """
    segments = [x for x in program.equations if x.primitive is native]
    if len(segments) != 1:
        return None
    (equation,) = segments
    inputs, outputs = list(program.inputs), list(equation.results)
    places = {x: place for place, x in enumerate([*inputs, *outputs])}
    shapes = {x: x.shape for x in outputs}
    given = [*map(id, program.outputs)]
    for other in program.equations:
        if other is equation:
            continue
        if other.primitive is not reshape:
            return None
        (x,), (result,) = other.operands, other.results
        # Memory has one shape: what is reshaped must not be asked for in its own shape as well.
        if type(x) is not Variable or x not in shapes or id(x) in given or shapes[x] is not x.shape:
            return None
        shapes[x] = result.shape
        places[result] = places[x]
    if not all(type(x) is Variable and x in places for x in (*equation.operands, *program.outputs)):
        return None
    if not all(x in inputs for x in equation.operands):
        return None
    segment: Segment = equation.params["segment"]
    taken = [places[x] for x in equation.operands]
    recipe = segment.recipe(inputs, taken, [*shapes.values()], [places[x] for x in program.outputs])
    return segment, recipe._replace(in_place=tuple(_in_place(segment, taken).items()))


def _in_place(segment: Segment, taken: Sequence[int]) -> dict[int, tuple[int, ...]]:
    """The inputs of the Program in whose memory the outputs of a segment may be, which takes these."""
    named = {x.name: x for x in segment.schedule.outside}
    inputs = {named[f"in{n}"]: place for n, place in enumerate(taken) if f"in{n}" in named}
    outputs = {named[f"out{n}"]: n for n in range(len(segment.program.outputs)) if f"out{n}" in named}
    found: dict[int, tuple[int, ...]] = {}
    for given, made in in_place_pairs(segment.schedule.uses, inputs, outputs):
        found[outputs[made]] = (*found.get(outputs[made], ()), inputs[given])
    return found
