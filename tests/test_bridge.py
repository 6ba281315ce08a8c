"""The bridge from Python to native code: native functions that take and give NumPy arrays."""

import ctypes
import gc
import sys
import threading
import tracemalloc
import weakref

import numpy
import pytest
from bridge_code import FLOAT32, copying, counts, native, table_item

from funcgrad import dtypes
from funcgrad.array import ConcreteArray, WeakArray
from funcgrad.compiler import bridge
from funcgrad.compiler.bridge import layout
from funcgrad.compiler.machine import load, object_code
from funcgrad.compiler.target import host_target
from funcgrad.errors import DonatedArrayError, ProgramError


@pytest.fixture(params=["builtin", "python"])
def way(request, monkeypatch):
    """Both kinds of functions that there are: the builtin, and the one in Python for other Pythons."""
    if request.param == "python":
        monkeypatch.setattr(bridge, "bridge", lambda: None)
    else:
        assert bridge.bridge() is not None
    return request.param


NOTHING = "define void @entry(ptr %table) {\n  ret void\n}"


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
