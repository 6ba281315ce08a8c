"""Kernels as LLVM code.

The code is text, with vectors written out: what a vector loop does, it does for `lanes` neighbours at a time. LLVM only
has to choose instructions and registers, which is quick, and nothing depends on what its optimizer recognises.

Here are the loops and statements; `values.py` and `interleaved.py` write what is in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy

from funcgrad.compiler.expressions import INT64, UNKNOWN_EXTENT, Accumulator, Buffer, Expression, computing_dtype
from funcgrad.compiler.interleaved import InterleavedWriter
from funcgrad.compiler.loops import (
    Accumulate,
    Kernel,
    Loop,
    Prefetch,
    Statement,
    Store,
    Turn,
    When,
    expressions_in,
    loaded_buffers,
    statements,
)
from funcgrad.compiler.module import Module, has_masks
from funcgrad.compiler.operations import (
    BINARY_WRITERS,
    Level,
    memory_type,
    number_text,
    register_type,
    vector_constant,
)

MOST_LANES = 128
CACHE_LINE = 64  # bytes
LITTLE_WORK = 10  # operations
REGISTERS_AT_A_TIME = 2  # vectors of two registers: the second one works while the first one waits


def running_accumulators(loop: Loop) -> set[Accumulator]:
    """Those accumulators of a loop of which it uses what they have come to so far."""
    own = {x.accumulator for x in loop.body if isinstance(x, Accumulate)}
    return own and {x.payload for x in expressions_in(loop.body) if x.operation == "accumulated"} & own


def kernel_text(module: Module, kernel: Kernel, symbol: str) -> str:
    """A kernel as the function `void symbol(ptr context, i64 low, i64 high)`.

    `context` points to the addresses of the arguments. Of a parallel loop the function does the part from low up to
    high; a kernel without one ignores both.
    """
    return KernelWriter(module, kernel, symbol).text()


class KernelWriter(InterleavedWriter):
    """Writes one kernel."""

    def __init__(self, writer: Module, kernel: Kernel, symbol: str):
        super().__init__(writer)
        self.kernel, self.symbol = kernel, symbol
        loaded = loaded_buffers(kernel)
        self.changing = {x.buffer for x in statements(kernel.body) if isinstance(x, Store)} & loaded
        self.changing |= {x.target for x in statements(kernel.body) if isinstance(x, Turn)}

    def text(self) -> str:
        lines = self.levels[0].lines
        for place, buffer in enumerate(self.kernel.arguments):
            slot = self.line(f"getelementptr ptr, ptr %context, i64 {place}")
            self.addresses[buffer] = self.line(f"load ptr, ptr {slot}, align 8")
        for buffer in self.local_buffers():
            kind = memory_type(buffer.dtype)
            self.addresses[buffer] = self.line(f"alloca [{buffer.size} x {kind}], align 64")
        self.write(self.kernel.body)
        attributes = "#1" if self.goes_across_lines() else "#0"
        header = f"define internal void @{self.symbol}(ptr %context, i64 %low, i64 %high) {attributes} {{\nentry:"
        return "\n".join([header, *lines, "  ret void", "}"])

    def goes_across_lines(self) -> bool:
        """Whether the kernel hardly does more than read the neighbours of elements.

        Vectors as long as a line of the cache would be parts of two lines each, but for one of the neighbours. Of
        vectors of half the length, every second one is in one line.
        """
        target, work = self.writer.target, 0
        if target.vector_bytes < CACHE_LINE:
            return False
        seen: dict[tuple[Buffer, Any], set[int]] = {}
        for x in expressions_in(self.kernel.body):
            work += x.operation not in ("constant", "index", "load", "accumulated")
            if x.operation == "load":
                buffer, index = x.payload
                if all(factor != 1 for _, factor in index.terms):
                    continue
                seen.setdefault((buffer, index.terms), set()).add(index.constant % target.lanes(x.dtype))
        shifted = sum(len(places) for places in seen.values()) - len(seen)
        return shifted > 0 and work <= LITTLE_WORK

    def local_buffers(self) -> list[Buffer]:
        written = [x.buffer for x in statements(self.kernel.body) if isinstance(x, Store) and x.buffer.local]
        turned = [x.target for x in statements(self.kernel.body) if isinstance(x, Turn)]
        return list(dict.fromkeys([*written, *turned]))

    # Statements

    def write(self, body: Sequence[Statement]) -> None:
        stores: list[Store] = []
        for statement in body:
            if isinstance(statement, Store):
                stores.append(statement)
            elif isinstance(statement, Turn):
                self.write_turn(statement)
            elif isinstance(statement, Prefetch):
                self.write_prefetch(statement)
            elif isinstance(statement, Loop | When):
                self.write_stores(stores)
                stores = []
                if isinstance(statement, Loop):
                    self.write_loop(statement)
                else:
                    self.write_when(statement)
        self.write_stores(stores)

    def write_stores(self, stores: Sequence[Store]) -> None:
        # All values before the first store, since a result may take the place of an argument.
        names = [self.value(x.value) for x in stores]
        self.write_all(stores, names)
        self.forget_changed()

    def forget_changed(self) -> None:
        """What was read of memory that the kernel writes has to be read again."""
        if self.changing:
            values = self.levels[-1].values
            for x in [x for x in values if isinstance(x, Expression) and self.may_change(x)]:
                del values[x]

    def write_when(self, when: When) -> None:
        condition, _ = self.value(when.condition)
        inside, after, level = self.label(), self.label(), self.levels[-1]
        self.do(f"br i1 {condition}, label %{inside}, label %{after}")
        self.start_block(inside)
        values = dict(level.values)
        self.write(when.body)
        level.values = values  # what was written in the block is not known after it
        self.forget_changed()
        self.do(f"br label %{after}")
        self.start_block(after)

    def write_prefetch(self, soon: Prefetch) -> None:
        kind, size = memory_type(soon.buffer.dtype), soon.buffer.dtype.itemsize
        function = self.writer.intrinsic("llvm.prefetch.p0", "void", ["ptr", "i32", "i32", "i32"])
        place = self.place(soon.buffer, soon.index)
        for count in range(0, self.lanes, max(1, CACHE_LINE // size)):
            line = self.moved(place, kind, count, self.levels[-1])
            self.do(f"call void @{function}(ptr {line}, i32 {int(soon.to_write)}, i32 3, i32 1)")

    def write_turn(self, turn: Turn) -> None:
        """A square is turned in registers: its quarters change places, then the quarters of each quarter."""
        kind, size, alignment = memory_type(turn.source.dtype), turn.size, turn.source.dtype.itemsize
        place, target, level = self.place(turn.source, turn.index), self.addresses[turn.target], self.levels[-1]
        vector = f"<{size} x {kind}>"
        rows = [
            self.line(f"load {vector}, ptr {self.moved(place, kind, row * turn.stride, level)}, align {alignment}")
            for row in range(size)
        ]
        distance = size // 2
        while distance:
            for row in range(size):
                if row & distance:
                    continue
                one, two = rows[row], rows[row + distance]
                for place_in_pair, upper in ((row, 0), (row + distance, distance)):
                    order = ", ".join(
                        f"i32 {(lane | upper) if not lane & distance else size + lane - distance + upper}"
                        for lane in range(size)
                    )
                    rows[place_in_pair] = self.line(
                        f"shufflevector {vector} {one}, {vector} {two}, <{size} x i32> <{order}>"
                    )
            distance //= 2
        for row, name in enumerate(rows):
            self.do(f"store {vector} {name}, ptr {self.moved(target, kind, row * size, level)}, align {alignment}")

    def write_loop(self, loop: Loop) -> None:
        parallel, vector = loop.kind.startswith("parallel"), loop.kind.endswith("vector")
        lanes = self.lanes_of(loop) if vector and self.vector_axis is None else 1
        collected = [x for x in loop.body if isinstance(x, Accumulate)]
        extent = loop.axis.extent
        rest = extent % lanes
        whole = extent - rest
        masked = rest > 0 and self.may_mask(loop)
        if loop.bounds is not None:
            low, high = (self.value(x)[0] for x in loop.bounds)
            self.write_loop_part(loop, low, high, 1, [], None)
            return
        if extent == UNKNOWN_EXTENT:
            self.write_unknown_loop(loop, lanes)
            return
        if parallel:
            if rest == 0:
                self.write_loop_part(loop, "%low", "%high", lanes, [], None)
                return
            short = self.line(f"icmp slt i64 %high, {whole}")
            middle = self.line(f"select i1 {short}, i64 %high, i64 {whole}")
            self.write_loop_part(loop, "%low", middle, lanes, [], None)
            if masked:
                self.write_last(loop, whole, rest, [], None, is_last="%high")
            else:
                self.write_loop_part(loop, middle, "%high", 1, [], None)
            return
        values: list[str] | None = None
        if whole:
            values = self.write_loop_part(loop, "0", str(whole), lanes, collected, None)
        if masked:
            values = self.write_last(loop, whole, rest, collected, values)
        elif rest or not extent:
            values = self.write_loop_part(loop, str(whole), str(extent), 1, collected, values)
        for statement, name in zip(collected, values or [], strict=True):
            self.keep_accumulated(statement.accumulator, name)

    def write_unknown_loop(self, loop: Loop, lanes: int) -> None:
        """A parallel loop over arrays of any length: vectors as long as they fit, and then what is left of one."""
        count = self.line("sub i64 %high, %low")
        left = self.line(f"urem i64 {count}, {lanes}")
        middle = self.line(f"sub i64 %high, {left}")
        self.write_loop_part(loop, "%low", middle, lanes, [], None)
        if lanes == 1 or not self.may_mask(loop):
            self.write_loop_part(loop, middle, "%high", 1, [], None)
            return
        block, after = self.label(), self.label()
        level = Level(loop.axis, middle, lanes)
        self.levels.append(level)
        self.vector_axis, self.lanes, self.present, self.block = loop.axis, lanes, 0, block
        numbers = ", ".join(f"i64 {lane}" for lane in range(lanes))
        limit = self.wide(left, INT64, level)
        self.mask = f"<{lanes} x i1> " + self.line(f"icmp ult <{lanes} x i64> <{numbers}>, {limit}")
        self.write(loop.body)
        self.levels.pop()
        self.vector_axis, self.lanes, self.mask = None, 1, ""
        some = self.line(f"icmp ne i64 {left}, 0")
        self.do(f"br i1 {some}, label %{block}, label %{after}")
        self.levels[-1].lines += [f"{block}:", *level.lines]
        self.do(f"br label %{after}")
        self.start_block(after)

    def may_mask(self, loop: Loop) -> bool:
        """Whether the CPU can leave out lanes of all that a vector loop loads and stores."""
        if running_accumulators(loop):
            return False
        sizes = {x.dtype.itemsize for x in expressions_in(loop.body) if x.operation == "load" and loop.axis in x.axes}
        sizes |= {x.buffer.dtype.itemsize for x in statements(loop.body) if isinstance(x, Store)}
        return all(has_masks(self.writer.target, size) for size in sizes)

    def write_last(
        self,
        loop: Loop,
        first: int,
        count: int,
        collected: list[Accumulate],
        start: list[str] | None,
        is_last: str = "",
    ) -> list[str]:
        """The last elements of a vector loop, too few for a vector: one whose other lanes are left out.

        With `is_last`, only where that is the end of the loop.
        """
        block, after = self.label(), self.label()
        self.lanes, self.present = 1 << (count - 1).bit_length(), count
        level = Level(loop.axis, str(first), self.lanes)
        self.levels.append(level)
        self.vector_axis = loop.axis if self.lanes > 1 else None
        if count < self.lanes:
            flags = ", ".join(f"i1 {'true' if lane < count else 'false'}" for lane in range(self.lanes))
            self.mask = f"<{self.lanes} x i1> <{flags}>"
        if is_last:
            self.block = block
        self.write(loop.body)
        values = []
        for statement in collected:
            accumulator, dtype = statement.accumulator, statement.accumulator.dtype
            name = self.operand(statement.value, self.lanes)
            if self.mask:
                kind, neutral = register_type(dtype, self.lanes), number_text(accumulator.initial)
                neutral = vector_constant(dtype, neutral, self.lanes)
                name = self.line(f"select {self.mask}, {kind} {name}, {kind} {neutral}")
            values.append((accumulator, name))
        self.levels.pop()
        if is_last:
            here = self.line(f"icmp eq i64 {is_last}, {first + count}")
            self.do(f"br i1 {here}, label %{block}, label %{after}")
            self.levels[-1].lines.append(f"{block}:")
        self.levels[-1].lines += level.lines
        lanes, self.lanes, self.vector_axis, self.mask = self.lanes, 1, None, ""
        if is_last:
            self.do(f"br label %{after}")
            self.start_block(after)
        names = [self.across(accumulator, name, lanes) for accumulator, name in values]
        if start is None:
            return names
        return [
            self.combine(accumulator.operation, accumulator.dtype, old, new, 1)
            for (accumulator, _), old, new in zip(values, start, names, strict=True)
        ]

    def keep_accumulated(self, accumulator: Accumulator, name: str) -> None:
        lanes = self.lanes if self.vector_axis in accumulator.axes and name[0] == "%" else 1
        self.levels[-1].values["accumulated", accumulator] = name, lanes

    def write_loop_part(
        self, loop: Loop, low: str, high: str, lanes: int, collected: list[Accumulate], start: list[str] | None
    ) -> list[str]:
        """A loop from low up to high in steps of `lanes`; gives what its accumulators have come to."""
        known = low.isdigit() and high.isdigit()
        if known and int(low) >= int(high):
            return start or [number_text(x.accumulator.initial) for x in collected]
        if known and int(high) - int(low) == lanes > 1 and not running_accumulators(loop):
            return self.write_last(loop, int(low), lanes, collected, start)
        before, head, after = self.block, self.label(), self.label()
        enter = f"br label %{head}"
        if not known:
            some = self.line(f"icmp slt i64 {low}, {high}")
            enter = f"br i1 {some}, label %{head}, label %{after}"
        counter, variable = self.name(), self.name()
        level = Level(loop.axis, variable, lanes)
        self.levels.append(level)
        if lanes > 1:
            self.vector_axis, self.lanes, self.present = loop.axis, lanes, lanes
        self.block = head
        phis = [self.name() for _ in collected]
        inside = [self.lanes if self.depends_on_vector(x) else 1 for x in collected]
        running = running_accumulators(loop) if lanes > 1 else ()
        totals: dict[Accumulator, str] = {}
        for statement, phi, width in zip(collected, phis, inside, strict=True):
            accumulator, name = statement.accumulator, phi  # so far
            if accumulator in running:
                name, totals[accumulator] = self.write_running(statement, phi)
            level.values["accumulated", accumulator] = name, width
        self.write(loop.body)
        after_body = []
        for statement, phi, width in zip(collected, phis, inside, strict=True):
            accumulator = statement.accumulator
            if accumulator in totals:
                after_body.append(
                    self.combine(accumulator.operation, accumulator.dtype, phi, totals[accumulator], width)
                )
                continue
            name, value_lanes = self.value(statement.value)
            if value_lanes != width:
                name = self.wide(name, accumulator.dtype, self.levels[-1])
            after_body.append(self.combine(accumulator.operation, accumulator.dtype, phi, name, width))
        following = self.line(f"add nsw i64 {variable}, {lanes}")
        again = self.line(f"icmp slt i64 {following}, {high}")
        self.do(f"br i1 {again}, label %{head}, label %{after}")
        latch = self.block
        self.levels.pop()
        # Entered only now: what the body does not change was written before.
        heads = [f"  {enter}", f"{head}:", f"  {counter} = phi i64 [ {low}, %{before} ], [ {following}, %{latch} ]"]
        for place, (statement, phi, width) in enumerate(zip(collected, phis, inside, strict=True)):
            accumulator = statement.accumulator
            first = vector_constant(accumulator.dtype, number_text(accumulator.initial), width)
            if start is not None:
                first = start[place]
            kind = register_type(accumulator.dtype, width)
            heads.append(f"  {phi} = phi {kind} [ {first}, %{before} ], [ {after_body[place]}, %{latch} ]")
        # A frozen variable is nothing that LLVM knows how to make another one of, which takes it time for little gain.
        heads.append(f"  {variable} = freeze i64 {counter}")
        self.levels[-1].lines += heads + level.lines
        self.start_block(after)
        if lanes > 1:
            self.vector_axis, self.lanes = None, 1
            after_body = [
                self.lane(x.accumulator.dtype, name, width, 0)
                if x.accumulator in totals
                else self.across(x.accumulator, name, width)
                for x, name, width in zip(collected, after_body, inside, strict=True)
            ]
        return after_body

    def write_running(self, statement: Accumulate, so_far: str) -> tuple[str, str]:
        """For each lane what an accumulator has come to before it, and what all lanes add up to, in all of them.

        Each lane takes in the one before it, then the one two before it, then four. `so_far` comes in last, so that a
        vector need not wait for the one before it until it is nearly done.
        """
        accumulator, dtype, lanes = statement.accumulator, statement.accumulator.dtype, self.lanes
        kind, neutral = register_type(dtype, lanes), vector_constant(dtype, number_text(accumulator.initial), lanes)

        def moved(name: str, count: int) -> str:
            order = ", ".join(f"i32 {lanes + x - count if x >= count else x}" for x in range(lanes))
            return self.line(f"shufflevector {kind} {neutral}, {kind} {name}, <{lanes} x i32> <{order}>")

        name, distance = self.operand(statement.value, lanes), 1
        while distance < lanes:
            name = self.combine(accumulator.operation, dtype, moved(name, distance), name, lanes)
            distance *= 2
        before = self.combine(accumulator.operation, dtype, so_far, moved(name, 1), lanes)
        order = ", ".join([f"i32 {lanes - 1}"] * lanes)
        return before, self.line(f"shufflevector {kind} {name}, {kind} poison, <{lanes} x i32> <{order}>")

    def lane(self, dtype: numpy.dtype, name: str, lanes: int, number: int) -> str:
        """One lane of a vector."""
        return name if lanes == 1 else self.line(f"extractelement {register_type(dtype, lanes)} {name}, i32 {number}")

    def depends_on_vector(self, statement: Accumulate) -> bool:
        return self.vector_axis is not None and (
            self.vector_axis in statement.value.axes
            or self.vector_axis in statement.accumulator.axes
            or self.levels[-1].axis is self.vector_axis
        )

    def across(self, accumulator: Accumulator, name: str, lanes: int) -> str:
        """Bring the lanes of a vector together: halves first, then halves of those."""
        dtype, operation = accumulator.dtype, accumulator.operation
        if lanes > 1 and dtype.kind == "f" and operation in ("max", "min"):
            # NaN is looked for once, and not in each step.
            one, two = self.half(dtype, name, lanes, 0), self.half(dtype, name, lanes, 1)
            kind = register_type(dtype, lanes // 2)
            missing = self.line(f"fcmp uno {kind} {one}, {two}")
            if lanes > 2:
                bits = self.line(f"bitcast <{lanes // 2} x i1> {missing} to i{lanes // 2}")
                missing = self.line(f"icmp ne i{lanes // 2} {bits}, 0")
            found = self.across_any(f"quick_{operation}", dtype, name, lanes)
            kind, number = register_type(dtype), f"i{8 * dtype.itemsize}"
            ones = self.line(f"sext i1 {missing} to {number}")  # which are a NaN
            bits = self.line(f"bitcast {kind} {found} to {number}")
            return self.line(f"bitcast {number} {self.line(f'or {number} {bits}, {ones}')} to {kind}")
        return self.across_any(operation, dtype, name, lanes)

    def across_any(self, operation: str, dtype: numpy.dtype, name: str, lanes: int) -> str:
        while lanes > 1:
            halves = [self.half(dtype, name, lanes, number) for number in (0, 1)]
            lanes //= 2
            name = self.combine(operation, dtype, *halves, lanes)
        return name

    def half(self, dtype: numpy.dtype, name: str, lanes: int, number: int) -> str:
        """The first or the second half of the lanes of a vector."""
        count = lanes // 2
        if count == 1:
            return self.lane(dtype, name, lanes, number)
        kind = register_type(dtype, lanes)
        order = ", ".join(f"i32 {count * number + lane}" for lane in range(count))
        return self.line(f"shufflevector {kind} {name}, {kind} poison, <{count} x i32> <{order}>")

    def combine(self, operation: str, dtype: numpy.dtype, x: str, y: str, lanes: int) -> str:
        return BINARY_WRITERS[operation](self, self.levels[-1], dtype, lanes, x, y)

    def lanes_of(self, loop: Loop) -> int:
        """How many neighbours a vector loop takes at a time."""
        widest, work = 1, 0
        for x in expressions_in(loop.body):
            if x.operation not in ("constant", "index", "quotient", "remainder", "bounded") and loop.axis in x.axes:
                widest, work = max(widest, computing_dtype(x.dtype).itemsize), work + 1
        target = self.writer.target
        registers = 1 if running_accumulators(loop) else REGISTERS_AT_A_TIME
        if registers > 1 and work <= LITTLE_WORK and any(isinstance(x, Accumulate) for x in loop.body):
            registers = target.vector_registers // 4  # sums that wait for each other; and in many parts they are exact
        lanes = max(1, min(MOST_LANES, registers * target.vector_bytes // widest))
        # One vector whose last lanes are left out is better than several small ones.
        enough = 2 * loop.axis.extent - 1 if self.may_mask(loop) else loop.axis.extent
        while lanes > max(enough, 1):
            lanes //= 2
        return lanes
