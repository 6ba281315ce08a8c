"""Every primitive of the package is held to all of its rules, with operands that hypothesis chooses."""

import collections
import itertools

import numpy
import pytest
from hypothesis import HealthCheck, given, settings
from primitive_cases import CASES

import funcgrad
from funcgrad.testing import check_primitive, primitives_of

# One example of this file runs some hundred checks, so it takes fewer of them than other tests of the same profile.
EXAMPLES = max(4, settings.default.max_examples // 4)


@pytest.mark.parametrize("name", sorted(CASES))
def test_primitive_keeps_all_of_its_rules(name):
    case = CASES[name]

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case.examples)
    def check(example):
        check_primitive(
            case.primitive,
            example.operands,
            example.params,
            reference=case.reference,
            others=example.others,
            linear=case.linear,
            wrt=case.wrt,
            modes=case.modes,
        )

    check()
