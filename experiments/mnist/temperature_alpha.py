"""How do temperature and alpha trade off in Hinton's loss?

Students of 30 and 300 units a layer learn from one teacher, over temperatures and
weights of the teacher, beside students of the same budget that have no teacher, that
have smoothed labels, or the teacher's most likely class as their label. Each cell's
learning rate is chosen on validation by one seed; other seeds are then measured. The
test set is looked at once, at the end.

    python -m experiments.temperature_alpha                    # embedded digits
    python -m experiments.temperature_alpha --dataset mnist    # an hour on 2 cores
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import rich
from rich.table import Table as Printed
import tyro

from experiments import mnist, running, tuning
from kdjax import checks, data, losses, results
from kdjax.results import Table
from kdjax.sweep import grid
from kdjax.train import Training

METRIC = "test_accuracy_last"


@dataclass(frozen=True)
class Config:
    dataset: Literal["mnist5k", "mnist"] = "mnist5k"
    """mnist5k, 5,000 embedded digits; or mnist, all 70,000 (see --data-dir)."""
    student_widths: tuple[int, ...] = (30, 300)
    """Units of each of a student's two hidden layers."""
    temperatures: tuple[float, ...] = (1.0, 2.0, 3.0, 4.0, 5.0, 8.0, 12.0, 20.0, 40.0)
    """Temperatures that soften teacher and student."""
    alphas: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)
    """Weights of the teacher; 0 is training without one."""
    smoothings: tuple[float, ...] = (0.05, 0.1, 0.2)
    """Label smoothing, a control."""
    learning_rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3, 1e-2)
    """Adam's, at the first step, to choose from for every cell."""
    seeds: int = 5
    """How many students are measured for every cell."""
    epochs: int = 15
    """Passes over the training images, for a student."""
    batch_size: int = 128
    """Images a step, for students and teacher."""
    teacher_width: int = 1200
    """Units of each of the teacher's two hidden layers."""
    teacher_epochs: int = 60
    """Passes over the training images, for the teacher."""
    teacher_learning_rate: float = 1e-3
    """Adam's, at the first step, for the teacher."""


COUNTS = (
    "student_widths",
    "seeds",
    "epochs",
    "batch_size",
    "teacher_width",
    "teacher_epochs",
)
QUICK = {
    "student_widths": (30,),
    "temperatures": (1.0, 4.0, 20.0),
    "alphas": (0.0, 0.9),
    "smoothings": (0.1,),
    "learning_rates": (3e-3,),
    "seeds": 3,
    "epochs": 12,
    "teacher_width": 300,
    "teacher_epochs": 20,
}


def teacher_argmax(logits, teacher_logits, _):
    return losses.teacher_argmax(logits, teacher_logits)


def arms(config: Config) -> list[tuple]:
    """Each loss with its settings, each at every learning rate."""
    axes = {
        losses.hinton: {"temperature": config.temperatures, "alpha": config.alphas},
        mnist.label_smoothing: {"smoothing": config.smoothings},
        teacher_argmax: {},
    }
    settings = []
    for loss, named in axes.items():
        table = grid(named | {"learning_rate": config.learning_rates}, loss)
        if "alpha" in table:  # without a teacher the temperature is idle
            once = table["temperature"] == np.float32(config.temperatures[0])
            keep = (table["alpha"] > 0) | once
            table = {n: c[keep] for n, c in table.items()}
        settings.append((loss, table))
    return settings


def check(config: Config) -> None:
    """Raises TypeError or ValueError if the config asks for what cannot be."""
    arms(config)
    checks.check_values("teacher_learning_rate", [config.teacher_learning_rate])
    for name in COUNTS:
        checks.check_counts(name, getattr(config, name))
    if max(config.alphas) == 0:
        raise ValueError("alphas are all 0, but some student takes a teacher")


def student(config: Config, width: int, loss) -> Training:
    return mnist.student(
        width, loss, epochs=config.epochs, batch_size=config.batch_size
    )


def with_teacher(config: Config, images: data.Data) -> tuple[data.Data, dict]:
    """The data with the teacher's logits, and how good the teacher is."""
    training = mnist.regularized(
        config.teacher_width,
        epochs=config.teacher_epochs,
        batch_size=config.batch_size,
    )
    taught = mnist.fit(training, images, learning_rate=config.teacher_learning_rate)
    return taught.data, taught.quality


