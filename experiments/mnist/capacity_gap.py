"""Does a teacher too large for its student harm, and is there a best ratio of sizes?

Students of 4 to 64 units a layer learn from teachers of 32 to 2,048, each trained for
2, 20 and 60 epochs, the rate falling to 0 in each: briefly, in full, and over-trained.
So teachers of a size differ in loss and in entropy. A student learns by Hinton's loss
at T = 4, and at a temperature chosen for the pair; by DIST; and by KL of
standardised logits. These two are weighed as their authors' code does by default:
DIST's two parts each like the labels, at T = 1; standardised KL nine times as heavy as
the labels, at T = 2.

Learning rates are chosen on validation by a seed that is not measured, for a student,
temperature and kind of teacher: that with the fewest errors, median over the kind's
teachers, for the luck of one pair's rate would pass for a trait of its teacher. The
tuned temperature is each pair's own, by one seed: it may do worse than 4. Every student
takes the same steps. Intervals are over seeds of students: each teacher was trained
once, and the best of seven owes some of its lead to that, so a gap must exceed two
tenths of a point. Claims are about the median over students. In a try on validation
those of 4 units had a standard deviation of 7 to 15 points over seeds, of 8 units 2, of
more 0.1 to 0.4: a mean would tell of the smallest alone.

All teachers' logits lie side by side, and which of them teaches is a hyperparameter: a
sweep has the students of all teachers. That is 6,470 runs, 2,220 of them to choose, of
2,574 steps each.

    python -m experiments.capacity_gap_mnist                    # embedded digits
    python -m experiments.capacity_gap_mnist --dataset mnist    # 75 minutes of one core
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
import itertools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import rich
from rich.table import Table as Printed
import tyro

from experiments import mnist, running, tuning
from kdjax import checks, data, losses, results
from kdjax.results import Claim, Estimate, Table
from kdjax.sweep import grid

FIXED = 4.0  # the temperature at which papers found the gap
SWEET = (0.1, 0.3)  # of the teacher's parameters, the article's share for a student
TEST = "test_accuracy_last"


@dataclass(frozen=True)
class Config:
    dataset: Literal["mnist5k", "mnist"] = "mnist5k"
    """mnist5k, 5,000 embedded digits; or mnist, all 70,000 (see --data-dir)."""
    student_widths: tuple[int, ...] = (4, 8, 16, 32, 64)
    """Units of each of a student's two hidden layers."""
    teacher_widths: tuple[int, ...] = (32, 64, 128, 256, 512, 1024, 2048)
    """Units of each of a teacher's two hidden layers."""
    early_epochs: int = 2
    """Passes over the training images, for a teacher trained briefly."""
    full_epochs: int = 20
    """For a teacher trained in full."""
    over_epochs: int = 60
    """For one trained on."""
    teacher_learning_rate: float = 1e-3
    """Adam's, at the first step, for every teacher."""
    temperatures: tuple[float, ...] = (1.0, 2.0, FIXED, 8.0, 16.0)
    """To choose from for every pair where the temperature is tuned."""
    alpha: float = 0.9
    """Weight of the teacher in Hinton's loss."""
    dist_temperature: float = 1.0
    """Of DIST."""
    dist_weight: float = 1.0
    """Of each of DIST's parts, beside labels of weight 1."""
    standardized_temperature: float = 2.0
    """Of standardised logits."""
    standardized_weight: float = 9.0
    """Of KL between standardised logits, beside labels of weight 1."""
    learning_rates: tuple[float, ...] = (3e-3, 1e-2, 3e-2)
    """Adam's, at the first step, to choose from for every pair and loss."""
    seeds: int = 10
    """How many students are measured, for every pair and loss."""
    epochs: int = 6
    """Passes over the training images, for a student."""


