"""Where Python meets native code.

`native_callable` makes a Python function of machine code: it takes arrays, allocates the results, writes the addresses
of all buffers into a table, and calls the code. A call costs about a tenth of a microsecond. For that, the function has
to be native itself: a builtin, like those of an extension module, but written in LLVM's language (in `builtin.py`).
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
import math
import struct
import sys
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from types import BuiltinFunctionType
from typing import Any

import numpy

from funcgrad import dtypes, tree
from funcgrad.array import DONATED, ConcreteArray, WeakArray, as_array
from funcgrad.compiler.bridge.code import (
    ARENA_ALIGNMENT,
    INPUT,
    KEPT_ARENAS,
    LARGEST_KEPT_ARENA,
    OUTPUT,
    PROCESS,
    SPECIFICATION,
    STACK_ARENA,
    builtin_ir,
)
from funcgrad.compiler.bridge.layout import (
    API_NEW_ARRAY,
    IN_ORDER_AND_ALIGNED,
    address_of,
    layout_problem,
    numpy_function,
)
from funcgrad.compiler.bridge.trees import Result, Same, Table, TreeRecords, UnknownNodeError, record
from funcgrad.compiler.machine import Code, Part, kept, library_key
from funcgrad.compiler.target import host_target
from funcgrad.errors import ProgramError

CONTAINERS: dict[str, Callable[..., Any]] = {"list": list, "tuple": tuple}
UNLOCK_ABOVE = 5000.0  # nanoseconds of work, from which on other Python threads may run meanwhile


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
    """What a builtin keeps alive; and its signature and which arrays it gives, if others may be made from it."""

    __slots__ = ("objects", "places", "signature")

    def __init__(self, objects: Any, signature: Signature | None = None, places: tuple[int, ...] | None = None):
        self.objects, self.signature, self.places = objects, signature, places


def builtin_code() -> Code:
    """The builtin, as code that can be made."""
    return Code(library_key("the builtin"), lambda: [Part(builtin_ir(), host_target(), 0)], ["call", "free_arenas"])


class Bridge:
    """The builtin in memory, and what it knows of the process."""

    def __init__(self):
        self._code = kept(builtin_code())
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
            "new_dict": api.PyDict_New,
            "dict_item": api.PyDict_GetItemWithError,
            "set_dict_item": api.PyDict_SetItem,
            "set_attribute": api.PyObject_GenericSetAttr,
            "attribute": api.PyObject_GetAttr,
            "untrack": api.PyObject_GC_UnTrack,
            "save_thread": api.PyEval_SaveThread,
            "restore_thread": api.PyEval_RestoreThread,
        }
        known = {name: ctypes.cast(function, ctypes.c_void_p).value or 0 for name, function in functions.items()}
        known |= {"ndarray": id(numpy.ndarray), "byte": id(dtypes.uint8), "system_error": id(SystemError)}
        known |= {"object_new": id(object.__new__), "convert": id(as_array)}
        known["new_array"] = numpy_function(API_NEW_ARRAY)
        self._process = Table(record(PROCESS, **known))
        self._new = api.PyCFunction_NewEx
        self._new.restype, self._new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p]
        functions = self._code.addresses
        self._call = MethodDefinition(b"native", functions["call"], FASTCALL, b"Calls native code.")
        self._free = MethodDefinition(b"free_arenas", functions["free_arenas"], NO_ARGUMENTS, b"Frees memory.")
        free = numpy.array(record(SPECIFICATION, process=self._process.address, otherwise=id(None)), numpy.int64)
        self.free_arenas = self._new(ctypes.addressof(self._free), (free,), None)

    def function(self, specification: Sequence[int], kept: Kept) -> Callable[..., Any]:
        """A builtin that does what the specification says."""
        words = numpy.array(specification, numpy.int64)
        words[SPECIFICATION["process"] // 8] = self._process.address
        return self._new(ctypes.addressof(self._call), (words, kept), None)


@cache
def bridge() -> Bridge | None:
    """The builtin; None where objects lie in memory in another way than is believed."""
    return Bridge() if layout_problem() is None else None


class Signature:
    """What goes into native code and what comes out, and how to bring arguments into the form that it takes.

    Arguments:
        inputs, outputs: shape and dtype of each array, and whether it is weak, where arrays are wrapped.
        wrapped: whether they are wrapped as `ConcreteArray`s.
        taken: the numbers of the inputs that the code takes, in its order; by default all of them.
    """

    def __init__(
        self, inputs: Sequence[Any], outputs: Sequence[Any], wrapped: bool, taken: Sequence[int] | None = None
    ):
        self.inputs, self.outputs = [*map(_description, inputs)], [*map(_description, outputs)]
        self.wrapped = wrapped
        self.taken = range(len(inputs)) if taken is None else taken
        self.converted: Sequence[bool] = [False] * len(inputs)  # which inputs become arrays first
        self.donated: Sequence[bool] = self.converted  # which are given up by whoever calls
        self.takes: dict[int, int] = {}  # outputs, and the donated inputs whose memory they may have
        self._tables: dict[tuple[int, ...], Table] = {}

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

    def result(self, place: int, weak: bool | None = None) -> Result:
        """What stands in a tree of results for an input, or, counting on, for an output."""
        shape, dtype, is_weak = [*self.inputs, *self.outputs][place]
        wrapper = _wrapper(is_weak if weak is None else weak)
        return Result(place, shape, dtype, wrapper if self.wrapped else None)

    def records(self, flags: int = IN_ORDER_AND_ALIGNED, unused: int = 0) -> tuple[Table, Table]:
        """The records of the inputs, which have to have these flags, and of the outputs.

        What the records refer to lives as long as this object. `unused` is the place in the table for the addresses of
        inputs that the code does not take.
        """
        inputs: list[int] = []
        places = dict(zip(self.taken, range(len(self.taken)), strict=True))
        for number, (shape, dtype, weak) in enumerate(self.inputs):
            wrapper = id(_wrapper(weak)) if self.wrapped else 0
            known = {"wrapper": wrapper, "dtype": id(dtype), "number": dtype.num, "flags": flags}
            known |= {"place": places.get(number, unused), "converted": int(self.converted[number])}
            known["donated"] = id(DONATED) if self.donated[number] else 0
            inputs += record(INPUT, **known, ndim=len(shape), shape=self._lengths(shape))
        outputs: list[int] = []
        for number, (shape, dtype, _) in enumerate(self.outputs):
            takes = self.takes[number] + 1 if number in self.takes else 0
            outputs += record(OUTPUT, dtype=id(dtype), ndim=len(shape), shape=self._lengths(shape), takes=takes)
        return Table(inputs), Table(outputs)

    def _lengths(self, shape: tuple[int, ...]) -> int:
        if shape not in self._tables:
            self._tables[shape] = Table(shape)
        return self._tables[shape].address


def _description(array: Sequence[Any]) -> tuple[tuple[int, ...], numpy.dtype, bool]:
    shape, dtype, *weak = array
    return tuple([int(n) for n in shape]), dtypes.canonical(dtype), bool(weak and weak[0])


def _is_usual(x: Any, shape: tuple[int, ...], dtype: numpy.dtype) -> bool:
    if type(x) is not numpy.ndarray or x.shape != shape or x.dtype != dtype:
        return False
    flags = x.flags
    return flags.c_contiguous and flags.aligned


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
    taken: Sequence[int] | None = None,
    results: Sequence[int] | None = None,
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
        container: how it gives the results: as a "list", as a "tuple", or as "single", if there is but one.
        taken: the numbers of the inputs that the code takes, in its order; by default all of them.
        results: what it gives: numbers of inputs, and, counting on, of outputs. By default all of the outputs.
        otherwise: what to give, without running the code, for arguments that do not fit, or that would have to be
            copied. By default they are copied, or a ProgramError is raised.

    Returns:
        The function. It takes the inputs one by one, exactly of the shapes and dtypes stated.
    """
    signature = Signature(inputs, outputs, arrays, taken)
    kept = [numpy.require(x, requirements=["C", "A"]) for x in constants]
    fixed = [address_of(x) for x in kept]
    unlocked = estimated_nanoseconds > UNLOCK_ABOVE
    places = range(len(inputs), len(inputs) + len(outputs)) if results is None else results
    if container == "single" and len(places) != 1:
        raise ProgramError(
            f"a compiled function with {len(places)} results has no single one; this is a bug in funcgrad."
        )
    native = bridge()
    if native is None:
        alive = (keep_alive, kept)
        return _in_python(
            signature, entry_address, fixed, functions, arena_bytes, unlocked, container, places, otherwise, alive
        )
    made = [signature.result(place) for place in places]
    tree_of_results = TreeRecords(made[0] if container == "single" else CONTAINERS[container](made), is_read=False)
    table_size = len(signature.taken) + len(outputs) + len(fixed) + 1 + len(functions)
    input_records, output_records = signature.records(unused=table_size)
    fixed_table, function_table = Table(fixed), Table(functions)
    usual = signature.usual
    specification = record(
        SPECIFICATION,
        entry=entry_address,
        unlocked=int(unlocked),
        arena=arena_bytes if arena_bytes <= STACK_ARENA else arena_bytes + ARENA_ALIGNMENT,
        table_size=table_size + 1,
        inputs=input_records.address,
        input_count=len(inputs),
        taken_count=len(signature.taken),
        outputs=output_records.address,
        output_count=len(outputs),
        fixed=fixed_table.address,
        fixed_count=len(fixed),
        functions=function_table.address,
        function_count=len(functions),
        results=tree_of_results.root,
        usual=id(usual),
        otherwise=0 if otherwise is None else id(otherwise),
    )
    tables = (input_records, output_records, fixed_table, function_table)
    objects = (tables, tree_of_results.kept, kept, usual, otherwise, keep_alive)
    return native.function(specification, Kept(objects, signature, tuple(places) if container == "list" else None))


