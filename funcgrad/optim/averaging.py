"""Means over the steps: of updates, and of the parameters themselves."""

from __future__ import annotations

from typing import Any, NamedTuple

from funcgrad import numpy as np
from funcgrad import tree
from funcgrad.annotations import Array
from funcgrad.optim.arithmetic import (
    bias_correction,
    check_decays,
    count_zero,
    decaying_mean,
    keep_state_in_single_precision,
    times,
    zeros,
)
from funcgrad.optim.transformation import GradientTransformation, PyTree, Scalar, map_with_updates


class EmaState(NamedTuple):
    """The count of updates, int32 of shape (), and their decaying mean."""

    count: Array  # pyright: ignore[reportIncompatibleMethodOverride]
    ema: PyTree


def ema(decay: Scalar, debias: bool = True, accumulator_dtype: Any = None) -> GradientTransformation:
    """Replaces the updates by their exponential moving average.

    It averages any pytrees: given the parameters after each step in place of the updates, it gives their average.

    Arguments:
        decay: how much of the mean stays at each step, from 0 to below 1.
        debias: whether the mean is corrected for having started at zero.
        accumulator_dtype: the dtype in which the mean is kept; by default that of the parameters, and float32 for
            parameters of 16 bits.

    Raises:
        ArgumentError: if `decay` is a number outside of its range.

    Example, with parameters:
        >>> import funcgrad as fg
        >>> average = fg.optim.ema(0.5)
        >>> state = average.init(fg.array(0.0))
        >>> for params in (fg.array(3.0), fg.array(6.0)):
        ...     mean, state = average.update(params, state)
        >>> mean
        Array(5., dtype=float32)
    """
    check_decays("ema", decay=decay)

    def keep(means: PyTree) -> PyTree:
        return means if accumulator_dtype is None else tree.map(lambda m: m.astype(accumulator_dtype), means)

    def init(params: PyTree) -> EmaState:
        return EmaState(count_zero(), keep(zeros(params)))

    def update(updates: PyTree, state: EmaState, params: PyTree = None) -> tuple[PyTree, PyTree]:
        count = state.count + 1
        means = map_with_updates(lambda m, u: decaying_mean(decay, m.astype(u.dtype), u), state.ema, updates)
        results = tree.map(bias_correction(decay, count), means) if debias else means
        return results, EmaState(count, keep(means))

    return keep_state_in_single_precision(GradientTransformation(init, update))


def incremental_update(new_tensors: PyTree, old_tensors: PyTree, step_size: Scalar) -> PyTree:
    """Moves from old values towards new ones: `step_size * new + (1 - step_size) * old`.

    With a constant step size, the result is an exponential moving average of the parameters (or a target network that
    follows slowly); with `1 / (n + 1)` in step `n = 0, 1, ...`, the plain mean of all (Polyak averaging).

    Arguments:
        new_tensors: a pytree of arrays.
        old_tensors: a pytree of the same structure and shapes.
        step_size: from 0, which gives the old values, to 1, which gives the new.

    Returns:
        A pytree with the dtypes of `old_tensors`.

    Raises:
        TreeError: if the structures differ.

    Source: B. Polyak and A. Juditsky, "Acceleration of Stochastic Approximation by Averaging", SIAM Journal on
    Control and Optimization, 1992.

    Example, the mean of all parameters:
        >>> import funcgrad as fg
        >>> mean = fg.array(0.0)
        >>> for n, params in enumerate([fg.array(1.0), fg.array(2.0), fg.array(6.0)]):
        ...     mean = fg.optim.incremental_update(params, mean, 1 / (n + 1))
        >>> mean
        Array(3., dtype=float32)
    """

    def move(old: Array, new: Array) -> Array:
        return times(step_size, new.astype(old.dtype)) + times(1 - step_size, old)

    return map_with_updates(move, old_tensors, new_tensors, what="the new values given to incremental_update")


def periodic_update(new_tensors: PyTree, old_tensors: PyTree, steps: int | Array, update_period: int | Array) -> PyTree:
    """The new values in every `update_period`-th step, and the old ones in between: for target networks.

    Arguments:
        new_tensors: a pytree of arrays.
        old_tensors: a pytree of the same structure and shapes.
        steps: the count of earlier steps, an integer.
        update_period: after how many steps to update.

    Returns:
        A pytree with the dtypes of `old_tensors`.

    Raises:
        TreeError: if the structures differ.

    Example:
        >>> import funcgrad as fg
        >>> [float(fg.optim.periodic_update(fg.array(1.0), fg.array(0.0), step, 2)) for step in range(4)]
        [1.0, 0.0, 1.0, 0.0]
    """
    due = np.asarray(steps) % update_period == 0
    return map_with_updates(
        lambda old, new: np.where(due, new.astype(old.dtype), old),
        old_tensors,
        new_tensors,
        what="the new values given to periodic_update",
    )