QUICK = {
    "student_widths": (8, 16),
    "teacher_widths": (32, 128, 512),
    "early_epochs": 1,
    "full_epochs": 6,
    "over_epochs": 15,
    "temperatures": (1.0, FIXED),
    "learning_rates": (1e-2,),
    "seeds": 3,
    "epochs": 6,
}
HARMS = "A teacher too large for its student harms"
RATIO = "A student should have 10 to 30 % of its teacher's parameters"
GAP = "points of accuracy that the best teacher adds to the largest's"
NEAR = "points of accuracy that the best teacher of this ratio adds to the best other"
CLAIMS = {
    "capacity_gap": Claim(
        says=HARMS,
        statistic=f"{GAP}, T = {FIXED:g}, median of students",
        supported=(0.2, None),
        refuted=(None, 0.2),
    ),
    "capacity_gap_tuned": Claim(
        says=HARMS,
        statistic=f"{GAP}, T tuned for each pair, median of students",
        supported=(0.2, None),
        refuted=(None, 0.2),
    ),
    "sweet_spot": Claim(
        says=RATIO,
        statistic=f"{NEAR}, T = {FIXED:g}, median of students with teachers of "
        "lower and of higher ratios",
        supported=(0.1, None),
        refuted=(None, 0.1),
    ),
    "sweet_spot_tuned": Claim(
        says=RATIO,
        statistic=f"{NEAR}, T tuned for each pair, median of students with teachers "
        "of lower and of higher ratios",
        supported=(0.1, None),
        refuted=(None, 0.1),
    ),
}


class Family(NamedTuple):
    """Arms that share a loss, and the search."""

    loss: Callable  # as a training calls it, with the `teacher` it takes
    axes: Mapping[str, Sequence[float]]  # but for teachers and learning rates
    arms: Mapping[str, Mapping[str, float]]  # what of the axes each chooses from


def one(teachers: jax.Array, teacher: jax.Array) -> jax.Array:
    """Of all teachers' logits, ``[B, teachers, C]``, those of one."""
    return jnp.take(teachers, teacher.astype(int), axis=1)


def kl(logits, teachers, labels, *, teacher, temperature, alpha):
    return losses.hinton(
        logits, one(teachers, teacher), labels, temperature=temperature, alpha=alpha
    )


def dist(logits, teachers, labels, *, teacher, temperature, weight):
    soft = losses.dist(logits, one(teachers, teacher), temperature=temperature)
    return losses.cross_entropy(logits, labels) + weight * soft


def standardized(logits, teachers, labels, *, teacher, temperature, weight):
    both = map(losses.standardize, (logits, one(teachers, teacher)))
    soft = losses.soft_kl(*both, temperature=temperature)
    return losses.cross_entropy(logits, labels) + weight * soft


def families(config: Config) -> list[Family]:
    def published(loss: Callable) -> Family:
        name = loss.__name__
        axes = {n: [getattr(config, f"{name}_{n}")] for n in ("temperature", "weight")}
        return Family(loss, axes, {name: {}})

    axes = {"temperature": config.temperatures, "alpha": [config.alpha]}
    fixed = {"kl": {"temperature": FIXED}, "kl_tuned": {}}
    return [Family(kl, axes, fixed), published(dist), published(standardized)]


def offered(config: Config, family: Family) -> Table:
    """All that is tried for a student width, of one teacher after another."""
    teachers = {"teacher": range(len(schedules(config)))}
    rates = {"learning_rate": config.learning_rates}
    return grid(teachers | family.axes | rates, family.loss)


def schedules(config: Config) -> list[tuple[str, int, int]]:
    """Kind, width and epochs of every teacher, in the order that students count."""
    kinds = ("early", "full", "over")
    return [
        (kind, width, getattr(config, f"{kind}_epochs"))
        for kind in kinds
        for width in sorted(config.teacher_widths)
    ]


def runs(config: Config) -> int:
    """How many students there will be, those to choose by among them."""
    count = len(config.learning_rates) + config.seeds
    for family in families(config):
        count += len(offered(config, family)["teacher"])
        count += len(schedules(config)) * len(family.arms) * config.seeds
    return count * len(config.student_widths)


def parameters(width: int) -> int:
    """Of a net of two layers of so many units."""
    model = mnist.student(width, mnist.cross_entropy, epochs=1).model
    variables = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 28, 28)))
    return sum(leaf.size for leaf in jax.tree.leaves(variables))


