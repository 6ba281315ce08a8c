"""Metrics over batches of any size, against scikit-learn."""

from __future__ import annotations

import math

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

import funcgrad as fg
import funcgrad.numpy as np
from funcgrad import train
from funcgrad.errors import (
    ArgumentError,
    ShapeError,
    TreeError,
)

sklearn_metrics = pytest.importorskip("sklearn.metrics")
AVERAGES = ["macro", "micro", "weighted", None]


def parts_of(n, seed):
    """An uneven division of n examples."""
    cuts = numpy.sort(numpy.random.default_rng(seed).integers(0, n + 1, 3))
    return [slice(a, b) for a, b in zip([0, *cuts], [*cuts, n], strict=True)]


def over_batches(metric, *arrays, seed=0, update=lambda metric, *batch: metric.update(*batch)):
    for part in parts_of(len(arrays[0]), seed):
        metric = update(metric, *(np.asarray(x[part]) for x in arrays))
    return numpy.asarray(metric.compute())


def classification(seed, n=57, classes=5):
    rng = numpy.random.default_rng(seed)
    scores = rng.integers(0, 6, (n, classes)).astype(numpy.float32)  # with equal scores among them
    return scores, rng.integers(0, classes, n).astype(numpy.int32)


@pytest.mark.parametrize("seed", range(3))
def test_metrics_over_uneven_batches_are_those_of_all_examples(seed):
    scores, labels = classification(seed)
    found = scores.argmax(axis=1)
    known = sklearn_metrics
    assert over_batches(train.Accuracy(), scores, labels, seed=seed) == known.accuracy_score(labels, found)
    assert over_batches(train.Accuracy(), found, labels, seed=seed) == known.accuracy_score(labels, found)
    matrix = over_batches(train.ConfusionMatrix(5), scores, labels, seed=seed)
    numpy.testing.assert_array_equal(matrix, known.confusion_matrix(labels, found, labels=range(5)))
    distinct = scores - numpy.arange(5) / 10  # scikit-learn refers to no rule for equal scores
    for k in (1, 2, 4, 5, 7):
        expected = known.top_k_accuracy_score(labels, distinct, k=k, labels=range(5)) if k < 5 else 1.0
        assert over_batches(train.TopKAccuracy(k), scores, labels, seed=seed) == expected
    losses = numpy.random.default_rng(seed).exponential(size=57)
    assert over_batches(train.Mean(), losses, seed=seed) == pytest.approx(losses.mean(), rel=1e-14)
    assert over_batches(train.Perplexity(), losses, seed=seed) == pytest.approx(math.exp(losses.mean()), rel=1e-13)


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize(
    ("metric", "known"),
    [(train.Precision, "precision_score"), (train.Recall, "recall_score"), (train.F1, "f1_score")],
    ids=lambda value: getattr(value, "__name__", ""),
)
@pytest.mark.parametrize("used", [5, 3])
def test_precision_recall_and_f1(metric, known, average, used):
    scores, labels = classification(1, classes=used)
    found = scores.argmax(axis=1)
    expected = getattr(sklearn_metrics, known)(labels, found, average=average, zero_division=0)
    result = over_batches(metric(5, average=average or "none"), found, labels)
    numpy.testing.assert_allclose(result[: len(expected)] if average is None else result, expected, rtol=1e-14)
    truth, guess = labels > 1, found > 1
    binary = getattr(sklearn_metrics, known)(truth, guess)
    assert over_batches(metric(), guess, truth.astype(numpy.int32)) == pytest.approx(binary, rel=1e-14)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=40), st.integers(0, 99))
def test_the_area_under_the_curve_is_exact_with_equal_scores(examples, seed):
    scores = numpy.array([score for score, _ in examples], numpy.float32)
    labels = numpy.array([label for _, label in examples])
    result = over_batches(train.AUC(), scores, labels, seed=seed)
    if labels.all() or not labels.any():
        assert math.isnan(result)
    else:
        assert result == pytest.approx(sklearn_metrics.roc_auc_score(labels, scores), rel=1e-12)


def all_metrics():
    return {
        "accuracy": train.Accuracy(),
        "top": train.TopKAccuracy(2),
        "matrix": train.ConfusionMatrix(5),
        "f1": train.F1(5),
        "precision": train.Precision(5, average="weighted"),
        "recall": train.Recall(5, average="none"),
    }


def computed(metrics):
    return {name: numpy.asarray(metric.compute()).tolist() for name, metric in metrics.items()}


def test_metrics_work_under_jit_scan_and_vmap_and_merge():
    scores, labels = (np.asarray(x) for x in classification(2, n=60))

    def update(metrics, scores, labels):
        return {name: metric.update(scores, labels) for name, metric in metrics.items()}

    expected = computed(update(all_metrics(), scores, labels))
    jitted, merged = all_metrics(), all_metrics()
    step = fg.jit(lambda scores, labels: update(all_metrics(), scores, labels))
    for i in range(0, 60, 20):
        jitted = fg.jit(update)(jitted, scores[i : i + 20], labels[i : i + 20])
        new = step(scores[i : i + 20], labels[i : i + 20])
        merged = {name: merged[name].merge(new[name]) for name in merged}
    assert computed(jitted) == computed(merged) == expected
    assert fg.tree.structure(jitted) == fg.tree.structure(all_metrics())
    mapped = fg.vmap(lambda x, y: update(all_metrics(), x, y))(scores.reshape(3, 20, 5), labels.reshape(3, 20))
    assert computed(fg.tree.map(lambda x: x.sum(axis=0), mapped)) == expected
    area = train.AUC().update(scores[:, 0], labels > 2)
    assert float(fg.jit(lambda metric: metric.compute())(area)) == float(area.compute())


