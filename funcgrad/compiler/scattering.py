"""Kernels of scatters: updates are written, or added, at positions that are known only when the program runs.

Any two updates may go to the same position, so they come one after the other, and along the other axes side by side:

    for n in 100
      vector for k in 64
        y[k + 64*i[n]] = y[k + 64*i[n]] + u[k + 64*n]

Nevertheless several threads may share the work, and the results are the same for any number of them:

- *Batches.* If the array has axes in front of those that the positions are about, each of their elements is an array
  of its own.
- *Parts.* If many long rows are updated, the rows of the result are divided into parts. First the updates are put in
  the order of the parts; then each part takes in its own, while it is in the cache.
- *Tables.* If many updates go to few elements, as in a histogram, each chunk of updates is collected in a table of its
  own, and then the tables are added up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy

from funcgrad.array import wrap
from funcgrad.compiler.complex_numbers import Complex, Parts, parts_of
from funcgrad.compiler.elements import SINGLE_WRITES, Indices, as_short_position, clamped
from funcgrad.compiler.expressions import (
    INT32,
    INT64,
    Accumulator,
    Axis,
    Buffer,
    Expression,
    accumulated,
    binary,
    computing_dtype,
    constant,
    convert,
)
from funcgrad.compiler.indices import (
    Index,
    axis_index,
    constant_index,
    flatten,
    index_of,
    index_value,
    load,
    unflatten,
)
from funcgrad.compiler.loops import Accumulate, Kernel, Loop, Prefetch, Statement, Store, When, finished
from funcgrad.compiler.nests import copied, element, loops_over
from funcgrad.compiler.reductions import neutral
from funcgrad.compiler.simplify import uniform_number
from funcgrad.primitives.gathering import left_axes
from funcgrad.program import Equation, Variable

LARGEST_LOOKED_THROUGH = 1 << 16
WORTH_SHARING = 1 << 16  # elements of updates
LONG_ROW = 64  # bytes: a line of the cache
MOST_PARTS, SMALLEST_COUNT_OF_PARTS = 1 << 10, 64
PART = 1 << 18  # bytes of the result, which stay in the cache while a part is worked on
AHEAD, MOST_LINES = 8, 16  # how early the memory of an update is asked for, and how much of it
BLOCK, MOST_BLOCKS = 1 << 12, 16  # updates that are put in order by one thread, and how many such blocks there are
TABLE, MOST_TABLES = 1 << 14, 16  # updated elements for one table, and how many tables there are


def scatter(operation: str | None) -> Callable[[Equation, Any], list[Kernel]]:
    """The kernels of a scatter that combines old and new by an operation; None: the new one replaces the old.

    The first two operands of the equation may be single numbers, as `filled` makes them.
    """
    return lambda equation, buffers: Scatter(equation, buffers, operation).kernels()


def filled(equation: Equation, follow: Callable[[Any, Indices], tuple[Any, Indices]]) -> Equation:
    """A scatter into copies of one number as one into that number, which then fills the result, and one of updates that
    are copies of one number as one of that number."""
    if equation.primitive not in SINGLE_WRITES or equation.operands[0].dtype.kind == "c":
        return equation
    x, updates, *positions = equation.operands
    operands = [single(x, follow), single(updates, follow), *positions]
    return Equation(equation.primitive, operands, equation.params, equation.results, equation.source)


def single(x: Any, follow: Callable[[Any, Indices], tuple[Any, Indices]]) -> Any:
    """The number of which an array holds copies; else the array."""
    if math.prod(x.shape) <= 1:
        return x
    number = equal_element(x) if type(x) is not Variable else follow(x, (constant_index(0),) * len(x.shape))[0]
    return x if number is None or math.prod(number.shape) != 1 else number


def equal_element(x: Any) -> Any:
    """A number of which a constant array that is not large holds nothing but copies; None for others."""
    data = x._data
    if type(data) is not numpy.ndarray or data.size > LARGEST_LOOKED_THROUGH:
        return None
    first = data.reshape(-1)[:1]
    return wrap(first) if data.tobytes() == first.tobytes() * data.size else None


class Scatter:
    """Writes the kernels of one scatter.

    Attributes:
        shape, indexed: the shapes of the result and of the arrays of positions.
        outer, middle, inner: the axes that are left, those before, between and after the ones that are indexed.
        dtype: in which updates are collected; short floats are collected in longer ones, and rounded once.
    """

    def __init__(self, equation: Equation, buffers: Any, operation: str | None):
        self.buffers, self.operation = buffers, operation
        self.x, self.updates, *self.numbers = equation.operands
        (self.result,) = equation.results
        self.axes, self.mode = equation.params["axes"], equation.params["mode"]
        self.shape: tuple[int, ...] = tuple(self.result.shape)
        self.indexed: tuple[int, ...] = tuple(self.numbers[0].shape) if self.numbers else ()
        left = left_axes(len(self.shape), self.axes)
        first, last = min(self.axes, default=0), max(self.axes, default=-1)
        self.outer = [axis for axis in left if axis < first]
        self.middle = [axis for axis in left if first < axis < last]
        self.inner = [axis for axis in left if axis > last]
        # A product of complex numbers needs both parts at once; whatever else is done to each part by itself.
        self.parts = 2 if operation == "mul" and isinstance(self.result, Parts) else 1
        if self.parts > 1:
            self.inner.pop()
        self.count, self.width = math.prod(self.indexed), self.lengths(self.inner)
        wide = operation in ("add", "mul") and self.count > 1
        self.dtype = computing_dtype(self.result.dtype) if wide else self.result.dtype
        self.is_filled = math.prod(self.x.shape) < math.prod(self.shape)
        self.updated = self.count * self.lengths(left)
        self.are_equal = math.prod(self.updates.shape) < self.updated

    def lengths(self, axes: Sequence[int]) -> int:
        return math.prod(self.shape[axis] for axis in axes)

    def kernels(self) -> list[Kernel]:
        if self.updated == 0 or 0 in self.shape:
            return self.begin(self.buffers[self.result])
        tables = self.count_of_tables()
        if tables > 1:
            return self.in_tables(tables)
        same = self.dtype == self.result.dtype
        work = self.buffers[self.result] if same else Buffer(math.prod(self.shape), self.dtype, "sums")
        in_parts = not self.outer and not self.middle and self.parts == 1 and self.are_long_rows()
        first = [] if in_parts and self.is_filled else self.begin(work)
        kernels = [*first, *(self.in_parts(work) if in_parts else [self.in_order(work)])]
        if not same:
            kernels += loops_over(
                self.shape,
                lambda index: [self.stored(index, convert(load(work, flatten(index, self.shape)), self.result.dtype))],
            )
        return kernels

    def stored(self, index: Indices, value: Expression) -> Store:
        return Store(self.buffers[self.result], flatten(index, self.shape), value)

    # How it begins

    def first(self, index: Indices) -> Expression:
        """An element before all updates."""
        place = constant_index(0) if self.is_filled else flatten(index, self.shape)
        return self.loaded(self.x, self.is_filled, place, self.x.dtype)

    def loaded(self, x: Any, is_single: bool, place: Index, dtype: numpy.dtype) -> Expression:
        """An element of an array, or of what is a single number."""
        number = uniform_number(x) if is_single else None
        if number is not None:
            return convert(constant(number, x.dtype), dtype)
        return convert(load(self.buffers[x], constant_index(0) if is_single else place), dtype)

    def begin(self, work: Buffer) -> list[Kernel]:
        """Fill what collects the updates with what there is before."""
        if work.dtype == self.result.dtype and not self.is_filled:
            return copied(self.buffers, self.x, self.result)
        return loops_over(
            self.shape, lambda index: [Store(work, flatten(index, self.shape), convert(self.first(index), work.dtype))]
        )

    # One update

    def place(self, position: Indices) -> tuple[dict[int, Index], Expression | None]:
        """Where along the indexed axes an update goes, and whether that is inside; None if it always is."""
        places, inside = {}, None
        for axis, number in zip(self.axes, self.numbers, strict=True):
            length = self.shape[axis]
            value = as_short_position(element(self.buffers, number, position), length)
            if self.mode == "drop":
                # As a number without a sign, a negative one is large.
                within = convert(value, numpy.dtype(f"uint{8 * value.dtype.itemsize}")).less(length)
                inside = within if inside is None else inside & within
                places[axis] = index_of(value, (0, length - 1))
            else:
                places[axis] = clamped(value, 0, length - 1)
        return places, inside

    def taken_in(self, position: Indices, outer: Indices, work: Buffer, start: Index | int = 0) -> list[Statement]:
        """Take in the update at a position of the arrays of positions, and at a place along the outer axes.

        What collects the updates begins at the element `start` of `work`.
        """
        places, inside = self.place(position)
        places |= zip(self.outer, outer, strict=True)
        between = [Axis(self.shape[axis], f"k{number}") for number, axis in enumerate(self.middle)]
        places |= zip(self.middle, map(axis_index, between), strict=True)
        side_by_side = Axis(self.width, "k")
        inner = unflatten(axis_index(side_by_side), [self.shape[axis] for axis in self.inner])
        places |= zip(self.inner, inner, strict=True)
        left = (*outer, *map(axis_index, between), *inner)
        if self.parts > 1:
            places[len(self.shape) - 1], left = constant_index(0), (*left, constant_index(0))
        place = flatten([places[axis] for axis in range(len(self.shape))], self.shape) + start
        lengths = (*self.indexed, *(self.shape[axis] for axis in (*self.outer, *self.middle, *self.inner)))
        update = flatten((*position, *left), (*lengths, self.parts)[: len(position) + len(left)])
        dtype = computing_dtype(work.dtype)
        new = [self.loaded(self.updates, self.are_equal, update + part, dtype) for part in range(self.parts)]
        old = [convert(load(work, place + part), dtype) for part in range(self.parts)]
        if self.parts > 1:
            new = parts_of(Complex(*old) * Complex(*new))
        elif self.operation is not None:
            new = [binary(self.operation, old[0], new[0])]
        body: list[Statement] = [
            Store(work, place + part, convert(value, work.dtype)) for part, value in enumerate(new)
        ]
        if self.width > 1:
            body = [Loop(side_by_side, body, "vector")]
        for axis in reversed(between):
            body = [Loop(axis, body)]
        return body if inside is None else [When(inside, body)]

    # One after the other, in each batch

    def in_order(self, work: Buffer) -> Kernel:
        rows, outer = self.lengths(self.outer), [self.shape[axis] for axis in self.outer]
        if rows == 1 and self.is_numbered():
            batch, each = Axis(self.indexed[0], "i"), Axis(self.count // self.indexed[0], "n")
            position = (axis_index(batch), *unflatten(axis_index(each), self.indexed[1:]))
            zeros = tuple(constant_index(0) for _ in outer)
            return finished([Loop(batch, repeated(each, self.taken_in(position, zeros, work)), "parallel")])
        batch, each = Axis(rows, "i"), Axis(self.count, "n")
        position = unflatten(axis_index(each), self.indexed)
        body = repeated(each, self.taken_in(position, unflatten(axis_index(batch), outer), work))
        return finished(body if rows == 1 else [Loop(batch, body, "parallel")])

    def is_numbered(self) -> bool:
        """Whether positions along an axis are those of the updates along their first one, as those of a batch are."""
        for axis, number in zip(self.axes, self.numbers, strict=True):
            data = getattr(number, "_data", None)
            if data is not None and self.indexed and 1 < self.indexed[0] <= self.shape[axis]:
                numbers = numpy.arange(self.indexed[0]).reshape((-1, *[1] * (len(self.indexed) - 1)))
                if (numpy.asarray(data) == numbers).all():
                    return True
        return False

    # In parts

    def are_long_rows(self) -> bool:
        return (
            self.count * self.width >= WORTH_SHARING
            and self.width * self.dtype.itemsize >= LONG_ROW
            and self.lengths(self.axes) > 1
        )

    def in_parts(self, work: Buffer) -> list[Kernel]:
        rows = self.lengths(self.axes)
        in_part = max(PART // (self.width * work.dtype.itemsize), -(-rows // MOST_PARTS), 1)
        in_part = 1 << min(in_part.bit_length() - 1, (-(-rows // SMALLEST_COUNT_OF_PARTS) - 1).bit_length())
        parts = -(-rows // in_part)
        ends, order, kernels = self.ordered(parts, in_part)

        part = Axis(parts, "p")
        body: list[Statement] = []
        if self.is_filled:
            row, k = Axis(in_part, "r"), Axis(self.width, "k")
            number = axis_index(part) * in_part + axis_index(row)
            fill = Store(work, number * self.width + axis_index(k), convert(self.first(()), work.dtype))
            filled: list[Statement] = [Loop(k, [fill], "vector")]
            if rows % in_part:
                filled = [When(index_value(number).less(rows), filled)]
            body += [Loop(row, filled)]
        bounds = tuple(convert(load(ends, axis_index(part) + n), INT64) for n in (0, 1))
        m = Axis(self.count, "m", -(-self.count // parts))
        position = unflatten(index_of(load(order, axis_index(m)), (0, self.count - 1)), self.indexed)
        body += [
            Loop(m, [*self.asked_for(order, axis_index(m), work), *self.taken_in(position, (), work)], bounds=bounds)
        ]
        return [*kernels, finished([Loop(part, body, "parallel")])]

    def asked_for(self, order: Buffer, place: Index, work: Buffer) -> list[Statement]:
        """Ask for the memory of the update some steps ahead, which the CPU does not foresee."""
        ahead = binary("min", index_value(place + AHEAD), constant(self.count - 1, INT64))
        # What is beyond the last one was never written.
        position = unflatten(clamped(load(order, index_of(ahead)), 0, self.count - 1), self.indexed)
        wanted = [] if self.are_equal else [(self.updates, flatten(position, self.indexed), False)]
        if not self.is_filled:
            places, _ = self.place(position)
            wanted += [
                (work, flatten([places[axis] for axis in range(len(self.axes))], self.shape[: len(self.axes)]), True)
            ]
        line = LONG_ROW // work.dtype.itemsize
        return [
            Prefetch(self.buffers[x] if x is self.updates else work, row * self.width + start, to_write)
            for x, row, to_write in wanted
            for start in range(0, min(self.width, MOST_LINES * line), line)
        ]

    def ordered(self, parts: int, in_part: int) -> tuple[Buffer, Buffer, list[Kernel]]:
        """Put the numbers of updates in the order of the parts that they belong to, those of a part as they were.

        Each block of updates counts how many it has for each part. Then it is known where they begin.

        Returns:
            The ends of the parts in that order, after a zero; the order; and the kernels.
        """
        blocks = max(1, min(MOST_BLOCKS, self.count // BLOCK))
        length = -(-self.count // blocks)
        counts, order = Buffer(parts * blocks, INT32, "counts"), Buffer(self.count, INT32, "order")
        # Where the next update of a part and a block goes. When all are there, those of the last block, which stand in
        # front, are the ends of the parts.
        ends = Buffer(1 + parts * blocks, INT32, "ends")

        def over_updates(block: Axis, body: Callable[[Axis, Index], list[Statement]]) -> Loop:
            n = Axis(self.count, "n", length)
            places, inside = self.place(unflatten(axis_index(n), self.indexed))
            row = flatten([places[axis] for axis in range(len(self.axes))], self.shape[: len(self.axes)])
            part = index_of(expression_quotient(row, in_part), (0, parts - 1))
            done = body(n, part)
            bounds = self.bounds(block, length) if blocks > 1 else None
            return Loop(n, done if inside is None else [When(inside, done)], bounds=bounds)

        block, part = Axis(blocks, "b"), Axis(parts, "p")
        own = axis_index(block) * parts

        def count(n: Axis, part: Index) -> list[Statement]:
            return [Store(counts, own + part, load(counts, own + part) + 1)]

        zeros = Loop(part, [Store(counts, own + axis_index(part), constant(0, INT32))], "vector")
        counting = finished([Loop(block, [zeros, over_updates(block, count)], "parallel")])

        k = Axis(parts * blocks, "k")
        so_far = Accumulator("add", INT32, 0, frozenset(), "s")
        which_part, which_block = unflatten(axis_index(k), (parts, blocks))
        place = (which_block * -1 + (blocks - 1)) * parts + which_part
        adding = finished(
            [
                Store(ends, constant_index(0), constant(0, INT32)),
                Loop(
                    k,
                    [
                        Store(ends, place + 1, accumulated(so_far)),
                        Accumulate(so_far, load(counts, which_block * parts + which_part)),
                    ],
                ),
            ]
        )

        def put(n: Axis, part: Index) -> list[Statement]:
            place = (axis_index(block) * -1 + (blocks - 1)) * parts + part + 1
            here = load(ends, place)
            number = convert(index_value(axis_index(n)), INT32)
            return [Store(order, index_of(here), number), Store(ends, place, here + 1)]

        ordering = finished([Loop(block, [over_updates(block, put)], "parallel")])
        return ends, order, [counting, adding, ordering]

    def bounds(self, chunk: Axis, length: int) -> tuple[Expression, Expression]:
        """The updates of a chunk of some length; the last one may be shorter."""
        low = index_value(axis_index(chunk) * length)
        return low, binary("min", low + length, constant(self.count, INT64))

    # In tables

    def count_of_tables(self) -> int:
        work, size = self.count * self.width, math.prod(self.shape)
        if (
            self.operation is None
            or self.outer
            or self.middle
            or self.parts > 1
            or work < WORTH_SHARING
            or self.is_numbered()
        ):
            return 1
        if self.are_long_rows():
            count = min(MOST_TABLES, work // TABLE, work // (4 * size))
            return count if count >= 4 else 1
        return min(MOST_TABLES, work // TABLE, work // (2 * size))

    def in_tables(self, count: int) -> list[Kernel]:
        size, dtype = math.prod(self.shape), computing_dtype(self.result.dtype)
        assert self.operation is not None
        operation = self.operation
        # -0.0 is what changes no float, not even another -0.0.
        nothing = constant(-0.0 if operation == "add" and dtype.kind == "f" else neutral(operation, dtype), dtype)
        tables = Buffer(count * size, dtype, "tables")
        table, j = Axis(count, "t"), Axis(size, "j")
        start, length = axis_index(table) * size, -(-self.count // count)
        n = Axis(self.count, "n", length)
        body: list[Statement] = [
            Loop(j, [Store(tables, start + axis_index(j), nothing)], "vector"),
            Loop(
                n,
                self.taken_in(unflatten(axis_index(n), self.indexed), (), tables, start),
                bounds=self.bounds(table, length),
            ),
        ]

        def added(index: Indices) -> list[Statement]:
            table, place = Axis(count, "t"), flatten(index, self.shape)
            outer = frozenset[Axis]().union(*(i.axes for i in index))
            total = Accumulator(operation, dtype, neutral(operation, dtype), outer, "s")
            total.initial = nothing
            before = self.first(index) if self.is_filled else load(self.buffers[self.result], place)
            value = binary(operation, convert(before, dtype), accumulated(total))
            each = Accumulate(total, load(tables, axis_index(table) * size + place))
            return [Loop(table, [each]), self.stored(index, convert(value, self.result.dtype))]

        first = [] if self.is_filled else copied(self.buffers, self.x, self.result)
        return [*first, finished([Loop(table, body, "parallel")]), *loops_over(self.shape, added)]


def expression_quotient(index: Index, divisor: int) -> Expression:
    """`index // divisor` as a number, for an index that is not negative."""
    return index_value(unflatten(index, (1 << 60, divisor))[0])


def repeated(axis: Axis, body: list[Statement]) -> list[Statement]:
    """A loop, if there is more than one step."""
    return body if axis.extent == 1 else [Loop(axis, body)]
