"""What is done to a product may be done while its parts are in the cache: which clusters are, and that it is right."""

import numpy
import pytest

import funcgrad as fg
import funcgrad.numpy as np
from funcgrad.compiler.schedule import Multiply
from funcgrad.config import config


def steps_of(function, *args):
    """The steps of a function that is native from beginning to end."""
    (schedule,) = fg.jit(function).lower(*args).memory_plan.schedules
    return schedule.steps


def epilogues(function, *args):
    return [step.epilogue for step in steps_of(function, *args) if isinstance(step, Multiply)]


def arrays(*shapes, dtype="float32"):
    random = numpy.random.default_rng(0)
    return [np.asarray(random.standard_normal(shape).astype("float32")).astype(dtype) for shape in shapes]


def agree(function, *args, tolerance=2e-5):
    """Native code and the reference; native code on one thread and on two, bit by bit."""
    expected = fg.jit(function, compiler="reference")(*args)
    with config.override(threads=1):
        one = fg.jit(function)(*args)
    with config.override(threads=2):
        two = fg.jit(function)(*args)
    for x, y, z in zip(*map(fg.tree.leaves, (expected, one, two)), strict=True):
        x, y, z = (numpy.asarray(a) for a in (x, y, z))
        assert y.dtype == x.dtype and y.tobytes() == z.tobytes()
        x, y = x.astype(float), y.astype(float)
        numpy.testing.assert_allclose(y, x, rtol=tolerance, atol=tolerance * max(1.0, abs(x).max()))


def gelu(x):
    return 0.5 * x * (1 + np.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))


@pytest.mark.parametrize("bits", [512, 256, 0])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-5), ("float64", 1e-12), ("bfloat16", 0.02)])
@pytest.mark.parametrize("shape", [(70, 40, 50), (128, 784, 512), (33, 1100, 77), (5, 7, 19)])
def test_a_linear_layer_is_one_step(shape, dtype, tolerance, bits):
    m, k, n = shape
    x, w, b = arrays((m, k), (k, n), (n,), dtype=dtype)

    def layer(x, w, b):
        return gelu(x @ w + b)

    with config.override(vector_bits=bits):
        agree(layer, x, w, b, tolerance=tolerance)
        (kernel,) = epilogues(layer, x, w, b)
        assert kernel is not None and len(steps_of(layer, x, w, b)) == 1


def test_what_else_is_read_may_be_a_number_a_row_or_of_the_same_shape():
    x, w, row, column, same = arrays((3, 40, 60), (60, 70), (70,), (3, 40, 1), (3, 40, 70))
    for function in (
        lambda x, w, y: x @ w * y,
        lambda x, w, y: np.exp(-abs(x @ w - y)),
        lambda x, w, y: (x @ w + y).reshape(120, 70) * 2.0,
        lambda x, w, y: np.where(np.arange(70) > 30, x @ w, y),
    ):
        for y in (np.asarray(2.0), row, column, same):
            agree(function, x, w, y)
            assert all(epilogues(function, x, w, y))


def test_products_side_by_side():
    x, y, b = arrays((2, 3, 50, 30), (2, 3, 30, 40), (3, 1, 1))

    def function(x, y, b):
        return np.maximum(x @ y + b, 0)

    agree(function, x, y, b)
    assert all(epilogues(function, x, y, b))


def test_sums_of_short_floats_are_rounded_as_the_product_is():
    x, w = arrays((40, 50), (50, 60), dtype="bfloat16")
    found = fg.jit(lambda x, w: (x @ w) * np.asarray(1.0, dtype="float32"))(x, w)
    assert found.dtype == np.float32
    numpy.testing.assert_array_equal(numpy.asarray(found), numpy.asarray(fg.jit(lambda x, w: x @ w)(x, w)))


def test_a_convolution_adds_a_bias():
    x, kernel, b = arrays((2, 9, 11, 5), (3, 3, 5, 24), (24,))

    def function(x, kernel, b):
        y = fg.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return np.maximum(y + b, 0)

    agree(function, x, kernel, b, tolerance=1e-4)
    assert all(epilogues(function, x, kernel, b))


def test_what_stays_apart():
    x, w, b, more = arrays((64, 32), (32, 48), (48,), (64, 48))
    apart = {
        "the product is a result, too": lambda x, w, b, more: (x @ w, x @ w + b),
        "somebody else reads it": lambda x, w, b, more: (np.sum(x @ w, 0), np.exp(x @ w) + b),
        "it is read elsewhere": lambda x, w, b, more: (x @ w)[::-1] + b,
        "many arrays come along": lambda x, w, b, more: ((x @ w + more) * 2.0, np.exp(x @ w + more)),
        "it is a matrix times a vector": lambda x, w, b, more: np.exp(x @ w[:, 0]),
    }
    for function in apart.values():
        assert epilogues(function, x, w, b, more) == [None]
        agree(function, x, w, b, more)


def test_an_update_in_place():
    x, y, p = arrays((64, 40), (64, 50), (40, 50))
    step = fg.jit(lambda p, x, y: p - 0.1 * (x.T @ y), donate_argnums=0)
    assert all(epilogues(lambda p, x, y: p - 0.1 * (x.T @ y), p, x, y))
    expected = numpy.asarray(p) - 0.1 * (numpy.asarray(x).T @ numpy.asarray(y))
    numpy.testing.assert_allclose(numpy.asarray(step(p, x, y)), expected, rtol=1e-4, atol=1e-4)


def test_an_operand_is_not_overwritten():
    (x,) = arrays((60, 60))
    step = fg.jit(lambda x: x + x @ x, donate_argnums=0)
    expected = numpy.asarray(x) + numpy.asarray(x) @ numpy.asarray(x)
    numpy.testing.assert_allclose(numpy.asarray(step(x)), expected, rtol=1e-4, atol=1e-4)


def test_in_loops_and_branches():
    x, w, b = arrays((20, 30), (30, 30), (30,))

    def repeated(x, w, b):
        return fg.lax.scan(lambda x, _: (np.tanh(x @ w + b), None), x, None, length=5)[0]

    def chosen(x, w, b):
        return fg.lax.cond(x[0, 0] > 0, lambda: np.tanh(x @ w + b), lambda: x @ w - b)

    agree(repeated, x, w, b)
    agree(chosen, x, w, b)


def test_it_is_printed_and_counted_with_the_product():
    x, w, b = arrays((128, 784), (784, 512), (512,))
    lowered = fg.jit(lambda x, w, b: np.maximum(x @ w + b, 0)).lower(x, w, b)
    lines = str(lowered.kernels).splitlines()[2:-2]
    assert lines[0].endswith("packed, of whose sums")
    assert [line.strip() for line in lines[1:]] == [
        "parallel for i in 128",
        "vector for j in 512",
        "out0[j + 512*i] = max((sums[j + 512*i] + in2[j]), 0)",
    ]
    assert len(lowered.kernels) == 1
    (part,) = lowered.cost.parts
    assert part.what == "product for out0" and part.bytes_written == 4 * 128 * 512
    assert part.flops == 2 * 128 * 784 * 512 + 2 * 128 * 512
    assert part.bytes_read == 4 * (128 * 784 + 784 * 512 + 512)