# Functions of trees


def tree_callable(
    function: Callable[..., Any],
    trees: Sequence[Any],
    structure: Any,
    weak: Sequence[bool],
    otherwise: object,
    donated: Sequence[bool] = (),
) -> Callable[..., Any] | None:
    """What `native_callable` gave, as a function of trees of `ConcreteArray`s that gives such a tree.

    Arguments:
        function: the function of the buffers of the leaves, which gives a list; or an object whose attribute `native`
            it is. It may have an attribute `in_place`: for outputs, by their number, the numbers of the inputs in whose
            memory the code may write them.
        trees: arguments like those that it will take: trees as `TreeRecords` knows them.
        structure: the structure of the tree of results.
        weak: which of the results are weak.
        otherwise: what to give, without running the code, for arguments that are not like these.
        donated: which of the leaves are given up: their arrays are deleted, and results may take their memory.

    Returns:
        The function; None if there is none, as for trees of other kinds or if `function` is no builtin.
    """
    in_place: dict[int, Sequence[int]] = getattr(function, "in_place", {})
    function = getattr(function, "native", function)
    bound = getattr(function, "__self__", None)
    if type(function) is not BuiltinFunctionType or type(bound) is not tuple or type(bound[-1]) is not Kept:
        return None
    specification, kept = bound[0].tolist(), bound[1]
    if kept.signature is None or kept.places is None or kept.signature.wrapped:
        return None
    read = _read(trees)
    if read is None or [x[:2] for x in read.inputs] != [x[:2] for x in kept.signature.inputs]:
        return None
    outputs = kept.signature.outputs
    signature = Signature(read.inputs, outputs, True, kept.signature.taken)
    if any(donated):
        is_strong = [not (converted or x[2]) for converted, x in zip(read.converted, read.inputs, strict=True)]
        signature.donated = [given and strong for given, strong in zip(donated, is_strong, strict=True)]
        signature.takes = _takes(signature, in_place, kept.places)
    made = [signature.result(place, is_weak) for place, is_weak in zip(kept.places, weak, strict=True)]
    return _of_trees(specification, signature, read, made, structure, otherwise, function)


