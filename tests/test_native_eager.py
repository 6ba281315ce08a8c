"""Eager operations as native code: they give what NumPy gives, and leave to Python what is unusual."""

import contextlib
import gc
import inspect
import math
import operator
import os
import subprocess
import sys
import threading
import time

import numpy
import pytest

import funcgrad as fg
import funcgrad.numpy as np
from funcgrad import dtypes
from funcgrad.array import ConcreteArray, WeakArray
from funcgrad.compiler.counter import counter
from funcgrad.compiler.lower_complex import RULES as COMPLEX_RULES
from funcgrad.compiler.lower_elementwise import RULES
from funcgrad.compiler.single import single_program
from funcgrad.core import Primitive
from funcgrad.primitives import elementwise as e
from funcgrad.primitives.operators import FUNCTIONS, METHODS
from funcgrad.program import LinearStep
from funcgrad.transforms.grad import Backward

pytestmark = pytest.mark.native

CALLS = int(os.environ.get("FUNCGRAD_LEAK_CALLS", "20000"))  # a million, to be thorough
SHAPES = [(), (0,), (1,), (7,), (64,), (67,), (3, 5)]
EXACT = frozenset(
    [e.add, e.sub, e.mul, e.neg, e.div, e.rem, e.max_, e.min_, e.abs_, e.sqrt, e.floor, e.ceil, e.round_]
    + [e.trunc, e.nextafter, e.select, e.eq, e.ne, e.lt, e.le, e.gt, e.ge, e.is_finite, e.is_nan, e.sign_bit, e.and_]
    + [e.or_, e.xor, e.not_, e.population_count, e.shift_left, e.shift_right_arithmetic, e.shift_right_logical]
    + [e.real, e.imag, e.conj, e.complex_]
)


@pytest.fixture(autouse=True)
def native():
    """Native code from the first operation on."""
    with fg.config.override(native_after=0, compiler="default"):
        fg.array(1.0) + fg.array(1.0)
        assert counter.eager is not None
        yield counter.eager


@contextlib.contextmanager
def only_native(*primitives):
    """Makes these primitives fail in Python."""
    kept = [x.evaluate for x in primitives]

    def fail(*buffers, **params):
        raise AssertionError("computed in Python")

    try:
        for x in primitives:
            x.evaluate = fail
        yield
    finally:
        for x, evaluate in zip(primitives, kept, strict=True):
            x.evaluate = evaluate


def values(dtype, shape, seed):
    random = numpy.random.default_rng(seed)
    if dtypes.is_bool(dtype):
        return random.random(shape) < 0.5
    if dtypes.is_integer(dtype):
        limits = numpy.iinfo(dtype)
        special = numpy.array([0, 1, limits.max, limits.min, 2, 3], dtype)
        x = random.integers(0 if dtype.kind == "u" else -9, 10, shape).astype(dtype)
    else:
        special = numpy.array([0.0, -0.0, numpy.inf, -numpy.inf, numpy.nan, 1.0, -1.0, 0.5])
        x = 3 * random.standard_normal(shape)
        if dtypes.is_complex(dtype):
            return (x + 1j * random.standard_normal(shape)).astype(dtype)
    with numpy.errstate(all="ignore"):
        x = numpy.asarray(x, dtype)
        special = special.astype(dtype)
    places = random.random(shape) < 0.3
    return numpy.where(places, special[random.integers(0, len(special), shape)], x)


def assert_same(found, wanted, exact):
    assert found.dtype is wanted.dtype or found.dtype == wanted.dtype
    assert found.shape == wanted.shape
    if exact or found.dtype.kind in "biu":
        if dtypes.is_floating(found.dtype):
            found, wanted = found.astype(numpy.float64), wanted.astype(numpy.float64)
        numpy.testing.assert_array_equal(found, wanted)
        if found.dtype.kind == "f":
            numbers = ~numpy.isnan(wanted)
            numpy.testing.assert_array_equal(numpy.signbit(found)[numbers], numpy.signbit(wanted)[numbers])
        return
    if found.dtype.kind == "c":  # a power that overflows may be infinite in one part and NaN in the other
        finite = numpy.isfinite(wanted)
        numpy.testing.assert_array_equal(numpy.isfinite(found), finite)
        found, wanted = found[finite], wanted[finite]
    precision = {"bfloat16": 2e-2, "float16": 4e-3, "float32": 3e-6, "complex64": 2e-5}.get(wanted.dtype.name, 1e-12)
    wide = numpy.complex128 if found.dtype.kind == "c" else numpy.float64
    numpy.testing.assert_allclose(found.astype(wide), wanted.astype(wide), rtol=precision, atol=precision)


