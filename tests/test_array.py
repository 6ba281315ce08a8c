"""Arrays: made from anything array-like, immutable, promoted by the array API's rules, exchanged with others."""

import copy
import operator
import pickle

import ml_dtypes
import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

import funcgrad as fg
import funcgrad.numpy as np
from funcgrad import dtypes, errors

ALL = [d.name for d in dtypes.ALL]
STANDARD = [d for d in ALL if d != "bfloat16"]


def test_defaults_are_for_python_numbers_only():
    assert fg.array(1).dtype == fg.int32
    assert fg.array(1.0).dtype == fg.float32
    assert fg.array(1j).dtype == fg.complex64
    assert fg.array([True, False]).dtype == fg.bool_
    assert fg.array([1, 2.5]).dtype == fg.float32
    assert fg.array(numpy.zeros(3)).dtype == fg.float64
    assert fg.array([numpy.float64(1.0)]).dtype == fg.float64
    assert fg.array(numpy.arange(3)).dtype == fg.int64
    assert fg.array(range(3)).dtype == fg.int32


@pytest.mark.parametrize("name", ALL)
def test_every_dtype_goes_in_and_comes_out(name):
    x = fg.array([0, 1, 2], dtype=name)
    assert x.dtype == getattr(fg, "bool_" if name == "bool" else name)
    out = numpy.asarray(x)
    assert out.dtype.name == name
    assert pickle.loads(pickle.dumps(x)).dtype is x.dtype
    numpy.testing.assert_array_equal(numpy.asarray(pickle.loads(pickle.dumps(x))), out)


def test_foreign_dtypes_are_refused():
    for bad in [numpy.array(["a"]), numpy.array([None]), numpy.zeros(2, numpy.longdouble), numpy.zeros(2, "M8[s]")]:
        with pytest.raises(errors.DtypeError):
            fg.array(bad)


def test_byte_order_is_normalised():
    x = fg.array(numpy.arange(3, dtype=">f4"))
    assert x.dtype is dtypes.float32
    assert (x + fg.array(1.0)).tolist() == [1.0, 2.0, 3.0]


def test_a_later_write_to_the_numpy_array_changes_nothing():
    source = numpy.zeros(3, numpy.float32)
    x, y = fg.array(source), fg.asarray(source)
    z = np.sin(source)
    total = fg.array(1.0) + source
    source[:] = 7
    assert x.tolist() == y.tolist() == z.tolist() == [0, 0, 0]
    assert total.tolist() == [1, 1, 1]


def test_arrays_cannot_be_written():
    x = np.zeros(3)
    with pytest.raises(errors.ImmutableArrayError, match=r"x\.at\[i\]\.set"):
        x[0] = 1
    view = numpy.asarray(x)
    assert not view.flags.writeable
    assert x.at[0].set(1).tolist() == [1, 0, 0]
    assert x.tolist() == [0, 0, 0]
    y = x
    y += 1
    assert x.tolist() == [0, 0, 0]


def test_numpy_array_on_the_left_gives_a_funcgrad_array():
    x = np.ones(3)
    for result in [numpy.ones(3, numpy.float32) + x, numpy.float32(2) * x, numpy.ones(3, numpy.float32) @ x]:
        assert isinstance(result, fg.Array)
        assert result.dtype == fg.float32


def test_float64_needs_no_flag():
    x = fg.array(numpy.linspace(0, 1, 5))
    assert (x * 2.0).dtype == np.sin(x).dtype == (x @ x).dtype == fg.float64
    assert fg.grad(lambda v: np.sum(v**2))(x).dtype == fg.float64


STANDARD_PROMOTIONS = {
    ("int8", "int16"): "int16",
    ("int8", "uint8"): "int16",
    ("int16", "uint16"): "int32",
    ("int32", "uint32"): "int64",
    ("uint8", "uint64"): "uint64",
    ("int64", "uint8"): "int64",
    ("float32", "float64"): "float64",
    ("float32", "complex64"): "complex64",
    ("float64", "complex64"): "complex128",
    ("float32", "complex128"): "complex128",
    ("float16", "float32"): "float32",
    ("float16", "bfloat16"): "float32",
    ("bfloat16", "float64"): "float64",
    ("bool", "int8"): "int8",
    ("int64", "float32"): "float32",
    ("int32", "bfloat16"): "bfloat16",
}


