"""The cases of primitives that reshape, move, join, multiply, reduce and sort whole arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy
from case_building import (
    ANY,
    BOOL,
    EVERYWHERE,
    FLOATS,
    INTEGERS,
    NUMBERS,
    REALS,
    SEPARATED,
    Case,
    Domain,
    Example,
    between_jumps,
    dtypes_of,
    example_of,
    seeds,
    shapes,
)
from hypothesis import strategies as st

from funcgrad import dtypes
from funcgrad.primitives.contraction import dot_general
from funcgrad.primitives.shapes import broadcast_in_dim, reduce_sum, reshape, transpose


def of_one_operand(params_of, accepted=ANY, domain=EVERYWHERE, shapes=shapes) -> st.SearchStrategy[Example]:
    """Examples of a primitive with one operand; `params_of(draw, shape, dtype)` draws its params."""

    @st.composite
    def examples(draw):
        shape, dtype, random = draw(shapes), draw(dtypes_of(accepted)), draw(seeds)
        params = params_of(draw, shape, dtype)
        return example_of(lambda: [domain.values(random, shape, dtype)], params)

    return examples()


def some_axes(draw, shape: Sequence[int]) -> tuple[int, ...]:
    """Any set of the axes of a shape, in order."""
    return tuple(axis for axis in range(len(shape)) if draw(st.booleans()))


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
