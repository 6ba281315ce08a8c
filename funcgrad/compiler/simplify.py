"""simplify: the same Program in fewer equations.

A function from data to data. It reads a Program from top to bottom and writes a new one, and each equation meets the
same questions on its way:

1. *Does it only call another Program?* Then that Program's equations are written in its place.
2. *Is there something simpler that it equals?* The table `RULES` knows: `x * 1` is `x`, the transpose of a transpose is
   one transpose, and so on.
3. *Was it computed before?* Then the result of then is used again.
4. *Are all of its operands constants?* Then it is computed now, once.

At the end, what no result depends on is left out.

Every rewrite is exact: the new Program gives the old one's results, bit for bit. So `x + 0.0` stays, since it turns
-0.0 into 0.0, `x * 0.0` stays, since it could be NaN, and no sum is regrouped. NumPy even rounds sums and matrix
products by how their operands lie in memory. A rule may therefore replace a value only by one that lies in memory as it
does, which is what `Simplifier.lies_like` tells.

Derivatives are lost (`stop_gradient` is just `x`): a Program is simplified after all transforms, to be run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy

from funcgrad.array import AbstractArray, ConcreteArray, wrap
from funcgrad.compiler.execute import called_program
from funcgrad.compiler.structures import NARROWED
from funcgrad.core import Primitive
from funcgrad.errors import SourceLine
from funcgrad.primitives import elementwise as ew
from funcgrad.primitives import reductions
from funcgrad.primitives.contraction import dot_general
from funcgrad.primitives.movement import concatenate, dynamic_slice, pad, rev, slice_
from funcgrad.primitives.randomness import threefry2x32
from funcgrad.primitives.shapes import broadcast_in_dim, reduce_sum, reshape, transpose
from funcgrad.program import Equation, Program, Variable

MOST_ELEMENTS = 4096
"""Constants of more elements are computed when the Program runs: keeping them costs more than it saves."""

Rule = Callable[[Equation, "Simplifier"], Any]
"""Takes an equation; gives the value that it equals, or a simpler equation for it (without results), or None."""


def simplified(program: Program) -> Program:
    """The Program in fewer equations; made once and kept with the Program."""
    return program.derived("simplified", lambda: simplify(program))


def simplify(program: Program) -> Program:
    """The same Program in fewer equations: see the head of this file.

    Arguments:
        program: any Program. It is not changed.

    Returns:
        A Program with the same inputs that gives the same results, bit for bit.

    Example:
        >>> import funcgrad as fg
        >>> from funcgrad.compiler import simplify
        >>> program = fg.make_program(lambda x: fg.numpy.sin(x) * 1 + fg.numpy.sin(x))(fg.array(1.0))
        >>> [equation.primitive.name for equation in program.equations]
        ['sin', 'mul', 'sin', 'add']
        >>> [equation.primitive.name for equation in simplify(program).equations]
        ['sin', 'add']
    """
    simplifier = Simplifier()
    outputs = simplifier.write(program, program.inputs, None)
    return Program(program.inputs, simplifier.needed_for(outputs), outputs, program.name)


# How the buffer of a value lies in memory.
LOOSE = 0  # with gaps or repetitions, as a slice does; or nobody knows
DENSE = 1  # without, its axes in some order
ORDERED = 2  # without, and row by row


class Simplifier:
    """The new Program while it is written, and what is known about it."""

    def __init__(self):
        self.equations: list[Equation] = []
        self.definition: dict[Variable, Equation] = {}
        self.layouts: dict[Variable, int] = {}
        self.computed: dict[Hashable, tuple[Sequence[Any], Equation]] = {}

    def write(self, program: Program, arguments: Sequence[Any], source: SourceLine | None) -> list[Any]:
        """Write what `program` does to `arguments`; gives what stands for its outputs. `source` is the line that calls
        it."""
        values: dict[Any, Any] = dict(zip(program.inputs, arguments, strict=True))
        for equation in program.equations:
            operands = [values[x] if type(x) is Variable else x for x in equation.operands]
            line = equation.source or source
            called = called_program(equation)
            if called is not None and "compiler" not in equation.params:  # who chose a compiler gets that one
                results = self.write(called, operands, line)
            else:
                results = self.add(Equation(equation.primitive, operands, equation.params, equation.results, line))
            values.update(zip(equation.results, results, strict=True))
        return [values[x] if type(x) is Variable else x for x in program.outputs]

    def add(self, equation: Equation) -> Sequence[Any]:
        """Write one equation, or something simpler; gives what stands for its results."""
        simpler = self.rewrite(equation)
        if not isinstance(simpler, Equation):
            return (simpler,)
        equation = simpler
        key = identity_of(equation)
        if key is not None and key in self.computed:
            return self.computed[key][0]
        results = None if key is None else constant_results(equation)
        if results is None:
            results = self.emit(equation)
        if key is not None:
            # The equation is kept along, so that an object that the key knows by its id stays alive.
            self.computed[key] = results, equation
        return results

    def rewrite(self, equation: Equation) -> Any:
        """Apply rules as long as one applies. Each looks further back in the Program, so they come to an end."""
        for rule in RULES.get(equation.primitive, ()):
            simpler = rule(equation, self)
            if isinstance(simpler, Equation):
                stated, source = equation.results, equation.source
                return self.rewrite(Equation(simpler.primitive, simpler.operands, simpler.params, stated, source))
            if simpler is not None:
                return simpler
        return equation

    def emit(self, equation: Equation) -> tuple[Variable, ...]:
        """Write an equation as it is, with variables of its own for its results."""
        results = tuple([Variable(x) for x in equation.results])
        for x in results:
            x.weak_type = weakness(equation, x)
        written = Equation(equation.primitive, equation.operands, equation.params, results, equation.source)
        self.equations.append(written)
        layout = self.layout_after(equation)
        for x in results:
            self.definition[x] = written
            self.layouts[x] = layout
        return results

    def needed_for(self, outputs: Sequence[Any]) -> list[Equation]:
        """The equations on which the outputs depend, and those with effects."""
        needed = {x for x in outputs if type(x) is Variable}
        kept = []
        for equation in reversed(self.equations):
            if any(x in needed for x in equation.results) or equation.has_effects:
                narrowed = NARROWED.get(equation.primitive)
                if narrowed is not None and not needed.issuperset(equation.results):
                    equation = narrowed(equation, needed)
                needed.update(x for x in equation.operands if type(x) is Variable)
                kept.append(equation)
        kept.reverse()
        return kept

    # Questions that rules ask

    def producer(self, x: Any, primitive: Primitive) -> Equation | None:
        """The equation that computes `x`, if it applies `primitive`."""
        found = self.definition.get(x) if type(x) is Variable else None
        return found if found is not None and found.primitive is primitive else None

    def before_broadcast(self, x: Any) -> Any:
        """What `x` was before it was given a shape that broadcasting, which aligns axes at the end, would have given it
        by itself; None if that is not how `x` was made."""
        if type(x) is not Variable:
            number = uniform_number(x) if x.shape else None
            return None if number is None else wrap(number)
        inner = self.definition.get(x)
        if inner is None:
            return None
        if inner.primitive is broadcast_in_dim:
            (smaller,) = inner.operands
            return smaller if inner.params["axes"] == tuple(range(x.ndim - smaller.ndim, x.ndim)) else None
        if inner.primitive is reshape:
            (smaller,) = inner.operands
            added = x.ndim - smaller.ndim
            return smaller if added > 0 and x.shape == (*(1,) * added, *smaller.shape) else None
        return None

    def layout(self, x: Any) -> int:
        if not x.shape:
            return ORDERED
        if type(x) is Variable:
            return self.layouts.get(x, ORDERED)  # an argument: nobody knows better before the Program runs
        flags = getattr(getattr(x, "_data", None), "flags", None)
        return ORDERED if flags is not None and flags.c_contiguous else LOOSE

    def layout_after(self, equation: Equation) -> int:
        lowest = min(map(self.layout, equation.operands), default=LOOSE)
        if equation.primitive is transpose:
            return min(lowest, DENSE)
        if equation.primitive is reshape:
            return lowest
        if equation.primitive is dot_general:
            return DENSE
        if equation.primitive in (pad, concatenate):
            return ORDERED
        if type(equation.primitive.evaluate) is numpy.ufunc or equation.primitive in WRITES_NEW_MEMORY:
            return ORDERED if lowest == ORDERED else DENSE  # the axes stand in the order of the operands'
        return LOOSE

    def lies_like(self, x: Any, equation: Equation) -> bool:
        """Whether `x` has the shape, dtype and place of elements in memory that the result of the equation, an
        elementwise function of `x` and others, has in new memory."""
        (result,) = equation.results
        if x.shape != result.shape or x.dtype is not result.dtype:
            return False
        alone = all(other is x or not other.shape for other in equation.operands)
        return self.layout(x) >= (DENSE if alone else ORDERED)


# Ufuncs write into new memory, and so do these.
WRITES_NEW_MEMORY = frozenset(
    [ew.div, ew.rem, ew.logistic, ew.rsqrt, ew.select, ew.convert, ew.convert_weak]
    + [reduce_sum, reductions.reduce_prod, reductions.reduce_max, reductions.reduce_min]
)


def weakness(equation: Equation, result: Any) -> bool:
    """Whether a result is weak, which may have changed with the operands."""
    return all(x.weak_type for x in equation.operands) if equation.primitive.keeps_weak_type else result.weak_type


# 3. Was it computed before?


def identity_of(equation: Equation) -> Hashable | None:
    """A key that two equations share only if they compute the same.

    None for those that have effects or carry a Python function, which are neither merged nor computed ahead.
    """
    if equation.has_effects:
        return None
    try:
        operands = [x if type(x) is Variable else identity_of_constant(x) for x in equation.operands]
        params = [(name, identity_of_param(value)) for name, value in equation.params.items()]
    except CarriesPython:
        return None
    return equation.primitive, tuple(operands), tuple(params)


class CarriesPython(Exception):
    """There is a Python function among the parameters of an equation."""


def identity_of_constant(x: Any) -> Hashable:
    """Numbers by their bits, since 0.0 == -0.0 and NaN != NaN; arrays by being the same object."""
    if x.shape or not isinstance(x, ConcreteArray) or type(x._data) is not numpy.ndarray:
        return id(x)
    return x.dtype, x._data.tobytes()


def identity_of_param(value: Any) -> Hashable:
    """Python values with their types, since 1 == 1.0 == True; objects by being the same object."""
    kind = type(value)
    if kind is int or kind is bool or kind is str or value is None:
        return kind, value
    if kind is tuple or kind is list:
        return kind, *[identity_of_param(x) for x in value]
    if kind is float or kind is complex:
        return kind, repr(value)
    if isinstance(value, numpy.dtype):
        return value
    if kind is Program:
        if any(identity_of(equation) is None for equation in value.equations):
            raise CarriesPython
    elif callable(value):
        raise CarriesPython
    return kind, id(value)


# 4. Are all of its operands constants?

COMPUTED_WHEN_RUN = frozenset([threefry2x32])  # random numbers, so that a Program shows where it draws them


def constant_results(equation: Equation) -> list[ConcreteArray] | None:
    """The results of an equation of small constants, computed now; None where that cannot be."""
    if equation.primitive in COMPUTED_WHEN_RUN:
        return None
    for x in equation.operands:
        if not isinstance(x, ConcreteArray) or x.size > MOST_ELEMENTS:
            return None
    if any(math.prod(x.shape) > MOST_ELEMENTS for x in equation.results):
        return None
    try:
        with numpy.errstate(all="ignore"):
            value = equation.primitive.evaluate(*[x._data for x in equation.operands], **equation.params)
    except Exception:  # raised again, with its line, by whoever runs the Program
        return None
    values = value if equation.primitive.multiple_results else [value]
    return [wrap(x, weakness(equation, aval)) for x, aval in zip(values, equation.results, strict=True)]


# 2. The rules


def uniform_number(x: Any) -> numpy.ndarray | None:
    """The number of which all elements of `x` are copies, if it is a constant with one element in memory."""
    data = x._data if isinstance(x, ConcreteArray) else None
    if type(data) is not numpy.ndarray or not data.size or (data.size > 1 and any(data.strides)):
        return None
    return numpy.asarray(data[(0,) * data.ndim])


def is_number(x: Any, value: numpy.ndarray) -> bool:
    """Whether `x` is a constant all of whose elements are `value`, by their bits."""
    number = uniform_number(x)
    return number is not None and number.dtype == value.dtype and number.tobytes() == value.tobytes()


def _neutral(number: Callable[[numpy.dtype], Any], positions: tuple[int, ...], complex_too: bool = False) -> Rule:
    """An operation with a number that changes nothing, at one of these positions, is its other operand."""

    def rule(equation: Equation, simplifier: Simplifier) -> Any:
        for position in positions:
            number_operand, other = equation.operands[position], equation.operands[1 - position]
            if type(number_operand) is Variable or (other.dtype.kind == "c" and not complex_too):
                continue
            value = numpy.asarray(number(other.dtype), other.dtype)
            if is_number(number_operand, value) and simplifier.lies_like(other, equation):
                return other
        return None

    return rule


def _zero(dtype: numpy.dtype) -> Any:
    return numpy.zeros((), dtype)


def _negative_zero(dtype: numpy.dtype) -> Any:
    return numpy.negative(_zero(dtype)) if dtype.kind != "b" else _zero(dtype)


def _one(dtype: numpy.dtype) -> Any:
    return numpy.ones((), dtype)


def _all_bits(dtype: numpy.dtype) -> Any:
    return numpy.invert(_zero(dtype))


def _undoes_itself(equation: Equation, simplifier: Simplifier) -> Any:
    """f(f(x)) is x."""
    inner = simplifier.producer(equation.operands[0], equation.primitive)
    return inner.operands[0] if inner and simplifier.lies_like(inner.operands[0], equation) else None


def _repeats_itself(equation: Equation, simplifier: Simplifier) -> Any:
    """f(f(x)) is f(x)."""
    (x,) = equation.operands
    return x if simplifier.producer(x, equation.primitive) and simplifier.lies_like(x, equation) else None


def _same_operands(equation: Equation, simplifier: Simplifier) -> Any:
    """f(x, x) is x."""
    x, y = equation.operands
    return x if x is y and simplifier.lies_like(x, equation) else None


def _is_its_operand(equation: Equation, simplifier: Simplifier) -> Any:
    return equation.operands[0]


def _first_power(equation: Equation, simplifier: Simplifier) -> Any:
    return equation.operands[0] if equation.params["exponent"] == 1 else None


def _convert_to_same(equation: Equation, simplifier: Simplifier) -> Any:
    (x,) = equation.operands
    return x if simplifier.lies_like(x, equation) else None


def _select_by_constant(equation: Equation, simplifier: Simplifier) -> Any:
    condition, on_true, on_false = equation.operands
    for value, chosen in [(True, on_true), (False, on_false)]:
        if is_number(condition, numpy.asarray(value)) and simplifier.lies_like(chosen, equation):
            return chosen
    return None


def _broadcasts_by_itself(equation: Equation, simplifier: Simplifier) -> Any:
    """NumPy's rule repeats an operand in just the way in which it was repeated before."""
    (result,), operands, found = equation.results, list(equation.operands), False
    for place, x in enumerate(operands):
        smaller = simplifier.before_broadcast(x)
        if smaller is not None:
            others = [y.shape for other, y in enumerate(operands) if other != place]
            if numpy.broadcast_shapes(smaller.shape, *others) == result.shape:
                operands[place], found = smaller, True
    return Equation(equation.primitive, operands, equation.params, ()) if found else None


