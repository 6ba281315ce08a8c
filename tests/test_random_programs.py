"""Random Programs give what the reference gives, whatever compiler runs them.

Hypothesis draws a few hundred of them here. Many more, and other ones:

    python -m tests.test_random_programs --programs 20000 --seed 1 --jobs 2
    python -m tests.test_random_programs --seed 1 --only 4711       # one of them once more, made small
    python -m tests.test_random_programs --programs 2000 --coverage # how often each primitive occurs
    python -m tests.test_random_programs --mutants                  # how soon wrong compilers are found out
    python -m tests.test_random_programs --threads 3                # small arrays are divided among threads, too
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from typing import Any

import numpy
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from funcgrad import dtypes
from funcgrad.array import AbstractArray
from funcgrad.compiler import COMPILERS, kernels, running, schedule, simplify
from funcgrad.compiler.contraction import plan
from funcgrad.compiler.execute import executor
from funcgrad.compiler.simplify import RULES
from funcgrad.config import config
from funcgrad.control_flow.cond import cond_primitive
from funcgrad.control_flow.scan import scan_primitive
from funcgrad.core import Primitive
from funcgrad.primitives import elementwise as ew
from funcgrad.primitives import indexing, reductions
from funcgrad.primitives.contraction import dot_general
from funcgrad.primitives.shapes import reduce_sum, transpose
from funcgrad.primitives.sorting import sort
from funcgrad.program import Equation, Program, Variable
from funcgrad.testing.random_programs import (
    NOT_GENERATED,
    Case,
    RandomChoices,
    Tally,
    all_primitives,
    as_source,
    check_agreement,
    count_primitives,
    disagreement,
    in_a_process_of_its_own,
    random_case,
    reduced,
    report,
)
from funcgrad.testing.random_programs.agreement import Judge

EXAMPLES = 250


# Hypothesis makes the decisions


@lru_cache(maxsize=1024)
def between(low: int, high: int) -> st.SearchStrategy[int]:
    return st.integers(low, high)


class Drawn:
    """Decisions that hypothesis makes."""

    def __init__(self, draw: Callable[[st.SearchStrategy], Any]):
        self.draw = draw

    def integer(self, low, high):
        return self.draw(between(low, high))

    def pick(self, options):
        return options[self.draw(between(0, len(options) - 1))]

    def chance(self, percent):
        return self.draw(between(0, 99)) < percent


@st.composite
def cases(draw):
    return random_case(Drawn(draw))


# What fails is made small by `reduced`, which knows what a Program is; hypothesis does not.
@settings(
    max_examples=EXAMPLES,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
@given(cases())
def test_random_programs_give_what_the_reference_gives(case):
    if disagreement(case) is not None:
        small, found = reduced(case)
        assert found is not None
        raise AssertionError(report(small, found))


# Arrays of random Programs are small. Divided as finely as can be, even their loops are something for several threads.


@contextmanager
def divided_among(threads: int) -> Iterator[None]:
    """So many threads, of which each takes as little as possible at a time."""
    finest = [(schedule, "ELEMENTS_A_CHUNK", 1), (plan, "CHUNK", 1), (kernels, "PART", 2), (running, "PART", 2)]
    before = [getattr(module, name) for module, name, _ in finest]
    try:
        for module, name, value in finest:
            setattr(module, name, value)
        with config.override(threads=threads, cache_folder=None):  # the cache does not know about this
            yield
    finally:
        for (module, name, _), value in zip(finest, before, strict=True):
            setattr(module, name, value)


@pytest.mark.native
def test_random_programs_give_the_same_bits_on_one_thread_and_on_several():
    with divided_among(3):
        for seed in range(60):
            check_agreement(random_case(RandomChoices(seed)))


# The test itself


def test_every_primitive_occurs_in_random_programs_or_is_listed_with_a_reason():
    counts = coverage(range(1500))
    assert set(all_primitives()) - set(counts) == set(NOT_GENERATED)
    assert not set(NOT_GENERATED) & set(counts)


def coverage(seeds: Sequence[int]) -> Counter[str]:
    """How often each primitive occurs."""
    return sum((count_primitives(random_case(RandomChoices(seed)).program) for seed in seeds), Counter())


def test_programs_are_well_typed_and_the_same_for_the_same_seed():
    for seed in range(200):
        case, again = (random_case(RandomChoices(seed)) for _ in range(2))
        case.program.check()
        assert str(case.program) == str(again.program)
        assert [x.tobytes() for x in case.buffers] == [x.tobytes() for x in again.buffers]


def test_nearly_all_elements_are_compared():
    tally = Tally()
    for seed in range(100):
        check_agreement(random_case(RandomChoices(seed)), tally=tally)
    assert tally.compared > 0.9 * tally.elements
    assert tally.telling > 0.3 * tally.elements


# Compilers that are wrong in one way each


def replacing(primitive: Primitive, evaluate: Callable[..., Any]) -> Callable[[Program], Any]:
    """A compiler for which a primitive is another one, also in the Programs that equations carry."""
    wrong = Primitive(primitive.name, abstract=primitive.abstract, evaluate=evaluate)
    wrong.multiple_results, wrong.keeps_weak_type = primitive.multiple_results, primitive.keeps_weak_type

    def inside(value: Any) -> Any:
        if isinstance(value, Program):
            return changed(value)
        return tuple(map(inside, value)) if type(value) is tuple else value

    def changed(program: Program) -> Program:
        equations = [
            Equation(
                wrong if e.primitive is primitive else e.primitive,
                e.operands,
                {name: inside(value) for name, value in e.params.items()},
                e.results,
            )
            for e in program.equations
        ]
        return Program(program.inputs, equations, program.outputs, program.name)

    return lambda program: executor(changed(program))


def with_rule(primitive: Primitive, rule: Callable[..., Any]) -> Callable[[Program], Any]:
    """A compiler whose `simplify` has a wrong rule."""

    def compiled(program: Program) -> Any:
        before = RULES.get(primitive, ())
        RULES[primitive] = (rule, *before)
        try:
            return executor(simplify(program))
        finally:
            RULES[primitive] = before

    return compiled


def nudged(evaluate: Callable[..., Any], size: float, least: int = 1) -> Callable[..., Any]:
    """A function that is off by a part of its results, in arrays of at least so many elements."""

    def wrong(*operands, **params):
        result = numpy.asarray(evaluate(*operands, **params))
        return (result * (1 + size)).astype(result.dtype) if result.size >= least else result

    return wrong


def is_number(x: Any, number: float) -> bool:
    return type(x) is not Variable and x.size > 0 and bool((numpy.asarray(x._data) == number).all())


def zero_plus(equation, simplifier):
    """x + 0 is x, also for -0.0."""
    for x, y in (equation.operands, equation.operands[::-1]):
        if is_number(y, 0) and x.shape == equation.results[0].shape:
            return x
    return None


def times_zero(equation, simplifier):
    """x * 0 is 0, also for NaN and -1."""
    y = equation.operands[1]
    return y if is_number(y, 0) and y.shape == equation.results[0].shape else None


def composed_the_other_way_round(equation, simplifier):
    inner = simplifier.producer(equation.operands[0], transpose)
    if inner is None:
        return None
    first, second = inner.params["permutation"], equation.params["permutation"]
    return Equation(transpose, inner.operands, {"permutation": tuple(second[axis] for axis in first)}, ())


def last_of_several(x, updates, *indices, axes, mode):
    return indexing.scatter_set.evaluate(x[...], updates[::-1], *(i[::-1] for i in indices), axes=axes, mode=mode)


def ignoring_nan(x, *, axes):
    return numpy.fmax.reduce(x, axis=axes) if x.dtype.kind == "f" else reductions.reduce_max.evaluate(x, axes=axes)


def last_place(x, *, axis, index_dtype):
    return (x.shape[axis] - 1 - numpy.flip(x, axis).argmax(axis)).astype(index_dtype)


def without_reverse(program_of: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *operands, reverse, **params: program_of(*operands, reverse=False, **params)


def first_branch(index, *operands, branches):
    return cond_primitive.evaluate(numpy.minimum(index, 1), *operands, branches=branches)


def forgetting_the_tail(x):
    result = numpy.tanh(x)
    if result.ndim and result.shape[-1] % 8 and result.shape[-1] > 8:
        result[..., -1] = 0
    return result


def unstable(*operands, axis, num_keys):
    """Equal keys in the other order."""
    flipped = [numpy.flip(x, axis) for x in operands]
    return sort.evaluate(*flipped, axis=axis, num_keys=num_keys)


MUTANTS: dict[str, Callable[[Program], Any]] = {
    "x + 0 is x": with_rule(ew.add, zero_plus),
    "x * 0 is 0": with_rule(ew.mul, times_zero),
    "transposes composed the other way round": with_rule(transpose, composed_the_other_way_round),
    "tanh off by 2e-5": replacing(ew.tanh, nudged(numpy.tanh, 2e-5)),
    "exp off by 2e-5 in arrays": replacing(ew.exp, nudged(numpy.exp, 2e-5, 9)),
    "sums off by 1e-4": replacing(reduce_sum, nudged(reduce_sum.evaluate, 1e-4)),
    "products off by 1e-3": replacing(dot_general, nudged(dot_general.evaluate, 1e-3)),
    "the last elements of tanh forgotten": replacing(ew.tanh, forgetting_the_tail),
    "reduce_max ignores NaN": replacing(reductions.reduce_max, ignoring_nan),
    "argmax takes the last of equals": replacing(reductions.argmax, last_place),
    "cumsum never goes backwards": replacing(reductions.cumsum, without_reverse(reductions.cumsum.evaluate)),
    "scan never goes backwards": replacing(scan_primitive, without_reverse(scan_primitive.evaluate)),
    "the third branch is the second": replacing(cond_primitive, first_branch),
    "scatter_set takes the first of several": replacing(indexing.scatter_set, last_of_several),
    "sort is not stable": replacing(sort, unstable),
    "whole numbers are divided downwards": replacing(
        ew.div, lambda x, y: numpy.floor_divide(x, y) if x.dtype.kind in "iu" else numpy.divide(x, y)
    ),
    "round goes away from zero": replacing(
        ew.round_, lambda x: (numpy.trunc(x + numpy.copysign(x.dtype.type(0.5), x))).astype(x.dtype)
    ),
    "float16 is rounded towards zero": replacing(
        ew.mul, lambda x, y: towards_zero(x, y) if x.dtype == numpy.float16 else numpy.multiply(x, y)
    ),
}


def towards_zero(x, y):
    exact = x.astype(numpy.float32) * y.astype(numpy.float32)
    nearest = exact.astype(numpy.float16)
    return numpy.where(numpy.abs(nearest) > numpy.abs(exact), numpy.nextafter(nearest, numpy.float16(0)), nearest)


def programs_until_found(mutant: str, most: int = 4000) -> int | None:
    """How many random Programs it takes to find out that a compiler is wrong."""
    COMPILERS["wrong"] = MUTANTS[mutant]
    try:
        for seed in range(most):
            if disagreement(random_case(RandomChoices(seed)), "wrong") is not None:
                return seed + 1
        return None
    finally:
        del COMPILERS["wrong"]


@pytest.mark.parametrize(
    "mutant", ["transposes composed the other way round", "tanh off by 2e-5", "the last elements of tanh forgotten"]
)
def test_wrong_compilers_are_found_out(mutant):
    assert programs_until_found(mutant, 1000) is not None


def test_what_fails_is_made_small_and_can_be_run_again(monkeypatch):
    monkeypatch.setitem(COMPILERS, "wrong", MUTANTS["sums off by 1e-4"])
    check = lambda case: disagreement(case, "wrong")
    seed = next(seed for seed in range(1000) if check(random_case(RandomChoices(seed))) is not None)
    small, found = reduced(random_case(RandomChoices(seed)), check)
    assert [e.primitive.name for e in small.program.equations] == ["reduce_sum"]
    assert found is not None
    assert found.kind == "result"
    assert "reduce_sum(a" in report(small, found, "wrong")
    with pytest.raises(type(found), match="output 0 of wrong"):
        exec(as_source(small, "wrong"), {})


def test_any_case_can_be_written_as_python():
    for seed in range(60):
        case = random_case(RandomChoices(seed))
        names: dict[str, Any] = {}
        exec(as_source(case), names)
        assert str(names["case"].program) == str(case.program)
        for x, y in zip(names["case"].buffers, case.buffers, strict=True):
            numpy.testing.assert_array_equal(x, y)
            assert x.dtype is dtypes.canonical(y.dtype)


def judged(primitive: Primitive, *buffers: numpy.ndarray, **params: Any) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Where the result of a primitive is exact, and how far it may be off elsewhere."""
    inputs = [Variable(AbstractArray(x.shape, dtypes.canonical(x.dtype))) for x in buffers]
    aval = primitive.abstract(*inputs, **params)
    result = Variable(aval)
    program = Program(inputs, [Equation(primitive, inputs, params, [result])], [result])
    judge = Judge(Case(program, buffers))
    judge.wobble(40)
    with numpy.errstate(all="ignore"):
        return judge.allowed(0, numpy.asarray(primitive.evaluate(*buffers, **params)))


