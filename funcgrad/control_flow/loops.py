"""`while_loop` and `fori_loop`: repeat a function on what it returned.

A while loop runs in forward mode with the tangents as further carried values, and for a batch until all examples are
done, each keeping its values from the step in which its own condition became false. Reverse mode would have to go
through the steps backwards, and there is no telling how many there are; a `fori_loop` whose bounds are known is a
`scan`, which has all derivatives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from funcgrad import dtypes, tree
from funcgrad.array import AbstractArray, Array, as_array, constant
from funcgrad.compiler import STRUCTURES, Condition, compile_program
from funcgrad.control_flow.bodies import (
    batched,
    derivative_of_step,
    given,
    grouped,
    name_of,
    parts,
    settle,
    trace_step,
    ungrouped,
)
from funcgrad.control_flow.scan import scan_flat
from funcgrad.core import Primitive
from funcgrad.devices import to_host
from funcgrad.errors import ArgumentTypeError, DtypeError, ShapeError, SourceLine, TracedValueError, user_line
from funcgrad.primitives.elementwise import add, instantiate, lt, select
from funcgrad.primitives.operators import cast, promote
from funcgrad.primitives.reductions import reduce_or
from funcgrad.primitives.shapes import reshape, to_front
from funcgrad.program import Program, Variable, stage, stage_closed
from funcgrad.transforms.arguments import as_arrays, leaf_path, unwrap_outputs, weak_again
from funcgrad.transforms.vmap import batch_program

# The operands are the constants of the condition, those of the body, and what is carried. `where` is the user's line.


def _abstract(*operands, body, condition_count, body_count, **params):
    return [x.aval for x in body.inputs[body_count:]]


def _evaluate(*buffers, condition, body, condition_count, body_count, where, compiler="default"):
    goes_on, step = compile_program(condition, compiler), compile_program(body, compiler)
    for_condition, for_body, carry = parts(buffers, condition_count, body_count)
    while to_host(goes_on(*for_condition, *carry)[0]):
        carry = step(*for_body, *carry)
    return list(carry)


def _with_tangents(primals, tangents, *, condition, body, condition_count, body_count, where):
    """The loop that carries tangents as well, which of its results have one, and its operands."""
    for_condition, rest = parts(primals, condition_count)
    tangents = list(tangents[condition_count:])
    carry_count = len(rest) - body_count
    step, active, moving = derivative_of_step(body, body_count, carry_count, given(tangents))
    for place, x in enumerate(rest):
        if active[place]:
            tangents[place] = instantiate(tangents[place], x)
    unused = [Variable(x.aval.strong()) for x, moves in zip(rest[body_count:], moving, strict=True) if moves]
    loop = partial(
        while_primitive,
        *for_condition,
        *grouped(rest, tangents, body_count),
        condition=Program([*condition.inputs, *unused], condition.equations, condition.outputs, condition.name),
        body=step,
        condition_count=condition_count,
        body_count=body_count + sum(active[:body_count]),
        where=where,
    )
    return loop, moving


def _jvp(primals, tangents, **params):
    loop, moving = _with_tangents(primals, tangents, **params)
    return ungrouped(loop(), moving)


def _linearize(primals, tangents, **params):
    """The results are known, and their tangents are a loop of their own, which goes through the steps once more."""
    loop, moving = _with_tangents(primals, tangents, **params)
    results = while_primitive(*primals, **params)
    return results, ungrouped(loop(), moving)[1] if any(moving) else [None] * len(results)


def _transpose(cotangents, *operands, where, **params):
    raise ArgumentTypeError(
        "reverse mode (grad, vjp, jacrev) has to go through the steps of a loop backwards, and while_loop, or "
        "fori_loop with bounds that are not known, does not say how many there are; use fg.lax.scan, or "
        "fori_loop with bounds that are Python integers, or forward mode (jvp, jacfwd).",
        where,
    )


def _batch(size, operands, axes, *, condition, body, condition_count, body_count, where, axis_name):
    carry_count = len(operands) - condition_count - body_count
    for_condition, for_body, carry = parts(operands, condition_count, body_count)
    condition_axes, body_axes, carry_axes = parts(axes, condition_count, body_count)

    def differs(flags: Sequence[bool]) -> bool:
        """Whether the examples stop at different steps."""
        places = (*condition_axes, *(0 if flag else None for flag in flags))
        return batch_program(condition, size, places, axis_name)[1][0] is not None

    def after(flags: tuple[bool, ...]) -> list[bool]:
        if differs(flags):
            return [True] * carry_count
        places = (*body_axes, *(0 if flag else None for flag in flags))
        return [axis is not None for axis in batch_program(body, size, places, axis_name)[1]]

    flags = settle(after, given(carry_axes), 0, carry_count)
    places = tuple(0 if flag else None for flag in flags)
    carry = [to_front(x, axis, size) if flag else x for x, axis, flag in zip(carry, carry_axes, flags, strict=True)]
    step, _ = batched(body, size, (*body_axes, *places), axis_name, flags)
    goes_on, _ = batched(condition, size, (*condition_axes, *places), axis_name, [differs(flags)])
    loop = partial(while_primitive, where=where)
    if not differs(flags):
        results = loop(
            *for_condition,
            *for_body,
            *carry,
            condition=goes_on,
            body=step,
            condition_count=condition_count,
            body_count=body_count,
        )
        return results, list(places)

    # Carry along which examples go on. Those that are done keep their values.
    def any_goes_on(running, *carry):
        return [reduce_or(running, axes=(0,))]

    def step_of_running(*arguments):
        for_condition, for_body, (running, *carry) = parts(arguments, condition_count, body_count)
        stepped = step(*for_body, *carry)
        carry = [
            select(reshape(running, shape=(size, *(1,) * (x.ndim - 1))), x, y)
            for x, y in zip(stepped, carry, strict=True)
        ]
        return [*goes_on(*for_condition, *carry), *carry]

    avals = [AbstractArray(x.shape, x.dtype) for x in operands[: condition_count + body_count]]
    carry_avals = [AbstractArray((size,), dtypes.bool_), *(AbstractArray(x.shape, x.dtype) for x in carry)]
    _, *results = loop(
        *for_condition,
        *for_body,
        *goes_on(*for_condition, *carry),
        *carry,
        condition=stage(any_goes_on, carry_avals, "any_goes_on"),
        body=stage(step_of_running, [*avals, *carry_avals], step.name),
        condition_count=0,
        body_count=condition_count + body_count,
    )
    return results, [0] * carry_count


while_primitive = Primitive(
    "while",
    abstract=_abstract,
    evaluate=_evaluate,
    jvp=_jvp,
    linearize=_linearize,
    transpose=_transpose,
    batch=_batch,
    multiple_results=True,
    carries_functions=True,
)

STRUCTURES[while_primitive] = lambda equation: Condition(
    equation.params["condition"],
    equation.params["body"],
    equation.params["condition_count"],
    equation.params["body_count"],
)


def while_loop(cond_fun: Callable, body_fun: Callable, init_val: Any) -> Any:
    """Repeat `val = body_fun(val)` as long as `cond_fun(val)` is true.

    Under `vmap` the examples may take different numbers of steps. Forward mode differentiates through the loop; reverse
    mode cannot, since the number of steps is not known beforehand.

    Arguments:
        cond_fun: a function from the carried value to a bool scalar.
        body_fun: a function from the carried value to the next, of the same structure, shapes and dtypes.
        init_val: an array or pytree.

    Returns:
        The value for which `cond_fun` is false.

    Raises:
        ShapeError, DtypeError, TreeError: if `body_fun` returns another type than it gets, or `cond_fun` returns
            no bool scalar.
        ArgumentTypeError: when reverse mode needs the derivative.

    Example:
        >>> import funcgrad as fg
        >>> fg.lax.while_loop(lambda x: x < 100, lambda x: x * 2, fg.array(3))
        Array(192, dtype=int32)
    """
    structure = tree.structure(init_val)
    return _while_loop(
        cond_fun, body_fun, init_val, "while_loop", name_of(body_fun), lambda i: leaf_path(structure, i), user_line()
    )


def _while_loop(
    cond_fun: Callable,
    body_fun: Callable,
    init_val: Any,
    transform: str,
    name: str,
    place: Callable[[int], str],
    where: SourceLine | None,
) -> Any:
    flat, structure = tree.flatten(init_val)
    flat = as_arrays(flat, structure, transform)

    def step(carry, others):
        output = body_fun(tree.unflatten(structure, carry))
        tree.check_same_structure(structure, output, what=f"what {name} returned to {transform}")
        return unwrap_outputs(output, False, transform)[0], []

    def goes_on(*carry):
        outputs, _, _ = unwrap_outputs(cond_fun(tree.unflatten(structure, carry)), False, transform)
        if len(outputs) != 1 or outputs[0].shape != ():
            raise ShapeError(
                f"the condition of {transform} must return a bool scalar, and {name_of(cond_fun)} returned "
                f"{', '.join(repr(x.aval.strong()) for x in outputs) or 'nothing'}; reduce it with .any() or .all()."
            )
        if not dtypes.is_bool(outputs[0].dtype):
            raise DtypeError(
                f"the condition of {transform} must return a bool, and {name_of(cond_fun)} returned "
                f"{outputs[0].dtype.name}; compare it, for example x != 0."
            )
        return outputs

    body, for_body, carry = trace_step(step, flat, [], transform, name, place)
    condition, for_condition = stage_closed(goes_on, [x.aval for x in carry], name_of(cond_fun), transform)
    results = while_primitive(
        *for_condition,
        *for_body,
        *carry,
        condition=condition,
        body=body,
        condition_count=len(for_condition),
        body_count=len(for_body),
        where=where,
    )
    return tree.unflatten(structure, weak_again(results, [x.aval for x in body.inputs[len(for_body) :]]))


def _bound(value: Any, name: str) -> tuple[Array, int | None]:
    """A bound of `fori_loop`, and its value where that is known."""
    bound = as_array(value)
    if bound.shape != () or not dtypes.is_integer(bound.dtype):
        raise ArgumentTypeError(
            f"{name} of fori_loop must be an integer scalar, and it is {bound.aval.strong()!r}; "
            "convert it with int(x) or x.astype(fg.int32)."
        )
    try:
        return bound, int(bound.concrete("a bound of fori_loop"))
    except TracedValueError:
        return bound, None


def fori_loop(lower: Any, upper: Any, body_fun: Callable, init_val: Any, *, unroll: int | bool | None = None) -> Any:
    """Do `val = body_fun(i, val)` for `i` from `lower` to `upper - 1`.

    With bounds whose values are known the loop is a `scan` and has all derivatives. Otherwise it is a `while_loop`,
    which has forward mode only.

    Arguments:
        lower, upper: integers, or integer scalars.
        body_fun: a function of an integer scalar and the carried value; it returns the next value, of the same
            structure, shapes and dtypes.
        init_val: an array or pytree.
        unroll: how many steps a compiler may write out; for loops with known bounds.

    Returns:
        The last value; `init_val` if there are no steps.

    Raises:
        ArgumentTypeError: if a bound is no integer.
        ShapeError, DtypeError, TreeError: if `body_fun` returns another type than it gets.

    Example:
        >>> import funcgrad as fg
        >>> fg.lax.fori_loop(0, 5, lambda i, total: total + i, 0)
        Array(10, dtype=int32)
    """
    where = user_line()
    (low, first), (high, end) = _bound(lower, "lower"), _bound(upper, "upper")
    low, high = promote(low, high)
    low, high = cast(low, low.dtype), cast(high, high.dtype)
    one = constant(1, low.dtype)
    flat, structure = tree.flatten(init_val)
    flat = as_arrays(flat, structure, "fori_loop", lambda i: f"init_val{leaf_path(structure, i)}")
    name = name_of(body_fun)

    def step(carry: Sequence[Array], _: Any = ()) -> tuple[list[Array], list[Array]]:
        i, *values = carry
        output = body_fun(i, tree.unflatten(structure, values))
        tree.check_same_structure(structure, output, what=f"what {name} returned to fori_loop")
        return [add(i, one), *unwrap_outputs(output, False, "fori_loop")[0]], []

    def place(index: int) -> str:
        return leaf_path(structure, index - 1)

    carry = [low, *flat]
    if first is not None and end is not None:
        (_, *after), _ = scan_flat(
            step, carry, [], max(0, end - first), unroll=unroll or 1, transform="fori_loop", name=name, where=place
        )
    else:
        _, *after = _while_loop(
            lambda carry: lt(carry[0], high), lambda carry: step(carry)[0], carry, "fori_loop", name, place, where
        )
    return tree.unflatten(structure, after)
