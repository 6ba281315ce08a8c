"""Random bits: the primitive `threefry2x32`, from which `funcgrad.random` makes everything else.

Threefry is a block cipher used as a counter-based generator: the random words are the encryption of a counter under the
key. There is no state to carry along, so equal keys and counters give equal words on every machine, in any order, and
under every transform.

Source: Salmon, Moraes, Dror and Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3" (SC 2011); Threefry-2x32 with 20
rounds, section 4.2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy

from funcgrad import dtypes
from funcgrad.array import AbstractArray
from funcgrad.core import Primitive
from funcgrad.devices import array_module
from funcgrad.errors import DtypeError
from funcgrad.primitives.elementwise import broadcast_shape, elementwise_batch

PARITY = 0x1BD11BDA  # the third word of the key schedule is this, xor the two words of the key
ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))  # of four rounds, then of the next four, and so on

# Two words and a temporary for this many counters fit the second-level cache, and NumPy's cost of a call is spread
# thin. Below the smaller number Python's own integers are quicker than a hundred calls of NumPy.
BLOCK = 32768
FEW = 6


def _threefry_abstract(key0, key1, count0, count1):
    operands = (key0, key1, count0, count1)
    for x in operands:
        if x.dtype is not dtypes.uint32:
            raise DtypeError(
                f"threefry2x32 takes uint32 operands, not {x.dtype.name}; convert with x.astype(fg.uint32)."
            )
    aval = AbstractArray(broadcast_shape("threefry2x32", *operands), dtypes.uint32)
    return [aval, aval]


def _threefry_evaluate(key0, key1, count0, count1):
    operands = (key0, key1, count0, count1)
    if any(x.dtype != numpy.uint32 for x in operands):
        raise TypeError("not uint32")
    module = array_module(count0)
    rows = module.broadcast(*operands)
    shape = rows.shape
    if module is numpy and rows.size <= FEW:
        words = [encrypt_integers(*map(int, row)) for row in rows]
        return list(numpy.array(words, numpy.uint32).reshape(-1, 2).T.reshape(2, *shape))
    word0, word1 = module.empty(shape, numpy.uint32), module.empty(shape, numpy.uint32)
    operands = [x if x.ndim == 0 else module.broadcast_to(x, shape) for x in operands]
    for block in _blocks(shape, BLOCK if module is numpy else rows.size):
        _encrypt(module, *(x if x.ndim == 0 else x[block] for x in operands), word0[block], word1[block])
    return [word0, word1]


def _blocks(shape: tuple[int, ...], limit: int) -> Iterator[Any]:
    """Indices that cut an array of this shape into contiguous pieces of at most `limit` elements."""
    if math.prod(shape) <= limit:
        yield ...
        return
    axis = next(axis for axis in range(len(shape)) if math.prod(shape[axis + 1 :]) <= limit)
    rows = limit // math.prod(shape[axis + 1 :])
    for outer in numpy.ndindex(shape[:axis]):
        for start in range(0, shape[axis], rows):
            yield (*outer, slice(start, start + rows))


def _encrypt(module, key0, key1, count0, count1, word0, word1) -> None:
    """Write the encryption of the counts into the two words."""
    add, xor = module.add, module.bitwise_xor
    keys = (key0, key1, key0 ^ key1 ^ numpy.uint32(PARITY))
    spare = module.empty_like(word0)
    add(count0, key0, word0)
    add(count1, key1, word1)
    for step in range(5):
        for left, right in _SHIFTS[step % 2]:
            add(word0, word1, word0)
            module.left_shift(word1, left, spare)
            module.right_shift(word1, right, word1)
            module.bitwise_or(word1, spare, word1)
            xor(word1, word0, word1)
        add(word0, keys[(step + 1) % 3], word0)
        add(word1, keys[(step + 2) % 3], word1)
        add(word1, _STEPS[step], word1)


_SHIFTS = tuple(
    tuple((numpy.array(r, numpy.uint32), numpy.array(32 - r, numpy.uint32)) for r in row) for row in ROTATIONS
)
_STEPS = tuple(numpy.array(step, numpy.uint32) for step in range(1, 6))


def encrypt_integers(key0: int, key1: int, count0: int, count1: int) -> tuple[int, int]:
    """The same for one counter, in Python's integers."""
    keys = (key0, key1, key0 ^ key1 ^ PARITY)
    word0, word1 = (count0 + key0) & 0xFFFFFFFF, (count1 + key1) & 0xFFFFFFFF
    for step in range(5):
        for rotation in ROTATIONS[step % 2]:
            word0 = (word0 + word1) & 0xFFFFFFFF
            word1 = ((word1 << rotation | word1 >> (32 - rotation)) & 0xFFFFFFFF) ^ word0
        word0 = (word0 + keys[(step + 1) % 3]) & 0xFFFFFFFF
        word1 = (word1 + keys[(step + 2) % 3] + step + 1) & 0xFFFFFFFF
    return word0, word1


def _threefry_jvp(primals, tangents):
    return threefry2x32(*primals), [None, None]


def _threefry_batch(size, operands, axes):
    results, axis = elementwise_batch(threefry2x32, size, operands, axes)
    return results, [axis, axis]


# The encryption of the counter (count0, count1) under the key (key0, key1): two words. All are uint32 and broadcast.
threefry2x32 = Primitive(
    "threefry2x32",
    abstract=_threefry_abstract,
    evaluate=_threefry_evaluate,
    jvp=_threefry_jvp,
    batch=_threefry_batch,
    multiple_results=True,
)
