"""A training step of a small language model: the blocks that most large models are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

from benchmarks.libraries import TorchTraining, torch_parameters, torch_sources, training_steps
from benchmarks.optimizers import ADAM_RATE, adam_state, adam_update
from benchmarks.row import BEST, CallRow, Data
from benchmarks.small_gpt import gpt_loss, gpt_parameters, torch_gpt_loss, turned
from benchmarks.stored import stored

HEADS, WEIGHT_DECAY = 8, 0.1


def data(small: bool = False) -> Data:
    generator = numpy.random.default_rng(0)
    layers, width, length, batch, words = (1, 16, 4, 2, 11) if small else (4, 256, 128, 8, 1024)
    parameters = gpt_parameters(layers, width, length, words, generator)
    tokens = generator.integers(0, words, (batch, length + 1)).astype(numpy.int32)
    return {"state": adam_state(parameters), "batch": (tokens[:, :-1].copy(), tokens[:, 1:].copy())}


def program(library: Any) -> Any:
    loss = gpt_loss(library, HEADS)

    def step(state: Any, batch: Any) -> Any:
        value, gradient = library.api.value_and_grad(loss)(state["parameters"], *batch)
        return adam_update(library.numpy, state, gradient, WEIGHT_DECAY), value

    return step


def with_torch(data: Data, wrap: Callable[..., Any]) -> Any:
    import torch

    p = torch_parameters(data["state"]["parameters"], hide=turned)
    optimizer = torch.optim.AdamW(p.values(), lr=ADAM_RATE, weight_decay=WEIGHT_DECAY, fused=True)
    slots = {"mean": "exp_avg", "square": "exp_avg_sq"}
    return TorchTraining(p, wrap(torch_gpt_loss(p, HEADS)), optimizer, slots, data, show=turned)


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
