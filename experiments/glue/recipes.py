"""Which of BERT's recipes for distillation is best, under one budget?

Small encoders learn tasks of GLUE from all-MiniLM-L6-v2, fine-tuned for each task. One
has every other layer of the teacher and begins from them, as DistilBERT. The others are
narrower. They begin from a student that has learned from the pretrained teacher without
labels, by TinyBERT's loss, as in its paper; as controls from nothing, or from one that
learned by the loss of MiniLM or MiniLMv2. The first is also fine-tuned after it has
learned by DistilBERT's loss on masked words.

Each recipe is a term beside the loss on predictions, or a first phase for half of the
epochs; all train for the same number of steps. The weight of a term is selected out of
a tenth, once and ten times its usual value on a tenth of the training texts, with a
seed that is not measured. The learning rate is selected for fine-tuning without a
teacher, which favours it. Controls are this fine-tuning, also for twice the epochs,
Hinton's loss at the best of three temperatures, and recipes with the hidden states of a
teacher that was never trained. The two recipes that are best on the held-out texts are
then tried together. Scores are GLUE's metrics on its validation split, which nothing is
selected on.

    python -m experiments.glue.recipes --data-dir tfds    # 10 hours
"""

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from experiments.glue import setup, terms, unlabelled
from experiments.glue.cells import USUAL, Cell, Config, best_two, fine_tuned, others
from experiments.glue.students import WIDE, Name, students
from kdjax.study import selection
from kdjax.study.arms import all_tuned, gather, tuned
from kdjax.study.claims import Claim, above
from kdjax.study.command import main
from kdjax.study.statistics import format_mean, rank_correlation
from kdjax.study.study import Outcome, Study, print_table

ATTENTION = ("minilm", "minilm_v2")
HIDDEN = ("pkd_skip", "pkd_last")


def cells(config: Config) -> Iterator[tuple[str, str]]:
    """All pairs of a task and a student."""
    for name in config.students:
        for task in config.tasks:
            if name != WIDE or task in config.wide_tasks:
                yield task, name


def beginnings(
    config: Config, name: Name, texts: Any, own: setup.Encoder
) -> dict[str, unlabelled.Beginning]:
    """All ways in which a student begins, but for weights that are drawn."""
    ways = config.wide_general if name == WIDE else config.general
    return {way: unlabelled.beginning(name, way, config, texts, own) for way in ways}


def run(config, tasks, own, texts):
    teachers = {
        name: setup.teacher(task, config, own)
        for name, task in tasks.items()
        if name in {each for each, _ in cells(config)}
    }
    untrained = teachers.items() if config.untrained else ()
    drawn = {name: setup.untrained(tasks[name], its) for name, its in untrained}
    begun = {name: beginnings(config, name, texts, own) for name in config.students}
    seconds = sum(way.seconds for each in begun.values() for way in each.values())
    every = students(own.shape)
    found = []
    for task, name in cells(config):
        ways = {way: each.params for way, each in begun[name].items()}
        cell = Cell(
            config,
            tasks[task],
            teachers[task],
            every[name],
            ways if name == WIDE else {**ways, "none": None},
            {
                "task": task,
                "metric": tasks[task].metric,
                "teacher_score": teachers[task].quality["score"],
                "student": name,
            },
            drawn.get(task),
        )
        rates = {}
        for way in cell.ways:
            one = fine_tuned(cell, way)
            each = tuned(one)
            rates[way] = float(each.runs["learning_rate"].iloc[0])
            found.append((one.without_data(), each))
        arms = partial(others, cell, rates)
        new = [(a.without_data(), each) for a, each in all_tuned(arms)]
        if len(config.recipes) > 1:
            last = best_two(cell, rates[cell.usual], gather(new)[0]["runs"])
            new.append((last.without_data(), tuned(last)))
        found += new
    tables, more = gather(scored(found, tasks))
    tables = {title: tables[title] for title in ("runs", "search")}
    tables["teachers"] = pd.DataFrame([each.quality for each in teachers.values()])
    tables["students"] = pd.DataFrame(
        [
            {"student": name, **asdict(every[name].shape)}
            | {"parameters": setup.parameters(every[name].shape)}
            for name in config.students
        ]
    )
    seconds += more + tables["teachers"]["seconds"].sum()
    return Outcome(tables, {"seconds": round(seconds)})


