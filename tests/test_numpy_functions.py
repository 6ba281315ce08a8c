"""Elementwise functions, reductions, statistics, products and creation: each row against NumPy's own."""

import math

import hypothesis.strategies as st
import ml_dtypes
import numpy
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis.extra import numpy as shapes

import funcgrad as fg
import funcgrad.numpy as np
from funcgrad.scipy import special

DTYPES = {
    "b": ["bool"],
    "i": ["int32", "int8", "uint8", "int64", "uint32"],
    "f": ["float32", "float64", "float16"],
    "c": ["complex64", "complex128"],
}
TOLERANCE = {"float16": 4e-3, "float32": 4e-6, "complex64": 4e-6, "float64": 1e-12, "complex128": 1e-12}
NARROW = {"int64": "int32", "uint64": "uint32", "float64": "float32", "complex128": "complex64"}
FEW = settings(max_examples=12)

SHAPES = shapes.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


def values(seed, shape, dtype, low=-3.0, high=3.0, special_values=False):
    """Reproducible numbers of a dtype, with NaN, infinities and signed zeros among them where asked for."""
    rng = numpy.random.default_rng(seed)
    dtype = numpy.dtype(dtype)
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.kind in "iu":
        low = max(low, 0) if dtype.kind == "u" else low
        return rng.integers(math.ceil(low), max(math.floor(high), math.ceil(low)) + 1, shape).astype(dtype)
    x = rng.uniform(low, high, shape)
    if dtype.kind == "c":
        return (x + 1j * rng.uniform(low, high, shape)).astype(dtype)
    if special_values:
        pick = rng.integers(0, 12, shape)
        for k, value in enumerate([numpy.nan, numpy.inf, -numpy.inf, 0.0, -0.0]):
            x = numpy.where(pick == k, value, x)
    return numpy.asarray(x, dtype)


def same(actual, expected, *inputs, tolerance=None, dtype=True):
    """Equal up to rounding, and of one dtype: NumPy's, but 64 bits wide only where an input was."""
    if isinstance(expected, (list, tuple)):
        assert len(actual) == len(expected)
        for a, b in zip(actual, expected, strict=True):
            same(a, b, *inputs, tolerance=tolerance, dtype=dtype)
        return
    assert isinstance(actual, np.ndarray)
    actual, expected = numpy.asarray(actual), numpy.asarray(expected)
    assert actual.shape == expected.shape
    if dtype:
        wide = any(numpy.asarray(x).dtype.itemsize >= 8 and numpy.asarray(x).dtype != "complex64" for x in inputs)
        wanted = expected.dtype.name if wide else NARROW.get(expected.dtype.name, expected.dtype.name)
        assert actual.dtype.name in (wanted, NARROW.get(wanted))
    if tolerance is None:
        names = [actual.dtype.name, *(numpy.asarray(x).dtype.name for x in inputs)]
        tolerance = max(TOLERANCE.get(name, 0.0) for name in names)
    numpy.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


def operand(dtype, inexact):
    """What NumPy has to be given so that it computes in the precision in which funcgrad does."""
    return "float32" if inexact and numpy.dtype(dtype).kind in "biu" else dtype


# Functions of one array: name, kinds of dtype, lowest and highest value, whether integers become floats, and whether
# NaN, infinities and signed zeros are tried.
UNARY = [
    ("negative", "ifc", -3, 3, False, True),
    ("positive", "ifc", -3, 3, False, True),
    ("absolute", "bifc", -3, 3, False, True),
    ("fabs", "if", -3, 3, True, True),
    ("sign", "ifc", -3, 3, False, True),
    ("square", "ifc", -3, 3, False, True),
    ("reciprocal", "ifc", 1, 3, True, False),
    ("sqrt", "bifc", 0, 9, True, True),
    ("cbrt", "if", -9, 9, True, True),
    ("exp", "bifc", -3, 3, True, True),
    ("exp2", "if", -3, 3, True, True),
    ("expm1", "ifc", -3, 3, True, True),
    ("log", "ifc", 1, 9, True, True),
    ("log2", "ifc", 1, 9, True, True),
    ("log10", "ifc", 1, 9, True, True),
    ("log1p", "ifc", 0, 9, True, True),
    ("sin", "bifc", -3, 3, True, False),
    ("cos", "ifc", -3, 3, True, False),
    ("tan", "ifc", -1, 1, True, False),
    ("arcsin", "ifc", -1, 1, True, False),
    ("arccos", "ifc", -1, 1, True, False),
    ("arctan", "if", -3, 3, True, True),
    ("sinh", "ifc", -3, 3, True, True),
    ("cosh", "ifc", -3, 3, True, True),
    ("tanh", "ifc", -3, 3, True, True),
    ("arcsinh", "ifc", -3, 3, True, False),
    ("arccosh", "if", 1, 3, True, True),
    ("arctanh", "f", -0.9, 0.9, True, False),
    ("deg2rad", "if", -180, 180, True, True),
    ("rad2deg", "if", -3, 3, True, True),
    ("floor", "if", -3, 3, False, True),
    ("ceil", "if", -3, 3, False, True),
    ("trunc", "if", -3, 3, False, True),
    ("rint", "ifc", -3, 3, True, True),
    ("round", "ifc", -3, 3, False, True),
    ("real", "ifc", -3, 3, False, True),
    ("imag", "ifc", -3, 3, False, False),
    ("conjugate", "ifc", -3, 3, False, True),
    ("angle", "ifc", -3, 3, True, True),
    ("isfinite", "bifc", -3, 3, False, True),
    ("isnan", "bifc", -3, 3, False, True),
    ("isinf", "bifc", -3, 3, False, True),
    ("isposinf", "if", -3, 3, False, True),
    ("isneginf", "if", -3, 3, False, True),
    ("iscomplex", "ifc", -1, 1, False, True),
    ("isreal", "ifc", -1, 1, False, True),
    ("signbit", "f", -3, 3, False, True),
    ("logical_not", "bifc", -1, 1, False, True),
    ("invert", "bi", -9, 9, False, False),
    ("bitwise_count", "i", -9, 9, False, False),
    ("spacing", "f", -3, 3, True, True),
    ("sinc", "if", -3, 3, True, False),
    ("nan_to_num", "fc", -3, 3, False, True),
    ("i0", "if", -3, 3, True, False),
    ("modf", "if", -3, 3, True, True),
    ("frexp", "if", -9, 9, True, True),
    ("unwrap", "f", -9, 9, True, False),
]


@pytest.mark.parametrize("name, kinds, low, high, inexact, extremes", UNARY, ids=[row[0] for row in UNARY])
@FEW
@given(st.data())
def test_functions_of_one_array(name, kinds, low, high, inexact, extremes, data):
    shape, seed = data.draw(SHAPES), data.draw(st.integers(0, 1000))
    if name == "unwrap" and not (shape and shape[-1]):
        shape = (*shape, 3)
    for kind in kinds:
        x = values(seed, shape, data.draw(st.sampled_from(DTYPES[kind])), low, high, extremes)
        with numpy.errstate(all="ignore"):
            wanted = getattr(numpy, name)(x.astype(operand(x.dtype, inexact)))
        same(getattr(np, name)(x), wanted, x)


