"""Which temperature is best for a student of which width, and is a high one noise?

Hinton's students of 30 units a layer did best with T in 2.5 to 4, and of 300 units and
more alike with any T above 8; the article says that 3 to 5 is best and that above 20
the teacher is noise. Students of each width learn from one teacher at each temperature,
with its answers alone and with labels beside them; the learning rate of every cell is
chosen on validation by a seed that is not measured. The temperatures of fewest errors
are a description, by the test images; what decides a claim is chosen on validation, for
each seed by the others.

    python -m experiments.temperature_width                    # embedded digits
    python -m experiments.temperature_width --dataset mnist

Whole MNIST is 1,450 runs, and takes four hours of one core, half of them for 800 units:
let two train at once, with ``XLA_FLAGS=--xla_force_host_platform_device_count=2``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import rich
from rich.table import Table as Printed
import tyro

from experiments import mnist, running, tuning
from kdjax import checks, data, results
from kdjax.results import Claim, Estimate, Table

NARROW, WIDE = 30, 300  # units that claims are about
ERRORS = "test_errors_last"


@dataclass(frozen=True)
class Config(mnist.TeacherConfig):
    dataset: Literal["mnist5k", "mnist"] = "mnist5k"
    """mnist5k, 5,000 embedded digits; or mnist, all 70,000 (see --data-dir)."""
    student_widths: tuple[int, ...] = (10, NARROW, 100, WIDE, 800)
    """Units of each of a student's two hidden layers."""
    seeds: tuple[int, ...] = (10, 10, 10, 5, 3)
    """How many students are measured for every cell of each width."""
    temperatures: tuple[float, ...] = (1, 1.5, 2, 2.5, 3, 4, 6, 8, 12, 20, 40, 100)
    """Temperatures that soften teacher and student."""
    alphas: tuple[float, ...] = (0.9, 1.0)
    """Weights of the teacher."""
    learning_rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2, 3e-2)
    """Adam's, at the first step, to choose from for every cell."""
    epochs: int = 15
    """Passes over the training images, for a student."""


QUICK = mnist.QUICK_TEACHER | {
    "student_widths": (NARROW, WIDE),
    "seeds": (3, 2),
    "temperatures": (1.0, 3.0, 8.0, 20.0, 100.0),
    "alphas": (1.0,),
    "learning_rates": (3e-3, 1e-2),
    "epochs": 8,
}
CLAIMS = {
    # Random answers are right for a tenth; these students see no label.
    "noise": Claim(
        says="T above 20 gives nearly random noise",
        statistic="test accuracy of 30 units that learn from the teacher alone, mean "
        "over T above 20",
        supported=(None, 0.5),
        refuted=(0.5, None),
    ),
    "no_signal_wide": Claim(
        says="T above 20 gives no useful signal",
        statistic="test errors that the teacher takes from students of labels, 300 "
        "units, mean over T above 20",
        supported=(None, 0.0),
        refuted=(0.0, None),
    ),
    "no_signal_narrow": Claim(
        says="T above 20 gives no useful signal",
        statistic="test errors that the teacher takes from students of labels, 30 "
        "units, mean over T above 20",
        supported=(None, 0.0),
        refuted=(0.0, None),
    ),
    "usual_wide": Claim(
        says="T of 3 to 5 is best",
        statistic="test errors at the best T in 3 to 5 less those at the best other, "
        "both chosen on validation, 300 units",
        supported=(None, 0.0),
        refuted=(0.0, None),
    ),
    "usual_narrow": Claim(
        says="T of 3 to 5 is best",
        statistic="test errors at the best T in 3 to 5 less those at the best other, "
        "both chosen on validation, 30 units",
        supported=(None, 0.0),
        refuted=(0.0, None),
    ),
    "above_narrow": Claim(
        says="30 units do better with T in 2.5 to 4 than with a higher one (Hinton)",
        statistic="test errors of 30 units, mean over T in 2.5 to 4 less mean over "
        "T from 8 on",
        supported=(None, 0.0),
        refuted=(0.0, None),
    ),
    "below_narrow": Claim(
        says="30 units do better with T in 2.5 to 4 than with a lower one (Hinton)",
        statistic="test errors of 30 units, mean over T in 2.5 to 4 less mean over "
        "T up to 2",
        supported=(None, 0.0),
        refuted=(0.0, None),
    ),
    "flat_wide": Claim(
        says="300 units do alike with any T above 8 (Hinton)",
        statistic="share by which test errors at T above 20 differ from those at T of "
        "8 to 20, either way, 300 units",
        supported=(None, 0.1),
        refuted=(0.1, None),
    ),
}


def of_width(table: Table, width: int) -> tuple[Table, Table]:
    """Runs that learn from the teacher alone, and those without it."""
    here = results.select(table, student_width=width)
    alone = results.select(here, arm="hard")
    return results.select(here, arm="distilled", alpha=1), alone


