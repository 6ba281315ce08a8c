"""Where Python meets native code.

`native_callable` makes a Python function of machine code: it takes arrays, allocates the results, writes the addresses
of all buffers into a table, and calls the code. A call costs about a tenth of a microsecond. For that, the function has
to be native itself: a builtin, like those of an extension module, but written in LLVM's language below. There is one
such function for the whole library. What distinguishes one `native_callable` from the other is data, a *specification*.

The builtin takes an array only if it finds what it expects: exactly a `numpy.ndarray`, of the right dtype and shape,
its elements in order and without gaps. Anything else goes to a Python function, `Signature.usual`, which makes such an
array of it or says what is wrong.

This is the only file that knows how objects lie in memory. What it believes is compared with what Python says before it
is used. Where they differ, as on another Python than CPython or one without the interpreter lock, a function in Python
takes the place of the builtin, and does the same more slowly.
"""

from __future__ import annotations

import ctypes
import re
import struct
import sys
import sysconfig
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from typing import Any

import numpy

from funcgrad import dtypes
from funcgrad.array import ConcreteArray, WeakArray
from funcgrad.compiler.cache import cached
from funcgrad.compiler.machine import host_target, load, object_code
from funcgrad.errors import ProgramError

UNLOCK_ABOVE = 5000.0  # nanoseconds of work, from which on other Python threads may run meanwhile
ARENA_ALIGNMENT = 64
STACK_ARENA = 1 << 14  # bytes: an arena up to here lies on the stack
KEPT_ARENAS = 8
LARGEST_KEPT_ARENA = 1 << 30  # bytes

Array = tuple[Sequence[int], Any]  # shape and dtype


# How objects lie in memory, in bytes from their beginning. `layout_problem` verifies it.

TUPLE_LAYOUT = {"size": 16, "items": 24}
LIST_LAYOUT = {"items": 24}
OBJECT_LAYOUT = {"type": 8}
ARRAY_LAYOUT = {"data": 16, "ndim": 24, "shape": 32, "dtype": 56, "flags": 64}
DTYPE_LAYOUT = {"order": 26, "number": 28}
IN_ORDER_AND_ALIGNED = 0x0101  # NumPy's flags C_CONTIGUOUS and ALIGNED

# Places in NumPy's table of its C functions, https://numpy.org/doc/stable/reference/c-api/array.html

API_VERSION, API_NDARRAY, API_NEW_ARRAY = 0, 2, 94
API_VERSION_2 = 0x02000000


def words(*names: str) -> dict[str, int]:
    """Where the words of 8 bytes of a record are that have these names."""
    return {name: 8 * place for place, name in enumerate(names)}


# The records that we make for the builtin. Each word is a number or an address.

PROCESS = words(
    *("ndarray", "byte", "system_error", "new_array", "new_object", "new_list", "new_tuple", "increase", "decrease"),
    *("vectorcall", "set_error", "save_thread", "restore_thread", "arenas"),
    *(f"arena{place}" for place in range(1, KEPT_ARENAS)),
)
SPECIFICATION = words(
    *("process", "entry", "unlocked", "arena", "table_size", "inputs", "input_count", "outputs", "output_count"),
    *("fixed", "fixed_count", "functions", "function_count", "container", "usual", "otherwise"),
)
INPUT = words("wrapper", "dtype", "number", "ndim", "shape")
OUTPUT = words("wrapper", "dtype", "ndim", "shape", "shape_tuple")
LIST, TUPLE, SINGLE = range(3)  # containers of results

# The builtin
#
# It is LLVM's language with a few lines in place of longer ones, which `expanded` writes out:
#
#   %x = field T %base NAME    read a T at a place that has a name, from the beginning of an object
#   %x = item T %base %i       read the i-th of many Ts that follow each other
#   set %base NAME %value      write an address
#   put %base %i %value        write the i-th address
#   for %i below %n ... end    do something for each %i from 0 to %n - 1

