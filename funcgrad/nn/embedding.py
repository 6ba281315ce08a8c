"""Vectors for tokens: the embedding, and two ways to say where in a sequence a token stands."""

from __future__ import annotations

import math
from typing import Any

from funcgrad import dtypes, random
from funcgrad import numpy as np
from funcgrad.annotations import Array, ArrayLike, Float, Integer, Key, Real
from funcgrad.errors import ArgumentError, DtypeError, ShapeError
from funcgrad.nn.linear import check_sizes
from funcgrad.nn.module import Module
from funcgrad.primitives.operators import cast


class Embedding(Module):
    """A table with a vector for each token. It begins as in PyTorch, with normal numbers of mean 0 and variance 1.

    Arguments:
        num_embeddings: the number of tokens.
        features: the length of a vector.
        key: the random key from which the table is drawn.
        dtype: the dtype of the table.

    Attributes:
        weight: an array of shape (num_embeddings, features).

    Example:
        >>> import funcgrad as fg
        >>> layer = fg.nn.Embedding(10, 4, key=fg.random.key(0))
        >>> layer(fg.array([[1, 2, 3], [4, 5, 6]])).shape
        (2, 3, 4)
    """

    weight: Float[Array, "num_embeddings features"]
    num_embeddings: int
    features: int

    def __init__(self, num_embeddings: int, features: int, *, key: Key, dtype: Any = dtypes.float32):
        check_sizes("Embedding", num_embeddings=num_embeddings, features=features)
        self.weight = random.normal(key, (num_embeddings, features), dtype)
        self.num_embeddings, self.features = num_embeddings, features

    def __call__(
        self, tokens: Integer[ArrayLike, "*shape"] | int, *, key: Key | None = None
    ) -> Float[Array, "*shape features"]:
        """The vectors of tokens.

        Arguments:
            tokens: integers of any shape. A token that is not in the table, also a negative one, has a vector of NaN,
                so that the mistake shows in the loss.
            key: not used.

        Returns:
            An array of shape (*tokens.shape, features).

        Raises:
            DtypeError: if the tokens are no integers.
        """
        tokens = np.asarray(tokens)
        if not dtypes.is_integer(tokens.dtype):
            raise DtypeError(f"Embedding takes tokens, which are integers, and got {tokens.dtype}.")
        return np.take(self.weight, np.where(tokens < 0, self.num_embeddings, tokens), axis=0, mode="fill")

    def attend(self, x: Float[ArrayLike, "*batch features"]) -> Float[Array, "*batch num_embeddings"]:
        """The product of vectors with each vector of the table: logits of tokens, with the same parameters.

        Arguments:
            x: vectors, of shape (..., features).

        Returns:
            An array of shape (..., num_embeddings).

        Raises:
            ShapeError: if the last axis of `x` does not have `features` elements.
        """
        x = np.asarray(x)
        if x.shape[-1:] != (self.features,):
            raise ShapeError(
                f"Embedding.attend got vectors of shape {x.shape}; their last axis must have {self.features} features."
            )
        return x @ self.weight.T


def sinusoidal_positions(
    positions: int | Integer[Array, "*shape"], features: int, *, base: Real = 10000.0, dtype: Any = dtypes.float32
) -> Float[Array, "..."]:
    """Vectors for positions: sines in the even places and cosines in the odd ones, of ever lower frequency.

    Arguments:
        positions: how many positions, counted from 0; or an integer array of them.
        features: the length of a vector, an even number.
        base: the ratio of the highest to the lowest frequency.
        dtype: the dtype of the result.

    Returns:
        An array of shape (positions, features), or (*positions.shape, features).

    Raises:
        ArgumentError: if `features` is odd.

    Source: A. Vaswani et al., https://arxiv.org/abs/1706.03762.

    Example:
        >>> import funcgrad as fg
        >>> fg.nn.sinusoidal_positions(2, 4).round(2)
        Array([[0.  , 1.  , 0.  , 1.  ],
               [0.84, 0.54, 0.01, 1.  ]], dtype=float32)
    """
    dtype = dtypes.canonical(dtype)
    angles = _angles("sinusoidal_positions", positions, features, base, dtype)
    pairs = np.stack([np.sin(angles), np.cos(angles)], axis=-1)
    return cast(pairs.reshape(*angles.shape[:-1], features), dtype)


