"""The loader: order, workers, exceptions, the end of workers, going on in the middle of an epoch, shards."""

from __future__ import annotations

import gc
import itertools
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

import data_workers
import numpy
import pytest

import funcgrad as fg
from funcgrad.data import DataLoader
from funcgrad.data.orders import random_order

KEY = fg.random.key(3)
ORDER = (39, 26, 38, 17, 4, 44, 29, 33, 41, 0)  # of fifty examples with this key in the first epoch; it never changes
WORKERS = [(0, "thread"), (1, "thread"), (3, "thread"), (2, "process")]


def values(batches):
    return [fg.tree.map(lambda leaf: leaf.tolist(), batch) for batch in batches]


def alive(pid):
    """Whether a process runs. One that has ended and waits for its parent to ask counts as ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def loader_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("funcgrad-data")]


def wait_until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.01)


# Batches


def test_batches_are_pytrees_of_arrays_and_the_last_may_be_smaller():
    loader = DataLoader(data_workers.Squares(5), batch_size=2)

    batches = list(loader)

    assert len(loader) == 3
    assert all(isinstance(leaf, fg.Array) for leaf in fg.tree.leaves(batches))
    assert (batches[0]["x"].dtype, batches[0]["y"].dtype) == (fg.int32, fg.float32)
    assert values(batches) == [{"x": [0, 1], "y": [0, 1]}, {"x": [2, 3], "y": [4, 9]}, {"x": [4], "y": [16]}]


def test_the_last_batch_can_be_left_out():
    assert values(DataLoader(range(5), 2, drop_last=True)) == [[0, 1], [2, 3]]
    assert len(DataLoader(range(5), 2, drop_last=True)) == 2


def test_numpy_arrays_can_be_had_instead():
    (batch,) = DataLoader(range(3), 3, to_arrays=False)

    assert type(batch) is numpy.ndarray


def test_arrays_are_taken_a_batch_at_a_time():
    class Counting(fg.data.ArrayDataset):
        def __getitem__(self, index):
            raise AssertionError("examples were asked for one by one")

    dataset = fg.data.Subset(Counting(numpy.arange(8.0)), [6, 1, 3])

    assert values(DataLoader(dataset, 2)) == [[6.0, 1.0], [3.0]]


@pytest.mark.parametrize("to_arrays", [True, False])
@pytest.mark.parametrize("drop_last", [True, False])
def test_batches_that_are_made_together_are_those_that_are_made_one_by_one(to_arrays, drop_last, monkeypatch):
    arrays = {"x": numpy.arange(60.0, dtype=numpy.float32).reshape(20, 3), "y": [numpy.arange(20) % 7]}
    dataset = fg.data.Subset(fg.data.Subset(fg.data.ArrayDataset(arrays), range(19)), range(1, 19))
    examples = [dataset[i] for i in range(len(dataset))]
    batch_bytes = 4 * (3 * 4 + 8)

    for batches_of_a_block in (1, 2, 100):
        monkeypatch.setattr("funcgrad.data.blocks.BLOCK_BYTES", batches_of_a_block * batch_bytes)
        settings = {"shuffle_key": KEY, "drop_last": drop_last, "to_arrays": to_arrays}
        together, alone = DataLoader(dataset, 4, **settings), DataLoader(examples, 4, **settings)

        for _ in range(2):  # epochs
            batches, expected = list(together), list(alone)
            assert len(batches) == len(together) == (4 if drop_last else 5)
            assert values(batches) == values(expected)
            kinds = [fg.tree.map(lambda leaf: (type(leaf), leaf.dtype), made) for made in (batches, expected)]
            assert kinds[0] == kinds[1]


def test_batches_that_are_made_together_are_one_s_own(tmp_path):
    numpy.save(tmp_path / "x.npy", numpy.arange(8))
    batches = list(DataLoader(fg.data.read_numpy(tmp_path / "x.npy"), 2, to_arrays=False))
    batches[0][:] = 7

    assert [batch.tolist() for batch in batches] == [[7, 7], [2, 3], [4, 5], [6, 7]]
    assert numpy.load(tmp_path / "x.npy").tolist() == list(range(8))


def test_a_loader_is_left_and_restored_in_the_middle_of_batches_that_were_made_together():
    dataset = fg.data.ArrayDataset(numpy.arange(10))
    loader = DataLoader(dataset, 2, shuffle_key=KEY)
    whole = values(loader)
    for count in range(6):
        loader = DataLoader(dataset, 2, shuffle_key=KEY)
        batches = iter(loader)
        for _ in range(count):
            next(batches)
        state = loader.state()
        assert state["batch"] == count % 5
        other = DataLoader(dataset, 2, shuffle_key=KEY)
        other.restore(state)
        assert values(other) == (whole[count:] if count < 5 else values(loader))
    first = iter(loader)
    next(first)
    assert len(list(loader)) == 5
    with pytest.raises(fg.errors.ArgumentError, match="cannot go on, since the loader was iterated over anew"):
        next(first)


def test_a_dataset_that_makes_batches_in_a_way_of_its_own_is_asked_for_each():
    class Centred(fg.data.ArrayDataset):
        def take(self, indices):
            rows = super().take(indices)
            return rows - rows.mean()

    assert values(DataLoader(Centred(numpy.arange(4.0)), 2)) == [[-0.5, 0.5], [-0.5, 0.5]]


def test_a_batch_does_not_change_with_the_array_it_came_from():
    source = numpy.zeros(4)
    (plain,) = DataLoader(fg.data.ArrayDataset(source), 4)
    (collated,) = DataLoader([0, 1, 2, 3], 4, collate=lambda examples: source)
    source[:] = 1

    assert plain.tolist() == collated.tolist() == [0, 0, 0, 0]


def test_collate_makes_what_it_likes():
    batch = next(iter(DataLoader(data_workers.Squares(), 3, collate=data_workers.as_list)))

    assert batch == [0, 1, 2]


def test_every_dtype_comes_through():
    arrays = {dtype.name: numpy.ones(3, dtype) for dtype in (fg.bfloat16, fg.float16, fg.float64, fg.uint8, fg.bool_)}
    arrays["swapped"] = numpy.arange(3, dtype=">i4")
    (batch,) = DataLoader(fg.data.ArrayDataset(arrays), 3)

    assert all(batch[name].dtype.name == name for name in arrays if name != "swapped")
    assert batch["swapped"].dtype is fg.int32 and (batch["swapped"] + 1).tolist() == [1, 2, 3]
    assert batch["bfloat16"].dtype is fg.bfloat16


# Order


def test_the_order_depends_on_the_key_and_the_epoch_alone():
    def epochs(key):
        loader = DataLoader(range(50), 50, shuffle_key=key)
        return [tuple(next(iter(loader)).tolist()) for _ in range(3)]

    assert epochs(KEY) == epochs(KEY)
    assert epochs(KEY)[0][:10] == ORDER
    assert len({*epochs(KEY), *epochs(fg.random.key(4))}) == 6
    assert all(sorted(order) == list(range(50)) for order in epochs(KEY))


def test_every_order_is_equally_likely():
    orders = [tuple(random_order(KEY, epoch, 4).tolist()) for epoch in range(24 * 200)]
    counts = numpy.unique(orders, axis=0, return_counts=True)[1]

    assert len(counts) == 24
    assert ((counts - 200) ** 2 / 200).sum() < 49.7  # which 1 in 1,000 fair shuffles would exceed


def test_orders_that_are_made_together_are_those_that_are_made_alone(monkeypatch):
    orders = [random_order(KEY, epoch, 100).tolist() for epoch in range(300, 310)]
    monkeypatch.setattr("funcgrad.data.orders.TOGETHER", 0)

    assert [random_order(KEY, epoch, 100).tolist() for epoch in range(300, 310)] == orders


@pytest.mark.parametrize(("workers", "kind"), WORKERS)
def test_batches_are_the_same_on_any_number_of_workers(workers, kind):
    dataset = fg.data.map(data_workers.times_ten, fg.data.augment(data_workers.add_noise, KEY, data_workers.Squares()))

    def two_epochs(**settings):
        with DataLoader(dataset, 3, shuffle_key=KEY, **settings) as loader:
            return [values(loader), values(loader)]

    expected = two_epochs()
    assert expected[0] != expected[1]
    assert two_epochs(workers=workers, worker_kind=kind) == expected


@pytest.mark.parametrize(("workers", "kind"), WORKERS[1:])
def test_batches_come_in_order_though_some_take_longer(workers, kind):
    class Varying(data_workers.Squares):
        def __getitem__(self, index):
            time.sleep(0.01 if index % 3 == 0 else 0)
            return index

    dataset = Varying() if kind == "thread" else data_workers.Slow(8)
    with DataLoader(dataset, 2, workers=workers, worker_kind=kind) as loader:
        assert numpy.concatenate(list(loader)).tolist() == list(range(len(dataset)))


def test_augmentations_differ_between_epochs_and_between_examples():
    dataset = fg.data.augment(data_workers.add_noise, KEY, [{"y": 0.0}] * 4)
    loader = DataLoader(dataset, 4)
    first, second = (next(iter(loader))["y"].tolist() for _ in range(2))

    assert len({*first, *second}) == 8
    assert first == [example["y"].item() for example in dataset]


# Workers


def test_no_more_batches_are_made_ahead_than_prefetch_says():
    made = []

    def note(example):
        made.append(example)
        return example

    for workers in (1, 3):
        made.clear()
        with DataLoader(fg.data.map(note, range(100)), 1, workers=workers, prefetch=4) as loader:
            batches = iter(loader)
            for taken in range(1, 10):
                next(batches)
                wait_until(lambda taken=taken: len(made) >= taken + 4)
                time.sleep(0.005)
                assert len(made) == taken + 4


def test_large_batches_and_datasets_come_through_processes_unharmed():
    with DataLoader(data_workers.Large(12), 4, workers=2, worker_kind="process", to_arrays=False) as loader:
        batches = list(loader)
    assert [batch[:, 5, 5].tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    batches[0][:] = 7  # they are one's own
    assert batches[1].min() == 4

    dataset = data_workers.Writing()  # a large array, which the processes share, though they write into it
    with DataLoader(dataset, 1, workers=2, worker_kind="process") as loader:
        assert sorted(values(loader))[-1][0] <= 4
    assert not dataset.values.any()


def test_an_iteration_that_was_left_does_not_disturb_the_next():
    for workers, kind in WORKERS:
        with DataLoader(range(30), 2, workers=workers, worker_kind=kind) as loader:
            for _ in range(3):
                next(iter(loader))
            first = iter(loader)
            next(first)
            assert numpy.concatenate(list(loader)).tolist() == list(range(30))
            with pytest.raises(fg.errors.ArgumentError, match="cannot go on, since the loader was iterated over anew"):
                next(first)
            assert loader.state()["epoch"] == 5


def test_the_processes_of_a_loader_are_kept_from_epoch_to_epoch():
    with DataLoader(range(4), 2, workers=2, worker_kind="process") as loader:
        list(loader)
        first = loader._pool.pids
        list(loader)
        assert loader._pool.pids == first
        loader.close()
        assert values(loader) == [[0, 1], [2, 3]]
        assert loader._pool.pids != first


# Exceptions


@pytest.mark.parametrize(("workers", "kind"), WORKERS)
def test_an_exception_comes_with_its_traceback_and_the_index_of_the_example(workers, kind):
    loader = DataLoader(data_workers.Failing(), 2, workers=workers, worker_kind=kind)
    batches = iter(loader)
    assert values(itertools.islice(batches, 2)) == [[0, 1], [2, 3]]

    with pytest.raises(FileNotFoundError, match="no file 5") as caught:
        next(batches)

    report = "".join(traceback.format_exception(caught.value))
    assert caught.value.__notes__ == ["Raised by example 5 of the dataset, in batch 2."]
    assert "in find" in report and "return find(index)" in report
    assert loader._pool is None and list(batches) == []
    wait_until(lambda: not loader_threads())


def test_an_exception_that_cannot_be_pickled_is_told_in_words():
    loader = DataLoader(data_workers.FailingOddly(), 2, workers=1, worker_kind="process")

    with pytest.raises(fg.errors.WorkerError, match="Unpicklable: an odd exception") as caught:
        list(loader)

    assert "raise Unpicklable(" in "".join(traceback.format_exception(caught.value))
    assert "example 0 of the dataset" in caught.value.__notes__[0]


@pytest.mark.parametrize(("workers", "kind"), WORKERS)
def test_wrong_shapes_in_a_batch_are_named(workers, kind):
    loader = DataLoader(data_workers.Uneven(), 4, workers=workers, worker_kind=kind)

    with pytest.raises(
        fg.errors.ShapeError, match=r"example 2 of a batch has shape \(2,\), and example 0 has"
    ) as caught:
        list(loader)

    assert caught.value.__notes__ == ["Raised while batch 1 was made of the examples 4, 5, 6, 7 of the dataset."]
    assert caught.value.source is None or caught.value.source.file == __file__
    assert "threading.py" not in str(caught.value)


def test_an_array_dataset_notes_the_batch_too():
    dataset = fg.data.ArrayDataset(numpy.zeros(4))
    dataset.arrays = numpy.zeros(2)  # as if it had become shorter

    with pytest.raises(IndexError) as caught:
        list(DataLoader(dataset, 4))

    assert caught.value.__notes__ == ["Raised in batch 0, made of the examples 0, 1, 2, 3 of the dataset."]


def test_what_cannot_be_sent_to_processes_is_refused_with_a_remedy():
    loader = DataLoader(fg.data.map(lambda x: x, range(4)), 2, workers=1, worker_kind="process")

    with pytest.raises(fg.errors.ArgumentTypeError, match="define them at the top of a module"):
        next(iter(loader))


def test_a_dataset_that_does_not_arrive_in_a_process_says_why():
    loader = DataLoader(data_workers.NotInWorkers(), 2, workers=1, worker_kind="process")

    with pytest.raises(OSError, match="the disk is not there"):
        next(iter(loader))


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (data_workers.Dying(), "worker process . of a data loader was killed by SIGKILL.* to make batch 2"),
        (data_workers.Leaving(), "worker process . of a data loader ended with exit code 3 while it had to make batch"),
    ],
)
def test_a_worker_process_that_dies_is_an_error(dataset, message):
    loader = DataLoader(dataset, 2, workers=2, worker_kind="process")

    with pytest.raises(fg.errors.WorkerError, match=message):
        list(loader)

    assert loader._pool is None and not multiprocessing.active_children()


def test_processes_that_are_killed_from_outside_between_two_batches_are_an_error():
    loader = DataLoader(range(100), 1, workers=1, worker_kind="process", prefetch=1)
    batches = iter(loader)
    next(batches)
    os.kill(loader._pool.pids[0], signal.SIGKILL)

    with pytest.raises(fg.errors.WorkerError, match="SIGKILL"):
        list(batches)


# The end of workers


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_close_ends_the_workers(kind):
    loader = DataLoader(range(100), 1, workers=2, worker_kind=kind)
    next(iter(loader))
    pids = loader._pool.pids if kind == "process" else []
    loader.close()

    assert not loader_threads() and not any(map(alive, pids))


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_a_loader_that_nobody_has_any_more_ends_its_workers(kind):
    gc.collect()
    loader = DataLoader(range(100), 1, workers=2, worker_kind=kind)
    batches = iter(loader)
    next(batches)
    pids = loader._pool.pids if kind == "process" else []
    assert kind == "process" or len(loader_threads()) == 2
    gc.disable()  # without waiting for the collector, since nothing goes in circles
    try:
        del loader, batches
        wait_until(lambda: not loader_threads() and not any(map(alive, pids)))
    finally:
        gc.enable()


def start_program(kind):
    """A program that waits for a batch for ever, and its worker processes."""
    program = f"import data_workers\nif __name__ == '__main__':\n    data_workers.wait_for_ever({kind!r})\n"
    started = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parent,
        env={**os.environ, "PYTHONPATH": str(Path(fg.__file__).parent.parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert started.stdout is not None
    pids = [int(pid) for pid in started.stdout.readline().split()]
    assert len(pids) == (2 if kind == "process" else 0) and all(map(alive, pids))
    return started, pids


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_ctrl_c_ends_a_program_that_waits_for_a_batch(kind):
    started, pids = start_program(kind)
    try:
        time.sleep(0.2)
        os.killpg(started.pid, signal.SIGINT)  # as a terminal does: all processes get it
        _, errors = started.communicate(timeout=20)
    finally:
        started.kill()

    assert started.returncode != 0 and errors.count("KeyboardInterrupt") == 1
    wait_until(lambda: not any(map(alive, pids)))


def test_worker_processes_end_when_their_parent_is_killed():
    started, pids = start_program("process")
    started.kill()
    started.communicate(timeout=20)

    wait_until(lambda: not any(map(alive, pids)))


# Going on in the middle


@pytest.mark.parametrize(("workers", "kind"), WORKERS)
def test_a_loader_goes_on_where_another_one_was(workers, kind):
    dataset = fg.data.augment(data_workers.add_noise, KEY, data_workers.Squares())

    def new(**settings):
        return DataLoader(dataset, 3, shuffle_key=KEY, **settings)

    expected = new()
    list(expected)
    expected = [values(expected), values(expected)]
    with new(workers=workers, worker_kind=kind) as loader:
        list(loader)
        taken = values(itertools.islice(loader, 2))
        time.sleep(0.02)  # time to make batches ahead, which are not counted
        state = json.loads(json.dumps(loader.state()))
        assert (state["epoch"], state["batch"]) == (1, 2)
    with new(workers=workers, worker_kind=kind) as other:
        other.restore(state)
        assert other.state() == state
        assert [taken + values(other), values(other)] == expected


def test_the_state_after_the_last_batch_is_the_beginning_of_the_next_epoch():
    loader = DataLoader(range(4), 2)
    batches = iter(loader)
    next(batches), next(batches)
    before = loader.state()
    assert list(batches) == []

    assert before == loader.state()
    assert (before["epoch"], before["batch"]) == (1, 0)


def test_a_state_of_another_loader_is_refused():
    state = DataLoader(range(6), 2, shuffle_key=KEY).state()

    for other, name in [
        (DataLoader(range(6), 3, shuffle_key=KEY), "batch_size"),
        (DataLoader(range(7), 2, shuffle_key=KEY), "examples"),
        (DataLoader(range(6), 2), "shuffle_key"),
        (DataLoader(range(6), 2, shuffle_key=KEY, shard=(0, 2)), "shard"),
    ]:
        with pytest.raises(fg.errors.ArgumentError, match=f"a state with {name}="):
            other.restore(state)
    loader = DataLoader(range(6), 2, shuffle_key=KEY)
    for wrong in ({}, None, {**state, "batch": -1}, {**state, "batch": 4}):
        with pytest.raises(fg.errors.ArgumentError, match=r"give it what state\(\) of a loader"):
            loader.restore(wrong)  # type: ignore[arg-type]


def test_a_dataset_that_changed_its_length_is_refused():
    examples = list(range(6))
    loader = DataLoader(examples, 2)
    examples += [6, 7]

    with pytest.raises(fg.errors.ArgumentError, match="make a new loader when the data has changed"):
        next(iter(loader))


# Shards


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_batches_of_all_shards_make_the_batches_of_one_loader(count):
    whole = DataLoader(range(24), 4 * count, shuffle_key=KEY)
    parts = [DataLoader(range(24), 4, shuffle_key=KEY, shard=(i, count)) for i in range(count)]

    for batch, *of_parts in zip(whole, *parts, strict=True):
        assert sorted(batch.tolist()) == sorted(numpy.concatenate(of_parts).tolist())


def test_shards_of_uneven_data():
    def shards(**settings):
        return [DataLoader(range(11), 2, shard=(i, 3), **settings) for i in range(3)]

    assert sorted(itertools.chain(*(numpy.concatenate(list(shard)).tolist() for shard in shards()))) == list(range(11))
    assert [len(list(shard)) for shard in shards(drop_last=True)] == [1, 1, 1]
    assert [len(shard) for shard in shards()] == [2, 2, 2]


# Datasets to iterate over


class Counter:
    def __init__(self, stop):
        self.stop = stop

    def __iter__(self):
        return iter(range(self.stop))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_dataset_to_iterate_over_is_read_in_its_order(workers):
    with DataLoader(Counter(7), 3, workers=workers) as loader:
        assert values(loader) == [[0, 1, 2], [3, 4, 5], [6]]
        assert values(loader) == [[0, 1, 2], [3, 4, 5], [6]]
        assert loader.state()["epoch"] == 2
        next(iter(loader))
        state = json.loads(json.dumps(loader.state()))
    other = DataLoader(Counter(7), 3, workers=workers)
    other.restore(state)
    assert values(other) == [[3, 4, 5], [6]]


def test_shards_and_dropped_batches_of_a_dataset_to_iterate_over():
    assert values(DataLoader(Counter(9), 2, shard=(1, 2))) == [[1, 3], [5, 7]]
    assert values(DataLoader(Counter(9), 2, shard=(0, 2), drop_last=True)) == [[0, 2], [4, 6]]
    shard = DataLoader(Counter(9), 2, shard=(0, 2))
    next(iter(shard))
    other = DataLoader(Counter(9), 2, shard=(0, 2))
    other.restore(shard.state())
    assert values(other) == [[4, 6], [8]]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_shuffled_stream_is_the_same_for_the_same_key(workers):
    dataset = fg.data.shuffle(KEY, Counter(30), buffer_size=8)
    loader = DataLoader(dataset, 30, workers=workers)
    first, second = (next(iter(loader)).tolist() for _ in range(2))

    assert first == list(dataset) and first != second
    assert sorted(first) == sorted(second) == list(range(30)) != first


def test_an_exception_in_a_stream_names_the_example():
    class Broken:
        def __iter__(self):
            yield from range(5)
            raise OSError("the line is cut")

    for workers in (0, 1):
        with pytest.raises(OSError, match="the line is cut") as caught:
            list(DataLoader(Broken(), 2, workers=workers))
        assert caught.value.__notes__ == ["Raised by example 5 of the dataset, in batch 2."]


# What is refused


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: DataLoader([], 2), "ArgumentError", "the dataset of a DataLoader is empty"),
        (lambda: list(DataLoader(Counter(0), 2)), "ArgumentError", "gave no batch: it is empty"),
        (lambda: list(DataLoader(Counter(1), 2, drop_last=True)), "ArgumentError", "too small for a batch"),
        (lambda: DataLoader([1], 2, drop_last=True), "ArgumentError", "has 1 examples, too few for one batch of 2"),
        (lambda: DataLoader([1], 2, shard=(1, 2)), "ArgumentError", "shard 1 of 2, has 0 examples"),
        (lambda: DataLoader([1], 0), "ArgumentError", "batch_size=0; give an integer of 1 or more"),
        (lambda: DataLoader([1], 1, workers=-1), "ArgumentError", "workers=-1"),
        (lambda: DataLoader([1], 1, worker_kind="fiber"), "ArgumentError", "choose 'thread' or 'process'"),
        (lambda: DataLoader([1], 1, shard=(2, 2)), "ArgumentError", "i is from 0 to n - 1"),
        (lambda: DataLoader([1], 1, shard=1), "ArgumentError", r"give \(i, n\)"),
        (
            lambda: DataLoader([1], 1, workers=1, worker_kind="process", prefetch=65),
            "ArgumentError",
            "at most 64 for each",
        ),
        (lambda: DataLoader([1], 1, shuffle_key=3), "ArgumentTypeError", "takes a random key"),
        (lambda: DataLoader(Counter(3), 1, shuffle_key=KEY), "ArgumentError", "cannot be shuffled as a whole"),
        (lambda: DataLoader(Counter(3), 1, workers=2), "ArgumentError", "read by one worker thread only"),
        (lambda: len(DataLoader(Counter(3), 1)), "ArgumentTypeError", "has none either"),
        (lambda: DataLoader(iter([1]), 1), "ArgumentTypeError", "an iterator, which can be read only once"),
        (lambda: DataLoader({"x": [1]}, 1), "ArgumentTypeError", "ArrayDataset"),
        (lambda: DataLoader(numpy.ones(3), 1), "ArgumentTypeError", "ArrayDataset"),
        (lambda: DataLoader(3, 1), "ArgumentTypeError", "takes datasets"),
        (lambda: list(DataLoader(["a"], 1)), "ArgumentTypeError", "holds str 'a', which is neither an array"),
        (lambda: list(DataLoader([2**40], 1)), "DtypeError", "does not fit into int32"),
        (
            lambda: list(DataLoader(fg.data.ArrayDataset(numpy.array(["a"])), 1)),
            "DtypeError",
            "take NumPy arrays from the loader with to_arrays=False",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(make, error, message):
    with pytest.raises(getattr(fg.errors, error), match=message):
        make()
