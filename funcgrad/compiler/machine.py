"""From LLVM code as text to machine code in memory.

`object_codes` makes machine code, and `load` puts it into memory, where its functions have addresses. What is between
is mere bytes: they can be kept on disk, and loading them takes a fraction of the time that making them takes. `kept`
does all of that for a piece of `Code`.
"""

from __future__ import annotations

import marshal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from typing import Any, NamedTuple

from funcgrad.compiler import cache as cache_folder
from funcgrad.compiler.cache import sha256
from funcgrad.compiler.float16 import FLOAT16_CODE, FLOAT16_FUNCTIONS
from funcgrad.compiler.image import MAGIC, Mapped, are_images_supported, linked
from funcgrad.compiler.llvm_library import TargetMachine, llvm
from funcgrad.compiler.locks import LLVM, MEANWHILE
from funcgrad.compiler.target import Target, host_key, host_target
from funcgrad.config import config

_to_be_freed: list[Any] = []  # what was let go while another thread had the lock

LOADS_OF_A_LOADER = 100
OWN_THREAD = -1  # the number of the thread that makes code meanwhile
LEAST_KEPT = 6000  # characters of LLVM code that take longer to compile than to read from the cache


def _started(thread: threading.Thread) -> bool:
    """Whether a thread could be started. A process that ends, or has too many, gets no more, and can do without."""
    try:
        thread.start()
    except RuntimeError:
        return False
    return True


@cache
def _target_machine(target: Target, level: int, thread: int = 0) -> TargetMachine:
    """What LLVM makes code with; one for each thread that makes code."""
    return TargetMachine(target.triple, target.cpu, target.features, level)


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
                codes[number] = machine.emitted(irs[number])
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


def assembly(ir: str, target: Target, level: int = 1) -> str:
    """The machine code that `object_code` makes, as text to be read."""
    with LLVM:
        return _target_machine(target, level).emitted(ir, is_object=False).decode()


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


@cache
def _llvmlite() -> Any:
    import llvmlite.binding

    llvm()  # is ready for this CPU
    return llvmlite.binding


def _make_places() -> Iterator[tuple[Any, str]]:
    """Loaders and names, to load each object code by a loader under a name of its own."""
    while True:
        host = _llvmlite().Target.from_triple(host_target().triple)
        machine = host.create_target_machine(opt=1, reloc="pic", codemodel="small")
        # JITLink lays code and constants out side by side, as the small code model wants them.
        loader = _llvmlite().create_lljit_compiler(machine, use_jit_link=True)
        # A loader remembers the name of all that it ever loaded. It goes when it is replaced here and all that it
        # loaded is gone.
        for number in range(LOADS_OF_A_LOADER):
            yield loader, f"code{number}"


_places = _make_places()

_FLOAT16_NAMES = tuple(name.encode() for name in FLOAT16_FUNCTIONS)


@cache
def _float16_code() -> bytes:
    return object_code(FLOAT16_CODE, host_target(), 0)


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
    return _in_one_piece([code for code in codes if code is not None], names)


def _in_one_piece(codes: Sequence[bytes], names: Sequence[str]) -> bytes:
    codes = _with_float16(codes)
    return (are_images_supported() and linked(codes, names)) or OBJECTS + marshal.dumps(codes)


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
        builder = _llvmlite().JITLibraryBuilder().add_current_process()
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


class Code(NamedTuple):
    """What can be made into machine code.

    Attributes:
        key: the key under which the machine code is kept: a `code_key`, or a `library_key`.
        parts: gives the code in LLVM's language; see `machine_code`.
        names, level: see `machine_code`.
        target: the CPU that it is for; by default that of this process.
    """

    key: bytes
    parts: Callable[[], Sequence[str]]
    names: Sequence[str]
    level: int = 1
    target: Target | None = None

    def made(self) -> bytes:
        """Its machine code."""
        return machine_code(self.parts(), self.target or host_target(), self.names, self.level)


def library_key(name: str) -> bytes:
    """The key for machine code that depends on nothing but the library itself and this CPU."""
    return sha256(host_key() + name.encode()).digest()


class _Meanwhile(threading.Thread):
    """A thread that loads LLVM and makes code, most of the time without keeping Python from other threads.

    The process does not end before it has.
    """

    def __init__(self, codes: Sequence[Code]):
        super().__init__(name="funcgrad compiler")
        self.codes, self.made = codes, dict[bytes, bytes]()

    def run(self) -> None:
        with MEANWHILE, suppress(Exception):  # whoever needs the code tries again, and is told what is wrong
            llvm()
            for code in self.codes:
                machine = _target_machine(code.target or host_target(), code.level, OWN_THREAD)
                made = _in_one_piece([machine.emitted(part) for part in code.parts()], code.names)
                self.made[code.key] = made
                cache_folder.write(code.key, made)


_expected: dict[bytes, _Meanwhile] = {}  # who makes the code for a key
_found: dict[bytes, bytes] = {}  # what was kept for a key


def make_meanwhile(codes: Sequence[Code]) -> None:
    """Begins to make code that is going to be needed, and is not in the cache folder, in another thread."""
    new = []
    for code in codes:
        found = cache_folder.read(code.key)
        if found is None:
            new.append(code)
        else:
            _found[code.key] = found
    if new and config.threads > 1:
        thread = _Meanwhile(new)
        if _started(thread):
            _expected.update({code.key: thread for code in new})


@cache
def load_llvm_meanwhile() -> None:
    """Begins to load LLVM in another thread."""
    _started(_Meanwhile([]))


def kept(code: Code) -> Loaded:
    """Machine code in memory: out of the cache folder, or made and kept there."""
    found, thread = _found.pop(code.key, None), _expected.pop(code.key, None)
    if thread is not None:
        thread.join()
        found = thread.made.get(code.key)
    return load(found or cache_folder.cached(code.key, code.made), code.names)
