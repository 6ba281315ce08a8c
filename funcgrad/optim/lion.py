"""Lion: steps by the sign of a mean of gradients."""

from __future__ import annotations

from typing import Any, NamedTuple

from funcgrad import numpy as np
from funcgrad import tree
from funcgrad.annotations import Array
from funcgrad.optim.arithmetic import (
    check_decays,
    count_zero,
    decaying_mean,
    keep_state_in_single_precision,
    zeros,
)
from funcgrad.optim.decay import add_decayed_weights
from funcgrad.optim.masking import Mask
from funcgrad.optim.scaling import scale_by_learning_rate
from funcgrad.optim.transformation import (
    GradientTransformation,
    PyTree,
    Scalar,
    Schedule,
    chain,
    map_with_updates,
)


class ScaleByLionState(NamedTuple):
    """Lion's memory: the count of updates, int32 of shape (), and their decaying mean."""

    count: Array  # pyright: ignore[reportIncompatibleMethodOverride]
    mu: PyTree


def scale_by_lion(b1: Scalar = 0.9, b2: Scalar = 0.99, mu_dtype: Any = None) -> GradientTransformation:
    """Replaces each update by the sign of a mean of it and of earlier ones.

    Arguments:
        b1: the weight of the earlier updates in the mean whose sign is taken, from 0 to below 1.
        b2: the decay of the mean that is kept, from 0 to below 1.
        mu_dtype: the dtype in which the mean is kept; by default that of the parameters, and float32 for parameters
            of 16 bits.

    Source: X. Chen and others, "Symbolic Discovery of Optimization Algorithms", https://arxiv.org/abs/2302.06675.

    Raises:
        ArgumentError: if a decay is a number outside of its range.

    Example:
        >>> import funcgrad as fg
        >>> lion = fg.optim.scale_by_lion()
        >>> updates, state = lion.update(fg.array([0.5, -20.0]), lion.init(fg.array([0.0, 0.0])))
        >>> updates
        Array([ 1., -1.], dtype=float32)
    """
    check_decays("scale_by_lion", b1=b1, b2=b2)

    def keep(means: PyTree) -> PyTree:
        return means if mu_dtype is None else tree.map(lambda m: m.astype(mu_dtype), means)

    def init(params: PyTree) -> ScaleByLionState:
        return ScaleByLionState(count_zero(), mu=keep(zeros(params)))

    def update(updates: PyTree, state: ScaleByLionState, params: PyTree = None) -> tuple[PyTree, PyTree]:
        signs = map_with_updates(lambda m, u: np.sign(decaying_mean(b1, m.astype(u.dtype), u)), state.mu, updates)
        mu = tree.map(lambda u, m: decaying_mean(b2, m.astype(u.dtype), u), updates, state.mu)
        return signs, ScaleByLionState(state.count + 1, mu=keep(mu))

    return keep_state_in_single_precision(GradientTransformation(init, update))


def lion(
    learning_rate: Scalar | Schedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.99,
    mu_dtype: Any = None,
    weight_decay: Scalar | Schedule = 1e-3,
    mask: Mask | None = None,
) -> GradientTransformation:
    """Lion: all steps have the length of the learning rate, and one mean of gradients is all that is kept.

    Arguments:
        learning_rate: a number, an array of shape (), or a function of the count of earlier steps. A good one is 3 to
            10 times smaller than for Adam.
        b1, b2, mu_dtype: see `scale_by_lion`.
        weight_decay, mask: see `add_decayed_weights`. A good one is 3 to 10 times larger than for `adamw`.

    Returns:
        A `GradientTransformation` whose `update` needs the parameters.

    Source: X. Chen and others, "Symbolic Discovery of Optimization Algorithms", https://arxiv.org/abs/2302.06675.

    Example:
        >>> import funcgrad as fg
        >>> optimizer = fg.optim.lion(0.25, weight_decay=0.5)
        >>> params = fg.array([2.0, -2.0])
        >>> updates, state = optimizer.update(fg.array([0.3, -20.0]), optimizer.init(params), params)
        >>> updates
        Array([-0.5,  0.5], dtype=float32)
    """
    return chain(
        scale_by_lion(b1, b2, mu_dtype), add_decayed_weights(weight_decay, mask), scale_by_learning_rate(learning_rate)
    )
