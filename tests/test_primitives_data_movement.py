"""Primitives that move, index, reduce and sort, and `fg.lax`: what the generic checks of every rule do not see."""

import numpy
import pytest

import funcgrad as fg
from funcgrad import dtypes
from funcgrad.errors import ArgumentError, DtypeError, OutOfBoundsError, ShapeError
from funcgrad.primitives import indexing, movement, reductions, sorting
from funcgrad.testing import check_grads

SCATTERS = [
    indexing.scatter_set,
    indexing.scatter_add,
    indexing.scatter_mul,
    indexing.scatter_min,
    indexing.scatter_max,
]


def array(values, dtype=numpy.float64):
    return fg.array(numpy.asarray(values, dtype))


def rows_of(x, *indices, mode):
    return indexing.gather(x, *indices, axes=tuple(range(len(indices))), mode=mode)


# gather


def test_gather_puts_the_axes_of_the_indices_first():
    x = numpy.arange(24).reshape(2, 3, 4)
    i, j = numpy.array([[0, 1], [1, 1], [0, 0]]), numpy.array([[3, 0], [1, 2], [2, 2]])

    found = indexing.gather(fg.array(x), fg.array(i), fg.array(j), axes=(0, 2), mode="clip")

    assert found.shape == (3, 2, 3)
    for place in numpy.ndindex(3, 2):
        numpy.testing.assert_array_equal(found[place], x[i[place], :, j[place]])


def test_gather_clips_indices_that_are_out_of_bounds():
    found = rows_of(array([10, 20, 30]), fg.array([-5, 1, 99]), mode="clip")

    assert found.tolist() == [10, 20, 30]


@pytest.mark.parametrize(
    ("dtype", "missing"),
    [("int8", -128), ("uint16", 65535), ("bool", True)],
)
def test_gather_fills_with_a_value_that_shows(dtype, missing):
    found = rows_of(fg.numpy.zeros(3, dtype), fg.array([0, 3, -1]), mode="fill")

    assert found.tolist() == [0, missing, missing]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "complex64"])
def test_gather_fills_with_nan(dtype):
    found = rows_of(fg.numpy.zeros((3, 2), dtype), fg.array([0, 3]), mode="fill")

    assert fg.numpy.isnan(found).tolist() == [[False, False], [True, True]]


def test_gather_fills_from_an_empty_array():
    assert numpy.isnan(rows_of(array(numpy.zeros((0, 2))), fg.array([0]), mode="fill")).all()


def test_gather_from_an_empty_axis_is_an_error_unless_nothing_is_asked_for():
    empty = array(numpy.zeros((0, 2)))

    with pytest.raises(ShapeError, match="which has none"):
        rows_of(empty, fg.array([0]), mode="clip")
    assert rows_of(empty, fg.array(numpy.zeros(0, int)), mode="clip").shape == (0, 2)


def test_filled_elements_have_no_derivative():
    gradient = fg.grad(lambda x: fg.numpy.nansum(rows_of(x, fg.array([0, 0, 7]), mode="fill")))(array([1, 2]))

    assert gradient.tolist() == [2, 0]


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "uint64"])
def test_indices_of_any_integer_dtype_reach_far(dtype):
    x, index = array(numpy.arange(300.0)), fg.array(numpy.array([3, 100], dtype))

    assert rows_of(x, index, mode="clip").tolist() == [3, 100]
    assert rows_of(x[:, None], index, fg.numpy.zeros_like(index), mode="fill").tolist() == [3, 100]


def test_an_index_beyond_int64_is_out_of_bounds():
    index = fg.array(numpy.array([2**63 + 1], numpy.uint64))

    assert numpy.isnan(rows_of(array([1.0]), index, mode="fill")).all()
    assert rows_of(array([1.0, 2.0]), index, mode="clip").tolist() == [2.0]


def test_gather_refuses_what_does_not_fit():
    x, i = array(numpy.zeros((2, 3))), fg.array([0, 1])

    with pytest.raises(DtypeError, match="integer indices"):
        rows_of(x, array([0.0]), mode="clip")
    with pytest.raises(ShapeError, match="index arrays of shapes"):
        rows_of(x, i, fg.array([0]), mode="clip")
    with pytest.raises(ShapeError, match="for 2 axes"):
        indexing.gather(x, i, axes=(0, 1), mode="clip")
    with pytest.raises(ShapeError, match="axes"):
        indexing.gather(x, i, i, axes=(1, 1), mode="clip")
    with pytest.raises(ArgumentError, match="no mode 'wrap'"):
        rows_of(x, i, mode="wrap")