# Functions of two arrays: name, kinds, values of the first, values of the second, integers become floats, extremes.
BINARY = [
    ("add", "bifc", (-3, 3), (-3, 3), False, True),
    ("subtract", "ifc", (-3, 3), (-3, 3), False, True),
    ("multiply", "bifc", (-3, 3), (-3, 3), False, True),
    ("divide", "ifc", (-9, 9), (1, 5), True, False),
    ("floor_divide", "if", (-9, 9), (1, 5), False, False),
    ("floor_divide", "if", (-9, 9), (-5, -1), False, False),
    ("remainder", "if", (-9, 9), (1, 5), False, False),
    ("remainder", "if", (-9, 9), (-5, -1), False, False),
    ("fmod", "if", (-9, 9), (1, 5), False, False),
    ("divmod", "if", (-9, 9), (1, 5), False, False),
    ("power", "ifc", (1, 3), (0, 3), False, False),
    ("float_power", "if", (1, 3), (-3, 3), True, False),
    ("arctan2", "if", (-3, 3), (-3, 3), True, True),
    ("hypot", "if", (-3, 3), (-3, 3), True, True),
    ("logaddexp", "if", (-3, 3), (-3, 3), True, True),
    ("logaddexp2", "if", (-3, 3), (-3, 3), True, True),
    ("copysign", "if", (-3, 3), (-3, 3), True, True),
    ("heaviside", "if", (-1, 1), (-3, 3), True, True),
    ("nextafter", "f", (-3, 3), (-3, 3), True, True),
    ("maximum", "bif", (-3, 3), (-3, 3), False, True),
    ("minimum", "bif", (-3, 3), (-3, 3), False, True),
    ("fmax", "bif", (-3, 3), (-3, 3), False, True),
    ("fmin", "bif", (-3, 3), (-3, 3), False, True),
    ("equal", "bifc", (-1, 1), (-1, 1), False, True),
    ("not_equal", "bifc", (-1, 1), (-1, 1), False, True),
    ("less", "bif", (-1, 1), (-1, 1), False, True),
    ("less_equal", "bif", (-1, 1), (-1, 1), False, True),
    ("greater", "bif", (-1, 1), (-1, 1), False, True),
    ("greater_equal", "bif", (-1, 1), (-1, 1), False, True),
    ("logical_and", "bifc", (-1, 1), (-1, 1), False, True),
    ("logical_or", "bifc", (-1, 1), (-1, 1), False, True),
    ("logical_xor", "bifc", (-1, 1), (-1, 1), False, True),
    ("bitwise_and", "bi", (-9, 9), (-9, 9), False, False),
    ("bitwise_or", "bi", (-9, 9), (-9, 9), False, False),
    ("bitwise_xor", "bi", (-9, 9), (-9, 9), False, False),
    ("left_shift", "i", (-9, 9), (0, 3), False, False),
    ("right_shift", "i", (-9, 9), (0, 3), False, False),
    ("gcd", "i", (-30, 30), (-30, 30), False, False),
    ("lcm", "i", (-9, 9), (-9, 9), False, False),
    ("isclose", "ifc", (-1, 1), (-1, 1), True, True),
    ("allclose", "ifc", (-1, 1), (-1, 1), True, True),
    ("array_equiv", "if", (-1, 1), (-1, 1), False, False),
]


@pytest.mark.parametrize("name, kinds, first, second, inexact, extremes", BINARY, ids=[row[0] for row in BINARY])
@FEW
@given(st.data())
def test_functions_of_two_arrays(name, kinds, first, second, inexact, extremes, data):
    broadcasting = shapes.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, min_side=0, max_side=4)
    shape_x, shape_y = data.draw(broadcasting).input_shapes
    seed = data.draw(st.integers(0, 1000))
    for kind in kinds:
        dtype = data.draw(st.sampled_from(DTYPES[kind]))
        x, y = values(seed, shape_x, dtype, *first, extremes), values(seed + 1, shape_y, dtype, *second, extremes)
        with numpy.errstate(all="ignore"):
            wanted = getattr(numpy, name)(*(v.astype(operand(dtype, inexact)) for v in (x, y)))
        # NumPy computes float_power in float64 whatever it gets, and gives allclose as a Python bool.
        same(getattr(np, name)(x, y), wanted, x, y, dtype=name not in ("allclose", "float_power"))


# Reductions: name, kinds, and whether they need elements
REDUCTIONS = [
    ("sum", "bifc", False),
    ("prod", "bifc", False),
    ("mean", "bifc", True),
    ("var", "ifc", True),
    ("std", "ifc", True),
    ("max", "bif", True),
    ("min", "bif", True),
    ("amax", "if", True),
    ("ptp", "if", True),
    ("all", "bifc", False),
    ("any", "bifc", False),
    ("median", "if", True),
    ("count_nonzero", "bifc", False),
    ("nansum", "ifc", False),
    ("nanprod", "if", False),
    ("nanmean", "ifc", True),
    ("nanvar", "ifc", True),
    ("nanstd", "ifc", True),
    ("nanmax", "if", True),
    ("nanmin", "if", True),
    ("nanmedian", "if", True),
]
INEXACT_REDUCTIONS = {"mean", "var", "std", "median", "nanmean", "nanvar", "nanstd", "nanmedian"}


def reduction_case(data, needs_elements):
    shape = data.draw(shapes.array_shapes(min_dims=0, max_dims=3, min_side=int(needs_elements), max_side=4))
    axes = st.none()
    if shape:
        each = st.integers(-len(shape), len(shape) - 1)
        several = st.sets(st.integers(0, len(shape) - 1)).map(tuple)
        axes = st.one_of(st.none(), each, several)
    return shape, data.draw(axes)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of NumPy, about means of nothing
@pytest.mark.parametrize("name, kinds, needs_elements", REDUCTIONS, ids=[row[0] for row in REDUCTIONS])
@FEW
@given(st.data())
def test_reductions(name, kinds, needs_elements, data):
    shape, axis = reduction_case(data, needs_elements)
    keepdims, seed = data.draw(st.booleans()), data.draw(st.integers(0, 1000))
    for kind in kinds:
        dtype = data.draw(st.sampled_from(DTYPES[kind]))
        x = values(seed, shape, dtype, -2, 2)
        if name.startswith("nan") and kind in "fc":
            x = numpy.where(values(seed + 1, shape, bool), numpy.asarray(numpy.nan, dtype), x)
        if name == "median" and axis == ():
            axis = None
        given_x = x.astype(operand(dtype, name in INEXACT_REDUCTIONS))
        keyword = {} if name == "nanmedian" and axis == () else {"axis": axis}
        wanted = getattr(numpy, name)(given_x, **keyword, keepdims=keepdims)
        if name in ("sum", "prod", "nansum", "nanprod") and kind in "bi" and numpy.dtype(dtype).itemsize < 8:
            wanted = numpy.asarray(wanted).astype("uint32" if numpy.dtype(dtype).kind == "u" else "int32")
        tolerance = 2e-2 if dtype == "float16" else None
        same(getattr(np, name)(x, **keyword, keepdims=keepdims), wanted, x, tolerance=tolerance)


