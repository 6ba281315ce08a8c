"""Which results may be written where an argument was.

The memory of a donated argument is free for a result from the moment on at which the argument is read for the last
time. The code is the same either way: it writes a result wherever it is told to, and the bridge tells it when it is
called, for only then is it known who else has the argument.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from funcgrad.compiler.expressions import Axis, Buffer, Index
from funcgrad.compiler.loops import Kernel, Loop, Store, expressions_in
from funcgrad.compiler.schedule import Multiply, Run, Schedule


def in_place_pairs(
    schedule: Schedule, inputs: Iterable[Buffer], outputs: Iterable[Buffer]
) -> list[tuple[Buffer, Buffer]]:
    """The pairs of an input and an output such that the output may be written into the memory of the input; of
    an output, those first whose input is read last, so that as few inputs as possible wait for an output.

    That is so if all that reads the input comes before the first step that does anything with the output. It may be
    that step itself, if it computes each element from the one that it replaces.
    """
    first: dict[Buffer, int] = {}
    last: dict[Buffer, int] = {}
    for number, step in enumerate(schedule.steps):
        for buffer in step.buffers:
            first.setdefault(buffer, number)
            last[buffer] = number

    elements_of = cache(Elements)

    def may_share(given: Buffer, made: Buffer) -> bool:
        if made not in first:
            return False
        read, written = last.get(given, -1), first[made]
        if read != written:
            return read < written
        step = schedule.steps[written]
        if isinstance(step, Multiply) and step.epilogue is not None:
            is_operand = given in (step.product.a, step.product.b)
            return not is_operand and elements_of(step.epilogue).replaces(given, made)
        return isinstance(step, Run) and elements_of(step.kernel).replaces(given, made)

    of_kind: dict[Any, list[Buffer]] = {}
    for given in inputs:
        of_kind.setdefault((given.size, given.dtype), []).append(given)
    for found in of_kind.values():
        found.sort(key=lambda x: -last.get(x, -1))
    return [
        (given, made)
        for made in outputs
        for given in of_kind.get((made.size, made.dtype), ())
        if may_share(given, made)
    ]


class Elements:
    """Which elements a kernel reads and writes, where it is nothing but loops around stores; nothing otherwise."""

    def __init__(self, kernel: Kernel):
        body: Sequence[object] = kernel.body
        self.axes: list[Axis] = []
        self.stored: dict[Buffer, list[Index]] = {}
        self.loaded: dict[Buffer, set[Index]] = {}
        while len(body) == 1 and isinstance(body[0], Loop):
            self.axes.append(body[0].axis)
            body = body[0].body
        if not all(isinstance(x, Store) for x in body):
            return
        for x in body:
            if isinstance(x, Store):
                self.stored.setdefault(x.buffer, []).append(x.index)
        for x in expressions_in(kernel.body):
            if x.operation == "load":
                buffer, index = x.payload
                self.loaded.setdefault(buffer, set()).add(index)

    def replaces(self, given: Buffer, made: Buffer) -> bool:
        """Whether each step reads the one element of `given` at the place where it stores to `made`, and no other step
        comes to that place."""
        places = self.stored.get(made, [])
        if len(places) != 1 or given in self.stored or made in self.loaded:
            return False
        return self.loaded.get(given, {*places}) == {*places} and is_different_in_each_step(places[0], self.axes)


def is_different_in_each_step(index: Index, axes: Sequence[Axis]) -> bool:
    """Whether an index numbers the steps of nested loops, in any order of them."""
    factors = dict(index.terms)
    lengths = {factors.get(axis): axis.extent for axis in axes if axis.extent > 1}
    following = 1
    for _ in range(len(lengths)):
        following *= lengths.get(following, 0)
    several = [axis for axis in axes if axis.extent > 1]
    return index.constant == 0 and len(index.terms) == len(several) == len(lengths) and following > 0
