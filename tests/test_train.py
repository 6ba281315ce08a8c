"""Training: metrics against scikit-learn, the loop against one written by hand, callbacks, and what loggers write."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import warnings

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

import funcgrad as fg
import funcgrad.numpy as np
from funcgrad import checkpoints, train
from funcgrad.errors import (
    ArgumentError,
    ArgumentTypeError,
    CheckpointError,
    CheckpointMismatchError,
    DamagedCheckpointError,
    LogError,
    MissingPackageError,
    NotFiniteError,
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


# Metrics


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


# The loop


def make_problem():
    key, data_key = fg.random.split(fg.random.key(0))
    x = fg.random.normal(data_key, (50, 3))
    y = (x[:, 0] * x[:, 1] > 0).astype(np.int32)
    model = fg.nn.MLP(3, 2, width=8, depth=1, key=key)
    optimizer = fg.optim.adam(lambda count: 0.05 / (1 + 0.1 * count))
    batches = [(x[i : i + 16], y[i : i + 16]) for i in range(0, 50, 16)]

    def loss(model, x, y):
        logits = model(x)
        losses = fg.losses.softmax_cross_entropy_with_integer_labels(logits, y)
        return losses.mean(), (losses, logits)

    return model, optimizer, batches, loss


def test_fit_gives_the_numbers_of_a_loop_written_by_hand():
    model, optimizer, batches, loss = make_problem()

    # By hand.
    @fg.jit
    def step(model, state, x, y):
        (_, (losses, logits)), gradient = fg.value_and_grad(loss, has_aux=True)(model, x, y)
        updates, state = optimizer.update(gradient, state, model)
        return fg.optim.apply_updates(model, updates), state, losses, (logits.argmax(axis=-1) == y).sum()

    by_hand, state, expected = model, optimizer.init(model), []
    for _ in range(5):
        total, right = 0.0, 0
        for x, y in batches:
            by_hand, state, losses, count = step(by_hand, state, x, y)
            total, right = total + float(losses.astype(np.float64).sum()), right + int(count)
        expected.append({"loss": total / 50, "accuracy": right / 50})

    # With fit.
    @fg.jit
    def fit_step(state, batch):
        model, optimizer_state = state
        x, y = batch
        (_, (losses, logits)), gradient = fg.value_and_grad(loss, has_aux=True)(model, x, y)
        updates, optimizer_state = optimizer.update(gradient, optimizer_state, model)
        outputs = {"loss": train.Mean().update(losses), "accuracy": train.Accuracy().update(logits, y)}
        return (fg.optim.apply_updates(model, updates), optimizer_state), outputs

    (fitted, _), history = train.fit(fit_step, (model, optimizer.init(model)), batches, epochs=5)
    for a, b in zip(fg.tree.leaves(fitted), fg.tree.leaves(by_hand), strict=True):
        assert numpy.asarray(a).tobytes() == numpy.asarray(b).tobytes()
    assert history == [{k: pytest.approx(v, rel=2e-15) for k, v in e.items()} for e in expected]
    assert history[-1]["loss"] < history[0]["loss"]


def test_what_a_step_reports_is_put_together():
    def step(state, batch):
        return state + 1, {
            "number": float(len(batch)),
            "array": batch,
            "scalar": batch.sum(),
            "metric": train.ConfusionMatrix(2).update(batch, batch),
        }

    batches = [fg.array([0, 1, 1]), fg.array([1])]
    state, history = train.fit(step, 0, batches, evaluate=lambda state: {"state": state, "m": train.Mean().update(2.0)})
    assert state == 2
    matrix = history[0].pop("metric")
    assert matrix.tolist() == [[1, 0], [0, 3]]
    assert history == [{"number": 2.0, "array": 0.75, "scalar": 1.5, "state": 2, "m": 2.0}]
    assert all(type(value) in (int, float) for value in history[0].values())


def test_data_may_be_a_function_of_the_epoch_and_generators_are_told_apart():
    seen = []
    step = lambda state, x: (seen.append(x), {})
    train.fit(step, None, lambda epoch: (10 * epoch + i for i in range(2)), epochs=2)
    assert seen == [0, 1, 10, 11]
    with pytest.raises(ArgumentError, match=r"epoch 1 has no batches; .* a function that makes a generator"):
        train.fit(step, None, (i for i in range(2)), epochs=2)
    with pytest.raises(ArgumentError, match="epoch 0 has no batches"):
        train.fit(step, None, [])


def test_steps_are_counted_over_epochs_and_can_be_limited():
    seen = []
    _, history = train.fit(lambda s, x: (seen.append(x), {"x": x}), None, [1, 2, 3], epochs=9, steps=5)
    assert seen == [1, 2, 3, 1, 2] and history == [{"x": 2.0}, {"x": 1.5}]
    with pytest.raises(ArgumentError, match="at least 1 step"):
        train.fit(lambda s, x: (s, {}), 0, [1], steps=0)


def test_evaluate_puts_outputs_together():
    batches = [fg.array([1.0, 2.0]), fg.array([6.0])]
    step = lambda factor, x: {"mean": train.Mean().update(factor * x), "array": x, "number": len(x)}
    assert train.evaluate(step, 2.0, batches, "test ") == {"test mean": 6.0, "test array": 3.0, "test number": 1.5}
    with pytest.raises(ArgumentError, match="no batches"):
        train.evaluate(step, 2.0, [])
    with pytest.raises(ArgumentTypeError, match="return a dict"):
        train.evaluate(lambda s, x: x, 2.0, batches)


def test_sums_over_many_steps_are_precise_and_names_may_come_and_go():
    values = [1e16, 1.0, -1e16] * 100
    step = lambda s, x: (s + 1, {"x": x} | ({"y": np.asarray(x)} if s % 2 else {}))
    _, history = train.fit(step, 0, values)
    assert history[0]["x"] == pytest.approx(100 / 300, rel=1e-15)
    assert history[0]["y"] == pytest.approx(math.fsum(numpy.float32(values[1::2]).astype(float)) / 150, rel=1e-12)


@pytest.mark.parametrize("dtype", [fg.float16, fg.bfloat16, fg.float32, fg.int32, fg.bool_])
def test_numbers_of_every_dtype_are_averaged_in_float64(dtype):
    one, ones = np.ones((), dtype=dtype), np.ones((3, 3), dtype=dtype)
    _, history = train.fit(lambda s, x: (s, {"number": x, "array": ones, "plain": 1}), 0, [one] * 3000)
    assert history == [{"number": 1.0, "array": 1.0, "plain": 1.0}]
    assert math.isnan(train.fit(lambda s, x: (s, {"x": x}), 0, [1.0, math.nan, 1.0])[1][0]["x"])
    assert train.fit(lambda s, x: (s, {"x": x}), 0, [1.0, math.inf, 1.0])[1][0]["x"] == math.inf


def test_large_outputs_do_not_wait_and_pytrees_are_left_to_callbacks():
    recorder = Recorder()
    step = lambda s, x: (s, {"large": np.full((2048, 1024), x), "gradients": {"w": np.ones(3)}, "none": None})
    _, history = train.fit(step, 0, [1.0, 2.0], callbacks=[recorder])
    assert history == [{"large": 1.5}] and "gradients" in recorder.calls[-3]
    with pytest.raises(ArgumentTypeError, match="reports 'x', a str"):
        train.fit(lambda s, x: (s, {"x": "text"}), 0, [1])


def test_a_metric_that_becomes_another_one_is_an_error():
    metrics = [train.TopKAccuracy(k).update(np.ones((1, 3)), fg.array([0])) for k in (1, 1, 2)]
    assert train.fit(lambda s, m: (s, {"m": m}), 0, metrics[:2])[1] == [{"m": 1.0}]
    with pytest.raises(ArgumentTypeError, match="report the same in each step"):
        train.fit(lambda s, m: (s, {"m": m}), 0, metrics)
    with pytest.raises(ArgumentTypeError, match="report the same in each step"):
        train.fit(lambda s, m: (s, {"m": m}), 0, [train.Mean().update(1.0), train.Perplexity().update(1.0)])


def test_metrics_of_one_field_and_of_narrow_dtypes_are_put_together_too():
    class Last(train.Metric):
        value: fg.Array

        def merge(self, other):
            return other

        def compute(self):
            return self.value

    step = lambda s, x: (s, {"count": Count().update(), "last": Last(np.asarray(x, dtype=np.int16))})
    assert train.fit(step, 0, [1, 2, 7], epochs=2)[1] == [{"count": 3, "last": 7}] * 2


def test_an_error_says_in_which_step_and_for_which_batch():
    weights = np.ones((3, 2))
    step = fg.jit(lambda s, batch: (s, {"x": (batch["image"] @ weights).sum()}))
    batches = [{"image": np.ones((4, 3))}, {"image": np.ones((4, 5))}]
    with pytest.raises(ShapeError) as caught:
        train.fit(step, np.zeros(()), batches)
    assert caught.value.__notes__ == ["In step 2 of epoch 0; the batch was ['image']: float32[4,5]."]
    with pytest.raises(ZeroDivisionError) as caught:
        train.fit(lambda s, x: (s, {}), 0, (1 / (1 - i) for i in range(3)))
    assert caught.value.__notes__ == ["In making batch 2 of epoch 0."]


def test_an_empty_dataset_and_a_dying_worker_are_clear_errors():
    with pytest.raises(ArgumentError, match="empty"):
        fg.data.DataLoader([], 4)
    empty = fg.data.DataLoader(Nothing(), 4)
    with pytest.raises(ArgumentError, match="gave no batch"):
        train.fit(lambda s, x: (s, {}), 0, empty)


class Nothing:
    def __iter__(self):
        return iter(())


def test_the_seconds_of_an_epoch_say_where_the_time_went():
    import time

    class Look(train.Callback):
        def on_step(self, run):
            time.sleep(0.003)

        def on_epoch(self, run):
            self.seconds = run.seconds

    def batches(epoch):
        for i in range(5):
            time.sleep(0.01)
            yield i

    look, profile = Look(), train.Profile()
    step, rest = lambda s, x: (time.sleep(0.004), {}), lambda s: time.sleep(0.01) or {}
    _, history = train.fit(step, 0, batches, callbacks=[look, profile], evaluate=rest)
    seconds = look.seconds
    assert seconds.data >= 0.05 and seconds.step >= 0.02 and seconds.callbacks >= 0.015 and seconds.evaluation >= 0.01
    assert history[0]["idle_share"] == seconds.idle_share and 0 < seconds.idle_share < 1
    assert profile.report().splitlines()[1].split()[:2] == ["0", "5"]


def test_a_trace_holds_the_parts_of_each_step(tmp_path):
    path = tmp_path / "folder" / "trace.json"
    train.fit(lambda s, x: (s, {}), 0, range(4), epochs=2, callbacks=[train.Profile(trace=path)])
    events = json.loads(path.read_text())["traceEvents"]
    assert {event["name"] for event in events} == {"data", "step", "callbacks"}
    assert [event["args"]["step"] for event in events if event["name"] == "step"] == list(range(1, 9))
    assert all(event["ph"] == "X" and event["dur"] > 0 for event in events)
    with pytest.raises(LogError, match=r"the trace .* cannot be written"):
        train.fit(lambda s, x: (s, {}), 0, [1], callbacks=[train.Profile(trace=path / "below")])


def test_wrong_uses_of_fit_say_what_to_do():
    with pytest.raises(ArgumentError, match="at least 1 epoch"):
        train.fit(lambda s, x: (s, {}), 0, [1], epochs=0)
    for wrong in (lambda s, x: s, lambda s, x: (s, x), lambda s, x: (s, {}, 1)):
        with pytest.raises(ArgumentTypeError, match=r"\(state, outputs\)"):
            train.fit(wrong, 0, [1])
    with pytest.raises(ArgumentError, match="both"):
        train.fit(lambda s, x: (s, {"a": 1}), 0, [1], evaluate=lambda s: {"a": 1})


class Recorder(train.Callback):
    def __init__(self):
        self.calls = []

    def on_start(self, run):
        self.calls.append("start")

    def on_epoch_start(self, run):
        self.calls.append(f"epoch {run.epoch} of {run.epochs} with {run.batches}")

    def on_step(self, run):
        self.calls.append(f"{run.step}/{run.batch}: {run.state} {dict(run.outputs)}")

    def on_epoch(self, run):
        self.calls.append(f"end {run.metrics}")

    def on_end(self, run):
        self.calls.append("over")


def test_callbacks_are_called_in_order_and_told_of_errors():
    recorder = Recorder()
    train.fit(lambda s, x: (s + x, {"x": x}), 0, [1, 2], 2, evaluate=lambda s: {"s": s}, callbacks=[recorder])
    assert recorder.calls == [
        "start",
        *("epoch 0 of 2 with 2", "1/1: 1 {'x': 1}", "2/2: 3 {'x': 2}", "end {'x': 1.5, 's': 3}"),
        *("epoch 1 of 2 with 2", "3/1: 4 {'x': 1}", "4/2: 6 {'x': 2}", "end {'x': 1.5, 's': 6}"),
        "over",
    ]
    recorder = Recorder()
    with pytest.raises(ZeroDivisionError):
        train.fit(lambda s, x: (1 / x, {}), 0, iter([1, 0]), callbacks=[recorder])
    assert recorder.calls == ["start", "epoch 0 of 1 with None", "1/1: 1.0 {}", "over"]


# Callbacks


@pytest.mark.parametrize(
    ("values", "options", "expected"),
    [
        ([3, 2, 1, 2, 3, 0], dict(patience=2), 5),
        ([3, 2, 1, 2, 0, 3, 3, 3], dict(patience=2), 7),
        ([1, 2, 3, 3, 3, 9], dict(patience=2, mode="max"), 5),
        ([3, 2.9, 2.8, 2.7], dict(patience=2, min_delta=0.5), 3),
        ([math.nan, math.nan, math.nan, 1], dict(patience=2), 2),
        ([math.nan, 2, math.nan, 1], dict(patience=2), 4),
    ],
)
def test_early_stopping_waits_for_a_better_value(values, options, expected):
    stop = train.EarlyStopping("loss", **options)
    step = lambda state, x: (state + 1, {"loss": float(x)})
    _, history = train.fit(step, 0, lambda epoch: [values[epoch]], len(values), callbacks=[stop])
    assert len(history) == expected


def test_early_stopping_can_give_the_best_state_back():
    values = [3.0, 1.0, 2.0, 2.0, 2.0]
    stop = train.EarlyStopping("loss", patience=2, keep_best=True)
    state, _ = train.fit(lambda s, x: (s + 1, {"loss": x}), 0, lambda e: [values[e]], 5, callbacks=[stop])
    assert state == 2 and stop.best == 1.0 and stop.best_epoch == 1


def test_a_metric_that_is_not_there_is_named():
    with pytest.raises(ArgumentError, match="goes by the metric 'los', and the run has loss, x"):
        train.fit(lambda s, x: (s, {"loss": 1, "x": 1}), 0, [1], callbacks=[train.EarlyStopping("los")])


def test_wrong_settings_of_callbacks_say_what_to_do(tmp_path):
    for make in (
        lambda: train.EarlyStopping("x", patience=0),
        lambda: train.EarlyStopping("x", mode="best"),
        lambda: train.Checkpoints(tmp_path, every_epochs=0),
        lambda: train.Checkpoints(tmp_path, every_steps=0),
        lambda: train.NaNWatch(every_steps=0),
        lambda: train.Log(every_steps=0),
        lambda: train.ProgressBar(style="fancy"),
    ):
        with pytest.raises(ArgumentError):
            make()
    with pytest.raises(ArgumentError, match="within an epoch"):
        train.fit(lambda s, x: (s, {}), 0, [1], callbacks=[train.Checkpoints(tmp_path, every_steps=1)])


def test_the_watch_for_nan_names_the_place():
    def step(state, x):
        metric = train.Mean().update(fg.array([1.0, x]))
        return {"w": fg.array([1.0, x], dtype=fg.bfloat16), "n": 1}, {"loss": metric, "ok": 1.0}

    watch = train.NaNWatch()
    with pytest.raises(NotFiniteError, match=r"step 2 of epoch 0 .* \['loss'\].*\['w'\] of the state \(1 of 2"):
        train.fit(step, {}, [1.0, math.nan], callbacks=[watch])
    train.fit(step, {}, [1.0, math.nan], callbacks=[train.NaNWatch(every_steps=3)])
    quiet = lambda state, x: (step(state, x)[0], {})
    train.fit(quiet, {}, [math.inf], callbacks=[watch])
    with pytest.raises(NotFiniteError, match=r"\['w'\] of the state"):
        train.fit(quiet, {}, [math.inf], callbacks=[train.NaNWatch(check_state=True)])


class Places:
    """Data that can say where they are, as a loader can."""

    def __init__(self, n, epochs=100):
        self.n, self.epoch, self.at = n, 0, 0

    def __len__(self):
        return self.n

    def __iter__(self):
        while self.at < self.n:
            self.at += 1
            yield 1000 * self.epoch + self.at
        self.epoch, self.at = self.epoch + 1, 0

    def state(self):
        return {"epoch": self.epoch + (self.at == self.n), "at": self.at % self.n}

    def restore(self, state):
        self.epoch, self.at = state["epoch"], state["at"]


class Count(train.Metric):
    """A metric of one's own."""

    number: fg.Array

    def __init__(self):
        self.number = np.zeros((), dtype=np.int32)

    def update(self):
        return self.replace(number=self.number + 1)

    def compute(self):
        return self.number