def _angles(name: str, positions: Any, features: int, base: Real, dtype: Any) -> Array:
    """The angle of each position at each of the frequencies, of shape (*positions.shape, features / 2).

    It is float64 if `dtype` is, and otherwise float32, since angles of far positions need the digits.
    """
    if features % 2:
        raise ArgumentError(f"{name} needs an even number of features, and got {features}.")
    if isinstance(positions, int):
        positions = np.arange(positions)
    precise = dtypes.float64 if dtype == dtypes.float64 else dtypes.float32
    places = cast(np.asarray(positions), precise)
    frequencies = np.array([math.exp(-math.log(base) * 2 * i / features) for i in range(features // 2)], precise)
    return places[..., None] * frequencies


class SinusoidalPositions(Module):
    """Adds `sinusoidal_positions` to a sequence of vectors. It has no parameters.

    Arguments:
        base: the ratio of the highest to the lowest frequency.

    Example:
        >>> import funcgrad as fg
        >>> fg.nn.SinusoidalPositions()(fg.numpy.zeros((2, 3, 8))).shape
        (2, 3, 8)
    """

    base: float = 10000.0

    def __call__(
        self,
        x: Float[ArrayLike, "*batch length features"],
        *,
        positions: Integer[Array, "..."] | None = None,
        key: Key | None = None,
    ) -> Float[Array, "*batch length features"]:
        """The vectors with their positions added.

        Arguments:
            x: vectors, of shape (..., length, features).
            positions: integers that broadcast to shape (..., length); by default they count from 0.
            key: not used.
        """
        x = np.asarray(x)
        if x.ndim < 2:
            raise ShapeError(f"SinusoidalPositions got an input of shape {x.shape}; give (..., length, features).")
        places = x.shape[-2] if positions is None else positions
        return x + sinusoidal_positions(places, x.shape[-1], base=self.base, dtype=x.dtype)


class RotaryEmbedding(Module):
    """Rotates queries and keys by angles in proportion to their positions, so that their products depend on distances.

    Feature `i` of a head forms a plane with feature `i + features / 2`, the layout of LLaMA and GPT-NeoX. There are no
    parameters.

    Arguments:
        features: the number of features of a head, an even number.
        base: the ratio of the highest to the lowest frequency.

    Source: J. Su et al., https://arxiv.org/abs/2104.09864.

    Example:
        >>> import funcgrad as fg
        >>> rotary = fg.nn.RotaryEmbedding(2)
        >>> x = fg.array([[[1.0, 0.0]], [[1.0, 0.0]]])  # of shape (length, heads, features)
        >>> rotary(x)[:, 0].round(3)
        Array([[1.   , 0.   ],
               [0.54 , 0.841]], dtype=float32)
    """

    features: int
    base: float

    def __init__(self, features: int, base: Real = 10000.0):
        check_sizes("RotaryEmbedding", features=features)
        if features % 2:
            raise ArgumentError(f"RotaryEmbedding needs an even number of features, and got {features}.")
        self.features, self.base = features, float(base)

    def __call__(
        self,
        x: Float[ArrayLike, "*batch length heads features"],
        positions: Integer[Array, "..."] | None = None,
        *,
        key: Key | None = None,
    ) -> Float[Array, "*batch length heads features"]:
        """The rotated vectors.

        Arguments:
            x: queries or keys, of shape (..., length, heads, features).
            positions: integers that broadcast to shape (..., length); by default they count from 0.
            key: not used.

        Raises:
            ShapeError: if the last axis of `x` does not have `features` elements.
        """
        x = np.asarray(x)
        if x.ndim < 3 or x.shape[-1] != self.features:
            raise ShapeError(
                f"RotaryEmbedding({self.features}) got an input of shape {x.shape}; "
                f"give (..., length, heads, {self.features})."
            )
        places = x.shape[-3] if positions is None else positions
        angles = _angles("RotaryEmbedding", places, self.features, self.base, x.dtype)[..., None, :]
        cosine, sine = cast(np.cos(angles), x.dtype), cast(np.sin(angles), x.dtype)
        first, second = np.split(x, 2, axis=-1)
        return np.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)
