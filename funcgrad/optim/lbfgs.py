"""L-BFGS: steps that know the curvature, from how the gradient has changed along the last steps."""

from __future__ import annotations

from typing import Any, NamedTuple

from funcgrad import numpy as np
from funcgrad import tree
from funcgrad.annotations import Array
from funcgrad.control_flow.scan import scan
from funcgrad.errors import ArgumentError
from funcgrad.optim.arithmetic import count_zero, times, widen, widest_dtype
from funcgrad.optim.line_search import inner_product
from funcgrad.optim.scaling import scale, scale_by_learning_rate
from funcgrad.optim.transformation import (
    GradientTransformation,
    GradientTransformationExtraArgs,
    PyTree,
    Scalar,
    Schedule,
    chain,
    identity,
    map_with_updates,
    require_params,
)
from funcgrad.optim.zoom import scale_by_zoom_linesearch


class ScaleByLBFGSState(NamedTuple):
    """The state of `scale_by_lbfgs`.

    Attributes:
        count: how many updates there have been, int32 of shape ().
        params: the parameters of the last update.
        updates: the gradients of the last update.
        diff_params_memory: the last steps of the parameters, oldest first: each array has one axis more, in front.
        diff_updates_memory: likewise the changes of the gradients.
        weights_memory: of shape (memory_size,): 1 over the inner product of each step and change; 0 for what is not
            there yet, and for a step along which the curvature was not positive.
    """

    count: Array  # pyright: ignore[reportIncompatibleMethodOverride]
    params: PyTree
    updates: PyTree
    diff_params_memory: PyTree
    diff_updates_memory: PyTree
    weights_memory: Array


def scale_by_lbfgs(memory_size: int = 10, scale_init_precond: bool = True) -> GradientTransformation:
    """Multiplies the gradients by an approximation of the inverse Hessian, made of the last steps.

    Arguments:
        memory_size: how many steps are remembered.
        scale_init_precond: whether the approximation begins with the identity times the curvature along the last step,
            and in the first step is such that this one is no longer than 1; otherwise with the identity.

    Returns:
        A transformation with the state `ScaleByLBFGSState`, whose `update` needs the parameters. 16-bit parameters and
        gradients are remembered as float32.

    Raises:
        ArgumentError: if `memory_size` is below 1, or `update` is not given the parameters.

    Source: J. Nocedal and S. J. Wright, "Numerical Optimization", https://doi.org/10.1007/978-0-387-40065-5,
    algorithm 7.4.

    Example, with steps of full length, which is right for a quadratic function:
        >>> import funcgrad as fg
        >>> def f(x):
        ...     return (fg.array([1.0, 10.0]) * (x - 3) ** 2).sum()
        >>> optimizer = fg.optim.chain(fg.optim.scale_by_lbfgs(), fg.optim.scale(-1.0))
        >>> x = fg.array([1.0, 2.0])
        >>> state = optimizer.init(x)
        >>> for _ in range(10):
        ...     updates, state = optimizer.update(fg.grad(f)(x), state, x)
        ...     x = fg.optim.apply_updates(x, updates)
        >>> x.round(3)
        Array([3., 3.], dtype=float32)
    """
    if memory_size < 1:
        raise ArgumentError(f"scale_by_lbfgs got memory_size={memory_size}; give at least 1, or 10.")

    def init(params: PyTree) -> ScaleByLBFGSState:
        params = widen(params)
        memory = tree.map(lambda p: np.zeros((memory_size, *p.shape), p.dtype), params)
        zeros, weights = tree.map(np.zeros_like, params), np.zeros(memory_size, widest_dtype(params))
        return ScaleByLBFGSState(count_zero(), zeros, zeros, memory, memory, weights)

    def update(updates: PyTree, state: ScaleByLBFGSState, params: PyTree = None) -> tuple[PyTree, ScaleByLBFGSState]:
        require_params(params, "scale_by_lbfgs")
        params, updates = widen(params), widen(updates)
        started = state.count > 0

        def difference(new: Array, old: Array) -> Array:
            return np.where(started, new - old, 0).astype(old.dtype)

        step = map_with_updates(difference, params, state.params, what="the parameters given to update")
        change = map_with_updates(difference, updates, state.updates)
        curvature = inner_product(step, change).astype(state.weights_memory.dtype)
        is_convex = curvature > 0
        weight = np.where(is_convex, 1 / np.where(is_convex, curvature, 1), 0)
        steps, changes, weights = tree.map(
            _remember,
            (state.diff_params_memory, state.diff_updates_memory, state.weights_memory),
            (step, change, weight),
        )
        factor = np.ones((), weights.dtype)
        if scale_init_precond:
            squared = np.where(is_convex, inner_product(change, change), 1)
            norm = np.sqrt(inner_product(updates, updates))
            first = np.where(norm > 1, 1 / np.maximum(norm, 1), 1)
            factor = np.where(started, np.where(is_convex, curvature / squared, 1), first)
        direction = _multiplied(updates, steps, changes, weights, factor)
        return direction, ScaleByLBFGSState(state.count + 1, params, updates, steps, changes, weights)

    return GradientTransformation(init, update)


