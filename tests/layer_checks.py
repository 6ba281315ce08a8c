"""What layers are held to: PyTorch's values and gradients, and the same results under transforms."""

import contextlib
import json
from pathlib import Path

import jaxtyping
import numpy

import funcgrad as fg
import funcgrad.numpy as np
from funcgrad import nn

KNOWN = json.loads((Path(__file__).parent / "known_values" / "layers.json").read_text())


@contextlib.contextmanager
def unchecked():
    """Without the checks of annotations, as users run it: our own errors come through."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


def with_parameters(layer, values, dtype):
    """A copy of a layer with parameters by name."""
    assert set(nn.named_parameters(layer)) == set(values)
    return fg.tree.map_with_path(
        lambda path, x: np.array(values[fg.tree.keystr(path, simple=True, separator=".")], dtype).reshape(x.shape),
        layer,
    )


def arrays(values, dtype):
    return [np.array(x, fg.int32 if numpy.asarray(x).dtype.kind == "i" else dtype) for x in values]


def check_values_and_gradients(name, layer, call, dtype):
    """`call(layer, *inputs)` and its gradients equal what is known under a name."""
    known, tolerance = KNOWN[name], 1e-10 if dtype == "float64" else 1e-5
    layer = with_parameters(layer, known["parameters"], dtype)
    inputs = arrays(known["inputs"], dtype)
    output, vjp = fg.vjp(call, layer, *inputs)
    assert output.dtype == dtype
    numpy.testing.assert_allclose(output, known["output"], rtol=tolerance, atol=tolerance)
    gradient, *gradients = vjp(np.array(known["cotangent"], dtype))
    for place, found in nn.named_parameters(gradient).items():
        expected = numpy.reshape(known["parameter_gradients"][place], found.shape)
        numpy.testing.assert_allclose(found, expected, rtol=tolerance, atol=10 * tolerance, err_msg=place)
    for found, expected in zip(gradients, known["input_gradients"], strict=True):
        if expected is not None:
            numpy.testing.assert_allclose(found, expected, rtol=tolerance, atol=10 * tolerance)


def check_jit_and_ensemble(name, layer, call):
    """`jit` changes no output, and `vmap` over two layers gives those of each."""
    known = KNOWN[name]
    layer = with_parameters(layer, known["parameters"], "float32")
    inputs = arrays(known["inputs"], "float32")
    expected = call(layer, *inputs)
    jitted = fg.jit(call)(layer, *inputs)
    numpy.testing.assert_allclose(jitted, expected, rtol=1e-5, atol=1e-5)
    ensemble = fg.tree.map(lambda x: np.stack([x, 2 * x]), layer)
    batches = [np.stack([x, x]) for x in inputs]
    found = fg.vmap(call)(ensemble, *batches)
    numpy.testing.assert_allclose(found[0], expected, rtol=1e-4, atol=1e-5)
    second = fg.tree.map(lambda x: 2 * x, layer)
    numpy.testing.assert_allclose(found[1], call(second, *inputs), rtol=1e-4, atol=1e-4)
