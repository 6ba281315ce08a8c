"""Images: machine code in a form that can be put into memory as it is.

What LLVM makes is an object file. Its sections still have to be laid side by side, and wherever one part names another,
the distance between the two has to be written in. `linked` does that once, when the code is made. What it gives is an
*image*: bytes that are right wherever in memory they are, apart from a few addresses, the *slots*, that `Mapped` fills
in when it puts the image there. So code out of the cache needs no LLVM, which takes longer to load than most programs
take to run.

An image has two parts. The first is code and constants, and cannot be written to once it is in memory. The second
holds the slots and what the code writes to. A function of another library, such as `memcpy`, is called through a
*stub*, an instruction that jumps to where a slot says.

Object files are in the format ELF (https://refspecs.linuxfoundation.org/elf/gabi4+/contents.html); what there is to
fill in for x86-64 says https://gitlab.com/x86-psABIs/x86-64-ABI, section 4.4. Elsewhere LLVM itself puts code into
memory.
"""

from __future__ import annotations

import ctypes
import marshal
import platform
import struct
import sys
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

MAGIC = b"funcgrad image\n"
PAGE = 4096
SLOT_BYTES, STUB_BYTES = 8, 8
JUMP = b"\xff\x25"  # the instruction `jmp *distance(%rip)`, six bytes long

# Of the format.
PROGBITS, SYMTAB, RELA, NOBITS = 1, 2, 4, 8
WRITE, ALLOCATE, EXECUTE = 1, 2, 4
UNDEFINED, ABSOLUTE = 0, 0xFFF1
LOCAL = 0
ADDRESS, DISTANCE, CALL = 1, 2, 4  # R_X86_64_64, R_X86_64_PC32, R_X86_64_PLT32
DISTANCES_OF_SLOTS = (9, 41, 42)  # R_X86_64_GOTPCREL and its two relatives
SECTION, SYMBOL, RELOCATION = struct.Struct("<IIQQQQIIQQ"), struct.Struct("<IBBHQQ"), struct.Struct("<QQq")


class CannotLinkError(Exception):
    """The object files hold something that images are not made of."""


def are_images_supported() -> bool:
    """Whether images are made for this platform."""
    return sys.platform == "linux" and platform.machine() == "x86_64" and sys.maxsize > 2**32


class _Object:
    """An object file, taken apart."""

    def __init__(self, contents: bytes):
        if contents[:6] != b"\x7fELF\x02\x01":
            raise CannotLinkError("no object file of 64 bits")
        start, size, count = *struct.unpack_from("<Q", contents, 40), *struct.unpack_from("<HH", contents, 58)
        self.contents = contents
        self.sections = [SECTION.unpack_from(contents, start + size * number) for number in range(count)]
        self.places: dict[int, int] = {}  # where in the image each section begins
        self.symbols: list[tuple[str, int, int, int]] = []  # name, binding, section, and where in it
        for _, kind, _, _, offset, size, strings, *_ in self.sections:
            if kind == SYMTAB:
                names = self.sections[strings][4]
                for name, info, _, section, value, _ in SYMBOL.iter_unpack(contents[offset : offset + size]):
                    end = contents.index(b"\0", names + name)
                    self.symbols.append((contents[names + name : end].decode(), info >> 4, section, value))

    def wanted(self, writable: bool) -> list[int]:
        """The numbers of the sections that go into one part of the image."""
        return [
            number
            for number, (_, kind, flags, *_) in enumerate(self.sections)
            if kind in (PROGBITS, NOBITS) and flags & ALLOCATE and bool(flags & WRITE) is writable
        ]