def taught(config: Config, images: data.Data) -> tuple[data.Data, Table]:
    """The images with all teachers' logits in train, and what the teachers are."""
    logits, rows = [], []
    for kind, width, epochs in schedules(config):
        training = mnist.student(width, mnist.cross_entropy, epochs=epochs)
        found = mnist.fit(training, images, learning_rate=config.teacher_learning_rate)
        logits.append(found.data.train.teacher_logits)
        log_p = np.asarray(jax.nn.log_softmax(logits[-1]), np.float64)
        rows.append(
            {
                "kind": kind,
                "width": width,
                "parameters": parameters(width),
                "epochs": epochs,
                "train_accuracy": np.mean(logits[-1].argmax(-1) == images.train.y),
                "train_entropy": -(np.exp(log_p) * log_p).sum(-1).mean(),
            }
            | {
                f"{split}_{metric}": found.quality[split][metric]
                for split in ("validation", "test")
                for metric in ("accuracy", "nll")
            }
            | {"seconds": found.quality["seconds"]}
        )
    train = images.train._replace(teacher_logits=np.stack(logits, axis=1))
    table = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    return images._replace(train=train), table


def choose(config: Config, family: Family, search: Table, columns: Table) -> Table:
    """Every teacher's row of every arm, one arm after another."""
    return results.concatenate(
        [
            choose_from(
                config, *(results.select(t, **among) for t in (search, columns))
            )
            for among in family.arms.values()
        ]
    )


def choose_from(config: Config, search: Table, columns: Table) -> Table:
    """Of every teacher the row to measure: its kind's rate, and its own temperature.

    The rate has the fewest validation errors, median over the teachers of a kind, at
    each temperature; the temperature the fewest errors of the pair at its rate.
    """
    widths, rates = len(config.teacher_widths), len(config.learning_rates)
    temperatures = len(np.unique(columns["temperature"]))
    errors = search["validation_errors_last"].reshape(-1, widths, temperatures, rates)
    rate = np.median(errors, axis=1, keepdims=True).argmin(-1, keepdims=True)
    errors = np.where(np.arange(rates) == rate, errors, np.inf)
    errors = errors.reshape(-1, temperatures * rates)
    rows = errors.argmin(1) + temperatures * rates * np.arange(len(errors))
    return {name: column[rows] for name, column in columns.items()}


def run(config: Config, images: data.Data, info: data.Info) -> Iterator[tuple]:
    """What students of a width and a loss are, and what they came to."""
    for width in config.student_widths:
        size = {"student_width": width, "student_parameters": parameters(width)}
        same = info.columns() | size
        loss = mnist.cross_entropy
        alone = tuning.tuned(
            mnist.student(width, loss, epochs=config.epochs),
            grid({"learning_rate": config.learning_rates}, loss),
            data=images,
            seeds=range(config.seeds),
            name=f"{width} units, hard",
        )
        yield same | {"arm": "hard"}, alone
        for family in families(config):
            arm = family.loss.__name__
            found = tuning.tuned(
                mnist.student(width, family.loss, epochs=config.epochs),
                offered(config, family),
                data=images,
                seeds=range(config.seeds),
                name=f"{width} units, {arm}",
                choose=partial(choose, config, family),
            )
            arms = np.repeat(list(family.arms), len(schedules(config)))
            runs = {"arm": np.tile(arms, config.seeds)} | found.runs
            yield same | {"arm": arm}, found._replace(runs=runs)


def with_teachers(table: Table, teachers: Table) -> Table:
    """The table with what matters of each row's teacher; without one, NaN."""
    none = np.isnan(table["teacher"])
    rows = np.where(none, 0, table["teacher"]).astype(int)
    width, size = (
        np.where(none, np.nan, teachers[n][rows]) for n in ("width", "parameters")
    )
    return table | {
        "kind": np.where(none, "none", teachers["kind"][rows]),
        "teacher_width": width,
        "ratio": table["student_parameters"] / size,
    }


def cells(table: Table, column: str) -> np.ndarray:
    """``[students, teachers, seeds]``, each from the smallest up, within a kind."""
    names = ("student_width", "teacher")
    order = np.lexsort([table[name] for name in ("seed", *reversed(names))])
    shape = [len(np.unique(table[name])) for name in names]
    return table[column][order].reshape(*shape, -1)


