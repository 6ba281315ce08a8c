"""Where batches are made: at once, or by threads. Processes are in `processes.py`; all have the same four methods.

`begin(generation, plan)` starts an epoch, `submit(number)` asks for a batch, `receive()` waits for at least one and
gives a list of (generation, number, outcome), and `close(wait)` ends it. A generation is a number that each iteration
has for itself, so that batches nobody waits for any more are recognised.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from queue import SimpleQueue
from typing import Any

from funcgrad.data.plans import forget_worker_line


class Failure:
    """An exception in place of a batch."""

    def __init__(self, error: BaseException):
        self.error = error


Outcome = tuple[int, int, Any]


class Serial:
    """Makes each batch when it is waited for."""

    def __init__(self) -> None:
        self._numbers: deque[int] = deque()

    def begin(self, generation: int, plan: Any, epoch: int) -> None:
        self._generation, self._plan = generation, plan
        self._numbers.clear()

    def submit(self, number: int) -> None:
        self._numbers.append(number)

    def receive(self) -> list[Outcome]:
        number = self._numbers.popleft()
        return [(self._generation, number, self._plan.make(number))]

    def close(self, wait: bool) -> None:
        pass


class Threads:
    """Makes batches in threads. They share the queues with this object but do not hold it, so that it can be collected.

    Arguments:
        count: how many threads.
    """

    def __init__(self, count: int):
        self._tasks: SimpleQueue = SimpleQueue()
        self._results: SimpleQueue = SimpleQueue()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(
                target=_work, args=(self._tasks, self._results, self._stop), name=f"funcgrad-data-{i}", daemon=True
            )
            for i in range(count)
        ]
        for thread in self._threads:
            thread.start()
        # Without waiting for the threads: the collector may run in one of them.
        self._finalizer = weakref.finalize(self, _stop, self._tasks, self._stop, count)

    def begin(self, generation: int, plan: Any, epoch: int) -> None:
        self._generation, self._plan = generation, plan
        while not self._tasks.empty():  # nobody waits for these any more
            task = self._tasks.get()
            if task is None:
                self._tasks.put(None)

    def submit(self, number: int) -> None:
        self._tasks.put((self._generation, number, self._plan))

    def receive(self) -> list[Outcome]:
        return [self._results.get()]

    def close(self, wait: bool) -> None:
        self._finalizer()
        for thread in self._threads if wait else ():
            if thread is not threading.current_thread():
                thread.join()


def _work(tasks: SimpleQueue, results: SimpleQueue, stop: threading.Event) -> None:
    while (task := tasks.get()) is not None and not stop.is_set():
        generation, number, plan = task
        try:
            outcome = plan.make(number)
        except BaseException as error:  # whatever it is, the loop that waits for the batch has to see it
            outcome = Failure(forget_worker_line(error))
        results.put((generation, number, outcome))
        del task, plan, outcome  # or the last batch would stay in memory until the next one is made


def _stop(tasks: SimpleQueue, stop: threading.Event, count: int) -> None:
    stop.set()
    for _ in range(count):
        tasks.put(None)
