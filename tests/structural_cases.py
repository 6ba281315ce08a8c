"""The cases of primitives that reshape, move, join, multiply, reduce and sort whole arrays."""

from __future__ import annotations

import math
from typing import Any

import numpy
from case_building import (
    ANY,
    EVERYWHERE,
    NUMBERS,
    Case,
    Example,
    dtypes_of,
    example_of,
    of_one_operand,
    seeds,
    shapes,
    some_axes,
)
from hypothesis import strategies as st

from funcgrad import dtypes
from funcgrad.primitives.contraction import dot_general
from funcgrad.primitives.movement import concatenate, dynamic_slice, dynamic_update_slice, iota, pad, rev, slice_
from funcgrad.primitives.shapes import broadcast_in_dim, reduce_sum, reshape, transpose

# Shapes


def factorings(draw, shape, dtype):
    """Any shape of as many elements: those of the old one multiplied together or split, with ones put in."""
    size = math.prod(shape)
    if size == 0:
        new = draw(st.permutations([0, *draw(st.lists(st.integers(0, 3), max_size=2))]))
        return {"shape": tuple(new)}
    new = []
    while size > 1:
        factor = draw(st.sampled_from([n for n in range(2, size + 1) if size % n == 0]))
        new.append(factor)
        size //= factor
    ones = [1] * draw(st.integers(0, 2))
    return {"shape": tuple(draw(st.permutations([*new, *ones])))}


def permutations(draw, shape, dtype):
    return {"permutation": tuple(draw(st.permutations(range(len(shape)))))}


def broadcasts(draw, shape, dtype):
    """A wider shape with new axes anywhere, and lengths of one stretched."""
    new, axes = [], []
    for length in shape:
        new += draw(st.lists(st.integers(0, 2), max_size=1))
        axes.append(len(new))
        new.append(draw(st.integers(0, 3)) if length == 1 else length)
    new += draw(st.lists(st.integers(0, 2), max_size=1))
    return {"shape": tuple(new), "axes": tuple(axes)}


def broadcast_reference(x, *, shape, axes):
    widened = [1] * len(shape)
    for length, axis in zip(x.shape, axes, strict=True):
        widened[axis] = length
    return numpy.broadcast_to(x.reshape(widened), shape)


def reduced_axes(draw, shape, dtype):
    return {"axes": some_axes(draw, shape)}


SHAPES = [
    Case(reshape, of_one_operand(factorings), lambda x, *, shape: x.reshape(shape), linear=((0,),)),
    Case(transpose, of_one_operand(permutations), lambda x, *, permutation: x.transpose(permutation), linear=((0,),)),
    Case(broadcast_in_dim, of_one_operand(broadcasts), broadcast_reference, linear=((0,),)),
    Case(
        reduce_sum,
        of_one_operand(reduced_axes, NUMBERS),
        lambda x, *, axes: numpy.sum(x, axis=axes, dtype=x.dtype),
        linear=((0,),),
    ),
]

# Contraction


@st.composite
def products(draw):
    """Two operands with any number of batch, contracted and free axes, in any order."""
    lengths = st.lists(st.integers(0, 3), max_size=2)
    batch, contract = draw(lengths), draw(lengths)
    free = [draw(st.lists(st.integers(0, 3), max_size=2)) for _ in range(2)]
    shapes, batch_axes, contract_axes = [], [], []
    for own in free:
        kinds = [*(("batch", i) for i in range(len(batch))), *(("contract", i) for i in range(len(contract)))]
        kinds = draw(st.permutations([*kinds, *(("free", i) for i in range(len(own)))]))
        by_kind = {"batch": batch, "contract": contract, "free": own}
        shapes.append(tuple(by_kind[kind][i] for kind, i in kinds))
        batch_axes.append(tuple(kinds.index(("batch", i)) for i in range(len(batch))))
        contract_axes.append(tuple(kinds.index(("contract", i)) for i in range(len(contract))))
    dtype, random = draw(dtypes_of(NUMBERS)), draw(seeds)
    params: dict[str, Any] = {"dimension_numbers": (tuple(contract_axes), tuple(batch_axes))}
    if dtype in (dtypes.float16, dtypes.bfloat16) and draw(st.booleans()):
        params["preferred_element_type"] = dtypes.float32
    return example_of(lambda: [EVERYWHERE.values(random, shape, dtype) for shape in shapes], params)


def product_reference(x, y, *, dimension_numbers, preferred_element_type=None):
    (contract_x, contract_y), (batch_x, batch_y) = dimension_numbers
    letters = iter("abcdefghijklmnop")
    names = [{}, {}]
    for a, b in [*zip(batch_x, batch_y, strict=True), *zip(contract_x, contract_y, strict=True)]:
        names[0][a] = names[1][b] = next(letters)
    free = []
    for x_or_y, own in zip((x, y), names, strict=True):
        for axis in range(x_or_y.ndim):
            if axis not in own:
                own[axis] = next(letters)
                free.append(own[axis])
    left, right = ("".join(own[axis] for axis in sorted(own)) for own in names)
    batch = "".join(names[0][axis] for axis in batch_x)
    return numpy.einsum(f"{left},{right}->{batch}{''.join(free)}", x, y)


