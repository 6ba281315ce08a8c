"""Hold primitives and functions to what they promise.

`check_primitive` compares every rule of a primitive with something that cannot share its mistakes: `evaluate` with a
reference, `jvp` with finite differences, `transpose` with the dot-product test, `batch` with a Python loop, a Program
with direct evaluation, and compositions of transforms with each other. The suite of this package runs it over every
primitive; whoever writes a primitive can do the same. `check_grads` compares the derivatives of a function with finite
differences.
"""

from funcgrad.testing.functions import check_grads
from funcgrad.testing.primitive_rules import (
    DERIVATIVE_MODES,
    FORWARD_MODES,
    MODES,
    STRICT_MODES,
    check_primitive,
    primitives_of,
)

__all__ = [
    "DERIVATIVE_MODES",
    "FORWARD_MODES",
    "MODES",
    "STRICT_MODES",
    "check_grads",
    "check_primitive",
    "primitives_of",
]
