"""vmap: a function of one example becomes one of a batch."""

import numpy
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad import errors


def close(actual, expected, rtol=1e-6):
    numpy.testing.assert_allclose(numpy.asarray(actual), numpy.asarray(expected), rtol=rtol, atol=1e-6)


MATRIX = fnp.arange(6.0).reshape(2, 3)


def test_vmap_runs_over_the_first_axis_of_everything_by_default():
    close(fg.vmap(fnp.dot)(MATRIX, MATRIX), [5.0, 50.0])


@pytest.mark.parametrize("axis", [1, -1])
def test_in_axes_may_be_any_axis(axis):
    close(fg.vmap(fnp.sum, in_axes=axis)(MATRIX), [3.0, 5.0, 7.0])


def test_in_axes_choose_an_axis_for_each_argument_and_none_for_shared_ones():
    close(fg.vmap(fnp.dot, in_axes=(0, None))(MATRIX, MATRIX[0]), [5.0, 14.0])
    close(fg.vmap(fnp.dot, in_axes=[1, None])(MATRIX, fg.array([1.0, 10.0])), [30.0, 41.0, 52.0])


def test_in_axes_may_be_a_prefix_of_the_argument():
    def f(params, x):
        return params["w"] @ x + params["b"]["shift"]

    params = {"w": fnp.ones((4, 2, 3)), "b": {"shift": fnp.arange(4.0)}}
    assert fg.vmap(f, in_axes=({"w": 0, "b": 0}, None))(params, fnp.ones(3)).shape == (4, 2)
    shared = {"w": fnp.ones((2, 3)), "b": {"shift": fnp.arange(4.0)}}
    found = fg.vmap(f, in_axes=({"w": None, "b": {"shift": 0}}, None))(shared, fnp.ones(3))
    close(found, [[3.0, 3.0], [4.0, 4.0], [5.0, 5.0], [6.0, 6.0]])


def test_out_axes_place_the_batch_axis_in_each_result():
    def f(x):
        return {"row": x, "sum": x.sum()}

    found = fg.vmap(f, out_axes={"row": 1, "sum": 0})(MATRIX)
    assert found["row"].shape == (3, 2)
    close(found["row"], numpy.asarray(MATRIX).T)
    close(found["sum"], [3.0, 12.0])
    assert fg.vmap(lambda x: x, out_axes=-1)(MATRIX).shape == (3, 2)


def test_out_axes_none_is_for_results_that_do_not_depend_on_the_batch():
    found = fg.vmap(lambda x, y: (x, y * 2), in_axes=(0, None), out_axes=(0, None))(MATRIX, fg.array(3.0))
    assert found[1].item() == 6.0
    with pytest.raises(errors.ArgumentError):
        fg.vmap(lambda x: x, out_axes=None)(MATRIX)


def test_a_result_that_does_not_depend_on_the_batch_is_repeated():
    assert fg.vmap(lambda x: fg.array(1.0))(MATRIX).tolist() == [1.0, 1.0]


def test_axis_size_gives_the_batch_where_nothing_is_mapped():
    assert fg.vmap(lambda x: x + 1, in_axes=None, axis_size=3)(fg.array(1.0)).tolist() == [2.0, 2.0, 2.0]
    assert fg.vmap(lambda: fg.array(1.0), axis_size=2)().tolist() == [1.0, 1.0]
    with pytest.raises(errors.ArgumentError):
        fg.vmap(lambda x: x, in_axes=None)(fg.array(1.0))


def test_keyword_arguments_are_mapped_over_their_first_axis():
    assert fg.vmap(lambda x, *, y: x * y)(fg.array([1.0, 2.0]), y=fg.array([10.0, 20.0])).tolist() == [10.0, 40.0]


def test_the_function_sees_one_example():
    seen = []

    def f(x):
        seen.append((x.shape, x.dtype, x.ndim))
        return x

    fg.vmap(f)(MATRIX)
    assert seen == [((3,), fg.float32, 1)]


def test_an_empty_batch_gives_empty_results():
    assert fg.vmap(lambda x: x @ x)(fnp.zeros((0, 3))).shape == (0,)