@pytest.mark.parametrize("every_steps", [None, 1, 2, 3])
@pytest.mark.parametrize("fails_at", [1, 4, 5, 6, 9, 12])
def test_a_run_that_breaks_off_and_starts_again_ends_like_one_that_did_not(fails_at, every_steps, tmp_path):
    seen = []

    def step(state, x):
        if len(seen) == fails_at:
            seen.append(None)
            raise KeyboardInterrupt
        seen.append(x)
        return fg.tree.map(lambda s: 3 * s + x, state), {"x": x, "n": Count().update()}

    def run():
        saving = train.Checkpoints(tmp_path, every_steps=every_steps)
        return train.fit(step, [np.zeros((), dtype=np.int64)], Places(4), epochs=3, callbacks=[saving])

    expected = np.zeros((), dtype=np.int64)
    for epoch in range(3):
        for i in range(4):
            expected = 3 * expected + 1000 * epoch + i + 1
    if fails_at < 12:
        with pytest.raises(KeyboardInterrupt):
            run()
    (state,), history = run()
    assert int(state) == int(expected)
    means = [{"x": 1000 * epoch + 2.5, "n": 4} for epoch in range(3)]
    assert history == means
    again, history = run()
    assert int(again[0]) == int(expected) and history == means
    repeated = len([x for x in seen if x is not None]) - 12
    assert repeated == 0 if every_steps == 1 else repeated <= 4


