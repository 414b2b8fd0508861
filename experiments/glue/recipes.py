"""The recipes by which BERT was distilled, as terms of an objective.

A `Recipe` adds a term to Hinton's loss, or learns by its term alone before, or both. It
declares the layers that it pairs, so that a projector can bring a student's hidden
states to the width of its teacher's.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from experiments.glue.students import Student
from kdjax import losses
from kdjax.models import Batch, Outputs, Projector, projectors

Name = Literal[
    "logit_mse",
    "pkd_skip",
    "pkd_last",
    "tinybert",
    "minilm",
    "minilm_v2",
    "similarity",
    "rkd",
]
ALL: tuple[Name, ...] = get_args(Name)
RELATION_HEADS = 16  # of MiniLMv2; divides all widths
Term = Callable[[Outputs, Outputs, Batch], jax.Array]


class Recipe(NamedTuple):
    """A term ``[B]`` of the outputs of both, which follows the projector."""

    term: Term
    weight: float  # beside Hinton's loss, as published or of the same size
    pairs: tuple[tuple[int, int], ...] = ()  # hidden states, embeddings are 0
    first: bool = False  # whether it has a phase of its own, before the predictions

    @property
    def projector(self) -> Projector:
        """Linear maps to the teacher's width, if hidden states are compared."""
        return projectors.linear(self.pairs) if self.pairs else projectors.identity


def recipes(student: Student) -> dict[Name, Recipe]:
    """All recipes for a student, by name."""
    own, last = range(1, student.shape.layers), max(student.matched)
    skip = tuple(zip(own, student.matched, strict=False))
    ends = tuple((layer, last - student.shape.layers + layer) for layer in own)
    every = ((0, 0), *zip([*own, len(student.matched)], student.matched, strict=True))
    return {
        "logit_mse": Recipe(logit_mse, 1),
        "pkd_skip": Recipe(first_tokens, 100, skip),
        "pkd_last": Recipe(first_tokens, 100, ends),
        "tinybert": Recipe(partial(tinybert, student.matched), 1, every, first=True),
        "minilm": Recipe(partial(minilm, student.shape.heads), 1, first=True),
        "minilm_v2": Recipe(minilm_v2, 1, first=True),
        "similarity": Recipe(on_pooled(losses.similarity_preserving), 1000),
        "rkd": Recipe(on_pooled(rkd), 1),
    }


def logit_mse(student: Outputs, teacher: Outputs, batch: Batch) -> jax.Array:
    return losses.logit_mse(student.logits, teacher.logits)


def first_tokens(student: Outputs, teacher: Outputs, batch: Batch) -> jax.Array:
    """PKD: normalised hidden states of the first token."""
    both = (student.features, teacher.features)
    return losses.pkd(*(jnp.stack([f[:, 0] for f in each], 1) for each in both))


def tinybert(
    matched: tuple[int, ...], student: Outputs, teacher: Outputs, batch: Batch
) -> jax.Array:
    """Embeddings, hidden states, and scores of attention before the softmax."""
    heads = student.attention[0].shape[1]
    scores = [
        jnp.stack(student.attention, 1),
        jnp.stack(
            [grouped(teacher.attention[layer - 1], heads) for layer in matched], 1
        ),
    ]
    hidden = [jnp.stack(each.features, 1) for each in (student, teacher)]
    return losses.tinybert(*scores, *hidden, mask=batch["mask"])


def grouped(scores: jax.Array, heads: int) -> jax.Array:
    """Scores ``[B, heads, L, L]`` averaged over groups of heads, to fewer of them."""
    examples, own, *places = scores.shape
    if own % heads:
        raise ValueError(f"heads is {heads}, but must divide the teacher's, {own}")
    return jnp.mean(scores.reshape(examples, heads, own // heads, *places), 2)


def minilm(heads: int, student: Outputs, teacher: Outputs, batch: Batch) -> jax.Array:
    """Attention and relations of values of the last layer, in the student's heads."""
    return losses.minilm(
        *last_layers(student, teacher), heads=heads, mask=batch["mask"]
    )


def minilm_v2(student: Outputs, teacher: Outputs, batch: Batch) -> jax.Array:
    """Relations of queries, keys and values of the last layer."""
    both = last_layers(student, teacher)
    return losses.minilm_v2(*both, heads=RELATION_HEADS, mask=batch["mask"])


def last_layers(student: Outputs, teacher: Outputs) -> list[jax.Array]:
    """Queries, keys and values of the last layers, the student's and the teacher's."""
    names = ("queries", "keys", "values")
    return [each.extras[name][-1] for each in (student, teacher) for name in names]


def on_pooled(loss: Callable[[jax.Array, jax.Array], jax.Array]) -> Term:
    """A relational loss of the pooled outputs."""

    def term(student: Outputs, teacher: Outputs, batch: Batch) -> jax.Array:
        return loss(student.extras["pooled"], teacher.extras["pooled"])

    return term


def rkd(student: jax.Array, teacher: jax.Array) -> jax.Array:
    distance, angle = losses.rkd_distance, losses.rkd_angle
    return distance(student, teacher) + 2 * angle(student, teacher)


def predicted(
    student: Outputs,
    teacher: Outputs,
    batch: Batch,
    *,
    temperature: jax.Array | float,
    alpha: jax.Array | float,
) -> jax.Array:
    """Hinton's loss, or for scores the squared errors to the teacher and the truth."""
    if "score" not in batch:
        return losses.hinton(
            student.logits,
            teacher.logits,
            batch["label"],
            temperature=temperature,
            alpha=alpha,
        )
    of_teacher = (student.logits - teacher.logits)[:, 0] ** 2
    of_truth = (student.logits[:, 0] - batch["score"]) ** 2
    return alpha * of_teacher + (1 - alpha) * of_truth


def added(
    term: Term,
    student: Outputs,
    teacher: Outputs,
    batch: Batch,
    *,
    temperature: jax.Array | float,
    alpha: jax.Array | float,
    weight: jax.Array | float,
) -> jax.Array:
    """What is `predicted`, and a recipe's term."""
    soft = predicted(student, teacher, batch, temperature=temperature, alpha=alpha)
    return soft + weight * term(student, teacher, batch)
