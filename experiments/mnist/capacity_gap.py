"""Does a teacher too large for its student hurt, and is there a best size ratio?

Students with 4 to 64 hidden units learn from teachers with 32 to 2,048 hidden units.
Each teacher is trained for 2, 20 and 60 epochs, so that teachers of the same size
differ in loss and entropy. The losses are Hinton's at T = 4, Hinton's at a temperature
selected for each pair, DIST, and KL between standardised logits. The last two use the
default weights of their authors' code.

Learning rates and temperatures are selected on the validation set with a separate seed.
At each temperature, students of all teachers of a kind (2, 20 or 60 epochs) share one
learning rate, selected by their median errors, so that chance in one search is not
attributed to a teacher. Intervals are over the students' seeds. Each teacher is trained
only once, which favours the best of seven, so a gap must exceed 0.2 percentage points.
Claims are about the median student, because accuracies of the smallest students vary
much between seeds. The logits of all teachers are stored together, so that one sweep
trains the students of all of them.

    python -m experiments.mnist.capacity_gap                    # 5,000 digits
    python -m experiments.mnist.capacity_gap --dataset mnist    # 6,470 runs
"""

from dataclasses import dataclass
from functools import partial
import itertools

import numpy as np
import pandas as pd
from scipy import special, stats

from experiments.mnist import setup
from kdjax import losses, objectives
from kdjax.models import Outputs
from kdjax.study import selection, statistics
from kdjax.study.arms import Arm, all_tuned, gather, labelled
from kdjax.study.claims import Claim, above
from kdjax.study.command import main
from kdjax.study.study import Outcome, Study, print_estimates, print_table
from kdjax.study.types import Count, Counts, Fraction, Positive, Positives

FIXED = 4.0  # the temperature at which papers found the gap
SWEET_SPOT = (0.1, 0.3)  # the usual claim of a best size ratio
KINDS = ("early", "full", "over")
TEST, ERRORS = "test_accuracy_last", "validation_errors_last"


@dataclass(frozen=True)
class Config(setup.Learning):
    student_widths: Counts = (4, 8, 16, 32, 64)
    """Hidden units in each of a student's two layers."""
    teacher_widths: Counts = (32, 64, 128, 256, 512, 1024, 2048)
    """Hidden units in each of a teacher's two layers."""
    early_epochs: Count = 2
    """Epochs of teachers that are trained briefly."""
    full_epochs: Count = 20
    """Epochs of teachers that are trained fully."""
    over_epochs: Count = 60
    """Epochs of teachers that are over-trained."""
    teacher_learning_rate: Positive = 1e-3
    """Peak learning rate of every teacher (Adam, cosine decay)."""
    temperatures: Positives = (1.0, 2.0, FIXED, 8.0, 16.0)
    """Temperatures to select from for every pair."""
    alpha: Fraction = 0.9
    """Weight of the teacher in Hinton's loss."""
    dist_temperature: Positive = 1.0
    """Temperature of DIST."""
    dist_weight: Positive = 1.0
    """Weight of each part of DIST; labels have weight 1."""
    standardized_temperature: Positive = 2.0
    """Temperature of KL between standardised logits."""
    standardized_weight: Positive = 9.0
    """Weight of KL between standardised logits; labels have weight 1."""
    learning_rates: Positives = (3e-3, 1e-2, 3e-2)
    seeds: Count = 10
    """Number of seeds, each with one student per setting."""
    epochs: Count = 6


def dist(student, teacher, batch, *, temperature, weight):
    soft = losses.dist(student.logits, teacher.logits, temperature=temperature)
    return losses.cross_entropy(student.logits, batch["label"]) + weight * soft


def standardized(student, teacher, batch, *, temperature, weight):
    both = map(losses.standardize, (student.logits, teacher.logits))
    soft = losses.soft_kl(*both, temperature=temperature)
    return losses.cross_entropy(student.logits, batch["label"]) + weight * soft


