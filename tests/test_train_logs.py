"""What loggers write, and what TensorBoard reads of it; the progress bar."""

from __future__ import annotations

import csv
import io
import json
import math
import subprocess
import sys
import warnings

import numpy
import pytest

import funcgrad as fg
import funcgrad.numpy as np
from funcgrad import train
from funcgrad.errors import (
    ArgumentError,
    LogError,
    MissingPackageError,
    NotFiniteError,
)


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
    assert product.attr["dtype"].s == b"float32" and b"test_train_logs.py" in product.attr["line"].s
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
