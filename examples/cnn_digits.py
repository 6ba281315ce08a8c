"""Train a convolutional network to read handwritten digits.

    python examples/cnn_digits.py

The data are the 1,797 digits of scikit-learn, pictures of 8 by 8 pixels. The network has two convolutions with batch
normalization, whose running statistics are a state that goes through the training step like the optimizer's. The
program prints a summary of the network, shows its progress, tests the network on digits that it has not seen, and
leaves the loss curve and the filters of the first layer, a log and the parameters in runs/cnn_digits.
"""

import argparse
import csv
import os
import time
from pathlib import Path

import numpy
from sklearn.datasets import load_digits

import funcgrad as fg
import funcgrad.numpy as np
from funcgrad import nn

EPOCHS = 8 if os.environ.get("FUNCGRAD_EXAMPLES_QUICK") == "1" else 15
BATCH_SIZE = 32
TRAIN_SIZE, TEST_SIZE = 1437, 360
BATCHES = TRAIN_SIZE // BATCH_SIZE
FOLDER = Path("runs/cnn_digits")

# The steps become smaller and smaller, so that training comes to rest.
optimizer = fg.optim.adam(learning_rate=lambda count: 3e-3 * (1 - count / (EPOCHS * BATCHES)))


class Network(nn.Module):
    """Two convolutions, each normalized, a maximum over 2 by 2 pixels, and two linear layers."""

    conv1: nn.Conv2d
    norm1: nn.BatchNorm
    conv2: nn.Conv2d
    norm2: nn.BatchNorm
    head: nn.Sequential

    def __init__(self, *, key):
        key1, key2, key3, key4 = fg.random.split(key, 4)
        self.conv1 = nn.Conv2d(1, 16, 3, padding="SAME", key=key1)
        self.norm1 = nn.BatchNorm(16)
        self.conv2 = nn.Conv2d(16, 32, 3, padding="SAME", key=key2)
        self.norm2 = nn.BatchNorm(32)
        self.head = nn.Sequential(
            [nn.Flatten(3), nn.Dropout(0.3), nn.Linear(512, 64, key=key3), nn.relu, nn.Linear(64, 10, key=key4)]
        )

    def initial_state(self):
        return self.norm1.initial_state(), self.norm2.initial_state()

    def __call__(self, images, state, *, key=None):
        state1, state2 = state
        x, state1 = self.norm1(self.conv1(images), state1)
        x, state2 = self.norm2(self.conv2(nn.relu(x)), state2)
        return self.head(nn.MaxPool2d(2)(nn.relu(x)), key=key), (state1, state2)


# The data: pixels between 0 and 1, and always the same digits kept aside for the test.


def load_data():
    digits = load_digits()
    order = numpy.random.default_rng(0).permutation(len(digits.target))
    images = np.asarray(digits.images[order][:, None] / 16, dtype=np.float32)
    labels = np.asarray(digits.target[order], dtype=np.int32)
    return images[:TRAIN_SIZE], labels[:TRAIN_SIZE], images[-TEST_SIZE:], labels[-TEST_SIZE:]


def loss(network, state, images, labels, key):
    logits, state = network(images, state, key=key)
    return fg.losses.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), state


@fg.jit
def train_step(network, state, optimizer_state, images, labels, key):
    (value, state), gradient = fg.value_and_grad(loss, has_aux=True)(network, state, images, labels, key)
    updates, optimizer_state = optimizer.update(gradient, optimizer_state, network)
    return fg.optim.apply_updates(network, updates), state, optimizer_state, value


@fg.jit
def predict(network, state, images):
    logits, _ = nn.inference_mode(network)(images, state)
    return logits.argmax(axis=-1)


