"""Expressions, indices and places in memory as LLVM code.

There is one idea in it. Every expression is written at the outermost loop that knows all loop variables it depends
on, and what does not depend on the variable of a vector loop stays a single number until a vector needs it. So
whatever does not change in a loop is computed before the loop, without any search for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy

from funcgrad.compiler.expressions import INT32, INT64, Axis, Buffer, Expression, parts
from funcgrad.compiler.indices import Index, is_divided
from funcgrad.compiler.loops import Store
from funcgrad.compiler.module import Module, mangled
from funcgrad.compiler.operations import (
    WRITERS,
    Instructions,
    Level,
    memory_type,
    number_text,
    register_type,
    select_text,
    vector_constant,
    write_conversion,
)


class ValueWriter(Instructions):
    """Writes values into the loops of a kernel."""

    def __init__(self, writer: Module):
        super().__init__(writer)
        self.block = "entry"
        self.addresses: dict[Buffer, str] = {}
        self.vector_axis: Axis | None = None
        self.lanes = 1
        self.mask = ""  # of the last vector of a loop, which has lanes that are left out
        self.present = 1  # the lanes that are not; 0 if that is known only when the kernel runs
        self.changing: set[Buffer] = set()  # what the kernel reads and writes
        self.changes: dict[Expression, bool] = {}

    # Lines

    def label(self) -> str:
        self.count += 1
        return f"L{self.count}"

    def do(self, text: str) -> None:
        self.levels[-1].lines.append("  " + text)

    def start_block(self, label: str) -> None:
        self.levels[-1].lines.append(f"{label}:")
        self.block = label

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
        if self.is_short_index(x):
            return ()
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
        if self.is_short_index(x):
            name = self.write_index(x.operands[0].payload, lanes, INT32)
            return write_conversion(self, level, INT32, x.dtype, lanes, name), lanes
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

    # Indices. Vectors of them are of 32 bits where that is enough.

    def write_index(self, index: Index, lanes: int, dtype: numpy.dtype = INT64) -> str:
        """An index as a whole number, or as a vector of them; the sum is built from the outermost loop inward."""
        by_depth: list[list[tuple[Any, int]]] = [[] for _ in self.levels]
        for atom, factor in index.terms:
            by_depth[self.levels.index(self.level_of(axes_of(atom)))].append((atom, factor))
        total, wide = str(index.constant) if index.constant else "", 1
        for level, terms in zip(self.levels, by_depth, strict=True):
            for atom, factor in terms:
                name, own = self.atom_value(atom, level, lanes, dtype)
                if factor != 1:
                    kind, number = register_type(dtype, own), vector_constant(dtype, str(factor), own)
                    name = self.once(level, f"mul {kind} {name}, {number}")
                if total:
                    both = max(wide, own)
                    if both > 1 and wide == 1:
                        total = self.spread_index(total, level, dtype)
                    if both > 1 and own == 1:
                        name = self.spread_index(name, level, dtype)
                    total, wide = self.once(level, f"add {register_type(dtype, both)} {total}, {name}"), both
                else:
                    total, wide = name, own
        total = total or "0"
        return self.spread_index(total, self.levels[-1], dtype) if lanes > 1 and wide == 1 else total

    def once(self, level: Level, text: str) -> str:
        """An instruction that a level needs only once."""
        found = level.values.get(text)
        if found is None:
            found = level.values[text] = self.line(text, level), 1
        return found[0]

    def spread_index(self, name: str, level: Level, dtype: numpy.dtype) -> str:
        if name[0] != "%":
            return vector_constant(dtype, name, self.lanes)
        vector = register_type(dtype, self.lanes)
        single = self.once(level, f"insertelement {vector} poison, {register_type(dtype)} {name}, i32 0")
        return self.once(
            level, f"shufflevector {vector} {single}, {vector} poison, <{self.lanes} x i32> zeroinitializer"
        )

    def atom_value(self, atom: Any, level: Level, lanes: int, dtype: numpy.dtype) -> tuple[str, int]:
        """The value of an atom of an index."""
        if type(atom) is Axis:
            name = self.shortened(level.variable, 1, level, dtype)
            if atom is not self.vector_axis or lanes == 1:
                return name, 1
            steps = "<" + ", ".join(f"{register_type(dtype)} {x}" for x in range(lanes)) + ">"
            first = self.spread_index(name, level, dtype)
            return self.once(level, f"add {register_type(dtype, lanes)} {first}, {steps}"), lanes
        if dtype is INT32:
            if is_divided(atom) and fits(atom.operands[0].limits):
                own = lanes if self.vector_axis in atom.axes else 1
                inner, instruction = self.write_index(atom.operands[0].payload, own, dtype), DIVISIONS[atom.operation]
                number = vector_constant(dtype, str(atom.payload), own)
                return self.once(level, f"{instruction} {register_type(dtype, own)} {inner}, {number}"), own
            if atom.operation == "bounded":
                atom = atom.operands[0]
            if atom.operation == "convert" and atom.operands[0].dtype == INT32:
                return self.value(atom.operands[0])
        name, own = self.value(atom)
        return self.shortened(name, own, level, dtype), own

    def shortened(self, name: str, lanes: int, level: Level, dtype: numpy.dtype) -> str:
        """A whole number of 64 bits in those that are wanted."""
        if dtype == INT64 or name[0] != "%":
            return name
        return self.once(level, f"trunc {register_type(INT64, lanes)} {name} to {register_type(dtype, lanes)}")

    def is_short_index(self, x: Expression) -> bool:
        """Whether a value is an index in another dtype, of which only a few bits are needed."""
        if x.operation != "convert" or x.dtype.kind not in "iuf" or self.vector_axis not in x.axes:
            return False
        return x.operands[0].operation == "index" and fits(x.operands[0].limits)

    # Memory

    def place(self, buffer: Buffer, index: Index) -> str:
        """The address of an element; of the first of the neighbours, in a vector loop."""
        kind, name = memory_type(buffer.dtype), self.addresses[buffer]
        by_level: dict[int, list[tuple[Any, int]]] = {}
        for atom, factor in index.terms:
            by_level.setdefault(self.levels.index(self.level_of(axes_of(atom))), []).append((atom, factor))
        if index.constant:
            name = self.once(self.levels[0], f"getelementptr {kind}, ptr {name}, i64 {index.constant}")
        for depth in sorted(by_level):
            level = self.levels[depth]
            for atom, factor in by_level[depth]:
                value, _ = (level.variable, 1) if type(atom) is Axis else self.value(atom)
                if factor != 1:
                    value = self.once(level, f"mul nsw i64 {value}, {factor}")
                name = self.once(level, f"getelementptr {kind}, ptr {name}, i64 {value}")
        return name

    def moved(self, place: str, kind: str, count: int, level: Level) -> str:
        """An address some elements further."""
        return self.once(level, f"getelementptr {kind}, ptr {place}, i64 {count}") if count else place

    def places(self, buffer: Buffer, index: Index) -> str:
        """The addresses of the elements of all lanes."""
        kind, level = memory_type(buffer.dtype), self.level_of(index.axes)
        dtype = INT32 if fits(index.bounds()) else INT64
        numbers = self.write_index(index, self.lanes, dtype)
        return self.once(
            level, f"getelementptr {kind}, ptr {self.addresses[buffer]}, {register_type(dtype, self.lanes)} {numbers}"
        )

    def step_of(self, index: Index, lanes: int) -> int | None:
        """How far apart the elements of neighbouring lanes are; None if that is not always the same."""
        return index.factor(self.vector_axis) if lanes > 1 and self.vector_axis is not None else 0

    def write_load(self, x: Expression, level: Level, lanes: int) -> str:
        buffer, index = x.payload
        kind, size = memory_type(x.dtype), x.dtype.itemsize
        step = self.step_of(index, lanes)
        vector = kind if lanes == 1 else f"<{lanes} x {kind}>"
        if lanes == 1 or (step == 1 and not self.mask):
            name = self.line(f"load {vector}, ptr {self.place(buffer, index)}, align {size}", level)
        elif step == 1:
            function = self.writer.intrinsic(
                f"llvm.masked.load.v{lanes}{mangled(kind)}.p0", vector, ["ptr", "i32", f"<{lanes} x i1>", vector]
            )
            place = self.place(buffer, index)
            name = self.line(
                f"call {vector} @{function}(ptr {place}, i32 {size}, {self.mask}, {vector} zeroinitializer)", level
            )
        elif step is not None and self.present:
            name = self.write_strided_load(x, level, lanes, step)
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

    def write_strided_load(self, x: Expression, level: Level, lanes: int, step: int) -> str:
        """Elements that are `step` apart: picked out of all between them, or, if those are many, read one by one.

        Such loads are foreseen by the CPU, and are in the cache when they come; those by a gather are not.
        """
        buffer, index = x.payload
        kind, place, register = memory_type(x.dtype), self.place(buffer, index), self.writer.target.lanes(x.dtype)
        if self.mask or abs(step) > min(register, lanes):
            vector, name = f"<{lanes} x {kind}>", "poison"
            for lane in range(self.present):
                pointer = self.moved(place, kind, lane * step, level)
                single = self.line(f"load {kind}, ptr {pointer}, align {x.dtype.itemsize}", level)
                name = self.line(f"insertelement {vector} {name}, {kind} {single}, i32 {lane}", level)
            return name
        size = min(lanes, register)
        picked = [
            self.write_picked(x, self.moved(place, kind, first * step, level), level, size, step)
            for first in range(0, lanes, size)
        ]
        while len(picked) > 1:
            order = ", ".join(f"i32 {lane}" for lane in range(2 * size))
            both = zip(picked[::2], picked[1::2], strict=True)
            vector, size = f"<{size} x {kind}>", 2 * size
            picked = [
                self.line(f"shufflevector {vector} {one}, {vector} {two}, <{size} x i32> <{order}>", level)
                for one, two in both
            ]
        return picked[0]

    def write_picked(self, x: Expression, place: str, level: Level, lanes: int, step: int) -> str:
        """One register of elements that are `step` apart, picked out of that many vectors side by side."""
        kind, vector = memory_type(x.dtype), f"<{lanes} x {memory_type(x.dtype)}>"
        lowest, span = min(0, step * (lanes - 1)), abs(step) * (lanes - 1) + 1
        places = [lane * step - lowest for lane in range(lanes)]
        name = ""
        # The last vector is moved so that nothing is read beyond the last element.
        for start in [*range(0, span - lanes, lanes), span - lanes]:
            pointer = self.moved(place, kind, lowest + start, level)
            new = self.line(f"load {vector}, ptr {pointer}, align {x.dtype.itemsize}", level)
            others = range(lanes) if name else [0] * lanes
            taken = [
                (lanes if name else 0) + p - start if start <= p < start + lanes else other
                for p, other in zip(places, others, strict=True)
            ]
            order = ", ".join(f"i32 {number}" for number in taken)
            one, two = (name, new) if name else (new, "poison")
            name = self.line(f"shufflevector {vector} {one}, {vector} {two}, <{lanes} x i32> <{order}>", level)
        return name

    def write_store(self, store: Store, name: str, lanes: int) -> None:
        dtype, kind = store.value.dtype, memory_type(store.value.dtype)
        step = self.step_of(store.index, self.lanes)
        if lanes == 1 and step != 0:
            name, lanes = self.wide(name, dtype, self.levels[-1]), self.lanes
        if dtype.kind == "b":
            wide = "i8" if lanes == 1 else f"<{lanes} x i8>"
            name = self.line(f"zext {register_type(dtype, lanes)} {name} to {wide}")
        vector = kind if lanes == 1 else f"<{lanes} x {kind}>"
        if lanes == 1 or (step in (1, -1) and not self.mask):
            place = self.place(store.buffer, store.index)
            if lanes > 1 and step == -1:
                place = self.moved(place, kind, 1 - lanes, self.levels[-1])
                order = ", ".join(f"i32 {lane}" for lane in reversed(range(lanes)))
                name = self.line(f"shufflevector {vector} {name}, {vector} poison, <{lanes} x i32> <{order}>")
            self.do(f"store {vector} {name}, ptr {place}, align {dtype.itemsize}")
        elif step == 1:
            function = self.writer.intrinsic(
                f"llvm.masked.store.v{lanes}{mangled(kind)}.p0", "void", [vector, "ptr", "i32", f"<{lanes} x i1>"]
            )
            place = self.place(store.buffer, store.index)
            self.do(f"call void @{function}({vector} {name}, ptr {place}, i32 {dtype.itemsize}, {self.mask})")
        elif step is not None and self.present:
            place = self.place(store.buffer, store.index)
            for lane in range(self.present):
                pointer = self.moved(place, kind, lane * step, self.levels[-1])
                single = self.line(f"extractelement {vector} {name}, i32 {lane}")
                self.do(f"store {kind} {single}, ptr {pointer}, align {dtype.itemsize}")
        else:
            pointers = self.places(store.buffer, store.index)
            function = self.writer.intrinsic(
                f"llvm.masked.scatter.v{lanes}{mangled(kind)}.v{lanes}p0",
                "void",
                [vector, f"<{lanes} x ptr>", "i32", f"<{lanes} x i1>"],
            )
            mask = self.mask or f"<{lanes} x i1> splat (i1 true)"
            self.do(f"call void @{function}({vector} {name}, <{lanes} x ptr> {pointers}, i32 {dtype.itemsize}, {mask})")


DIVISIONS = {"quotient": "udiv", "remainder": "urem"}


def axes_of(atom: Any) -> frozenset[Axis]:
    """The loops that an atom of an index depends on."""
    return frozenset([atom]) if type(atom) is Axis else atom.axes


def fits(limits: tuple[int, int] | None) -> bool:
    """Whether 32 bits hold all numbers between limits."""
    return limits is not None and limits[0] >= -(2**31) and limits[1] < 2**31
