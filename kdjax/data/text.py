"""Texts as tokens, and batches of texts of similar length."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kdjax.data.checks import check_padding, with_arrays
from kdjax.data.source import Stream
from kdjax.data.types import Data
from kdjax.models import Batch

TOKEN_ARRAYS = ("tokens", "mask", "segments")  # arrays [N, L] of an encoder
_MULTIPLE = 2  # of the lengths of buckets


def opened(tokenizer: Any, vocabulary: int | None = None) -> Any:
    """A Tokenizer of the package tokenizers, from a file or a copy of one.

    Args:
      tokenizer: A ``tokenizer.json``, or such a Tokenizer.
      vocabulary: Number of rows of the table of embeddings, if it is to be checked.

    Raises:
      ValueError: if the tokenizer has more tokens than the vocabulary.
    """
    from tokenizers import Tokenizer

    if isinstance(tokenizer, Tokenizer):
        found = Tokenizer.from_str(tokenizer.to_str())
    else:
        found = Tokenizer.from_file(str(tokenizer))
    size = 1 + max(found.get_vocab().values(), default=-1)
    if vocabulary is not None and size > vocabulary:
        raise ValueError(
            f"tokenizer has {size} tokens, but the table of embeddings has "
            f"{vocabulary} rows"
        )
    found.no_padding()
    found.no_truncation()
    return found


def tokenized(
    tokenizer: str | Path,
    texts: Sequence[str],
    others: Sequence[str] | None = None,
    *,
    longest: int,
    vocabulary: int | None = None,
) -> Batch:
    """Texts, or pairs of them, as ``tokens``, ``mask`` and ``segments``, ``[N, L]``.

    Special tokens are those of the tokenizer. A text of more than ``longest`` tokens
    loses the last ones; of a pair, the longer text loses them first.

    Args:
      tokenizer: A ``tokenizer.json``.
      texts: ``N`` texts.
      others: The second text of each pair.
      longest: The largest number of tokens, special ones included.
      vocabulary: Number of rows of the table of embeddings, if it is to be checked.

    Raises:
      TypeError: if a single string is given instead of texts.
      ValueError: if the tokenizer has more tokens than the vocabulary, if ``longest``
        leaves no place for text, or if there are no texts, or not as many second ones.
    """
    for name, given in (("texts", texts), ("others", others)):
        if isinstance(given, str):
            raise TypeError(f"{name} is a string, but takes a sequence of them")
    if not len(texts):
        raise ValueError("texts is empty, but takes at least one text")
    if others is not None and len(others) != len(texts):
        raise ValueError(f"others has {len(others)} texts, but takes {len(texts)}")
    its = opened(tokenizer, vocabulary)
    special = its.num_special_tokens_to_add(others is not None)
    if longest <= special:
        raise ValueError(f"longest is {longest}, but takes more than {special}")
    its.enable_truncation(longest)
    rows = list(texts) if others is None else list(zip(texts, others, strict=True))
    encoded = its.encode_batch(rows)
    length = max(len(each.ids) for each in encoded)
    # Padding is 0, whatever the tokenizer's own is: the mask excludes it.
    arrays = {name: np.zeros((len(rows), length), np.int32) for name in TOKEN_ARRAYS}
    for row, each in enumerate(encoded):
        count = len(each.ids)
        arrays["tokens"][row, :count] = each.ids
        arrays["mask"][row, :count] = 1
        arrays["segments"][row, :count] = each.type_ids
    return arrays


def lengths_of(split: Batch) -> np.ndarray:
    """The number of tokens of each text, ``[N]``."""
    return np.asarray(split["mask"]).sum(1)


def cut(batch: Batch) -> Batch:
    """The batch cut to its longest text, rounded up to a multiple of eight.

    Few lengths mean few compilations.

    Raises:
      ValueError: if the mask has padding before a token.
    """
    check_padding("mask", batch["mask"])
    length = 8 * -(-int(lengths_of(batch).max()) // 8)
    return {**batch, **_shortened(batch, length)}


def _shortened(batch: Batch, length: int) -> dict[str, Any]:
    """The arrays of tokens ``[B, L]`` and the teacher's ``[B, L, ...]`` of tokens.

    They are cut to this length; a label may be one of them.
    """
    size = batch["tokens"].shape
    names = [n for n in (*TOKEN_ARRAYS, "label") if n in batch]
    found = {n: batch[n][:, :length] for n in names if batch[n].shape == size}
    if batch.get("teacher") is not None:

        def shorter(array: Any) -> Any:
            of_tokens = array.ndim > 2 and array.shape[:2] == size
            return array[:, :length] if of_tokens else array

        found["teacher"] = jax.tree.map(shorter, batch["teacher"])
    return found


def bucket_lengths(lengths: np.ndarray, *, padding: float, most: int = 8) -> list[int]:
    """The fewest bucket lengths that keep the share of padding within ``padding``.

    They are even. Among sets of equal size, the one with the least padding is taken.

    Args:
      lengths: ``[N]``, the numbers of tokens of the texts.
      padding: The largest share of padding, in [0, 1].
      most: The largest number of buckets, whatever the padding.
    """
    sizes, counts = np.unique(-(-lengths // _MULTIPLE), return_counts=True)
    # cost[j]: places that texts of the first j sizes take, with the buckets so far;
    # ends[j]: where the last of these buckets begins.
    below = np.concatenate([[0], np.cumsum(counts)])
    cost = np.where(np.arange(len(sizes) + 1) == 0, 0.0, np.inf)
    begins: list[np.ndarray] = []
    for _ in range(min(most, len(sizes))):
        total = cost[:, None] + (below[None] - below[:, None]) * np.append(0, sizes)
        total = np.where(np.tri(len(cost), k=0, dtype=bool), np.inf, total)
        begins.append(np.argmin(total, 0))
        cost = np.min(total, 0)
        if 1 - lengths.sum() / (_MULTIPLE * cost[-1]) <= padding:
            break
    chosen, end = [], len(sizes)
    for begin in reversed(begins):
        chosen.append(int(_MULTIPLE * sizes[end - 1]))
        end = int(begin[end])
    return chosen[::-1]


def bucketed(
    split: Batch, batch_size: int, *, lengths: Sequence[int], steps: int | None = None
) -> Stream:
    """Batches of texts of similar length, shuffled in each epoch.

    Texts are drawn in a new order in each epoch; those beyond the last batch are left
    out. They are sorted by bucket and cut into batches, which are then shuffled. A
    batch is as long as the bucket of its longest text.

    Args:
      split: Arrays of ``N`` texts; those of tokens are cut to the length of a batch.
      batch_size: Texts per batch.
      lengths: Lengths of the buckets, ascending, as of `bucket_lengths`.
      steps: Batches of an epoch. By default, as many as the texts fill.

    Raises:
      TypeError, ValueError: if arrays differ in length, padding is not at the end of a
        text, lengths do not ascend, a text is longer than the last bucket, or the texts
        do not fill the steps, or one batch.
    """
    split = with_arrays(Data(split)).train
    if list(lengths) != sorted(set(lengths)):
        raise ValueError(f"lengths is {list(lengths)}, but takes ascending numbers")
    longest, count = int(lengths_of(split).max()), len(split["tokens"])
    if longest > lengths[-1]:
        raise ValueError(f"lengths ends at {lengths[-1]}, but a text has {longest}")
    if count < batch_size:
        raise ValueError(
            f"batch_size is {batch_size}, but takes at most the {count} texts"
        )
    whole = count // batch_size
    steps = whole if steps is None else steps
    if not 1 <= steps <= whole:
        raise ValueError(f"steps is {steps}, but takes 1 to {whole}")
    content = split, batch_size, tuple(lengths)
    make = partial(_Bucketed, *content, steps)
    return Stream(make, steps, ragged=True, content=content, examples=split)


@dataclass
class _Bucketed:
    """An endless iterator over batches; its state is the number of batches read."""

    split: Batch
    batch_size: int
    lengths: tuple[int, ...]
    steps: int
    seed: int
    read: int = 0
    _order: tuple[int, Any] = (-1, None)  # an epoch, and its batches

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        epoch, step = divmod(self.read, self.steps)
        if self._order[0] != epoch:
            self._order = epoch, self._batches(epoch, self.steps)
        rows, length = self._order[1][step]
        self.read += 1
        batch: dict[str, Any] = jax.tree.map(lambda a: a[rows], dict(self.split))
        return batch | _shortened(batch, length) | {"index": rows.astype(np.int32)}

    def _batches(self, epoch: int, steps: int) -> list[tuple[np.ndarray, int]]:
        rng = np.random.default_rng((self.seed, epoch))
        buckets = np.searchsorted(self.lengths, lengths_of(self.split))
        rows = rng.permutation(len(buckets))[: steps * self.batch_size]
        rows = rows[np.argsort(buckets[rows], kind="stable")]
        parts = rows.reshape(steps, self.batch_size)
        return [
            (part, self.lengths[buckets[part].max()])
            for part in parts[rng.permutation(steps)]
        ]

    def get_state(self) -> int:
        return self.read

    def set_state(self, state: int) -> None:
        self.read = state


def padding_share(stream: Stream) -> float:
    """The share of padding among the places of an epoch's batches."""
    batches: Any = iter(stream.make(0))
    masks = [next(batches)["mask"] for _ in range(stream.steps)]
    return 1 - sum(m.sum() for m in masks) / sum(m.size for m in masks)
