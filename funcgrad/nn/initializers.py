"""Initializers: how the parameters of a layer begin. They have the names and signatures of `jax.nn.initializers`.

An initializer is a function `init(key, shape, dtype=float32)` that gives an array. Those that have settings are made
by a function of these: `normal(stddev=0.01)` is an initializer, and `zeros` is one already.

Most draw numbers whose variance depends on how many inputs and outputs a weight has, its *fans*, so that values neither
grow nor fade from layer to layer: see `variance_scaling`. By JAX's convention the second to last axis of a weight
counts inputs and the last one outputs; layers that store it the other way round, such as `nn.Linear`, are initialized
with `in_axis=-1, out_axis=-2`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from funcgrad import dtypes, random
from funcgrad import numpy as np
from funcgrad.annotations import Array, ArrayLike, Key, Real
from funcgrad.control_flow.scan import scan
from funcgrad.errors import ArgumentError, DtypeError

Initializer = Callable[..., Array]
Axes = int | Sequence[int]


def zeros(key: Key | None, shape: Sequence[int], dtype: Any = np.float32) -> Array:
    """Zeros. Like every initializer it takes a key, which it does not need: None will do.

    Example:
        >>> import funcgrad as fg
        >>> fg.nn.initializers.zeros(None, (3,))
        Array([0., 0., 0.], dtype=float32)
    """
    return np.zeros(shape, dtype)


def ones(key: Key | None, shape: Sequence[int], dtype: Any = np.float32) -> Array:
    """Ones. The key may be None.

    Example:
        >>> import funcgrad as fg
        >>> fg.nn.initializers.ones(None, (3,))
        Array([1., 1., 1.], dtype=float32)
    """
    return np.ones(shape, dtype)


def constant(value: ArrayLike, dtype: Any = np.float32) -> Initializer:
    """The initializer that fills arrays with a value.

    Arguments:
        value: a number, or an array that broadcasts to the shapes that are asked for.
        dtype: the dtype, unless the initializer is given one.

    Example:
        >>> import funcgrad as fg
        >>> fg.nn.initializers.constant(0.5)(None, (3,))
        Array([0.5, 0.5, 0.5], dtype=float32)
    """

    def init(key: Key | None, shape: Sequence[int], dtype: Any = dtype) -> Array:
        return np.full(shape, value, dtype)

    return init


def uniform(scale: Real = 0.01, dtype: Any = np.float32) -> Initializer:
    """The initializer that draws numbers uniformly from [0, scale).

    Example:
        >>> import funcgrad as fg
        >>> x = fg.nn.initializers.uniform(2.0)(fg.random.key(0), (1000,))
        >>> bool(x.min() >= 0), bool(x.max() < 2), abs(float(x.mean()) - 1) < 0.1
        (True, True, True)
    """

    def init(key: Key, shape: Sequence[int], dtype: Any = dtype) -> Array:
        return random.uniform(key, shape, _floating(dtype)) * scale

    return init


def normal(stddev: Real = 0.01, dtype: Any = np.float32) -> Initializer:
    """The initializer that draws normal numbers with mean 0.

    Arguments:
        stddev: the standard deviation.
        dtype: the dtype, unless the initializer is given one.

    Example:
        >>> import funcgrad as fg
        >>> x = fg.nn.initializers.normal(2.0)(fg.random.key(0), (1000,))
        >>> abs(float(x.std()) - 2) < 0.2
        True
    """

    def init(key: Key, shape: Sequence[int], dtype: Any = dtype) -> Array:
        return random.normal(key, shape, _floating(dtype)) * stddev

    return init


def truncated_normal(
    stddev: Real = 0.01, dtype: Any = np.float32, lower: Real = -2.0, upper: Real = 2.0
) -> Initializer:
    """The initializer that draws normal numbers with mean 0 that lie within some standard deviations.

    Arguments:
        stddev: the standard deviation before the tails are cut off.
        dtype: the dtype, unless the initializer is given one.
        lower, upper: the limits, in standard deviations.

    Example:
        >>> import funcgrad as fg
        >>> x = fg.nn.initializers.truncated_normal(0.5)(fg.random.key(0), (1000,))
        >>> bool(abs(x).max() <= 1.0)
        True
    """

    def init(key: Key, shape: Sequence[int], dtype: Any = dtype) -> Array:
        return random.truncated_normal(key, lower, upper, shape, _floating(dtype)) * stddev

    return init


# The standard deviation of a standard normal number that is limited to [-2, 2].
_STDDEV_WITHIN_TWO = 0.8796256610342398


def variance_scaling(
    scale: Real,
    mode: str,
    distribution: str,
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: Any = np.float32,
) -> Initializer:
    """The initializer that draws numbers with mean 0 and variance `scale / fan`.

    The fan-in of a weight is the number of inputs that each output sums over: the length of the `in_axis`, times the
    lengths of all axes that are neither inputs nor outputs, such as the window of a convolution. The fan-out is the
    same with inputs and outputs exchanged.

    Arguments:
        scale: a positive number.
        mode: which fan: "fan_in", "fan_out", their mean "fan_avg", or "fan_geo_avg", the root of their product.
        distribution: "normal", "truncated_normal" (within two standard deviations) or "uniform".
        in_axis, out_axis: the axis or axes of the inputs and of the outputs.
        batch_axis: axes that number separate weights and count in no fan.
        dtype: the dtype, unless the initializer is given one.

    Raises:
        ArgumentError: if `mode` or `distribution` is none of these, or `scale` is negative; when the initializer is
            used, if the shape has too few axes.

    Example:
        >>> import funcgrad as fg
        >>> init = fg.nn.initializers.variance_scaling(2.0, "fan_in", "normal")
        >>> weight = init(fg.random.key(0), (200, 300))
        >>> abs(float(weight.std()) - (2 / 200) ** 0.5) < 0.002
        True
    """
    if mode not in ("fan_in", "fan_out", "fan_avg", "fan_geo_avg"):
        raise ArgumentError(f"variance_scaling got mode={mode!r}; choose fan_in, fan_out, fan_avg or fan_geo_avg.")
    if distribution not in ("normal", "truncated_normal", "uniform"):
        raise ArgumentError(
            f"variance_scaling got distribution={distribution!r}; choose normal, truncated_normal or uniform."
        )
    if scale < 0:
        raise ArgumentError(f"variance_scaling got scale={scale}; a variance cannot be negative.")

    def init(key: Key, shape: Sequence[int], dtype: Any = dtype) -> Array:
        dtype = _floating(dtype)
        fan_in, fan_out = _fans(shape, in_axis, out_axis, batch_axis)
        fan = {
            "fan_in": fan_in,
            "fan_out": fan_out,
            "fan_avg": (fan_in + fan_out) / 2,
            "fan_geo_avg": math.sqrt(fan_in * fan_out),
        }[mode]
        stddev = math.sqrt(scale / max(fan, 1))
        if distribution == "normal":
            return random.normal(key, shape, dtype) * stddev
        if distribution == "truncated_normal":
            return random.truncated_normal(key, -2.0, 2.0, shape, dtype) * (stddev / _STDDEV_WITHIN_TWO)
        return random.uniform(key, shape, dtype, -1.0, 1.0) * (math.sqrt(3) * stddev)

    return init


def _fans(shape: Sequence[int], in_axis: Axes, out_axis: Axes, batch_axis: Axes) -> tuple[float, float]:
    lengths = []
    for axes in (in_axis, out_axis, batch_axis):
        axes = (axes,) if isinstance(axes, int) else tuple(axes)
        if any(not -len(shape) <= axis < len(shape) for axis in axes):
            raise ArgumentError(
                f"an initializer that depends on fans got the shape {tuple(shape)}, which has no axis {axes}; give a "
                "shape with input and output axes, or say where they are with in_axis and out_axis."
            )
        lengths.append(math.prod(shape[axis] for axis in axes))
    inputs, outputs, batch = lengths
    window = math.prod(shape) / max(inputs * outputs * batch, 1)
    return inputs * window, outputs * window


def orthogonal(scale: Real = 1.0, column_axis: int = -1, dtype: Any = np.float32) -> Initializer:
    """The initializer of random matrices with orthonormal rows or columns, whichever are fewer.

    A vector keeps its length when it is multiplied by such a matrix, through however many layers or steps of a
    recurrent one.

    Arguments:
        scale: what the matrices are multiplied by.
        column_axis: the axis that counts columns; all others together count rows.
        dtype: the dtype, unless the initializer is given one.

    Raises:
        ArgumentError: from the initializer, for a shape with less than two axes.
        DtypeError: from the initializer, for a dtype that is not floating.

    Source: A. Saxe, J. McClelland and S. Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear
    neural networks", https://arxiv.org/abs/1312.6120.

    Example:
        >>> import funcgrad as fg
        >>> weight = fg.nn.initializers.orthogonal()(fg.random.key(0), (5, 3))
        >>> bool(abs(weight.T @ weight - fg.numpy.eye(3)).max() < 1e-6)
        True
    """

    def init(key: Key, shape: Sequence[int], dtype: Any = dtype) -> Array:
        dtype, shape = _floating(dtype), tuple(shape)
        if len(shape) < 2:
            raise ArgumentError(f"orthogonal got the shape {shape}; give the shape of a matrix, with two axes or more.")
        if 0 in shape:
            return np.zeros(shape, dtype)
        columns = shape[column_axis]
        rows = math.prod(shape) // columns
        precise = dtype if dtype.itemsize >= 4 else dtypes.float32
        basis = _orthonormal_rows(random.normal(key, (max(rows, columns), min(rows, columns)), precise).T)
        matrix = (basis.T if rows >= columns else basis) * scale
        axis = column_axis % len(shape)
        others = shape[:axis] + shape[axis + 1 :]
        return np.moveaxis(matrix.reshape(*others, columns), -1, axis).astype(dtype)

    return init


def _orthonormal_rows(matrix: Array) -> Array:
    """The rows of a matrix, each made orthogonal to those above it, twice because of rounding, and of length one."""

    def add_row(basis: Array, place_and_row: tuple[Array, Array]) -> tuple[Array, None]:
        place, row = place_and_row
        for _ in range(2):
            row = row - (basis @ row) @ basis
        return basis.at[place].set(row / np.sqrt((row * row).sum())), None

    return scan(add_row, np.zeros_like(matrix), (np.arange(matrix.shape[0]), matrix))[0]


def delta_orthogonal(scale: Real = 1.0, column_axis: int = -1, dtype: Any = np.float32) -> Initializer:
    """The initializer of convolutions that keep the length of an image: zeros around an orthogonal matrix.

    Arguments:
        scale: what the matrix is multiplied by.
        column_axis: of the two last axes, the one that counts outputs.
        dtype: the dtype, unless the initializer is given one.

    Raises:
        ArgumentError: from the initializer, unless the shape is (..., inputs, outputs), behind one to three axes of the
            window, with no more inputs than outputs.

    Source: L. Xiao et al., "Dynamical Isometry and a Mean Field Theory of CNNs", https://arxiv.org/abs/1806.05393.

    Example:
        >>> import funcgrad as fg
        >>> fg.nn.initializers.delta_orthogonal()(fg.random.key(0), (3, 1, 2))[0]
        Array([[0., 0.]], dtype=float32)
    """
    matrix = orthogonal(scale, column_axis, dtype)

    def init(key: Key, shape: Sequence[int], dtype: Any = dtype) -> Array:
        shape = tuple(shape)
        if not 3 <= len(shape) <= 5 or shape[-2] > shape[-1]:
            raise ArgumentError(
                f"delta_orthogonal got the shape {shape}; give that of a window and then inputs and outputs, of which "
                "the inputs are not more."
            )
        centre = tuple((length - 1) // 2 for length in shape[:-2])
        return np.zeros(shape, _floating(dtype)).at[centre].set(matrix(key, shape[-2:], dtype))

    return init


def _floating(dtype: Any) -> Any:
    dtype = dtypes.canonical(dtype)
    if not dtypes.is_floating(dtype):
        raise DtypeError(f"random initializers draw floats, and {dtype.name} has none; choose a floating dtype.")
    return dtype


def _variance_scaling(name: str, scale: Real, mode: str, distribution: str, source: str) -> Callable[..., Initializer]:
    """`variance_scaling` with a name of its own."""

    def make(in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = np.float32) -> Initializer:
        return variance_scaling(scale, mode, distribution, in_axis, out_axis, batch_axis, dtype)

    make.__name__ = make.__qualname__ = name
    make.__doc__ = f"""`variance_scaling({scale}, "{mode}", "{distribution}")`.

    Source: {source}.

    Example:
        >>> import funcgrad as fg
        >>> fg.nn.initializers.{name}()(fg.random.key(0), (2, 3)).shape
        (2, 3)
    """
    return make


_GLOROT = "X. Glorot and Y. Bengio, 'Understanding the difficulty of training deep feedforward neural networks', 2010"
_HE = "K. He, X. Zhang, S. Ren and J. Sun, 'Delving Deep into Rectifiers', https://arxiv.org/abs/1502.01852"
_LECUN = "Y. LeCun, L. Bottou, G. Orr and K.-R. Müller, 'Efficient BackProp', 1998"

glorot_uniform = xavier_uniform = _variance_scaling("glorot_uniform", 1.0, "fan_avg", "uniform", _GLOROT)
glorot_normal = xavier_normal = _variance_scaling("glorot_normal", 1.0, "fan_avg", "truncated_normal", _GLOROT)
he_uniform = kaiming_uniform = _variance_scaling("he_uniform", 2.0, "fan_in", "uniform", _HE)
he_normal = kaiming_normal = _variance_scaling("he_normal", 2.0, "fan_in", "truncated_normal", _HE)
lecun_uniform = _variance_scaling("lecun_uniform", 1.0, "fan_in", "uniform", _LECUN)
lecun_normal = _variance_scaling("lecun_normal", 1.0, "fan_in", "truncated_normal", _LECUN)
