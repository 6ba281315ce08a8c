"""Every mistake that docs/errors.md lists: it raises the stated error, in one sentence, at the user's own line.

`python -m tests.test_errors` writes the table of that page anew.
"""

import inspect
from pathlib import Path

import numpy
import pytest

import funcgrad as fg
import funcgrad.numpy as np
from funcgrad import errors

PAGE = Path(__file__).parent.parent / "docs" / "errors.md"
CASES = {}


def mistake(kind, code):
    """Register a mistake: the class of its error, and the code as the page shows it."""

    def register(function):
        CASES[function.__name__] = (function, kind, code)
        return function

    return register


class Unregistered:
    pass


x = np.arange(6.0).reshape(2, 3)


@mistake(errors.ShapeError, "np.ones(3) + np.ones(4)")
def shapes_that_do_not_broadcast():
    np.ones(3) + np.ones(4)


@mistake(errors.ShapeError, "np.ones((2, 3)) @ np.ones((2, 3))")
def matrix_product_of_wrong_shapes():
    np.ones((2, 3)) @ np.ones((2, 3))


@mistake(errors.ShapeError, "np.ones(6).reshape(4, 2)")
def reshape_to_another_size():
    np.ones(6).reshape(4, 2)


@mistake(errors.ShapeError, "np.concatenate([np.ones((2, 3)), np.ones((2, 4))])")
def concatenate_different_lengths():
    np.concatenate([np.ones((2, 3)), np.ones((2, 4))])


@mistake(errors.DtypeError, "fg.grad(f)(3)")
def gradient_at_an_integer():
    fg.grad(lambda x: x * 2.0)(3)


@mistake(errors.ShapeError, "fg.grad(np.sin)(np.ones(3))")
def gradient_of_an_array():
    fg.grad(np.sin)(np.ones(3))


@mistake(errors.DtypeError, "fg.grad(lambda x: x > 0)(1.0)")
def gradient_of_a_bool():
    fg.grad(lambda x: x > 0)(1.0)


@mistake(errors.TracedValueError, "fg.jit(lambda x: 1 if x > 0 else 2)(1.0)")
def branch_on_a_traced_value():
    fg.jit(lambda x: 1 if x > 0 else 2)(1.0)


@mistake(errors.TracedValueError, "fg.vmap(lambda x: 1.0 if x > 0 else 2.0)(np.ones(3))")
def branch_on_a_batched_value():
    fg.vmap(lambda x: 1.0 if x > 0 else 2.0)(np.ones(3))


@mistake(errors.TracedValueError, "fg.jit(lambda x: float(x))(1.0)")
def float_of_a_traced_value():
    fg.jit(lambda x: float(x))(1.0)


@mistake(errors.TracedValueError, "fg.jit(lambda x: numpy.asarray(x))(1.0)")
def numpy_array_of_a_traced_value():
    fg.jit(lambda x: numpy.asarray(x))(1.0)


@mistake(errors.LeakedTracerError, "fg.jit(lambda x: kept.append(x))(1.0); kept[0] + 1")
def leaked_tracer():
    kept = []
    fg.jit(lambda x: kept.append(x))(1.0)
    kept[0] + 1


@mistake(errors.ImmutableArrayError, "x[0] = 1.0")
def item_assignment():
    x[0] = 1.0


@mistake(errors.OutOfBoundsError, "np.ones(3)[5]")
def index_out_of_range():
    np.ones(3)[5]


@mistake(errors.ArgumentTypeError, "fg.grad(f)({'w': np.ones(3), 'model': Model()})")
def unregistered_class_in_a_pytree():
    fg.grad(lambda p: p["w"].sum())({"w": np.ones(3), "model": Unregistered()})


@mistake(errors.ArgumentTypeError, "fg.jit(f)('relu', x)")
def string_passed_to_jit():
    fg.jit(lambda name, x: x)("relu", x)


@mistake(errors.ArgumentTypeError, "fg.jit(f, static_argnums=0)([1, 2], x)")
def static_argument_without_hash():
    fg.jit(lambda sizes, x: x, static_argnums=0)([1, 2], x)


@mistake(errors.ArgumentError, "fg.vmap(f, in_axes=(0,))(x, y)")
def in_axes_of_wrong_length():
    fg.vmap(lambda x, y: x, in_axes=(0,))(x, x)


