"""Arrays whose elements of one kind are every second, third or fourth one, such as the coordinates of points.

A vector of one kind is spread over as many vectors of memory as there are kinds, and each of those holds some of all.
So they are loaded and stored as they lie, for all kinds at once, and lanes are exchanged between them:

    memory     x0 y0 z0 x1 | y1 z1 x2 y2 | z2 x3 y3 z3
    registers  x0 x1 x2 x3 | y0 y1 y2 y3 | z0 z1 z2 z3
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funcgrad.compiler.expressions import Buffer, Expression
from funcgrad.compiler.indices import Index
from funcgrad.compiler.loops import Store
from funcgrad.compiler.module import mangled
from funcgrad.compiler.operations import Level, memory_type, register_type
from funcgrad.compiler.reductions import SHORT
from funcgrad.compiler.values import ValueWriter

Lane = tuple[int, int]  # the number of a vector, and that of one of its lanes


class InterleavedWriter(ValueWriter):
    """Writes values, and loads and stores of interleaved elements as whole vectors."""

    def interleaved(self, buffer: Buffer, index: Index, lanes: int) -> Index | None:
        """Where the vectors begin that hold the element at an index along with those of the other kinds; None if it is
        not interleaved with others."""
        step = self.step_of(index, lanes)
        if step is None or not 2 <= step <= SHORT or not self.present:
            return None
        first = index + -(index.constant % step)
        limits = first.bounds()
        inside = limits is not None and limits[0] >= 0 and limits[1] + step <= buffer.size
        return first if inside else None

    def counts(self, step: int) -> list[int]:
        """How many lanes of each vector of memory belong to lanes that are not left out."""
        return [min(self.lanes, max(0, step * self.present - self.lanes * part)) for part in range(step)]

    def first_lanes(self, count: int) -> str:
        """A mask that leaves out all lanes but the first ones; none where that is not needed."""
        if count == self.lanes:
            return ""
        flags = ", ".join(f"i1 {'true' if lane < count else 'false'}" for lane in range(self.lanes))
        return f"<{self.lanes} x i1> <{flags}>"

    # Loads

    def write_load(self, x: Expression, level: Level, lanes: int) -> str:
        buffer, index = x.payload
        first = self.interleaved(buffer, index, lanes)
        if first is None:
            return super().write_load(x, level, lanes)
        step, vector = self.step_of(index, lanes), f"<{lanes} x {memory_type(x.dtype)}>"
        assert step is not None
        parts = []
        for part, count in enumerate(self.counts(step)):
            key = "vector of memory", buffer, first, part, lanes
            found = level.values.get(key)
            if found is None and count:
                found = self.load_vector(vector, buffer, first + part * lanes, count, level), lanes
                if buffer not in self.changing:
                    level.values[key] = found  # for the other kinds
            if found is not None:
                parts.append(found[0])
        kind = index.constant % step
        wanted = [divmod(lane * step + kind, lanes) for lane in range(self.present)]
        name = self.picked(vector, parts, wanted, level)
        return self.line(f"icmp ne {vector} {name}, zeroinitializer", level) if x.dtype.kind == "b" else name

    def load_vector(self, vector: str, buffer: Buffer, index: Index, count: int, level: Level) -> str:
        place, mask, size = self.place(buffer, index), self.first_lanes(count), buffer.dtype.itemsize
        if not mask:
            return self.line(f"load {vector}, ptr {place}, align {size}", level)
        masks = f"<{self.lanes} x i1>"
        function = self.writer.intrinsic(
            f"llvm.masked.load.{mangled(vector)}.p0", vector, ["ptr", "i32", masks, vector]
        )
        return self.line(f"call {vector} @{function}(ptr {place}, i32 {size}, {mask}, {vector} zeroinitializer)", level)

    # Stores

    def write_all(self, stores: Sequence[Store], names: Sequence[tuple[str, int]]) -> None:
        """Store values: those that are interleaved together, each other one by itself."""
        groups: dict[Any, list[tuple[Store, tuple[str, int]]]] = {}
        for store, name in zip(stores, names, strict=True):
            first = self.interleaved(store.buffer, store.index, self.lanes)
            groups.setdefault(store if first is None else (store.buffer, first), []).append((store, name))
        for group in groups.values():
            if len(group) > 1 and len(group) == self.step_of(group[0][0].index, self.lanes):
                self.write_interleaved(sorted(group, key=lambda x: x[0].index.constant))
            else:
                for store, (name, lanes) in group:
                    self.write_store(store, name, lanes)

    def write_interleaved(self, stores: Sequence[tuple[Store, tuple[str, int]]]) -> None:
        """Store elements of all kinds, which are in the order of their places."""
        (first, _), step, lanes = stores[0], len(stores), self.lanes
        buffer, dtype = first.buffer, first.value.dtype
        vector, names = f"<{lanes} x {memory_type(dtype)}>", []
        for _, (name, own) in stores:
            if own != lanes:
                name = self.wide(name, dtype, self.levels[-1])
            if dtype.kind == "b":
                name = self.line(f"zext {register_type(dtype, lanes)} {name} to {vector}")
            names.append(name)
        for part, count in enumerate(self.counts(step)):
            if not count:
                break
            elements = range(part * lanes, part * lanes + count)
            name = self.picked(vector, names, [(n % step, n // step) for n in elements], self.levels[-1])
            place, mask = self.place(buffer, first.index + part * lanes), self.first_lanes(count)
            if not mask:
                self.do(f"store {vector} {name}, ptr {place}, align {dtype.itemsize}")
                continue
            function = self.writer.intrinsic(
                f"llvm.masked.store.{mangled(vector)}.p0", "void", [vector, "ptr", "i32", f"<{lanes} x i1>"]
            )
            self.do(f"call void @{function}({vector} {name}, ptr {place}, i32 {dtype.itemsize}, {mask})")

    # Lanes

    def picked(self, vector: str, names: Sequence[str], wanted: Sequence[Lane], level: Level) -> str:
        """A vector whose first lanes are wanted ones of others. An instruction takes lanes of two vectors, so that
        those of each further one are put beside those that are there already."""
        result, *others = names
        order: list[int | None] = [lane if number == 0 else None for number, lane in wanted]
        if not others:
            return self.shuffled(vector, result, "poison", order, level)
        for number, other in enumerate(others, 1):
            new = [
                self.lanes + lane if source == number else have
                for (source, lane), have in zip(wanted, order, strict=True)
            ]
            result = self.shuffled(vector, result, other, new, level)
            order = [None if lane is None else place for place, lane in enumerate(new)]
        return result

    def shuffled(self, vector: str, x: str, y: str, order: Sequence[int | None], level: Level) -> str:
        lanes = [*order, *[None] * (self.lanes - len(order))]
        text = ", ".join("i32 poison" if lane is None else f"i32 {lane}" for lane in lanes)
        return self.line(f"shufflevector {vector} {x}, {vector} {y}, <{self.lanes} x i32> <{text}>", level)
