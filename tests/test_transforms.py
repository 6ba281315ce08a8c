"""Transforms together: compositions, perturbation confusion, and random functions against finite differences."""

import math

import numpy
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad import errors


def close(actual, expected, rtol=1e-6, atol=1e-7):
    numpy.testing.assert_allclose(numpy.asarray(actual), numpy.asarray(expected), rtol=rtol, atol=atol)


def double(value):
    return fg.array(value, dtype=fg.float64)


def derivative(f):
    """The derivative of a function of one number, by forward mode."""
    return lambda x: fg.jvp(f, (fg.numpy.asarray(x),), (fnp.ones_like(fnp.asarray(x)),))[1]


# Perturbation confusion: the tangent of an inner derivative must not be taken for that of an outer one


@pytest.mark.parametrize("outer", [fg.grad, derivative])
@pytest.mark.parametrize("inner", [fg.grad, derivative])
def test_the_derivative_of_x_times_the_derivative_of_x_plus_y(outer, inner):
    # d/dx (x * d/dy (x + y)) = 1. A confused implementation gives 2.
    assert outer(lambda x: x * inner(lambda y: x + y)(1.0))(1.0).item() == 1.0


@pytest.mark.parametrize("outer", [fg.grad, derivative])
@pytest.mark.parametrize("inner", [fg.grad, derivative])
def test_the_derivative_of_a_derivative_that_uses_both_variables(outer, inner):
    # d/dx [x * d/dy (x * y^2) at y=2] = d/dx [x * 4x] = 8x
    assert outer(lambda x: x * inner(lambda y: x * y**2)(2.0))(3.0).item() == 24.0


@pytest.mark.parametrize("outer", [fg.grad, derivative])
@pytest.mark.parametrize("inner", [fg.grad, derivative])
def test_the_inner_derivative_at_the_outer_variable(outer, inner):
    # d/dx [d/dy (x * y) at y=x] = d/dx x = 1
    assert outer(lambda x: inner(lambda y: x * y)(x))(5.0).item() == 1.0
    # d/dx [d/dy (x^2 y^3) at y=x] = d/dx 3 x^4 = 12 x^3
    assert outer(lambda x: inner(lambda y: x**2 * y**3)(x))(2.0).item() == 96.0


def test_a_function_that_returns_a_function_of_the_perturbed_variable():
    # Manzyuk et al., "Perturbation confusion in forward automatic differentiation of higher-order functions" (2019):
    # the derivative of s(u) = (x -> f(x + u)) must shift derivatives, not mix them up.
    def shift(f):
        return lambda x: fg.grad(lambda u: f(x + u))(0.0)

    close(shift(shift(fnp.sin))(double(0.3)), -math.sin(0.3))
    close(shift(shift(lambda x: x**3))(double(2.0)), 12.0)


def test_an_inner_derivative_that_ignores_its_variable_is_zero_even_if_an_outer_one_does_not():
    assert fg.grad(lambda x: x + fg.grad(lambda y: x**2)(1.0))(3.0).item() == 1.0


def test_three_nested_derivatives_in_three_variables():
    def f(x):
        return fg.grad(lambda y: fg.grad(lambda z: x**2 * y**3 * z**4)(y))(x)

    # d/dz at z=y: 4 x^2 y^6; d/dy at y=x: 24 x^2 x^5 = 24 x^7; its derivative: 168 x^6
    close(fg.grad(f)(double(1.5)), 168 * 1.5**6)


def test_vmap_inside_grad_does_not_take_outer_batches_for_its_own():
    def f(x):
        return fg.vmap(lambda y: fg.grad(lambda z: x * y * z**2)(y))(fg.array([1.0, 2.0])).sum()

    assert fg.vmap(fg.grad(f))(fg.array([1.0, 5.0])).tolist() == [10.0, 10.0]


def test_a_value_of_a_finished_derivative_cannot_be_used():
    leaked = []

    def f(x):
        leaked.append(x)
        return x * x

    fg.grad(f)(1.0)
    with pytest.raises(errors.LeakedTracerError):
        leaked[0] * 2.0


def test_an_exception_inside_a_transform_leaves_no_interpreter_behind():
    def f(x):
        raise ZeroDivisionError

    for transform in (fg.grad, fg.vmap, fg.jit, derivative):
        with pytest.raises(ZeroDivisionError):
            transform(f)(fg.array([1.0]))
        assert fg.core.current_interpreter() is fg.core.ground
    assert fg.grad(lambda x: x * x)(2.0).item() == 4.0


# Compositions of transforms, for one function with every kind of step


