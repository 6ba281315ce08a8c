"""Rprop: steps that grow while the sign of the gradient stays, and shrink when it changes."""

from __future__ import annotations

from typing import NamedTuple

from funcgrad import numpy as np
from funcgrad import tree
from funcgrad.annotations import Array
from funcgrad.optim.arithmetic import keep_state_in_single_precision, zeros
from funcgrad.optim.scaling import scale
from funcgrad.optim.transformation import GradientTransformation, PyTree, Scalar, chain, map_with_updates


class ScaleByRpropState(NamedTuple):
    """The lengths of the steps and the last steps, pytrees like the parameters."""

    step_sizes: PyTree
    prev_updates: PyTree


def scale_by_rprop(
    learning_rate: Scalar,
    eta_minus: Scalar = 0.5,
    eta_plus: Scalar = 1.2,
    min_step_size: Scalar = 1e-6,
    max_step_size: Scalar = 50.0,
) -> GradientTransformation:
    """Replaces each update by its sign times a step length that adapts to how often the sign changes.

    Arguments:
        learning_rate: the length of the first steps.
        eta_minus: multiplies the length where the sign has changed; no step is made there this time.
        eta_plus: multiplies the length where the sign has stayed.
        min_step_size, max_step_size: the bounds of the lengths.

    Source: M. Riedmiller and H. Braun, "A direct adaptive method for faster backpropagation learning: the RPROP
    algorithm", ICNN 1993; the variant without going back is that of C. Igel and M. Hüsken, "Improving the Rprop
    Learning Algorithm", 2000 (iRprop-).

    Example:
        >>> import funcgrad as fg
        >>> rprop = fg.optim.scale_by_rprop(0.5)
        >>> updates, state = rprop.update(fg.array([3.0, 3.0]), rprop.init(fg.array([0.0, 0.0])))
        >>> updates, state = rprop.update(fg.array([0.1, -0.1]), state)
        >>> updates
        Array([0.6, 0. ], dtype=float32)
    """

    def init(params: PyTree) -> ScaleByRpropState:
        return ScaleByRpropState(tree.map(lambda p: np.full_like(p, learning_rate), params), zeros(params))

    def update(updates: PyTree, state: ScaleByRpropState, params: PyTree = None) -> tuple[PyTree, PyTree]:
        agreement = map_with_updates(lambda previous, u: u * previous, state.prev_updates, updates)

        def next_size(a: Array, size: Array) -> Array:
            changed = np.clip(size * np.where(a > 0, eta_plus, eta_minus), min_step_size, max_step_size)
            return np.where(a == 0, size, changed).astype(size.dtype)

        sizes = tree.map(next_size, agreement, state.step_sizes)
        steps = tree.map(lambda a, u, size: np.where(a < 0, 0, size * np.sign(u)), agreement, updates, sizes)
        return steps, ScaleByRpropState(step_sizes=sizes, prev_updates=steps)

    return keep_state_in_single_precision(GradientTransformation(init, update))


def rprop(
    learning_rate: Scalar,
    eta_minus: Scalar = 0.5,
    eta_plus: Scalar = 1.2,
    min_step_size: Scalar = 1e-6,
    max_step_size: Scalar = 50.0,
) -> GradientTransformation:
    """Rprop: only the signs of the gradients count; for gradients of the whole data, without noise.

    Arguments:
        learning_rate, eta_minus, eta_plus, min_step_size, max_step_size: see `scale_by_rprop`.

    Returns:
        A `GradientTransformation`.

    Example:
        >>> import funcgrad as fg
        >>> optimizer = fg.optim.rprop(0.5)
        >>> updates, state = optimizer.update(fg.array([3.0, -0.1]), optimizer.init(fg.array([0.0, 0.0])))
        >>> updates
        Array([-0.5,  0.5], dtype=float32)
    """
    return chain(scale_by_rprop(learning_rate, eta_minus, eta_plus, min_step_size, max_step_size), scale(-1.0))
