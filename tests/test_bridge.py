"""The bridge from Python to native code: native functions that take and give NumPy arrays."""

import collections
import ctypes
import dataclasses
import gc
import sys
import threading
import tracemalloc
import weakref
from typing import Any, NamedTuple

import numpy
import pytest

import funcgrad as fg
from funcgrad import dtypes
from funcgrad.array import ConcreteArray, WeakArray, as_array
from funcgrad.compiler import COMPILERS, bridge
from funcgrad.compiler.bridge import layout
from funcgrad.compiler.machine import load, object_code
from funcgrad.compiler.target import host_target
from funcgrad.errors import DonatedArrayError, ProgramError

FLOAT32 = numpy.dtype(numpy.float32)


@pytest.fixture(params=["builtin", "python"])
def way(request, monkeypatch):
    """Both kinds of functions that there are: the builtin, and the one in Python for other Pythons."""
    if request.param == "python":
        monkeypatch.setattr(bridge, "bridge", lambda: None)
    else:
        assert bridge.bridge() is not None
    return request.param


def table_item(name, place):
    return f"  {name}.at = getelementptr ptr, ptr %table, i64 {place}\n  {name} = load ptr, ptr {name}.at\n"


NOTHING = "define void @entry(ptr %table) {\n  ret void\n}"


def copying(size, source=0, target=1, before=""):
    """Code that copies so many bytes from one place of the table to another."""
    return f"""
declare ptr @memcpy(ptr, ptr, i64)
declare i32 @usleep(i32)
define void @entry(ptr %table) {{
start:
{table_item("%from", source)}{table_item("%to", target)}{before}
  call ptr @memcpy(ptr %to, ptr %from, i64 {size})
  ret void
}}
"""


def waiting(place):
    """Lines that wait until somebody writes another number than 0 to where a place of the table points."""
    return f"""{table_item("%flag", place)}
  br label %wait
wait:
  %count = phi i32 [0, %start], [%next, %sleep]
  %now = load volatile i64, ptr %flag
  %set = icmp ne i64 %now, 0
  %late = icmp sgt i32 %count, 20000
  %stop = or i1 %set, %late
  br i1 %stop, label %done, label %sleep
sleep:
  call i32 @usleep(i32 500)
  %next = add i32 %count, 1
  br label %wait
done:
"""


def native(ir, inputs, outputs, **options):
    """A function of this code; the code lives as long as the function does."""
    code = load(object_code(ir, host_target()), ["entry"])
    return bridge.native_callable(code.addresses["entry"], inputs, outputs, keep_alive=code, **options)


def copy_of(shape, dtype, **options):
    size = numpy.zeros(shape, dtype).nbytes
    return native(copying(size), [(shape, dtype)], [(shape, dtype)], **options)


SHOW_TABLE = f"""
define void @entry(ptr %table) {{
{table_item("%x", 0)}{table_item("%y", 1)}{table_item("%constant", 2)}{table_item("%arena", 3)}{table_item("%code", 4)}
  store ptr %x, ptr %y
  %y1 = getelementptr ptr, ptr %y, i64 1
  store ptr %constant, ptr %y1
  %y2 = getelementptr ptr, ptr %y, i64 2
  store ptr %arena, ptr %y2
  %y3 = getelementptr ptr, ptr %y, i64 3
  store ptr %code, ptr %y3
  ret void
}}
"""


# What it gives


@pytest.mark.parametrize("dtype", dtypes.ALL, ids=str)
@pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 3), (0,), (2, 0, 3), (1, 1, 2, 1, 3)])
def test_results_are_new_arrays_of_any_shape_and_dtype(way, shape, dtype):
    function = copy_of(shape, dtype)
    x = numpy.arange(numpy.prod(shape, dtype=int)).astype(dtype).reshape(shape)
    (first,), (second,) = function(x), function(x)
    for y in (first, second):
        assert type(y) is numpy.ndarray and y.dtype is dtype and y.shape == shape
        assert y.flags.c_contiguous and y.flags.owndata and y.flags.writeable
        numpy.testing.assert_array_equal(y, x)
    assert not numpy.shares_memory(first, second) and not numpy.shares_memory(first, x)