# Movement of data. NumPy does most of it without copying, so the rewritten one gives the very same view.


def _transpose_of_transpose(equation: Equation, simplifier: Simplifier) -> Any:
    (x,), permutation = equation.operands, tuple(equation.params["permutation"])
    if permutation == tuple(range(len(permutation))):
        return x
    inner = simplifier.producer(x, transpose)
    if inner is None:
        return None
    composed = tuple(inner.params["permutation"][axis] for axis in permutation)
    return Equation(transpose, inner.operands, {"permutation": composed}, ())


def _reduction_of_transposed(equation: Equation, simplifier: Simplifier) -> Any:
    """A reduction can go along other axes instead; there is less to transpose afterwards."""
    inner = simplifier.producer(equation.operands[0], transpose)
    if inner is None:
        return None
    permutation, axes = inner.params["permutation"], equation.params["axes"]
    kept = [permutation[axis] for axis in range(len(permutation)) if axis not in axes]
    reduced = tuple(sorted(permutation[axis] for axis in axes))
    if kept == sorted(kept):
        return Equation(equation.primitive, inner.operands, {**equation.params, "axes": reduced}, ())
    (x,), (result,) = inner.operands, equation.results
    like = Variable(AbstractArray(tuple(x.shape[axis] for axis in sorted(kept)), result.dtype))
    params = {**equation.params, "axes": reduced}
    (smaller,) = simplifier.add(Equation(equation.primitive, (x,), params, (like,), equation.source))
    return Equation(transpose, (smaller,), {"permutation": tuple(map(sorted(kept).index, kept))}, ())


