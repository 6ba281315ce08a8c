"""The language of kernels: indices that simplify themselves, expressions that are one object if they are equal."""

from __future__ import annotations

import math

import numpy
from hypothesis import given
from hypothesis import strategies as st

from funcgrad.compiler.expressions import (
    FLOAT32,
    INT64,
    Accumulator,
    Axis,
    Buffer,
    accumulated,
    constant,
    constant_value,
    select,
)
from funcgrad.compiler.indices import axis_index, constant_index, flatten, load, quotient, remainder, unflatten
from funcgrad.compiler.loops import Accumulate, Loop, Store, finished
from funcgrad.compiler.memory import ALIGNMENT, Lifetime, plan


def value(index, point):
    """The number that an index is where the axes have these values."""
    total = index.constant
    for atom, factor in index.terms:
        total += factor * (point[atom] if isinstance(atom, Axis) else value_of_atom(atom, point))
    return total


def value_of_atom(atom, point):
    inside = value(atom.operands[0].payload, point)
    return inside // atom.payload if atom.operation == "quotient" else inside % atom.payload


lengths = st.lists(st.integers(1, 5), min_size=1, max_size=4)


@st.composite
def indices(draw):
    """An index that is not negative, and a point at which to look at it."""
    axes = [Axis(length, f"i{number}") for number, length in enumerate(draw(lengths))]
    index = constant_index(draw(st.integers(0, 7)))
    for axis in axes:
        index = index + axis_index(axis) * draw(st.integers(0, 30))
    return index, {axis: draw(st.integers(0, axis.extent - 1)) for axis in axes}


@given(indices(), st.integers(1, 12), st.integers(1, 12))
def test_quotients_and_remainders_are_those_of_whole_numbers(case, divisor, other):
    index, point = case
    number = value(index, point)
    assert value(quotient(index, divisor), point) == number // divisor
    assert value(remainder(index, divisor), point) == number % divisor
    assert value(quotient(remainder(index, divisor), other), point) == number % divisor // other
    assert quotient(index, divisor) * divisor + remainder(index, divisor) is index
    low, high = index.bounds()
    assert low <= number <= high


@given(indices())
def test_a_factor_says_how_an_index_grows_along_an_axis(case):
    index, point = case
    for axis in point:
        factor = index.factor(axis)
        if point[axis] + 1 < axis.extent:
            assert value(index, point | {axis: point[axis] + 1}) - value(index, point) == factor


@given(lengths, st.data())
def test_flattening_and_taking_apart_again_give_the_same_index(shape, data):
    axes = [Axis(length, f"i{number}") for number, length in enumerate(shape)]
    index = tuple(map(axis_index, axes))
    place = flatten(index, shape)
    assert unflatten(place, shape) == index
    merged = Axis(math.prod(shape), "m")
    assert flatten(unflatten(axis_index(merged), shape), shape) is axis_index(merged)
    # By way of any other shape with as many elements, too.
    split = data.draw(st.sampled_from([n for n in range(1, math.prod(shape) + 1) if math.prod(shape) % n == 0]))
    other = (split, math.prod(shape) // split)
    assert flatten(unflatten(place, other), other) is place


def test_axes_are_replaced_inside_of_quotients_too():
    i, j = Axis(6, "i"), Axis(12, "j")
    index = quotient(axis_index(i) + 5, 4)
    assert index.replaced({i: quotient(axis_index(j), 2)}) is quotient(quotient(axis_index(j), 2) + 5, 4)


def test_equal_expressions_are_one_object():
    x = load(Buffer(4, FLOAT32, "x"), axis_index(Axis(4, "i")))
    assert x * 2 + 1 is x * 2 + 1
    assert x * 2 is not x + x
    assert constant(0.0, FLOAT32) is not constant(-0.0, FLOAT32)
    assert constant(numpy.nan, FLOAT32) is constant(numpy.nan, FLOAT32)
    assert constant_value(constant(2**63 - 1, INT64)) == 2**63 - 1
    assert select(x.less(1), x, x) is x


def test_a_kernel_names_what_it_shares_and_knows_its_arguments():
    x, y, row = Buffer(12, FLOAT32, "x"), Buffer(3, FLOAT32, "y"), Buffer(4, FLOAT32, "row", local=True)
    i, j = Axis(3, "i"), Axis(4, "j")
    total = Accumulator("add", FLOAT32, 0, frozenset([i]))
    square = load(x, axis_index(i) * 4 + axis_index(j)) * 2
    body = [Store(row, axis_index(j), square), Accumulate(total, square * square)]
    kernel = finished([Loop(i, [Loop(j, body, "vector"), Store(y, axis_index(i), accumulated(total))], "parallel")])
    assert (kernel.arguments, kernel.written) == ((x, y), (y,))
    assert str(kernel).splitlines() == [
        "kernel(x: float32[12], y: float32[3])",
        "  parallel for i in 3",
        "    s = 0",
        "    vector for j in 4",
        "      t0 = (x[4*i + j] * 2)",
        "      row[j] = t0",
        "      s += (t0 * t0)",
        "    y[i] = s",
    ]


lives = st.builds(
    lambda size, first, length: Lifetime(size, first, first + length),
    st.integers(0, 500),
    st.integers(0, 12),
    st.integers(0, 6),
)


@given(st.lists(lives, max_size=25))
def test_values_that_are_needed_at_the_same_time_have_places_of_their_own(lifetimes):
    found = plan(lifetimes)
    for number, (life, offset) in enumerate(zip(lifetimes, found.offsets, strict=True)):
        assert offset % ALIGNMENT == 0
        assert offset + life.size <= found.size
        for other, place in list(zip(lifetimes, found.offsets, strict=True))[:number]:
            if life.first <= other.last and other.first <= life.last and life.size and other.size:
                assert offset + life.size <= place or place + other.size <= offset
    largest = max([x.size for x in lifetimes], default=0)
    assert largest <= found.size <= sum(x.size + ALIGNMENT for x in lifetimes)
