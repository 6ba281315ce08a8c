"""Programs that are one native function: a jitted call does without any Python."""

import numpy
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad.array import wrap
from funcgrad.compiler import compile_program
from funcgrad.compiler.bridge import bridge
from funcgrad.compiler.whole import WholeProgram

X = numpy.linspace(-1, 1, 12, dtype=numpy.float32)


def whole(function, *args):
    return isinstance(compile_program(fg.jit(function).lower(*args).program), WholeProgram)


def short_way_is_native(function):
    return [type(way).__name__ for way in function._short_ways] == ["builtin_function_or_method"]


WHOLE = {
    "one operation": lambda x, y: x + 1,
    "several results": lambda x, y: (x + y, [x * y, {"sum": fnp.sum(x)}]),
    "an unused input": lambda x, y: fnp.tanh(y),
    "an input that comes back": lambda x, y: (y, x + y, x),
    "a result that comes twice": lambda x, y: (lambda z: (z, z))(x * y),
    "a result in another shape": lambda x, y: (fnp.tanh(x).reshape(3, 4), y * 2),
    "a result with more axes": lambda x, y: fnp.exp(x)[:, None],
    "a loop": lambda x, y: fg.lax.fori_loop(0, 3, lambda i, z: z * y, x),
    "a gradient": fg.grad(lambda x, y: fnp.sum(fnp.tanh(x) * y)),
}
IN_PARTS = {
    "both shapes": lambda x, y: (lambda z: (z, z.reshape(3, 4)))(fnp.tanh(x)),
    "two other shapes": lambda x, y: (lambda z: (z.reshape(2, 6), z.reshape(3, 4)))(fnp.tanh(x)),
    "only inputs": lambda x, y: (y, x),
    "only a shape": lambda x, y: x.reshape(3, 4),
    "a constant": lambda x, y: (x + y, fnp.zeros(3)),
    "nothing": lambda x, y: (),
    "a sort between": lambda x, y: fnp.sort(x + y) * 2,
}


@pytest.mark.parametrize("function", [*WHOLE.values(), *IN_PARTS.values()], ids=[*WHOLE, *IN_PARTS])
def test_results_are_those_of_the_reference(function):
    x, y = fg.array(X), fg.array(X[::-1].copy())
    jitted, expected = fg.jit(function), fg.jit(function, compiler="reference")(x, y)
    for _ in range(4):
        got = jitted(x, y)
        assert fg.tree.structure(got) == fg.tree.structure(expected)
        for a, b in zip(fg.tree.leaves(got), fg.tree.leaves(expected), strict=True):
            assert a.shape == b.shape and a.dtype == b.dtype and a.weak_type == b.weak_type
            numpy.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.native
@pytest.mark.skipif(bridge() is None, reason="objects lie in memory in another way")
@pytest.mark.parametrize("function", WHOLE.values(), ids=WHOLE)
def test_a_program_of_one_segment_needs_no_python(function):
    x, y = fg.array(X), fg.array(X[::-1].copy())
    assert whole(function, x, y)
    jitted = fg.jit(function)
    for _ in range(3):
        jitted(x, y)
    assert short_way_is_native(jitted)


def test_buffers_with_gaps_are_read_as_well():
    function = fg.jit(lambda x, y: (x + y, x))
    x, gaps = fg.array(X), wrap(X.repeat(2)[::2])
    for _ in range(4):
        numpy.testing.assert_array_equal(function(x, gaps)[0], X + X)
        numpy.testing.assert_array_equal(function(gaps, x)[0], X + X)


def test_donated_arrays_that_come_back_are_not_lost():
    function = fg.jit(lambda x: (x + 1, x), donate_argnums=0)
    for _ in range(4):
        x = fg.array(X)
        more, same = function(x)
        assert x.is_deleted()
        numpy.testing.assert_array_equal(more, X + 1)
        numpy.testing.assert_array_equal(same, X)
