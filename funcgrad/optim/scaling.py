"""Transformations that rescale updates: by a number, by a schedule, by momentum, by Adam's moments."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy

from funcgrad import numpy as np
from funcgrad import tree
from funcgrad.annotations import Array, Int, Num, Real
from funcgrad.errors import ArgumentError
from funcgrad.optim.transformation import GradientTransformation, PyTree, init_empty_state

Scalar = Real | Num[Array, ""]
Schedule = Callable[[Int[Array, ""]], Scalar]


def squared_magnitude(x: Array) -> Array:
    """The square of the absolute value of each element; real also for complex arrays."""
    return np.real(x * np.conj(x)) if x.dtype.kind == "c" else x * x


def _times(factor: Scalar, x: Array) -> Array:
    """`factor * x` in the dtype of `x`, also when the factor is an array of a wider dtype."""
    return x * (factor if isinstance(factor, (int, float)) else np.asarray(factor, dtype=x.dtype))


def scale(step_size: Scalar) -> GradientTransformation:
    """Multiplies the updates by a number.

    Arguments:
        step_size: a number, or an array of shape ().

    Example:
        >>> import funcgrad as fg
        >>> descend = fg.optim.scale(-0.5)
        >>> updates, state = descend.update(fg.array([1.0, 2.0]), descend.init(None))
        >>> updates
        Array([-0.5, -1. ], dtype=float32)
    """

    def update(updates: PyTree, state: PyTree, params: PyTree = None) -> tuple[PyTree, PyTree]:
        return tree.map(lambda u: _times(step_size, u), updates), state

    return GradientTransformation(init_empty_state, update)


class ScaleByScheduleState(NamedTuple):
    """How many updates there have been: int32 of shape ()."""

    count: Array  # pyright: ignore[reportIncompatibleMethodOverride]


def scale_by_schedule(step_size_fn: Schedule) -> GradientTransformation:
    """Multiplies the updates by a number that depends on how many updates there have been.

    Arguments:
        step_size_fn: gives the factor for the count of earlier updates, an int32 array of shape () that starts at 0.
            It runs inside `jit`, so it is written with `fg.numpy` and not with Python's `if`.

    Example:
        >>> import funcgrad as fg
        >>> halving = fg.optim.scale_by_schedule(lambda count: 0.5 ** count)
        >>> updates, state = halving.update(fg.array(1.0), halving.init(None))
        >>> updates, state = halving.update(fg.array(1.0), state)
        >>> updates
        Array(0.5, dtype=float32)
    """

    def init(params: PyTree) -> ScaleByScheduleState:
        return ScaleByScheduleState(count=np.zeros((), dtype=np.int32))

    def update(updates: PyTree, state: ScaleByScheduleState, params: PyTree = None) -> tuple[PyTree, PyTree]:
        step_size = step_size_fn(state.count)
        return tree.map(lambda u: _times(step_size, u), updates), ScaleByScheduleState(count=state.count + 1)

    return GradientTransformation(init, update)


def scale_by_learning_rate(learning_rate: Scalar | Schedule, *, flip_sign: bool = True) -> GradientTransformation:
    """The last part of most optimizers: multiplies the updates by minus the learning rate.

    Arguments:
        learning_rate: a number, an array of shape (), or a schedule: a function of the count of earlier updates.
        flip_sign: whether to go down (the default) or, with the gradient, up.

    Example:
        >>> import funcgrad as fg
        >>> descend = fg.optim.scale_by_learning_rate(0.1)
        >>> updates, state = descend.update(fg.array([1.0, 2.0]), descend.init(None))
        >>> updates
        Array([-0.1, -0.2], dtype=float32)
    """
    sign = -1 if flip_sign else 1
    if callable(learning_rate):
        return scale_by_schedule(lambda count: sign * learning_rate(count))
    return scale(sign * learning_rate)


class TraceState(NamedTuple):
    """The decaying sum of past updates, a pytree like the parameters."""

    trace: PyTree


def trace(decay: Scalar, nesterov: bool = False) -> GradientTransformation:
    """Momentum: replaces the updates by a decaying sum of all updates so far, `sum = update + decay * sum`.

    Arguments:
        decay: how much of the sum stays at each step, from 0 to 1.
        nesterov: whether to look one step ahead, giving `update + decay * sum`.

    Source: I. Sutskever, J. Martens, G. Dahl and G. Hinton, "On the importance of initialization and momentum in
    deep learning", ICML 2013.

    Example:
        >>> import funcgrad as fg
        >>> momentum = fg.optim.trace(0.5)
        >>> updates, state = momentum.update(fg.array(1.0), momentum.init(fg.array(0.0)))
        >>> updates, state = momentum.update(fg.array(1.0), state)
        >>> updates
        Array(1.5, dtype=float32)
    """

    def init(params: PyTree) -> TraceState:
        return TraceState(trace=tree.map(np.zeros_like, params))

    def update(updates: PyTree, state: TraceState, params: PyTree = None) -> tuple[PyTree, PyTree]:
        def add_decayed(u: Array, t: Array) -> Array:
            return u + _times(decay, t)

        total = tree.map(add_decayed, updates, state.trace)
        return tree.map(add_decayed, updates, total) if nesterov else total, TraceState(trace=total)

    return GradientTransformation(init, update)


class ScaleByAdamState(NamedTuple):
    """Adam's memory.

    Attributes:
        count: how many updates there have been, int32 of shape ().
        mu: the decaying mean of the updates, a pytree like the parameters.
        nu: the decaying mean of their squares.
    """

    count: Array  # pyright: ignore[reportIncompatibleMethodOverride]
    mu: PyTree
    nu: PyTree


def _bias_correction(decay: Scalar, count: Array, dtype: Any) -> Array:
    """`1 - decay ** count`, by which a decaying mean that started at zero falls short."""
    # As written, float32 would round decay = 0.999 and lose five of the seven digits of the difference.
    log = math.log(decay) if isinstance(decay, float) and decay > 0 else np.log(np.asarray(decay, dtype=dtype))
    return -np.expm1(np.asarray(count, dtype=dtype) * log)


def scale_by_adam(
    b1: Scalar = 0.9, b2: Scalar = 0.999, eps: Scalar = 1e-8, eps_root: Scalar = 0.0
) -> GradientTransformation:
    """Adam without its learning rate: divides a decaying mean of the updates by the root of that of their squares.

    Arguments:
        b1: the decay of the mean of the updates, from 0 to below 1.
        b2: the decay of the mean of their squares, from 0 to below 1.
        eps: added to the root, so that no division is by zero.
        eps_root: added under the root; a small positive value is needed to differentiate through the update.

    Source: D. Kingma and J. Ba, "Adam: A Method for Stochastic Optimization", https://arxiv.org/abs/1412.6980.

    Raises:
        ArgumentError: if a decay is a number outside of its range.

    Example:
        >>> import funcgrad as fg
        >>> adam = fg.optim.scale_by_adam()
        >>> updates, state = adam.update(fg.array([0.5, -20.0]), adam.init(fg.array([0.0, 0.0])))
        >>> updates
        Array([ 1., -1.], dtype=float32)
    """
    for name, decay in (("b1", b1), ("b2", b2)):
        if isinstance(decay, (int, float)) and not 0 <= decay < 1:
            raise ArgumentError(f"scale_by_adam got {name}={decay}; give a decay from 0 to below 1, such as 0.9.")

    def init(params: PyTree) -> ScaleByAdamState:
        zeros = tree.map(np.zeros_like, params)
        squares = tree.map(lambda p: np.zeros_like(np.real(p)), params)
        return ScaleByAdamState(count=np.zeros((), dtype=np.int32), mu=zeros, nu=squares)

    def update(updates: PyTree, state: ScaleByAdamState, params: PyTree = None) -> tuple[PyTree, PyTree]:
        count = state.count + 1
        mu = tree.map(lambda u, m: _times(b1, m) + _times(1 - b1, u), updates, state.mu)
        nu = tree.map(lambda u, n: _times(b2, n) + _times(1 - b2, squared_magnitude(u)), updates, state.nu)
        corrections: dict[numpy.dtype, tuple[Array, Array]] = {}  # mostly all parameters have one dtype

        def scaled(m: Array, n: Array) -> Array:
            if n.dtype not in corrections:
                corrections[n.dtype] = _bias_correction(b1, count, n.dtype), _bias_correction(b2, count, n.dtype)
            correct_mean, correct_square = corrections[n.dtype]
            return (m / correct_mean) / (np.sqrt(n / correct_square + eps_root) + eps)

        return tree.map(scaled, mu, nu), ScaleByAdamState(count=count, mu=mu, nu=nu)

    return GradientTransformation(init, update)
