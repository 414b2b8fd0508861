"""Which temperature and alpha are best for encoders on GLUE?

An encoder with every other layer of all-MiniLM-L6-v2, which it begins from, learns each
task by Hinton's loss at all pairs of a temperature and an alpha. The baseline is
fine-tuning without a teacher, on which the learning rate is selected on a tenth of the
training texts, with a separate seed. Errors are those on GLUE's validation split, which
is never used for selection.

    python -m experiments.glue.temperature_alpha    # estimate: 3 hours of one core
"""

from dataclasses import dataclass
from functools import partial

import pandas as pd

from experiments.cifar10 import temperature_alpha as images
from experiments.glue import cells, setup, teachers, terms, unlabelled
from experiments.glue.students import WIDE, Name, students
from experiments.glue.unlabelled import LAYERS
from kdjax.study import selection
from kdjax.study.arms import Arm, gather, tuned
from kdjax.study.claims import Claim, below
from kdjax.study.command import main
from kdjax.study.statistics import format_mean
from kdjax.study.study import Outcome, Study, print_table
from kdjax.study.types import Count, Fractions, Positives


@dataclass(frozen=True)
class Config(setup.Tasks):
    tasks: tuple[setup.Name, ...] = ("sst2", "mrpc")
    """Tasks of GLUE, or sentences, which need no download."""
    student: Name = WIDE
    """Layers and width of the student."""
    temperatures: Positives = (1.0, 2.0, images.FIXED, 8.0, 20.0)
    """Temperatures of Hinton's loss."""
    alphas: Fractions = (0.5, 0.9, 1.0)
    """Weights of the teacher in Hinton's loss."""
    learning_rates: Positives = (1e-4, 2e-4, 4e-4)
    """Peak learning rates (AdamW, cosine decay) to select from."""
    steps: Count = 120
    """Steps of a student's training, rounded to whole epochs."""
    seeds: Count = 5
    """Number of seeds, each with one student per setting."""


def arm(name, config, task, teacher, params, axes, choose):
    """Students with hard labels, or with Hinton's loss."""
    shape = students(teacher.shape)[config.student].shape
    objective = {"hard": terms.labelled, "hinton": terms.predicted}[name]
    epochs, steps = task.divided(config.steps)
    training = setup.training(task, shape, objective, epochs)
    return Arm(
        {"task": task.info.name, "arm": name},
        training,
        task.in_batches(steps, teacher.data),
        config.seeds,
        axes,
        choose,
        fixed={"start": params},
    )


def run(config, tasks, own, texts):
    way = LAYERS if config.student == WIDE else cells.USUAL
    begun = unlabelled.beginning(config.student, way, config, texts, own)
    found, qualities = [], []
    for task in tasks.values():
        teacher = teachers.fine_tuned(task, config, own)
        qualities.append(teacher.quality)
        make = partial(
            arm, config=config, task=task, teacher=teacher, params=begun.params
        )
        rates = {"learning_rate": config.learning_rates}
        best = partial(selection.largest, score=f"validation_{task.metric}_last")
        hard = make("hard", axes=rates, choose=best)
        found.append((hard.without_data(), tuned(hard)))
        rate = found[-1][1].runs["learning_rate"].iloc[0]
        axes = {"temperature": config.temperatures, "alpha": config.alphas}
        axes |= {"learning_rate": [rate]}
        hinton = make("hinton", axes=axes, choose=selection.best_rates)
        found.append((hinton.without_data(), tuned(hinton)))
    tables, seconds = gather(found)
    tables = {title: tables[title] for title in ("runs", "search")}
    tables["teachers"] = pd.DataFrame(qualities)
    seconds += begun.seconds + tables["teachers"]["seconds"].sum()
    return Outcome(tables, {"seconds": round(seconds)})


def of_task(measure, runs, task):
    """What CIFAR-10's experiment measures, for the runs of one task."""
    return measure(runs[runs["task"] == task])


def show(tables, meta):
    runs = tables["runs"]
    for task, rows in runs.groupby("task", sort=False):
        cells = rows[rows["arm"] == "hinton"].groupby(["temperature", "alpha"])
        found = cells[images.ERRORS].agg(format_mean).unstack()
        hard = format_mean(rows.loc[rows["arm"] == "hard", images.ERRORS])
        print_table(found, f"{task}: errors by alpha; hard labels {hard}")


CLAIMS = {}
for task, words in {"sst2": "SST-2", "mrpc": "MRPC"}.items():
    CLAIMS[f"usual_{task}"] = Claim(
        "T of 3 to 5 is best",
        "errors at the best T from 3 to 5 minus those at the best other T, both "
        f"selected on held-out texts; {words}, without labels",
        partial(of_task, images.usual_less_others, task=task),
        below(0.0),
    )
    CLAIMS[f"typical_alpha_{task}"] = Claim(
        "A teacher weight of 0.5 to 0.9 is best",
        "errors at the best alpha from 0.5 to 0.9 minus those at the best other alpha, "
        f"both selected on held-out texts; {words}, T = 4",
        partial(of_task, images.typical_less_others, task=task),
        below(0.0),
    )
STUDY = Study(
    "temperature_alpha_glue",
    __doc__,
    Config,
    run,
    show,
    cost="3 hours of one core",
    published={},
    quick=setup.QUICK
    | {
        "student": "2x128",
        "temperatures": (1.0, images.FIXED),
        "alphas": (1.0,),
        "learning_rates": (5e-4,),
    },
    claims=CLAIMS,
    paper=images.STUDY.paper,
    load=setup.load,
)

if __name__ == "__main__":
    main(STUDY)
