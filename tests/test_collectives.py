"""Collectives: inside a vmap with an axis name, one example sees the others."""

import numpy
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad import errors, lax


def close(actual, expected):
    numpy.testing.assert_allclose(numpy.asarray(actual), numpy.asarray(expected), rtol=1e-6, atol=1e-6)


X = fg.array([[1.0, 2.0], [3.0, 5.0], [10.0, 20.0]])
HOST = numpy.asarray(X)


def over_batch(f, **kwargs):
    return fg.vmap(f, axis_name="batch", **kwargs)


def test_sums_extrema_and_means_over_the_batch_are_the_same_for_every_example():
    for collective, reduction in [
        (lax.psum, numpy.sum),
        (lax.pmax, numpy.max),
        (lax.pmin, numpy.min),
        (lax.pmean, numpy.mean),
    ]:
        close(over_batch(lambda x, c=collective: c(x, "batch"))(X), [reduction(HOST, axis=0)] * 3)
        close(over_batch(lambda x, c=collective: c(x, "batch"), out_axes=None)(X), reduction(HOST, axis=0))


def test_collectives_take_pytrees_and_values_that_all_examples_share():
    found = over_batch(lambda x: lax.psum({"x": x, "one": 1}, "batch"))(X)
    close(found["x"], [HOST.sum(axis=0)] * 3)
    assert found["one"].tolist() == [3, 3, 3]


def test_the_batch_axis_may_be_any_axis():
    close(over_batch(lambda x: lax.psum(x, "batch"), in_axes=1)(X), [HOST.sum(axis=1)] * 2)


def test_axis_index_and_axis_size():
    assert over_batch(lambda x: lax.axis_index("batch"))(X).tolist() == [0, 1, 2]
    assert over_batch(lambda x: x[0] * lax.axis_size("batch"))(X).tolist() == [3.0, 9.0, 30.0]


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_all_gather_gives_every_example_the_whole_batch(axis):
    found = over_batch(lambda x: lax.all_gather(x, "batch", axis=axis))(X)
    close(found, [numpy.moveaxis(HOST, 0, axis)] * 3)


def test_ppermute_sends_values_from_example_to_example():
    ring = [(0, 1), (1, 2), (2, 0)]
    close(over_batch(lambda x: lax.ppermute(x, "batch", ring))(X), numpy.roll(HOST, 1, axis=0))
    found = over_batch(lambda x: lax.ppermute(x, "batch", [(2, 0)]))(X)
    close(found, [HOST[2], [0.0, 0.0], [0.0, 0.0]])


def test_nested_axes_are_told_apart_by_their_names():
    def f(x):
        return lax.psum(x, "inner"), lax.psum(x, "outer"), lax.psum(x, ("inner", "outer"))

    inner, outer, both = fg.vmap(fg.vmap(f, axis_name="inner"), axis_name="outer")(X)
    close(inner, numpy.repeat(HOST.sum(axis=1, keepdims=True), 2, axis=1))
    close(outer, numpy.repeat(HOST.sum(axis=0, keepdims=True), 3, axis=0))
    close(both, numpy.full((3, 2), HOST.sum()))


def test_collectives_without_a_surrounding_axis_are_refused_by_name():
    for call in (lambda: lax.psum(1.0, "batch"), lambda: lax.axis_index("batch")):
        with pytest.raises(errors.UnboundAxisError, match="batch"):
            call()
    with pytest.raises(errors.UnboundAxisError, match="other"):
        over_batch(lambda x: lax.psum(x, "other"))(X)


def normalized(x):
    centered = x - lax.pmean(x, "batch")
    return centered / fnp.sqrt(lax.pmean(centered**2, "batch") + 1.0)


def directly(x):
    centered = x - x.mean(axis=0)
    return centered / fnp.sqrt((centered**2).mean(axis=0) + 1.0)


@pytest.mark.parametrize("wrap", [lambda f: f, fg.jit])
def test_batch_normalization_written_with_collectives_has_the_value_and_derivatives_of_the_direct_one(wrap):
    mapped = wrap(over_batch(normalized))
    close(mapped(X), directly(X))
    weights = fg.array([[1.0, -2.0], [0.5, 1.0], [3.0, 1.0]])
    close(fg.grad(lambda x: (mapped(x) * weights).sum())(X), fg.grad(lambda x: (directly(x) * weights).sum())(X))
    close(fg.jvp(mapped, (X,), (weights,))[1], fg.jvp(directly, (X,), (weights,))[1])


def test_jit_inside_a_named_axis():
    close(over_batch(fg.jit(normalized))(X), directly(X))
    close(
        over_batch(lambda x: fg.grad(lambda y: (y * fg.jit(lambda z: lax.psum(z, "batch"))(x)).sum())(x))(X),
        [HOST.sum(axis=0)] * 3,
    )


def test_gradients_of_all_gather_and_ppermute_go_back_to_where_values_came_from():
    weights = fg.array([1.0, 10.0, 100.0])

    def gathered(x):
        return over_batch(lambda row: fnp.sum(lax.all_gather(row, "batch")[:, 0] * weights))(x).sum()

    close(fg.grad(gathered)(X)[:, 0], 3 * numpy.asarray(weights))

    def sent(x):
        shifted = over_batch(lambda row: lax.ppermute(row, "batch", [(0, 1), (1, 2)]))(x)
        return (shifted * weights[:, None]).sum()

    close(fg.grad(sent)(X), [[10.0, 10.0], [100.0, 100.0], [0.0, 0.0]])


def test_another_vmap_inside_leaves_the_named_axis_alone():
    found = over_batch(lambda row: fg.vmap(lambda x: lax.psum(x, "batch") * x)(row))(X)
    close(found, HOST.sum(axis=0) * HOST)
    found = over_batch(lambda row: fg.vmap(lambda x: lax.all_gather(x, "batch"))(row))(X)
    close(found, [HOST.T] * 3)
