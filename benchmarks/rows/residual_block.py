"""A residual block of a network for images (He et al., 2016): convolutions of many channels between normalizations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

from benchmarks.libraries import channels_last, functions, torch_sources, torch_tensors
from benchmarks.row import CallRow, Data
from benchmarks.stored import stored

CHANNELS_LAST = ("NHWC", "HWIO", "NHWC")
EPSILON = 1e-5


def data(small: bool = False) -> Data:
    generator = numpy.random.default_rng(0)
    batch, size, channels = (2, 4, 3) if small else (32, 16, 128)
    images = (batch, size, size, channels)
    weights = (3, 3, channels, channels)

    def normal(*shape: int) -> numpy.ndarray:
        return generator.standard_normal(shape, numpy.float32)

    return {
        "x": normal(*images),
        "weights1": normal(*weights) * numpy.float32((2 / (9 * channels)) ** 0.5),
        "norm1": normal(2, channels) / 4 + 1,
        "weights2": normal(*weights) * numpy.float32((2 / (9 * channels)) ** 0.5),
        "norm2": normal(2, channels) / 4 + 1,
        "target": normal(*images),
    }


def program(library: Any) -> Any:
    np, lax = library.numpy, library.lax

    def convolve(x: Any, weights: Any) -> Any:
        return lax.conv_general_dilated(x, weights, (1, 1), "SAME", dimension_numbers=CHANNELS_LAST)

    def normalize(x: Any, scale_and_bias: Any) -> Any:
        centred = x - np.mean(x, axis=(0, 1, 2))
        variance = np.mean(centred * centred, axis=(0, 1, 2))
        return centred * (lax.rsqrt(variance + EPSILON) * scale_and_bias[0]) + scale_and_bias[1]

    def loss(x: Any, weights1: Any, norm1: Any, weights2: Any, norm2: Any, target: Any) -> Any:
        hidden = np.maximum(normalize(convolve(x, weights1), norm1), 0)
        hidden = normalize(convolve(hidden, weights2), norm2)
        return np.mean(np.maximum(hidden + x, 0) * target)

    return library.api.value_and_grad(loss, argnums=(0, 1, 2, 3, 4))


def with_torch(data: Data, wrap: Callable[..., Any]) -> Callable[[], Any]:
    import torch
    from torch.nn.functional import batch_norm, conv2d

    def in_torch_order(array: numpy.ndarray, *order: int) -> Any:
        return channels_last(torch_tensors(array).permute(order)).requires_grad_()

    x, target = (in_torch_order(data[name], 0, 3, 1, 2) for name in ("x", "target"))
    weights1, weights2 = (in_torch_order(data[name], 3, 2, 0, 1) for name in ("weights1", "weights2"))
    norm1, norm2 = (torch_tensors(data[name], requires_grad=True) for name in ("norm1", "norm2"))

    def normalize(x: Any, norm: Any) -> Any:
        return batch_norm(x, None, None, norm[0], norm[1], training=True, eps=EPSILON)

    @wrap
    def loss() -> Any:
        hidden = torch.relu(normalize(conv2d(x, weights1, padding=1), norm1))
        hidden = normalize(conv2d(hidden, weights2, padding=1), norm2)
        return (torch.relu(hidden + x) * target).mean()

    def value_and_gradient() -> Any:
        value = loss()
        in_x, in_weights1, in_norm1, in_weights2, in_norm2 = torch.autograd.grad(
            value, (x, weights1, norm1, weights2, norm2)
        )
        weight_gradients = [gradient.permute(2, 3, 1, 0) for gradient in (in_weights1, in_weights2)]
        return value, (in_x.permute(0, 2, 3, 1), weight_gradients[0], in_norm1, weight_gradients[1], in_norm2)

    return value_and_gradient


row = CallRow(
    name="residual_block",
    title="residual block (two 3x3 convolutions with batch norm), 128 channels, 16 x 16, batch 32, with gradients",
    unit="ms",
    data=data,
    # Two convolutions and their gradients in input and weights.
    operations=2 * 3 * 2 * 32 * 16**2 * 9 * 128**2,
    reference=stored("residual_block"),
    sources={**functions(program), **torch_sources(with_torch)},
    required={"torch": 1.0, "torch.compile": 1.0},
    absolute_tolerance=1e-9,
    # An element that rounding moves across the corner of a ReLU shows in the gradient of a weight.
    scaled_tolerance=2e-2,
)
