"""Losses of vectors that shall be near to each other, or far apart.

The direction of a vector of length 0 is undefined, and the derivative of the length there. Both are taken as 0 here,
so that two equal vectors neither break a gradient nor move.
"""

from __future__ import annotations

import math

from funcgrad import numpy as np
from funcgrad.annotations import Array, ArrayLike, Bool, Float, Real
from funcgrad.errors import ArgumentError
from funcgrad.losses.arguments import (
    check_number,
    check_same_shape,
    element_mask,
    only_where,
    working_precision,
)
from funcgrad.nn.activations import relu
from funcgrad.numpy.axes import normalize_axis
from funcgrad.primitives.elementwise import stop_gradient
from funcgrad.primitives.operators import cast

Axis = int | tuple[int, ...] | None


def _unit(x: Array, axis: Axis, epsilon: Real) -> Array:
    """`x` divided by its length, or by `epsilon` if that is larger."""
    # Squares are taken of numbers of size at most 1: they neither overflow nor are lost. What they are divided by
    # cancels in the end, and so does its derivative.
    size = stop_gradient(np.abs(x).max(axis=axis, keepdims=True))
    is_zero = size == 0
    size = np.where(is_zero, 1, size)
    scaled = x / size
    length = np.sqrt(np.where(is_zero, 1, (scaled * scaled).sum(axis=axis, keepdims=True)))
    if epsilon == 0:
        return np.where(is_zero, 0, scaled / length)
    length, least = np.where(is_zero, 0, length), epsilon / size
    return scaled / np.where(length < least, least, length)


def _similarity(x: Array, y: Array, axis: Axis, epsilon: Real) -> Array:
    return (_unit(x, axis, epsilon) * _unit(y, axis, epsilon)).sum(axis=axis)


def cosine_similarity(
    predictions: Float[ArrayLike, "..."],
    targets: Float[ArrayLike, "..."],
    *,
    epsilon: Real = 0.0,
    axis: int | tuple[int, ...] | None = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "..."]:
    """The cosine of the angle between two vectors: from -1, opposite, to 1, the same direction.

    Arguments:
        predictions, targets: floats of one shape, or of shapes that broadcast, with the vectors along `axis`.
        epsilon: the least length by which a vector is divided.
        axis: the axis, or axes, of the vectors.
        where: which elements to count, of as many axes as the arrays have.

    Returns:
        An array without the axes of the vectors. If `epsilon` is 0, it is 0, and so is its gradient, where a
        vector is 0.

    Raises:
        ShapeError: if the shapes do not fit.
        ArgumentError: if `epsilon` is negative.

    Example:
        >>> import funcgrad as fg
        >>> fg.losses.cosine_similarity(fg.array([[3.0, 4.0], [0.0, 2.0]]), fg.array([[6.0, 8.0], [1.0, 0.0]]))
        Array([1., 0.], dtype=float32)
    """
    check_number("cosine_similarity", "epsilon", epsilon, 0)
    (x, y), dtype = working_precision(predictions, targets)
    if x.shape != y.shape:
        x, y = np.broadcast_arrays(x, y)
    if where is not None:
        where = element_mask("cosine_similarity", where, x.shape)
        x, y = np.where(where, x, 0), np.where(where, y, 0)
    return cast(_similarity(x, y, axis, epsilon), dtype)


def cosine_distance(
    predictions: Float[ArrayLike, "..."],
    targets: Float[ArrayLike, "..."],
    *,
    epsilon: Real = 0.0,
    axis: int | tuple[int, ...] | None = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "..."]:
    """1 less `cosine_similarity`: from 0, the same direction, to 2, opposite. Arguments and errors are the same.

    Example:
        >>> import funcgrad as fg
        >>> fg.losses.cosine_distance(fg.array([3.0, 4.0]), fg.array([-6.0, -8.0]))
        Array(2., dtype=float32)
    """
    return 1.0 - cosine_similarity(predictions, targets, epsilon=epsilon, axis=axis, where=where)


def cosine_embedding_loss(
    first: Float[ArrayLike, "..."],
    second: Float[ArrayLike, "..."],
    targets: ArrayLike,
    *,
    axis: int = -1,
    margin: Real = 0.0,
) -> Float[Array, "..."]:
    """The cosine distance of vectors that belong together, and for others by how much their similarity is too large.

    Arguments:
        first, second: floats of one shape, with the vectors along `axis`.
        targets: 1 for vectors that belong together, -1 for others, of the shape of the result, or a single number.
        axis: the axis of the vectors.
        margin: up to which similarity vectors that do not belong together cost nothing.

    Returns:
        An array without the axis of the vectors. It is NaN, with the gradient 0, where a target is neither -1 nor 1.

    Raises:
        ShapeError: if the shapes do not fit.

    Example:
        >>> import funcgrad as fg
        >>> x = fg.array([[3.0, 4.0], [3.0, 4.0]])
        >>> fg.losses.cosine_embedding_loss(x, x, fg.array([1, -1]), margin=0.25)
        Array([0.  , 0.75], dtype=float32)
    """
    (first, second, targets), dtype = working_precision(first, second, targets)
    check_same_shape("cosine_embedding_loss", first=first, second=second)
    similarity = _similarity(first, second, axis, 0)
    if targets.ndim:
        check_same_shape("cosine_embedding_loss", targets=targets, similarities=similarity)
    loss = np.where(targets == 1, 1.0 - similarity, relu(similarity - margin))
    return cast(only_where(np.abs(targets) == 1, loss), dtype)


