"""Functions that work element by element and are one primitive each: a table with one row a function.

A row says how the operands are made ready. `_inexact` computes integers as floats, as in `sin`; `_plain` takes any
number; `_binary` brings two operands to one dtype. Operands broadcast by NumPy's rule. Functions that need more than
one primitive are in `composed`.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

from funcgrad import dtypes
from funcgrad.array import Array, as_array
from funcgrad.core import Primitive
from funcgrad.numpy.searching import as_condition
from funcgrad.primitives import elementwise as e
from funcgrad.primitives import operators
from funcgrad.primitives.operators import (
    Composed,
    PrimitiveOf,
    always,
    cast,
    direct_function,
    on_bools,
    only_if,
    promote,
    promote_inexact,
)

UnaryFunction = Callable[[Any], Array]
BinaryFunction = Callable[[Any, Any], Array]

_UNARY = """{summary}

    Arguments:
        x: an array or a number{note}.

    Returns:
        An array of the shape of `x`.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.{name}(np.array({x})){rounded}
        Array({result})
    """

_BINARY = """{summary}

    Arguments:
        x, y: arrays or numbers whose shapes broadcast{note}.

    Returns:
        An array of the common shape.

    Raises:
        ShapeError: if the shapes do not broadcast.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.{name}(np.array({x}), {y})
        Array({result})
    """


def _document(function: Any, template: str, name: str, summary: str, note: str, **example: str) -> Any:
    function.__name__ = function.__qualname__ = name
    function.__doc__ = template.format(name=name, summary=summary, note=note, **example)
    return function


class _Form:
    """What a function is: how Python computes it, and which primitive it is for operands of one dtype, if it is a
    single one; with `integers`, Python's whole numbers may be among them."""

    __slots__ = ("apply", "integers", "primitive_of")

    def __init__(self, apply: Callable[..., Array], primitive_of: PrimitiveOf | None = None, integers: bool = True):
        self.apply, self.primitive_of, self.integers = apply, primitive_of, integers

    def function(self, name: str, usual: Callable[..., Array], arity: int) -> Any:
        """The function: `usual`, until native code takes its place."""
        primitive_of = self.primitive_of or always(Composed(name, usual))
        direct = direct_function(name, usual, arity, primitive_of, self.integers)

        def unary(x: Any, /) -> Array:
            return direct.call(x)

        def binary(x: Any, y: Any, /) -> Array:
            return direct.call(x, y)

        return unary if arity == 1 else binary


def _form(what: Primitive | _Form | Callable[..., Array]) -> _Form:
    if isinstance(what, _Form):
        return what
    return _Form(what, always(what) if isinstance(what, Primitive) else None)


def _inexact(primitive: Primitive, name: str, summary: str, x: str, result: str) -> UnaryFunction:
    def usual(x: Any) -> Array:
        if not isinstance(x, Array):
            x = as_array(x)
        if not dtypes.is_differentiable(x.dtype):
            (x,) = promote_inexact(x)
        return primitive(x)

    primitive_of = only_if(dtypes.is_differentiable, primitive, Composed(name, usual))
    function = _Form(primitive, primitive_of).function(name, usual, 1)
    note = "; integers are computed as float32"
    result = f"{result}, dtype=float32"
    return _document(function, _UNARY, name, summary, note, x=x, rounded=".round(3)", result=result)


def _plain(
    what: Primitive | _Form | Callable[[Array], Array], name: str, summary: str, x: str, result: str
) -> UnaryFunction:
    form = _form(what)
    apply = form.apply
    function = form.function(name, lambda x: apply(x if isinstance(x, Array) else as_array(x)), 1)
    return _document(function, _UNARY, name, summary, "", x=x, rounded="", result=result)


def _binary(what: _Form | BinaryFunction, name: str, summary: str, x: str, y: str, result: str) -> BinaryFunction:
    form = _form(what)
    function = form.function(name, form.apply, 2)
    note = " and whose dtypes promote to a common one"
    return _document(function, _BINARY, name, summary, note, x=x, y=y, result=result)


def _via(primitive: Primitive) -> _Form:
    return _Form(lambda x, y: primitive(*promote(x, y)), always(primitive))


def _operator(apply_operator: BinaryFunction, primitive_of: PrimitiveOf) -> _Form:
    """What Python's operator does, which has the shortest way to eager arithmetic."""

    def apply(x: Any, y: Any) -> Array:
        if not isinstance(x, Array):
            x = as_array(x)
        return apply_operator(x, y if isinstance(y, (Array, int, float)) else as_array(y))

    return _Form(apply, primitive_of)


