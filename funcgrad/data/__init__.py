"""Data: datasets, what can be made of them, and loaders that make batches, with workers and without.

>>> import funcgrad as fg
>>> digits = fg.data.load("digits")
>>> train, test = fg.data.split(digits, [0.8, 0.2], key=fg.random.key(0))
>>> loader = fg.data.DataLoader(train, batch_size=128, shuffle_key=fg.random.key(1), drop_last=True)
>>> for batch in loader:
...     pass
>>> batch["image"].shape, batch["label"].dtype
((128, 8, 8), dtype('int32'))
"""

from funcgrad.data.augmentations import random_brightness, random_contrast, random_crop, random_erase, random_flip
from funcgrad.data.catalog import load
from funcgrad.data.collating import stack
from funcgrad.data.datasets import ArrayDataset, Dataset, IterableDataset
from funcgrad.data.formats import read_cifar_binary, read_cifar_python, read_idx, read_stl, read_svhn
from funcgrad.data.images import ImageFiles, ImageFolder, read_image
from funcgrad.data.loader import DataLoader
from funcgrad.data.numpy_files import read_numpy
from funcgrad.data.tables import read_csv, read_parquet
from funcgrad.data.transforming import Subset, augment, batch, filter, map, shuffle, split

__all__ = [
    "ArrayDataset",
    "DataLoader",
    "Dataset",
    "ImageFiles",
    "ImageFolder",
    "IterableDataset",
    "Subset",
    "augment",
    "batch",
    "filter",
    "load",
    "map",
    "random_brightness",
    "random_contrast",
    "random_crop",
    "random_erase",
    "random_flip",
    "read_cifar_binary",
    "read_cifar_python",
    "read_csv",
    "read_idx",
    "read_image",
    "read_numpy",
    "read_parquet",
    "read_stl",
    "read_svhn",
    "shuffle",
    "split",
    "stack",
]
