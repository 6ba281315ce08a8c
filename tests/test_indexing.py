"""Indexing against NumPy: reading x[...] with every kind of index, and writing with x.at[...]."""

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import funcgrad as fg
import funcgrad.numpy as np

quick = settings(max_examples=120, deadline=None)


def ramp(shape, dtype=numpy.float32):
    """Distinct numbers, none of them zero."""
    return (numpy.arange(numpy.prod(shape, dtype=int), dtype=dtype) + 1).reshape(shape)


@st.composite
def index_arrays(draw, length, base):
    """An integer array that is in range for an axis, of a shape that broadcasts to `base`."""
    shape = draw(st.sampled_from([base, base[1:], tuple(1 for _ in base), ()])) if length else (*base[:-1], 0)
    count = int(numpy.prod(shape, dtype=int))
    values = draw(st.lists(st.integers(-length, max(length - 1, 0)), min_size=count, max_size=count)) if count else []
    dtype = draw(st.sampled_from([numpy.int32, numpy.int64, numpy.int8]))
    return numpy.array(values, dtype).reshape(shape)


@st.composite
def slices(draw, length):
    bound = st.none() | st.integers(-length - 2, length + 2)
    return slice(draw(bound), draw(bound), draw(st.sampled_from([None, 1, 2, 3, -1, -2])))


@st.composite
def shapes_and_indices(draw, arrays=True):
    """A shape, and an index of any kind that may stand in x[...] for an array of that shape."""
    shape = tuple(draw(st.lists(st.sampled_from([1, 2, 3, 4, 0] if draw(st.booleans()) else [2, 3]), max_size=4)))
    base = draw(st.sampled_from([(2,), (3, 2), (1,), (2, 1)]))
    items, axis = [], 0
    stop = draw(st.integers(0, len(shape)))
    has_ellipsis = False
    while axis < len(shape):
        kind = draw(st.integers(0, 9))
        length = shape[axis]
        if kind == 0:
            items.append(None)
            continue
        if kind == 1 and not has_ellipsis:
            has_ellipsis = True
            items.append(Ellipsis)
            axis += draw(st.integers(0, len(shape) - axis))
            stop = len(shape)  # what follows an ellipsis stands at the end
            continue
        if axis >= stop:
            break
        if kind in (2, 3) and length:
            items.append(draw(st.integers(-length, length - 1)))
        elif kind in (4, 5, 6) and arrays:
            found = draw(index_arrays(length, base))
            items.append(found.tolist() if draw(st.integers(0, 3)) == 0 and found.ndim and found.size else found)
        elif kind == 7 and arrays:
            ndim = draw(st.integers(1, min(2, len(shape) - axis)))
            covered = shape[axis : axis + ndim]
            count = int(numpy.prod(covered, dtype=int))
            mask = draw(st.lists(st.booleans(), min_size=count, max_size=count))
            items.append(numpy.array(mask, bool).reshape(covered))
            axis += ndim - 1
        elif kind == 8 and arrays and draw(st.integers(0, 3)) == 0:
            items.append(draw(st.booleans()))
            continue
        else:
            items.append(draw(slices(length)))
        axis += 1
    if len(items) == 1 and draw(st.booleans()):
        return shape, items[0]
    return shape, tuple(items)


def expected_of(compute):
    """What NumPy gives, or None where it refuses the index."""
    try:
        return compute()
    except (IndexError, ValueError):
        return None


def same(actual, expected):
    actual, expected = numpy.asarray(actual), numpy.asarray(expected)
    assert actual.dtype == expected.dtype
    numpy.testing.assert_array_equal(actual, expected)
    assert actual.shape == expected.shape  # assert_array_equal would let a scalar pass for an array


def as_tuple(index):
    return index if isinstance(index, tuple) else (index,)


def with_arrays(index, convert):
    """The index with its integer arrays replaced."""
    items = tuple(
        convert(item) if isinstance(item, numpy.ndarray) and item.dtype.kind == "i" else item
        for item in as_tuple(index)
    )
    return items if isinstance(index, tuple) else items[0]


def array_items(index):
    return [item for item in as_tuple(index) if isinstance(item, numpy.ndarray) and item.dtype.kind == "i"]


