"""Train a variational autoencoder to draw handwritten digits.

    python examples/vae_digits.py

The encoder gives, for each picture of 8 by 8 pixels, a normal distribution over a few numbers; the decoder gives a
picture for such numbers. Trained together, they make a picture out of what remains of it, and numbers from the standard
normal distribution become digits that nobody wrote. The curve, pictures, a log and the parameters are left in
runs/vae_digits.

Source: D. Kingma and M. Welling, "Auto-Encoding Variational Bayes", https://arxiv.org/abs/1312.6114.
"""

import argparse
import os
from pathlib import Path

import numpy

import funcgrad as fg
import funcgrad.numpy as np
from funcgrad import nn, train

QUICK = os.environ.get("FUNCGRAD_EXAMPLES_QUICK") == "1"
EPOCHS = 15 if QUICK else 150
LATENT, WIDTH = 8, 128
BATCH_SIZE = 32
FLOOR = -25.3 if QUICK else -24.5  # the bound on the log-likelihood of a picture; without a code it is about -27.1
FOLDER = Path("runs/vae_digits")


class VAE(nn.Module):
    """An encoder to the means and log-variances of a code, and a decoder to the logits of pixels."""

    encoder: nn.MLP
    decoder: nn.MLP

    def __init__(self, *, key):
        encoder_key, decoder_key = fg.random.split(key)
        self.encoder = nn.MLP(64, 2 * LATENT, WIDTH, depth=1, activation=nn.gelu, key=encoder_key)
        self.decoder = nn.MLP(LATENT, 64, WIDTH, depth=1, activation=nn.gelu, key=decoder_key)

    def encode(self, pixels):
        return np.split(self.encoder(pixels), 2, axis=-1)

    def decode(self, code):
        return nn.sigmoid(self.decoder(code))


def bound(vae, pixels, key):
    """The two parts of the lower bound on the log-likelihood of one picture.

    They are how well the pixels come out again, and how far the code is from a standard normal distribution.
    """
    mean, log_variance = vae.encode(pixels)
    code = mean + np.exp(log_variance / 2) * fg.random.normal(key, mean.shape)
    fit = -fg.losses.sigmoid_binary_cross_entropy(vae.decoder(code), pixels).sum()
    distance = 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance).sum()
    return fit, distance


# Written for one picture; `vmap` makes it a function of a batch, with another random key for each.
bounds = fg.vmap(bound, in_axes=(None, 0, 0))


def loss(vae, pixels, key):
    fit, distance = bounds(vae, pixels, fg.random.split(key, pixels.shape[0]))
    return (distance - fit).mean(), {"bound": fit - distance, "distance": distance}


def make_train_step(optimizer):
    @fg.jit
    def train_step(state, batch):
        vae, optimizer_state, key = state
        key, step_key = fg.random.split(key)
        (_, outputs), gradient = fg.value_and_grad(loss, has_aux=True)(vae, batch["image"], step_key)
        updates, optimizer_state = optimizer.update(gradient, optimizer_state, vae)
        return (fg.optim.apply_updates(vae, updates), optimizer_state, key), outputs

    return train_step


@fg.jit
def test_step(state, batch):
    return {"bound": loss(state[0], batch["image"], state[2])[1]["bound"]}


def load_data(key):
    pixels = lambda example: {"image": (example["image"] / 16).astype(numpy.float32).reshape(64)}
    return fg.data.split(fg.data.map(pixels, fg.data.load("digits")), [0.8, 0.2], key=key)


def save_results(vae, history, pictures, key):
    import matplotlib

    matplotlib.use("agg")  # draws into a file; needs no screen
    from matplotlib import pyplot

    means, _ = vae.encode(pictures)
    rows = {
        "digits": pictures,
        "out of their codes": vae.decode(means),
        "from the first to the second": vae.decode(
            means[0] + np.linspace(0.0, 1.0, 10)[:, None] * (means[1] - means[0])
        ),
        "made up": vae.decode(fg.random.normal(key, (10, LATENT))),
    }
    figure = pyplot.figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(2, 3))
    curve = left.subplots()
    for name in ("bound", "test bound"):
        curve.plot(range(1, len(history) + 1), [metrics[name] for metrics in history], label=name)
    curve.set(xlabel="epoch", ylabel="nats a picture", title="Bound on the log-likelihood")
    curve.grid(alpha=0.3)
    curve.legend()
    grid = right.subplots(len(rows), 10)
    for axes, (name, images) in zip(grid, rows.items(), strict=True):
        axes[0].set_title(name, loc="left", fontsize=9).set_in_layout(False)
        for place, image in zip(axes, images, strict=True):
            place.imshow(numpy.asarray(image).reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
            place.set_axis_off()
    figure.savefig(FOLDER / "vae_digits.png", dpi=120)
    pyplot.close(figure)


def main(seed=0):
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "log.csv").unlink(missing_ok=True)
    data_key, shuffle_key, vae_key, training_key, drawing_key = fg.random.split(fg.random.key(seed), 5)
    parts = load_data(data_key)
    loader = fg.data.DataLoader(parts[0], BATCH_SIZE, shuffle_key=shuffle_key, drop_last=True)
    test = list(fg.data.DataLoader(parts[1], 180))

    optimizer = fg.optim.adam(fg.optim.cosine_decay_schedule(3e-3, EPOCHS * len(loader)))
    vae = VAE(key=vae_key)
    print(f"Training on {len(parts[0])} digits:")
    state, history = train.fit(
        make_train_step(optimizer),
        (vae, optimizer.init(vae), training_key),
        loader,
        EPOCHS,
        evaluate=lambda state: train.evaluate(test_step, state, test, prefix="test "),
        callbacks=[train.ProgressBar(), train.Log(train.CSVLogger(FOLDER / "log.csv"))],
    )
    result = history[-1]["test bound"]
    print(f"\nThe log-likelihood of a digit that it has not seen is at least {result:.2f} nats in the mean.")
    save_results(state[0], history, test[0]["image"][:10], drawing_key)
    fg.checkpoints.save(FOLDER / "vae.safetensors", state[0])
    print(f"The curve, pictures, a log and the parameters are in {FOLDER}")

    assert result >= FLOOR, f"expected at least {FLOOR} nats, and got {result:.2f}"
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train a variational autoencoder to draw handwritten digits.")
    parser.add_argument("--seed", type=int, default=0, help="of the initial network, the data and the noise")
    main(parser.parse_args().seed)
