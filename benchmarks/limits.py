"""What this machine can do at most: how fast it moves memory, and how fast it multiplies and adds.

`python -m benchmarks.limits` measures both and prints them as JSON. A row that tells how many bytes it must move and
how many operations its products take has then a least time, which no library can get below by much.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

from benchmarks.processes import clean_environment
from benchmarks.row import CallRow, Row

SECONDS = 0.5
"""How long each of the two is tried; what counts is the best."""


def best_time(call: Callable[[], object]) -> float:
    """The shortest time of a call."""
    end, best = perf_counter() + SECONDS, float("inf")
    while (start := perf_counter()) < end:
        call()
        best = min(best, perf_counter() - start)
    return best


def bytes_per_second() -> float:
    """Reading and writing of arrays that no cache holds, by as many threads as there are."""
    import numpy

    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    size = 1 << 26
    pairs = [(numpy.ones(size // 8), numpy.zeros(size // 8)) for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        return 2 * size * threads / best_time(lambda: list(pool.map(lambda pair: numpy.copyto(*pair), pairs)))


def operations_per_second() -> float:
    """Multiplications and additions of float32 in a product of large matrices."""
    import numpy

    size = 1024
    a = numpy.ones((size, size), numpy.float32)
    return 2 * size**3 / best_time(lambda: a @ a)


def measure_limits() -> dict[str, float]:
    """Measures in a process of its own, which has the environment of those that are timed."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.limits"]
        environment = clean_environment(folder)
        answer = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(answer.stdout)


def has_limit(row: Row) -> bool:
    """Whether the row tells what it needs."""
    return isinstance(row, CallRow) and bool(row.moved_bytes or row.operations)


def least_time(row: Row, limits: dict[str, float]) -> float | None:
    """The seconds that a row takes at least; None if it does not tell what it needs."""
    if not isinstance(row, CallRow) or not has_limit(row):
        return None
    return max(row.moved_bytes / limits["bytes"], row.operations / limits["operations"])


if __name__ == "__main__":
    print(json.dumps({"bytes": bytes_per_second(), "operations": operations_per_second()}))
