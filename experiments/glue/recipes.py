"""Which of BERT's recipes for distillation is best, under one budget?

Small encoders learn tasks of GLUE from all-MiniLM-L6-v2, fine-tuned for each task. One
has every other layer of the teacher and begins from them, as DistilBERT. The others are
narrower. They begin from a student that has learned from the pretrained teacher without
labels, by TinyBERT's loss, as in its paper; as controls from nothing, or from one that
learned by the loss of MiniLM or MiniLMv2.

Each recipe is a term beside the loss on predictions, or a first phase for half of the
epochs; all train for the same number of steps. The weight of a term is selected out of
a tenth, once and ten times its usual value on a tenth of the training texts, with a
seed that is not measured. The learning rate is selected for fine-tuning without a
teacher, which favours it. Controls are this fine-tuning, also for twice the epochs, and
Hinton's loss at the best of three temperatures. Scores are GLUE's metrics on its
validation split, which nothing is selected on.

    python -m experiments.glue.recipes --data-dir tfds    # 10 hours
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, NamedTuple, get_args

import numpy as np
import pandas as pd

from experiments.glue import setup, terms, unlabelled
from experiments.glue.students import NAMES, WIDE, Name, Student, students
from kdjax.study import selection
from kdjax.study.arms import Arm, all_tuned, gather, tuned
from kdjax.study.claims import Claim, above
from kdjax.study.command import main
from kdjax.study.statistics import format_mean
from kdjax.study.study import Outcome, Study, print_table
from kdjax.study.types import Count, Fraction, Positives
from kdjax.training import Training, start
from kdjax.training.teacher import live

USUAL = "tinybert"  # the general distillation from which all recipes begin
ATTENTION = ("minilm", "minilm_v2")
HIDDEN = ("pkd_skip", "pkd_last")


@dataclass(frozen=True)
class Config(setup.Tasks):
    students: tuple[Name, ...] = NAMES
    """Layers and widths of the students."""
    recipes: tuple[terms.Name, ...] = terms.ALL
    """Recipes to try."""
    general: tuple[terms.Name, ...] = (USUAL, "minilm", "minilm_v2")
    """Losses of the distillation without labels; recipes begin from tinybert."""
    wide_general: tuple[unlabelled.Wide, ...] = get_args(unlabelled.Wide)
    """How the student that is as wide as the teacher begins; recipes from layers."""
    learning_rates: Positives = (2e-4, 5e-4)
    """Peak learning rates (AdamW, cosine decay) to select from."""
    factors: Positives = (0.1, 1.0, 10.0)
    """Multiples of a term's usual weight to select from."""
    temperatures: Positives = (1.0, 2.0, 4.0)
    """Temperatures of Hinton's loss to select from."""
    alpha: Fraction = 0.5
    """Weight of the teacher in Hinton's loss."""
    steps: Count = 400
    """Steps of a student's training, rounded to whole epochs."""
    seeds: Count = 5
    """Number of seeds, each with one student per setting."""
    wide_tasks: tuple[setup.Name, ...] = ("mrpc", "stsb")
    """Tasks of the student that is as wide as the teacher, which takes longer."""
    wide_seeds: Count = 3
    """Number of seeds of this student."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if USUAL not in self.general and set(self.students) - {WIDE}:
            raise ValueError(f"general is {self.general!r}, but must have {USUAL}")


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


class Cell(NamedTuple):
    """A task and a student, whose arms share all of this."""

    config: Config
    task: setup.Task
    teacher: setup.Teacher
    student: Student
    ways: dict[str, Any]  # parameters to begin from; None for those that are drawn
    columns: dict[str, Any]

    @property
    def usual(self) -> str:
        """The way in which recipes begin."""
        return "layers" if self.student.start else USUAL

    @property
    def epochs(self) -> int:
        return self.task.epochs(self.config.steps)

    @property
    def seeds(self) -> int:
        return self.config.wide_seeds if self.student.start else self.config.seeds


def phase(
    cell: Cell, objective: Callable, epochs: int, way: str, **more: Any
) -> Training:
    begin = start.drawn if cell.ways[way] is None else start.pretrained
    shape = cell.student.shape
    return setup.training(cell.task, shape, objective, epochs, start=begin, **more)


def arm(cell: Cell, name: str, way: str, phases: Any, axes: dict[str, Any]) -> Arm:
    fixed = {"teacher": cell.teacher.variables, "start": cell.ways[way]}
    columns = {**cell.columns, "start": way, "arm": name}
    data = cell.task.in_batches(cell.teacher.data)
    choose = partial(selection.largest, score=f"validation_{cell.task.metric}_last")
    return Arm(columns, phases, data, cell.seeds, axes, choose, fixed=fixed)


def fine_tuned(cell: Cell, way: str) -> Arm:
    """Students without a teacher, for which the learning rate is selected."""
    training = phase(cell, terms.labelled, cell.epochs, way)
    axes = {"learning_rate": cell.config.learning_rates}
    return arm(cell, "fine_tuning", way, training, axes)


def others(cell: Cell, rates: dict[str, float]) -> Iterator[Arm]:
    """All other arms, at the learning rates of fine-tuning."""
    config = cell.config
    for way in (cell.usual, "none"):
        if way in rates:
            training = phase(cell, terms.predicted, cell.epochs, way)
            axes = {"temperature": config.temperatures, "alpha": [config.alpha]}
            axes["learning_rate"] = [rates[way]]
            yield arm(cell, "hinton", way, training, axes)
    rate = {"learning_rate": [rates[cell.usual]]}
    training = phase(cell, terms.labelled, 2 * cell.epochs, cell.usual)
    yield arm(cell, "long", cell.usual, training, rate)
    recipes = terms.recipes(cell.student, cell.teacher.shape.width)
    for name in config.recipes:
        recipe = recipes[name]
        axes = {"temperature": [recipe.temperature], "alpha": [recipe.alpha]}
        if not recipe.first:
            axes["weight"] = [recipe.weight * factor for factor in config.factors]
        yield arm(cell, name, cell.usual, phases(cell, recipe), axes | rate)


def phases(cell: Cell, recipe: terms.Recipe) -> Training | list[Training]:
    """A recipe's term beside the predictions, or in the first half of the epochs."""
    epochs, way, more = cell.epochs, cell.usual, {"projector": recipe.projector}
    if not recipe.first:
        return phase(cell, partial(terms.added, recipe.term), epochs, way, **more)
    first = epochs // 2
    more |= {"teacher": live(cell.teacher.model), "measure_epochs": first}
    return [
        phase(cell, recipe.term, first, way, **more),
        phase(cell, terms.predicted, epochs - first, way),
    ]