# Scatters


@pytest.mark.parametrize(
    ("scatter", "expected"),
    [
        (indexing.scatter_set, [10, 4, 30]),
        (indexing.scatter_add, [10, 29, 30]),
        (indexing.scatter_mul, [10, 20 * 5 * 4, 30]),
        (indexing.scatter_min, [10, 4, 30]),
        (indexing.scatter_max, [10, 20, 30]),
    ],
    ids=repr,
)
def test_scatters_take_in_every_update_of_a_position_and_set_keeps_the_last(scatter, expected):
    result = scatter(array([10, 20, 30]), array([5, 4]), fg.array([1, 1]), axes=(0,), mode="drop")

    assert result.tolist() == expected


@pytest.mark.parametrize("scatter", SCATTERS, ids=repr)
def test_scatters_drop_or_clip_indices_that_are_out_of_bounds(scatter):
    x, updates, outside = array([10, 20]), array([5.0]), fg.array([7])

    assert scatter(x, updates, outside, axes=(0,), mode="drop").tolist() == [10, 20]
    assert (
        scatter(x, updates, outside, axes=(0,), mode="clip").tolist()
        == scatter(x, updates, fg.array([1]), axes=(0,), mode="drop").tolist()
    )


@pytest.mark.parametrize("scatter", SCATTERS, ids=repr)
def test_scatters_leave_their_operand_as_it_was(scatter):
    x = array([[1, 2], [3, 4]])

    scatter(x, array([[5, 6]]), fg.array([0]), axes=(1,), mode="drop")

    assert x.tolist() == [[1, 2], [3, 4]]


def test_scatter_set_gives_the_gradient_to_the_update_that_stands():
    x, index = array([1, 2, 3]), fg.array([1, 1, 9])

    def f(x, updates):
        result = indexing.scatter_set(x, updates, index, axes=(0,), mode="drop")
        return (result * array([1, 10, 100])).sum()

    of_x, of_updates = fg.grad(f, (0, 1))(x, array([7, 8, 9]))

    assert of_x.tolist() == [1, 0, 100]
    assert of_updates.tolist() == [0, 10, 0]


@pytest.mark.parametrize("zeros", [[], [0], [0, 2], [0, 2, 3]])
@pytest.mark.parametrize("mode", ["drop", "clip"])
def test_scatter_mul_is_differentiated_with_duplicates_and_zeros(zeros, mode):
    updates = numpy.array([2.0, 0.5, -1.5, 3.0, 1.25, -2.0])
    updates[zeros] = 0
    index = fg.array([1, 0, 1, 1, 5, -1])

    def f(x, updates):
        return indexing.scatter_mul(x, updates, index, axes=(0,), mode=mode)

    check_grads(f, (array([1.5, -2.0, 0.0]), array(updates)), order=2)


def test_scatter_max_shares_the_gradient_between_ties():
    def f(x, updates):
        return indexing.scatter_max(x, updates, fg.array([0, 0, 1]), axes=(0,), mode="drop").sum()

    of_x, of_updates = fg.grad(f, (0, 1))(array([2, 5, 1]), array([2, 2, 3]))

    numpy.testing.assert_allclose(of_x, [1 / 3, 1, 1])
    numpy.testing.assert_allclose(of_updates, [1 / 3, 1 / 3, 0])


def test_scatter_min_and_max_leave_nan_and_untouched_places_alone():
    x, updates, index = array([numpy.nan, 1, 2]), array([0.0, numpy.nan]), fg.array([0, 1])

    result = indexing.scatter_max(x, updates, index, axes=(0,), mode="drop")
    gradient = fg.grad(lambda x: indexing.scatter_max(x, updates, index, axes=(0,), mode="drop").sum())(x)

    numpy.testing.assert_array_equal(result, [numpy.nan, numpy.nan, 2])
    assert gradient.tolist() == [1, 0, 1]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_adds_up_in_single_precision(dtype):
    ones, index = fg.numpy.ones(1000, dtype), fg.numpy.zeros(1000, fg.int32)

    total = indexing.scatter_add(fg.numpy.zeros(1, dtype), ones, index, axes=(0,), mode="drop")

    assert total.dtype == dtype
    assert float(total[0]) == 1000
    assert float(reductions.cumsum(ones, axis=0, reverse=False)[-1]) == 1000


