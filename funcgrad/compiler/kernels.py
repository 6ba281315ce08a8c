"""From a cluster of equations to a kernel: the loops are written down.

A cluster with inner axes is computed one outer index after the other. For each, the inner axes are gone through as
often as its reductions ask for: a softmax finds the greatest element of a row first, then the sum of the exponentials,
then divides. A value of one pass that a later one needs again is computed again if that is cheap, else it is kept in a
buffer of the size of a row, which stays in the cache:

    parallel for i in 4
      s0 = -inf
      vector for k0 in 10            pass 0
        s0 = max(s0, x[10*i + k0])
      s1 = 0
      vector for k1 in 10            pass 1
        t0 = exp(x[10*i + k1] - s0)
        s1 += t0
        row0[k1] = t0
      vector for k2 in 10            pass 2
        y[10*i + k2] = row0[k2] / s1

The *time* of a value is the pass in which it is computed; of the result of a reduction, the first pass that may use it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from funcgrad import dtypes
from funcgrad.array import Array
from funcgrad.compiler.clusters import FULL, OUTER, Cluster
from funcgrad.compiler.columns import LARGEST_ROW, may_go_by_rows, passes_by_rows
from funcgrad.compiler.complex_numbers import Complex, Value, parts_of
from funcgrad.compiler.elements import Indices, element_rule, movement_rule
from funcgrad.compiler.expressions import Accumulator, Axis, Buffer, Expression, accumulated, constant, convert
from funcgrad.compiler.fuse import QUICK, Fuser
from funcgrad.compiler.indices import Index, axis_index, constant_index, flatten, load, unflatten
from funcgrad.compiler.loops import Accumulate, Kernel, Loop, Statement, Store, finished
from funcgrad.compiler.reductions import REDUCTIONS, SHORT, collecting_dtype, is_reduction, neutral
from funcgrad.compiler.simplify import uniform_number
from funcgrad.compiler.squares import Square, turned_group, write_in_squares
from funcgrad.program import Equation, Variable

KEEP_FROM = 6  # operations (quick ones count 1, others 8) from which on a value is kept rather than computed again
PART = 1 << 14  # elements at least that are reduced to one
MOST_PARTS = 64
ENOUGH_TASKS = 8  # of outer loops, from which on there is no need for parts
ALL_ROWS = 1 << 18  # bytes of all buffers for rows of a kernel together


def buffer_for(x: Any, name: str) -> Buffer:
    """A buffer for an array. A complex number is two numbers, one after the other."""
    size = math.prod(x.shape)
    return Buffer(2 * size, dtypes.real_of(x.dtype), name) if x.dtype.kind == "c" else Buffer(size, x.dtype, name)


class Buffers:
    """Which buffer holds a variable or a constant; made when asked for.

    Attributes:
        constants: the arrays that are part of the Program, and of the Programs inside of it.
    """

    def __init__(self, around: Buffers | None = None):
        self.of: dict[Variable, Buffer] = {}
        self.constants: dict[Buffer, Array] = {} if around is None else around.constants
        self._of_constant: dict[int, Buffer] = {} if around is None else around._of_constant

    def inside(self) -> Buffers:
        """Buffers for the variables of a Program inside of this one."""
        return Buffers(self)

    def __getitem__(self, x: Any) -> Buffer:
        table: dict[Any, Buffer]
        table, key = (self.of, x) if type(x) is Variable else (self._of_constant, id(x))
        found = table.get(key)
        if found is None:
            prefix = "b" if type(x) is Variable else "c"
            found = table[key] = buffer_for(x, f"{prefix}{len(table)}")
            if type(x) is not Variable:
                self.constants[found] = x  # pyright: ignore[reportArgumentType]
        return found


class LoopWriter:
    """Writes the kernel of one cluster."""

    def __init__(self, cluster: Cluster, fuser: Fuser, buffers: Buffers, stored: set[Variable]):
        self.cluster, self.fuser, self.buffers = cluster, fuser, buffers
        self.members = list(reversed(cluster.level))
        self.definition = {x: equation for equation in self.members for x in equation.results}
        self.stored = [x for x in self.definition if x in stored]
        self.inner = [axis for axis in cluster.axes if axis in cluster.inner]
        self.in_rows = not cluster.axes or cluster.axes[-1] in cluster.inner or not cluster.inner
        self.memo: dict[Any, Any] = {}
        self.reduced: dict[tuple[Variable, int], Expression] = {}  # what reductions come to
        self.short_axis: Axis | None = None
        self.element_number = 0
        self.chains: dict[Accumulator, list[Accumulator]] = {}
        self.cost: dict[Variable, int] = {}
        self.time: dict[Variable, int] = {}
        self.kept: dict[Variable, Buffer] = {}
        self.room = ALL_ROWS
        self.square: Square | None = None

    def write(self) -> list[Kernel]:
        if any(axis.extent == 0 for axis in self.cluster.outer) or not self.stored:
            return []
        self.set_times()
        groups = self.merged_groups()
        outer = [group for group in groups if group[0] not in self.cluster.inner]
        self.short_axis = self.axis_without_loop(groups)
        if self.short_axis is not None:
            outer.pop()
            self.in_rows = groups[-2][0] in self.cluster.inner or not self.cluster.inner
        if self.inner and self.in_rows and outer and self.are_neighbours(outer[-1]):
            self.in_rows = False
        self.inner_groups = [group for group in groups if group[0] in self.cluster.inner]
        if not self.in_rows and self.short_axis is None and outer and self.lies_in_rows(outer[-1]):
            self.in_rows = True
        self.part: Axis | None = None
        turned = turned_group(self, outer)
        if turned is not None:
            return write_in_squares(self, outer, turned)
        self.by_rows = may_go_by_rows(self, outer)
        parts = self.count_of_parts(outer)
        self.by_rows = self.by_rows and (parts > 1 or len(outer) > 1)
        if parts > 1:
            return self.write_in_parts(outer, parts)
        loops = self.outer_loops(outer)
        return [finished(loops(self.passes(), self.outer_stores()))]

    def are_neighbours(self, group: Sequence[Axis]) -> bool:
        """Whether all that is read lies side by side along these outer axes, or stays the same. Then each lane of a
        vector has a sum of its own, and none has to be taken across the lanes of one."""
        extent = math.prod(axis.extent for axis in group)
        factors = [
            flatten(read.index, read.variable.shape).factor(group[-1])
            for read in self.cluster.reads
            if read.index is not None and read.variable not in self.definition
        ]
        near = all(factor is not None and 0 <= factor <= SHORT for factor in factors)
        return near and extent > SHORT and self.count_of_passes() == 1

    def lies_in_rows(self, columns: Sequence[Axis]) -> bool:
        """Whether what is reduced lies side by side although the reduced axes are not the last ones, as of a transpose.

        Arguments:
            columns: the last outer axes, along which elements are far from each other then.
        """
        if any(self.level(x) == FULL for x in self.stored):
            return False
        places = [
            flatten(read.index, read.variable.shape)
            for read in self.cluster.reads
            if read.index is not None and read.variable not in self.definition
        ]
        along, across = ([place.factor(axis) for place in places] for axis in (self.inner_groups[-1][-1], columns[-1]))
        return set(along) <= {0, 1} and 1 in along and not set(across) <= {0, 1}

    def axis_without_loop(self, groups: Sequence[list[Axis]]) -> Axis | None:
        """The short axis of the cluster, if the kernel has its elements one after the other."""
        short = self.cluster.short_axis
        return short if short is not None and groups[-1] == [short] and self.count_of_passes() == 1 else None

    def each_element(self) -> Iterator[int]:
        """Go through the elements of the short axis: what is written meanwhile is for one of them."""
        self.element_number = 0
        if self.short_axis is None:
            yield 0
            return
        for number in range(self.short_axis.extent):
            self.element_number = number
            self.values = {**self.values, self.short_axis: constant_index(number)}
            yield number

    def outer_loops(
        self, groups: Sequence[list[Axis]]
    ) -> Callable[[list[Statement], list[Statement]], list[Statement]]:
        """New axes for the outer groups; gives what puts their loops around passes and the stores after them."""
        self.values: dict[Axis, Index] = {}
        groups = list(groups)
        # The innermost outer group is the one of vectors, unless vectors run along a row.
        vector = None
        if groups and not (self.inner and self.in_rows):
            vector = self.new_axis(groups.pop(), "j")
        rows = self.collapsed(groups)
        self.outer_axes = frozenset(axis for axis in (self.part, rows, vector) if axis is not None)
        self.vector = vector
        outermost = "" if self.part is not None else "parallel"

        def around(passes: list[Statement], stores: list[Statement]) -> list[Statement]:
            body: list[Statement] = [*passes, *stores]
            if vector is not None and self.by_rows:
                body = [*passes, Loop(vector, stores, "vector")]
            elif vector is not None:
                body = [Loop(vector, body, f"{outermost} vector".strip() if rows is None else "vector")]
            if rows is not None:
                body = [Loop(rows, body, outermost or "serial")]
            return body if self.part is None else [Loop(self.part, body, "parallel")]

        return around

    # A reduction to few numbers has no outer loop that would be worth dividing among threads. It is done in parts, and
    # then the results of the parts are reduced. They are the same parts however many threads there are.

    def count_of_parts(self, outer: Sequence[list[Axis]]) -> int:
        reductions = self.reductions()
        once = bool(reductions) and all(self.time[x] == 1 for x in reductions)
        if not once or any(self.time[x] for x in self.stored if self.level(x) == FULL):
            return 1
        extents = [axis.extent for group in outer for axis in group]
        short = 1 if self.short_axis is None else self.short_axis.extent
        kept, reduced = short * math.prod(extents), math.prod(axis.extent for axis in self.inner)
        vectors = 1 if self.in_rows or not outer else math.prod(axis.extent for axis in outer[-1])
        tasks = kept // vectors * (1 if self.by_rows else -(-vectors // 128))
        if kept * reduced < 2 * PART or tasks >= ENOUGH_TASKS:
            return 1
        length = math.prod(axis.extent for axis in self.inner_groups[0])
        most = min(MOST_PARTS, kept * reduced // PART)
        return max(parts for parts in range(1, most + 1) if length % parts == 0)

    def write_in_parts(self, outer: Sequence[list[Axis]], parts: int) -> list[Kernel]:
        reductions = self.reductions()
        kept = math.prod(axis.extent for axis in self.cluster.outer)
        partial = {
            x: Buffer(parts * kept, collecting_dtype(self.definition[x]), f"parts{number}")
            for number, x in enumerate(reductions)
        }
        self.part = Axis(parts, "p")
        loops = self.outer_loops(outer)
        body = self.passes()
        stores: list[Statement] = [
            Store(partial[x], axis_index(self.part) * kept + self.outer_place(), self.reduced[x, number])
            for number in self.each_element()
            for x in reductions
        ]
        first = finished(loops(body, stores))

        self.part, self.by_rows = None, False
        self.memo.clear()
        loops = self.outer_loops(outer)
        part = Axis(parts, "p")
        collected: list[Statement] = []
        for number in self.each_element():
            place = axis_index(part) * kept + self.outer_place()
            for x in reductions:
                dtype, operation = collecting_dtype(self.definition[x]), REDUCTIONS[self.definition[x].primitive]
                first_value, name = neutral(operation, dtype), f"s{len(collected)}"
                collector = Accumulator(operation, dtype, first_value, self.outer_axes, name)
                self.reduced[x, number] = accumulated(collector)
                collected.append(Accumulate(collector, load(partial[x], place)))
        gather = Loop(part, collected, "serial" if self.outer_axes else "vector")
        return [first, finished(loops([gather], self.outer_stores()))]

    def outer_place(self) -> Index:
        """The number of the outer index, when all of them are counted in order."""
        outer = self.cluster.outer
        return flatten([self.values[axis] for axis in outer], [axis.extent for axis in outer])

    def reductions(self) -> list[Variable]:
        return [x for x in self.definition if is_reduction(self.definition[x])]

    # Axes

    def merged_groups(self) -> list[list[Axis]]:
        """The axes, neighbours together where all that is read lies in memory as if they were one."""
        groups: list[list[Axis]] = []
        for axis in self.cluster.axes:
            if groups and self.may_merge(groups[-1][-1], axis):
                groups[-1].append(axis)
            else:
                groups.append([axis])
        return groups

    def may_merge(self, first: Axis, second: Axis) -> bool:
        cluster = self.cluster
        if (first in cluster.inner) is not (second in cluster.inner) or {first, second} & cluster.counted:
            return False
        for read in (*cluster.reads, *cluster.constant_reads):
            if read.index is not None:
                place = flatten(read.index, read.variable.shape)
                # What is looked up is a read of its own.
                factors = place.own_factor(first), place.own_factor(second)
                if None in factors or factors[0] != factors[1] * second.extent:  # type: ignore[operator]
                    return False
        # Of a part of an array, or a result with fewer axes, or others between these, elements are not neighbours.
        stored = self.stored if cluster.inner else [x for x in self.stored if x in self.fuser.parts]
        return all(self.contiguous(x, first, second) for x in stored)

    def contiguous(self, x: Variable, first: Axis, second: Axis) -> bool:
        index = self.cluster.index(x.shape, self.cluster.level[self.definition[x]])
        assert index is not None
        _, place = self.destination(x, index)
        return place.factor(first) == (place.factor(second) or 0) * second.extent

    def new_axis(self, group: Sequence[Axis], name: str) -> Axis:
        """One axis in place of a group."""
        extents = [axis.extent for axis in group]
        merged = Axis(math.prod(extents), name)
        self.values |= zip(group, unflatten(axis_index(merged), extents), strict=True)
        return merged

    def inner_axis(self, group: Sequence[Axis], number: int, name: str) -> Axis:
        """An axis for a group of inner ones; of the first group, only what belongs to one part."""
        if self.part is None or number > 0:
            return self.new_axis(group, name)
        extents = [axis.extent for axis in group]
        axis = Axis(math.prod(extents) // self.part.extent, name)
        place = axis_index(self.part) * axis.extent + axis_index(axis)
        self.values |= zip(group, unflatten(place, extents), strict=True)
        return axis

    def collapsed(self, groups: Sequence[Sequence[Axis]]) -> Axis | None:
        """One axis for all outer loops, so that there is enough to be divided among threads."""
        axes = [axis for group in groups for axis in group]
        return self.new_axis(axes, "i") if axes else None

    def index(self, shape: Sequence[int], level: str) -> Indices:
        index = self.cluster.index(shape, level)
        assert index is not None
        return tuple(i.replaced(self.values) for i in index)

    # Passes

    def set_times(self) -> None:
        """In which pass through the inner axes each full member is computed, and after how many passes each other one
        is known."""
        for equation in self.members:
            before = [self.time[x] for x in self.member_operands(equation)]
            time = max(before, default=0)
            if is_reduction(equation):
                time += 1
            for x in equation.results:
                self.time[x] = time
        # What could be computed early, but is wanted late, is computed late, and need not be kept.
        wanted: dict[Variable, int] = {}
        for equation in reversed(self.members):
            for x in equation.results:
                if self.level(x) == FULL and x in wanted and x not in self.stored:
                    self.time[x] = wanted[x]
            time = min(self.time[x] for x in equation.results) - is_reduction(equation)
            for x in self.member_operands(equation):
                wanted[x] = min(wanted.get(x, time), time)

    def member_operands(self, equation: Equation) -> list[Variable]:
        """The members that an equation reads, seen through what is computed where it is read."""
        found, todo = [], list(equation.operands)
        while todo:
            x = todo.pop()
            if type(x) is Variable and x in self.definition:
                found.append(x)
            elif type(x) is Variable and x in self.fuser.inlined:
                todo += self.fuser.inlined[x].operands
        return found

    def level(self, x: Variable) -> str:
        return self.cluster.level[self.definition[x]]

    def outer_stores(self) -> list[Statement]:
        """What is stored when the reductions of one outer index are done."""
        outer = [x for x in self.stored if self.cluster.inner and self.level(x) == OUTER]
        return [store for _ in self.each_element() for x in outer for store in self.store(x, -1)]

    def count_of_passes(self) -> int:
        """How often the inner axes are gone through."""
        full = [self.time[x] + 1 for x in self.stored if self.level(x) == FULL]
        return max([self.time[x] for x in self.reductions()] + full, default=1)

    def passes(self) -> list[Statement]:
        """The loops for one outer index."""
        if self.by_rows:
            return passes_by_rows(self)
        cluster = self.cluster
        if not cluster.inner:
            stores: list[Statement] = []
            for _ in self.each_element():
                self.compute_members(0)
                stores += [store for x in self.stored for store in self.store(x, 0)]
            return stores
        full = [x for x in self.stored if self.level(x) == FULL]
        reductions = self.reductions()
        count = self.count_of_passes()
        bodies: list[list[Statement]] = []
        loops: list[list[Axis]] = []
        saved: list[dict[Axis, Index]] = []
        outer = dict(self.values)
        for number in range(count):
            self.values = dict(outer)
            loops.append(
                [
                    self.inner_axis(group, n, f"k{number}" if n == 0 else f"k{number}_{n}")
                    for n, group in enumerate(self.inner_groups)
                ]
            )
            saved.append(self.values)
            body: list[Statement] = []
            for _ in self.each_element():
                self.compute_members(number)
                new = [x for x in full if self.time[x] == number]
                body += [store for x in new for store in self.store(x, number)]
                body += [self.collect(x, number, loops[-1]) for x in reductions if self.time[x] == number + 1]
            bodies.append(body)
        for x in self.kept_in_turn():
            number = self.time[x]
            self.values = saved[number]
            place = self.place_in_row(loops[number])
            value: Any = self.member(x, number)
            bodies[number].append(Store(self.kept[x], place, value))
        written: list[Statement] = []
        for axes, body in zip(loops, bodies, strict=True):
            if body:
                written += self.nested(axes, body)
        self.values = outer
        return written

    def compute_members(self, number: int) -> None:
        """Compute what is new in a pass in the order of the Program, since it may be longer than recursion goes
        deep."""
        for x, equation in self.definition.items():
            is_new = self.time[x] == number and not is_reduction(equation)
            if is_new and (self.level(x) == FULL or not self.cluster.inner):
                self.member(x, number)

    def kept_in_turn(self) -> Iterator[Variable]:
        """The values to keep; to compute one, others may have to be kept."""
        done = 0
        while done < len(self.kept):
            yield list(self.kept)[done]
            done += 1

    def place_in_row(self, axes: Sequence[Axis]) -> Index:
        return flatten([axis_index(axis) for axis in axes], [axis.extent for axis in axes])

    def store(self, x: Variable, number: int) -> list[Store]:
        level = self.level(x)
        value: Any = self.member(x, number) if level == FULL or not self.cluster.inner else self.outer_value(x)
        buffer, place = self.destination(x, self.index(x.shape, level))
        parts = parts_of(value)
        return [Store(buffer, place * len(parts) + number, part) for number, part in enumerate(parts)]

    def destination(self, x: Variable, index: Indices) -> tuple[Buffer, Index]:
        """Where the element of a result at an index is stored."""
        part = self.fuser.parts.get(x)
        if part is not None:
            x, index = part.whole, part.in_whole(index)
        return self.buffers[x], flatten(index, x.shape)

    def collect(self, x: Variable, number: int, axes: Sequence[Axis]) -> Accumulate:
        equation = self.definition[x]
        dtype, operation = collecting_dtype(equation), REDUCTIONS[equation.primitive]
        first, name = neutral(operation, dtype), f"s{len(self.reduced)}"
        # One accumulator a loop: each is handed to the one of the loop around it.
        chain = [
            Accumulator(operation, dtype, first, self.outer_axes | frozenset(axes[:depth]), name + "'" * depth)
            for depth in range(len(axes))
        ]
        self.reduced[x, self.element_number], self.chains[chain[-1]] = accumulated(chain[0]), chain
        operand = equation.operands[0]
        value: Any = self.element(operand, self.index(operand.shape, FULL), number)
        return Accumulate(chain[-1], convert(value, dtype))

    def nested(self, axes: Sequence[Axis], body: list[Statement]) -> list[Statement]:
        """Loops around a body, and what it collects handed from each to the one around it."""
        chains = [self.chains[x.accumulator] for x in body if isinstance(x, Accumulate)]
        for depth in range(len(axes) - 1, -1, -1):
            innermost = depth == len(axes) - 1
            body = [Loop(axes[depth], body, "vector" if innermost and self.in_rows else "serial")]
            if depth:
                body += [Accumulate(chain[depth - 1], accumulated(chain[depth])) for chain in chains]
        return body

    # Values

    def member(self, x: Variable, number: int) -> Value:
        """A full member, computed from what it reads, in a pass."""
        equation = self.definition[x]
        return self.computed(
            equation, x, self.index(x.shape, FULL if not self.cluster.inner else self.level(x)), number
        )

    def computed(self, equation: Equation, x: Variable, index: Indices, number: int) -> Value:
        key = equation, index, number
        found = self.memo.get(key)
        if found is None:
            rule = element_rule(equation)
            assert rule is not None, equation.primitive
            readers = [partial(self.element, operand, number=number) for operand in equation.operands]
            found = self.memo[key] = rule(index, readers, equation)
        return found[equation.results.index(x)] if isinstance(found, tuple) else found

    def outer_value(self, x: Variable) -> Value:
        """A member that has one value for each outer index."""
        equation = self.definition[x]
        if is_reduction(equation):
            return convert(self.reduced[x, self.element_number], x.dtype)
        return self.computed(equation, x, self.index(x.shape, OUTER), -1)

    def element(self, x: Any, index: Indices, number: int) -> Value:
        """The element of any operand at an index, in a pass through the inner axes."""
        if type(x) is not Variable:
            number_everywhere: Any = uniform_number(x)
            if number_everywhere is not None:
                if x.dtype.kind == "c":
                    parts = number_everywhere.real, number_everywhere.imag
                    return Complex(*(constant(part, dtypes.real_of(x.dtype)) for part in parts))
                return constant(number_everywhere, x.dtype)
            return self.in_memory(x, index)
        equation = self.fuser.inlined.get(x)
        if equation is not None:  # whoever reads it computes the element that it wants, even if all are stored here
            return self.computed(equation, x, index, number)
        equation = self.definition.get(x)
        if equation is None:
            return self.in_memory(x, index)
        if self.cluster.inner and self.level(x) == OUTER:
            return self.outer_value(x)
        if self.time[x] < number and self.in_rows and self.keeps(x):
            return self.kept_value(x, index)
        return self.computed(equation, x, index, number)

    def in_memory(self, x: Any, index: Indices) -> Value:
        buffer, place = self.buffers[x], flatten(index, x.shape)
        if self.square is not None and x.dtype.kind != "c":
            return self.square.load(buffer, place)
        if x.dtype.kind == "c":
            return Complex(load(buffer, place * 2), load(buffer, place * 2 + 1))
        return load(buffer, place)

    def kept_value(self, x: Variable, index: Indices) -> Value:
        if x in self.stored:
            return self.in_memory(x, index)
        buffer = self.kept.get(x)
        if buffer is None:
            buffer = self.kept[x] = Buffer(
                math.prod(axis.extent for axis in self.inner), x.dtype, f"row{len(self.kept)}", True
            )
        inner = [self.values[axis] for axis in self.inner]
        return load(buffer, flatten(inner, [axis.extent for axis in self.inner]))

    def keeps(self, x: Variable) -> bool:
        """Whether a value of an earlier pass is kept, rather than computed once more."""
        if x in self.stored or x in self.kept:
            return True
        size = math.prod(axis.extent for axis in self.inner) * x.dtype.itemsize
        if x.dtype.kind == "c" or self.cost_of(x) < KEEP_FROM or size > LARGEST_ROW or size > self.room:
            return False
        self.room -= size
        return True

    def cost_of(self, x: Variable) -> int:
        found = self.cost.get(x)
        if found is None:
            equation = self.definition[x]
            found = 0 if movement_rule(equation) else 1 if equation.primitive in QUICK else 8
            for y in self.member_operands(equation):
                if self.level(y) == FULL and not (y in self.stored and self.time[y] < self.time[x]):
                    found += self.cost_of(y)
            self.cost[x] = found
        return found
