"""Data sets that tensorflow-datasets has prepared, or downloads."""

import os
from typing import Any

_HOST = "https://storage.googleapis.com"  # the source of tensorflow-datasets


def builder(name: str, data_dir: str | None, *, instead: str) -> Any:
    """The builder of a data set, which is downloaded if there is no data_dir.

    Args:
      name: As tensorflow-datasets has it.
      data_dir: A directory that it has prepared, or None for its own.
      instead: A data set that needs no download, for the error.

    Raises:
      FileNotFoundError: if the data are missing and cannot be downloaded.
    """
    import tensorflow_datasets as tfds  # takes a second to import

    found = tfds.builder(name, data_dir=data_dir)
    if not found.is_prepared():
        if data_dir is not None:
            why = "does not contain it"
            raise FileNotFoundError(absent(name, data_dir, why, instead))
        _download(found, name, instead)
    return found


def _download(builder: Any, name: str, instead: str) -> None:
    import requests

    try:  # without a network, tensorflow-datasets would retry for minutes
        requests.head(_HOST, timeout=10)
        builder.download_and_prepare(file_format="array_record")
    except Exception as error:  # the network, a checksum, a full disk, permissions
        place = os.path.dirname(os.path.dirname(builder.data_path))
        why = f"does not contain it, and the download failed ({error!r})"
        raise FileNotFoundError(absent(name, place, why, instead)) from error


def absent(name: str, data_dir: str, why: str, instead: str) -> str:
    """What to do about a data set that is not in a directory."""
    return (
        f"dataset {name!r}: the data directory {data_dir} {why}. Pass a directory "
        f"prepared by tensorflow-datasets (--data-dir DIR, with {name}/<version>/), or "
        f"omit it on a machine with network access, where tensorflow-datasets "
        f"downloads it; {instead} needs neither"
    )