def test_scatters_refuse_what_does_not_fit():
    x, index = array([1, 2]), fg.array([0])

    with pytest.raises(ShapeError, match="name elements of shape"):
        indexing.scatter_set(x, array([1, 2]), index, axes=(0,), mode="drop")
    with pytest.raises(DtypeError, match="int32 for an array of float64"):
        indexing.scatter_set(x, fg.array([1]), index, axes=(0,), mode="drop")
    with pytest.raises(DtypeError, match="a bool is none"):
        indexing.scatter_add(fg.array([True]), fg.array([True]), index, axes=(0,), mode="drop")
    with pytest.raises(ArgumentError, match="no mode 'fill'"):
        indexing.scatter_set(x, array([1]), index, axes=(0,), mode="fill")


def test_bools_have_a_maximum():
    result = indexing.scatter_max(fg.array([False, False]), fg.array([True]), fg.array([1]), axes=(0,), mode="drop")

    assert result.tolist() == [False, True]


# Moving


def test_pad_takes_away_and_puts_between():
    x = fg.array([1, 2, 3, 4])

    assert movement.pad(x, fg.array(0), config=((-1, 2, 0),)).tolist() == [2, 3, 4, 0, 0]
    assert movement.pad(x, fg.array(0), config=((-2, -1, 2),)).tolist() == [0, 2, 0, 0, 3, 0, 0]


def test_pad_refuses_to_take_away_more_than_there_is():
    with pytest.raises(ShapeError, match="more elements away"):
        movement.pad(array([1, 2]), array(0), config=((-2, -1, 0),))
    with pytest.raises(ShapeError, match="one number"):
        movement.pad(array([1, 2]), array([0]), config=((0, 0, 0),))
    with pytest.raises(DtypeError, match="padding_value"):
        movement.pad(array([1, 2]), fg.array(0), config=((0, 0, 0),))


def test_slice_refuses_to_reach_beyond_the_array():
    with pytest.raises(ShapeError, match="0 <= start <= limit <= length"):
        movement.slice_(array([1, 2]), starts=(0,), limits=(3,), strides=(1,))


@pytest.mark.parametrize("start", [-7, 0, 1, 2, 9])
def test_blocks_that_would_stick_out_are_moved(start):
    x, place = fg.array([0, 1, 2, 3]), min(max(start, 0), 2)

    assert movement.dynamic_slice(x, fg.array(start), sizes=(2,)).tolist() == [place, place + 1]
    updated = movement.dynamic_update_slice(x, fg.array([8, 9]), fg.array(start))
    assert updated.tolist() == [*range(place), 8, 9, *range(place + 2, 4)]


def test_blocks_at_different_places_of_a_batch():
    x = fg.numpy.arange(12).reshape(3, 4)
    starts = fg.array([-1, 1, 3], dtype=fg.int8)

    blocks = fg.vmap(lambda start: movement.dynamic_slice(x, fg.array(1), start, sizes=(2, 2)))(starts)

    assert blocks[:, 0].tolist() == [[4, 5], [5, 6], [6, 7]]


def test_joining_refuses_different_shapes_and_dtypes():
    with pytest.raises(ShapeError, match="along all axes but 0"):
        movement.concatenate(array([[1, 2]]), array([[1]]), axis=0)
    with pytest.raises(DtypeError, match="float64 and int32"):
        movement.concatenate(array([1]), fg.array([1]), axis=0)


def test_iota_refuses_bool():
    with pytest.raises(DtypeError, match="a bool cannot"):
        movement.iota(shape=(2,), dtype=dtypes.bool_, axis=0)


# Reductions


@pytest.mark.parametrize("zeros", [[], [1], [1, 2], [0, 1, 2, 3, 4]])
def test_products_are_differentiated_twice_with_zeros(zeros):
    x = numpy.array([2.0, -0.5, 1.5, 3.0, 1.25])
    x[zeros] = 0

    check_grads(lambda x: reductions.reduce_prod(x, axes=(0,)), (array(x),), order=2)
    check_grads(lambda x: reductions.cumprod(x, axis=0, reverse=False), (array(x),), order=2)
    check_grads(lambda x: reductions.cumprod(x, axis=0, reverse=True), (array(x),), order=2)


