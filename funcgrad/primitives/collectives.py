"""Collectives: operations over the batch axis of a surrounding `vmap`, by its name.

Inside `vmap(f, axis_name="batch")` the function sees one example; `psum(x, "batch")` gives it the sum over all. The
interpreter of that very vmap computes a collective by its `collect` rule, which gets the arrays with the named axis in
front; to every other interpreter it is an operation like any other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from funcgrad import dtypes, tree
from funcgrad.array import AbstractArray, Array, as_array
from funcgrad.core import Primitive, named_axes
from funcgrad.errors import UnboundAxisError
from funcgrad.primitives.elementwise import div
from funcgrad.primitives.indexing import gather
from funcgrad.primitives.movement import iota
from funcgrad.primitives.operators import promote_inexact
from funcgrad.primitives.reductions import reduce_max, reduce_min
from funcgrad.primitives.shapes import linear_jvp, move_axis, reduce_sum, reshape


def _unbound(*buffers: Any, axis_name: Any, **params: Any) -> NoReturn:
    raise UnboundAxisError(
        f"no surrounding vmap has the axis name {axis_name!r}; call the function inside "
        f"fg.vmap(..., axis_name={axis_name!r})."
    )


def _other_axis(primitive_of: Callable[[], Primitive]):
    """The batch rule for a vmap of another name: the extra axis just stays where it is."""

    def batch(size, operands, axes, **params):
        return primitive_of()(*operands, **params), axes[0]

    return batch


def _reducing(name: str, collect: Callable[[Array], Array]) -> Primitive:
    primitive = Primitive(
        name,
        abstract=lambda x, *, axis_name: AbstractArray(x.shape, x.dtype),
        evaluate=_unbound,
        batch=_other_axis(lambda: primitive),
        collect=lambda size, x: (collect(x), None),
    )
    return primitive


psum_primitive = _reducing("psum", lambda x: reduce_sum(x, axes=(0,)))
psum_primitive.jvp = linear_jvp(psum_primitive)
# Every example's result contains every example's operand, so each operand gathers the cotangents of all.
psum_primitive.transpose = lambda cotangent, x, *, axis_name: [psum_primitive(cotangent, axis_name=axis_name)]
pmax_primitive = _reducing("pmax", lambda x: reduce_max(x, axes=(0,)))
pmin_primitive = _reducing("pmin", lambda x: reduce_min(x, axes=(0,)))


def _all_gather_batch(size, operands, axes, *, axis_name, axis, axis_size):
    (x,), (batch_axis,) = operands, axes
    x = move_axis(x, batch_axis, 0)
    return all_gather_primitive(x, axis_name=axis_name, axis=axis + 1, axis_size=axis_size), 0


def _all_gather_transpose(cotangent, x, *, axis_name, axis, axis_size):
    summed = psum_primitive(cotangent, axis_name=axis_name)
    return [gather(summed, axis_index(axis_name), axes=(axis,), mode="promise_in_bounds")]


all_gather_primitive = Primitive(
    "all_gather",
    abstract=lambda x, *, axis_name, axis, axis_size: AbstractArray(
        (*x.shape[:axis], axis_size, *x.shape[axis:]), x.dtype
    ),
    evaluate=_unbound,
    transpose=_all_gather_transpose,
    batch=_all_gather_batch,
    collect=lambda size, x, *, axis, axis_size: (move_axis(x, 0, axis), None),
)
all_gather_primitive.jvp = linear_jvp(all_gather_primitive)


def _inverse_pairs(permutation: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    return tuple((target, source) for source, target in permutation)


def _ppermute_collect(size, x, *, permutation):
    sources = dict(_inverse_pairs(permutation))
    # Examples that nobody sends to get zeros: an index outside, which the scatter below leaves alone.
    index = as_array([sources.get(i, size) for i in range(size)])
    padded = gather(x, index, axes=(0,), mode="clip")
    received = as_array([i in sources for i in range(size)])
    from_shape = (size, *(1,) * (x.ndim - 1))
    return padded * received.reshape(from_shape).astype(x.dtype), 0


ppermute_primitive = Primitive(
    "ppermute",
    abstract=lambda x, *, axis_name, permutation: AbstractArray(x.shape, x.dtype),
    evaluate=_unbound,
    transpose=lambda cotangent, x, *, axis_name, permutation: [
        ppermute_primitive(cotangent, axis_name=axis_name, permutation=_inverse_pairs(permutation))
    ],
    batch=_other_axis(lambda: ppermute_primitive),
    collect=_ppermute_collect,
)
ppermute_primitive.jvp = linear_jvp(ppermute_primitive)

axis_index_primitive = Primitive(
    "axis_index",
    abstract=lambda *, axis_name: AbstractArray((), dtypes.int32),
    evaluate=_unbound,
    collect=lambda size: (iota(shape=(size,), dtype=dtypes.int32, axis=0), 0),
)

axis_size_primitive = Primitive(
    "axis_size",
    abstract=lambda *, axis_name: AbstractArray((), dtypes.int32),
    evaluate=_unbound,
    collect=lambda size: (as_array(size).astype(dtypes.int32), None),
)


def _over(primitive: Primitive, x: Any, axis_name: Any) -> Any:
    """Apply a collective to every leaf of a pytree, for one axis name or a tuple of them."""
    for name in axis_name if isinstance(axis_name, (tuple, list)) else (axis_name,):
        x = tree.map(lambda leaf, name=name: primitive(as_array(leaf), axis_name=name), x)
    return x


def psum(x: Any, axis_name: Any) -> Any:
    """The sum of every leaf of `x` over the examples of the named axis; `psum(1, name)` counts them.

    Raises:
        UnboundAxisError: if no surrounding `vmap` has that name; so do all collectives.

    Example:
        >>> import funcgrad as fg
        >>> fg.vmap(lambda x: x / fg.lax.psum(x, "i"), axis_name="i")(fg.array([1.0, 3.0]))
        Array([0.25, 0.75], dtype=float32)
    """
    return _over(psum_primitive, x, axis_name)


def pmax(x: Any, axis_name: Any) -> Any:
    """The largest of the examples' values, element by element."""
    return _over(pmax_primitive, x, axis_name)


