"""Programs that are one native function from beginning to end, so that nothing of them has to run in Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from funcgrad.compiler.execute import executor
from funcgrad.compiler.in_place import in_place_pairs
from funcgrad.compiler.native import Segment, native
from funcgrad.primitives.shapes import reshape
from funcgrad.program import Program, Variable


class WholeProgram:
    """Runs a Program that is one native function.

    Arguments:
        native: the function. It gives NotImplemented for buffers that it cannot read as they lie in memory.
        program: the Program, for such buffers.
        in_place: for outputs of native code, by their number, the numbers of the inputs of the Program in whose memory
            it may write them.
    """

    __slots__ = ("_program", "in_place", "native")

    def __init__(self, native: Callable[..., Any], program: Program, in_place: dict[int, list[int]]):
        self.native, self._program, self.in_place = native, program, in_place

    def __call__(self, *buffers: Any) -> Sequence[Any]:
        results = self.native(*buffers)
        if results is NotImplemented:
            return self._program.derived("executor", lambda: executor(self._program))(*buffers)
        return results


def as_whole(program: Program) -> WholeProgram | None:
    """A Program with native segments as one native function; None if there is more to do than one segment does.

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
    function = segment.function(
        inputs, [places[x] for x in equation.operands], [*shapes.values()], [places[x] for x in program.outputs]
    )
    return WholeProgram(function, program, _in_place(segment, [places[x] for x in equation.operands]))


def _in_place(segment: Segment, taken: Sequence[int]) -> dict[int, list[int]]:
    """The inputs of the Program in whose memory the outputs of a segment may be, which takes these."""
    named = {x.name: x for x in segment.schedule.outside}
    inputs = {named[f"in{n}"]: place for n, place in enumerate(taken) if f"in{n}" in named}
    outputs = {named[f"out{n}"]: n for n in range(len(segment.program.outputs)) if f"out{n}" in named}
    found: dict[int, list[int]] = {}
    for given, made in in_place_pairs(segment.schedule, inputs, outputs):
        found.setdefault(outputs[made], []).append(inputs[given])
    return found