def cases():
    for primitive, rule in {**COMPLEX_RULES, **RULES}.items():
        names = [*inspect.signature(rule).parameters]
        if primitive.multiple_results or primitive is e.stop_gradient or {"dtype", "exponent"} & {*names}:
            continue
        for dtype in dtypes.ALL:
            operands = [dtypes.bool_ if primitive is e.select and place == 0 else dtype for place in range(len(names))]
            if single_program(primitive, operands) is not None:
                yield pytest.param(primitive, operands, id=f"{primitive}-{dtype}")


@pytest.mark.parametrize(("primitive", "operands"), [*cases()])
def test_primitives_give_what_evaluate_gives(primitive, operands):
    forms = [[False] * len(operands)]
    forms += [[place == k for place in range(len(operands))] for k in range(len(operands))] * (len(operands) > 1)
    for form in forms:
        for shape in SHAPES:
            buffers = [
                values(dtype, () if is_number else shape, place)
                for place, (dtype, is_number) in enumerate(zip(operands, form, strict=True))
            ]
            if primitive is e.rem and operands[0].kind == "f":  # a quotient of any size takes NumPy minutes
                buffers = [numpy.clip(x, *numpy.array([-1e4, 1e4], x.dtype)) for x in buffers]
            if primitive is e.polygamma:  # whose infinite order means nothing
                buffers[0] = numpy.where(numpy.isinf(buffers[0]), numpy.ones((), dtype=operands[0]), buffers[0])
            with numpy.errstate(all="ignore"):
                wanted = numpy.asarray(primitive.evaluate(*[x.copy() for x in buffers]))
            arrays = [ConcreteArray(numpy.ascontiguousarray(x).reshape(x.shape)) for x in buffers]
            with only_native(primitive):
                found = primitive(*arrays)
            assert type(found) is ConcreteArray
            assert (found.shape, found.dtype) == (found._data.shape, found._data.dtype)
            # Powers and quotients of complex numbers are rounded in another way.
            assert_same(found._data, wanted, primitive in EXACT and operands[-1].kind != "c")


OPERATORS = [
    *[operator.add, operator.sub, operator.mul, operator.truediv, operator.and_, operator.or_, operator.xor],
    *[operator.lshift, operator.rshift, operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge],
    *[operator.pow, operator.floordiv, operator.mod],
]
OTHERS = [
    *[True, 3, -2, 0, 1000, 2**40, 2.5, -0.0, 1e300, float("nan"), 1j],
    *[numpy.float32(2.0), numpy.arange(1, 5), numpy.int64(3), "text", None, [1, 2, 3, 4]],
]


BROADCASTING = [
    *[
        ((2, 3), (2, 1)),
        ((2, 3), (1, 3)),
        ((2, 1), (1, 3)),
        ((2, 1), (3,)),
        ((4, 1, 3), (2, 1)),
        ((4, 2, 1, 5), (2, 3, 1)),
    ],
    *[((1, 1), (1,)), ((1, 3), (3,)), ((0, 3), (1, 1)), ((3, 0), (3, 1)), ((2, 1, 2, 1, 2), (1, 3, 1, 3, 1))],
    *[((300, 1), (1, 200)), ((200, 300), (200, 1)), ((1, 70000), (1,)), ((1, 1, 7), (2, 1, 7)), ((2, 1), (2, 3), (3,))],
]


@pytest.mark.parametrize("shapes", BROADCASTING, ids=str)
def test_shapes_broadcast(shapes):
    for order in (shapes, shapes[::-1]):
        x, y, *rest = [numpy.arange(math.prod(shape), dtype=numpy.float32).reshape(shape) for shape in order]
        with only_native(e.sub, e.select, e.convert):
            found = fg.array(x) - fg.array(y)
            mixed = fg.array(x) - fg.array(y.astype(numpy.float64))
            chosen = e.select(fg.array(x > 1), fg.array(y), fg.array(rest[0] if rest else x))
        assert_same(found._data, x - y, True)
        assert found.shape == found._data.shape
        assert_same(mixed._data, x - y.astype(numpy.float64), True)
        assert_same(chosen._data, numpy.where(x > 1, y, rest[0] if rest else x), True)


def test_nine_axes_are_left_to_numpy():
    x, y = numpy.ones((1,) * 8 + (2,), numpy.float32), numpy.ones((2,) * 9, numpy.float32)
    assert_same((fg.array(x) + fg.array(y))._data, x + y, True)


def test_mixed_dtypes_are_native():
    x, i = fg.array([1.5, 2.5]), fg.array([3, -4])
    with only_native(e.add, e.mul, e.div, e.convert, e.max_, e.select):
        assert str(x * i) == "[  4.5 -10. ]"
        assert (x + fg.array(numpy.array([1e-9, 1.0]))).dtype == fg.float64
        assert str(i + 0.5) == "[ 3.5 -3.5]" and str((i > 0) * 2) == "[2 0]"
        assert str(np.maximum(i, 0.5)) == "[3.  0.5]" and str(np.where(i > 0, i, 0.25)) == "[3.   0.25]"
        # A number is rounded once, to the dtype that it meets.
        assert (fg.array(numpy.array([0.0])) + 0.1).tolist() == [0.1]
    assert (fg.array(numpy.array([1], numpy.uint8)) + WeakArray(numpy.array(2, numpy.int32))).dtype == fg.uint8


