"""Texts for decoders, which predict each token from those before it."""

from collections import Counter
from collections.abc import Sequence
import itertools
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax import files
from kdjax.data.text import opened
from kdjax.models import Batch


def byte_pairs(
    texts: Sequence[str], vocabulary: int, special: Sequence[str] = ()
) -> Any:
    """A tokenizer of byte pairs that are frequent in the texts.

    It is trained once, and kept in the cache.

    Args:
      texts: To train on.
      vocabulary: Number of tokens, with those of the 256 bytes and the special ones.
      special: Tokens that are never split; the first ones, from 0.

    Raises:
      ValueError: if the texts have not enough pairs, or the vocabulary no place for
        all bytes.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    least = 256 + len(special)
    if vocabulary < least:
        raise ValueError(f"vocabulary is {vocabulary}, but takes at least {least}")
    mark = files.fingerprint([vocabulary, list(special), list(texts)])
    path = files.cache("data") / f"byte-pairs-{mark}.json"
    if not path.is_file():
        made = Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=list(special),
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        made.train_from_iterator(texts, trainer)
        if made.get_vocab_size() < vocabulary:
            raise ValueError(
                f"vocabulary is {vocabulary}, but the texts have only "
                f"{made.get_vocab_size()} tokens"
            )
        with files.atomic(path) as temporary:
            temporary.write_text(json.dumps(json.loads(made.to_str())))
    return opened(path)


def characters(
    texts: Sequence[str], vocabulary: int, special: Sequence[str] = ()
) -> Any:
    """A tokenizer of the most frequent characters of the texts.

    All other characters are one token, the last.

    Args:
      texts: To count characters in.
      vocabulary: Number of tokens, with that of all others and the special ones.
      special: Tokens that are never split; the first ones, from 0.

    Raises:
      ValueError: if the texts have too few characters, or the vocabulary no place for
        any.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    places = vocabulary - len(special) - 1
    if places < 1:
        raise ValueError(
            f"vocabulary is {vocabulary}, but takes at least {len(special) + 2}"
        )
    other = "\ufffd"
    counts = Counter(itertools.chain.from_iterable(texts))
    for token in (*special, other):  # which have places of their own
        counts.pop(token, None)
    if len(counts) < places:
        raise ValueError(
            f"vocabulary is {vocabulary}, but the texts have only {len(counts)} "
            "different characters"
        )
    # Of equally frequent ones, in the order of their code points.
    order = sorted(counts, key=lambda each: (-counts[each], each))[:places]
    tokens = {token: i for i, token in enumerate([*special, *order, other])}
    made = Tokenizer(models.WordLevel(tokens, unk_token=other))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    made.decoder = decoders.Fuse()
    made.add_special_tokens(list(special))
    return made


def packed(
    tokenizer: Any,
    texts: Sequence[str],
    *,
    length: int,
    end: str,
    vocabulary: int | None = None,
) -> Batch:
    """Texts one after another, cut into rows of equal length.

    Args:
      tokenizer: A ``tokenizer.json``, or a Tokenizer of the package tokenizers.
      texts: Texts in their order; what is left after the last whole row is dropped.
      length: Number of tokens of a row.
      end: The token after each text, such as ``<|endoftext|>``.
      vocabulary: Number of rows of the table of embeddings, if it is to be checked.

    Returns:
      ``tokens``, ``mask`` and ``label``, ``[N, length]``; see `next_tokens`.

    Raises:
      TypeError: if a single string is given instead of texts.
      ValueError: if the tokenizer has no such token or more tokens than the vocabulary,
        or the texts do not fill a row.
    """
    encoded, last = _encoded(tokenizer, vocabulary, end, texts=texts)
    every = np.array([i for each in encoded[0] for i in (*each, last)], np.int32)
    rows = len(every) // length
    if not rows:
        raise ValueError(
            f"length is {length}, but the texts have {len(every)} tokens in all"
        )
    tokens = every[: rows * length].reshape(rows, length)
    mask = np.ones_like(tokens)
    label = np.asarray(next_tokens(tokens, mask))
    return {"tokens": tokens, "mask": mask, "label": label}