def without_arrays(index, arrays):
    """The index with its integer arrays taken from `arrays`, in order."""
    remaining = iter(arrays)
    return with_arrays(index, lambda _: next(remaining))


# Reading


@settings(max_examples=600, deadline=None)
@given(shapes_and_indices())
def test_reading_gives_what_numpy_gives(case):
    shape, index = case
    x = ramp(shape)
    expected = expected_of(lambda: x[index])
    if expected is None:
        with pytest.raises(fg.errors.FuncgradError):
            fg.array(x)[index]
    else:
        same(fg.array(x)[index], expected)


@quick
@given(shapes_and_indices())
def test_reading_with_our_own_arrays_as_indices(case):
    shape, index = case
    x = ramp(shape)
    expected = expected_of(lambda: x[index])
    if expected is not None:
        same(fg.array(x)[with_arrays(index, fg.array)], expected)


@settings(max_examples=300, deadline=None)
@given(shapes_and_indices())
def test_reading_under_jit_with_traced_index_arrays(case):
    shape, index = case
    x = ramp(shape)
    expected = expected_of(lambda: x[index])
    if expected is not None:
        read = fg.jit(lambda x, arrays: x[without_arrays(index, arrays)])
        same(read(x, [fg.array(item) for item in array_items(index)]), expected)


@quick
@given(shapes_and_indices())
def test_reading_under_vmap(case):
    shape, index = case
    x = numpy.stack([ramp(shape), -ramp(shape)])
    expected = expected_of(lambda: numpy.stack([x[0][index], x[1][index]]))
    if expected is not None:
        same(fg.vmap(lambda x: x[index])(x), expected)


@quick
@given(shapes_and_indices())
def test_reading_under_vmap_with_indices_that_differ_from_example_to_example(case):
    shape, index = case
    x = ramp(shape)
    pairs = [numpy.stack([item, -1 - item]).astype(numpy.int32) for item in array_items(index)]
    expected = expected_of(lambda: numpy.stack([x[without_arrays(index, [p[k] for p in pairs])] for k in range(2)]))
    if expected is not None and pairs:
        same(fg.vmap(lambda arrays: fg.array(x)[without_arrays(index, arrays)])(pairs), expected)


@quick
@given(shapes_and_indices())
def test_gradient_of_reading_adds_up_what_was_read(case):
    shape, index = case
    x = ramp(shape)
    picked = expected_of(lambda: x[index])
    if picked is not None:
        weights = ramp(picked.shape)
        expected = numpy.zeros_like(x)
        numpy.add.at(expected, index, weights)
        same(fg.grad(lambda x: (x[index] * weights).sum())(x), expected)


def test_a_traced_integer_removes_the_axis():
    x = ramp((4, 3))
    same(fg.jit(lambda x, i: x[i])(x, 2), x[2])
    same(fg.jit(lambda x, i: x[:, i])(x, -1), x[:, -1])
    same(fg.vmap(lambda i: fg.array(x)[i, 1:])(numpy.arange(4)), x[:, 1:])


def test_a_list_may_hold_traced_integers():
    x = ramp((4,))
    same(fg.jit(lambda i, j: fg.array(x)[[i, j]])(1, -1), x[[1, -1]])


def test_eager_basic_indexing_copies_nothing():
    x = np.zeros((1000, 10))
    assert numpy.shares_memory(numpy.asarray(x), numpy.asarray(x[::2, 1:]))


def test_iteration_gives_subarrays():
    x = ramp((3, 2))
    for row, expected in zip(fg.array(x), x, strict=True):
        same(row, expected)
    a, b = fg.jit(lambda x: tuple(x))(fg.array([1.0, 2.0]))
    assert (a.item(), b.item()) == (1.0, 2.0)
    with pytest.raises(fg.errors.ArgumentTypeError, match=r"item\(\)"):
        iter(fg.array(1.0))


# What is refused, and how


@pytest.mark.parametrize("index", [3, -4, (0, 2), (slice(None), -3), [0, 3]])
def test_a_python_integer_out_of_range_raises(index):
    x = np.zeros((3, 2))
    for use in (lambda: x[index], lambda: x.at[index].set(1), lambda: fg.jit(lambda x: x[index])(x)):
        with pytest.raises(fg.errors.OutOfBoundsError, match="out of range for axis"):
            use()


