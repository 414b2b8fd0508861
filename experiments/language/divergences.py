"""Does reverse KL seek a mode and forward KL cover all, and whose texts matter more?

The teacher is a mixture of four grammars, of which the probability of every text is
known. Students are small decoders: a starved one, which cannot represent the mixture, a
middle one, and an ample one, which nearly can. All begin by learning from the same
texts of the teacher by maximum likelihood. Then starved students learn by one of nine
divergences between the distributions of the next token, summed over each text: of texts
that the teacher wrote, of texts that the student writes in each step, or half of each.
Larger ones learn by forward KL of the teacher's texts, reverse KL of their own, or
Jensen-Shannon divergence of half of each. Controls have maximum likelihood alone, and,
starved, forward KL for twice the steps, since a step in which the student writes takes
longer. Ample students also learn by forward and by reverse KL for four times the steps,
to see whether they end at the same.

The learning rate is selected for each loss and texts, with a separate seed, by the sum
of both KL divergences between whole texts, which favours neither. All numbers are of
4,096 texts: of the teacher, for coverage risk and forward KL, or of the student, for
likelihood risk and reverse KL; risks are as in f-distill (Wen et al. 2023).

    python -m experiments.language.divergences    # 67 minutes of one core
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, Literal

import numpy as np
import pandas as pd

from experiments.language import grammars, students
from kdjax import losses
from kdjax.study import types
from kdjax.study.arms import Arm, all_tuned, gather
from kdjax.study.claims import Claim, above, below
from kdjax.study.command import main
from kdjax.study.selection import best_by_others
from kdjax.study.statistics import format_mean, magnitude, ratio
from kdjax.study.study import Outcome, Study, print_table
from kdjax.study.types import Count, Fractions, Positive, Positives

EVEN = 0.5  # the beta of the symmetric Jensen-Shannon divergence
LOSSES = {
    "forward_kl": losses.forward_kl,
    "skew_forward_kl": losses.skew_forward_kl,
    "jensen_shannon": losses.jensen_shannon,
    "total_variation": losses.total_variation,
    "adaptive_kl": losses.adaptive_kl,
    "skew_reverse_kl": losses.skew_reverse_kl,
    "reverse_kl": losses.reverse_kl,
}
Name = Literal[
    "forward_kl",
    "skew_forward_kl",
    "jensen_shannon",
    "total_variation",
    "adaptive_kl",
    "skew_reverse_kl",
    "reverse_kl",
]


@dataclass(frozen=True)
class Config(types.Config):
    sizes: tuple[students.Size, ...] = ("starved", "middle", "ample")
    """Sizes of the students."""
    losses: tuple[Name, ...] = tuple(LOSSES)
    """Divergences to learn by."""
    texts: tuple[students.Whose, ...] = ("teacher", "mixed", "student")
    """Whose texts to learn from."""
    betas: Fractions = (0.1, 0.5, 0.9)
    """Betas of the Jensen-Shannon divergence, starved; larger students have 0.5."""
    learning_rates: Positives = (3e-3, 1e-2, 3e-2, 1e-1)
    """Peak learning rates (Adam, cosine decay) to select from."""
    warm_rate: Positive = 3e-3
    """Learning rate at the beginning (Adam)."""
    warm_epochs: Count = 1
    """Epochs of learning by maximum likelihood at the beginning."""
    epochs: Count = 4
    """Epochs of learning by a divergence."""
    train: Count = 16_384
    """Number of training texts of the teacher."""
    measured: Count = 4096
    """Number of texts, of each kind, to measure with."""
    seeds: Count = 5
    """Number of seeds, each with one student per setting."""


def cells(config: Config, size: str) -> list[tuple[str, str]]:
    """Divergences, and whose texts, that students of a size learn by."""
    every = list(product(config.losses, config.texts))
    return every if size == "starved" else [each for each in every if each in CORNERS]


def arms(config, data) -> Iterator[Arm]:
    for size in config.sizes:
        yield arm(config, data, size, "likelihood", students.likelihood, "teacher")
        if size == "starved":
            long = partial(students.divergence, losses.forward_kl)
            yield arm(config, data, size, "long", long, "teacher", times=2)
        if size == "ample":
            for name, texts in (FORWARD, REVERSE):
                objective = partial(students.divergence, LOSSES[name])
                yield arm(config, data, size, f"{name}_4", objective, texts, times=4)
        for name, texts in cells(config, size):
            objective, axes = partial(students.divergence, LOSSES[name]), {}
            if name == "jensen_shannon":
                betas = config.betas if size == "starved" else (EVEN,)
                objective, axes = students.jensen_shannon, {"beta": betas}
            yield arm(config, data, size, name, objective, texts, axes)


def arm(
    config: Config,
    data: Any,
    size: str,
    name: str,
    objective: Callable,
    texts: str,
    axes: dict[str, Any] | None = None,
    times: int = 1,
) -> Arm:
    return Arm(
        {"size": size, "loss": name, "texts": texts},
        students.training(config, size, objective, texts, times * config.epochs),
        data,
        config.seeds,
        {**(axes or {}), "learning_rate": config.learning_rates},
        students.lowest,
        numbers=partial(students.numbers, size, config.measured),
    )


def run(config):
    data = grammars.splits(students.MIXTURE, config.train, config.measured)
    tables, seconds = gather(all_tuned(partial(arms, config, data)))
    tables = {name: tables[name] for name in ("runs", "search")}
    facts = {"weights": students.MIXTURE.weights, "seconds": round(seconds)}
    facts["entropy"] = grammars.entropy(students.MIXTURE)
    return Outcome(tables, facts)


def values(runs, size, loss, texts, name="both_kl", beta=EVEN):
    """``[seeds]``, a number of the students of a loss and texts."""
    rows = runs.query("size == @size and loss == @loss and texts == @texts")
    if loss == "jensen_shannon":
        rows = rows[np.isclose(rows["beta"], beta)]
    return rows.sort_values("seed")[f"test_{name}"].to_numpy()


def names_of(runs):
    """The loss of each run, with its beta if it has one."""
    beta = runs.get("beta", pd.Series(np.nan, runs.index))
    return runs["loss"].where(beta.isna(), runs["loss"] + beta.map(" {:.1f}".format))


def difference(runs, one, other, size="starved", name="both_kl"):
    """``[seeds]``, a number of one loss and texts minus that of another."""
    return values(runs, size, *one, name) - values(runs, size, *other, name)


def at_the_optimum(runs):
    """How far two ample students are apart, in nats of the KL that differs more."""
    long = [(f"{name}_4", texts) for name, texts in (FORWARD, REVERSE)]
    each = ("forward_kl", "reverse_kl")
    apart = [magnitude(difference(runs, *long, "ample", name)) for name in each]
    return max(apart, key=lambda found: found.high)


def more_probable(runs):
    """``[seeds]``, nats by which the student's texts are more probable than usual."""
    risk = values(runs, "starved", *REVERSE, "likelihood_risk")
    return grammars.entropy(students.MIXTURE) - risk


