"""Functions by number, of which each compiles into code of its own, for processes that compile under stress."""

import os
import random
import signal
import sys
import time
import warnings

import numpy

import funcgrad as fg
import funcgrad.numpy as fnp

__all__ = ["check", "fg", "os", "random", "signal", "sys", "time", "warnings"]
X = numpy.linspace(-1, 1, 7 * 70, dtype=numpy.float32).reshape(7, 70)


def check(number):
    """Compile a function and find that it gives what NumPy gives."""
    scale = number + 0.5
    found = fg.jit(lambda x: (fnp.tanh(x * scale).sum(0), fnp.exp(x) @ x.T + number))(fg.array(X))
    numpy.testing.assert_allclose(found[0], numpy.tanh(X * scale).sum(0), rtol=1e-5, atol=1e-5)
    numpy.testing.assert_allclose(found[1], numpy.exp(X) @ X.T + number, rtol=1e-5, atol=1e-4)
