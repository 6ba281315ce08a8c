"""What every test run has in common: how hard hypothesis tries, and that annotations are checked."""

from __future__ import annotations

import os
import tempfile
from unittest.mock import patch

# Compiled code is kept on disk; that of the tests not beside the user's own.
if "FUNCGRAD_CACHE" not in os.environ:
    _cache = tempfile.TemporaryDirectory(prefix="funcgrad-tests-")
    os.environ["FUNCGRAD_CACHE"] = _cache.name

# Before anything imports funcgrad: its modules import the names of jaxtyping only when they are asked to, because that
# import takes longer than all of funcgrad.
os.environ["FUNCGRAD_CHECK_ANNOTATIONS"] = "1"
os.environ.setdefault("MPLBACKEND", "Agg")

# Tests compare what they compute one after the other, so all of it is computed by NumPy, or with
# FUNCGRAD_NATIVE_AFTER=0 by native code. test_native_eager.py is about the latter.
os.environ.setdefault("FUNCGRAD_NATIVE_AFTER", "never")

import jaxtyping
import pytest
from hypothesis import HealthCheck, settings

# Only the modules that a user of arrays calls. In the eager core, a check of every argument of every operation would
# change what is tested: it inspects tracers, and makes the shortest operations many times slower.
jaxtyping.install_import_hook(["funcgrad.nn", "funcgrad.losses", "funcgrad.optim"], "beartype.beartype")

# "ci" finds what it finds in seconds and always the same, so that a change that breaks nothing never fails. "thorough"
# searches anew each time: FUNCGRAD_HYPOTHESIS_PROFILE=thorough pytest.
settings.register_profile(
    "ci",
    max_examples=30,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "thorough", max_examples=2000, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("FUNCGRAD_HYPOTHESIS_PROFILE", "ci"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """The suite also runs with FUNCGRAD_COMPILER=reference, but for the tests that are about native code."""
    from funcgrad.config import config

    if config.compiler != "reference" or not item.get_closest_marker("native"):
        return (yield)
    with config.override(compiler="default"), patch.dict(os.environ, FUNCGRAD_COMPILER="default"):
        return (yield)
