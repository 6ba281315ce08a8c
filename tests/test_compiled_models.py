"""Training steps of whole networks are native code throughout, and do what the reference does."""

from __future__ import annotations

from functools import partial

import numpy
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad import nn
from funcgrad.config import config

KEY = fg.random.key(0)
TOLERANCE = {"float32": 2e-5, "float64": 1e-13}  # of the largest element of an array


def cross_entropy(logits, labels):
    return fg.losses.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


# The digits MLP


def mlp(key):
    return nn.MLP(64, 10, 32, 2, key=key)


def mlp_loss(network, x, labels, key):
    return cross_entropy(network(x), labels)


# A convolutional network


class Convolutional(nn.Module):
    """Two convolutions with batch normalization and both kinds of pooling, and two linear layers."""

    first: nn.Conv2d
    first_norm: nn.BatchNorm
    second: nn.Conv2d
    second_norm: nn.BatchNorm
    head: nn.Sequential

    def __init__(self, *, key):
        keys = fg.random.split(key, 4)
        self.first = nn.Conv2d(1, 4, 3, padding="SAME", key=keys[0])
        self.first_norm = nn.BatchNorm(4)
        self.second = nn.Conv2d(4, 6, 3, key=keys[1])
        self.second_norm = nn.BatchNorm(6)
        layers = [nn.Flatten(3), nn.Dropout(0.3), nn.Linear(6, 8, key=keys[2]), nn.gelu, nn.Linear(8, 10, key=keys[3])]
        self.head = nn.Sequential(layers)

    def __call__(self, images, states, *, key):
        x, first_state = self.first_norm(self.first(images), states[0])
        x = nn.MaxPool2d(2)(nn.relu(x))
        x, second_state = self.second_norm(self.second(x), states[1])
        return self.head(nn.AdaptiveAvgPool2d(1)(nn.relu(x)), key=key), (first_state, second_state)


def convolutional_loss(network, x, labels, key):
    # The statistics of the layers are results as well, though a derivative does not go through them.
    states = fg.tree.map(
        lambda s: fnp.asarray(s, x.dtype) if s.dtype.kind == "f" else s,
        (network.first_norm.initial_state(), network.second_norm.initial_state()),
    )
    logits, states = network(x, states, key=key)
    return cross_entropy(logits, labels) + sum(s.sum() for s in fg.tree.leaves(states) if s.dtype.kind == "f")


# An LSTM


class Recurrent(nn.Module):
    """An LSTM in both directions, and a linear layer that sees the last state of each."""

    lstm: nn.LSTM
    dropout: nn.Dropout
    head: nn.Linear

    def __init__(self, *, key):
        lstm_key, head_key = fg.random.split(key)
        self.lstm = nn.LSTM(8, 6, bidirectional=True, key=lstm_key)
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(12, 10, key=head_key)

    def __call__(self, rows, *, key):
        _, ((down, _), (up, _)) = self.lstm(rows)
        return self.head(self.dropout(fnp.concatenate([down, up], axis=-1), key=key))


def recurrent_loss(network, x, labels, key):
    return cross_entropy(network(x, key=key), labels)


# A small transformer


class Transformer(nn.Module):
    """A language model whose last layer is its embedding once more."""

    embedding: nn.Embedding
    encoder: nn.TransformerEncoder

    def __init__(self, *, key, rotary=True):
        embedding_key, encoder_key = fg.random.split(key)
        self.embedding = nn.Embedding(11, 16, key=embedding_key)
        self.encoder = nn.TransformerEncoder(2, 16, 2, causal=True, rotary=rotary, dropout=0.1, key=encoder_key)

    def __call__(self, tokens, *, key):
        return self.encoder(self.embedding(tokens), key=key) @ self.embedding.weight.T


def transformer_loss(network, tokens, labels, key):
    return cross_entropy(network(tokens, key=key), labels)


def inputs(kind, dtype, *batch):
    """What a network reads, and the labels."""
    generator = numpy.random.default_rng(7)
    if kind == "transformer":
        tokens = generator.integers(0, 11, (*batch, 4, 10)).astype(numpy.int32)
        return fg.array(tokens[..., :-1]), fg.array(tokens[..., 1:])
    shape = {"mlp": (6, 64), "convolutional": (6, 1, 8, 8), "recurrent": (6, 5, 8)}[kind]
    labels = generator.integers(0, 10, (*batch, 6)).astype(numpy.int32)
    return fg.array(generator.standard_normal((*batch, *shape)).astype(dtype)), fg.array(labels)


# A gradient that is 0 but for rounding is not to become a whole step; hence epsilon.
adam = partial(fg.optim.adam, eps=1e-3)
MODELS = {
    "mlp": (mlp, mlp_loss, adam(lambda count: 1e-2 / (1 + count))),
    "convolutional": (lambda key: Convolutional(key=key), convolutional_loss, fg.optim.sgd(1e-2, momentum=0.9)),
    "recurrent": (
        lambda key: Recurrent(key=key),
        recurrent_loss,
        fg.optim.chain(fg.optim.clip_by_global_norm(1.0), adam(1e-2)),
    ),
    "transformer": (
        lambda key: Transformer(key=key),
        transformer_loss,
        fg.optim.chain(
            fg.optim.clip_by_global_norm(1.0),
            fg.optim.adamw(
                fg.optim.warmup_cosine_decay_schedule(1e-3, 1e-2, 2, 10, 1e-5),
                eps=1e-3,
                weight_decay=0.1,
                mask=lambda parameters: fg.tree.map(lambda p: p.ndim > 1, parameters),
            ),
        ),
    ),
}


