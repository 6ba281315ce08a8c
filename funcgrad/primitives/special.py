"""The inverse of the error function, in NumPy alone.

Every normal random number needs it, and importing SciPy for it would cost each program a tenth of a second at its
start. Works on the buffers of NumPy and of CuPy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy

from funcgrad.devices import array_module

BLOCK = 65536  # elements at a time, so that the temporaries stay in the cache

# M. Giles, "Approximating the erfinv function" (GPU Computing Gems, Jade Edition, 2011), table 5: the quotient of
# erf_inv(x) and x as a polynomial of w = -log(1 - x**2), or of its root. Coefficients from the highest power down.
GILES_CENTRAL = (
    *(2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087),
    *(-0.00125372503, -0.00417768164, 0.246640727, 1.50140941),
)
GILES_TAIL = (
    *(-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773),
    *(-0.0076224613, 0.00943887047, 1.00167406, 2.83297682),
)

# M. J. Wichura, "Algorithm AS 241: The Percentage Points of the Normal Distribution" (Applied Statistics 37, 1988),
# routine PPND16: numerators and denominators of the normal quantile, relative accuracy 1e-16.
WICHURA_CENTRAL = (
    (
        *(2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4, 4.5921953931549871457e4),
        *(1.3731693765509461125e4, 1.9715909503065514427e3, 1.3314166789178437745e2, 3.3871328727963666080e0),
    ),
    (
        *(5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4, 2.1213794301586595867e4),
        *(5.3941960214247511077e3, 6.8718700749205790830e2, 4.2313330701600911252e1, 1.0),
    ),
)
WICHURA_TAIL = (
    (
        *(7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1, 1.27045825245236838258),
        *(3.64784832476320460504, 5.76949722146069140550, 4.63033784615654529590, 1.42343711074968357734),
    ),
    (
        *(1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2, 1.48103976427480074590e-1),
        *(6.89767334985100004550e-1, 1.67638483018380384940, 2.05319162663775882187, 1.0),
    ),
)
WICHURA_FAR_TAIL = (
    (
        *(2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3, 2.65321895265761230930e-2),
        *(2.96560571828504891230e-1, 1.78482653991729133580, 5.46378491116411436990, 6.65790464350110377720),
    ),
    (
        *(2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5, 7.86869131145613259100e-4),
        *(1.48753612908506148525e-2, 1.36929880922735805310e-1, 5.99832206555887937690e-1, 1.0),
    ),
)


def erf_inv(x: Any) -> Any:
    """The y with erf(y) = x: NaN outside of [-1, 1], infinite at the ends. Buffers of 16 bits compute in float32."""
    module = array_module(x)
    compute = _wichura if x.dtype.itemsize == 8 else _giles
    flat = x.reshape(-1)
    result = module.empty(flat.shape, x.dtype)
    with numpy.errstate(divide="ignore", invalid="ignore"):
        for start in range(0, flat.size, BLOCK if module is numpy else max(flat.size, 1)):
            part = slice(start, start + BLOCK) if module is numpy else slice(None)
            result[part] = compute(module, flat[part])
    return result.reshape(x.shape)


def _giles(module: Any, x: Any) -> Any:
    x = x.astype(numpy.float32, copy=False)
    w = -module.log((1 - x) * (1 + x))
    result = _polynomial(GILES_CENTRAL, w - 2.5)
    tail = w >= 5
    if tail.any():
        result[tail] = _polynomial(GILES_TAIL, module.sqrt(w[tail]) - 3)
    result *= x
    return _with_ends(module, result, x)


def _wichura(module: Any, x: Any) -> Any:
    # The algorithm is for the normal quantile of a probability p: here p = (1 + x) / 2, and q = p - 1/2.
    q = x / 2
    result = q * _quotient(WICHURA_CENTRAL, 0.180625 - q * q)
    tail = abs(q) > 0.425
    if tail.any():
        outer = x[tail]
        r = module.sqrt(-module.log((1 - abs(outer)) / 2))
        quantile = _quotient(WICHURA_TAIL, r - 1.6)
        far = r > 5
        if far.any():
            quantile[far] = _quotient(WICHURA_FAR_TAIL, r[far] - 5)
        result[tail] = module.copysign(quantile, outer)
    result *= math.sqrt(0.5)
    return _with_ends(module, result, x)


def _with_ends(module: Any, result: Any, x: Any) -> Any:
    ends = abs(x) == 1
    if ends.any():
        result[ends] = module.copysign(numpy.inf, x[ends])
    return result


def _quotient(coefficients: tuple[Sequence[float], Sequence[float]], x: Any) -> Any:
    result = _polynomial(coefficients[0], x)
    result /= _polynomial(coefficients[1], x)
    return result


def _polynomial(coefficients: Sequence[float], x: Any) -> Any:
    """Horner's rule, from the highest power down."""
    result = x * coefficients[0]
    for coefficient in coefficients[1:-1]:
        result += coefficient
        result *= x
    result += coefficients[-1]
    return result