def _reshape_of_reshape(equation: Equation, simplifier: Simplifier) -> Any:
    (x,) = equation.operands
    if tuple(equation.params["shape"]) == tuple(x.shape):
        return x
    inner = simplifier.producer(x, reshape)
    # Of an array that lies in another order the first reshape may be a copy, and the only one not.
    if inner is None or simplifier.layout(inner.operands[0]) != ORDERED:
        return None
    return Equation(reshape, inner.operands, equation.params, ())


def _broadcast_of_broadcast(equation: Equation, simplifier: Simplifier) -> Any:
    (x,), axes = equation.operands, equation.params["axes"]
    if tuple(equation.params["shape"]) == tuple(x.shape):
        return x
    inner = simplifier.producer(x, broadcast_in_dim)
    if inner is None:
        return None
    composed = tuple(axes[axis] for axis in inner.params["axes"])
    return Equation(broadcast_in_dim, inner.operands, {"shape": equation.params["shape"], "axes": composed}, ())


def _reverse_of_reverse(equation: Equation, simplifier: Simplifier) -> Any:
    inner = simplifier.producer(equation.operands[0], rev)
    if inner is None or set(inner.params["axes"]) != set(equation.params["axes"]):
        return None
    return inner.operands[0]


def _slice_of_all(equation: Equation, simplifier: Simplifier) -> Any:
    (x,), (result,) = equation.operands, equation.results
    return x if tuple(x.shape) == tuple(result.shape) and set(equation.params["strides"]) <= {1} else None


