"""conv_general_dilated: kernels that slide over an array and are multiplied with what they cover.

An array has a batch axis, a feature axis and spatial axes; a kernel has an axis of output features, one of input
features and the same spatial axes. `dimension_numbers` says where they are: `lhs_spec` and `out_spec` list the batch,
the feature and the spatial axes of array and result, `rhs_spec` the output, the input and the spatial axes of the
kernel. As in all of machine learning, the kernel is not reversed (which makes it a correlation).

Groups are convolutions side by side. With `feature_group_count` each takes its share of the features, with
`batch_group_count` its share of the batch; either way it gives its own share of the output features. Thanks to them all
derivatives and batches of convolutions are convolutions: in the gradient with respect to the kernel, batch and features
have changed places, and so have the two kinds of groups; and in a batch of kernels each has a group of its own.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy

from funcgrad import dtypes
from funcgrad.array import AbstractArray, Array
from funcgrad.core import Primitive
from funcgrad.devices import array_module
from funcgrad.errors import ArgumentError, DtypeError, ShapeError
from funcgrad.primitives.elementwise import add, convert, full, is_linear, zeros_like
from funcgrad.primitives.movement import rev
from funcgrad.primitives.shapes import move_axis, reshape
from funcgrad.primitives.windows import Padding, check_windows, spread, transposed_padding
from funcgrad.program import linear_step


class ConvDimensionNumbers(NamedTuple):
    """Where the axes of a convolution are.

    Attributes:
        lhs_spec: of the array: the batch axis, the feature axis, then the spatial axes.
        rhs_spec: of the kernel: the axis of output features, that of input features, then the spatial axes.
        out_spec: of the result: the batch axis, the feature axis, then the spatial axes.
    """

    lhs_spec: tuple[int, ...]
    rhs_spec: tuple[int, ...]
    out_spec: tuple[int, ...]


class _Plan(NamedTuple):
    """What is known before a value is."""

    result: AbstractArray
    groups: int
    batch: int  # examples in a group
    inputs: int  # features that a kernel takes
    outputs: int  # features that it gives
    window: tuple[int, ...]  # spatial lengths of the kernel
    positions: tuple[int, ...]  # spatial lengths of the result


_NAME = "conv_general_dilated"


@lru_cache(maxsize=4096)
def _plan(
    shape_x: tuple[int, ...],
    shape_kernel: tuple[int, ...],
    dtype_x: numpy.dtype,
    dtype_kernel: numpy.dtype,
    *,
    window_strides: tuple[int, ...],
    padding: Padding,
    lhs_dilation: tuple[int, ...],
    rhs_dilation: tuple[int, ...],
    dimension_numbers: ConvDimensionNumbers,
    feature_group_count: int,
    batch_group_count: int,
    preferred_element_type: numpy.dtype | None,
) -> _Plan:
    ndim = len(shape_x)
    if ndim != len(shape_kernel) or ndim < 2:
        raise ShapeError(
            f"{_NAME} got an array of shape {shape_x} and a kernel of shape {shape_kernel}; both need as many axes, "
            "namely two for batch and features, or output and input features, and the spatial ones."
        )
    for spec in dimension_numbers:
        if sorted(spec) != list(range(ndim)):
            raise ShapeError(
                f"{_NAME} got dimension_numbers {tuple(map(tuple, dimension_numbers))} for arrays of {ndim} axes; "
                "name each axis once, for the array, the kernel and the result."
            )
    if dtype_x is not dtype_kernel:
        raise DtypeError(
            f"{_NAME} got an array of {dtype_x.name} and a kernel of {dtype_kernel.name}; convert one with "
            "x.astype(...)."
        )
    if feature_group_count < 1 or batch_group_count < 1 or min(feature_group_count, batch_group_count) > 1:
        raise ArgumentError(
            f"{_NAME} got feature_group_count={feature_group_count} and batch_group_count={batch_group_count}; "
            "both must be at least 1, and one of them exactly 1."
        )
    batch, features, *lengths = (shape_x[axis] for axis in dimension_numbers[0])
    outputs, inputs, *window = (shape_kernel[axis] for axis in dimension_numbers[1])
    groups = max(feature_group_count, batch_group_count)
    if features != inputs * feature_group_count:
        among = f" in each of {feature_group_count} groups" if feature_group_count > 1 else ""
        raise ShapeError(
            f"{_NAME} got an array of shape {shape_x} with {features} features (axis {dimension_numbers[0][1]}) and a "
            f"kernel of shape {shape_kernel} that takes {inputs} (axis {dimension_numbers[1][1]}){among}; "
            "the numbers must agree, so check dimension_numbers and feature_group_count."
        )
    if outputs % groups or batch % batch_group_count:
        what = f"{outputs} output features" if outputs % groups else f"a batch of {batch}"
        raise ShapeError(f"{_NAME} cannot divide {what} among {groups} groups; choose a number that can be divided.")
    positions = check_windows(_NAME, lengths, window, window_strides, padding, lhs_dilation, rhs_dilation)
    shape = [0] * ndim
    for axis, length in zip(dimension_numbers[2], (batch // batch_group_count, outputs, *positions), strict=True):
        shape[axis] = length
    return _Plan(
        AbstractArray(tuple(shape), preferred_element_type or dtype_x),
        groups,
        batch // batch_group_count,
        inputs,
        outputs // groups,
        tuple(window),
        positions,
    )


def _abstract(x, kernel, **params):
    return _plan(tuple(x.shape), tuple(kernel.shape), x.dtype, kernel.dtype, **params).result


# Evaluation: all windows as rows of a matrix, times the kernel as a matrix. Windows overlap, so that the matrix of all
# of them would be many times as large as the array; it is made and multiplied in blocks that stay in the cache.

_BLOCK_ON_HOST, _BLOCK_ON_DEVICE = 1 << 19, 1 << 26  # elements; measured on the host: flat from 2**18 to 2**20


def _evaluate(x, kernel, *, preferred_element_type, **params):
    plan = _plan(x.shape, kernel.shape, x.dtype, kernel.dtype, preferred_element_type=preferred_element_type, **params)
    module, numbers = array_module(x), params["dimension_numbers"]
    if x.dtype is dtypes.float16 or x.dtype is dtypes.bfloat16:
        compute_dtype = dtypes.float32  # half-width sums would lose most digits
    else:
        compute_dtype = plan.result.dtype
    if 0 in plan.result.shape or x.size == 0 or kernel.size == 0:
        return module.zeros(plan.result.shape, plan.result.dtype)
    x, kernel = x.astype(compute_dtype, copy=False), kernel.astype(compute_dtype, copy=False)
    result = module.empty(plan.result.shape, compute_dtype)
    groups, (lhs_spec, rhs_spec, out_spec) = plan.groups, numbers
    weights = kernel.transpose(rhs_spec).reshape(groups, plan.outputs, plan.inputs, *plan.window)
    target = result.transpose(out_spec).reshape(plan.batch, groups, plan.outputs, *plan.positions).swapaxes(0, 1)
    if groups == 1 and math.prod(params["window_strides"]) == 1 and _is_sparse(plan, x.shape, lhs_spec):
        _multiply_elements(module, x.transpose(lhs_spec), weights[0], target[0], params)
        return result.astype(plan.result.dtype, copy=False)
    windows = _windows(module, x, plan, lhs_spec, params)
    if groups > 1 and plan.inputs == 1 and plan.outputs <= 4:
        _multiply_places(module, windows, weights, target)
    elif groups > 1 and plan.batch == plan.outputs == 1:
        _multiply_positions(module, windows, weights, target)
    else:
        _multiply(module, windows, weights, target)
    return result.astype(plan.result.dtype, copy=False)


def _windows(module: Any, x: Any, plan: _Plan, spec: Sequence[int], params: dict[str, Any]) -> Any:
    """All windows as a view with the axes (group, batch, feature, *position, *place in the window)."""
    padding, dilation = [(0, 0)] * x.ndim, [1] * x.ndim
    for axis, entry, apart in zip(spec[2:], params["padding"], params["lhs_dilation"], strict=True):
        padding[axis], dilation[axis] = entry, apart
    x = spread(x, 0, tuple(padding), dilation)
    batch, feature, *spatial = (x.strides[axis] for axis in spec)
    # The groups of a split axis are as far apart as one of them is long.
    group = batch * plan.batch if params["batch_group_count"] > 1 else feature * plan.inputs
    moves = [step * stride for step, stride in zip(spatial, params["window_strides"], strict=True)]
    places = [step * apart for step, apart in zip(spatial, params["rhs_dilation"], strict=True)]
    return module.lib.stride_tricks.as_strided(
        x,
        (plan.groups, plan.batch, plan.inputs, *plan.positions, *plan.window),
        (group, batch, feature, *moves, *places),
    )


def _multiply(module: Any, windows: Any, weights: Any, target: Any) -> None:
    """Write the products of all windows and kernels.

    Arguments:
        windows: (group, batch, feature, *position, *place).
        weights: (group, output, feature, *place).
        target: (group, batch, output, *position), a view of what is written.
    """
    spatial = (windows.ndim - 3) // 2

    def nearness(axis: int) -> tuple[bool, int, int]:
        """Small for axes whose neighbours are near in memory, of such ones for the longest."""
        return windows.shape[axis] == 1, abs(windows.strides[axis]), -windows.shape[axis]

    # A matrix of windows has rows (batch and positions) and what is summed over (features and places). In memory it
    # gets the order that the array has, so that it is copied in long pieces.
    rows = sorted([1, *range(3, 3 + spatial)], key=nearness, reverse=True)
    inner = sorted([2, *range(3 + spatial, windows.ndim)], key=nearness, reverse=True)
    rows_last = nearness(rows[-1]) < nearness(inner[-1])
    order = (0, *inner, *rows) if rows_last else (0, *rows, *inner)
    features_last = target.strides[2] <= min(target.strides[axis] for axis in rows if axis < target.ndim)
    weights = weights.transpose(0, *(axis - spatial if axis > 2 else 2 for axis in inner), 1)
    target = target.transpose((0, *rows, 2) if features_last else (0, 2, *rows))

    of_weights, of_target = 1 + inner.index(2), rows.index(1) + (1 if features_last else 2)
    first_position = rows.index(3) + (1 if features_last else 2) if spatial else None
    factor: Any = None
    factor_of = None
    for block in _blocks(windows.shape, windows.transpose(order).flags.c_contiguous, spatial, module):
        of_group, of_batch, of_feature, *of_position = block
        part = windows[block]
        groups, count = part.shape[0], math.prod(part.shape[axis] for axis in rows)
        if rows_last:
            matrix = part.transpose(order).reshape(groups, -1, count).swapaxes(1, 2)
        else:
            matrix = part.transpose(order).reshape(groups, count, -1)
        if factor_of != (of_group, of_feature):
            chosen = [slice(None)] * weights.ndim
            chosen[0], chosen[of_weights] = of_group, of_feature
            factor, factor_of = weights[tuple(chosen)].reshape(groups, matrix.shape[2], -1), (of_group, of_feature)
        chosen = [slice(None)] * target.ndim
        chosen[0], chosen[of_target] = of_group, of_batch
        if first_position is not None:
            chosen[first_position] = of_position[0]
        place = target[tuple(chosen)]
        pair = (matrix, factor) if features_last else (factor.swapaxes(1, 2), matrix.swapaxes(1, 2))
        if of_feature.start:
            place += module.matmul(*pair).reshape(place.shape)
        elif place.flags.c_contiguous:
            module.matmul(*pair, out=place.reshape(groups, pair[0].shape[1], pair[1].shape[2]))
        else:
            place[...] = module.matmul(*pair).reshape(place.shape)


def _blocks(shape: tuple[int, ...], is_matrix: bool, spatial: int, module: Any):
    """Slices of the axes (group, batch, feature, first position) that cut the windows into blocks.

    Blocks of features are added up; they are better than blocks of the batch where kernels are larger than results, as
    they are in gradients with respect to kernels.
    """
    steps, size = list(shape[: 3 + (spatial > 0)]), math.prod(shape)
    budget = _BLOCK_ON_HOST if module is numpy else _BLOCK_ON_DEVICE
    wide_kernel = math.prod(shape[3 + spatial :]) > math.prod(shape[3 : 3 + spatial])
    for axis in [0, 2, 1] if wide_kernel else [0, 1, *range(3, len(steps))]:
        if size <= budget or is_matrix:  # a matrix already, which is not copied
            break
        one = size // steps[axis]
        count = -(-steps[axis] // max(1, budget // one))
        steps[axis] = -(-steps[axis] // count)  # of nearly equal blocks
        size = one * steps[axis]
    cuts = [
        [slice(start, start + step) for start in range(0, length, step)]
        for length, step in zip(shape, steps, strict=False)
    ]
    return itertools.product(*cuts)


# Where each group is so small that a product of matrices does not pay, as in depthwise convolutions


def _multiply_places(module: Any, windows: Any, weights: Any, target: Any) -> None:
    """Like `_multiply`, for groups of one feature: element by element, for one place in the kernel after the other."""
    spatial = (windows.ndim - 3) // 2
    step = max(1, target.shape[1] * _BLOCK_ON_HOST // (8 * target.size)) if module is numpy else target.shape[1]
    for start in range(0, target.shape[1], step):
        some = target[:, start : start + step]
        for number, place in enumerate(numpy.ndindex(*windows.shape[3 + spatial :])):
            own = weights[(slice(None), slice(None), 0, *place)]
            own = own.reshape(own.shape[0], 1, own.shape[1], *(1,) * spatial)
            covered = windows[(slice(None), slice(start, start + step), slice(None), ..., *place)]
            if number:
                some += covered * own
            else:
                module.multiply(covered, own, out=some)


def _multiply_positions(module: Any, windows: Any, weights: Any, target: Any) -> None:
    """Like `_multiply`, for groups of one example and one output, as in gradients of depthwise convolutions."""
    own = weights[:, 0]
    summed = tuple(range(1, own.ndim))
    for position in numpy.ndindex(*target.shape[3:]):
        covered = windows[(slice(None), 0, slice(None), *position)]
        target[(slice(None), 0, 0, *position)] = (covered * own).sum(axis=summed, dtype=target.dtype)


# Where windows hold little: mostly the zeros that a dilation has put between elements, or many features of which the
# kernel makes few


def _is_sparse(plan: _Plan, shape: tuple[int, ...], spec: Sequence[int]) -> bool:
    elements, positions = math.prod(shape[axis] for axis in spec[2:]), math.prod(plan.positions)
    few = 4 * plan.outputs <= plan.inputs and elements <= 2 * positions and math.prod(plan.window) > 1
    return few or 2 * elements <= positions


def _multiply_elements(module: Any, x: Any, weights: Any, target: Any, params: dict[str, Any]) -> None:
    """A convolution without strides or groups: every element is multiplied once, and added wherever it is covered.

    Arguments:
        x: (batch, feature, *length).
        weights: (output, feature, *place).
        target: (batch, output, *position), a view of what is written.
    """
    spatial, window = x.ndim - 2, weights.shape[2:]
    factor = weights.transpose(1, *range(2, 2 + spatial), 0).reshape(weights.shape[1], -1)
    target[...] = 0
    total = math.prod(x.shape[2:]) * factor.shape[1]
    step = max(1, _BLOCK_ON_HOST // total) if module is numpy else x.shape[0]
    for start in range(0, x.shape[0], step):
        some = x[start : start + step].transpose(0, *range(2, x.ndim), 1)
        products = module.matmul(some.reshape(-1, some.shape[-1]), factor).reshape(*some.shape[:-1], *window, -1)
        products = products.transpose(0, products.ndim - 1, *range(1, products.ndim - 1))
        for place in numpy.ndindex(*window):
            taken, covered = [], []
            for k, length, (low, _), base, apart, count in zip(
                place,
                x.shape[2:],
                params["padding"],
                params["lhs_dilation"],
                params["rhs_dilation"],
                target.shape[2:],
                strict=True,
            ):
                # Element i meets this place of the kernel at the position offset + i * base.
                offset = low - k * apart
                first = max(0, -(offset // base))
                stop = max(first, min(length, -((offset - count) // base)))
                taken.append(slice(first, stop))
                at = offset + first * base
                covered.append(slice(at, at + (stop - first) * base, base) if stop > first else slice(0, 0))
            some = target[(slice(start, start + step), slice(None), *covered)]
            some += products[(slice(None), slice(None), *taken, *place)]


# Derivatives


def _jvp(primals, tangents, **params):
    (x, kernel), (s, t) = primals, tangents
    result = conv_general_dilated(x, kernel, **params)
    tangent = None if s is None else linear_step(result, conv_general_dilated, s, kernel, **params)
    if t is not None:
        other = linear_step(result, conv_general_dilated, x, t, **params)
        tangent = other if tangent is None else linear_step(result, add, tangent, other)
    return result, tangent


def _lengths(x: Any, spec: Sequence[int]) -> tuple[int, ...]:
    return tuple(x.shape[axis] for axis in spec[2:])


def _transpose(cotangent, x, kernel, **params):
    of_x = is_linear(x)
    linear, known = (x, kernel) if of_x else (kernel, x)
    if 0 in cotangent.shape or 0 in known.shape or 0 in linear.shape:
        result = zeros_like(linear)
    else:
        if cotangent.dtype is not linear.dtype:
            cotangent = convert(cotangent, dtype=linear.dtype)
        result = (_transpose_x if of_x else _transpose_kernel)(cotangent, linear, known, **params)
    return [result, None] if of_x else [None, result]


def _transpose_x(
    cotangent,
    x,
    kernel,
    *,
    window_strides,
    padding,
    lhs_dilation,
    rhs_dilation,
    dimension_numbers,
    feature_group_count,
    batch_group_count,
    preferred_element_type,
):
    """The cotangent, spread out by the strides, with the reversed kernel, whose inputs and outputs change places."""
    lhs_spec, rhs_spec, out_spec = dimension_numbers
    outputs, inputs, *spatial = rhs_spec
    groups = max(feature_group_count, batch_group_count)
    axes = zip(
        _lengths(x, lhs_spec),
        _lengths(kernel, rhs_spec),
        window_strides,
        padding,
        lhs_dilation,
        rhs_dilation,
        _lengths(cotangent, out_spec),
        strict=True,
    )
    result = conv_general_dilated(
        cotangent,
        rev(_move_groups(kernel, outputs, inputs, groups), axes=tuple(spatial)),
        window_strides=lhs_dilation,
        padding=tuple(transposed_padding(*axis) for axis in axes),
        lhs_dilation=window_strides,
        rhs_dilation=rhs_dilation,
        dimension_numbers=ConvDimensionNumbers(out_spec, (inputs, outputs, *spatial), lhs_spec),
        feature_group_count=groups,
        batch_group_count=1,
        preferred_element_type=None,
    )
    # The groups end up in the features, where those of a batch have to move back.
    return _move_groups(result, lhs_spec[1], lhs_spec[0], batch_group_count)


def _transpose_kernel(
    cotangent,
    kernel,
    x,
    *,
    window_strides,
    padding,
    lhs_dilation,
    rhs_dilation,
    dimension_numbers,
    feature_group_count,
    batch_group_count,
    preferred_element_type,
):
    """The array with the cotangent as its kernel: summed over the batch, so batch and features change places."""
    lhs_spec, rhs_spec, out_spec = dimension_numbers
    new_padding = []
    for length, window, stride, (low, _), base, apart, count in zip(
        _lengths(x, lhs_spec),
        _lengths(kernel, rhs_spec),
        window_strides,
        padding,
        lhs_dilation,
        rhs_dilation,
        _lengths(cotangent, out_spec),
        strict=True,
    ):
        # As much at the end as makes the results as many as the kernel has elements.
        reach = (window - 1) * apart + (count - 1) * stride + 1
        new_padding.append((low, reach - ((length - 1) * base + 1) - low))
    batch, feature, *spatial = lhs_spec
    of_batch, of_feature, *of_positions = out_spec
    outputs, inputs, *places = rhs_spec
    return conv_general_dilated(
        x,
        cotangent,
        window_strides=rhs_dilation,
        padding=tuple(new_padding),
        lhs_dilation=lhs_dilation,
        rhs_dilation=window_strides,
        dimension_numbers=ConvDimensionNumbers(
            (feature, batch, *spatial), (of_feature, of_batch, *of_positions), (inputs, outputs, *places)
        ),
        feature_group_count=batch_group_count,
        batch_group_count=feature_group_count,
        preferred_element_type=None,
    )


# Groups and batches are parts of longer axes. An axis of groups lies before what it is a group of: it counts slowly.


def _split(x: Array, axis: int, count: int) -> Array:
    """`axis` as two: `count` parts, and what is in each."""
    return reshape(x, shape=(*x.shape[:axis], count, x.shape[axis] // count, *x.shape[axis + 1 :]))


def _merge(x: Array, axis: int) -> Array:
    """`axis` and the next one as one."""
    return reshape(x, shape=(*x.shape[:axis], x.shape[axis] * x.shape[axis + 1], *x.shape[axis + 2 :]))


def _move_groups(x: Array, source: int, destination: int, groups: int) -> Array:
    """The groups that are part of one axis as part of another."""
    if groups == 1:
        return x
    x = move_axis(_split(x, source, groups), source, destination)
    return _merge(x, destination)


def _fold(x: Array, batch_axis: int, axis: int, groups: int = 1) -> Array:
    """A batch as part of `axis` (counted without the batch axis), inside of the groups that are part of it."""
    x = move_axis(x, batch_axis, axis)
    if groups > 1:
        x = move_axis(_split(x, axis + 1, groups), axis + 1, axis)
        x = _merge(x, axis + 1)
    return _merge(x, axis)


def _unfold(x: Array, axis: int, size: int, groups: int = 1) -> Array:
    """What `_fold` did, undone; the batch axis comes first."""
    if groups > 1:
        x = _split(x, axis, groups)
        x = move_axis(_split(x, axis + 1, size), axis + 1, 0)
        return _merge(x, axis + 1)
    return move_axis(_split(x, axis, size), axis, 0)


def _batch(size, operands, axes, *, feature_group_count, batch_group_count, **params):
    """A batch of arrays is more batch, a batch of kernels more output features, and both are more groups."""
    (x, kernel), (x_axis, kernel_axis) = operands, axes
    lhs_spec, rhs_spec, out_spec = params["dimension_numbers"]
    if size == 0:
        shapes = [
            tuple(length for a, length in enumerate(operand.shape) if a != axis)
            for operand, axis in zip(operands, axes, strict=True)
        ]
        groups = {"feature_group_count": feature_group_count, "batch_group_count": batch_group_count}
        plan = _plan(*shapes, x.dtype, kernel.dtype, **groups, **params)
        return full((0, *plan.result.shape), 0, plan.result.dtype), 0
    grouped = max(feature_group_count, batch_group_count)
    if kernel_axis is None:
        x = _fold(x, x_axis, lhs_spec[0], batch_group_count)
        unfolded = out_spec[0], 1
    elif x_axis is None:
        kernel = _fold(kernel, kernel_axis, rhs_spec[0], grouped)
        unfolded = out_spec[1], grouped
    else:
        by_batch = batch_group_count > 1
        x = _fold(x, x_axis, lhs_spec[0 if by_batch else 1])
        kernel = _fold(kernel, kernel_axis, rhs_spec[0])
        batch_group_count *= size if by_batch else 1
        feature_group_count *= 1 if by_batch else size
        unfolded = out_spec[1], 1
    result = conv_general_dilated(
        x, kernel, feature_group_count=feature_group_count, batch_group_count=batch_group_count, **params
    )
    return _unfold(result, unfolded[0], size, unfolded[1]), 0


conv_general_dilated = Primitive(
    _NAME, abstract=_abstract, evaluate=_evaluate, jvp=_jvp, transpose=_transpose, batch=_batch
)
