"""Kill a training run, start it again, and get the same network to the last bit.

    python examples/resume_training.py

The program trains a network on handwritten digits from beginning to end. Then it starts the same training as another
process, and kills that in the middle of an epoch; started once more, the process goes on from its last checkpoint. A
checkpoint holds the network, the state of the optimizer, the random key and the place in the data, is written to the
disk atomically, and reading it runs no code. The curve, the log and the checkpoints are left in runs/resume_training.
"""

import argparse
import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy

import funcgrad as fg
from funcgrad import nn, train

QUICK = os.environ.get("FUNCGRAD_EXAMPLES_QUICK") == "1"
EPOCHS = 6 if QUICK else 20
KILLED_IN = EPOCHS // 2  # the epoch
BATCH_SIZE = 32
FLOOR = 0.9 if QUICK else 0.95
FOLDER = Path("runs/resume_training")

optimizer = fg.optim.adam(3e-3)


def pixels(example):
    return {"image": (example["image"] / 16).astype(numpy.float32).reshape(64), "label": example["label"]}


def loss(network, images, labels, key):
    logits = network(images, key=key)
    return fg.losses.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), logits


@fg.jit
def train_step(state, batch):
    network, optimizer_state, key = state
    key, step_key = fg.random.split(key)
    (value, logits), gradient = fg.value_and_grad(loss, has_aux=True)(network, *batch.values(), step_key)
    updates, optimizer_state = optimizer.update(gradient, optimizer_state, network)
    state = fg.optim.apply_updates(network, updates), optimizer_state, key
    return state, {"loss": value, "accuracy": train.Accuracy().update(logits, batch["label"])}


@fg.jit
def test_step(state, batch):
    logits = nn.inference_mode(state[0])(batch["image"])
    return {"test accuracy": train.Accuracy().update(logits, batch["label"])}


class Announce(train.Callback):
    """Says after each step where the run is, for the process that waits to kill this one."""

    def on_step(self, run):
        print(f"step {run.step} epoch {run.epoch} batch {run.batch}", flush=True)


def train_network(folder, seed, callbacks=()):
    """The training, which goes on from the last checkpoint in the folder, if there is one."""
    data_key, shuffle_key, first_key, last_key, training_key = fg.random.split(fg.random.key(seed), 5)
    training, test = fg.data.split(fg.data.map(pixels, fg.data.load("digits")), [0.8, 0.2], key=data_key)
    loader = fg.data.DataLoader(training, BATCH_SIZE, shuffle_key=shuffle_key, drop_last=True)
    test = list(fg.data.DataLoader(test, 180))
    network = nn.Sequential(
        [nn.Linear(64, 64, key=first_key), nn.relu, nn.Dropout(0.2), nn.Linear(64, 10, key=last_key)]
    )
    return train.fit(
        train_step,
        (network, optimizer.init(network), training_key),
        loader,
        EPOCHS,
        evaluate=lambda state: train.evaluate(test_step, state, test),
        callbacks=[
            train.Checkpoints(folder / "checkpoints", every_steps=10),
            train.Log(train.CSVLogger(folder / "log.csv")),
            *callbacks,
        ],
    )


def start(folder, seed):
    command = [sys.executable, __file__, "--train", str(folder), "--seed", str(seed)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def where(line):
    words = line.split()
    return {name: int(number) for name, number in zip(words[::2], words[1::2], strict=True)}


def save_picture(folder, killed_at):
    import matplotlib

    matplotlib.use("agg")  # draws into a file; needs no screen
    from matplotlib import pyplot

    with open(folder / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    axes.plot([int(row["step"]) for row in rows], [float(row["loss"]) for row in rows], marker=".")
    axes.axvline(killed_at, color="tab:red", linestyle="--", label="killed here")
    axes.set(xlabel="step", ylabel="mean training loss", yscale="log", title="A run that was killed once")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(FOLDER / "resume_training.png", dpi=120)
    pyplot.close(figure)


def main(seed=0):
    shutil.rmtree(FOLDER, ignore_errors=True)
    unbroken, broken = FOLDER / "unbroken", FOLDER / "broken"

    print("Training from beginning to end:")
    state, history = train_network(unbroken, seed, [train.ProgressBar()])

    print("\nThe same in another process:", flush=True)
    with start(broken, seed) as process:
        for line in process.stdout:
            last = where(line)
            if last["epoch"] == KILLED_IN and last["batch"] == 15:
                process.kill()  # at once: the process cannot do anything about it
                break
    print(f"  killed when it said that step {last['step']}, in the middle of epoch {last['epoch'] + 1}, was done")

    print("\nStarted again:", flush=True)
    with start(broken, seed) as process:
        steps = [where(line)["step"] for line in process.stdout]
    assert process.returncode == 0, f"the process ended with {process.returncode}"
    print(f"  went on with step {steps[0]}, and ended after step {steps[-1]}")

    path = fg.checkpoints.CheckpointManager(broken / "checkpoints").latest()
    other = fg.checkpoints.restore(path, state, at="['state']")
    for leaf, other_leaf in zip(fg.tree.leaves(state), fg.tree.leaves(other), strict=True):
        assert numpy.asarray(leaf).tobytes() == numpy.asarray(other_leaf).tobytes(), "the states differ"
    assert (unbroken / "log.csv").read_text() == (broken / "log.csv").read_text(), "the logs differ"
    result = history[-1]["test accuracy"]
    print(f"\nBoth have the same network, state of the optimizer and log. Test accuracy: {result:.1%}")
    save_picture(broken, last["step"])
    print(f"The curve, the logs and the checkpoints are in {FOLDER}")

    assert steps[0] > 1, "expected the process to go on from a checkpoint"
    assert result >= FLOOR, f"expected an accuracy of at least {FLOOR:.0%}, and got {result:.1%}"
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Kill a training run, start it again, and get the same network.")
    parser.add_argument("--seed", type=int, default=0, help="of the initial network, the data and the dropout")
    parser.add_argument("--train", type=Path, metavar="FOLDER", help="only train, with the checkpoints in this folder")
    options = parser.parse_args()
    if options.train:
        train_network(options.train, options.seed, [Announce()])
    else:
        main(options.seed)
