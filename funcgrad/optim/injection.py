"""Hyper-parameters in the state of an optimizer, where they can be read, changed, and learned."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy

from funcgrad import numpy as np
from funcgrad.annotations import Array
from funcgrad.errors import ArgumentError
from funcgrad.optim.arithmetic import count_zero, widest_dtype
from funcgrad.optim.transformation import GradientTransformationExtraArgs, PyTree, with_extra_args_support


class InjectHyperparamsState(NamedTuple):
    """The state of an optimizer made with `inject_hyperparams`.

    Attributes:
        count: how many updates there have been, int32 of shape ().
        hyperparams: the hyper-parameters by name, arrays of shape (). Numbers may be replaced by others.
        inner_state: the state of the optimizer.
    """

    count: Array  # pyright: ignore[reportIncompatibleMethodOverride]
    hyperparams: dict[str, Array]
    inner_state: PyTree


def inject_hyperparams(
    inner_factory: Callable[..., Any], static_args: str | Iterable[str] = (), hyperparam_dtype: Any = None
) -> Callable[..., GradientTransformationExtraArgs]:
    """Makes a function that gives an optimizer give one whose numbers are part of its state.

    So a compiled step can be given another learning rate, a batch of optimizers can have a learning rate each, and the
    present value of a schedule can be logged.

    Arguments:
        inner_factory: a function that gives an optimizer, such as `adam`.
        static_args: the names of arguments that stay out of the state. Bools, strings, None and the like always do;
            numbers that determine the computation (a size, a count of iterations) and functions that are not
            schedules (a mask) have to be named.
        hyperparam_dtype: the dtype of the numbers; by default float64 if there are parameters of that dtype, else
            float32.

    Returns:
        A function with the arguments of `inner_factory`. Numbers among them become arrays, and any function is a
        schedule that is evaluated in each step.

    Raises:
        ArgumentError: if `static_args` has a name that is not an argument of `inner_factory`.

    Example:
        >>> import funcgrad as fg
        >>> optimizer = fg.optim.inject_hyperparams(fg.optim.sgd)(learning_rate=0.5)
        >>> params = fg.array(0.0)
        >>> state = optimizer.init(params)
        >>> state.hyperparams["learning_rate"]
        Array(0.5, dtype=float32)
        >>> state.hyperparams["learning_rate"] = fg.array(2.0)
        >>> updates, state = optimizer.update(fg.array(1.0), state, params)
        >>> updates
        Array(-2., dtype=float32)
    """
    static = {static_args} if isinstance(static_args, str) else set(static_args)
    signature = inspect.signature(inner_factory)
    unknown = sorted(static - set(signature.parameters))
    if unknown:
        raise ArgumentError(
            f"{inner_factory.__name__} has no argument {unknown[0]!r} to be static; its arguments are "
            f"{', '.join(signature.parameters)}."
        )

    @functools.wraps(inner_factory)
    def factory(*args: Any, **kwargs: Any) -> GradientTransformationExtraArgs:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        schedules, numbers, others = {}, {}, {}
        for name, value in bound.arguments.items():
            if name in static or isinstance(value, bool):
                others[name] = value
            elif callable(value):
                schedules[name] = value
            elif isinstance(value, (int, float, Array, numpy.ndarray, numpy.generic)):
                numbers[name] = value
            else:
                others[name] = value

        def optimizer(hyperparams: dict[str, Array]) -> GradientTransformationExtraArgs:
            arguments = inspect.BoundArguments(signature, type(bound.arguments)(bound.arguments))
            arguments.arguments.update(others | hyperparams)
            return with_extra_args_support(inner_factory(*arguments.args, **arguments.kwargs))

        def scheduled(count: Array, dtype: Any) -> dict[str, Array]:
            return {name: np.asarray(schedule(count), dtype=dtype) for name, schedule in schedules.items()}

        def init(params: PyTree) -> InjectHyperparamsState:
            dtype = hyperparam_dtype or widest_dtype(params)
            count = count_zero()
            fixed = {name: np.asarray(value, dtype=dtype) for name, value in numbers.items()}
            hyperparams = fixed | scheduled(count, dtype)
            return InjectHyperparamsState(count, hyperparams, optimizer(hyperparams).init(params))

        def update(
            updates: PyTree, state: InjectHyperparamsState, params: PyTree = None, **extra_args: Any
        ) -> tuple[PyTree, InjectHyperparamsState]:
            dtype = hyperparam_dtype or widest_dtype(updates)
            hyperparams = dict(state.hyperparams) | scheduled(state.count, dtype)
            updates, inner = optimizer(hyperparams).update(updates, state.inner_state, params, **extra_args)
            return updates, InjectHyperparamsState(state.count + 1, hyperparams, inner)

        return GradientTransformationExtraArgs(init, update)

    return factory