@pytest.mark.parametrize("pair, expected", STANDARD_PROMOTIONS.items())
def test_promotion(pair, expected):
    a, b = (np.ones(2, dtype=d) for d in pair)
    assert (a * b).dtype.name == (b * a).dtype.name == expected


@given(st.sampled_from(dtypes.ALL), st.sampled_from(dtypes.ALL))
def test_promotion_is_commutative_and_absorbs_itself(a, b):
    both = dtypes.promote(a, b)
    assert both is dtypes.promote(b, a)
    assert dtypes.promote(both, a) is both or dtypes.KIND[both] != dtypes.KIND[a]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("scalar", [True, 2, 0.5, 1j])
def test_python_scalars_are_weak_eagerly_and_traced(name, scalar):
    x = np.ones(2, dtype=name)
    kind = dtypes.KIND_OF_SCALAR[type(scalar)]
    expected = x.dtype if dtypes.KIND[x.dtype] >= kind else dtypes.promote_weak(x.dtype, kind)
    assert (x * scalar).dtype is (scalar * x).dtype is expected
    assert fg.jit(lambda a, s: a * s)(x, scalar).dtype is expected
    assert fg.jit(lambda a, s: s * a)(x, scalar).dtype is expected
    if type(scalar) is float and kind == dtypes.KIND[x.dtype]:
        # Weak through a computation on the scalar alone, and through the derivative.
        assert fg.jit(lambda a, s: a * (s * 2 + 1))(x, scalar).dtype is expected
        assert fg.grad(lambda s: np.sum(x * (s * s)))(scalar).dtype == fg.float32


def test_a_traced_scalar_and_a_scalar_give_the_same():
    x = np.ones(3, dtype=fg.bfloat16)
    f = lambda x, s: np.where(x > 0, x * s, s)
    assert f(x, 2.0).dtype == fg.jit(f)(x, 2.0).dtype == fg.bfloat16


def test_integers_that_do_not_fit_are_refused():
    with pytest.raises(errors.DtypeError, match="int64"):
        fg.array(2**40)
    with pytest.raises(errors.DtypeError, match="int64"):
        fg.array([1, 2**40])
    assert fg.array([2**40], dtype=fg.int64).tolist() == [2**40]
    with pytest.raises(errors.DtypeError):
        np.ones(2, dtype=fg.int8) + 300


BINARY = ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "eq", "ne", "lt", "le", "gt", "ge"]


@pytest.mark.parametrize("name", BINARY)
@given(data=st.data())
def test_operators_agree_with_numpy(name, data):
    op = getattr(operator, name)
    dtype = data.draw(st.sampled_from(["int32", "float32", "float64"]))
    numbers = st.integers(-6, 6) if dtype == "int32" else st.floats(-6, 6, width=32)
    x = numpy.array(data.draw(st.lists(numbers, min_size=1, max_size=5)), dtype)
    y = numpy.array(data.draw(st.lists(numbers, min_size=len(x), max_size=len(x))), dtype)
    if name in ("floordiv", "mod", "truediv") and dtype == "int32":
        y = numpy.where(y == 0, 3, y)
    if name == "pow":
        x, y = abs(x), abs(y) % 4
    with numpy.errstate(all="ignore"):
        expected = op(x, y)
    ours = op(fg.array(x), fg.array(y))
    if name != "truediv" or dtype != "int32":
        assert ours.dtype == expected.dtype
    numpy.testing.assert_allclose(numpy.asarray(ours), expected, rtol=1e-5, atol=1e-6)
    traced = fg.jit(op)(fg.array(x), fg.array(y))
    if name == "pow" and dtype != "int32":  # powers of compiled code are our own, not those of the C library
        numpy.testing.assert_array_max_ulp(numpy.asarray(traced), numpy.asarray(ours), 4)
    else:
        numpy.testing.assert_array_equal(numpy.asarray(traced), numpy.asarray(ours))
    scalar = y[0].item()
    with numpy.errstate(all="ignore"):
        expected = op(x, y[0])
    numpy.testing.assert_allclose(numpy.asarray(op(fg.array(x), scalar)), expected, rtol=1e-5, atol=1e-6)


