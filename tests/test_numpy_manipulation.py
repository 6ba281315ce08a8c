"""Functions that rearrange, join, pad, sort and compare arrays as sets: each row against NumPy's own."""

import numpy
import pytest

import funcgrad as fg
import funcgrad.numpy as np

R = numpy.random.default_rng(0)
V = numpy.arange(5, dtype=numpy.float32)
M = R.normal(size=(3, 4)).astype(numpy.float32)
T = R.normal(size=(2, 3, 4)).astype(numpy.float32)
S = numpy.float32(2.5)
INTS = numpy.array([3, 1, 2, 3, 0, 1], numpy.int32)
NAN = numpy.array([2.0, numpy.nan, -1.0, 2.0, numpy.nan, numpy.inf], numpy.float32)
EMPTY = numpy.zeros((0, 3), numpy.float32)


def same(actual, expected, tolerance=0.0):
    """Compare results, which may be lists or tuples; index results are int32 here and int64 in NumPy."""
    if isinstance(expected, (list, tuple)):
        assert len(actual) == len(expected)
        for a, b in zip(actual, expected, strict=True):
            same(a, b, tolerance)
        return
    actual, expected = numpy.asarray(actual), numpy.asarray(expected)
    if expected.dtype == numpy.int64:
        expected = expected.astype(numpy.int32)
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    numpy.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