@pytest.mark.parametrize("reduce", [reductions.reduce_max, reductions.reduce_min], ids=repr)
def test_ties_share_the_gradient_equally(reduce):
    gradient = fg.grad(lambda x: reduce(x, axes=(0, 1)))(array([[4, 4], [4, 4]]))

    assert gradient.tolist() == [[0.25, 0.25], [0.25, 0.25]]


@pytest.mark.parametrize("reduce", [reductions.reduce_max, reductions.reduce_min], ids=repr)
def test_an_extremum_of_nothing_is_an_error(reduce):
    with pytest.raises(ShapeError, match="no elements"):
        reduce(array(numpy.zeros((2, 0))), axes=(1,))
    with pytest.raises(ShapeError, match="no elements"):
        reduce(array(numpy.zeros((0, 0))), axes=(1,))
    assert reduce(array(numpy.zeros((0, 3))), axes=(1,)).shape == (0,)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_nan_is_the_extremum(dtype):
    x = fg.array([1.0, numpy.nan, 3.0, numpy.nan], dtype=dtype)

    assert numpy.isnan(float(reductions.reduce_max(x, axes=(0,))))
    assert numpy.isnan(float(reductions.reduce_min(x, axes=(0,))))
    assert int(reductions.argmax(x, axis=0, index_dtype=dtypes.int32)) == 1
    assert int(reductions.argmin(x, axis=0, index_dtype=dtypes.int32)) == 1
    running = reductions.cummax(x, axis=0, reverse=False)
    assert fg.numpy.isnan(running).tolist() == [False, True, True, True]


def test_logic_of_nothing_has_its_neutral_element():
    nothing = fg.array(numpy.zeros(0, bool))

    assert bool(reductions.reduce_and(nothing, axes=(0,)))
    assert not bool(reductions.reduce_or(nothing, axes=(0,)))


def test_reductions_of_numbers_refuse_bools_and_logic_refuses_floats():
    flags = fg.array([True, False])

    with pytest.raises(DtypeError, match="takes numbers"):
        reductions.reduce_prod(flags, axes=(0,))
    with pytest.raises(DtypeError, match="takes numbers"):
        reductions.cumsum(flags, axis=0, reverse=False)
    with pytest.raises(DtypeError, match="bools and integers"):
        reductions.reduce_and(array([1.0]), axes=(0,))
    with pytest.raises(DtypeError, match="floating dtypes"):
        reductions.cumlogsumexp(fg.array([1]), axis=0, reverse=False)
    with pytest.raises(DtypeError, match="index_dtype is float32"):
        reductions.argmax(array([1.0]), axis=0, index_dtype=dtypes.float32)


def test_cumlogsumexp_neither_overflows_nor_minds_minus_infinity():
    x = array([-numpy.inf, 1000.0, 1001.0])

    result = reductions.cumlogsumexp(x, axis=0, reverse=False)
    gradient = fg.grad(lambda x: reductions.cumlogsumexp(x, axis=0, reverse=False)[1:].sum())(x)

    numpy.testing.assert_allclose(result, [-numpy.inf, 1000, 1001 + numpy.log1p(numpy.exp(-1))])
    weight = 1 / (1 + numpy.exp(-1))
    numpy.testing.assert_allclose(gradient, [0, 2 - weight, weight])


def test_cummax_gives_the_gradient_to_the_last_place_that_attains_it():
    gradient = fg.grad(lambda x: reductions.cummax(x, axis=0, reverse=False).sum())(array([1, 3, 2, 3]))

    assert gradient.tolist() == [1, 2, 0, 1]


# Sorting


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_nan_is_sorted_last(dtype):
    x = fg.array([2.0, numpy.nan, -1.0, numpy.inf, -numpy.inf], dtype=dtype)
    numbers = fg.numpy.arange(5)

    (alone,) = sorting.sort(x, axis=0, num_keys=1)
    _, order = sorting.sort(x, numbers, axis=0, num_keys=1)

    assert alone.tolist()[:4] == [-numpy.inf, -1, 2, numpy.inf]
    assert order.tolist() == [4, 2, 0, 3, 1]


def test_sorting_is_stable_and_later_keys_decide_between_equal_ones():
    first, second, numbers = fg.array([1, 0, 1, 0, 1]), fg.array([5, 7, 3, 7, 5]), fg.numpy.arange(5)

    results = sorting.sort(first, second, numbers, axis=0, num_keys=2)

    assert [x.tolist() for x in results] == [[0, 0, 1, 1, 1], [7, 7, 3, 5, 5], [1, 3, 2, 0, 4]]


