"""The heart of Adam and its relatives: steps by a decaying mean of the gradients, over the size that they have had."""

from __future__ import annotations

from typing import Any, NamedTuple

from funcgrad import numpy as np
from funcgrad import tree
from funcgrad.annotations import Array
from funcgrad.optim.arithmetic import (
    bias_correction,
    check_decays,
    count_zero,
    decaying_mean,
    keep_state_in_single_precision,
    real_full,
    squared_magnitude,
    times,
    zeros,
)
from funcgrad.optim.transformation import GradientTransformation, PyTree, Scalar, map_with_updates


class ScaleByAdamState(NamedTuple):
    """Adam's memory.

    Attributes:
        count: how many updates there have been, int32 of shape ().
        mu: the decaying mean of the updates, a pytree like the parameters.
        nu: the decaying mean of their squares (of Adamax: their decaying maximum).
    """

    count: Array  # pyright: ignore[reportIncompatibleMethodOverride]
    mu: PyTree
    nu: PyTree


def scale_by_adam(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: Any = None,
    *,
    nesterov: bool = False,
) -> GradientTransformation:
    """Adam without its learning rate: divides a decaying mean of the updates by the root of that of their squares.

    Arguments:
        b1: the decay of the mean of the updates, from 0 to below 1.
        b2: the decay of the mean of their squares, from 0 to below 1.
        eps: added to the root, so that no division is by zero.
        eps_root: added under the root; a small positive value is needed to differentiate through the update.
        mu_dtype: the dtype in which the mean is kept, such as bfloat16 to save memory; by default that of the
            parameters, and float32 for parameters of 16 bits.
        nesterov: whether the mean looks one step ahead, as in Nadam.

    Source: D. Kingma and J. Ba, "Adam: A Method for Stochastic Optimization", https://arxiv.org/abs/1412.6980; with
    `nesterov`, T. Dozat, "Incorporating Nesterov Momentum into Adam", ICLR 2016 workshop.

    Raises:
        ArgumentError: if a decay is a number outside of its range.

    Example:
        >>> import funcgrad as fg
        >>> adam = fg.optim.scale_by_adam()
        >>> updates, state = adam.update(fg.array([0.5, -20.0]), adam.init(fg.array([0.0, 0.0])))
        >>> updates
        Array([ 1., -1.], dtype=float32)
    """
    check_decays("scale_by_adam", b1=b1, b2=b2)

    def init(params: PyTree) -> ScaleByAdamState:
        return ScaleByAdamState(count_zero(), mu=_in_dtype(zeros(params), mu_dtype), nu=real_full(params))

    def update(updates: PyTree, state: ScaleByAdamState, params: PyTree = None) -> tuple[PyTree, PyTree]:
        count = state.count + 1
        mu = map_with_updates(lambda m, u: decaying_mean(b1, m.astype(u.dtype), u), state.mu, updates)
        nu = tree.map(lambda u, n: decaying_mean(b2, n, squared_magnitude(u)), updates, state.nu)
        correct_nu = bias_correction(b2, count)

        if nesterov:
            correct_next, correct = bias_correction(b1, count + 1), bias_correction(b1, count)
            mean = tree.map(lambda m, u: decaying_mean(b1, correct_next(m), correct(u)), mu, updates)
        else:
            mean = tree.map(bias_correction(b1, count), mu)
        scaled = tree.map(lambda m, n: m / (np.sqrt(correct_nu(n) + eps_root) + eps), mean, nu)
        return scaled, ScaleByAdamState(count, mu=_in_dtype(mu, mu_dtype), nu=nu)

    return keep_state_in_single_precision(GradientTransformation(init, update))


class ScaleByAmsgradState(NamedTuple):
    """AMSGrad's memory: Adam's (see `ScaleByAdamState`), and the largest corrected `nu` that there has been."""

    count: Array  # pyright: ignore[reportIncompatibleMethodOverride]
    mu: PyTree
    nu: PyTree
    nu_max: PyTree