BUILTIN = """
@impossible = private constant [60 x i8] c"the bridge to native code was handed arrays of other shapes\\00"

; Whether the arguments are what the specification says. If so, the addresses of their elements are put into the table,
; and the arrays into `held`.
define internal i1 @matches(ptr %process, ptr %spec, ptr %args, i64 %count, ptr %table, ptr %held) {
start:
  %wanted.count = field i64 %spec SPECIFICATION.input_count
  %inputs = field ptr %spec SPECIFICATION.inputs
  %ndarray = field ptr %process PROCESS.ndarray
  %right.count = icmp eq i64 %count, %wanted.count
  br i1 %right.count, label %arguments, label %no
arguments:
  for %i below %count
  %argument = item ptr %args %i
  %offset = mul i64 %i, INPUT.SIZE
  %input = getelementptr i8, ptr %inputs, i64 %offset
  %wrapper = field ptr %input INPUT.wrapper
  %bare = icmp eq ptr %wrapper, null
  br i1 %bare, label %buffer, label %wrapped
wrapped:
  %type = field ptr %argument OBJECT.type
  %right.wrapper = icmp eq ptr %type, %wrapper
  br i1 %right.wrapper, label %unwrap, label %no
unwrap:
  %inner = field ptr %argument WRAPPER.data
  %filled = icmp ne ptr %inner, null
  br i1 %filled, label %buffer, label %no
buffer:
  %array = phi ptr [%argument, %i.body], [%inner, %unwrap]
  %array.type = field ptr %array OBJECT.type
  %is.array = icmp eq ptr %array.type, %ndarray
  br i1 %is.array, label %look, label %no
look:
  %flags = field i32 %array ARRAY.flags
  %set = and i32 %flags, IN_ORDER_AND_ALIGNED
  %right.flags = icmp eq i32 %set, IN_ORDER_AND_ALIGNED
  %ndim = field i32 %array ARRAY.ndim
  %wanted.ndim = field i32 %input INPUT.ndim
  %right.ndim = icmp eq i32 %ndim, %wanted.ndim
  %fine = and i1 %right.flags, %right.ndim
  br i1 %fine, label %look.closer, label %no
look.closer:
  %dtype = field ptr %array ARRAY.dtype
  %wanted.dtype = field ptr %input INPUT.dtype
  %same.dtype = icmp eq ptr %dtype, %wanted.dtype
  br i1 %same.dtype, label %lengths, label %another.dtype
another.dtype: ; there may be several objects for one dtype
  %number = field i32 %dtype DTYPE.number
  %wanted.number = field i32 %input INPUT.number
  %right.number = icmp eq i32 %number, %wanted.number
  %order = field i8 %dtype DTYPE.order
  %native = icmp eq i8 %order, NATIVE
  %no.order = icmp eq i8 %order, NO_ORDER
  %right.order = or i1 %native, %no.order
  %equal.dtype = and i1 %right.number, %right.order
  br i1 %equal.dtype, label %lengths, label %no
lengths:
  %shape = field ptr %array ARRAY.shape
  %wanted.shape = field ptr %input INPUT.shape
  %axes = zext i32 %ndim to i64
  br label %compare
compare:
  for %axis below %axes
  %length = item i64 %shape %axis
  %wanted.length = item i64 %wanted.shape %axis
  %right.length = icmp eq i64 %length, %wanted.length
  br i1 %right.length, label %right, label %no
right:
  end
  %data = field ptr %array ARRAY.data
  put %table %i %data
  put %held %i %array
  end
  ret i1 true
no:
  ret i1 false
}

; A block of memory as a NumPy array of bytes, or null if there is none.
define internal ptr @take_arena(ptr %process, ptr %size) {
start:
  %bytes = load i64, ptr %size
  %arenas = getelementptr i8, ptr %process, i64 PROCESS.arenas
  br label %search
search:
  for %i below KEPT_ARENAS
  %kept = item ptr %arenas %i
  %is.kept = icmp ne ptr %kept, null
  br i1 %is.kept, label %measure, label %other
measure:
  %shape = field ptr %kept ARRAY.shape
  %length = load i64, ptr %shape
  %enough = icmp sge i64 %length, %bytes
  br i1 %enough, label %found, label %other
found:
  put %arenas %i null
  ret ptr %kept
other:
  end
  br label %make.room
make.room:
  for %j below KEPT_ARENAS
  %small = item ptr %arenas %j
  %is.small = icmp ne ptr %small, null
  br i1 %is.small, label %drop, label %next
drop:
  put %arenas %j null
  %decrease = field ptr %process PROCESS.decrease
  call void %decrease(ptr %small)
  br label %make
next:
  end
  br label %make
make:
  %byte = field ptr %process PROCESS.byte
  %increase = field ptr %process PROCESS.increase
  call void %increase(ptr %byte)
  %ndarray = field ptr %process PROCESS.ndarray
  %new = field ptr %process PROCESS.new_array
  %block = call ptr %new(ptr %ndarray, ptr %byte, i32 1, ptr %size, ptr null, ptr null, i32 0, ptr null)
  ret ptr %block
}

define internal void @give_arena_back(ptr %process, ptr %block) {
start:
  %shape = field ptr %block ARRAY.shape
  %length = load i64, ptr %shape
  %arenas = getelementptr i8, ptr %process, i64 PROCESS.arenas
  %small = icmp sle i64 %length, LARGEST_KEPT_ARENA
  br i1 %small, label %search, label %full
search:
  for %i below KEPT_ARENAS
  %kept = item ptr %arenas %i
  %free = icmp eq ptr %kept, null
  br i1 %free, label %keep, label %taken
keep:
  put %arenas %i %block
  ret void
taken:
  end
  br label %full
full:
  %decrease = field ptr %process PROCESS.decrease
  call void %decrease(ptr %block)
  ret void
}

; Lets go of all blocks that wait for a next call.
define ptr @free_arenas(ptr %self, ptr %none) {
start:
  %words = field ptr %self TUPLE.items
  %spec = field ptr %words ARRAY.data
  %process = field ptr %spec SPECIFICATION.process
  %arenas = getelementptr i8, ptr %process, i64 PROCESS.arenas
  %decrease = field ptr %process PROCESS.decrease
  br label %all
all:
  for %i below KEPT_ARENAS
  %kept = item ptr %arenas %i
  %is.kept = icmp ne ptr %kept, null
  br i1 %is.kept, label %drop, label %next
drop:
  put %arenas %i null
  call void %decrease(ptr %kept)
  br label %next
next:
  end
  %result = field ptr %spec SPECIFICATION.otherwise
  %increase = field ptr %process PROCESS.increase
  call void %increase(ptr %result)
  ret ptr %result
}

; A new result; the address of its elements goes to `data`. Null if there is no memory.
define internal ptr @new_result(ptr %process, ptr %output, ptr %data) {
start:
  %increase = field ptr %process PROCESS.increase
  %dtype = field ptr %output OUTPUT.dtype
  call void %increase(ptr %dtype) ; which the array takes from us
  %new = field ptr %process PROCESS.new_array
  %ndarray = field ptr %process PROCESS.ndarray
  %ndim = field i32 %output OUTPUT.ndim
  %shape = field ptr %output OUTPUT.shape
  %array = call ptr %new(ptr %ndarray, ptr %dtype, i32 %ndim, ptr %shape, ptr null, ptr null, i32 0, ptr null)
  %failed = icmp eq ptr %array, null
  br i1 %failed, label %error, label %made
made:
  %elements = field ptr %array ARRAY.data
  store ptr %elements, ptr %data
  %wrapper = field ptr %output OUTPUT.wrapper
  %bare = icmp eq ptr %wrapper, null
  br i1 %bare, label %done, label %wrap
wrap:
  %new.object = field ptr %process PROCESS.new_object
  %object = call ptr %new.object(ptr %wrapper, i64 0)
  %no.object = icmp eq ptr %object, null
  br i1 %no.object, label %lose, label %fill
fill:
  %shape.tuple = field ptr %output OUTPUT.shape_tuple
  call void %increase(ptr %shape.tuple)
  call void %increase(ptr %dtype)
  set %object WRAPPER.data %array
  set %object WRAPPER.dtype %dtype
  set %object WRAPPER.shape %shape.tuple
  ret ptr %object
done:
  ret ptr %array
lose:
  %decrease = field ptr %process PROCESS.decrease
  call void %decrease(ptr %array)
  ret ptr null
error:
  ret ptr null
}

; Makes the results and calls the native code; gives what the caller gets, or null.
define internal ptr @run(ptr %process, ptr %spec, ptr %table, ptr %held) {
start:
  %inputs = field i64 %spec SPECIFICATION.input_count
  %count = field i64 %spec SPECIFICATION.output_count
  %outputs = field ptr %spec SPECIFICATION.outputs
  %decrease = field ptr %process PROCESS.decrease
  %one = alloca ptr
  store ptr null, ptr %one
  %container = field i64 %spec SPECIFICATION.container
  switch i64 %container, label %list [i64 TUPLE.KIND, label %tuple  i64 SINGLE.KIND, label %results]
list:
  %new.list = field ptr %process PROCESS.new_list
  %a.list = call ptr %new.list(i64 %count)
  %no.list = icmp eq ptr %a.list, null
  br i1 %no.list, label %error, label %made.list
made.list:
  %list.items = field ptr %a.list LIST.items
  br label %results
tuple:
  %new.tuple = field ptr %process PROCESS.new_tuple
  %a.tuple = call ptr %new.tuple(i64 %count)
  %no.tuple = icmp eq ptr %a.tuple, null
  br i1 %no.tuple, label %error, label %made.tuple
made.tuple:
  %tuple.items = getelementptr i8, ptr %a.tuple, i64 TUPLE.items
  br label %results
results:
  %box = phi ptr [null, %start], [%a.list, %made.list], [%a.tuple, %made.tuple]
  %items = phi ptr [%one, %start], [%list.items, %made.list], [%tuple.items, %made.tuple]
  %first = getelementptr ptr, ptr %table, i64 %inputs
  br label %each
each:
  for %i below %count
  %offset = mul i64 %i, OUTPUT.SIZE
  %output = getelementptr i8, ptr %outputs, i64 %offset
  %data = getelementptr ptr, ptr %first, i64 %i
  %result = call ptr @new_result(ptr %process, ptr %output, ptr %data)
  %no.result = icmp eq ptr %result, null
  br i1 %no.result, label %lose, label %more
more:
  put %items %i %result
  end
  %fixed.count = field i64 %spec SPECIFICATION.fixed_count
  %fixed = field ptr %spec SPECIFICATION.fixed
  %second = getelementptr ptr, ptr %first, i64 %count
  br label %addresses
addresses:
  for %k below %fixed.count
  %address = item ptr %fixed %k
  put %second %k %address
  end
  %function.count = field i64 %spec SPECIFICATION.function_count
  %functions = field ptr %spec SPECIFICATION.functions
  %third = getelementptr ptr, ptr %second, i64 %fixed.count
  %fourth = getelementptr ptr, ptr %third, i64 1
  br label %code
code:
  for %f below %function.count
  %function = item ptr %functions %f
  put %fourth %f %function
  end
  %arena.bytes = field i64 %spec SPECIFICATION.arena
  %little = icmp sle i64 %arena.bytes, STACK_ARENA
  br i1 %little, label %on.stack, label %on.heap
on.stack:
  %stack = alloca i8, i64 %arena.bytes, align ARENA_ALIGNMENT
  br label %ready
on.heap:
  %size = getelementptr i8, ptr %spec, i64 SPECIFICATION.arena
  %block = call ptr @take_arena(ptr %process, ptr %size)
  %no.block = icmp eq ptr %block, null
  br i1 %no.block, label %lose, label %align
align:
  %block.data = field ptr %block ARRAY.data
  %block.number = ptrtoint ptr %block.data to i64
  %up = add i64 %block.number, ARENA_ALIGNMENT_LESS_1
  %aligned = and i64 %up, MINUS_ARENA_ALIGNMENT
  %heap = inttoptr i64 %aligned to ptr
  br label %ready
ready:
  %arena = phi ptr [%stack, %on.stack], [%heap, %align]
  %arena.block = phi ptr [null, %on.stack], [%block, %align]
  store ptr %arena, ptr %third
  %entry = field ptr %spec SPECIFICATION.entry
  %unlocked = field i64 %spec SPECIFICATION.unlocked
  %is.locked = icmp eq i64 %unlocked, 0
  br i1 %is.locked, label %locked, label %hold
locked:
  call void %entry(ptr %table)
  br label %finished
hold: ; another thread may now let go of an array that we were only lent
  %increase = field ptr %process PROCESS.increase
  br label %hold.all
hold.all:
  for %h below %inputs
  %array = item ptr %held %h
  call void %increase(ptr %array)
  end
  %save = field ptr %process PROCESS.save_thread
  %restore = field ptr %process PROCESS.restore_thread
  %thread = call ptr %save()
  call void %entry(ptr %table)
  call void %restore(ptr %thread)
  br label %release
release:
  for %r below %inputs
  %released = item ptr %held %r
  call void %decrease(ptr %released)
  end
  br label %finished
finished:
  %has.block = icmp ne ptr %arena.block, null
  br i1 %has.block, label %give.back, label %end
give.back:
  call void @give_arena_back(ptr %process, ptr %arena.block)
  br label %end
end:
  %is.single = icmp eq ptr %box, null
  %single = load ptr, ptr %one
  %answer = select i1 %is.single, ptr %single, ptr %box
  ret ptr %answer
lose: ; what was made so far
  %no.box = icmp eq ptr %box, null
  br i1 %no.box, label %lose.single, label %lose.box
lose.box:
  call void %decrease(ptr %box)
  ret ptr null
lose.single:
  %made = load ptr, ptr %one
  %nothing = icmp eq ptr %made, null
  br i1 %nothing, label %error, label %lose.one
lose.one:
  call void %decrease(ptr %made)
  br label %error
error:
  ret ptr null
}

; The builtin itself: METH_FASTCALL of https://docs.python.org/3/c-api/structures.html
define ptr @call(ptr %self, ptr %args, i64 %count) {
start:
  %words = field ptr %self TUPLE.items
  %spec = field ptr %words ARRAY.data
  %process = field ptr %spec SPECIFICATION.process
  %table.size = field i64 %spec SPECIFICATION.table_size
  %inputs = field i64 %spec SPECIFICATION.input_count
  %table = alloca ptr, i64 %table.size
  %held = alloca ptr, i64 %inputs
  %usual = call i1 @matches(ptr %process, ptr %spec, ptr %args, i64 %count, ptr %table, ptr %held)
  br i1 %usual, label %fast, label %slow
fast:
  %result = call ptr @run(ptr %process, ptr %spec, ptr %table, ptr %held)
  ret ptr %result
slow:
  %otherwise = field ptr %spec SPECIFICATION.otherwise
  %no.otherwise = icmp eq ptr %otherwise, null
  br i1 %no.otherwise, label %ask, label %decline
decline:
  %increase = field ptr %process PROCESS.increase
  call void %increase(ptr %otherwise)
  ret ptr %otherwise
ask:
  %python = field ptr %spec SPECIFICATION.usual
  %vectorcall = field ptr %process PROCESS.vectorcall
  %arrays = call ptr %vectorcall(ptr %python, ptr %args, i64 %count, ptr null)
  %refused = icmp eq ptr %arrays, null
  br i1 %refused, label %error, label %again
again:
  %decrease = field ptr %process PROCESS.decrease
  %items = getelementptr i8, ptr %arrays, i64 TUPLE.items
  %size = field i64 %arrays TUPLE.size
  %now.usual = call i1 @matches(ptr %process, ptr %spec, ptr %items, i64 %size, ptr %table, ptr %held)
  br i1 %now.usual, label %fast.now, label %bug
fast.now:
  %late.result = call ptr @run(ptr %process, ptr %spec, ptr %table, ptr %held)
  call void %decrease(ptr %arrays)
  ret ptr %late.result
bug:
  call void %decrease(ptr %arrays)
  %set.error = field ptr %process PROCESS.set_error
  %system.error = field ptr %process PROCESS.system_error
  call void %set.error(ptr %system.error, ptr @impossible)
  br label %error
error:
  ret ptr null
}
"""


