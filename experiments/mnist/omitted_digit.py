"""Is a digit that a student never saw learnt from the teacher's beliefs of others?

In section 3 of Hinton's paper all threes are taken out of the transfer set. The student
still makes only 206 test errors, 133 of them on the 1,010 threes, and 109 and 14 once
the bias of the three is raised by 3.5. From sevens and eights alone it errs on 47.3 %
of the test images, and on 13.2 % once the biases of these two are lowered by 7.6.

Here each digit in turn is the one left out, and beside the student that matches the
teacher at T = 20 there are two that cannot know the digit: one of hard labels, and one
of a naive teacher, which was itself trained without that digit. For each of them one
number is added to the logit of the digit (of 7 and 8, where these are all that is
seen): that with the fewest errors on held-out training images of every digit, and,
apart from it, that with the fewest on the test images, as in the paper. Errors after
the second are too low by what was chosen on them.

The learning rate is chosen, for each arm and transfer set, on validation images without
the omitted digit, for how well a student does on that digit is what is asked. All
students take as many steps as ``epochs`` passes over all training images would, up to
half a pass over their transfer set: the smaller it is, the more passes.

    python -m experiments.omitted_digit                    # embedded digits
    python -m experiments.omitted_digit --dataset mnist    # 90 minutes, 2 busy cores
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import rich
from rich.table import Table as Printed
import tyro

from experiments import mnist, running, tuning
from kdjax import checks, data, models, results
from kdjax.results import Claim, Estimate, Table


@dataclass(frozen=True)
class Config(mnist.TeacherConfig):
    dataset: Literal["mnist5k", "mnist"] = "mnist5k"
    """mnist5k, 5,000 embedded digits; or mnist, all 70,000 (see --data-dir)."""
    omitted: tuple[int, ...] = tuple(range(10))
    """Digits to leave out, each in its turn."""
    naive_teachers: tuple[int, ...] = tuple(range(10))
    """Those of them for which a teacher is trained without the digit."""
    naive_teacher_epochs: int = 30
    """Passes over its training images, for such a teacher."""
    student_width: int = 300
    """Units of each of a student's two hidden layers."""
    temperature: float = 20.0
    """At which students match the teacher."""
    learning_rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3)
    """Adam's, at the first step, to choose from for every arm and transfer set."""
    seeds: int = 5
    """How many students are measured, for every arm and transfer set."""
    epochs: int = 15
    """Passes over all training images that a student's steps would make."""


class Transfer(NamedTuple):
    """A transfer set: what it lacks, and whose biases are moved to make up for it."""

    name: str
    omitted: tuple[int, ...]
    moved: tuple[int, ...]  # all by the same number


QUICK = mnist.QUICK_TEACHER | {
    "omitted": (3, 8),
    "naive_teachers": (3,),
    "naive_teacher_epochs": 20,
    "student_width": 100,
    "learning_rates": (1e-3, 3e-3),
    "seeds": 3,
}
CLASSES = 10
ONLY = Transfer("only 7 and 8", (0, 1, 2, 3, 4, 5, 6, 9), (7, 8))
STAGES = ("unbiased", "bias_held_out", "bias_test")  # what is added to the logits
PAPER = {  # a bias, and wrong answers (%) without it and with it, to all, to omitted
    "without 3": (3.5, (2.06, 1.09), (100 * 133 / 1010, 100 * 14 / 1010)),
    "only 7 and 8": (-7.6, (47.3, 13.2), None),
}
CLAIMS = {
    "unseen_class": Claim(
        says="An unseen class is learnable from soft targets: 98.6 % of threes",
        statistic="share of threes right by distilled students that never saw one, "
        "after the bias chosen on held-out images",
        supported=(0.95, None),
        refuted=(None, 0.95),
    ),
    "beyond_hard_labels": Claim(
        says="Hard labels and a bias do not make up for the class that is not there",
        statistic="test errors of hard labels less those of distilled students, both "
        "after the bias chosen on held-out images, mean over omitted digits",
        supported=(0.0, None),
        refuted=(None, 0.0),
    ),
    "beyond_naive_teacher": Claim(
        says="Nor do soft targets of a teacher that did not see the class",
        statistic="test errors of a naive teacher's students less those of distilled "
        "ones, both after the bias chosen on held-out images, mean over omitted digits",
        supported=(0.0, None),
        refuted=(None, 0.0),
    ),
}