def network(w, x):
    hidden = fnp.tanh(x @ w[0] + w[1])
    scores = hidden @ w[2]
    return fnp.log(fnp.sum(fnp.exp(scores - scores.max()))) + (hidden[1:] * hidden[:-1]).mean()


RANDOM = numpy.random.default_rng(0)
WEIGHTS = [double(RANDOM.normal(size=shape)) for shape in [(3, 4), (4,), (4, 5)]]
BATCH = double(RANDOM.normal(size=(6, 3)))


def loop(f, *args):
    return [numpy.asarray(x) for x in (f(*args, BATCH[i]) for i in range(6))]


def test_all_orders_of_vmap_grad_and_jit_give_the_same_per_example_gradients():
    expected = numpy.stack(loop(lambda x: fg.grad(network, argnums=1)(WEIGHTS, x)))
    by_x = fg.grad(network, argnums=1)
    axes = (None, 0)
    for composed in [
        fg.vmap(by_x, axes),
        fg.jit(fg.vmap(by_x, axes)),
        fg.vmap(fg.jit(by_x), axes),
        fg.vmap(fg.grad(fg.jit(network), argnums=1), axes),
        fg.jit(fg.vmap(fg.jit(fg.grad(fg.jit(network), argnums=1)), axes)),
        lambda w, xs: fg.grad(lambda xs: fg.vmap(network, axes)(w, xs).sum())(xs),
        lambda w, xs: fg.grad(lambda xs: fg.jit(fg.vmap(network, axes))(w, xs).sum())(xs),
        lambda w, xs: fg.jit(fg.grad(lambda xs: fg.vmap(fg.jit(network), axes)(w, xs).sum()))(xs),
    ]:
        close(composed(WEIGHTS, BATCH), expected)


def test_hessians_agree_across_modes_batches_and_jit():
    expected = numpy.stack(loop(lambda x: fg.hessian(lambda x: network(WEIGHTS, x))(x)))
    close(expected, expected.swapaxes(1, 2))

    def f(x):
        return network(WEIGHTS, x)

    for composed in [
        fg.vmap(fg.hessian(f)),
        fg.jit(fg.vmap(fg.hessian(f))),
        fg.vmap(fg.jacrev(fg.jacfwd(f))),
        fg.vmap(fg.jacrev(fg.jacrev(fg.jit(f)))),
        fg.vmap(fg.jacfwd(fg.jacfwd(f))),
        fg.vmap(fg.jacfwd(fg.jit(fg.grad(f)))),
    ]:
        close(composed(BATCH), expected, rtol=1e-6, atol=1e-8)


def test_linearize_and_vjp_inside_jit_and_vmap():
    def push(x):
        return fg.linearize(lambda x: network(WEIGHTS, x), x)[1](fnp.ones_like(x))

    def pull(x):
        value, f_vjp = fg.vjp(lambda x: network(WEIGHTS, x), x)
        return f_vjp(fnp.ones_like(value))[0].sum()

    expected = numpy.stack(loop(push))
    for f in (push, pull):
        close(fg.vmap(f)(BATCH), expected)
        close(fg.jit(fg.vmap(f))(BATCH), expected)
        close(fg.vmap(fg.jit(f))(BATCH), expected)


def test_the_linear_function_of_linearize_can_itself_be_mapped_and_transposed():
    x = BATCH[0]
    _, f_jvp = fg.linearize(lambda x: network(WEIGHTS, x), x)
    close(fg.vmap(f_jvp)(fnp.eye(3, dtype=fg.float64)), fg.grad(network, argnums=1)(WEIGHTS, x))
    (gradient,) = fg.linear_transpose(f_jvp, x)(double(1.0))
    close(gradient, fg.grad(network, argnums=1)(WEIGHTS, x))


def test_users_interpreters_see_what_transformed_functions_do():
    class Count(fg.Interpreter):
        def __init__(self):
            self.names = []

        def interpret(self, primitive, operands, params):
            self.names.append(primitive.name)
            return primitive(*operands, **params)

    with Count() as count:
        fg.grad(fnp.sin)(1.0)
    assert "sin" in count.names
    assert "cos" in count.names


# Random functions: every step keeps a vector of three numbers in a range where all of them are smooth


