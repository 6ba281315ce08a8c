"""Pytrees: nested containers of leaves.

A pytree is a leaf, or a tuple, list, dict, named tuple, `OrderedDict`, `defaultdict` or `deque` of pytrees, or an
object of a class that was registered here. None is a tree without leaves. Every function that funcgrad transforms
takes pytrees of arrays as arguments and gives one as its result.

The walking is done by optree, in C++. This module gives it JAX's names, the one registry that all of funcgrad shares,
and errors that name the place in the tree where something is wrong.
"""

from __future__ import annotations

import builtins
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any, TypeVar, overload

import optree

from funcgrad.errors import TreeError

# Classes are registered for this namespace only, so that funcgrad and other users of optree never disturb each other.
NAMESPACE = "funcgrad"

TreeDef = optree.PyTreeSpec
Path = optree.PyTreeAccessor
IsLeaf = Callable[[Any], bool]
Class = TypeVar("Class", bound=type)

_MISSING: Any = object()
_static_fields: dict[type, tuple[str, ...]] = {}
_data_fields: dict[type, tuple[str, ...]] = {}


# Taking trees apart, and putting them together


def flatten(tree: Any, is_leaf: IsLeaf | None = None) -> tuple[list[Any], TreeDef]:
    """Takes a tree apart into its leaves and its structure.

    Arguments:
        tree: any pytree.
        is_leaf: called with each node; where it gives True, the node is taken as a leaf and not looked into.

    Returns:
        The list of leaves, from left to right and the keys of a dict in sorted order, and the structure.

    Raises:
        TreeError: a static field of a registered dataclass holds something unhashable.

    Example:
        >>> import funcgrad as fg
        >>> leaves, structure = fg.tree.flatten({"b": (1, None), "a": 2})
        >>> leaves
        [2, 1]
        >>> fg.tree.unflatten(structure, [20, 10])
        {'b': (10, None), 'a': 20}
    """
    return optree.tree_flatten(tree, is_leaf, namespace=NAMESPACE)


def unflatten(treedef: TreeDef, leaves: Iterable[Any]) -> Any:
    """Puts a tree together: the inverse of `flatten`.

    Arguments:
        treedef: the structure, as `flatten` or `structure` gives it.
        leaves: as many leaves as the structure has, from left to right.

    Returns:
        The tree.

    Raises:
        TreeError: there are too many or too few leaves.

    Example:
        >>> import funcgrad as fg
        >>> fg.tree.unflatten(fg.tree.structure([0, (0, 0)]), [1, 2, 3])
        [1, (2, 3)]
    """
    if not isinstance(leaves, (list, tuple)):
        leaves = list(leaves)
    try:
        return treedef.unflatten(leaves)
    except ValueError:
        if len(leaves) == treedef.num_leaves:
            raise  # it comes from the class of a node, which does not accept its children
        raise TreeError(
            f"the number of leaves given to unflatten is {len(leaves)}, and the structure has {treedef.num_leaves}; "
            "give one leaf for each."
        ) from None


def leaves(tree: Any, is_leaf: IsLeaf | None = None) -> list[Any]:
    """The leaves of a tree, from left to right.

    Arguments:
        tree: any pytree.
        is_leaf: called with each node; where it gives True, the node is taken as a leaf.

    Returns:
        The list of leaves.

    Raises:
        TreeError: a static field of a registered dataclass holds something unhashable.

    Example:
        >>> import funcgrad as fg
        >>> fg.tree.leaves([1, None, {"x": (2, 3)}])
        [1, 2, 3]
    """
    return optree.tree_leaves(tree, is_leaf, namespace=NAMESPACE)


def structure(tree: Any, is_leaf: IsLeaf | None = None) -> TreeDef:
    """The structure of a tree: all of it but the values of its leaves. Structures compare with == and are hashable.

    Arguments:
        tree: any pytree.
        is_leaf: called with each node; where it gives True, the node is taken as a leaf.

    Returns:
        The structure.

    Raises:
        TreeError: a static field of a registered dataclass holds something unhashable.

    Example:
        >>> import funcgrad as fg
        >>> fg.tree.structure((1, [2])) == fg.tree.structure(("a", ["b"]))
        True
    """
    return optree.tree_structure(tree, is_leaf, namespace=NAMESPACE)


