"""Settings: where they come from, and what they take."""

from __future__ import annotations

import os
import re

import pytest

import funcgrad as fg
from funcgrad.config import Config, usable_cpus, user_cache_folder


@pytest.fixture
def fresh(monkeypatch) -> Config:
    """Settings of which none was read yet, in an environment without any of the variables."""
    for name in list(os.environ):
        if name.startswith("FUNCGRAD_") and name != "FUNCGRAD_CHECK_ANNOTATIONS":
            monkeypatch.delenv(name)
    return Config()


def test_defaults(fresh):
    assert fresh.threads == usable_cpus() >= 1
    assert fresh.compiler == "default"
    assert fresh.vector_bits is None
    assert fresh.cache_bytes == 2**30
    assert fresh.cache_folder == user_cache_folder()
    assert fresh.dump_folder is None


def test_environment(fresh, monkeypatch, tmp_path):
    monkeypatch.setenv("FUNCGRAD_THREADS", "3")
    monkeypatch.setenv("FUNCGRAD_COMPILER", "reference")
    monkeypatch.setenv("FUNCGRAD_VECTOR_BITS", "0")
    monkeypatch.setenv("FUNCGRAD_CACHE", "off")
    monkeypatch.setenv("FUNCGRAD_CACHE_BYTES", "12")
    monkeypatch.setenv("FUNCGRAD_DUMP", str(tmp_path))
    assert (fresh.threads, fresh.vector_bits, fresh.cache_folder, fresh.cache_bytes) == (3, 0, None, 12)
    assert fresh.dump_folder == str(tmp_path)
    assert fresh.compiler == "reference"
    fresh.threads = 1
    assert fresh.threads == 1


def test_a_wrong_variable_is_named(fresh, monkeypatch):
    monkeypatch.setenv("FUNCGRAD_THREADS", "many")
    with pytest.raises(
        fg.errors.ArgumentError, match=r"^FUNCGRAD_THREADS cannot be 'many'; give a whole number from 1 to"
    ):
        _ = fresh.threads


def test_an_empty_variable_is_none(fresh, monkeypatch):
    monkeypatch.setenv("FUNCGRAD_VECTOR_BITS", "")
    assert fresh.vector_bits is None


@pytest.mark.parametrize(
    "name, value",
    [
        ("threads", 0),
        ("threads", 2.0),
        ("threads", True),
        ("threads", None),
        ("threads", 10**6),
        ("compiler", "fast"),
        ("compiler", None),
        ("vector_bits", 64),
        ("vector_bits", "wide"),
        ("cache_bytes", -1),
        ("cache_folder", 5),
        ("cache_folder", ""),
        ("dump_folder", b"folder"),
    ],
)
def test_wrong_values(fresh, name, value):
    before = getattr(fresh, name)
    with pytest.raises(fg.errors.ArgumentError, match=re.escape(f"fg.config.{name} cannot be {value!r}; give ")):
        setattr(fresh, name, value)
    assert getattr(fresh, name) == before


def test_what_is_no_setting_cannot_be_set(fresh):
    with pytest.raises(AttributeError):
        fresh.thread = 1
    with (
        pytest.raises(fg.errors.ArgumentError, match="no setting 'thread'; there are threads, "),
        fresh.override(thread=1),
    ):
        pass


def test_folders_become_absolute(fresh, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fresh.cache_folder = "here"
    assert fresh.cache_folder == str(tmp_path / "here")
    fresh.cache_folder = tmp_path
    assert fresh.cache_folder == str(tmp_path)
    fresh.cache_folder = None
    assert fresh.cache_folder is None


def test_override_gives_back_what_was(fresh):
    threads = fresh.threads

    def fail():
        with fresh.override(threads=7, vector_bits=128):
            assert (fresh.threads, fresh.vector_bits) == (7, 128)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (fresh.threads, fresh.vector_bits) == (threads, None)
    with pytest.raises(fg.errors.ArgumentError), fresh.override(threads=7, vector_bits=5):
        pass
    assert fresh.threads == threads


def test_watchers_are_told(fresh):
    seen = []
    fresh.watch("threads", seen.append)
    with fresh.override(threads=2):
        fresh.vector_bits = 0
    assert seen == [2, fresh.threads]


def test_platforms(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache_folder() == str(tmp_path / "funcgrad")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert user_cache_folder() == os.path.expanduser("~/.cache/funcgrad")
    monkeypatch.setattr("sys.platform", "darwin")
    assert user_cache_folder() == os.path.expanduser("~/Library/Caches/funcgrad")
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    assert user_cache_folder() is None
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    assert user_cache_folder() == str(tmp_path / "funcgrad")


def test_it_shows_itself():
    with fg.config.override(threads=2):
        assert repr(fg.config).startswith("config(threads=2, compiler=")


def test_the_reference_runs_what_names_no_compiler():
    function = fg.jit(lambda x: fg.numpy.sin(x) + x)
    x = fg.numpy.ones(4)
    with fg.config.override(compiler="reference"):
        expected = [function(x).tolist() for _ in range(4)]  # later calls take a shorter way
    assert _compilers(function.lower(x).program) == {"reference"}
    with fg.config.override(compiler="default"):
        assert [function(x).tolist() for _ in range(4)] == [pytest.approx(values) for values in expected]
    assert _compilers(function.lower(x).program) == {"default", "reference"}
    with fg.config.override(compiler="reference"):
        assert [function(x).tolist() for _ in range(4)] == expected


def _compilers(program):
    """Those that have made something of a Program."""
    return {key[1] for key in program._derived if key[0] == "executable"}
