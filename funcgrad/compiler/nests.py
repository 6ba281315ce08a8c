"""Loops over all elements of an array, for kernels that are written one by one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from funcgrad.compiler.elements import Indices
from funcgrad.compiler.expressions import Axis, Buffer, Expression
from funcgrad.compiler.indices import axis_index, flatten, load, unflatten
from funcgrad.compiler.loops import Kernel, Loop, Statement, Store, finished

Body = Callable[[Indices], list[Statement]]


def loops_over(shape: Sequence[int], body: Body) -> list[Kernel]:
    """A kernel that does `body` at every index of a shape, along the last axis for several at a time."""
    if 0 in shape:
        return []
    *rows, width = shape or (1,)
    row, column = Axis(math.prod(rows), "i"), Axis(width, "j")
    index = (*unflatten(axis_index(row), rows), axis_index(column))[: len(shape)]
    loop = Loop(column, body(index), "parallel vector" if row.extent == 1 else "vector")
    return [finished([loop if row.extent == 1 else Loop(row, [loop], "parallel")])]


def element(buffers: Any, x: Any, index: Indices) -> Expression:
    """The element of an array at an index, loaded from memory."""
    return load(buffers[x], flatten(index, x.shape))


def copying(source: Buffer, target: Buffer) -> Kernel:
    """A kernel that copies one buffer to another one."""
    place = Axis(source.size, "j")
    kernel = finished(
        [Loop(place, [Store(target, axis_index(place), load(source, axis_index(place)))], "parallel vector")]
    )
    kernel.copies = source, target
    return kernel


def copied(buffers: Any, x: Any, result: Any) -> list[Kernel]:
    """A copy of an array as the beginning of a result."""
    return [] if 0 in x.shape else [copying(buffers[x], buffers[result])]
