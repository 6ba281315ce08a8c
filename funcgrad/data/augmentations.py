"""Random changes of images, for `fg.data.augment`: functions of a key and of one image of shape (height, width, ...).

They work on NumPy arrays and on funcgrad's, and give a NumPy array of the dtype of the image. They are meant for
loading; on whole batches, and under `jit` and `grad`, use `fg.numpy`.
"""

from __future__ import annotations

from typing import Any

import numpy

from funcgrad.annotations import Key
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.primitives.randomness import encrypt_integers
from funcgrad.random import uniform


def _image(name: str, image: Any) -> numpy.ndarray:
    image = numpy.asarray(image)
    if image.ndim < 2:
        raise ShapeError(f"{name} got shape {image.shape}; an image has the axes height and width, and then channels.")
    return image


def _draws(key: Key, count: int) -> list[float]:
    """The numbers of `uniform(key, (count,))`. For so few of them, Python's integers are much quicker than arrays."""
    words = numpy.asarray(key)
    if words.shape != (2,) or words.dtype != numpy.uint32:
        return uniform(key, (count,)).tolist()  # which says what is wrong
    first, second = words.tolist()
    pairs = [encrypt_integers(first, second, 0, index) for index in range(count)]
    return [((upper ^ lower) >> 9) * 2.0**-23 for upper, lower in pairs]


def random_flip(key: Key, image: Any, *, axis: int = 1, probability: float = 0.5) -> numpy.ndarray:
    """The image, mirrored or not.

    Arguments:
        key: a random key.
        image: of shape (height, width, ...).
        axis: 1 to mirror left and right, 0 for up and down.
        probability: of being mirrored.

    Raises:
        ShapeError: for fewer than two axes.

    Example:
        >>> import numpy
        >>> import funcgrad as fg
        >>> fg.data.random_flip(fg.random.key(0), numpy.array([[1, 2, 3]]), probability=1.0)
        array([[3, 2, 1]])
    """
    image = _image("random_flip", image)
    return numpy.flip(image, axis) if _draws(key, 1)[0] < probability else image


def random_crop(key: Key, image: Any, *, padding: int = 4, size: tuple[int, int] | None = None) -> numpy.ndarray:
    """A part of the image at a random place, after zeros were put around it.

    Arguments:
        key: a random key.
        image: of shape (height, width, ...).
        padding: how many rows and columns of zeros are put on each side.
        size: (height, width) of the part; by default that of the image, which is then moved by up to `padding`.

    Returns:
        An array of shape (*size, ...).

    Raises:
        ShapeError: for fewer than two axes.
        ArgumentError: if the part is larger than the padded image.

    Example:
        >>> import numpy
        >>> import funcgrad as fg
        >>> fg.data.random_crop(fg.random.key(0), numpy.ones((32, 32, 3)), padding=4).shape
        (32, 32, 3)
    """
    image = _image("random_crop", image)
    rows, columns = image.shape[:2]
    height, width = size or (rows, columns)
    padded = numpy.zeros((rows + 2 * padding, columns + 2 * padding, *image.shape[2:]), image.dtype)
    padded[padding : padding + rows, padding : padding + columns] = image
    rows, columns = (room - taken + 1 for room, taken in zip(padded.shape[:2], (height, width), strict=True))
    if rows < 1 or columns < 1:
        raise ArgumentError(
            f"random_crop got size={(height, width)} for an image of shape {image.shape} with padding={padding}; "
            "choose a smaller size or more padding."
        )
    draws = _draws(key, 2)
    top, left = int(draws[0] * rows), int(draws[1] * columns)
    return padded[top : top + height, left : left + width]


def random_brightness(key: Key, image: Any, *, amount: float = 0.2) -> numpy.ndarray:
    """The image times a random factor between 1 - amount and 1 + amount. Integers are rounded and stay in range.

    Arguments:
        key: a random key.
        image: of shape (height, width, ...).
        amount: 0 or more.

    Example:
        >>> import numpy
        >>> import funcgrad as fg
        >>> fg.data.random_brightness(fg.random.key(0), numpy.full((1, 2), 250, numpy.uint8), amount=0.0)
        array([[250, 250]], dtype=uint8)
    """
    image = _image("random_brightness", image)
    return _like(image, image * _factor(key, amount))


def random_contrast(key: Key, image: Any, *, amount: float = 0.2) -> numpy.ndarray:
    """The differences of the image from its mean, times a random factor between 1 - amount and 1 + amount.

    Arguments:
        key: a random key.
        image: of shape (height, width, ...).
        amount: 0 or more.

    Example:
        >>> import numpy
        >>> import funcgrad as fg
        >>> fg.data.random_contrast(fg.random.key(0), numpy.ones((2, 2)), amount=0.5)
        array([[1., 1.],
               [1., 1.]])
    """
    image = _image("random_contrast", image)
    mean = numpy.mean(image, axis=(0, 1), dtype=numpy.float32, keepdims=True)
    return _like(image, mean + (image - mean) * _factor(key, amount))


def random_erase(key: Key, image: Any, *, size: tuple[int, int] = (8, 8), probability: float = 0.5) -> numpy.ndarray:
    """The image with a rectangle of zeros at a random place, or without.

    Source: T. DeVries and G. W. Taylor, "Improved regularization of convolutional neural networks with cutout",
    https://arxiv.org/abs/1708.04552. The centre of the rectangle lies in the image, so part of it may be outside.

    Arguments:
        key: a random key.
        image: of shape (height, width, ...).
        size: (height, width) of the rectangle.
        probability: that there is one.

    Example:
        >>> import numpy
        >>> import funcgrad as fg
        >>> fg.data.random_erase(fg.random.key(0), numpy.ones((2, 2)), size=(4, 4), probability=1.0)
        array([[0., 0.],
               [0., 0.]])
    """
    image = _image("random_erase", image)
    whether, row, column = _draws(key, 3)
    if whether >= probability:
        return image
    top = int(row * image.shape[0]) - size[0] // 2
    left = int(column * image.shape[1]) - size[1] // 2
    result = image.copy()
    result[max(top, 0) : max(top + size[0], 0), max(left, 0) : max(left + size[1], 0)] = 0
    return result


def _factor(key: Key, amount: float) -> numpy.float32:
    return numpy.float32(1 + amount * (2 * _draws(key, 1)[0] - 1))


def _like(image: numpy.ndarray, changed: numpy.ndarray) -> numpy.ndarray:
    """The changed image in the dtype of the image."""
    if image.dtype.kind in "iu":
        limits = numpy.iinfo(image.dtype)
        changed = numpy.clip(numpy.rint(changed), limits.min, limits.max)
    return changed.astype(image.dtype)
