"""Hold primitives and functions to what they promise.

`check_primitive` compares every rule of a primitive with something that cannot share its mistakes: `evaluate` with a
reference, `jvp` with finite differences, `transpose` with the dot-product test, `batch` with a Python loop, a Program
with direct evaluation, and compositions of transforms with each other. The suite of this package runs it over every
primitive; whoever writes a primitive can do the same. `check_grads` compares the derivatives of a function with finite
differences.

Complex numbers: tangents and cotangents are paired by `sum(ct * t)`, without conjugation. A function that is not
holomorphic is linear over the reals only, so the real parts of pairings are compared; with random complex directions
that says as much as comparing both parts.
"""

from __future__ import annotations

import importlib
import itertools
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any, NoReturn

import numpy

from funcgrad import dtypes, tree
from funcgrad.array import AbstractArray, Array, ConcreteArray, wrap
from funcgrad.core import Primitive
from funcgrad.errors import ArgumentError, DtypeError
from funcgrad.program import Variable
from funcgrad.transforms.arguments import as_arrays
from funcgrad.transforms.grad import linear_transpose, linearize, vjp
from funcgrad.transforms.jit import jit, make_program
from funcgrad.transforms.jvp import jvp
from funcgrad.transforms.vmap import vmap

FORWARD_MODES = ("abstract", "reference", "precision", "batch", "program", "jit")
DERIVATIVE_MODES = ("jvp", "linearize", "transpose", "second_order", "compositions")
MODES = FORWARD_MODES + DERIVATIVE_MODES

Function = Callable[..., list[Array]]


def check_primitive(
    primitive: Primitive,
    operands: Sequence[Any],
    params: dict[str, Any] | None = None,
    *,
    reference: Callable[..., Any] | None = None,
    others: Sequence[Sequence[Any]] = (),
    linear: Sequence[Sequence[int]] = (),
    wrt: Sequence[int] | None = None,
    modes: Sequence[str] = MODES,
    batch_sizes: Sequence[int] = (3, 1, 0),
    atol: float | None = None,
    rtol: float | None = None,
    seed: int = 0,
) -> None:
    """Hold a primitive to all of its rules, for the given operands.

    Derivatives are checked in float64 and complex128, into which floating and complex operands are widened; they must
    be smooth within about 0.01 of the operands.

    Arguments:
        primitive: what to check.
        operands: arrays or array-likes.
        params: the static parameters.
        reference: `reference(*operands, **params)` gives the expected result, or a list of them, from NumPy arrays;
            floating and complex ones arrive widened to 64-bit parts.
        others: further lists of operands of the same shapes and dtypes, used as further examples of a batch. Without
            them, examples are the operands with their elements permuted.
        linear: sets of positions of operands in which the primitive is jointly linear, for its `transpose` rule:
            `[(0, 1)]` for a sum, `[(0,), (1,)]` for a product. Positions beyond the operands are left out.
        wrt: positions of the operands in which derivatives are checked; by default all floating and complex ones.
        modes: what to check, out of `MODES`. For a primitive that has no derivative pass `FORWARD_MODES`.
        batch_sizes: how long batches are.
        atol, rtol: tolerances in place of those that follow from the dtypes; the error may be
            `atol + rtol * (largest expected element)`.
        seed: of the random directions.

    Raises:
        AssertionError: naming the mode, the primitive, the operands, and by how much two results differ.
        FuncgradError: whatever a rule raises, with a note that says the same.

    Example:
        >>> import numpy
        >>> from funcgrad.core import Primitive
        >>> double = Primitive(
        ...     "double",
        ...     abstract=lambda x: x,
        ...     evaluate=lambda x: x * 2,
        ...     jvp=lambda primals, tangents: (double(*primals), double(*tangents)),
        ...     transpose=lambda cotangent, x: [double(cotangent)],
        ...     batch=lambda size, operands, axes: (double(*operands), axes[0]),
        ... )
        >>> check_primitive(double, [[1.0, 2.0]], reference=lambda x: numpy.add(x, x), linear=[(0,)])
    """
    unknown = set(modes) - set(MODES)
    if unknown:
        raise ArgumentError(f"check_primitive got the modes {sorted(unknown)}; choose out of {', '.join(MODES)}.")
    check = _PrimitiveCheck(primitive, operands, params or {}, others, wrt, batch_sizes, atol, rtol, seed)
    for mode in MODES:
        if mode not in modes:
            continue
        check.mode = mode
        try:
            if mode == "reference":
                check.reference(reference)
            elif mode == "transpose":
                check.transpose(linear)
            else:
                getattr(check, mode)()
        except Exception as error:
            if not isinstance(error, AssertionError):
                error.add_note(check.where())
            raise


