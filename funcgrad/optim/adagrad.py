"""Adagrad and Adadelta: steps over the root of what squares have come together."""

from __future__ import annotations

from typing import NamedTuple

from funcgrad import numpy as np
from funcgrad import tree
from funcgrad.annotations import Array
from funcgrad.optim.arithmetic import (
    check_decays,
    decaying_mean,
    keep_state_in_single_precision,
    real_full,
    squared_magnitude,
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
    identity,
    map_with_updates,
)


class ScaleByRssState(NamedTuple):
    """The sum of the squares of all updates so far, a pytree like the parameters."""

    sum_of_squares: PyTree


def scale_by_rss(initial_accumulator_value: Scalar = 0.1, eps: Scalar = 1e-7) -> GradientTransformation:
    """Divides the updates by the root of the sum of the squares of all updates so far.

    Arguments:
        initial_accumulator_value: where the sum starts; not negative.
        eps: added to the sum under the root, so that no division is by zero.

    Source: J. Duchi, E. Hazan and Y. Singer, "Adaptive Subgradient Methods for Online Learning and Stochastic
    Optimization", https://jmlr.org/papers/v12/duchi11a.html.

    Example:
        >>> import funcgrad as fg
        >>> adagrad = fg.optim.scale_by_rss(initial_accumulator_value=0.0)
        >>> updates, state = adagrad.update(fg.array([3.0, 0.0]), adagrad.init(fg.array([0.0, 0.0])))
        >>> updates, state = adagrad.update(fg.array([4.0, 0.0]), state)
        >>> updates
        Array([0.8, 0. ], dtype=float32)
    """

    def init(params: PyTree) -> ScaleByRssState:
        return ScaleByRssState(real_full(params, initial_accumulator_value))

    def update(updates: PyTree, state: ScaleByRssState, params: PyTree = None) -> tuple[PyTree, PyTree]:
        def scaled(u: Array, s: Array) -> Array:
            # Where all updates have been zero and eps is zero as well, there is nothing to divide by.
            return u / np.sqrt(np.where(s > 0, s, 1) + eps)

        total = map_with_updates(lambda s, u: s + squared_magnitude(u), state.sum_of_squares, updates)
        return tree.map(scaled, updates, total), ScaleByRssState(total)

    return keep_state_in_single_precision(GradientTransformation(init, update))


def adagrad(
    learning_rate: Scalar | Schedule, initial_accumulator_value: Scalar = 0.1, eps: Scalar = 1e-7
) -> GradientTransformation:
    """Adagrad: steps that become smaller where gradients have been large; for sparse gradients.

    Arguments:
        learning_rate: a number, an array of shape (), or a function of the count of earlier steps.
        initial_accumulator_value, eps: see `scale_by_rss`.

    Returns:
        A `GradientTransformation`.

    Source: J. Duchi, E. Hazan and Y. Singer, "Adaptive Subgradient Methods for Online Learning and Stochastic
    Optimization", https://jmlr.org/papers/v12/duchi11a.html.

    Example:
        >>> import funcgrad as fg
        >>> optimizer = fg.optim.adagrad(0.5, initial_accumulator_value=0.0)
        >>> updates, state = optimizer.update(fg.array([3.0, -0.5]), optimizer.init(fg.array([0.0, 0.0])))
        >>> updates.round(4)
        Array([-0.5,  0.5], dtype=float32)
    """
    return chain(scale_by_rss(initial_accumulator_value, eps), scale_by_learning_rate(learning_rate))


class ScaleByAdaDeltaState(NamedTuple):
    """The decaying means of the squares of the updates that came in (`e_g`) and that went out (`e_x`)."""

    e_g: PyTree
    e_x: PyTree


def scale_by_adadelta(rho: Scalar = 0.9, eps: Scalar = 1e-6) -> GradientTransformation:
    """Rescales the updates by the size of the recent steps over the size of the recent updates.

    Arguments:
        rho: the decay of both means of squares, from 0 to below 1.
        eps: added under both roots; it also sets how small the first steps are.

    Source: M. Zeiler, "ADADELTA: An Adaptive Learning Rate Method", https://arxiv.org/abs/1212.5701.

    Raises:
        ArgumentError: if `rho` is a number outside of its range.

    Example:
        >>> import funcgrad as fg
        >>> adadelta = fg.optim.scale_by_adadelta(rho=0.75, eps=0.0001)
        >>> updates, state = adadelta.update(fg.array([3.0, -20.0]), adadelta.init(fg.array([0.0, 0.0])))
        >>> updates.round(3)
        Array([ 0.02, -0.02], dtype=float32)
    """
    check_decays("scale_by_adadelta", rho=rho)

    def init(params: PyTree) -> ScaleByAdaDeltaState:
        return ScaleByAdaDeltaState(e_g=real_full(params), e_x=real_full(params))

    def update(updates: PyTree, state: ScaleByAdaDeltaState, params: PyTree = None) -> tuple[PyTree, PyTree]:
        def next_mean(mean: Array, x: Array) -> Array:
            return decaying_mean(rho, mean, squared_magnitude(x))

        e_g = map_with_updates(next_mean, state.e_g, updates)
        steps = tree.map(lambda u, g, x: u * (np.sqrt(x + eps) / np.sqrt(g + eps)), updates, e_g, state.e_x)
        return steps, ScaleByAdaDeltaState(e_g=e_g, e_x=tree.map(next_mean, state.e_x, steps))

    return keep_state_in_single_precision(GradientTransformation(init, update))


def adadelta(
    learning_rate: Scalar | Schedule | None = None,
    rho: Scalar = 0.9,
    eps: Scalar = 1e-6,
    weight_decay: Scalar | Schedule = 0.0,
    weight_decay_mask: Mask | None = None,
) -> GradientTransformation:
    """Adadelta: finds the lengths of its steps by itself, from those of the steps before.

    Arguments:
        learning_rate: multiplies the steps: a number, an array of shape (), or a function of the count of earlier
            steps. By default 1, as in the paper.
        rho, eps: see `scale_by_adadelta`.
        weight_decay, weight_decay_mask: see `add_decayed_weights`; the decay is added to the gradients.

    Returns:
        A `GradientTransformation`; with weight decay, its `update` needs the parameters.

    Source: M. Zeiler, "ADADELTA: An Adaptive Learning Rate Method", https://arxiv.org/abs/1212.5701.

    Example:
        >>> import funcgrad as fg
        >>> optimizer = fg.optim.adadelta(rho=0.75, eps=0.0001)
        >>> updates, state = optimizer.update(fg.array([3.0, -20.0]), optimizer.init(fg.array([0.0, 0.0])))
        >>> updates.round(3)
        Array([-0.02,  0.02], dtype=float32)
    """
    without_decay = isinstance(weight_decay, (int, float)) and weight_decay == 0
    return chain(
        identity() if without_decay else add_decayed_weights(weight_decay, weight_decay_mask),
        scale_by_adadelta(rho, eps),
        scale_by_learning_rate(1.0 if learning_rate is None else learning_rate),
    )
