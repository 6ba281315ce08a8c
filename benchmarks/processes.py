"""Starts the processes that are timed, all in the same environment, and talks to the workers among them."""

from __future__ import annotations

import json
import os
import select
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

REPOSITORY = Path(__file__).resolve().parent.parent

ANSWER_SECONDS = 600
"""A worker that says nothing for this long is taken to hang."""

REMOVED_VARIABLES = (
    # Set on some machines, they bind OpenBLAS to kernels that are not this CPU's fastest.
    "OPENBLAS_CORETYPE",
    "OPENBLAS_L2_SIZE",
    # Where it is set, libraries installed with their bytecode would be compared with one compiled at each import.
    "PYTHONDONTWRITEBYTECODE",
    # A first call is to compile.
    "JAX_COMPILATION_CACHE_DIR",
)


def clean_environment(cache_folder: str) -> dict[str, str]:
    """The environment of every timed process: this one's, without what distorts, and with an empty cache folder."""
    environment = {name: value for name, value in os.environ.items() if name not in REMOVED_VARIABLES}
    search_path = [str(REPOSITORY), *filter(None, [environment.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(search_path)
    # Compiled code of an earlier run would make a first call look faster than it is.
    environment["XDG_CACHE_HOME"] = environment["TORCHINDUCTOR_CACHE_DIR"] = cache_folder
    return environment


def last_line(text: str) -> str:
    """The last line that is not blank: of a traceback, the error itself."""
    return (text.strip().splitlines() or [""])[-1].strip()


class Worker:
    """One library computing one row in a process of its own (see `worker.py`), used in a `with` statement.

    `ready` is its first answer. `measure` asks for one round.
    """

    def __init__(self, interpreter: str, row_name: str, label: str, round_seconds: float) -> None:
        self._cache_folder = tempfile.TemporaryDirectory(prefix="funcgrad-benchmark-", ignore_cleanup_errors=True)
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115  (closed by __exit__)
        self._process = subprocess.Popen(
            [interpreter, "-m", "benchmarks.worker", row_name, label, str(round_seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            env=clean_environment(self._cache_folder.name),
        )
        self.ready: dict[str, Any] = self._answer() or {"status": "failed", "detail": self._end()}

    def measure(self) -> float | None:
        """Seconds a call took in one more round, or None if the process has ended; `ready` then says why."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            seconds = None
        else:
            seconds = self._answer()
        if seconds is None:
            self.ready = {"status": "failed", "detail": self._end()}
        return seconds

    def _answer(self) -> Any:
        # The worker writes one line for one question, so a line is all that can be waiting.
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], ANSWER_SECONDS)[0]:
            self._process.kill()
        line = self._process.stdout.readline()
        return json.loads(line) if line else None

    def _end(self) -> str:
        """Waits for a process that stopped answering; says in one line why it did."""
        status = self._process.wait()
        self._complaints.seek(0)
        return f"ended with status {status}: {last_line(self._complaints.read().decode(errors='replace'))}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            pass
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._complaints.close()
        self._cache_folder.cleanup()
