"""Training: the loop against one written by hand, callbacks, and runs that go on after they were broken off."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import textwrap

import data_workers
import numpy
import pytest

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
    NotFiniteError,
    ShapeError,
    WorkerError,
)


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


def test_a_worker_that_dies_is_a_clear_error():
    with (
        fg.data.DataLoader(data_workers.Dying(), 4, workers=1, worker_kind="process") as loader,
        pytest.raises(WorkerError, match="SIGKILL") as caught,
    ):
        train.fit(lambda s, x: (s, {}), 0, loader)
    assert "In making batch" in caught.value.__notes__[-1]


def test_an_empty_dataset_is_a_clear_error():
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
