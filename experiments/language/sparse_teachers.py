"""How many of a teacher's probabilities for the next token suffice?

Small decoders learn stories (TinyStories) from a decoder of twice as many layers and
twice the width: from its whole distribution of the next token, or from a part of it.
That is the k most probable tokens, as they are (raw) or renormalised, so that their
probabilities add up to one; the k most probable tokens and one class for all others; or
k tokens that are drawn from the distribution, anew in each step and with replacement,
so that fewer than k differ. A control learns from the true tokens. All train for the
same number of steps. The learning rate is selected on validation, with a separate seed,
for the whole distribution and for the true tokens; parts have that of the whole.

    python -m experiments.language.sparse_teachers    # estimate: 2 hours of one core
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from experiments.language import stories
from kdjax import losses, models, objectives
from kdjax.models import Batch
from kdjax.study.arms import Arm, all_tuned, gather, tuned
from kdjax.study.claims import Claim, above
from kdjax.study.command import main
from kdjax.study.statistics import format_mean, ratio
from kdjax.study.study import Outcome, Study, print_table
from kdjax.study.types import Count, Counts
from kdjax.training.views import unchanged

WHOLE = ("full", 0)  # an arm, and its k
HEAD = 5  # tokens, outside which is the tail that is measured
NLL, TAIL = "test_nll_last", "test_tail"
FULL = objectives.on_tokens(losses.forward_kl)
Way = Literal["renormalised", "raw", "tail", "sampled"]


@dataclass(frozen=True)
class Config(stories.Config):
    vocabularies: Counts = (4096,)
    """Numbers of tokens."""
    width: Count = 64
    """Width of a student."""
    ways: tuple[Way, ...] = get_args(Way)
    """What part of the teacher's distribution to learn from."""
    most: Counts = (1, 5, 50)
    """Numbers of the most probable tokens to learn from."""
    draws: Counts = (12, 50)
    """Numbers of tokens to draw from the teacher."""


def truncated(logits: jax.Array, k: int) -> jax.Array:
    """The logits of the ``k`` most probable tokens; minus infinity for the others."""
    return jnp.where(losses.top_k(logits, k=k), logits, -jnp.inf)


def renormalised(student: jax.Array, teacher: jax.Array, k: int) -> jax.Array:
    return losses.forward_kl(student, truncated(teacher, k))


def raw(student: jax.Array, teacher: jax.Array, k: int) -> jax.Array:
    """Cross-entropy of the probabilities as they are, but for a constant.

    That is the renormalised divergence, times the probability of the ``k`` tokens.
    """
    kept = losses.top_k(teacher, k=k)
    share = jnp.sum(jax.nn.softmax(teacher), -1, where=kept)
    return share * renormalised(student, teacher, k)


def tail(student: jax.Array, teacher: jax.Array, k: int) -> jax.Array:
    kept = losses.top_k(teacher, k=k)
    both = (losses.tail_bucket(logits, kept) for logits in (student, teacher))
    return losses.forward_kl(*both)


def sampled(student, teacher, batch, *, draws: int):
    """The unbiased estimate of forward KL, mean over the tokens of a text."""

    def of_text(student, teacher, seed):
        key = jax.random.key(seed)
        drawn = losses.sample_logits(key, teacher, draws=draws)
        return losses.sampled_kl(student, drawn)

    values = jax.vmap(of_text)(student.logits, teacher.logits, batch["seed"])
    return losses.sequence_mean(values, batch["label"] >= 0)


def seeded(key: jax.Array, batch: Batch, params: object, fixed: object) -> Batch:
    """A view that adds a ``seed`` for each text, to draw the teacher's tokens with."""
    count = (len(batch["tokens"]),)
    return {**batch, "seed": jax.random.bits(key, count, jnp.uint32)}


def objective(way: Way, k: int) -> Callable:
    if way == "sampled":
        return partial(sampled, draws=k)
    loss = {"renormalised": renormalised, "raw": raw, "tail": tail}[way]
    return objectives.on_tokens(partial(_with, loss, k))


def _with(loss, k, student_logits, teacher_logits):
    return loss(student_logits, teacher_logits, k)


def arm(config, task, its, name: Way | str, k: int, rates) -> Arm:
    epochs, data = task.divided(config.steps)
    shape = stories.shape(task.vocabulary, config.layers, config.width)
    whole = {"full": FULL, "labels": stories.LIKELIHOOD}
    own = whole[name] if name in whole else objective(name, k)
    view = seeded if name == "sampled" else unchanged
    return Arm(
        {"vocabulary": task.vocabulary, "arm": name, "tokens": k},
        stories.student(shape, own, epochs, its, view=view),
        data,
        config.seeds,
        {"learning_rate": rates},
        stories.lowest,
        numbers=partial(in_tail, models.decoder(shape)),
        fixed={"teacher": its.variables},
    )


def in_tail(model: models.Model, variables: Any, data: Any) -> dict[str, jax.Array]:
    """Mean probability outside the student's own most probable tokens."""
    split = "validation" if data.test is None else "test"
    rows = {n: jnp.asarray(array) for n, array in getattr(data, split).items()}

    def of_row(row):
        logits = model.apply(variables, jax.tree.map(lambda a: a[None], row))[0].logits
        most, _ = jax.lax.top_k(jax.nn.softmax(logits[0]), HEAD)
        return jnp.mean(1 - jnp.sum(most, -1))

    return {f"{split}_tail": jnp.mean(jax.lax.map(of_row, rows, batch_size=100))}


