"""Weight decay: a pull of the parameters towards zero that does not go through the gradients."""

from __future__ import annotations

from funcgrad.annotations import Array
from funcgrad.optim.arithmetic import count_zero, times
from funcgrad.optim.masking import Mask, masked
from funcgrad.optim.scaling import ScaleByScheduleState
from funcgrad.optim.transformation import (
    EmptyState,
    GradientTransformation,
    PyTree,
    Scalar,
    Schedule,
    map_with_updates,
    require_params,
)


def add_decayed_weights(weight_decay: Scalar | Schedule = 0.0, mask: Mask | None = None) -> GradientTransformation:
    """Adds to each update the parameter, times a small number.

    Before an optimizer that is the gradient of `weight_decay / 2 * sum(params ** 2)`; after it, as in `adamw`, the
    decay does not depend on how the optimizer rescales gradients.

    Arguments:
        weight_decay: a number, an array of shape (), or a function of the count of earlier updates.
        mask: which of the parameters decay; see `masked`. By default, all.

    Raises:
        ArgumentError: in `update`, if it is not given the parameters.

    Source: I. Loshchilov and F. Hutter, "Decoupled Weight Decay Regularization", https://arxiv.org/abs/1711.05101.

    Example:
        >>> import funcgrad as fg
        >>> decay = fg.optim.add_decayed_weights(0.5)
        >>> params = fg.array([2.0, -4.0])
        >>> updates, state = decay.update(fg.array([1.0, 1.0]), decay.init(params), params)
        >>> updates
        Array([ 2., -1.], dtype=float32)
    """

    def init(params: PyTree) -> EmptyState | ScaleByScheduleState:
        return ScaleByScheduleState(count_zero()) if callable(weight_decay) else EmptyState()

    def update(updates: PyTree, state: PyTree, params: PyTree = None) -> tuple[PyTree, PyTree]:
        require_params(params, "add_decayed_weights")
        factor = weight_decay
        if callable(factor):
            factor, state = factor(state.count), ScaleByScheduleState(state.count + 1)

        def add(p: Array, u: Array) -> Array:
            return u + times(factor, p).astype(u.dtype)

        return map_with_updates(add, params, updates), state

    decay = GradientTransformation(init, update)
    return decay if mask is None else masked(decay, mask)
