"""Convolutions and sliding windows: against JAX's results, against loops, and in every combination of transforms."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy
import pytest
import scipy.signal
from case_building import REALS
from convolution_cases import convolution_reference, convolutions, sum_of_all, window_reference, windows_of
from hypothesis import given, settings

import funcgrad as fg
from funcgrad import lax
from funcgrad.primitives import windows
from funcgrad.primitives.convolution import conv_general_dilated as primitive
from funcgrad.primitives.windows import reduce_window_max, reduce_window_min, reduce_window_sum
from funcgrad.testing import check_grads
from funcgrad.testing.comparing import host

LAYOUT = ("NHWC", "HWIO", "NHWC")
KNOWN = json.loads((Path(__file__).parent / "known_values" / "convolution.json").read_text())
COMPUTATIONS = {"add": (0.0, lax.add), "max": (-math.inf, lax.max), "min": (math.inf, lax.min)}


def pattern(shape, factor):
    """The numbers that the known values were computed from."""
    return fg.array(((numpy.arange(math.prod(shape)) * factor) % 11 - 5).astype(float).reshape(shape))


def check_known(function, operands, case):
    result, pull = fg.vjp(function, *operands)
    assert result.shape == tuple(case["shape"])
    assert result.reshape(-1).tolist() == case["result"]
    if "gradient 0" not in case:
        return
    for i, gradient in enumerate(pull(pattern(result.shape, 3))):
        assert gradient.reshape(-1).tolist() == case[f"gradient {i}"]


@pytest.mark.parametrize("name", ["conv_general_dilated", "conv_transpose"])
def test_convolutions_and_their_gradients_are_those_of_jax(name):
    for case in KNOWN[name]:
        operands = pattern(case["x"], 7), pattern(case["kernel"], 5)
        check_known(lambda x, k, a=case["arguments"]: getattr(lax, name)(x, k, **a), operands, case)


def test_window_reductions_and_their_gradients_are_those_of_jax_at_ties_as_well():
    for case in KNOWN["reduce_window"]:
        start, computation = COMPUTATIONS[case["computation"]]
        check_known(
            lambda x, s=start, c=computation, a=case["arguments"]: lax.reduce_window(x, s, c, **a),
            [pattern(case["x"], 7)],
            case,
        )


@settings(max_examples=150)
@given(convolutions())
def test_a_convolution_is_a_loop_over_places(example):
    x, kernel = map(fg.array, example.operands)
    result = primitive(x, kernel, **example.params)
    expected = convolution_reference(host(x), host(kernel), **example.params)
    assert result.shape == expected.shape
    numpy.testing.assert_allclose(host(result), expected, rtol=0.01, atol=0.01)


@settings(max_examples=100)
@given(windows_of(), windows_of(REALS))
def test_a_window_reduction_is_a_loop_over_windows(for_sum, for_max):
    for reduction, example, reference in [
        (reduce_window_sum, for_sum, window_reference(sum_of_all)),
        (reduce_window_max, for_max, window_reference(numpy.max, False)),
        (reduce_window_min, for_max, window_reference(numpy.min, True)),
    ]:
        x = fg.array(example.operands[0])
        result = reduction(x, **example.params)
        expected = reference(host(x), **example.params)
        assert result.shape == expected.shape
        numpy.testing.assert_allclose(host(result), expected, rtol=0.01, atol=0.01)


@pytest.mark.parametrize("size", [15, 16, 17, 31, 40])
@pytest.mark.parametrize("stride, apart", [(1, 1), (3, 1), (2, 2)])
def test_long_windows_are_reduced_like_short_ones(size, stride, apart):
    x = numpy.random.default_rng(size).integers(-9, 10, (3, 100)).astype(float)
    for start, computation, reduce in [
        (0, lax.add, numpy.sum),
        (-math.inf, lax.max, numpy.max),
        (math.inf, lax.min, numpy.min),
    ]:
        result = lax.reduce_window(x, start, computation, (1, size), (1, stride), window_dilation=(1, apart))
        windows = numpy.lib.stride_tricks.sliding_window_view(x, (size - 1) * apart + 1, axis=1)
        assert result.tolist() == reduce(windows[:, ::stride, ::apart], axis=-1).tolist()


def test_large_convolutions_are_computed_in_blocks_with_the_same_result():
    random = numpy.random.default_rng(0)
    for x_shape, kernel_shape in [((3, 4, 130, 140), (2, 4, 3, 3)), ((8, 40, 31, 32), (2, 40, 30, 31))]:
        x, kernel = random.standard_normal(x_shape), random.standard_normal(kernel_shape)
        result = lax.conv(x, kernel, (1, 1), "VALID")
        expected = [
            [sum(scipy.signal.correlate(a, b, "valid") for a, b in zip(e, k, strict=True)) for k in kernel]
            for e in x[:2]
        ]
        numpy.testing.assert_allclose(result[:2], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("layout", [LAYOUT, ("NCHW", "OIHW", "NCHW"), ("CWHN", "WOIH", "NHCW")])
@pytest.mark.parametrize(
    "arguments", [{}, {"rhs_dilation": (2, 1)}, {"lhs_dilation": (2, 3)}, {"window_strides": (2, 1)}]
)
@pytest.mark.parametrize("inputs, outputs, groups", [(8, 1, 1), (9, 2, 1), (1, 6, 6), (1, 12, 6), (2, 8, 4)])
def test_every_way_of_computing_gives_what_a_loop_gives(layout, arguments, inputs, outputs, groups):
    random = numpy.random.default_rng(0)

    def made(spec, **lengths):
        return random.integers(-3, 4, [lengths[letter] for letter in spec]).astype(float)

    x = made(layout[0], N=2, C=inputs * groups, H=6, W=7)
    kernel = made(layout[1], O=outputs, I=inputs, H=3, W=2)
    params = (
        dict(window_strides=(1, 1), padding=((1, 0), (-1, 2)), lhs_dilation=(1, 1), rhs_dilation=(1, 1)) | arguments
    )
    params |= dict(feature_group_count=groups, batch_group_count=1)
    numbers = lax.conv_dimension_numbers(x.shape, kernel.shape, layout)
    expected = convolution_reference(x, kernel, dimension_numbers=numbers, **params)
    result, pull = fg.vjp(lambda *xs: lax.conv_general_dilated(*xs, dimension_numbers=layout, **params), x, kernel)
    assert result.tolist() == expected.tolist()
    # The transpose of a linear map, by its products with vectors.
    cotangent = made("NCHW", **dict(zip("NCHW", result.shape, strict=True)))
    of_x, of_kernel = pull(cotangent)
    y, other = numpy.roll(x, 1), numpy.roll(kernel, 1)
    moved = convolution_reference(y, kernel, dimension_numbers=numbers, **params)
    assert (of_x * y).sum().item() == (cotangent * moved).sum()
    moved = convolution_reference(x, other, dimension_numbers=numbers, **params)
    assert (of_kernel * other).sum().item() == (cotangent * moved).sum()


# Derivatives and batches of what users call; the primitives by themselves are checked in test_primitive_rules.py


def standard_normal(*shape):
    return fg.array(numpy.random.default_rng(len(shape)).standard_normal(shape))


def test_derivatives_of_a_strided_dilated_grouped_convolution():
    def f(x, kernel):
        return lax.conv_general_dilated(x, kernel, (2, 1), "SAME", None, (1, 2), LAYOUT, feature_group_count=2)

    check_grads(f, (standard_normal(2, 4, 3, 4), standard_normal(2, 2, 2, 6)), order=2)


def test_derivatives_of_conv_transpose():
    def f(x, kernel):
        return lax.conv_transpose(x, kernel, (2,), "SAME", transpose_kernel=True)

    check_grads(f, (standard_normal(2, 4, 3), standard_normal(3, 2, 3)), order=2)


@pytest.mark.parametrize("computation, start", [(lax.add, 0.0), (lax.max, -math.inf), (lax.min, math.inf)])
def test_derivatives_of_pooling(computation, start):
    def f(x):
        y = lax.reduce_window(x * x, start, computation, (1, 2, 3), (1, 2, 1), "SAME")
        return y * y

    check_grads(f, (standard_normal(2, 5, 4),), order=2)


def test_the_first_of_several_maxima_gets_the_derivative():
    x = fg.array([1.0, 3.0, 3.0, 2.0])
    gradient = fg.grad(lambda x: lax.reduce_window(x, -math.inf, lax.max, (3,), (1,)).sum())(x)
    assert gradient.tolist() == [0.0, 2.0, 0.0, 0.0]


def test_where_there_is_nan_it_is_the_maximum_and_gets_the_derivative():
    x = fg.array([[1.0, math.nan, 3.0]])
    f = lambda x: lax.reduce_window(x, -math.inf, lax.max, (1, 3)).sum()
    assert math.isnan(f(x).item())
    assert fg.grad(f)(x).tolist() == [[0.0, 1.0, 0.0]]


def test_an_infinity_in_the_array_counts_and_one_in_the_padding_does_not():
    x = fg.array([-math.inf, -math.inf])
    f = lambda x: lax.reduce_window(x, -math.inf, lax.max, (2,), (2,), [(1, 1)])
    assert f(x).tolist() == [-math.inf, -math.inf]
    assert fg.vjp(f, x)[1](fg.array([1.0, 2.0]))[0].tolist() == [1.0, 2.0]


def test_no_element_gets_the_derivative_of_a_window_without_elements():
    x = fg.array([1.0, 2.0])
    f = lambda x: lax.reduce_window(x, -math.inf, lax.max, (1,), (1,), [(1, 1)])
    value, pull = fg.vjp(f, x)
    assert value.tolist() == [-math.inf, 1.0, 2.0, -math.inf]
    assert pull(fg.array([1.0, 2.0, 3.0, 4.0]))[0].tolist() == [2.0, 3.0]


APART = [
    {"window_dimensions": (1, 2, 3), "window_strides": (1, 2, 3)},
    {"window_dimensions": (1, 2, 1), "window_strides": (2, 3, 2)},
    {"window_dimensions": (1, 3, 2), "window_strides": (1, 3, 2), "padding": ((0, 0), (1, 2), (1, 0))},
    {"window_dimensions": (1, 2, 2), "window_strides": (1, 2, 2), "padding": ((-1, 0), (-1, -2), (0, -1))},
    {"window_dimensions": (3, 5, 7), "window_strides": (1, 1, 1)},
]


@pytest.mark.parametrize("params", APART)
@pytest.mark.parametrize("computation", ["sum", "max", "min"])
def test_windows_that_lie_apart_have_the_derivatives_of_others(computation, params):
    """With ties and NaN, against sums over overlapping windows, and against reading at the place of the extremum."""
    random = numpy.random.RandomState(0)
    x = random.randint(-2, 3, (3, 5, 7)).astype(numpy.float64)
    x[random.rand(*x.shape) < 0.1] = numpy.nan if computation != "sum" else 0.5
    given = {"padding": ((0, 0),) * 3, "base_dilation": (1,) * 3, "window_dilation": (1,) * 3, **params}
    primitive = {"sum": reduce_window_sum, "max": reduce_window_max, "min": reduce_window_min}[computation]
    result = primitive(fg.array(x), **given)
    assert windows.lie_apart(x.shape, result.shape, **given)
    t, cotangent = random.randn(*x.shape), random.randn(*result.shape)
    expected = fg.array(t)
    if computation == "sum":
        expected = primitive(expected, **given)
    else:
        place = {"max": windows.reduce_window_argmax, "min": windows.reduce_window_argmin}[computation]
        expected = windows._read_places(expected, place(fg.array(x), **given), windows.counted_axes(**given))
    for compiler in ("default", "reference"):
        f = fg.jit(lambda x: primitive(x, **given), compiler=compiler)
        numpy.testing.assert_allclose(f(x), result)
        numpy.testing.assert_allclose(fg.jvp(f, (x,), (t,))[1], expected, atol=1e-12)
        (gradient,) = fg.vjp(f, x)[1](cotangent)
        assert abs((gradient * t).sum() - (expected * cotangent).sum()) < 1e-10


def test_pooling_is_fused_with_what_is_around_it():
    def f(x):
        return (lax.reduce_window(fg.numpy.tanh(x), -math.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID") ** 2).sum()

    kernels = str(fg.jit(fg.grad(f)).lower(fg.numpy.ones((8, 32, 32, 16))).kernels)
    assert "for w" not in kernels and kernels.count("kernel(") == 3, kernels


@pytest.mark.parametrize("groups", [{}, dict(feature_group_count=2), dict(batch_group_count=2)])
@pytest.mark.parametrize("x_axis, kernel_axis", [(0, None), (None, 3), (2, 1), (4, 0)])
def test_vmap_is_a_loop_under_grad_and_jit_too(groups, x_axis, kernel_axis):
    x, kernel = standard_normal(2, 4, 5, 4), standard_normal(2, 2, 2 if "feature_group_count" in groups else 4, 4)
    x = x if x_axis is None else numpy.stack([x, 2 * x, x + 1], x_axis)
    kernel = kernel if kernel_axis is None else numpy.stack([kernel, kernel - 1, 3 * kernel], kernel_axis)

    def loss(x, kernel):
        y = lax.conv_general_dilated(x, kernel, (1, 2), "SAME", dimension_numbers=LAYOUT, **groups)
        return (y * y * y).sum()

    gradient = fg.grad(loss, argnums=(0, 1))
    mapped = fg.vmap(gradient, in_axes=(x_axis, kernel_axis))
    for function in (mapped, fg.jit(mapped)):
        results = function(fg.array(x), fg.array(kernel))
        for i in range(3):
            row = [
                fg.array(v if axis is None else numpy.take(v, i, axis))
                for v, axis in [(x, x_axis), (kernel, kernel_axis)]
            ]
            for result, expected in zip(results, gradient(*row), strict=True):
                numpy.testing.assert_allclose(result[i], expected, rtol=1e-9, atol=1e-9)


def test_gradients_of_every_example_by_vmap_add_up_to_the_gradient():
    x, kernel = standard_normal(5, 8, 8, 3), standard_normal(3, 3, 3, 4)
    loss = lambda kernel, x: (lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=LAYOUT) ** 2).sum()
    each = fg.vmap(fg.grad(loss), in_axes=(None, 0))(kernel, x[:, None])
    assert each.shape == (5, *kernel.shape)
    numpy.testing.assert_allclose(each.sum(axis=0), fg.grad(loss)(kernel, x), rtol=1e-9)


# Arguments


def test_layouts_as_strings_and_as_numbers_mean_the_same():
    x, kernel = standard_normal(2, 5, 6, 3), standard_normal(2, 2, 3, 4)
    numbers = lax.conv_dimension_numbers(x.shape, kernel.shape, LAYOUT)
    assert numbers == lax.ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))
    a, b = (lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=n) for n in (LAYOUT, numbers))
    assert a.tolist() == b.tolist()
    channels_first = lax.conv(x.transpose(0, 3, 1, 2), kernel.transpose(3, 2, 0, 1), (1, 1), "SAME")
    numpy.testing.assert_allclose(channels_first.transpose(0, 2, 3, 1), a, rtol=1e-12)


def test_half_precision_is_added_up_in_float32_and_kept_there_on_demand():
    x = lax.full((1, 1, 4096), 1.0, fg.bfloat16)
    result = lax.conv(x, x, (1,), "VALID")
    assert (result.dtype, result.item()) == (fg.bfloat16, 4096.0)
    wide = lax.conv(x, x, (1,), "VALID", preferred_element_type=fg.float32)
    assert (wide.dtype, wide.item()) == (fg.float32, 4096.0)
    gradient = fg.grad(lambda x: lax.conv(x, x, (1,), "VALID", preferred_element_type=fg.float32).sum())(x)
    assert gradient.dtype == fg.bfloat16


def test_python_scalars_as_init_value_take_the_dtype_of_the_array():
    x = fg.array([3, 1, 2])
    assert lax.reduce_window(x, 0, lax.add, (2,)).tolist() == [4, 3]
    assert lax.reduce_window(x, 2, lax.max, (2,), padding="SAME").tolist() == [3, 2, 2]
    assert lax.reduce_window(x > 1, False, lax.max, (2,)).tolist() == [True, True]
    assert fg.jit(lambda x: lax.reduce_window(x, 0, lax.add, (2,)))(x).tolist() == [4, 3]
    assert fg.jit(lambda x, start: lax.reduce_window(x, start, lax.max, (2,)))(x, 2).tolist() == [3, 2]


X, KERNEL = lax.full((2, 3, 5, 6), 1.0), lax.full((4, 3, 2, 2), 1.0)


@pytest.mark.parametrize(
    "error, message, call",
    [
        (fg.errors.ShapeError, "as many axes", lambda: lax.conv(X, KERNEL[0], (1, 1), "SAME")),
        (fg.errors.ShapeError, "with 2 features .* takes 3", lambda: lax.conv(X[:, :2], KERNEL, (1, 1), "SAME")),
        (fg.errors.DtypeError, "float32 .* float64", lambda: lax.conv(X, KERNEL.astype("float64"), (1, 1), "SAME")),
        (fg.errors.ShapeError, "1 strides for 2 axes", lambda: lax.conv(X, KERNEL, (1,), "SAME")),
        (fg.errors.ShapeError, "at least 1", lambda: lax.conv(X, KERNEL, (1, 0), "SAME")),
        (fg.errors.ArgumentError, "choose 'SAME'", lambda: lax.conv(X, KERNEL, (1, 1), "EQUAL")),
        (fg.errors.ArgumentTypeError, "a pair", lambda: lax.conv_general_dilated(X, KERNEL, (1, 1), (1, 1))),
        (
            fg.errors.ShapeError,
            "take away 3 and 3 elements from an axis that has 5",
            lambda: lax.conv_general_dilated(X, KERNEL, (1, 1), [(-3, -3), (0, 0)]),
        ),
        (
            fg.errors.ShapeError,
            "4 output features among 3 groups",
            lambda: lax.conv_general_dilated(X, KERNEL[:, :1], (1, 1), "SAME", feature_group_count=3),
        ),
        (
            fg.errors.ArgumentError,
            "one of them exactly 1",
            lambda: lax.conv_general_dilated(X, KERNEL, (1, 1), "SAME", feature_group_count=2, batch_group_count=2),
        ),
        (
            fg.errors.ArgumentError,
            "N and C for array and result",
            lambda: lax.conv_general_dilated(X, KERNEL, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWX")),
        ),
        (
            fg.errors.ArgumentError,
            "three strings",
            lambda: lax.conv_general_dilated(X, KERNEL, (1, 1), "SAME", dimension_numbers="NHWC"),
        ),
        (
            fg.errors.ArgumentError,
            "use conv_transpose",
            lambda: lax.conv_general_dilated(X, KERNEL, (1, 1), "SAME", lhs_dilation=(2, 2)),
        ),
        (fg.errors.ArgumentError, "leave it out", lambda: lax.conv(X, KERNEL, (1, 1), "SAME", precision="highest")),
        (fg.errors.ArgumentError, "fg.lax.add, fg.lax.max", lambda: lax.reduce_window(X, 1.0, lax.mul, (1, 1, 2, 2))),
        (fg.errors.ArgumentError, "init_value=0", lambda: lax.reduce_window(X, 1.0, lax.add, (1, 1, 2, 2))),
        (fg.errors.ShapeError, "2 window lengths for 4", lambda: lax.reduce_window(X, 0.0, lax.add, (2, 2))),
        (fg.errors.DtypeError, "no order", lambda: lax.reduce_window(X + 0j, 0.0, lax.max, (1, 1, 2, 2))),
        (fg.errors.DtypeError, "adds numbers", lambda: lax.reduce_window(X > 0, False, lax.add, (1, 1, 2, 2))),
        (fg.errors.ShapeError, "not empty", lambda: fg.numpy.convolve(fg.array([]), fg.array([1.0]))),
        (fg.errors.ArgumentError, "'full', 'same'", lambda: fg.numpy.convolve([1.0], [1.0], "half")),
    ],
)
def test_errors_say_what_is_wrong_eagerly_and_under_jit(error, message, call):
    for function in (call, fg.jit(call)):
        with pytest.raises(error, match=message):
            function()


# convolve and correlate


@pytest.mark.parametrize("dtype", ["int32", "float32", "float64", "complex64"])
@pytest.mark.parametrize("mode", ["full", "same", "valid"])
def test_convolve_and_correlate_are_those_of_numpy(mode, dtype):
    random = numpy.random.default_rng(0)
    for m, n in itertools.product(range(1, 7), repeat=2):
        a, v = (random.integers(-5, 6, length).astype(dtype) for length in (m, n))
        if dtype == "complex64":
            a, v = a + 1j * random.integers(-5, 6, m), v - 1j * random.integers(-5, 6, n)
            a, v = a.astype(dtype), v.astype(dtype)
        for name in ("convolve", "correlate"):
            result = getattr(fg.numpy, name)(a, v, mode)
            assert result.dtype == dtype
            assert result.tolist() == getattr(numpy, name)(a, v, mode).tolist()


def test_derivatives_of_convolve_and_correlate():
    for function, mode in itertools.product([fg.numpy.convolve, fg.numpy.correlate], ["full", "same", "valid"]):
        check_grads(lambda a, v, f=function, m=mode: f(a, v, m), (standard_normal(5), standard_normal(3)), order=2)
