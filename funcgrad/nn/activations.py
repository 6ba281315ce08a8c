"""Activation functions, and the other functions that networks are made of, with the names that `jax.nn` gives them.

Where a function has a kink, its derivative there is one of the two sides, so that a value that is exactly 0 (a common
one behind a relu) moves as a whole or not at all. Each function is written so that neither its value nor any derivative
overflows: the side of a `where` that is not taken must be harmless too, because reverse mode multiplies it by zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from funcgrad import numpy as np
from funcgrad.annotations import Array, ArrayLike, Bool, Float, Inexact, Integer, Num, Real
from funcgrad.errors import ArgumentError
from funcgrad.numpy.axes import normalize_axis
from funcgrad.primitives.elementwise import erfc, logistic, stop_gradient
from funcgrad.primitives.operators import promote_inexact
from funcgrad.transforms.custom_derivatives import custom_jvp

Activation = Callable[[Array], Array]


def identity(x: Num[ArrayLike, "*shape"]) -> Num[Array, "*shape"]:
    """The function that gives back its argument.

    Example:
        >>> import funcgrad as fg
        >>> fg.nn.identity(fg.array([1.0, -1.0]))
        Array([ 1., -1.], dtype=float32)
    """
    return np.asarray(x)


# Rectifiers


def relu(x: Num[ArrayLike, "*shape"]) -> Num[Array, "*shape"]:
    """The rectified linear unit, max(x, 0). Its derivative at 0 is 0.

    Arguments:
        x: numbers of any shape.

    Returns:
        An array of the shape and dtype of `x`.

    Example:
        >>> import funcgrad as fg
        >>> fg.nn.relu(fg.array([-1.0, 0.0, 2.0]))
        Array([0., 0., 2.], dtype=float32)
    """
    # NaN is not <= 0, so it stays NaN.
    return np.where(np.less_equal(x, 0), 0, x)


def relu6(x: Num[ArrayLike, "*shape"]) -> Num[Array, "*shape"]:
    """The rectified linear unit that saturates at 6, min(max(x, 0), 6). Its derivative at 0 and at 6 is 0.

    Source: A. Krizhevsky, "Convolutional Deep Belief Networks on CIFAR-10", 2010.

    Example:
        >>> import funcgrad as fg
        >>> fg.nn.relu6(fg.array([-1.0, 2.0, 10.0]))
        Array([0., 2., 6.], dtype=float32)
    """
    return np.where(np.greater_equal(x, 6), 6, relu(x))


def leaky_relu(
    x: Float[ArrayLike, "*shape"], negative_slope: Real | Float[Array, "..."] = 0.01
) -> Float[Array, "*shape"]:
    """The identity for x >= 0, and a line of a small slope below. Its derivative at 0 is 1.

    Arguments:
        x: floats of any shape.
        negative_slope: the slope below 0, a number or an array that broadcasts to the shape of `x`.

    Example:
        >>> import funcgrad as fg
        >>> fg.nn.leaky_relu(fg.array([-1.0, 2.0]), 0.1)
        Array([-0.1,  2. ], dtype=float32)
    """
    return np.where(np.greater_equal(x, 0), x, np.multiply(x, negative_slope))


def _where_positive(x: Any, negative: Callable[[Array], Array]) -> Array:
    """`x` where it is positive, and elsewhere a function of it, which sees no positive number."""
    is_positive = np.greater(x, 0)
    return np.where(is_positive, x, negative(np.where(is_positive, 0.0, x)))


def elu(x: Float[ArrayLike, "*shape"], alpha: Real | Float[Array, "..."] = 1.0) -> Float[Array, "*shape"]:
    """The exponential linear unit: the identity above 0, alpha * (exp(x) - 1) below. Its derivative at 0 is alpha.

    Source: D. Clevert, T. Unterthiner and S. Hochreiter, https://arxiv.org/abs/1511.07289.

    Example:
        >>> import funcgrad as fg
        >>> fg.nn.elu(fg.array([-100.0, 2.0]))
        Array([-1.,  2.], dtype=float32)
    """
    return _where_positive(x, lambda x: np.expm1(x) * alpha)


def celu(x: Float[ArrayLike, "*shape"], alpha: Real | Float[Array, "..."] = 1.0) -> Float[Array, "*shape"]:
    """The exponential linear unit with derivative 1 at 0: alpha * (exp(x / alpha) - 1) below 0, the identity above.

    Source: J. Barron, https://arxiv.org/abs/1704.07483.

    Example:
        >>> import funcgrad as fg
        >>> fg.nn.celu(fg.array([-100.0, 2.0]), alpha=2.0)
        Array([-2.,  2.], dtype=float32)
    """
    return _where_positive(x, lambda x: np.expm1(x / alpha) * alpha)


def selu(x: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """The scaled exponential linear unit, which keeps mean 0 and variance 1 from layer to layer.

    Source: G. Klambauer, T. Unterthiner, A. Mayr and S. Hochreiter, https://arxiv.org/abs/1706.02515.

    Example:
        >>> import funcgrad as fg
        >>> fg.nn.selu(fg.array([-100.0, 1.0]))
        Array([-1.7580993,  1.050701 ], dtype=float32)
    """
    return elu(x, 1.6732632423543772) * 1.0507009873554805


# Smooth relatives of the rectifier


def sigmoid(x: Inexact[ArrayLike, "*shape"] | int) -> Inexact[Array, "*shape"]:
    """The logistic function 1 / (1 + exp(-x)).

    Example:
        >>> import funcgrad as fg
        >>> fg.nn.sigmoid(fg.array([-1000.0, 0.0, 1000.0]))
        Array([0. , 0.5, 1. ], dtype=float32)
    """
    return logistic(*promote_inexact(x))


@custom_jvp
def _softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


@_softplus.defjvp
def _softplus_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    # The formula above has kinks at 0 that cancel in the value, but not in derivatives.
    (x,), (tangent,) = primals, tangents
    return _softplus(x), tangent * logistic(x)


def softplus(x: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """The smooth rectifier log(1 + exp(x)). Its derivative is `sigmoid(x)`.

    Example:
        >>> import funcgrad as fg
        >>> fg.nn.softplus(fg.array([-1000.0, 0.0, 100.0]))
        Array([  0.       ,   0.6931472, 100.       ], dtype=float32)
    """
    return _softplus(*promote_inexact(x))


def log_sigmoid(x: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """The logarithm of the logistic function, without underflow: -softplus(-x).

    Example:
        >>> import funcgrad as fg
        >>> fg.nn.log_sigmoid(fg.array([-100.0, 0.0]))
        Array([-100.       ,   -0.6931472], dtype=float32)
    """
    return -softplus(np.negative(x))


def silu(x: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """The sigmoid linear unit x * sigmoid(x), also called swish.

    Source: S. Elfwing, E. Uchibe and K. Doya, https://arxiv.org/abs/1702.03118.

    Example:
        >>> import funcgrad as fg
        >>> fg.nn.silu(fg.array([-100.0, 0.0, 100.0]))
        Array([ -0.,   0., 100.], dtype=float32)
    """
    return x * sigmoid(x)


swish = silu


def gelu(x: Float[ArrayLike, "*shape"], approximate: bool = True) -> Float[Array, "*shape"]:
    """The Gaussian error linear unit: x times the probability that a standard normal number is below x.

    Arguments:
        x: floats of any shape.
        approximate: whether to use the approximation by tanh (the default, within 5e-4) or the exact formula by erf.

    Source: D. Hendrycks and K. Gimpel, https://arxiv.org/abs/1606.08415.

    Example:
        >>> import funcgrad as fg
        >>> fg.nn.gelu(fg.array(1.0)), fg.nn.gelu(fg.array(1.0), approximate=False)
        (Array(0.841192, dtype=float32), Array(0.8413447, dtype=float32))
    """
    (x,) = promote_inexact(x)
    if not approximate:
        return 0.5 * x * erfc(x * -math.sqrt(0.5))
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * (x * x * x))))


def mish(x: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """The self-regularised unit x * tanh(softplus(x)).

    Source: D. Misra, https://arxiv.org/abs/1908.08681.

    Example:
        >>> import funcgrad as fg
        >>> fg.nn.mish(fg.array([0.0, 100.0]))
        Array([  0., 100.], dtype=float32)
    """
    return x * np.tanh(softplus(x))


def soft_sign(x: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """The squashing function x / (1 + |x|).

    Example:
        >>> import funcgrad as fg
        >>> fg.nn.soft_sign(fg.array([-1.0, 3.0]))
        Array([-0.5 ,  0.75], dtype=float32)
    """
    return x / (1.0 + np.abs(x))


# Piecewise linear squashing functions


def hard_tanh(x: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """`x` limited to [-1, 1]. Its derivative at -1 and at 1 is 1.

    Example:
        >>> import funcgrad as fg
        >>> fg.nn.hard_tanh(fg.array([-2.0, 0.5, 2.0]))
        Array([-1. ,  0.5,  1. ], dtype=float32)
    """
    return np.where(np.greater(x, 1), 1, np.where(np.less(x, -1), -1, x))


def hard_sigmoid(x: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """A logistic function made of three lines: relu6(x + 3) / 6.

    Example:
        >>> import funcgrad as fg
        >>> fg.nn.hard_sigmoid(fg.array([-4.0, 0.0, 4.0]))
        Array([0. , 0.5, 1. ], dtype=float32)
    """
    return relu6(np.add(x, 3.0)) / 6.0


def hard_silu(x: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """The piecewise relative of `silu`: x * hard_sigmoid(x).

    Source: A. Howard et al., "Searching for MobileNetV3", https://arxiv.org/abs/1905.02244.

    Example:
        >>> import funcgrad as fg
        >>> fg.nn.hard_silu(fg.array([-4.0, 0.0, 4.0]))
        Array([-0.,  0.,  4.], dtype=float32)
    """
    return x * hard_sigmoid(x)


hard_swish = hard_silu


# Functions of a whole axis


def softmax(
    x: Float[ArrayLike, "*shape"],
    axis: int | tuple[int, ...] | None = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*shape"]:
    """Turns numbers into probabilities in proportion to their exponentials: positive, with sum 1 along an axis.

    Arguments:
        x: floats of any shape; -inf stands for the probability 0.
        axis: the axis, or axes, along which the probabilities sum to 1; None for all of them.
        where: which elements to count, broadcast to the shape of `x`; the others get the probability 0. Where none is
            counted, the result is NaN.

    Returns:
        An array of the shape of `x`.

    Example:
        >>> import funcgrad as fg
        >>> fg.nn.softmax(fg.array([1000.0, 1000.0, 0.0]))
        Array([0.5, 0.5, 0. ], dtype=float32)
    """
    exponentials = np.exp(_below_largest(x, axis, where))
    return exponentials / exponentials.sum(axis=axis, keepdims=True)


def log_softmax(
    x: Float[ArrayLike, "*shape"],
    axis: int | tuple[int, ...] | None = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*shape"]:
    """The logarithm of `softmax`, precise also for probabilities that are too small to be represented.

    Arguments and result are those of `softmax`; elements that are not counted get -inf.

    Example:
        >>> import funcgrad as fg
        >>> fg.nn.log_softmax(fg.array([1000.0, 0.0]))
        Array([    0., -1000.], dtype=float32)
    """
    shifted = _below_largest(x, axis, where)
    return shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))


def _below_largest(x: Any, axis: Any, where: Any) -> Array:
    """`x` less its largest element along the axis, which changes no softmax but keeps `exp` from overflowing."""
    (x,) = promote_inexact(x)
    if where is not None:
        x = np.where(where, x, -math.inf)
    return x - stop_gradient(x.max(axis=axis, keepdims=True))


def logsumexp(
    a: Float[ArrayLike, "*shape"],
    axis: int | tuple[int, ...] | None = None,
    b: ArrayLike | None = None,
    keepdims: bool = False,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "..."]:
    """The logarithm of the sum of exponentials, log(sum(b * exp(a))), without overflow.

    Arguments:
        a: floats of any shape.
        axis: the axis, or axes, to sum over; None for all of them.
        b: factors, broadcast to the shape of `a`; by default 1. Where the sum is negative, the result is NaN.
        keepdims: whether to keep the summed axes, with length 1.
        where: which elements to count, broadcast to the shape of `a`.

    Returns:
        An array without the summed axes; -inf where all of `a` is -inf.

    Example:
        >>> import funcgrad as fg
        >>> fg.nn.logsumexp(fg.array([1000.0, 1000.0]))
        Array(1000.6932, dtype=float32)
    """
    (x,) = promote_inexact(a)
    if where is not None:
        x = np.where(where, x, -math.inf)
    largest = stop_gradient(x.max(axis=axis, keepdims=True))
    largest = np.where(np.isfinite(largest), largest, 0)  # inf - inf would be NaN
    exponentials = np.exp(x - largest)
    total = (exponentials if b is None else exponentials * b).sum(axis=axis, keepdims=True)
    result = np.log(total) + largest
    return result if keepdims else result.squeeze(axis)


def glu(x: Float[ArrayLike, "*shape"], axis: int = -1) -> Float[Array, "..."]:
    """The gated linear unit: one half of an axis times the sigmoid of the other half.

    Arguments:
        x: floats of any shape.
        axis: the axis to cut in two; its length must be even.

    Returns:
        An array in which the axis is half as long.

    Raises:
        ArgumentError: if the length of the axis is odd.

    Source: Y. Dauphin, A. Fan, M. Auli and D. Grangier, https://arxiv.org/abs/1612.08083.

    Example:
        >>> import funcgrad as fg
        >>> fg.nn.glu(fg.array([3.0, 0.0]))
        Array([1.5], dtype=float32)
    """
    x = np.asarray(x)
    if x.shape[axis] % 2:
        raise ArgumentError(f"glu cuts axis {axis} in two halves, and its length {x.shape[axis]} is odd.")
    value, gate = np.split(x, 2, axis=axis)
    return value * sigmoid(gate)


def one_hot(x: Integer[ArrayLike, "*shape"], num_classes: int, *, dtype: Any = np.float32, axis: int = -1) -> Array:
    """Turns class numbers into vectors that are 1 at that class and 0 elsewhere.

    Arguments:
        x: integers of any shape; those that are no class, negative or too large, give a vector of zeros.
        num_classes: the number of classes, which is the length of the vectors.
        dtype: the dtype of the result.
        axis: where the axis of the classes goes in the result.

    Returns:
        An array of `dtype` with one more axis than `x`.

    Example:
        >>> import funcgrad as fg
        >>> fg.nn.one_hot(fg.array([0, 2, 3]), 3)
        Array([[1., 0., 0.],
               [0., 0., 1.],
               [0., 0., 0.]], dtype=float32)
    """
    x = np.asarray(x)
    axis = normalize_axis("one_hot", axis, x.ndim + 1)
    classes = np.arange(num_classes).reshape(num_classes, *(1,) * (x.ndim - axis))
    return np.equal(np.expand_dims(x, axis), classes).astype(dtype)


tanh = np.tanh
