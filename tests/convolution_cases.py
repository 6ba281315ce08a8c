"""The cases of convolution and of reductions over sliding windows, with loops as references."""

from __future__ import annotations

import math

import numpy
from case_building import (
    ANY,
    BOOL,
    EVERYWHERE,
    NUMBERS,
    REALS,
    SEPARATED,
    Case,
    dtypes_of,
    example_of,
    seeds,
)
from hypothesis import strategies as st

from funcgrad import dtypes
from funcgrad.primitives.convolution import ConvDimensionNumbers, conv_general_dilated
from funcgrad.primitives.windows import (
    reduce_window_argmax,
    reduce_window_argmin,
    reduce_window_max,
    reduce_window_min,
    reduce_window_sum,
)

# Windows along one axis


def stretched(length, dilation):
    return len(range((length - 1) * dilation + 1)) if length else 0


sometimes_zero = st.sampled_from([1, 1, 1, 1, 1, 0])  # the least length of the axes of one example


def draw_axis(draw, least):
    """Length, window, stride, padding and both dilations of an axis; mostly plain, and sometimes with all of it."""
    length, window, stride = draw(st.integers(least, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    base, apart = draw(st.sampled_from([(1, 1), (1, 1), (2, 1), (1, 2), (3, 2)]))
    room = stretched(length, base)
    low = draw(st.integers(-min(2, room), 2))
    high = draw(st.integers(-min(2, room + min(low, 0)), 2))
    return length, window, stride, (low, high), base, apart


def places_of(length, window, stride, padding, base, apart):
    """For every window the indices of its elements, None for those that are padding."""
    padded = padding[0] + stretched(length, base) + padding[1]
    for start in range(0, padded - stretched(window, apart) + 1, stride):
        at = [start + k * apart - padding[0] for k in range(window)]
        yield [i // base if 0 <= i < stretched(length, base) and i % base == 0 else None for i in at]


# Convolution


@st.composite
def convolutions(draw):
    """Up to three spatial axes in any layout, groups of features or of the batch, and lengths of 0 here and there."""
    least = draw(sometimes_zero)
    axes = [draw_axis(draw, least) for _ in range(draw(st.sampled_from([0, 1, 1, 2, 2, 3])))]
    lengths, window, strides, padding, base, apart = ([axis[i] for axis in axes] for i in range(6))
    small = st.integers(least, 3 if len(axes) < 2 else 2)
    batch, inputs, outputs = draw(small), draw(small), draw(small)
    feature_groups, batch_groups = draw(st.sampled_from([(1, 1), (1, 1), (2, 1), (3, 1), (1, 2), (1, 3)]))
    shape = [batch * batch_groups, inputs * feature_groups, *lengths]
    shape_kernel = [outputs * feature_groups * batch_groups, inputs, *window]
    specs = [tuple(draw(st.permutations(range(len(shape))))) for _ in range(3)]
    dtype, random = draw(dtypes_of(ANY)), draw(seeds)
    wide = dtype in (dtypes.float16, dtypes.bfloat16) and draw(st.booleans())

    def placed(lengths, spec):
        return tuple(length for _, length in sorted(zip(spec, lengths, strict=True)))

    shapes = [placed(shape, specs[0]), placed(shape_kernel, specs[1])]
    return example_of(
        lambda: [EVERYWHERE.values(random, s, dtype) for s in shapes],
        {
            "window_strides": tuple(strides),
            "padding": tuple(padding),
            "lhs_dilation": tuple(base),
            "rhs_dilation": tuple(apart),
            "dimension_numbers": ConvDimensionNumbers(*specs),
            "feature_group_count": feature_groups,
            "batch_group_count": batch_groups,
            "preferred_element_type": dtypes.float32 if wide else None,
        },
    )


def convolution_reference(
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
    preferred_element_type=None,
):
    lhs_spec, rhs_spec, out_spec = dimension_numbers
    x, kernel = x.transpose(lhs_spec), kernel.transpose(rhs_spec)
    groups = feature_group_count * batch_group_count
    examples = numpy.split(x, batch_group_count, axis=0)
    features = [part for e in examples for part in numpy.split(e, feature_group_count, axis=1)]
    axes = zip(x.shape[2:], kernel.shape[2:], window_strides, padding, lhs_dilation, rhs_dilation, strict=True)
    places = [list(places_of(*axis)) for axis in axes]
    results = []
    for part, own in zip(features, numpy.split(kernel, groups, axis=0), strict=True):
        result = numpy.zeros((part.shape[0], own.shape[0], *map(len, places)), x.dtype)
        for position in numpy.ndindex(*result.shape[2:]):
            for k in numpy.ndindex(*kernel.shape[2:]):
                at = [axis[p][i] for axis, p, i in zip(places, position, k, strict=True)]
                if None not in at:
                    products = part[(slice(None), slice(None), *at)] @ own[(slice(None), slice(None), *k)].T
                    result[(slice(None), slice(None), *position)] += products
        results.append(result)
    return numpy.concatenate(results, axis=1).transpose(numpy.argsort(out_spec))


# Windows


@st.composite
def windows_of(draw, accepted=NUMBERS, domain=EVERYWHERE, may_be_empty=True):
    """Up to three axes; `may_be_empty` windows lie in the padding altogether."""
    least = draw(sometimes_zero)
    axes = [draw_axis(draw, least) for _ in range(draw(st.integers(0, 3)))]
    if not may_be_empty:
        axes = [a for a in axes if all(any(i is not None for i in place) for place in places_of(*a))]
    lengths, *entries = ([axis[i] for axis in axes] for i in range(6))
    dtype, random = draw(dtypes_of(accepted)), draw(seeds)
    names = ("window_dimensions", "window_strides", "padding", "base_dilation", "window_dilation")
    return example_of(
        lambda: [domain.values(random, lengths, dtype)],
        {name: tuple(entry) for name, entry in zip(names, entries, strict=True)},
    )


def each_window(x, *, window_dimensions, window_strides, padding, base_dilation, window_dilation):
    """The shape of the result, and for every place in it the indices of the elements in its window, in order."""
    entries = (window_dimensions, window_strides, padding, base_dilation, window_dilation)
    places = [list(places_of(*axis)) for axis in zip(x.shape, *entries, strict=True)]

    def windows():
        for position in numpy.ndindex(*map(len, places)):
            inside = []
            for k in numpy.ndindex(*window_dimensions):
                at = tuple(axis[p][i] for axis, p, i in zip(places, position, k, strict=True))
                if None not in at:
                    inside.append(at)
            yield position, inside

    return tuple(map(len, places)), windows()


def lowest(dtype, largest=False):
    if dtype.kind in "biu":
        limits = numpy.iinfo(dtype) if dtype.kind != "b" else None
        return largest if limits is None else limits.max if largest else limits.min
    return math.inf if largest else -math.inf


def window_reference(reduce, largest=None):
    """A loop over windows; where `largest` says which extremum a window without elements has."""

    def reference(x, **params):
        shape, windows = each_window(x, **params)
        result = numpy.zeros(shape, x.dtype)
        for position, inside in windows:
            values = numpy.array([x[at] for at in inside], x.dtype)
            initial = {} if largest is None else {"initial": lowest(x.dtype, largest)}
            result[position] = reduce(values, **initial)
        return result

    return reference


def place_reference(argument):
    def reference(x, **params):
        shape, windows = each_window(x, **params)
        entries = zip(
            params["window_dimensions"],
            params["window_strides"],
            params["padding"],
            params["base_dilation"],
            strict=True,
        )
        counted = [entry != (1, 1, (0, 0), 1) for entry in entries]
        lengths = [n if counts else 1 for n, counts in zip(x.shape, counted, strict=True)]
        result = numpy.full(shape, -1, numpy.int32)
        for position, inside in windows:
            if inside:
                found = inside[argument(numpy.array([x[at] for at in inside]))]
                at = [i if counts else 0 for i, counts in zip(found, counted, strict=True)]
                result[position] = numpy.ravel_multi_index(at, lengths) if at else 0
        return result

    return reference


def sum_of_all(values):
    return numpy.sum(values, dtype=values.dtype)


ordered = (*REALS, *BOOL)

CONVOLUTIONS = [
    Case(conv_general_dilated, convolutions(), convolution_reference, linear=((0,), (1,))),
    Case(reduce_window_sum, windows_of(), window_reference(sum_of_all), linear=((0,),)),
    Case(reduce_window_max, windows_of(ordered, SEPARATED, False), window_reference(numpy.max, False)),
    Case(reduce_window_min, windows_of(ordered, SEPARATED, False), window_reference(numpy.min, True)),
    Case(reduce_window_argmax, windows_of(ordered), place_reference(numpy.argmax)),
    Case(reduce_window_argmin, windows_of(ordered), place_reference(numpy.argmin)),
]
