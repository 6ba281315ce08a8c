"""Layers whose weights are normalized: weight normalization and spectral normalization."""

from __future__ import annotations

from typing import Any

from funcgrad import numpy as np
from funcgrad import random
from funcgrad.annotations import Array, Float, Key, Real
from funcgrad.errors import ArgumentError
from funcgrad.nn.linear import check_sizes
from funcgrad.nn.module import Module
from funcgrad.primitives.elementwise import stop_gradient


def _weight_of(name: str, layer: Any) -> Array:
    weight = getattr(layer, "weight", None)
    if not isinstance(layer, Module) or weight is None or weight.ndim < 2:
        raise ArgumentError(
            f"{name} wraps a layer that has a `weight` of two or more axes, such as nn.Linear, and got "
            f"{type(layer).__name__}."
        )
    return weight


class WeightNorm(Module):
    """A layer whose weight is a length times a direction, which are learnt apart: `scale * direction / |direction|`.

    Each output has a length of its own. The layer begins as it was.

    Arguments:
        layer: a module with a `weight`, whose first axis counts outputs.

    Attributes:
        layer: the layer without its weight.
        direction: an array of the shape of the weight.
        scale: an array of the shape (outputs, 1, ...).

    Source: T. Salimans and D. Kingma, https://arxiv.org/abs/1602.07868.

    Example:
        >>> import funcgrad as fg
        >>> layer = fg.nn.WeightNorm(fg.nn.Linear(2, 3, key=fg.random.key(0)))
        >>> layer(fg.numpy.ones((5, 2))).shape, layer.scale.shape
        ((5, 3), (3, 1))
    """

    layer: Any
    direction: Float[Array, "..."]
    scale: Float[Array, "..."]

    def __init__(self, layer: Any):
        self.direction = _weight_of("WeightNorm", layer)
        self.scale = _norms(self.direction)
        self.layer = layer.replace(weight=None)

    @property
    def weight(self) -> Array:
        """The weight that the layer has when it is called."""
        return self.scale * self.direction / _norms(self.direction)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the layer gives.

        Arguments:
            args, kwargs: those of the layer.
        """
        return self.layer.replace(weight=self.weight)(*args, **kwargs)


def _norms(weight: Array) -> Array:
    """The length of the weight of each output."""
    return np.sqrt((weight * weight).sum(axis=tuple(range(1, weight.ndim)), keepdims=True))


class SpectralNormState(Module):
    """An estimate of the first singular vectors of a weight, which each step of training improves.

    Attributes:
        left: of shape (outputs,).
        right: of shape (inputs,).
    """

    left: Float[Array, " outputs"]
    right: Float[Array, " inputs"]


class SpectralNorm(Module):
    """A layer whose weight is divided by its largest singular value, so that it stretches nothing.

    The singular value comes from power iterations, whose vectors are a state that comes with each call and leaves with
    it. In inference the state stays as it is.

    Arguments:
        layer: a module with a `weight`, whose first axis counts outputs.
        iterations: the number of power iterations of each call.
        epsilon: the least length by which vectors are divided.
        inference: whether to keep the state; `nn.inference_mode` sets it in a whole network.

    Source: T. Miyato, T. Kataoka, M. Koyama and Y. Yoshida, https://arxiv.org/abs/1802.05957.

    Example:
        >>> import funcgrad as fg
        >>> layer = fg.nn.SpectralNorm(fg.nn.Linear(2, 3, key=fg.random.key(0)))
        >>> state = layer.initial_state(key=fg.random.key(1))
        >>> y, state = layer(fg.numpy.ones((5, 2)), state)
        >>> y.shape
        (5, 3)
    """

    layer: Any
    iterations: int
    epsilon: float
    inference: bool

    def __init__(self, layer: Any, *, iterations: int = 1, epsilon: Real = 1e-12, inference: bool = False):
        _weight_of("SpectralNorm", layer)
        check_sizes("SpectralNorm", iterations=iterations)
        self.layer, self.iterations, self.epsilon, self.inference = layer, iterations, float(epsilon), inference

    def initial_state(self, *, key: Key) -> SpectralNormState:
        """Random vectors, after 15 power iterations.

        Arguments:
            key: the random key from which they are drawn.
        """
        matrix = self._matrix()
        left_key, right_key = random.split(key)
        left = random.normal(left_key, matrix.shape[:1], matrix.dtype)
        right = random.normal(right_key, matrix.shape[1:], matrix.dtype)
        return self._improved(SpectralNormState(self._unit(left), self._unit(right)), matrix, 15)

    def __call__(self, x: Any, state: SpectralNormState, **kwargs: Any) -> tuple[Any, SpectralNormState]:
        """What the layer gives, and the new state. No derivative goes through the state.

        Arguments:
            x: the input of the layer.
            state: what `initial_state`, or the last call, gave.
            kwargs: more arguments of the layer.
        """
        matrix = self._matrix()
        if not self.inference:
            state = self._improved(state, matrix, self.iterations)
        singular_value = state.left @ (matrix @ state.right)
        return self.layer.replace(weight=self.layer.weight / singular_value)(x, **kwargs), state

    def _matrix(self) -> Array:
        return self.layer.weight.reshape(self.layer.weight.shape[0], -1)

    def _unit(self, vector: Array) -> Array:
        return vector / np.maximum(np.sqrt((vector * vector).sum()), self.epsilon)

    def _improved(self, state: SpectralNormState, matrix: Array, iterations: int) -> SpectralNormState:
        matrix, left, right = stop_gradient(matrix), state.left, state.right
        for _ in range(iterations):
            left = self._unit(matrix @ right)
            right = self._unit(left @ matrix)
        return SpectralNormState(left, right)
