"""simplify: a Program in fewer equations gives the same results, bit for bit; and how Programs are run."""

import sys
import warnings
import weakref

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad import dtypes, errors, lax
from funcgrad.array import ConcreteArray
from funcgrad.compiler import compile_program, execute, simplify
from funcgrad.compiler.simplify import DENSE, ORDERED, Simplifier
from funcgrad.core import Primitive
from funcgrad.primitives import elementwise as ew
from funcgrad.primitives import reductions
from funcgrad.primitives.contraction import dot_general
from funcgrad.primitives.counting import iota
from funcgrad.primitives.movement import concatenate, pad, rev, slice_
from funcgrad.primitives.shapes import broadcast_in_dim, broadcast_to, reduce_sum, reshape, transpose
from funcgrad.primitives.sorting import sort
from funcgrad.program import Variable, stage

FLOAT = fg.ShapeDtypeStruct((2, 3), fg.float32)


def names(program):
    return [equation.primitive.name for equation in program.equations]


def simplified_names(function, *arguments):
    """The primitives that are left of a function."""
    return names(simplify(fg.make_program(function)(*arguments)))


# What is left out


def test_what_no_result_depends_on_is_left_out():
    def f(x):
        fnp.sin(x)
        return fnp.cos(x)

    assert simplified_names(f, FLOAT) == ["cos"]


def test_what_is_computed_twice_is_computed_once():
    assert simplified_names(lambda x: fnp.sin(x) * fnp.sin(x), FLOAT) == ["sin", "mul"]
    assert simplified_names(lambda x: fnp.sum(x, 0) + fnp.sum(x, 0), FLOAT) == ["reduce_sum", "add"]
    assert simplified_names(lambda x: fnp.sum(x, 0)[:2] + fnp.sum(x, 1), FLOAT).count("reduce_sum") == 2


def test_numbers_are_the_same_only_by_their_bits_and_dtypes():
    zero, negative_zero = fg.array(0.0), fg.array(-0.0)
    plus, minus = fg.jit(lambda x: (ew.mul(x, zero), ew.mul(x, negative_zero)))(fg.array(1.0))
    assert (bool(numpy.signbit(plus)), bool(numpy.signbit(minus))) == (False, True)
    f = lambda x: (fnp.maximum(x, 2), fnp.maximum(x, 2.0), fnp.maximum(x, fg.array(2.0)), fnp.maximum(x, 3.0))
    assert simplified_names(f, FLOAT) == ["max", "max"]
    assert simplified_names(lambda: (fg.array(1) + 2, fg.array(1.0) + 2)) == []


def test_parameters_of_other_types_are_other_parameters():
    def primitive(setting):
        return lambda x: by_setting(x, setting=setting)

    by_setting = Primitive("by_setting", abstract=lambda x, *, setting: x.aval, evaluate=lambda x, *, setting: x)
    for first, second in [(1, True), (1, 1.0), (0.0, -0.0), ((1,), (1.0,)), ((1,), [1])]:
        both = lambda x, first=first, second=second: (primitive(first)(x), primitive(second)(x))
        assert len(simplified_names(both, FLOAT)) == 2
    assert len(simplified_names(lambda x: (primitive((1, "a"))(x), primitive((1, "a"))(x)), FLOAT)) == 1
    array = numpy.ones(2)
    assert len(simplified_names(lambda x: (primitive(array)(x), primitive(array)(x)), FLOAT)) == 1
    assert len(simplified_names(lambda x: (primitive(array)(x), primitive(array.copy())(x)), FLOAT)) == 2


@pytest.mark.native
def test_operations_that_carry_python_functions_are_not_merged_or_computed_ahead():
    calls = []

    def evaluate(x, *, function):
        function()
        return x

    tell = Primitive("tell", abstract=lambda x, *, function: x.aval, evaluate=evaluate, carries_functions=True)

    def f(x):
        tell(x, function=lambda: calls.append("unused"))
        told = lambda: calls.append("told")
        return tell(x, function=told) + tell(x, function=told) + tell(fg.array(1.0), function=told)

    jitted = fg.jit(f)
    assert names(jitted.lower(fg.array(1.0)).simplified).count("tell") == 3
    assert calls == []
    jitted(fg.array(1.0))
    assert calls == ["told", "told", "told"]


