"""What each operation of kernels is in LLVM's language, for single values and for vectors.

Each operation has a function that writes it, in one of two tables: `BINARY_WRITERS`, for what also brings two results
together, and `WRITERS`, for all. Types of values and the forms of constants stand here, too.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy

from funcgrad import dtypes
from funcgrad.compiler.expressions import BINARY, COMPARISONS, FLOAT32, INT32, INT64, Axis, Expression
from funcgrad.compiler.module import Module, from_bfloat16, rounded_to_bfloat16, splat, to_bfloat16, upper_half, vector

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
    return vector(kind, lanes)


def suffix(dtype: numpy.dtype, lanes: int) -> str:
    """What the name of an LLVM intrinsic for this type ends in."""
    kind = f"f{8 * dtype.itemsize}" if dtype.kind == "f" else f"i{8 * dtype.itemsize}"
    return kind if lanes == 1 else f"v{lanes}{kind}"


def number_text(x: Expression) -> str:
    """A constant as LLVM writes it."""
    return _number_text(x.dtype, x.payload)


@lru_cache(4096)
def _number_text(dtype: numpy.dtype, payload: bytes) -> str:
    if dtype == dtypes.bfloat16:
        return str(int.from_bytes(payload, "little"))
    if dtype.kind == "f" and dtype.itemsize == 2:
        return f"0xH{int.from_bytes(payload, 'little'):04X}"
    number = numpy.frombuffer(payload, dtype)[0]
    if dtype.kind == "b":
        return "true" if number else "false"
    if dtype.kind in "iu":
        return str(int(number))
    with numpy.errstate(invalid="ignore"):
        return "0x" + struct.pack(">d", float(number)).hex().upper()


def vector_constant(dtype: numpy.dtype, number: str, lanes: int) -> str:
    """A number that LLVM has written out, for all lanes."""
    return splat(register_type(dtype), number, lanes)


class Level:
    """A loop that is being written, or (the first one) the function around all loops."""

    def __init__(self, axis: Axis | None, variable: str, lanes: int):
        self.axis, self.variable, self.lanes = axis, variable, lanes
        self.lines: list[str] = []
        self.values: dict[Any, tuple[str, int]] = {}


class Instructions:
    """Writes instructions at levels: what operations need of whoever writes a function."""

    def __init__(self, writer: Module):
        self.writer = writer
        self.count = 0
        self.levels = [Level(None, "", 1)]

    def name(self) -> str:
        self.count += 1
        return f"%v{self.count}"

    def line(self, text: str, level: Level | None = None) -> str:
        """An instruction at a level (the innermost one, if none is given); gives the name of its result."""
        name = self.name()
        (level or self.levels[-1]).lines.append(f"  {name} = {text}")
        return name

    def call(
        self, level: Level, name: str, dtype: numpy.dtype, lanes: int, operands: Sequence[str], more: str = ""
    ) -> str:
        """Call an intrinsic that takes and gives values of one type; `more` are further operands, with their types."""
        kind = register_type(dtype, lanes)
        kinds = [kind] * len(operands) + [x.split()[0] for x in more.split(", ") if x]
        function = self.writer.intrinsic(f"llvm.{name}.{suffix(dtype, lanes)}", kind, kinds)
        arguments = ", ".join([f"{kind} {y}" for y in operands] + ([more] if more else []))
        return self.line(f"call {kind} @{function}({arguments})", level)


# What each operation becomes. A writer gets the level to write at, the expression, the number of lanes and the names
# of the operands.

ValueWriter = Callable[[Instructions, Level, Expression, int, list[str]], str]
BinaryWriter = Callable[..., str]


def _instruction(whole: str, floating: str, unsigned: str = "") -> BinaryWriter:
    def write(writer: Instructions, level: Level, dtype: numpy.dtype, lanes: int, x: str, y: str) -> str:
        name = floating if dtype.kind == "f" else (unsigned or whole) if dtype.kind in "ub" else whole
        return writer.line(f"{name} {register_type(dtype, lanes)} {x}, {y}", level)

    return write


def _extreme(comparison: str, name: str) -> BinaryWriter:
    """The smaller or greater one; of floats, NaN if there is one."""

    def write(writer: Instructions, level: Level, dtype: numpy.dtype, lanes: int, x: str, y: str) -> str:
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


def _quick_extreme(comparison: str) -> BinaryWriter:
    """The smaller or greater one of two floats, of which none is NaN."""

    def write(writer: Instructions, level: Level, dtype: numpy.dtype, lanes: int, x: str, y: str) -> str:
        kind, truth = register_type(dtype, lanes), register_type(numpy.dtype(bool), lanes)
        first = writer.line(f"fcmp {comparison} {kind} {x}, {y}", level)
        return writer.line(f"select {truth} {first}, {kind} {x}, {kind} {y}", level)

    return write


def _copysign(writer: Instructions, level: Level, dtype: numpy.dtype, lanes: int, x: str, y: str) -> str:
    return writer.call(level, "copysign", dtype, lanes, [x, y])


def _gcd(writer: Instructions, level: Level, dtype: numpy.dtype, lanes: int, x: str, y: str) -> str:
    kind, name = register_type(dtype, lanes), f"gcd.{suffix(dtype, lanes)}"
    if name not in writer.writer.names:
        writer.writer.names.add(name)
        writer.writer.functions.append(_gcd_function(writer, name, dtype, lanes))
    return writer.line(f"call {kind} @{name}({kind} {x}, {kind} {y})", level)


def _gcd_function(writer: Instructions, name: str, dtype: numpy.dtype, lanes: int) -> str:
    """The greatest common divisor as a function, since it has a loop: as long as a lane has something left, take the
    smaller one of two odd numbers from the larger one, and halve what is left until it is odd (J. Stein, Journal of
    Computational Physics 1, 1967)."""
    kind, bits = register_type(dtype, lanes), 8 * dtype.itemsize
    zero, last = (splat(register_type(dtype), number, lanes) for number in ("0", str(bits - 1)))
    truth = vector("i1", lanes)
    zeros, smaller, larger = (
        f"call {kind} @{writer.writer.intrinsic(f'llvm.{function}.{suffix(dtype, lanes)}', kind, kinds)}"
        for function, kinds in [("cttz", [kind, "i1"]), ("umin", [kind, kind]), ("umax", [kind, kind])]
    )
    if lanes == 1:
        some = "%some = icmp ne i1 %more, 0"
    else:
        some = f"%some_bits = bitcast {truth} %more to i{lanes}\n  %some = icmp ne i{lanes} %some_bits, 0"
    return f"""define internal {kind} @{name}({kind} %x, {kind} %y) #0 {{
