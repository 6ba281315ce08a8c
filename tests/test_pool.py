"""The pool of threads does every chunk once, for any number of threads, callers and processes."""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy
import pytest

from funcgrad.compiler.machine import assembly, load, object_code
from funcgrad.compiler.pool import Pool, parallel_address, pool, pool_ir
from funcgrad.compiler.target import Target, host_target
from funcgrad.config import config

REPOSITORY = Path(__file__).resolve().parent.parent

KERNELS = """
; context: {i64 count of calls, ptr lows, ptr highs, ptr times, i64 grain, ptr threads, i64 microseconds}
; Writes down its bounds, how often each number was done, and which thread it was.
define void @record(ptr %context, i64 %low, i64 %high) {
  %calls = atomicrmw add ptr %context, i64 1 seq_cst
  %p1 = getelementptr i64, ptr %context, i64 1
  %lows = load ptr, ptr %p1
  %p2 = getelementptr i64, ptr %context, i64 2
  %highs = load ptr, ptr %p2
  %p3 = getelementptr i64, ptr %context, i64 3
  %times = load ptr, ptr %p3
  %p4 = getelementptr i64, ptr %context, i64 4
  %grain = load i64, ptr %p4
  %p5 = getelementptr i64, ptr %context, i64 5
  %threads = load ptr, ptr %p5
  %p6 = getelementptr i64, ptr %context, i64 6
  %pause = load i64, ptr %p6
  %i = sdiv i64 %low, %grain
  %a = getelementptr i64, ptr %lows, i64 %i
  store i64 %low, ptr %a
  %b = getelementptr i64, ptr %highs, i64 %i
  store i64 %high, ptr %b
  %self = call i64 @pthread_self()
  %c = getelementptr i64, ptr %threads, i64 %i
  store i64 %self, ptr %c
  %slow = icmp ne i64 %pause, 0
  br i1 %slow, label %sleep, label %count
sleep:
  %t = trunc i64 %pause to i32
  %r = call i32 @usleep(i32 %t)
  br label %count
count:
  br label %next
next:
  %j = phi i64 [%low, %count], [%j1, %next]
  %d = getelementptr i32, ptr %times, i64 %j
  %e = load i32, ptr %d
  %f = add i32 %e, 1
  store i32 %f, ptr %d
  %j1 = add i64 %j, 1
  %more = icmp slt i64 %j1, %high
  br i1 %more, label %next, label %done
done:
  ret void
}
declare i64 @pthread_self()
declare i32 @usleep(i32)

; context: {ptr parallel, ptr inner context, i64 grain of the inner one}. For each number, adds 1 to 100 numbers.
define void @outer(ptr %context, i64 %low, i64 %high) {
  %parallel = load ptr, ptr %context
  %p1 = getelementptr i64, ptr %context, i64 1
  %numbers = load ptr, ptr %p1
  br label %next
next:
  %j = phi i64 [%low, %0], [%j1, %next]
  %k = mul i64 %j, 100
  %start = getelementptr i32, ptr %numbers, i64 %k
  call void %parallel(ptr @inner, ptr %start, i64 100, i64 7)
  %j1 = add i64 %j, 1
  %more = icmp slt i64 %j1, %high
  br i1 %more, label %next, label %done
done:
  ret void
}
define void @inner(ptr %numbers, i64 %low, i64 %high) {
  br label %next
next:
  %j = phi i64 [%low, %0], [%j1, %next]
  %d = getelementptr i32, ptr %numbers, i64 %j
  %e = load i32, ptr %d
  %f = add i32 %e, 1
  store i32 %f, ptr %d
  %j1 = add i64 %j, 1
  %more = icmp slt i64 %j1, %high
  br i1 %more, label %next, label %done
done:
  ret void
}

; context: {ptr x, ptr sums, i64 grain}. The sum of each chunk, added up in float32.
define void @sum(ptr %context, i64 %low, i64 %high) {
  %x = load ptr, ptr %context
  %p1 = getelementptr i64, ptr %context, i64 1
  %sums = load ptr, ptr %p1
  %p2 = getelementptr i64, ptr %context, i64 2
  %grain = load i64, ptr %p2
  %i = sdiv i64 %low, %grain
  %out = getelementptr float, ptr %sums, i64 %i
  br label %next
next:
  %j = phi i64 [%low, %0], [%j1, %next]
  %s = phi float [0.0, %0], [%s1, %next]
  %d = getelementptr float, ptr %x, i64 %j
  %e = load float, ptr %d
  %s1 = fadd float %s, %e
  %j1 = add i64 %j, 1
  %more = icmp slt i64 %j1, %high
  br i1 %more, label %next, label %done
done:
  store float %s1, ptr %out
  ret void
}
"""


@pytest.fixture(scope="module")
def kernels():
    return load(object_code(KERNELS, host_target()), ["record", "outer", "sum"])


@pytest.fixture(scope="module", params=["native", "condition"])
def threads(request):
    """A pool that sleeps in the way of this platform, and one that sleeps by a condition variable."""
    return Pool(1, by_condition=request.param == "condition")


