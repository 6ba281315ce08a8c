"""custom_jvp and custom_vjp: functions whose derivative the user writes, under every transform."""

import math

import numpy
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad import errors
from funcgrad.testing import check_grads


def close(actual, expected, rtol=1e-6):
    numpy.testing.assert_allclose(numpy.asarray(actual), numpy.asarray(expected), rtol=rtol, atol=1e-7)


@fg.custom_jvp
def stable(x):
    """log(1 + exp(x)), whose derivative overflows when it is derived naively."""
    return fnp.log1p(fnp.exp(x))


@stable.defjvp
def _stable_jvp(primals, tangents):
    (x,), (t,) = primals, tangents
    return stable(x), t * (1 - 1 / (1 + fnp.exp(x)))


@fg.custom_vjp
def clipped(x):
    """The identity, whose gradient is held between -1 and 1."""
    return x


clipped.defvjp(lambda x: (x, None), lambda residuals, cotangent: (fnp.clip(cotangent, -1.0, 1.0),))


# custom_jvp


def test_a_custom_jvp_replaces_the_derivative_and_not_the_value():
    close(stable(fg.array(0.0)), math.log(2))
    assert fg.grad(stable)(fg.array(100.0)).item() == 1.0
    assert fg.jvp(stable, (fg.array(100.0),), (fg.array(2.0),))[1].item() == 2.0


def test_a_custom_jvp_works_under_all_transforms_and_their_compositions():
    x = fg.array([-100.0, 0.0, 100.0])
    expected = [0.0, 0.5, 1.0]
    close(fg.vmap(fg.grad(stable))(x), expected)
    close(fg.grad(lambda y: fg.vmap(stable)(y).sum())(x), expected)
    close(fg.jit(fg.vmap(fg.grad(stable)))(x), expected)
    close(fg.vmap(fg.jit(fg.grad(stable)))(x), expected)
    close(fg.grad(lambda y: fg.jit(stable)(y).sum())(x), expected)
    close(fg.grad(fg.jit(lambda y: fg.vmap(stable)(y).sum()))(x), expected)
    close(fg.jacfwd(stable)(x), numpy.diag(expected))
    close(fg.jacrev(stable)(x), numpy.diag(expected))
    check_grads(stable, (numpy.array([0.5, -1.0]),), order=2)


def test_second_derivatives_differentiate_the_rule():
    sigmoid = 1 / (1 + math.exp(-0.3))
    close(fg.grad(fg.grad(stable))(fg.array(0.3, dtype=fg.float64)), sigmoid * (1 - sigmoid))


def test_defjvps_adds_the_parts_of_all_arguments():
    @fg.custom_jvp
    def product(x, y):
        return x * y

    product.defjvps(lambda t, result, x, y: t * y, lambda t, result, x, y: 10.0 * t * x)
    assert [g.item() for g in fg.grad(product, argnums=(0, 1))(fg.array(2.0), fg.array(3.0))] == [3.0, 20.0]

    product.defjvps(None, lambda t, result, x, y: t * result)
    assert [g.item() for g in fg.grad(product, argnums=(0, 1))(fg.array(2.0), fg.array(3.0))] == [0.0, 6.0]


def test_custom_jvp_takes_and_gives_pytrees():
    @fg.custom_jvp
    def norm(point):
        return {"norm": fnp.sqrt(point["x"] ** 2 + point["y"] ** 2)}

    @norm.defjvp
    def rule(primals, tangents):
        (p,), (t,) = primals, tangents
        result = norm(p)
        safe = fnp.where(result["norm"] == 0, 1.0, result["norm"])
        return result, {"norm": (p["x"] * t["x"] + p["y"] * t["y"]) / safe}

    point = {"x": fg.array(3.0), "y": fg.array(4.0)}
    gradient = fg.grad(lambda p: norm(p)["norm"])(point)
    close([gradient["x"], gradient["y"]], [0.6, 0.8])
    origin = {"x": fg.array(0.0), "y": fg.array(0.0)}
    assert fg.jit(fg.grad(lambda p: norm(p)["norm"]))(origin)["x"].item() == 0.0


def test_nondiff_arguments_may_be_functions_and_come_first_in_the_rule():
    from functools import partial

    @partial(fg.custom_jvp, nondiff_argnums=(0, 2))
    def apply(function, x, times):
        for _ in range(times):
            x = function(x)
        return x

    @apply.defjvp
    def rule(function, times, primals, tangents):
        return apply(function, primals[0], times), tangents[0] * times

    assert apply(fnp.sin, fg.array(0.0), 3).item() == 0.0
    assert fg.grad(lambda x: apply(fnp.sin, x, 3))(fg.array(1.0)).item() == 3.0
    assert fg.vmap(fg.grad(lambda x: apply(fnp.sin, x, 2)))(fg.array([1.0, 2.0])).tolist() == [2.0, 2.0]


