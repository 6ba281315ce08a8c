"""Eager operations as native code: what they are, and when a kernel is made.

An operation of arrays runs in Python at first: the call of its primitive computes it by the rule `evaluate`, which is
a function of NumPy. After some number of operations (`fg.config.native_after`, counted in `counter`) it is worth the
while to load what native code needs. Then the operators of arrays, the functions of `fg.numpy` that are one primitive,
and the call of primitives become builtins (`bridge.eager`). A builtin that has no kernel for its operands lets Python
compute, and asks for one; when the same is asked for often, the kernel is found in the cache or compiled (`single`).

Under a transform that does not care for plain values, such as `grad`, it is the same: what a rule computes with plain
values goes through the call of a primitive.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial, reduce
from inspect import signature
from typing import Any

import numpy

from funcgrad import dtypes
from funcgrad.array import AbstractArray, Array, ConcreteArray
from funcgrad.compiler.bridge.eager import EagerBridge, Entry, Operation, eager_problem
from funcgrad.compiler.locks import COMPILING
from funcgrad.compiler.lower_complex import RULES as COMPLEX_RULES
from funcgrad.compiler.lower_elementwise import RULES
from funcgrad.compiler.memory import keep_freed_memory
from funcgrad.compiler.pool import parallel_address
from funcgrad.compiler.single import loaded_single, single_program
from funcgrad.config import config
from funcgrad.core import Primitive
from funcgrad.primitives.elementwise import select, stop_gradient
from funcgrad.primitives.operators import FUNCTIONS, METHODS, Composed, Direct, PrimitiveOf, always
from funcgrad.program import LinearStep

ASKED_OFTEN = 20  # a kernel is made when it is asked for so often
CANONICAL = frozenset(map(id, dtypes.ALL))
NOT_NATIVE = frozenset([stop_gradient])  # which gives its operand, and makes no new array


class Eager:
    """Native eager operations, in the place of Python's from now on.

    Arguments:
        python_call: what the call of a primitive is in Python.
        forward_mode: see `counter`.
        is_wanted: says whether kernels may be used.

    Attributes:
        python_call, python_step, python_backward: the calls that are native now, as they are in Python.
        entries: what is known of primitives, by the primitive, the number of operands, and the dtype.
    """

    def __init__(
        self,
        python_call: Callable[..., Any],
        forward_mode: tuple[type, type, type, type],
        is_wanted: Callable[[], bool],
    ):
        self._is_wanted = is_wanted
        self.python_call, self.python_step = python_call, LinearStep.__call__
        self.python_backward = forward_mode[3].__call__
        self.entries: dict[tuple[Primitive | Composed | None, int, numpy.dtype], Entry] = {}
        self._asked: dict[Any, int] = {}
        self._operations: list[Operation] = []
        keep_freed_memory()
        self.bridge = EagerBridge(
            stubs(),
            python_call,
            self.python_step,
            forward_mode,
        )
        self.bridge.set_up([self._direct_operation(direct, is_function=False) for direct in METHODS])
        self._watch()
        config.watch("compiler", self._watch)
        config.watch("native_after", self._watch)
        for number, direct in enumerate(METHODS):
            setattr(ConcreteArray, direct.name, self.bridge.method(number, direct.name, direct.usual.__doc__))
        for direct in FUNCTIONS:
            operation = self._direct_operation(direct, is_function=True)
            direct.call = self.bridge.function(operation, direct.arity, direct.name)
        for primitive, rule in {**COMPLEX_RULES, **RULES}.items():
            if not primitive.multiple_results and primitive not in NOT_NATIVE:
                primitive.native = self._operation_of(primitive, len(signature(rule).parameters)).words.array
        Primitive.__call__ = self.bridge.primitive_call()
        LinearStep.__call__ = self.bridge.linear_step_call()
        forward_mode[3].__call__ = self.bridge.backward_call()

    def _watch(self, *_: Any) -> None:
        self.bridge.enable(self._is_wanted())

    def _direct_operation(self, direct: Direct, is_function: bool) -> Operation:
        """The record of an operator or a function."""

        call = (lambda *x: direct.call(*x)) if is_function else (lambda *x: getattr(ConcreteArray, direct.name)(*x))
        turn = slice(None, None, -1 if direct.reflected else 1)
        of_any_dtypes = Composed(direct.name, lambda *operands: direct.usual(*operands[turn]))

        def missing(*arguments: Any) -> Any:
            if self._ask(operation, direct.primitive_of, of_any_dtypes, arguments[turn]):
                return call(*arguments)
            return direct.usual(*arguments)

        operation = self.bridge.operation(direct.usual, missing, direct.arity, direct.integers)
        self._operations.append(operation)
        return operation

    def _operation_of(self, primitive: Primitive, arity: int) -> Operation:
        """The record of a primitive itself."""

        def missing(primitive: Primitive, *operands: Array) -> Any:
            again = self._ask(operation, always(primitive), None, operands)
            return primitive(*operands) if again else self.python_call(primitive, *operands)

        operation = self.bridge.operation(self.python_call, missing, arity, True)
        self._operations.append(operation)
        return operation

    def _ask(
        self,
        operation: Operation,
        primitive_of: PrimitiveOf,
        of_any_dtypes: Composed | None,
        operands: Sequence[Any],
    ) -> bool:
        """Notes that an operation had no kernel for operands like these, and makes one if that comes often.

        Gives whether the operation knows more now.
        """
        arrays = [x for x in operands if isinstance(x, ConcreteArray)]
        if any(id(x.dtype) not in CANONICAL for x in arrays):
            return False  # NumPy may have several objects for one dtype
        kinds = tuple([x.dtype if isinstance(x, ConcreteArray) else type(x) for x in operands])
        if kinds not in operation.entries:
            if len(set(kinds)) > 1 and any(x.weak_type for x in arrays):
                return False
            entry = operation.entries[kinds] = self._entry_for(operation, primitive_of, of_any_dtypes, kinds)
            return entry is not None
        entry = operation.entries[kinds]
        if entry is None:
            return False
        are_numbers = numbers_among(operands)
        if entry.has_kernel(are_numbers):  # but no threads
            self.bridge.set_parallel(parallel_address())
            return True
        often = ASKED_OFTEN if config.native_after else 0
        key = id(entry), *are_numbers
        asked = self._asked.get(key, 0)
        self._asked[key] = count = asked + 1 + max(x.size for x in arrays) // 1000
        if asked < often <= count or not often:
            with COMPILING:
                entry.make(are_numbers)
            return True
        return False

    def _entry_for(
        self,
        operation: Operation,
        primitive_of: PrimitiveOf,
        of_any_dtypes: Composed | None,
        kinds: Sequence[Any],
    ) -> Entry | None:
        """What is known of an operation for operands of these kinds, which are dtypes and types of Python's numbers.

        The operation is told of it. None if that is left to Python.
        """
        of_arrays = [kind for kind in kinds if isinstance(kind, numpy.dtype)]
        dtype, numbers = of_arrays[-1], {kind for kind in kinds if not isinstance(kind, numpy.dtype)}
        usual = self._entry(primitive_of(dtype), len(kinds), dtype)
        if usual.takes(kinds):
            if usual not in operation.entries.values():
                operation.enter(dtype, usual)
            return usual
        may_be_numbers = {float, int} if operation.integers else {float}
        if of_any_dtypes is None or len(numbers) > 1 or not numbers <= may_be_numbers:
            return None
        entry = self._mixed_entry(of_any_dtypes, kinds, numbers)
        operation.enter(dtype, entry)
        return entry

    def _entry(self, what: Primitive | Composed | None, arity: int, dtype: numpy.dtype) -> Entry:
        """What is known of a primitive, or of several that are a function, for operands of a dtype."""
        key = what, arity, dtype
        if key not in self.entries:
            operands = [dtype] * arity
            if what is select:
                operands[0] = dtypes.bool_
            program = None if what is None else single_program(what, operands)
            if program is None:
                self.entries[key] = Entry(operands, dtype, None)
            else:
                self.entries[key] = Entry(operands, program.outputs[0].dtype, partial(loaded_single, program))
        return self.entries[key]

    def _mixed_entry(self, what: Composed, kinds: Sequence[Any], numbers: Collection[type]) -> Entry:
        """The same for operands of several dtypes, and Python's numbers of one type that another dtype has to hold."""
        of_arrays = [kind for kind in kinds if isinstance(kind, numpy.dtype)]
        together = reduce(dtypes.promote, of_arrays)
        operands = [
            kind if isinstance(kind, numpy.dtype) else dtypes.promote_weak(together, dtypes.KIND_OF_SCALAR[kind])
            for kind in kinds
        ]
        program = single_program(what, operands)
        if program is not None and numbers:
            # What is rounded to a dtype beforehand must be what Python's way would make of it.
            weak = [AbstractArray((), dtypes.DEFAULT_OF_SCALAR.get(kind, kind), kind in numbers) for kind in kinds]
            usual = single_program(what, weak)
            output = program.outputs[0]
            if usual is None or (usual.outputs[0].dtype, usual.outputs[0].weak_type) != (output.dtype, False):
                program = None
        if program is None:
            return Entry(operands, operands[-1], None, kinds)
        make = partial(loaded_single, program)
        return Entry(operands, program.outputs[0].dtype, make, kinds)


def numbers_among(operands: Sequence[Any]) -> list[bool]:
    """Which operands are one number in the innermost loop of a kernel; see `spread` in `eager_text`."""
    shapes = [x.shape if isinstance(x, ConcreteArray) else () for x in operands]
    long = {shape for shape in shapes if shape}
    if len(long) <= 1:
        return [bool(long) and not shape for shape in shapes]
    for depth in range(1, max(map(len, long)) + 1):
        lengths = [shape[-depth] if depth <= len(shape) else 1 for shape in shapes]
        if set(lengths) != {1}:
            return [length == 1 for length in lengths]
    return [False] * len(shapes)


def stubs() -> list[tuple[int, bool]]:
    """For each method how many operands it has, and whether it is reflected."""
    return [(x.arity, x.reflected) for x in METHODS]


def activate(
    python_call: Callable[..., Any], forward_mode: tuple[type, type, type, type], is_wanted: Callable[[], bool]
) -> Eager | None:
    """Makes eager operations native; None where objects lie in memory in another way than builtins believe."""
    return Eager(python_call, forward_mode, is_wanted) if eager_problem(forward_mode[2]) is None else None
