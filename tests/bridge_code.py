"""Code for the tests of the bridge: functions that copy, and how they are called; and trees of arrays."""

import dataclasses
import sys
from typing import Any, NamedTuple

import numpy

import funcgrad as fg
from funcgrad.array import WeakArray
from funcgrad.compiler import bridge
from funcgrad.compiler.machine import load, object_code
from funcgrad.compiler.target import host_target

FLOAT32 = numpy.dtype(numpy.float32)


def table_item(name, place):
    return f"  {name}.at = getelementptr ptr, ptr %table, i64 {place}\n  {name} = load ptr, ptr {name}.at\n"


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


def native(ir, inputs, outputs, **options):
    """A function of this code; the code lives as long as the function does."""
    code = load(object_code(ir, host_target()), ["entry"])
    return bridge.native_callable(code.addresses["entry"], inputs, outputs, keep_alive=code, **options)


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


def counts(*objects):
    return [sys.getrefcount(x) for x in objects]
