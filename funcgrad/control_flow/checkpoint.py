"""`checkpoint`: compute again on the way back what would take memory to keep.

Reverse mode keeps, from every operation of the forward pass, the values that its derivative needs. A checkpointed
function keeps its arguments instead, and what its policy says; the rest is computed once more when the derivative is
wanted. What is computed again, and the linear part that uses it, are one operation on the way back.

Source: Chen, Xu, Zhang and Guestrin, Training Deep Nets with Sublinear Memory Cost (2016),
https://arxiv.org/abs/1604.06174.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, wraps
from typing import Any

from funcgrad import tree
from funcgrad.array import AbstractArray, Array, as_array
from funcgrad.compiler import IDENTITIES, STRUCTURES, Repetition, compile_program
from funcgrad.control_flow.bodies import (
    given,
    name_of,
    needed,
    parts,
    some,
)
from funcgrad.core import Primitive, current_interpreter, ground
from funcgrad.errors import ArgumentError
from funcgrad.primitives.elementwise import is_linear
from funcgrad.primitives.shapes import linear_jvp
from funcgrad.program import Program, Variable, stage, stage_closed
from funcgrad.transforms.arguments import as_arrays, name_leaf, normalize_positions, spread, unwrap_outputs, weak_again
from funcgrad.transforms.grad import linearize_program, transpose_program
from funcgrad.transforms.jit import call
from funcgrad.transforms.jvp import jvp_program
from funcgrad.transforms.vmap import batch_program


def _evaluate(*buffers, program, compiler="default", **params):
    return compile_program(program, compiler)(*buffers)


def _jvp(primals, tangents, *, program, **params):
    derivative, has_tangent = jvp_program(program, given(tangents))
    results = checkpoint_primitive(*primals, *some(tangents), program=derivative, **params)
    results, moved = parts(results, len(program.outputs))
    return results, spread(moved, has_tangent)


class _Split:
    """The derivative of a checkpointed Program.

    Attributes:
        first: from the inputs to the outputs and the values that are saved.
        again: from some of the inputs, at the positions `used`, the saved values and the tangents to the tangents of
            the outputs: computes once more what was not saved.
        has_tangent: which outputs have a tangent.
    """

    def __init__(self, program: Program, active: tuple[bool, ...], policy: Callable[..., bool] | None):
        forward, linear, self.has_tangent = linearize_program(_without_calls(program), active)
        outputs, residuals = parts(forward.outputs, len(program.outputs))
        saveable = {
            x
            for e in forward.equations
            if e.has_effects or (policy is not None and policy(e.primitive, *_avals(e.operands), **e.params))
            for x in e.results
        }
        repeated = needed(forward.equations, residuals, saveable)
        read = {x for e in repeated for x in e.operands if type(x) is Variable}.union(residuals)
        saved = [x for e in forward.equations for x in e.results if x in saveable and x in read]
        self.used = [i for i, x in enumerate(forward.inputs) if x in read]
        kept = [*outputs, *saved]
        self.first = Program(forward.inputs, needed(forward.equations, kept, effects=True), kept, program.name)

        inputs = [*(forward.inputs[i] for i in self.used), *saved]
        recompute = Program(inputs, repeated, residuals)

        def function(*arguments):
            known, tangents = parts(arguments, len(inputs))
            return linear(*recompute(*known), *tangents)

        avals = [*(x.aval for x in inputs), *linear.in_avals[len(residuals) :]]
        self.again = stage(function, avals, f"again_{program.name}")


def _avals(operands: Sequence[Any]) -> list[AbstractArray]:
    return [x.aval for x in operands]


def _without_calls(program: Program) -> Program:
    """The Program with jitted functions written out, so that a policy sees what is inside of them."""
    if not any(e.primitive is call for e in program.equations):
        return program
    return program.derived("without calls", lambda: stage(partial(_run, program), program.in_avals, program.name))


def _run(program: Program, *arguments: Array) -> list[Array]:
    values: dict[Any, Any] = dict(zip(program.inputs, arguments, strict=True))
    for e in program.equations:
        operands = [values[x] if type(x) is Variable else x for x in e.operands]
        results = _run(e.params["program"], *operands) if e.primitive is call else e.primitive(*operands, **e.params)
        values.update(zip(e.results, results if e.primitive.multiple_results else [results], strict=True))
    return [values[x] if type(x) is Variable else x for x in program.outputs]


def _linearize(primals, tangents, *, program, policy, **params):
    active = given(tangents)
    split = program.derived(("checkpoint", policy, active), lambda: _Split(program, active, policy))
    results = checkpoint_primitive(*primals, program=split.first, policy=policy, **params)
    results, saved = parts(results, len(program.outputs))
    if not any(split.has_tangent):
        return results, [None] * len(results)
    known = [*(primals[i] for i in split.used), *saved]
    moved = checkpoint_primitive(*known, *some(tangents), program=split.again, policy=policy, **params)
    return results, spread(moved, split.has_tangent)


def _transpose(cotangents, *operands, program, **params):
    linear = tuple(map(is_linear, operands))
    transposed, nonzero = transpose_program(program, linear, given(cotangents))
    known = [x for x in operands if not is_linear(x)]
    results = checkpoint_primitive(*known, *some(cotangents), program=transposed, **params)
    return spread(spread(results, nonzero), linear)


def _batch(size, operands, axes, *, program, axis_name, **params):
    batched, out_axes = batch_program(program, size, tuple(axes), axis_name)
    return checkpoint_primitive(*operands, program=batched, **params), out_axes


checkpoint_primitive = Primitive(
    "checkpoint",
    abstract=lambda *operands, program, **params: list(program.out_avals),
    evaluate=_evaluate,
    jvp=_jvp,
    linearize=_linearize,
    transpose=_transpose,
    batch=_batch,
    multiple_results=True,
    carries_functions=True,
)

name_primitive = Primitive(
    "checkpoint_name",
    abstract=lambda x, *, name: x.aval,
    evaluate=lambda x, *, name: x,
    transpose=lambda cotangent, x, *, name: [name_primitive(cotangent, name=name)],
    batch=lambda size, operands, axes, *, name: (name_primitive(*operands, name=name), axes[0]),
    keeps_weak_type=True,
)
name_primitive.jvp = linear_jvp(name_primitive)

# As a loop of one step, what is computed again is not found to be known from before.
STRUCTURES[checkpoint_primitive] = lambda equation: Repetition(
    equation.params["program"], 1, False, len(equation.operands), 0
)
IDENTITIES.add(name_primitive)


def checkpoint(
    fun: Callable | None = None,
    *,
    prevent_cse: bool = True,
    policy: Callable[..., bool] | None = None,
    static_argnums: int | Sequence[int] = (),
) -> Any:
    """A function like `fun`, whose gradient computes again what it would otherwise have kept in memory.

    Arguments:
        fun: a function of arrays or pytrees. Without it, gives a decorator.
        prevent_cse: whether a compiler has to compute again what it may know already; without that, memory may not be
            saved.
        policy: which values to keep: one of `fg.checkpoint_policies`, or a function of a primitive, the shapes and
            dtypes of its operands and its params, that says whether its results are kept. By default nothing is.
        static_argnums: positions of arguments that are Python values.

    Returns:
        The function. Nothing but its derivatives in reverse mode changes.

    Raises:
        ArgumentTypeError: if an argument is neither an array nor a registered pytree.

    Example:
        >>> import funcgrad as fg
        >>> @fg.checkpoint
        ... def layer(x):
        ...     return fg.numpy.sin(fg.numpy.sin(x))
        >>> fg.grad(layer)(fg.array(0.0))
        Array(1., dtype=float32)
    """
    if fun is None:
        return partial(checkpoint, prevent_cse=prevent_cse, policy=policy, static_argnums=static_argnums)
    if not callable(fun) or (policy is not None and not callable(policy)):
        raise ArgumentError(f"checkpoint needs functions, and got fun={fun!r} and policy={policy!r}.")
    function = fun

    @wraps(function)
    def checkpointed(*args: Any, **kwargs: Any) -> Any:
        if current_interpreter() is ground:
            return function(*args, **kwargs)
        static = normalize_positions(static_argnums, len(args), "static_argnums")
        positions = [i for i in range(len(args)) if i not in static]
        dynamic = tuple(args[i] for i in positions)
        flat, structure = tree.flatten((dynamic, kwargs))
        flat = as_arrays(
            flat, structure, "checkpoint", lambda index: name_leaf(function, dynamic, kwargs, index, positions)
        )
        out_structure: Any = None

        def traced(*arguments):
            nonlocal out_structure
            given_here, named = tree.unflatten(structure, arguments)
            merged = list(args)
            for position, x in zip(positions, given_here, strict=True):
                merged[position] = x
            outputs, out_structure, _ = unwrap_outputs(function(*merged, **named), False, "checkpoint")
            return outputs

        program, captured = stage_closed(traced, [x.aval for x in flat], name_of(function), "checkpoint")
        results = checkpoint_primitive(*captured, *flat, program=program, policy=policy, prevent_cse=prevent_cse)
        return tree.unflatten(out_structure, weak_again(results, program.out_avals))

    return checkpointed


def checkpoint_name(x: Any, name: str) -> Any:
    """`x` itself, under a name that policies of `checkpoint` may refer to.

    Arguments:
        x: an array or pytree.
        name: any text.

    Example:
        >>> import funcgrad as fg
        >>> policy = fg.checkpoint_policies.save_only_these_names("hidden")
        >>> @fg.checkpoint(policy=policy)
        ... def f(x):
        ...     return fg.numpy.sin(fg.checkpoint_name(fg.numpy.exp(x), "hidden"))
        >>> fg.grad(f)(fg.array(0.0)).shape
        ()
    """
    return tree.map(lambda leaf: name_primitive(as_array(leaf), name=name), x)
