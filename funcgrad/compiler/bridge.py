"""Where Python meets native code.

`native_callable` makes a Python function of machine code: it takes arrays, allocates the results, writes the addresses
of all buffers into a table, and calls the code. A call costs about a tenth of a microsecond. For that, the function has
to be native itself: a builtin, like those of an extension module, but written in LLVM's language (in `bridge_code.py`).
There is one such function for the whole library. What distinguishes one `native_callable` from the other is data, its
*specification*.

The builtin takes an array only if it finds what it expects: exactly a `numpy.ndarray`, of the right dtype and shape,
its elements in order and without gaps. Anything else goes to a Python function, `Signature.usual`, which makes such an
array of it or says what is wrong.

`tree_callable` and `tree_reader` make builtins that take the arguments of a jitted function just as they were passed,
pytrees of arrays of the library, if they are like those of an earlier call. Such a call needs no Python at all.

Nothing else in the library knows how objects lie in memory. What is believed is compared with what Python says before
it is used. Where they differ, as on another Python than CPython or one without the interpreter lock, a function in
Python takes the place of the builtin, and does the same more slowly.
"""

from __future__ import annotations

import ctypes
import inspect
import struct
import sys
import sysconfig
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from types import BuiltinFunctionType, MemberDescriptorType
from typing import Any

import numpy

from funcgrad import dtypes, tree
from funcgrad.array import ConcreteArray, WeakArray
from funcgrad.compiler.bridge_code import (
    API_NDARRAY,
    API_NEW_ARRAY,
    API_VERSION,
    API_VERSION_2,
    ARENA_ALIGNMENT,
    ARRAY_LAYOUT,
    DICT_NODE,
    DTYPE_LAYOUT,
    INPUT,
    KEPT_ARENAS,
    LARGEST_KEPT_ARENA,
    LEAF,
    LIST_LAYOUT,
    LIST_NODE,
    NODE,
    OBJECT_LAYOUT,
    OBJECT_NODE,
    OUTPUT,
    PROCESS,
    SAME,
    SINGLE,
    SPECIFICATION,
    STACK_ARENA,
    TUPLE,
    TUPLE_LAYOUT,
    TUPLE_NODE,
    builtin_ir,
)
from funcgrad.compiler.cache import cached
from funcgrad.compiler.machine import host_target, load, object_code
from funcgrad.errors import ProgramError

CONTAINERS = ("list", "tuple", "single")
UNLOCK_ABOVE = 5000.0  # nanoseconds of work, from which on other Python threads may run meanwhile


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
    """Why the builtin cannot be used in this Python: what is not in memory as is believed. None if it can be used."""
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
    slots = {name.strip("_"): _slot(name) for name in ConcreteArray.__slots__}
    return builtin_ir({name: place for name, place in slots.items() if place is not None})


class MethodDefinition(ctypes.Structure):
    """PyMethodDef of https://docs.python.org/3/c-api/structures.html"""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    ]


FASTCALL, NO_ARGUMENTS = 0x80, 0x04


