r"""Sparse teachers: the top-k classes, or a sample of classes.

The top k can be used with every divergence::

    kept = top_k(teacher_logits, k=50)  # or the student's
    forward_kl(student_logits, teacher_logits, class_mask=kept)  # both renormalised
    forward_kl(*(tail_bucket(z, kept) for z in (student_logits, teacher_logits)))
    forward_kl(student_logits, jnp.where(kept, teacher_logits, -jnp.inf))

The first may be more or less than the divergence over all classes. The second, with all
other classes as one, is never more. The third renormalises only the teacher; it is the
first minus the log of the student's probability of ``kept``.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from kdjax.losses import checks
from kdjax.losses._numerics import Array, Scalar, normalise, present, widen


def top_k(logits: Array, *, k: int) -> Array:
    """Mask of the ``k`` most probable classes; of equal ones, those of lower index.

    Args:
      logits: ``[..., C]``, floating: usually the teacher's.
      k: At least 1 and at most C.

    Returns:
      ``[..., C]``, boolean. Classes with probability 0 are never among them.

    Raises:
      ValueError: for another ``k``.

    Example:
      >>> top_k(jnp.array([1.0, 3.0, 2.0]), k=2).tolist()
      [False, True, True]

    References:
      Peng et al., `Pre-training Distillation for Large Language Models
      <https://arxiv.org/abs/2410.16215>`_, 2025, section 3.1.
    """
    if not 1 <= k <= logits.shape[-1]:
        raise ValueError(f"k is {k}, but takes 1 to {logits.shape[-1]} classes")
    _, indices = jax.lax.top_k(logits, k)
    kept = jnp.zeros(logits.shape, bool)
    kept = jnp.put_along_axis(kept, indices, True, -1, inplace=False)
    return kept & present(logits)


def tail_bucket(logits: Array, kept: Array) -> Array:
    """Logits of the kept classes, and of one more for all the others together.

    Args:
      logits: ``[..., C]``, floating.
      kept: ``[..., C]``, boolean, the same for student and teacher: see `top_k`.

    Returns:
      ``[..., C + 1]``, with ``-inf`` for the classes that the last one replaces.

    Example:
      >>> z = tail_bucket(jnp.zeros(4), jnp.array([True, False, False, False]))
      >>> jax.nn.softmax(z).round(4).tolist()
      [0.25, 0.0, 0.0, 0.0, 0.75]

    References:
      Anshumann et al., `Sparse Logit Sampling: Accelerating Knowledge Distillation in
      LLMs <https://arxiv.org/abs/2503.16870>`_, 2025, section 3.
    """
    (logits,) = widen(logits)
    kept = checks.mask(kept, logits.shape, "kept")
    tail = present(logits) & ~kept
    _, top, rest = normalise(logits, tail)
    bucket = jnp.where(tail.any(-1, keepdims=True), top + rest, -jnp.inf)
    return jnp.concatenate([jnp.where(kept, logits, -jnp.inf), bucket], -1)


def from_top_k(
    log_probabilities: Array, classes: Array, *, size: int
) -> tuple[Array, Array]:
    """The logits of a teacher of which only the top-k probabilities are stored.

    The rest of the probability goes to one more class, as in `tail_bucket`::

        teacher, kept = from_top_k(log_probabilities, classes, size=C)
        forward_kl(tail_bucket(student_logits, kept), teacher)  # with the tail
        forward_kl(student_logits, teacher[..., :-1], class_mask=kept)  # without

    Args:
      log_probabilities: ``[..., k]``, of a softmax over all classes, floating.
      classes: ``[..., k]``, integers in ``[0, size)``, each once; an entry outside is
        ignored.
      size: Number C of all classes.

    Returns:
      The teacher's logits, ``[..., C + 1]``, and the mask of stored classes,
      ``[..., C]``.

    Example:
      >>> stored = jnp.log(jnp.array([0.5, 0.2])), jnp.array([2, 0])
      >>> teacher, kept = from_top_k(*stored, size=3)
      >>> [f"{p:.1f}" for p in jnp.exp(teacher)], kept.tolist()
      (['0.2', '0.0', '0.5', '0.3'], [True, False, True])

    References:
      Anshumann et al., `Sparse Logit Sampling: Accelerating Knowledge Distillation in
      LLMs <https://arxiv.org/abs/2503.16870>`_, 2025, section 3.
    """
    (log_p,) = widen(log_probabilities)
    places, inside = checks.within(
        checks.integers(classes, log_p.shape, "classes"), size
    )
    empty = jnp.full((*log_p.shape[:-1], size + 1), -jnp.inf, log_p.dtype)
    # What is left out goes to the last place, which the tail then takes.
    places = jnp.where(inside, places, size)
    logits = jnp.put_along_axis(empty, places, log_p, -1, inplace=False)
    mass = jnp.sum(jnp.where(inside, jnp.exp(log_p), 0), -1)
    tail = jnp.where(mass < 1, jnp.log1p(-jnp.minimum(mass, 1)), -jnp.inf)
    logits = logits.at[..., -1].set(tail)
    return logits, present(logits[..., :-1])


class Sampled(NamedTuple):
    """A sample of the teacher's classes, from `sample_logits`."""

    indices: Array  # [..., draws]
    weights: Array  # [..., draws]
    log_probabilities: Array  # the teacher's, [..., draws]


