"""The optimizers of Adam's family: `adam`, `adamw`, `nadam`, `nadamw`, `adamax`, `adamaxw`, `amsgrad`."""

from __future__ import annotations

from typing import Any

from funcgrad.optim.adam import scale_by_adam, scale_by_adamax, scale_by_amsgrad
from funcgrad.optim.decay import add_decayed_weights
from funcgrad.optim.masking import Mask
from funcgrad.optim.scaling import scale_by_learning_rate
from funcgrad.optim.transformation import GradientTransformation, Scalar, Schedule, chain


def adam(
    learning_rate: Scalar | Schedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: Any = None,
    *,
    nesterov: bool = False,
) -> GradientTransformation:
    """Adam: steps of about the learning rate for every parameter, however large or small its gradients are.

    Arguments:
        learning_rate: the length of a step: a number, an array of shape (), or a function of the count of earlier
            steps.
        b1, b2, eps, eps_root, mu_dtype, nesterov: see `scale_by_adam`.

    Returns:
        A `GradientTransformation`.

    Source: D. Kingma and J. Ba, "Adam: A Method for Stochastic Optimization", https://arxiv.org/abs/1412.6980.

    Example:
        >>> import funcgrad as fg
        >>> optimizer = fg.optim.adam(0.1)
        >>> x = fg.array(1.0)
        >>> state = optimizer.init(x)
        >>> for _ in range(3):
        ...     updates, state = optimizer.update(fg.grad(lambda x: x ** 2)(x), state)
        ...     x = fg.optim.apply_updates(x, updates)
        >>> x.round(3)
        Array(0.702, dtype=float32)
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov), scale_by_learning_rate(learning_rate)
    )


def adamw(
    learning_rate: Scalar | Schedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: Any = None,
    weight_decay: Scalar | Schedule = 1e-4,
    mask: Mask | None = None,
    *,
    nesterov: bool = False,
) -> GradientTransformation:
    """Adam with weight decay that its rescaling of the gradients does not touch.

    Arguments:
        learning_rate: see `adam`; the decay of a step is multiplied by it, too.
        b1, b2, eps, eps_root, mu_dtype, nesterov: see `scale_by_adam`.
        weight_decay, mask: see `add_decayed_weights`.

    Returns:
        A `GradientTransformation` whose `update` needs the parameters.

    Source: I. Loshchilov and F. Hutter, "Decoupled Weight Decay Regularization", https://arxiv.org/abs/1711.05101.

    Example, without decay of biases and gains:
        >>> import funcgrad as fg
        >>> optimizer = fg.optim.adamw(
        ...     0.1, weight_decay=0.5, mask=lambda params: fg.tree.map(lambda x: x.ndim > 1, params)
        ... )
        >>> params = {"w": fg.array([[2.0]]), "b": fg.array([2.0])}
        >>> updates, state = optimizer.update(params, optimizer.init(params), params)
        >>> updates
        {'w': Array([[-0.2]], dtype=float32), 'b': Array([-0.1], dtype=float32)}
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )


def nadam(
    learning_rate: Scalar | Schedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: Any = None,
    *,
    nesterov: bool = True,
) -> GradientTransformation:
    """Nadam: Adam whose mean of the gradients looks one step ahead.

    Arguments:
        learning_rate: see `adam`.
        b1, b2, eps, eps_root, mu_dtype, nesterov: see `scale_by_adam`.

    Returns:
        A `GradientTransformation`.

    Source: T. Dozat, "Incorporating Nesterov Momentum into Adam", ICLR 2016 workshop; with a constant `b1`.

    Example:
        >>> import funcgrad as fg
        >>> optimizer = fg.optim.nadam(0.1)
        >>> params = fg.array(1.0)
        >>> updates, state = optimizer.update(fg.array(3.0), optimizer.init(params))
        >>> updates.round(4)
        Array(-0.1474, dtype=float32)
    """
    return adam(learning_rate, b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov)


