"""A small language model as functions: the blocks that most large models are made of, for several rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

EPSILON = 1e-5


def gpt_parameters(
    layers: int, width: int, length: int, words: int, generator: numpy.random.Generator
) -> dict[str, Any]:
    """Parameters of a transformer with causal attention, by name, for texts of this length."""
    shapes = {"words": (words, width), "places": (length, width)}
    for layer in range(layers):
        shapes |= {
            f"{layer}.norm1": (2, width),
            f"{layer}.attend": (width, 3 * width),
            f"{layer}.attend_bias": (3 * width,),
            f"{layer}.mix": (width, width),
            f"{layer}.mix_bias": (width,),
            f"{layer}.norm2": (2, width),
            f"{layer}.up": (width, 4 * width),
            f"{layer}.up_bias": (4 * width,),
            f"{layer}.down": (4 * width, width),
            f"{layer}.down_bias": (width,),
        }
    shapes |= {"norm": (2, width), "head": (width, words)}
    parameters = {name: 0.05 * generator.standard_normal(shape, numpy.float32) for name, shape in shapes.items()}
    for name, value in parameters.items():
        if "norm" in name:
            value[0] += 1
    return parameters


def gpt_logits(library: Any, heads: int) -> Callable[..., Any]:
    """The scores of all next words, as a function of parameters and words, for funcgrad or JAX."""
    np, lax = library.numpy, library.lax

    def normalize(x: Any, scale_and_bias: Any) -> Any:
        centred = x - np.mean(x, axis=-1, keepdims=True)
        variance = np.mean(centred * centred, axis=-1, keepdims=True)
        return centred * lax.rsqrt(variance + EPSILON) * scale_and_bias[0] + scale_and_bias[1]

    def attend(x: Any, weights: Any, bias: Any) -> Any:
        batch, length, width = x.shape
        parts = (x @ weights + bias).reshape(batch, length, 3, heads, width // heads)
        query, key, value = (parts[:, :, part] for part in range(3))
        scores = np.einsum("bqhd,bkhd->bhqk", query, key) / (width // heads) ** 0.5
        places = np.arange(length)
        scores = np.where(places[:, None] >= places, scores, -np.inf)
        scores = np.exp(scores - lax.stop_gradient(np.max(scores, axis=-1, keepdims=True)))
        shares = scores / np.sum(scores, axis=-1, keepdims=True)
        return np.einsum("bhqk,bkhd->bqhd", shares, value).reshape(batch, length, width)

    def gelu(x: Any) -> Any:
        return 0.5 * x * (1 + np.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))

    def logits(p: Any, tokens: Any) -> Any:
        x = p["words"][tokens] + p["places"]
        for layer in range(layers_of(p)):
            mixed = attend(normalize(x, p[f"{layer}.norm1"]), p[f"{layer}.attend"], p[f"{layer}.attend_bias"])
            x = x + (mixed @ p[f"{layer}.mix"] + p[f"{layer}.mix_bias"])
            inner = gelu(normalize(x, p[f"{layer}.norm2"]) @ p[f"{layer}.up"] + p[f"{layer}.up_bias"])
            x = x + (inner @ p[f"{layer}.down"] + p[f"{layer}.down_bias"])
        return normalize(x, p["norm"]) @ p["head"]

    return logits


def next_word_loss(library: Any, logits: Any, targets: Any) -> Any:
    """The mean cross entropy of the next words."""
    np, lax = library.numpy, library.lax
    shifted = logits - lax.stop_gradient(np.max(logits, axis=-1, keepdims=True))
    right = np.take_along_axis(shifted, targets[:, :, None], axis=-1)[:, :, 0]
    return np.mean(np.log(np.sum(np.exp(shifted), axis=-1)) - right)


def gpt_loss(library: Any, heads: int) -> Callable[..., Any]:
    """The mean cross entropy of the next words, as a function of parameters, words and next words."""
    logits = gpt_logits(library, heads)
    return lambda p, tokens, targets: next_word_loss(library, logits(p, tokens), targets)


def layers_of(parameters: Any) -> int:
    """How many layers a model with these parameters has."""
    return sum(name.endswith(".mix") for name in parameters)


def turned(name: str, tensor: Any) -> Any:
    """Weights as PyTorch's linear layers keep them, outputs first, and back."""
    return tensor if tensor.ndim == 1 or "norm" in name or name in ("words", "places") else tensor.T


def torch_gpt_loss(p: dict[str, Any], heads: int) -> Callable[..., Any]:
    """The same in PyTorch, of words and next words; `p` are the parameters, turned."""
    from torch.nn.functional import cross_entropy, embedding, gelu, layer_norm, linear, scaled_dot_product_attention

    def normalize(x: Any, name: str) -> Any:
        return layer_norm(x, x.shape[-1:], p[name][0], p[name][1], EPSILON)

    def attend(x: Any, layer: int) -> Any:
        batch, length, width = x.shape
        parts = linear(x, p[f"{layer}.attend"], p[f"{layer}.attend_bias"]).split(width, dim=2)
        split = [part.view(batch, length, heads, width // heads).transpose(1, 2) for part in parts]
        mixed = scaled_dot_product_attention(*split, is_causal=True)
        return mixed.transpose(1, 2).reshape(batch, length, width)

    def loss(tokens: Any, targets: Any) -> Any:
        x = embedding(tokens, p["words"]) + p["places"]
        for layer in range(layers_of(p)):
            mixed = attend(normalize(x, f"{layer}.norm1"), layer)
            x = x + linear(mixed, p[f"{layer}.mix"], p[f"{layer}.mix_bias"])
            inner = linear(normalize(x, f"{layer}.norm2"), p[f"{layer}.up"], p[f"{layer}.up_bias"])
            x = x + linear(gelu(inner, approximate="tanh"), p[f"{layer}.down"], p[f"{layer}.down_bias"])
        logits = linear(normalize(x, "norm"), p["head"])
        return cross_entropy(logits.flatten(0, 1), targets.flatten().long())

    return loss
