"""Convolutions, as products of matrices whose rows are windows.

All that `conv_general_dilated` can do is in three steps, which all are functions `(ptr context, i64 low, i64 high)`:

1. prepare: the array is copied once, features last, with the zeros that padding and dilation put around and between its
   elements. Where windows are is a sum of digits then, with nothing to check.
2. pack: the kernels are copied to panels, as columns of b.
3. the product, whose tiles take their rows of a right from the copy of the array.

A gradient of a convolution is a convolution with other dimension numbers, so it is the same code. Groups with just one
output each (a depthwise convolution, and its gradient with respect to the kernel) would waste a tile: there vectors run
over groups, and step 3 is `write_depthwise`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy

from funcgrad.compiler.contraction.finish import call_finish, has_epilogue, write_finish
from funcgrad.compiler.contraction.frame import (
    ADDRESSES,
    SLOTS,
    ContractionSpec,
    Digits,
    Frame,
    Patches,
    multiplies_pairs,
)
from funcgrad.compiler.contraction.kernel import write_contraction
from funcgrad.compiler.contraction.patches import kernel_order, merged, patches_address, place_of, write_turned
from funcgrad.compiler.contraction.plan import Plan, plan_contraction
from funcgrad.compiler.contraction.text import element_of
from funcgrad.compiler.module import Module, vector
from funcgrad.compiler.target import Target

GAP = 128  # bytes after the copy of the array, which whole vectors may read
DEPTHWISE_ROWS = 8
UNROLLED = 25  # places in a window, at most, that are written one after the other


class _Axis(NamedTuple):
    """A spatial axis."""

    length: int
    window: int
    stride: int
    low: int
    base: int  # dilation of the array
    apart: int  # dilation of the kernel
    positions: int

    @property
    def padded(self) -> int:
        """How much of it windows cover."""
        return (self.positions - 1) * self.stride + (self.window - 1) * self.apart + 1


class ConvolutionPlan(NamedTuple):
    """How a convolution is computed.

    Attributes:
        steps: the functions to call one after the other, each for all of its tasks before the next: what follows the
            name of the convolution in theirs, how many tasks they have, and how many a thread should take at a time.
        numbers: what follows the addresses (of array, kernels, result, scratch memory and epilogue) in the slots of the
            context.
        scratch_bytes: of scratch memory, aligned to 64.
        cost: multiplications in all.
    """

    steps: tuple[tuple[str, int, int], ...]
    numbers: tuple[int, ...]
    scratch_bytes: int
    cost: int
    product: Plan
    patches: Patches
    axes: tuple[_Axis, ...]
    is_depthwise: bool
    examples: int
    features: int
    room: int
    source: tuple[int, ...]
    dtype: numpy.dtype
    out: numpy.dtype

    def context(self, x: int, kernels: int, result: int, scratch: int, epilogue: int = 0) -> list[int]:
        """The slots of a context for operands at these addresses."""
        return [x, kernels, result, scratch, epilogue, *self.numbers]


def _contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    strides, total = [], 1
    for length in reversed(shape):
        strides.append(total)
        total *= length
    return tuple(reversed(strides))


def plan_convolution(
    shape: Sequence[int],
    shape_kernel: Sequence[int],
    shape_result: Sequence[int],
    dtype: Any,
    target: Target,
    *,
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int],
    rhs_dilation: Sequence[int],
    dimension_numbers: Sequence[Sequence[int]],
    feature_group_count: int,
    batch_group_count: int,
    preferred_element_type: Any = None,
) -> ConvolutionPlan:
    """Chooses how to compute a convolution of contiguous arrays.

    Arguments:
        shape, shape_kernel, shape_result: of the array, of the kernels and of the result; none is empty.
        dtype: of array and kernels; not a complex one.
        target: the CPU.
        Others: the params of the primitive `conv_general_dilated`.
    """
    lhs_spec, rhs_spec, _ = dimension_numbers
    out = numpy.dtype(preferred_element_type or dtype)
    element = element_of(dtype)
    lanes = max(1, target.vector_bytes // element.number_size)
    groups = max(feature_group_count, batch_group_count)
    by_batch = batch_group_count > 1
    batch, features = shape[lhs_spec[0]], shape[lhs_spec[1]]
    outputs = shape_kernel[rhs_spec[0]] // groups
    inputs = shape_kernel[rhs_spec[1]]
    axes = tuple(
        _Axis(shape[a], shape_kernel[k], stride, low, base, apart, shape_result[o])
        for a, k, o, stride, (low, _), base, apart in zip(
            *(spec[2:] for spec in dimension_numbers), window_strides, padding, lhs_dilation, rhs_dilation, strict=True
        )
    ) or (_Axis(1, 1, 1, 0, 1, 1, 1),)
    strides = [_contiguous(x) for x in (shape, shape_kernel, shape_result)]
    of_x, of_kernel, of_result = (
        [own[axis] for axis in spec] + [0] * (3 - len(spec))
        for own, spec in zip(strides, dimension_numbers, strict=True)
    )
    is_depthwise = outputs == 1 and groups > 1 and lanes > 1
    pairs = not is_depthwise and multiplies_pairs(element.dtype, element.dtype, target)
    kept_size = element.size if pairs else element.number_size
    examples = batch // batch_group_count

    # The copy of the array has the axes (example, *position, feature). Of a depthwise convolution, groups are last.
    if is_depthwise:
        last, before = groups, features if by_batch else inputs
        outermost = examples if by_batch else batch
        room = -(-groups // lanes) * lanes
        group_in_x = of_x[0] * examples if by_batch else of_x[1] * inputs
        source = (of_x[0], of_x[1], *of_x[2:], group_in_x)
    else:
        last, before, outermost, room = features, 1, batch, features
        source = (of_x[0], 0, *of_x[2:], of_x[1])
    copied = _contiguous((outermost, before, *(axis.padded for axis in axes), room))
    of_copy = copied[2:-1]
    rows = ((examples, copied[0]), *((axis.positions, axis.stride * s) for axis, s in zip(axes, of_copy, strict=True)))
    window = tuple((axis.window, axis.apart * s) for axis, s in zip(axes, of_copy, strict=True))
    inner = (before, copied[1]) if is_depthwise else (inputs, 1)
    kernel = (*((axis.window, s) for axis, s in zip(axes, of_kernel[2:], strict=False)), (inputs, of_kernel[1]))
    results = ((examples, of_result[0]), *((a.positions, s) for a, s in zip(axes, of_result[2:], strict=False)))
    # By the digits of k, what is in a window is numbered the same way in both operands.
    m, k = examples * math.prod(axis.positions for axis in axes), inputs * math.prod(axis.window for axis in axes)
    group = 1 if is_depthwise else examples * copied[0] if by_batch else inputs
    width = room if is_depthwise else groups * (-(-outputs // lanes) * lanes)
    offset = -(-width * (k + k % 2) * kept_size // 64) * 64
    patches = Patches(
        rows=merged(rows),
        steps=(*window, inner) if is_depthwise else _with_run(merged((*window, inner))),
        group=group,
        offset=offset,
        kernel=kernel,
        kernel_output=of_kernel[0],
        kernel_group=of_kernel[0] * outputs,
        outputs=outputs,
        results=merged(results),
        result_output=of_result[1],
        pairs=pairs,
    )
    product = plan_contraction(
        groups,
        *(m, outputs, k),
        *((0, 0, 0), (0, 0, 0), (of_result[1] * outputs, patches.results[0][1], of_result[1])),
        dtype,
        target,
        reads_a=True,
        reads_b=True,
        scheme="packed",
        pairs=pairs,
    )
    numbers = list(product.numbers)
    if is_depthwise:
        numbers[SLOTS.index("c_n") - len(ADDRESSES)] = of_result[1]
    size = outermost * before * math.prod(axis.padded for axis in axes) * room * kept_size
    prepare = outermost * before * axes[0].padded
    strip = size // max(1, prepare)
    if is_depthwise:
        blocks = -(-m // DEPTHWISE_ROWS)
        grain = max(1, (1 << 15) // max(1, k * groups * DEPTHWISE_ROWS))
        steps = (("_pack", k, max(1, 4096 // groups)), ("", blocks, grain))
    else:
        pack = product.pack_tasks * kernel_order(patches)[2][0][0]
        grain = max(1, (1 << 15) * pack // (groups * outputs * k))
        steps = (("_pack", pack, grain), ("", product.tasks, product.grain))
    return ConvolutionPlan(
        steps=(("_prepare", prepare, max(1, (1 << 15) // max(1, strip))), *steps),
        numbers=tuple(numbers),
        scratch_bytes=offset + size + GAP,
        cost=product.cost,
        product=product,
        patches=patches,
        axes=axes,
        is_depthwise=is_depthwise,
        examples=outermost,
        features=last,
        room=room,
        source=(before, *source),
        dtype=numpy.dtype(dtype),
        out=out,
    )


def _with_run(digits: Digits) -> Digits:
    """With neighbours as the last digit."""
    return digits if digits[-1][1] == 1 else (*digits, (1, 1))


def convolution_ir(
    plan: ConvolutionPlan,
    target: Target,
    name: str = "convolution",
) -> str:
    """A module in LLVM's language with the functions of a convolution."""
    module = Module(target)
    write_convolution(module, plan, name)
    return module.text()


