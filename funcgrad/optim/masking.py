"""Different treatment for different parameters: by a mask, by labels, by their paths."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from funcgrad import tree
from funcgrad.errors import ArgumentError
from funcgrad.optim.transformation import (
    GradientTransformation,
    GradientTransformationExtraArgs,
    PyTree,
    with_extra_args_support,
)

Mask = PyTree | Callable[[PyTree], PyTree]


class MaskedNode(NamedTuple):
    """Stands in a pytree where a parameter was taken out by `masked`: a node without leaves."""


class MaskedState(NamedTuple):
    """The state of the transformation inside of `masked`, made for the parameters that the mask leaves."""

    inner_state: PyTree


def masked(
    inner: GradientTransformation, mask: Mask, *, mask_compatible_extra_args: bool = False
) -> GradientTransformationExtraArgs:
    """Applies a transformation to some of the parameters; the updates of the others pass as they are.

    Arguments:
        inner: the transformation. It sees pytrees that have a `MaskedNode` where the mask is False.
        mask: a pytree of bools with the structure of the parameters, or a prefix of it, where one bool stands for a
            whole subtree. Or a function that makes such a pytree of the parameters and of the updates.
        mask_compatible_extra_args: whether further arguments of `update` that have the structure of the updates are
            masked as well.

    Returns:
        A transformation with the state `MaskedState`.

    Raises:
        TreeError: in `init` and `update`, if the mask does not fit.

    Example, that only doubles what has two axes:
        >>> import funcgrad as fg
        >>> matrices = lambda params: fg.tree.map(lambda x: x.ndim == 2, params)
        >>> double = fg.optim.masked(fg.optim.scale(2.0), matrices)
        >>> params = {"w": fg.array([[1.0]]), "b": fg.array([1.0])}
        >>> updates, state = double.update(params, double.init(params))
        >>> updates
        {'w': Array([[2.]], dtype=float32), 'b': Array([1.], dtype=float32)}
    """
    inner = with_extra_args_support(inner)

    def flags_for(values: PyTree) -> list[bool]:
        chosen = mask(values) if _is_function(mask) else mask
        return [bool(flag) for flag in tree.prefix_leaves(chosen, values, what="the mask of masked")]

    def init(params: PyTree) -> MaskedState:
        return MaskedState(inner.init(_hide(params, flags_for(params))))

    def update(
        updates: PyTree, state: MaskedState, params: PyTree = None, **extra_args: Any
    ) -> tuple[PyTree, MaskedState]:
        flags = flags_for(updates)
        if params is not None:
            tree.check_same_structure(params, updates, what="the updates given to masked")
            params = _hide(params, flags)
        if mask_compatible_extra_args:
            same = tree.structure(updates)
            extra_args = {k: _hide(v, flags) if tree.structure(v) == same else v for k, v in extra_args.items()}
        changed, inner_state = inner.update(_hide(updates, flags), state.inner_state, params, **extra_args)
        leaves, structure = tree.flatten(updates)
        new = iter(tree.leaves(changed))
        merged = [next(new) if flag else leaf for flag, leaf in zip(flags, leaves, strict=True)]
        return structure.unflatten(merged), MaskedState(inner_state)

    return GradientTransformationExtraArgs(init, update)


class PartitionState(NamedTuple):
    """The states of the transformations of `partition`: a dict with a `MaskedState` for each label."""

    inner_states: dict[Hashable, PyTree]


def partition(
    transforms: Mapping[Hashable, GradientTransformation],
    param_labels: PyTree | Callable[[PyTree], PyTree],
    *,
    mask_compatible_extra_args: bool = False,
) -> GradientTransformationExtraArgs:
    """Divides the parameters into groups, each with a transformation of its own.

    Arguments:
        transforms: for each label, the transformation of the parameters that have it.
        param_labels: a pytree of labels with the structure of the parameters, or a prefix of it. Or a function that
            makes such a pytree of the parameters and of the updates, such as `labels_by_path` gives.
        mask_compatible_extra_args: see `masked`.

    Returns:
        A transformation with the state `PartitionState`.

    Raises:
        TreeError: in `init` and `update`, if the labels do not fit the parameters.
        ArgumentError: there, if a label is not among the transforms.

    Example, in which the first layer stays as it is:
        >>> import funcgrad as fg
        >>> optimizer = fg.optim.partition(
        ...     {"train": fg.optim.sgd(0.5), "freeze": fg.optim.set_to_zero()},
        ...     {"first": "freeze", "second": "train"},
        ... )
        >>> params = {"first": fg.array([1.0]), "second": fg.array([1.0])}
        >>> updates, state = optimizer.update(params, optimizer.init(params))
        >>> updates
        {'first': Array([0.], dtype=float32), 'second': Array([-0.5], dtype=float32)}
    """
    parts = {label: with_extra_args_support(transformation) for label, transformation in transforms.items()}

    def groups_for(values: PyTree) -> dict[Hashable, GradientTransformationExtraArgs]:
        given = param_labels(values) if _is_function(param_labels) else param_labels
        labels = tree.prefix_leaves(given, values, what="the labels of partition")
        structure = tree.structure(values)
        for index, label in enumerate(labels):
            if label not in parts:
                raise ArgumentError(
                    f"partition has no transformation for the label {label!r} of the parameter "
                    f"{tree.describe_leaf_path(values, index)}; its labels are {', '.join(map(repr, parts))}."
                )
        return {
            group: masked(
                part,
                structure.unflatten([label == group for label in labels]),
                mask_compatible_extra_args=mask_compatible_extra_args,
            )
            for group, part in parts.items()
        }

    def init(params: PyTree) -> PartitionState:
        return PartitionState({label: part.init(params) for label, part in groups_for(params).items()})

    def update(
        updates: PyTree, state: PartitionState, params: PyTree = None, **extra_args: Any
    ) -> tuple[PyTree, PartitionState]:
        states = {}
        for label, part in groups_for(updates).items():
            updates, states[label] = part.update(updates, state.inner_states[label], params, **extra_args)
        return updates, PartitionState(states)

    return GradientTransformationExtraArgs(init, update)


multi_transform = partition


def labels_by_path(rules: Mapping[str, Hashable], default: Hashable | None = None) -> Callable[[PyTree], PyTree]:
    """Labels for `partition` by where in the model a parameter stands.

    Arguments:
        rules: labels for patterns of paths; the first pattern that fits decides. A path is the names and indices that
            lead to the parameter, with slashes between: `layers/0/weight`. In a pattern, `*` stands for anything, `?`
            for one character and `[abc]` for one of several.
        default: the label of parameters that no pattern fits; if it is None, each parameter must fit one.

    Returns:
        A function that gives a pytree of labels for a pytree of parameters.

    Raises:
        ArgumentError: when that function is called, for a parameter that no pattern fits.

    Example:
        >>> import funcgrad as fg
        >>> labels = fg.optim.labels_by_path({"*/bias": "no decay", "head/*": "fast"}, default="slow")
        >>> labels({"body": {"weight": 0, "bias": 0}, "head": {"weight": 0}})
        {'body': {'weight': 'slow', 'bias': 'no decay'}, 'head': {'weight': 'fast'}}
    """

    def label(path: tree.Path, leaf: Any) -> Hashable:
        text = tree.keystr(path, simple=True, separator="/")
        for pattern, found in rules.items():
            if fnmatchcase(text, pattern):
                return found
        if default is None:
            raise ArgumentError(
                f"no pattern of labels_by_path fits the parameter {text!r}; add one, or give a default label."
            )
        return default

    return lambda params: tree.map_with_path(label, params)


def _is_function(mask: Any) -> bool:
    # A module may be callable and yet be a pytree of bools.
    return callable(mask) and tree.structure(mask).is_leaf()


def _hide(values: PyTree, flags: list[bool]) -> PyTree:
    leaves, structure = tree.flatten(values)
    return structure.unflatten([leaf if flag else MaskedNode() for flag, leaf in zip(flags, leaves, strict=True)])
