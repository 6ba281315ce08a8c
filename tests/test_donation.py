"""Donated arguments: results take their memory where nobody can tell, but for the memory."""

import gc
import sys
from typing import Any

import numpy
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad.array import DONATED, constant
from funcgrad.compiler import compile_program
from funcgrad.compiler.bridge import bridge
from funcgrad.compiler.whole import WholeProgram

pytestmark = pytest.mark.native

native_bridge = pytest.mark.skipif(bridge() is None, reason="objects lie in memory in another way")


def values(*shape, seed=0):
    return numpy.random.default_rng(seed).standard_normal(shape).astype(numpy.float32)


def address(x):
    return numpy.asarray(x).__array_interface__["data"][0]


def adam(state, slope):
    count = state["count"] + 1
    mean = fg.tree.map(lambda m, g: 0.9 * m + 0.1 * g, state["mean"], slope)
    square = fg.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, state["square"], slope)
    step = fg.tree.map(lambda m, v: m / (1 - 0.9**count) / (fnp.sqrt(v / (1 - 0.999**count)) + 1e-8), mean, square)
    parameters = fg.tree.map(lambda p, s: p - 1e-3 * s, state["parameters"], step)
    return {"parameters": parameters, "mean": mean, "square": square, "count": count}


def adam_arguments():
    def tree(seed):
        return {"w": fg.array(values(37, 70, seed=seed)), "b": [fg.array(values(70, seed=seed + 1))]}

    square = fg.tree.map(abs, tree(6))
    state = {"parameters": tree(2), "mean": tree(4), "square": square, "count": fg.array(numpy.float32(3))}
    return state, tree(8)


X = (37, 41)
PROGRAMS = {
    "pointwise": (lambda x, y: x * 2 + y, X),
    "two results": (lambda x, y: (x + y, x * y), X),
    "swap": (lambda x, y: (y * 2, x * 2), X),
    "swap of rows": (lambda x, y: (y[::-1] * 2, x[::-1] * 2), X),
    "reversed": (lambda x, y: x[::-1] * 2 + y, X),
    "shifted": (lambda x, y: fnp.roll(x, 1, axis=1) * 2 + y, X),
    "transposed": (lambda x, y: x.T * 2 + y, (40, 40)),
    "with its transpose": (lambda x, y: x.T * x + y, (40, 40)),
    "cumulative sum": (lambda x, y: fnp.cumsum(x, axis=1) * y, X),
    "cumulative sum of rows": (lambda x, y: fnp.cumsum(x, axis=0), X),
    "product": (lambda x, y: x @ y, (40, 40)),
    "product and sum": (lambda x, y: (x @ y + x, y), (40, 40)),
    "softmax": (lambda x, y: fg.nn.softmax(x + y), X),
    "softmax of columns": (lambda x, y: fg.nn.softmax(x, axis=0) * y, X),
    "statistics of rows": (lambda x, y: (x - fnp.mean(x, axis=1, keepdims=True), fnp.sum(y)), X),
    "all less the sum": (lambda x, y: (x - fnp.sum(x), y / fnp.sum(y * y)), X),
    "first row": (lambda x, y: x * x[0] + y, X),
    "one element": (lambda x, y: x * x[0, 0] + y[-1, -1] * y, X),
    "indexed by another": (lambda x, y: x[fnp.argsort(y[:, 0])] + 1, X),
    "scattered": (lambda x, y: (x.at[3].set(1.0), y.at[:, 2].add(x[:, 0])), X),
    "sorted": (lambda x, y: fnp.sort(x, axis=1) + y, X),
    "loop": (lambda x, y: fg.lax.fori_loop(0, 3, lambda i, z: fnp.sin(z) * y + x, x), X),
    "scan": (lambda x, y: fg.lax.scan(lambda c, row: (c + row, c * row), x[0], y), X),
    "scan over itself": (lambda x, y: fg.lax.scan(lambda c, row: (c + row[::-1], c - row), y[0], x), X),
    "branch": (lambda x, y: fg.lax.cond(x[0, 0] > 0, lambda: x[::-1] + y, lambda: x * y), X),
    "given back": (lambda x, y: (x + 1, x, y), X),
    "used again at the end": (lambda x, y: (fnp.exp(x), (fnp.exp(x) @ x.T) @ x), X),
    "several steps": (lambda x, y: (lambda z: (fnp.cumsum(z, axis=0), z * x, y - z))(fnp.tanh(x @ y.T) @ y), X),
    "another dtype": (lambda x, y: (x.astype(fg.int32), y > 0), X),
    "broadcast": (lambda x, y: x + fnp.broadcast_to(x[:, :1], x.shape) * y, X),
    "large": (lambda x, y: (x * 2 + y, fnp.sin(y) - x), (300, 1003)),
}


@pytest.mark.parametrize("donate", [0, 1, (0, 1)], ids=str)
@pytest.mark.parametrize("name", PROGRAMS)
def test_results_are_the_same_as_without_donation(name, donate):
    function, shape = PROGRAMS[name]
    x, y = values(*shape), values(*shape, seed=1)
    expected = fg.tree.leaves(fg.jit(function)(fg.array(x), fg.array(y)))
    donating = fg.jit(function, donate_argnums=donate)
    for _ in range(4):
        a, b = fg.array(x), fg.array(y)
        got = fg.tree.leaves(donating(a, b))
        for one, other in zip(got, expected, strict=True):
            numpy.testing.assert_array_equal(one, other)
        donated = (donate,) if isinstance(donate, int) else donate
        assert [z.is_deleted() for z in (a, b)] == [place in donated for place in (0, 1)]
        for place, (z, value) in enumerate([(a, x), (b, y)]):
            if place not in donated:
                numpy.testing.assert_array_equal(z, value)


