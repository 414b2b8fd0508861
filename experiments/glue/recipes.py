"""Which of BERT's recipes for distillation is best, under one budget?

An encoder with every other layer of all-MiniLM-L6-v2 learns SST-2 from the whole one,
fine-tuned for the task. It begins from these layers, like DistilBERT. Other tasks can
be chosen; on CoLA and RTE, even fully pretrained, networks of this size are near chance
(Turc et al. 2019), and texts of the others take up to three times as long. In a first
run (results/recipes_first_run), students of two layers of width 128, drawn at random,
were at chance after twice as many steps, which began from TinyBERT's loss without
labels. That run decides no claim; narrow students have their own experiments.

Each recipe is a term beside the loss on predictions, or a first phase for half of the
epochs; all train for the same number of steps. The weight of a term is selected out of
0.1, 1 and 10 times its usual value, on a tenth of the training texts, with a separate
seed; first phases have none. The learning rate is selected for fine-tuning without a
teacher, which favours fine-tuning. Controls are this fine-tuning, also for twice the
epochs, and after learning to predict masked words by DistilBERT's loss; Hinton's loss
at the best of three temperatures; and PKD-Skip with the hidden states of a teacher that
was never trained. The best recipes of two kinds on the held-out texts are then tried
together. Scores are GLUE's metrics on its validation split, which is never used for
selection.

    python -m experiments.glue.recipes    # 2 hours of one core
"""

from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from typing import Any, get_args

import numpy as np
import pandas as pd

from experiments.glue import attention_maps, cells, setup, teachers, terms, unlabelled
from experiments.glue.cells import CONTROLLED, Cell
from experiments.glue.students import WIDE, Name, students
from kdjax.study import selection
from kdjax.study.arms import gather
from kdjax.study.claims import Claim, above
from kdjax.study.command import main
from kdjax.study.statistics import format_mean, strict_mean
from kdjax.study.study import Outcome, Study, print_table
from kdjax.study.types import Count, Positives

ATTENTION = ("minilm", "minilm_v2")
HIDDEN = ("pkd_skip",)


@dataclass(frozen=True)
class Config(cells.Config):
    tasks: tuple[setup.Name, ...] = ("sst2",)
    """Tasks of GLUE; subsets of three more (mnli_9k, qnli_9k, qqp_9k), which are not
    GLUE's own; or sentences, which need no download."""
    students: tuple[Name, ...] = (WIDE,)
    """Layers and widths of the students."""
    recipes: tuple[terms.Name, ...] = tuple(n for n in terms.ALL if n != "pkd_last")
    """Recipes to try; the best two are also tried together. PKD-Skip stands for both of
    PKD's, of which its paper has it the better one."""
    controls: bool = True
    """Whether to try fine-tuning for twice the epochs, PKD-Skip with a teacher that was
    never trained, and the best two recipes together."""
    wide_starts: tuple[unlabelled.Wide, ...] = get_args(unlabelled.Wide)
    """How the widest student begins: from layers of its teacher, as in recipes, or also
    by DistilBERT's loss on masked words."""
    wide_rates: Positives = (1e-4, 2e-4, 4e-4)
    """Peak learning rates to select from, of the widest student."""
    seeds: Count = 3
    """Number of seeds, each with one student per setting."""


def beginnings(
    config: cells.Config, name: Name, texts: Any, own: setup.Encoder
) -> dict[str, unlabelled.Beginning]:
    """All ways in which a student begins."""
    ways = config.wide_starts if name == WIDE else config.starts
    return {way: unlabelled.beginning(name, way, config, texts, own) for way in ways}


def run(config, tasks, own, texts):
    taught = {
        name: teachers.fine_tuned(task, config, own) for name, task in tasks.items()
    }
    drawn = {}
    if config.controls:
        drawn = {n: teachers.untrained(tasks[n], its) for n, its in taught.items()}
    begun = {name: beginnings(config, name, texts, own) for name in config.students}
    seconds = sum(way.seconds for each in begun.values() for way in each.values())
    every = students(own.shape)
    found = []
    for name, task in product(config.students, tasks):
        ways = {way: each.params for way, each in begun[name].items()}
        cell = Cell(config, tasks[task], taught[task], name, ways, drawn.get(task))
        found += cells.trained(cell)
    tables, spent = gather(cells.scored(found, tasks))
    tables = {title: tables[title] for title in ("runs", "search")}
    tables["teachers"] = pd.DataFrame([each.quality for each in taught.values()])
    tables["students"] = pd.DataFrame(
        [
            {"student": name, **asdict(every[name].shape)}
            | {"parameters": setup.parameters(every[name].shape)}
            for name in config.students
        ]
    )
    tables["attention"] = attention_maps.table(found, tasks, taught, own)
    seconds += spent + tables["teachers"]["seconds"].sum()
    return Outcome(tables, {"seconds": round(seconds)})


