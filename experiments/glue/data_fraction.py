"""Do recipes rank the same with few labels as with many?

An encoder with two narrow layers, which has learned from the pretrained teacher by
MiniLM's loss without labels, learns SST-2 as in `experiments.glue.recipes`, by some of
the recipes, from 1 %, 10 % and all of the training texts, for the same number of steps:
about fifty passes over the fewest texts, and half a pass over all. The teacher was
fine-tuned with all of them. Learning rates are selected on all held-out texts,
separately for each fraction. From the fewest texts, students also learn from the
teacher's predictions without labels, with and without TinyBERT's augmentation: copies
of the texts with words replaced by neighbours.

    python -m experiments.glue.data_fraction    # 2 hours of one core
"""

from dataclasses import dataclass, replace

import jax
import numpy as np
import pandas as pd

from experiments.glue import cells, recipes, setup, teachers, terms
from experiments.glue.students import WIDE
from kdjax.data.splits import every
from kdjax.study.arms import gather
from kdjax.study.claims import Claim, above
from kdjax.study.command import main
from kdjax.study.statistics import bootstrap, format_mean, rank_correlation
from kdjax.study.study import Outcome, print_table
from kdjax.study.types import Count, Fractions, Positives

FEW, ALL = 0.01, 1.0


@dataclass(frozen=True)
class Config(cells.Config):
    tasks: tuple[setup.Name, ...] = ("sst2",)
    """A task of GLUE, or sentences, which need no download."""
    recipes: tuple[terms.Name, ...] = ("logit_mse", "pkd_last", "minilm", "similarity")
    """Recipes to try."""
    factors: Positives = (1.0,)
    """Multiples of a term's usual weight to select from."""
    temperatures: Positives = (2.0,)
    """Temperatures of Hinton's loss to select from."""
    fractions: Fractions = (FEW, 0.1, ALL)
    """Shares of the training texts."""
    copies: int = 20
    """Copies of each text of the smallest fraction with words replaced, for students
    that learn without labels; 0 leaves these students out."""
    steps: Count = 1036
    """Steps of a student's training, rounded to whole epochs."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.copies < 0:
            raise ValueError(f"copies is {self.copies}, but takes no negative number")
        for name in ("tasks", "students"):
            if len(given := getattr(self, name)) != 1:
                raise ValueError(f"{name} is {given!r}, but takes one")
        if WIDE in self.students:
            raise ValueError(f"students is {self.students!r}, but takes narrow ones")


def part(task, its, fraction):
    """The task and its teacher with a fraction of the training texts of each class."""
    split = its.data.train
    rows = np.flatnonzero(every(round(1 / fraction), np.round(split["label"])))
    train = jax.tree.map(lambda array: array[rows], dict(split))
    info = task.info._replace(train=len(rows))
    data = its.data._replace(train=train)
    return task._replace(data=data, info=info), its._replace(data=data)


def run(config, tasks, own, texts):
    (task,), (name,) = tasks.values(), config.students
    its = teachers.fine_tuned(task, config, own)
    begun = recipes.beginnings(config, name, texts, own)
    ways = {way: each.params for way, each in begun.items()}
    found = []
    for fraction in config.fractions:
        some, teacher = part(task, its, fraction)
        more = {"fraction": fraction}
        words = None
        if config.copies and fraction == min(config.fractions):
            words = teachers.reworded(some, teacher, own, config.copies)
        cell = cells.Cell(config, some, teacher, name, ways, reworded=words, more=more)
        found += cells.trained(cell)
    tables, seconds = gather(cells.scored(found, tasks))
    tables = {title: tables[title] for title in ("runs", "search")}
    tables["teachers"] = pd.DataFrame([its.quality])
    seconds += its.quality["seconds"] + sum(each.seconds for each in begun.values())
    return Outcome(tables, {"seconds": round(seconds)})


def at_usual(runs):
    """The runs that begin from the distillation without labels."""
    return runs[runs["start"] == cells.USUAL]


def gain(runs, fraction):
    """``[seeds]``, points of Hinton's loss over fine-tuning at a fraction."""
    rows = at_usual(runs)
    rows = rows[rows["fraction"] == fraction]
    return recipes.difference(rows, "arm", "hinton", "fine_tuning")


def more_with_few(runs):
    """``[seeds]``, points that Hinton's loss adds with few texts less with all."""
    return gain(runs, FEW) - gain(runs, ALL)


def reworded(runs):
    """``[seeds]``, points that replaced words add to distillation without labels."""
    rows = at_usual(runs)
    return recipes.difference(rows, "arm", "alone_reworded", "alone")


def order(runs):
    """Rank correlation of the recipes' scores with few texts and with all."""
    names = ["fine_tuning", "hinton", *Config().recipes]
    table = at_usual(runs).pivot(
        index="seed", columns=["fraction", "arm"], values="score"
    )
    both = table[[(share, name) for share in (FEW, ALL) for name in names]]

    def correlation(drawn):
        means = drawn.to_numpy().mean(0).reshape(2, -1)
        return float(rank_correlation(*means))

    return bootstrap(correlation, both)


def show(tables, meta):
    runs = at_usual(tables["runs"])
    means = runs["score"].groupby([runs["arm"], runs["fraction"]], sort=False)
    print_table(means.agg(format_mean).unstack(), "accuracy (%) by fraction")


STUDY = replace(
    recipes.STUDY,
    name="data_fraction",
    question=__doc__,
    config=Config,
    run=run,
    show=show,
    cost="2 hours of one core",
    quick=recipes.STUDY.quick | {"fractions": (0.5, 1.0), "copies": 0},
    claims={
        "more_with_few": Claim(
            "Distillation helps most where labels are few",
            "percentage points that Hinton's loss adds to fine-tuning with 1 % of "
            "SST-2's texts, less those with all; a teacher that learned from all",
            more_with_few,
            above(0.0),
        ),
        "reworded": Claim(
            "Replacing words teaches what labels do not",
            "percentage points that twenty copies with replaced words add to "
            "distillation without labels, 1 % of SST-2's texts",
            reworded,
            above(0.0),
        ),
        "order": Claim(
            "Recipes rank the same with few labels as with many",
            "rank correlation of the accuracies of fine-tuning and five recipes with "
            "1 % of SST-2's texts and with all",
            order,
            above(0.7),
        ),
    },
)

if __name__ == "__main__":
    main(STUDY)
