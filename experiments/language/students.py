"""Students of the mixture of grammars: decoders, their objectives and their numbers."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from experiments.language import grammars
from kdjax import losses, models
from kdjax.models import DecoderShape
from kdjax.models.generation import generate
from kdjax.study import selection
from kdjax.training import Training, writing

MIXTURE = grammars.Mixture()
SIZES = {"starved": (1, 12), "middle": (1, 24), "ample": (2, 48)}  # layers and width
TEXTS = {"teacher": 0.0, "mixed": 0.5, "student": 1.0}  # share that the student writes
BATCH_SIZE = 64
lowest = partial(selection.smallest_rates, score="validation_both_kl")
Size = Literal["starved", "middle", "ample"]
Whose = Literal["teacher", "mixed", "student"]


def likelihood(student, teacher, batch):
    """Cross-entropy of the texts, summed over tokens."""
    return summed(losses.cross_entropy(student.logits, batch["label"]), batch)


def divergence(loss, student, teacher, batch):
    return summed(loss(student.logits, teacher.logits), batch)


def jensen_shannon(student, teacher, batch, *, beta):
    loss = partial(losses.jensen_shannon, beta=beta)
    return divergence(loss, student, teacher, batch)


def summed(values, batch):
    """``[B]``, sums over the tokens that are to be predicted."""
    return jnp.sum(values, 1, where=batch["label"] >= 0)


def shape_of(size: str) -> DecoderShape:
    """The sizes of a student."""
    layers, width = SIZES[size]
    heads, longest = 2, MIXTURE.longest + 1
    return DecoderShape(
        MIXTURE.vocabulary, layers, width, heads, heads, 2 * width, longest
    )


def training(
    config: Any, size: str, objective: Callable, texts: str, epochs: int
) -> list[Training]:
    """A beginning by maximum likelihood, then epochs of an objective."""
    shape = shape_of(size)
    model = models.decoder(shape)
    teacher = partial(grammars.teacher, MIXTURE)
    begin = Training(
        model,
        likelihood,
        config.warm_epochs,
        BATCH_SIZE,
        optax.adam(config.warm_rate),
        select=None,
    )
    view = writing.by_student(shape, prompt=1, end=grammars.END, share=TEXTS[texts])
    last = Training(
        model,
        objective,
        epochs,
        BATCH_SIZE,
        teacher=teacher,
        view=view,
        select=None,
        measure_epochs=epochs,
    )
    return [begin, last]


def numbers(size, count, variables, data):
    """Numbers of a student on texts of the teacher, and on its own."""
    shape = shape_of(size)
    model = models.decoder(shape)
    split = "validation" if data.test is None else "test"
    texts = getattr(data, split)
    own = written(shape, variables, count)

    def both(batch):
        q = model.apply(variables, batch)[0].logits
        return q, grammars.teacher(MIXTURE, None, batch).logits

    (q, p), (own_q, own_p) = both(texts), both(own)
    nll = summed(losses.cross_entropy(q, texts["label"]), texts)
    own_nll = summed(losses.cross_entropy(own_q, own["label"]), own)
    found = {
        "forward_kl": jnp.mean(summed(losses.forward_kl(q, p), texts)),
        "reverse_kl": jnp.mean(summed(losses.reverse_kl(own_q, own_p), own)),
        "coverage_risk": jnp.mean(nll),
        "likelihood_risk": -jnp.mean(grammars.log_probability(MIXTURE, own)),
        "entropy": jnp.mean(own_nll),
        "valid": jnp.mean(grammars.is_valid(MIXTURE, own)),
        "distinct_3": distinct(own, 3),
    }
    found["both_kl"] = found["forward_kl"] + found["reverse_kl"]
    for number, share in enumerate(shares(own)):
        found[f"template_{number}"] = share
    return {f"{split}_{name}": value for name, value in found.items()}


def written(shape, variables, count):
    """Texts that a student writes."""
    first = jnp.full((count, 1), grammars.END)
    settings = {"new": MIXTURE.longest, "end": grammars.END}
    mask, key = jnp.ones_like(first), jax.random.key(0)
    texts = generate(shape, variables["params"], first, mask, key, **settings)
    return writing.continued(first, mask, texts)


def shares(texts):
    """``[templates]``, shares of the valid texts; NaN if there are none."""
    template = grammars.template_of(MIXTURE, texts)
    each = jax.nn.one_hot(template, len(MIXTURE.weights))
    valid = grammars.is_valid(MIXTURE, texts)[:, None]
    return jnp.mean(each, 0, where=valid)


def distinct(texts, n):
    """The share of different ones among all ``n``-grams of texts."""
    label = texts["label"]
    grams = [label[:, i : label.shape[1] - n + 1 + i] for i in range(n)]
    inside = jnp.all(jnp.stack(grams) >= 0, 0)
    number = sum(g * MIXTURE.vocabulary**i for i, g in enumerate(grams))
    seen = jnp.zeros(MIXTURE.vocabulary**n).at[jnp.where(inside, number, 0)]
    return jnp.sum(seen.max(inside)) / jnp.sum(inside)
