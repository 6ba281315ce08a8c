"""Random integers, and random choices among things."""

from __future__ import annotations

import math
from typing import Any

import numpy

from funcgrad import dtypes
from funcgrad.array import AbstractArray, Array, as_array, constant
from funcgrad.errors import ArgumentError, ArgumentTypeError, DtypeError, ShapeError
from funcgrad.numpy.axes import as_integer, normalize_axis
from funcgrad.numpy.reductions import cumsum
from funcgrad.numpy.searching import searchsorted
from funcgrad.numpy.selection import take
from funcgrad.primitives import elementwise as e
from funcgrad.primitives.counting import iota
from funcgrad.primitives.operators import cast, promote_inexact
from funcgrad.primitives.reductions import argmax
from funcgrad.primitives.shapes import move_axis, reshape
from funcgrad.primitives.sorting import sort, top_k
from funcgrad.random.arguments import Shape, broadcasting_shape, checked_dtype, checked_shape
from funcgrad.random.distributions import gumbel
from funcgrad.random.keys import split
from funcgrad.random.uniform_numbers import bits, random_bits, uniform, uniform_between


def randint(key: Array, shape: Shape, minval: Any, maxval: Any, dtype: Any = dtypes.int32) -> Array:
    """Random integers from `minval`, inclusive, to `maxval`, exclusive; `minval` where there are none between.

    They are remainders of random bits, so unless the number n of values is a power of two some are a little more
    likely than others: by a factor of 1 + n / 2**64 up to n = 65536, and of 1 + n / 2**32 for more values in 32 bits.

    Arguments:
        key: a random key.
        shape: of the result.
        minval, maxval: integers, or integer arrays that broadcast to the shape. Bounds that the dtype cannot hold are
            moved to its ends; `maxval` may be one more than the largest value.
        dtype: an integer dtype.

    Returns:
        An array of this shape and dtype.

    Raises:
        ArgumentTypeError: if `key` is not a random key, or a bound not an integer.
        DtypeError: if the dtype is not an integer one.
        ShapeError: if the bounds do not broadcast to the shape.

    Example:
        >>> import funcgrad as fg
        >>> fg.random.randint(fg.random.key(0), (5,), 0, 10)
        Array([9, 0, 2, 3, 1], dtype=int32)
    """
    shape, dtype = checked_shape("randint", shape), checked_dtype("randint", dtype, "integer")
    working = dtypes.int32 if dtype.itemsize < 4 else dtype  # enough bits that the remainders are fair
    unsigned = dtypes.canonical(f"uint{8 * working.itemsize}")
    key1, key2 = split(key)
    limits = numpy.iinfo(dtype)
    if isinstance(minval, (int, numpy.integer)) and isinstance(maxval, (int, numpy.integer)):
        low = min(max(int(minval), limits.min), limits.max)
        span = max(min(max(int(maxval), limits.min), limits.max + 1) - low, 1)
        factor = _factor(span, 8 * working.itemsize)
        offset = random_bits("randint", key2, shape, unsigned)
        if span <= numpy.iinfo(unsigned).max:
            offset = e.rem(offset, constant(span, unsigned))
        if factor:
            upper = e.rem(random_bits("randint", key1, shape, unsigned), constant(span, unsigned))
            offset = e.add(e.mul(upper, constant(factor, unsigned)), offset)
            offset = e.rem(offset, constant(span, unsigned))
        return cast(e.add(cast(offset, working), constant(low, working)), dtype)
    room = working is not dtype  # for one more than the largest value
    low, _ = _integer_bound(minval, working, limits.min, limits.max)
    high, past_end = _integer_bound(maxval, working, limits.min, limits.max + room)
    broadcasting_shape("randint", shape, low, high)
    one = constant(1, unsigned)
    span = e.select(e.le(high, low), one, cast(e.sub(high, low), unsigned))
    if not room:
        span = e.add(span, cast(e.and_(past_end, e.gt(high, low)), unsigned))
    factor = _remainder(constant(2 ** (4 * working.itemsize), unsigned), span)
    factor = _remainder(e.mul(factor, factor), span)
    upper, lower = (_remainder(random_bits("randint", k, shape, unsigned), span) for k in (key1, key2))
    offset = _remainder(e.add(e.mul(upper, factor), lower), span)
    return cast(e.add(cast(offset, working), low), dtype)


