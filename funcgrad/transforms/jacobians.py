"""Whole derivatives: `jacfwd`, `jacrev` and `hessian`, each `vmap` over one of the modes.

Forward mode pushes one direction through a function, so all columns of the Jacobian are `jvp` mapped over the unit
vectors of the input. Reverse mode pulls one direction back, so all rows are `vjp` mapped over those of the output.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy

from funcgrad import dtypes, tree
from funcgrad.array import Array, ConcreteArray
from funcgrad.errors import DtypeError
from funcgrad.primitives.movement import slice_
from funcgrad.primitives.shapes import reshape
from funcgrad.transforms.arguments import as_arrays, normalize_positions, unwrap_outputs
from funcgrad.transforms.grad import vjp
from funcgrad.transforms.jvp import jvp
from funcgrad.transforms.vmap import vmap


def _unit_vectors(leaves: Sequence[Array]) -> list[ConcreteArray]:
    """For each leaf, its part of the unit vectors of the space that all leaves span, along a new first axis."""
    total = sum(x.size for x in leaves)
    vectors, start = [], 0
    for x in leaves:
        part = numpy.zeros((total, x.size), x.dtype)
        numpy.fill_diagonal(part[start:], 1)
        vectors.append(ConcreteArray(part.reshape(total, *x.shape)))
        start += x.size
    return vectors


def _split(x: Array, axis: int, leaves: Sequence[Array]) -> list[Array]:
    """Cut the axis that runs over all elements of `leaves` into a piece for each, with its axes in its place."""
    pieces, start = [], 0
    for leaf in leaves:
        starts = tuple(start if i == axis else 0 for i in range(x.ndim))
        limits = tuple(start + leaf.size if i == axis else n for i, n in enumerate(x.shape))
        piece = slice_(x, starts=starts, limits=limits, strides=(1,) * x.ndim)
        pieces.append(reshape(piece, shape=(*x.shape[:axis], *leaf.shape, *x.shape[axis + 1 :])))
        start += math.prod(leaf.shape)
    return pieces


class _Chosen:
    """The arguments that `argnums` names, flattened, and the function of them alone."""

    def __init__(self, fun: Callable, argnums: int | Sequence[int], args: tuple, kwargs: dict, transform: str):
        self.positions = normalize_positions(argnums, len(args), "argnums")
        self.single = isinstance(argnums, int)
        self.fun, self.args, self.kwargs = fun, args, kwargs
        chosen = args[self.positions[0]] if self.single else tuple(args[i] for i in self.positions)
        flat, self.structure = tree.flatten(chosen)
        self.flat = as_arrays(flat, self.structure, transform)
        for x in self.flat:
            if not dtypes.is_differentiable(x.dtype):
                raise DtypeError(
                    f"{transform} needs floating arguments, and one has dtype {x.dtype.name}; convert it with "
                    "x.astype(fg.float32), or choose other arguments with argnums."
                )

    def __call__(self, *flat: Array) -> Any:
        chosen = tree.unflatten(self.structure, flat)
        arguments = list(self.args)
        for position, argument in zip(self.positions, (chosen,) if self.single else chosen, strict=True):
            arguments[position] = argument
        return self.fun(*arguments, **self.kwargs)


def jacfwd(fun: Callable, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable:
    """The Jacobian of `fun`, by forward mode: one column at a time, good where inputs are fewer than outputs.

    Arguments:
        fun: a function of arrays or pytrees.
        argnums: which positional arguments to differentiate.
        has_aux: whether `fun` gives a pair of its result and auxiliary data.

    Returns:
        A function of the same arguments giving a pytree like the result, each leaf of which is a pytree like the
        argument; an entry has the shape of the result's leaf followed by that of the argument's leaf. With `has_aux`,
        a pair with the auxiliary data.

    Raises:
        DtypeError: if an argument is not floating.

    Example:
        >>> import funcgrad as fg
        >>> fg.jacfwd(lambda x: x ** 2)(fg.array([1.0, 2.0]))
        Array([[2., 0.],
               [0., 4.]], dtype=float32)
    """

    @wraps(fun)
    def jacobian(*args: Any, **kwargs: Any) -> Any:
        chosen = _Chosen(fun, argnums, args, kwargs, "jacfwd")
        parts: dict[str, Any] = {}

        def push(*direction: Array) -> list[Array]:
            if has_aux:
                result, tangent, parts["aux"] = jvp(chosen, chosen.flat, direction, has_aux=True)
            else:
                result, tangent = jvp(chosen, chosen.flat, direction)
            parts["structure"] = tree.structure(result)
            return [t if t is not None else 0.0 * direction[0].sum() for t in tree.leaves(tangent)]

        columns = vmap(push, out_axes=-1)(*_unit_vectors(chosen.flat))
        leaves = [tree.unflatten(chosen.structure, _split(x, x.ndim - 1, chosen.flat)) for x in columns]
        result = tree.unflatten(parts["structure"], leaves)
        return (result, parts["aux"]) if has_aux else result

    return jacobian


def jacrev(fun: Callable, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable:
    """The Jacobian of `fun`, by reverse mode: one row at a time, good where outputs are fewer than inputs.

    Arguments, results and errors are those of `jacfwd`.

    Example:
        >>> import funcgrad as fg
        >>> fg.jacrev(lambda x: x.sum() ** 2)(fg.array([1.0, 2.0]))
        Array([6., 6.], dtype=float32)
    """

    @wraps(fun)
    def jacobian(*args: Any, **kwargs: Any) -> Any:
        chosen = _Chosen(fun, argnums, args, kwargs, "jacrev")
        result, pull, *aux = vjp(chosen, *chosen.flat, has_aux=has_aux)
        outputs, structure, _ = unwrap_outputs(result, False, "jacrev")
        rows = vmap(lambda *cotangent: list(pull(tree.unflatten(structure, cotangent))))(*_unit_vectors(outputs))
        # rows[i] has all elements of all outputs first, then the shape of argument leaf i.
        pieces = [_split(x, 0, outputs) for x in rows]
        leaves = [tree.unflatten(chosen.structure, [p[o] for p in pieces]) for o in range(len(outputs))]
        jacobian_tree = tree.unflatten(structure, leaves)
        return (jacobian_tree, aux[0]) if has_aux else jacobian_tree

    return jacobian


def hessian(fun: Callable, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable:
    """The matrix of second derivatives of `fun`: forward mode over reverse mode.

    Arguments and errors are those of `jacfwd`; the result has the argument's axes twice after the result's own.

    Example:
        >>> import funcgrad as fg
        >>> fg.hessian(lambda x: (x ** 3).sum())(fg.array([1.0, 2.0]))
        Array([[ 6.,  0.],
               [ 0., 12.]], dtype=float32)
    """
    return jacfwd(jacrev(fun, argnums, has_aux), argnums, has_aux)
