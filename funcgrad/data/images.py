"""Folders of images as datasets."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy

from funcgrad.data.datasets import checked_index
from funcgrad.data.packages import needed
from funcgrad.errors import DataError

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm")


class ImageFolder:
    """A folder with one folder of images for each class. Pillow reads them, each when it is asked for.

    The examples are dicts: "image" is uint8, of shape (height, width, channels), or (height, width) for modes of one
    channel; "label" is the number of the class, in the sorted order of the folders' names.

    Arguments:
        path: of the folder. Images may lie deeper inside of the folder of their class. Hidden files and files with
            other extensions are left out.
        mode: into which colours to convert: "RGB", "L" (grey), "RGBA", or None to keep each image's own.
        size: (height, width) to which each image is resized; by default they keep their sizes, which have to be equal
            for a batch unless they are cropped with `fg.data.map`.
        extensions: of the files that are images.

    Raises:
        DataError: if there is no folder, or no images in it; and for an image that cannot be read, when it is asked
        for. MissingPackageError: if Pillow is not installed.

    Example:
        >>> from pathlib import Path
        >>> import numpy
        >>> from PIL import Image
        >>> import funcgrad as fg
        >>> for kind in ("cats", "dogs"):
        ...     Path("pets", kind).mkdir(parents=True, exist_ok=True)
        ...     Image.fromarray(numpy.zeros((4, 6, 3), numpy.uint8)).save(f"pets/{kind}/1.png")
        >>> pets = fg.data.ImageFolder("pets")
        >>> pets.classes, pets[1]["label"], pets[1]["image"].shape
        (('cats', 'dogs'), 1, (4, 6, 3))
    """

    def __init__(
        self,
        path: str | os.PathLike,
        *,
        mode: str | None = "RGB",
        size: tuple[int, int] | None = None,
        extensions: Sequence[str] = EXTENSIONS,
    ):
        needed("PIL.Image", "pillow", "reading images")
        self.path, self.mode, self.size = Path(path), mode, size
        if not self.path.is_dir():
            raise DataError(f"there is no folder {self.path}; check the path.")
        folders = sorted(child for child in self.path.iterdir() if child.is_dir() and not child.name.startswith("."))
        self.classes: tuple[str, ...] = tuple(folder.name for folder in folders)
        self.files: list[tuple[str, int]] = []
        for label, folder in enumerate(folders):
            files = [file for file in folder.rglob("*") if file.suffix.lower() in extensions and file.is_file()]
            self.files += [(str(file), label) for file in sorted(files) if not file.name.startswith(".")]
        if not self.files:
            raise DataError(
                f"{self.path} holds no images; it needs a folder for each class, with files that end in "
                f"{', '.join(extensions)}."
            )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Any]:
        path, label = self.files[checked_index(index, len(self.files))]
        return {"image": read_image(path, mode=self.mode, size=self.size), "label": label}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        return f"ImageFolder({str(self.path)!r}, {len(self)} images, {len(self.classes)} classes)"


def read_image(
    path: str | os.PathLike, *, mode: str | None = "RGB", size: tuple[int, int] | None = None
) -> numpy.ndarray:
    """An image file as an array.

    Arguments:
        path: of the file.
        mode: into which colours to convert: "RGB", "L" (grey), "RGBA", or None to keep the image's own.
        size: (height, width) to resize it to, bilinearly; by default its own.

    Returns:
        A uint8 NumPy array of shape (height, width, channels), or (height, width) for modes of one channel. With mode
        None the dtype is that of the file.

    Raises:
        DataError: if the file is no image or is damaged.
        MissingPackageError: if Pillow is not installed.
    """
    image_module = needed("PIL.Image", "pillow", "reading images")
    try:
        with image_module.open(path) as image:
            converted = image if mode is None else image.convert(mode)
            if size is not None:
                converted = converted.resize((size[1], size[0]), image_module.Resampling.BILINEAR)
            return numpy.array(converted)
    except FileNotFoundError:
        raise DataError(f"there is no image {path}; check the path.") from None
    except (OSError, SyntaxError, ValueError) as error:  # Pillow's ways of saying that a file is damaged
        raise DataError(f"the image {path} cannot be read ({error}).") from error


class ImageFiles:
    """Image files as a dataset of dicts with one entry, "image": an array as `read_image` gives it.

    Arguments:
        files: the paths.
        mode: as for `read_image`.
        size: as for `read_image`.
    """

    def __init__(
        self,
        files: Sequence[str | os.PathLike],
        *,
        mode: str | None = "RGB",
        size: tuple[int, int] | None = None,
    ):
        needed("PIL.Image", "pillow", "reading images")
        self.files, self.mode, self.size = [str(file) for file in files], mode, size

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the files, without folders and extensions."""
        return tuple(Path(file).stem for file in self.files)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"image": read_image(self.files[checked_index(index, len(self))], mode=self.mode, size=self.size)}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[index] for index in range(len(self)))
