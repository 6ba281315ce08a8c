"""Devices: where buffers live, and which module computes on them.

A buffer is a NumPy array in the machine's memory or a CuPy array in the memory of an NVIDIA GPU. Both libraries
offer the same functions, so a rule written once, `array_module(x).cumsum(x)`, runs on either. CuPy is imported when
a GPU is first asked for and never otherwise.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import Any

import numpy

from funcgrad.errors import DeviceError


class Device:
    """A place where arrays live: `cpu:0`, or `cuda:0` for the first GPU."""

    __slots__ = ("id", "platform")

    def __init__(self, platform: str, id: int = 0):
        self.platform, self.id = platform, id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and (self.platform, self.id) == (other.platform, other.id)

    def __hash__(self) -> int:
        return hash((self.platform, self.id))

    def __repr__(self) -> str:
        return f"{self.platform}:{self.id}"


CPU = Device("cpu")


def array_module(buffer: Any) -> Any:
    """The module whose functions take this buffer: `numpy`, or `cupy` for a CuPy array."""
    root = type(buffer).__module__.partition(".")[0]
    return sys.modules["cupy"] if root == "cupy" else numpy


def device_of(buffer: Any) -> Device:
    """Where a buffer lives."""
    return CPU if array_module(buffer) is numpy else Device("cuda", buffer.device.id)


def to_host(buffer: Any) -> numpy.ndarray:
    """The buffer itself when it is in the machine's memory, a copy of it there otherwise."""
    return buffer if array_module(buffer) is numpy else buffer.get()


def synchronize(buffer: Any) -> None:
    """Wait until a buffer has its value; on the CPU it always has."""
    if array_module(buffer) is not numpy:
        buffer.device.synchronize()


@lru_cache(maxsize=1)
def _cupy() -> Any:
    try:
        import cupy  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise DeviceError(
            "GPU arrays need CuPy; install it with pip install 'funcgrad[cuda12]' or 'funcgrad[cuda13]'."
        ) from None
    return cupy


def find_devices(platform: str | None = None) -> list[Device]:
    """The devices of this machine, GPUs first; with `platform` ("cpu", "cuda" or "gpu"), those of that kind.

    Raises:
        DeviceError: if there is none of that kind.

    Example:
        >>> import funcgrad as fg
        >>> fg.devices("cpu")
        [cpu:0]
    """
    if platform == "cpu":
        return [CPU]
    if platform not in (None, "cuda", "gpu"):
        raise DeviceError(f"there is no platform {platform!r}; choose 'cpu' or 'cuda'.")
    try:
        cupy = _cupy()
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception:  # no CuPy, no driver, or no card: three ways of having no GPU
        if platform is not None:
            raise DeviceError(
                "no GPU was found; install CuPy (pip install 'funcgrad[cuda12]') on a machine with an NVIDIA driver."
            ) from None
        return [CPU]
    gpus = [Device("cuda", index) for index in range(count)]
    return gpus if platform else [*gpus, CPU]


def move(buffer: Any, device: Device) -> Any:
    """The buffer on `device`: itself when it is there already, a copy otherwise."""
    if device_of(buffer) == device:
        return buffer
    host = to_host(buffer)
    if device.platform == "cpu":
        return host
    cupy = _cupy()
    with cupy.cuda.Device(device.id):
        return cupy.asarray(host)
