"""Sums down the columns of a table, and other reductions of them.

Memory is gone through row by row, and what the columns come to so far stands in a row of its own, in the cache. Column
by column, each element would come from another page of memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from funcgrad.compiler.clusters import FULL
from funcgrad.compiler.elements import Indices
from funcgrad.compiler.expressions import Axis, Buffer, binary, constant, convert
from funcgrad.compiler.indices import axis_index, load, unflatten
from funcgrad.compiler.loops import Loop, Statement, Store
from funcgrad.compiler.reductions import REDUCTIONS, collecting_dtype, neutral
from funcgrad.program import Variable

LoopWriter = Any  # of the cluster; `kernels.LoopWriter`, which imports this module

ROWS_AT_A_TIME = 4
NARROWEST = 16  # columns, from which on a table is gone through row by row
LARGEST_ROW = 1 << 16  # bytes that a buffer for one row may have


def may_go_by_rows(writer: LoopWriter, outer: Sequence[list[Axis]]) -> bool:
    """Whether a cluster does nothing but reduce columns of tables, in one pass."""
    reductions = writer.reductions()
    if not reductions or any(writer.time[x] != 1 for x in reductions):
        return False
    if writer.in_rows or not outer or writer.short_axis is not None:
        return False
    both = [
        read for read in writer.cluster.reads if read.index is not None and _is_table(writer, read.index, outer[-1])
    ]
    if not both:  # all that is read stays in the cache
        return False
    width = math.prod(axis.extent for axis in outer[-1])
    size = width * max(collecting_dtype(writer.definition[x]).itemsize for x in reductions)
    height = math.prod(axis.extent for axis in writer.inner_groups[-1])
    return width >= NARROWEST and height >= 2 * ROWS_AT_A_TIME and size * len(reductions) <= LARGEST_ROW


def _is_table(writer: LoopWriter, index: Indices, columns: Sequence[Axis]) -> bool:
    """Whether elements at an index are different ones for each row and each column."""
    axes = {axis for x in index for axis in x.axes}
    return not axes.isdisjoint(columns) and not axes.isdisjoint(writer.inner)


def passes_by_rows(writer: LoopWriter) -> list[Statement]:
    """The loops of one pass, for one outer index but for the last one."""
    assert writer.vector is not None
    column, dtypes_of = (
        axis_index(writer.vector),
        {x: collecting_dtype(writer.definition[x]) for x in writer.reductions()},
    )
    sums = {
        x: Buffer(writer.vector.extent, d, f"sums{number}", True) for number, (x, d) in enumerate(dtypes_of.items())
    }
    operations = {x: REDUCTIONS[writer.definition[x].primitive] for x in sums}
    *around, last = writer.inner_groups
    loops = [writer.inner_axis(group, n, f"k{n}") for n, group in enumerate(around)]
    extent = math.prod(axis.extent for axis in last)
    if writer.part is not None and not around:
        extent //= writer.part.extent
    whole = extent - extent % ROWS_AT_A_TIME
    written: list[Statement] = []
    for first, count, at_a_time in [(0, whole, ROWS_AT_A_TIME), (whole, extent - whole, 1)]:
        if count == 0:
            continue
        step = Axis(count // at_a_time, f"k{len(around)}")
        values: dict[Variable, list[Any]] = {x: [] for x in sums}
        stores: list[Statement] = []
        for row in range(at_a_time):
            place = axis_index(step) * at_a_time + (first + row)
            if writer.part is not None and not around:
                place = axis_index(writer.part) * extent + place
            writer.values |= zip(last, unflatten(place, [axis.extent for axis in last]), strict=True)
            writer.compute_members(0)
            stores += [store for x in writer.stored if writer.level(x) == FULL for store in writer.store(x, 0)]
            for x in sums:
                operand = writer.definition[x].operands[0]
                value: Any = writer.element(operand, writer.index(operand.shape, FULL), 0)
                values[x].append(convert(value, dtypes_of[x]))
        for x, found in values.items():
            while len(found) > 1:  # two and two, which is more exact than one after the other
                found = [binary(operations[x], *found[n : n + 2]) for n in range(0, len(found), 2)]
            stores.append(Store(sums[x], column, binary(operations[x], load(sums[x], column), found[0])))
        body: list[Statement] = [Loop(step, [Loop(writer.vector, stores, "vector")])]
        for axis in reversed(loops):
            body = [Loop(axis, body)]
        written += body
    beginning: list[Statement] = [
        Store(sums[x], column, constant(neutral(operations[x], dtypes_of[x]), dtypes_of[x])) for x in sums
    ]
    writer.reduced |= {(x, 0): load(sums[x], column) for x in sums}
    return [Loop(writer.vector, beginning, "vector"), *written]
