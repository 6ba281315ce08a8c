"""Everything that happens to a Program on its way to native code, to be looked at.

`Stages(program)` has an attribute for each stage, in the order in which the compiler goes through them:

    simplified     the Program in fewer equations                            compiler/simplify.py
    kernels        what is computed together, as loops                       compiler/fuse.py, kernels.py, schedule.py
    memory_plan    where in memory the values between kernels live           compiler/memory.py
    llvm_ir        the kernels, and the function that calls them, for LLVM   compiler/llvm.py, entry.py
    assembly       what LLVM makes of it                                     compiler/machine.py

`dump` writes all of them into files.
"""

from __future__ import annotations

import itertools
import math
import os
import re
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from funcgrad.compiler.cost import Cost, cost_of
from funcgrad.compiler.loops import Kernel
from funcgrad.compiler.native import Segment, is_native, native, programs_of, with_native_segments
from funcgrad.compiler.schedule import Branch, Repeat, Schedule, While
from funcgrad.compiler.simplify import simplified
from funcgrad.compiler.structures import STRUCTURES
from funcgrad.errors import SourceLine
from funcgrad.program import Equation, Printer, Program, Variable


@dataclass(frozen=True)
class HostCall:
    """An equation that runs on the host, by the `evaluate` rule of its primitive, since it has no native form.

    Attributes:
        equation: the equation.
        text: the same as text.
    """

    equation: Equation
    text: str

    @property
    def name(self) -> str:
        """The name of its primitive."""
        return self.equation.primitive.name

    @property
    def source(self) -> SourceLine | None:
        """The user's line that asked for it."""
        return self.equation.source

    def __repr__(self) -> str:
        return _with_source(self.text, self.equation)


class Kernels(Sequence[Kernel]):
    """The kernels of a Program, in the order in which they run. Printed, what the whole Program does.

    Attributes:
        program: the Program, in which an equation stands for each native segment.
    """

    def __init__(self, program: Program):
        self.program = program
        self._kernels = [kernel for segment in segments_of(program) for kernel in segment.kernels]

    def __getitem__(self, place: Any) -> Any:
        return self._kernels[place]

    def __len__(self) -> int:
        return len(self._kernels)

    def __str__(self) -> str:
        return "\n".join(_lines(self.program))

    __repr__ = __str__


class MemoryPlans:
    """Where in memory the values of a Program live while it runs.

    Attributes:
        schedules: those of its native segments. Each has a `memory_plan` of its own, since the next one begins when all
            values of the one before are gone.
        arena_bytes: the size of the greatest of their arenas.
        peak_bytes: the most memory that is in use at a time: arguments, constants, results, what is handed from one
            segment to the next, and the arena of the segment that runs.
    """

    def __init__(self, program: Program):
        segments = segments_of(program)
        self.schedules = [segment.schedule for segment in segments]
        self.arena_bytes = max((x.memory_plan.size for x in self.schedules), default=0)
        self.peak_bytes = _peak_bytes(program)

    def __str__(self) -> str:
        lines = [f"at most {self.peak_bytes:,} bytes at a time, with an arena of {self.arena_bytes:,} bytes"]
        for number, schedule in enumerate(self.schedules):
            name = "" if len(self.schedules) == 1 else f"segment {number}: "
            lines += _memory_lines(schedule, name, "")
        return "\n".join(lines)

    __repr__ = __str__


class Stages:
    """The stages of a Program on the way to native code; each is made when it is first asked for.

    Attributes:
        program: the Program at the beginning.
    """

    def __init__(self, program: Program):
        self.program = program

    @property
    def simplified(self) -> Program:
        return simplified(self.program)

    @property
    def _segmented(self) -> Program:
        return with_native_segments(self.simplified)

    @property
    def kernels(self) -> Kernels:
        return Kernels(self._segmented)

    @property
    def memory_plan(self) -> MemoryPlans:
        return MemoryPlans(self._segmented)

    @property
    def llvm_ir(self) -> str:
        return _joined([segment.llvm_ir for segment in segments_of(self._segmented)], ";")

    @cached_property
    def assembly(self) -> str:
        return _joined([segment.assembly for segment in segments_of(self._segmented)], "#")

    @property
    def host_calls(self) -> list[HostCall]:
        return list(_host_calls(self._segmented))

    @property
    def cost(self) -> Cost:
        return cost_of(self.program)


def segments_of(program: Program) -> list[Segment]:
    """The native segments of a Program, those in loops and branches that run on the host too."""
    found: list[Segment] = []
    for equation in program.equations:
        if equation.primitive is native:
            found.append(equation.params["segment"])
        for inner in _programs_on_host(equation):
            found += segments_of(inner)
    return found


def _programs_on_host(equation: Equation) -> list[Program]:
    """The Programs that a loop or a branch on the host runs, each compiled by itself."""
    if equation.primitive not in STRUCTURES:
        return []
    return [with_native_segments(simplified(x)) for x in programs_of(STRUCTURES[equation.primitive](equation))]


def _host_calls(program: Program) -> Iterator[HostCall]:
    printer = Printer()
    for x in program.inputs:
        printer.name(x)
    for equation in program.equations:
        text = printer.equation(equation)
        if equation.primitive is native or is_native(
            equation
        ):  # a movement alone, which looks at memory in another way
            continue
        inside = [call for inner in _programs_on_host(equation) for call in _host_calls(inner)]
        # A loop runs on the host because of what is in it.
        yield from inside or [HostCall(equation, text)]