class Kept:
    """What a builtin keeps alive, and its signature, if others may be made from it."""

    __slots__ = ("objects", "signature")

    def __init__(self, signature: Signature | None, objects: tuple[Any, ...]):
        self.signature, self.objects = signature, objects


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
            "clear_error": api.PyErr_Clear,
            "dict_size": api.PyDict_Size,
            "dict_item": api.PyDict_GetItem,
            "attribute": api.PyObject_GetAttr,
            "untrack": api.PyObject_GC_UnTrack,
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

    def function(self, specification: numpy.ndarray, signature: Signature | None, *kept: Any) -> Callable[..., Any]:
        """A builtin that does what the specification says, and keeps alive what it refers to."""
        specification[SPECIFICATION["process"] // 8] = address_of(self._process)
        return self._new(ctypes.addressof(self._call), (specification, Kept(signature, kept)), None)


def record(names: dict[str, int], **values: int) -> numpy.ndarray:
    """A record for the builtin."""
    return numpy.array([values.pop(name, 0) for name in names], numpy.int64)


def address_of(array: numpy.ndarray) -> int:
    """Where the elements of an array begin."""
    return array.__array_interface__["data"][0]


@cache
def bridge() -> Bridge | None:
    """The builtin; None where objects lie in memory in another way than is believed."""
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
    kind = CONTAINERS.index(container)
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
        specification, signature, records, held, fixed_words, function_words, kept, usual, otherwise, keep_alive
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


# Functions of trees


class Same:
    """Stands in a tree for a value that has to be this very object."""

    __slots__ = ("value",)

    def __init__(self, value: Any):
        self.value = value


class _UnknownNodeError(Exception):
    """The builtin does not know how to look into an object."""


class _Tree:
    """The records for trees that are like given ones.

    Attributes:
        leaves: the arrays in the trees, from left to right.
        kept: what the records refer to.
    """

    def __init__(self, trees: Sequence[Any]):
        self.leaves: list[ConcreteArray] = []
        self.kept: list[Any] = []
        self.root = self._record([self._node(TUPLE_NODE, trees, count=len(trees))])

    def _record(self, rows: Sequence[Sequence[int]]) -> int:
        words = numpy.array(rows, numpy.int64)
        self.kept.append(words)
        return address_of(words)

    def _node(self, kind: int, children: Sequence[Any] = (), keys: Sequence[str] = (), **values: int) -> list[int]:
        self.kept.append(keys)
        below = self._record([self.node(x) for x in children]) if children else 0
        known = {"kind": kind, "children": below, "count": len(children), "keys": self._record([[*map(id, keys)]])}
        return [*record(NODE, **{**known, **values})]

    def node(self, x: Any) -> list[int]:
        """The record of a tree."""
        kind = type(x)
        if kind in (ConcreteArray, WeakArray) and type(x._data) is numpy.ndarray:
            self.leaves.append(x)
            return self._node(LEAF)
        if x is None or kind is Same:
            value = x.value if type(x) is Same else None
            self.kept.append(value)
            return self._node(SAME, same=id(value))
        if kind is tuple or kind is list:
            return self._node(TUPLE_NODE if kind is tuple else LIST_NODE, x, type=id(kind))
        if tree.is_named_tuple(kind):
            self.kept.append(kind)
            return self._node(TUPLE_NODE, x, type=id(kind))
        if kind is dict and all(type(key) is str for key in x):
            keys = sorted(x)
            return self._node(DICT_NODE, [x[key] for key in keys], keys, type=id(kind))
        fields = tree.fields_of(kind)
        if fields is None or not _has_plain_fields(kind, fields[0]):
            raise _UnknownNodeError
        data, static = fields
        self.kept.append(kind)
        values = [*(getattr(x, name) for name in data), *(Same(getattr(x, name)) for name in static)]
        return self._node(OBJECT_NODE, values, [*data, *static], type=id(kind))


def _has_plain_fields(cls: type, names: Sequence[str]) -> bool:
    """Whether objects of a class hold their fields themselves, so that looking at them runs no code of the user."""
    if cls.__getattribute__ is not object.__getattribute__:
        return False
    found = [inspect.getattr_static(cls, name, None) for name in names]
    return all(type(x) is MemberDescriptorType or not hasattr(x, "__get__") for x in found)


def tree_callable(
    function: Callable[..., Any],
    trees: Sequence[Any],
    weak_outputs: Sequence[bool],
    container: str,
    otherwise: object,
) -> Callable[..., Any] | None:
    """What `native_callable` gave, as a function of trees of `ConcreteArray`s that gives `ConcreteArray`s.

    Arguments:
        function: the function of the buffers of the leaves.
        trees: arguments like those that it will take: tuples, lists, dicts with strings as keys, named tuples, and
            registered dataclasses, of arrays, None, and `Same` objects for what has to be the same object each time.
        weak_outputs: which of the results are weak.
        container: how it gives the results.
        otherwise: what to give, without running the code, for arguments that are not like these.

    Returns:
        The function; None if there is none, as for trees of other kinds or if `function` is no builtin.
    """
    bound = getattr(function, "__self__", None)
    if type(function) is not BuiltinFunctionType or type(bound) is not tuple or type(bound[-1]) is not Kept:
        return None
    specification, signature = bound[0], bound[1].signature
    outputs = [(shape, dtype, weak) for (shape, dtype, _), weak in zip(signature.outputs, weak_outputs, strict=True)]
    return _of_trees(specification.copy(), trees, outputs, container, otherwise, function)


def tree_reader(trees: Sequence[Any], otherwise: object) -> Callable[..., Any] | None:
    """A function that gives the list of the buffers of its arguments, which are like `trees`; see `tree_callable`."""
    return _of_trees(record(SPECIFICATION), trees, [], "list", otherwise, None)


def _of_trees(
    specification: numpy.ndarray,
    trees: Sequence[Any],
    outputs: Sequence[Any],
    container: str,
    otherwise: object,
    kept: Any,
) -> Callable[..., Any] | None:
    native = bridge()
    try:
        found = None if native is None else _Tree(trees)
    except _UnknownNodeError:
        return None
    if native is None or found is None:
        return None
    leaves = [x for x in tree.leaves(list(trees)) if type(x) is not Same]
    if [*map(id, leaves)] != [*map(id, found.leaves)]:
        return None  # somebody wants to see a class of trees in another way
    inputs = [(x.shape, x.dtype, x.weak_type) for x in found.leaves]
    records, held = _records(Signature(inputs, outputs, wrapped=True))
    changed = {
        "inputs": address_of(records[0]),
        "input_count": len(inputs),
        "outputs": address_of(records[1]),
        "output_count": len(outputs),
        "table_size": max(len(inputs), specification[SPECIFICATION["table_size"] // 8]),
        "container": CONTAINERS.index(container),
        "tree": found.root,
        "otherwise": id(otherwise),
    }
    for name, value in changed.items():
        specification[SPECIFICATION[name] // 8] = value
    return native.function(specification, None, records, held, found.kept, otherwise, kept)


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
