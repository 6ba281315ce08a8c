"""What line searches have in common: the function along a line, and its value and gradient kept from step to step.

A line search is the last part of a chain. The parts before it give a direction, and it multiplies that by a number with
which the function becomes smaller, which it finds by calling the function:
`update(gradient, state, params, value=value, grad=gradient, value_fn=function)`. Further arguments of the function,
such as the data, are given to `update` by name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import reduce
from typing import Any

from funcgrad import numpy as np
from funcgrad import tree
from funcgrad.annotations import Array
from funcgrad.control_flow.cond import cond
from funcgrad.errors import ArgumentError
from funcgrad.optim.transformation import PyTree, require_params
from funcgrad.transforms.grad import value_and_grad

Function = Callable[..., Any]


def inner_product(a: PyTree, b: PyTree) -> Array:
    """The sum of products of two pytrees of real arrays, taken as long vectors."""
    products = [np.vdot(x, y) for x, y in zip(tree.leaves(a), tree.leaves(b), strict=True)]
    return reduce(np.add, products, np.zeros(()))


def along(params: PyTree, step: Array, direction: PyTree) -> PyTree:
    """The parameters after `step` times a direction."""
    return tree.map(lambda p, d: (p + step.astype(d.dtype) * d).astype(p.dtype), params, direction)


def choose(condition: Array, if_true: PyTree, if_false: PyTree) -> PyTree:
    """One of two pytrees, in the dtypes of the second."""
    return tree.map(lambda t, f: np.where(condition, t, f).astype(f.dtype), if_true, if_false)


def require_search(name: str, params: PyTree, **given: Any) -> None:
    """Raises an error when a line search was not given what it needs.

    Raises:
        ArgumentError: if something is None.
    """
    require_params(params, name)
    if any(argument is None for argument in given.values()):
        raise ArgumentError(
            f"{name} calls the function to be minimized; "
            f"call update(updates, state, params, {', '.join(f'{argument}=...' for argument in given)})."
        )


def with_arguments(function: Function, extra_args: dict[str, Any]) -> Function:
    """The function of the parameters alone, with those of the arguments given to `update` that it takes."""
    parameters = inspect.signature(function).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        taken = extra_args
    else:
        names = {parameter.name for parameter in parameters}
        taken = {name: argument for name, argument in extra_args.items() if name in names}
    return lambda params: function(params, **taken)


def value_and_grad_from_state(value_fn: Function) -> Callable[..., tuple[Array, PyTree]]:
    """`fg.value_and_grad` that takes value and gradient from the state of a line search, which has computed them.

    Arguments:
        value_fn: the function that is minimized, always with the same data.

    Returns:
        A function `(params, *args, state, **kwargs) -> (value, gradient)`, where `state` is the state of the optimizer.
        At the first step, and after one without a finite value, it calls `fg.value_and_grad(value_fn)`.

    Raises:
        ArgumentError: if the state holds no gradient.

    Example:
        >>> import funcgrad as fg
        >>> def f(x):
        ...     return ((x - 3) ** 2).sum()
        >>> optimizer, x = fg.optim.lbfgs(), fg.array([1.0, 2.0])
        >>> state, value_and_grad = optimizer.init(x), fg.optim.value_and_grad_from_state(f)
        >>> for _ in range(3):
        ...     value, gradient = value_and_grad(x, state=state)
        ...     updates, state = optimizer.update(gradient, state, x, value=value, grad=gradient, value_fn=f)
        ...     x = fg.optim.apply_updates(x, updates)
        >>> x.round(3)
        Array([3., 3.], dtype=float32)
    """

    def from_state(params: PyTree, *args: Any, state: PyTree, **kwargs: Any) -> tuple[Array, PyTree]:
        value, gradient = _stored(state)
        return cond(
            np.isfinite(value),
            lambda params: (value, gradient),
            lambda params: _like((value, gradient), value_and_grad(value_fn)(params, *args, **kwargs)),
            params,
        )

    return from_state


def _like(expected: PyTree, given: PyTree) -> PyTree:
    return tree.map(lambda e, g: g.astype(e.dtype), expected, given)


def _stored(state: PyTree) -> tuple[Array, PyTree]:
    found = []

    def look(node: Any) -> bool:
        if isinstance(node, tuple) and {"value", "grad"} <= {*getattr(node, "_fields", ())}:
            found.append(node)
        return False

    tree.flatten(state, is_leaf=look)
    if len(found) != 1 or found[0].grad is None:
        raise ArgumentError(
            "value_and_grad_from_state needs the state of one line search that keeps the gradient: that of "
            "optim.lbfgs(), scale_by_zoom_linesearch or scale_by_backtracking_linesearch(..., store_grad=True)."
        )
    return found[0].value, found[0].grad