def prompted(
    tokenizer: Any,
    prompts: Sequence[str],
    answers: Sequence[str],
    *,
    longest: int,
    end: str,
    vocabulary: int | None = None,
) -> tuple[Batch, np.ndarray]:
    """Prompts and their answers, of which the answers are to be predicted.

    Both end with the token ``end``, so that a decoder sees where the answer begins. A
    pair of more than ``longest`` tokens is left out.

    Args:
      tokenizer: A ``tokenizer.json``, or a Tokenizer of the package tokenizers.
      prompts: Such as sentences to translate.
      answers: As many.
      longest: The largest number of tokens of a pair, with both ends.
      end: The token after each text.
      vocabulary: Number of rows of the table of embeddings, if it is to be checked.

    Returns:
      ``tokens``, ``mask`` and ``label`` ``[N, L]`` and ``prompt_length`` ``[N]``, with
      the end of the prompt; and the places ``[N]`` of these pairs in the given order.

    Raises:
      TypeError: if a single string is given instead of texts.
      ValueError: if the tokenizer has no such token or more tokens than the vocabulary,
        there are not as many answers, or one is empty, or no pair is short enough.
    """
    if len(prompts) != len(answers):
        raise ValueError(f"answers has {len(answers)} texts, but takes {len(prompts)}")
    both, last = _encoded(tokenizer, vocabulary, end, prompts=prompts, answers=answers)
    for place, answer in enumerate(both[1]):
        if not answer:
            raise ValueError(f"answer {place} is empty, but takes text")
    sizes = np.array([[len(ids) + 1 for ids in each] for each in both])
    kept = np.flatnonzero(sizes.sum(0) <= longest)
    if not len(kept):
        raise ValueError(f"longest is {longest}, but no pair is so short")
    sizes = sizes[:, kept]
    tokens = np.zeros((len(kept), sizes.sum(0).max()), np.int32)
    for row, place in enumerate(kept):
        ids = [*both[0][place], last, *both[1][place], last]
        tokens[row, : len(ids)] = ids
    places = np.arange(tokens.shape[1])
    mask = places < sizes.sum(0)[:, None]
    answered = mask & (places >= sizes[0][:, None])
    label = np.asarray(next_tokens(tokens, answered))
    batch = {"tokens": tokens, "mask": mask.astype(np.int32), "label": label}
    return {**batch, "prompt_length": sizes[0].astype(np.int32)}, kept


def in_both(
    student: tuple[Batch, np.ndarray], teacher: tuple[Batch, np.ndarray]
) -> Batch:
    """Prompts and answers in the tokens of a student and of its teacher.

    Args:
      student: As `prompted` returns them, with their places.
      teacher: The same texts, with another tokenizer.

    Returns:
      The texts that both have, with those of the teacher as ``teacher_tokens``,
      ``teacher_mask`` and ``teacher_label``.

    Raises:
      TypeError: if one is not such a pair.
      ValueError: if there is no such text.
    """
    for name, each in (("student", student), ("teacher", teacher)):
        if not isinstance(each, tuple) or len(each) != 2:
            raise TypeError(f"{name} takes texts and their places, as of prompted")
    (own, own_places), (other, other_places) = student, teacher
    common, of_own, of_other = np.intersect1d(
        own_places, other_places, return_indices=True
    )
    if not len(common):
        raise ValueError("student and teacher have no text in common")
    own = {name: array[of_own] for name, array in own.items()}
    return own | {
        f"teacher_{name}": other[name][of_other] for name in ("tokens", "mask", "label")
    }


def _encoded(
    tokenizer: Any, vocabulary: int | None, end: str, **named: Sequence[str]
) -> tuple[list[list[list[int]]], int]:
    """Tokens of texts, and the token of their end."""
    for name, texts in named.items():
        if isinstance(texts, str):
            raise TypeError(f"{name} is a string, but takes a sequence of them")
    its = opened(tokenizer, vocabulary)
    if (last := its.token_to_id(end)) is None:
        raise ValueError(f"end is {end!r}, which is no token of the tokenizer")
    found = [
        [each.ids for each in its.encode_batch(list(texts), add_special_tokens=False)]
        for texts in named.values()
    ]
    return found, last


def next_tokens(tokens: Any, counts: Any) -> jax.Array:
    """What a decoder is to predict at each place: the token after it, ``[B, L]``.

    Args:
      tokens: ``[B, L]``.
      counts: ``[B, L]``, nonzero for tokens that are to be predicted. Where the next
        token is not, and at the last place, it is -1.
    """
    following = jnp.where(jnp.asarray(counts) != 0, jnp.asarray(tokens), -1)
    return jnp.pad(following[:, 1:], ((0, 0), (0, 1)), constant_values=-1)
