"""Attention: the function, and the layer with several heads, masks, and a cache of keys and values for decoding."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from funcgrad import dtypes, random
from funcgrad import numpy as np
from funcgrad.annotations import Array, ArrayLike, Bool, Float, Int, Key, Num, Real
from funcgrad.array import ConcreteArray
from funcgrad.errors import ArgumentError, OutOfBoundsError, ShapeError
from funcgrad.lax.movement import dynamic_update_slice_in_dim
from funcgrad.nn.activations import softmax
from funcgrad.nn.dropout import Dropout
from funcgrad.nn.embedding import RotaryEmbedding
from funcgrad.nn.linear import Linear, check_sizes
from funcgrad.nn.module import Module
from funcgrad.nn.normalization import widened
from funcgrad.primitives.operators import cast, promote_inexact


def dot_product_attention(
    query: Float[ArrayLike, "*batch length heads features"],
    key: Float[ArrayLike, "*batch context kv_heads features"],
    value: Float[ArrayLike, "*batch context kv_heads value_features"],
    bias: Num[ArrayLike, "..."] | None = None,
    mask: Bool[ArrayLike, "..."] | None = None,
    *,
    scale: Real | None = None,
    is_causal: bool = False,
) -> Float[Array, "*batch length heads value_features"]:
    """Means of values, weighted by the softmax of how well their keys fit a query: `softmax(query @ key.T) @ value`.

    Arguments:
        query: of shape (..., length, heads, features).
        key: of shape (..., context, kv_heads, features). Where there are fewer of these heads than of queries, several
            heads of queries share one: grouped-query attention.
        value: of shape (..., context, kv_heads, value_features).
        bias: numbers added to the products, which broadcast to shape (..., heads, length, context).
        mask: which keys each query may look at, broadcast to the same shape. A query that may look at none gets the
            mean of all values.
        scale: the factor of the products, by default 1/sqrt(features).
        is_causal: whether query `i` may only look at keys up to number `i`.

    Returns:
        An array of shape (..., length, heads, value_features) and the dtype of the inputs. The softmax of float16 and
        bfloat16 is computed in float32.

    Raises:
        ShapeError: if the shapes do not fit together.

    Source: A. Vaswani et al., https://arxiv.org/abs/1706.03762; J. Ainslie et al., https://arxiv.org/abs/2305.13245.

    Example:
        >>> import funcgrad as fg
        >>> x = fg.random.normal(fg.random.key(0), (2, 5, 4, 8))
        >>> fg.nn.dot_product_attention(x, x, x, is_causal=True).shape
        (2, 5, 4, 8)
    """
    return _attention(query, key, value, bias, mask, scale, is_causal, None)


def _attention(
    query: Any,
    key: Any,
    value: Any,
    bias: Any,
    mask: Any,
    scale: Real | None,
    is_causal: bool,
    drop: Callable[[Array], Array] | None,
) -> Array:
    query, key, value = promote_inexact(query, key, value)
    _check_shapes(query, key, value)
    *batch, length, heads, features = query.shape
    context, groups = key.shape[-3:-1]
    # Heads that share a key become one head with more queries, so that each group is one matrix product.
    queries = query.swapaxes(-3, -2).reshape(*batch, groups, heads // max(groups, 1) * length, features)
    keys, values = key.swapaxes(-3, -2), value.swapaxes(-3, -2)
    factor = 1 / math.sqrt(features) if scale is None and features else 1.0 if scale is None else scale
    logits, dtype = widened((queries * factor) @ keys.swapaxes(-1, -2))
    logits = logits.reshape(*batch, heads, length, context)
    if bias is not None:
        logits = logits + bias
    if is_causal:
        causal = np.arange(context) <= np.arange(length)[:, None]
        mask = causal if mask is None else np.logical_and(mask, causal)
    if mask is not None:
        # A large negative number in place of minus infinity, so that a row without any key is not NaN.
        logits = np.where(mask, logits, -0.7 * float(np.finfo(logits.dtype).max))
    if logits.shape != (*batch, heads, length, context):
        raise ShapeError(
            f"attention got a mask or bias with which the weights have the shape {logits.shape}; it must broadcast to "
            f"(..., heads, length, context), which is {(*batch, heads, length, context)}."
        )
    weights = cast(softmax(logits), dtype)
    weights = weights if drop is None else drop(weights)
    result = weights.reshape(*batch, groups, heads // max(groups, 1) * length, context) @ values
    return result.reshape(*batch, heads, length, value.shape[-1]).swapaxes(-3, -2)


def _check_shapes(query: Array, key: Array, value: Array) -> None:
    shapes = query.shape, key.shape, value.shape
    if min(map(len, shapes)) < 3 or len(set(map(len, shapes))) > 1:
        problem = "all three need the axes (..., length, heads, features)"
    elif not query.shape[:-3] == key.shape[:-3] == value.shape[:-3]:
        problem = "their batch axes must be equal"
    elif query.shape[-1] != key.shape[-1]:
        problem = "queries and keys need as many features"
    elif key.shape[-3:-1] != value.shape[-3:-1]:
        problem = "there must be as many keys as values, with as many heads"
    elif key.shape[-2] == 0 or query.shape[-2] % key.shape[-2]:
        problem = "the heads of keys must divide the heads of queries"
    else:
        return
    raise ShapeError(
        f"attention got query, key and value of shapes {shapes[0]}, {shapes[1]} and {shapes[2]}; {problem}."
    )


class AttentionCache(Module):
    """The keys and values of the tokens that a `MultiHeadAttention` has decoded so far, with room for more.

    Attributes:
        keys, values: arrays of shape (..., max_length, kv_heads, head_features).
        position: the number of tokens in it, an int32 scalar.
    """

    keys: Float[Array, "*batch max_length kv_heads head_features"]
    values: Float[Array, "*batch max_length kv_heads head_features"]
    position: Int[Array, ""]


class MultiHeadAttention(Module):
    """Attention with several heads, each with its own linear functions to make queries, keys and values.

    It begins as in PyTorch: the weights of queries, keys and values are drawn uniformly by Glorot's rule for the three
    as one matrix, those of the output as in `Linear`, and all biases are zeros.

    Arguments:
        features: the number of features of inputs and outputs.
        num_heads: the number of heads.
        key: the random key from which the parameters are drawn.
        num_kv_heads: the number of heads of keys and values, which divides `num_heads`; by default as many.
        head_features: the number of features of a head, by default features / num_heads.
        context_features: the number of features of what is attended to, by default `features`.
        causal: whether a token may only look at itself and the tokens before it.
        rotary: whether queries and keys are rotated by their positions: see `RotaryEmbedding`.
        dropout: the probability with which a weight becomes 0 while training.
        use_bias: whether the linear functions have biases.
        dtype: the dtype of the parameters.

    Attributes:
        query_projection, key_projection, value_projection, output_projection: `Linear` layers.

    Source: A. Vaswani et al., https://arxiv.org/abs/1706.03762.

    Example:
        >>> import funcgrad as fg
        >>> layer = fg.nn.MultiHeadAttention(8, num_heads=2, causal=True, key=fg.random.key(0))
        >>> x = fg.random.normal(fg.random.key(1), (5, 8))
        >>> y = layer(x)

        Token by token, with a cache, gives the same:
        >>> cache, outputs = layer.initial_cache(max_length=5), []
        >>> for token in x:
        ...     output, cache = layer.decode(token[None], cache)
        ...     outputs.append(output)
        >>> bool(abs(y - fg.numpy.concatenate(outputs)).max() < 1e-6)
        True
    """

    query_projection: Linear
    key_projection: Linear
    value_projection: Linear
    output_projection: Linear
    attention_dropout: Dropout
    rotary: RotaryEmbedding | None
    num_heads: int
    num_kv_heads: int
    causal: bool

    def __init__(
        self,
        features: int,
        num_heads: int,
        *,
        key: Key,
        num_kv_heads: int | None = None,
        head_features: int | None = None,
        context_features: int | None = None,
        causal: bool = False,
        rotary: bool = False,
        dropout: Real = 0.0,
        use_bias: bool = True,
        dtype: Any = dtypes.float32,
    ):
        num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        context_features = features if context_features is None else context_features
        check_sizes("MultiHeadAttention", features=features, num_heads=num_heads, num_kv_heads=num_kv_heads)
        if num_heads == 0 or head_features is None and features % num_heads:
            raise ArgumentError(
                f"MultiHeadAttention cannot divide {features} features among {num_heads} heads; give head_features."
            )
        if num_kv_heads == 0 or num_heads % num_kv_heads:
            raise ArgumentError(
                f"MultiHeadAttention got num_heads={num_heads} and num_kv_heads={num_kv_heads}; the second must divide "
                "the first."
            )
        head_features = features // num_heads if head_features is None else head_features
        width, kv_width = num_heads * head_features, num_kv_heads * head_features
        query_key, key_key, value_key, output_key = random.split(key, 4)
        bound = math.sqrt(6 / max(features + width + 2 * kv_width, 1))

        def projection(inputs: int, outputs: int, key: Any) -> Linear:
            layer = Linear(inputs, outputs, key=key, use_bias=use_bias, dtype=dtype)
            return layer.replace(
                weight=random.uniform(key, (outputs, inputs), dtype, -bound, bound),
                bias=np.zeros(outputs, dtype) if use_bias else None,
            )

        self.query_projection = projection(features, width, query_key)
        self.key_projection = projection(context_features, kv_width, key_key)
        self.value_projection = projection(context_features, kv_width, value_key)
        output = Linear(width, features, key=output_key, use_bias=use_bias, dtype=dtype)
        self.output_projection = output.replace(bias=np.zeros(features, dtype) if use_bias else None)
        self.attention_dropout = Dropout(dropout)
        self.rotary = RotaryEmbedding(head_features) if rotary else None
        self.num_heads, self.num_kv_heads, self.causal = num_heads, num_kv_heads, causal

    def __call__(
        self,
        x: Float[ArrayLike, "*batch length features"],
        context: Float[ArrayLike, "*batch context context_features"] | None = None,
        *,
        mask: Bool[ArrayLike, "..."] | None = None,
        key: Key | None = None,
    ) -> Float[Array, "*batch length features"]:
        """What each token gathers from the tokens that it looks at.

        Arguments:
            x: one sequence, of shape (length, features), or a batch, of shape (..., length, features).
            context: what to look at, of shape (..., context, context_features); by default `x` itself.
            mask: which tokens each token may look at, broadcast to shape (..., heads, length, context). For a mask of
                tokens that are no padding, of shape (batch, context), give `mask[:, None, None, :]`.
            key: a random key; needed for dropout while training.

        Returns:
            An array of the shape of `x`.

        Raises:
            ShapeError: if the shapes do not fit.
        """
        x = _sequence(x)
        context = x if context is None else _sequence(context)
        query, keys, values = self._heads(x, context, None)
        return self._output(query, keys, values, mask, self.causal, key)

    def initial_cache(self, max_length: int, batch: Sequence[int] = (), dtype: Any = None) -> AttentionCache:
        """An empty cache for `decode`.

        Arguments:
            max_length: the number of tokens for which there is room.
            batch: the batch axes of the sequences.
            dtype: the dtype of keys and values, by default that of the parameters.
        """
        check_sizes("initial_cache", max_length=max_length)
        weight = self.key_projection.weight
        head_features = weight.shape[0] // self.num_kv_heads
        empty = np.zeros(
            (*batch, max_length, self.num_kv_heads, head_features), weight.dtype if dtype is None else dtype
        )
        return AttentionCache(empty, empty, np.zeros((), dtypes.int32))

    def decode(
        self, x: Float[ArrayLike, "*batch length features"], cache: AttentionCache, *, key: Key | None = None
    ) -> tuple[Float[Array, "*batch length features"], AttentionCache]:
        """What the next tokens of a sequence gather from themselves and the tokens in the cache.

        Arguments:
            x: the next tokens, one or more, of shape (..., length, features).
            cache: what `initial_cache`, or the last call, gave.
            key: a random key; needed for dropout while training.

        Returns:
            An array of the shape of `x`, and the cache with these tokens in it.

        Raises:
            ArgumentError: if the layer is not causal.
            OutOfBoundsError: if the cache has no more room. Within `jit`, where the number of tokens in it is not
                known, the newest tokens then take the place of the last ones.
            ShapeError: if the shapes do not fit.
        """
        if not self.causal:
            raise ArgumentError("decoding token by token needs an attention layer that was made with causal=True.")
        x = _sequence(x)
        room, length, start = cache.keys.shape[-3], x.shape[-2], cache.position
        if x.shape[:-2] != cache.keys.shape[:-3]:
            raise ShapeError(
                f"decode got tokens of shape {x.shape} and a cache for a batch of shape {cache.keys.shape[:-3]}; "
                "give initial_cache the batch axes of the tokens."
            )
        if length > room or isinstance(start, ConcreteArray) and int(start) + length > room:
            raise OutOfBoundsError(
                f"decode got {length} more tokens for a cache of {room} in all; make it with a larger max_length."
            )
        places = start + np.arange(length)
        query, keys, values = self._heads(x, x, places)
        keys = dynamic_update_slice_in_dim(cache.keys, cast(keys, cache.keys.dtype), start, cache.keys.ndim - 3)
        values = dynamic_update_slice_in_dim(cache.values, cast(values, cache.values.dtype), start, keys.ndim - 3)
        mask = np.arange(room) <= places[:, None]
        output = self._output(query, cast(keys, query.dtype), cast(values, query.dtype), mask, False, key)
        return output, AttentionCache(keys, values, cast(start + length, dtypes.int32))

    def _heads(self, x: Array, context: Array, places: Array | None) -> tuple[Array, Array, Array]:
        """Queries, keys and values, of shape (..., length, heads, head_features)."""
        query = self.query_projection(x)
        query = query.reshape(*query.shape[:-1], self.num_heads, -1)
        keys, values = (
            y.reshape(*y.shape[:-1], self.num_kv_heads, -1)
            for y in (self.key_projection(context), self.value_projection(context))
        )
        if self.rotary is not None:
            query, keys = self.rotary(query, places), self.rotary(keys, places)
        return query, keys, values

    def _output(self, query: Array, keys: Array, values: Array, mask: Any, is_causal: bool, key: Any) -> Array:
        dropout = self.attention_dropout
        drop = None if dropout.inference or dropout.rate == 0 else lambda weights: dropout(weights, key=key)
        found = _attention(query, keys, values, None, mask, None, is_causal, drop)
        return self.output_projection(found.reshape(*found.shape[:-2], -1))


def _sequence(x: Any) -> Array:
    x = np.asarray(x)
    if x.ndim < 2:
        raise ShapeError(f"attention got an input of shape {x.shape}; it takes sequences, (..., length, features).")
    return x
