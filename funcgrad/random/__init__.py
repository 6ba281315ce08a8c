"""Random numbers from explicit keys.

A key is an array of two uint32 words. Every function here is a pure function of its key: the same key gives the same
numbers, on every machine and under every transform. So a key is used once, and new ones are made with `split` or
`fold_in` before they are needed:

    >>> import funcgrad as fg
    >>> key = fg.random.key(0)
    >>> key, subkey = fg.random.split(key)
    >>> noise = fg.random.normal(subkey, (3,))

The names, the algorithms and the numbers are JAX's: `bits`, `uniform`, `split`, `fold_in`, `randint` and `bernoulli`
equal those of JAX bit for bit; functions that take logarithms and the like agree to rounding.

All numbers come from the counter-based generator `primitives.randomness.threefry2x32`: element `i` of a result is a
function of the key and of the number `i` alone. For many keys at once use `fg.vmap`.
"""

from funcgrad.random.choosing import bernoulli, categorical, choice, permutation, rademacher, randint
from funcgrad.random.distributions import (
    cauchy,
    exponential,
    gumbel,
    laplace,
    logistic,
    normal,
    truncated_normal,
)
from funcgrad.random.keys import PRNGKey, fold_in, key, split
from funcgrad.random.uniform_numbers import bits, uniform

__all__ = [
    "PRNGKey",
    "bernoulli",
    "bits",
    "categorical",
    "cauchy",
    "choice",
    "exponential",
    "fold_in",
    "gumbel",
    "key",
    "laplace",
    "logistic",
    "normal",
    "permutation",
    "rademacher",
    "randint",
    "split",
    "truncated_normal",
    "uniform",
]
