"""Transformers: blocks of attention and a small network for each token, and stacks of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from funcgrad import dtypes, random
from funcgrad.annotations import Array, ArrayLike, Bool, Float, Key, Real
from funcgrad.nn.activations import Activation, gelu
from funcgrad.nn.attention import AttentionCache, MultiHeadAttention
from funcgrad.nn.dropout import Dropout
from funcgrad.nn.linear import Linear, check_sizes
from funcgrad.nn.module import Module
from funcgrad.nn.normalization import LayerNorm
from funcgrad.numpy import asarray

Caches = tuple[AttentionCache, ...]


def _keys(key: Key | None, count: int) -> Any:
    return [None] * count if key is None else random.split(key, count)


class FeedForward(Module):
    """The small network that a transformer applies to each token: linear, activation, dropout, linear.

    Arguments:
        features: the number of inputs and outputs.
        hidden_features: the number of units between, by default 4 times as many.
        key: the random key from which the parameters are drawn.
        activation: the function between the linear layers.
        dropout: the probability with which a hidden unit becomes 0 while training.
        dtype: the dtype of the parameters.

    Example:
        >>> import funcgrad as fg
        >>> fg.nn.FeedForward(8, key=fg.random.key(0))(fg.numpy.ones((5, 8))).shape
        (5, 8)
    """

    first: Linear
    second: Linear
    dropout: Dropout
    activation: Activation

    def __init__(
        self,
        features: int,
        hidden_features: int | None = None,
        *,
        key: Key,
        activation: Activation = gelu,
        dropout: Real = 0.0,
        dtype: Any = dtypes.float32,
    ):
        hidden_features = 4 * features if hidden_features is None else hidden_features
        first_key, second_key = random.split(key)
        self.first = Linear(features, hidden_features, key=first_key, dtype=dtype)
        self.second = Linear(hidden_features, features, key=second_key, dtype=dtype)
        self.dropout, self.activation = Dropout(dropout), activation

    def __call__(
        self, x: Float[ArrayLike, "*batch features"], *, key: Key | None = None
    ) -> Float[Array, "*batch features"]:
        """The outputs for each token.

        Arguments:
            x: tokens, of shape (..., features).
            key: a random key; needed for dropout while training.
        """
        return self.second(self.dropout(self.activation(self.first(x)), key=key))


class TransformerEncoderBlock(Module):
    """Attention of a sequence to itself, and a network for each token, each normalized and added to its input.

    With `causal=True` it is the block of a language model such as GPT, and can `decode` token by token.

    Arguments:
        features: the number of features of a token.
        num_heads: the number of heads of the attention.
        hidden_features: the number of hidden units of the network, by default 4 times the features.
        key: the random key from which the parameters are drawn.
        num_kv_heads, causal, rotary: see `MultiHeadAttention`.
        activation: the activation function of the network.
        dropout: the probability of elements to become 0 while training: of the attention's weights and output, and of
            the network's hidden units and output.
        norm_first: whether to normalize the input of each part, which trains more easily, or the sum after it.
        norm: a normalization layer, made by `norm(features, dtype=dtype)`, such as `nn.LayerNorm` and `nn.RMSNorm`.
        dtype: the dtype of the parameters.

    Attributes:
        attention: a `MultiHeadAttention`.
        feed_forward: a `FeedForward`.
        attention_norm, feed_forward_norm: the normalization layers.

    Source: A. Vaswani et al., https://arxiv.org/abs/1706.03762; R. Xiong et al., https://arxiv.org/abs/2002.04745.

    Example:
        >>> import funcgrad as fg
        >>> block = fg.nn.TransformerEncoderBlock(8, num_heads=2, key=fg.random.key(0))
        >>> block(fg.numpy.ones((3, 5, 8))).shape
        (3, 5, 8)
    """

    attention: MultiHeadAttention
    attention_norm: Module
    feed_forward: FeedForward
    feed_forward_norm: Module
    dropout: Dropout
    norm_first: bool

    def __init__(
        self,
        features: int,
        num_heads: int,
        hidden_features: int | None = None,
        *,
        key: Key,
        num_kv_heads: int | None = None,
        causal: bool = False,
        rotary: bool = False,
        activation: Activation = gelu,
        dropout: Real = 0.0,
        norm_first: bool = True,
        norm: Callable[..., Module] = LayerNorm,
        dtype: Any = dtypes.float32,
    ):
        attention_key, feed_forward_key = random.split(key)
        self.attention = MultiHeadAttention(
            features,
            num_heads,
            key=attention_key,
            num_kv_heads=num_kv_heads,
            causal=causal,
            rotary=rotary,
            dropout=dropout,
            dtype=dtype,
        )
        self.feed_forward = FeedForward(
            features, hidden_features, key=feed_forward_key, activation=activation, dropout=dropout, dtype=dtype
        )
        self.attention_norm, self.feed_forward_norm = norm(features, dtype=dtype), norm(features, dtype=dtype)
        self.dropout, self.norm_first = Dropout(dropout), norm_first

    def __call__(
        self,
        x: Float[ArrayLike, "*batch length features"],
        *,
        mask: Bool[ArrayLike, "..."] | None = None,
        key: Key | None = None,
    ) -> Float[Array, "*batch length features"]:
        """The tokens after this block.

        Arguments:
            x: one sequence, of shape (length, features), or a batch, of shape (..., length, features).
            mask: which tokens each token may look at, as for `MultiHeadAttention`.
            key: a random key; needed for dropout while training.
        """
        attention_key, *keys = _keys(key, 4)
        return self._block(x, lambda x: (self.attention(x, mask=mask, key=attention_key), None), keys)[0]

    def initial_cache(self, max_length: int, batch: Sequence[int] = (), dtype: Any = None) -> AttentionCache:
        """An empty cache for `decode`: see `MultiHeadAttention.initial_cache`."""
        return self.attention.initial_cache(max_length, batch, dtype)

    def decode(
        self, x: Float[ArrayLike, "*batch length features"], cache: AttentionCache, *, key: Key | None = None
    ) -> tuple[Float[Array, "*batch length features"], AttentionCache]:
        """The next tokens of a sequence after this block, and the cache with them: see `MultiHeadAttention.decode`."""
        attention_key, *keys = _keys(key, 4)
        return self._block(x, lambda x: self.attention.decode(x, cache, key=attention_key), keys)

    def _block(self, x: Any, attend: Callable[[Array], tuple[Array, Any]], keys: Sequence[Any]) -> tuple[Array, Any]:
        first_key, hidden_key, second_key = keys
        x, cache = asarray(x), None

        def attention(x: Array) -> Array:
            nonlocal cache
            y, cache = attend(x)
            return self.dropout(y, key=first_key)

        def feed_forward(x: Array) -> Array:
            return self.dropout(self.feed_forward(x, key=hidden_key), key=second_key)

        x = added(x, attention, self.attention_norm, self.norm_first)
        return added(x, feed_forward, self.feed_forward_norm, self.norm_first), cache


def added(x: Array, layer: Callable[[Array], Array], norm: Any, norm_first: bool) -> Array:
    """`x` plus what a layer gives, normalized before or after."""
    return x + layer(norm(x)) if norm_first else norm(x + layer(x))


class TransformerDecoderBlock(Module):
    """A causal block that also looks at a context: at the sequence that it translates, for example.

    It is a `TransformerEncoderBlock` with an attention to the context between its two parts.

    Arguments:
        features: the number of features of a token.
        num_heads: the number of heads of both attentions.
        hidden_features: the number of hidden units of the network, by default 4 times the features.
        key: the random key from which the parameters are drawn.
        context_features: the number of features of the context, by default those of a token.
        num_kv_heads, rotary, activation, dropout, norm_first, norm, dtype: as for `TransformerEncoderBlock`; `rotary`
            is for the attention of the sequence to itself.

    Attributes:
        attention: the `MultiHeadAttention` of the sequence to itself.
        context_attention: the `MultiHeadAttention` to the context.
        feed_forward: a `FeedForward`.
        attention_norm, context_norm, feed_forward_norm: the normalization layers.

    Source: A. Vaswani et al., https://arxiv.org/abs/1706.03762.

    Example:
        >>> import funcgrad as fg
        >>> block = fg.nn.TransformerDecoderBlock(8, num_heads=2, key=fg.random.key(0))
        >>> block(fg.numpy.ones((3, 5, 8)), fg.numpy.ones((3, 7, 8))).shape
        (3, 5, 8)
    """

    attention: MultiHeadAttention
    attention_norm: Module
    context_attention: MultiHeadAttention
    context_norm: Module
    feed_forward: FeedForward
    feed_forward_norm: Module
    dropout: Dropout
    norm_first: bool

    def __init__(
        self,
        features: int,
        num_heads: int,
        hidden_features: int | None = None,
        *,
        key: Key,
        context_features: int | None = None,
        num_kv_heads: int | None = None,
        rotary: bool = False,
        activation: Activation = gelu,
        dropout: Real = 0.0,
        norm_first: bool = True,
        norm: Callable[..., Module] = LayerNorm,
        dtype: Any = dtypes.float32,
    ):
        attention_key, context_key, feed_forward_key = random.split(key, 3)
        options: dict[str, Any] = dict(num_kv_heads=num_kv_heads, dropout=dropout, dtype=dtype)
        self.attention = MultiHeadAttention(
            features, num_heads, key=attention_key, causal=True, rotary=rotary, **options
        )
        self.context_attention = MultiHeadAttention(
            features, num_heads, key=context_key, context_features=context_features, **options
        )
        self.feed_forward = FeedForward(
            features, hidden_features, key=feed_forward_key, activation=activation, dropout=dropout, dtype=dtype
        )
        self.attention_norm, self.context_norm = norm(features, dtype=dtype), norm(features, dtype=dtype)
        self.feed_forward_norm = norm(features, dtype=dtype)
        self.dropout, self.norm_first = Dropout(dropout), norm_first

    def __call__(
        self,
        x: Float[ArrayLike, "*batch length features"],
        context: Float[ArrayLike, "*batch context context_features"],
        *,
        mask: Bool[ArrayLike, "..."] | None = None,
        context_mask: Bool[ArrayLike, "..."] | None = None,
        key: Key | None = None,
    ) -> Float[Array, "*batch length features"]:
        """The tokens after this block.

        Arguments:
            x: one sequence, of shape (length, features), or a batch, of shape (..., length, features).
            context: what to look at, of shape (..., context, context_features).
            mask: which tokens before it each token may look at, as for `MultiHeadAttention`.
            context_mask: which tokens of the context each token may look at.
            key: a random key; needed for dropout while training.
        """
        first, *keys = _keys(key, 6)
        attend = lambda x: (self.attention(x, mask=mask, key=first), None)
        return self._block(x, context, context_mask, attend, keys)[0]

    def initial_cache(self, max_length: int, batch: Sequence[int] = (), dtype: Any = None) -> AttentionCache:
        """An empty cache for `decode`: see `MultiHeadAttention.initial_cache`."""
        return self.attention.initial_cache(max_length, batch, dtype)

    def decode(
        self,
        x: Float[ArrayLike, "*batch length features"],
        cache: AttentionCache,
        context: Float[ArrayLike, "*batch context context_features"],
        *,
        context_mask: Bool[ArrayLike, "..."] | None = None,
        key: Key | None = None,
    ) -> tuple[Float[Array, "*batch length features"], AttentionCache]:
        """The next tokens of a sequence after this block, and the cache with them: see `MultiHeadAttention.decode`."""
        first, *keys = _keys(key, 6)
        return self._block(x, context, context_mask, lambda x: self.attention.decode(x, cache, key=first), keys)

    def _block(
        self, x: Any, context: Any, context_mask: Any, attend: Callable[[Array], Any], keys: Sequence[Any]
    ) -> tuple[Array, Any]:
        after_key, context_key, after_context_key, hidden_key, last_key = keys
        x, cache = asarray(x), None

        def attention(x: Array) -> Array:
            nonlocal cache
            y, cache = attend(x)
            return self.dropout(y, key=after_key)

        def context_attention(x: Array) -> Array:
            y = self.context_attention(x, context, mask=context_mask, key=context_key)
            return self.dropout(y, key=after_context_key)

        def feed_forward(x: Array) -> Array:
            return self.dropout(self.feed_forward(x, key=hidden_key), key=last_key)

        x = added(x, attention, self.attention_norm, self.norm_first)
        x = added(x, context_attention, self.context_norm, self.norm_first)
        return added(x, feed_forward, self.feed_forward_norm, self.norm_first), cache


class TransformerEncoder(Module):
    """Several `TransformerEncoderBlock`s one after the other, and a last normalization.

    Arguments:
        depth: the number of blocks.
        features, num_heads, hidden_features, options: as for `TransformerEncoderBlock`.
        key: the random key from which the parameters are drawn.
        norm: the normalization layers. There is a last one if the blocks normalize first.
        norm_first, dtype: as for `TransformerEncoderBlock`.

    Attributes:
        blocks: a tuple of blocks.
        norm: the last normalization layer, or None.

    Example, a causal one that gives the next tokens from a cache:
        >>> import funcgrad as fg
        >>> encoder = fg.nn.TransformerEncoder(2, 8, num_heads=2, causal=True, key=fg.random.key(0))
        >>> caches = encoder.initial_cache(max_length=10, batch=(3,))
        >>> y, caches = encoder.decode(fg.numpy.ones((3, 5, 8)), caches)
        >>> y.shape, int(caches[0].position)
        ((3, 5, 8), 5)
    """

    blocks: tuple[TransformerEncoderBlock, ...]
    norm: Module | None

    def __init__(
        self,
        depth: int,
        features: int,
        num_heads: int,
        hidden_features: int | None = None,
        *,
        key: Key,
        norm_first: bool = True,
        norm: Callable[..., Module] = LayerNorm,
        dtype: Any = dtypes.float32,
        **options: Any,
    ):
        check_sizes("TransformerEncoder", depth=depth)
        options.update(norm_first=norm_first, norm=norm, dtype=dtype)
        self.blocks = tuple(
            TransformerEncoderBlock(features, num_heads, hidden_features, key=block_key, **options)
            for block_key in random.split(key, depth)
        )
        self.norm = norm(features, dtype=dtype) if norm_first else None

    def __call__(
        self,
        x: Float[ArrayLike, "*batch length features"],
        *,
        mask: Bool[ArrayLike, "..."] | None = None,
        key: Key | None = None,
    ) -> Float[Array, "*batch length features"]:
        """The tokens after all blocks; the arguments are those of `TransformerEncoderBlock`."""
        for block, block_key in zip(self.blocks, _keys(key, len(self.blocks)), strict=True):
            x = block(x, mask=mask, key=block_key)
        return _last(self.norm, x)

    def initial_cache(self, max_length: int, batch: Sequence[int] = (), dtype: Any = None) -> Caches:
        """Empty caches for `decode`, one for each block: see `MultiHeadAttention.initial_cache`."""
        return tuple(block.initial_cache(max_length, batch, dtype) for block in self.blocks)

    def decode(
        self,
        x: Float[ArrayLike, "*batch length features"],
        caches: Caches,
        *,
        key: Key | None = None,
    ) -> tuple[Float[Array, "*batch length features"], Caches]:
        """The next tokens after all blocks, and the caches with them: see `MultiHeadAttention.decode`."""
        after = []
        for block, cache, block_key in zip(self.blocks, caches, _keys(key, len(self.blocks)), strict=True):
            x, cache = block.decode(x, cache, key=block_key)
            after.append(cache)
        return _last(self.norm, x), tuple(after)


class TransformerDecoder(Module):
    """Several `TransformerDecoderBlock`s one after the other, and a last normalization.

    Arguments:
        depth: the number of blocks.
        features, num_heads, hidden_features, options: as for `TransformerDecoderBlock`.
        key: the random key from which the parameters are drawn.
        norm: the normalization layers. There is a last one if the blocks normalize first.
        norm_first, dtype: as for `TransformerDecoderBlock`.

    Attributes:
        blocks: a tuple of blocks.
        norm: the last normalization layer, or None.

    Example:
        >>> import funcgrad as fg
        >>> decoder = fg.nn.TransformerDecoder(2, 8, num_heads=2, key=fg.random.key(0))
        >>> decoder(fg.numpy.ones((5, 8)), fg.numpy.ones((7, 8))).shape
        (5, 8)
    """

    blocks: tuple[TransformerDecoderBlock, ...]
    norm: Module | None

    def __init__(
        self,
        depth: int,
        features: int,
        num_heads: int,
        hidden_features: int | None = None,
        *,
        key: Key,
        norm_first: bool = True,
        norm: Callable[..., Module] = LayerNorm,
        dtype: Any = dtypes.float32,
        **options: Any,
    ):
        check_sizes("TransformerDecoder", depth=depth)
        options.update(norm_first=norm_first, norm=norm, dtype=dtype)
        self.blocks = tuple(
            TransformerDecoderBlock(features, num_heads, hidden_features, key=block_key, **options)
            for block_key in random.split(key, depth)
        )
        self.norm = norm(features, dtype=dtype) if norm_first else None

    def __call__(
        self,
        x: Float[ArrayLike, "*batch length features"],
        context: Float[ArrayLike, "*batch context context_features"],
        *,
        mask: Bool[ArrayLike, "..."] | None = None,
        context_mask: Bool[ArrayLike, "..."] | None = None,
        key: Key | None = None,
    ) -> Float[Array, "*batch length features"]:
        """The tokens after all blocks; the arguments are those of `TransformerDecoderBlock`."""
        for block, block_key in zip(self.blocks, _keys(key, len(self.blocks)), strict=True):
            x = block(x, context, mask=mask, context_mask=context_mask, key=block_key)
        return _last(self.norm, x)

    def initial_cache(self, max_length: int, batch: Sequence[int] = (), dtype: Any = None) -> Caches:
        """Empty caches for `decode`, one for each block: see `MultiHeadAttention.initial_cache`."""
        return tuple(block.initial_cache(max_length, batch, dtype) for block in self.blocks)

    def decode(
        self,
        x: Float[ArrayLike, "*batch length features"],
        caches: Caches,
        context: Float[ArrayLike, "*batch context context_features"],
        *,
        context_mask: Bool[ArrayLike, "..."] | None = None,
        key: Key | None = None,
    ) -> tuple[Float[Array, "*batch length features"], Caches]:
        """The next tokens after all blocks, and the caches with them: see `MultiHeadAttention.decode`."""
        after = []
        for block, cache, block_key in zip(self.blocks, caches, _keys(key, len(self.blocks)), strict=True):
            x, cache = block.decode(x, cache, context, context_mask=context_mask, key=block_key)
            after.append(cache)
        return _last(self.norm, x), tuple(after)


def _last(norm: Any, x: Any) -> Array:
    return asarray(x) if norm is None else norm(x)