def test_an_index_array_out_of_range_is_clipped_when_reading_and_dropped_when_writing():
    x = fg.array([1.0, 2.0, 3.0])
    far = fg.array([5, -9, 1])
    same(x[far], numpy.float32([3, 1, 2]))
    same(x.at[far].set(0.0), numpy.float32([1, 0, 3]))
    same(fg.jit(lambda x, i: x[i])(x, far), numpy.float32([3, 1, 2]))


def test_an_unsigned_or_narrow_index_reaches_all_of_a_long_axis():
    x = np.arange(300)
    assert x[fg.array([-1], dtype=fg.int8)].tolist() == [299]
    assert fg.jit(lambda i: x[i])(fg.array([-1], dtype=fg.int8)).tolist() == [299]
    assert x[numpy.array([255], numpy.uint8)].tolist() == [255]
    assert x[numpy.array([2**31 + 5], numpy.uint32)].tolist() == [299]


def test_a_mask_must_be_known_to_select():
    x = fg.array([1.0, 2.0])
    with pytest.raises(fg.errors.TracedValueError, match=r"fg\.numpy\.where.*x\.at\[mask\]\.set"):
        fg.jit(lambda x: x[x > 1])(x)
    with pytest.raises(fg.errors.TracedValueError, match="different from example to example"):
        fg.vmap(lambda x: x[x > 1])(x[None])


@pytest.mark.parametrize(
    ("index", "error", "words"),
    [
        (1.5, "IndexTypeError", "not by float32"),
        ("a", "IndexTypeError", "cannot index an array"),
        ((0, 0, 0), "OutOfBoundsError", "3 axes"),
        ((Ellipsis, Ellipsis), "IndexTypeError", "only one ellipsis"),
        (numpy.array([1.0]), "IndexTypeError", "astype"),
        (numpy.array([True, False, True]), "ShapeError", "mask of shape"),
        (([0, 1], [0, 1, 0]), "ShapeError", "do not broadcast"),
        (slice(None, None, 0), "IndexTypeError", "step"),
        (slice("a", None), "IndexTypeError", "integers or None"),
        ([slice(None)], "IndexTypeError", "use a tuple"),
    ],
)
def test_what_cannot_index_says_why(index, error, words):
    with pytest.raises(getattr(fg.errors, error), match=words):
        np.zeros((2, 2))[index]


def test_a_slice_with_traced_bounds_points_to_dynamic_slice():
    with pytest.raises(fg.errors.TracedValueError, match="dynamic_slice_in_dim"):
        fg.jit(lambda x, n: x[:n])(np.zeros(3), 2)


# Writing

UPDATES = [("add", numpy.add), ("multiply", numpy.multiply), ("min", numpy.minimum), ("max", numpy.maximum)]


@settings(max_examples=150, deadline=None)
@given(shapes_and_indices(), st.sampled_from(UPDATES), st.booleans())
def test_updates_do_what_the_methods_at_of_ufuncs_do(case, update, scalar):
    shape, index = case
    name, ufunc = update
    x = ramp(shape)
    picked = expected_of(lambda: x[index])
    if picked is not None:
        values = numpy.float32(3) if scalar else ramp(picked.shape) / 4
        expected = x.copy()
        ufunc.at(expected, index, values)
        same(getattr(fg.array(x).at[index], name)(values), expected)


@settings(max_examples=150, deadline=None)
@given(shapes_and_indices(), st.booleans())
def test_set_does_what_assignment_does(case, scalar):
    shape, index = case
    x = ramp(shape)
    places = expected_of(lambda: numpy.arange(x.size).reshape(shape)[index])
    if places is None or (not scalar and numpy.unique(places).size != places.size):
        return  # of several values for one place, any may remain
    values = numpy.float32(-1) if scalar else -ramp(places.shape)
    expected = x.copy()
    expected[index] = values
    same(fg.array(x).at[index].set(values), expected)
    same(x, ramp(shape))