def test_effects_happen_as_often_and_in_the_order_in_which_they_were_asked_for():
    calls = []

    def evaluate(x, *, word):
        calls.append(word)
        return x

    say = Primitive("say", abstract=lambda x, *, word: x.aval, evaluate=evaluate, has_effects=True)

    @fg.jit
    def inner(x):
        say(x, word="inner")
        return x * 2

    def f(x):
        say(x, word="first")
        say(x, word="first")
        say(fg.array(1.0), word="constant")
        inner(x)
        return say(x, word="last")

    jitted = fg.jit(f)
    jitted.lower(fg.array(1.0)).compile()
    assert calls == []
    for _ in range(2):
        jitted(fg.array(1.0))
    assert calls == ["first", "first", "constant", "inner", "last"] * 2


def test_a_primitive_of_the_users_is_not_taken_for_another_of_its_name():
    mine = Primitive("mul", abstract=lambda x, y: x.aval, evaluate=lambda x, y: x + y)
    assert fg.jit(lambda x: mine(x, fg.array(1.0)))(fg.array(2.0)).item() == 3.0


def test_operations_of_small_constants_are_computed_once():
    assert simplified_names(lambda x: x * fnp.exp(fnp.arange(3.0)), FLOAT) == ["mul"]
    assert "iota" in simplified_names(lambda x: x * fnp.arange(5000.0)[0], FLOAT)
    assert "threefry2x32" in simplified_names(lambda: fg.random.uniform(fg.random.PRNGKey(0), (2,)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fg.jit(lambda: fnp.log(fg.array(0.0)))().item() == -numpy.inf


def test_a_constant_computation_that_fails_fails_when_it_runs():
    def f(x):
        lax.axis_index("nowhere")
        return x, lax.axis_index("nowhere")

    lowered = fg.jit(f).lower(fg.array(1.0))
    assert names(lowered.simplified) == ["axis_index"]
    with pytest.raises(errors.UnboundAxisError, match="nowhere"):
        lowered.compile()(fg.array(1.0))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * 1,
        lambda x: 1.0 * x,
        lambda x: x / 1,
        lambda x: x - 0.0,
        lambda x: ew.add(x, ew.neg(fg.array(0.0))),
        lambda x: x * fnp.ones((2, 3)),
        lambda x: ew.neg(ew.neg(x)),
        lambda x: fnp.maximum(x, x),
        lambda x: x.T.T,
        lambda x: transpose(transpose(x, permutation=(1, 0)), permutation=(1, 0)),
        lambda x: transpose(x, permutation=(0, 1)),
        lambda x: x.reshape(3, 2).reshape(2, 3),
        lambda x: ew.convert(x, dtype=dtypes.float32),
        lambda x: broadcast_in_dim(x, shape=(2, 3), axes=(0, 1)),
        lambda x: fnp.where(True, x, 0.0),
        lambda x: fnp.where(fnp.array(False), 0.0, x),
        lambda x: ew.integer_pow(x, exponent=1),
        lambda x: rev(rev(x, axes=(0, 1)), axes=(1, 0)),
        lambda x: slice_(x, starts=(0, 0), limits=(2, 3), strides=(1, 1)),
        lambda x: fg.lax.stop_gradient(x),
        lambda x: fg.jit(lambda y: y)(x),
    ],
)
def test_what_changes_nothing_disappears(function):
    program = simplify(fg.make_program(function)(FLOAT))
    assert program.equations == ()
    assert program.outputs == program.inputs