def primitives_of(package: ModuleType) -> dict[str, Primitive]:
    """All primitives in the modules of a package, by `module.variable`; for suites that must not forget one.

    Example:
        >>> import funcgrad.primitives
        >>> "funcgrad.primitives.shapes.reshape" in primitives_of(funcgrad.primitives)
        True
    """
    modules = [package]
    for info in pkgutil.walk_packages(getattr(package, "__path__", []), package.__name__ + "."):
        if not info.name.endswith("__main__"):
            modules.append(importlib.import_module(info.name))
    found: dict[int, tuple[str, Primitive]] = {}
    for module in modules:
        for name, value in vars(module).items():
            if isinstance(value, Primitive):
                found.setdefault(id(value), (f"{module.__name__}.{name}", value))
    return dict(found.values())


# Comparing


def _host(x: Any) -> numpy.ndarray:
    """The buffer on the host, in a dtype in which differences can be taken without loss."""
    buffer = numpy.asarray(x.concrete("a check") if isinstance(x, Array) else x)
    return buffer.astype(_wide_dtype(dtypes.canonical(buffer.dtype)))


def _wide_dtype(dtype: numpy.dtype) -> numpy.dtype:
    kind = dtypes.KIND[dtype]
    return dtypes.complex128 if kind == 3 else dtypes.float64 if kind == 2 else dtype


def _epsilon(dtype: numpy.dtype) -> float:
    """The distance from 1 to the next number; that of float64 for what is exact."""
    if dtype is dtypes.bfloat16:
        return 2.0**-7
    return float(numpy.finfo(dtype).eps) if dtypes.is_differentiable(dtype) else float(numpy.finfo(float).eps)


def _coarsest(values: Sequence[Any]) -> float:
    return max([_epsilon(dtypes.canonical(x.dtype)) for x in values], default=_epsilon(dtypes.float64))


def _disagreement(actual: Any, expected: Any, atol: float, rtol: float) -> str | None:
    """What is wrong with `actual`, or None. NaN agrees with NaN, an infinity with the same one."""
    if tuple(actual.shape) != tuple(expected.shape):
        return f"shape {tuple(actual.shape)} where {tuple(expected.shape)} was expected"
    a, b = _host(actual), _host(expected)
    if a.dtype.kind in "biu" and b.dtype.kind in "biu":
        wrong = a != b
        if not wrong.any():
            return None
        return f"{int(wrong.sum())} of {a.size} elements differ: {_short(a)} where {_short(b)} was expected"
    finite = numpy.isfinite(a) & numpy.isfinite(b)
    same = (a == b) | (numpy.isnan(a) & numpy.isnan(b))
    if not (finite | same).all():
        return f"{_short(a)} where {_short(b)} was expected: not finite at other places"
    difference = numpy.abs(numpy.where(finite, a, 0) - numpy.where(finite, b, 0))
    largest = float(numpy.abs(numpy.where(finite, b, 0)).max(initial=0))
    worst = float(difference.max(initial=0))
    if worst <= atol + rtol * largest:
        return None
    return (
        f"they differ by {worst:.3g}, {worst / largest if largest else numpy.inf:.3g} of the largest element, where "
        f"{atol + rtol * largest:.3g} is allowed: {_short(a)} where {_short(b)} was expected"
    )


