"""Do relations between sentences teach an encoder more than their embeddings do?

Small encoders learn the embeddings of a pretrained one, all-MiniLM-L6-v2 or the larger
all-mpnet-base-v2, from sentences without labels. Losses on points compare the two
embeddings of each sentence: after a linear map to the teacher's width, or with the
teacher's embeddings reduced to the student's width by a singular value decomposition.
Losses on relations compare similarities or distances within a batch, or ask which of
the teacher's embeddings is that of the sentence (InfoNCE, after a linear map).

Controls are students that have not learned anything; students without a teacher, which
learn to tell their sentences apart under dropout (SimCSE); the losses with a teacher
that was never trained; and a student that keeps its linear map, whose embeddings are as
wide as the teacher's. Learning rates, and the temperature of neighbours, are selected
on held-out training pairs of STS-B with a separate seed. Embeddings are means over
tokens, of length one. They are judged by the rank correlation of their cosines with the
scores of STS-B, and by how often the paraphrase of a sentence is the nearest of all
second sentences of its task.

Set KDJAX_MPNET and KDJAX_GLUE_SUBSETS to the folders of the larger teacher and of the
subsets.

    python -m experiments.glue.embeddings    # 3 hours of one core
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from experiments.glue import sentences, setup
from experiments.glue.embedding_losses import (
    ALL,
    POINTS,
    RELATIONS,
    WAYS,
    Name,
    mapped,
    twice,
)
from experiments.glue.embedding_teachers import (
    Teacher,
    embedded,
    opened,
    with_teacher,
)
from experiments.glue.sentences import Sentences, as_sentences, judged
from kdjax import models
from kdjax.data import Data, text
from kdjax.models import Batch, Model, Shape
from kdjax.study import selection
from kdjax.study.arms import Arm, all_tuned, gather
from kdjax.study.claims import Claim, above
from kdjax.study.command import main
from kdjax.study.statistics import format_mean
from kdjax.study.study import Loaded, Outcome, Study, print_table
from kdjax.study.types import Config as Checked
from kdjax.study.types import Count, Counts, Positives
from kdjax.training import Training

HEADS = 4
MIXED = 0.4  # share of padding, so that relations are between more lengths


@dataclass(frozen=True)
class Config(Checked):
    losses: tuple[Name, ...] = ALL
    """Losses to try; none is SimCSE, without a teacher."""
    widths: Counts = (32, 64)
    """Widths of students with two layers, whose teacher is all-MiniLM-L6-v2."""
    others: tuple[Name, ...] = ("cosine", "neighbours")
    """Losses of students with other layers or another teacher."""
    layers: Counts = (1, 2, 3)
    """Numbers of layers to try at the last width."""
    teachers: tuple[Teacher, ...] = ("minilm", "mpnet", "untrained")
    """Teachers to try, with two layers at the last width."""
    learning_rates: Positives = (1e-3, 4e-3, 1.6e-2)
    """Peak learning rates (AdamW, cosine decay) to select from."""
    temperatures: Positives = (0.05, 0.2)
    """Temperatures of neighbours to select from."""
    corpus: tuple[setup.Name, ...] = (
        *("cola", "sst2", "mrpc", "rte", "stsb", "mnli_9k", "qqp_9k"),
    )
    """Tasks whose training sentences are for distillation."""
    sentences: Count = 20_000
    """Sentences to train on, drawn from those of the corpus."""
    epochs: Count = 2
    """Epochs of a student's training."""
    batch_size: Count = 128
    """Sentences per batch, within which losses see relations."""
    scored: setup.Name = "stsb"
    """Task with scores of pairs."""
    retrieved: tuple[setup.Name, ...] = ("mrpc", "qqp_9k")
    """Tasks in which paraphrases are retrieved."""
    seeds: Count = 5
    """Number of seeds, each with one student per setting."""
    other_seeds: Count = 3
    """Number of seeds of students with other layers or another teacher."""