# (name, arguments, keywords): the same call of both libraries
CALLS = [
    ("reshape", (M, (2, 6)), {}),
    ("reshape", (M, -1), {}),
    ("reshape", (T, (4, -1)), {"order": "F"}),
    ("reshape", (EMPTY, (3, 0)), {}),
    ("ravel", (T,), {}),
    ("ravel", (T,), {"order": "F"}),
    ("ravel", (S,), {}),
    ("ravel", (EMPTY,), {}),
    ("transpose", (T,), {}),
    ("transpose", (T, (2, 0, 1)), {}),
    ("permute_dims", (T, (-1, 0, 1)), {}),
    ("matrix_transpose", (T,), {}),
    ("swapaxes", (T, 0, -1), {}),
    ("moveaxis", (T, 0, -1), {}),
    ("moveaxis", (T, (0, 1), (2, 0)), {}),
    ("rollaxis", (T, 2), {}),
    ("rollaxis", (T, 0, 3), {}),
    ("rollaxis", (T, 1, -1), {}),
    ("expand_dims", (M, 0), {}),
    ("expand_dims", (M, (0, -1)), {}),
    ("squeeze", (M[:1],), {}),
    ("squeeze", (M[None, :, :1],), {"axis": 0}),
    ("squeeze", (M[None, :, :1],), {"axis": (0, -1)}),
    ("atleast_1d", (S, V), {}),
    ("atleast_2d", (V,), {}),
    ("atleast_3d", (S, V, M), {}),
    ("broadcast_to", (V, (3, 5)), {}),
    ("broadcast_to", (S, (2,)), {}),
    ("broadcast_arrays", (V, M[:, :1]), {}),
    ("broadcast_shapes", ((3, 1), (4,), ()), {}),
    ("tile", (V, 2), {}),
    ("tile", (M, (2, 1, 3)), {}),
    ("tile", (T, 2), {}),
    ("tile", (S, 3), {}),
    ("repeat", (V, 2), {}),
    ("repeat", (M, 3), {"axis": 1}),
    ("repeat", (M, numpy.array([0, 2, 1])), {"axis": 0}),
    ("repeat", (S, 3), {}),
    ("resize", (V, (3, 4)), {}),
    ("resize", (M, (2, 2)), {}),
    ("flip", (T,), {}),
    ("flip", (T, (0, -1)), {}),
    ("fliplr", (M,), {}),
    ("flipud", (M,), {}),
    *[("rot90", (T, k, axes), {}) for k in range(-1, 4) for axes in [(0, 1), (2, 0)]],
    ("roll", (V, 2), {}),
    ("roll", (M, -7), {}),
    ("roll", (M, (1, 2), (0, 1)), {}),
    ("roll", (M, 1, (0, 1)), {}),
    ("roll", (EMPTY, 1, 0), {}),
    ("concatenate", ([M, M[:1]],), {}),
    ("concatenate", ([M, M[:, :2]],), {"axis": -1}),
    ("concatenate", ([M, V],), {"axis": None}),
    ("concatenate", ([V, V],), {"dtype": numpy.int32, "casting": "unsafe"}),
    ("concatenate", (T,), {}),
    ("concat", ([V, V],), {}),
    ("stack", ([V, -V],), {}),
    ("stack", ([M, M, M],), {"axis": -1}),
    ("unstack", (T,), {"axis": 1}),
    ("vstack", ([V, V],), {}),
    ("hstack", ([V, V],), {}),
    ("hstack", ([M, M],), {}),
    ("dstack", ([V, V],), {}),
    ("dstack", ([M, M],), {}),
    ("column_stack", ([V, V, V[:, None]],), {}),
    ("block", ([[M, M[:, :1]], [M[:1], M[:1, :1]]],), {}),
    ("block", ([V, V],), {}),
    ("block", (S,), {}),
    ("split", (M, 2), {"axis": 1}),
    ("split", (V, [1, 3]), {}),
    ("split", (V, [3, 9, -1]), {}),
    ("array_split", (V, 3), {}),
    ("array_split", (V, 7), {}),
    ("hsplit", (M, 2), {}),
    ("vsplit", (M, 3), {}),
    ("dsplit", (T, 2), {}),
    ("append", (V, S), {}),
    ("append", (M, M), {"axis": 1}),
    ("insert", (V, 1, S), {}),
    ("insert", (V, -1, [7, 8]), {}),
    ("insert", (V, [3, 1, 1], [7, 8, 9]), {}),
    ("insert", (V, [2, 0], S), {}),
    ("insert", (V, slice(1, 4), S), {}),
    ("insert", (M, 1, S), {"axis": 1}),
    ("insert", (M, 1, V[:3]), {"axis": 1}),
    ("insert", (M, 3, M[:2]), {"axis": 0}),
    ("insert", (M, [0, 2], M[:2]), {"axis": 0}),
    ("insert", (M, [1], M[:, :1]), {"axis": 1}),
    ("delete", (V, 1), {}),
    ("delete", (V, [0, -1, 0]), {}),
    ("delete", (M, slice(None, None, 2)), {"axis": 1}),
    ("delete", (M, numpy.array([True, False, True])), {"axis": 0}),
    ("delete", (M, []), {"axis": 0}),
    ("apply_over_axes", (lambda x, axis: x.sum(axis), T, (0, 2)), {}),
    # sorting and searching
    *[("sort", (x,), {"axis": axis}) for x in (M, T) for axis in (0, -1, None)],
    ("sort", (NAN,), {}),
    ("sort", (NAN + 1j * V[0],), {}),
    ("argsort", (T,), {"axis": 1}),
    ("argsort", (INTS,), {"stable": True}),
    ("argsort", (M,), {"axis": None}),
    ("lexsort", ((INTS, INTS[::-1]),), {}),
    ("lexsort", (numpy.stack([M, M > 0]),), {"axis": 0}),
    ("searchsorted", (numpy.sort(INTS), INTS), {}),
    ("searchsorted", (numpy.sort(NAN), NAN), {"side": "right"}),
    ("searchsorted", (INTS, numpy.array([[1, 9]], numpy.int32)), {"sorter": numpy.argsort(INTS, stable=True)}),
    ("digitize", (M, numpy.float32([-1, 0, 1])), {}),
    ("digitize", (INTS, numpy.int32([3, 2, 1])), {}),
    ("digitize", (INTS, numpy.int32([3, 2, 1])), {"right": True}),
    # sets
    ("unique", (INTS,), {}),
    ("unique", (INTS.reshape(2, 3), True, True, True), {}),
    ("unique", (NAN, False, True, True), {}),
    ("unique", (NAN,), {"equal_nan": False}),
    ("unique", (numpy.array([[1, 2], [0, 5], [1, 2]], numpy.int32), True, True, True), {"axis": 0}),
    ("unique", (numpy.array([[1, 2, 1], [0, 5, 0]], numpy.int32),), {"axis": 1}),
    ("unique", (numpy.zeros(0, numpy.int32), True, True, True), {}),
    ("unique", (numpy.array([True, False, True]),), {}),
    ("unique_counts", (INTS,), {}),
    ("unique_inverse", (INTS,), {}),
    ("unique_all", (INTS,), {}),
    ("isin", (INTS.reshape(2, 3), [1, 7, 3]), {}),
    ("isin", (NAN, NAN), {"invert": True}),
    ("isin", (INTS, []), {}),
    ("setdiff1d", (INTS, [1, 5]), {}),
    ("setdiff1d", (INTS, [1, 5]), {"assume_unique": True}),
    ("union1d", (INTS, [9, 1]), {}),
    ("intersect1d", (INTS, [9, 1, 1, 0]), {}),
    ("intersect1d", (INTS, numpy.int32([9, 1, 1, 0])), {"return_indices": True}),
    ("setxor1d", (INTS, [9, 1, 1, 0]), {}),
    ("trim_zeros", (numpy.int32([0, 0, 1, 0, 2, 0]),), {}),
    ("trim_zeros", (numpy.int32([0, 0, 1, 0, 2, 0]), "f"), {}),
]


