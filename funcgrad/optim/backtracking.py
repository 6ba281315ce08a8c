"""The simplest line search: smaller and smaller steps until one makes the function smaller."""

from __future__ import annotations

from typing import Any, NamedTuple

from funcgrad import numpy as np
from funcgrad import tree
from funcgrad.annotations import Array, ArrayLike, Real
from funcgrad.control_flow.loops import while_loop
from funcgrad.errors import ArgumentError
from funcgrad.optim.arithmetic import count_zero, times, widest_dtype
from funcgrad.optim.line_search import Function, along, inner_product, require_search, with_arguments
from funcgrad.optim.transformation import GradientTransformationExtraArgs, PyTree
from funcgrad.transforms.grad import value_and_grad


class BacktrackingLinesearchInfo(NamedTuple):
    """How a search went.

    Attributes:
        num_linesearch_steps: how many steps were tried, int32.
        decrease_error: by how much the last one missed what was wanted; 0 if it did not.
    """

    num_linesearch_steps: Array
    decrease_error: Array


class ScaleByBacktrackingLinesearchState(NamedTuple):
    """The state of `scale_by_backtracking_linesearch`.

    Attributes:
        learning_rate: the last factor.
        value: the value of the function after the last step; infinite before the first.
        grad: its gradient there, or None.
        info: a `BacktrackingLinesearchInfo`.
    """

    learning_rate: Array
    value: Array
    grad: PyTree
    info: BacktrackingLinesearchInfo


class _Search(NamedTuple):
    tried: Array
    step: Array
    value: Array
    error: Array


def scale_by_backtracking_linesearch(
    max_backtracking_steps: int,
    slope_rtol: Real = 1e-4,
    decrease_factor: Real = 0.8,
    increase_factor: Real = 1.5,
    max_learning_rate: Real = 1.0,
    atol: Real = 0.0,
    rtol: Real = 0.0,
    store_grad: bool = False,
) -> GradientTransformationExtraArgs:
    """Multiplies the updates by a number with which the function becomes small enough: Armijo's rule.

    The first step that is tried is `increase_factor` times that of the last time, and each further one
    `decrease_factor` times the one before, until
    `f(params + step * updates) <= (1 + rtol) * f(params) + step * slope_rtol * slope + atol`, where `slope` is the
    derivative along the updates, which is to be negative: the search comes last in a chain, after
    `optim.sgd(1.0)`, for example.

    Arguments:
        max_backtracking_steps: how many times a step may be made smaller.
        slope_rtol: which share of the decrease that the slope promises is enough.
        decrease_factor: how much smaller the next step is, between 0 and 1.
        increase_factor: how much larger than the last one the first step is.
        max_learning_rate: the largest step.
        atol, rtol: tolerances.
        store_grad: whether to keep the gradient for `value_and_grad_from_state`.

    Returns:
        A transformation with the state `ScaleByBacktrackingLinesearchState`. Its `update` also needs `value`, `grad`
        and `value_fn`, the function with its value and gradient at the parameters, and the function's own arguments
        by name. It makes no step if the function is not finite wherever it was tried.

    Raises:
        ArgumentError: if an argument is out of its range, or `update` is not given what it needs.

    Source: J. Nocedal and S. J. Wright, "Numerical Optimization", https://doi.org/10.1007/978-0-387-40065-5,
    algorithm 3.1; S. Vaswani et al., "Painless Stochastic Gradient", https://arxiv.org/abs/1905.09997.

    Example:
        >>> import funcgrad as fg
        >>> def f(x, target):
        ...     return ((x - target) ** 2).sum()
        >>> search = fg.optim.scale_by_backtracking_linesearch(max_backtracking_steps=15)
        >>> optimizer = fg.optim.chain(fg.optim.sgd(1.0), search)
        >>> x, target = fg.array([1.0, 2.0]), fg.array([3.0, 3.0])
        >>> state = optimizer.init(x)
        >>> for _ in range(20):
        ...     value, grad = fg.value_and_grad(f)(x, target)
        ...     updates, state = optimizer.update(grad, state, x, value=value, grad=grad, value_fn=f, target=target)
        ...     x = fg.optim.apply_updates(x, updates)
        >>> x.round(3)
        Array([3., 3.], dtype=float32)
    """
    if max_backtracking_steps < 0 or not 0 < decrease_factor < 1 or increase_factor <= 0 or max_learning_rate <= 0:
        raise ArgumentError(
            f"scale_by_backtracking_linesearch got max_backtracking_steps={max_backtracking_steps}, "
            f"decrease_factor={decrease_factor}, increase_factor={increase_factor} and max_learning_rate="
            f"{max_learning_rate}; give at least 0, a number between 0 and 1, and two positive ones."
        )

    def init(params: PyTree) -> ScaleByBacktrackingLinesearchState:
        dtype = widest_dtype(params)
        one, infinity = np.ones((), dtype), np.full((), float("inf"), dtype)
        grad = tree.map(np.zeros_like, params) if store_grad else None
        return ScaleByBacktrackingLinesearchState(
            one, infinity, grad, BacktrackingLinesearchInfo(count_zero(), infinity)
        )

    def update(
        updates: PyTree,
        state: ScaleByBacktrackingLinesearchState,
        params: PyTree = None,
        *,
        value: ArrayLike | None = None,
        grad: PyTree = None,
        value_fn: Function | None = None,
        **extra_args: Any,
    ) -> tuple[PyTree, ScaleByBacktrackingLinesearchState]:
        require_search("scale_by_backtracking_linesearch", params, value=value, grad=grad, value_fn=value_fn)
        assert value_fn is not None
        function, dtype = with_arguments(value_fn, extra_args), state.value.dtype
        start, slope = np.asarray(value, dtype=dtype), inner_product(updates, grad).astype(dtype)

        def goes_on(search: _Search) -> Array:
            return (search.error > atol) & (search.tried <= max_backtracking_steps)

        def attempt(search: _Search) -> _Search:
            step = np.where(search.tried > 0, search.step * decrease_factor, search.step)
            reached = np.asarray(function(along(params, step, updates)), dtype=dtype)
            missed = reached - (1 + rtol) * start - step * slope_rtol * slope
            error = np.where(np.isnan(missed), float("inf"), np.maximum(missed, 0.0))
            return _Search(search.tried + 1, step, reached, error)

        infinity = np.full((), float("inf"), dtype)
        first = np.minimum(state.learning_rate * increase_factor, max_learning_rate)
        found = while_loop(goes_on, attempt, _Search(count_zero(), first, start, infinity))
        step = np.where(np.isinf(found.error), 0.0, found.step)
        reached, gradient = found.value, None
        if store_grad:
            reached, gradient = value_and_grad(function)(along(params, step, updates))
            reached = np.asarray(reached, dtype=dtype)
        info = BacktrackingLinesearchInfo(found.tried, found.error)
        next_state = ScaleByBacktrackingLinesearchState(step, reached, gradient, info)
        return tree.map(lambda u: times(step, u), updates), next_state

    return GradientTransformationExtraArgs(init, update)