def test_the_table_holds_inputs_outputs_constants_arena_and_functions(way):
    constant = numpy.ones(3)
    function = native(
        SHOW_TABLE, [((2,), FLOAT32)], [((4,), dtypes.int64)], constants=[constant], functions=[123], arena_bytes=100
    )
    x = numpy.zeros(2, FLOAT32)
    (y,) = function(x)
    assert list(y[:2]) == [bridge.address_of(x), bridge.address_of(constant)]
    assert y[2] % bridge.ARENA_ALIGNMENT == 0 and y[2] != 0
    assert y[3] == 123


def test_results_may_be_inputs_and_come_in_any_order(way):
    form = ((3,), FLOAT32)
    function = native(copying(12, target=2), [form, form], [form, form], results=[2, 0, 2, 1])
    x, y = numpy.arange(3, dtype=FLOAT32), numpy.zeros(3, FLOAT32)
    copy, first, again, second = function(x, y)
    assert copy is again and first is x and second is y
    numpy.testing.assert_array_equal(copy, x)
    wrapped = native(copying(12, target=1), [form], [form], results=[0], arrays=True, container="single")
    given = wrapped(ConcreteArray(x))
    assert type(given) is ConcreteArray and given._data is x


def test_code_need_not_take_all_inputs(way):
    forms = [((n,), FLOAT32) for n in (2, 3, 4)]
    function = native(copying(16, source=0, target=2), forms, [((4,), FLOAT32)], taken=[2, 0], results=[3, 1])
    x = [numpy.arange(n, dtype=FLOAT32) for n in (2, 3, 4)]
    copy, second = function(*x)
    assert second is x[1]
    numpy.testing.assert_array_equal(copy, x[2])
    with pytest.raises(ProgramError):
        function(x[0], x[0], x[2])


@pytest.mark.parametrize("container, kind", [("list", list), ("tuple", tuple)])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_results_come_in_a_container(way, container, kind, count):
    function = native(NOTHING, [], [((2,), FLOAT32)] * count, container=container)
    results = function()
    assert type(results) is kind and [x.shape for x in results] == [(2,)] * count


def test_a_single_result_comes_alone(way):
    function = copy_of((3,), FLOAT32, container="single")
    assert list(function(numpy.arange(3, dtype=FLOAT32))) == [0, 1, 2]
    with pytest.raises(ProgramError, match="no single one"):
        bridge.native_callable(0, [], [], container="single")


def test_constants_are_kept_and_put_in_order(way):
    constant = numpy.arange(6, dtype=FLOAT32).reshape(2, 3)[:, ::-1]
    function = native(copying(24, source=1, target=0), [], [((2, 3), FLOAT32)], constants=[constant])
    expected = constant.copy()
    del constant
    gc.collect()
    numpy.testing.assert_array_equal(function()[0], expected)


# What it takes


def unaligned(x):
    room = numpy.zeros(x.nbytes + 1, numpy.uint8)
    moved = room[1:].view(x.dtype).reshape(x.shape)
    moved[...] = x
    assert not moved.flags.aligned
    return moved


class Subclass(numpy.ndarray):
    pass


UNUSUAL = {
    "not contiguous": lambda x: numpy.repeat(x, 2, axis=-1)[..., ::2],
    "transposed": lambda x: x.T.copy().T,
    "reversed": lambda x: x[::-1].copy()[::-1],
    "repeated": lambda x: numpy.broadcast_to(x, (2, *x.shape))[0],
    "unaligned": unaligned,
    "foreign byte order": lambda x: x.astype(x.dtype.newbyteorder()),
    "a subclass": lambda x: x.view(Subclass),
    "read only": lambda x: numpy.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
    "a dtype of its own": lambda x: x.astype(numpy.dtype(x.dtype, metadata={"unit": "m"})),
}