def by_temperature(rows: Table, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Temperatures, and the column ``[temperatures, seeds]``."""
    every = np.unique(rows["temperature"])
    order = np.lexsort((rows["seed"], rows["temperature"]))
    return every, rows[column][order].reshape(len(every), -1)


def mean_between(
    rows: Table, low: float, high: float, column: str = ERRORS
) -> np.ndarray:
    """``[seeds]``, mean over temperatures from ``low`` to ``high``."""
    every, values = by_temperature(rows, column)
    return values[(every >= low) & (every <= high)].mean(0)


def best(rows: Table) -> float:
    """The temperature of the fewest test errors."""
    every, errors = by_temperature(rows, ERRORS)
    return float(every[errors.mean(1).argmin()])


def inside_less_outside(rows: Table) -> np.ndarray:
    """``[seeds]``, test errors at the best T in 3 to 5 less those at the best other."""
    every, chosen_by = by_temperature(rows, "validation_errors_last")
    _, judged = by_temperature(rows, ERRORS)
    inside = (every >= 3) & (every <= 5)
    return tuning.inside_less_outside(inside, judged, chosen_by)


def statistics(tables: dict[str, Table]) -> dict[str, Estimate]:
    """Of each claim. Students of a seed share initial weights and batches."""
    narrow, narrow_alone = of_width(tables["runs"], NARROW)
    wide, wide_alone = of_width(tables["runs"], WIDE)
    hot = (np.nextafter(20, 21), np.inf)
    low = mean_between(narrow, 2.5, 4)
    by_seed = {
        "noise": mean_between(narrow, *hot, "test_accuracy_last"),
        "no_signal_wide": wide_alone[ERRORS] - mean_between(wide, *hot),
        "no_signal_narrow": narrow_alone[ERRORS] - mean_between(narrow, *hot),
        "usual_wide": inside_less_outside(wide),
        "usual_narrow": inside_less_outside(narrow),
        "above_narrow": low - mean_between(narrow, 8, np.inf),
        "below_narrow": low - mean_between(narrow, 1, 2),
        "flat_wide": abs(mean_between(wide, *hot) / mean_between(wide, 8, 20) - 1),
    }
    return {name: results.estimate(values) for name, values in by_seed.items()}


def bests(table: Table) -> Table:
    """The best temperature for each width and weight, with its interval."""
    names = ("seed", "temperature", "student_width", "alpha", ERRORS)
    taught = results.select(table, arm="distilled")
    taught = {name: taught[name] for name in names}
    cells = dict.fromkeys(zip(taught["student_width"], taught["alpha"], strict=True))
    rows = []
    for width, alpha in cells:
        here = results.select(taught, student_width=width, alpha=alpha)
        rows.append((width, alpha, *results.bootstrap(best, here)))
    names = ("student_width", "alpha", "best", "best_low", "best_high")
    return results.table(names, rows)


def run(config: Config, images: data.Data, info: data.Info) -> Iterator[tuple]:
    """What each width is, with a teacher and without, and what it came to."""
    for width, seeds in zip(config.student_widths, config.seeds, strict=True):
        for arm, (loss, columns) in arms(config).items():
            yield (
                info.columns() | {"arm": arm, "student_width": width},
                tuning.tuned(
                    mnist.student(width, loss, epochs=config.epochs),
                    columns,
                    data=images,
                    seeds=range(seeds),
                    name=f"{arm}, {width} units",
                ),
            )


def arms(config: Config) -> dict[str, tuple]:
    """Each arm's loss, and what to choose from: a rate for every cell."""
    teacher = {"temperature": config.temperatures, "alpha": config.alphas}
    return mnist.hard_and_distilled(teacher, config.learning_rates)


def check(config: Config) -> None:
    """Raises TypeError or ValueError if the config asks for what cannot be."""
    mnist.check_teacher(config)
    checks.check_counts("epochs", config.epochs)
    for name in ("student_widths", "seeds"):
        for value in getattr(config, name):
            checks.check_counts(name, value)
    widths, temperatures = config.student_widths, np.array(config.temperatures)
    if len(config.seeds) != len(widths) or len(set(widths)) < len(widths):
        raise ValueError(
            f"student_widths are {widths} and seeds {config.seeds}, but there are as "
            f"many of both, and no width twice"
        )
    if min(config.seeds) < 2:
        raise ValueError(f"seeds are {config.seeds}, but intervals take 2 or more")
    if not {NARROW, WIDE} <= set(widths) or 1.0 not in config.alphas:
        raise ValueError(
            f"student_widths are {widths} and alphas {config.alphas}, but claims are "
            f"about {NARROW} and {WIDE} units and an alpha of 1"
        )
    for low, high in ((1, 2), (2.5, 4), (3, 5), (8, 20), (21, np.inf)):
        if not ((temperatures >= low) & (temperatures <= high)).any():
            raise ValueError(
                f"temperatures are {config.temperatures}, but have one in {low} to "
                f"{high}, which a claim is about"
            )
    arms(config)


def show(tables: dict[str, Table], meta: dict) -> None:
    """Prints mean test errors by temperature, and marks the best."""
    table = tables["runs"]
    rich.print(f"teacher: {meta['teacher']['test']['errors']:.0f} test errors")
    printed = Printed("temperature", title="Test errors, the teacher's answers alone")
    widths = np.unique(table["student_width"])
    columns = []
    for width in widths:
        rows, alone = of_width(table, width)
        every, errors = by_temperature(rows, ERRORS)
        columns.append([f"{alone[ERRORS].mean():.1f}"])
        columns[-1] += [
            f"{mean:.1f}" + (" *" if t == best(rows) else "")
            for t, mean in zip(every, errors.mean(1), strict=True)
        ]
        printed.add_column(f"{width:g} units")
    names = ["no teacher", *(f"{t:g}" for t in every)]
    for name, *cells in zip(names, *columns, strict=True):
        printed.add_row(name, *cells)
    rich.print(printed)


def answer(config: Config, images: data.Data, info: data.Info) -> tuple[dict, dict]:
    taught = mnist.taught(config, images)
    tables, seconds = tuning.gather(run(config, taught.data, info))
    tables["best"] = bests(tables["runs"])
    seconds = round(taught.quality["seconds"] + seconds)
    return tables, {"teacher": taught.quality, "seconds": seconds}


EXPERIMENT = running.Experiment(
    "temperature_width",
    QUICK,
    check,
    answer,
    show,
    CLAIMS,
    statistics,
    tables=("runs", "best"),
)
main = running.command(EXPERIMENT, Config)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
