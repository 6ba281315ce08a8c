"""jvp, linearize, vjp, grad, value_and_grad, jacfwd, jacrev, hessian, linear_transpose: what they promise."""

import math

import numpy
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad import errors
from funcgrad.testing import check_grads


def close(actual, expected, rtol=1e-6, atol=1e-6):
    numpy.testing.assert_allclose(numpy.asarray(actual), numpy.asarray(expected), rtol=rtol, atol=atol)


def double(value):
    """A float64 array, in which derivatives are sharp."""
    return fg.array(value, dtype=fg.float64)


# jvp


def test_jvp_gives_the_value_and_the_directional_derivative():
    value, tangent = fg.jvp(lambda x, y: fnp.sin(x) * y, (double(0.5), double(2.0)), (double(1.0), double(3.0)))
    close(value, math.sin(0.5) * 2)
    close(tangent, math.cos(0.5) * 2 + math.sin(0.5) * 3)


def test_jvp_takes_pytrees_and_gives_tangents_of_the_structure_of_the_result():
    def f(params):
        return {"sum": params["a"] + params["b"][0], "product": (params["a"] * params["b"][0],)}

    primals = {"a": fg.array(2.0), "b": [fg.array(5.0)]}
    value, tangent = fg.jvp(f, (primals,), ({"a": fg.array(1.0), "b": [fg.array(10.0)]},))
    assert value["sum"].item() == 7.0
    assert tangent["sum"].item() == 11.0
    assert tangent["product"][0].item() == 5.0 + 2.0 * 10.0


def test_jvp_takes_none_for_a_tangent_of_zero_and_gives_none_for_integers():
    def f(x, n):
        return x**2, n + 1

    (value, count), (tangent, none) = fg.jvp(f, (fg.array(3.0), fg.array(4)), (fg.array(1.0), None))
    assert (value.item(), count.item(), tangent.item(), none) == (9.0, 5, 6.0, None)
    assert fg.jvp(f, (fg.array(3.0), fg.array(4)), (None, None))[1][0].item() == 0.0


def test_jvp_passes_auxiliary_data_through():
    value, tangent, aux = fg.jvp(lambda x: (x**2, {"double": 2 * x}), (fg.array(3.0),), (fg.array(1.0),), has_aux=True)
    assert (value.item(), tangent.item(), aux["double"].item()) == (9.0, 6.0, 6.0)


def test_jvp_takes_python_scalars():
    value, tangent = fg.jvp(lambda x: x * x, (3.0,), (1.0,))
    assert (value.item(), tangent.item(), tangent.dtype) == (9.0, 6.0, fg.float32)


@pytest.mark.parametrize(
    ("primals", "tangents", "error"),
    [
        ((1.0,), (fg.array([1.0, 2.0]),), errors.ArgumentError),  # another shape
        ((double(1.0),), (fg.array(1.0),), errors.ArgumentError),  # another dtype
        ((1.0,), (1.0, 1.0), errors.ArgumentError),  # one too many
        ((fg.array(1),), (fg.array(1),), errors.DtypeError),  # integers have no tangents
        (1.0, 1.0, errors.ArgumentError),  # no tuples
    ],
)
def test_jvp_refuses_tangents_that_do_not_fit(primals, tangents, error):
    with pytest.raises(error):
        fg.jvp(lambda x: x, primals, tangents)


# linearize and vjp


def test_linearize_gives_a_linear_function_that_does_not_run_the_function_again():
    runs = []

    def f(x):
        runs.append(None)
        return fnp.sin(x) * x

    x = double(0.7)
    value, f_jvp = fg.linearize(f, x)
    close(value, math.sin(0.7) * 0.7)
    for t in (1.0, -2.0):
        close(f_jvp(double(t)), t * (math.cos(0.7) * 0.7 + math.sin(0.7)))
    assert len(runs) == 1


def test_a_linearized_function_is_a_program_of_linear_steps():
    _, f_jvp = fg.linearize(lambda x: fnp.exp(x) * 3.0, double(0.0))
    names = {equation.primitive.name for equation in f_jvp.program.equations}
    assert "exp" not in names


def test_linearize_with_auxiliary_data():
    value, f_jvp, aux = fg.linearize(lambda x: (x**2, x + 1), double(3.0), has_aux=True)
    assert (value.item(), f_jvp(double(1.0)).item(), aux.item()) == (9.0, 6.0, 4.0)


