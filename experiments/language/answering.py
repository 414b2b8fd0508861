"""Instructions as tokens, answers of models, and how alike they are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
from rouge_score.rouge_scorer import RougeScorer

from experiments.language import translation
from kdjax.data.instructions import Instructions
from kdjax.models import Batch, DecoderShape
from kdjax.models.decoder import LanguageModel
from kdjax.models.generation import generate
from kdjax.training import teacher_texts

TURN = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"  # as SmolLM2 reads it
END = "<|im_end|>"


@dataclass(frozen=True)
class Asked:
    """Instructions that are short enough, as tokens."""

    tokenizer: Any
    prompts: np.ndarray  # [N, P], tokens
    mask: np.ndarray  # [N, P], 0 for padding, at the end
    answers: list[str | None]  # of people
    new: int  # the largest number of tokens of an answer

    @property
    def end(self) -> int:
        return self.tokenizer.token_to_id(END)

    def read(self, lines: np.ndarray) -> list[str]:
        """Texts of tokens ``[N, new]``, -1 after their end."""
        kept = [[int(i) for i in line if i not in (-1, self.end)] for line in lines]
        return self.tokenizer.decode_batch(kept)


def asked(
    tokenizer: Any,
    texts: Sequence[Instructions],
    *,
    longest: int,
    new: int,
    most: int | None = None,
) -> Asked:
    """The first instructions of each set that have at most ``longest`` tokens.

    Raises:
      ValueError: if a set has none.
    """
    rows, answers = [], []
    for each in texts:
        turns = [TURN.format(prompt) for prompt in each.prompts]
        encoded = tokenizer.encode_batch(turns, add_special_tokens=False)
        kept = [i for i, its in enumerate(encoded) if len(its.ids) <= longest][:most]
        if not kept:
            raise ValueError(f"longest is {longest}, but no instruction is so short")
        rows += [encoded[i].ids for i in kept]
        answers += [each.answers[i] for i in kept]
    mask = np.arange(longest) < np.array([len(row) for row in rows])[:, None]
    prompts = np.zeros(mask.shape, np.int32)
    prompts[mask] = np.concatenate(rows)
    return Asked(tokenizer, prompts, mask.astype(np.int32), answers, new)


def greedily(shape, new, params, prompts, mask, key, *, end):
    return generate(shape, params, prompts, mask, new=new, end=end)


def of_whole(whole: LanguageModel, own: Asked, name: str) -> Batch:
    """The instructions and the answers of a model, as texts to learn from."""
    write = partial(greedily, whole.shape, own.new, end=own.end)
    given = write, whole.params, own.prompts, own.mask, jax.random.key(0)
    return teacher_texts.stored(*given, batch_size=40, name=name)


def of_student(shape: DecoderShape, own: Asked) -> Callable:
    """Answers ``[N, new]`` of a student, as extras of a sweep."""
    how = partial(greedily, end=own.end)

    def extras(variables, data):
        given = shape, own.new, own.prompts, own.mask, how, variables["params"]
        return {"answers": translation.decoded(*given)}

    return extras


def rouge_l(said: Sequence[str], references: Sequence[str | None]) -> float:
    """Mean Rouge-L in percent of the texts that have a reference: F of word stems.

    References:
      Lin, `ROUGE <https://aclanthology.org/W04-1013>`_, 2004, section 3.
    """
    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    pairs = [(r, s) for s, r in zip(said, references, strict=True) if r is not None]
    return 100 * float(np.mean([scorer.score(*p)["rougeL"].fmeasure for p in pairs]))


def scores(own: Asked, lines: np.ndarray, whole: Sequence[str]) -> dict[str, float]:
    """How like those of the whole model and of people answers ``[N, new]`` are."""
    said = own.read(lines)
    return {
        "rouge_l": rouge_l(said, whole),
        "rouge_l_people": rouge_l(said, own.answers),
    }