def test_training_steps_are_the_same_as_without_donation():
    (state, slope), (other, _) = adam_arguments(), adam_arguments()
    usual, donating = fg.jit(adam), fg.jit(adam, donate_argnums=0)
    for _ in range(6):
        before = state
        other, state = usual(other, slope), donating(state, slope)
        assert all(x.is_deleted() for x in fg.tree.leaves(before))
        for one, expected in zip(fg.tree.leaves(state), fg.tree.leaves(other), strict=True):
            numpy.testing.assert_array_equal(one, expected)


@native_bridge
def test_a_training_step_writes_the_new_state_where_the_old_one_was():
    state, slope = adam_arguments()
    step = fg.jit(adam, donate_argnums=0)
    assert isinstance(compile_program(step.lower(state, slope).program), WholeProgram)
    places = sorted(address(x) for x in fg.tree.leaves(state) if x.ndim)
    for _ in range(4):
        state = step(state, slope)
        assert sorted(address(x) for x in fg.tree.leaves(state) if x.ndim) == places


@native_bridge
def test_which_memory_is_taken():
    def takes(function, *shape):
        x = fg.array(values(*shape))
        place = address(x)
        return address(fg.jit(function, donate_argnums=0)(x)) == place

    assert takes(lambda x: x * 2, 40, 40)
    assert takes(lambda x: fnp.exp(x) * x, 1000, 300)
    assert takes(lambda x: (x @ x) @ fnp.exp(x) + x, 40, 40)
    for name in ("reversed", "with its transpose", "product", "first row"):
        function, shape = PROGRAMS[name]
        y = fg.array(values(*shape, seed=1))
        assert not takes(lambda x, f=function, y=y: f(x, y), *shape)


@native_bridge
@pytest.mark.parametrize("calls", [0, 3], ids=["first call", "later call"])
@pytest.mark.parametrize("holder", ["view", "dlpack", "memoryview", "slice of the library", "buffer", "other array"])
def test_memory_that_somebody_else_sees_is_left_alone(holder, calls):
    double = fg.jit(lambda x: x * 2, donate_argnums=0)
    for _ in range(calls):
        double(fg.array(values(40, 30)))
    x: Any = fg.array(values(40, 30))
    held = {
        "view": lambda: numpy.asarray(x)[3:],
        "dlpack": lambda: numpy.from_dlpack(x)[3:],
        "memoryview": lambda: memoryview(x._data),
        "slice of the library": lambda: x[3:],
        "buffer": lambda: x._data,
        "other array": lambda: type(x)(x._data),
    }[holder]()
    before = numpy.array(held)
    numpy.testing.assert_array_equal(double(x), values(40, 30) * 2)
    assert x.is_deleted()
    numpy.testing.assert_array_equal(held, before)


def test_arrays_of_numpy_never_change():
    double = fg.jit(lambda x: x * 2, donate_argnums=0)
    for made in (lambda x: x, fg.array, fnp.asarray):
        for _ in range(4):
            given = values(40, 30)
            numpy.testing.assert_array_equal(double(made(given)), values(40, 30) * 2)
            numpy.testing.assert_array_equal(given, values(40, 30))


@pytest.mark.parametrize("donate", [0, 1, (0, 1)], ids=str)
def test_the_same_array_twice(donate):
    function = fg.jit(lambda x, y: (x * 2, x - y * y), donate_argnums=donate)
    for _ in range(4):
        x = fg.array(values(40, 30))
        double, difference = function(x, x)
        assert x.is_deleted()
        numpy.testing.assert_array_equal(double, values(40, 30) * 2)
        numpy.testing.assert_allclose(difference, values(40, 30) - values(40, 30) ** 2, rtol=1e-5, atol=1e-6)


def test_shared_constants_never_change():
    function = fg.jit(lambda x: x + 1, donate_argnums=0)
    for _ in range(4):
        assert function(7.0) == 8
        assert constant(7.0, numpy.dtype(numpy.float32), True) == 7


def test_results_that_are_constants_of_the_program_never_change():
    table = fg.array(values(40, 30))
    function = fg.jit(lambda x: x + 1, donate_argnums=0)
    source = fg.jit(lambda x: (x + 1, table))
    for _ in range(4):
        function(source(fg.array(values(40, 30)))[1])
        numpy.testing.assert_array_equal(table, values(40, 30))


def test_references_are_counted_right():
    function = fg.jit(lambda x, y: (x * 2, y), donate_argnums=(0, 1))

    def call():
        x, y, other = [fg.array(values(40, 30)) for _ in range(3)]
        double, same = function(x, y)
        assert len({sys.getrefcount(z) for z in (x, y, double, same, other)}) == 1
        assert len({sys.getrefcount(z._data) for z in (double, same, other)}) == 1

    for _ in range(20):
        call()
    gc.collect()
    before = sys.getrefcount(DONATED), sys.getrefcount(fg.float32)
    for _ in range(100):
        call()
    gc.collect()
    after = sys.getrefcount(DONATED), sys.getrefcount(fg.float32)
    assert all(abs(a - b) < 20 for a, b in zip(after, before, strict=True)), (before, after)


def test_states_that_come_as_numpy_arrays_first():
    state, slope = adam_arguments()
    state = fg.tree.map(numpy.asarray, state)
    expected, other = fg.jit(adam)(fg.jit(adam)(state, slope), slope), state
    step = fg.jit(adam, donate_argnums=0)
    for one, two in zip(fg.tree.leaves(step(step(other, slope), slope)), fg.tree.leaves(expected), strict=True):
        numpy.testing.assert_array_equal(one, two)