def default_integers(value):
    """NumPy's arrays of Python integers are int64, ours int32: give NumPy what we would make of them."""
    if isinstance(value, list) and value and all(type(v) is int for v in value):
        return numpy.array(value, numpy.int32)
    return value


@pytest.mark.parametrize(("name", "arguments", "keywords"), CALLS, ids=lambda v: v if isinstance(v, str) else "")
def test_functions_agree_with_numpy(name, arguments, keywords):
    theirs = arguments if name in ("block", "split", "insert", "delete") else tuple(map(default_integers, arguments))
    if name == "insert":
        theirs = (*theirs[:2], numpy.asarray(theirs[2], numpy.float32))
    if name == "isin" and len(arguments[1]) == 0:
        theirs = (arguments[0], numpy.zeros(0, numpy.int32))
    expected = getattr(numpy, name)(*theirs, **keywords)
    keywords = {key: value for key, value in keywords.items() if key != "casting"}
    if name == "broadcast_shapes":
        assert np.broadcast_shapes(*arguments) == expected
    else:
        same(getattr(np, name)(*arguments, **keywords), expected)


PADS = [
    ((1, 2), {}),
    (((1, 0), (2, 3)), {"constant_values": 7}),
    (((1, 0), (2, 3)), {"constant_values": ((1, 2), (3, 4))}),
    (2, {"constant_values": (5, 6)}),
    *[(((1, 2), (0, 3)), {"mode": mode}) for mode in ("edge", "reflect", "symmetric", "wrap", "linear_ramp")],
    *[(((9, 8), (7, 11)), {"mode": mode}) for mode in ("edge", "reflect", "symmetric", "wrap")],
    *[(((1, 2), (2, 3)), {"mode": mode, "reflect_type": "odd"}) for mode in ("reflect", "symmetric")],
    (((1, 2), (2, 3)), {"mode": "linear_ramp", "end_values": ((1, 2), (3, 4))}),
    *[(((1, 2), (0, 3)), {"mode": mode}) for mode in ("maximum", "minimum", "mean", "median")],
    *[
        (((1, 2), (0, 3)), {"mode": m, "stat_length": ((1, 2), (3, 2))})
        for m in ("maximum", "minimum", "mean", "median")
    ],
]


@pytest.mark.parametrize(("width", "options"), PADS, ids=str)
@pytest.mark.parametrize("dtype", [numpy.float32, numpy.int32])
def test_pad_agrees_with_numpy(width, options, dtype):
    x = (10 * M).astype(dtype)
    same(np.pad(x, width, **options), numpy.pad(x, width, **options), 1e-6)
    if options.get("mode") in ("edge", "wrap", "symmetric", "mean"):
        jitted = fg.jit(lambda x: np.pad(x, width, **options))(x)
        same(jitted, numpy.pad(x, width, **options), 1e-6)


@pytest.mark.parametrize("mode", ["edge", "reflect", "symmetric", "wrap"])
def test_pad_copies_short_axes_as_often_as_it_takes(mode):
    for length in range(1, 5):
        x = numpy.arange(2.0 * length).reshape(2, length)
        for width in [(0, 1), (3, 0), (2, 9), (11, 4)]:
            assert np.pad(x, [(1, 0), width], mode).tolist() == numpy.pad(x, [(1, 0), width], mode).tolist()
        fg.testing.check_grads(lambda x: np.pad(x, [(1, 0), (3, 2)], mode), (x,), order=1)


def test_pad_joins_parts_of_long_axes_rather_than_looking_them_up():
    program = fg.make_program(lambda x: np.pad(x, 3, "reflect"))(np.ones((20, 20)))
    assert {equation.primitive.name for equation in program.equations} == {"slice", "rev", "concatenate"}


