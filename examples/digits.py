"""Train a small network to read handwritten digits.

    python examples/digits.py

The data are the 1,797 digits of scikit-learn, pictures of 8 by 8 pixels. The program shows its progress, tests the
network on digits that it has not seen, prints some of them, and leaves a picture, a log and the parameters in
runs/digits.
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

EPOCHS = 15 if os.environ.get("FUNCGRAD_EXAMPLES_QUICK") == "1" else 30
BATCH_SIZE = 32
TRAIN_SIZE, TEST_SIZE = 1437, 360
BATCHES = TRAIN_SIZE // BATCH_SIZE
FOLDER = Path("runs/digits")

# The steps become smaller and smaller, so that training comes to rest.
optimizer = fg.optim.adam(learning_rate=lambda count: 3e-3 * (1 - count / (EPOCHS * BATCHES)))


# The data: pixels from 0 to 16, and always the same digits kept aside for the test.


def load_data():
    digits = load_digits()
    order = numpy.random.default_rng(0).permutation(len(digits.target))
    images = np.asarray(digits.data[order], dtype=np.uint8)
    labels = np.asarray(digits.target[order], dtype=np.int32)
    return images[:TRAIN_SIZE], labels[:TRAIN_SIZE], images[-TEST_SIZE:], labels[-TEST_SIZE:]


# The model is a function of its parameters and a batch. Here the parameters are a network, which is a pytree.


def loss(network, images, labels):
    logits = network(images / 16)
    return fg.losses.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


@fg.jit
def train_step(network, state, images, labels):
    value, gradient = fg.value_and_grad(loss)(network, images, labels)
    updates, state = optimizer.update(gradient, state, network)
    return fg.optim.apply_updates(network, updates), state, value


@fg.jit
def predict(network, images):
    return network(images / 16).argmax(axis=-1)


def accuracy(network, images, labels):
    return float((predict(network, images) == labels).mean())


def train(network, images, labels, test_images, test_labels, key):
    """Train for EPOCHS passes through the data; gives the network and the mean loss of every pass."""
    loader = fg.data.DataLoader(fg.data.ArrayDataset((images, labels)), BATCH_SIZE, shuffle_key=key, drop_last=True)
    state = optimizer.init(network)
    history = []
    for epoch in range(EPOCHS):
        total = 0.0
        for batch in loader:
            network, state, value = train_step(network, state, *batch)
            total += float(value)
        history.append(total / BATCHES)
        if (epoch + 1) % 5 == 0 or epoch == 0:
            show_progress(epoch + 1, history[-1], accuracy(network, test_images, test_labels))
    return network, history


# Showing what happens


def show_progress(epoch, value, test_accuracy):
    done = 24 * epoch // EPOCHS
    bar = "#" * done + "." * (24 - done)
    print(f"  epoch {epoch:2d}/{EPOCHS} [{bar}]  loss {value:.4f}  test accuracy {test_accuracy:6.1%}", flush=True)


def as_text(image):
    """A picture as eight lines of text: the darker the pixel, the fuller the letter."""
    shades = " .:-=+*#%@"
    rows = np.round(image / 16 * (len(shades) - 1)).astype(np.int32).reshape(8, 8).tolist()
    return ["".join(2 * shades[pixel] for pixel in row) for row in rows]


def show_predictions(images, labels, predictions):
    pictures = [as_text(image) for image in images]
    for row in zip(*pictures, strict=True):
        print("  " + "   ".join(row))
    captions = [f"read {p}, is {t}" for p, t in zip(predictions.tolist(), labels.tolist(), strict=True)]
    print("  " + "   ".join(f"{caption:^16}" for caption in captions))


def save_picture(history, images, labels, predictions):
    import matplotlib

    matplotlib.use("agg")  # draws into a file; needs no screen
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.2))
    curve = left.subplots()
    curve.plot(range(1, len(history) + 1), history)
    curve.set(xlabel="epoch", ylabel="mean training loss", yscale="log", title="Loss")
    curve.grid(alpha=0.3)
    right.suptitle("Digits that the network has not seen")
    for axes, image, label, prediction in zip(
        right.subplots(3, 5).flat, images, labels.tolist(), predictions.tolist(), strict=False
    ):
        axes.imshow(numpy.asarray(image).reshape(8, 8), cmap="gray_r")
        is_right = prediction == label
        caption = f"{prediction}" if is_right else f"{prediction}, is {label}"
        axes.set_title(caption, color="tab:green" if is_right else "tab:red", fontsize=11)
        axes.set_axis_off()
    figure.savefig(FOLDER / "digits.png", dpi=120)
    pyplot.close(figure)


def save_results(history, network):
    with open(FOLDER / "log.csv", "w", newline="") as file:
        csv.writer(file).writerows([("epoch", "loss"), *enumerate(history, start=1)])
    fg.checkpoints.save(FOLDER / "network.safetensors", network, step=len(history))


def main(seed=0):
    FOLDER.mkdir(parents=True, exist_ok=True)
    images, labels, test_images, test_labels = load_data()
    network_key, training_key = fg.random.split(fg.random.key(seed))
    network = fg.nn.MLP(64, 10, width=256, depth=1, activation=fg.nn.relu, key=network_key)
    print(network)

    print(f"\nTraining on {len(labels)} digits:")
    start = time.perf_counter()
    network, history = train(network, images, labels, test_images, test_labels, training_key)
    print(f"  took {time.perf_counter() - start:.1f} seconds")

    predictions = predict(network, test_images)
    mistakes = int((predictions != test_labels).sum())
    result = accuracy(network, test_images, test_labels)
    print(f"\nTest accuracy on {len(test_labels)} digits that it has not seen: {result:.1%} ({mistakes} wrong)\n")
    show_predictions(test_images[:5], test_labels[:5], predictions[:5])

    # In the picture, digits that were read wrong come first.
    order = np.argsort(predictions == test_labels)[:15]
    save_picture(history, test_images[order], test_labels[order], predictions[order])
    save_results(history, network)
    print(f"\nThe loss curve, more predictions, a log and the parameters are in {FOLDER}")

    assert result >= 0.97, f"expected an accuracy of at least 97%, and got {result:.1%}"
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train a small network to read handwritten digits.")
    parser.add_argument("--seed", type=int, default=0, help="of the initial network and the order of the data")
    main(parser.parse_args().seed)