def outcome(function, *arguments):
    """What a function gives, or what it raises."""
    try:
        with numpy.errstate(all="ignore"):
            result = function(*arguments)
    except Exception as error:
        return type(error), str(error)
    return result


def assert_same_outcome(found, wanted):
    if isinstance(wanted, tuple) or not isinstance(wanted, fg.Array):
        assert found == wanted
        return
    assert type(found) is type(wanted)
    assert found.weak_type is wanted.weak_type
    assert_same(numpy.asarray(found), numpy.asarray(wanted), False)


@pytest.mark.parametrize("apply", OPERATORS, ids=lambda x: x.__name__)
@pytest.mark.parametrize("dtype", dtypes.ALL, ids=str)
def test_operators_give_what_python_gives(apply, dtype):
    x = fg.array(numpy.array([1, 2, 3, 4]).astype(dtype))
    others = [x, x[1], x[:1], x[:, None], x.reshape(2, 2), WeakArray(numpy.array(2, dtypes.float32)), *OTHERS]
    others += [fg.array(numpy.array([4, 3, 2, 1]).astype(other)) for other in dtypes.ALL]
    for other in others:
        for pair in ([x, other], [other, x]):
            if isinstance(pair[0], (numpy.ndarray, numpy.generic)) and apply in (operator.eq, operator.ne):
                continue
            with fg.config.override(native_after=None):
                wanted = outcome(apply, *pair)
            assert_same_outcome(outcome(apply, *pair), wanted)


@pytest.mark.parametrize("direct", FUNCTIONS, ids=lambda x: x.name)
def test_functions_give_what_python_gives(direct):
    function = getattr(np, direct.name)
    for dtype in dtypes.ALL:
        x, y = (fg.array(numpy.array([1, 0, 3, 2], dtype=dtype)[order]) for order in ([0, 1, 2, 3], [3, 2, 1, 0]))
        z = fg.array(numpy.ones(4, numpy.float32))
        others = [[]] if direct.arity == 1 else [[y], [y[0]], [2], [0.5], [x.reshape(2, 2)], [z]]
        if direct.arity == 3:
            others = [[*first, *last] for first in others for last in ([x], [z], [1], [2.5])]
        for rest in others:
            wanted = outcome(direct.usual, x, *rest)
            assert_same_outcome(outcome(function, x, *rest), wanted)
    wrong = outcome(function, *[x] * (direct.arity + 1))
    assert wrong[0] is TypeError


@pytest.mark.parametrize("dtype", dtypes.ALL, ids=str)
def test_functions_of_several_primitives_are_one_kernel(dtype):
    x = fg.array(values(dtype, (50,), 0))
    y = fg.array(values(dtype, (50,), 1))
    for apply in (operator.floordiv, operator.mod, operator.truediv, np.square, np.reciprocal, np.sqrt):
        arguments = [x] if isinstance(apply, type(np.square)) else [x, y]
        if dtypes.is_floating(dtype) and apply in (operator.floordiv, operator.mod):
            arguments = [np.clip(x, -1e4, 1e4) for x in arguments]
        with fg.config.override(native_after=None):
            wanted = outcome(apply, *arguments)
        with only_native(e.div, e.rem, e.mul, e.sqrt) if isinstance(wanted, fg.Array) else contextlib.nullcontext():
            found = outcome(apply, *arguments)
        assert_same_outcome(found, wanted)


def test_functions_are_still_functions():
    assert inspect.signature(np.tanh) == inspect.signature(np.exp)
    assert np.tanh.__name__ == "tanh"
    assert np.tanh.__doc__.startswith("The hyperbolic tangent")


def test_everything_common_is_native():
    x, y = (fg.array(numpy.arange(6, dtype=numpy.float32).reshape(2, 3) + k) for k in (1, 2))
    row = fg.array(numpy.ones(3, numpy.float32))
    everything = [e.add, e.sub, e.mul, e.div, e.lt, e.neg, e.abs_, e.tanh, e.max_, e.pow_, e.select]
    with only_native(*everything):
        _ = (x + y, x + 1, 1 + x, x - 1.5, 1.5 - x, x * y, x / 2, 2 / x, x < y, x < 0, -x, abs(x), x**y, x**0.5)
        _ = (np.tanh(x), np.maximum(x, y), np.maximum(x, 0), np.add(x, y), np.power(x, y), np.where(x < y, x, y))
        _ = (x + row, row + x, x * row)