def _via_inexact(primitive: Primitive) -> _Form:
    return _Form(lambda x, y: primitive(*promote_inexact(x, y)), only_if(dtypes.is_differentiable, primitive))


def _if(kinds: str, primitive: Primitive, otherwise: Callable[[Array], Array]) -> _Form:
    """A function of one array that is `primitive` for the dtypes of some kinds, and `otherwise` for the rest."""
    wanted = frozenset({"b": 0, "i": 1, "f": 2, "c": 3}[kind] for kind in kinds)
    return _Form(
        lambda x: primitive(x) if dtypes.KIND[x.dtype] in wanted else otherwise(x),
        only_if(lambda dtype: dtypes.KIND[dtype] in wanted, primitive),
    )


def _itself(x: Array) -> Array:
    return x


def _is_number(dtype: Any) -> bool:
    return not dtypes.is_bool(dtype)


# Arithmetic

add = _binary(
    _operator(operator.add, on_bools(e.add, e.or_)),
    "add",
    "The sum x + y.",
    "[1.0, 2.0]",
    "10",
    "[11., 12.], dtype=float32",
)
subtract = _binary(
    _operator(operator.sub, always(e.sub)),
    "subtract",
    "The difference x - y.",
    "[1.0, 2.0]",
    "10",
    "[-9., -8.], dtype=float32",
)
multiply = _binary(
    _operator(operator.mul, on_bools(e.mul, e.and_)),
    "multiply",
    "The product x * y.",
    "[1, 2]",
    "10",
    "[10, 20], dtype=int32",
)
divide = _binary(
    _operator(operator.truediv, only_if(dtypes.is_differentiable, e.div, operators.TRUE_DIVIDE)),
    "divide",
    "The quotient x / y; integers are divided as float32.",
    "[1, 2]",
    "4",
    "[0.25, 0.5 ], dtype=float32",
)
floor_divide = _binary(
    _Form(operators.floor_divide, always(operators.FLOOR_DIVIDE)),
    "floor_divide",
    "The quotient x / y, rounded down to a whole number.",
    "[7, -7]",
    "2",
    "[ 3, -4], dtype=int32",
)
remainder = _binary(
    _Form(operators.mod, always(operators.MOD)),
    "remainder",
    "The remainder of floor division, which has the sign of y.",
    "[7, -7]",
    "3",
    "[1, 2], dtype=int32",
)
fmod = _binary(
    _Form(lambda x, y: e.rem(*_without_bool(*promote(x, y))), only_if(_is_number, e.rem)),
    "fmod",
    "The remainder of division rounded towards zero, which has the sign of x.",
    "[7, -7]",
    "3",
    "[ 1, -1], dtype=int32",
)
power = _binary(
    _Form(lambda x, y: operators.power(*_without_bool(x, y)), only_if(_is_number, e.pow_), integers=False),
    "power",
    "x to the power y. A negative power of integers is refused if it is known, and else rounded towards zero.",
    "[2.0, 3.0]",
    "2",
    "[4., 9.], dtype=float32",
)
float_power = _binary(
    lambda x, y: operators.power(*promote_inexact(x, y)),
    "float_power",
    "x to the power y, computed with floats; unlike power it takes negative powers of integers.",
    "[1, 2]",
    "-1",
    "[1. , 0.5], dtype=float32",
)
negative = _plain(e.neg, "negative", "The number with the opposite sign.", "[1, -2]", "[-1,  2], dtype=int32")
positive = _plain(_itself, "positive", "The number itself, +x.", "[1, -2]", "[ 1, -2], dtype=int32")
absolute = _plain(
    _Form(operators.absolute, operators.absolute_of),
    "absolute",
    "The absolute value; of complex numbers the length, a real number.",
    "[1, -2]",
    "[1, 2], dtype=int32",
)
fabs = _inexact(e.abs_, "fabs", "The absolute value, as a float.", "[1, -2]", "[1., 2.]")
sign = _plain(
    e.sign, "sign", "-1, 0 or 1; for complex numbers x / |x|.", "[3.0, -2.0, 0.0]", "[ 1., -1.,  0.], dtype=float32"
)
square = _plain(lambda x: x * x, "square", "The square x * x.", "[1, -2]", "[1, 4], dtype=int32")


