"""`check_grads`: the derivatives of a function, held to finite differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from funcgrad import dtypes, tree
from funcgrad.array import Array
from funcgrad.errors import ArgumentError
from funcgrad.testing.comparing import (
    Check,
    Function,
    coarsest,
    directional_difference,
    gradient_of,
    host,
    random_like,
    step_for,
    strong,
    tolerance_for,
)
from funcgrad.transforms.arguments import as_arrays
from funcgrad.transforms.jvp import jvp


class _FunctionCheck(Check):
    def __init__(self, name: str, atol: float | None, rtol: float | None, step: float | None, seed: int):
        super().__init__(atol, rtol, seed)
        self.name, self.step = name, step

    def where(self) -> str:
        return f"{self.mode} of {self.name}"


def check_grads(
    f: Callable,
    args: Sequence[Any],
    order: int = 2,
    modes: Sequence[str] = ("fwd", "rev"),
    atol: float | None = None,
    rtol: float | None = None,
    eps: float | None = None,
) -> None:
    """Compare the derivatives of a function with finite differences along random directions.

    Arguments:
        f: a function of arrays or pytrees.
        args: its arguments. Integers and bools are held fixed. With float64 the comparison is sharp; with narrower
            dtypes it is as loose as their finite differences.
        order: up to which derivative; each order checks all sequences of `modes`.
        modes: "fwd" for jvp, "rev" for vjp.
        atol, rtol: how far two results may be apart, `atol + rtol * (largest expected element)`.
        eps: the step of the differences, which are central and of fourth order.

    Raises:
        AssertionError: naming the modes, and by how much results differ.

    Example:
        >>> import funcgrad as fg
        >>> from funcgrad.testing import check_grads
        >>> check_grads(lambda x: fg.numpy.sin(x) * x, (fg.array([0.5, 1.5], dtype=fg.float64),), order=3)
    """
    if set(modes) - {"fwd", "rev"} or order < 1:
        raise ArgumentError(
            f"check_grads got modes={modes} and order={order}; modes are 'fwd' and 'rev', order is > 0."
        )
    leaves, structure = tree.flatten(tuple(args))
    leaves = as_arrays(leaves, structure, "check_grads")
    positions = [i for i, x in enumerate(leaves) if dtypes.is_differentiable(x.dtype)]
    if not positions:
        raise ArgumentError("check_grads needs a floating or complex argument; convert one with x.astype(fg.float64).")

    def function(*chosen: Array) -> list[Array]:
        merged = list(leaves)
        for position, x in zip(positions, chosen, strict=True):
            merged[position] = x
        output, out_structure = tree.flatten(f(*tree.unflatten(structure, merged)))
        return [x for x in as_arrays(output, out_structure, "check_grads") if dtypes.is_differentiable(x.dtype)]

    check = _FunctionCheck(getattr(f, "__name__", "the function"), atol, rtol, eps, 0)
    _check_order(check, function, [strong(leaves[i]) for i in positions], order, modes, ())


def _check_order(check: _FunctionCheck, function: Function, primals: list[Array], order: int, modes, path) -> None:
    for mode in modes:
        check.mode = " of ".join((mode, *path))
        tangents = [random_like(check.random, x) for x in primals]
        results = function(*primals)
        epsilon = coarsest([*primals, *results])
        step = step_for(epsilon) if check.step is None else check.step
        expected = directional_difference(function, primals, tangents, step)
        if mode == "fwd":
            _, moved = jvp(function, primals, tangents)
            check.same([host(t) for t in moved], expected, "jvp against finite differences", tolerance_for(epsilon))
            derivative: Function = _pushed(function, tangents)
        else:
            cotangents = [random_like(check.random, x) for x in results]
            derivative = gradient_of(function, cotangents)
            check.same_pairing(
                (cotangents, expected),
                (derivative(*primals), tangents),
                "<ct, J t> by finite differences against <J^T ct, t>",
                tolerance_for(epsilon),
            )
        if order > 1:
            _check_order(check, derivative, primals, order - 1, modes, (mode, *path))


def _pushed(function: Function, tangents: Sequence[Array]) -> Function:
    return lambda *primals: jvp(function, primals, tangents)[1]
