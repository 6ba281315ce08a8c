"""Recurrent networks: PyTorch's values and gradients, cells against layers, states, and wrong inputs."""

import math

import numpy
import pytest
from layer_checks import KNOWN, arrays, check_jit_and_ensemble, check_values_and_gradients, unchecked, with_parameters

import funcgrad as fg
import funcgrad.numpy as np
from funcgrad import nn
from funcgrad.errors import ArgumentError, ShapeError

KEY = fg.random.key(0)
LAYERS = {
    "RNN": lambda: nn.RNN(2, 3, key=KEY),
    "RNN with relu": lambda: nn.RNN(2, 3, key=KEY, activation=nn.relu),
    "GRU": lambda: nn.GRU(2, 3, 2, key=KEY),
    "LSTM": lambda: nn.LSTM(2, 3, 2, bidirectional=True, key=KEY),
    "LSTM with states": lambda: nn.LSTM(2, 3, key=KEY),
}


def lstm_with_states(layer, x, hidden, memory):
    y, ((hidden, memory),) = layer(x, ((hidden[0], memory[0]),))
    return np.concatenate([y.reshape(-1), hidden.reshape(-1), memory.reshape(-1)])


def call(name, layer, *inputs):
    return lstm_with_states(layer, *inputs) if name == "LSTM with states" else layer(*inputs)[0]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", LAYERS)
def test_values_and_gradients_are_those_of_pytorch(name, dtype):
    check_values_and_gradients(name, LAYERS[name](), lambda *args: call(name, *args), dtype)


@pytest.mark.parametrize("name", LAYERS)
def test_layers_under_jit_and_in_an_ensemble(name):
    check_jit_and_ensemble(name, LAYERS[name](), lambda *args: call(name, *args))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_layers_keep_narrow_dtypes(dtype):
    layer = with_parameters(LAYERS["GRU"](), KNOWN["GRU"]["parameters"], dtype)
    output, _ = layer(*arrays(KNOWN["GRU"]["inputs"], dtype))
    assert output.dtype == dtype
    numpy.testing.assert_allclose(output.astype("float32"), KNOWN["GRU"]["output"], rtol=0.1, atol=0.1)


def test_cells_begin_uniformly_as_in_pytorch():
    for values in map(numpy.asarray, fg.tree.leaves(nn.LSTMCell(20, 25, key=KEY))):
        assert 0.18 < abs(values).max() <= 0.2
        assert values.std() == pytest.approx(0.2 / math.sqrt(3), rel=0.2)


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_a_layer_is_its_cells_step_by_step(kind):
    layer = getattr(nn, kind)(2, 3, 2, key=KEY)
    x = fg.random.normal(KEY, (5, 4, 2))
    expected, after = layer(x)
    states, outputs = list(layer.initial_state((5,))), []
    for place in range(4):
        y = x[:, place]
        for i, cell in enumerate(layer.cells):
            y, states[i] = cell(y, states[i])
        outputs.append(y)
    numpy.testing.assert_allclose(np.stack(outputs, axis=1), expected, rtol=1e-5, atol=1e-6)
    for found, last in zip(fg.tree.leaves(after), fg.tree.leaves(tuple(states)), strict=True):
        numpy.testing.assert_allclose(found, last, rtol=1e-5, atol=1e-6)
    first, middle = layer(x[:, :2])
    second, _ = layer(x[:, 2:], middle)
    numpy.testing.assert_allclose(np.concatenate([first, second], axis=1), expected, rtol=1e-5, atol=1e-6)


def test_recurrent_layers_drop_out_between_layers():
    layer = nn.GRU(2, 3, 2, dropout=0.5, key=KEY)
    x = fg.random.normal(KEY, (4, 2))
    assert bool((layer(x, key=fg.random.key(0))[0] != layer(x, key=fg.random.key(1))[0]).any())
    nn.inference_mode(layer)(x)
    with pytest.raises(ArgumentError, match="needs a random key"):
        layer(x)


def test_recurrent_layers_explain_wrong_inputs():
    layer = nn.LSTM(2, 3, 2, key=KEY)
    with pytest.raises(ShapeError, match="takes sequences"), unchecked():
        layer(np.ones(2))
    with pytest.raises(ShapeError, match=r"LSTMCell\(2, 3\).*2 features"), unchecked():
        layer(np.ones((4, 5)))
    with pytest.raises(ShapeError, match="2 cells, and got 1"):
        layer(np.ones((4, 2)), layer.initial_state()[:1])


def test_flops_of_loops():
    layer = nn.RNN(4, 4, key=KEY, use_bias=False)
    loop = fg.jit(lambda x: layer(x)[0])
    # The inputs at once; and in each of 7 steps a product of 4 by 4, a sum and a tanh.
    assert nn.count_flops(loop, np.ones((7, 4))) == 2 * 7 * 16 + 7 * (2 * 16 + 4 + 4)