def _without_bool(*values: Any) -> list[Any]:
    """Arithmetic for which bools count as the integers 0 and 1."""
    arrays = [x if type(x) in (int, float, complex) else as_array(x) for x in values]
    return [cast(x, dtypes.int32) if isinstance(x, Array) and dtypes.is_bool(x.dtype) else x for x in arrays]


def _reciprocal(x: Array) -> Array:
    (x,) = promote_inexact(x)
    return e.div(e.full((), 1, x.dtype), x)


reciprocal = _plain(
    _reciprocal, "reciprocal", "1 / x; integers are computed as float32.", "[2, 4]", "[0.5 , 0.25], dtype=float32"
)


def divmod(x: Any, y: Any, /) -> tuple[Array, Array]:
    """The quotient of floor division and its remainder: `(x // y, x % y)`.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.divmod(np.array([7, -7]), 2)
        (Array([ 3, -4], dtype=int32), Array([1, 1], dtype=int32))
    """
    return operators.floor_divide(x, y), operators.mod(x, y)


# Powers, exponentials and logarithms

sqrt = _inexact(e.sqrt, "sqrt", "The square root; NaN for negative reals.", "[4, 9]", "[2., 3.]")
exp = _inexact(e.exp, "exp", "The exponential function e**x.", "[0, 1]", "[1.   , 2.718]")
exp2 = _inexact(e.exp2, "exp2", "The power 2**x.", "[0, 3]", "[1., 8.]")
expm1 = _inexact(e.expm1, "expm1", "e**x - 1, precise for x near 0.", "[0, 1]", "[0.   , 1.718]")
log = _inexact(e.log, "log", "The natural logarithm.", "[1, 10]", "[0.   , 2.303]")
log2 = _inexact(e.log2, "log2", "The logarithm to base 2.", "[1, 8]", "[0., 3.]")
log10 = _inexact(e.log10, "log10", "The logarithm to base 10.", "[1, 1000]", "[0., 3.]")
log1p = _inexact(e.log1p, "log1p", "The natural logarithm of 1 + x, precise for x near 0.", "[0, 1]", "[0.   , 0.693]")
cbrt = _inexact(e.cbrt, "cbrt", "The real cube root.", "[8, -27]", "[ 2., -3.]")

# Trigonometric and hyperbolic functions

sin = _inexact(e.sin, "sin", "The sine of an angle in radians.", "[0.0, 1.0]", "[0.   , 0.841]")
cos = _inexact(e.cos, "cos", "The cosine of an angle in radians.", "[0.0, 1.0]", "[1.  , 0.54]")
tan = _inexact(e.tan, "tan", "The tangent of an angle in radians.", "[0.0, 1.0]", "[0.   , 1.557]")
arcsin = _inexact(e.asin, "arcsin", "The angle whose sine is x.", "[0.0, 1.0]", "[0.   , 1.571]")
arccos = _inexact(e.acos, "arccos", "The angle whose cosine is x.", "[1.0, 0.0]", "[0.   , 1.571]")
arctan = _inexact(e.atan, "arctan", "The angle whose tangent is x.", "[0.0, 1.0]", "[0.   , 0.785]")
sinh = _inexact(e.sinh, "sinh", "The hyperbolic sine.", "[0.0, 1.0]", "[0.   , 1.175]")
cosh = _inexact(e.cosh, "cosh", "The hyperbolic cosine.", "[0.0, 1.0]", "[1.   , 1.543]")
tanh = _inexact(e.tanh, "tanh", "The hyperbolic tangent.", "[0.0, 1.0]", "[0.   , 0.762]")
arcsinh = _inexact(e.asinh, "arcsinh", "The inverse hyperbolic sine.", "[0.0, 1.0]", "[0.   , 0.881]")
arccosh = _inexact(e.acosh, "arccosh", "The inverse hyperbolic cosine.", "[1.0, 2.0]", "[0.   , 1.317]")
arctanh = _inexact(e.atanh, "arctanh", "The inverse hyperbolic tangent.", "[0.0, 0.5]", "[0.   , 0.549]")
arctan2 = _binary(
    _via_inexact(e.atan2),
    "arctan2",
    "The angle of the point with the coordinates (y, x): the first argument is the height.",
    "[1.0, -1.0]",
    "0.0",
    "[ 1.5707964, -1.5707964], dtype=float32",
)


def _scaled(factor: float) -> Callable[[Array], Array]:
    def apply(x: Array) -> Array:
        (x,) = promote_inexact(x)
        return e.mul(x, e.full((), factor, x.dtype))

    return apply