def _remember(memory: Array, newest: Array) -> Array:
    return np.concatenate([memory[1:], newest[None].astype(memory.dtype)])


def _multiplied(vector: PyTree, steps: PyTree, changes: PyTree, weights: Array, factor: Array) -> PyTree:
    """The approximate inverse Hessian times a vector: the two loops over the memory, backwards and forwards."""

    def backwards(vector: PyTree, remembered: Any) -> tuple[PyTree, Array]:
        step, change, weight = remembered
        part = weight * inner_product(step, vector).astype(weight.dtype)
        return tree.map(lambda v, c: v - times(part, c), vector, change), part

    def forwards(vector: PyTree, remembered: Any) -> tuple[PyTree, None]:
        step, change, weight, part = remembered
        rest = part - weight * inner_product(change, vector).astype(weight.dtype)
        return tree.map(lambda v, s: v + times(rest, s), vector, step), None

    vector, parts = scan(backwards, vector, (steps, changes, weights), reverse=True)
    vector = tree.map(lambda v: times(factor, v), vector)
    return scan(forwards, vector, (steps, changes, weights, parts))[0]


_ZOOM = scale_by_zoom_linesearch(max_linesearch_steps=20, initial_guess_strategy="one")


def lbfgs(
    learning_rate: Scalar | Schedule | None = None,
    memory_size: int = 10,
    scale_init_precond: bool = True,
    linesearch: GradientTransformation | None = _ZOOM,
) -> GradientTransformationExtraArgs:
    """L-BFGS: for smooth functions without noise, it needs far fewer steps than methods that know the gradient alone.

    Arguments:
        learning_rate: multiplies the direction; by default 1, since a line search finds the length of the step.
        memory_size: how many steps are remembered.
        scale_init_precond: see `scale_by_lbfgs`.
        linesearch: finds the length of each step; by default `scale_by_zoom_linesearch`. None for no search.

    Returns:
        A transformation. With a line search, its `update` also needs `value`, `grad` and `value_fn`, the function with
        its value and gradient at the parameters, and the function's own arguments by name.

    Raises:
        ArgumentError: if `memory_size` is below 1, or `update` is not given what it needs.

    Source: D. C. Liu and J. Nocedal, "On the limited memory BFGS method for large scale optimization",
    https://doi.org/10.1007/BF01589116.

    Example:
        >>> import funcgrad as fg
        >>> def rosenbrock(x):
        ...     return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()
        >>> optimizer, x = fg.optim.lbfgs(), fg.numpy.zeros(4)
        >>> state, value_and_grad = optimizer.init(x), fg.optim.value_and_grad_from_state(rosenbrock)
        >>> @fg.jit
        ... def step(x, state):
        ...     value, grad = value_and_grad(x, state=state)
        ...     updates, state = optimizer.update(grad, state, x, value=value, grad=grad, value_fn=rosenbrock)
        ...     return fg.optim.apply_updates(x, updates), state
        >>> for _ in range(40):
        ...     x, state = step(x, state)
        >>> x.round(2)
        Array([1., 1., 1., 1.], dtype=float32)
    """
    length = scale(-1.0) if learning_rate is None else scale_by_learning_rate(learning_rate)
    return chain(scale_by_lbfgs(memory_size, scale_init_precond), length, linesearch or identity())
