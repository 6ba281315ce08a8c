"""Networks made of layers: one after the other, added to their input, and the multilayer perceptron."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from funcgrad import dtypes, random
from funcgrad import numpy as np
from funcgrad.annotations import Array, ArrayLike, Float, Key
from funcgrad.errors import ArgumentTypeError, ShapeError
from funcgrad.nn.activations import Activation, identity, relu
from funcgrad.nn.linear import Linear, check_sizes
from funcgrad.nn.module import Module


class Lambda(Module):
    """A function as a layer without parameters, such as an activation function within `Sequential`.

    Arguments:
        function: a function of one array.

    Example:
        >>> import funcgrad as fg
        >>> fg.nn.Lambda(fg.nn.relu)(fg.array([-1.0, 1.0]))
        Array([0., 1.], dtype=float32)
    """

    function: Callable[..., Any]

    def __call__(self, x: Any, *, key: Key | None = None) -> Any:
        """The function of `x`; the key is not used."""
        return self.function(x)


class Sequential(Module):
    """Layers one after the other: each gets what the one before it gave.

    Arguments:
        layers: modules, and functions of one array, which are wrapped in `Lambda`.

    Raises:
        ArgumentTypeError: if something is neither.

    Example:
        >>> import funcgrad as fg
        >>> key1, key2 = fg.random.split(fg.random.key(0))
        >>> network = fg.nn.Sequential([fg.nn.Linear(2, 8, key=key1), fg.nn.relu, fg.nn.Linear(8, 1, key=key2)])
        >>> network(fg.numpy.ones((5, 2))).shape
        (5, 1)
        >>> network[0].out_features, len(network)
        (8, 3)
    """

    layers: tuple[Module, ...]

    def __init__(self, layers: Sequence[Module | Activation]):
        for position, layer in enumerate(layers):
            if not callable(layer):
                raise ArgumentTypeError(
                    f"Sequential got {layer!r} as layer {position}, which cannot be called; "
                    "give modules and functions of one array."
                )
        self.layers = tuple(layer if isinstance(layer, Module) else Lambda(layer) for layer in layers)

    def __call__(self, x: Any, *, key: Key | None = None) -> Any:
        """What the last layer gives.

        Arguments:
            x: the input of the first layer.
            key: a random key for layers that need one; each layer gets a part of it.
        """
        layers: tuple[Any, ...] = self.layers
        keys = [None] * len(layers) if key is None else random.split(key, len(layers))
        for layer, layer_key in zip(layers, keys, strict=True):
            x = layer(x) if layer_key is None else layer(x, key=layer_key)
        return x

    def __getitem__(self, index: int | slice) -> Any:
        """A layer; for a slice, a Sequential of several."""
        return Sequential(self.layers[index]) if isinstance(index, slice) else self.layers[index]

    def __len__(self) -> int:
        return len(self.layers)


class Residual(Module):
    """Adds what a layer gives to what it gets: `x + layer(x)`.

    Arguments:
        layer: a module, or a function of one array.

    Source: K. He, X. Zhang, S. Ren and J. Sun, https://arxiv.org/abs/1512.03385.

    Example:
        >>> import funcgrad as fg
        >>> fg.nn.Residual(fg.nn.relu)(fg.array([-1.0, 2.0]))
        Array([-1.,  4.], dtype=float32)
    """

    layer: Module

    def __init__(self, layer: Module | Activation):
        self.layer = layer if isinstance(layer, Module) else Lambda(layer)

    def __call__(self, x: Any, *, key: Key | None = None) -> Any:
        """The input plus what the layer gives.

        Arguments:
            x: the input of the layer.
            key: a random key for the layer.

        Raises:
            ShapeError: if the layer changes the shape.
        """
        layer: Any = self.layer
        y = layer(x) if key is None else layer(x, key=key)
        if y.shape != np.shape(x):
            raise ShapeError(
                f"Residual needs a layer that keeps the shape, and {type(layer).__name__} made {y.shape} of "
                f"{np.shape(x)}."
            )
        return x + y


class MLP(Module):
    """The multilayer perceptron: linear layers with an activation function between them.

    Arguments:
        in_size: the number of inputs.
        out_size: the number of outputs.
        width: the number of units in each hidden layer.
        depth: the number of hidden layers; with 0 there is one linear layer from inputs to outputs.
        activation: applied after each hidden layer.
        final_activation: applied to the outputs; by default they are left as they are.
        key: the random key from which the parameters are drawn.
        use_bias: whether the layers have biases.
        dtype: the dtype of the parameters.

    Attributes:
        layers: a tuple of `depth + 1` `Linear` layers.

    Example:
        >>> import funcgrad as fg
        >>> network = fg.nn.MLP(2, 1, width=16, depth=2, key=fg.random.key(0))
        >>> [layer.weight.shape for layer in network.layers]
        [(16, 2), (16, 16), (1, 16)]
        >>> network(fg.numpy.ones((5, 2))).shape
        (5, 1)
    """

    layers: tuple[Linear, ...]
    activation: Activation
    final_activation: Activation

    def __init__(
        self,
        in_size: int,
        out_size: int,
        width: int,
        depth: int,
        activation: Activation = relu,
        final_activation: Activation = identity,
        *,
        key: Key,
        use_bias: bool = True,
        dtype: Any = dtypes.float32,
    ):
        check_sizes("MLP", in_size=in_size, out_size=out_size, width=width, depth=depth)
        sizes = [in_size, *[width] * depth, out_size]
        self.layers = tuple(
            Linear(inputs, outputs, key=layer_key, use_bias=use_bias, dtype=dtype)
            for inputs, outputs, layer_key in zip(sizes, sizes[1:], random.split(key, depth + 1), strict=False)
        )
        self.activation, self.final_activation = activation, final_activation

    def __call__(
        self, x: Float[ArrayLike, "*batch in_size"], *, key: Key | None = None
    ) -> Float[Array, "*batch out_size"]:
        """The outputs of the network.

        Arguments:
            x: one example, of shape (in_size,), or a batch, of shape (..., in_size).
            key: not used.

        Returns:
            An array of shape (..., out_size).

        Raises:
            ShapeError: if the last axis of `x` does not have `in_size` elements.
        """
        *hidden, last = self.layers
        for layer in hidden:
            x = self.activation(layer(x))
        return self.final_activation(last(x))
