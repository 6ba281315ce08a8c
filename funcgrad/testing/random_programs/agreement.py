"""Whether two compilers agree on a Program, as far as the Program says what its results are: see `meaning`."""

from __future__ import annotations

from typing import Any

import numpy

from funcgrad import dtypes
from funcgrad.compiler import compile_program
from funcgrad.config import config
from funcgrad.testing.comparing import shortened
from funcgrad.testing.random_programs.generating import Case
from funcgrad.testing.random_programs.meaning import Buffers, Meaning, Runaway, Wobbled, epsilon

FEW, MANY = 3, 80
"""How often a Program is wobbled at first, and once something seems to be wrong."""

MARGIN = 3.0
"""How much further than wobbled results a result may be off, since those only sample what may happen."""

TOO_OPEN = 0.05
"""Where wobbled results are apart by this part of themselves, or more, nothing is compared."""


class Disagreement(Exception):
    """Two compilers give different results; says which."""

    def __init__(self, kind: str, text: str, output: int | None = None):
        super().__init__(text)
        self.kind, self.text, self.output = kind, text, output


class Tally:
    """How much has been compared.

    Attributes:
        elements: the number of elements of results.
        compared: how many of them were compared.
        exactly: how many of these were compared bit by bit.
        telling: how many of the compared ones are finite and not zero.
    """

    def __init__(self):
        self.programs = self.elements = self.compared = self.exactly = self.telling = 0

    def add(self, other: Tally) -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


def same_bits(x: numpy.ndarray, y: numpy.ndarray) -> bool:
    """Whether all bits are the same."""
    return x.shape == y.shape and x.dtype == y.dtype and x.tobytes() == y.tobytes()


def check_agreement(
    case: Case, compiler: str = "default", reference: str = "reference", tally: Tally | None = None
) -> None:
    """Run a Program by two compilers and compare what they give.

    Arguments:
        case: the Program and its inputs.
        compiler, reference: names of compilers, of `funcgrad.compiler.COMPILERS`.
        tally: is told how much was compared, which takes longer.

    Raises:
        Disagreement: if they do not agree, or if the compiler fails, changes its inputs, gives other results when it is
            run once more, on one thread, or calls callbacks in another order.
    """
    program = case.program
    expected, expected_effects = _run(case, reference, "the reference")
    plain = Meaning().run(program, [x.copy() for x in case.buffers])
    given = [x.copy() for x in case.buffers]
    found, effects = _run(case, compiler, compiler)
    for i, (before, after) in enumerate(zip(given, case.buffers, strict=True)):
        if not same_bits(before, after):
            raise Disagreement("input changed", f"{compiler} changed the input {i}")
    judge = Judge(case)
    judge.check(expected, reference, "evaluation of one equation after the other", plain)
    judge.check(found, compiler, reference, expected)
    with config.override(threads=1):
        again, _ = _run(case, compiler, compiler)
    for i, (x, y) in enumerate(zip(found, again, strict=True)):
        if not same_bits(x, y):
            raise Disagreement(
                "not repeatable", f"{compiler} gives another output {i} when it runs once more, on one thread", i
            )
    if effects != expected_effects and judge.effects_are_certain(expected_effects):
        raise Disagreement("effects", f"{compiler} called {effects} where {reference} called {expected_effects}")
    if tally is not None:
        judge.count(expected, tally)


def _run(case: Case, compiler: str, who: str) -> tuple[Buffers, list[str]]:
    """The results, kept from what may happen to buffers later, and the callbacks that were called."""
    case.effects.clear()
    program = case.program
    try:
        with numpy.errstate(all="ignore"):
            results = compile_program(program, compiler)(*case.buffers)
    except Exception as error:
        raise Disagreement("raised", f"{who} raised {type(error).__name__}: {error}") from error
    if len(results) != len(program.outputs):
        raise Disagreement("count", f"{who} gives {len(results)} results where there are {len(program.outputs)}")
    for i, (x, aval) in enumerate(zip(results, program.out_avals, strict=True)):
        if not isinstance(x, numpy.ndarray) or x.shape != aval.shape or x.dtype is not aval.dtype:
            what = f"{x.dtype}{list(x.shape)}" if isinstance(x, numpy.ndarray) else type(x).__name__
            raise Disagreement("type", f"{who} gives {what} for the output {i}, which is {aval!r}", i)
    return [x.copy() for x in results], list(case.effects)


