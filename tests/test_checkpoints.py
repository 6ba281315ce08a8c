"""Checkpoints: what was saved comes back, whatever else happens comes as a clear error, and nothing is ever lost."""

from __future__ import annotations

import collections
import errno
import json
import math
import os
import random
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
import typing

import numpy
import pytest

import funcgrad as fg
import funcgrad.numpy as np
from funcgrad import checkpoints, dtypes
from funcgrad.checkpoints import CheckpointManager, atomic
from funcgrad.errors import (
    ArgumentError,
    ArgumentTypeError,
    CheckpointError,
    CheckpointMismatchError,
    DamagedCheckpointError,
    DtypeError,
    MissingCheckpointError,
    TracedValueError,
    TreeError,
)

ALL_DTYPES = dtypes.ALL


class Counts(typing.NamedTuple):
    step: typing.Any
    seen: typing.Any


def assert_same(left, right):
    """That two trees have the same structure, kinds of leaves, dtypes and bits."""
    assert fg.tree.structure(left) == fg.tree.structure(right)
    for a, b in zip(fg.tree.leaves(left), fg.tree.leaves(right), strict=True):
        assert type(a) is type(b)
        if isinstance(a, (fg.Array, numpy.ndarray, numpy.generic)):
            assert a.dtype is b.dtype or not isinstance(a, fg.Array)
            assert a.dtype == b.dtype and a.shape == b.shape
            assert numpy.asarray(a).tobytes() == numpy.asarray(b).tobytes()
        else:
            assert a == b or a != a and b != b
            assert repr(a) == repr(b)


def make_training_state(seed=0):
    model_key, key = fg.random.split(fg.random.key(seed))
    model = fg.nn.MLP(3, 2, width=4, depth=2, key=model_key)
    optimizer = fg.optim.chain(fg.optim.clip_by_global_norm(1.0), fg.optim.adam(lambda count: 0.1 / (1 + count)))
    return {"model": model, "optimizer": optimizer.init(model), "key": key, "step": 0, "loader": {"epoch": 1, "at": 7}}


# What was saved comes back


def test_a_training_state_comes_back_bit_by_bit(tmp_path):
    state = make_training_state(1)
    path = checkpoints.save(tmp_path / "state.safetensors", state, step=12, metadata={"loss": np.array(0.5)})
    assert_same(checkpoints.restore(path, make_training_state(2)), state)
    info = checkpoints.read_info(path)
    assert info.step == 12 and info.metadata == {"loss": 0.5}
    assert info.leaves["['model'].layers[0].weight"] == "float32[4,3]"
    assert info.leaves["['step']"] == "a Python int"


