"""Measures a row: the libraries take turns, round after round, so that all see the same state of the machine."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter

from benchmarks.processes import Worker, clean_environment, last_line
from benchmarks.row import CallRow, ProcessRow, Row, library_of, peer_of

CACHING = ("funcgrad", "jax", "torch.compile")
"""The peers that keep compiled code on disk, and funcgrad."""

ROUNDS_TO_COMPILE = 20  # until what comes again and again among eager operations is compiled


@dataclass
class Outcome:
    """What came of one library in one row.

    `status` is `"measured"`, `"not installed"`, `"skipped"`, `"wrong result"` or `"failed"`; `detail` says more about
    the last three. `first` is the seconds of the first call, `compiling` those in a process that has compiled something
    else before, `cached_first` those in one that finds what the first one left in its cache folder, and `rounds` those
    of a call in each round; `memory` is in bytes.
    """

    status: str
    detail: str = ""
    first: float | None = None
    compiling: float | None = None
    cached_first: float | None = None
    memory: int | None = None
    rounds: list[float] = field(default_factory=list)

    @property
    def steady(self) -> float | None:
        """The median of the rounds, in seconds; None if nothing was measured."""
        return median(self.rounds) if self.status == "measured" else None


def take_turns(outcomes: dict[str, Outcome], rounds: int, measure: Callable[[str], float | None]) -> None:
    """Adds rounds to every outcome that is measured. `measure` answers None where a library broke down."""
    for round_number in range(rounds):
        labels = [label for label, outcome in outcomes.items() if outcome.status == "measured"]
        # Another library begins each round: what one leaves behind (heat, caches) is not always left to the same next.
        start = round_number % max(1, len(labels))
        for label in labels[start:] + labels[:start]:
            seconds = measure(label)
            if seconds is not None:
                outcomes[label].rounds.append(seconds)


def cache_folder() -> tempfile.TemporaryDirectory[str]:
    """An empty folder for compiled code."""
    return tempfile.TemporaryDirectory(prefix="funcgrad-benchmark-", ignore_cleanup_errors=True)


def start_worker(
    stack: ExitStack, interpreter: str, row: CallRow, label: str, round_seconds: float
) -> tuple[Worker, Outcome]:
    """Starts the process whose rounds are timed; the stack ends it and removes its cache folder.

    Of a library that keeps compiled code on disk, it is the last process: one shows how long compiling takes by itself,
    and one fills the cache. That holds for eager operations as well, which such a library compiles when they come again
    and again.
    """
    first = compiling = None
    keeps = peer_of(label) in CACHING
    if keeps and row.compiled:
        with cache_folder() as folder, Worker(interpreter, row.name, label, round_seconds, folder, used=True) as worker:
            ready = worker.ready
        if ready["status"] != "ready":
            return worker, Outcome(**ready)
        compiling = ready["first"]
    folder = stack.enter_context(cache_folder())
    if keeps:
        with Worker(interpreter, row.name, label, round_seconds, folder) as worker:
            ready = worker.ready
            for _ in range(0 if row.compiled or ready["status"] != "ready" else ROUNDS_TO_COMPILE):
                worker.measure()
        if ready["status"] != "ready":
            return worker, Outcome(**ready)
        first = ready["first"]
    worker = stack.enter_context(Worker(interpreter, row.name, label, round_seconds, folder))
    if worker.ready["status"] != "ready":
        return worker, Outcome(**worker.ready)
    last = worker.ready["first"]
    if first is None:
        return worker, Outcome("measured", first=last)
    return worker, Outcome("measured", first=first, compiling=compiling, cached_first=last if row.compiled else None)


def measure_calls(row: CallRow, interpreters: dict[str, str], rounds: int, round_seconds: float) -> dict[str, Outcome]:
    """Times calls in one worker per library. `interpreters` holds the Python executable for each label to measure."""
    outcomes: dict[str, Outcome] = {}
    workers: dict[str, Worker] = {}
    with ExitStack() as stack:
        for label, interpreter in interpreters.items():
            workers[label], outcomes[label] = start_worker(stack, interpreter, row, label, round_seconds)

        def measure(label: str) -> float | None:
            measured = workers[label].measure()
            if measured is None or "status" in measured:
                outcomes[label] = Outcome(**(measured or workers[label].ready))
                return None
            outcomes[label].memory = measured["memory"]
            return measured["seconds"]

        take_turns(outcomes, rounds, measure)
    return outcomes


def measure_processes(row: ProcessRow, interpreters: dict[str, str], rounds: int) -> dict[str, Outcome]:
    """Times fresh processes. The first of each library, before the rounds, also writes missing bytecode."""
    outcomes: dict[str, Outcome] = {}
    with cache_folder() as folder:
        environment = clean_environment(folder)

        def measure(label: str) -> float | None:
            command = [interpreters[label], "-c", row.statements[label]]
            start = perf_counter()
            process = subprocess.run(command, check=False, env=environment, capture_output=True, text=True)
            seconds = perf_counter() - start
            wrong = None if process.returncode else row.check(process.stdout)
            if process.returncode == 0 and wrong is None:
                return seconds
            error = last_line(process.stderr)
            modules = (library_of(label), *row.modules.get(label, ()))
            if error in [f"ModuleNotFoundError: No module named {module!r}" for module in modules]:
                outcomes[label] = Outcome("not installed")
            else:
                outcomes[label] = Outcome("wrong result", wrong) if wrong else Outcome("failed", error)
            return None

        for label in interpreters:
            first = measure(label)
            if first is not None:
                outcomes[label] = Outcome("measured", first=first)
        take_turns(outcomes, rounds, measure)
    return {label: outcomes[label] for label in interpreters}


def measure_row(row: Row, interpreters: dict[str, str], rounds: int, round_seconds: float) -> dict[str, Outcome]:
    """Measures a row of any kind; a new kind of row gets its case here."""
    match row:
        case CallRow():
            return measure_calls(row, interpreters, rounds, round_seconds)
        case ProcessRow():
            return measure_processes(row, interpreters, rounds)
        case _:
            raise TypeError(f"no way to measure a {type(row).__name__} is known")