@pytest.mark.parametrize("change", UNUSUAL.values(), ids=UNUSUAL)
def test_unusual_arrays_are_put_in_order(way, change):
    function = copy_of((2, 3), FLOAT32)
    x = numpy.arange(6, dtype=FLOAT32).reshape(2, 3)
    (y,) = function(change(x))
    assert y.dtype is FLOAT32
    numpy.testing.assert_array_equal(y, x)


def test_scalars_of_numpy_are_arrays_without_axes(way):
    assert copy_of((), FLOAT32)(numpy.float32(2.5))[0] == 2.5


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((), "takes 1 arrays and got 0"),
        ((numpy.zeros(3, FLOAT32),) * 2, "takes 1 arrays and got 2"),
        ((numpy.zeros(4, FLOAT32),), r"takes float32\[3\] and got ndarray float32\[4\]"),
        ((numpy.zeros((3, 1), FLOAT32),), r"got ndarray float32\[3, 1\]"),
        ((numpy.zeros(()),), r"got ndarray float64\[\]"),
        ((numpy.zeros(3),), r"got ndarray float64\[3\]"),
        ((numpy.zeros(3, numpy.int32),), r"got ndarray int32\[3\]"),
        ((None,), "got NoneType"),
        (([1.0, 2.0, 3.0],), "got list"),
        ((ConcreteArray(numpy.zeros(3, FLOAT32)),), "got ConcreteArray"),
    ],
)
def test_what_does_not_fit_is_an_error(way, arguments, message):
    with pytest.raises(ProgramError, match=message):
        copy_of((3,), FLOAT32)(*arguments)


def test_keywords_are_not_taken(way):
    with pytest.raises(TypeError):
        copy_of((3,), FLOAT32)(x=numpy.zeros(3, FLOAT32))


# Arrays of the library


def test_wrapped_arrays_go_in_and_come_out(way):
    forms = [((3,), FLOAT32), ((), FLOAT32, True)]
    function = native(NOTHING, forms, forms, arrays=True)
    x, weak = ConcreteArray(numpy.arange(3, dtype=FLOAT32)), WeakArray(numpy.zeros((), FLOAT32))
    y, z = function(x, weak)
    assert type(y) is ConcreteArray and type(z) is WeakArray
    assert y.shape == (3,) == y._data.shape and y.dtype is FLOAT32 and z.shape == ()
    assert repr(y + y) and y.aval == x.aval
    for wrong in [(x, x), (weak, weak), (x._data, weak._data)]:
        with pytest.raises(ProgramError):
            function(*wrong)


def test_a_wrapped_result_holds_what_was_computed(way):
    function = copy_of((2, 3), dtypes.bfloat16, arrays=True, container="single")
    x = ConcreteArray(numpy.arange(6).astype(dtypes.bfloat16).reshape(2, 3))
    numpy.testing.assert_array_equal(function(x)._data, x._data)
    turned = ConcreteArray(x._data.T.copy().T)
    numpy.testing.assert_array_equal(function(turned)._data, x._data)


def test_a_donated_array_is_an_error(way):
    x = ConcreteArray(numpy.zeros(3, FLOAT32))
    x.delete()
    with pytest.raises(DonatedArrayError):
        copy_of((3,), FLOAT32, arrays=True)(x)


def test_an_array_without_a_buffer_is_an_error(way):
    with pytest.raises((ProgramError, AttributeError)):
        copy_of((3,), FLOAT32, arrays=True)(ConcreteArray.__new__(ConcreteArray))


def test_otherwise_is_given_for_what_does_not_fit(way):
    otherwise = object()
    function = copy_of((3,), FLOAT32, arrays=True, otherwise=otherwise)
    x = numpy.zeros(6, FLOAT32)
    before = sys.getrefcount(otherwise)
    for wrong in [(), (x[:3],), (None,), (ConcreteArray(x),), (ConcreteArray(x[::2]),), (WeakArray(x[:3]),)]:
        assert function(*wrong) is otherwise
    assert sys.getrefcount(otherwise) == before
    assert type(function(ConcreteArray(x[:3]))[0]) is ConcreteArray


