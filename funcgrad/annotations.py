"""The names in which signatures speak of arrays: `Float[Array, "batch features"]` is a floating array of two axes.

They come from jaxtyping (https://docs.kidger.site/jaxtyping). Importing it takes longer than importing the rest of the
package, and only type checkers and checked test runs need it. So it is imported when the environment variable
FUNCGRAD_CHECK_ANNOTATIONS is 1, and otherwise the names stand for nothing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy

from funcgrad.array import Array

CHECKED = os.environ.get("FUNCGRAD_CHECK_ANNOTATIONS") == "1"

# What functions accept for a number, and for an array, which need not be one yet.
Real = int | float
ArrayLike = Array | numpy.ndarray | bool | int | float | complex

if TYPE_CHECKING or CHECKED:
    from jaxtyping import Bool, Float, Inexact, Int, Integer, Num, Shaped, UInt32

    Key = UInt32[Array, "2"]
else:

    class _Unchecked:
        """Stands for any annotation: `Float[Array, "n"]` is this class again."""

        def __class_getitem__(cls, item: object) -> type:
            return cls

    Bool = Float = Inexact = Int = Integer = Num = Shaped = UInt32 = Key = _Unchecked

__all__ = [
    "Array",
    "ArrayLike",
    "Bool",
    "Float",
    "Inexact",
    "Int",
    "Integer",
    "Key",
    "Num",
    "Real",
    "Shaped",
    "UInt32",
]
