"""`vmap`: run a function on a whole batch, written as if for one example.

`Batch` carries arrays with one extra axis that the function does not see. Each primitive has a rule that says what it
does to such arrays: an elementwise function does not care, a sum leaves the extra axis out, a matrix product with one
batched operand becomes one larger product. Operations on values that do not depend on the batch are done once.

With an `axis_name` the batch axis can be reduced over from inside: see `primitives.collectives`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy

from funcgrad import tree
from funcgrad.array import AbstractArray, Array, ConcreteArray
from funcgrad.core import Interpreter, Primitive, Tracer
from funcgrad.errors import ArgumentError, ShapeError, TracedValueError
from funcgrad.primitives.shapes import move_axis, to_front
from funcgrad.program import Program, stage
from funcgrad.transforms.arguments import as_arrays, name_leaf, unwrap_outputs


class BatchTracer(Tracer):
    """An array with an extra axis, at `axis`, that the function being batched does not see."""

    __slots__ = ("axis", "value")

    def __init__(self, interpreter: Batch, value: Array, axis: int):
        self.interpreter, self.value, self.axis = interpreter, value, axis

    @property
    def aval(self) -> AbstractArray:
        return AbstractArray(self.shape, self.value.dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        shape = self.value.shape
        return shape[: self.axis] + shape[self.axis + 1 :]

    @property
    def dtype(self) -> numpy.dtype:
        return self.value.dtype

    @property
    def weak_type(self) -> bool:
        return False

    def concrete(self, purpose: str) -> ConcreteArray:
        what = "a Python `if`, `while` or bool() depends on" if purpose == "bool()" else f"{purpose} needs the value of"
        raise TracedValueError(
            f"{what} an array ({self.aval!r}) that differs from example to example under vmap; use "
            "fg.numpy.where(condition, a, b), or keep the value out of the mapped arguments (in_axes=None)."
        )


class Batch(Interpreter):
    """Applies the batch rule of every primitive that meets one of its tracers."""

    transform = "vmap"

    def __init__(self, size: int, axis_name: Any = None):
        self.size, self.axis_name = size, axis_name
        self.passes_constants = axis_name is None  # a collective over a constant still concerns its axis

    def wrap(self, value: Array, axis: int | None) -> Array:
        return value if axis is None else BatchTracer(self, value, axis)

    def split(self, x: Any) -> tuple[Any, int | None]:
        """The value of `x` with its extra axis, and where that is; None for what does not depend on the batch."""
        return (x.value, x.axis) if type(x) is BatchTracer and x.interpreter is self else (x, None)

    def interpret(self, primitive: Primitive, operands: Sequence[Array], params: dict[str, Any]) -> Any:
        values, axes, constant = [], [], True
        for x in operands:
            if type(x) is BatchTracer and x.interpreter is self:
                values.append(x.value)
                axes.append(x.axis)
                constant = False
            else:
                values.append(x)
                axes.append(None)
        if self.axis_name is not None and params.get("axis_name") == self.axis_name:
            return self.collect(primitive, values, axes, params)
        if constant and (self.passes_constants or not primitive.carries_functions):
            return primitive(*operands, **params)
        if primitive.carries_functions:
            params = {**params, "axis_name": self.axis_name}
        result, axis = (primitive.batch or primitive.rule("batch", "vmap"))(self.size, values, axes, **params)
        if primitive.multiple_results:
            return [self.wrap(x, a) for x, a in zip(result, axis, strict=True)]
        return self.wrap(result, axis)

    def collect(self, primitive: Primitive, values: Sequence[Array], axes: Sequence[int | None], params: dict) -> Any:
        """A collective over this very axis: hand its rule the arrays with the batch axis first."""
        params = {key: value for key, value in params.items() if key != "axis_name"}
        fronted = [to_front(x, axis, self.size) for x, axis in zip(values, axes, strict=True)]
        result, axis = primitive.rule("collect", "vmap")(self.size, *fronted, **params)
        return self.wrap(result, axis)


def batch_flat(
    function: Callable[..., Sequence[Any]],
    size: int,
    arguments: Sequence[Array],
    axes: Sequence[int | None],
    axis_name: Any = None,
) -> tuple[list[Array], list[int | None]]:
    """Run `function` on flat lists of arrays with extra axes; gives the results, and where their extra axes are."""
    with Batch(size, axis_name) as batch:
        outputs = function(*map(batch.wrap, arguments, axes))
    pairs = [batch.split(x) for x in outputs]
    return [x for x, _ in pairs], [axis for _, axis in pairs]


def batch_program(
    program: Program, size: int, axes: tuple[int | None, ...], axis_name: Any = None
) -> tuple[Program, list[int | None]]:
    """The Program that does for a whole batch what `program` does for one example, and where its results have their
    extra axes."""

    def make():
        out_axes: list[int | None] = []

        def function(*arguments):
            outputs, out_axes[:] = batch_flat(program, size, arguments, axes, axis_name)
            return outputs

        avals = [
            x if axis is None else AbstractArray((*x.shape[:axis], size, *x.shape[axis:]), x.dtype)
            for x, axis in zip(program.in_avals, axes, strict=True)
        ]
        return stage(function, avals, f"batch_of_{program.name}"), out_axes

    return program.derived(("batch", size, axes, axis_name), make)


def _normalize_axis(axis: int, x: Array, name: Callable[[int], str], index: int) -> int:
    if not isinstance(axis, int) or isinstance(axis, bool):
        raise ArgumentError(
            f"in_axes holds {axis!r} for `{name(index)}`; use an integer for a mapped axis, or None for no axis."
        )
    if not -x.ndim <= axis < x.ndim:
        raise ShapeError(
            f"in_axes says axis {axis} for `{name(index)}`, which has shape {x.shape} and so only {x.ndim} axes; "
            "choose an axis that it has, or None to use the whole array for every example."
        )
    return axis % x.ndim


def _batch_size(
    flat: Sequence[Array], axes: Sequence[int | None], axis_size: int | None, name: Callable[[int], str]
) -> int:
    sizes = {i: x.shape[a] for i, (x, a) in enumerate(zip(flat, axes, strict=True)) if a is not None}
    if not sizes and axis_size is None:
        raise ArgumentError(
            "vmap needs at least one argument with a mapped axis; give one in in_axes, or pass axis_size."
        )
    first = next(iter(sizes), 0)
    expected = axis_size if axis_size is not None else sizes[first]
    for i, size in sizes.items():
        if size != expected:
            other = "axis_size" if axis_size is not None else f"`{name(first)}`"
            raise ShapeError(
                f"vmap got mapped axes of different lengths: {size} in `{name(i)}` (axis {axes[i]} of shape "
                f"{flat[i].shape}), but {expected} in {other}; give arrays with one batch length, or None in in_axes."
            )
    return expected


def vmap(
    fun: Callable,
    in_axes: Any = 0,
    out_axes: Any = 0,
    axis_name: Any = None,
    axis_size: int | None = None,
) -> Callable:
    """Turn a function of one example into a function of a batch, without a loop.

    Arguments:
        fun: a function of arrays or pytrees.
        in_axes: which axis of each argument runs over the batch: an integer for all, or one entry an argument, each an
            integer, None (the argument is the same for every example), or a pytree of these that is a prefix of the
            argument. Keyword arguments are mapped over axis 0.
        out_axes: where the batch axis goes in the results: an integer, None for results that are the same for all
            examples, or a pytree prefix of the result.
        axis_name: a name by which collectives such as `fg.lax.psum` refer to the batch axis.
        axis_size: the length of the batch; needed only when nothing is mapped.

    Returns:
        The batched function.

    Raises:
        ShapeError: if the mapped axes have different lengths or do not exist.
        ArgumentError, TreeError: if `in_axes` or `out_axes` does not fit the arguments or results.

    Example:
        >>> import funcgrad as fg
        >>> x = fg.numpy.arange(6.0).reshape(2, 3)
        >>> fg.vmap(fg.numpy.dot, in_axes=(0, None))(x, x[0])
        Array([ 5., 14.], dtype=float32)
    """
    if isinstance(in_axes, list):
        in_axes = tuple(in_axes)

    @wraps(fun)
    def batched(*args: Any, **kwargs: Any) -> Any:
        if isinstance(in_axes, tuple) and len(in_axes) != len(args):
            raise ArgumentError(
                f"in_axes={in_axes} has {len(in_axes)} entries, but the function was called with {len(args)} "
                "positional argument(s); give one entry for each, or one integer for all."
            )
        flat, structure = tree.flatten((args, kwargs))

        def name(index: int) -> str:
            return name_leaf(fun, args, kwargs, index)

        flat = as_arrays(flat, structure, "vmap", name)
        full_axes = tree.prefix_leaves(in_axes, args, what="in_axes") + [0] * (len(flat) - len(tree.leaves(args)))

        axes = [
            None if axis is None else _normalize_axis(axis, x, name, i)
            for i, (axis, x) in enumerate(zip(full_axes, flat, strict=True))
        ]
        size = _batch_size(flat, axes, axis_size, name)
        with Batch(size, axis_name) as batch:
            mapped_args, mapped_kwargs = tree.unflatten(structure, map(batch.wrap, flat, axes))
            output = fun(*mapped_args, **mapped_kwargs)
            outputs, out_structure, _ = unwrap_outputs(output, False, "vmap")
        pairs = [batch.split(x) for x in outputs]
        result = tree.unflatten(out_structure, [x for x, _ in pairs])
        wanted = tree.prefix_leaves(out_axes, result, what="out_axes")
        return tree.unflatten(
            out_structure, [_place(x, axis, to, size) for (x, axis), to in zip(pairs, wanted, strict=True)]
        )

    return batched


def _place(x: Array, axis: int | None, wanted: int | None, size: int) -> Array:
    """A result with its batch axis where `out_axes` wants it."""
    if wanted is None:
        if axis is not None:
            raise ArgumentError(
                "out_axes is None for a result that differs from example to example; give the axis where the batch "
                "should go, or reduce over the batch inside the function."
            )
        return x
    x, axis = (to_front(x, None, size), 0) if axis is None else (x, axis)
    if not -x.ndim <= wanted < x.ndim:
        raise ShapeError(
            f"out_axes says axis {wanted}, but the batched result has shape {x.shape} and only {x.ndim} axes; "
            "choose an axis that it has."
        )
    return move_axis(x, axis, wanted % x.ndim)
