"""What transforms do with the arguments and results of the user's function: flatten, convert, select by position."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from funcgrad import dtypes, tree
from funcgrad.array import AbstractArray, Array, ConcreteArray, as_array, wrap
from funcgrad.errors import ArgumentError, ArgumentTypeError


def as_arrays(
    leaves: Sequence[Any], structure: Any, transform: str, name: Callable[[int], str] | None = None
) -> list[Array]:
    """The leaves of a pytree of arguments as arrays.

    Arguments:
        leaves, structure: the flattened pytree.
        transform: who asks, for the message.
        name: gives what the user calls the leaf with an index; by default its path in the pytree.

    Raises:
        ArgumentTypeError: naming the leaf that is no array, and what to do about its class.
    """
    arrays = []
    for index, leaf in enumerate(leaves):
        if isinstance(leaf, Array):
            arrays.append(leaf)
            continue
        if not (type(leaf) in dtypes.DEFAULT_OF_SCALAR or hasattr(leaf, "__array__")):
            kind, where = type(leaf).__name__, name(index) if name else leaf_path(structure, index)
            raise ArgumentTypeError(
                f"{transform} got {f'`{where}`' if where else 'an argument'} of type {kind}, which is neither an array "
                "nor a registered pytree; register the class with fg.tree.register_dataclass, or keep it out of the "
                "traced arguments (for jit: static_argnums)."
            )
        arrays.append(as_array(leaf))
    return arrays


def leaf_path(structure: Any, index: int) -> str:
    """Where the leaf with this index sits, such as `['layers'][0].weight`."""
    return tree.describe_leaf_path(tree.unflatten(structure, range(structure.num_leaves)), index)


def parameter_name(fun: Callable, position: int) -> str:
    """What the function calls its positional argument, or `argument 1` where that is not known."""
    try:
        parameters = list(inspect.signature(fun).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    named = position < len(parameters) and parameters[position].kind is not inspect.Parameter.VAR_POSITIONAL
    return parameters[position].name if named else f"argument {position}"


def name_leaf(fun: Callable, args: tuple, kwargs: dict, index: int, positions: Sequence[int] | None = None) -> str:
    """What the user calls a leaf of the arguments `(args, kwargs)` of `fun`, such as `params['layers'][0]`.

    `positions` says which arguments of `fun` the entries of `args` are, where some are left out.
    """
    for position, argument in enumerate(args):
        count = tree.structure(argument).num_leaves
        if index < count:
            name = parameter_name(fun, position if positions is None else positions[position])
            return name + tree.describe_leaf_path(argument, index)
        index -= count
    for key in sorted(kwargs):
        count = tree.structure(kwargs[key]).num_leaves
        if index < count:
            return key + tree.describe_leaf_path(kwargs[key], index)
        index -= count
    raise IndexError(index)


def unwrap_outputs(output: Any, has_aux: bool, transform: str) -> tuple[list[Array], Any, Any]:
    """The flat results of the user's function, their structure, and its auxiliary data."""
    aux = None
    if has_aux:
        if not isinstance(output, (tuple, list)) or len(output) != 2:
            raise ArgumentError(
                f"{transform} with has_aux=True needs a function that returns a pair (result, aux), "
                f"and it returned {type(output).__name__}."
            )
        output, aux = output
    if isinstance(output, Array):
        return [output], LEAF, aux
    leaves, structure = tree.flatten(output)
    return as_results(leaves, structure, transform), structure, aux


def as_results(leaves: Sequence[Any], structure: Any, transform: str) -> list[Array]:
    """The leaves of what the user's function returned, as arrays.

    Raises:
        ArgumentTypeError: naming the leaf that is no array.
    """
    results = []
    for index, leaf in enumerate(leaves):
        if isinstance(leaf, Array):
            results.append(leaf)
        elif type(leaf) in dtypes.DEFAULT_OF_SCALAR or hasattr(leaf, "__array__"):
            results.append(as_array(leaf))
        else:
            path = leaf_path(structure, index)
            raise ArgumentTypeError(
                f"the function given to {transform} returned {type(leaf).__name__}{f' at {path}' if path else ''}, "
                "which is not an array; return arrays, numbers, or pytrees of them."
            )
    return results


def normalize_positions(positions: int | Sequence[int], count: int, name: str) -> tuple[int, ...]:
    """Positions of arguments as a tuple of non-negative numbers.

    Raises:
        ArgumentError: if there is no such argument.
    """
    if type(positions) is int and 0 <= positions < count:
        return (positions,)
    found = (positions,) if isinstance(positions, int) else tuple(positions)
    for position in found:
        if not isinstance(position, int) or not -count <= position < count:
            raise ArgumentError(
                f"{name}={positions} names argument {position}, but the function was called with {count} positional "
                "argument(s); pass the arguments that it names by position."
            )
    return tuple(position % count for position in found)


LEAF = tree.structure(0)  # the structure of a single array


def spread(values: Iterable[Any], present: Sequence[bool]) -> list[Any]:
    """The values at the places where one is present, None at the others."""
    found = iter(values)
    return [next(found) if p else None for p in present]


def weak_again(results: Sequence[Array], avals: Sequence[AbstractArray]) -> list[Array]:
    """Results that stand for Python scalars as such: primitives with several results give them as ordinary arrays."""
    return [
        wrap(x._data, weak=True) if a.weak_type and type(x) is ConcreteArray else x
        for x, a in zip(results, avals, strict=True)
    ]
