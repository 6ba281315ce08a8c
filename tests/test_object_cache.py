"""Compiled code on disk: right for many processes at once, whatever was done to the folder, or not there."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
import warnings
from pathlib import Path

import pytest

from funcgrad.compiler import cache
from funcgrad.compiler.cache import SUFFIX, UNFINISHED_SUFFIX, Folder, cached
from funcgrad.compiler.machine import code_key
from funcgrad.compiler.target import Target, host_target
from funcgrad.config import config

REPOSITORY = Path(__file__).resolve().parent.parent
CODE = bytes(range(256)) * 20
posix = pytest.mark.skipif(os.name != "posix", reason="needs the permissions of POSIX")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty cache folder, which this process knows nothing of."""
    path = tmp_path / "cache"
    cache._folder.cache_clear()
    with config.override(cache_folder=path, cache_bytes=2**20):
        yield path
    cache._folder.cache_clear()


def make(code: bytes = CODE):
    """A function that makes code and counts how often it does."""

    def made() -> bytes:
        made.times += 1
        return code

    made.times = 0
    return made


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*" + SUFFIX))


def new_process():
    """Forgets what this process knows of the folder."""
    cache._folder.cache_clear()


def run(folder: Path, text: str, **environment: str) -> subprocess.Popen:
    """Runs Python in another process, with `folder` as its cache folder."""
    preamble = (
        "from funcgrad.compiler import cache\nfrom funcgrad.compiler.cache import cached\nimport os, sys, signal\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", preamble + textwrap.dedent(text)],
        env={**os.environ, "FUNCGRAD_CACHE": str(folder), "PYTHONPATH": str(REPOSITORY), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_made_once(folder):
    once, never = make(), make(b"other")
    assert cached(b"key", once) == CODE
    assert cached(b"key", once) == CODE
    new_process()
    assert cached(b"key", never) == CODE
    assert (once.times, never.times) == (1, 0)
    assert len(entries(folder)) == 1


def test_empty_code_is_code(folder):
    empty = make(b"")
    assert [cached(b"key", empty), cached(b"key", empty)] == [b"", b""]
    assert empty.times == 1


def test_another_process_finds_it(folder):
    assert cached(b"key", make()) == CODE
    process = run(folder, "print(len(cached(b'key', lambda: b'')))")
    assert process.communicate()[0].strip() == str(len(CODE))


def test_what_an_entry_depends_on(folder, monkeypatch):
    assert cached(b"key", make(b"1")) == b"1"
    assert cached(b"other key", make(b"2")) == b"2"
    monkeypatch.setattr(cache, "compiler_fingerprint", lambda: b"another version")
    assert cached(b"key", make(b"3")) == b"3"
    assert len(entries(folder)) == 3


def test_what_machine_code_depends_on():
    with config.override(vector_bits=None):
        host = host_target()
    keys = [code_key("code", host), code_key("other code", host), code_key("code", host, 0)]
    keys.append(code_key("code", Target("other", host.features, host.vector_bytes, host.triple)))
    keys.append(code_key("code", Target(host.cpu, "+other", host.vector_bytes, host.triple)))
    keys.append(code_key("code", host.without_vectors_above(0)))
    assert len({*keys}) == len(keys)


def test_the_compiler_s_own_code_counts(tmp_path, monkeypatch):
    for folder in (*cache.FLOORS, "compiler/bridge", "nn"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "file.py").write_text("1")
    monkeypatch.setattr(cache, "__file__", str(tmp_path / "compiler" / "cache.py"))
    first = cache.compiler_fingerprint.__wrapped__()
    (tmp_path / "nn" / "file.py").write_text("22")  # what only builds Programs does not
    assert cache.compiler_fingerprint.__wrapped__() == first
    for path in ("core.py", "compiler/file.py", "compiler/bridge/file.py", "primitives/file.py"):
        (tmp_path / path).write_text("22")
        second = cache.compiler_fingerprint.__wrapped__()
        assert second != first
        first = second


def test_errors_pass(folder):
    with pytest.raises(ZeroDivisionError):
        cached(b"key", lambda: bytes([1 // 0]))
    assert not folder.exists()


def test_off(folder):
    code = make()
    with config.override(cache_folder="off"):
        assert [cached(b"key", code), cached(b"key", code)] == [CODE, CODE]
    assert code.times == 2
    assert not folder.exists()


@posix
def test_private(folder):
    before = os.umask(0)
    try:
        cached(b"key", make())
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}


# What is wrong is not used, and made anew


def spoil_middle(contents: bytes) -> bytes:
    middle = len(contents) // 2
    return contents[:middle] + bytes([contents[middle] ^ 1]) + contents[middle + 1 :]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda contents: contents[:-1],
        lambda contents: contents[:20],
        lambda contents: b"",
        lambda contents: contents + b"\0",
        lambda contents: bytes(len(contents)),
        lambda contents: contents.replace(b"code 2", b"code 1"),
        lambda contents: contents[:16] + hashlib.sha256(b"").digest(),
        spoil_middle,
    ],
)
def test_damaged(folder, spoil):
    cached(b"key", make())
    (entry,) = entries(folder)
    right = entry.read_bytes()
    entry.write_bytes(spoil(right))
    again = make()
    assert cached(b"key", again) == CODE and again.times == 1
    assert entry.read_bytes() == right
    assert cached(b"key", again) == CODE and again.times == 1


def test_another_entry_s_contents(folder):
    cached(b"key", make(b"1"))
    (entry,) = entries(folder)
    cached(b"other", make(b"2"))
    (other,) = set(entries(folder)) - {entry}
    entry.write_bytes(other.read_bytes())
    assert cached(b"key", make(b"1")) == b"1"


@posix
def test_a_file_that_others_may_write_to(folder):
    cached(b"key", make())
    (entry,) = entries(folder)
    entry.chmod(0o602)
    again = make()
    assert cached(b"key", again) == CODE and again.times == 1
    assert stat.S_IMODE(entry.stat().st_mode) == 0o600


@posix
@pytest.mark.skipif(os.name == "posix" and os.geteuid() != 0, reason="only root gives files away")
def test_a_file_of_another_user(folder):
    cached(b"key", make())
    (entry,) = entries(folder)
    os.chown(entry, 65534, 65534)
    again = make()
    assert cached(b"key", again) == CODE and again.times == 1
    assert entry.stat().st_uid == os.geteuid()


READ_ONLY = """
cache.entry_name(b"")
if os.geteuid() == 0:
    os.setuid(65534)
assert len(cached(b"key", lambda: b"")) == 5120
for _ in range(2):
    assert cached(b"new", lambda: b"1") == b"1"
    assert cached(b"newer", lambda: b"2") == b"2"
"""

# Folders that cannot be used: one warning, and right results


def works_without(warning: str, times: int = 3):
    code = make()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for number in range(times):
            assert cached(b"key", code) == CODE
            assert cached(b"key%d" % number, make(b"1")) == b"1"
    assert code.times == times
    (message,) = {str(each.message) for each in seen}
    assert len(seen) == 1
    assert warning in message and message.startswith("Compiled code is not kept, because the folder ")
    assert seen[0].filename == __file__  # the user's line, not one of ours
    new_process()


@posix
@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o702])
def test_a_folder_that_others_may_write_to(folder, mode):
    cached(b"key", make(b"altered"))
    folder.chmod(mode)
    works_without("others may write to it")
    assert len(entries(folder)) == 1