entry:
  %both = or {kind} %x, %y
  %all_twos = {zeros}({kind} %both, i1 false)
  %twos = {smaller}({kind} %all_twos, {kind} {last})
  %x_is_zero = icmp eq {kind} %x, {zero}
  %first = select {truth} %x_is_zero, {kind} %y, {kind} %x
  %second = select {truth} %x_is_zero, {kind} {zero}, {kind} %y
  %first_zeros = {zeros}({kind} %first, i1 false)
  %first_twos = {smaller}({kind} %first_zeros, {kind} {last})
  %odd = lshr {kind} %first, %first_twos
  br label %again
again:
  %a = phi {kind} [ %odd, %entry ], [ %less, %again ]
  %b = phi {kind} [ %second, %entry ], [ %left, %again ]
  %b_zeros = {zeros}({kind} %b, i1 false)
  %b_twos = {smaller}({kind} %b_zeros, {kind} {last})
  %b_odd = lshr {kind} %b, %b_twos
  %done = icmp eq {kind} %b, {zero}
  %small = {smaller}({kind} %a, {kind} %b_odd)
  %large = {larger}({kind} %a, {kind} %b_odd)
  %difference = sub {kind} %large, %small
  %less = select {truth} %done, {kind} %a, {kind} %small
  %left = select {truth} %done, {kind} {zero}, {kind} %difference
  %more = icmp ne {kind} %left, {zero}
  {some}
  br i1 %some, label %again, label %end
