"""What `jit(f).lower(...)` shows: every stage on the way to native code, and what it costs."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings

import numpy
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad import nn
from funcgrad.compiler.target import host_target


def ones(*shape, dtype=fg.float32):
    return fnp.ones(shape, dtype=dtype)


def lower(function, *arguments):
    return fg.jit(function).lower(*arguments)


def scaled(x):
    return fnp.sum(x * 2.0, axis=1)


def with_a_callback(x):
    return fg.pure_callback(lambda x: x, x, x * 2.0) + 1.0


# Kernels


def test_kernels_are_printed_as_the_loops_of_the_whole_function():
    lowered = lower(scaled, ones(4, 10))
    assert str(lowered.kernels).splitlines() == [
        "scaled(a: float32[4,10]) =",
        "  native code where in0 is a",
        "    kernel(in0: float32[40], out0: float32[4])",
        "      parallel for i in 4",
        "        s0 = 0",
        "        vector for k0 in 10",
        "          s0 += (in0[10*i + k0] * 2)",
        "        out0[i] = s0",
        "    b: float32[4] is out0",
        "  return b",
    ]
    assert repr(lowered.kernels) == str(lowered.kernels)


def test_kernels_are_a_sequence():
    kernels = lower(lambda x: fnp.sum(with_a_callback(x), 0), ones(3, 4)).kernels
    assert len(kernels) == 2
    assert [x.name for x in kernels[0].written] == ["out0"]


def test_what_runs_on_the_host_between_segments_is_printed_with_its_line():
    lines = str(lower(with_a_callback, ones(5)).kernels).splitlines()
    (host,) = [line for line in lines if "on the host" in line]
    assert "c: float32[5] = pure_callback(b," in host
    assert host.endswith(f"# test_lowered.py:{with_a_callback.__code__.co_firstlineno + 1}")
    assert [line.strip() for line in lines if line.strip().startswith("native code")] == [
        "native code where in0 is a",
        "native code where in0 is c",
    ]


def test_loops_are_printed_with_the_kernels_inside_of_them():
    text = str(lower(lambda x: fg.lax.fori_loop(0, 7, lambda i, c: c * 2.0, x), ones(3)).kernels)
    assert "    repeat 7 times\n" in text
    assert "[j] * 2)" in text


def loop_with_a_callback(x):
    def step(carry, row):
        carry = fg.pure_callback(lambda c: c, carry, carry * row)
        return carry + 1.0, fnp.sum(carry)

    return fg.lax.scan(step, x[0], x)


def test_of_a_loop_on_the_host_the_native_parts_of_a_step_are_shown():
    lowered = lower(loop_with_a_callback, ones(4, 3))
    text = str(lowered.kernels)
    assert "on the host: " in text and "= scan(" in text
    assert text.count("native code") == 2
    assert len(lowered.kernels) >= 2
    assert lowered.llvm_ir.startswith("; segment 0\n")


# Host calls


def test_host_calls_name_the_primitive_and_the_users_line():
    (call,) = lower(with_a_callback, ones(5)).host_calls
    assert call.name == "pure_callback"
    assert call.source is not None and call.source.text == "return fg.pure_callback(lambda x: x, x, x * 2.0) + 1.0"
    assert repr(call).endswith(f"# {call.source}")


def test_host_calls_are_found_inside_of_loops_and_branches():
    (call,) = lower(loop_with_a_callback, ones(4, 3)).host_calls
    assert call.name == "pure_callback"

    def branching(x):
        return fg.lax.cond(x[0] > 0, lambda x: x * 2.0, with_a_callback, x)

    assert [call.name for call in lower(branching, ones(4)).host_calls] == ["pure_callback"]


def test_views_are_no_host_calls():
    assert lower(lambda x: x.T[1:].reshape(2, 4), ones(4, 3)).host_calls == []


class Convolutional(nn.Module):
    convolutions: list[nn.Conv2d]
    pool: nn.MaxPool2d
    head: nn.Linear

    def __init__(self, *, key):
        key1, key2, key3 = fg.random.split(key, 3)
        self.convolutions = [nn.Conv2d(1, 8, 3, padding="SAME", key=key1), nn.Conv2d(8, 8, 3, key=key2)]
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Linear(8, 10, key=key3)

    def __call__(self, x):
        first, second = self.convolutions
        return self.head(fnp.mean(nn.relu(second(self.pool(nn.relu(first(x))))), axis=(2, 3)))


class Recurrent(nn.Module):
    layer: nn.LSTM
    head: nn.Linear

    def __init__(self, *, key):
        key1, key2 = fg.random.split(key)
        self.layer, self.head = nn.LSTM(6, 8, key=key1), nn.Linear(8, 10, key=key2)

    def __call__(self, x):
        return self.head(self.layer(x)[0][:, -1])


class Transformer(nn.Module):
    embedding: nn.Embedding
    blocks: nn.TransformerEncoder
    head: nn.Linear

    def __init__(self, *, key):
        key1, key2, key3 = fg.random.split(key, 3)
        self.embedding = nn.Embedding(20, 16, key=key1)
        self.blocks = nn.TransformerEncoder(2, 16, 4, causal=True, rotary=True, key=key2)
        self.head = nn.Linear(16, 10, key=key3)

    def __call__(self, x):
        return self.head(self.blocks(self.embedding(x)))[:, -1]


def perceptron(*, key):
    key1, key2 = fg.random.split(key)
    return nn.Sequential([nn.Linear(64, 32, key=key1), nn.relu, nn.Linear(32, 10, key=key2)])


@pytest.mark.parametrize(
    ("make", "shape"),
    [(perceptron, (4, 64)), (Convolutional, (4, 1, 8, 8)), (Recurrent, (4, 5, 6)), (Transformer, (4, 7))],
)
def test_a_training_step_calls_nothing_on_the_host(make, shape):
    network, optimizer = make(key=fg.random.key(0)), fg.optim.adam(1e-3)
    numbers = numpy.random.default_rng(0)
    x = numbers.integers(0, 20, shape) if make is Transformer else numbers.standard_normal(shape)
    x = fg.array(x.astype(numpy.int32 if make is Transformer else numpy.float32))
    labels = fg.array(numpy.array([1, 2, 9, 0], numpy.int32))

    def loss(network):
        return fnp.mean(fg.losses.softmax_cross_entropy_with_integer_labels(network(x), labels))

    def train_step(network, state):
        value, gradient = fg.value_and_grad(loss)(network)
        updates, state = optimizer.update(gradient, state, network)
        return value, gradient, fg.optim.apply_updates(network, updates), state

    state = optimizer.init(network)
    assert fg.jit(train_step).lower(network, state).host_calls == []
    compiled = fg.tree.leaves(fg.jit(train_step)(network, state)[:2])
    reference = fg.tree.leaves(fg.jit(train_step, compiler="reference")(network, state)[:2])
    for actual, expected in zip(compiled, reference, strict=True):
        numpy.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)


# Code


def test_code_is_shown_in_the_language_of_llvm_and_of_the_machine():
    lowered = lower(scaled, ones(4, 10))
    assert "define void @entry(ptr %table)" in lowered.llvm_ir
    assert "entry:" in lowered.assembly
    assert "\tret" in lowered.assembly if host_target().architecture == "x86_64" else "ret" in lowered.assembly


def test_code_is_for_the_vectors_that_the_settings_allow():
    function = fg.jit(lambda x: x * 2.0)
    with fg.config.override(vector_bits=0):
        assert "x float>" not in function.lower(ones(64)).llvm_ir
    with fg.config.override(vector_bits=128):
        assert '"prefer-vector-width"="128"' in function.lower(ones(64)).llvm_ir


def test_a_function_without_equations_has_all_stages():
    lowered = lower(lambda x: x, ones(3))
    assert (len(lowered.kernels), lowered.llvm_ir, lowered.assembly, lowered.host_calls) == (0, "", "", [])
    assert (lowered.cost.flops, lowered.cost.seconds(1e9, 1e9)) == (0, 0)
    assert lowered.memory_plan.peak_bytes == 12


def test_looking_at_the_stages_changes_nothing_about_compiling():
    lowered = lower(scaled, ones(4, 10))
    _ = lowered.kernels, lowered.cost, lowered.assembly
    assert lowered.compile()(ones(4, 10)).tolist() == [20.0] * 4


# Memory


def test_the_memory_plan_names_the_buffers_between_kernels():
    plan = lower(lambda x, w: fnp.tanh(x @ w) @ w, ones(64, 64), ones(64, 64)).memory_plan
    assert plan.arena_bytes >= 64 * 64 * 4
    assert plan.peak_bytes == plan.arena_bytes + 3 * 64 * 64 * 4  # the arguments and the result
    assert f"bytes 0 to {64 * 64 * 4:,}, steps 0 to 1" in str(plan)


def test_the_peak_of_several_segments_is_that_of_the_greatest_moment():
    plan = lower(with_a_callback, ones(1000)).memory_plan
    # While the callback runs: the argument, what it gets, and what it gives.
    assert plan.peak_bytes == 3 * 4000
    assert str(plan).splitlines()[1].startswith("segment 0: ")


# Cost


@pytest.mark.parametrize(
    ("function", "shapes", "flops"),
    [
        (lambda x, y: x @ y, [(30, 40), (40, 50)], 2 * 30 * 40 * 50),
        (lambda x, y: fnp.einsum("bij,bkj->bik", x, y), [(3, 4, 5), (3, 6, 5)], 2 * 3 * 4 * 5 * 6),
        (lambda x, y: x * y + 1.0, [(30, 40), (40,)], 2 * 30 * 40),
        (lambda x: fnp.sum(x), [(30, 40)], 30 * 40),
        (lambda x: fnp.sum(x * x, 0), [(30, 40)], 2 * 30 * 40),
        (lambda x: fnp.sqrt(x), [(7,)], 7),
        (lambda x: x.T[::-1].reshape(-1), [(3, 4)], 0),
        (lambda x: fg.lax.fori_loop(0, 9, lambda i, c: c * 2.0, x), [(11,)], 9 * 11),
        (lambda x: fg.lax.cond(x[0] > 0, lambda x: x * 2.0 + 1.0, lambda x: x - 1.0, x), [(11,)], 2 * 11),
        (with_a_callback, [(11,)], 3 * 11),  # of what the host does, one for each element
    ],
)
def test_operations_are_counted(function, shapes, flops):
    assert lower(function, *[ones(*shape) for shape in shapes]).cost.flops == flops


def test_operations_of_a_convolution_are_counted():
    cost = lower(lambda x, k: fg.lax.conv(x, k, (1, 1), "VALID"), ones(2, 3, 10, 10), ones(8, 3, 3, 3)).cost
    assert cost.flops == 2 * (2 * 8 * 8 * 8) * (3 * 3 * 3)


def test_a_fused_chain_reads_and_writes_each_buffer_once():
    cost = lower(lambda x, y: fnp.tanh(x * y) * 2.0 + y, ones(50, 60), ones(60)).cost
    assert (cost.bytes_read, cost.bytes_written) == (4 * (50 * 60 + 60), 4 * 50 * 60)


def test_what_is_looked_up_is_read_only_where_it_is_wanted():
    cost = lower(lambda table, i: table[i] * 2.0, ones(10000, 8), fnp.zeros(3, dtype=fg.int32)).cost
    assert 4 * (3 * 8 + 3) <= cost.bytes_read < 200  # of the table's 320,000
    assert 4 * 3 * 8 <= cost.bytes_written < 200


def test_the_roofline_is_the_greater_of_arithmetic_and_traffic():
    product = lower(lambda x, y: x @ y, ones(64, 64), ones(64, 64)).cost
    assert product.seconds(1e9, 1e15) == pytest.approx(2 * 64**3 / 1e9)
    assert product.seconds(1e15, 1e9) == pytest.approx(3 * 64 * 64 * 4 / 1e9)
    wide = lower(lambda x, y: x @ y, ones(64, 64, dtype=fg.float64), ones(64, 64, dtype=fg.float64)).cost
    assert wide.seconds(1e9, 1e15) == pytest.approx(2 * product.seconds(1e9, 1e15))
    assert product.intensity == pytest.approx(2 * 64**3 / (3 * 64 * 64 * 4))


def test_costs_are_printed_as_tables():
    cost = lower(lambda x, y: fnp.sum(x @ y), ones(64, 64), ones(64, 64)).cost
    lines = str(cost).splitlines()
    assert lines[0].split() == ["times", "FLOPs", "read", "written"]
    assert lines[1].split()[-5:] == ["524,288", "32,768", "B", "16,384", "B"]
    assert lines[-1].startswith("together") and f"{2 * 64**3 + 64 * 64:,}" in lines[-1]
    lines = cost.roofline(1e11, 1e10).splitlines()
    assert lines[0] == "at 100 GFLOP/s and 10 GB/s"
    assert lines[2].endswith("5.24 µs  arithmetic")
    assert lines[3].endswith("1.64 µs      memory")
    assert len({len(line) for line in lines[2:4]}) == 1


def test_peaks_are_measured_where_none_are_given():
    cost = lower(lambda x, y: x @ y, ones(64, 64), ones(64, 64)).cost
    assert 0 < cost.seconds() < 1.0
    assert cost.seconds() == cost.seconds()


# Files

ENDINGS = [
    *("assembly.s", "cost.txt", "host_calls.txt", "kernels.txt", "llvm_ir.ll"),
    *("memory_plan.txt", "program.txt", "simplified.txt"),
]


def test_all_stages_of_what_is_compiled_are_written_into_files(tmp_path):
    folder = tmp_path / "stages"
    with fg.config.override(dump_folder=folder):
        for width in (10, 20, 10):
            fg.jit(scaled)(ones(4, width))
        fg.jit(lambda x: with_a_callback(x) * 2.0)(ones(3))
    by_program: dict[str, list[str]] = {}
    for name in sorted(os.listdir(folder)):
        by_program.setdefault(name.partition(".")[0], []).append(name.partition(".")[2])
    assert [name.partition("_")[2] for name in by_program] == ["scaled", "scaled", "scaled", "lambda"]
    assert all(endings == ENDINGS for endings in by_program.values())
    first = folder / next(iter(by_program))
    lowered = lower(scaled, ones(4, 10))
    assert first.with_suffix(".kernels.txt").read_text() == f"{lowered.kernels}\n"
    assert first.with_suffix(".llvm_ir.ll").read_text() == f"{lowered.llvm_ir}\n"


def test_the_folder_for_stages_may_come_from_the_environment(tmp_path):
    code = "import funcgrad as fg; print(fg.jit(lambda x: x + 1.0)(2.0))"
    environment = {**os.environ, "FUNCGRAD_DUMP": str(tmp_path)}
    for _ in range(2):  # what another process wrote stays
        subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True)
    names = sorted(name for name in os.listdir(tmp_path) if name.endswith("kernels.txt"))
    assert names == ["0000_lambda.kernels.txt", "0001_lambda.kernels.txt"]


def test_a_folder_that_cannot_be_written_gives_a_warning_and_the_result(tmp_path):
    (tmp_path / "file").write_text("")
    with fg.config.override(dump_folder=tmp_path / "file"), pytest.warns(UserWarning, match="cannot be written"):
        assert fg.jit(scaled)(ones(2, 3)).tolist() == [6.0, 6.0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fg.jit(scaled)(ones(2, 3))


def test_results_of_arrays_are_the_same_as_eager_ones():
    x = fg.array(numpy.random.default_rng(0).standard_normal((4, 3)).astype(numpy.float32))
    for actual, expected in zip(lower(loop_with_a_callback, x).compile()(x), loop_with_a_callback(x), strict=True):
        numpy.testing.assert_allclose(actual, expected, rtol=1e-6)
