"""Run a Program on buffers, one equation after the other, each by the `evaluate` rule of its primitive.

This is what `Program.__call__` does, without interpreters and without an `Array` around every value in between: the
Program becomes a flat list of steps that read and write numbered slots.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from operator import itemgetter
from typing import Any

import numpy

from funcgrad.array import ConcreteArray
from funcgrad.compiler.structures import STRUCTURES
from funcgrad.core import Primitive, evaluate_after
from funcgrad.errors import DonatedArrayError, FuncgradError
from funcgrad.program import Equation, Program, Variable

Executable = Callable[..., Sequence[Any]]

PROGRAM_OF_CALL: dict[Primitive, str] = {}
"""For primitives that do just what a Program among their parameters does: the parameter that holds it. The transforms
that define such primitives enter them here."""


def called_program(equation: Equation) -> Program | None:
    """The Program that an equation calls, where calling it is all that the equation does."""
    name = PROGRAM_OF_CALL.get(equation.primitive)
    program = None if name is None else equation.params[name]
    return program if isinstance(program, Program) else None


def executor(program: Program, compiler: str = "default") -> Executable:
    """A function from the buffers of the inputs to the buffers of the outputs.

    `compiler` is for the Programs that loops and branches run.
    """
    operands = [x for equation in program.equations for x in equation.operands]
    constants = {id(x): x._data for x in (*operands, *program.outputs) if type(x) is not Variable}
    results = [x for equation in program.equations for x in equation.results]
    slots: dict[Any, int] = {x: place for place, x in enumerate([*program.inputs, *constants, *results])}
    first_result = len(program.inputs) + len(constants)

    def slots_of(atoms: Sequence[Any]) -> list[int]:
        return [slots[x if type(x) is Variable else id(x)] for x in atoms]

    outputs = slots_of(program.outputs)
    steps: list[Any] = []
    needed = set(outputs)
    for equation in reversed(program.equations):
        reads, writes = slots_of(equation.operands), slots_of(equation.results)
        # Seen from the end, the first use of a slot is its last one: the buffer is let go right after it.
        last_used = [x for x in {*reads, *writes} - needed if x >= first_result]
        needed.update(reads)
        several = equation.primitive.multiple_results
        written = writes if several else writes[0]
        steps.append((_bound(equation, compiler), _taker(reads), written, several, last_used, equation))
    steps.reverse()
    start = [*constants.values(), *[None] * len(results)]

    def execute(*buffers: Any) -> list[Any]:
        values = [*buffers, *start]
        for evaluate, take, written, several, last_used, equation in steps:
            try:
                value = evaluate(*take(values))
            except Exception as error:
                value = _after(error, equation, take(values))
            if several:
                for place, x in zip(written, value, strict=True):
                    values[place] = _buffer(x)
            else:
                values[written] = value if type(value) is numpy.ndarray else _buffer(value)
            for place in last_used:
                values[place] = None
        return [values[place] for place in outputs]

    return execute


def _bound(equation: Equation, compiler: str) -> Callable[..., Any]:
    """The `evaluate` rule with the parameters of the equation."""
    called = called_program(equation)
    if called is not None:
        return called.derived(("executor", compiler), lambda: executor(called, compiler))
    evaluate = equation.primitive.rule("evaluate", "running it")
    if equation.primitive in STRUCTURES:
        return partial(evaluate, **equation.params, compiler=compiler)
    return partial(evaluate, **equation.params) if equation.params else evaluate


def _taker(slots: Sequence[int]) -> Callable[[list], Sequence[Any]]:
    """A function that reads these slots of a list."""
    if len(slots) > 1:
        return itemgetter(*slots)
    return itemgetter(slice(slots[0], slots[0] + 1) if slots else slice(0))  # alone, it would come without a sequence


def _buffer(value: Any) -> Any:
    return numpy.asarray(value) if isinstance(value, numpy.generic) else value


def _after(error: Exception, equation: Equation, buffers: Sequence[Any]) -> Any:
    """What to do when an equation failed: as in eager code, but the line to blame is the equation's."""
    try:
        return evaluate_after(error, equation.primitive, [*map(ConcreteArray, buffers)], equation.params)
    except FuncgradError as explained:
        # What a function inside of the equation raised names its own line; an argument is the caller's matter.
        own = not equation.primitive.carries_functions and not isinstance(explained, DonatedArrayError)
        if own and equation.source is not None:
            explained.source = equation.source
        raise
