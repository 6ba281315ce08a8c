"""LAMB and LARS: steps in proportion to the size of what they change, one array of parameters at a time."""

from __future__ import annotations

from funcgrad import numpy as np
from funcgrad.annotations import Array
from funcgrad.optim.adam import scale_by_adam
from funcgrad.optim.arithmetic import keep_state_in_single_precision, squared_magnitude
from funcgrad.optim.decay import add_decayed_weights
from funcgrad.optim.masking import Mask, masked
from funcgrad.optim.scaling import scale_by_learning_rate
from funcgrad.optim.sgd import trace
from funcgrad.optim.transformation import (
    GradientTransformation,
    PyTree,
    Scalar,
    Schedule,
    chain,
    init_empty_state,
    map_with_updates,
    require_params,
)


def scale_by_trust_ratio(
    min_norm: Scalar = 0.0, trust_coefficient: Scalar = 1.0, eps: Scalar = 0.0
) -> GradientTransformation:
    """Rescales the update of each array by the norm of its parameters over the norm of the update.

    Arguments:
        min_norm: the least that either norm counts for.
        trust_coefficient: multiplies the ratio.
        eps: added to the norm of the update.

    Where one of the norms is zero, the update stays as it is.

    Raises:
        ArgumentError: in `update`, if it is not given the parameters.

    Source: Y. You, I. Gitman and B. Ginsburg, "Large Batch Training of Convolutional Networks",
    https://arxiv.org/abs/1708.03888.

    Example:
        >>> import funcgrad as fg
        >>> trust = fg.optim.scale_by_trust_ratio()
        >>> params = fg.array([3.0, 4.0])
        >>> updates, state = trust.update(fg.array([0.0, 0.1]), trust.init(params), params)
        >>> updates
        Array([0., 5.], dtype=float32)
    """

    def norm(x: Array) -> Array:
        square = np.sum(squared_magnitude(x))
        # No root of zero, whose derivative would be infinite.
        positive = square > 0
        return np.maximum(np.where(positive, np.sqrt(np.where(positive, square, 1)), 0), min_norm)

    def update(updates: PyTree, state: PyTree, params: PyTree = None) -> tuple[PyTree, PyTree]:
        require_params(params, "scale_by_trust_ratio")

        def scaled(p: Array, u: Array) -> Array:
            size, length = norm(p.astype(u.dtype)), norm(u)
            usable = (size > 0) & (length > 0)
            ratio = trust_coefficient * size / (np.where(usable, length, 1) + eps)
            return u * np.where(usable, ratio, 1).astype(u.dtype)

        return map_with_updates(scaled, params, updates), state

    return keep_state_in_single_precision(GradientTransformation(init_empty_state, update))


def lamb(
    learning_rate: Scalar | Schedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-6,
    eps_root: Scalar = 0.0,
    weight_decay: Scalar | Schedule = 0.0,
    mask: Mask | None = None,
) -> GradientTransformation:
    """LAMB: Adam's steps, brought to a length in proportion to the parameters; for very large batches.

    Arguments:
        learning_rate: a number, an array of shape (), or a function of the count of earlier steps.
        b1, b2, eps, eps_root: see `scale_by_adam`.
        weight_decay, mask: see `add_decayed_weights`.

    Returns:
        A `GradientTransformation` whose `update` needs the parameters.

    Source: Y. You and others, "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes",
    https://arxiv.org/abs/1904.00962.

    Example:
        >>> import funcgrad as fg
        >>> optimizer = fg.optim.lamb(0.1)
        >>> params = fg.array([3.0, 4.0])
        >>> updates, state = optimizer.update(fg.array([1.0, -0.01]), optimizer.init(params), params)
        >>> fg.optim.global_norm(updates)
        Array(0.5, dtype=float32)
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root),
        add_decayed_weights(weight_decay, mask),
        scale_by_trust_ratio(),
        scale_by_learning_rate(learning_rate),
    )


def lars(
    learning_rate: Scalar | Schedule,
    weight_decay: Scalar | Schedule = 0.0,
    weight_decay_mask: Mask | None = True,
    trust_coefficient: Scalar = 0.001,
    eps: Scalar = 0.0,
    trust_ratio_mask: Mask | None = True,
    momentum: Scalar = 0.9,
    nesterov: bool = False,
) -> GradientTransformation:
    """LARS: descent with momentum, each array's step in proportion to the size of its parameters.

    Arguments:
        learning_rate: a number, an array of shape (), or a function of the count of earlier steps.
        weight_decay, weight_decay_mask: see `add_decayed_weights`.
        trust_coefficient, eps: see `scale_by_trust_ratio`.
        trust_ratio_mask: which parameters have their steps brought to size; see `masked`.
        momentum, nesterov: see `trace`.

    Returns:
        A `GradientTransformation` whose `update` needs the parameters.

    Source: Y. You, I. Gitman and B. Ginsburg, "Large Batch Training of Convolutional Networks",
    https://arxiv.org/abs/1708.03888.

    Example:
        >>> import funcgrad as fg
        >>> optimizer = fg.optim.lars(1.0, trust_coefficient=0.1)
        >>> params = fg.array([3.0, 4.0])
        >>> updates, state = optimizer.update(fg.array([0.0, 100.0]), optimizer.init(params), params)
        >>> updates
        Array([ 0. , -0.5], dtype=float32)
    """
    trust = scale_by_trust_ratio(trust_coefficient=trust_coefficient, eps=eps)
    return chain(
        add_decayed_weights(weight_decay, weight_decay_mask),
        trust if trust_ratio_mask is None else masked(trust, trust_ratio_mask),
        scale_by_learning_rate(learning_rate),
        trace(momentum, nesterov),
    )