@quick
@given(shapes_and_indices(), st.sampled_from(UPDATES))
def test_updates_under_jit_with_traced_index_arrays(case, update):
    shape, index = case
    name, ufunc = update
    x = ramp(shape)
    picked = expected_of(lambda: x[index])
    if picked is not None:
        values, expected = ramp(picked.shape), x.copy()
        ufunc.at(expected, index, values)
        run = fg.jit(lambda x, v, arrays: getattr(x.at[without_arrays(index, arrays)], name)(v))
        same(run(x, values, [fg.array(item) for item in array_items(index)]), expected)


@quick
@given(shapes_and_indices(), st.sampled_from(UPDATES))
def test_updates_under_vmap(case, update):
    shape, index = case
    name, ufunc = update
    x = numpy.stack([ramp(shape), -ramp(shape)])
    picked = expected_of(lambda: x[0][index])
    if picked is not None:
        values, expected = numpy.stack([ramp(picked.shape), 2 * ramp(picked.shape)]), x.copy()
        for k in range(2):
            ufunc.at(expected[k, ...], index, values[k])
        same(fg.vmap(lambda x, v: getattr(x.at[index], name)(v))(x, values), expected)


@quick
@given(shapes_and_indices())
def test_gradients_of_set_and_add(case):
    shape, index = case
    x = ramp(shape)
    places = expected_of(lambda: numpy.arange(x.size).reshape(shape)[index])
    if places is None or numpy.unique(places).size != places.size:
        return
    weights, values = ramp(shape) * numpy.float32(0.5), ramp(places.shape)
    for name in ("set", "add"):

        def goal(x, v, name=name):
            return (getattr(x.at[index], name)(v) * weights).sum()

        by_x, by_v = fg.grad(goal, argnums=(0, 1))(x, values)
        kept = numpy.array(weights)
        if name == "set":
            kept[index] = 0
        same(by_x, kept)
        same(by_v, weights[index])


def test_the_other_updates():
    x = fg.array([2.0, 4.0, 8.0])
    same(x.at[1].mul(3.0), numpy.float32([2, 12, 8]))
    same(x.at[1].subtract(3.0), numpy.float32([2, 1, 8]))
    same(x.at[fg.array([0, 0])].divide(2.0), numpy.float32([0.5, 4, 8]))
    same(x.at[:2].power(2.0), numpy.float32([4, 16, 8]))
    same(x.at[1:].apply(np.sqrt), numpy.float32([2, 2, 8**0.5]))
    same(x.at[::2].get(), numpy.float32([2, 8]))


def test_values_broadcast_and_take_the_dtype_of_the_array():
    x = np.zeros((2, 3), fg.int32)
    same(x.at[:, 1:].set(fg.array([1.7, 2.2])), numpy.int32([[0, 1, 2], [0, 1, 2]]))
    same(x.at[0].set([[7, 8, 9]]), numpy.int32([[7, 8, 9], [0, 0, 0]]))
    with pytest.raises(fg.errors.ShapeError, match="do not broadcast"):
        x.at[0].set(fg.array([1, 2]))


def test_bools_add_by_or_and_multiply_by_and():
    x = fg.array([True, False, True])
    same(x.at[:2].add(True), numpy.array([True, True, True]))
    same(x.at[fg.array([0, 0])].add(fg.array([False, True])), numpy.array([True, False, True]))
    same(x.at[fg.array([0, 0])].multiply(fg.array([False, True])), numpy.array([False, False, True]))


def test_a_traced_mask_can_be_written_to():
    x = ramp((3, 2))
    mask = numpy.array([True, False, True])
    expected = x.copy()
    expected[mask] = [5.0, 6.0]
    same(fg.jit(lambda x, m: x.at[m].set(fg.array([5.0, 6.0])))(x, mask), expected)
    same(fg.jit(lambda x: x.at[x > 2].multiply(10.0))(x), numpy.where(x > 2, 10 * x, x))
    same(fg.jit(lambda x: x.at[x > 2].apply(np.negative))(x), numpy.where(x > 2, -x, x))
    same(fg.vmap(lambda x: x.at[..., x > 2].set(0.0))(x), numpy.where(x > 2, 0, x).astype(numpy.float32))
    with pytest.raises(fg.errors.TracedValueError, match="mask"):
        fg.jit(lambda x: x.at[x > 2].set(np.zeros(4)))(x)