def gap(table: Table, arm: str, kind: str) -> np.ndarray:
    """Points that the best teacher gives more than the largest, [students, seeds]."""
    here = results.select(table, arm=arm, kind=kind)
    accuracy, errors = (cells(here, n) for n in (TEST, "validation_errors_last"))
    return 100 * (tuning.best_by_others(accuracy, errors) - accuracy[:, -1])


def inside(ratio: np.ndarray) -> np.ndarray | None:
    """Which teachers of a student are in the sweet spot, if some are on either side."""
    low, high = SWEET
    there = (low <= ratio) & (ratio <= high)
    sides = there.any() and (ratio < low).any() and (ratio > high).any()
    return there if sides else None


def sweet_spot(table: Table, arm: str) -> np.ndarray:
    """Points that the best teacher of the ratio gives more than the best other.

    ``[students, seeds]``, of the students that have larger and smaller teachers, too.
    """
    here = results.select(table, arm=arm, kind="full")
    names = ("ratio", TEST, "validation_errors_last")
    gains = []
    for ratio, *of_teachers in zip(*(cells(here, n) for n in names), strict=True):
        within = inside(ratio[:, 0])
        if within is not None:
            gains.append(tuning.inside_less_outside(within, *of_teachers))
    return 100 * np.stack(gains)


def statistics(tables: dict[str, Table]) -> dict[str, Estimate]:
    """Of each claim. Students of a seed share initial weights and batches."""
    table = tables["runs"]
    points = {
        "capacity_gap": gap(table, "kl", "full"),
        "capacity_gap_tuned": gap(table, "kl_tuned", "full"),
        "sweet_spot": sweet_spot(table, "kl"),
        "sweet_spot_tuned": sweet_spot(table, "kl_tuned"),
    }
    return {n: results.estimate(np.median(p, axis=0)) for n, p in points.items()}


def gaps(table: Table) -> Table:
    """Of every student, arm and kind of teacher, a row for each."""
    students, found = np.unique(table["student_width"]), {}
    guided = table["kind"] != "none"
    pairs = zip(table["arm"][guided], table["kind"][guided], strict=True)
    for arm, kind in dict.fromkeys(pairs):
        for student, points in zip(students, gap(table, arm, kind), strict=True):
            found[student, arm, kind] = results.estimate(points)
    return as_table(("student_width", "arm", "kind"), found)


def as_table(names: tuple[str, ...], found: Mapping[tuple, Estimate]) -> Table:
    """A row for each estimate, by what it is of."""
    rows = [(*key, *estimate) for key, estimate in found.items()]
    names = (*names, *Estimate._fields)
    return results.table(names, rows)


def explains(table: Table, teachers: Table) -> Table:
    """Which trait of its teacher a student's accuracy goes with, a row for each arm.

    Spearman's correlation over the teachers of a student width, of seeds' mean
    accuracy; the median over widths. Over teachers of all kinds a trait may stand for
    how long they were trained, so those trained in full have rows of their own. Means
    of drawn seeds are noisier than those of all: the interval lies nearer to 0.
    """
    from scipy.stats import rankdata  # half a second to import

    def ranks(values: np.ndarray) -> np.ndarray:
        ranked = rankdata(values, axis=-1)
        ranked = ranked - ranked.mean(-1, keepdims=True)
        length = np.linalg.norm(ranked, axis=-1, keepdims=True)
        return ranked / np.maximum(length, 1e-9)  # what is all alike goes with nothing

    found = {}
    arms = dict.fromkeys(table["arm"][table["kind"] != "none"])
    traits = ("parameters", "validation_nll", "train_entropy")
    for arm, kind, trait in itertools.product(arms, ("all", "full"), traits):
        among = {} if kind == "all" else {"kind": kind}
        rows = results.select(table, arm=arm, **among)
        rows = {n: rows[n] for n in ("seed", "student_width", "teacher", TEST)}
        of_teachers = ranks(results.select(teachers, **among)[trait])

        def correlation(rows: Table, of_teachers=of_teachers) -> float:
            means = cells(rows, TEST).mean(-1)
            return float(np.median(ranks(means) @ of_teachers))

        found[arm, kind, trait] = results.bootstrap(correlation, rows)
    return as_table(("arm", "kind", "trait"), found)


