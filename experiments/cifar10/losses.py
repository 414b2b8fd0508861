"""Do hidden activations teach a network more than logits do?

A plain network with two convolutions learns CIFAR-10 from a published residual network
by one loss of every family: on logits, on feature maps, and on relations between the
examples of a batch. Each is added to the labels' cross-entropy; all but the divergences
are also tried with KL at T = 4. Its weight, a tenth, once or ten times the usual value,
is selected on the validation set with a separate seed, without KL and with it. FitNets'
hint has a phase of its own, and needs no weight. All students take the same number of
steps at one learning rate; the table of costs says how many seconds each loss takes.

Controls are hard labels and KL for twice the epochs, label smoothing, and, for every
loss on features, those of a teacher that was never trained, with a weight selected in
the same way. Student and teacher see the same view of each image, one of six. The
teacher's feature maps are averaged to the student's size where they are larger.

    python -m experiments.cifar10.losses    # 7.5 hours of one core
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from experiments.cifar10 import setup
from experiments.cifar10.families import (
    ALL,
    DIVERGENCES,
    LOGITS,
    Name,
    added,
    alike,
    families,
    kept,
    nothing,
    with_small_maps,
)
from kdjax import losses, objectives
from kdjax.study import selection
from kdjax.study.arms import Arm, all_tuned, gather, labelled
from kdjax.study.claims import Claim, above
from kdjax.study.command import main
from kdjax.study.statistics import bootstrap, format_mean, rank_correlation
from kdjax.study.study import Outcome, Study, print_table
from kdjax.study.types import Count, Fraction, Positive, Positives

TEST, ERRORS = "test_accuracy_last", "validation_errors_last"
# Mean gains over the student alone in Tian et al.'s table for CIFAR-100, in points of
# accuracy, over its seven pairs of networks.
CRD_TABLE = {
    "kl": 1.689,
    "hint": 0.320,
    "attention": 1.063,
    "similarity": 0.989,
    "vid": 1.074,
    "rkd": 0.324,
    "pkt": 1.479,
    "crd": 2.544,
}


@dataclass(frozen=True)
class Config(setup.Images):
    student: setup.Name = "plain-2"
    """The student."""
    teacher: setup.Name = "resnet-20"
    """The teacher."""
    families: tuple[Name, ...] = ALL
    """Losses to try."""
    temperature: Positive = 4.0
    """Temperature of all losses on logits but mean squared error."""
    kl_weight: Positive = 9.0
    """Weight of KL where it is added; labels have weight 1."""
    factors: Positives = (0.1, 1.0, 10.0)
    """Multiples of a loss's usual weight to select from."""
    smoothing: Fraction = 0.1
    """Weight of the uniform distribution in label smoothing."""
    learning_rate: Positive = 8e-3
    """Peak learning rate (Adam, cosine decay), the best on validation images both for
    hard labels and for KL."""
    negatives: Count = 1024
    """Negatives of CRD."""
    epochs: Count = 6
    """Epochs of a student's training."""
    teacher_epochs: Count = 30
    """Epochs of the training of a plain teacher."""
    seeds: Count = 5
    """Number of seeds, each with one student per setting."""


