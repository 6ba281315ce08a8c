"""Losses against known values of PyTorch and Optax, at extreme inputs, and with wrong ones."""

import inspect
import itertools
import json
import math
from pathlib import Path

import numpy
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import funcgrad as fg
import funcgrad.numpy as np
from funcgrad import losses
from funcgrad.errors import ArgumentError, DtypeError, ShapeError
from funcgrad.testing import check_grads

FOLDER = Path(__file__).parent / "known_values"
KNOWN = json.loads((FOLDER / "losses.json").read_text())
OF_NETWORKS = json.loads((FOLDER / "networks.json").read_text())


@pytest.mark.parametrize("case", KNOWN, ids=[f"{case['name']} of {case['source']}" for case in KNOWN])
def test_values_and_gradients_equal_those_of_pytorch_and_optax(case):
    function = getattr(losses, case["name"])
    arguments = [fg.array(numpy.array(x)) for x in case["arguments"]]
    keywords = {key: fg.array(numpy.array(x)) if isinstance(x, list) else x for key, x in case["keywords"].items()}
    found = function(*arguments, **keywords)
    assert found.dtype == fg.float64
    numpy.testing.assert_allclose(found, case["value"], rtol=1e-12, atol=1e-12)
    count = len(case["gradients"])
    if count:
        total = lambda *x: function(*x, **keywords).sum()
        gradients = fg.grad(total, argnums=tuple(range(count)))(*arguments)
        for gradient, known in zip(gradients, case["gradients"], strict=True):
            numpy.testing.assert_allclose(gradient, known, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", OF_NETWORKS["losses"])
def test_values_and_gradients_equal_those_of_optax_at_large_logits(name):
    loss, known = getattr(losses, name), OF_NETWORKS["losses"][name]
    logits = fg.array(OF_NETWORKS["logits"], dtype=fg.float64)
    integers = name == "softmax_cross_entropy_with_integer_labels"
    targets = fg.array(known["targets"], dtype=fg.int32 if integers else fg.float64)
    gradient = fg.grad(lambda logits: loss(logits, targets).sum())(logits)
    numpy.testing.assert_allclose(loss(logits, targets), known["value"], rtol=1e-12, atol=1e-12)
    numpy.testing.assert_allclose(gradient, known["gradient"], rtol=1e-12, atol=1e-12)


# What holds for all of them


def _floats(seed, *shape):
    return fg.random.normal(fg.random.key(seed), shape, dtype=fg.float64)


X, Y, Z = _floats(0, 4, 5), _floats(1, 4, 5), _floats(2, 4, 5)
LABELS = fg.array([0, 4, 2, 2])
SIGNS = fg.array([[1, -1, 1, 1, -1]] * 4)
WEIGHTS = fg.array([0.5, 1.0, 2.0, 1.0, 0.25])
SOFT = fg.nn.softmax(Y)
# Functions of one example (a row of each array), with their arguments for four examples, floats first.
EXAMPLES = {
    "squared_error": (losses.squared_error, (X, Y)),
    "l2_loss": (losses.l2_loss, (X, Y)),
    "mean_squared_error": (losses.mean_squared_error, (X, Y)),
    "absolute_error": (losses.absolute_error, (X, Y)),
    "mean_absolute_error": (losses.mean_absolute_error, (X, Y)),
    "huber_loss": (losses.huber_loss, (X, Y)),
    "smooth_l1_loss": (lambda x, y: losses.smooth_l1_loss(x, y, beta=0.3), (X, Y)),
    "log_cosh": (losses.log_cosh, (X, Y)),
    "softmax_cross_entropy": (losses.softmax_cross_entropy, (X, SOFT)),
    "softmax_cross_entropy, smooth": (
        lambda x, y: losses.softmax_cross_entropy(x, y, label_smoothing=0.1, class_weights=WEIGHTS),
        (X, SOFT),
    ),
    "integer labels": (losses.softmax_cross_entropy_with_integer_labels, (X, LABELS)),
    "integer labels, smooth": (
        lambda x, y: losses.softmax_cross_entropy_with_integer_labels(x, y, label_smoothing=0.1, class_weights=WEIGHTS),
        (X, LABELS),
    ),
    "integer labels, where": (
        lambda x, y, where: losses.softmax_cross_entropy_with_integer_labels(x, y, where=where, label_smoothing=0.1),
        (
            X,
            LABELS,
            fg.array([[True, True, False, True, True], [False] * 5, [True] * 5, [False, False, True, True, True]]),
        ),
    ),
    "nll_loss": (losses.nll_loss, (X, LABELS)),
    "smooth_labels": (lambda x: losses.smooth_labels(x, 0.3), (SOFT,)),
    "sigmoid_binary_cross_entropy": (losses.sigmoid_binary_cross_entropy, (X, SOFT)),
    "binary_cross_entropy": (losses.binary_cross_entropy, (fg.nn.sigmoid(X), SOFT)),
    "sigmoid_focal_loss": (losses.sigmoid_focal_loss, (X, SOFT)),
    "sigmoid_focal_loss, gamma 0.5": (lambda x, y: losses.sigmoid_focal_loss(x, y, gamma=0.5), (X, SOFT)),
    "hinge_loss": (losses.hinge_loss, (X, SIGNS)),
    "squared_hinge_loss": (losses.squared_hinge_loss, (X, SIGNS)),
    "multiclass_hinge_loss": (losses.multiclass_hinge_loss, (X, LABELS)),
    "multi_margin_loss": (lambda x, y: losses.multi_margin_loss(x, y, p=2, class_weights=WEIGHTS), (X, LABELS)),
    "margin_ranking_loss": (lambda x, y, t: losses.margin_ranking_loss(x, y, t, margin=0.3), (X, Y, SIGNS)),
    "cosine_similarity": (losses.cosine_similarity, (X, Y)),
    "cosine_distance": (lambda x, y: losses.cosine_distance(x, y, epsilon=1e-3), (X, Y)),
    "cosine_embedding_loss": (losses.cosine_embedding_loss, (X, Y, SIGNS[:, 0])),
    "triplet_margin_loss": (losses.triplet_margin_loss, (X, Y, Z)),
    "contrastive_loss": (lambda x, y, t: losses.contrastive_loss(x, y, t, margin=4.0), (X, Y, LABELS == 2)),
    "kl_divergence": (losses.kl_divergence, (fg.nn.log_softmax(X), SOFT)),
    "kl_divergence_with_log_targets": (losses.kl_divergence_with_log_targets, (fg.nn.log_softmax(X), np.log(SOFT))),
    "poisson_nll_loss": (losses.poisson_nll_loss, (X, np.abs(np.round(3 * Y)).astype(fg.int32))),
    "gaussian_nll_loss": (lambda x, y, v: losses.gaussian_nll_loss(x, y, v, full=True), (X, Y, SOFT)),
    "mean_where": (lambda x: losses.mean_where(x, x < 1), (X,)),
    "ctc_loss": (
        losses.ctc_loss,
        (
            _floats(3, 4, 6, 4),
            fg.array([[False] * 6, [False] * 5 + [True], [False, True] * 3, [False] * 6]),
            fg.array([[1, 2], [3, 3], [2, 1], [1, 1]]),
            fg.array([[False, False]] * 3 + [[False, True]]),
        ),
    ),
}
every_loss = pytest.mark.parametrize("function, arguments", EXAMPLES.values(), ids=EXAMPLES)


def _is_float(x):
    return numpy.issubdtype(x.dtype, numpy.floating)


@every_loss
def test_derivatives_are_right(function, arguments):
    check_grads(lambda *x: fg.vmap(function)(*x), arguments, order=2)


@every_loss
def test_every_transform_composes(function, arguments):
    mapped = fg.vmap(function)(*arguments)
    one_by_one = [function(*(x[i] for x in arguments)) for i in range(4)]
    numpy.testing.assert_allclose(mapped, np.stack(one_by_one), rtol=1e-12, atol=1e-14)
    numpy.testing.assert_allclose(fg.jit(fg.vmap(function))(*arguments), mapped, rtol=1e-12, atol=1e-14)
    gradient = fg.vmap(fg.grad(lambda *x: function(*x).sum()))
    numpy.testing.assert_allclose(fg.jit(gradient)(*arguments), gradient(*arguments), rtol=1e-12, atol=1e-14)


@every_loss
@pytest.mark.parametrize("dtype", [fg.float16, fg.bfloat16, fg.float32])
def test_the_dtype_of_the_arguments_stays_and_has_all_of_its_digits(function, arguments, dtype):
    narrow = [x.astype(dtype) if _is_float(x) else x for x in arguments]
    wide = [x.astype(fg.float64) if _is_float(x) else x for x in narrow]
    found, expected = fg.vmap(function)(*narrow), fg.vmap(function)(*wide)
    assert found.dtype == dtype
    ulp = {fg.float16: 2**-10, fg.bfloat16: 2**-7, fg.float32: 2**-23}[dtype]
    # 16 bits are rounded once; float32 adds up its own roundings.
    rounding = (1 if dtype != fg.float32 else 20) * ulp
    numpy.testing.assert_allclose(found.astype(fg.float64), expected, rtol=rounding, atol=rounding / 10)
    total = lambda *x: fg.vmap(function)(*x).sum()
    gradient, expected = fg.grad(total)(*narrow), fg.grad(total)(*wide)
    assert gradient.dtype == dtype
    numpy.testing.assert_allclose(gradient.astype(fg.float64), expected, rtol=4 * rounding, atol=4 * rounding)


# Cross entropies


def both_cross_entropies(logits, label):
    logits = fg.array(logits)
    by_integer = losses.softmax_cross_entropy_with_integer_labels(logits, fg.array(label))
    by_vector = losses.softmax_cross_entropy(logits, fg.nn.one_hot(label, len(logits)))
    return float(by_integer), float(by_vector)


@pytest.mark.parametrize(
    ("logits", "label", "expected"),
    [
        ([1e30, 0.0], 0, 0.0),
        ([1e30, 0.0], 1, 1e30),
        ([-1e30, -1e30], 0, math.log(2)),
        ([1000.0, 990.0], 0, math.log1p(math.exp(-10))),
        ([0.0, -math.inf], 0, 0.0),
        ([0.0, -math.inf], 1, math.inf),
    ],
)
def test_cross_entropy_of_extreme_logits(logits, label, expected):
    assert both_cross_entropies(logits, label) == pytest.approx((expected, expected), rel=1e-3)


@pytest.mark.parametrize("logits", [[1e30, 0.0, -1e30], [0.0, -math.inf, 1.0], [1000.0, 1000.0, 999.0]])
def test_the_gradient_of_a_cross_entropy_is_softmax_minus_one_hot(logits):
    logits = fg.array(logits)
    expected = fg.nn.softmax(logits) - fg.nn.one_hot(0, 3)
    by_integer = fg.grad(lambda x: losses.softmax_cross_entropy_with_integer_labels(x, fg.array(0)))(logits)
    by_vector = fg.grad(lambda x: losses.softmax_cross_entropy(x, fg.nn.one_hot(0, 3)))(logits)
    numpy.testing.assert_allclose(by_integer, expected, atol=1e-6)
    numpy.testing.assert_allclose(by_vector, expected, atol=1e-6)


@pytest.mark.parametrize("label", [-1, 3, 100])
def test_a_label_that_is_no_class_gives_nan_for_its_own_example_only(label):
    logits = np.zeros((2, 3))
    found = fg.jit(losses.softmax_cross_entropy_with_integer_labels)(logits, fg.array([label, 0]))
    assert math.isnan(float(found[0]))
    assert float(found[1]) == pytest.approx(math.log(3))


def test_labels_of_any_integer_dtype_and_classes_along_any_axis():
    logits = fg.random.normal(fg.random.key(0), (5, 4, 3))
    labels = fg.random.randint(fg.random.key(1), (5, 3), 0, 4)
    expected = losses.softmax_cross_entropy_with_integer_labels(np.swapaxes(logits, 1, 2), labels)
    assert expected.shape == (5, 3)
    for dtype in (fg.int8, fg.uint8, fg.int64):
        found = losses.softmax_cross_entropy_with_integer_labels(logits, labels.astype(dtype), axis=1)
        numpy.testing.assert_allclose(found, expected, rtol=1e-6)


def test_cross_entropy_counts_only_the_classes_in_where():
    logits, labels = fg.array([1.0, 2.0, 50.0]), fg.array([0.25, 0.75, 0.0])
    where = fg.array([True, True, False])
    found = losses.softmax_cross_entropy(logits, labels, where=where)
    assert float(found) == pytest.approx(float(losses.softmax_cross_entropy(logits[:2], labels[:2])))
    gradient = fg.grad(lambda x: losses.softmax_cross_entropy(x, labels, where=where))(logits)
    numpy.testing.assert_allclose(gradient, [*(fg.nn.softmax(logits[:2]) - labels[:2]), 0.0], atol=1e-6)


@pytest.mark.parametrize("loss", [losses.squared_error, losses.l2_loss, losses.mean_squared_error])
def test_regression_losses_refuse_shapes_that_would_broadcast(loss):
    with pytest.raises(ShapeError, match=r"predictions of shape \(3, 1\) and targets of shape \(3,\)"):
        loss(np.zeros((3, 1)), np.zeros(3))


def test_labels_of_a_wrong_shape_are_explained():
    with pytest.raises(ShapeError, match=r"they must have shape \(2,\)"):
        losses.softmax_cross_entropy_with_integer_labels(np.zeros((2, 3)), np.zeros((2, 3), dtype=fg.int32))


def test_regression_losses_take_one_number_or_nothing_as_the_target():
    predictions = fg.array([1.0, 3.0])
    numpy.testing.assert_array_equal(losses.squared_error(predictions, 1.0), [0.0, 4.0])
    numpy.testing.assert_array_equal(losses.l2_loss(predictions), [0.5, 4.5])
    assert float(losses.mean_squared_error(predictions, np.ones(2))) == 2.0


def test_losses_map_over_a_batch():
    logits, labels = fg.random.normal(fg.random.key(0), (5, 3)), fg.array([0, 1, 2, 1, 0])
    loss = losses.softmax_cross_entropy_with_integer_labels
    numpy.testing.assert_allclose(fg.vmap(loss)(logits, labels), loss(logits, labels), rtol=1e-6)
    gradients = fg.jit(fg.vmap(fg.grad(loss)))(logits, labels)
    numpy.testing.assert_allclose(gradients, fg.nn.softmax(logits) - fg.nn.one_hot(labels, 3), atol=1e-6)


CROSS = losses.softmax_cross_entropy_with_integer_labels


@pytest.mark.parametrize("smoothing", [0.0, 0.25])
def test_integer_labels_cost_what_one_hot_vectors_cost(smoothing):
    keywords = {"label_smoothing": smoothing, "class_weights": WEIGHTS}
    for where in (None, LABELS > 0, X < 1.0):
        found = CROSS(X, LABELS, where=where, **keywords)
        one_hot = fg.nn.one_hot(LABELS, 5, dtype=fg.float64)
        expected = losses.softmax_cross_entropy(X, one_hot, where=where, **keywords)
        # The label itself may be left out: then the integer has an impossible class, and the vector a forgotten one.
        counted = np.ones(4, bool) if where is None or where.ndim == 1 else (one_hot * where).sum(-1) > 0
        numpy.testing.assert_allclose(found[counted], expected[counted], rtol=1e-12)


@pytest.mark.parametrize("keywords", [{}, {"label_smoothing": 0.1, "class_weights": WEIGHTS}])
def test_examples_outside_of_where_cost_nothing_and_move_nothing_whatever_they_hold(keywords):
    logits = X.at[1].set(math.nan).at[2].set(math.inf)
    labels, counted = fg.array([0, -100, 7, 2]), fg.array([True, False, False, True])
    soft = SOFT.at[1].set(math.nan)
    for loss in (
        lambda x: CROSS(x, labels, where=counted, **keywords),
        lambda x: losses.softmax_cross_entropy(x, soft, where=counted, **keywords),
    ):
        found, gradient = loss(logits), fg.grad(lambda x, loss=loss: losses.mean_where(loss(x), counted))(logits)
        numpy.testing.assert_array_equal(found[1:3], 0)
        numpy.testing.assert_array_equal(gradient[1:3], 0)
        assert np.isfinite(found).all() and np.isfinite(gradient).all()
        assert (np.abs(gradient[0]) > 0).all()


def test_a_mask_of_classes_is_as_if_they_were_not_there():
    logits, where = fg.array([1.0, 2.0, 50.0]), fg.array([True, True, False])
    found = CROSS(logits, fg.array(0), where=where, label_smoothing=0.3)
    expected = CROSS(logits[:2], fg.array(0), label_smoothing=0.3)
    assert float(found) == pytest.approx(float(expected))
    assert float(CROSS(logits, fg.array(2), where=where)) == math.inf


def test_a_class_of_weight_zero_costs_nothing_even_if_it_is_impossible():
    logits, weights = fg.array([0.0, -math.inf]), fg.array([1.0, 0.0])
    loss = lambda x: CROSS(x, fg.array(1), class_weights=weights)
    assert float(loss(logits)) == 0.0
    numpy.testing.assert_array_equal(fg.grad(loss)(logits), [0.0, 0.0])


@given(
    arrays(numpy.float64, (3, 4), elements=st.floats(-50, 50)),
    arrays(numpy.int32, 3, elements=st.integers(0, 3)),
    st.floats(-1e3, 1e3),
)
def test_cross_entropy_is_positive_and_blind_to_a_shift(logits, labels, shift):
    logits, labels = fg.array(logits), fg.array(labels)
    loss = CROSS(logits, labels)
    assert (loss >= 0).all()
    numpy.testing.assert_allclose(CROSS(logits + shift, labels), loss, atol=1e-11)
    numpy.testing.assert_allclose(losses.nll_loss(fg.nn.log_softmax(logits), labels), loss, atol=1e-11)


def test_many_classes_in_float16_do_not_overflow():
    logits = np.zeros(100_000, fg.float16)
    assert float(CROSS(logits, fg.array(7))) == pytest.approx(math.log(100_000), rel=1e-3)


# Yes or no


@pytest.mark.parametrize("dtype", [fg.float16, fg.bfloat16, fg.float32, fg.float64])
def test_binary_losses_at_infinite_and_huge_logits(dtype):
    logits = fg.array([math.inf, -math.inf, 1e4, -1e4], dtype=dtype)
    wrong = fg.array([0, 1, 0, 1])
    for loss in (losses.sigmoid_binary_cross_entropy, losses.sigmoid_focal_loss):
        numpy.testing.assert_array_equal(loss(logits, 1 - wrong), 0)
        numpy.testing.assert_allclose(loss(logits, wrong), [math.inf, math.inf, 1e4, 1e4], rtol=1e-2)
        for labels, slopes in ((1 - wrong, [0, 0, 0, 0]), (wrong, [1, -1, 1, -1])):
            gradient = fg.grad(lambda x, loss=loss, labels=labels: loss(x, labels).sum())(logits)
            numpy.testing.assert_array_equal(gradient, slopes)


@pytest.mark.parametrize("gamma", [0, 0.5, 1, 2])
def test_the_focal_loss_has_finite_gradients_for_every_gamma(gamma):
    logits, labels = fg.array([-200.0, -50.0, 0.0, 50.0, 200.0]), fg.array([0, 0, 1, 1, 1])
    gradient = fg.grad(lambda x: losses.sigmoid_focal_loss(x, labels, gamma=gamma).sum())(logits)
    assert np.isfinite(gradient).all()
    if gamma == 0:
        numpy.testing.assert_allclose(gradient, fg.nn.sigmoid(logits) - labels, atol=1e-6)


def test_binary_cross_entropy_is_finite_where_certainty_is_wrong():
    found = losses.binary_cross_entropy(fg.array([0.0, 0.0, 1.0, 1.0]), fg.array([0, 1, 0, 1]))
    numpy.testing.assert_array_equal(found, [0, 100, 100, 0])
    gradient = fg.grad(lambda x: losses.binary_cross_entropy(x, fg.array([0, 1, 0, 1])).sum())
    numpy.testing.assert_allclose(gradient(fg.array([0.0, 0.0, 1.0, 1.0])), [1, -1e18, 1e18, -1], rtol=1e-6)
    saturated = fg.grad(lambda x: losses.binary_cross_entropy(fg.nn.sigmoid(x), 1))(fg.array(-1000.0))
    assert float(saturated) == 0.0


def test_sigmoid_cross_entropy_smooths_weights_and_masks():
    logits, labels = fg.array([0.5, -2.0, math.nan]), fg.array([1.0, 0.0, 1.0])
    counted = fg.array([True, True, False])
    loss = lambda x: losses.sigmoid_binary_cross_entropy(x, labels, counted, label_smoothing=0.2, pos_weight=3.0)
    expected = losses.binary_cross_entropy(fg.nn.sigmoid(logits[:2]), 1.0) * 3.0 * fg.array([0.9, 0.1])
    expected = expected + losses.binary_cross_entropy(fg.nn.sigmoid(logits[:2]), 0.0) * fg.array([0.1, 0.9])
    numpy.testing.assert_allclose(loss(logits), [*expected, 0.0], rtol=1e-6)
    assert float(fg.grad(lambda x: loss(x).sum())(logits)[2]) == 0.0


# Numbers


@pytest.mark.parametrize("loss", [losses.huber_loss, losses.smooth_l1_loss, losses.log_cosh, losses.absolute_error])
def test_robust_losses_pull_with_at_most_one_at_any_error(loss):
    errors = fg.array([math.inf, -math.inf, 1e38, -1e38, 0.0])
    numpy.testing.assert_array_equal(loss(errors)[:2], math.inf)
    gradient = fg.grad(lambda x: loss(x).sum())
    numpy.testing.assert_array_equal(gradient(errors), [1, -1, 1, -1, 0])
    # Their squares would not be float16.
    halves = fg.array([6e4, -6e4], dtype=fg.float16)
    numpy.testing.assert_allclose(loss(halves), 6e4, rtol=1e-3)


def test_losses_with_one_slope_on_both_sides_of_a_kink():
    slope = fg.grad(lambda x: losses.huber_loss(x, delta=0.5).sum())
    numpy.testing.assert_array_equal(slope(fg.array([0.5, -0.5, 0.25])), [0.5, -0.5, 0.25])


def test_log_cosh_keeps_the_digits_of_small_errors():
    errors = fg.array([1e-4, 1e-2, 0.99, 1.01])
    expected = numpy.log(numpy.cosh(numpy.asarray(errors).astype(numpy.longdouble))).astype(float)
    numpy.testing.assert_allclose(losses.log_cosh(errors), expected, rtol=1e-6)


def test_the_mean_of_squared_errors_in_float16_does_not_overflow_inside():
    predictions = np.full(10_000, 100.0, fg.float16)
    assert float(losses.mean_squared_error(predictions)) == 1e4
    assert float(losses.mean_where(predictions)) == 100.0


# Margins


def test_hinges_are_flat_at_the_margin_and_refuse_labels_of_zero():
    assert float(fg.grad(losses.hinge_loss)(fg.array(1.0), 1)) == 0.0
    for loss in (losses.hinge_loss, losses.squared_hinge_loss):
        found = loss(fg.array([0.5, 0.5, 0.5]), fg.array([1, 0, -1]))
        numpy.testing.assert_array_equal(np.isnan(found), [False, True, False])
        gradient = fg.grad(lambda x, loss=loss: loss(x, fg.array([1, 0, -1])).sum())(fg.array([0.5, 0.5, 0.5]))
        assert float(gradient[1]) == 0.0 and np.isfinite(gradient).all()


def test_multiclass_hinges_keep_the_margin_beside_large_scores():
    scores = fg.array([1e9, 1e9, -math.inf])
    assert float(losses.multiclass_hinge_loss(scores, fg.array(0))) == 1.0
    assert float(losses.multi_margin_loss(scores, fg.array(1))) == pytest.approx(1 / 3)


# Distances


@given(arrays(numpy.float64, (2, 3), elements=st.floats(-10, 10)), st.sampled_from([1e-160, 1e-3, 1e3, 1e160]))
def test_cosine_similarity_does_not_care_for_lengths(vectors, factor):
    x, y = fg.array(vectors)
    found = float(losses.cosine_similarity(x, y))
    assert -1 - 1e-12 <= found <= 1 + 1e-12
    smallest = numpy.abs(vectors[vectors != 0]).min(initial=1.0)
    if smallest > 1e-100:
        assert float(losses.cosine_similarity(factor * x, y)) == pytest.approx(found, abs=1e-12)


def test_vectors_of_length_zero_have_similarity_zero_and_no_nan_in_gradients():
    zero, x = np.zeros(3), fg.array([1.0, 2.0, 2.0])
    assert float(losses.cosine_similarity(zero, x)) == 0.0
    for gradient in fg.grad(losses.cosine_similarity, argnums=(0, 1))(zero, x):
        numpy.testing.assert_array_equal(gradient, 0)
    with_epsilon = fg.grad(lambda z: losses.cosine_similarity(z, x, epsilon=0.1))(zero)
    numpy.testing.assert_allclose(with_epsilon, x / 3 / 0.1, rtol=1e-6)


@pytest.mark.parametrize("similar", [0, 1])
def test_equal_vectors_have_finite_gradients(similar):
    x, other = np.ones((2, 3)), np.zeros((2, 3))
    gradient = fg.grad(lambda x: losses.contrastive_loss(x, np.ones((2, 3)), similar).sum())(x)
    numpy.testing.assert_array_equal(gradient, 0)
    for degree in (1, 2, 3):
        loss = lambda x, degree=degree: losses.triplet_margin_loss(
            x, np.ones((2, 3)), other, norm_degree=degree, margin=4.0, eps=0.0
        )
        assert np.isfinite(fg.grad(lambda x, loss=loss: loss(x).sum())(x)).all()


def test_contrastive_loss_is_that_of_its_source():
    x, y = fg.array([[0.0, 0.0]] * 3), fg.array([[0.3, 0.4]] * 3)
    found = losses.contrastive_loss(x, y, fg.array([1, 0, 2]), margin=2.0)
    numpy.testing.assert_allclose(found, [0.5 * 0.25, 0.5 * 1.5**2, math.nan], rtol=1e-6)


# Distributions


@given(arrays(numpy.float64, (2, 4), elements=st.floats(-20, 20)))
def test_divergences_are_positive_and_zero_for_equal_distributions(logits):
    log_p, log_q = fg.nn.log_softmax(fg.array(logits))
    p = np.exp(log_p)
    found = losses.kl_divergence(log_q, p)
    assert float(found) >= -1e-12
    assert float(losses.kl_divergence_with_log_targets(log_q, log_p)) == pytest.approx(float(found), abs=1e-12)
    assert float(losses.kl_divergence(log_p, p)) == pytest.approx(0, abs=1e-12)
    cross, entropy = losses.softmax_cross_entropy(log_q, p), losses.softmax_cross_entropy(log_p, p)
    assert float(cross - entropy) == pytest.approx(float(found), abs=1e-10)


def test_impossible_events_cost_nothing_in_a_divergence_unless_they_happen():
    log_q, p = fg.array([-math.inf, 0.0]), fg.array([0.0, 1.0])
    for loss, targets in ((losses.kl_divergence, p), (losses.kl_divergence_with_log_targets, np.log(p))):
        assert float(loss(log_q, targets)) == 0.0
        for gradient in fg.grad(loss, argnums=(0, 1))(log_q, targets):
            assert np.isfinite(gradient).all()
        assert float(loss(log_q, targets[::-1])) == math.inf
        masked = loss(fg.array([math.nan, 0.0]), targets, where=fg.array([False, True]))
        assert float(masked) == 0.0


def test_poisson_and_gaussian_losses_are_minus_the_logarithm_of_the_density():
    counts, means = numpy.array([0, 1, 5, 40]), numpy.array([0.5, 2.0, 4.0, 50.0])
    found = losses.poisson_nll_loss(fg.array(numpy.log(means)), counts, full=True)
    numpy.testing.assert_allclose(found, -scipy.stats.poisson.logpmf(counts, means), rtol=1e-12)
    found = losses.gaussian_nll_loss(fg.array(means), 1.0, 4.0, full=True)
    numpy.testing.assert_allclose(found, -scipy.stats.norm.logpdf(1.0, means, 2.0), rtol=1e-12)


def test_likelihoods_at_the_edge_and_beyond():
    found = losses.poisson_nll_loss(fg.array([-math.inf, -math.inf, 0.0]), fg.array([0, 1, -1]))
    numpy.testing.assert_array_equal(found, [0, math.inf, math.nan])
    variances = fg.array([-1.0, 0.0])
    loss = lambda v: losses.gaussian_nll_loss(fg.array([1.0, 1.0]), fg.array([1.0, 1.0]), v)
    numpy.testing.assert_allclose(loss(variances), [math.nan, 0.5 * math.log(1e-6)], rtol=1e-5)
    # The gradient of the least variance, not 0: a network that predicts 0 can come back.
    numpy.testing.assert_allclose(fg.grad(lambda v: loss(v).sum())(variances), [0, 0.5e6], rtol=1e-5)


# Sequences


def of_all_alignments(log_probabilities, labels):
    """The definition: a sum over every sequence of classes that merges to the labels."""
    times, classes = log_probabilities.shape
    total = 0.0
    for path in itertools.product(range(classes), repeat=times):
        if [label for label, _ in itertools.groupby(path) if label] == list(labels):
            total += math.exp(sum(log_probabilities[time, label] for time, label in enumerate(path)))
    return -math.log(total) if total else math.inf


@pytest.mark.parametrize("labels", [[], [1], [1, 2], [2, 2], [1, 1, 2], [1, 2, 1, 2], [1, 1, 1]])
@pytest.mark.parametrize("dtype", [fg.float32, fg.float64])
def test_ctc_is_the_sum_over_all_alignments(labels, dtype):
    logits = fg.random.normal(fg.random.key(len(labels)), (4, 3), dtype=dtype)
    labels = fg.array(labels, dtype=fg.int32)
    found = losses.ctc_loss(logits, np.zeros(4), labels, np.zeros(len(labels)))
    expected = of_all_alignments(numpy.asarray(fg.nn.log_softmax(logits)).astype(float), labels.tolist())
    assert float(found) == pytest.approx(expected, rel=1e-5 if dtype == fg.float32 else 1e-12)


def test_ctc_does_not_see_padding():
    logits, labels = _floats(4, 1, 5, 3), fg.array([[1, 2]])
    padded = np.concatenate([logits, np.full((1, 2, 3), math.nan)], axis=1)
    paddings, label_paddings = fg.array([[0, 0, 0, 0, 0, 1, 1]]), fg.array([[0, 0, 1]])
    loss = lambda logits: losses.ctc_loss(logits, paddings, fg.array([[1, 2, -1]]), label_paddings)[0]
    expected = losses.ctc_loss(logits, np.zeros((1, 5)), labels, np.zeros((1, 2)))
    assert float(loss(padded)) == pytest.approx(float(expected[0]), rel=1e-12)
    gradient = fg.grad(loss)(padded)
    numpy.testing.assert_array_equal(gradient[:, 5:], 0)
    assert np.isfinite(gradient).all()


def test_ctc_of_labels_that_do_not_fit_is_infinite_and_does_not_move():
    logits, labels = _floats(5, 2, 3, 3), fg.array([[1, 1], [1, 2]])
    loss = lambda logits, times: losses.ctc_loss(logits[:, :times], np.zeros((2, times)), labels, np.zeros((2, 2)))
    numpy.testing.assert_array_equal(np.isinf(loss(logits, 2)), [True, False])
    gradient = fg.grad(lambda x: loss(x, 2).sum())(logits)
    numpy.testing.assert_array_equal(gradient[0], 0)
    assert np.isfinite(gradient).all() and np.isfinite(loss(logits, 3)).all()


@pytest.mark.parametrize("label", [0, 3, -1])
def test_ctc_labels_that_are_blank_or_no_class_give_nan_for_their_sequence_only(label):
    found = losses.ctc_loss(_floats(6, 2, 4, 3), np.zeros((2, 4)), fg.array([[label, 1], [2, 1]]), np.zeros((2, 2)))
    numpy.testing.assert_array_equal(np.isnan(found), [True, False])


def test_ctc_of_long_sequences_of_extreme_logits_is_finite():
    logits = 1e4 * fg.random.normal(fg.random.key(0), (2, 200, 5))
    labels = fg.array([[1, 2, 3, 4] * 10] * 2)
    loss = lambda x: losses.ctc_loss(x, np.zeros((2, 200)), labels, np.zeros((2, 40))).mean()
    value, gradient = fg.value_and_grad(loss)(logits)
    assert np.isfinite(value) and np.isfinite(gradient).all()


# Means and wrong arguments


def test_the_mean_of_what_counts():
    values = fg.array([[1.0, math.nan], [3.0, math.inf]])
    assert float(losses.mean_where(values, fg.array([True, False]))) == 2.0
    numpy.testing.assert_array_equal(losses.mean_where(values, fg.array([[True, False]] * 2), axis=1), [1.0, 3.0])
    numpy.testing.assert_array_equal(losses.mean_where(values, fg.array([True, False]), axis=0), [2.0, 0.0])
    assert float(losses.mean_where(np.zeros(0))) == 0.0
    gradient = fg.grad(lambda x: losses.mean_where(x, fg.array([True, False])))(values)
    numpy.testing.assert_array_equal(gradient, [[0.5, 0.0], [0.5, 0.0]])


# Checked annotations refuse a wrong dtype before the function, which explains it to everybody else, can.
unchecked = inspect.unwrap
ROW, MATRIX = np.zeros(3), np.zeros((2, 3))


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (ShapeError, "one shape", lambda: losses.sigmoid_binary_cross_entropy(np.zeros((3, 1)), ROW)),
        (ShapeError, "pos_weight of shape", lambda: losses.sigmoid_binary_cross_entropy(ROW, ROW, pos_weight=MATRIX)),
        (ShapeError, "probabilities of shape", lambda: losses.binary_cross_entropy(MATRIX, ROW)),
        (ShapeError, "predictor_outputs of shape", lambda: losses.hinge_loss(MATRIX, ROW)),
        (ShapeError, "one integer an example", lambda: losses.multiclass_hinge_loss(MATRIX, fg.array([1]))),
        (ShapeError, "one weight for each class", lambda: losses.nll_loss(ROW, fg.array(1), class_weights=np.ones(2))),
        (ShapeError, "where of softmax", lambda: losses.softmax_cross_entropy(MATRIX, MATRIX, where=ROW > 0)),
        (ShapeError, "where of shape", lambda: losses.mean_where(ROW, np.ones(2, bool))),
        (ShapeError, "log_predictions of shape", lambda: losses.kl_divergence(MATRIX, ROW)),
        (ShapeError, "variances of gaussian", lambda: losses.gaussian_nll_loss(MATRIX, MATRIX, np.ones(3))),
        (ShapeError, "positives of shape", lambda: losses.triplet_margin_loss(MATRIX, ROW, MATRIX)),
        (ShapeError, "similar of shape", lambda: losses.contrastive_loss(MATRIX, MATRIX, ROW)),
        (
            DtypeError,
            "as integers, not float32",
            lambda: unchecked(losses.ctc_loss)(MATRIX, ROW[:2], np.ones(1), np.ones(1)),
        ),
        (DtypeError, "the probabilities of all classes", lambda: unchecked(CROSS)(MATRIX, np.ones(2))),
        (ShapeError, "one for each time", lambda: losses.ctc_loss(MATRIX, ROW, fg.array([1]), fg.array([0]))),
        (ShapeError, "one for each label", lambda: losses.ctc_loss(MATRIX, ROW[:2], fg.array([1]), fg.array([0, 0]))),
        (ArgumentError, "blank_id", lambda: losses.ctc_loss(MATRIX, ROW[:2], fg.array([1]), fg.array([0]), blank_id=3)),
        (ArgumentError, "from 0 to 1, not 1.5", lambda: CROSS(ROW, fg.array(0), label_smoothing=1.5)),
        (ArgumentError, "at least 0, not -1", lambda: losses.huber_loss(ROW, delta=-1)),
        (ArgumentError, "at least 1, not 0.5", lambda: losses.triplet_margin_loss(ROW, ROW, ROW, norm_degree=0.5)),
        (ArgumentError, "must be 1 or 2", lambda: losses.multi_margin_loss(ROW, fg.array(0), p=3)),
    ],
)
def test_wrong_arguments_are_explained(error, message, call):
    with pytest.raises(error, match=message):
        call()