def expanded(text: str, names: dict[str, int]) -> str:
    """The builtin in LLVM's language: our own lines written out, and numbers in place of names."""
    lines: list[str] = []
    block, open_loops = "", []
    for line in text.splitlines():
        line = line.partition(";")[0].rstrip()
        match line.split():
            case [name, "=", "field", kind, base, place]:
                lines += [
                    f"{name}.at = getelementptr i8, ptr {base}, i64 {place}",
                    f"{name} = load {kind}, ptr {name}.at",
                ]
            case [name, "=", "item", kind, base, number]:
                lines += [f"{name}.at = getelementptr {kind}, ptr {base}, i64 {number}"]
                lines += [f"{name} = load {kind}, ptr {name}.at"]
            case ["set" | "put" as what, base, place, value]:
                kind = "i8" if what == "set" else "ptr"
                at = f"%at{len(lines)}"
                lines += [f"{at} = getelementptr {kind}, ptr {base}, i64 {place}", f"store ptr {value}, ptr {at}"]
            case ["for", i, "below", times]:
                label = i[1:]
                lines += [f"br label {i}.head", f"{label}.head:"]
                lines += [
                    f"{i} = phi i64 [0, %{block}], [{i}.next, {i}.again]",
                    f"{i}.more = icmp slt i64 {i}, {times}",
                ]
                lines += [f"br i1 {i}.more, label {i}.body, label {i}.done", f"{label}.body:"]
                block = f"{label}.body"
                open_loops.append(i)
            case ["end"]:
                i = open_loops.pop()
                label = i[1:]
                lines += [f"br label {i}.again", f"{label}.again:", f"{i}.next = add i64 {i}, 1"]
                lines += [f"br label {i}.head", f"{label}.done:"]
                block = f"{label}.done"
            case [label] if label.endswith(":"):
                block = label[:-1]
                lines.append(line)
            case _:
                lines.append(line)
    return re.sub(r"(?<![\w.%@])[A-Z][A-Z_0-9]+(\.\w+)?", lambda found: str(names[found[0]]), "\n".join(lines))