def check(config: Config) -> None:
    """Raises TypeError or ValueError if the config asks for what cannot be."""
    kinds = ("early_epochs", "full_epochs", "over_epochs")
    counts = ("student_widths", "teacher_widths", *kinds, "seeds", "epochs")
    for name in counts:
        checks.check_counts(name, getattr(config, name))
    checks.check_values("teacher_learning_rate", [config.teacher_learning_rate])
    epochs = [getattr(config, name) for name in kinds]
    if not epochs[0] < epochs[1] < epochs[2]:
        raise ValueError(f"{', '.join(kinds)} are {epochs}, but each takes more")
    if FIXED not in config.temperatures:
        raise ValueError(
            f"temperatures are {config.temperatures}, but have {FIXED}, which the "
            f"claims are about"
        )
    for family in families(config):
        offered(config, family)
    sizes = np.array([parameters(width) for width in config.teacher_widths])
    students = map(parameters, config.student_widths)
    if all(inside(student / sizes) is None for student in students):
        raise ValueError(
            f"teacher_widths are {config.teacher_widths}, but take one of which a "
            f"student of {config.student_widths} units has {SWEET[0]} to {SWEET[1]} "
            f"of the parameters, a larger and a smaller one"
        )


def show(tables: dict[str, Table], meta: dict) -> None:
    """Prints accuracies, and what goes with them."""
    rich.print(accuracies(tables["runs"], tables["teachers"]))
    full = results.select(tables["gaps"], kind="full")
    title = "Points that the best full teacher gives more than the largest"
    rich.print(square(full, "student_width", "arm", title))
    for kind in ("all", "full"):
        title = f"Rank correlation of accuracy with the teacher's: {kind} teachers"
        rows = results.select(tables["explains"], kind=kind)
        rich.print(square(rows, "arm", "trait", title))


def said(value: float, low: float, high: float) -> str:
    return f"{value:.2f} ({low:.2f} to {high:.2f})"


def square(table: Table, down: str, across: str, title: str) -> Printed:
    """Estimates, a row for each ``down`` and a column for each ``across``."""
    others = dict.fromkeys(table[across])
    printed = Printed(down, *others, title=title)
    for row in dict.fromkeys(table[down]):
        here = [results.select(table, **{down: row, across: other}) for other in others]
        estimates = ((t[n][0] for n in Estimate._fields) for t in here)
        printed.add_row(
            str(row).removesuffix(".0"), *(said(*estimate) for estimate in estimates)
        )
    return printed


def accuracies(table: Table, teachers: Table) -> Printed:
    """On the test images: a row a student and arm, a column a full teacher."""
    full = results.select(teachers, kind="full")
    printed = Printed("units", "arm", title="Test accuracy by units of full teachers")
    for width, accuracy in zip(full["width"], full["test_accuracy"], strict=True):
        printed.add_column(f"{width:g}\n{100 * accuracy:.2f}")
    for student in np.unique(table["student_width"]):
        for arm in dict.fromkeys(table["arm"]):
            here = results.select(table, student_width=student, arm=arm)
            if arm == "hard":
                each = [here[TEST]]
            else:
                here = results.select(here, kind="full")
                each = [here[TEST][here["teacher_width"] == w] for w in full["width"]]
            means = (f"{100 * values.mean():.2f}" for values in each)
            printed.add_row(f"{student:g}", arm, *means)
    return printed


def answer(config: Config, images: data.Data, info: data.Info) -> tuple[dict, dict]:
    rich.print(f"{len(schedules(config))} teachers, {runs(config)} students")
    images, teachers = taught(config, images)
    tables, seconds = tuning.gather(run(config, images, info))
    del tables["curves"]  # megabytes, of which nothing is asked
    tables = {name: with_teachers(table, teachers) for name, table in tables.items()}
    tables |= {
        "teachers": teachers,
        "gaps": gaps(tables["runs"]),
        "explains": explains(tables["runs"], teachers),
    }
    return tables, {"seconds": round(teachers["seconds"].sum() + seconds)}


EXPERIMENT = running.Experiment(
    "capacity_gap_mnist",
    QUICK,
    check,
    answer,
    show,
    CLAIMS,
    statistics,
    tables=("runs", "teachers", "gaps", "explains"),
)
main = running.command(EXPERIMENT, Config)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
