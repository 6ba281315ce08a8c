"""Adafactor: the squares of a matrix of gradients kept as their means by row and by column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy

from funcgrad import numpy as np
from funcgrad import tree
from funcgrad.annotations import Array
from funcgrad.optim.arithmetic import count_zero, keep_state_in_single_precision, squared_magnitude
from funcgrad.optim.averaging import ema
from funcgrad.optim.clipping import clip_by_block_rms, root_mean_square
from funcgrad.optim.decay import add_decayed_weights
from funcgrad.optim.masking import Mask
from funcgrad.optim.scaling import scale, scale_by_learning_rate
from funcgrad.optim.transformation import (
    GradientTransformation,
    PyTree,
    Scalar,
    Schedule,
    chain,
    init_empty_state,
    map_with_updates,
    require_params,
)


class FactoredState(NamedTuple):
    """Adafactor's memory.

    Attributes:
        count: how many updates there have been, int32 of shape ().
        v_row: for each array that is factored, decaying means of the squares over its longest axis; else one zero.
        v_col: likewise over its second longest.
        v: for each array that is not factored, the decaying mean of the squares; else one zero.
    """

    count: Array  # pyright: ignore[reportIncompatibleMethodOverride]
    v_row: PyTree
    v_col: PyTree
    v: PyTree


def scale_by_factored_rms(
    factored: bool = True,
    decay_rate: Scalar = 0.8,
    step_offset: int = 0,
    min_dim_size_to_factor: int = 128,
    epsilon: Scalar = 1e-30,
) -> GradientTransformation:
    """Divides the updates by an estimate of the root of the mean of their squares that needs little memory.

    Arguments:
        factored: whether arrays of two and more axes keep means over their two longest axes only.
        decay_rate: how fast the means come to remember longer: their decay is `1 - (count + 1) ** -decay_rate`.
        step_offset: subtracted from the count of updates.
        min_dim_size_to_factor: the least size of the second longest axis for which it is worth it.
        epsilon: added to the squares, so that no division is by zero.

    Source: N. Shazeer and M. Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost",
    https://arxiv.org/abs/1804.04235.

    Example:
        >>> import funcgrad as fg
        >>> rms = fg.optim.scale_by_factored_rms(min_dim_size_to_factor=2)
        >>> matrix = fg.array([[1.0, 2.0], [2.0, 4.0]])  # of rank one: its squares are known from their means
        >>> updates, state = rms.update(matrix, rms.init(matrix))
        >>> updates.round(4)
        Array([[1., 1.],
               [1., 1.]], dtype=float32)
    """

    def axes_of(x: Array) -> tuple[int, int] | None:
        """The second longest and the longest axis, if they are to be factored."""
        if not factored or x.ndim < 2:
            return None
        *_, second, longest = (int(axis) for axis in numpy.argsort(x.shape))
        return (second, longest) if x.shape[second] >= min_dim_size_to_factor else None

    def initial(p: Array) -> tuple[Array, Array, Array]:
        axes, nothing = axes_of(p), np.zeros((1,), dtype=np.real(p).dtype)
        if axes is None:
            return nothing, nothing, np.zeros_like(np.real(p))
        row, column = (np.zeros_like(np.sum(np.real(p), axis=axis)) for axis in reversed(axes))
        return row, column, nothing

    def init(params: PyTree) -> FactoredState:
        leaves, structure = tree.flatten(params)
        return FactoredState(count_zero(), *_columns(structure, [initial(p) for p in leaves], 3))

    def update(updates: PyTree, state: FactoredState, params: PyTree = None) -> tuple[PyTree, PyTree]:
        steps = (state.count - step_offset + 1).astype(np.float32)
        new_share = steps ** -np.asarray(decay_rate, dtype=np.float32)

        def mean(old: Array, new: Array) -> Array:
            share = new_share.astype(old.dtype)
            return (1 - share) * old + share * new

        def step(u: Array, row: Array, column: Array, v: Array) -> tuple[Array, Array, Array, Array]:
            square, axes = squared_magnitude(u) + epsilon, axes_of(u)
            if axes is None:
                v = mean(v, square)
                return u / np.sqrt(v), row, column, v
            second, longest = axes
            row, column = mean(row, np.mean(square, axis=longest)), mean(column, np.mean(square, axis=second))
            # The mean square of an element, estimated as that of its row times that of its column over that of all.
            size = np.mean(row, axis=second - (second > longest), keepdims=True)
            by_row, by_column = np.expand_dims(row / size, longest), np.expand_dims(column, second)
            return u / (np.sqrt(by_row) * np.sqrt(by_column)), row, column, v

        found = map_with_updates(lambda v, u, row, column: step(u, row, column, v), state.v, updates, *state[1:3])
        structure = tree.structure(updates)
        rows = structure.flatten_up_to(found)
        steps_taken, *memory = _columns(structure, rows, 4)
        return steps_taken, FactoredState(state.count + 1, *memory)

    return keep_state_in_single_precision(GradientTransformation(init, update))


def _columns(structure: tree.TreeDef, rows: Sequence[Any], width: int) -> list[PyTree]:
    """Turns a list with a tuple for each leaf into a tree for each place of the tuples."""
    return [structure.unflatten([row[place] for row in rows]) for place in range(width)]


def scale_by_param_block_rms(min_scale: Scalar = 1e-3) -> GradientTransformation:
    """Multiplies the update of each array by the root of the mean of the squares of its parameters.

    Arguments:
        min_scale: the least factor, by which parameters that are zero begin to move.

    Raises:
        ArgumentError: in `update`, if it is not given the parameters.

    Example:
        >>> import funcgrad as fg
        >>> relative = fg.optim.scale_by_param_block_rms()
        >>> params = fg.array([3.0, -3.0])
        >>> updates, state = relative.update(fg.array([0.5, 1.0]), relative.init(params), params)
        >>> updates
        Array([1.5, 3. ], dtype=float32)
    """

    def update(updates: PyTree, state: PyTree, params: PyTree = None) -> tuple[PyTree, PyTree]:
        require_params(params, "scale_by_param_block_rms")

        def scaled(p: Array, u: Array) -> Array:
            return u * np.maximum(root_mean_square(p.astype(u.dtype)), min_scale).astype(u.dtype)

        return map_with_updates(scaled, params, updates), state

    return keep_state_in_single_precision(GradientTransformation(init_empty_state, update))


def adafactor(
    learning_rate: Scalar | Schedule | None = None,
    min_dim_size_to_factor: int = 128,
    decay_rate: Scalar = 0.8,
    decay_offset: int = 0,
    multiply_by_parameter_scale: bool = True,
    clipping_threshold: Scalar | None = 1.0,
    momentum: Scalar | None = None,
    dtype_momentum: Any = None,
    weight_decay_rate: Scalar | Schedule | None = None,
    eps: Scalar = 1e-30,
    factored: bool = True,
    weight_decay_mask: Mask | None = None,
) -> GradientTransformation:
    """Adafactor: adapts to the size of gradients like Adam, with a memory of rows and columns in place of matrices.

    Arguments:
        learning_rate: a number, an array of shape (), or a function of the count of earlier steps. By default 1.
        min_dim_size_to_factor, decay_rate, factored: see `scale_by_factored_rms`.
        decay_offset: its `step_offset`.
        eps: its `epsilon`.
        multiply_by_parameter_scale: whether steps are in proportion to the parameters; see `scale_by_param_block_rms`.
        clipping_threshold: see `clip_by_block_rms`; None for no clipping.
        momentum: the decay of a mean of the steps, which takes as much memory as the parameters. By default, none.
        dtype_momentum: the dtype of that mean; by default that of the parameters.
        weight_decay_rate, weight_decay_mask: see `add_decayed_weights`; the learning rate does not multiply the decay.

    Returns:
        A `GradientTransformation` whose `update` needs the parameters if steps are in proportion to them or they decay.

    Source: N. Shazeer and M. Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost",
    https://arxiv.org/abs/1804.04235.

    Example:
        >>> import funcgrad as fg
        >>> optimizer = fg.optim.adafactor(0.1)
        >>> params = fg.array([2.0, -2.0])
        >>> updates, state = optimizer.update(fg.array([0.5, 20.0]), optimizer.init(params), params)
        >>> updates
        Array([-0.2, -0.2], dtype=float32)
    """
    parts = [scale_by_factored_rms(factored, decay_rate, decay_offset, min_dim_size_to_factor, eps)]
    if clipping_threshold is not None:
        parts.append(clip_by_block_rms(clipping_threshold))
    if learning_rate is not None:
        parts.append(scale_by_learning_rate(learning_rate, flip_sign=False))
    if multiply_by_parameter_scale:
        parts.append(scale_by_param_block_rms())
    if momentum is not None:
        parts.append(ema(momentum, debias=False, accumulator_dtype=dtype_momentum))
    if weight_decay_rate is not None:
        parts.append(add_decayed_weights(weight_decay_rate, weight_decay_mask))
    return chain(*parts, scale(-1.0))
