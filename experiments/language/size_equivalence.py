"""Which size of a language model trained on text does a distilled one match?

A rule of thumb says that a distilled model is as good as one of four times its size.
Small decoders of six widths learn stories (TinyStories) from the true tokens. Decoders
of all but the largest width are distilled, too: they learn from a teacher's
distribution of the next token alone. In the same number of steps, they see all stories
about three times, or a tenth of them thirty times; the teacher has learned from all in
either case. Each is measured at its best epoch on validation. Learning rates are
selected on validation, with a separate seed.

The size of a model is its number of parameters. The factor of a student is the size of
the smallest model trained on text that has the same likelihood, over its own size,
computed as in cifar10.size_equivalence.

    python -m experiments.language.size_equivalence    # estimate: 6 hours of one core
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from experiments.cifar10 import size_equivalence as images
from experiments.language import stories
from kdjax import losses, objectives
from kdjax.study.arms import Arm, all_tuned, gather
from kdjax.study.claims import Claim, above
from kdjax.study.command import main
from kdjax.study.selection import smallest_rates
from kdjax.study.statistics import ratio
from kdjax.study.study import Outcome, Study, print_table
from kdjax.study.types import Count, Counts, Shares

RULE = images.RULE
ALONE = objectives.on_tokens(losses.forward_kl)
ALL, FEW = 1.0, 0.1  # shares of the stories
BEST = {"select": ("nll", "min"), "measure_epochs": 1}


@dataclass(frozen=True)
class Config(stories.Config):
    vocabulary: Count = 512
    """Number of byte pairs."""
    widths: Counts = (16, 32, 48, 64, 96, 128)
    """Widths of the students."""
    steps: Count = 960
    """Steps of a student's training."""
    shares: Shares = (ALL, FEW)
    """Shares of the training stories that students see."""


def arms(config, task, its) -> Iterator[Arm]:
    for share in config.shares:
        epochs, data = task.divided(config.steps, share)
        for width in sorted(config.widths):
            shape = stories.shape(task.vocabulary, config.layers, width)
            ways = {"hard": stories.LIKELIHOOD, "distilled": ALONE}
            if width == max(config.widths):
                del ways["distilled"]
            for arm, objective in ways.items():
                columns = {"share": share, "arm": arm, "width": width}
                columns["parameters"] = stories.parameters(shape)
                yield Arm(
                    columns,
                    stories.student(shape, objective, epochs, its, **BEST),
                    data,
                    config.seeds,
                    {"learning_rate": config.learning_rates},
                    partial(smallest_rates, score="validation_nll_best"),
                    fixed={"teacher": its.variables},
                )


def run(config, tasks):
    (task,) = tasks
    its = stories.teacher(config, task)
    tables, seconds = gather(all_tuned(partial(arms, config, task, its)))
    tables = {name: tables[name] for name in ("runs", "search")}
    seconds += its.facts["seconds"]
    return Outcome(tables, {"teacher": its.facts, "seconds": round(seconds)})


def scored(runs, share):
    """The runs of a share of the stories, with likelihoods as their accuracies."""
    own = runs[runs["share"] == share]
    return own.assign(**{images.TEST: -own["test_nll_best"]})


def factors(runs):
    """The factor of each student, and its bounds."""
    each = [
        images.factors(scored(runs, share)).assign(share=share)
        for share in runs["share"].unique()
    ]
    return pd.concat(each, ignore_index=True)


def four_times(runs, share, width):
    """The factor of a student, unless a bound could decide the rule."""
    return images.decisive(scored(runs, share), width)


def of_each_seed(runs, share, width):
    """``[seeds]``, the factor; a bound where the ladder ends, NaN where it begins."""
    own, accuracies = images.student(scored(runs, share), "distilled", width)
    sizes, hard = images.ladder(scored(runs, share))
    pairs = zip(accuracies[:, None], hard[:, None], strict=True)
    found = np.array([images.equivalent(a, sizes, h).value for a, h in pairs])
    return np.where(found > sizes[0], found / own, np.nan)


def scarcer(runs, width):
    """The factor with few stories over that with all; a bound with few is enough."""
    few, every = (of_each_seed(runs, share, width) for share in (FEW, ALL))
    most = images.bounds(scored(runs, ALL), width)[1]
    return ratio(few, np.where(every < most, every, np.nan))


def show(tables, meta):
    means = tables["runs"].pivot_table(
        "test_nll_best", ["share", "parameters"], "arm", sort=False
    )
    print_table(means.round(3), "nats per token, mean over seeds")
    if "factors" in tables:
        table = tables["factors"]
        table["shown"] = [images.in_words(row) for row in table.itertuples()]
        shown = table.pivot(index="width", columns="share", values="shown")
        print_table(shown, "Size trained on text that is as good / own size")


WIDTH = 32
CLAIMS = {
    **{
        f"four_times_{name}": Claim(
            "A distilled language model is as good as one of four times its size",
            "size of the model trained on text that has the same likelihood, over the "
            f"student's size, width {WIDTH}, {words}",
            partial(four_times, share=share, width=WIDTH),
            above(RULE),
        )
        for name, share, words in (
            ("all", ALL, "all stories"),
            ("few", FEW, "a tenth of the stories"),
        )
    },
    "scarce": Claim(
        "A teacher is worth a larger factor of size where data are scarce",
        f"factor with a tenth of the stories over that with all, width {WIDTH}",
        partial(scarcer, width=WIDTH),
        above(1.0),
    ),
}
STUDY = Study(
    "size_equivalence_stories",
    __doc__,
    Config,
    run,
    show,
    cost="6 hours of one core",
    published={},
    quick=stories.QUICK | {"widths": (16, 32), "shares": (FEW,)},
    derived={"factors": lambda found: factors(found.tables["runs"])},
    claims=CLAIMS,
    paper={"factor": RULE},
    load=lambda config, data_dir: stories.load(
        [config.vocabulary], config.measured, data_dir
    ),
)

if __name__ == "__main__":
    main(STUDY)
