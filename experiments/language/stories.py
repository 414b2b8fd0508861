"""Stories as tokens of several vocabularies, their teachers, and small students."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax

from kdjax import losses, models, objectives
from kdjax.data import Data, language, stories
from kdjax.models import DecoderShape, Variables
from kdjax.study import selection, types
from kdjax.study.study import Loaded
from kdjax.study.types import Count, Positive, Positives
from kdjax.training import Training, optimizers, train
from kdjax.training.teacher import live

END = "<|endoftext|>"
LENGTH = 64  # tokens of a row
BATCH_SIZE = 32
CHARACTERS = 256  # below this vocabulary, tokens are characters
adamw = partial(optimizers.adamw, warmup=0.1, weight_decay=0.01)
LIKELIHOOD = objectives.on_tokens(losses.cross_entropy)
lowest = partial(selection.smallest_rates, score="validation_nll_last")


@dataclass(frozen=True)
class Config(types.Config):
    teacher_layers: Count = 4
    """Layers of the teacher."""
    teacher_width: Count = 128
    """Width of the teacher."""
    teacher_steps: Count = 1140
    """Steps of the teacher's training, in epochs of which the best is selected."""
    teacher_rate: Positive = 3e-3
    """Peak learning rate of the teacher (AdamW)."""
    layers: Count = 2
    """Layers of a student."""
    steps: Count = 320
    """Steps of a student's training."""
    measured: Count = 1000
    """Number of test rows, of 64 tokens, to measure on."""
    watched: Count = 300
    """Number of validation rows to select on."""
    learning_rates: Positives = (3e-3, 1e-2, 3e-2)
    """Peak learning rates of students (AdamW) to select from."""
    seeds: Count = 5
    """Number of seeds, each with one student per setting."""


# A run of about a minute.
QUICK = {
    "teacher_layers": 1,
    "teacher_width": 32,
    "teacher_steps": 60,
    "layers": 1,
    "steps": 20,
    "measured": 50,
    "watched": 50,
    "learning_rates": (1e-2,),
    "seeds": 1,
}


class Task(NamedTuple):
    """Stories as rows of tokens."""

    vocabulary: int
    data: Data  # arrays

    def divided(self, steps: int, share: float = 1.0) -> tuple[int, Data]:
        """Epochs of equal length that make this number of steps, and their rows.

        There are whole batches of rows, of a share of the training texts; the steps are
        rounded down to whole epochs.
        """
        batches = max(1, int(share * len(self.data.train["tokens"])) // BATCH_SIZE)
        epochs = -(-steps // batches)
        count = steps // epochs * BATCH_SIZE
        rows = {n: array[:count] for n, array in self.data.train.items()}
        return epochs, self.data._replace(train=rows)


class Teacher(NamedTuple):
    """A decoder that was trained on all of the training stories."""

    model: models.Model
    variables: Variables
    facts: dict[str, Any]


def load(config: Config, vocabularies: Sequence[int], data_dir: str | None) -> Loaded:
    """The tasks, for a study.

    Raises:
      ValueError: if a directory is given, because the stories are not in it.
    """
    if data_dir is not None:
        raise ValueError(f"data_dir is {data_dir!r}, but TinyStories is not in it")
    splits, info = stories.load()
    most = {"validation": config.watched, "test": config.measured}
    tasks = [task(splits, size, most) for size in vocabularies]
    return Loaded((tasks,), {"dataset": info._asdict()})


def task(splits: dict[str, list[str]], vocabulary: int, most: dict[str, int]) -> Task:
    """Stories as tokens, with at most so many rows of some splits."""
    of = language.characters if vocabulary < CHARACTERS else language.byte_pairs
    tokenizer = of(splits["train"], vocabulary, [END])
    rows = {
        name: language.packed(
            tokenizer, texts, length=LENGTH, end=END, vocabulary=vocabulary
        )
        for name, texts in splits.items()
    }
    for name, count in most.items():
        rows[name] = {n: array[:count] for n, array in rows[name].items()}
    return Task(vocabulary, Data(**rows))


def shape(vocabulary: int, layers: int, width: int) -> DecoderShape:
    """The sizes of a decoder with heads of 16."""
    heads = max(1, width // 16)
    inner = 8 * round(width / 3)
    return DecoderShape(vocabulary, layers, width, heads, heads, inner, LENGTH)


def parameters(own: DecoderShape) -> int:
    """Number of parameters of a decoder."""
    shapes = jax.eval_shape(models.decoder(own).init, jax.random.key(0), {})
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))


def teacher(config: Config, own: Task) -> Teacher:
    """A decoder trained on the stories, at its best epoch on validation."""
    epochs, data = own.divided(config.teacher_steps)
    sizes = shape(own.vocabulary, config.teacher_layers, config.teacher_width)
    training = Training(
        models.decoder(sizes),
        LIKELIHOOD,
        epochs,
        BATCH_SIZE,
        adamw,
        select=("nll", "min"),
        measure_batch=100,
    )
    trained = train(
        training,
        {"learning_rate": config.teacher_rate},
        data=data._replace(test=None),
        key=jax.random.key(0),
        name=f"teacher of {own.vocabulary} tokens",
    )
    curve = trained.curves["validation_nll"]
    facts = {
        "vocabulary": own.vocabulary,
        "parameters": parameters(sizes),
        "steps": epochs * (len(data.train["tokens"]) // BATCH_SIZE),
        "epoch": 1 + int(curve.argmin()),
        "validation_nll": float(curve.min()),
        "seconds": round(float(trained.curves["seconds"].sum())),
    }
    return Teacher(training.model, trained.best, facts)


def student(
    own: DecoderShape,
    objective: Callable,
    epochs: int,
    its: Teacher | None = None,
    **more: Any,
) -> Training:
    """A student's training, with the teacher live if there is one."""
    if its is not None:
        more["teacher"] = live(its.model)
    settings = {"select": None, "measure_epochs": epochs, "measure_batch": BATCH_SIZE}
    return Training(
        models.decoder(own), objective, epochs, BATCH_SIZE, adamw, **(settings | more)
    )
