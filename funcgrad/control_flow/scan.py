"""`scan`: a loop with a known number of steps that reads a slice of its inputs and writes a slice of its outputs each.

The primitive carries the Program of one step. Its operands are constants, the carried values and the inputs; its
results the carried values after the last step and the outputs, stacked along a new first axis.

In reverse mode the forward loop also stacks what the derivative of each step needs, and the linear loop reads it again.
What does not change from step to step is not stacked: it is computed once, before the loop. The transpose of a loop is
a loop the other way round, that carries the cotangents of what was carried and adds up those of the constants, unless
they can be computed from what all steps leave behind (`sums.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

import numpy

from funcgrad import tree
from funcgrad.array import AbstractArray, Array
from funcgrad.compiler import STRUCTURES, Repetition, compile_program
from funcgrad.compiler.structures import NARROWED
from funcgrad.control_flow.bodies import (
    batched,
    computed_again,
    constant_zeros,
    derivative_of_step,
    following,
    given,
    grouped,
    name_of,
    needed,
    parts,
    reached,
    settle,
    some,
    trace_step,
    ungrouped,
)
from funcgrad.control_flow.sums import LaterSum, later_sums
from funcgrad.core import Primitive
from funcgrad.devices import array_module
from funcgrad.errors import ArgumentError, ArgumentTypeError, ShapeError
from funcgrad.primitives.elementwise import add_tangents, instantiate, is_linear, zeros_like
from funcgrad.primitives.gathering import scatter_add
from funcgrad.primitives.movement import concatenate, dynamic_update_slice, slice_axis
from funcgrad.primitives.shapes import move_axis, reshape, to_front
from funcgrad.program import Equation, Program, Variable, stage
from funcgrad.transforms.arguments import as_arrays, leaf_path, spread, unwrap_outputs, weak_again
from funcgrad.transforms.grad import linearize_program, transpose_program
from funcgrad.transforms.vmap import batch_program, vmap


def _abstract(*operands, program, length, const_count, carry_count, **params):
    carry = [x.aval for x in program.inputs[const_count : const_count + carry_count]]
    stacked = program.out_avals[carry_count:]
    return [*carry, *(AbstractArray((length, *x.shape), x.dtype) for x in stacked)]


def _evaluate(*buffers, program, length, reverse, const_count, carry_count, unroll, compiler="default"):
    step = compile_program(program, compiler)
    constants, carry, inputs = parts(buffers, const_count, carry_count)
    module = array_module(buffers[0]) if buffers else numpy
    stacks = [module.empty((length, *x.shape), x.dtype) for x in program.outputs[carry_count:]]
    for i in range(length - 1, -1, -1) if reverse else range(length):
        results = step(*constants, *carry, *(x[i, ...] for x in inputs))
        carry = results[:carry_count]
        for stack, y in zip(stacks, results[carry_count:], strict=True):
            stack[i] = y
    return [*carry, *stacks]


def _jvp(primals, tangents, *, program, const_count, carry_count, **params):
    step, active, moving = derivative_of_step(program, const_count, carry_count, given(tangents))
    tangents = [instantiate(t, x) if a else None for t, x, a in zip(tangents, primals, active, strict=True)]
    results = scan_primitive(
        *grouped(primals, tangents, const_count, carry_count),
        program=step,
        const_count=const_count + sum(active[:const_count]),
        carry_count=carry_count + sum(moving[:carry_count]),
        **params,
    )
    return ungrouped(results, moving, carry_count)


class _Split:
    """The derivative of a step, split in three: what is done once, what is done forward, and what is linear.

    Attributes:
        once: from the constants to the values that do not change from step to step: first those that `forward` needs,
            `kept` in number, then those that `linear` needs.
        forward: a step whose constants are followed by what `once` gives it, and whose outputs are followed by what
            `linear` needs of each step.
        linear: a step of tangents. Its constants are values of `once`, then tangents; its inputs are some of the inputs
            of the loop, those with the positions in `read_again`, then outputs of `forward`, then tangents.
        active: which operands have tangents.
        moving: which results have tangents.
    """

    def __init__(self, program: Program, const_count: int, carry_count: int, active: tuple[bool, ...]):
        count = len(program.outputs)
        active = settle(lambda a: linearize_program(program, a)[2], active, const_count, carry_count)
        forward, linear, has_tangent = linearize_program(program, active)
        self.active = active
        self.moving = [*active[const_count : const_count + carry_count], *has_tangent[carry_count:]]

        constants, carry, inputs = parts(forward.inputs, const_count, carry_count)
        outputs, residuals = parts(forward.outputs, count)
        unchanging = following(forward, constants)
        repeated = [e for e in forward.equations if not all(x in unchanging for x in e.results) or e.has_effects]
        used = set(filter(_is_variable, [*outputs, *(x for e in repeated for x in e.operands)]))
        kept = [
            x for x in dict.fromkeys(y for e in forward.equations for y in e.results) if x in unchanging and x in used
        ]
        self.kept = len(kept)

        # The linear inputs begin with a variable for each residual.
        pairs = list(zip(residuals, linear.inputs[: len(residuals)], strict=True))
        once = [(x, v) for x, v in pairs if x in unchanging]
        again = [(x, v) for x, v in pairs if x in inputs]
        stacked = [(x, v) for x, v in pairs if x not in unchanging and x not in inputs]
        # What is quickly computed from others that are stacked is not stacked itself.
        computed = computed_again(forward.equations, dict(pairs), [x for x, _ in stacked])
        again_here = {x for equation in computed for x in equation.results}
        stacked = [(x, v) for x, v in stacked if v not in again_here]
        self.read_again = [inputs.index(x) for x, _ in again]
        first = [*kept, *(x for x, _ in once)]
        self.once = Program(constants, needed(forward.equations, first), first, f"once_of_{program.name}")
        self.forward = Program(
            [*constants, *kept, *carry, *inputs], repeated, [*outputs, *(x for x, _ in stacked)], forward.name
        )
        const_tangents, carry_tangents, input_tangents = (
            some(x) for x in parts(spread(linear.inputs[len(residuals) :], active), const_count, carry_count)
        )
        tangents = [
            constant_zeros(x) if t is None and wanted else t
            for t, x, wanted in zip(spread(linear.outputs, has_tangent), program.outputs, self.moving, strict=True)
        ]
        self.linear = Program(
            [
                *(v for _, v in once),
                *const_tangents,
                *carry_tangents,
                *(v for _, v in [*again, *stacked]),
                *input_tangents,
            ],
            [*computed, *linear.equations],
            some(tangents),
            linear.name,
        )


def _is_variable(x: Any) -> bool:
    return type(x) is Variable


def _linearize(primals, tangents, *, program, const_count, carry_count, **params):
    active = given(tangents)
    split = program.derived(
        ("scan", const_count, carry_count, active), lambda: _Split(program, const_count, carry_count, active)
    )
    constants, carry, inputs = parts(primals, const_count, carry_count)
    kept, once = parts(split.once(*constants), split.kept)
    results = scan_primitive(
        *constants,
        *kept,
        *carry,
        *inputs,
        program=split.forward,
        const_count=const_count + len(kept),
        carry_count=carry_count,
        **params,
    )
    results, stacked = parts(results, len(program.outputs))
    if not any(split.moving):
        return results, [None] * len(results)
    tangents = [instantiate(t, x) if a else None for t, x, a in zip(tangents, primals, split.active, strict=True)]
    const_tangents, carry_tangents, input_tangents = (some(x) for x in parts(tangents, const_count, carry_count))
    moved = scan_primitive(
        *once,
        *const_tangents,
        *carry_tangents,
        *(inputs[i] for i in split.read_again),
        *stacked,
        *input_tangents,
        program=split.linear,
        const_count=len(once) + len(const_tangents),
        carry_count=len(carry_tangents),
        **params,
    )
    return results, spread(moved, split.moving)


def _transpose(cotangents, *operands, program, const_count, carry_count, reverse, **params):
    linear = settle(
        lambda flags: reached(program, flags), tuple(is_linear(x) for x in operands), const_count, carry_count
    )
    operands, program, carry_count, linear, cotangents, places = _without_known_carry(
        cotangents, operands, program, const_count, carry_count, linear, reverse=reverse, **params
    )
    of_results, of_outputs = parts(cotangents, carry_count)
    constants, carry, inputs = parts(list(zip(operands, linear, strict=True)), const_count, carry_count)
    known_constants = [x for x, is_linear_here in constants if not is_linear_here]
    linear_constants = [x for x, is_linear_here in constants if is_linear_here]
    known_inputs = [x for x, is_linear_here in inputs if not is_linear_here]
    step = _transposed_step(program, linear, const_count, carry_count, given(of_outputs))
    summed = [x for x, later in zip(linear_constants, step.later, strict=True) if later is None]
    stacked_inputs = [*known_inputs, *some(of_outputs)]
    results = scan_primitive(
        *known_constants,
        *(zeros_like(x) for x in summed),
        *(instantiate(c, x) for c, (x, _) in zip(of_results, carry, strict=True)),
        *stacked_inputs,
        program=step.program,
        const_count=len(known_constants),
        carry_count=len(summed) + carry_count,
        reverse=not reverse,
        **params,
    )
    sums, of_carry, stacked = parts(results, len(summed), carry_count)
    after_loop = dict(zip(step.stacked, [*stacked_inputs, *stacked], strict=True))
    in_loop = iter(sums)
    of_constants = [
        next(in_loop) if later is None else later(*(after_loop[x] for x in later.equation.operands))
        for later in step.later
    ]
    of_inputs = stacked[: len(inputs) - len(known_inputs)]
    results = [*of_constants, *of_carry, *of_inputs]
    # A carried value may be linear in later steps only: it starts with a zero that is known.
    found = spread(results, linear)
    return [found[i] if i is not None and is_linear(x) else None for i, x in places]


def _without_known_carry(cotangents, operands, program, const_count, carry_count, linear, **params):
    """The loop with carried values that do not depend on linear operands, such as counters, as inputs instead.

    Returns:
        The arguments of the loop that is left; and for each of the given operands its position there (None for a
        carried value that was known), with the operand.
    """
    flags = linear[const_count : const_count + carry_count]
    indices: list[int | None] = list(range(len(operands)))
    if all(flags):
        return operands, program, carry_count, linear, cotangents, list(zip(indices, operands, strict=True))
    variables = parts(program.inputs, const_count, carry_count)
    values = parts(operands, const_count, carry_count)

    def known(group: int, wanted: bool = False) -> tuple[list[Any], list[Variable]]:
        offset = (0, const_count, const_count + carry_count)[group]
        pairs = zip(values[group], variables[group], linear[offset:], strict=False)
        chosen = [(x, v) for x, v, is_linear_here in pairs if is_linear_here is wanted]
        return [x for x, _ in chosen], [v for _, v in chosen]

    (c, c_variables), (k, k_variables), (x, x_variables) = known(0), known(1), known(2)
    after = [y for y, is_linear_here in zip(program.outputs[:carry_count], flags, strict=True) if not is_linear_here]
    outputs = [*after, *k_variables]
    step = Program(
        [*c_variables, *k_variables, *x_variables], needed(program.equations, outputs), outputs, f"known_{program.name}"
    )
    before = scan_primitive(*c, *k, *x, program=step, const_count=len(c), carry_count=len(k), **params)[len(k) :]
    moving, moving_variables = known(1, wanted=True)
    kept = [y for y, is_linear_here in zip(program.outputs[:carry_count], flags, strict=True) if is_linear_here]
    rest = Program(
        [*variables[0], *moving_variables, *k_variables, *variables[2]],
        program.equations,
        [*kept, *program.outputs[carry_count:]],
        program.name,
    )
    carried = iter(range(const_count, const_count + len(moving)))
    shift = const_count + carry_count  # as many inputs as carried values were taken out stand in front of the others
    places = [
        *indices[:const_count],
        *(next(carried) if is_linear_here else None for is_linear_here in flags),
        *indices[shift:],
    ]
    return (
        [*values[0], *moving, *before, *values[2]],
        rest,
        len(moving),
        (*linear[:const_count], *[True] * len(moving), *[False] * len(k), *linear[const_count + carry_count :]),
        [
            *(c for c, is_linear_here in zip(cotangents, flags, strict=False) if is_linear_here),
            *cotangents[carry_count:],
        ],
        list(zip(places, operands, strict=True)),
    )


@dataclass(frozen=True)
class _TransposedStep:
    """One step of the transposed loop.

    Attributes:
        program: the step. Its constants are the known constants; it carries the cotangents of linear constants that
            add up, and those of the carried values; it reads the known inputs and the cotangents of the outputs, and
            writes those of the inputs, and what is summed up after the loop.
        later: for each linear constant how its cotangent is computed after the loop; None for those that add up in it.
        stacked: what is there of all steps after the loop: the variables of which it stacks the values, beginning with
            its inputs.
    """

    program: Program
    later: list[LaterSum | None]
    stacked: list[Variable]


def _transposed_step(
    program: Program, linear: tuple[bool, ...], const_count: int, carry_count: int, has_cotangent: tuple[bool, ...]
) -> _TransposedStep:
    def make(added: tuple[bool, ...] = ()):
        """The step; some cotangents of constants are `added` in it to what there is of them."""
        cotangents = (*[True] * carry_count, *has_cotangent)
        transposed, nonzero = transpose_program(program, linear, cotangents, added)
        moving = [x for x, is_linear in zip(program.inputs, linear, strict=True) if is_linear]
        sums = sum(linear[:const_count])
        known_constants = const_count - sums
        known_inputs = linear[const_count + carry_count :].count(False)
        constants, inputs, of_carry, of_outputs, _ = parts(
            transposed.inputs, known_constants, known_inputs, carry_count, sum(has_cotangent)
        )
        terms = spread(transposed.outputs, nonzero)
        written = terms[sums + carry_count :]
        later, more = later_sums(
            transposed, terms[:sums], [*inputs, *of_outputs, *filter(_is_variable, written)], constants
        )
        if not added and any(x.primitive in (scatter_add, dynamic_update_slice) for x in transposed.equations):
            # To add to a few elements of a sum takes less than to add an array in which all others are zero.
            added = tuple(c is not None and x is None for c, x in zip(terms, later, strict=False))
            if any(added):
                return make(added)
            added = ()
        whole = Program(transposed.inputs, transposed.equations, [*transposed.outputs, *more], transposed.name)
        is_added = [flag for flag, x in zip(added or [False] * sums, later, strict=False) if x is None]

        def function(*arguments):
            constants, totals, of_carry, inputs, of_outputs = parts(
                arguments, known_constants, later.count(None), carry_count, known_inputs
            )
            begun = compress(totals, is_added)
            results, kept = parts(whole(*constants, *inputs, *of_carry, *of_outputs, *begun), len(transposed.outputs))
            found = spread(results, nonzero)
            terms = [c for c, x in zip(found, later, strict=False) if x is None]
            sums_so_far = [None if flag else total for total, flag in zip(totals, is_added, strict=True)]
            summed = [add_tangents(total, c) for total, c in zip(sums_so_far, terms, strict=True)]
            return [*summed, *(instantiate(c, x) for c, x in zip(found[sums:], moving[sums:], strict=True)), *kept]

        totals = [x.aval.strong() for x, later_sum in zip(moving, later, strict=False) if later_sum is None]
        avals = [x.aval for x in (*constants, *of_carry, *inputs, *of_outputs)]
        avals[known_constants:known_constants] = totals
        # A written output without a cotangent is zero, and stands for nothing that is summed up.
        names = [
            Variable(x) if not _is_variable(y) else y
            for x, y in zip(moving[sums + carry_count :], written, strict=True)
        ]
        stacked = [*inputs, *of_outputs, *names, *more]
        return _TransposedStep(stage(function, avals, transposed.name), later, stacked)

    return program.derived(("transposed step", linear, const_count, carry_count, has_cotangent), make)


def _batch(size, operands, axes, *, program, const_count, carry_count, axis_name, **params):
    constants, carry, inputs = parts(operands, const_count, carry_count)
    const_axes, carry_axes, input_axes = parts(axes, const_count, carry_count)
    # The first axis of an input is that of the steps; what a step sees has one axis less.
    inputs = [move_axis(x, 0, 1) if axis == 0 else x for x, axis in zip(inputs, input_axes, strict=True)]
    input_axes = [None if axis is None else max(axis - 1, 0) for axis in input_axes]

    def places(flags: Sequence[bool]) -> tuple[int | None, ...]:
        return (*const_axes, *(0 if flag else None for flag in flags), *input_axes)

    flags = settle(
        lambda flags: [axis is not None for axis in batch_program(program, size, places(flags), axis_name)[1]],
        given(carry_axes),
        0,
        carry_count,
    )
    carry = [to_front(x, axis, size) if flag else x for x, axis, flag in zip(carry, carry_axes, flags, strict=True)]
    in_front = [*flags, *[False] * (len(program.outputs) - carry_count)]
    step, out_axes = batched(program, size, places(flags), axis_name, in_front)
    results = scan_primitive(
        *constants, *carry, *inputs, program=step, const_count=const_count, carry_count=carry_count, **params
    )
    stacked_axes = [None if axis is None else axis + 1 for axis in out_axes[carry_count:]]
    return results, [*(0 if flag else None for flag in flags), *stacked_axes]


scan_primitive = Primitive(
    "scan",
    abstract=_abstract,
    evaluate=_evaluate,
    jvp=_jvp,
    linearize=_linearize,
    transpose=_transpose,
    batch=_batch,
    multiple_results=True,
    carries_functions=True,
)

STRUCTURES[scan_primitive] = lambda equation: Repetition(
    equation.params["program"],
    equation.params["length"],
    equation.params["reverse"],
    equation.params["const_count"],
    equation.params["carry_count"],
)


def _narrowed(equation: Equation, wanted: set[Variable]) -> Equation:
    """The loop without outputs that nobody wants, and without carried values on which nothing wanted depends, such as a
    counter that nobody looks at."""
    params = equation.params
    program, const_count, carry_count = (params[x] for x in ("program", "const_count", "carry_count"))
    flags = [x in wanted for x in equation.results]
    inputs = program.inputs[const_count : const_count + carry_count]

    def after(carried: tuple[bool, ...]) -> list[bool]:
        read = _read_for(program, [*carried, *flags[carry_count:]])
        return [x in read for x in inputs]

    carried = settle(after, tuple(flags[:carry_count]), 0, carry_count)
    flags = (*carried, *flags[carry_count:])

    def make() -> tuple[Program, list[bool]]:
        read = _read_for(program, flags)
        kept = [x in read for x in program.inputs]
        kept[const_count : const_count + carry_count] = carried
        outputs = [x for x, flag in zip(program.outputs, flags, strict=True) if flag]
        equations = needed(program.equations, outputs, effects=True)
        inputs = [x for x, flag in zip(program.inputs, kept, strict=True) if flag]
        return Program(inputs, equations, outputs, program.name), kept

    narrow, kept = program.derived(("narrowed", const_count, carry_count, flags), make)
    return Equation(
        equation.primitive,
        [x for x, flag in zip(equation.operands, kept, strict=True) if flag],
        {**params, "program": narrow, "const_count": sum(kept[:const_count]), "carry_count": sum(carried)},
        [x for x, flag in zip(equation.results, flags, strict=True) if flag],
        equation.source,
    )


def _read_for(program: Program, flags: Sequence[bool]) -> set[Any]:
    """What is read to compute the flagged outputs of a Program, and to have its effects."""
    outputs = [x for x, flag in zip(program.outputs, flags, strict=True) if flag]
    equations = needed(program.equations, outputs, effects=True)
    return {x for x in [*outputs, *(x for e in equations for x in e.operands)] if type(x) is Variable}


NARROWED[scan_primitive] = _narrowed


def _length(inputs: Sequence[Array], structure: Any, length: Any, transform: str) -> int:
    """The number of steps: the length of all inputs, and `length` where that is given."""
    names = [f"xs{leaf_path(structure, i)}" for i in range(len(inputs))]
    found, of = None, "length"
    if length is not None:
        try:
            found = int(length)
        except TypeError:
            found = -1
        if found < 0:
            raise ArgumentError(f"{transform} got length={length!r}; it is a Python integer that is not negative.")
    for x, name in zip(inputs, names, strict=True):
        if not x.shape:
            raise ShapeError(
                f"{transform} goes along the first axis of its inputs, and {name} is a scalar; give it an axis, or let "
                "the function use the scalar from outside."
            )
        if found is None:
            found, of = x.shape[0], name
        if x.shape[0] != found:
            raise ShapeError(
                f"{transform} got {found} steps from {of}, but {name} has shape {x.shape}; the first axes of all "
                "inputs must have one length."
            )
    if found is None:
        raise ArgumentError(f"{transform} cannot know how many steps to take; give it inputs, or length.")
    return found


def scan_flat(
    step: Callable[..., tuple[Sequence[Array], Sequence[Array]]],
    carry: Sequence[Array],
    inputs: Sequence[Array],
    length: int,
    *,
    reverse: bool = False,
    unroll: int | bool = 1,
    transform: str = "scan",
    name: str = "step",
    where: Callable[[int], str] = str,
) -> tuple[list[Array], list[Array]]:
    """`scan` on flat lists: `step(carry, inputs)` gives the next carried values and the outputs of one step.

    `transform`, `name` and `where`, which gives the place of a carried value, are for messages.
    """
    slices = [AbstractArray(x.shape[1:], x.dtype) for x in inputs]
    program, captured, carry = trace_step(step, carry, slices, transform, name, where)
    unroll = max(1, length if unroll is True else int(unroll))
    params: dict[str, Any] = {"length": length, "const_count": len(captured), "carry_count": len(carry)}
    results = scan_primitive(*captured, *carry, *inputs, program=program, reverse=reverse, unroll=unroll, **params)
    after, outputs = parts(results, len(carry))
    return weak_again(after, [x.aval for x in program.inputs[len(captured) :][: len(carry)]]), list(outputs)


def scan(
    f: Callable,
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
) -> tuple[Any, Any]:
    """A loop that carries a value along: `carry, y = f(carry, x)` for each `x` of `xs`.

    It is traced once, however many steps there are, and has all derivatives.

    Arguments:
        f: a function from the carried value and a slice of `xs` to a pair: the next carried value, of the same
            structure, shapes and dtypes, and an output, any pytree or None.
        init: the carried value before the first step: an array or pytree.
        xs: arrays that are sliced along their first axes, as a pytree; None to only repeat.
        length: the number of steps; needed only without `xs`.
        reverse: whether to begin with the last slice. Outputs stand where their inputs stand.
        unroll: how many steps a compiler may write out.

    Returns:
        The carried value after the last step, and the outputs, stacked along a new first axis.

    Raises:
        ShapeError: if the first axes of `xs` differ in length.
        ShapeError, DtypeError, TreeError: if `f` returns a carried value of another type than it gets.
        ArgumentError: if `f` does not return a pair, or the number of steps is not known.

    Example:
        >>> import funcgrad as fg
        >>> fg.lax.scan(lambda total, x: (total + x, total), 0.0, fg.array([1.0, 2.0, 3.0]))
        (Array(6., dtype=float32), Array([0., 1., 3.], dtype=float32))
    """
    if not callable(f):
        raise ArgumentTypeError(f"scan needs a function of a carried value and an input, and got {type(f).__name__}.")
    carry, structure = tree.flatten(init)
    carry = as_arrays(carry, structure, "scan", lambda i: f"init{leaf_path(structure, i)}")
    inputs, in_structure = tree.flatten(xs)
    inputs = as_arrays(inputs, in_structure, "scan", lambda i: f"xs{leaf_path(in_structure, i)}")
    name = name_of(f)
    out_structure: Any = None

    def step(carry, inputs):
        nonlocal out_structure
        output = f(tree.unflatten(structure, carry), tree.unflatten(in_structure, inputs))
        if not isinstance(output, (tuple, list)) or len(output) != 2:
            raise ArgumentError(
                f"scan needs a function that returns a pair (carry, output), and {name} returned "
                f"{type(output).__name__}; return (carry, None) if there is no output."
            )
        tree.check_same_structure(structure, output[0], what=f"the carried value that {name} returned to scan")
        outputs, out_structure, _ = unwrap_outputs(output[1], False, "scan")
        return unwrap_outputs(output[0], False, "scan")[0], outputs

    steps = _length(inputs, in_structure, length, "scan")
    after, outputs = scan_flat(
        step,
        carry,
        inputs,
        steps,
        reverse=reverse,
        unroll=unroll,
        name=name,
        where=lambda i: leaf_path(structure, i),
    )
    return tree.unflatten(structure, after), tree.unflatten(out_structure, outputs)


def map(f: Callable, xs: Any, *, batch_size: int | None = None) -> Any:
    """`f(x)` for each `x` of `xs`, one after the other: like `vmap`, with the memory of one example at a time.

    Arguments:
        f: a function of a slice of `xs`.
        xs: arrays that are sliced along their first axes, as a pytree.
        batch_size: how many slices to take at once, by `vmap`; the last batch may be smaller.

    Returns:
        The results, stacked along a new first axis.

    Raises:
        ShapeError: if the first axes of `xs` differ in length.
        ArgumentError: if there are no arrays in `xs`, or `batch_size` is not positive.

    Example:
        >>> import funcgrad as fg
        >>> fg.lax.map(lambda x: x.sum(), fg.array([[1.0, 2.0], [3.0, 4.0]]))
        Array([3., 7.], dtype=float32)
    """
    if batch_size is None:
        return scan(lambda _, x: ((), f(x)), (), xs)[1]
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ArgumentError(f"map got batch_size={batch_size!r}; it is a Python integer and at least 1.")
    leaves, structure = tree.flatten(xs)
    leaves = as_arrays(leaves, structure, "map")
    length = _length(leaves, structure, None, "map")
    whole = length - length % batch_size
    results = []
    if whole or not length:
        shape = (length // batch_size, batch_size)
        chunks = [reshape(slice_axis(x, 0, whole, 0), shape=(*shape, *x.shape[1:])) for x in leaves]
        found = map(vmap(f), tree.unflatten(structure, chunks))
        results.append(tree.map(lambda y: reshape(y, shape=(whole, *y.shape[2:])), found))
    if whole < length:
        rest = [slice_axis(x, whole, length, 0) for x in leaves]
        results.append(vmap(f)(tree.unflatten(structure, rest)))
    return results[0] if len(results) == 1 else tree.map(lambda *ys: concatenate(*ys, axis=0), *results)
