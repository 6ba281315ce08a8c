"""gcd: the greatest common divisor, element by element, of integers."""

from __future__ import annotations

import numpy

from funcgrad.primitives.elementwise import INTEGER, elementwise


def _evaluate(x, y):
    if x.dtype is not y.dtype:
        raise TypeError("dtypes differ")
    return numpy.gcd(x, y)


gcd = elementwise("gcd", _evaluate, accepts=(INTEGER,))