@pytest.mark.parametrize("name", ["sum", "prod", "max", "min", "any", "all", "mean", "var", "std"])
@FEW
@given(st.data())
def test_reductions_over_part_of_an_array(name, data):
    shape, axis = reduction_case(data, True)
    x = values(data.draw(st.integers(0, 1000)), shape, "float32")
    where = values(data.draw(st.integers(0, 1000)), shape, bool)
    if name in ("mean", "var", "std"):
        where = numpy.ones_like(where)
        where[(..., *(slice(1) for _ in shape))] = True
    keywords = {"initial": numpy.float32(0.5)} if name in ("sum", "prod", "max", "min") else {}
    wanted = getattr(numpy, name)(x, axis=axis, where=where, **keywords)
    same(getattr(np, name)(x, axis=axis, where=where, **keywords), wanted, x)


@pytest.mark.parametrize("name", ["cumsum", "cumprod", "nancumsum", "nancumprod", "argmax", "argmin"])
@FEW
@given(st.data())
def test_functions_along_one_axis(name, data):
    shape = data.draw(shapes.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4))
    axis = data.draw(st.one_of(st.none(), st.integers(-len(shape), len(shape) - 1)))
    for dtype in ("float32", "float64", "int32", "bool"):
        x = values(data.draw(st.integers(0, 1000)), shape, dtype)
        if name.startswith("nan") and dtype == "float32":
            x = numpy.where(values(7, shape, bool), numpy.float32(numpy.nan), x)
        same(getattr(np, name)(x, axis=axis), getattr(numpy, name)(x, axis=axis), x)


@FEW
@given(st.data())
def test_quantiles(data):
    shape, axis = reduction_case(data, True)
    axis = None if axis == () else axis
    x = values(data.draw(st.integers(0, 1000)), shape, "float64")
    q = data.draw(st.sampled_from([0.0, 0.3, 1.0, [0.0, 0.25, 0.5], [0.9]]))
    keepdims = data.draw(st.booleans())
    for method in ["linear", "lower", "higher", "midpoint", "nearest"]:
        keywords = {"axis": axis, "method": method, "keepdims": keepdims}
        q64 = numpy.asarray(q)
        same(np.quantile(x, q64, **keywords), numpy.quantile(x, q64, **keywords), x)
        same(np.percentile(x, 100 * q64, **keywords), numpy.percentile(x, 100 * q64, **keywords), x)
    holes = numpy.where(values(3, shape, bool), numpy.nan, x)
    same(np.quantile(holes, q, axis=axis), numpy.quantile(holes, q, axis=axis), x, tolerance=1e-6)


@pytest.mark.filterwarnings("ignore:All-NaN slice:RuntimeWarning")
def test_quantiles_without_nan():
    x = numpy.where(values(3, (4, 5), bool), numpy.nan, values(1, (4, 5), "float64"))
    x[2] = numpy.nan
    for q in (0.0, 0.3, numpy.array([0.5, 1.0])):
        same(np.nanquantile(x, q, axis=1), numpy.nanquantile(x, q, axis=1), x, tolerance=1e-6)
        same(np.nanpercentile(x, 100 * q), numpy.nanpercentile(x, 100 * q), x, tolerance=1e-6)


# Products

MATMUL_SHAPES = [
    ((2, 3), (3, 4)),
    ((3,), (3,)),
    ((3,), (3, 4)),
    ((2, 3), (3,)),
    ((5, 2, 3), (3, 4)),
    ((5, 2, 3), (3,)),
    ((2, 3), (5, 3, 4)),
    ((3,), (5, 3, 4)),
    ((5, 2, 3), (5, 3, 4)),
    ((6, 1, 2, 3), (5, 3, 4)),
    ((0, 3), (3, 2)),
    ((2, 0), (0, 2)),
    ((0, 2, 3), (0, 3, 4)),
]


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "complex64", "float16", "bool"])
@pytest.mark.parametrize("shape_x, shape_y", MATMUL_SHAPES)
def test_matrix_products(shape_x, shape_y, dtype):
    x, y = values(1, shape_x, dtype), values(2, shape_y, dtype)
    for result in (np.matmul(x, y), fg.array(x) @ fg.array(y), fg.array(x) @ y, x @ fg.array(y)):
        same(result, x @ y, x, tolerance=1e-2 if dtype == "float16" else 1e-5)


EINSUMS = [
    ("ij,jk->ik", (2, 3), (3, 4)),
    ("ij,jk", (2, 3), (3, 4)),
    ("ij,jk->ki", (2, 3), (3, 4)),
    ("i,i", (3,), (3,)),
    ("i,i->i", (3,), (3,)),
    ("i,j->ij", (3,), (2,)),
    ("i,j->ji", (3,), (2,)),
    ("ii", (3, 3)),
    ("ii->i", (3, 3)),
    ("iij->ji", (3, 3, 2)),
    ("iji->j", (3, 2, 3)),
    ("iii->i", (3, 3, 3)),
    ("ij->", (2, 3)),
    ("ij->ji", (2, 3)),
    ("ji", (2, 3)),
    ("bij,bjk->bik", (5, 2, 3), (5, 3, 4)),
    ("bij,bkj->bik", (5, 2, 3), (5, 4, 3)),
    ("bhqd,bhkd->bhqk", (2, 3, 4, 5), (2, 3, 6, 5)),
    ("bqhd,bkhd->bhqk", (2, 4, 3, 5), (2, 6, 3, 5)),
    ("ij,ij->", (2, 3), (2, 3)),
    ("ij,j->ij", (2, 3), (3,)),
    ("ij,k->i", (2, 3), (4,)),
    ("ii,ij->j", (3, 3), (3, 2)),
    ("...ij,...jk->...ik", (5, 2, 3), (3, 4)),
    ("...ij,...jk->...ik", (5, 1, 2, 3), (4, 3, 2)),
    ("...ij,...jk->...ik", (1, 2, 3), (5, 3, 2)),
    ("i...->...", (2, 3, 4)),
    ("...,...", (2, 3), (3,)),
    ("ij...,jk...->ik...", (2, 3, 1), (3, 4, 5)),
    ("ab,bc,cd->ad", (2, 3), (3, 4), (4, 5)),
    ("ab,bc,cd,de->ae", (2, 3), (3, 4), (4, 5), (5, 2)),
    ("i,i,i->i", (3,), (3,), (3,)),
    ("i,ij,j", (2,), (2, 3), (3,)),
    ("abc,cd,bd->ad", (2, 3, 4), (4, 5), (3, 5)),
    ("ij,ij,ij,ij->", (2, 3), (2, 3), (2, 3), (2, 3)),
    ("a,b,c->cab", (2,), (3,), (4,)),
    (",ij->ij", (), (2, 3)),
    ("ij,jk->ik", (0, 3), (3, 2)),
    ("ij,jk->ik", (2, 0), (0, 3)),
]


