"""Compiled functions give right results whatever happens around them.

Many processes and threads at once, processes that are killed or forked, and whatever is wrong with the cache folder.
"""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy
import pytest
from stress_functions import check

import funcgrad as fg
import funcgrad.compiler.native
import funcgrad.numpy as fnp
from funcgrad.compiler import cache
from funcgrad.compiler.cache import SUFFIX
from funcgrad.config import config

pytestmark = pytest.mark.native
TESTS = Path(__file__).resolve().parent
PATH = os.pathsep.join([str(TESTS.parent), str(TESTS)])
ROOT = os.name == "posix" and os.geteuid() == 0
posix = pytest.mark.skipif(os.name != "posix", reason="needs signals, permissions and fork of POSIX")


@pytest.fixture
def folder(tmp_path):
    """An empty cache folder, which this process knows nothing of."""
    path = tmp_path / "cache"
    with in_folder(path):
        yield path


@contextmanager
def in_folder(path):
    cache._folder.cache_clear()
    with config.override(cache_folder=path):
        yield
    cache._folder.cache_clear()


def entries(folder):
    return sorted(folder.glob("*" + SUFFIX))


def start(folder, text, *arguments, **environment):
    """Python in another process, with `folder` as its cache folder."""
    return subprocess.Popen(
        [sys.executable, "-c", "from stress_functions import *\n" + text, *arguments],
        env={**os.environ, "FUNCGRAD_CACHE": str(folder), "PYTHONPATH": PATH, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(folder, text, **environment):
    process = start(folder, text, **environment)
    _, errors = process.communicate(timeout=100)
    assert (process.returncode, errors) == (0, "")


# Processes


def test_eight_processes_at_once_on_an_empty_folder(folder):
    text = """
import funcgrad.compiler.native
print("ready", flush=True)
sys.stdin.readline()
for number in (0, int(sys.argv[1]), 1, 0):
    check(number)
"""
    processes = [start(folder, text, str(number)) for number in range(2, 10)]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        _, errors = process.communicate(timeout=100)
        assert (process.returncode, errors) == (0, "")
    count = len(entries(folder))
    assert count >= 10
    for number in range(10):
        check(number)  # what they left is right, and is all that it takes
    assert len(entries(folder)) == count


@posix
def test_killed_at_any_moment_of_compiling(folder):
    """A process begins to compile, is killed, and another one goes on with what it left."""
    run(
        folder,
        """
warnings.simplefilter("error", RuntimeWarning)
import funcgrad.compiler.native
random.seed(3)
killed = 0
for turn in range(14):
    child = os.fork()
    if child == 0:
        try:
            for number in range(1_000_000):  # until it is killed
                check(10 * turn + number % 3)
                fg.config.cache_folder = os.environ["FUNCGRAD_CACHE"] + "-" * (number % 2)
        finally:
            os._exit(1)
    time.sleep(random.choice([random.random() * 0.15, random.random() * 0.4]))
    os.kill(child, signal.SIGKILL)
    killed += os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    for number in range(2):
        check(10 * turn + number)
assert killed == 14
""",
    )


def in_child(function):
    """The exit status of a forked process that calls a function; -1 if it never ends."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            function()
            status = 0
        finally:
            os._exit(status)
    for _ in range(2000):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -1


LONG = numpy.linspace(0, 1, 300_000, dtype=numpy.float32)


def grows(x, y):
    return fnp.sum(fnp.sqrt(x) * y), x * 2 + y


def check_grows(function, number=1.0):
    total, more = function(fg.array(LONG), fg.array(LONG + number))
    numpy.testing.assert_allclose(total, (numpy.sqrt(LONG.astype(float)) * (LONG + number)).sum(), rtol=1e-4)
    numpy.testing.assert_allclose(more, LONG * 2 + (LONG + number), rtol=1e-6)


@posix
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_calls_and_compiles(folder):
    function = fg.jit(grows)
    with config.override(threads=3):
        for _ in range(4):
            check_grows(function)

        def work():
            for number in range(4):
                check_grows(function, number)
                check(number)
            check_grows(fg.jit(lambda x, y: grows(x, y)))

        assert in_child(work) == 0
        assert in_child(lambda: in_child(work) and os._exit(2)) == 0
        check_grows(function)
        check(0)


@posix
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_while_other_threads_compile_and_compute():
    function, stop, failed = fg.jit(grows), threading.Event(), []

    def compile_on(first):
        number = first
        try:
            while not stop.is_set():
                check(number)
                check_grows(function)
                number += 7
        except BaseException as error:
            failed.append(error)

    def work():
        check(1001)
        check_grows(function)
        check_grows(fg.jit(lambda x, y: grows(x, y)))

    check_grows(function)
    with config.override(threads=2, cache_folder=None):
        others = [threading.Thread(target=compile_on, args=(first,)) for first in (2000, 3000)]
        for other in others:
            other.start()
        try:
            for _ in range(6):
                time.sleep(random.random() * 0.1)
                assert in_child(work) == 0
        finally:
            stop.set()
            for other in others:
                other.join()
    assert failed == []


# Threads


def test_threads_of_python_compile_at_once():
    """The same function and functions of their own, from cold and then again, with arrays for several threads."""
    shared, barrier, failed = fg.jit(grows), threading.Barrier(6), []

    def work(number):
        try:
            barrier.wait()
            for turn in range(3):
                check_grows(shared, number)
                check(100 * number + turn)
                check(turn)
                check_grows(fg.jit(lambda x, y: grows(x, y + 0)), number)
        except BaseException as error:
            failed.append(error)

    with config.override(threads=2, cache_folder=None):
        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failed == []


def normal(*shape, dtype="float32"):
    return fg.array(numpy.random.default_rng(len(shape)).standard_normal(shape)).astype(dtype)


def convolution(x, w):
    return fg.lax.conv_general_dilated(x, w, (1, 1), "SAME")


BITWISE = {
    "elementwise": (lambda x: fnp.tanh(x) * x + fnp.exp(-x), [(300_001,)]),
    "elementwise with broadcasts": (lambda x, y: fnp.sin(x) * y + x.T[:1].T, [(600, 333), (333,)]),
    "sum of all": (lambda x: fnp.sum(x * x), [(700_001,)]),
    "sums of rows": (lambda x: fnp.sum(x * x, 1), [(300, 1777)]),
    "sums of columns": (lambda x: (fnp.sum(x * x, 0), fnp.max(x, 0)), [(3000, 177)]),
    "statistics": (lambda x: (fnp.mean(x), fnp.var(x), fnp.argmax(x)), [(400, 999)]),
    "product": (lambda x, y: x @ y, [(257, 301), (301, 283)]),
    "product with a long sum": (lambda x, y: x @ y, [(5, 40_000), (40_000, 7)]),
    "matrix and vector": (lambda x, y: (x @ y, y @ x), [(900, 900), (900,)]),
    "batch of products": (lambda x, y: fnp.tanh(x @ y.swapaxes(1, 2)), [(17, 60, 65), (17, 50, 65)]),
    "convolution": (convolution, [(4, 9, 30, 31), (13, 9, 3, 3)]),
    "gradient of a convolution": (
        fg.grad(lambda w, x: fnp.sum(fnp.tanh(convolution(x, w))), argnums=(0, 1)),
        [(13, 9, 3, 3), (4, 9, 30, 31)],
    ),
    "pooling": (fg.grad(lambda x: fnp.sum(fg.nn.MaxPool2d(2)(x) ** 2)), [(8, 16, 40, 40)]),
    "softmax": (fg.nn.softmax, [(500, 777)]),
    "gradient of softmax": (fg.grad(lambda x: fnp.sum(fg.nn.log_softmax(x) * x)), [(500, 777)]),
    "running sums": (lambda x: (fnp.cumsum(x, 1), fnp.cumsum(x, 0)), [(300, 700)]),
    "scattered additions": (lambda x, y: x.at[fnp.arange(90_000) % 77].add(y), [(77, 3), (90_000, 3)]),
    "a loop": (
        lambda x, w: fg.lax.scan(lambda c, _: (fnp.tanh(c @ w), fnp.sum(c)), x, None, length=5),
        [(200, 200), (200, 200)],
    ),
    "random numbers": (lambda x: fg.random.normal(fg.random.key(3), (200_003,)) + x, [(1,)]),
}


@pytest.mark.parametrize("name", BITWISE)
def test_results_are_bitwise_equal_on_any_number_of_threads(name):
    function, shapes = BITWISE[name]
    for dtype in ("float32", "float64", "bfloat16")[: 3 if name in ("product", "softmax", "sum of all") else 2]:
        arguments = [normal(*shape, dtype=dtype) for shape in shapes]
        jitted, found = fg.jit(function), []
        for threads in (1, 2, 2, 4):
            with config.override(threads=threads):
                found.append([numpy.asarray(x).tobytes() for x in fg.tree.leaves(jitted(*arguments))])
        assert all(x == found[0] for x in found)


# The cache folder


@contextmanager
def one_warning(text):
    """There is exactly one warning, which says this."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        yield
    assert [str(x.message) for x in seen] == [str(x.message) for x in seen if text in str(x.message)]
    assert len(seen) == 1
    assert seen[0].filename == __file__ or seen[0].filename.endswith("stress_functions.py")


def test_a_folder_that_is_absent_is_made(tmp_path):
    with in_folder(tmp_path / "a" / "b" / "cache"):
        check(0)
    assert entries(tmp_path / "a" / "b" / "cache")


def test_a_folder_that_goes_away(folder):
    for number in range(3):
        check(number)
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


@posix
@pytest.mark.skipif(not ROOT, reason="only root gives folders away")
def test_a_folder_of_another_user(folder):
    check(0)
    for file in [folder, *folder.iterdir()]:
        os.chown(file, 65534, 65534)
    before = {file: file.read_bytes() for file in folder.iterdir()}
    cache._folder.cache_clear()
    with one_warning("belongs to another user"):
        for number in (0, 1, 0):
            check(number)
    assert {file: file.read_bytes() for file in folder.iterdir()} == before


AS_NOBODY = """
check(100)  # loads all that another user may not be able to read
if os.geteuid() == 0:
    os.setuid(65534)
fg.config.cache_folder = os.environ["FOLDER"]
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    for number in (0, 1, 2, 0):
        check(number)
(message,) = [str(x.message) for x in seen]
assert "cannot be written to (Permission denied)" in message, message
"""


@posix
def test_a_folder_that_may_only_be_read(tmp_path):
    folder = tmp_path / "cache"
    with in_folder(folder):
        check(0)
    count = len(entries(folder))
    for parent in [tmp_path, *list(tmp_path.parents)[:2]]:
        os.chmod(parent, 0o755)
    if ROOT:  # who may write anywhere, so it has to be somebody else
        for path in [folder, *folder.iterdir()]:
            os.chown(path, 65534, 65534)
    folder.chmod(0o500)
    run("off", AS_NOBODY, FOLDER=str(folder))
    assert len(entries(folder)) == count
    run("off", AS_NOBODY, FOLDER=str(folder / "no" / "such"))


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with in_folder(tmp_path / "file" / "cache"), one_warning("cannot be written to"):
        for number in range(3):
            check(number)


@posix
@pytest.mark.skipif(not ROOT or sys.platform != "linux", reason="only root makes a disk")
def test_a_disk_that_is_full(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=80k,mode=700", "tmpfs", str(disk)], check=False).returncode:
        pytest.skip("disks cannot be made here")
    try:
        check(99)  # what all functions need is there, and not written to the disk
        with in_folder(disk / "cache"), one_warning("cannot be written to (No space left on device)"):
            for number in (*range(30), *range(4)):
                check(number)
        with in_folder(disk / "cache"):  # what was written before the disk was full is used
            check(0)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_write_that_fails(folder, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with one_warning("cannot be written to (No space left on device)"):
        for number in range(3):
            check(number)
    assert entries(folder) == []


# Entries that are not what was written


@pytest.fixture
def loaded(monkeypatch):
    """All object code that is put into memory, to be run."""
    seen = []

    def load(code, names):
        seen.append(code)
        return original(code, names)

    original = funcgrad.compiler.machine.load
    for module in (funcgrad.compiler.machine, funcgrad.compiler.whole):
        monkeypatch.setattr(module, "load", load)
    return seen


def flip(generator, contents):
    place = generator.randrange(len(contents))
    return contents[:place] + bytes([contents[place] ^ 1 << generator.randrange(8)]) + contents[place + 1 :]


def test_an_altered_entry_is_never_run(folder, loaded):
    check(0)
    right = {file: file.read_bytes() for file in entries(folder)}
    code = list(loaded)
    assert code
    generator = random.Random(5)
    ways = [flip] * 12 + [
        lambda generator, contents: contents[: generator.randrange(len(contents))],
        lambda generator, contents: contents[: len(contents) // 2],
        lambda generator, contents: contents + b"\0" * 100,
        lambda generator, contents: b"",
        lambda generator, contents: generator.randbytes(len(contents)),
        lambda generator, contents: contents[:48] + generator.randbytes(len(contents) - 48),
    ]
    for way in ways:
        for file, contents in right.items():
            file.write_bytes(way(generator, contents))
        loaded.clear()
        check(0)
        assert loaded == code
        assert {file: file.read_bytes() for file in entries(folder)} == right


def test_the_entry_of_another_function_is_never_run(folder, loaded):
    check(0)
    first, code = entries(folder), list(loaded)
    check(1)
    others = [file for file in entries(folder) if file not in first]
    assert others
    for file in first:
        file.write_bytes(others[0].read_bytes())
    loaded.clear()
    check(0)
    assert loaded == code
