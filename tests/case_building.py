"""What cases of primitives are made of: examples, domains of values, and strategies for shapes and dtypes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import hypothesis.extra.numpy as shapes_of
import numpy
from hypothesis import strategies as st

from funcgrad import dtypes
from funcgrad.core import Primitive
from funcgrad.testing import STRICT_MODES

FLOATS = (dtypes.float32, dtypes.float64, dtypes.float16, dtypes.bfloat16)
COMPLEX = (dtypes.complex64, dtypes.complex128)
INTEGERS = (dtypes.int32, dtypes.int8, dtypes.uint8, dtypes.int64, dtypes.uint32, dtypes.int16, dtypes.uint64)
BOOL = (dtypes.bool_,)
NUMBERS = (*FLOATS, *COMPLEX, *INTEGERS)
ANY = (*NUMBERS, *BOOL)
INEXACT = (*FLOATS, *COMPLEX)
REALS = (*FLOATS, *INTEGERS)

EXAMPLES = 4  # sets of operands that one example draws: the operands, and three others to make batches of


@dataclass(frozen=True)
class Example:
    """Operands with which a primitive is called, other ones of the same shapes and dtypes, and its params."""

    operands: list[Any]
    others: list[list[Any]] = field(default_factory=list)
    params: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """How one primitive is checked. `modes` of a primitive without a derivative are `FORWARD_MODES`."""

    primitive: Primitive
    examples: st.SearchStrategy[Example]
    reference: Callable[..., Any] | None = None
    linear: tuple[tuple[int, ...], ...] = ()
    modes: tuple[str, ...] = STRICT_MODES
    wrt: tuple[int, ...] | None = None  # the operands that have derivatives; by default all floating ones
    special_values: tuple[numpy.dtype, ...] = ()  # the dtypes in which infinities, NaN and the like are tried too,
    operand_count: int = 1  # in each of so many operands


# Values. They are multiples of 1/16 near zero: exact in every floating dtype, and never closer to each other, or to the
# end of a domain, than finite differences reach.


@dataclass(frozen=True)
class Domain:
    """The real numbers from `low` to `high` without those that `keep` refuses; complex numbers with such real parts."""

    low: float = -3.0
    high: float = 3.0
    keep: Callable[[Any], Any] | None = None

    def real_values(self, dtype: numpy.dtype) -> numpy.ndarray:
        step = 1 if dtypes.is_integer(dtype) else 16
        if self.high - self.low > 10_000:
            return numpy.unique(numpy.linspace(self.low, self.high, 997).round())
        low = max(self.low, 0) if dtype.kind == "u" else self.low
        values = numpy.arange(numpy.ceil(low * step), numpy.floor(self.high * step) + 1) / step
        return values if self.keep is None else values[self.keep(values)]

    def values(self, random: numpy.random.Generator, shape: Sequence[int], dtype: numpy.dtype) -> numpy.ndarray:
        if dtypes.is_bool(dtype):
            return random.integers(0, 2, shape).astype(bool)
        real = self.real_values(dtype)
        found = random.choice(real, shape)
        if dtypes.is_complex(dtype):
            # Away from both axes, on which the branch cuts lie.
            real = numpy.where(numpy.abs(found) < 0.25, 0.25, found)
            found = real + 1j * random.choice([-1, 1], shape) * random.integers(4, 24, shape) / 16
        return numpy.asarray(found).astype(dtype)


EVERYWHERE = Domain()
NONZERO = Domain(keep=lambda x: numpy.abs(x) >= 0.125)
POSITIVE = Domain(0.25, 4.0)
WITHIN_ONE = Domain(-0.875, 0.875)
EVEN_SIXTEENTHS = Domain(keep=lambda x: x * 8 == numpy.floor(x * 8))
ODD_SIXTEENTHS = Domain(keep=lambda x: x * 8 != numpy.floor(x * 8))
SHIFT = Domain(0, 7)


class Separated(Domain):
    """Values that all differ, for what depends on their order: a shuffled range."""

    def values(self, random, shape, dtype):
        if dtypes.is_bool(dtype):
            return random.integers(0, 2, shape).astype(bool)
        size = int(numpy.prod(shape, dtype=int))
        low = 0 if dtype.kind == "u" else -(size // 2)
        found = random.permutation(numpy.arange(low, low + size)).reshape(shape)
        return (found if dtypes.is_integer(dtype) else found / 8 + self.low).astype(dtype)


class SometimesInfinite(Domain):
    """Among the values are infinities and NaN, where the dtype has them."""

    def values(self, random, shape, dtype):
        found = super().values(random, shape, dtype)
        if not dtypes.is_differentiable(dtype):
            return found
        unusual = random.choice([numpy.inf, -numpy.inf, numpy.nan], shape)
        return numpy.where(random.random(shape) < 0.5, found, unusual).astype(dtype)


SOMETIMES_INFINITE = SometimesInfinite()
SEPARATED = Separated(low=0.0)
SEPARATED_BETWEEN = Separated(low=1 / 16)  # none of these equals one of those


def between_jumps(at: float) -> Domain:
    """Numbers that are not near `at` plus a whole number."""
    return Domain(keep=lambda x: numpy.abs((x - at + 0.5) % 1 - 0.5) >= 0.125)


shapes = shapes_of.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
seeds = st.integers(0, 2**32 - 1).map(numpy.random.default_rng)


def broadcasting_shapes(count: int) -> st.SearchStrategy[tuple[tuple[int, ...], ...]]:
    """Shapes that broadcast together, many of them equal, with axes missing or of length 1 or 0 here and there."""
    mixed = shapes_of.mutually_broadcastable_shapes(num_shapes=count, min_side=0, max_dims=3, max_side=3)
    return st.one_of(mixed.map(lambda s: s.input_shapes), shapes.map(lambda shape: (shape,) * count))


def dtypes_of(accepted: Sequence[numpy.dtype]) -> st.SearchStrategy[numpy.dtype]:
    return st.sampled_from(list(accepted))


def example_of(make: Callable[[], list[Any]], params: dict[str, Any] | None = None) -> Example:
    """An example whose operands `make` gives anew at each call."""
    operands, *others = [make() for _ in range(EXAMPLES)]
    return Example(operands, others, params or {})


def of_one_operand(params_of, accepted=ANY, domain=EVERYWHERE, shapes=shapes) -> st.SearchStrategy[Example]:
    """Examples of a primitive with one operand; `params_of(draw, shape, dtype)` draws its params."""

    @st.composite
    def examples(draw):
        shape, dtype, random = draw(shapes), draw(dtypes_of(accepted)), draw(seeds)
        params = params_of(draw, shape, dtype)
        return example_of(lambda: [domain.values(random, shape, dtype)], params)

    return examples()


def some_axes(draw, shape: Sequence[int]) -> tuple[int, ...]:
    """Any set of the axes of a shape, in order."""
    return tuple(axis for axis in range(len(shape)) if draw(st.booleans()))