def test_early_stopping_goes_on_with_a_run_as_if_it_had_not_been_broken_off(tmp_path):
    values = [3.0, 1.0, 2.0, 2.5, 2.0, 0.0]

    def run(fails_at, folder):
        def step(state, batch):
            if state[0] == fails_at:
                raise KeyboardInterrupt
            return [state[0] + 1], {"loss": batch}

        stop = train.EarlyStopping("loss", patience=3, keep_best=True)
        data = lambda epoch: [values[epoch]]
        callbacks = [train.Checkpoints(tmp_path / folder), stop]
        return train.fit(step, [0], data, 6, callbacks=callbacks), stop

    (expected, history), stop = run(-1, "whole")
    assert expected == [2] and stop.best_epoch == 1 and len(history) == 5
    for fails_at in range(1, 5):
        with pytest.raises(KeyboardInterrupt):
            run(fails_at, str(fails_at))
        for _ in range(2):  # the second time there is nothing left to do
            (state, again), stop = run(-1, str(fails_at))
            assert state == expected and again == history and stop.best_epoch == 1


@pytest.mark.parametrize("keep_best", [False, True])
def test_a_step_that_gives_its_state_away_can_be_saved_and_kept(keep_best, tmp_path):
    values = [1.0, 2.0, 3.0]
    step = fg.jit(lambda state, x: ({"w": state["w"] + x}, {"loss": x}), donate_argnums=0)
    stop = train.EarlyStopping("loss", patience=2, keep_best=keep_best)
    saving = train.Checkpoints(tmp_path)
    data = lambda epoch: [fg.array(values[epoch])]
    state, _ = train.fit(step, {"w": np.zeros(3)}, data, 3, callbacks=[saving, stop])
    assert state["w"].tolist() == [1.0 if keep_best else 6.0] * 3
    assert saving.manager.restore({"w": np.zeros(3)}, at="['state']")["w"].tolist() == [6.0] * 3