def _word(address: int) -> int:
    return ctypes.c_size_t.from_address(address).value


def _words(address: int, count: int) -> list[int] | None:
    """The words that follow each other at an address; None if the number cannot be one."""
    if address % 8 or address < 1 << 16:
        return None
    return [_word(address + 8 * place) for place in range(count)]


@cache
def _slot(name: str) -> int | None:
    """Where a `ConcreteArray` has a slot, found by looking for what is in it."""
    array = ConcreteArray(numpy.zeros((7, 3), numpy.float32))
    value = id(getattr(array, name))
    places = [place for place in range(16, ConcreteArray.__basicsize__, 8) if _word(id(array) + place) == value]
    return places[0] if len(places) == 1 else None


def layout_problem() -> str | None:
    """Why the builtin cannot be used in this Python: what is not in memory as it believes. None if it can be used."""
    if sys.implementation.name != "cpython" or sysconfig.get_config_var("Py_GIL_DISABLED"):
        return "this is not CPython with the interpreter lock"
    if struct.calcsize("P") != 8 or sys.byteorder != "little":
        return "a word is not 8 bytes, the lowest first"
    numbers = (None, 1, "a")
    if _word(id(numbers) + TUPLE_LAYOUT["size"]) != 3:
        return "the size of a tuple is elsewhere"
    as_list = [*numbers]
    for items in (id(numbers) + TUPLE_LAYOUT["items"], _word(id(as_list) + LIST_LAYOUT["items"])):
        if _words(items, 3) != [*map(id, numbers)]:
            return "the items of tuples or lists are elsewhere"
    ordered = numpy.arange(24, dtype=numpy.float32).reshape(2, 3, 4)
    swapped = numpy.zeros(3, numpy.dtype(numpy.int32).newbyteorder())
    unaligned = numpy.zeros(9, numpy.uint8)[1:].view(numpy.int64)
    kinds = [numpy.zeros((2, 0), dtype) for dtype in dtypes.ALL]
    for x in [ordered, ordered[:, 1], ordered.T, swapped, unaligned, numpy.array(1.5), *kinds]:
        if (problem := _array_problem(x)) is not None:
            return problem
    if None in [_slot(name) for name in ConcreteArray.__slots__]:
        return "the slots of arrays are elsewhere"
    version = ctypes.PYFUNCTYPE(ctypes.c_uint)(_numpy_function(API_VERSION))()
    if version != API_VERSION_2 or _numpy_function(API_NDARRAY) != id(numpy.ndarray):
        return "NumPy's table of C functions is another one"
    return None