def test_vjp_pulls_cotangents_of_any_number_of_results_back_to_all_arguments():
    value, pull = fg.vjp(lambda x, y: (x * y, {"sum": x + y}), double(3.0), double(4.0))
    assert value[0].item() == 12.0
    x_bar, y_bar = pull((double(10.0), {"sum": double(1.0)}))
    assert (x_bar.item(), y_bar.item()) == (41.0, 31.0)


def test_vjp_gives_none_for_integer_arguments_and_zeros_for_unused_ones():
    _, pull = fg.vjp(lambda x, n, unused: x * n, double(3.0), fg.array(2), double([1.0, 1.0]))
    x_bar, n_bar, unused_bar = pull(double(1.0))
    assert x_bar.item() == 2.0
    assert n_bar is None
    assert unused_bar.tolist() == [0.0, 0.0]


def test_a_pulled_back_function_may_be_used_again_with_other_cotangents():
    _, pull = fg.vjp(fnp.sin, double(0.3))
    close(pull(double(1.0))[0], math.cos(0.3))
    close(pull(double(5.0))[0], 5 * math.cos(0.3))


def test_vjp_with_auxiliary_data_which_is_free_of_tracers():
    value, pull, aux = fg.vjp(lambda x: (x**2, x * 5), double(3.0), has_aux=True)
    assert (value.item(), aux.item(), pull(double(1.0))[0].item()) == (9.0, 15.0, 6.0)


@pytest.mark.parametrize(
    ("cotangent", "error"),
    [
        (fg.array([1.0, 1.0], dtype=fg.float64), errors.ShapeError),
        (fg.array(1.0), errors.DtypeError),
        ((fg.array(1.0), fg.array(1.0)), errors.FuncgradError),
    ],
)
def test_vjp_refuses_cotangents_that_do_not_fit(cotangent, error):
    _, pull = fg.vjp(fnp.sin, double(1.0))
    with pytest.raises(error):
        pull(cotangent)


# grad and value_and_grad


def test_grad_of_a_scalar_function():
    close(fg.grad(fnp.tanh)(double(0.5)), 1 - math.tanh(0.5) ** 2)


def test_grad_takes_python_floats_and_gives_arrays():
    gradient = fg.grad(lambda x: x**3)(2.0)
    assert isinstance(gradient, fg.Array)
    assert gradient.item() == 12.0


def test_grad_keeps_structure_shapes_and_dtypes_of_the_argument():
    params = {"w": fnp.ones((2, 3)), "b": [double([1.0, 2.0])], "half": fnp.ones(2, dtype=fg.bfloat16)}

    def loss(p):
        terms = [p["w"].sum(), (p["b"][0] ** 2).sum(), p["half"].sum()]
        return sum(term.astype(fg.float32) for term in terms)

    gradient = fg.grad(loss)(params)
    assert fg.tree.structure(gradient) == fg.tree.structure(params)
    assert [x.dtype for x in fg.tree.leaves(gradient)] == [x.dtype for x in fg.tree.leaves(params)]
    assert gradient["b"][0].tolist() == [2.0, 4.0]


@pytest.mark.parametrize(
    ("argnums", "expected"),
    [(0, 12.0), (1, 4.0), (-1, 4.0), ((0, 1), (12.0, 4.0)), ((1, 0), (4.0, 12.0)), ((1,), (4.0,))],
)
def test_argnums_choose_arguments_and_give_a_tuple_for_a_tuple(argnums, expected):
    gradient = fg.grad(lambda x, y: x**2 * y, argnums=argnums)(2.0, 3.0)
    found = tuple(g.item() for g in gradient) if isinstance(gradient, tuple) else gradient.item()
    assert found == expected


def test_keyword_arguments_are_passed_on_and_not_differentiated():
    assert fg.grad(lambda x, *, power: x**power)(2.0, power=3).item() == 12.0


def test_arguments_that_are_not_chosen_may_be_anything():
    assert fg.grad(lambda x, how: x**2 if how == "square" else x)(3.0, "square").item() == 6.0


def test_value_and_grad_gives_both():
    value, gradient = fg.value_and_grad(lambda x: x**2)(fg.array(3.0))
    assert (value.item(), gradient.item()) == (9.0, 6.0)


