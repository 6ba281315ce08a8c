"""Writing without writing: `x.at[index].set(value)` gives a copy of `x` in which some elements are replaced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

from funcgrad import dtypes
from funcgrad.array import Array, ConcreteArray, as_array
from funcgrad.core import Primitive, Tracer
from funcgrad.errors import ShapeError
from funcgrad.numpy.indexing import (
    BASIC_TYPES,
    READ_MODES,
    WHOLE,
    WRITE_MODES,
    IndexPlan,
    as_items,
    as_numpy_index,
    at_once,
    broadcast_index,
    checked_mode,
    parse_index,
    read,
)
from funcgrad.primitives import elementwise as e
from funcgrad.primitives.indexing import scatter_add, scatter_max, scatter_min, scatter_mul, scatter_set
from funcgrad.primitives.movement import dynamic_update_slice, rev
from funcgrad.primitives.operators import cast, power, true_divide
from funcgrad.primitives.shapes import broadcast_to, reshape, transpose


class At:
    """`x.at`: takes the index of an update. `x.at[i].set(v)` is what `x[i] = v` would be if arrays could be changed.

    Example:
        >>> import funcgrad as fg
        >>> x = fg.array([1.0, 2.0, 3.0])
        >>> x.at[1].set(9.0)
        Array([1., 9., 3.], dtype=float32)
        >>> x.at[fg.array([0, 0])].add(1.0)
        Array([3., 2., 3.], dtype=float32)
    """

    __slots__ = ("array",)

    def __init__(self, array: Array):
        self.array = array

    def __getitem__(self, index: Any) -> IndexedUpdate:
        return IndexedUpdate(self.array, index)

    def __repr__(self) -> str:
        return f"At({self.array!r})"


class IndexedUpdate:
    """`x.at[index]`: what can be done with the elements there. Each method gives a new array and leaves `x` as it is.

    `index` may be whatever can stand in `x[index]`, and also a traced mask if the values broadcast against single
    elements. Where an index occurs twice, `add`, `multiply`, `min` and `max` apply each of their values; of several
    values that are `set`, one remains.

    All methods take the keywords `mode`, what to do about index arrays with entries out of range:
    "drop" (the default for updates) leaves those out, "clip" (the default of `get`) takes the nearest element,
    "fill" makes `get` give `fill_value`, and "promise_in_bounds" says that there are none. Without `mode`, Python
    integers out of range raise OutOfBoundsError. `indices_are_sorted` and `unique_indices` are promises that may make
    it faster and change no result.
    """

    __slots__ = ("array", "index")

    def __init__(self, array: Array, index: Any):
        self.array, self.index = array, index

    def __repr__(self) -> str:
        return f"IndexedUpdate({self.array!r}, {self.index!r})"

    def get(
        self,
        *,
        mode: str | None = None,
        fill_value: Any = None,
        indices_are_sorted: bool = False,
        unique_indices: bool = False,
    ) -> Array:
        """The elements: `x[index]` with a choice of `mode`.

        `fill_value` is for the mode "fill"; by default NaN, the lowest signed or highest unsigned integer, or True.
        """
        plan = parse_index(self.index, self.array.shape, check_bounds=mode is None)
        return read(self.array, plan, checked_mode(mode, READ_MODES), fill_value)

    def set(self, values: Any, **options: Any) -> Array:
        """`x[index] = values`."""
        return _update(self, values, scatter_set, _replace, **options)

    def add(self, values: Any, **options: Any) -> Array:
        """`x[index] += values`, adding up the values of an index that occurs more than once."""
        if dtypes.is_bool(self.array.dtype):
            return _update(self, values, scatter_max, e.or_, **options)
        return _update(self, values, scatter_add, e.add, **options)

    def subtract(self, values: Any, **options: Any) -> Array:
        """`x[index] -= values`."""
        return self.add(e.neg(cast(as_array(values), self.array.dtype)), **options)

    def multiply(self, values: Any, **options: Any) -> Array:
        """`x[index] *= values`."""
        if dtypes.is_bool(self.array.dtype):
            return _update(self, values, scatter_min, e.and_, **options)
        return _update(self, values, scatter_mul, e.mul, **options)

    mul = multiply

    def divide(self, values: Any, **options: Any) -> Array:
        """`x[index] /= values`; an integer array becomes floating, as in `x / values`."""
        divisors = IndexedUpdate(_ones_like(self.array), self.index).multiply(values, **options)
        return true_divide(self.array, divisors)

    def power(self, values: Any, **options: Any) -> Array:
        """`x[index] **= values`."""
        exponents = IndexedUpdate(_ones_like(self.array), self.index).multiply(values, **options)
        return power(self.array, exponents)

    def min(self, values: Any, **options: Any) -> Array:
        """`x[index] = minimum(x[index], values)`."""
        return _update(self, values, scatter_min, e.min_, **options)

    def max(self, values: Any, **options: Any) -> Array:
        """`x[index] = maximum(x[index], values)`."""
        return _update(self, values, scatter_max, e.max_, **options)

    def apply(self, function: Callable[[Array], Any], **options: Any) -> Array:
        """`x[index] = function(x[index])`, once for each element, however often the index names it."""
        if _is_traced_mask(self.index):
            dtype = self.array.dtype
            return _update(self, 0, scatter_set, lambda old, _: cast(as_array(function(old)), dtype), **options)
        return self.set(function(self.get(mode="clip" if options.get("mode") else None)), **options)


def _replace(old: Array, new: Array) -> Array:
    return new


def _ones_like(x: Array) -> Array:
    return e.full(x.shape, 1, x.dtype)


def _update(
    place: IndexedUpdate,
    values: Any,
    scatter: Primitive,
    combine: Callable[[Array, Array], Array],
    *,
    mode: str | None = None,
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
) -> Array:
    """`place.array` with `values` brought in by `scatter`, or by `combine` where no element is met twice."""
    x = place.array
    values = cast(as_array(values), x.dtype)
    write_mode = checked_mode(mode, WRITE_MODES)
    if mode is None and at_once(x) and type(values) is ConcreteArray:
        written = _written_by_numpy(x._data, place.index, values._data, UFUNCS[scatter])
        if written is not None:
            return written
    if _is_traced_mask(place.index):
        selected = _masked(x, place.index, values, combine)
        if selected is not None:
            return selected
    plan = parse_index(place.index, x.shape, check_bounds=mode is None)
    values = _broadcast_values(values, plan.result_shape)
    if not plan.arrays and all(abs(part.step) == 1 for part in plan.parts):  # type: ignore[union-attr]
        return _update_block(x, plan, values, combine)
    if len(plan.shape) != x.ndim:  # a scalar mask stands as an index to an axis of length one
        return reshape(_scatter(reshape(x, shape=plan.shape), plan, values, scatter, write_mode), shape=x.shape)
    return _scatter(x, plan, values, scatter, write_mode)


UFUNCS = {
    scatter_set: None,
    scatter_add: numpy.add,
    scatter_mul: numpy.multiply,
    scatter_min: numpy.minimum,
    scatter_max: numpy.maximum,
}


def _written_by_numpy(data: numpy.ndarray, index: Any, values: Any, ufunc: numpy.ufunc | None) -> Array | None:
    """The update in one step, by writing to a copy; None where NumPy refuses the index, as it does out of range."""
    basic = BASIC_TYPES.issuperset(map(type, as_items(index)))
    if not basic and ufunc is not None and (data.ndim > 1 or data.dtype.itemsize == 2):
        return None  # the usual way is quicker row by row, and adds up values of few digits in float32
    result, index = data.copy(), as_numpy_index(index)
    try:
        if ufunc is None:
            result[index] = values
        elif basic:
            result[index] = ufunc(result[index], values)
        else:
            ufunc.at(result, index, values)
    except (IndexError, TypeError, ValueError):
        return None
    return ConcreteArray(result)


def _broadcast_values(values: Array, shape: tuple[int, ...]) -> Array:
    extra = values.ndim - len(shape)
    if extra > 0 and all(n == 1 for n in values.shape[:extra]):
        values = reshape(values, shape=values.shape[extra:])
    fits = len(values.shape) <= len(shape) and all(
        n in (1, m) for n, m in zip(reversed(values.shape), reversed(shape), strict=False)
    )
    if not fits:
        raise ShapeError(
            f"values of shape {values.shape} do not broadcast to the shape {shape} of what x.at[...] names."
        )
    return broadcast_to(values, shape)


def _update_block(x: Array, plan: IndexPlan, values: Array, combine: Callable[[Array, Array], Array]) -> Array:
    """An update of a rectangular block: integers, and slices without gaps."""
    if 0 in plan.result_shape:
        return x
    values = reshape(values, shape=tuple(part.length for part in plan.parts))  # type: ignore[union-attr]
    backwards = tuple(axis for axis, part in enumerate(plan.parts) if part.step < 0)  # type: ignore[union-attr]
    if backwards:
        values = rev(values, axes=backwards)
    bounds = [part.bounds() for part in plan.parts]  # type: ignore[union-attr]
    if combine is not _replace:
        block = tuple(slice(start, limit) for start, limit, _ in bounds)
        values = combine(read(x, parse_index(block, x.shape)), values)
    if values.shape == x.shape:
        return values
    starts = [ConcreteArray(numpy.asarray(start, numpy.int32)) for start, _, _ in bounds]
    return dynamic_update_slice(x, values, *starts)


def _scatter(x: Array, plan: IndexPlan, values: Array, scatter: Primitive, mode: str) -> Array:
    """An update by index arrays; slices that leave something out become index arrays too."""
    whole = [a for a, part in enumerate(plan.parts) if part is not None and part.is_whole(x.shape[a])]
    arrays = dict(plan.arrays)
    sliced = [a for a, part in enumerate(plan.parts) if part is not None and a not in whole and not part.dropped]
    # Bring the values from the layout of the result into: axes of index arrays, of such slices, whole axes.
    given = [entry for entry in plan.layout if entry[0] != "new"]
    wanted = [("array", k) for k in range(len(plan.array_shape))]
    wanted += [("axis", a) for a in sliced + whole]
    values = reshape(values, shape=tuple(plan._length(*entry) for entry in given))
    if given != wanted:
        values = transpose(values, permutation=tuple(given.index(entry) for entry in wanted))
    common = (*plan.array_shape, *(plan.parts[a].length for a in sliced))  # type: ignore[union-attr]
    axes, indices = [], []
    for axis, part in enumerate(plan.parts):
        if axis in whole:
            continue
        if part is None:
            index = arrays[axis]
            index = reshape(index, shape=(*index.shape, *(1,) * len(sliced))) if sliced else index
        else:
            places = numpy.arange(part.length) * part.step + part.start
            after = 0 if part.dropped else len(sliced) - sliced.index(axis) - 1
            shape = () if part.dropped else (part.length, *(1,) * after)
            index = ConcreteArray(places.astype(numpy.int32).reshape(shape))
        axes.append(axis)
        indices.append(broadcast_index(index, common))
    return scatter(x, values, *indices, axes=tuple(axes), mode=mode)


def _is_traced_mask(index: Any) -> bool:
    """Whether the index is one traced mask, at most with whole axes beside it: the kind that `where` can do."""
    items = as_items(index)
    masks = [item for item in items if isinstance(item, Tracer) and dtypes.is_bool(item.dtype)]
    return len(masks) == 1 and all(
        item is masks[0] or item is Ellipsis or isinstance(item, slice) and item == WHOLE for item in items
    )


def _masked(x: Array, index: Any, values: Array, combine: Callable[[Array, Array], Array]) -> Array | None:
    """An update where a mask is True, by selection; None if the values are not the same for all masked elements."""
    items = as_items(index)
    spot = next(k for k, item in enumerate(items) if isinstance(item, Tracer))
    mask = items[spot]
    before = spot if Ellipsis not in items[:spot] else x.ndim - mask.ndim - (len(items) - spot - 1)
    after = x.ndim - before - mask.ndim
    if after < 0 or mask.shape != x.shape[before : before + mask.ndim] or values.ndim > after:
        return None
    mask = reshape(mask, shape=(*mask.shape, *(1,) * after))
    return e.select(mask, combine(x, _broadcast_values(values, x.shape)), x)
