"""What transforms do with the arguments and results of the user's function: flatten, convert, select by position."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from funcgrad import dtypes, tree
from funcgrad.array import Array, ConcreteArray, as_array
from funcgrad.errors import ArgumentError, ArgumentTypeError


def as_arrays(leaves: Sequence[Any], structure: Any, transform: str) -> list[Array]:
    """The leaves of a pytree of arguments as arrays.

    Raises:
        ArgumentTypeError: naming the leaf that is no array, and what to do about its class.
    """
    arrays = []
    for index, leaf in enumerate(leaves):
        if isinstance(leaf, Array):
            arrays.append(leaf)
            continue
        if not (type(leaf) in dtypes.DEFAULT_OF_SCALAR or hasattr(leaf, "__array__")):
            raise not_an_array(leaf, leaf_path(structure, index), transform)
        arrays.append(as_array(leaf))
    return arrays


def leaf_path(structure: Any, index: int) -> str:
    """Where the leaf with this index sits, such as `['layers'][0].weight`."""
    return tree.describe_leaf_path(tree.unflatten(structure, range(structure.num_leaves)), index)


def not_an_array(leaf: Any, path: str, transform: str) -> ArgumentTypeError:
    kind = type(leaf).__name__
    where = f"the argument leaf at {path}" if path else "an argument"
    return ArgumentTypeError(
        f"{transform} got {where} of type {kind}, which is neither an array nor a registered pytree; register the "
        f"class with fg.tree.register_dataclass, or keep {kind} out of the traced arguments (for jit: static_argnums)."
    )


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

__all__ = ["LEAF", "Callable", "ConcreteArray", "as_arrays", "as_results", "leaf_path", "normalize_positions"]
