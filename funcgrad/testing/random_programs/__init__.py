"""Random Programs, to hold one compiler to another.

`random_case` writes a Program of any of the primitives of this package, with Programs nested in it, and values for its
inputs. `check_agreement` runs it by two compilers and compares what they give as far as the Program says what that is,
given that sums and transcendental functions are rounded. `reduced` makes a case that fails small, and `report` tells of
it in words, as a Program, and as Python code that makes it again.

    for seed in range(1000):
        check_agreement(random_case(RandomChoices(seed)), "default", "reference")
"""

from __future__ import annotations

from functools import cache

import funcgrad.control_flow
import funcgrad.primitives
import funcgrad.transforms
from funcgrad.core import Primitive
from funcgrad.testing.comparing import shortened
from funcgrad.testing.primitive_rules import primitives_of
from funcgrad.testing.random_programs.agreement import Disagreement, Tally, check_agreement, disagreement
from funcgrad.testing.random_programs.choices import Choices, RandomChoices
from funcgrad.testing.random_programs.generating import NOT_GENERATED, Case, count_primitives, random_case
from funcgrad.testing.random_programs.printing import as_source
from funcgrad.testing.random_programs.reducing import in_a_process_of_its_own, reduced


@cache
def all_primitives() -> dict[str, Primitive]:
    """The primitives that Programs may consist of, by name."""
    packages = (funcgrad.primitives, funcgrad.control_flow, funcgrad.transforms)
    return {p.name: p for package in packages for p in primitives_of(package).values()}


def primitive_named(name: str) -> Primitive:
    """The primitive of this name."""
    return all_primitives()[name]


def report(case: Case, found: Disagreement, compiler: str = "default", reference: str = "reference") -> str:
    """What is wrong with a case, the case itself, and how to run it again."""
    inputs = [f"    {x.dtype.name}{list(x.shape)} {shortened(x)}" for x in case.buffers]
    return "\n".join(
        [
            f"{found.kind}: {found.text}",
            "",
            str(case.program),
            "  on",
            *inputs,
            "",
            "To run it again:",
            "",
            as_source(case, compiler, reference),
        ]
    )


__all__ = [
    "NOT_GENERATED",
    "Case",
    "Choices",
    "Disagreement",
    "RandomChoices",
    "Tally",
    "all_primitives",
    "as_source",
    "check_agreement",
    "count_primitives",
    "disagreement",
    "in_a_process_of_its_own",
    "primitive_named",
    "random_case",
    "reduced",
    "report",
]
