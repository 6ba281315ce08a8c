"""The locks of the compiler, which no other thread holds while the process forks.

The child of a fork has only the thread that forked. What another one was in the middle of, such as to put native code
in the place of Python's, would stay half done there, and its lock locked. So whoever forks takes all locks before, and
thereby waits for the others.

The locks are listed from the outermost one inwards: who holds one may take those after it, and none before it.
"""

from __future__ import annotations

import os
import threading

COMPILING = threading.RLock()
"""Held by who makes native code: expressions are interned in tables that all threads share."""

POOL = threading.RLock()
"""Held by who starts the pool of threads."""

LLVM = threading.RLock()
"""Held by who makes code by LLVM."""

LIBRARY = threading.RLock()
"""Held by who loads LLVM."""

LOCKS = (COMPILING, POOL, LLVM, LIBRARY)


def _before_fork() -> None:
    for lock in LOCKS:
        lock.acquire()


def _after_fork() -> None:
    for lock in reversed(LOCKS):
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
