"""Compiled Programs do what the reference does, in the kernels that one would write by hand."""

from __future__ import annotations

import numpy
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from primitive_cases import CASES

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad.compiler.native import is_native, native, with_native_segments


def array(*shape, seed=0):
    return fg.array(numpy.random.default_rng(seed).standard_normal(shape).astype(numpy.float32))


def segments(function, *arguments):
    """The native segments of a function, and the names of what else is left for the host."""
    program = with_native_segments(fg.jit(function).lower(*arguments).simplified)
    found = [equation.params["segment"] for equation in program.equations if equation.primitive is native]
    return found, [equation.primitive.name for equation in program.equations if equation.primitive is not native]


def kernels(function, *arguments):
    (segment,), rest = segments(function, *arguments)
    assert rest == []
    return segment.kernels


def check(function, *arguments, tolerance=1e-5):
    """Compiled code gives what the reference gives."""
    compiled = fg.tree.leaves(fg.jit(function)(*arguments))
    reference = fg.tree.leaves(fg.jit(function, compiler="reference")(*arguments))
    for x, y in zip(compiled, reference, strict=True):
        assert (x.shape, x.dtype) == (y.shape, y.dtype)
        numpy.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)


def normalized(x, scale, shift):
    mean = fnp.mean(x, -1, keepdims=True)
    variance = fnp.mean((x - mean) ** 2, -1, keepdims=True)
    return (x - mean) / fnp.sqrt(variance + 1e-5) * scale + shift


def adam(parameter, gradient, mean, square):
    mean = 0.9 * mean + 0.1 * gradient
    square = 0.99 * square + 0.01 * gradient * gradient
    return parameter - 0.1 * mean / (fnp.sqrt(square) + 1e-8), mean, square


# What becomes one kernel


@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        (lambda x, y: fnp.tanh(x) * y + 1.0, [(5, 7), (7,)]),
        (lambda x: fnp.sum(fnp.exp(x) * 2, 1), [(50, 70)]),
        (lambda x: fnp.sum(fnp.exp(x) * 2, 0), [(50, 70)]),
        (lambda x: fnp.sum(fnp.exp(x), (0, 2)), [(5, 7, 9)]),
        (fg.nn.softmax, [(50, 100)]),
        (normalized, [(4, 50, 100), (100,), (100,)]),
        (lambda x: fnp.exp(x.T) * 2, [(50, 33)]),
        (lambda x: fnp.exp(x.reshape(6, 4, 5)[::-1, 1:3]) + 1, [(6, 20)]),
        (adam, [(30, 40), (30, 40), (30, 40), (30, 40)]),
    ],
)
def test_a_chain_of_operations_is_one_kernel(function, shapes):
    arguments = [array(*shape, seed=seed) ** 2 for seed, shape in enumerate(shapes)]
    assert len(kernels(function, *arguments)) == 1
    check(function, *arguments)


def test_a_kernel_is_printed_as_loops():
    (kernel,) = kernels(lambda x: fnp.sum(x * x, 1), array(4, 10))
    assert str(kernel).splitlines() == [
        "kernel(in0: float32[40], out0: float32[4])",
        "  parallel for i in 4",
        "    s0 = 0",
        "    vector for k0 in 10",
        "      s0 += (in0[10*i + k0] * in0[10*i + k0])",
        "    out0[i] = s0",
    ]


def test_equal_kernels_are_written_once():
    x, y = array(80, 80), array(80, 80)  # large enough to have kernels of their own
    (segment,), _ = segments(lambda x, y: (fnp.tanh(x @ y) @ y, fnp.tanh(y @ x) @ x), x, y)
    assert segment.llvm_ir.count("define internal void @kernel") == 1
    assert len(segment.kernels) == 2


# Loops and branches


def test_loops_and_branches_are_part_of_the_compiled_function():
    def function(x, w):
        def step(carry, row):
            carry = fg.lax.cond(carry[0] > 0, lambda c: fnp.tanh(c * w + row), lambda c: c - row, carry)
            return carry, carry.sum()

        last, sums = fg.lax.scan(step, x[0], x, reverse=True)
        grown = fg.lax.while_loop(lambda c: fnp.sum(c) < 100.0, lambda c: c + 1.0, last)
        return grown, sums

    _, rest = segments(function, array(9, 7), array(7))
    assert set(rest) <= {"slice", "reshape"}
    check(function, array(9, 7), array(7))