@posix
def test_a_folder_of_another_user(folder, monkeypatch):
    cached(b"key", make(b"altered"))
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    works_without("belongs to another user")


def test_a_folder_that_cannot_be_made(folder, tmp_path):
    (tmp_path / "file").write_text("")
    with config.override(cache_folder=tmp_path / "file" / "cache"):
        works_without("cannot be written to (Not a directory)")
    with config.override(cache_folder=tmp_path / "file"):
        works_without("cannot be written to (File exists)")


@posix
def test_a_folder_that_is_read_only():
    """What is there already is used; nothing is added."""
    with tempfile.TemporaryDirectory() as parent:
        os.chmod(parent, 0o755)
        folder = Path(parent) / "cache"
        with config.override(cache_folder=folder):
            cached(b"key", make())
        new_process()
        if os.geteuid() == 0:  # root may write anywhere, so it has to be somebody else
            for path in [folder, *folder.iterdir()]:
                os.chown(path, 65534, 65534)
        folder.chmod(0o500)
        process = run(folder, READ_ONLY)
        _, errors = process.communicate()
        assert process.returncode == 0, errors
        assert errors.count("RuntimeWarning") == 1 and "cannot be written to (Permission denied)" in errors
        assert len(entries(folder)) == 1


@posix
def test_a_disk_that_gets_full_while_writing(folder):
    """A limit on the size of files cuts a write short just as a full disk does."""
    process = run(
        folder,
        """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (10000, 10000))
        code = bytes(100000)
        for _ in range(3):
            assert cached(b"key", lambda: code) == code
        """,
    )
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert errors.count("RuntimeWarning") == 1 and "cannot be written to (File too large)" in errors
    assert list(folder.iterdir()) == []
    assert cached(b"key", make()) == CODE


