r"""How other systems reduce and weigh the same losses, as named presets.

Two systems that log a "KD loss" rarely log the same number. They differ in the
divergence; in whether it is KL or cross-entropy, which adds the teacher's entropy; in
the factor of squared temperature; in the classes used; in the average; and in whether
alpha weights the teacher or the labels. A `Convention` holds these choices, `PRESETS`
has those of each system, and `loss` gives that system's number::

    loss("trl", student, teacher, mask=answer, beta=0.1)
    loss("torchdistill", student, teacher, labels, temperature=4.0, alpha=0.1)

A system's own hyperparameters (``lam``, ``beta``) keep their names and meanings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from kdjax.losses import checks
from kdjax.losses._numerics import (
    Array,
    Scalar,
    classes,
    compare,
    entropy,
    log_ratio_to_mixture,
    widen,
)
from kdjax.losses.divergences import forward_kl, reverse_kl, total_variation
from kdjax.losses.logits import cross_entropy
from kdjax.losses.sequences import global_token_mean, sequence_mean, token_mean
from kdjax.losses.skew_and_js import jensen_shannon, skew_forward_kl, skew_reverse_kl
from kdjax.losses.sparse import tail_bucket, top_k

# Averages take one value per token (or an image), the mask, the number of classes, and
# the number of tokens in all accumulated batches.


def batch_mean(values: Array, mask: Array, classes: int, tokens: Scalar) -> Array:
    """Sum over the batch size; the mask is ignored, and long texts weigh more."""
    return jnp.sum(values) / len(values)


def all_mean(values: Array, mask: Array, classes: int, tokens: Scalar) -> Array:
    """Over all positions; the mask is ignored."""
    return jnp.mean(values)


def element_mean(values: Array, mask: Array, classes: int, tokens: Scalar) -> Array:
    """Over positions and classes: smaller by a factor of the vocabulary size."""
    return jnp.mean(values) / classes


def tokens_mean(values: Array, mask: Array, classes: int, tokens: Scalar) -> Array:
    """Over the tokens that count."""
    return token_mean(values, mask)


def sequences_mean(values: Array, mask: Array, classes: int, tokens: Scalar) -> Array:
    """Over the tokens of each text, then over texts that have any."""
    return token_mean(sequence_mean(values, mask), mask.any(-1))


def accumulated_mean(values: Array, mask: Array, classes: int, tokens: Scalar) -> Array:
    """Over the ``tokens`` of all accumulated batches."""
    return global_token_mean(values, mask, tokens=tokens)


def positions_mean(values: Array, mask: Array, classes: int, tokens: Scalar) -> Array:
    """Sum over the tokens that count, over all positions: padding makes it smaller."""
    return global_token_mean(values, mask, tokens=values.size)


def padded_mean(values: Array, mask: Array, classes: int, tokens: Scalar) -> Array:
    """Over the tokens that count, plus 1e-5."""
    return global_token_mean(values, mask, tokens=jnp.sum(mask) + 1e-5)


# Supports: student and teacher on k classes.


def top_k_of_teacher(student: Array, teacher: Array, k: int) -> tuple[Array, Array]:
    """Both on the teacher's most probable classes, renormalised."""
    kept = top_k(teacher, k=k)
    return jnp.where(kept, student, -jnp.inf), jnp.where(kept, teacher, -jnp.inf)


def top_k_of_student(student: Array, teacher: Array, k: int) -> tuple[Array, Array]:
    """Both on the student's most probable classes, renormalised."""
    return top_k_of_teacher(teacher, student, k)[::-1]


def teacher_on_top_k(student: Array, teacher: Array, k: int) -> tuple[Array, Array]:
    """The teacher renormalised on its most probable classes, the student on all."""
    return student, top_k_of_teacher(student, teacher, k)[1]


def tail_of_teacher(student: Array, teacher: Array, k: int) -> tuple[Array, Array]:
    """Both on the teacher's most probable classes and one for the rest."""
    kept = top_k(teacher, k=k)
    return tail_bucket(student, kept), tail_bucket(teacher, kept)


def tail_of_student(student: Array, teacher: Array, k: int) -> tuple[Array, Array]:
    """Both on the student's most probable classes and one for the rest."""
    return tail_of_teacher(teacher, student, k)[::-1]


# Divergences that only single systems have.


def generalized_jsd(student: Array, teacher: Array, *, beta: Scalar = 0.5) -> Array:
    """`jensen_shannon`, but `forward_kl` at beta 0 and `reverse_kl` at 1: it jumps."""
    ends = jnp.where(
        jnp.equal(beta, 0), forward_kl(student, teacher), reverse_kl(student, teacher)
    )
    inside = jnp.where((jnp.equal(beta, 0)) | (jnp.equal(beta, 1)), 0.5, beta)
    between = jensen_shannon(student, teacher, beta=inside)
    return jnp.where(jnp.equal(inside, beta), between, ends)


