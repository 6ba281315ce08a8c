"""Muon: momentum whose matrices are made orthogonal before each step."""

from __future__ import annotations

from typing import NamedTuple

from funcgrad import numpy as np
from funcgrad import tree
from funcgrad.annotations import Array
from funcgrad.errors import ArgumentError
from funcgrad.optim.adam_variants import adamw
from funcgrad.optim.arithmetic import (
    bias_correction,
    check_decays,
    count_zero,
    decaying_mean,
    keep_state_in_single_precision,
    zeros,
)
from funcgrad.optim.decay import add_decayed_weights
from funcgrad.optim.masking import Mask, partition
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

Coefficients = tuple[float, float, float]

# With these, the polynomial takes singular values of nearly any size to between 0.7 and 1.2 in five steps.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalize_via_newton_schulz(
    x: Array,
    ns_coeffs: Coefficients = _COEFFICIENTS,
    ns_steps: int = 5,
    eps: Scalar = 1e-8,
) -> Array:
    """A matrix with the singular vectors of `x` and singular values close to 1, by matrix products alone.

    Arguments:
        x: a floating array of shape (rows, columns).
        ns_coeffs: the coefficients of the odd polynomial of degree 5 that is applied to the singular values.
        ns_steps: how many times.
        eps: added to the norm of `x` by which it is divided first.

    Returns:
        A matrix like `x`.

    Raises:
        ArgumentError: if `x` is not a matrix.

    Source: K. Jordan and others, "Muon: An optimizer for hidden layers in neural networks",
    https://kellerjordan.github.io/posts/muon/.

    Example:
        >>> import funcgrad as fg
        >>> x = fg.optim.orthogonalize_via_newton_schulz(fg.array([[3.0, 0.0], [0.0, 0.02]]))
        >>> (abs(x) > 0.5).tolist()
        [[True, False], [False, True]]
    """
    if x.ndim != 2:
        raise ArgumentError(f"Muon needs matrices, and got an array of shape {x.shape}; give the others to Adam.")
    if x.shape[0] > x.shape[1]:  # products of the smaller size
        return orthogonalize_via_newton_schulz(x.T, ns_coeffs, ns_steps, eps).T
    a, b, c = ns_coeffs
    x = x / (np.sqrt(np.sum(x * x)) + eps)
    for _ in range(ns_steps):
        squared = x @ x.T
        x = a * x + (b * squared + c * (squared @ squared)) @ x
    return x


class MuonState(NamedTuple):
    """Muon's memory: the count of updates, int32 of shape (), and their decaying mean."""

    count: Array  # pyright: ignore[reportIncompatibleMethodOverride]
    mu: PyTree


def scale_by_muon(
    ns_coeffs: Coefficients = _COEFFICIENTS,
    ns_steps: int = 5,
    beta: Scalar = 0.95,
    eps: Scalar = 1e-8,
    *,
    nesterov: bool = True,
) -> GradientTransformation:
    """Replaces each matrix of updates by its decaying mean, made orthogonal.

    Arguments:
        ns_coeffs, ns_steps, eps: see `orthogonalize_via_newton_schulz`.
        beta: the decay of the mean, from 0 to below 1.
        nesterov: whether the mean looks one step ahead.

    Raises:
        ArgumentError: in `update`, if an array is not a matrix; `muon` gives those to Adam.

    Source: K. Jordan and others, "Muon: An optimizer for hidden layers in neural networks",
    https://kellerjordan.github.io/posts/muon/.

    Example:
        >>> import funcgrad as fg
        >>> muon = fg.optim.scale_by_muon()
        >>> params = fg.array([[1.0, 1.0], [1.0, 1.0]])
        >>> updates, state = muon.update(fg.array([[0.0, -0.02], [3.0, 0.0]]), muon.init(params))
        >>> (abs(updates) > 0.5).tolist()
        [[False, True], [True, False]]
    """
    check_decays("scale_by_muon", beta=beta)

    def init(params: PyTree) -> MuonState:
        return MuonState(count_zero(), mu=zeros(params))

    def update(updates: PyTree, state: MuonState, params: PyTree = None) -> tuple[PyTree, PyTree]:
        count = state.count + 1
        mu = map_with_updates(lambda m, u: decaying_mean(beta, m, u), state.mu, updates)
        correct = bias_correction(beta, count)
        if nesterov:
            correct_next = bias_correction(beta, count + 1)
            mean = tree.map(lambda m, u: decaying_mean(beta, correct_next(m), correct(u)), mu, updates)
        else:
            mean = tree.map(correct, mu)
        steps = tree.map(lambda m: orthogonalize_via_newton_schulz(m, ns_coeffs, ns_steps, eps), mean)
        return steps, MuonState(count, mu)

    return keep_state_in_single_precision(GradientTransformation(init, update))


