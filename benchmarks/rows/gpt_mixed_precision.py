"""What mixed precision gains or costs: the training step of a small language model in bfloat16 and in float32."""

from __future__ import annotations

from typing import Any

from benchmarks.libraries import Program, Training, functional
from benchmarks.machine import multiplies_bfloat16
from benchmarks.optimizers import adam_update
from benchmarks.row import CallRow, Data, Source
from benchmarks.rows.gpt_adamw import HEADS, WEIGHT_DECAY, data, program
from benchmarks.small_gpt import gpt_logits, next_word_loss
from benchmarks.stored import stored


def mixed_program(library: Any) -> Any:
    """The same step with parameters, optimizer and loss in float32, and all between them in bfloat16."""
    policy = library.api.nn.amp.Policy(compute_dtype="bfloat16")
    logits = gpt_logits(library, HEADS)

    def loss(parameters: Any, tokens: Any, targets: Any) -> Any:
        scores = logits(policy.cast_to_compute(parameters), tokens)
        return next_word_loss(library, policy.cast_to_output(scores), targets)

    def step(state: Any, batch: Any) -> Any:
        value, gradient = library.api.value_and_grad(loss)(state["parameters"], *batch)
        return adam_update(library.numpy, state, gradient, WEIGHT_DECAY), value

    return step


def training(program: Program) -> Source:
    def with_funcgrad(data: Data) -> Training:
        library = functional("funcgrad")
        return Training(library, program(library), data)

    return with_funcgrad


row = CallRow(
    name="gpt_mixed_precision",
    title="training step of the GPT of gpt_adamw, in bfloat16 by fg.nn.amp against float32",
    unit="ms",
    data=data,
    reference=stored("gpt_adamw"),
    sources={"funcgrad": training(mixed_program), "funcgrad float32": training(program)},
    # Without instructions for products of bfloat16, the row only tells what the conversions cost.
    required={"funcgrad float32": 1.3} if multiplies_bfloat16() else {},
    relative_tolerance=1e-2,
    absolute_tolerance=1e-6,
    scaled_tolerance=2e-2,
)