def test_modes_say_what_happens_out_of_range():
    x = fg.array([1.0, 2.0, 3.0])
    far = fg.array([1, 7])
    same(x.at[far].get(), numpy.float32([2, 3]))
    same(x.at[far].get(mode="clip"), numpy.float32([2, 3]))
    same(x.at[far].get(mode="fill"), numpy.float32([2, numpy.nan]))
    same(x.at[far].get(mode="fill", fill_value=-1), numpy.float32([2, -1]))
    same(x.at[7].get(mode="fill", fill_value=0), numpy.float32(0))
    same(np.arange(3).at[far].get(mode="drop"), numpy.int32([1, -(2**31)]))
    same(x.at[far].add(1.0, mode="clip"), numpy.float32([1, 3, 4]))
    same(x.at[far].add(1.0, mode="drop"), numpy.float32([1, 3, 3]))
    same(x.at[9].set(5.0, mode="drop"), numpy.float32([1, 2, 3]))
    same(x.at[far[:1]].set(5.0, mode="promise_in_bounds", unique_indices=True), numpy.float32([1, 5, 3]))
    with pytest.raises(fg.errors.ArgumentError, match="no mode 'raise'"):
        x.at[far].set(0.0, mode="raise")


def test_arrays_themselves_do_not_change():
    x = np.zeros(3)
    with pytest.raises(fg.errors.ImmutableArrayError, match=r"x\.at\[i\]\.set\(v\)"):
        x[0] = 1.0


# Functions that take or replace elements by number


def test_take_and_its_modes():
    x = ramp((3, 4))
    index = numpy.array([[0, -1], [2, 1]])
    same(np.take(x, index, axis=1), numpy.take(x, index, axis=1))
    same(np.take(x, index), numpy.take(x, index))
    same(np.take(x, fg.array([99, -1]), mode="clip"), numpy.take(x, [99, -1], mode="clip"))
    same(np.take(x, fg.array([14]), mode="wrap"), numpy.take(x, [14], mode="wrap"))
    assert numpy.isnan(np.take(x, 99).item())
    assert np.take(x, 99, fill_value=7.0).item() == 7.0


@quick
@given(st.integers(0, 2), st.integers(0, 99))
def test_take_and_put_along_axis(axis, seed):
    random = numpy.random.default_rng(seed)
    x = random.normal(size=(3, 4, 2)).astype(numpy.float32)
    order = x.argsort(axis)
    same(np.take_along_axis(x, order, axis), numpy.take_along_axis(x, order, axis))
    one = order.take([0], axis)
    same(np.take_along_axis(x, one, axis), numpy.take_along_axis(x, one, axis))
    expected = x.copy()
    numpy.put_along_axis(expected, one, 5.0, axis)
    same(np.put_along_axis(x, one, 5.0, axis, inplace=False), expected)
    row, numbers = x[:1, :1], order[:, :, :1] % 2
    same(np.take_along_axis(row, numbers, 2), numpy.take_along_axis(row, numbers, 2))


def test_put_place_and_fill_diagonal_return_copies():
    x = ramp((4, 3))
    for ours, theirs, arguments in [
        (np.put, numpy.put, ([0, 5, -1], [1.0, 2.0])),
        (np.place, numpy.place, (x > 4, [1.0, 2.0, 3.0])),
        (np.fill_diagonal, numpy.fill_diagonal, (7.0,)),
        (np.fill_diagonal, numpy.fill_diagonal, ([7.0, 8.0], True)),
    ]:
        expected = x.copy()
        theirs(expected, *arguments)
        same(ours(x, *arguments, inplace=False), expected)
        with pytest.raises(fg.errors.ArgumentError, match="immutable"):
            ours(x, *arguments, inplace=True)


