"""Modified Bessel functions of the first kind, of order 0 and 1, scaled by exp(-|x|) so that they do not overflow.

Their derivatives follow from those of the unscaled functions, I0' = I1 and I1' = I0 - I1 / x.

Source: M. Abramowitz and I. Stegun, "Handbook of Mathematical Functions", section 9.6.
"""

from __future__ import annotations

from funcgrad.primitives.elementwise import FLOATING, _special, div, elementwise, eq, full, mul, select, sign, sub


def _bessel_i0e_factor(y, x):
    return sub(bessel_i1e(x), mul(sign(x), y))


def _bessel_i1e_factor(y, x):
    one, half, zero = (full((), value, x.dtype) for value in (1, 0.5, 0))
    at_zero = eq(x, zero)
    safe = select(at_zero, one, x)
    return select(at_zero, half, sub(bessel_i0e(x), mul(y, sign(x) + div(one, safe))))


bessel_i0e = elementwise("bessel_i0e", _special("i0e"), (_bessel_i0e_factor,), accepts=(FLOATING,))
bessel_i1e = elementwise("bessel_i1e", _special("i1e"), (_bessel_i1e_factor,), accepts=(FLOATING,))
