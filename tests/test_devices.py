"""Devices. What needs a GPU runs where there is one; elsewhere it is skipped, and says so."""

import numpy
import pytest

import funcgrad as fg
import funcgrad.numpy as np
from funcgrad import errors


def gpu():
    try:
        return fg.devices("cuda")[0]
    except errors.DeviceError:
        return None


needs_gpu = pytest.mark.skipif(gpu() is None, reason="no NVIDIA GPU with CuPy")


def test_the_cpu_is_always_there():
    (cpu,) = fg.devices("cpu")
    assert repr(cpu) == "cpu:0"
    assert cpu in fg.devices()
    assert np.ones(2).device == cpu
    assert np.ones(2).devices() == {cpu}


def test_device_put_takes_pytrees_and_copies_only_where_it_must():
    (cpu,) = fg.devices("cpu")
    x = np.ones(2)
    moved = fg.device_put({"x": x, "y": 1.0}, cpu)
    assert numpy.shares_memory(numpy.asarray(moved["x"]), numpy.asarray(x))
    assert moved["y"].dtype == fg.float32
    assert isinstance(fg.device_get(moved)["x"], numpy.ndarray)


def test_unknown_platforms_are_refused():
    with pytest.raises(errors.DeviceError, match="tpu"):
        fg.devices("tpu")


@pytest.mark.skipif(gpu() is not None, reason="there is a GPU")
def test_a_missing_gpu_is_explained():
    with pytest.raises(errors.DeviceError, match="CuPy"):
        fg.devices("cuda")
    with pytest.raises(errors.DeviceError):
        fg.device_put(np.ones(2), fg.Device("cuda"))


@needs_gpu
def test_the_same_rules_compute_on_the_gpu():
    device = gpu()
    x = np.arange(12.0).reshape(3, 4) / 10
    w = np.ones((4, 2))

    def loss(w, x):
        hidden = np.tanh(x @ w) + np.sort(x, axis=1)[:, :2]
        return np.sum(np.where(hidden > 0, hidden, np.exp(hidden))[np.array([0, 2])] ** 2)

    per_example = fg.vmap(fg.grad(lambda w, row: loss(w, row[None].repeat(3, 0))), in_axes=(None, 0))
    on_gpu = fg.device_put((w, x), device)
    for f in [loss, fg.grad(loss), fg.jit(fg.grad(loss)), per_example]:
        found = f(*on_gpu)
        assert found.device == device
        numpy.testing.assert_allclose(fg.device_get(found), fg.device_get(f(w, x)), rtol=1e-4, atol=1e-5)


@needs_gpu
def test_operands_on_different_devices_are_refused():
    x = np.ones(2)
    with pytest.raises(errors.DeviceError, match="device_put"):
        x + fg.device_put(x, gpu())
