"""Work that is done in another thread, while Python goes on without its result.

The process may fork meanwhile. What LLVM does is finished first (see `machine`), and the child forgets the rest, so a
job must not import modules of its own: in the child they would stay half imported.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable


class Background:
    """Does jobs one after the other. There is a thread only as long as there is something to do."""

    def __init__(self):
        self._jobs: deque[Callable[[], None]] = deque()
        self._works = False
        self._state = threading.Lock()  # of these two
        self._working = threading.RLock()  # held by whoever does a job
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """In a process that was forked there is no thread but the one that forked it."""
        self._jobs, self._works = deque(), False
        self._state, self._working = threading.Lock(), threading.RLock()

    def now(self, job: Callable[[], None]) -> None:
        """Does a job at once, when the one that is being done is finished."""
        with self._working:
            job()

    def meanwhile(self, job: Callable[[], None]) -> None:
        """Has a job done by the other thread. What it raises is printed as Python prints it for any thread."""
        with self._state:
            self._jobs.append(job)
            starts, self._works = not self._works, True
        if starts:
            threading.Thread(target=self._work, name="funcgrad_background").start()

    def wait(self) -> None:
        """Returns when there is nothing left to do."""
        while self._works:
            with self._working:
                pass

    def _work(self) -> None:
        while True:
            with self._working:
                with self._state:
                    if not self._jobs:
                        self._works = False
                        return
                    job = self._jobs.popleft()
                try:
                    job()
                except BaseException:
                    self._works = False
                    raise


background = Background()
