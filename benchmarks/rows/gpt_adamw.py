"""A training step of a small language model: the blocks that most large models are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

from benchmarks.libraries import TorchTraining, torch_parameters, torch_sources, training_steps
from benchmarks.optimizers import ADAM_RATE, adam_state, adam_update
from benchmarks.row import BEST, CallRow, Data
from benchmarks.stored import stored

HEADS, WEIGHT_DECAY, EPSILON = 8, 0.1, 1e-5


def data(small: bool = False) -> Data:
    generator = numpy.random.default_rng(0)
    layers, width, length, batch, words = (1, 16, 4, 2, 11) if small else (4, 256, 128, 8, 1024)
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
    tokens = generator.integers(0, words, (batch, length + 1)).astype(numpy.int32)
    return {"state": adam_state(parameters), "batch": (tokens[:, :-1].copy(), tokens[:, 1:].copy())}


def layers_of(parameters: Any) -> int:
    return sum(name.endswith(".mix") for name in parameters)


def program(library: Any) -> Any:
    np, lax = library.numpy, library.lax

    def normalize(x: Any, scale_and_bias: Any) -> Any:
        centred = x - np.mean(x, axis=-1, keepdims=True)
        variance = np.mean(centred * centred, axis=-1, keepdims=True)
        return centred * lax.rsqrt(variance + EPSILON) * scale_and_bias[0] + scale_and_bias[1]

    def attend(x: Any, weights: Any, bias: Any) -> Any:
        batch, length, width = x.shape
        heads = (x @ weights + bias).reshape(batch, length, 3, HEADS, width // HEADS)
        query, key, value = (heads[:, :, part] for part in range(3))
        scores = np.einsum("bqhd,bkhd->bhqk", query, key) / (width // HEADS) ** 0.5
        places = np.arange(length)
        scores = np.where(places[:, None] >= places, scores, -np.inf)
        scores = np.exp(scores - lax.stop_gradient(np.max(scores, axis=-1, keepdims=True)))
        shares = scores / np.sum(scores, axis=-1, keepdims=True)
        return np.einsum("bhqk,bkhd->bqhd", shares, value).reshape(batch, length, width)

    def gelu(x: Any) -> Any:
        return 0.5 * x * (1 + np.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))

    def loss(p: Any, tokens: Any, targets: Any) -> Any:
        x = p["words"][tokens] + p["places"]
        for layer in range(layers_of(p)):
            mixed = attend(normalize(x, p[f"{layer}.norm1"]), p[f"{layer}.attend"], p[f"{layer}.attend_bias"])
            x = x + (mixed @ p[f"{layer}.mix"] + p[f"{layer}.mix_bias"])
            inner = gelu(normalize(x, p[f"{layer}.norm2"]) @ p[f"{layer}.up"] + p[f"{layer}.up_bias"])
            x = x + (inner @ p[f"{layer}.down"] + p[f"{layer}.down_bias"])
        logits = normalize(x, p["norm"]) @ p["head"]
        shifted = logits - lax.stop_gradient(np.max(logits, axis=-1, keepdims=True))
        right = np.take_along_axis(shifted, targets[:, :, None], axis=-1)[:, :, 0]
        return np.mean(np.log(np.sum(np.exp(shifted), axis=-1)) - right)

    def step(state: Any, batch: Any) -> Any:
        value, gradient = library.api.value_and_grad(loss)(state["parameters"], *batch)
        return adam_update(np, state, gradient, WEIGHT_DECAY), value

    return step


def turned(name: str, tensor: Any) -> Any:
    """Weights as PyTorch's linear layers keep them, outputs first, and back."""
    return tensor if tensor.ndim == 1 or "norm" in name or name in ("words", "places") else tensor.T


def with_torch(data: Data, wrap: Callable[..., Any]) -> Any:
    import torch
    from torch.nn.functional import cross_entropy, embedding, gelu, layer_norm, linear, scaled_dot_product_attention

    p = torch_parameters(data["state"]["parameters"], hide=turned)

    def normalize(x: Any, name: str) -> Any:
        return layer_norm(x, x.shape[-1:], p[name][0], p[name][1], EPSILON)

    def attend(x: Any, layer: int) -> Any:
        batch, length, width = x.shape
        parts = linear(x, p[f"{layer}.attend"], p[f"{layer}.attend_bias"]).split(width, dim=2)
        heads = [part.view(batch, length, HEADS, width // HEADS).transpose(1, 2) for part in parts]
        mixed = scaled_dot_product_attention(*heads, is_causal=True)
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

    optimizer = torch.optim.AdamW(p.values(), lr=ADAM_RATE, weight_decay=WEIGHT_DECAY, fused=True)
    slots = {"mean": "exp_avg", "square": "exp_avg_sq"}
    return TorchTraining(p, wrap(loss), optimizer, slots, data, show=turned)


row = CallRow(
    name="gpt_adamw",
    title="training step of a GPT (4 layers, width 256, 8 heads, 128 tokens, batch 8) with AdamW, state donated",
    unit="ms",
    data=data,
    # Three products of a weight for every token, and of queries, keys and values for half of all pairs of tokens.
    operations=3 * 2 * 8 * 128 * (4 * (12 * 256**2 + 128 * 256) + 256 * 1024),
    reference=stored("gpt_adamw"),
    sources={**training_steps(program), **torch_sources(with_torch)},
    required={BEST: 1.2},
    absolute_tolerance=1e-8,
    scaled_tolerance=5e-4,
)