@pytest.mark.parametrize("subscripts, sizes", [(row[0], row[1:]) for row in EINSUMS])
def test_einsum(subscripts, sizes):
    operands = [values(k, shape, "float32") for k, shape in enumerate(sizes)]
    wanted = numpy.einsum(subscripts, *operands)
    for optimize in ("auto", False, "optimal"):
        same(np.einsum(subscripts, *operands, optimize=optimize), wanted, tolerance=1e-5)
    same(fg.jit(lambda *xs: np.einsum(subscripts, *xs))(*operands), wanted, tolerance=1e-5)
    rows = [numpy.stack([x, 2 * x]) for x in operands]
    batched = fg.vmap(lambda *xs: np.einsum(subscripts, *xs))(*rows)
    same(batched[1], wanted * 2 ** len(operands), tolerance=1e-4)


def test_einsum_with_lists_of_axes():
    x, y = values(1, (2, 3), "float32"), values(2, (3, 4), "float32")
    same(np.einsum(x, [0, 1], y, [1, 2], [0, 2]), x @ y, tolerance=1e-5)
    same(np.einsum(x, [0, 1], y, [1, 2]), x @ y, tolerance=1e-5)
    same(np.einsum(x, [..., 1], y, [1, 2], [..., 2]), x @ y, tolerance=1e-5)


def test_einsum_has_the_gradients_of_matrix_products():
    x, y = values(1, (2, 3), "float64"), values(2, (3, 4), "float64")
    gradients = fg.grad(lambda x, y: np.sum(np.einsum("ij,jk->ki", x, y) ** 2), argnums=(0, 1))(x, y)
    same(gradients[0], 2 * (x @ y) @ y.T, x)
    same(gradients[1], 2 * x.T @ (x @ y), x)
    same(fg.grad(lambda x: np.einsum("ii->", x))(numpy.ones((3, 3))), numpy.eye(3), x)


def test_cross_products_of_vectors_with_two_components():
    x, y = numpy.array([[1.0, 2.0], [3.0, 4.0]]), numpy.array([5.0, 6.0])
    same(np.cross(x, y), x[:, 0] * y[1] - x[:, 1] * y[0], x)
    same(np.cross(x[0], numpy.array([1.0, 0.0, 2.0])), numpy.array([4.0, -2.0, -2.0]), x)


# The same call of both libraries: (name, arguments, keywords)

F = values(0, (3, 4), "float64")
G = values(1, (3, 4), "float64")
V = values(2, (5,), "float64")
W = values(3, (5,), "float64")
T = values(4, (2, 3, 3), "float64")
C = values(5, (3, 3), "complex128")
I32 = numpy.array([3, 1, 2, 3, 0, 1], numpy.int32)
POSITIVE = numpy.array([1.0, 2.0, 1.0, 3.0], numpy.float64)