def nadamw(
    learning_rate: Scalar | Schedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: Any = None,
    weight_decay: Scalar | Schedule = 1e-4,
    mask: Mask | None = None,
    *,
    nesterov: bool = True,
) -> GradientTransformation:
    """Nadam with weight decay that its rescaling of the gradients does not touch: `adamw` with `nesterov`.

    Arguments:
        learning_rate: see `adamw`.
        b1, b2, eps, eps_root, mu_dtype, nesterov: see `scale_by_adam`.
        weight_decay, mask: see `add_decayed_weights`.

    Returns:
        A `GradientTransformation` whose `update` needs the parameters.

    Example:
        >>> import funcgrad as fg
        >>> optimizer = fg.optim.nadamw(0.1, weight_decay=0.5)
        >>> params = fg.array(1.0)
        >>> updates, state = optimizer.update(fg.array(3.0), optimizer.init(params), params)
        >>> updates.round(4)
        Array(-0.1974, dtype=float32)
    """
    return adamw(learning_rate, b1, b2, eps, eps_root, mu_dtype, weight_decay, mask, nesterov=nesterov)


def adamax(
    learning_rate: Scalar | Schedule, b1: Scalar = 0.9, b2: Scalar = 0.999, eps: Scalar = 1e-8
) -> GradientTransformation:
    """Adamax: Adam that divides by the largest of the recent gradients in place of the root of a mean of squares.

    Arguments:
        learning_rate: see `adam`.
        b1, b2, eps: see `scale_by_adamax`.

    Returns:
        A `GradientTransformation`.

    Source: D. Kingma and J. Ba, "Adam: A Method for Stochastic Optimization", section 7.1,
    https://arxiv.org/abs/1412.6980.

    Example:
        >>> import funcgrad as fg
        >>> optimizer = fg.optim.adamax(0.1)
        >>> updates, state = optimizer.update(fg.array([3.0, -0.1]), optimizer.init(fg.array([0.0, 0.0])))
        >>> updates.round(4)
        Array([-0.1,  0.1], dtype=float32)
    """
    return chain(scale_by_adamax(b1, b2, eps), scale_by_learning_rate(learning_rate))


def adamaxw(
    learning_rate: Scalar | Schedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    weight_decay: Scalar | Schedule = 1e-4,
    mask: Mask | None = None,
) -> GradientTransformation:
    """Adamax with weight decay that its rescaling of the gradients does not touch.

    Arguments:
        learning_rate: see `adamw`.
        b1, b2, eps: see `scale_by_adamax`.
        weight_decay, mask: see `add_decayed_weights`.

    Returns:
        A `GradientTransformation` whose `update` needs the parameters.

    Example:
        >>> import funcgrad as fg
        >>> optimizer = fg.optim.adamaxw(0.1, weight_decay=0.5)
        >>> params = fg.array(1.0)
        >>> updates, state = optimizer.update(fg.array(3.0), optimizer.init(params), params)
        >>> updates.round(4)
        Array(-0.15, dtype=float32)
    """
    return chain(
        scale_by_adamax(b1, b2, eps), add_decayed_weights(weight_decay, mask), scale_by_learning_rate(learning_rate)
    )


def amsgrad(
    learning_rate: Scalar | Schedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: Any = None,
    bias_correction_mu: bool = True,
    bias_correction_nu: bool = True,
) -> GradientTransformation:
    """AMSGrad: Adam whose divisor never shrinks, so that rare large gradients are not forgotten.

    Arguments:
        learning_rate: see `adam`.
        b1, b2, eps, eps_root, mu_dtype, bias_correction_mu, bias_correction_nu: see `scale_by_amsgrad`.

    Returns:
        A `GradientTransformation`.

    Source: S. Reddi, S. Kale and S. Kumar, "On the Convergence of Adam and Beyond", https://arxiv.org/abs/1904.09237.

    Example:
        >>> import funcgrad as fg
        >>> optimizer = fg.optim.amsgrad(0.1)
        >>> updates, state = optimizer.update(fg.array([3.0, -0.1]), optimizer.init(fg.array([0.0, 0.0])))
        >>> updates.round(4)
        Array([-0.1,  0.1], dtype=float32)
    """
    return chain(
        scale_by_amsgrad(b1, b2, eps, eps_root, mu_dtype, bias_correction_mu, bias_correction_nu),
        scale_by_learning_rate(learning_rate),
    )
