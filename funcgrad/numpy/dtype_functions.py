"""Questions about dtypes: what they are, what they promote to, how large their numbers are; and the constants."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy

from funcgrad import dtypes
from funcgrad.array import Array, as_array
from funcgrad.dtypes import (
    bfloat16,
    bool_,
    complex64,
    complex128,
    float16,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    uint8,
    uint16,
    uint32,
    uint64,
)
from funcgrad.errors import ArgumentError, DtypeError
from funcgrad.primitives.elementwise import convert, real, stop_gradient
from funcgrad.primitives.operators import cast

pi, e, euler_gamma, inf, nan = math.pi, math.e, 0.57721566490153286, math.inf, math.nan
newaxis = None

ndarray = Array
dtype = numpy.dtype
finfo, iinfo = ml_dtypes.finfo, ml_dtypes.iinfo

int_, uint, float_, complex_ = int32, uint32, float32, complex64
single, double, csingle, cdouble = float32, float64, complex64, complex128

# NumPy's abstract dtypes, for issubdtype.
generic, number, inexact, character = numpy.generic, numpy.number, numpy.inexact, numpy.character
integer, signedinteger, unsignedinteger = numpy.integer, numpy.signedinteger, numpy.unsignedinteger
floating, complexfloating = numpy.floating, numpy.complexfloating

_STANDARD_KINDS = {
    "bool": (bool_,),
    "signed integer": dtypes.SIGNED,
    "unsigned integer": dtypes.UNSIGNED,
    "integral": dtypes.INTEGER,
    "real floating": dtypes.FLOATING,
    "complex floating": dtypes.COMPLEX,
    "numeric": (*dtypes.INTEGER, *dtypes.FLOATING, *dtypes.COMPLEX),
}


def result_type(*values: Any) -> numpy.dtype:
    """The dtype of an operation on `values`.

    Arguments:
        values: arrays, array-likes, dtypes and Python scalars. Python scalars are weak: they change the dtype only
            where their kind of number is wider.

    Raises:
        DtypeError: if nothing is given, or something that is no dtype of funcgrad.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.result_type(np.bfloat16, 2.0), np.result_type(np.int8, np.uint8)
        (dtype(bfloat16), dtype('int16'))
    """
    if not values:
        raise DtypeError("result_type needs at least one array, dtype or scalar.")
    return dtypes.result_type(*map(_typed, values))


def _typed(value: Any) -> Any:
    if isinstance(value, (type, str)):
        return dtypes.canonical(value)
    return as_array(value) if isinstance(value, (list, tuple)) else value


def promote_types(a: Any, b: Any) -> numpy.dtype:
    """The dtype of an operation on arrays of dtypes `a` and `b`.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.promote_types("float32", "int64")
        dtype('float32')
    """
    return dtypes.promote(dtypes.canonical(a), dtypes.canonical(b))


def issubdtype(a: Any, b: Any) -> bool:
    """Whether dtype `a` is `b` or one of its kind, such as `np.floating` or `np.integer`. bfloat16 is floating.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.issubdtype(np.bfloat16, np.floating), np.issubdtype(np.int32, np.floating)
        (True, False)
    """
    if not (isinstance(a, type) and issubclass(a, numpy.generic)):
        a = dtypes.canonical(a)
    if a == bfloat16:
        return b in (generic, number, inexact, floating, bfloat16, "bfloat16", ml_dtypes.bfloat16)
    if b in (bfloat16, "bfloat16", ml_dtypes.bfloat16):
        return False
    return bool(numpy.issubdtype(a, b))


def isdtype(dtype: Any, kind: Any) -> bool:
    """Whether a dtype is of a kind.

    Arguments:
        dtype: a dtype, or its name.
        kind: another dtype; or "bool", "signed integer", "unsigned integer", "integral", "real floating",
            "complex floating" or "numeric"; or a tuple of these, any of which will do.

    Raises:
        ArgumentError: for a kind of another name.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.isdtype(np.float32, "real floating"), np.isdtype(np.int8, ("bool", np.int8))
        (True, True)
    """
    found = dtypes.canonical(dtype)
    for item in kind if isinstance(kind, tuple) else (kind,):
        if isinstance(item, str) and item in _STANDARD_KINDS:
            if found in _STANDARD_KINDS[item]:
                return True
            continue
        try:
            if found is dtypes.canonical(item):
                return True
        except DtypeError:
            names = ", ".join(repr(name) for name in _STANDARD_KINDS)
            raise ArgumentError(f"isdtype knows no kind {item!r}; give a dtype or one of {names}.") from None
    return False


def can_cast(from_: Any, to: Any, casting: str = "safe") -> bool:
    """Whether values of one dtype can be converted to another under NumPy's casting rule.

    Arguments:
        from_: a dtype or an array.
        to: a dtype.
        casting: "no", "equiv", "safe", "same_kind" or "unsafe".

    Example:
        >>> import funcgrad.numpy as np
        >>> np.can_cast("int32", "float64"), np.can_cast("float64", "float32")
        (True, False)
    """
    source = from_.dtype if isinstance(from_, Array) else dtypes.canonical(from_)
    return bool(numpy.can_cast(source, dtypes.canonical(to), casting))  # type: ignore[arg-type]


def astype(x: Any, dtype: Any, /, *, copy: bool = False) -> Array:
    """An array converted to another dtype. Complex values converted to a real dtype lose their imaginary part.

    Arguments:
        x: an array-like.
        dtype: the new dtype; None means the default float.
        copy: of no consequence, since arrays are immutable.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.astype(np.array([1.7, -1.7]), np.int32)
        Array([ 1, -1], dtype=int32)
    """
    array = as_array(x)
    target = float32 if dtype is None else dtypes.canonical(dtype)
    if dtypes.is_complex(array.dtype) and not dtypes.is_complex(target):
        if dtypes.is_bool(target):
            return array != 0
        array = real(array)
    if dtypes.is_differentiable(array.dtype) and not dtypes.is_differentiable(target):
        return convert(stop_gradient(array), dtype=target)
    return cast(array, target)


def shape(a: Any) -> tuple[int, ...]:
    """The lengths of the axes of an array-like.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.shape([[1, 2, 3]])
        (1, 3)
    """
    return as_array(a).shape


def ndim(a: Any) -> int:
    """The number of axes of an array-like.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.ndim(3.0)
        0
    """
    return as_array(a).ndim


def size(a: Any, axis: int | None = None) -> int:
    """The number of elements of an array-like, or the length of one axis.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.size([[1, 2, 3]]), np.size([[1, 2, 3]], axis=1)
        (3, 3)
    """
    return as_array(a).size if axis is None else as_array(a).shape[axis]


def isscalar(x: Any) -> bool:
    """Whether `x` is a number, or an array without axes.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.isscalar(3.0), np.isscalar([3.0])
        (True, False)
    """
    return isinstance(x, (bool, int, float, complex, numpy.generic)) or (isinstance(x, Array) and x.ndim == 0)


def iscomplexobj(x: Any) -> bool:
    """Whether the dtype of `x` is complex, whatever the values are.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.iscomplexobj(np.array([1 + 0j]))
        True
    """
    return dtypes.is_complex(as_array(x).dtype)


def isrealobj(x: Any) -> bool:
    """Whether the dtype of `x` is not complex.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.isrealobj(np.array([1.0]))
        True
    """
    return not iscomplexobj(x)


__all__ = [
    "astype",
    "bfloat16",
    "bool_",
    "can_cast",
    "cdouble",
    "character",
    "complex64",
    "complex128",
    "complex_",
    "complexfloating",
    "csingle",
    "double",
    "dtype",
    "e",
    "euler_gamma",
    "finfo",
    "float16",
    "float32",
    "float64",
    "float_",
    "floating",
    "generic",
    "iinfo",
    "inexact",
    "inf",
    "int8",
    "int16",
    "int32",
    "int64",
    "int_",
    "integer",
    "iscomplexobj",
    "isdtype",
    "isrealobj",
    "isscalar",
    "issubdtype",
    "nan",
    "ndarray",
    "ndim",
    "newaxis",
    "number",
    "pi",
    "promote_types",
    "result_type",
    "shape",
    "signedinteger",
    "single",
    "size",
    "uint",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "unsignedinteger",
]