def _short(x: Any) -> str:
    text = numpy.array2string(numpy.asarray(x), precision=10, threshold=20, separator=", ").replace("\n", "")
    return text if len(text) <= 400 else text[:397] + "..."


def _directional_difference(function: Function, primals: Sequence[Array], tangents: Sequence[Any], step: float):
    """The derivative of `function` along `tangents`, by central differences of fourth order, as NumPy arrays."""

    def at(multiple: int) -> list[numpy.ndarray]:
        moved = [_like(_host(x) + multiple * step * _host(t), x) for x, t in zip(primals, tangents, strict=True)]
        return [1.0 * _host(y) for y in function(*moved)]

    near = [a - b for a, b in zip(at(1), at(-1), strict=True)]
    far = [a - b for a, b in zip(at(2), at(-2), strict=True)]
    return [(8 * a - b) / (12 * step) for a, b in zip(near, far, strict=True)]


def _step(epsilon: float) -> float:
    """Where the errors of rounding and of a difference of fourth order balance."""
    return epsilon**0.2


def _tolerance(epsilon: float) -> float:
    """What a difference with that step can promise, with a margin for functions that bend strongly."""
    return max(1e-6, 100 * epsilon**0.8)


def _like(buffer: Any, x: Any) -> ConcreteArray:
    """A buffer as an array of the dtype of `x`; too large numbers become infinite, as they do in that dtype."""
    with numpy.errstate(all="ignore"):
        return wrap(numpy.asarray(buffer).astype(x.dtype))


def _random_like(generator: numpy.random.Generator, x: Any) -> ConcreteArray:
    """A random direction of the shape and dtype of `x`, with elements of size up to 1."""
    values = generator.uniform(-1, 1, x.shape)
    if dtypes.is_complex(x.dtype):
        values = (values + 1j * generator.uniform(-1, 1, x.shape)) / 2
    return _like(values, x)


def _pairing(cotangents: Sequence[Any], tangents: Sequence[Any]) -> float:
    """The real part of `sum(ct * t)` over all pairs."""
    return float(sum(numpy.sum(_host(c) * _host(t)).real for c, t in zip(cotangents, tangents, strict=True)))


def _pairing_scale(cotangents: Sequence[Any], tangents: Sequence[Any]) -> float:
    """How large the terms of a pairing are, and so its rounding errors."""
    return float(sum(numpy.sum(numpy.abs(_host(c) * _host(t))) for c, t in zip(cotangents, tangents, strict=True)))


class _Check:
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
            wrong = _disagreement(a, b, atol, rtol)
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
        a, b = _pairing(*left), _pairing(*right)
        scale = max(_pairing_scale(*left), _pairing_scale(*right))
        rtol = tolerance if self.rtol is None else self.rtol
        atol = tolerance if self.atol is None else self.atol
        if numpy.isfinite(a) == numpy.isfinite(b) and (not numpy.isfinite(a) or abs(a - b) <= atol + rtol * scale):
            return
        self.fail(f"{what}: {a:.10g} against {b:.10g}, a difference of {abs(a - b):.3g} at a scale of {scale:.3g}")

    def forward_derivative(self, function: Function, primals: Sequence[Array], what: str) -> None:
        """jvp against finite differences."""
        tangents = [_random_like(self.random, x) for x in primals]
        results, moved = jvp(function, primals, tangents)
        epsilon = _coarsest([*primals, *results])
        self.same(results, function(*primals), f"{what}: the result under jvp", 16 * epsilon)
        for result, tangent in zip(results, moved, strict=True):
            if tangent is not None and not dtypes.is_differentiable(result.dtype):
                self.fail(f"{what}: the tangent of a {result.dtype.name} result is not None")
        expected = _directional_difference(function, primals, tangents, _step(epsilon))
        moving = [i for i, t in enumerate(moved) if t is not None]
        self.same_types([moved[i] for i in moving], [results[i] for i in moving], f"{what}: the tangent")
        self.same(
            [_host(moved[i]) for i in moving],
            [expected[i] for i in moving],
            f"{what}: jvp against finite differences",
            _tolerance(epsilon),
        )

    def reverse_derivative(self, function: Function, primals: Sequence[Array], what: str) -> None:
        """vjp against jvp, by the dot-product test."""
        tangents = [_random_like(self.random, x) for x in primals]
        results, moved = jvp(function, primals, tangents)
        cotangents = [_random_like(self.random, x) for x in results]
        value, pull = vjp(function, *primals)
        epsilon = _coarsest([*primals, *results])
        self.same(value, results, f"{what}: the result under vjp", 16 * epsilon)
        pulled = pull(cotangents)
        self.same_types(pulled, primals, f"{what}: the gradient")
        self.same_pairing(
            (cotangents, moved), (pulled, tangents), f"{what}: <ct, J t> against <J^T ct, t>", 64 * epsilon
        )


