"""Data types: which there are, which is the default, and what mixing them gives.

A dtype is a NumPy dtype. Values keep the dtype they were given: a float64 array stays float64, with no flag to set.
Only values without a dtype of their own, Python's scalars and lists of them, take the defaults: int32, float32,
complex64. A Python scalar is *weak*: `x * 2.0` keeps the dtype of `x` whenever that dtype can represent the kind of
number, which is the rule of the array API standard (https://data-apis.org/array-api, "Type promotion").
"""

from __future__ import annotations

from functools import cache

import ml_dtypes
import numpy

from funcgrad.errors import DtypeError

bool_ = numpy.dtype(numpy.bool_)
int8, int16, int32, int64 = (numpy.dtype(f"int{n}") for n in (8, 16, 32, 64))
uint8, uint16, uint32, uint64 = (numpy.dtype(f"uint{n}") for n in (8, 16, 32, 64))
float16, float32, float64 = (numpy.dtype(f"float{n}") for n in (16, 32, 64))
bfloat16 = numpy.dtype(ml_dtypes.bfloat16)
complex64, complex128 = numpy.dtype(numpy.complex64), numpy.dtype(numpy.complex128)

SIGNED = (int8, int16, int32, int64)
UNSIGNED = (uint8, uint16, uint32, uint64)
INTEGER = SIGNED + UNSIGNED
FLOATING = (float16, bfloat16, float32, float64)
COMPLEX = (complex64, complex128)
ALL = (bool_, *INTEGER, *FLOATING, *COMPLEX)

DEFAULT_OF_SCALAR = {bool: bool_, int: int32, float: float32, complex: complex64}

# The kinds of number, from narrow to wide. An operation on two kinds happens in the wider one.
KIND = {bool_: 0} | dict.fromkeys(INTEGER, 1) | dict.fromkeys(FLOATING, 2) | dict.fromkeys(COMPLEX, 3)
KIND_OF_SCALAR = {bool: 0, int: 1, float: 2, complex: 3}
DEFAULT_OF_KIND = (bool_, int32, float32, complex64)


@cache
def canonical(dtype) -> numpy.dtype:
    """The dtype object for anything that names one: `"float32"`, `numpy.float32`, `float`, `fg.bfloat16`.

    Raises:
        DtypeError: for dtypes that funcgrad does not have, such as strings, objects and long doubles.
    """
    if dtype in DEFAULT_OF_SCALAR:
        return DEFAULT_OF_SCALAR[dtype]
    try:
        found: numpy.dtype | None = bfloat16 if dtype == "bfloat16" else numpy.dtype(dtype).newbyteorder("=")
    except TypeError:
        found = None
    if found not in KIND:
        raise DtypeError(f"{dtype!r} is not a dtype of funcgrad; choose one of {', '.join(d.name for d in ALL)}.")
    # Dtypes are compared by identity on the fast path: give the one object that stands for it here.
    return next(d for d in ALL if d == found)


def is_bool(dtype) -> bool:
    """Whether it is the dtype of truth values."""
    return KIND[dtype] == 0


def is_integer(dtype) -> bool:
    """Whether it is a signed or unsigned integer dtype."""
    return KIND[dtype] == 1


def is_floating(dtype) -> bool:
    """Whether it is a real floating dtype, bfloat16 included."""
    return KIND[dtype] == 2


def is_complex(dtype) -> bool:
    """Whether it is a complex dtype."""
    return KIND[dtype] == 3


def is_differentiable(dtype) -> bool:
    """Whether small changes of such a value mean anything: floating and complex dtypes."""
    return KIND[dtype] >= 2


@cache
def real_of(dtype) -> numpy.dtype:
    """The dtype of the real part: float32 for complex64, float64 for complex128, and any real dtype itself."""
    return float32 if dtype is complex64 else float64 if dtype is complex128 else dtype


@cache
def complex_of(dtype) -> numpy.dtype:
    """The complex dtype whose parts hold `dtype`: complex128 for 64-bit floats, complex64 for narrower ones."""
    return complex128 if dtype in (float64, complex128) else complex64


@cache
def to_floating(dtype) -> numpy.dtype:
    """The dtype in which a function such as `sin` computes: itself where inexact, the default float otherwise."""
    return dtype if KIND[dtype] >= 2 else float32


@cache
def promote(a: numpy.dtype, b: numpy.dtype) -> numpy.dtype:
    """The dtype of an operation on arrays of dtypes `a` and `b`.

    Within a kind it is the smallest dtype that holds both (uint8 with int8 gives int16; bfloat16 with float16 gives
    float32). Across kinds the standard leaves the answer open; here a wider kind wins with the width it has
    (int64 with float32 gives float32), since accelerators and training code want no surprise float64.
    The one pair of integers that no integer dtype holds, uint64 with a signed one, gives the default float.

    Source: https://data-apis.org/array-api/latest/API_specification/type_promotion.html
    """
    if a is b:
        return a
    kind_a, kind_b = KIND[a], KIND[b]
    if kind_a > kind_b:
        a, b, kind_a, kind_b = b, a, kind_b, kind_a
    if kind_a < kind_b:
        if kind_b == 3 and kind_a == 2:
            return complex128 if float64 is a or complex128 is b else complex64
        return b
    if bfloat16 in (a, b):
        return float64 if float64 in (a, b) else float32
    found = numpy.promote_types(a, b)
    return float32 if kind_a == 1 and found.kind == "f" else canonical(found)


@cache
def promote_weak(dtype: numpy.dtype, kind: int) -> numpy.dtype:
    """The dtype of an operation on an array and a Python scalar of this kind: the array's, unless that is narrower."""
    if KIND[dtype] >= kind:
        return dtype
    return complex_of(dtype) if kind == 3 and KIND[dtype] == 2 else DEFAULT_OF_KIND[kind]


def result_type(*values) -> numpy.dtype:
    """The dtype of an operation on `values`: arrays, dtypes and Python scalars; the scalars are weak."""
    strong, kind = None, -1
    for value in values:
        scalar_kind = KIND_OF_SCALAR.get(type(value))
        if scalar_kind is None and getattr(value, "weak_type", False):
            scalar_kind = KIND[value.dtype]
        if scalar_kind is not None:
            kind = max(kind, scalar_kind)
        else:
            # A class such as numpy.int64 names a dtype, though it also describes one as the attribute of its scalars.
            dtype = canonical(value if isinstance(value, type) else getattr(value, "dtype", value))
            strong = dtype if strong is None else promote(strong, dtype)
    if strong is None:
        return DEFAULT_OF_KIND[kind]
    return strong if kind < 0 else promote_weak(strong, kind)
