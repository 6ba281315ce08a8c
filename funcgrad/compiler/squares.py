"""Arrays that are read down their columns, as by a transpose, are read in squares, which are turned in registers.

Element by element, each one would come from another line of the cache, and most of each line would be gone before the
rest of it is wanted. Of a square, each line is read once and written once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from funcgrad.compiler.expressions import INT64, Axis, Buffer, Expression, binary, constant
from funcgrad.compiler.indices import Index, axis_index, flatten, index_of, index_value, load, unflatten
from funcgrad.compiler.loops import Kernel, Loop, Statement, Turn, finished
from funcgrad.compiler.target import host_target

LoopWriter = Any  # of the cluster; `kernels.LoopWriter`, which imports this module

SQUARES_AT_A_TIME = 4


class Square:
    """The elements that are computed together where something is read down its columns.

    Attributes:
        turns: how each part that is read becomes one whose rows lie side by side.
    """

    def __init__(self, size: int, row: Axis, column: Axis):
        self.size, self.row, self.column = size, row, column
        self.turns: dict[Any, Turn] = {}

    def load(self, buffer: Buffer, place: Index) -> Expression:
        """The element of a buffer at a place, by way of a turned square if that is what the place asks for."""
        stride = place.factor(self.column)
        if stride in (None, 0, 1) or place.factor(self.row) != 1:
            return load(buffer, place)
        begin = place + axis_index(self.row) * -1 + axis_index(self.column) * -stride
        turn = self.turns.get((buffer, begin, stride))
        if turn is None:
            turned = Buffer(self.size**2, buffer.dtype, f"square{len(self.turns)}", True)
            turn = self.turns[buffer, begin, stride] = Turn(turned, buffer, begin, stride, self.size)
        return load(turn.target, axis_index(self.row) * self.size + axis_index(self.column))


def turned_group(writer: LoopWriter, groups: Sequence[list[Axis]]) -> list[Axis] | None:
    """The axes along which elements lie side by side that are read for different rows of results."""
    if (
        not host_target().vector_bytes
        or writer.inner
        or writer.short_axis is not None
        or len(groups) < 2
        or any(x.dtype.kind == "c" for x in writer.stored)
    ):
        return None
    last = groups[-1]
    for read in writer.cluster.reads:
        if read.index is not None and read.variable.dtype.kind != "c":
            place = flatten(read.index, read.variable.shape)
            if place.factor(last[-1]) in (None, 0, 1):
                continue
            for group in groups[:-1]:
                extents = [math.prod(axis.extent for axis in axes) for axes in (group, last)]
                if place.factor(group[-1]) == 1 and min(extents) >= square_size(writer):
                    return group
    return None


def square_size(writer: LoopWriter) -> int:
    """How many elements a side of a square has: as many as a register."""
    widest = max(read.variable.dtype.itemsize for read in writer.cluster.reads)
    return max(4, min(16, host_target().vector_bytes // widest))


def write_in_squares(writer: LoopWriter, outer: Sequence[list[Axis]], turned: list[Axis]) -> list[Kernel]:
    """The kernel of a cluster, which goes from square to square; `turned` is what `turned_group` found."""
    size, last = square_size(writer), outer[-1]
    writer.values, writer.by_rows = {}, False
    row, column = Axis(size, "a"), Axis(size, "b")
    down, across = (math.prod(axis.extent for axis in group) for group in (turned, last))
    around = [axis for group in outer if group is not turned and group is not last for axis in group]
    # Some squares side by side, so that few lines of the cache are written in two pieces.
    several = min(SQUARES_AT_A_TIME, -(-across // size))
    blocks = -(-across // (size * several))
    first = Axis(math.prod(axis.extent for axis in around) * blocks, "i")
    vertical, horizontal = Axis(-(-down // size), "t"), Axis(several, "u")
    *others, block = unflatten(axis_index(first), [*(axis.extent for axis in around), blocks])
    writer.values |= zip(around, others, strict=True)
    for group, extent, number, count, inside in [
        (turned, down, axis_index(vertical), vertical.extent, row),
        (last, across, block * several + axis_index(horizontal), blocks * several, column),
    ]:
        begin = number * size
        if extent < count * size:  # the last square ends where the array does, and does some elements again
            begin = index_of(binary("min", index_value(begin), constant(extent - size, INT64)), (0, extent - size))
        writer.values |= zip(group, unflatten(begin + axis_index(inside), [x.extent for x in group]), strict=True)
    writer.square = Square(size, row, column)
    writer.outer_axes = frozenset([first, vertical, horizontal, row, column])
    stores = writer.passes()
    body: list[Statement] = [*writer.square.turns.values(), Loop(row, [Loop(column, stores, "vector")])]
    return [finished([Loop(first, [Loop(vertical, [Loop(horizontal, body)])], "parallel")])]