deg2rad = _plain(
    _scaled(math.pi / 180), "deg2rad", "Degrees as radians.", "[0.0, 180.0]", "[0.       , 3.1415927], dtype=float32"
)
rad2deg = _plain(
    _scaled(180 / math.pi), "rad2deg", "Radians as degrees.", "[0.0, 1.0]", "[ 0.     , 57.29578], dtype=float32"
)

# Rounding. Whole numbers stay what they are, as in NumPy 2.

floor = _plain(_if("fc", e.floor, _itself), "floor", "Rounded down.", "[1.5, -1.5]", "[ 1., -2.], dtype=float32")
ceil = _plain(_if("fc", e.ceil, _itself), "ceil", "Rounded up.", "[1.5, -1.5]", "[ 2., -1.], dtype=float32")
trunc = _plain(
    _if("fc", e.trunc, _itself), "trunc", "Rounded towards zero.", "[1.5, -1.5]", "[ 1., -1.], dtype=float32"
)


def _rint(x: Array) -> Array:
    (x,) = promote_inexact(x)
    if dtypes.is_complex(x.dtype):
        return e.complex_(e.round_(e.real(x)), e.round_(e.imag(x)))
    return e.round_(x)


rint = _plain(
    _rint, "rint", "Rounded to the nearest whole number, halves to even.", "[0.5, 1.5]", "[0., 2.], dtype=float32"
)
fix = trunc

# Complex numbers


def _real_zeros(x: Array) -> Array:
    return e.zeros_like(x)


real = _plain(_if("c", e.real, _itself), "real", "The real part.", "[1 + 2j]", "[1.], dtype=float32")
imag = _plain(_if("c", e.imag, _real_zeros), "imag", "The imaginary part.", "[1 + 2j]", "[2.], dtype=float32")
conjugate = _plain(
    _if("c", e.conj, _itself), "conjugate", "The complex conjugate.", "[1 + 2j]", "[1.-2.j], dtype=complex64"
)

# Comparisons

equal = _binary(
    _operator(operator.eq, always(e.eq)), "equal", "Whether x == y.", "[1, 2]", "2", "[False,  True], dtype=bool"
)
not_equal = _binary(
    _operator(operator.ne, always(e.ne)), "not_equal", "Whether x != y.", "[1, 2]", "2", "[ True, False], dtype=bool"
)
less = _binary(
    _operator(operator.lt, always(e.lt)), "less", "Whether x < y.", "[1, 2]", "2", "[ True, False], dtype=bool"
)
less_equal = _binary(
    _operator(operator.le, always(e.le)), "less_equal", "Whether x <= y.", "[1, 2]", "1", "[ True, False], dtype=bool"
)
greater = _binary(
    _operator(operator.gt, always(e.gt)), "greater", "Whether x > y.", "[1, 2]", "1", "[False,  True], dtype=bool"
)
greater_equal = _binary(
    _operator(operator.ge, always(e.ge)),
    "greater_equal",
    "Whether x >= y.",
    "[1, 2]",
    "2",
    "[False,  True], dtype=bool",
)
maximum = _binary(
    _via(e.max_),
    "maximum",
    "The larger of x and y; NaN where either is. Where both are equal each gets half of the gradient.",
    "[1, 5]",
    "3",
    "[3, 5], dtype=int32",
)
minimum = _binary(
    _via(e.min_),
    "minimum",
    "The smaller of x and y; NaN where either is. Where both are equal each gets half of the gradient.",
    "[1, 5]",
    "3",
    "[1, 3], dtype=int32",
)
isfinite = _plain(
    e.is_finite,
    "isfinite",
    "Whether x is neither infinite nor NaN.",
    "[1.0, float('inf')]",
    "[ True, False], dtype=bool",
)
isnan = _plain(
    e.is_nan, "isnan", "Whether x is not a number (NaN).", "[1.0, float('nan')]", "[False,  True], dtype=bool"
)
signbit = _plain(
    _if("ifc", e.sign_bit, lambda x: e.full(x.shape, False, dtypes.bool_)),
    "signbit",
    "Whether the sign is a minus; true for -0.0.",
    "[1.0, -0.0]",
    "[False,  True], dtype=bool",
)
nextafter = _binary(
    _via_inexact(e.nextafter),
    "nextafter",
    "The next float after x in the direction of y.",
    "[0.0]",
    "1.0",
    "[1.e-45], dtype=float32",
)

# Logic. Numbers count as true where they are not zero.


