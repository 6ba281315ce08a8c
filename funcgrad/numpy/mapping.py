"""Applying a function of vectors or scalars to whole arrays: vectorize, apply_along_axis, apply_over_axes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any

from funcgrad.array import Array, as_array
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.numpy.axes import normalize_axes, normalize_axis
from funcgrad.numpy.manipulation import broadcast_shapes, expand_dims, moveaxis, reshape
from funcgrad.transforms.vmap import vmap

CoreAxes = tuple[str, ...]
_AXES = r"\(\s*(?:\w+\s*(?:,\s*\w+\s*)*,?)?\s*\)"
_SIGNATURE = re.compile(rf"\s*{_AXES}(?:\s*,\s*{_AXES})*\s*->\s*{_AXES}(?:\s*,\s*{_AXES})*\s*")


def _parse_signature(signature: str) -> tuple[list[CoreAxes], list[CoreAxes]]:
    """The names of the axes of each argument and result in a signature like "(m,n),(n)->(m)"."""
    if not _SIGNATURE.fullmatch(signature):
        raise ArgumentError(f"vectorize got the signature {signature!r}; write one like '(m,n),(n)->(m)'.")
    sides = signature.split("->")
    inputs, outputs = ([tuple(re.findall(r"\w+", axes)) for axes in re.findall(_AXES, side)] for side in sides)
    return inputs, outputs


def vectorize(pyfunc: Callable, *, excluded: Iterable[int | str] = (), signature: str | None = None) -> Callable:
    """A function on small arrays as one on arrays with any further axes in front, which broadcast.

    Arguments:
        pyfunc: a function of scalars, or of arrays as `signature` says.
        excluded: positions or names of arguments that are passed on as they are.
        signature: the axes that `pyfunc` wants of each argument and gives, such as "(n),(n)->()"; without it,
            scalars.

    Returns:
        The vectorized function. Keyword arguments are passed on as they are.

    Raises:
        ShapeError: if an argument lacks axes, two axes of one name differ, or the axes in front do not broadcast.

    Example:
        >>> import funcgrad as fg
        >>> distance = fg.numpy.vectorize(lambda x, y: abs(x - y).sum(), signature="(n),(n)->()")
        >>> distance(fg.numpy.ones((4, 3)), fg.numpy.zeros(3))
        Array([3., 3., 3., 3.], dtype=float32)
    """
    excluded = set(excluded)
    parsed = None if signature is None else _parse_signature(signature)

    @wraps(pyfunc)
    def vectorized(*args: Any, **kwargs: Any) -> Any:
        mapped = [k for k in range(len(args)) if k not in excluded]
        arrays = [as_array(args[k]) for k in mapped]

        def function(*values: Any) -> Any:
            full = list(args)
            for k, value in zip(mapped, values, strict=True):
                full[k] = value
            result = pyfunc(*full, **kwargs)
            if parsed is not None:
                _check_results(result, parsed[1], lengths)
            return result

        core = [()] * len(arrays) if parsed is None else parsed[0]
        if len(core) != len(arrays):
            raise ArgumentError(f"vectorize has a signature with {len(core)} arguments, and {len(arrays)} were given.")
        lengths = _core_lengths(arrays, core)
        outer = [x.shape[: x.ndim - len(names)] for x, names in zip(arrays, core, strict=True)]
        return _map_outer(function, arrays, outer)

    return vectorized


def _core_lengths(arrays: Sequence[Array], core: Sequence[CoreAxes]) -> dict[str, int]:
    lengths: dict[str, int] = {}
    for x, names in zip(arrays, core, strict=True):
        if x.ndim < len(names):
            raise ShapeError(f"vectorize needs an argument with the axes {names}, and got one of shape {x.shape}.")
        for name, length in zip(names, x.shape[x.ndim - len(names) :], strict=True):
            wanted = int(name) if name.isdigit() else lengths.setdefault(name, length)
            if wanted != length:
                raise ShapeError(f"vectorize got lengths {wanted} and {length} for the axis '{name}' of its signature.")
    return lengths


def _check_results(result: Any, core: Sequence[CoreAxes], lengths: dict[str, int]) -> None:
    results = result if isinstance(result, tuple) else (result,)
    if len(results) != len(core):
        raise ArgumentError(
            f"the signature of vectorize has {len(core)} results, and the function gave {len(results)}."
        )
    for x, names in zip(results, core, strict=True):
        shape = as_array(x).shape
        known = [int(name) if name.isdigit() else lengths.get(name) for name in names]
        if len(shape) != len(names) or any(n is not None and n != m for n, m in zip(known, shape, strict=True)):
            raise ShapeError(f"the vectorized function gave a result of shape {shape}; its signature says {names}.")


def _map_outer(function: Callable, arrays: Sequence[Array], outer: Sequence[tuple[int, ...]]) -> Any:
    """`function` mapped over the leading axes of its arguments, of the shapes `outer`, which broadcast."""
    common = broadcast_shapes(*outer)
    arrays = list(arrays)
    mapped_axes: list[list[bool]] = [[] for _ in arrays]
    for k, (x, shape) in enumerate(zip(arrays, outer, strict=True)):
        missing = len(common) - len(shape)
        mapped_axes[k] = [False] * missing + [n == m for n, m in zip(shape, common[missing:], strict=True)]
        # An axis of length one that is to be repeated is left out: vmap passes the same value to all.
        kept = [n for n, mapped in zip(shape, mapped_axes[k][missing:], strict=True) if mapped]
        arrays[k] = reshape(x, (*kept, *x.shape[len(shape) :]))
    for axis in reversed(range(len(common))):
        function = vmap(function, in_axes=tuple(0 if mapped[axis] else None for mapped in mapped_axes))
    return function(*arrays)


def apply_along_axis(func1d: Callable, axis: int, arr: Any, *args: Any, **kwargs: Any) -> Array:
    """A function of a vector, applied to all vectors along an axis; the axes of its result come in the place of that.

    Example:
        >>> import funcgrad as fg
        >>> fg.numpy.apply_along_axis(fg.numpy.max, 1, fg.array([[1, 5], [7, 2]]))
        Array([5, 7], dtype=int32)
    """
    x = as_array(arr)
    axis = normalize_axis("apply_along_axis", axis, x.ndim)
    x = moveaxis(x, axis, -1)

    def function(vector: Array) -> Array:
        return as_array(func1d(vector, *args, **kwargs))

    for _ in range(x.ndim - 1):
        function = vmap(function)
    result = function(x)
    new = result.ndim - (x.ndim - 1)
    return moveaxis(result, tuple(range(x.ndim - 1, result.ndim)), tuple(range(axis, axis + new)))


def apply_over_axes(func: Callable, a: Any, axes: int | Sequence[int]) -> Array:
    """`func(a, axis)` applied for one axis after the other; each result keeps the number of axes.

    Example:
        >>> import funcgrad as fg
        >>> fg.numpy.apply_over_axes(fg.numpy.sum, fg.numpy.ones((2, 3)), (0, 1))
        Array([[6.]], dtype=float32)
    """
    x = as_array(a)
    for axis in normalize_axes("apply_over_axes", axes, x.ndim):
        result = as_array(func(x, axis))
        if result.ndim == x.ndim - 1:
            result = expand_dims(result, axis)
        if result.ndim != x.ndim:
            raise ShapeError("apply_over_axes needs a function that keeps all axes, or removes the given one.")
        x = result
    return x
