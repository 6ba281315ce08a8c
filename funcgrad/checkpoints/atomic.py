"""Writing a file so that whoever looks, at any moment and after any crash, sees the old one or the new one, whole.

The bytes go to a temporary file in the same folder, which is flushed to the disk, then renamed over the old file; at
last the folder is flushed, so that the rename itself survives a loss of power. A process that is killed leaves its
temporary file behind. It is known by its lock: that of a living writer is held, that of a dead one is free.

Source: rename(2), "If newpath already exists, it will be atomically replaced"; fsync(2) on the folder of a new file.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from collections.abc import Iterable
from pathlib import Path

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\.writing")


def write_atomically(path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Replaces the file at `path` by one that holds the chunks. If anything fails, the old file is as it was.

    Raises:
        OSError: the file cannot be written; nothing of the attempt is left in the folder.
    """
    temporary, descriptor = _open_temporary(path)
    try:
        try:
            for chunk in chunks:
                _write(descriptor, memoryview(chunk).cast("B"))
            os.fsync(descriptor)
            os.replace(temporary, path)
        finally:
            os.close(descriptor)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush_folder(path.parent)


def remove_abandoned(folder: Path) -> None:
    """Removes the temporary files of writers that are no more."""
    for path in folder.iterdir():
        if _TEMPORARY.fullmatch(path.name):
            try:
                descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            except FileNotFoundError:  # its writer has just finished
                continue
            try:
                if _try_lock(descriptor):
                    path.unlink(missing_ok=True)
            finally:
                os.close(descriptor)


def _open_temporary(path: Path) -> tuple[Path, int]:
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.writing")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        # Between open and lock, the file may look abandoned and be removed; then it has no name any more.
        if _try_lock(descriptor) and os.fstat(descriptor).st_nlink:
            return temporary, descriptor
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
