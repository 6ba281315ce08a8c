"""A random Program while it is written."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy

from funcgrad import dtypes
from funcgrad.array import AbstractArray, ConcreteArray, wrap
from funcgrad.core import Primitive
from funcgrad.primitives import elementwise as ew
from funcgrad.primitives.shapes import broadcast_in_dim
from funcgrad.program import Equation, Program, Variable
from funcgrad.testing.random_programs.choices import Choices
from funcgrad.testing.random_programs.values import LENGTHS, LONG, MOST_ELEMENTS, random_buffer, random_values

FLOATS = (dtypes.float32, dtypes.float32, dtypes.float64, dtypes.float16, dtypes.bfloat16)
COMPLEX = (dtypes.complex64, dtypes.complex128)
INEXACT = (*FLOATS, *COMPLEX)
INTEGERS = (dtypes.int32, dtypes.int32, dtypes.int8, dtypes.int16, dtypes.int64, *dtypes.UNSIGNED)
SIGNED = dtypes.SIGNED
BOOL = (dtypes.bool_,)
REALS = (*FLOATS, *INTEGERS)
NUMBERS = (*FLOATS, *COMPLEX, *INTEGERS)
ORDERED = (*REALS, *BOOL)
ANY = (*NUMBERS, *BOOL)

NEUTRAL = (0.0, 1.0, -0.0, -1.0, 2.0, 0.5)
"""Numbers for which an operation may be simpler than it looks."""


class TooLarge(Exception):
    """An operation would make an array that is larger than those of random Programs are."""


class Builder:
    """Writes equations, with operands from those that are there, or made when they are wanted.

    Attributes:
        inputs: the inputs so far. New ones are added as operands are wanted: whoever runs the Program, or the builder
            of the Program around it, has to supply them.
        atoms: what may be an operand: inputs, constants, and results.
        depth: how many Programs may still be nested in this one.
        effects: where callbacks write down that they were called.
    """

    def __init__(self, choices: Choices, depth: int, lengths: Sequence[int] | None = None, effects: Any = None):
        self.choices, self.depth = choices, depth
        if lengths is None:
            lengths = [choices.pick(LENGTHS) for _ in range(3)] + [1]
            if choices.chance(25):
                lengths.append(0)
        self.lengths = tuple(lengths)
        self.effects = effects
        self.inputs: list[Variable] = []
        self.atoms: list[Any] = []
        self.equations: list[Equation] = []
        self.focus: Any = None  # what the next operation takes if it can

    # Writing

    def record(self, primitive: Primitive, operands: Sequence[Any], params: dict[str, Any], avals: Any) -> list[Any]:
        """Write an equation whose results look like `avals`."""
        if any(math.prod(x.shape) > max(MOST_ELEMENTS, *LONG) for x in avals):
            raise TooLarge
        results = [Variable(x) for x in avals]
        self.equations.append(Equation(primitive, operands, params, results))
        self.atoms += results
        return results

    def add(self, primitive: Primitive, *operands: Any, **params: Any) -> Any:
        """Write an equation; gives its result, or a list of them where the primitive has several."""
        avals = primitive.abstract(*operands, **params)
        results = self.record(primitive, operands, params, avals if primitive.multiple_results else [avals])
        return results if primitive.multiple_results else results[0]

    def program(self, outputs: Sequence[Any], name: str = "f") -> Program:
        return Program(self.inputs, self.equations, outputs, name)

    def inner(self) -> Builder:
        """The builder of a Program that an equation of this one carries."""
        return Builder(self.choices, self.depth - 1, self.lengths, self.effects)

    # Operands

    def input(self, shape: tuple[int, ...], dtype: numpy.dtype) -> Variable:
        variable = Variable(AbstractArray(shape, dtype))
        self.inputs.append(variable)
        self.atoms.append(variable)
        return variable

    def number(self, dtype: numpy.dtype, value: float) -> ConcreteArray:
        """A constant without axes."""
        value = abs(value) if dtype.kind in "ub" else value
        return wrap(numpy.asarray(value).astype(dtype))

    def constant(self, shape: tuple[int, ...], dtype: numpy.dtype) -> ConcreteArray:
        choices = self.choices
        if choices.chance(70):
            number = self.number(dtype, choices.pick(NEUTRAL))
            return wrap(numpy.broadcast_to(number._data, shape)) if shape else number
        generator = numpy.random.default_rng(choices.integer(0, 2**32 - 1))
        style = choices.pick(("whole", "plain", "plain", "special"))
        return wrap(random_values(generator, shape, dtype, style))

    def shape(self, most: int = 3, least: int = 0) -> tuple[int, ...]:
        choices = self.choices
        if least <= 1 and choices.chance(1):
            return (choices.pick(LONG),)
        ndim = min(max(choices.integer(least - 1, most + 1), least), most)
        shape = [choices.pick(self.lengths) for _ in range(ndim)]
        while math.prod(shape) > MOST_ELEMENTS:
            shape[shape.index(max(shape))] = 2
        return tuple(shape)

    def make(self, shape: tuple[int, ...], dtype: numpy.dtype) -> Any:
        """A new operand of this type."""
        kind = self.choices.integer(0, 9)
        if kind <= 5:
            return self.input(shape, dtype)
        if kind <= 7:
            made = self.constant(shape, dtype)
            self.atoms.append(made)
            return made
        alike = [x for x in self.atoms if x.shape == shape and (x.dtype.kind != "c" or dtype.kind == "c")]
        if kind == 8 and alike:
            return self.add(ew.convert, self.recent(alike), dtype=dtype)
        small = [x for x in self.atoms if x.dtype is dtype and x.shape == ()]
        scalar = self.recent(small) if small else self.constant((), dtype)
        return self.add(broadcast_in_dim, scalar, shape=shape, axes=()) if shape else scalar

    def recent(self, atoms: Sequence[Any]) -> Any:
        """One of the atoms, a late one rather than an early one."""
        last = len(atoms) - 1
        if self.choices.chance(25):
            return atoms[last]
        return atoms[last - min(self.choices.integer(0, last), self.choices.integer(0, last))]

    def operand(
        self,
        accepted: Sequence[numpy.dtype],
        where: Callable[[Any], bool] | None = None,
        most: int = 3,
        least: int = 0,
    ) -> Any:
        """Anything with one of the accepted dtypes and from `least` to `most` axes that satisfies a condition."""
        fits = [
            x
            for x in self.atoms
            if x.dtype in accepted and least <= len(x.shape) <= max(most, 4) and (where is None or where(x))
        ]
        if any(x is self.focus for x in fits):
            return self.focus
        if fits and self.choices.chance(85):
            return self.recent(fits)
        for _ in range(5):
            made = self.make(self.shape(most, least), self.choices.pick(accepted))
            if where is None or where(made):
                return made
        raise TooLarge

    def value(self, shape: tuple[int, ...], dtype: numpy.dtype, fresh: int = 30) -> Any:
        """Something of exactly this type, in `fresh` of a hundred cases something new."""
        if math.prod(shape) > max(MOST_ELEMENTS, *LONG):
            raise TooLarge
        fits = [x for x in self.atoms if x.shape == shape and x.dtype is dtype]
        if fits and not self.choices.chance(fresh):
            return self.recent(fits)
        return self.make(shape, dtype)

    def partner(self, x: Any, dtype: numpy.dtype) -> Any:
        """Something that broadcasts with `x`."""
        choices = self.choices
        fits = [y for y in self.atoms if y.dtype is dtype and broadcasts(x.shape, y.shape)]
        if fits and choices.chance(50):
            return self.recent(fits)
        kind = choices.integer(0, 7)
        shape = x.shape
        if kind == 0:
            shape = ()
        elif kind >= 6:
            return self.constant(() if choices.chance(50) else shape, dtype)
        elif kind == 1:
            shape = shape[choices.integer(0, len(shape)) :]
        elif kind == 2:
            shape = tuple([1 if choices.chance(50) else n for n in shape])
        elif kind == 3 and len(shape) < 3 and math.prod(shape) < 500:
            shape = (choices.pick(self.lengths), *shape)
        return self.value(shape, dtype)

    def clamped(self, x: Any, low: int, high: int) -> Any:
        """`x`, a whole number, brought between two bounds."""
        lowest, highest = self.number(x.dtype, low), self.number(x.dtype, high)
        return self.add(ew.min_, self.add(ew.max_, x, lowest), highest)

    def buffer_for(self, variable: Variable) -> numpy.ndarray:
        """A value for an input."""
        return random_buffer(self.choices, variable.shape, variable.dtype)


def broadcasts(shape: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether two shapes broadcast together to one that is not much larger."""
    try:
        return math.prod(numpy.broadcast_shapes(shape, other)) <= max(MOST_ELEMENTS, math.prod(shape))
    except ValueError:
        return False