def test_what_is_left_open_is_not_compared_and_everything_else_is():
    x = numpy.array([1.5, -0.0, numpy.nan, numpy.inf, 1e30], numpy.float32)
    exact, _ = judged(ew.mul, x, x)
    assert exact.all()
    exact, allowed = judged(ew.convert, x, dtype=dtypes.int32)
    assert exact.tolist() == [True, True, False, False, False]
    assert numpy.isinf(allowed[2:]).all()
    exact, allowed = judged(ew.exp, numpy.array([1.0, 0.5], numpy.float32))
    assert not exact.any()
    assert (allowed > 2e-7).all()
    assert (allowed < 1e-5).all()
    # What cancels is as uncertain as its terms.
    exact, allowed = judged(reduce_sum, numpy.array([1e8, 1.0, -1e8], numpy.float32), axes=(0,))
    assert numpy.isinf(allowed).all()
    # In another order this is infinite.
    exact, allowed = judged(reduce_sum, numpy.array([3e38, -3e38, 3e38], numpy.float32), axes=(0,))
    assert numpy.isinf(allowed).all()


# On demand


def examine(number: int, seed: int, compiler: str, reference: str, tally: Tally | None) -> Any:
    """One of the random Programs of a seed: what is wrong with it."""
    case = random_case(RandomChoices(seed_of(seed, number)))
    try:
        check_agreement(case, compiler, reference, tally)
    except Exception as found:
        return found
    return None


