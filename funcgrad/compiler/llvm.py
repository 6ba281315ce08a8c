"""Kernels as LLVM code.

The code is text, with vectors written out: what a vector loop does, it does for `lanes` neighbours at a time. LLVM only
has to choose instructions and registers, which is quick, and nothing depends on what its optimizer recognises.

There is one idea in it. Every expression is written at the outermost loop that knows all loop variables it depends
on, and what does not depend on the variable of a vector loop stays a single number until a vector needs it. So
whatever does not change in a loop is computed before the loop, without any search for it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy

from funcgrad import dtypes
from funcgrad.compiler.contraction.text import Module, has_masks
from funcgrad.compiler.loops import (
    BINARY,
    COMPARISONS,
    FLOAT32,
    INT32,
    INT64,
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
    constant_value,
    expressions_in,
    loaded_buffers,
    parts,
    statements,
)

MOST_LANES = 128
LITTLE_WORK = 10  # operations
REGISTERS_AT_A_TIME = 2  # vectors of two registers: the second one works while the first one waits

# Types


def memory_type(dtype: numpy.dtype) -> str:
    """The LLVM type of an element in memory."""
    if dtype.kind in "iu":
        return f"i{8 * dtype.itemsize}"
    if dtype.kind == "b":
        return "i8"
    if dtype == dtypes.bfloat16:
        return "i16"  # only ever converted, by its bits
    return {2: "half", 4: "float", 8: "double"}[dtype.itemsize]


def register_type(dtype: numpy.dtype, lanes: int = 1) -> str:
    """The LLVM type of a value, or of `lanes` neighbours."""
    kind = "i1" if dtype.kind == "b" else memory_type(dtype)
    return kind if lanes == 1 else f"<{lanes} x {kind}>"


def suffix(dtype: numpy.dtype, lanes: int) -> str:
    """What the name of an LLVM intrinsic for this type ends in."""
    kind = f"f{8 * dtype.itemsize}" if dtype.kind == "f" else f"i{8 * dtype.itemsize}"
    return kind if lanes == 1 else f"v{lanes}{kind}"


def number_text(x: Expression) -> str:
    """A constant as LLVM writes it."""
    if x.dtype.kind == "b":
        return "true" if constant_value(x) else "false"
    if x.dtype.kind in "iu":
        return str(int(constant_value(x)))
    if x.dtype == dtypes.bfloat16:
        return str(int.from_bytes(x.payload, "little"))
    if x.dtype.itemsize == 2:
        return f"0xH{int.from_bytes(x.payload, 'little'):04X}"
    with numpy.errstate(invalid="ignore"):
        return "0x" + struct.pack(">d", float(constant_value(x))).hex().upper()


def vector_constant(dtype: numpy.dtype, number: str, lanes: int) -> str:
    """A number that LLVM has written out, for all lanes."""
    return number if lanes == 1 else f"splat ({register_type(dtype)} {number})"


class Level:
    """A loop that is being written, or (the first one) the function around all loops."""

    def __init__(self, axis: Axis | None, variable: str, lanes: int):
        self.axis, self.variable, self.lanes = axis, variable, lanes
        self.lines: list[str] = []
        self.values: dict[Any, tuple[str, int]] = {}


def kernel_text(module: Module, kernel: Kernel, symbol: str) -> str:
    """A kernel as the function `void symbol(ptr context, i64 low, i64 high)`.

    `context` points to the addresses of the arguments. Of a parallel loop the function does the part from low up to
    high; a kernel without one ignores both.
    """
    return KernelWriter(module, kernel, symbol).text()


class KernelWriter:
    """Writes one kernel."""

    def __init__(self, writer: Module, kernel: Kernel, symbol: str):
        self.writer, self.kernel, self.symbol = writer, kernel, symbol
        self.count = 0
        self.block = "entry"
        self.levels = [Level(None, "", 1)]
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

    def name(self) -> str:
        self.count += 1
        return f"%v{self.count}"

    def label(self) -> str:
        self.count += 1
        return f"L{self.count}"

    def line(self, text: str, level: Level | None = None) -> str:
        """An instruction at a level (the innermost one, if none is given); gives the name of its result."""
        name = self.name()
        (level or self.levels[-1]).lines.append(f"  {name} = {text}")
        return name

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
                f"llvm.masked.store.v{lanes}{_mangled(kind)}.p0", "void", [vector, "ptr", "i32", f"<{lanes} x i1>"]
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
            f"llvm.masked.scatter.v{lanes}{_mangled(kind)}.v{lanes}p0",
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
        name = _select(self, level, x, lanes, [condition, name, usual])
        level.values = values  # what was written in the block is not known after it
        end = self.block
        self.do(f"br label %{after}")
        self.start_block(after)
        return self.line(f"phi {register_type(x.dtype, lanes)} [ {usual}, %{before} ], [ {name}, %{end} ]", level)

    def call(
        self, level: Level, name: str, dtype: numpy.dtype, lanes: int, operands: Sequence[str], more: str = ""
    ) -> str:
        """Call an intrinsic that takes and gives values of one type; `more` are further operands, with their types."""
        kind = register_type(dtype, lanes)
        kinds = [kind] * len(operands) + [x.split()[0] for x in more.split(", ") if x]
        function = self.writer.intrinsic(f"llvm.{name}.{suffix(dtype, lanes)}", kind, kinds)
        arguments = ", ".join([f"{kind} {y}" for y in operands] + ([more] if more else []))
        return self.line(f"call {kind} @{function}({arguments})", level)

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
                f"llvm.masked.load.v{lanes}{_mangled(kind)}.p0", vector, ["ptr", "i32", f"<{lanes} x i1>", vector]
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
                f"llvm.masked.gather.v{lanes}{_mangled(kind)}.v{lanes}p0",
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


def _mangled(kind: str) -> str:
    return {"half": "f16", "float": "f32", "double": "f64"}.get(kind, kind)


# What each operation becomes. A writer gets the level to write at, the expression, the number of lanes and the names
# of the operands.

ValueWriter = Callable[[KernelWriter, Level, Expression, int, list[str]], str]
BinaryWriter = Callable[..., str]


def _instruction(whole: str, floating: str, unsigned: str = "") -> BinaryWriter:
    def write(writer: KernelWriter, level: Level, dtype: numpy.dtype, lanes: int, x: str, y: str) -> str:
        name = floating if dtype.kind == "f" else (unsigned or whole) if dtype.kind in "ub" else whole
        return writer.line(f"{name} {register_type(dtype, lanes)} {x}, {y}", level)

    return write


def _extreme(comparison: str, name: str) -> BinaryWriter:
    """The smaller or greater one; of floats, NaN if there is one."""

    def write(writer: KernelWriter, level: Level, dtype: numpy.dtype, lanes: int, x: str, y: str) -> str:
        kind, truth = register_type(dtype, lanes), register_type(numpy.dtype(bool), lanes)
        if dtype.kind == "b":
            return writer.line(f"{'or' if name == 'max' else 'and'} {kind} {x}, {y}", level)
        if dtype.kind != "f":
            return writer.call(level, f"{'u' if dtype.kind == 'u' else 's'}{name}", dtype, lanes, [x, y])
        # This form is the instruction that CPUs have, which takes the second one where it cannot compare.
        first = writer.line(f"fcmp {comparison} {kind} {x}, {y}", level)
        chosen = writer.line(f"select {truth} {first}, {kind} {x}, {kind} {y}", level)
        missing = writer.line(f"fcmp uno {kind} {x}, {x}", level)
        return writer.line(f"select {truth} {missing}, {kind} {x}, {kind} {chosen}", level)

    return write


def _copysign(writer: KernelWriter, level: Level, dtype: numpy.dtype, lanes: int, x: str, y: str) -> str:
    return writer.call(level, "copysign", dtype, lanes, [x, y])


BINARY_WRITERS: dict[str, BinaryWriter] = {
    "add": _instruction("add", "fadd"),
    "sub": _instruction("sub", "fsub"),
    "mul": _instruction("mul", "fmul"),
    "div": _instruction("sdiv", "fdiv", "udiv"),
    "rem": _instruction("srem", "frem", "urem"),
    "min": _extreme("olt", "min"),
    "max": _extreme("ogt", "max"),
    "and": _instruction("and", ""),
    "or": _instruction("or", ""),
    "xor": _instruction("xor", ""),
    "shl": _instruction("shl", ""),
    "lshr": _instruction("lshr", ""),
    "ashr": _instruction("ashr", ""),
    "copysign": _copysign,
}


def _binary(operation: str) -> ValueWriter:
    write = BINARY_WRITERS[operation]
    return lambda writer, level, x, lanes, operands: write(writer, level, x.dtype, lanes, *operands)


def _comparison(operation: str) -> ValueWriter:
    def write(writer: KernelWriter, level: Level, x: Expression, lanes: int, operands: list[str]) -> str:
        dtype = x.operands[0].dtype
        if dtype.kind == "f":
            how = "fcmp " + ("une" if operation == "ne" else f"o{operation}")
        elif operation in ("eq", "ne"):
            how = f"icmp {operation}"
        else:
            how = f"icmp {'s' if dtype.kind == 'i' else 'u'}{operation}"
        return writer.line(f"{how} {register_type(dtype, lanes)} {operands[0]}, {operands[1]}", level)

    return write


def _neg(writer: KernelWriter, level: Level, x: Expression, lanes: int, operands: list[str]) -> str:
    kind = register_type(x.dtype, lanes)
    if x.dtype.kind == "f":
        return writer.line(f"fneg {kind} {operands[0]}", level)
    return writer.line(f"sub {kind} {'0' if lanes == 1 else 'zeroinitializer'}, {operands[0]}", level)


def _abs(writer: KernelWriter, level: Level, x: Expression, lanes: int, operands: list[str]) -> str:
    if x.dtype.kind == "f":
        return writer.call(level, "fabs", x.dtype, lanes, operands)
    return operands[0] if x.dtype.kind == "u" else writer.call(level, "abs", x.dtype, lanes, operands, "i1 false")


def _not(writer: KernelWriter, level: Level, x: Expression, lanes: int, operands: list[str]) -> str:
    ones = vector_constant(x.dtype, "true" if x.dtype.kind == "b" else "-1", lanes)
    return writer.line(f"xor {register_type(x.dtype, lanes)} {operands[0]}, {ones}", level)


def _intrinsic(name: str, more: str = "") -> ValueWriter:
    return lambda writer, level, x, lanes, operands: writer.call(level, name, x.dtype, lanes, operands, more)


def _select(writer: KernelWriter, level: Level, x: Expression, lanes: int, operands: list[str]) -> str:
    kind, truth = register_type(x.dtype, lanes), register_type(x.operands[0].dtype, lanes)
    return writer.line(f"select {truth} {operands[0]}, {kind} {operands[1]}, {kind} {operands[2]}", level)


def _divide_index(instruction: str) -> ValueWriter:
    def write(writer: KernelWriter, level: Level, x: Expression, lanes: int, operands: list[str]) -> str:
        kind, by = register_type(INT64, lanes), vector_constant(INT64, str(x.payload), lanes)
        return writer.line(f"{instruction} {kind} {operands[0]}, {by}", level)

    return write


def _bitcast(writer: KernelWriter, level: Level, x: Expression, lanes: int, operands: list[str]) -> str:
    before, after = register_type(x.operands[0].dtype, lanes), register_type(x.dtype, lanes)
    return operands[0] if before == after else writer.line(f"bitcast {before} {operands[0]} to {after}", level)


def _convert(writer: KernelWriter, level: Level, x: Expression, lanes: int, operands: list[str]) -> str:
    return write_conversion(writer, level, x.operands[0].dtype, x.dtype, lanes, operands[0])


def write_conversion(
    writer: KernelWriter, level: Level, before: numpy.dtype, after: numpy.dtype, lanes: int, name: str
) -> str:
    """The code of `convert`."""

    def step(instruction: str, old: numpy.dtype, new: numpy.dtype, value: str) -> str:
        return writer.line(f"{instruction} {register_type(old, lanes)} {value} to {register_type(new, lanes)}", level)

    if before == dtypes.bfloat16:
        number = _from_bfloat16(writer, level, lanes, name)
        return number if after == FLOAT32 else write_conversion(writer, level, FLOAT32, after, lanes, number)
    if after == dtypes.bfloat16:
        number = name if before == FLOAT32 else write_conversion(writer, level, before, FLOAT32, lanes, name)
        return _to_bfloat16(writer, level, lanes, number)
    kinds = before.kind, after.kind
    if after.kind == "b":
        zero = vector_constant(
            before, "0x0000000000000000" if before.kind == "f" and before.itemsize > 2 else "0", lanes
        )
        if before.kind == "f" and before.itemsize == 2:
            name, before = step("fpext", before, FLOAT32, name), FLOAT32
            zero = vector_constant(FLOAT32, "0x0000000000000000", lanes)
        how = "fcmp une" if before.kind == "f" else "icmp ne"
        return writer.line(f"{how} {register_type(before, lanes)} {name}, {zero}", level)
    if kinds == ("f", "f"):
        return step("fpext" if after.itemsize > before.itemsize else "fptrunc", before, after, name)
    if before.kind == "f":
        if after.itemsize < 4:  # as C does it, so that numbers out of range wrap around
            return step("trunc", INT32, after, step("fptosi", before, INT32, name))
        if after.kind == "u" and after.itemsize == 4:
            return step("trunc", INT64, after, step("fptosi", before, INT64, name))
        return step("fptoui" if after.kind == "u" else "fptosi", before, after, name)
    if after.kind == "f":
        return step("sitofp" if before.kind == "i" else "uitofp", before, after, name)
    if register_type(before) == register_type(after):
        return name
    if before.kind != "b" and after.itemsize < before.itemsize:
        return step("trunc", before, after, name)
    return step("sext" if before.kind == "i" else "zext", before, after, name)


def _from_bfloat16(writer: KernelWriter, level: Level, lanes: int, name: str) -> str:
    short, whole, number = (f"<{lanes} x {x}>" if lanes > 1 else x for x in ("i16", "i32", "float"))
    bits = writer.line(f"zext {short} {name} to {whole}", level)
    bits = writer.line(f"shl {whole} {bits}, {vector_constant(INT32, '16', lanes)}", level)
    return writer.line(f"bitcast {whole} {bits} to {number}", level)


def _to_bfloat16(writer: KernelWriter, level: Level, lanes: int, name: str) -> str:
    """The upper half of the bits, rounded to the nearest even; NaN stays NaN."""
    short, whole, number, truth = (f"<{lanes} x {x}>" if lanes > 1 else x for x in ("i16", "i32", "float", "i1"))

    def number_of(value: int) -> str:
        return vector_constant(INT32, str(value), lanes)

    bits = writer.line(f"bitcast {number} {name} to {whole}", level)
    upper = writer.line(f"lshr {whole} {bits}, {number_of(16)}", level)
    odd = writer.line(f"and {whole} {upper}, {number_of(1)}", level)
    half = writer.line(f"add {whole} {odd}, {number_of(0x7FFF)}", level)
    rounded = writer.line(f"add {whole} {bits}, {half}", level)
    rounded = writer.line(f"lshr {whole} {rounded}, {number_of(16)}", level)
    quiet = writer.line(f"or {whole} {upper}, {number_of(0x40)}", level)
    missing = writer.line(f"fcmp uno {number} {name}, {name}", level)
    chosen = writer.line(f"select {truth} {missing}, {whole} {quiet}, {whole} {rounded}", level)
    return writer.line(f"trunc {whole} {chosen} to {short}", level)


def _same(writer: KernelWriter, level: Level, x: Expression, lanes: int, operands: list[str]) -> str:
    return operands[0]


WRITERS: dict[str, ValueWriter] = {
    **{operation: _binary(operation) for operation in BINARY},
    **{operation: _comparison(operation) for operation in COMPARISONS},
    "neg": _neg,
    "abs": _abs,
    "not": _not,
    "sqrt": _intrinsic("sqrt"),
    "floor": _intrinsic("floor"),
    "ceil": _intrinsic("ceil"),
    "round": _intrinsic("rint"),
    "trunc": _intrinsic("trunc"),
    "popcount": _intrinsic("ctpop"),
    "clz": _intrinsic("ctlz", "i1 false"),
    "fma": _intrinsic("fma"),
    "select": _select,
    "rarely": _select,
    "convert": _convert,
    "bitcast": _bitcast,
    "bounded": _same,
    "quotient": _divide_index("udiv"),
    "remainder": _divide_index("urem"),
}
