"""Every primitive of the package is held to all of its rules, with operands that hypothesis chooses."""

import collections

import numpy
import pytest
from hypothesis import HealthCheck, given, settings
from primitive_cases import CASES, TESTED_ELSEWHERE

import funcgrad as fg
from funcgrad.primitives import elementwise as e
from funcgrad.primitives.indexing import gather
from funcgrad.testing import check_primitive, primitives_of

# Shapes with an axis of length one or zero, or drawn twice, are discarded by some strategies; that is no bad sign here.
without_deadline = settings(deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])


@pytest.mark.parametrize("name", sorted(CASES))
def test_primitive_keeps_all_of_its_rules(name):
    case = CASES[name]

    @without_deadline
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


def test_every_primitive_of_the_package_has_a_case():
    known = {id(case.primitive) for case in CASES.values()}
    missing = {
        where
        for where, primitive in primitives_of(fg).items()
        if id(primitive) not in known and primitive.name not in TESTED_ELSEWHERE
    }
    assert not missing, f"no case in tests/primitive_cases.py for {sorted(missing)}"


def test_names_of_primitives_are_unique():
    counts = collections.Counter(primitive.name for primitive in primitives_of(fg).values())
    assert [name for name, count in counts.items() if count > 1] == []


def test_a_primitive_with_a_transpose_rule_has_operands_in_which_it_is_linear():
    linear = {name for name, case in CASES.items() if case.linear}
    assert {name for name, case in CASES.items() if case.primitive.transpose is not None} == linear


SPECIAL_VALUES = [0.0, -0.0, 1.0, -1.0, numpy.inf, -numpy.inf, numpy.nan, 0.5, 1e-30, -1e-30, 1e30, -1e30, 100.0, 709.0]


@pytest.mark.parametrize("name", sorted(name for name, case in CASES.items() if case.special_values))
def test_infinities_zeros_and_nan_give_what_numpy_and_scipy_give(name):
    case = CASES[name]
    for dtype in case.special_values:
        operands = [x.astype(dtype) for x in numpy.meshgrid(*[numpy.array(SPECIAL_VALUES)] * case.operand_count)]
        with numpy.errstate(all="ignore"):
            expected = case.reference(*(x.astype(numpy.float64) for x in operands))
            expected = expected.astype(dtype) if expected.dtype.kind == "f" else expected
        result = numpy.asarray(case.primitive(*map(fg.array, operands)))
        numpy.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-37, equal_nan=True)


@pytest.mark.parametrize(("primitive", "winner"), [(e.max_, max), (e.min_, min)])
def test_at_a_tie_both_operands_of_max_and_min_get_half_of_the_gradient(primitive, winner):
    x = fg.array(2.0)
    assert primitive(x, x).item() == winner(2.0, 2.0)
    left, right = fg.grad(primitive, argnums=(0, 1))(x, x)
    assert (left.item(), right.item()) == (0.5, 0.5)


def test_gradients_of_powers_at_zero_are_the_limits_and_not_nan():
    zero, one, two = (fg.array(v) for v in (0.0, 1.0, 2.0))
    assert fg.grad(e.pow_)(zero, two).item() == 0.0
    assert fg.grad(e.pow_)(zero, one).item() == 1.0
    assert fg.grad(e.pow_)(zero, zero).item() == 0.0
    assert fg.grad(e.pow_, argnums=1)(zero, two).item() == 0.0


def test_stop_gradient_is_the_identity_with_a_derivative_of_zero():
    x = fg.array([1.0, 2.0])
    value, tangent = fg.jvp(e.stop_gradient, (x,), (x,))
    assert value.tolist() == [1.0, 2.0]
    assert tangent.tolist() == [0.0, 0.0]


def test_nextafter_has_a_derivative_of_zero():
    x, y = fg.array(1.0), fg.array(2.0)
    value, tangent = fg.jvp(e.nextafter, (x, y), (x, y))
    assert value.item() == numpy.nextafter(numpy.float32(1), numpy.float32(2))
    assert tangent.item() == 0.0


def test_gather_fills_what_is_outside_with_nan_and_its_gradient_stays_inside():
    x, index = fg.array([1.0, 2.0, 3.0]), fg.array([2, 3, -1, 0])
    found = numpy.asarray(gather(x, index, axes=(0,), mode="fill"))
    numpy.testing.assert_array_equal(found, [3.0, numpy.nan, numpy.nan, 1.0])
    (gradient,) = fg.vjp(lambda x: gather(x, index, axes=(0,), mode="fill"), x)[1](fg.array([1.0, 10.0, 100.0, 1000.0]))
    assert gradient.tolist() == [1000.0, 0.0, 1.0]