CONTRACTIONS = [Case(dot_general, products(), product_reference, linear=((0,), (1,)))]

# Movement


def slices(draw, shape, dtype):
    starts = [draw(st.integers(0, n)) for n in shape]
    limits = [draw(st.integers(start, n)) for start, n in zip(starts, shape, strict=True)]
    strides = [draw(st.integers(1, 3)) for _ in shape]
    return {"starts": tuple(starts), "limits": tuple(limits), "strides": tuple(strides)}


def slice_reference(x, *, starts, limits, strides):
    return x[tuple(map(slice, starts, limits, strides))]


@st.composite
def dynamic_slices(draw):
    """Starts reach beyond both ends, where they are moved inside so that the slice fits."""
    shape, dtype, random = draw(shapes), draw(dtypes_of(ANY)), draw(seeds)
    sizes = tuple(draw(st.integers(0, n)) for n in shape)
    index_dtype = draw(dtypes_of([dtypes.int32, dtypes.int64]))

    def make():
        starts = [numpy.asarray(random.integers(-2, n + 2), index_dtype) for n in shape]
        return [EVERYWHERE.values(random, shape, dtype), *starts]

    return example_of(make, {"sizes": sizes})


def _fitting(starts, shape, sizes):
    return tuple(
        slice(min(max(int(start), 0), n - size), min(max(int(start), 0), n - size) + size)
        for start, n, size in zip(starts, shape, sizes, strict=True)
    )


def dynamic_slice_reference(x, *starts, sizes):
    return x[_fitting(starts, x.shape, sizes)]


@st.composite
def dynamic_updates(draw):
    shape, dtype, random = draw(shapes), draw(dtypes_of(ANY)), draw(seeds)
    sizes = tuple(draw(st.integers(0, n)) for n in shape)

    def make():
        starts = [numpy.asarray(random.integers(-2, n + 2), numpy.int32) for n in shape]
        return [EVERYWHERE.values(random, shape, dtype), EVERYWHERE.values(random, sizes, dtype), *starts]

    return example_of(make)


def dynamic_update_reference(x, update, *starts):
    result = x.copy()
    result[_fitting(starts, x.shape, update.shape)] = update
    return result


@st.composite
def pads(draw):
    """Padding before, after and between elements; negative padding cuts off."""
    shape, dtype, random = draw(shapes), draw(dtypes_of(ANY)), draw(seeds)
    config = []
    for n in shape:
        between = draw(st.integers(0, 2))
        spread = n + max(n - 1, 0) * between
        before = draw(st.integers(-spread, 2))
        config.append((before, draw(st.integers(-(spread + min(before, 0)), 2)), between))
    return example_of(
        lambda: [EVERYWHERE.values(random, shape, dtype), EVERYWHERE.values(random, (), dtype)],
        {"config": tuple(config)},
    )


def pad_reference(x, value, *, config):
    if not config:
        return x
    lengths = [n + max(n - 1, 0) * between for n, (_, _, between) in zip(x.shape, config, strict=True)]
    spread = numpy.full(lengths, value)
    spread[tuple(slice(None, None, between + 1) for _, _, between in config)] = x
    padded = numpy.pad(spread, [(max(a, 0), max(b, 0)) for a, b, _ in config], constant_values=value)
    return padded[tuple(slice(max(-a, 0), n - max(-b, 0)) for n, (a, b, _) in zip(padded.shape, config, strict=True))]


@st.composite
def concatenations(draw):
    shape, dtype, random = draw(shapes.filter(len)), draw(dtypes_of(ANY)), draw(seeds)
    axis = draw(st.integers(0, len(shape) - 1))
    lengths = draw(st.lists(st.integers(0, 3), min_size=1, max_size=4))
    parts = [(*shape[:axis], length, *shape[axis + 1 :]) for length in lengths]
    return example_of(lambda: [EVERYWHERE.values(random, part, dtype) for part in parts], {"axis": axis})


@st.composite
def iotas(draw):
    shape = draw(shapes.filter(len))
    axis, dtype = draw(st.integers(0, len(shape) - 1)), draw(dtypes_of(NUMBERS))
    return Example([], params={"shape": shape, "dtype": dtype, "axis": axis})


def iota_reference(*, shape, dtype, axis):
    return numpy.indices(shape)[axis].astype(dtype)


MOVEMENT = [
    Case(slice_, of_one_operand(slices), slice_reference, linear=((0,),)),
    Case(dynamic_slice, dynamic_slices(), dynamic_slice_reference, linear=((0,),)),
    Case(dynamic_update_slice, dynamic_updates(), dynamic_update_reference, linear=((0, 1),)),
    Case(pad, pads(), pad_reference, linear=((0, 1),)),
    Case(concatenate, concatenations(), lambda *xs, axis: numpy.concatenate(xs, axis), linear=((0, 1, 2, 3),)),
    Case(rev, of_one_operand(reduced_axes), lambda x, *, axes: numpy.flip(x, axes), linear=((0,),)),
    Case(iota, iotas(), iota_reference),
]
