"""Programs of many small steps: short axes, merged clusters, joined parts, and what loops leave for later."""

from __future__ import annotations

import numpy
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad import dtypes
from funcgrad.array import wrap
from funcgrad.compiler.simplify import simplify
from funcgrad.primitives import reductions
from funcgrad.primitives.movement import concatenate, pad
from funcgrad.primitives.shapes import reduce_sum


@pytest.fixture(params=[0, 128, 256, 512])
def vector_bits(request):
    with fg.config.override(vector_bits=request.param):
        yield request.param


def values(*shape: int, dtype: str = "float32") -> fg.Array:
    generator = numpy.random.default_rng(sum(shape))
    x = generator.standard_normal(shape) * 10
    return wrap((x > 0) if dtype == "bool" else x.astype(dtypes.canonical(dtype)))


def assert_allclose(found, expected, rtol=1e-5, atol=1e-5):
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    wide = "complex128" if found.dtype.kind == "c" else "float64"
    numpy.testing.assert_allclose(
        numpy.asarray(found).astype(wide), numpy.asarray(expected).astype(wide), rtol=rtol, atol=atol
    )


def same(function, *operands):
    """The results of a function as native code and as the reference computes it are alike."""
    expected = fg.jit(function, compiler="reference")(*operands)
    found = fg.jit(function)(*operands)
    for x, y in zip(fg.tree.leaves(found), fg.tree.leaves(expected), strict=True):
        assert_allclose(x, y, rtol=1e-2 if x.dtype == dtypes.bfloat16 else 1e-5)


def kernels(function, *operands) -> str:
    return str(fg.jit(function).lower(*operands).kernels)


# Short axes


@pytest.mark.parametrize(
    "primitive", [reduce_sum, reductions.reduce_max, reductions.reduce_min, reductions.reduce_prod]
)
@pytest.mark.parametrize(
    "shape, axes", [((37, 3), (1,)), ((5, 2, 2), (1, 2)), ((4, 19), (0,)), ((4,), (0,)), ((1, 3), (0, 1))]
)
def test_reductions_of_few_elements_are_written_out(vector_bits, primitive, shape, axes):
    for dtype in ("float32", "float64", "int32", "bfloat16"):
        same(lambda x: primitive(x, axes=axes), values(*shape, dtype=dtype))


@pytest.mark.parametrize("kinds", [2, 3, 4])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int16", "int8", "bool", "bfloat16", "complex64"])
def test_elements_of_several_kinds_are_loaded_and_stored_in_turn(vector_bits, kinds, dtype):
    def function(x, y):
        if dtype == "bool":
            return x & y, ~x
        return x * y, x + x[:, ::-1]

    for count in (1, 2, 5, 16, 17, 31, 64, 77):
        x = values(count, kinds, dtype=dtype)
        for found, expected in zip(
            fg.jit(function)(x, x[0]), fg.jit(function, compiler="reference")(x, x[0]), strict=True
        ):
            assert_allclose(found, expected, rtol=1e-2 if dtype == "bfloat16" else 1e-5)


def test_every_second_element_is_read_up_to_the_last():
    for count in range(1, 70):
        x = values(2 * count - 1)
        same(lambda x: x[::2] * 2.0, x)


def pulls(x, masses):
    differences = x[None] - x[:, None]
    squares = fnp.sum(differences * differences, axis=-1) + 0.01
    return fnp.sum((masses / (squares * fnp.sqrt(squares)))[:, :, None] * differences, axis=1)


@pytest.mark.parametrize("count", [2, 3, 10, 40])
def test_pairs_of_points_are_one_kernel(vector_bits, count):
    x, masses = values(count, 3) / 10, abs(values(count))
    same(pulls, x, masses)
    if count == 10:
        assert kernels(pulls, x, masses).count("kernel(") == 1


def test_sums_along_a_long_axis_beside_a_short_one_are_done_in_parts(vector_bits):
    x = values(40000, 3) / 10
    same(lambda x: (fnp.sum(x, axis=0), fnp.max(x * x, axis=0)), x)


# Clusters that are merged


