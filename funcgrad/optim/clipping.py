"""Keeping updates from becoming too large: each number, each array, or all of them together."""

from __future__ import annotations

from collections.abc import Sequence

from funcgrad import numpy as np
from funcgrad import tree
from funcgrad.annotations import Array, Float
from funcgrad.errors import ArgumentError
from funcgrad.optim.arithmetic import keep_state_in_single_precision, squared_magnitude
from funcgrad.optim.transformation import (
    GradientTransformation,
    PyTree,
    Scalar,
    init_empty_state,
    map_with_updates,
    require_params,
)


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

    return keep_state_in_single_precision(GradientTransformation(init_empty_state, update))


def clip(max_delta: Scalar) -> GradientTransformation:
    """Clips each number of the updates to the range from `-max_delta` to `max_delta`.

    Arguments:
        max_delta: a positive number.

    Example:
        >>> import funcgrad as fg
        >>> clip = fg.optim.clip(1.0)
        >>> updates, state = clip.update(fg.array([0.5, -4.0]), clip.init(None))
        >>> updates
        Array([ 0.5, -1. ], dtype=float32)
    """

    def update(updates: PyTree, state: PyTree, params: PyTree = None) -> tuple[PyTree, PyTree]:
        return tree.map(lambda u: np.clip(u, -max_delta, max_delta).astype(u.dtype), updates), state

    return GradientTransformation(init_empty_state, update)


def root_mean_square(x: Array) -> Array:
    """The root of the mean of the squares of an array, with a derivative of zero where all of it is zero."""
    square = np.mean(squared_magnitude(x)) if x.size else np.zeros((), dtype=np.real(x).dtype)
    positive = square > 0
    return np.where(positive, np.sqrt(np.where(positive, square, 1)), 0)


def clip_by_block_rms(threshold: Scalar) -> GradientTransformation:
    """Shrinks the update of each array so that the root of the mean of its squares is at most `threshold`.

    Arguments:
        threshold: a positive number.

    Source: N. Shazeer and M. Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost",
    https://arxiv.org/abs/1804.04235.

    Example:
        >>> import funcgrad as fg
        >>> clip = fg.optim.clip_by_block_rms(1.0)
        >>> updates, state = clip.update({"a": fg.array([4.0, -4.0]), "b": fg.array(0.5)}, clip.init(None))
        >>> updates
        {'a': Array([ 1., -1.], dtype=float32), 'b': Array(0.5, dtype=float32)}
    """

    def update(updates: PyTree, state: PyTree, params: PyTree = None) -> tuple[PyTree, PyTree]:
        def clipped(u: Array) -> Array:
            return u / np.maximum(root_mean_square(u) / threshold, 1).astype(u.dtype)

        return tree.map(clipped, updates), state

    return keep_state_in_single_precision(GradientTransformation(init_empty_state, update))


def adaptive_grad_clip(
    clipping: Scalar, eps: Scalar = 1e-3, axis: int | Sequence[int] | None = None
) -> GradientTransformation:
    """Shrinks the updates of each unit so that their norm is at most a share of the norm of its parameters.

    Arguments:
        clipping: the share, a positive number.
        eps: the least norm that parameters count for, so that those that are zero can move.
        axis: the axes over which the norms are taken. By default a unit is an output of a layer: norms are over all of
            a vector or scalar, over the first axis of a matrix and of an array of three axes, and over all axes but
            the last of one of four and five axes, which is a kernel of a convolution.

    Raises:
        ArgumentError: in `update`, if it is not given the parameters, or if `axis` is None and an array has more
            than five axes.

    Source: A. Brock, S. De, S. Smith and K. Simonyan, "High-Performance Large-Scale Image Recognition Without
    Normalization", https://arxiv.org/abs/2102.06171.

    Example, with a unit that changes too much and one that does not:
        >>> import funcgrad as fg
        >>> clip = fg.optim.adaptive_grad_clip(0.1)
        >>> params = fg.array([[3.0, 0.6], [4.0, 0.8]])
        >>> updates, state = clip.update(fg.array([[6.0, 0.01], [8.0, 0.0]]), clip.init(params), params)
        >>> updates.round(4)
        Array([[0.3 , 0.01],
               [0.4 , 0.  ]], dtype=float32)
    """

    def axes_of(x: Array) -> int | tuple[int, ...] | None:
        if axis is not None:
            return axis if isinstance(axis, int) else tuple(axis)
        if sum(size > 1 for size in x.shape) <= 1:
            return None
        if x.ndim > 5:
            raise ArgumentError(
                f"adaptive_grad_clip does not know the units of an array of shape {x.shape}; give it the axes of one."
            )
        return 0 if x.ndim <= 3 else tuple(range(x.ndim - 1))

    def norm(x: Array) -> Array:
        return np.sqrt(np.sum(squared_magnitude(x), axis=axes_of(x), keepdims=True))

    def update(updates: PyTree, state: PyTree, params: PyTree = None) -> tuple[PyTree, PyTree]:
        require_params(params, "adaptive_grad_clip")

        def clipped(p: Array, u: Array) -> Array:
            largest = np.maximum(norm(p.astype(u.dtype)), eps) * clipping
            factor = largest / np.maximum(norm(u), largest)
            return u * factor.astype(u.dtype)

        return map_with_updates(clipped, params, updates), state

    return keep_state_in_single_precision(GradientTransformation(init_empty_state, update))


def normalize_by_update_norm(scale_factor: Scalar = 1.0, eps: Scalar = 1e-6) -> GradientTransformation:
    """Brings the global norm of the updates to `scale_factor`.

    Arguments:
        scale_factor: the norm that results, a positive number.
        eps: added to the norm that is divided by, so that updates of zero stay zero.

    Example:
        >>> import funcgrad as fg
        >>> normalize = fg.optim.normalize_by_update_norm(10.0)
        >>> updates, state = normalize.update(fg.array([3.0, 4.0]), normalize.init(None))
        >>> updates.round(4)
        Array([6., 8.], dtype=float32)
    """

    def update(updates: PyTree, state: PyTree, params: PyTree = None) -> tuple[PyTree, PyTree]:
        factor = scale_factor / (global_norm(updates) + eps)
        return tree.map(lambda u: u * np.asarray(factor, dtype=u.dtype), updates), state

    return keep_state_in_single_precision(GradientTransformation(init_empty_state, update))