def test_a_custom_jvp_without_a_rule_says_so():
    square = fg.custom_jvp(lambda x: x * x)
    assert square(fg.array(3.0)).item() == 9.0
    with pytest.raises(errors.ArgumentError, match="defjvp"):
        fg.grad(square)(fg.array(3.0))


def test_a_rule_of_the_wrong_shape_or_form_is_refused():
    square = fg.custom_jvp(lambda x: x * x)
    square.defjvp(lambda primals, tangents: square(*primals))
    with pytest.raises(errors.FuncgradError):
        fg.grad(square)(fg.array(3.0))
    square.defjvp(lambda primals, tangents: (primals[0] ** 2, fnp.ones(3)))
    with pytest.raises(errors.ShapeError):
        fg.grad(square)(fg.array(3.0))


# custom_vjp


def test_a_custom_vjp_replaces_the_gradient_and_not_the_value():
    assert clipped(fg.array(5.0)).item() == 5.0
    assert fg.grad(lambda x: 10 * clipped(x))(fg.array(5.0)).item() == 1.0
    assert fg.grad(lambda x: clipped(x) / 2)(fg.array(5.0)).item() == 0.5


def test_a_custom_vjp_works_under_all_transforms_and_their_compositions():
    def f(x):
        return 10.0 * clipped(x) ** 2

    x = fg.array([0.01, -0.02, 3.0])
    expected = [0.2, -0.4, 1.0]
    close(fg.vmap(fg.grad(f))(x), expected)
    close(fg.jit(fg.vmap(fg.grad(f)))(x), expected)
    close(fg.vmap(fg.jit(fg.grad(f)))(x), expected)
    close(fg.grad(lambda y: fg.vmap(f)(y).sum())(x), expected)
    close(fg.grad(lambda y: fg.vmap(fg.jit(f))(y).sum())(x), expected)
    close(fg.jit(fg.grad(lambda y: fg.vmap(f)(y).sum()))(x), expected)
    close(fg.jacrev(f)(x), numpy.diag(expected))


def test_residuals_are_a_pytree_and_cotangents_of_shared_operands_are_summed_over_a_batch():
    @fg.custom_vjp
    def scale(x, factor):
        return x * factor["s"]

    scale.defvjp(
        lambda x, factor: (scale(x, factor), {"x": x, "s": factor["s"]}),
        lambda residuals, g: (g * residuals["s"], {"s": g * residuals["x"]}),
    )
    x, factor = fg.array([1.0, 2.0, 3.0]), {"s": fg.array(5.0)}
    by_x, by_factor = fg.grad(lambda x, p: fg.vmap(scale, in_axes=(0, None))(x, p).sum(), argnums=(0, 1))(x, factor)
    assert by_x.tolist() == [5.0, 5.0, 5.0]
    assert by_factor["s"].item() == 6.0


def test_a_backward_rule_may_give_none_for_zero_and_gets_nondiff_arguments_first():
    from functools import partial

    @partial(fg.custom_vjp, nondiff_argnums=(1,))
    def power(x, n, unused):
        return x**n

    power.defvjp(
        lambda x, n, unused: (x**n, x),
        lambda n, x, g: (g * n * x ** (n - 1), None),
    )
    by_x, by_unused = fg.grad(lambda x, u: power(x, 3, u), argnums=(0, 1))(fg.array(2.0), fg.array(7.0))
    assert (by_x.item(), by_unused.item()) == (12.0, 0.0)


def test_the_rules_of_a_custom_vjp_are_differentiated_for_second_derivatives():
    @fg.custom_vjp
    def cube(x):
        return x**3

    cube.defvjp(lambda x: (x**3, x), lambda x, g: (3.0 * x**2 * g,))
    close(fg.grad(fg.grad(cube))(fg.array(2.0)), 12.0)


def test_forward_mode_of_a_custom_vjp_is_refused_with_a_remedy():
    with pytest.raises(errors.FuncgradError, match="custom_jvp"):
        fg.jvp(clipped, (fg.array(1.0),), (fg.array(1.0),))


def test_a_custom_vjp_without_rules_or_with_the_wrong_number_of_cotangents_says_so():
    square = fg.custom_vjp(lambda x: x * x)
    with pytest.raises(errors.ArgumentError, match="defvjp"):
        fg.grad(square)(fg.array(3.0))
    square.defvjp(lambda x: (x * x, x), lambda x, g: (g, g))
    with pytest.raises(errors.ArgumentError, match="cotangent"):
        fg.grad(square)(fg.array(3.0))


def test_custom_derivatives_decorate_methods():
    class Doubler:
        factor = 2.0

        @fg.custom_jvp
        def __call__(self, x):
            return x * self.factor

    assert Doubler()(fg.array(3.0)).item() == 6.0


def test_python_control_flow_is_free_in_functions_with_custom_derivatives():
    @fg.custom_jvp
    def f(x):
        return x if x > 0 else -x

    f.defjvps(lambda t, result, x: t * (1.0 if x > 0 else -1.0))
    assert fg.grad(f)(fg.array(-3.0)).item() == -1.0
