"""The process in which one library computes one row: `python -m benchmarks.worker ROW LABEL ROUND_SECONDS [used]`.

It writes a line of JSON on standard output when the computation is set up, one when it was called for the first time,
and one when it is warm and checked (`{"status": "ready", "first": seconds}`, or another status and a `detail`). Then,
for every line that it reads, it times one round and answers with the seconds that a call took and with the memory that
the process has needed so far. It ends when its input does. With `used`, the process has compiled something else before
the first call.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from itertools import repeat
from time import perf_counter
from typing import Any

from benchmarks.memory import PeakMemory
from benchmarks.row import CallRow, library_of, peer_of, restart
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
    call()
    calls = 1
    while (elapsed := calls * seconds_per_call(call, calls)) < round_seconds / 2:
        calls *= 2
    return max(1, round(calls * round_seconds / elapsed))


def cost_of_empty_call() -> float:
    """What `seconds_per_call` shows for a function that does nothing.

    It is subtracted from every measurement: beside a sum of 0.1 µs, the 0.03 µs of the harness would blur the ratio.
    """
    return min(seconds_per_call(lambda: None, 10_000) for _ in range(5))


def phases(row_name: str, label: str, round_seconds: float, used: bool) -> Iterator[dict[str, Any]]:
    """Computes the row; yields what to tell the parent, and after `"ready"` a round for every value asked for."""
    row = load_row(row_name)
    assert isinstance(row, CallRow)
    # Imported here because an interpreter without NumPy is to get as far as "not installed".
    from benchmarks.agreement import disagreement

    data = row.data()
    import_module(library_of(label))
    memory = PeakMemory()
    call = row.sources[label](data)
    restart(call)
    if used:
        from benchmarks.libraries import compile_something

        compile_something(peer_of(label))
    yield {"status": "set up"}
    start = perf_counter()
    result = call()
    first = perf_counter() - start
    yield {"status": "called"}
    # The first result is checked before the second call, which may reuse its memory.
    expected = row.reference(data)
    wrong = disagreement(row, result, expected)
    calls = warm_up(call, round_seconds)
    # The warm call is checked as well, because it may take another path through the library than the first did.
    restart(call)
    result = call()
    wrong = wrong or disagreement(row, result, expected)
    if wrong:
        yield {"status": "wrong result", "detail": wrong}
        return
    del result, expected
    empty = cost_of_empty_call()
    restart(call)
    memory.start()
    call()
    answer: dict[str, Any] = {"status": "ready", "first": first}
    while True:
        yield answer
        restart(call)
        # The collector stays on while calls are timed (its work is part of what a library costs), but each round starts
        # with a clean slate.
        gc.collect()
        answer = {"seconds": seconds_per_call(call, calls) - empty, "memory": memory.peak()}


def main() -> None:
    """Answers the parent until it closes the pipe."""
    row_name, label, round_seconds, *used = sys.argv[1:]
    # Whatever a library prints goes to standard error: standard output belongs to the protocol.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    with answers:

        def tell(answer: dict[str, Any]) -> None:
            print(json.dumps(answer), file=answers, flush=True)

        if find_spec(library_of(label)) is None:
            tell({"status": "not installed"})
            return
        try:
            for answer in phases(row_name, label, float(round_seconds), bool(used)):
                tell(answer)
                # From "ready" on, a round is measured only when the parent asks for one.
                if answer.get("status") not in ("set up", "called") and not sys.stdin.readline():
                    break
        except Exception as error:
            traceback.print_exc()
            tell({"status": "failed", "detail": traceback.format_exception_only(error)[-1].strip()})


if __name__ == "__main__":
    main()