def _slice_at_known_place(equation: Equation, simplifier: Simplifier) -> Any:
    """A block whose place is known, as in a loop that Python has unrolled, is a slice."""
    (x, *places), sizes = equation.operands, equation.params["sizes"]
    if any(type(place) is Variable or not isinstance(place, ConcreteArray) for place in places):
        return None
    first = [
        min(max(int(place._data), 0), length - size) for place, size, length in zip(places, sizes, x.shape, strict=True)
    ]
    limits = tuple(start + size for start, size in zip(first, sizes, strict=True))
    return Equation(slice_, (x,), {"starts": tuple(first), "limits": limits, "strides": (1,) * len(first)}, ())


def _product_of_transposed(equation: Equation, simplifier: Simplifier) -> Any:
    """A product can read an operand along other axes instead of having it transposed before."""
    (contract, batch), operands = equation.params["dimension_numbers"], list(equation.operands)
    contract, batch = list(contract), list(batch)
    found = False
    for side, x in enumerate(equation.operands):
        inner = simplifier.producer(x, transpose)
        if inner is None:
            continue
        order = inner.params["permutation"]
        used = (*contract[side], *batch[side])
        free = [axis_before for axis, axis_before in enumerate(order) if axis not in used]
        if free == sorted(free):  # the result has the axes that are left in the order of the operand's
            operands[side], found = inner.operands[0], True
            contract[side] = tuple(order[axis] for axis in contract[side])
            batch[side] = tuple(order[axis] for axis in batch[side])
    if not found:
        return None
    numbers = (tuple(contract), tuple(batch))
    return Equation(dot_general, operands, {**equation.params, "dimension_numbers": numbers}, ())


