"""Programs: what staging writes down, how it prints, what the checker refuses."""

import re

import numpy
import pytest

import funcgrad as fg
import funcgrad.numpy as np
from funcgrad import errors
from funcgrad.primitives.elementwise import add, sin
from funcgrad.program import Equation, Program, Variable, stage


def layer(x, w, b):
    return np.tanh(x @ w + b)


def program_of_layer():
    return fg.make_program(layer)(np.ones((4, 3)), np.ones((3, 2)), np.ones(2))


def test_a_program_prints_types_and_the_users_lines():
    text = str(program_of_layer())
    line = layer.__code__.co_firstlineno + 1
    assert text.splitlines()[0] == "layer(a: float32[4,3], b: float32[3,2], c: float32[2]) ="
    assert re.search(rf"  f: float32\[4,2\] = tanh\(e\) +# test_program.py:{line}\n", text)
    assert text.endswith("  return f")


def test_colours_and_html_only_decorate():
    program = program_of_layer()
    plain = re.sub(r"\x1b\[[0-9;]*m", "", program.pretty(colors=True))
    assert [line.split("#")[0].rstrip() for line in plain.splitlines()] == [
        line.split("#")[0].rstrip() for line in str(program).splitlines()
    ]
    assert "\x1b[" in program.pretty(colors=True)
    assert program._repr_html_().startswith("<pre>")


def test_running_a_program_is_running_the_function():
    arguments = [fg.random.normal(fg.random.key(i), s) for i, s in enumerate([(4, 3), (3, 2), (2,)])]
    program = program_of_layer()
    program.check()
    numpy.testing.assert_array_equal(program(*arguments)[0], layer(*arguments))


def test_a_program_is_transformed_by_running_it_under_another_interpreter():
    program = fg.make_program(lambda x: np.sin(x) * x)(1.0)
    again = fg.make_program(fg.grad(lambda x: program(x)[0]))(1.0)
    again.check()
    numpy.testing.assert_allclose(again(fg.array(2.0))[0], np.sin(2.0) + 2 * np.cos(2.0), rtol=1e-6)


def test_nested_jit_prints_the_inner_program():
    inner = fg.jit(lambda x: x + 1)
    text = str(fg.make_program(lambda x: inner(x) * 2)(np.ones(3)))
    assert "call" in text and "where" in text
    assert "add(" in text and "mul(" in text


def test_constants_are_operands():
    table = np.arange(3.0)
    program = fg.make_program(lambda x: x * table + 1.0)(np.ones(3))
    assert "{constant float32[3]}" in str(program) and "1.0)" in str(program)
    assert len(program.inputs) == 1


def test_the_checker_refuses_what_is_not_well_typed():
    aval = fg.ShapeDtypeStruct((2,), fg.float32)
    x, y = Variable(aval), Variable(aval)
    wrong = Variable(fg.ShapeDtypeStruct((3,), fg.float32))
    with pytest.raises(errors.ProgramError, match="before it is defined"):
        Program([x], [Equation(add, [x, y], {}, [Variable(aval)])], []).check()
    with pytest.raises(errors.ProgramError, match="states"):
        Program([x], [Equation(sin, [x], {}, [wrong])], [wrong]).check()
    with pytest.raises(errors.ProgramError, match="twice"):
        Program([x], [Equation(sin, [x], {}, [y]), Equation(sin, [x], {}, [y])], [y]).check()
    with pytest.raises(errors.ProgramError, match="never defined"):
        Program([x], [], [y]).check()


def test_closing_over_outer_tracers_makes_them_inputs():
    captured = []

    def outer(x):
        program, tracers = stage(lambda y: [x * y + x], [x.aval]).close_over()
        captured.append((len(program.inputs), len(tracers), tracers[0] is x))
        program.check()
        return program(*tracers, x)[0]

    assert float(fg.grad(outer)(3.0)) == 7.0
    assert captured == [(2, 1, True)]


def test_jitted_functions_can_close_over_tracers_of_outer_transforms():
    def outer(x):
        return fg.jit(lambda y: x * y)(x)

    assert float(fg.grad(outer)(3.0)) == 6.0
    assert fg.vmap(fg.grad(outer))(np.arange(3.0)).tolist() == [0.0, 2.0, 4.0]


def test_lowering_shows_the_program_without_running():
    calls = []

    @fg.jit
    def f(x):
        calls.append(1)
        return x * 2

    lowered = f.lower(fg.ShapeDtypeStruct((3,), fg.float32))
    assert len(lowered.program.equations) == 1 and calls == [1]
    assert lowered.compile()(np.ones(3)).tolist() == [2, 2, 2]
    with pytest.raises(errors.ArgumentTypeError, match="compiled for"):
        lowered.compile()(np.ones(4))


def test_eval_shape_computes_nothing():
    found = fg.eval_shape(lambda x: {"y": x @ x.T, "n": np.argmax(x)}, fg.ShapeDtypeStruct((2000, 3000), fg.float32))
    assert repr(found["y"]) == "float32[2000,2000]" and repr(found["n"]) == "int32[]"