def run(config: Config, images: data.Data, info: data.Info) -> Iterator[tuple]:
    """What each arm is, and what it came to."""
    for width in config.student_widths:
        for loss, settings in arms(config):
            same = info.columns() | {"student_width": width, "loss": loss.__name__}
            yield (
                same,
                tuning.tuned(
                    student(config, width, loss),
                    settings,
                    data=images,
                    seeds=range(config.seeds),
                    name=f"{loss.__name__}, {width} units",
                ),
            )


def digits(images: data.Data) -> Table:
    """Test digits with the teacher's logits: of each class a plain and a doubtful one.

    Of the images of a class that the teacher gets right, in the order of the entropy
    of its beliefs: the one in the middle, and the one with a hundredth above it.
    """
    _, y, logits = images.test
    log_p = logits - np.logaddexp.reduce(logits, -1, keepdims=True)
    entropy = -np.sum(np.exp(log_p) * log_p, -1)
    rows, kinds = [], []
    for label in range(10):
        right = np.flatnonzero((y == label) & (logits.argmax(-1) == label))
        right = right[np.argsort(entropy[right])]
        for kind, share in (("plain", 0.5), ("doubtful", 0.99)):
            rows.append(right[int(share * (len(right) - 1))])
            kinds.append(kind)
    return {"kind": np.array(kinds)} | mnist.pictured(images.test, np.array(rows))


def cell(rows: Table) -> str:
    """Mean accuracy in percent with its 95 % interval."""
    values = 100 * rows[METRIC]
    if len(values) < 2:
        return f"{values[0]:.2f}" if len(values) else "-"
    return "{:.2f} ± {:.2f}".format(*results.interval(values))


def summary(table: Table) -> dict[str, dict[str, str]]:
    """For each width, what each arm comes to, its setting chosen on validation."""
    summaries = {}
    for width in np.unique(table["student_width"]):
        here = results.select(table, student_width=width)
        taught = results.select(here, loss="hinton")
        smooth = results.select(here, loss="label_smoothing")
        smooth = results.choose(smooth, "smoothing")
        with_teacher = {n: c[taught["alpha"] > 0] for n, c in taught.items()}
        best = results.choose(with_teacher, "temperature", "alpha")
        setting = "T = {temperature:g}, alpha = {alpha:g}".format(
            **{n: c[0] for n, c in best.items()}
        )
        summaries[f"{width:g}"] = {
            "no teacher": cell(results.select(taught, alpha=0)),
            "label smoothing": f"{cell(smooth)} ({smooth['smoothing'][0]:g})",
            "teacher's class as label": cell(
                results.select(here, loss="teacher_argmax")
            ),
            "distilled": f"{cell(best)} ({setting})",
        }
    return summaries


def show(tables: dict[str, Table], meta: dict) -> None:
    """Prints test accuracy at the last epoch: every cell, and each arm's choice."""
    table = tables["runs"]
    for width, arms in summary(table).items():
        taught = results.select(table, student_width=float(width), loss="hinton")
        alphas = [a for a in np.unique(taught["alpha"]) if a > 0]
        title = f"Test accuracy (%), students of {width} + {width} units"
        printed = Printed("temperature", title=title)
        for alpha in alphas:
            printed.add_column(f"alpha {alpha:g}")
        for t in np.unique(taught["temperature"]):
            rows = results.select(taught, temperature=t)
            printed.add_row(
                f"{t:g}", *(cell(results.select(rows, alpha=a)) for a in alphas)
            )
        rich.print(printed)
        for arm, value in arms.items():
            rich.print(f"  {arm}: {value}")


def answer(config: Config, images: data.Data, info: data.Info) -> tuple[dict, dict]:
    images, quality = with_teacher(config, images)
    tables, seconds = tuning.gather(run(config, images, info))
    seconds = round(quality["seconds"] + seconds)
    facts = {"teacher": quality, "seconds": seconds}
    return tables | {"digits": digits(images)}, facts


EXPERIMENT = running.Experiment("temperature_alpha", QUICK, check, answer, show)
main = running.command(EXPERIMENT, Config)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
