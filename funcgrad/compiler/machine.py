"""From LLVM code as text to machine code in memory.

The one file that knows llvmlite. `host_target` says what the CPU has, `machine_code` makes code for it, and `load` puts
that into memory, where its functions have addresses. What is between is mere bytes: they can be kept on disk, and
loading them takes a fraction of the time that making them takes. `kept` does all of that.

llvmlite takes longer to import than most programs take to compile. So it is imported by the first function that cannot
do without it, and what it says of the CPU is kept on disk as well.
"""

from __future__ import annotations

import ctypes
import marshal
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from types import ModuleType
from typing import Any

import numpy

from funcgrad.compiler import cache as cache_folder
from funcgrad.compiler.cache import llvm_files, sha256
from funcgrad.compiler.float16 import FLOAT16_CODE, FLOAT16_FUNCTIONS
from funcgrad.compiler.image import MAGIC, Mapped, are_images_supported, linked
from funcgrad.compiler.locks import LLVM
from funcgrad.config import config

_to_be_freed: list[Any] = []  # what was let go while another thread had the lock

LOADS_OF_A_LOADER = 100
LEAST_KEPT = 6000  # characters of LLVM code that take longer to compile than to read from the cache

# Features of x86-64 that come with vectors of 256 bits, and so go with them.
_AVX_FAMILY = frozenset({"f16c", "fma", "fma4", "sha512", "sm3", "sm4", "vaes", "vpclmulqdq", "xop"})