def different(its: stories.Teacher, data: Any, draws: int) -> jax.Array:
    """How many different tokens are among some draws, mean over validation rows."""

    def of_row(row):
        logits = its.model.apply(its.variables, jax.tree.map(lambda a: a[None], row))
        p = jax.nn.softmax(logits[0].logits[0])
        return jnp.mean(jnp.sum(1 - (1 - p) ** draws, -1))

    rows = {n: jnp.asarray(array) for n, array in data.validation.items()}
    return jnp.mean(jax.lax.map(of_row, rows))


def others(config, task, its, rate) -> Iterator[Arm]:
    """All students but those of the whole distribution."""
    counts = {way: config.most for way in get_args(Way)} | {"sampled": config.draws}
    cells = [(way, k) for way in config.ways for k in counts[way]]
    for name, k in [("labels", 0), *cells]:
        rates = config.learning_rates if name == "labels" else [rate]
        yield arm(config, task, its, name, k, rates)


def run(config, tasks):
    found, taught = [], []
    for task in tasks:
        its = stories.teacher(config, task)
        first = arm(config, task, its, "full", 0, config.learning_rates)
        found.append((first.without_data(), tuned(first)))
        rate = float(found[-1][1].runs["learning_rate"].iloc[0])
        found += all_tuned(partial(others, config, task, its, rate))
        facts = in_tail(its.model, its.variables, task.data)
        facts |= {f"different_{k}": different(its, task.data, k) for k in config.draws}
        taught.append(its.facts | {n: float(each) for n, each in facts.items()})
    tables, seconds = gather(found)
    tables = {name: tables[name] for name in ("runs", "search")}
    tables["teachers"] = pd.DataFrame(taught)
    seconds += tables["teachers"]["seconds"].sum()
    return Outcome(tables, {"seconds": round(seconds)})


def lead(runs, one, other, name=NLL, vocabulary=4096):
    """``[seeds]``, a number of one arm and k minus that of another."""

    def values(arm, k):
        rows = runs[(runs["arm"] == arm) & (runs["tokens"] == k)]
        rows = rows[rows["vocabulary"] == vocabulary]
        return rows.sort_values("seed")[name].to_numpy()

    return values(*one) - values(*other)


def kept(runs, one):
    """The share of what the whole distribution saves over the true tokens."""
    return ratio(lead(runs, ("labels", 0), one), lead(runs, ("labels", 0), WHOLE))


def mended(runs):
    """The share of the distance in the tail that one class for the others takes off."""
    without, with_it = (
        np.abs(lead(runs, (way, 5), WHOLE, TAIL)) for way in ("renormalised", "tail")
    )
    return ratio(without - with_it, without)


def show(tables, meta):
    runs = tables["runs"]
    titles = {NLL: "nats per token", "test_ece_last": "calibration error"}
    for size, rows in runs.groupby("vocabulary"):
        for name, title in titles.items():
            means = rows.groupby(["arm", "tokens"], sort=False)[name]
            table = means.agg(partial(format_mean, digits=3)).unstack().fillna("-")
            print_table(table, f"{title}, {size} tokens, by k")


OF = "4,096 tokens"
CLAIMS = {
    "suffice": Claim(
        "The 50 most probable tokens suffice",
        "share of the nats per token saved by all, over the true tokens, that these "
        f"save with one class for all others, {OF}",
        partial(kept, one=("tail", 50)),
        above(0.9),
    ),
    "sampled": Claim(
        "Fifty drawn tokens teach as much as all",
        "share of the nats per token saved by all, over the true tokens, that 50 "
        f"tokens drawn in each step save, {OF}",
        partial(kept, one=("sampled", 50)),
        above(0.9),
    ),
    "confident": Claim(
        "A few renormalised probabilities make a student over-confident",
        "probability outside a student's own five most probable tokens, by all over "
        f"that by the five most probable ones, renormalised, {OF}",
        partial(lead, one=WHOLE, other=("renormalised", 5), name=TAIL),
        above(0.0),
    ),
    "mended": Claim(
        "One class for all other tokens mends it",
        "how much nearer it brings this probability to that by all, of the distance "
        f"without it, {OF}",
        mended,
        above(0.5),
    ),
    "one": Claim(
        "Even the most probable token alone teaches more than the true ones",
        f"nats per token that it saves, with one class for all others, {OF}",
        partial(lead, one=("labels", 0), other=("tail", 1)),
        above(0.0),
    ),
}
STUDY = Study(
    "sparse_teachers",
    __doc__,
    Config,
    run,
    show,
    cost="2 hours of one core",
    published={},
    quick=stories.QUICK
    | {"vocabularies": (512,), "width": 16, "ways": ("tail",), "most": (5,)},
    claims=CLAIMS,
    load=lambda config, data_dir: stories.load(config, config.vocabularies, data_dir),
)

if __name__ == "__main__":
    main(STUDY)