def test_choose_select_compress_extract():
    choices = [ramp((3,)), -ramp((3,)), numpy.zeros(3, numpy.float32)]
    same(np.choose([2, 0, 1], choices), numpy.choose([2, 0, 1], choices))
    same(np.choose([5, -1, 1], choices, mode="wrap"), numpy.choose([5, -1, 1], choices, mode="wrap"))
    same(np.choose([5, -1, 1], choices, mode="clip"), numpy.choose([5, -1, 1], choices, mode="clip"))
    with pytest.raises(fg.errors.OutOfBoundsError):
        np.choose([3, 0, 0], choices)
    x = ramp((2, 3))
    same(np.select([x > 4, x > 2], [x, -x], 9.0), numpy.select([x > 4, x > 2], [x, -x], numpy.float32(9)))
    same(np.compress([True, False, True], x, axis=1), numpy.compress([True, False, True], x, axis=1))
    same(np.compress([False, True], x), numpy.compress([False, True], x))
    same(np.extract(x > 2, x), numpy.extract(x > 2, x))
    same(fg.jit(lambda x: np.extract(x > 4, x, size=3))(x), numpy.float32([5, 6, 0]))


def test_nonzero_and_its_relatives():
    x = numpy.array([[0, 3, 0], [5, 0, 7]], numpy.int32)
    for found, expected in zip(np.nonzero(x), numpy.nonzero(x), strict=True):
        same(found, expected.astype(numpy.int32))
    same(np.flatnonzero(x), numpy.flatnonzero(x).astype(numpy.int32))
    same(np.argwhere(x), numpy.argwhere(x).astype(numpy.int32))
    same(np.where(x)[1], numpy.where(x)[1].astype(numpy.int32))
    with pytest.raises(fg.errors.TracedValueError, match="size=n"):
        fg.jit(np.nonzero)(x)


@pytest.mark.parametrize("size", [0, 2, 3, 5])
def test_nonzero_with_a_size_works_under_jit_and_vmap(size):
    x = numpy.array([[0, 3, 0], [5, 0, 7]], numpy.int32)
    rows, columns = (numpy.append(i, [-1] * 5)[:size].astype(numpy.int32) for i in numpy.nonzero(x))
    found = fg.jit(lambda x: np.nonzero(x, size=size, fill_value=-1))(x)
    same(found[0], rows)
    same(found[1], columns)
    same(np.flatnonzero(x, size=size)[:3], numpy.flatnonzero(x)[: min(size, 3)].astype(numpy.int32))
    each = fg.vmap(lambda row: np.flatnonzero(row, size=2, fill_value=9))(x)
    same(each, numpy.int32([[1, 9], [0, 2]]))


def test_index_arithmetic():
    same(np.ravel_multi_index(([0, 1], [2, 0]), (2, 3)), numpy.int32([2, 3]))
    same(np.ravel_multi_index(([0, 1], [2, 0]), (2, 3), order="F"), numpy.int32([4, 1]))
    same(np.ravel_multi_index(([5], [-1]), (2, 3), mode=("clip", "wrap")), numpy.int32([5]))
    for found, expected in zip(np.unravel_index([4, 0], (2, 3)), numpy.unravel_index([4, 0], (2, 3)), strict=True):
        same(found, expected.astype(numpy.int32))
    for name, arguments in [("tril_indices", (3, 1)), ("triu_indices", (3, -1, 4)), ("diag_indices", (3,))]:
        for found, expected in zip(getattr(np, name)(*arguments), getattr(numpy, name)(*arguments), strict=True):
            same(found, expected.astype(numpy.int32))
    x = ramp((3, 4))
    same(fg.array(x)[np.ix_([0, 2], numpy.array([True, False, False, True]))], x[numpy.ix_([0, 2], [0, 3])])
    same(np.tril_indices_from(x)[1], numpy.tril_indices_from(x)[1].astype(numpy.int32))


@quick
@given(st.integers(-3, 3), st.sampled_from([(0, 1), (1, 0), (0, 2), (-1, 1)]))
def test_diagonal_and_its_gradient(offset, axes):
    x = ramp((3, 4, 2))
    expected = numpy.diagonal(x, offset, *axes)
    same(np.diagonal(x, offset, *axes), expected)
    gradient = fg.grad(lambda x: np.diagonal(x, offset, *axes).sum())(x)
    assert gradient.sum().item() == expected.size