def test_pad_takes_a_dict_of_axes_and_traced_values():
    same(np.pad(M, {0: (1, 0), -1: 2}), numpy.pad(M, ((1, 0), (2, 2))))
    same(fg.grad(lambda v: np.pad(V, 2, constant_values=v).sum())(3.0), numpy.float32(4))
    same(fg.grad(lambda x: np.pad(x, (1, 2), mode="edge").sum())(V), numpy.float32([2, 1, 1, 1, 3]))


def test_pad_says_what_is_wrong():
    with pytest.raises(fg.errors.ArgumentError, match="no mode 'mirror'"):
        np.pad(V, 1, mode="mirror")
    with pytest.raises(fg.errors.ArgumentError, match="takes no end_values"):
        np.pad(V, 1, end_values=1)
    with pytest.raises(fg.errors.ShapeError, match="array of 1 axes"):
        np.pad(V, ((1, 1), (1, 1)))
    with pytest.raises(fg.errors.ArgumentError, match="not negative"):
        np.pad(V, -1)
    with pytest.raises(fg.errors.ShapeError, match="no elements"):
        np.pad(EMPTY, 1, mode="edge")


# What is new against NumPy: traced arguments, sizes, descending order


def test_roll_repeat_delete_insert_take_traced_amounts():
    same(fg.jit(lambda x, k: np.roll(x, k))(V, -2), numpy.roll(V, -2))
    same(fg.vmap(lambda k: np.roll(V, k))(numpy.arange(3)), numpy.stack([numpy.roll(V, k) for k in range(3)]))
    counts = numpy.array([0, 2, 1])
    repeat = fg.jit(lambda x, n, total: np.repeat(x, n, axis=0, total_repeat_length=total), static_argnums=2)
    same(repeat(M, counts, 3), M.repeat(counts, axis=0))
    same(repeat(M, counts, 5), M[[1, 1, 2, 2, 2]])
    same(repeat(M, counts, 2), M[[1, 1]])
    same(np.repeat(M, counts, axis=0, total_repeat_length=5), M[[1, 1, 2, 2, 2]])
    same(fg.jit(lambda x, k: np.delete(x, k))(V, -2), numpy.delete(V, -2))
    same(
        fg.jit(lambda x, k: np.delete(x, k, axis=1, assume_unique_indices=True))(M, numpy.array([3, 0])),
        numpy.delete(M, [3, 0], axis=1),
    )
    same(fg.jit(lambda x, k, v: np.insert(x, k, v))(V, numpy.array([4, 0, -1]), 9.0), numpy.insert(V, [4, 0, -1], 9.0))
    with pytest.raises(fg.errors.TracedValueError, match="total_repeat_length"):
        fg.jit(np.repeat)(V, numpy.ones(5, numpy.int32))
    with pytest.raises(fg.errors.TracedValueError, match="assume_unique_indices"):
        fg.jit(np.delete)(V, numpy.array([1]))


def test_descending_sorts_keep_the_order_of_equal_elements():
    same(np.sort(INTS, descending=True), numpy.sort(INTS)[::-1])
    same(np.argsort(INTS, descending=True), numpy.int32([0, 3, 2, 1, 5, 4]))
    same(np.argsort(INTS), numpy.argsort(INTS, stable=True))


def test_sort_complex_and_unique_values():
    same(np.sort_complex(V[::-1]), V.astype(numpy.complex64))
    same(np.unique_values(INTS), numpy.int32([0, 1, 2, 3]))  # sorted, which NumPy's leaves open


def test_partition_puts_the_kth_element_in_its_place():
    for axis in (0, 1):
        parted = numpy.asarray(np.partition(M, 1, axis))
        assert (parted.take(1, axis) == numpy.sort(M, axis).take(1, axis)).all()
        same(np.take_along_axis(M, np.argpartition(M, 1, axis), axis), parted)
    with pytest.raises(fg.errors.ShapeError, match="kth=9"):
        np.partition(V, 9)