def _takes(signature: Signature, in_place: dict[int, Sequence[int]], places: Sequence[int]) -> dict[int, int]:
    """For outputs, the donated input whose memory each may have; no two have the same."""
    found: dict[int, int] = {}
    for output, candidates in in_place.items():
        shape, dtype, _ = signature.outputs[output]
        for number in candidates:
            # Arrays without axes may be shared, and an input that is given back is needed as it is.
            fits = signature.donated[number] and shape and signature.inputs[number][:2] == (shape, dtype)
            if fits and number not in places and number not in found.values():
                found[output] = number
                break
    return found


def tree_reader(trees: Sequence[Any], otherwise: object) -> Callable[..., Any] | None:
    """A function that gives the list of the buffers of its arguments, which are like `trees`; see `tree_callable`."""
    read = _read(trees)
    if read is None:
        return None
    signature = Signature(read.inputs, [], wrapped=True)
    made = [Result(place, (), dtypes.bool_, None) for place in range(len(read.inputs))]
    structure = tree.structure([0] * len(made))
    return _of_trees(record(SPECIFICATION), signature, read, made, structure, otherwise, None)


class _Read:
    """The records of arguments, and the shape, dtype and weakness of each array in them."""

    def __init__(self, trees: Sequence[Any]):
        self.records = TreeRecords(tuple(trees), is_read=True)
        self.inputs = [(x.shape, x.dtype, x.weak_type) for x in map(as_array, self.records.leaves)]
        self.converted = [not isinstance(x, ConcreteArray) for x in self.records.leaves]


def _read(trees: Sequence[Any]) -> _Read | None:
    if bridge() is None:
        return None
    try:
        read = _Read(trees)
    except UnknownNodeError:
        return None
    leaves = [x for x in tree.leaves(list(trees)) if type(x) is not Same]
    # The order is another one where somebody wants to see a class in another way.
    return read if [*map(id, leaves)] == [*map(id, read.records.leaves)] else None