class _PrimitiveCheck(_Check):
    """One primitive with operands; each method checks one mode."""

    def __init__(self, primitive, operands, params, others, wrt, batch_sizes, atol, rtol, seed):
        super().__init__(atol, rtol, seed)
        self.primitive, self.params, self.batch_sizes = primitive, params, batch_sizes
        structure = tree.structure(list(operands))
        self.operands = [self._strong(x) for x in as_arrays(list(operands), structure, "check_primitive")]
        self.wide = [_like(x.concrete("a check")._data, _Dtype(_wide_dtype(x.dtype))) for x in self.operands]
        self.others = [[_like(y, x) for y, x in zip(row, self.operands, strict=True)] for row in others]
        floating = [i for i, x in enumerate(self.operands) if dtypes.is_differentiable(x.dtype)]
        self.active = floating if wrt is None else [i for i in floating if i in wrt]

    @staticmethod
    def _strong(x: Array) -> Array:
        return wrap(x._data) if x.weak_type else x

    def where(self) -> str:
        operands = ", ".join(f"{x.aval!r} {_short(_host(x))}" for x in self.operands)
        params = "".join(f", {key}={value}" for key, value in self.params.items())
        return f"{self.mode} of {self.primitive.name}({operands}{params})"

    def run(self, *operands: Array) -> list[Array]:
        """The primitive as a function to a list."""
        result = self.primitive(*operands, **self.params)
        return list(result) if self.primitive.multiple_results else [result]

    def abstract_results(self, operands: Sequence[Any]) -> list[AbstractArray]:
        found = self.primitive.rule("abstract", "check_primitive")(*operands, **self.params)
        return list(found) if self.primitive.multiple_results else [found]

    def of(self, positions: Sequence[int], operands: Sequence[Array], floating: bool = True) -> Function:
        """The primitive as a function of some operands alone, the others held fixed; only floating results."""

        def function(*chosen: Array) -> list[Array]:
            merged = list(operands)
            for position, x in zip(positions, chosen, strict=True):
                merged[position] = x
            results = self.run(*merged)
            return [x for x in results if dtypes.is_differentiable(x.dtype)] if floating else results

        return function

    def choices(self, positions: Sequence[int]) -> Iterator[tuple[int, ...]]:
        """The non-empty sets of positions; of many, only the single ones and all."""
        if len(positions) <= 3:
            for count in range(1, len(positions) + 1):
                yield from itertools.combinations(positions, count)
            return
        yield from ((i,) for i in positions)
        yield tuple(positions)

    @property
    def has_derivatives(self) -> bool:
        return bool(self.active) and any(dtypes.is_differentiable(x.dtype) for x in self.abstract_results(self.wide))

    # What needs no derivative

    def abstract(self) -> None:
        results, avals = self.run(*self.operands), self.abstract_results(self.operands)
        self.same_types(results, avals, "evaluate against abstract")

    def reference(self, reference: Callable[..., Any] | None) -> None:
        if reference is None:
            return
        with numpy.errstate(all="ignore"):
            expected = reference(*(_host(x) for x in self.operands), **self.params)
        expected = list(expected) if isinstance(expected, (list, tuple)) else [expected]
        results = self.run(*self.operands)
        rounded = [
            _like(numpy.asarray(e), r) if dtypes.is_differentiable(r.dtype) else numpy.asarray(e)
            for e, r in zip(expected, results, strict=True)
        ]
        self.same(results, rounded, "evaluate against the reference", 16 * _coarsest([*self.operands, *results]))

    def precision(self) -> None:
        """Results of narrow operands are what the abstract rule says, near to those of wide ones; so are tangents."""
        wide_results = self.run(*self.wide)
        for narrow in (dtypes.float16, dtypes.bfloat16, dtypes.float32):
            operands = [self._narrowed(x, narrow) for x in self.operands]
            if not any(dtypes.is_differentiable(x.dtype) for x in self.operands):
                return
            try:
                avals = self.abstract_results(operands)
            except DtypeError:
                continue  # the primitive does not take this dtype, and says so
            results = self.run(*operands)
            self.same_types(results, avals, f"evaluate against abstract for {narrow.name} operands")
            if not all(numpy.array_equal(_host(a), _host(b)) for a, b in zip(operands, self.wide, strict=True)):
                continue  # rounding the operands may have moved them anywhere, as for a tangent near its pole
            compared = [(a, b) for a, b in zip(results, wide_results, strict=True) if dtypes.is_differentiable(a.dtype)]
            self.same(
                [_host(a) for a, _ in compared],
                [_like(b._data, a) for a, b in compared],
                f"{narrow.name} against float64",
                64 * _coarsest(operands),
            )

    @staticmethod
    def _narrowed(x: Array, narrow: numpy.dtype) -> Array:
        if dtypes.is_floating(x.dtype):
            return _like(x._data, _Dtype(narrow))
        return _like(x._data, _Dtype(dtypes.complex64)) if dtypes.is_complex(x.dtype) else x

    def program(self) -> None:
        program = make_program(self.run)(*self.operands)
        program.check()
        str(program)
        expected = self.run(*self.operands)
        self.same(program(*self.operands), expected, "Program against direct evaluation", 0.0)
        self.same_types(expected, program.outputs, "evaluate against the results that the Program states")

    def jit(self) -> None:
        expected = self.run(*self.operands)
        tolerance = 32 * _coarsest([*self.operands, *expected])
        self.same(jit(self.run)(*self.operands), expected, "jit against direct evaluation", tolerance)

    def batch(self) -> None:
        if not self.operands:
            return
        for size in self.batch_sizes:
            for mapped in self.choices(range(len(self.operands))):
                for pattern in range(3) if size > 1 else [0]:
                    self._batch_once(self.run, self.operands, mapped, size, pattern)
        self._nested_batch()

    def _axes(self, mapped: Sequence[int], pattern: int) -> list[int]:
        """Where the mapped operands have their batch axes: all first, all last, or here and there."""
        ndims = [self.operands[i].ndim for i in mapped]
        if pattern == 0:
            return [0] * len(ndims)
        if pattern == 1:
            return ndims
        return [(k + 1) % (ndim + 1) for k, ndim in enumerate(ndims)]

    def examples(self, position: int, x: Array, size: int) -> list[numpy.ndarray]:
        """Different values for one operand, none outside of its domain."""
        rows = [x._data, *(row[position]._data.astype(x.dtype) for row in self.others)]
        while len(rows) < size:
            rows.append(self.random.permuted(rows[0].reshape(-1)).reshape(x.shape))
        return rows[:size]

    def stacked(self, position: int, x: Array, size: int, axis: int) -> ConcreteArray:
        if size == 0:
            return wrap(numpy.zeros((*x.shape[:axis], 0, *x.shape[axis:]), x.dtype))
        return wrap(numpy.stack(self.examples(position, x, size), axis))

    def _batch_once(self, function, operands, mapped, size, pattern) -> None:
        axes = self._axes(mapped, pattern)
        batched = list(operands)
        for position, axis in zip(mapped, axes, strict=True):
            batched[position] = self.stacked(position, operands[position], size, axis)
        in_axes = [axes[mapped.index(i)] if i in mapped else None for i in range(len(operands))]
        what = f"vmap over in_axes={tuple(in_axes)}, batch of {size},"
        results = vmap(function, in_axes=tuple(in_axes))(*batched)
        if size == 0:
            expected = [wrap(numpy.zeros((0, *x.shape), x.dtype)) for x in function(*operands)]
            self.same(results, expected, what, 0.0)
            return
        rows = []
        for example in range(size):
            row = [
                x if axis is None else wrap(numpy.take(x._data, example, axis))
                for x, axis in zip(batched, in_axes, strict=True)
            ]
            rows.append(function(*row))
        expected = _stack_rows(rows)
        self.same(results, expected, f"{what} against a loop", 64 * _coarsest([*batched, *expected]))

    def _nested_batch(self) -> None:
        """vmap over vmap, over axes at different places, against two loops."""
        outer, inner = 2, 3
        grids = []
        for position, x in enumerate(self.operands):
            rows = numpy.stack(self.examples(position, x, inner))
            grids.append(numpy.stack([rows, rows[::-1]], axis=-1))  # inner batch first, outer batch last
        nested = vmap(vmap(self.run), in_axes=-1)(*map(wrap, grids))
        rows = [
            _stack_rows([self.run(*(wrap(numpy.array(g[i, ..., o])) for g in grids)) for i in range(inner)])
            for o in range(outer)
        ]
        expected = _stack_rows(rows)
        self.same(nested, expected, "vmap(vmap) against two loops", 64 * _coarsest([*self.operands, *expected]))

    # Derivatives

    def jvp(self) -> None:
        for chosen in self.choices(self.active):
            function = self.of(chosen, self.wide, floating=False)
            self.forward_derivative(function, [self.wide[i] for i in chosen], f"operands {chosen}")
        self._narrow_derivatives()

    def _narrow_derivatives(self) -> None:
        """Tangents and gradients have the dtypes of what they belong to, in every precision."""
        for narrow in (dtypes.float16, dtypes.bfloat16, dtypes.float32):
            operands = [self._narrowed(x, narrow) for x in self.operands]
            try:
                avals = self.abstract_results(operands)
            except DtypeError:
                continue
            if not self.active or not any(dtypes.is_differentiable(x.dtype) for x in avals):
                return
            function, primals = self.of(self.active, operands), [operands[i] for i in self.active]
            results, moved = jvp(function, primals, [_random_like(self.random, x) for x in primals])
            self.same_types(moved, results, f"tangents for {narrow.name} operands")
            pulled = vjp(function, *primals)[1]([_random_like(self.random, x) for x in results])
            self.same_types(pulled, primals, f"gradients for {narrow.name} operands")

    def linearize(self) -> None:
        if not self.has_derivatives:
            return
        for chosen in self.choices(self.active):
            function, primals = self.of(chosen, self.wide), [self.wide[i] for i in chosen]
            tangents = [_random_like(self.random, x) for x in primals]
            results, moved = jvp(function, primals, tangents)
            value, linear = linearize(function, *primals)
            what = f"linearize in operands {chosen}"
            epsilon = _coarsest([*primals, *results])
            self.same(value, results, f"{what}: the result", 16 * epsilon)
            self.same(linear(*tangents), moved, f"{what} against jvp", 64 * epsilon)

    def transpose(self, linear: Sequence[Sequence[int]]) -> None:
        if self.has_derivatives:
            for chosen in self.choices(self.active):
                function = self.of(chosen, self.wide)
                self.reverse_derivative(function, [self.wide[i] for i in chosen], f"operands {chosen}")
        for positions in linear if self.has_derivatives else ():
            present = tuple(i for i in positions if i < len(self.operands))
            if all(i in self.active for i in present):
                self._linear_in(present)

    def _linear_in(self, positions: tuple[int, ...]) -> None:
        """The transpose rule itself, for each operand alone and for all that are jointly linear."""
        for chosen in self.choices(positions):
            operands = list(self.wide)
            for i in positions:
                if i not in chosen:
                    operands[i] = wrap(numpy.zeros(operands[i].shape, operands[i].dtype))
            function = self.of(chosen, operands)
            a, b = ([_random_like(self.random, operands[i]) for i in chosen] for _ in range(2))
            left = function(*(_like(2 * x._data - y._data, x) for x, y in zip(a, b, strict=True)))
            right = [2 * _host(x) - _host(y) for x, y in zip(function(*a), function(*b), strict=True)]
            epsilon = _coarsest([*operands, *left])
            self.same([_host(x) for x in left], right, f"linear in operands {chosen}", 64 * epsilon)
            cotangents = [_random_like(self.random, x) for x in left]
            pulled = linear_transpose(function, *(AbstractArray(x.shape, x.dtype) for x in a))(cotangents)
            self.same_types(pulled, a, f"transpose in operands {chosen}")
            self.same_pairing(
                (cotangents, function(*a)),
                (pulled, a),
                f"transpose in operands {chosen}: <ct, f(x)> against <f^T(ct), x>",
                64 * epsilon,
            )
            self._rule_leaves_known_operands_alone(chosen, operands, left)

    def _rule_leaves_known_operands_alone(self, chosen, operands, results) -> None:
        mixed = [Variable(x.aval) if i in chosen else x for i, x in enumerate(operands)]
        cotangents = [_random_like(self.random, x) for x in results]
        given = cotangents if self.primitive.multiple_results else cotangents[0]
        found = self.primitive.rule("transpose", "check_primitive")(given, *mixed, **self.params)
        if len(found) != len(mixed):
            self.fail(f"the transpose rule gives {len(found)} cotangents for {len(mixed)} operands")
        for i, cotangent in enumerate(found):
            if cotangent is not None and i not in chosen:
                self.fail(f"the transpose rule gives a cotangent for operand {i}, which is known")

    def second_order(self) -> None:
        """The derivative of the gradient: against finite differences of it, and reverse over reverse."""
        if not self.has_derivatives:
            return
        for chosen in self.choices(self.active):
            function, primals = self.of(chosen, self.wide), [self.wide[i] for i in chosen]
            cotangents = [_random_like(self.random, x) for x in function(*primals)]
            gradient = _gradient_of(function, cotangents)
            self.forward_derivative(gradient, primals, f"the gradient in operands {chosen}")
            directions = [_random_like(self.random, x) for x in primals]
            _, forward = jvp(gradient, primals, directions)
            reverse = vjp(gradient, *primals)[1](directions)
            epsilon = _coarsest([*primals, *cotangents])
            self.same(reverse, forward, f"reverse over reverse in operands {chosen}", 256 * epsilon)

    def compositions(self) -> None:
        if not self.has_derivatives:
            return
        chosen = tuple(self.active)
        function, primals = self.of(chosen, self.wide), [self.wide[i] for i in chosen]
        cotangents = [_random_like(self.random, x) for x in function(*primals)]
        gradient = _gradient_of(function, cotangents)
        tangents = [_random_like(self.random, x) for x in primals]
        epsilon = 256 * _coarsest([*primals, *cotangents])

        def push(*xs: Array) -> list[Array]:
            return jvp(function, xs, tangents)[1]

        size = 3
        for mapped in self.choices(range(len(chosen))):
            batched = [self.stacked(chosen[i], x, size, 0) if i in mapped else x for i, x in enumerate(primals)]
            in_axes = tuple(0 if i in mapped else None for i in range(len(primals)))
            rows = [[wrap(x._data[e]) if i in mapped else x for i, x in enumerate(batched)] for e in range(size)]
            what = f"mapped operands {[chosen[i] for i in mapped]}"
            per_example = _stack_rows([gradient(*row) for row in rows])
            mapped_gradient = vmap(gradient, in_axes=in_axes)
            self.same(mapped_gradient(*batched), per_example, f"vmap(grad), {what}, against a loop", epsilon)
            self.same(jit(mapped_gradient)(*batched), per_example, f"jit(vmap(grad)), {what}, against a loop", epsilon)
            pushed = _stack_rows([push(*row) for row in rows])
            self.same(vmap(push, in_axes=in_axes)(*batched), pushed, f"vmap(jvp), {what}, against a loop", epsilon)
            # The gradient of a batch: of each example for mapped operands, their sum for shared ones.
            repeated = [wrap(numpy.stack([c._data] * size)) for c in cotangents]
            expected = [x if i in mapped else wrap(numpy.sum(x._data, axis=0)) for i, x in enumerate(per_example)]
            whole = _gradient_of(vmap(function, in_axes=in_axes), repeated)(*batched)
            self.same(whole, expected, f"grad(vmap), {what}, against a loop", epsilon)
        expected = gradient(*primals)
        self.same(jit(gradient)(*primals), expected, "jit(grad) against grad", epsilon)
        self.same(_gradient_of(jit(function), cotangents)(*primals), expected, "grad(jit) against grad", epsilon)
        pushed = push(*primals)
        self.same(jvp(jit(function), primals, tangents)[1], pushed, "jvp(jit) against jvp", epsilon)
        self.same(jit(push)(*primals), pushed, "jit(jvp) against jvp", epsilon)