def test_searchsorted_is_the_same_when_traced():
    ordered, values = numpy.sort(NAN), numpy.append(NAN, [-5, 0, 1e9]).astype(numpy.float32)
    for side in ("left", "right"):
        expected = numpy.searchsorted(ordered, values, side)
        same(fg.jit(lambda a, v, side=side: np.searchsorted(a, v, side))(ordered, values), expected)
        same(fg.vmap(lambda v, side=side: np.searchsorted(ordered, v, side))(values), expected)
    same(fg.jit(np.searchsorted)(numpy.zeros(0, numpy.float32), V), numpy.zeros(5, numpy.int32))


def test_sets_with_a_size_work_under_jit():
    unique = fg.jit(lambda x: np.unique(x, True, True, True, size=6, fill_value=-1))
    values, index, inverse, counts = unique(INTS)
    same(values, numpy.int32([0, 1, 2, 3, -1, -1]))
    same(index[:4], numpy.int32([4, 1, 2, 0]))
    same(inverse, numpy.unique(INTS, return_inverse=True)[1])
    same(counts, numpy.int32([1, 2, 1, 2, 0, 0]))
    same(np.unique(INTS, size=6), numpy.int32([0, 1, 2, 3, 0, 0]))
    same(fg.vmap(lambda x: np.unique(x, size=2))(INTS.reshape(3, 2)), numpy.int32([[1, 3], [2, 3], [0, 1]]))
    same(fg.jit(lambda x: np.setdiff1d(x, [1], size=4, fill_value=9))(INTS), numpy.int32([0, 2, 3, 9]))
    same(fg.jit(lambda x: np.union1d(x, [8], size=5))(INTS), numpy.int32([0, 1, 2, 3, 8]))
    same(fg.jit(lambda x: np.intersect1d(x, [3, 0], size=3))(INTS), numpy.int32([0, 3, 0]))
    same(fg.jit(lambda x: np.setxor1d(x, [3, 7], size=5))(INTS), numpy.int32([0, 1, 2, 7, 0]))
    with pytest.raises(fg.errors.TracedValueError, match="size=n"):
        fg.jit(np.unique)(INTS)


def test_derivatives_pass_through_unique_sort_and_where():
    weights = numpy.float32([1, 2, 3, 4])
    x = numpy.float32([3, 1, 2, 5])
    same(fg.grad(lambda x: (np.sort(x) * weights).sum())(x), numpy.float32([3, 1, 2, 4]))
    same(fg.grad(lambda x: (np.unique(x) * weights).sum())(x), numpy.float32([3, 1, 2, 4]))
    same(fg.grad(lambda x: np.where(x > 2, x * x, 0.0).sum())(x), numpy.float32([6, 0, 0, 10]))


def test_where_promotes_and_checks():
    same(np.where(M > 0, M, 0), numpy.where(M > 0, M, numpy.float32(0)))
    same(np.where([1, 0], numpy.int32(1), numpy.float32(2.5)), numpy.float32([1, 2.5]))
    with pytest.raises(fg.errors.ArgumentError, match="both"):
        np.where(M > 0, M)


def test_vectorize_maps_over_the_axes_in_front():
    add = np.vectorize(lambda x, y: x + y)
    same(add(M[:, :1], V), M[:, :1] + V)
    same(add(S, S), S + S)
    matvec = np.vectorize(lambda a, x: a @ x, signature="(m,n),(n)->(m)")
    same(matvec(T, V[:4]), T @ V[:4], 1e-6)
    same(matvec(T[:, None], M), numpy.einsum("bmn,cn->bcm", T, M), 1e-6)
    both = np.vectorize(lambda x: (x.sum(), x), signature="(n)->(),(n)")
    same(both(M)[0], M.sum(1), 1e-6)
    scaled = np.vectorize(lambda x, how: x * {"twice": 2}[how], excluded=(1,))
    same(scaled(V, "twice"), 2 * V)
    with pytest.raises(fg.errors.ShapeError, match="axis 'n'"):
        matvec(T, V)
    with pytest.raises(fg.errors.ShapeError, match="do not broadcast"):
        add(V, M)
    with pytest.raises(fg.errors.ArgumentError, match="signature"):
        np.vectorize(lambda x: x, signature="n->n")