CALLS = [
    ("dot", (F, F.T), {}),
    ("dot", (T, F), {}),
    ("dot", (T, T), {}),
    ("dot", (2.0, F), {}),
    ("vdot", (C, C), {}),
    ("vecdot", (F, G), {}),
    ("vecdot", (F, G), {"axis": 0}),
    ("vecdot", (C, C[0]), {}),
    ("matvec", (T, T[:, 0]), {}),
    ("vecmat", (T[:, 0], T), {}),
    ("inner", (F, G), {}),
    ("inner", (V, 2.0), {}),
    ("outer", (V, F), {}),
    ("tensordot", (F, G), {"axes": 2}),
    ("tensordot", (F, G), {"axes": 0}),
    ("tensordot", (F, G), {"axes": ((0,), (0,))}),
    ("tensordot", (F, G), {"axes": (1, 1)}),
    ("tensordot", (T, T), {"axes": ([2, 0], [1, 0])}),
    ("kron", (F, V), {}),
    ("kron", (V, F), {}),
    ("kron", (F, G), {}),
    ("trace", (F,), {}),
    ("trace", (T,), {"axis1": 1, "axis2": 2, "offset": 1}),
    ("trace", (T,), {"offset": -1}),
    ("cross", (T, T[0]), {}),
    ("cross", (T, T[0]), {"axis": 1}),
    ("clip", (V, -1, 1), {}),
    ("clip", (V, None, 0.5), {}),
    ("clip", (I32, 1, 2), {}),
    ("nan_to_num", (numpy.array([numpy.nan, numpy.inf, 1.0]),), {"nan": 3.0, "posinf": 9.0}),
    ("round", (V, 2), {}),
    ("round", (100 * V, -1), {}),
    ("round", (numpy.array([15, 25, -15, 14, 16], numpy.int32), -1), {}),
    ("ldexp", (V, numpy.array([0, 3, -5, 60, -60], numpy.int32)), {}),
    ("ldexp", (numpy.array([1.5, 1e-300, 1e300]), numpy.array([-1074, 1500, -1500], numpy.int32)), {}),
    ("frexp", (numpy.array([1.0, 0.999, 4.0, 5e-324, 1e308, 0.0, -3.0]),), {}),
    ("polyval", (V, F), {}),
    ("polyval", (numpy.zeros(0), 2.0), {}),
    ("angle", (C,), {"deg": True}),
    ("interp", (V, numpy.array([-2.0, 0.0, 1.0, 2.0]), POSITIVE), {}),
    ("interp", (V, numpy.array([-2.0, 0.0, 1.0, 2.0]), POSITIVE), {"left": -1.0, "right": -2.0}),
    ("interp", (10 * V, numpy.array([0.5, 2.0, 1.0, 3.0]), POSITIVE), {"period": 4.0}),
    ("interp", (V, numpy.array([1.0]), numpy.array([7.0])), {}),
    ("interp", (V, numpy.array([0.0, 1.0, 1.0, 2.0]), POSITIVE), {}),
    ("diff", (F,), {}),
    ("diff", (F,), {"axis": 0, "n": 2}),
    ("diff", (F,), {"n": 9}),
    ("diff", (V,), {"prepend": 0.0, "append": W[:2]}),
    ("diff", (numpy.array([True, False, False]),), {}),
    ("ediff1d", (F,), {"to_end": 1.0, "to_begin": numpy.array([2.0, 3.0])}),
    ("gradient", (F,), {}),
    ("gradient", (F, 2.0), {"axis": 1}),
    ("gradient", (F, 2.0, numpy.array([0.0, 1.0, 4.0, 5.0])), {}),
    ("trapezoid", (F,), {}),
    ("trapezoid", (F,), {"x": numpy.array([0.0, 1.0, 4.0]), "axis": 0}),
    ("trapezoid", (F,), {"x": G, "dx": 2.0}),
    ("unwrap", (numpy.cumsum(numpy.abs(4 * V)) % (2 * numpy.pi),), {}),
    ("unwrap", (numpy.array([0, 1, 2, -1, 0], numpy.int32),), {"period": 4}),
    ("average", (F,), {"axis": 0}),
    ("average", (F,), {"axis": 1, "weights": POSITIVE}),
    ("average", (T,), {"axis": (2, 1), "weights": numpy.abs(F[:, :3])}),
    ("average", (F,), {"weights": numpy.abs(G), "returned": True}),
    ("var", (F,), {"axis": 1, "ddof": 1}),
    ("var", (V,), {"ddof": 9}),
    ("std", (F,), {"correction": 0.5}),
    ("var", (F,), {"axis": 0, "mean": F.mean(axis=0, keepdims=True)}),
    ("sum", (F,), {"dtype": "float32"}),
    ("cumulative_sum", (F,), {"axis": 1, "include_initial": True}),
    ("cumulative_prod", (V,), {"include_initial": True}),
    ("cov", (F,), {}),
    ("cov", (F, G), {}),
    ("cov", (F,), {"rowvar": False, "bias": True}),
    ("cov", (V,), {}),
    ("cov", (V, W), {"ddof": 0}),
    ("cov", (F,), {"fweights": numpy.array([1, 2, 1, 3]), "aweights": POSITIVE}),
    ("cov", (C,), {}),
    ("corrcoef", (F,), {}),
    ("corrcoef", (V, W), {}),
    ("bincount", (I32,), {}),
    ("bincount", (I32,), {"minlength": 9}),
    ("bincount", (I32,), {"weights": numpy.arange(6.0)}),
    ("bincount", (numpy.zeros(0, numpy.int32),), {}),
    ("histogram", (V,), {"bins": 4, "density": True}),
    ("histogram_bin_edges", (V,), {"bins": 4}),
    ("histogram_bin_edges", (numpy.ones(3),), {}),
    ("array_equal", (V, V), {}),
    ("array_equal", (V, W), {}),
    ("array_equal", (V, F), {}),
    ("array_equal", (numpy.array([numpy.nan]), numpy.array([numpy.nan])), {"equal_nan": True}),
    ("isclose", (numpy.array([numpy.nan, numpy.inf]), numpy.array([numpy.nan, numpy.inf])), {"equal_nan": True}),
    ("zeros", ((2, 3),), {"dtype": "float32"}),
    ("ones", (3,), {"dtype": "int32"}),
    ("full", ((2, 2), 7), {}),
    ("full", ((2, 3), numpy.arange(3.0)), {}),
    ("zeros_like", (F,), {}),
    ("ones_like", (F,), {"shape": (2,)}),
    ("full_like", (I32, 2.7), {}),
    ("eye", (3,), {"dtype": "float32"}),
    ("eye", (2, 4), {"k": 1, "dtype": "float32"}),
    ("identity", (2,), {"dtype": "int32"}),
    ("tri", (3, 4), {"k": -1, "dtype": "float32"}),
    ("tril", (T,), {"k": 1}),
    ("triu", (F,), {"k": -1}),
    ("diag", (V,), {}),
    ("diag", (V,), {"k": 2}),
    ("diag", (V,), {"k": -1}),
    ("diag", (F,), {}),
    ("diag", (F,), {"k": 2}),
    ("diag", (F,), {"k": -2}),
    ("diag", (F,), {"k": 9}),
    ("diagflat", (F,), {"k": 1}),
    ("vander", (V,), {}),
    ("vander", (V, 3), {"increasing": True}),
    ("meshgrid", (V, W), {}),
    ("meshgrid", (V, W, POSITIVE), {"indexing": "ij", "sparse": True}),
    ("meshgrid", (V, 2.0), {}),
    ("indices", ((2, 3),), {}),
    ("indices", ((2, 3),), {"sparse": True}),
    ("fromfunction", (lambda i, j: i * j + 1, (2, 3)), {}),
    ("arange", (5,), {}),
    ("arange", (2, 9, 3), {}),
    ("arange", (9, 2, -2), {}),
    ("arange", (0,), {}),
    ("arange", (0.0, 1.0, 0.1), {"dtype": "float64"}),
    ("arange", (0.5, 3), {}),
    ("linspace", (0, 1, 7), {}),
    ("linspace", (0.0, 1.0, 7), {"endpoint": False}),
    ("linspace", (0, 10, 7), {"dtype": "int32"}),
    ("linspace", (V, W, 4), {}),
    ("linspace", (V, W, 4), {"axis": 1, "endpoint": False}),
    ("linspace", (V[0], W[0], 1), {}),
    ("linspace", (0, 1, 0), {}),
    ("linspace", (0, 1, 3), {"retstep": True}),
    ("logspace", (0, 2, 5), {}),
    ("logspace", (0, 2, 5), {"base": 2.0}),
    ("logspace", (V, W, 3), {}),
    ("geomspace", (1, 1000, 4), {}),
    ("geomspace", (1 + V**2, 2 + W**2, 4), {}),
    ("frombuffer", (bytes(range(8)),), {"dtype": "int16"}),
]


@pytest.mark.parametrize("name, arguments, keywords", CALLS, ids=[row[0] for row in CALLS])
def test_calls_give_what_numpy_gives(name, arguments, keywords):
    with numpy.errstate(all="ignore"), pytest.warns(RuntimeWarning) if keywords == {"ddof": 9} else numpy.errstate():
        wanted = getattr(numpy, name)(*arguments, **keywords)
    if isinstance(wanted, tuple):
        wanted = list(wanted)
    inputs = [x for x in arguments if isinstance(x, (numpy.ndarray, numpy.generic))]
    if keywords.get("dtype") == "float64":
        inputs = [numpy.zeros(1)]
    tolerance = 1e-10 if inputs and name not in ("sum", "histogram") else 1e-5
    same(getattr(np, name)(*arguments, **keywords), wanted, *inputs, tolerance=tolerance, dtype=name != "bincount")


def test_histogram_counts_every_element_once():
    x = values(0, (200,), "float32")
    for bins in (7, numpy.array([-2.0, 0.0, 0.5, 2.0], numpy.float32)):
        counts, edges = np.histogram(x, bins)
        wanted, wanted_edges = numpy.histogram(x, bins)
        numpy.testing.assert_array_equal(counts, wanted)
        numpy.testing.assert_allclose(edges, wanted_edges, rtol=1e-6)
    weighted, _ = np.histogram(x, 5, range=(-1.0, 1.0), weights=x)
    numpy.testing.assert_allclose(weighted, numpy.histogram(x, 5, (-1.0, 1.0), weights=x)[0], rtol=1e-4)


# Making arrays


def test_arrays_of_python_numbers_take_the_default_dtypes():
    assert np.array(1.0).dtype is np.float32
    assert np.array([1, 2]).dtype is np.int32
    assert np.array([True]).dtype is np.bool_
    assert np.array([1j]).dtype is np.complex64
    assert np.array([1, 2.5]).dtype is np.float32
    assert not np.array(1.0).weak_type
    assert not np.array(fg.numpy.asarray(1.0)).weak_type


