"""Updates in place: between kernels, from step to step of a loop, and in a donated argument."""

import numpy
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad import lax
from funcgrad.compiler.loops import Loop, statements

pytestmark = pytest.mark.native

LARGE = 50_000


def longest_loop(f, *arguments):
    kernels = fg.jit(f).lower(*arguments).kernels
    return max((x.axis.extent for k in kernels for x in statements(k.body) if isinstance(x, Loop)), default=0)


def values(*shape, seed=0):
    return fg.array(numpy.random.default_rng(seed).standard_normal(shape).astype(numpy.float32))


def agree(f, *arguments):
    expected = fg.jit(f, compiler="reference")(*arguments)
    for x, y in zip(fg.tree.leaves(fg.jit(f)(*arguments)), fg.tree.leaves(expected), strict=True):
        numpy.testing.assert_allclose(numpy.asarray(x), numpy.asarray(y), rtol=1e-5, atol=1e-6)


def loop_of_branches(x):
    def step(i, x):
        return lax.cond(i % 2 == 0, lambda x: x.at[i].set(1.0), lambda x: x.at[i + 1].add(2.0), x)

    return lax.fori_loop(0, 10, step, x)


def loop_in_a_loop(x):
    def step(i, x):
        return lax.fori_loop(0, 3, lambda j, x: x.at[i + j].add(x[i] * 0.5 + 1.0), x)

    return lax.fori_loop(0, 10, step, x)


def queue(x):
    def step(x, t):
        x = lax.dynamic_update_slice(x, fnp.reshape(t, (1,)), (fnp.astype(t, fg.int32) % 5,))
        return x, x[2] + x[3]

    return lax.scan(step, x, fnp.arange(8.0))


def until_enough(x):
    return lax.while_loop(lambda s: s[0] < 20, lambda s: (s[0] + 1, s[1].at[s[0] * 7].multiply(2.0)), (0, x))


SMALL_STEPS = {
    "set": lambda x: lax.fori_loop(0, 10, lambda i, x: x.at[i].set(x[i] * 2 + 1), x),
    "add what was before": lambda x: lax.fori_loop(1, 10, lambda i, x: x.at[i].add(x[i - 1] * 0.5), x),
    "two updates": lambda x: lax.fori_loop(0, 10, lambda i, x: x.at[i].set(1.0).at[i + 2].min(-1.0), x),
    "branches": loop_of_branches,
    "a loop in a loop": loop_in_a_loop,
    "a queue": queue,
    "while": until_enough,
    "unchanged": lambda x: lax.fori_loop(0, 10, lambda i, s: (s[0] + s[1][i], s[1]), (0.0, x)),
}


@pytest.mark.parametrize("name", SMALL_STEPS)
def test_a_step_that_updates_an_element_goes_through_no_array(name):
    f = SMALL_STEPS[name]
    agree(f, values(300))
    assert longest_loop(f, values(LARGE)) <= 1


WHOLE_STEPS = {
    "swap": lambda x, y: lax.fori_loop(0, 5, lambda i, s: (s[1], s[0].at[i].set(1.0)), (x, y)),
    "one from the other": lambda x, y: lax.fori_loop(0, 5, lambda i, s: (s[1] * 2, s[0].at[i].add(s[1][i])), (x, y)),
    "both from one": lambda x, y: lax.fori_loop(0, 5, lambda i, s: (s[0] + s[1], s[0] - s[1]), (x, y)),
    "reversed": lambda x, y: lax.fori_loop(0, 5, lambda i, s: (s[0] + s[1][::-1], s[1].at[i].set(s[0][i])), (x, y)),
    "before and after": lambda x, y: lax.fori_loop(
        0, 5, lambda i, s: (s[0].at[i].set(3.0), s[1] + s[0] + s[0].at[i].set(3.0)), (x, y)
    ),
    "the beginning is needed": lambda x, y: (lax.fori_loop(0, 5, lambda i, s: s.at[i].set(y[i]), x), x + y),
    "constant and carried": lambda x, y: lax.fori_loop(0, 5, lambda i, s: s.at[i].add(x[i + 1]), x) + y,
    "two loops from one beginning": lambda x, y: (
        lax.fori_loop(0, 5, lambda i, s: s.at[i].set(y[i]), x * 2),
        lax.fori_loop(0, 5, lambda i, s: s.at[i].set(x[i]), x * 2),
    ),
    "shift by one": lambda x, y: lax.scan(lambda s, t: (fnp.concatenate([s[1:], fnp.reshape(t, (1,))]), s[0]), x, y),
    "read after the update": lambda x, y: lax.fori_loop(
        0, 5, lambda i, x: x.at[i].set(x.at[i + 1].set(2.0)[i] + y[i]), x
    ),
    "twice the same": lambda x, y: (lambda z: (z, z.at[0].set(1.0), z.at[1].set(2.0)))(x * y),
    "branch on both": lambda x, y: lax.cond(
        x[0] > 0, lambda x, y: (x.at[0].set(y[0]), y), lambda x, y: (y, x.at[1].set(0.0)), x * 2, y * 2
    ),
    "two results of one operand": lambda x, y: lax.cond(
        x[0] > 0, lambda x: (x.at[0].set(1.0), x), lambda x: (x, x.at[1].set(0.0)), x + y
    ),
    "no steps": lambda x, y: lax.fori_loop(0, 0, lambda i, s: s.at[i].set(y[i]), x),
}


@pytest.mark.parametrize("size", [300, 40_000])
@pytest.mark.parametrize("name", WHOLE_STEPS)
def test_what_is_still_needed_is_not_overwritten(name, size):
    agree(WHOLE_STEPS[name], values(size), values(size, seed=1))


