"""What elementwise primitives of complex numbers are, in the language of kernels.

A number is an Expression or, if it is complex, a pair of them (`complex_numbers`). A primitive of real numbers has its
rule in `lower_elementwise`, one of complex numbers here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy

from funcgrad import dtypes
from funcgrad.compiler import complex_functions
from funcgrad.compiler.complex_numbers import (
    Complex,
    Value,
    choose,
    divide,
    equal,
    integer_pow,
    is_complex,
    is_finite,
    is_nan,
    less,
    magnitude_of,
    maximum,
    minimum,
    sign,
)
from funcgrad.compiler.expressions import Expression, computing_dtype, constant, convert
from funcgrad.compiler.lower_elementwise import lower as lower_real
from funcgrad.compiler.lower_elementwise import supports as supports_real
from funcgrad.core import Primitive
from funcgrad.primitives import elementwise


def supports(primitive: Primitive, operands: Sequence[numpy.dtype], params: dict[str, Any]) -> bool:
    """Whether `lower` has a rule for the primitive with operands of these dtypes, complex or not."""
    wanted = params.get("dtype")
    if is_complex(*operands) or primitive is elementwise.complex_ or wanted is not None and is_complex(wanted):
        return primitive in RULES
    return supports_real(primitive, operands, params)


def lower(primitive: Primitive, operands: Sequence[Value], params: dict[str, Any]) -> Any:
    """The result of a primitive for single elements: an Expression, a Complex, or a tuple; None without a rule."""
    kinds = [x.dtype for x in operands]
    if not supports(primitive, kinds, params):
        return None
    if supports_real(primitive, kinds, params):
        return lower_real(primitive, operands, params)  # pyright: ignore[reportArgumentType]
    return RULES[primitive](*operands, **params)


def _convert(x: Value, dtype: numpy.dtype) -> Complex:
    part = dtypes.real_of(dtype)
    if isinstance(x, Complex):
        return Complex(convert(x.real, part), convert(x.imaginary, part))
    return Complex(lower_real(elementwise.convert, [x], {"dtype": part}), constant(0, part))


def _complex(x: Expression, y: Expression) -> Complex:
    return Complex(*[convert(v, computing_dtype(v.dtype)) for v in (x, y)])


_FUNCTIONS = (
    *("sqrt", "rsqrt", "exp", "exp2", "expm1", "logistic", "log", "log2", "log10", "log1p", "pow_", "sinh", "cosh"),
    *("tanh", "sin", "cos", "tan", "asin", "acos", "atan", "asinh", "acosh", "atanh"),
)

RULES: dict[Primitive, Callable[..., Any]] = {
    **{getattr(elementwise, name): getattr(complex_functions, name) for name in _FUNCTIONS},
    elementwise.add: lambda x, y: x + y,
    elementwise.sub: lambda x, y: x - y,
    elementwise.mul: lambda x, y: x * y,
    elementwise.div: divide,
    elementwise.neg: lambda x: -x,
    elementwise.integer_pow: integer_pow,
    elementwise.max_: maximum,
    elementwise.min_: minimum,
    elementwise.abs_: magnitude_of,
    elementwise.sign: sign,
    elementwise.real: lambda x: x.real,
    elementwise.imag: lambda x: x.imaginary,
    elementwise.conj: lambda x: Complex(x.real, -x.imaginary),
    elementwise.complex_: _complex,
    elementwise.eq: equal,
    elementwise.ne: lambda x, y: ~equal(x, y),
    elementwise.lt: less,
    elementwise.le: lambda x, y: less(x, y, or_equal=True),
    elementwise.gt: lambda x, y: less(y, x),
    elementwise.ge: lambda x, y: less(y, x, or_equal=True),
    elementwise.is_finite: lambda x: is_finite(x.real) & is_finite(x.imaginary),
    elementwise.is_nan: is_nan,
    elementwise.select: choose,
    elementwise.convert: _convert,
    elementwise.convert_weak: _convert,
    elementwise.stop_gradient: lambda x: x,
}
"""Of all elementwise primitives that take or give complex numbers."""