UNARY = {
    "sin": fnp.sin,
    "tanh": fnp.tanh,
    "exp(sin)": lambda x: fnp.exp(fnp.sin(x)),
    "log1p(x^2)": lambda x: fnp.log1p(x * x),
    "sqrt(1 + x^2)": lambda x: fnp.sqrt(1.0 + x * x),
    "x / (2 + cos)": lambda x: x / (2.0 + fnp.cos(x)),
    "logistic": lambda x: 1.0 / (1.0 + fnp.exp(-x)),
    "cumsum": lambda x: fnp.cumsum(x) / 3.0,
    "reverse": lambda x: x[::-1],
    "roll": lambda x: fnp.roll(x, 1),
    "softmax": lambda x: fnp.exp(x) / fnp.exp(x).sum(),
    "center": lambda x: x - x.mean(),
    "gather": lambda x: x[fnp.array([2, 0, 0])],
    "scatter": lambda x: x.at[1].add(x[0] * 0.5),
    "concatenate": lambda x: fnp.concatenate([x[1:], x[:1] ** 2]),
    "matrix": lambda x: double(numpy.cos(numpy.arange(9.0)).reshape(3, 3)) @ x,
    "outer": lambda x: (x[:, None] * x[None, :]).sum(axis=0) / 3.0,
    "where": lambda x: fnp.where(fnp.array([True, False, True]), x, 2.0 * x),
    "prod": lambda x: fnp.prod(1.0 + 0.1 * x) * x,
    "jit": fg.jit(lambda x: fnp.sin(x) * x),
    "grad": fg.grad(lambda x: fnp.sum(fnp.sin(x) * x)),
    "vmap": fg.vmap(lambda x: fnp.tanh(x) * x),
}
BINARY = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: fnp.tanh(x) * y,
    "div": lambda x, y: x / (1.5 + y * y),
    "dot": lambda x, y: x * fnp.dot(x, y) / 3.0,
    "hypot": lambda x, y: fnp.sqrt(0.5 + x * x + y * y),
}

programs = st.lists(
    st.one_of(st.sampled_from(sorted(UNARY)), st.tuples(st.sampled_from(sorted(BINARY)), st.integers(0, 10))),
    min_size=1,
    max_size=6,
)
points = st.lists(st.integers(-24, 24).map(lambda n: n / 16), min_size=3, max_size=3)


def function_of(program):
    """A function that runs the steps, each on the newest value, the binary ones with some earlier one beside it."""

    def f(x):
        values = [x]
        for step in program:
            if isinstance(step, str):
                values.append(UNARY[step](values[-1]))
            else:
                name, which = step
                values.append(BINARY[name](values[-1], values[which % len(values)]))
        return fnp.sum(values[-1] * double([1.0, -0.5, 0.25]))

    return f


def numerical_gradient(f, x, step=1e-3):
    """Central differences of fourth order, one coordinate after the other."""
    gradient = []
    for unit in numpy.eye(len(x)):
        at = [float(f(double(x + multiple * step * unit))) for multiple in (-2, -1, 1, 2)]
        gradient.append((at[0] - 8 * at[1] + 8 * at[2] - at[3]) / (12 * step))
    return numpy.array(gradient)


@given(programs, points)
def test_gradients_of_random_functions_agree_with_finite_differences(program, point):
    f, x = function_of(program), numpy.array(point)
    expected = numerical_gradient(f, x)
    scale = numpy.abs(expected).max()
    assume(scale < 1e3)
    tolerance = 1e-6 * max(scale, 1.0)
    for name, gradient in [
        ("grad", fg.grad(f)),
        ("jit(grad)", fg.jit(fg.grad(f))),
        ("jacfwd", fg.jacfwd(f)),
        ("grad(jit)", fg.grad(fg.jit(f))),
    ]:
        difference = numpy.abs(numpy.asarray(gradient(double(x))) - expected).max()
        assert difference <= tolerance, f"{name} of {program} at {point} differs by {difference:.3g}"
    batched = numpy.asarray(fg.vmap(fg.grad(f))(double(numpy.stack([x, x[::-1], 0.5 * x]))))
    assert numpy.abs(batched[0] - expected).max() <= tolerance


@settings(max_examples=max(5, settings.default.max_examples // 4))
@given(programs, points, points)
def test_hessian_vector_products_of_random_functions_agree_with_differences_of_gradients(program, point, direction):
    f, x, v = function_of(program), numpy.array(point), numpy.array(direction)
    gradient, step = fg.grad(f), 1e-3
    at = [numpy.asarray(gradient(double(x + multiple * step * v))) for multiple in (-2, -1, 1, 2)]
    expected = (at[0] - 8 * at[1] + 8 * at[2] - at[3]) / (12 * step)
    scale = max(numpy.abs(expected).max(), 1.0)
    assume(scale < 1e3)
    forward = numpy.asarray(fg.jvp(gradient, (double(x),), (double(v),))[1])
    reverse = numpy.asarray(fg.grad(lambda y: fnp.dot(gradient(y), double(v)))(double(x)))
    assert numpy.abs(forward - expected).max() <= 1e-5 * scale
    assert numpy.abs(reverse - forward).max() <= 1e-9 * scale
