"""`fg.debug`: look at values while a transformed function runs.

Python's `print` inside of a jitted function prints once, while it is traced, and shows tracers. `fg.debug.print` prints
each time, and shows values.
"""

from __future__ import annotations

import builtins
import string
from collections.abc import Callable
from typing import Any

from funcgrad import dtypes, tree
from funcgrad.array import Array, as_array
from funcgrad.control_flow.bodies import name_of
from funcgrad.control_flow.callbacks import one_by_one, read_only
from funcgrad.core import Primitive
from funcgrad.errors import ArgumentError, ArgumentTypeError


def _evaluate(*buffers, function):
    function(*map(read_only, buffers))
    return []


def _batch(size, operands, axes, **params):
    return one_by_one(debug_callback_primitive, size, operands, axes, params)


debug_callback_primitive = Primitive(
    "debug_callback",
    abstract=lambda *operands, function: [],
    evaluate=_evaluate,
    jvp=lambda primals, tangents, **params: (debug_callback_primitive(*primals, **params), []),
    batch=_batch,
    multiple_results=True,
    has_effects=True,
)


def _is_value(x: Any) -> bool:
    return isinstance(x, Array) or type(x) in dtypes.DEFAULT_OF_SCALAR or hasattr(x, "__array__")


def callback(callback: Callable[..., Any], *args: Any, ordered: bool = False, **kwargs: Any) -> None:
    """Call a Python function with the values of `args` and `kwargs` each time the program comes by.

    Under `grad` it sees the values and not their tangents; under `vmap` it is called for each example.

    Arguments:
        callback: a function; what it returns is ignored. Arrays arrive as NumPy arrays.
        args, kwargs: its arguments: arrays, pytrees, or anything else, which is handed over as it is.
        ordered: accepted for the sake of JAX's signature: calls are always in order.

    Example:
        >>> import funcgrad as fg
        >>> seen = []
        >>> def f(x):
        ...     fg.debug.callback(lambda value: seen.append(float(value)), x)
        ...     return x * x
        >>> fg.jit(fg.grad(f))(fg.array(3.0)), seen
        (Array(6., dtype=float32), [3.0])
    """
    if not callable(callback):
        raise ArgumentTypeError(f"debug.callback needs a function, and got {type(callback).__name__}.")
    leaves, structure = tree.flatten((args, kwargs))
    places = [i for i, x in enumerate(leaves) if _is_value(x)]

    def function(*buffers: Any) -> None:
        merged = list(leaves)
        for place, buffer in zip(places, buffers, strict=True):
            merged[place] = buffer
        given_args, given_kwargs = tree.unflatten(structure, merged)
        callback(*given_args, **given_kwargs)

    function.__name__ = name_of(callback)
    debug_callback_primitive(*(as_array(leaves[i]) for i in places), function=function)


def print(fmt: str, *args: Any, ordered: bool = False, **kwargs: Any) -> None:
    """Print `fmt.format(*args, **kwargs)` with the values that the arguments have each time the program comes by.

    Arguments:
        fmt: a text with places for the arguments, such as "x = {x}". No f-string: that would be filled while tracing.
        args, kwargs: what to print: arrays, pytrees, or anything else.
        ordered: accepted for the sake of JAX's signature: what is printed is always in order.

    Raises:
        ArgumentError: if the text has no place for an argument, or a place that no argument fills.

    Example:
        >>> import funcgrad as fg
        >>> @fg.jit
        ... def f(x):
        ...     fg.debug.print("x = {x}", x=x)
        ...     return x + 1
        >>> y = f(fg.array(2.0))
        x = 2.0
    """
    _check_places(fmt, args, kwargs)

    def write(*values: Any, **named: Any) -> None:
        builtins.print(fmt.format(*values, **named))

    callback(write, *args, **kwargs)


def _check_places(fmt: str, args: tuple, kwargs: dict) -> None:
    """Raise unless the places of the text and the arguments belong together."""
    wanted: set[Any] = set()
    for _, field, spec, _ in string.Formatter().parse(fmt):
        inner = [f for _, f, _, _ in string.Formatter().parse(spec or "") if f is not None]
        for name in [*([] if field is None else [field]), *inner]:
            first = name.split(".")[0].split("[")[0]
            number = int(first) if first.isdigit() else len([x for x in wanted if isinstance(x, int)])
            wanted.add(first if first and not first.isdigit() else number)
    there = {*range(len(args)), *kwargs}
    if wanted != there:
        missing, unused = (", ".join(map(str, sorted(x, key=str))) for x in (wanted - there, there - wanted))
        raise ArgumentError(
            f"debug.print got the text {fmt!r}, "
            + (
                f"which has no place for the argument {unused}"
                if unused
                else f"and no argument for its place {missing}"
            )
            + '; write for example debug.print("x = {x}", x=x).'
        )