def test_gradients_go_back_to_where_elements_came_from():
    def f(keys, values):
        keys, values = sorting.sort(keys, values, axis=1, num_keys=1)
        return (keys * array([1, 2, 3])).sum() + (values * array([10, 20, 30])).sum()

    of_keys, of_values = fg.grad(f, (0, 1))(array([[3, 1, 2]]), array([[0, 0, 0]]))

    assert of_keys.tolist() == [[3, 1, 2]]
    assert of_values.tolist() == [[30, 10, 20]]


def test_sort_refuses_what_does_not_fit():
    with pytest.raises(ShapeError, match="permuted together"):
        sorting.sort(array([1, 2]), array([1]), axis=0, num_keys=1)
    with pytest.raises(ShapeError, match="axis 0"):
        sorting.sort(array(1.0), axis=0, num_keys=1)
    with pytest.raises(ShapeError, match="keys"):
        sorting.sort(array([1.0]), axis=0, num_keys=2)


# fg.lax


def test_lax_promotes_nothing_but_python_scalars():
    x = fg.array([1.0, 2.0])

    assert fg.lax.mul(x, 2).dtype == "float32"
    with pytest.raises(DtypeError):
        fg.lax.add(x, fg.array([1, 2]))
    with pytest.raises(DtypeError):
        fg.lax.add(fg.array([1, 2]), 0.5)
    with pytest.raises(DtypeError, match="not int32"):
        fg.lax.sin(fg.array([1]))


def test_lax_counts_negative_places_from_the_end():
    x = fg.array([0, 1, 2, 3, 4])

    assert fg.lax.dynamic_slice(x, (-2,), (2,)).tolist() == [3, 4]
    assert fg.jit(lambda i: fg.lax.dynamic_slice(x, fg.array([0]) + i, (2,)))(-2).tolist() == [3, 4]
    assert fg.lax.slice_in_dim(x, -3, None, 2).tolist() == [2, 4]
    assert fg.lax.dynamic_update_index_in_dim(x, 9, -1, 0).tolist() == [0, 1, 2, 3, 9]
    with pytest.raises(OutOfBoundsError, match="index 5"):
        fg.lax.index_in_dim(x, 5)


def test_top_k_takes_nan_first_and_keeps_the_order_of_equal_elements():
    values, places = fg.lax.top_k(fg.array([3.0, numpy.nan, 5.0, 3.0, 5.0, numpy.nan]), 5)

    assert places.tolist() == [1, 5, 2, 4, 0]
    assert values.tolist()[2:] == [5, 5, 3]


def test_top_k_along_another_axis_under_vmap_and_grad():
    x = array([[1, 5], [4, 2], [3, 3]])

    values, places = fg.vmap(lambda column: fg.lax.top_k(column, 2), in_axes=1)(x)
    gradient = fg.grad(lambda x: fg.lax.top_k(x, 2, axis=0)[0].sum())(x)

    assert values.tolist() == [[4, 3], [5, 3]]
    assert places.tolist() == [[1, 2], [0, 2]]
    assert gradient.tolist() == [[0, 1], [1, 0], [1, 1]]
    with pytest.raises(ShapeError, match="smaller k"):
        fg.lax.top_k(x, 4, axis=0)


def test_round_takes_halves_away_from_zero_and_nothing_else():
    below_half = numpy.nextafter(numpy.float32(0.5), numpy.float32(0))

    assert fg.lax.round(fg.array([below_half, -0.5, 2.5, numpy.inf])).tolist() == [0, -1, 3, numpy.inf]


def test_select_n_counts_cases():
    cases = [fg.array([10, 20]), fg.array([11, 21]), fg.array([12, 22])]

    assert fg.lax.select_n(fg.array([0, 2]), *cases).tolist() == [10, 22]
    assert fg.lax.select_n(fg.array([True, False]), *cases[:2]).tolist() == [11, 20]


@pytest.mark.parametrize("shapes", [((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 2)), ((2, 3), (3, 4))])
def test_dot_of_vectors_and_matrices(shapes):
    x, y = (numpy.arange(numpy.prod(shape), dtype=numpy.float64).reshape(shape) for shape in shapes)

    numpy.testing.assert_array_equal(fg.lax.dot(fg.array(x), fg.array(y)), x @ y)