def pmin(x: Any, axis_name: Any) -> Any:
    """The smallest of the examples' values, element by element."""
    return _over(pmin_primitive, x, axis_name)


def pmean(x: Any, axis_name: Any) -> Any:
    """The mean of every leaf of `x` over the examples of the named axis."""
    count = psum(1, axis_name)
    return tree.map(lambda total: div(*promote_inexact(total, count)), psum(x, axis_name))


def all_gather(x: Any, axis_name: Any, *, axis: int = 0, tiled: bool = False) -> Any:
    """The values of all examples, stacked along a new axis at `axis`, or with `tiled` joined along that axis.

    Example:
        >>> import funcgrad as fg
        >>> fg.vmap(lambda x: fg.lax.all_gather(x, "i").sum(), axis_name="i")(fg.array([1.0, 3.0]))
        Array([4., 4.], dtype=float32)
    """
    size = dict(reversed(named_axes())).get(axis_name)
    if size is None:
        _unbound(axis_name=axis_name)

    def gather_all(leaf: Any) -> Array:
        array = as_array(leaf)
        place = axis % (array.ndim + (not tiled))
        found = all_gather_primitive(array, axis_name=axis_name, axis=place, axis_size=size)
        if not tiled:
            return found
        shape = found.shape
        return reshape(found, shape=(*shape[:place], shape[place] * shape[place + 1], *shape[place + 2 :]))

    return tree.map(gather_all, x)


def axis_index(axis_name: Any) -> Array:
    """Which example of the named axis this is: an int32 scalar."""
    return axis_index_primitive(axis_name=axis_name)


def axis_size(axis_name: Any) -> Array:
    """How many examples the named axis has: an int32 scalar."""
    return axis_size_primitive(axis_name=axis_name)


def ppermute(x: Any, axis_name: Any, perm: Any) -> Any:
    """Send values between examples: for every pair `(source, target)` of `perm` the target gets the source's value.
    Examples that are no target get zeros."""
    permutation = tuple((int(a), int(b)) for a, b in perm)
    return tree.map(lambda leaf: ppermute_primitive(as_array(leaf), axis_name=axis_name, permutation=permutation), x)