def lead(runs, ones, others):
    """``[seeds]``, points of the best of some arms over others, mean over tasks.

    Arms are selected by the validation scores of the other seeds.
    """
    columns = {"score": "score", "by": "validation_score", "worst": -100.0}
    groups = runs[runs["start"] == unlabelled.LAYERS].groupby("task")
    each = [selection.best_less_best(r, ones, others, **columns) for _, r in groups]
    return np.mean(each, 0)


def words(runs):
    """``[seeds]``, points of fine-tuning that DistilBERT's loss adds to layers."""
    rows = runs[runs["arm"] == "fine_tuning"]
    return difference(rows, "start", unlabelled.DISTILBERT, unlabelled.LAYERS)


def difference(rows, column, one, other):
    """``[seeds]``, points of one value of a column over another, mean over all else.

    A seed with a score that is NaN has no mean.
    """
    means = rows.groupby(["seed", column])["score"].agg(strict_mean).unstack()
    return (means[one] - means[other]).to_numpy()


def show(tables, meta):
    runs = tables["runs"]
    keys = [runs[name] for name in ("student", "start", "arm", "task")]
    table = runs["score"].groupby(keys, sort=False).agg(format_mean).unstack()
    print_table(table.fillna("-"), "GLUE's score (%), mean over seeds")
    teachers = tables["teachers"].set_index("task")[["metric", "score"]].round(1)
    print_table(teachers, "teachers")


FEATURES = tuple(name for name in Config().recipes if name != "logit_mse")
LOGITS = ("hinton", "logit_mse")
MEAN = "percentage points of accuracy on SST-2"
CLAIMS = {
    "attention": Claim(
        "Recipes on attention are better than those on hidden states",
        f"{MEAN} of the better of MiniLM and MiniLMv2 over PKD-Skip, as published: "
        "MiniLM's in a phase before the labels, PKD's beside them and the teacher's "
        "predictions, with its weight selected",
        partial(lead, ones=ATTENTION, others=HIDDEN),
        above(0.0),
    ),
    "richer": Claim(
        "Hidden activations are a richer signal than logits",
        f"{MEAN} of the best recipe with features over the best on logits alone",
        partial(lead, ones=FEATURES, others=LOGITS),
        above(0.0),
    ),
    "worth": Claim(
        "A teacher is worth more than twice the epochs",
        f"{MEAN} of the best recipe over fine-tuning for twice the epochs",
        partial(lead, ones=Config().recipes, others=("long",)),
        above(0.0),
    ),
    "together": Claim(
        "Two recipes together are better than the best alone",
        f"{MEAN} of the best two of different kinds together over the best recipe",
        partial(lead, ones=("best_two",), others=Config().recipes),
        above(0.0),
    ),
    "trained": Claim(
        "Hidden states teach because their teacher was trained",
        f"{MEAN} of PKD-Skip over the same with the hidden states of a teacher that "
        "was never trained",
        partial(lead, ones=(CONTROLLED,), others=(f"{CONTROLLED}_untrained",)),
        above(0.0),
    ),
    "words": Claim(
        "DistilBERT's loss on masked words makes a better start",
        f"{MEAN} that it adds to layers of the teacher, fine-tuning",
        words,
        above(0.0),
    ),
}
STUDY = Study(
    "recipes",
    __doc__,
    Config,
    run,
    show,
    cost="2 hours of one core",
    published={},
    quick=setup.QUICK
    | {"recipes": ("pkd_last",), "controls": False}
    | {"students": ("2x128",)}
    | {"factors": (1.0,), "temperatures": (2.0,), "learning_rates": (5e-4,)},
    claims=CLAIMS,
    load=setup.load,
)

if __name__ == "__main__":
    main(STUDY)
