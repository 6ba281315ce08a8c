"""dot_general as a product of matrices: which axes of the operands are rows, columns and batches, and where they lie.

An operand is read where it lies, through transposes, slices, broadcasts and reshapes, as long as its axes can be
joined to one axis of rows, one of sums and at most two of batches, each with one stride. An operand that has no such
axes is copied first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from funcgrad import dtypes
from funcgrad.compiler.contraction import ContractionSpec, Plan, plan_contraction, write_contraction
from funcgrad.compiler.contraction.convolution import plan_convolution, write_convolution
from funcgrad.compiler.elements import Indices
from funcgrad.compiler.expressions import Axis, Buffer, computing_dtype
from funcgrad.compiler.indices import axis_index, flatten, load
from funcgrad.compiler.loops import Kernel, Statement, Store
from funcgrad.compiler.module import Module
from funcgrad.compiler.nests import loops_over
from funcgrad.compiler.scattering import filled
from funcgrad.compiler.simplify import uniform_number
from funcgrad.compiler.target import Target
from funcgrad.primitives.contraction import dot_general
from funcgrad.program import Equation, Variable

Follow = Callable[[Any, Indices], tuple[Any, Indices]]


def supports_product(equation: Equation) -> bool:
    """Whether there is native code for the dtypes of a product."""
    (x, _), (result,) = equation.operands, equation.results
    if x.dtype.kind == "b":
        return False
    if x.dtype.kind == "c":  # which kernels cannot copy
        return layout_of(equation, [strided(y, None) for y in equation.operands]) is not None
    return result.dtype == x.dtype or (x.dtype in (dtypes.float16, dtypes.bfloat16) and result.dtype == dtypes.float32)


class Strided(NamedTuple):
    """An array that is read from the memory of `base`: from the element `offset` on, with a stride for each axis."""

    base: Any
    offset: int
    strides: tuple[int, ...]


def strided(x: Any, follow: Follow | None) -> Strided:
    """Where the elements of `x` are found without doing the movements of data that lead to it."""
    if follow is None or x.dtype.kind == "c":
        return Strided(x, 0, contiguous(x.shape))
    axes = [Axis(length, "d") for length in x.shape]
    base, index = follow(x, tuple(map(axis_index, axes)))
    if type(base) is Variable or (base is not None and uniform_number(base) is None):
        place = flatten(index, base.shape)
        strides = [place.factor(axis) for axis in axes]
        if None not in strides:
            return Strided(base, place.constant, tuple(strides))  # type: ignore[arg-type]
    return Strided(x, 0, contiguous(x.shape))


def contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    """The strides of an array that lies in memory in order and without gaps."""
    strides, step = [], 1
    for length in reversed(shape):
        strides.append(step)
        step *= length
    return tuple(reversed(strides))


def joined(lengths: Sequence[int], strides: Sequence[int]) -> tuple[int, int] | None:
    """Axes as one axis: its length and its stride; None if no one stride reaches all elements in order."""
    total, stride = 1, 1
    for length, step in reversed(list(zip(lengths, strides, strict=True))):
        if length == 1:
            continue
        if total == 1:
            stride = step
        elif step != stride * total:
            return None
        total *= length
    return total, stride


def batches(lengths: Sequence[int], x: Sequence[int], y: Sequence[int]) -> list[tuple[int, int, int]] | None:
    """Batch axes as at most two: the length of each, and the strides of both operands; None if there have to be
    more."""
    found: list[tuple[int, int, int]] = []
    for length, step_x, step_y in zip(lengths, x, y, strict=True):
        if length == 1:
            continue
        if found and found[-1][1] == step_x * length and found[-1][2] == step_y * length:
            found[-1] = found[-1][0] * length, step_x, step_y
        else:
            found.append((length, step_x, step_y))
    return found if len(found) <= 2 else None


def layout_of(equation: Equation, found: Sequence[Strided]) -> Any:
    """Lengths and strides of batches, rows, columns and sums; None if the axes cannot be joined to so few."""
    (contract, batch), operands = equation.params["dimension_numbers"], equation.operands

    def taken(side: int, axes: Sequence[int]) -> tuple[list[int], list[int]]:
        return [operands[side].shape[a] for a in axes], [found[side].strides[a] for a in axes]

    free = free_axes(equation)
    rows, columns = joined(*taken(0, free[0])), joined(*taken(1, free[1]))
    sums = joined(*taken(0, contract[0])), joined(*taken(1, contract[1]))
    lengths, steps = taken(0, batch[0])
    side_by_side = batches(lengths, steps, taken(1, batch[1])[1])
    along_x, along_y = sums
    if rows is None or columns is None or side_by_side is None or along_x is None or along_y is None:
        return None
    (k, step_x), (_, step_y) = along_x, along_y
    side_by_side = [(1, 0, 0)] * (2 - len(side_by_side)) + side_by_side
    batch_lengths = tuple(length for length, _, _ in side_by_side)
    strides_x = (*(x for _, x, _ in side_by_side), rows[1], step_x)
    strides_y = (*(y for _, _, y in side_by_side), step_y, columns[1])
    return batch_lengths, strides_x, strides_y, (rows[0], columns[0], k)


def is_matrix(equation: Equation, side: int, found: Strided) -> bool:
    """Whether an operand has one stride for rows, and one along the sums."""
    axes = free_axes(equation)[side], equation.params["dimension_numbers"][0][side]
    shape = equation.operands[side].shape
    return all(joined([shape[a] for a in some], [found.strides[a] for a in some]) is not None for some in axes)


def free_axes(equation: Equation) -> list[list[int]]:
    """The axes of each operand that the result has, too."""
    contract, batch = equation.params["dimension_numbers"]
    return [
        [axis for axis in range(len(x.shape)) if axis not in (*contract[side], *batch[side])]
        for side, x in enumerate(equation.operands)
    ]


class Product:
    """How one product is computed: from which buffers, and by which plan.

    Attributes:
        copies: kernels that have to run before, for operands that do not lie as a product wants them.
        a, b, c, scratch: the buffers of operands and result, and one to work in.
        offsets: the first element of each operand in its buffer.
        swapped: whether the operands change places.
        numbers: what follows the addresses in the context of its functions.
        steps: its functions: what follows its name in theirs, how many tasks there are, how many to take at a time.
        key: equal for products that the same functions compute.
        cost: multiplications in all.
        columns: how many neighbours in the result are one row of a product; 0 if it cannot have an epilogue.
        dtype: that of the sums.
    """

    def __init__(self, equation: Equation, follow: Follow, buffers: Any, target: Target):
        (contract, batch), operands = equation.params["dimension_numbers"], equation.operands
        (self.result,) = equation.results
        free = free_axes(equation)
        self.copies: list[Kernel] = []
        found = [strided(x, follow) for x in operands]
        layout = layout_of(equation, found)
        # One after the other, since it may be enough to copy one: first those that cannot be read as a matrix.
        for side in sorted((0, 1), key=lambda side: is_matrix(equation, side, found[side])):
            if layout is None:
                order = (*batch[side], *free[side], *contract[side])
                found[side] = self.copied(operands[side], order, found[side], buffers)
                layout = layout_of(equation, found)
        assert layout is not None
        lengths, strides_x, strides_y, (m, n, k) = layout
        dtype = operands[0].dtype
        self.plan: Plan = plan_contraction(lengths, m, n, k, strides_x, strides_y, None, dtype, target)
        self.a, self.b = (x.base if isinstance(x.base, Buffer) else buffers[x.base] for x in found)
        self.offsets = found[0].offset, found[1].offset
        self.c = buffers[self.result]
        self.scratch = Buffer(self.plan.scratch_bytes, dtypes.bool_, "panels")
        self.swapped, self.numbers, self.cost = self.plan.swapped, self.plan.numbers, self.plan.cost
        self.key = ContractionSpec(dtype, dtype, self.result.dtype, self.plan.scheme)
        self.dtype = computing_dtype(dtype)
        takes_rows = self.plan.scheme != "dot" and not self.plan.swapped and dtype.kind in "fV"
        self.columns = n if takes_rows else 0
        pack = [("_pack", self.plan.pack_tasks, max(1, self.plan.pack_tasks // 16))] if self.plan.pack_tasks else []
        self.steps = (*pack, ("", self.plan.tasks, self.plan.grain))

    def write(self, module: Module, name: str) -> None:
        """Add the functions to a module."""
        write_contraction(module, self.key._replace(name=name))

    def __str__(self) -> str:
        m, n, k = self.numbers[:3]
        swapped = ", by its transpose" if self.swapped else ""
        operands = f"{self.a.name}, {self.b.name}"
        return f"{self.c.name} = product({operands}), {m} x {k} by {k} x {n}{swapped}: {self.plan.scheme}"

    def copied(self, x: Any, order: Sequence[int], source: Strided, buffers: Any) -> Strided:
        """A copy of an operand with its axes in another order."""
        shape = [x.shape[axis] for axis in order]
        target = Buffer(math.prod(shape), x.dtype, "ordered")

        def body(index: Indices) -> list[Statement]:
            place = sum((i * source.strides[axis] for i, axis in zip(index, order, strict=True)), flatten((), ()))
            return [Store(target, flatten(index, shape), load(buffers[source.base], place + source.offset))]

        self.copies += loops_over(shape, body)
        strides = dict(zip(order, contiguous(shape), strict=True))
        return Strided(target, 0, tuple(strides[axis] for axis in range(len(order))))


class Convolution:
    """How one convolution is computed; the same to a schedule as a `Product`."""

    def __init__(self, equation: Equation, buffers: Any, target: Target):
        (x, kernel), (result,), params = equation.operands, equation.results, equation.params
        self.copies: list[Kernel] = []
        self.offsets, self.swapped = (0, 0), False
        self.plan = plan_convolution(
            x.shape, kernel.shape, result.shape, x.dtype, target, **{name: params[name] for name in CONVOLUTION_PARAMS}
        )
        self.a, self.b, self.c = buffers[x], buffers[kernel], buffers[result]
        self.scratch = Buffer(self.plan.scratch_bytes, dtypes.bool_, "patches")
        self.numbers, self.cost, self.steps = self.plan.numbers, self.plan.cost, self.plan.steps
        self.key, self.dtype = self.plan, computing_dtype(x.dtype)
        patches = self.plan.patches
        in_rows = not self.plan.is_depthwise and x.dtype.kind in "fV" and patches.results[1:] == ()
        is_whole = params["feature_group_count"] == params["batch_group_count"] == patches.result_output == 1
        self.columns = patches.outputs if in_rows and is_whole and patches.results[0][1] == patches.outputs else 0

    def write(self, module: Module, name: str) -> None:
        """Add the functions to a module."""
        write_convolution(module, self.plan, name)

    def __str__(self) -> str:
        return f"{self.c.name} = convolution({self.a.name}, {self.b.name}), {self.cost} multiplications"


CONVOLUTION_PARAMS = (
    *("window_strides", "padding", "lhs_dilation", "rhs_dilation", "dimension_numbers"),
    *("feature_group_count", "batch_group_count", "preferred_element_type"),
)


def supports_convolution(equation: Equation) -> bool:
    """Whether there is native code for a convolution."""
    (x, kernel), (result,) = equation.operands, equation.results
    if x.dtype.kind not in "fiuV" or 0 in (*x.shape, *kernel.shape, *result.shape) or x.dtype.kind == "c":
        return False
    return result.dtype == x.dtype or (x.dtype in (dtypes.float16, dtypes.bfloat16) and result.dtype == dtypes.float32)


def operands_in_memory(equation: Equation, follow: Follow) -> list[Any]:
    """What has to be in memory for an equation that is computed by itself."""
    if equation.primitive is dot_general:
        return [strided(x, follow).base for x in equation.operands]
    return list(filled(equation, follow).operands)