def _factor(span: int, width: int) -> int:
    """What the upper word of a random number counts for: 2**width % span, or 0 where the square below overflows."""
    return (2 ** (width // 2) % span) ** 2 % 2**width % span


def _integer_bound(value: Any, dtype: numpy.dtype, lowest: int, highest: int) -> tuple[Array, Array]:
    """A bound as an array of this dtype, moved into the range, and where it was larger than the range allows."""
    if isinstance(value, int):
        return constant(min(max(value, lowest), highest), dtype), constant(value > highest, dtypes.bool_)
    value = as_array(value)
    if not dtypes.is_integer(value.dtype):
        raise ArgumentTypeError(
            f"randint takes integers as bounds, not {value.aval!r}; convert them with .astype(fg.int32)."
        )
    own = numpy.iinfo(value.dtype)
    least, most = max(lowest, int(own.min)), min(highest, int(own.max))
    past_end = e.gt(value, constant(most, value.dtype))
    value = e.min_(e.max_(value, constant(least, value.dtype)), constant(most, value.dtype))
    return cast(value, dtype), past_end


def _remainder(x: Array, divisor: Array) -> Array:
    """x % divisor; a divisor of zero stands for the number after the largest one and leaves x as it is."""
    wrapped = e.eq(divisor, constant(0, divisor.dtype))
    return e.select(wrapped, x, e.rem(x, e.select(wrapped, constant(1, divisor.dtype), divisor)))


def permutation(key: Array, x: int | Array, axis: int = 0, independent: bool = False) -> Array:
    """A random permutation.

    Arguments:
        key: a random key.
        x: an array to shuffle along `axis`, or an integer n for the numbers 0 to n - 1.
        axis: of the array.
        independent: whether each vector along the axis is shuffled in a way of its own, not all in the same.

    Returns:
        An array like `x`; an int32 array of shape (n,) for an integer.

    Raises:
        ArgumentTypeError: if `key` is not a random key, or `x` a scalar that is no integer.
        ShapeError: if the array has no such axis.

    Example:
        >>> import funcgrad as fg
        >>> sorted(fg.random.permutation(fg.random.key(0), 5).tolist())
        [0, 1, 2, 3, 4]
    """
    length, array, axis = _population("permutation", x, axis)
    if array is None:
        return _shuffle(key, iota(shape=(length,), dtype=dtypes.int32, axis=0), 0)
    if independent or array.ndim == 1:
        return _shuffle(key, array, axis)
    return take(array, _shuffle(key, iota(shape=(length,), dtype=dtypes.int32, axis=0), 0), axis)


def _population(name: str, x: Any, axis: int) -> tuple[int, Array | None, int]:
    """How many things there are to choose from, the array of them, and its axis; no array for an integer."""
    if isinstance(x, int):
        count = x
    else:
        array = as_array(x)
        if array.ndim:
            axis = normalize_axis(name, axis, array.ndim)
            return array.shape[axis], array, axis
        count = as_integer(array if dtypes.is_integer(array.dtype) else x, f"a population of {name} without axes")
    normalize_axis(name, axis, 1)
    if count < 0:
        raise ArgumentError(f"{name} of {count} things makes no sense; give a number of 0 or more, or an array.")
    return count, None, 0


def _shuffle(key: Array, x: Array, axis: int) -> Array:
    # Sorting by random numbers permutes fairly but for equal numbers, which keep their order. Another round with
    # fresh ones separates those; after enough rounds for 3 * log2(size) bits an unfair order is unlikely enough.
    size = math.prod(x.shape)
    rounds = math.ceil(3 * math.log(max(size, 1)) / math.log(2**32 - 1))
    for _ in range(rounds):
        key, subkey = split(key)
        _, x = sort(bits(subkey, x.shape), x, axis=axis, num_keys=1)
    return x


def choice(key: Array, a: int | Array, shape: Shape = (), replace: bool = True, p: Any = None, axis: int = 0) -> Array:
    """A random sample of the elements of `a`.

    Arguments:
        key: a random key.
        a: an array to choose from along `axis`, or an integer n for the numbers 0 to n - 1.
        shape: of the sample, which takes the place of the axis.
        replace: whether an element may be chosen more than once.
        p: the probabilities of the elements, which need not add up to one; equal ones by default.
        axis: of the array.

    Returns:
        The chosen elements, an array of the dtype of `a`; int32 for an integer.

    Raises:
        ArgumentTypeError: if `key` is not a random key.
        ArgumentError: if there are too few elements to choose from.
        ShapeError: if `p` does not hold one probability for each element.

    Example:
        >>> import funcgrad as fg
        >>> fg.random.choice(fg.random.key(0), fg.array([10, 20, 30]), (4,)).shape
        (4,)
    """
    shape = checked_shape("choice", shape)
    length, array, axis = _population("choice", a, axis)
    draws = math.prod(shape)
    if draws and not length:
        raise ArgumentError("choice got nothing to choose from; give an array with elements, or a number above 0.")
    if not replace and draws > length:
        raise ArgumentError(
            f"choice cannot take {draws} of {length} elements without replacement; "
            "pass replace=True or a smaller shape."
        )
    if p is not None:
        (p,) = promote_inexact(p)
        if p.shape != (length,):
            raise ShapeError(f"choice got p of shape {p.shape} for {length} elements; give one probability for each.")
    if not draws:
        empty = shape if array is None else (*array.shape[:axis], *shape, *array.shape[axis + 1 :])
        return e.full(empty, 0, dtypes.int32 if array is None else array.dtype)
    if p is None:
        index = randint(key, shape, 0, length) if replace else reshape(permutation(key, length)[:draws], shape=shape)
    elif replace:
        total = cumsum(p)
        # 1 - u lies in (0, 1], so that an element of probability zero is never the one that is reached first.
        reached = e.mul(total[-1], e.sub(constant(1, p.dtype), uniform(key, shape, p.dtype)))
        index = cast(searchsorted(total, reached), dtypes.int32)
    else:
        index = reshape(top_k(e.add(gumbel(key, (length,), p.dtype), e.log(p)), k=draws, axis=0)[1], shape=shape)
    return index if array is None else take(array, index, axis)


def bernoulli(key: Array, p: Any = 0.5, shape: Shape | None = None) -> Array:
    """Random bools that are True with probability `p`.

    Arguments:
        key: a random key.
        p: the probability, a number or a floating array; its dtype says how fine the steps of probability are
            (2**-23 for float32).
        shape: of the result, to which `p` broadcasts; by default that of `p`.

    Returns:
        A bool array.

    Raises:
        ArgumentTypeError: if `key` is not a random key.
        ShapeError: if `p` does not broadcast to the shape.

    Example:
        >>> import funcgrad as fg
        >>> fg.random.bernoulli(fg.random.key(0), 0.5, (4,)).dtype
        dtype('bool')
    """
    (p,) = promote_inexact(p)
    shape = broadcasting_shape("bernoulli", shape, p)
    dtype = checked_dtype("bernoulli", p.dtype)
    return e.lt(uniform_between("bernoulli", key, shape, dtype, 0.0, 1.0), cast(p, dtype))


def rademacher(key: Array, shape: Shape = (), dtype: Any = dtypes.int32) -> Array:
    """Random signs: 1 or -1, each half of the time.

    Arguments:
        key: a random key.
        shape: of the result.
        dtype: a dtype that has -1.

    Returns:
        An array of this shape and dtype.

    Raises:
        ArgumentTypeError: if `key` is not a random key.
        DtypeError: if the dtype is bool or unsigned.

    Example:
        >>> import funcgrad as fg
        >>> abs(fg.random.rademacher(fg.random.key(0), (3,)))
        Array([1, 1, 1], dtype=int32)
    """
    dtype = checked_dtype("rademacher", dtype, "number")
    if dtype.kind == "u":
        raise DtypeError(f"rademacher gives -1, which {dtype.name} does not have; choose a signed dtype.")
    positive = bernoulli(key, 0.5, checked_shape("rademacher", shape))
    return e.select(positive, constant(1, dtype), constant(-1, dtype))


def categorical(key: Array, logits: Any, axis: int = -1, shape: Shape | None = None, replace: bool = True) -> Array:
    """Random categories, drawn with the probabilities `softmax(logits)`.

    Adds independent Gumbel noise to the logits and takes the largest.
    Source: Kool, van Hoof and Welling, "Stochastic Beams and Where to Find Them" (ICML 2019), section 2.

    Arguments:
        key: a random key.
        logits: a floating array of unnormalized log probabilities.
        axis: of the logits, along which the categories of one distribution lie.
        shape: of the result: that of the logits without the axis (the default), with further axes in front for more
            draws from each distribution; its last axes may also be longer than ones of length 1.
        replace: whether the draws along the axes in front may give a category more than once.

    Returns:
        An int32 array of categories.

    Raises:
        ArgumentTypeError: if `key` is not a random key.
        ShapeError: if the logits have no such axis or do not broadcast to the shape.
        ArgumentError: for more draws without replacement than there are categories.

    Example:
        >>> import funcgrad as fg
        >>> fg.random.categorical(fg.random.key(0), fg.array([0.0, -100.0]), shape=(4,))
        Array([0, 0, 0, 0], dtype=int32)
    """
    (logits,) = promote_inexact(logits)
    dtype = checked_dtype("categorical", logits.dtype)
    axis = normalize_axis("categorical", axis, logits.ndim)
    batch = logits.shape[:axis] + logits.shape[axis + 1 :]
    one_each = broadcasting_shape("categorical", shape, AbstractArray(batch, dtype))
    front, own = one_each[: len(one_each) - len(batch)], one_each[len(one_each) - len(batch) :]
    if replace:
        noise = gumbel(key, (*front, *own[:axis], logits.shape[axis], *own[axis:]), dtype)
        return argmax(e.add(noise, logits), axis=axis + len(front), index_dtype=dtypes.int32)
    draws = math.prod(front)
    if draws > logits.shape[axis]:
        raise ArgumentError(
            f"categorical cannot draw {draws} of {logits.shape[axis]} categories without replacement; "
            "pass replace=True or fewer draws."
        )
    if own != batch:
        raise ShapeError(
            f"categorical without replacement draws for logits of shape {batch} (without the axis), and got shape "
            f"{one_each}; add axes in front only."
        )
    noisy = e.add(gumbel(key, logits.shape, dtype), logits)
    _, drawn = top_k(move_axis(noisy, axis, logits.ndim - 1), k=draws, axis=logits.ndim - 1)
    return reshape(move_axis(drawn, drawn.ndim - 1, 0), shape=one_each)
