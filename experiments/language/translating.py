"""Translation from German to English: texts as tokens, the teacher, and its texts."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from kdjax import losses, models, objectives
from kdjax.data import Data, Info, bucket_lengths, bucketed, language, translation
from kdjax.data.text import lengths_of
from kdjax.models import Batch, DecoderShape
from kdjax.models.generation import Written, beam_search, candidates, generate
from kdjax.study import types
from kdjax.study.study import Loaded
from kdjax.study.types import Count, Positive, Positives
from kdjax.training import Training, optimizers, teacher_texts, train

END, TOKEN = 0, "<end>"  # after a sentence, and after its translation
BATCH_SIZE = 32
BEAMS = 5
PADDING = 0.1  # the largest share of an epoch's places
adamw = partial(optimizers.adamw, warmup=0.1, weight_decay=0.01)
MLE = objectives.on_tokens(losses.cross_entropy)


@dataclass(frozen=True)
class Config(types.Config):
    vocabulary: Count = 2048
    """Number of byte pairs, of both languages."""
    train: Count = 29_000
    """Number of training pairs."""
    test: Count = 1000
    """Number of pairs to translate for the scores."""
    longest: Count = 96
    """Tokens of a pair; longer ones are left out of the training texts."""
    teacher_layers: Count = 4
    """Layers of the teacher."""
    teacher_width: Count = 128
    """Width of the teacher."""
    teacher_epochs: Count = 6
    """Epochs of the teacher's training, of which the best is selected."""
    teacher_rate: Positive = 2e-3
    """Peak learning rate of the teacher (AdamW)."""
    layers: Count = 2
    """Layers of the student."""
    width: Count = 64
    """Width of the student."""
    epochs: Count = 2
    """Epochs of a student's training."""
    learning_rates: Positives = (4e-3, 8e-3, 1.6e-2)
    """Peak learning rates of students (AdamW) to select from, by likelihood of the
    validation pairs."""
    seeds: Count = 3
    """Number of seeds, each with one student per method."""


class Task(NamedTuple):
    """Pairs as tokens, and how to read them."""

    tokenizer: Any
    data: Data  # arrays
    references: list[str]  # of the test pairs

    @property
    def new(self) -> int:
        """The largest number of tokens of a translation."""
        return int((self.data.train["label"] >= 0).sum(1).max())

    def in_batches(self, texts: Batch | None = None, steps: int | None = None) -> Data:
        """The task's data, or others to learn from, with batches of similar length."""
        texts = self.data.train if texts is None else texts
        found = lengths_of(texts)
        most = min(8, max(1, len(found) // (8 * BATCH_SIZE)))  # each is compiled
        lengths = bucket_lengths(found, padding=PADDING, most=most)
        stream = bucketed(texts, BATCH_SIZE, lengths=lengths, steps=steps)
        return self.data._replace(train=stream)

    def read(self, texts: Batch) -> list[str]:
        """The translations in texts."""
        return self.tokenizer.decode_batch(teacher_texts.ids(texts, END))


class Teacher(NamedTuple):
    """A decoder that translates."""

    shape: DecoderShape
    params: Any
    facts: dict[str, Any]

    @property
    def variables(self) -> dict[str, Any]:
        return {"params": self.params, "state": {}}


def load(config: Config, data_dir: str | None) -> Loaded:
    """The task, for a study."""
    if data_dir is not None:
        raise ValueError(f"data_dir is {data_dir!r}, but Multi30k is not in it")
    splits, info = translation.load()
    first = {
        name: count for name, count in (("train", config.train), ("test", config.test))
    }
    splits = {
        name: translation.Pairs(*(side[: first.get(name)] for side in pairs))
        for name, pairs in splits.items()
    }
    both = [line for side in splits["train"] for line in side]
    tokenizer = language.byte_pairs(both, config.vocabulary, [TOKEN])
    settings = {"end": TOKEN, "vocabulary": config.vocabulary}
    batches = {}
    for name, pairs in splits.items():
        # All of the test pairs are translated, however long they are.
        longest = 10_000 if name == "test" else config.longest
        batches[name], _ = language.prompted(
            tokenizer, *pairs, longest=longest, **settings
        )
    sizes = (len(batch["tokens"]) for batch in batches.values())
    info = Info(info.name, info.version, 0, *sizes)
    task = Task(tokenizer, Data(**batches), splits["test"].english)
    return Loaded((task,), {"dataset": info._asdict()})


def shape(config: Config, layers: int, width: int) -> DecoderShape:
    """The sizes of a decoder with heads of 32."""
    heads = max(1, width // 32)
    inner = 8 * round(width / 3)
    return DecoderShape(config.vocabulary, layers, width, heads, heads, inner, 512)


def teacher(config: Config, task: Task) -> Teacher:
    """A decoder trained on the pairs, at the best of its epochs on validation."""
    own = shape(config, config.teacher_layers, config.teacher_width)
    training = Training(
        models.decoder(own),
        MLE,
        config.teacher_epochs,
        BATCH_SIZE,
        adamw,
        select=("nll", "min"),
        measure_batch=100,
    )
    trained = train(
        training,
        {"learning_rate": config.teacher_rate},
        data=task.in_batches()._replace(test=None),
        key=jax.random.key(0),
        name="teacher",
    )
    curve = trained.curves["validation_nll"]
    facts = {"epoch": 1 + int(curve.argmin()), "nll": float(curve.min())}
    facts["seconds"] = round(float(trained.curves["seconds"].sum()))
    return Teacher(own, trained.best["params"], facts)


def greedily(shape, new, params, prompts, mask, key):
    return generate(shape, params, prompts, mask, new=new, end=END)


def by_beam(shape, new, params, prompts, mask, key):
    return beam_search(shape, params, prompts, mask, new=new, beams=BEAMS, end=END)


def sampled(shape, new, params, prompts, mask, key):
    return generate(shape, params, prompts, mask, key, new=new, end=END)


def all_of_beam(shape, new, params, prompts, mask, key):
    """All candidates, one for each copy of a prompt, from the best."""
    one = prompts[::BEAMS], mask[::BEAMS]
    found = candidates(shape, params, *one, new=new, beams=BEAMS, end=END)
    return Written(*(each.reshape(len(prompts), -1) for each in found))


def texts_of(
    its: Teacher, task: Task, how: Callable, texts: Batch, name: str, seed: int = 0
) -> Batch:
    """Texts with the teacher's translations instead of the true ones."""
    prompts, mask = teacher_texts.prompts_of(texts)
    write = partial(how, its.shape, task.new)
    key = jax.random.key(seed)
    return teacher_texts.stored(write, its.params, prompts, mask, key, name=name)


def together(*several: Batch) -> Batch:
    """Texts one after another, with places for the longest."""
    longest = max(each["tokens"].shape[1] for each in several)

    def wide(each: Batch, name: str) -> np.ndarray:
        array = np.asarray(each[name])
        if array.ndim == 1:
            return array
        fill = -1 if name == "label" else 0
        more = longest - array.shape[1]
        return np.pad(array, ((0, 0), (0, more)), constant_values=fill)

    return {n: np.concatenate([wide(e, n) for e in several]) for n in several[0]}