# Computing with trees


def map(f: Callable[..., Any], tree: Any, *rest: Any, is_leaf: IsLeaf | None = None) -> Any:
    """Applies a function to every leaf.

    Arguments:
        f: called with a leaf of `tree` and whatever stands at the same place in each tree of `rest`.
        tree: the pytree whose structure the result has.
        rest: pytrees with the structure of `tree`; where `tree` has a leaf, they may have any subtree.
        is_leaf: called with each node of `tree`; where it gives True, the node is taken as a leaf.

    Returns:
        A pytree of what `f` returned.

    Raises:
        TreeError: a tree of `rest` does not have the structure of `tree`.

    Example:
        >>> import funcgrad as fg
        >>> fg.tree.map(lambda x, y: x + y, {"a": 1, "b": (2,)}, {"a": 10, "b": (20,)})
        {'a': 11, 'b': (22,)}
    """
    flat, treedef = optree.tree_flatten(tree, is_leaf, namespace=NAMESPACE)
    if rest:
        return treedef.unflatten(builtins.map(f, flat, *_flatten_like(treedef, rest, "map")))
    return treedef.unflatten(builtins.map(f, flat))


def reduce(
    function: Callable[[Any, Any], Any], tree: Any, initializer: Any = _MISSING, is_leaf: IsLeaf | None = None
) -> Any:
    """Combines all leaves of a tree into one value, from left to right.

    Arguments:
        function: called with the value so far and the next leaf.
        tree: any pytree.
        initializer: the value to begin with; by default, the first leaf.
        is_leaf: called with each node; where it gives True, the node is taken as a leaf.

    Returns:
        The last value that `function` returned.

    Raises:
        TreeError: the tree has no leaves and there is no initializer.

    Example:
        >>> import funcgrad as fg
        >>> fg.tree.reduce(lambda x, y: x + y, {"a": 1, "b": [2, 3]})
        6
    """
    flat = leaves(tree, is_leaf)
    if initializer is _MISSING and not flat:
        raise TreeError("reduce got a tree without leaves; give an initializer to be the result for such trees.")
    result, start = (flat[0], 1) if initializer is _MISSING else (initializer, 0)
    for leaf in flat[start:]:
        result = function(result, leaf)
    return result


def all(tree: Any, is_leaf: IsLeaf | None = None) -> bool:
    """Whether all leaves of a tree are true.

    Arguments:
        tree: any pytree.
        is_leaf: called with each node; where it gives True, the node is taken as a leaf.

    Returns:
        True or False; True for a tree without leaves.

    Raises:
        TreeError: a static field of a registered dataclass holds something unhashable.

    Example:
        >>> import funcgrad as fg
        >>> fg.tree.all({"a": True, "b": (True, False)})
        False
    """
    return builtins.all(leaves(tree, is_leaf))


def transpose(outer: TreeDef, inner: TreeDef | None, tree: Any) -> Any:
    """Turns a tree of trees inside out: a list of dicts into a dict of lists.

    Arguments:
        outer: the structure of the outer part of `tree`.
        inner: the structure that stands at each leaf of the outer part; None to find it in `tree`.
        tree: a pytree of the structure `inner` within `outer`.

    Returns:
        A pytree of the structure `outer` within `inner`.

    Raises:
        TreeError: `tree` does not have the structure `inner` within `outer`.

    Example:
        >>> import funcgrad as fg
        >>> losses = [{"train": 1, "test": 2}, {"train": 3, "test": 4}]
        >>> fg.tree.transpose(fg.tree.structure([0, 0]), fg.tree.structure({"train": 0, "test": 0}), losses)
        {'train': [1, 3], 'test': [2, 4]}
    """
    if inner is None:
        parts = _flatten_like(outer, (tree,), "transpose")[0]
        inner = structure(parts[0]) if parts else structure(None)
    flat, treedef = flatten(tree)
    expected = outer.compose(inner)
    if treedef != expected:
        check_same_structure(expected, treedef, what="the tree given to transpose")
    width = inner.num_leaves
    return inner.unflatten(outer.unflatten(flat[column::width]) for column in range(width))


