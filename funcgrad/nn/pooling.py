"""Pooling: maxima and means of windows, or of as many equal parts as one wants; and making images flat."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from funcgrad import numpy as np
from funcgrad.annotations import Array, ArrayLike, Float, Key, Real
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.lax import elementwise
from funcgrad.lax.convolution import reduce_window
from funcgrad.nn.convolution import Sizes, padding_pairs, per_axis
from funcgrad.nn.linear import check_sizes
from funcgrad.nn.module import Module
from funcgrad.primitives.operators import promote_inexact


def _images(layer: Module, x: Any, spatial: int) -> Array:
    (x,) = promote_inexact(x)
    if x.ndim < spatial:
        raise ShapeError(f"{type(layer).__name__} got an input of shape {x.shape}; it needs {spatial} spatial axes.")
    return x


class Pool(Module):
    """What pooling layers have in common: windows that slide along the last axes.

    Arguments:
        window: the lengths of a window along the spatial axes; a number stands for all of them.
        stride: by how much windows move, by default their lengths, so that they do not overlap.
        padding: how many elements to add before and after each spatial axis, at most half of the window: a number, or
            for each axis a number or a pair (before, after). They are never the maximum.
        dilation: how far the elements of a window are apart.
    """

    spatial = 0

    window: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]

    def __init__(
        self,
        window: Sizes,
        stride: Sizes | None = None,
        padding: int | Sequence[int | tuple[int, int]] = 0,
        dilation: Sizes = 1,
    ):
        kind, spatial = type(self).__name__, self.spatial
        self.window = per_axis(kind, "window", window, spatial, 1)
        self.stride = self.window if stride is None else per_axis(kind, "stride", stride, spatial, 1)
        self.dilation = per_axis(kind, "dilation", dilation, spatial, 1)
        self.padding = padding_pairs(kind, padding, spatial)
        pairs = zip(self.padding, self.window, strict=True)
        if any(not 0 <= 2 * side <= size for pair, size in pairs for side in pair):
            raise ArgumentError(
                f"{kind} got padding={padding!r} for a window of {self.window}; it is at most half of the window."
            )

    def _reduced(self, x: Array, start: Real, computation: Any) -> Array:
        before = x.ndim - self.spatial
        ones = (1,) * before
        return reduce_window(
            x,
            start,
            computation,
            ones + self.window,
            ones + self.stride,
            ((0, 0),) * before + self.padding,
            window_dilation=ones + self.dilation,
        )


class MaxPool(Pool):
    """What `MaxPool1d`, `MaxPool2d` and `MaxPool3d` have in common: the maximum of each window. See `Pool`."""

    def __call__(self, x: Float[ArrayLike, "*shape"], *, key: Key | None = None) -> Float[Array, "..."]:
        """The maxima.

        Arguments:
            x: an array of shape (..., *spatial).
            key: not used.

        Returns:
            An array with fewer elements along the spatial axes:
            `(length + before + after - dilation * (window - 1) - 1) // stride + 1`.
        """
        return self._reduced(_images(self, x, self.spatial), -math.inf, elementwise.max)


class MaxPool1d(MaxPool):
    """The maximum of each window along the last axis. Arguments: see `Pool`.

    Example:
        >>> import funcgrad as fg
        >>> fg.nn.MaxPool1d(2)(fg.array([1.0, 5.0, 2.0, 3.0]))
        Array([5., 3.], dtype=float32)
    """

    spatial = 1


class MaxPool2d(MaxPool):
    """The maximum of each window over the last two axes. Arguments: see `Pool`.

    Example:
        >>> import funcgrad as fg
        >>> fg.nn.MaxPool2d(3, stride=2, padding=1)(fg.numpy.ones((2, 8, 28, 28))).shape
        (2, 8, 14, 14)
    """

    spatial = 2


class MaxPool3d(MaxPool):
    """The maximum of each window over the last three axes. Arguments: see `Pool`.

    Example:
        >>> import funcgrad as fg
        >>> fg.nn.MaxPool3d(2)(fg.numpy.ones((2, 8, 4, 4, 4))).shape
        (2, 8, 2, 2, 2)
    """

    spatial = 3


class AvgPool(Pool):
    """What `AvgPool1d`, `AvgPool2d` and `AvgPool3d` have in common: the mean of each window.

    Arguments:
        window, stride, padding: see `Pool`.
        count_padding: whether the elements of the padding count as zeros, or not at all.
    """

    count_padding: bool

    def __init__(
        self,
        window: Sizes,
        stride: Sizes | None = None,
        padding: int | Sequence[int | tuple[int, int]] = 0,
        *,
        count_padding: bool = True,
    ):
        super().__init__(window, stride, padding)
        self.count_padding = count_padding

    def __call__(self, x: Float[ArrayLike, "*shape"], *, key: Key | None = None) -> Float[Array, "..."]:
        """The means.

        Arguments:
            x: an array of shape (..., *spatial).
            key: not used.

        Returns:
            An array with fewer elements along the spatial axes: `(length + before + after - window) // stride + 1`.
        """
        x = _images(self, x, self.spatial)
        total = self._reduced(x, 0, elementwise.add)
        if self.count_padding or not any(map(any, self.padding)):
            return total / math.prod(self.window)
        return total / self._reduced(np.ones(x.shape[x.ndim - self.spatial :], x.dtype), 0, elementwise.add)


class AvgPool1d(AvgPool):
    """The mean of each window along the last axis. Arguments: see `AvgPool`.

    Example:
        >>> import funcgrad as fg
        >>> fg.nn.AvgPool1d(2)(fg.array([1.0, 5.0, 2.0, 3.0]))
        Array([3. , 2.5], dtype=float32)
    """

    spatial = 1


class AvgPool2d(AvgPool):
    """The mean of each window over the last two axes. Arguments: see `AvgPool`.

    Example:
        >>> import funcgrad as fg
        >>> fg.nn.AvgPool2d(2)(fg.numpy.ones((2, 8, 28, 28))).shape
        (2, 8, 14, 14)
    """

    spatial = 2


class AvgPool3d(AvgPool):
    """The mean of each window over the last three axes. Arguments: see `AvgPool`.

    Example:
        >>> import funcgrad as fg
        >>> fg.nn.AvgPool3d(2)(fg.numpy.ones((2, 8, 4, 4, 4))).shape
        (2, 8, 2, 2, 2)
    """

    spatial = 3


class AdaptivePool(Module):
    """What adaptive pooling layers have in common: they divide the spatial axes into a given number of parts.

    Part `i` of `n` goes from the element floor(i * length / n) up to ceil((i + 1) * length / n), as in PyTorch.

    Arguments:
        parts: the numbers of parts of the spatial axes; a number stands for all of them.
    """

    spatial = 0

    parts: tuple[int, ...]

    def __init__(self, parts: Sizes):
        self.parts = per_axis(type(self).__name__, "parts", parts, self.spatial, 1)

    def _reduced(self, x: Any, reduce: Any) -> Array:
        x = _images(self, x, self.spatial)
        for axis, count in zip(range(x.ndim - self.spatial, x.ndim), self.parts, strict=True):
            length = x.shape[axis]
            if length == 0:
                raise ShapeError(
                    f"{type(self).__name__} got an input of shape {x.shape}, with an axis without elements."
                )
            if length % count == 0:
                x = reduce(x.reshape(*x.shape[:axis], count, length // count, *x.shape[axis + 1 :]), axis + 1)
                continue
            before = (slice(None),) * axis
            bounds = [(i * length // count, -(-(i + 1) * length // count)) for i in range(count)]
            x = np.stack([reduce(x[(*before, slice(start, stop))], axis) for start, stop in bounds], axis=axis)
        return x


class AdaptiveAvgPool(AdaptivePool):
    """What `AdaptiveAvgPool1d`, `2d` and `3d` have in common: the mean of each part. See `AdaptivePool`."""

    def __call__(self, x: Float[ArrayLike, "*shape"], *, key: Key | None = None) -> Float[Array, "..."]:
        """The means, of shape (..., *parts).

        Arguments:
            x: an array of shape (..., *spatial).
            key: not used.
        """
        return self._reduced(x, lambda part, axis: part.mean(axis=axis))


class AdaptiveMaxPool(AdaptivePool):
    """What `AdaptiveMaxPool1d`, `2d` and `3d` have in common: the maximum of each part. See `AdaptivePool`."""

    def __call__(self, x: Float[ArrayLike, "*shape"], *, key: Key | None = None) -> Float[Array, "..."]:
        """The maxima, of shape (..., *parts).

        Arguments:
            x: an array of shape (..., *spatial).
            key: not used.
        """
        return self._reduced(x, lambda part, axis: part.max(axis=axis))


class AdaptiveAvgPool1d(AdaptiveAvgPool):
    """The means of parts of the last axis. Arguments: see `AdaptivePool`.

    Example:
        >>> import funcgrad as fg
        >>> fg.nn.AdaptiveAvgPool1d(2)(fg.array([1.0, 2.0, 3.0, 4.0]))
        Array([1.5, 3.5], dtype=float32)
    """

    spatial = 1


class AdaptiveAvgPool2d(AdaptiveAvgPool):
    """The means of parts of the last two axes. Arguments: see `AdaptivePool`.

    Example:
        >>> import funcgrad as fg
        >>> fg.nn.AdaptiveAvgPool2d(1)(fg.numpy.ones((2, 8, 7, 7))).shape
        (2, 8, 1, 1)
    """

    spatial = 2


class AdaptiveAvgPool3d(AdaptiveAvgPool):
    """The means of parts of the last three axes. Arguments: see `AdaptivePool`.

    Example:
        >>> import funcgrad as fg
        >>> fg.nn.AdaptiveAvgPool3d((1, 2, 3))(fg.numpy.ones((2, 8, 7, 7, 7))).shape
        (2, 8, 1, 2, 3)
    """

    spatial = 3


class AdaptiveMaxPool1d(AdaptiveMaxPool):
    """The maxima of parts of the last axis. Arguments: see `AdaptivePool`.

    Example:
        >>> import funcgrad as fg
        >>> fg.nn.AdaptiveMaxPool1d(2)(fg.array([1.0, 2.0, 3.0, 4.0]))
        Array([2., 4.], dtype=float32)
    """

    spatial = 1


class AdaptiveMaxPool2d(AdaptiveMaxPool):
    """The maxima of parts of the last two axes. Arguments: see `AdaptivePool`.

    Example:
        >>> import funcgrad as fg
        >>> fg.nn.AdaptiveMaxPool2d(2)(fg.numpy.ones((2, 8, 7, 7))).shape
        (2, 8, 2, 2)
    """

    spatial = 2


class AdaptiveMaxPool3d(AdaptiveMaxPool):
    """The maxima of parts of the last three axes. Arguments: see `AdaptivePool`.

    Example:
        >>> import funcgrad as fg
        >>> fg.nn.AdaptiveMaxPool3d(1)(fg.numpy.ones((8, 7, 7, 7))).shape
        (8, 1, 1, 1)
    """

    spatial = 3


class Flatten(Module):
    """Joins the last axes to one: the channels, height and width of images, to go on with a linear layer.

    Arguments:
        axes: how many axes to join.

    Example:
        >>> import funcgrad as fg
        >>> fg.nn.Flatten(3)(fg.numpy.ones((2, 8, 7, 7))).shape
        (2, 392)
    """

    axes: int

    def __init__(self, axes: int):
        check_sizes("Flatten", axes=axes)
        self.axes = axes

    def __call__(self, x: Any, *, key: Key | None = None) -> Array:
        """The array with its last axes joined.

        Arguments:
            x: an array with at least as many axes.
            key: not used.

        Raises:
            ShapeError: if it has fewer axes.
        """
        x = np.asarray(x)
        if x.ndim < self.axes:
            raise ShapeError(f"Flatten({self.axes}) got an input of shape {x.shape}, which has fewer axes.")
        kept = x.ndim - self.axes
        return x.reshape(*x.shape[:kept], math.prod(x.shape[kept:]))
