"""A task and a student of the recipes, and all arms that are trained for them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
import math
from typing import Any, NamedTuple, get_args

import pandas as pd

from experiments.glue import setup, terms, unlabelled
from experiments.glue.students import NAMES, WIDE, Name, Student
from kdjax.data import Data
from kdjax.study import selection
from kdjax.study.arms import Arm, logits_of
from kdjax.study.types import Count, Fraction, Positives
from kdjax.training import Training, start
from kdjax.training.teacher import live

USUAL = "tinybert"  # the general distillation from which all recipes begin


@dataclass(frozen=True)
class Config(setup.Tasks):
    students: tuple[Name, ...] = NAMES
    """Layers and widths of the students."""
    recipes: tuple[terms.Name, ...] = terms.ALL
    """Recipes to try, and the sum of the best two."""
    untrained: tuple[terms.Name, ...] = ("pkd_last", "similarity")
    """Recipes to try with the hidden states of a teacher that was never trained."""
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
        if set(self.untrained) & set(terms.FIRST):
            raise ValueError(
                f"untrained is {self.untrained!r}, but takes recipes beside the "
                f"predictions: none of {', '.join(terms.FIRST)}"
            )


class Cell(NamedTuple):
    """A task and a student, whose arms share all of this."""

    config: Config
    task: setup.Task
    teacher: setup.Teacher
    student: Student
    ways: dict[str, Any]  # parameters to begin from; None for those that are drawn
    columns: dict[str, Any]
    untrained: Data | None = None  # with hidden states of one that was never trained

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
    batches = cell.task.in_batches(data or cell.teacher.data)
    choose = partial(selection.largest, score=f"validation_{cell.task.metric}_last")
    last = phases[-1] if isinstance(phases, list) else phases
    # A rank correlation is no mean over texts, so it takes the predictions themselves.
    extras = logits_of(last.model, "test") if cell.task.info.classes == 0 else None
    return Arm(
        columns, phases, batches, cell.seeds, axes, choose, extras=extras, fixed=fixed
    )


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
        own = axes_of(recipes[name], config.factors) | rate
        yield arm(cell, name, cell.usual, phases(cell, recipes[name]), own)
    for name in config.untrained:
        own = axes_of(recipes[name], config.factors) | rate
        training = phases(cell, recipes[name])
        yield arm(cell, f"{name}_untrained", cell.usual, training, own, cell.untrained)


def best_two(cell: Cell, rate: float, runs: pd.DataFrame) -> Arm:
    """The two recipes with the best mean on held-out texts, of all seeds, together.

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
    two = []
    for name in means.sort_values(ascending=False, kind="stable").index[:2]:
        weight = float(weights[own["arm"] == name].iloc[0])
        two.append(recipes[name]._replace(weight=weight))
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
    more = {"teacher": live(cell.teacher.model), "measure_epochs": first}
    return [phase(cell, term, first, cell.usual, projector=projector, **more), last]
