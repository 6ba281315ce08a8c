"""jit, make_program, eval_shape: functions written down once and run as Programs."""

import numpy
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad import errors


def close(actual, expected, rtol=1e-6):
    numpy.testing.assert_allclose(numpy.asarray(actual), numpy.asarray(expected), rtol=rtol, atol=1e-6)


class Counted:
    """A function that counts how often its Python runs."""

    def __init__(self, function):
        self.function, self.runs = function, 0
        self.__name__ = "counted"

    def __call__(self, *args, **kwargs):
        self.runs += 1
        return self.function(*args, **kwargs)


def test_a_jitted_function_gives_what_the_function_gives():
    def f(params, x):
        return {"y": fnp.tanh(x @ params["w"] + params["b"]), "n": x.shape[0]}

    params = {"w": fnp.ones((3, 2)), "b": fg.array([1.0, -1.0])}
    x = fnp.arange(6.0).reshape(2, 3)
    close(fg.jit(f)(params, x)["y"], f(params, x)["y"])
    assert fg.jit(f)(params, x)["n"] == 2


def test_a_function_is_traced_once_for_each_signature():
    f = Counted(lambda x: x * 2)
    jitted = fg.jit(f)
    for _ in range(3):
        jitted(fnp.ones(3))
    assert f.runs == 1
    jitted(fnp.zeros(3) + 5)
    assert f.runs == 1
    jitted(fnp.ones(4))  # another shape
    jitted(fnp.ones(3, dtype=fg.int32))  # another dtype
    jitted([fnp.ones(3)][0])  # nothing new
    assert f.runs == 3


def test_the_structure_of_arguments_and_weak_types_are_part_of_the_signature():
    f = Counted(lambda x, y: (x, y))
    jitted = fg.jit(f)
    jitted(1.0, (2.0, 3.0))
    jitted(1.0, [2.0, 3.0])
    assert f.runs == 2
    jitted(fg.array(1.0), [2.0, 3.0])
    assert f.runs == 3
    jitted(7.0, [5.0, 6.0])  # other values only
    assert f.runs == 3


def test_weak_scalars_stay_weak_through_jit():
    half = fnp.ones(2, dtype=fg.float16)
    assert (fg.jit(lambda x, s: x * s)(half, 2.0)).dtype == fg.float16
    assert (fg.jit(lambda s: s * 2)(3.0) * half).dtype == fg.float16
    assert (fg.jit(lambda s: s * 2)(fg.array(3.0)) * half).dtype == fg.float32


def test_clear_cache_forgets_traces():
    f = Counted(lambda x: x)
    jitted = fg.jit(f)
    jitted(1.0)
    jitted.clear_cache()
    jitted(1.0)
    assert f.runs == 2


def test_static_arguments_are_python_values_by_position_and_by_name():
    runs = []

    @fg.jit(static_argnums=1, static_argnames="how")
    def jitted(x, n, how="sum"):
        runs.append(how)
        return x**n if how == "power" else x * n

    assert jitted(fg.array(3.0), 2, how="power").item() == 9.0
    assert jitted(fg.array(3.0), 2, "sum").item() == 6.0
    assert jitted(fg.array(5.0), 2, how="power").item() == 25.0
    assert runs == ["power", "sum"]
    assert jitted(fg.array(3.0), 3, how="power").item() == 27.0
    assert runs == ["power", "sum", "power"]


def test_static_values_that_are_equal_but_of_other_types_are_told_apart():
    jitted = fg.jit(lambda x, n: x * n, static_argnums=1)
    assert jitted(fg.array(3), 1).dtype == fg.int32
    assert jitted(fg.array(3), 1.0).dtype == fg.float32
    assert jitted(fg.array(3), True).dtype == fg.int32


def test_static_arguments_must_be_hashable():
    with pytest.raises(errors.ArgumentTypeError, match="hash"):
        fg.jit(lambda x, n: x, static_argnums=1)(1.0, [1])


def test_jit_is_a_decorator_with_and_without_settings():
    from functools import partial

    @fg.jit
    def double(x):
        return 2 * x

    @partial(fg.jit, static_argnames=("n",))
    def power(x, n):
        return x**n

    @fg.jit(static_argnames=("n",))
    def other_power(x, n):
        return x**n

    assert double(3.0).item() == 6.0
    assert power(3.0, n=2).item() == other_power(3.0, n=2).item() == 9.0
    assert double.__name__ == "double"


def test_jitted_methods_get_their_instance():
    class Model:
        def __init__(self, factor):
            self.factor = factor

        @fg.jit(static_argnums=0)
        def __call__(self, x):
            return x * self.factor

    assert Model(3.0)(fg.array(2.0)).item() == 6.0