@pytest.mark.parametrize("dtype", [fg.float16, fg.bfloat16, fg.float32, fg.float64])
def test_metrics_take_every_floating_dtype_and_add_up_in_float64(dtype):
    scores = np.asarray([[1, 3, 2], [2, 1, 0]], dtype=dtype)
    labels = fg.array([2, 0])
    assert float(train.Accuracy().update(scores, labels).compute()) == 0.5
    assert float(train.TopKAccuracy(2).update(scores, labels).compute()) == 1.0
    assert float(train.AUC().update(scores[:, 0], labels > 1).compute()) == 0.0
    ones = np.ones(10_000, dtype=dtype)  # float16 counts to 2048, bfloat16 to 256
    assert float(train.Mean().update(ones).update(3 * ones).compute()) == 2.0


def test_what_is_masked_does_not_count():
    scores, labels = (np.asarray(x) for x in classification(3))
    mask = np.asarray(numpy.random.default_rng(3).random(57) < 0.5)
    wild = np.where(mask, labels, -100)
    for name, metric in all_metrics().items():
        expected = numpy.asarray(metric.update(scores[mask], labels[mask]).compute())
        numpy.testing.assert_array_equal(metric.update(scores, wild, mask).compute(), expected, err_msg=name)
    area, positive = train.AUC(), labels > 2
    expected = float(area.update(scores[mask, 0], positive[mask]).compute())
    assert float(area.update(scores[:, 0], positive, mask).compute()) == pytest.approx(expected, rel=1e-14)
    weighted = train.Mean().update(fg.array([1.0, math.nan, 5.0]), fg.array([3, 0, 1]))
    assert float(weighted.compute()) == 2.0


def test_metrics_of_nothing():
    assert math.isnan(train.Mean().compute()) and math.isnan(train.Accuracy().compute())
    assert math.isnan(train.AUC().compute()) and math.isnan(train.AUC().update(np.ones(3), np.ones(3)).compute())
    assert float(train.F1().compute()) == float(train.Precision(4).compute()) == 0.0
    assert float(train.TopKAccuracy(1).update(fg.array([[math.nan, 1.0]]), fg.array([0])).compute()) == 0.0


def test_wrong_arguments_of_metrics_say_what_to_do():
    scores, labels = np.ones((4, 3)), np.zeros(4, dtype=np.int32)
    for metric in (train.Accuracy(), train.TopKAccuracy(1), train.ConfusionMatrix(3)):
        for wrong in (np.ones((5, 3)), np.ones(4), np.ones((4, 3, 1))):
            with pytest.raises(ShapeError, match=type(metric).__name__):
                metric.update(wrong, labels)
        with pytest.raises(ShapeError, match="integer labels"):
            metric.update(scores, np.zeros(4))
        with pytest.raises(ShapeError, match="mask"):
            metric.update(scores, labels, np.ones(3))
    with pytest.raises(ShapeError, match="AUC"):
        train.AUC().update(scores, labels)
    for make in (
        lambda: train.TopKAccuracy(0),
        lambda: train.ConfusionMatrix(1),
        lambda: train.F1(3, average="binary"),
        lambda: train.F1(3, average="mean"),
    ):
        with pytest.raises(ArgumentError):
            make()
    with pytest.raises(TreeError):
        train.F1(3).merge(train.F1(4))
    with pytest.raises(TreeError):
        train.Accuracy().merge(train.Mean())
    with pytest.raises(ArgumentError, match="merge metrics of one kind"):
        train.AUC().merge(train.Mean())


@pytest.mark.parametrize("bad", [3, -1])
@pytest.mark.parametrize("make", [train.Accuracy, lambda: train.TopKAccuracy(2), lambda: train.F1(3)])
def test_a_label_out_of_range_is_an_error_under_jit_as_well(bad, make):
    scores, labels = np.ones((4, 3)), fg.array([0, bad, 1, bad])
    with pytest.raises(ArgumentError, match="2 labels or predictions that are not from 0 to 2"):
        make().update(scores, labels)
    traced = fg.jit(make().update)(scores, labels)
    with pytest.raises(ArgumentError, match="2 labels or predictions that are not"):
        traced.compute()
    with pytest.raises(ArgumentError, match="2 labels or predictions that are not"):
        make().update(scores, fg.array([0, 0, 0, 0])).merge(traced).compute()
    assert numpy.isnan(fg.jit(lambda metric: metric.compute())(traced)).all()
    step = fg.jit(lambda state, batch: (state, {"score": make().update(*batch)}))
    with pytest.raises(ArgumentError, match="labels or predictions that are not"):
        train.fit(step, np.zeros(()), [(scores, labels)])


def test_labels_of_the_area_are_0_or_1():
    with pytest.raises(ArgumentError, match="1 label that is neither 0 nor 1"):
        train.AUC().update(np.ones(2), fg.array([-1, 1]))
    traced = fg.jit(train.AUC().update)(np.ones(2), fg.array([-1, 1]))
    with pytest.raises(ArgumentError, match="neither 0 nor 1"):
        traced.compute()
    assert math.isnan(train.AUC().update(fg.array([math.nan, 1.0]), fg.array([0, 1])).compute())


def test_many_metrics_merge_as_one_after_the_other():
    parts = [train.Mean().update(fg.array(x)) for x in numpy.random.default_rng(0).normal(size=100)]
    one_by_one = train.Mean()
    for part in parts:
        one_by_one = one_by_one.merge(part)
    assert train.Mean().merge_all(parts).total.tolist() == one_by_one.total.tolist()
    assert int(train.Accuracy().merge_all([]).count) == 0
    with pytest.raises(TreeError):
        train.F1(3).merge_all([train.F1(4)])
    assert fg.jit(lambda a, b: a.merge_all([b, b]))(parts[0], parts[1]).weight == 3
