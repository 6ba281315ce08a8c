"""From a Program on which compilers disagree to a small one on which they still do.

What is tried works on the Program itself and not on the decisions that made it: a part of it on its own, with the
values that the rest would have given as inputs; bodies of loops and branches without some of their equations; plainer
inputs.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy

from funcgrad.array import wrap
from funcgrad.program import Equation, Program, Variable
from funcgrad.testing.random_programs.agreement import Disagreement, disagreement
from funcgrad.testing.random_programs.generating import Case
from funcgrad.testing.random_programs.meaning import Meaning

Check = Callable[[Case], Disagreement | None]


PATIENCE = 20
"""Seconds after which a check in a process of its own is given up."""


def reduced(case: Case, check: Check | None = None, seconds: float = 20.0) -> tuple[Case, Disagreement | None]:
    """A small case that fails as this one does.

    Arguments:
        case: where `check` finds something.
        check: what is wrong with a case, or None; by default whether the default compiler agrees with the reference.
        seconds: for how long to try.

    Returns:
        The case, and what is wrong with it.
    """
    check = disagreement if check is None else check
    found = check(case)
    if found is None:
        return case, None
    end, kind = time.monotonic() + seconds, found.kind
    progress = True
    while progress:
        progress = False
        for candidates in (_bodies, _parts, _outputs, _cuts, _smaller_bodies, _plainer_inputs):
            going = True
            while going:  # with more of the same, as long as that helps
                going = False
                for smaller in candidates(case):
                    if time.monotonic() > end:
                        return case, found
                    try:
                        other = check(smaller)
                    except Exception:  # a candidate that makes no sense
                        continue
                    if other is not None and other.kind == kind:
                        case, found, progress, going = smaller, other, True, True
                        break
    return case, found


def _bodies(case: Case) -> Iterator[Case]:
    """A Program that an equation carries, with the values with which it was run first."""
    meaning = Meaning(keep_calls=True)
    try:
        meaning.values(case.program, case.buffers)
    except Exception:
        return
    seen: set[int] = set()
    for inner, buffers in meaning.calls:
        if id(inner) not in seen:
            seen.add(id(inner))
            yield Case(inner, buffers, case.effects)


def _values(case: Case) -> dict[Variable, numpy.ndarray]:
    try:
        return Meaning().values(case.program, case.buffers)
    except Exception:
        return {}


def _parts(case: Case) -> Iterator[Case]:
    """One equation; and what leads up to one."""
    program, size, values = case.program, _size(case.program), _values(case)
    if values:
        for equation in program.equations:
            yield from _smaller(case, values, [equation], equation.results, size)
    for equation in program.equations[:-1]:
        smaller = _without_unused(program.inputs, program.equations, equation.results, case)
        if _size(smaller.program) < size:
            yield smaller


def _outputs(case: Case) -> Iterator[Case]:
    """Some of the outputs, one or all but some."""
    program = case.program
    count = len(program.outputs)
    chosen = [[x] for x in program.outputs] if count > 2 else []
    step = count
    while step > 1:
        step = -(-step // 2)
        chosen += [[*program.outputs[:i], *program.outputs[i + step :]] for i in range(0, count, step)]
        if step == 1:
            break
    for outputs in chosen:
        if outputs:
            yield _without_unused(program.inputs, program.equations, outputs, case)


def _cuts(case: Case) -> Iterator[Case]:
    """Without the first equations, or without one of them, whose values become inputs."""
    program, size, values = case.program, _size(case.program), _values(case)
    if not values:
        return
    count = len(program.equations)
    for place in range(count - 1, 0, -1):
        yield from _smaller(case, values, program.equations[place:], program.outputs, size)
    for place in range(count):
        rest = [e for i, e in enumerate(program.equations) if i != place]
        yield from _smaller(case, values, rest, program.outputs, size)


def _smaller_bodies(case: Case) -> Iterator[Case]:
    for program in _with_smaller_bodies(case.program):
        yield Case(program, case.buffers, case.effects)


def _size(program: Program) -> int:
    return len(program.equations) * 100 + len(program.inputs) + len(program.outputs)


def _smaller(
    case: Case, values: dict[Variable, numpy.ndarray], equations: Sequence[Equation], outputs: Sequence[Any], size: int
) -> Iterator[Case]:
    """Some of the equations, with the values of everything else as inputs, if that is smaller."""
    defined = {x for e in equations for x in e.results}
    needed = dict.fromkeys(x for e in equations for x in e.operands if type(x) is Variable and x not in defined)
    needed |= dict.fromkeys(x for x in outputs if type(x) is Variable and x not in defined)
    smaller = Case(Program(list(needed), equations, outputs, "f"), [values[x] for x in needed], case.effects)
    smaller = _without_unused(smaller.program.inputs, equations, outputs, smaller)
    if _size(smaller.program) < size:
        yield smaller


def _without_unused(inputs: Sequence[Variable], equations: Sequence[Equation], outputs: Sequence[Any], case: Case):
    """A case without the equations and inputs that the outputs do not need."""
    wanted = {x for x in outputs if type(x) is Variable}
    kept: list[Equation] = []
    for equation in reversed(equations):
        if any(x in wanted for x in equation.results):
            wanted.update(x for x in equation.operands if type(x) is Variable)
            kept.append(equation)
    pairs = [(x, y) for x, y in zip(inputs, case.buffers, strict=True) if x in wanted]
    program = Program([x for x, _ in pairs], kept[::-1], outputs, "f")
    return Case(program, [y for _, y in pairs], case.effects)


def _with_smaller_bodies(program: Program) -> Iterator[Program]:
    """The Program with an equation less in one of the Programs that it carries."""
    for place, equation in enumerate(program.equations):
        for name, value in equation.params.items():
            several = isinstance(value, tuple)
            for number, inner in enumerate(value if several else (value,)):
                if not isinstance(inner, Program):
                    continue
                for smaller in (*_with_an_equation_less(inner), *_with_smaller_bodies(inner)):
                    new = (*value[:number], smaller, *value[number + 1 :]) if several else smaller
                    params = {**equation.params, name: new}
                    changed = Equation(equation.primitive, equation.operands, params, equation.results)
                    equations = [*program.equations[:place], changed, *program.equations[place + 1 :]]
                    yield Program(program.inputs, equations, program.outputs, program.name)


def _with_an_equation_less(program: Program) -> Iterator[Program]:
    wanted = {x for x in program.outputs if type(x) is Variable}
    wanted |= {x for e in program.equations for x in e.operands if type(x) is Variable}
    for place, equation in enumerate(program.equations):
        rest = [e for i, e in enumerate(program.equations) if i != place]
        if not any(x in wanted for x in equation.results):
            yield Program(program.inputs, rest, program.outputs, program.name)
            continue
        # What stands for a result: another value of its type, or a constant.
        known: list[Any] = [*program.inputs, *(x for e in program.equations[:place] for x in e.results)]
        stand_ins: dict[Any, Any] = {}
        for x in equation.results:
            alike = [y for y in known if y.shape == x.shape and y.dtype is x.dtype]
            stand_ins[x] = alike[-1] if alike else wrap(numpy.ones(x.shape, x.dtype))
        equations = [
            Equation(
                e.primitive,
                [stand_ins.get(x, x) if type(x) is Variable else x for x in e.operands],
                e.params,
                e.results,
            )
            for e in rest
        ]
        outputs = [stand_ins.get(x, x) if type(x) is Variable else x for x in program.outputs]
        yield Program(program.inputs, equations, outputs, program.name)


def _plainer_inputs(case: Case) -> Iterator[Case]:
    """Inputs that lie in memory row by row, without unusual values, of ones and zeros."""

    def with_input(place: int, buffer: numpy.ndarray) -> Case:
        return Case(case.program, [*case.buffers[:place], buffer, *case.buffers[place + 1 :]], case.effects)

    for place, x in enumerate(case.buffers):
        plain = x.flags.c_contiguous and x.flags.aligned
        if not plain:
            yield with_input(place, numpy.array(x, order="C"))
            continue
        zero = numpy.zeros_like(x)
        if not x.size or x.tobytes() == zero.tobytes():
            continue
        yield with_input(place, zero)
        one = numpy.ones_like(x)
        if x.tobytes() == one.tobytes():
            continue
        yield with_input(place, one)
        if x.dtype.kind not in "iub":
            with numpy.errstate(all="ignore"):
                usual = numpy.where(numpy.isfinite(x), x, one).astype(x.dtype)
                whole = numpy.round(usual.astype(numpy.complex128)).astype(x.dtype) if x.dtype.kind == "c" else None
                if whole is None:
                    whole = numpy.clip(numpy.round(usual.astype(numpy.float64)), -100, 100).astype(x.dtype)
            for simpler in (whole, usual):
                if simpler.tobytes() != x.tobytes():
                    yield with_input(place, simpler)
        if 1 < x.size <= 40:
            for at in numpy.ndindex(x.shape):
                if x[at] != 0 or numpy.signbit(numpy.real(x[at])):
                    simpler = x.copy()
                    simpler[at] = 0
                    yield with_input(place, simpler)


def in_a_process_of_its_own(check: Check) -> Check:
    """The same check, which survives that the compiled code brings its process down, or never ends."""

    def checked(case: Case) -> Disagreement | None:
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(PATIENCE)
            try:
                found = check(case)
                text = b"" if found is None else f"{found.kind}\n{found.text}".encode()
                os.write(write, text[:60000])
            finally:
                os._exit(0)
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            text = pipe.read().decode()
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM:
            return Disagreement("hung", f"after {PATIENCE} s there was no result")
        if os.WIFSIGNALED(status):
            return Disagreement("crashed", f"the process was ended by signal {os.WTERMSIG(status)}")
        if not text:
            return None
        kind, _, what = text.partition("\n")
        return Disagreement(kind, what)

    return checked
