"""Run as much of a Program as possible as native code.

The equations of a Program are divided into *segments*: runs of equations that all have a native form. A segment is
fused into kernels and becomes one native function; what stands between segments runs on the host, by the `evaluate`
rules of its primitives. What comes out is again a Program, in which one equation, `native`, stands for each segment.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy

from funcgrad.compiler.bridge import builtin_code
from funcgrad.compiler.elements import element_rule, movement_rule
from funcgrad.compiler.entry import EntryWriter
from funcgrad.compiler.epilogues import epilogue_text
from funcgrad.compiler.execute import Executable, executor
from funcgrad.compiler.expand import expanded
from funcgrad.compiler.expressions import Buffer, forget_expressions
from funcgrad.compiler.kernels import Buffers, buffer_for
from funcgrad.compiler.llvm import kernel_text
from funcgrad.compiler.locks import COMPILING
from funcgrad.compiler.loops import Kernel
from funcgrad.compiler.machine import Code, Loaded, assembly, code_key, kept
from funcgrad.compiler.module import UNNAMED, Module
from funcgrad.compiler.pool import pool_code
from funcgrad.compiler.products import supports_convolution, supports_product
from funcgrad.compiler.reductions import is_reduction
from funcgrad.compiler.schedule import Multiply, Run, Schedule
from funcgrad.compiler.simplify import simplified
from funcgrad.compiler.special import SPECIAL
from funcgrad.compiler.structures import STRUCTURES, Choice, Condition, Repetition
from funcgrad.compiler.target import host_target
from funcgrad.compiler.whole import ENTRY, Recipe, Shelf, WholeProgram, described
from funcgrad.config import config
from funcgrad.core import Primitive
from funcgrad.primitives.contraction import dot_general
from funcgrad.primitives.convolution import conv_general_dilated
from funcgrad.primitives.shapes import reshape
from funcgrad.program import Equation, Program, Variable


def is_native(equation: Equation) -> bool:
    """Whether there is a native form of an equation."""
    primitive = equation.primitive
    if is_reduction(equation) or element_rule(equation) is not None:
        return True
    parts = expanded(equation)
    if parts != [equation]:
        return all(map(is_native, parts))
    if primitive in SPECIAL:
        return SPECIAL[primitive].supports(equation)
    if primitive is dot_general:
        return supports_product(equation)
    if primitive is conv_general_dilated:
        return supports_convolution(equation)
    if primitive in STRUCTURES:
        form = STRUCTURES[primitive](equation)
        programs = programs_of(form)
        return all(map(is_all_native, programs))
    return False


def programs_of(form: Repetition | Condition | Choice) -> Sequence[Program]:
    """The Programs that a form of control flow runs."""
    if isinstance(form, Choice):
        return form.branches
    return (form.condition, form.body) if isinstance(form, Condition) else (form.program,)


def is_all_native(program: Program) -> bool:
    """Whether nothing in a Program is left to the host."""
    return all(map(is_native, simplified(program).equations))


class Segment:
    """A part of a Program as one native function.

    It is made when it is first needed. One that only runs, and that was compiled before, is found on disk, and what it
    does need not be known.

    Attributes:
        program: the part, as a Program.
        target: the CPU that it is for.
    """

    def __init__(self, program: Program):
        self.program, self.target, self._vector_bits = program, host_target(), config.vector_bits
        self._made: Made | None = None
        self._loaded: Loaded | None = None
        self._run: Callable[..., Any] | None = None

    # What is made when it is first needed is no `cached_property`: in Python 3.11, those hold a lock meanwhile, which
    # would be locked forever in a process that is forked then.

    @property
    def made(self) -> Made:
        """What it does, and its code."""
        with COMPILING, self._as_it_began():
            if self._made is None:
                self._made = self._make()
            return self._made

    def _as_it_began(self) -> AbstractContextManager[Any]:
        """With the width of vectors that was set when it began, for which the CPU is looked at in several places."""
        if config.vector_bits == self._vector_bits:
            return nullcontext()
        return config.override(vector_bits=self._vector_bits)

    def _make(self) -> Made:
        buffers = Buffers()
        inputs = [buffer_for(x, f"in{n}") for n, x in enumerate(self.program.inputs)]
        outputs = [buffer_for(x, f"out{n}") for n, x in enumerate(self.program.outputs)]
        schedule = Schedule(self.program, inputs, outputs, buffers)
        constants = [numpy.ascontiguousarray(x._data) for x in buffers.constants.values()]
        module = self._code(schedule, [*inputs, *outputs, *buffers.constants])
        forget_expressions()
        return Made(schedule, constants, module, code_key(module.text(), self.target))

    @property
    def schedule(self) -> Schedule:
        """What it does, step by step."""
        return self.made.schedule

    def _code(self, schedule: Schedule, table: Sequence[Buffer]) -> Module:
        """The kernels, equal ones once, and the function that calls them."""
        module = Module(self.target)
        symbols: dict[Any, str] = {}

        def named(text: str) -> str:
            """The name of a function with this text."""
            if text not in symbols:
                module.functions.append(text)
                symbols[text] = module.name_by_contents("kernel")
            return symbols[text]

        for step in schedule.all_steps():
            if isinstance(step, Run):
                step.symbol = named(kernel_text(module, step.kernel, UNNAMED))
            elif isinstance(step, Multiply):
                key = step.product.key
                if key not in symbols:
                    step.product.write(module, UNNAMED)
                    symbols[key] = module.name_by_contents("product")
                step.symbol = symbols[key]
                if step.epilogue is not None:
                    step.epilogue_symbol = named(epilogue_text(module, step.epilogue, UNNAMED))
        entry = EntryWriter(module, schedule, table).text()
        (module.functions if schedule.has_loops else module.glue).append(entry)
        return module

    @property
    def kernels(self) -> list[Kernel]:
        """Its kernels, in the order in which they run."""
        steps = [x.epilogue if isinstance(x, Multiply) else x for x in self.schedule.all_steps()]
        return [x.kernel if isinstance(x, Run) else x for x in steps if isinstance(x, Run | Kernel)]

    @property
    def llvm_ir(self) -> str:
        """Its code in LLVM's language, with short names."""
        return self.made.module.readable()

    @property
    def assembly(self) -> str:
        """The machine code, as text."""
        return assembly(self.llvm_ir, self.target)

    def code(self) -> Loaded:
        """Its machine code in memory."""
        with COMPILING:
            if self._loaded is None:
                code = Code(self.made.key, self.made.module.parts, [ENTRY])
                self._loaded = kept(code, along=[builtin_code(), pool_code()])
            return self._loaded

    def recipe(
        self,
        inputs: Sequence[Any],
        taken: Sequence[int] | None = None,
        shapes: Sequence[tuple[int, ...]] | None = None,
        results: Sequence[int] | None = None,
    ) -> Recipe:
        """How to run the code.

        Arguments:
            inputs: what the function takes.
            taken: which of the inputs are those of the segment, in its order; by default all of them.
            shapes: other shapes for the outputs.
            results: what the function gives: numbers of inputs, and, counting on, of outputs; by default the outputs.
        """
        outputs = self.program.outputs
        first = len(inputs)
        return Recipe(
            self.made.key,
            tuple([described(x.shape, x.dtype) for x in inputs]),
            tuple(
                described(shape, x.dtype)
                for shape, x in zip(shapes or [x.shape for x in outputs], outputs, strict=True)
            ),
            tuple(self.made.constants),
            self.schedule.memory_plan.size,
            self.schedule.nanoseconds,
            tuple(range(first) if taken is None else taken),
            tuple(range(first, first + len(outputs)) if results is None else results),
        )

    def __call__(self, *buffers: Any) -> Any:
        if self._run is None:
            with self._as_it_began():
                self._run = self._found_or_made()
        return self._run(*buffers)

    def _found_or_made(self) -> WholeProgram:
        shelf = Shelf(self.program)
        found = shelf.recipe()
        if found is None:
            found = recipe, _ = self.recipe(self.program.inputs), self.code()
            shelf.put(recipe)
        return WholeProgram(*found, self._on_the_host)

    def _on_the_host(self) -> Executable:
        return self.program.derived("executor", lambda: executor(self.program))