def rarest(runs):
    """The rarest grammar's share by reverse KL over that by forward KL.

    Shares are relative to the teacher's; which is the rarest may differ by seed.
    """
    weights = students.MIXTURE.weights
    reverse, forward = (
        np.min(
            [
                values(runs, "starved", *cell, f"template_{number}") / weight
                for number, weight in enumerate(weights)
            ],
            0,
        )
        for cell in (REVERSE, FORWARD)
    )
    return ratio(reverse, forward)


def texts_over_losses(runs):
    """``[seeds]``, what whose texts changes minus what the divergence changes, in nats.

    Each is the mean of two differences, for forward and reverse KL, or of the teacher's
    texts and the student's. Each has the sign with which its mean over seeds is
    positive.
    """
    both = np.array(
        [
            [values(runs, "starved", loss, texts) for texts in ("teacher", "student")]
            for loss in ("forward_kl", "reverse_kl")
        ]
    )  # [loss, texts, seed]
    by_texts, by_loss = both[:, 0] - both[:, 1], both[0] - both[1]
    each = (d * np.sign(d.mean(1, keepdims=True)) for d in (by_texts, by_loss))
    of_texts, of_loss = (d.mean(0) for d in each)
    return of_texts - of_loss


def compromise(runs):
    """``[seeds]``, nats of the best KL divergence over Jensen-Shannon.

    Which is best is judged by the other seeds.
    """
    names, texts = ("forward_kl", "reverse_kl"), ("mixed", FORWARD[1], REVERSE[1])
    every = np.stack([values(runs, "starved", *each) for each in product(names, texts)])
    best = best_by_others(every, every)
    return best - values(runs, "starved", *MIDDLE)


