"""The functions of `fg.lax` that work element by element: one row a primitive.

They are stricter than their relatives in `fg.numpy`: operands must have one dtype, except that Python scalars take the
dtype of the arrays they meet, and integers do not become floats by themselves.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

from funcgrad import dtypes, tree
from funcgrad.array import AbstractArray, Array, as_array
from funcgrad.core import Primitive
from funcgrad.errors import ArgumentError
from funcgrad.primitives import bessel
from funcgrad.primitives import elementwise as e
from funcgrad.primitives.operators import cast, promote

_DOCUMENT = """{summary}

    Arguments:
        {arguments}.

    Returns:
        An array of {shape}.

    Raises:
        {errors}.

    Example:
        >>> import funcgrad as fg
        >>> fg.lax.{example}
        {result}
    """

_ONE = ("x: an array or number of {} dtype", "the shape of `x`", "DtypeError: for any other dtype")
_TWO = (
    "x, y: arrays or numbers of one {} dtype, whose shapes broadcast",
    "their common shape",
    "DtypeError, ShapeError: if the operands do not fit together",
)


def match(*values: Any) -> list[Array]:
    """The operands as arrays, where Python scalars have taken the dtype of the others if that holds their kind."""
    arrays = [as_array(value) for value in values]
    strong = next((x.dtype for x in arrays if not x.weak_type), None)
    if strong is None:
        return promote(*arrays)
    fits = [x.weak_type and dtypes.KIND[x.dtype] <= dtypes.KIND[strong] for x in arrays]
    return [cast(x, strong) if fit else x for x, fit in zip(arrays, fits, strict=True)]


def checked(primitive: Primitive, *arrays: Array, **params: Any) -> Any:
    """Apply a primitive after checking its operands: NumPy computes some that it refuses, in a dtype of its own."""
    primitive.abstract(*arrays, **params)  # type: ignore[misc]
    return primitive(*arrays, **params)


def _document(function: Any, kinds: tuple[str, str, str], takes: str, summary: str, example: str, result: str) -> Any:
    function.__name__ = function.__qualname__ = example.partition("(")[0]
    arguments, shape, errors = kinds
    function.__doc__ = _DOCUMENT.format(
        summary=summary, arguments=arguments.format(takes), shape=shape, errors=errors, example=example, result=result
    )
    return function


def _unary(primitive: Primitive, takes: str, summary: str, example: str, result: str) -> Callable[[Any], Array]:
    def function(x: Any) -> Array:
        return checked(primitive, as_array(x))

    return _document(function, _ONE, takes, summary, example, result)


def _binary(primitive: Primitive, takes: str, summary: str, example: str, result: str) -> Callable[[Any, Any], Array]:
    def function(x: Any, y: Any) -> Array:
        return checked(primitive, *match(x, y))

    return _document(function, _TWO, takes, summary, example, result)


# Arithmetic

add = _binary(e.add, "numeric", "The sum.", "add(fg.array([1.0, 2.0]), 1)", "Array([2., 3.], dtype=float32)")
sub = _binary(e.sub, "numeric", "The difference.", "sub(fg.array([1.0, 2.0]), 1)", "Array([0., 1.], dtype=float32)")
mul = _binary(e.mul, "numeric", "The product.", "mul(fg.array([1.0, 2.0]), 3)", "Array([3., 6.], dtype=float32)")
div = _binary(
    e.div,
    "numeric",
    "The quotient; that of integers is rounded towards zero.",
    "div(fg.array([7, -7]), 2)",
    "Array([ 3, -3], dtype=int32)",
)
rem = _binary(
    e.rem,
    "integer or floating",
    "The remainder of a division rounded towards zero: it has the sign of `x`.",
    "rem(fg.array([7, -7]), 4)",
    "Array([ 3, -3], dtype=int32)",
)
pow = _binary(
    e.pow_, "numeric", "`x` to the power `y`.", "pow(fg.array([2.0, 3.0]), 2)", "Array([4., 9.], dtype=float32)"
)
max = _binary(
    e.max_, "any", "The larger one; NaN where either is NaN.", "max(fg.array([1, 5]), 3)", "Array([3, 5], dtype=int32)"
)
min = _binary(
    e.min_, "any", "The smaller one; NaN where either is NaN.", "min(fg.array([1, 5]), 3)", "Array([1, 3], dtype=int32)"
)
nextafter = _binary(
    e.nextafter,
    "floating",
    "The number of the dtype that follows `x` in the direction of `y`.",
    "nextafter(fg.array(1.0), 2)",
    "Array(1.0000001, dtype=float32)",
)
neg = _unary(e.neg, "numeric", "The negative.", "neg(fg.array([1, -2]))", "Array([-1,  2], dtype=int32)")
abs = _unary(e.abs_, "numeric", "The absolute value.", "abs(fg.array([1, -2]))", "Array([1, 2], dtype=int32)")
sign = _unary(
    e.sign,
    "numeric",
    "The sign: -1, 0 or 1, and `x / abs(x)` for complex numbers.",
    "sign(fg.array([3, -2, 0]))",
    "Array([ 1, -1,  0], dtype=int32)",
)
floor = _unary(
    e.floor,
    "floating",
    "The largest whole number that is not larger.",
    "floor(fg.array([1.5, -1.5]))",
    "Array([ 1., -2.], dtype=float32)",
)
ceil = _unary(
    e.ceil,
    "floating",
    "The smallest whole number that is not smaller.",
    "ceil(fg.array([1.5, -1.5]))",
    "Array([ 2., -1.], dtype=float32)",
)
sqrt = _unary(
    e.sqrt, "floating or complex", "The square root.", "sqrt(fg.array([4.0, 9.0]))", "Array([2., 3.], dtype=float32)"
)
rsqrt = _unary(
    e.rsqrt,
    "floating or complex",
    "One over the square root.",
    "rsqrt(fg.array([4.0, 16.0]))",
    "Array([0.5 , 0.25], dtype=float32)",
)
cbrt = _unary(
    e.cbrt, "floating", "The cube root.", "cbrt(fg.array([8.0, -27.0])).round(3)", "Array([ 2., -3.], dtype=float32)"
)

# Exponentials and logarithms

exp = _unary(
    e.exp,
    "floating or complex",
    "The exponential.",
    "exp(fg.array([0.0, 1.0])).round(3)",
    "Array([1.   , 2.718], dtype=float32)",
)
exp2 = _unary(
    e.exp2,
    "floating or complex",
    "Two to the power `x`.",
    "exp2(fg.array([3.0, -1.0]))",
    "Array([8. , 0.5], dtype=float32)",
)
expm1 = _unary(
    e.expm1,
    "floating or complex",
    "`exp(x) - 1`, exact for small `x`.",
    "expm1(fg.array([0.0, 1.0])).round(3)",
    "Array([0.   , 1.718], dtype=float32)",
)
log = _unary(
    e.log,
    "floating or complex",
    "The natural logarithm.",
    "log(fg.array([1.0, 10.0])).round(3)",
    "Array([0.   , 2.303], dtype=float32)",
)
log1p = _unary(
    e.log1p,
    "floating or complex",
    "`log(1 + x)`, exact for small `x`.",
    "log1p(fg.array([0.0, 1.0])).round(3)",
    "Array([0.   , 0.693], dtype=float32)",
)
logistic = _unary(
    e.logistic,
    "floating or complex",
    "The logistic function, `1 / (1 + exp(-x))`.",
    "logistic(fg.array([0.0, 2.0])).round(3)",
    "Array([0.5  , 0.881], dtype=float32)",
)

# Trigonometric and hyperbolic functions

sin = _unary(
    e.sin,
    "floating or complex",
    "The sine of an angle in radians.",
    "sin(fg.array([0.0, 1.0])).round(3)",
    "Array([0.   , 0.841], dtype=float32)",
)
cos = _unary(
    e.cos,
    "floating or complex",
    "The cosine of an angle in radians.",
    "cos(fg.array([0.0, 1.0])).round(3)",
    "Array([1.  , 0.54], dtype=float32)",
)
tan = _unary(
    e.tan,
    "floating or complex",
    "The tangent of an angle in radians.",
    "tan(fg.array([0.0, 1.0])).round(3)",
    "Array([0.   , 1.557], dtype=float32)",
)
asin = _unary(
    e.asin,
    "floating or complex",
    "The angle whose sine is `x`.",
    "asin(fg.array([0.0, 1.0])).round(3)",
    "Array([0.   , 1.571], dtype=float32)",
)
acos = _unary(
    e.acos,
    "floating or complex",
    "The angle whose cosine is `x`.",
    "acos(fg.array([0.0, 1.0])).round(3)",
    "Array([1.571, 0.   ], dtype=float32)",
)
atan = _unary(
    e.atan,
    "floating or complex",
    "The angle whose tangent is `x`.",
    "atan(fg.array([0.0, 1.0])).round(3)",
    "Array([0.   , 0.785], dtype=float32)",
)
atan2 = _binary(
    e.atan2,
    "floating",
    "The angle of the point with height `x` and width `y`: `atan(x / y)` in the right quadrant.",
    "atan2(fg.array([1.0, -1.0]), 1).round(3)",
    "Array([ 0.785, -0.785], dtype=float32)",
)
sinh = _unary(
    e.sinh,
    "floating or complex",
    "The hyperbolic sine.",
    "sinh(fg.array([0.0, 1.0])).round(3)",
    "Array([0.   , 1.175], dtype=float32)",
)
cosh = _unary(
    e.cosh,
    "floating or complex",
    "The hyperbolic cosine.",
    "cosh(fg.array([0.0, 1.0])).round(3)",
    "Array([1.   , 1.543], dtype=float32)",
)
tanh = _unary(
    e.tanh,
    "floating or complex",
    "The hyperbolic tangent.",
    "tanh(fg.array([0.0, 1.0])).round(3)",
    "Array([0.   , 0.762], dtype=float32)",
)
asinh = _unary(
    e.asinh,
    "floating or complex",
    "The number whose hyperbolic sine is `x`.",
    "asinh(fg.array([0.0, 1.0])).round(3)",
    "Array([0.   , 0.881], dtype=float32)",
)
acosh = _unary(
    e.acosh,
    "floating or complex",
    "The number whose hyperbolic cosine is `x`.",
    "acosh(fg.array([1.0, 2.0])).round(3)",
    "Array([0.   , 1.317], dtype=float32)",
)
atanh = _unary(
    e.atanh,
    "floating or complex",
    "The number whose hyperbolic tangent is `x`.",
    "atanh(fg.array([0.0, 0.5])).round(3)",
    "Array([0.   , 0.549], dtype=float32)",
)

# Special functions

erf = _unary(
    e.erf,
    "floating",
    "The error function.",
    "erf(fg.array([0.0, 1.0])).round(3)",
    "Array([0.   , 0.843], dtype=float32)",
)
erfc = _unary(
    e.erfc,
    "floating",
    "One minus the error function, exact for large `x`.",
    "erfc(fg.array([0.0, 1.0])).round(3)",
    "Array([1.   , 0.157], dtype=float32)",
)
erf_inv = _unary(
    e.erf_inv,
    "floating",
    "The number whose error function is `x`.",
    "erf_inv(fg.array([0.0, 0.5])).round(3)",
    "Array([0.   , 0.477], dtype=float32)",
)
lgamma = _unary(
    e.lgamma,
    "floating",
    "The logarithm of the absolute value of the gamma function.",
    "lgamma(fg.array([1.0, 5.0])).round(3)",
    "Array([0.   , 3.178], dtype=float32)",
)
digamma = _unary(
    e.digamma,
    "floating",
    "The derivative of `lgamma`.",
    "digamma(fg.array([1.0, 5.0])).round(3)",
    "Array([-0.577,  1.506], dtype=float32)",
)
polygamma = _binary(
    e.polygamma,
    "floating",
    "The derivative of `digamma` of order `x`, at `y`.",
    "polygamma(1, fg.array([1.0, 5.0])).round(3)",
    "Array([1.645, 0.221], dtype=float32)",
)
bessel_i0e = _unary(
    bessel.bessel_i0e,
    "floating",
    "The modified Bessel function of order 0, times `exp(-abs(x))`.",
    "bessel_i0e(fg.array([0.0, 1.0])).round(3)",
    "Array([1.   , 0.466], dtype=float32)",
)
bessel_i1e = _unary(
    bessel.bessel_i1e,
    "floating",
    "The modified Bessel function of order 1, times `exp(-abs(x))`.",
    "bessel_i1e(fg.array([0.0, 1.0])).round(3)",
    "Array([0.   , 0.208], dtype=float32)",
)

# Comparisons and logic

eq = _binary(
    e.eq, "any", "Whether the operands are equal.", "eq(fg.array([1, 2]), 2)", "Array([False,  True], dtype=bool)"
)
ne = _binary(
    e.ne, "any", "Whether the operands differ.", "ne(fg.array([1, 2]), 2)", "Array([ True, False], dtype=bool)"
)
lt = _binary(e.lt, "any", "Whether `x` is smaller.", "lt(fg.array([1, 2]), 2)", "Array([ True, False], dtype=bool)")
le = _binary(
    e.le, "any", "Whether `x` is smaller or equal.", "le(fg.array([1, 2]), 2)", "Array([ True,  True], dtype=bool)"
)
gt = _binary(e.gt, "any", "Whether `x` is larger.", "gt(fg.array([1, 2]), 1)", "Array([False,  True], dtype=bool)")
ge = _binary(
    e.ge, "any", "Whether `x` is larger or equal.", "ge(fg.array([1, 2]), 1)", "Array([ True,  True], dtype=bool)"
)
is_finite = _unary(
    e.is_finite,
    "floating or complex",
    "Whether a number is neither infinite nor NaN.",
    'is_finite(fg.array([1.0, float("inf")]))',
    "Array([ True, False], dtype=bool)",
)
bitwise_and = _binary(
    e.and_,
    "bool or integer",
    "The bits that both operands have.",
    "bitwise_and(fg.array([6, 5]), 3)",
    "Array([2, 1], dtype=int32)",
)
bitwise_or = _binary(
    e.or_,
    "bool or integer",
    "The bits that any of the operands has.",
    "bitwise_or(fg.array([6, 5]), 3)",
    "Array([7, 7], dtype=int32)",
)
bitwise_xor = _binary(
    e.xor,
    "bool or integer",
    "The bits that just one of the operands has.",
    "bitwise_xor(fg.array([6, 5]), 3)",
    "Array([5, 6], dtype=int32)",
)
bitwise_not = _unary(
    e.not_,
    "bool or integer",
    "The opposite of every bit.",
    "bitwise_not(fg.array([6, -1]))",
    "Array([-7,  0], dtype=int32)",
)
population_count = _unary(
    e.population_count,
    "integer",
    "The number of bits that are set.",
    "population_count(fg.array([6, -1]))",
    "Array([ 2, 32], dtype=int32)",
)
shift_left = _binary(
    e.shift_left,
    "integer",
    "The bits moved up by `y` places.",
    "shift_left(fg.array([1, 3]), 2)",
    "Array([ 4, 12], dtype=int32)",
)
shift_right_arithmetic = _binary(
    e.shift_right_arithmetic,
    "integer",
    "The bits moved down by `y` places; the sign stays.",
    "shift_right_arithmetic(fg.array([8, -8]), 2)",
    "Array([ 2, -2], dtype=int32)",
)
shift_right_logical = _binary(
    e.shift_right_logical,
    "integer",
    "The bits moved down by `y` places; zeros come in.",
    "shift_right_logical(fg.array([8, -8]), 28)",
    "Array([ 0, 15], dtype=int32)",
)

# Complex numbers

complex = _binary(
    e.complex_,
    "floating",
    "The complex number with real part `x` and imaginary part `y`.",
    "complex(fg.array([1.0, 2.0]), 3.0)",
    "Array([1.+3.j, 2.+3.j], dtype=complex64)",
)
real = _unary(e.real, "complex", "The real part.", "real(fg.array([1 + 2j]))", "Array([1.], dtype=float32)")
imag = _unary(e.imag, "complex", "The imaginary part.", "imag(fg.array([1 + 2j]))", "Array([2.], dtype=float32)")
conj = _unary(
    e.conj, "complex", "The complex conjugate.", "conj(fg.array([1 + 2j]))", "Array([1.-2.j], dtype=complex64)"
)


# What needs more than a row


def integer_pow(x: Any, y: int) -> Array:
    """`x` to the power of a static integer, by repeated multiplication.

    Arguments:
        x: an array or number; of floating or complex dtype where `y` is negative.
        y: a Python integer.

    Example:
        >>> import funcgrad as fg
        >>> fg.lax.integer_pow(fg.array([2.0, 3.0]), 3)
        Array([ 8., 27.], dtype=float32)
    """
    return checked(e.integer_pow, as_array(x), exponent=int(y))


def square(x: Any) -> Array:
    """`x * x`.

    Example:
        >>> import funcgrad as fg
        >>> fg.lax.square(fg.array([2, -3]))
        Array([4, 9], dtype=int32)
    """
    return integer_pow(x, 2)


def reciprocal(x: Any) -> Array:
    """`1 / x`, for floating and complex dtypes.

    Example:
        >>> import funcgrad as fg
        >>> fg.lax.reciprocal(fg.array([2.0, 4.0]))
        Array([0.5 , 0.25], dtype=float32)
    """
    return integer_pow(x, -1)


class RoundingMethod(enum.IntEnum):
    """Which of two equally near whole numbers `round` takes."""

    AWAY_FROM_ZERO = 0
    TO_NEAREST_EVEN = 1


def round(x: Any, rounding_method: RoundingMethod = RoundingMethod.AWAY_FROM_ZERO) -> Array:
    """The nearest whole number, in the dtype of `x`.

    Arguments:
        x: an array or number of floating dtype.
        rounding_method: what to do with halves. As in JAX they go away from zero by default, while `fg.numpy.round`
            takes the even neighbour.

    Example:
        >>> import funcgrad as fg
        >>> fg.lax.round(fg.array([0.5, 1.5, -2.5]))
        Array([ 1.,  2., -3.], dtype=float32)
        >>> fg.lax.round(fg.array([0.5, 1.5, -2.5]), fg.lax.RoundingMethod.TO_NEAREST_EVEN)
        Array([ 0.,  2., -2.], dtype=float32)
    """
    x = as_array(x)
    if RoundingMethod(rounding_method) == RoundingMethod.TO_NEAREST_EVEN:
        return checked(e.round_, x)
    # Not floor(abs(x) + 1/2): the sum may round up to the next whole number.
    whole = checked(e.trunc, x)
    half = e.full((), 0.5, x.dtype)
    return e.select(e.ge(e.abs_(e.sub(x, whole)), half), e.add(whole, e.sign(x)), whole)


def clamp(min: Any, x: Any, max: Any) -> Array:
    """`x` where it lies between `min` and `max`, and the nearer bound elsewhere; mind the order of the arguments.

    Arguments:
        min, max: bounds of the dtype of `x`: scalars, or arrays that broadcast with `x`.
        x: an array.

    Example:
        >>> import funcgrad as fg
        >>> fg.lax.clamp(0.0, fg.array([-1.0, 0.5, 2.0]), 1.0)
        Array([0. , 0.5, 1. ], dtype=float32)
    """
    low, x, high = match(min, x, max)
    return checked(e.min_, checked(e.max_, x, low), high)


def select(pred: Any, on_true: Any, on_false: Any) -> Array:
    """`on_true` where `pred` is True, `on_false` elsewhere.

    Arguments:
        pred: a bool array or scalar.
        on_true, on_false: arrays of one dtype; all three broadcast.

    Example:
        >>> import funcgrad as fg
        >>> fg.lax.select(fg.array([True, False]), fg.array([1, 2]), fg.array([3, 4]))
        Array([1, 4], dtype=int32)
    """
    return checked(e.select, as_array(pred), *match(on_true, on_false))


def select_n(which: Any, *cases: Any) -> Array:
    """Element by element, the case whose number `which` gives; a number beyond the last one means the last.

    Arguments:
        which: a bool or integer array.
        cases: arrays of one dtype that broadcast with `which`; two for a bool.

    Raises:
        ArgumentError: if there is no case.
        DtypeError, ShapeError: if the operands do not fit together.

    Example:
        >>> import funcgrad as fg
        >>> fg.lax.select_n(fg.array([2, 0, 1]), fg.array([1, 2, 3]), fg.array([10, 20, 30]), fg.array([7, 8, 9]))
        Array([ 7,  2, 30], dtype=int32)
    """
    if not cases:
        raise ArgumentError("select_n needs at least one case to choose from.")
    which = as_array(which)
    if dtypes.is_bool(which.dtype):
        which = cast(which, dtypes.int32)
    result, *others = match(*cases)
    for number, case in enumerate(others, 1):
        result = checked(e.select, checked(e.ge, which, e.full((), number, which.dtype)), case, result)
    return result


def convert_element_type(operand: Any, new_dtype: Any) -> Array:
    """`operand` in another dtype.

    Raises:
        DtypeError: for a complex operand and a real dtype.

    Example:
        >>> import funcgrad as fg
        >>> fg.lax.convert_element_type(fg.array([1.7, -1.7]), fg.int32)
        Array([ 1, -1], dtype=int32)
    """
    return cast(as_array(operand), dtypes.canonical(new_dtype))


def stop_gradient(x: Any) -> Any:
    """`x`, which derivatives take for a constant.

    Arguments:
        x: an array, or a pytree of them.

    Returns:
        The same values; their tangents are zero.

    Example:
        >>> import funcgrad as fg
        >>> fg.grad(lambda x: x * fg.lax.stop_gradient(x))(3.0)
        Array(3., dtype=float32)
    """
    if isinstance(x, Array):
        return e.stop_gradient(x)
    return tree.map(lambda leaf: e.stop_gradient(as_array(leaf)), x)


def broadcast_shapes(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The common shape of arrays that broadcast together.

    Raises:
        ShapeError: if they do not.

    Example:
        >>> import funcgrad as fg
        >>> fg.lax.broadcast_shapes((2, 1), (3,))
        (2, 3)
    """
    if not shapes:
        return ()
    return e.broadcast_shape("broadcast_shapes", *(AbstractArray(tuple(shape), dtypes.bool_) for shape in shapes))
