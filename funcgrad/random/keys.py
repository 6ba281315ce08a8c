"""Keys: making them from seeds, and making new ones from old ones."""

from __future__ import annotations

import math
from typing import Any

import numpy

from funcgrad import dtypes
from funcgrad.array import Array, ConcreteArray, as_array, constant
from funcgrad.errors import ArgumentError, ArgumentTypeError
from funcgrad.primitives import elementwise as e
from funcgrad.primitives.counting import iota
from funcgrad.primitives.movement import concatenate, slice_
from funcgrad.primitives.operators import cast
from funcgrad.primitives.randomness import threefry2x32
from funcgrad.primitives.shapes import reshape
from funcgrad.random.arguments import Shape, checked_shape


def key(seed: int | Array) -> Array:
    """A random key from an integer seed.

    The key is the seed as a 64-bit number: its upper and its lower word. The upper word of a seed from -2**31 to
    2**32 - 1 is 0, so those seeds give the keys that JAX gives in its default mode; wider seeds give the keys that JAX
    gives in its 64-bit mode, where its default mode would drop the upper word. -1 and 2**32 - 1 give one key.

    Arguments:
        seed: an integer of up to 64 bits, or a 0-dimensional integer array.

    Returns:
        A uint32 array of shape (2,).

    Raises:
        ArgumentError: for an integer of more than 64 bits.
        ArgumentTypeError: for a seed that is not an integer.

    Example:
        >>> import funcgrad as fg
        >>> fg.random.key(42)
        Array([ 0, 42], dtype=uint32)
    """
    if isinstance(seed, (int, numpy.integer)) and not isinstance(seed, bool):
        seed = int(seed)
        if not -(2**63) <= seed < 2**64:
            raise ArgumentError(f"a seed has at most 64 bits, and {seed} has more; use seed % 2**64.")
        upper = 0 if -(2**31) <= seed < 2**32 else seed >> 32 & 0xFFFFFFFF
        return ConcreteArray(numpy.array([upper, seed & 0xFFFFFFFF], dtypes.uint32))
    seed = as_array(seed)
    if seed.shape or not dtypes.is_integer(seed.dtype):
        raise ArgumentTypeError(
            f"a seed is one integer, not {seed.aval!r}; convert it, or use fg.vmap(fg.random.key)(seeds) for many."
        )
    upper = constant(0, dtypes.uint32)
    if seed.dtype.itemsize == 8:
        upper = cast(e.shift_right_logical(seed, constant(32, seed.dtype)), dtypes.uint32)
        if seed.dtype is dtypes.int64:
            upper = e.select(e.and_(seed < 0, seed >= -(2**31)), constant(0, dtypes.uint32), upper)
    return _joined(upper, cast(seed, dtypes.uint32))


def PRNGKey(seed: int | Array) -> Array:
    """The same as `key`: keys here are plain uint32 arrays, under either of the names that JAX has for making them.

    Example:
        >>> import funcgrad as fg
        >>> fg.random.PRNGKey(42)
        Array([ 0, 42], dtype=uint32)
    """
    return key(seed)


def split(key: Array, num: Shape = 2) -> Array:
    """New keys from one key, which is then not to be used again.

    Arguments:
        key: a random key.
        num: how many, or a shape of keys.

    Returns:
        A uint32 array of shape (num, 2), or (*num, 2).

    Raises:
        ArgumentTypeError: if `key` is not a random key.

    Example:
        >>> import funcgrad as fg
        >>> first, second = fg.random.split(fg.random.key(0))
        >>> first
        Array([1797259609, 2579123966], dtype=uint32)
    """
    return _joined(*words("split", key, checked_shape("split", num)))


def fold_in(key: Array, data: int | Array) -> Array:
    """A new key from a key and a number: for keys by step, by layer, by process.

    Arguments:
        key: a random key.
        data: an integer from 0 to 2**32 - 1, or a 0-dimensional integer array, of which the lower 32 bits count.

    Returns:
        A uint32 array of shape (2,).

    Raises:
        ArgumentTypeError: if `key` is not a random key, or `data` not one integer.
        ArgumentError: for a Python integer outside of the range.

    Example:
        >>> import funcgrad as fg
        >>> fg.random.fold_in(fg.random.key(0), 7)
        Array([2716826189,  292468403], dtype=uint32)
    """
    if isinstance(data, int) and not 0 <= data < 2**32:
        raise ArgumentError(f"fold_in takes an integer from 0 to 2**32 - 1, not {data}; use data % 2**32.")
    data = constant(int(data), dtypes.uint32) if isinstance(data, int) else as_array(data)
    if data.shape or not dtypes.is_integer(data.dtype):
        raise ArgumentTypeError(
            f"fold_in takes one integer, not {data.aval!r}; for many use fg.vmap(fg.random.fold_in, in_axes=(None, 0))."
        )
    count = cast(data, dtypes.uint32)
    return _joined(*threefry2x32(*_halves("fold_in", key), constant(0, dtypes.uint32), count))


def _halves(name: str, key: Any) -> list[Array]:
    """The two words of a key."""
    key = as_array(key)
    if key.dtype is not dtypes.uint32 or key.shape != (2,):
        remedy = "make one with fg.random.key(seed)"
        if key.dtype is dtypes.uint32 and key.ndim > 1 and key.shape[-1] == 2:
            remedy = "take one of these keys, or map over them with fg.vmap"
        raise ArgumentTypeError(f"{name} takes a random key, which is uint32[2], not {key.aval!r}; {remedy}.")
    return [reshape(slice_(key, starts=(i,), limits=(i + 1,), strides=(1,)), shape=()) for i in (0, 1)]


def words(name: str, key: Any, shape: tuple[int, ...]) -> list[Array]:
    """Two random words for each element of `shape`: the encryptions of 0, 1, 2, ... under the key."""
    size = math.prod(shape)
    upper = lower = constant(0, dtypes.uint32)
    if size > 2**32:
        count = iota(shape=(size,), dtype=dtypes.uint64, axis=0)
        upper = reshape(cast(e.shift_right_logical(count, constant(32, dtypes.uint64)), dtypes.uint32), shape=shape)
        lower = reshape(cast(count, dtypes.uint32), shape=shape)
    elif shape:
        lower = iota(shape=(size,), dtype=dtypes.uint32, axis=0)
        lower = lower if len(shape) == 1 else reshape(lower, shape=shape)
    return threefry2x32(*_halves(name, key), upper, lower)


def _joined(first: Array, second: Array) -> Array:
    """Two arrays side by side along a new last axis."""
    return concatenate(*(reshape(x, shape=(*x.shape, 1)) for x in (first, second)), axis=first.ndim)