@pytest.mark.parametrize(
    ("function", "left"),
    [
        (lambda x: x + 0.0, ["add"]),  # -0.0 + 0.0 is 0.0
        (lambda x: x * 0.0, ["mul"]),  # of infinity it is NaN
        (lambda x: x - x, ["sub"]),
        (lambda x: x / x, ["div"]),
        (lambda x: (x + 1.0) - 1.0, ["add", "sub"]),
        (lambda x: abs(abs(x)), ["abs"]),
        (lambda x: fnp.floor(fnp.floor(x)), ["floor"]),
        (lambda x: x.reshape(3, 2).reshape(6).reshape(1, 6), ["reshape"]),
        (lambda x: ew.convert(ew.convert(x, dtype=dtypes.int32), dtype=dtypes.float32), ["convert", "convert"]),
    ],
)
def test_what_could_change_something_stays(function, left):
    assert simplified_names(function, FLOAT) == left


def test_what_is_repeated_by_broadcasting_is_not_repeated_before():
    def repeated(x, axes):
        return broadcast_in_dim(x, shape=(2, 3), axes=axes)

    row, column = fg.ShapeDtypeStruct((3,), fg.float32), fg.ShapeDtypeStruct((2,), fg.float32)
    assert simplified_names(lambda x, y: x + repeated(y, (1,)), FLOAT, row) == ["add"]
    assert simplified_names(lambda x: x * fnp.full((2, 3), 0.5), FLOAT) == ["mul"]
    assert simplified_names(lambda x, y: x + y[None, :], FLOAT, row) == ["add"]
    # Here it is needed: for the shape of the result, or since axes align at the end.
    assert simplified_names(lambda y: y + repeated(y, (1,)), row) == ["broadcast_in_dim", "add"]
    assert simplified_names(lambda x, y: x + repeated(y, (0,)), FLOAT, column) == ["broadcast_in_dim", "add"]


def test_one_is_not_neutral_for_complex_numbers():
    assert simplified_names(lambda x: x * 1, fg.ShapeDtypeStruct((2,), fg.complex64)) == ["mul"]


def test_transposes_go_into_the_axes_of_a_product():
    def gradients(x, w):
        return fg.grad(lambda x, w: fnp.sum(fnp.tanh(x @ w)), argnums=(0, 1))(x, w)

    x, w = fnp.ones((4, 3)), fnp.arange(6.0).reshape(3, 2)
    assert "transpose" in names(fg.make_program(lambda x, w: x.T @ w)(fnp.ones((3, 4)), w))
    assert simplified_names(lambda x, w: x.T @ w, fnp.ones((3, 4)), w) == ["dot_general"]
    assert "transpose" not in simplified_names(lambda x, w: (x @ w).T @ x.T.T, x, w)
    for reference, default in zip(fg.jit(gradients, compiler="reference")(x, w), fg.jit(gradients)(x, w), strict=True):
        numpy.testing.assert_allclose(default, reference, rtol=1e-5, atol=1e-6)


def test_a_block_at_a_known_place_is_a_slice():
    def block(x):
        return lax.dynamic_slice(x, (5, 1), (2, 2))  # moved until it fits

    (equation,) = simplify(fg.make_program(block)(FLOAT)).equations
    assert equation.primitive is slice_
    assert equation.params == {"starts": (0, 1), "limits": (2, 3), "strides": (1, 1)}
    assert "dynamic_slice" in simplified_names(lambda x, i: lax.dynamic_slice(x, (i, 0), (1, 3)), FLOAT, 1)
    assert simplified_names(lambda x: lax.dynamic_slice(x, (1, 2), (2, 3)), FLOAT) == []


def test_a_transpose_that_reorders_the_axes_of_the_result_stays():
    f = lambda x, w: fnp.tensordot(fnp.transpose(x, (1, 0, 2)), w, 1)
    assert simplified_names(f, fnp.ones((2, 3, 4)), fnp.ones((4, 5))) == ["transpose", "dot_general"]


