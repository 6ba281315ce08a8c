"""The optimizers, each a chain of transformations."""

from __future__ import annotations

from funcgrad.optim.scaling import Scalar, Schedule, scale_by_adam, scale_by_learning_rate, trace
from funcgrad.optim.transformation import GradientTransformation, chain


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


def adam(
    learning_rate: Scalar | Schedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
) -> GradientTransformation:
    """Adam: steps of about the learning rate for every parameter, however large or small its gradients are.

    Arguments:
        learning_rate: the length of a step: a number, an array of shape (), or a function of the count of earlier
            steps.
        b1, b2, eps, eps_root: see `scale_by_adam`.

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
    return chain(scale_by_adam(b1, b2, eps, eps_root), scale_by_learning_rate(learning_rate))