# Sums of arrays that are zero but for a part each, as the derivatives of slices are.


def _parts_along_axis(x: Any, simplifier: Simplifier) -> tuple[int, dict[int, Any]] | None:
    """The axis along which an array has parts with zeros between them, and the parts by where they begin."""
    padded = simplifier.producer(x, pad)
    if padded is None or not is_number(padded.operands[1], _zero(x.dtype)):
        return None
    config = padded.params["config"]
    axes = [axis for axis, entry in enumerate(config) if entry != (0, 0, 0)]
    if len(axes) != 1 or config[axes[0]][2] or min(config[axes[0]]) < 0:
        return None
    (axis,), inner = axes, padded.operands[0]
    joined, start = simplifier.producer(inner, concatenate), config[axes[0]][0]
    if joined is None or joined.params["axis"] != axis:
        return axis, {start: inner}
    parts = {}
    for part in joined.operands:
        if type(part) is Variable or not is_number(part, _zero(x.dtype)):
            parts[start] = part
        start += part.shape[axis]
    return axis, parts


def _sum_of_parts(equation: Equation, simplifier: Simplifier) -> Any:
    """The sum of two arrays with different parts is one with the parts of both. Zero is added to the parts, as the sum
    would have done, since -0.0 + 0.0 is 0.0."""
    (result,), operands = equation.results, equation.operands
    found = [_parts_along_axis(x, simplifier) for x in operands]
    if (
        any(x is None for x in found)
        or any(x.shape != result.shape for x in operands)
        or result.dtype.kind not in "fiu"
    ):
        return None
    (axis, first), (other_axis, second) = found  # type: ignore[misc]
    if axis != other_axis or not first or not second:
        return None

    def write(primitive: Primitive, operands: Sequence[Any], params: dict[str, Any], shape: Sequence[int]) -> Any:
        like = Variable(AbstractArray(tuple(shape), result.dtype))
        return simplifier.add(Equation(primitive, operands, params, (like,), equation.source))[0]

    def zeros(length: int) -> Any:
        return wrap(numpy.broadcast_to(_zero(result.dtype), (*result.shape[:axis], length, *result.shape[axis + 1 :])))

    end, joined = min((*first, *second)), []
    before = end
    for start, part in sorted([*first.items(), *second.items()], key=lambda x: x[0]):
        if start < end:
            return None
        if start > end:
            joined.append(zeros(start - end))
        cleared = simplifier.producer(part, ew.add)
        if cleared is None or not is_number(cleared.operands[1], _zero(result.dtype)):
            part = write(ew.add, (part, wrap(_zero(result.dtype))), {}, part.shape)
        joined.append(part)
        end = start + part.shape[axis]
    inner = (*result.shape[:axis], end - before, *result.shape[axis + 1 :])
    if inner == result.shape:
        return Equation(concatenate, joined, {"axis": axis}, ())
    config = [(0, 0, 0)] * result.ndim
    config[axis] = before, result.shape[axis] - end, 0
    whole = write(concatenate, joined, {"axis": axis}, inner)
    return Equation(pad, (whole, wrap(_zero(result.dtype))), {"config": tuple(config)}, ())


