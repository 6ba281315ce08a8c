"""What is computed in a kernel, element by element.

An `Expression` is an operation on other ones; in the end these are constants, and elements that are loaded from
buffers (at an `Index`: see `indices`). They are built by Python's operators and by the functions of this file, and
printed as a student would write them:

    x = load(buffer, axis_index(axis))       # another file's: x[j]
    print(1.0 / (1.0 + unary("abs", x)))     # (1 / (1 + abs(x[j])))

Expressions are interned: equal ones are the same object, so that what two results share is computed once.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy

from funcgrad import dtypes

BOOL, INT32, INT64 = (numpy.dtype(x) for x in ("bool", "int32", "int64"))
FLOAT32, FLOAT64 = numpy.dtype("float32"), numpy.dtype("float64")

_serial = itertools.count()


UNKNOWN_EXTENT = 1 << 48
"""The extent of a parallel vector loop whose length only the caller of the kernel knows."""


class Axis:
    """A loop variable: the whole numbers from 0 up to `extent`; `steps` is how many of these a loop is likely to do."""

    __slots__ = ("extent", "name", "serial", "steps")

    def __init__(self, extent: int, name: str, steps: int | None = None):
        self.extent, self.name, self.serial = extent, name, next(_serial)
        self.steps = extent if steps is None else steps

    def __repr__(self) -> str:
        return f"Axis({self.name} in {self.extent})"


class Buffer:
    """Memory of `size` elements of one dtype.

    A `local` one belongs to one pass through the outermost loop, such as the row that a softmax keeps at hand; any
    other is an argument of the kernel.
    """

    __slots__ = ("dtype", "local", "name", "size")

    def __init__(self, size: int, dtype: numpy.dtype, name: str = "", local: bool = False):
        self.size, self.dtype, self.name, self.local = size, dtype, name, local

    def __repr__(self) -> str:
        return f"Buffer({self.name}: {self.dtype}[{self.size}])"


class Expression:
    """An operation on single elements, of one dtype.

    Python's operators build expressions; a Python number beside an expression takes its dtype. Whole numbers wrap
    around, `&`, `|`, `^`, `~` work on bits or on booleans. Comparison has methods (`less`, `equal` ...), since `==`
    asks whether two expressions are the same object.

    Attributes:
        operation: its name; see the functions below for what there is.
        operands: the expressions that it works on.
        payload: what else it needs: the number of a constant, the buffer and index of a load.
        axes: the loops that its value depends on.
        accumulators: those whose results it depends on.
        limits: the least and the greatest value, of some whole numbers; None if unknown.
        origin: for printing, the name and the operands of the function that was written out as this expression; else
            None.
    """

    __slots__ = ("accumulators", "axes", "dtype", "limits", "operands", "operation", "origin", "payload", "serial")

    accumulators: frozenset[Accumulator]
    operation: str
    dtype: numpy.dtype
    operands: tuple[Expression, ...]
    payload: Any
    axes: frozenset[Axis]
    limits: tuple[int, int] | None
    origin: tuple[str, tuple[Expression, ...]] | None
    serial: int

    def _other(self, value: Any) -> Expression:
        return value if isinstance(value, Expression) else constant(value, self.dtype)

    def __add__(self, y: Any) -> Expression:
        return binary("add", self, self._other(y))

    def __radd__(self, y: Any) -> Expression:
        return binary("add", self._other(y), self)

    def __sub__(self, y: Any) -> Expression:
        return binary("sub", self, self._other(y))

    def __rsub__(self, y: Any) -> Expression:
        return binary("sub", self._other(y), self)

    def __mul__(self, y: Any) -> Expression:
        return binary("mul", self, self._other(y))

    def __rmul__(self, y: Any) -> Expression:
        return binary("mul", self._other(y), self)

    def __truediv__(self, y: Any) -> Expression:
        return binary("div", self, self._other(y))

    def __rtruediv__(self, y: Any) -> Expression:
        return binary("div", self._other(y), self)

    def __neg__(self) -> Expression:
        return unary("neg", self)

    def __invert__(self) -> Expression:
        return unary("not", self)

    def __and__(self, y: Any) -> Expression:
        return binary("and", self, self._other(y))

    def __or__(self, y: Any) -> Expression:
        return binary("or", self, self._other(y))

    def __xor__(self, y: Any) -> Expression:
        return binary("xor", self, self._other(y))

    def __lshift__(self, y: Any) -> Expression:
        return binary("shl", self, self._other(y))

    def __rshift__(self, y: Any) -> Expression:
        """Shifts in copies of the sign, or zeros where the dtype has no sign."""
        return binary("ashr" if self.dtype.kind == "i" else "lshr", self, self._other(y))

    def less(self, y: Any) -> Expression:
        return compare("lt", self, self._other(y))

    def less_equal(self, y: Any) -> Expression:
        return compare("le", self, self._other(y))

    def greater(self, y: Any) -> Expression:
        return compare("gt", self, self._other(y))

    def greater_equal(self, y: Any) -> Expression:
        return compare("ge", self, self._other(y))

    def equal(self, y: Any) -> Expression:
        return compare("eq", self, self._other(y))

    def not_equal(self, y: Any) -> Expression:
        """True of NaN and anything, itself too."""
        return compare("ne", self, self._other(y))

    def __str__(self) -> str:
        return expression_text(self)

    __repr__ = __str__


_expressions: dict[Any, Expression] = {}


TABLES: list[dict[Any, Any]] = [_expressions]
"""The tables in which equal expressions, and equal indices of them, are found."""


def forget_expressions() -> None:
    """Empty the tables in which equal expressions are found; to be called when a compilation is done."""
    for table in TABLES:
        table.clear()


def expression(
    operation: str, dtype: numpy.dtype, operands: tuple[Expression, ...] = (), payload: Any = None
) -> Expression:
    """The one expression with these parts. Use the functions below, which check what they are given."""
    key = (operation, dtype.num, operands, payload)
    found = _expressions.get(key)
    if found is None:
        found = _expressions[key] = Expression()
        found.operation, found.dtype, found.operands, found.payload = operation, dtype, operands, payload
        found.serial, found.limits, found.origin = next(_serial), None, None
        axes: frozenset[Axis] = frozenset()
        for x in operands:
            axes = axes | x.axes if axes else x.axes
        if operation == "load":
            axes = payload[1].axes
        elif operation == "index":
            axes, found.limits = payload.axes, payload.bounds()
        elif operation == "accumulated":
            axes = payload.axes
        elif operation == "bounded":
            found.limits = payload
        elif operation in ("quotient", "remainder"):
            inner = operands[0].limits
            high = payload - 1 if operation == "remainder" else None
            if inner is not None:
                high = min(inner[1], payload - 1) if operation == "remainder" else inner[1] // payload
            found.limits = None if high is None else (0, high)
        found.axes = axes
        found.accumulators = frozenset([payload]) if operation == "accumulated" else NOTHING
        for x in parts(found):
            if x.accumulators:
                found.accumulators |= x.accumulators
    return found


NOTHING: frozenset[Any] = frozenset()


def constant(value: Any, dtype: numpy.dtype) -> Expression:
    """A number. Floating-point ones are kept by their bits, so that -0.0 and NaN stay what they are."""
    return expression("constant", dtype, (), numpy.asarray(value).astype(dtype).tobytes())


def constant_value(x: Expression) -> Any:
    """The number of a constant, as a NumPy scalar."""
    return numpy.frombuffer(x.payload, x.dtype)[0]


UNARY = frozenset(["neg", "abs", "sqrt", "floor", "ceil", "round", "trunc", "not", "popcount", "clz"])
"""`round` goes to the nearest even whole number in the middle; `clz` counts the zeros before the first set bit."""

BINARY = frozenset(
    ["add", "sub", "mul", "div", "rem", "min", "max", "and", "or", "xor", "shl", "lshr", "ashr", "copysign", "gcd"]
)
"""`div` and `rem` of whole numbers go towards zero and want a divisor that is not zero (and not -1 for the least
number); `rem` takes no floats. `min` and `max` give NaN if one of both is. Shifts want fewer places than the dtype
has bits. `gcd`, the greatest common divisor, takes whole numbers without a sign."""

COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}


def unary(operation: str, x: Expression) -> Expression:
    """An operation of `UNARY`; the result has the dtype of `x`."""
    assert operation in UNARY, operation
    return expression(operation, x.dtype, (x,))


def binary(operation: str, x: Expression, y: Expression) -> Expression:
    """An operation of `BINARY` on two of the same dtype, which the result has, too."""
    assert operation in BINARY and x.dtype == y.dtype, (operation, x.dtype, y.dtype)
    return expression(operation, x.dtype, (x, y))


def compare(operation: str, x: Expression, y: Expression) -> Expression:
    """A comparison, as a bool. With NaN all are false, but for `ne`."""
    assert operation in COMPARISONS and x.dtype == y.dtype, (operation, x.dtype, y.dtype)
    return expression(operation, BOOL, (x, y))


def fma(x: Expression, y: Any, z: Any) -> Expression:
    """`x * y + z`, rounded once."""
    y, z = x._other(y), x._other(z)
    return expression("fma", x.dtype, (x, y, z))


def select(condition: Expression, x: Any, y: Any) -> Expression:
    """`x` where the condition holds, `y` elsewhere; at least one of both is an expression."""
    like = x if isinstance(x, Expression) else y
    x, y = like._other(x), like._other(y)
    assert condition.dtype == BOOL and x.dtype == y.dtype, (condition.dtype, x.dtype, y.dtype)
    if condition.operation == "constant":
        return x if constant_value(condition) else y
    return x if x is y else expression("select", x.dtype, (condition, x, y))


def rarely(condition: Expression, x: Expression, y: Expression) -> Expression:
    """The same as `select` where the condition seldom holds: code may go past `x` while it holds for no element."""
    assert condition.dtype == BOOL and x.dtype == y.dtype, (condition.dtype, x.dtype, y.dtype)
    return expression("rarely", x.dtype, (condition, x, y))


def convert(x: Expression, dtype: numpy.dtype) -> Expression:
    """The number in another dtype, as C converts: towards zero from floats to whole numbers, wrapping between those."""
    if x.dtype == dtype:
        return x
    if x.operation == "constant":
        with numpy.errstate(all="ignore"):
            return constant(constant_value(x).astype(dtype), dtype)
    if x.dtype == FLOAT32 and dtype == dtypes.bfloat16:
        x = rounded(x)
    elif x.dtype == dtypes.bfloat16 and dtype == FLOAT32:
        if x.operation == "convert" and x.operands[0].operation == "rounded":
            return x.operands[0]  # what was rounded is the same number
        if x.operation == "select":
            condition, *values = x.operands
            return select(condition, *(convert(y, dtype) for y in values))
    return expression("convert", dtype, (x,))


def rounded(x: Expression, is_result: bool = False) -> Expression:
    """A float32 as the nearest number that bfloat16 has, still as float32.

    Arguments:
        x: the number.
        is_result: whether it is what arithmetic made of numbers of bfloat16. If it is NaN, that needs no care then.
    """
    if x.operation == "rounded":
        return x
    care = "nothing to do" if x.operation in EXACT and all(map(_is_short, x.operands)) else ""
    return expression("rounded", FLOAT32, (x,), care or ("a result" if is_result else "any number"))


EXACT = ("neg", "abs", "min", "max", "select")  # of numbers of bfloat16, these are numbers of bfloat16


def _is_short(x: Expression) -> bool:
    """Whether it is clear that a number is one that bfloat16 has. (Conditions are none.)"""
    if x.operation == "constant" and x.dtype == FLOAT32:
        value = constant_value(x)
        return bool(value == value.astype(dtypes.bfloat16).astype(FLOAT32))
    is_wide = x.operation == "convert" and x.operands[0].dtype == dtypes.bfloat16
    return is_wide or x.operation == "rounded" or x.dtype == BOOL


def bitcast(x: Expression, dtype: numpy.dtype) -> Expression:
    """The same bits, read as another dtype of the same size."""
    assert x.dtype.itemsize == dtype.itemsize
    return x if x.dtype == dtype else expression("bitcast", dtype, (x,))


# What loops collect


class Accumulator:
    """A number that a loop collects: the `operation` (one of add, mul, min, max, and, or, xor) of all that came by.

    With "last" it is just the last one that came by, which may depend on what came before.

    `axes` are the loops around the one that it collects over.
    """

    __slots__ = ("axes", "dtype", "initial", "name", "operation")

    def __init__(self, operation: str, dtype: numpy.dtype, initial: Any, axes: frozenset[Axis], name: str = "s"):
        self.operation, self.dtype, self.axes, self.name = operation, dtype, axes, name
        self.initial = constant(initial, dtype)


def accumulated(accumulator: Accumulator) -> Expression:
    """What an accumulator has come to when its loop is over; in the loop, what it had come to before this step."""
    return expression("accumulated", accumulator.dtype, (), accumulator)


# About expressions


def computing_dtype(dtype: numpy.dtype) -> numpy.dtype:
    """The dtype in which the arithmetic of `dtype` is done: float32 for the two short floats, itself for all others."""
    return FLOAT32 if dtype in (dtypes.float16, dtypes.bfloat16) else dtype


def parts(x: Expression) -> Sequence[Expression]:
    """The expressions that a value is computed from, those in the index of a load too."""
    if x.operation == "load":
        return [atom for atom, _ in x.payload[1].terms if type(atom) is not Axis]
    if x.operation == "index":
        return [atom for atom, _ in x.payload.terms if type(atom) is not Axis]
    return x.operands


# Printing

SYMBOLS = COMPARISONS | {"add": "+", "sub": "-", "mul": "*", "div": "/", "rem": "%", "and": "&", "or": "|", "xor": "^"}
SYMBOLS |= {"shl": "<<", "lshr": ">>>", "ashr": ">>"}


LONGEST_LINE = 40  # operations one in the other, from which on a line is broken


def constant_text(x: Expression) -> str:
    """A number as it is printed."""
    value = constant_value(x)
    return str(value) if x.dtype.kind in "biu" else f"{float(value):.9g}"


def shown_operands(x: Expression) -> tuple[Expression, ...]:
    """The operands that are printed with an expression: those of the function that it is the formula of."""
    if x.origin is not None:
        return x.origin[1]
    if x.operation == "convert" and x.operands[0].operation == "rounded":
        return x.operands[0].operands  # all who convert also round
    return x.operands


def expression_text(x: Expression, names: dict[Expression, str] | None = None) -> str:
    """An expression as a student would write it; those in `names` by their names."""
    if names and x in names:
        return names[x]
    operands = [expression_text(y, names) for y in shown_operands(x)]
    if x.origin is not None:
        return f"{x.origin[0]}({', '.join(operands)})"
    if x.operation == "constant":
        return constant_text(x)
    if x.operation == "load":
        return f"{x.payload[0].name}[{x.payload[1]}]"
    if x.operation == "index":
        return f"({x.payload})" if len(x.payload.terms) > 1 else str(x.payload)
    if x.operation == "accumulated":
        return x.payload.name
    if x.operation == "bounded":
        return operands[0]
    if x.operation in SYMBOLS:
        return f"({operands[0]} {SYMBOLS[x.operation]} {operands[1]})"
    if x.operation == "neg":
        return f"-{operands[0]}"
    if x.operation in ("convert", "bitcast"):
        return f"{x.dtype}({operands[0]})" if x.operation == "convert" else f"bits_as_{x.dtype}({operands[0]})"
    return f"{x.operation}({', '.join(operands)})"