def write_convolution(module: Module, plan: ConvolutionPlan, name: str) -> None:
    """Add the functions of a convolution to a module that may hold others.

    To an epilogue, a row is the number of a window (over examples and positions), a column is an output of a group, and
    `inner` is the group; of a depthwise convolution, the group is the column.
    """
    spec = ContractionSpec(
        a=plan.dtype,
        b=plan.dtype,
        out=plan.out,
        scheme="packed",
        patches=plan.patches,
        name=name,
    )
    kernel = Frame(spec, module)
    write_prepare(kernel, plan, f"{name}_prepare")
    if plan.is_depthwise:
        write_pack_depthwise(kernel, plan, f"{name}_pack")
        write_depthwise(kernel, plan, name)
        write_finish(kernel, kernel.helper("finish"))
    else:
        write_contraction(module, spec)


def write_prepare(kernel: Frame, plan: ConvolutionPlan, name: str) -> None:
    """Copies the array. A task is one index of the first spatial axis, of one example."""
    text = kernel.function(name, "ptr %context, i64 %low, i64 %high")
    patches, number, element, lanes = plan.patches, kernel.kept, kernel.a, kernel.shape.lanes
    x = kernel.slot(text, "a")
    target = patches_address(kernel, text, patches, "0")
    before, of_example, of_before, *of_axes, of_last = plan.source
    first, *others = plan.axes
    kind = vector(number, lanes)
    length = math.prod(axis.padded for axis in others) * plan.room

    def inside(axis: _Axis, p: str) -> tuple[str, str]:
        """Whether there is an element at a padded place, and which."""
        q = text.sub(p, axis.low) if axis.low >= 0 else text.add(p, -axis.low)
        ok = text.compare("sge", q, 0)
        if axis.base > 1:
            q, rest = text.divide(text.maximum(q, 0), axis.base)
            ok = text.line(f"and i1 {ok}, {text.compare('eq', rest, 0)}")
        return text.line(f"and i1 {ok}, {text.compare('slt', q, axis.length)}"), q

    def clear(place: str, count: int) -> None:
        whole = count // lanes * lanes

        def wide(i: str, _: list[str]) -> None:
            text.store(kind, "zeroinitializer", text.at(place, number, i), kernel.kept_size)

        def single(i: str, _: list[str]) -> None:
            text.store(number, "zeroinitializer", text.at(place, number, i), kernel.kept_size)

        text.loop(0, whole, lanes, wide)
        text.loop(whole, count, 1, single)

    def copy(source: str, place: str) -> None:
        step = lanes if of_last == 1 else 1
        whole = plan.features // step * step

        def some(lanes: int):
            def move(i: str, _: list[str]) -> None:
                value = text.load(vector(element.kind, lanes), text.at(source, element.kind, text.mul(i, of_last)))
                value = kernel.keep(text, element, value, lanes)
                text.store(vector(number, lanes), value, text.at(place, number, i), kernel.kept_size)

            return move

        text.loop(0, whole, step, some(step))
        text.loop(whole, plan.features, 1, some(1))

    def turn(axis: _Axis, source: str, place: str) -> None:
        """The last axis, whose elements are neighbours, while those of features are not."""
        low = max(0, axis.low)
        skipped = low - axis.low
        count = max(0, min(axis.length - skipped, axis.padded - low))
        clear(place, low * plan.room)
        clear(text.at(place, number, (low + count) * plan.room), (axis.padded - low - count) * plan.room)
        write_turned(
            text,
            element,
            None,
            kernel,
            (str(plan.features), str(count)),
            lambda i, j: text.at(source, element.kind, text.add(text.mul(i, of_last), text.add(j, skipped))),
            lambda i, j: text.at(place, number, text.add(text.mul(text.add(j, low), plan.room), i)),
        )

    def over(axes: Sequence[_Axis], strides: Sequence[int], source: str, place: str) -> None:
        """All of the axes that are left."""
        if not axes:
            copy(source, place)
            return
        axis, apart = axes[0], strides[0]
        if len(axes) == 1 and apart == axis.base == 1 and of_last != 1 and lanes > 1:
            turn(axis, source, place)
            return
        size = math.prod(other.padded for other in axes[1:]) * plan.room

        def at(p: str, _: list[str]) -> None:
            ok, q = inside(axis, p)
            own = text.at(place, number, text.mul(p, size))
            text.choose(
                ok,
                lambda: over(axes[1:], strides[1:], text.at(source, element.kind, text.mul(q, apart)), own),
                lambda: clear(own, size),
            )

        text.loop(0, axis.padded, 1, at)

    def task(t: str, _: list[str]) -> None:
        rest, p = text.divide(t, first.padded)
        example, feature = text.divide(rest, before)
        ok, q = inside(first, p)
        place = text.at(target, number, text.mul(t, length))
        start = text.add(text.mul(example, of_example), text.mul(feature, of_before))
        start = text.add(start, text.mul(q, of_axes[0]))
        text.choose(
            ok,
            lambda: over(others, of_axes[1:], text.at(x, element.kind, start), place),
            lambda: clear(place, length),
        )

    text.loop("%low", "%high", 1, task)
    text.finish()


