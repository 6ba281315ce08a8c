"""Precise copies of parameters that are stored in 16 bits, kept by the optimizer."""

from __future__ import annotations

from typing import Any, NamedTuple

from funcgrad import numpy as np
from funcgrad import tree
from funcgrad.optim.arithmetic import widen
from funcgrad.optim.transformation import (
    GradientTransformation,
    GradientTransformationExtraArgs,
    PyTree,
    apply_updates,
    map_with_updates,
    require_params,
    with_extra_args_support,
)


class MasterWeightsState(NamedTuple):
    """The state of `master_weights`.

    Attributes:
        master: the precise parameters: float32 where the parameters have 16 bits.
        inner_state: the state of the optimizer.
    """

    master: PyTree
    inner_state: PyTree


def master_weights(optimizer: GradientTransformation) -> GradientTransformationExtraArgs:
    """The optimizer for parameters of 16 bits, made to train precise copies of them that it keeps in its state.

    A step that is less than a 256th of a bfloat16 parameter would not change it. So the steps are added up in float32,
    and the parameters are always the nearest 16-bit floats to that.

    Arguments:
        optimizer: trains the precise copies, by gradients that are cast to float32.

    Returns:
        A transformation with the state `MasterWeightsState`, whose `update` needs the parameters. Its updates are the
        differences of the new parameters to the old, in the precise dtype, and lead there with `apply_updates`.

    Raises:
        ArgumentError: if `update` is not given the parameters.

    Source: P. Micikevicius et al., "Mixed Precision Training", https://arxiv.org/abs/1710.03740, section 3.1.

    Example:
        >>> import funcgrad as fg
        >>> optimizer = fg.optim.master_weights(fg.optim.sgd(0.001))
        >>> weight = fg.array([1.0], dtype="bfloat16")
        >>> state = optimizer.init(weight)
        >>> for _ in range(10):
        ...     updates, state = optimizer.update(fg.array([1.0], dtype="bfloat16"), state, weight)
        ...     weight = fg.optim.apply_updates(weight, updates)
        >>> weight, state.master.round(4)  # steps of 0.001 alone would have been rounded away
        (Array([0.988281], dtype=bfloat16), Array([0.99], dtype=float32))
    """
    inner = with_extra_args_support(optimizer)

    def init(params: PyTree) -> MasterWeightsState:
        # A copy, so that a step may be given both the parameters and this state to reuse.
        master = tree.map(lambda p: np.array(p, copy=True), widen(params))
        return MasterWeightsState(master, inner.init(master))

    def update(
        updates: PyTree, state: MasterWeightsState, params: PyTree = None, **extra_args: Any
    ) -> tuple[PyTree, MasterWeightsState]:
        require_params(params, "master_weights")
        steps, inner_state = inner.update(widen(updates), state.inner_state, state.master, **extra_args)
        master = apply_updates(state.master, steps)

        def difference(p: Any, m: Any) -> Any:
            return np.asarray(m, dtype=p.dtype).astype(m.dtype) - p.astype(m.dtype)

        return map_with_updates(difference, params, master), MasterWeightsState(master, inner_state)

    return GradientTransformationExtraArgs(init, update)
