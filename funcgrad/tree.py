"""Pytrees: nested containers of arrays, and how to map over them.

A pytree is a leaf, or a container of pytrees: tuple, list, dict, namedtuple, None (which is empty), or any class that
was registered with `register_dataclass` or `register_node`. Transforms take functions of pytrees, so parameters of a
model can stay in the structure that suits the model. Built on optree, whose traversal is C++.
"""

from __future__ import annotations

import dataclasses
import functools
from builtins import all as _all
from builtins import map as _map
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import optree

from funcgrad.errors import TreeError

NAMESPACE = "funcgrad"
TreeDefinition = optree.PyTreeSpec

_flatten, _unflatten = optree.tree_flatten, optree.tree_unflatten


def flatten(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> tuple[list[Any], TreeDefinition]:
    """The leaves of a pytree from left to right (dicts by sorted key), and its structure.

    Arguments:
        tree: the pytree.
        is_leaf: says of a container that it is to be taken as a leaf.

    Example:
        >>> import funcgrad as fg
        >>> leaves, structure = fg.tree.flatten({"b": 2, "a": (1, None)})
        >>> leaves
        [1, 2]
    """
    return _flatten(tree, is_leaf, namespace=NAMESPACE)


def unflatten(structure: TreeDefinition, leaves: Iterable[Any]) -> Any:
    """The pytree of this structure with these leaves: the inverse of `flatten`.

    Raises:
        TreeError: if the number of leaves does not fit.
    """
    try:
        return _unflatten(structure, leaves)
    except ValueError as error:
        raise TreeError(f"these leaves do not fit a pytree of {structure.num_leaves} leaves: {error}") from None


def leaves(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> list[Any]:
    """The leaves of a pytree from left to right."""
    return optree.tree_leaves(tree, is_leaf, namespace=NAMESPACE)


def structure(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> TreeDefinition:
    """The structure of a pytree: what is left when the leaves are taken out."""
    return optree.tree_structure(tree, is_leaf, namespace=NAMESPACE)


def map(function: Callable, tree: Any, *rest: Any, is_leaf: Callable[[Any], bool] | None = None) -> Any:
    """Apply a function to every leaf, or to corresponding leaves of several pytrees.

    Arguments:
        function: takes one leaf of each pytree.
        tree: its structure is that of the result.
        rest: pytrees that have at least this structure: where `tree` has a leaf they may have a whole subtree.
        is_leaf: says of a container that it is to be taken as a leaf.

    Raises:
        TreeError: naming the path at which a structure differs.

    Example:
        >>> import funcgrad as fg
        >>> fg.tree.map(lambda a, b: a + b, {"x": 1, "y": 2}, {"x": 10, "y": 20})
        {'x': 11, 'y': 22}
    """
    flat, definition = _flatten(tree, is_leaf, namespace=NAMESPACE)
    if not rest:
        return _unflatten(definition, _map(function, flat))
    return _unflatten(definition, _map(function, flat, *(_flatten_up_to(definition, tree, other) for other in rest)))


def _flatten_up_to(definition: TreeDefinition, tree: Any, other: Any) -> list[Any]:
    try:
        return definition.flatten_up_to(other)
    except ValueError as error:
        path, reason = first_difference(tree, other) or ("", str(error))
        raise TreeError(f"the pytrees do not have the same structure{_at(path)}: {reason}.") from None


def reduce(function: Callable[[Any, Any], Any], tree: Any, *initializer: Any, is_leaf: Callable | None = None) -> Any:
    """Combine the leaves from left to right: `function(function(first, second), third)`, and so on.

    Arguments:
        initializer: a value to start from; without it the pytree needs at least one leaf.
    """
    return functools.reduce(function, leaves(tree, is_leaf), *initializer)


def all(tree: Any, *, is_leaf: Callable | None = None) -> bool:
    """Whether every leaf is true."""
    return _all(leaves(tree, is_leaf))


def flatten_with_path(tree: Any, is_leaf: Callable | None = None) -> tuple[list[tuple[Any, Any]], TreeDefinition]:
    """Pairs of path and leaf, and the structure. `keystr` makes a path readable.

    Example:
        >>> import funcgrad as fg
        >>> pairs, _ = fg.tree.flatten_with_path({"w": [1, 2]})
        >>> [fg.tree.keystr(path) for path, leaf in pairs]
        ["['w'][0]", "['w'][1]"]
    """
    flat, definition = flatten(tree, is_leaf)
    return list(zip(definition.accessors(), flat, strict=True)), definition


def leaves_with_path(tree: Any, is_leaf: Callable | None = None) -> list[tuple[Any, Any]]:
    """Pairs of path and leaf from left to right."""
    return flatten_with_path(tree, is_leaf)[0]


def map_with_path(function: Callable, tree: Any, *rest: Any, is_leaf: Callable | None = None) -> Any:
    """Like `map`, with the path of the leaf as the first argument of the function."""
    paths = structure(tree, is_leaf).accessors()
    remaining = iter(paths)
    return map(lambda *items: function(next(remaining), *items), tree, *rest, is_leaf=is_leaf)


def keystr(path: Any) -> str:
    """A path as Python code, such as `['layers'][0].weight`; empty for the root."""
    return path.codify("")


def transpose(outer: TreeDefinition, inner: TreeDefinition, tree: Any) -> Any:
    """Turn a pytree of structure `outer` whose leaves have structure `inner` inside out."""
    return optree.tree_transpose(outer, inner, tree)


def register_node(
    cls: type,
    flatten: Callable[[Any], tuple[Iterable[Any], Any]],
    unflatten: Callable[[Any, Any], Any],
) -> type:
    """Make a class a pytree node.

    Arguments:
        cls: the class.
        flatten: gives the children of an instance, and auxiliary data that is hashable and part of the structure.
        unflatten: `unflatten(auxiliary, children)` puts an instance together again. Children may be any objects, so it
            should not check them.

    Raises:
        TreeError: if the class is registered already.
    """
    _register(cls, flatten, unflatten)
    return cls


def _register(cls: type, flatten: Callable, unflatten: Callable, **options: Any) -> None:
    try:
        optree.register_pytree_node(cls, flatten, unflatten, namespace=NAMESPACE, **options)
    except ValueError:
        raise TreeError(f"the class {cls.__name__} is registered as a pytree already.") from None


def register_dataclass(
    cls: type | None = None,
    data_fields: Sequence[str] | None = None,
    meta_fields: Sequence[str] | None = None,
) -> Any:
    """Make a dataclass a pytree node. Usable as a decorator.

    Arguments:
        cls: the class. Without it, gives a decorator.
        data_fields: names of the fields that are children; by default all that are not meta fields.
        meta_fields: names of the fields that belong to the structure, and so must be hashable; by default those
            declared with `field(metadata={"static": True})`.

    Raises:
        TreeError: if the class is no dataclass, or a field is missing from both lists or unknown.

    Example:
        >>> import dataclasses, funcgrad as fg
        >>> @fg.tree.register_dataclass
        ... @dataclasses.dataclass
        ... class Point:
        ...     x: float
        ...     y: float
        >>> fg.tree.map(lambda v: 2 * v, Point(1.0, 2.0))
        Point(x=2.0, y=4.0)
    """
    if cls is None:
        return lambda c: register_dataclass(c, data_fields, meta_fields)
    if not dataclasses.is_dataclass(cls):
        raise TreeError(f"{cls.__name__} is not a dataclass; decorate it with @dataclasses.dataclass first.")
    fields = {f.name: f for f in dataclasses.fields(cls)}
    if meta_fields is None:
        meta_fields = [n for n, f in fields.items() if f.metadata.get("static") and n not in (data_fields or ())]
    if data_fields is None:
        data_fields = [name for name in fields if name not in meta_fields]
    if {*data_fields, *meta_fields} != fields.keys():
        odd = ", ".join(sorted({*data_fields, *meta_fields} ^ fields.keys()))
        raise TreeError(f"data_fields and meta_fields of {cls.__name__} must name every field once; check {odd}.")
    children, auxiliary = tuple(data_fields), tuple(meta_fields)

    def flatten(node):
        return [getattr(node, n) for n in children], tuple([getattr(node, n) for n in auxiliary]), children

    def unflatten(meta, values):
        # Not through __init__: a leaf may be anything here, and checks belong where users construct.
        node = object.__new__(cls)
        for name, value in zip(children, values, strict=True):
            object.__setattr__(node, name, value)
        for name, value in zip(auxiliary, meta, strict=True):
            object.__setattr__(node, name, value)
        return node

    _register(cls, flatten, unflatten, path_entry_type=optree.GetAttrEntry)
    return cls


# What transforms use to speak about pytrees


def describe_leaf_path(tree: Any, index: int) -> str:
    """The path of the leaf with this index, as `keystr` writes it."""
    return keystr(structure(tree).accessors()[index])


def _at(path: str) -> str:
    return f" at {path}" if path else ""


def _kind(tree: Any) -> str:
    return "None" if tree is None else f"a {type(tree).__name__}"


def first_difference(expected: Any, actual: Any, path: str = "", exact: bool = False) -> tuple[str, str] | None:
    """Where two pytrees first differ in structure, and how. Unless `exact`, `actual` may have whole pytrees where
    `expected` has leaves."""
    if expected is not None and structure(expected) == _LEAF:
        is_leaf = actual is not None and structure(actual) == _LEAF
        return (path, f"expected a leaf and got {_kind(actual)}") if exact and not is_leaf else None
    one, two = _children(expected), _children(actual)
    if type(expected) is not type(actual):
        return path, f"expected {_kind(expected)} and got {_kind(actual)}"
    if one.keys() != two.keys():
        missing, extra = [k for k in one if k not in two], [k for k in two if k not in one]
        if isinstance(expected, (list, tuple)):
            return path, f"expected {len(one)} entries and got {len(two)}"
        words = [f"{' and '.join(keys)} {verb}" for keys, verb in [(missing, "is missing"), (extra, "is extra")] if keys]
        return path, ", ".join(words)
    for key, child in one.items():
        found = first_difference(child, two[key], path + key, exact)
        if found:
            return found
    if structure(expected) != structure(actual):
        return path, f"the static fields of {_kind(expected)} differ"
    return None


def _children(tree: Any) -> dict[str, Any]:
    definition = structure(tree, is_leaf=lambda x: x is not tree)
    if definition == _LEAF:
        return {}
    values, _ = flatten(tree, is_leaf=lambda x: x is not tree)
    return {keystr(a): v for a, v in zip(definition.accessors(), values, strict=True)}


_LEAF = structure(0)


def check_same_structure(expected: Any, actual: Any, *, what: str) -> None:
    """Raise unless two pytrees have the same structure.

    Raises:
        TreeError: naming `what`, the path at which it differs, and how.
    """
    if structure(expected) == structure(actual):
        return
    path, reason = first_difference(expected, actual, exact=True) or ("", "they differ")
    raise TreeError(f"{what} must have the structure of what it belongs to, and differs{_at(path)}: {reason}.")


def prefix_leaves(prefix: Any, tree: Any, *, what: str) -> list[Any]:
    """One entry of `prefix` for every leaf of `tree`: an entry stands for everything below it. None is an entry.

    Raises:
        TreeError: naming `what`, and the path at which `prefix` has structure that `tree` has not.
    """
    if not isinstance(prefix, (tuple, list, dict)) and (prefix is None or structure(prefix) == _LEAF):
        return [prefix] * structure(tree).num_leaves
    entries, definition = _flatten(prefix, lambda x: x is None, namespace=NAMESPACE)
    try:
        below = definition.flatten_up_to(tree)
    except ValueError as error:
        path, reason = first_difference(prefix, tree) or ("", str(error))
        raise TreeError(
            f"{what}={prefix!r} is no prefix of the pytree that it describes{_at(path)}: {reason}; "
            "give an entry for each branch, or one entry for all."
        ) from None
    return [entry for entry, branch in zip(entries, below, strict=True) for _ in range(structure(branch).num_leaves)]
