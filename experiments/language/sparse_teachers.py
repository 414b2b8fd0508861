"""How many of a teacher's probabilities for the next token suffice?

Small decoders learn stories (TinyStories) from a decoder of twice as many layers and
twice the width: from its whole distribution of the next token, or from a part of it.
That is the k most probable tokens, as they are (raw) or renormalised, so that their
probabilities add up to one; the k most probable tokens and one class for all others,
alone or mixed in equal parts with the true tokens; or k tokens that are drawn from the
distribution, anew in each step and with replacement, so that fewer than k differ. A
control learns from the true tokens. All train for the same number of steps, each with
its own learning rate, selected on validation with a separate seed.

Over-confidence is the mean probability of a model's most probable token, less the share
of places at which that token is the true one.

    python -m experiments.language.sparse_teachers    # estimate: 2 hours of one core
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import pandas as pd

from experiments.language import stories
from kdjax import losses, models, objectives
from kdjax.models import Batch
from kdjax.study.arms import Arm, all_tuned, gather
from kdjax.study.claims import Claim, above
from kdjax.study.command import main
from kdjax.study.statistics import format_mean, ratio
from kdjax.study.study import Outcome, Study, print_table
from kdjax.study.types import Count, Counts
from kdjax.training.views import unchanged

WHOLE = ("full", 0)  # an arm, and its k
NLL, OVER = "test_nll_last", "test_overconfidence"
FULL = objectives.on_tokens(losses.forward_kl)
Way = Literal["renormalised", "raw", "tail", "mixed", "sampled"]
PARTS: dict[Way, tuple[int, ...]] = {  # with each k
    "renormalised": (1, 5, 50),
    "raw": (5,),
    "tail": (5, 50),
    "mixed": (1,),
    "sampled": (12, 50),
}


@dataclass(frozen=True)
class Config(stories.Config):
    vocabularies: Counts = (4096,)
    """Numbers of tokens."""
    width: Count = 64
    """Width of a student."""
    ways: tuple[Way, ...] = get_args(Way)
    """What part of the teacher's distribution to learn from."""


def truncated(logits: jax.Array, k: int) -> jax.Array:
    """The logits of the ``k`` most probable tokens; minus infinity for the others."""
    return jnp.where(losses.top_k(logits, k=k), logits, -jnp.inf)


def renormalised(k: int, student_logits: jax.Array, teacher_logits: jax.Array):
    return losses.forward_kl(student_logits, truncated(teacher_logits, k))


def raw(k: int, student_logits: jax.Array, teacher_logits: jax.Array) -> jax.Array:
    """Cross-entropy of the probabilities as they are, but for a constant.

    That is the renormalised divergence, times the probability of the ``k`` tokens.
    """
    kept = losses.top_k(teacher_logits, k=k)
    share = jnp.sum(jax.nn.softmax(teacher_logits), -1, where=kept)
    return share * renormalised(k, student_logits, teacher_logits)


def tail(k: int, student_logits: jax.Array, teacher_logits: jax.Array) -> jax.Array:
    kept = losses.top_k(teacher_logits, k=k)
    both = student_logits, teacher_logits
    return losses.forward_kl(*(losses.tail_bucket(each, kept) for each in both))


def mixed(k: int, student_logits: jax.Array, teacher_logits: jax.Array, labels):
    """The true token and a part of the teacher's distribution, half each."""
    hard = losses.cross_entropy(student_logits, labels)
    return (hard + tail(k, student_logits, teacher_logits)) / 2


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
    loss = {"renormalised": renormalised, "raw": raw, "tail": tail, "mixed": mixed}[way]
    return objectives.on_tokens(partial(loss, k))


def arms(config, task, its) -> Iterator[Arm]:
    shape = stories.shape(task.vocabulary, config.layers, config.width)
    epochs, data = task.divided(config.steps)
    whole = {"full": FULL, "labels": stories.LIKELIHOOD}
    parts = [(way, k) for way in config.ways for k in PARTS[way]]
    for name, k in [(name, 0) for name in whole] + parts:
        own = whole[name] if name in whole else objective(name, k)
        view = seeded if name == "sampled" else unchanged
        yield Arm(
            {"vocabulary": task.vocabulary, "arm": name, "tokens": k},
            stories.student(shape, own, epochs, its, view=view),
            data,
            config.seeds,
            {"learning_rate": config.learning_rates},
            stories.lowest,
            numbers=partial(overconfidence, models.decoder(shape)),
            fixed={"teacher": its.variables},
        )


def overconfidence(model: models.Model, variables: Any, data: Any) -> dict[str, Any]:
    """Mean confidence less accuracy, of the next token."""
    split = "validation" if data.test is None else "test"
    rows = {n: jnp.asarray(array) for n, array in getattr(data, split).items()}

    def of_row(row):
        logits = model.apply(variables, jax.tree.map(lambda a: a[None], row))[0].logits
        p = jax.nn.softmax(logits[0])
        right, counts = p.argmax(-1) == row["label"], row["label"] >= 0
        return jnp.sum(p.max(-1) - right, where=counts), jnp.sum(counts)

    over, counts = jax.lax.map(of_row, rows, batch_size=100)
    return {f"{split}_overconfidence": jnp.sum(over) / jnp.sum(counts)}


def different(its: stories.Teacher, data: Any, draws: int) -> jax.Array:
    """How many different tokens are among some draws, mean over validation rows."""

    def of_row(row):
        logits = its.model.apply(its.variables, jax.tree.map(lambda a: a[None], row))
        p = jax.nn.softmax(logits[0].logits[0])
        return jnp.mean(jnp.sum(1 - (1 - p) ** draws, -1))

    rows = {n: jnp.asarray(array) for n, array in data.validation.items()}
    return jnp.mean(jax.lax.map(of_row, rows))


def run(config, tasks):
    found, taught = [], []
    for task in tasks:
        its = stories.teacher(config, task)
        found += all_tuned(partial(arms, config, task, its))
        facts = overconfidence(its.model, its.variables, task.data)
        draws = PARTS["sampled"]
        facts |= {f"different_{k}": different(its, task.data, k) for k in draws}
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
    """The share of the added over-confidence that a class for the others takes off."""
    few = ("renormalised", 5)
    taken = lead(runs, few, ("tail", 5), OVER)
    return ratio(taken, lead(runs, few, WHOLE, OVER))


def show(tables, meta):
    runs = tables["runs"]
    titles = {NLL: "nats per token", OVER: "over-confidence"}
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
        "mean confidence less accuracy, by the five most probable tokens renormalised, "
        f"minus that by all, {OF}",
        partial(lead, one=("renormalised", 5), other=WHOLE, name=OVER),
        above(0.0),
    ),
    "mended": Claim(
        "One class for all other tokens mends it",
        f"share of this difference that it takes off, {OF}",
        mended,
        above(0.5),
    ),
    "one": Claim(
        "Even the most probable token alone adds to the true ones",
        "nats per token that it saves, with one class for all others, in equal parts "
        f"with the true tokens, {OF}",
        partial(lead, one=("labels", 0), other=("mixed", 1)),
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
    quick=stories.QUICK | {"vocabularies": (512,), "width": 16, "ways": ("tail",)},
    claims=CLAIMS,
    load=lambda config, data_dir: stories.load(config, config.vocabularies, data_dir),
)

if __name__ == "__main__":
    main(STUDY)
