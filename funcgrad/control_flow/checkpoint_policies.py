"""Which values a checkpointed function keeps: policies for `fg.checkpoint`, under JAX's names.

A policy is a function of a primitive, the shapes and dtypes of its operands, and its params; it says whether the
results are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from funcgrad.control_flow.checkpoint import name_primitive
from funcgrad.core import Primitive
from funcgrad.primitives.contraction import dot_general

Policy = Callable[..., bool]


def everything_saveable(primitive: Primitive, *avals: Any, **params: Any) -> bool:
    """Keep all values, as if there were no checkpoint."""
    return True


def nothing_saveable(primitive: Primitive, *avals: Any, **params: Any) -> bool:
    """Keep nothing but the arguments."""
    return False


def dots_saveable(primitive: Primitive, *avals: Any, **params: Any) -> bool:
    """Keep the results of matrix products, which cost most to compute again."""
    return primitive is dot_general


def dots_with_no_batch_dims_saveable(primitive: Primitive, *avals: Any, **params: Any) -> bool:
    """Keep the results of matrix products without batch axes: those of layers, not those of attention."""
    return primitive is dot_general and not params["dimension_numbers"][1][0]


checkpoint_dots = dots_saveable
checkpoint_dots_with_no_batch_dims = dots_with_no_batch_dims_saveable


def save_only_these_names(*names: str) -> Policy:
    """Keep the values that `checkpoint_name` gave one of these names."""

    def policy(primitive: Primitive, *avals: Any, **params: Any) -> bool:
        return primitive is name_primitive and params["name"] in names

    return policy


def save_any_names_but_these(*names: str) -> Policy:
    """Keep the values that have a name, except for these names."""

    def policy(primitive: Primitive, *avals: Any, **params: Any) -> bool:
        return primitive is name_primitive and params["name"] not in names

    return policy


def save_anything_except_these_names(*names: str) -> Policy:
    """Keep all values, except for those with one of these names."""

    def policy(primitive: Primitive, *avals: Any, **params: Any) -> bool:
        return primitive is not name_primitive or params["name"] not in names

    return policy


def save_from_both_policies(first: Policy, second: Policy) -> Policy:
    """Keep what either of two policies keeps."""

    def policy(primitive: Primitive, *avals: Any, **params: Any) -> bool:
        return first(primitive, *avals, **params) or second(primitive, *avals, **params)

    return policy
