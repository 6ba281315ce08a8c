"""The forms of control flow that the compiler knows, as data.

Primitives that loop or branch are defined above the compiler, with their transforms. Each enters a function here that
says which form an equation has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from funcgrad.core import Primitive
from funcgrad.program import Equation, Program, Variable


class Repetition(NamedTuple):
    """`program` is run `length` times.

    Its inputs are `constant_count` constants, `carry_count` values that each step hands on to the next, and slices of
    the remaining operands; its outputs are the values to hand on, and slices of the remaining results. In reverse, the
    first step takes the last slices.
    """

    program: Program
    length: int
    reverse: bool
    constant_count: int
    carry_count: int


class Condition(NamedTuple):
    """`body` is run as long as `condition` gives True. The operands are constants of the condition, constants of the
    body, and the values that are handed on."""

    condition: Program
    body: Program
    condition_count: int
    body_count: int


class Choice(NamedTuple):
    """The first operand says which of the `branches` is run on the others."""

    branches: tuple[Program, ...]


IDENTITIES: set[Primitive] = set()
"""Primitives that give their operand as it is."""

NARROWED: dict[Primitive, Callable[[Equation, set[Variable]], Equation]] = {}
"""For primitives that run Programs: a function from an equation, and the variables that somebody needs, to one that
computes no other results."""

STRUCTURES: dict[Primitive, Callable[[Equation], Repetition | Condition | Choice]] = {}
