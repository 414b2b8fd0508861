"""Texts that a teacher writes after many prompts: computed once, in parts on disk."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kdjax import files, progress
from kdjax.data.checks import check_padding
from kdjax.models import Batch
from kdjax.models.generation import Written
from kdjax.training import checkpoint
from kdjax.training.writing import continued

Write = Callable[[Any, jax.Array, jax.Array, jax.Array], Written]


def stored(
    write: Write,
    params: Any,
    prompts: np.ndarray,
    mask: np.ndarray,
    key: jax.Array,
    *,
    batch_size: int = 250,
    name: str = "texts",
    directory: Path | None = None,
) -> Batch:
    """The prompts with what is written after each, as texts to learn from.

    Parts are files, named by a fingerprint of the program, the parameters, the prompts
    and the key. A later call reads them, and one that was interrupted goes on.

    Args:
      write: ``write(params, prompts, mask, key)``, such as a partial of
        `kdjax.models.generation.generate` or `beam_search`.
      params: The teacher's parameters.
      prompts: ``[N, P]``, tokens.
      mask: ``[N, P]``, nonzero for tokens and 0 for padding, which is at the end.
      key: Random key, for ``write``.
      batch_size: Prompts per part.
      name: Label of the progress bar.
      directory: Where the files lie; ``texts`` in the cache by default.

    Returns:
      ``tokens``, ``mask``, ``label`` ``[N, P + new]`` and ``prompt_length`` ``[N]``.

    Raises:
      ValueError: if there is no prompt, one has no token, or the mask has padding
        before a token.
    """
    count, lengths = len(prompts), (np.asarray(mask) != 0).sum(1)
    if not count or not lengths.all():
        which = f"prompt {lengths.argmin()} has no token" if count else "it is empty"
        raise ValueError(f"prompts takes at least one of some tokens, but {which}")
    check_padding("mask", mask)
    size = min(batch_size, count)
    # Parts of equal length compile once: the last one has some prompts again.
    rows = np.resize(np.arange(count), (-(-count // size), size))

    @checkpoint.distinct
    def program(params: Any, prompts: Any, mask: Any, key: jax.Array) -> Batch:
        return continued(prompts, mask, write(params, prompts, mask, key))

    first = params, prompts[rows[0]], mask[rows[0]], key
    mark = checkpoint.fingerprint(
        [program.lower(*first)], params, prompts, mask, jax.random.key_data(key)
    )
    folder = (directory or files.cache("texts")) / mark
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    with files.lock(folder, wait=True):
        for number in progress.track(range(len(rows)), name):
            path, own = folder / f"{number}.npz", rows[number]
            if (part := files.load_arrays(path)) is None:
                drawn = jax.random.fold_in(key, number)
                made = program(params, prompts[own], mask[own], drawn)
                files.save_arrays(path, **(part := jax.device_get(made)))
            parts.append(part)
    texts = {n: np.concatenate([p[n] for p in parts])[:count] for n in parts[0]}
    return {**texts, "prompt_length": lengths.astype(np.int32)}


def ids(texts: Batch, end: int) -> list[list[int]]:
    """The tokens that are to be predicted of each text, without its end."""
    label = np.asarray(texts["label"])
    return [[int(i) for i in row if i >= 0 and i != end] for row in label]


def prompts_of(texts: Batch) -> tuple[np.ndarray, np.ndarray]:
    """The prompts of texts and their mask, ``[N, P]``, as long as the longest."""
    lengths = np.asarray(texts["prompt_length"])
    longest = int(lengths.max())
    mask = np.arange(longest) < lengths[:, None]
    return np.where(mask, texts["tokens"][:, :longest], 0), mask.astype(np.int32)
