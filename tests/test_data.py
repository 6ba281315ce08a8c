"""Datasets: arrays, what is made of datasets, files of all kinds, and the datasets with names."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import sys

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

import funcgrad as fg

KEY = fg.random.key(0)


class Counter:
    """A dataset to iterate over."""

    def __init__(self, stop):
        self.stop = stop

    def __iter__(self):
        return iter(range(self.stop))


# Arrays


def test_an_array_dataset_has_the_rows_of_its_arrays():
    dataset = fg.data.ArrayDataset({"x": numpy.arange(6).reshape(3, 2), "y": fg.array([1.0, 2.0, 3.0])})

    assert len(dataset) == 3
    assert dataset[-1]["x"].tolist() == [4, 5] and dataset[-1]["y"] == 3.0
    assert [example["y"] for example in dataset] == [1.0, 2.0, 3.0]
    assert dataset.take(numpy.array([2, 0]))["x"].tolist() == [[4, 5], [0, 1]]
    assert isinstance(dataset, fg.data.Dataset) and isinstance([], fg.data.Dataset)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: fg.data.ArrayDataset({"x": numpy.ones(3), "y": numpy.ones(4)}), "ShapeError", r"3 .*'x'.* 4 .*'y'"),
        (lambda: fg.data.ArrayDataset({"x": numpy.float32(1)}), "ShapeError", "without axes at "),
        (lambda: fg.data.ArrayDataset({}), "ArgumentTypeError", "without arrays"),
        (lambda: fg.data.ArrayDataset([1, 2]), "ArgumentTypeError", "int 1, which is not an array"),
        (lambda: fg.data.ArrayDataset(numpy.ones(3))[3], "OutOfBoundsError", "index 3 .* 3 examples"),
        (lambda: fg.data.ArrayDataset(numpy.ones(3))["x"], "IndexTypeError", "not with str"),
        (lambda: fg.data.Subset(range(3), [0, 3]), "OutOfBoundsError", "index 3"),
        (lambda: fg.data.map(abs, 3), "ArgumentTypeError", "map got int"),
        (lambda: fg.data.map(abs, (x for x in range(3))), "ArgumentTypeError", "can be read only once"),
        (lambda: fg.data.batch([1, 2], 0), "ArgumentError", "batch_size=0"),
        (lambda: fg.data.batch([numpy.ones(2), numpy.ones(3)], 2)[0], "ShapeError", r"example 1 .*\(3,\)"),
        (lambda: fg.data.stack([]), "ArgumentError", "no examples"),
        (lambda: fg.data.stack([{"x": 1}, {"y": 1}]), "TreeError", "example 1 of a batch"),
        (lambda: fg.data.shuffle(KEY, Counter(3)), "ArgumentError", "needs a buffer_size"),
        (lambda: fg.data.shuffle(KEY, [1], buffer_size=3), "ArgumentError", "leave it out"),
        (lambda: fg.data.split([1, 2, 3], [2, 2]), "ArgumentError", "integers that sum to 3"),
        (lambda: fg.data.split([1, 2, 3], [4, -1]), "ArgumentError", "none of them negative"),
        (lambda: fg.data.split([1, 2, 3], [0.5, 0.6]), "ArgumentError", "fractions that sum to 1"),
        (lambda: fg.data.split(Counter(3), [1, 2]), "ArgumentTypeError", "can only be iterated"),
        (lambda: fg.data.augment(lambda key, x: x, 3, [1]), "ArgumentTypeError", "random key"),
        (lambda: fg.data.random_flip(KEY, numpy.ones(3)), "ShapeError", "height and width"),
        (lambda: fg.data.random_crop(KEY, numpy.ones((3, 3)), size=(30, 3)), "ArgumentError", "smaller size"),
    ],
)
def test_what_makes_no_sense_is_refused(make, error, message):
    with pytest.raises(getattr(fg.errors, error), match=message):
        make()


# What is made of datasets


def test_datasets_with_an_index_and_those_to_iterate_over_are_transformed_alike():
    for dataset in (range(7), Counter(7)):
        squares = fg.data.map(lambda x: x * x, dataset)
        even = fg.data.filter(lambda x: x % 2 == 0, squares)
        pairs = fg.data.batch(even, 3)
        assert list(squares) == list(squares) == [0, 1, 4, 9, 16, 25, 36]
        assert list(even) == [0, 4, 16, 36]
        assert [x.tolist() for x in pairs] == [[0, 4, 16], [36]]
        assert [x.tolist() for x in fg.data.batch(even, 3, drop_last=True)] == [[0, 4, 16]]
        augmented = fg.data.augment(lambda key, x: (x, fg.random.bits(key).item()), KEY, dataset)
        assert list(augmented) == list(augmented)
        assert len({draw for _, draw in augmented}) == 7


def test_an_example_is_made_when_it_is_asked_for():
    made = []
    dataset = fg.data.map(lambda x: made.append(x) or x, range(100))

    assert dataset[7] == 7 and made == [7]
    assert len(fg.data.batch(dataset, 30)) == 4 and made == [7]


@given(st.integers(0, 40), st.integers(0, 2**31))
def test_a_shuffled_dataset_has_the_same_examples(length, seed):
    key = fg.random.key(seed)
    order = list(fg.data.shuffle(key, range(length)))

    assert sorted(order) == list(range(length))
    assert order == list(fg.data.shuffle(key, range(length)))


@given(st.integers(0, 40), st.integers(1, 50), st.integers(0, 2**31))
def test_a_shuffled_stream_has_the_same_examples(length, buffer_size, seed):
    order = list(fg.data.shuffle(fg.random.key(seed), Counter(length), buffer_size=buffer_size))

    assert sorted(order) == list(range(length))
    assert all(example < position + buffer_size for position, example in enumerate(order))


@given(st.integers(0, 60), st.lists(st.integers(1, 9), min_size=1, max_size=4), st.booleans())
def test_the_parts_of_a_split_make_the_whole(length, weights, shuffled):
    fractions = [weight / sum(weights) for weight in weights]
    parts = fg.data.split(range(length), fractions, key=KEY if shuffled else None)

    together = [example for part in parts for example in part]
    assert sorted(together) == list(range(length)) and (shuffled or together == sorted(together))
    assert all(abs(len(part) - fraction * length) <= 1 for part, fraction in zip(parts, fractions, strict=True))


def test_batches_of_arrays_are_taken_whole():
    batches = fg.data.batch(fg.data.shuffle(KEY, fg.data.ArrayDataset(numpy.arange(5))), 2)

    assert sorted(numpy.concatenate(list(batches)).tolist()) == list(range(5))


def test_stack_makes_arrays_of_numbers():
    batch = fg.data.stack([(1, 2.0, True, 1j, numpy.int8(3)), (2, 3.0, False, 2j, numpy.int8(4))])

    assert [leaf.dtype.name for leaf in batch] == ["int32", "float32", "bool", "complex64", "int8"]
    assert fg.data.stack([1, 2.5]).tolist() == [1.0, 2.5]
    assert fg.data.stack([fg.array([1.0], dtype=fg.bfloat16)] * 2).dtype == fg.bfloat16


# Augmentations


def test_augmentations_keep_shape_and_dtype_and_are_functions_of_the_key():
    for image in (numpy.arange(192, dtype=numpy.uint8).reshape(8, 8, 3), numpy.ones((8, 8), numpy.float32)):
        for change in (
            fg.data.random_flip,
            fg.data.random_crop,
            fg.data.random_brightness,
            fg.data.random_contrast,
            lambda key, image: fg.data.random_erase(key, image, size=(3, 3)),
        ):
            before = image.copy()
            once, again = change(KEY, image), change(KEY, fg.array(image))
            assert once.shape == image.shape and once.dtype == image.dtype
            assert (once == again).all() and (image == before).all()


def test_augmentations_use_the_numbers_of_uniform():
    for key in fg.random.split(KEY, 20):
        factor = 0.8 + 0.4 * float(fg.random.uniform(key, (1,))[0])
        numpy.testing.assert_allclose(fg.data.random_brightness(key, numpy.ones((1, 1))), factor, rtol=1e-6)
    with pytest.raises(fg.errors.ArgumentTypeError, match="random key"):
        fg.data.random_flip(fg.random.split(KEY, 1), numpy.ones((1, 1)))


def test_augmentations_reach_all_that_they_should():
    image = numpy.arange(1, 17).reshape(4, 4)
    keys = list(fg.random.split(KEY, 300))
    flips = {tuple(fg.data.random_flip(key, image)[0]) for key in keys[:30]}
    corners = {int(fg.data.random_crop(key, image, padding=0, size=(2, 2))[0, 0]) for key in keys}
    erased = {int((fg.data.random_erase(key, image, size=(2, 2)) == 0).sum()) for key in keys}

    assert flips == {(1, 2, 3, 4), (4, 3, 2, 1)}
    assert corners == {1, 2, 3, 5, 6, 7, 9, 10, 11}
    assert erased == {0, 1, 2, 4}


# NumPy's files


@pytest.mark.parametrize("order", ["C", "F"])
def test_numpy_files_are_mapped(tmp_path, order):
    x = numpy.asarray(numpy.arange(6.0).reshape(3, 2), order=order)
    numpy.save(tmp_path / "x.npy", x)
    numpy.savez(tmp_path / "both.npz", x=x, y=numpy.arange(3))
    numpy.savez_compressed(tmp_path / "small.npz", x=x, y=numpy.arange(3))
    plain, both, small = (fg.data.read_numpy(tmp_path / name) for name in ("x.npy", "both.npz", "small.npz"))

    assert isinstance(plain.arrays, numpy.memmap) and isinstance(both.arrays["x"], numpy.memmap)
    assert not isinstance(small.arrays["x"], numpy.memmap)
    for dataset in (both, small, fg.data.read_numpy(tmp_path / "both.npz", memory_map=False)):
        assert (dataset.arrays["x"] == x).all() and dataset.arrays["y"].tolist() == [0, 1, 2]
    assert not isinstance(fg.data.read_numpy(tmp_path / "x.npy", memory_map=False).arrays, numpy.memmap)


def test_a_mapped_file_is_mapped_again_in_another_process(tmp_path):
    numpy.savez(tmp_path / "big.npz", x=numpy.arange(100_000), y=numpy.ones((100_000, 2)))
    dataset = fg.data.read_numpy(tmp_path / "big.npz")
    pickled = pickle.dumps(dataset)
    again = pickle.loads(pickled)

    assert len(pickled) < 2000
    assert again[99_999]["x"] == 99_999 and isinstance(again.arrays["y"], numpy.memmap)
    view = fg.data.ArrayDataset(dataset.arrays["x"][5:10])  # of which nobody knows where in the file it begins
    assert [*map(int, pickle.loads(pickle.dumps(view)))] == [5, 6, 7, 8, 9]


def test_other_files_are_no_numpy_files(tmp_path):
    numpy.save(tmp_path / "objects.npy", numpy.array([{}]), allow_pickle=True)
    numpy.savez(tmp_path / "objects.npz", x=numpy.array([{}]))
    (tmp_path / "text.npy").write_text("no numbers")
    (tmp_path / "empty.npy").write_bytes(b"")

    for name in ("objects.npy", "objects.npz", "text.npy", "empty.npy"):
        with pytest.raises(fg.errors.DataError, match=name):
            fg.data.read_numpy(tmp_path / name)


# Tables


def test_a_csv_file_is_read_by_columns(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text('id,size,kind,big\n1,0.5,"b, c",5000000000\n-2,,a,1\n\n3,1e3,a,2\n')
    table = fg.data.read_csv(path)

    assert table.arrays["id"].tolist() == [1, -2, 3] and table.arrays["id"].dtype == numpy.int32
    assert table.arrays["big"].dtype == numpy.int64
    numpy.testing.assert_array_equal(table.arrays["size"], numpy.array([0.5, numpy.nan, 1000], numpy.float32))
    assert table.arrays["kind"].tolist() == [1, 0, 0]
    assert table.metadata["categories"] == {"kind": ("a", "b, c")}
    assert fg.data.read_csv(path, columns=["size"], dtype=fg.float64).arrays["size"].dtype == numpy.float64


def test_a_csv_file_without_names(tmp_path):
    (tmp_path / "table.txt").write_text("1;2\n3;4\n")

    plain = fg.data.read_csv(tmp_path / "table.txt", header=False, delimiter=";")
    named = fg.data.read_csv(tmp_path / "table.txt", header=["a", "b"], delimiter=";")
    assert plain.arrays["1"].tolist() == named.arrays["b"].tolist() == [2, 4]


@pytest.mark.parametrize(
    ("text", "settings", "error", "message"),
    [
        ("a,b\n1,2\n3\n", {}, "DataError", "line 3 of .* has 1 fields, and there are 2 columns"),
        ("a,a\n1,2\n", {}, "DataError", "two columns of one name"),
        ("", {}, "DataError", "no rows"),
        ("a,b\n", {}, "DataError", "no rows"),
        ("a\n1\n", {"columns": ["c"]}, "ArgumentError", "no column 'c'; choose from a"),
        ("a\n1\n", {"dtype": fg.int32}, "ArgumentError", "floating dtype"),
    ],
)
def test_a_wrong_csv_file_says_what_is_wrong(tmp_path, text, settings, error, message):
    path = tmp_path / "table.csv"
    path.write_text(text)

    with pytest.raises(getattr(fg.errors, error), match=message):
        fg.data.read_csv(path, **settings)


def test_a_parquet_file_is_read_by_columns(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {
        "x": numpy.arange(3, dtype=numpy.float32),
        "missing": [1, None, 3],
        "kind": ["b", "a", "b"],
        "vector": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]],
        "flag": [True, False, True],
    }
    parquet.write_table(arrow.table(columns), tmp_path / "table.parquet")
    table = fg.data.read_parquet(tmp_path / "table.parquet")

    assert table.arrays["x"].dtype == numpy.float32
    numpy.testing.assert_array_equal(table.arrays["missing"], [1, numpy.nan, 3])
    assert table.arrays["kind"].tolist() == [1, 0, 1] and table.metadata["categories"] == {"kind": ("a", "b")}
    assert table.arrays["vector"].shape == (3, 2) and table.arrays["flag"].dtype == numpy.bool_
    (batch,) = fg.data.DataLoader(table, 3)
    assert batch["vector"].shape == (3, 2)
    with pytest.raises(fg.errors.ArgumentError, match="no column 'y'"):
        fg.data.read_parquet(tmp_path / "table.parquet", columns=["y"])


def test_a_wrong_parquet_file_says_what_is_wrong(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    (tmp_path / "text.parquet").write_text("no table")
    parquet.write_table(arrow.table({"x": [[1], [2, 3]]}), tmp_path / "uneven.parquet")
    parquet.write_table(arrow.table({"x": [b"1", b"2"]}), tmp_path / "bytes.parquet")
    parquet.write_table(arrow.table({"x": numpy.ones(0)}), tmp_path / "empty.parquet")

    for name, message in [
        ("text", "not a Parquet file"),
        ("uneven", "lists of different lengths"),
        ("bytes", "has the type binary"),
        ("empty", "no rows"),
    ]:
        with pytest.raises(fg.errors.DataError, match=message):
            fg.data.read_parquet(tmp_path / f"{name}.parquet")


def test_a_package_that_is_missing_is_named(monkeypatch, tmp_path):
    for module in ("pyarrow.parquet", "PIL.Image", "sklearn.datasets", "skimage"):
        monkeypatch.setitem(sys.modules, module, None)

    for package, use in [
        ("pyarrow", lambda: fg.data.read_parquet("table.parquet")),
        ("pillow", lambda: fg.data.ImageFolder(tmp_path)),
        ("scikit-learn", lambda: fg.data.load("iris")),
        ("scikit-image", lambda: fg.data.load("images")),
    ]:
        message = rf"needs the package {package}; install it with pip install 'funcgrad\[data\]'"
        with pytest.raises(fg.errors.MissingPackageError, match=message):
            use()


# Images


@pytest.fixture
def pets(tmp_path):
    image_module = pytest.importorskip("PIL.Image")
    for number, path in enumerate(["dogs/2.png", "cats/deep/1.jpg", "cats/0.png", ".hidden/3.png"]):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        image_module.fromarray(numpy.full((4, 6, 3), number, numpy.uint8)).save(tmp_path / path)
    (tmp_path / "cats" / "notes.txt").write_text("not an image")
    return tmp_path


def test_a_folder_of_images_has_a_class_for_each_folder(pets):
    folder = fg.data.ImageFolder(pets)

    assert folder.classes == ("cats", "dogs") and len(folder) == 3
    assert [example["label"] for example in folder] == [0, 0, 1]
    assert folder[2]["image"].shape == (4, 6, 3) and folder[2]["image"].dtype == numpy.uint8
    assert not folder[2]["image"].any()
    grey = fg.data.ImageFolder(pets, mode="L", size=(8, 2))
    (batch,) = fg.data.DataLoader(grey, 3, workers=2)
    assert batch["image"].shape == (3, 8, 2) and batch["label"].dtype is fg.int32


def test_images_that_cannot_be_read_are_named(pets):
    damaged = pets / "dogs" / "2.png"
    damaged.write_bytes(damaged.read_bytes()[:40])
    folder = fg.data.ImageFolder(pets)

    with pytest.raises(fg.errors.DataError, match=r"dogs/2\.png cannot be read") as caught:
        list(fg.data.DataLoader(folder, 1))
    assert "example 2 of the dataset" in caught.value.__notes__[0]
    with pytest.raises(fg.errors.DataError, match="there is no image"):
        fg.data.read_image(pets / "none.png")
    with pytest.raises(fg.errors.DataError, match="holds no images"):
        fg.data.ImageFolder(pets / "dogs")
    with pytest.raises(fg.errors.DataError, match="there is no folder"):
        fg.data.ImageFolder(pets / "birds")


# Datasets with names


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("digits", "{image: uint8[1797,8,8], label: int32[1797]}"),
        ("iris", "{features: float32[150,4], label: int32[150]}"),
        ("wine", "{features: float32[178,13], label: int32[178]}"),
        ("breast_cancer", "{features: float32[569,30], label: int32[569]}"),
        ("diabetes", "{features: float32[442,10], target: float32[442]}"),
        ("linnerud", "{features: float32[20,3], target: float32[20,3]}"),
    ],
)
def test_the_tables_of_scikit_learn(name, shape):
    dataset = fg.data.load(name)

    assert repr(dataset) == f"ArrayDataset({shape})"
    if "label" in shape:
        assert set(numpy.unique(dataset.arrays["label"])) == set(range(len(dataset.metadata["classes"])))
    if "features" in shape:
        assert len(dataset.metadata["features"]) == dataset.arrays["features"].shape[1]


def test_the_images_of_scikit_image():
    pytest.importorskip("skimage")
    pictures = fg.data.load("images", size=(16, 16))
    (batch,) = fg.data.DataLoader(pictures, len(pictures))
    assert len(pictures) >= 15 and "astronaut" in pictures.names
    assert batch["image"].shape == (len(pictures), 16, 16, 3)

    faces = fg.data.load("lfw_subset")
    assert faces.arrays["image"].shape == (200, 25, 25) and faces.arrays["label"].sum() == 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("rose",), "there is no dataset 'rose'; choose from digits, breast_cancer"),
        (("digits", "."), "comes as a whole from a package"),
        (("mnist",), "funcgrad downloads nothing"),
        (("mnist", ".", "validation"), "split='train' or 'test'"),
    ],
)
def test_names_and_arguments_that_do_not_fit(arguments, message):
    name, folder, split = (*arguments, None, None)[:3]
    with pytest.raises(fg.errors.ArgumentError, match=message):
        fg.data.load(name, folder, split=split)


def idx_bytes(array):
    code = {"uint8": 8, "int8": 9, "int16": 11, "int32": 12, "float32": 13, "float64": 14}[array.dtype.name]
    header = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "float32", "float64"])
def test_idx_files_of_every_dtype(tmp_path, dtype):
    array = numpy.arange(24).reshape(2, 3, 4).astype(dtype)
    (tmp_path / "array").write_bytes(idx_bytes(array))
    (tmp_path / "array.gz").write_bytes(gzip.compress(idx_bytes(array)))

    for name in ("array", "array.gz"):
        again = fg.data.read_idx(tmp_path / name)
        assert again.dtype == array.dtype and again.dtype.isnative and (again == array).all()


def test_damaged_idx_files(tmp_path):
    whole = idx_bytes(numpy.arange(10, dtype=numpy.uint8))
    path = tmp_path / "file"
    for content in (b"", b"\0\0", b"text", whole[:-1], whole + b"\0", whole[:6], gzip.compress(whole)[:-9]):
        path.write_bytes(content)
        with pytest.raises(fg.errors.DataError, match="file"):
            fg.data.read_idx(path)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dots", [False, True])
def test_mnist_from_a_folder(tmp_path, packed, dots):
    images, labels = numpy.arange(2 * 28 * 28).reshape(2, 28, 28).astype(numpy.uint8), numpy.array([3, 9], numpy.uint8)
    (tmp_path / "raw").mkdir()
    for kind, array in (("images", images), ("labels", labels)):
        name = f"t10k-{kind}{'.' if dots else '-'}idx{array.ndim}-ubyte{'.gz' if packed else ''}"
        content = idx_bytes(array)
        (tmp_path / "raw" / name).write_bytes(gzip.compress(content) if packed else content)

    for name in ("mnist", "fashion_mnist", "kmnist"):
        dataset = fg.data.load(name, tmp_path, split="test")
        assert (dataset.arrays["image"] == images).all() and dataset.arrays["label"].tolist() == [3, 9]
        with pytest.raises(fg.errors.DataError, match=r"none of the files train-images-idx3-ubyte, .* unpack"):
            fg.data.load(name, tmp_path, split="train")
    assert fg.data.load("fashion_mnist", tmp_path, split="test").metadata["classes"][9] == "Ankle boot"


def test_files_of_different_lengths_do_not_belong_together(tmp_path):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx_bytes(numpy.zeros((3, 28, 28), numpy.uint8)))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(numpy.zeros(2, numpy.uint8)))

    with pytest.raises(fg.errors.DataError, match="3 of image, 2 of label"):
        fg.data.load("mnist", tmp_path, split="train")
    with pytest.raises(fg.errors.DataError, match="there is no folder"):
        fg.data.load("mnist", tmp_path / "nowhere", split="train")


def python2_pickle(values):
    """A pickle as Python 2 wrote those of CIFAR: texts of bytes, and arrays in the way of old NumPy."""
    out = io.BytesIO()
    out.write(b"\x80\x02}(")
    for key, value in values.items():
        out.write(b"U" + bytes([len(key)]) + key)
        if isinstance(value, numpy.ndarray):
            content = value.tobytes()
            out.write(b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85U\x01b\x87R")
            out.write(b"(K\x01" + b"(" + b"".join(b"M" + struct.pack("<H", n) for n in value.shape) + b"t")
            out.write(b"cnumpy\ndtype\nU\x02u1K\0K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb")
            out.write(b"\x89T" + struct.pack("<i", len(content)) + content + b"tb")
        elif isinstance(value, list):
            out.write(b"](")
            for item in value:
                out.write(b"K" + bytes([item]) if isinstance(item, int) else b"U" + bytes([len(item)]) + item)
            out.write(b"e")
    out.write(b"u.")
    return out.getvalue()


ROWS = numpy.arange(4 * 3072).reshape(4, 3072).astype(numpy.uint8)
IMAGES = ROWS.reshape(4, 3, 32, 32).transpose(0, 2, 3, 1)


@pytest.mark.parametrize("writer", ["python 2", "python 3", "binary"])
def test_cifar_from_a_folder(tmp_path, writer):
    folder = tmp_path / "unpacked"
    folder.mkdir()
    dumps = {"python 2": python2_pickle, "python 3": lambda values: pickle.dumps(values, protocol=2)}.get(writer)

    def write(name, labels, coarse=None):
        if dumps is None:
            columns = [numpy.array(x, numpy.uint8)[:, None] for x in (coarse, labels) if x is not None]
            (folder / f"{name}.bin").write_bytes(numpy.concatenate([*columns, ROWS], 1).tobytes())
        elif coarse is None:
            (folder / name).write_bytes(dumps({b"data": ROWS, b"labels": labels}))
        else:
            (folder / name).write_bytes(dumps({b"data": ROWS, b"fine_labels": labels, b"coarse_labels": coarse}))

    for number in range(1, 6):
        write(f"data_batch_{number}", [number, 0, 1, 9])
    if dumps is None:
        (folder / "batches.meta.txt").write_text("airplane\nautomobile\n\n")
    else:
        (folder / "batches.meta").write_bytes(dumps({b"label_names": [b"airplane", b"automobile"]}))
    ten = fg.data.load("cifar10", tmp_path, split="train")
    assert ten.arrays["image"].shape == (20, 32, 32, 3) and (ten.arrays["image"][4:8] == IMAGES).all()
    assert ten.arrays["label"].tolist()[:8] == [1, 0, 1, 9, 2, 0, 1, 9] and ten.arrays["label"].dtype == numpy.int32
    assert ten.metadata["classes"] == ("airplane", "automobile")

    write("test", [99, 1, 2, 3], [19, 1, 2, 3])
    hundred = fg.data.load("cifar100", tmp_path, split="test")
    assert hundred.arrays["label"].tolist() == [99, 1, 2, 3] and hundred.arrays["coarse_label"][0] == 19
    assert (hundred.arrays["image"] == IMAGES).all()


def test_damaged_files_of_cifar(tmp_path):
    path = tmp_path / "test_batch"
    whole = python2_pickle({b"data": ROWS, b"labels": [1, 2, 3, 4]})
    for content in (b"", b"text", whole[:-1], whole[:5000], pickle.dumps({b"data": ROWS[:, 1:]}), pickle.dumps([1])):
        path.write_bytes(content)
        with pytest.raises(fg.errors.DataError, match="test_batch"):
            fg.data.read_cifar_python(path)
    path.write_bytes(bytes(3072))
    with pytest.raises(fg.errors.DataError, match="3072 bytes, which is not a number of images of 3073"):
        fg.data.read_cifar_binary(path)
    path.write_bytes(python2_pickle({b"data": ROWS, b"labels": [1, 2]}))
    with pytest.raises(fg.errors.DataError, match="4 of image, 2 of label"):
        fg.data.load("cifar10", tmp_path, split="test")


class Harmful:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def test_the_pickles_of_cifar_run_no_code(tmp_path):
    path, mark = tmp_path / "test_batch", tmp_path / "code_ran"
    harmful = [
        Harmful(os.mkdir, str(mark)),
        Harmful(eval, f"__import__('os').mkdir({str(mark)!r})"),
        Harmful(getattr, os, "getcwd"),
        Harmful(numpy.load, str(path)),
    ]
    contents = [
        pickle.dumps({b"data": value, b"labels": [1]}, protocol) for value in harmful[:2] for protocol in (0, 2, 4)
    ]
    contents += [b"cos\nmkdir\n(V" + str(mark).encode() + b"\ntR.", pickle.dumps(numpy.load), pickle.dumps(os.getcwd)]
    # The names of pickled arrays, used in other ways: an array of objects, and attributes set on what stands for them.
    contents += [pickle.dumps({b"data": numpy.array([os.getcwd, 1])}, 2), pickle.dumps(numpy.array([{}, 1]), 2)]
    contents += [
        b"cnumpy\ndtype\n}U\x08__call__U\x01xsb.",
        b"c_codecs\nencode\n}U\x01xU\x01xsb.",
        b"cnumpy\nndarray\n(tR.",
    ]
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(fg.errors.DataError):
            fg.data.read_cifar_python(path)
        assert not mark.exists()


def test_stl_and_svhn_from_a_folder(tmp_path):
    images = numpy.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), numpy.uint8)
    (tmp_path / "train_X.bin").write_bytes(images.transpose(0, 3, 2, 1).tobytes())  # columns before rows
    (tmp_path / "train_y.bin").write_bytes(bytes([1, 10]))
    (tmp_path / "class_names.txt").write_text("airplane\nbird\n")
    stl = fg.data.load("stl10", tmp_path, split="train")
    assert (stl.arrays["image"] == images).all() and stl.arrays["label"].tolist() == [0, 9]
    assert stl.metadata["classes"] == ("airplane", "bird")

    from scipy.io import savemat

    small = images[:, :32, :32]
    savemat(tmp_path / "test_32x32.mat", {"X": numpy.moveaxis(small, 0, 3), "y": numpy.array([[10], [7]], numpy.uint8)})
    svhn = fg.data.load("svhn", tmp_path, split="test")
    assert (svhn.arrays["image"] == small).all() and svhn.arrays["label"].tolist() == [0, 7]

    (tmp_path / "train_X.bin").write_bytes(b"short")
    (tmp_path / "test_32x32.mat").write_bytes(b"short")
    for name, split in (("stl10", "train"), ("svhn", "test")):
        with pytest.raises(fg.errors.DataError, match=f"{tmp_path}"):
            fg.data.load(name, tmp_path, split=split)