def test_a_full_disk(folder, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    folder.mkdir(mode=0o700)
    monkeypatch.setattr(os, "replace", full)
    works_without("cannot be written to (No space left on device)")
    assert list(folder.iterdir()) == []


# Size


def age(file: Path, seconds: float):
    os.utime(file, (time.time() - seconds,) * 2)


def test_the_longest_unused_goes_first(folder):
    size = 40_000
    keys = [b"%d" % number for number in range(20)]
    of_key = {}
    for number, key in enumerate(keys):
        before = set(entries(folder))
        cached(key, make(bytes(size)))
        (of_key[key],) = set(entries(folder)) - before
        age(of_key[key], 10_000 - number)
    cached(keys[0], make())  # used, so it is the newest now
    with config.override(cache_bytes=10 * (size + 4096)):
        cached(b"one too much", make(bytes(size)))
    left = {key for key in keys if of_key[key].exists()}
    assert keys[0] in left
    assert 5 <= len(left) <= 8
    assert left == {keys[0], *keys[-(len(left) - 1) :]}
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 10 * (size + 4096)


def test_the_limit_holds(folder):
    with config.override(cache_bytes=300_000):
        for number in range(100):
            cached(b"%d" % number, make(bytes(1000 * (number % 30))))
            assert sum(file.stat().st_size for file in folder.iterdir()) <= 300_000
    assert len(entries(folder)) > 5


def test_most_writes_look_at_no_other_entry(folder, monkeypatch):
    cached(b"first", make())
    scans = []
    evict = Folder._evict
    monkeypatch.setattr(Folder, "_evict", lambda *arguments: scans.append(1) or evict(*arguments))
    with config.override(cache_bytes=2**30):
        for number in range(100):
            cached(b"%d" % number, make())
    assert len(scans) == 0


def test_what_is_larger_than_the_limit_is_not_kept(folder):
    with config.override(cache_bytes=5000):
        assert cached(b"key", make()) == CODE
    with config.override(cache_bytes=0):
        assert cached(b"key", make(b"")) == b""
    assert not folder.exists()


def test_the_ledger_may_be_lost(folder):
    cached(b"key", make())
    (folder / "pages").unlink()
    cached(b"other", make())
    assert (folder / "pages").stat().st_size == 4  # two pages each


def test_a_folder_that_is_removed_comes_back(folder):
    cached(b"key", make())
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    assert cached(b"key", make()) == CODE
    assert len(entries(folder)) == 1


# Many processes


def test_eight_processes_at_once(folder):
    text = """
    results = []
    for number in range(40):
        key = b"%d" % number
        results.append(cached(key, lambda: key * 3000))
    print(all(code == b"%d" % number * 3000 for number, code in enumerate(results)))
    """
    processes = [run(folder, text) for _ in range(8)]
    outputs = [process.communicate() for process in processes]
    assert [output.strip() for output, _ in outputs] == ["True"] * 8, outputs
    assert [errors for _, errors in outputs] == [""] * 8
    assert len(entries(folder)) == 40
    assert not list(folder.glob("*" + UNFINISHED_SUFFIX))
    for number in range(40):
        assert cached(b"%d" % number, make(b"wrong")) == b"%d" % number * 3000


def test_eight_processes_that_evict(folder):
    text = """
    import random
    for _ in range(100):
        number = random.randrange(50)
        assert cached(b"%d" % number, lambda: b"%d" % number * 3000) == b"%d" % number * 3000
    """
    processes = [run(folder, text, FUNCGRAD_CACHE_BYTES="100000") for _ in range(8)]
    outputs = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0] * 8, outputs
    assert [errors for _, errors in outputs] == [""] * 8
    assert not list(folder.glob("*" + UNFINISHED_SUFFIX))


@posix
def test_killed_while_writing(folder):
    process = run(
        folder,
        """
        write = open
        def open(path, mode, opener):
            file = write(path, mode, opener=opener)
            file.write(b"half of it")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        cache.open = open
        cache.compiler_fingerprint = lambda: b"the same in both"
        cached(b"key", lambda: bytes(10000))
        """,
    )
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    (left,) = folder.iterdir()
    assert left.name.endswith(UNFINISHED_SUFFIX)
    code = make()
    assert cached(b"key", code) == CODE and code.times == 1
    assert left.exists()  # whoever wrote it might be slow
    age(left, 10_000)
    (folder / "pages").unlink()
    cached(b"other", make())
    assert not left.exists()


@posix
def test_killed_at_any_moment(folder):
    """A process that does nothing but write is killed again and again; no reader ever finds anything wrong."""
    for delay in (0.0, 0.003, 0.01, 0.02, 0.03):
        process = run(
            folder,
            """
            cache.entry_name(b"")
            print("ready", flush=True)
            number = 0
            while True:
                number += 1
                cached(b"%d" % (number % 100), lambda: b"%d" % (number % 100) * 20000)
            """,
            FUNCGRAD_CACHE_BYTES="1000000",
        )
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        time.sleep(delay)
        process.kill()
        process.communicate()
        for number in range(100):
            assert cached(b"%d" % number, lambda: b"made") in (b"made", b"%d" % number * 20000)
        for entry in entries(folder):
            entry.unlink()


def test_cheap(folder):
    cached(b"key", make())
    times = []
    for _ in range(50):
        start = time.perf_counter()
        cached(b"key", make())
        times.append(time.perf_counter() - start)
    assert min(times) < 2e-3, json.dumps(times)
