"""What a Program means, as exactly as it means anything: it is run with small errors put in on purpose.

A compiler may add up in another order and compute a sine another way; what it gives is right if it differs from the
reference by no more than such errors make. Their effect is not known beforehand: a rounding error that is then
subtracted from its like, compared with a number or converted to an integer may change everything. So the Program is run
again, plainly, except that every result that is not exact is *wobbled*: moved at random by as much as a compiler may be
off. What differs between such runs is what the Program leaves open, and what does not differ every compiler has to
compute just so.

- Functions such as `sin` are off by a few units in the last place.
- Sums and products of many elements: their operands are moved by about one unit each, and elements are taken in another
  order, or in a wider dtype, so that also an overflow on the way that depends on the order is seen.
- What is left open altogether gets random values: the integer to which NaN converts, the sign of NaN and of a zero
  that is the maximum of zeros of both signs.
- Everything else is exact, arithmetic of two numbers included.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy

from funcgrad import dtypes
from funcgrad.control_flow.checkpoint import name_primitive
from funcgrad.control_flow.cond import cond_primitive
from funcgrad.control_flow.loops import while_primitive
from funcgrad.control_flow.scan import scan_primitive
from funcgrad.core import Primitive
from funcgrad.primitives import elementwise as ew
from funcgrad.primitives import indexing, movement, reductions, windows
from funcgrad.primitives.bessel import bessel_i0e, bessel_i1e
from funcgrad.primitives.contraction import dot_general
from funcgrad.primitives.convolution import conv_general_dilated
from funcgrad.primitives.shapes import broadcast_in_dim, reduce_sum, reshape, transpose
from funcgrad.primitives.sorting import sort
from funcgrad.program import Equation, Program, Variable, programs_in

Buffers = list[numpy.ndarray]

UNITS = 4.0
"""By how many units in the last place a function such as `sin` may be off."""

MOST_STEPS = 100
"""No while loop of a random Program takes more; one that does is not what was written down."""


class Runaway(Exception):
    """A loop did not end."""


class Meaning:
    """Runs Programs, equation by equation, by the evaluate rules. Subclasses change what an equation gives.

    Attributes:
        calls: the Programs that equations carried, with the buffers with which they were run, if that is wanted.
    """

    def __init__(self, keep_calls: bool = False):
        self.keep_calls = keep_calls
        self.calls: list[tuple[Program, Buffers]] = []

    def run(self, program: Program, buffers: Sequence[numpy.ndarray]) -> Buffers:
        values = self.values(program, buffers)
        return [values[x] if type(x) is Variable else numpy.asarray(x._data) for x in program.outputs]

    def values(self, program: Program, buffers: Sequence[numpy.ndarray]) -> dict[Variable, numpy.ndarray]:
        """The values of all variables."""
        values: dict[Any, Any] = dict(zip(program.inputs, buffers, strict=True))
        with numpy.errstate(all="ignore"):
            for equation in program.equations:
                operands = [values[x] if type(x) is Variable else x._data for x in equation.operands]
                results = self.equation(equation, operands)
                values.update(zip(equation.results, map(numpy.asarray, results), strict=True))
        return values

    def equation(self, equation: Equation, operands: Buffers) -> Sequence[Any]:
        primitive, params = equation.primitive, equation.params
        if primitive is cond_primitive:
            return self.inner(params["branches"][int(operands[0])], operands[1:])
        if primitive is while_primitive:
            return self.loop(operands, **params)
        if primitive is scan_primitive:
            return self.scan(operands, **params)
        inner = programs_in(params)
        if inner:  # whatever else carries one Program runs it
            (program,) = inner
            return self.inner(program, operands)
        return self.evaluate(equation, operands)

    def inner(self, program: Program, operands: Buffers) -> Buffers:
        if self.keep_calls:
            self.calls.append((program, operands))
        return self.run(program, operands)

    def loop(self, operands: Buffers, *, condition, body, condition_count, body_count, where) -> Buffers:
        for_condition, rest = operands[:condition_count], operands[condition_count:]
        for_body, carry = rest[:body_count], rest[body_count:]
        for _ in range(MOST_STEPS):
            if not self.inner(condition, [*for_condition, *carry])[0]:
                return carry
            carry = self.inner(body, [*for_body, *carry])
        raise Runaway

    def scan(self, operands: Buffers, *, program, length, reverse, const_count, carry_count, unroll) -> Buffers:
        constants = operands[:const_count]
        carry, inputs = operands[const_count:][:carry_count], operands[const_count + carry_count :]
        stacks = [numpy.empty((length, *x.shape), x.dtype) for x in program.outputs[carry_count:]]
        for i in range(length - 1, -1, -1) if reverse else range(length):
            results = self.inner(program, [*constants, *carry, *(x[i, ...] for x in inputs)])
            carry = results[:carry_count]
            for stack, y in zip(stacks, results[carry_count:], strict=True):
                stack[i] = y
        return [*carry, *stacks]

    def evaluate(self, equation: Equation, operands: Buffers) -> Sequence[Any]:
        result = equation.primitive.evaluate(*operands, **equation.params)
        return result if equation.primitive.multiple_results else [result]


FUNCTIONS = frozenset(
    [ew.pow_, ew.rsqrt, ew.cbrt, ew.exp, ew.exp2, ew.expm1, ew.log, ew.log2, ew.log10, ew.log1p, ew.logistic]
    + [ew.sin, ew.cos, ew.tan, ew.asin, ew.acos, ew.atan, ew.atan2, ew.sinh, ew.cosh, ew.tanh, ew.asinh, ew.acosh]
    + [ew.atanh, ew.erf, ew.erfc, ew.erf_inv, ew.lgamma, ew.digamma, ew.polygamma, bessel_i0e, bessel_i1e]
)
"""Elementwise functions that are not exact."""

WITH_ROOTS = frozenset([ew.lgamma, ew.digamma, ew.polygamma])
"""Functions that nobody computes well relative to their results near their roots."""

SPECIAL = frozenset([ew.erfc, ew.erf_inv, ew.lgamma, ew.digamma, ew.polygamma, bessel_i0e, bessel_i1e])
MORE_UNITS = 10
"""Functions for which the reference asks SciPy, and by how much more that is off."""

OF_NEIGHBOURS = frozenset([ew.erfc, ew.digamma])
"""Functions of which SciPy gives the value for a number nearby; of digamma, near a pole, that has four digits less."""

WITH_POLES = frozenset([ew.lgamma, ew.digamma, ew.polygamma])
"""Functions of which libraries say that they are infinite where they are only large."""

UNDERFLOWING = frozenset([ew.exp, ew.exp2, ew.logistic, ew.erfc, ew.pow_])
"""Functions that fall below the smallest number."""

SHORT_STEPS = frozenset([ew.integer_pow, *FUNCTIONS])
"""Functions that take several steps, which short floats may take in float32."""

COMPLEX_STEPS = frozenset([ew.mul, ew.div, ew.abs_, ew.sign, ew.integer_pow, ew.sqrt])
"""What is exact for real numbers, and has several steps for complex ones."""

SUMS = frozenset(
    [reduce_sum, reductions.cumsum, dot_general, conv_general_dilated, windows.reduce_window_sum, indexing.scatter_add]
    + [reductions.cumlogsumexp]
)
PRODUCTS = frozenset([reductions.reduce_prod, reductions.cumprod, indexing.scatter_mul])

ANY_ZERO = frozenset(
    [ew.max_, ew.min_, reductions.reduce_max, reductions.reduce_min, reductions.cummax, reductions.cummin, sort]
    + [indexing.scatter_min, indexing.scatter_max, windows.reduce_window_max, windows.reduce_window_min]
    + [*SUMS, *PRODUCTS, bessel_i1e, ew.sign, ew.pow_]
)
"""What gives a zero of either sign where both kinds come in. NumPy's power of -0.0 has the sign of a square root if the
exponent is one number, 0.5, and that which C asks for if there are several."""

MOVES = frozenset(
    [reshape, transpose, broadcast_in_dim, movement.slice_, movement.pad, movement.concatenate, movement.rev]
    + [movement.dynamic_slice, movement.dynamic_update_slice, indexing.gather, indexing.scatter_set, ew.select]
    + [ew.stop_gradient, name_primitive, ew.neg, ew.abs_]
)
"""What keeps the sign of NaN."""


def epsilon(dtype: numpy.dtype) -> float:
    """The unit in the last place of 1."""
    return 2.0**-7 if dtype is dtypes.bfloat16 else float(numpy.finfo(dtypes.real_of(dtype)).eps)


def least(dtype: numpy.dtype) -> float:
    """The smallest positive number."""
    if dtype is dtypes.bfloat16:
        return 2.0**-133
    return float(numpy.finfo(dtypes.real_of(dtype)).smallest_subnormal)


def wide(dtype: numpy.dtype) -> numpy.dtype:
    """The widest dtype of the same kind."""
    return dtypes.complex128 if dtype.kind == "c" else dtypes.float64 if dtypes.is_floating(dtype) else dtype


LONG_SUMS = frozenset([reduce_sum, reductions.cumsum, dot_general])
MANY_TERMS = 20
"""More terms than a plain loop adds up as well as one that adds pairs."""


class Wobbled(Meaning):
    """Runs Programs with errors of the size that a compiler may make.

    Arguments:
        seed: of the random errors.
        strength: how large they are, relative to what is allowed.
    """

    def __init__(self, seed: int, strength: float = 1.0):
        super().__init__()
        self.random = numpy.random.default_rng(seed)
        self.strength = strength

    def evaluate(self, equation: Equation, operands: Buffers) -> Sequence[Any]:
        primitive = equation.primitive
        avals = equation.results
        if not any(dtypes.is_differentiable(x.dtype) for x in (*equation.operands, *avals)):
            return super().evaluate(equation, operands)
        if primitive is ew.convert or primitive is ew.convert_weak:
            return [self.converted(operands[0], avals[0].dtype)]
        inexact = all(dtypes.is_differentiable(x.dtype) for x in avals) and bool(operands)
        dtype = avals[0].dtype if avals else dtypes.bool_
        if inexact and (primitive in SUMS or primitive in PRODUCTS):
            results = [self.reduced(equation, operands)]
        elif inexact and dtype.itemsize == 2 and primitive in SHORT_STEPS:
            results = [self.in_steps(equation, operands)]
        elif inexact and (primitive in FUNCTIONS or (operands[0].dtype.kind == "c" and primitive in COMPLEX_STEPS)):
            given = [self.noisy(x, 1.0) for x in operands] if primitive in OF_NEIGHBOURS else operands
            (result,) = super().evaluate(equation, given)
            units = UNITS * (MORE_UNITS if primitive in SPECIAL else 1)
            results = [self.off(equation, operands, numpy.asarray(result), units)]
        else:
            results = super().evaluate(equation, operands)
        if primitive in MOVES:
            return results
        return [self.signs(numpy.asarray(x), primitive in ANY_ZERO) for x in results]

    def off(self, equation: Equation, operands: Buffers, result: numpy.ndarray, units: float) -> numpy.ndarray:
        """The result of a function, off by so many units in the last place."""
        primitive = equation.primitive
        floor = units * self.small_floor(primitive, result.dtype)
        moved = self.noisy(result, units, floor)
        if result.dtype.kind == "c" and primitive is ew.logistic:  # near a pole, what divides 1 has lost its digits
            divisor = 1 / result
            lost = 1 / self.noisy(divisor, units, units * epsilon(result.dtype))
            return numpy.where(numpy.isfinite(divisor), lost, moved).astype(result.dtype)
        if result.dtype.kind == "c" and primitive in (ew.pow_, ew.exp2):  # an exponential of a number that is rounded
            base, size = [2.0, *(numpy.abs(x).astype(numpy.float64) for x in operands)][-2:]
            return self.noisy(result, units + size * (numpy.abs(numpy.log(numpy.maximum(base, 1e-300))) + numpy.pi))
        if result.dtype.kind == "c":
            return moved
        first = operands[-1 if primitive is ew.polygamma else 0]
        usual = numpy.broadcast_to(numpy.isfinite(first) & (first != 0), result.shape)
        if primitive in UNDERFLOWING:  # a result that is too small may be zero, or not yet
            small = (self.random.uniform(0, 1, result.shape) * floor).astype(result.dtype)
            moved = numpy.where((result == 0) & usual, numpy.copysign(small, result), moved)
        if primitive in WITH_POLES:  # where libraries give up too early
            anything = self.random.choice([numpy.inf, 1.0], result.shape).astype(result.dtype)
            moved = numpy.where(numpy.isinf(result) & usual, anything, moved)
        return moved

    def small_floor(self, primitive: Primitive, dtype: numpy.dtype) -> float:
        """How far a result may be off even where it is nearly zero."""
        if primitive in WITH_ROOTS:
            return epsilon(dtype)
        if dtype.kind == "c" and primitive in (ew.log1p, ew.expm1):  # which NumPy computes from what is near 1
            return epsilon(dtype)
        if primitive is ew.logistic:  # written as 1 / (1 + exp(-x)), whose exponential overflows
            return float(numpy.finfo(dtypes.real_of(dtype)).tiny) if dtype is not dtypes.bfloat16 else 2.0**-126
        return least(dtype)

    def noisy(self, x: numpy.ndarray, units: Any, floor: float = 0.0) -> numpy.ndarray:
        """Finite numbers moved at random, by so many units in the last place or by `floor`; zeros stay."""
        if not dtypes.is_differentiable(x.dtype):
            return x
        if x.dtype.kind == "c":
            size = numpy.abs(x.astype(numpy.complex128))  # complex64 can be longer than its largest part
            result: Any = numpy.empty(x.shape, x.dtype)
            broken = ~numpy.isfinite(x)
            for part, source in ((result.real, numpy.real(x)), (result.imag, numpy.imag(x))):
                moved = source + self.error(size, x.dtype, units, floor)
                part[...] = numpy.where(numpy.isfinite(source) & numpy.isfinite(size), moved, source)
                # Where a complex result is infinite or NaN, the formula decides in which of its parts.
                part[...] = numpy.where(broken, self.random.choice([numpy.nan, numpy.inf, 0.0], x.shape), part)
            return result
        values = x.astype(numpy.float64)
        moved = values + self.error(numpy.abs(values), x.dtype, units, floor)
        return numpy.where(numpy.isfinite(values) & (values != 0), moved, values).astype(x.dtype)

    def error(self, size: numpy.ndarray, dtype: numpy.dtype, units: Any, floor: float) -> numpy.ndarray:
        largest = numpy.maximum(size * (epsilon(dtype) * units), max(floor, least(dtype)))
        return self.random.uniform(-1, 1, size.shape) * largest * self.strength

    def in_steps(self, equation: Equation, operands: Buffers) -> numpy.ndarray:
        """A function of short floats: its steps in that dtype or in float32, and its result off by a few units."""
        dtype = equation.results[0].dtype
        units = UNITS / 2
        if self.random.random() < 0.5:
            operands = [x.astype(numpy.float32) for x in operands]
        result = equation.primitive.evaluate(*operands, **equation.params)
        return self.off(equation, operands, numpy.asarray(result).astype(dtype), units)

    def reduced(self, equation: Equation, operands: Buffers) -> numpy.ndarray:
        """Sums and products of many elements, in another order and precision."""
        primitive, params = equation.primitive, dict(equation.params)
        dtype = equation.results[0].dtype
        count = 2 if primitive in OF_TWO else 1
        moving, rest = operands[:count], operands[count:]
        short = moving[0].dtype.itemsize == 2
        moving = [x.astype(wide(x.dtype)) for x in moving]
        eps = epsilon(dtypes.float32) if short and primitive is not reduce_sum else epsilon(moving_dtype(operands[0]))
        moving = [self.moved(x, eps) for x in moving]
        by_pairs = primitive in (dot_general, conv_general_dilated) and operands[0].dtype == dtypes.bfloat16
        if by_pairs:
            moving = [self.flushed(x) for x in moving]
        if params.get("preferred_element_type") is not None:
            params["preferred_element_type"] = None
        if self.random.random() < 0.4:
            moving = self.reordered(primitive, params, moving, operands)
        result = numpy.asarray(primitive.evaluate(*moving, *rest, **params))
        result = self.flushed(result) if by_pairs else result
        bound: Any = 0.0
        if primitive in SUMS and primitive is not reductions.cumlogsumexp:
            # The sum of all sizes: where that overflows, another order may, too.
            sizes = [numpy.abs(x).astype(x.dtype) for x in moving]
            bound = numpy.abs(primitive.evaluate(*sizes, *rest, **params))
            limit = float(numpy.finfo(dtypes.real_of(dtype)).max) if dtype is not dtypes.bfloat16 else 3.3e38
            open_ = numpy.isfinite(result) & (bound > limit)
            if open_.any():
                result = numpy.where(open_, self.random.choice([numpy.nan, 0.0, numpy.inf], result.shape), result)
        if primitive in PRODUCTS:
            result = numpy.where(self.leaves_range(equation, operands), self.random.choice([numpy.nan, 0.0]), result)
        if primitive is conv_general_dilated and pads(params) and not numpy.isfinite(moving[1]).all():
            # A kernel that is infinite meets zeros that are padding, or is not multiplied with them at all.
            result = self.random.choice([numpy.nan, 0.0], result.shape)
        terms = math.prod(x.size for x in moving) / max(result.size, 1)
        if primitive is dot_general:
            terms = terms**0.5
        times = terms**0.5
        if primitive is reductions.cumsum:  # of numbers that are all alike, each is rounded the same way
            terms = result.shape[params["axis"]]
            times = terms / 4
        if primitive in LONG_SUMS and terms > MANY_TERMS:  # errors of a plain loop add up
            result = result + self.random.uniform(-1, 1, result.shape) * bound * eps * self.strength * times
        return self.noisy(result.astype(dtype), 1.0)

    def flushed(self, x: numpy.ndarray) -> numpy.ndarray:
        """Some subnormal numbers as zeros: the instructions of CPUs that multiply pairs of bfloat16 know no others."""
        small = (numpy.abs(x) < 2.0**-126) & (self.random.random(x.shape) < 0.5)
        return numpy.where(small, numpy.copysign(0.0, x), x).astype(x.dtype)

    def leaves_range(self, equation: Equation, operands: Buffers) -> numpy.ndarray:
        """Where the large factors of a product overflow or its small ones vanish, so that the order counts."""
        count = 2 if equation.primitive in OF_TWO else 1
        dtype = equation.results[0].dtype
        limits = numpy.finfo(dtypes.float32 if dtype.itemsize == 2 else dtypes.real_of(dtype))
        sizes = [numpy.abs(x.astype(wide(x.dtype))) for x in operands[:count]]
        sizes = [numpy.where(numpy.isfinite(x) & (x > 0), x, 1) for x in sizes]
        large, small = (
            equation.primitive.evaluate(*(bound(x, 1) for x in sizes), *operands[count:], **equation.params)
            for bound in (numpy.maximum, numpy.minimum)
        )
        return (large > float(limits.max)) | (small < float(limits.tiny))

    def moved(self, x: numpy.ndarray, eps: float) -> numpy.ndarray:
        """Elements of a sum or product, each a little off."""
        size = numpy.abs(x)
        error = numpy.where(numpy.isfinite(size), size, 0) * eps * self.strength
        if x.dtype.kind == "c":
            phase = self.random.uniform(-1, 1, x.shape) + 1j * self.random.uniform(-1, 1, x.shape)
            return numpy.where(numpy.isfinite(x), x + error * phase, x)
        return numpy.where(numpy.isfinite(x), x + error * self.random.uniform(-1, 1, x.shape), x)

    def reordered(self, primitive: Primitive, params: dict[str, Any], moving: Buffers, operands: Buffers) -> Buffers:
        """The elements in another order where that is the same sum, and in the dtype in which it is computed."""
        narrow = [dtypes.float32 if y.dtype.itemsize == 2 else y.dtype for y in operands]
        moving = [x.astype(dtype) for x, dtype in zip(moving, narrow, strict=False)]
        if primitive is reduce_sum or primitive is reductions.reduce_prod:
            for axis in params["axes"]:
                moving[0] = numpy.take(moving[0], self.random.permutation(moving[0].shape[axis]), axis)
        if primitive is dot_general:
            for a, b in zip(*params["dimension_numbers"][0], strict=True):
                order = self.random.permutation(moving[0].shape[a])
                moving = [numpy.take(moving[0], order, a), numpy.take(moving[1], order, b)]
        return moving

    def converted(self, x: numpy.ndarray, dtype: numpy.dtype) -> numpy.ndarray:
        """Another dtype. Which integer a number becomes that is none is left open."""
        if dtypes.is_integer(dtype) and dtypes.is_floating(dtypes.canonical(x.dtype)):
            limits = numpy.iinfo(dtype)
            whole = numpy.trunc(x.astype(numpy.float64))
            fits = (whole >= float(limits.min)) & (whole < float(limits.max) + (dtype.itemsize < 8))
            anything = self.random.integers(limits.min, limits.max, x.shape, dtype, endpoint=True)
            return numpy.where(fits, numpy.where(fits, x, 0).astype(dtype), anything)
        if x.dtype == numpy.float64 and dtype.itemsize == 2 and self.random.random() < 0.5:
            x = x.astype(numpy.float32)  # rounded twice, as some libraries do
        return self.signs(x.astype(dtype), False)

    def signs(self, x: numpy.ndarray, zeros: bool) -> numpy.ndarray:
        """A random sign for every NaN, and with `zeros` for every zero."""
        if not dtypes.is_differentiable(x.dtype):
            return x
        if x.dtype.kind == "c":
            result: Any = numpy.empty(x.shape, x.dtype)
            result.real, result.imag = self.signs(numpy.real(x), zeros), self.signs(numpy.imag(x), zeros)
            return result
        open_ = numpy.isnan(x)
        if zeros:
            open_ = open_ | (x == 0)
        if not open_.any():
            return x
        return numpy.where(open_ & (self.random.random(x.shape) < 0.5), -x, x)


OF_TWO = frozenset([dot_general, conv_general_dilated, indexing.scatter_add, indexing.scatter_mul])
"""Sums and products of two operands."""


def moving_dtype(x: numpy.ndarray) -> numpy.dtype:
    """The dtype of a buffer, as one of ours."""
    return dtypes.canonical(x.dtype)


def pads(params: dict[str, Any]) -> bool:
    """Whether a convolution sees zeros that are no elements."""
    return any(entry != (0, 0) for entry in params["padding"]) or any(d != 1 for d in params["lhs_dilation"])