REDUCTIONS_OF_AXES = (
    *(reduce_sum, reductions.reduce_prod, reductions.reduce_max, reductions.reduce_min),
    *(reductions.reduce_and, reductions.reduce_or, reductions.reduce_xor),
)
RULES: dict[Primitive, tuple[Rule, ...]] = {
    ew.add: (_neutral(_negative_zero, (0, 1), complex_too=True), _sum_of_parts),
    ew.sub: (_neutral(_zero, (1,), complex_too=True),),
    # Of complex numbers, x * 1 is not x: (inf + 1j) * (1 + 0j) is NaN, for infinity times zero is.
    ew.mul: (_neutral(_one, (0, 1)),),
    ew.div: (_neutral(_one, (1,)),),
    ew.and_: (_neutral(_all_bits, (0, 1)), _same_operands),
    ew.or_: (_neutral(_zero, (0, 1)), _same_operands),
    ew.xor: (_neutral(_zero, (0, 1)),),
    ew.shift_left: (_neutral(_zero, (1,)),),
    ew.shift_right_logical: (_neutral(_zero, (1,)),),
    ew.shift_right_arithmetic: (_neutral(_zero, (1,)),),
    ew.max_: (_same_operands,),
    ew.min_: (_same_operands,),
    ew.neg: (_undoes_itself,),
    ew.not_: (_undoes_itself,),
    ew.conj: (_undoes_itself,),
    ew.abs_: (_repeats_itself,),
    ew.floor: (_repeats_itself,),
    ew.ceil: (_repeats_itself,),
    ew.round_: (_repeats_itself,),
    ew.trunc: (_repeats_itself,),
    ew.integer_pow: (_first_power,),
    ew.convert: (_convert_to_same,),
    ew.convert_weak: (_convert_to_same,),
    ew.stop_gradient: (_is_its_operand,),
    ew.select: (_select_by_constant,),
    transpose: (_transpose_of_transpose,),
    **dict.fromkeys(REDUCTIONS_OF_AXES, (_reduction_of_transposed,)),
    reshape: (_reshape_of_reshape,),
    broadcast_in_dim: (_broadcast_of_broadcast,),
    rev: (_reverse_of_reverse,),
    slice_: (_slice_of_all,),
    dynamic_slice: (_slice_at_known_place,),
    dot_general: (_product_of_transposed,),
}
RULES |= {
    primitive: (*RULES.get(primitive, ()), _broadcasts_by_itself)
    for primitive in [
        *[ew.add, ew.sub, ew.mul, ew.div, ew.rem, ew.max_, ew.min_, ew.pow_, ew.atan2, ew.nextafter, ew.select],
        *[ew.and_, ew.or_, ew.xor, ew.eq, ew.ne, ew.lt, ew.le, ew.gt, ew.ge],
    ]
}
