"""From LLVM code as text to machine code in memory.

`object_codes` makes machine code, and `load` puts it into memory, where its functions have addresses. What is between
is mere bytes: they can be kept on disk, and loading them takes a fraction of the time that making them takes. `kept`
does all of that for a piece of `Code`.
"""

from __future__ import annotations

import marshal
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

from funcgrad.compiler import cache as cache_folder
from funcgrad.compiler.cache import sha256
from funcgrad.compiler.float16 import FLOAT16_CODE, FLOAT16_FUNCTIONS
from funcgrad.compiler.image import MAGIC, Mapped, are_images_supported, linked
from funcgrad.compiler.llvm_library import TargetMachine, llvm
from funcgrad.compiler.locks import LLVM
from funcgrad.compiler.target import Target, host_key, host_target
from funcgrad.config import config

_to_be_freed: list[Any] = []  # what was let go while another thread had the lock

LOADS_OF_A_LOADER = 100
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
    return object_codes([Part(ir, target, level)])[0]


class Part(NamedTuple):
    """A module, and how to make code of it; see `object_code`."""

    ir: str
    target: Target
    level: int = 1

    @property
    def effort(self) -> int:
        """About how long LLVM takes, to compare it with others."""
        return len(self.ir) if self.level else len(self.ir) // 3


def object_codes(parts: Sequence[Part]) -> list[bytes]:
    """The machine code of several modules, made by several threads."""
    if not parts:
        return []  # and LLVM need not be loaded
    codes = [b""] * len(parts)
    errors: list[Exception] = []
    # A list's iterator may be shared by threads. The longest goes first, so that none is left to the end.
    todo = iter(sorted(range(len(parts)), key=lambda number: -parts[number].effort))

    def work(thread: int) -> None:
        try:
            for number in todo:
                ir, target, level = parts[number]
                codes[number] = _target_machine(target, level, thread).emitted(ir)
        except Exception as error:
            errors.append(error)

    with LLVM:
        helpers = [threading.Thread(target=work, args=(n,)) for n in range(1, min(config.threads, len(parts)))]
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


def load(code: bytes, names: Sequence[str]) -> Loaded:
    """Puts machine code into memory.

    Arguments:
        code: what `made` or `object_code` made for the CPU of this process. Functions that it calls and does
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
        parts: gives modules, which may call each other's functions. Large ones are kept one by one in the cache folder,
            so that whoever has the same in another Program need not wait for it again.
        names: the functions whose addresses will be wanted.
    """

    key: bytes
    parts: Callable[[], Sequence[Part]]
    names: Sequence[str]


def library_key(name: str) -> bytes:
    """The key for machine code that depends on nothing but the library itself and this CPU."""
    return sha256(host_key() + name.encode()).digest()


def made(codes: Sequence[Code]) -> list[bytes]:
    """Makes what `load` takes of several codes, at the same time: images where there are images, else the object files
    in one piece each."""
    parts: list[Part] = []
    keys: list[bytes | None] = []
    ends: list[int] = []
    for code in codes:
        own = code.parts()
        parts += own
        keys += [code_key(*part) if len(own) > 1 and len(part.ir) > LEAST_KEPT else None for part in own]
        ends.append(len(parts))
    objects = [None if key is None else cache_folder.read(key) for key in keys]
    new = [number for number, found in enumerate(objects) if found is None]
    for number, found in zip(new, object_codes([parts[n] for n in new]), strict=True):
        objects[number], key = found, keys[number]
        if key is not None:
            cache_folder.write(key, found)
    return [
        _in_one_piece([x for x in objects[start:end] if x is not None], code.names)
        for code, start, end in zip(codes, [0, *ends], ends, strict=False)
    ]


def _in_one_piece(codes: Sequence[bytes], names: Sequence[str]) -> bytes:
    codes = _with_float16(codes)
    return (are_images_supported() and linked(codes, names)) or OBJECTS + marshal.dumps(codes)


_found: dict[bytes, bytes] = {}  # what was made, or read, along with something else
_used: set[bytes] = set()  # the keys of what was put into memory


def kept(code: Code, along: Sequence[Code] = ()) -> Loaded:
    """Machine code in memory: out of the cache folder, or made and kept there.

    If it has to be made, that goes for what this process will need `along` with it as well, at the same time.
    """
    _used.add(code.key)
    contents = _found.pop(code.key, None) or cache_folder.read(code.key)
    if contents is None:
        needed = [other for other in along if other.key not in _used and other.key not in _found]
        known = {other.key: cache_folder.read(other.key) for other in needed}
        new = [code, *(other for other in needed if known[other.key] is None)]
        for one, its_contents in zip(new, made(new), strict=True):
            cache_folder.write(one.key, its_contents)
            known[one.key] = its_contents
        contents = known.pop(code.key)
        _found.update({key: found for key, found in known.items() if found is not None})
    assert contents is not None
    return load(contents, code.names)


@cache
def load_llvm_meanwhile() -> None:
    """Begins to load LLVM in another thread, for whoever is going to need it and has something else to do first."""
    _started(threading.Thread(target=llvm))
