"""Does the small net of Hinton's section 3 halve its errors by a teacher's answers?

In the paper a teacher of 1,200 units a layer makes 67 test errors, a net of 800 units
146 with hard labels, and 74 if it matches the teacher at T = 20. Here each is trained
ten times on the images as they are, the learning rate, and the teacher's weight, chosen
on validation by a seed that is not measured.

    python -m experiments.hinton_mnist                    # embedded digits
    python -m experiments.hinton_mnist --dataset mnist    # 70 minutes on 2 cores
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import rich
import tyro

from experiments import mnist, running, tuning
from kdjax import checks, data, results
from kdjax.results import Claim, Estimate, Table


@dataclass(frozen=True)
class Config(mnist.TeacherConfig):
    dataset: Literal["mnist5k", "mnist"] = "mnist5k"
    """mnist5k, 5,000 embedded digits; or mnist, all 70,000 (see --data-dir)."""
    student_width: int = 800
    """Units of each of a student's two hidden layers."""
    temperature: float = 20.0
    """At which students match the teacher."""
    alphas: tuple[float, ...] = (0.5, 1.0)
    """Weights of the teacher, to choose from."""
    learning_rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3, 1e-2)
    """Adam's, at the first step, to choose from for every arm."""
    seeds: int = 10
    """How many students are measured, for every arm."""
    epochs: int = 40
    """Passes over the training images, for a student."""


QUICK = mnist.QUICK_TEACHER | {
    "student_width": 100,
    "learning_rates": (1e-3, 3e-3),
    "seeds": 3,
    "epochs": 15,
}
PAPER = {"teacher": 67, "hard": 146, "distilled": 74}  # test errors
CLAIMS = {
    "dark_knowledge": Claim(
        says="A teacher halves a small net's errors: 146 become 74",
        statistic="share of its test errors that the teacher takes from a student",
        supported=(0.4, None),
        refuted=(None, 0.4),
    ),
}


def statistics(tables: dict[str, Table]) -> dict[str, Estimate]:
    """Of the claim. Students of a seed share initial weights and batches: a pair."""
    hard, distilled = (
        results.select(tables["runs"], arm=arm)["test_errors_last"]
        for arm in ("hard", "distilled")
    )
    return {"dark_knowledge": results.estimate(1 - distilled / hard)}


def arms(config: Config) -> dict[str, tuple]:
    """Each arm's loss, and what to choose from."""
    teacher = {"temperature": [config.temperature], "alpha": config.alphas}
    return mnist.hard_and_distilled(teacher, config.learning_rates)


def run(config: Config, images: data.Data, info: data.Info) -> Iterator[tuple]:
    """What each arm is, and what it came to."""
    for arm, (loss, columns) in arms(config).items():
        yield (
            info.columns() | {"arm": arm, "student_width": config.student_width},
            tuning.tuned(
                mnist.student(config.student_width, loss, epochs=config.epochs),
                columns,
                data=images,
                seeds=range(config.seeds),
                name=arm,
                choose=tuning.best_row,
            ),
        )


def check(config: Config) -> None:
    """Raises TypeError or ValueError if the config asks for what cannot be."""
    mnist.check_teacher(config)
    for name in ("student_width", "seeds", "epochs"):
        checks.check_counts(name, getattr(config, name))
    arms(config)


def show(tables: dict[str, Table], meta: dict) -> None:
    """Prints test errors as the paper counts them."""
    errors = meta["teacher"]["test"]["errors"]
    rich.print(f"teacher: {errors:.0f} errors (paper: {PAPER['teacher']})")
    for arm in ("hard", "distilled"):
        rows = results.select(tables["runs"], arm=arm)
        for end in ("last", "best"):
            mean, half = results.interval(rows[f"test_errors_{end}"])
            rich.print(
                f"{arm}, {end} epoch: {mean:.1f} ± {half:.1f} (paper: {PAPER[arm]})"
            )


def answer(config: Config, images: data.Data, info: data.Info) -> tuple[dict, dict]:
    taught = mnist.taught(config, images)
    tables, seconds = tuning.gather(run(config, taught.data, info))
    seconds = round(taught.quality["seconds"] + seconds)
    return tables, {"teacher": taught.quality, "seconds": seconds}


EXPERIMENT = running.Experiment(
    "hinton_mnist", QUICK, check, answer, show, CLAIMS, statistics
)
main = running.command(EXPERIMENT, Config)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
