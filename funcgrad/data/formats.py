"""The file formats in which well-known datasets are published."""

from __future__ import annotations

import gzip
import math
import os
import pickle
import zlib
from typing import Any

import numpy

from funcgrad.errors import DataError

Path = str | os.PathLike

_IDX_DTYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
CIFAR_SIDE, STL_SIDE = 32, 96


def read_idx(path: Path) -> numpy.ndarray:
    """An array from a file in the IDX format, that of MNIST and its relatives; compressed with gzip or not.

    Arguments:
        path: of the file.

    Returns:
        A NumPy array of the shape and dtype that the file says.

    Raises:
        DataError: if the file is none, or shorter or longer than it says.

    Source: Y. LeCun, C. Cortes and C. Burges, "The MNIST database of handwritten digits".

    Example:
        >>> from pathlib import Path
        >>> import funcgrad as fg
        >>> _ = Path("labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1]))
        >>> fg.data.read_idx("labels-idx1-ubyte")
        array([7, 2, 1], dtype=uint8)
    """
    content = _read(path)
    rank = content[3] if len(content) > 3 else 0
    if len(content) < 4 + 4 * rank or content[:2] != b"\0\0" or content[2] not in _IDX_DTYPES:
        raise DataError(f"{path} is not an IDX file: it begins with {content[:4].hex(' ') or 'nothing'}.")
    dtype = numpy.dtype(_IDX_DTYPES[content[2]])
    shape = tuple(numpy.frombuffer(content, ">u4", rank, 4).tolist())
    body = memoryview(content)[4 + 4 * rank :]
    if body.nbytes != math.prod(shape) * dtype.itemsize:
        raise DataError(
            f"{path} says that it holds an array of shape {shape}, which has {math.prod(shape) * dtype.itemsize} "
            f"bytes, and has {body.nbytes}; it is damaged, so get it again."
        )
    return numpy.frombuffer(body, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def _read(path: Path) -> bytes:
    with open(path, "rb") as file:
        content = file.read()
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is damaged ({error}); get it again.") from error


def _image_rows(rows: numpy.ndarray, side: int) -> numpy.ndarray:
    """Rows of bytes, all of red first and then green and blue, as images with the channels last."""
    return numpy.ascontiguousarray(rows.reshape(-1, 3, side, side).transpose(0, 2, 3, 1))


def read_cifar_python(path: Path) -> dict[str, numpy.ndarray]:
    """A file of CIFAR-10 or CIFAR-100 in the "python version", which is a pickle.

    Only arrays, lists, numbers and texts are read from it: no code that a pickle names is ever called, so that a file
    of unknown origin can do no harm.

    Arguments:
        path: of the file.

    Returns:
        A dict of "image", uint8 of shape (n, 32, 32, 3), and "label", int32 of shape (n,); for CIFAR-100 also
        "coarse_label".

    Raises:
        DataError: if the file is none, or names code.

    Source: A. Krizhevsky, "Learning multiple layers of features from tiny images",
    https://www.cs.toronto.edu/~kriz/cifar.html.
    """
    content = read_plain_pickle(path)
    try:
        images = numpy.asarray(content[b"data"], numpy.uint8)
        labels = content[b"labels"] if b"labels" in content else content[b"fine_labels"]
        arrays = {"image": _image_rows(images, CIFAR_SIDE), "label": numpy.asarray(labels, numpy.int32)}
        if b"coarse_labels" in content:
            arrays["coarse_label"] = numpy.asarray(content[b"coarse_labels"], numpy.int32)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} does not hold images of CIFAR ({error}).") from error
    return arrays


def read_cifar_binary(path: Path, *, coarse: bool = False) -> dict[str, numpy.ndarray]:
    """A file of CIFAR-10, or with `coarse` of CIFAR-100, in the "binary version".

    Arguments:
        path: of the file.
        coarse: whether each image has two labels, coarse and fine, as in CIFAR-100.

    Returns:
        What `read_cifar_python` returns.

    Raises:
        DataError: if the length of the file does not fit.

    Source: https://www.cs.toronto.edu/~kriz/cifar.html.
    """
    width = (2 if coarse else 1) + 3 * CIFAR_SIDE**2
    content = numpy.frombuffer(_read(path), numpy.uint8)
    if not content.size or content.size % width:
        raise DataError(
            f"{path} has {content.size} bytes, which is not a number of images of {width} bytes each; it is damaged, "
            "or of another dataset."
        )
    rows = content.reshape(-1, width)
    arrays = {"image": _image_rows(rows[:, -3 * CIFAR_SIDE**2 :], CIFAR_SIDE)}
    arrays["label"] = rows[:, 1 if coarse else 0].astype(numpy.int32)
    if coarse:
        arrays["coarse_label"] = rows[:, 0].astype(numpy.int32)
    return arrays


