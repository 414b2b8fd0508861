"""The recipes by which BERT was distilled, as terms of an objective.

A `Recipe` adds a term to the loss on predictions, or has a phase of its own before it.
Its projector pairs hidden states, and brings the student's to the teacher's width.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from experiments.cifar10.families import rkd
from experiments.glue.students import Student
from kdjax import losses
from kdjax.losses.ranges import Fraction, Positive
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
KINDS: dict[Name, str] = {  # of what recipes compare
    "logit_mse": "logits",
    "pkd_skip": "hidden states",
    "pkd_last": "hidden states",
    "tinybert": "layers",
    "minilm": "attention",
    "minilm_v2": "attention",
    "similarity": "examples",
    "rkd": "examples",
}
FIRST: tuple[Name, ...] = ("tinybert", "minilm", "minilm_v2")  # in a phase of their own
RELATION_HEADS = 16  # of MiniLMv2, which has 48 or 64 for students of 384 or more
Term = Callable[[Outputs, Outputs, Batch], jax.Array]


class Recipe(NamedTuple):
    """A term ``[B]`` of the outputs of both, and the loss on predictions beside it.

    With ``first``, the term has a phase of its own, and the predictions another.
    """

    term: Term
    weight: float  # beside the predictions, as published or of the same size
    projector: Projector = projectors.identity
    first: bool = False
    temperature: float = 1.0
    alpha: float = 0.0  # weight of the teacher's predictions, the labels' is the rest


def recipes(student: Student, teacher_width: int) -> dict[Name, Recipe]:
    """All recipes for a student, by name."""
    every, skip, last = pairs(student)
    # PKD has equal widths, and so no maps.
    narrow = student.shape.width < teacher_width
    paired = projectors.linear if narrow else projectors.paired
    maps = projectors.linear(every)  # TinyBERT's code has the same for all layers
    whole = partial(tinybert, student.matched)
    last_layer = partial(minilm, student.shape.heads)
    similarity = partial(on_pooled, losses.similarity_preserving)
    soft = {"temperature": 10.0, "alpha": 0.5}
    found: dict[Name, Recipe] = {
        "logit_mse": Recipe(logit_mse, 1),
        "pkd_skip": Recipe(first_tokens, 100, at_first(paired(skip)), **soft),
        "pkd_last": Recipe(first_tokens, 100, at_first(paired(last)), **soft),
        "tinybert": Recipe(whole, 1, maps, alpha=1.0),
        "minilm": Recipe(last_layer, 1),
        "minilm_v2": Recipe(minilm_v2, 1),
        "similarity": Recipe(similarity, 3000),
        "rkd": Recipe(partial(on_pooled, rkd), 1),
    }
    return {name: each._replace(first=name in FIRST) for name, each in found.items()}


def together(recipes: Sequence[Recipe]) -> tuple[Term, Projector]:
    """The term and the projector of a recipe, or of several with their weights."""
    if len(recipes) == 1:
        return recipes[0].term, recipes[0].projector
    return partial(_sum, recipes), joined([each.projector for each in recipes])


def _sum(
    recipes: Sequence[Recipe], student: Outputs, teacher: Outputs, batch: Batch
) -> jax.Array:
    parts = zip(recipes, student.extras["parts"], teacher.extras["parts"], strict=True)
    return sum(each.weight * each.term(s, t, batch) for each, s, t in parts)


def joined(each: Sequence[Projector]) -> Projector:
    """Several projectors, whose results are ``extras["parts"]`` of both outputs."""
    return Projector(partial(_init_joined, each), partial(_apply_joined, each))


def _init_joined(each: Sequence[Projector], key: jax.Array, *both: Outputs) -> Any:
    keys = jax.random.split(key, len(each))
    own = [p.init(k, *both) for p, k in zip(each, keys, strict=True)]
    names = ("params", "state")
    return {name: {str(i): v[name] for i, v in enumerate(own)} for name in names}


def _apply_joined(
    each: Sequence[Projector],
    variables: Any,
    student: Outputs,
    teacher: Outputs,
    batch: Batch,
    key: jax.Array,
) -> Any:
    parts, states = [], {}
    for name, projector in zip(variables["params"], each, strict=True):
        own = {kind: variables[kind][name] for kind in ("params", "state")}
        pair, states[name] = projector.apply(own, student, teacher, batch, key)
        parts.append(pair)
    students, teachers = zip(*parts, strict=True)
    both = ((student, students), (teacher, teachers))
    return tuple(
        outputs._replace(extras={**outputs.extras, "parts": own})
        for outputs, own in both
    ), states


def pairs(student: Student) -> tuple[tuple[tuple[int, int], ...], ...]:
    """Pairs of hidden states, of which 0 are the embeddings.

    Those of TinyBERT, with all layers; and of PKD, without the last: at the matched
    layers (skip), and at the teacher's layers before its last (last).
    """
    layers, depth = student.shape.layers, student.matched[-1]
    every = ((0, 0), *zip(range(1, layers + 1), student.matched, strict=True))
    last = tuple((layer, depth - layers + layer) for layer in range(1, layers))
    return every, every[1:-1], last


def at_first(projector: Projector) -> Projector:
    """The projector of the hidden states of the first token alone."""
    init, apply = partial(_init_at_first, projector), partial(_at_first, projector)
    return Projector(init, apply)


def _init_at_first(projector: Projector, key: jax.Array, *both: Outputs) -> Any:
    return projector.init(key, *map(first_alone, both))


def _at_first(
    projector: Projector,
    variables: Any,
    student: Outputs,
    teacher: Outputs,
    batch: Batch,
    key: jax.Array,
) -> Any:
    return projector.apply(
        variables, first_alone(student), first_alone(teacher), batch, key
    )


def first_alone(outputs: Outputs) -> Outputs:
    """The outputs with the hidden states of the first token alone."""
    first = tuple(hidden[:, :1] for hidden in outputs.features)
    return outputs._replace(features=first)


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
    """Attention and relations of values of the last layer, in the student's heads.

    Where the teacher has more heads, their distributions are averaged.
    """
    mask, scores = batch["mask"], teacher.attention[-1]
    seen = jnp.broadcast_to(mask[:, None, None] != 0, scores.shape)
    p = jax.nn.softmax(scores, -1, where=seen)
    its = jnp.log(grouped(jnp.where(seen, p, 1), heads))  # the mask excludes the ones
    values = (each.extras["values"][-1] for each in (student, teacher))
    attention = losses.attention_kl(student.attention[-1], its, mask=mask)
    return attention + losses.relation_kl(*values, heads=heads, mask=mask)


def minilm_v2(student: Outputs, teacher: Outputs, batch: Batch) -> jax.Array:
    """Relations of queries, keys and values of the last layer."""
    names = ("queries", "keys", "values")
    both = (each.extras[name][-1] for each in (student, teacher) for name in names)
    return losses.minilm_v2(*both, heads=RELATION_HEADS, mask=batch["mask"])


def masked_words(student: Outputs, teacher: Outputs, batch: Batch) -> jax.Array:
    """Cross-entropy of masked words, mean over those of a text."""
    found = losses.cross_entropy(student.logits, batch["label"])
    return losses.sequence_mean(found, batch["label"] >= 0)


def distilbert(student: Outputs, teacher: Outputs, batch: Batch) -> jax.Array:
    """DistilBERT, with the weights of its code: words, predictions, hidden states.

    Predictions are those of masked words, an option of its code: for all words, they
    would take longer than the network.
    """
    soft = losses.soft_kl(student.logits, teacher.logits, temperature=2.0)
    cosine = losses.cosine_distance(student.features[-1], teacher.features[-1])
    return (
        5 * losses.sequence_mean(soft, batch["label"] >= 0)
        + 2 * masked_words(student, teacher, batch)
        + losses.sequence_mean(cosine, batch["mask"] != 0)
    )


def on_pooled(
    loss: Callable, student: Outputs, teacher: Outputs, batch: Batch
) -> jax.Array:
    """A relational loss of the pooled outputs."""
    return loss(student.extras["pooled"], teacher.extras["pooled"])


def labelled(student: Outputs, teacher: Outputs, batch: Batch) -> jax.Array:
    """The labels' cross-entropy, or the squared error of a score."""
    if "score" in batch:
        return (student.logits[:, 0] - batch["score"]) ** 2
    return losses.cross_entropy(student.logits, batch["label"])


def predicted(
    student: Outputs,
    teacher: Outputs,
    batch: Batch,
    *,
    temperature: Positive,
    alpha: Fraction,
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
    return alpha * of_teacher + (1 - alpha) * labelled(student, teacher, batch)


def added(
    term: Term,
    student: Outputs,
    teacher: Outputs,
    batch: Batch,
    *,
    temperature: Positive,
    alpha: Fraction,
    weight: Positive,
) -> jax.Array:
    """What is `predicted`, and a recipe's term."""
    soft = predicted(student, teacher, batch, temperature=temperature, alpha=alpha)
    return soft + weight * term(student, teacher, batch)
