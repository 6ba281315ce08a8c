"""Keeping updates from becoming too large."""

from __future__ import annotations

from funcgrad import numpy as np
from funcgrad import tree
from funcgrad.annotations import Array, Float
from funcgrad.optim.scaling import Scalar, squared_magnitude
from funcgrad.optim.transformation import GradientTransformation, PyTree, init_empty_state


def global_norm(updates: PyTree) -> Float[Array, ""]:
    """The Euclidean norm of all the arrays of a pytree, taken together as one long vector.

    Arguments:
        updates: a pytree of floating arrays.

    Returns:
        A real array of shape (); 0 for a pytree without arrays.

    Example:
        >>> import funcgrad as fg
        >>> fg.optim.global_norm({"w": fg.array([3.0, 0.0]), "b": fg.array(4.0)})
        Array(5., dtype=float32)
    """
    squares = [np.sum(squared_magnitude(x)) for x in tree.leaves(updates)]
    return np.sqrt(sum(squares[1:], squares[0])) if squares else np.zeros(())


def clip_by_global_norm(max_norm: Scalar) -> GradientTransformation:
    """Shrinks the updates, all by one factor, so that their global norm is at most `max_norm`.

    Arguments:
        max_norm: a positive number.

    Source: R. Pascanu, T. Mikolov and Y. Bengio, "On the difficulty of training recurrent neural networks",
    https://arxiv.org/abs/1211.5063.

    Example:
        >>> import funcgrad as fg
        >>> clip = fg.optim.clip_by_global_norm(1.0)
        >>> updates, state = clip.update(fg.array([3.0, 4.0]), clip.init(None))
        >>> updates
        Array([0.6, 0.8], dtype=float32)
    """

    def update(updates: PyTree, state: PyTree, params: PyTree = None) -> tuple[PyTree, PyTree]:
        # Exactly 1 where the norm is small enough, and no division by a norm of zero.
        factor = max_norm / np.maximum(global_norm(updates), max_norm)
        return tree.map(lambda u: u * np.asarray(factor, dtype=u.dtype), updates), state

    return GradientTransformation(init_empty_state, update)