def run(config, tasks, own, texts):
    teachers = {
        name: setup.teacher(task, config, own)
        for name, task in tasks.items()
        if name in {each for each, _ in cells(config)}
    }
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
        )
        rates = {}
        for way in cell.ways:
            one = fine_tuned(cell, way)
            each = tuned(one)
            rates[way] = float(each.runs["learning_rate"].iloc[0])
            found.append((one.without_data(), each))
        arms = partial(others, cell, rates)
        found += [(a.without_data(), each) for a, each in all_tuned(arms)]
    tables, more = gather(scored(found))
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


def scored(found):
    """The results with a ``score``, GLUE's metric in percent, for all tasks."""
    for one, each in found:
        metric = one.columns["metric"]
        runs = each.runs.assign(
            score=100 * each.runs[f"test_{metric}_last"],
            validation_score=100 * each.runs[f"validation_{metric}_last"],
        )
        yield one, each._replace(runs=runs)


def lead(runs, ones, others):
    """``[seeds]``, points of the best of some arms over others, mean over all cells.

    Cells are tasks and narrow students. Arms are selected by the validation scores of
    the other seeds.
    """
    narrow = runs[(runs["start"] == USUAL) & (runs["student"] != WIDE)]
    found = []
    for _, rows in narrow.groupby(["task", "student"]):
        scores, selected = (
            rows.pivot(index="arm", columns="seed", values=column)
            for column in ("score", "validation_score")
        )
        best = [
            selection.best_by_others(
                scores.loc[list(arms)].to_numpy(), -selected.loc[list(arms)].to_numpy()
            )
            for arms in (ones, others)
        ]
        found.append(best[0] - best[1])
    return np.mean(found, 0)


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
    | {"factors": (1.0,), "temperatures": (2.0,), "learning_rates": (5e-4,)},
    claims=CLAIMS,
    load=setup.load,
)

if __name__ == "__main__":
    main(STUDY)