def test_python_control_flow_by_traced_values_is_refused_with_a_remedy():
    with pytest.raises(errors.TracedValueError, match="where"):
        fg.jit(lambda x: x if x > 0 else -x)(1.0)
    with pytest.raises(errors.TracedValueError):
        fg.jit(lambda x: x * float(x))(1.0)
    with pytest.raises(errors.TracedValueError):
        fg.jit(lambda x: numpy.asarray(x))(1.0)


def test_python_control_flow_by_shapes_and_static_values_is_free():
    @fg.jit
    def f(x):
        total = 0.0
        for i in range(x.shape[0]):
            total = total + x[i]
        return total if x.ndim == 1 else -total

    assert f(fnp.arange(4.0)).item() == 6.0


def test_arguments_that_are_no_arrays_are_named():
    with pytest.raises(errors.ArgumentTypeError, match="static"):
        fg.jit(lambda x, how: x)(1.0, "how")


def test_values_leaked_from_a_trace_are_refused_later():
    leaked = []

    @fg.jit
    def f(x):
        leaked.append(x * 2)
        return x

    f(1.0)
    with pytest.raises(errors.LeakedTracerError):
        leaked[0] + 1


def test_donated_arguments_cannot_be_used_again():
    step = fg.jit(lambda state, x: state + x, donate_argnums=0)
    state = fnp.ones(3)
    new = step(state, fnp.ones(3))
    assert new.tolist() == [2.0, 2.0, 2.0]
    assert state.is_deleted()
    with pytest.raises(errors.DonatedArrayError):
        state + 1
    assert not new.is_deleted()


def test_a_donated_argument_that_is_returned_lives_on():
    same = fg.jit(lambda x: x, donate_argnums=0)(fnp.ones(3))
    assert same.tolist() == [1.0, 1.0, 1.0]


# jit and other transforms


def test_jit_of_grad_and_grad_of_jit_agree():
    def f(x):
        return fnp.sum(fnp.sin(x) * x)

    x = fnp.arange(4.0)
    expected = fg.grad(f)(x)
    close(fg.jit(fg.grad(f))(x), expected)
    close(fg.grad(fg.jit(f))(x), expected)
    close(fg.jit(fg.grad(fg.jit(f)))(x), expected)


def test_higher_derivatives_go_through_jit():
    f = fg.jit(lambda x: x**4)
    assert fg.grad(fg.grad(fg.jit(fg.grad(f))))(2.0).item() == 48.0
    assert fg.jvp(fg.grad(f), (2.0,), (1.0,))[1].item() == 48.0
    close(fg.hessian(fg.jit(lambda x: fnp.sum(x**3)))(fg.array([1.0, 2.0])), [[6.0, 0.0], [0.0, 12.0]])


def test_jit_and_vmap_compose_in_both_orders():
    x = fnp.arange(6.0).reshape(2, 3)
    f = lambda row: fnp.tanh(row).sum()
    expected = fg.vmap(f)(x)
    close(fg.jit(fg.vmap(f))(x), expected)
    close(fg.vmap(fg.jit(f))(x), expected)
    close(fg.vmap(fg.jit(f), in_axes=1)(x), fg.vmap(f, in_axes=1)(x))


def test_nested_jits_agree_with_one():
    inner = fg.jit(lambda x: fnp.sin(x) + 1)
    outer = fg.jit(lambda x: inner(inner(x)) * 2)
    close(outer(0.5), 2 * (numpy.sin(numpy.sin(0.5) + 1) + 1))
    close(fg.grad(outer)(0.5), fg.grad(lambda x: (fnp.sin(fnp.sin(x) + 1) + 1) * 2)(0.5))


def test_a_jitted_function_may_close_over_values_of_outer_transforms():
    def f(x):
        return fg.jit(lambda y: x * y**2)(3.0)

    assert fg.grad(f)(2.0).item() == 9.0
    assert fg.vmap(f)(fg.array([1.0, 2.0])).tolist() == [9.0, 18.0]
    assert fg.jit(f)(2.0).item() == 18.0
    assert fg.jit(fg.vmap(fg.grad(f)))(fg.array([1.0, 2.0])).tolist() == [9.0, 9.0]


def test_a_trace_that_closes_over_an_outer_value_is_not_used_again_outside_of_it():
    outer = []

    @fg.jit
    def uses_outer(y):
        return outer[-1] * y

    def f(x):
        outer.append(x)
        return uses_outer(2.0)

    assert fg.grad(f)(3.0).item() == 2.0
    with pytest.raises(errors.LeakedTracerError):
        uses_outer(2.0)


def test_gradients_of_jitted_functions_with_integer_arguments_and_results():
    @fg.jit
    def f(x, n):
        return x * n, n + 1

    (value, count), pull = fg.vjp(f, fg.array(2.0), fg.array(3))
    assert (value.item(), count.item()) == (6.0, 4)
    x_bar, n_bar = pull((fg.array(1.0), None))
    assert x_bar.item() == 3.0
    assert n_bar is None


