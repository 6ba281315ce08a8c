"""LLVM as a library of C functions.

llvmlite brings that library, and classes in Python around it. Importing those takes three times as long as linking the
library, and a first call waits for it; and they let one thread at a time into LLVM, which does not mind several. So
the few functions that making code takes are called here, as https://llvm.org/doxygen/group__LLVMC.html describes them.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import POINTER, byref, c_bool, c_char_p, c_int, c_size_t, c_void_p
from typing import Any

from funcgrad.compiler.cache import llvm_files
from funcgrad.compiler.locks import LIBRARY

TEXT = POINTER(c_char_p)  # where a function writes the address of a text that it makes

# The result and the operands of each function, the same in all versions of llvmlite that pyproject.toml allows.
FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "DisposeString": (None, c_void_p),
    "InitializeNativeTarget": (c_int,),
    "InitializeNativeAsmPrinter": (c_int,),
    "InitializeAllTargetInfos": (None,),
    "InitializeAllTargets": (None,),
    "InitializeAllTargetMCs": (None,),
    "InitializeAllAsmPrinters": (None,),
    "GetHostCPUName": (None, TEXT),
    "GetHostCPUFeatures": (c_int, TEXT),
    "GetProcessTriple": (None, TEXT),
    "GetTargetFromTriple": (c_void_p, c_char_p, TEXT),
    "CreateTargetMachine": (c_void_p, c_void_p, *[c_char_p] * 3, c_int, c_char_p, c_char_p, c_int, c_int, c_char_p),
    "CreateTargetMachineData": (c_void_p, c_void_p),
    "CopyStringRepOfTargetData": (None, c_void_p, TEXT),
    "DisposeTargetData": (None, c_void_p),
    "ContextCreate": (c_void_p,),
    "ContextDispose": (None, c_void_p),
    "ParseAssembly": (c_void_p, c_void_p, c_char_p, TEXT),
    "SetTarget": (None, c_void_p, c_char_p),
    "SetDataLayout": (None, c_void_p, c_char_p),
    "VerifyModule": (c_bool, c_void_p, TEXT),
    "DisposeModule": (None, c_void_p),
    "TargetMachineEmitToMemory": (c_void_p, c_void_p, c_void_p, c_int, TEXT),
    "GetBufferStart": (c_void_p, c_void_p),
    "GetBufferSize": (c_size_t, c_void_p),
    "DisposeMemoryBuffer": (None, c_void_p),
}

# Other threads of Python run beside these. After each, the interpreter has to be asked for again, which takes as long
# as 5 ms if another thread is busy; so that is not done for those that are quicker.
LONG = ("ParseAssembly", "TargetMachineEmitToMemory")


class Text:
    """A text that LLVM makes, and that has to be given back to it."""

    __slots__ = ("at",)

    def __init__(self):
        self.at = c_char_p()

    def taken(self) -> str:
        """The text; "" if there is none."""
        text = (self.at.value or b"").decode()
        if self.at:
            llvm().DisposeString(self.at)
            self.at = c_char_p()
        return text


class Functions:
    """The functions, ready to make code for this CPU."""

    def __init__(self):
        paths = [path for path in llvm_files() if "llvmlite" in os.path.basename(path)]
        if not paths:
            raise ModuleNotFoundError("native code needs LLVM; install it with pip install llvmlite.", name="llvmlite")
        path = paths[0]
        if os.name == "posix":
            # Python's own call keeps the interpreter to itself until the library is linked. Called like this, other
            # threads go on meanwhile.
            ctypes.CDLL(None).dlopen(os.fsencode(path), c_int(os.RTLD_NOW))
        alone, beside = ctypes.PyDLL(path), ctypes.CDLL(path)
        for name, (result, *operands) in FUNCTIONS.items():
            function = getattr(beside if name in LONG else alone, "LLVMPY_" + name)
            function.restype, function.argtypes = result, operands
            setattr(self, name, function)
        self.InitializeNativeTarget()
        self.InitializeNativeAsmPrinter()

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"LLVM has no function {name!r} that is declared here.")


_functions: list[Functions] = []


def llvm() -> Functions:
    """LLVM's functions. The first call loads the library, which takes some 10 ms."""
    if not _functions:
        with LIBRARY:
            if not _functions:
                _functions.append(Functions())
    return _functions[0]


def is_loaded() -> bool:
    """Whether the library is there already."""
    return bool(_functions)


def says(name: str) -> str:
    """What a function that makes a text makes."""
    text = Text()
    getattr(llvm(), name)(byref(text.at))
    return text.taken()


class TargetMachine:
    """What LLVM makes code with. One thread at a time may use it.

    Arguments:
        triple, cpu, features: the platform and the CPU, by LLVM's names.
        level: how hard LLVM tries, from 0 to 3.

    Raises:
        RuntimeError: LLVM does not know the platform.
    """

    def __init__(self, triple: str, cpu: str, features: str, level: int):
        error = Text()
        target = llvm().GetTargetFromTriple(triple.encode(), byref(error.at))
        if not target:  # it is not the kind of CPU of this process
            error.taken()
            for name in ("TargetInfos", "Targets", "TargetMCs", "AsmPrinters"):
                getattr(llvm(), "InitializeAll" + name)()
            target = llvm().GetTargetFromTriple(triple.encode(), byref(error.at))
        if not target:
            raise RuntimeError(error.taken())
        # Position independent code in the small code model loads a constant with one short instruction, where the
        # usual model of a JIT needs two long ones.
        names = [triple.encode(), cpu.encode(), features.encode()]
        self._machine = llvm().CreateTargetMachine(target, *names, level, b"pic", b"small", 0, 0, b"")
        layout, data = Text(), llvm().CreateTargetMachineData(self._machine)
        llvm().CopyStringRepOfTargetData(data, byref(layout.at))
        llvm().DisposeTargetData(data)
        self._triple, self._layout = triple.encode(), layout.taken().encode()

    def emitted(self, ir: str, is_object: bool = True) -> bytes:
        """The machine code of a module: an object file, or text.

        Raises:
            RuntimeError: LLVM does not understand the code, or finds it wrong.
        """
        lib, error = llvm(), Text()
        # In a context of its own, types and constants go when the module goes.
        context = lib.ContextCreate()
        try:
            module = lib.ParseAssembly(context, ir.encode(), byref(error.at))
            if not module:
                raise RuntimeError(error.taken())
            try:
                lib.SetTarget(module, self._triple)
                lib.SetDataLayout(module, self._layout)
                if lib.VerifyModule(module, byref(error.at)):
                    raise RuntimeError(error.taken())
                return self._written(module, is_object)
            finally:
                lib.DisposeModule(module)
        finally:
            lib.ContextDispose(context)

    def _written(self, module: int, is_object: bool) -> bytes:
        lib, error = llvm(), Text()
        buffer = lib.TargetMachineEmitToMemory(self._machine, module, is_object, byref(error.at))
        if not buffer:
            raise RuntimeError(error.taken())
        try:
            return ctypes.string_at(lib.GetBufferStart(buffer), lib.GetBufferSize(buffer))
        finally:
            lib.DisposeMemoryBuffer(buffer)