def seed_of(seed: int, number: int) -> int:
    return seed * 10_000_000 + number


def described(number: int, options: Any, crashed: bool = False) -> tuple[str, str]:
    """What the case has in common with others of the same kind, and all about it."""
    check = lambda case: disagreement(case, options.compiler, options.reference)
    case = random_case(RandomChoices(seed_of(options.seed, number)))
    small, found = reduced(case, in_a_process_of_its_own(check) if crashed else check, options.seconds)
    if found is None:
        return "gone", f"program {number}: the failure did not come again"
    key = f"{found.kind}: {' '.join(e.primitive.name for e in small.program.equations)}"
    text = report(small, found, options.compiler, options.reference)
    return key, f"program {number} (--seed {options.seed} --only {number})\n\n{text}"


def work(first: int, options: Any, current: Any, queue: Any) -> None:
    """Examine every so many of the Programs, and put into the queue what is found."""
    tally = Tally() if options.tally else None
    for number in range(first, options.programs, options.jobs):
        current.value = number
        found = examine(number, options.seed, options.compiler, options.reference, tally)
        if found is not None:
            try:
                queue.put((number, *described(number, options)))
            except Exception as error:
                queue.put((number, f"{type(found).__name__}", f"program {number}: {found}\n(reducing it: {error!r})"))
    current.value = -1
    queue.put(None if tally is None else vars(tally))