# Memory


USE_ARENA = """
declare i32 @usleep(i32)
define void @entry(ptr %table) {
start:
  %x = load ptr, ptr %table
  %y.at = getelementptr ptr, ptr %table, i64 1
  %y = load ptr, ptr %y.at
  %arena.at = getelementptr ptr, ptr %table, i64 2
  %arena = load ptr, ptr %arena.at
  %code.at = getelementptr ptr, ptr %table, i64 3
  %code = load ptr, ptr %code.at
  %number = load i64, ptr %x
  store i64 %number, ptr %arena
  %last = getelementptr i8, ptr %arena, i64 SIZE
  store i64 %number, ptr %last
  call void %code(i64 %number)
  %first.now = load i64, ptr %arena
  %last.now = load i64, ptr %last
  %sum = add i64 %first.now, %last.now
  store i64 %sum, ptr %y
  ret void
}
"""
INT64 = ((), dtypes.int64)
ARENAS = [16, bridge.STACK_ARENA, bridge.STACK_ARENA + 1, 1 << 20]


def using_arena(size, callback, nanoseconds):
    """Code that writes its argument to both ends of its arena, calls `callback`, and gives the sum of what is there."""
    address = ctypes.cast(callback, ctypes.c_void_p).value
    ir = USE_ARENA.replace("SIZE", str(size - 8))
    return native(ir, [INT64], [INT64], arena_bytes=size, functions=[address], estimated_nanoseconds=nanoseconds)


@pytest.mark.parametrize("size", ARENAS)
def test_a_call_inside_of_a_call_has_its_own_arena(way, size):
    seen = []

    @ctypes.CFUNCTYPE(None, ctypes.c_int64)
    def callback(number):
        if number < 20:
            seen.append(int(function(numpy.array(number + 1))[0]))

    function = using_arena(size, callback, 1e9)
    assert function(numpy.array(5))[0] == 10
    assert seen == [2 * number for number in range(20, 5, -1)]
    bridge.free_arenas()


@pytest.mark.parametrize("size", ARENAS)
def test_threads_have_their_own_arenas(way, size):
    meeting = threading.Barrier(4)

    @ctypes.CFUNCTYPE(None, ctypes.c_int64)
    def callback(number):
        meeting.wait(20)

    function = using_arena(size, callback, 1e9)
    results = {}

    def work(number):
        results[number] = [int(function(numpy.array(number))[0]) for _ in range(20)]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: [2 * number] * 20 for number in range(4)}
    bridge.free_arenas()


def test_arenas_are_used_again_and_can_be_freed(way):
    function = native(
        SHOW_TABLE,
        [((2,), FLOAT32)],
        [((4,), dtypes.int64)],
        constants=[numpy.ones(1)],
        functions=[0],
        arena_bytes=1 << 22,
    )
    larger = copy_of((2,), FLOAT32, arena_bytes=1 << 23)
    x = numpy.zeros(2, FLOAT32)
    bridge.free_arenas()
    object_code("", host_target())  # LLVM is loaded, if an earlier test has begun to load it
    tracemalloc.start()
    try:
        first = function(x)[0][2]
        assert function(x)[0][2] == first
        assert 1 << 22 <= tracemalloc.get_traced_memory()[0] < 1 << 23
        larger(x)  # one block, as large as the largest need
        function(x)
        assert 1 << 23 <= tracemalloc.get_traced_memory()[0] < (1 << 23) + (1 << 22)
        bridge.free_arenas()
        assert tracemalloc.get_traced_memory()[0] < 1 << 20
    finally:
        tracemalloc.stop()


