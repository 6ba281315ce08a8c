"""`check_primitive`: every rule of a primitive, held to what it promises."""

from __future__ import annotations

import importlib
import itertools
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

import numpy

from funcgrad import dtypes
from funcgrad.array import AbstractArray, Array, ConcreteArray, as_array, wrap
from funcgrad.core import Primitive
from funcgrad.errors import ArgumentError, DtypeError, FuncgradError
from funcgrad.program import Variable
from funcgrad.testing.comparing import (
    Check,
    Function,
    coarsest,
    gradient_of,
    host,
    like,
    random_like,
    shortened,
    stack_rows,
    strong,
    wide_dtype,
)
from funcgrad.transforms.grad import linear_transpose, linearize, vjp
from funcgrad.transforms.jit import jit, make_program
from funcgrad.transforms.jvp import jvp
from funcgrad.transforms.vmap import vmap

FORWARD_MODES = ("abstract", "wrong_shapes", "reference", "precision", "batch", "program", "jit")
DERIVATIVE_MODES = ("jvp", "linearize", "transpose", "second_order", "compositions")
MODES = FORWARD_MODES + DERIVATIVE_MODES
STRICT_MODES = (*MODES, "wrong_dtypes")  # for a primitive that does not rely on callers for operands of one dtype


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
        modes: what to check, out of `STRICT_MODES`. For a primitive that has no derivative pass `FORWARD_MODES`.
        batch_sizes: how long batches are.
        atol, rtol: tolerances in place of those that follow from the dtypes; the error may be
            `atol + rtol * (largest expected element)`.
        seed: of the random directions.

    Raises:
        AssertionError: naming the mode, the primitive, the operands, and by how much two results differ.
        FuncgradError: whatever a rule raises, with a note that says the same.

    Example:
        >>> import funcgrad as fg, numpy
        >>> from funcgrad.testing import check_primitive
        >>> double = fg.Primitive(
        ...     "double",
        ...     abstract=lambda x: fg.ShapeDtypeStruct(x.shape, x.dtype),
        ...     evaluate=lambda x: x * 2,
        ...     jvp=lambda primals, tangents: (double(*primals), double(*tangents)),
        ...     transpose=lambda cotangent, x: [double(cotangent)],
        ...     batch=lambda size, operands, axes: (double(*operands), axes[0]),
        ... )
        >>> check_primitive(double, [[1.0, 2.0]], reference=lambda x: numpy.add(x, x), linear=[(0,)])
    """
    unknown = set(modes) - set(STRICT_MODES)
    if unknown:
        raise ArgumentError(
            f"check_primitive got the modes {sorted(unknown)}; choose out of {', '.join(STRICT_MODES)}."
        )
    check = _PrimitiveCheck(primitive, operands, params or {}, others, wrt, batch_sizes, atol, rtol, seed)
    for mode in STRICT_MODES:
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
        >>> from funcgrad.testing import primitives_of
        >>> "reshape" in {primitive.name for primitive in primitives_of(funcgrad.primitives).values()}
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


class _PrimitiveCheck(Check):
    """One primitive with operands; each method checks one mode."""

    def __init__(self, primitive, operands, params, others, wrt, batch_sizes, atol, rtol, seed):
        super().__init__(atol, rtol, seed)
        self.primitive, self.params, self.batch_sizes = primitive, params, batch_sizes
        self.operands = [strong(as_array(x)) for x in operands]
        self.wide = [like(x.concrete("a check")._data, wide_dtype(x.dtype)) for x in self.operands]
        self.others = [[like(y, x) for y, x in zip(row, self.operands, strict=True)] for row in others]
        floating = [i for i, x in enumerate(self.operands) if dtypes.is_differentiable(x.dtype)]
        self.active = floating if wrt is None else [i for i in floating if i in wrt]

    def where(self) -> str:
        operands = ", ".join(f"{x.aval!r} {shortened(host(x))}" for x in self.operands)
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

    def wrong_shapes(self) -> None:
        """Operands with one more axis, and with each axis one longer."""
        for position, x in enumerate(self.operands):
            host = numpy.asarray(x)
            self._agreement_on(position, like(numpy.stack([host, host]), x), "with one more axis")
            for axis, length in enumerate(x.shape):
                if length:
                    longer = numpy.take(host, numpy.arange(length + 1) % length, axis)
                    self._agreement_on(position, like(longer, x), f"one longer along axis {axis}")

    def wrong_dtypes(self) -> None:
        """Each operand alone in another dtype."""
        for position, x in enumerate(self.operands):
            host = numpy.asarray(x)
            for dtype in (dtypes.float32, dtypes.int32, dtypes.bool_, dtypes.complex64):
                if dtype is not x.dtype:
                    changed = like(host if dtype is dtypes.complex64 else numpy.real(host), dtype)
                    self._agreement_on(position, changed, f"of dtype {dtype.name}")

    def _agreement_on(self, position: int, changed: Array, what: str) -> None:
        """What `abstract` refuses, `evaluate` refuses with that error, and what it accepts is computed as it says."""
        operands = [changed if i == position else x for i, x in enumerate(self.operands)]
        what = f"with operand {position} {what}"
        try:
            expected: Any = self.abstract_results(operands)
        except FuncgradError as error:
            expected = error
        try:
            results = self.run(*operands)
        except FuncgradError as error:
            if type(error) is not type(expected):
                self.fail(f"{what} evaluate raises {error!r} where abstract gives {expected!r}")
            return
        if isinstance(expected, FuncgradError):
            self.fail(f"{what} abstract raises {expected!r} but evaluate computes a result")
        self.same_types(results, expected, f"evaluate against abstract {what}")

    def reference(self, reference: Callable[..., Any] | None) -> None:
        if reference is None:
            return
        with numpy.errstate(all="ignore"):
            expected = reference(*(host(x) for x in self.operands), **self.params)
        expected = list(expected) if isinstance(expected, (list, tuple)) else [expected]
        results = self.run(*self.operands)
        rounded = [
            like(numpy.asarray(e), r) if dtypes.is_differentiable(r.dtype) else numpy.asarray(e)
            for e, r in zip(expected, results, strict=True)
        ]
        self.same(results, rounded, "evaluate against the reference", 16 * coarsest([*self.operands, *results]))

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
            if not all(numpy.array_equal(host(a), host(b)) for a, b in zip(operands, self.wide, strict=True)):
                continue  # rounding the operands may have moved them anywhere, as for a tangent near its pole
            compared = [(a, b) for a, b in zip(results, wide_results, strict=True) if dtypes.is_differentiable(a.dtype)]
            self.same(
                [host(a) for a, _ in compared],
                [like(b._data, a) for a, b in compared],
                f"{narrow.name} against float64",
                64 * coarsest(operands),
            )

    @staticmethod
    def _narrowed(x: Array, narrow: numpy.dtype) -> Array:
        if dtypes.is_floating(x.dtype):
            return like(x._data, narrow)
        return like(x._data, dtypes.complex64) if dtypes.is_complex(x.dtype) else x

    def program(self) -> None:
        program = make_program(self.run)(*self.operands)
        program.check()
        str(program)
        expected = self.run(*self.operands)
        self.same(program(*self.operands), expected, "Program against direct evaluation", 0.0)
        self.same_types(expected, program.outputs, "evaluate against the results that the Program states")

    def jit(self) -> None:
        expected = self.run(*self.operands)
        tolerance = 32 * coarsest([*self.operands, *expected])
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
        expected = stack_rows(rows)
        self.same(results, expected, f"{what} against a loop", 64 * coarsest([*batched, *expected]))

    def _nested_batch(self) -> None:
        """vmap over vmap, over axes at different places, against two loops."""
        outer, inner = 2, 3
        grids = []
        for position, x in enumerate(self.operands):
            rows = numpy.stack(self.examples(position, x, inner))
            grids.append(numpy.stack([rows, rows[::-1]], axis=-1))  # inner batch first, outer batch last
        nested = vmap(vmap(self.run), in_axes=-1)(*map(wrap, grids))
        rows = [
            stack_rows([self.run(*(wrap(numpy.array(g[i, ..., o])) for g in grids)) for i in range(inner)])
            for o in range(outer)
        ]
        expected = stack_rows(rows)
        self.same(nested, expected, "vmap(vmap) against two loops", 64 * coarsest([*self.operands, *expected]))

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
            results, moved = jvp(function, primals, [random_like(self.random, x) for x in primals])
            self.same_types(moved, results, f"tangents for {narrow.name} operands")
            pulled = vjp(function, *primals)[1]([random_like(self.random, x) for x in results])
            self.same_types(pulled, primals, f"gradients for {narrow.name} operands")

    def linearize(self) -> None:
        if not self.has_derivatives:
            return
        for chosen in self.choices(self.active):
            function, primals = self.of(chosen, self.wide), [self.wide[i] for i in chosen]
            tangents = [random_like(self.random, x) for x in primals]
            results, moved = jvp(function, primals, tangents)
            value, linear = linearize(function, *primals)
            what = f"linearize in operands {chosen}"
            epsilon = coarsest([*primals, *results])
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
            a, b = ([random_like(self.random, operands[i]) for i in chosen] for _ in range(2))
            left = function(*(like(2 * x._data - y._data, x) for x, y in zip(a, b, strict=True)))
            right = [2 * host(x) - host(y) for x, y in zip(function(*a), function(*b), strict=True)]
            epsilon = coarsest([*operands, *left])
            self.same([host(x) for x in left], right, f"linear in operands {chosen}", 64 * epsilon)
            cotangents = [random_like(self.random, x) for x in left]
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
        cotangents = [random_like(self.random, x) for x in results]
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
            cotangents = [random_like(self.random, x) for x in function(*primals)]
            gradient = gradient_of(function, cotangents)
            self.forward_derivative(gradient, primals, f"the gradient in operands {chosen}")
            directions = [random_like(self.random, x) for x in primals]
            _, forward = jvp(gradient, primals, directions)
            reverse = vjp(gradient, *primals)[1](directions)
            epsilon = coarsest([*primals, *cotangents])
            self.same(reverse, forward, f"reverse over reverse in operands {chosen}", 256 * epsilon)

    def compositions(self) -> None:
        if not self.has_derivatives:
            return
        chosen = tuple(self.active)
        function, primals = self.of(chosen, self.wide), [self.wide[i] for i in chosen]
        cotangents = [random_like(self.random, x) for x in function(*primals)]
        gradient = gradient_of(function, cotangents)
        tangents = [random_like(self.random, x) for x in primals]
        epsilon = 256 * coarsest([*primals, *cotangents])

        def push(*xs: Array) -> list[Array]:
            return jvp(function, xs, tangents)[1]

        size = 3
        for mapped in self.choices(range(len(chosen))):
            batched = [self.stacked(chosen[i], x, size, 0) if i in mapped else x for i, x in enumerate(primals)]
            in_axes = tuple(0 if i in mapped else None for i in range(len(primals)))
            rows = [[wrap(x._data[e]) if i in mapped else x for i, x in enumerate(batched)] for e in range(size)]
            what = f"mapped operands {[chosen[i] for i in mapped]}"
            per_example = stack_rows([gradient(*row) for row in rows])
            mapped_gradient = vmap(gradient, in_axes=in_axes)
            self.same(mapped_gradient(*batched), per_example, f"vmap(grad), {what}, against a loop", epsilon)
            self.same(jit(mapped_gradient)(*batched), per_example, f"jit(vmap(grad)), {what}, against a loop", epsilon)
            pushed = stack_rows([push(*row) for row in rows])
            self.same(vmap(push, in_axes=in_axes)(*batched), pushed, f"vmap(jvp), {what}, against a loop", epsilon)
            # The gradient of a batch: of each example for mapped operands, their sum for shared ones.
            repeated = [wrap(numpy.stack([c._data] * size)) for c in cotangents]
            expected = [x if i in mapped else wrap(numpy.sum(x._data, axis=0)) for i, x in enumerate(per_example)]
            whole = gradient_of(vmap(function, in_axes=in_axes), repeated)(*batched)
            self.same(whole, expected, f"grad(vmap), {what}, against a loop", epsilon)
        expected = gradient(*primals)
        self.same(jit(gradient)(*primals), expected, "jit(grad) against grad", epsilon)
        self.same(gradient_of(jit(function), cotangents)(*primals), expected, "grad(jit) against grad", epsilon)
        pushed = push(*primals)
        self.same(jvp(jit(function), primals, tangents)[1], pushed, "jvp(jit) against jvp", epsilon)
        self.same(jit(push)(*primals), pushed, "jit(jvp) against jvp", epsilon)
