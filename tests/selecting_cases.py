"""The cases of primitives that choose, order or gather elements: reductions, sorting, indexing."""

from __future__ import annotations

import hypothesis.extra.numpy as shapes_of
import numpy
from case_building import (
    ANY,
    BOOL,
    EVERYWHERE,
    FLOATS,
    INTEGERS,
    NONZERO,
    NUMBERS,
    REALS,
    SEPARATED,
    SEPARATED_BETWEEN,
    Case,
    dtypes_of,
    example_of,
    of_one_operand,
    seeds,
    shapes,
    some_axes,
)
from hypothesis import strategies as st

from funcgrad import dtypes
from funcgrad.primitives.indexing import (
    gather,
    scatter_add,
    scatter_max,
    scatter_min,
    scatter_mul,
    scatter_set,
)
from funcgrad.primitives.reductions import (
    argmax,
    argmin,
    cumlogsumexp,
    cummax,
    cummin,
    cumprod,
    cumsum,
    reduce_and,
    reduce_max,
    reduce_min,
    reduce_or,
    reduce_prod,
    reduce_xor,
)
from funcgrad.primitives.sorting import sort, top_k

# Reductions. Where an order decides, elements differ, since at a tie there is no derivative to compare with.


def one_axis(draw, shape, dtype):
    return {"axis": draw(st.integers(0, len(shape) - 1)), "reverse": draw(st.booleans())}


def winners(draw, shape, dtype):
    axis = draw(st.sampled_from([a for a, n in enumerate(shape) if n]))
    return {"axis": axis, "index_dtype": draw(dtypes_of([dtypes.int32, dtypes.int64]))}


def cumulative_reference(accumulate):
    def reference(x, *, axis, reverse):
        x = numpy.flip(x, axis) if reverse else x
        result = accumulate(x, axis=axis)
        return numpy.flip(result, axis) if reverse else result

    return reference


with_axes = shapes.filter(len)
with_elements = shapes.filter(lambda shape: len(shape) > 0 and 0 not in shape)


def reduced_axes(draw, shape, dtype):
    return {"axes": some_axes(draw, shape)}


REDUCTIONS = [
    Case(
        reduce_prod,
        of_one_operand(reduced_axes, NUMBERS, NONZERO),
        lambda x, *, axes: numpy.prod(x, axis=axes, dtype=x.dtype),
    ),
    Case(
        reduce_max,
        of_one_operand(reduced_axes, (*REALS, *BOOL), SEPARATED, with_elements),
        lambda x, *, axes: numpy.max(x, axis=axes),
    ),
    Case(
        reduce_min,
        of_one_operand(reduced_axes, (*REALS, *BOOL), SEPARATED, with_elements),
        lambda x, *, axes: numpy.min(x, axis=axes),
    ),
    Case(
        reduce_and,
        of_one_operand(reduced_axes, (*BOOL, *INTEGERS)),
        lambda x, *, axes: numpy.bitwise_and.reduce(x, axis=axes),
    ),
    Case(
        reduce_or,
        of_one_operand(reduced_axes, (*BOOL, *INTEGERS)),
        lambda x, *, axes: numpy.bitwise_or.reduce(x, axis=axes),
    ),
    Case(
        reduce_xor,
        of_one_operand(reduced_axes, (*BOOL, *INTEGERS)),
        lambda x, *, axes: numpy.bitwise_xor.reduce(x, axis=axes),
    ),
    Case(
        argmax,
        of_one_operand(winners, REALS, EVERYWHERE, with_elements),
        lambda x, *, axis, index_dtype: numpy.argmax(x, axis).astype(index_dtype),
    ),
    Case(
        argmin,
        of_one_operand(winners, REALS, EVERYWHERE, with_elements),
        lambda x, *, axis, index_dtype: numpy.argmin(x, axis).astype(index_dtype),
    ),
    Case(
        cumsum,
        of_one_operand(one_axis, NUMBERS, EVERYWHERE, with_axes),
        cumulative_reference(lambda x, axis: numpy.cumsum(x, axis, dtype=x.dtype)),
        linear=((0,),),
    ),
    Case(
        cumprod,
        of_one_operand(one_axis, NUMBERS, NONZERO, with_axes),
        cumulative_reference(lambda x, axis: numpy.cumprod(x, axis, dtype=x.dtype)),
    ),
    Case(
        cummax,
        of_one_operand(one_axis, (*REALS, *BOOL), SEPARATED, with_axes),
        cumulative_reference(numpy.maximum.accumulate),
    ),
    Case(
        cummin,
        of_one_operand(one_axis, (*REALS, *BOOL), SEPARATED, with_axes),
        cumulative_reference(numpy.minimum.accumulate),
    ),
    Case(
        cumlogsumexp,
        of_one_operand(one_axis, FLOATS, EVERYWHERE, with_axes),
        cumulative_reference(numpy.logaddexp.accumulate),
    ),
]

# Sorting


@st.composite
def sorts(draw):
    """Keys, and what goes with them. Only keys of integers are sometimes equal: there a sort has no derivative."""
    shape, random = draw(with_axes), draw(seeds)
    count = draw(st.integers(1, 3))
    num_keys = draw(st.integers(1, count))
    own = [draw(dtypes_of(REALS)) for _ in range(count)]
    domain = EVERYWHERE if all(dtypes.is_integer(dtype) for dtype in own[:num_keys]) else SEPARATED

    def make():
        return [domain.values(random, shape, dtype) for dtype in own]

    return example_of(make, {"axis": draw(st.integers(0, len(shape) - 1)), "num_keys": num_keys})


