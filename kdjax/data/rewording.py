"""Texts with some words replaced by similar ones, as TinyBERT's augmentation."""

from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from kdjax.data.text import opened
from kdjax.models import Batch

_ROWS = 1024  # words that are compared with all others at once


class Neighbours(NamedTuple):
    """Words that may replace a token."""

    nearest: np.ndarray  # [V, K], tokens; a token that is no word has itself
    continues: np.ndarray  # [V], whether a token continues a word


def neighbours(
    tokenizer: str | Path, embeddings: np.ndarray, *, count: int = 15
) -> Neighbours:
    """The words whose embeddings are nearest to that of each word, by cosine.

    Words are tokens of letters that stand for a whole word or begin one.

    Args:
      tokenizer: A ``tokenizer.json`` of WordPiece, as BERT's.
      embeddings: ``[V, width]``, of its tokens.
      count: Number of neighbours of each word.

    Raises:
      ValueError: if the tokenizer is of another kind, has more tokens than there are
        embeddings, or not more words than neighbours are to be found.

    References:
      Jiao et al., `TinyBERT <https://arxiv.org/abs/1909.10351>`_, 2020, algorithm 1,
      which takes GloVe's embeddings, or words that BERT predicts.
    """
    its = opened(tokenizer, len(embeddings))
    prefix = getattr(its.model, "continuing_subword_prefix", None)
    if not prefix:
        raise ValueError(f"tokenizer {tokenizer} is not of WordPiece, but takes this")
    tokens = its.get_vocab()
    words = np.array(sorted(i for token, i in tokens.items() if token.isalpha()))
    if not 1 <= count < len(words):
        raise ValueError(f"count is {count}, but takes 1 to {len(words) - 1}")
    continues = np.zeros(len(embeddings), bool)
    continues[[i for token, i in tokens.items() if token.startswith(prefix)]] = True
    directions = np.asarray(embeddings)[words].astype(np.float32)
    directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-12)
    nearest = np.repeat(np.arange(len(embeddings))[:, None], count, 1)
    for first in range(0, len(words), _ROWS):
        rows = slice(first, first + _ROWS)
        cosines = directions[rows] @ directions.T
        cosines[np.arange(len(cosines)), np.arange(len(words))[rows]] = -np.inf
        nearest[words[rows]] = words[np.argpartition(-cosines, count - 1)[:, :count]]
    return Neighbours(nearest.astype(np.int32), continues)


def with_copies(
    split: Batch, near: Neighbours, *, copies: int, share: float = 0.4, seed: int = 0
) -> Batch:
    """The texts, then copies of all of them with some words replaced.

    Each word is replaced with probability ``share`` by one of its neighbours; words of
    several tokens never are. Lengths, labels and all other arrays stay as they are.

    Args:
      split: Arrays of ``N`` texts, with ``tokens`` ``[N, L]``.
      near: Words that may replace a token.
      copies: Number of copies.
      share: Probability that a word is replaced; 0.4 in TinyBERT.
      seed: Seed of the replacements.

    Raises:
      ValueError: if copies is negative, or share is not in [0, 1].
    """
    if copies < 0:
        raise ValueError(f"copies is {copies}, but takes no negative number")
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share!r}, but takes a number in [0, 1]")
    rng = np.random.default_rng(seed)
    tokens = np.asarray(split["tokens"])
    whole = np.ones(tokens.shape, bool)  # no word in several pieces begins here
    whole[:, :-1] = ~near.continues[tokens[:, 1:]]
    rows = [tokens]
    for _ in range(copies):
        drawn = rng.integers(0, near.nearest.shape[1], tokens.shape)
        replaced = whole & (rng.random(tokens.shape) < share)
        rows.append(np.where(replaced, near.nearest[tokens, drawn], tokens))
    repeated = jax.tree.map(
        lambda a: np.concatenate([a] * (1 + copies)), {**split, "tokens": tokens}
    )
    return {**repeated, "tokens": np.concatenate(rows)}
