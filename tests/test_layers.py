"""Layers: values and gradients of PyTorch's, behaviour under transforms, masks, caches, states, and wrong inputs."""

import math

import numpy
import pytest
from layer_checks import (
    KNOWN,
    arrays,
    check_jit_and_ensemble,
    check_values_and_gradients,
    unchecked,
    with_parameters,
)

import funcgrad as fg
import funcgrad.numpy as np
from funcgrad import nn
from funcgrad.errors import ArgumentError, DtypeError, OutOfBoundsError, ShapeError

KEY = fg.random.key(0)


def attention(**options):
    return nn.MultiHeadAttention(4, 2, key=KEY, **options)


def encoder_block(norm_first):
    exact = lambda x: nn.gelu(x, approximate=False)
    return nn.TransformerEncoderBlock(4, 2, 6, key=KEY, activation=exact, norm_first=norm_first)


def decoder_block(norm_first):
    return nn.TransformerDecoderBlock(4, 2, 6, key=KEY, activation=nn.relu, norm_first=norm_first)


class Identity(nn.Module):
    def __call__(self, x):
        return x


MASK = [[True, True, False, True], [True, True, True, True]]
LAYERS = {
    "Bilinear": lambda: nn.Bilinear(2, 3, 4, key=KEY),
    "Embedding": lambda: nn.Embedding(5, 3, key=KEY),
    "LayerNorm": lambda: nn.LayerNorm((3, 2)),
    "RMSNorm": lambda: nn.RMSNorm(5),
    "GroupNorm": lambda: nn.GroupNorm(2, 4),
    "InstanceNorm": lambda: nn.InstanceNorm(2, affine=True),
    "BatchNorm": lambda: nn.BatchNorm(3),
    "BatchNorm of images": lambda: nn.BatchNorm(3),
    "Conv1d": lambda: nn.Conv1d(2, 3, 3, stride=2, padding=2, key=KEY),
    "Conv2d": lambda: nn.Conv2d(4, 6, (3, 2), stride=(1, 2), padding=(2, 1), dilation=(2, 1), groups=2, key=KEY),
    "Conv2d depthwise": lambda: nn.Conv2d(3, 6, 3, padding="SAME", groups=3, use_bias=False, key=KEY),
    "Conv3d": lambda: nn.Conv3d(1, 2, 2, stride=(1, 2, 1), padding=(0, 1, 0), key=KEY),
    "ConvTranspose1d": lambda: nn.ConvTranspose1d(2, 3, 4, stride=2, padding=1, key=KEY),
    "ConvTranspose2d": lambda: nn.ConvTranspose2d(
        4, 6, (3, 2), stride=(2, 3), padding=1, output_padding=(1, 2), dilation=(2, 1), groups=2, key=KEY
    ),
    "ConvTranspose3d": lambda: nn.ConvTranspose3d(1, 2, 2, stride=2, key=KEY),
    "MaxPool1d": lambda: nn.MaxPool1d(3, 2, 1),
    "MaxPool2d": lambda: nn.MaxPool2d((2, 3), padding=(1, 0), dilation=(1, 2)),
    "MaxPool3d": lambda: nn.MaxPool3d(2),
    "AvgPool1d": lambda: nn.AvgPool1d(3),
    "AvgPool2d": lambda: nn.AvgPool2d((3, 2), 2, 1),
    "AvgPool2d without padding": lambda: nn.AvgPool2d(3, 2, 1, count_padding=False),
    "AvgPool3d": lambda: nn.AvgPool3d(2),
    "AdaptiveAvgPool1d": lambda: nn.AdaptiveAvgPool1d(3),
    "AdaptiveAvgPool2d": lambda: nn.AdaptiveAvgPool2d((2, 3)),
    "AdaptiveAvgPool3d": lambda: nn.AdaptiveAvgPool3d((2, 1, 2)),
    "AdaptiveMaxPool1d": lambda: nn.AdaptiveMaxPool1d(5),
    "AdaptiveMaxPool2d": lambda: nn.AdaptiveMaxPool2d(3),
    "AdaptiveMaxPool3d": lambda: nn.AdaptiveMaxPool3d(1),
    "MultiHeadAttention with a mask": attention,
    "MultiHeadAttention, causal": lambda: attention(causal=True),
    "MultiHeadAttention to a context": attention,
    "grouped queries": Identity,
    "TransformerEncoderBlock, norm first": lambda: encoder_block(True),
    "TransformerEncoderBlock, norm last": lambda: encoder_block(False),
    "TransformerDecoderBlock, norm first": lambda: decoder_block(True),
    "TransformerDecoderBlock, norm last": lambda: decoder_block(False),
    "WeightNorm": lambda: nn.WeightNorm(nn.Linear(3, 2, key=KEY)),
    "WeightNorm of a convolution": lambda: nn.WeightNorm(nn.Conv1d(2, 3, 2, use_bias=False, key=KEY)),
}