# Paths: where in a tree a leaf stands


def flatten_with_path(tree: Any, is_leaf: IsLeaf | None = None) -> tuple[list[tuple[Path, Any]], TreeDef]:
    """Takes a tree apart like `flatten`, and says where each leaf stands.

    Arguments:
        tree: any pytree.
        is_leaf: called with each node; where it gives True, the node is taken as a leaf.

    Returns:
        A list of pairs (path, leaf) and the structure. A path is a tuple of the steps from the root to the leaf.

    Raises:
        TreeError: a static field of a registered dataclass holds something unhashable.

    Example:
        >>> import funcgrad as fg
        >>> pairs, structure = fg.tree.flatten_with_path({"layers": [10, 20]})
        >>> [(fg.tree.keystr(path), leaf) for path, leaf in pairs]
        [("['layers'][0]", 10), ("['layers'][1]", 20)]
    """
    paths, flat, treedef = optree.tree_flatten_with_accessor(tree, is_leaf, namespace=NAMESPACE)
    return list(zip(paths, flat, strict=True)), treedef


def leaves_with_path(tree: Any, is_leaf: IsLeaf | None = None) -> list[tuple[Path, Any]]:
    """The leaves of a tree, and where each stands.

    Arguments:
        tree: any pytree.
        is_leaf: called with each node; where it gives True, the node is taken as a leaf.

    Returns:
        A list of pairs (path, leaf).

    Raises:
        TreeError: a static field of a registered dataclass holds something unhashable.

    Example:
        >>> import funcgrad as fg
        >>> for path, leaf in fg.tree.leaves_with_path(({"w": 1}, 2)):
        ...     print(fg.tree.keystr(path), leaf)
        [0]['w'] 1
        [1] 2
    """
    return flatten_with_path(tree, is_leaf)[0]


def map_with_path(f: Callable[..., Any], tree: Any, *rest: Any, is_leaf: IsLeaf | None = None) -> Any:
    """Applies a function to the path and the value of every leaf.

    Arguments:
        f: called with a path, the leaf that stands there in `tree`, and what stands there in each tree of `rest`.
        tree: the pytree whose structure the result has.
        rest: pytrees with the structure of `tree`; where `tree` has a leaf, they may have any subtree.
        is_leaf: called with each node of `tree`; where it gives True, the node is taken as a leaf.

    Returns:
        A pytree of what `f` returned.

    Raises:
        TreeError: a tree of `rest` does not have the structure of `tree`.

    Example:
        >>> import funcgrad as fg
        >>> fg.tree.map_with_path(lambda path, x: f"{fg.tree.keystr(path)}={x}", {"a": (1, 2)})
        {'a': ("['a'][0]=1", "['a'][1]=2")}
    """
    paths, flat, treedef = optree.tree_flatten_with_accessor(tree, is_leaf, namespace=NAMESPACE)
    return treedef.unflatten(builtins.map(f, paths, flat, *_flatten_like(treedef, rest, "map_with_path")))


def keystr(path: Path, *, simple: bool = False, separator: str = "") -> str:
    """A path as text, in the form of the Python expression that leads to the leaf.

    Arguments:
        path: a path, as `leaves_with_path` gives it.
        simple: give the bare keys, indices and names, without brackets, quotes and dots.
        separator: stands between the steps.

    Returns:
        The text; empty for the path of a tree that is a single leaf.

    Example:
        >>> import funcgrad as fg
        >>> [(path, leaf)] = fg.tree.leaves_with_path({"layers": [1.5]})
        >>> fg.tree.keystr(path), fg.tree.keystr(path, simple=True, separator="/")
        ("['layers'][0]", 'layers/0')
    """
    return separator.join(str(step.entry) if simple else step.codify("") for step in path)


def describe_leaf_path(tree: Any, index: int) -> str:
    """Where in a tree the leaf of a given index stands, as text for a message.

    Arguments:
        tree: any pytree.
        index: the index of the leaf in `leaves(tree)`.

    Returns:
        What `keystr` gives for the path of that leaf.

    Raises:
        IndexError: the tree has no such leaf.

    Example:
        >>> import funcgrad as fg
        >>> fg.tree.describe_leaf_path({"w": (1, 2)}, 1)
        "['w'][1]"
    """
    return keystr(structure(tree).accessors()[index])


