"""The fully connected layer."""

from __future__ import annotations

import math
from typing import Any

from funcgrad import dtypes, random
from funcgrad import numpy as np
from funcgrad.annotations import Array, ArrayLike, Float, Key
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.nn.module import Module


class Linear(Module):
    """A fully connected layer: `weight @ x + bias`.

    It begins as in PyTorch: weight and bias are drawn uniformly from (-1/sqrt(in_features), 1/sqrt(in_features)).

    Arguments:
        in_features: the number of inputs.
        out_features: the number of outputs.
        key: the random key from which the parameters are drawn.
        use_bias: whether there is a bias.
        dtype: the dtype of the parameters.

    Attributes:
        weight: an array of shape (out_features, in_features).
        bias: an array of shape (out_features,), or None.

    Source of the initial values: K. He, X. Zhang, S. Ren and J. Sun, https://arxiv.org/abs/1502.01852, with the gain of
    a leaky rectifier of slope sqrt(5).

    Example:
        >>> import funcgrad as fg
        >>> layer = fg.nn.Linear(2, 3, key=fg.random.key(0))
        >>> layer
        Linear(weight=float32[3,2], bias=float32[3], in_features=2, out_features=3)
        >>> layer(fg.numpy.ones(2)).shape, layer(fg.numpy.ones((5, 2))).shape
        ((3,), (5, 3))
    """

    weight: Float[Array, "out_features in_features"]
    bias: Float[Array, " out_features"] | None
    in_features: int
    out_features: int

    def __init__(
        self, in_features: int, out_features: int, *, key: Key, use_bias: bool = True, dtype: Any = dtypes.float32
    ):
        check_sizes("Linear", in_features=in_features, out_features=out_features)
        weight_key, bias_key = random.split(key)
        bound = 1 / math.sqrt(in_features) if in_features else 0.0
        self.weight = random.uniform(weight_key, (out_features, in_features), dtype, -bound, bound)
        self.bias = random.uniform(bias_key, (out_features,), dtype, -bound, bound) if use_bias else None
        self.in_features, self.out_features = in_features, out_features

    def __call__(
        self, x: Float[ArrayLike, "*batch in_features"], *, key: Key | None = None
    ) -> Float[Array, "*batch out_features"]:
        """The outputs of the layer.

        Arguments:
            x: one example, of shape (in_features,), or a batch of any number of axes, of shape (..., in_features).
            key: not used; every layer takes it, since some are random.

        Returns:
            An array of shape (..., out_features).

        Raises:
            ShapeError: if the last axis of `x` does not have `in_features` elements.
        """
        x = np.asarray(x)
        if x.shape[-1:] != (self.in_features,):
            raise ShapeError(
                f"Linear({self.in_features}, {self.out_features}) got an input of shape {x.shape}; "
                f"its last axis must have {self.in_features} features."
            )
        y = x @ self.weight.T
        return y if self.bias is None else y + self.bias


def check_sizes(layer: str, **sizes: int) -> None:
    """Raise ArgumentError unless all sizes are integers that are not negative."""
    for name, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise ArgumentError(f"{layer} got {name}={size!r}; a size is an integer that is not negative.")


class Bilinear(Module):
    """A layer of two inputs that meet in products: `x1 @ weight[o] @ x2 + bias[o]` for each output `o`.

    It begins as in PyTorch: weight and bias are drawn uniformly from (-1/sqrt(in1_features), 1/sqrt(in1_features)).

    Arguments:
        in1_features, in2_features: the numbers of features of the two inputs.
        out_features: the number of outputs.
        key: the random key from which the parameters are drawn.
        use_bias: whether there is a bias.
        dtype: the dtype of the parameters.

    Attributes:
        weight: an array of shape (out_features, in1_features, in2_features).
        bias: an array of shape (out_features,), or None.

    Example:
        >>> import funcgrad as fg
        >>> layer = fg.nn.Bilinear(2, 3, 4, key=fg.random.key(0))
        >>> layer(fg.numpy.ones((5, 2)), fg.numpy.ones((5, 3))).shape
        (5, 4)
    """

    weight: Float[Array, "out_features in1_features in2_features"]
    bias: Float[Array, " out_features"] | None
    in1_features: int
    in2_features: int
    out_features: int

    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        *,
        key: Key,
        use_bias: bool = True,
        dtype: Any = dtypes.float32,
    ):
        check_sizes("Bilinear", in1_features=in1_features, in2_features=in2_features, out_features=out_features)
        weight_key, bias_key = random.split(key)
        bound = 1 / math.sqrt(in1_features) if in1_features else 0.0
        self.weight = random.uniform(weight_key, (out_features, in1_features, in2_features), dtype, -bound, bound)
        self.bias = random.uniform(bias_key, (out_features,), dtype, -bound, bound) if use_bias else None
        self.in1_features, self.in2_features, self.out_features = in1_features, in2_features, out_features

    def __call__(
        self,
        x1: Float[ArrayLike, "*batch in1_features"],
        x2: Float[ArrayLike, "*batch in2_features"],
        *,
        key: Key | None = None,
    ) -> Float[Array, "*batch out_features"]:
        """The outputs of the layer.

        Arguments:
            x1: one example, of shape (in1_features,), or a batch, of shape (..., in1_features).
            x2: the same with `in2_features`.
            key: not used.

        Returns:
            An array of shape (..., out_features).

        Raises:
            ShapeError: if the shapes do not fit.
        """
        x1, x2 = np.asarray(x1), np.asarray(x2)
        fits = x1.shape[-1:] == (self.in1_features,) and x2.shape[-1:] == (self.in2_features,)
        if not fits or x1.shape[:-1] != x2.shape[:-1]:
            raise ShapeError(
                f"Bilinear({self.in1_features}, {self.in2_features}, {self.out_features}) got inputs of shapes "
                f"{x1.shape} and {x2.shape}; they need {self.in1_features} and {self.in2_features} features on their "
                "last axes, and equal axes before."
            )
        # (..., 1, 1, in1) @ (out, in1, in2) = (..., out, 1, in2)
        y = ((x1[..., None, None, :] @ self.weight).squeeze(-2) * x2[..., None, :]).sum(axis=-1)
        return y if self.bias is None else y + self.bias