def sort_reference(*operands, axis, num_keys):
    order = numpy.lexsort(operands[:num_keys][::-1], axis=axis)
    return [numpy.take_along_axis(x, order, axis) for x in operands]


@st.composite
def largest(draw):
    shape, random = draw(with_axes), draw(seeds)
    dtype = draw(dtypes_of(REALS))
    domain = EVERYWHERE if dtypes.is_integer(dtype) else SEPARATED
    axis = draw(st.integers(0, len(shape) - 1))
    params = {"k": draw(st.integers(0, shape[axis])), "axis": axis}
    return example_of(lambda: [domain.values(random, shape, dtype)], params)


def largest_reference(x, *, k, axis):
    backwards = numpy.argsort(numpy.flip(x, axis), axis=axis, kind="stable")
    places = numpy.take(x.shape[axis] - 1 - numpy.flip(backwards, axis), range(k), axis)
    return [numpy.take_along_axis(x, places, axis), places.astype(numpy.int32)]


SORTING = [Case(sort, sorts(), sort_reference), Case(top_k, largest(), largest_reference)]

# Indexing


@st.composite
def indexing(draw, reads, accepted, domain=EVERYWHERE, update_domain=EVERYWHERE):
    """Indices beyond both ends of any set of axes in any order, repeated ones among them, with all modes.

    Only where "fill" would put NaN do indices stay inside: nothing that is computed from NaN tells right from wrong.
    """
    shape, dtype, random = draw(shapes), draw(dtypes_of(accepted)), draw(seeds)
    mode = draw(
        st.sampled_from(
            ["clip", "promise_in_bounds", "fill", "zero"] if reads else ["clip", "promise_in_bounds", "drop"]
        )
    )
    outside = 0 if mode == "promise_in_bounds" or (mode == "fill" and dtypes.is_differentiable(dtype)) else 2
    must_exist = mode in ("clip", "promise_in_bounds") or outside == 0
    axes = tuple(draw(st.permutations([a for a in some_axes(draw, shape) if shape[a] or not must_exist])))
    index_shape = draw(shapes_of.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3)) if axes else ()
    index_dtype = draw(dtypes_of([dtypes.int32, dtypes.int64, dtypes.int8, dtypes.uint32]))
    left = [n for axis, n in enumerate(shape) if axis not in axes]

    def make():
        indices = [random.integers(-outside, max(shape[axis], 1) + outside, index_shape) for axis in axes]
        if index_dtype.kind == "u":
            indices = [numpy.maximum(index, 0) for index in indices]
        updates = [] if reads else [update_domain.values(random, (*index_shape, *left), dtype)]
        return [domain.values(random, shape, dtype), *updates, *(numpy.asarray(i, index_dtype) for i in indices)]

    return example_of(make, {"axes": axes, "mode": mode})


def each_index(x, indices, axes):
    """For every place of the index arrays: the place, the indices there, and what they would be inside."""
    shape = indices[0].shape if indices else ()
    for place in numpy.ndindex(shape):
        found = tuple(int(index[place]) for index in indices)
        nearest = tuple(min(max(i, 0), x.shape[axis] - 1) for i, axis in zip(found, axes, strict=True))
        yield place, nearest, all(0 <= i < x.shape[axis] for i, axis in zip(found, axes, strict=True))


def gather_reference(x, *indices, axes, mode):
    rows = numpy.moveaxis(x, axes, range(len(axes)))
    shape = (*(indices[0].shape if indices else ()), *rows.shape[len(axes) :])
    result = numpy.zeros(shape, x.dtype)
    for place, nearest, inside in each_index(x, indices, axes):
        if inside or mode == "clip":
            result[place] = rows[nearest]
        elif mode == "fill":
            kind = x.dtype.kind
            limits = numpy.iinfo(x.dtype) if kind in "iu" else None
            result[place] = limits.min if kind == "i" else limits.max if kind == "u" else True
    return result


def scatter_reference(combine):
    def reference(x, updates, *indices, axes, mode):
        result = x.copy()
        rows = numpy.moveaxis(result, axes, range(len(axes)))
        for place, nearest, inside in each_index(x, indices, axes):
            if inside or mode == "clip":
                rows[nearest] = combine(rows[nearest], updates[place])
        return result

    return reference


INDEXING = [
    Case(gather, indexing(True, ANY), gather_reference, linear=((0,),)),
    Case(scatter_set, indexing(False, ANY), scatter_reference(lambda old, new: new), linear=((0, 1),)),
    Case(scatter_add, indexing(False, NUMBERS), scatter_reference(numpy.add), linear=((0, 1),)),
    Case(scatter_mul, indexing(False, NUMBERS, NONZERO, NONZERO), scatter_reference(numpy.multiply), linear=((0,),)),
    Case(
        scatter_min,
        indexing(False, (*REALS, *BOOL), SEPARATED, SEPARATED_BETWEEN),
        scatter_reference(numpy.minimum),
    ),
    Case(
        scatter_max,
        indexing(False, (*REALS, *BOOL), SEPARATED, SEPARATED_BETWEEN),
        scatter_reference(numpy.maximum),
    ),
]
