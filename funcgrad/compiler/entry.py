"""The function that runs a schedule: calls of kernels, in loops and branches, as LLVM code.

`void entry(ptr table)` gets the addresses of all arguments, results and constants, then that of the arena and that of
the function which divides parallel loops among threads.
"""

from __future__ import annotations

from collections.abc import Sequence

from funcgrad.compiler.contraction import ADDRESSES, SLOTS
from funcgrad.compiler.expressions import Buffer
from funcgrad.compiler.module import Module
from funcgrad.compiler.schedule import Branch, Carry, Copy, Multiply, Repeat, Run, Schedule, Step, While

Places = dict[Buffer, str]  # the LLVM name of the address of each buffer


def slots_of(step: Step) -> int:
    """How many slots the context of a step has."""
    if isinstance(step, Multiply):
        epilogue = step.epilogue
        return len(SLOTS) + (0 if epilogue is None else len(epilogue.arguments))
    return len(step.buffers) if isinstance(step, Run) else 0


class EntryWriter:
    """Writes the entry function of one schedule."""

    def __init__(self, writer: Module, schedule: Schedule, table: Sequence[Buffer]):
        self.writer, self.schedule, self.table = writer, schedule, table
        self.lines: list[str] = []
        self.count = 0
        self.block = "entry"
        self.tables: dict[tuple[int, ...], str] = {}
        self.from_outside: set[str] = set()  # the addresses of arguments, results and constants

    def text(self) -> str:
        widest = max(map(slots_of, self.schedule.all_steps()), default=1)
        self.do(f"%context = alloca [{max(widest, 1)} x ptr], align 64")
        places: Places = {}
        used = set(self.schedule.outside)
        for number, buffer in enumerate(self.table):
            if buffer in used:
                places[buffer] = self.from_table(number)
        self.from_outside = {*places.values()}
        arena = self.from_table(len(self.table))
        self.parallel = self.from_table(len(self.table) + 1)
        self.write(self.schedule, places, arena)
        return "\n".join(["define void @entry(ptr %table) #0 {", "entry:", *self.lines, "  ret void", "}"])

    def from_table(self, number: int) -> str:
        slot = self.line(f"getelementptr ptr, ptr %table, i64 {number}")
        return self.line(f"load ptr, ptr {slot}, align 8")

    def name(self) -> str:
        self.count += 1
        return f"%e{self.count}"

    def line(self, text: str) -> str:
        name = self.name()
        self.lines.append(f"  {name} = {text}")
        return name

    def do(self, text: str) -> None:
        self.lines.append("  " + text)

    def start_block(self, label: str) -> None:
        self.lines.append(f"{label}:")
        self.block = label

    def label(self) -> str:
        self.count += 1
        return f"B{self.count}"

    def write(self, schedule: Schedule, places: Places, arena: str) -> None:
        """The steps of a schedule whose own buffers begin at `arena`."""
        places = dict(places)
        for buffer, offset in schedule.offsets.items():
            places[buffer] = self.line(f"getelementptr i8, ptr {arena}, i64 {offset}") if offset else arena
        for buffer, place in schedule.uses.place.items():
            places[buffer] = places[place]
        for step in schedule.steps:
            self.write_step(step, places)

    def write_step(self, step: Step, places: Places) -> None:
        if isinstance(step, Run):
            self.write_run(step, places)
        elif isinstance(step, Multiply):
            self.write_product(step, places)
        elif isinstance(step, Copy):
            self.write_copy(step.source, step.target, places, step.run)
        elif isinstance(step, Repeat):
            self.write_repeat(step, places)
        elif isinstance(step, While):
            self.write_while(step, places)
        else:
            self.write_branch(step, places)

    def write_run(self, run: Run, places: Places) -> None:
        self.set_slots(0, [places[buffer] for buffer in run.buffers])
        self.call(run.symbol, run.count, run.grain)

    def set_slots(self, first: int, addresses: Sequence[str]) -> None:
        """Put addresses into the slots of the context from `first` on."""
        for number, address in enumerate(addresses, first):
            slot = self.line(f"getelementptr ptr, ptr %context, i64 {number}")
            self.do(f"store ptr {address}, ptr {slot}, align 8")

    def write_product(self, step: Multiply, places: Places) -> None:
        product = step.product
        operands = []
        for buffer, offset in zip((product.a, product.b), product.offsets, strict=True):
            moved = f"getelementptr i8, ptr {places[buffer]}, i64 {offset * buffer.dtype.itemsize}"
            operands.append(self.line(moved) if offset else places[buffer])
        if product.swapped:
            operands.reverse()
        result, epilogue = places.get(product.c, "null"), "null"
        if step.epilogue is not None:
            epilogue = f"@{step.epilogue_symbol}"
            self.set_slots(len(SLOTS), [places[x] for x in step.epilogue.arguments])
        self.set_slots(0, [*operands, result, places[product.scratch], epilogue])
        # Copied from a table, which products of the same sizes share.
        table = self.tables.setdefault(product.numbers, f"@numbers{len(self.tables)}")
        numbers = ", ".join(f"i64 {value}" for value in product.numbers)
        count = len(product.numbers)
        self.writer.declarations[table] = f"{table} = internal constant [{count} x i64] [{numbers}], align 64"
        slot = self.line(f"getelementptr i64, ptr %context, i64 {len(ADDRESSES)}")
        memcpy = self.memcpy()
        self.do(f"call void @{memcpy}(ptr align 8 {slot}, ptr align 64 {table}, i64 {8 * count}, i1 false)")
        for suffix, tasks, grain in product.steps:
            self.call(f"{step.symbol}{suffix}", tasks, grain)

    def call(self, symbol: str, count: int, grain: int) -> None:
        if count > grain:
            self.do(f"call void {self.parallel}(ptr @{symbol}, ptr %context, i64 {count}, i64 {grain})")
        else:
            self.do(f"call void @{symbol}(ptr %context, i64 0, i64 {count})")

    def memcpy(self) -> str:
        return self.writer.intrinsic("llvm.memcpy.p0.p0.i64", "void", ["ptr", "ptr", "i64", "i1"])

    def write_copy(self, source: Buffer, target: Buffer, places: Places, run: Run | None = None) -> None:
        """Copy a buffer, unless it is there. Of an argument and a result, that is known when the function is called."""
        here, there = places[source], places[target]
        if here == there:
            return
        after = ""
        if {here, there} <= self.from_outside:
            differ, copying, after = self.line(f"icmp ne ptr {here}, {there}"), self.label(), self.label()
            self.do(f"br i1 {differ}, label %{copying}, label %{after}")
            self.start_block(copying)
        if run is None:
            self.copy(target, there, here)
        else:
            self.write_run(run, places)
        if after:
            self.do(f"br label %{after}")
            self.start_block(after)

    def copy(self, buffer: Buffer, target: str, source: str) -> None:
        size = buffer.size * buffer.dtype.itemsize
        if size:
            memcpy = self.memcpy()
            self.do(f"call void @{memcpy}(ptr {target}, ptr {source}, i64 {size}, i1 false)")

    # Loops. What is handed on, and not updated in place, stands in two places in turn, so that a step reads one and
    # writes the other.

    def begin_carries(self, carries: Sequence[Carry], places: Places) -> tuple[list[tuple[str, ...]], Places]:
        """The names of places that change from step to step, and the places inside of the loop."""
        names: list[tuple[str, ...]] = []
        inner = dict(places)
        for carry in carries:
            if carry.in_place:
                self.write_copy(carry.initial, carry.result, places)
                names.append(())
                inner[carry.current] = inner[carry.following] = places[carry.result]
            else:
                names.append((self.name(), self.name(), self.name()))
                inner[carry.current], inner[carry.following], _ = names[-1]
        return names, inner

    def end_carries(
        self, carries: Sequence[Carry], names: Sequence[tuple[str, ...]], places: Places, last: int
    ) -> None:
        """Copy values to where results belong; `last` says which of their places has the last one."""
        for carry, own in zip(carries, names, strict=True):
            if own:
                self.copy(carry.result, places[carry.result], own[last])

    def carry_heads(
        self, carries: Sequence[Carry], names: Sequence[tuple[str, ...]], places: Places, before: str, latch: str
    ) -> list[str]:
        heads = []
        for carry, own in zip(carries, names, strict=True):
            if not own:
                continue
            current, following, other = own
            one, two = (places[x] for x in carry.places)
            heads += [
                f"  {current} = phi ptr [ {places[carry.initial]}, %{before} ], [ {following}, %{latch} ]",
                f"  {following} = phi ptr [ {one}, %{before} ], [ {other}, %{latch} ]",
                f"  {other} = phi ptr [ {two}, %{before} ], [ {following}, %{latch} ]",
            ]
        return heads

    def write_repeat(self, step: Repeat, places: Places) -> None:
        if not step.length:
            for carry in step.carries:
                self.write_copy(carry.initial, carry.result, places)
            return
        names, inner = self.begin_carries(step.carries, places)
        before, head, after = self.block, self.label(), self.label()
        outer, self.lines = self.lines, []
        number, following = self.name(), self.name()
        self.block = head
        turn = self.line(f"sub i64 {step.length - 1}, {number}") if step.reverse else number
        for whole, part in step.slices:
            size = part.size * part.dtype.itemsize
            offset = self.line(f"mul i64 {turn}, {size}")
            inner[part] = self.line(f"getelementptr i8, ptr {places[whole]}, i64 {offset}")
        self.write(step.body, inner, places[step.room])
        self.do(f"{following} = add i64 {number}, 1")
        again = self.line(f"icmp slt i64 {following}, {step.length}")
        self.do(f"br i1 {again}, label %{head}, label %{after}")
        latch = self.block
        body, self.lines = self.lines, outer
        self.do(f"br label %{head}")
        self.lines.append(f"{head}:")
        self.do(f"{number} = phi i64 [ 0, %{before} ], [ {following}, %{latch} ]")
        self.lines += [*self.carry_heads(step.carries, names, places, before, latch), *body]
        self.start_block(after)
        self.end_carries(step.carries, names, places, 1)

    def write_while(self, step: While, places: Places) -> None:
        names, inner = self.begin_carries(step.carries, places)
        before, head, inside, after = self.block, self.label(), self.label(), self.label()
        outer, self.lines = self.lines, []
        self.block = head
        self.write(step.condition, inner, places[step.room])
        flag = self.line(f"load i8, ptr {places[step.flag]}, align 1")
        goes_on = self.line(f"icmp ne i8 {flag}, 0")
        self.do(f"br i1 {goes_on}, label %{inside}, label %{after}")
        self.start_block(inside)
        self.write(step.body, inner, places[step.room])
        self.do(f"br label %{head}")
        latch = self.block
        body, self.lines = self.lines, outer
        self.do(f"br label %{head}")
        self.lines.append(f"{head}:")
        self.lines += [*self.carry_heads(step.carries, names, places, before, latch), *body]
        self.start_block(after)
        self.end_carries(step.carries, names, places, 0)

    def write_branch(self, step: Branch, places: Places) -> None:
        bits = 8 * step.index.dtype.itemsize
        index = self.line(f"load i{bits}, ptr {places[step.index]}, align {step.index.dtype.itemsize}")
        labels, after = [self.label() for _ in step.branches], self.label()
        cases = " ".join(f"i{bits} {number}, label %{label}" for number, label in enumerate(labels[:-1]))
        self.do(f"switch i{bits} {index}, label %{labels[-1]} [ {cases} ]")
        for label, branch in zip(labels, step.branches, strict=True):
            self.start_block(label)
            self.write(branch, places, places[step.room])
            self.do(f"br label %{after}")
        self.start_block(after)
