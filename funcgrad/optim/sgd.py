"""Stochastic gradient descent, momentum, and descent by the sign."""

from __future__ import annotations

from typing import NamedTuple

from funcgrad import numpy as np
from funcgrad import tree
from funcgrad.optim.arithmetic import keep_state_in_single_precision, times, zeros
from funcgrad.optim.scaling import scale_by_learning_rate
from funcgrad.optim.transformation import (
    GradientTransformation,
    PyTree,
    Scalar,
    Schedule,
    chain,
    init_empty_state,
    map_with_updates,
)


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
        return TraceState(trace=zeros(params))

    def update(updates: PyTree, state: TraceState, params: PyTree = None) -> tuple[PyTree, PyTree]:
        total = map_with_updates(lambda t, u: u + times(decay, t), state.trace, updates)
        ahead = tree.map(lambda u, t: u + times(decay, t), updates, total) if nesterov else total
        return ahead, TraceState(trace=total)

    return keep_state_in_single_precision(GradientTransformation(init, update))


def sgd(
    learning_rate: Scalar | Schedule, momentum: Scalar | None = None, nesterov: bool = False
) -> GradientTransformation:
    """Stochastic gradient descent: each step goes against the gradient.

    Arguments:
        learning_rate: the length of a step relative to the gradient: a number, an array of shape (), or a function of
            the count of earlier steps.
        momentum: how much of the earlier steps a step keeps, from 0 to 1; see `trace`.
        nesterov: whether momentum looks one step ahead.

    Returns:
        A `GradientTransformation`.

    Example:
        >>> import funcgrad as fg
        >>> optimizer = fg.optim.sgd(0.1)
        >>> x = fg.array(1.0)
        >>> state = optimizer.init(x)
        >>> for _ in range(3):
        ...     updates, state = optimizer.update(fg.grad(lambda x: x ** 2)(x), state)
        ...     x = fg.optim.apply_updates(x, updates)
        >>> x.round(3)
        Array(0.512, dtype=float32)
    """
    descend = scale_by_learning_rate(learning_rate)
    return descend if momentum is None else chain(trace(momentum, nesterov), descend)


def scale_by_sign() -> GradientTransformation:
    """Keeps of each update only its sign.

    Example:
        >>> import funcgrad as fg
        >>> sign = fg.optim.scale_by_sign()
        >>> updates, state = sign.update(fg.array([0.3, -20.0, 0.0]), sign.init(None))
        >>> updates
        Array([ 1., -1.,  0.], dtype=float32)
    """

    def update(updates: PyTree, state: PyTree, params: PyTree = None) -> tuple[PyTree, PyTree]:
        return tree.map(np.sign, updates), state

    return GradientTransformation(init_empty_state, update)


def sign_sgd(learning_rate: Scalar | Schedule) -> GradientTransformation:
    """Descent by the sign of the gradient: every step of every parameter has the length of the learning rate.

    Arguments:
        learning_rate: a number, an array of shape (), or a function of the count of earlier steps.

    Returns:
        A `GradientTransformation`.

    Source: J. Bernstein, Y.-X. Wang, K. Azizzadenesheli and A. Anandkumar, "signSGD: Compressed Optimisation for
    Non-Convex Problems", https://arxiv.org/abs/1802.04434.

    Example:
        >>> import funcgrad as fg
        >>> optimizer = fg.optim.sign_sgd(0.25)
        >>> updates, state = optimizer.update(fg.array([0.3, -20.0]), optimizer.init(fg.array([0.0, 0.0])))
        >>> updates
        Array([-0.25,  0.25], dtype=float32)
    """
    return chain(scale_by_sign(), scale_by_learning_rate(learning_rate))
