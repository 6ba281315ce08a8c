"""Batch normalization, with its running statistics as a state that is passed in and out."""

from __future__ import annotations

from typing import Any

import numpy

from funcgrad import dtypes
from funcgrad import numpy as np
from funcgrad.annotations import Array, ArrayLike, Float, Int, Key, Real
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.nn.linear import check_sizes
from funcgrad.nn.module import Module
from funcgrad.nn.normalization import widened
from funcgrad.primitives.collectives import axis_size, pmean
from funcgrad.primitives.elementwise import stop_gradient
from funcgrad.primitives.operators import cast


class BatchNormState(Module):
    """The running statistics of a `BatchNorm`.

    Attributes:
        mean: of each channel, of shape (channels,).
        variance: of each channel, without bias, of shape (channels,).
        count: how many batches they have seen.
    """

    mean: Float[Array, " channels"]
    variance: Float[Array, " channels"]
    count: Int[Array, ""]


class BatchNorm(Module):
    """Gives each channel mean 0 and variance 1 over the batch and all spatial axes, and then a scale and an offset.

    The running statistics, which take the place of those of the batch in inference, are no hidden state: they come with
    each call and leave with it. As in PyTorch, the running variance is the unbiased one.

    Arguments:
        channels: the number of channels.
        momentum: the share of the newest batch in the running statistics. None takes the mean of all batches.
        epsilon: added to the variance.
        affine: whether there are a scale, which begins with ones, and an offset, which begins with zeros.
        channel_axis: which axis holds the channels.
        axis_name: the name of a `vmap` around the call, over which to take the statistics as well.
        inference: whether to normalize with the running statistics; `nn.inference_mode` sets it in a whole network.
        dtype: the dtype of the parameters and the statistics.

    Attributes:
        weight, bias: arrays of shape (channels,), or None.

    Source: S. Ioffe and C. Szegedy, https://arxiv.org/abs/1502.03167.

    Example:
        >>> import funcgrad as fg
        >>> layer = fg.nn.BatchNorm(2)
        >>> state = layer.initial_state()
        >>> y, state = layer(fg.array([[1.0, 10.0], [3.0, 30.0]]), state)
        >>> y.round(3), state.mean
        (Array([[-1., -1.],
               [ 1.,  1.]], dtype=float32), Array([0.2, 2. ], dtype=float32))
    """

    weight: Float[Array, " channels"] | None
    bias: Float[Array, " channels"] | None
    channels: int
    momentum: float | None
    epsilon: float
    channel_axis: int
    axis_name: str | None
    inference: bool
    dtype: numpy.dtype

    def __init__(
        self,
        channels: int,
        *,
        momentum: Real | None = 0.1,
        epsilon: Real = 1e-5,
        affine: bool = True,
        channel_axis: int = 1,
        axis_name: str | None = None,
        inference: bool = False,
        dtype: Any = dtypes.float32,
    ):
        check_sizes("BatchNorm", channels=channels)
        if momentum is not None and not 0 <= momentum <= 1:
            raise ArgumentError(f"BatchNorm got momentum={momentum!r}; it is a share between 0 and 1, or None.")
        self.channels, self.channel_axis, self.axis_name = channels, channel_axis, axis_name
        self.momentum, self.epsilon = None if momentum is None else float(momentum), float(epsilon)
        self.inference, self.dtype = inference, dtypes.canonical(dtype)
        self.weight = np.ones(channels, dtype) if affine else None
        self.bias = np.zeros(channels, dtype) if affine else None

    def initial_state(self) -> BatchNormState:
        """Running statistics that have seen nothing: mean 0 and variance 1."""
        return BatchNormState(
            np.zeros(self.channels, self.dtype), np.ones(self.channels, self.dtype), np.zeros((), dtypes.int32)
        )

    def __call__(
        self, x: Float[ArrayLike, "*shape"], state: BatchNormState, *, key: Key | None = None
    ) -> tuple[Float[Array, "*shape"], BatchNormState]:
        """The normalized input, and the running statistics with this batch taken in.

        Arguments:
            x: a batch with `channels` elements on the axis of channels, (batch, channels, *spatial) by default.
            state: the running statistics so far.
            key: not used.

        Returns:
            The normalized batch and the new state, which in inference is the old one. No derivative goes through it.

        Raises:
            ShapeError: if the axis of channels has another length, or there is only one element for each channel.
        """
        x, dtype = widened(x)
        if not -x.ndim <= self.channel_axis < x.ndim or x.shape[self.channel_axis] != self.channels:
            raise ShapeError(
                f"BatchNorm({self.channels}) got an input of shape {x.shape}; its axis {self.channel_axis} must have "
                f"{self.channels} elements."
            )
        axis = self.channel_axis % x.ndim
        others = tuple(other for other in range(x.ndim) if other != axis)
        if self.inference:
            mean, variance = state.mean, state.variance
        else:
            count: Any = x.size // max(self.channels, 1)
            mean = x.mean(axis=others)
            if self.axis_name is not None:
                mean = pmean(mean, self.axis_name)
                count = cast(axis_size(self.axis_name), x.dtype) * count
            elif count < 2:
                raise ShapeError(
                    f"BatchNorm({self.channels}) got an input of shape {x.shape}, which has one element a channel; "
                    "training needs two or more, to know a variance."
                )
            centered = x - _along(mean, axis, x.ndim)
            variance = (centered * centered).mean(axis=others)
            if self.axis_name is not None:
                variance = pmean(variance, self.axis_name)
            state = self._updated(state, mean, variance * (count / (count - 1)))
        scale = 1 / np.sqrt(variance + self.epsilon)
        if self.weight is not None:
            scale = scale * self.weight
        y = (x - _along(mean, axis, x.ndim)) * _along(scale, axis, x.ndim)
        return cast(y if self.bias is None else y + _along(self.bias, axis, x.ndim), dtype), state

    def _updated(self, state: BatchNormState, mean: Array, variance: Array) -> BatchNormState:
        count = state.count + 1
        share = 1 / cast(count, state.mean.dtype) if self.momentum is None else self.momentum

        def mixed(old: Array, new: Array) -> Array:
            return cast(old + share * (stop_gradient(new) - old), old.dtype)

        return BatchNormState(mixed(state.mean, mean), mixed(state.variance, variance), count)


def _along(values: Array, axis: int, ndim: int) -> Array:
    """One value a channel, in the shape in which it meets an array with `ndim` axes."""
    return values.reshape(values.shape[0], *(1,) * (ndim - axis - 1))
