"""The methods and properties of `Array`: the functions of this package, attached to the values they take first."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from funcgrad import dtypes
from funcgrad.array import Array, ConcreteArray, as_array
from funcgrad.errors import DtypeError, ShapeError
from funcgrad.numpy import composed, indexing, manipulation, products, reductions, searching, selection, sorting, ufuncs
from funcgrad.numpy.placement import device_put
from funcgrad.numpy.updates import At
from funcgrad.primitives import shapes
from funcgrad.primitives.operators import cast


def astype(self: Array, dtype: Any, *, copy: bool = False, device: Any = None) -> Array:
    """The elements as another dtype; the array itself where it has that dtype. `copy` means nothing here."""
    if dtype is not self.dtype:  # the dtypes of the library are single objects; other ways of naming them are not
        dtype = dtypes.canonical(dtype)
    x = self if self.dtype is dtype and not self.weak_type else cast(self, dtype)
    return x if device is None else device_put(x, device)


def reshape(self: Array, *shape: Any, order: str = "C", copy: bool | None = None) -> Array:
    """The elements in another shape: `x.reshape(2, 3)` or `x.reshape((2, 3))`; one length may be -1."""
    return manipulation.reshape(self, shape[0] if len(shape) == 1 else shape, order)


def transpose(self: Array, *axes: Any) -> Array:
    """The array with its axes in another order: `x.transpose(1, 0)` or `x.transpose((1, 0))`; reversed without any."""
    order = axes[0] if len(axes) == 1 and (axes[0] is None or isinstance(axes[0], (tuple, list))) else axes
    return manipulation.transpose(self, order or None)


def view(self: Array, dtype: Any = None) -> Array:
    """The same bytes read as another dtype of equal size, for arrays that have a value."""
    if dtype is None:
        return self
    dtype = dtypes.canonical(dtype)
    if dtype.itemsize != self.dtype.itemsize:
        raise DtypeError(
            f"view reads {self.dtype.name} as another dtype of {self.dtype.itemsize} bytes, and {dtype.name} has "
            f"{dtype.itemsize}; to convert the values use x.astype(...)."
        )
    return ConcreteArray(self.concrete("view()")._data.view(dtype))


def copy(self: Array) -> Array:
    """The array itself: what cannot change needs no copies."""
    return self


def to_device(self: Array, device: Any, *, stream: Any = None) -> Array:
    """The array on another device; the array itself where it is there already."""
    if isinstance(self, ConcreteArray) and self.device == device:
        return self
    return device_put(self, device)


def fill(self: Array, value: Any) -> Array:
    """An array of this shape and dtype with `value` in every place."""
    return shapes.broadcast_to(cast(as_array(value), self.dtype), self.shape)


def array_namespace(self: Array, /, *, api_version: str | None = None) -> Any:
    """The module with the functions for this array, as the array API standard asks for: `funcgrad.numpy`."""
    return sys.modules[__name__.rpartition(".")[0]]


def matrix_transposed(x: Array) -> Array:
    """The array with its last two axes exchanged."""
    if x.ndim < 2:
        raise ShapeError(f"x.mT needs at least two axes, and the array has {x.ndim}.")
    return manipulation.swapaxes(x, -1, -2)


METHODS: dict[str, Callable[..., Any]] = {
    "__getitem__": indexing.getitem,
    "__iter__": indexing.iterate,
    "__array_namespace__": array_namespace,
    "astype": astype,
    "reshape": reshape,
    "transpose": transpose,
    "view": view,
    "copy": copy,
    "to_device": to_device,
    "ravel": manipulation.ravel,
    "flatten": manipulation.ravel,
    "squeeze": manipulation.squeeze,
    "swapaxes": manipulation.swapaxes,
    "repeat": manipulation.repeat,
    "take": selection.take,
    "compress": searching.compress,
    "choose": selection.choose,
    "diagonal": selection.diagonal,
    "nonzero": searching.nonzero,
    "sort": sorting.sort,
    "argsort": sorting.argsort,
    "partition": sorting.partition,
    "argpartition": sorting.argpartition,
    "searchsorted": searching.searchsorted,
    "clip": composed.clip,
    "round": composed.round,
    "conj": ufuncs.conjugate,
    "conjugate": ufuncs.conjugate,
    "dot": products.dot,
    "trace": products.trace,
    "sum": reductions.sum,
    "prod": reductions.prod,
    "mean": reductions.mean,
    "var": reductions.var,
    "std": reductions.std,
    "max": reductions.max,
    "min": reductions.min,
    "ptp": reductions.ptp,
    "any": reductions.any,
    "all": reductions.all,
    "argmax": reductions.argmax,
    "argmin": reductions.argmin,
    "cumsum": reductions.cumsum,
    "cumprod": reductions.cumprod,
}

PROPERTIES: dict[str, Callable[[Array], Any]] = {
    "T": manipulation.transpose,
    "mT": matrix_transposed,
    "real": ufuncs.real,
    "imag": ufuncs.imag,
    "at": At,
}


def attach_methods() -> None:
    """Give `Array` its methods and properties."""
    for name, method in METHODS.items():
        setattr(Array, name, method)
    for name, getter in PROPERTIES.items():
        setattr(Array, name, property(getter, doc=getter.__doc__))


attach_methods()
