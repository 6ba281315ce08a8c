"""Functions close to the primitives, with JAX's names."""

from typing import Any

from funcgrad import tree
from funcgrad.array import as_array
from funcgrad.primitives import elementwise
from funcgrad.primitives.collectives import all_gather, axis_index, axis_size, pmax, pmean, pmin, ppermute, psum


def stop_gradient(x: Any) -> Any:
    """`x` as a constant: the identity, whose derivative is zero.

    Arguments:
        x: a pytree of arrays of any shape and dtype.

    Returns:
        A pytree of the same structure, shapes and dtypes.

    Example:
        >>> import funcgrad as fg
        >>> fg.grad(lambda x: x * fg.stop_gradient(x))(3.0)
        Array(3., dtype=float32)
    """
    return tree.map(lambda leaf: elementwise.stop_gradient(as_array(leaf)), x)


__all__ = [
    "all_gather",
    "axis_index",
    "axis_size",
    "pmax",
    "pmean",
    "pmin",
    "ppermute",
    "psum",
    "stop_gradient",
]
