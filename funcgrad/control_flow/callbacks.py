"""`pure_callback` and `io_callback`: Python functions that are called when the program runs, not when it is traced.

The Python function gets NumPy arrays. What it returns is declared beforehand, as tracing needs to know shapes and
dtypes. A pure callback computes; an io callback may also do something, and is called exactly once wherever the program
comes by, in the order of the program.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy

from funcgrad import dtypes, tree
from funcgrad.array import AbstractArray, Array
from funcgrad.control_flow.bodies import name_of
from funcgrad.control_flow.scan import scan_flat
from funcgrad.core import Primitive
from funcgrad.devices import array_module, to_host
from funcgrad.errors import ArgumentError, ArgumentTypeError, DtypeError, MissingRuleError, ShapeError
from funcgrad.primitives.shapes import move_axis, reshape, to_front
from funcgrad.transforms.arguments import as_arrays, leaf_path

VMAP_METHODS = ("sequential", "expand_dims", "broadcast_all")


class HostFunction:
    """A Python function as a primitive carries it: from flat host buffers to flat host buffers of given types."""

    __slots__ = ("__name__", "fun", "in_structure", "out_structure", "who")

    def __init__(self, fun: Callable, in_structure: Any, out_structure: Any, who: str):
        self.fun, self.in_structure, self.out_structure, self.who = fun, in_structure, out_structure, who
        self.__name__ = name_of(fun)

    def __call__(self, buffers: Sequence[Any], results: Sequence[AbstractArray]) -> list[numpy.ndarray]:
        args, kwargs = tree.unflatten(self.in_structure, map(read_only, buffers))
        output = self.fun(*args, **kwargs)
        tree.check_same_structure(self.out_structure, output, what=f"what {self.__name__} returned to {self.who}")
        leaves = tree.leaves(output)
        return [self._checked(x, aval, i) for i, (x, aval) in enumerate(zip(leaves, results, strict=True))]

    def _checked(self, value: Any, aval: AbstractArray, index: int) -> numpy.ndarray:
        found = numpy.asarray(value)
        path = leaf_path(self.out_structure, index)
        where = (
            f"{self.__name__} returned to {self.who} {found.dtype}{list(found.shape)}{f' at {path}' if path else ''}"
        )
        if found.shape != aval.shape:
            raise ShapeError(f"{where}, and {aval!r} was declared; declare the shape that it returns.")
        # Python's and NumPy's numbers are wide by default; only the kind of number has to be the declared one.
        if dtypes.KIND[dtypes.canonical(found.dtype)] > dtypes.KIND[aval.dtype]:
            raise DtypeError(f"{where}, and {aval!r} was declared; declare the dtype that it returns.")
        return numpy.array(found, aval.dtype)  # a copy, since the function may keep what it returned and change it


def read_only(buffer: Any) -> numpy.ndarray:
    """A buffer for a callback to read: on the host, and protected from writing."""
    view = to_host(buffer).view()
    view.flags.writeable = False
    return view


def _abstract(*operands, results, **params):
    return list(results)


def _evaluate(*buffers, function, results, **params):
    module = array_module(buffers[0]) if buffers else numpy
    return [module.asarray(x) for x in function(buffers, results)]


def _jvp_of(primitive_of: Callable[[], Primitive], who: str):
    def jvp(primals, tangents, *, function, results, **params):
        if any(dtypes.is_differentiable(x.dtype) for x in results):
            raise MissingRuleError(
                f"{who} cannot be differentiated, since the derivative of {function.__name__} is not known; call it in "
                "a function with fg.custom_jvp or fg.custom_vjp that says what its derivative is, or on "
                "fg.stop_gradient(x) where it has none."
            )
        return primitive_of()(*primals, function=function, results=results, **params), [None] * len(results)

    return jvp


def one_by_one(primitive: Primitive, size: int, operands: Sequence[Array], axes: Sequence[int | None], params: dict):
    """The batch rule of calling a function for each example after the other."""
    moved = [move_axis(x, axis, 0) for x, axis in zip(operands, axes, strict=True) if axis is not None]

    def step(carry, inputs):
        rest = iter(inputs)
        values = [x if axis is None else next(rest) for x, axis in zip(operands, axes, strict=True)]
        return [], primitive(*values, **params)

    _, outputs = scan_flat(step, [], moved, size, transform="vmap", name=params["function"].__name__)
    return outputs, [0] * len(outputs)


def _pure_batch(size, operands, axes, *, function, results, vmap_method):
    params = {"function": function, "results": results, "vmap_method": vmap_method}
    if vmap_method == "sequential":
        return one_by_one(pure_callback_primitive, size, operands, axes, params)
    fronted = [
        reshape(x, shape=(1, *x.shape)) if axis is None and vmap_method == "expand_dims" else to_front(x, axis, size)
        for x, axis in zip(operands, axes, strict=True)
    ]
    params["results"] = tuple(AbstractArray((size, *x.shape), x.dtype) for x in results)
    return pure_callback_primitive(*fronted, **params), [0] * len(results)


def _io_batch(size, operands, axes, **params):
    return one_by_one(io_callback_primitive, size, operands, axes, params)


pure_callback_primitive = Primitive(
    "pure_callback",
    abstract=_abstract,
    evaluate=_evaluate,
    jvp=_jvp_of(lambda: pure_callback_primitive, "pure_callback"),
    batch=_pure_batch,
    multiple_results=True,
)

io_callback_primitive = Primitive(
    "io_callback",
    abstract=_abstract,
    evaluate=_evaluate,
    jvp=_jvp_of(lambda: io_callback_primitive, "io_callback"),
    batch=_io_batch,
    multiple_results=True,
    has_effects=True,
)


def _bind(primitive: Primitive, callback: Callable, declared: Any, args: tuple, kwargs: dict, **params: Any) -> Any:
    who = primitive.name
    if not callable(callback):
        raise ArgumentTypeError(f"{who} needs a function, and got {type(callback).__name__}.")
    leaves, out_structure = tree.flatten(declared)
    for x in leaves:
        if not hasattr(x, "shape") or not hasattr(x, "dtype"):
            raise ArgumentTypeError(
                f"{who} needs to know the shapes and dtypes of its results, and got {type(x).__name__} for one; give "
                "fg.ShapeDtypeStruct(shape, dtype), or an array like it."
            )
    results = tuple(AbstractArray(tuple(x.shape), dtypes.canonical(x.dtype)) for x in leaves)
    flat, in_structure = tree.flatten((args, kwargs))
    flat = as_arrays(flat, in_structure, who)
    function = HostFunction(callback, in_structure, out_structure, who)
    return tree.unflatten(out_structure, primitive(*flat, function=function, results=results, **params))


def pure_callback(
    callback: Callable, result_shape_dtypes: Any, *args: Any, vmap_method: str = "sequential", **kwargs: Any
) -> Any:
    """Call a Python function from inside of `jit` and `vmap`: one of NumPy's or SciPy's, say.

    Arguments:
        callback: a function of NumPy arrays, which it must not write to. It must be pure: it may be called more than
            once, or not at all if its results are not needed.
        result_shape_dtypes: what it returns: a `fg.ShapeDtypeStruct`, or a pytree of them.
        args, kwargs: its arguments: arrays or pytrees.
        vmap_method: what to do for a batch. "sequential" calls the function for each example. "expand_dims" calls it
            once, with a further first axis of the length of the batch, or of length 1 for arguments that all examples
            share; "broadcast_all" repeats those as well.

    Returns:
        What the function returns, as arrays.

    Raises:
        ShapeError, DtypeError, TreeError: if the function returns something else than was declared.
        MissingRuleError: if it is differentiated and has floating results.

    Example:
        >>> import numpy
        >>> import funcgrad as fg
        >>> @fg.jit
        ... def f(x):
        ...     return fg.pure_callback(numpy.sqrt, fg.ShapeDtypeStruct(x.shape, x.dtype), x)
        >>> f(fg.array([4.0, 9.0]))
        Array([2., 3.], dtype=float32)
    """
    if vmap_method not in VMAP_METHODS:
        raise ArgumentError(f"pure_callback got vmap_method={vmap_method!r}; choose one of {', '.join(VMAP_METHODS)}.")
    return _bind(pure_callback_primitive, callback, result_shape_dtypes, args, kwargs, vmap_method=vmap_method)


def io_callback(callback: Callable, result_shape_dtypes: Any, *args: Any, ordered: bool = False, **kwargs: Any) -> Any:
    """Call a Python function that does something, such as writing a file, from inside of `jit` and `vmap`.

    It is called exactly once wherever the program comes by, in the order of the program, and for each example of a
    batch.

    Arguments:
        callback: a function of NumPy arrays, which it must not write to.
        result_shape_dtypes: what it returns: a `fg.ShapeDtypeStruct`, a pytree of them, or None.
        args, kwargs: its arguments: arrays or pytrees.
        ordered: accepted for the sake of JAX's signature: calls are always in order.

    Returns:
        What the function returns, as arrays.

    Raises:
        ShapeError, DtypeError, TreeError: if the function returns something else than was declared.
        MissingRuleError: if it is differentiated and has floating results.

    Example:
        >>> import funcgrad as fg
        >>> seen = []
        >>> @fg.jit
        ... def f(x):
        ...     fg.io_callback(lambda value: seen.append(float(value)), None, x)
        ...     return x * 2
        >>> f(fg.array(3.0)), seen
        (Array(6., dtype=float32), [3.0])
    """
    return _bind(io_callback_primitive, callback, result_shape_dtypes, args, kwargs)