def test_signed_zeros_survive_the_sharing_of_constants():
    x = np.ones(2)
    assert not numpy.signbit(numpy.asarray(x * 0.0)).any()
    assert numpy.signbit(numpy.asarray(x * -0.0)).all()
    assert numpy.signbit(numpy.asarray(fg.jit(lambda v: v * -0.0)(x))).all()
    assert numpy.signbit(numpy.asarray(np.full(3, -0.0))).all()


def test_logic_on_bools():
    a, b = fg.array([True, True, False]), fg.array([True, False, False])
    assert (a & b).tolist() == (a * b).tolist() == [True, False, False]
    assert (a | b).tolist() == (a + b).tolist() == [True, True, False]
    assert (a ^ b).tolist() == [False, True, False]
    assert (~a).tolist() == [False, False, True]


def test_division_by_zero_gives_infinity_without_a_warning():
    x = fg.array([1.0, -1.0, 0.0])
    assert repr((x / 0.0).tolist()) == "[inf, -inf, nan]"
    with numpy.errstate(all="raise"):
        assert repr((x / 0.0).tolist()) == "[inf, -inf, nan]"
        assert np.log(fg.array(0.0)).item() == -numpy.inf


def test_unknown_operands_get_their_turn():
    class Other:
        def __radd__(self, array):
            return "radd"

    assert np.ones(2) + Other() == "radd"
    with pytest.raises(TypeError):
        np.ones(2) + "text"
    with pytest.raises(TypeError):
        np.ones(2) + None


def test_scalars_convert_to_python():
    assert float(fg.array(1.5)) == 1.5 and int(fg.array([3])) == 3 and bool(fg.array(0)) is False
    assert [10, 20, 30][fg.array(1)] == 20
    assert list(range(fg.array(3))) == [0, 1, 2]
    assert f"{fg.array(1.23456):.2f}" == "1.23"
    assert complex(fg.array(1j)) == 1j
    with pytest.raises(errors.ArgumentTypeError, match="one element"):
        float(np.ones(2))
    with pytest.raises(TypeError):
        [1, 2][fg.array(1.0)]
    with pytest.raises(errors.ArgumentTypeError, match="hashable"):
        {np.ones(2): 1}


def test_printing():
    assert repr(fg.array([1.0, 2.5])) == "Array([1. , 2.5], dtype=float32)"
    assert repr(fg.array(3)) == "Array(3, dtype=int32)"
    assert "bfloat16" in repr(np.ones(2, dtype=fg.bfloat16))
    assert repr(np.zeros((0, 3))) == "Array([], shape=(0, 3), dtype=float32)"
    assert str(fg.array([1, 2])) == "[1 2]"


def test_copies_are_the_array_itself():
    x = np.ones(3)
    assert copy.copy(x) is x and copy.deepcopy({"a": x})["a"] is x


def test_dlpack_shares_memory_both_ways():
    x = np.arange(4.0)
    there = numpy.from_dlpack(x)
    assert not there.flags.writeable
    assert numpy.shares_memory(there, numpy.asarray(x))
    source = numpy.arange(4.0)
    here = fg.from_dlpack(source)
    assert here.dtype == fg.float64 and numpy.shares_memory(numpy.asarray(here), source)


def test_array_api_namespace():
    assert np.ones(2).__array_namespace__() is np


def test_bfloat16_is_the_one_of_ml_dtypes():
    x = fg.array(numpy.array([1.5, 2.5], ml_dtypes.bfloat16))
    assert x.dtype is dtypes.bfloat16
    assert (x + x).dtype is dtypes.bfloat16
    assert float(np.sum(np.ones(1000, dtype=fg.bfloat16))) == 1000


def test_array_is_abstract():
    with pytest.raises(errors.ArgumentTypeError, match=r"fg\.array"):
        fg.Array()
    seen = []
    fg.jit(lambda x: seen.append(isinstance(x, fg.Array)) or x)(1.0)
    assert seen == [True]
