"""How operations come into random Programs: for each primitive a function that chooses operands and params.

Primitives of the same kind share a function, which is made for them: `_elementwise(ew.sin, FLOATS)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy

from funcgrad import dtypes
from funcgrad.control_flow.checkpoint import name_primitive
from funcgrad.core import Primitive
from funcgrad.primitives import elementwise as ew
from funcgrad.primitives import indexing, movement, reductions, windows
from funcgrad.primitives.bessel import bessel_i0e, bessel_i1e
from funcgrad.primitives.contraction import dot_general
from funcgrad.primitives.convolution import ConvDimensionNumbers, conv_general_dilated
from funcgrad.primitives.counting import iota
from funcgrad.primitives.integers import gcd
from funcgrad.primitives.randomness import threefry2x32
from funcgrad.primitives.shapes import broadcast_in_dim, reduce_sum, reshape, transpose
from funcgrad.primitives.sorting import sort, top_k
from funcgrad.program import Equation
from funcgrad.testing.random_programs.builder import (
    ANY,
    BOOL,
    COMPLEX,
    FLOATS,
    INEXACT,
    INTEGERS,
    NEUTRAL,
    NUMBERS,
    ORDERED,
    REALS,
    Builder,
)
from funcgrad.testing.random_programs.choices import shuffled, some
from funcgrad.testing.random_programs.values import MOST_ELEMENTS

Operation = Callable[[Builder], Any]

# Elementwise. `within` says where a function is more than NaN: its operand is mostly brought there first.


def _moderate(b: Builder, x: Any) -> Any:
    return b.add(ew.tanh, x)


def _positive(b: Builder, x: Any) -> Any:
    return b.add(ew.abs_, x) if x.dtype.kind == "f" else x


def _unit(b: Builder, x: Any) -> Any:
    return b.add(b.choices.pick((ew.sin, ew.tanh)), x)


def _above_one(b: Builder, x: Any) -> Any:
    return b.add(ew.cosh, b.add(ew.tanh, x)) if x.dtype.kind == "f" else x


def _elementwise(
    primitive: Primitive, accepted: Sequence[numpy.dtype], arity: int = 1, within: Any = None, percent: int = 60
) -> Operation:
    def operation(b: Builder) -> None:
        x = b.operand(accepted)
        if within is not None and x.dtype.kind in "fc" and b.choices.chance(percent):
            x = within(b, x)
        operands = [x]
        while len(operands) < arity:
            operands.append(b.partner(operands[0], x.dtype))
        b.add(primitive, *shuffled(b.choices, operands))

    return operation


def _pow(b: Builder) -> None:
    x = b.operand((*INEXACT, *INTEGERS))
    y = b.partner(x, x.dtype)
    if dtypes.is_integer(x.dtype):
        if b.choices.chance(50):
            y = b.add(ew.and_, y, b.number(x.dtype, 7))
    elif b.choices.chance(70):
        x, y = _positive(b, x), _moderate(b, y)
    b.add(ew.pow_, x, y)


def _integer_pow(b: Builder) -> None:
    x = b.operand(NUMBERS)
    lowest = -3 if dtypes.is_differentiable(x.dtype) else 0
    b.add(ew.integer_pow, x, exponent=b.choices.integer(lowest, 5))


def _polygamma(b: Builder) -> None:
    x = _positive(b, b.operand(FLOATS))
    b.add(ew.polygamma, b.number(x.dtype, b.choices.integer(1, 3)), x)


def _complex(b: Builder) -> None:
    x = b.operand(FLOATS)
    b.add(ew.complex_, *shuffled(b.choices, [x, b.partner(x, x.dtype)]))


def _select(b: Builder) -> None:
    x = b.operand(ANY)
    operands = [b.partner(x, dtypes.bool_), *shuffled(b.choices, [x, b.partner(x, x.dtype)])]
    if broadcastable(operands):
        b.add(ew.select, *operands)


def _convert(primitive: Primitive) -> Operation:
    def operation(b: Builder) -> None:
        x = b.operand(ANY)
        b.add(primitive, x, dtype=b.choices.pick(COMPLEX if x.dtype.kind == "c" else ANY))

    return operation


def _threefry(b: Builder) -> None:
    x = b.operand((dtypes.uint32,))
    others = [b.partner(x, dtypes.uint32) for _ in range(3)]
    if broadcastable([x, *others]):
        b.add(threefry2x32, x, *others)


def broadcastable(operands: Sequence[Any]) -> bool:
    """Whether several operands broadcast together."""
    try:
        return math.prod(numpy.broadcast_shapes(*(x.shape for x in operands))) <= MOST_ELEMENTS
    except ValueError:
        return False


def _named(b: Builder) -> None:
    b.add(name_primitive, b.operand(ANY), name="a name")


ELEMENTWISE: dict[Primitive, Operation] = {
    **{p: _elementwise(p, NUMBERS, 2) for p in (ew.add, ew.sub, ew.mul, ew.div)},
    **{p: _elementwise(p, NUMBERS) for p in (ew.neg, ew.abs_, ew.sign)},
    **{p: _elementwise(p, ORDERED, 2) for p in (ew.max_, ew.min_)},
    ew.rem: _elementwise(ew.rem, REALS, 2),
    ew.pow_: _pow,
    ew.integer_pow: _integer_pow,
    **{p: _elementwise(p, FLOATS) for p in (ew.floor, ew.ceil, ew.round_, ew.trunc)},
    ew.nextafter: _elementwise(ew.nextafter, FLOATS, 2),
    **{p: _elementwise(p, INEXACT, 1, _positive) for p in (ew.sqrt, ew.rsqrt, ew.log, ew.log2, ew.log10, ew.log1p)},
    ew.cbrt: _elementwise(ew.cbrt, FLOATS),
    **{p: _elementwise(p, INEXACT, 1, _moderate, 30) for p in (ew.exp, ew.exp2, ew.expm1, ew.sinh, ew.cosh)},
    **{p: _elementwise(p, INEXACT) for p in (ew.logistic, ew.sin, ew.cos, ew.tan, ew.atan, ew.tanh, ew.asinh)},
    **{p: _elementwise(p, INEXACT, 1, _unit) for p in (ew.asin, ew.acos, ew.atanh)},
    ew.acosh: _elementwise(ew.acosh, INEXACT, 1, _above_one),
    ew.atan2: _elementwise(ew.atan2, FLOATS, 2),
    **{p: _elementwise(p, FLOATS) for p in (ew.erf, ew.erfc, bessel_i0e, bessel_i1e)},
    ew.erf_inv: _elementwise(ew.erf_inv, FLOATS, 1, _unit),
    **{p: _elementwise(p, FLOATS, 1, _positive, 80) for p in (ew.lgamma, ew.digamma)},
    ew.polygamma: _polygamma,
    **{p: _elementwise(p, ANY, 2) for p in (ew.eq, ew.ne)},
    **{p: _elementwise(p, ORDERED, 2) for p in (ew.lt, ew.le, ew.gt, ew.ge)},
    **{p: _elementwise(p, ANY) for p in (ew.is_finite, ew.is_nan, ew.stop_gradient)},
    ew.sign_bit: _elementwise(ew.sign_bit, REALS),
    **{p: _elementwise(p, (*INTEGERS, *BOOL), 2) for p in (ew.and_, ew.or_, ew.xor)},
    ew.not_: _elementwise(ew.not_, (*INTEGERS, *BOOL)),
    ew.population_count: _elementwise(ew.population_count, INTEGERS),
    gcd: _elementwise(gcd, INTEGERS, 2),
    **{p: _elementwise(p, INTEGERS, 2) for p in (ew.shift_left, ew.shift_right_arithmetic, ew.shift_right_logical)},
    **{p: _elementwise(p, COMPLEX) for p in (ew.real, ew.imag, ew.conj)},
    ew.complex_: _complex,
    ew.select: _select,
    ew.convert: _convert(ew.convert),
    ew.convert_weak: _convert(ew.convert_weak),
    threefry2x32: _threefry,
    name_primitive: _named,
}

# Movements


def _reshape(b: Builder) -> None:
    x = b.operand(ANY, most=4)
    size = math.prod(x.shape)
    if size == 0:
        b.add(reshape, x, shape=tuple(shuffled(b.choices, [0, *(b.choices.integer(0, 3) for _ in range(2))])))
        return
    new, rest = [], size
    while rest > 1 and len(new) < 3:
        factor = b.choices.pick([n for n in range(2, min(rest, 64) + 1) if rest % n == 0] or [rest])
        new.append(factor)
        rest //= factor
    new += [rest] if rest > 1 else []
    b.add(reshape, x, shape=tuple(shuffled(b.choices, [*new, *[1] * b.choices.integer(0, 1)])))


def _transpose(b: Builder) -> None:
    x = b.operand(ANY, most=4)
    b.add(transpose, x, permutation=tuple(shuffled(b.choices, range(len(x.shape)))))


def _broadcast(b: Builder) -> None:
    x = b.operand(ANY)
    new: list[int] = []
    axes = []
    for length in x.shape:
        if b.choices.chance(25):
            new.append(b.choices.pick(b.lengths))
        axes.append(len(new))
        new.append(b.choices.pick(b.lengths) if length == 1 else length)
    if b.choices.chance(40):
        new.append(b.choices.pick(b.lengths))
    if math.prod(new) <= MOST_ELEMENTS or tuple(new) == x.shape:
        b.add(broadcast_in_dim, x, shape=tuple(new), axes=tuple(axes))


def _slice(b: Builder) -> None:
    x = b.operand(ANY, most=4)
    starts = [b.choices.integer(0, n if b.choices.chance(10) else min(n, 2)) for n in x.shape]
    limits = [b.choices.integer(max(a, n - 2), n) for a, n in zip(starts, x.shape, strict=True)]
    strides = [b.choices.pick((1, 1, 1, 2, 3)) for _ in x.shape]
    b.add(movement.slice_, x, starts=tuple(starts), limits=tuple(limits), strides=tuple(strides))


def _pad(b: Builder) -> None:
    x = b.operand(ANY)
    config = []
    for n in x.shape:
        between = b.choices.pick((0, 0, 0, 1, 2))
        room = n + max(n - 1, 0) * between
        before = b.choices.integer(-min(room, 2), 3)
        config.append((before, b.choices.integer(-min(room + min(before, 0), 2), 3), between))
    b.add(movement.pad, x, b.value((), x.dtype, fresh=60), config=tuple(config))


def _concatenate(b: Builder) -> None:
    x = b.operand(ANY, least=1)
    axis = b.choices.integer(0, len(x.shape) - 1)
    alike = [
        y
        for y in b.atoms
        if y.dtype is x.dtype
        and len(y.shape) == len(x.shape)
        and all(n == m for a, (n, m) in enumerate(zip(y.shape, x.shape, strict=True)) if a != axis)
    ]
    operands = [x]
    for _ in range(b.choices.integer(0, 2)):
        shape = (*x.shape[:axis], b.choices.pick(b.lengths), *x.shape[axis + 1 :])
        operands.append(b.recent(alike) if alike and b.choices.chance(60) else b.value(shape, x.dtype))
    b.add(movement.concatenate, *shuffled(b.choices, operands), axis=axis)


def _rev(b: Builder) -> None:
    x = b.operand(ANY, most=4)
    b.add(movement.rev, x, axes=tuple(some(b.choices, range(len(x.shape)))))


def _iota(b: Builder) -> None:
    shape = b.shape(least=1)
    dtype = b.choices.pick((*FLOATS, *INTEGERS, *COMPLEX))
    b.add(iota, shape=shape, dtype=dtype, axis=b.choices.integer(0, len(shape) - 1))


def _starts(b: Builder, count: int) -> list[Any]:
    dtype = b.choices.pick(INTEGERS)
    return [b.value((), dtype if b.choices.chance(80) else b.choices.pick(INTEGERS)) for _ in range(count)]


def _block(b: Builder, shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(b.choices.pick((n, b.choices.integer(0, n), min(n, 2))) for n in shape)


def _dynamic_slice(b: Builder) -> None:
    x = b.operand(ANY)
    b.add(movement.dynamic_slice, x, *_starts(b, len(x.shape)), sizes=_block(b, x.shape))


def _dynamic_update_slice(b: Builder) -> None:
    x = b.operand(ANY)
    update = b.value(_block(b, x.shape), x.dtype)
    b.add(movement.dynamic_update_slice, x, update, *_starts(b, len(x.shape)))


def _indices(b: Builder, x: Any, mode: str) -> tuple[tuple[int, ...], list[Any]]:
    """The axes that are indexed, and an index array for each; inside of the array where that is promised."""
    must_exist = mode in ("clip", "promise_in_bounds")
    axes = shuffled(b.choices, [a for a in some(b.choices, range(len(x.shape))) if x.shape[a] or not must_exist])
    if not axes:
        return (), []
    first = b.operand(INTEGERS, lambda y: math.prod(y.shape) <= 200, most=2)
    indices = [first, *(b.value(first.shape, b.choices.pick((first.dtype, *INTEGERS))) for _ in axes[1:])]
    if mode == "promise_in_bounds" or b.choices.chance(40):
        limits = [x.shape[axis] - 1 for axis in axes]
        indices = [b.clamped(i, 0, min(max(n, 0), 100)) for i, n in zip(indices, limits, strict=True)]
    return tuple(axes), indices


def _gather(b: Builder) -> None:
    x = b.operand(ANY)
    mode = b.choices.pick(("clip", "fill", "zero", "promise_in_bounds"))
    axes, indices = _indices(b, x, mode)
    b.add(indexing.gather, x, *indices, axes=axes, mode=mode)


def _scatter(primitive: Primitive, accepted: Sequence[numpy.dtype]) -> Operation:
    def operation(b: Builder) -> None:
        x = b.operand(accepted)
        mode = b.choices.pick(("clip", "drop", "promise_in_bounds"))
        axes, indices = _indices(b, x, mode)
        left = [n for axis, n in enumerate(x.shape) if axis not in axes]
        updates = b.value((*(indices[0].shape if indices else ()), *left), x.dtype)
        b.add(primitive, x, updates, *indices, axes=axes, mode=mode)

    return operation


MOVEMENT: dict[Primitive, Operation] = {
    reshape: _reshape,
    transpose: _transpose,
    broadcast_in_dim: _broadcast,
    movement.slice_: _slice,
    movement.pad: _pad,
    movement.concatenate: _concatenate,
    movement.rev: _rev,
    iota: _iota,
    movement.dynamic_slice: _dynamic_slice,
    movement.dynamic_update_slice: _dynamic_update_slice,
    indexing.gather: _gather,
    indexing.scatter_set: _scatter(indexing.scatter_set, ANY),
    indexing.scatter_add: _scatter(indexing.scatter_add, NUMBERS),
    indexing.scatter_mul: _scatter(indexing.scatter_mul, NUMBERS),
    indexing.scatter_min: _scatter(indexing.scatter_min, ORDERED),
    indexing.scatter_max: _scatter(indexing.scatter_max, ORDERED),
}

# Reductions


def _reduction(primitive: Primitive, accepted: Sequence[numpy.dtype], may_be_empty: bool = True) -> Operation:
    def operation(b: Builder) -> None:
        x = b.operand(accepted, most=4)
        axes = [a for a in some(b.choices, range(len(x.shape))) if x.shape[a] or may_be_empty]
        b.add(primitive, x, axes=tuple(axes))

    return operation


def _argument(primitive: Primitive) -> Operation:
    def operation(b: Builder) -> None:
        x = b.operand(ORDERED, lambda x: any(x.shape), most=4, least=1)
        axis = b.choices.pick([a for a, n in enumerate(x.shape) if n])
        b.add(primitive, x, axis=axis, index_dtype=b.choices.pick((dtypes.int32, dtypes.int32, dtypes.int64)))

    return operation


def _running(primitive: Primitive, accepted: Sequence[numpy.dtype]) -> Operation:
    def operation(b: Builder) -> None:
        x = b.operand(accepted, most=4, least=1)
        b.add(primitive, x, axis=b.choices.integer(0, len(x.shape) - 1), reverse=b.choices.chance(50))

    return operation


def _sort(b: Builder) -> None:
    x = b.operand(ORDERED, least=1)
    operands = [x, *(b.value(x.shape, b.choices.pick(ORDERED)) for _ in range(b.choices.pick((0, 0, 1, 2))))]
    keys = b.choices.integer(1, len(operands))
    b.add(sort, *operands, axis=b.choices.integer(0, len(x.shape) - 1), num_keys=keys)


def _top(b: Builder) -> None:
    x = b.operand(ORDERED, least=1)
    axis = b.choices.integer(0, len(x.shape) - 1)
    b.add(top_k, x, k=b.choices.integer(0, x.shape[axis]), axis=axis)


REDUCTIONS: dict[Primitive, Operation] = {
    reduce_sum: _reduction(reduce_sum, NUMBERS),
    reductions.reduce_prod: _reduction(reductions.reduce_prod, NUMBERS),
    **{p: _reduction(p, ORDERED, False) for p in (reductions.reduce_max, reductions.reduce_min)},
    **{
        p: _reduction(p, (*INTEGERS, *BOOL))
        for p in (reductions.reduce_and, reductions.reduce_or, reductions.reduce_xor)
    },
    **{p: _argument(p) for p in (reductions.argmax, reductions.argmin)},
    **{p: _running(p, NUMBERS) for p in (reductions.cumsum, reductions.cumprod)},
    **{p: _running(p, ORDERED) for p in (reductions.cummax, reductions.cummin)},
    reductions.cumlogsumexp: _running(reductions.cumlogsumexp, FLOATS),
    sort: _sort,
    top_k: _top,
}

# Products and windows


def _dot(b: Builder) -> None:
    x = b.operand(NUMBERS, lambda x: math.prod(x.shape) <= MOST_ELEMENTS)
    axes = shuffled(b.choices, range(len(x.shape)))
    count = b.choices.integer(0, min(2, len(axes)))
    contract, rest = axes[:count], axes[count:]
    batch = rest[: b.choices.pick((0, 0, 1, 1, 2))]
    free = [("free", b.choices.pick(b.lengths)) for _ in range(b.choices.integer(0, 2))]
    kinds = shuffled(b.choices, [*(("contract", a) for a in contract), *(("batch", a) for a in batch), *free])
    shape = tuple(x.shape[a] if kind != "free" else a for kind, a in kinds)
    if math.prod(shape) > MOST_ELEMENTS:
        return
    y = b.value(shape, x.dtype)
    numbers = (
        (tuple(contract), tuple(kinds.index(("contract", a)) for a in contract)),
        (tuple(batch), tuple(kinds.index(("batch", a)) for a in batch)),
    )
    if b.choices.chance(50):
        x, y, numbers = y, x, tuple((of_y, of_x) for of_x, of_y in numbers)
    params: dict[str, Any] = {"dimension_numbers": numbers}
    if x.dtype.itemsize == 2 and x.dtype.kind not in "iu" and b.choices.chance(50):
        params["preferred_element_type"] = dtypes.float32
    b.add(dot_general, x, y, **params)


def _window_axis(b: Builder, length: int) -> tuple[Any, ...]:
    """Window, stride, padding and both dilations along an axis: mostly plain, and sometimes with all of it."""
    base, apart = b.choices.pick(((1, 1), (1, 1), (1, 1), (2, 1), (1, 2), (3, 2)))
    room = (length - 1) * base + 1 if length else 0
    low = b.choices.integer(-min(2, room), 2) if b.choices.chance(60) else 0
    high = b.choices.integer(-min(2, room + min(low, 0)), 2) if b.choices.chance(60) else 0
    return b.choices.integer(1, 3), b.choices.pick((1, 1, 1, 2, 3)), (low, high), base, apart


def _window(primitive: Primitive, accepted: Sequence[numpy.dtype]) -> Operation:
    names = ("window_dimensions", "window_strides", "padding", "base_dilation", "window_dilation")

    def operation(b: Builder) -> None:
        x = b.operand(accepted, lambda x: math.prod(x.shape) <= 1000)
        plain = (1, 1, (0, 0), 1, 1)
        axes = [_window_axis(b, n) if b.choices.chance(70) else plain for n in x.shape]
        entries = zip(*axes, strict=True) if axes else [()] * 5
        b.add(primitive, x, **{name: tuple(entry) for name, entry in zip(names, entries, strict=True)})

    return operation


def _convolution(b: Builder) -> None:
    choices = b.choices
    x = b.operand(ANY, lambda x: len(x.shape) >= 2 and math.prod(x.shape) <= 1000, most=4, least=2)
    lhs, rhs, out = (tuple(shuffled(choices, range(len(x.shape)))) for _ in range(3))
    batch, features, *lengths = (x.shape[axis] for axis in lhs)
    feature_groups, batch_groups = 1, 1
    if choices.chance(30):
        feature_groups = choices.pick([n for n in (1, 2, 3, features) if n and features % n == 0])
    elif choices.chance(20):
        batch_groups = choices.pick([n for n in (1, 2, 3) if batch % n == 0])
    axes = [_window_axis(b, n) for n in lengths]
    outputs = feature_groups * batch_groups * choices.integer(0 if choices.chance(5) else 1, 3)
    kernel = [outputs, features // feature_groups, *(axis[0] for axis in axes)]
    shape = tuple(length for _, length in sorted(zip(rhs, kernel, strict=True)))
    half = x.dtype in (dtypes.float16, dtypes.bfloat16)
    b.add(
        conv_general_dilated,
        x,
        b.value(shape, x.dtype),
        window_strides=tuple(axis[1] for axis in axes),
        padding=tuple(axis[2] for axis in axes),
        lhs_dilation=tuple(axis[3] for axis in axes),
        rhs_dilation=tuple(axis[4] for axis in axes),
        dimension_numbers=ConvDimensionNumbers(lhs, rhs, out),
        feature_group_count=feature_groups,
        batch_group_count=batch_groups,
        preferred_element_type=dtypes.float32 if half and choices.chance(50) else None,
    )


PRODUCTS: dict[Primitive, Operation] = {
    dot_general: _dot,
    conv_general_dilated: _convolution,
    windows.reduce_window_sum: _window(windows.reduce_window_sum, NUMBERS),
    **{
        p: _window(p, ORDERED)
        for p in (
            windows.reduce_window_max,
            windows.reduce_window_min,
            windows.reduce_window_argmax,
            windows.reduce_window_argmin,
        )
    },
}


# What layers are made of: rows that are read several times


def _along(b: Builder, reduced: Any, x: Any, axes: Sequence[int]) -> Any:
    """What was reduced, so that it broadcasts with `x`: repeated, or with axes of length one."""
    kept = tuple(axis for axis in range(len(x.shape)) if axis not in axes)
    if b.choices.chance(50):
        return b.add(broadcast_in_dim, reduced, shape=x.shape, axes=kept)
    return b.add(reshape, reduced, shape=tuple(n if a in kept else 1 for a, n in enumerate(x.shape)))


def _softmax(b: Builder, x: Any, axes: tuple[int, ...]) -> None:
    shifted = b.add(ew.sub, x, _along(b, b.add(reductions.reduce_max, x, axes=axes), x, axes))
    exponentials = b.add(ew.exp, shifted)
    total = b.add(reduce_sum, exponentials, axes=axes)
    if b.choices.chance(30):
        b.add(ew.sub, shifted, _along(b, b.add(ew.log, total), x, axes))
        return
    result = b.add(ew.div, exponentials, _along(b, total, x, axes))
    if b.choices.chance(40):  # and back
        cotangent = b.value(x.shape, x.dtype)
        inner = b.add(reduce_sum, b.add(ew.mul, cotangent, result), axes=axes)
        b.add(ew.mul, result, b.add(ew.sub, cotangent, _along(b, inner, x, axes)))


def _normalized(b: Builder, x: Any, axes: tuple[int, ...]) -> None:
    count = b.number(x.dtype, float(max(math.prod(x.shape[a] for a in axes), 1)))
    mean = b.add(ew.div, b.add(reduce_sum, x, axes=axes), count)
    centred = b.add(ew.sub, x, _along(b, mean, x, axes))
    squares = b.add(reduce_sum, b.add(ew.integer_pow, centred, exponent=2), axes=axes)
    variance = b.add(ew.add, b.add(ew.div, squares, count), b.number(x.dtype, 0.125))
    result = b.add(ew.mul, centred, _along(b, b.add(ew.rsqrt, variance), x, axes))
    b.add(ew.add, b.add(ew.mul, result, b.partner(result, x.dtype)), b.number(x.dtype, 0.5))


def rows(b: Builder) -> None:
    """A softmax, or a normalization, along some axes, forth and perhaps back."""
    x = b.operand(FLOATS, lambda x: 0 not in x.shape, most=4, least=1)
    axes = some(b.choices, range(len(x.shape)))
    b.choices.pick((_softmax, _normalized))(b, x, tuple(axes or [len(x.shape) - 1]))


# What invites a compiler to do less than it is told


def again(b: Builder) -> None:
    """An equation that there is already once more."""
    plain = [e for e in b.equations if not e.primitive.carries_functions and not e.has_effects]
    if plain:
        equation: Equation = b.recent(plain)
        b.add(equation.primitive, *equation.operands, **equation.params)


def twice(b: Builder) -> None:
    """An operation, and the same with other params on its result."""
    operation = b.choices.pick(tuple(b.choices.pick((MOVEMENT, MOVEMENT, ELEMENTWISE, REDUCTIONS)).values()))
    operation(b)
    if b.equations and b.equations[-1].results:
        b.focus = b.equations[-1].results[0]
        operation(b)
        b.focus = None


def with_number(b: Builder) -> None:
    """An operation with a number that may change nothing."""
    primitive = b.choices.pick((ew.add, ew.sub, ew.mul, ew.div, ew.add, ew.max_, ew.xor, ew.and_))
    x = b.operand((*FLOATS, *FLOATS, *INTEGERS) if primitive not in (ew.xor, ew.and_) else INTEGERS)
    if dtypes.is_floating(x.dtype) and b.choices.chance(60):
        x = b.add(ew.ceil, x)  # has zeros of both signs
    number: Any = b.number(x.dtype, b.choices.pick(NEUTRAL))
    if b.choices.chance(30):
        number = b.add(broadcast_in_dim, number, shape=x.shape, axes=())
    b.add(primitive, *(shuffled(b.choices, [x, number]) if b.choices.chance(50) else [x, number]))
