"""A whole program: a network learns to read handwritten digits in thirty epochs, from the start of the process on."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy

from benchmarks.whole_programs import program_row, tell, training_step, with_optimizers

EPOCHS, BATCH_SIZE, TRAIN_SIZE, WIDTH, RATE = 30, 32, 1437, 256, 3e-3
BATCHES = TRAIN_SIZE // BATCH_SIZE


def digits() -> tuple[numpy.ndarray, numpy.ndarray]:
    """The digits of scikit-learn, from its file: importing the package takes longer than the training."""
    (folder,) = find_spec("sklearn").submodule_search_locations
    with gzip.open(Path(folder) / "datasets" / "data" / "digits.csv.gz") as file:
        rows = numpy.loadtxt(file, delimiter=",", dtype=numpy.float32)[:TRAIN_SIZE]
    return rows[:, :-1] / 16, rows[:, -1].astype(numpy.int32)


def parameters() -> dict[str, numpy.ndarray]:
    generator = numpy.random.default_rng(0)

    def uniform(*shape: int) -> numpy.ndarray:
        return (2 * generator.random(shape, numpy.float32) - 1) / numpy.float32(shape[0] ** 0.5)

    return {"w1": uniform(64, WIDTH), "b1": uniform(WIDTH), "w2": uniform(WIDTH, 10), "b2": uniform(10)}


def batches(images: Any, labels: Any, epoch: int) -> Iterator[tuple[Any, Any]]:
    order = numpy.random.default_rng(epoch).permutation(TRAIN_SIZE)[: BATCHES * BATCH_SIZE]
    for chosen in order.reshape(BATCHES, BATCH_SIZE):
        yield images[chosen], labels[chosen]


def with_functional(name: str) -> None:
    library, optim = with_optimizers(name)
    np, lax = library.numpy, library.lax

    def loss(p: Any, images: Any, labels: Any) -> Any:
        logits = np.maximum(images @ p["w1"] + p["b1"], 0) @ p["w2"] + p["b2"]
        shifted = logits - lax.stop_gradient(np.max(logits, axis=1, keepdims=True))
        right = np.take_along_axis(shifted, labels[:, None], axis=1)[:, 0]
        return np.mean(np.log(np.sum(np.exp(shifted), axis=1)) - right)

    optimizer = optim.adam(optim.linear_schedule(RATE, 0.0, EPOCHS * BATCHES))
    step = training_step(library, optim, optimizer, loss)
    p = library.arrays(parameters())
    state, images_and_labels, losses = optimizer.init(p), digits(), []
    for epoch in range(EPOCHS):
        values = []
        for batch in batches(*images_and_labels, epoch):
            p, state, value = step(p, state, *batch)
            values.append(value)
        losses.append(sum(map(float, values)) / BATCHES)
    tell(losses[::10] + losses[-1:])


def with_torch() -> None:
    import torch
    from torch.nn.functional import cross_entropy

    values = parameters()
    model = torch.nn.Sequential(torch.nn.Linear(64, WIDTH), torch.nn.ReLU(), torch.nn.Linear(WIDTH, 10))
    with torch.no_grad():
        for layer, number in ((model[0], 1), (model[2], 2)):
            layer.weight.copy_(torch.from_numpy(values[f"w{number}"].T))
            layer.bias.copy_(torch.from_numpy(values[f"b{number}"]))
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda count: 1 - count / (EPOCHS * BATCHES))
    images, labels = map(torch.from_numpy, digits())
    labels, losses = labels.long(), []
    for epoch in range(EPOCHS):
        values = []
        for batch in batches(images, labels, epoch):
            optimizer.zero_grad()
            loss = cross_entropy(model(batch[0]), batch[1])
            loss.backward()
            optimizer.step()
            schedule.step()
            values.append(loss.detach())
        losses.append(sum(map(float, values)) / BATCHES)
    tell(losses[::10] + losses[-1:])


row = program_row(
    "program_digits_mlp",
    f"a whole program: a network (64-{WIDTH}-10) learns to read digits, {EPOCHS} epochs of {BATCHES} steps of Adam",
    losses=[1.2501, 0.040415, 0.017275, 0.012174],
    tolerance=0.01,
)
