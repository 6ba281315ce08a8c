"""Which values may be in one place of memory: one that is written where another one was, as that is read for the last
time.

So an update at an index costs the update and no copy of the array: between the kernels of a Program, from one step of a
loop to the next, and from a donated argument to a result.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import Any

from funcgrad.compiler.expressions import Axis, Buffer
from funcgrad.compiler.indices import Index
from funcgrad.compiler.loops import Kernel, Loop, Store, expressions_in


class Uses:
    """When the steps of a schedule use each buffer, and which buffers are in one place.

    A step says with `may_share(given, made)` whether it may write one buffer where another one is that it reads, and
    with `updates` for which pairs of buffers it saves something then.

    Attributes:
        first, last: the numbers of the steps that use what is at a place, by the buffer that the place is named after.
        place: the place of each buffer.
        buffers_of: the buffers of each step, every one once.
    """

    def __init__(self, steps: Sequence[Any]):
        self.steps = steps
        self.first: dict[Buffer, int] = {}
        self.last: dict[Buffer, int] = {}
        self.buffers_of = [dict.fromkeys(step.buffers) for step in steps]
        for number, buffers in enumerate(self.buffers_of):
            for buffer in buffers:
                self.first.setdefault(buffer, number)
                self.last[buffer] = number
        self.place = {x: x for x in self.first}

    def share(self, fixed: Container[Buffer]) -> None:
        """Put values that are updated, and not needed any more, where the updated ones will be; not those in `fixed`,
        which come from outside."""
        for number in range(len(self.steps) - 1, -1, -1):
            for given, made in self.steps[number].updates:
                if given not in self.place or made not in self.place:
                    continue  # a branch need not use all that it is given
                old, new = self.place[given], self.place[made]
                dies_here = old not in fixed and self.last[old] == self.first[new] == number
                if old is not new and dies_here and self.may_share(given, made):
                    self.first[new] = self.first.pop(old)
                    del self.last[old]
                    self.place |= {x: new for x, place in self.place.items() if place is old}

    def may_share(self, given: Buffer, made: Buffer) -> bool:
        """Whether `made` may be written into the memory of `given`.

        That is so if all that reads the latter comes before the first step that does anything with the former. It may
        be that step itself, if it computes each element from the one that it replaces.
        """
        if made not in self.place:
            return False
        old, new = self.place.get(given, given), self.place[made]
        read, written = self.last.get(old, -1), self.first[new]
        if read != written:
            return read < written
        step = self.steps[written]
        there = self.buffers_of[written]
        olds = [x for x in there if self.place[x] is old]
        news = [x for x in there if self.place[x] is new]
        return len(olds) == len(news) == 1 and step.may_share(olds[0], news[0])


def in_place_pairs(uses: Uses, inputs: Iterable[Buffer], outputs: Iterable[Buffer]) -> list[tuple[Buffer, Buffer]]:
    """The pairs of an input and an output such that the output may be written into the memory of the input, if that is
    donated; of an output, those first whose input is read last, so that as few inputs as possible wait for an output.

    The code is the same either way: it writes a result wherever it is told to, and the bridge tells it when it is
    called, for only then is it known who else has the argument.
    """
    of_kind: dict[Any, list[Buffer]] = {}
    for given in inputs:
        of_kind.setdefault((given.size, given.dtype), []).append(given)
    for found in of_kind.values():
        found.sort(key=lambda x: -uses.last.get(x, -1))
    return [
        (given, made)
        for made in outputs
        for given in of_kind.get((made.size, made.dtype), ())
        if uses.may_share(given, made)
    ]


class Elements:
    """Which elements a kernel reads and writes, where it is nothing but loops around stores; nothing otherwise."""

    def __init__(self, kernel: Kernel):
        body: Sequence[object] = kernel.body
        self.axes: list[Axis] = []
        self.stored: dict[Buffer, list[Index]] = {}
        self.loaded: dict[Buffer, set[Index]] = {}
        self._differ: dict[Index, bool] = {}  # of places: whether no two steps come to one
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
        (place,) = places
        if self.loaded.get(given, {place}) != {place}:
            return False
        if place not in self._differ:
            self._differ[place] = is_different_in_each_step(place, self.axes)
        return self._differ[place]


def is_different_in_each_step(index: Index, axes: Sequence[Axis]) -> bool:
    """Whether an index numbers the steps of nested loops, in any order of them."""
    factors = dict(index.terms)
    lengths = {factors.get(axis): axis.extent for axis in axes if axis.extent > 1}
    following = 1
    for _ in range(len(lengths)):
        following *= lengths.get(following, 0)
    several = [axis for axis in axes if axis.extent > 1]
    return index.constant == 0 and len(index.terms) == len(several) == len(lengths) and following > 0
