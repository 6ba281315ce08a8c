"""What an optimizer is: a pair of pure functions, and the ways to combine and apply such pairs.

`init(params)` makes the state, `update(gradients, state, params)` turns gradients into updates and gives the next
state. Nothing is stored anywhere else, so a training step is a pure function that `jit` compiles. Optimizers are made
of small transformations, chained: Adam is `chain(scale_by_adam(), scale_by_learning_rate(0.001))`.

The shape of this interface is that of Optax (https://optax.readthedocs.io).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from funcgrad import numpy as np
from funcgrad import tree
from funcgrad.errors import ArgumentError

PyTree = Any


class GradientTransformation(NamedTuple):
    """Turns gradients into updates. Every optimizer is one, and so is every part of one.

    Attributes:
        init: `init(params)` gives the first state, a pytree.
        update: `update(updates, state, params=None)` gives `(updates, state)`. `updates` are the gradients, or what
            an earlier transformation of a chain made of them: a pytree of the structure of `params`.

    Example, a transformation of one's own that keeps only the signs of the gradients:
        >>> import funcgrad as fg
        >>> def update(updates, state, params=None):
        ...     return fg.tree.map(fg.numpy.sign, updates), state
        >>> sign = fg.optim.GradientTransformation(lambda params: fg.optim.EmptyState(), update)
        >>> optimizer = fg.optim.chain(sign, fg.optim.scale(-0.1))
        >>> updates, state = optimizer.update(fg.array([3.0, -4.0]), optimizer.init(None))
        >>> updates
        Array([-0.1,  0.1], dtype=float32)
    """

    init: Callable[[PyTree], PyTree]
    update: Callable[..., tuple[PyTree, PyTree]]


class EmptyState(NamedTuple):
    """The state of a transformation that remembers nothing."""


def init_empty_state(params: PyTree) -> EmptyState:
    """The `init` of a transformation that remembers nothing."""
    return EmptyState()


def identity() -> GradientTransformation:
    """The transformation that leaves the updates as they are.

    Example:
        >>> import funcgrad as fg
        >>> optimizer = fg.optim.identity()
        >>> optimizer.update(1.0, optimizer.init(None))
        (1.0, EmptyState())
    """
    return GradientTransformation(init_empty_state, lambda updates, state, params=None: (updates, state))


def chain(*transformations: GradientTransformation) -> GradientTransformation:
    """One transformation that applies several, one after the other.

    Arguments:
        transformations: the first one gets the gradients, each of the others what the one before it made of them.

    Returns:
        A transformation whose state is the tuple of their states.

    Raises:
        ArgumentError: in `update`, if the state was made by a chain of another length.

    Example:
        >>> import funcgrad as fg
        >>> optimizer = fg.optim.chain(fg.optim.clip_by_global_norm(1.0), fg.optim.sgd(0.5))
        >>> updates, state = optimizer.update(fg.array([3.0, 4.0]), optimizer.init(fg.array([0.0, 0.0])))
        >>> updates
        Array([-0.3, -0.4], dtype=float32)
    """

    def init(params: PyTree) -> tuple[PyTree, ...]:
        return tuple(transformation.init(params) for transformation in transformations)

    def update(updates: PyTree, state: tuple[PyTree, ...], params: PyTree = None) -> tuple[PyTree, PyTree]:
        if len(state) != len(transformations):
            raise ArgumentError(
                f"a chain of {len(transformations)} transformations got a state of {len(state)} parts; "
                "pass the state that this chain's own init or update gave."
            )
        states = []
        for transformation, own_state in zip(transformations, state, strict=True):
            updates, own_state = transformation.update(updates, own_state, params)
            states.append(own_state)
        return updates, tuple(states)

    return GradientTransformation(init, update)


def apply_updates(params: PyTree, updates: PyTree) -> PyTree:
    """The parameters after a step: `params + updates`, in the dtypes of `params`.

    Arguments:
        params: a pytree of arrays.
        updates: a pytree of the same structure and shapes.

    Returns:
        A pytree like `params`.

    Raises:
        TreeError: if the structures differ.

    Example:
        >>> import funcgrad as fg
        >>> fg.optim.apply_updates({"w": fg.array([1.0, 2.0])}, {"w": fg.array([0.5, -0.5])})
        {'w': Array([1.5, 1.5], dtype=float32)}
    """
    return tree.map(lambda p, u: np.asarray(p + u, dtype=p.dtype), params, updates)