class Record:
    """A job that writes down what is done."""

    def __init__(self, kernels, count: int, grain: int, microseconds: int = 0):
        chunks = -(-count // grain)
        self.kernel, self.count, self.grain, self.chunks = kernels.addresses["record"], count, grain, chunks
        self.lows, self.highs, self.threads = (numpy.full(chunks, -1, numpy.int64) for _ in range(3))
        self.times = numpy.zeros(count, numpy.int32)
        addresses = [array.ctypes.data for array in (self.lows, self.highs, self.times)]
        self.context = numpy.array([0, *addresses, grain, self.threads.ctypes.data, microseconds], numpy.int64)

    def run(self, pool: Pool) -> Record:
        pool.run(self.kernel, self.context.ctypes.data, self.count, self.grain)
        return self

    def check(self):
        starts = numpy.arange(self.chunks) * self.grain
        assert self.context[0] == self.chunks
        assert (self.times == 1).all()
        numpy.testing.assert_array_equal(self.lows, starts)
        numpy.testing.assert_array_equal(self.highs, numpy.minimum(starts + self.grain, self.count))


@pytest.mark.parametrize("number", [1, 2, 5])
@pytest.mark.parametrize("count, grain", [(1, 1), (7, 7), (8, 7), (100, 1), (100, 1000), (12345, 17), (100_000, 64)])
def test_every_chunk_is_done_once(kernels, threads, number, count, grain):
    threads.set_threads(number)
    for _ in range(20):
        Record(kernels, count, grain).run(threads).check()


@pytest.mark.parametrize("count", [0, -5])
def test_nothing_to_do(threads, count):
    threads.set_threads(2)
    threads.run(None, None, count, 8)


def test_workers_help_and_are_no_more_than_allowed(kernels, threads):
    for number in (1, 2, 5, 3, 1, 4):
        threads.set_threads(number)
        used = Record(kernels, 40, 1, microseconds=2000).run(threads).threads
        assert threading.get_ident() in used
        assert len(set(used)) <= number
        assert len(set(used)) >= min(number, 2)
    assert threads.workers() == 4


def test_results_are_bitwise_the_same(kernels, threads):
    count, grain = 100_003, 1000
    x = numpy.random.default_rng(0).standard_normal(count).astype(numpy.float32)
    results = []
    for number in (1, 2, 5):
        threads.set_threads(number)
        for _ in range(10):
            sums = numpy.zeros(-(-count // grain), numpy.float32)
            context = numpy.array([x.ctypes.data, sums.ctypes.data, grain], numpy.int64)
            threads.run(kernels.addresses["sum"], context.ctypes.data, count, grain)
            results.append(sums.tobytes())
    assert len(set(results)) == 1


@pytest.mark.parametrize("number", [1, 2, 5])
def test_within_a_kernel(kernels, threads, number):
    threads.set_threads(number)
    numbers = numpy.zeros(100 * 50, numpy.int32)
    context = numpy.array([threads.address, numbers.ctypes.data], numpy.int64)
    for times in range(1, 21):
        threads.run(kernels.addresses["outer"], context.ctypes.data, 50, 3)
        assert (numbers == times).all()


@pytest.mark.parametrize("number", [2, 5])
def test_many_callers_at_once(kernels, threads, number):
    threads.set_threads(number)
    failures = []

    def work(seed: int):
        random = numpy.random.default_rng(seed)
        try:
            for _ in range(150):
                Record(kernels, int(random.integers(1, 3000)), int(random.integers(1, 100))).run(threads).check()
        except AssertionError as error:
            failures.append(error)

    callers = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not failures


def test_the_number_of_threads_changes_at_any_time(kernels, threads):
    stop = threading.Event()

    def change():
        number = 0
        while not stop.is_set():
            number += 1
            threads.set_threads(number % 5 + 1)

    changer = threading.Thread(target=change)
    changer.start()
    try:
        for _ in range(300):
            Record(kernels, 1000, 10).run(threads).check()
    finally:
        stop.set()
        changer.join()


def test_awake_and_asleep(kernels, threads):
    """Jobs after breaks around the time at which workers fall asleep."""
    threads.set_threads(2)
    for microseconds in [0, 20, 60, 80, 90, 100, 110, 120, 150, 300, 2000] * 10:
        end = time.perf_counter() + microseconds * 1e-6
        while time.perf_counter() < end:
            pass
        Record(kernels, 64, 1).run(threads).check()


def test_a_caller_that_sleeps_until_a_worker_is_done(kernels, threads):
    threads.set_threads(2)
    for _ in range(5):
        Record(kernels, 2, 1, microseconds=10_000).run(threads).check()
        Record(kernels, 3, 1, microseconds=3_000).run(threads).check()


def test_idle_costs_nothing(kernels, threads):
    threads.set_threads(5)
    Record(kernels, 1000, 1).run(threads).check()
    time.sleep(0.01)
    before = resource.getrusage(resource.RUSAGE_SELF)
    time.sleep(0.3)
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.02


def in_child(function) -> int:
    """Runs a function in a forked process; 0 if it raised nothing."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            function()
            status = 0
        finally:
            os._exit(status)
    for _ in range(1000):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return -1


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_its_own_workers(kernels, threads):
    threads.set_threads(3)
    Record(kernels, 100, 1).run(threads).check()

    def work():
        assert threads.workers() == 0
        record = Record(kernels, 40, 1, microseconds=2000).run(threads)
        record.check()
        assert threads.workers() == 2
        assert len(set(record.threads)) >= 2
        assert in_child(lambda: Record(kernels, 100, 1).run(threads).check()) == 0

    assert in_child(work) == 0
    Record(kernels, 100, 1).run(threads).check()


@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_while_another_thread_has_the_pool(kernels, threads):
    threads.set_threads(2)
    slow = Record(kernels, 100, 1, microseconds=3000)
    caller = threading.Thread(target=slow.run, args=(threads,))
    caller.start()
    time.sleep(0.03)
    try:

        def work():
            before = slow.context[0]
            record = Record(kernels, 40, 1, microseconds=2000).run(threads)
            record.check()
            assert len(set(record.threads)) == 2
            assert slow.context[0] == before  # the parent's job is the parent's

        assert in_child(work) == 0
    finally:
        caller.join()
    slow.check()


def test_the_pool_of_the_process_follows_the_setting(kernels):
    assert parallel_address() == pool().address
    with config.override(threads=1):
        assert set(Record(kernels, 20, 1, microseconds=1000).run(pool()).threads) == {threading.get_ident()}
        config.threads = 3
        assert len(set(Record(kernels, 60, 1, microseconds=1000).run(pool()).threads)) in (2, 3)
        config.threads = 1
        assert set(Record(kernels, 20, 1, microseconds=1000).run(pool()).threads) == {threading.get_ident()}


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux")
def test_workers_leave_signals_to_python(kernels, threads):
    threads.set_threads(5)
    Record(kernels, 1000, 1).run(threads)
    interrupt, fault = 1 << (2 - 1), 1 << (11 - 1)
    deadline = time.monotonic() + 10
    workers = 0
    while workers < 4 and time.monotonic() < deadline:
        # Threads of other libraries may block everything, and so does a thread that is just being made.
        masks = [
            int(line.split()[1], 16)
            for task in Path("/proc/self/task").iterdir()
            for line in (task / "status").read_text().splitlines()
            if line.startswith("SigBlk")
        ]
        workers = sum(bool(mask & interrupt) and not mask & fault for mask in masks)
    assert workers >= 4


@pytest.mark.parametrize("microseconds", [0, 1000])
def test_the_process_ends_whatever_workers_do(microseconds):
    """While they still look for work, and while a thread of Python is in the middle of a job."""
    code = f"""
import threading, time
import numpy
from tests.test_pool import KERNELS, Record
from funcgrad.compiler.machine import load, object_code
from funcgrad.compiler.target import host_target
from funcgrad.compiler.pool import pool
from funcgrad.config import config

config.threads = 2
kernels = load(object_code(KERNELS, host_target()), ["record"])
record = Record(kernels, 2000, 1, {microseconds})
if {microseconds}:
    threading.Thread(target=record.run, args=(pool(),), daemon=True).start()
    time.sleep(0.02)
else:
    record.run(pool()).check()
"""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "triple, cpu, expected, missing",
    [
        ("x86_64-unknown-linux-gnu", "x86-64", "syscall", "pthread_cond_wait"),
        ("aarch64-unknown-linux-gnu", "generic", "syscall", "pthread_cond_wait"),
        ("aarch64-unknown-linux-musl", "generic", "syscall", "WaitOnAddress"),
        ("arm64-apple-darwin23.0.0", "apple-m1", "pthread_cond_wait", "syscall"),
        ("x86_64-apple-macosx13.0.0", "haswell", "pthread_cond_wait", "syscall"),
        ("x86_64-pc-windows-msvc", "haswell", "WaitOnAddress", "pthread_create"),
        ("x86_64-unknown-freebsd14", "x86-64", "pthread_cond_wait", "syscall"),
    ],
)
def test_other_platforms(triple, cpu, expected, missing):
    target = Target(cpu, "", 16, triple)
    text = assembly(pool_ir(target), target)
    assert expected in text and missing not in text
    assert "funcgrad_parallel" in text
    assert object_code(pool_ir(target), target)


def test_a_job_costs_little():
    """Compared with a call through ctypes; how little depends on what else the machine does."""
    threads = pool()
    kernel = load(object_code("define void @f(ptr %c, i64 %l, i64 %h) { ret void }", host_target()), ["f"])
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(kernel.addresses["f"])

    def best(function, *arguments) -> float:
        times = []
        for _ in range(300):
            start = time.perf_counter()
            function(*arguments)
            times.append(time.perf_counter() - start)
        return min(times)

    with config.override(threads=2):
        assert best(threads.run, kernel.addresses["f"], None, 2, 1) < best(call, None, 0, 2) + 5e-6
