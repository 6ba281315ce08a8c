"""Taking networks apart and putting them together: named parameters, replaced parts, frozen and shared parameters.

A module never changes, so each function here gives a changed copy, which shares all other arrays with the original.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from funcgrad import tree
from funcgrad.annotations import Array
from funcgrad.errors import ArgumentError, ArgumentTypeError
from funcgrad.nn.module import Module

_Tree = TypeVar("_Tree")
_MISSING: Any = object()

Predicate = Callable[[str, Array], Any]


def _is_none(node: Any) -> bool:
    return node is None


def _name(path: tree.Path) -> str:
    return tree.keystr(path, simple=True, separator=".")


def named_parameters(module: Any) -> dict[str, Array]:
    """The parameters of a network by name.

    Arguments:
        module: a module, or any pytree.

    Returns:
        A dict from names, which are the fields and numbers on the way joined by dots, to arrays.

    Example:
        >>> import funcgrad as fg
        >>> network = fg.nn.MLP(2, 1, width=8, depth=1, key=fg.random.key(0))
        >>> for name, parameter in fg.nn.named_parameters(network).items():
        ...     print(name, parameter.shape)
        layers.0.weight (8, 2)
        layers.0.bias (8,)
        layers.1.weight (1, 8)
        layers.1.bias (1,)
    """
    return {_name(path): leaf for path, leaf in tree.leaves_with_path(module)}


class _Mark:
    """Stands for a leaf while `tree_at` looks for the nodes that the user means: no two are the same."""


def tree_at(
    where: Callable[[Any], Any],
    module: _Tree,
    replace: Any = _MISSING,
    *,
    replace_fn: Callable[[Any], Any] | None = None,
) -> _Tree:
    """A copy of a pytree in which some of its nodes are others.

    Arguments:
        where: a function that gets the tree and gives the node to replace, or a tuple or list of several. A node is a
            parameter, or None in the place of one, or a module, tuple, list or dict that contains some. The tree that
            it gets has placeholders in place of arrays, so it can only follow the structure.
        module: a module, or any pytree.
        replace: what stands there in the copy; for several nodes a tuple or list of as many.
        replace_fn: instead of `replace`, a function from the old node to the new one.

    Returns:
        A tree of the same kind.

    Raises:
        ArgumentError: if `where` gives something that is not a node of the tree, if the numbers of nodes and
            replacements differ, or unless exactly one of `replace` and `replace_fn` is given.

    Example:
        >>> import funcgrad as fg
        >>> network = fg.nn.MLP(2, 1, width=8, depth=1, key=fg.random.key(0))
        >>> network = fg.nn.tree_at(lambda network: network.layers[1].bias, network, fg.array([3.0]))
        >>> network.layers[1].bias
        Array([3.], dtype=float32)
    """
    if (replace is _MISSING) == (replace_fn is None):
        raise ArgumentError("tree_at needs one of `replace` and `replace_fn`, and not both.")
    leaves, structure = tree.flatten(module, is_leaf=_is_none)
    marks = [_Mark() for _ in leaves]
    marked = tree.unflatten(structure, marks)
    inside: dict[int, Any] = {}
    tree.flatten(marked, is_leaf=lambda node: inside.setdefault(id(node), node) is not node)  # visits every node
    inside.update((id(mark), mark) for mark in marks)
    found = where(marked)
    is_one = id(found) in inside
    if not is_one and not isinstance(found, (tuple, list)):
        raise _not_a_node(found)
    nodes = [found] if is_one else list(found)
    for node in nodes:
        if id(node) not in inside:
            raise _not_a_node(node)
    chosen = {id(node): position for position, node in enumerate(nodes)}
    if len(chosen) < len(nodes):
        raise ArgumentError("the function given to tree_at as `where` gave one node twice.")
    originals = {id(mark): leaf for mark, leaf in zip(marks, leaves, strict=True)}
    if replace_fn is not None:

        def original(node: Any) -> Any:
            inner, inner_structure = tree.flatten(node)
            return tree.unflatten(inner_structure, [originals[id(mark)] for mark in inner])

        new = [replace_fn(original(node)) for node in nodes]
    else:
        new = [replace] if is_one else list(replace) if isinstance(replace, (tuple, list)) else [replace]
    if len(new) != len(nodes):
        raise ArgumentError(f"tree_at got {len(nodes)} nodes to replace, and {len(new)} replacements.")
    parts, outer = tree.flatten(marked, is_leaf=lambda node: id(node) in chosen)
    if sum(id(part) in chosen for part in parts) < len(nodes):
        raise ArgumentError("the function given to tree_at as `where` gave a node that is inside of another one.")
    return tree.unflatten(outer, [new[chosen[id(p)]] if id(p) in chosen else originals[id(p)] for p in parts])


def _not_a_node(found: Any) -> ArgumentError:
    return ArgumentError(
        f"the function given to tree_at as `where` gave {found!r:.60}, which is not a node of the tree; it gives a "
        "parameter or module by attributes and indices alone. Static fields are replaced with module.replace(...)."
    )


def _selected(module: Any, predicate: Any, what: str) -> tuple[list[Any], list[bool], Any]:
    """The leaves of a tree, which of them are selected, and the structure."""
    paths, structure = tree.flatten_with_path(module)
    if callable(predicate) and not isinstance(predicate, Module):
        selected = [bool(predicate(_name(path), leaf)) for path, leaf in paths]
    else:
        selected = [bool(x) for x in tree.prefix_leaves(predicate, module, what=f"the predicate of {what}")]
    return [leaf for _, leaf in paths], selected, structure


def filter(module: _Tree, predicate: Predicate | Any) -> _Tree:
    """A copy of a network with only some of its parameters, and None in place of the others.

    Arguments:
        module: a module, or any pytree.
        predicate: a function of the name of a parameter, such as "layers.0.weight", and its array, which says whether
            to keep it; or a pytree of bools that is a prefix of the module.

    Returns:
        A module of the same class. None is no parameter, so `grad` and optimizers only see those that are kept.

    Example:
        >>> import funcgrad as fg
        >>> layer = fg.nn.Linear(2, 3, key=fg.random.key(0))
        >>> fg.nn.filter(layer, lambda name, parameter: parameter.ndim == 2)
        Linear(weight=float32[3,2], bias=None, in_features=2, out_features=3)
    """
    leaves, selected, structure = _selected(module, predicate, "filter")
    return tree.unflatten(structure, [x if keep else None for x, keep in zip(leaves, selected, strict=True)])


def partition(module: _Tree, predicate: Predicate | Any) -> tuple[_Tree, _Tree]:
    """Divides the parameters of a network in two: those that are to be trained and those that are frozen, for example.

    Arguments:
        module: a module, or any pytree.
        predicate: a function of the name of a parameter, such as "layers.0.weight", and its array, which says whether
            it belongs to the first part; or a pytree of bools that is a prefix of the module.

    Returns:
        Two modules of the same class; each has None in place of what the other one has. `combine` joins them.

    Example, the gradient for the last layer alone:
        >>> import funcgrad as fg
        >>> network = fg.nn.MLP(2, 1, width=8, depth=1, key=fg.random.key(0))
        >>> trained, frozen = fg.nn.partition(network, lambda name, parameter: name.startswith("layers.1"))
        >>> def loss(trained, x):
        ...     return fg.nn.combine(trained, frozen)(x).sum()
        >>> gradient = fg.grad(loss)(trained, fg.numpy.ones((5, 2)))
        >>> list(fg.nn.named_parameters(gradient))
        ['layers.1.weight', 'layers.1.bias']
    """
    leaves, selected, structure = _selected(module, predicate, "partition")
    pairs = list(zip(leaves, selected, strict=True))
    first = tree.unflatten(structure, [x if chosen else None for x, chosen in pairs])
    return first, tree.unflatten(structure, [None if chosen else x for x, chosen in pairs])


def combine(module: _Tree, *others: _Tree) -> _Tree:
    """Joins what `partition` divided: each parameter is the first one that is not None.

    Arguments:
        module, others: modules of the same structure apart from None in place of parameters.

    Returns:
        A module of the same class.

    Raises:
        TreeError: if the structures differ.

    Example:
        >>> import funcgrad as fg
        >>> layer = fg.nn.Linear(2, 3, key=fg.random.key(0))
        >>> parts = fg.nn.partition(layer, lambda name, parameter: name == "bias")
        >>> fg.nn.combine(*parts)
        Linear(weight=float32[3,2], bias=float32[3], in_features=2, out_features=3)
    """
    return tree.map(lambda *xs: next((x for x in xs if x is not None), None), module, *others, is_leaf=_is_none)


class Shared(Module):
    """A network in which one parameter, or module, takes two places, such as an embedding that is the last layer, too.

    Writing one array into two fields would not do: to a transform they are two parameters, and drift apart in training.
    Here, the second place is empty, and is filled from the first one whenever the network is called, so that the one
    parameter gets the gradients of both.

    Arguments:
        module: the network.
        to: a function from the network to the node that is to be filled, as for `tree_at`.
        source: a function from the network to what is put there; it may compute, for example transpose.

    Attributes:
        module: the network with None in place of the shared parameters.

    Example:
        >>> import funcgrad as fg
        >>> class Language(fg.nn.Module):
        ...     embedding: fg.nn.Embedding
        ...     head: fg.nn.Linear
        ...
        ...     def __call__(self, tokens, *, key=None):
        ...         return self.head(self.embedding(tokens))
        >>> key1, key2 = fg.random.split(fg.random.key(0))
        >>> network = Language(fg.nn.Embedding(10, 4, key=key1), fg.nn.Linear(4, 10, key=key2, use_bias=False))
        >>> network = fg.nn.Shared(network, to=lambda n: n.head.weight, source=lambda n: n.embedding.weight)
        >>> network(fg.array([1, 2, 3])).shape, list(fg.nn.named_parameters(network))
        ((3, 10), ['module.embedding.weight'])
    """

    module: Any
    to: Callable[[Any], Any]
    source: Callable[[Any], Any]

    def __init__(self, module: Any, to: Callable[[Any], Any], source: Callable[[Any], Any]):
        if not callable(module):
            raise ArgumentTypeError(f"Shared got {type(module).__name__} as module, which cannot be called.")
        self.module, self.to, self.source = tree_at(to, module, None), to, source

    def filled(self) -> Any:
        """The network with the parameter in both places, as it is called; for other methods than calling it."""
        return tree_at(self.to, self.module, self.source(self.module))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the network gives.

        Arguments:
            args, kwargs: those of the network.
        """
        return self.filled()(*args, **kwargs)
