"""Convolutions as native code, against the primitive, for the widest vectors of this CPU and for narrower ones."""

import ctypes
from functools import cache

import ml_dtypes
import numpy
import pytest

from funcgrad import dtypes
from funcgrad.array import AbstractArray
from funcgrad.compiler.contraction import convolution_ir, plan_convolution
from funcgrad.compiler.machine import load, object_code
from funcgrad.compiler.target import host_target
from funcgrad.errors import FuncgradError
from funcgrad.primitives.convolution import ConvDimensionNumbers, conv_general_dilated

FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
BITS = (512, 256, 128, 0)
CHANNELS_LAST = ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))
CHANNELS_FIRST = ConvDimensionNumbers((0, 1, 2, 3), (0, 1, 2, 3), (0, 1, 2, 3))


@cache
def compiled(plan, target):
    names = [f"convolution{step}" for step, _, _ in plan.steps]
    code = object_code(convolution_ir(plan, target), target)
    loaded = load(code, names)
    return loaded, [FUNCTION(loaded.addresses[name]) for name in names]


def shape_of_result(x, kernel, params):
    operands = [AbstractArray(a.shape, dtypes.canonical(a.dtype)) for a in (x, kernel)]
    return conv_general_dilated.abstract(*operands, **params).shape


def convolve(x, kernel, target, params, epilogue=None, backwards=False):
    shape = shape_of_result(x, kernel, params)
    plan = plan_convolution(x.shape, kernel.shape, shape, x.dtype, target, **params)
    _, functions = compiled(plan, target)
    result = numpy.ones(shape, plan.out)
    # Memory that nobody has cleared may hold anything, NaN as well.
    scratch = numpy.full(plan.scratch_bytes + 64, 0xFF, numpy.uint8)
    addresses = [a.ctypes.data for a in (x, kernel, result)] + [(scratch.ctypes.data + 63) // 64 * 64]
    context = numpy.array(plan.context(*addresses, epilogue or 0), numpy.int64)
    for function, (_, tasks, _) in zip(functions, plan.steps, strict=True):
        if backwards:
            for task in reversed(range(tasks)):
                function(context.ctypes.data, task, task + 1)
        else:
            function(context.ctypes.data, 0, tasks)
    return result


def check(x, kernel, target, params):
    result = convolve(x, kernel, target, params)
    if x.dtype.kind == "f" or x.dtype == ml_dtypes.bfloat16:
        wide = [a.astype(numpy.float64) for a in (x, kernel)]
        expected = conv_general_dilated.evaluate(*wide, **{**params, "preferred_element_type": None})
        size = conv_general_dilated.evaluate(*map(abs, wide), **{**params, "preferred_element_type": None})
        precision = ml_dtypes.finfo(result.dtype).eps * (1 if result.itemsize == 2 else 4)
        assert (abs(result.astype(numpy.float64) - expected) <= precision * size + 1e-30).all()
    else:
        numpy.testing.assert_array_equal(result, conv_general_dilated.evaluate(x, kernel, **params))
    again = convolve(x, kernel, target, params, backwards=True)
    assert result.tobytes() == again.tobytes()


def params_of(
    dimension_numbers,
    stride=1,
    padding=1,
    lhs_dilation=1,
    rhs_dilation=1,
    feature_group_count=1,
    batch_group_count=1,
    preferred_element_type=None,
):
    spatial = len(dimension_numbers[0]) - 2
    return {
        "window_strides": (stride,) * spatial,
        "padding": ((padding, padding),) * spatial,
        "lhs_dilation": (lhs_dilation,) * spatial,
        "rhs_dilation": (rhs_dilation,) * spatial,
        "dimension_numbers": dimension_numbers,
        "feature_group_count": feature_group_count,
        "batch_group_count": batch_group_count,
        "preferred_element_type": preferred_element_type,
    }


def random_case(seed):
    """Any number of spatial axes, in any order, with any params."""
    random = numpy.random.default_rng(seed)

    def number(low, high):
        return int(random.integers(low, high + 1))

    def numbers(low, high):
        return tuple(number(low, high) for _ in range(spatial))

    def arranged(spec, lengths):
        shape = [0] * len(spec)
        for axis, length in zip(spec, lengths, strict=True):
            shape[axis] = length
        return tuple(shape)

    spatial = number(0, 3)
    groups, inputs, outputs = number(1, 3), number(1, 5), number(1, 6)
    if seed % 3 == 0:
        groups, inputs, outputs = number(2, 40), 1, 1
    elif seed % 3 == 1:
        groups, inputs, outputs = 1, number(1, 20), number(1, 50)
    of_features, of_batch = (groups, 1) if random.random() < 0.6 else (1, groups)
    specs = ConvDimensionNumbers(*(tuple(random.permutation(spatial + 2).tolist()) for _ in range(3)))
    params = {
        "window_strides": numbers(1, 3),
        "padding": tuple((number(-1, 3), number(-1, 3)) for _ in range(spatial)),
        "lhs_dilation": numbers(1, 2),
        "rhs_dilation": numbers(1, 2),
        "dimension_numbers": specs,
        "feature_group_count": of_features,
        "batch_group_count": of_batch,
        "preferred_element_type": None,
    }
    x = random.standard_normal(arranged(specs[0], (number(1, 3) * of_batch, inputs * of_features, *numbers(3, 9))))
    kernel = random.standard_normal(arranged(specs[1], (outputs * groups, inputs, *numbers(1, 3))))
    return x.astype("float32"), kernel.astype("float32"), params


@pytest.mark.parametrize("bits", BITS)
def test_convolutions_with_any_params(bits):
    target = host_target().without_vectors_above(bits)
    checked = 0
    for seed in range(100 * BITS.index(bits), 100 * BITS.index(bits) + 25):
        x, kernel, params = random_case(seed)
        try:
            if 0 in shape_of_result(x, kernel, params):
                continue
        except FuncgradError:  # the kernel is larger than the array
            continue
        check(x, kernel, target, params)
        checked += 1
    assert checked > 15


@pytest.mark.parametrize("numbers", [CHANNELS_LAST, CHANNELS_FIRST], ids=["last", "first"])
@pytest.mark.parametrize("what", ["forward", "input gradient", "kernel gradient"])
def test_a_layer_and_its_gradients(what, numbers):
    random = numpy.random.default_rng(0)
    lhs, rhs, out = numbers
    shapes = {"x": (3, 20, 14, 15), "kernel": (40, 20, 3, 3), "result": (3, 40, 14, 15)}

    def array(name, spec):
        shape = [0] * 4
        for axis, length in zip(spec, shapes[name], strict=True):
            shape[axis] = length
        return random.standard_normal(shape).astype("float32")

    def turned(spec):
        return spec[1], spec[0], *spec[2:]

    target = host_target()
    if what == "forward":
        check(array("x", lhs), array("kernel", rhs), target, params_of(numbers))
    elif what == "input gradient":
        turned_numbers = ConvDimensionNumbers(out, turned(rhs), lhs)
        check(array("result", out), array("kernel", rhs), target, params_of(turned_numbers))
    else:
        turned_numbers = ConvDimensionNumbers(turned(lhs), turned(out), turned(rhs))
        check(array("x", lhs), array("result", out), target, params_of(turned_numbers))


@pytest.mark.parametrize("numbers", [CHANNELS_LAST, CHANNELS_FIRST], ids=["last", "first"])
@pytest.mark.parametrize("by", ["features", "batch"])
def test_depthwise_convolutions(by, numbers):
    random = numpy.random.default_rng(1)
    groups = 37
    sizes = {"features": (2, groups, 9, 11), "batch": (groups, 2, 9, 11)}[by]
    sizes_kernel = (groups, 1 if by == "features" else 2, 3, 3)
    x, kernel = (
        numpy.ascontiguousarray(random.standard_normal(size).astype("float32").transpose(numpy.argsort(spec)))
        for size, spec in zip((sizes, sizes_kernel), numbers, strict=False)
    )
    for stride in (1, 2):
        check(x, kernel, host_target(), params_of(numbers, stride, **{f"{by[:7].rstrip('s')}_group_count": groups}))


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("dtype", ["float64", ml_dtypes.bfloat16, "float16", "int32", "int8"])
def test_dtypes(dtype, bits):
    random = numpy.random.default_rng(2)
    x, kernel = ((4 * random.standard_normal(s)).astype(dtype) for s in ((2, 8, 9, 6), (3, 3, 6, 20)))
    check(x, kernel, host_target().without_vectors_above(bits), params_of(CHANNELS_LAST))


def test_results_of_other_dtypes():
    random = numpy.random.default_rng(3)
    x, kernel = (random.standard_normal(s).astype(ml_dtypes.bfloat16) for s in ((2, 8, 9, 6), (3, 3, 6, 20)))
    params = params_of(CHANNELS_LAST, preferred_element_type=numpy.dtype("float32"))
    assert convolve(x, kernel, host_target(), params).dtype == numpy.float32
    check(x, kernel, host_target(), params)


@pytest.mark.skipif(not host_target().has_bfloat16_dot, reason="this CPU has no products of pairs of bfloat16")
@pytest.mark.parametrize("vector_bytes", [64, 32, 16])
@pytest.mark.parametrize("numbers", [CHANNELS_LAST, CHANNELS_FIRST], ids=["last", "first"])
def test_pairs_of_bfloat16(numbers, vector_bytes):
    """Also where what is in a window has no pairs, or does not fit the tile."""
    random = numpy.random.default_rng(6)
    target = host_target()._replace(vector_bytes=vector_bytes)
    for features, outputs, groups, window in [
        (5, 20, 1, 3),
        (7, 33, 1, 1),
        (130, 40, 1, 3),
        (6, 14, 2, 3),
        (8, 8, 8, 3),
    ]:
        sizes = (2, features, 6, 7), (outputs, features // groups, window, window)
        x, kernel = (
            numpy.ascontiguousarray(random.standard_normal(size).transpose(numpy.argsort(spec)).astype(dtype))
            for size, spec, dtype in zip(sizes, numbers, [ml_dtypes.bfloat16] * 2, strict=False)
        )
        params = params_of(numbers, feature_group_count=groups, preferred_element_type=numpy.dtype("float32"))
        check(x, kernel, target, params)


EPILOGUE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 7)


@pytest.mark.parametrize("groups", [1, 2, 16])
@pytest.mark.parametrize("bits", BITS)
def test_an_epilogue_gets_each_sum_once(bits, groups):
    """A window is a row, an output of a group is a column; in a depthwise convolution, a group is."""
    outputs = 32 // groups if groups < 16 else 1
    random = numpy.random.default_rng(4)
    x = random.standard_normal((2, 7, 9, 16)).astype("float32")
    kernel = random.standard_normal((3, 3, 16 // groups, outputs * groups)).astype("float32")
    params = params_of(CHANNELS_LAST, feature_group_count=groups)
    target = host_target().without_vectors_above(bits)
    expected = conv_general_dilated.evaluate(x, kernel, **params)
    is_depthwise = outputs == 1 and target.vector_bytes > 0
    columns = groups if is_depthwise else outputs
    found, times = (numpy.zeros((expected.size // (outputs * groups), outputs * groups)) for _ in range(2))

    def epilogue(context, sums, stride, outer, inner, r, rows, n0, n1):
        first = columns * inner
        for i in range(rows):
            row = (ctypes.c_float * (n1 - n0)).from_address(sums + i * stride * 4)
            found[r + i, first + n0 : first + n1] = row
            times[r + i, first + n0 : first + n1] += 1

    function = EPILOGUE(epilogue)
    convolve(x, kernel, target, params, epilogue=ctypes.cast(function, ctypes.c_void_p).value)
    assert (times == 1).all()
    numpy.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=1e-4, atol=1e-4)
