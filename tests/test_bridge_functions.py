"""Jitted functions that are called through the bridge: what is traced again, what is an error, what is left behind."""

import collections
import gc
import sys
import threading

import numpy
import pytest
from bridge_code import FLOAT32, Layer, Pair, a_tree, array, copying, counts, native

import funcgrad as fg
from funcgrad.array import ConcreteArray, WeakArray
from funcgrad.compiler import COMPILERS
from funcgrad.errors import DonatedArrayError


def compile_copy(program):
    """A compiler for functions that give a copy of their first argument."""
    (result,) = program.out_avals
    form = [[(x.shape, x.dtype) for x in avals] for avals in (program.in_avals, program.out_avals)]
    return native(copying(numpy.zeros(result.shape, result.dtype).nbytes, target=len(form[0])), *form)


@pytest.fixture
def compilers(monkeypatch):
    """The name of a compiler that makes native functions."""
    monkeypatch.setitem(COMPILERS, "copy", compile_copy)


@pytest.fixture(params=["default", "copy"])
def compiler(request, compilers):
    return request.param


def traces(compiler, **options):
    """A jitted function that gives the first array among its arguments, and a list of what was traced."""
    seen = []

    def function(*args, **kwargs):
        seen.append((args, kwargs))
        return next(x for x in fg.tree.leaves((args, kwargs)) if isinstance(x, fg.Array)) + 0

    return fg.jit(function, compiler=compiler, **options), seen


def check(function, *args, **kwargs):
    """Calls a function several times: it gives the first array among its arguments."""
    first = next(x for x in fg.tree.leaves((args, kwargs)) if isinstance(x, fg.Array))
    for _ in range(4):
        y = function(*args, **kwargs)
        assert type(y) is type(first) and y.dtype is first.dtype and y.shape == first.shape
        numpy.testing.assert_array_equal(y, first)


def test_calls_like_earlier_ones_need_no_tracing(compiler):
    function, seen = traces(compiler)
    for count, arguments in enumerate(
        [
            (array(3),),
            (array(4),),
            (array(3, dtype=numpy.int32),),
            (array(3), array(2)),
            ((array(3), array(2)),),
            ([array(3), array(2)],),
            ({"a": array(3), "b": array(2)},),
            ({"a": array(3), "c": array(2)},),
            (array(3), None),
            (Layer(array(3), array(2)),),
            (Layer(array(3), array(2), "other"),),
            (array(3), 1.0),
            (array(3), 1),
            a_tree(),
        ]
    ):
        check(function, *arguments)
        assert len(seen) == count + 1
        check(function, *arguments)
        assert len(seen) == count + 1


def test_arguments_by_name_are_told_apart(compiler):
    function, seen = traces(compiler)
    x, y = array(3), array(2)
    check(function, x, b=y)
    check(function, x, c=y)
    check(function, a=x, b=y)
    check(function, b=y, a=x)
    check(function, x, y)
    assert len(seen) == 4


def test_static_arguments_are_told_apart(compiler):
    function, seen = traces(compiler, static_argnums=1, static_argnames="name")
    for n, name in [(1, "a"), (True, "a"), (1.0, "a"), (1, "b"), (2, "b"), ((1, 2), "b"), (None, "b")]:
        check(function, array(3), n, name=name)
    assert len(seen) == 7
    check(function, array(3), (1, 2), name="b")
    assert len(seen) == 7


def test_unusual_arguments_get_usual_results(compiler):
    function, seen = traces(compiler)
    x = ConcreteArray(numpy.arange(6, dtype=FLOAT32))
    gaps = ConcreteArray(numpy.arange(12, dtype=FLOAT32)[::2])
    check(function, x)
    check(function, gaps)
    check(function, x)
    assert len(seen) == 1
    numpy.testing.assert_array_equal(function(numpy.arange(6, dtype=FLOAT32)), x)


