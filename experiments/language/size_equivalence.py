"""Which size of a language model trained on text does a distilled one match?

A rule of thumb says that a distilled model is as good as one of four times its size.
Small decoders of five widths learn stories (TinyStories) from the true tokens. One
width is also distilled: it learns from a teacher's distribution of the next token
alone. In the same number of steps, students see all stories about twice, or a tenth of
them twenty times; the teacher has learned from all in either case. A control learns
from all stories for twice the steps. Each is measured
at its best epoch on validation. Learning rates are selected on validation, with a
separate seed. On a tenth of the stories, models trained on text may also take a third
or a tenth of the steps, whatever is best on validation, mean over seeds: more would
only make them overfit.

The size of a model is its number of parameters. The factor of a student is the size of
the smallest model trained on text that has the same likelihood, over its own size,
computed as in cifar10.size_equivalence.

    python -m experiments.language.size_equivalence    # estimate: 2 hours of one core
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
from kdjax.study.statistics import ratio, strict_mean
from kdjax.study.study import Outcome, Study, print_table
from kdjax.study.types import Count, Counts, InvalidConfig, Shares

RULE = images.RULE
ALONE = objectives.on_tokens(losses.forward_kl)
ALL, FEW = 1.0, 0.1  # shares of the stories
BEST = {"select": ("nll", "min"), "measure_epochs": 1}


@dataclass(frozen=True)
class Config(stories.Config):
    vocabulary: Count = 512
    """Number of byte pairs."""
    widths: Counts = (16, 32, 48, 64, 96)
    """Widths of the students that are trained on text."""
    distilled: Counts = (32,)
    """Widths of those that are distilled, smaller than the largest."""
    steps: Count = 640
    """Steps of a student's training."""
    shorter: Shares = (1 / 3, 0.1)
    """Shares of these steps that training on few texts may take, too."""
    shares: Shares = (ALL, FEW)
    """Shares of the training stories that students see."""

    def __post_init__(self) -> None:
        super().__post_init__()
        below = sorted(self.widths)[:-1]
        if not set(self.distilled) <= set(below):
            raise InvalidConfig(
                f"distilled is {self.distilled!r}, but takes some of {below}"
            )


def arms(config, task, its) -> Iterator[Arm]:
    for share in config.shares:
        for width in sorted(config.widths):
            given = config, task, its, share, width
            yield arm(*given, "hard", 1.0)
            for part in config.shorter if share < ALL else ():
                yield arm(*given, "hard", part)
            if width in config.distilled:
                yield arm(*given, "distilled", 1.0)
                if share == ALL:
                    yield arm(*given, "hard_long", 2.0)


def arm(config, task, its, share: float, width: int, name: str, part: float) -> Arm:
    """Students of a width, in a part of the steps."""
    epochs, data = task.divided(config.steps, share)
    shape = stories.shape(task.vocabulary, config.layers, width)
    epochs = max(1, round(part * epochs))
    given = (stories.LIKELIHOOD, epochs)
    if name == "distilled":
        given = (ALONE, epochs, its)
    columns = {"share": share, "arm": name, "width": width, "part": part}
    columns["parameters"] = stories.parameters(shape)
    return Arm(
        columns,
        stories.student(shape, *given, **BEST),
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
    every = tables["runs"]
    found = {"runs": best_part(every), "every": every, "search": tables["search"]}
    seconds += its.facts["seconds"]
    return Outcome(found, {"teacher": its.facts, "seconds": round(seconds)})


def best_part(runs):
    """The runs of each cell in the part of the steps that is best on validation."""
    keys = [runs[name] for name in ("share", "arm", "width")]
    means = runs.groupby([*keys, "part"])["validation_nll_best"].agg(strict_mean)
    means = means.fillna(np.inf)  # a seed without a best epoch
    best = means.groupby(level=[0, 1, 2]).idxmin()
    cells = runs.set_index(["share", "arm", "width", "part"]).index
    return runs[cells.isin(best)].reset_index(drop=True)


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
        shown = table.pivot(index=["width", "arm"], columns="share", values="shown")
        shown = shown.fillna("-")
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
    cost="2 hours of one core",
    published={},
    quick=stories.QUICK | {"widths": (16, 32), "distilled": (16,), "shares": (ALL,)},
    derived={"factors": lambda found: factors(found.tables["runs"])},
    claims=CLAIMS,
    paper={"factor": RULE},
    load=lambda config, data_dir: stories.load(config, [config.vocabulary], data_dir),
)

if __name__ == "__main__":
    main(STUDY)
