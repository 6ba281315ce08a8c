"""Conversions of float16 for CPUs that have no instructions for them.

LLVM then calls a function by name, as C compilers do, and the process may or may not have one. So they are here, in
LLVM's language: exact, or rounded once to the nearest even number, with infinities and NaN kept. No CPU but the newest
converts float64 to float16 in one step, and in two steps it would be rounded twice.

An IEEE number is a sign bit, an exponent and a fraction, in this order; so numbers of one sign are ordered as their
bits are, and rounding a fraction up to the next power of two changes the exponent as it should.
"""

FLOAT16_FUNCTIONS = ("__extendhfsf2", "__truncsfhf2", "__truncdfhf2")


def _widen() -> str:
    # The bits, moved to the place that they have in a float32, are 2**112 times too small a number: exponents begin at
    # -127 there, and at -15 here.
    return f"""
define float @__extendhfsf2(half %x) nounwind {{
  %short = bitcast half %x to i16
  %bits = zext i16 %short to i32
  %sign_here = and i32 %bits, {0x8000}
  %sign = shl i32 %sign_here, 16
  %size_here = and i32 %bits, {0x7FFF}
  %size = shl i32 %size_here, 13
  %small = bitcast i32 %size to float
  %scaled = fmul float %small, 0x{(1023 + 112) << 52:016X}
  %finite = bitcast float %scaled to i32
  %infinite = or i32 %size, {0x7F800000}
  %fraction = and i32 %size_here, {0x03FF}
  %no_nan = icmp eq i32 %fraction, 0
  %quiet = select i1 %no_nan, i32 0, i32 {0x00400000}
  %special = or i32 %infinite, %quiet
  %is_finite = icmp ult i32 %size_here, {0x7C00}
  %chosen = select i1 %is_finite, i32 %finite, i32 %special
  %signed = or i32 %chosen, %sign
  %result = bitcast i32 %signed to float
  ret float %result
}}
"""


def _narrow(name: str, kind: str, width: int, fraction_bits: int, bias: int) -> str:
    """The conversion from a float of so many bits, of which so many are the fraction, and an exponent of that bias."""
    integer = f"i{width}"
    dropped = fraction_bits - 10
    infinity = ((1 << (width - 1 - fraction_bits)) - 1) << fraction_bits
    too_large = (bias + 16) << fraction_bits
    smallest_normal = (bias - 14) << fraction_bits
    # A number below 2**-14 is a multiple of 2**-24. Adding a number whose last bit is worth as much rounds to that.
    aligner_exponent = fraction_bits - 24
    aligner = (bias + aligner_exponent) << fraction_bits
    return f"""
define half @{name}({kind} %x) nounwind {{
  %bits = bitcast {kind} %x to {integer}
  %sign_there = lshr {integer} %bits, {width - 16}
  %sign = and {integer} %sign_there, {0x8000}
  %size = and {integer} %bits, {(1 << (width - 1)) - 1}

  %dropped = lshr {integer} %size, {dropped}
  %odd = and {integer} %dropped, 1
  %biased = sub {integer} %size, {(bias - 15) << fraction_bits}
  %nearly = add {integer} %biased, {(1 << (dropped - 1)) - 1}
  %rounded = add {integer} %nearly, %odd
  %normal = lshr {integer} %rounded, {dropped}

  %magnitude = bitcast {integer} %size to {kind}
  %aligned = fadd {kind} %magnitude, 0x{(1023 + aligner_exponent) << 52:016X}
  %aligned_bits = bitcast {kind} %aligned to {integer}
  %subnormal = sub {integer} %aligned_bits, {aligner}

  %fraction = and {integer} %dropped, {0x3FF}
  %nan = or {integer} %fraction, {0x7E00}

  %is_subnormal = icmp ult {integer} %size, {smallest_normal}
  %finite = select i1 %is_subnormal, {integer} %subnormal, {integer} %normal
  %is_large = icmp uge {integer} %size, {too_large}
  %number = select i1 %is_large, {integer} {0x7C00}, {integer} %finite
  %is_nan = icmp ugt {integer} %size, {infinity}
  %chosen = select i1 %is_nan, {integer} %nan, {integer} %number
  %signed = or {integer} %chosen, %sign
  %short = trunc {integer} %signed to i16
  %result = bitcast i16 %short to half
  ret half %result
}}
"""


FLOAT16_CODE = (
    _widen() + _narrow("__truncsfhf2", "float", 32, 23, 127) + _narrow("__truncdfhf2", "double", 64, 52, 1023)
)
