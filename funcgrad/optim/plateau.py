"""Smaller steps when a measure no longer improves."""

from __future__ import annotations

from typing import Any, NamedTuple

from funcgrad import numpy as np
from funcgrad import tree
from funcgrad.annotations import Array, ArrayLike
from funcgrad.errors import ArgumentError
from funcgrad.optim.arithmetic import count_zero, times, widest_dtype
from funcgrad.optim.transformation import GradientTransformationExtraArgs, PyTree


class ReduceLROnPlateauState(NamedTuple):
    """What `reduce_on_plateau` remembers; all are arrays of shape ().

    Attributes:
        scale: what the updates are multiplied by now.
        best_value: the best value so far.
        plateau_count: how many values in a row have not been better, int32.
        cooldown_count: how many values still do not count, int32.
        count: how many values the mean `avg_value` has so far, int32.
        avg_value: the mean of the values since the last look at them.
    """

    scale: Array
    best_value: Array
    plateau_count: Array
    cooldown_count: Array
    count: Array  # pyright: ignore[reportIncompatibleMethodOverride]
    avg_value: Array


def reduce_on_plateau(
    factor: float = 0.1,
    patience: int = 10,
    rtol: float = 1e-4,
    atol: float = 0.0,
    cooldown: int = 0,
    accumulation_size: int = 1,
    min_scale: float = 0.0,
) -> GradientTransformationExtraArgs:
    """Multiplies the updates by a number that becomes smaller whenever a measure has not improved for a while.

    To be chained after an optimizer. Its `update` needs the measure, such as the loss: `update(updates, state, params,
    value=loss)`.

    Arguments:
        factor: multiplies the number, from 0 to below 1.
        patience: after how many values in a row without improvement.
        rtol: how much smaller a value has to be than the best so far, as a share of that.
        atol: and how much in itself; one of both is positive.
        cooldown: how many values after a reduction do not count.
        accumulation_size: how many values are averaged to one that counts.
        min_scale: the least number.

    Returns:
        A transformation with the state `ReduceLROnPlateauState`.

    Raises:
        ArgumentError: if an argument is out of its range, or `update` is not given the value.

    Example:
        >>> import funcgrad as fg
        >>> optimizer = fg.optim.chain(fg.optim.sgd(1.0), fg.optim.reduce_on_plateau(factor=0.5, patience=2))
        >>> state = optimizer.init(fg.array(0.0))
        >>> for loss in (3.0, 2.0, 2.0, 2.0):
        ...     updates, state = optimizer.update(fg.array(1.0), state, value=loss)
        ...     print(updates)
        -1.0
        -1.0
        -1.0
        -0.5
    """
    if not 0 <= factor < 1:
        raise ArgumentError(f"reduce_on_plateau got factor={factor}; give a number from 0 to below 1.")
    if rtol < 0 or atol < 0 or rtol >= 1 or not rtol + atol:
        raise ArgumentError(
            f"reduce_on_plateau got rtol={rtol} and atol={atol}; give numbers that are not negative, at least one "
            "positive, and rtol below 1."
        )
    if patience < 1 or cooldown < 0 or accumulation_size < 1:
        raise ArgumentError(
            f"reduce_on_plateau got patience={patience}, cooldown={cooldown} and "
            f"accumulation_size={accumulation_size}; give at least 1, 0 and 1."
        )

    def init(params: PyTree) -> ReduceLROnPlateauState:
        dtype = widest_dtype(params)
        one, infinity, zero = (np.asarray(value, dtype=dtype) for value in (1.0, float("inf"), 0.0))
        return ReduceLROnPlateauState(one, infinity, count_zero(), count_zero(), count_zero(), zero)

    def look(state: ReduceLROnPlateauState) -> ReduceLROnPlateauState:
        """The state after another value, the mean in `state`, has been compared to the best."""
        value, best = state.avg_value, state.best_value
        # From the infinity at the start, subtracting a share gives no number when the share is zero.
        better = value < np.where(np.isinf(best), best, (1 - rtol) * best - atol)
        waited = np.where(better, 0, state.plateau_count + 1)
        cooling = state.cooldown_count > 0
        due = (waited >= patience) & ~cooling
        return ReduceLROnPlateauState(
            scale=np.where(due, np.maximum(state.scale * factor, min_scale), state.scale),
            best_value=np.where(better, value, best),
            plateau_count=np.where(due | cooling, 0, waited),
            cooldown_count=np.where(cooling, state.cooldown_count - 1, np.where(due, cooldown, 0)),
            count=np.zeros_like(state.count),
            avg_value=np.zeros_like(value),
        )

    def update(
        updates: PyTree,
        state: ReduceLROnPlateauState,
        params: PyTree = None,
        *,
        value: ArrayLike | None = None,
        **extra_args: Any,
    ) -> tuple[PyTree, ReduceLROnPlateauState]:
        if value is None:
            raise ArgumentError("reduce_on_plateau needs the value; call update(updates, state, params, value=loss).")
        given = np.asarray(value, dtype=state.avg_value.dtype)
        count = state.count + 1
        mean = state.avg_value + (given - state.avg_value) / count.astype(given.dtype)
        waiting = state._replace(count=count, avg_value=mean)
        full = count == accumulation_size
        state = tree.map(
            lambda after, before: np.where(full, after, before).astype(before.dtype), look(waiting), waiting
        )
        return tree.map(lambda u: times(state.scale, u), updates), state

    return GradientTransformationExtraArgs(init, update)
