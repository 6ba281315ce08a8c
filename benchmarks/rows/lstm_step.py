"""A training step of a recurrent network: a loop whose every step is small, and its reversal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

from benchmarks.libraries import TorchTraining, torch_sources, training_steps
from benchmarks.optimizers import MOMENTUM, MOMENTUM_RATE, momentum_state, momentum_update
from benchmarks.row import CallRow, Data
from benchmarks.stored import stored


def data(small: bool = False) -> Data:
    generator = numpy.random.default_rng(0)
    steps, batch, inputs, hidden, classes = (5, 2, 3, 4, 3) if small else (64, 32, 64, 128, 10)
    shapes = {
        "from_input": (inputs, 4 * hidden),
        "from_hidden": (hidden, 4 * hidden),
        "input_bias": (4 * hidden,),
        "hidden_bias": (4 * hidden,),
        "out": (hidden, classes),
        "out_bias": (classes,),
    }
    bound = 1 / hidden**0.5
    parameters = {name: generator.uniform(-bound, bound, shape).astype(numpy.float32) for name, shape in shapes.items()}
    sequences = generator.standard_normal((steps, batch, inputs), numpy.float32)
    labels = generator.integers(0, classes, batch).astype(numpy.int32)
    return {"state": momentum_state(parameters), "batch": (sequences, labels)}


def program(library: Any) -> Any:
    np, lax = library.numpy, library.lax

    def loss(parameters: Any, sequences: Any, labels: Any) -> Any:
        _, batch, _ = sequences.shape
        width = parameters["from_hidden"].shape[0]
        # What comes from the inputs does not wait for the loop.
        from_inputs = sequences @ parameters["from_input"] + (parameters["input_bias"] + parameters["hidden_bias"])

        def step(carry: Any, from_input: Any) -> Any:
            hidden, cell = carry
            gates = from_input + hidden @ parameters["from_hidden"]
            enter, forget, new, leave = (gates[:, part * width : (part + 1) * width] for part in range(4))
            cell = lax.logistic(forget) * cell + lax.logistic(enter) * np.tanh(new)
            return (lax.logistic(leave) * np.tanh(cell), cell), None

        start = np.zeros((batch, width), sequences.dtype)
        (hidden, _), _ = lax.scan(step, (start, start), from_inputs)
        logits = hidden @ parameters["out"] + parameters["out_bias"]
        shifted = logits - lax.stop_gradient(np.max(logits, axis=1, keepdims=True))
        right = np.take_along_axis(shifted, labels[:, None], axis=1)[:, 0]
        return np.mean(np.log(np.sum(np.exp(shifted), axis=1)) - right)

    def step(state: Any, batch: Any) -> Any:
        value, gradient = library.api.value_and_grad(loss)(state["parameters"], *batch)
        return momentum_update(state, gradient), value

    return step


def with_torch(data: Data, wrap: Callable[..., Any]) -> Any:
    import torch
    from torch.nn.functional import cross_entropy

    def transpose(name: str, tensor: Any) -> Any:
        return tensor.T if tensor.ndim == 2 else tensor

    initial = data["state"]["parameters"]
    inputs, hidden = initial["from_input"].shape[0], initial["from_hidden"].shape[0]
    lstm = torch.nn.LSTM(inputs, hidden)
    out = torch.nn.Linear(hidden, len(initial["out_bias"]))
    modules = [*lstm.parameters(), *out.parameters()]
    parameters = dict(zip(initial, modules, strict=True))

    def loss(sequences: Any, labels: Any) -> Any:
        outputs, _ = lstm(sequences)
        return cross_entropy(out(outputs[-1]), labels.long())

    optimizer = torch.optim.SGD(modules, lr=MOMENTUM_RATE, momentum=MOMENTUM, fused=True)
    return TorchTraining(parameters, wrap(loss), optimizer, {"velocity": "momentum_buffer"}, data, show=transpose)


row = CallRow(
    name="lstm_step",
    title="training step of an LSTM, hidden 128, 64 steps of 64 inputs, batch 32, SGD with momentum",
    unit="ms",
    data=data,
    # Three products of a weight at every step, without the gradient in the sequences.
    operations=2 * 64 * 32 * (2 * 64 + 3 * 128) * 4 * 128,
    reference=stored("lstm_step"),
    sources={**training_steps(program), **torch_sources(with_torch)},
    required={"torch": 1.0, "torch.compile": 1.0, "jax": 2.0},
    absolute_tolerance=1e-8,
    scaled_tolerance=2e-4,
)
