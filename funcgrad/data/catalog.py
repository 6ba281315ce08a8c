"""Real datasets by name: those that Python packages ship, and published ones from a folder. Nothing is downloaded."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import numpy

from funcgrad.data import formats
from funcgrad.data.datasets import ArrayDataset
from funcgrad.data.images import ImageFiles
from funcgrad.data.packages import needed
from funcgrad.errors import ArgumentError, DataError

Arrays = dict[str, numpy.ndarray]
Split = Literal["train", "test"]

# The tables of scikit-learn, and whether their targets are classes.
_TABLES = {"breast_cancer": True, "diabetes": False, "iris": True, "linnerud": False, "wine": True}

_FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
_DIGITS = tuple("0123456789")


def load(name: str, folder: str | os.PathLike | None = None, *, split: Split | None = None, size: Any = None) -> Any:
    """A real dataset.

    | name | from | examples |
    |---|---|---|
    | "digits" | scikit-learn | 1797 handwritten digits: "image" uint8[8,8] from 0 to 16, "label" |
    | "iris", "wine", "breast_cancer" | scikit-learn | "features" float32, "label" |
    | "diabetes", "linnerud" | scikit-learn | "features" float32, "target" float32 |
    | "images" | scikit-image | the pictures that it ships: "image" uint8[height,width,3] |
    | "lfw_subset" | scikit-image | 200 grey patches, half of them faces: "image" float32[25,25], "label" |
    | "mnist", "fashion_mnist", "kmnist" | a folder | "image" uint8[28,28], "label" |
    | "cifar10", "cifar100" | a folder | "image" uint8[32,32,3], "label"; cifar100 also "coarse_label" |
    | "svhn" | a folder | "image" uint8[32,32,3], "label" |
    | "stl10" | a folder | "image" uint8[96,96,3], "label" |

    Labels are int32. Published datasets are read from the files that their authors distribute, unpacked from the
    archives they come in: the IDX files of MNIST and its relatives, compressed or not; the python or the binary version
    of CIFAR. They may lie deeper inside of the folder.

    Arguments:
        name: one of those in the table.
        folder: where the files are, for the datasets from a folder.
        split: "train" or "test", for the datasets from a folder.
        size: (height, width) to resize to, for "images", which otherwise keep their own.

    Returns:
        An `ArrayDataset`, and for "images" an `ImageFiles`. Its `metadata` names the "classes" or "features" where the
        source names them.

    Raises:
        ArgumentError: for an unknown name, and for arguments that do not fit the name.
        DataError: if files are missing or damaged.
        MissingPackageError: if the package is not installed.

    Example:
        >>> import funcgrad as fg
        >>> iris = fg.data.load("iris")
        >>> iris, iris.metadata["classes"]
        (ArrayDataset({features: float32[150,4], label: int32[150]}), ('setosa', 'versicolor', 'virginica'))
    """
    if size is not None and name != "images":
        raise ArgumentError(f"load got a size for {name!r}, and only the pictures of 'images' are resized.")
    if name in PACKAGED:
        if folder is not None or split is not None:
            raise ArgumentError(
                f"load got a folder or a split for {name!r}, which comes as a whole from a package; leave them out, "
                "and divide it with fg.data.split."
            )
        return _pictures(size) if name == "images" else PACKAGED[name](name)
    if name not in PUBLISHED:
        raise ArgumentError(f"there is no dataset {name!r}; choose from {', '.join([*PACKAGED, *PUBLISHED])}.")
    if folder is None or split not in ("train", "test"):
        raise ArgumentError(
            f"load needs folder= and split='train' or 'test' for {name!r}, which is read from the files that its "
            "authors publish; funcgrad downloads nothing."
        )
    if not Path(folder).is_dir():
        raise DataError(f"there is no folder {folder}; give the one with the files of {name}.")
    arrays, classes = PUBLISHED[name](name, Path(folder), split)
    if len({len(array) for array in arrays.values()}) > 1:
        lengths = ", ".join(f"{len(array)} of {key}" for key, array in arrays.items())
        raise DataError(f"the files of {name} in {folder} do not belong together: they hold {lengths}.")
    return ArrayDataset(arrays, {"classes": classes} if classes else {})


# From packages


def _digits(name: str) -> ArrayDataset:
    content = needed("sklearn.datasets", "scikit-learn", "the dataset 'digits'").load_digits()
    arrays = {"image": content.images.astype(numpy.uint8), "label": content.target.astype(numpy.int32)}
    return ArrayDataset(arrays, {"classes": _DIGITS})


def _table(name: str) -> ArrayDataset:
    content = getattr(needed("sklearn.datasets", "scikit-learn", f"the dataset {name!r}"), f"load_{name}")()
    arrays = {"features": content.data.astype(numpy.float32)}
    metadata: dict[str, Any] = {"features": tuple(map(str, content.feature_names))}
    if _TABLES[name]:
        arrays["label"] = content.target.astype(numpy.int32)
        metadata["classes"] = tuple(map(str, content.target_names))
    else:
        arrays["target"] = content.target.astype(numpy.float32)
    return ArrayDataset(arrays, metadata)


def _shipped(purpose: str) -> Path:
    """Where scikit-image keeps its pictures: read as files, since its functions look for others to download."""
    return Path(needed("skimage", "scikit-image", purpose).__file__).parent / "data"


def _faces(name: str) -> ArrayDataset:
    file = _shipped("the dataset 'lfw_subset'") / "lfw_subset.npy"
    if not file.exists():
        raise DataError("this version of scikit-image does not ship lfw_subset; install another one, such as 0.25.")
    images = numpy.load(file, allow_pickle=False).astype(numpy.float32)
    label = numpy.repeat(numpy.array([1, 0], numpy.int32), len(images) // 2)  # the first half are the faces
    return ArrayDataset({"image": images, "label": label}, {"classes": ("other", "face")})


def _pictures(size: Any) -> ImageFiles:
    folder = _shipped("the dataset 'images'")
    files = sorted([*folder.glob("*.png"), *folder.glob("*.jpg")])
    if not files:
        raise DataError("this version of scikit-image ships no pictures; install another one, such as 0.25.")
    return ImageFiles(files, size=size)


PACKAGED: dict[str, Callable[[str], Any]] = {
    "digits": _digits,
    **dict.fromkeys(_TABLES, _table),
    "images": lambda name: _pictures(None),
    "lfw_subset": _faces,
}


# From a folder


def _find(name: str, folder: Path, *spellings: str) -> Path:
    """The file in the folder, or deeper inside of it, that has one of these names, the first of them preferred."""
    found = _find_if_there(folder, spellings)
    if found is None:
        raise DataError(
            f"{folder} holds none of the files {', '.join(spellings)}, which {name} needs; unpack the published "
            "archive there."
        )
    return found


def _find_if_there(folder: Path, spellings: Iterable[str]) -> Path | None:
    for spelling in spellings:
        files = sorted((file for file in folder.rglob(spelling) if file.is_file()), key=lambda file: len(file.parts))
        if files:
            return files[0]
    return None


def _mnist(name: str, folder: Path, split: Split) -> tuple[Arrays, tuple[str, ...]]:
    prefix = "train" if split == "train" else "t10k"
    arrays = {}
    for key, kind, rank in (("image", "images", 3), ("label", "labels", 1)):
        stems = (f"{prefix}-{kind}-idx{rank}-ubyte", f"{prefix}-{kind}.idx{rank}-ubyte")
        path = _find(name, folder, *(stem + ending for stem in stems for ending in ("", ".gz")))
        array = formats.read_idx(path)
        if array.ndim != rank:
            raise DataError(f"{path} holds an array of shape {array.shape}, and the {kind} of {name} have {rank} axes.")
        arrays[key] = array if key == "image" else array.astype(numpy.int32)
    return arrays, {"mnist": _DIGITS, "fashion_mnist": _FASHION}.get(name, ())


def _cifar(name: str, folder: Path, split: Split) -> tuple[Arrays, tuple[str, ...]]:
    coarse = name == "cifar100"
    if coarse:
        stems = [split]
    else:
        stems = [f"data_batch_{i}" for i in range(1, 6)] if split == "train" else ["test_batch"]
    parts = []
    for stem in stems:
        path = _find(name, folder, stem, f"{stem}.bin")
        binary = path.suffix == ".bin"
        parts.append(formats.read_cifar_binary(path, coarse=coarse) if binary else formats.read_cifar_python(path))
        if coarse and "coarse_label" not in parts[-1]:
            raise DataError(f"{path} has no coarse labels, so it is not of CIFAR-100; check the folder.")
    arrays = {key: numpy.concatenate([part[key] for part in parts]) for key in parts[0]}
    return arrays, _cifar_classes(folder, coarse)


def _cifar_classes(folder: Path, coarse: bool) -> tuple[str, ...]:
    """The names of the classes, from the file beside the images, if it is there."""
    path = _find_if_there(folder, ["meta", "fine_label_names.txt"] if coarse else ["batches.meta", "batches.meta.txt"])
    if path is None:
        return ()
    if path.suffix == ".txt":
        return tuple(path.read_text(encoding="utf-8").split())
    names = formats.read_plain_pickle(path).get(b"fine_label_names" if coarse else b"label_names", ())
    return tuple(name.decode() if isinstance(name, bytes) else name for name in names)


def _svhn(name: str, folder: Path, split: Split) -> tuple[Arrays, tuple[str, ...]]:
    return formats.read_svhn(_find(name, folder, f"{split}_32x32.mat")), _DIGITS


def _stl(name: str, folder: Path, split: Split) -> tuple[Arrays, tuple[str, ...]]:
    arrays = formats.read_stl(_find(name, folder, f"{split}_X.bin"), _find(name, folder, f"{split}_y.bin"))
    path = _find_if_there(folder, ["class_names.txt"])
    return arrays, tuple(path.read_text(encoding="utf-8").split()) if path else ()


PUBLISHED: dict[str, Callable[[str, Path, Split], tuple[Arrays, tuple[str, ...]]]] = {
    **dict.fromkeys(("mnist", "fashion_mnist", "kmnist"), _mnist),
    **dict.fromkeys(("cifar10", "cifar100"), _cifar),
    "svhn": _svhn,
    "stl10": _stl,
}
