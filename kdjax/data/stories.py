"""TinyStories: short stories in the words of a small child, to model language on."""

import os
from pathlib import Path

from kdjax import files
from kdjax.data.types import Info

_FILE = "TinyStories-train.txt"
_BYTES = 2**21  # of the file, which has 1.9 GB
_COUNT = 2316  # of whole stories among them
_HELD_OUT = 231  # for validation, and as many for testing


def load() -> tuple[dict[str, list[str]], Info]:
    """The splits ``train``, ``validation`` and ``test`` of the first 2,316 stories.

    They are the beginning of the file ``$KDJAX_TINYSTORIES``, or of the file in
    ``data`` in the cache; 2 MiB of it suffice.

    Raises:
      FileNotFoundError: if there is no such file, saying where it comes from.
      ValueError: if it does not begin with as many stories.

    References:
      Eldan and Li, `TinyStories <https://arxiv.org/abs/2305.07759>`_, 2023.
    """
    path = Path(os.environ.get("KDJAX_TINYSTORIES") or files.cache("data") / _FILE)
    if not path.is_file():
        raise FileNotFoundError(
            f"the stories are not in {path}: download {_FILE} of "
            "huggingface.co/datasets/roneneldan/TinyStories, or its first 2 MiB, and "
            "set KDJAX_TINYSTORIES to the file"
        )
    with path.open("rb") as file:
        beginning = file.read(_BYTES).decode(errors="ignore")
    *stories, _ = beginning.split("<|endoftext|>")  # the last one is cut off
    if len(stories) != _COUNT:
        raise ValueError(
            f"{path} has {len(stories)} stories in its first 2 MiB, but takes {_COUNT}"
        )
    stories = [story.strip() for story in stories]
    splits = {
        "train": stories[: -2 * _HELD_OUT],
        "validation": stories[-2 * _HELD_OUT : -_HELD_OUT],
        "test": stories[-_HELD_OUT:],
    }
    sizes = (len(split) for split in splits.values())
    return splits, Info("tinystories_2mb", "first 2 MiB", 0, *sizes)
