"""Layers that compute again in the backward pass what they would otherwise keep in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from funcgrad.control_flow.checkpoint import checkpoint
from funcgrad.errors import ArgumentTypeError
from funcgrad.nn.module import Module


class Remat(Module):
    """A layer whose gradient keeps its inputs alone, and computes what is between them and its outputs a second time.

    For deep networks this is the way to less memory: with each block of a transformer in a `Remat`, one block at a time
    is in memory, for one more forward pass. Results and gradients are the same.

    Arguments:
        layer: a module.
        policy: which values are kept nevertheless: one of `fg.checkpoint_policies`, such as `dots_saveable` for the
            results of matrix products. By default none is.

    Attributes:
        layer: the module. Methods such as `decode` and attributes of it can also be had from the `Remat`, and are not
            rematerialized.

    Source: T. Chen, B. Xu, C. Zhang and C. Guestrin, "Training Deep Nets with Sublinear Memory Cost",
    https://arxiv.org/abs/1604.06174.

    Example:
        >>> import funcgrad as fg
        >>> encoder = fg.nn.TransformerEncoder(4, 8, num_heads=2, key=fg.random.key(0))
        >>> wrapped = lambda blocks: tuple(fg.nn.Remat(block) for block in blocks)
        >>> frugal = fg.nn.tree_at(lambda encoder: encoder.blocks, encoder, replace_fn=wrapped)
        >>> x = fg.random.normal(fg.random.key(1), (5, 8))
        >>> bool(abs(frugal(x) - encoder(x)).max() < 1e-6)
        True
    """

    layer: Any
    policy: Callable[..., bool] | None = None

    def __init__(self, layer: Any, policy: Callable[..., bool] | None = None):
        if not callable(layer):
            raise ArgumentTypeError(f"Remat got {type(layer).__name__} as layer, which cannot be called.")
        self.layer, self.policy = layer, policy

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the layer gives.

        Arguments:
            args, kwargs: those of the layer: arrays and pytrees.
        """
        call = checkpoint(lambda layer, args, kwargs: layer(*args, **kwargs), policy=self.policy)
        return call(self.layer, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        # Reached only for what a Remat does not have itself; a half-made one has no layer yet.
        layer = self.__dict__.get("layer")
        if layer is None or name.startswith("_"):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return getattr(layer, name)
