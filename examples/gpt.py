"""Train a small GPT to write in the style of Python's documentation, character by character.

    python examples/gpt.py

The text is the language reference that `help("assert")` shows; it comes with Python, as pydoc_data.topics. The network
is a transformer with causal attention and rotary positions, whose last layer is its embedding once more. When it
writes, it keeps the keys and values of what it has read in a cache, so that a character costs one step and not a whole
sequence; the program checks that this gives the same scores. The loss curve, a log, a sample and the parameters are
left in runs/gpt.
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
STEPS = 120 if QUICK else 1200
BATCH_SIZE = 16 if QUICK else 32
CONTEXT = 64
FEATURES, HEADS, DEPTH = (48, 4, 2) if QUICK else (96, 4, 3)
FLOOR = 3.7 if QUICK else 2.0  # bits a character on text that it has not seen; counting letters alone gives about 4.7
FOLDER = Path("runs/gpt")

ALPHABET = "\n" + "".join(map(chr, range(32, 127)))

schedule = fg.optim.warmup_cosine_decay_schedule(0.0, 3e-3, STEPS // 20, STEPS, 3e-5)
optimizer = fg.optim.chain(
    fg.optim.clip_by_global_norm(1.0),
    # Weights decay; biases and normalizations, which have one axis, do not.
    fg.optim.adamw(schedule, weight_decay=0.1, mask=lambda params: fg.tree.map(lambda p: p.ndim > 1, params)),
)


class GPT(nn.Module):
    """A vector for each character, a transformer, and a score for each character that may come next."""

    embedding: nn.Embedding
    transformer: nn.TransformerEncoder

    def __init__(self, *, key):
        key1, key2 = fg.random.split(key)
        embedding = nn.Embedding(len(ALPHABET), FEATURES, key=key1)
        self.embedding = embedding.replace(weight=0.05 * embedding.weight)
        self.transformer = nn.TransformerEncoder(DEPTH, FEATURES, HEADS, causal=True, rotary=True, key=key2)

    def __call__(self, characters):
        return self.scores(self.transformer(self.embedding(characters)))

    def decode(self, characters, caches):
        """The same for the next characters of a text whose beginning is in the caches."""
        x, caches = self.transformer.decode(self.embedding(characters), caches)
        return self.scores(x), caches

    def scores(self, x):
        return x @ self.embedding.weight.T


# The data: numbers of characters; the last tenth is kept aside.


def load_text():
    text = "\n".join(topics[name] for name in sorted(topics))
    number = {character: i for i, character in enumerate(ALPHABET)}
    encoded = numpy.array([number.get(character, number["?"]) for character in text], dtype=numpy.int32)
    return encoded[: -len(encoded) // 10], encoded[-len(encoded) // 10 :]


def windows(text, starts):
    return text[starts[:, None] + numpy.arange(CONTEXT + 1)]


def loss(network, characters):
    logits = network(characters[:, :-1])
    return fg.losses.softmax_cross_entropy_with_integer_labels(logits, characters[:, 1:]).mean()


@fg.jit
def train_step(network, state, text, key):
    starts = fg.random.randint(key, (BATCH_SIZE,), 0, text.shape[0] - CONTEXT)
    characters = text[starts[:, None] + np.arange(CONTEXT + 1)]
    value, gradient = fg.value_and_grad(loss)(network, characters)
    updates, state = optimizer.update(gradient, state, network)
    return fg.optim.apply_updates(network, updates), state, value


evaluate_step = fg.jit(loss)


def bits_per_character(network, text):
    starts = numpy.arange(0, len(text) - CONTEXT - 1, CONTEXT)
    starts = starts[: len(starts) // BATCH_SIZE * BATCH_SIZE].reshape(-1, BATCH_SIZE)
    values = [float(evaluate_step(network, np.asarray(windows(text, batch)))) for batch in starts]
    return sum(values) / len(values) / math.log(2)


# Writing, with a cache of keys and values.


@fg.jit
def write(network, key, prompt, temperature):
    """A text of CONTEXT characters that goes on after a prompt: each is drawn by its score, and read as the next."""
    caches = network.transformer.initial_cache(max_length=prompt.shape[0] + CONTEXT)
    logits, caches = network.decode(prompt, caches)

    def step(carry, key):
        logits, caches = carry
        character = fg.random.categorical(key, logits / temperature)
        logits, caches = network.decode(character[None], caches)
        return (logits[0], caches), character

    return fg.lax.scan(step, (logits[-1], caches), fg.random.split(key, CONTEXT))[1]


def largest_difference(network, characters):
    """Between the scores of a whole text and those of one character after the other, with a cache."""
    step = fg.jit(network.decode)
    caches, found = network.transformer.initial_cache(max_length=len(characters)), []
    for character in characters:
        logits, caches = step(character[None], caches)
        found.append(logits[0])
    return float(abs(network(characters) - np.stack(found)).max())


def encode(text):
    return np.asarray([ALPHABET.index(character) for character in text], dtype=np.int32)


def decode(characters):
    return "".join(ALPHABET[i] for i in characters.tolist())


def train(network, text, key):
    state, text = optimizer.init(network), np.asarray(text)
    history, start = [], time.perf_counter()
    for step in range(1, STEPS + 1):
        key, step_key = fg.random.split(key)
        network, state, value = train_step(network, state, text, step_key)
        history.append(float(value) / math.log(2))
        if step % (STEPS // 10) == 0:
            done = 24 * step // STEPS
            mean, passed = sum(history[-20:]) / len(history[-20:]), time.perf_counter() - start
            bar = "#" * done + "." * (24 - done)
            print(f"  step {step:4d}/{STEPS} [{bar}]  {mean:.3f} bits a character, {passed:.0f} s", flush=True)
    return network, history


def save_results(network, history, sample):
    import matplotlib

    matplotlib.use("agg")  # draws into a file; needs no screen
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    axes.plot(history)
    axes.set(xlabel="step", ylabel="bits a character", title="Training loss")
    axes.grid(alpha=0.3)
    figure.savefig(FOLDER / "gpt.png", dpi=120)
    pyplot.close(figure)
    with open(FOLDER / "log.csv", "w", newline="") as file:
        csv.writer(file).writerows([("step", "bits"), *enumerate(history, start=1)])
    (FOLDER / "sample.txt").write_text(sample)
    fg.checkpoints.save(FOLDER / "network.safetensors", network, step=STEPS)


def main(seed=0):
    FOLDER.mkdir(parents=True, exist_ok=True)
    network_key, training_key, sample_key = fg.random.split(fg.random.key(seed), 3)
    text, test_text = load_text()
    network = GPT(key=network_key)
    count = sum(parameter.size for parameter in fg.tree.leaves(network))
    print(f"Training {count:,} parameters on {len(text):,} characters:")
    network, history = train(network, text, training_key)
    result = bits_per_character(network, test_text)

    prompt = "The value of the "
    sample = prompt + decode(write(network, sample_key, encode(prompt), 0.7))
    print(f"\nText that it has not seen: {result:.3f} bits a character. It writes:\n\n{sample}\n")
    difference = largest_difference(network, np.asarray(test_text[:CONTEXT]))
    print(f"With and without the cache, scores differ by at most {difference:.1e}.")
    save_results(network, history, sample)
    print(f"The loss curve, a log, the sample and the parameters are in {FOLDER}")

    assert difference < 1e-3, f"expected the same scores with a cache, and they differ by {difference:.1e}"
    assert result <= FLOOR, f"expected at most {FLOOR} bits a character, and got {result:.3f}"
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train a small GPT to write like Python's documentation.")
    parser.add_argument("--seed", type=int, default=0, help="of the initial network, the training and the sample")
    main(parser.parse_args().seed)
