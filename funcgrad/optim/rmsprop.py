"""RMSProp: steps over the root of a decaying mean of squares, also centered and with momentum."""

from __future__ import annotations

from typing import NamedTuple

from funcgrad import numpy as np
from funcgrad import tree
from funcgrad.annotations import Array
from funcgrad.optim.arithmetic import bias_correction as corrector  # a parameter here has its name
from funcgrad.optim.arithmetic import (
    check_decays,
    count_zero,
    decaying_mean,
    keep_state_in_single_precision,
    real_full,
    squared_magnitude,
    zeros,
)
from funcgrad.optim.scaling import scale_by_learning_rate
from funcgrad.optim.sgd import trace
from funcgrad.optim.transformation import (
    GradientTransformation,
    PyTree,
    Scalar,
    Schedule,
    chain,
    identity,
    map_with_updates,
)


class ScaleByRmsState(NamedTuple):
    """RMSProp's memory: the count of updates, int32 of shape (), and the decaying mean of their squares."""

    count: Array  # pyright: ignore[reportIncompatibleMethodOverride]
    nu: PyTree


class ScaleByStddevState(NamedTuple):
    """The count of updates, int32 of shape (), and the decaying means of the updates and of their squares."""

    count: Array  # pyright: ignore[reportIncompatibleMethodOverride]
    mu: PyTree
    nu: PyTree


def scale_by_rms(
    decay: Scalar = 0.9,
    eps: Scalar = 1e-8,
    initial_scale: Scalar = 0.0,
    eps_in_sqrt: bool = True,
    bias_correction: bool = False,
) -> GradientTransformation:
    """Divides the updates by the root of a decaying mean of their squares.

    Arguments:
        decay: the decay of the mean, from 0 to below 1.
        eps: added to the divisor, so that no division is by zero.
        initial_scale: where the mean starts.
        eps_in_sqrt: whether `eps` is added under the root or to it.
        bias_correction: whether the mean is corrected for having started at zero.

    Source: G. Hinton, "Neural Networks for Machine Learning", lecture 6e,
    https://www.cs.toronto.edu/~tijmen/csc321/slides/lecture_slides_lec6.pdf.

    Raises:
        ArgumentError: if `decay` is a number outside of its range.

    Example:
        >>> import funcgrad as fg
        >>> rms = fg.optim.scale_by_rms(decay=0.75)
        >>> updates, state = rms.update(fg.array([0.5, -20.0]), rms.init(fg.array([0.0, 0.0])))
        >>> updates.round(4)
        Array([ 2., -2.], dtype=float32)
    """
    check_decays("scale_by_rms", decay=decay)

    def init(params: PyTree) -> ScaleByRmsState:
        return ScaleByRmsState(count_zero(), nu=real_full(params, initial_scale))

    def update(updates: PyTree, state: ScaleByRmsState, params: PyTree = None) -> tuple[PyTree, PyTree]:
        count = state.count + 1
        nu = map_with_updates(lambda n, u: decaying_mean(decay, n, squared_magnitude(u)), state.nu, updates)
        square = _corrected(nu, decay, count) if bias_correction else nu
        return tree.map(lambda u, s: u / _root(s, eps, eps_in_sqrt), updates, square), ScaleByRmsState(count, nu)

    return keep_state_in_single_precision(GradientTransformation(init, update))


def scale_by_stddev(
    decay: Scalar = 0.9,
    eps: Scalar = 1e-8,
    initial_scale: Scalar = 0.0,
    eps_in_sqrt: bool = True,
    bias_correction: bool = False,
) -> GradientTransformation:
    """Divides the updates by their standard deviation, from decaying means of them and of their squares.

    Arguments:
        decay, eps, initial_scale, eps_in_sqrt, bias_correction: see `scale_by_rms`.

    Source: A. Graves, "Generating Sequences With Recurrent Neural Networks", https://arxiv.org/abs/1308.0850.

    Raises:
        ArgumentError: if `decay` is a number outside of its range.

    Example:
        >>> import funcgrad as fg
        >>> stddev = fg.optim.scale_by_stddev(decay=0.5)
        >>> updates, state = stddev.update(fg.array([0.5, -20.0]), stddev.init(fg.array([0.0, 0.0])))
        >>> updates.round(4)
        Array([ 2., -2.], dtype=float32)
    """
    check_decays("scale_by_stddev", decay=decay)

    def init(params: PyTree) -> ScaleByStddevState:
        return ScaleByStddevState(count_zero(), mu=zeros(params), nu=real_full(params, initial_scale))

    def update(updates: PyTree, state: ScaleByStddevState, params: PyTree = None) -> tuple[PyTree, PyTree]:
        count = state.count + 1
        mu = map_with_updates(lambda m, u: decaying_mean(decay, m, u), state.mu, updates)
        nu = tree.map(lambda u, n: decaying_mean(decay, n, squared_magnitude(u)), updates, state.nu)
        mean, square = (_corrected(x, decay, count) if bias_correction else x for x in (mu, nu))
        # Rounding can make the difference of nearly equal squares a little negative, which has no root.
        variance = tree.map(lambda m, s: np.maximum(s - squared_magnitude(m), 0), mean, square)
        scaled = tree.map(lambda u, v: u / _root(v, eps, eps_in_sqrt), updates, variance)
        return scaled, ScaleByStddevState(count, mu=mu, nu=nu)

    return keep_state_in_single_precision(GradientTransformation(init, update))


def _corrected(means: PyTree, decay: Scalar, count: Array) -> PyTree:
    return tree.map(corrector(decay, count), means)


def _root(square: Array, eps: Scalar, eps_in_sqrt: bool) -> Array:
    return np.sqrt(square + eps) if eps_in_sqrt else np.sqrt(square) + eps


def rmsprop(
    learning_rate: Scalar | Schedule,
    decay: Scalar = 0.9,
    eps: Scalar = 1e-8,
    initial_scale: Scalar = 0.0,
    eps_in_sqrt: bool = True,
    centered: bool = False,
    momentum: Scalar | None = None,
    nesterov: bool = False,
    bias_correction: bool = False,
) -> GradientTransformation:
    """RMSProp: steps over the root of a decaying mean of the squares of the gradients.

    Arguments:
        learning_rate: a number, an array of shape (), or a function of the count of earlier steps.
        decay, eps, initial_scale, eps_in_sqrt, bias_correction: see `scale_by_rms`.
        centered: whether to divide by the standard deviation of the gradients; see `scale_by_stddev`.
        momentum, nesterov: momentum of the steps; see `trace`. By default, none.

    Returns:
        A `GradientTransformation`.

    Source: G. Hinton, "Neural Networks for Machine Learning", lecture 6e; with `centered`, A. Graves, "Generating
    Sequences With Recurrent Neural Networks", https://arxiv.org/abs/1308.0850.

    Example:
        >>> import funcgrad as fg
        >>> optimizer = fg.optim.rmsprop(0.25, decay=0.75)
        >>> updates, state = optimizer.update(fg.array([0.5, -20.0]), optimizer.init(fg.array([0.0, 0.0])))
        >>> updates.round(4)
        Array([-0.5,  0.5], dtype=float32)
    """
    scaled = scale_by_stddev if centered else scale_by_rms
    return chain(
        scaled(decay, eps, initial_scale, eps_in_sqrt, bias_correction),
        scale_by_learning_rate(learning_rate),
        identity() if momentum is None else trace(momentum, nesterov),
    )