def _array_problem(x: numpy.ndarray) -> str | None:
    def at(name: str) -> int:
        return id(x) + ARRAY_LAYOUT[name]

    if _word(id(x) + OBJECT_LAYOUT["type"]) != id(numpy.ndarray):
        return "the type of an object is elsewhere"
    if _word(at("data")) != address_of(x):
        return "the elements of an array are elsewhere"
    if ctypes.c_int.from_address(at("ndim")).value != x.ndim:
        return "the number of axes of an array is elsewhere"
    if x.ndim and _words(_word(at("shape")), x.ndim) != [*x.shape]:
        return "the shape of an array is elsewhere"
    flags = ctypes.c_int.from_address(at("flags")).value
    if (bool(flags & 0x1), bool(flags & 0x100)) != (x.flags.c_contiguous, x.flags.aligned):
        return "the flags of an array are elsewhere"
    if _word(at("dtype")) != id(x.dtype):
        return "the dtype of an array is elsewhere"
    number = ctypes.c_int.from_address(id(x.dtype) + DTYPE_LAYOUT["number"]).value
    order = ctypes.c_char.from_address(id(x.dtype) + DTYPE_LAYOUT["order"]).value
    if (number, order) != (x.dtype.num, x.dtype.byteorder.encode()):
        return "what a dtype says of itself is elsewhere"
    return None