def scale_by_amsgrad(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: Any = None,
    bias_correction_mu: bool = True,
    bias_correction_nu: bool = True,
) -> GradientTransformation:
    """AMSGrad without its learning rate: Adam whose divisor never shrinks.

    Arguments:
        b1, b2, eps, eps_root, mu_dtype: see `scale_by_adam`.
        bias_correction_mu: whether the mean of the updates is corrected for having started at zero.
        bias_correction_nu: whether that of their squares is, before its maximum is taken.

    Source: S. Reddi, S. Kale and S. Kumar, "On the Convergence of Adam and Beyond", https://arxiv.org/abs/1904.09237.

    Raises:
        ArgumentError: if a decay is a number outside of its range.

    Example:
        >>> import funcgrad as fg
        >>> amsgrad = fg.optim.scale_by_amsgrad()
        >>> updates, state = amsgrad.update(fg.array([0.5, -20.0]), amsgrad.init(fg.array([0.0, 0.0])))
        >>> updates
        Array([ 1., -1.], dtype=float32)
    """
    check_decays("scale_by_amsgrad", b1=b1, b2=b2)

    def init(params: PyTree) -> ScaleByAmsgradState:
        mu = _in_dtype(zeros(params), mu_dtype)
        return ScaleByAmsgradState(count_zero(), mu=mu, nu=real_full(params), nu_max=real_full(params))

    def update(updates: PyTree, state: ScaleByAmsgradState, params: PyTree = None) -> tuple[PyTree, PyTree]:
        count = state.count + 1
        mu = map_with_updates(lambda m, u: decaying_mean(b1, m.astype(u.dtype), u), state.mu, updates)
        nu = tree.map(lambda u, n: decaying_mean(b2, n, squared_magnitude(u)), updates, state.nu)
        mean = tree.map(bias_correction(b1, count), mu) if bias_correction_mu else mu
        square = tree.map(bias_correction(b2, count), nu) if bias_correction_nu else nu
        nu_max = tree.map(np.maximum, state.nu_max, square)
        scaled = tree.map(lambda m, n: m / (np.sqrt(n + eps_root) + eps), mean, nu_max)
        return scaled, ScaleByAmsgradState(count, mu=_in_dtype(mu, mu_dtype), nu=nu, nu_max=nu_max)

    return keep_state_in_single_precision(GradientTransformation(init, update))


def scale_by_adamax(b1: Scalar = 0.9, b2: Scalar = 0.999, eps: Scalar = 1e-8) -> GradientTransformation:
    """Adamax without its learning rate: divides a decaying mean of the updates by their decaying maximum.

    Arguments:
        b1: the decay of the mean, from 0 to below 1.
        b2: the decay of the maximum, from 0 to below 1.
        eps: added to the absolute value of each update, so that no division is by zero.

    Source: D. Kingma and J. Ba, "Adam: A Method for Stochastic Optimization", section 7.1,
    https://arxiv.org/abs/1412.6980.

    Raises:
        ArgumentError: if a decay is a number outside of its range.

    Example:
        >>> import funcgrad as fg
        >>> adamax = fg.optim.scale_by_adamax()
        >>> updates, state = adamax.update(fg.array([0.5, -20.0]), adamax.init(fg.array([0.0, 0.0])))
        >>> updates
        Array([ 1., -1.], dtype=float32)
    """
    check_decays("scale_by_adamax", b1=b1, b2=b2)

    def init(params: PyTree) -> ScaleByAdamState:
        return ScaleByAdamState(count_zero(), mu=zeros(params), nu=real_full(params))

    def update(updates: PyTree, state: ScaleByAdamState, params: PyTree = None) -> tuple[PyTree, PyTree]:
        count = state.count + 1
        mu = map_with_updates(lambda m, u: decaying_mean(b1, m, u), state.mu, updates)
        nu = tree.map(lambda u, n: np.maximum(np.abs(u) + eps, times(b2, n)), updates, state.nu)
        correct = bias_correction(b1, count)
        return tree.map(lambda m, n: correct(m) / n, mu, nu), ScaleByAdamState(count, mu=mu, nu=nu)

    return keep_state_in_single_precision(GradientTransformation(init, update))


def _in_dtype(values: PyTree, dtype: Any) -> PyTree:
    return values if dtype is None else tree.map(lambda x: x.astype(dtype), values)