class Made(NamedTuple):
    """What a segment does, as data and as code in LLVM's language, and the key of its machine code."""

    schedule: Schedule
    constants: list[numpy.ndarray]
    module: Module
    key: bytes


native = Primitive("native", evaluate=lambda *buffers, segment: segment(*buffers), multiple_results=True)
"""A segment of a Program, as one equation."""


def with_native_segments(program: Program) -> Program:
    """The same Program, in which native segments stand for the equations that have a native form; made once."""
    return program.derived(("segments", config.vector_bits), lambda: _with_native_segments(program))


def _with_native_segments(program: Program) -> Program:
    runs: list[tuple[bool, list[Equation]]] = []
    for equation in program.equations:
        is_one = is_native(equation)
        if not runs or runs[-1][0] is not is_one:
            runs.append((is_one, []))
        runs[-1][1].append(equation)
    if not any(is_one for is_one, _ in runs):
        return program
    needed = {x for x in program.outputs if type(x) is Variable}
    equations: list[Equation] = []
    for is_one, run in reversed(runs):
        if is_one and (has_copy(run) or any(movement_rule(equation) is None for equation in run)):
            run = segmented(run, needed)
        needed.update(x for equation in run for x in equation.operands if type(x) is Variable)
        equations[:0] = run
    return Program(program.inputs, equations, program.outputs, program.name)


def has_copy(run: Sequence[Equation]) -> bool:
    """Whether the host would have to copy elements for one of these movements: the reshape of what is not in order."""
    moved = {x for equation in run if equation.primitive is not reshape for x in equation.results}
    reshapes = [(equation.operands[0], equation.results[0]) for equation in run if equation.primitive is reshape]
    return any(type(x) is Variable and x in moved and long_axes(x) != long_axes(result) for x, result in reshapes)


def long_axes(x: Any) -> list[int]:
    """The lengths of the axes of an array but for those that have one element."""
    return [length for length in x.shape if length != 1]


def segmented(run: Sequence[Equation], needed: set[Variable]) -> list[Equation]:
    """One native equation for these, and after it what the host does without touching an element."""
    own = {x for equation in run for x in equation.results}
    after: list[Equation] = []
    kept: list[Equation] = []
    needed = set(needed)
    for equation in reversed(run):
        (result, *_) = equation.results
        if equation.primitive is reshape and result in needed and type(equation.operands[0]) is Variable:
            after.insert(0, equation)
            needed.add(equation.operands[0])
            readers = [x for other in kept for x in other.operands]
            if result not in readers:
                continue
        kept.insert(0, equation)
    reshaped = {x.results[0] for x in after}
    outputs = [x for equation in kept for x in equation.results if x in needed and x not in reshaped]
    inputs = list(dict.fromkeys(x for e in kept for x in e.operands if type(x) is Variable and x not in own))
    if not outputs:
        return list(run)
    segment = Segment(Program(inputs, kept, outputs, "segment"))
    return [Equation(native, inputs, {"segment": segment}, outputs), *after]
