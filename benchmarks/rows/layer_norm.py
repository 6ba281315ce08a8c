"""Layer normalization with its gradients: reductions along rows for the input, along columns for scale and bias."""

from __future__ import annotations

from typing import Any

import numpy

from benchmarks.libraries import autograd_function, functions, numpy_function, torch_functions
from benchmarks.row import BEST, CallRow, Data

EPSILON = 1e-5


def data(small: bool = False) -> Data:
    generator = numpy.random.default_rng(0)
    count, features = (8, 12) if small else (4096, 1024)
    return {
        "x": generator.standard_normal((count, features), numpy.float32) + 1,
        "scale": generator.standard_normal(features, numpy.float32),
        "bias": generator.standard_normal(features, numpy.float32),
        "target": generator.standard_normal((count, features), numpy.float32),
    }


def program(library: Any) -> Any:
    np, lax = library.numpy, library.lax

    def loss(x: Any, scale: Any, bias: Any, target: Any) -> Any:
        centred = x - np.mean(x, axis=1, keepdims=True)
        variance = np.mean(centred * centred, axis=1, keepdims=True)
        return np.mean((centred * lax.rsqrt(variance + EPSILON) * scale + bias) * target)

    return library.api.value_and_grad(loss, argnums=(0, 1, 2))


def numpy_value_and_gradient(x: Any, scale: Any, bias: Any, target: Any) -> Any:
    centred = x - x.mean(axis=1, keepdims=True)
    deviation = numpy.sqrt(numpy.square(centred).mean(axis=1, keepdims=True) + EPSILON)
    normal = centred / deviation
    slope = target / target.size
    loss = numpy.sum((normal * scale + bias) * slope)
    inner = slope * scale
    x_slope = inner - inner.mean(axis=1, keepdims=True) - normal * (inner * normal).mean(axis=1, keepdims=True)
    return loss, (x_slope / deviation, (slope * normal).sum(axis=0), slope.sum(axis=0))


def reference(data: Data) -> Any:
    loss, gradient = numpy_value_and_gradient(*(value.astype(numpy.float64) for value in data.values()))
    return numpy.float32(loss), tuple(slope.astype(numpy.float32) for slope in gradient)


def torch_loss(x: Any, scale: Any, bias: Any, target: Any) -> Any:
    from torch.nn.functional import layer_norm

    return (layer_norm(x, scale.shape, scale, bias, EPSILON) * target).mean()


def plain_loss(np: Any, x: Any, scale: Any, bias: Any, target: Any) -> Any:
    centred = x - np.mean(x, axis=1, keepdims=True)
    deviation = np.sqrt(np.mean(centred * centred, axis=1, keepdims=True) + EPSILON)
    return np.mean((centred / deviation * scale + bias) * target)


row = CallRow(
    name="layer_norm",
    title="layer norm of 4096 x 1024 float32 (mean of the product with a target), value and three gradients",
    unit="ms",
    data=data,
    # x and target are read, and the gradient in x is written.
    moved_bytes=3 * 4 * 4096 * 1024,
    reference=reference,
    sources={
        **functions(program),
        **numpy_function(numpy_value_and_gradient),
        **torch_functions(torch_loss, differentiate=["x", "scale", "bias"]),
        **autograd_function(plain_loss, differentiate=["x", "scale", "bias"]),
    },
    required={BEST: 1.5},
    absolute_tolerance=1e-9,
    scaled_tolerance=1e-5,
)