def test_gradients_of_loops_are_compiled():
    def loss(w, x):
        return fnp.sum(fg.lax.scan(lambda c, row: (fnp.tanh(c * w + row), c.sum()), x[0], x)[1])

    check(fg.grad(loss), array(7), array(9, 7))


@pytest.mark.parametrize("length", [0, 1, 2, 3])
def test_what_a_loop_hands_on_stands_in_two_places_in_turn(length):
    check(lambda x: fg.lax.fori_loop(0, length, lambda i, c: (c[1], c[0] + i), (x, x * 2)), array(3))


# Memory


def test_values_whose_times_do_not_overlap_share_a_place():
    def chain(x, w):
        for _ in range(6):
            x = fnp.tanh(x @ w)
        return x

    (segment,), _ = segments(chain, array(64, 64), array(64, 64))
    assert segment.schedule.memory_plan.size <= 3 * 64 * 64 * 4 + 64


def test_a_value_is_read_before_its_place_is_written():
    # Running sums of two elements have a loop of one step, in which no index depends on the loop.
    check(lambda x: fnp.cumsum(fnp.cumsum(x)), array(2))
    check(lambda x: x.at[fnp.array([1, 1, 1])].add(x[:3]), array(4))


# Shapes without elements, or with one


@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 0), (0, 3), (1, 1), (1, 5), (5, 1), (2, 1, 3)])
def test_arrays_with_no_and_with_single_elements(shape):
    check(lambda x: (fnp.sum(x), fnp.sum(x, -1) if x.ndim else x, fnp.exp(x) * 2, x - fnp.sum(x)), array(*shape))


def test_arguments_that_are_not_in_order_are_copied():
    x = fg.array(numpy.arange(24.0, dtype=numpy.float32).reshape(4, 6)).T[::2]
    assert not x._data.flags.c_contiguous
    numpy.testing.assert_allclose(fg.jit(lambda x: x * 2 + 1)(x), numpy.asarray(x) * 2 + 1)


def test_a_long_chain_of_operations_compiles():
    def chain(x):
        for _ in range(1500):  # more than Python's limit of calls in each other
            x = x * 0.5 + 1.0
        return fnp.sin(x)

    check(chain, array(3))


@pytest.mark.parametrize("out_spec", [(1, 2, 0, 3), (2, 0, 1, 3), (0, 1, 2, 3), (0, 3, 1, 2), (2, 3, 0, 1)])
def test_results_of_a_convolution_may_have_any_order_of_axes(out_spec):
    numbers = fg.lax.ConvDimensionNumbers((3, 0, 2, 1), (1, 0, 3, 2), out_spec)

    def convolve(x, kernel):
        return fg.lax.conv_general_dilated(
            x, kernel, (2, 1), [(0, 0), (0, 0)], rhs_dilation=(1, 2), dimension_numbers=numbers
        )

    for seed in range(3):
        check(convolve, array(1, 5, 5, 5, seed=seed), array(1, 2, 2, 2, seed=seed + 10))


# Numbers of all kinds


def numbers(dtype, *shape, seed=0):
    values = numpy.random.default_rng(seed).standard_normal((2, *shape)) * 2
    dtype = fg.dtypes.canonical(dtype)
    return fg.array((values[0] + 1j * values[1]).astype(dtype) if dtype.kind == "c" else values[0].astype(dtype))


def adding_at(x, place):
    return x.at[place].add(x[:2]), x.at[0, place].set(x[0, :2]), x.at[place].multiply(x[:2])


