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
    nats), unless the teacher has tokens of its own. Logits that are NaN give neither
    accuracy nor errors. Logits are ``[B, C]`` and labels
    ``[B]``, or ``[B, tokens, C]`` and ``[B, tokens]``. Labels outside the classes, such
    as -1 or -100, are ignored, as are tokens that the batch's ``mask`` of shape ``[B,
    tokens]`` excludes.

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
    # One with other tokens cannot be compared place by place.
    if teacher is not None and "teacher_label" not in batch:
        agreed = (predicted == jnp.argmax(teacher.logits, -1)) & counts
        divergence = losses.forward_kl(logits, teacher.logits)
        sums["agreed"] = jnp.sum(agreed)
        sums["teacher_kl"] = jnp.sum(divergence, where=counts)
    return sums


def _classification_metrics(totals: Sums) -> Metrics:
    count = totals["examples"]
    # The class with the highest logit means nothing among NaN.
    correct = jnp.where(jnp.isnan(totals["nll"]), jnp.nan, totals["correct"])
    metrics = {
        "accuracy": correct / count,
        "errors": jnp.where(count > 0, count - correct, jnp.nan),
        "nll": totals["nll"] / count,
        "ece": jnp.sum(jnp.abs(totals["gap"])) / count,
    }
    if "agreed" in totals:
        unknown = jnp.isnan(totals["nll"] + totals["teacher_kl"])
        agreed = jnp.where(unknown, jnp.nan, totals["agreed"])
        metrics["agreement"] = agreed / count
        metrics["teacher_kl"] = totals["teacher_kl"] / count
    return metrics


_CELLS = ("true_positives", "false_positives", "false_negatives", "true_negatives")


def binary() -> Measure:
    """F1 of class 1 and the Matthews correlation, for two classes.

    The metrics are ``f1``, 0 without a true or a predicted positive, and ``matthews``,
    in [-1, 1], and 0 if one class is never true or never predicted. Both are NaN if a
    logit is. Logits are ``[B, 2]`` and labels ``[B]``; others than 0 and 1 are ignored.
    """
    return Measure(_binary_sums, _binary_metrics)


def _binary_sums(student: Outputs, teacher: Outputs | None, batch: Batch) -> Sums:
    _check_logits(student.logits, 2)
    labels, counts = checks.labels(batch["label"], student.logits, "label")
    predicted, true = jnp.argmax(student.logits, -1) == 1, labels == 1
    each = (predicted & true, predicted & ~true, ~predicted & true, ~predicted & ~true)
    known = jnp.where(jnp.isnan(student.logits).any(), jnp.nan, 1.0)
    return {
        name: known * jnp.sum(cell & counts, dtype=jnp.float32)
        for name, cell in zip(_CELLS, each, strict=True)
    }


def _binary_metrics(totals: Sums) -> Metrics:
    tp, fp, fn, tn = (totals[name] for name in _CELLS)
    # Square roots one by one, because the product of counts overflows.
    roots = [jnp.sqrt(size) for size in (tp + fp, tp + fn, tn + fp, tn + fn)]
    scale = roots[0] * roots[1] * roots[2] * roots[3]
    return {
        "f1": _ratio(2 * tp, 2 * tp + fp + fn),
        "matthews": _ratio(tp * tn - fp * fn, scale),
    }


def regression() -> Measure:
    """The error of a predicted score, and its correlation with the true one.

    The metrics are ``mse`` and ``pearson``; with a teacher also ``teacher_mse``. The
    correlation is NaN if one of the scores hardly varies: its standard deviation is
    below a hundredth of its root mean square. Logits are ``[B, 1]``, and the batch has
    a ``score`` ``[B]``; examples whose score is NaN are ignored.
    """
    return Measure(_regression_sums, _regression_metrics)


def _regression_sums(student: Outputs, teacher: Outputs | None, batch: Batch) -> Sums:
    _check_logits(student.logits, 1)
    score = jnp.asarray(batch["score"])
    if score.shape != student.logits.shape[:1]:
        wanted = student.logits.shape[:1]
        raise ValueError(f"score has shape {score.shape}, but takes {wanted}")
    known = ~jnp.isnan(score)
    x, y = (
        jnp.where(known, jnp.asarray(a, jnp.float32), 0)
        for a in (student.logits[:, 0], score)
    )
    sums = {
        "examples": jnp.sum(known, dtype=jnp.float32),
        "squares": jnp.sum((x - y) ** 2),
        "x": jnp.sum(x),
        "y": jnp.sum(y),
        "xx": jnp.sum(x * x),
        "yy": jnp.sum(y * y),
        "xy": jnp.sum(x * y),
    }
    if teacher is not None:
        error = x - teacher.logits[:, 0].astype(jnp.float32)
        sums["teacher"] = jnp.sum(error**2, where=known)
    return sums


def _regression_metrics(totals: Sums) -> Metrics:
    n = totals["examples"]
    means = {name: total / n for name, total in totals.items()}
    covariance = means["xy"] - means["x"] * means["y"]
    scale = jnp.float32(1)
    for name in "xy":
        square = means[2 * name]
        variance = square - means[name] ** 2
        # Below, the difference would be mostly rounding.
        variance = jnp.where(variance > 1e-4 * square, variance, jnp.nan)
        scale *= jnp.sqrt(variance)
    metrics = {"mse": means["squares"], "pearson": covariance / scale}
    if "teacher" in means:
        metrics["teacher_mse"] = means["teacher"]
    return metrics


def _check_logits(logits: jax.Array, size: int) -> None:
    if logits.ndim != 2 or logits.shape[1] != size:
        raise ValueError(f"logits have shape {logits.shape}, but take [B, {size}]")


def _ratio(a: jax.Array, b: jax.Array) -> jax.Array:
    """``a / b``, or 0 where b is 0."""
    return jnp.where(b == 0, 0.0, a / jnp.where(b == 0, 1.0, b))