def js_distance(student: Array, teacher: Array, *, lam: Scalar = 0.9) -> Array:
    """`jensen_shannon` with ``beta = 1 - lam``."""
    return jensen_shannon(student, teacher, beta=1 - lam)


def detached_skew_reverse(student: Array, teacher: Array, *, skew: Scalar) -> Array:
    """`skew_reverse_kl` without the gradient through its mixture."""
    whole = skew_reverse_kl(student, teacher, skew=skew)
    _, q, gap = compare(*classes(student, teacher, None))
    log_ratio = jax.lax.stop_gradient(log_ratio_to_mixture(-gap, skew))
    part = jnp.sum(q * log_ratio, -1)
    return jax.lax.stop_gradient(whole - part) + part


class Convention(NamedTuple):
    """One system's choices. The defaults are Hinton et al.'s."""

    divergence: Callable[..., Array] = forward_kl  # of logits over the temperature
    entropy: bool = False  # the teacher's is left in: cross-entropy, not KL
    squared_temperature: bool = True  # as a factor
    support: Callable[..., tuple[Array, Array]] | None = None  # else all classes
    average: Callable[..., Array] = batch_mean
    alpha_weighs: Literal["teacher", "labels"] | None = None  # else no labels
    names: tuple[tuple[str, str], ...] = ()  # of the system's arguments, and ours


_WITHOUT_MASK = (batch_mean, all_mean, element_mean)
_DISTILLM = Convention(entropy=True, squared_temperature=False, average=tokens_mean)
_TRUE_DISTILLM = _DISTILLM._replace(entropy=False)
_DISTILLM2 = Convention(squared_temperature=False, average=sequences_mean)
_TRL = Convention(generalized_jsd, squared_temperature=False, average=tokens_mean)
_DISTILLKIT = Convention(average=tokens_mean)
_DISTILLKIT_JS = _DISTILLKIT._replace(divergence=jensen_shannon)
_DISTILLKIT_TV = _DISTILLKIT._replace(divergence=total_variation)
_MEAN = Convention(average=all_mean)

PRESETS: dict[str, Convention] = {
    "hinton": Convention(alpha_weighs="teacher"),
    "torchdistill": Convention(alpha_weighs="labels"),
    "torchdistill_without_labels": Convention(squared_temperature=False),
    "mdistiller": Convention(alpha_weighs="teacher"),
    "repdistiller": Convention(alpha_weighs="teacher"),
    "textbrewer": Convention(entropy=True, squared_temperature=False, average=all_mean),
    "tinybert": Convention(
        entropy=True, squared_temperature=False, average=element_mean
    ),
    "optax": Convention(squared_temperature=False, average=all_mean),
    "keras": _MEAN,
    "big_vision": _MEAN,
    "tunix": _MEAN._replace(alpha_weighs="teacher"),
    "tunix_top_k": _MEAN._replace(alpha_weighs="teacher", support=top_k_of_teacher),
    "maxtext": Convention(average=tokens_mean, alpha_weighs="teacher"),
    "modelopt": Convention(average=element_mean),
    "modelopt_batch_mean": Convention(),
    "trl": _TRL,
    "trl_without_labels": _TRL._replace(average=batch_mean),
    "trl_accumulated": _TRL._replace(average=accumulated_mean),
    "trl_top_k": _TRL._replace(support=top_k_of_student),
    "trl_top_k_tail": _TRL._replace(support=tail_of_student),
    "liger": _TRL._replace(alpha_weighs="teacher"),
    "minillm_kd": _DISTILLM,
    "distillm": _DISTILLM,
    "distillm_reverse": _TRUE_DISTILLM._replace(divergence=reverse_kl),
    "distillm_js": _TRUE_DISTILLM._replace(divergence=js_distance),
    "distillm_tv": _TRUE_DISTILLM._replace(divergence=total_variation),
    "distillm_skew_forward": _DISTILLM._replace(
        divergence=skew_forward_kl, names=(("lam", "skew"),)
    ),
    "distillm_skew_reverse": _TRUE_DISTILLM._replace(
        divergence=skew_reverse_kl, names=(("lam", "skew"),)
    ),
    "distillm2": _DISTILLM2,
    "distillm2_skew_forward": _DISTILLM2._replace(
        divergence=skew_forward_kl, names=(("alpha", "skew"),)
    ),
    "distillm2_skew_reverse": _DISTILLM2._replace(
        divergence=detached_skew_reverse, names=(("alpha", "skew"),)
    ),
    "distillm2_gkd": _DISTILLM2._replace(
        divergence=jensen_shannon, names=(("alpha", "beta"),)
    ),
    "distillkit": _DISTILLKIT,
    "distillkit_js": _DISTILLKIT_JS,
    "distillkit_tv": _DISTILLKIT_TV,
    "distillkit_zero": _DISTILLKIT._replace(support=teacher_on_top_k),
    "distillkit_js_zero": _DISTILLKIT_JS._replace(support=teacher_on_top_k),
    "distillkit_tv_zero": _DISTILLKIT_TV._replace(support=teacher_on_top_k),
    "distillkit_tail": _DISTILLKIT._replace(support=tail_of_teacher),
    "distillkit_js_tail": _DISTILLKIT_JS._replace(support=tail_of_teacher),
    "distillkit_tv_tail": _DISTILLKIT_TV._replace(support=tail_of_teacher),
    "eagle": _DISTILLM._replace(average=padded_mean),
    "eagle3": _DISTILLM._replace(average=positions_mean),
}