def test_auxiliary_data_comes_with_the_value_and_beside_the_gradient():
    def loss(x):
        return x**2, {"x": x, "name": "square", "list": [1, x + 1]}

    (value, aux), gradient = fg.value_and_grad(loss, has_aux=True)(fg.array(3.0))
    assert (value.item(), gradient.item(), aux["x"].item(), aux["name"]) == (9.0, 6.0, 3.0, "square")
    assert aux["list"][1].item() == 4.0
    gradient, aux = fg.grad(loss, has_aux=True)(fg.array(3.0))
    assert (gradient.item(), aux["x"].item()) == (6.0, 3.0)


def test_a_gradient_with_respect_to_what_is_not_used_is_zero():
    assert fg.grad(lambda x: fg.array(3.0))(fg.array([1.0, 2.0])).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("function", "argument", "error"),
    [
        (lambda x: x, fg.array([1.0, 2.0]), errors.ShapeError),
        (lambda x: (x, x), fg.array(1.0), errors.ShapeError),
        (lambda x: x > 0, fg.array(1.0), errors.DtypeError),
        (lambda x: x, fg.array(1), errors.DtypeError),
        (lambda x: x, 1j, errors.DtypeError),
        (lambda x: "loss", fg.array(1.0), errors.ArgumentTypeError),
    ],
)
def test_grad_says_what_is_wrong_with_a_function_or_argument(function, argument, error):
    with pytest.raises(error):
        fg.grad(function)(argument)


def test_grad_refuses_argnums_beyond_the_arguments():
    with pytest.raises(errors.ArgumentError):
        fg.grad(lambda x: x, argnums=1)(1.0)


def test_holomorphic_gradients_are_complex_derivatives():
    z = fg.array(0.5 + 0.25j, dtype=fg.complex128)
    close(fg.grad(fnp.sin, holomorphic=True)(z), numpy.cos(0.5 + 0.25j))


def test_a_real_function_of_complex_steps_has_a_real_gradient():
    def power(x):
        z = fnp.exp(1j * x)
        return fnp.real(z * fnp.conj(z) * x**2)

    close(fg.grad(power)(double(1.5)), 3.0)


def test_python_control_flow_follows_concrete_values_under_grad():
    def f(x):
        if x > 0:
            return x**2
        while x < -1:
            x = x / 2
        return -x

    assert fg.grad(f)(fg.array(3.0)).item() == 6.0
    assert fg.grad(f)(fg.array(-3.0)).item() == -0.25


def test_float_and_int_of_a_value_under_grad_read_it_as_a_constant():
    assert fg.grad(lambda x: x * float(x))(fg.array(3.0)).item() == 3.0
    assert fg.grad(lambda x: sum(x for _ in range(int(x))))(fg.array(3.0)).item() == 3.0


def test_a_value_under_grad_does_not_silently_become_a_numpy_array():
    with pytest.raises(errors.TracedValueError):
        fg.grad(lambda x: numpy.asarray(x).sum())(fg.array([1.0]))


def test_stop_gradient_makes_a_constant_of_a_pytree():
    def f(x):
        constant = fg.stop_gradient({"x": x})
        return x * constant["x"]

    assert fg.grad(f)(fg.array(3.0)).item() == 3.0


# Jacobians and Hessians


def polynomial(x):
    return fnp.stack([x[0] * x[1], x[1] ** 2, fnp.sin(x[2])])


def test_jacfwd_and_jacrev_agree_with_the_matrix_of_partial_derivatives():
    x = double([2.0, 3.0, 0.5])
    expected = [[3.0, 2.0, 0.0], [0.0, 6.0, 0.0], [0.0, 0.0, math.cos(0.5)]]
    close(fg.jacfwd(polynomial)(x), expected)
    close(fg.jacrev(polynomial)(x), expected)


@pytest.mark.parametrize("jacobian", [fg.jacfwd, fg.jacrev])
def test_jacobians_have_the_axes_of_the_result_and_then_of_the_argument(jacobian):
    def f(params, y):
        return {"product": params["w"] @ y, "sum": params["w"].sum() + params["b"]}

    params = {"w": fnp.ones((2, 3)), "b": fg.array(1.0)}
    found = jacobian(f)(params, fnp.arange(3.0))
    assert found["product"]["w"].shape == (2, 2, 3)
    assert found["product"]["b"].tolist() == [0.0, 0.0]
    assert found["sum"]["w"].tolist() == [[1.0] * 3] * 2
    assert found["sum"]["b"].shape == ()
    assert found["product"]["w"][1].tolist() == [[0.0, 0.0, 0.0], [0.0, 1.0, 2.0]]


