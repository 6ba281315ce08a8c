"""Comparing results: by how much they differ, numerical derivatives, and the dot-product test.

Complex numbers: tangents and cotangents are paired by `sum(ct * t)`, without conjugation. A function that is not
holomorphic is linear over the reals only, so the real parts of pairings are compared; with random complex directions
that says as much as comparing both parts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy

from funcgrad import dtypes
from funcgrad.array import AbstractArray, Array, ConcreteArray, wrap
from funcgrad.transforms.grad import vjp
from funcgrad.transforms.jvp import jvp

Function = Callable[..., list[Array]]


def host(x: Any) -> numpy.ndarray:
    """The buffer on the host, in a dtype in which differences can be taken without loss."""
    buffer = numpy.asarray(x.concrete("a check") if isinstance(x, Array) else x)
    return buffer.astype(wide_dtype(dtypes.canonical(buffer.dtype)))


def wide_dtype(dtype: numpy.dtype) -> numpy.dtype:
    """The dtype of this kind with 64-bit parts; integers and bools as they are."""
    kind = dtypes.KIND[dtype]
    return dtypes.complex128 if kind == 3 else dtypes.float64 if kind == 2 else dtype


def epsilon_of(dtype: numpy.dtype) -> float:
    """The distance from 1 to the next number; that of float64 for what is exact."""
    if dtype is dtypes.bfloat16:
        return 2.0**-7
    return float(numpy.finfo(dtype).eps) if dtypes.is_differentiable(dtype) else float(numpy.finfo(float).eps)


def coarsest(values: Sequence[Any]) -> float:
    """The `epsilon_of` the least precise of several arrays."""
    return max([epsilon_of(dtypes.canonical(x.dtype)) for x in values], default=epsilon_of(dtypes.float64))


def disagreement(actual: Any, expected: Any, atol: float, rtol: float) -> str | None:
    """What is wrong with `actual`, or None. NaN agrees with NaN, an infinity with the same one."""
    if tuple(actual.shape) != tuple(expected.shape):
        return f"shape {tuple(actual.shape)} where {tuple(expected.shape)} was expected"
    a, b = host(actual), host(expected)
    if a.dtype.kind in "biu" and b.dtype.kind in "biu":
        wrong = a != b
        if not wrong.any():
            return None
        return f"{int(wrong.sum())} of {a.size} elements differ: {shortened(a)} where {shortened(b)} was expected"
    finite = numpy.isfinite(a) & numpy.isfinite(b)
    same = (a == b) | (numpy.isnan(a) & numpy.isnan(b))
    if not (finite | same).all():
        return f"{shortened(a)} where {shortened(b)} was expected: not finite at other places"
    difference = numpy.abs(numpy.where(finite, a, 0) - numpy.where(finite, b, 0))
    largest = float(numpy.abs(numpy.where(finite, b, 0)).max(initial=0))
    worst = float(difference.max(initial=0))
    if worst <= atol + rtol * largest:
        return None
    return (
        f"they differ by {worst:.3g}, {worst / largest if largest else numpy.inf:.3g} of the largest element, where "
        f"{atol + rtol * largest:.3g} is allowed: {shortened(a)} where {shortened(b)} was expected"
    )


def shortened(x: Any) -> str:
    """An array as text of one line."""
    text = numpy.array2string(numpy.asarray(x), precision=10, threshold=20, separator=", ").replace("\n", "")
    return text if len(text) <= 400 else text[:397] + "..."


def directional_difference(function: Function, primals: Sequence[Array], tangents: Sequence[Any], step: float):
    """The derivative of `function` along `tangents`, by central differences of fourth order, as NumPy arrays."""

    def at(multiple: int) -> list[numpy.ndarray]:
        moved = [like(host(x) + multiple * step * host(t), x) for x, t in zip(primals, tangents, strict=True)]
        return [1.0 * host(y) for y in function(*moved)]

    near = [a - b for a, b in zip(at(1), at(-1), strict=True)]
    far = [a - b for a, b in zip(at(2), at(-2), strict=True)]
    return [(8 * a - b) / (12 * step) for a, b in zip(near, far, strict=True)]


def step_for(epsilon: float) -> float:
    """Where the errors of rounding and of a difference of fourth order balance."""
    return epsilon**0.2


def tolerance_for(epsilon: float) -> float:
    """What a difference with that step can promise, with a margin for functions that bend strongly."""
    return max(1e-6, 100 * epsilon**0.8)


def like(buffer: Any, x: Any) -> ConcreteArray:
    """A buffer as an array of the dtype of `x`, or of the dtype `x`; too large numbers become infinite."""
    with numpy.errstate(all="ignore"):
        return wrap(numpy.asarray(buffer).astype(getattr(x, "dtype", x)))


def random_like(generator: numpy.random.Generator, x: Any) -> ConcreteArray:
    """A random direction of the shape and dtype of `x`, with elements of size up to 1."""
    values = generator.uniform(-1, 1, x.shape)
    if dtypes.is_complex(x.dtype):
        values = (values + 1j * generator.uniform(-1, 1, x.shape)) / 2
    return like(values, x)


def pairing(cotangents: Sequence[Any], tangents: Sequence[Any]) -> float:
    """The real part of `sum(ct * t)` over all pairs."""
    return float(sum(numpy.sum(host(c) * host(t)).real for c, t in zip(cotangents, tangents, strict=True)))


def pairing_scale(cotangents: Sequence[Any], tangents: Sequence[Any]) -> float:
    """How large the terms of a pairing are, and so its rounding errors."""
    return float(sum(numpy.sum(numpy.abs(host(c) * host(t))) for c, t in zip(cotangents, tangents, strict=True)))


class Check:
    """What checks have in common: a random generator, tolerances, and saying what failed."""

    mode = ""

    def __init__(self, atol: float | None, rtol: float | None, seed: int):
        self.atol, self.rtol = atol, rtol
        self.random = numpy.random.default_rng(seed)

    def where(self) -> str:
        raise NotImplementedError

    def fail(self, what: str) -> NoReturn:
        raise AssertionError(f"{self.where()}: {what}")

    def same(self, actual: Sequence[Any], expected: Sequence[Any], what: str, tolerance: float) -> None:
        """Hold two lists of results to each other, dtypes included where both have ours."""
        rtol = tolerance if self.rtol is None else self.rtol
        atol = tolerance if self.atol is None else self.atol
        if len(actual) != len(expected):
            self.fail(f"{what}: {len(actual)} results where {len(expected)} were expected")
        for i, (a, b) in enumerate(zip(actual, expected, strict=True)):
            which = f"{what}, result {i}" if len(actual) > 1 else what
            if isinstance(a, Array) and isinstance(b, (Array, AbstractArray)) and a.dtype is not b.dtype:
                self.fail(f"{which}: dtype {a.dtype.name} where {b.dtype.name} was expected")
            wrong = disagreement(a, b, atol, rtol)
            if wrong:
                self.fail(f"{which}: {wrong}")

    def same_types(self, actual: Sequence[Any], expected: Sequence[Any], what: str) -> None:
        """Hold the shapes and dtypes of arrays to those of others, or to abstract ones."""
        if len(actual) != len(expected):
            self.fail(f"{what}: {len(actual)} results where {len(expected)} were expected")
        for a, b in zip(actual, expected, strict=True):
            if tuple(a.shape) != tuple(b.shape) or a.dtype is not b.dtype:
                found, wanted = (AbstractArray(x.shape, x.dtype) for x in (a, b))
                self.fail(f"{what}: {found!r} where {wanted!r} was expected")

    def same_pairing(self, left: tuple[Any, Any], right: tuple[Any, Any], what: str, tolerance: float) -> None:
        """The dot-product test: the pairings of two lists of cotangents and tangents are equal."""
        a, b = pairing(*left), pairing(*right)
        scale = max(pairing_scale(*left), pairing_scale(*right))
        rtol = tolerance if self.rtol is None else self.rtol
        atol = tolerance if self.atol is None else self.atol
        if numpy.isfinite(a) == numpy.isfinite(b) and (not numpy.isfinite(a) or abs(a - b) <= atol + rtol * scale):
            return
        self.fail(f"{what}: {a:.10g} against {b:.10g}, a difference of {abs(a - b):.3g} at a scale of {scale:.3g}")

    def forward_derivative(self, function: Function, primals: Sequence[Array], what: str) -> None:
        """jvp against finite differences."""
        tangents = [random_like(self.random, x) for x in primals]
        results, moved = jvp(function, primals, tangents)
        epsilon = coarsest([*primals, *results])
        self.same(results, function(*primals), f"{what}: the result under jvp", 16 * epsilon)
        for result, tangent in zip(results, moved, strict=True):
            if tangent is not None and not dtypes.is_differentiable(result.dtype):
                self.fail(f"{what}: the tangent of a {result.dtype.name} result is not None")
        expected = directional_difference(function, primals, tangents, step_for(epsilon))
        moving = [i for i, t in enumerate(moved) if t is not None]
        self.same_types([moved[i] for i in moving], [results[i] for i in moving], f"{what}: the tangent")
        self.same(
            [host(moved[i]) for i in moving],
            [expected[i] for i in moving],
            f"{what}: jvp against finite differences",
            tolerance_for(epsilon),
        )

    def reverse_derivative(self, function: Function, primals: Sequence[Array], what: str) -> None:
        """vjp against jvp, by the dot-product test."""
        tangents = [random_like(self.random, x) for x in primals]
        results, moved = jvp(function, primals, tangents)
        cotangents = [random_like(self.random, x) for x in results]
        value, pull = vjp(function, *primals)
        epsilon = coarsest([*primals, *results])
        self.same(value, results, f"{what}: the result under vjp", 16 * epsilon)
        pulled = pull(cotangents)
        self.same_types(pulled, primals, f"{what}: the gradient")
        self.same_pairing(
            (cotangents, moved), (pulled, tangents), f"{what}: <ct, J t> against <J^T ct, t>", 64 * epsilon
        )


def stack_rows(rows: Sequence[Sequence[Array]]) -> list[ConcreteArray]:
    """The results for each example, stacked result by result."""
    return [wrap(numpy.stack([x._data for x in column])) for column in zip(*rows, strict=True)]


def gradient_of(function: Function, cotangents: Sequence[Array]) -> Function:
    """The function that pulls fixed cotangents back, and so is the gradient of `sum(ct * function(x))`."""
    return lambda *primals: list(vjp(function, *primals)[1](list(cotangents)))


def strong(x: Array) -> Array:
    """`x` with a dtype that gives way to no other."""
    return wrap(x.concrete("check_grads")._data)