@pytest.mark.parametrize(
    "same_values",
    [
        lambda x, y: x.T.reshape(-1).reshape(60, 40),
        lambda x, y: fnp.where(True, x.T, y),
        lambda x, y: x.T * fnp.ones((60, 40)),
        lambda x, y: ew.neg(ew.neg(x[:, ::-1].T)) * 1,
        lambda x, y: ew.convert(x.T[::2], dtype=dtypes.float32),
    ],
)
def test_sums_are_added_in_the_order_in_which_they_were(same_values):
    """NumPy adds in the order in which numbers lie in memory, and other orders round otherwise."""
    generator = numpy.random.default_rng(0)
    x = fg.array((10.0 ** generator.integers(-3, 3, (40, 60)) * generator.normal(size=(40, 60))).astype("f"))
    sums = lambda x, y: [fnp.sum(same_values(x, y), axis) for axis in (None, 0, 1)]
    y = fnp.zeros((60, 40)) + 1
    program = fg.make_program(sums)(x, y)
    for simplified, reference in zip(simplify(program)(x, y), program(x, y), strict=True):
        assert simplified.tolist() == reference.tolist()


# Calls of other Programs


def test_jitted_functions_inside_a_jitted_function_become_part_of_it():
    inner = fg.jit(lambda x, unused: (fnp.sin(x), fnp.cos(x)))
    middle = fg.jit(lambda x: inner(x, fnp.exp(x))[0] * 2)
    program = fg.make_program(lambda x: middle(x) + middle(x))(FLOAT)
    assert names(program) == ["call", "call", "add"]
    assert names(simplify(program)) == ["sin", "mul", "add"]


def test_functions_with_derivatives_of_their_own_become_part_of_the_program_too():
    @fg.custom_jvp
    def double(x):
        return x * 2

    double.defjvp(lambda primals, tangents: (double(*primals), tangents[0] * 2))
    assert simplified_names(double, FLOAT) == ["mul"]
    assert fg.jit(fg.grad(fg.jit(double)))(3.0).item() == 2.0


def test_weak_and_strong_operands_of_an_inlined_function_are_typed_again():
    inner = fg.jit(lambda x: x * 2)
    program = simplify(fg.make_program(lambda x: (inner(x) * 1, x * fg.array(1.0) * 2))(3.0))
    program.check()
    assert len(program.equations) == 1
    half = fnp.ones(2, dtype=fg.float16)
    assert (fg.jit(lambda s: inner(s) * 1)(3.0) * half).dtype == fg.float16


def test_simplifying_is_kept_with_the_program():
    lowered = fg.jit(lambda x: x * 1 + 1).lower(FLOAT)
    assert lowered.simplified is lowered.simplified
    assert names(lowered.simplified) == ["add"]
    assert names(lowered.program) == ["mul", "add"]
    assert simplify(lowered.simplified).equations != ()


def test_the_names_inputs_and_lines_of_a_program_are_kept():
    def some_name(x, unused):
        return fnp.sin(x)

    program = fg.make_program(some_name)(FLOAT, FLOAT)
    found = simplify(program)
    assert (found.name, found.inputs) == (program.name, program.inputs)
    assert str(found) == str(program)


# Random Programs

SHAPES = [(), (1,), (3,), (0,), (2, 3), (3, 1), (1, 3), (3, 3), (0, 3), (2, 3, 2)]
DTYPES = [dtypes.float32, dtypes.float64, dtypes.float16, dtypes.int32, dtypes.uint8, dtypes.bool_, dtypes.complex64]
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, 3.7, -2.25, 1e30, numpy.inf, -numpy.inf, numpy.nan]


def sample(generator, shape, dtype):
    """An array with many zeros, ones, infinities and NaN in it."""
    if dtype.kind in "fc":
        values = generator.choice(SPECIAL, shape) * generator.choice([1.0, 1.0, 0.3], shape)
        if dtype.kind == "c":
            values = ew.complex_.evaluate(values, generator.choice(SPECIAL, shape))
        with numpy.errstate(all="ignore"):
            return numpy.asarray(values).astype(dtype)
    return numpy.asarray(generator.integers(0, 2 if dtype.kind == "b" else 5, shape)).astype(dtype)