@pytest.mark.parametrize("shape", [(4, 3), (2, 4, 3), (0, 3), (4, 0), (5000, 33)])
def test_rows_that_are_repeated(shape):
    x = numpy.arange(numpy.prod(shape), dtype=numpy.float32).reshape(shape)
    for axes in range(1, len(shape) + 1):
        y = numpy.arange(numpy.prod(shape[-axes:]), dtype=numpy.float32).reshape(shape[-axes:]) + 1
        a, b = fg.array(x), fg.array(y)
        with only_native(e.sub, e.lt, e.select):
            numpy.testing.assert_array_equal(a - b, x - y)
            numpy.testing.assert_array_equal(b - a, y - x)
            numpy.testing.assert_array_equal(a < b, x < y)
            numpy.testing.assert_array_equal(e.select(a < b, b, a), numpy.where(x < y, y, x))


def test_large_arrays_run_on_several_threads():
    x = numpy.random.default_rng(0).standard_normal(1_000_003, numpy.float32)
    a = fg.array(x)
    with only_native(e.add, e.tanh):
        numpy.testing.assert_array_equal(a + a, x + x)
        results = []
        for threads in (1, 2, 3):
            with fg.config.override(threads=threads):
                results.append(numpy.asarray(np.tanh(a)))
    numpy.testing.assert_array_equal(results[0], results[1])
    numpy.testing.assert_array_equal(results[0], results[2])


class Subclass(numpy.ndarray):
    pass


UNUSUAL = {
    "not in order": lambda x: numpy.asfortranarray(x),
    "with gaps": lambda x: numpy.repeat(x, 2, 0)[::2],
    "backward": lambda x: x[::-1],
    "not aligned": lambda x: numpy.frombuffer(b"x" + x.tobytes(), numpy.uint8)[1:].view(x.dtype).reshape(x.shape),
    "a subclass": lambda x: x.view(Subclass),
    "read only": lambda x: numpy.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
}


@pytest.mark.parametrize("change", UNUSUAL.values(), ids=UNUSUAL)
def test_unusual_buffers(change):
    x = numpy.arange(12, dtype=numpy.float32).reshape(4, 3)
    changed = change(x)
    a, b = ConcreteArray(changed), fg.array(x)
    for found, wanted in [(a + b, changed + x), (b + a, x + changed), (-a, -changed), (a * 2.0, changed * 2)]:
        numpy.testing.assert_array_equal(found, wanted)
    numpy.testing.assert_allclose(np.exp(a), numpy.exp(numpy.asarray(changed)), rtol=1e-6)


def test_numbers_that_do_not_fit():
    x = fg.array(numpy.array([1, 2], numpy.int8))
    for number in (128, -129, 2**70):
        with pytest.raises(fg.errors.DtypeError, match="does not fit into int8"):
            x + number
    with pytest.raises(fg.errors.DtypeError, match="does not fit into uint8"):
        fg.array(numpy.array([1], numpy.uint8)) + -1
    big = fg.array(numpy.array([1], numpy.uint64))
    assert (big + (2**64 - 2)).item() == 2**64 - 1
    assert (x + 126).tolist() == [127, -128]
    assert (fg.array([1.0]) * 1e300).item() == numpy.inf
    assert (fg.array(numpy.array([1.0])) * 2**60).item() == 2.0**60


def test_errors_are_those_of_python():
    x, y = fg.array(numpy.ones(3, numpy.float32)), fg.array(numpy.ones(4, numpy.float32))
    with pytest.raises(fg.errors.ShapeError, match="do not broadcast"):
        x + y
    with pytest.raises(fg.errors.ShapeError, match="do not broadcast"):
        np.maximum(x, y)
    with pytest.raises(TypeError):
        x + "text"
    gone = fg.array(numpy.ones(3, numpy.float32))
    gone.delete()
    for use in (lambda: gone + x, lambda: x + gone, lambda: np.exp(gone), lambda: -gone, lambda: e.exp(gone)):
        with pytest.raises(fg.errors.DonatedArrayError):
            use()
    empty = ConcreteArray.__new__(ConcreteArray)
    for use in (lambda: empty + x, lambda: x + empty, lambda: np.exp(empty), lambda: e.exp(empty)):
        with pytest.raises(AttributeError):
            use()


def test_a_tracer_that_got_out_is_an_error():
    kept = []
    fg.grad(lambda x: (kept.append(x), x * 2.0)[1])(1.0)
    x = fg.array(numpy.ones(3, numpy.float32))
    for use in (lambda: x + kept[0], lambda: kept[0] + x, lambda: e.add(x, kept[0])):
        with pytest.raises(fg.errors.LeakedTracerError):
            use()


