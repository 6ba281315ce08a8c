"""Functions given by samples: differences, integrals, interpolation, histograms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy

from funcgrad import dtypes
from funcgrad.array import Array, as_array
from funcgrad.errors import ArgumentError, DtypeError, ShapeError, TracedValueError
from funcgrad.numpy.axes import normalize_axes, normalize_axis
from funcgrad.numpy.ranges import linspace
from funcgrad.numpy.searching import searchsorted, where
from funcgrad.primitives import elementwise as e
from funcgrad.primitives.indexing import gather, scatter_add
from funcgrad.primitives.movement import concatenate, slice_
from funcgrad.primitives.operators import cast, mod, promote, promote_inexact
from funcgrad.primitives.reductions import cumsum, reduce_max, reduce_min
from funcgrad.primitives.shapes import broadcast_to, reduce_sum, reshape


def _part(x: Array, axis: int, start: int, stop: int) -> Array:
    """Elements `start` to `stop` of one axis; a negative `stop` counts from the end."""
    length = x.shape[axis]
    starts = tuple(start if a == axis else 0 for a in range(x.ndim))
    limits = tuple((stop + length if stop < 0 else stop) if a == axis else n for a, n in enumerate(x.shape))
    return slice_(x, starts=starts, limits=limits, strides=(1,) * x.ndim)


def diff(a: Any, n: int = 1, axis: int = -1, prepend: Any = None, append: Any = None) -> Array:
    """Differences of neighbours along an axis, `n` times over.

    Arguments:
        a: an array with at least one axis.
        n: how often to take differences.
        axis: along which.
        prepend, append: values put before and after the others first; a number counts as one element.

    Returns:
        The shape of `a` with `n` elements less along the axis. Bools give whether neighbours differ.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.diff(np.array([1, 4, 9, 16]))
        Array([3, 5, 7], dtype=int32)
    """
    x = as_array(a)
    if n < 0:
        raise ArgumentError(f"diff got n={n}; take differences zero times or more.")
    if x.ndim == 0:
        raise ShapeError("diff needs an array with at least one axis, not a single number.")
    axis = normalize_axis("diff", axis, x.ndim)
    parts = [as_array(v) for v in (prepend, x, append) if v is not None]
    if len(parts) > 1:
        single = tuple(1 if i == axis else length for i, length in enumerate(x.shape))
        x = concatenate(*[broadcast_to(v, single) if v.ndim == 0 else v for v in promote(*parts)], axis=axis)
    for _ in range(min(n, x.shape[axis])):
        step = e.ne if dtypes.is_bool(x.dtype) else e.sub
        x = step(_part(x, axis, 1, x.shape[axis]), _part(x, axis, 0, x.shape[axis] - 1))
    return x


def ediff1d(ary: Any, to_end: Any = None, to_begin: Any = None) -> Array:
    """Differences of neighbours of the flattened array, with given values put before and after them.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.ediff1d(np.array([1, 4, 9]), to_begin=0)
        Array([0, 3, 5], dtype=int32)
    """
    x = as_array(ary)
    differences = diff(reshape(x, shape=(x.size,)))
    parts = [to_begin, differences, to_end]
    flat = [reshape(v, shape=(v.size,)) for v in (cast(as_array(p), x.dtype) for p in parts if p is not None)]
    return concatenate(*flat, axis=0) if len(flat) > 1 else differences


def gradient(f: Any, *varargs: Any, axis: int | Sequence[int] | None = None, edge_order: int | None = None) -> Any:
    """The slopes of a sampled function: central differences inside, one-sided ones at the edges.

    This is the gradient of data. The gradient of a function is `fg.grad`.

    Arguments:
        f: the samples.
        varargs: distances between samples: a number for all axes, or one entry an axis, each a number or the vector
            of coordinates; 1 by default.
        axis: along which axes; all by default.
        edge_order: only 1 is there, slopes between the last two samples.

    Returns:
        An array of the shape of `f`, or a list of them where there are several axes.

    Raises:
        ShapeError: if an axis has fewer than two samples, or coordinates do not fit it.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.gradient(np.array([1.0, 4.0, 9.0, 16.0]))
        Array([3., 4., 6., 7.], dtype=float32)
    """
    if edge_order not in (None, 1):
        raise ArgumentError(f"gradient got edge_order={edge_order}; only 1 is there.")
    (x,) = promote_inexact(f)
    axes = normalize_axes("gradient", axis, x.ndim)
    if len(varargs) not in (0, 1, len(axes)):
        raise ArgumentError(f"gradient got {len(varargs)} distances for {len(axes)} axes; give one, or one for each.")
    steps = list(varargs) or [1.0]
    steps = steps * len(axes) if len(steps) == 1 else steps
    results = [_slopes(x, a, step) for a, step in zip(axes, steps, strict=True)]
    return results[0] if len(axes) == 1 else results


def _slopes(x: Array, axis: int, step: Any) -> Array:
    n = x.shape[axis]
    if n < 2:
        raise ShapeError(f"gradient needs at least two samples along axis {axis}, and got {n}.")
    h = as_array(step)
    if h.ndim > 1 or (h.ndim == 1 and h.shape[0] != n):
        raise ShapeError(f"gradient got coordinates of shape {h.shape} for the {n} samples along axis {axis}.")
    x, h = promote_inexact(x, h)
    differences = diff(x, axis=axis)
    first, last = _part(differences, axis, 0, 1), _part(differences, axis, n - 2, n - 1)
    before, after = _part(differences, axis, 0, n - 2), _part(differences, axis, 1, n - 1)
    if h.ndim == 0:
        return e.div(concatenate(first, e.add(before, after) * 0.5, last, axis=axis), h)
    along = tuple(-1 if a == axis else 1 for a in range(x.ndim))

    def spread(v: Array) -> Array:
        return reshape(v, shape=tuple(v.shape[0] if a == -1 else 1 for a in along))

    width = diff(h)
    left, right = spread(_part(width, 0, 0, n - 2)), spread(_part(width, 0, 1, n - 1))
    # The slope of the parabola through three neighbours: the mean of both slopes, weighted by the opposite width.
    inside = e.div(e.add(e.mul(e.div(before, left), right), e.mul(e.div(after, right), left)), e.add(left, right))
    ends = spread(_part(width, 0, 0, 1)), spread(_part(width, 0, n - 2, n - 1))
    return concatenate(e.div(first, ends[0]), inside, e.div(last, ends[1]), axis=axis)


def trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Array:
    """The integral of a sampled function by the trapezoidal rule.

    Arguments:
        y: the samples.
        x: their coordinates, a vector or an array of the shape of `y`.
        dx: their distance, where there is no `x`.
        axis: along which to integrate.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.trapezoid(np.array([0.0, 1.0, 2.0]))
        Array(2., dtype=float32)
    """
    (y,) = promote_inexact(y)
    if y.ndim == 0:
        raise ShapeError("trapezoid needs samples along an axis, not a single number.")
    axis = normalize_axis("trapezoid", axis, y.ndim)
    if x is None:
        width = as_array(dx)
    else:
        x = as_array(x)
        if x.ndim == 1:
            width = diff(x)
            width = reshape(width, shape=tuple(width.shape[0] if a == axis else 1 for a in range(y.ndim)))
        else:
            width = diff(x, axis=normalize_axis("trapezoid", axis - y.ndim, x.ndim))
    n = y.shape[axis]
    pairs = e.add(_part(y, axis, 1, n), _part(y, axis, 0, n - 1)) * 0.5
    return reduce_sum(e.mul(*promote(pairs, width)), axes=(axis,))


def interp(x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: Any = None) -> Array:
    """Values of a function between its samples, by straight lines.

    Arguments:
        x: where to take values, any shape.
        xp: coordinates of the samples, a rising vector.
        fp: the samples, a vector of the same length.
        left, right: values before the first and after the last sample, by default these samples themselves.
        period: the period, of a periodic function; `left` and `right` are then not used.

    Raises:
        ShapeError: if `xp` and `fp` are not vectors of one length.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.interp(np.array([0.5, 9.0]), np.array([0.0, 1.0]), np.array([10.0, 20.0]))
        Array([15., 20.], dtype=float32)
    """
    xp, fp = as_array(xp), as_array(fp)
    if xp.ndim != 1 or xp.shape != fp.shape or xp.shape[0] == 0:
        raise ShapeError(
            f"interp takes two vectors of one length, and got xp of shape {xp.shape} and fp of {fp.shape}."
        )
    x, xp = promote_inexact(x, xp)
    (fp,) = promote_inexact(fp)
    if period is not None:
        period = abs(period)
        xp = mod(xp, period)
        (x,) = (mod(x, period),)
        order = as_array(xp).argsort()
        xp, fp = (gather(v, order, axes=(0,), mode="clip") for v in (xp, fp))
        n = xp.shape[0]
        xp = concatenate(_part(xp, 0, n - 1, n) - period, xp, _part(xp, 0, 0, 1) + period, axis=0)
        fp = concatenate(_part(fp, 0, n - 1, n), fp, _part(fp, 0, 0, 1), axis=0)
    n = xp.shape[0]
    index = searchsorted(e.stop_gradient(xp), e.stop_gradient(x), side="right")
    upper = e.min_(e.max_(index, e.full((), 1, index.dtype)), e.full((), max(n - 1, 1), index.dtype))

    def at(v: Array, i: Array) -> Array:
        return gather(v, i, axes=(0,), mode="clip")

    lower = upper - 1
    x0, x1, f0, f1 = at(xp, lower), at(xp, upper), at(fp, lower), at(fp, upper)
    width = e.sub(x1, x0)
    flat = e.eq(width, e.full((), 0, width.dtype))
    fraction = e.div(e.sub(x, x0), e.select(flat, e.full((), 1, width.dtype), width))
    f0, f1, fraction = promote(f0, f1, fraction)
    result = e.select(flat, f0, e.add(f0, e.mul(fraction, e.sub(f1, f0))))
    if period is None:
        first, last = _part(xp, 0, 0, 1)[0], _part(xp, 0, n - 1, n)[0]
        result = where(e.lt(x, first), fp[0] if left is None else left, result)
        result = where(e.gt(x, last), fp[n - 1] if right is None else right, result)
    return result


def unwrap(p: Any, discont: Any = None, axis: int = -1, period: Any = 2 * math.pi) -> Array:
    """Angles with jumps of more than half a period taken out.

    Arguments:
        p: angles.
        discont: jumps of at least this size are taken out, by default half a period.
        axis: along which the angles follow each other.
        period: 2 pi by default.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.unwrap(np.array([0.0, 3.0, -3.0]))
        Array([0.       , 3.       , 3.2831855], dtype=float32)
    """
    (x,) = promote_inexact(p) if not isinstance(period, int) else (as_array(p),)
    axis = normalize_axis("unwrap", axis, x.ndim)
    half = period / 2 if not dtypes.is_integer(x.dtype) else period // 2
    step = diff(x, axis=axis)
    wrapped = mod(step + half, period) - half
    # A jump of exactly half a period keeps its sign.
    wrapped = where((wrapped == -half) & (step > 0), half, wrapped)
    correction = cast(as_array(wrapped - step), x.dtype)
    small = e.abs_(step) < (half if discont is None else discont)
    correction = cumsum(where(small, 0, correction), axis=axis, reverse=False)
    n = x.shape[axis]
    return concatenate(_part(x, axis, 0, min(1, n)), e.add(_part(x, axis, 1, n), correction), axis=axis)


# Counting


def bincount(x: Any, weights: Any = None, minlength: int = 0, *, length: int | None = None) -> Array:
    """How often each number 0, 1, 2, ... occurs.

    Arguments:
        x: a vector of integers; negative ones count as 0.
        weights: what each occurrence counts, 1 by default.
        minlength: the result is at least so long.
        length: the length of the result; numbers beyond are left out. Needed while the function is traced, since
            otherwise the length depends on the values.

    Returns:
        int32 counts, or sums of weights in their dtype.

    Raises:
        TracedValueError: if the length depends on a traced value.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.bincount(np.array([0, 2, 2]))
        Array([1, 0, 2], dtype=int32)
    """
    x = as_array(x)
    if not (dtypes.is_integer(x.dtype) or dtypes.is_bool(x.dtype)):
        raise DtypeError(f"bincount counts integers, not {x.dtype.name}; convert them with x.astype(fg.int32).")
    if x.ndim != 1:
        raise ShapeError(f"bincount takes a vector, and got an array of shape {x.shape}; flatten it with x.ravel().")
    x = cast(x, dtypes.int32) if dtypes.is_bool(x.dtype) else x
    if length is None:
        try:
            values = numpy.asarray(x.concrete("bincount"))
        except TracedValueError:
            raise TracedValueError(
                "the length of bincount's result depends on the largest number, which has no value while it is traced; "
                "pass length=..., a number that is large enough."
            ) from None
        length = int(values.max()) + 1 if values.size else 0
        length = max(length, minlength, 0)
    ones = e.full(x.shape, 1, dtypes.int32) if weights is None else as_array(weights)
    if ones.shape != x.shape:
        raise ShapeError(
            f"bincount got weights of shape {ones.shape} for numbers of shape {x.shape}; give one for each."
        )
    zeros = e.full((length,), 0, ones.dtype)
    return scatter_add(zeros, ones, e.max_(x, e.zeros_like(x)), axes=(0,), mode="drop")


def histogram_bin_edges(a: Any, bins: Any = 10, range: Any = None, weights: Any = None) -> Array:
    """The edges of the bins of a histogram.

    Arguments:
        a: the data.
        bins: how many bins, or their edges.
        range: the lower and the upper edge; by default the smallest and the largest element.
        weights: of no consequence.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.histogram_bin_edges(np.array([0.0, 4.0]), bins=2)
        Array([0., 2., 4.], dtype=float32)
    """
    if isinstance(bins, str):
        raise ArgumentError(f"histogram got bins={bins!r}; give the number of bins, or their edges.")
    edges = as_array(bins)
    if edges.ndim == 1:
        return promote_inexact(edges)[0]
    (x,) = promote_inexact(a)
    if range is not None:
        low, high = (cast(as_array(v), x.dtype) for v in range)
    elif x.size == 0:
        low, high = e.full((), 0, x.dtype), e.full((), 1, x.dtype)
    else:
        axes = tuple(i for i, _ in enumerate(x.shape))
        low, high = reduce_min(x, axes=axes), reduce_max(x, axes=axes)
    same = e.eq(low, high)
    half = e.full((), 0.5, x.dtype)
    low, high = e.select(same, e.sub(low, half), low), e.select(same, e.add(high, half), high)
    return linspace(low, high, int(bins) + 1)


def histogram(
    a: Any, bins: Any = 10, range: Any = None, weights: Any = None, density: bool | None = None
) -> tuple[Array, Array]:
    """How many elements fall into each of several bins.

    Arguments:
        a: the data, of any shape.
        bins: how many bins, or their edges, which rise.
        range: the lower and the upper edge; elements outside are left out.
        weights: what each element counts, 1 by default.
        density: whether to divide so that the integral over all bins is 1.

    Returns:
        The counts, in the dtype of the data (of the weights where given), and the edges. A bin holds its left edge;
        the last one holds both.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.histogram(np.array([0.0, 1.0, 1.0, 4.0]), bins=2)[0]
        Array([3., 1.], dtype=float32)
    """
    (x,) = promote_inexact(a)
    edges = cast(histogram_bin_edges(x, bins, range), x.dtype)
    flat = reshape(x, shape=(x.size,))
    count = edges.shape[0] - 1
    ones = e.full(flat.shape, 1, x.dtype) if weights is None else promote_inexact(weights)[0]
    if weights is not None:
        if ones.shape != x.shape:
            raise ShapeError(
                f"histogram got weights of shape {ones.shape} for data of shape {x.shape}; give one for each."
            )
        ones = reshape(ones, shape=flat.shape)
    index = searchsorted(edges, flat, side="right") - 1
    index = where(e.eq(flat, edges[count]), count - 1, index)
    outside = (flat < edges[0]) | ~(flat <= edges[count])
    index = where(outside, count, index)  # one bin too far, which scatter leaves out
    counts = scatter_add(e.full((count,), 0, ones.dtype), ones, index, axes=(0,), mode="drop")
    if density:
        counts = counts / (diff(edges) * reduce_sum(counts, axes=(0,)))
    return counts, edges


__all__ = [
    "bincount",
    "diff",
    "ediff1d",
    "gradient",
    "histogram",
    "histogram_bin_edges",
    "interp",
    "trapezoid",
    "unwrap",
]
