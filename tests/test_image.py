"""Machine code as an image: `compiler/image.py`."""

import ctypes
import gc
import subprocess
import sys

import pytest

from funcgrad.compiler.image import PAGE, Mapped, are_images_supported, linked
from funcgrad.compiler.machine import object_code
from funcgrad.compiler.target import Target, host_target

pytestmark = pytest.mark.skipif(not are_images_supported(), reason="images are for Linux on x86-64")

COUNTER = """
@count = global i64 40, align 8
@table = constant [2 x ptr] [ptr @one, ptr @two], align 16
@empty = internal global [100 x i64] zeroinitializer, align 64

define i64 @one() { ret i64 1 }
define i64 @two() { ret i64 2 }

define i64 @add(i64 %which) {
  %slot = getelementptr ptr, ptr @table, i64 %which
  %function = load ptr, ptr %slot
  %more = call i64 %function()
  %old = load i64, ptr @count
  %new = add i64 %old, %more
  store i64 %new, ptr @count
  %last = getelementptr i64, ptr @empty, i64 99
  store i64 %new, ptr %last
  ret i64 %new
}
"""

CALLER = """
declare i64 @add(i64)
declare double @cos(double)
declare ptr @memset(ptr, i32, i64)
@room = internal global [16 x i8] zeroinitializer

define i64 @twice(i64 %which) {
  %a = call i64 @add(i64 %which)
  %b = call i64 @add(i64 %which)
  ret i64 %b
}

define double @half_cos(double %x) {
  %y = call double @cos(double %x)
  %z = fmul double %y, 5.0e-1
  %p = call ptr @memset(ptr @room, i32 7, i64 16)
  ret double %z
}
"""


def function(image, name, result=ctypes.c_int64, *arguments):
    return ctypes.CFUNCTYPE(result, *arguments)(image.addresses[name])


def made(*texts):
    return [object_code(text, host_target()) for text in texts]


def test_functions_data_and_tables_of_functions():
    code = linked(made(COUNTER), ["add", "two"])
    first, second = Mapped(code), Mapped(code)
    assert function(first, "two")() == 2
    add = function(first, "add", ctypes.c_int64, ctypes.c_int64)
    assert [add(0), add(1), add(1)] == [41, 43, 45]
    assert function(second, "add", ctypes.c_int64, ctypes.c_int64)(0) == 41  # data of its own


def test_several_objects_call_each_other_and_other_libraries():
    image = Mapped(linked(made(CALLER, COUNTER), ["twice", "half_cos"]))
    assert function(image, "twice", ctypes.c_int64, ctypes.c_int64)(1) == 44
    assert function(image, "half_cos", ctypes.c_double, ctypes.c_double)(0.0) == 0.5


def test_code_cannot_be_written_to():
    image = Mapped(linked(made(COUNTER), ["add"]))
    address = image.addresses["add"]
    with open("/proc/self/maps") as file:
        ranges = [(line.split()[0].split("-"), line.split()[1]) for line in file]
    rights = {r for (low, high), r in ranges if int(low, 16) <= address < int(high, 16)}
    assert rights == {"r-xp"}


def test_it_goes_with_the_object_unless_kept():
    def is_mapped(address):
        with open("/proc/self/maps") as file:
            return any(int(low, 16) <= address < int(high, 16) for low, high in (x.split()[0].split("-") for x in file))

    code = linked(made(COUNTER), ["add"])
    images = [Mapped(code), Mapped(code)]
    gone, kept = (x.addresses["add"] for x in images)
    images[1].keep()
    del images
    gc.collect()
    assert is_mapped(kept)
    assert gone // PAGE == kept // PAGE or not is_mapped(gone)


def test_a_missing_function_is_named():
    code = linked(
        made("declare void @nowhere_at_all()\ndefine void @f() { call void @nowhere_at_all()\n ret void }"), ["f"]
    )
    with pytest.raises(RuntimeError, match="nowhere_at_all"):
        Mapped(code)


def test_what_images_are_not_made_of():
    assert linked([b"no object"], []) is None
    assert linked(made(COUNTER), ["not there"]) is None
    other = Target("generic", "", 16, "aarch64-unknown-linux-gnu")
    assert linked([object_code(COUNTER, other)], ["add"]) is None


def test_the_process_ends_while_a_thread_runs_an_image():
    code = """
import ctypes, threading
from funcgrad.compiler.image import Mapped, linked
from funcgrad.compiler.machine import object_code
from funcgrad.compiler.target import host_target
text = "define void @f() {\\nentry:\\n br label %l\\nl:\\n br label %l\\n}"
image = Mapped(linked([object_code(text, host_target())], ["f"]))
threading.Thread(target=ctypes.CFUNCTYPE(None)(image.addresses["f"]), daemon=True).start()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