def _of_trees(
    specification: Sequence[int],
    signature: Signature,
    read: _Read,
    made: Sequence[Result],
    structure: Any,
    otherwise: object,
    function: Any,
) -> Callable[..., Any] | None:
    native = bridge()
    if native is None:
        return None
    try:
        results, is_whole = TreeRecords(tree.unflatten(structure, made), is_read=False), True
    except Exception:  # the builtin does not know such trees, or a class of the user refuses what is not an array
        results, is_whole = TreeRecords([*made], is_read=False), False
    signature.converted = read.converted
    table_size = specification[SPECIFICATION["table_size"] // 8] or len(signature.inputs) + 1
    input_records, output_records = signature.records(unused=table_size - 1)
    changed = {
        "inputs": input_records.address,
        "input_count": len(signature.inputs),
        "outputs": output_records.address,
        "table_size": table_size,
        "arguments": read.records.root,
        "converts": int(any(read.converted)),
        "results": results.root,
        "otherwise": id(otherwise),
    }
    words = [*specification]
    for name, value in changed.items():
        words[SPECIFICATION[name] // 8] = value
    objects = (signature, input_records, output_records, read.records.kept, results.kept, otherwise, function)
    builtin = native.function(words, Kept(objects))
    if is_whole:
        return builtin

    def native_of_trees(*trees: Any) -> Any:
        flat = builtin(*trees)
        return flat if flat is otherwise else tree.unflatten(structure, flat)

    return native_of_trees


def tree_maker(avals: Sequence[Any], structure: Any, otherwise: object) -> Callable[..., Any] | None:
    """A function that wraps its arguments, which are buffers, as arrays, and gives them in a tree.

    Arguments:
        avals: shape, dtype and weakness of each of them.
        structure: the structure of the tree.
        otherwise: what to give if the arguments have another shape or dtype.
    """
    native = bridge()
    if native is None:
        return None
    forms = [(x.shape, x.dtype, x.weak_type) for x in avals]
    wrapped, bare = Signature(forms, [], wrapped=True), Signature(forms, [], wrapped=False)
    made = [wrapped.result(place) for place in range(len(forms))]
    try:
        results = TreeRecords(tree.unflatten(structure, made), is_read=False)
    except Exception:  # as above
        return None
    input_records, _ = bare.records(flags=0)
    specification = record(
        SPECIFICATION,
        table_size=len(forms),
        inputs=input_records.address,
        input_count=len(forms),
        results=results.root,
        otherwise=id(otherwise),
    )
    return native.function(specification, Kept((bare, input_records, results.kept, otherwise)))


# The same in Python


def _in_python(
    signature: Signature,
    entry_address: int,
    fixed: Sequence[int],
    functions: Sequence[int],
    arena_bytes: int,
    unlocked: bool,
    container: str,
    places: Sequence[int],
    otherwise: object,
    keep_alive: object,
) -> Callable[..., Any]:
    """What `native_callable` gives where there is no builtin."""
    prototype = ctypes.CFUNCTYPE if unlocked or not hasattr(ctypes, "pythonapi") else ctypes.PYFUNCTYPE
    entry = prototype(None, ctypes.c_char_p)(entry_address)
    pack = struct.Struct(f"{len(signature.taken) + len(signature.outputs) + len(fixed) + 1 + len(functions)}q").pack
    wrappers = [(place, signature.result(place).wrapper) for place in places]

    def native(*arguments: Any, alive: object = keep_alive) -> Any:
        if otherwise is not None and not signature.are_usual(arguments):
            return otherwise
        buffers = signature.buffers(*arguments)
        results = [numpy.empty(shape, dtype) for shape, dtype, _ in signature.outputs]
        arena = _take_arena(arena_bytes) if arena_bytes else _NO_ARENA
        taken = [buffers[number] for number in signature.taken]
        addresses = [x.__array_interface__["data"][0] for x in (*taken, *results)]
        entry(pack(*addresses, *fixed, arena[0], *functions))
        if arena[1] <= LARGEST_KEPT_ARENA and len(_arenas) < KEPT_ARENAS:
            _arenas.append(arena)
        pool = [*buffers, *results]
        given = [pool[place] if wrap is None else wrap(pool[place]) for place, wrap in wrappers]
        return given[0] if container == "single" else CONTAINERS[container](given)

    return native


_Arena = tuple[int, float, Any]  # where it begins, how many bytes it has, and what keeps it alive
_NO_ARENA: _Arena = (ARENA_ALIGNMENT, math.inf, None)
_arenas: list[_Arena] = []


def _take_arena(size: int) -> _Arena:
    try:
        arena = _arenas.pop()
        if arena[1] >= size:
            return arena
    except IndexError:
        pass
    block = numpy.empty(size + ARENA_ALIGNMENT, numpy.uint8)
    return -(-address_of(block) // ARENA_ALIGNMENT) * ARENA_ALIGNMENT, size, block


def free_arenas() -> None:
    """Lets go of the memory that waits for the next call of native code."""
    native = bridge()
    if native is not None:
        native.free_arenas()
    _arenas.clear()
