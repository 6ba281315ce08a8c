"""Reading with `x[...]`: what an index means, and how it is carried out.

An index is first parsed against the shape into an `IndexPlan`: which part of each axis is taken by integers and slices
(known now), which axes are indexed by arrays, and how the axes of the result are laid out. NumPy's rules are all in
`parse_index`. Reading then is slice, reverse, gather, in that order; writing (`updates`) uses the same plan.

Source of the rules: https://numpy.org/doc/stable/user/basics.indexing.html
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Sequence
from functools import lru_cache, reduce
from typing import Any, NamedTuple

import numpy

from funcgrad import dtypes
from funcgrad.array import Array, ConcreteArray, as_array, wrap
from funcgrad.core import Tracer, current_interpreter, ground
from funcgrad.devices import array_module, to_host
from funcgrad.errors import (
    ArgumentError,
    ArgumentTypeError,
    FuncgradError,
    IndexTypeError,
    OutOfBoundsError,
    ShapeError,
    TracedValueError,
)
from funcgrad.primitives import elementwise as e
from funcgrad.primitives.indexing import gather
from funcgrad.primitives.movement import concatenate, rev, slice_
from funcgrad.primitives.operators import cast
from funcgrad.primitives.shapes import broadcast_in_dim, broadcast_to, reshape, transpose

BASIC_TYPES = {int, slice, type(None), type(Ellipsis)}  # the type of True is not int, so masks are not among them
BOUND_TYPES = {int, type(None)}
WHOLE = slice(None)


class Part(NamedTuple):
    """What a slice or an integer takes of an axis: `length` elements from `start` on, `step` apart."""

    start: int
    step: int
    length: int
    dropped: bool = False  # an integer: the axis is not in the result

    def is_whole(self, axis_length: int) -> bool:
        return self.start == 0 and self.step == 1 and self.length == axis_length and not self.dropped

    def bounds(self) -> tuple[int, int, int]:
        """(start, limit, stride) of the same elements in rising order."""
        last = self.start + (self.length - 1) * self.step
        if self.length == 0:
            return 0, 0, 1
        return min(self.start, last), max(self.start, last) + 1, abs(self.step)


class IndexPlan(NamedTuple):
    """An index, understood.

    Fields:
        shape: the shape of the array that is indexed.
        parts: for each of its axes the part that is taken, None where an array indexes it.
        arrays: the axes that arrays index, and those arrays: integers, negative ones counted from the start, of one
            common shape.
        array_shape: that common shape.
        layout: what each axis of the result is: ("array", k) for the k-th axis of the index arrays, ("axis", a) for
            axis a of the indexed array, ("new", None) for an axis of length one.
    """

    shape: tuple[int, ...]
    parts: list[Part | None]
    arrays: list[tuple[int, Array]]
    array_shape: tuple[int, ...]
    layout: list[tuple[str, int | None]]

    @property
    def result_shape(self) -> tuple[int, ...]:
        return tuple(self._length(*entry) for entry in self.layout)

    def _length(self, kind: str, number: Any) -> int:
        if kind == "new":
            return 1
        return self.array_shape[number] if kind == "array" else self.parts[number].length  # type: ignore[union-attr]


# Understanding an index


def as_items(index: Any) -> list[Any]:
    """The entries of an index, one for each axis or mask."""
    return list(index) if isinstance(index, tuple) else [index]


def parse_index(index: Any, shape: Sequence[int], check_bounds: bool = True) -> IndexPlan:
    """Understand `index` as NumPy does.

    Arguments:
        index: whatever stands between the brackets.
        shape: of the array that is indexed.
        check_bounds: whether Python integers out of range raise; if not, they count as arrays.
    """
    items = [_array_item(item) for item in as_items(index)]
    items = _with_ellipsis_expanded(items, len(shape))
    parts: list[Part | None] = [None] * len(shape)
    arrays: list[tuple[int | None, Any]] = []
    layout: list[tuple[str, int | None]] = []
    # NumPy puts the axes of index arrays where the first array stands if all stand side by side, else in front.
    # Integers count as arrays here, once there is an array.
    has_array = any(_is_array_index(item) for item in items)
    positions: list[int] = []
    spots: list[int] = []
    axis = 0
    for position, item in enumerate(items):
        if item is Ellipsis:
            continue
        if item is None:
            layout.append(("new", None))
            continue
        if isinstance(item, slice):
            parts[axis] = _part_of_slice(item, shape[axis])
            layout.append(("axis", axis))
            axis += 1
            continue
        positions.append(position)
        spots.append(len(layout))
        if type(item) is int:
            found = _checked_integer(item, axis, shape[axis], check_bounds)
            if found is None:
                arrays.append((axis, numpy.asarray(item)))
                has_array = True
            else:
                parts[axis] = Part(found, 1, 1, dropped=True)
            axis += 1
        elif dtypes.is_bool(item.dtype):
            indices = _indices_of_mask(item, axis, shape)
            arrays += indices
            axis += item.ndim
        else:
            arrays.append((axis, _checked_entries(item, axis, shape[axis], check_bounds)))
            axis += 1
    if not has_array:
        return IndexPlan(tuple(shape), parts, [], (), layout)
    common = _common_shape([array.shape for _, array in arrays])
    adjacent = positions == list(range(positions[0], positions[-1] + 1))
    spot = spots[0] if adjacent else 0
    layout[spot:spot] = [("array", k) for k in range(len(common))]
    # Indexing with a mask that has no axis adds one of length 0 or 1, and is done with that.
    placed = [(a, broadcast_index(normalized(i, shape[a]), common)) for a, i in arrays if a is not None]
    if not placed:
        return _with_new_array_axis(IndexPlan(tuple(shape), parts, [], common, layout))
    return IndexPlan(tuple(shape), parts, placed, common, layout)


def _with_new_array_axis(plan: IndexPlan) -> IndexPlan:
    """A plan whose only arrays were scalar masks: index an axis of length one, put in front, in their stead."""
    index = ConcreteArray(numpy.zeros(plan.array_shape, numpy.int32))
    layout = [("axis", a + 1) if kind == "axis" else (kind, a) for kind, a in plan.layout]  # type: ignore[operator]
    return IndexPlan((1, *plan.shape), [None, *plan.parts], [(0, index)], plan.array_shape, layout)


class _ListIndex(numpy.ndarray):
    """Marks an index that was a list of Python integers, whose range can be checked like that of a single one."""


def _array_item(item: Any) -> Any:
    """An entry of an index as one of: None, Ellipsis, a slice, a Python integer, an Array or a NumPy array."""
    if item is None or item is Ellipsis or isinstance(item, slice) or type(item) is int:
        return item
    if isinstance(item, (bool, numpy.bool_)):
        return numpy.asarray(item)
    if isinstance(item, numpy.integer):
        return int(item)
    if isinstance(item, (Array, numpy.ndarray)):
        array = item
    elif isinstance(item, (list, range)):
        array = _array_of_list(item)
    elif hasattr(item, "__index__"):
        return operator.index(item)
    else:
        try:
            array = as_array(item)
        except FuncgradError:
            raise IndexTypeError(_not_an_index(item)) from None
    if array.dtype.kind not in "iub":
        raise IndexTypeError(
            f"an array is indexed by integers or bools, not by {array.dtype.name}; convert the index with "
            "i.astype(fg.int32)."
        )
    if type(array) is ConcreteArray and array_module(array._data) is numpy:
        return array._data
    return array


def _array_of_list(values: Any) -> Any:
    if any(isinstance(value, Tracer) for value in values):
        scalars = [cast(as_array(value), dtypes.int32) for value in values]
        return concatenate(*(reshape(x, shape=(1, *x.shape)) for x in scalars), axis=0)
    if any(isinstance(value, slice) or value is None or value is Ellipsis for value in values):
        raise IndexTypeError("a list that holds slices, None or ... is no index; use a tuple: x[0, :, None].")
    if not len(values):
        return numpy.zeros((0,), numpy.int32)
    try:
        array = numpy.asarray(as_array(list(values)))
    except FuncgradError:
        raise IndexTypeError(_not_an_index(values)) from None
    return array.view(_ListIndex) if all(type(value) is int for value in values) else array


def _not_an_index(item: Any) -> str:
    return (
        f"{type(item).__name__} {item!r:.40} cannot index an array; use integers, slices, ..., None, "
        "or arrays of integers or bools."
    )


def _is_array_index(item: Any) -> bool:
    return isinstance(item, (Array, numpy.ndarray))


def _with_ellipsis_expanded(items: list[Any], ndim: int) -> list[Any]:
    """The items, with slices for the axes that an Ellipsis stands for or that are not mentioned at the end."""
    used = 0
    spots = []
    for spot, item in enumerate(items):
        if item is Ellipsis:
            spots.append(spot)
        elif item is not None:
            used += item.ndim if _is_array_index(item) and dtypes.is_bool(item.dtype) else 1
    if used > ndim:
        raise OutOfBoundsError(
            f"the index has entries for {used} axes, but the array has {ndim}; remove some, or add axes to the array."
        )
    if len(spots) > 1:
        raise IndexTypeError("an index may hold only one ellipsis (...); write the other one as slices (:).")
    spot = spots[0] if spots else len(items)
    # The ellipsis itself stays: even one that stands for no axis keeps index arrays apart.
    return [*items[: spot + 1], *[WHOLE] * (ndim - used), *items[spot + 1 :]]


def _part_of_slice(item: slice, length: int) -> Part:
    if item == WHOLE:
        return Part(0, 1, length)
    for bound in (item.start, item.stop, item.step):
        if isinstance(bound, Tracer):
            try:
                bound.concrete("a slice")
            except TracedValueError:
                raise TracedValueError(
                    "the bounds of a slice must be known numbers, since they decide the shape of the result; for a "
                    "slice of fixed length at a traced place use fg.lax.dynamic_slice_in_dim(x, start, length)."
                ) from None
    try:
        found = range(*item.indices(length))
    except TypeError:
        raise IndexTypeError("the bounds of a slice must be integers or None.") from None
    except ValueError:
        raise IndexTypeError("the step of a slice must not be zero.") from None
    return Part(found.start, found.step, len(found)) if len(found) else Part(0, 1, 0)


def _checked_integer(item: int, axis: int, length: int, check: bool) -> int | None:
    """The integer counted from the start; where it is out of range, an error or None."""
    if -length <= item < length:
        return item + length if item < 0 else item
    if check:
        raise OutOfBoundsError(
            f"index {item} is out of range for axis {axis}, whose length is {length}; "
            f"{f'use -{length} to {length - 1}' if length else 'the axis has no elements'}."
        )
    return None


def _checked_entries(item: Any, axis: int, length: int, check: bool) -> Any:
    if check and isinstance(item, _ListIndex):
        for entry in item.ravel():
            _checked_integer(int(entry), axis, length, True)
    if check and length == 0 and math.prod(item.shape):
        raise OutOfBoundsError(f"axis {axis} has no elements, so no index can take one from it.")
    return item


def _indices_of_mask(mask: Any, axis: int, shape: Sequence[int]) -> list[tuple[int | None, Any]]:
    """The places at which a mask is True, an array of indices for each of its axes."""
    covered = tuple(shape[axis : axis + mask.ndim])
    if mask.shape != covered:
        raise ShapeError(
            f"a mask of shape {mask.shape} cannot select from axes of lengths {covered}; a mask has the shape of the "
            "axes that it selects from."
        )
    if isinstance(mask, Array):
        try:
            mask = to_host(mask.concrete("a mask")._data)
        except TracedValueError:
            raise TracedValueError(
                "x[mask] has as many elements as the mask has True, which is not known while the mask is traced (under "
                "jit, or different from example to example under vmap); use fg.numpy.where(mask, x, other), or to "
                "write x.at[mask].set(value)."
            ) from None
    if mask.ndim == 0:
        return [(None, numpy.zeros((int(mask),), numpy.int32))]
    return [(axis + k, indices) for k, indices in enumerate(mask.nonzero())]


def _common_shape(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    try:
        return numpy.broadcast_shapes(*shapes)
    except ValueError:
        raise ShapeError(
            f"index arrays of shapes {' and '.join(map(str, shapes))} do not broadcast together; "
            "to index axes independently use x[fg.numpy.ix_(i, j)]."
        ) from None


def normalized(index: Any, length: int) -> Array:
    """An index array with negative entries counted from the start, int32 where that is enough."""
    if not isinstance(index, Array):
        if length >= 2**31:
            index, dtype = index.astype(numpy.int64), dtypes.int64
        else:
            # Far out of range is as good as just out of range, and fits.
            if index.dtype.kind == "u":
                index = numpy.minimum(index, 2**31 - 1) if index.dtype.itemsize >= 4 else index
            elif index.dtype.itemsize == 8:
                index = numpy.clip(index, -length - 1, 2**31 - 1)
            index, dtype = index.astype(numpy.int32), dtypes.int32
        return ConcreteArray(numpy.asarray(numpy.where(index < 0, index + dtype.type(length), index)))
    signed = index.dtype.kind == "i"
    if index.dtype is not dtypes.int32 and index.dtype is not dtypes.int64:
        index = cast(index, dtypes.int64 if index.dtype.itemsize >= 4 else dtypes.int32)
    if not signed:
        return index
    zero, count = e.full((), 0, index.dtype), e.full((), length, index.dtype)
    return e.select(e.lt(index, zero), e.add(index, count), index)


def broadcast_index(index: Array, shape: tuple[int, ...]) -> Array:
    """An index array with a common shape; repeated entries take no memory."""
    if index.shape == shape:
        return index
    if type(index) is ConcreteArray and array_module(index._data) is numpy:
        return ConcreteArray(numpy.broadcast_to(index._data, shape))
    return broadcast_to(index, shape)


# Reading


def read(x: Array, plan: IndexPlan, mode: str = "clip", fill_value: Any = None) -> Array:
    """The elements of `x` that the plan names."""
    if len(plan.shape) != x.ndim:
        x = reshape(x, shape=plan.shape)
    steps = _bounds_and_reversed(plan.parts, x.shape)
    if not plan.arrays:
        return _read_basic(x, *steps, plan.result_shape)
    x = _read_basic(x, *steps, tuple(n if p is None else p.length for p, n in zip(plan.parts, x.shape, strict=True)))
    array_axes = {axis for axis, _ in plan.arrays}
    kept = [a for a, part in enumerate(plan.parts) if part is None or not part.dropped]
    if len(kept) < x.ndim:
        x = reshape(x, shape=tuple(x.shape[a] for a in kept))
    axes = tuple(kept.index(a) for a, _ in plan.arrays)
    indices = [index for _, index in plan.arrays]
    result = gather_or_fill(x, indices, axes, mode, fill_value)
    # The result of gather: axes of the index arrays, then what is left of x.
    order = {("array", k): k for k in range(len(plan.array_shape))}
    left = [a for a in kept if a not in array_axes]
    order |= {("axis", a): len(plan.array_shape) + k for k, a in enumerate(left)}
    permutation = tuple(order[entry] for entry in plan.layout if entry[0] != "new")  # type: ignore[index]
    if permutation != tuple(range(len(permutation))):
        result = transpose(result, permutation=permutation)
    return result if result.shape == plan.result_shape else reshape(result, shape=plan.result_shape)


def _bounds_and_reversed(parts: Sequence[Part | None], shape: Sequence[int]) -> tuple[Any, tuple[int, ...]]:
    """The parameters of `slice_` that take the parts of the axes, None for whole ones; and the axes to reverse then."""
    bounds = [(0, n, 1) if part is None else part.bounds() for part, n in zip(parts, shape, strict=True)]
    backwards = tuple(axis for axis, part in enumerate(parts) if part is not None and part.step < 0)
    if all(bound == (0, n, 1) for bound, n in zip(bounds, shape, strict=True)):
        return None, backwards
    starts, limits, strides = zip(*bounds, strict=True)
    return {"starts": starts, "limits": limits, "strides": strides}, backwards


def gather_or_fill(x: Array, indices: Sequence[Array], axes: Sequence[int], mode: str, fill_value: Any = None) -> Array:
    """`gather`, with a value of the user's choice for indices out of range in the mode "fill"."""
    axes = tuple(axes)
    if mode != "fill" or fill_value is None:
        return gather(x, *indices, axes=axes, mode=mode)
    result = gather(x, *indices, axes=axes, mode="zero")
    bounds = [(e.full((), 0, i.dtype), e.full((), x.shape[a], i.dtype)) for i, a in zip(indices, axes, strict=True)]
    within = [e.and_(e.ge(i, low), e.lt(i, high)) for i, (low, high) in zip(indices, bounds, strict=True)]
    inside = reduce(e.and_, within)
    rank = inside.ndim
    inside = broadcast_in_dim(inside, shape=(*inside.shape, *(1,) * (result.ndim - rank)), axes=tuple(range(rank)))
    return e.select(inside, result, cast(as_array(fill_value), x.dtype))