def test_transforms_see_a_jitted_function_that_ran_before():
    square = fg.jit(lambda x: x * x)
    x = fg.array(3.0)
    for _ in range(4):
        assert square(x) == 9
    assert fg.grad(square)(x) == 6
    assert fg.grad(fg.grad(square))(x) == 2
    assert list(fg.vmap(square)(fg.array([1.0, 2.0]))) == [1, 4]
    assert "call" in str(fg.make_program(square)(x))
    with Counting() as counting:
        square(x)
    assert counting.seen == ["call"]


class Counting(fg.Interpreter):
    def __init__(self):
        self.seen = []

    def interpret(self, primitive, operands, params):
        self.seen.append(primitive.name)
        return primitive(*operands, **params)


def test_donated_arguments_are_given_up_each_time(compiler):
    function, seen = traces(compiler, donate_argnums=0)
    for _ in range(5):
        x = array(3)
        numpy.testing.assert_array_equal(function(x), numpy.arange(3))
        assert x.is_deleted()
        with pytest.raises(DonatedArrayError):
            function(x)
    assert len(seen) == 1


def test_weak_results_stay_weak(compiler):
    function = fg.jit(lambda x: x * 1.0, compiler=compiler)
    for _ in range(5):
        assert function(2.0).weak_type
        y = function(WeakArray(numpy.array(2.0, FLOAT32)))
        assert y.weak_type and type(y) is WeakArray and y == 2


@pytest.mark.parametrize(
    "pack",
    [
        lambda x: x,
        lambda x: (x,),
        lambda x: [x],
        lambda x: {"b": x, "a": None},
        lambda x: Layer(x, None),
        lambda x: Layer(None, Pair(x, [None, ()]), "other"),
        lambda x: Pair((), x),
        lambda x: {2: x, 1: None},
        lambda x: collections.OrderedDict(b=x, a=None),
        lambda x: [[[[x]]]],
    ],
)
def test_results_come_in_their_tree(compiler, pack):
    function = fg.jit(lambda x: pack(x + 0), compiler=compiler)
    x = array(3)
    for _ in range(5):
        y = function(x)
        assert fg.tree.structure(y) == fg.tree.structure(pack(x)) and str(y) == str(pack(x))


def test_a_cleared_cache_traces_again(compiler):
    function, seen = traces(compiler)
    check(function, array(3))
    function.clear_cache()
    check(function, array(3))
    assert len(seen) == 2


def test_other_vectors_need_other_code(compilers):
    made = []
    function = fg.jit(lambda x: x + 0, compiler="copy")
    count = 0
    for bits in (None, 128, None):
        with fg.config.override(vector_bits=bits):
            for _ in range(4):
                assert function(array(3)).shape == (3,)
            assert all(way.__self__[0] is not x for x in made for way in function._short_ways)
            made += [way.__self__[0] for way in function._short_ways]
            count += 1
            assert len(made) == count


def test_an_error_of_a_call_is_the_same_each_time(compiler):
    function, _ = traces(compiler)
    check(function, array(3))
    for _ in range(3):
        with pytest.raises(fg.errors.ArgumentTypeError, match="neither an array"):
            function(array(3), "text")


def test_many_threads_call_one_jitted_function(compiler):
    function, _ = traces(compiler)
    wrong = []

    def work(number):
        x = fg.array(numpy.full(3, number, FLOAT32))
        for _ in range(300):
            if not (numpy.asarray(function(x, {"a": x})) == number).all():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_nothing_is_left_after_many_calls_of_a_jitted_function(compiler):
    function = fg.jit(lambda tree: {"a": Layer(Pair([tree[0] + 0], None), ((),))}, compiler=compiler)
    trees = (array(3), {"b": [array(2)]})
    for _ in range(100):
        function(trees)
    gc.collect()
    before, blocks = counts(*fg.tree.leaves(trees), FLOAT32), sys.getallocatedblocks()
    for _ in range(20_000):
        function(trees)
    gc.collect()
    assert all(abs(a - b) < 20 for a, b in zip(counts(*fg.tree.leaves(trees), FLOAT32), before, strict=True))
    assert sys.getallocatedblocks() - blocks < 200
