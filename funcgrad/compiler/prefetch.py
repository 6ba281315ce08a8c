"""Ask for memory before it is needed: the next row while this one is computed.

A kernel that goes through each row several times waits for memory in the first pass, computes in the others, and waits
again where it stores. The CPU foresees what comes next in a row, but not that after the last pass comes the next row.
So the second pass asks for it.
"""

from __future__ import annotations

import itertools

from funcgrad.compiler.expressions import Buffer
from funcgrad.compiler.indices import Index, axis_index
from funcgrad.compiler.loops import Kernel, Loop, Prefetch, Statement, Store, expressions_in, statements

LEAST_ROW, LEAST_ARRAY = 1 << 9, 1 << 21  # bytes; what is smaller is in the cache in any case


def with_prefetches(kernel: Kernel) -> Kernel:
    """The same kernel, in which each row of large arrays is asked for early, if it goes through rows several times."""
    rows = kernel.parallel
    if rows is None or rows.kind != "parallel":
        return kernel
    passes = [x for x in rows.body if isinstance(x, Loop) and x.kind == "vector"]
    if len(passes) < 2 or any(x.axis.extent != passes[0].axis.extent for x in passes):
        return kernel

    def is_large(buffer: Buffer, place: Index) -> bool:
        width = place.own_factor(rows.axis)
        size = buffer.dtype.itemsize
        return (
            not buffer.local
            and width is not None
            and abs(width) * size >= LEAST_ROW
            and buffer.size * size >= LEAST_ARRAY
            and not place.is_computed
        )

    more: dict[Loop, list[Statement]] = {x: [] for x in passes}
    for x in expressions_in(passes[0].body):
        if x.operation == "load" and is_large(*x.payload) and x.payload[1].factor(passes[0].axis) == 1:
            buffer, place = x.payload
            following = {rows.axis: axis_index(rows.axis) + 1, passes[0].axis: axis_index(passes[1].axis)}
            more[passes[1]].append(Prefetch(buffer, place.replaced(following), False))
    for before, loop in itertools.pairwise(passes):
        for x in statements(loop.body):
            if isinstance(x, Store) and is_large(x.buffer, x.index) and x.index.factor(loop.axis) == 1:
                more[before].append(Prefetch(x.buffer, x.index.replaced({loop.axis: axis_index(before.axis)}), True))
    body: list[Statement] = [
        Loop(x.axis, [*x.body, *more[x]], x.kind) if isinstance(x, Loop) and x in more else x for x in rows.body
    ]
    return Kernel(kernel.arguments, kernel.written, [Loop(rows.axis, body, rows.kind)], kernel.name)
