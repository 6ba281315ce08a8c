"""Moving arrays between devices."""

from __future__ import annotations

from typing import Any

import numpy

from funcgrad import tree
from funcgrad.array import Array, ConcreteArray, as_array
from funcgrad.core import Tracer
from funcgrad.devices import Device, move


def device_put(x: Any, device: Device | None = None) -> Any:
    """Every leaf of a pytree as an array on `device`; arrays that are there already are not copied.

    Arguments:
        x: an array-like or a pytree of them. Tracers pass through: where they live is decided when they get a value.
        device: one of `fg.devices()`; None leaves arrays where they are and makes arrays of other leaves.

    Raises:
        DeviceError: if the device is a GPU and there is none.

    Example:
        >>> import funcgrad as fg
        >>> fg.device_put([1.0, 2.0], fg.devices("cpu")[0])
        [Array(1., dtype=float32), Array(2., dtype=float32)]
    """

    def put(leaf: Any) -> Array:
        array = as_array(leaf)
        if isinstance(array, Tracer):
            return array
        buffer = array._data
        return ConcreteArray(buffer if device is None else move(buffer, device))

    return tree.map(put, x)


def device_get(x: Any) -> Any:
    """Every leaf of a pytree as a NumPy array, read-only where it shares the array's memory."""
    return tree.map(lambda leaf: numpy.asarray(leaf), x)