UNARY = {
    "f": [ew.neg, ew.exp, ew.sin, ew.tanh, ew.abs_, ew.floor, ew.round_, ew.logistic, ew.sqrt, ew.is_nan],
    "c": [ew.neg, ew.conj, ew.real, ew.imag, ew.abs_, ew.exp],
    "i": [ew.neg, ew.not_, ew.abs_, ew.sign],
    "u": [ew.not_, ew.population_count],
    "b": [ew.not_],
}
BINARY = {
    "f": [ew.add, ew.sub, ew.mul, ew.div, ew.max_, ew.min_, ew.lt, ew.atan2],
    "c": [ew.add, ew.sub, ew.mul, ew.div, ew.eq],
    "i": [ew.add, ew.sub, ew.mul, ew.and_, ew.or_, ew.xor, ew.max_, ew.shift_left, ew.shift_right_logical],
    "u": [ew.add, ew.mul, ew.and_, ew.or_, ew.xor, ew.min_],
    "b": [ew.and_, ew.or_, ew.xor, ew.max_],
}
NUMBERS = [0.0, -0.0, 1.0, -1.0, 2.0]


class Builder:
    """Draws one operation after the other on arrays that there are already."""

    def __init__(self, draw, arrays, depth):
        self.draw, self.arrays, self.depth = draw, list(arrays), depth

    def pick(self, *, like=None, **wanted):
        fits = [
            x
            for x in self.arrays
            if (like is None or (x.shape == like.shape and x.dtype is like.dtype))
            and all(check(x) for check in wanted.values())
        ]
        # Late ones more often, so that operations follow each other.
        return fits[-1 - min(self.draw(st.integers(0, 5)), len(fits) - 1)] if fits else None

    def number(self, dtype):
        value = self.draw(st.sampled_from(NUMBERS))
        return fg.array(numpy.asarray(abs(value) if dtype.kind in "ub" else value).astype(dtype))

    def operand(self, x):
        """Something to combine with `x`: a number, an array of one number, or an array that broadcasts."""
        kind = self.draw(st.integers(0, 3))
        if kind == 0:
            return self.number(x.dtype)
        if kind == 1:
            return broadcast_to(self.number(x.dtype), x.shape)
        if kind == 2:
            return self.pick(like=x)
        return next((y for y in self.arrays if y.dtype is x.dtype and y.ndim < x.ndim and broadcasts(x, y)), x)

    def step(self):
        x = self.pick()
        found = self.draw(st.sampled_from(STEPS))(self, x)
        if found is not None:
            self.arrays += found if isinstance(found, list) else [found]


def broadcasts(x, y):
    try:
        return numpy.broadcast_shapes(x.shape, y.shape) == x.shape
    except ValueError:
        return False


def unary(builder, x):
    return builder.draw(st.sampled_from(UNARY[x.dtype.kind]))(x)


def binary(builder, x):
    primitive = builder.draw(st.sampled_from(BINARY[x.dtype.kind]))
    operands = [x, builder.operand(x)]
    if builder.draw(st.booleans()):
        operands.reverse()
    return primitive(*operands)


def again(builder, x):
    """Twice the same: for what undoes or repeats itself, and for common subexpressions."""
    primitive = builder.draw(st.sampled_from(UNARY[x.dtype.kind]))
    y = primitive(x)
    return [y, primitive(x) if y.dtype is not x.dtype else primitive(y)]


def transposed(builder, x):
    return transpose(x, permutation=tuple(builder.draw(st.permutations(range(x.ndim)))))


def reshaped(builder, x):
    shapes = [
        s for s in [*SHAPES, (x.size,), (6, 2), (3, 4), (3, 2), (1, x.size, 1)] if numpy.prod(s, dtype=int) == x.size
    ]
    return reshape(x, shape=builder.draw(st.sampled_from(shapes)))