class _Linker:
    """Makes an image of object files."""

    def __init__(self, objects: Sequence[bytes]):
        self.objects = [_Object(x) for x in objects]
        self.defined = {
            name: (x, section, value)
            for x in self.objects
            for name, binding, section, value in x.symbols
            if name and binding != LOCAL and section not in (UNDEFINED, ABSOLUTE)
        }
        self.slots: dict[Any, int] = {}  # of what, and where
        self.stubs: dict[str, int] = {}
        self.relative: list[tuple[int, int]] = []  # slots that hold addresses in the image, and which
        self.image = bytearray()

    def link(self, names: Sequence[str]) -> bytes:
        self.lay_out(writable=False)
        for x in self.objects:
            for name, binding, section, _ in x.symbols:
                if section == UNDEFINED and binding != LOCAL and name not in self.defined and name not in self.stubs:
                    self.stubs[name] = len(self.image)
                    self.image += JUMP.ljust(STUB_BYTES, b"\x90")
        code_bytes = len(self.image)
        first = -(-code_bytes // PAGE) * PAGE  # of the second part
        self.image += bytes(first - code_bytes)
        self.lay_out(writable=True)
        self.image += bytes(-len(self.image) % SLOT_BYTES)
        for name, stub in self.stubs.items():
            self.fill_distance(stub + len(JUMP), self.slot(name) - 4)
        for x in self.objects:
            self.fill(x)
        missing = [name for name in names if name not in self.defined]
        if missing:
            raise CannotLinkError(f"no function {missing[0]}")
        where = {name: self.place(*self.defined[name]) for name in names}
        external = [(place, name) for name, place in self.slots.items() if isinstance(name, str)]
        parts = bytes(self.image[:code_bytes]), first, bytes(self.image[first:])
        return MAGIC + marshal.dumps((*parts, where, external, self.relative))

    def lay_out(self, writable: bool) -> None:
        for x in self.objects:
            for number in x.wanted(writable):
                _, kind, _, _, offset, size, _, _, alignment, _ = x.sections[number]
                self.image += bytes(-len(self.image) % max(alignment, 1))
                x.places[number] = len(self.image)
                self.image += bytes(size) if kind == NOBITS else x.contents[offset : offset + size]

    def place(self, x: _Object, section: int, value: int) -> int:
        if section not in x.places:
            raise CannotLinkError("a symbol of a section that is not in the image")
        return x.places[section] + value

    def slot(self, key: Any) -> int:
        """Where the slot is for the address of an external function, or of a place in the image."""
        if key not in self.slots:
            self.slots[key] = len(self.image)
            if isinstance(key, int):
                self.relative.append((len(self.image), key))
            self.image += bytes(SLOT_BYTES)
        return self.slots[key]

    def fill(self, x: _Object) -> None:
        for _, kind, _, _, offset, size, _, target, *_ in x.sections:
            if kind != RELA or target not in x.places:
                continue
            start = x.places[target]
            for where, info, addend in RELOCATION.iter_unpack(x.contents[offset : offset + size]):
                name, binding, section, value = x.symbols[info >> 32]
                self.fill_one(info & 0xFFFFFFFF, start + where, addend, self.meaning(x, name, binding, section, value))

    def meaning(self, x: _Object, name: str, binding: int, section: int, value: int) -> int | str:
        """The place in the image that a symbol stands for, or its name if it is in another library."""
        if section == UNDEFINED:
            return self.place(*self.defined[name]) if name in self.defined else name
        return self.place(x, section, value)

    def fill_one(self, kind: int, place: int, addend: int, meaning: int | str) -> None:
        if kind in DISTANCES_OF_SLOTS:
            self.fill_distance(place, self.slot(meaning) + addend)
        elif kind == CALL or kind == DISTANCE and isinstance(meaning, int):
            self.fill_distance(place, (meaning if isinstance(meaning, int) else self.stubs[meaning]) + addend)
        elif kind == ADDRESS and isinstance(meaning, int):
            self.relative.append((place, meaning + addend))
        else:
            raise CannotLinkError(f"relocation {kind} of {meaning}")

    def fill_distance(self, place: int, target: int) -> None:
        struct.pack_into("<i", self.image, place, target - place)


def linked(objects: Sequence[bytes], names: Sequence[str]) -> bytes | None:
    """Makes an image.

    Arguments:
        objects: object files for this platform. What one names and none holds is looked for in the process, later.
        names: the functions whose addresses will be wanted.

    Returns:
        The image; None if the object files hold something that images are not made of, such as code of another
        platform.
    """
    try:
        return _Linker(objects).link(names)
    except CannotLinkError:
        return None


@cache
def _library() -> Any:
    """The functions of the process, among them those of the C library that deal with memory."""
    library = ctypes.CDLL(None, use_errno=True)
    size, address, number = ctypes.c_size_t, ctypes.c_void_p, ctypes.c_int
    library.mmap.argtypes = [address, size, number, number, number, ctypes.c_long]
    library.mmap.restype = address
    library.mprotect.argtypes, library.munmap.argtypes = [address, size, number], [address, size]
    return library


READ, WRITE_MEMORY, RUN = 1, 2, 4
PRIVATE, ANONYMOUS = 2, 32


class Mapped:
    """An image in memory. It stays there for as long as this object lives, or for ever if it is `keep`ed.

    Attributes:
        addresses: the address of each function that was asked for.
    """

    __slots__ = ("_region", "_unmap", "addresses")

    def __init__(self, image: bytes):
        code, first, data, where, external, relative = marshal.loads(memoryview(image)[len(MAGIC) :])
        library = _library()
        size = -(-(first + len(data)) // PAGE) * PAGE
        base = library.mmap(None, size, READ | WRITE_MEMORY, PRIVATE | ANONYMOUS, -1, 0)
        if base in (None, ctypes.c_void_p(-1).value):
            raise MemoryError(f"there is no room for {size} bytes of machine code")
        self._region, self._unmap = (base, size), library.munmap
        ctypes.memmove(base, code, len(code))
        ctypes.memmove(base + first, data, len(data))
        for place, name in external:
            try:
                address = ctypes.cast(library[name], ctypes.c_void_p).value or 0
            except AttributeError:
                raise RuntimeError(f"machine code calls {name}, which this process does not have") from None
            ctypes.c_uint64.from_address(base + place).value = address
        for place, target in relative:
            ctypes.c_uint64.from_address(base + place).value = base + target
        if first and library.mprotect(base, first, READ | RUN):
            raise RuntimeError("the system does not let a process run machine code that it made")
        self.addresses: dict[str, int] = {name: base + place for name, place in where.items()}

    def __del__(self, ends: Callable[[], bool] = sys.is_finalizing):
        region = getattr(self, "_region", None)
        if region is not None and not ends():  # at the end of the process, a thread may still run the code
            self._unmap(*region)

    def keep(self) -> None:
        """Leaves the code in memory until the process ends, whatever becomes of this object."""
        self._region = None
