"""Multi30k: captions of pictures in German and in English, as a task of translation."""

import gzip
import os
from pathlib import Path
from typing import NamedTuple
import zlib

from kdjax import files
from kdjax.data.types import Info

_FILES = {"train": "train", "validation": "val", "test": "test_2016_flickr"}
_SIZES = {"train": 29_000, "validation": 1014, "test": 1000}


class Pairs(NamedTuple):
    """Sentences and their translations."""

    german: list[str]
    english: list[str]


def load() -> tuple[dict[str, Pairs], Info]:
    """The splits ``train``, ``validation`` and ``test`` of Multi30k's first task.

    They are in the folder ``$KDJAX_MULTI30K``, or ``data`` in the cache.

    Raises:
      FileNotFoundError: if a file is missing, saying where it comes from.
      ValueError: naming a file that has not as many sentences as it should.

    References:
      Elliott et al., `Multi30K <https://arxiv.org/abs/1605.00459>`_, 2016.
    """
    splits = {
        name: Pairs(*(_lines(name, to) for to in ("de", "en"))) for name in _FILES
    }
    sizes = (len(pairs.german) for pairs in splits.values())
    return splits, Info("multi30k", "task 1", 0, *sizes)


def _lines(split: str, language: str) -> list[str]:
    name = f"{_FILES[split]}.{language}.gz"
    path = Path(os.environ.get("KDJAX_MULTI30K") or files.cache("data")) / name
    if not path.is_file():
        raise FileNotFoundError(
            f"multi30k is not in {path}: download data/task1/raw/{name} of "
            f"github.com/multi30k/dataset to a folder, and set KDJAX_MULTI30K to it"
        )
    try:
        lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    except (EOFError, OSError, UnicodeDecodeError, zlib.error) as error:
        raise ValueError(f"{path} is damaged or cut short: {error}") from error
    if len(lines) != _SIZES[split]:
        raise ValueError(
            f"{path} has {len(lines)} sentences, but takes {_SIZES[split]}"
        )
    return [line.strip() for line in lines]