def broadcast(builder, x):
    return broadcast_in_dim(x, shape=(*x.shape, 2)[-3:] if x.ndim < 3 else x.shape, axes=tuple(range(x.ndim)))


def sliced(builder, x):
    stride = builder.draw(st.integers(1, 2))
    return slice_(x, starts=(0,) * x.ndim, limits=x.shape, strides=(stride,) * x.ndim)


def reversed_(builder, x):
    axes = tuple(axis for axis in range(x.ndim) if builder.draw(st.booleans()))
    return rev(x, axes=axes)


def joined(builder, x):
    return concatenate(x, builder.pick(like=x), axis=0) if x.ndim and x.size < 50 else None


def padded(builder, x):
    return pad(x, builder.number(x.dtype), config=((builder.draw(st.integers(0, 1)), 0, 0),) * x.ndim)


def reduced(builder, x):
    if x.dtype.kind == "b" or x.size == 0:
        return None
    axes = tuple(axis for axis in range(x.ndim) if builder.draw(st.booleans()))
    choices = [reduce_sum, reductions.reduce_prod]
    choices += [reductions.reduce_max, reductions.reduce_min] if x.dtype.kind != "c" else []
    return builder.draw(st.sampled_from(choices))(x, axes=axes)


def product(builder, x):
    y = builder.pick(
        dtype=lambda y: y.dtype is x.dtype and x.dtype.kind != "b", fits=lambda y: set(y.shape) & set(x.shape) - {1}
    )
    if y is None:
        return None
    pairs = [(a, b) for a, n in enumerate(x.shape) for b, m in enumerate(y.shape) if n == m]
    a, b = builder.draw(st.sampled_from(pairs))
    contract, batch = ((a,), (b,)), ((), ())
    if builder.draw(st.integers(0, 3)) == 0:
        contract, batch = batch, contract
    return dot_general(x, y, dimension_numbers=(contract, batch))


def selected(builder, x):
    condition = builder.pick(dtype=lambda c: c.dtype.kind == "b", fits=lambda c: broadcasts(x, c))
    if condition is None or builder.draw(st.booleans()):
        condition = fg.array(builder.draw(st.booleans()))
    return ew.select(condition, x, builder.operand(x))


def converted(builder, x):
    kinds = [dtype for dtype in DTYPES if x.dtype.kind != "c" or dtype.kind == "c"]
    if x.dtype.kind in "fc":  # what NaN and infinity are as integers is for the machine to choose
        kinds = [dtype for dtype in kinds if dtype.kind in "fcb"]
    return ew.convert(x, dtype=builder.draw(st.sampled_from(kinds)))


def counted(builder, x):
    return iota(shape=(3, 3), dtype=builder.draw(st.sampled_from([dtypes.float32, dtypes.int32])), axis=0)


def sorted_(builder, x):
    return sort(x, builder.pick(like=x), axis=0, num_keys=1) if x.ndim and x.dtype.kind != "c" else None


def called(builder, x):
    if builder.depth == 0:
        return None
    others = [x, builder.pick()]

    def inner(*arrays):
        inside = Builder(builder.draw, arrays, builder.depth - 1)
        for _ in range(builder.draw(st.integers(0, 4))):
            inside.step()
        return inside.arrays[-3:]

    return fg.jit(inner)(*others)


STEPS = [
    *[unary, binary, binary, binary, again, selected, converted, reduced, reduced, product, product, sorted_],
    *[transposed, transposed, reshaped, broadcast, sliced, reversed_, joined, padded, counted, called],
]