def statistics(tables: dict[str, Table]) -> dict[str, Estimate]:
    """Of each claim. Students of a seed share initial weights and batches."""
    runs = tables["runs"]
    threes = results.select(runs, transfer="without 3", arm="distilled")
    wrong = threes["omitted_errors_bias_held_out"] / threes["omitted_images"]
    return {
        "unseen_class": results.estimate(1 - wrong),
        "beyond_hard_labels": results.estimate(spared(runs, "hard")),
        "beyond_naive_teacher": results.estimate(spared(runs, "naive_teacher")),
    }


def spared(runs: Table, control: str) -> np.ndarray:
    """Errors that distilling spares its control, mean over omitted digits, ``[seeds]``.

    Only digits for which there is such a control; 7 and 8 alone are no digit left out.
    """
    there = np.unique(results.select(runs, arm=control)["transfer"])

    def errors(arm: str, seed: float) -> float:
        rows = results.select(runs, arm=arm, seed=seed)
        counted = np.isin(rows["transfer"], there[there != ONLY.name])
        return rows["errors_bias_held_out"][counted].mean()

    seeds = np.unique(runs["seed"])
    return np.array([errors(control, s) - errors("distilled", s) for s in seeds])


def transfers(config: Config) -> list[Transfer]:
    each = [Transfer(f"without {d}", (d,), (d,)) for d in config.omitted]
    return [*each, ONLY]


def seen(split: data.Split, transfer: Transfer) -> data.Split:
    """What of ``split`` is no omitted digit."""
    rows = ~np.isin(split.y, transfer.omitted)
    return data.Split(*(None if part is None else part[rows] for part in split))


