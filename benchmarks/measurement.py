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
from benchmarks.row import CallRow, ProcessRow, Row, library_of


@dataclass
class Outcome:
    """What came of one library in one row.

    `status` is `"measured"`, `"not installed"`, `"wrong result"` or `"failed"`; `detail` says more about the last two.
    `first` is the seconds of the first call, `rounds` those of a call in each round.
    """

    status: str
    detail: str = ""
    first: float | None = None
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


def measure_calls(row: CallRow, interpreters: dict[str, str], rounds: int, round_seconds: float) -> dict[str, Outcome]:
    """Times calls in one worker per library. `interpreters` holds the Python executable for each label to measure."""
    outcomes: dict[str, Outcome] = {}
    with ExitStack() as stack:
        workers: dict[str, Worker] = {}
        for label, interpreter in interpreters.items():
            worker = stack.enter_context(Worker(interpreter, row.name, label, round_seconds))
            if worker.ready["status"] == "ready":
                workers[label] = worker
                outcomes[label] = Outcome("measured", first=worker.ready["first"])
            else:
                outcomes[label] = Outcome(**worker.ready)

        def measure(label: str) -> float | None:
            seconds = workers[label].measure()
            if seconds is None:
                outcomes[label] = Outcome(**workers[label].ready)
            return seconds

        take_turns(outcomes, rounds, measure)
    return outcomes


def measure_processes(row: ProcessRow, interpreters: dict[str, str], rounds: int) -> dict[str, Outcome]:
    """Times fresh processes. The first of each library, before the rounds, also writes missing bytecode."""
    outcomes: dict[str, Outcome] = {}
    with tempfile.TemporaryDirectory(prefix="funcgrad-benchmark-", ignore_cleanup_errors=True) as cache_folder:
        environment = clean_environment(cache_folder)

        def measure(label: str) -> float | None:
            command = [interpreters[label], "-c", row.statements[label]]
            start = perf_counter()
            process = subprocess.run(command, check=False, env=environment, capture_output=True, text=True)
            seconds = perf_counter() - start
            if process.returncode == 0:
                return seconds
            error = last_line(process.stderr)
            missing = error == f"ModuleNotFoundError: No module named {library_of(label)!r}"
            outcomes[label] = Outcome("not installed") if missing else Outcome("failed", error)
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