@st.composite
def programs(draw):
    """A Program of random operations on random arguments, and the arguments."""
    generator = numpy.random.default_rng(draw(st.integers(0, 2**32)))
    avals = draw(st.lists(st.tuples(st.sampled_from(SHAPES), st.sampled_from(DTYPES)), min_size=1, max_size=3))
    arguments = [fg.array(sample(generator, shape, dtype)) for shape, dtype in avals]
    if draw(st.booleans()):  # lies in memory column by column
        arguments = [x.T for x in arguments]

    def function(*arrays):
        builder = Builder(draw, arrays, 2)
        for _ in range(draw(st.integers(3, 25))):
            builder.step()
        return [*builder.arrays[-4:], draw(st.sampled_from(builder.arrays))]

    return stage(function, [x.aval for x in arguments]), arguments


def bits(array):
    return array.shape, array.dtype, numpy.asarray(array).tobytes()


def runs_alike(program, arguments):
    expected = [bits(x) for x in program(*arguments)]
    found = simplify(program)
    found.check()
    assert len(found.equations) <= len(all_equations(program))
    assert [bits(x) for x in found(*arguments)] == expected
    buffers = [x._data for x in arguments]
    for run in (execute.executor(found), compile_program(program, "reference")):
        assert [bits(ConcreteArray(x)) for x in run(*buffers)] == expected
    assert len(simplify(found).equations) == len(found.equations)


def all_equations(program):
    """The equations of a Program and of all that it calls."""
    found = []
    for equation in program.equations:
        called = execute.called_program(equation)
        found += [equation] if called is None else all_equations(called)
    return found


@settings(max_examples=300)
@given(programs())
def test_random_programs_give_the_same_bits_before_and_after(case):
    runs_alike(*case)


@settings(max_examples=100)
@given(programs())
def test_buffers_lie_in_memory_as_simplify_believes(case):
    program, arguments = case
    arguments = [fg.array(numpy.array(x, order="C")) for x in arguments]
    simplifier = Simplifier()
    simplifier.write(program, program.inputs, None)
    values = dict(zip(program.inputs, arguments, strict=True))
    for equation in simplifier.equations:
        operands = [values[x] if type(x) is Variable else x for x in equation.operands]
        result = equation.primitive(*operands, **equation.params)
        results = result if equation.primitive.multiple_results else [result]
        values.update(zip(equation.results, results, strict=True))
        for variable, x in zip(equation.results, results, strict=True):
            layout = simplifier.layout(variable)
            assert layout < ORDERED or x._data.flags.c_contiguous
            assert layout < DENSE or lies_dense(x._data)


def lies_dense(buffer):
    strides = [(stride, length) for stride, length in zip(buffer.strides, buffer.shape, strict=True) if length > 1]
    expected = buffer.itemsize
    for stride, length in sorted(strides):
        if stride != expected and buffer.size:
            return False
        expected *= length
    return True


# How Programs are run


@pytest.mark.native
def test_reference_runs_the_program_as_it_was_traced():
    evaluated = []

    def evaluate(x):
        evaluated.append(1)
        return x

    once = Primitive("once", abstract=lambda x: x.aval, evaluate=evaluate)
    f = lambda x: once(x) + fg.jit(once)(x)
    x = fg.array(1.0)
    assert fg.jit(f)(x).item() == 2.0
    assert len(evaluated) == 1
    assert fg.jit(f, compiler="reference")(x).item() == 2.0
    assert len(evaluated) == 3
    assert fg.jit(compiler="reference")(f)(x).item() == fg.jit(f, compiler="default")(x).item() == 2.0
    assert len(evaluated) == 6


def test_the_derivatives_of_a_function_run_by_the_compiler_that_it_chose():
    f = fg.jit(lambda x: fnp.sin(x) * 1 + fnp.sin(x), compiler="reference")
    program = fg.make_program(fg.vmap(fg.grad(f)))(fnp.ones(3))
    calls = [e for e in program.equations if e.primitive.name == "call"]
    assert calls
    assert all(e.params["compiler"] == "reference" for e in calls)
    assert [e for e in simplify(program).equations if e.primitive.name == "call"]
    numpy.testing.assert_allclose(fg.jit(fg.vmap(fg.grad(f)))(fnp.ones(3)), 2 * numpy.cos(numpy.ones(3)), rtol=1e-6)


