"""Where the decisions of a generator come from: Python's random numbers here, or a strategy of hypothesis."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol, TypeVar

T = TypeVar("T")


class Choices(Protocol):
    """Makes the decisions of which a random Program consists."""

    def integer(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        ...

    def pick(self, options: Sequence[T]) -> T:
        """One of some options."""
        ...

    def chance(self, percent: int) -> bool:
        """True in so many of a hundred cases."""
        ...


class RandomChoices:
    """Decisions by Python's random numbers, the same for the same seed."""

    def __init__(self, seed: int):
        self._random = random.Random(seed)

    def integer(self, low: int, high: int) -> int:
        return self._random.randint(low, high)

    def pick(self, options: Sequence[T]) -> T:
        return self._random.choice(options)

    def chance(self, percent: int) -> bool:
        return self._random.random() * 100 < percent


def shuffled(choices: Choices, values: Sequence[T]) -> list[T]:
    """The values in any order."""
    rest, found = list(values), []
    while rest:
        found.append(rest.pop(choices.integer(0, len(rest) - 1)))
    return found


def some(choices: Choices, values: Sequence[T]) -> list[T]:
    """Any of the values, in order."""
    return [x for x in values if choices.chance(50)]