def show(tables, meta):
    runs = tables["runs"]
    loss = names_of(runs)
    for size, rows in runs.groupby("size", sort=False):
        for name, title in (("forward_kl", "forward"), ("reverse_kl", "reverse")):
            keys = [loss[rows.index], rows["texts"]]
            means = rows[f"test_{name}"].groupby(keys, sort=False)
            table = means.agg(partial(format_mean, digits=2)).unstack().fillna("-")
            print_table(table, f"{size} student: {title} KL between texts (nats)")


FORWARD, REVERSE = ("forward_kl", "teacher"), ("reverse_kl", "student")
MIDDLE = ("jensen_shannon", "mixed")
CORNERS = (FORWARD, MIDDLE, REVERSE)
ON = "of a starved student that learns by"
CLAIMS = {
    "seeks": Claim(
        "Reverse KL seeks a mode: its texts are more probable than the teacher's own",
        "nats of the teacher's entropy over the likelihood risk of a starved student "
        "that learns by reverse KL of its own texts",
        more_probable,
        above(0.0),
    ),
    "covers": Claim(
        "Forward KL covers more of the teacher's texts than reverse KL does",
        f"nats of coverage risk {ON} reverse KL of its own texts, over that by forward "
        "KL of the teacher's",
        partial(difference, one=REVERSE, other=FORWARD, name="coverage_risk"),
        above(0.0),
    ),
    "drops": Claim(
        "Reverse KL drops a mode",
        "share of the grammar that is rarest relative to the teacher's among the valid "
        "texts of a starved student, reverse KL of its own texts over forward KL of "
        "the teacher's",
        rarest,
        below(0.5),
    ),
    "same_texts": Claim(
        "On the same texts, too, reverse KL writes more probable ones than forward KL",
        f"nats of likelihood risk {ON} forward KL of its own texts, over that by "
        "reverse KL",
        partial(
            difference,
            one=("forward_kl", "student"),
            other=REVERSE,
            name="likelihood_risk",
        ),
        above(0.0),
    ),
    "texts": Claim(
        "Whose texts a student learns from matters more than the divergence",
        "nats of the sum of both KL by which the teacher's texts differ from the "
        "student's, less those by which forward KL differs from reverse KL, each the "
        "mean of two differences, starved",
        texts_over_losses,
        above(0.0),
    ),
    "compromise": Claim(
        "A symmetric divergence is the best compromise",
        "nats of the sum of both KL, the best of forward and reverse KL of the "
        "teacher's, the student's or mixed texts, over Jensen-Shannon of mixed ones, "
        "starved",
        compromise,
        above(0.0),
    ),
    "ample": Claim(
        "A student that is large enough learns the same by forward and by reverse KL",
        "nats of forward or reverse KL, whichever differs more, between ample students "
        "of forward KL of the teacher's texts and of reverse KL of their own, in four "
        "times the steps",
        at_the_optimum,
        below(0.2),
    ),
    "worth": Claim(
        "The student's own texts are worth more than twice the steps",
        "nats of the sum of both KL, forward KL of the teacher's texts for twice the "
        "steps, over forward KL of the student's, starved",
        partial(difference, one=("long", "teacher"), other=("forward_kl", "student")),
        above(0.0),
    ),
    "soft": Claim(
        "The teacher's distribution teaches more than its texts",
        "nats of the sum of both KL, likelihood over forward KL of the same texts, "
        "starved",
        partial(difference, one=("likelihood", "teacher"), other=FORWARD),
        above(0.0),
    ),
}
STUDY = Study(
    "divergences",
    __doc__,
    Config,
    run,
    show,
    cost="67 minutes of one core",
    published={},
    quick={"sizes": ("middle",), "losses": ("reverse_kl",), "texts": ("student",)}
    | {"learning_rates": (3e-3,), "train": 2048, "measured": 512, "seeds": 1}
    | {"epochs": 1},
    claims=CLAIMS,
)

if __name__ == "__main__":
    main(STUDY)
