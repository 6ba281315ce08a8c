"""The arithmetic that optimizers share: decaying means, their correction at the start, and in which dtype to keep them.

Sums over many steps lose what they add in 16 bits: with 8 bits of precision, 0.999 times a number is that number again.
So the states of float16 and bfloat16 parameters are float32, and only the updates come back in the dtype of the
gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy

from funcgrad import numpy as np
from funcgrad import tree
from funcgrad.annotations import Array
from funcgrad.errors import ArgumentError
from funcgrad.optim.transformation import (
    GradientTransformation,
    GradientTransformationExtraArgs,
    PyTree,
    Scalar,
    with_extra_args_support,
)


def times(factor: Scalar, x: Array) -> Array:
    """`factor * x` in the dtype of `x`, also when the factor is an array of a wider dtype."""
    return x * (factor if isinstance(factor, (int, float)) else np.asarray(factor, dtype=x.dtype))


def squared_magnitude(x: Array) -> Array:
    """The square of the absolute value of each element; real also for complex arrays."""
    return np.real(x * np.conj(x)) if x.dtype.kind == "c" else x * x


def decaying_mean(decay: Scalar, mean: Array, x: Array) -> Array:
    """The next value of a mean that forgets: `decay * mean + (1 - decay) * x`."""
    return times(decay, mean) + times(1 - decay, x)


def zeros(params: PyTree) -> PyTree:
    """A zero for each number of the parameters."""
    return tree.map(np.zeros_like, params)


def real_full(params: PyTree, value: Scalar = 0.0) -> PyTree:
    """One real number for each number of the parameters, which may be complex."""
    return tree.map(lambda p: np.full_like(np.real(p), value), params)


def count_zero() -> Array:
    """The number of updates before the first."""
    return np.zeros((), dtype=np.int32)


def check_decays(function: str, **decays: Scalar) -> None:
    """Raises an error for a decay, given by its name, that is not from 0 to below 1; arrays are not looked into.

    Raises:
        ArgumentError: if one is out of that range.
    """
    for name, decay in decays.items():
        if isinstance(decay, (int, float)) and not 0 <= decay < 1:
            raise ArgumentError(f"{function} got {name}={decay}; give a decay from 0 to below 1, such as 0.9.")


def bias_correction(decay: Scalar, count: Array) -> Callable[[Array], Array]:
    """A function that corrects a decaying mean of `count` values for having started at zero.

    The mean falls short by `1 - decay ** count`, which is computed once for each dtype that there is.
    """
    found: dict[numpy.dtype, Array] = {}

    def correct(mean: Array) -> Array:
        dtype = numpy.dtype(mean.dtype)
        if dtype not in found:
            found[dtype] = _shortfall(decay, count, np.finfo(dtype).dtype)
        return mean / found[dtype]

    return correct


def _shortfall(decay: Scalar, count: Array, dtype: Any) -> Array:
    """`1 - decay ** count`."""
    # As written, float32 would round decay = 0.999 and lose five of the seven digits of the difference.
    log = math.log(decay) if isinstance(decay, float) and decay > 0 else np.log(np.asarray(decay, dtype=dtype))
    return -np.expm1(np.asarray(count, dtype=dtype) * log)


def keep_state_in_single_precision(transformation: GradientTransformation) -> GradientTransformation:
    """The transformation with float32 arithmetic and state where the updates are float16 or bfloat16.

    Arguments:
        transformation: one whose state does not depend on the values of the parameters.

    Returns:
        A transformation whose updates have the dtypes of the updates that it got.
    """

    inner = with_extra_args_support(transformation)

    def update(updates: PyTree, state: PyTree, params: PyTree = None, **extra_args: Any) -> tuple[PyTree, PyTree]:
        results, state = inner.update(widen(updates), state, params, **extra_args)
        return tree.map(_in_dtype_of, updates, results), state

    return GradientTransformationExtraArgs(lambda params: transformation.init(widen(params)), update)


def widest_dtype(params: PyTree) -> Any:
    """The dtype for numbers that concern all parameters: float64 if one has that precision, else float32."""
    inexact = [leaf.dtype for leaf in tree.leaves(params) if leaf.dtype.kind not in "biu"]
    return np.float64 if any(np.finfo(dtype).bits == 64 for dtype in inexact) else np.float32


def widen(values: PyTree) -> PyTree:
    """The same arrays, those of 16-bit floating dtypes as float32."""
    return tree.map(lambda x: np.asarray(x, dtype=np.float32) if _is_half(x) else x, values)


def _is_half(x: Array) -> bool:
    return x.dtype.itemsize == 2 and x.dtype.kind not in "iub"


def _in_dtype_of(like: Array, x: Array) -> Array:
    return x if x.dtype == like.dtype or not _is_half(like) else np.asarray(x, dtype=like.dtype)
