"""Normalization over the features of each example: layer, root mean square, group and instance normalization.

Means and variances of float16 and bfloat16 inputs are computed in float32, and the results have the dtype of the input.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funcgrad import dtypes
from funcgrad import numpy as np
from funcgrad.annotations import Array, ArrayLike, Float, Key, Real
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.nn.linear import check_sizes
from funcgrad.nn.module import Module
from funcgrad.primitives.operators import cast, promote_inexact


def widened(x: Any) -> tuple[Array, Any]:
    """`x` in a dtype in which sums are precise, and its own dtype."""
    (x,) = promote_inexact(x)
    return (cast(x, dtypes.float32) if x.dtype.itemsize < 4 else x), x.dtype


def standardized(x: Array, axes: tuple[int, ...], epsilon: float) -> Array:
    """`x` less its mean along the axes, divided by its standard deviation."""
    centered = x - x.mean(axis=axes, keepdims=True)
    variance = (centered * centered).mean(axis=axes, keepdims=True)
    return centered / np.sqrt(variance + epsilon)


def _sizes(layer: str, shape: int | Sequence[int]) -> tuple[int, ...]:
    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    for size in sizes:
        check_sizes(layer, shape=size)
    if not sizes:
        raise ArgumentError(f"{layer} got shape={shape!r}; give the lengths of one or more axes.")
    return sizes


def _check_last(layer: str, x: Array, shape: tuple[int, ...]) -> None:
    if x.shape[-len(shape) :] != shape:
        raise ShapeError(f"{layer}({shape}) got an input of shape {x.shape}; its last axes must be {shape}.")


class LayerNorm(Module):
    """Gives the features of each example mean 0 and variance 1, and then a learnt scale and offset.

    Arguments:
        shape: the lengths of the last axes, over which to normalize; a number stands for one axis.
        epsilon: added to the variance.
        use_weight, use_bias: whether there are a scale, which begins with ones, and an offset, which begins with zeros.
        dtype: the dtype of the parameters.

    Attributes:
        weight, bias: arrays of the shape, or None.

    Source: J. Ba, J. Kiros and G. Hinton, https://arxiv.org/abs/1607.06450.

    Example:
        >>> import funcgrad as fg
        >>> fg.nn.LayerNorm(2)(fg.array([[1.0, 3.0], [-5.0, 5.0]])).round(3)
        Array([[-1.,  1.],
               [-1.,  1.]], dtype=float32)
    """

    weight: Float[Array, "..."] | None
    bias: Float[Array, "..."] | None
    shape: tuple[int, ...]
    epsilon: float

    def __init__(
        self,
        shape: int | Sequence[int],
        *,
        epsilon: Real = 1e-5,
        use_weight: bool = True,
        use_bias: bool = True,
        dtype: Any = dtypes.float32,
    ):
        self.shape, self.epsilon = _sizes("LayerNorm", shape), float(epsilon)
        self.weight = np.ones(self.shape, dtype) if use_weight else None
        self.bias = np.zeros(self.shape, dtype) if use_bias else None

    def __call__(self, x: Float[ArrayLike, "*shape"], *, key: Key | None = None) -> Float[Array, "*shape"]:
        """The normalized input.

        Arguments:
            x: one example, of the shape of the layer, or a batch with any number of axes before it.
            key: not used.

        Raises:
            ShapeError: if the last axes of `x` do not have the shape of the layer.
        """
        x, dtype = widened(x)
        _check_last("LayerNorm", x, self.shape)
        y = standardized(x, tuple(range(-len(self.shape), 0)), self.epsilon)
        y = y if self.weight is None else y * self.weight
        return cast(y if self.bias is None else y + self.bias, dtype)


class RMSNorm(Module):
    """Divides the features of each example by the root of their mean square, and gives them a learnt scale.

    Arguments:
        shape: the lengths of the last axes, over which to normalize; a number stands for one axis.
        epsilon: added to the mean square.
        use_weight: whether there is a scale, which begins with ones.
        dtype: the dtype of the scale.

    Attributes:
        weight: an array of the shape, or None.

    Source: B. Zhang and R. Sennrich, https://arxiv.org/abs/1910.07467.

    Example:
        >>> import funcgrad as fg
        >>> fg.nn.RMSNorm(2)(fg.array([3.0, 3.0])).round(3)
        Array([1., 1.], dtype=float32)
    """

    weight: Float[Array, "..."] | None
    shape: tuple[int, ...]
    epsilon: float

    def __init__(
        self,
        shape: int | Sequence[int],
        *,
        epsilon: Real = 1e-5,
        use_weight: bool = True,
        dtype: Any = dtypes.float32,
    ):
        self.shape, self.epsilon = _sizes("RMSNorm", shape), float(epsilon)
        self.weight = np.ones(self.shape, dtype) if use_weight else None

    def __call__(self, x: Float[ArrayLike, "*shape"], *, key: Key | None = None) -> Float[Array, "*shape"]:
        """The normalized input.

        Arguments:
            x: one example, of the shape of the layer, or a batch with any number of axes before it.
            key: not used.

        Raises:
            ShapeError: if the last axes of `x` do not have the shape of the layer.
        """
        x, dtype = widened(x)
        _check_last("RMSNorm", x, self.shape)
        axes = tuple(range(-len(self.shape), 0))
        y = x / np.sqrt((x * x).mean(axis=axes, keepdims=True) + self.epsilon)
        return cast(y if self.weight is None else y * self.weight, dtype)


class GroupNorm(Module):
    """Gives each group of channels of each example mean 0 and variance 1, and each channel a scale and an offset.

    Arguments:
        groups: the number of groups.
        channels: the number of channels, which the number of groups divides.
        epsilon: added to the variance.
        affine: whether there are a scale, which begins with ones, and an offset, which begins with zeros.
        channel_axis: which axis holds the channels. Axes before it are batch axes, and those after it are normalized
            over; 0 is for one example.
        dtype: the dtype of the parameters.

    Attributes:
        weight, bias: arrays of shape (channels,), or None.

    Source: Y. Wu and K. He, https://arxiv.org/abs/1803.08494.

    Example:
        >>> import funcgrad as fg
        >>> x = fg.random.normal(fg.random.key(0), (8, 6, 5, 5))
        >>> fg.nn.GroupNorm(3, 6)(x).shape
        (8, 6, 5, 5)
    """

    weight: Float[Array, " channels"] | None
    bias: Float[Array, " channels"] | None
    groups: int
    channels: int
    epsilon: float
    channel_axis: int

    def __init__(
        self,
        groups: int,
        channels: int,
        *,
        epsilon: Real = 1e-5,
        affine: bool = True,
        channel_axis: int = 1,
        dtype: Any = dtypes.float32,
    ):
        kind = type(self).__name__
        check_sizes(kind, groups=groups, channels=channels, channel_axis=channel_axis)
        if groups == 0 or channels % groups:
            raise ArgumentError(f"{kind} cannot divide {channels} channels into {groups} groups of one size.")
        self.groups, self.channels, self.channel_axis = groups, channels, channel_axis
        self.epsilon = float(epsilon)
        self.weight = np.ones(channels, dtype) if affine else None
        self.bias = np.zeros(channels, dtype) if affine else None

    def __call__(self, x: Float[ArrayLike, "*shape"], *, key: Key | None = None) -> Float[Array, "*shape"]:
        """The normalized input.

        Arguments:
            x: an array with `channels` elements on the axis of channels, (batch, channels, *spatial) by default.
            key: not used.

        Raises:
            ShapeError: if the axis of channels has another length.
        """
        x, dtype = widened(x)
        axis = self.channel_axis
        if x.ndim <= axis or x.shape[axis] != self.channels:
            raise ShapeError(
                f"{type(self).__name__} of {self.channels} channels got an input of shape {x.shape}; "
                f"its axis {axis} must have {self.channels} elements."
            )
        grouped = x.reshape(*x.shape[:axis], self.groups, self.channels // self.groups, *x.shape[axis + 1 :])
        y = standardized(grouped, tuple(range(axis + 1, grouped.ndim)), self.epsilon).reshape(x.shape)
        if self.weight is not None and self.bias is not None:
            ones = (1,) * (x.ndim - axis - 1)
            y = y * self.weight.reshape(self.channels, *ones) + self.bias.reshape(self.channels, *ones)
        return cast(y, dtype)


class InstanceNorm(GroupNorm):
    """Gives each channel of each example mean 0 and variance 1 over its spatial axes.

    Arguments:
        channels: the number of channels.
        epsilon: added to the variance.
        affine: whether each channel has a learnt scale and offset.
        channel_axis: which axis holds the channels. Axes before it are batch axes, and those after it are spatial.
        dtype: the dtype of the parameters.

    Source: D. Ulyanov, A. Vedaldi and V. Lempitsky, https://arxiv.org/abs/1607.08022.

    Example:
        >>> import funcgrad as fg
        >>> x = fg.random.normal(fg.random.key(0), (8, 6, 5, 5))
        >>> fg.nn.InstanceNorm(6)(x).shape
        (8, 6, 5, 5)
    """

    def __init__(
        self,
        channels: int,
        *,
        epsilon: Real = 1e-5,
        affine: bool = False,
        channel_axis: int = 1,
        dtype: Any = dtypes.float32,
    ):
        super().__init__(channels, channels, epsilon=epsilon, affine=affine, channel_axis=channel_axis, dtype=dtype)
