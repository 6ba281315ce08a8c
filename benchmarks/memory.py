"""How much memory the process needs while it computes."""

from __future__ import annotations

import ctypes
import gc
from pathlib import Path


def status_bytes(field: str) -> int | None:
    """A field of /proc/self/status in bytes; None where there is no such file."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), None)


def give_back_free_memory() -> None:
    """Returns to the system what the C library keeps of freed memory, where that can be asked for."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class PeakMemory:
    """The most memory that the process has held since `start`, beyond what it held when this object was made.

    Linux keeps the mark (VmHWM) and can set it back to what is held now (by writing 5 to /proc/self/clear_refs).
    Elsewhere `peak` answers None.
    """

    def __init__(self) -> None:
        give_back_free_memory()
        self._before = status_bytes("VmRSS")
        self._resettable = False

    def start(self) -> None:
        give_back_free_memory()
        try:
            Path("/proc/self/clear_refs").write_text("5")
            self._resettable = True
        except OSError:
            pass

    def peak(self) -> int | None:
        if self._before is None or not self._resettable:
            return None
        mark = status_bytes("VmHWM")
        return None if mark is None else max(0, mark - self._before)