def call(name, layer, *inputs):
    if name == "MultiHeadAttention with a mask":
        return layer(*inputs, mask=np.array(MASK)[:, None, None, :])
    if name.startswith("BatchNorm"):
        return layer(*inputs, layer.initial_state())[0]
    if name == "grouped queries":
        return nn.dot_product_attention(*inputs, is_causal=True)
    return layer(*inputs)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", LAYERS)
def test_values_and_gradients_are_those_of_pytorch(name, dtype):
    check_values_and_gradients(name, LAYERS[name](), lambda *args: call(name, *args), dtype)


@pytest.mark.parametrize("name", LAYERS)
def test_layers_under_jit_and_in_an_ensemble(name):
    check_jit_and_ensemble(name, LAYERS[name](), lambda *args: call(name, *args))


@pytest.mark.parametrize("name", ["LayerNorm", "GroupNorm", "BatchNorm", "MultiHeadAttention, causal", "Conv2d"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_layers_keep_narrow_dtypes(name, dtype):
    layer = with_parameters(LAYERS[name](), KNOWN[name]["parameters"], dtype)
    output = call(name, layer, *arrays(KNOWN[name]["inputs"], dtype))
    assert output.dtype == dtype
    numpy.testing.assert_allclose(output.astype("float32"), KNOWN[name]["output"], rtol=0.1, atol=0.1)


def test_norms_of_large_narrow_numbers_do_not_overflow():
    x = np.array([60000.0, -60000.0, 30000.0, 0.0], "float16")
    assert bool(np.isfinite(nn.LayerNorm(4)(x)).all())
    assert bool(np.isfinite(nn.RMSNorm(4)(x)).all())


# Initial values


@pytest.mark.parametrize(
    ("layer", "bound"),
    [
        (nn.Conv2d(10, 50, 3, key=KEY), 1 / math.sqrt(90)),
        (nn.ConvTranspose2d(10, 50, 3, key=KEY), 1 / math.sqrt(450)),
        (nn.Conv2d(32, 64, 5, groups=4, key=KEY), 1 / math.sqrt(200)),
        (nn.Bilinear(16, 20, 10, key=KEY), 0.25),
    ],
)
def test_layers_begin_uniformly_as_in_pytorch(layer, bound):
    for values in map(numpy.asarray, fg.tree.leaves(layer)):
        assert abs(values).max() <= bound
        assert abs(values).max() > 0.9 * bound
        assert values.std() == pytest.approx(bound / math.sqrt(3), rel=0.2)
    values = [float(x.ravel()[0]) for x in fg.tree.leaves(layer)]
    assert len(set(values)) == len(values)


def test_attention_and_embeddings_begin_as_in_pytorch():
    layer = nn.MultiHeadAttention(64, 4, key=KEY)
    bound = math.sqrt(6 / 256)
    for part in (layer.query_projection, layer.key_projection, layer.value_projection):
        assert 0.98 * bound < float(np.abs(part.weight).max()) <= bound
        assert not bool(part.bias.any())
    assert 0.98 / 8 < float(np.abs(layer.output_projection.weight).max()) <= 1 / 8
    assert not bool(layer.output_projection.bias.any())
    weight = nn.Embedding(100, 50, key=KEY).weight
    assert float(weight.std()) == pytest.approx(1, rel=0.05)


# Embeddings and positions


def test_tokens_that_are_not_in_the_table_show():
    layer = nn.Embedding(3, 2, key=KEY)
    found = numpy.asarray(layer(np.array([0, 3, -1, 2])))
    assert numpy.isnan(found).all(axis=1).tolist() == [False, True, True, False]
    gradient = fg.grad(lambda layer: layer(np.array([0, 3])).sum())(layer)
    assert bool(np.isfinite(gradient.weight[1:]).all())
    with pytest.raises(DtypeError, match="float32"), unchecked():
        layer(np.ones(3))


def test_attend_is_the_product_with_the_table():
    layer = nn.Embedding(5, 3, key=KEY)
    x = fg.random.normal(KEY, (2, 3))
    numpy.testing.assert_allclose(layer.attend(x), x @ layer.weight.T, rtol=1e-6)
    with pytest.raises(ShapeError, match="3 features"), unchecked():
        layer.attend(np.ones(4))


def test_sinusoidal_positions():
    found = numpy.asarray(nn.sinusoidal_positions(20, 6, dtype=fg.float64))
    for place in range(20):
        for i in range(3):
            angle = place / 10000 ** (2 * i / 6)
            assert found[place, 2 * i] == pytest.approx(math.sin(angle), abs=1e-12)
            assert found[place, 2 * i + 1] == pytest.approx(math.cos(angle), abs=1e-12)
    numpy.testing.assert_array_equal(
        nn.sinusoidal_positions(np.array([[3], [7]]), 6)[1, 0], nn.sinusoidal_positions(8, 6)[7]
    )
    x = np.zeros((2, 3, 6))
    numpy.testing.assert_array_equal(nn.SinusoidalPositions()(x)[0], nn.sinusoidal_positions(3, 6))
    shifted = nn.SinusoidalPositions()(x, positions=np.array([5, 6, 7]))
    numpy.testing.assert_array_equal(shifted[1], nn.sinusoidal_positions(8, 6)[5:])
    with pytest.raises(ArgumentError, match="even"):
        nn.sinusoidal_positions(3, 5)


def test_products_of_rotated_vectors_depend_on_distances():
    rotary = nn.RotaryEmbedding(8)
    query, key = fg.random.normal(KEY, (2, 1, 1, 8), fg.float64)
    at = lambda x, place: rotary(x, np.array([place]))
    product = lambda i, j: float((at(query, i) * at(key, j)).sum())
    assert product(3, 1) == pytest.approx(product(12, 10), abs=1e-10)
    assert product(3, 1) != pytest.approx(product(3, 2), abs=1e-3)
    numpy.testing.assert_allclose((at(query, 9) ** 2).sum(), (query**2).sum())
    with pytest.raises(ShapeError, match="heads, 8"), unchecked():
        rotary(np.ones((3, 8)))


# Dropout and inference


def test_dropout_keeps_a_share_and_the_mean():
    x = np.ones((400, 300))
    y = numpy.asarray(nn.Dropout(0.3)(x, key=KEY))
    assert set(numpy.unique(y)) == {numpy.float32(0), numpy.float32(1 / 0.7)}
    assert (y == 0).mean() == pytest.approx(0.3, abs=0.01)
    assert y.mean() == pytest.approx(1, abs=0.01)
    numpy.testing.assert_array_equal(y, fg.jit(lambda key: nn.Dropout(0.3)(x, key=key))(KEY))
    numpy.testing.assert_array_equal(fg.grad(lambda x: nn.Dropout(0.3)(x, key=KEY).sum())(x), y)


def test_dropout_of_whole_channels():
    y = numpy.asarray(nn.Dropout(0.5, shared_axes=(-1, -2))(np.ones((20, 30, 4, 4)), key=KEY))
    assert (y == y[..., :1, :1]).all()
    assert 0.4 < (y == 0).mean() < 0.6


def test_dropout_at_its_ends_and_without_key():
    x = fg.array([1.0, 2.0])
    assert nn.Dropout(0.0)(x) is x
    numpy.testing.assert_array_equal(nn.Dropout(1.0)(x), [0.0, 0.0])
    numpy.testing.assert_array_equal(nn.Dropout(0.5, inference=True)(x), x)
    with pytest.raises(ArgumentError, match="needs a random key"):
        nn.Dropout(0.5)(x)
    with pytest.raises(ArgumentError, match=r"rate=1\.5"):
        nn.Dropout(1.5)


def test_inference_mode_is_a_copy_of_the_whole_network():
    class Network(nn.Module):
        parts: dict
        norm: nn.BatchNorm

    network = Network({"a": [nn.Dropout(0.5), nn.Linear(2, 2, key=KEY)]}, nn.BatchNorm(2))
    copy = nn.inference_mode(network)
    assert copy.parts["a"][0].inference
    assert copy.norm.inference
    assert not network.norm.inference
    assert copy.parts["a"][1] is network.parts["a"][1]
    back = nn.inference_mode(copy, False)
    assert fg.tree.structure(back) == fg.tree.structure(network)
    assert nn.inference_mode(network.parts["a"][1]) is network.parts["a"][1]


# Batch normalization


def test_running_statistics_are_those_of_pytorch():
    known = KNOWN["running statistics"]
    layer = nn.BatchNorm(2, dtype=fg.float64)
    state = layer.initial_state()
    batches = [np.array(x, fg.float64) for x in known["batches"]]
    for batch, expected in zip(batches, known["outputs"], strict=True):
        y, state = fg.jit(lambda layer, x, state: layer(x, state))(layer, batch, state)
        numpy.testing.assert_allclose(y, expected, rtol=1e-10)
    numpy.testing.assert_allclose(state.mean, known["state"]["mean"], rtol=1e-10)
    numpy.testing.assert_allclose(state.variance, known["state"]["variance"], rtol=1e-10)
    assert int(state.count) == 2
    y, after = nn.inference_mode(layer)(batches[0], state)
    numpy.testing.assert_allclose(y, known["inference"], rtol=1e-10)
    assert after is state


def test_no_derivative_goes_through_running_statistics():
    layer = nn.BatchNorm(2)
    x = fg.random.normal(KEY, (5, 2))
    gradient = fg.grad(lambda x: layer(x, layer.initial_state())[1].mean.sum())(x)
    assert not bool(gradient.any())


def test_statistics_over_a_named_axis_are_those_of_the_whole_batch():
    layer = nn.BatchNorm(3, channel_axis=0, axis_name="batch", dtype=fg.float64)
    whole = nn.BatchNorm(3, dtype=fg.float64)
    x = fg.random.normal(KEY, (6, 3, 4), fg.float64)
    state = layer.initial_state()
    y, states = fg.vmap(lambda x: layer(x, state), axis_name="batch")(x)
    expected, after = whole(x, state)
    numpy.testing.assert_allclose(y, expected, rtol=1e-10)
    numpy.testing.assert_allclose(states.variance[0], after.variance, rtol=1e-10)


def test_statistics_can_be_the_mean_of_all_batches():
    layer, x = nn.BatchNorm(2, momentum=None), fg.random.normal(KEY, (3, 8, 2))
    state = layer.initial_state()
    for batch in x:
        _, state = layer(batch, state)
    numpy.testing.assert_allclose(state.mean, x.mean(axis=(0, 1)), rtol=1e-5, atol=1e-6)


def test_batch_norm_with_channels_last():
    x = fg.random.normal(KEY, (4, 5, 3))
    first, last = nn.BatchNorm(3), nn.BatchNorm(3, channel_axis=-1)
    expected = first(x.swapaxes(1, 2), first.initial_state())[0].swapaxes(1, 2)
    numpy.testing.assert_allclose(last(x, last.initial_state())[0], expected, rtol=1e-5, atol=1e-6)


def test_one_example_has_no_variance():
    layer = nn.BatchNorm(2)
    with pytest.raises(ShapeError, match="one element a channel"):
        layer(np.ones((1, 2)), layer.initial_state())


# Attention


def test_a_row_without_any_key_is_the_mean_of_values():
    x = fg.random.normal(KEY, (3, 1, 4))
    found = nn.dot_product_attention(x, x, x, mask=np.zeros((1, 3, 3), dtype=bool))
    numpy.testing.assert_allclose(found, np.broadcast_to(x.mean(axis=0, keepdims=True), x.shape), rtol=1e-5, atol=1e-6)


def test_masked_tokens_change_nothing():
    layer = nn.MultiHeadAttention(8, 2, key=KEY)
    x = fg.random.normal(KEY, (2, 5, 8))
    mask = np.array([[True] * 3 + [False] * 2, [True] * 5])
    found = layer(x, mask=mask[:, None, None, :])
    changed = layer(x.at[0, 3:].set(100.0), mask=mask[:, None, None, :])
    numpy.testing.assert_allclose(found[0, :3], changed[0, :3], rtol=1e-5, atol=1e-6)
    numpy.testing.assert_allclose(found[0, :3], layer(x[0, :3]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rotary", [False, True])
def test_causal_attention_sees_no_later_token(rotary):
    layer = nn.MultiHeadAttention(8, 2, causal=True, rotary=rotary, key=KEY)
    jacobian = fg.jacrev(layer)(fg.random.normal(KEY, (4, 8)))
    later = np.abs(jacobian).sum(axis=(1, 3))
    assert not bool(np.triu(later, 1).any())


def test_a_bias_is_added_to_the_products():
    x = fg.random.normal(KEY, (3, 2, 4))
    mask = np.array([[True, False, True]] * 3)
    bias = np.where(mask, 0.0, -math.inf)
    numpy.testing.assert_allclose(
        nn.dot_product_attention(x, x, x, bias), nn.dot_product_attention(x, x, x, mask=mask), rtol=1e-5
    )
    by_hand = nn.softmax(np.einsum("qhd,khd->hqk", x, x) * 0.1)
    expected = np.einsum("hqk,khd->qhd", by_hand, x)
    numpy.testing.assert_allclose(nn.dot_product_attention(x, x, x, scale=0.1), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("sizes", [[1] * 6, [3, 1, 2], [6]])
@pytest.mark.parametrize("options", [{}, {"num_kv_heads": 2, "rotary": True}])
def test_decoding_step_by_step_is_the_whole_attention(sizes, options):
    encoder = nn.TransformerEncoder(2, 8, 4, causal=True, key=KEY, **options)
    x = fg.random.normal(KEY, (3, 6, 8))
    caches, outputs, start = encoder.initial_cache(7, (3,)), [], 0
    for size in sizes:
        y, caches = fg.jit(encoder.decode)(x[:, start : start + size], caches)
        outputs.append(y)
        start += size
    numpy.testing.assert_allclose(np.concatenate(outputs, axis=1), encoder(x), rtol=1e-4, atol=1e-5)
    assert [int(cache.position) for cache in caches] == [6, 6]


def test_a_decoder_decodes_step_by_step():
    decoder = nn.TransformerDecoder(2, 8, 2, key=KEY, norm=nn.RMSNorm, norm_first=False)
    x, context = fg.random.normal(KEY, (5, 8)), fg.random.normal(fg.random.key(1), (4, 8))
    mask = np.array([True, True, False, True])
    expected = decoder(x, context, context_mask=mask)
    caches, outputs = decoder.initial_cache(5), []
    for token in x:
        y, caches = decoder.decode(token[None], caches, context, context_mask=mask)
        outputs.append(y)
    numpy.testing.assert_allclose(np.concatenate(outputs), expected, rtol=1e-4, atol=1e-5)


def test_caches_know_their_room():
    layer = nn.MultiHeadAttention(4, 2, causal=True, key=KEY)
    cache = layer.initial_cache(3)
    _, cache = layer.decode(np.ones((2, 4)), cache)
    with pytest.raises(OutOfBoundsError, match="2 more tokens for a cache of 3"):
        layer.decode(np.ones((2, 4)), cache)
    with pytest.raises(ShapeError, match="batch axes"):
        layer.decode(np.ones((5, 1, 4)), cache)
    with pytest.raises(ArgumentError, match="causal=True"):
        attention().decode(np.ones((1, 4)), cache)
    assert layer.initial_cache(3, dtype=fg.bfloat16).keys.dtype == fg.bfloat16


def test_attention_explains_wrong_shapes():
    x = np.ones((2, 3, 4, 8))
    for query, key, value, problem in [
        (x, x[:1], x[:1], "batch axes"),
        (x, x[..., :4], x, "as many features"),
        (x, x[:, :, :3], x[:, :, :3], "must divide"),
        (x, x, x[:, :2], "as many keys as values"),
        (x[0, 0], x[0, 0], x[0, 0], "length, heads, features"),
    ]:
        with pytest.raises(ShapeError, match=problem), unchecked():
            nn.dot_product_attention(query, key, value)
    with pytest.raises(ShapeError, match="mask or bias"):
        nn.dot_product_attention(x, x, x, mask=np.ones((7, 1, 1, 1, 1), dtype=bool))
    with pytest.raises(ArgumentError, match="10 features among 4 heads"):
        nn.MultiHeadAttention(10, 4, key=KEY)
    with pytest.raises(ArgumentError, match="num_kv_heads=3"):
        nn.MultiHeadAttention(8, 4, num_kv_heads=3, key=KEY)
    with pytest.raises(ShapeError, match="takes sequences"), unchecked():
        attention()(np.ones(4))


def test_transformers_drop_out_while_training_only():
    block = nn.TransformerEncoderBlock(8, 2, dropout=0.5, key=KEY)
    x = fg.random.normal(KEY, (3, 8))
    first, second = (block(x, key=fg.random.key(seed)) for seed in (0, 1))
    assert bool((first != second).any())
    with pytest.raises(ArgumentError, match="needs a random key"):
        block(x)
    still = nn.inference_mode(block)
    numpy.testing.assert_array_equal(still(x), still(x, key=KEY))


# Convolutions, pooling, normalization


def test_images_one_by_one_and_in_batches():
    layer, x = nn.Conv2d(2, 3, 3, key=KEY), fg.random.normal(KEY, (2, 4, 2, 5, 5))
    expected = layer(x)
    assert expected.shape == (2, 4, 3, 3, 3)
    numpy.testing.assert_allclose(layer(x[1, 2]), expected[1, 2], rtol=1e-5, atol=1e-6)
    numpy.testing.assert_allclose(fg.vmap(layer)(x[0]), expected[0], rtol=1e-5, atol=1e-6)
    assert layer(np.zeros((0, 2, 5, 5))).shape == (0, 3, 3, 3)


def test_a_transposed_convolution_is_the_transpose():
    down = nn.Conv2d(2, 3, (3, 2), stride=2, padding=(1, 0), use_bias=False, key=KEY)
    up = nn.ConvTranspose2d(3, 2, (3, 2), stride=2, padding=(1, 0), use_bias=False, key=KEY).replace(weight=down.weight)
    x = fg.random.normal(KEY, (1, 2, 5, 6))
    y, vjp = fg.vjp(down, x)
    numpy.testing.assert_allclose(up(y), vjp(y)[0], rtol=1e-4, atol=1e-5)


def test_paddings():
    for padding, length in [("SAME", 8), ("valid", 6), (1, 8), ([2], 10), ([(1, 0)], 7)]:
        assert nn.Conv1d(1, 1, 3, padding=padding, key=KEY)(np.ones((1, 8))).shape == (1, length)


def test_instance_norm_is_group_norm_with_groups_of_one():
    x = fg.random.normal(KEY, (2, 4, 5))
    numpy.testing.assert_array_equal(nn.InstanceNorm(4)(x), nn.GroupNorm(4, 4, affine=False)(x))
    numpy.testing.assert_allclose(nn.GroupNorm(2, 4, channel_axis=0)(x[1]), nn.GroupNorm(2, 4)(x)[1], rtol=1e-5)
    flat = nn.LayerNorm((4, 5), use_weight=False, use_bias=False)(x)
    numpy.testing.assert_allclose(nn.GroupNorm(1, 4)(x), flat, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("layer", "shape", "problem"),
    [
        (lambda: nn.Conv2d(3, 4, 3, key=KEY), (3, 8), r"Conv2d of 3 channels .* give \(\.\.\., 3, height, width\)"),
        (lambda: nn.Conv1d(3, 4, 3, key=KEY), (2, 8), "length"),
        (lambda: nn.ConvTranspose3d(3, 4, 3, key=KEY), (8,), "depth, height, width"),
        (lambda: nn.MaxPool2d(2), (8,), "2 spatial axes"),
        (lambda: nn.AdaptiveMaxPool1d(2), (3, 0), "axis without elements"),
        (lambda: nn.LayerNorm((3, 2)), (2, 3), r"LayerNorm\(\(3, 2\)\) got an input of shape \(2, 3\)"),
        (lambda: nn.RMSNorm(3), (4,), "RMSNorm"),
        (lambda: nn.GroupNorm(2, 4), (4,), "axis 1 must have 4"),
        (lambda: nn.InstanceNorm(4), (2, 3), "InstanceNorm of 4 channels"),
        (lambda: nn.Flatten(3), (4, 5), "fewer axes"),
        (lambda: nn.SinusoidalPositions(), (4,), "length, features"),
    ],
)
def test_wrong_inputs_are_explained(layer, shape, problem):
    with pytest.raises(ShapeError, match=problem), unchecked():
        layer()(np.ones(shape))


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: nn.Conv2d(3, 4, 3, groups=2, key=KEY), "3 input and 4 output channels into 2 groups"),
        (lambda: nn.Conv2d(3, 4, (3, 3, 3), key=KEY), "window="),
        (lambda: nn.Conv2d(3, 4, 3, stride=0, key=KEY), "stride=0"),
        (lambda: nn.Conv2d(3, 4, 3, padding="FULL", key=KEY), "padding='FULL'"),
        (lambda: nn.Conv2d(3, 4, 3, padding=(1,), key=KEY), "padding="),
        (lambda: nn.ConvTranspose1d(3, 4, 3, output_padding=1, key=KEY), "less than the stride"),
        (lambda: nn.MaxPool2d(2, padding=2), "at most half"),
        (lambda: nn.GroupNorm(3, 4), "4 channels into 3 groups"),
        (lambda: nn.LayerNorm(()), "one or more axes"),
        (lambda: nn.BatchNorm(3, momentum=2.0), "momentum="),
        (lambda: nn.WeightNorm(nn.Dropout(0.5)), "has a `weight`"),
        (lambda: nn.RotaryEmbedding(3), "even"),
    ],
)
def test_wrong_settings_are_explained(make, problem):
    with pytest.raises(ArgumentError, match=problem), unchecked():
        make()


# Normalized weights


def test_weight_norm_begins_as_the_layer_was():
    layer, x = nn.Linear(3, 2, key=KEY), fg.random.normal(KEY, (4, 3))
    wrapped = nn.WeightNorm(layer)
    numpy.testing.assert_allclose(wrapped(x), layer(x), rtol=1e-5, atol=1e-6)
    assert list(nn.named_parameters(wrapped)) == ["layer.bias", "direction", "scale"]


def test_a_power_iteration_is_that_of_pytorch():
    known = KNOWN["power iteration"]
    array = lambda x: np.array(x, fg.float64)
    layer = nn.Linear(3, 4, use_bias=False, key=KEY).replace(weight=array(known["weight"]))
    before = nn.weight_norms.SpectralNormState(array(known["before"]["left"]), array(known["before"]["right"]))
    x, cotangent = array(known["x"]), array(known["cotangent"])

    def function(layer):
        y, state = nn.SpectralNorm(layer)(x, before)
        return (y * cotangent).sum(), (y, state)

    gradient, (y, state) = fg.grad(function, has_aux=True)(layer)
    numpy.testing.assert_allclose(y, known["output"], rtol=1e-10)
    numpy.testing.assert_allclose(state.left, known["after"]["left"], rtol=1e-10)
    numpy.testing.assert_allclose(state.right, known["after"]["right"], rtol=1e-10)
    numpy.testing.assert_allclose(gradient.weight, known["gradient"], rtol=1e-9, atol=1e-12)


def test_spectral_norm_finds_the_largest_singular_value():
    layer = nn.SpectralNorm(nn.Conv2d(2, 3, 3, key=KEY, use_bias=False), iterations=3)
    state = layer.initial_state(key=KEY)
    x = fg.random.normal(KEY, (2, 5, 5))
    y, state = layer(x, state)
    singular = numpy.linalg.svd(numpy.asarray(layer.layer.weight).reshape(3, -1))[1].max()
    numpy.testing.assert_allclose(y, layer.layer(x) / singular, rtol=1e-3, atol=1e-4)
    still = nn.inference_mode(layer)
    assert still(x, state)[1] is state


# Composition, surgery and sharing


def test_residual():
    layer = nn.Linear(3, 3, key=KEY)
    x = fg.random.normal(KEY, (2, 3))
    numpy.testing.assert_allclose(nn.Residual(layer)(x), x + layer(x), rtol=1e-6)
    dropout = nn.Residual(nn.Dropout(0.5))
    numpy.testing.assert_array_equal(dropout(x, key=KEY), x + dropout.layer(x, key=KEY))
    with pytest.raises(ShapeError, match=r"made \(2, 4\) of \(2, 3\)"):
        nn.Residual(nn.Linear(3, 4, key=KEY))(x)


def test_tree_at_replaces_parameters_modules_and_nothing_else():
    network = nn.MLP(2, 1, 8, 2, key=KEY)
    changed = nn.tree_at(lambda n: n.layers[1].weight, network, np.zeros((8, 8)))
    assert not bool(changed.layers[1].weight.any())
    assert changed.layers[0].weight is network.layers[0].weight
    two = nn.tree_at(lambda n: (n.layers[0].bias, n.layers[-1]), network, (None, nn.Linear(8, 5, key=KEY)))
    assert two.layers[0].bias is None
    assert two(np.ones(2)).shape == (5,)
    again = nn.tree_at(lambda n: n.layers[0].bias, two, np.ones(8))
    assert bool((again.layers[0].bias == 1).all())
    doubled = nn.tree_at(lambda n: n.layers[0], network, replace_fn=lambda layer: fg.tree.map(lambda x: 2 * x, layer))
    numpy.testing.assert_array_equal(doubled.layers[0].weight, 2 * network.layers[0].weight)
    pair = nn.tree_at(lambda n: n.layers, network, (nn.Linear(2, 1, key=KEY),))
    assert len(pair.layers) == 1
    jitted = fg.jit(lambda network: nn.tree_at(lambda n: n.layers[0].bias, network, np.ones(8)))(network)
    assert bool((jitted.layers[0].bias == 1).all())


def test_tree_at_explains_what_is_no_node():
    network = nn.MLP(2, 1, 8, 1, key=KEY)
    for where, problem in [
        (lambda n: n.activation, "not a node"),
        (lambda n: (n.layers[0].in_features,), "not a node"),
        (lambda n: (n.layers[0].bias, n.layers[0].bias), "twice"),
    ]:
        with pytest.raises(ArgumentError, match=problem):
            nn.tree_at(where, network, (1, 2))
    with pytest.raises(ArgumentError, match="inside of another"):
        nn.tree_at(lambda n: (n.layers[0], n.layers[0].bias), network, (1, 2))
    with pytest.raises(ArgumentError, match="2 nodes to replace, and 3"):
        nn.tree_at(lambda n: (n.layers[0], n.layers[1]), network, (1, 2, 3))
    with pytest.raises(ArgumentError, match="not both"):
        nn.tree_at(lambda n: n.layers, network)


def test_frozen_layers_do_not_move():
    network = nn.MLP(2, 1, 8, 1, key=KEY)
    x = fg.random.normal(KEY, (5, 2))
    trained, frozen = nn.partition(network, lambda name, parameter: name.startswith("layers.1"))
    optimizer = fg.optim.adam(0.1)

    @fg.jit
    def step(trained, frozen, state):
        loss = lambda trained: (nn.combine(trained, frozen)(x) ** 2).sum()
        updates, state = optimizer.update(fg.grad(loss)(trained), state, trained)
        return fg.optim.apply_updates(trained, updates), state

    after, _ = step(trained, frozen, optimizer.init(trained))
    moved = nn.combine(after, frozen)
    assert moved.layers[0].weight is network.layers[0].weight
    assert bool((moved.layers[1].weight != network.layers[1].weight).any())
    assert fg.tree.structure(moved) == fg.tree.structure(network)


def test_filter_takes_functions_and_trees_of_bools():
    layer = nn.Linear(2, 3, key=KEY)
    assert list(nn.named_parameters(nn.filter(layer, lambda name, x: x.ndim == 1))) == ["bias"]
    mask = layer.replace(weight=True, bias=False)
    assert list(nn.named_parameters(nn.filter(layer, mask))) == ["weight"]
    assert list(nn.named_parameters({"a": [layer]})) == ["a.0.weight", "a.0.bias"]


class Language(nn.Module):
    embedding: nn.Embedding
    head: nn.Linear

    def __call__(self, tokens, *, key=None):
        return self.head(np.tanh(self.embedding(tokens)))


def test_a_shared_parameter_gets_the_gradients_of_both_places():
    network = Language(nn.Embedding(5, 3, key=KEY), nn.Linear(3, 5, use_bias=False, key=KEY))
    network = nn.tree_at(lambda n: n.head.weight, network, network.embedding.weight)
    tokens = np.array([1, 4])
    loss = lambda network: (network(tokens) ** 2).sum()
    apart = fg.grad(loss)(network)
    shared = nn.Shared(network, to=lambda n: n.head.weight, source=lambda n: n.embedding.weight)
    assert float(loss(shared)) == pytest.approx(float(loss(network)))
    together = fg.jit(fg.grad(loss))(shared)
    expected = apart.embedding.weight + apart.head.weight
    numpy.testing.assert_allclose(together.module.embedding.weight, expected, rtol=1e-5, atol=1e-6)
    assert together.module.head.weight is None


# Training under transforms


def small_network(key):
    keys = fg.random.split(key, 3)
    head = nn.Sequential([nn.Flatten(2), nn.LayerNorm(8), nn.Linear(8, 2, key=keys[2])])
    return nn.Sequential([nn.Conv1d(2, 4, 3, padding=1, key=keys[0]), nn.tanh, nn.MaxPool1d(2), head])


IMAGES, LABELS = fg.random.normal(KEY, (6, 2, 4)), np.array([0, 1, 0, 1, 1, 0])


def network_loss(network):
    return fg.losses.softmax_cross_entropy_with_integer_labels(network(IMAGES), LABELS).mean()


def test_an_ensemble_trains_as_each_of_its_networks_alone():
    optimizer = fg.optim.adam(0.01)

    def trained(key):
        network = small_network(key)
        state = optimizer.init(network)
        for _ in range(3):
            updates, state = optimizer.update(fg.grad(network_loss)(network), state, network)
            network = fg.optim.apply_updates(network, updates)
        return network

    keys = fg.random.split(KEY, 3)
    ensemble = fg.jit(fg.vmap(trained))(keys)
    alone = trained(keys[1])
    for found, expected in zip(fg.tree.leaves(ensemble), fg.tree.leaves(alone), strict=True):
        numpy.testing.assert_allclose(found[1], expected, rtol=1e-3, atol=1e-5)


def test_gradients_go_through_a_step_of_an_optimizer():
    network = small_network(KEY)

    def after(rate):
        gradient = fg.grad(network_loss)(network)
        moved = fg.tree.map(lambda x, g: x - rate * g, network, gradient)
        return network_loss(moved)

    slope = float(fg.jit(fg.grad(after))(0.1))
    assert slope == pytest.approx(float(after(0.101) - after(0.099)) / 0.002, rel=0.02)
    assert slope < 0


# Summaries


def test_summary_of_a_convolutional_network(capsys):
    network = nn.Sequential(
        [nn.Conv2d(1, 8, 3, padding=1, key=KEY), nn.relu, nn.MaxPool2d(2), nn.Flatten(3), nn.Linear(128, 10, key=KEY)]
    )
    nn.summary(network, np.ones((32, 1, 8, 8)))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["layer", "kind", "output", "parameters", "FLOPs"]
    assert lines[3].split() == ["layers.0", "Conv2d", "(32,", "8,", "8,", "8)", "80", "311,296"]
    assert lines[-1] == "parameters: 1,370 (5.4 KiB), FLOPs: 426,304"
    assert len({len(line) for line in lines[:-1]}) == 1


def test_layer_tables_under_transforms_and_with_shared_layers():
    class Twice(nn.Module):
        layer: nn.Linear
        unused: nn.Linear

        def __call__(self, x):
            return fg.vmap(self.layer)(fg.jit(self.layer)(x))

    network = Twice(nn.Linear(3, 3, key=KEY), nn.Linear(2, 2, key=KEY))
    rows = nn.layer_table(network, np.ones((5, 3)))
    assert [(row.name, row.outputs, row.parameters) for row in rows] == [
        ("", ((5, 3),), 18),
        ("layer", ((5, 3),), 12),
        ("layer", ((3,),), 12),
        ("unused", None, 6),
    ]
    assert rows[0].flops == 2 * (5 * 3 * 3 * 2 + 5 * 3)


def test_flops_of_movements_and_products():
    assert nn.count_flops(lambda x: np.transpose(x).reshape(-1)[2:], np.ones((3, 4))) == 0
    with nn.FlopCounter() as counter:
        np.ones((2, 3)) @ np.ones((3, 4)) + 1.0
    assert counter.flops == 48 + 8


def test_a_network_of_many_kinds_of_layers_learns():
    keys = fg.random.split(KEY, 4)
    network = nn.Sequential(
        [
            nn.Embedding(5, 8, key=keys[0]),
            nn.TransformerEncoderBlock(8, 2, key=keys[1], causal=True, rotary=True),
            nn.Residual(nn.Sequential([nn.RMSNorm(8), nn.Linear(8, 8, key=keys[2]), nn.Dropout(0.1)])),
            nn.Linear(8, 5, key=keys[3]),
        ]
    )
    tokens = np.array([[1, 3, 2, 4, 0, 1, 3], [2, 2, 4, 4, 1, 1, 0]])
    optimizer = fg.optim.adam(0.01)

    def loss(network, key):
        logits = network(tokens[:, :-1], key=key)
        return fg.losses.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]).mean()

    @fg.jit
    def step(network, state, key):
        value, gradient = fg.value_and_grad(loss)(network, key)
        updates, state = optimizer.update(gradient, state, network)
        return fg.optim.apply_updates(network, updates), state, value

    state = optimizer.init(network)
    for seed in range(80):
        network, state, _ = step(network, state, fg.random.key(seed))
    assert float(loss(nn.inference_mode(network), None)) < 0.2
