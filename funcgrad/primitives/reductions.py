"""Reductions and running reductions: products, extrema, logic, argmax; cumsum, cumprod, cummax, cumlogsumexp.

reduce_sum stands in `shapes`, beside broadcasting, whose transpose it is.

A product is differentiated without dividing by its factors, so that zeros among them are nothing special; where several
elements attain a maximum they share its derivative equally.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy

from funcgrad import dtypes
from funcgrad.array import AbstractArray, Array
from funcgrad.core import Primitive
from funcgrad.devices import array_module
from funcgrad.errors import DtypeError, ShapeError
from funcgrad.primitives.counting import iota
from funcgrad.primitives.elementwise import add, convert, div, eq, exp, full, mul, select, sub
from funcgrad.primitives.gathering import take_along
from funcgrad.primitives.indexing import same_value
from funcgrad.primitives.movement import concatenate, pad, slice_axis
from funcgrad.primitives.shapes import (
    broadcast_in_dim,
    linear_jvp,
    reduce_sum,
    reduced_shape,
    reduction_batch,
    reshape,
    transpose,
)


def _is_half(dtype: numpy.dtype) -> bool:
    return dtype is dtypes.bfloat16 or dtype is dtypes.float16


def _refuse_bool(name: str, x: Any) -> None:
    if dtypes.is_bool(x.dtype):
        raise DtypeError(f"{name} takes numbers, and a bool array has none; convert it with x.astype(fg.int32) first.")


def _check_not_bool(x: Any) -> None:
    if x.dtype.kind == "b":
        raise TypeError("bool")  # explained by the abstract rule


def _restored(reduced: Array, shape: tuple[int, ...], axes: tuple[int, ...]) -> Array:
    """What was reduced, broadcast back along `axes`."""
    return broadcast_in_dim(reduced, shape=shape, axes=tuple(a for a in range(len(shape)) if a not in axes))


# reduce_prod


def _prod_abstract(x, *, axes):
    _refuse_bool("reduce_prod", x)
    return AbstractArray(reduced_shape("reduce_prod", x, axes), x.dtype)


def _prod_evaluate(x, *, axes):
    _check_not_bool(x)
    if _is_half(x.dtype):
        return numpy.multiply.reduce(x.astype(numpy.float32), axis=axes).astype(x.dtype)
    return numpy.multiply.reduce(x, axis=axes, dtype=x.dtype)


def _product_of_others(x: Array) -> Array:
    """For each row of `x` the product of all others: those of pairs of rows, then for each row times its partner."""
    count = x.shape[0]
    if count <= 1:
        return full(x.shape, 1, x.dtype)
    half = count // 2
    a, b, last = slice_axis(x, 0, half, 0), slice_axis(x, half, 2 * half, 0), slice_axis(x, 2 * half, count, 0)
    others = _product_of_others(concatenate(mul(a, b), last, axis=0))
    of_pairs, of_last = slice_axis(others, 0, half, 0), slice_axis(others, half, count - half, 0)
    return concatenate(mul(of_pairs, b), mul(of_pairs, a), of_last, axis=0)


def _prod_jvp(primals, tangents, *, axes):
    (x,), (t,) = primals, tangents
    left = tuple(axis for axis in range(x.ndim) if axis not in axes)
    shape = (math.prod(x.shape[axis] for axis in axes), *(x.shape[axis] for axis in left))

    def rows(x: Array) -> Array:
        order = (*axes, *left)
        return reshape(x if order == tuple(range(x.ndim)) else transpose(x, permutation=order), shape=shape)

    return reduce_prod(x, axes=axes), reduce_sum(mul(rows(t), _product_of_others(rows(x))), axes=(0,))


reduce_prod = Primitive("reduce_prod", abstract=_prod_abstract, evaluate=_prod_evaluate, jvp=_prod_jvp)
reduce_prod.batch = reduction_batch(reduce_prod)

# reduce_max and reduce_min


def _extremum(name: str, ufunc: numpy.ufunc) -> Primitive:
    def abstract(x, *, axes):
        shape = reduced_shape(name, x, axes)
        if any(x.shape[axis] == 0 for axis in axes):
            raise ShapeError(
                f"{name} of an array of shape {tuple(x.shape)} over the axes {tuple(axes)} has no elements to choose "
                "from; make sure that there is at least one."
            )
        return AbstractArray(shape, x.dtype)

    def evaluate(x, *, axes):
        if 0 in x.shape and any(x.shape[axis] == 0 for axis in axes):
            raise ValueError("empty")
        return ufunc.reduce(x, axis=axes) if type(x) is numpy.ndarray else getattr(x, method)(axis=axes)

    def jvp(primals, tangents, *, axes):
        (x,), (t,) = primals, tangents
        result = primitive(x, axes=axes)
        attains = convert(same_value(x, _restored(result, x.shape, axes)), dtype=x.dtype)
        share = div(attains, _restored(reduce_sum(attains, axes=axes), x.shape, axes))
        return result, reduce_sum(mul(t, share), axes=axes)

    method = {"reduce_max": "max", "reduce_min": "min"}[name]
    primitive = Primitive(name, abstract=abstract, evaluate=evaluate, jvp=jvp)
    primitive.batch = reduction_batch(primitive)
    return primitive


reduce_max = _extremum("reduce_max", numpy.maximum)
reduce_min = _extremum("reduce_min", numpy.minimum)

# reduce_and, reduce_or and reduce_xor, bit by bit for integers


def _logical(name: str, ufunc: numpy.ufunc) -> Primitive:
    def abstract(x, *, axes):
        if dtypes.is_differentiable(x.dtype):
            raise DtypeError(f"{name} takes bools and integers, not {x.dtype.name}; compare it with something first.")
        return AbstractArray(reduced_shape(name, x, axes), x.dtype)

    def evaluate(x, *, axes):
        if x.dtype.kind not in "biu":
            raise TypeError("neither bool nor integer")
        if type(x) is numpy.ndarray:
            return ufunc.reduce(x, axis=axes, dtype=x.dtype)
        left = tuple(axis for axis in range(x.ndim) if axis not in axes)
        rows = x.transpose((*axes, *left)).reshape(-1, *(x.shape[axis] for axis in left))
        if rows.shape[0] == 0:
            return array_module(x).full(rows.shape[1:], ufunc.identity, x.dtype)
        return _doubling(ufunc)(rows, 0)[-1]

    primitive = Primitive(name, abstract=abstract, evaluate=evaluate)
    primitive.batch = reduction_batch(primitive)
    return primitive


reduce_and = _logical("reduce_and", numpy.bitwise_and)
reduce_or = _logical("reduce_or", numpy.bitwise_or)
reduce_xor = _logical("reduce_xor", numpy.bitwise_xor)

# argmax and argmin: the first place that holds the extremum, or NaN


def _argument(name: str) -> Primitive:
    def abstract(x, *, axis, index_dtype):
        shape = reduced_shape(name, x, (axis,))
        if x.shape[axis] == 0:
            raise ShapeError(f"{name} got an array of shape {tuple(x.shape)}, which is empty along axis {axis}.")
        if not dtypes.is_integer(index_dtype):
            raise DtypeError(f"{name} gives integers, and index_dtype is {index_dtype.name}; choose an integer dtype.")
        return AbstractArray(shape, index_dtype)

    def evaluate(x, *, axis, index_dtype):
        if axis < 0 or index_dtype.kind not in "iu":
            raise ValueError("no such axis or dtype")
        return getattr(x, name)(axis).astype(index_dtype)

    def batch(size, operands, batch_axes, *, axis, index_dtype):
        (x,), (batch_axis,) = operands, batch_axes
        axis += axis >= batch_axis
        return primitive(x, axis=axis, index_dtype=index_dtype), batch_axis - (axis < batch_axis)

    primitive = Primitive(name, abstract=abstract, evaluate=evaluate, batch=batch)
    primitive.jvp = lambda primals, tangents, **params: (primitive(*primals, **params), None)
    return primitive


argmax = _argument("argmax")
argmin = _argument("argmin")

# Running reductions: each element becomes the reduction of those up to it, or with `reverse` of those from it on


def _running(name: str, accumulate: Callable[..., Any], accepts_bool: bool = False) -> Primitive:
    def abstract(x, *, axis, reverse):
        if not 0 <= axis < len(x.shape):
            raise ShapeError(f"{name} got axis {axis} for an array of {len(x.shape)} axes; name an axis that it has.")
        if not accepts_bool:
            _refuse_bool(name, x)
        if name == "cumlogsumexp" and not dtypes.is_floating(x.dtype):
            raise DtypeError(f"{name} takes floating dtypes, not {x.dtype.name}; convert it with x.astype(fg.float32).")
        return AbstractArray(tuple(x.shape), x.dtype)

    def evaluate(x, *, axis, reverse):
        if not accepts_bool:
            _check_not_bool(x)
        if not 0 <= axis < x.ndim:
            raise ValueError("no such axis")
        backwards = (*(slice(None),) * axis, slice(None, None, -1))
        ordered = x[backwards] if reverse else x
        if _is_half(x.dtype):
            result = accumulate(ordered.astype(numpy.float32), axis).astype(x.dtype)
        else:
            result = accumulate(ordered, axis)
        return result[backwards] if reverse else result

    def batch(size, operands, batch_axes, *, axis, reverse):
        (x,), (batch_axis,) = operands, batch_axes
        return primitive(x, axis=axis + (axis >= batch_axis), reverse=reverse), batch_axis

    primitive = Primitive(name, abstract=abstract, evaluate=evaluate, batch=batch)
    return primitive


def _doubling(combine: Callable[[Any, Any], Any]) -> Callable[[Any, int], Any]:
    """A running reduction for modules whose functions have no `accumulate`: after k steps each place holds the
    reduction of the 2**k places up to it."""

    def accumulate(x, axis):
        x, step = x.copy(), 1
        before = (slice(None),) * axis
        while step < x.shape[axis]:
            moved = combine(x[(*before, slice(None, -step))], x[(*before, slice(step, None))])
            x[(*before, slice(step, None))] = moved
            step *= 2
        return x

    return accumulate


def _accumulate(ufunc: numpy.ufunc) -> Callable[[Any, int], Any]:
    def accumulate(x, axis):
        if array_module(x) is numpy:
            return ufunc.accumulate(x, axis, dtype=x.dtype)
        return _doubling(ufunc)(x, axis)

    return accumulate


cumsum = _running("cumsum", _accumulate(numpy.add))
cumsum.jvp = linear_jvp(cumsum)
cumsum.transpose = lambda cotangent, x, *, axis, reverse: [cumsum(cotangent, axis=axis, reverse=not reverse)]


def _shifted(x: Array, step: int, axis: int, reverse: bool, fill: float) -> Array:
    """Each element replaced by the one `step` before it in the order of the running reduction; `fill` at the start."""
    config = [(0, 0, 0)] * x.ndim
    config[axis] = (-step, step, 0) if reverse else (step, -step, 0)
    return pad(x, full((), fill, x.dtype), config=tuple(config))


def _recurrence(a: Array, b: Array, axis: int, reverse: bool) -> Array:
    """The solution of y[i] = a[i] * y[i - 1] + b[i], linear in `b`, by doubling: after k steps y[i] counts the 2**k
    places up to i, and a[i] is the product of theirs."""
    step = 1
    while step < a.shape[axis]:
        b = add(b, mul(a, _shifted(b, step, axis, reverse, 0)))
        a = mul(a, _shifted(a, step, axis, reverse, 0))
        step *= 2
    return b


def _cumprod_jvp(primals, tangents, *, axis, reverse):
    (x,), (t,) = primals, tangents
    result = cumprod(x, axis=axis, reverse=reverse)
    if x.shape[axis] == 0:
        return result, t
    before = _shifted(result, 1, axis, reverse, 1)
    return result, _recurrence(x, mul(t, before), axis, reverse)


cumprod = _running("cumprod", _accumulate(numpy.multiply))
cumprod.jvp = _cumprod_jvp


def _running_extremum(name: str, ufunc: numpy.ufunc) -> Primitive:
    def jvp(primals, tangents, *, axis, reverse):
        (x,), (t,) = primals, tangents
        result = primitive(x, axis=axis, reverse=reverse)
        # The last place so far that attained the extremum: of those places, the furthest in the order of running.
        place = iota(shape=x.shape, dtype=dtypes.int32, axis=axis)
        start = full((), max(x.shape[axis] - 1, 0) if reverse else 0, dtypes.int32)
        place = select(same_value(x, result), place, start)
        place = (cummin if reverse else cummax)(place, axis=axis, reverse=reverse)
        return result, take_along(t, place, axis)

    primitive = _running(name, _accumulate(ufunc), accepts_bool=True)
    primitive.jvp = jvp
    return primitive


cummax = _running_extremum("cummax", numpy.maximum)
cummin = _running_extremum("cummin", numpy.minimum)


def _cumlogsumexp_jvp(primals, tangents, *, axis, reverse):
    (x,), (t,) = primals, tangents
    result = cumlogsumexp(x, axis=axis, reverse=reverse)
    if x.shape[axis] == 0:
        return result, t
    # Each tangent is an average of those up to it, with weights exp(x) / exp(result); written as a recurrence, in which
    # no exponential is larger than 1. Where all is minus infinity so far, the weights are zero.
    lowest = full((), -math.inf, x.dtype)
    total = select(eq(result, lowest), full((), 0, x.dtype), result)
    before = _shifted(result, 1, axis, reverse, -math.inf)
    return result, _recurrence(exp(sub(before, total)), mul(t, exp(sub(x, total))), axis, reverse)


def _logsumexp_accumulate(x, axis):
    if x.dtype.kind != "f":
        raise TypeError("not floating")
    return _accumulate(numpy.logaddexp)(x, axis)


cumlogsumexp = _running("cumlogsumexp", _logsumexp_accumulate)
cumlogsumexp.jvp = _cumlogsumexp_jvp