def trainings(config, family, network):
    """The phases of a student: FitNets' hint comes first, for a third of the epochs."""
    make = partial(setup.student, network)
    if not family.hint_first:
        objective = partial(added, family.term, config.temperature)
        return make(objective, epochs=config.epochs, projector=family.projector)
    first = max(1, config.epochs // 3)
    later = partial(added, nothing, config.temperature)
    return [
        make(family.term, epochs=first, projector=family.projector),
        make(later, epochs=max(1, config.epochs - first)),
    ]


def best_weights(search, axes):
    """The best row with KL and without."""
    return pd.concat(
        [selection.best_row(rows, axes) for _, rows in search.groupby("kl")]
    )


def arms(config, trained, untrained, network):
    """The controls, and every loss alone and with KL, and without a trained teacher."""
    rate = {"learning_rate": [config.learning_rate]}
    smoothed = objectives.on_logits(losses.label_smoothing)
    extras = partial(alike, network)
    plainly = partial(added, nothing, config.temperature)
    with_kl = {"kl": [0.0, config.kl_weight]}
    for name, objective, times, axes in (
        ("hard", plainly, 1, {"weight": [0.0], "kl": [0.0]}),
        ("long", plainly, 2, {"weight": [0.0]} | with_kl),
        ("smoothing", smoothed, 1, {"smoothing": [config.smoothing]}),
    ):
        training = setup.student(network, objective, epochs=times * config.epochs)
        columns = {"arm": name, "features": "none", "kl": 0.0}
        choose = best_weights if "kl" in axes else selection.best_row
        axes = axes | rate
        yield Arm(columns, training, trained, config.seeds, axes, choose, extras=extras)
    for name, family in families(config, len(trained.train["label"])).items():
        phases = trainings(config, family, network)
        weights = [family.weight * factor for factor in config.factors]
        weights = {"weight": [family.weight] if family.hint_first else weights}
        alone = {"kl": [0.0]}
        sources = {"trained": (trained, alone if name in DIVERGENCES else with_kl)}
        if name not in LOGITS:
            sources["random"] = (untrained, alone)
        for source, (images, kl) in sources.items():
            columns = {"arm": name, "features": source}
            axes = weights | kl | rate
            own = extras if source == "trained" else None
            yield Arm(
                columns, phases, images, config.seeds, axes, best_weights, extras=own
            )


def with_features(images, others):
    """The data with the features of other outputs."""
    split = images.train
    features = others.train["teacher"].features
    teacher = split["teacher"]._replace(features=features)
    return images._replace(train={**split, "teacher": teacher})


def layers(found):
    """CKA of each student's layers with those of the teacher, one row per pair."""
    tables = []
    for arm, each in found:
        if "cka" not in each.extras:
            continue
        values = each.extras["cka"]
        runs, student, teacher = np.indices(values.shape).reshape(3, -1)
        table = each.runs[["seed"]].iloc[runs].reset_index(drop=True)
        if "kl" in each.runs:
            table["kl"] = each.runs["kl"].to_numpy()[runs]
        table = table.assign(
            student_layer=student, teacher_layer=teacher, cka=values.ravel()
        )
        tables.append(labelled(table, arm.columns))
    return pd.concat(tables, ignore_index=True)


def run(config, images, info):
    images = setup.in_colour(images)
    teacher = setup.teacher(config.teacher, config, images, info, keep=kept)
    untrained = setup.untrained(config.teacher, images, info, keep=kept)
    untrained = with_features(teacher.data, untrained)
    network = with_small_maps(setup.model(config.student, info.name))
    arms_of = partial(arms, config, teacher.data, untrained, network)
    found = [(arm.without_data(), each) for arm, each in all_tuned(arms_of)]
    tables, seconds = gather(found)
    own = info.columns() | {"student": config.student, "teacher": config.teacher}
    tables = {title: labelled(tables[title], own) for title in ("runs", "search")}
    tables["cka"] = layers(found)
    tables["costs"] = pd.DataFrame(
        [
            {**arm.columns, "seconds": each.seconds / len(each.runs + each.search)}
            for arm, each in found
        ]
    )
    seconds = round(teacher.quality["seconds"] + seconds)
    return Outcome(tables, {"teacher": teacher.quality, "seconds": seconds})


def cell(runs, arm, kl, features=("trained", "none")):
    """The runs of an arm, with KL or without, ordered by seed."""
    rows = runs.query("arm == @arm and features in @features")
    return rows[(rows["kl"] > 0) == kl].sort_values("seed")


def accuracies(runs, arms, kl, features=("trained",)):
    """Test accuracies in percent and validation errors ``[arms, seeds]``."""
    rows = [cell(runs, arm, kl, features) for arm in arms]
    return [np.array([r[column] for r in rows]) for column in (TEST, ERRORS)]


def on_features(runs):
    """The names of all losses on features and relations."""
    arms = runs.query("features == 'trained'")["arm"].unique()
    return [arm for arm in arms if arm not in LOGITS]


def richer(runs, kl):
    """``[seeds]``, percentage points of the best loss on features over KL alone."""
    best = selection.best_by_others(*accuracies(runs, on_features(runs), kl))
    return 100 * (best - cell(runs, "kl", False)[TEST].to_numpy())


def taught(runs):
    """``[seeds]``, points of the best loss on features over what needs no teacher.

    That is the best of these losses with an untrained teacher, and of hard labels.
    """
    arms = on_features(runs)
    learned = accuracies(runs, arms, False)
    random = accuracies(runs, arms, False, ("random",))
    hard = accuracies(runs, ["hard"], False, ("none",))
    untaught = [np.concatenate(pair) for pair in zip(random, hard, strict=True)]
    best, control = (selection.best_by_others(*each) for each in (learned, untaught))
    return 100 * (best - control)


def excess(runs, arm):
    """``[seeds]``, the relative increase in errors of a loss over KL."""
    errors = [1 - cell(runs, name, False)[TEST].to_numpy() for name in (arm, "kl")]
    return (errors[0] - errors[1]) / errors[1].mean()


def order(runs):
    """Rank correlation of the losses' accuracies alone with those of Tian et al.

    Not of FitNets' hint, whose two phases share the epochs that other losses have.
    """
    published = {name: gain for name, gain in CRD_TABLE.items() if name != "hint"}
    rows = runs.query("kl == 0 and features == 'trained'")
    table = rows.pivot(index="seed", columns="arm", values=TEST)[list(published)]

    def correlation(drawn):
        means = drawn.to_numpy().mean(0)
        return float(rank_correlation(means, list(published.values())))

    return bootstrap(correlation, table)


def show(tables, meta):
    runs = tables["runs"].assign(score=100 * tables["runs"][TEST])
    runs["with"] = np.where(runs["kl"] > 0, "with KL", runs["features"])
    means = runs.groupby(["arm", "with"], sort=False)["score"].agg(format_mean)
    table = means.unstack().fillna("-")
    print_table(table, "Test accuracy (%), mean over seeds")


CLAIMS = {}
for name, words, kl in (
    ("richer", "alone", False),
    ("adds", "with KL", True),
):
    CLAIMS[name] = Claim(
        "Hidden activations are a richer signal than logits",
        "percentage points of accuracy that the best loss on features or relations, "
        f"{words}, adds over KL",
        partial(richer, kl=kl),
        above(0.0),
    )
CLAIMS["taught"] = Claim(
    "What hidden activations teach is what the teacher learned",
    "percentage points of accuracy that the best loss on features or relations adds "
    "over the best with an untrained teacher or hard labels alone",
    taught,
    above(0.0),
)
CLAIMS["mse"] = Claim(
    "Mean squared error on logits is a worse fit than KL",
    "relative increase in test errors over KL, images of CIFAR-10, logits not centred",
    partial(excess, arm="mse"),
    above(0.05),
)
CLAIMS["order"] = Claim(
    "Losses rank as in the benchmark of CRD on CIFAR-100",
    "rank correlation of seven losses' accuracies with its mean gains",
    order,
    above(0.7),
)
STUDY = Study(
    "losses_cifar10",
    __doc__,
    Config,
    run,
    show,
    cost="7.5 hours of one core",
    published={"dataset": "cifar10_10k"},
    quick=setup.QUICK
    | {"teacher": "plain-4", "families": ("kl", "similarity"), "factors": (1.0,)},
    claims=CLAIMS,
    paper={"crd_table": CRD_TABLE},
)

if __name__ == "__main__":
    main(STUDY)
