"""What a training does beside its steps: `python -m benchmarks.training_loop`, from the root of the repository.

It prints which share of the time of three examples goes by waiting for data, and what `fg.train.fit` adds to a loop
that is written by hand. Both concern times of a microsecond, so the least times of many epochs and loops are compared:
what else the machine does takes its time from some of them, and not from all.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from time import perf_counter
from typing import Any

import funcgrad as fg

FOLDER = Path(__file__).resolve().parent.parent / "examples"
KEYS = fg.random.split(fg.random.key(0), 3)


def digits_mlp() -> tuple[Callable[..., Any], Any, Any, int]:
    """Step, state, data and number of epochs of examples/digits.py."""
    import digits as example

    images, labels, *_ = example.load_data()
    data = fg.data.ArrayDataset((images, labels))
    network = fg.nn.MLP(64, 10, width=256, depth=1, activation=fg.nn.relu, key=KEYS[0])

    def step(state: Any, batch: Any) -> Any:
        *state, value = example.train_step(*state, *batch)
        return tuple(state), {"loss": value}

    loader = fg.data.DataLoader(data, example.BATCH_SIZE, shuffle_key=KEYS[1], drop_last=True)
    return step, (network, example.optimizer.init(network)), loader, 300


def digits_cnn() -> tuple[Callable[..., Any], Any, Any, int]:
    """Those of examples/cnn_digits.py."""
    import cnn_digits as example

    images, labels, *_ = example.load_data()
    data = fg.data.ArrayDataset((images, labels))
    network = example.Network(key=KEYS[0])

    def step(state: Any, batch: Any) -> Any:
        *state, value = example.train_step(*state, *batch, KEYS[2])
        return tuple(state), {"loss": value}

    loader = fg.data.DataLoader(data, example.BATCH_SIZE, shuffle_key=KEYS[1], drop_last=True)
    return step, (network, network.initial_state(), example.optimizer.init(network)), loader, 6


def cifar_cnn() -> tuple[Callable[..., Any], Any, Any, int]:
    """Those of examples/cnn_cifar.py, with the files that it makes itself."""
    import cnn_cifar as example

    folder = Path(tempfile.mkdtemp())
    example.write_windows(folder)
    data = fg.data.load("cifar10", folder, split="train")
    network, optimizer = example.Network(key=KEYS[0]), fg.optim.adamw(1e-3)
    train_step = example.make_train_step(optimizer)

    def step(state: Any, batch: Any) -> Any:
        *state, value = train_step(*state, batch["image"], batch["label"], KEYS[2])
        return tuple(state), {"loss": value}

    loader = fg.data.DataLoader(data, example.BATCH_SIZE, shuffle_key=KEYS[1], drop_last=True)
    return step, (network, network.initial_state(), optimizer.init(network)), loader, 4


def idle_share(example: Callable[[], Any]) -> str:
    """How long a step takes, and how long it waits for its data: the least of all epochs but the first."""
    step, state, loader, epochs = example()
    profile = fg.train.Profile()
    with loader:
        fg.train.fit(step, state, loader, epochs, callbacks=[profile])
    later = profile.epochs[1:]
    computing, waiting = (min(epoch[part] / epoch["steps"] for epoch in later) for part in ("step", "data"))
    share = waiting / (computing + waiting)
    return f"{1e6 * computing:8.1f} µs a step, and {1e6 * waiting:.2f} µs waiting for data: {share:.2%}"


def added_by_fit(pairs: int = 2000) -> str:
    """What `fit` adds to a step of a small network: both loops in turns, over batches that are already there."""
    model = fg.nn.MLP(64, 10, width=128, depth=1, key=KEYS[0])
    optimizer = fg.optim.adam(2e-3)

    def loss(model: Any, batch: Any) -> Any:
        logits = model(batch["image"].reshape(-1, 64) / 16)
        return fg.losses.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()

    @fg.jit
    def step(state: Any, batch: Any) -> Any:
        model, optimizer_state = state
        value, gradient = fg.value_and_grad(loss)(model, batch)
        updates, optimizer_state = optimizer.update(gradient, optimizer_state, model)
        return (fg.optim.apply_updates(model, updates), optimizer_state), {"loss": value}

    start = (model, optimizer.init(model))
    batches = list(fg.data.DataLoader(fg.data.load("digits"), 64, shuffle_key=KEYS[1], drop_last=True)) * 4

    def by_hand() -> None:
        state, losses = start, []
        for batch in batches:
            state, outputs = step(state, batch)
            losses.append(float(outputs["loss"]))
        fmean(losses)

    def by_fit() -> None:
        fg.train.fit(step, start, batches)

    def seconds(loop: Callable[[], None]) -> float:
        before = perf_counter()
        loop()
        return (perf_counter() - before) / len(batches)

    measured: dict[Callable[[], None], list[float]] = {by_hand: [], by_fit: []}
    for pair in range(pairs):
        for loop in (by_hand, by_fit) if pair % 2 else (by_fit, by_hand):
            measured[loop].append(seconds(loop))
    hand, fit = (min(measured[loop]) for loop in (by_hand, by_fit))
    return f"{1e6 * hand:8.1f} µs a step by hand, fit adds {1e6 * (fit - hand):.2f} µs: {fit / hand - 1:.2%}"


def main() -> None:
    """Measures and prints all of it."""
    sys.path.insert(0, str(FOLDER))
    for example in (digits_mlp, digits_cnn, cifar_cnn):
        print(f"{example.__name__:12}{idle_share(example)}", flush=True)
    print(f"{'fit':12}{added_by_fit()}")


if __name__ == "__main__":
    main()