def test_an_interruption_is_not_computed_again():
    calls = []

    def evaluate(x, *, error):
        calls.append(1)
        raise error("stop")

    primitive = Primitive("stops", evaluate=evaluate)
    with pytest.raises(KeyboardInterrupt):
        primitive(fg.array(1.0) + fg.array([1.0]), error=KeyboardInterrupt)
    assert len(calls) == 1
    with pytest.raises(ValueError, match="stop"):
        primitive(fg.array([1.0]), error=ValueError)


def test_the_call_of_a_primitive():
    identity = Primitive("same", evaluate=lambda x, *rest, **params: x)
    x = fg.array(numpy.ones((2, 3), numpy.float32))
    assert identity(x)._data is x._data
    assert identity(x, x, size=3, shape=None).shape == (2, 3)
    turned = Primitive("turned", evaluate=lambda x: x.T)(x)
    assert (turned.shape, turned.dtype, type(turned)) == ((3, 2), fg.float32, ConcreteArray)
    total = Primitive("total", evaluate=lambda x: x.sum())(x)
    assert (total.shape, total.item()) == ((), 6.0)
    several = Primitive("several", evaluate=lambda x: [x, x.T], multiple_results=True)
    assert [y.shape for y in several(x)] == [(2, 3), (3, 2)]
    with pytest.raises(fg.errors.MissingRuleError):
        Primitive("nothing")(x)
    assert Primitive.__call__(e.add, x, x).tolist() == (x + x).tolist()


def loss(w, x):
    return np.sum(np.tanh(x @ w["a"] + w["b"]) * 2.0 - np.exp(-abs(x @ w["a"])) / 3)


def test_transforms_give_what_python_gives():
    random = numpy.random.default_rng(0)
    w = {"a": fg.array(random.standard_normal((3, 4), numpy.float32)), "b": fg.array(numpy.ones(4, numpy.float32))}
    x = fg.array(random.standard_normal((5, 3), numpy.float32))
    functions = [
        fg.value_and_grad(loss),
        fg.grad(loss, argnums=(0, 1)),
        lambda w, x: fg.jvp(lambda x: loss(w, x), (x,), (x,)),
        lambda w, x: fg.hessian(lambda b: loss({**w, "b": b}, x))(w["b"]),
        lambda w, x: fg.vmap(fg.grad(loss, argnums=1), in_axes=(None, 0))(w, x),
        lambda w, x: fg.grad(lambda x: fg.vmap(lambda row: loss(w, row))(x).sum())(x),
        lambda w, x: fg.jit(fg.grad(loss))(w, x),
        lambda w, x: fg.linearize(lambda x: loss(w, x), x)[1](x),
        lambda w, x: fg.vjp(lambda x: x @ w["a"] + w["b"], x)[1](np.ones((5, 4))),
        lambda w, x: fg.linear_transpose(lambda x: 3.0 * x + x, x)(x),
    ]
    for function in functions:
        found = fg.tree.leaves(function(w, x))
        with fg.config.override(native_after=None):
            wanted = fg.tree.leaves(function(w, x))
        for a, b in zip(found, wanted, strict=True):
            numpy.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)
            assert (type(a), a.dtype) == (type(b), b.dtype)


def in_python(monkeypatch):
    """Reverse mode as it is written in Python."""
    monkeypatch.setattr(Primitive, "__call__", counter.python_call)
    monkeypatch.setattr(LinearStep, "__call__", counter.eager.python_step)
    monkeypatch.setattr(Backward, "__call__", counter.eager.python_backward)


def test_what_is_recorded_is_the_same_as_in_python(monkeypatch):
    x = fg.array(numpy.ones((2, 3), numpy.float32))

    def record():
        return str(fg.linearize(lambda x: np.sum(np.tanh(x @ x.T) * x[0, 0] + 1.0, axis=0), x)[1].program)

    native = record()
    in_python(monkeypatch)
    assert record() == native


def test_rules_that_are_wrong():
    x = fg.array(numpy.ones(3, numpy.float32))
    broken = Primitive("broken", evaluate=lambda x: x, abstract=lambda x: x.aval)
    with pytest.raises(fg.errors.MissingRuleError):
        fg.grad(lambda x: broken(x).sum())(x)

    def fails(primals, tangents):
        raise ZeroDivisionError("in the rule")

    broken.jvp = fails
    for _ in range(3):
        with pytest.raises(ZeroDivisionError, match="in the rule"):
            fg.grad(lambda x: broken(x).sum())(x)
        assert fg.core.current_interpreter() is fg.core.ground
    for wrong in (3, (x,), (x, x, x)):
        broken.jvp = lambda primals, tangents, wrong=wrong: wrong
        with pytest.raises(TypeError, match="tuple of the result"):
            fg.grad(lambda x: broken(x).sum())(x)
    broken.jvp = lambda primals, tangents: (broken(*primals), broken(*tangents))
    with pytest.raises(fg.errors.MissingRuleError, match="transpose"):
        fg.grad(lambda x: broken(x).sum())(x)
    broken.transpose = lambda cotangent, x: (cotangent,)
    assert fg.grad(lambda x: broken(x).sum())(x).tolist() == [1, 1, 1]
    broken.transpose = lambda cotangent, x: [cotangent, None]
    with pytest.raises(ValueError, match="one cotangent"):
        fg.grad(lambda x: broken(x).sum())(x)
    broken.transpose = lambda cotangent, x: fails(None, None)
    with pytest.raises(ZeroDivisionError):
        fg.grad(lambda x: broken(x).sum())(x)