def triplet_margin_loss(
    anchors: Float[ArrayLike, "..."],
    positives: Float[ArrayLike, "..."],
    negatives: Float[ArrayLike, "..."],
    axis: int = -1,
    norm_degree: Real = 2,
    margin: Real = 1.0,
    eps: Real = 1e-6,
) -> Float[Array, "..."]:
    """How much is missing to an anchor that is nearer by a margin to its positive example than to its negative one.

    A distance is `(sum(abs(difference) ** norm_degree) + eps) ** (1 / norm_degree)`.

    Arguments:
        anchors, positives, negatives: floats of one shape, with the vectors along `axis`.
        axis: the axis of the vectors.
        norm_degree: 2 for Euclidean distances, 1 for sums of absolute differences; any number from 1 on.
        margin: by how much the distance to the negative example shall be larger.
        eps: a small positive number, which keeps the derivative at equal vectors finite.

    Returns:
        An array without the axis of the vectors. At the margin itself the derivative is 0.

    Raises:
        ShapeError: if the shapes differ.
        ArgumentError: if `norm_degree` is infinite or below 1, or `eps` is negative.

    Source: V. Balntas et al., "Learning local feature descriptors with triplets and shallow convolutional neural
    networks", British Machine Vision Conference 2016.

    Example:
        >>> import funcgrad as fg
        >>> x = fg.array([[0.0, 0.0]])
        >>> fg.losses.triplet_margin_loss(x, fg.array([[3.0, 4.0]]), fg.array([[0.0, 1.0]]), eps=0.0)
        Array([5.], dtype=float32)
    """
    name = "triplet_margin_loss"
    check_number(name, "norm_degree", norm_degree, 1)
    check_number(name, "eps", eps, 0)
    if math.isinf(norm_degree):
        raise ArgumentError("norm_degree of triplet_margin_loss must be finite; use a large number such as 100.")
    (anchors, positives, negatives), dtype = working_precision(anchors, positives, negatives)
    check_same_shape(name, anchors=anchors, positives=positives, negatives=negatives)

    def distance(difference: Array) -> Array:
        if norm_degree == 2:
            return _root((difference * difference).sum(axis=axis) + eps, 2)
        size = np.abs(difference)
        return _root((size if norm_degree == 1 else size**norm_degree).sum(axis=axis) + eps, norm_degree)

    return cast(relu(distance(anchors - positives) - distance(anchors - negatives) + margin), dtype)


def _root(x: Array, degree: Real) -> Array:
    """The root of x >= 0, with the derivative 0 instead of infinity at 0."""
    if degree == 1:
        return x
    is_zero = x == 0
    x = np.where(is_zero, 1, x)
    return np.where(is_zero, 0, np.sqrt(x) if degree == 2 else x ** (1 / degree))


def contrastive_loss(
    first: Float[ArrayLike, "..."],
    second: Float[ArrayLike, "..."],
    similar: ArrayLike,
    *,
    axis: int = -1,
    margin: Real = 1.0,
) -> Float[Array, "..."]:
    """Half of the squared distance of vectors that belong together; for others half of the square of what is missing.

    That is `similar * d**2 / 2 + (1 - similar) * max(0, margin - d)**2 / 2` for the Euclidean distance d.

    Arguments:
        first, second: floats of one shape, with the vectors along `axis`.
        similar: 1 or True for vectors that belong together, 0 or False for others, of the shape of the result, or a
            single value.
        axis: the axis of the vectors.
        margin: the distance from which on vectors that do not belong together cost nothing.

    Returns:
        An array without the axis of the vectors. It is NaN, with the gradient 0, where `similar` is neither 0 nor 1.

    Raises:
        ShapeError: if the shapes do not fit.

    Source: R. Hadsell, S. Chopra and Y. LeCun, "Dimensionality Reduction by Learning an Invariant Mapping", Computer
    Vision and Pattern Recognition 2006.

    Example:
        >>> import funcgrad as fg
        >>> x, y = fg.array([[0.0, 0.0], [0.0, 0.0]]), fg.array([[3.0, 4.0], [3.0, 4.0]])
        >>> fg.losses.contrastive_loss(x, y, fg.array([True, False]), margin=6.0)
        Array([12.5,  0.5], dtype=float32)
    """
    (first, second, similar), dtype = working_precision(first, second, similar)
    check_same_shape("contrastive_loss", first=first, second=second)
    axis = normalize_axis("contrastive_loss", axis, first.ndim)
    difference = first - second
    squared = (difference * difference).sum(axis=axis)
    if similar.ndim:
        check_same_shape("contrastive_loss", similar=similar, distances=squared)
    missing = relu(margin - _root(squared, 2))
    loss = 0.5 * np.where(similar == 1, squared, missing * missing)
    return cast(only_where(np.logical_or(similar == 0, similar == 1), loss), dtype)
