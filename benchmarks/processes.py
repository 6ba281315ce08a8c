"""Starts the processes that are timed, all in the same environment, and talks to the workers among them."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.row import peer_of

REPOSITORY = Path(__file__).resolve().parent.parent

ANSWER_SECONDS = 600
"""A worker that says nothing for this long is taken to hang."""

FIRST_CALL_SECONDS = {"torch.compile": 60}
"""For some peers, the time after which a first call is given up: nobody would wait so long to try something."""

REMOVED_VARIABLES = (
    # Set on some machines, they bind OpenBLAS to kernels that are not this CPU's fastest.
    "OPENBLAS_CORETYPE",
    "OPENBLAS_L2_SIZE",
    # Where it is set, libraries installed with their bytecode would be compared with one compiled at each import.
    "PYTHONDONTWRITEBYTECODE",
    # Writing every stage of the compiler down takes longer than compiling.
    "FUNCGRAD_DUMP",
)


def clean_environment(cache_folder: str) -> dict[str, str]:
    """The environment of every timed process: this one's, without what distorts, and with its own cache folder.

    Compiled code of an earlier run would make a first call look faster than it is. Every library that has a cache
    uses it, JAX as its documentation tells those who want every compilation kept.
    """
    environment = {name: value for name, value in os.environ.items() if name not in REMOVED_VARIABLES}
    search_path = [str(REPOSITORY), *filter(None, [environment.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(search_path)
    for variable in ("XDG_CACHE_HOME", "FUNCGRAD_CACHE", "TORCHINDUCTOR_CACHE_DIR", "JAX_COMPILATION_CACHE_DIR"):
        environment[variable] = cache_folder
    environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    environment["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
    return environment


def last_line(text: str) -> str:
    """The last line that is not blank: of a traceback, the error itself."""
    return (text.strip().splitlines() or [""])[-1].strip()


class Worker:
    """One library computing one row in a process of its own (see `worker.py`), used in a `with` statement.

    `ready` is what it said about its first call, before which it has compiled something else if it is `used`. `measure`
    asks for one round.
    """

    def __init__(
        self, interpreter: str, row_name: str, label: str, round_seconds: float, cache_folder: str, used: bool = False
    ) -> None:
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115  (closed by __exit__)
        self._process = subprocess.Popen(
            [interpreter, "-m", "benchmarks.worker", row_name, label, str(round_seconds), *["used"][: int(used)]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            # Several lines may be waiting, and `select` sees those only that no buffer of ours has swallowed.
            bufsize=0,
            env=clean_environment(cache_folder),
            # A group of its own, because a compiler may start processes that have to end with it.
            start_new_session=True,
        )
        self.ready: dict[str, Any] = self._prepare(FIRST_CALL_SECONDS.get(peer_of(label), ANSWER_SECONDS))

    def _prepare(self, first_call_seconds: float) -> dict[str, Any]:
        answer = self._answer()
        if answer == {"status": "set up"}:
            answer = self._answer(first_call_seconds)
            if self._hangs and first_call_seconds < ANSWER_SECONDS:
                return {"status": "skipped", "detail": f"no result of the first call after {first_call_seconds:g} s"}
        if answer == {"status": "called"}:
            answer = self._answer()
        return answer or {"status": "failed", "detail": self._end()}

    def measure(self) -> dict[str, Any] | None:
        """What was measured in one more round, or None if the process has ended; `ready` then says why."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            measured = None
        else:
            measured = self._answer()
        if measured is None:
            self.ready = {"status": "failed", "detail": self._end()}
        return measured

    def _answer(self, seconds: float = ANSWER_SECONDS) -> Any:
        assert self._process.stdout is not None
        self._hangs = not select.select([self._process.stdout], [], [], seconds)[0]
        if self._hangs:
            os.killpg(self._process.pid, signal.SIGKILL)
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
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process.stdout.close()
        self._complaints.close()
