"""Promotion, and the arithmetic operators of `Array`.

Primitives want operands of one dtype. `promote` brings them there: Python scalars take the dtype of the other operand,
arrays of different dtypes meet in the dtype of `dtypes.promote`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

from funcgrad import dtypes
from funcgrad.array import Array, ConcreteArray, as_array, constant
from funcgrad.core import Primitive, current_interpreter, ground
from funcgrad.primitives import elementwise as e


def cast(x: Array, dtype: numpy.dtype) -> Array:
    """`x` with another dtype; `x` itself where it has it already (a weak one becomes strong)."""
    if x.dtype is dtype and not x.weak_type:
        return x
    return e.convert(x, dtype=dtype)


def promote(*values: Any) -> list[Array]:
    """The operands as arrays of one dtype: what a binary operation does before it happens.

    If all are weak, so are the results: an operation on Python scalars only gives something that is still weak.
    """
    dtype = values[0].dtype if isinstance(values[0], Array) else None
    if all(isinstance(x, Array) and x.dtype is dtype for x in values):
        return list(values)
    strong, kind, operands = None, -1, []
    for value in values:
        kind_here = dtypes.KIND_OF_SCALAR.get(type(value), -1)
        if kind_here < 0:
            value = as_array(value)
            if value.weak_type:
                kind_here = dtypes.KIND[value.dtype]
            elif strong is not value.dtype:
                strong = value.dtype if strong is None else dtypes.promote(strong, value.dtype)
        kind = max(kind, kind_here)
        operands.append(value)
    weak = strong is None
    dtype = dtypes.DEFAULT_OF_KIND[kind] if weak else dtypes.promote_weak(strong, kind)
    return [_with_dtype(x, dtype, weak) for x in operands]


def _with_dtype(x: Any, dtype: numpy.dtype, weak: bool) -> Array:
    if type(x) in dtypes.KIND_OF_SCALAR:
        # Rounded once, to the dtype that it meets: 0.1 beside a float64 is not a float32 first.
        return constant(x, dtype, weak)
    if x.dtype is dtype:
        return x
    return (e.convert_weak if weak else e.convert)(x, dtype=dtype)


def promote_inexact(*values: Any) -> list[Array]:
    """Like `promote`, and integers become floats: for functions such as `sin`, `log` and true division."""
    arrays = promote(*values)
    dtype = arrays[0].dtype
    if dtypes.is_differentiable(dtype):
        return arrays
    if all(x.weak_type for x in arrays):
        return [e.convert_weak(x, dtype=dtypes.float32) for x in arrays]
    return [cast(x, dtypes.float32) for x in arrays]


# What an operator does once its operands have one dtype. The few functions below give Python's meaning, in which
# floor division and remainder follow the sign of the divisor, to primitives that round towards zero.


def true_divide(x: Any, y: Any) -> Array:
    """`x / y`, of integers as floats."""
    return e.div(*promote_inexact(x, y))


def floor_divide(x: Any, y: Any) -> Array:
    """`x // y`, rounded towards minus infinity."""
    x, y = promote(x, y)
    if dtypes.is_bool(x.dtype):
        x, y = cast(x, dtypes.int32), cast(y, dtypes.int32)
    if dtypes.is_integer(x.dtype):
        quotient = e.div(x, y)
        rounded_up = e.and_(e.ne(e.sign(x), e.sign(y)), e.ne(e.rem(x, y), e.zeros_like(e.rem(x, y))))
        return e.select(rounded_up, quotient - 1, quotient)
    # Not floor(x / y), which may round up to the next whole number. Source: CPython's float_divmod.
    remainder = e.rem(x, y)
    quotient = e.div(e.sub(x, remainder), y)
    rounded_up = e.and_(e.ne(remainder, e.zeros_like(remainder)), e.ne(e.sign_bit(remainder), e.sign_bit(y)))
    whole = e.round_(e.select(rounded_up, e.sub(quotient, e.full((), 1, y.dtype)), quotient))
    return e.select(e.eq(y, e.zeros_like(y)), e.div(x, y), whole)


def mod(x: Any, y: Any) -> Array:
    """`x % y`, with the sign of `y`."""
    x, y = promote(x, y)
    if dtypes.is_bool(x.dtype):
        x, y = cast(x, dtypes.int32), cast(y, dtypes.int32)
    remainder = e.rem(x, y)
    wrong_sign = e.and_(e.ne(remainder, e.zeros_like(remainder)), e.ne(remainder < 0, y < 0))
    return e.select(wrong_sign, remainder + y, remainder)


def power(x: Any, y: Any) -> Array:
    """`x ** y`; a Python integer as the exponent is multiplied out."""
    if type(y) is int and (y < 0 or not isinstance(x, (bool, int))):
        x = as_array(x)
        return e.integer_pow(cast(x, dtypes.int32) if dtypes.is_bool(x.dtype) else x, exponent=y)
    x, y = promote(x, y)
    return e.pow_(x, y)


def _shift_right(x: Any, y: Any) -> Array:
    x, y = promote(x, y)
    return shift_right_of(x.dtype)(x, y)


def _via(primitive: Primitive) -> Callable[[Any, Any], Array]:
    return lambda x, y: primitive(*promote(x, y))


def _arithmetic(primitive: Primitive, on_bool: Primitive) -> Callable[[Any, Any], Array]:
    """Arithmetic on bools is logic, as in NumPy: + is or, * is and."""

    def apply(x: Any, y: Any) -> Array:
        x, y = promote(x, y)
        return (on_bool if dtypes.is_bool(x.dtype) else primitive)(x, y)

    return apply


def is_operand(value: Any) -> bool:
    """Whether an operator should try its hand at `value`; for anything else Python asks the other operand."""
    return isinstance(value, (Array, bool, int, float, complex)) or hasattr(value, "__array__")


def binary_operator(apply: Callable[[Any, Any], Array]) -> Callable[[Any, Any], Any]:
    """The method of an operator: `apply`, unless the other side is nothing we know."""
    return lambda x, y: apply(x, y) if is_operand(y) else NotImplemented


def reflected_operator(apply: Callable[[Any, Any], Array]) -> Callable[[Any, Any], Any]:
    """The method that Python tries when the left operand does not know what to do."""
    return lambda x, y: apply(y, x) if is_operand(y) else NotImplemented


class Composed:
    """A function of elements that is several primitives, which native code computes together.

    Attributes:
        name: what it is called; no two have the same name.
        function: what it does.
    """

    __slots__ = ("function", "name")

    def __init__(self, name: str, function: Callable[..., Array]):
        self.name, self.function = name, function

    def __repr__(self) -> str:
        return f"function {self.name}"


PrimitiveOf = Callable[[numpy.dtype], Primitive | Composed | None]


class Direct:
    """An operator or function that is one primitive wherever its operands have one dtype, as native code runs it.

    Attributes:
        name: what it is called.
        usual: what it does.
        arity: how many operands there are.
        primitive_of: gives the primitive for a dtype, or None; where it is several, they are `Composed`.
        reflected: whether the primitive takes the operands in reverse.
        integers: whether a Python integer among the operands counts as a number of the dtype of the others.
        call: what to call: `usual`, until `compiler.eager` puts native code in its place.
    """

    __slots__ = ("arity", "call", "integers", "name", "primitive_of", "reflected", "usual")

    def __init__(
        self,
        name: str,
        usual: Callable[..., Any],
        arity: int,
        primitive_of: PrimitiveOf,
        reflected: bool = False,
        integers: bool = True,
    ):
        self.name, self.usual, self.arity, self.primitive_of = name, usual, arity, primitive_of
        self.reflected, self.integers = reflected, integers
        self.call = usual


METHODS: list[Direct] = []
"""The operators of `Array` that are one primitive."""

FUNCTIONS: list[Direct] = []
"""The functions of `fg.numpy` that are one primitive."""


def direct_function(
    name: str, usual: Callable[..., Any], arity: int, primitive_of: PrimitiveOf, integers: bool = True
) -> Direct:
    """A function for `FUNCTIONS`."""
    FUNCTIONS.append(Direct(name, usual, arity, primitive_of, integers=integers))
    return FUNCTIONS[-1]


def always(primitive: Primitive | Composed) -> PrimitiveOf:
    """The same primitive for all dtypes."""
    return lambda dtype: primitive


def only_if(
    accepts: Callable[[numpy.dtype], bool], primitive: Primitive, otherwise: Composed | None = None
) -> PrimitiveOf:
    """A primitive for some dtypes, and something else or nothing for others."""
    return lambda dtype: primitive if accepts(dtype) else otherwise


def on_bools(primitive: Primitive, on_bool: Primitive) -> PrimitiveOf:
    """A primitive for numbers, and another one for bools."""
    return lambda dtype: on_bool if dtypes.is_bool(dtype) else primitive


def shift_right_of(dtype: numpy.dtype) -> Primitive:
    """What `>>` is: the sign moves in from the left, where there is one."""
    return e.shift_right_arithmetic if dtype.kind == "i" else e.shift_right_logical


def absolute_of(dtype: numpy.dtype) -> Primitive | None:
    """What `abs` is; None where it does nothing."""
    return None if dtype.kind in "bu" else e.abs_


def quick_operator(apply: Callable[[Any, Any], Array], primitive: Primitive, kinds: str) -> Callable[[Any, Any], Any]:
    """Like `binary_operator`, with a shortcut for what eager code does most: arrays of one dtype, under no transform.

    `kinds` are NumPy's letters for the dtypes on which NumPy's own function means the same as ours; it then checks
    the shapes as it computes, and whatever it refuses or leaves as a scalar goes the usual way.
    """
    compute = primitive.evaluate

    def method(x: Array, y: Any) -> Any:
        if type(x) is ConcreteArray and ((here := current_interpreter()) is ground or here.only_cares_for_tracers):
            a = x._data
            if a.dtype.kind in kinds:
                other = type(y)
                if other is ConcreteArray:
                    b = y._data
                elif other is float and a.dtype.kind == "f" or other is int:
                    b = constant(y, a.dtype)._data
                else:
                    return apply(x, y) if is_operand(y) else NotImplemented
                if b.dtype is a.dtype:
                    try:
                        result = compute(a, b)
                    except Exception:
                        return apply(x, y)  # which says what is wrong
                    if type(result) is numpy.ndarray:
                        return ConcreteArray(result)
        elif isinstance(y, Array) and x.dtype is y.dtype and x.dtype.kind in kinds:
            return primitive(x, y)
        return apply(x, y) if is_operand(y) else NotImplemented

    return method


TRUE_DIVIDE = Composed("true_divide", true_divide)
FLOOR_DIVIDE, MOD = Composed("floor_divide", floor_divide), Composed("mod", mod)


def _power_operator(x: Array, y: Any) -> Any:
    """`x ** y`, with a shortcut for eager squares, which are products to the bit."""
    if type(y) is int and y == 2 and type(x) is ConcreteArray and x.dtype.kind in "fiuc":
        here = current_interpreter()
        if here is ground or here.only_cares_for_tracers:
            return e.mul(x, x)
    return power(x, y) if is_operand(y) else NotImplemented


def attach_operators() -> None:
    """Give `Array` its operators."""
    for name, apply, primitive, kinds, primitive_of in [
        ("add", _arithmetic(e.add, e.or_), e.add, "fiuc", on_bools(e.add, e.or_)),
        ("sub", _via(e.sub), e.sub, "fiuc", always(e.sub)),
        ("mul", _arithmetic(e.mul, e.and_), e.mul, "fiuc", on_bools(e.mul, e.and_)),
        ("truediv", true_divide, e.div, "fc", only_if(dtypes.is_differentiable, e.div, TRUE_DIVIDE)),
    ]:
        _attach(f"__{name}__", quick_operator(apply, primitive, kinds), 2, primitive_of)
        _attach(f"__r{name}__", reflected_operator(apply), 2, primitive_of, reflected=True)
    for name, primitive in [("eq", e.eq), ("ne", e.ne), ("lt", e.lt), ("le", e.le), ("gt", e.gt), ("ge", e.ge)]:
        _attach(f"__{name}__", quick_operator(_via(primitive), primitive, "fiu"), 2, always(primitive))
    for name, apply, primitive_of in [
        ("floordiv", floor_divide, always(FLOOR_DIVIDE)),
        ("mod", mod, always(MOD)),
        ("divmod", lambda x, y: (floor_divide(x, y), mod(x, y)), None),
        ("pow", power, always(e.pow_)),
        ("and", _via(e.and_), always(e.and_)),
        ("or", _via(e.or_), always(e.or_)),
        ("xor", _via(e.xor), always(e.xor)),
        ("lshift", _via(e.shift_left), always(e.shift_left)),
        ("rshift", _shift_right, shift_right_of),
    ]:
        method = _power_operator if apply is power else binary_operator(apply)
        integers = apply is not power  # which multiplies them out
        _attach(f"__{name}__", method, 2, primitive_of, integers=integers)
        _attach(f"__r{name}__", reflected_operator(apply), 2, primitive_of, reflected=True)
    _attach("__neg__", lambda x: e.neg(x), 1, always(e.neg))
    _attach("__pos__", lambda x: x)
    _attach("__abs__", absolute, 1, absolute_of)
    _attach("__invert__", lambda x: e.not_(x), 1, always(e.not_))


def absolute(value: Any) -> Array:
    """`abs(x)`, real for complex `x`."""
    x = as_array(value)
    unchanged = dtypes.is_bool(x.dtype) or x.dtype.kind == "u"
    return x if unchanged else e.abs_(x)


def _attach(
    name: str,
    method: Callable[..., Any],
    arity: int = 0,
    primitive_of: PrimitiveOf | None = None,
    reflected: bool = False,
    integers: bool = True,
) -> None:
    method.__name__ = name
    method.__qualname__ = f"Array.{name}"
    setattr(Array, name, method)
    if primitive_of is not None:
        METHODS.append(Direct(name, method, arity, primitive_of, reflected, integers))


attach_operators()