def test_the_reference_is_numpy(monkeypatch):
    x = fg.array(numpy.linspace(-2, 2, 50, dtype=numpy.float32))
    for setting in ({"compiler": "reference"}, {"native_after": None}):
        with fg.config.override(**setting):
            numpy.testing.assert_array_equal(np.tanh(x), numpy.tanh(numpy.asarray(x)))
            with only_native(e.tanh, e.mul), pytest.raises(AssertionError):
                np.tanh(x)
    with only_native(e.tanh):
        np.tanh(x)


def test_interpreters_of_users_see_everything():
    names = []

    class Log(fg.Interpreter):
        def interpret(self, primitive, operands, params):
            names.append(primitive.name)
            return primitive(*operands, **params)

    x = fg.array(numpy.ones(3, numpy.float32))
    with Log():
        np.tanh(x * 2) + x
    assert names == ["mul", "tanh", "add"]
    assert "mul" in str(fg.make_program(lambda y: y + x * x)(x))


def test_warnings_are_not_given():
    x = fg.array(numpy.array([0.0, -1.0, 1e38], numpy.float32))
    with numpy.errstate(all="raise"):
        found = [x / 0.0, np.log(x), x * x, np.sqrt(x), fg.array([1]) / 0, 1e300 * x]
    assert [y.shape for y in found] == [(3,), (3,), (3,), (3,), (1,), (3,)]


# References


def paths():
    x = fg.array(numpy.ones((4, 3), numpy.float32))
    y = fg.array(numpy.ones((4, 3), numpy.float32))
    row, number = fg.array(numpy.ones(3, numpy.float32)), fg.array(numpy.array(2, numpy.float32))
    large = fg.array(numpy.ones(40000, numpy.float32))
    turned, gone = ConcreteArray(x._data.T), fg.array(numpy.ones(3, numpy.float32))
    gone.delete()
    w = {"a": fg.array(numpy.ones((3, 3), numpy.float32)), "b": row}
    gradient, tangent = fg.grad(loss), np.ones((4, 3))
    failing = Primitive("failing", evaluate=lambda x: 1 / 0, jvp=lambda primals, tangents: 1 / 0)
    pairless = Primitive("pairless", evaluate=lambda x: x, jvp=lambda primals, tangents: primals[0])

    def caught(function, error):
        def call():
            try:
                function()
            except error:
                return
            raise AssertionError

        return call

    return {
        "arrays": (1, lambda: x + y),
        "a Python number": (1, lambda: x * 2.5),
        "a reflected one": (1, lambda: 3 - x),
        "a number": (1, lambda: x * number),
        "numbers": (1, lambda: number * number),
        "rows": (1, lambda: x + row),
        "one operand": (1, lambda: -x),
        "a function": (1, lambda: np.tanh(x)),
        "a function of two": (1, lambda: np.maximum(x, y)),
        "a primitive": (1, lambda: e.mul(x, y)),
        "of three": (1, lambda: e.select(x < y, x, y)),
        "evaluate": (1, lambda: fg.primitives.shapes.reshape(x, shape=(3, 4))),
        "evaluate to a number": (1, lambda: fg.primitives.shapes.reduce_sum(x, axes=(0, 1))),
        "several threads": (20, lambda: large + large),
        "unusual": (5, lambda: turned + turned),
        "other dtypes": (10, lambda: x + fg.array(1.5)),
        "shapes that do not fit": (50, caught(lambda: x + turned, fg.errors.ShapeError)),
        "donated": (50, caught(lambda: x + gone, fg.errors.DonatedArrayError)),
        "no operand": (20, caught(lambda: x + None, TypeError)),
        "too many operands": (20, caught(lambda: np.tanh(x, x), TypeError)),
        "evaluate that fails": (50, caught(lambda: failing(x), ZeroDivisionError)),
        "a gradient": (50, lambda: gradient(w, x)),
        "forward mode": (50, lambda: fg.jvp(lambda x: loss(w, x), (x,), (tangent,))),
        "a rule that fails": (50, caught(lambda: fg.grad(lambda x: failing(x).sum())(x), ZeroDivisionError)),
        "a rule without a pair": (50, caught(lambda: fg.grad(lambda x: pairless(x).sum())(x), TypeError)),
        "nested gradients": (200, lambda: fg.grad(lambda x: fg.grad(lambda x: (x * x).sum())(x).sum())(x)),
    }