def test_numpy_arrays_keep_their_dtype():
    for dtype in ["float64", "int64", "float16", "uint8", "complex128", ml_dtypes.bfloat16]:
        assert np.array(numpy.zeros(2, dtype)).dtype == dtype
    assert np.array(numpy.zeros(2), dtype=np.float32).dtype is np.float32
    assert np.array([numpy.float64(1)]).dtype is np.float64


def test_lists_of_traced_values_become_arrays():
    def f(x):
        return np.sum(np.array([[x, 2 * x], [1.0, x**2]]) * np.array([[1.0, 2.0], [3.0, 4.0]]))

    assert float(fg.grad(f)(3.0)) == 1 + 4 + 24
    assert np.array([np.ones(2), [3, 4]]).tolist() == [[1, 1], [3, 4]]
    same(fg.vmap(lambda x: np.array([x, x]))(V), numpy.stack([V, V], 1), V)


def test_a_later_write_to_a_numpy_array_changes_nothing():
    source = numpy.zeros(3)
    x = np.array(source)
    source[0] = 1
    assert x.tolist() == [0, 0, 0]


def test_ndmin_and_conversion_of_dtypes():
    assert np.array(1.0, ndmin=2).shape == (1, 1)
    assert np.array([1.7], dtype=int).tolist() == [1]
    assert np.array(fg.array([1.7]), dtype=np.int8).dtype is np.int8


def test_dlpack_both_ways():
    x = np.from_dlpack(numpy.arange(3.0))
    assert x.dtype is np.float64 and x.tolist() == [0, 1, 2]
    assert numpy.from_dlpack(x).tolist() == [0, 1, 2]


def test_constants_and_ranges_are_expressions_under_jit():
    def f(x):
        return x + np.zeros((300, 300)) + np.arange(300.0) + np.eye(300) + np.tri(300)

    program = str(fg.make_program(f)(1.0)) if callable(getattr(fg, "make_program", None)) else ""
    assert "constant float32[300" not in program
    x = numpy.float32(2.0)
    same(fg.jit(f)(x), x + numpy.arange(300.0) + numpy.eye(300) + numpy.tri(300))


def test_a_range_needs_known_limits():
    with pytest.raises(fg.errors.TracedValueError, match="arange"):
        fg.jit(lambda n: np.arange(n))(3)


# Questions about dtypes


def test_dtype_functions():
    assert np.result_type(np.float32, 1.0, numpy.int64) is np.float32
    assert np.promote_types("bfloat16", "float16") is np.float32
    assert np.issubdtype(np.bfloat16, np.floating) and not np.issubdtype(np.float32, np.bfloat16)
    assert np.issubdtype("int8", np.integer) and not np.issubdtype(np.bool_, np.number)
    assert np.isdtype(np.int8, "signed integer") and np.isdtype(np.float16, ("bool", "real floating"))
    assert not np.isdtype(np.float16, np.float32)
    assert float(np.finfo(np.bfloat16).max) > 3e38 and np.iinfo("int8").max == 127
    assert np.can_cast(np.int32, np.float64) and not np.can_cast(fg.array(1.5), np.int32)
    assert np.shape([[1, 2]]) == (1, 2) and np.ndim(3) == 0 and np.size([[1, 2]], 1) == 2
    assert np.astype(fg.array([1 + 2j]), np.float32).tolist() == [1.0]


# Derivatives at the points where a plain formula gives NaN: function, arguments, gradients.
inf = numpy.inf
TRAPS = [
    (np.hypot, (0.0, 0.0), (0.0, 0.0)),
    (np.hypot, (3.0, 4.0), (0.6, 0.8)),
    (np.hypot, (2.0, 2.0), (math.sqrt(0.5), math.sqrt(0.5))),
    (np.hypot, (0.0, -2.0), (0.0, -1.0)),
    (np.hypot, (3e300, 4e300), (0.6, 0.8)),
    (np.logaddexp, (1.0, 1.0), (0.5, 0.5)),
    (np.logaddexp, (inf, inf), (0.5, 0.5)),
    (np.logaddexp, (-inf, -inf), (0.5, 0.5)),
    (np.logaddexp, (-inf, 0.0), (0.0, 1.0)),
    (np.logaddexp, (1000.0, 0.0), (1.0, 0.0)),
    (np.logaddexp2, (2.0, 2.0), (0.5, 0.5)),
    (np.logaddexp2, (-inf, -inf), (0.5, 0.5)),
    (np.logaddexp2, (3.0, 2.0), (2 / 3, 1 / 3)),
    (np.sinc, (0.0,), (0.0,)),
    (fg.grad(np.sinc), (0.0,), (-(math.pi**2) / 3,)),
    (fg.grad(fg.grad(np.sinc)), (0.0,), (0.0,)),
    (fg.grad(np.logaddexp), (1.0, 1.0), (0.25, -0.25)),
    (np.maximum, (1.0, 1.0), (0.5, 0.5)),
    (np.fmax, (1.0, numpy.nan), (1.0, 0.0)),
    (np.fmin, (numpy.nan, 1.0), (0.0, 1.0)),
    (np.copysign, (0.0, -1.0), (-1.0, 0.0)),
    (np.power, (0.0, 2.0), (0.0, 0.0)),
    (np.power, (2.0, 0.0), (0.0, math.log(2))),
    (np.absolute, (0.0,), (0.0,)),
    (np.square, (0.0,), (0.0,)),
    (np.i0, (0.0,), (0.0,)),
    (fg.grad(np.i0), (0.0,), (0.5,)),
    (lambda x: np.where(x > 0, np.log(np.where(x > 0, x, 1.0)), 0.0), (0.0,), (0.0,)),
    (lambda x: np.std(np.array([x, x, x])), (2.0,), (0.0,)),
    (lambda x: np.prod(np.array([x, 0.0 * x + 3, 0.0 * x])), (0.0,), (0.0,)),
    (lambda x: np.prod(np.array([x, 3.0])), (0.0,), (3.0,)),
    (lambda x: np.nanmean(np.array([x, numpy.nan])), (2.0,), (1.0,)),
    (lambda x: np.nanstd(np.array([x, 0.0, numpy.nan])), (2.0,), (0.5,)),
    (lambda x: np.max(np.array([x, x])), (2.0,), (1.0,)),
    (lambda x: np.median(np.array([x, 5.0, 1.0, 7.0])), (2.0,), (0.5,)),
    (lambda x: np.nan_to_num(x), (numpy.nan,), (0.0,)),
    (lambda x: np.clip(x, 0.0, 1.0), (2.0,), (0.0,)),
    (special.xlogy, (0.0, 0.0), (0.0, 0.0)),
    (special.xlogy, (0.0, 2.0), (math.log(2), 0.0)),
    (special.xlog1py, (0.0, -1.0), (0.0, 0.0)),
    (special.entr, (1.0,), (-1.0,)),
    (special.rel_entr, (1.0, 2.0), (1 - math.log(2), -0.5)),
    (special.log_ndtr, (-100.0,), (100.00999800099926,)),
    (special.log_ndtr, (0.0,), (2 / math.sqrt(2 * math.pi),)),
    (lambda x: special.logsumexp(np.array([x, -inf])), (1.0,), (1.0,)),
    (lambda x: special.logsumexp(np.array([x, x])), (-inf,), (0.0,)),
    (lambda x: special.softmax(np.array([x, 0.0]))[0], (1000.0,), (0.0,)),
    (lambda x: special.logit(special.expit(x)), (0.5,), (1.0,)),
]