def _logical(primitive: Primitive) -> _Form:
    return _Form(lambda x, y: primitive(as_condition(x), as_condition(y)), only_if(dtypes.is_bool, primitive))


logical_and = _binary(
    _logical(e.and_), "logical_and", "Whether both are true.", "[True, False]", "True", "[ True, False], dtype=bool"
)
logical_or = _binary(
    _logical(e.or_),
    "logical_or",
    "Whether at least one is true.",
    "[True, False]",
    "False",
    "[ True, False], dtype=bool",
)
logical_xor = _binary(
    _logical(e.xor),
    "logical_xor",
    "Whether exactly one is true.",
    "[True, False]",
    "True",
    "[False,  True], dtype=bool",
)
logical_not = _plain(
    _Form(lambda x: e.not_(as_condition(x)), only_if(dtypes.is_bool, e.not_)),
    "logical_not",
    "Whether x is false.",
    "[True, False]",
    "[False,  True], dtype=bool",
)

# Bits


def _bitwise_count(x: Array) -> Array:
    # Of the absolute value, and as uint8, as in NumPy.
    if dtypes.is_bool(x.dtype):
        return cast(x, dtypes.uint8)
    return cast(e.population_count(operators.absolute(x)), dtypes.uint8)


bitwise_and = _binary(_via(e.and_), "bitwise_and", "The bits that both have.", "[6, 5]", "3", "[2, 1], dtype=int32")
bitwise_or = _binary(_via(e.or_), "bitwise_or", "The bits that at least one has.", "[6, 5]", "3", "[7, 7], dtype=int32")
bitwise_xor = _binary(
    _via(e.xor), "bitwise_xor", "The bits that exactly one has.", "[6, 5]", "3", "[5, 6], dtype=int32"
)
invert = _plain(e.not_, "invert", "All bits flipped; for bools: not.", "[0, 1]", "[-1, -2], dtype=int32")
left_shift = _binary(
    _via(e.shift_left), "left_shift", "x * 2**y, by moving bits.", "[1, 3]", "2", "[ 4, 12], dtype=int32"
)
right_shift = _binary(
    _Form(lambda x, y: as_array(x) >> y, operators.shift_right_of),
    "right_shift",
    "x / 2**y rounded down, by moving bits.",
    "[4, -4]",
    "1",
    "[ 2, -2], dtype=int32",
)
bitwise_count = _plain(
    _bitwise_count, "bitwise_count", "How many bits of |x| are set.", "[0, 7]", "[0, 3], dtype=uint8"
)

# Other names that NumPy and the array API standard have for the same functions.

true_divide, mod, pow = divide, remainder, power
abs, conj = absolute, conjugate
acos, acosh, asin, asinh = arccos, arccosh, arcsin, arcsinh
atan, atan2, atanh = arctan, arctan2, arctanh
degrees, radians = rad2deg, deg2rad
bitwise_not = bitwise_invert = invert
bitwise_left_shift, bitwise_right_shift = left_shift, right_shift

__all__ = [
    "abs",
    "absolute",
    "acos",
    "acosh",
    "add",
    "arccos",
    "arccosh",
    "arcsin",
    "arcsinh",
    "arctan",
    "arctan2",
    "arctanh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "bitwise_and",
    "bitwise_count",
    "bitwise_invert",
    "bitwise_left_shift",
    "bitwise_not",
    "bitwise_or",
    "bitwise_right_shift",
    "bitwise_xor",
    "cbrt",
    "ceil",
    "conj",
    "conjugate",
    "cos",
    "cosh",
    "deg2rad",
    "degrees",
    "divide",
    "divmod",
    "equal",
    "exp",
    "exp2",
    "expm1",
    "fabs",
    "fix",
    "float_power",
    "floor",
    "floor_divide",
    "fmod",
    "greater",
    "greater_equal",
    "imag",
    "invert",
    "isfinite",
    "isnan",
    "left_shift",
    "less",
    "less_equal",
    "log",
    "log10",
    "log1p",
    "log2",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "maximum",
    "minimum",
    "mod",
    "multiply",
    "negative",
    "nextafter",
    "not_equal",
    "positive",
    "pow",
    "power",
    "rad2deg",
    "radians",
    "real",
    "reciprocal",
    "remainder",
    "right_shift",
    "rint",
    "sign",
    "signbit",
    "sin",
    "sinh",
    "sqrt",
    "square",
    "subtract",
    "tan",
    "tanh",
    "true_divide",
    "trunc",
]
