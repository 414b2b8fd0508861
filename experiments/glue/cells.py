"""A task and a student of the recipes, and all arms that are trained for them."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
import math
from typing import Any, Literal, NamedTuple

import pandas as pd

from experiments.glue import attention_maps, setup, teachers, terms, unlabelled
from experiments.glue.students import WIDE, Name, Student, students
from kdjax.data import Data
from kdjax.study import selection
from kdjax.study.arms import Arm, Tuned, all_tuned, gather, tuned
from kdjax.study.statistics import rank_correlation
from kdjax.study.types import Count, Fraction, Positives
from kdjax.training import Training, start
from kdjax.training.teacher import live

CONTROLLED: terms.Name = "pkd_skip"  # also from a teacher that was never trained
USUAL = "minilm"  # the distillation without labels from which narrow students begin
Start = terms.Name | Literal["none"]


@dataclass(frozen=True)
class Config(setup.Tasks):
    students: tuple[Name, ...] = ("2x128",)
    """Layers and widths of the students."""
    recipes: tuple[terms.Name, ...] = terms.ALL
    """Recipes to try; with controls, the best two are also tried together."""
    controls: bool = False
    """Whether to try fine-tuning for twice the epochs, PKD-Skip with a teacher that was
    never trained, and the best two recipes together."""
    wide_starts: tuple[unlabelled.Wide, ...] = (unlabelled.LAYERS,)
    """How the widest student begins: from layers of its teacher, as in recipes, or also
    by DistilBERT's loss on masked words."""
    starts: tuple[Start, ...] = (USUAL,)
    """Losses of the distillation without labels, or none for random weights; recipes
    begin from minilm. Not for the widest student."""
    learning_rates: Positives = (5e-4, 1e-3, 2e-3)
    """Peak learning rates (AdamW, cosine decay) to select from, of narrow students."""
    wide_rates: Positives = (5e-5, 1e-4, 2e-4)
    """The same, of the widest student."""
    factors: Positives = (0.1, 1.0, 10.0)
    """Multiples of a term's usual weight to select from."""
    temperatures: Positives = (1.0, 2.0, 4.0)
    """Temperatures of Hinton's loss to select from."""
    alpha: Fraction = 0.5
    """Weight of the teacher in Hinton's loss."""
    steps: Count = 120
    """Steps of a student's training, rounded to whole epochs."""
    seeds: Count = 5
    """Number of seeds, each with one student per setting."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if USUAL not in self.starts and set(self.students) - {WIDE}:
            raise ValueError(f"starts is {self.starts!r}, but must have {USUAL}")
        if unlabelled.LAYERS not in self.wide_starts:
            raise ValueError(
                f"wide_starts is {self.wide_starts!r}, but must have layers"
            )


class Cell(NamedTuple):
    """A task and a student, whose arms share all of this."""

    config: Config
    task: setup.Task
    teacher: teachers.Teacher
    name: Name  # of the student
    ways: dict[str, Any]  # parameters to begin from; None for those that are drawn
    untrained: Data | None = None  # with hidden states of one that was never trained
    reworded: Data | None = None  # with copies of the texts
    more: Mapping[str, Any] = {}  # columns of the tables, beside those of all cells

    @property
    def columns(self) -> dict[str, Any]:
        return {
            "task": self.task.info.name,
            "metric": self.task.metric,
            "teacher_score": self.teacher.quality["score"],
            "student": self.name,
            **self.more,
        }

    @property
    def student(self) -> Student:
        return students(self.teacher.shape)[self.name]

    @property
    def usual(self) -> str:
        """The way in which recipes begin."""
        return unlabelled.LAYERS if self.student.start else USUAL

    @property
    def epochs(self) -> int:
        return self.task.divided(self.config.steps)[0]

    @property
    def rates(self) -> Positives:
        """The learning rates to select from."""
        config = self.config
        return config.wide_rates if self.student.start else config.learning_rates

    def in_batches(self, data: Data) -> Data:
        """The task's data, or others of its texts, in epochs of the students."""
        return self.task.in_batches(self.task.divided(self.config.steps)[1], data)


def phase(
    cell: Cell, objective: Callable, epochs: int, way: str, **more: Any
) -> Training:
    begin = start.drawn if cell.ways[way] is None else start.pretrained
    shape = cell.student.shape
    return setup.training(cell.task, shape, objective, epochs, start=begin, **more)


def arm(
    cell: Cell,
    name: str,
    way: str,
    phases: Training | list[Training],
    axes: dict[str, Any],
    data: Data | None = None,
) -> Arm:
    fixed = {"teacher": cell.teacher.variables, "start": cell.ways[way]}
    columns = {**cell.columns, "start": way, "arm": name}
    choose = partial(selection.largest, score=f"validation_{cell.task.metric}_last")
    last = phases[-1] if isinstance(phases, list) else phases
    extras = attention_maps.extras(last.model, cell.task)
    return Arm(
        columns,
        phases,
        cell.in_batches(data or cell.teacher.data),
        cell.config.seeds,
        axes,
        choose,
        extras=extras,
        fixed=fixed,
    )


def fine_tuned(cell: Cell, way: str) -> Arm:
    """Students without a teacher, for which the learning rate is selected."""
    training = phase(cell, terms.labelled, cell.epochs, way)
    axes = {"learning_rate": cell.rates}
    return arm(cell, "fine_tuning", way, training, axes)