@pytest.mark.parametrize("size", [300, 40_000])
@pytest.mark.parametrize("name", [*SMALL_STEPS, *WHOLE_STEPS])
def test_donated_arguments_give_the_same(name, size):
    f = WHOLE_STEPS.get(name) or (lambda x, y: (SMALL_STEPS[name](x), y))
    x, y = values(size), values(size, seed=1)
    expected = fg.jit(f, compiler="reference")(x, y)
    donating = fg.jit(f, donate_argnums=(0, 1))
    for _ in range(3):
        found = donating(values(size), values(size, seed=1))
        for a, b in zip(fg.tree.leaves(found), fg.tree.leaves(expected), strict=True):
            numpy.testing.assert_allclose(numpy.asarray(a), numpy.asarray(b), rtol=1e-5, atol=1e-6)


def address(x):
    return numpy.asarray(x).__array_interface__["data"][0]


UPDATES = {
    "set": lambda x: x.at[3].set(1.0),
    "rows": lambda x: x.at[fnp.array([1, 5, 1])].add(2.0),
    "slice": lambda x: x.at[2:7].multiply(3.0),
    "dynamic_update_slice": lambda x: lax.dynamic_update_slice(x, fnp.ones((2,)), (x.astype(fg.int32)[0],)),
    "several": lambda x: x.at[3].set(1.0).at[4].set(x[0]).at[5].max(7.0),
    "loop": lambda x: lax.fori_loop(0, 5, lambda i, x: x.at[i].set(x[i + 1]), x),
}


@pytest.mark.parametrize("name", UPDATES)
def test_an_update_of_a_donated_array_leaves_it_where_it_is(name):
    f, x = UPDATES[name], values(LARGE)
    expected, before = numpy.asarray(fg.jit(f, compiler="reference")(values(LARGE))), address(x)
    found = fg.jit(f, donate_argnums=0)(x)
    assert address(found) == before
    numpy.testing.assert_allclose(numpy.asarray(found), expected, rtol=1e-6)


def test_an_intermediate_is_updated_where_it_is():
    lowered = fg.jit(lambda x: (x * 2).at[3].set(0.0).at[5].add(1.0)).lower(values(LARGE))
    assert lowered.memory_plan.arena_bytes < 1000
    assert "copy" not in str(lowered.kernels)


def test_an_array_is_updated_after_others_have_read_it():
    def f(x):
        y = x.at[3].set(0.0)
        return y, fnp.sum(x)

    x, expected = values(LARGE), numpy.asarray(values(LARGE))
    before = address(x)
    y, total = fg.jit(f, donate_argnums=0)(x)
    assert address(y) == before
    numpy.testing.assert_allclose(numpy.asarray(total), expected.sum(), rtol=1e-3, atol=1e-3)


def step_of_lookups(weights, state, i):
    state = fnp.tanh(state + weights[i % 7] * fnp.sum(lax.dynamic_slice(weights, (i, 0), (2, 3)) ** 2))
    return state, state[0]


def looped(weights, state):
    last, first = lax.scan(lambda s, i: step_of_lookups(weights, s, i), state, fnp.arange(6))
    return fnp.sum(last) + fnp.sum(first**2)


def unrolled(weights, state):
    total = 0.0
    for i in range(6):
        state, first = step_of_lookups(weights, state, i)
        total = total + first**2
    return total + fnp.sum(state)


@pytest.mark.parametrize("transform", [lambda f: f, fg.jit])
def test_what_a_loop_reads_of_a_constant_is_added_to_its_derivative(transform):
    weights, state = values(9, 3), values(3, seed=1)
    found = transform(fg.grad(looped, argnums=(0, 1)))(weights, state)
    expected = fg.grad(unrolled, argnums=(0, 1))(weights, state)
    for x, y in zip(found, expected, strict=True):
        numpy.testing.assert_allclose(numpy.asarray(x), numpy.asarray(y), rtol=1e-4, atol=1e-5)
    second = transform(fg.jacfwd(fg.grad(looped)))(weights, state)
    expected = fg.jacfwd(fg.grad(unrolled))(weights, state)
    numpy.testing.assert_allclose(numpy.asarray(second), numpy.asarray(expected), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("native_after", [0, None])
def test_steps_backward_go_through_no_array(native_after):
    with fg.config.override(native_after=native_after):
        (values(9, 3) + 1.0).block_until_ready()
        lowered = fg.jit(fg.grad(lambda w, s: looped(w, s))).lower(values(LARGE, 3), values(3))
    backward = str(lowered.kernels).split("backward")[1]
    assert f"in {3 * LARGE}" not in backward and "copy" not in backward


def test_what_is_read_at_positions_is_added_to_another_derivative():
    def f(x, i):
        return fnp.sum(x * x) + fnp.sum(fnp.sin(x[i]))

    def expected(x, i):
        slope = 2 * x
        numpy.add.at(slope, i, numpy.cos(x[i]))
        return slope

    x, i = values(50, 4), fg.array([3, 7, 3])
    program = fg.jit(fg.grad(f)).lower(x, i).simplified
    assert "broadcast_in_dim(0.0" not in str(program)
    numpy.testing.assert_allclose(
        numpy.asarray(fg.jit(fg.grad(f))(x, i)), expected(numpy.asarray(x), [3, 7, 3]), rtol=1e-5
    )
    numpy.testing.assert_allclose(numpy.asarray(fg.grad(f)(x, i)), expected(numpy.asarray(x), [3, 7, 3]), rtol=1e-5)
