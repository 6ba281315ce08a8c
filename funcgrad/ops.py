"""Reductions over segments: parts of an array that are named by a number each.

This is how graphs and sparse matrices are summed up: the messages of all edges, by the node that each one goes to; the
products of all entries that are not zero, by the row that they are in.
"""

from __future__ import annotations

import operator
from typing import Any

from funcgrad import dtypes
from funcgrad.array import Array, as_array
from funcgrad.core import Primitive, Tracer
from funcgrad.errors import DtypeError, ShapeError, TracedValueError
from funcgrad.numpy.updates import WRITE_MODES, checked_mode
from funcgrad.primitives import elementwise as e
from funcgrad.primitives.indexing import scatter_add, scatter_max, scatter_min, scatter_mul
from funcgrad.primitives.windows import neutral


def segment_sum(
    data: Any,
    segment_ids: Any,
    num_segments: int | None = None,
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
    mode: str | None = None,
) -> Array:
    """The sum of each segment.

    Arguments:
        data: an array of shape (n, ...).
        segment_ids: integers of shape (n,): the segment that each row of `data` belongs to. Rows whose number is not
            in 0, ..., num_segments - 1 are left out.
        num_segments: how many segments there are; by default one more than the largest number, which has to be known
            for that: under `jit` or `vmap` it must be given.
        indices_are_sorted, unique_indices: promises that change no result.
        mode: what to do with numbers out of range: "drop", the default, "clip" or "promise_in_bounds".

    Returns:
        An array of shape (num_segments, ...); 0 for a segment without rows.

    Raises:
        ShapeError, DtypeError: if `segment_ids` is not one integer for each row.
        TracedValueError: if `num_segments` is neither given nor known.

    Example:
        >>> import funcgrad as fg
        >>> fg.ops.segment_sum(fg.array([1.0, 2.0, 3.0, 4.0]), fg.array([0, 0, 2, 2]), num_segments=4)
        Array([3., 0., 7., 0.], dtype=float32)
    """
    return _reduced("segment_sum", scatter_add, data, segment_ids, num_segments, mode)


def segment_prod(
    data: Any,
    segment_ids: Any,
    num_segments: int | None = None,
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
    mode: str | None = None,
) -> Array:
    """The product of each segment; 1 for one without rows. See `segment_sum`.

    Example:
        >>> import funcgrad as fg
        >>> fg.ops.segment_prod(fg.array([2.0, 3.0, 4.0]), fg.array([0, 0, 1]))
        Array([6., 4.], dtype=float32)
    """
    return _reduced("segment_prod", scatter_mul, data, segment_ids, num_segments, mode)


def segment_max(
    data: Any,
    segment_ids: Any,
    num_segments: int | None = None,
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
    mode: str | None = None,
) -> Array:
    """The largest element of each segment; the lowest value of the dtype for one without rows. See `segment_sum`.

    Example:
        >>> import funcgrad as fg
        >>> fg.ops.segment_max(fg.array([2.0, 3.0, 4.0]), fg.array([0, 0, 2]))
        Array([  3., -inf,   4.], dtype=float32)
    """
    return _reduced("segment_max", scatter_max, data, segment_ids, num_segments, mode)


def segment_min(
    data: Any,
    segment_ids: Any,
    num_segments: int | None = None,
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
    mode: str | None = None,
) -> Array:
    """The smallest element of each segment; the highest value of the dtype for one without rows. See `segment_sum`.

    Example:
        >>> import funcgrad as fg
        >>> fg.ops.segment_min(fg.array([2.0, 3.0, 4.0]), fg.array([0, 0, 2]))
        Array([ 2., inf,  4.], dtype=float32)
    """
    return _reduced("segment_min", scatter_min, data, segment_ids, num_segments, mode)


def _reduced(
    name: str, scatter: Primitive, data: Any, segment_ids: Any, num_segments: int | None, mode: str | None
) -> Array:
    data, numbers = as_array(data), as_array(segment_ids)
    if numbers.dtype.kind not in "iu":
        raise DtypeError(f"{name} got segment_ids of dtype {numbers.dtype.name}; give integers.")
    if numbers.ndim != 1 or data.shape[:1] != numbers.shape:
        raise ShapeError(
            f"{name} got data of shape {data.shape} and segment_ids of shape {numbers.shape}; give one integer for "
            "each row of the data."
        )
    if num_segments is None:
        if isinstance(numbers, Tracer):
            raise TracedValueError(
                f"{name} cannot know how many segments there are while it is traced; give num_segments."
            )
        num_segments = int(max(numbers.tolist(), default=-1)) + 1
    if dtypes.is_bool(data.dtype) and scatter in (scatter_add, scatter_mul):
        scatter = scatter_max if scatter is scatter_add else scatter_min
    fill = (
        neutral(data.dtype, scatter is scatter_max) if scatter in (scatter_max, scatter_min) else scatter is scatter_mul
    )
    segments = e.full((operator.index(num_segments), *data.shape[1:]), fill, data.dtype)
    return scatter(segments, data, numbers, axes=(0,), mode=checked_mode(mode, WRITE_MODES))


__all__ = ["segment_max", "segment_min", "segment_prod", "segment_sum"]
