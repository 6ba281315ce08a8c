"""The mean of the losses of examples, some of which may not count."""

from __future__ import annotations

from funcgrad import numpy as np
from funcgrad.annotations import Array, ArrayLike, Bool, Float
from funcgrad.errors import ShapeError
from funcgrad.losses.arguments import working_precision
from funcgrad.primitives.operators import cast


def mean_where(
    losses: Float[ArrayLike, "..."],
    where: Bool[ArrayLike, "..."] | None = None,
    axis: int | tuple[int, ...] | None = None,
) -> Float[Array, "..."]:
    """The mean of the losses that count, such as those of words and not of padding.

    What does not count has no influence, be it infinite or NaN. Yet its gradient is 0 times a derivative, which is NaN
    where the derivative is not finite: make such predictions harmless before the loss, or give the mask to the loss.

    Arguments:
        losses: floats of any shape.
        where: which of them count, broadcast to the shape of `losses`; by default all.
        axis: the axis, or axes, to average over; None for all.

    Returns:
        An array without those axes. Where nothing counts, the mean is 0: an empty batch teaches nothing.

    Raises:
        ShapeError: if `where` does not broadcast to the shape of `losses`.

    Example:
        >>> import math
        >>> import funcgrad as fg
        >>> losses = fg.array([1.0, 3.0, math.nan])
        >>> fg.losses.mean_where(losses, fg.array([True, True, False]))
        Array(2., dtype=float32)
    """
    (losses,), dtype = working_precision(losses)
    where = np.asarray(True if where is None else where)
    try:
        where = np.broadcast_to(where, losses.shape)
    except ShapeError as error:
        raise ShapeError(
            f"mean_where got losses of shape {losses.shape} and where of shape {where.shape}; give one value for each "
            "loss, or a shape that broadcasts."
        ) from error
    count = where.astype(losses.dtype).sum(axis=axis)
    return cast(np.where(where, losses, 0).sum(axis=axis) / np.maximum(count, 1), dtype)
