"""Convolutions and reductions over sliding windows, with JAX's signatures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from funcgrad import dtypes
from funcgrad.array import Array, ConcreteArray, as_array
from funcgrad.errors import ArgumentError, ArgumentTypeError, ShapeError
from funcgrad.lax import elementwise
from funcgrad.numpy.axes import as_integer
from funcgrad.primitives import convolution, movement, shapes, windows
from funcgrad.primitives.convolution import ConvDimensionNumbers

# Reading arguments

_KINDS_OF_PADDING = "'SAME', 'SAME_LOWER', 'VALID', or a pair (before, after) for each axis"


def _integers(name: str, what: str, given: Any, count: int) -> tuple[int, ...]:
    """One integer an axis, all 1 where None was given."""
    if given is None:
        return (1,) * count
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise ArgumentTypeError(f"{name} got {what}={given!r:.40}; give a tuple of {count} integers.")
    return tuple(as_integer(entry, f"an entry of {what}") for entry in given)


def _padding(
    name: str, given: Any, lengths: Sequence[int], window: Sequence[int], strides: Sequence[int]
) -> tuple[tuple[int, int], ...]:
    """Padding as pairs; `window` holds the lengths of windows with their dilation."""
    if isinstance(given, str):
        kind = given.upper()
        if kind == "VALID":
            return ((0, 0),) * len(lengths)
        if kind not in ("SAME", "SAME_LOWER"):
            raise ArgumentError(f"{name} got padding={given!r}; choose {_KINDS_OF_PADDING}.")
        pairs = []
        for length, size, stride in zip(lengths, window, strides, strict=False):
            count = -(-length // max(stride, 1))
            total = max((count - 1) * stride + size - length, 0)
            less, more = total // 2, total - total // 2
            pairs.append((less, more) if kind == "SAME" else (more, less))
        return tuple(pairs)
    try:
        return tuple((as_integer(low, "padding"), as_integer(high, "padding")) for low, high in given)
    except (TypeError, ValueError) as error:
        if isinstance(error, ArgumentTypeError):
            raise
        raise ArgumentTypeError(f"{name} got padding={given!r:.60}; choose {_KINDS_OF_PADDING}.") from None


def _refuse_precision(name: str, precision: Any) -> None:
    if precision is not None:
        raise ArgumentError(
            f"{name} got precision={precision!r}, and always computes in the precision of the dtype; leave it out."
        )


# Convolution


def conv_dimension_numbers(lhs_shape: Sequence[int], rhs_shape: Sequence[int], dimension_numbers: Any):
    """Where the axes of a convolution are, in numbers.

    Arguments:
        lhs_shape, rhs_shape: the shapes of array and kernel.
        dimension_numbers: None for batch, features and spatial axes in this order (and output features, input features
            and spatial axes of the kernel); three strings such as `("NHWC", "HWIO", "NHWC")` for array, kernel and
            result, in which N is the batch, C the features, O and I the output and input features of the kernel, and
            each other letter a spatial axis; or `ConvDimensionNumbers`, which are returned as they are.

    Returns:
        `ConvDimensionNumbers`.

    Raises:
        ShapeError, ArgumentError: if they do not fit.

    Example:
        >>> import funcgrad as fg
        >>> fg.lax.conv_dimension_numbers((8, 28, 28, 1), (3, 3, 1, 16), ("NHWC", "HWIO", "NHWC"))
        ConvDimensionNumbers(lhs_spec=(0, 3, 1, 2), rhs_spec=(3, 2, 0, 1), out_spec=(0, 3, 1, 2))
    """
    ndim = len(lhs_shape)
    if ndim != len(rhs_shape) or ndim < 2:
        raise ShapeError(
            f"a convolution got an array of shape {tuple(lhs_shape)} and a kernel of shape {tuple(rhs_shape)}; both "
            "need as many axes: two, and the spatial ones."
        )
    if isinstance(dimension_numbers, ConvDimensionNumbers):
        return ConvDimensionNumbers(*(tuple(as_integer(a, "an axis") for a in spec) for spec in dimension_numbers))
    if dimension_numbers is None:
        return ConvDimensionNumbers(*(tuple(range(ndim)),) * 3)
    specs = tuple(dimension_numbers) if isinstance(dimension_numbers, Sequence) else ()
    if len(specs) != 3 or not all(isinstance(spec, str) for spec in specs):
        raise ArgumentError(
            f"a convolution got dimension_numbers={dimension_numbers!r:.80}; give None, ConvDimensionNumbers, or three "
            "strings such as ('NHWC', 'HWIO', 'NHWC')."
        )
    lhs, rhs, out = specs
    spatial = [letter for letter in rhs if letter not in "OI"]
    for spec, own in [(lhs, "NC"), (rhs, "OI"), (out, "NC")]:
        if sorted(spec) != sorted([*own, *spatial]) or len(set(spec)) != ndim:
            raise ArgumentError(
                f"a convolution of arrays of {ndim} axes got dimension_numbers={specs}; each string needs {ndim} "
                "different letters: N and C for array and result, O and I for the kernel, and the same others in all."
            )
    return ConvDimensionNumbers(
        *(
            tuple(spec.index(letter) for letter in (*own, *spatial))
            for spec, own in [(lhs, "NC"), (rhs, "OI"), (out, "NC")]
        )
    )


def conv_general_dilated(
    lhs: Any,
    rhs: Any,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: None = None,
    preferred_element_type: Any = None,
) -> Array:
    """The convolution of an array with a kernel, which slides along the spatial axes and is not reversed.

    Arguments:
        lhs: an array with a batch axis, a feature axis and any number of spatial axes.
        rhs: a kernel of the same dtype, with an axis of output features, one of input features, and spatial axes.
        window_strides: for each spatial axis, by how much the kernel moves.
        padding: zeros added at both ends of the spatial axes: pairs (before, after), in which negative numbers take
            elements away; "VALID" for none; "SAME" for as many as make the result `ceil(length / stride)` long, the odd
            one at the end; or "SAME_LOWER", with the odd one at the start.
        lhs_dilation: for each spatial axis, how far apart the elements of `lhs` are put, with zeros between them.
        rhs_dilation: the same for the kernel.
        dimension_numbers: where the axes are: see `conv_dimension_numbers`. By default the spatial axes come last.
        feature_group_count: into how many groups the features of `lhs` and the output features are divided; each group
            is a convolution of its own. As many as features make a depthwise convolution.
        batch_group_count: the same with groups of the batch.
        precision: None, since products always have the precision of their dtype.
        preferred_element_type: the dtype to add up in, which is that of the result.

    Returns:
        An array with the axes that `dimension_numbers` says.

    Raises:
        ShapeError, DtypeError, ArgumentError: if the operands do not fit together.

    Example:
        >>> import funcgrad as fg
        >>> image, edge = fg.array([[[0.0, 0.0, 1.0, 1.0, 0.0]]]), fg.array([[[-1.0, 1.0]]])
        >>> fg.lax.conv_general_dilated(image, edge, window_strides=(1,), padding="VALID")
        Array([[[ 0.,  1.,  0., -1.]]], dtype=float32)
    """
    _refuse_precision("conv_general_dilated", precision)
    x, kernel = elementwise.match(lhs, rhs)
    numbers = conv_dimension_numbers(x.shape, kernel.shape, dimension_numbers)
    spatial = x.ndim - 2
    strides = _integers("conv_general_dilated", "window_strides", window_strides, spatial)
    lhs_dilation = _integers("conv_general_dilated", "lhs_dilation", lhs_dilation, spatial)
    rhs_dilation = _integers("conv_general_dilated", "rhs_dilation", rhs_dilation, spatial)
    if isinstance(padding, str) and padding.upper() != "VALID" and any(d != 1 for d in lhs_dilation):
        raise ArgumentError(
            f"conv_general_dilated got padding={padding!r} with lhs_dilation={lhs_dilation}, for which it is not "
            "defined; give pairs, or use conv_transpose."
        )
    lengths = [x.shape[axis] for axis in numbers.lhs_spec[2:]]
    window = [
        windows.dilated(kernel.shape[axis], apart)
        for axis, apart in zip(numbers.rhs_spec[2:], rhs_dilation, strict=False)
    ]
    return convolution.conv_general_dilated(
        x,
        kernel,
        window_strides=strides,
        padding=_padding("conv_general_dilated", padding, lengths, window, strides),
        lhs_dilation=lhs_dilation,
        rhs_dilation=rhs_dilation,
        dimension_numbers=numbers,
        feature_group_count=as_integer(feature_group_count, "feature_group_count"),
        batch_group_count=as_integer(batch_group_count, "batch_group_count"),
        preferred_element_type=None if preferred_element_type is None else dtypes.canonical(preferred_element_type),
    )


def conv(
    lhs: Any,
    rhs: Any,
    window_strides: Sequence[int],
    padding: str,
    precision: None = None,
    preferred_element_type: Any = None,
) -> Array:
    """A convolution with the axes in the order batch, features, spatial: see `conv_general_dilated`.

    Arguments:
        lhs: an array of shape (batch, features, *spatial).
        rhs: a kernel of shape (output features, features, *spatial).
        window_strides, padding, precision, preferred_element_type: as for `conv_general_dilated`.

    Returns:
        An array of shape (batch, output features, *spatial).

    Example:
        >>> import funcgrad as fg
        >>> fg.lax.conv(fg.lax.full((1, 2, 6, 6), 1.0), fg.lax.full((4, 2, 3, 3), 1.0), (2, 2), "SAME").shape
        (1, 4, 3, 3)
    """
    return conv_general_dilated(
        lhs, rhs, window_strides, padding, precision=precision, preferred_element_type=preferred_element_type
    )


def conv_with_general_padding(
    lhs: Any,
    rhs: Any,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None,
    rhs_dilation: Sequence[int] | None,
    precision: None = None,
    preferred_element_type: Any = None,
) -> Array:
    """A convolution with the axes in the order batch, features, spatial, and with dilations: see
    `conv_general_dilated`.

    Example:
        >>> import funcgrad as fg
        >>> x, kernel = fg.lax.full((1, 1, 5), 1.0), fg.lax.full((1, 1, 2), 1.0)
        >>> fg.lax.conv_with_general_padding(x, kernel, (1,), [(0, 1)], None, (3,))
        Array([[[2., 2., 1.]]], dtype=float32)
    """
    return conv_general_dilated(
        lhs,
        rhs,
        window_strides,
        padding,
        lhs_dilation,
        rhs_dilation,
        precision=precision,
        preferred_element_type=preferred_element_type,
    )


_LAYOUTS_OF_TRANSPOSE = {
    2: ("NC", "IO", "NC"),
    3: ("NHC", "HIO", "NHC"),
    4: ("NHWC", "HWIO", "NHWC"),
    5: ("NHWDC", "HWDIO", "NHWDC"),
}


def conv_transpose(
    lhs: Any,
    rhs: Any,
    strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    transpose_kernel: bool = False,
    precision: None = None,
    preferred_element_type: Any = None,
    use_consistent_padding: bool = False,
) -> Array:
    """A convolution with fractional strides, which makes arrays longer: the elements of `lhs` are put `strides` apart.

    Arguments:
        lhs: an array with a batch axis, a feature axis and spatial axes.
        rhs: a kernel.
        strides: for each spatial axis, how many times as long it becomes.
        padding: "SAME" or "VALID": as in the convolution that this one undoes; or pairs, which pad the array after its
            elements were put apart.
        rhs_dilation: for each spatial axis, how far apart the elements of the kernel are.
        dimension_numbers: where the axes are: see `conv_dimension_numbers`. By default the features come last, in the
            kernel the input and output features.
        transpose_kernel: whether to reverse the kernel and exchange its input and output features, as in the gradient
            of the convolution that has this kernel.
        precision, preferred_element_type: as for `conv_general_dilated`.
        use_consistent_padding: whether pairs, too, are the padding of the convolution that this one undoes.

    Raises:
        ShapeError, DtypeError, ArgumentError: if the operands do not fit together.

    Example:
        >>> import funcgrad as fg
        >>> x, kernel = fg.array([[[1.0], [2.0]]]), fg.array([[[1.0]], [[1.0]]])
        >>> fg.lax.conv_transpose(x, kernel, strides=(2,), padding="VALID").reshape(-1)
        Array([1., 1., 2., 2.], dtype=float32)
    """
    x, kernel = elementwise.match(lhs, rhs)
    if dimension_numbers is None:
        if x.ndim not in _LAYOUTS_OF_TRANSPOSE:
            raise ArgumentError(
                f"conv_transpose has no default layout for {x.ndim} axes; give dimension_numbers, such as "
                "('NHWC', 'HWIO', 'NHWC')."
            )
        dimension_numbers = _LAYOUTS_OF_TRANSPOSE[x.ndim]
    numbers = conv_dimension_numbers(x.shape, kernel.shape, dimension_numbers)
    outputs, inputs, *spatial = numbers.rhs_spec
    strides = _integers("conv_transpose", "strides", strides, len(spatial))
    apart = _integers("conv_transpose", "rhs_dilation", rhs_dilation, len(spatial))
    if len(strides) != len(spatial) or len(apart) != len(spatial):
        raise ShapeError(
            f"conv_transpose got strides={strides} and rhs_dilation={apart} for {len(spatial)} spatial axes; "
            "give one entry an axis."
        )
    window = [windows.dilated(kernel.shape[axis], d) for axis, d in zip(spatial, apart, strict=True)]
    if isinstance(padding, str):
        if padding.upper() not in ("SAME", "VALID"):
            raise ArgumentError(f"conv_transpose got padding={padding!r}; choose 'SAME', 'VALID', or pairs.")
        pairs = tuple(_transposed_pair(padding.upper(), k, s) for k, s in zip(window, strides, strict=True))
    else:
        pairs = _padding("conv_transpose", padding, (), (), ())
        if use_consistent_padding:
            pairs = tuple((k - 1 - low, k - 1 - high) for k, (low, high) in zip(window, pairs, strict=False))
    if transpose_kernel:
        kernel = movement.rev(kernel, axes=tuple(spatial))
        order = list(range(kernel.ndim))
        order[outputs], order[inputs] = inputs, outputs
        kernel = shapes.transpose(kernel, permutation=tuple(order))
    return conv_general_dilated(
        x,
        kernel,
        (1,) * len(spatial),
        pairs,
        strides,
        apart,
        numbers,
        precision=precision,
        preferred_element_type=preferred_element_type,
    )


def _transposed_pair(kind: str, window: int, stride: int) -> tuple[int, int]:
    """The padding with which the result is as long as what a convolution would have shortened to the array."""
    if kind == "SAME":
        total = window + stride - 2
        low = window - 1 if stride > window - 1 else -(-total // 2)
    else:
        total = window + stride - 2 + max(window - stride, 0)
        low = window - 1
    return low, total - low


# Windows

_EXTREMA = {
    elementwise.max: windows.reduce_window_max,
    elementwise.min: windows.reduce_window_min,
}


def reduce_window(
    operand: Any,
    init_value: Any,
    computation: Callable[..., Any],
    window_dimensions: Sequence[int],
    window_strides: Sequence[int] | None = None,
    padding: str | Sequence[tuple[int, int]] = "VALID",
    base_dilation: Sequence[int] | None = None,
    window_dilation: Sequence[int] | None = None,
) -> Array:
    """The sum, maximum or minimum of each window that slides along the axes: pooling.

    A maximum (minimum) hands its derivative to the first element of its window, in row-major order, that attains it.

    Arguments:
        operand: an array.
        init_value: what the reduction of a window starts with, also where padding leaves nothing else in it: 0 for
            sums, and usually minus infinity for a maximum.
        computation: `fg.lax.add`, `fg.lax.max` or `fg.lax.min`.
        window_dimensions: the length of a window along each axis of the array; 1 along batch and feature axes.
        window_strides: by how much windows move along each axis, by default 1.
        padding: "VALID", "SAME", "SAME_LOWER" or a pair for each axis: as for `conv_general_dilated`.
        base_dilation: how far apart elements of the array are put along each axis.
        window_dilation: how far apart elements of a window are along each axis.

    Returns:
        An array with as many axes, whose elements are the results of windows.

    Raises:
        ArgumentError: for another computation, or a sum that does not start with 0.
        ShapeError, DtypeError: if the arguments do not fit the array.

    Example:
        >>> import funcgrad as fg
        >>> x = fg.array([1.0, 5.0, 2.0, 3.0])
        >>> fg.lax.reduce_window(x, -float("inf"), fg.lax.max, (2,), (2,))
        Array([5., 3.], dtype=float32)
    """
    x, start = as_array(operand), as_array(init_value)
    if computation is not elementwise.add and computation not in _EXTREMA:
        name = getattr(computation, "__name__", repr(computation))
        raise ArgumentError(
            f"reduce_window got the computation {name}; it takes fg.lax.add, fg.lax.max or fg.lax.min, and others can "
            "be written with several slices of the array."
        )
    if start.ndim:
        raise ShapeError(f"reduce_window takes one number as init_value, not an array of shape {start.shape}.")
    known = start.item() if isinstance(start, ConcreteArray) else None
    x, start = elementwise.match(x, start)
    window = _integers("reduce_window", "window_dimensions", window_dimensions, x.ndim)
    strides = _integers("reduce_window", "window_strides", window_strides, x.ndim)
    base_dilation = _integers("reduce_window", "base_dilation", base_dilation, x.ndim)
    window_dilation = _integers("reduce_window", "window_dilation", window_dilation, x.ndim)
    lengths = [windows.dilated(n, d) for n, d in zip(x.shape, base_dilation, strict=False)]
    reach = [windows.dilated(n, d) for n, d in zip(window, window_dilation, strict=False)]
    params: dict[str, Any] = dict(
        window_dimensions=window,
        window_strides=strides,
        padding=_padding("reduce_window", padding, lengths, reach, strides),
        base_dilation=base_dilation,
        window_dilation=window_dilation,
    )
    if computation is elementwise.add:
        if known != 0:
            raise ArgumentError(
                "reduce_window starts sums with the constant 0 only; give init_value=0 and add the other number to the "
                "result."
            )
        return windows.reduce_window_sum(x, **params)
    result = _EXTREMA[computation](x, **params)
    if start.dtype is x.dtype and known == windows.neutral(x.dtype, computation is elementwise.max):
        return result
    return computation(result, start)