def load(config: Config, data_dir: str | None) -> Loaded:
    """The sentences, and what they are, for a study."""
    for teacher in config.teachers:
        opened(teacher)  # which raises if it is not there
    names = list(dict.fromkeys((*config.corpus, config.scored, *config.retrieved)))
    setup.check_directory(names, data_dir)
    tasks = {name: setup.opened(name, data_dir) for name in names}
    found = sentences.gathered(
        {name: splits for name, (splits, _) in tasks.items()},
        corpus=config.corpus,
        count=config.sentences,
        scored=config.scored,
        retrieved=config.retrieved,
    )
    facts = {
        "datasets": {name: info._asdict() for name, (_, info) in tasks.items()},
        "sentences": {"train": len(found.train)}
        | {name: len(each.candidates) for name, each in found.searches.items()},
    }
    return Loaded((found,), facts)


class Cell(NamedTuple):
    """Students of one size and one teacher."""

    teacher: Teacher
    layers: int
    width: int
    losses: tuple[Name, ...]
    seeds: int


def cells(config: Config) -> Iterator[Cell]:
    """All students: by width, by layers, and by teacher."""
    last = config.widths[-1]
    for width in config.widths:
        yield Cell("minilm", 2, width, config.losses, config.seeds)
    others = tuple(name for name in config.others if name in config.losses)
    for layers in sorted({*config.layers} - {2}):
        yield Cell("minilm", layers, last, others, config.other_seeds)
    taught = tuple(name for name in others if name != "none")
    for teacher in config.teachers:
        if teacher != "minilm":
            yield Cell(teacher, 2, last, taught, config.other_seeds)


def arms(config: Config, cell: Cell, data: Data, shape: Shape) -> Iterator[Arm]:
    """Students of each loss."""
    encoder = models.bert(shape, classes=1, dropout=0.1)
    judge = partial(selection.largest, score="validation_pearson_last")
    lengths = setup.buckets(data.train, MIXED)
    stream = text.bucketed(data.train, config.batch_size, lengths=lengths)
    for name in cell.losses:
        network = as_sentences(encoder)
        if name == "none":
            network = twice(network)
        if name == "kept":
            network = mapped(network, data.train["teacher"].features[0].shape[-1])
        axes = {"learning_rate": config.learning_rates}
        if name == "neighbours":
            axes["temperature"] = config.temperatures
        training = Training(
            network,
            WAYS[name].objective,
            config.epochs,
            config.batch_size,
            optimizer=setup.adamw,
            projector=WAYS[name].projector,
            measures=(sentences.pearson(),),
            select=None,
            measure_epochs=config.epochs,
        )
        columns = {"teacher": cell.teacher, "layers": cell.layers, "width": cell.width}
        columns |= {"arm": name}
        own = data._replace(train=stream)
        extras = partial(embeddings, network)
        yield Arm(columns, training, own, cell.seeds, axes, judge, extras=extras)


def embeddings(network: Model, variables: Any, data: Data) -> dict[str, jax.Array]:
    """``extras`` of an arm: the embeddings of the test split, in half precision."""
    split = {n: data.test[n] for n in text.TOKEN_ARRAYS}
    apply = partial(_embedding, network, variables)
    return {"embeddings": jax.lax.map(apply, split, batch_size=500)}


def _embedding(network: Model, variables: Any, row: Batch) -> jax.Array:
    one = {name: array[None] for name, array in row.items()}
    return network.apply(variables, one)[0].features[0][0].astype(jnp.float16)


def run(config: Config, texts: Sentences) -> Outcome:
    its_tokens = texts.tokens(own := setup.encoder())
    stored: dict[Teacher, Data] = {}
    found, teachers, drawn = [], [], []
    for cell in cells(config):
        if cell.teacher not in stored:
            stored[cell.teacher] = embedded(cell.teacher, texts)
        data = with_teacher(its_tokens, stored[cell.teacher], cell.width)
        for reduced, x in enumerate(data.test["teacher"].features):
            row = {"teacher": cell.teacher, "reduced": bool(reduced)}
            row |= {"width": x.shape[-1], **judged(x, texts)}
            teachers.append(row)
        shape = replace(
            own.shape,
            layers=cell.layers,
            width=cell.width,
            heads=HEADS,
            feed_forward=4 * cell.width,
        )
        drawn.append(at_the_start(cell, shape, data, texts))
        for arm, each in all_tuned(partial(arms, config, cell, data, shape)):
            scores = [judged(x, texts) for x in each.extras["embeddings"]]
            runs = each.runs.assign(**pd.DataFrame(scores))
            found.append((arm.without_data(), each._replace(runs=runs, extras={})))
    tables, seconds = gather(found)
    tables = {title: tables[title] for title in ("runs", "search")}
    tables["teachers"] = pd.DataFrame(teachers).drop_duplicates()
    tables["drawn"] = pd.DataFrame(drawn).drop_duplicates()
    return Outcome(tables, {"seconds": round(seconds)})


