"""`cond` and `switch`: run one of several functions.

Where the predicate has a value, which is everywhere but under `jit` and where it differs from example to example of a
`vmap`, the chosen function is simply called, as a Python `if` would do: eager code pays nothing. Otherwise all branches
are traced, and the primitive `cond` carries their Programs.

A derivative of a branch needs values that only this branch computed, and all branches must have the same results.
So every branch gives all such values, with zeros for those of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy

from funcgrad import dtypes, tree
from funcgrad.array import AbstractArray, Array, as_array, constant
from funcgrad.compiler import STRUCTURES, Choice, compile_program
from funcgrad.control_flow.bodies import (
    batched,
    constant_zeros,
    given,
    name_of,
    some,
    with_outputs,
)
from funcgrad.core import Primitive, Tracer
from funcgrad.devices import to_host
from funcgrad.errors import ArgumentError, ArgumentTypeError, DtypeError, ShapeError, TracedValueError
from funcgrad.primitives.elementwise import convert, eq, is_linear, max_, min_, ne, select, zeros_like
from funcgrad.primitives.operators import cast
from funcgrad.primitives.shapes import reshape, to_front
from funcgrad.program import Equation, Program, Variable, stage_closed
from funcgrad.transforms.arguments import as_arrays, leaf_path, spread, unwrap_outputs, weak_again
from funcgrad.transforms.grad import linearize_program, transpose_program
from funcgrad.transforms.jvp import jvp_program
from funcgrad.transforms.vmap import batch_program


def _evaluate(index, *buffers, branches, compiler="default"):
    return compile_program(branches[int(to_host(index))], compiler)(*buffers)


def _abstract(index, *operands, branches):
    avals = zip(*(branch.out_avals for branch in branches), strict=True)
    return [AbstractArray(x[0].shape, x[0].dtype, all(a.weak_type for a in x)) for x in avals]


def _any(rows: Sequence[Sequence[bool]]) -> list[bool]:
    """For each place, whether it holds in any row."""
    return [any(column) for column in zip(*rows, strict=True)]


def _filled(program: Program, count: int, present: Sequence[bool], wanted: Sequence[bool]) -> Program:
    """The first `count` outputs, and the tangents of them that are `wanted`, of which some are `present`."""
    return with_outputs(program, [True] * count + [*present], [True] * count + [*wanted], program.outputs[:count] * 2)


def _jvp(primals, tangents, *, branches):
    active = given(tangents[1:])
    count = len(branches[0].outputs)
    derivatives = [jvp_program(branch, active) for branch in branches]
    moving = _any([present for _, present in derivatives])
    filled = tuple(_filled(program, count, present, moving) for program, present in derivatives)
    results = cond_primitive(*primals, *some(tangents), branches=filled)
    return results[:count], spread(results[count:], moving)


def _linearize(primals, tangents, *, branches):
    active = given(tangents[1:])
    count = len(branches[0].outputs)
    splits = [linearize_program(branch, active) for branch in branches]
    moving = _any([present for _, _, present in splits])
    slots, places = _shared_slots([forward.out_avals[count:] for forward, _, _ in splits])
    forwards, linears = [], []
    for (forward, linear, present), own in zip(splits, places, strict=True):
        residuals = dict(zip(own, forward.outputs[count:], strict=True))
        outputs = [residuals.get(slot) for slot in range(len(slots))]
        outputs = [constant_zeros(a) if x is None else x for x, a in zip(outputs, slots, strict=True)]
        forwards.append(Program(forward.inputs, forward.equations, [*forward.outputs[:count], *outputs], forward.name))
        variables = dict(zip(own, linear.inputs[: len(own)], strict=True))
        inputs = [variables.get(slot) or Variable(aval) for slot, aval in enumerate(slots)]
        linear = Program([*inputs, *linear.inputs[len(own) :]], linear.equations, linear.outputs, linear.name)
        linears.append(with_outputs(linear, present, moving, forward.outputs[:count]))
    results = cond_primitive(*primals, branches=tuple(forwards))
    if not any(moving):
        return results[:count], [None] * count
    moved = cond_primitive(primals[0], *results[count:], *some(tangents), branches=tuple(linears))
    return results[:count], spread(moved, moving)


def _shared_slots(rows: Sequence[Sequence[AbstractArray]]) -> tuple[list[AbstractArray], list[list[int]]]:
    """Slots in which every row finds a place of its own for each of its values; rows share slots of one type."""
    slots: list[AbstractArray] = []
    places = []
    for row in rows:
        own: list[int] = []
        for aval in (x.strong() for x in row):
            free = [i for i, slot in enumerate(slots) if slot == aval and i not in own]
            if not free:
                slots.append(aval)
            own.append(free[0] if free else len(slots) - 1)
        places.append(own)
    return slots, places


def _transpose(cotangents, index, *operands, branches):
    linear = tuple(is_linear(x) for x in operands)
    transposed = [transpose_program(branch, linear, given(cotangents)) for branch in branches]
    nonzero = _any([present for _, present in transposed])
    like = [x for x in operands if is_linear(x)]
    filled = tuple(with_outputs(program, present, nonzero, like) for program, present in transposed)
    known = [x for x in operands if not is_linear(x)]
    results = cond_primitive(index, *known, *some(cotangents), branches=filled)
    return [None, *spread(spread(results, nonzero), linear)]


def _batch(size, operands, axes, *, branches, axis_name):
    (index, *operands), (index_axis, *own) = operands, axes
    own = tuple(own)
    in_front = _any([[axis is not None for axis in batch_program(b, size, own, axis_name)[1]] for b in branches])
    if index_axis is None:
        programs = tuple(batched(branch, size, own, axis_name, in_front)[0] for branch in branches)
        return cond_primitive(index, *operands, branches=programs), [0 if front else None for front in in_front]
    # The examples take different branches: run all of them, and choose for each example.
    chosen = None
    for number, branch in enumerate(branches):
        program, out_axes = batched(branch, size, own, axis_name, in_front)
        results = program(*operands)
        if chosen is None:
            chosen = [to_front(x, axis, size) for x, axis in zip(results, out_axes, strict=True)]
            continue
        here = eq(index, constant(number, dtypes.int32))
        chosen = [
            select(reshape(here, shape=(size, *(1,) * (x.ndim - 1))), new, x)
            for new, x in zip(results, chosen, strict=True)
        ]
    return chosen, [0] * len(in_front)


cond_primitive = Primitive(
    "cond",
    abstract=_abstract,
    evaluate=_evaluate,
    jvp=_jvp,
    linearize=_linearize,
    transpose=_transpose,
    batch=_batch,
    multiple_results=True,
    carries_functions=True,
)

STRUCTURES[cond_primitive] = lambda equation: Choice(equation.params["branches"])


def _known(x: Array) -> Any:
    """The value of a scalar as a NumPy scalar; None where it is not known."""
    try:
        return to_host(x.concrete("cond")._data)[()]
    except TracedValueError:
        return None


def _trace_branches(
    branches: Sequence[Callable], operands: Sequence[Any], transform: str
) -> tuple[tuple[Program, ...], list[Array], Any]:
    """The Programs of the branches, which agree in inputs and outputs; their operands; the structure of the results."""
    flat, structure = tree.flatten(tuple(operands))
    flat = as_arrays(flat, structure, transform)
    structures: list[Any] = []

    def function_of(branch: Callable) -> Callable:
        def function(*arguments):
            outputs, out_structure, _ = unwrap_outputs(branch(*tree.unflatten(structure, arguments)), False, transform)
            structures.append(out_structure)
            return outputs

        return function

    avals = [x.aval for x in flat]
    traced = [stage_closed(function_of(branch), avals, name_of(branch), transform) for branch in branches]
    for branch, other in zip(branches[1:], structures[1:], strict=True):
        tree.check_same_structure(
            structures[0], other, what=f"what the branch {name_of(branch)} of {transform} returns"
        )
    programs = _with_common_outputs([program for program, _ in traced], structures[0], transform)
    captured: dict[int, Tracer] = {id(x): x for _, own in traced for x in own}
    common = []
    for program, (_, own) in zip(programs, traced, strict=True):
        variables = dict(zip(map(id, own), program.inputs, strict=False))
        inputs = [variables.get(key) or Variable(x.aval) for key, x in captured.items()]
        common.append(Program([*inputs, *program.inputs[len(own) :]], program.equations, program.outputs, program.name))
    return tuple(common), [*captured.values(), *flat], structures[0]


def _with_common_outputs(programs: Sequence[Program], structure: Any, transform: str) -> list[Program]:
    """The Programs with results of the same types: Python scalars take the dtypes of the other branches."""
    rows = [list(program.out_avals) for program in programs]
    wanted = []
    for index, column in enumerate(zip(*rows, strict=True)):
        path = leaf_path(structure, index)
        where = f"result{f' {path}' if path else ''}"
        texts = " and ".join(repr(x.strong()) for x in column)
        if len({x.shape for x in column}) > 1:
            raise ShapeError(
                f"the branches of {transform} return different shapes for their {where}: {texts}; "
                "let all branches return arrays of one shape."
            )
        dtype = dtypes.result_type(*column)
        for x in column:
            if x.dtype is not dtype and not x.weak_type:
                raise DtypeError(
                    f"the branches of {transform} return different dtypes for their {where}: {texts}; "
                    "convert one with x.astype(...)."
                )
        wanted.append(dtype)
    return [_converted(program, wanted) for program in programs]


def _converted(program: Program, wanted: Sequence[numpy.dtype]) -> Program:
    """The Program with its outputs in these dtypes."""
    equations, outputs = list(program.equations), []
    for x, dtype in zip(program.outputs, wanted, strict=True):
        if x.dtype is not dtype:
            variable = Variable(AbstractArray(x.shape, dtype))
            equations.append(Equation(convert, [x], {"dtype": dtype}, [variable]))
            x = variable
        outputs.append(x)
    return Program(program.inputs, equations, outputs, program.name)


def _call_one(branch: Callable, operands: Sequence[Any], transform: str) -> Any:
    flat, structure = tree.flatten(tuple(operands))
    output = branch(*tree.unflatten(structure, as_arrays(flat, structure, transform)))
    outputs, out_structure, _ = unwrap_outputs(output, False, transform)
    return tree.unflatten(out_structure, outputs)


def _choose(index: Array, branches: Sequence[Callable], operands: Sequence[Any], transform: str) -> Any:
    programs, arguments, out_structure = _trace_branches(branches, operands, transform)
    results = cond_primitive(index, *arguments, branches=programs)
    return tree.unflatten(out_structure, weak_again(results, _abstract(index, *arguments, branches=programs)))


def cond(pred: Any, true_fun: Callable, false_fun: Callable, *operands: Any) -> Any:
    """`true_fun(*operands)` where `pred` is true, `false_fun(*operands)` where it is false.

    Where the value of `pred` is known, only the chosen function is called. Under `jit` both are traced, and one runs;
    where `pred` differs between the examples of a `vmap`, both run for all of them.

    Arguments:
        pred: a scalar; a number counts as true if it is not zero.
        true_fun, false_fun: functions of the operands. They may use values from outside.
        operands: arrays or pytrees.

    Returns:
        What the chosen function returns.

    Raises:
        ShapeError: if `pred` is no scalar, or if both functions are traced and return different shapes.
        DtypeError, TreeError: if both are traced and return different dtypes or structures.

    Example:
        >>> import funcgrad as fg
        >>> fg.lax.cond(True, lambda x: x + 1, lambda x: x * 10, fg.array(2.0))
        Array(3., dtype=float32)
    """
    for name, fun in [("true_fun", true_fun), ("false_fun", false_fun)]:
        if not callable(fun):
            raise ArgumentTypeError(
                f"cond takes a predicate, two functions and operands, and got {type(fun).__name__} as {name}; "
                "call it as cond(pred, true_fun, false_fun, *operands)."
            )
    predicate = as_array(pred)
    if predicate.shape != ():
        raise ShapeError(
            f"the predicate of cond must be a scalar, and it has shape {predicate.shape}; reduce it with .any() or "
            ".all(), or choose element by element with fg.numpy.where."
        )
    value = _known(predicate)
    if value is not None:
        return _call_one(true_fun if value else false_fun, operands, "cond")
    truth = predicate if dtypes.is_bool(predicate.dtype) else ne(predicate, zeros_like(predicate))
    return _choose(convert(truth, dtype=dtypes.int32), (false_fun, true_fun), operands, "cond")


def switch(index: Any, branches: Sequence[Callable], *operands: Any) -> Any:
    """`branches[index](*operands)`, where an index outside is moved to the first or the last branch.

    Where the value of `index` is known, only the chosen function is called: see `cond`.

    Arguments:
        index: an integer scalar.
        branches: functions of the operands.
        operands: arrays or pytrees.

    Returns:
        What the chosen function returns.

    Raises:
        ArgumentError: if there are no branches.
        DtypeError, ShapeError: if the index is no integer scalar; and as in `cond`.

    Example:
        >>> import funcgrad as fg
        >>> fg.lax.switch(1, [lambda x: x, lambda x: -x, lambda x: x * x], fg.array(3.0))
        Array(-3., dtype=float32)
    """
    branches = tuple(branches)
    if not branches or not all(map(callable, branches)):
        raise ArgumentError("switch needs at least one branch, and every branch must be a function.")
    position = as_array(index)
    if position.shape != ():
        raise ShapeError(f"the index of switch must be a scalar, and it has shape {position.shape}; index one element.")
    if not dtypes.is_integer(position.dtype):
        raise DtypeError(
            f"the index of switch must be an integer, and it is {position.dtype.name}; convert it with "
            "x.astype(fg.int32), or use cond for a predicate."
        )
    value = _known(position)
    if value is not None or len(branches) == 1:
        return _call_one(branches[min(max(int(value or 0), 0), len(branches) - 1)], operands, "switch")
    last = constant(len(branches) - 1, position.dtype)
    inside = min_(max_(position, constant(0, position.dtype)), last)
    return _choose(cast(inside, dtypes.int32), branches, operands, "switch")
