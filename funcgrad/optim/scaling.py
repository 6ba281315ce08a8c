"""Transformations that rescale updates: by a number, by a schedule, by the learning rate."""

from __future__ import annotations

from typing import NamedTuple

from funcgrad import tree
from funcgrad.annotations import Array
from funcgrad.optim.arithmetic import count_zero, times
from funcgrad.optim.transformation import GradientTransformation, PyTree, Scalar, Schedule, init_empty_state


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
        return tree.map(lambda u: times(step_size, u), updates), state

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
        return ScaleByScheduleState(count=count_zero())

    def update(updates: PyTree, state: ScaleByScheduleState, params: PyTree = None) -> tuple[PyTree, PyTree]:
        step_size = step_size_fn(state.count)
        return tree.map(lambda u: times(step_size, u), updates), ScaleByScheduleState(count=state.count + 1)

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