end:
  %divisor = shl {kind} %less, %twos
  ret {kind} %divisor
}}"""


BINARY_WRITERS: dict[str, BinaryWriter] = {
    "add": _instruction("add", "fadd"),
    "sub": _instruction("sub", "fsub"),
    "mul": _instruction("mul", "fmul"),
    "div": _instruction("sdiv", "fdiv", "udiv"),
    "rem": _instruction("srem", "frem", "urem"),
    "min": _extreme("olt", "min"),
    "max": _extreme("ogt", "max"),
    "quick_min": _quick_extreme("olt"),
    "quick_max": _quick_extreme("ogt"),
    "and": _instruction("and", ""),
    "or": _instruction("or", ""),
    "xor": _instruction("xor", ""),
    "shl": _instruction("shl", ""),
    "lshr": _instruction("lshr", ""),
    "ashr": _instruction("ashr", ""),
    "copysign": _copysign,
    "gcd": _gcd,
    "last": lambda writer, level, dtype, lanes, x, y: y,
}


def _binary(operation: str) -> ValueWriter:
    write = BINARY_WRITERS[operation]
    return lambda writer, level, x, lanes, operands: write(writer, level, x.dtype, lanes, *operands)


def _comparison(operation: str) -> ValueWriter:
    def write(writer: Instructions, level: Level, x: Expression, lanes: int, operands: list[str]) -> str:
        dtype = x.operands[0].dtype
        if dtype.kind == "f":
            how = "fcmp " + ("une" if operation == "ne" else f"o{operation}")
        elif operation in ("eq", "ne"):
            how = f"icmp {operation}"
        else:
            how = f"icmp {'s' if dtype.kind == 'i' else 'u'}{operation}"
        return writer.line(f"{how} {register_type(dtype, lanes)} {operands[0]}, {operands[1]}", level)

    return write


def _neg(writer: Instructions, level: Level, x: Expression, lanes: int, operands: list[str]) -> str:
    kind = register_type(x.dtype, lanes)
    if x.dtype.kind == "f":
        return writer.line(f"fneg {kind} {operands[0]}", level)
    return writer.line(f"sub {kind} {'0' if lanes == 1 else 'zeroinitializer'}, {operands[0]}", level)


def _abs(writer: Instructions, level: Level, x: Expression, lanes: int, operands: list[str]) -> str:
    if x.dtype.kind == "f":
        return writer.call(level, "fabs", x.dtype, lanes, operands)
    return operands[0] if x.dtype.kind == "u" else writer.call(level, "abs", x.dtype, lanes, operands, "i1 false")


def _not(writer: Instructions, level: Level, x: Expression, lanes: int, operands: list[str]) -> str:
    ones = vector_constant(x.dtype, "true" if x.dtype.kind == "b" else "-1", lanes)
    return writer.line(f"xor {register_type(x.dtype, lanes)} {operands[0]}, {ones}", level)


def _intrinsic(name: str, more: str = "") -> ValueWriter:
    return lambda writer, level, x, lanes, operands: writer.call(level, name, x.dtype, lanes, operands, more)


def select_text(writer: Instructions, level: Level, x: Expression, lanes: int, operands: list[str]) -> str:
    """One of two values, lane by lane."""
    kind, truth = register_type(x.dtype, lanes), register_type(x.operands[0].dtype, lanes)
    return writer.line(f"select {truth} {operands[0]}, {kind} {operands[1]}, {kind} {operands[2]}", level)


def _divide_index(instruction: str) -> ValueWriter:
    def write(writer: Instructions, level: Level, x: Expression, lanes: int, operands: list[str]) -> str:
        kind, by = register_type(INT64, lanes), vector_constant(INT64, str(x.payload), lanes)
        return writer.line(f"{instruction} {kind} {operands[0]}, {by}", level)

    return write


def _bitcast(writer: Instructions, level: Level, x: Expression, lanes: int, operands: list[str]) -> str:
    before, after = register_type(x.operands[0].dtype, lanes), register_type(x.dtype, lanes)
    return operands[0] if before == after else writer.line(f"bitcast {before} {operands[0]} to {after}", level)


def _convert(writer: Instructions, level: Level, x: Expression, lanes: int, operands: list[str]) -> str:
    (before,) = x.operands
    if before.operation == "rounded" and x.dtype == dtypes.bfloat16:
        return upper_half(lambda text: writer.line(text, level), operands[0], lanes)
    return write_conversion(writer, level, before.dtype, x.dtype, lanes, operands[0])


def _rounded(writer: Instructions, level: Level, x: Expression, lanes: int, operands: list[str]) -> str:
    if x.payload == "nothing to do":
        return operands[0]
    keeps_nan = x.payload == "any number"
    return rounded_to_bfloat16(lambda text: writer.line(text, level), operands[0], lanes, keeps_nan)


def write_conversion(
    writer: Instructions, level: Level, before: numpy.dtype, after: numpy.dtype, lanes: int, name: str
) -> str:
    """The code of `convert`."""

    def step(instruction: str, old: numpy.dtype, new: numpy.dtype, value: str) -> str:
        return writer.line(f"{instruction} {register_type(old, lanes)} {value} to {register_type(new, lanes)}", level)

    def line(text: str) -> str:
        return writer.line(text, level)

    if before == dtypes.bfloat16:
        number = from_bfloat16(line, name, lanes)
        return number if after == FLOAT32 else write_conversion(writer, level, FLOAT32, after, lanes, number)
    if after == dtypes.bfloat16:
        number = name if before == FLOAT32 else write_conversion(writer, level, before, FLOAT32, lanes, name)
        return to_bfloat16(line, number, lanes)
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


def _same(writer: Instructions, level: Level, x: Expression, lanes: int, operands: list[str]) -> str:
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
    "select": select_text,
    "rarely": select_text,
    "convert": _convert,
    "rounded": _rounded,
    "bitcast": _bitcast,
    "bounded": _same,
    "quotient": _divide_index("udiv"),
    "remainder": _divide_index("urem"),
}