def test_what_reads_the_same_arrays_is_computed_together():
    def function(x, y):
        z = fnp.tanh(x) * y
        return z, z * (1.0 - z), 1.0 - z * z, fnp.exp(y)

    x, y = values(100, 80), values(100, 80)
    assert kernels(function, x, y).count("kernel(") == 1
    same(function, x, y)


def test_clusters_stay_apart_where_one_wants_other_elements_of_the_other():
    def function(x):
        y = fnp.tanh(x)
        return y, fnp.exp(y[::-1]) + 1.0, fnp.cumsum(y), fnp.exp(fnp.cumsum(y) * 0.1) * y

    assert kernels(function, values(50)).count("kernel(") > 2
    same(function, values(50) / 10)


def test_a_step_between_two_clusters_keeps_them_apart():
    def function(x):
        y = x * 2.0
        z = fnp.sort(y)
        return y, y + z, z * y

    same(function, values(64))


# Parts of joined arrays


@pytest.mark.parametrize("axis", [0, 1])
def test_parts_of_joined_arrays_are_written_in_place(vector_bits, axis):
    def function(x, y):
        joined = fnp.concatenate([fnp.tanh(x), y.T if axis == 0 else x * 2.0, fnp.ones((5, 5)), x], axis=axis)
        return joined, joined[1:] * 2.0

    x, y = values(5, 5), values(5, 7)
    same(function, x, y)
    assert "copy" not in kernels(function, x, y)


def test_parts_are_read_only_when_all_are_written():
    def function(x, y):
        joined = fnp.concatenate([x + 1.0, y * 2.0])
        return joined.reshape((2, -1)) * x, joined

    same(function, values(8), values(8))


def test_joined_arrays_may_be_results_of_steps():
    def function(x):
        return fg.lax.scan(lambda c, row: (c * 0.5 + row, fnp.concatenate([c, row * 2.0])), x[0], x)

    same(function, values(6, 4))


def gates(x):
    a, b, c = x[:, :4], x[:, 4:7], x[:, 7:]
    return fnp.sum(fnp.tanh(a)) + fnp.sum(b * b) + fnp.sum(fnp.sin(c))


def test_derivatives_of_slices_are_joined():
    x = values(6, 12)
    primitives = [e.primitive.name for e in fg.jit(fg.grad(gates)).lower(x).simplified.equations]
    assert "concatenate" in primitives and "pad" not in primitives
    same(fg.grad(gates), x)


def test_joining_parts_keeps_the_sign_of_zero_and_what_overlaps():
    def bits(program, *operands):
        return [x._data.tobytes() for x in program(*operands)]

    def padded(x, low, high):
        return pad(x, wrap(numpy.float32(0)), config=((low, high, 0),))

    x, y = wrap(numpy.array([-0.0, 1.0, numpy.nan], "float32")), wrap(numpy.array([2.0, -0.0], "float32"))
    for low_x, low_y in [(0, 3), (2, 0), (0, 5), (4, 1), (1, 2), (0, 0)]:

        def function(x, y, low_x=low_x, low_y=low_y):
            return [padded(x, low_x, 7 - 3 - low_x) + padded(y, low_y, 7 - 2 - low_y)]

        program = fg.make_program(function)(x, y)
        simpler = simplify(program)
        simpler.check()
        assert bits(program, x, y) == bits(simpler, x, y)
        apart = low_x + 3 <= low_y or low_y + 2 <= low_x
        assert any(e.primitive is concatenate for e in simpler.equations) == apart


# What loops leave for later


def recurrent(w, b, xs):
    def step(h, x):
        h = fnp.tanh(h @ w + x + b)
        return h, fnp.sum(h)

    return fnp.sum(fg.lax.scan(step, fnp.zeros(xs.shape[1:]), xs)[1])


def unrolled(w, b, xs):
    h, total = fnp.zeros(xs.shape[1:]), 0.0
    for x in xs:
        h = fnp.tanh(h @ w + x + b)
        total = total + fnp.sum(h)
    return total


