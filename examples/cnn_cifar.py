"""Train a convolutional network on small coloured pictures, from files in the format of CIFAR-10.

    python examples/cnn_cifar.py --folder path/to/cifar-10-batches-bin

Without a folder, the program cuts windows of 32 by 32 pixels out of ten photographs that come with scikit-image, and
writes them in CIFAR's binary format to runs/cnn_cifar/data; the network learns to tell from which photograph a window
is. Windows for the test are from other parts of the photographs than those for training. A loader hands out bytes as
they are in the files; the compiled step scales them and mirrors pictures at random. The loss curve, some predictions, a
log and the parameters are left in runs/cnn_cifar.

Source of the format: https://www.cs.toronto.edu/~kriz/cifar.html.
"""

import argparse
import csv
import os
import time
from pathlib import Path

import numpy

import funcgrad as fg
import funcgrad.numpy as np
from funcgrad import nn

QUICK = os.environ.get("FUNCGRAD_EXAMPLES_QUICK") == "1"
EPOCHS = 6 if QUICK else 15
BATCH_SIZE = 50
CHANNELS = (16, 32, 64) if QUICK else (32, 64, 128)
WINDOWS = (100, 30) if QUICK else (400, 100)  # of each photograph, for training and for the test
FLOOR = 0.75 if QUICK else 0.93  # for the windows, not for CIFAR-10
FOLDER = Path("runs/cnn_cifar")

PHOTOGRAPHS = (
    "astronaut", "brick", "chelsea", "coffee", "coins", "grass", "gravel", "hubble_deep_field", "retina", "rocket"
)  # fmt: skip


# The data: files like those of CIFAR-10, in which a picture is its label and then all red, all green, all blue bytes.


