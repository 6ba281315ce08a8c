"""The process in which one library computes one row: `python -m benchmarks.worker ROW LABEL ROUND_SECONDS`.

It writes one line of JSON on standard output when the computation is set up, called for the first time, warm and
checked (`{"status": "ready", "first": seconds}`, or another status and a `detail`). Then, for every line that it
reads, it times one round and answers with the seconds that a call took. It ends when its input does.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import traceback
from collections.abc import Callable
from importlib.util import find_spec
from itertools import repeat
from time import perf_counter
from typing import Any

from benchmarks.row import CallRow, library_of
from benchmarks.rows import load_row


def seconds_per_call(call: Callable[[], Any], calls: int) -> float:
    """The mean time of a call over so many calls."""
    start = perf_counter()
    for _ in repeat(None, calls):
        call()
    return (perf_counter() - start) / calls


def warm_up(call: Callable[[], Any], round_seconds: float) -> int:
    """Calls until a measurement of about `round_seconds` is reached; returns how many calls such a round holds."""
    # At least two calls: some libraries compile anew at the second.
    calls = 2
    while (elapsed := calls * seconds_per_call(call, calls)) < round_seconds / 2:
        calls *= 2
    return max(1, round(calls * round_seconds / elapsed))


def cost_of_empty_call() -> float:
    """What `seconds_per_call` shows for a function that does nothing.

    It is subtracted from every measurement: beside a sum of 0.1 µs, the 0.03 µs of the harness would blur the ratio.
    """
    return min(seconds_per_call(lambda: None, 10_000) for _ in range(5))


def prepare(row_name: str, label: str, round_seconds: float) -> tuple[dict[str, Any], Callable[[], float] | None]:
    """Sets the computation up; returns what to tell the parent, and the function that measures a round."""
    if find_spec(library_of(label)) is None:
        return {"status": "not installed"}, None
    try:
        row = load_row(row_name)
        assert isinstance(row, CallRow)
        # Imported here because an interpreter without NumPy is to get as far as "not installed".
        from benchmarks.agreement import disagreement

        data = row.data()
        call = row.sources[label](data)
        start = perf_counter()
        first_result = call()
        first = perf_counter() - start
        calls = warm_up(call, round_seconds)
        # The warm call is checked as well, because it may take another path through the library than the first did.
        expected = row.reference(data)
        wrong = disagreement(row, first_result, expected) or disagreement(row, call(), expected)
    except Exception as error:
        traceback.print_exc()
        return {"status": "failed", "detail": traceback.format_exception_only(error)[-1].strip()}, None
    if wrong:
        return {"status": "wrong result", "detail": wrong}, None
    empty = cost_of_empty_call()

    def measure() -> float:
        # The collector stays on while calls are timed (its work is part of what a library costs), but each round starts
        # with a clean slate.
        gc.collect()
        return seconds_per_call(call, calls) - empty

    return {"status": "ready", "first": first}, measure


def main() -> None:
    """Answers the parent until it closes the pipe."""
    row_name, label, round_seconds = sys.argv[1:]
    # Whatever a library prints goes to standard error: standard output belongs to the protocol.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    ready, measure = prepare(row_name, label, float(round_seconds))
    with answers:
        print(json.dumps(ready), file=answers, flush=True)
        if measure is not None:
            for _ in sys.stdin:
                print(json.dumps(measure()), file=answers, flush=True)


if __name__ == "__main__":
    main()
