"""What a function for products of matrices is made for, and what it is called with.

A `ContractionSpec` is what its code depends on: dtypes, the scheme, who reads the operands. Everything else, sizes and
strides among it, comes with each call in a list of numbers, the context, whose places `SLOTS` names. A `Frame` is what
the files that write code share: the spec, and the size of a tile on the CPU at hand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy

from funcgrad import dtypes
from funcgrad.compiler.contraction.text import Element, Function, element_of, upper_half
from funcgrad.compiler.module import Module, vector
from funcgrad.compiler.target import Target

SLOTS = (
    *("a", "b", "c", "scratch", "epilogue"),
    *("m", "n", "k", "block_m", "block_n", "block_k", "blocks_m", "blocks_n", "inner_batches"),
    *("a_outer", "a_inner", "a_m", "a_k", "b_outer", "b_inner", "b_k", "b_n", "c_outer", "c_inner", "c_m", "c_n"),
    *("partial_bytes", "panel_bytes"),
)
"""What the slots of a context hold: addresses, of which that of the epilogue may be null, then whole numbers. Strides
count elements."""

ADDRESSES = ("a", "b", "c", "scratch", "epilogue")
ROW_BYTES = 2048  # of a row in a tile of a, at most
WIDEST = 6  # vectors in a tile
ROW_PADDING = 64  # keeps rows of a tile out of each other's cache sets


Digits = tuple[tuple[int, int], ...]  # how many, and how far apart, from the slowest to the fastest
Reader = Callable[[Function, str, str, str, str, tuple[str, ...]], str]


class Patches(NamedTuple):
    """A convolution as a product: where its operands are. Distances count elements.

    Attributes:
        rows, steps: of the array in scratch memory: windows, and what is in a window.
        group: how far apart groups are there.
        offset: the bytes in scratch memory before it.
        kernel: of the kernels in memory: what is in a window.
        kernel_output, kernel_group: how far apart outputs and groups of outputs are.
        outputs: how many there are in a group.
        results: of the result in memory: windows.
        result_output: how far apart its outputs are.
        pairs: whether the CPU multiplies pairs of its numbers.
    """

    rows: Digits
    steps: Digits
    group: int
    offset: int
    kernel: Digits
    kernel_output: int
    kernel_group: int
    outputs: int
    results: Digits
    result_output: int
    pairs: bool


class ContractionSpec(NamedTuple):
    """What a function for products of matrices is made for; all else are arguments of it.

    Arguments:
        a, b, out: dtypes of the operands and of the result. Sums are computed in float32 if the operands are narrower
            floats.
        scheme: the `scheme` of the plan.
        read_a: `read_a(text, outer, inner, m, k, extra)` writes code that gives element (m, k) of a, in memory's type;
            None if a lies in memory with strides.
        read_b: the same for b and (k, n). Only the schemes "panels" and "packed" can read b so.
        patches: of a convolution, which has its own readers.
        extra: how many addresses for the readers follow the slots of the context.
        name: the name of the function. That which packs b is called like it, with "_pack" after it.
    """

    a: numpy.dtype
    b: numpy.dtype
    out: numpy.dtype
    scheme: str = "in_place"
    read_a: Reader | None = None
    read_b: Reader | None = None
    patches: Patches | None = None
    extra: int = 0
    name: str = "contraction"

    @property
    def has_plain_rows(self) -> bool:
        """Whether rows of c are at a fixed distance from each other, and contiguous."""
        return self.patches is None or len(self.patches.results) == self.patches.result_output == 1


class Shape(NamedTuple):
    """The tile of a target: `rows` by `vectors` of `lanes` numbers; `depth` numbers of a row of a."""

    rows: int
    vectors: int
    lanes: int
    depth: int
    stride: int

    @property
    def width(self) -> int:
        return self.vectors * self.lanes

    @property
    def reach(self) -> int:
        """How many columns a tile may be ahead of the last one."""
        return WIDEST * self.lanes


def multiplies_pairs(a: numpy.dtype, b: numpy.dtype, target: Target) -> bool:
    """Whether numbers are multiplied two by two, and both products added to a sum, by one instruction of the CPU."""
    return a == b == dtypes.bfloat16 and target.vector_bytes > 0 and target.has_bfloat16_dot


def tile_shape(target: Target, number_size: int) -> Shape:
    """As many rows as leave registers for two vectors of b and one number of a."""
    lanes = max(1, target.vector_bytes // number_size)
    many = target.vector_registers == 32 and target.vector_bytes in (16, 64)
    rows = 14 if many and lanes > 1 else 6 if target.has_fma and lanes > 1 else 4
    depth = ROW_BYTES // number_size
    return Shape(rows, 2, lanes, depth, depth + ROW_PADDING // number_size)


class Frame:
    """What the functions of one spec have in common, and how they get at their arguments."""

    def __init__(self, spec: ContractionSpec, module: Module):
        self.spec, self.module, self.target = spec, module, module.target
        self.a, self.b, self.out = element_of(spec.a), element_of(spec.b), element_of(spec.out)
        self.wide = self.a if self.a.number_size >= self.b.number_size else self.b  # what sums are computed in
        self.number, self.size, self.parts = self.wide.number, self.wide.number_size, self.wide.parts
        self.shape = tile_shape(self.target, self.size)
        # Tiles and panels hold *steps* of the loop over k: numbers, or pairs of two that follow each other along k.
        has_pairs = spec.patches.pairs if spec.patches is not None else spec.read_a is None and spec.read_b is None
        self.pairs = has_pairs and multiplies_pairs(self.a.dtype, self.b.dtype, self.target)
        self.step = "i32" if self.pairs else self.number
        # A convolution keeps copies of its operands as numbers, or as what makes pairs.
        self.kept, self.kept_size = (self.a.kind, self.a.size) if self.pairs else (self.number, self.size)
        # Where results need more than to be stored, they go through memory (the first level of the cache), so that the
        # code for it is written once and not for each register.
        self.direct = not self.out.converts and self.parts == 1 and spec.has_plain_rows
        self.in_place, self.turned = spec.scheme.startswith("in_place"), spec.scheme == "in_place_turned"
        self.slots: dict[str, str] = {}

    def helper(self, what: str) -> str:
        """The name of a function that others call. What is the same for several specs has the same name."""
        reader = {"rows": self.spec.read_a, "panel": self.spec.read_b, "finish": None}[what]
        if reader is not None or self.spec.patches is not None:
            return f"{self.spec.name}_{what}"
        if what == "finish":
            how = "single" if self.spec.scheme == "dot" else "rows"
            return f"contraction_finish_{how}_{self.number}_{self.out.dtype.name}"
        return f"contraction_{what}_{(self.a if what == 'rows' else self.b).dtype.name}_{self.number}"

    # Steps of the loop over k, which are as large as sums are

    def steps(self, text: Function, count: str) -> str:
        """How many steps so many numbers are."""
        return text.line(f"lshr i64 {text.add(count, 1)}, 1") if self.pairs else count

    def first_of(self, text: Function, step: str) -> str:
        """The first number of a step."""
        return text.mul(step, 2) if self.pairs else step

    def keep(self, text: Function, element: Element, value: str, lanes: int) -> str:
        """Numbers from memory as a convolution keeps them."""
        return value if self.pairs else element.widen(text, value, lanes)

    def multiply_add(self, text: Function, x: str, y: str, total: str, lanes: int) -> str:
        """x * y + total, of steps; of pairs, both products are added."""
        if not self.pairs:
            return self.wide.multiply_add(text, x, y, total, lanes)
        if lanes == 1:
            for part in (0, 1):
                first, second = (upper_half(text, value, part) for value in (x, y))
                total = self.wide.multiply_add(text, first, second, total, 1)
            return total
        kind, pairs = vector(self.number, lanes), f"<{2 * lanes} x bfloat>"
        if self.target.architecture == "aarch64":
            name = f"llvm.aarch64.neon.bfdot.v{lanes}f32.v{2 * lanes}bf16"
        else:
            name = f"llvm.x86.avx512bf16.dpbf16ps.{32 * lanes}"
        name = self.module.intrinsic(name, kind, [kind, pairs, pairs])
        x, y = (text.line(f"bitcast {vector('i32', lanes)} {value} to {pairs}") for value in (x, y))
        return text.line(f"call {kind} @{name}({kind} {total}, {pairs} {x}, {pairs} {y})")

    # Slots

    def function(self, name: str, arguments: str, internal: bool = False) -> Function:
        text = Function(self.module, name, arguments.split(", "), internal)
        self.slots = {}
        return text

    def slot(self, text: Function, name: str, scale: int = 1) -> str:
        """The number in a slot, times `scale`. All are to be read before the first branch."""
        key = f"{name}*{scale}"
        if key not in self.slots:
            place = text.at("%context", "i64", SLOTS.index(name))
            kind = "ptr" if name in ADDRESSES else "i64"
            value = self.slots.get(f"{name}*1") or text.load(kind, place, 8)
            self.slots[f"{name}*1"] = value
            self.slots[key] = text.mul(value, scale) if scale > 1 else value
        return self.slots[key]

    def extra(self, text: Function) -> tuple[str, ...]:
        """The addresses for readers."""
        first = len(SLOTS)
        return tuple(text.load("ptr", text.at("%context", "i64", first + i), 8) for i in range(self.spec.extra))

    def operand(self, text: Function, name: str, outer: str, inner: str) -> str:
        """Where the operand begins for an element of the batch."""
        element = {"a": self.a, "b": self.b, "c": self.out}[name]
        apart = text.add(
            text.mul(outer, self.slot(text, f"{name}_outer")), text.mul(inner, self.slot(text, f"{name}_inner"))
        )
        return text.at(self.slot(text, name), element.kind, text.mul(apart, element.parts))