def test_nested_vmaps_over_different_axes_make_a_table():
    x, y = fnp.arange(3.0), fg.array([10.0, 100.0])
    table = fg.vmap(lambda a: fg.vmap(lambda b: a * b)(y))(x)
    close(table, numpy.outer(numpy.arange(3.0), [10.0, 100.0]))
    cube = fnp.arange(24.0).reshape(2, 3, 4)
    found = fg.vmap(fg.vmap(fnp.sum, in_axes=0), in_axes=2)(cube)
    close(found, numpy.arange(24.0).reshape(2, 3, 4).sum(axis=1).T)
    found = fg.vmap(fg.vmap(fnp.sum, in_axes=1, out_axes=0), in_axes=0, out_axes=1)(cube)
    close(found, numpy.arange(24.0).reshape(2, 3, 4).sum(axis=1).T)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: fg.vmap(fnp.add)(fnp.ones(2), fnp.ones(3)), errors.ShapeError),  # lengths differ
        (lambda: fg.vmap(lambda x: x, in_axes=2)(MATRIX), errors.ShapeError),  # no such axis
        (lambda: fg.vmap(lambda x: x)(fg.array(1.0)), errors.ShapeError),  # no axis at all
        (lambda: fg.vmap(lambda x: x, axis_size=5)(MATRIX), errors.ShapeError),
        (lambda: fg.vmap(lambda x: x, in_axes=(0, 0))(MATRIX), errors.ArgumentError),
        (lambda: fg.vmap(lambda x: x, in_axes=("0",))(MATRIX), errors.ArgumentError),
        (lambda: fg.vmap(lambda x: x.sum(), out_axes=1)(MATRIX), errors.ShapeError),
        (lambda: fg.vmap(lambda x: x, in_axes=({"a": 0},))({"b": MATRIX}), errors.TreeError),
    ],
)
def test_vmap_says_what_does_not_fit(call, error):
    with pytest.raises(error):
        call()


def test_python_control_flow_may_go_by_values_that_all_examples_share():
    def f(x, flag):
        return x * 2 if flag else x

    assert fg.vmap(f, in_axes=(0, None))(fg.array([1.0, 2.0]), fg.array(True)).tolist() == [2.0, 4.0]


def test_python_control_flow_by_values_that_differ_is_refused_with_a_remedy():
    with pytest.raises(errors.TracedValueError, match="where"):
        fg.vmap(lambda x: x if x > 0 else -x)(fg.array([1.0, -1.0]))


def test_per_example_gradients():
    def loss(w, x):
        return (w @ x) ** 2

    w = fg.array([1.0, 2.0, 3.0])
    found = fg.vmap(fg.grad(loss), in_axes=(None, 0))(w, MATRIX)
    rows = numpy.asarray(MATRIX)
    close(found, 2 * (rows @ numpy.asarray(w))[:, None] * rows)


def test_the_gradient_of_a_batch_is_the_sum_of_per_example_gradients():
    def loss(w, x):
        return fnp.tanh(w @ x)

    w = fg.array([0.1, 0.2, 0.3])
    whole = fg.grad(lambda w: fg.vmap(loss, in_axes=(None, 0))(w, MATRIX).sum())(w)
    each = fg.vmap(fg.grad(loss), in_axes=(None, 0))(w, MATRIX)
    close(whole, each.sum(axis=0))


def test_closed_over_values_are_shared():
    w = fg.array([1.0, 0.0, 2.0])
    close(fg.vmap(lambda x: x @ w)(MATRIX), [4.0, 13.0])


def test_indexing_and_updates_inside_vmap_stay_within_one_example():
    index = fg.array([2, 0])
    close(fg.vmap(lambda x, i: x[i])(MATRIX, index), [2.0, 3.0])
    close(fg.vmap(lambda x, i: x.at[i].set(9.0))(MATRIX, index), [[0.0, 1.0, 9.0], [9.0, 4.0, 5.0]])


def test_vmap_keeps_name_and_documentation_of_the_function():
    def named(x):
        """Doubles."""
        return 2 * x

    assert (fg.vmap(named).__name__, fg.vmap(named).__doc__) == ("named", "Doubles.")