def loss(
    convention: str | Convention,
    student_logits: Array,
    teacher_logits: Array,
    labels: Array | None = None,
    *,
    mask: Array | None = None,
    temperature: Scalar = 1.0,
    alpha: Scalar | None = None,
    k: int | None = None,
    tokens: Scalar | None = None,
    **hyperparameters: Scalar,
) -> Array:
    """The loss that a system computes from these logits.

    Args:
      convention: A name in `PRESETS`, or a `Convention` of your own.
      student_logits: ``[..., C]``, floating: ``[B, C]`` or ``[B, L, V]``.
      teacher_logits: ``[..., C]``, floating.
      labels: ``[...]``, integers in ``[0, C)``, for systems that have a term with them.
        Without both labels and alpha the value is the teacher's term alone.
      mask: Tokens that count, ``[...]``; refused for a system that ignores masks.
      temperature: Positive scalar.
      alpha: The system's own alpha: the weight of the teacher or of the labels, see
        `Convention.alpha_weighs`, or a hyperparameter of its divergence.
      k: How many classes, where the system takes the top k.
      tokens: Number of tokens in all accumulated batches, where the system takes it.
      **hyperparameters: Hyperparameters of the divergence, by the system's names.

    Returns:
      ``[]``, always.

    Raises:
      ValueError: if there is no such preset.
      TypeError: if an argument is missing, or the convention does not use it.

    Example:
      >>> student, teacher = jnp.zeros((2, 4)), jnp.array([[0.0, 1, 2, 3]] * 2)
      >>> by = [loss(n, student, teacher) for n in ("modelopt_batch_mean", "modelopt")]
      >>> print(f"{by[0] / by[1]:.3f}")  # the number of classes
      4.000
    """
    if isinstance(convention, str):
        if convention not in PRESETS:
            listed = ", ".join(PRESETS)
            raise ValueError(f"convention is {convention!r}, but takes one of {listed}")
        convention = PRESETS[convention]
    divergence, with_entropy, squared, support, average, weighs, names = convention
    if weighs is None and alpha is not None:
        hyperparameters["alpha"] = alpha
    mixed = weighs is not None and (labels is not None or alpha is not None)
    for name, given, wanted in (
        ("mask", mask is not None, False if average in _WITHOUT_MASK else None),
        ("labels", labels is not None, mixed),
        ("alpha", alpha is not None, mixed if weighs else None),
        ("k", k is not None, support is not None),
        ("tokens", tokens is not None, average is accumulated_mean),
    ):
        if wanted is not None and given != wanted:
            verb = "needs" if wanted else "has no use for"
            raise TypeError(f"this convention {verb} {name}")
    checks.scalars(temperature=temperature, **{"alpha": alpha} | hyperparameters)
    student, teacher = widen(student_logits, teacher_logits)
    if student.ndim < 2:
        raise ValueError(f"student_logits is {student.shape}, but takes [B, ..., C]")
    of_classes = (checks.mask(mask, student.shape[:-1]), student.shape[-1], tokens)
    s, t = student / temperature, teacher / temperature
    if support is not None:
        s, t = support(s, t, k)
    ours = {dict(names).get(n, n): v for n, v in hyperparameters.items()}
    soft = divergence(s, t, **ours)
    if with_entropy:
        soft = soft + entropy(t)
    soft = average(soft, *of_classes) * (temperature**2 if squared else 1)
    if weighs is None or labels is None or alpha is None:  # all or none, see above
        return soft
    hard = average(cross_entropy(student, labels), *of_classes)
    share = alpha if weighs == "teacher" else 1 - alpha
    return share * soft + (1 - share) * hard