# Classes of one's own


@overload
def register_dataclass(
    cls: None = None, data_fields: Sequence[str] | None = None, meta_fields: Sequence[str] | None = None
) -> Callable[[Class], Class]: ...
@overload
def register_dataclass(
    cls: Class, data_fields: Sequence[str] | None = None, meta_fields: Sequence[str] | None = None
) -> Class: ...
def register_dataclass(
    cls: Any = None, data_fields: Sequence[str] | None = None, meta_fields: Sequence[str] | None = None
) -> Any:
    """Makes a dataclass a kind of pytree. To be used as a decorator, with or without arguments, or as a function.

    Arguments:
        cls: the class. One that is not a dataclass needs both lists of fields.
        data_fields: names of the fields that hold pytrees; by default, all that are not static.
        meta_fields: names of the static fields: they belong to the structure, so their values must be hashable and
            a function is traced anew for other values. By default, the fields declared with
            `dataclasses.field(metadata=dict(static=True))`.

    Returns:
        The class itself. Subclasses of it are not registered.

    Raises:
        TreeError: the lists do not hold every field exactly once, or the class is registered already.

    Trees are put together without `__init__` and `__post_init__`, because a transform puts anything in the place of the
    leaves.

    Example:
        >>> import dataclasses
        >>> import funcgrad as fg
        >>> @fg.tree.register_dataclass
        ... @dataclasses.dataclass(frozen=True)
        ... class Linear:
        ...     weight: float
        ...     name: str = dataclasses.field(metadata=dict(static=True))
        >>> fg.tree.map(lambda x: 10 * x, Linear(2.0, "first"))
        Linear(weight=20.0, name='first')
    """
    if cls is None:
        return lambda cls: register_dataclass(cls, data_fields, meta_fields)

    data, static = _divide_fields(cls, data_fields, meta_fields)
    read_data, read_static = _reader(data), _reader(static)
    create, set_field = object.__new__, object.__setattr__  # the ways of object work for frozen and slotted classes

    def flatten_instance(instance: Any) -> tuple[tuple, tuple, tuple[str, ...]]:
        values = read_static(instance)
        try:
            hash(values)
        except TypeError:
            raise _unhashable_field(cls, static, values) from None
        return read_data(instance), values, data

    def unflatten_instance(values: tuple, children: Iterable[Any]) -> Any:
        instance = create(cls)
        for name, child in zip(data, children, strict=True):
            set_field(instance, name, child)
        for name, value in zip(static, values, strict=True):
            set_field(instance, name, value)
        return instance

    _register(cls, flatten_instance, unflatten_instance, optree.GetAttrEntry)
    _data_fields[cls], _static_fields[cls] = tuple(data), tuple(static)
    return cls


def fields_of(cls: type) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """The names of the data fields and of the static fields of a registered dataclass; None for other classes."""
    return (_data_fields[cls], _static_fields[cls]) if cls in _data_fields else None


def is_named_tuple(cls: type) -> bool:
    """Whether a class is one of named tuples."""
    return optree.is_namedtuple_class(cls)


def register_node(
    cls: type, flatten: Callable[[Any], tuple[Iterable[Any], Any]], unflatten: Callable[[Any, Iterable[Any]], Any]
) -> None:
    """Makes a class a kind of pytree, with functions that take an object apart and put one together.

    Arguments:
        cls: the class. Subclasses of it are not registered.
        flatten: called with an object; gives its children and whatever else it consists of, which must be hashable.
        unflatten: called with the latter and the children; gives an object. The children may be anything at all, so it
            must not check them.

    Raises:
        TreeError: the class is registered already.

    Example:
        >>> import funcgrad as fg
        >>> class Pair:
        ...     def __init__(self, left, right):
        ...         self.left, self.right = left, right
        >>> fg.tree.register_node(Pair, lambda pair: ((pair.left, pair.right), None), lambda _, both: Pair(*both))
        >>> fg.tree.leaves([Pair(1, 2), 3])
        [1, 2, 3]
    """
    _register(cls, flatten, unflatten, optree.AutoEntry)


