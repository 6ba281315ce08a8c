"""A whole program: a small GPT learns to write Python's documentation, from the start of the process on."""

from __future__ import annotations

from collections.abc import Iterator
from pydoc_data.topics import topics
from typing import Any

import numpy

from benchmarks.libraries import torch_parameters
from benchmarks.small_gpt import gpt_loss, gpt_parameters, torch_gpt_loss, turned
from benchmarks.whole_programs import program_row, tell, training_step, with_optimizers

STEPS, BATCH_SIZE, CONTEXT = 150, 32, 64
LAYERS, WIDTH, HEADS = 3, 96, 4
ALPHABET = "\n" + "".join(map(chr, range(32, 127)))
RATE, WARM_UP, LAST_RATE, WEIGHT_DECAY, LARGEST_NORM = 3e-3, STEPS // 20, 3e-5, 0.1, 1.0


def parameters() -> dict[str, numpy.ndarray]:
    return gpt_parameters(LAYERS, WIDTH, CONTEXT, len(ALPHABET), numpy.random.default_rng(0))


def batches() -> Iterator[tuple[numpy.ndarray, numpy.ndarray]]:
    """Characters and those that follow, at random places of the text that `help("assert")` shows."""
    number = {character: i for i, character in enumerate(ALPHABET)}
    text = "\n".join(topics[name] for name in sorted(topics))
    encoded = numpy.array([number.get(character, number["?"]) for character in text], numpy.int32)
    generator = numpy.random.default_rng(1)
    for _ in range(STEPS):
        starts = generator.integers(0, len(encoded) - CONTEXT, BATCH_SIZE)
        windows = encoded[starts[:, None] + numpy.arange(CONTEXT + 1)]
        yield windows[:, :-1], windows[:, 1:]


def tell_some(values: list[Any]) -> None:
    """The first loss, and the means of each third of the steps."""
    losses = list(map(float, values))
    third = STEPS // 3
    tell(losses[:1] + [sum(losses[i : i + third]) / third for i in range(0, STEPS, third)])


def with_functional(name: str) -> None:
    library, optim = with_optimizers(name)
    schedule = optim.warmup_cosine_decay_schedule(0.0, RATE, WARM_UP, STEPS, LAST_RATE)
    optimizer = optim.chain(
        optim.clip_by_global_norm(LARGEST_NORM),
        optim.adamw(schedule, weight_decay=WEIGHT_DECAY, mask=lambda p: {name: x.ndim > 1 for name, x in p.items()}),
    )
    step = training_step(library, optim, optimizer, gpt_loss(library, HEADS))
    p = library.arrays(parameters())
    state, values = optimizer.init(p), []
    for batch in batches():
        p, state, value = step(p, state, *batch)
        values.append(value)
    tell_some(values)


def with_torch() -> None:
    import torch

    p = torch_parameters(parameters(), hide=turned)
    loss = torch_gpt_loss(p, HEADS)
    groups = [
        {"params": [x for x in p.values() if x.ndim > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [x for x in p.values() if x.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=RATE, fused=True)

    def rate(count: int) -> float:
        if count < WARM_UP:
            return count / WARM_UP
        cosine = (1 + numpy.cos(numpy.pi * (count - WARM_UP) / (STEPS - WARM_UP))) / 2
        return cosine + LAST_RATE / RATE * (1 - cosine)

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    values = []
    for tokens, targets in batches():
        optimizer.zero_grad()
        value = loss(torch.from_numpy(tokens), torch.from_numpy(targets))
        value.backward()
        torch.nn.utils.clip_grad_norm_(p.values(), LARGEST_NORM)
        optimizer.step()
        schedule.step()
        values.append(value.detach())
    tell_some(values)


row = program_row(
    "program_gpt",
    f"a whole program: a GPT ({LAYERS} layers, width {WIDTH}) learns a text by characters, {STEPS} steps of AdamW",
    losses=[4.5171, 3.0527, 2.5305, 2.4592],
    tolerance=0.02,
)
