"""The random order of each epoch: a function of the key, the number of the epoch and the number of examples alone.

A training step may take as little as twenty microseconds, and no loop should wait for its data. So the examples are not
shuffled by `fg.random.permutation`, which gives JAX's bits, but sorted by the numbers of a quicker generator, which
starts from the key and the epoch, encrypted as `fg.random` does it.

Source: Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators" (OOPSLA 2014), figure 17: SplitMix64.
"""

from __future__ import annotations

from functools import lru_cache

import numpy

from funcgrad.annotations import Key
from funcgrad.primitives.randomness import encrypt_integers

TOGETHER = 2**14  # numbers of orders that are made at once, so that the calls of NumPy are few for each


def random_order(key: Key, epoch: int, length: int) -> numpy.ndarray:
    """The numbers from 0 to `length` - 1 in the random order of an epoch, as int64, for reading only."""
    words = tuple(numpy.asarray(key).tolist())
    epochs = TOGETHER // max(1, length)
    if epochs < 2:
        return _orders(words, epoch, 1, length)[0]
    return _kept_orders(words, epoch - epoch % epochs, epochs, length)[epoch % epochs]


def _orders(words: tuple[int, int], first: int, epochs: int, length: int) -> numpy.ndarray:
    """The orders of some epochs, a row for each."""
    numbers = _mixed([_seed(words, epoch) for epoch in range(first, first + epochs)], length)
    # The lowest bits of each number make room for the place of its example; the others decide. Sorting such numbers is
    # many times quicker than sorting places by numbers, and of a million examples hardly two have equal ones.
    places = (1 << length.bit_length()) - 1
    numbers &= ~numpy.uint64(places)
    numbers |= numpy.arange(length, dtype=numpy.uint64)
    numbers.sort(axis=1)
    numbers &= numpy.uint64(places)
    numbers.flags.writeable = False
    return numbers.view(numpy.int64)


_kept_orders = lru_cache(maxsize=8)(_orders)


def _seed(words: tuple[int, int], epoch: int) -> int:
    upper, lower = encrypt_integers(*words, epoch >> 32, epoch & 0xFFFFFFFF)
    return upper << 32 | lower


def _mixed(seeds: list[int], length: int) -> numpy.ndarray:
    """The first numbers of SplitMix64, as uint64: a row for each seed."""
    x = numpy.arange(1, length + 1, dtype=numpy.uint64)
    x *= numpy.uint64(0x9E3779B97F4A7C15)  # the golden ratio, as a fraction of 2**64
    x = x + numpy.array(seeds, numpy.uint64)[:, None]
    x ^= x >> 30
    x *= numpy.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> 27
    x *= numpy.uint64(0x94D049BB133111EB)
    x ^= x >> 31
    return x