def run_all(options: Any) -> int:
    """Examine all Programs in several processes, which may crash or hang; gives how many failed."""
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    keys: Counter[str] = Counter()
    total, finished, start = Tally(), 0, time.monotonic()
    workers = []
    for job in range(options.jobs):
        current = context.Value("q", job)
        workers.append([None, current, job, time.monotonic()])

    def take() -> None:
        nonlocal finished
        while not queue.empty():
            message = queue.get()
            if message is None or isinstance(message, dict):
                finished += 1
                for name, value in (message or {}).items():
                    setattr(total, name, getattr(total, name) + value)
                continue
            number, key, text = message
            keys[key] += 1
            if keys[key] <= options.repeat:
                print(f"\n{'=' * 100}\n{text}", flush=True)
            else:
                print(f"program {number}: again {key}", flush=True)

    while finished < options.jobs:
        for worker in workers:
            process, current, last, since = worker
            if process is None:
                first = current.value
                if first >= options.programs:
                    finished += 1
                    worker[0] = False
                    continue
                worker[0] = context.Process(target=work, args=(first, options, current, queue))
                worker[0].start()
                worker[3] = time.monotonic()
                continue
            if process is False:
                continue
            if current.value != last:
                worker[2], worker[3] = current.value, time.monotonic()
            hung = current.value >= 0 and time.monotonic() - since > options.patience
            if hung:
                process.kill()
                process.join()
            if not process.is_alive() and current.value >= 0:
                number = current.value
                key, text = described(number, options, crashed=True)
                keys[key] += 1
                print(
                    f"\n{'=' * 100}\n{text}" if keys[key] <= options.repeat else f"program {number}: {key}", flush=True
                )
                current.value = number + options.jobs
                worker[0] = None
        take()
        time.sleep(0.05)
    take()
    seconds = time.monotonic() - start
    print(f"\n{options.programs} programs in {seconds:.1f} s; {sum(keys.values())} fail")
    for key, count in keys.most_common():
        print(f"  {count} x {key}")
    if options.tally and total.elements:
        parts = {name: getattr(total, name) / total.elements for name in ("compared", "exactly", "telling")}
        print(f"{total.elements} elements, of which " + ", ".join(f"{v:.1%} {name}" for name, v in parts.items()))
    return sum(keys.values())


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Hold one compiler to another by random Programs.")
    parser.add_argument("--programs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-n", "--jobs", type=int, default=1)
    parser.add_argument("--compiler", default="default")
    parser.add_argument("--reference", default="reference")
    parser.add_argument("--only", type=int, help="the number of the one Program to run")
    parser.add_argument("--whole", action="store_true", help="with --only: do not make it small")
    parser.add_argument("--seconds", type=float, default=20.0, help="for how long to make one Program small")
    parser.add_argument("--patience", type=float, default=60.0, help="seconds after which a Program does not end")
    parser.add_argument("--repeat", type=int, default=2, help="how many failures of one kind to show")
    parser.add_argument("--threads", type=int, help="so many threads, that take as little as possible at a time")
    parser.add_argument("--tally", action="store_true", help="count how many elements are compared")
    parser.add_argument("--coverage", action="store_true", help="count the primitives instead of running anything")
    parser.add_argument("--mutants", action="store_true", help="find out wrong compilers instead")
    options = parser.parse_args(arguments)
    COMPILERS["simplified"] = lambda program: executor(simplify(program))
    if options.coverage:
        counts = coverage([seed_of(options.seed, number) for number in range(options.programs)])
        for name in sorted(all_primitives()):
            print(
                f"{counts[name]:8d} {name}"
                if counts[name]
                else f"       - {name}: {NOT_GENERATED.get(name, 'MISSING')}"
            )
        return 0
    if options.mutants:
        for mutant in MUTANTS:
            print(f"{programs_until_found(mutant)!s:>6} programs until it is found: {mutant}", flush=True)
        return 0
    if options.only is not None:
        case = random_case(RandomChoices(seed_of(options.seed, options.only)))
        if options.whole:
            print(case.program)
            found = disagreement(case, options.compiler, options.reference)
            print("nothing is wrong" if found is None else f"{found.kind}: {found.text}")
            return found is not None
        print(described(options.only, options, crashed=True)[1])
        return 0
    with divided_among(options.threads) if options.threads else nullcontext():
        return min(run_all(options), 1)


if __name__ == "__main__":
    sys.exit(main())