@pytest.mark.parametrize("function, arguments, gradients", TRAPS)
def test_gradients_at_singular_points(function, arguments, gradients):
    arguments = [fg.array(x, np.float64) for x in arguments]
    found = fg.grad(function, argnums=tuple(range(len(arguments))))(*arguments)
    numpy.testing.assert_allclose([float(g) for g in found], gradients, rtol=1e-9, atol=1e-12)


# Functions whose derivatives are compared with differences, and which are jitted and batched.
SMOOTH = [
    lambda x: np.std(x, ddof=1),
    lambda x: np.var(x, axis=-1),
    lambda x: np.mean(x, where=x > 0),
    lambda x: np.prod(x, axis=0),
    lambda x: np.quantile(x, 0.3, axis=-1),
    lambda x: np.nanmedian(x),
    lambda x: np.cov(x),
    lambda x: np.corrcoef(x),
    lambda x: np.average(x, weights=x**2 + 1),
    lambda x: np.cumprod(x, axis=1),
    lambda x: np.max(x, axis=0) - np.min(x),
    lambda x: np.gradient(x, axis=0),
    lambda x: np.trapezoid(x, x**3),
    lambda x: np.interp(x, numpy.array([-3.0, 0.0, 4.0]), numpy.array([1.0, 5.0, 2.0])),
    lambda x: np.interp(0.3, numpy.array([-3.0, 0.0, 4.0]), x[0, :3]),
    lambda x: np.linspace(x[0], x[1], 3, axis=1),
    lambda x: np.geomspace(x[0] ** 2 + 1, 10.0, 3),
    lambda x: np.tril(x) + np.triu(x, 1) ** 2,
    lambda x: np.diag(x[0], k=-1) @ np.diag(x[0], k=1),
    lambda x: np.trace(x, offset=1),
    lambda x: np.kron(x, x[:1]),
    lambda x: np.cross(x[..., :3], x[..., 1:]),
    lambda x: np.inner(x, x),
    lambda x: np.tensordot(x, x, axes=((0,), (0,))),
    lambda x: np.vander(x[0], 4),
    lambda x: np.einsum("ij,kj,kl->il", x, x, x),
    lambda x: np.polyval(x[0], x),
    lambda x: np.hypot(x, x[0]),
    lambda x: np.logaddexp(x, x[0] + 1),
    lambda x: np.sinc(x),
    lambda x: np.ldexp(x, 3) + np.frexp(x)[0] + np.modf(x)[0],
    lambda x: np.divmod(x, 0.7)[1] + np.fmod(x, 0.7),
    lambda x: np.histogram(numpy.arange(12.0) / 4, 3, weights=x.reshape(-1))[0],
    lambda x: np.bincount(numpy.array([0, 2, 1, 2]), weights=x[0], length=3),
    lambda x: special.logsumexp(x, axis=1, b=numpy.array([1.0, 2.0, 0.0, 1.0])),
    lambda x: special.log_softmax(x, axis=0),
    lambda x: special.erf(x) + special.erfc(x / 2) + special.erfinv(np.tanh(x)),
    lambda x: special.gammaln(x**2 + 0.5) + special.digamma(x**2 + 0.5) + special.gamma(x**2 + 0.3),
    lambda x: special.log_ndtr(10 * x) + special.ndtr(x),
    lambda x: special.i0e(x) + special.i1e(x) + special.i1(x),
    lambda x: special.kl_div(x**2 + 0.1, np.abs(x) + 0.2),
]