def _register(cls: Any, flatten: Callable, unflatten: Callable, entry: type[optree.PyTreeEntry]) -> None:
    try:
        optree.register_pytree_node(cls, flatten, unflatten, path_entry_type=entry, namespace=NAMESPACE)
    except ValueError:
        raise TreeError(f"{cls.__name__} is already a pytree class; register each class once.") from None
    except TypeError:
        raise TreeError(f"only a class can be registered as a kind of pytree, and {cls!r} is none.") from None


def _divide_fields(
    cls: Any, data_fields: Sequence[str] | None, meta_fields: Sequence[str] | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the data fields and of the static fields."""
    if not dataclasses.is_dataclass(cls):
        if data_fields is None or meta_fields is None:
            raise TreeError(
                f"{getattr(cls, '__name__', cls)} is not a dataclass; decorate it with dataclasses.dataclass first "
                "(below register_dataclass), or name all of its data_fields and meta_fields."
            )
        return tuple(data_fields), tuple(meta_fields)

    fields: tuple[dataclasses.Field, ...] = dataclasses.fields(cls)
    names = [field.name for field in fields]
    if meta_fields is None:
        static = [field.name for field in fields if field.metadata.get("static", False)]
        if data_fields is not None:  # the fields that were not named as data can only be static
            static = [name for name in names if name not in data_fields]
    else:
        static = list(meta_fields)
    data = [name for name in names if name not in static] if data_fields is None else list(data_fields)
    if sorted(data + static) != sorted(names):
        raise TreeError(
            f"data_fields {data} and meta_fields {static} must together hold each field of "
            f"{getattr(cls, '__name__', cls)} exactly once; its fields are {names}."
        )
    return tuple(data), tuple(static)


def _reader(names: tuple[str, ...]) -> Callable[[Any], tuple]:
    """A function that reads the named attributes of an object into a tuple."""
    if len(names) > 1:
        return attrgetter(*names)
    return lambda instance: tuple(getattr(instance, name) for name in names)


def _unhashable_field(cls: type, names: tuple[str, ...], values: tuple) -> TreeError:
    for name, value in zip(names, values, strict=True):
        try:
            hash(value)
        except TypeError:
            return TreeError(
                f"the static field '{name}' of {cls.__name__} holds a {type(value).__name__}, which is not hashable; "
                "store a tuple, string, number or function there, or make it a data field if it holds arrays."
            )
    raise AssertionError("a tuple is hashable when all of its items are")


# Comparing two trees, with errors that name the place


def prefix_leaves(prefix: Any, tree: Any, *, what: str) -> list[Any]:
    """Spreads a pytree prefix over the leaves of a tree, as `in_axes` of `vmap` is spread over the arguments.

    Arguments:
        prefix: a pytree whose leaves, among them None, stand for whole subtrees of `tree`.
        tree: any pytree.
        what: what the prefix is, to begin an error message with.

    Returns:
        A leaf of the prefix for each leaf of the tree.

    Raises:
        TreeError: the prefix has a node where the tree has something else.

    Example:
        >>> import funcgrad as fg
        >>> fg.tree.prefix_leaves((0, None), ({"w": 1, "b": 2}, 3), what="in_axes")
        [0, 0, None]
    """
    if prefix is None or type(prefix) is int:  # the commonest prefixes are a single leaf
        return [prefix] * len(leaves(tree))
    # None is a leaf of the prefix, and must be one for the whole of the comparison; within a subtree it is none again.
    flat, treedef = optree.tree_flatten(prefix, none_is_leaf=True, namespace=NAMESPACE)
    try:
        subtrees = treedef.flatten_up_to(tree)
    except ValueError as error:
        full = optree.tree_structure(tree, none_is_leaf=True, namespace=NAMESPACE)
        path, expected, actual = _first_difference(treedef, full, exact=False) or ("", str(error), "another tree")
        raise TreeError(
            f"{what}: {expected} was given{path} for {actual}; give one entry for each of its parts, or a single entry "
            "for all of it."
        ) from None
    return [leaf for leaf, subtree in zip(flat, subtrees, strict=True) for _ in leaves(subtree)]


def check_same_structure(expected: Any, actual: Any, *, what: str) -> None:
    """Raises an error if two trees differ in anything but the values of their leaves.

    Arguments:
        expected: a pytree, or the structure of one.
        actual: likewise.
        what: what `actual` is, to begin the error message with.

    Raises:
        TreeError: the trees differ; the message names the first place where they do.

    Example:
        >>> import funcgrad as fg
        >>> fg.tree.check_same_structure({"w": 1}, {"w": 2}, what="the update")
    """
    wanted, given = (x if isinstance(x, TreeDef) else structure(x) for x in (expected, actual))
    if wanted != given:
        difference = _first_difference(wanted, given, exact=True)
        path, wanted, given = difference or ("", str(wanted), str(given))
        raise TreeError(f"{what}: {wanted} is needed{path}, and {given} was given; give both trees the same structure.")


def _flatten_like(treedef: TreeDef, rest: tuple[Any, ...], name: str) -> list[list[Any]]:
    """For each tree of `rest`, the subtrees that stand where `treedef` has leaves."""
    columns = []
    for position, other in enumerate(rest):
        try:
            columns.append(treedef.flatten_up_to(other))
        except ValueError as error:
            path, expected, actual = _first_difference(treedef, structure(other), exact=False) or ("", str(error), "it")
            which = f"tree {position + 2} given to {name}" if name != "transpose" else "the tree given to transpose"
            raise TreeError(
                f"{which}: {expected} is needed{path}, and {actual} was given; give all trees the same structure."
            ) from None
    return columns


def _first_difference(
    expected: TreeDef, actual: TreeDef, *, exact: bool, path: tuple[optree.PyTreeEntry, ...] = ()
) -> tuple[str, str, str] | None:
    """Where two structures differ first, as ` at PATH`, and what each has there; None if they do not differ.

    A leaf of `expected` stands for any subtree unless the comparison is exact.
    """
    node, other = expected.one_level(), actual.one_level()  # None for a leaf
    if node is None:
        same = other is None or not exact
    elif other is None or exact:
        same = node == other
    else:  # not the same as equality: an OrderedDict, for example, is accepted for a dict
        same = node.is_prefix(other)
    if not same:
        return f" at {keystr(Path(path))}" if path else "", *_descriptions(expected, actual)
    if node is None:
        return None

    others = dict(zip(actual.entries(), actual.children(), strict=True))
    for step, entry, child in zip(node.accessors(), expected.entries(), expected.children(), strict=True):
        difference = _first_difference(child, others[entry], exact=exact, path=(*path, *step))
        if difference:
            return difference
    return None


def _descriptions(expected: TreeDef, actual: TreeDef) -> tuple[str, str]:
    """Two nodes that differ, in words that show the difference."""
    first, second = _describe(expected), _describe(actual)
    if first != second:
        return first, second
    node, other = expected.one_level(), actual.one_level()
    if node is not None and other is not None and expected.type in _static_fields:
        one, another = (x.unflatten([None] * x.num_children) for x in (node, other))
        for name in _static_fields[expected.type]:
            if getattr(one, name) != getattr(another, name):
                return f"{first} with {name}={getattr(one, name)!r}", f"one with {name}={getattr(another, name)!r}"
    return f"the node {node}", f"the node {other}"


def _describe(node: TreeDef) -> str:
    if node.type is None:
        return "a leaf"
    if node.kind == optree.PyTreeKind.NONE:
        return "None"
    name = node.type.__name__
    article = "an" if name[0] in "AEIOUaeio" else "a"
    if node.kind in (optree.PyTreeKind.DICT, optree.PyTreeKind.ORDEREDDICT, optree.PyTreeKind.DEFAULTDICT):
        keys = ", ".join(builtins.map(repr, node.entries()))
        return f"{article} {name} with the keys {keys}" if keys else f"an empty {name}"
    if node.kind in (optree.PyTreeKind.TUPLE, optree.PyTreeKind.LIST, optree.PyTreeKind.DEQUE):
        return f"{article} {name} of {node.num_children}" if node.num_children else f"an empty {name}"
    return f"{article} {name}"