def test_unused_and_constant_results_of_jitted_functions_differentiate_to_zero():
    f = fg.jit(lambda x, y: (x, 1.0))
    assert fg.grad(lambda x, y: f(x, y)[1] * 2.0, argnums=(0, 1))(1.0, 2.0)[1].item() == 0.0
    _, tangent = fg.jvp(f, (1.0, 2.0), (1.0, 1.0))
    assert tangent[1].item() == 0.0


# Programs


def test_make_program_writes_down_what_a_function_does():
    program = fg.make_program(lambda x, y: fnp.sin(x) * y)(fg.array(1.0), fnp.ones(3))
    assert [equation.primitive.name for equation in program.equations] == ["sin", "mul"]
    assert [repr(aval) for aval in program.in_avals] == ["float32[]", "float32[3]"]
    assert [repr(aval) for aval in program.out_avals] == ["float32[3]"]
    program.check()
    close(program(fg.array(0.5), fnp.ones(3))[0], numpy.sin(0.5) * numpy.ones(3))


def test_a_program_prints_its_primitives_types_and_the_users_lines():
    program = fg.make_program(lambda x: fnp.tanh(x) + 1.0)(fnp.ones(3))
    text = str(program)
    assert "tanh(" in text
    assert "float32[3]" in text
    assert "test_jit.py" in text
    assert "<pre>" in program._repr_html_()


def test_programs_of_static_arguments_and_abstract_ones():
    program = fg.make_program(lambda x, n: x**n, static_argnums=1)(fg.ShapeDtypeStruct((2,), fg.float64), 3)
    assert program.in_avals == (fg.ShapeDtypeStruct((2,), fg.float64),)


def test_a_program_that_is_not_well_typed_is_refused():
    from funcgrad.program import Equation, Program, Variable

    program = fg.make_program(lambda x: fnp.sin(x))(fnp.ones(3))
    (equation,) = program.equations
    wrong = Variable(fg.ShapeDtypeStruct((4,), fg.float32))
    with pytest.raises(errors.ProgramError):
        Program(program.inputs, [Equation(equation.primitive, equation.operands, {}, [wrong])], [wrong]).check()
    with pytest.raises(errors.ProgramError):
        Program([], program.equations, program.outputs).check()
    with pytest.raises(errors.ProgramError):
        Program(program.inputs, [], program.outputs).check()


def test_programs_can_be_differentiated_and_batched_like_functions():
    program = fg.make_program(lambda x: fnp.sin(x) * x)(fg.array(1.0))
    close(fg.grad(lambda x: program(x)[0])(fg.array(0.5)), numpy.cos(0.5) * 0.5 + numpy.sin(0.5))
    assert fg.vmap(lambda x: program(x)[0])(fnp.arange(3.0)).shape == (3,)


def test_lower_shows_the_program_and_compiles_for_one_signature():
    lowered = fg.jit(lambda x: x * 2).lower(fnp.ones(3))
    assert "mul" in lowered.as_text()
    compiled = lowered.compile()
    assert compiled(fnp.ones(3)).tolist() == [2.0, 2.0, 2.0]
    with pytest.raises(errors.ArgumentTypeError):
        compiled(fnp.ones(4))


def test_eval_shape_finds_shapes_and_dtypes_without_computing():
    f = Counted(lambda x, y: {"product": x @ y, "mask": x > 0})
    found = fg.eval_shape(f, fg.ShapeDtypeStruct((1000000, 3), fg.float32), fg.ShapeDtypeStruct((3, 2), fg.float32))
    assert found["product"] == fg.ShapeDtypeStruct((1000000, 2), fg.float32)
    assert found["mask"] == fg.ShapeDtypeStruct((1000000, 3), fg.bool_)
    assert f.runs == 1


def test_eval_shape_reports_shape_errors_as_the_function_would():
    with pytest.raises(errors.ShapeError):
        fg.eval_shape(lambda x: x @ x, fg.ShapeDtypeStruct((2, 3), fg.float32))


def test_a_python_number_that_is_an_argument_is_rounded_to_the_default_dtype():
    x = fg.array(numpy.array([1.0, 3.0]))
    rounded = numpy.array([1.0, 3.0]) * float(numpy.float32(0.1))
    exact = numpy.array([1.0, 3.0]) * 0.1
    assert fg.jit(lambda x, s: x * s)(x, 0.1).tolist() == rounded.tolist()
    assert fg.jit(lambda x: x * 0.1)(x).tolist() == exact.tolist() == (x * 0.1).tolist()
    assert fg.jit(lambda x, s: x * s, static_argnums=1)(x, 0.1).tolist() == exact.tolist()
    assert fg.jit(lambda x, s: x * s)(x, fg.array(0.1, fg.float64)).tolist() == exact.tolist()