# Printing


def _with_source(text: str, equation: Equation) -> str:
    return text if equation.source is None else f"{text}  # {equation.source}"


def _lines(program: Program) -> list[str]:
    printer = Printer()
    lines = [f"{program.name}({', '.join(map(printer.typed, program.inputs))}) ="]
    for equation in program.equations:
        if equation.primitive is native:
            segment: Segment = equation.params["segment"]
            named = [f"in{number} is {printer.atom(x)}" for number, x in enumerate(equation.operands)]
            lines.append(f"  native code{' where ' if named else ''}{', '.join(named)}")
            lines += segment.schedule.lines("    ")
            lines += [f"    {printer.typed(x)} is out{number}" for number, x in enumerate(equation.results)]
        else:
            lines.append(_with_source(f"  on the host: {printer.equation(equation)}", equation))
            for inner in _programs_on_host(equation):
                first, *rest = _lines(inner)
                lines += [f"    where {first}", *(f"    {line}" for line in rest)]
    return [*lines, f"  return {', '.join(map(printer.atom, program.outputs))}"]


def _memory_lines(schedule: Schedule, name: str, indent: str) -> list[str]:
    life = dict(zip(schedule.offsets, schedule.memory_plan.lifetimes, strict=True))
    total = sum(x.size for x in life.values())
    lines = [f"{indent}{name}{schedule.memory_plan.size:,} bytes for {len(life)} values of {total:,} bytes"]
    for buffer, offset in schedule.offsets.items():
        x = life[buffer]
        steps = f"step {x.first}" if x.first == x.last else f"steps {x.first} to {x.last}"
        lines.append(f"{indent}  {buffer.name}: bytes {offset:,} to {offset + x.size:,}, {steps}")
    for number, step in enumerate(schedule.steps):
        inside: list[Schedule] = []
        if isinstance(step, Repeat):
            inside = [step.body]
        elif isinstance(step, While):
            inside = [step.condition, step.body]
        elif isinstance(step, Branch):
            inside = list(step.branches)
        for other in inside:
            if other.offsets:
                lines += _memory_lines(other, f"inside of step {number}: ", indent + "  ")
    return lines


def _peak_bytes(program: Program) -> int:
    last = {
        x: number for number, e in enumerate(program.equations) for x in (*e.operands, *e.results) if _is_variable(x)
    }
    last |= {x: len(program.equations) for x in (*program.inputs, *program.outputs) if _is_variable(x)}
    constants = {id(x): x for e in program.equations for x in e.operands if not _is_variable(x)}
    live: dict[Any, int] = {x: _size(x) for x in program.inputs}
    always = sum(map(_size, constants.values()))
    peak = sum(live.values()) + always
    for number, equation in enumerate(program.equations):
        live |= {x: _size(x) for x in equation.results}
        inside = 0
        if equation.primitive is native:
            segment: Segment = equation.params["segment"]
            inside = segment.schedule.memory_plan.size + sum(x.nbytes for x in segment.made.constants)
        for inner in _programs_on_host(equation):
            inside = max(inside, _peak_bytes(inner))
        peak = max(peak, always + inside + sum(live.values()))
        live = {x: size for x, size in live.items() if last[x] > number}
    return peak


def _is_variable(x: Any) -> bool:
    return type(x) is Variable


def _size(x: Any) -> int:
    return math.prod(x.shape) * x.dtype.itemsize


def _joined(texts: Sequence[str], comment: str) -> str:
    """The texts of all segments, with headings if there are several."""
    if len(texts) == 1:
        return texts[0]
    return "\n".join(f"{comment} segment {number}\n{text}" for number, text in enumerate(texts))


# Files

FILES = {
    "program.txt": lambda stages: stages.program,
    "simplified.txt": lambda stages: stages.simplified,
    "kernels.txt": lambda stages: stages.kernels,
    "memory_plan.txt": lambda stages: stages.memory_plan,
    "host_calls.txt": lambda stages: "\n".join(map(repr, stages.host_calls)),
    "cost.txt": lambda stages: stages.cost,
    "llvm_ir.ll": lambda stages: stages.llvm_ir,
    "assembly.s": lambda stages: stages.assembly,
}
"""What is written for each Program, and into which files."""

_counters: dict[str, Iterator[int]] = defaultdict(itertools.count)  # of each folder


def dump(program: Program, folder: str) -> None:
    """Write all stages of a Program into files that are named after it, with a number before, new for each Program."""
    stages = Stages(program)
    name = re.sub(r"\W+", "_", program.name) or "f"
    try:
        os.makedirs(folder, exist_ok=True)
        start = _free_start(folder, name)
        for ending, text in FILES.items():
            with open(f"{start}.{ending}", "w", encoding="utf-8") as file:
                file.write(f"{text(stages)}\n")
    except OSError as error:
        warnings.warn(f"the stages of {name} cannot be written to {folder}: {error.strerror}.", stacklevel=2)


def _free_start(folder: str, name: str) -> str:
    """The beginning of names of files that nobody else has, taken by making the first of the files."""
    for number in _counters[folder]:
        start = os.path.join(folder, f"{number:04}_{name}")
        if any(entry.startswith(f"{number:04}_") for entry in os.listdir(folder)):
            continue
        try:
            with open(f"{start}.{next(iter(FILES))}", "x"):
                return start
        except FileExistsError:
            continue
    raise AssertionError("whole numbers do not end")