def test_other_threads_run_while_long_code_does(way):
    flag = numpy.zeros(1, dtypes.int64)
    ir = copying(12, before=waiting(2))
    function = native(ir, [((3,), FLOAT32)], [((3,), FLOAT32)], constants=[flag], estimated_nanoseconds=1e9)
    started = threading.Event()
    results = []

    def work():
        started.set()
        results.extend(function(numpy.arange(3, dtype=FLOAT32)))

    thread = threading.Thread(target=work)
    thread.start()
    started.wait(20)
    flag[0] = 1  # without which the code waits for ten seconds
    thread.join(8)
    assert not thread.is_alive()
    assert list(results[0]) == [0, 1, 2]


def test_an_array_that_is_deleted_while_code_runs_stays_until_it_ends(way):
    flag = numpy.zeros(1, dtypes.int64)
    size = 1 << 22
    ir = copying(size, before=waiting(2))
    form = ((size // 4,), FLOAT32)
    function = native(ir, [form], [form], constants=[flag], arrays=True, estimated_nanoseconds=1e9)
    x = ConcreteArray(numpy.full(size // 4, 3, FLOAT32))
    buffer = weakref.ref(x._data)
    started = threading.Event()
    results = []

    def work():
        started.set()
        results.extend(function(x))

    thread = threading.Thread(target=work)
    thread.start()
    started.wait(20)
    while sys.getrefcount(buffer()) < 3 and thread.is_alive():
        pass
    x.delete()
    flag[0] = 1
    thread.join()
    assert (numpy.asarray(results[0]) == 3).all()
    assert buffer() is None


# References


def counts(*objects):
    return [sys.getrefcount(x) for x in objects]


@pytest.mark.parametrize("arrays", [False, True])
@pytest.mark.parametrize("nanoseconds", [0.0, 1e9])
@pytest.mark.parametrize("arena_bytes", [0, 1 << 20])
def test_references_are_balanced(way, arrays, nanoseconds, arena_bytes):
    shape = (2, 300)
    function = copy_of(shape, FLOAT32, arrays=arrays, estimated_nanoseconds=nanoseconds, arena_bytes=arena_bytes)
    wrap = ConcreteArray if arrays else lambda x: x
    buffer = numpy.zeros(shape, FLOAT32)
    x, turned, wrong = wrap(buffer), wrap(numpy.zeros((2, 600), FLOAT32)[:, ::2]), wrap(numpy.zeros(3, FLOAT32))
    function(x), function(turned)
    objects = [buffer, x, turned, wrong, FLOAT32, numpy.ndarray, ConcreteArray, function]
    gc.collect()
    before = counts(*objects)
    for _ in range(100):
        function(x)
        function(turned)
        with pytest.raises(ProgramError):
            function(wrong)
    gc.collect()
    after = counts(*objects)
    assert all(abs(a - b) < 20 for a, b in zip(after, before, strict=True)), (before, after)
    bridge.free_arenas()


@pytest.mark.parametrize("arrays", [False, True])
@pytest.mark.parametrize("container", ["list", "tuple", "single"])
def test_nothing_is_left_after_a_million_calls(arrays, container):
    function = copy_of((3,), FLOAT32, arrays=arrays, container=container)
    x = numpy.zeros(3, FLOAT32)
    x = ConcreteArray(x) if arrays else x
    for _ in range(1000):
        function(x)
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(1_000_000 if container == "list" else 100_000):
        function(x)
    gc.collect()
    assert sys.getallocatedblocks() - before < 200


def test_a_function_keeps_alive_what_it_needs_and_nothing_longer(way):
    class Needed:
        pass

    needed, constant = Needed(), numpy.ones(3)
    is_alive, is_kept = weakref.ref(needed), weakref.ref(constant)
    code = load(object_code(copying(12), host_target()), ["entry"])
    form = ((3,), FLOAT32)
    function = bridge.native_callable(
        code.addresses["entry"], [form], [form], constants=[constant], keep_alive=(needed, code)
    )
    del needed, constant, code
    gc.collect()
    assert is_alive() is not None and is_kept() is not None
    function(numpy.zeros(3, FLOAT32))
    del function
    gc.collect()
    assert is_alive() is None and is_kept() is None


HUGE = (1 << 44,)


def traced_bytes():
    """How much memory is in use, without what NumPy reports but did not get."""
    return sum(trace.size for trace in tracemalloc.take_snapshot().traces if trace.size < 1 << 40)


@pytest.mark.parametrize("arrays", [False, True])
def test_too_large_results_are_a_memory_error(way, arrays):
    forms = [((200, 100), FLOAT32), ((3,), FLOAT32), (HUGE, FLOAT32)]
    for container in ["list", "tuple"]:
        function = native(copying(0), [((3,), FLOAT32)], forms, arrays=arrays, container=container)
        single = native(copying(0), [((3,), FLOAT32)], forms[-1:], arrays=arrays, container="single")
        x = numpy.zeros(3, FLOAT32)
        x = ConcreteArray(x) if arrays else x
        before = counts(x, FLOAT32)
        tracemalloc.start()
        try:
            for _ in range(30):
                for f in (function, single):
                    with pytest.raises(MemoryError):
                        f(x)
            gc.collect()
            assert traced_bytes() < 80_000  # the size of one of the results
        finally:
            tracemalloc.stop()
        assert all(abs(a - b) < 20 for a, b in zip(counts(x, FLOAT32), before, strict=True))


@pytest.mark.parametrize("container", ["list", "single"])
def test_a_too_large_arena_is_a_memory_error(way, container):
    function = copy_of((200, 100), FLOAT32, arena_bytes=1 << 46, container=container)
    x = numpy.zeros((200, 100), FLOAT32)
    tracemalloc.start()
    try:
        for _ in range(30):
            with pytest.raises(MemoryError):
                function(x)
        gc.collect()
        assert traced_bytes() < 80_000
    finally:
        tracemalloc.stop()


# What is believed about memory


@pytest.mark.parametrize("kind", ["TUPLE", "LIST", "OBJECT", "ARRAY", "DTYPE"])
def test_another_layout_of_objects_is_noticed(monkeypatch, kind):
    assert layout.layout_problem() is None
    places = getattr(layout, f"{kind}_LAYOUT")
    for name, place in places.items():
        monkeypatch.setitem(places, name, place - 8)
        assert layout.layout_problem() is not None
        monkeypatch.setitem(places, name, place)


def test_another_python_is_noticed(monkeypatch):
    monkeypatch.setattr(sys.implementation, "name", "another")
    assert "CPython" in layout.layout_problem()
    monkeypatch.undo()
    monkeypatch.setattr(layout, "API_VERSION_2", 3)
    assert "NumPy" in layout.layout_problem()


# Trees of arrays, as jitted functions take them


class Pair(NamedTuple):
    left: Any
    right: Any


@fg.tree.register_dataclass
@dataclasses.dataclass(frozen=True)
class Layer:
    weight: Any
    bias: Any
    name: str = dataclasses.field(default="layer", metadata={"static": True})


def array(*shape, dtype=FLOAT32):
    return fg.array(numpy.arange(numpy.prod(shape, dtype=int)).reshape(shape).astype(dtype))


def a_tree():
    return (
        [array(2), {"b": array(3), "a": (array(), None)}],
        {"layer": Layer(array(2, 2), Pair(array(4), array(0, 2))), "more": WeakArray(numpy.array(1.0, FLOAT32))},
    )


OTHERWISE = object()


def test_the_leaves_of_trees_are_read_from_left_to_right():
    read = bridge.tree_reader(a_tree(), OTHERWISE)
    for trees in (a_tree(), a_tree()):
        buffers = read(*trees)
        assert type(buffers) is list
        assert [*map(id, buffers)] == [id(x._data) for x in fg.tree.leaves(trees)]
    assert bridge.tree_reader((), OTHERWISE)() == []


def changed(place, value):
    """A function that puts a value at a place of a tree."""

    def change(tree):
        if not place:
            return value
        first, rest = place[0], changed(place[1:], value)
        if isinstance(tree, dict):
            return tree | {first: rest(tree.get(first))}
        if isinstance(tree, (list, tuple)):
            return type(tree)([*tree[:first], rest(tree[first]), *tree[first + 1 :]])
        return dataclasses.replace(tree, **{first: rest(getattr(tree, first))})

    return change


OTHERS = {
    "a shape": changed([0, 0], array(3)),
    "a rank": changed([0, 0], array(2, 1)),
    "a dtype": changed([0, 0], array(2, dtype=numpy.int32)),
    "a weak array": changed([0, 1, "a", 0], WeakArray(numpy.array(0, FLOAT32))),
    "a strong array": changed([1, "more"], array()),
    "a number": changed([1, "more"], 1.0),
    "a NumPy array": changed([0, 0], numpy.zeros(2, FLOAT32)),
    "an array with gaps": changed([0, 0], ConcreteArray(numpy.zeros(4, FLOAT32)[::2])),
    "an array for None": changed([0, 1, "a", 1], array()),
    "None for an array": changed([0, 0], None),
    "a tuple for a list": changed([0], (array(2), a_tree()[0][1])),
    "a list for a tuple": changed([0, 1, "a"], [array(), None]),
    "a longer list": changed([0], [*a_tree()[0], None]),
    "a shorter list": changed([0], [array(2)]),
    "another key": changed([0, 1], {"b": array(3), "c": (array(), None)}),
    "one key more": changed([0, 1, "c"], None),
    "a key that is no string": changed([0, 1], {"b": array(3), 1: (array(), None)}),
    "another class": changed([1, "layer", "bias"], (array(4), array(0, 2))),
    "another static field": changed([1, "layer", "name"], "other"),
    "a tree for an array": changed([0, 0], (array(2),)),
    "something else": changed([0, 0], object()),
    "no object of a class": changed([1, "layer"], array()),
}


NUMBERS = [2.5, 0.0, -0.0, 3, True, 1j, numpy.float32(2), numpy.int64(3), numpy.ones(3), dtypes.bfloat16.type(1)]


@pytest.mark.parametrize("number", NUMBERS, ids=lambda x: f"{type(x).__name__} {x}")
def test_what_becomes_an_array_is_read_as_one(number):
    read = bridge.tree_reader((array(2), [number]), OTHERWISE)
    expected = as_array(number)
    for value in (number, type(number)(1) if numpy.ndim(number) == 0 else number * 3):
        _, buffer = read(array(2), [value])
        assert buffer.dtype is expected.dtype
        assert str(buffer) == str(as_array(value)._data) and not numpy.shares_memory(buffer, value)
    for other in NUMBERS:
        if type(other) is not type(number):
            assert read(array(2), [other]) is OTHERWISE
    assert read(array(2), [array()]) is OTHERWISE and read(array(2), [expected]) is OTHERWISE


def test_what_cannot_become_an_array_is_not_read():
    read = bridge.tree_reader((1, numpy.ones(3)), OTHERWISE)
    for _ in range(100):
        assert read(2**70, numpy.ones(3)) is OTHERWISE
        assert read(1, numpy.array(["text"])) is OTHERWISE
        assert read(1, numpy.ones(4)) is OTHERWISE
        assert read(1, None) is OTHERWISE
        assert read(1, numpy.ones(3)) is not OTHERWISE


@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS)
def test_trees_of_another_kind_are_not_read(change):
    read = bridge.tree_reader(a_tree(), OTHERWISE)
    before = counts(OTHERWISE, array, Layer, Pair)
    other = change(a_tree())
    for _ in range(100):
        assert read(*other) is OTHERWISE
        assert read(*a_tree()) is not OTHERWISE
    assert all(abs(a - b) < 20 for a, b in zip(counts(OTHERWISE, array, Layer, Pair), before, strict=True))


def test_another_number_of_trees_is_not_read():
    read = bridge.tree_reader(a_tree(), OTHERWISE)
    assert read() is OTHERWISE and read(*a_tree(), None) is OTHERWISE and read(a_tree()) is OTHERWISE


def test_an_object_without_a_field_is_not_read():
    read = bridge.tree_reader(a_tree(), OTHERWISE)
    other = a_tree()
    empty = object.__new__(Layer)
    other[1]["layer"] = empty
    assert read(*other) is OTHERWISE
    read(*a_tree())  # no error is left behind


def test_the_order_of_the_keys_of_a_dict_does_not_matter():
    x, y = array(2), array(3)
    read = bridge.tree_reader(({"b": x, "a": y},), OTHERWISE)
    assert [len(b) for b in read({"a": y, "b": x})] == [3, 2] == [len(b) for b in read({"b": x, "a": y})]


def test_what_is_the_same_has_to_be_the_same_object():
    value = ("some", "value")
    read = bridge.tree_reader((bridge.Same(value), array(2)), OTHERWISE)
    assert read(value, array(2)) is not OTHERWISE
    assert read((*value,), array(2)) is OTHERWISE


class Computed:
    """A class whose fields are computed when one looks at them."""

    @property
    def x(self):
        return array(2)


class Reversed(NamedTuple):
    left: Any
    right: Any


def test_there_is_no_reader_for_trees_that_only_python_can_read():
    fg.tree.register_dataclass(Computed, ["x"], [])
    with pytest.warns(UserWarning, match="namedtuple"):
        fg.tree.register_node(Reversed, lambda x: ((x.right, x.left), None), lambda _, both: Reversed(*both[::-1]))
    deleted = array(2)
    deleted.delete()
    for x in [Computed(), Reversed(array(2), array(2)), {(1,): array(2)}, object(), deleted, collections.OrderedDict()]:
        assert bridge.tree_reader((x,), OTHERWISE) is None


def test_nothing_is_left_after_reading_many_trees():
    some = changed([0, 0], 0.0)(a_tree())
    read, trees, other = bridge.tree_reader(some, OTHERWISE), some, changed([1, "more"], 1.0)(some)
    gc.collect()
    leaves = [*fg.tree.leaves(trees), *(x._data for x in fg.tree.leaves(trees)[1:])]
    before, blocks = counts(*leaves, trees, OTHERWISE), sys.getallocatedblocks()
    for _ in range(20_000):
        read(*trees)
        read(*other)
    gc.collect()
    assert counts(*leaves, trees, OTHERWISE) == before
    assert sys.getallocatedblocks() - blocks < 200


def test_trees_of_results_are_made():
    like = {"b": Layer(array(3), Pair([array(2)], ()), "name"), "a": (array(), None)}
    leaves, structure = fg.tree.flatten(like)
    make = bridge.tree_maker([x.aval for x in leaves], structure, OTHERWISE)
    made = make(*[x._data for x in leaves])
    assert str(made) == str(like) and fg.tree.structure(made) == structure
    assert [*made] == ["b", "a"] and vars(made["b"]).keys() == vars(like["b"]).keys()
    assert [*map(id, [x._data for x in fg.tree.leaves(made)])] == [*map(id, [x._data for x in leaves])]
    assert weakref.ref(made["b"])() is made["b"]
    assert gc.is_tracked(made["b"]) and gc.is_tracked(made["a"]) and not gc.is_tracked(made["a"][0])
    assert make(*[x._data for x in leaves[1:]], numpy.zeros(1)) is OTHERWISE
    turned = numpy.zeros((3, 2), FLOAT32).T
    make = bridge.tree_maker([array(2, 3).aval], fg.tree.structure(0), OTHERWISE)
    assert make(turned)._data is turned


def test_trees_that_only_python_can_make_are_not_made():
    structure = fg.tree.structure(collections.OrderedDict(a=0))
    assert bridge.tree_maker([array(3).aval], structure, OTHERWISE) is None


# Jitted functions


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
