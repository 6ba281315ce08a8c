"""Train a network in three precisions, and compare.

    python examples/mixed_precision.py

The same network reads handwritten digits in float32, in bfloat16 and in float16. In the last two its parameters stay in
float32 and only what is computed has 16 bits: a policy casts network and pictures on the way in. float16 needs a loss
scale besides, which begins far too large here, so that the first steps overflow: they are left out, and the scale gets
smaller until they do not. On machines without instructions for 16-bit floats the last two are no faster; what they
save is memory. The curves, a log and the parameters are left in runs/mixed_precision.
"""

import argparse
import os
from pathlib import Path

import numpy

import funcgrad as fg
from funcgrad import nn, train
from funcgrad.nn import amp

QUICK = os.environ.get("FUNCGRAD_EXAMPLES_QUICK") == "1"
EPOCHS = 6 if QUICK else 20
BATCH_SIZE = 32
FLOOR = 0.92 if QUICK else 0.95
LARGEST_DIFFERENCE = 0.015  # of the accuracies: five digits of the test
FOLDER = Path("runs/mixed_precision")

PRECISIONS = {
    "float32": (amp.get_policy("float32"), amp.NoOpLossScale()),
    "bfloat16": (amp.Policy(compute_dtype="bfloat16"), amp.NoOpLossScale()),
    "float16": (amp.Policy(compute_dtype="float16"), amp.DynamicLossScale(2.0**24, period=100)),
}


def load_data(key):
    pixels = lambda example: {
        "image": (example["image"] / 16).astype(numpy.float32).reshape(64),
        "label": example["label"],
    }
    return fg.data.split(fg.data.map(pixels, fg.data.load("digits")), [0.8, 0.2], key=key)


def make_steps(policy, optimizer):
    def loss(network, images, labels):
        logits = policy.apply(network, images)  # computed in 16 bits, and given in float32
        return fg.losses.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), logits

    @fg.jit
    def train_step(state, batch):
        network, optimizer_state, loss_scale = state
        gradient_of = amp.value_and_grad(loss, loss_scale, has_aux=True)
        (value, logits), gradient = gradient_of(network, *batch.values())
        updates, next_state = optimizer.update(gradient, optimizer_state, network)
        finite = amp.all_finite(gradient)
        after = fg.optim.apply_updates(network, updates), next_state
        network, optimizer_state = amp.select_tree(finite, after, (network, optimizer_state))
        outputs = {
            "loss": value,
            "accuracy": train.Accuracy().update(logits, batch["label"]),
            "left out": 1.0 - finite,
            "loss scale": getattr(loss_scale, "loss_scale", 1.0),
        }
        return (network, optimizer_state, loss_scale.adjust(finite)), outputs

    @fg.jit
    def test_step(state, batch):
        logits = policy.apply(state[0], batch["image"])
        return {"test accuracy": train.Accuracy().update(logits, batch["label"])}

    return train_step, test_step


def save_results(histories):
    import matplotlib

    matplotlib.use("agg")  # draws into a file; needs no screen
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for name, history in histories.items():
        left.plot(range(1, len(history) + 1), [metrics["loss"] for metrics in history], label=name)
    left.set(xlabel="epoch", ylabel="mean training loss", yscale="log", title="Loss")
    left.legend()
    history = histories["float16"]
    right.plot(range(1, len(history) + 1), [metrics["loss scale"] for metrics in history])
    right.set(xlabel="epoch", ylabel="mean loss scale", yscale="log", title="The loss scale of float16")
    for axes in (left, right):
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    figure.savefig(FOLDER / "mixed_precision.png", dpi=120)
    pyplot.close(figure)


def main(seed=0):
    FOLDER.mkdir(parents=True, exist_ok=True)
    data_key, shuffle_key, network_key = fg.random.split(fg.random.key(seed), 3)
    training, test = load_data(data_key)
    test = list(fg.data.DataLoader(test, 180))
    histories, results = {}, {}
    for name, (policy, loss_scale) in PRECISIONS.items():
        # Loaders with the same key give the same batches: all three see the same.
        loader = fg.data.DataLoader(training, BATCH_SIZE, shuffle_key=shuffle_key, drop_last=True)
        optimizer = fg.optim.adam(fg.optim.cosine_decay_schedule(4e-3, EPOCHS * len(loader)))
        train_step, test_step = make_steps(policy, optimizer)
        network = policy.cast_to_param(nn.MLP(64, 10, width=64, depth=2, key=network_key))
        log = FOLDER / f"{name}.csv"
        log.unlink(missing_ok=True)
        print(f"In {name}:")
        (network, *_, loss_scale), history = train.fit(
            train_step,
            (network, optimizer.init(network), loss_scale),
            loader,
            EPOCHS,
            evaluate=lambda state, step=test_step: train.evaluate(step, state, test),
            callbacks=[train.ProgressBar(), train.Log(train.CSVLogger(log))],
        )
        assert {str(p.dtype) for p in fg.tree.leaves(network)} == {"float32"}
        histories[name], results[name] = history, history[-1]["test accuracy"]
        fg.checkpoints.save(FOLDER / f"{name}.safetensors", network)
    left_out = round(sum(metrics["left out"] for metrics in histories["float16"]) * len(loader))
    print("\nTest accuracy: " + ", ".join(f"{name} {result:.1%}" for name, result in results.items()))
    print(f"In float16, {left_out} steps were left out, and the loss scale is {float(loss_scale.loss_scale):,.0f}.")
    save_results(histories)
    print(f"The curves, logs and parameters are in {FOLDER}")

    assert results["float32"] >= FLOOR, f"expected an accuracy of at least {FLOOR:.0%}"
    assert left_out > 0, "expected that the first steps in float16 overflow"
    for name, result in results.items():
        difference = abs(result - results["float32"])
        assert difference <= LARGEST_DIFFERENCE, f"{name} differs from float32 by {difference:.1%}"
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train a network in three precisions, and compare.")
    parser.add_argument("--seed", type=int, default=0, help="of the initial network and the order of the data")
    main(parser.parse_args().seed)
