"""An LLVM module as text, and what all who write functions into one have in common.

Types are written by their LLVM names, such as "float", and by how many numbers of them are in a vector.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from funcgrad.compiler.cache import sha256
from funcgrad.compiler.machine import Part
from funcgrad.compiler.target import Target

UNNAMED = "UNNAMED"
NAME = re.compile(r"@([\w.]+)")  # of a function or a constant
NAMED_BY_CONTENTS = re.compile(r"\b(?:kernel|product)\.[0-9a-f]{12}")
SHARED = "contraction_"  # what the names of functions begin with that are the same in all Programs
LARGE_FUNCTION = 8192  # characters; smaller ones are compiled together, since each module takes time of its own


def name_of(function: str) -> str:
    """The name of a function, from its text."""
    return re.findall(NAME, function[: function.index("(")])[0]


def bundles(functions: Sequence[str]) -> list[list[str]]:
    """Small functions, some together."""
    found: list[list[str]] = []
    for text in functions:
        if not found or sum(map(len, found[-1])) >= LARGE_FUNCTION:
            found.append([])
        found[-1].append(text)
    return found


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
    """The functions of one module, and what they need.

    Attributes:
        functions: those that run so often that LLVM shall take its time over them.
        glue: those that run once a call, and so are better compiled than run quickly.
    """

    def __init__(self, target: Target):
        self.target = target
        self.declarations: dict[str, str] = {}
        self.functions: list[str] = []
        self.glue: list[str] = []
        self.names: set[str] = set()

    def intrinsic(self, name: str, result: str, operands: Sequence[str]) -> str:
        """Declares an LLVM intrinsic; gives its name for a call."""
        if name not in self.declarations:
            self.declarations[name] = f"declare {result} @{name}({', '.join(operands)})"
        return name

    def name_by_contents(self, kind: str) -> str:
        """Names what was written last, functions whose names begin with UNNAMED, by what is in them.

        So another Program with the same functions finds their machine code.
        """
        unnamed = [n for n, text in enumerate(self.functions) if "@" + UNNAMED in text]
        contents = "\n".join(self.functions[n] for n in unnamed)
        name = f"{kind}.{sha256(contents.encode()).hexdigest()[:12]}"
        for n in unnamed:
            self.functions[n] = self.functions[n].replace("@" + UNNAMED, "@" + name)
        self.names = {x for x in self.names if not x.startswith(UNNAMED)}
        return name

    def readable(self) -> str:
        """The whole module, with numbers in place of the names by contents."""
        text = self.text()
        for number, name in enumerate(dict.fromkeys(re.findall(NAMED_BY_CONTENTS, text))):
            text = text.replace(name, f"{name.partition('.')[0]}{number}")
        return text

    def text(self) -> str:
        """The whole module. Functions have the attributes #0, or #1 for registers of half the size."""
        return self._text([*self.declarations.values(), *self.functions, *self.glue])

    def _text(self, lines: Sequence[str]) -> str:
        attributes = []
        for number, width in enumerate((8 * self.target.vector_bytes, 4 * self.target.vector_bytes)):
            vectors = f' "min-legal-vector-width"="{width}" "prefer-vector-width"="{width}"' if width else ""
            attributes.append(f"attributes #{number} = {{ nounwind{vectors} }}")
        return "\n".join([*lines, *attributes, ""])

    def parts(self) -> list[Part]:
        """The same as several modules, which can be compiled at the same time and kept one by one.

        Each has a large function or several small ones, and declares what it calls of others.
        """
        headers = {name_of(text): text[: text.index("{")].rstrip() for text in [*self.functions, *self.glue]}
        parts = [[text] for text in self.functions if len(text) >= LARGE_FUNCTION]
        small = {name_of(text): text for text in self.functions if len(text) < LARGE_FUNCTION}
        # Those that other Programs have as well make parts of their own, always in the same order.
        shared = sorted(name for name in small if name.startswith(SHARED))
        parts += bundles([small.pop(name) for name in shared]) + bundles([*small.values()])
        modules = [Part(self._part(functions, headers), self.target) for functions in parts]
        return modules + [Part(self._part([text], headers), self.target, 0) for text in self.glue]

    def _part(self, functions: Sequence[str], headers: dict[str, str]) -> str:
        own = set(map(name_of, functions))
        used = dict.fromkeys(name for text in functions for name in re.findall(NAME, text))
        declared = [self.declarations[name] for name in used if name in self.declarations]
        declared += [self.declarations["@" + name] for name in used if "@" + name in self.declarations]
        for name in used:
            if name in headers and name not in own:
                kind = headers[name].removeprefix("define ").removeprefix("internal ").rpartition(" #")[0]
                declared.append(f"declare hidden {kind}")
        return self._text([*declared, *(text.replace("define internal ", "define ", 1) for text in functions)])
