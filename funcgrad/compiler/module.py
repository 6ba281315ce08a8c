"""An LLVM module as text, and what all who write functions into one have in common.

Types are written by their LLVM names, such as "float", and by how many numbers of them are in a vector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from funcgrad.compiler.machine import Target


def vector(kind: str, lanes: int) -> str:
    """The type of `lanes` numbers of a kind; a single one is no vector."""
    return kind if lanes == 1 else f"<{lanes} x {kind}>"


def splat(kind: str, number: str, lanes: int) -> str:
    """A constant, in all lanes."""
    return number if lanes == 1 else f"splat ({kind} {number})"


def mangled(kind: str) -> str:
    """A type as the names of intrinsics spell it."""
    if kind.startswith("<"):
        lanes, inner = kind[1:-1].split(" x ")
        return f"v{lanes}{mangled(inner)}"
    return {"float": "f32", "double": "f64", "half": "f16"}.get(kind, kind)


def has_masks(target: Target, size: int) -> bool:
    """Whether single lanes of this many bytes can be left out of loads and stores."""
    if target.architecture != "x86_64":
        return False
    return target.vector_bytes == 64 or (target.vector_bytes == 32 and size in (4, 8))


def from_bfloat16(line: Callable[[str], str], value: str, lanes: int) -> str:
    """A float32 from the bits of a bfloat16. `line` writes an instruction and gives the name of its result."""
    short, whole, number = (vector(kind, lanes) for kind in ("i16", "i32", "float"))
    wide = line(f"zext {short} {value} to {whole}")
    wide = line(f"shl {whole} {wide}, {splat('i32', '16', lanes)}")
    return line(f"bitcast {whole} {wide} to {number}")


def rounded_to_bfloat16(line: Callable[[str], str], value: str, lanes: int, keeps_nan: bool = True) -> str:
    """A float32 whose lower half is zero: rounded to the nearest even of those.

    The upper half is a bfloat16 then. The instruction that some CPUs have for it is not used, since it takes subnormal
    numbers for zero.

    Arguments:
        line: writes an instruction and gives the name of its result.
        value: the name of the float32.
        lanes: how many of them it has.
        keeps_nan: whether a NaN shall stay one also if it differs from infinity in the lower half alone, or has all
            bits of the upper half. No arithmetic on numbers of bfloat16 makes such.
    """
    whole, number, truth = (vector(kind, lanes) for kind in ("i32", "float", "i1"))

    def of(constant: int) -> str:
        return splat("i32", str(constant), lanes)

    bits = line(f"bitcast {number} {value} to {whole}")
    upper = line(f"lshr {whole} {bits}, {of(16)}")
    odd = line(f"and {whole} {upper}, {of(1)}")
    half = line(f"add {whole} {odd}, {of(0x7FFF)}")
    rounded = line(f"add {whole} {bits}, {half}")
    if keeps_nan:
        quiet = line(f"or {whole} {bits}, {of(0x400000)}")
        missing = line(f"fcmp uno {number} {value}, {value}")
        rounded = line(f"select {truth} {missing}, {whole} {quiet}, {whole} {rounded}")
    rounded = line(f"and {whole} {rounded}, {of(-0x10000)}")
    return line(f"bitcast {whole} {rounded} to {number}")


def upper_half(line: Callable[[str], str], value: str, lanes: int) -> str:
    """The upper half of the bits of a float32, which is a bfloat16 if the lower half is zero."""
    short, whole, number = (vector(kind, lanes) for kind in ("i16", "i32", "float"))
    bits = line(f"bitcast {number} {value} to {whole}")
    upper = line(f"lshr {whole} {bits}, {splat('i32', '16', lanes)}")
    return line(f"trunc {whole} {upper} to {short}")


def to_bfloat16(line: Callable[[str], str], value: str, lanes: int) -> str:
    """A float32 as the bits of a bfloat16: the upper half of them, rounded to the nearest even; NaN stays NaN."""
    return upper_half(line, rounded_to_bfloat16(line, value, lanes), lanes)


class Module:
    """The functions of one module, and what they need."""

    def __init__(self, target: Target):
        self.target = target
        self.declarations: dict[str, str] = {}
        self.functions: list[str] = []
        self.names: set[str] = set()

    def intrinsic(self, name: str, result: str, operands: Sequence[str]) -> str:
        """Declares an LLVM intrinsic; gives its name for a call."""
        if name not in self.declarations:
            self.declarations[name] = f"declare {result} @{name}({', '.join(operands)})"
        return name

    def text(self) -> str:
        """The whole module. Functions have the attributes #0, or #1 for registers of half the size."""
        attributes = []
        for number, width in enumerate((8 * self.target.vector_bytes, 4 * self.target.vector_bytes)):
            vectors = f' "min-legal-vector-width"="{width}" "prefer-vector-width"="{width}"' if width else ""
            attributes.append(f"attributes #{number} = {{ nounwind{vectors} }}")
        return "\n".join([*self.declarations.values(), *self.functions, *attributes, ""])