class Judge:
    """Compares results of a Program, with as many wobbled runs as that takes."""

    def __init__(self, case: Case):
        self.case = case
        self.wobbled: list[Buffers] = []
        self.effects: list[list[str]] = []

    def wobble(self, count: int) -> None:
        """Have at least so many wobbled runs."""
        while len(self.wobbled) < count:
            self.case.effects.clear()
            number = len(self.wobbled)
            strength = 1.0 if number < FEW else (1.0, 0.25, 2.0, 1.0)[number % 4]
            runner = Wobbled(number, strength)
            try:
                self.wobbled.append(runner.run(self.case.program, self.case.buffers))
            except Runaway:
                raise Disagreement("runaway", "a loop of the Program does not end") from None
            self.effects.append(list(self.case.effects))

    def effects_are_certain(self, expected: list[str]) -> bool:
        self.wobble(MANY)
        return all(x == expected for x in self.effects)

    def check(self, found: Buffers, who: str, whom: str, expected: Buffers) -> None:
        """Raise Disagreement unless results are as expected."""
        if all(map(same_bits, found, expected)):
            return
        for count in (FEW, MANY):
            self.wobble(count)
            wrong = [self.wrong(i, x, y) for i, (x, y) in enumerate(zip(found, expected, strict=True))]
            if not any(x.any() for x in wrong):
                return
        for i, (bad, x, y) in enumerate(zip(wrong, found, expected, strict=True)):
            if bad.any():
                place = tuple(int(k) for k in numpy.argwhere(bad)[0])
                others = [run[i][place] for run in self.wobbled[:4]]
                raise Disagreement(
                    "result",
                    f"output {i} of {who}, {x.dtype.name}{list(x.shape)}: {int(bad.sum())} of {x.size} elements are "
                    f"wrong, first at {place}: {x[place]!r} where {whom} gives {y[place]!r} (and with rounding errors "
                    f"{', '.join(map(repr, others))}).\n    {who}: {shortened(x)}\n    {whom}: {shortened(y)}",
                    i,
                )

    def wrong(self, output: int, found: numpy.ndarray, expected: numpy.ndarray) -> numpy.ndarray:
        """Where a result is wrong."""
        exact, allowed = self.allowed(output, expected)
        if expected.dtype.kind == "c":
            return self._wrong_part(numpy.real(found), numpy.real(expected), exact, allowed) | self._wrong_part(
                numpy.imag(found), numpy.imag(expected), exact, allowed
            )
        return self._wrong_part(found, expected, exact, allowed)

    def _wrong_part(self, found: Any, expected: Any, exact: numpy.ndarray, allowed: numpy.ndarray) -> numpy.ndarray:
        same = found == expected
        if not dtypes.is_differentiable(dtypes.canonical(found.dtype)):
            return exact & ~same
        nan = numpy.isnan(expected)
        same = numpy.where(nan, numpy.isnan(found), same & (numpy.signbit(found) == numpy.signbit(expected)))
        with numpy.errstate(all="ignore"):
            away = numpy.abs(numpy.asarray(found, numpy.float64) - numpy.asarray(expected, numpy.float64))
            near = numpy.where(numpy.isfinite(away), away, numpy.inf) <= allowed
        open_ = numpy.isinf(allowed)
        return ~(same | open_ | (~exact & near & ~nan))

    def allowed(self, output: int, expected: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
        """Where a result is exact; and how far it may be off elsewhere, infinite where nothing can be said."""
        runs = [run[output] for run in self.wobbled]
        if not dtypes.is_differentiable(dtypes.canonical(expected.dtype)):
            exact = numpy.ones(expected.shape, bool)
            for run in runs:
                exact &= run == expected
            return exact, numpy.where(exact, 0.0, numpy.inf)
        parts: Any = [numpy.real, numpy.imag] if expected.dtype.kind == "c" else [numpy.asarray]
        exact = numpy.ones(expected.shape, bool)
        allowed = numpy.zeros(expected.shape)
        size = numpy.abs(expected.astype(numpy.complex128 if expected.dtype.kind == "c" else numpy.float64))
        with numpy.errstate(all="ignore"):
            for part in parts:
                mine = numpy.asarray(part(expected))
                nan, sign = numpy.isnan(mine), numpy.signbit(mine)
                value = mine.astype(numpy.float64)
                for run in runs:
                    other = numpy.asarray(part(run))
                    as_other = numpy.where(nan, numpy.isnan(other), (mine == other) & (sign == numpy.signbit(other)))
                    exact &= as_other
                    away = numpy.abs(other.astype(numpy.float64) - value)
                    # A zero whose sign is open may have either; a number that is not always finite may be anything.
                    away = numpy.where(as_other, 0.0, numpy.where(numpy.isfinite(away), away, numpy.inf))
                    allowed = numpy.maximum(allowed, away)
            spread = allowed
            allowed = MARGIN * spread + epsilon(dtypes.canonical(expected.dtype)) * size
            too_open = ~exact & ~(numpy.isfinite(spread) & (spread <= TOO_OPEN * size))
        return exact, numpy.where(too_open, numpy.inf, numpy.where(exact, 0.0, allowed))

    def count(self, expected: Buffers, tally: Tally) -> None:
        """Tell how much of the results is compared."""
        self.wobble(FEW)
        tally.programs += 1
        for i, x in enumerate(expected):
            exact, allowed = self.allowed(i, x)
            compared = numpy.isfinite(allowed)
            tally.elements += x.size
            tally.compared += int(compared.sum())
            tally.exactly += int(exact.sum())
            tally.telling += int((compared & numpy.isfinite(x) & (x != 0)).sum())


def disagreement(case: Case, compiler: str = "default", reference: str = "reference") -> Disagreement | None:
    """What `check_agreement` raises, or None."""
    try:
        check_agreement(case, compiler, reference)
    except Disagreement as found:
        return found
    return None
