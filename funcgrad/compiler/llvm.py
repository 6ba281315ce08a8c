"""Kernels as LLVM code.

The code is text, with vectors written out: what a vector loop does, it does for `lanes` neighbours at a time. LLVM only
has to choose instructions and registers, which is quick, and nothing depends on what its optimizer recognises.

There is one idea in it. Every expression is written at the outermost loop that knows all loop variables it depends
on, and what does not depend on the variable of a vector loop stays a single number until a vector needs it. So
whatever does not change in a loop is computed before the loop, without any search for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy

from funcgrad.compiler.loops import (
    INT64,
    UNKNOWN_EXTENT,
    Accumulate,
    Accumulator,
    Axis,
    Buffer,
    Expression,
    Index,
    Kernel,
    Loop,
    Statement,
    Store,
    computing_dtype,
    expressions_in,
    loaded_buffers,
    parts,
    statements,
)
from funcgrad.compiler.module import Module, has_masks, mangled
from funcgrad.compiler.operations import (
    BINARY_WRITERS,
    WRITERS,
    Instructions,
    Level,
    memory_type,
    number_text,
    register_type,
    select_text,
    vector_constant,
)

MOST_LANES = 128
LITTLE_WORK = 10  # operations
REGISTERS_AT_A_TIME = 2  # vectors of two registers: the second one works while the first one waits


def kernel_text(module: Module, kernel: Kernel, symbol: str) -> str:
    """A kernel as the function `void symbol(ptr context, i64 low, i64 high)`.

    `context` points to the addresses of the arguments. Of a parallel loop the function does the part from low up to
    high; a kernel without one ignores both.
    """
    return KernelWriter(module, kernel, symbol).text()


class KernelWriter(Instructions):
    """Writes one kernel."""

    def __init__(self, writer: Module, kernel: Kernel, symbol: str):
        super().__init__(writer)
        self.kernel, self.symbol = kernel, symbol
        self.block = "entry"
        self.addresses: dict[Buffer, str] = {}
        self.vector_axis: Axis | None = None
        self.lanes = 1
        self.mask = ""  # of the last vector of a loop, which has lanes that are left out
        loaded = loaded_buffers(kernel)
        self.changing = {x.buffer for x in statements(kernel.body) if isinstance(x, Store)} & loaded
        self.changes: dict[Expression, bool] = {}

    def text(self) -> str:
        lines = self.levels[0].lines
        for place, buffer in enumerate(self.kernel.arguments):
            slot = self.line(f"getelementptr ptr, ptr %context, i64 {place}")
            self.addresses[buffer] = self.line(f"load ptr, ptr {slot}, align 8")
        for buffer in self.local_buffers():
            kind = memory_type(buffer.dtype)
            self.addresses[buffer] = self.line(f"alloca [{buffer.size} x {kind}], align 64")
        self.write(self.kernel.body)
        header = f"define internal void @{self.symbol}(ptr %context, i64 %low, i64 %high) #0 {{\nentry:"
        return "\n".join([header, *lines, "  ret void", "}"])

    def local_buffers(self) -> list[Buffer]:
        found = [x.buffer for x in statements(self.kernel.body) if isinstance(x, Store) and x.buffer.local]
        return list(dict.fromkeys(found))

    # Lines

    def label(self) -> str:
        self.count += 1
        return f"L{self.count}"

    def do(self, text: str) -> None:
        self.levels[-1].lines.append("  " + text)

    def start_block(self, label: str) -> None:
        self.levels[-1].lines.append(f"{label}:")
        self.block = label

    # Statements

    def write(self, body: Sequence[Statement]) -> None:
        stores: list[Store] = []
        for statement in body:
            if isinstance(statement, Store):
                stores.append(statement)
            elif isinstance(statement, Loop):
                self.write_stores(stores)
                stores = []
                self.write_loop(statement)
        self.write_stores(stores)

    def write_stores(self, stores: Sequence[Store]) -> None:
        # All values before the first store, since a result may take the place of an argument.
        names = [self.value(x.value) for x in stores]
        for store, (name, lanes) in zip(stores, names, strict=True):
            self.write_store(store, name, lanes)
        if self.changing:
            values = self.levels[-1].values
            for x in [x for x in values if isinstance(x, Expression) and self.may_change(x)]:
                del values[x]

    def write_store(self, store: Store, name: str, lanes: int) -> None:
        dtype, kind = store.value.dtype, memory_type(store.value.dtype)
        step = store.index.factor(self.vector_axis) if self.vector_axis is not None and self.lanes > 1 else 0
        if lanes == 1 and step != 0:
            name, lanes = self.wide(name, dtype, self.levels[-1]), self.lanes
        if dtype.kind == "b":
            wide = "i8" if lanes == 1 else f"<{lanes} x i8>"
            name = self.line(f"zext {register_type(dtype, lanes)} {name} to {wide}")
        vector = kind if lanes == 1 else f"<{lanes} x {kind}>"
        if step == 1 and lanes > 1 and self.mask:
            function = self.writer.intrinsic(
                f"llvm.masked.store.v{lanes}{mangled(kind)}.p0", "void", [vector, "ptr", "i32", f"<{lanes} x i1>"]
            )
            place = self.place(store.buffer, store.index)
            self.do(f"call void @{function}({vector} {name}, ptr {place}, i32 {dtype.itemsize}, {self.mask})")
            return
        if lanes == 1 or step == 1:
            place = self.place(store.buffer, store.index)
            self.do(f"store {vector} {name}, ptr {place}, align {dtype.itemsize}")
            return
        pointers = self.places(store.buffer, store.index)
        function = self.writer.intrinsic(
            f"llvm.masked.scatter.v{lanes}{mangled(kind)}.v{lanes}p0",
            "void",
            [vector, f"<{lanes} x ptr>", "i32", f"<{lanes} x i1>"],
        )
        mask = self.mask or f"<{lanes} x i1> splat (i1 true)"
        self.do(f"call void @{function}({vector} {name}, <{lanes} x ptr> {pointers}, i32 {dtype.itemsize}, {mask})")

    def write_loop(self, loop: Loop) -> None:
        parallel, vector = loop.kind.startswith("parallel"), loop.kind.endswith("vector")
        lanes = self.lanes_of(loop) if vector and self.vector_axis is None else 1
        collected = [x for x in loop.body if isinstance(x, Accumulate)]
        extent = loop.axis.extent
        rest = extent % lanes
        whole = extent - rest
        masked = rest > 0 and self.may_mask(loop)
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
        self.vector_axis, self.lanes, self.block = loop.axis, lanes, block
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
        self.lanes = 1 << (count - 1).bit_length()
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
        before, head, after = self.block, self.label(), self.label()
        enter = f"br label %{head}"
        if not known:
            some = self.line(f"icmp slt i64 {low}, {high}")
            enter = f"br i1 {some}, label %{head}, label %{after}"
        variable = self.name()
        level = Level(loop.axis, variable, lanes)
        self.levels.append(level)
        if lanes > 1:
            self.vector_axis, self.lanes = loop.axis, lanes
        self.block = head
        phis = [self.name() for _ in collected]
        inside = [self.lanes if self.depends_on_vector(x) else 1 for x in collected]
        for statement, phi, width in zip(collected, phis, inside, strict=True):
            level.values["accumulated", statement.accumulator] = phi, width  # so far
        self.write(loop.body)
        after_body = []
        for statement, phi, width in zip(collected, phis, inside, strict=True):
            accumulator = statement.accumulator
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
        heads = [f"  {enter}", f"{head}:", f"  {variable} = phi i64 [ {low}, %{before} ], [ {following}, %{latch} ]"]
        for place, (statement, phi, width) in enumerate(zip(collected, phis, inside, strict=True)):
            accumulator = statement.accumulator
            first = vector_constant(accumulator.dtype, number_text(accumulator.initial), width)
            if start is not None:
                first = start[place]
            kind = register_type(accumulator.dtype, width)
            heads.append(f"  {phi} = phi {kind} [ {first}, %{before} ], [ {after_body[place]}, %{latch} ]")
        self.levels[-1].lines += heads + level.lines
        self.start_block(after)
        if lanes > 1:
            self.vector_axis, self.lanes = None, 1
            after_body = [
                self.across(x.accumulator, name, width)
                for x, name, width in zip(collected, after_body, inside, strict=True)
            ]
        return after_body

    def depends_on_vector(self, statement: Accumulate) -> bool:
        return self.vector_axis is not None and (
            self.vector_axis in statement.value.axes
            or self.vector_axis in statement.accumulator.axes
            or self.levels[-1].axis is self.vector_axis
        )

    def across(self, accumulator: Accumulator, name: str, lanes: int) -> str:
        """Bring the lanes of a vector together: halves first, then halves of those."""
        dtype = accumulator.dtype
        while lanes > 1:
            lanes //= 2
            kind = register_type(dtype, 2 * lanes)
            halves = []
            for first in (0, lanes):
                order = ", ".join(f"i32 {first + x}" for x in range(lanes))
                shuffled = self.line(f"shufflevector {kind} {name}, {kind} poison, <{lanes} x i32> <{order}>")
                if lanes == 1:
                    shuffled = self.line(f"extractelement <1 x {register_type(dtype)}> {shuffled}, i32 0")
                halves.append(shuffled)
            name = self.combine(accumulator.operation, dtype, halves[0], halves[1], lanes)
        return name

    def combine(self, operation: str, dtype: numpy.dtype, x: str, y: str, lanes: int) -> str:
        return BINARY_WRITERS[operation](self, self.levels[-1], dtype, lanes, x, y)

    def lanes_of(self, loop: Loop) -> int:
        """How many neighbours a vector loop takes at a time."""
        widest, work = 1, 0
        for x in expressions_in(loop.body):
            if x.operation not in ("constant", "index", "quotient", "remainder", "bounded") and loop.axis in x.axes:
                widest, work = max(widest, computing_dtype(x.dtype).itemsize), work + 1
        target = self.writer.target
        registers = REGISTERS_AT_A_TIME
        if work <= LITTLE_WORK and any(isinstance(x, Accumulate) for x in loop.body):
            registers = target.vector_registers // 4  # sums that wait for each other; and in many parts they are exact
        lanes = max(1, min(MOST_LANES, registers * target.vector_bytes // widest))
        # One vector whose last lanes are left out is better than several small ones.
        enough = 2 * loop.axis.extent - 1 if self.may_mask(loop) else loop.axis.extent
        while lanes > max(enough, 1):
            lanes //= 2
        return lanes

    # Values

    def level_of(self, axes: frozenset[Axis]) -> Level:
        """The outermost level that knows the values of all these axes."""
        if axes:
            for level in reversed(self.levels):
                if level.axis in axes:
                    return level
        return self.levels[0]

    def home(self, x: Expression) -> Level:
        """The level at which a value is written: as far outside as may be, if it cannot change in between."""
        if self.changing and self.may_change(x):
            return self.levels[-1]
        level = self.level_of(x.axes)
        if x.accumulators:
            depth = self.levels.index(level)
            for inner in self.levels[depth + 1 :]:
                if any(("accumulated", accumulator) in inner.values for accumulator in x.accumulators):
                    level = inner
        return level

    def may_change(self, x: Expression) -> bool:
        """Whether a value depends on memory that the kernel itself writes."""
        found = self.changes.get(x)
        if found is None:
            found = x.operation == "load" and x.payload[0] in self.changing
            found = self.changes[x] = found or any(map(self.may_change, parts(x)))
        return found

    def value(self, x: Expression) -> tuple[str, int]:
        """The name of a value, and of how many neighbours it is a vector."""
        found = self.known(x)
        if found is None:
            waiting = [x]
            while waiting:  # rather than by recursion, since expressions may be as deep as the user's function is long
                first = waiting[-1]
                missing = [y for y in self.needed(first) if self.known(y) is None]
                if missing:
                    waiting += missing
                    continue
                waiting.pop()
                if self.known(first) is None:
                    level = self.home(first)
                    level.values[first] = self.write_value(first, level)
            found = self.known(x)
            assert found is not None
        return found

    def has_branch(self, x: Expression) -> bool:
        """Whether a value is written with a branch, which only the innermost level can have, where blocks may begin."""
        return x.operation == "rarely" and self.home(x) is self.levels[-1]

    def needed(self, x: Expression) -> Sequence[Expression]:
        """What is written before a value."""
        return (x.operands[0], x.operands[2]) if self.has_branch(x) else parts(x)

    def known(self, x: Expression) -> tuple[str, int] | None:
        if x.operation == "constant":
            return number_text(x), 1
        if x.operation == "accumulated":
            for level in reversed(self.levels):
                found = level.values.get(("accumulated", x.payload))
                if found is not None:
                    return found
        return self.home(x).values.get(x)

    def wide(self, name: str, dtype: numpy.dtype, level: Level) -> str:
        """A vector of copies of one value."""
        if name[0] != "%":
            return vector_constant(dtype, name, self.lanes)
        kind, vector = register_type(dtype), register_type(dtype, self.lanes)
        single = self.line(f"insertelement {vector} poison, {kind} {name}, i32 0", level)
        return self.line(
            f"shufflevector {vector} {single}, {vector} poison, <{self.lanes} x i32> zeroinitializer", level
        )

    def operand(self, x: Expression, lanes: int) -> str:
        """The name of a value as a vector of so many neighbours."""
        name, own = self.value(x)
        if own == lanes:
            return name
        if x.operation == "constant":
            return vector_constant(x.dtype, name, lanes)
        level = self.home(x)
        key = "wide", x, lanes
        found = level.values.get(key)
        if found is None:
            found = level.values[key] = self.wide(name, x.dtype, level), lanes
        return found[0]

    def write_value(self, x: Expression, level: Level) -> tuple[str, int]:
        lanes = self.lanes if self.vector_axis is not None and self.vector_axis in x.axes else 1
        if x.operation == "load":
            return self.write_load(x, level, lanes), lanes
        if x.operation == "index":
            return self.write_index(x.payload, lanes), lanes
        if self.has_branch(x):
            return self.write_branch(x, level, lanes), lanes
        operands = [self.operand(y, lanes) for y in x.operands]
        writer = WRITERS.get(x.operation)
        if writer is None:
            raise NotImplementedError(f"no code for the operation {x.operation!r}")
        return writer(self, level, x, lanes, operands), lanes

    def write_branch(self, x: Expression, level: Level, lanes: int) -> str:
        """Of `rarely`: the rare value is computed in a block of its own, which is passed by if no lane needs it."""
        condition, usual = self.operand(x.operands[0], lanes), self.operand(x.operands[2], lanes)
        some = condition
        if lanes > 1:
            bits = self.line(f"bitcast <{lanes} x i1> {condition} to i{lanes}", level)
            some = self.line(f"icmp ne i{lanes} {bits}, 0", level)
        before, rare, after = self.block, self.label(), self.label()
        self.do(f"br i1 {some}, label %{rare}, label %{after}")
        self.start_block(rare)
        values = dict(level.values)
        name = self.operand(x.operands[1], lanes)
        name = select_text(self, level, x, lanes, [condition, name, usual])
        level.values = values  # what was written in the block is not known after it
        end = self.block
        self.do(f"br label %{after}")
        self.start_block(after)
        return self.line(f"phi {register_type(x.dtype, lanes)} [ {usual}, %{before} ], [ {name}, %{end} ]", level)

    # Indices and memory

    def write_index(self, index: Index, lanes: int) -> str:
        """An index as an i64, or as a vector of them; the sum is built from the outermost loop inward."""
        by_depth: list[list[tuple[Any, int]]] = [[] for _ in self.levels]
        for atom, factor in index.terms:
            axes = frozenset([atom]) if type(atom) is Axis else atom.axes
            by_depth[self.levels.index(self.level_of(axes))].append((atom, factor))
        total, wide = str(index.constant) if index.constant else "", 1
        for level, terms in zip(self.levels, by_depth, strict=True):
            for atom, factor in terms:
                name, own = self.axis_value(atom, level, lanes)
                if factor != 1:
                    kind, number = register_type(INT64, own), vector_constant(INT64, str(factor), own)
                    name = self.once(level, f"mul nsw {kind} {name}, {number}")
                if total:
                    both = max(wide, own)
                    if both > 1 and wide == 1:
                        total = self.spread_index(total, level)
                    if both > 1 and own == 1:
                        name = self.spread_index(name, level)
                    total, wide = self.once(level, f"add nsw {register_type(INT64, both)} {total}, {name}"), both
                else:
                    total, wide = name, own
        total = total or "0"
        return self.spread_index(total, self.levels[-1]) if lanes > 1 and wide == 1 else total

    def once(self, level: Level, text: str) -> str:
        """An instruction that a level needs only once."""
        found = level.values.get(text)
        if found is None:
            found = level.values[text] = self.line(text, level), 1
        return found[0]

    def spread_index(self, name: str, level: Level) -> str:
        if name[0] != "%":
            return vector_constant(INT64, name, self.lanes)
        vector = register_type(INT64, self.lanes)
        single = self.once(level, f"insertelement {vector} poison, i64 {name}, i32 0")
        return self.once(
            level, f"shufflevector {vector} {single}, {vector} poison, <{self.lanes} x i32> zeroinitializer"
        )

    def axis_value(self, atom: Any, level: Level, lanes: int) -> tuple[str, int]:
        if type(atom) is not Axis:
            return self.value(atom)
        if atom is self.vector_axis and lanes > 1:
            steps = "<" + ", ".join(f"i64 {x}" for x in range(lanes)) + ">"
            first = self.spread_index(level.variable, level)
            return self.once(level, f"add nsw {register_type(INT64, lanes)} {first}, {steps}"), lanes
        return level.variable, 1

    def place(self, buffer: Buffer, index: Index, shift: int = 0) -> str:
        """The address of an element; of the first of the neighbours, in a vector loop."""
        kind, name = memory_type(buffer.dtype), self.addresses[buffer]
        by_level: dict[int, list[tuple[Any, int]]] = {}
        for atom, factor in index.terms:
            axes = frozenset([atom]) if type(atom) is Axis else atom.axes
            by_level.setdefault(self.levels.index(self.level_of(axes)), []).append((atom, factor))
        constant = index.constant + shift
        if constant:
            name = self.once(self.levels[0], f"getelementptr {kind}, ptr {name}, i64 {constant}")
        for depth in sorted(by_level):
            level = self.levels[depth]
            for atom, factor in by_level[depth]:
                value, _ = (level.variable, 1) if type(atom) is Axis else self.value(atom)
                if factor != 1:
                    value = self.once(level, f"mul nsw i64 {value}, {factor}")
                name = self.once(level, f"getelementptr {kind}, ptr {name}, i64 {value}")
        return name

    def places(self, buffer: Buffer, index: Index) -> str:
        """The addresses of the elements of all lanes."""
        kind, level = memory_type(buffer.dtype), self.level_of(index.axes)
        numbers = self.write_index(index, self.lanes)
        return self.once(level, f"getelementptr {kind}, ptr {self.addresses[buffer]}, <{self.lanes} x i64> {numbers}")

    def write_load(self, x: Expression, level: Level, lanes: int) -> str:
        buffer, index = x.payload
        kind, size = memory_type(x.dtype), x.dtype.itemsize
        step = index.factor(self.vector_axis) if lanes > 1 else 0
        vector = kind if lanes == 1 else f"<{lanes} x {kind}>"
        if step == 1 and lanes > 1 and self.mask:
            function = self.writer.intrinsic(
                f"llvm.masked.load.v{lanes}{mangled(kind)}.p0", vector, ["ptr", "i32", f"<{lanes} x i1>", vector]
            )
            place = self.place(buffer, index)
            name = self.line(
                f"call {vector} @{function}(ptr {place}, i32 {size}, {self.mask}, {vector} zeroinitializer)", level
            )
        elif lanes == 1 or step == 1:
            name = self.line(f"load {vector}, ptr {self.place(buffer, index)}, align {size}", level)
        elif step == -1 and not self.mask:
            place = self.place(buffer, index, shift=1 - lanes)
            backward = self.line(f"load {vector}, ptr {place}, align {size}", level)
            order = ", ".join(f"i32 {lane}" for lane in reversed(range(lanes)))
            name = self.line(f"shufflevector {vector} {backward}, {vector} poison, <{lanes} x i32> <{order}>", level)
        else:
            pointers = self.places(buffer, index)
            function = self.writer.intrinsic(
                f"llvm.masked.gather.v{lanes}{mangled(kind)}.v{lanes}p0",
                vector,
                [f"<{lanes} x ptr>", "i32", f"<{lanes} x i1>", vector],
            )
            mask = self.mask or f"<{lanes} x i1> splat (i1 true)"
            name = self.line(
                f"call {vector} @{function}(<{lanes} x ptr> {pointers}, i32 {size}, {mask}, {vector} zeroinitializer)",
                level,
            )
        if x.dtype.kind == "b":
            zero = "0" if lanes == 1 else "zeroinitializer"
            name = self.line(f"icmp ne {vector} {name}, {zero}", level)
        return name