@dataclass(frozen=True)
class Target:
    """A kind of CPU that code is made for.

    Arguments:
        cpu: LLVM's name of the CPU.
        features: LLVM's list of what it has and has not: "+avx2,-avx512f".
        vector_bytes: the size of a vector register that code shall use, 64 with AVX-512; 0 for no vectors.
        triple: LLVM's name of the platform: "x86_64-unknown-linux-gnu".
    """

    cpu: str
    features: str
    vector_bytes: int
    triple: str

    def lanes(self, dtype: Any) -> int:
        """How many numbers of a dtype a vector register holds, at least 1."""
        return max(1, self.vector_bytes // numpy.dtype(dtype).itemsize)

    @cached_property
    def architecture(self) -> str:
        """The first word of the triple: "x86_64", "aarch64"."""
        word = self.triple.partition("-")[0]
        return "aarch64" if word == "arm64" else word

    @cached_property
    def present(self) -> frozenset[str]:
        """The names of the features that the CPU has."""
        return frozenset(name[1:] for name in self.features.split(",") if name.startswith("+"))

    @cached_property
    def vector_registers(self) -> int:
        """How many vector registers there are."""
        return 32 if self.architecture == "aarch64" or "avx512vl" in self.present else 16

    @cached_property
    def has_fma(self) -> bool:
        """Whether `llvm.fma` is an instruction. Where it is not, it calls the C library for each number."""
        return self.architecture == "aarch64" or "fma" in self.present

    @cached_property
    def has_float16(self) -> bool:
        """Whether float16 is converted from and to float32 by instructions, not by calling a function per number."""
        return self.architecture == "aarch64" or "f16c" in self.present

    @cached_property
    def has_bfloat16_dot(self) -> bool:
        """Whether there are instructions that multiply pairs of bfloat16 and add them up in float32."""
        return self.present >= {"avx512bf16", "avx512vl"} or self.architecture == "aarch64" and "bf16" in self.present

    def without_vectors_above(self, bits: int) -> Target:
        """The same CPU, as if its vector registers were not wider than `bits`.

        With 0, only vectors are left out: the instructions are those of the CPU. With 128 and 256, what came with wider
        registers is left out as well, so that code is what an older CPU would get. On x86-64, 128 means no AVX, and
        therefore no FMA and no conversion of float16 either.
        """
        if 8 * self.vector_bytes <= bits:
            return self
        if bits == 0 or self.architecture != "x86_64":
            return replace(self, vector_bytes=bits // 8)
        features = (
            "-" + name[1:] if _is_wider(name[1:], bits) else name for name in self.features.split(",") if name != ""
        )
        return replace(self, features=",".join(features), vector_bytes=bits // 8)


def _is_wider(feature: str, bits: int) -> bool:
    """Whether a feature of x86-64 needs vectors of more than `bits`."""
    if bits < 256 and (feature.startswith("avx") or feature in _AVX_FAMILY):
        return True
    return feature.startswith(("avx512", "avx10", "evex512", "amx-avx512"))


@cache
def _llvm() -> ModuleType:
    """llvmlite's binding, ready to make code for this CPU."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm


@cache
def load_llvm_meanwhile() -> None:
    """Begins to load LLVM in a thread of its own, for whoever is going to need it and has something else to do first.

    Most of the time goes into linking the library, and foreign functions such as `dlopen` run beside Python's threads.
    """
    if "llvmlite.binding" not in sys.modules and os.name == "posix":
        _started(threading.Thread(target=_load_llvm, daemon=True))


def _started(thread: threading.Thread) -> bool:
    """Whether a thread could be started. A process that ends, or has too many, gets no more, and can do without."""
    try:
        thread.start()
    except RuntimeError:
        return False
    return True


def _load_llvm() -> None:
    with LLVM:
        for path in llvm_files():
            if not path.endswith(".py"):
                ctypes.CDLL(None).dlopen(os.fsencode(path), ctypes.c_int(os.RTLD_NOW))
        _target_machine(host_target(), 1)


def _host_says_llvm() -> Target:
    with LLVM:
        llvm = _llvm()
        # On Windows, too, the loader takes the format of object files that Linux has.
        triple = llvm.get_process_triple() + ("-elf" if os.name == "nt" else "")
        target = Target(llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten(), 16, triple)
    if target.architecture != "x86_64":
        return target
    if target.present >= {"avx512f", "avx512bw", "avx512dq", "avx512vl"}:
        return replace(target, vector_bytes=64)
    return replace(target, vector_bytes=32) if target.present >= {"avx2", "fma"} else target


CPU_LINES = (b"vendor", b"cpu family", b"model", b"stepping", b"flags", b"CPU ", b"Features", b"cache size")


def _cpu_says_system() -> bytes | None:
    """What the system says of the CPU, all that LLVM's answer depends on; None where that is not known."""
    if sys.platform != "linux":
        return None
    try:
        with open("/proc/cpuinfo", "rb", buffering=0) as file:
            text = file.read(16384).partition(b"\n\n")[0]  # the first of all cores
    except OSError:
        return None
    lines = [line for line in text.splitlines() if line.startswith(CPU_LINES)]
    return b"\n".join(lines) if any(line.startswith((b"flags", b"Features")) for line in lines) else None


@cache
def _host() -> Target:
    cpu = _cpu_says_system()
    if cpu is None:
        return _host_says_llvm()

    def fields() -> bytes:
        target = _host_says_llvm()
        return marshal.dumps((target.cpu, target.features, target.vector_bytes, target.triple))

    return Target(*marshal.loads(cache_folder.cached(b"the CPU\n" + cpu, fields)))


@cache
def _host_up_to(bits: int | None) -> Target:
    return _host() if bits is None else _host().without_vectors_above(bits)


def host_target() -> Target:
    """The CPU that this process runs on, with vectors not wider than `fg.config.vector_bits`."""
    return _host_up_to(config.vector_bits)


@cache
def _target_machine(target: Target, level: int, thread: int = 0) -> Any:
    """What LLVM makes code with; one for each thread that makes code."""
    llvm = _llvm()
    if target.triple != _host().triple:
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
    # Position independent code in the small code model loads a constant with one short instruction, where the usual
    # model of a JIT needs two long ones.
    return llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.features, opt=level, reloc="pic", codemodel="small"
    )


def _emitted(ir: str, machine: Any, emit: Callable[[Any, Any], Any]) -> Any:
    """What a function makes of LLVM's own form of the code, which is found to be well formed first."""
    llvm = _llvm()
    # In a context of its own, types and constants go when the module goes.
    module = llvm.parse_assembly(ir, context=llvm.create_context())
    try:
        module.triple, module.data_layout = machine.triple, str(machine.target_data)
        module.verify()
        return emit(module, machine)
    finally:
        module.close()  # before its context goes, also if the two are found by the garbage collector later


def object_code(ir: str, target: Target, level: int = 1) -> bytes:
    """Makes machine code.

    Arguments:
        ir: a module in LLVM's language. It need not name a triple and a data layout.
        target: the CPU that it is for.
        level: how hard LLVM tries, from 0 to 3. With 0 it takes a third of the time that it takes with 1.

    Returns:
        The contents of an object file.

    Raises:
        RuntimeError: LLVM does not understand the code, or finds it wrong. That is a bug of whoever wrote it.
    """
    return object_codes([ir], target, level)[0]


def object_codes(irs: Sequence[str], target: Target, level: int = 1) -> list[bytes]:
    """The machine code of several modules, made by several threads."""
    if not irs:
        return []  # and LLVM need not be loaded
    codes = [b""] * len(irs)
    errors: list[Exception] = []
    # A list's iterator may be shared by threads. The largest goes first, so that none is left to the end.
    todo = iter(sorted(range(len(irs)), key=lambda number: -len(irs[number])))

    def work(thread: int) -> None:
        try:
            machine = _target_machine(target, level, thread)
            for number in todo:
                codes[number] = _emitted(irs[number], machine, _emit_object)
        except Exception as error:
            errors.append(error)

    with LLVM:
        helpers = [threading.Thread(target=work, args=(n,)) for n in range(1, min(config.threads, len(irs)))]
        started = [helper for helper in helpers if _started(helper)]
        work(0)
        for helper in started:
            helper.join()
    for error in errors:
        raise error
    return codes


def _emit_object(module: Any, machine: Any) -> bytes:
    """An object file with the code of a module.

    llvmlite lets one thread at a time into LLVM. LLVM itself does not mind several, each with a context and a target
    machine of its own; so the function is called without llvmlite's lock, if it is where it is in the known versions.
    """
    llvm = _llvm()
    lib = llvm.ffi.lib
    emit = getattr(lib.LLVMPY_TargetMachineEmitToMemory, "_cfn", None)
    if emit is None:
        return machine.emit_object(module)
    with llvm.ffi.OutputString() as error:
        buffer = emit(machine, module, 1, error)
        if not buffer:
            raise RuntimeError(str(error))
    try:
        return ctypes.string_at(lib.LLVMPY_GetBufferStart(buffer), lib.LLVMPY_GetBufferSize(buffer))
    finally:
        lib.LLVMPY_DisposeMemoryBuffer(buffer)


def assembly(ir: str, target: Target, level: int = 1) -> str:
    """The machine code that `object_code` makes, as text to be read."""
    with LLVM:
        machine = _target_machine(target, level)
        return _emitted(ir, machine, lambda module, machine: machine.emit_assembly(module))


class LoadedByLLVM:
    """Machine code in memory, where there are no images. It has what `Mapped` has."""

    __slots__ = ("_tracker", "addresses")

    def __init__(self, tracker: Any, addresses: dict[str, int]):
        self._tracker, self.addresses = tracker, addresses

    def __del__(self, lock: Any = LLVM, to_be_freed: list[Any] = _to_be_freed):
        # LLVM is called here as well, but whoever lets go of an object at some moment must not have to wait.
        if lock.acquire(blocking=False):
            try:
                del self._tracker
            finally:
                lock.release()
        else:
            to_be_freed.append(self._tracker)

    def keep(self) -> None:
        self._tracker.detach()


Loaded = Mapped | LoadedByLLVM


def _make_places() -> Iterator[tuple[Any, str]]:
    """Loaders and names, to load each object code by a loader under a name of its own."""
    while True:
        # JITLink lays code and constants out side by side, as the small code model wants them.
        loader = _llvm().create_lljit_compiler(_target_machine(_host(), 1), use_jit_link=True)
        # A loader remembers the name of all that it ever loaded. It goes when it is replaced here and all that it
        # loaded is gone.
        for number in range(LOADS_OF_A_LOADER):
            yield loader, f"code{number}"


_places = _make_places()

_FLOAT16_NAMES = tuple(name.encode() for name in FLOAT16_FUNCTIONS)


@cache
def _float16_code() -> bytes:
    return object_code(FLOAT16_CODE, _host(), 0)


def _with_float16(codes: Sequence[bytes]) -> list[bytes]:
    """Object code, and the functions that convert float16 if it calls them."""
    calls = any(name in code for code in codes for name in _FLOAT16_NAMES)
    return [*codes, _float16_code()] if calls else [*codes]


OBJECTS = b"funcgrad objects\n"


def machine_code(parts: Sequence[str], target: Target, names: Sequence[str], level: int = 1) -> bytes:
    """Makes what `load` takes: an image where there are images, else the object files in one piece.

    Arguments:
        parts: modules in LLVM's language, which may call each other's functions. Large ones are kept one by one in the
            cache folder, so that whoever has the same in another Program need not wait for it again.
        target, level: see `object_code`.
        names: the functions whose addresses will be wanted.
    """
    several = len(parts) > 1
    keys = [code_key(part, target, level) if several and len(part) > LEAST_KEPT else None for part in parts]
    codes = [None if key is None else cache_folder.read(key) for key in keys]
    new = [number for number, code in enumerate(codes) if code is None]
    for number, code in zip(new, object_codes([parts[n] for n in new], target, level), strict=True):
        codes[number], key = code, keys[number]
        if key is not None:
            cache_folder.write(key, code)
    made = _with_float16([code for code in codes if code is not None])
    return (are_images_supported() and linked(made, names)) or OBJECTS + marshal.dumps(made)


def load(code: bytes, names: Sequence[str]) -> Loaded:
    """Puts machine code into memory.

    Arguments:
        code: what `machine_code` or `object_code` made for the CPU of this process. Functions that it calls and does
            not hold, such as `memcpy`, are looked for in the process; those that convert float16 are there.
        names: the functions whose addresses are wanted. The same names may occur in other code.

    Returns:
        The addresses, in an object that keeps the code in memory.

    Raises:
        RuntimeError: the code is no such code, or it calls a function or lacks a name that cannot be found.
    """
    if code.startswith(MAGIC):
        return Mapped(code)
    packed = code.startswith(OBJECTS)
    objects = marshal.loads(code[len(OBJECTS) :]) if packed else _with_float16([code])
    image = None if packed or not are_images_supported() else linked(objects, names)
    if image is not None:
        return Mapped(image)
    with LLVM:
        _to_be_freed.clear()
        builder = _llvm().JITLibraryBuilder().add_current_process()
        for part in objects:
            builder.add_object_img(part)
        for name in names:
            builder.export_symbol(name)
        tracker = builder.link(*next(_places))
    return LoadedByLLVM(tracker, {name: tracker[name] for name in names})


def code_key(source: str, target: Target, level: int = 1) -> bytes:
    """The key under which machine code is kept.

    Arguments:
        source: what the code is made from: LLVM code, or a name where that depends on nothing but the library itself.
        target, level: see `object_code`.
    """
    return sha256(f"{target!r}\nlevel {level}\n{source}".encode()).digest()


def kept(
    key: bytes, parts: Callable[[], Sequence[str]], names: Sequence[str], target: Target, level: int = 1
) -> Loaded:
    """Machine code in memory: out of the cache folder, or made and kept there.

    Arguments:
        key: its `code_key`.
        parts: gives the code in LLVM's language; see `machine_code`.
        names, target, level: see `machine_code`.
    """
    return load(cache_folder.cached(key, lambda: machine_code(parts(), target, names, level)), names)
