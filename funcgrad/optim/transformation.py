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
from funcgrad.annotations import Array, Int, Num, Real
from funcgrad.errors import ArgumentError, ShapeError

PyTree = Any

# A number, also one that is computed under a transform; and a number that depends on the count of earlier updates.
Scalar = Real | Num[Array, ""]
Schedule = Callable[[Int[Array, ""]], Scalar]


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


class GradientTransformationExtraArgs(GradientTransformation):
    """A transformation whose `update` takes more than the updates: `update(updates, state, params, **extra_args)`.

    `chain`, `masked` and the others hand what their own `update` got to every part of this class, so that one call can
    carry the value of the loss to the part that needs it. Such an `update` must ignore the arguments that it does not
    know.

    Example:
        >>> import funcgrad as fg
        >>> def update(updates, state, params=None, *, value, **extra_args):
        ...     return fg.tree.map(lambda u: u * value, updates), state
        >>> by_loss = fg.optim.GradientTransformationExtraArgs(lambda params: fg.optim.EmptyState(), update)
        >>> optimizer = fg.optim.chain(by_loss, fg.optim.sgd(0.5))
        >>> updates, state = optimizer.update(fg.array(1.0), optimizer.init(fg.array(0.0)), value=3.0)
        >>> updates
        Array(-1.5, dtype=float32)
    """

    __slots__ = ()


def with_extra_args_support(transformation: GradientTransformation) -> GradientTransformationExtraArgs:
    """The transformation, able to be called with arguments that it does not know; it does not get to see them.

    Arguments:
        transformation: any transformation.

    Example:
        >>> import funcgrad as fg
        >>> optimizer = fg.optim.with_extra_args_support(fg.optim.scale(2.0))
        >>> updates, state = optimizer.update(fg.array(1.0), optimizer.init(None), value=3.0)
        >>> updates
        Array(2., dtype=float32)
    """
    if isinstance(transformation, GradientTransformationExtraArgs):
        return transformation

    def update(updates: PyTree, state: PyTree, params: PyTree = None, **extra_args: Any) -> tuple[PyTree, PyTree]:
        return transformation.update(updates, state, params)

    return GradientTransformationExtraArgs(transformation.init, update)


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


def set_to_zero() -> GradientTransformation:
    """The transformation that makes every update zero: with `partition`, for the parameters that are to stay.

    Example:
        >>> import funcgrad as fg
        >>> optimizer = fg.optim.set_to_zero()
        >>> optimizer.update(fg.array([1.0, 2.0]), optimizer.init(None))
        (Array([0., 0.], dtype=float32), EmptyState())
    """

    def update(updates: PyTree, state: PyTree, params: PyTree = None) -> tuple[PyTree, PyTree]:
        return tree.map(np.zeros_like, updates), state

    return GradientTransformation(init_empty_state, update)


def chain(*transformations: GradientTransformation) -> GradientTransformationExtraArgs:
    """One transformation that applies several, one after the other.

    Arguments:
        transformations: the first one gets the gradients, each of the others what the one before it made of them.

    Returns:
        A transformation whose state is the tuple of their states. Its `update` hands arguments beyond the usual three
        to the transformations that take such (see `GradientTransformationExtraArgs`).

    Raises:
        ArgumentError: in `update`, if the state was made by a chain of another length.

    Example:
        >>> import funcgrad as fg
        >>> optimizer = fg.optim.chain(fg.optim.clip_by_global_norm(1.0), fg.optim.sgd(0.5))
        >>> updates, state = optimizer.update(fg.array([3.0, 4.0]), optimizer.init(fg.array([0.0, 0.0])))
        >>> updates
        Array([-0.3, -0.4], dtype=float32)
    """

    parts = [with_extra_args_support(transformation) for transformation in transformations]

    def init(params: PyTree) -> tuple[PyTree, ...]:
        return tuple(part.init(params) for part in parts)

    def update(
        updates: PyTree, state: tuple[PyTree, ...], params: PyTree = None, **extra_args: Any
    ) -> tuple[PyTree, PyTree]:
        if len(state) != len(parts):
            raise ArgumentError(
                f"a chain of {len(parts)} transformations got a state of {len(state)} parts; "
                "pass the state that this chain's own init or update gave."
            )
        states = []
        for part, own_state in zip(parts, state, strict=True):
            updates, own_state = part.update(updates, own_state, params, **extra_args)
            states.append(own_state)
        return updates, tuple(states)

    return GradientTransformationExtraArgs(init, update)


def apply_updates(params: PyTree, updates: PyTree) -> PyTree:
    """The parameters after a step: `params + updates`, in the dtypes of `params`.

    Arguments:
        params: a pytree of arrays.
        updates: a pytree of the same structure and shapes.

    Returns:
        A pytree like `params`.

    Raises:
        TreeError: if the structures differ.
        ShapeError: if the shapes of a parameter and its update differ.

    Example:
        >>> import funcgrad as fg
        >>> fg.optim.apply_updates({"w": fg.array([1.0, 2.0])}, {"w": fg.array([0.5, -0.5])})
        {'w': Array([1.5, 1.5], dtype=float32)}
    """

    def apply(p: Array, u: Array) -> Array:
        if p.shape != u.shape:
            raise _other_shapes(params, updates)
        return np.asarray(p + u, dtype=p.dtype)

    return map_with_updates(apply, params, updates, what="the updates given to apply_updates")


def map_with_updates(
    f: Callable[..., Any], expected: PyTree, updates: PyTree, *rest: PyTree, what: str = "the updates given to update"
) -> PyTree:
    """`tree.map(f, expected, updates, *rest)`, where the error about another structure speaks of the updates.

    Arguments:
        f: called with an array of each tree.
        expected: the parameters, or a state with their structure.
        updates: gradients or updates, which must have that structure.
        rest: further states with that structure.
        what: what the updates are, to begin an error message with.

    Raises:
        TreeError: if `updates` has another structure than `expected`; it names the first place where they differ.
    """
    expected_leaves, structure = tree.flatten(expected)
    update_leaves, given = tree.flatten(updates)
    if structure != given:
        tree.check_same_structure(structure, given, what=what)
    return structure.unflatten(map(f, expected_leaves, update_leaves, *map(tree.leaves, rest)))


def _other_shapes(params: PyTree, updates: PyTree) -> ShapeError:
    pairs = zip(tree.leaves_with_path(params), tree.leaves(updates), strict=True)
    path, shape, other = next((path, p.shape, u.shape) for (path, p), u in pairs if p.shape != u.shape)
    where = f" at {tree.keystr(path)}" if path else ""
    return ShapeError(
        f"the parameter{where} has the shape {shape} and its update the shape {other}; give gradients of the shapes of "
        "the parameters, as grad does."
    )


def require_params(params: PyTree, name: str) -> None:
    """Raises an error when a transformation that needs the parameters was not given them.

    Arguments:
        params: what `update` was given for them.
        name: the name of the transformation.

    Raises:
        ArgumentError: if `params` is None.
    """
    if params is None:
        raise ArgumentError(f"{name} needs the parameters; call update(updates, state, params).")
