"""Where in memory the values between kernels live: one block, the arena, in which a place is used again and again.

The kernels of a Program run in a known order, so it is known from when to when each value is needed. Values whose
times do not overlap may share a place.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

ALIGNMENT = 64  # bytes: a line of the cache, and the widest vector


KEPT_FREE = 1 << 29  # bytes of free memory at most that stay with the process
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # the numbers of glibc's malloc.h


@cache
def keep_freed_memory() -> None:
    """Let this process keep memory that is freed, for the next arrays, instead of giving it back to the system.

    Results are new arrays in each call. Memory that comes from the system comes page by page, each cleared before;
    for a training step that took longer than all of its products, and for a function of ten million numbers four times
    as long as all else. Of the C libraries only glibc gives a choice: it asks the system for each large block by itself
    (`mmap`) and gives it back when it is freed, unless it may not.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_MMAP_MAX, 0)
            mallopt(_TRIM_THRESHOLD, KEPT_FREE)


class Lifetime(NamedTuple):
    """A value of so many bytes that is written in the step `first` and read for the last time in the step `last`."""

    size: int
    first: int
    last: int


class MemoryPlan(NamedTuple):
    """The place of each value in the arena, in bytes from its beginning, and the size of the arena."""

    lifetimes: tuple[Lifetime, ...]
    offsets: tuple[int, ...]
    size: int

    def __str__(self) -> str:
        total = sum(x.size for x in self.lifetimes)
        lines = [f"arena of {self.size} bytes for {len(self.lifetimes)} values of {total} bytes together"]
        for number, (life, offset) in enumerate(zip(self.lifetimes, self.offsets, strict=True)):
            lines.append(f"  value {number}: bytes {offset} to {offset + life.size}, steps {life.first} to {life.last}")
        return "\n".join(lines)


def plan(lifetimes: Sequence[Lifetime]) -> MemoryPlan:
    """Give each value a place: the greatest first, each at the lowest place that is free all the time it is needed."""
    placed: list[tuple[int, int, Lifetime]] = []
    offsets = [0] * len(lifetimes)
    size = 0
    for number in sorted(range(len(lifetimes)), key=lambda x: -lifetimes[x].size):
        life = lifetimes[number]
        offset = 0
        for start, end, other in placed:  # in the order of their places
            if other.first <= life.last and life.first <= other.last:
                if offset + life.size <= start:
                    break
                offset = max(offset, end)
        end = -(-(offset + life.size) // ALIGNMENT) * ALIGNMENT
        offsets[number] = offset
        placed.append((offset, end, life))
        placed.sort(key=lambda x: x[0])
        size = max(size, end)
    return MemoryPlan(tuple(lifetimes), tuple(offsets), size)