PATHS = list(paths())
CONSTANTS = [None, True, False, (), 0, 1, dtypes.float32, dtypes.bool_, ConcreteArray, numpy.ndarray, fg.core.ground]


def numpy_loses_references():
    """Whether `numpy.dot` leaves a reference to the dtype behind each time, as NumPy 2.5 does in Python 3.12."""
    x = numpy.ones((3, 3), numpy.float32)
    before = sys.getrefcount(dtypes.float32)
    for _ in range(100):
        x.dot(x)
    return sys.getrefcount(dtypes.float32) - before >= 100


@pytest.mark.parametrize("path", PATHS)
def test_references_are_balanced(path):
    cost, call = paths()[path]
    if path in ("a gradient", "forward mode") and numpy_loses_references():
        pytest.skip("products of NumPy are among them, which lose references")
    times = max(CALLS // cost, 1500)
    for _ in range(20):
        call()
    gc.collect()
    before, objects, blocks = [sys.getrefcount(x) for x in CONSTANTS], len(gc.get_objects()), sys.getallocatedblocks()
    for _ in range(times):
        call()
    gc.collect()
    after = [sys.getrefcount(x) for x in CONSTANTS]
    assert max(abs(a - b) for a, b in zip(before, after, strict=True)) < 30, dict(zip(CONSTANTS, after, strict=True))
    assert len(gc.get_objects()) - objects < 30
    # Python and NumPy keep some blocks for later, in number a few hundred however often this is called.
    assert sys.getallocatedblocks() - blocks < 700


def test_operands_are_not_kept():
    x, y = (fg.array(numpy.ones(5, numpy.float32)) for _ in range(2))
    parts = [x, y, x._data, y._data, x.shape, x.dtype]

    def use():
        x + y
        np.exp(x)
        e.mul(x, y)
        fg.grad(lambda x: (x * y).sum())(x)

    use()  # for which kernels are made
    before = [sys.getrefcount(part) for part in parts]
    for _ in range(100):
        use()
    assert [sys.getrefcount(part) for part in parts] == before
    result = x + y
    assert sys.getrefcount(result) == 2
    assert sys.getrefcount(result._data) == sys.getrefcount(fg.array([1.0])._data)
    assert not gc.is_tracked(result)


def test_results_own_their_memory():
    x = fg.array(numpy.ones((3, 4), numpy.float32))
    result = (x + x)._data
    assert result.flags.owndata
    assert result.flags.writeable
    assert result.flags.c_contiguous
    assert result.base is None


def test_too_large_results_are_a_memory_error():
    zero = numpy.zeros(1, numpy.int8)
    wide = numpy.lib.stride_tricks.as_strided(zero, (1 << 45,), (0,))
    with pytest.raises(MemoryError):
        ConcreteArray(wide) + ConcreteArray(wide)


# Threads


def test_many_threads_at_once():
    x = fg.array(numpy.arange(100, dtype=numpy.float32))
    large = fg.array(numpy.arange(200_000, dtype=numpy.float32))
    wanted, wanted_large = numpy.asarray(x) * 2, numpy.asarray(large) * 2
    errors = []

    def work():
        try:
            for _ in range(100):
                numpy.testing.assert_array_equal(x + x, wanted)
                numpy.testing.assert_array_equal(large + large, wanted_large)
                assert fg.grad(lambda x: (x * x).sum())(x).tolist() == wanted.tolist()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def test_other_threads_run_while_large_arrays_are_computed():
    x = fg.array(numpy.random.default_rng(0).random(4_000_000, numpy.float32))
    np.tanh(x)
    ticks, stop = [], threading.Event()

    def tick():
        while not stop.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0)

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        for _ in range(20):
            start = time.perf_counter()
            np.tanh(x)
            end = time.perf_counter()
            if sum(start < t < end for t in ticks) > 2:
                return
    finally:
        stop.set()
        thread.join()
    raise AssertionError("no other thread ran")


def test_an_operand_that_is_deleted_meanwhile_stays():
    x = fg.array(numpy.random.default_rng(0).random(4_000_000, numpy.float32))
    wanted = numpy.tanh(numpy.asarray(x)[:5])
    for _ in range(5):
        y = fg.array(numpy.asarray(x))
        thread = threading.Thread(target=y.delete)
        thread.start()
        with contextlib.suppress(fg.errors.DonatedArrayError):
            numpy.testing.assert_allclose(np.tanh(y)[:5], wanted, rtol=1e-5)
        thread.join()


# When it begins


def run(code, **environment):
    settings = {**os.environ, "FUNCGRAD_CHECK_ANNOTATIONS": "0", **environment}
    subprocess.run([sys.executable, "-c", code], check=True, env=settings, timeout=100)


