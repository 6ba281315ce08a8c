"""Dropout, and the switch between training and inference."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

from funcgrad import numpy as np
from funcgrad import random
from funcgrad.annotations import Array, ArrayLike, Float, Key, Real
from funcgrad.errors import ArgumentError
from funcgrad.nn.module import Module

_Tree = TypeVar("_Tree")


class Dropout(Module):
    """Sets random elements to 0 while training, and makes the others larger by 1 / (1 - rate), so that means stay.

    Arguments:
        rate: the probability of an element to become 0.
        inference: whether to leave all elements as they are; `nn.inference_mode` sets it in a whole network.
        shared_axes: axes along which all elements share one fate: with (-1, -2), whole channels of images.

    Raises:
        ArgumentError: if the rate is not between 0 and 1.

    Source: N. Srivastava et al., https://jmlr.org/papers/v15/srivastava14a.html.

    Example:
        >>> import funcgrad as fg
        >>> dropout = fg.nn.Dropout(0.5)
        >>> y = dropout(fg.numpy.ones(1000), key=fg.random.key(0))
        >>> sorted({float(element) for element in y})
        [0.0, 2.0]
    """

    rate: float
    inference: bool
    shared_axes: tuple[int, ...]

    def __init__(self, rate: Real = 0.5, *, inference: bool = False, shared_axes: tuple[int, ...] = ()):
        if not 0 <= rate <= 1:
            raise ArgumentError(f"Dropout got rate={rate!r}; it is a probability between 0 and 1.")
        self.rate, self.inference, self.shared_axes = float(rate), inference, tuple(shared_axes)

    def __call__(self, x: Float[ArrayLike, "*shape"], *, key: Key | None = None) -> Float[Array, "*shape"]:
        """The array with some elements set to 0.

        Arguments:
            x: floats of any shape.
            key: a random key; needed while training.

        Raises:
            ArgumentError: if there is no key while training.
        """
        x = np.asarray(x)
        if self.inference or self.rate == 0:
            return x
        if self.rate == 1:
            return np.zeros_like(x)
        if key is None:
            raise ArgumentError(
                "Dropout needs a random key while training; call the network with key=..., or make a copy for "
                "inference with nn.inference_mode(network)."
            )
        shape = list(x.shape)
        for axis in self.shared_axes:
            shape[axis] = 1
        kept = random.bernoulli(key, 1 - self.rate, tuple(shape))
        return np.where(kept, x / (1 - self.rate), 0)


def inference_mode(module: _Tree, value: bool = True) -> _Tree:
    """A copy of a network for inference: without dropout, and with the running statistics of batch normalization.

    Arguments:
        module: a module, or any pytree of modules.
        value: False makes a copy for training again.

    Returns:
        A copy in which every module that has a static field `inference` has this value there. Its parameters are the
        same arrays; to `jit`, the copy is another network.

    Example:
        >>> import funcgrad as fg
        >>> network = fg.nn.Sequential([fg.nn.Dropout(0.5)])
        >>> fg.nn.inference_mode(network)(fg.numpy.ones(3))
        Array([1., 1., 1.], dtype=float32)
    """
    return _with_inference(module, bool(value))


def _with_inference(node: Any, value: bool) -> Any:
    if isinstance(node, Module):
        changes = {}
        for field in dataclasses.fields(node):
            old = getattr(node, field.name)
            if field.name in node._static_names:
                new = value if field.name == "inference" else old
            else:
                new = _with_inference(old, value)
            if new is not old:
                changes[field.name] = new
        return node.replace(**changes) if changes else node
    if type(node) in (tuple, list):
        return type(node)(_with_inference(item, value) for item in node)
    if type(node) is dict:
        return {name: _with_inference(item, value) for name, item in node.items()}
    return node