def others(cell: Cell, rate: float) -> Iterator[Arm]:
    """All other arms, at the learning rate of fine-tuning."""
    config = cell.config
    rate = {"learning_rate": [rate]}
    training = phase(cell, terms.predicted, cell.epochs, cell.usual)
    axes = {"temperature": config.temperatures, "alpha": [config.alpha]} | rate
    yield arm(cell, "hinton", cell.usual, training, axes)
    if config.controls:
        training = phase(cell, terms.labelled, 2 * cell.epochs, cell.usual)
        yield arm(cell, "long", cell.usual, training, rate)
    recipes = terms.recipes(cell.student, cell.teacher.shape.width)
    for name in config.recipes:
        own = axes_of(recipes[name], config.factors) | rate
        yield arm(cell, name, cell.usual, phases(cell, recipes[name]), own)
    if cell.untrained is not None:
        own = axes_of(recipes[CONTROLLED], config.factors) | rate
        training, name = phases(cell, recipes[CONTROLLED]), f"{CONTROLLED}_untrained"
        yield arm(cell, name, cell.usual, training, own, cell.untrained)
    if cell.reworded is not None:
        axes = {"temperature": [1.0], "alpha": [1.0]} | rate
        training = phase(cell, terms.predicted, cell.epochs, cell.usual)
        for name, data in (("alone", None), ("alone_reworded", cell.reworded)):
            yield arm(cell, name, cell.usual, training, axes, data)


def trained(cell: Cell) -> list[tuple[Arm, Tuned]]:
    """All students of a cell, with the best two recipes together last."""
    starts = (fine_tuned(cell, way) for way in cell.ways)
    found = [(one.without_data(), tuned(one)) for one in starts]
    rates = {one.columns["start"]: each.runs["learning_rate"] for one, each in found}
    rate = float(rates[cell.usual].iloc[0])
    new = [
        (one.without_data(), each)
        for one, each in all_tuned(partial(others, cell, rate))
    ]
    kinds = {terms.KINDS[name] for name in cell.config.recipes}
    if cell.config.controls and len(kinds) > 1:
        last = best_two(cell, rate, gather(new)[0]["runs"])
        new.append((last.without_data(), tuned(last)))
    return [*found, *new]


def scored(
    found: Iterable[tuple[Arm, Tuned]], tasks: Mapping[str, setup.Task]
) -> Iterator[tuple[Arm, Tuned]]:
    """The results with a ``score``, GLUE's metric in percent, for all tasks.

    Tasks with scores have a rank correlation in percent, too.
    """
    for one, each in found:
        metric = one.columns["metric"]
        runs = each.runs.assign(
            score=100 * each.runs[f"test_{metric}_last"],
            validation_score=100 * each.runs[f"validation_{metric}_last"],
        )
        if "test" in each.extras:
            true = tasks[one.columns["task"]].data.test["score"]
            predicted = each.extras["test"][..., 0]
            runs["spearman"] = 100 * rank_correlation(predicted, true)
        yield one, each._replace(runs=runs)


def best_two(cell: Cell, rate: float, runs: pd.DataFrame) -> Arm:
    """The best recipes on held-out texts of two kinds, means over all seeds, together.

    Args:
      cell: The task and the student.
      rate: The learning rate.
      runs: The runs of this cell, of which those of recipes are considered.
    """
    recipes = terms.recipes(cell.student, cell.teacher.shape.width)
    own = runs[runs["arm"].isin(cell.config.recipes)]
    scores = own[f"validation_{cell.task.metric}_last"].fillna(-math.inf)
    means = scores.groupby(own["arm"]).mean()
    weights = own.get("weight", pd.Series(1.0, own.index)).fillna(1.0)
    best: dict[str, terms.Recipe] = {}  # by kind: two alike have little to add
    for name in means.sort_values(ascending=False, kind="stable").index:
        weight = float(weights[own["arm"] == name].iloc[0])
        best.setdefault(terms.KINDS[name], recipes[name]._replace(weight=weight))
    two = list(best.values())[:2]
    beside = [each for each in two if not each.first]
    # The loss on predictions is that of the better one beside them.
    axes = axes_of((beside or two)[0], (1.0,)) | {"learning_rate": [rate]}
    if len(beside) == 2:
        axes["weight"] = [1.0]  # the sum has the weights of its terms
    return arm(cell, "best_two", cell.usual, phases(cell, *two), axes)


def axes_of(recipe: terms.Recipe, factors: Positives) -> dict[str, Any]:
    """The hyperparameters of a recipe; its weight is to be selected."""
    axes = {"temperature": [recipe.temperature], "alpha": [recipe.alpha]}
    if not recipe.first:
        axes["weight"] = [recipe.weight * factor for factor in factors]
    return axes


def phases(cell: Cell, *recipes: terms.Recipe) -> Training | list[Training]:
    """Terms of recipes beside the predictions, or in the first half of the epochs."""
    firsts = [each for each in recipes if each.first]
    beside = [each for each in recipes if not each.first]
    first, epochs = cell.epochs // 2 if firsts else 0, cell.epochs
    if beside:
        term, projector = terms.together(beside)
        objective = partial(terms.added, term)
        last = phase(cell, objective, epochs - first, cell.usual, projector=projector)
    else:
        last = phase(cell, terms.predicted, epochs - first, cell.usual)
    if not firsts:
        return last
    term, projector = terms.together(firsts)
    more = {"teacher": live(cell.teacher.model), "measures": ()}
    return [phase(cell, term, first, cell.usual, projector=projector, **more), last]
