"""Eager operations as builtins: from an operator to its kernel and back without Python.

`EagerBridge` makes methods of arrays, functions, and the call of primitives. What distinguishes them is data: the
record of an *operation* says which Python function does the same, and has for each dtype a list of *entries*. An entry
is what is known of a primitive for operands of some dtypes, and is shared by all operations that are this primitive
there; the addresses of its kernels are put into it when they are compiled.

The text of the builtins is in `eager_text`, `broadcast_text`, `dispatch_text`, `linear_text` and `reverse_text`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy

from funcgrad import dtypes
from funcgrad.array import ConcreteArray, WeakArray, wrap
from funcgrad.compiler.bridge import FASTCALL, NO_ARGUMENTS, MethodDefinition
from funcgrad.compiler.bridge.broadcast_text import BROADCAST
from funcgrad.compiler.bridge.code import expanded, words
from funcgrad.compiler.bridge.dispatch_text import FORWARD, PRIMITIVE
from funcgrad.compiler.bridge.eager_text import COMMON, FUNCTIONS, OTHERWISE, apply_text, method_text
from funcgrad.compiler.bridge.layout import (
    API_NEW_ARRAY,
    ARRAY_LAYOUT,
    DTYPE_LAYOUT,
    IN_ORDER_AND_ALIGNED,
    LIST_LAYOUT,
    OBJECT_LAYOUT,
    TUPLE_LAYOUT,
    layout_problem,
    numpy_function,
    place_of_slot,
    slots,
)
from funcgrad.compiler.bridge.linear_text import LINEAR
from funcgrad.compiler.bridge.reverse_text import BACKWARD, LINEAR_STEP
from funcgrad.compiler.machine import Code, Part, kept, library_key
from funcgrad.compiler.target import host_target
from funcgrad.core import IN_ALL, IN_EACH, Primitive, Tracer, context, ground
from funcgrad.primitives.elementwise import add
from funcgrad.program import Equation, LinearStep, Record, StageTracer, Variable

MOST_OPERANDS, MOST_AXES = 3, 8
OTHER_DTYPE = 24  # the place of dtypes whose numbers NumPy gives out at run time, of which there is one
FORM_FLOAT32, FORM_FLOAT64, FORM_INTEGER = 1, 2, 3  # how an entry takes Python's numbers; 0 for not at all
FLOATS, INTEGERS = 1, 2  # which of Python's numbers it takes; bits that are added up
UNUSUAL, MISSING, TRACED = 1, 2, 3
NEVER = 1  # in the place of the address of a kernel that there cannot be

FLOAT_LAYOUT, SIZED_LAYOUT = {"value": 16}, {"size": 16}
ONE_OPERAND, KEYWORDS = 0x08, 0x02  # METH_O and METH_KEYWORDS

EAGER = words(
    # Objects of Python and NumPy
    *("ndarray", "float", "int", "tuple", "list", "dict", "true", "false", "none", "shape", "dtype", "parent"),
    *("exception", "type_error", "value_error"),
    # Those of the library, and names of their attributes
    *("concrete", "weak", "wrap", "context", "ground", "name", "record_name", "equations", "variable", "equation"),
    *("stage", "record", "forward", "linearize", "dual", "in_all", "in_each", "add", "call", "step", "backward"),
    # C functions
    *("get_context", "set_context", "attribute", "increase", "decrease", "set_error", "clear_error", "error_matches"),
    *("fetch_error", "restore_error", "as_integer", "new_array", "new_object", "new_list", "new_tuple", "new_dict"),
    *("get_item", "set_item", "remove_item", "append", "as_list", "call_dict", "vectorcall", "untrack"),
    *("save_thread", "restore_thread"),
    # What may change: whether kernels are used, and the function that divides work among threads
    *("enabled", "parallel"),
)
OPERATION = words("process", "usual", "missing", "arity", "integers", "entries") | {"SIZE": 8 * (6 + OTHER_DTYPE)}
ENTRY = words(
    *("dtype0", "dtype1", "dtype2", "result", "form", "numbers", "least", "greatest", "mixed"),
    *("chunk", "little", "item0", "item1", "item2", "item", "kernels"),
    *(f"kernel{mask}" for mask in range(1, 1 << MOST_OPERANDS)),
)


def eager_problem(dual: type[Tracer]) -> str | None:
    """Why there are no eager builtins in this Python: what is not in memory as is believed. None if there are.

    `dual` is the class of the tracers of forward mode.
    """
    problem = layout_problem()
    if problem is not None:
        return problem
    for number in (1.5, -0.0):
        if ctypes.c_double.from_address(id(number) + FLOAT_LAYOUT["value"]).value != number:
            return "the value of a float is elsewhere"
    if ctypes.c_ssize_t.from_address(id([1, 2, 3]) + SIZED_LAYOUT["size"]).value != 3:
        return "the size of a list is elsewhere"
    for name, layout in own_layouts(dual).items():
        if None in layout.values():
            return f"the slots of {name.lower()} are elsewhere"
    return None


def own_layouts(dual: type[Tracer]) -> dict[str, dict[str, int | None]]:
    """Where objects of the library have their slots, by the names that the text of the builtins has for them."""
    known = {
        "PRIMITIVE": (
            Primitive,
            "native evaluate jvp linearize transpose transpose_into linearity carries_functions has_effects "
            "multiple_results",
        ),
        "VARIABLE": (Variable, "shape dtype weak_type"),
        "EQUATION": (Equation, "operands params primitive results source"),
        "TRACER": (StageTracer, "interpreter"),
        "STAGE": (StageTracer, "variable shape dtype weak_type"),
        "DUAL": (dual, "primal tangent shape dtype"),
    }
    found = {name: _slots_of(cls, names.split()) for name, (cls, names) in known.items()}
    if _slots_of(dual, ["interpreter"]) != found["TRACER"]:
        found["TRACER"] = {"interpreter": None}
    return found


def _slots_of(cls: type, names: Sequence[str]) -> dict[str, int | None]:
    x = object.__new__(cls)
    for name in names:
        setattr(x, name, object())
    return {name: place_of_slot(x, name) for name in names}


def eager_ir(stubs: Sequence[tuple[int, bool]], dual: type[Tracer]) -> str:
    """The builtins in LLVM's language.

    Arguments:
        stubs: for each method how many operands it has, and whether it is reflected.
        dual: the class of the tracers of forward mode.
    """
    parts = [BROADCAST, COMMON, *map(apply_text, range(1, MOST_OPERANDS + 1)), OTHERWISE, FUNCTIONS]
    parts += [PRIMITIVE, FORWARD, LINEAR_STEP, BACKWARD, LINEAR]
    parts += [method_text(number, *stub) for number, stub in enumerate(stubs)]
    layouts = {"OBJECT": OBJECT_LAYOUT, "TUPLE": TUPLE_LAYOUT, "ARRAY": ARRAY_LAYOUT, "DTYPE": DTYPE_LAYOUT}
    own = {
        "LIST": LIST_LAYOUT,
        "SIZED": SIZED_LAYOUT,
        "WRAPPER": slots(),
        "FLOAT": FLOAT_LAYOUT,
        **own_layouts(dual),
    }
    records = {"EAGER": EAGER, "OPERATION": OPERATION, "ENTRY": ENTRY}
    named = {**layouts, **own, **records}
    names = {f"{record}.{name}": place for record, layout in named.items() for name, place in layout.items()}
    names |= {"IN_ORDER_AND_ALIGNED": IN_ORDER_AND_ALIGNED, "OTHER_DTYPE": OTHER_DTYPE, "METHODS": len(stubs)}
    names |= {"FORM_FLOAT32": FORM_FLOAT32, "FORM_FLOAT64": FORM_FLOAT64, "FORM_INTEGER": FORM_INTEGER}
    names |= {"FLOATS": FLOATS, "INTEGERS": INTEGERS, "MOST_AXES": MOST_AXES}
    names |= {"UNUSUAL": UNUSUAL, "MISSING": MISSING, "TRACED": TRACED, "NEVER": NEVER}
    return expanded("\n".join(parts), names)  # pyright: ignore[reportArgumentType]


class Words:
    """A record in memory, whose words have names."""

    __slots__ = ("array", "kept", "names")

    def __init__(self, names: dict[str, int], size: int, kept: object = None, **values: int):
        self.names, self.kept = names, kept
        self.array = numpy.zeros(size // 8, numpy.int64)
        for name, value in values.items():
            self[name] = value

    def __setitem__(self, name: str, value: int) -> None:
        self.array[self.names[name] // 8] = value

    @property
    def address(self) -> int:
        return self.array.ctypes.data


class Entry:
    """A primitive for operands of some dtypes.

    Arguments:
        operands: the dtypes of the operands.
        result: the dtype of the result.
        make: makes the kernel for operands of which these are single numbers; None if there are no kernels.
        kinds: for operands of several dtypes, these, and the type of Python's numbers at the places of such. By default
            the dtype is one, and each operand may be a number that it holds.
    """

    __slots__ = ("codes", "make_kernel", "operands", "result", "words")

    def __init__(
        self,
        operands: Sequence[numpy.dtype],
        result: numpy.dtype,
        make: Callable[[Sequence[bool]], Any] | None,
        kinds: Sequence[Any] = (),
    ):
        self.operands, self.result, self.make_kernel = operands, result, make
        self.codes: list[object] = []
        numbers = [place for place, kind in enumerate(kinds) if not isinstance(kind, numpy.dtype)]
        dtype = operands[numbers[0] if numbers else -1]
        known = {f"dtype{place}": id(x) for place, x in enumerate(operands) if place not in numbers}
        known |= {f"item{place}": x.itemsize for place, x in enumerate(operands)} | {"item": result.itemsize}
        known["mixed"] = int(len(kinds) > 0)  # so that it matters which operands are weak
        if dtype is dtypes.float32 or dtype is dtypes.float64:
            known |= {"form": FORM_FLOAT32 if dtype is dtypes.float32 else FORM_FLOAT64, "numbers": FLOATS | INTEGERS}
        elif dtypes.is_integer(dtype):
            limits = numpy.iinfo(dtype)
            known |= {"form": FORM_INTEGER, "least": int(limits.min), "greatest": min(int(limits.max), 2**63 - 1)}
            known["numbers"] = INTEGERS
        if kinds:
            known["numbers"] = FLOATS * (float in kinds) + INTEGERS * (int in kinds)
        self.words = Words(ENTRY, 8 * len(ENTRY), result=id(result), **known)
        if make is None:
            for mask in range(1 << MOST_OPERANDS):
                self._put(mask, NEVER)

    def takes(self, kinds: Sequence[Any]) -> bool:
        """Whether it is for operands of these kinds: dtypes of arrays, and types of numbers."""
        bits = int(self.words.array[ENTRY["numbers"] // 8])
        return all(
            kind is dtype or kind is float and bits & FLOATS or kind is int and bits & INTEGERS
            for kind, dtype in zip(kinds, self.operands, strict=True)
        )

    def has_kernel(self, numbers: Sequence[bool]) -> bool:
        """Whether there is the kernel for operands of which these are single numbers."""
        return bool(self.words.array[ENTRY["kernels"] // 8 + _mask(numbers)])

    def make(self, numbers: Sequence[bool]) -> None:
        """Makes that kernel."""
        if self.make_kernel is not None:
            code = self.make_kernel(numbers)
            self.codes.append(code)
            chunk = ctypes.CFUNCTYPE(ctypes.c_int64)(code.addresses["chunk"])()
            self.words["chunk"], self.words["little"] = chunk, chunk // 2
            self._put(_mask(numbers), code.addresses["entry"])

    def _put(self, mask: int, address: int) -> None:
        self.words.array[ENTRY["kernels"] // 8 + mask] = address


def _mask(numbers: Sequence[bool]) -> int:
    return sum(1 << place for place, is_number in enumerate(numbers) if is_number)


class Operation:
    """A record of what a builtin does.

    Arguments:
        process: where the record of the process is.
        usual: what Python does instead of it.
        missing: the same for operands without a kernel, which may look for one.
        arity: how many operands there are.
        integers: whether Python's whole numbers may be operands.
    """

    __slots__ = ("entries", "integers", "kept", "lists", "words")

    def __init__(
        self, process: int, usual: Callable[..., Any], missing: Callable[..., Any], arity: int, integers: bool = True
    ):
        self.kept, self.integers = (usual, missing), integers
        self.entries: dict[tuple[Any, ...], Entry | None] = {}
        self.lists: dict[int, numpy.ndarray] = {}
        known = {"usual": id(usual), "missing": id(missing), "arity": arity, "integers": int(integers)}
        self.words = Words(OPERATION, OPERATION["SIZE"] + 8, process=process, **known)

    def enter(self, dtype: numpy.dtype, entry: Entry) -> None:
        """Says what the operation is for operands of which the last array has a dtype, besides what is known of it."""
        place = min(dtype.num, OTHER_DTYPE)
        before = self.lists.get(place, [0])[:-1]
        self.lists[place] = numpy.array([*before, entry.words.address, 0], numpy.int64)
        self.words.array[OPERATION["entries"] // 8 + place] = self.lists[place].ctypes.data


class EagerBridge:
    """The builtins in memory.

    Arguments:
        stubs: for each method how many operands it has, and whether it is reflected.
        python_call, python_step: the methods of `Primitive` and `LinearStep` that do what builtins leave to them.
        forward_mode: see `counter`.
    """

    def __init__(
        self,
        stubs: Sequence[tuple[int, bool]],
        python_call: Callable[..., Any],
        python_step: Callable[..., Any],
        forward_mode: tuple[type, type, type, type],
    ):
        forward, linearize, dual, self._backward = forward_mode
        backward = self._backward
        names = ["set_up", "function1", "functions", "primitive", "linear_step", "backward"]
        names += [f"method{number}" for number in range(len(stubs))]
        key = library_key(f"eager builtins {[*stubs]}")
        self._code = kept(Code(key, lambda: [Part(eager_ir(stubs, dual), host_target())], names))
        self.stubs = tuple(stubs)
        api = ctypes.pythonapi
        functions = {
            "get_context": api.PyContextVar_Get,
            "set_context": api.PyContextVar_Set,
            "attribute": api.PyObject_GetAttr,
            "increase": api.Py_IncRef,
            "decrease": api.Py_DecRef,
            "set_error": api.PyErr_SetString,
            "clear_error": api.PyErr_Clear,
            "error_matches": api.PyErr_ExceptionMatches,
            "fetch_error": api.PyErr_Fetch,
            "restore_error": api.PyErr_Restore,
            "as_integer": api.PyLong_AsLongLongAndOverflow,
            "new_object": api.PyType_GenericAlloc,
            "new_list": api.PyList_New,
            "new_tuple": api.PyTuple_New,
            "new_dict": api.PyDict_New,
            "set_item": api.PyDict_SetItem,
            "append": api.PyList_Append,
            "get_item": api.PyDict_GetItemWithError,
            "remove_item": api.PyDict_DelItem,
            "as_list": api.PySequence_List,
            "call_dict": api.PyObject_VectorcallDict,
            "untrack": api.PyObject_GC_UnTrack,
            "vectorcall": api.PyObject_Vectorcall,
            "save_thread": api.PyEval_SaveThread,
            "restore_thread": api.PyEval_RestoreThread,
        }
        known = {name: ctypes.cast(function, ctypes.c_void_p).value or 0 for name, function in functions.items()}
        objects = {"context": context, "ground": ground, "name": "only_cares_for_tracers", "wrap": wrap}
        objects |= {name: name for name in ("parent", "shape", "dtype", "equations")}
        objects |= {"ndarray": numpy.ndarray, "concrete": ConcreteArray, "weak": WeakArray, "none": None}
        objects |= {"true": True, "false": False, "float": float, "int": int, "tuple": tuple}
        objects |= {"exception": Exception, "type_error": TypeError, "value_error": ValueError, "add": add}
        objects |= {"call": python_call, "step": python_step, "backward": backward.__call__, "list": list, "dict": dict}
        objects |= {"variable": Variable, "equation": Equation, "stage": StageTracer, "record": Record}
        objects |= {"record_name": "record", "in_all": IN_ALL, "in_each": IN_EACH}
        objects |= {"forward": forward, "linearize": linearize, "dual": dual}
        known |= {name: id(x) for name, x in objects.items()} | {"new_array": numpy_function(API_NEW_ARRAY)}
        self.process = Words(EAGER, 8 * len(EAGER), objects, **known)
        self._operations: list[Operation | None] = [None] * len(stubs)
        self._definitions: list[MethodDefinition] = []

    def operation(
        self, usual: Callable[..., Any], missing: Callable[..., Any], arity: int, integers: bool
    ) -> Operation:
        """A record for one of the builtins."""
        return Operation(self.process.address, usual, missing, arity, integers)

    def set_up(self, operations: Sequence[Operation]) -> None:
        """Says what the methods do, one operation each."""
        self._operations = list(operations)
        table = numpy.array([x.words.address for x in operations], numpy.int64)
        function = ctypes.PYFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(self._code.addresses["set_up"])
        function(self.process.address, table.ctypes.data)

    def enable(self, enabled: bool) -> None:
        """Whether kernels are used, or everything is left to Python."""
        self.process["enabled"] = int(enabled)

    def set_parallel(self, address: int) -> None:
        """Where the function is that divides work among threads, for large arrays."""
        self.process["parallel"] = address

    def _definition(self, name: str, symbol: str, flags: int, doc: str | None) -> int:
        text = None if doc is None else doc.encode()
        definition = MethodDefinition(name.encode(), self._code.addresses[symbol], flags, text)
        self._definitions.append(definition)
        return ctypes.addressof(definition)

    def method(self, number: int, name: str, doc: str | None) -> Any:
        """The method with this number, as a descriptor for `ConcreteArray`."""
        flags = NO_ARGUMENTS if self.stubs[number][0] == 1 else ONE_OPERAND
        return _new_method(ConcreteArray, self._definition(name, f"method{number}", flags, doc))

    def primitive_call(self) -> Any:
        """`__call__` of `Primitive`, as a descriptor."""
        doc = "Binds the primitive: computes it, or lets the current interpreter treat it."
        return _new_method(Primitive, self._definition("__call__", "primitive", FASTCALL | KEYWORDS, doc))

    def linear_step_call(self) -> Any:
        """`__call__` of `LinearStep`, as a descriptor."""
        doc = "Binds the primitive; see `program`."
        return _new_method(LinearStep, self._definition("__call__", "linear_step", FASTCALL | KEYWORDS, doc))

    def backward_call(self) -> Any:
        """`__call__` of the class of `backward`, as a descriptor."""
        doc = "Transposes linear equations; see `transforms.grad`."
        return _new_method(self._backward, self._definition("__call__", "backward", FASTCALL | KEYWORDS, doc))

    def function(self, operation: Operation, arity: int, name: str) -> Callable[..., Any]:
        """A builtin function."""
        symbol, flags = ("function1", ONE_OPERAND) if arity == 1 else ("functions", FASTCALL)
        new = ctypes.pythonapi.PyCFunction_NewEx
        new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p]
        return new(self._definition(name, symbol, flags, None), (operation.words.array, operation), None)


def _new_method(cls: type, definition: int) -> Any:
    new = ctypes.pythonapi.PyDescr_NewMethod
    new.restype, new.argtypes = ctypes.py_object, [ctypes.py_object, ctypes.c_void_p]
    return new(cls, definition)