@mistake(errors.ShapeError, "fg.vmap(f, in_axes=2)(np.ones((2, 3)))")
def in_axes_beyond_the_array():
    fg.vmap(lambda x: x, in_axes=2)(x)


@mistake(errors.ShapeError, "fg.vmap(f)(np.ones(3), np.ones(4))")
def mapped_axes_of_different_lengths():
    fg.vmap(lambda x, y: x + y)(np.ones(3), np.ones(4))


@mistake(errors.TreeError, "fg.vmap(f, in_axes=({'a': 0},))({'b': x})")
def in_axes_that_are_no_prefix():
    fg.vmap(lambda p: p, in_axes=({"a": 0},))({"b": x})


@mistake(errors.ArgumentError, "fg.grad(f, argnums=1)(x)")
def argnums_without_such_an_argument():
    fg.grad(lambda x: x.sum(), argnums=1)(x)


@mistake(errors.ArgumentError, "fg.jvp(np.sin, (np.ones(3),), (np.ones(4),))")
def tangent_of_another_shape():
    fg.jvp(np.sin, (np.ones(3),), (np.ones(4),))


@mistake(errors.TreeError, "fg.tree.map(f, {'a': 1}, {'b': 1})")
def trees_of_different_structure():
    fg.tree.map(lambda a, b: a, {"a": 1}, {"b": 1})


@mistake(errors.DtypeError, "fg.array(['a', 'b'])")
def array_of_strings():
    fg.array(numpy.array(["a", "b"]))


@mistake(errors.ArgumentTypeError, "np.sin(None)")
def not_an_array():
    np.sin(None)


@mistake(errors.ArgumentTypeError, "if np.ones(3) > 0: ...")
def truth_of_an_array():
    bool(np.ones(3) > 0)


@mistake(errors.DonatedArrayError, "fg.jit(f, donate_argnums=0)(y); y + 1")
def donated_array_used_again():
    y = np.ones(3)
    fg.jit(lambda v: v * 2, donate_argnums=0)(y)
    y + 1


@mistake(errors.UnboundAxisError, "fg.lax.psum(x, 'batch')")
def collective_without_its_axis():
    fg.lax.psum(x, "batch")


@mistake(errors.MissingRuleError, "fg.grad(lambda x: mine(x))(1.0)  # a primitive without a jvp rule")
def primitive_without_a_rule():
    mine = fg.Primitive("mine", evaluate=lambda x: x, abstract=lambda x: x.aval)
    fg.grad(lambda x: mine(x))(1.0)


@mistake(errors.ArgumentTypeError, "fg.jvp(f_with_custom_vjp, (1.0,), (1.0,))")
def forward_mode_of_a_custom_vjp():
    f = fg.custom_vjp(lambda x: x)
    f.defvjp(lambda x: (x, ()), lambda residuals, g: (g,))
    fg.jvp(f, (1.0,), (1.0,))


@pytest.mark.parametrize("name", CASES)
def test_mistake_is_explained_at_the_users_line(name):
    function, kind, _ = CASES[name]
    with pytest.raises(kind) as caught:
        function()
    error = caught.value
    assert type(error) is kind
    lines, first = inspect.getsourcelines(function)
    assert error.source is not None and error.source.file == __file__
    assert first <= error.source.line < first + len(lines)
    assert error.message.endswith(".") and "\n" not in error.message
    assert "_" not in error.message.split("(")[0] or "_axes" in error.message or "__" not in error.message
    assert f"line {error.source.line}" in str(error)


def table() -> str:
    rows = ["| you write | it raises | it says |", "|---|---|---|"]
    for function, kind, code in CASES.values():
        try:
            function()
        except kind as error:
            message = error.message.replace("|", "\\|")
            rows.append(f"| `{code}` | `{kind.__name__}` | {message} |")
    return "\n".join(rows)


def test_the_page_shows_what_the_errors_say():
    assert table() in PAGE.read_text(), "run python -m tests.test_errors to write the table of docs/errors.md anew"


def test_errors_survive_pickling():
    import pickle

    with pytest.raises(errors.ShapeError) as caught:
        shapes_that_do_not_broadcast()
    restored = pickle.loads(pickle.dumps(caught.value))
    assert type(restored) is errors.ShapeError
    assert str(restored) == str(caught.value)


if __name__ == "__main__":
    text = PAGE.read_text()
    start, end = text.index("| you write |"), text.rindex("|\n") + 1
    PAGE.write_text(text[:start] + table() + text[end:])
