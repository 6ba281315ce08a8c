"""Everything that happens element by element: one table row a function.

A row gives the dtypes a function takes, how buffers are computed, and for every operand the factor by which its tangent
is multiplied: `derivatives=(lambda y, x: cos(x),)` for `sin`, where `y` is the result. Operands have one dtype and
shapes that broadcast by NumPy's rule, so that `x + bias` is one equation and no array is repeated in memory.

NumPy's functions dispatch on the buffer, so `numpy.sin` of a CuPy buffer is CuPy's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import numpy

from funcgrad import dtypes
from funcgrad.array import AbstractArray, Array, constant
from funcgrad.core import IN_ALL, IN_EACH, Primitive
from funcgrad.errors import DtypeError, ShapeError
from funcgrad.primitives import special
from funcgrad.primitives.shapes import broadcast_in_dim, broadcast_to, linear_jvp, move_axis, reshape, sum_to
from funcgrad.program import Variable, linear_step

BOOL, INTEGER, FLOATING, COMPLEX = "bool", "integer", "floating", "complex"
NUMBERS = (INTEGER, FLOATING, COMPLEX)
REALS = (INTEGER, FLOATING)
INEXACT = (FLOATING, COMPLEX)
ANY = (BOOL, *NUMBERS)
KIND_NAMES = (BOOL, INTEGER, FLOATING, COMPLEX)


def broadcast_shape(name: str, *operands: Any) -> tuple[int, ...]:
    """The common shape of operands that broadcast together.

    Raises:
        ShapeError: naming the axis at which they do not.
    """
    return _broadcast_shape(name, tuple([x.shape for x in operands]))


@lru_cache(maxsize=4096)
def _broadcast_shape(name: str, shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
    result = []
    for axis in range(-max(map(len, shapes)), 0):
        lengths = {shape[axis] for shape in shapes if len(shape) >= -axis} - {1}
        if len(lengths) > 1:
            counts = " and ".join(map(str, sorted(lengths)))
            raise ShapeError(
                f"{name} got shapes {' and '.join(map(str, shapes))}, which do not broadcast: axis {axis} has lengths "
                f"{counts}; lengths must be equal or 1, so reshape or transpose an operand, or add an axis with "
                "x[:, None]."
            )
        result.append(lengths.pop() if lengths else 1)
    return tuple(result)


def _dtype_error(name: str, accepts: tuple[str, ...], *operands: Any) -> DtypeError:
    for x in operands:
        if KIND_NAMES[dtypes.KIND[x.dtype]] not in accepts:
            return DtypeError(
                f"{name} takes {' or '.join(accepts)} dtypes, not {x.dtype.name}; convert it with x.astype(...)."
            )
    first, second = sorted({x.dtype.name for x in operands})[:2]
    return DtypeError(f"{name} got operands of dtypes {first} and {second}; convert one of them with x.astype(...).")


def elementwise(
    name: str,
    evaluate: Callable[..., Any],
    derivatives: tuple[Callable[..., Any] | None, ...] = (),
    *,
    accepts: tuple[str, ...] = NUMBERS,
    result_dtype: Callable[[numpy.dtype], numpy.dtype] | None = None,
    keeps_weak_type: bool = True,
) -> Primitive:
    """A primitive that works element by element. Without `derivatives` it is constant almost everywhere."""

    derivative: Any = derivatives[0] if derivatives else None
    accepted = frozenset(dtype for dtype in dtypes.ALL if KIND_NAMES[dtypes.KIND[dtype]] in accepts)

    def abstract(*operands, **params):
        first = operands[0]
        shape, dtype, weak = first.shape, first.dtype, keeps_weak_type and first.weak_type
        fits = dtype in accepted
        for x in operands[1:]:
            if x.dtype is not dtype:
                fits = False
            if x.shape != shape:
                shape = broadcast_shape(name, *operands)
            weak = weak and x.weak_type
        if not fits:
            raise _dtype_error(name, accepts, *operands)
        return AbstractArray(shape, dtype if result_dtype is None else result_dtype(dtype), weak)

    def jvp(primals, tangents, **params):
        result = primitive(*primals, **params)
        total = None
        for tangent, derivative in zip(tangents, derivatives, strict=True):
            if tangent is not None and derivative is not None:
                term = mul(tangent, derivative(result, *primals, **params))
                total = term if total is None else add(total, term)
        # A term has the shape of its factor, which may leave out axes that another operand brought.
        return result, total if total is None else broadcast_to(total, result.shape)

    def unary_jvp(primals, tangents, **params):
        result = primitive(*primals, **params)
        return result, linear_step(result, mul, tangents[0], derivative(result, *primals, **params))

    def constant_jvp(primals, tangents, **params):
        return primitive(*primals, **params), None

    primitive = Primitive(name, abstract=abstract, evaluate=evaluate, keeps_weak_type=keeps_weak_type)
    primitive.jvp = constant_jvp if not derivatives else unary_jvp if len(derivatives) == 1 else jvp
    primitive.batch = partial(elementwise_batch, primitive)
    return primitive


def elementwise_batch(primitive: Primitive, size, operands, axes, **params):
    """Operands whose batch axes fall together are used as they are; others get theirs in front, with axes of length
    one between, so that the inner axes still align at the end."""
    first_axis = next(axis for axis in axes if axis is not None)
    ndims = {x.ndim for x, axis in zip(operands, axes, strict=True) if axis is not None}
    others = [x.ndim for x, axis in zip(operands, axes, strict=True) if axis is None]
    together = len(ndims) == 1 and all(axis in (None, first_axis) for axis in axes)
    # Unbatched operands may meet only the axes after the batch axis.
    if together and all(ndim < max(ndims) - first_axis for ndim in others):
        return primitive(*operands, **params), first_axis
    rank = max(x.ndim - (axis is not None) for x, axis in zip(operands, axes, strict=True))

    def aligned(x, axis):
        if axis is None:
            return x
        x = move_axis(x, axis, 0)
        missing = rank - (x.ndim - 1)
        return reshape(x, shape=(size, *(1,) * missing, *x.shape[1:])) if missing else x

    return primitive(*map(aligned, operands, axes), **params), 0


def is_linear(x: Any) -> bool:
    """Whether an operand of a transpose rule is one of the linear ones, which arrive as variables and not as arrays."""
    return type(x) is Variable


def zeros_like(x: Any) -> Array:
    """Zeros of the shape and dtype of `x`, one element in memory."""
    return full(x.shape, 0, x.dtype)


def full(shape: tuple[int, ...], value: bool | int | float | complex, dtype: numpy.dtype) -> Array:
    """A constant array; it takes the memory of one element."""
    scalar = constant(value, dtype)
    return broadcast_in_dim(scalar, shape=tuple(shape), axes=()) if shape else scalar


def instantiate(tangent: Array | None, like: Any) -> Array:
    """A tangent or cotangent as an array: zeros where it is None."""
    return zeros_like(like) if tangent is None else tangent


def add_tangents(a: Array | None, b: Array | None) -> Array | None:
    """The sum of two tangents, either of which may be None for zero."""
    if a is None:
        return b
    return a if b is None else add(a, b)


# Arithmetic that is linear in an operand: the four rows below carry reverse mode.


def _add_jvp(primals, tangents):
    (x, y), (s, t) = primals, tangents
    result = add(x, y)
    if s is None:
        return result, broadcast_to(t, result.shape)
    if t is None:
        return result, broadcast_to(s, result.shape)
    return result, linear_step(result, add, s, t)


def _add_transpose(cotangent, x, y):
    # sum_to does nothing for equal shapes; not even calling it is what eager gradients are made of
    shape = cotangent.shape
    of_x = of_y = None
    if type(x) is Variable:
        of_x = cotangent if x.shape == shape else sum_to(cotangent, x.shape)
    if type(y) is Variable:
        of_y = cotangent if y.shape == shape else sum_to(cotangent, y.shape)
    return [of_x, of_y]


add = elementwise("add", numpy.add)
add.jvp, add.transpose = _add_jvp, _add_transpose
add.linearity = IN_ALL, _add_jvp


def _sub_jvp(primals, tangents):
    result, (s, t) = sub(*primals), tangents
    tangent = s if t is None else neg(t) if s is None else sub(s, t)
    return result, broadcast_to(tangent, result.shape)


def _sub_transpose(cotangent, x, y):
    return [
        sum_to(cotangent, x.shape) if is_linear(x) else None,
        neg(sum_to(cotangent, y.shape)) if is_linear(y) else None,
    ]


sub = elementwise("sub", numpy.subtract)
sub.jvp, sub.transpose = _sub_jvp, _sub_transpose
sub.linearity = IN_ALL, _sub_jvp


def bilinear_jvp(primitive: Primitive):
    """The jvp rule of a primitive that is linear in each of two operands: the product rule."""

    def jvp(primals, tangents, **params):
        (x, y), (s, t) = primals, tangents
        result = primitive(x, y, **params)
        tangent = None if s is None else linear_step(result, primitive, s, y, **params)
        if t is not None:
            other = linear_step(result, primitive, x, t, **params)
            tangent = other if tangent is None else linear_step(result, add, tangent, other)
        return result, tangent

    primitive.linearity = IN_EACH, jvp
    return jvp


def _mul_transpose(cotangent, x, y):
    if type(x) is Variable:
        return [sum_to(mul(cotangent, y), x.shape), None]
    return [None, sum_to(mul(cotangent, x), y.shape)]


mul = elementwise("mul", numpy.multiply)
mul.jvp, mul.transpose = bilinear_jvp(mul), _mul_transpose


def _div_evaluate(x, y):
    if x.dtype.kind not in "iu":
        return numpy.divide(x, y)
    # Whole numbers are divided as in C: the quotient is rounded towards zero.
    quotient = numpy.floor_divide(x, y)
    inexact = quotient * y != x
    return (quotient + (inexact & ((x < 0) != (y < 0)))).astype(x.dtype)


def _div_jvp(primals, tangents):
    (x, y), (s, t) = primals, tangents
    result = div(x, y)
    tangent = None if s is None else div(s, y)
    if t is not None:
        tangent = add_tangents(tangent, mul(t, neg(div(result, y))))
    return result, broadcast_to(tangent, result.shape)  # type: ignore[arg-type]


div = elementwise("div", _div_evaluate)
div.jvp = _div_jvp
div.transpose = lambda cotangent, x, y: [sum_to(div(cotangent, y), x.shape), None]

neg = elementwise("neg", numpy.negative)
neg.jvp = linear_jvp(neg)
neg.transpose = lambda cotangent, x: [neg(cotangent)]


# Other arithmetic

rem = elementwise(
    "rem", numpy.fmod, (lambda r, x, y: full(r.shape, 1, r.dtype), lambda r, x, y: neg(trunc(div(x, y)))), accepts=REALS
)


def _share_of_winner(result, this, other):
    """The factor for the tangent of a maximum or minimum: 1 where this operand won, one half where both did."""
    one, half, zero = (full((), value, result.dtype) for value in (1, 0.5, 0))
    return select(eq(this, other), half, select(eq(this, result), one, zero))


max_ = elementwise(
    "max",
    numpy.maximum,
    (lambda r, x, y: _share_of_winner(r, x, y), lambda r, x, y: _share_of_winner(r, y, x)),
    accepts=ANY,
)
min_ = elementwise(
    "min",
    numpy.minimum,
    (lambda r, x, y: _share_of_winner(r, x, y), lambda r, x, y: _share_of_winner(r, y, x)),
    accepts=ANY,
)


def _pow_base_factor(r, x, y):
    # y * x**(y - 1), and 0 for x = y = 0, where the power of x is infinite
    zero, one = full((), 0, x.dtype), full((), 1, x.dtype)
    safe = select(and_(eq(x, zero), eq(y, zero)), one, x)
    return mul(y, pow_(safe, sub(y, one)))


def _pow_exponent_factor(r, x, y):
    # log(x) * x**y, whose limit at x = 0 is 0
    safe = select(eq(x, full((), 0, x.dtype)), full((), 1, x.dtype), x)
    return mul(log(safe), r)


def _pow_evaluate(x, y):
    if x.dtype.kind != "i" or y.dtype.kind != "i":
        return numpy.power(x, y)
    # The quotient 1 / x**-y, rounded towards zero as `div` does it: it is whole for 1 and -1 alone.
    inverse = numpy.where(abs(x) == 1, numpy.where(y & 1, x, 1), 0).astype(x.dtype)
    return numpy.where(y < 0, inverse, numpy.power(x, numpy.maximum(y, 0)))


pow_ = elementwise("pow", _pow_evaluate, (_pow_base_factor, _pow_exponent_factor))


def _integer_pow_evaluate(x, *, exponent):
    result, square, n = None, x, abs(exponent)
    while n:
        if n & 1:
            result = square if result is None else result * square
        square, n = square * square if n > 1 else square, n >> 1
    if result is None:
        return numpy.ones_like(x)
    if exponent < 0:
        return numpy.divide(numpy.ones_like(x), result, dtype=x.dtype)  # which NumPy refuses for whole numbers
    return result


def _integer_pow_factor(r, x, *, exponent):
    if exponent == 0:
        return zeros_like(x)
    return mul(integer_pow(x, exponent=exponent - 1), full((), exponent, x.dtype))


integer_pow = elementwise("integer_pow", _integer_pow_evaluate, (_integer_pow_factor,))
_integer_pow_dtypes = integer_pow.abstract


def _integer_pow_abstract(x, *, exponent):
    if exponent < 0 and dtypes.is_integer(x.dtype):
        raise DtypeError("an integer array has no negative powers; convert it with x.astype(fg.float32) first.")
    return _integer_pow_dtypes(x, exponent=exponent)


integer_pow.abstract = _integer_pow_abstract

sqrt = elementwise("sqrt", numpy.sqrt, (lambda y, x: div(full((), 0.5, x.dtype), y),), accepts=INEXACT)
rsqrt = elementwise(
    "rsqrt",
    lambda x: (1 / numpy.sqrt(x)).astype(x.dtype, copy=False),
    (lambda y, x: mul(full((), -0.5, x.dtype), div(y, x)),),
    accepts=INEXACT,
)
cbrt = elementwise(
    "cbrt", numpy.cbrt, (lambda y, x: div(_one(x), mul(full((), 3, x.dtype), _square(y))),), accepts=(FLOATING,)
)


def _abs_factor(y, x):
    return sign(x)


abs_ = elementwise("abs", numpy.absolute, (_abs_factor,), accepts=NUMBERS, result_dtype=dtypes.real_of)
_abs_real_jvp = abs_.jvp


def _abs_jvp(primals, tangents):
    (x,), (t,) = primals, tangents
    if not dtypes.is_complex(x.dtype):
        return _abs_real_jvp(primals, tangents)
    result = abs_(x)
    return result, real(mul(t, conj(sign(x))))


abs_.jvp = _abs_jvp


def _sign_jvp(primals, tangents):
    (x,), (t,) = primals, tangents
    result = sign(x)
    if not dtypes.is_complex(x.dtype):
        return result, None
    # x / |x| turns with x but keeps its length: only the part of t across x moves it.
    across = imag(mul(t, conj(result)))
    return result, mul(result, complex_(zeros_like(across), div(across, abs_(x))))


sign = elementwise("sign", numpy.sign)
sign.jvp = _sign_jvp

floor = elementwise("floor", numpy.floor, accepts=(FLOATING,))
ceil = elementwise("ceil", numpy.ceil, accepts=(FLOATING,))
round_ = elementwise("round", numpy.rint, accepts=(FLOATING,))
trunc = elementwise("trunc", numpy.trunc, accepts=(FLOATING,))
nextafter = elementwise("nextafter", numpy.nextafter, accepts=(FLOATING,))

# Exponentials and logarithms

exp = elementwise("exp", numpy.exp, (lambda y, x: y,), accepts=INEXACT)
exp2 = elementwise("exp2", numpy.exp2, (lambda y, x: mul(y, full((), math.log(2), x.dtype)),), accepts=INEXACT)
expm1 = elementwise("expm1", numpy.expm1, (lambda y, x: add(y, full((), 1, x.dtype)),), accepts=INEXACT)
log = elementwise("log", numpy.log, (lambda y, x: div(full((), 1, x.dtype), x),), accepts=INEXACT)
log2 = elementwise("log2", numpy.log2, (lambda y, x: div(full((), 1 / math.log(2), x.dtype), x),), accepts=INEXACT)
log10 = elementwise("log10", numpy.log10, (lambda y, x: div(full((), 1 / math.log(10), x.dtype), x),), accepts=INEXACT)
log1p = elementwise(
    "log1p", numpy.log1p, (lambda y, x: div(full((), 1, x.dtype), add(x, full((), 1, x.dtype))),), accepts=INEXACT
)


def _logistic_evaluate(x):
    return (1 / (1 + numpy.exp(-x))).astype(x.dtype, copy=False)


logistic = elementwise(
    "logistic", _logistic_evaluate, (lambda y, x: mul(y, sub(full((), 1, x.dtype), y)),), accepts=INEXACT
)

# Trigonometric and hyperbolic functions. `_one` stands for the 1 in formulas such as 1 / (1 + x**2).


def _one(x):
    return constant(1, x.dtype)


def _square(x):
    return mul(x, x)


sin = elementwise("sin", numpy.sin, (lambda y, x: cos(x),), accepts=INEXACT)
cos = elementwise("cos", numpy.cos, (lambda y, x: neg(sin(x)),), accepts=INEXACT)
tan = elementwise("tan", numpy.tan, (lambda y, x: add(_one(x), _square(y)),), accepts=INEXACT)
asin = elementwise("asin", numpy.arcsin, (lambda y, x: rsqrt(sub(_one(x), _square(x))),), accepts=INEXACT)
acos = elementwise("acos", numpy.arccos, (lambda y, x: neg(rsqrt(sub(_one(x), _square(x)))),), accepts=INEXACT)
atan = elementwise("atan", numpy.arctan, (lambda y, x: div(_one(x), add(_one(x), _square(x))),), accepts=INEXACT)
atan2 = elementwise(
    "atan2",
    numpy.arctan2,
    (
        lambda r, y, x: div(x, add(_square(x), _square(y))),
        lambda r, y, x: neg(div(y, add(_square(x), _square(y)))),
    ),
    accepts=(FLOATING,),
)
sinh = elementwise("sinh", numpy.sinh, (lambda y, x: cosh(x),), accepts=INEXACT)
cosh = elementwise("cosh", numpy.cosh, (lambda y, x: sinh(x),), accepts=INEXACT)
tanh = elementwise("tanh", numpy.tanh, (lambda y, x: sub(_one(x), _square(y)),), accepts=INEXACT)
asinh = elementwise("asinh", numpy.arcsinh, (lambda y, x: rsqrt(add(_square(x), _one(x))),), accepts=INEXACT)
acosh = elementwise(
    "acosh",
    numpy.arccosh,
    # sqrt(x - 1) * sqrt(x + 1) rather than sqrt(x**2 - 1): the right branch for complex numbers
    (lambda y, x: mul(rsqrt(sub(x, _one(x))), rsqrt(add(x, _one(x)))),),
    accepts=INEXACT,
)
atanh = elementwise("atanh", numpy.arctanh, (lambda y, x: div(_one(x), sub(_one(x), _square(x))),), accepts=INEXACT)


# Special functions. SciPy is imported when the first of them is evaluated.


def _special(name: str) -> Callable[..., Any]:
    def evaluate(*buffers):
        if type(buffers[0]).__module__.startswith("cupy"):
            import cupyx.scipy.special as library  # pyright: ignore[reportMissingImports]
        else:
            import scipy.special as library
        dtype = buffers[0].dtype
        if dtype.itemsize == 2:
            buffers = tuple(x.astype(numpy.float32) for x in buffers)
        return getattr(library, name)(*buffers).astype(dtype, copy=False)

    return evaluate


def _gaussian(x, scale):
    return mul(full((), scale, x.dtype), exp(neg(_square(x))))


erf = elementwise("erf", _special("erf"), (lambda y, x: _gaussian(x, 2 / math.sqrt(math.pi)),), accepts=(FLOATING,))
erfc = elementwise("erfc", _special("erfc"), (lambda y, x: _gaussian(x, -2 / math.sqrt(math.pi)),), accepts=(FLOATING,))
erf_inv = elementwise(
    "erf_inv",
    special.erf_inv,
    (lambda y, x: mul(full((), math.sqrt(math.pi) / 2, x.dtype), exp(_square(y))),),
    accepts=(FLOATING,),
)
lgamma = elementwise("lgamma", _special("gammaln"), (lambda y, x: digamma(x),), accepts=(FLOATING,))
digamma = elementwise("digamma", _special("psi"), (lambda y, x: polygamma(_one(x), x),), accepts=(FLOATING,))
polygamma = elementwise(
    "polygamma",
    _special("polygamma"),
    (None, lambda y, n, x: polygamma(add(n, _one(n)), x)),
    accepts=(FLOATING,),
)

# Comparisons and logic


def _compare(name, evaluate, accepts=ANY):
    # The bool that a comparison of two Python scalars gives is no scalar of their kind, so it is not weak.
    return elementwise(name, evaluate, accepts=accepts, result_dtype=lambda _: dtypes.bool_, keeps_weak_type=False)


eq = _compare("eq", numpy.equal)
ne = _compare("ne", numpy.not_equal)
lt = _compare("lt", numpy.less)
le = _compare("le", numpy.less_equal)
gt = _compare("gt", numpy.greater)
ge = _compare("ge", numpy.greater_equal)
is_finite = _compare("is_finite", numpy.isfinite)
is_nan = _compare("is_nan", numpy.isnan)
sign_bit = _compare("sign_bit", numpy.signbit, accepts=REALS)

and_ = elementwise("and", numpy.bitwise_and, accepts=(BOOL, INTEGER))
or_ = elementwise("or", numpy.bitwise_or, accepts=(BOOL, INTEGER))
xor = elementwise("xor", numpy.bitwise_xor, accepts=(BOOL, INTEGER))
not_ = elementwise("not", numpy.invert, accepts=(BOOL, INTEGER))


def _population_count_evaluate(x):
    # NumPy counts the bits of the absolute value; those of the two's complement are wanted.
    return numpy.bitwise_count(x.view(f"u{x.dtype.itemsize}")).astype(x.dtype)


population_count = elementwise("population_count", _population_count_evaluate, accepts=(INTEGER,))


def _shift(name, within_width, beyond):
    """A shift whose result for amounts of the width or more is `beyond`: NumPy, like C, leaves it open."""

    def evaluate(x, amount):
        width = x.dtype.itemsize * 8
        if amount.ndim == 0 and 0 <= amount < width:
            return within_width(x, amount)
        fits = (amount >= 0) & (amount < width)
        return numpy.where(fits, within_width(x, numpy.where(fits, amount, 0)), beyond(x, width)).astype(x.dtype)

    return elementwise(name, evaluate, accepts=(INTEGER,))


def _logical_right(x, amount):
    unsigned = numpy.dtype(f"u{x.dtype.itemsize}")
    return numpy.right_shift(x.view(unsigned), amount.astype(unsigned)).view(x.dtype)


shift_left = _shift("shift_left", numpy.left_shift, lambda x, width: x.dtype.type(0))
shift_right_arithmetic = _shift(
    "shift_right_arithmetic", numpy.right_shift, lambda x, width: numpy.right_shift(x, x.dtype.type(width - 1))
)
shift_right_logical = _shift("shift_right_logical", _logical_right, lambda x, width: x.dtype.type(0))

# Complex numbers. Transposes are linear, not conjugate: the cotangent of a + ib pairs with it by (a + ib) * ct.

real = elementwise("real", lambda x: x.real, accepts=(COMPLEX,), result_dtype=dtypes.real_of)
imag = elementwise("imag", lambda x: x.imag, accepts=(COMPLEX,), result_dtype=dtypes.real_of)
conj = elementwise("conj", numpy.conjugate, accepts=(COMPLEX,))


def _complex_evaluate(x, y):
    # Not x + 1j * y, which turns an infinite y into a NaN real part.
    x, y = numpy.broadcast_arrays(x, y)
    result = numpy.empty_like(x, dtype=dtypes.complex_of(x.dtype))
    result.real, result.imag = x, y
    return result


complex_ = elementwise("complex", _complex_evaluate, accepts=(FLOATING,), result_dtype=dtypes.complex_of)


real.jvp = linear_jvp(real)
real.transpose = lambda cotangent, x: [complex_(cotangent, zeros_like(cotangent))]
imag.jvp = linear_jvp(imag)
imag.transpose = lambda cotangent, x: [complex_(zeros_like(cotangent), neg(cotangent))]
conj.jvp = linear_jvp(conj)
conj.transpose = lambda cotangent, x: [conj(cotangent)]


def _complex_jvp(primals, tangents):
    tangents = [instantiate(t, x) for t, x in zip(tangents, primals, strict=True)]
    return complex_(*primals), complex_(*tangents)


def _complex_transpose(cotangent, x, y):
    def part(of_cotangent, operand):
        # Parts of half width make a complex64, whose own parts are wider.
        of_cotangent = sum_to(of_cotangent, operand.shape)
        return of_cotangent if of_cotangent.dtype is operand.dtype else convert(of_cotangent, dtype=operand.dtype)

    return [
        part(real(cotangent), x) if is_linear(x) else None,
        part(neg(imag(cotangent)), y) if is_linear(y) else None,
    ]


complex_.jvp, complex_.transpose = _complex_jvp, _complex_transpose

# select: condition ? on_true : on_false


def _select_abstract(condition, on_true, on_false):
    if condition.dtype is not dtypes.bool_:
        raise DtypeError(f"where needs a bool condition, not {condition.dtype.name}; compare it with something first.")
    if on_true.dtype is not on_false.dtype:
        raise _dtype_error("where", ANY, on_true, on_false)
    return AbstractArray(broadcast_shape("where", condition, on_true, on_false), on_true.dtype)


def _select_jvp(primals, tangents):
    condition, on_true, _ = primals
    result = select(*primals)
    _, s, t = tangents
    if s is None and t is None:
        return result, None
    zero = full((), 0, on_true.dtype)
    tangent = select(condition, zero if s is None else s, zero if t is None else t)
    return result, broadcast_to(tangent, result.shape)


def _select_transpose(cotangent, condition, on_true, on_false):
    zero = full((), 0, cotangent.dtype)
    return [
        None,
        sum_to(select(condition, cotangent, zero), on_true.shape) if is_linear(on_true) else None,
        sum_to(select(condition, zero, cotangent), on_false.shape) if is_linear(on_false) else None,
    ]


select = elementwise("select", numpy.where, keeps_weak_type=False)
select.abstract, select.jvp, select.transpose = _select_abstract, _select_jvp, _select_transpose

# convert: change the dtype


def _convert_abstract(x, *, dtype):
    if dtypes.is_complex(x.dtype) and not dtypes.is_complex(dtype):
        raise DtypeError(f"a {x.dtype.name} array does not convert to {dtype.name}; take x.real or abs(x) first.")
    return AbstractArray(x.shape, dtype)


def _convert_evaluate(x, *, dtype):
    if x.dtype.kind == "c" and dtype.kind != "c":
        raise TypeError("complex to real")
    return x.astype(dtype)


def _convert_jvp(primals, tangents, *, dtype):
    differentiable = dtypes.is_differentiable(dtype)
    return convert(*primals, dtype=dtype), convert(*tangents, dtype=dtype) if differentiable else None


def _convert_transpose(cotangent, x, *, dtype):
    if dtypes.is_complex(dtype) and not dtypes.is_complex(x.dtype):
        cotangent = real(cotangent)
    return [cotangent if cotangent.dtype is x.dtype else convert(cotangent, dtype=x.dtype)]


convert = elementwise("convert", _convert_evaluate, keeps_weak_type=False)
convert.abstract, convert.jvp, convert.transpose = _convert_abstract, _convert_jvp, _convert_transpose

# The same for a Python scalar that meets one of a wider kind, and stays weak.
convert_weak = elementwise("convert_weak", _convert_evaluate)
convert_weak.abstract = lambda x, *, dtype: AbstractArray(x.shape, _convert_abstract(x, dtype=dtype).dtype, x.weak_type)
convert_weak.jvp, convert_weak.transpose = _convert_jvp, _convert_transpose

# stop_gradient: the identity, whose tangent is zero

stop_gradient = elementwise("stop_gradient", lambda x: x, accepts=ANY)
