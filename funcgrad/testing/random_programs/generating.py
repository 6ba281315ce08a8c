"""Random Programs with values for their inputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy

from funcgrad.primitives import elementwise as ew
from funcgrad.primitives.contraction import dot_general
from funcgrad.primitives.reductions import reduce_max
from funcgrad.primitives.shapes import reduce_sum
from funcgrad.program import Equation, Program, programs_in
from funcgrad.testing.random_programs.builder import Builder, TooLarge
from funcgrad.testing.random_programs.choices import Choices
from funcgrad.testing.random_programs.nesting import NESTING
from funcgrad.testing.random_programs.operations import (
    ELEMENTWISE,
    MOVEMENT,
    PRODUCTS,
    REDUCTIONS,
    again,
    rows,
    twice,
    with_number,
)

USUAL = (ew.add, ew.sub, ew.mul, ew.div, ew.select, ew.max_, ew.neg, ew.exp, ew.tanh, ew.add, ew.mul)
GROUPS: tuple[tuple[int, tuple[Any, ...]], ...] = (
    (15, tuple(ELEMENTWISE[x] for x in USUAL)),
    (25, tuple(ELEMENTWISE.values())),
    (3, (rows,)),
    (20, tuple(MOVEMENT.values())),
    (5, (REDUCTIONS[reduce_sum], REDUCTIONS[reduce_max])),
    (11, tuple(REDUCTIONS.values())),
    (8, (PRODUCTS[dot_general], *PRODUCTS.values())),
    (8, (again, twice, twice, with_number, with_number)),
)
"""How often, of a hundred operations, one of each group is chosen; the rest carry Programs."""

NOT_GENERATED = {
    "psum": "a collective, which means something only inside of vmap",
    "pmax": "a collective, which means something only inside of vmap",
    "pmin": "a collective, which means something only inside of vmap",
    "all_gather": "a collective, which means something only inside of vmap",
    "ppermute": "a collective, which means something only inside of vmap",
    "axis_index": "a collective, which means something only inside of vmap",
    "axis_size": "a collective, which means something only inside of vmap",
    "custom_vjp_tangent": "is transposed, never run",
}
"""The primitives that do not occur in random Programs, and why."""


class Case:
    """A Program and buffers for its inputs.

    Attributes:
        effects: where the callbacks of the Program write down, in order, that they were called.
    """

    def __init__(self, program: Program, buffers: Sequence[numpy.ndarray], effects: list[str] | None = None):
        self.program, self.buffers = program, list(buffers)
        self.effects = [] if effects is None else effects


def random_case(choices: Choices, most: int = 20, depth: int = 2) -> Case:
    """A random Program of up to about so many equations, with Programs nested `depth` deep, and random inputs."""
    effects: list[str] = []
    builder = Builder(choices, depth, effects=effects)
    _grow(builder, choices.integer(1, most))
    if not builder.atoms:
        builder.input(builder.shape(), numpy.dtype("float32"))
    outputs = _outputs(builder)
    program = builder.program(outputs)
    return Case(program, [builder.buffer_for(x) for x in program.inputs], effects)


def _grow(builder: Builder, count: int) -> None:
    """Write some operations."""
    choices = builder.choices
    for _ in range(count):
        number = choices.integer(0, 99)
        operation = None
        for share, group in GROUPS:
            if number < share:
                operation = choices.pick(group)
                break
            number -= share
        try:
            if operation is not None:
                operation(builder)
            elif builder.depth > 0:
                choices.pick(tuple(NESTING))(builder, lambda inner: _grow(inner, choices.integer(0, 5)))
        except TooLarge:
            pass


def _outputs(builder: Builder) -> list[Any]:
    """The last results, and any other values: inputs and constants among them, and some of them twice."""
    choices = builder.choices
    percent = choices.pick((0, 10, 30, 60))
    outputs: list[Any] = [x for e in builder.equations for x in e.results if choices.chance(percent)]
    outputs += [x for e in builder.equations[-choices.integer(1, 3) :] for x in e.results]
    outputs += [builder.recent(builder.atoms) for _ in range(choices.integer(0 if outputs else 1, 2))]
    if choices.chance(10):
        outputs.append(choices.pick(builder.atoms))
    if choices.chance(5):
        outputs.append(builder.constant(builder.shape(), outputs[0].dtype))
    return outputs


def all_equations(program: Program) -> Iterator[Equation]:
    """The equations of a Program and of all that it carries."""
    for equation in program.equations:
        yield equation
        for inner in programs_in(equation.params):
            yield from all_equations(inner)


def count_primitives(program: Program) -> Counter[str]:
    """How often each primitive occurs."""
    return Counter(equation.primitive.name for equation in all_equations(program))
