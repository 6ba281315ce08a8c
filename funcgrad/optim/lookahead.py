"""Lookahead: slow parameters that follow fast ones."""

from __future__ import annotations

from typing import Any, NamedTuple

from funcgrad import numpy as np
from funcgrad import tree
from funcgrad.annotations import Array
from funcgrad.errors import ArgumentError
from funcgrad.optim.arithmetic import count_zero, times
from funcgrad.optim.transformation import (
    GradientTransformation,
    GradientTransformationExtraArgs,
    PyTree,
    Scalar,
    map_with_updates,
    with_extra_args_support,
)


class LookaheadState(NamedTuple):
    """The state of the fast optimizer, and the count of steps since the last synchronization, int32 of shape ()."""

    fast_state: PyTree
    steps_since_sync: Array


class LookaheadParams(NamedTuple):
    """Parameters for `lookahead`: the fast ones, by which gradients are taken, and the slow ones, which are the result.

    Example:
        >>> import funcgrad as fg
        >>> fg.optim.LookaheadParams.init_synced(fg.array(1.0)).slow
        Array(1., dtype=float32)
    """

    fast: PyTree
    slow: PyTree

    @classmethod
    def init_synced(cls, params: PyTree) -> LookaheadParams:
        """Fast and slow parameters that are the same; copies, so that a step may be given both of them to reuse."""
        return cls(fast=params, slow=tree.map(lambda p: np.array(p, copy=True), params))


def lookahead(
    fast_optimizer: GradientTransformation, sync_period: int, slow_step_size: Scalar, reset_state: bool = False
) -> GradientTransformationExtraArgs:
    """Lets an optimizer make several steps, and then goes a part of that way.

    Its parameters are `LookaheadParams`; gradients are those by the fast parameters.

    Arguments:
        fast_optimizer: the optimizer of the fast parameters.
        sync_period: after how many of its steps the slow parameters follow, and the fast ones start again from there.
        slow_step_size: the part of the way that they follow, from 0 to 1.
        reset_state: whether the fast optimizer then starts anew, too.

    Returns:
        A transformation whose updates are `LookaheadParams`, to be given to `apply_updates`.

    Raises:
        ArgumentError: if `sync_period` is below 1, or the parameters are not `LookaheadParams`.

    Source: M. Zhang, J. Lucas, G. Hinton and J. Ba, "Lookahead Optimizer: k steps forward, 1 step back",
    https://arxiv.org/abs/1907.08610.

    Example:
        >>> import funcgrad as fg
        >>> optimizer = fg.optim.lookahead(fg.optim.sgd(1.0), sync_period=2, slow_step_size=0.5)
        >>> params = fg.optim.LookaheadParams.init_synced(fg.array(0.0))
        >>> state = optimizer.init(params)
        >>> for _ in range(2):
        ...     updates, state = optimizer.update(fg.array(1.0), state, params)
        ...     params = fg.optim.apply_updates(params, updates)
        ...     print(params.fast, params.slow)
        -1.0 0.0
        -1.0 -1.0
    """
    if sync_period < 1:
        raise ArgumentError(f"lookahead got sync_period={sync_period}; give at least 1.")
    optimizer = with_extra_args_support(fast_optimizer)

    def check(params: PyTree) -> None:
        if not isinstance(params, LookaheadParams):
            raise ArgumentError("lookahead needs fast and slow parameters; give LookaheadParams.init_synced(params).")

    def init(params: PyTree) -> LookaheadState:
        check(params)
        return LookaheadState(optimizer.init(params.fast), count_zero())

    def update(
        updates: PyTree, state: LookaheadState, params: PyTree = None, **extra_args: Any
    ) -> tuple[PyTree, LookaheadState]:
        check(params)
        steps, fast_state = optimizer.update(updates, state.fast_state, params.fast, **extra_args)
        sync = state.steps_since_sync == sync_period - 1

        def follow(slow: Array, step: Array, fast: Array) -> Array:
            return np.where(sync, times(slow_step_size, fast + step - slow), 0)

        def go_back(slow: Array, step: Array, fast: Array) -> Array:
            return np.where(sync, slow - fast + times(slow_step_size, fast + step - slow), step)

        slow_updates, fast_updates = (map_with_updates(f, params.slow, steps, params.fast) for f in (follow, go_back))
        if reset_state:
            fresh = optimizer.init(params.fast)
            fast_state = tree.map(lambda new, old: np.where(sync, new, old).astype(old.dtype), fresh, fast_state)
        next_state = LookaheadState(fast_state, (state.steps_since_sync + 1) % sync_period)
        return LookaheadParams(fast=fast_updates, slow=slow_updates), next_state

    return GradientTransformationExtraArgs(init, update)
