"""The kernel of `top_k`: the largest elements of each row and their places, without sorting the row.

A row is divided into blocks, and of each block the largest element is found. Then the largest of these is taken, `k`
times; each time its block is searched for the next one. With about as many blocks as a block has elements, a row
of n elements is read once, and what is taken costs about the square root of n, all of it in vectors.

A key and its place are one number of 64 bits, so no two of them are equal, and what was taken is what is not smaller
than the last one that was taken.
"""

from __future__ import annotations

import math
from typing import Any

import numpy

from funcgrad.compiler.expressions import (
    INT32,
    INT64,
    Accumulator,
    Axis,
    Buffer,
    Expression,
    accumulated,
    constant,
    convert,
    select,
)
from funcgrad.compiler.indices import Index, axis_index, flatten, index_of, index_value, load, unflatten
from funcgrad.compiler.loops import Accumulate, Kernel, Loop, Statement, Store, finished
from funcgrad.compiler.sorting import LARGEST_ROW, MOST_COUNTED, ordered
from funcgrad.program import Equation

LONGEST = 1 << 24  # elements of a row
LOWEST = int(numpy.iinfo(numpy.int64).min)
PLACE_BITS = 32


def is_selected(equation: Equation) -> bool:
    """Whether a `top_k` is quicker this way than by sorting."""
    (x,), k = equation.operands, equation.params["k"]
    length = x.shape[equation.params["axis"]]
    if x.dtype.kind == "c" or x.dtype.itemsize > 4 or length > LONGEST or not length:
        return False
    # In vectors of eight; each element that is taken takes some more to wait for.
    selected = length / 2 + k * (block_size(length) / 4 + 16)
    by_sorting = length * length / 10 + 4 * length if length <= MOST_COUNTED else 14 * length
    return selected < by_sorting


def block_size(length: int) -> int:
    """A power of two near the square root."""
    return max(8, 1 << round(math.log2(length) / 2))


def largest_of_rows(equation: Equation, buffers: Any) -> list[Kernel]:
    """The kernel of a `top_k`."""
    (x,), (values, places) = equation.operands, equation.results
    k, axis = equation.params["k"], equation.params["axis"]
    if 0 in values.shape:
        return []
    length, others = x.shape[axis], [*x.shape[:axis], *x.shape[axis + 1 :]]
    row = Axis(math.prod(others), "i")
    outer = unflatten(axis_index(row), others)

    def at(place: Index, shape: Any) -> Index:
        return flatten((*outer[:axis], place, *outer[axis:]), shape)

    size = block_size(length)
    count = -(-length // size)
    room = count * size
    local = room <= LARGEST_ROW
    keys = Buffer(room if local else room * row.extent, INT64, "key", local)
    best = Buffer(count, INT64, "best", local=True)

    def key(number: Index) -> Expression:
        return load(keys, number if local else axis_index(row) * room + number)

    def put(number: Index, value: Expression) -> Store:
        return Store(keys, number if local else axis_index(row) * room + number, value)

    def largest(axis: Axis, value: Expression, around: set[Axis], name: str) -> tuple[Loop, Expression]:
        found = Accumulator("max", INT64, LOWEST, frozenset(around), name)
        return Loop(axis, [Accumulate(found, value)], "vector"), accumulated(found)

    j = Axis(length, "j")
    from_end = index_value(axis_index(j) * -1 + (length - 1))  # of equal keys, the first one is the largest
    whole = convert(ordered(load(buffers[x], at(axis_index(j), x.shape))), INT64)
    body: list[Statement] = [Loop(j, [put(axis_index(j), (whole << PLACE_BITS) | from_end)], "vector")]
    if room > length:
        j = Axis(room - length, "j")
        body.append(Loop(j, [put(axis_index(j) + length, constant(LOWEST, INT64))], "vector"))

    b, j = Axis(count, "b"), Axis(size, "j")
    loop, found = largest(j, key(axis_index(b) * size + axis_index(j)), {row, b}, "m")
    body.append(Loop(b, [loop, Store(best, axis_index(b), found)]))

    t, b, j = Axis(k, "t"), Axis(count, "b"), Axis(size, "j")
    first, top = largest(b, load(best, axis_index(b)), {row, t}, "top")
    number = constant(length - 1, INT64) - (top & ((1 << PLACE_BITS) - 1))
    place, to = index_of(number, (0, length - 1)), at(axis_index(t), values.shape)
    block = index_of(number >> (size.bit_length() - 1), (0, count - 1))
    left = key(block * size + axis_index(j))
    second, following = largest(j, select(left.less(top), left, LOWEST), {row, t}, "next")
    taken = [
        Store(buffers[values], to, load(buffers[x], at(place, x.shape))),
        Store(buffers[places], to, convert(number, INT32)),
    ]
    body.append(Loop(t, [first, *taken, second, Store(best, block, following)]))
    return [finished(body if row.extent == 1 else [Loop(row, body, "parallel")], "top_k")]