@pytest.mark.parametrize("function", SMOOTH)
def test_derivatives_agree_with_differences(function):
    x, t = values(11, (3, 4), "float64"), values(12, (3, 4), "float64")
    h = 1e-6
    _, tangent = fg.jvp(function, (x,), (t,))
    difference = (numpy.asarray(function(x + h * t)) - numpy.asarray(function(x - h * t))) / (2 * h)
    numpy.testing.assert_allclose(tangent, difference, rtol=2e-5, atol=2e-6)
    result, pull = fg.vjp(function, x)
    cotangent = values(13, result.shape, "float64")
    (gradient,) = pull(cotangent)
    numpy.testing.assert_allclose(numpy.sum(gradient * t), numpy.sum(cotangent * tangent), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("function", SMOOTH)
def test_jit_and_vmap_change_nothing(function):
    x = values(11, (3, 4), "float64")
    plain = function(x)
    numpy.testing.assert_allclose(fg.jit(function)(x), plain, rtol=1e-10, atol=1e-12)
    batched = fg.vmap(function)(numpy.stack([x, x[::-1]]))
    numpy.testing.assert_allclose(batched[0], plain, rtol=1e-10, atol=1e-12)
    numpy.testing.assert_allclose(batched[1], function(x[::-1]), rtol=1e-10, atol=1e-12)


# Special functions against SciPy's: name, lowest and highest values of each argument

SPECIAL = [
    ("erf", [(-3, 3)]),
    ("erfc", [(-3, 3)]),
    ("erfinv", [(-1, 1)]),
    ("ndtr", [(-5, 5)]),
    ("log_ndtr", [(-60, 9)]),
    ("gammaln", [(-3, 9)]),
    ("gamma", [(-3, 5)]),
    ("digamma", [(0.1, 9)]),
    ("expit", [(-30, 30)]),
    ("logit", [(0, 1)]),
    ("xlogy", [(0, 3), (0, 3)]),
    ("xlog1py", [(0, 3), (-1, 3)]),
    ("entr", [(-1, 3)]),
    ("rel_entr", [(-1, 3), (-1, 3)]),
    ("kl_div", [(0, 3), (0, 3)]),
    ("i0", [(-5, 5)]),
    ("i0e", [(-5, 5)]),
    ("i1", [(-5, 5)]),
    ("i1e", [(-5, 5)]),
]


@pytest.mark.parametrize("name, domains", SPECIAL, ids=[row[0] for row in SPECIAL])
def test_special_functions(name, domains):
    edges = numpy.array([0.0, 1.0, -1.0, 2.0])
    for dtype, tolerance in (("float64", 1e-10), ("float32", 2e-5)):
        arguments = [
            numpy.concatenate([values(k, (40,), dtype, *domain), edges.astype(dtype)])
            for k, domain in enumerate(domains)
        ]
        arguments[-1] = numpy.concatenate([arguments[-1][:40], edges[::-1].astype(dtype)])
        with numpy.errstate(all="ignore"):
            wanted = getattr(scipy.special, name)(*arguments)
        same(getattr(special, name)(*arguments), wanted, *arguments, tolerance=tolerance)


def test_log_of_the_beta_function():
    a, b = values(1, (40,), "float64", 0.1, 5), values(2, (40,), "float64", 0.1, 5)
    same(special.betaln(a, b), scipy.special.betaln(a, b), a)


@FEW
@given(st.data())
def test_logsumexp_and_softmax(data):
    shape, axis = reduction_case(data, True)
    shape = shape or (1,)
    x = values(data.draw(st.integers(0, 1000)), shape, "float64", -800, 800)
    keywords = {"axis": None if axis == () else axis}
    same(special.logsumexp(x, **keywords, keepdims=True), scipy.special.logsumexp(x, **keywords, keepdims=True), x)
    same(special.softmax(x, **keywords), scipy.special.softmax(x, **keywords), x)
    same(special.log_softmax(x, **keywords), scipy.special.log_softmax(x, **keywords), x)
    b = values(5, shape, "float64")
    result = special.logsumexp(x, **keywords, b=b, return_sign=True)
    wanted = scipy.special.logsumexp(x, **keywords, b=b, return_sign=True)
    same(result, list(wanted), x, tolerance=1e-9)


def test_logsumexp_of_nothing():
    assert float(special.logsumexp(numpy.zeros(0, numpy.float32))) == -inf
    assert float(special.logsumexp(numpy.array([-inf, -inf]))) == -inf
    assert float(special.logsumexp(numpy.array([1.0, inf]))) == inf
    assert float(special.logsumexp(numpy.array([1.0, 2.0]), where=numpy.array([True, False]))) == 1.0


# Errors: what is called, the class, and a word of the message

ERRORS = [
    (lambda: np.sum(F, axis=2), fg.errors.ShapeError, "axis 2"),
    (lambda: np.sum(F, axis=(0, 0)), fg.errors.ShapeError, "axes"),
    (lambda: np.sum(F, out=F), fg.errors.ArgumentError, "immutable"),
    (lambda: np.max(F, where=F > 0), fg.errors.ArgumentError, "initial"),
    (lambda: np.max(numpy.zeros((0, 2)), axis=0), fg.errors.ShapeError, "element"),
    (lambda: np.argmax(numpy.zeros(0)), fg.errors.ShapeError, "element"),
    (lambda: np.quantile(F, 0.5, method="best"), fg.errors.ArgumentError, "linear"),
    (lambda: np.median(numpy.zeros(0)), fg.errors.ShapeError, "no elements"),
    (lambda: np.matmul(F, F), fg.errors.ShapeError, "length"),
    (lambda: fg.array(F) @ fg.array(F), fg.errors.ShapeError, "length"),
    (lambda: np.matmul(F, 2.0), fg.errors.ShapeError, "multiply"),
    (lambda: np.einsum("ij,jk", F, F), fg.errors.ShapeError, "'j'"),
    (lambda: np.einsum("ij,jk", F), fg.errors.ArgumentError, "operand"),
    (lambda: np.einsum("i->i", F), fg.errors.ArgumentError, "letter"),
    (lambda: np.einsum("ij->k", F), fg.errors.ArgumentError, "'k'"),
    (lambda: np.einsum("ij->ii", F), fg.errors.ArgumentError, "twice"),
    (lambda: np.einsum("ii", F), fg.errors.ShapeError, "diagonal"),
    (lambda: np.cross(V, V), fg.errors.ShapeError, "components"),
    (lambda: np.array([[1, 2], [3]]), fg.errors.ArgumentTypeError, "lengths"),
    (lambda: np.array([fg.array([1, 2]), [3]]), fg.errors.ArgumentTypeError, "shapes"),
    (lambda: np.array("text"), fg.errors.ArgumentTypeError, "str"),
    (lambda: np.array([300], dtype=np.uint8), fg.errors.DtypeError, "uint8"),
    (lambda: np.array([1j], dtype=np.float32), fg.errors.DtypeError, "real"),
    (lambda: np.zeros((-1,)), fg.errors.ShapeError, "negative"),
    (lambda: np.zeros(1.5), fg.errors.ArgumentTypeError, "integer"),
    (lambda: np.arange(0, 1, 0), fg.errors.ArgumentError, "step"),
    (lambda: np.diag(T), fg.errors.ShapeError, "vector"),
    (lambda: np.tril(V), fg.errors.ShapeError, "matrices"),
    (lambda: np.meshgrid(V, indexing="yx"), fg.errors.ArgumentError, "indexing"),
    (lambda: np.add(V, POSITIVE), fg.errors.ShapeError, "broadcast"),
    (lambda: np.sin(object()), fg.errors.ArgumentTypeError, "object"),
    (lambda: np.ldexp(V, V), fg.errors.DtypeError, "integer"),
    (lambda: np.gcd(V, V), fg.errors.DtypeError, "integer"),
    (lambda: np.power(I32, -1), fg.errors.DtypeError, "negative powers"),
    (lambda: np.array(I32) ** -2, fg.errors.DtypeError, "negative powers"),
    (lambda: np.power(2, -1), fg.errors.DtypeError, "negative powers"),
    (lambda: fg.jit(lambda x: x**-1)(I32), fg.errors.DtypeError, "negative powers"),
    (lambda: np.logaddexp(C, C), fg.errors.DtypeError, "real"),
    (lambda: np.invert(V), fg.errors.DtypeError, "integer"),
    (lambda: np.bincount(V), fg.errors.DtypeError, "integers"),
    (lambda: fg.jit(np.bincount)(I32), fg.errors.TracedValueError, "length="),
    (lambda: np.isdtype(np.int8, "whole"), fg.errors.ArgumentError, "kind"),
    (lambda: np.average(F, axis=0, weights=V), fg.errors.ArgumentError, "weights"),
]


@pytest.mark.parametrize("call, error, word", ERRORS)
def test_errors_say_what_was_wrong(call, error, word):
    with pytest.raises(error, match=word):
        call()


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64"])
@pytest.mark.parametrize("transform", [lambda f: f, fg.jit, fg.vmap])
def test_negative_powers_in_an_array_are_rounded_towards_zero(transform, dtype):
    x, y = (a.ravel() for a in numpy.meshgrid(numpy.arange(-3, 4), numpy.arange(-3, 4)))
    found = transform(np.power)(fg.array(x.astype(dtype)), fg.array(y.astype(dtype)))
    with numpy.errstate(all="ignore"):
        expected = numpy.trunc(numpy.where((x == 0) & (y < 0), 0.0, x.astype(float) ** y))
    numpy.testing.assert_array_equal(found, expected.astype(dtype))


def test_every_public_name_is_there():
    for name in np.__all__:
        assert hasattr(np, name)
