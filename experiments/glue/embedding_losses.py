"""Losses by which a student learns embeddings, and the models that they take."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from experiments.cifar10.families import rkd
from experiments.glue.sentences import of_length_one
from kdjax import losses
from kdjax.losses.ranges import Positive
from kdjax.models import Batch, Model, Outputs, Projector, projectors

Name = Literal[
    "none",
    "mse",
    "cosine",
    "reduced",
    "kept",
    "similarity",
    "rkd",
    "pkt",
    "cka",
    "info_nce",
    "neighbours",
]
ALL: tuple[Name, ...] = get_args(Name)
POINTS = ("mse", "cosine", "reduced")  # whose embeddings have the student's width
RELATIONS = ALL[ALL.index("similarity") :]


def twice(sentences: Model) -> Model:
    """A model that gives two embeddings in training, which differ by dropout."""

    def apply(variables: Any, batch: Batch, key: Any = None) -> tuple[Outputs, Any]:
        one, state = sentences.apply(variables, batch, key)
        if key is None:
            return one, state
        other, _ = sentences.apply(variables, batch, jax.random.fold_in(key, 1))
        return one._replace(features=(*one.features, *other.features)), state

    return Model(sentences.init, apply)


def mapped(sentences: Model, width: int) -> Model:
    """A model with a linear map to another width, which is a part of it."""

    def init(key: jax.Array, batch: Batch) -> Any:
        variables = sentences.init(key, batch)
        own = jax.eval_shape(sentences.apply, variables, batch)[0].logits.shape[-1]
        drawn = jax.nn.initializers.lecun_normal()(key, (own, width))
        return variables | {"params": {**variables["params"], "map": drawn}}

    def apply(variables: Any, batch: Batch, key: Any = None) -> tuple[Outputs, Any]:
        outputs, state = sentences.apply(variables, batch, key)
        unit = of_length_one(outputs.logits @ variables["params"]["map"])
        return outputs._replace(features=(unit,)), state

    return Model(init, apply)


def told_apart(student: Outputs, teacher: Any, batch: Batch) -> jax.Array:
    """SimCSE: a sentence's other embedding among those of the batch, at T = 0.05."""
    return among(*student.features)


def recognised(student: Outputs, teacher: Outputs, batch: Batch) -> jax.Array:
    """InfoNCE: the teacher's embedding of the sentence among those of the batch.

    In trials CRD, by its memory or in the batch, gave all sentences nearly the same
    embedding: it tells pairs from others one by one, and there are many more others.
    """
    return among(of_length_one(student.features[0]), teacher.features[0])


def among(one: jax.Array, others: jax.Array) -> jax.Array:
    """Cross-entropy of finding each sentence's other embedding by cosine, T = 0.05."""
    return losses.cross_entropy(one @ others.T / 0.05, jnp.arange(len(one)))


def pairwise(loss: Callable, weight: float = 1.0) -> Callable:
    """A loss on the embeddings of both, times a weight.

    A gradient as small as Adam's epsilon would hardly teach.
    """

    def objective(student: Outputs, teacher: Outputs, batch: Batch) -> jax.Array:
        value = weight * loss(student.features[0], teacher.features[0])
        return jnp.broadcast_to(value, len(student.logits))  # CKA's is of the batch

    return objective


def squared(student: Outputs, teacher: Outputs, batch: Batch) -> jax.Array:
    """Squared distance between embeddings: hints, summed over the width.

    The map makes an embedding of length one longer, by the root of how much wider it
    becomes. In trials, students that had to learn the length gave all sentences the
    same embedding.
    """
    width = teacher.features[0].shape[-1]
    length = (student.logits.shape[-1] / width) ** 0.5
    return width * losses.hint(length * student.features[0], teacher.features[0])


def reduced(student: Outputs, teacher: Outputs, batch: Batch) -> jax.Array:
    """Cosine distance to the teacher's embedding in the student's width."""
    return losses.cosine_distance(student.features[0], teacher.features[1])


def neighbours(
    student: Outputs, teacher: Outputs, batch: Batch, *, temperature: Positive
) -> jax.Array:
    """KL between distributions over the other sentences, by cosine."""
    both = (x.features[0].astype(jnp.float32) for x in (student, teacher))
    logits = [x @ x.T / temperature for x in both]
    return losses.forward_kl(*logits, class_mask=~jnp.eye(len(logits[0]), dtype=bool))


class Way(NamedTuple):
    """What a student minimises, and what learns with it."""

    objective: Callable
    projector: Projector = projectors.identity


LINEAR = projectors.linear(((0, 0),))
WAYS: dict[Name, Way] = {
    "none": Way(told_apart),
    "mse": Way(squared, LINEAR),
    "cosine": Way(pairwise(losses.cosine_distance), LINEAR),
    "reduced": Way(reduced),
    "kept": Way(pairwise(losses.cosine_distance)),
    "similarity": Way(pairwise(losses.similarity_preserving, 3000)),
    "rkd": Way(pairwise(rkd)),
    "pkt": Way(pairwise(losses.pkt, 30_000)),
    "cka": Way(pairwise(losses.cka)),
    "info_nce": Way(recognised, LINEAR),
    "neighbours": Way(neighbours),
}