def test_a_compiler_that_does_not_exist_is_refused():
    with pytest.raises(errors.ArgumentError, match=r"'fast'.*'default', 'reference'"):
        fg.jit(lambda x: x, compiler="fast")
    with pytest.raises(errors.ArgumentError, match="'fast'"):
        fg.jit(compiler="fast")


@pytest.mark.parametrize("compiler", ["default", "reference"])
def test_an_error_inside_of_a_jitted_function_names_the_users_line_there(compiler):
    def evaluate(x):
        raise ValueError("no")

    def abstract(x):
        if running:
            raise errors.ShapeError("this shape does not fit; use another.")
        return x.aval

    running = False
    fails = Primitive("fails", abstract=abstract, evaluate=evaluate)

    def inner(x):
        y = fails(x)  # the line
        return y * 2

    jitted = fg.jit(lambda x: fg.jit(inner)(x), compiler=compiler)
    jitted.lower(fg.array(1.0))
    running = True
    with pytest.raises(errors.ShapeError, match="does not fit") as caught:
        jitted(fg.array(1.0))
    assert caught.value.source is not None
    assert caught.value.source.text == "y = fails(x)  # the line"


@pytest.mark.parametrize("compiler", ["default", "reference"])
def test_infinities_and_nan_are_values_even_where_warnings_are_errors(compiler):
    f = fg.jit(lambda x: (fnp.log(x), x / x, 1 / x), compiler=compiler)
    with warnings.catch_warnings(), numpy.errstate(all="raise"):
        warnings.simplefilter("error")
        log, quotient, inverse = f(fg.array(0.0))
    assert log.item() == -numpy.inf
    assert numpy.isnan(quotient)
    assert inverse.item() == numpy.inf


def test_buffers_are_let_go_after_their_last_use():
    alive = []

    def make(x):
        made = x + 1
        alive.append(weakref.ref(made))
        return made

    def count(x):
        counted.append(sum(reference() is not None for reference in alive))
        return x.copy()

    counted = []
    fresh = Primitive("fresh", abstract=lambda x: x.aval, evaluate=make)
    observe = Primitive("observe", abstract=lambda x: x.aval, evaluate=count)

    def f(x):
        for _ in range(3):
            x = observe(fresh(x))
        return x

    assert fg.jit(f)(fnp.zeros(2)).tolist() == [3.0, 3.0]
    assert counted == [1, 1, 1]


def test_arguments_in_every_form_share_one_trace():
    runs = []

    @fg.jit
    def f(x, y):
        runs.append(1)
        return x + y

    x = fnp.ones(2)
    for arguments in [(x, x), (x, numpy.ones(2, numpy.float32)), (numpy.ones(2, numpy.float32), x)]:
        assert f(*arguments).tolist() == [2.0, 2.0]
    assert len(runs) == 1
    assert f(x, y=x).tolist() == [2.0, 2.0]


def test_results_that_are_one_array_in_a_container_keep_their_container():
    assert fg.jit(lambda x: [x])(fg.array(1.0))[0].item() == 1.0
    assert fg.jit(lambda x: x)(fg.array(1.0)).item() == 1.0
    assert fg.jit(lambda x: (x * 1, 2.0))(fg.array(1.0))[1].item() == 2.0


def test_the_work_of_simplifying_grows_as_the_number_of_equations():
    def chain(x, length):
        for _ in range(length):
            x = (fnp.sin(x) * 1.5).T * 1
        return x @ x.T

    def calls(length):
        count = 0

        def profile(frame, event, argument):
            nonlocal count
            count += event == "call"

        program = fg.make_program(chain, static_argnums=1)(FLOAT, length)
        sys.setprofile(profile)
        try:
            simplify(program)
        finally:
            sys.setprofile(None)
        return count

    first, second, third = calls(50), calls(100), calls(150)
    # Not the very same: caches fill up, and Python cleans up when it likes.
    assert third - second < 1.1 * (second - first)
