"""A small writer of LLVM code as text: names, labels, loops, and what elements of a dtype look like.

text = Function(module, "double", ["ptr %x", "i64 %count"])

def body(i, _):
    place = text.at("%x", "float", i)
    text.store("float", text.line(f"fadd float {text.load('float', place)}, 1.0"), place)

text.loop("0", "%count", "1", body)
text.finish()
print(module.text())
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy

from funcgrad import dtypes
from funcgrad.compiler.module import Module, from_bfloat16, mangled, splat, to_bfloat16, vector

Number = int | str
Body = Callable[[str, list[str]], Sequence[str] | None]


SQUARE = 4  # as many lanes as registers of any CPU have, so that few instructions turn a square


class Function:
    """Writes one function.

    Attributes:
        lines: the code so far, one line for each instruction.
    """

    def __init__(self, module: Module, name: str, arguments: Sequence[str], internal: bool = False):
        self.module, self.target = module, module.target
        linkage = "internal " if internal else ""
        self.header = f"define {linkage}void @{name}({', '.join(arguments)}) #0 {{"
        self.lines: list[str] = []
        self.block, self.count = "entry", 0

    def finish(self) -> None:
        self.module.functions.append("\n".join([self.header, "entry:", *self.lines, "  ret void", "}"]))

    # Lines

    def name(self) -> str:
        self.count += 1
        return f"%v{self.count}"

    def label(self) -> str:
        self.count += 1
        return f"L{self.count}"

    def line(self, code: str) -> str:
        """An instruction; gives the name of its result."""
        name = self.name()
        self.lines.append(f"  {name} = {code}")
        return name

    def do(self, code: str) -> None:
        """An instruction without a result."""
        self.lines.append("  " + code)

    def start(self, label: str) -> None:
        self.lines.append(f"{label}:")
        self.block = label

    # Whole numbers. Those that are known are computed here.

    def _whole(self, operation: str, x: Number, y: Number) -> str:
        return self.line(f"{operation} i64 {x}, {y}")

    def add(self, x: Number, y: Number) -> str:
        if str(x) == "0" or str(y) == "0":
            return str(y if str(x) == "0" else x)
        return self._whole("add", x, y)

    def sub(self, x: Number, y: Number) -> str:
        return str(x) if str(y) == "0" else self._whole("sub", x, y)

    def mul(self, x: Number, y: Number) -> str:
        if str(x) == "1" or str(y) == "1":
            return str(y if str(x) == "1" else x)
        return "0" if str(x) == "0" or str(y) == "0" else self._whole("mul", x, y)

    def minimum(self, x: Number, y: Number) -> str:
        return self.select(self.compare("slt", x, y), x, y)

    def maximum(self, x: Number, y: Number) -> str:
        return self.select(self.compare("sgt", x, y), x, y)

    def divide(self, x: Number, y: Number) -> tuple[str, str]:
        """Quotient and remainder of numbers that are not negative."""
        if str(y) == "1":
            return str(x), "0"
        quotient = self._whole("udiv", x, y)
        return quotient, self._whole("sub", x, self.mul(quotient, y))

    def compare(self, how: str, x: Number, y: Number) -> str:
        return self.line(f"icmp {how} i64 {x}, {y}")

    def select(self, truth: str, x: Number, y: Number) -> str:
        return self.line(f"select i1 {truth}, i64 {x}, i64 {y}")

    # Control

    def loop(
        self,
        low: Number,
        high: Number,
        step: Number | Callable[[], Number],
        body: Body,
        carried: Sequence[tuple[str, str]] = (),
    ) -> tuple[str, list[str]]:
        """`body(i, values)` for each i from low up to high.

        Arguments:
            step: how far it is to the next i; a function gives what the body found out.
            carried: type and first value of what each pass hands on to the next one, by returning it.

        Returns:
            The first number that was not taken, and what the last pass returned.
        """
        before, head, inside, after = self.block, self.label(), self.label(), self.label()
        counter, i, following = self.name(), self.name(), self.name()
        values = [self.name() for _ in carried]
        self.do(f"br label %{head}")
        self.start(head)
        place = len(self.lines)
        # A frozen counter is nothing that LLVM knows how to reduce, which takes it half of its time and gains nothing
        # where an address is a sum of two registers anyway.
        self.do(f"{i} = freeze i64 {counter}")
        more = self.compare("slt", i, high)
        self.do(f"br i1 {more}, label %{inside}, label %{after}")
        self.start(inside)
        results = list(body(i, values) or ())
        self.do(f"{following} = add i64 {i}, {step() if callable(step) else step}")
        self.do(f"br label %{head}")
        latch = self.block
        phis = [f"  {counter} = phi i64 [ {low}, %{before} ], [ {following}, %{latch} ]"]
        for name, (kind, first), result in zip(values, carried, results, strict=True):
            phis.append(f"  {name} = phi {kind} [ {first}, %{before} ], [ {result}, %{latch} ]")
        self.lines[place:place] = phis
        self.start(after)
        return i, values

    def choose(
        self,
        truth: str,
        if_true: Callable[[], Sequence[str] | None],
        if_false: Callable[[], Sequence[str] | None] | None = None,
        kinds: Sequence[str] = (),
    ) -> list[str]:
        """One branch or the other; gives the values that they return, of these types."""
        yes, no, after = self.label(), self.label(), self.label()
        self.do(f"br i1 {truth}, label %{yes}, label %{no if if_false else after}")
        self.start(yes)
        first = list(if_true() or ())
        first_end = self.block
        self.do(f"br label %{after}")
        second: list[str] = []
        second_end = ""
        if if_false:
            self.start(no)
            second = list(if_false() or ())
            second_end = self.block
            self.do(f"br label %{after}")
        self.start(after)
        return [
            self.line(f"phi {kind} [ {x}, %{first_end} ], [ {y}, %{second_end} ]")
            for kind, x, y in zip(kinds, first, second, strict=True)
        ]

    # Memory

    def at(self, address: str, kind: str, index: Number) -> str:
        """The address of an element."""
        if str(index) == "0":
            return address
        return self.line(f"getelementptr {kind}, ptr {address}, i64 {index}")

    def load(self, kind: str, address: str, align: int = 1) -> str:
        return self.line(f"load {kind}, ptr {address}, align {align}")

    def store(self, kind: str, value: str, address: str, align: int = 1) -> None:
        self.do(f"store {kind} {value}, ptr {address}, align {align}")

    def call(self, name: str, kind: str, operands: Sequence[str], more: str = "") -> str:
        """An intrinsic on operands of one type, which is that of its result: `call("fma", "float", [x, y, z])`."""
        types = [kind] * len(operands) + ([more.split()[0]] if more else [])
        name = self.module.intrinsic(f"llvm.{name}.{mangled(kind)}", kind, types)
        given = ", ".join([*(f"{kind} {x}" for x in operands), *([more] if more else [])])
        return self.line(f"call {kind} @{name}({given})")

    def splat(self, kind: str, value: str, lanes: int) -> str:
        """A number in all lanes."""
        if lanes == 1:
            return value
        whole = vector(kind, lanes)
        first = self.line(f"insertelement {whole} poison, {kind} {value}, i64 0")
        return self.line(f"shufflevector {whole} {first}, {whole} poison, <{lanes} x i32> zeroinitializer")

    def shuffle(self, kind: str, lanes: int, x: str, y: str, order: Sequence[int]) -> str:
        """Lanes of two vectors; those of the second one count from `lanes`."""
        places = ", ".join(f"i32 {place}" for place in order)
        whole = vector(kind, lanes)
        return self.line(f"shufflevector {whole} {x}, {whole} {y}, <{len(order)} x i32> <{places}>")

    def first_lanes(self, count: str, lanes: int) -> str:
        """A mask that is true in the first lanes."""
        numbers = ", ".join(f"i32 {lane}" for lane in range(lanes))
        some = self.line(f"trunc i64 {self.minimum(count, lanes)} to i32")
        return self.line(f"icmp slt <{lanes} x i32> <{numbers}>, {self.splat('i32', some, lanes)}")

    def masked_load(self, kind: str, lanes: int, address: str, mask: str) -> str:
        """The lanes of a mask; zeros in the others, whose memory is not touched."""
        whole = vector(kind, lanes)
        name = f"llvm.masked.load.{mangled(whole)}.p0"
        name = self.module.intrinsic(name, whole, ["ptr", "i32", f"<{lanes} x i1>", whole])
        return self.line(f"call {whole} @{name}(ptr {address}, i32 1, <{lanes} x i1> {mask}, {whole} zeroinitializer)")

    def masked_store(self, kind: str, lanes: int, value: str, address: str, mask: str) -> None:
        whole = vector(kind, lanes)
        name = f"llvm.masked.store.{mangled(whole)}.p0"
        name = self.module.intrinsic(name, "void", [whole, "ptr", "i32", f"<{lanes} x i1>"])
        self.do(f"call void @{name}({whole} {value}, ptr {address}, i32 1, <{lanes} x i1> {mask})")


def paired(text: Function, x: str, y: str, lanes: int) -> str:
    """Two vectors of 16 bits as one of 32: the bits of x below those of y."""
    if lanes == 1:
        x, y = (text.line(f"zext i16 {value} to i32") for value in (x, y))
        return text.line(f"or i32 {x}, {text.line(f'shl i32 {y}, 16')}")
    order = [lane // 2 + lanes * (lane % 2) for lane in range(2 * lanes)]
    both = text.shuffle("i16", lanes, x, y, order)
    return text.line(f"bitcast <{2 * lanes} x i16> {both} to <{lanes} x i32>")


def upper_half(text: Function, pair: str, part: int) -> str:
    """The first (0) or second (1) bfloat16 of a pair, as a float."""
    bits = f"and i32 {pair}, {0xFFFF0000}" if part else f"shl i32 {pair}, 16"
    return text.line(f"bitcast i32 {text.line(bits)} to float")


def transposed(text: Function, kind: str, rows: Sequence[str]) -> list[str]:
    """As many vectors as each has lanes, as the rows of a matrix; gives its columns.

    Blocks of one lane change places across the diagonal of 2x2 squares, then blocks of two in 4x4, and so on.
    """
    lanes = len(rows)
    rows = list(rows)
    distance = 1
    while distance < lanes:
        for i in range(lanes):
            if i & distance:
                continue
            x, y = rows[i], rows[i + distance]
            upper = [lane if not lane & distance else lanes + lane - distance for lane in range(lanes)]
            lower = [lane + distance if not lane & distance else lanes + lane for lane in range(lanes)]
            rows[i] = text.shuffle(kind, lanes, x, y, upper)
            rows[i + distance] = text.shuffle(kind, lanes, x, y, lower)
        distance *= 2
    return rows


# Elements


class Element(NamedTuple):
    """What a number of a dtype looks like in memory, and in registers, where it is computed with.

    Attributes:
        parts: 2 for complex numbers, whose real and imaginary part lie side by side.
        kind: the LLVM type of a part in memory.
        size: its bytes.
        number: the LLVM type of a part in registers.
        dtype: the dtype that it stands for.
    """

    dtype: numpy.dtype
    parts: int
    kind: str
    size: int
    number: str

    @property
    def number_size(self) -> int:
        return {"float": 4, "double": 8, "i32": 4, "i64": 8}[self.number]

    @property
    def is_float(self) -> bool:
        return self.number in ("float", "double")

    @property
    def converts(self) -> bool:
        return self.kind != self.number

    def widen(self, text: Function, value: str, lanes: int) -> str:
        """From memory to registers."""
        if not self.converts:
            return value
        before, after = vector(self.kind, lanes), vector(self.number, lanes)
        if self.dtype == dtypes.bfloat16:
            return from_bfloat16(text.line, value, lanes)
        if self.dtype.kind == "f" and not text.target.has_float16:
            return _from_float16(text, value, lanes)
        if self.dtype.kind == "f":
            half = vector("half", lanes)
            value = text.line(f"bitcast {before} {value} to {half}")
            return text.line(f"fpext {half} {value} to {after}")
        return text.line(f"{'sext' if self.dtype.kind == 'i' else 'zext'} {before} {value} to {after}")

    def narrow(self, text: Function, value: str, lanes: int) -> str:
        """From registers to memory."""
        if not self.converts:
            return value
        before, after = vector(self.number, lanes), vector(self.kind, lanes)
        if self.dtype == dtypes.bfloat16:
            return to_bfloat16(text.line, value, lanes)
        if self.dtype.kind == "f" and not text.target.has_float16:
            return _to_float16(text, value, lanes)
        if self.dtype.kind == "f":
            half = vector("half", lanes)
            value = text.line(f"fptrunc {before} {value} to {half}")
            return text.line(f"bitcast {half} {value} to {after}")
        return text.line(f"trunc {before} {value} to {after}")

    def multiply_add(self, text: Function, x: str, y: str, total: str, lanes: int) -> str:
        """x * y + total; for booleans x and y, or total."""
        kind = vector(self.number, lanes)
        if self.is_float:  # in one instruction where there is one
            return text.call("fmuladd", kind, [x, y, total])
        multiply, add = ("and", "or") if self.dtype.kind == "b" else ("mul", "add")
        product = text.line(f"{multiply} {kind} {x}, {y}")
        return text.line(f"{add} {kind} {product}, {total}")

    def plus(self, text: Function, x: str, y: str, lanes: int) -> str:
        operation = "fadd" if self.is_float else "or" if self.dtype.kind == "b" else "add"
        return text.line(f"{operation} {vector(self.number, lanes)} {x}, {y}")

    def zero(self, lanes: int) -> str:
        return "zeroinitializer" if lanes > 1 else "0.0" if self.is_float else "0"


def _from_float16(text: Function, value: str, lanes: int) -> str:
    """With the bits moved to where float32 has them, all that is wrong is the exponent, which a product puts right."""
    short, whole, number, truth = (vector(kind, lanes) for kind in ("i16", "i32", "float", "i1"))

    def of(constant: int) -> str:
        return splat("i32", str(constant), lanes)

    wide = text.line(f"zext {short} {value} to {whole}")
    bits = text.line(f"and {whole} {wide}, {of(0x7FFF)}")
    moved = text.line(f"shl {whole} {bits}, {of(13)}")
    moved = text.line(f"bitcast {whole} {moved} to {number}")
    scaled = text.line(f"fmul {number} {moved}, {splat('float', '0x46F0000000000000', lanes)}")  # 2.0**112
    scaled = text.line(f"bitcast {number} {scaled} to {whole}")
    infinite = text.line(f"icmp uge {whole} {bits}, {of(0x7C00)}")
    full = text.line(f"or {whole} {scaled}, {of(0x7F800000)}")
    scaled = text.line(f"select {truth} {infinite}, {whole} {full}, {whole} {scaled}")
    sign = text.line(f"and {whole} {wide}, {of(0x8000)}")
    sign = text.line(f"shl {whole} {sign}, {of(16)}")
    return text.line(f"bitcast {whole} {text.line(f'or {whole} {scaled}, {sign}')} to {number}")


def _to_float16(text: Function, value: str, lanes: int) -> str:
    """Rounded to the nearest even: subnormal numbers by an addition that has their last digit as its own."""
    short, whole, number, truth = (vector(kind, lanes) for kind in ("i16", "i32", "float", "i1"))

    def of(constant: int) -> str:
        return splat("i32", str(constant), lanes)

    bits = text.line(f"bitcast {number} {value} to {whole}")
    size = text.line(f"and {whole} {bits}, {of(0x7FFFFFFF)}")
    odd = text.line(f"lshr {whole} {size}, {of(13)}")
    odd = text.line(f"and {whole} {odd}, {of(1)}")
    normal = text.line(f"add {whole} {size}, {of(0xFFF - (112 << 23))}")
    normal = text.line(f"add {whole} {normal}, {odd}")
    normal = text.line(f"lshr {whole} {normal}, {of(13)}")
    small = text.line(f"bitcast {whole} {size} to {number}")
    small = text.line(f"fadd {number} {small}, {splat('float', '0.5', lanes)}")
    small = text.line(f"bitcast {number} {small} to {whole}")
    small = text.line(f"sub {whole} {small}, {of(0x3F000000)}")
    is_small = text.line(f"icmp ult {whole} {size}, {of(0x38800000)}")
    result = text.line(f"select {truth} {is_small}, {whole} {small}, {whole} {normal}")
    missing = text.line(f"icmp ugt {whole} {size}, {of(0x7F800000)}")
    large = text.line(f"select {truth} {missing}, {whole} {of(0x7E00)}, {whole} {of(0x7C00)}")
    is_large = text.line(f"icmp uge {whole} {size}, {of(0x47800000)}")
    result = text.line(f"select {truth} {is_large}, {whole} {large}, {whole} {result}")
    sign = text.line(f"lshr {whole} {bits}, {of(16)}")
    sign = text.line(f"and {whole} {sign}, {of(0x8000)}")
    result = text.line(f"or {whole} {result}, {sign}")
    return text.line(f"trunc {whole} {result} to {short}")


def element_of(dtype: Any) -> Element:
    """How numbers of a dtype are kept and computed with."""
    dtype = dtypes.canonical(dtype)
    if dtype.kind == "c":
        kind = "float" if dtype.itemsize == 8 else "double"
        return Element(dtype, 2, kind, dtype.itemsize // 2, kind)
    if dtypes.is_floating(dtype):
        kind = {2: "i16", 4: "float", 8: "double"}[dtype.itemsize]
        return Element(dtype, 1, kind, dtype.itemsize, "double" if kind == "double" else "float")
    # Products of narrow whole numbers wrap around when they are stored: their lower bits are the same at any width.
    kind = f"i{8 * dtype.itemsize}"
    return Element(dtype, 1, kind, dtype.itemsize, "i64" if dtype.itemsize == 8 else "i32")