@pytest.mark.parametrize("compiler", ["reference", "default"])
def test_sums_of_products_over_steps_are_one_product(compiler):
    operands = values(5, 5) / 20, values(5) / 10, values(7, 3, 5) / 10
    gradient = fg.grad(recurrent, argnums=(0, 1, 2))
    found = fg.jit(gradient, compiler=compiler)(*operands)
    for x, y in zip(found, fg.grad(unrolled, argnums=(0, 1, 2))(*operands), strict=True):
        assert_allclose(x, y, rtol=1e-4, atol=1e-5)
    loops = [e for e in fg.make_program(gradient)(*operands).equations if e.primitive.name == "scan"]
    assert loops[-1].params["carry_count"] == 1  # the cotangent of h, and none of w and b


def test_sums_that_would_take_more_memory_are_added_up_in_the_loop():
    def loss(w, x):
        def step(h, _):
            return h, fnp.sum(fnp.sin(h @ (w @ w.T)))

        return fnp.sum(fg.lax.scan(step, x, None, length=4)[1])

    w, x = values(4, 3) / 10, values(6, 4) / 10
    expected = fg.grad(lambda w: 4 * fnp.sum(fnp.sin(x @ (w @ w.T))))(w)
    assert_allclose(fg.jit(fg.grad(loss))(w, x), expected, rtol=1e-4, atol=1e-5)


def test_later_sums_under_other_transforms():
    operands = values(5, 5) / 20, values(5) / 10, values(4, 3, 5) / 10
    many = values(2, 5, 5) / 20
    found = fg.jit(fg.vmap(fg.grad(recurrent), in_axes=(0, None, None)))(many, *operands[1:])
    for x, w in zip(found, many, strict=True):
        assert_allclose(x, fg.grad(unrolled)(w, *operands[1:]), rtol=1e-4, atol=1e-5)
    direction = values(5, 5) / 7
    _, along = fg.jvp(lambda w: fg.grad(recurrent)(w, *operands[1:]), (operands[0],), (direction,))
    _, expected = fg.jvp(lambda w: fg.grad(unrolled)(w, *operands[1:]), (operands[0],), (direction,))
    assert_allclose(along, expected, rtol=1e-3, atol=1e-4)
    assert fg.grad(recurrent)(*operands[:2], operands[2][:0]).shape == (5, 5)  # no steps at all


def test_loops_without_steps_have_no_derivative():
    w, b = values(5, 5), values(5)
    assert float(abs(fg.jit(fg.grad(recurrent))(w, b, fnp.zeros((0, 3, 5)))).max()) == 0.0


def test_values_that_are_quickly_computed_again_are_not_stacked():
    def loss(x, xs):
        def step(c, x):
            gate = 1.0 / (1.0 + fnp.exp(-c))
            return gate * x + (1.0 - gate) * fnp.tanh(c), None

        return fnp.sum(fg.lax.scan(step, x, xs)[0])

    x, xs = values(8), values(5, 8)
    program = fg.make_program(fg.grad(loss))(x, xs)
    forward = next(e for e in program.equations if e.primitive.name == "scan")
    assert len(forward.results) <= 7
    same(fg.grad(loss), x, xs)


def test_loops_carry_only_what_somebody_wants():
    def function(x):
        x = fg.lax.fori_loop(0, 10, lambda i, x: x * 0.5 + 1.0, x)
        carried = (x, x * 2.0, x * 0.5)
        step = lambda c, y: ((c[0] * y, c[1] + c[2], c[2] * 0.5), (fnp.sin(c[0]), fnp.cos(c[1])))
        after, (_, cosines) = fg.lax.scan(step, carried, x)
        return after[1], cosines

    x = values(8) / 10
    loops = [e for e in fg.jit(function).lower(x).simplified.equations if e.primitive.name == "scan"]
    assert [e.params["carry_count"] for e in loops] == [1, 2]
    assert [len(e.results) for e in loops] == [1, 3]  # what is carried, and no sines
    same(function, x)


def test_effects_of_loops_stay_whoever_wants_their_results():
    seen = []

    def function(x):
        def step(c, y):
            fg.io_callback(lambda c: seen.append(float(c)), None, c[0])
            return (c[0] + 1.0, c[1] * y), None

        return fg.lax.scan(step, (0.0, x[0]), x)[0][1]

    same(function, values(3))
    assert sorted(seen) == [0.0, 0.0, 1.0, 1.0, 2.0, 2.0]