def test_apply_along_axis_puts_the_new_axes_in_place_of_the_old():
    for axis in (0, 1, -1):
        same(np.apply_along_axis(lambda v: v.sum(), axis, T), numpy.apply_along_axis(numpy.sum, axis, T), 1e-5)
        outer = lambda v: v[:, None] * v
        same(np.apply_along_axis(outer, axis, T), numpy.apply_along_axis(outer, axis, T))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: np.reshape(M, (5, -1)), "ShapeError", "divide the number of elements"),
        (lambda: np.reshape(M, (5, 2)), "ShapeError", "12 elements"),
        (lambda: np.reshape(M, (2.0, 6)), "ArgumentTypeError", "must be an integer"),
        (lambda: np.transpose(M, (0, 0)), "ShapeError", "same"),
        (lambda: np.swapaxes(M, 0, 2), "ShapeError", "axis 2"),
        (lambda: np.squeeze(M, 0), "ShapeError", "length is not 1"),
        (lambda: np.broadcast_to(M, (3, 5)), "ShapeError", "cannot be broadcast"),
        (lambda: np.concatenate([M, V]), "ShapeError", "must be equal"),
        (lambda: np.concatenate([S, S]), "ShapeError", "fg.numpy.stack"),
        (lambda: np.concatenate([]), "ArgumentError", "at least one"),
        (lambda: np.stack([M, V]), "ShapeError", "one shape"),
        (lambda: np.split(V, 2), "ShapeError", "array_split"),
        (lambda: np.repeat(V, [1, 2]), "ShapeError", "one for each"),
        (lambda: np.block([[V], V]), "ArgumentError", "equally deep"),
        (lambda: np.searchsorted(M, 1.0), "ShapeError", "vector"),
        (lambda: np.delete(V, 9), "OutOfBoundsError", "does not have"),
        (lambda: np.insert(V, 9, 1.0), "OutOfBoundsError", "place 9"),
    ],
)
def test_errors_say_what_does_not_fit(call, error, words):
    with pytest.raises(getattr(fg.errors, error), match=words):
        call()


# Methods


def test_methods_are_the_functions():
    x = fg.array(M)
    same(x.T, M.T)
    same(fg.array(T).mT, T.swapaxes(1, 2))
    same(x.reshape(2, 6), M.reshape(2, 6))
    same(x.reshape((2, -1)), M.reshape(2, 6))
    same(x.reshape(-1), M.reshape(-1))
    same(x.transpose(), M.T)
    same(fg.array(T).transpose(2, 0, 1), T.transpose(2, 0, 1))
    same(fg.array(T).transpose((2, 0, 1)), T.transpose(2, 0, 1))
    for name, arguments in [
        ("sum", (1,)), ("prod", ()), ("mean", (0,)), ("var", ()), ("std", (1,)), ("max", ()), ("min", (0,)),
        ("ptp", ()), ("cumsum", (1,)), ("cumprod", (0,)), ("argmax", (1,)), ("argmin", ()), ("round", (1,)),
        ("clip", (-1, 1)), ("ravel", ()), ("flatten", ()), ("swapaxes", (0, 1)), ("take", ([2, 0], 1)),
        ("repeat", (2, 0)),
        ("diagonal", (1,)), ("trace", ()), ("squeeze", ()), ("conj", ()), ("nonzero", ()), ("argsort", (0,)),
        ("dot", (M.T,)),
    ]:  # fmt: skip
        expected = numpy.ptp(M) if name == "ptp" else getattr(M, name)(*arguments)
        same(getattr(x, name)(*arguments), expected, 1e-5)
    same((x > 0).any(), (M > 0).any())
    same((x > 0).all(axis=0), (M > 0).all(axis=0))
    same(x.sort(axis=0), numpy.sort(M, 0))
    z = fg.array(M + 1j * M)
    same(z.real, M)
    same(z.imag, M)
    same(x.imag, 0 * M)


def test_astype_gives_the_array_itself_where_nothing_changes():
    x = fg.array(M)
    assert x.astype(x.dtype) is x
    assert x.astype("float32") is x
    assert x.copy() is x
    assert x.astype(fg.float64).dtype == numpy.float64
    same(x.astype(int), M.astype(numpy.int32))
    weak = fg.jit(lambda x: x)(1.0)
    assert not weak.astype(weak.dtype).weak_type


def test_view_reads_the_same_bytes():
    same(fg.array(M).view(fg.int32), M.view(numpy.int32))
    with pytest.raises(fg.errors.DtypeError, match="astype"):
        fg.array(M).view(fg.int8)


def test_arrays_know_their_namespace_and_device():
    x = fg.array(M)
    assert x.__array_namespace__() is fg.numpy
    assert x.to_device(x.device) is x