def _scale_by_shape(consistent_rms: Scalar | None) -> GradientTransformation:
    def factor(rows: int, columns: int) -> Scalar:
        if consistent_rms is None:
            return max(1.0, columns / rows) ** 0.5
        return max(rows, columns) ** 0.5 * consistent_rms

    def update(updates: PyTree, state: PyTree, params: PyTree = None) -> tuple[PyTree, PyTree]:
        return tree.map(lambda u: u * np.asarray(factor(*u.shape), dtype=u.dtype), updates), state

    return GradientTransformation(init_empty_state, update)


def muon(
    learning_rate: Scalar | Schedule,
    ns_coeffs: Coefficients = _COEFFICIENTS,
    ns_steps: int = 5,
    beta: Scalar = 0.95,
    eps: Scalar = 1e-8,
    weight_decay: Scalar | Schedule = 0.0,
    weight_decay_mask: Mask | None = None,
    *,
    nesterov: bool = True,
    adam_b1: Scalar = 0.9,
    adam_b2: Scalar = 0.999,
    adam_eps_root: Scalar = 0.0,
    adam_weight_decay: Scalar | Schedule = 0.0,
    adam_learning_rate: Scalar | Schedule | None = None,
    consistent_rms: Scalar | None = None,
) -> GradientTransformation:
    """Muon for matrices, AdamW for everything else.

    Embeddings and the last layer are matrices, too, and do better with Adam; `partition` gives them their own.

    Arguments:
        learning_rate: a number, an array of shape (), or a function of the count of earlier steps.
        ns_coeffs, ns_steps, eps: see `orthogonalize_via_newton_schulz`.
        beta, nesterov: see `scale_by_muon`.
        weight_decay, weight_decay_mask: decay of the matrices; see `add_decayed_weights`.
        adam_b1, adam_b2, adam_eps_root, adam_weight_decay, adam_learning_rate: of the `adamw` for what is not a matrix;
            its learning rate is by default that of the matrices, and `nesterov` and `eps` hold for it, too.
        consistent_rms: the root of the mean square that steps are brought to, such as 0.2, which makes learning rates
            comparable to those of Adam. By default steps of a matrix of shape (inputs, outputs) are multiplied by
            `max(1, outputs / inputs) ** 0.5`.

    Returns:
        A `GradientTransformation` whose `update` needs the parameters.

    Source: K. Jordan and others, "Muon: An optimizer for hidden layers in neural networks",
    https://kellerjordan.github.io/posts/muon/; `consistent_rms` is from J. Liu and others, "Muon is Scalable for LLM
    Training", https://arxiv.org/abs/2502.16982.

    Example:
        >>> import funcgrad as fg
        >>> optimizer = fg.optim.muon(0.1)
        >>> params = {"w": fg.array([[1.0, 0.0], [0.0, 1.0]]), "b": fg.array([0.0])}
        >>> gradients = {"w": fg.array([[0.0, -0.02], [3.0, 0.0]]), "b": fg.array([5.0])}
        >>> updates, state = optimizer.update(gradients, optimizer.init(params), params)
        >>> updates["w"].round(2) + 0.0  # of about the same length in every direction
        Array([[ 0.  ,  0.09],
               [-0.07,  0.  ]], dtype=float32)
        >>> updates["b"].round(2)
        Array([-0.15], dtype=float32)
    """
    matrices = chain(
        scale_by_muon(ns_coeffs, ns_steps, beta, eps, nesterov=nesterov),
        _scale_by_shape(consistent_rms),
        add_decayed_weights(weight_decay, weight_decay_mask),
        scale_by_learning_rate(learning_rate),
    )
    others = adamw(
        learning_rate if adam_learning_rate is None else adam_learning_rate,
        adam_b1,
        adam_b2,
        eps,
        adam_eps_root,
        weight_decay=adam_weight_decay,
        nesterov=nesterov,
    )
    labels = lambda params: tree.map(lambda x: "muon" if x.ndim == 2 else "adam", params)
    return partition({"muon": matrices, "adam": others}, labels)