class _Dtype:
    """Stands for anything of this dtype."""

    def __init__(self, dtype: numpy.dtype):
        self.dtype = dtype


def _stack_rows(rows: Sequence[Sequence[Array]]) -> list[ConcreteArray]:
    return [wrap(numpy.stack([x._data for x in column])) for column in zip(*rows, strict=True)]


def _gradient_of(function: Function, cotangents: Sequence[Array]) -> Function:
    """The function that pulls fixed cotangents back, and so is the gradient of `sum(ct * function(x))`."""
    return lambda *primals: list(vjp(function, *primals)[1](list(cotangents)))


# Functions


class _FunctionCheck(_Check):
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
    _check_order(check, function, [_strong(leaves[i]) for i in positions], order, modes, ())


def _strong(x: Array) -> Array:
    return wrap(x.concrete("check_grads")._data)


def _check_order(check: _FunctionCheck, function: Function, primals: list[Array], order: int, modes, path) -> None:
    for mode in modes:
        check.mode = " of ".join((mode, *path))
        tangents = [_random_like(check.random, x) for x in primals]
        results = function(*primals)
        epsilon = _coarsest([*primals, *results])
        step = _step(epsilon) if check.step is None else check.step
        expected = _directional_difference(function, primals, tangents, step)
        if mode == "fwd":
            _, moved = jvp(function, primals, tangents)
            check.same([_host(t) for t in moved], expected, "jvp against finite differences", _tolerance(epsilon))
            derivative: Function = _pushed(function, tangents)
        else:
            cotangents = [_random_like(check.random, x) for x in results]
            derivative = _gradient_of(function, cotangents)
            check.same_pairing(
                (cotangents, expected),
                (derivative(*primals), tangents),
                "<ct, J t> by finite differences against <J^T ct, t>",
                _tolerance(epsilon),
            )
        if order > 1:
            _check_order(check, derivative, primals, order - 1, modes, (mode, *path))


def _pushed(function: Function, tangents: Sequence[Array]) -> Function:
    return lambda *primals: jvp(function, primals, tangents)[1]
