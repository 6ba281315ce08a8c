"""SAM: descent by the gradient at the worst point nearby, towards flat minima."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from funcgrad import numpy as np
from funcgrad import tree
from funcgrad.annotations import Array
from funcgrad.errors import ArgumentError
from funcgrad.optim.arithmetic import count_zero
from funcgrad.optim.transformation import (
    GradientTransformation,
    GradientTransformationExtraArgs,
    PyTree,
    apply_updates,
    require_params,
)


class SAMState(NamedTuple):
    """The state of `sam`.

    Attributes:
        steps_since_sync: how many steps there have been since the last of the outer optimizer, int32 of shape ().
        opt_state: the state of the outer optimizer.
        adv_state: the state of the adversarial one.
        cache: the parameters from which the adversarial steps went out; None in opaque mode.
    """

    steps_since_sync: Array
    opt_state: PyTree
    adv_state: PyTree
    cache: PyTree


def sam(
    optimizer: GradientTransformation,
    adv_optimizer: GradientTransformation,
    sync_period: int = 2,
    reset_state: bool = True,
    opaque_mode: bool = False,
) -> GradientTransformationExtraArgs:
    """Sharpness-aware minimization: steps up to a worse point, then one down by the gradient that is found there.

    Arguments:
        optimizer: the outer optimizer, which minimizes.
        adv_optimizer: the adversarial one, which goes up. The paper's is
            `chain(normalize_by_update_norm(), sgd(0.05))`, where 0.05 is the radius.
        sync_period: how many gradients make a step; the last is that of the outer optimizer.
        reset_state: whether the adversarial optimizer starts anew after each step.
        opaque_mode: whether one `update` does all of it. It then needs a function for the gradients at the other
            points: `update(gradients, state, params, grad_fn=lambda params, i: ...)`, where `i` counts from 0.
            Otherwise every `update` takes the next gradient, and the parameters between the steps are those points.

    Returns:
        A transformation with the state `SAMState`, whose `update` needs the parameters.

    Raises:
        ArgumentError: if `sync_period` is below 1, or `update` is not given what it needs.

    Source: P. Foret, A. Kleiner, H. Mobahi and B. Neyshabur, "Sharpness-Aware Minimization for Efficiently Improving
    Generalization", https://arxiv.org/abs/2010.01412.

    Example:
        >>> import funcgrad as fg
        >>> up = fg.optim.chain(fg.optim.normalize_by_update_norm(), fg.optim.sgd(0.5))
        >>> optimizer = fg.optim.sam(fg.optim.sgd(0.1), up, opaque_mode=True)
        >>> x, gradient = fg.array(1.0), fg.grad(lambda x: x ** 2)
        >>> updates, state = optimizer.update(gradient(x), optimizer.init(x), x, grad_fn=lambda x, i: gradient(x))
        >>> updates.round(4)  # the gradient at 1.5 is 3
        Array(-0.3, dtype=float32)
    """
    if sync_period < 1:
        raise ArgumentError(f"sam got sync_period={sync_period}; give at least 1, or 2 for what the paper describes.")

    def init(params: PyTree) -> SAMState:
        # A copy, so that a step may be given both the parameters and this state to reuse.
        cache = None if opaque_mode else tree.map(lambda p: np.array(p, copy=True), params)
        return SAMState(count_zero(), optimizer.init(params), adv_optimizer.init(params), cache)

    def ascent(updates: PyTree, state: PyTree, params: PyTree) -> tuple[PyTree, PyTree]:
        steps, state = adv_optimizer.update(updates, state, params)
        return tree.map(lambda s: -s, steps), state

    def update_by_turns(
        updates: PyTree, state: SAMState, params: PyTree = None, **extra_args: Any
    ) -> tuple[PyTree, SAMState]:
        require_params(params, "sam")
        first, last = state.steps_since_sync == 0, state.steps_since_sync == sync_period - 1
        start = _choose(first, params, state.cache)
        up, adv_state = ascent(updates, state.adv_state, params)
        down, opt_state = optimizer.update(updates, state.opt_state, start)
        # The outer optimizer steps from where the way up began.
        down = tree.map(lambda s, p, d: s - p + d, start, params, down)
        kept = adv_optimizer.init(params) if reset_state else state.adv_state
        next_state = SAMState(
            steps_since_sync=(state.steps_since_sync + 1) % sync_period,
            opt_state=_choose(last, opt_state, state.opt_state),
            adv_state=_choose(last, kept, adv_state),
            cache=start,
        )
        return _choose(last, down, up), next_state

    def update_at_once(
        updates: PyTree,
        state: SAMState,
        params: PyTree = None,
        *,
        grad_fn: Callable[[PyTree, int], PyTree] | None = None,
        **extra_args: Any,
    ) -> tuple[PyTree, SAMState]:
        require_params(params, "sam")
        if grad_fn is None:
            raise ArgumentError("sam in opaque mode needs a function for gradients; call update(..., grad_fn=...).")
        point, gradient, adv_state = params, updates, state.adv_state
        for i in range(sync_period - 1):
            step, adv_state = ascent(gradient, adv_state, point)
            point = apply_updates(point, step)
            gradient = grad_fn(point, i)
        steps, opt_state = optimizer.update(gradient, state.opt_state, params)
        if reset_state:
            adv_state = adv_optimizer.init(params)
        return steps, SAMState(state.steps_since_sync, opt_state, adv_state, None)

    return GradientTransformationExtraArgs(init, update_at_once if opaque_mode else update_by_turns)


def _choose(condition: Array, if_true: PyTree, if_false: PyTree) -> PyTree:
    return tree.map(lambda t, f: np.where(condition, t, f).astype(f.dtype), if_true, if_false)