@pytest.mark.native
@pytest.mark.parametrize("dtype", ["complex64", "complex128", "float16", "bfloat16"])
@pytest.mark.parametrize(
    "function",
    [
        lambda x: (fnp.sum(x), fnp.sum(x * x, 0), fnp.mean(x, 1), fnp.prod(x, 1)),
        lambda x: (fnp.cumsum(x, 0), fnp.cumprod(x, 1), fnp.flip(fnp.cumsum(fnp.flip(x), 1))),
        lambda x: (x[fnp.array([2, 0, 9])], x[:, fnp.array([1, 1])], x.at[7].get(mode="fill", fill_value=0)),
        lambda x: adding_at(x, fnp.array([1, 1])),
        lambda x: (fnp.concatenate([x, x[::-1]], 1), fnp.pad(x, ((1, 0), (2, 3))), fnp.roll(x, 2, 0)),
        lambda x: fg.lax.dynamic_update_slice(x, x[:2, :2] * 2, (1, fnp.array(2))),
        lambda x: fg.lax.reduce_window(x, 0, fg.lax.add, (2, 2), (1, 2), "SAME"),
        lambda x: fg.lax.conv_general_dilated(x[None, None], x[None, None, :2, :3], (1, 1), "SAME"),
        lambda x: fnp.zeros((2, 0), x.dtype) @ fnp.zeros((0, 3), x.dtype) + x[0, 0],
    ],
    ids=["reductions", "running", "gather", "scatter", "joining", "update", "windows", "convolution", "nothing"],
)
def test_complex_and_short_numbers_are_native(function, dtype):
    x = numbers(dtype, 4, 5)
    assert fg.jit(function).lower(x).host_calls == []
    check(function, x, tolerance={"complex64": 1e-5, "complex128": 1e-12, "float16": 4e-3, "bfloat16": 4e-2}[dtype])


@pytest.mark.native
def test_the_parts_of_complex_sums_are_in_one_loop():
    (kernel,) = kernels(lambda x: fnp.sum(x * x, 1), numbers("complex64", 3, 5))
    assert str(kernel).count("vector for") == 1


@pytest.mark.native
@pytest.mark.parametrize("wanted", ["int32", "float32", "complex64"])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "bool"])
def test_convolutions_may_have_results_of_a_wider_dtype(dtype, wanted):
    x = fg.array(numpy.random.default_rng(0).integers(0, 100, (1, 2, 9)).astype(dtype))

    def convolve(x):
        return fg.lax.conv_general_dilated(x, x[:, :, 2:5], (1,), "SAME", preferred_element_type=wanted)

    assert fg.jit(convolve).lower(x).host_calls == []
    check(convolve, x)


# What is left to the host


@pytest.mark.parametrize("name", sorted(CASES))
def test_no_primitive_of_numbers_is_left_to_the_host(name):
    case = CASES[name]

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
    @given(case.examples)
    def check_example(example):
        program = fg.make_program(lambda *x: case.primitive(*x, **example.params))(*map(fg.array, example.operands))
        for equation in program.equations:
            assert is_native(equation)

    check_example()


def test_a_stored_sum_that_is_also_read_at_other_elements():
    def function(a, b):
        total = fg.numpy.sum(a, 1)  # of one number each, so that it is the argument itself
        quotient = total / b
        return total, fg.numpy.sum(quotient, 1)

    a = fg.numpy.arange(8.0).reshape(8, 1, 1)
    b = fg.numpy.arange(1.0, 9.0).reshape(8, 1, 1)
    for found, expected in zip(fg.jit(function)(a, b), function(a, b), strict=True):
        numpy.testing.assert_allclose(found, expected, rtol=1e-6)


def test_what_depends_on_a_sum_and_on_constants_in_turned_order():
    low = numpy.full((5, 1, 5), -0.0, numpy.float32)

    def function(a, b):
        bound = fg.numpy.exp(low) / low
        return fg.numpy.transpose(fg.numpy.maximum(b - fg.numpy.log(fg.numpy.sum(a, 0)), bound), (2, 0, 1))

    a = fg.numpy.arange(1.0, 26.0).reshape(5, 1, 5)
    numpy.testing.assert_allclose(fg.jit(function)(a, a), function(a, a), rtol=1e-6)


@pytest.mark.native
@pytest.mark.parametrize("n, kernels", [(2, 1), (3, 1), (5, 2)])
def test_differences_of_differences_are_computed_where_they_are_read(n, kernels):
    x = fg.array(numpy.arange(100.0, dtype=numpy.float32) ** 2)
    function = fg.jit(lambda x: fnp.diff(x, n=n))
    assert str(function.lower(x).kernels).count("kernel(") == kernels
    numpy.testing.assert_array_equal(function(x), numpy.diff(numpy.asarray(x), n=n))