def write_windows(folder):
    """Write windows of the photographs as data_batch_1.bin to data_batch_5.bin, test_batch.bin and batches.meta.txt."""
    random = numpy.random.default_rng(0)
    pictures = fg.data.load("images")
    rows = {"train": [], "test": []}
    for label, name in enumerate(PHOTOGRAPHS):
        picture = pictures[pictures.names.index(name)]["image"]
        blocks = [(y, x) for y in range(0, picture.shape[0] - 63, 64) for x in range(0, picture.shape[1] - 63, 64)]
        random.shuffle(blocks)
        # No block of 64 by 64 pixels is in both.
        parts = {"test": blocks[: len(blocks) // 4], "train": blocks[len(blocks) // 4 :]}
        for (split, places), count in zip(parts.items(), WINDOWS[::-1], strict=True):
            for _ in range(count):
                y, x = places[random.integers(len(places))] + random.integers(0, 33, 2)
                window = picture[y : y + 32, x : x + 32]
                rows[split].append(numpy.concatenate([[label], window.transpose(2, 0, 1).ravel()]))
    folder.mkdir(parents=True, exist_ok=True)
    train = random.permutation(numpy.array(rows["train"], dtype=numpy.uint8))
    for number, part in enumerate(numpy.array_split(train, 5), start=1):
        part.tofile(folder / f"data_batch_{number}.bin")
    random.permutation(numpy.array(rows["test"], dtype=numpy.uint8)).tofile(folder / "test_batch.bin")
    (folder / "batches.meta.txt").write_text("\n".join(PHOTOGRAPHS) + "\n")


class Network(nn.Module):
    """Three convolutions, each of which halves the picture and is normalized, and a linear layer."""

    convolutions: list[nn.Conv2d]
    norms: list[nn.BatchNorm]
    head: nn.Linear

    def __init__(self, *, key):
        *keys, head_key = fg.random.split(key, len(CHANNELS) + 1)
        sizes = (3, *CHANNELS)
        self.convolutions = [
            nn.Conv2d(sizes[i], sizes[i + 1], 4, stride=2, padding=1, key=keys[i]) for i in range(len(CHANNELS))
        ]
        self.norms = [nn.BatchNorm(size) for size in sizes[1:]]
        self.head = nn.Linear(sizes[-1], 10, key=head_key)

    def initial_state(self):
        return [norm.initial_state() for norm in self.norms]

    def __call__(self, x, states):
        after = []
        for convolution, norm, state in zip(self.convolutions, self.norms, states, strict=True):
            x, state = norm(convolution(x), state)
            x = nn.relu(x)
            after.append(state)
        return self.head(x.mean(axis=(-2, -1))), after


def prepared(images):
    """Pixels between -1 and 1, and the axis of colours in front of the two others."""
    return np.moveaxis(images.astype(np.float32) / 127.5 - 1, -1, -3)


def loss(network, states, images, labels):
    logits, states = network(images, states)
    return fg.losses.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), states


def flipped(images, key):
    """Half of the pictures, chosen at random, mirrored."""
    chosen = fg.random.bernoulli(key, 0.5, (images.shape[0], 1, 1, 1))
    return np.where(chosen, np.flip(images, axis=-1), images)


def make_train_step(optimizer):
    @fg.jit
    def train_step(network, states, optimizer_state, images, labels, key):
        images = flipped(prepared(images), key)
        (value, states), gradient = fg.value_and_grad(loss, has_aux=True)(network, states, images, labels)
        updates, optimizer_state = optimizer.update(gradient, optimizer_state, network)
        return fg.optim.apply_updates(network, updates), states, optimizer_state, value

    return train_step


@fg.jit
def predict(network, states, images):
    logits, _ = nn.inference_mode(network)(prepared(images), states)
    return logits.argmax(axis=-1)


def accuracy(network, states, loader):
    hits = [predict(network, states, batch["image"]) == batch["label"] for batch in loader]
    return float(np.concatenate(hits).mean())


def train(network, loader, test_loader, key):
    schedule = fg.optim.cosine_decay_schedule(5e-3, EPOCHS * len(loader))
    optimizer = fg.optim.adamw(schedule, weight_decay=1e-3)
    train_step = make_train_step(optimizer)
    states, optimizer_state, history = network.initial_state(), optimizer.init(network), []
    for epoch in range(EPOCHS):
        start = ready = time.perf_counter()
        waited, total = 0.0, 0.0
        for batch in loader:
            waited += time.perf_counter() - ready
            key, step_key = fg.random.split(key)
            network, states, optimizer_state, value = train_step(
                network, states, optimizer_state, batch["image"], batch["label"], step_key
            )
            total += float(value)
            ready = time.perf_counter()
        passed = ready - start
        history.append((epoch + 1, total / len(loader), accuracy(network, states, test_loader)))
        done = 24 * (epoch + 1) // EPOCHS
        bar = "#" * done + "." * (24 - done)
        values = f"loss {history[-1][1]:.4f}  test accuracy {history[-1][2]:6.1%}"
        times = f"{passed:.1f} s, of which {waited / passed:.0%} waiting for data"
        print(f"  epoch {epoch + 1:2d}/{EPOCHS} [{bar}]  {values}  {times}", flush=True)
    return network, states, history


def save_results(network, states, history, examples, classes):
    import matplotlib

    matplotlib.use("agg")  # draws into a file; needs no screen
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subfigures(1, 2)
    curve = left.subplots()
    curve.plot([row[0] for row in history], [row[1] for row in history])
    curve.set(xlabel="epoch", ylabel="mean training loss", yscale="log", title="Loss")
    curve.grid(alpha=0.3)
    images = np.stack([example["image"] for example in examples])
    for axes, example, label in zip(
        right.subplots(3, 5).flat, examples, predict(network, states, images).tolist(), strict=True
    ):
        axes.imshow(example["image"])
        axes.set_title(classes[label], color="tab:green" if label == example["label"] else "tab:red", fontsize=8)
        axes.set_axis_off()
    figure.savefig(FOLDER / "cnn_cifar.png", dpi=120)
    pyplot.close(figure)
    with open(FOLDER / "log.csv", "w", newline="") as file:
        csv.writer(file).writerows([("epoch", "loss", "test accuracy"), *history])
    fg.checkpoints.save(FOLDER / "network.safetensors", {"network": network, "states": states}, step=EPOCHS)


def main(folder=None, seed=0):
    FOLDER.mkdir(parents=True, exist_ok=True)
    if folder is None:
        folder = FOLDER / "data"
        write_windows(folder)
    raw = {split: fg.data.load("cifar10", folder, split=split) for split in ("train", "test")}
    network_key, shuffle_key, training_key = fg.random.split(fg.random.key(seed), 3)
    network = Network(key=network_key)
    loader = fg.data.DataLoader(raw["train"], BATCH_SIZE, shuffle_key=shuffle_key, drop_last=True)
    test_loader = fg.data.DataLoader(raw["test"], BATCH_SIZE)
    print(f"Training on {len(raw['train'])} pictures of {folder}:")
    network, states, history = train(network, loader, test_loader, training_key)

    result = history[-1][2]
    print(f"\nTest accuracy on {len(raw['test'])} pictures that it has not seen: {result:.1%}")
    classes = raw["test"].metadata.get("classes") or [str(i) for i in range(10)]
    save_results(network, states, history, [raw["test"][i] for i in range(15)], classes)
    print(f"The loss curve, some predictions, a log and the parameters are in {FOLDER}")

    if folder == FOLDER / "data":
        assert result >= FLOOR, f"expected an accuracy of at least {FLOOR:.0%}, and got {result:.1%}"
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train a convolutional network on files in the format of CIFAR-10.")
    parser.add_argument("--folder", type=Path, help="with the files of CIFAR-10; by default it makes some itself")
    parser.add_argument("--seed", type=int, default=0, help="of the initial network and the order of the data")
    options = parser.parse_args()
    main(options.folder, options.seed)