def _numpy_function(place: int) -> int:
    """The address in NumPy's table of C functions."""
    # This is how every extension module finds it.
    umath = import_module("numpy._core._multiarray_umath")
    find = ctypes.pythonapi.PyCapsule_GetPointer
    find.restype, find.argtypes = ctypes.c_size_t, [ctypes.py_object, ctypes.c_char_p]
    return _word(find(umath._ARRAY_API, None) + 8 * place)


def bridge_ir() -> str:
    """The builtin in LLVM's language, for this process."""
    layouts = {"OBJECT": OBJECT_LAYOUT, "TUPLE": TUPLE_LAYOUT, "LIST": LIST_LAYOUT, "ARRAY": ARRAY_LAYOUT}
    records = {"PROCESS": PROCESS, "SPECIFICATION": SPECIFICATION, "INPUT": INPUT, "OUTPUT": OUTPUT}
    slots = {name.strip("_"): _slot(name) for name in ConcreteArray.__slots__}
    named = {**layouts, "DTYPE": DTYPE_LAYOUT, **records, "WRAPPER": slots}
    names = {f"{record}.{name}": place for record, layout in named.items() for name, place in layout.items()}
    names |= {"INPUT.SIZE": 8 * len(INPUT), "OUTPUT.SIZE": 8 * len(OUTPUT), "TUPLE.KIND": TUPLE, "SINGLE.KIND": SINGLE}
    names |= {"NATIVE": ord("="), "NO_ORDER": ord("|"), "IN_ORDER_AND_ALIGNED": IN_ORDER_AND_ALIGNED}
    names |= {"STACK_ARENA": STACK_ARENA, "KEPT_ARENAS": KEPT_ARENAS, "LARGEST_KEPT_ARENA": LARGEST_KEPT_ARENA}
    names |= {"ARENA_ALIGNMENT": ARENA_ALIGNMENT, "ARENA_ALIGNMENT_LESS_1": ARENA_ALIGNMENT - 1}
    return expanded(BUILTIN, names | {"MINUS_ARENA_ALIGNMENT": -ARENA_ALIGNMENT})


class MethodDefinition(ctypes.Structure):
    """PyMethodDef of https://docs.python.org/3/c-api/structures.html"""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    ]


FASTCALL, NO_ARGUMENTS = 0x80, 0x04


