"""Eager operations as builtins: from an operator to its kernel and back without Python.

`EagerBridge` makes methods of arrays, functions, and the call of primitives. What distinguishes them is data: the
record of an *operation* says which Python function does the same, and has for each dtype the address of an *entry*. An
entry is what is known of a primitive for operands of one dtype, and is shared by all operations that are this primitive
there; the addresses of its kernels are put into it when they are compiled.

The text of the builtins is in `eager_text`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy

from funcgrad import dtypes
from funcgrad.array import ConcreteArray, WeakArray, wrap
from funcgrad.compiler.bridge import FASTCALL, NO_ARGUMENTS, MethodDefinition
from funcgrad.compiler.bridge.code import expanded, words
from funcgrad.compiler.bridge.eager_text import (
    COMMON,
    FUNCTIONS,
    OTHERWISE,
    PRIMITIVE,
    apply_text,
    method_text,
)
from funcgrad.compiler.bridge.layout import (
    API_NEW_ARRAY,
    ARRAY_LAYOUT,
    DTYPE_LAYOUT,
    IN_ORDER_AND_ALIGNED,
    OBJECT_LAYOUT,
    TUPLE_LAYOUT,
    layout_problem,
    numpy_function,
    place_of_slot,
    slots,
)
from funcgrad.compiler.cache import cached
from funcgrad.compiler.machine import host_target, load, object_code
from funcgrad.core import Primitive, context, ground

MOST_OPERANDS = 3
OTHER_DTYPE = 24  # the place of dtypes whose numbers NumPy gives out at run time, of which there is one
FORM_FLOAT32, FORM_FLOAT64, FORM_INTEGER = 1, 2, 3  # how an entry takes Python's numbers; 0 for not at all
UNUSUAL, MISSING = 1, 2
NEVER = 1  # in the place of the address of a kernel that there cannot be

FLOAT_LAYOUT = {"value": 16}
ONE_OPERAND, KEYWORDS = 0x08, 0x02  # METH_O and METH_KEYWORDS

EAGER = words(
    *("enabled", "context", "ground", "name", "true", "false", "ndarray", "concrete", "weak", "float", "int", "shape"),
    *("exception", "get_context", "attribute", "increase", "decrease", "clear_error", "error_matches", "as_integer"),
    *("new_array", "new_object", "untrack", "vectorcall", "save_thread", "restore_thread", "parallel", "wrap", "call"),
)
OPERATION = words("process", "usual", "missing", "arity", "integers", "entries") | {"SIZE": 8 * (6 + OTHER_DTYPE)}
ENTRY = words(
    *("dtype0", "dtype1", "dtype2", "result", "form", "least", "greatest", "chunk", "little", "kernels"),
    *(f"kernel{mask}" for mask in range(1, 1 << MOST_OPERANDS)),
)


def eager_problem() -> str | None:
    """Why there are no eager builtins in this Python: what is not in memory as is believed. None if there are."""
    problem = layout_problem()
    if problem is not None:
        return problem
    for number in (1.5, -0.0):
        if ctypes.c_double.from_address(id(number) + FLOAT_LAYOUT["value"]).value != number:
            return "the value of a float is elsewhere"
    if None in _primitive_layout().values():
        return "the slots of primitives are elsewhere"
    return None


PRIMITIVE_SLOTS = ("native", "evaluate", "carries_functions", "has_effects", "multiple_results")


@cache
def _primitive_layout() -> dict[str, int | None]:
    """Where a `Primitive` has its slots."""
    primitive = Primitive("layout")
    for name in PRIMITIVE_SLOTS:
        setattr(primitive, name, object())
    return {name: place_of_slot(primitive, name) for name in PRIMITIVE_SLOTS}


def eager_ir(stubs: Sequence[tuple[int, bool]]) -> str:
    """The builtins in LLVM's language.

    Arguments:
        stubs: for each method how many operands it has, and whether it is reflected.
    """
    parts = [COMMON, *map(apply_text, range(1, MOST_OPERANDS + 1)), OTHERWISE, FUNCTIONS, PRIMITIVE]
    parts += [method_text(number, *stub) for number, stub in enumerate(stubs)]
    layouts = {"OBJECT": OBJECT_LAYOUT, "TUPLE": TUPLE_LAYOUT, "ARRAY": ARRAY_LAYOUT, "DTYPE": DTYPE_LAYOUT}
    own = {"WRAPPER": slots(), "FLOAT": FLOAT_LAYOUT, "PRIMITIVE": _primitive_layout()}
    records = {"EAGER": EAGER, "OPERATION": OPERATION, "ENTRY": ENTRY}
    named = {**layouts, **own, **records}
    names = {f"{record}.{name}": place for record, layout in named.items() for name, place in layout.items()}
    names |= {"IN_ORDER_AND_ALIGNED": IN_ORDER_AND_ALIGNED, "OTHER_DTYPE": OTHER_DTYPE, "METHODS": len(stubs)}
    names |= {"FORM_FLOAT32": FORM_FLOAT32, "FORM_FLOAT64": FORM_FLOAT64, "FORM_INTEGER": FORM_INTEGER}
    names |= {"UNUSUAL": UNUSUAL, "MISSING": MISSING, "NEVER": NEVER}
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
    """A primitive for operands of one dtype.

    Arguments:
        operands: the dtypes of the operands.
        result: the dtype of the result.
        make: makes the kernel for operands of which these are single numbers: gives the code in memory, and how many
            elements of a large array go to one thread. None if there are no kernels.
    """

    __slots__ = ("codes", "make_kernel", "operands", "result", "words")

    def __init__(
        self,
        operands: Sequence[numpy.dtype],
        result: numpy.dtype,
        make: Callable[[Sequence[bool]], tuple[Any, int]] | None,
    ):
        self.operands, self.result, self.make_kernel = operands, result, make
        self.codes: list[object] = []
        dtype = operands[-1]
        known = {f"dtype{number}": id(x) for number, x in enumerate(operands)}
        if dtype is dtypes.float32 or dtype is dtypes.float64:
            known["form"] = FORM_FLOAT32 if dtype is dtypes.float32 else FORM_FLOAT64
        elif dtypes.is_integer(dtype):
            limits = numpy.iinfo(dtype)
            known |= {"form": FORM_INTEGER, "least": int(limits.min), "greatest": min(int(limits.max), 2**63 - 1)}
        self.words = Words(ENTRY, 8 * len(ENTRY), result=id(result), **known)
        if make is None:
            for mask in range(1 << MOST_OPERANDS):
                self._put(mask, NEVER)

    def make(self, numbers: Sequence[bool]) -> None:
        """Makes the kernel for operands of which these are single numbers, unless there is one."""
        mask = sum(1 << place for place, is_number in enumerate(numbers) if is_number)
        if self.make_kernel is not None and not self.words.array[ENTRY["kernels"] // 8 + mask]:
            code, chunk = self.make_kernel(numbers)
            self.codes.append(code)
            self.words["chunk"], self.words["little"] = chunk, chunk // 2
            self._put(mask, code.addresses["entry"])

    def _put(self, mask: int, address: int) -> None:
        self.words.array[ENTRY["kernels"] // 8 + mask] = address


class Operation:
    """A record of what a builtin does.

    Arguments:
        process: where the record of the process is.
        usual: what Python does instead of it.
        missing: the same for operands without a kernel, which may look for one.
        arity: how many operands there are.
        integers: whether Python's whole numbers may be operands.
    """

    __slots__ = ("entries", "kept", "words")

    def __init__(
        self, process: int, usual: Callable[..., Any], missing: Callable[..., Any], arity: int, integers: bool = True
    ):
        self.kept = usual, missing
        self.entries: dict[numpy.dtype, Entry] = {}
        known = {"usual": id(usual), "missing": id(missing), "arity": arity, "integers": int(integers)}
        self.words = Words(OPERATION, OPERATION["SIZE"] + 8, process=process, **known)

    def enter(self, dtype: numpy.dtype, entry: Entry) -> None:
        """Says what the operation is for operands of a dtype."""
        self.entries[dtype] = entry
        place = min(dtype.num, OTHER_DTYPE)
        self.words.array[OPERATION["entries"] // 8 + place] = entry.words.address


class EagerBridge:
    """The builtins in memory.

    Arguments:
        stubs: for each method how many operands it has, and whether it is reflected.
        python_call: the method of `Primitive` that does what the builtin leaves to it.
        parallel: the address of the function that divides work among threads.
    """

    def __init__(self, stubs: Sequence[tuple[int, bool]], python_call: Callable[..., Any], parallel: int):
        ir = eager_ir(stubs)
        names = ["set_up", "function1", "functions", "primitive", *(f"method{n}" for n in range(len(stubs)))]
        self._code = load(cached(ir.encode(), lambda: object_code(ir, host_target())), names)
        self.stubs, self._python_call = tuple(stubs), python_call
        api = ctypes.pythonapi
        functions = {
            "get_context": api.PyContextVar_Get,
            "attribute": api.PyObject_GetAttr,
            "increase": api.Py_IncRef,
            "decrease": api.Py_DecRef,
            "clear_error": api.PyErr_Clear,
            "error_matches": api.PyErr_ExceptionMatches,
            "as_integer": api.PyLong_AsLongLongAndOverflow,
            "new_object": api.PyType_GenericAlloc,
            "untrack": api.PyObject_GC_UnTrack,
            "vectorcall": api.PyObject_Vectorcall,
            "save_thread": api.PyEval_SaveThread,
            "restore_thread": api.PyEval_RestoreThread,
        }
        known = {name: ctypes.cast(function, ctypes.c_void_p).value or 0 for name, function in functions.items()}
        objects = {"context": context, "ground": ground, "name": "only_cares_for_tracers", "shape": "shape"}
        objects |= {"ndarray": numpy.ndarray, "concrete": ConcreteArray, "weak": WeakArray, "wrap": wrap}
        objects |= {"true": True, "false": False, "float": float, "int": int, "exception": Exception}
        objects |= {"call": python_call}
        known |= {name: id(x) for name, x in objects.items()} | {"new_array": numpy_function(API_NEW_ARRAY)}
        self.process = Words(EAGER, 8 * len(EAGER), objects, parallel=parallel, **known)
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