READ_MODES = {None: "clip", "clip": "clip", "fill": "fill", "drop": "fill", "promise_in_bounds": "promise_in_bounds"}
WRITE_MODES = {None: "drop", "clip": "clip", "fill": "drop", "drop": "drop", "promise_in_bounds": "promise_in_bounds"}


def checked_mode(mode: Any, table: dict[Any, str]) -> str:
    """The mode of a primitive for what a user gave as `mode=`."""
    if mode not in table:
        raise ArgumentError(
            f"there is no mode {mode!r} for indices out of range; choose 'clip', 'fill', 'drop' or 'promise_in_bounds'."
        )
    return table[mode]


def at_once(x: Array) -> bool:
    """Whether `x` has a NumPy buffer and no transform is active, so that NumPy may do an operation in one step."""
    return type(x) is ConcreteArray and current_interpreter() is ground and type(x._data) is numpy.ndarray


def as_numpy_index(index: Any) -> Any:
    """An index with the buffers of its arrays, for NumPy to read."""
    if isinstance(index, tuple):
        return tuple(item._data if isinstance(item, ConcreteArray) else item for item in index)
    return index._data if isinstance(index, ConcreteArray) else index


def getitem(x: Array, index: Any) -> Array:
    """`x[index]`."""
    if type(x) is ConcreteArray and current_interpreter() is ground:
        kind, data = type(index), x._data
        try:
            # What eager code does most: a view, at NumPy's speed.
            if kind is int:
                return ConcreteArray(data[index, ...])
            if kind is slice or kind is tuple and BASIC_TYPES.issuperset(map(type, index)):
                return wrap(data[index])
            # Index arrays mean the same to NumPy while they are in range; if not, it refuses them.
            if type(data) is numpy.ndarray:
                return wrap(data[as_numpy_index(index)])
        except (IndexError, TypeError, ValueError):
            pass  # the usual way clips what is out of range, or says what is wrong
    items = index if isinstance(index, tuple) else (index,)
    if BASIC_TYPES.issuperset(map(type, items)):
        key = tuple([(i.start, i.stop, i.step) if type(i) is slice else i for i in items])
        if all(type(i) is not tuple or BOUND_TYPES.issuperset(map(type, i)) for i in key):
            return _read_basic(x, *_basic_plan(key, x.shape))
    return read(x, parse_index(index, x.shape))


@lru_cache(maxsize=4096)
def _basic_plan(items: tuple[Any, ...], shape: tuple[int, ...]) -> tuple[Any, ...]:
    """The steps of `_read_basic` for an index of integers and slices (here triples): code meets the same ones often."""
    plan = parse_index(tuple(slice(*item) if type(item) is tuple else item for item in items), shape)
    return (*_bounds_and_reversed(plan.parts, shape), plan.result_shape)


def _read_basic(x: Array, bounds: dict[str, Any] | None, backwards: tuple[int, ...], shape: tuple[int, ...]) -> Array:
    if bounds is not None:
        x = slice_(x, **bounds)
    if backwards:
        x = rev(x, axes=backwards)
    return x if x.shape == shape else reshape(x, shape=shape)


def iterate(x: Array) -> Iterator[Array]:
    """`iter(x)`: the subarrays along the first axis."""
    if not x.shape:
        raise ArgumentTypeError("a 0-dimensional array cannot be iterated over; use x.item() for its value.")
    return (getitem(x, i) for i in range(x.shape[0]))
