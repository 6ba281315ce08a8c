"""Train a recurrent network to read handwritten digits row by row.

    python examples/lstm_classifier.py

A digit of 8 by 8 pixels is a sequence of eight rows, which two LSTMs read, one from the top and one from the bottom;
what they remember at their ends is what the last layer looks at. `fg.train.fit` runs the loop: it shows the progress,
writes a log, and stops when the accuracy on digits kept aside has not become better for some epochs. The curves, the
log, the confusion matrix and the parameters of the best epoch are left in runs/lstm_classifier.
"""

import argparse
import os
from pathlib import Path

import numpy

import funcgrad as fg
import funcgrad.numpy as np
from funcgrad import nn, train

QUICK = os.environ.get("FUNCGRAD_EXAMPLES_QUICK") == "1"
EPOCHS = 8 if QUICK else 60
HIDDEN = 32 if QUICK else 64
BATCH_SIZE = 32
FLOOR = 0.9 if QUICK else 0.95
FOLDER = Path("runs/lstm_classifier")

optimizer = fg.optim.chain(fg.optim.clip_by_global_norm(1.0), fg.optim.adam(1e-2 if QUICK else 3e-3))


class Network(nn.Module):
    """An LSTM in both directions, and a linear layer that sees the last state of each."""

    lstm: nn.LSTM
    dropout: nn.Dropout
    head: nn.Linear

    def __init__(self, *, key):
        lstm_key, head_key = fg.random.split(key)
        self.lstm = nn.LSTM(8, HIDDEN, bidirectional=True, key=lstm_key)
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(2 * HIDDEN, 10, key=head_key)

    def __call__(self, rows, *, key=None):
        _, ((down, _), (up, _)) = self.lstm(rows)
        return self.head(self.dropout(np.concatenate([down, up], axis=-1), key=key))


def load_data(key):
    """Digits to train with, to choose the best epoch with, and to test with."""
    pixels = lambda example: {"image": (example["image"] / 16).astype(numpy.float32), "label": example["label"]}
    return fg.data.split(fg.data.map(pixels, fg.data.load("digits")), [0.7, 0.1, 0.2], key=key)


def loss(network, images, labels, key):
    logits = network(images, key=key)
    return fg.losses.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), logits


@fg.jit
def train_step(state, batch):
    network, optimizer_state, key = state
    key, step_key = fg.random.split(key)
    (value, logits), gradient = fg.value_and_grad(loss, has_aux=True)(network, *batch.values(), step_key)
    updates, optimizer_state = optimizer.update(gradient, optimizer_state, network)
    network = fg.optim.apply_updates(network, updates)
    return (network, optimizer_state, key), {
        "loss": value,
        "accuracy": train.Accuracy().update(logits, batch["label"]),
    }


@fg.jit
def test_step(state, batch):
    logits = nn.inference_mode(state[0])(batch["image"])
    return {
        "accuracy": train.Accuracy().update(logits, batch["label"]),
        "confusion": train.ConfusionMatrix(10).update(logits, batch["label"]),
    }


def save_results(history, confusion):
    import matplotlib

    matplotlib.use("agg")  # draws into a file; needs no screen
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    epochs = range(1, len(history) + 1)
    for name in ("accuracy", "kept aside: accuracy"):
        left.plot(epochs, [metrics[name] for metrics in history], label=name)
    left.set(xlabel="epoch", ylabel="accuracy", title="While training")
    left.grid(alpha=0.3)
    left.legend()
    right.imshow(numpy.asarray(confusion), cmap="Blues")
    right.set(xlabel="read as", ylabel="digit", title="Digits that it has not seen", xticks=range(10), yticks=range(10))
    for (row, column), count in numpy.ndenumerate(numpy.asarray(confusion)):
        if count:
            right.text(column, row, int(count), ha="center", va="center", color="white" if count > 15 else "black")
    figure.savefig(FOLDER / "lstm_classifier.png", dpi=120)
    pyplot.close(figure)


def main(seed=0):
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "log.csv").unlink(missing_ok=True)
    data_key, shuffle_key, network_key, training_key = fg.random.split(fg.random.key(seed), 4)
    parts = load_data(data_key)
    loader = fg.data.DataLoader(parts[0], BATCH_SIZE, shuffle_key=shuffle_key, drop_last=True)
    kept_aside, test = (list(fg.data.DataLoader(part, 180)) for part in parts[1:])

    def look(state):
        metrics = train.evaluate(test_step, state, kept_aside, prefix="kept aside: ")
        return {name: value for name, value in metrics.items() if "confusion" not in name}

    network = Network(key=network_key)
    print(f"Training on {len(parts[0])} digits:")
    (network, *_), history = train.fit(
        train_step,
        (network, optimizer.init(network), training_key),
        loader,
        EPOCHS,
        evaluate=look,
        callbacks=[
            train.ProgressBar(),
            train.Log(train.CSVLogger(FOLDER / "log.csv")),
            train.EarlyStopping("kept aside: accuracy", patience=12, mode="max", keep_best=True),
        ],
    )
    found = train.evaluate(test_step, (network,), test)
    result = found["accuracy"]
    print(f"\nTest accuracy on {len(parts[2])} digits that it has not seen: {result:.1%}")
    save_results(history, found["confusion"])
    fg.checkpoints.save(FOLDER / "network.safetensors", network)
    print(f"The curves, a log, the confusion matrix and the parameters are in {FOLDER}")

    assert result >= FLOOR, f"expected an accuracy of at least {FLOOR:.0%}, and got {result:.1%}"
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train a recurrent network to read handwritten digits row by row.")
    parser.add_argument("--seed", type=int, default=0, help="of the initial network and the order of the data")
    main(parser.parse_args().seed)