def test_a_history_with_arrays_is_restored(tmp_path):
    labels = fg.array([0, 1, 1])

    def run(epochs):
        step = lambda s, x: (s, {"matrix": train.ConfusionMatrix(2).update(labels, labels), "nan": math.nan})
        return train.fit(step, 0, [1], epochs, callbacks=[train.Checkpoints(tmp_path)])[1]

    run(1)
    (first, second) = run(2)
    assert first["matrix"].tolist() == second["matrix"].tolist() == [[1, 0], [0, 2]]
    assert first["matrix"].dtype == second["matrix"].dtype and math.isnan(first["nan"])


def test_a_damaged_or_foreign_checkpoint_says_what_to_do(tmp_path):
    def run(state, **options):
        step = lambda s, x: (fg.tree.map(lambda w: w + 1, s), {})
        return train.fit(step, state, [1], 3, callbacks=[train.Checkpoints(tmp_path, **options)])[0]

    run({"w": np.zeros(3)})
    with pytest.raises(CheckpointMismatchError, match="only in the example") as caught:
        run({"w": np.zeros(3), "b": 0})
    assert "resume=False" in caught.value.__notes__[0]
    assert run({"w": np.zeros(3), "b": 0}, resume=False)["b"] == 3
    path = sorted(tmp_path.iterdir())[-1]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedCheckpointError) as caught:
        run({"w": np.zeros(3), "b": 0})
    assert "Remove it to go on from the checkpoint before it" in caught.value.__notes__[0]
    path.unlink()
    assert run({"w": np.zeros(3), "b": 0})["w"].tolist() == [3.0] * 3