@pytest.mark.parametrize("jacobian", [fg.jacfwd, fg.jacrev])
def test_jacobians_choose_arguments_and_pass_auxiliary_data(jacobian):
    by_x, by_y = jacobian(lambda x, y: x * y, argnums=(0, 1))(double([1.0, 2.0]), double(3.0))
    assert by_x.tolist() == [[3.0, 0.0], [0.0, 3.0]]
    assert by_y.tolist() == [1.0, 2.0]
    found, aux = jacobian(lambda x: (x**2, "squares"), has_aux=True)(double([1.0, 2.0]))
    assert found.tolist() == [[2.0, 0.0], [0.0, 4.0]]
    assert aux == "squares"


def test_hessian_is_the_matrix_of_second_derivatives():
    def f(x):
        return x[0] ** 2 * x[1] + fnp.exp(x[1])

    close(fg.hessian(f)(double([2.0, 0.5])), [[1.0, 4.0], [4.0, math.exp(0.5)]])


def test_hessian_vector_products_agree_in_every_order_of_modes():
    def f(x):
        return fnp.sum(fnp.tanh(x) * fnp.roll(x, 1) ** 2)

    x, v = double([0.3, -0.7, 1.1]), double([1.0, 0.5, -2.0])
    expected = fg.hessian(f)(x) @ v
    close(fg.jvp(fg.grad(f), (x,), (v,))[1], expected)
    close(fg.grad(lambda y: fg.jvp(f, (y,), (v,))[1])(x), expected)
    close(fg.grad(lambda y: fnp.vdot(fg.grad(f)(y), v))(x), expected)
    close(fg.jacfwd(fg.jacfwd(f))(x) @ v, expected)
    close(fg.jacrev(fg.jacrev(f))(x) @ v, expected)


# Linear transposition


def test_linear_transpose_is_the_adjoint_of_a_matrix_product():
    matrix = double([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    transposed = fg.linear_transpose(lambda x: matrix @ x, fg.ShapeDtypeStruct((3,), fg.float64))
    close(transposed(double([1.0, -1.0]))[0], [-3.0, -3.0, -3.0])


def test_linear_transpose_takes_pytrees():
    example = {"a": fg.ShapeDtypeStruct((2,), fg.float32), "b": fg.ShapeDtypeStruct((), fg.float32)}
    transposed = fg.linear_transpose(lambda tree: (2.0 * tree["a"] + tree["b"],), example)
    (found,) = transposed((fg.array([1.0, 10.0]),))
    assert found["a"].tolist() == [2.0, 20.0]
    assert found["b"].item() == 11.0


def test_linear_transpose_refuses_what_is_not_linear():
    with pytest.raises(errors.FuncgradError):
        fg.linear_transpose(fnp.sin, fg.ShapeDtypeStruct((), fg.float32))(fg.array(1.0))


# Higher orders


def test_derivatives_of_sine_up_to_the_sixth():
    f, x = fnp.sin, double(0.7)
    expected = [math.cos(0.7), -math.sin(0.7), -math.cos(0.7), math.sin(0.7), math.cos(0.7), -math.sin(0.7)]
    by_reverse, by_forward = f, f
    for value in expected:
        by_reverse = fg.grad(by_reverse)
        by_forward = (lambda g: lambda y: fg.jvp(g, (y,), (double(1.0),))[1])(by_forward)
        close(by_reverse(x), value)
        close(by_forward(x), value)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_derivatives_of_a_power_of_any_order(order):
    f = lambda x: x**5
    expected = 5.0
    for i in range(order):
        f = fg.grad(f)
        expected *= 1.0 if i == 0 else 5 - i
    close(f(double(2.0)), expected * 2.0 ** (5 - order))


def test_higher_derivatives_of_exp_of_a_product_are_right_in_mixed_variables():
    def f(x, y):
        return fnp.exp(x * y)

    mixed = fg.grad(fg.grad(fg.grad(f, 0), 1), 0)
    x, y = 0.4, -0.8
    # d/dx d/dy d/dx exp(xy) = (2y + x y^2) exp(xy)
    close(mixed(double(x), double(y)), (2 * y + x * y * y) * math.exp(x * y))


def test_check_grads_of_a_small_network():
    def loss(params, x):
        hidden = fnp.tanh(x @ params[0] + params[1])
        return fnp.sum((hidden @ params[2]) ** 2)

    random = numpy.random.default_rng(0)
    params = [random.normal(size=shape) for shape in [(3, 4), (4,), (4, 2)]]
    check_grads(loss, (params, random.normal(size=(5, 3))), order=2)