def sample_logits(
    key: Array, teacher_logits: Array, *, draws: int, power: Scalar = 1.0
) -> Sampled:
    r"""Samples classes from :math:`\pi \propto p^t`, with weights :math:`p / n \pi`.

    Args:
      key: Random key.
      teacher_logits: ``[..., C]``, floating.
      draws: Number n of draws, with replacement. In the paper, about 12 different
        classes are enough.
      power: The exponent t; 1 samples from the teacher itself.

    Returns:
      The sample, for `sampled_kl`; its weights are 0 for a teacher without any class.

    Example:
      >>> sample_logits(jax.random.key(0), jnp.zeros((2, 9)), draws=3).indices.shape
      (2, 3)

    References:
      Anshumann et al., `Sparse Logit Sampling: Accelerating Knowledge Distillation in
      LLMs <https://arxiv.org/abs/2503.16870>`_, 2025, section 4.
    """
    checks.scalars(power=power)
    (teacher,) = widen(teacher_logits)
    log_p = jax.nn.log_softmax(teacher)
    proposal = jax.nn.log_softmax(power * teacher)
    empty = ~present(teacher).any(-1, keepdims=True)
    log_p, proposal = (jnp.where(empty, 0, x) for x in (log_p, proposal))
    indices = _drawn(key, jnp.exp(proposal), draws)
    log_p, proposal = (jnp.take_along_axis(x, indices, -1) for x in (log_p, proposal))
    weights = jnp.where(empty, 0, jnp.exp(log_p - proposal) / draws)
    return Sampled(indices, weights, log_p)


def _drawn(key: Array, weights: Array, draws: int) -> Array:
    """Classes ``[..., draws]``, each with a probability in proportion to its weight.

    By the inverse of the cumulative distribution, which takes one random number for a
    draw, where `jax.random.categorical` takes one for each class.
    """
    sums = jax.lax.associative_scan(jnp.add, weights, axis=-1)
    total, less = sums[..., -1:], 1 - jnp.finfo(weights.dtype).eps
    uniform = jax.random.uniform(key, (*weights.shape[:-1], draws), weights.dtype)
    # Below the last sum, so that a last class without a weight is not drawn either.
    places = jnp.minimum(uniform * total, less * total)
    flat = sums.reshape(-1, sums.shape[-1]), places.reshape(-1, draws)
    found = jax.vmap(lambda a, v: jnp.searchsorted(a, v, side="right"))(*flat)
    return found.reshape(places.shape)


def sampled_kl(student_logits: Array, sampled: Sampled) -> Array:
    r"""Unbiased estimate of forward KL and its gradient from a sample of classes.

    .. math:: \sum_{i} w_i (\log p_i - \log q_i)

    The mean over samples is `forward_kl`; single values may be negative.

    Args:
      student_logits: ``[..., C]``, floating.
      sampled: From `sample_logits`, of the same leading axes.

    Returns:
      ``[...]``, one value in nats per example.

    Example:
      >>> z = jnp.array([2.0, 0.0, -1.0])
      >>> sampled = sample_logits(jax.random.key(0), z, draws=2)
      >>> print(f"{sampled_kl(z, sampled):.6f}")
      0.000000

    References:
      Anshumann et al., `Sparse Logit Sampling: Accelerating Knowledge Distillation in
      LLMs <https://arxiv.org/abs/2503.16870>`_, 2025, section 4.
    """
    (student,) = widen(student_logits)
    exists = present(student)
    _, top, rest = normalise(student, exists)
    here = jnp.take_along_axis(exists, sampled.indices, -1)
    logits = jnp.take_along_axis(jnp.where(exists, student, 0), sampled.indices, -1)
    log_ratio = sampled.log_probabilities - ((logits - top) - rest)
    return jnp.sum(jnp.where(here, sampled.weights * log_ratio, 0), -1)
