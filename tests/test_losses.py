"""Losses against known values of Optax, at extreme inputs, and with wrong ones."""

import json
import math
from pathlib import Path

import numpy
import pytest

import funcgrad as fg
import funcgrad.numpy as np
from funcgrad import losses
from funcgrad.errors import ShapeError

KNOWN = json.loads((Path(__file__).parent / "known_values" / "networks.json").read_text())


@pytest.mark.parametrize("name", KNOWN["losses"])
def test_values_and_gradients_equal_those_of_optax(name):
    loss, known = getattr(losses, name), KNOWN["losses"][name]
    logits = fg.array(KNOWN["logits"], dtype=fg.float64)
    integers = name == "softmax_cross_entropy_with_integer_labels"
    targets = fg.array(known["targets"], dtype=fg.int32 if integers else fg.float64)
    gradient = fg.grad(lambda logits: loss(logits, targets).sum())(logits)
    numpy.testing.assert_allclose(loss(logits, targets), known["value"], rtol=1e-12, atol=1e-12)
    numpy.testing.assert_allclose(gradient, known["gradient"], rtol=1e-12, atol=1e-12)


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
