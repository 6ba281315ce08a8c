"""The line search of quasi-Newton methods: a step that makes the function smaller, and its slope flatter.

It first makes the step larger until an interval must hold such a step, and then zooms into the interval: by the minimum
of a cubic polynomial through what is known, of a quadratic one where that is of no use, or by halving. Both phases try
one step in each turn of one loop, so the function is compiled once.

Source: J. Nocedal and S. J. Wright, "Numerical Optimization", https://doi.org/10.1007/978-0-387-40065-5, algorithms 3.5
and 3.6, with the approximate rule of W. Hager and H. Zhang, "Algorithm 851: CG_DESCENT",
https://doi.org/10.1145/1132973.1132979, equations 23 to 27, where a minimum is near.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from funcgrad import numpy as np
from funcgrad import tree
from funcgrad.annotations import Array, ArrayLike, Real
from funcgrad.control_flow.loops import while_loop
from funcgrad.errors import ArgumentError
from funcgrad.optim.arithmetic import count_zero, times, widest_dtype
from funcgrad.optim.line_search import (
    Function,
    along,
    choose,
    inner_product,
    require_search,
    with_arguments,
)
from funcgrad.optim.transformation import GradientTransformationExtraArgs, PyTree
from funcgrad.transforms.grad import value_and_grad


class ZoomLinesearchInfo(NamedTuple):
    """How a search went.

    Attributes:
        num_linesearch_steps: how many steps were tried, int32.
        decrease_error: by how much the last one missed the wanted decrease; 0 if it did not.
        curvature_error: by how much its slope missed the wanted flatness; 0 if it did not.
    """

    num_linesearch_steps: Array
    decrease_error: Array
    curvature_error: Array


class ScaleByZoomLinesearchState(NamedTuple):
    """The state of `scale_by_zoom_linesearch`.

    Attributes:
        learning_rate: the last factor.
        value: the value of the function after the last step; infinite before the first.
        grad: its gradient there.
        info: a `ZoomLinesearchInfo`.
    """

    learning_rate: Array
    value: Array
    grad: PyTree
    info: ZoomLinesearchInfo


class _Point(NamedTuple):
    """A point on the line: the step that leads there, and value and slope of the function."""

    step: Array
    value: Array
    slope: Array


class _Safe(NamedTuple):
    """The best step so far that makes the function smaller, with value and gradient; step 0 if there is none."""

    step: Array
    value: Array
    grad: PyTree


class _Search(NamedTuple):
    """What goes through the loop. The interval is from `low` to `high`, of which `low` has the smaller value."""

    tried: Array
    point: _Point
    grad: PyTree
    low: _Point
    high: _Point
    third: _Point
    safe: _Safe
    decrease_error: Array
    curvature_error: Array
    in_interval: Array
    done: Array
    failed: Array


def scale_by_zoom_linesearch(
    max_linesearch_steps: int,
    max_learning_rate: Real | None = None,
    tol: Real = 0.0,
    increase_factor: Real = 2.0,
    slope_rtol: Real = 1e-4,
    curv_rtol: Real = 0.9,
    approx_dec_rtol: Real | None = 1e-6,
    stepsize_precision: Real = 1e-5,
    initial_guess_strategy: Literal["keep", "one"] = "keep",
) -> GradientTransformationExtraArgs:
    """Multiplies the updates by a number that satisfies Wolfe's strong rules.

    The first rule: `f(params + step * updates) <= f(params) + slope_rtol * step * slope`, where `slope` is the
    derivative along the updates at the start, which is to be negative. The second: the absolute slope at the end is at
    most `curv_rtol` times that at the start. If no step satisfies both, one that satisfies the first is taken.

    Arguments:
        max_linesearch_steps: how many steps are tried at most; each takes a value and a gradient.
        max_learning_rate: the largest step; None for no limit.
        tol: by how much the rules may be missed.
        increase_factor: how much larger the next step is while an interval is looked for.
        slope_rtol: which share of the decrease that the slope promises is enough.
        curv_rtol: how flat the function must be at the end. Infinity leaves the second rule out.
        approx_dec_rtol: near a minimum, where rounding hides any decrease, the slope at the end decides alone: wherever
            the value is larger than that at the start by at most this share of it. None for never.
        stepsize_precision: an interval shorter than this is not looked into, if a step that satisfies the first rule
            is known.
        initial_guess_strategy: the first step: that of the last time ("keep"), or 1 ("one"), as is right for
            quasi-Newton methods.

    Returns:
        A transformation with the state `ScaleByZoomLinesearchState`. Its `update` also needs `value`, `grad` and
        `value_fn`, the function with its value and gradient at the parameters, and the function's own arguments by
        name.

    Raises:
        ArgumentError: if an argument is out of its range, or `update` is not given what it needs.

    Example:
        >>> import funcgrad as fg
        >>> def f(x):
        ...     return ((x - 3) ** 2).sum()
        >>> search = fg.optim.scale_by_zoom_linesearch(max_linesearch_steps=15)
        >>> optimizer, x = fg.optim.chain(fg.optim.sgd(1.0), search), fg.array([1.0, 2.0])
        >>> value, grad = fg.value_and_grad(f)(x)
        >>> updates, state = optimizer.update(grad, optimizer.init(x), x, value=value, grad=grad, value_fn=f)
        >>> fg.optim.apply_updates(x, updates), state[-1].info.num_linesearch_steps
        (Array([3., 3.], dtype=float32), Array(2, dtype=int32))
    """
    if max_linesearch_steps < 1 or increase_factor <= 1 or max_learning_rate is not None and max_learning_rate <= 0:
        raise ArgumentError(
            f"scale_by_zoom_linesearch got max_linesearch_steps={max_linesearch_steps}, increase_factor="
            f"{increase_factor} and max_learning_rate={max_learning_rate}; give at least 1, a number above 1, and a "
            "positive number or None."
        )
    if initial_guess_strategy not in ("keep", "one"):
        raise ArgumentError(
            f"scale_by_zoom_linesearch got initial_guess_strategy={initial_guess_strategy!r}; it is 'keep' or 'one'."
        )

    def init(params: PyTree) -> ScaleByZoomLinesearchState:
        dtype = widest_dtype(params)
        one, infinity = np.ones((), dtype), np.full((), float("inf"), dtype)
        info = ZoomLinesearchInfo(count_zero(), infinity, infinity)
        return ScaleByZoomLinesearchState(one, infinity, tree.map(np.zeros_like, params), info)

    def decrease_error(point: _Point, start: _Point) -> Array:
        missed = point.value - start.value - slope_rtol * point.step * start.slope
        if approx_dec_rtol is not None:
            slope_missed = point.slope - (2 * slope_rtol - 1) * start.slope
            too_high = point.value - start.value - approx_dec_rtol * abs(start.value)
            missed = np.minimum(missed, np.maximum(slope_missed, too_high))
        return _as_error(missed)

    def curvature_error(point: _Point, start: _Point) -> Array:
        # Without the rule, infinity times a slope of zero would be no number.
        allowed = curv_rtol * abs(start.slope) if curv_rtol < float("inf") else float("inf")
        return _as_error(abs(point.slope) - allowed)

    def widened(search: _Search, point: _Point, error: Array, ends: Array) -> _Search:
        """The search after a step of its first phase; `ends` is whether the step was the largest one."""
        before = search.point
        overshot = (search.decrease_error > 0) | (point.value >= before.value) & (search.tried > 0)
        rises = (point.slope >= 0) & ~overshot
        in_interval = overshot | rises | (error <= tol)
        low = choose(rises, point, before)
        done = (error <= tol) | ends & ~in_interval
        return search._replace(
            point=point,
            low=low,
            high=choose(rises, before, point),
            third=low,
            in_interval=in_interval,
            done=done,
            failed=(search.tried + 1 >= max_linesearch_steps) & ~done,
        )

    def zoomed(search: _Search, point: _Point, error: Array) -> _Search:
        """The search after a step of its second phase."""
        low, high = search.low, search.high
        overshot = (search.decrease_error > 0) | (point.value >= low.value)
        turns = (point.slope * (high.step - low.step) >= 0) & ~overshot
        done = error <= tol
        is_short = abs(high.step - low.step) <= stepsize_precision
        gives_up = (search.tried + 1 >= max_linesearch_steps) | is_short & (search.safe.step > 0)
        return search._replace(
            point=point,
            low=choose(overshot, low, point),
            high=choose(overshot, point, choose(turns, low, high)),
            third=choose(overshot | turns, high, low),
            done=done,
            failed=gives_up & ~done,
        )

    def update(
        updates: PyTree,
        state: ScaleByZoomLinesearchState,
        params: PyTree = None,
        *,
        value: ArrayLike | None = None,
        grad: PyTree = None,
        value_fn: Function | None = None,
        **extra_args: Any,
    ) -> tuple[PyTree, ScaleByZoomLinesearchState]:
        require_search("scale_by_zoom_linesearch", params, value=value, grad=grad, value_fn=value_fn)
        assert value_fn is not None
        function = value_and_grad(with_arguments(value_fn, extra_args))
        dtype = state.value.dtype
        zero = np.zeros((), dtype)
        guess = state.learning_rate if initial_guess_strategy == "keep" else np.ones((), dtype)
        start = _Point(zero, np.asarray(value, dtype=dtype), inner_product(updates, grad).astype(dtype))

        def attempt(search: _Search) -> _Search:
            larger = np.where(search.tried == 0, guess, search.point.step * increase_factor)
            ends = np.asarray(False)
            if max_learning_rate is not None:
                ends, larger = larger >= max_learning_rate, np.minimum(larger, max_learning_rate)
            step = np.where(search.in_interval, _inside(search.low, search.high, search.third), larger).astype(dtype)
            reached, gradient = function(along(params, step, updates))
            gradient = tree.map(lambda g, old: g.astype(old.dtype), gradient, search.grad)
            point = _Point(step, np.asarray(reached, dtype=dtype), inner_product(updates, gradient).astype(dtype))
            decrease, curvature = decrease_error(point, start), curvature_error(point, start)
            is_safe = (decrease <= tol) & (~search.in_interval | (point.value < search.safe.value))
            search = search._replace(
                grad=gradient,
                safe=choose(is_safe, _Safe(step, point.value, gradient), search.safe),
                decrease_error=decrease,
                curvature_error=curvature,
            )
            error = np.maximum(decrease, curvature)
            after = choose(search.in_interval, zoomed(search, point, error), widened(search, point, error, ends))
            return after._replace(tried=search.tried + 1)

        infinity, no = np.full((), float("inf"), dtype), np.asarray(False)
        begin = _Search(
            tried=count_zero(),
            point=start,
            grad=grad,
            low=start,
            high=start,
            third=start,
            safe=_Safe(zero, start.value, grad),
            decrease_error=infinity,
            curvature_error=infinity,
            in_interval=no,
            done=no,
            failed=no,
        )
        found = while_loop(lambda search: ~(search.done | search.failed), attempt, begin)
        last = _Safe(found.point.step, found.point.value, found.grad)
        # Without any good step, the last one is made; but not to where the function is not finite.
        falls_back = found.failed & ((found.safe.step > 0) | np.isinf(found.decrease_error))
        step, reached, gradient = choose(falls_back, found.safe, last)
        info = ZoomLinesearchInfo(found.tried, found.decrease_error, found.curvature_error)
        next_state = ScaleByZoomLinesearchState(step, reached, gradient, info)
        return tree.map(lambda u: times(step, u), updates), next_state

    return GradientTransformationExtraArgs(init, update)


def _as_error(missed: Array) -> Array:
    """By how much a rule was missed: infinitely, where the function is not finite."""
    return np.where(np.isnan(missed), float("inf"), np.maximum(missed, 0.0))


def _inside(low: _Point, high: _Point, third: _Point) -> Array:
    """A step within the interval, where the minimum may be."""
    length = abs(high.step - low.step)
    left, right = np.minimum(low.step, high.step), np.maximum(low.step, high.step)

    def is_inside(step: Array, margin: float) -> Array:
        return (step > left + margin * length) & (step < right - margin * length)  # false for what is no number

    cubic, quadratic = _cubic_minimum(low, high, third), _quadratic_minimum(low, high)
    halved = (low.step + high.step) / 2
    return np.where(is_inside(cubic, 0.2), cubic, np.where(is_inside(quadratic, 0.1), quadratic, halved))


def _cubic_minimum(a: _Point, b: _Point, c: _Point) -> Array:
    """Where the cubic polynomial through three points, with the slope of the first, is least; it may be no number.

    With `p(a + t) = value + slope t + q t^2 + r t^3`, the two other points give two linear equations for `q` and `r`.
    """
    t, u = b.step - a.step, c.step - a.step
    at_t = (b.value - a.value - a.slope * t) / (t * t)  # q + r t
    at_u = (c.value - a.value - a.slope * u) / (u * u)  # q + r u
    r = (at_t - at_u) / (t - u)
    q = at_t - r * t
    root = np.sqrt(q * q - 3 * r * a.slope)
    # Two forms of the same; each would lose all digits where the other is used, the second for parabolas: r = 0.
    return a.step + np.where(q < 0, (root - q) / (3 * r), -a.slope / (q + root))


def _quadratic_minimum(a: _Point, b: _Point) -> Array:
    """Where the parabola through two points, with the slope of the first, is least; it may be no number."""
    t = b.step - a.step
    return a.step - a.slope * t * t / (2 * (b.value - a.value - a.slope * t))
