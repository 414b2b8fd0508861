"""Is the best temperature for language between 6 and 10, whatever the vocabulary?

Small decoders learn stories (TinyStories) from a decoder of twice as many layers and
twice the width, as characters or as byte pairs. They learn from its distribution of the
next token alone, softened by a temperature T, with T squared as a factor. Controls
learn from the true tokens. All train for the same number of steps; so do all teachers,
for more. The learning rate is selected for each temperature on validation, with a
separate seed.

The best temperature has the lowest negative log-likelihood of the true tokens, which
the students themselves predict at T = 1; between the temperatures that were tried, it
is read from a parabola in log T. In 655,000 tokens, students see the stories almost
twice as byte pairs of 4,096, once as those of 512, and 40 % of them as characters. So
vocabularies also differ in how often a text is seen, by students and by the teacher.

    python -m experiments.language.temperature_vocabulary    # estimate: 2 hours
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from experiments.language import stories
from kdjax import losses, objectives
from kdjax.study.arms import Arm, all_tuned, gather
from kdjax.study.claims import Claim, above, below
from kdjax.study.command import main
from kdjax.study.selection import best_by_others, range_less_others
from kdjax.study.statistics import format_mean
from kdjax.study.study import Outcome, Study, print_table
from kdjax.study.types import Count, Counts, Positives

ALONE = objectives.on_tokens(losses.soft_kl)
ARTICLE = (6.0, 10.0)  # said to be best for language
NLL = "test_nll_last"


@dataclass(frozen=True)
class Config(stories.Config):
    vocabularies: Counts = (64, 512, 4096)
    """Numbers of tokens: characters below 256, otherwise byte pairs."""
    width: Count = 64
    """Width of a student."""
    temperatures: Positives = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
    """Temperatures that soften teacher and student."""


def arms(config, tasks, taught) -> Iterator[Arm]:
    for task, its in zip(tasks, taught, strict=True):
        epochs, data = task.divided(config.steps)
        shape = stories.shape(task.vocabulary, config.layers, config.width)
        ways = {
            "labels": (stories.LIKELIHOOD, {}),
            "distilled": (ALONE, {"temperature": config.temperatures}),
        }
        for arm, (objective, axes) in ways.items():
            yield Arm(
                {"vocabulary": task.vocabulary, "arm": arm},
                stories.student(shape, objective, epochs, its),
                data,
                config.seeds,
                {**axes, "learning_rate": config.learning_rates},
                stories.lowest,
                fixed={"teacher": its.variables},
            )


def run(config, tasks):
    taught = [stories.teacher(config, task) for task in tasks]
    tables, seconds = gather(all_tuned(partial(arms, config, tasks, taught)))
    tables = {name: tables[name] for name in ("runs", "search")}
    tables["teachers"] = pd.DataFrame([its.facts for its in taught])
    seconds += tables["teachers"]["seconds"].sum()
    return Outcome(tables, {"seconds": round(seconds)})


def of(runs, vocabulary, arm="distilled"):
    """The rows of an arm of one vocabulary."""
    return runs[(runs["vocabulary"] == vocabulary) & (runs["arm"] == arm)]


def article(runs):
    """``[seeds]``, nats of the best T from 6 to 10 over the best other one, mean."""
    each = [
        range_less_others(of(runs, size), "temperature", *ARTICLE, score="nll")
        for size in runs["vocabulary"].unique()
    ]
    return np.mean(each, 0)


def best(runs, vocabulary):
    """``[seeds]``, log2 of the temperature of the lowest negative log-likelihood."""
    table = of(runs, vocabulary).pivot(index="temperature", columns="seed", values=NLL)
    logs = np.log2(table.index.to_numpy())
    return np.array([lowest_point(logs, own) for own in table.to_numpy().T])


def lowest_point(x, y):
    """Where the parabola through the lowest point and its neighbours has its minimum.

    At an end of the grid, the end; NaN if there is a NaN among the values.
    """
    if np.isnan(y).any():
        return np.nan
    place = int(y.argmin())
    if place in (0, len(x) - 1):
        return x[place]
    near = slice(place - 1, place + 2)
    square, slope, _ = np.polyfit(x[near] - x[place], y[near], 2)
    return x[place] - slope / (2 * square)


def wider(runs, small, large):
    """``[seeds]``, how many doublings the best T is higher with more tokens."""
    return best(runs, large) - best(runs, small)


def worth(runs, vocabulary):
    """``[seeds]``, nats that the teacher saves at the best temperature.

    Which is best is judged by the other seeds, on validation.
    """
    cells = of(runs, vocabulary).pivot(index="temperature", columns="seed")
    judged, errors = (cells[n].to_numpy() for n in (NLL, "validation_nll_last"))
    labels = of(runs, vocabulary, "labels").sort_values("seed")[NLL].to_numpy()
    return labels - best_by_others(judged, errors)


def show(tables, meta):
    runs = tables["runs"]
    arm = runs.get("temperature", pd.Series(np.nan, runs.index)).map("T = {:g}".format)
    arm = arm.where(runs["arm"] == "distilled", "labels")
    means = runs.groupby([arm, runs["vocabulary"]], sort=False)[NLL]
    table = means.agg(partial(format_mean, digits=3)).unstack()
    print_table(table, "nats per token, by vocabulary")
    print_table(tables["teachers"].set_index("vocabulary").round(3), "teachers")


CLAIMS = {
    "article": Claim(
        "For language, T of 6 to 10 is best",
        "nats per token at T = 8 minus those at the best other T, mean over "
        "vocabularies",
        article,
        below(0.0),
    ),
    "vocabulary": Claim(
        "The more tokens, the higher the best temperature",
        "how many times the best T doubles from 64 to 4,096 tokens",
        partial(wider, small=64, large=4096),
        above(0.0),
    ),
    **{
        f"worth_{size}": Claim(
            "A teacher that has read more teaches more than the true tokens",
            f"nats per token that it saves at the best T, {size:,} tokens",
            partial(worth, vocabulary=size),
            above(0.0),
        )
        for size in (64, 4096)
    },
}
STUDY = Study(
    "temperature_vocabulary",
    __doc__,
    Config,
    run,
    show,
    cost="2 hours of one core",
    published={},
    quick=stories.QUICK
    | {"vocabularies": (64,), "width": 16, "temperatures": (1.0, 8.0)},
    claims=CLAIMS,
    load=lambda config, data_dir: stories.load(config, config.vocabularies, data_dir),
)

if __name__ == "__main__":
    main(STUDY)
