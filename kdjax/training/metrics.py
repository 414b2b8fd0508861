"""Metrics of a student on a split of the data.

A measure accumulates sums over blocks of examples and computes scalars from the totals,
so a split is never processed at once.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from kdjax import losses
from kdjax.losses import checks
from kdjax.models import Batch, Outputs

Sums = dict[str, jax.Array]
Metrics = dict[str, jax.Array]


class Measure(NamedTuple):
    """A metric, as sums over a block of examples and scalars from their totals.

    ``sums(student, teacher, batch)`` returns sums by name; the teacher is None if the
    split has none. ``finish(totals)`` returns scalars by name. To take a mean, include
    the number of examples in the sums.
    """

    sums: Callable[[Outputs, Outputs | None, Batch], Sums]
    finish: Callable[[Sums], Metrics]


def classification(bins: int = 15) -> Measure:
    """Accuracy, errors, likelihood and calibration, for classes or tokens.

    The metrics are ``accuracy``, ``errors`` (a count), ``nll`` (nats) and ``ece``, the
    expected calibration error; with a teacher also ``agreement`` (share of examples for
    which both predict the same class) and ``teacher_kl`` (forward KL at temperature 1,
    nats). Logits are ``[B, C]`` and labels ``[B]``, or ``[B, tokens, C]`` and ``[B,
    tokens]``. Labels outside the classes, such as -1 or -100, are ignored, as are
    tokens that the batch's ``mask`` of shape ``[B, tokens]`` excludes.

    Args:
      bins: Number of equal-width bins of confidence in [0, 1]. The calibration error is
        the gap between confidence and accuracy, averaged over bins weighted by size.

    References:
      Guo et al., `On Calibration of Modern Neural Networks
      <https://arxiv.org/abs/1706.04599>`_, 2017, section 3; 15 bins as there.
    """
    return Measure(partial(_classification_sums, bins), _classification_metrics)


def _classification_sums(
    bins: int, student: Outputs, teacher: Outputs | None, batch: Batch
) -> Sums:
    logits, labels = student.logits, batch["label"]
    labels, counts = checks.labels(labels, logits, "label")
    if "mask" in batch and batch["mask"].shape == labels.shape:
        counts &= batch["mask"] != 0
    predicted = jnp.argmax(logits, -1)
    correct = predicted == labels
    log_q = jax.nn.log_softmax(logits)
    confidence = jnp.exp(jnp.max(log_q, -1))
    bin_ = jnp.clip((confidence * bins).astype(int), 0, bins - 1)
    gap = jnp.where(counts, confidence - correct, 0)
    likelihood = jnp.take_along_axis(log_q, labels[..., None], -1)[..., 0]
    sums = {
        "examples": jnp.sum(counts),
        "correct": jnp.sum(correct & counts),
        "nll": -jnp.sum(likelihood, where=counts),
        "gap": jax.ops.segment_sum(gap.reshape(-1), bin_.reshape(-1), bins),
    }
    if teacher is not None:
        agreed = (predicted == jnp.argmax(teacher.logits, -1)) & counts
        divergence = losses.forward_kl(logits, teacher.logits)
        sums["agreed"] = jnp.sum(agreed)
        sums["teacher_kl"] = jnp.sum(divergence, where=counts)
    return sums


def _classification_metrics(totals: Sums) -> Metrics:
    count = totals["examples"]
    metrics = {
        "accuracy": totals["correct"] / count,
        "errors": count - totals["correct"],
        "nll": totals["nll"] / count,
        "ece": jnp.sum(jnp.abs(totals["gap"])) / count,
    }
    if "agreed" in totals:
        metrics["agreement"] = totals["agreed"] / count
        metrics["teacher_kl"] = totals["teacher_kl"] / count
    return metrics