@pytest.mark.parametrize("dtype", ALL_DTYPES, ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("shape", [(), (3,), (2, 0, 3), (2, 3)])
def test_every_dtype_comes_back(dtype, shape, tmp_path):
    values = numpy.random.default_rng(0).integers(0, 2, (*shape, dtype.itemsize), dtype=numpy.uint8)
    array = (
        numpy.ascontiguousarray(values).view(dtype).reshape(shape)
        if dtype is not fg.bool_
        else values.astype(bool)[..., 0]
    )
    tree = {"ours": fg.array(array), "numpy's": numpy.asarray(array)}
    path = checkpoints.save(tmp_path / "x.safetensors", tree)
    assert_same(checkpoints.restore(path, tree), tree)
    assert_same(checkpoints.load_arrays(path)["ours"], tree["ours"])


@pytest.mark.parametrize(
    "value",
    [
        *(True, 0, -5, 2**63, -(10**2000), 0.1, -0.0, 1e-320, math.inf, -math.inf, math.nan, 1 + 2j),
        *(complex(-0.0, math.inf), "", 'text with "quotes", \n, ü and \ud800', b"\x00\xff", numpy.float16(1.5)),
        *(numpy.bool_(True), numpy.complex128(1j)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_scalars_come_back_as_what_they_were(value, tmp_path):
    path = checkpoints.save(tmp_path / "x.safetensors", value)
    assert_same(checkpoints.restore(path, type(value)(value)), value)


def test_containers_of_every_kind_come_back(tmp_path):
    tree = (
        None,
        [Counts(1, np.ones(2)), {}, ()],
        collections.OrderedDict(b=1, a=(2,)),
        collections.defaultdict(int, x=1),
        collections.deque([1, np.zeros(2)]),
        {1: "one", 20: "twenty"},
    )
    path = checkpoints.save(tmp_path / "x.safetensors", tree)
    assert_same(checkpoints.restore(path, tree), tree)


def test_layouts_of_memory_do_not_matter(tmp_path):
    base = numpy.arange(24.0).reshape(4, 6)
    tree = {"fortran": numpy.asfortranarray(base), "strided": base[::2, ::-3], "swapped": base.astype(">f8")}
    restored = checkpoints.restore(checkpoints.save(tmp_path / "x.safetensors", tree), tree)
    for name in tree:
        numpy.testing.assert_array_equal(restored[name], tree[name])


def test_python_scalars_and_the_weak_arrays_they_become_stand_for_each_other(tmp_path):
    weak = fg.jit(lambda state: state)({"step": 3, "rate": 0.5})
    assert weak["step"].weak_type
    path = checkpoints.save(tmp_path / "x.safetensors", weak)
    assert_same(checkpoints.restore(path, {"step": 0, "rate": 0.0}), {"step": 3, "rate": 0.5})
    assert_same(checkpoints.restore(path, weak), weak)
    path = checkpoints.save(tmp_path / "x.safetensors", {"step": 3, "rate": 0.5})
    assert_same(checkpoints.restore(path, weak), weak)


def test_the_example_may_be_shapes_without_values(tmp_path):
    state = make_training_state(1)["model"]
    path = checkpoints.save(tmp_path / "x.safetensors", state)
    assert_same(checkpoints.restore(path, fg.eval_shape(lambda: make_training_state(0)["model"])), state)


def test_restored_arrays_work_as_others_do(tmp_path):
    path = checkpoints.save(tmp_path / "x.safetensors", [fg.array([1.0, 2.0], dtype=fg.bfloat16)])
    (x,) = checkpoints.restore(path, [np.zeros(2, dtype=fg.bfloat16)])
    assert fg.grad(lambda x: (x * x).sum())(x).tolist() == [2.0, 4.0]


def test_paths_that_read_alike_get_names_of_their_own(tmp_path):
    tree = {"a": {"b": np.ones(1)}, "a.b": np.zeros(1), "__metadata__": np.ones(2)}
    path = checkpoints.save(tmp_path / "x.safetensors", tree)
    assert_same(checkpoints.restore(path, tree), tree)
    assert len(checkpoints.load_arrays(path)) == 3


def test_what_a_checkpoint_cannot_hold_is_refused_by_path(tmp_path):
    for leaf in (print, object(), numpy.array(["a"]), numpy.datetime64(0, "s")):
        with pytest.raises(ArgumentTypeError, match=r"\['a'\]\[1\]"):
            checkpoints.save(tmp_path / "x", {"a": [1, leaf]})
    with pytest.raises(ArgumentTypeError, match="metadata"):
        checkpoints.save(tmp_path / "x", 1, metadata={"f": print})
    with pytest.raises(TracedValueError, match="saving a checkpoint"):
        fg.jit(lambda x: checkpoints.save(tmp_path / "x", x))(1.0)
    assert not list(tmp_path.iterdir())


def test_two_leaves_with_one_path_are_refused(tmp_path):
    class Same(str):
        __slots__ = ("number",)
        __hash__ = object.__hash__

        def __eq__(self, other):
            return self is other

    with pytest.raises(TreeError, match="two leaves"):
        checkpoints.save(tmp_path / "x", collections.OrderedDict([(Same("a"), 1), (Same("a"), 2)]))


# Restoring into an example that does not fit, and in part


def test_all_that_does_not_fit_is_named(tmp_path):
    saved = {"w": np.ones((3, 2)), "b": np.ones(2), "old": np.ones(1), "n": 3, "name": "a"}
    path = checkpoints.save(tmp_path / "x.safetensors", saved)
    example = {"w": np.ones((3, 4)), "b": np.ones(2, dtype=fg.float16), "new": {"c": np.ones(5)}, "n": 1.0, "name": "b"}
    with pytest.raises(CheckpointMismatchError) as caught:
        checkpoints.restore(path, example)
    message = caught.value.message
    assert "only in the example: ['new']['c'] (float32[5])" in message
    assert "only in the file: ['old']" in message
    assert "['w'] is float32[3,2] in the file and float32[3,4] in the example" in message
    assert "['b'] is float32[2] in the file and float16[2] in the example" in message
    assert "['n'] is a Python int in the file and a Python float in the example" in message
    assert "name" not in message.replace("x.safetensors", "")


def test_a_long_list_of_what_does_not_fit_is_cut(tmp_path):
    path = checkpoints.save(tmp_path / "x.safetensors", [0] * 100)
    with pytest.raises(CheckpointMismatchError, match="and 90 more"):
        checkpoints.restore(path, [0] * 2)


def test_an_array_for_a_number_and_a_number_for_an_array_do_not_fit(tmp_path):
    path = checkpoints.save(tmp_path / "x.safetensors", [np.array(1, dtype=fg.int32), 1])
    with pytest.raises(CheckpointMismatchError, match=r"int32\[\] in the file and a Python int in the example"):
        checkpoints.restore(path, [1, 1])
    with pytest.raises(CheckpointMismatchError, match=r"a Python int in the file and int32\[\] in the example"):
        checkpoints.restore(path, [np.array(1, dtype=fg.int32)] * 2)


def test_a_part_of_a_checkpoint_can_be_restored(tmp_path):
    state = make_training_state(1)
    path = checkpoints.save(tmp_path / "x.safetensors", state)
    example = make_training_state(2)
    assert_same(checkpoints.restore(path, example["model"], at="['model']"), state["model"])
    assert_same(checkpoints.restore(path, 0, at="['step']"), 0)
    assert_same(
        checkpoints.restore(path, example["model"].layers[1], at="['model'].layers[1]"), state["model"].layers[1]
    )
    with pytest.raises(ArgumentError, match="nothing at \"\\['mod'\\]\""):
        checkpoints.restore(path, 0, at="['mod']")
    with pytest.raises(ArgumentError, match="nothing at"):
        checkpoints.restore(path, 0, at="['model'].lay")


def test_a_new_head_can_stay_new_while_the_rest_is_restored(tmp_path):
    old = fg.nn.MLP(3, 2, width=4, depth=1, key=fg.random.key(0))
    new = fg.nn.MLP(3, 5, width=4, depth=1, key=fg.random.key(1))
    path = checkpoints.save(tmp_path / "x.safetensors", old)
    mixed = checkpoints.restore(path, new, only=lambda path: path.startswith(".layers[0]"))
    assert_same(mixed.layers[0], old.layers[0])
    assert_same(mixed.layers[1], new.layers[1])


def test_without_strict_leaves_without_a_partner_do_not_matter_but_shapes_do(tmp_path):
    path = checkpoints.save(tmp_path / "x.safetensors", {"a": np.ones(2), "b": 1})
    restored = checkpoints.restore(path, {"a": np.zeros(2), "c": 5}, strict=False)
    assert_same(restored, {"a": np.ones(2), "c": 5})
    with pytest.raises(CheckpointMismatchError, match=r"float32\[3\]"):
        checkpoints.restore(path, {"a": np.zeros(3)}, strict=False)
    with pytest.raises(CheckpointMismatchError, match="only in the example"):
        checkpoints.restore(path, {"c": fg.ShapeDtypeStruct((2,), fg.float32)}, strict=False)


# Damage


def test_each_byte_flipped_gives_an_error(tmp_path):
    tree = {"w": fg.array([1.0, 2.0]), "flag": fg.array([True]), "z": numpy.ones(1, complex), "n": 3, "s": "text"}
    path = checkpoints.save(tmp_path / "x.safetensors", tree, step=4)
    good = path.read_bytes()
    assert len(good) < 2000
    for position in range(len(good)):
        for mask in (0x01, 0x20, 0x80, 0xFF):
            bad = bytearray(good)
            bad[position] ^= mask
            path.write_bytes(bad)
            with pytest.raises(DamagedCheckpointError, match=r"x\.safetensors"):
                checkpoints.restore(path, tree)
            with pytest.raises(DamagedCheckpointError):
                checkpoints.load_arrays(path)
    path.write_bytes(good)
    assert_same(checkpoints.restore(path, tree), tree)


def test_a_file_cut_short_or_too_long_gives_an_error(tmp_path):
    tree = {"w": fg.array([1.0, 2.0]), "n": 3}
    path = checkpoints.save(tmp_path / "x.safetensors", tree)
    good = path.read_bytes()
    for bad in (*(good[:length] for length in range(len(good))), good + b"\0", good + good, b"\0" * len(good)):
        path.write_bytes(bad)
        with pytest.raises(DamagedCheckpointError):
            checkpoints.restore(path, tree)


def write_plain(path, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


ENTRY = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    ("header", "data"),
    [
        (b"", b""),
        (b"[]", b""),
        (b"[" * 100000, b""),
        (b'{"a":' * 100000, b""),
        (b'{"x": NaN}', b""),
        (b"\xff\xfe", b""),
        ({"x": {}}, b""),
        ({"x": [1]}, b""),
        ({"x": None}, b""),
        ({"x": {**ENTRY, "shape": [-1]}}, b"0000"),
        ({"x": {**ENTRY, "shape": [2]}}, b"0000"),
        ({"x": {**ENTRY, "shape": [True]}}, b"0000"),
        ({"x": {**ENTRY, "shape": [1.0]}}, b"0000"),
        ({"x": {**ENTRY, "shape": [2**62, 4]}}, b"0000"),
        ({"x": {**ENTRY, "shape": 1}}, b"0000"),
        ({"x": {**ENTRY, "dtype": ["F32"]}}, b"0000"),
        ({"x": {**ENTRY, "data_offsets": [4, 8]}}, b"00000000"),
        ({"x": {**ENTRY, "data_offsets": [0, 4, 8]}}, b"0000"),
        ({"x": {**ENTRY, "data_offsets": [10**30, 10**30 + 4]}}, b"0000"),
        ({"x": ENTRY, "y": ENTRY}, b"0000"),
        ({"x": ENTRY}, b"00"),
        ({"x": ENTRY}, b"00000"),
        ({"x": {"dtype": "BOOL", "shape": [4], "data_offsets": [0, 4]}}, b"\0\1\2\1"),
        ({"__metadata__": {"a": 1}}, b""),
        ({"__metadata__": []}, b""),
        (b'{"x": %s, "x": %s}' % ((json.dumps(ENTRY).encode(),) * 2), b"0000"),
    ],
)
def test_a_file_of_another_program_that_is_wrong_gives_an_error(header, data, tmp_path):
    with pytest.raises(DamagedCheckpointError):
        checkpoints.load_arrays(write_plain(tmp_path / "x.safetensors", header, data))


def test_a_later_version_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("funcgrad.checkpoints.file_format.VERSION", 2)
    path = checkpoints.save(tmp_path / "x.safetensors", 1)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match=r"version 2 .* later funcgrad"):
        checkpoints.restore(path, 1)


def test_files_that_are_no_checkpoints_say_so(tmp_path):
    with pytest.raises(MissingCheckpointError, match="no checkpoint at"):
        checkpoints.restore(tmp_path / "nothing", 1)
    with pytest.raises(FileNotFoundError):
        checkpoints.load_arrays(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="could not be opened"):
        checkpoints.restore(tmp_path, 1)
    path = checkpoints.save_arrays(tmp_path / "flat.safetensors", {"x": np.ones(1)})
    with pytest.raises(CheckpointError, match="load_arrays"):
        checkpoints.restore(path, {"x": np.ones(1)})


# Interrupted writes


def failing(function, when, error):
    """The function, which raises an error the `when`th time it is called."""
    calls = iter(range(10**6))

    def call(*args):
        if next(calls) == when:
            raise error
        return function(*args)

    return call


@pytest.mark.parametrize("when", range(3))
@pytest.mark.parametrize("name", ["open", "write", "fsync", "replace"])
def test_a_full_disk_leaves_the_old_checkpoint(name, when, tmp_path, monkeypatch):
    old, new = {"a": np.ones(100), "b": np.ones(7)}, {"a": np.zeros(100), "b": np.zeros(7)}
    path = checkpoints.save(tmp_path / "x.safetensors", old)
    monkeypatch.setattr(atomic.os, name, failing(getattr(os, name), when, OSError(errno.ENOSPC, "No space left")))
    number_of_calls = {"open": 2, "write": 3, "fsync": 2, "replace": 1}[name]
    is_replaced = when >= number_of_calls or name in ("open", "fsync") and when == 1  # the second are of the folder
    if when < number_of_calls:
        with pytest.raises(CheckpointError, match="No space left; the one that is there is whole"):
            checkpoints.save(path, new)
    else:
        checkpoints.save(path, new)
    monkeypatch.undo()
    assert_same(checkpoints.restore(path, old), new if is_replaced else old)
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]


def test_a_limit_of_the_system_leaves_the_old_checkpoint(tmp_path):
    path = checkpoints.save(tmp_path / "x.safetensors", np.ones(10))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(CheckpointError, match="too large"):
            checkpoints.save(path, np.ones(1_000_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert checkpoints.restore(path, np.ones(10)).tolist() == [1.0] * 10
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]


def test_a_folder_that_is_not_there_says_so(tmp_path):
    with pytest.raises(CheckpointError, match="could not be written"):
        checkpoints.save(tmp_path / "nowhere" / "x.safetensors", 1)


def test_short_writes_go_on(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(atomic.os, "write", lambda descriptor, data: write(descriptor, data[:7]))
    path = checkpoints.save(tmp_path / "x.safetensors", np.arange(100))
    monkeypatch.undo()
    assert checkpoints.restore(path, np.arange(100)).tolist() == list(range(100))


def test_temporary_files_of_the_dead_are_removed_and_those_of_the_living_are_not(tmp_path):
    dead = tmp_path / f".x.{'a' * 16}.writing"
    dead.touch()
    living, descriptor = atomic._open_temporary(tmp_path / "x")
    other = tmp_path / ".hidden"
    other.touch()
    CheckpointManager(tmp_path).close()
    assert sorted(tmp_path.iterdir()) == sorted([living, other])
    os.close(descriptor)
    CheckpointManager(tmp_path).close()
    assert list(tmp_path.iterdir()) == [other]


def test_files_have_the_permissions_of_other_files(tmp_path):
    (tmp_path / "other").touch()
    path = checkpoints.save(tmp_path / "x.safetensors", 1)
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode


# For each line that it reads, this program starts a child that saves without end, and prints its number.
SAVER = """
import os, sys
import funcgrad as fg
from funcgrad import checkpoints

def save_without_end(folder, step):
    manager = checkpoints.CheckpointManager(folder, keep_last=2)
    while True:
        step += 1
        state = {"step": step, "arrays": [fg.numpy.full((n,), step) for n in (1, 1000, 200_000)]}
        checkpoints.save(f"{folder}/one.safetensors", state)
        manager.save(step, state)
        manager.wait()
        os.write(1, b"saved %d\\n" % step)  # from here on it must never be lost

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        save_without_end(sys.argv[1], int(line))
    print("child", child, flush=True)
    os.waitpid(child, 0)
    print("over", flush=True)
"""


def test_a_process_that_is_killed_while_it_saves_never_loses_a_checkpoint(tmp_path):
    kills = int(os.environ.get("FUNCGRAD_CHECKPOINT_KILLS", "200"))
    example = {"step": 0, "arrays": [np.full((n,), 0) for n in (1, 1000, 200_000)]}
    chance = random.Random(0)
    step, seconds = 0, 0.0
    program = [sys.executable, "-c", textwrap.dedent(SAVER), str(tmp_path)]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        for kill in range(kills):
            print(step, file=process.stdin, flush=True)
            child = int(process.stdout.readline().split()[1])
            if kill == 0:
                before = time.monotonic()
                assert process.stdout.readline() == f"saved {step + 1}\n"  # so that there is something to lose
                step += 1
                seconds = time.monotonic() - before  # for one save
            time.sleep(chance.uniform(0, min(2 * seconds, 0.05)))
            os.kill(child, signal.SIGKILL)
            while (line := process.stdout.readline()) != "over\n":
                assert line == f"saved {step + 1}\n"
                step += 1
            manager = CheckpointManager(tmp_path)
            restored = [manager.restore(example), checkpoints.restore(tmp_path / "one.safetensors", example)]
            manager.close()
            for state in restored:
                # One more than was told may have been saved, and no less.
                assert state["step"] in (step, step + 1)
                assert all(bool((array == state["step"]).all()) for array in state["arrays"])
            step = restored[0]["step"]
            assert not list(tmp_path.glob("*.writing"))
        process.stdin.close()
    with CheckpointManager(tmp_path, keep_last=2) as manager:
        manager.save(step + 1, example)  # also clears away what the killed ones had no time to remove
    assert saved_steps(tmp_path)[-1] == step + 1 and len(saved_steps(tmp_path)) == 2
    assert step > 1


# The manager


def saved_steps(folder):
    return sorted(int(path.name[11:19]) for path in folder.glob("checkpoint-*"))


@pytest.mark.parametrize("asynchronous", [True, False])
def test_the_last_and_the_best_are_kept(asynchronous, tmp_path):
    scores = [0.1, 0.9, 0.3, math.nan, 0.8, 0.2, 0.5]
    with CheckpointManager(
        tmp_path / "a" / "b", keep_last=2, keep_best=2, metric="score", mode="max", asynchronous=asynchronous
    ) as manager:
        assert manager.latest() is None and manager.best() is None and manager.steps() == []
        for step, score in enumerate(scores):
            manager.save(10 * step, {"step": step}, metrics={"score": np.array(score), "other": 1})
    assert manager.steps() == saved_steps(manager.folder) == [10, 40, 50, 60]
    again = CheckpointManager(manager.folder, metric="score", mode="max")
    assert again.best().name == "checkpoint-00000010.safetensors"
    assert again.latest().name == "checkpoint-00000060.safetensors"
    assert again.restore({"step": 0}) == {"step": 6} and again.restore({"step": 0}, step=10) == {"step": 1}
    metrics = checkpoints.read_info(again.latest()).metadata["metrics"]
    assert metrics == {"score": 0.5, "other": 1.0}
    assert CheckpointManager(manager.folder, metric="score").best().name == "checkpoint-00000050.safetensors"


def test_all_are_kept_if_keep_last_is_none(tmp_path):
    with CheckpointManager(tmp_path, keep_last=None) as manager:
        for step in range(6):
            manager.save(step, step)
    assert saved_steps(tmp_path) == list(range(6))


def test_a_step_can_be_saved_again(tmp_path):
    with CheckpointManager(tmp_path, keep_best=1, metric="loss") as manager:
        manager.save(1, "old", metrics={"loss": 3})
        manager.save(1, "new", metrics={"loss": 2})
        assert manager.restore("") == "new"


def test_saving_runs_beside_the_program_and_takes_the_values_of_that_moment(tmp_path, monkeypatch):
    gate = threading.Event()
    replace = os.replace
    monkeypatch.setattr(atomic.os, "replace", lambda *paths: (gate.wait(10), replace(*paths)))
    buffer, state = numpy.zeros(3), {"list": [1, 2]}
    with CheckpointManager(tmp_path) as manager:
        manager.save(1, {"buffer": buffer, **state})
        assert manager.steps() == []
        buffer[:], state["list"][0] = 5, 7
        gate.set()
        manager.wait()
        restored = manager.restore({"buffer": buffer, **state})
    assert restored["list"] == [1, 2] and restored["buffer"].tolist() == [0, 0, 0]


@pytest.mark.parametrize("surfaces", ["save", "wait", "close", "restore"])
def test_an_error_of_the_thread_reaches_the_next_call(surfaces, tmp_path, monkeypatch):
    manager = CheckpointManager(tmp_path)
    manager.save(0, 1)
    manager.wait()
    monkeypatch.setattr(atomic.os, "write", failing(os.write, 0, OSError(errno.ENOSPC, "No space left")))
    manager.save(1, 2)
    calls = {"save": lambda: manager.save(2, 3), "restore": lambda: manager.restore(0)}
    with pytest.raises(CheckpointError, match="No space left") as caught:
        calls.get(surfaces, getattr(manager, surfaces))()
    assert caught.value.source.file == __file__
    assert manager.restore(0) == 1
    manager.close()


def test_an_error_of_the_thread_does_not_hide_that_of_the_program(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic.os, "write", failing(os.write, 0, OSError(errno.ENOSPC, "No space left")))
    manager = CheckpointManager(tmp_path)

    def program():
        with manager:
            manager.save(1, 2)
            raise KeyError("x")

    with pytest.raises(KeyError) as caught:
        program()
    assert "No space left" in caught.value.__notes__[0]


def test_an_error_that_nobody_asked_for_is_told_at_the_end(tmp_path):
    program = f"""
    import os
    from funcgrad import checkpoints
    def write(*args): raise OSError(28, "No space left")
    checkpoints.atomic.os.write = write
    checkpoints.CheckpointManager({str(tmp_path)!r}).save(1, 2)
    """
    result = subprocess.run(
        [sys.executable, "-W", "default", "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True
    )
    assert "the last checkpoint was not saved" in result.stderr and "No space left" in result.stderr


def test_a_program_that_ends_at_once_saves_its_last_checkpoint(tmp_path):
    program = f"""
    from funcgrad import checkpoints, numpy
    checkpoints.CheckpointManager({str(tmp_path)!r}).save(1, numpy.ones(3_000_000))
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True)
    assert CheckpointManager(tmp_path).restore(np.ones(3_000_000)).sum() == 3_000_000


def test_wrong_uses_of_the_manager_say_what_to_do(tmp_path):
    for options, message in [
        (dict(keep_last=0), "keep_last"),
        (dict(keep_best=-1), "keep_best"),
        (dict(keep_best=1), "needs a metric"),
        (dict(metric="x", mode="most"), "mode"),
    ]:
        with pytest.raises(ArgumentError, match=message):
            CheckpointManager(tmp_path, **options)
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="cannot be used"):
        CheckpointManager(tmp_path / "file")
    manager = CheckpointManager(tmp_path)
    with pytest.raises(ArgumentError, match="what is best"):
        manager.best()
    with pytest.raises(ArgumentError, match="at least 0"):
        manager.save(-1, 0)
    with pytest.raises(MissingCheckpointError, match="no checkpoint in"):
        manager.restore(0)
    manager.save(0, 0)
    with pytest.raises(MissingCheckpointError, match="checkpoint-00000007"):
        manager.restore(0, step=7)
    manager.close()
    with pytest.raises(ArgumentError, match="closed"):
        manager.save(1, 0)
    ranked = CheckpointManager(tmp_path, metric="loss")
    with pytest.raises(ArgumentError, match=r"metrics=\{'loss': value\}"):
        ranked.save(2, 0)
    with pytest.raises(ArgumentError, match="without the metric 'loss'"):
        ranked.best()


# Other programs


@pytest.mark.parametrize("dtype", ALL_DTYPES, ids=lambda dtype: dtype.name)
def test_the_reference_implementation_reads_what_was_written_and_writes_what_is_read(dtype, tmp_path):
    reference = pytest.importorskip("safetensors.numpy")
    if dtype == fg.complex128:
        pytest.skip("not in the format")
    arrays = {"layer.weight": np.asarray([[0, 1, 2], [3, 4, 5]], dtype=dtype), "layer.bias": np.ones((), dtype=dtype)}
    path = checkpoints.save_arrays(tmp_path / "ours.safetensors", arrays, metadata={"format": "pt"})
    read = reference.load_file(path)
    assert sorted(read) == sorted(arrays)
    for name, array in read.items():
        assert array.dtype == dtype and array.tolist() == arrays[name].tolist()
    reference.save_file({name: numpy.asarray(x) for name, x in arrays.items()}, tmp_path / "theirs.safetensors")
    assert_same(checkpoints.load_arrays(tmp_path / "theirs.safetensors"), arrays)


def test_the_reference_implementation_reads_the_arrays_of_a_checkpoint(tmp_path):
    reference = pytest.importorskip("safetensors.numpy")
    path = checkpoints.save(tmp_path / "x.safetensors", make_training_state(1))
    arrays = reference.load_file(path)
    assert "model.layers.0.weight" in arrays
    assert {name: array.tolist() for name, array in arrays.items()} == {
        name: array.tolist() for name, array in checkpoints.load_arrays(path).items()
    }


def test_chosen_arrays_of_a_flat_file(tmp_path):
    arrays = {"a": numpy.ones(2), "b": 3, "c": [1, 2]}
    path = checkpoints.save_arrays(tmp_path / "x.safetensors", arrays)
    assert list(checkpoints.load_arrays(path, ["b"])) == ["b"]
    assert checkpoints.load_arrays(path)["c"].tolist() == [1, 2]
    with pytest.raises(ArgumentError, match="no array named 'd'; it has a, b, c"):
        checkpoints.load_arrays(path, ["d"])


def test_wrong_flat_dicts_say_what_to_do(tmp_path):
    path = tmp_path / "x.safetensors"
    with pytest.raises(ArgumentError, match="are texts"):
        checkpoints.save_arrays(path, {1: np.ones(1)})
    with pytest.raises(ArgumentError, match="are taken"):
        checkpoints.save_arrays(path, {}, metadata={"funcgrad.x": ""})
    with pytest.raises(ArgumentError, match="cannot be named"):
        checkpoints.save_arrays(path, {"__metadata__": np.ones(1)})
    with pytest.raises((ArgumentTypeError, DtypeError)):
        checkpoints.save_arrays(path, {"x": "text"})
    assert not path.exists()


def test_a_dtype_that_is_not_ours_says_so_only_where_it_is_read(tmp_path):
    entries = {
        "x": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]},
        "y": {"dtype": "U8", "shape": [1], "data_offsets": [4, 5]},
    }
    path = write_plain(tmp_path / "x.safetensors", entries, b"abcde")
    assert checkpoints.load_arrays(path, ["y"])["y"].tolist() == [101]
    with pytest.raises(CheckpointError, match="F8_E4M3, which funcgrad lacks"):
        checkpoints.load_arrays(path)
