"""Layers that compute again what they would have kept: the same numbers with less memory."""

import copy
import pickle
import tracemalloc

import numpy
import pytest

import funcgrad as fg
import funcgrad.numpy as np
from funcgrad import nn
from funcgrad.errors import ArgumentTypeError

POLICIES = [None, fg.checkpoint_policies.dots_saveable, fg.checkpoint_policies.everything_saveable]


def block(seed=0):
    return nn.TransformerEncoderBlock(8, num_heads=2, dropout=0.1, causal=True, key=fg.random.key(seed))


def frugal(encoder, policy=None):
    wrapped = lambda blocks: tuple(nn.Remat(block, policy) for block in blocks)
    return nn.tree_at(lambda encoder: encoder.blocks, encoder, replace_fn=wrapped)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("compile", [lambda f: f, fg.jit])
def test_results_and_gradients_are_those_of_the_layer(policy, compile):
    layer, x = block(), fg.random.normal(fg.random.key(1), (3, 5, 8))

    def loss(layer, x):
        return (layer(x, key=fg.random.key(2)) ** 2).sum()

    value, gradients = compile(fg.value_and_grad(loss, argnums=(0, 1)))(nn.Remat(layer, policy), x)
    expected, expected_gradients = fg.value_and_grad(loss, argnums=(0, 1))(layer, x)
    numpy.testing.assert_allclose(value, expected, rtol=1e-5)
    found = fg.tree.leaves(gradients)
    for ours, theirs in zip(found, fg.tree.leaves(expected_gradients), strict=True):
        numpy.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_an_ensemble_is_vmap_over_it():
    layers = fg.vmap(lambda key: nn.Remat(nn.MLP(3, 2, width=4, depth=1, key=key)))(fg.random.split(fg.random.key(0)))
    gradients = fg.vmap(fg.grad(lambda layer: layer(np.ones(3)).sum()))(layers)
    for i in range(2):
        alone = fg.tree.map(lambda x, i=i: x[i], layers)
        expected = fg.grad(lambda layer: layer(np.ones(3)).sum())(alone.layer)
        numpy.testing.assert_allclose(gradients.layer.layers[0].weight[i], expected.layers[0].weight, rtol=1e-6)


def kept(layers, x):
    """The bytes that stay in memory between a forward and a backward pass."""

    def deep(layers, x):
        for layer in layers:
            x = layer(x)
        return x.sum()

    fg.vjp(deep, layers, x)  # what is made once and kept for the next time
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        kept_by = fg.vjp(deep, layers, x)
        now = tracemalloc.get_traced_memory()[0]
        del kept_by
        return now - before
    finally:
        tracemalloc.stop()


def test_it_keeps_far_less():
    layers = [nn.MLP(64, 64, width=256, depth=2, activation=nn.gelu, key=fg.random.key(i)) for i in range(4)]
    x = np.ones((512, 64))
    everything = kept(layers, x)
    nothing = kept([nn.Remat(layer) for layer in layers], x)
    products = kept([nn.Remat(layer, fg.checkpoint_policies.dots_saveable) for layer in layers], x)
    assert nothing < 0.25 * everything
    assert nothing < products < everything


def test_an_encoder_of_such_blocks_decodes():
    encoder = nn.TransformerEncoder(2, 8, num_heads=2, causal=True, key=fg.random.key(0))
    x = fg.random.normal(fg.random.key(1), (5, 8))
    less = frugal(encoder)
    caches = less.initial_cache(max_length=5)
    y, caches = less.decode(x, caches)
    numpy.testing.assert_allclose(y, encoder(x), rtol=1e-5, atol=1e-6)
    assert nn.inference_mode(less).blocks[0].layer.dropout.inference


def test_attributes_are_those_of_the_layer():
    layer = nn.Remat(nn.Linear(2, 3, key=fg.random.key(0)))
    assert layer.out_features == 3 and layer.weight.shape == (3, 2)
    assert list(nn.named_parameters(layer)) == ["layer.weight", "layer.bias"]
    with pytest.raises(AttributeError):
        layer.something
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        numpy.testing.assert_array_equal(other.weight, layer.weight)


def test_something_that_cannot_be_called_is_an_error():
    with pytest.raises(ArgumentTypeError, match="cannot be called"):
        nn.Remat(np.ones(3))
