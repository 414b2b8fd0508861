"""Losses of logits by their modules, each beside the formula of its paper in NumPy."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from scipy.special import log_softmax, softmax

from kdjax import losses

Array = np.ndarray


class Loss(NamedTuple):
    """A loss, and its formula in float64; the label of every example is class 0."""

    function: Callable  # of student, teacher and labels
    formula: Callable[[Array, Array], Array]  # of student and teacher
    hparams: dict[str, float] = {}


def unlabelled(loss: Callable) -> Callable:
    return lambda s, t, labels, **options: loss(s, t, **options)


def untaught(loss: Callable) -> Callable:
    return lambda s, t, labels, **options: loss(s, labels, **options)


def kl(a: Array, b: Array) -> Array:
    return np.sum(a * (np.log(a) - np.log(b)), -1)


def probabilities(s: Array, t: Array, temperature: float = 1.0) -> tuple[Array, Array]:
    return softmax(s / temperature, -1), softmax(t / temperature, -1)


def forward(s: Array, t: Array, temperature: float = 1.0) -> Array:
    q, p = probabilities(s, t, temperature)
    return temperature**2 * kl(p, q)


def reverse(s: Array, t: Array) -> Array:
    return forward(t, s)


def skewed(s: Array, t: Array, skew: float) -> Array:
    q, p = probabilities(s, t)
    return kl(p, skew * p + (1 - skew) * q)


def jensen_shannon(s: Array, t: Array, beta: float) -> Array:
    q, p = probabilities(s, t)
    m = beta * p + (1 - beta) * q
    return beta * kl(p, m) + (1 - beta) * kl(q, m)


def overlap(s: Array, t: Array) -> Array:
    return np.minimum(*probabilities(s, t)).sum(-1)


def adaptive(s: Array, t: Array, boundary: bool = False) -> Array:
    values = []
    for q, p in zip(*probabilities(s, t), strict=True):
        order = np.argsort(-p)
        head = order[: max(1, np.sum(np.cumsum(p[order]) <= 0.5) + boundary)]
        share = np.abs(p - q)[head].sum() / np.abs(p - q).sum()
        values.append(share * kl(p, q) + (1 - share) * kl(q, p))
    return np.array(values)


def corrected(s: Array, t: Array) -> Array:
    q, p = probabilities(s, t, 2.0)
    values = []
    for student, teacher in zip(q, p, strict=True):
        lead = teacher.max() - teacher[0]
        if lead > 0:
            share = (lead + 0.2) / (1 + lead)
        else:
            share = min(0.2 / (1 - teacher[0]), 1)
        target = (1 - share) * teacher
        target[0] += share
        there = target > 0
        values.append(4 * kl(target[there], student[there]))
    return np.array(values)


def confident(s: Array, t: Array) -> Array:
    confidence = softmax(t, -1)[..., 0].mean()
    return confidence * reverse(s, t) + (1 - confidence) * forward(s, t)


def product(s: Array, t: Array, alpha: float) -> Array:
    q, p = probabilities(s, t)
    return np.sum(p**alpha * q ** (1 - alpha), -1)


def hard(s: Array) -> Array:
    return -log_softmax(s, -1)[..., 0]


def target(s: Array, t: Array) -> Array:
    q, p = (np.stack([x[..., 0], 1 - x[..., 0]], -1) for x in probabilities(s, t, 4.0))
    return 16 * kl(p, q)


def others(x: Array) -> Array:
    return x[..., 1:] / (1 - x[..., :1])


def nontarget(s: Array, t: Array) -> Array:
    q, p = (others(x) for x in probabilities(s, t, 4.0))
    return 16 * kl(p, q)


def normalised(s: Array, t: Array) -> Array:
    q, p = (others(x) for x in probabilities(s, t, 2.0))
    label = softmax(t, -1)[..., 0] * hard(s)
    return label - 1.5 * 4 * np.sum(p * np.log(q), -1)


def centred(z: Array) -> Array:
    return z - z.mean(-1, keepdims=True)


def of_argmax(s: Array, t: Array) -> Array:
    chosen = t.argmax(-1)[..., None]
    return -np.take_along_axis(log_softmax(s, -1), chosen, -1)[..., 0]


skew_forward_kl = unlabelled(losses.skew_forward_kl)
skew_reverse_kl = unlabelled(losses.skew_reverse_kl)
normalized_jensen_shannon = unlabelled(losses.normalized_jensen_shannon)
alpha_divergence = unlabelled(losses.alpha_divergence)
renyi_divergence = unlabelled(losses.renyi_divergence)

MODULES = {
    "divergences": {
        "forward_kl": Loss(unlabelled(losses.forward_kl), forward),
        "reverse_kl": Loss(unlabelled(losses.reverse_kl), reverse),
        "total_variation": Loss(
            unlabelled(losses.total_variation), lambda s, t: 1 - overlap(s, t)
        ),
        "symmetric_kl": Loss(
            unlabelled(losses.symmetric_kl),
            lambda s, t: 0.7 * forward(s, t) + 0.3 * reverse(s, t),
            {"reverse_share": 0.3},
        ),
        "adaptive_kl": Loss(unlabelled(losses.adaptive_kl), adaptive),
        "adaptive_kl of DSKD": Loss(
            unlabelled(partial(losses.adaptive_kl, boundary_in_head=True)),
            partial(adaptive, boundary=True),
        ),
        "cakld": Loss(losses.cakld, confident),
    },
    "skew_and_js": {
        "skew_forward_kl": Loss(
            skew_forward_kl, lambda s, t: skewed(s, t, 0.1), {"skew": 0.1}
        ),
        "skew_forward_kl at 0": Loss(skew_forward_kl, forward, {"skew": 0.0}),
        "skew_reverse_kl": Loss(
            skew_reverse_kl, lambda s, t: skewed(t, s, 0.1), {"skew": 0.1}
        ),
        "skew_reverse_kl at 0": Loss(skew_reverse_kl, reverse, {"skew": 0.0}),
        "jensen_shannon": Loss(
            unlabelled(losses.jensen_shannon),
            lambda s, t: jensen_shannon(s, t, 0.3),
            {"beta": 0.3},
        ),
        "normalized_jensen_shannon": Loss(
            normalized_jensen_shannon,
            lambda s, t: jensen_shannon(s, t, 0.3) / (0.3 * 0.7),
            {"beta": 0.3},
        ),
        "normalized_jensen_shannon at 0": Loss(
            normalized_jensen_shannon, forward, {"beta": 0.0}
        ),
        "normalized_jensen_shannon at 1": Loss(
            normalized_jensen_shannon, reverse, {"beta": 1.0}
        ),
    },
    "alpha_and_renyi": {
        "alpha_divergence": Loss(
            alpha_divergence,
            lambda s, t: (1 - product(s, t, 0.3)) / 0.21,
            {"alpha": 0.3},
        ),
        "alpha_divergence at 0": Loss(alpha_divergence, reverse, {"alpha": 0.0}),
        "alpha_divergence at 1": Loss(alpha_divergence, forward, {"alpha": 1.0}),
        "renyi_divergence": Loss(
            renyi_divergence,
            lambda s, t: -np.log(product(s, t, 0.3)) / 0.7,
            {"alpha": 0.3},
        ),
        "renyi_divergence at 1": Loss(renyi_divergence, forward, {"alpha": 1.0}),
    },
    "speculative": {
        "negative_log_acceptance": Loss(
            unlabelled(losses.negative_log_acceptance),
            lambda s, t: -np.log(overlap(s, t)),
        ),
    },
    "logits": {
        "soft_kl": Loss(
            unlabelled(losses.soft_kl),
            lambda s, t: forward(s, t, 4.0),
            {"temperature": 4.0},
        ),
        "centered_logit_mse": Loss(
            unlabelled(losses.centered_logit_mse),
            lambda s, t: ((centred(s) - centred(t)) ** 2).mean(-1) / 2,
        ),
        "logit_mse": Loss(
            unlabelled(losses.logit_mse), lambda s, t: ((s - t) ** 2).mean(-1)
        ),
        "hinton": Loss(
            losses.hinton,
            lambda s, t: 0.7 * forward(s, t, 4.0) + 0.3 * hard(s),
            {"temperature": 4.0, "alpha": 0.7},
        ),
        "cross_entropy": Loss(untaught(losses.cross_entropy), lambda s, t: hard(s)),
    },
    "decoupled": {
        "tckd": Loss(losses.tckd, target, {"temperature": 4.0}),
        "nckd": Loss(losses.nckd, nontarget, {"temperature": 4.0}),
        "dkd": Loss(losses.dkd, lambda s, t: target(s, t) + 8 * nontarget(s, t)),
        "nkd": Loss(losses.nkd, normalised, {"temperature": 2.0}),
    },
    "corrected": {
        "mft": Loss(losses.mft, corrected, {"temperature": 2.0}),
    },
    "baselines": {
        "teacher_argmax": Loss(unlabelled(losses.teacher_argmax), of_argmax),
        "label_smoothing": Loss(
            untaught(losses.label_smoothing),
            lambda s, t: 0.9 * hard(s) - 0.1 * log_softmax(s, -1).mean(-1),
            {"smoothing": 0.1},
        ),
    },
}
LOSSES = {name: loss for table in MODULES.values() for name, loss in table.items()}
