"""What is measured of a classifier's logits on a split."""

import jax
import jax.numpy as jnp

from kdjax import losses
from kdjax.data.types import Split

_BINS = 15


def measure(logits: jax.Array, split: Split) -> dict[str, jax.Array]:
    """Scalars, by name.

    ``accuracy``, ``errors`` (a count), ``nll`` (nats) and ``ece``; with a teacher,
    ``agreement`` (share of examples on which both hold the same class likeliest)
    and ``teacher_kl`` (forward KL at temperature 1, nats).

    Args:
      logits: ``[N, C]``.
      split: Its labels ``[N]``, and teacher's logits ``[N, C]`` if it has them.
    """
    predicted = jnp.argmax(logits, -1)
    correct = predicted == split.y
    log_q = jax.nn.log_softmax(logits)
    values = {
        "accuracy": jnp.mean(correct),
        "errors": jnp.sum(~correct),
        "nll": -jnp.mean(jnp.take_along_axis(log_q, split.y[:, None], -1)),
        "ece": expected_calibration_error(jnp.exp(jnp.max(log_q, -1)), correct),
    }
    if split.teacher_logits is not None:
        agreed = predicted == jnp.argmax(split.teacher_logits, -1)
        divergence = losses.forward_kl(logits, split.teacher_logits)
        values |= {"agreement": jnp.mean(agreed), "teacher_kl": jnp.mean(divergence)}
    return values


def expected_calibration_error(
    confidence: jax.Array, correct: jax.Array, bins: int = _BINS
) -> jax.Array:
    """Mean gap of confidence and accuracy over bins of equal width, by their size.

    Guo et al., `On Calibration of Modern Neural Networks
    <https://arxiv.org/abs/1706.04599>`_, 2017, section 3; 15 bins as there.

    Args:
      confidence: ``[N]``, the probability of the predicted class.
      correct: ``[N]``, whether it was the label.
      bins: How many bins divide [0, 1].
    """
    which = jnp.clip((confidence * bins).astype(int), 0, bins - 1)
    gap = jax.ops.segment_sum(confidence - correct, which, bins)
    return jnp.sum(jnp.abs(gap)) / len(confidence)