class Bridge:
    """The builtin in memory, and what it knows of the process."""

    def __init__(self):
        ir = bridge_ir()
        self._code = load(cached(ir.encode(), lambda: object_code(ir, host_target())), ["call", "free_arenas"])
        api = ctypes.pythonapi
        functions = {
            "new_object": api.PyType_GenericAlloc,
            "new_list": api.PyList_New,
            "new_tuple": api.PyTuple_New,
            "increase": api.Py_IncRef,
            "decrease": api.Py_DecRef,
            "vectorcall": api.PyObject_Vectorcall,
            "set_error": api.PyErr_SetString,
            "save_thread": api.PyEval_SaveThread,
            "restore_thread": api.PyEval_RestoreThread,
        }
        known = {name: ctypes.cast(function, ctypes.c_void_p).value or 0 for name, function in functions.items()}
        known |= {"ndarray": id(numpy.ndarray), "byte": id(dtypes.uint8), "system_error": id(SystemError)}
        known["new_array"] = _numpy_function(API_NEW_ARRAY)
        self._process = record(PROCESS, **known)
        self._new = api.PyCFunction_NewEx
        self._new.restype, self._new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p]
        functions = self._code.addresses
        self._call = MethodDefinition(b"native", functions["call"], FASTCALL, b"Calls native code.")
        self._free = MethodDefinition(b"free_arenas", functions["free_arenas"], NO_ARGUMENTS, b"Frees memory.")
        free = record(SPECIFICATION, process=address_of(self._process), otherwise=id(None))
        self.free_arenas = self._new(ctypes.addressof(self._free), (free,), None)

    def function(self, specification: numpy.ndarray, *kept: Any) -> Callable[..., Any]:
        """A builtin that does what the specification says, and keeps alive what it refers to."""
        specification[SPECIFICATION["process"] // 8] = address_of(self._process)
        return self._new(ctypes.addressof(self._call), (specification, kept), None)


def record(names: dict[str, int], **values: int) -> numpy.ndarray:
    """A record for the builtin."""
    return numpy.array([values.pop(name, 0) for name in names], numpy.int64)


def address_of(array: numpy.ndarray) -> int:
    """Where the elements of an array begin."""
    return array.__array_interface__["data"][0]


@cache
def bridge() -> Bridge | None:
    """The builtin; None where objects lie in memory in another way than it believes."""
    return Bridge() if layout_problem() is None else None


class Signature:
    """What goes into native code and what comes out, and how to bring arguments into the form that it takes.

    Arguments:
        inputs, outputs: shape and dtype of each array, and whether it is weak, where arrays are wrapped.
        wrapped: whether they are wrapped as `ConcreteArray`s.
    """

    def __init__(self, inputs: Sequence[Any], outputs: Sequence[Any], wrapped: bool):
        self.inputs, self.outputs = [*map(_description, inputs)], [*map(_description, outputs)]
        self.wrapped = wrapped

    def buffers(self, *arguments: Any) -> list[numpy.ndarray]:
        """The buffers of the arguments as native code takes them; copies where they are not such."""
        if len(arguments) != len(self.inputs):
            raise ProgramError(
                f"a compiled function takes {len(self.inputs)} arrays and got {len(arguments)}; "
                "this is a bug in funcgrad."
            )
        return [self._buffer(x, *wanted) for x, wanted in zip(arguments, self.inputs, strict=True)]

    def _buffer(self, argument: Any, shape: tuple[int, ...], dtype: numpy.dtype, weak: bool) -> numpy.ndarray:
        x: Any = argument
        if self.wrapped:
            x = x._data if isinstance(x, ConcreteArray) and x.weak_type is weak else None
        if _is_usual(x, shape, dtype):
            return x
        x_shape = getattr(x, "shape", None)  # raises if the array was donated
        if isinstance(x, (numpy.ndarray, numpy.generic)) and x_shape == shape and x.dtype.newbyteorder("=") == dtype:
            return numpy.array(x, dtype, order="C", subok=False)
        raise ProgramError(
            f"a compiled function takes {dtype.name}{[*shape]} and got {_short(argument)}; this is a bug in funcgrad."
        )

    def are_usual(self, arguments: Sequence[Any]) -> bool:
        """Whether the builtin takes the arguments as they are."""
        if len(arguments) != len(self.inputs):
            return False
        for x, (shape, dtype, weak) in zip(arguments, self.inputs, strict=True):
            if self.wrapped and type(x) is not _wrapper(weak):
                return False
            if not _is_usual(x._data if self.wrapped else x, shape, dtype):
                return False
        return True

    def usual(self, *arguments: Any) -> tuple[Any, ...]:
        """The arguments as the builtin takes them."""
        buffers = self.buffers(*arguments)
        if not self.wrapped:
            return tuple(buffers)
        return tuple([_wrapper(weak)(x) for x, (_, _, weak) in zip(buffers, self.inputs, strict=True)])

    def results(self) -> list[numpy.ndarray]:
        """New arrays for the results."""
        return [numpy.empty(shape, dtype) for shape, dtype, _ in self.outputs]

    def wrap(self, results: list[numpy.ndarray]) -> list[Any]:
        if not self.wrapped:
            return results
        return [_wrapper(weak)(x) for x, (_, _, weak) in zip(results, self.outputs, strict=True)]


def _description(array: Sequence[Any]) -> tuple[tuple[int, ...], numpy.dtype, bool]:
    shape, dtype, *weak = array
    return tuple([int(n) for n in shape]), dtypes.canonical(dtype), bool(weak and weak[0])


def _is_usual(x: Any, shape: tuple[int, ...], dtype: numpy.dtype) -> bool:
    if type(x) is not numpy.ndarray or x.shape != shape or x.dtype != dtype:
        return False
    return x.flags.c_contiguous and x.flags.aligned


def _wrapper(weak: bool) -> type[ConcreteArray]:
    return WeakArray if weak else ConcreteArray


def _short(x: Any) -> str:
    if isinstance(x, (numpy.ndarray, numpy.generic, ConcreteArray)):
        return f"{type(x).__name__} {x.dtype}{[*x.shape]}"
    return type(x).__name__


def native_callable(
    entry_address: int,
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    constants: Sequence[numpy.ndarray] = (),
    arena_bytes: int = 0,
    keep_alive: object = None,
    estimated_nanoseconds: float = 0.0,
    *,
    functions: Sequence[int] = (),
    arrays: bool = False,
    container: str = "list",
    otherwise: object = None,
) -> Callable[..., Any]:
    """A Python function of machine code.

    The code is a function `void entry(ptr table)`. The table has the addresses of the inputs, the outputs, the
    constants, the arena, and the `functions`, in this order. The elements of each array lie in order and without gaps.
    The arena begins at a multiple of 64; each call has its own while it runs, whose contents are undefined at first.

    Arguments:
        entry_address: where the code is.
        inputs: shape and dtype of each array that the function takes; with `arrays`, also whether it is weak.
        outputs: the same of the arrays that it gives.
        constants: arrays that the code reads, which must not change.
        arena_bytes: how much memory the code needs while it runs.
        keep_alive: what must live as long as the function does, such as the code.
        estimated_nanoseconds: about how long the code runs. If that is long, other Python threads run meanwhile.
        functions: addresses that the code needs for its own purposes.
        arrays: whether the function takes and gives `ConcreteArray`s instead of their buffers.
        container: how it gives the outputs: as a "list", as a "tuple", or as "single", if there is but one.
        otherwise: what to give, without running the code, for arguments that do not fit, or that would have to be
            copied. By default they are copied, or a ProgramError is raised.

    Returns:
        The function. It takes the inputs one by one, exactly of the shapes and dtypes stated.
    """
    signature = Signature(inputs, outputs, arrays)
    kept = [numpy.require(x, requirements=["C", "A"]) for x in constants]
    fixed = [address_of(x) for x in kept]
    unlocked = estimated_nanoseconds > UNLOCK_ABOVE
    kind = {"list": LIST, "tuple": TUPLE, "single": SINGLE}[container]
    if kind == SINGLE and len(outputs) != 1:
        raise ProgramError(
            f"a compiled function with {len(outputs)} results has no single one; this is a bug in funcgrad."
        )
    native = bridge()
    if native is None:
        alive = (keep_alive, kept)
        return _in_python(signature, entry_address, fixed, functions, arena_bytes, unlocked, kind, otherwise, alive)
    records, held = _records(signature)
    fixed_words, function_words = numpy.array(fixed, numpy.int64), numpy.array(functions, numpy.int64)
    usual = signature.usual
    specification = record(
        SPECIFICATION,
        entry=entry_address,
        unlocked=int(unlocked),
        arena=arena_bytes if arena_bytes <= STACK_ARENA else arena_bytes + ARENA_ALIGNMENT,
        table_size=len(inputs) + len(outputs) + len(fixed) + 1 + len(functions),
        inputs=address_of(records[0]),
        input_count=len(inputs),
        outputs=address_of(records[1]),
        output_count=len(outputs),
        fixed=address_of(fixed_words),
        fixed_count=len(fixed),
        functions=address_of(function_words),
        function_count=len(functions),
        container=kind,
        usual=id(usual),
        otherwise=0 if otherwise is None else id(otherwise),
    )
    return native.function(
        specification, records, held, fixed_words, function_words, kept, usual, otherwise, keep_alive
    )


def _records(signature: Signature) -> tuple[list[numpy.ndarray], list[Any]]:
    """The records of inputs and outputs, and the objects that they refer to."""
    held: list[Any] = []
    rows: list[list[int]] = [[], []]
    for names, arrays, row in zip((INPUT, OUTPUT), (signature.inputs, signature.outputs), rows, strict=True):
        for shape, dtype, weak in arrays:
            lengths = numpy.array(shape, numpy.int64)
            wrapper = id(_wrapper(weak)) if signature.wrapped else 0
            known = {"wrapper": wrapper, "dtype": id(dtype), "number": dtype.num, "ndim": len(shape)}
            known |= {"shape": address_of(lengths), "shape_tuple": id(shape)}
            row += [known[name] for name in names]
            held += [lengths, dtype, shape]
    return [numpy.array(row, numpy.int64) for row in rows], held


# The same in Python


def _in_python(
    signature: Signature,
    entry_address: int,
    fixed: Sequence[int],
    functions: Sequence[int],
    arena_bytes: int,
    unlocked: bool,
    container: int,
    otherwise: object,
    keep_alive: object,
) -> Callable[..., Any]:
    """What `native_callable` gives where there is no builtin."""
    prototype = ctypes.CFUNCTYPE if unlocked or not hasattr(ctypes, "pythonapi") else ctypes.PYFUNCTYPE
    entry = prototype(None, ctypes.c_char_p)(entry_address)
    pack = struct.Struct(f"{len(signature.inputs) + len(signature.outputs) + len(fixed) + 1 + len(functions)}q").pack

    room = arena_bytes + ARENA_ALIGNMENT

    def native(*arguments: Any, alive: object = keep_alive) -> Any:
        if otherwise is not None and not signature.are_usual(arguments):
            return otherwise
        buffers = signature.buffers(*arguments)
        results = signature.results()
        try:
            arena = _arenas.pop()
        except IndexError:
            arena = _NO_ARENA
        if arena.size < room:
            arena = numpy.empty(room, numpy.uint8)
        start = -(-address_of(arena) // ARENA_ALIGNMENT) * ARENA_ALIGNMENT
        addresses = [x.__array_interface__["data"][0] for x in (*buffers, *results)]
        entry(pack(*addresses, *fixed, start, *functions))
        if arena.size <= LARGEST_KEPT_ARENA and len(_arenas) < KEPT_ARENAS:
            _arenas.append(arena)
        wrapped = signature.wrap(results)
        return wrapped[0] if container == SINGLE else tuple(wrapped) if container == TUPLE else wrapped

    return native


_NO_ARENA = numpy.empty(0, numpy.uint8)
_arenas: list[numpy.ndarray] = []


def free_arenas() -> None:
    """Lets go of the memory that waits for the next call of native code."""
    native = bridge()
    if native is not None:
        native.free_arenas()
    _arenas.clear()