COUNTING = """
import sys
import funcgrad as fg
from funcgrad.array import ConcreteArray
from funcgrad.compiler.counter import counter
from funcgrad.primitives import elementwise as e
x = fg.array([1.0, 2.0])
for _ in range(30):
    assert (x + x).tolist() == [2, 4]
assert counter.eager is None
assert "funcgrad.compiler.llvm_library" not in sys.modules and "funcgrad.compiler.eager" not in sys.modules
for _ in range(60):
    assert (x + x).tolist() == [2, 4]
"""

KERNELS = """
assert counter.eager is not None
fg.grad(lambda x: (x * x).sum())(x)
for _ in range(60):
    assert (x + x).tolist() == [2, 4]
e.add.evaluate = None
assert (x + x).tolist() == [2, 4]
"""

FORKING = """
import os
for _ in range(40):
    x + x
child = os.fork()
for _ in range(60):
    assert (x + x).tolist() == [2, 4]
if not child:
    os._exit(0)
assert counter.eager is not None
assert os.waitpid(child, 0)[1] == 0
"""


def test_native_code_comes_after_some_operations():
    run(COUNTING + KERNELS, FUNCGRAD_NATIVE_AFTER="50")
    run(COUNTING + "assert counter.eager is None", FUNCGRAD_NATIVE_AFTER="never")
    reference = {"FUNCGRAD_COMPILER": "reference", "FUNCGRAD_NATIVE_AFTER": "0"}
    run(COUNTING + "assert counter.eager is None", **reference)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_process_may_fork_when_native_code_is_loaded():
    head = COUNTING[: COUNTING.index("for _ in range(30)")]
    for cache in (os.environ["FUNCGRAD_CACHE"], "off"):
        run(head + FORKING, FUNCGRAD_NATIVE_AFTER="30", FUNCGRAD_CACHE=cache)


FORKING_MEANWHILE = """
import os, threading, time
import funcgrad as fg
import funcgrad.compiler.eager as eager
from funcgrad.compiler.counter import counter
activate, begun = eager.activate, threading.Event()
def slowly(*arguments):
    begun.set()
    time.sleep(0.2)
    return activate(*arguments)
eager.activate = slowly
x = fg.array([1.0, 2.0])
thread = threading.Thread(target=lambda: [x + x for _ in range(60)])
thread.start()
begun.wait()
child = os.fork()
assert (x + x).tolist() == [2, 4]
assert counter.eager is not None
if not child:
    os._exit(0)
thread.join()
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_process_may_fork_while_native_code_is_being_loaded():
    run(FORKING_MEANWHILE, FUNCGRAD_NATIVE_AFTER="30")


def test_large_arrays_count_more():
    code = (
        COUNTING[: COUNTING.index("x = fg")]
        + """
import numpy
x = fg.array(numpy.ones(100_000, numpy.float32))
for _ in range(20):
    x + x
assert counter.eager is not None
x + x
e.add.evaluate = None
x + x
"""
    )
    run(code, FUNCGRAD_NATIVE_AFTER="1000")


def test_another_layout_of_objects_leaves_everything_to_python():
    code = """
import funcgrad.compiler.bridge.layout as layout
layout.ARRAY_LAYOUT["data"] = 24
import funcgrad as fg
from funcgrad.compiler.counter import counter
from funcgrad.core import Primitive
x = fg.array([1.0, 2.0])
for _ in range(5):
    assert (x + x).tolist() == [2, 4] and fg.grad(lambda x: (x * x).sum())(x).tolist() == [2, 4]
assert counter.eager is None and Primitive.__call__ is counter.python_call
"""
    run(code, FUNCGRAD_NATIVE_AFTER="0")


@pytest.mark.parametrize("bits", ["0", "128", "256"])
def test_narrower_vectors(bits):
    code = """
import numpy, funcgrad as fg, funcgrad.numpy as np
for n in [*range(70), 1000]:
    for dtype in ("float32", "float64", "int8", "bool", "float16", "bfloat16", "int32"):
        x = fg.array(numpy.arange(n) % 100).astype(dtype)
        if dtype == "bool":
            assert ((x & ~x)._data == False).all()
            continue
        assert ((x + x)._data == x._data + x._data).all() and ((x < 3)._data == (x._data < 3)).all()
        if dtype.startswith("float"):
            assert numpy.allclose(np.exp(-x)._data, numpy.exp(-x._data), rtol=1e-3)
"""
    run(code, FUNCGRAD_NATIVE_AFTER="0", FUNCGRAD_VECTOR_BITS=bits)


def test_methods_are_known_by_their_names():
    for direct in METHODS:
        method = getattr(ConcreteArray, direct.name)
        assert method.__name__ == direct.name
        assert method.__qualname__ == f"ConcreteArray.{direct.name}"