def read_stl(images: Path, labels: Path) -> dict[str, numpy.ndarray]:
    """The images and the labels of STL-10, from its binary files.

    Arguments:
        images: the file of images, such as train_X.bin, which has columns before rows.
        labels: the file of labels, such as train_y.bin, with numbers from 1.

    Returns:
        A dict of "image", uint8 of shape (n, 96, 96, 3), and "label", int32 of shape (n,), with numbers from 0.

    Raises:
        DataError: if the lengths of the files do not fit.

    Source: A. Coates, H. Lee and A. Y. Ng, "An analysis of single layer networks in unsupervised feature learning",
    https://cs.stanford.edu/~acoates/stl10.
    """
    pixels, numbers = (numpy.frombuffer(_read(path), numpy.uint8) for path in (images, labels))
    if not numbers.size or pixels.size != numbers.size * 3 * STL_SIDE**2:
        raise DataError(
            f"{images} has {pixels.size} bytes for the {numbers.size} labels of {labels}, and an image of STL-10 has "
            f"{3 * STL_SIDE**2}; get both files again."
        )
    image = numpy.ascontiguousarray(_image_rows(pixels, STL_SIDE).swapaxes(1, 2))
    return {"image": image, "label": numbers.astype(numpy.int32) - 1}


def read_svhn(path: Path) -> dict[str, numpy.ndarray]:
    """A file of SVHN with cropped digits, such as train_32x32.mat.

    Arguments:
        path: of the file.

    Returns:
        A dict of "image", uint8 of shape (n, 32, 32, 3), and "label", int32 of shape (n,): the digits.

    Raises:
        DataError: if the file is none.

    Source: Y. Netzer and others, "Reading digits in natural images with unsupervised feature learning",
    http://ufldl.stanford.edu/housenumbers.
    """
    from scipy.io import loadmat

    try:
        content = loadmat(os.fspath(path))
        image = numpy.ascontiguousarray(numpy.moveaxis(content["X"], 3, 0))
        label = content["y"].reshape(-1).astype(numpy.int32) % 10  # the digit 0 is written as 10
    except Exception as error:  # SciPy raises exceptions of many kinds for what is no such file
        raise DataError(f"{path} does not hold images of SVHN ({error}).") from error
    return {"image": image, "label": label}


def read_plain_pickle(path: Path) -> Any:
    """What a pickle holds, if that is nothing but arrays of numbers, containers, numbers and texts.

    Raises:
        DataError: if it holds anything else, or is damaged.
    """
    with open(path, "rb") as file:
        try:
            return _finished(_PlainUnpickler(file, encoding="bytes").load())
        except DataError:
            raise
        except Exception as error:  # a damaged pickle can raise anything
            raise DataError(f"{path} is not a pickle that can be read ({type(error).__name__}: {error}).") from error


# A pickle is a program: it names functions, calls them, and sets the state of what they return. The only names that are
# understood here are those of a pickled array, and they stand for the objects below, not for NumPy's: these do nothing
# but keep what they are given. They have no attributes that a pickle could set.


class _PlainDtype:
    __slots__ = ("name", "order")

    def __init__(self, name: Any, *_: Any):
        self.name = _text(name)
        self.order: Any = "="

    def __setstate__(self, state: Any) -> None:
        self.order = _text(state[1]).replace("|", "=")

    def finish(self) -> numpy.dtype:
        dtype = numpy.dtype(self.name)
        if dtype.kind not in "biufc":
            raise DataError(f"a pickle of data holds an array of {self.name!r}; arrays of numbers only are read.")
        return dtype.newbyteorder(self.order)


class _PlainArray:
    __slots__ = ("state",)

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def finish(self) -> numpy.ndarray:
        _, shape, dtype, fortran, content = self.state
        return numpy.frombuffer(content, dtype.finish()).reshape(shape, order="F" if fortran else "C")


class _MakeArray:
    __slots__ = ()

    def __call__(self, *_: Any) -> _PlainArray:
        return _PlainArray()


class _MakeDtype:
    __slots__ = ()

    def __call__(self, *arguments: Any) -> _PlainDtype:
        return _PlainDtype(*arguments)


class _MakeBytes:
    """Python 3 writes bytes so in the protocols of Python 2."""

    __slots__ = ()

    def __call__(self, text: str, encoding: Any) -> bytes:
        return text.encode("latin1")


_PLAIN = {
    ("numpy.core.multiarray", "_reconstruct"): _MakeArray(),
    ("numpy._core.multiarray", "_reconstruct"): _MakeArray(),
    ("numpy", "ndarray"): None,  # an argument of the one before
    ("numpy", "dtype"): _MakeDtype(),
    ("_codecs", "encode"): _MakeBytes(),
}


class _PlainUnpickler(pickle.Unpickler):
    """An unpickler for which the names above are all there is."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _PLAIN[module, name]
        except KeyError:
            raise DataError(
                f"a pickle of data names {module}.{name}, which is not data; nothing was called, nothing was read."
            ) from None


def _finished(value: Any) -> Any:
    """What was read, with arrays in the place of what stands for them."""
    if isinstance(value, (_PlainArray, _PlainDtype)):
        return value.finish()
    if isinstance(value, dict):
        return {key: _finished(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_finished(item) for item in value)
    return value


def _text(value: Any) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else str(value)