# One output in each group


def write_pack_depthwise(kernel: Frame, plan: ConvolutionPlan, name: str) -> None:
    """Copies kernels: of each place in the window, those of all groups beside each other. A task is one such place."""
    text = kernel.function(name, "ptr %context, i64 %low, i64 %high")
    patches, element, number = plan.patches, kernel.b, kernel.number
    scratch, b = kernel.slot(text, "scratch"), kernel.slot(text, "b")

    def task(t: str, _: list[str]) -> None:
        source = text.at(b, element.kind, place_of(text, t, patches.kernel))
        target = text.at(scratch, number, text.mul(t, plan.room))

        def copy(g: str, _: list[str]) -> None:
            at = text.mul(text.minimum(g, plan.features - 1), patches.kernel_group)
            value = element.widen(text, text.load(element.kind, text.at(source, element.kind, at)), 1)
            text.store(number, value, text.at(target, number, g), kernel.size)

        text.loop(0, plan.room, 1, copy)

    text.loop("%low", "%high", 1, task)
    text.finish()


def write_depthwise(kernel: Frame, plan: ConvolutionPlan, name: str) -> None:
    """The product where vectors run over groups. A task is DEPTHWISE_ROWS windows."""
    text = kernel.function(name, "ptr %context, i64 %low, i64 %high")
    patches, number, lanes = plan.patches, kernel.number, kernel.shape.lanes
    kernel.slot(text, "epilogue")
    kernels = kernel.slot(text, "scratch")
    x = patches_address(kernel, text, patches, "0")
    kind = vector(number, lanes)
    sums = text.line(f"alloca [{DEPTHWISE_ROWS} x {kind}], align 64")
    windows = math.prod(count for count, _ in patches.rows)

    c = kernel.operand(text, "c", "0", "0")
    # Those with the largest steps first, so that what is near in memory is read soon after.
    weights = [math.prod(count for count, _ in patches.steps[at + 1 :]) for at in range(len(patches.steps))]
    steps = sorted(
        ((count, apart, weight) for (count, apart), weight in zip(patches.steps, weights, strict=True) if count > 1),
        key=lambda step: -step[1],
    )
    unrolled = math.prod(count for count, _, _ in steps) <= UNROLLED

    def places(r: str, height: int) -> list[str]:
        """Where windows begin: at equal distances, if the last digit of all is within its limits."""

        def each() -> list[str]:
            return [place_of(text, text.add(r, i), patches.rows) for i in range(height)]

        count, apart = patches.rows[-1]
        if height == 1:
            return each()

        def together() -> list[str]:
            start = place_of(text, r, patches.rows)
            return [text.add(start, i * apart) for i in range(height)]

        if len(patches.rows) == 1:
            return together()
        inside = text.compare("sle", text.add(text.divide(r, count)[1], height), count)
        return text.choose(inside, together, each, ["i64"] * height)

    def tile(r: str, height: int) -> None:
        rows = [text.at(x, number, place) for place in places(r, height)]
        results = [place_of(text, text.add(r, i), patches.results) for i in range(height)] if kernel.direct else []

        def columns(g: str, _: list[str]) -> None:
            own = [text.at(row, number, g) for row in rows]
            own_kernels = text.at(kernels, number, g)

            def over(steps: Sequence[tuple[int, int, int]], place: Any, k: Any, totals: list[str]) -> list[str]:
                if not steps:
                    weight = text.load(kind, text.at(own_kernels, number, text.mul(k, plan.room)), kernel.size)
                    values = [text.load(kind, text.at(row, number, place), kernel.size) for row in own]
                    return [
                        kernel.wide.multiply_add(text, value, weight, total, lanes)
                        for value, total in zip(values, totals, strict=True)
                    ]
                (count, apart, by), rest = steps[0], steps[1:]
                if unrolled:
                    for i in range(count):
                        totals = over(rest, place + i * apart, k + i * by, totals)
                    return totals

                def inner(i: str, totals: list[str]) -> list[str]:
                    return over(rest, text.add(place, text.mul(i, apart)), text.add(k, text.mul(i, by)), totals)

                return text.loop(0, count, 1, inner, [(kind, total) for total in totals])[1]

            totals = over(steps, 0, 0, [kernel.wide.zero(lanes)] * height)

            def to_finish() -> None:
                for i, total in enumerate(totals):
                    text.store(kind, total, text.at(sums, kind, i), kernel.size)
                end = text.minimum(text.add(g, lanes), plan.features)
                call_finish(kernel, text, sums, str(lanes), ("0", "0"), r, height, g, end)

            def to_result() -> None:
                for total, place in zip(totals, results, strict=True):
                    text.store(kind, total, text.at(c, kernel.out.kind, text.add(place, g)), kernel.out.size)

            if kernel.direct:
                inside = text.compare("sle", text.add(g, lanes), plan.features)
                stored = text.line(f"xor i1 {has_epilogue(kernel, text)}, true")
                text.choose(text.line(f"and i1 {inside}, {stored}"), to_result, to_finish)
            else:
                to_finish()

        text.loop(0, plan.features, lanes, columns)

    def task(t: str, _: list[str]) -> None:
        first = text.mul(t, DEPTHWISE_ROWS)
        end = text.minimum(text.add(first, DEPTHWISE_ROWS), windows)
        r, _ = text.loop(first, text.sub(end, DEPTHWISE_ROWS - 1), DEPTHWISE_ROWS, lambda r, _: tile(r, DEPTHWISE_ROWS))
        text.loop(r, end, 1, lambda r, _: tile(r, 1))

    text.loop("%low", "%high", 1, task)
    text.finish()
