"""Teach a network that reads some digits to read others, with a few examples and most of its layers frozen.

    python examples/transfer_learning.py

A network learns to tell the digits 0 to 4 apart. Then its last layer is replaced and trained on two examples of each of
the digits 5 to 9, while the layers before it stay as they are: `nn.partition` divides the network in a part that is
trained and one that is frozen, so gradients and the state of the optimizer only exist for the first. For comparison,
a network without that experience learns from the same examples. The curves, a log and the parameters are left in
runs/transfer_learning.
"""

import argparse
import os
from pathlib import Path

import numpy

import funcgrad as fg
from funcgrad import nn, train

QUICK = os.environ.get("FUNCGRAD_EXAMPLES_QUICK") == "1"
EPOCHS = 6 if QUICK else 20
FEW_EPOCHS = 40 if QUICK else 200
EXAMPLES = 2  # of each of the new digits
FLOOR = 0.72
FOLDER = Path("runs/transfer_learning")


def make_network(key):
    keys = fg.random.split(key, 3)
    return nn.Sequential(
        [
            nn.Conv2d(1, 16, 3, padding=1, key=keys[0]),
            nn.relu,
            nn.Conv2d(16, 32, 3, stride=2, padding=1, key=keys[1]),
            nn.relu,
            nn.Flatten(3),
            nn.Linear(512, 5, key=keys[2]),
        ]
    )


def is_head(name, parameter):
    return name.startswith("layers.5.")


# The data: digits by their labels, the labels counted from 0 in each half.


def load_data():
    digits = fg.data.load("digits")
    images = (digits.arrays["image"][:, None] / 16).astype(numpy.float32)
    labels = digits.arrays["label"]
    order = numpy.random.default_rng(0).permutation(len(labels))
    old = order[labels[order] < 5]
    new = [order[labels[order] == digit] for digit in range(5, 10)]
    few = numpy.concatenate([places[:EXAMPLES] for places in new])
    rest = numpy.concatenate([places[EXAMPLES:] for places in new])
    return [{"image": images[places], "label": labels[places] % 5} for places in (old, few, rest)]


def loss(trained, frozen, images, labels):
    logits = nn.combine(trained, frozen)(images)
    return fg.losses.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), logits


def learn(trained, frozen, batches, test, epochs, callbacks=()):
    """Train one part of a network; gives the whole of it, and the history."""
    optimizer = fg.optim.adam(3e-3)

    @fg.jit
    def step(state, batch):
        trained, optimizer_state = state
        (value, logits), gradient = fg.value_and_grad(loss, has_aux=True)(trained, frozen, *batch.values())
        updates, optimizer_state = optimizer.update(gradient, optimizer_state, trained)
        accuracy = train.Accuracy().update(logits, batch["label"])
        return (fg.optim.apply_updates(trained, updates), optimizer_state), {"loss": value, "accuracy": accuracy}

    @fg.jit
    def test_step(state, batch):
        logits = nn.combine(state[0], frozen)(batch["image"])
        return {"test accuracy": train.Accuracy().update(logits, batch["label"])}

    (trained, _), history = train.fit(
        step,
        (trained, optimizer.init(trained)),
        batches,
        epochs,
        evaluate=lambda state: train.evaluate(test_step, state, test),
        callbacks=callbacks,
    )
    return nn.combine(trained, frozen), history


def save_results(curves):
    import matplotlib

    matplotlib.use("agg")  # draws into a file; needs no screen
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for name, history in curves.items():
        axes.plot(range(1, len(history) + 1), [metrics["test accuracy"] for metrics in history], label=name)
    axes.set(xlabel="epoch", ylabel="test accuracy", title=f"From {EXAMPLES} examples of each new digit")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(FOLDER / "transfer_learning.png", dpi=120)
    pyplot.close(figure)


def main(seed=0):
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "log.csv").unlink(missing_ok=True)
    old, few, rest = load_data()
    network_key, shuffle_key, head_key, other_key = fg.random.split(fg.random.key(seed), 4)
    test = list(fg.data.DataLoader(fg.data.ArrayDataset(rest), 200))

    print(f"A network learns the digits 0 to 4, from {len(old['label'])} examples:")
    known, other = fg.data.split(fg.data.ArrayDataset(old), [0.8, 0.2], key=shuffle_key)
    loader = fg.data.DataLoader(known, 32, shuffle_key=shuffle_key, drop_last=True)
    network = make_network(network_key)
    everything, nothing = nn.partition(network, lambda name, parameter: True)
    bar = train.ProgressBar()
    network, _ = learn(everything, nothing, loader, list(fg.data.DataLoader(other, 200)), EPOCHS, [bar])

    # A new last layer, which alone is trained.
    network = nn.tree_at(lambda network: network.layers[5], network, nn.Linear(512, 5, key=head_key))
    head, frozen = nn.partition(network, is_head)
    count, total = (sum(p.size for p in fg.tree.leaves(part)) for part in (head, network))
    print(f"\nIt learns 5 to 9 from {len(few['label'])} examples, with {count:,} of its {total:,} parameters.")
    batches = list(fg.data.DataLoader(fg.data.ArrayDataset(few), len(few["label"])))
    log = train.Log(train.CSVLogger(FOLDER / "log.csv"))
    changed, with_experience = learn(head, frozen, batches, test, FEW_EPOCHS, [log])
    for before, after in zip(network.layers[:5], changed.layers[:5], strict=True):
        for p, q in zip(fg.tree.leaves(before), fg.tree.leaves(after), strict=True):
            assert (p == q).all(), "a frozen parameter has changed"

    everything, nothing = nn.partition(make_network(other_key), lambda name, parameter: True)
    _, without = learn(everything, nothing, batches, test, FEW_EPOCHS)
    result, other_result = with_experience[-1]["test accuracy"], without[-1]["test accuracy"]
    print(f"\nTest accuracy on {len(rest['label'])} digits from 5 to 9 that it has not seen: {result:.1%}")
    print(f"A network that begins anew, and trains all of its parameters: {other_result:.1%}")
    save_results({"last layer, after 0 to 4": with_experience, "all layers, from the start": without})
    fg.checkpoints.save(FOLDER / "network.safetensors", changed)
    print(f"The curves, a log and the parameters are in {FOLDER}")

    assert result >= FLOOR, f"expected an accuracy of at least {FLOOR:.0%}, and got {result:.1%}"
    assert result > other_result, "expected a better accuracy than that of a network that begins anew"
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Teach a network that reads some digits to read others.")
    parser.add_argument("--seed", type=int, default=0, help="of the initial networks and the order of the data")
    main(parser.parse_args().seed)