def test_checkpoints_keep_the_best(tmp_path):
    manager = checkpoints.CheckpointManager(tmp_path, keep_last=1, keep_best=1, metric="loss")
    values = [3.0, 1.0, 2.0, 2.5]
    saving = train.Checkpoints(manager)
    train.fit(lambda s, x: (s + 1, {"loss": x}), 0, lambda e: [values[e]], 4, callbacks=[saving])
    assert manager.steps() == [2, 4] and manager.best().name == "checkpoint-00000002.safetensors"


def test_an_error_of_saving_reaches_the_user(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(28, "No space left")

    monkeypatch.setattr(checkpoints.atomic.os, "write", refuse)
    with pytest.raises(CheckpointError, match="No space left"):
        train.fit(lambda s, x: (s, {}), 0, [1], callbacks=[train.Checkpoints(tmp_path)])


RESUMED = """
import sys
import funcgrad as fg
from funcgrad import train
import time

@fg.jit
def step(state, x):
    w, key = state
    key, noise = fg.random.split(key)
    return (w + x * fg.random.normal(noise, (3,)), key), {"x": x}

class Slow(train.Callback):
    def on_epoch(self, run):
        print("epoch", run.epoch, flush=True)

state = (fg.numpy.zeros(3), fg.random.key(0))
callbacks = [train.Checkpoints(sys.argv[1]), Slow()]
state, _ = train.fit(step, state, [fg.numpy.ones(())] * 50, epochs=20, callbacks=callbacks)
print("result", state[0].tolist(), flush=True)
"""


def test_a_run_that_is_killed_and_started_again_gives_the_same_bits(tmp_path):
    def start(folder):
        program = [sys.executable, "-c", textwrap.dedent(RESUMED), str(tmp_path / folder)]
        return subprocess.Popen(program, stdout=subprocess.PIPE, text=True)

    with start("whole") as process:
        expected = process.communicate()[0].splitlines()[-1]
    assert expected.startswith("result")
    with start("killed") as process:
        while "epoch 7" not in process.stdout.readline():
            pass
        os.kill(process.pid, signal.SIGKILL)
    with start("killed") as process:
        lines = process.communicate()[0].splitlines()
    assert lines[-1] == expected
    assert int(lines[0].split()[1]) > 5


# Loggers


def numbers_of_a_run(*callbacks, every=None):
    step = lambda s, x: (s, {"loss": x, "seen": train.Mean().update(x)})
    return train.fit(step, 0, [1.0, fg.array(3.0)], epochs=2, callbacks=callbacks)[1]


def test_json_lines_hold_the_metrics(tmp_path):
    path = tmp_path / "folder" / "log.jsonl"
    numbers_of_a_run(train.Log(train.JSONLinesLogger(path), every_steps=2))
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert rows == [
        {"step": 2, "batch/loss": 3.0, "batch/seen": 3.0},
        {"step": 2, "loss": 2.0, "seen": 2.0, "epoch": 1},
        {"step": 4, "batch/loss": 3.0, "batch/seen": 3.0},
        {"step": 4, "loss": 2.0, "seen": 2.0, "epoch": 2},
    ]
    train.JSONLinesLogger(path).log({"a": math.nan, "b": np.array([1.0, np.inf]), "c": "ü", "d": np.array(True)}, 5)
    assert json.loads(path.read_text().splitlines()[-1]) == {
        "step": 5,
        "a": None,
        "b": [1.0, None],
        "c": "ü",
        "d": True,
    }


def test_outputs_of_steps_are_logged_as_an_epoch_sums_them_up(tmp_path):
    def step(state, x):
        matrix = train.ConfusionMatrix(2).update(fg.array([0, 1]), fg.array([1, 1]))
        return state, {"losses": fg.array([1.0, 2.0]), "matrix": matrix, "gradients": {"w": x}}

    path = tmp_path / "log.jsonl"
    train.fit(step, 0, [np.ones(3)], callbacks=[train.Log(train.JSONLinesLogger(path), every_steps=1)])
    first, second = (json.loads(line) for line in path.read_text().splitlines())
    assert first == {"step": 1, "batch/losses": 1.5, "batch/matrix": [[0, 0], [1, 1]]}
    assert second == {"step": 1, "losses": 1.5, "matrix": [[0, 0], [1, 1]], "epoch": 1}


def test_csv_grows_columns_and_goes_on_in_an_old_file(tmp_path):
    path = tmp_path / "folder" / "log.csv"
    train.CSVLogger(path).log({"loss": np.array(0.5), "note": 'a, "b"\nc'}, 1)
    log = train.CSVLogger(path)
    log.log({"loss": 0.25}, 2)
    log.log({"accuracy": 1, "loss": math.nan}, 3)
    log.log({"accuracy": 2}, 4)
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    assert [list(row.values()) for row in rows] == [
        ["1", "0.5", 'a, "b"\nc', ""],
        ["2", "0.25", "", ""],
        ["3", "nan", "", "1"],
        ["4", "", "", "2"],
    ]


def test_logs_of_a_run_that_goes_on_hold_each_step_once(tmp_path):
    def run(fails_at):
        def step(state, x):
            if state == fails_at:
                raise KeyboardInterrupt
            return state + 1, {"x": x}

        loggers = train.JSONLinesLogger(tmp_path / "log.jsonl"), train.CSVLogger(tmp_path / "log.csv")
        callbacks = [train.Log(*loggers, every_steps=1), train.Checkpoints(tmp_path / "saved")]
        train.fit(step, 0, [1, 2, 3], epochs=3, callbacks=callbacks)

    with pytest.raises(KeyboardInterrupt):
        run(5)
    run(-1)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    expected = [1, 2, 3, 3, 4, 5, 6, 6, 7, 8, 9, 9]
    assert [row["step"] for row in rows] == expected
    assert [int(row["step"]) for row in csv.DictReader(io.StringIO((tmp_path / "log.csv").read_text()))] == expected


def test_a_line_that_a_killed_run_left_unfinished_is_removed(tmp_path):
    lines, table = tmp_path / "log.jsonl", tmp_path / "log.csv"
    lines.write_text('{"step": 1, "a": "\u2028"}\n{"step": 2, "a"')
    train.JSONLinesLogger(lines).log({"a": 3}, 3)
    assert [json.loads(line)["step"] for line in lines.read_text().split("\n")[:-1]] == [1, 3]
    for torn in ("2,0.", '2,"text\n'):
        table.write_text("step,a\n1,0.5\n" + torn)
        train.CSVLogger(table).log({"a": 3}, 3)
        assert table.read_text() == "step,a\n1,0.5\n3,3\n"


def test_a_log_that_cannot_be_written_is_a_clear_error(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for make in (train.JSONLinesLogger, train.CSVLogger, train.TensorBoardLogger):
        logger = make(tmp_path / "file" / "log")
        with pytest.raises(LogError, match=r"the log .* cannot be written: .*; make room"):
            train.fit(lambda s, x: (s, {"x": 1.0}), 0, [1], callbacks=[train.Log(logger)])
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(LogError, match="is no log"):
        train.CSVLogger(tmp_path / "other.csv").log({"x": 1}, 1)
    (tmp_path / "other.jsonl").write_text("[]\n")
    with pytest.raises(LogError, match="is no log"):
        train.JSONLinesLogger(tmp_path / "other.jsonl").resume(3)


FULL = """
import resource, sys
import funcgrad as fg
from funcgrad import train

resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))  # files cannot become larger, as on a disk that is full
make, path = getattr(train, sys.argv[1]), sys.argv[2]
logger = make(path)
try:
    train.fit(lambda s, x: (s, {"x": x}), 0, range(1000), callbacks=[train.Log(logger, every_steps=1)])
except fg.errors.LogError as error:
    print(error.message)
"""


@pytest.mark.parametrize("kind", ["JSONLinesLogger", "CSVLogger", "TensorBoardLogger"])
def test_a_full_disk_is_a_clear_error_and_keeps_what_was_logged(kind, tmp_path):
    program = [sys.executable, "-c", FULL, kind, str(tmp_path / "log")]
    result = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
    assert "cannot be written: File too large" in result.stdout, result.stderr
    assert not result.stderr
    if kind == "JSONLinesLogger":
        assert len((tmp_path / "log").read_text().splitlines()) > 50


def test_the_console_shows_numbers(capsys):
    train.ConsoleLogger().log({"loss": np.array(0.123456), "n": 3, "matrix": np.ones((2, 2)), "text": "a"}, 7)
    assert capsys.readouterr().out == "step 7: loss 0.1235  n 3  text a\n"


def test_the_progress_bar_prints_a_line_for_each_epoch(capsys):
    numbers_of_a_run(train.ProgressBar())  # not a terminal
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  (")[0] for line in lines] == ["epoch 1/2  loss 2  seen 2", "epoch 2/2  loss 2  seen 2"]


def test_the_progress_bar_of_rich_prints_them_too_and_ends_after_an_error(capsys):
    pytest.importorskip("rich")
    bar = train.ProgressBar(style="rich")
    numbers_of_a_run(bar)
    assert "epoch 2/2  loss 2  seen 2" in capsys.readouterr().out
    with pytest.raises(ZeroDivisionError):
        train.fit(lambda s, x: (s, {"x": 1 / x}), 0, [1, 0], callbacks=[bar])
    assert bar._bar is None


def test_the_learning_rate_of_the_state_is_found():
    optimizer = fg.optim.inject_hyperparams(fg.optim.sgd)(learning_rate=lambda count: 0.5**count)

    @fg.jit
    def step(state, x):
        w, rest = state
        updates, rest = optimizer.update(x, rest, w)
        return (w + updates, rest), {}

    w, seen = np.zeros(()), []

    class Look(train.Callback):
        def on_step(self, run):
            seen.append(run.outputs.get("learning_rate"))

    callbacks = [train.LearningRate(every_steps=2), Look()]
    _, history = train.fit(step, (w, optimizer.init(w)), [np.ones(())] * 3, callbacks=callbacks)
    assert history == [{"learning_rate": 0.25}] and seen == [None, 0.5, None]
    with pytest.raises(ArgumentError, match="no learning rate in the state"):
        train.fit(lambda s, x: (s, {}), 0, [1], callbacks=[train.LearningRate()])


def test_gradients_are_watched():
    @fg.jit
    def step(w, x):
        return w, {"gradients": fg.grad(lambda w: x * (w["a"].sum() + 2 * w["b"]))(w)}

    watch = train.GradientWatch()
    w = {"a": np.zeros(4), "b": np.zeros(())}
    _, history = train.fit(step, w, [np.asarray(x) for x in (1.0, 3.0)], callbacks=[watch])
    size = math.sqrt(8)
    assert history[0] == {"gradient_norm": pytest.approx(2 * size), "largest_gradient_norm": pytest.approx(3 * size)}
    assert watch.norms == {"['a']": 6.0, "['b']": 6.0}
    with pytest.raises(NotFiniteError, match=r"\['gradients'\]\['a'\] of the outputs \(4 of 4 elements\)"):
        train.fit(step, w, [np.asarray(math.inf)], callbacks=[train.NaNWatch()])
    with pytest.raises(ArgumentError, match="looks for 'slopes', and the step reports gradients"):
        train.fit(step, w, [np.ones(())], callbacks=[train.GradientWatch("slopes")])
    half = {"g": np.full(3, 300, dtype=np.float16)}
    train.fit(lambda s, x: (s, {"gradients": half}), 0, [1], callbacks=[watch])
    assert watch.norms["['g']"] == pytest.approx(300 * math.sqrt(3))


def test_the_learning_rate_is_a_metric():
    rate = train.LearningRate(lambda count: np.asarray(1.0) / count)
    assert [metrics["learning_rate"] for metrics in numbers_of_a_run(rate)] == [0.5, 0.25]


@pytest.mark.parametrize("package", ["tensorboardX", "rich"])
def test_a_missing_package_is_named_with_its_extra(package, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(sys.modules, f"{package}.summary", None)
    monkeypatch.setattr("funcgrad.train.progress.find_spec", lambda name: None)
    make = {"tensorboardX": lambda: train.TensorBoardLogger(tmp_path), "rich": lambda: train.ProgressBar(style="rich")}
    with pytest.raises(MissingPackageError, match=rf"needs {package}; install it with pip install 'funcgrad\[train\]'"):
        make[package]()


# TensorBoard's event files, read by TensorBoard


def read_events(folder):
    """What TensorBoard's own reader finds in a folder."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulator.EventAccumulator(
        str(folder), size_guidance=dict.fromkeys(["scalars", "histograms", "images"], 0)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of TensorBoard about NumPy
        found.Reload()
    return found


def test_tensorboard_reads_what_was_logged(tmp_path):
    model = fg.nn.MLP(3, 2, width=4, depth=1, key=fg.random.key(0))
    picture = numpy.linspace(0, 1, 48).reshape(4, 4, 3)
    with train.TensorBoardLogger(tmp_path) as board:
        numbers_of_a_run(train.Log(board))
        board.log({"note": "some *text*", "values": np.asarray([1.0, 2.0, np.nan], dtype=np.bfloat16)}, 5)
        board.histograms(model, 6, prefix="model")
        board.image("picture", picture, 7)
        board.image("grey", np.ones((2, 3), dtype=np.uint8), 7)
        settings = {"rate": np.array(0.1), "name": "small", "sizes": [1, 2], "deep": True}
        board.hyperparameters(settings, {"final": 0.5})
        board.log({"gradients": {"w": np.ones(3)}, "empty": np.full(2, np.nan)}, 8)
        board.flush()
    found = read_events(tmp_path)
    scalars = {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}
    assert scalars == {
        "loss": [(2, 2), (4, 2)],
        "seen": [(2, 2), (4, 2)],
        "epoch": [(2, 1), (4, 2)],
        "final": [(0, 0.5)],
    }
    layers = {f"model/layers/{i}/{name}" for i in (0, 1) for name in ("weight", "bias")}
    assert set(found.Tags()["histograms"]) == {"values", "gradients/w", *layers}
    values = found.Histograms("values")[0].histogram_value
    assert (values.num, values.min, values.max) == (2, 1, 2)
    weights = found.Histograms("model/layers/0/weight")[0].histogram_value
    assert weights.num == 12 and weights.min == pytest.approx(float(model.layers[0].weight.min()))
    (note,) = found.Tensors("note/text_summary")
    assert (note.step, note.tensor_proto.string_val[0]) == (5, b"some *text*")
    image = pytest.importorskip("PIL.Image")
    (shown,) = found.Images("picture")
    pixels = numpy.asarray(image.open(io.BytesIO(shown.encoded_image_string)))
    numpy.testing.assert_array_equal(pixels, (picture * 255).round())
    assert [(e.step, e.height, e.width) for e in found.Images("grey")] == [(7, 2, 3)]


def test_tensorboard_reads_hyper_parameters(tmp_path):
    plugin_data_pb2 = pytest.importorskip("tensorboard.plugins.hparams.plugin_data_pb2")
    with train.TensorBoardLogger(tmp_path) as board:
        board.hyperparameters(
            {"rate": np.array(0.1), "name": "small", "sizes": [1, 2], "deep": True}, {"final loss": 0.5}
        )
    found = read_events(tmp_path).summary_metadata
    start = plugin_data_pb2.HParamsPluginData.FromString(
        found["_hparams_/session_start_info"].plugin_data.content
    ).session_start_info.hparams
    assert start["rate"].number_value == pytest.approx(0.1) and start["name"].string_value == "small"
    assert start["sizes"].string_value == "[1, 2]" and start["deep"].bool_value
    content = found["_hparams_/experiment"].plugin_data.content
    experiment = plugin_data_pb2.HParamsPluginData.FromString(content).experiment
    (metric,) = [info.name.tag for info in experiment.metric_infos]
    assert read_events(tmp_path).Scalars(metric)[0].value == 0.5


def test_tensorboard_reads_the_graph_of_a_program(tmp_path):
    model = fg.nn.MLP(3, 2, width=4, depth=1, key=fg.random.key(0))

    @fg.jit
    def loss(model, batch):
        x, y = batch
        x = fg.lax.fori_loop(0, 3, lambda i, x: 0.5 * x, x)
        return ((model(x) - y) ** 2).mean()

    def step(model, batch):
        value, gradient = fg.value_and_grad(loss)(model, batch)
        return fg.tree.map(lambda p, g: p - 0.1 * g, model, gradient), value

    with train.TensorBoardLogger(tmp_path) as board:
        board.graph(step, model, (fg.ShapeDtypeStruct((5, 3), fg.float32), np.zeros((5, 2))))
    nodes = {node.name: node for node in read_events(tmp_path).Graph().node}
    assert nodes["inputs/model/layers/0/weight"].attr["_output_shapes"].list.shape[0].dim[0].size == 4
    assert "inputs/batch/1" in nodes and "outputs/output" in nodes
    operations = {node.op for node in nodes.values()}
    assert {"dot_general", "mul", "sub", "Placeholder", "Output", "Const"} <= operations
    for node in nodes.values():
        for source in node.input:
            assert source.split(":")[0] in nodes
    groups = {name.split("/")[0] for name in nodes}
    assert groups >= {"inputs", "outputs", "forward_of_loss", "transpose_of_linear_part_of_loss"}
    product = next(node for node in nodes.values() if node.op == "dot_general")
    assert product.attr["dtype"].s == b"float32" and b"test_train.py" in product.attr["line"].s
    groups = {name.rsplit("/", i)[0] for name in nodes for i in range(1, name.count("/") + 1)}
    assert not groups & set(nodes)


def test_a_program_is_a_graph_too(tmp_path):
    program = fg.make_program(lambda x, y: (x * y, fg.numpy.tanh(x)))(np.ones(3), 2.0)
    with train.TensorBoardLogger(tmp_path) as board:
        board.graph(program)
    nodes = {node.name: node for node in read_events(tmp_path).Graph().node}
    assert {"inputs/input", "inputs/input_1", "outputs/output", "outputs/output_1"} <= set(nodes)
    assert nodes["outputs/output"].input[0] in nodes


def test_tensorboard_forgets_the_steps_after_the_checkpoint_that_a_run_goes_on_from(tmp_path):
    def run(fails_at):
        def step(state, x):
            if state == fails_at:
                raise KeyboardInterrupt
            return state + 1, {"x": 10.0 * (fails_at + 1) + x}

        log = train.Log(train.TensorBoardLogger(tmp_path / "board"), every_steps=1)
        train.fit(step, 0, [1, 2, 3], epochs=3, callbacks=[log, train.Checkpoints(tmp_path / "saved")])

    with pytest.raises(KeyboardInterrupt):
        run(5)
    run(-1)
    events = read_events(tmp_path / "board").Scalars("batch/x")
    of_steps = [(e.step, e.value) for e in events]
    assert [step for step, _ in of_steps] == list(range(1, 10))
    assert [value for _, value in of_steps[:4]] == [61, 62, 63, 1]


def test_wrong_images_say_what_to_do(tmp_path):
    pytest.importorskip("tensorboardX")
    with train.TensorBoardLogger(tmp_path) as board:
        for wrong in (np.ones(3), np.ones((2, 2, 2)), np.ones((2, 2), dtype=np.int32)):
            with pytest.raises(ArgumentError, match="image"):
                board.image("x", wrong, 0)
