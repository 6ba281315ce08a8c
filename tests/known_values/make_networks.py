"""Writes networks.json: values and derivatives of JAX's activation functions, initial values, and Optax's losses.

Run it with a Python that has jax and optax.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy
import optax
from jax.nn import initializers

jax.config.update("jax_enable_x64", True)

# Large and small numbers, both zeros' neighbourhoods, and no kinks but that of relu at 0.
POINTS = [-1000.0, -30.0, -5.5, -2.0, -0.7, -1e-3, 0.0, 1e-3, 0.3, 0.9, 2.0, 4.5, 7.0, 30.0, 1000.0]
ACTIVATIONS = {
    "relu": jax.nn.relu,
    "relu6": jax.nn.relu6,
    "leaky_relu": jax.nn.leaky_relu,
    "elu": jax.nn.elu,
    "celu": jax.nn.celu,
    "selu": jax.nn.selu,
    "sigmoid": jax.nn.sigmoid,
    "log_sigmoid": jax.nn.log_sigmoid,
    "softplus": jax.nn.softplus,
    "silu": jax.nn.silu,
    "gelu": jax.nn.gelu,
    "exact gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "mish": jax.nn.mish,
    "soft_sign": jax.nn.soft_sign,
    "hard_tanh": jax.nn.hard_tanh,
    "hard_sigmoid": jax.nn.hard_sigmoid,
    "hard_silu": jax.nn.hard_silu,
    "tanh": jnp.tanh,
    "identity": jax.nn.identity,
}
INITIALIZERS = {
    "zeros": initializers.zeros,
    "ones": initializers.ones,
    "constant": initializers.constant(0.5),
    "uniform": initializers.uniform(0.1),
    "normal": initializers.normal(0.1),
    "truncated_normal": initializers.truncated_normal(0.1),
    "glorot_uniform": initializers.glorot_uniform(),
    "glorot_normal": initializers.glorot_normal(),
    "he_uniform": initializers.he_uniform(),
    "he_normal": initializers.he_normal(),
    "lecun_uniform": initializers.lecun_uniform(),
    "lecun_normal": initializers.lecun_normal(),
    "orthogonal": initializers.orthogonal(0.7),
    "delta_orthogonal": initializers.delta_orthogonal(),
    "variance_scaling": initializers.variance_scaling(
        0.7, "fan_geo_avg", "normal", in_axis=0, out_axis=1, batch_axis=2
    ),
}
SHAPE = (3, 2, 4)

LOGITS = [[2.0, -1.0, 0.5], [1000.0, 0.0, -1000.0], [-0.3, -0.3, -0.3], [1e-3, 5.0, 5.0]]
LABELS = [0, 1, 2, 1]
DISTRIBUTIONS = [[0.2, 0.3, 0.5], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.25, 0.25, 0.5]]
LOSSES = {
    "softmax_cross_entropy_with_integer_labels": (optax.softmax_cross_entropy_with_integer_labels, LABELS),
    "softmax_cross_entropy": (optax.softmax_cross_entropy, DISTRIBUTIONS),
    "squared_error": (optax.squared_error, DISTRIBUTIONS),
    "l2_loss": (optax.l2_loss, DISTRIBUTIONS),
}


def derivatives(function):
    x = jnp.array(POINTS)
    first = jax.vmap(jax.grad(function))
    second = jax.vmap(jax.grad(jax.grad(function)))
    return {"value": function(x).tolist(), "first": first(x).tolist(), "second": second(x).tolist()}


def loss_values(loss, targets):
    logits, targets = jnp.array(LOGITS), jnp.array(targets)
    gradient = jax.grad(lambda x: (loss(x, targets)).sum())(logits)
    return {"targets": targets.tolist(), "value": loss(logits, targets).tolist(), "gradient": gradient.tolist()}


def main():
    key = jax.random.PRNGKey(7)
    values = {
        "points": POINTS,
        "activations": {name: derivatives(function) for name, function in ACTIVATIONS.items()},
        "shape": SHAPE,
        "initializers": {
            name: numpy.asarray(init(key, SHAPE, jnp.float32)).astype(float).round(8).tolist()
            for name, init in INITIALIZERS.items()
        },
        "logits": LOGITS,
        "losses": {name: loss_values(*case) for name, case in LOSSES.items()},
    }
    path = Path(__file__).with_name("networks.json")
    path.write_text(json.dumps(values, separators=(",", ":")) + "\n")
    print(f"wrote {path.name}, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
