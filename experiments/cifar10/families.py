"""Losses of all families, as a term beside the labels' cross-entropy.

A student gives two stages of equal size and its last features, and a teacher the same;
see `with_small_maps` and `kept`.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple, get_args

import flax.linen as nn
import jax.numpy as jnp

from experiments.mnist.what_is_dark import softened
from kdjax import losses, objectives
from kdjax.models import Model, Outputs, Projector, projectors

Name = Literal[
    "kl",
    "reverse_kl",
    "skew_kl",
    "jensen_shannon",
    "mse",
    "dkd",
    "dist",
    "hint",
    "attention",
    "nst",
    "fsp",
    "vid",
    "review",
    "similarity",
    "rkd",
    "pkt",
    "cka",
    "crd",
]
ALL: tuple[Name, ...] = get_args(Name)
DIVERGENCES = ALL[: ALL.index("mse")]
LOGITS = ALL[: ALL.index("hint")]
COMPARED = 1000  # test images on which layers are compared
BOTH = ((0, 0), (1, 1))  # stages of the student and the teacher


class Family(NamedTuple):
    """A loss, its usual weight beside the labels', and what learns with it."""

    term: Callable
    weight: float
    projector: Projector = projectors.identity
    hint_first: bool = False  # in a phase of its own


def stages(loss):
    """The sum of a loss over the pairs of feature maps."""

    def term(student, teacher, batch):
        both = zip(student.features[:2], teacher.features[:2], strict=True)
        return sum(loss(s, t) for s, t in both)

    return term


def vectors(loss):
    """A loss on the last features, flattened."""

    def term(student, teacher, batch):
        pair = (x.features[-1] for x in (student, teacher))
        return loss(*(x.reshape(len(x), -1) for x in pair))

    return term


def hint(student, teacher, batch):
    return losses.hint(student.features[0], teacher.features[0])


def vid(student, teacher, batch):
    raw = student.extras["raw_variance"]
    each = zip(student.features, teacher.features, raw, strict=True)
    return sum(losses.vid(*one) for one in each)


def fsp(student, teacher, batch):
    return losses.fsp(*student.features, *teacher.features)


def rkd(student, teacher):
    distance, angle = losses.rkd_distance, losses.rkd_angle
    return 25 * distance(student, teacher) + 50 * angle(student, teacher)


def crd(student, teacher, batch):
    memory, negatives = student.extras["memory"], student.extras["negatives"]
    pair = student.features[0], teacher.features[0]
    return losses.crd_with_memory(*pair, memory, batch["index"], negatives)[0]


def softly(loss, temperature):
    """A divergence between softened logits, times T squared."""
    return partial(softened, loss, temperature=temperature)


def families(config, examples):
    """All losses by name: on logits, on features, on relations."""
    temperature = config.temperature
    heads = projectors.contrastive(dataset_size=examples, negatives=config.negatives)
    on_logits = {
        "kl": (losses.forward_kl, 9),
        "reverse_kl": (losses.reverse_kl, 9),
        "skew_kl": (losses.skew_forward_kl, 9),
        "jensen_shannon": (losses.normalized_jensen_shannon, 9),
    }
    found = {n: Family(softly(f, temperature), w) for n, (f, w) in on_logits.items()}
    for name, loss in (
        ("mse", losses.logit_mse),
        ("dkd", partial(losses.dkd, temperature=temperature)),
        ("dist", partial(losses.dist, temperature=temperature)),
    ):
        found[name] = Family(objectives.on_logits(loss), 1)
    found |= {
        "hint": Family(hint, 1, projectors.linear(((1, 1),)), hint_first=True),
        "attention": Family(stages(losses.attention_transfer), 1000),
        "nst": Family(stages(losses.nst), 50),
        "fsp": Family(fsp, 50, projectors.linear(BOTH)),
        "vid": Family(vid, 1, projectors.variational(BOTH)),
        "review": Family(
            stages(losses.hierarchical_context), 1, projectors.review(BOTH, width=16)
        ),
        "similarity": Family(vectors(losses.similarity_preserving), 3000),
        "rkd": Family(vectors(rkd), 1),
        "pkt": Family(vectors(losses.pkt), 30_000),
        "cka": Family(vectors(losses.cka), 1),
        "crd": Family(crd, 0.8, heads),
    }
    return {name: found[name] for name in config.families}


def added(term, temperature, student, teacher, batch, *, weight, kl):
    """Labels, KL and a further loss."""
    soft = losses.soft_kl(student.logits, teacher.logits, temperature=temperature)
    labels = losses.cross_entropy(student.logits, batch["label"])
    return labels + kl * soft + weight * term(student, teacher, batch)


def nothing(student, teacher, batch):
    return 0.0


def averaged(x, size):
    """A map averaged over squares of ``size`` pixels."""
    return nn.avg_pool(x, (size, size), (size, size))


def with_small_maps(model):
    """A plain network whose first stage is averaged to the size of its second.

    Its last features are averages of the second stage over 8 x 8 pixels: with all of
    its pixels, the angles of RKD would take longer than the network.
    """

    def apply(variables, batch, key=None):
        outputs, state = model.apply(variables, batch, key)
        first, second = outputs.features[:2]
        features = (averaged(first, 2), second, averaged(second, 8))
        return outputs._replace(features=features), state

    return Model(model.init, apply)


def kept(outputs):
    """What is stored of a teacher: two stages of 16 x 16 pixels, and the mean last."""
    first, second = outputs.features[:2]
    features = averaged(first, 2), second, outputs.features[-2].mean((1, 2))
    return Outputs(outputs.logits, features)


def alike(network, variables, images):
    """``extras`` of an arm: the CKA of every layer with every layer of the teacher."""
    rows = {name: images.test[name][:COMPARED] for name in ("image", "label")}
    student = network.apply(variables, rows)[0].features
    teacher = [f[:COMPARED] for f in images.test["teacher"].features]
    flat = [[x.reshape(len(x), -1) for x in side] for side in (student, teacher)]
    values = [[1 - jnp.mean(losses.cka(s, t)) for t in flat[1]] for s in flat[0]]
    return {"cka": jnp.array(values)}
