"""Which of BERT's recipes for distillation is best, under one budget?

A small encoder learns tasks of GLUE from all-MiniLM-L6-v2, fine-tuned for each task. It
has first learned from the pretrained teacher without labels, by TinyBERT's loss, as in
that paper; controls begin from random weights, or take MiniLM's loss first. CoLA and
RTE are not among the tasks: even fully pretrained, a network of this size is at chance
(Turc et al. 2019).

Each recipe is a term beside the loss on predictions, or a first phase for half of the
epochs; all train for the same number of steps. The weight of a term is selected out of
0.1, 1 and 10 times its usual value, on a tenth of the training texts, with a separate
seed; first phases have none. The learning rate is selected for fine-tuning without a
teacher, which favours fine-tuning. Controls are this fine-tuning, also for twice the
epochs, Hinton's loss at the best of three temperatures, and recipes with the hidden
states of a teacher that was never trained. The best recipes of two kinds on the
held-out texts are then tried together. Where there are few training texts, students
also learn from the teacher's predictions alone for four times the epochs, with and
without TinyBERT's augmentation, copies of the texts in which words are replaced by
neighbours. Scores are GLUE's metrics on its validation split, which is never used for
selection.

    python -m experiments.glue.recipes    # estimate: 10 hours of one core
"""

from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from typing import Any, get_args

import numpy as np
import pandas as pd

from experiments.glue import attention_maps, cells, setup, teachers, terms, unlabelled
from experiments.glue.cells import CONTROLLED, USUAL, Cell
from experiments.glue.students import WIDE, Name, students
from kdjax.study import selection
from kdjax.study.arms import gather
from kdjax.study.claims import Claim, above
from kdjax.study.command import main
from kdjax.study.statistics import format_mean, strict_mean
from kdjax.study.study import Outcome, Study, print_table

ATTENTION = ("minilm", "minilm_v2")
HIDDEN = ("pkd_skip", "pkd_last")
FEW = 10_000  # training texts, of which a student sees each several times


@dataclass(frozen=True)
class Config(cells.Config):
    tasks: tuple[setup.Name, ...] = ("sst2", "mrpc", "stsb")
    """Tasks of GLUE; subsets of three more (mnli_9k, qnli_9k, qqp_9k), which are not
    GLUE's own; or sentences, which need no download."""
    controls: bool = True
    """Whether to try fine-tuning for twice the epochs, PKD-Last and similarities with a
    teacher that was never trained, and the best two recipes together."""
    starts: tuple[cells.Start, ...] = (USUAL, "minilm", "none")
    """Losses of the distillation without labels, or none for random weights; recipes
    begin from tinybert. The widest student begins from layers of its teacher."""
    copies: int = 3
    """Copies of each training text with some words replaced, as TinyBERT has them, for
    students that learn from the teacher alone; 0 leaves these students out."""


def beginnings(
    config: cells.Config, name: Name, texts: Any, own: setup.Encoder
) -> dict[str, unlabelled.Beginning]:
    """All ways in which a student begins."""
    ways = get_args(unlabelled.Wide) if name == WIDE else config.starts
    return {way: unlabelled.beginning(name, way, config, texts, own) for way in ways}


def run(config, tasks, own, texts):
    taught = {
        name: teachers.fine_tuned(task, config, own) for name, task in tasks.items()
    }
    drawn, reworded = {}, {}
    for name, its in taught.items():
        if config.controls:
            drawn[name] = teachers.untrained(tasks[name], its)
        if config.copies and tasks[name].info.train < FEW:
            reworded[name] = teachers.reworded(tasks[name], its, own, config.copies)
    begun = {name: beginnings(config, name, texts, own) for name in config.students}
    seconds = sum(way.seconds for each in begun.values() for way in each.values())
    every = students(own.shape)
    found = []
    for name, task in product(config.students, tasks):
        ways = {way: each.params for way, each in begun[name].items()}
        more = drawn.get(task), reworded.get(task)
        cell = Cell(config, tasks[task], taught[task], name, ways, *more)
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
    """``[seeds]``, points of the best of some arms over others, mean over all cells.

    Cells are tasks and narrow students. Arms are selected by the validation scores of
    the other seeds.
    """
    narrow = runs[(runs["start"] == USUAL) & (runs["student"] != WIDE)]
    columns = {"score": "score", "by": "validation_score", "worst": -100.0}
    groups = narrow.groupby(["task", "student"])
    each = [selection.best_less_best(r, ones, others, **columns) for _, r in groups]
    return np.mean(each, 0)


def reworded(runs):
    """``[seeds]``, points that copies add, on the tasks on which they were tried."""
    one, other = "alone_long_reworded", "alone_long"
    tried = runs.loc[runs["arm"] == one, "task"]
    return lead(runs[runs["task"].isin(tried)], (one,), (other,))


def general(runs):
    """``[seeds]``, points of fine-tuning that a distillation without labels adds."""
    rows = runs[(runs["arm"] == "fine_tuning") & (runs["student"] != WIDE)]
    return difference(rows, "start", USUAL, "none")


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


FEATURES = tuple(name for name in terms.ALL if name != "logit_mse")
LOGITS = ("hinton", "logit_mse")
MEAN = "percentage points of GLUE's score, mean over tasks and narrow students,"
CLAIMS = {
    "attention": Claim(
        "Recipes on attention are better than those on hidden states",
        f"{MEAN} of the better of MiniLM and MiniLMv2 over the better of PKD's two, as "
        "published: MiniLM's in a phase before the labels, PKD's beside them and the "
        "teacher's predictions, with its weight selected",
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
        partial(lead, ones=terms.ALL, others=("long",)),
        above(0.0),
    ),
    "together": Claim(
        "Two recipes together are better than the best alone",
        f"{MEAN} of the best two of different kinds together over the best recipe",
        partial(lead, ones=("best_two",), others=terms.ALL),
        above(0.0),
    ),
    "trained": Claim(
        "Hidden states teach because their teacher was trained",
        f"{MEAN} of the better of PKD-Last and similarities over the same two with the "
        "hidden states of a teacher that was never trained",
        partial(
            lead, ones=CONTROLLED, others=tuple(f"{n}_untrained" for n in CONTROLLED)
        ),
        above(0.0),
    ),
    "general": Claim(
        "Distillation without labels comes first",
        f"{MEAN} that 1,600 steps of TinyBERT's loss on texts without labels add to "
        "fine-tuning",
        general,
        above(0.0),
    ),
    "reworded": Claim(
        "Replacing words teaches what labels do not",
        f"{MEAN} that copies with replaced words add to the teacher alone, with four "
        "times the epochs, on tasks with less than 10,000 training texts",
        reworded,
        above(0.0),
    ),
}
STUDY = Study(
    "recipes",
    __doc__,
    Config,
    run,
    show,
    cost="10 hours of one core",
    published={},
    quick=setup.QUICK
    | {"recipes": ("pkd_last",), "starts": (USUAL,), "copies": 0, "controls": False}
    | {"factors": (1.0,), "temperatures": (2.0,), "learning_rates": (5e-4,)},
    claims=CLAIMS,
    load=setup.load,
)

if __name__ == "__main__":
    main(STUDY)