def scored(found, tasks):
    """The results with a ``score``, GLUE's metric in percent, for all tasks.

    Tasks with scores have a rank correlation in percent, too.
    """
    for one, each in found:
        metric = one.columns["metric"]
        runs = each.runs.assign(
            score=100 * each.runs[f"test_{metric}_last"],
            validation_score=100 * each.runs[f"validation_{metric}_last"],
        )
        if each.extras:
            true = tasks[one.columns["task"]].data.test["score"]
            predicted = each.extras["test"][..., 0]
            runs["spearman"] = 100 * rank_correlation(predicted, true)
        yield one, each._replace(runs=runs)


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


def general(runs, way):
    """``[seeds]``, points of fine-tuning from a student distilled without labels.

    Over fine-tuning from nothing, mean over tasks and narrow students.
    """
    rows = runs[(runs["arm"] == "fine_tuning") & (runs["student"] != WIDE)]
    means = rows.pivot_table("score", "seed", "start", "mean")
    return (means[way] - means["none"]).to_numpy()


def kept(runs):
    """``[seeds]``, share of the teacher's score of Hinton's student, mean over tasks.

    Of the student that has every other layer of the teacher.
    """
    rows = runs[(runs["arm"] == "hinton") & (runs["start"] == "layers")]
    shares = rows["score"] / rows["teacher_score"]
    return shares.groupby(rows["seed"]).mean().to_numpy()


def show(tables, meta):
    runs = tables["runs"]
    keys = [runs[name] for name in ("student", "start", "arm", "task")]
    table = runs["score"].groupby(keys, sort=False).agg(format_mean).unstack()
    print_table(table.fillna("-"), "GLUE's score (%), mean over seeds")
    teachers = tables["teachers"].set_index("task")[["metric", "score"]].round(1)
    print_table(teachers, "teachers")


CONTROLLED = Config().untrained
FEATURES = tuple(name for name in terms.ALL if name != "logit_mse")
MEAN = "percentage points of GLUE's score, mean over tasks and narrow students,"
CLAIMS = {
    "attention": Claim(
        "Attention teaches more than hidden states",
        f"{MEAN} of the better of MiniLM and MiniLMv2 over the better of PKD's two",
        partial(lead, ones=ATTENTION, others=HIDDEN),
        above(0.0),
    ),
    "richer": Claim(
        "Hidden activations are a richer signal than logits",
        f"{MEAN} of the best recipe with features over Hinton's loss",
        partial(lead, ones=FEATURES, others=("hinton",)),
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
        f"{MEAN} of the sum of the best two over the best recipe",
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
        f"{MEAN} that TinyBERT's loss on texts without labels adds to fine-tuning",
        partial(general, way=USUAL),
        above(0.0),
    ),
    "kept": Claim(
        "Half of the layers keep 97 % of BERT's score",
        "share of the teacher's score, Hinton's loss, mean over MRPC and STS-B",
        kept,
        above(0.97),
    ),
}
STUDY = Study(
    "recipes",
    __doc__,
    Config,
    run,
    show,
    cost="10 hours",
    published={},
    quick=setup.QUICK
    | {"students": ("2x128",), "recipes": ("pkd_last",), "general": (USUAL,)}
    | {"untrained": ("pkd_last",)}
    | {"factors": (1.0,), "temperatures": (2.0,), "learning_rates": (5e-4,)},
    claims=CLAIMS,
    load=setup.load,
)

if __name__ == "__main__":
    main(STUDY)
