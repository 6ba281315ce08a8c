"""The checker itself: it accepts right rules, and says what is wrong with wrong ones."""

import re

import numpy
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad.array import AbstractArray
from funcgrad.core import Primitive
from funcgrad.primitives import elementwise as e
from funcgrad.testing import FORWARD_MODES, check_grads, check_primitive

X = numpy.array([0.5, 1.25, -2.0])


def cube(**wrong):
    """A primitive for x**3 whose rules are right, except for those given."""
    rules = {
        "abstract": lambda x: AbstractArray(x.shape, x.dtype),
        "evaluate": lambda x: x * x * x,
        "jvp": lambda primals, tangents: (primitive(*primals), 3.0 * primals[0] ** 2 * tangents[0]),
        "batch": lambda size, operands, axes: (primitive(*operands), axes[0]),
    }
    primitive = Primitive("cube", **(rules | wrong))
    return primitive


def test_right_rules_are_accepted():
    check_primitive(cube(), [X], reference=lambda x: x**3)


@pytest.mark.parametrize(
    ("wrong", "mode", "what"),
    [
        ({"abstract": lambda x: AbstractArray((7,), x.dtype)}, "abstract", r"\[3\] where float64\[7\]"),
        ({"abstract": lambda x: AbstractArray(x.shape, fg.float32)}, "abstract", "float64.* where float32"),
        ({"evaluate": lambda x: x * x}, "reference", "differ by"),
        ({"evaluate": lambda x: (x * x * x).astype(numpy.float64)}, "precision", "float16"),
        ({"jvp": lambda primals, tangents: (primals[0], tangents[0])}, "jvp", "the result under jvp"),
        ({"batch": lambda size, operands, axes: (operands[0], axes[0])}, "batch", "in_axes=.* against a loop"),
        ({"batch": lambda size, operands, axes: (operands[0] ** 3, 0)}, "batch", "in_axes"),
    ],
)
def test_a_wrong_rule_is_named(wrong, mode, what):
    with pytest.raises(AssertionError, match=f"(?s){mode} of cube.*{what}"):
        check_primitive(
            cube(**wrong), [numpy.stack([X, X, X]) if mode == "batch" else X], reference=lambda x: x**3, modes=[mode]
        )


def test_a_wrong_tangent_is_found_by_finite_differences():
    wrong = cube(jvp=lambda primals, tangents: (wrong(*primals), 2.0 * primals[0] ** 2 * tangents[0]))
    with pytest.raises(AssertionError, match="jvp against finite differences: they differ by"):
        check_primitive(wrong, [X])


def test_a_wrong_transpose_is_found_by_the_dot_product_test():
    triple = Primitive(
        "triple",
        abstract=lambda x: AbstractArray(x.shape, x.dtype),
        evaluate=lambda x: 3 * x,
        jvp=lambda primals, tangents: (triple(*primals), triple(*tangents)),
        transpose=lambda cotangent, x: [cotangent * 2.0],
        batch=lambda size, operands, axes: (triple(*operands), axes[0]),
    )
    with pytest.raises(AssertionError, match=re.escape("<ct, J t> against <J^T ct, t>")):
        check_primitive(triple, [X], linear=[(0,)], modes=["transpose"])


def test_a_derivative_that_is_right_once_but_not_twice_is_found():
    def jvp(primals, tangents):
        factor = 3.0 * fg.stop_gradient(primals[0]) ** 2
        return once(*primals), factor * tangents[0]

    once = cube(jvp=jvp)
    with pytest.raises(AssertionError, match="second_order of cube"):
        check_primitive(once, [X])


def test_a_missing_rule_is_an_error_unless_its_mode_is_left_out():
    unfinished = cube(jvp=None)
    with pytest.raises(fg.errors.MissingRuleError) as failure:
        check_primitive(unfinished, [X])
    assert "jvp of cube(float64[3] [ 0.5 ,  1.25, -2.  ])" in failure.value.__notes__[0]
    check_primitive(unfinished, [X], modes=FORWARD_MODES)


def test_an_unknown_mode_is_refused():
    with pytest.raises(fg.errors.ArgumentError, match="modes"):
        check_primitive(e.sin, [X], modes=["backwards"])


def test_check_grads_accepts_pytrees_integers_and_higher_orders():
    def loss(params, x, count):
        return {"loss": fnp.sum(fnp.tanh(x @ params["w"] + params["b"]) ** count)}

    params = {"w": numpy.array([[0.5, -1.0], [0.25, 2.0]]), "b": numpy.array([0.1, -0.3])}
    check_grads(loss, (params, numpy.array([[1.0, 2.0]]), 3), order=3)


def test_check_grads_finds_a_wrong_custom_derivative():
    @fg.custom_jvp
    def square(x):
        return x * x

    square.defjvps(lambda tangent, result, x: 3.0 * x * tangent)
    with pytest.raises(AssertionError, match=r"fwd of .*jvp against finite differences"):
        check_grads(square, (numpy.array(1.5),), modes=["fwd"])
    with pytest.raises(AssertionError, match="rev of"):
        check_grads(square, (numpy.array(1.5),), modes=["rev"])


def test_check_grads_needs_something_to_differentiate():
    with pytest.raises(fg.errors.ArgumentError, match="floating"):
        check_grads(lambda n: n, (3,))
