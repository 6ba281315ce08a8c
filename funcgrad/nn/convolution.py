"""Convolutions over one, two and three spatial axes, and their transposes.

Channels come before the spatial axes: one image has the shape (channels, height, width), and a batch one more axis at
the front.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from funcgrad import dtypes, random
from funcgrad import numpy as np
from funcgrad.annotations import Array, ArrayLike, Float, Key
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.lax.convolution import conv_general_dilated
from funcgrad.nn.linear import check_sizes
from funcgrad.nn.module import Module
from funcgrad.primitives.operators import promote_inexact

Sizes = int | Sequence[int]
Padding = int | str | Sequence[int | tuple[int, int]]
_Pairs = tuple[tuple[int, int], ...]


def per_axis(layer: str, name: str, given: Any, spatial: int, least: int) -> tuple[int, ...]:
    """One integer for each spatial axis; a single one is for all of them."""
    sizes = (given,) * spatial if isinstance(given, int) else given
    is_right = isinstance(sizes, Sequence) and not isinstance(sizes, str) and len(sizes) == spatial
    if not is_right or any(not isinstance(n, int) or isinstance(n, bool) or n < least for n in sizes):
        raise ArgumentError(
            f"{layer} got {name}={given!r}; give an integer that is at least {least}, or {spatial} of them, one for "
            "each spatial axis."
        )
    return tuple(sizes)


def padding_pairs(layer: str, given: Any, spatial: int) -> _Pairs:
    """Padding before and after each spatial axis."""
    if isinstance(given, Sequence) and not isinstance(given, str) and len(given) == spatial:
        pairs = [(item, item) if isinstance(item, int) else item for item in given]
        if all(isinstance(p, Sequence) and len(p) == 2 and all(isinstance(n, int) for n in p) for p in pairs):
            return tuple((low, high) for low, high in pairs)
    elif isinstance(given, int):
        return ((given, given),) * spatial
    raise ArgumentError(
        f"{layer} got padding={given!r}; give an integer, or for each of {spatial} spatial axes an integer or a pair "
        "(before, after)."
    )


_AXES = {1: "length", 2: "height, width", 3: "depth, height, width"}


class Convolution(Module):
    """What `Conv1d`, `Conv2d` and `Conv3d` have in common: sums over windows that slide along the spatial axes.

    It begins as in PyTorch: weight and bias are drawn uniformly from (-1/sqrt(n), 1/sqrt(n)), where n is the number of
    elements that one output is a sum of.

    Arguments:
        in_channels: the number of channels of the input.
        out_channels: the number of channels of the output.
        window: the lengths of a window along the spatial axes; a number stands for all of them.
        key: the random key from which the parameters are drawn.
        stride: by how much windows move.
        padding: how many zeros to add before and after each spatial axis: a number; for each axis a number or a pair
            (before, after); "SAME" for so many that the output has ceil(length / stride) elements; or "VALID" for none.
        dilation: how far the elements of a window are apart.
        groups: into how many groups the channels are divided, each with a convolution of its own. As many groups as
            channels make a depthwise convolution.
        use_bias: whether there is a bias.
        dtype: the dtype of the parameters.

    Attributes:
        weight: an array of shape (out_channels, in_channels / groups, *window).
        bias: an array of shape (out_channels,), or None.
    """

    spatial = 0

    weight: Float[Array, "out_channels group_channels *window"]
    bias: Float[Array, " out_channels"] | None
    in_channels: int
    out_channels: int
    stride: tuple[int, ...]
    padding: str | _Pairs
    dilation: tuple[int, ...]
    groups: int

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        window: Sizes,
        *,
        key: Key,
        stride: Sizes = 1,
        padding: Padding = 0,
        dilation: Sizes = 1,
        groups: int = 1,
        use_bias: bool = True,
        dtype: Any = dtypes.float32,
    ):
        kind, spatial = type(self).__name__, self.spatial
        window = self._set(in_channels, out_channels, window, stride, dilation, groups)
        if isinstance(padding, str):
            if padding.upper() not in ("SAME", "SAME_LOWER", "VALID"):
                raise ArgumentError(f"{kind} got padding={padding!r}; give 'SAME', 'SAME_LOWER', 'VALID' or numbers.")
            self.padding = padding.upper()
        else:
            self.padding = padding_pairs(kind, padding, spatial)
        shape = (out_channels, in_channels // groups, *window)
        self.weight, self.bias = _parameters(key, shape, out_channels if use_bias else None, dtype)

    def _set(self, in_channels: Any, out_channels: Any, window: Any, stride: Any, dilation: Any, groups: Any):
        """Check and set the sizes; gives the lengths of the window."""
        kind, spatial = type(self).__name__, self.spatial
        check_sizes(kind, in_channels=in_channels, out_channels=out_channels, groups=groups)
        if groups == 0 or in_channels % groups or out_channels % groups:
            raise ArgumentError(
                f"{kind} cannot divide {in_channels} input and {out_channels} output channels into {groups} groups."
            )
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.stride = per_axis(kind, "stride", stride, spatial, 1)
        self.dilation = per_axis(kind, "dilation", dilation, spatial, 1)
        return per_axis(kind, "window", window, spatial, 1)

    def __call__(self, x: Float[ArrayLike, "*shape"], *, key: Key | None = None) -> Float[Array, "..."]:
        """The outputs of the layer.

        Arguments:
            x: one example, of shape (in_channels, *spatial), or a batch, of shape (..., in_channels, *spatial).
            key: not used.

        Returns:
            An array of shape (..., out_channels, *spatial), where a spatial axis has the length
            `(length + before + after - dilation * (window - 1) - 1) // stride + 1`.

        Raises:
            ShapeError: if the shape of `x` does not fit, or it is smaller than a window.
        """
        return self._applied(x, self.weight, self.stride, self.padding, None)

    def _applied(self, x: Any, weight: Array, stride: Any, padding: Any, x_dilation: Any) -> Array:
        x, weight = promote_inexact(x, weight)
        spatial = self.spatial
        if x.ndim <= spatial or x.shape[-spatial - 1] != self.in_channels:
            raise ShapeError(
                f"{type(self).__name__} of {self.in_channels} channels got an input of shape {x.shape}; "
                f"give (..., {self.in_channels}, {_AXES[spatial]})."
            )
        batch = x.shape[: -spatial - 1]
        images = x.reshape(math.prod(batch), *x.shape[-spatial - 1 :])
        y = conv_general_dilated(images, weight, stride, padding, x_dilation, self.dilation, None, self.groups)
        if self.bias is not None:
            y = y + self.bias.reshape(self.out_channels, *(1,) * spatial)
        return y.reshape(*batch, *y.shape[1:])


def _parameters(key: Any, shape: tuple[int, ...], biases: int | None, dtype: Any) -> tuple[Array, Array | None]:
    weight_key, bias_key = random.split(key)
    bound = 1 / math.sqrt(max(math.prod(shape[1:]), 1))
    weight = random.uniform(weight_key, shape, dtype, -bound, bound)
    return weight, None if biases is None else random.uniform(bias_key, (biases,), dtype, -bound, bound)


class Conv1d(Convolution):
    """A convolution along sequences, of shape (..., channels, length). Arguments and attributes: see `Convolution`.

    Example:
        >>> import funcgrad as fg
        >>> layer = fg.nn.Conv1d(3, 8, window=5, padding="SAME", key=fg.random.key(0))
        >>> layer(fg.numpy.ones((2, 3, 20))).shape
        (2, 8, 20)
    """

    spatial = 1


class Conv2d(Convolution):
    """A convolution over images, of shape (..., channels, height, width). Arguments and attributes: see `Convolution`.

    Example:
        >>> import funcgrad as fg
        >>> layer = fg.nn.Conv2d(3, 8, window=3, stride=2, padding=1, key=fg.random.key(0))
        >>> layer(fg.numpy.ones((2, 3, 28, 28))).shape, layer(fg.numpy.ones((3, 28, 28))).shape
        ((2, 8, 14, 14), (8, 14, 14))

        A depthwise convolution:
        >>> fg.nn.Conv2d(8, 8, window=3, groups=8, key=fg.random.key(0)).weight.shape
        (8, 1, 3, 3)
    """

    spatial = 2


class Conv3d(Convolution):
    """A convolution over volumes, of shape (..., channels, depth, height, width).

    Arguments and attributes: see `Convolution`.

    Example:
        >>> import funcgrad as fg
        >>> layer = fg.nn.Conv3d(1, 4, window=3, key=fg.random.key(0))
        >>> layer(fg.numpy.ones((2, 1, 6, 6, 6))).shape
        (2, 4, 4, 4, 4)
    """

    spatial = 3


class TransposedConvolution(Convolution):
    """What `ConvTranspose1d`, `ConvTranspose2d` and `ConvTranspose3d` have in common: they make images larger.

    It is the transpose, as a linear function, of the convolution with the same window, stride and padding: each element
    of the input adds a window to the output. It begins as in PyTorch: weight and bias are drawn uniformly from
    (-1/sqrt(n), 1/sqrt(n)), where n is the product of out_channels / groups and the window.

    Arguments:
        in_channels: the number of channels of the input.
        out_channels: the number of channels of the output.
        window: the lengths of a window along the spatial axes; a number stands for all of them.
        key: the random key from which the parameters are drawn.
        stride: how far apart the windows of neighbouring elements are.
        padding: how many elements of the output to leave out before and after each spatial axis: a number, or for each
            axis a number or a pair (before, after).
        output_padding: how many elements to add to the output after each spatial axis; less than stride or dilation.
        dilation: how far the elements of a window are apart.
        groups: into how many groups the channels are divided.
        use_bias: whether there is a bias.
        dtype: the dtype of the parameters.

    Attributes:
        weight: an array of shape (in_channels, out_channels / groups, *window).
        bias: an array of shape (out_channels,), or None.
    """

    output_padding: tuple[int, ...]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        window: Sizes,
        *,
        key: Key,
        stride: Sizes = 1,
        padding: int | Sequence[int | tuple[int, int]] = 0,
        output_padding: Sizes = 0,
        dilation: Sizes = 1,
        groups: int = 1,
        use_bias: bool = True,
        dtype: Any = dtypes.float32,
    ):
        kind = type(self).__name__
        window = self._set(in_channels, out_channels, window, stride, dilation, groups)
        self.padding = padding_pairs(kind, padding, self.spatial)
        self.output_padding = per_axis(kind, "output_padding", output_padding, self.spatial, 0)
        limits = map(max, self.stride, self.dilation)
        if any(more and more >= limit for more, limit in zip(self.output_padding, limits, strict=True)):
            raise ArgumentError(
                f"{kind} got output_padding={output_padding!r}; it must be less than the stride or the dilation."
            )
        shape = (in_channels, out_channels // groups, *window)
        self.weight, self.bias = _parameters(key, shape, out_channels if use_bias else None, dtype)

    def __call__(self, x: Float[ArrayLike, "*shape"], *, key: Key | None = None) -> Float[Array, "..."]:
        """The outputs of the layer.

        Arguments:
            x: one example, of shape (in_channels, *spatial), or a batch, of shape (..., in_channels, *spatial).
            key: not used.

        Returns:
            An array of shape (..., out_channels, *spatial), where a spatial axis has the length
            `(length - 1) * stride - before - after + dilation * (window - 1) + output_padding + 1`.

        Raises:
            ShapeError: if the shape of `x` does not fit.
        """
        window = self.weight.shape[2:]
        grouped = self.weight.reshape(self.groups, -1, *self.weight.shape[1:]).swapaxes(1, 2)
        weight = grouped.reshape(self.out_channels, -1, *window)
        weight = np.flip(weight, axis=tuple(range(2, weight.ndim)))
        padding: Any = self.padding
        pairs = [
            (apart * (size - 1) - low, apart * (size - 1) - high + more)
            for apart, size, (low, high), more in zip(self.dilation, window, padding, self.output_padding, strict=True)
        ]
        return self._applied(x, weight, (1,) * self.spatial, pairs, self.stride)


class ConvTranspose1d(TransposedConvolution):
    """A transposed convolution along sequences. Arguments and attributes: see `TransposedConvolution`.

    Example:
        >>> import funcgrad as fg
        >>> layer = fg.nn.ConvTranspose1d(3, 8, window=4, stride=2, padding=1, key=fg.random.key(0))
        >>> layer(fg.numpy.ones((2, 3, 10))).shape
        (2, 8, 20)
    """

    spatial = 1


class ConvTranspose2d(TransposedConvolution):
    """A transposed convolution over images. Arguments and attributes: see `TransposedConvolution`.

    Example:
        >>> import funcgrad as fg
        >>> layer = fg.nn.ConvTranspose2d(3, 8, window=4, stride=2, padding=1, key=fg.random.key(0))
        >>> layer(fg.numpy.ones((2, 3, 7, 7))).shape
        (2, 8, 14, 14)
    """

    spatial = 2


class ConvTranspose3d(TransposedConvolution):
    """A transposed convolution over volumes. Arguments and attributes: see `TransposedConvolution`.

    Example:
        >>> import funcgrad as fg
        >>> layer = fg.nn.ConvTranspose3d(3, 4, window=2, stride=2, key=fg.random.key(0))
        >>> layer(fg.numpy.ones((3, 2, 2, 2))).shape
        (4, 4, 4, 4)
    """

    spatial = 3
