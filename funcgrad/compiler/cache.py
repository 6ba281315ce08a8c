"""Machine code kept on disk, so that a program that was compiled once starts at once.

An entry is a file. Its name is a hash of all that its contents depend on: of what was compiled, for which CPU, and by
what. So an entry never grows old, it is right or it is not there; and nothing needs a lock, because whoever writes an
entry writes the same.

Code from a file is run, so it matters whose file it is. The folder has to belong to the user and to be writable by
nobody else, and so has each file. A checksum finds what was damaged. Whatever is wrong with the folder, compiling works
without it, and a warning says so once.
"""

from __future__ import annotations

import os
import stat
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy

from funcgrad.config import config
from funcgrad.errors import user_line


def _sha256() -> Callable[..., Any]:
    """SHA-256 as Python has it built in. `hashlib` loads OpenSSL for it, which takes as long as all else here does."""
    for module in ("_sha2", "_sha256"):
        try:
            return import_module(module).sha256
        except ImportError:
            pass
    return import_module("hashlib").sha256


sha256 = _sha256()

MAGIC = b"funcgrad code 2\n"  # the number of the format of this file is part of it
CHECKSUM_BYTES = sha256().digest_size
SUFFIX, UNFINISHED_SUFFIX = ".code", ".part"
PAGE = 4096
ROOM_AFTER_EVICTION = 0.75  # of the limit is left in use, so that not every write has to evict
CLEANINGS_OF_A_LIMIT = 16  # all entries are looked at each time that a sixteenth of the limit was written
FLOORS = ("compiler", "control_flow", "primitives", "transforms")  # what code depends on, once a Program is traced
UNUSED_SECONDS = 60  # an entry that is read again before this does not get a new time
UNFINISHED_SECONDS = 3600  # a file that was not finished for so long never will be


@cache
def compiler_fingerprint() -> bytes:
    """A hash of the code that makes the code: of the library up to transforms, of LLVM, of Python and NumPy.

    The library's files are known by size and time, as Python knows whether it has to compile them.
    """
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    floors = [os.path.join(package, floor) for floor in FLOORS]
    files = [*_files(package, below=()), *(file for floor in floors for file in _files(floor)), *llvm_files()]
    known = [
        (path, status.st_size, status.st_mtime_ns) for path, status in zip(files, map(os.stat, files), strict=True)
    ]
    return sha256(repr((sys.version, sys.platform, numpy.__version__, known)).encode()).digest()


def llvm_files() -> list[str]:
    """Where LLVM is, and what says the version of llvmlite; found without importing it."""
    llvmlite = find_spec("llvmlite")
    folders = (llvmlite and llvmlite.submodule_search_locations) or ()
    return [
        path for folder in folders for path in _files(folder, (".so", ".dylib", ".dll", "_version.py"), ["binding"])
    ]


def _files(folder: str, suffixes: tuple[str, ...] = (".py",), below: Sequence[str] | None = None) -> Iterator[str]:
    """The files in a folder and in those below it, in order."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name.endswith(suffixes):
            yield entry.path
        elif "." not in entry.name and (below is None or entry.name in below) and entry.is_dir():
            yield from _files(entry.path, suffixes, below)


def entry_name(key: bytes) -> str:
    """The name of the file for a key: a hash of it and of the compiler."""
    return sha256(sha256(key).digest() + compiler_fingerprint() + MAGIC).hexdigest()


def packed(name: str, code: bytes) -> bytes:
    """The contents of an entry's file."""
    return MAGIC + _checksum(name, code) + code


def unpacked(name: str, contents: bytes) -> bytes | None:
    """The code in the contents of an entry's file; None if they are damaged, or those of another entry."""
    code = contents[len(MAGIC) + CHECKSUM_BYTES :]
    return code if contents == packed(name, code) else None


def _checksum(name: str, code: bytes) -> bytes:
    return sha256(name.encode() + code).digest()


