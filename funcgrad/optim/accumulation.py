"""Gradient accumulation: one step of an optimizer for the gradients of several small batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from funcgrad import numpy as np
from funcgrad import tree
from funcgrad.annotations import Array, Bool
from funcgrad.errors import ArgumentError
from funcgrad.optim.arithmetic import count_zero, widen, zeros
from funcgrad.optim.transformation import (
    GradientTransformation,
    GradientTransformationExtraArgs,
    PyTree,
    map_with_updates,
    with_extra_args_support,
)


class MultiStepsState(NamedTuple):
    """The state of `MultiSteps`.

    Attributes:
        mini_step: how many gradients there are since the last step, int32 of shape ().
        gradient_step: how many steps there have been, int32 of shape ().
        inner_opt_state: the state of the optimizer.
        acc_grads: the mean or sum of the gradients since the last step.
    """

    mini_step: Array
    gradient_step: Array
    inner_opt_state: PyTree
    acc_grads: PyTree


class MultiSteps:
    """An optimizer that gathers gradients for several calls before it makes a step; in between, updates are zero.

    Arguments:
        opt: the optimizer that makes the steps.
        every_k_schedule: how many gradients make a step, or a function that gives it for the count of earlier steps.
        use_grad_mean: whether the optimizer gets their mean or their sum.
        accumulator_dtype: the dtype in which they are gathered; by default that of the parameters, and float32 for
            parameters of 16 bits.

    Raises:
        ArgumentError: if `every_k_schedule` is a number below 1.

    Example:
        >>> import funcgrad as fg
        >>> optimizer = fg.optim.MultiSteps(fg.optim.sgd(1.0), every_k_schedule=2)
        >>> params = fg.array(0.0)
        >>> state = optimizer.init(params)
        >>> for gradient in (fg.array(1.0), fg.array(3.0)):
        ...     updates, state = optimizer.update(gradient, state, params)
        ...     print(updates, optimizer.has_updated(state))
        0.0 False
        -2.0 True
    """

    def __init__(
        self,
        opt: GradientTransformation,
        every_k_schedule: int | Callable[[Array], int | Array],
        use_grad_mean: bool = True,
        accumulator_dtype: Any = None,
    ):
        if isinstance(every_k_schedule, int) and every_k_schedule < 1:
            raise ArgumentError(f"MultiSteps got every_k_schedule={every_k_schedule}; give at least 1.")
        self.inner_opt = with_extra_args_support(opt)
        self._every_k = every_k_schedule if callable(every_k_schedule) else lambda step: every_k_schedule
        self._use_grad_mean = use_grad_mean
        self._accumulator_dtype = accumulator_dtype

    def init(self, params: PyTree) -> MultiStepsState:
        """The first state, for the parameters `params`."""
        return MultiStepsState(count_zero(), count_zero(), self.inner_opt.init(params), zeros(self._widen(params)))

    def update(
        self, updates: PyTree, state: MultiStepsState, params: PyTree = None, **extra_args: Any
    ) -> tuple[PyTree, MultiStepsState]:
        """The updates, which are zero until there are enough gradients, and the next state."""
        count = state.mini_step + 1

        def gather(total: Array, u: Array) -> Array:
            if self._use_grad_mean:
                return total + (u - total) / count.astype(total.dtype)
            return total + u

        gathered = map_with_updates(gather, state.acc_grads, self._widen(updates))
        narrowed = tree.map(lambda u, g: g.astype(u.dtype), updates, gathered)
        steps, inner = self.inner_opt.update(narrowed, state.inner_opt_state, params, **extra_args)
        emit = count >= self._every_k(state.gradient_step)

        def choose(new: Array, old: Array) -> Array:
            return np.where(emit, new, old).astype(old.dtype)

        next_state = MultiStepsState(
            mini_step=np.where(emit, 0, count),
            gradient_step=np.where(emit, state.gradient_step + 1, state.gradient_step),
            inner_opt_state=tree.map(choose, inner, state.inner_opt_state),
            acc_grads=tree.map(lambda g: np.where(emit, 0, g), gathered),
        )
        return tree.map(lambda s: np.where(emit, s, 0).astype(s.dtype), steps), next_state

    def has_updated(self, state: MultiStepsState) -> Bool[Array, ""]:
        """Whether the call of `update` that gave this state made a step."""
        return (state.mini_step == 0) & (state.gradient_step > 0)

    def gradient_transformation(self) -> GradientTransformationExtraArgs:
        """The same as a transformation, which `chain` and the others take."""
        return GradientTransformationExtraArgs(self.init, self.update)

    def _widen(self, values: PyTree) -> PyTree:
        if self._accumulator_dtype is None:
            return widen(values)
        return tree.map(lambda x: x.astype(self._accumulator_dtype), values)