def test_dot_refuses_stacks_of_matrices():
    with pytest.raises(ShapeError, match="vectors and matrices"):
        fg.lax.dot(fg.numpy.ones((2, 2, 2)), fg.numpy.ones(2))


def test_stop_gradient_takes_pytrees():
    def f(x):
        held = fg.lax.stop_gradient({"a": x, "b": [2 * x, 3]})
        return x * held["a"] * held["b"][0]

    assert float(fg.grad(f)(3.0)) == 18.0


def test_shapes_change_and_are_checked():
    x = fg.numpy.zeros((2, 1, 3))

    assert fg.lax.squeeze(x, (1,)).shape == (2, 3)
    assert fg.lax.expand_dims(x, (0, -1)).shape == (1, 2, 1, 3, 1)
    assert fg.lax.collapse(x, 1).shape == (2, 3)
    assert fg.lax.broadcast_in_dim(x, (2, 4, 3), (0, 1, 2)).shape == (2, 4, 3)
    with pytest.raises(ShapeError, match="length 2"):
        fg.lax.squeeze(x, (0,))
    with pytest.raises(ShapeError, match="add up"):
        fg.lax.split(x, (1, 2), axis=0)
    with pytest.raises(ShapeError, match="no axes"):
        fg.lax.collapse(x, 2, 1)


@pytest.mark.parametrize(
    "dtype", ["float32", "float16", "bfloat16", "int32", "int8", "uint8", "uint32", "bool", "int64"]
)
@pytest.mark.parametrize("axis", [0, 1])
def test_many_elements_are_sorted_like_few(dtype, axis):
    random = numpy.random.default_rng(0)
    x = random.choice([-numpy.inf, -2, -0.0, 0.0, 1, 3, numpy.inf, numpy.nan], (70, 60))
    if not dtypes.is_differentiable(dtypes.canonical(dtype)):
        limits = [0, 1] if dtype == "bool" else [numpy.iinfo(dtype).min, numpy.iinfo(dtype).max, 0, 1, 7]
        x = random.choice(numpy.array(limits, dtype), (70, 60))
    x = fg.array(x, dtype=dtype)
    numbers = movement.iota(shape=x.shape, dtype=dtypes.int32, axis=axis)

    found, order = sorting.sort(x, numbers, axis=axis, num_keys=1)

    wide = numpy.asarray(x).astype("float64" if dtype == "bfloat16" else dtype)
    numpy.testing.assert_array_equal(order, numpy.argsort(wide, axis=axis, kind="stable"))
    numpy.testing.assert_array_equal(numpy.asarray(found).astype(wide.dtype), numpy.sort(wide, axis=axis))


def test_running_reductions_by_doubling_agree_with_those_of_numpy():
    x = numpy.arange(1.0, 12.0).reshape(1, 11) % 5

    for ufunc in (numpy.add, numpy.maximum, numpy.logaddexp):
        numpy.testing.assert_allclose(reductions._doubling(ufunc)(x, 1), ufunc.accumulate(x, 1))


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int32", "uint32", "float16", "float32"])
@pytest.mark.parametrize(("shape", "axis"), [((300,), 0), ((20, 30), 0), ((20, 30), 1), ((30, 4, 3), 1)])
def test_many_small_keys_are_sorted_as_few_are(shape, axis, dtype):
    numbers = numpy.random.default_rng(0).standard_normal(shape)
    keys = (numbers * (3 if dtype == "float16" else 50)).astype(dtype)
    if dtype.startswith("float"):
        keys[keys > 100] = numpy.nan
        keys[abs(keys) < 0.5] *= 0  # zeros of both signs, which are equal
    elif dtype.endswith("32"):
        limits = numpy.iinfo(dtype)
        keys.ravel()[::50], keys.ravel()[::60] = limits.min, limits.max
    places = numpy.broadcast_to(numpy.arange(shape[axis]).reshape(-1, *(1,) * (len(shape) - axis - 1)), shape)

    values, order = sorting.sort(fg.array(keys), fg.array(places), axis=axis, num_keys=1)

    expected = numpy.argsort(keys, axis=axis, kind="stable")
    numpy.testing.assert_array_equal(order, expected)
    numpy.testing.assert_array_equal(values, numpy.take_along_axis(keys, expected, axis))
