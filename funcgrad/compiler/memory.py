"""Where in memory the values between kernels live: one block, the arena, in which a place is used again and again.

The kernels of a Program run in a known order, so it is known from when to when each value is needed. Values whose
times do not overlap may share a place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ALIGNMENT = 64  # bytes: a line of the cache, and the widest vector


@dataclass(frozen=True)
class Lifetime:
    """A value of so many bytes that is written in the step `first` and read for the last time in the step `last`."""

    size: int
    first: int
    last: int


@dataclass(frozen=True)
class MemoryPlan:
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