def train(network, images, labels, test_images, test_labels, key):
    """Train for EPOCHS passes through the data; gives the network, its state, and the mean loss of every pass."""
    key, shuffle_key = fg.random.split(key)
    dataset = fg.data.ArrayDataset((images, labels))
    loader = fg.data.DataLoader(dataset, BATCH_SIZE, shuffle_key=shuffle_key, drop_last=True)
    state, optimizer_state = network.initial_state(), optimizer.init(network)
    history = []
    for epoch in range(EPOCHS):
        total = 0.0
        for batch in loader:
            key, step_key = fg.random.split(key)
            network, state, optimizer_state, value = train_step(network, state, optimizer_state, *batch, step_key)
            total += float(value)
        history.append(total / BATCHES)
        accuracy = float((predict(network, state, test_images) == test_labels).mean())
        done = 24 * (epoch + 1) // EPOCHS
        bar = "#" * done + "." * (24 - done)
        values = f"loss {history[-1]:.4f}  test accuracy {accuracy:6.1%}"
        print(f"  epoch {epoch + 1:2d}/{EPOCHS} [{bar}]  {values}", flush=True)
    return network, state, history


def save_picture(history, network, images, labels, predictions):
    import matplotlib

    matplotlib.use("agg")  # draws into a file; needs no screen
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=(10, 4), layout="constrained")
    left, middle, right = figure.subfigures(1, 3)
    curve = left.subplots()
    curve.plot(range(1, len(history) + 1), history)
    curve.set(xlabel="epoch", ylabel="mean training loss", yscale="log", title="Loss")
    curve.grid(alpha=0.3)
    middle.suptitle("Filters of the first layer")
    for axes, window in zip(middle.subplots(4, 4).flat, numpy.asarray(network.conv1.weight)[:, 0], strict=True):
        axes.imshow(window, cmap="RdBu", vmin=-1, vmax=1)
        axes.set_axis_off()
    right.suptitle("Digits that it has not seen")
    for axes, image, label, prediction in zip(
        right.subplots(3, 3).flat, images, labels.tolist(), predictions.tolist(), strict=True
    ):
        axes.imshow(numpy.asarray(image)[0], cmap="gray_r")
        is_right = prediction == label
        caption = f"{prediction}" if is_right else f"{prediction}, is {label}"
        axes.set_title(caption, color="tab:green" if is_right else "tab:red", fontsize=10)
        axes.set_axis_off()
    figure.savefig(FOLDER / "cnn_digits.png", dpi=120)
    pyplot.close(figure)


def save_results(history, network, state):
    with open(FOLDER / "log.csv", "w", newline="") as file:
        csv.writer(file).writerows([("epoch", "loss"), *enumerate(history, start=1)])
    fg.checkpoints.save(FOLDER / "network.safetensors", {"network": network, "state": state}, step=len(history))


def main(seed=0):
    FOLDER.mkdir(parents=True, exist_ok=True)
    images, labels, test_images, test_labels = load_data()
    network_key, training_key = fg.random.split(fg.random.key(seed))
    network = Network(key=network_key)
    nn.summary(network, images[:BATCH_SIZE], network.initial_state(), key=training_key)

    print(f"\nTraining on {len(labels)} digits:")
    start = time.perf_counter()
    network, state, history = train(network, images, labels, test_images, test_labels, training_key)
    print(f"  took {time.perf_counter() - start:.1f} seconds")

    predictions = predict(network, state, test_images)
    mistakes = int((predictions != test_labels).sum())
    result = 1 - mistakes / len(test_labels)
    print(f"\nTest accuracy on {len(test_labels)} digits that it has not seen: {result:.1%} ({mistakes} wrong)")

    # In the picture, digits that were read wrong come first.
    order = np.argsort(predictions == test_labels)[:9]
    save_picture(history, network, test_images[order], test_labels[order], predictions[order])
    save_results(history, network, state)
    print(f"The loss curve, the filters, some predictions, a log and the parameters are in {FOLDER}")

    assert result >= 0.985, f"expected an accuracy of at least 98.5%, and got {result:.1%}"
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train a convolutional network to read handwritten digits.")
    parser.add_argument("--seed", type=int, default=0, help="of the initial network and the order of the data")
    main(parser.parse_args().seed)