def with_teachers(config, images):
    """The data with the training logits of all teachers, and a table of teachers."""
    pairs = itertools.product(KINDS, sorted(config.teacher_widths))
    rows = pd.DataFrame(pairs, columns=["kind", "width"])
    rows["parameters"] = rows["width"].map(setup.parameters)
    rows["epochs"] = [getattr(config, f"{kind}_epochs") for kind in rows["kind"]]
    fit = partial(setup.fit, learning_rate=config.teacher_learning_rate)
    trained = [
        fit(setup.student(row.width, setup.HARD, epochs=row.epochs), images)
        for row in rows.itertuples()
    ]
    logits = np.stack([each.data.train["teacher"].logits for each in trained], axis=1)
    right = logits.argmax(-1) == images.train["label"][:, None]
    rows["train_accuracy"] = right.mean(0)
    p = special.softmax(logits.astype(float), axis=-1)
    rows["train_entropy"] = stats.entropy(p, axis=-1).mean(0)
    quality = pd.json_normalize([each.quality for each in trained], sep="_")
    rows = rows.join(quality.filter(regex="accuracy|nll|seconds"))
    return images._replace(train={**images.train, "teacher": Outputs(logits)}), rows


def best_of_each(search, axes):
    """The row to measure for each teacher, with the learning rate of its kind."""
    teachers = search["teacher"].nunique() // len(KINDS)  # per kind
    rows = search.assign(kind=search["teacher"] // teachers)
    rows = selection.shared_rates(rows, alike=["kind", "temperature"])
    best = rows.sort_values([ERRORS, "temperature"]).drop_duplicates("teacher")
    return best.sort_values("teacher")


def best_of_both(search, axes):
    """The rows to measure at T = 4, and at the temperature selected for each pair."""
    arms = {"kl": search.query("temperature == @FIXED"), "kl_tuned": search}
    return pd.concat([best_of_each(r, axes).assign(arm=arm) for arm, r in arms.items()])


def arms(config, images):
    teachers = {"teacher": range(len(KINDS) * len(config.teacher_widths))}
    rates = {"learning_rate": config.learning_rates}
    soft = {"temperature": config.temperatures, "alpha": [config.alpha]}
    distilled = {"kl": (setup.HINTON, soft, best_of_both)}
    for loss in (dist, standardized):
        name = loss.__name__
        axes = {n: [getattr(config, f"{name}_{n}")] for n in ("temperature", "weight")}
        distilled[name] = (loss, axes, best_of_each)
    for width in config.student_widths:
        size = {"student_width": width, "student_parameters": setup.parameters(width)}
        student = partial(setup.student, width, epochs=config.epochs)
        hard, columns = student(setup.HARD), size | {"arm": "hard"}
        yield Arm(columns, hard, images, config.seeds, rates)
        for name, (loss, axes, choose) in distilled.items():
            soft, columns = student(objectives.from_several(loss)), size | {"arm": name}
            axes = teachers | axes | rates
            yield Arm(columns, soft, images, config.seeds, axes, choose)


def run(config, images, info):
    images, teachers = with_teachers(config, images)
    found, seconds = gather(all_tuned(partial(arms, config, images)))
    tables, traits = {"teachers": teachers}, teachers[["kind", "width", "parameters"]]
    for title in ("runs", "search"):  # curves are large and not used
        rows = found[title].join(traits, on="teacher")
        rows["ratio"] = rows["student_parameters"] / rows.pop("parameters")
        rows = rows.rename(columns={"width": "teacher_width"}).fillna({"kind": "none"})
        tables[title] = labelled(rows, info.columns())
    return Outcome(tables, {"seconds": round(teachers["seconds"].sum() + seconds)})


def gap(ratios, accuracies, errors):
    """Percentage-point gain of the best teacher over the largest."""
    return selection.best_by_others(accuracies, errors) - accuracies[-1]


def sweet_spot(ratios, accuracies, errors):
    """Percentage-point gain of the best teacher inside `SWEET_SPOT` over outside."""
    low, high = SWEET_SPOT
    inside = (low <= ratios) & (ratios <= high)
    if inside.any() and (ratios < low).any() and (ratios > high).any():
        return selection.inside_less_outside(inside, accuracies, errors)
    return None


def points(judge, runs, arm, kind="full"):
    """Percentage-point gains ``[seeds]`` by student width.

    Teachers are passed to ``judge`` in ascending order of size.
    """
    rows, found = runs.query("arm == @arm and kind == @kind"), {}
    for width, own in rows.groupby("student_width"):
        cells = own.pivot(index=["teacher", "ratio"], columns="seed")
        ratios, errors = cells.index.get_level_values("ratio"), cells[ERRORS].to_numpy()
        found[width] = judge(ratios, 100 * cells[TEST].to_numpy(), errors)
    return {width: each for width, each in found.items() if each is not None}


def median_student(runs, judge, arm):
    """``[seeds]``, the median over students, which share a seed."""
    return np.median(np.stack(list(points(judge, runs, arm).values())), axis=0)


def gaps(outcome):
    """The gap for each student, arm and kind of teacher."""
    runs = outcome.tables["runs"].query("kind != 'none'")
    found = {
        (width, arm, kind): statistics.estimate(values)
        for arm, kind in runs[["arm", "kind"]].drop_duplicates().to_numpy()
        for width, values in points(gap, runs, arm, kind).items()
    }
    return statistics.estimates_table(found, ["student_width", "arm", "kind"])


def correlation(accuracies, trait):
    """Rank correlation of mean accuracy and a trait; median over students."""
    means = accuracies.to_numpy().mean(0).reshape(-1, len(trait))
    return np.median(statistics.rank_correlation(means, trait))


def explains(outcome):
    """Correlations of students' accuracy with traits of the teacher, for each arm.

    Across kinds, a trait may reflect the length of the teacher's training, so fully
    trained teachers have separate rows. Means over resampled seeds are noisier than
    those over all, so the interval is biased towards 0.
    """
    teachers, found = outcome.tables["teachers"], {}
    runs = outcome.tables["runs"].query("kind != 'none'")
    pairs = ["student_width", "teacher"]
    for arm, of_arm in runs.groupby("arm", sort=False):
        for kind, kinds in {"all": KINDS, "full": ["full"]}.items():
            rows, own = (t[t["kind"].isin(kinds)] for t in (of_arm, teachers))
            cells = rows.pivot(index=pairs, columns="seed", values=TEST).T
            for trait in ("parameters", "validation_nll", "train_entropy"):
                measure = partial(correlation, trait=own[trait])
                found[arm, kind, trait] = statistics.bootstrap(
                    measure, cells, draws=1000
                )
    return statistics.estimates_table(found, ["arm", "kind", "trait"])


def show(tables, meta):
    rows = tables["runs"].query("kind in ('none', 'full')").fillna({"teacher_width": 0})
    means = 100 * rows.pivot_table(TEST, ["student_width", "arm"], "teacher_width")
    title = "Test accuracy (%) by teacher's hidden units; 0 means hard labels"
    print_table(means.round(2), title)
    by = {"gaps": ("student_width", "arm"), "explains": ("arm", "trait")}
    for title, (index, columns) in by.items():
        if title in tables:
            full = tables[title].query("kind == 'full'")
            print_estimates(full, f"{title}: full", index=index, columns=columns)


ADDS, CLAIMS = "percentage points of accuracy that the best teacher", {}
WAYS = {"": ("kl", f"T = {FIXED:g}"), "_tuned": ("kl_tuned", "T tuned for each pair")}
for suffix, (arm, way) in WAYS.items():
    CLAIMS[f"capacity_gap{suffix}"] = Claim(
        "A teacher too large for its student hurts",
        f"{ADDS} adds over the largest, {way}, median over students",
        partial(median_student, judge=gap, arm=arm),
        above(0.2),
    )
for suffix, (arm, way) in WAYS.items():
    CLAIMS[f"sweet_spot{suffix}"] = Claim(
        "A student should have 10 to 30 % of its teacher's parameters",
        f"{ADDS} in this range adds over the best outside it, {way}, median over "
        "students that have teachers below, in and above the range",
        partial(median_student, judge=sweet_spot, arm=arm),
        above(0.1),
    )
STUDY = Study(
    "capacity_gap_mnist",
    __doc__,
    Config,
    run,
    show,
    cost="75 minutes",
    quick={"student_widths": (8, 16), "teacher_widths": (32, 128, 512)}
    | {"early_epochs": 1, "full_epochs": 6, "over_epochs": 15, "seeds": 3}
    | {"temperatures": (1.0, FIXED), "learning_rates": (1e-2,)},
    derived={"gaps": gaps, "explains": explains},
    claims=CLAIMS,
    paper={"sweet_spot": SWEET_SPOT},
)

if __name__ == "__main__":
    main(STUDY)
