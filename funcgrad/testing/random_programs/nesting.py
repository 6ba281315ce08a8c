"""Operations that carry Programs, which are random again: calls, branches and loops; and callbacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy

from funcgrad import dtypes
from funcgrad.array import AbstractArray
from funcgrad.control_flow.callbacks import io_callback_primitive, pure_callback_primitive
from funcgrad.control_flow.checkpoint import checkpoint_primitive
from funcgrad.control_flow.cond import cond_primitive
from funcgrad.control_flow.debug import debug_callback_primitive
from funcgrad.control_flow.loops import while_primitive
from funcgrad.control_flow.scan import scan_primitive
from funcgrad.core import Primitive
from funcgrad.primitives import elementwise as ew
from funcgrad.primitives.reductions import reduce_xor
from funcgrad.primitives.shapes import reduce_sum
from funcgrad.program import Program, Variable
from funcgrad.testing.random_programs.builder import ANY, INTEGERS, Builder
from funcgrad.transforms.custom_derivatives import custom_jvp_call, custom_vjp_call
from funcgrad.transforms.jit import call


def no_derivative(*arguments: Any) -> Any:
    """The derivative rule of functions that are only run."""
    raise AssertionError("nothing is differentiated here")


def _filled(b: Builder, grow: Callable[[Builder], None]) -> list[Any]:
    """Let a Program grow; gives some of its values, to return."""
    grow(b)
    if not b.atoms:
        b.input((), dtypes.float32)
    return [b.recent(b.atoms) for _ in range(b.choices.integer(1, 3))]


def _operands(b: Builder, inner: Program) -> list[Any]:
    """Values of the Program around it for the inputs of another."""
    return [b.value(x.shape, x.dtype, fresh=20) for x in inner.inputs]


def _body(b: Builder, grow: Callable[[Builder], None], name: str) -> Program:
    inner = b.inner()
    return inner.program(_filled(inner, grow), name)


def called(b: Builder, grow: Callable[[Builder], None]) -> None:
    """A jitted function, or one with a derivative of its own, or one that is computed again on the way back."""
    program = _body(b, grow, "inner")
    operands, avals = _operands(b, program), list(program.out_avals)
    kinds: list[tuple[Primitive, dict[str, Any]]] = [
        (call, {"program": program}),
        (call, {"program": program}),
        (checkpoint_primitive, {"program": program, "policy": None, "prevent_cse": True}),
        (custom_jvp_call, {"function": program, "rule": no_derivative, "captured": 0, "name": "inner"}),
        (
            custom_vjp_call,
            {
                "function": program,
                "forward": no_derivative,
                "backward": no_derivative,
                "captured": 0,
                "name": "inner",
            },
        ),
    ]
    primitive, params = b.choices.pick(kinds)
    b.record(primitive, operands, params, avals)


def branch(b: Builder, grow: Callable[[Builder], None]) -> None:
    """Two or three branches that agree in the types of their results."""
    count = b.choices.integer(2, 3)
    first = b.inner()
    outputs = [_filled(first, grow)]
    builders = [first]
    for _ in range(count - 1):
        other = b.inner()
        grow(other)
        outputs.append([other.value(x.shape, x.dtype, fresh=10) for x in outputs[0]])
        builders.append(other)
    programs, operands = [], []
    for number, builder in enumerate(builders):
        own = [
            builder.inputs if place == number else [Variable(x.aval) for x in other.inputs]
            for place, other in enumerate(builders)
        ]
        inputs = [x for group in own for x in group]
        programs.append(Program(inputs, builder.equations, outputs[number], f"branch{number}"))
    operands = _operands(b, programs[0])
    index = b.operand(INTEGERS, lambda x: x.shape == (), most=0)
    index = b.add(ew.convert, b.clamped(index, 0, count - 1), dtype=dtypes.int32)
    b.add(cond_primitive, index, *operands, branches=tuple(programs))


def _step(b: Builder, grow: Callable[[Builder], None]) -> tuple[Builder, list[Variable], list[Any]]:
    """One step of a loop: its builder, what it carries, and what that becomes."""
    inner = b.inner()
    grow(inner)
    carried = list(inner.inputs[: b.choices.pick((0, 1, 1, 2, 2))])
    return inner, carried, [_advanced(inner, x) for x in carried]


def _advanced(inner: Builder, x: Variable) -> Any:
    """What a carried value becomes in a step: a result of its type, or itself together with something else."""
    results = [y for e in inner.equations for y in e.results if y.shape == x.shape and y.dtype is x.dtype]
    if results and inner.choices.chance(50):
        return inner.recent(results)
    others = [y for y in inner.atoms if y is not x and (y.dtype.kind != "c" or x.dtype.kind == "c")]
    if not others or inner.choices.chance(10):
        return inner.value(x.shape, x.dtype, fresh=5)
    other = inner.recent(others)
    if other.dtype is not x.dtype:
        other = inner.add(ew.convert, other, dtype=x.dtype)
    reduce, combine = (reduce_xor, ew.xor) if x.dtype.kind == "b" else (reduce_sum, ew.add)
    if inner.choices.chance(30) and x.dtype.kind != "b":
        x = inner.add(ew.mul, x, inner.number(x.dtype, inner.choices.pick((2.0, 0.5))))
    return inner.add(combine, x, inner.add(reduce, other, axes=tuple(range(len(other.shape)))))


def repeated(b: Builder, grow: Callable[[Builder], None]) -> None:
    """A while loop that ends after a few steps at the latest."""
    limit = b.choices.integer(0, 4)
    body, carried, after = _step(b, grow)
    counter = Variable(AbstractArray((), dtypes.int32))
    counted = body.add(ew.add, counter, body.number(dtypes.int32, 1))
    constants = [x for x in body.inputs if x not in carried]
    step = Program([*constants, counter, *carried], body.equations, [counted, *after], "body")

    test = Builder(b.choices, 0, b.lengths)
    seen = [Variable(x.aval) for x in carried]
    test.atoms += seen
    going = test.add(ew.lt, counter, test.number(dtypes.int32, limit))
    scalars = [x for x in seen if x.shape == () and x.dtype.kind in "fiu"]
    if scalars and b.choices.chance(50):
        x = test.recent(scalars)
        going = test.add(ew.and_, going, test.add(ew.lt, x, test.value((), x.dtype)))
    condition = Program([*test.inputs, counter, *seen], test.equations, [going], "condition")
    operands = [b.value(x.shape, x.dtype, fresh=20) for x in (*test.inputs, *constants)]
    start = [b.number(dtypes.int32, 0), *(b.value(x.shape, x.dtype, fresh=20) for x in carried)]
    b.add(
        while_primitive,
        *operands,
        *start,
        condition=condition,
        body=step,
        condition_count=len(test.inputs),
        body_count=len(constants),
        where=None,
    )


def scanned(b: Builder, grow: Callable[[Builder], None]) -> None:
    """A loop over slices of some of its inputs."""
    inner, carried, after = _step(b, grow)
    length = b.choices.pick((0, 1, 2, 3, 4))
    rest = [x for x in inner.inputs if x not in carried]
    sliced = [x for x in rest if b.choices.chance(60) and len(x.shape) < 4]
    constants = [x for x in rest if x not in sliced]
    outputs = [inner.recent(inner.atoms) for _ in range(b.choices.integer(0, 2))] if inner.atoms else []
    step = Program([*constants, *carried, *sliced], inner.equations, [*after, *outputs], "step")
    operands = [b.value(x.shape, x.dtype, fresh=20) for x in (*constants, *carried)]
    operands += [b.value((length, *x.shape), x.dtype, fresh=30) for x in sliced]
    b.add(
        scan_primitive,
        *operands,
        program=step,
        length=length,
        reverse=b.choices.chance(40),
        const_count=len(constants),
        carry_count=len(carried),
        unroll=b.choices.pick((1, 1, 2, 4)),
    )


class HostCall:
    """What a callback calls: it gives its operands back, each upside down, and notes that it was called."""

    def __init__(self, name: str, effects: list[str] | None):
        self.__name__, self.effects = name, effects

    def __call__(self, *arguments: Any) -> list[numpy.ndarray]:
        if self.effects is not None:
            self.effects.append(self.__name__)
        buffers: Sequence[Any] = arguments[0] if arguments and not hasattr(arguments[0], "shape") else arguments
        return [numpy.array(x[::-1] if x.ndim else x) for x in buffers]


def called_back(b: Builder, grow: Callable[[Builder], None]) -> None:
    """A call of a Python function."""
    operands = [b.operand(ANY) for _ in range(b.choices.integer(1, 2))]
    results = tuple(AbstractArray(x.shape, x.dtype) for x in operands)
    name = f"host{len(b.equations)}_{b.depth}"
    kind = b.choices.integer(0, 2)
    if kind == 0:
        b.add(
            pure_callback_primitive,
            *operands,
            function=HostCall(name, None),
            results=results,
            vmap_method="sequential",
        )
    elif kind == 1:
        b.add(io_callback_primitive, *operands, function=HostCall(name, b.effects), results=results)
    else:
        b.add(debug_callback_primitive, *operands, function=HostCall(name, b.effects))


NESTING: dict[Callable[..., None], tuple[Primitive, ...]] = {
    called: (call, checkpoint_primitive, custom_jvp_call, custom_vjp_call),
    branch: (cond_primitive,),
    repeated: (while_primitive,),
    scanned: (scan_primitive,),
    called_back: (pure_callback_primitive, io_callback_primitive, debug_callback_primitive),
}