def passes(epochs: int, images: int, seen: int) -> int:
    """Over ``seen`` images, in about the steps that ``epochs`` over all would take."""
    steps = epochs * (images // mnist.BATCH_SIZE)
    return max(1, round(steps / max(1, seen // mnist.BATCH_SIZE)))


def both_logits(model: models.Model, variables: Any, images: data.Data) -> dict:
    """To choose biases by, and to test them on."""
    splits = {"validation": images.validation, "test": images.test}
    return {n: model.apply(variables, split.x).logits for n, split in splits.items()}


def sides(
    logits: np.ndarray, moved: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The likeliest class that is moved, the likeliest other, and the bias between.

    ``[N]`` each: with a greater bias than that an example goes to the first.
    """
    among = np.isin(np.arange(logits.shape[-1]), moved)
    logits = logits.astype(np.float64)
    inside, outside = (np.where(of, logits, -np.inf) for of in (among, ~among))
    between = outside.max(-1) - inside.max(-1)
    return inside.argmax(-1), outside.argmax(-1), between


def predicted(logits: np.ndarray, moved: tuple[int, ...], bias: float) -> np.ndarray:
    """Classes ``[N]`` once ``bias`` is added to the logits of those moved."""
    inside, outside, between = sides(logits, moved)
    return np.where(bias > between, inside, outside)


def best_bias(logits: np.ndarray, labels: np.ndarray, moved: tuple[int, ...]) -> float:
    """What added to the logits of ``moved`` makes the fewest errors; 0, if it can be.

    Errors change nowhere but where an example changes sides, so that to look once
    between any two such places is to look everywhere. Of equals, the nearest to 0.
    """
    inside, outside, between = sides(logits, moved)
    order = np.argsort(between)
    gains = (inside == labels).astype(int) - (outside == labels)
    gains = np.concatenate([[0], np.cumsum(gains[order])])  # by how many changed sides
    places = np.unique(between)
    middles = (places[1:] + places[:-1]) / 2
    biases = np.concatenate([[0.0, places[0] - 1], middles, [places[-1] + 1]])
    gain = gains[np.searchsorted(between[order], biases)]
    best = biases[gain == gain.max()]
    return float(best[np.abs(best).argmin()])


def judge(
    logits: dict[str, np.ndarray], images: data.Data, transfer: Transfer
) -> tuple[dict, Table]:
    """One run: its test errors at each stage, and its test accuracy class by class.

    Args:
      logits: Of ``validation`` and ``test``, ``[N, classes]`` each.
      images: With every digit.
      transfer: What the run has seen.
    """
    held_out = best_bias(logits["validation"], images.validation.y, transfer.moved)
    labels = images.test.y
    by_test = best_bias(logits["test"], labels, transfer.moved)
    omitted = np.isin(labels, transfer.omitted)
    counts = np.bincount(labels, minlength=CLASSES)
    run = {"bias_held_out": held_out, "bias_test": by_test}
    run["omitted_images"] = omitted.sum()
    classes = {"class": np.arange(CLASSES), "images": counts}
    for stage, bias in zip(STAGES, (0.0, held_out, by_test), strict=True):
        right = predicted(logits["test"], transfer.moved, bias) == labels
        run[f"errors_{stage}"] = np.sum(~right)
        run[f"omitted_errors_{stage}"] = np.sum(~right & omitted)
        classes[f"accuracy_{stage}"] = np.bincount(labels, right, CLASSES) / counts
    return run, classes


def arms(config: Config) -> dict[str, tuple]:
    """A loss without a teacher, one of its answers alone, and what to try each at."""
    teacher = {"temperature": [config.temperature], "alpha": [1.0]}
    return mnist.hard_and_distilled(teacher, config.learning_rates)


def learn(
    config: Config, arm: str, images: data.Data, transfer: Transfer, epochs: int
) -> tuple[tuning.Tuned, Table]:
    """One arm on one transfer set: its runs, judged, and the classes of each run.

    Args:
      config: What to run.
      arm: ``hard``, or else the teacher's logits are all that is learnt from.
      images: To train on, the transfer set; to validate and to test, every digit.
      transfer: What the transfer set is.
      epochs: Passes over it.
    """
    hard, distilled = arms(config).values()
    loss, columns = hard if arm == "hard" else distilled
    training = mnist.student(config.student_width, loss, epochs=epochs)
    found = tuning.tuned(
        training,
        columns,
        data=images,
        choose_by=seen(images.validation, transfer),
        keep=partial(both_logits, training.model),
        seeds=range(config.seeds),
        name=f"{arm}, {transfer.name}",
    )
    runs, classes = [], []
    for i, seed in enumerate(found.runs["seed"]):
        of_run = {split: kept[i] for split, kept in found.kept.items()}
        run, by_class = judge(of_run, images, transfer)
        runs.append({n: np.array([value]) for n, value in run.items()})
        classes.append({"seed": np.full(CLASSES, seed)} | by_class)
    # The best epoch is the best on every digit, which nothing here may be chosen by.
    last = {n: c for n, c in found.runs.items() if "best" not in n}
    runs = last | results.concatenate(runs)
    return found._replace(runs=runs), results.concatenate(classes)


def check(config: Config) -> None:
    """Raises TypeError or ValueError if the config asks for what cannot be."""
    mnist.check_teacher(config)
    for name in ("student_width", "seeds", "epochs", "naive_teacher_epochs"):
        checks.check_counts(name, getattr(config, name))
    for name, digits in (
        ("omitted", range(CLASSES)),
        ("naive_teachers", config.omitted),
    ):
        asked = getattr(config, name)
        if not asked or len(set(asked)) < len(asked) or not set(asked) <= set(digits):
            takes = ", ".join(map(str, digits))
            raise ValueError(f"{name} is {asked}, but takes some of {takes}, each once")
    if 3 not in config.omitted:
        raise ValueError(f"omitted is {config.omitted}, but a claim is about the 3")
    arms(config)


def show(tables: dict[str, Table], meta: dict) -> None:
    """Prints mean test errors before and after the biases, beside the paper's."""
    runs = tables["runs"]
    errors, images = meta["teacher"]["test"]["errors"], meta["dataset"]["test"]
    printed = Printed(
        *("transfer set", "arm", "bias", "test errors", "on omitted digits"),
        title=f"Without a bias → with that of held-out images (with that of the test's)"
        f"\n{images:,} test images; teacher: {errors:.0f} errors",
    )
    for transfer in dict.fromkeys(runs["transfer"]):
        here = results.select(runs, transfer=transfer)
        for arm in dict.fromkeys(here["arm"]):
            mean = {
                name: column.mean()
                for name, column in results.select(here, arm=arm).items()
                if name.startswith(("bias", "errors", "omitted_errors"))
            }
            printed.add_row(
                *(transfer, arm),
                "{bias_held_out:.1f} ({bias_test:.1f})".format(**mean),
                *(
                    f"{mean[of + '_unbiased']:.0f} → {mean[of + '_bias_held_out']:.0f}"
                    f" ({mean[of + '_bias_test']:.0f})"
                    for of in ("errors", "omitted_errors")
                ),
            )
        if transfer in PAPER:
            printed.add_row(transfer, "paper, %", *papers(transfer))
        printed.add_section()
    rich.print(printed)


def papers(transfer: str) -> list[str]:
    """The cells of the paper, whose bias is that of the test images."""
    bias, *wrong = PAPER[transfer]
    shares = ("" if w is None else f"{w[0]:.3g} → ({w[1]:.3g})" for w in wrong)
    return [f"({bias})", *shares]


def answer(config: Config, images: data.Data, info: data.Info) -> tuple[dict, dict]:
    taught = mnist.taught(config, images)
    naive_config = replace(config, teacher_epochs=config.naive_teacher_epochs)
    found, classes, naive_teachers = [], [], {}
    for transfer in transfers(config):
        part = images._replace(train=seen(images.train, transfer))
        labelled = taught.data._replace(train=seen(taught.data.train, transfer))
        arms = {"distilled": labelled, "hard": labelled}
        if transfer != ONLY and transfer.omitted[0] in config.naive_teachers:
            naive = mnist.taught(naive_config, part)
            naive_teachers[transfer.name] = naive.quality
            arms["naive_teacher"] = naive.data
        epochs = passes(config.epochs, len(images.train.y), len(part.train.y))
        for arm, data_of_arm in arms.items():
            cells = {"transfer": transfer.name, "arm": arm}
            tuned, by_class = learn(config, arm, data_of_arm, transfer, epochs)
            same = info.columns() | cells | {"transfer_size": len(part.train.y)}
            same |= {"student_width": config.student_width, "epochs": epochs}
            found.append((same, tuned))
            rows = len(by_class["seed"])
            classes.append({n: np.full(rows, c) for n, c in cells.items()} | by_class)
    tables, seconds = tuning.gather(found)
    teachers = [taught.quality, *naive_teachers.values()]
    seconds = round(seconds + sum(quality["seconds"] for quality in teachers))
    facts = {"teacher": taught.quality, "naive_teachers": naive_teachers}
    tables["classes"] = results.concatenate(classes)
    return tables, facts | {"seconds": seconds}


EXPERIMENT = running.Experiment(
    "omitted_digit",
    QUICK,
    check,
    answer,
    show,
    CLAIMS,
    statistics,
    tables=("runs", "classes"),
)
main = running.command(EXPERIMENT, Config)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