def in_dtype(network, dtype):
    return fg.tree.map(lambda x: fnp.asarray(x, dtype) if x.dtype.kind == "f" else x, network)


def train_step(loss, optimizer, network, state, x, labels, key):
    value, gradient = fg.value_and_grad(loss)(network, x, labels, key)
    updates, state = optimizer.update(gradient, state, network)
    return fg.optim.apply_updates(network, updates), state, value, gradient


def check_same(found, expected, dtype):
    assert fg.tree.structure(found) == fg.tree.structure(expected)
    # A layer whose gradient is 0 but for rounding is held to the size of the others.
    largest = max(float(abs(x).max()) for x in fg.tree.leaves(expected) if x.dtype.kind == "f")
    for x, y in zip(fg.tree.leaves(found), fg.tree.leaves(expected), strict=True):
        assert (x.shape, x.dtype, x.weak_type) == (y.shape, y.dtype, y.weak_type)
        if x.dtype.kind != "f":
            numpy.testing.assert_array_equal(x, y)
            continue
        assert numpy.isfinite(numpy.asarray(x)).all()
        size = max(float(abs(y).max()), 1e-2 * largest)
        numpy.testing.assert_allclose(x, y, rtol=0, atol=TOLERANCE[dtype] * size)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", MODELS)
def test_a_training_step(kind, dtype):
    make, loss, optimizer = MODELS[kind]
    network = in_dtype(make(KEY), dtype)
    state, (x, labels) = optimizer.init(network), inputs(kind, dtype)
    step = partial(train_step, loss, optimizer)
    compiled, reference = fg.jit(step), fg.jit(step, compiler="reference")
    assert compiled.lower(network, state, x, labels, KEY).host_calls == []
    for number in range(3):  # each from where the reference is, for rounding grows from step to step
        arguments = (network, state, x, labels, fg.random.fold_in(KEY, number))
        found, expected = compiled(*arguments), reference(*arguments)
        for a, b in zip(found, expected, strict=True):
            if fg.tree.leaves(b):
                check_same(a, b, dtype)
        network, state, _, gradient = expected
        assert all(float(abs(x).max()) > 0 for x in fg.tree.leaves(gradient))


@pytest.mark.parametrize("kind", MODELS)
def test_gradients_of_an_ensemble(kind):
    make, loss, _ = MODELS[kind]
    keys = fg.random.split(KEY, 3)
    networks = fg.vmap(make)(keys)
    x, labels = inputs(kind, "float32", 3)
    gradients = fg.vmap(fg.value_and_grad(loss))
    compiled = fg.jit(gradients)
    assert compiled.lower(networks, x, labels, keys).host_calls == []
    found = compiled(networks, x, labels, keys)
    check_same(found, fg.jit(gradients, compiler="reference")(networks, x, labels, keys), "float32")
    one = [fg.tree.map(lambda leaf: leaf[1], tree) for tree in (networks, x, labels, keys)]
    check_same(fg.tree.map(lambda leaf: leaf[1], found), fg.jit(fg.value_and_grad(loss))(*one), "float32")


@pytest.mark.parametrize("kind", MODELS)
def test_gradients_of_each_example(kind):
    make, loss, _ = MODELS[kind]
    network, (x, labels) = make(KEY), inputs(kind, "float32")

    def of_one(network, x, label, key):
        return loss(network, x[None], label[None], key)

    gradients = fg.vmap(fg.grad(of_one), in_axes=(None, 0, 0, 0))
    arguments = network, x, labels, fg.random.split(KEY, len(labels))
    compiled = fg.jit(gradients)
    assert compiled.lower(*arguments).host_calls == []
    check_same(compiled(*arguments), fg.jit(gradients, compiler="reference")(*arguments), "float32")


def test_a_network_in_inference():
    network = nn.inference_mode(Transformer(key=KEY, rotary=False))
    tokens, _ = inputs("transformer", "float32")
    scores = lambda network, tokens: nn.log_softmax(network(tokens, key=None)).argmax(-1)
    assert fg.jit(scores).lower(network, tokens).host_calls == []
    numpy.testing.assert_array_equal(
        fg.jit(scores)(network, tokens), fg.jit(scores, compiler="reference")(network, tokens)
    )


@pytest.mark.native
@pytest.mark.parametrize("kind", ["convolutional", "transformer"])
def test_a_training_step_has_the_same_bits_on_any_number_of_threads(kind):
    make, loss, optimizer = MODELS[kind]
    network = make(KEY)
    arguments = (network, optimizer.init(network), *inputs(kind, "float32"), KEY)
    step, found = fg.jit(partial(train_step, loss, optimizer)), []
    for threads in (1, 2, 3):
        with config.override(threads=threads):
            found.append([numpy.asarray(x).tobytes() for x in fg.tree.leaves(step(*arguments))])
    assert found[0] == found[1] == found[2]