def at_the_start(
    cell: Cell, shape: Shape, data: Data, texts: Sentences
) -> dict[str, Any]:
    """How a student is judged whose weights have been drawn, but not trained."""
    network = as_sentences(models.bert(shape, classes=1))
    variables = network.init(jax.random.key(0), data.validation)
    x = jax.jit(partial(embeddings, network))(variables, data)["embeddings"]
    return {"layers": cell.layers, "width": cell.width, **judged(x, texts)}


def lead(
    runs: pd.DataFrame, score: str, ones: tuple[Name, ...], others: tuple[Name, ...]
) -> np.ndarray:
    """``[seeds]``, points of the best of some losses over others, mean over widths.

    Students have two layers, and all-MiniLM-L6-v2 for a teacher. Losses are selected by
    the held-out pairs of the other seeds.
    """
    rows = runs[(runs["teacher"] == "minilm") & (runs["layers"] == 2)]
    columns = {"score": score, "by": "validation_pearson_last", "worst": -1.0}
    widths = rows.groupby("width")
    each = [selection.best_less_best(r, ones, others, **columns) for _, r in widths]
    return np.mean(each, 0)


def show(tables: dict[str, pd.DataFrame], meta: dict[str, Any]) -> None:
    runs = tables["runs"]
    scores = [name for name in runs if name.startswith(("spearman", "recall"))]
    keys = [runs[name] for name in ("teacher", "layers", "width", "arm")]
    table = runs[scores].groupby(keys, sort=False).agg(format_mean)
    print_table(table, "Students: rank correlation and recall (%)")
    teachers = tables["teachers"].set_index(["teacher", "width"])[scores].round(1)
    print_table(teachers, "Teachers, also reduced to widths of students")
    drawn = tables["drawn"].set_index(["layers", "width"])[scores].round(1)
    print_table(drawn, "Students before they learn")


CLAIMS = {
    f"relations_{score}": Claim(
        "Relations teach narrower embeddings better than points do",
        f"percentage points of {words}, of the best loss on relations over the best on "
        "points, both selected on held-out pairs; mean over students six and twelve "
        "times narrower than the teacher",
        partial(lead, score=score, ones=RELATIONS, others=POINTS),
        above(0.0),
    )
    for score, words in {
        "spearman": "rank correlation on STS-B",
        "recall1_qqp_9k": "recall@1 of QQP's paraphrases",
        "recall1_mrpc": "recall@1 of MRPC's paraphrases",
    }.items()
} | {
    "teacher_spearman": Claim(
        "A teacher of embeddings is worth more than none",
        "percentage points of rank correlation on STS-B of the best loss with a "
        "teacher over SimCSE; mean over students six and twelve times narrower",
        partial(lead, score="spearman", ones=(*POINTS, *RELATIONS), others=("none",)),
        above(0.0),
    )
}
STUDY = Study(
    "embeddings",
    __doc__,
    Config,
    run,
    show,
    cost="3 hours of one core",
    published={},
    quick={
        "losses": ("none", "cosine", "pkt"),
        "widths": (32,),
        "layers": (2,),
        "teachers": ("minilm",),
        "learning_rates": (4e-3,),
        "corpus": ("sentences",),
        "scored": "sentences",
        "retrieved": ("sentences",),
        "batch_size": 32,
        "seeds": 1,
        "other_seeds": 1,
    },
    claims=CLAIMS,
    load=load,
)

if __name__ == "__main__":
    main(STUDY)
