"""How objects lie in memory, as the builtin believes it, and a comparison of that with what Python says.

A place is a number of bytes from the beginning of an object. `layout_problem` looks at some objects in both ways.
"""

from __future__ import annotations

import ctypes
import struct
import sys
from functools import cache
from importlib import import_module
from typing import Any

import numpy

from funcgrad import dtypes
from funcgrad.array import ConcreteArray

TUPLE_LAYOUT = {"size": 16, "items": 24}
LIST_LAYOUT = {"items": 24}
OBJECT_LAYOUT = {"references": 0, "type": 8}
ARRAY_LAYOUT = {"data": 16, "ndim": 24, "shape": 32, "dtype": 56, "flags": 64}
DTYPE_LAYOUT = {"order": 26, "number": 28}
IN_ORDER_AND_ALIGNED = 0x0101  # NumPy's flags C_CONTIGUOUS and ALIGNED
OWNED_AND_WRITEABLE = 0x0404  # OWNDATA and WRITEABLE

# Places in NumPy's table of its C functions, https://numpy.org/doc/stable/reference/c-api/array.html

API_VERSION, API_NDARRAY, API_NEW_ARRAY = 0, 2, 94
API_VERSION_2 = 0x02000000


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
    return place_of_slot(ConcreteArray(numpy.zeros((7, 3), numpy.float32)), name)


def place_of_slot(x: Any, name: str) -> int | None:
    """Where an object has a slot, in which is what it has nowhere else; None if that is not found."""
    value = id(getattr(x, name))
    places = [place for place in range(16, type(x).__basicsize__, 8) if _word(id(x) + place) == value]
    return places[0] if len(places) == 1 else None


def layout_problem() -> str | None:
    """Why the builtin cannot be used in this Python: what is not in memory as is believed. None if it can be used."""
    if sys.implementation.name != "cpython" or "free-threading" in sys.version:
        return "this is not CPython with the interpreter lock"
    if struct.calcsize("P") != 8 or sys.byteorder != "little":
        return "a word is not 8 bytes, the lowest first"
    if sys.version_info >= (3, 12) and not _word(id(None)) & 1 << 31:
        return "immortal objects are counted in another way"
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
    version = ctypes.PYFUNCTYPE(ctypes.c_uint)(numpy_function(API_VERSION))()
    if version != API_VERSION_2 or numpy_function(API_NDARRAY) != id(numpy.ndarray):
        return "NumPy's table of C functions is another one"
    return None


def _array_problem(x: numpy.ndarray) -> str | None:
    def at(name: str) -> int:
        return id(x) + ARRAY_LAYOUT[name]

    if _word(id(x) + OBJECT_LAYOUT["type"]) != id(numpy.ndarray):
        return "the type of an object is elsewhere"
    references = id(x) + OBJECT_LAYOUT["references"]
    before, another = _word(references), x
    if _word(references) != before + 1 or another is not x:
        return "the number of references to an object is elsewhere"
    if _word(at("data")) != address_of(x):
        return "the elements of an array are elsewhere"
    if ctypes.c_int.from_address(at("ndim")).value != x.ndim:
        return "the number of axes of an array is elsewhere"
    if x.ndim and _words(_word(at("shape")), x.ndim) != [*x.shape]:
        return "the shape of an array is elsewhere"
    flags = ctypes.c_int.from_address(at("flags")).value
    found = [bool(flags & bit) for bit in (0x1, 0x100, 0x4, 0x400)]
    if found != [x.flags.c_contiguous, x.flags.aligned, x.flags.owndata, x.flags.writeable]:
        return "the flags of an array are elsewhere"
    if _word(at("dtype")) != id(x.dtype):
        return "the dtype of an array is elsewhere"
    number = ctypes.c_int.from_address(id(x.dtype) + DTYPE_LAYOUT["number"]).value
    order = ctypes.c_char.from_address(id(x.dtype) + DTYPE_LAYOUT["order"]).value
    if (number, order) != (x.dtype.num, x.dtype.byteorder.encode()):
        return "what a dtype says of itself is elsewhere"
    return None


def address_of(array: numpy.ndarray) -> int:
    """Where the elements of an array begin."""
    return array.__array_interface__["data"][0]


def numpy_function(place: int) -> int:
    """The address in NumPy's table of C functions."""
    # This is how every extension module finds it.
    umath = import_module("numpy._core._multiarray_umath")
    find = ctypes.pythonapi.PyCapsule_GetPointer
    find.restype, find.argtypes = ctypes.c_size_t, [ctypes.py_object, ctypes.c_char_p]
    return _word(find(umath._ARRAY_API, None) + 8 * place)


def slots() -> dict[str, int]:
    """Where a `ConcreteArray` has its slots."""
    found = {name.strip("_"): _slot(name) for name in ConcreteArray.__slots__}
    return {name: place for name, place in found.items() if place is not None}
