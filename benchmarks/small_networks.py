"""What the rows of second derivatives share: a network whose parameters are one vector, with a loss."""

from __future__ import annotations

from typing import Any

import numpy

from benchmarks.row import Data


def network_data(small: bool = False) -> Data:
    """300 parameters of a network with 10 inputs, 20 hidden units and 4 outputs, and 32 examples."""
    generator = numpy.random.default_rng(0)
    inputs, hidden, outputs, count = (3, 2, 1, 4) if small else (10, 20, 4, 32)
    size = (inputs + 1) * hidden + hidden * outputs
    return {
        "parameters": generator.standard_normal(size, numpy.float32) / 3,
        "inputs": generator.standard_normal((count, inputs), numpy.float32),
        "targets": generator.standard_normal((count, outputs), numpy.float32),
    }


def network_loss(np: Any, parameters: Any, inputs: Any, targets: Any) -> Any:
    """The mean squared error; `np` is any of the libraries' modules with NumPy's names."""
    (_, width), outputs = inputs.shape, targets.shape[1]
    hidden_width = parameters.shape[0] // (width + 1 + outputs)
    end_of_weights = width * hidden_width
    first = parameters[:end_of_weights].reshape((width, hidden_width))
    bias = parameters[end_of_weights : end_of_weights + hidden_width]
    second = parameters[end_of_weights + hidden_width :].reshape((hidden_width, outputs))
    error = np.tanh(inputs @ first + bias) @ second - targets
    return np.mean(error * error)
