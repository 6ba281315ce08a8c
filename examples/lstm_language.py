"""Train a recurrent network to write in the style of Python's documentation, character by character.

    python examples/lstm_language.py

The text is the language reference that `help("assert")` shows; it comes with Python, as pydoc_data.topics. The text is
cut into streams that are read side by side, a few characters at a time; the state of the network at the end of a piece
is that at the start of the next. The program prints what the network writes, and leaves the loss curve, a log, a sample
and the parameters in runs/lstm_language.
"""

import argparse
import csv
import math
import os
import time
from pathlib import Path
from pydoc_data.topics import topics

import numpy

import funcgrad as fg
import funcgrad.numpy as np
from funcgrad import nn

QUICK = os.environ.get("FUNCGRAD_EXAMPLES_QUICK") == "1"
STEPS = 120 if QUICK else 1000
STREAMS, LENGTH = 32, 64
HIDDEN = 96 if QUICK else 192
FLOOR = 3.4 if QUICK else 2.1  # bits a character on text that it has not seen; counting letters alone gives about 4.7
FOLDER = Path("runs/lstm_language")

ALPHABET = "\n" + "".join(map(chr, range(32, 127)))

optimizer = fg.optim.chain(
    fg.optim.clip_by_global_norm(1.0),
    fg.optim.adam(fg.optim.cosine_decay_schedule(1e-2 if QUICK else 5e-3, STEPS, alpha=0.05)),
)


class Network(nn.Module):
    """A vector for each character, an LSTM, and a score for each character that may come next."""

    embedding: nn.Embedding
    lstm: nn.LSTM
    head: nn.Linear

    def __init__(self, *, key):
        keys = fg.random.split(key, 3)
        self.embedding = nn.Embedding(len(ALPHABET), 32, key=keys[0])
        self.lstm = nn.LSTM(32, HIDDEN, key=keys[1])
        self.head = nn.Linear(HIDDEN, len(ALPHABET), key=keys[2])

    def __call__(self, characters, state):
        outputs, state = self.lstm(self.embedding(characters), state)
        return self.head(outputs), state


# The data: numbers of characters, in streams of equal length; the last tenth is kept aside.


def load_text():
    text = "\n".join(topics[name] for name in sorted(topics))
    number = {character: i for i, character in enumerate(ALPHABET)}
    encoded = numpy.array([number.get(character, number["?"]) for character in text], dtype=numpy.int32)
    return encoded[: -len(encoded) // 10], encoded[-len(encoded) // 10 :]


def pieces(text, streams):
    """Pieces of streams, each of which begins with the last character of the one before; without end."""
    rows = text[: len(text) // streams * streams].reshape(streams, -1)
    while True:
        for start in range(0, rows.shape[1] - LENGTH, LENGTH):
            yield start == 0, np.asarray(rows[:, start : start + LENGTH + 1])


def loss(network, state, characters):
    logits, state = network(characters[:, :-1], state)
    return fg.losses.softmax_cross_entropy_with_integer_labels(logits, characters[:, 1:]).mean(), state


@fg.jit
def train_step(network, state, optimizer_state, characters):
    (value, state), gradient = fg.value_and_grad(loss, has_aux=True)(network, state, characters)
    updates, optimizer_state = optimizer.update(gradient, optimizer_state, network)
    return fg.optim.apply_updates(network, updates), state, optimizer_state, value


evaluate_step = fg.jit(loss)


def bits_per_character(network, text):
    state, values = network.lstm.initial_state((STREAMS,)), []
    for is_start, characters in pieces(text, STREAMS):
        if is_start and values:
            break
        value, state = evaluate_step(network, state, characters)
        values.append(float(value))
    return sum(values) / len(values) / math.log(2)


@fg.jit
def write(network, key, prompt, temperature):
    """A text of 300 characters that goes on after a prompt: each is drawn by its score, and read as the next."""
    logits, state = network(prompt, network.lstm.initial_state())

    def step(carry, key):
        logits, state = carry
        character = fg.random.categorical(key, logits / temperature)
        logits, state = network(character[None], state)
        return (logits[0], state), character

    return fg.lax.scan(step, (logits[-1], state), fg.random.split(key, 300))[1]


def encode(text):
    return np.asarray([ALPHABET.index(character) for character in text], dtype=np.int32)


def decode(characters):
    return "".join(ALPHABET[i] for i in characters.tolist())


def train(network, text):
    state, optimizer_state = network.lstm.initial_state((STREAMS,)), optimizer.init(network)
    history, start = [], time.perf_counter()
    for step, (is_start, characters) in enumerate(pieces(text, STREAMS), start=1):
        if is_start:
            state = network.lstm.initial_state((STREAMS,))
        network, state, optimizer_state, value = train_step(network, state, optimizer_state, characters)
        history.append(float(value) / math.log(2))
        if step % (STEPS // 10) == 0:
            done = 24 * step // STEPS
            mean, passed = sum(history[-20:]) / len(history[-20:]), time.perf_counter() - start
            bar = "#" * done + "." * (24 - done)
            print(f"  step {step:4d}/{STEPS} [{bar}]  {mean:.3f} bits a character, {passed:.0f} s", flush=True)
        if step == STEPS:
            return network, history


def save_results(network, history, sample):
    import matplotlib

    matplotlib.use("agg")  # draws into a file; needs no screen
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    axes.plot(history)
    axes.set(xlabel="step", ylabel="bits a character", title="Training loss")
    axes.grid(alpha=0.3)
    figure.savefig(FOLDER / "lstm_language.png", dpi=120)
    pyplot.close(figure)
    with open(FOLDER / "log.csv", "w", newline="") as file:
        csv.writer(file).writerows([("step", "bits"), *enumerate(history, start=1)])
    (FOLDER / "sample.txt").write_text(sample)
    fg.checkpoints.save(FOLDER / "network.safetensors", network, step=STEPS)


def main(seed=0):
    FOLDER.mkdir(parents=True, exist_ok=True)
    network_key, sample_key = fg.random.split(fg.random.key(seed))
    text, test_text = load_text()
    network = Network(key=network_key)
    print(f"Training {sum(p.size for p in fg.tree.leaves(network)):,} parameters on {len(text):,} characters:")
    network, history = train(network, text)

    result = bits_per_character(network, test_text)
    prompt = "The value of the expression is "
    sample = prompt + decode(write(network, sample_key, encode(prompt), 0.7))
    print(f"\nText that it has not seen: {result:.3f} bits a character. It writes:\n\n{sample}\n")
    save_results(network, history, sample)
    print(f"The loss curve, a log, the sample and the parameters are in {FOLDER}")

    assert result <= FLOOR, f"expected at most {FLOOR} bits a character, and got {result:.3f}"
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train a recurrent network to write like Python's documentation.")
    parser.add_argument("--seed", type=int, default=0, help="of the initial network and the sample")
    main(parser.parse_args().seed)
