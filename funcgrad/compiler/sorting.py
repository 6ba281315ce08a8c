"""Kernels that sort: all rows along an axis, by one or more keys, equal ones in the order in which they are.

Neither kind of kernel compares two elements and then decides what to do: a CPU guesses such decisions ahead, and of
unsorted numbers it guesses every other one wrong.

- The elements of a short row are counted: the place of an element is the number of those that come before it.
- A long row is sorted digit by digit, as cards with several numbers on them are, beginning with the last digit: each
  time the cards are laid on one heap for each digit, and the heaps are put together again (D. E. Knuth, "The Art of
  Computer Programming", volume 3, section 5.2.5).

For both, keys become whole numbers that have the same order, NaN last.

Long rows of plain numbers, with nothing to be permuted along with them, are left to NumPy, which has vector
instructions compare and exchange several of them at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy

from funcgrad import dtypes
from funcgrad.compiler.elements import name_formula
from funcgrad.compiler.expressions import (
    INT32,
    INT64,
    Accumulator,
    Axis,
    Buffer,
    Expression,
    accumulated,
    bitcast,
    computing_dtype,
    constant,
    convert,
    select,
)
from funcgrad.compiler.indices import Index, axis_index, constant_index, flatten, index_of, index_value, load, unflatten
from funcgrad.compiler.loops import Accumulate, Kernel, Loop, Statement, Store, finished
from funcgrad.program import Equation

MOST_COUNTED = 96  # elements of a row that are counted; the work grows with the square of their number
MANY = 4096  # elements from which on digits are longer, so that there are fewer of them
LEFT_TO_NUMPY = 1 << 14  # elements of a row of plain numbers that NumPy sorts faster, with vector instructions
LARGEST_ROW = 1 << 12  # elements of a row that is kept on the stack meanwhile

Row = Callable[[Index], Index]  # from the number of an element of a row to its place in memory


def sorts_natively(equation: Equation) -> bool:
    """Whether a `sort` is faster here than on the host."""
    x = equation.operands[0]
    is_plain = len(equation.operands) == 1 and x.dtype.kind in "iuf" and x.dtype.itemsize >= 4
    return not (is_plain and x.shape[equation.params["axis"]] >= LEFT_TO_NUMPY)


def sorted_rows(equation: Equation, buffers: Any) -> list[Kernel]:
    """The kernel of a `sort`."""
    shape, axis = equation.operands[0].shape, equation.params["axis"]
    length, others = shape[axis], [*shape[:axis], *shape[axis + 1 :]]
    if 0 in shape:
        return []
    row = Axis(math.prod(others), "i")
    outer = unflatten(axis_index(row), others)

    def place(k: Index) -> Index:
        return flatten((*outer[:axis], k, *outer[axis:]), shape)

    operands, results = [[buffers[x] for x in found] for found in (equation.operands, equation.results)]
    keys = operands[: equation.params["num_keys"]]
    if length == 1:
        own = place(constant_index(0))
        body: list[Statement] = [Store(y, own, load(x, own)) for x, y in zip(operands, results, strict=True)]
    elif length <= MOST_COUNTED:
        body = by_counting(keys, operands, results, place, length, row)
    else:
        body = by_digits(keys, operands, results, place, length, row)
    return [finished(body if row.extent == 1 else [Loop(row, body, "parallel")], "sort")]


def ordered(x: Expression, zeros_differ: bool = False) -> Expression:
    """A key as a whole number with a sign, of 32 or 64 bits, that has the same order.

    The bits of positive floats have it already, those of negative ones the other way round.
    """
    if x.dtype.kind == "b":
        return select(x, constant(1, INT32), constant(0, INT32))
    x = convert(x, computing_dtype(x.dtype))
    if x.dtype.kind == "f":
        integer = _integer("i", x.dtype)
        bits = bitcast(x if zeros_differ else x + 0.0, integer)
        return select(x.equal(x), _turned(bits), int(numpy.iinfo(integer).max))
    if x.dtype.itemsize < 4:
        return convert(x, INT32) - int(numpy.iinfo(x.dtype).min)
    return x if x.dtype.kind == "i" else bitcast(_other_sign(x), _integer("i", x.dtype))


def _turned(bits: Expression) -> Expression:
    """The bits of a float in the order of the floats; and back."""
    limits = numpy.iinfo(bits.dtype)
    return bits ^ ((bits >> (limits.bits - 1)) & int(limits.max))


def _other_sign(x: Expression) -> Expression:
    return x ^ constant(1 << (8 * x.dtype.itemsize - 1), _integer("u", x.dtype))


def _integer(kind: str, dtype: numpy.dtype) -> numpy.dtype:
    """The whole numbers of the size of a dtype, with a sign ("i") or without one ("u")."""
    return numpy.dtype(f"{kind}{dtype.itemsize}")


# By counting


def by_counting(
    keys: Sequence[Buffer], operands: Sequence[Buffer], results: Sequence[Buffer], place: Row, length: int, row: Axis
) -> list[Statement]:
    """Count for each element those that come before it, which is its new place."""
    k = Axis(length, "k")
    own = axis_index(k)
    values = [named("key", x, ordered(x)) for x in (load(key, place(own)) for key in keys)]
    numbers = [Buffer(length, x.dtype, f"key{n}", local=True) for n, x in enumerate(values)]
    first = Loop(k, [Store(buffer, own, x) for buffer, x in zip(numbers, values, strict=True)], "vector")

    k, j = Axis(length, "k"), Axis(length, "j")
    own, other = axis_index(k), axis_index(j)
    before = convert(index_value(other), INT32).less(convert(index_value(own), INT32))
    for buffer in reversed(numbers):
        x, y = load(buffer, other), load(buffer, own)
        before = x.less(y) | x.equal(y) & before
    count = Accumulator("add", INT32, 0, frozenset([row, k]), "count")
    counted = Loop(j, [Accumulate(count, select(before, constant(1, INT32), constant(0, INT32)))])
    places = Buffer(length, INT32, "place", local=True)
    second = Loop(k, [counted, Store(places, own, accumulated(count))], "vector")

    k = Axis(length, "k")
    own = axis_index(k)
    new = place(index_of(load(places, own), (0, length - 1)))
    moves = [Store(y, new, load(x, place(own))) for x, y in zip(operands, results, strict=True)]
    return [first, second, Loop(k, [*moves])]


# By digits


def by_digits(
    keys: Sequence[Buffer], operands: Sequence[Buffer], results: Sequence[Buffer], place: Row, length: int, row: Axis
) -> list[Statement]:
    """The last key comes first, and of a key its last digit. What is moved from heap to heap are the bits of the key,
    and the numbers of the elements that they belong to; of a single operand the bits are all."""
    width = 8 if length < MANY else 11
    alone = len(operands) == 1
    room = Room(length, row)
    body: list[Statement] = []
    order: Buffer | None = None
    for key in reversed(keys):
        shifts = range(*digits_of(key.dtype), width)

        def bits_at(k: Index, key: Buffer = key) -> Expression:
            x = load(key, place(k))
            whole = ordered(x, zeros_differ=alone)
            return named("key", x, _other_sign(bitcast(whole, _integer("u", whole.dtype))))

        starts = Buffer(len(shifts) << width, INT32, "start", local=True)
        body += count_heaps(starts, bits_at, shifts, width, length)
        bits: Buffer | None = None
        for number, shift in enumerate(shifts):
            k = Axis(length, "k")
            old, last = axis_index(k), number == len(shifts) - 1
            own = None if order is None else load(order, room.place(order, old))
            which = old if own is None else index_of(own, (0, length - 1))
            value = bits_at(which) if bits is None else load(bits, room.place(bits, old))
            heap = heap_of(value, shift, width, number)
            to = load(starts, heap)
            new = index_of(to, (0, length - 1))
            moves = []
            if alone and last:
                moves.append(Store(results[0], place(new), key_with_bits(value, key.dtype)))
            elif not last:
                bits = room.other(bits, value.dtype, "bits")
                moves.append(Store(bits, room.place(bits, new), value))
            if not alone:
                order = room.other(order, INT32, "order")
                moves.append(
                    Store(order, room.place(order, new), convert(index_value(old), INT32) if own is None else own)
                )
            body.append(Loop(k, [*moves, Store(starts, heap, to + 1)]))
    if order is not None:
        k = Axis(length, "k")
        old, new = place(room.number(order, axis_index(k))), place(axis_index(k))
        body.append(Loop(k, [Store(y, new, load(x, old)) for x, y in zip(operands, results, strict=True)], "vector"))
    return body


def digits_of(dtype: numpy.dtype) -> tuple[int, int]:
    """The bits of a key in which its values differ: from the first up to the second, counted from the right."""
    if dtype.kind == "b":
        return 0, 1
    if computing_dtype(dtype) is not dtype:  # a float32 then, most of whose bits are zero
        return 16 if dtype is dtypes.bfloat16 else 13, 32
    return 0, 8 * dtype.itemsize


def key_with_bits(bits: Expression, dtype: numpy.dtype) -> Expression:
    """The key that these bits stand for."""
    signed = bitcast(_other_sign(bits), _integer("i", bits.dtype))
    if dtype.kind == "b":
        return signed.not_equal(0)
    if dtype.kind in "iu":
        if dtype.itemsize < 4:
            return convert(signed + int(numpy.iinfo(dtype).min), dtype)
        return signed if dtype.kind == "i" else bitcast(_other_sign(bitcast(signed, dtype)), dtype)
    return convert(bitcast(_turned(signed), computing_dtype(dtype)), dtype)


def heap_of(bits: Expression, shift: int, width: int, number: int) -> Index:
    """The number of the heap for a digit, where all heaps of all digits are counted."""
    heap = named(f"digit{number}", bits, convert((bits >> shift) & ((1 << width) - 1), INT64))
    return index_of(heap, (0, (1 << width) - 1)) + (number << width)


def named(name: str, x: Expression, formula: Expression) -> Expression:
    """A formula of `x` that is printed by its name."""
    name_formula(name, [x], formula)
    return formula


def count_heaps(
    starts: Buffer, bits_at: Callable[[Index], Expression], shifts: Sequence[int], width: int, length: int
) -> list[Statement]:
    """Find out for all digits at once how high the heaps will be, and so where each one begins."""
    counts = Buffer(starts.size, INT32, "count", local=True)
    c, k, heap = Axis(starts.size, "c"), Axis(length, "k"), Axis(1 << width, "heap")
    empty = Loop(c, [Store(counts, axis_index(c), constant(0, INT32))], "vector")
    bits = bits_at(axis_index(k))
    places = [heap_of(bits, shift, width, number) for number, shift in enumerate(shifts)]
    count = Loop(k, [Store(counts, place, load(counts, place) + 1) for place in places])
    first: list[Statement] = []
    for number in range(len(shifts)):
        place = axis_index(heap) + (number << width)
        total = Accumulator("add", INT32, 0, bits.axes - {k}, f"s{number}")
        first += [Store(starts, place, accumulated(total)), Accumulate(total, load(counts, place))]
    return [empty, count, Loop(heap, first)]


class Room:
    """Where rows stand while they are sorted: small ones on the stack of the thread, others in memory, all of them."""

    def __init__(self, length: int, row: Axis):
        self.length, self.row, self.local = length, row, length <= LARGEST_ROW
        self.pairs: dict[Any, tuple[Buffer, Buffer]] = {}

    def other(self, buffer: Buffer | None, dtype: numpy.dtype, name: str) -> Buffer:
        """The one of two buffers that is not `buffer`."""
        if (dtype, name) not in self.pairs:
            size = self.length if self.local else self.length * self.row.extent
            names = name, f"other_{name}"
            one, two = (Buffer(size, dtype, name, self.local) for name in names)
            self.pairs[dtype, name] = one, two
        one, two = self.pairs[dtype, name]
        return two if buffer is one else one

    def place(self, buffer: Buffer, k: Index) -> Index:
        """The place of element k of the row."""
        return k if buffer.local else axis_index(self.row) * self.length + k

    def number(self, order: Buffer, k: Index) -> Index:
        """The number of the element that comes at place k."""
        return index_of(load(order, self.place(order, k)), (0, self.length - 1))