class Folder:
    """A folder of entries.

    Arguments:
        path: where it is. It is made by the first `write`.
    """

    def __init__(self, path: str):
        self.path = path
        self.writable = True  # as far as is known
        self.warned = False

    def read(self, name: str) -> bytes | None:
        """The code of an entry, or None if there is none that can be trusted."""
        if not self._may_use():
            return None
        path = self._entry(name)
        try:
            with open(path, "rb") as file:
                status = os.fstat(file.fileno())
                code = unpacked(name, file.read()) if _is_ours_alone(status) else None
        except OSError:
            return None
        if code is not None and time.time() - status.st_mtime > UNUSED_SECONDS:
            try:
                os.utime(path)  # what is used stays
            except OSError:
                pass  # of a folder that nothing can be written to, nothing is evicted either
        return code

    def write(self, name: str, code: bytes, limit: int):
        """Keeps the code of an entry, if that is possible, and evicts others if there are more than `limit` bytes."""
        contents = packed(name, code)
        if not self.writable or len(contents) > limit:
            return
        try:
            os.makedirs(self.path, mode=0o700, exist_ok=True)
            if self._may_use():
                self._write_file(self._entry(name), contents)
                self._account(len(contents), limit)
        except OSError as error:
            self.writable = False
            self._warn(f"cannot be written to ({error.strerror})")

    def _entry(self, name: str) -> str:
        return os.path.join(self.path, name + SUFFIX)

    def _may_use(self) -> bool:
        try:
            status = os.stat(self.path)
        except OSError:
            return False
        if not _is_ours_alone(status):
            self._warn("belongs to another user, or others may write to it")
            return False
        return True

    def _write_file(self, path: str, contents: bytes):
        """Writes a file that is there complete or not at all.

        Not forced onto the disk: what a loss of power leaves of it does not have the right checksum.
        """
        unfinished = f"{path}.{os.urandom(8).hex()}{UNFINISHED_SUFFIX}"
        try:
            with open(unfinished, "xb", opener=_open_privately) as file:
                file.write(contents)
            os.replace(unfinished, path)
        except BaseException:
            _remove(unfinished)
            raise

    def _account(self, size: int, limit: int):
        """Counts what was written, and evicts when it is too much.

        Counted in the length of a file, to which each writer appends a byte for each page that it wrote: no writer
        waits for another, and only one in many has to look at all entries. That one counts anew.
        """
        ledger = os.path.join(self.path, "pages")
        try:
            with open(ledger, "ab", opener=_append_to_existing) as file:
                file.write(bytes(_pages(size)))
                pages = file.tell()
        except FileNotFoundError:
            pages = None
        often = max(1, limit // PAGE // CLEANINGS_OF_A_LIMIT)
        if pages is None or pages * PAGE > limit or pages // often > (pages - _pages(size)) // often:
            self._write_file(ledger, bytes(self._evict(limit)))

    def _evict(self, limit: int) -> int:
        """Removes the entries that were not used for the longest time, and says how many pages are left."""
        entries: list[tuple[float, int, str]] = []
        for file in os.scandir(self.path):
            try:
                status = file.stat(follow_symlinks=False)
            except OSError:
                continue  # somebody else evicted it
            if file.name.endswith(SUFFIX):
                entries.append((status.st_mtime, _pages(status.st_size), file.path))
            elif file.name.endswith(UNFINISHED_SUFFIX) and time.time() - status.st_mtime > UNFINISHED_SECONDS:
                _remove(file.path)  # whoever wrote it was killed
        pages = sum(size for _, size, _ in entries)
        if pages * PAGE > limit:
            for _, size, path in sorted(entries):
                if pages * PAGE <= ROOM_AFTER_EVICTION * limit:
                    break
                _remove(path)
                pages -= size
        return pages

    def _warn(self, problem: str):
        if not self.warned:
            self.warned = True
            message = (
                f"Compiled code is not kept, because the folder {self.path} {problem}; set fg.config.cache_folder or "
                f"the environment variable FUNCGRAD_CACHE to another folder, or to 'off'."
            )
            line = user_line()
            file, number = (line.file, line.line) if line else (__file__, 1)
            warnings.warn_explicit(message, RuntimeWarning, file, number)


def _pages(size: int) -> int:
    return -(-size // PAGE)


def _open_privately(path: str, flags: int) -> int:
    return os.open(path, flags, mode=0o600)


def _append_to_existing(path: str, flags: int) -> int:
    return os.open(path, flags & ~os.O_CREAT)


def _is_ours_alone(status: os.stat_result) -> bool:
    """Whether something belongs to this user, and nobody else may write to it."""
    if os.name == "nt":
        return True  # there, the folder of the user's caches is private as it is, and has no such numbers
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _remove(path: str):
    try:
        os.unlink(path)
    except OSError:
        pass  # it is gone already, or in use: the next eviction comes


@cache
def _folder(path: str) -> Folder:
    return Folder(path)


def cached(key: bytes, make: Callable[[], bytes]) -> bytes:
    """Bytes out of the cache folder, or made and kept there.

    Arguments:
        key: everything that they depend on, apart from the compiler itself.
        make: makes them. Called only where they are not kept.

    Returns:
        What `make` gives, or gave to an earlier call with the same key, maybe in another process.
    """
    code = read(key)
    if code is None:
        code = make()
        write(key, code)
    return code


def read(key: bytes) -> bytes | None:
    """What is kept for a key; None if nothing is."""
    return None if config.cache_folder is None else _folder(config.cache_folder).read(entry_name(key))


def write(key: bytes, code: bytes) -> None:
    """Keeps something for a key, if that is possible."""
    if config.cache_folder is not None:
        _folder(config.cache_folder).write(entry_name(key), code, config.cache_bytes)
