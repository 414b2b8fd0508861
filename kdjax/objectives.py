"""Objectives: losses as functions of model outputs, which a training minimises.

An objective is any function ``(student, teacher, batch, *, hyperparameters) -> [B]`` of
two `Outputs` and the batch. One with several terms takes three lines::

    def hint_and_soft(student, teacher, batch, *, temperature, weight):
        hint = losses.hint(student.features[-1], teacher.features[-1])
        soft = losses.soft_kl(student.logits, teacher.logits, temperature=temperature)
        return soft + weight * hint
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
import inspect
from typing import Annotated, Any

import jax
import jax.numpy as jnp

from kdjax.losses.ranges import INDEX
from kdjax.losses.sequences import sequence_mean
from kdjax.models import Batch, Outputs

Objective = Callable[..., jax.Array]
# Arguments that cannot be swept.
_NO_AXES = ("class_mask", "mask", "axis_name", "length_normalized")
_LOGITS = {"teacher_logits": "teacher", "labels": "label"}
_TEXTS = {
    "teacher_logits": "teacher",
    "tokens": "label",
    "from_student": "from_student",
}


def on_logits(loss: Callable[..., jax.Array]) -> Objective:
    """Makes an objective of a loss of logits, labels or both.

    The loss takes the student's logits first, then ``teacher_logits``, ``labels`` or
    both, identified by these names. Three arguments with other names are student,
    teacher and labels, in this order. Its keyword-only arguments are hyperparameters of
    the objective.

    Args:
      loss: Such as `kdjax.losses.hinton`, `kdjax.losses.cross_entropy`, or your own.

    Raises:
      TypeError: if an argument of the loss cannot be identified.
    """
    parameters = inspect.signature(loss).parameters.values()
    names = [p.name for p in parameters if p.kind <= p.POSITIONAL_OR_KEYWORD]
    own = len(names) == 3 and not {*names[:2]} & _LOGITS.keys()  # a user's names
    if own and names[2] != "teacher_logits":
        return _OnLogits(loss, ("student", "teacher", "label"))
    return _OnLogits(loss, _takes("on_logits", names, _LOGITS))


def on_tokens(loss: Callable[..., jax.Array]) -> Objective:
    """Makes an objective of a loss of tokens: its mean over each text.

    As `on_logits`, with logits ``[B, L, V]``. Places whose ``label`` is negative, where
    no token is to be predicted, do not count.

    Args:
      loss: With one value per token, such as `kdjax.losses.reverse_kl`.
    """
    return _OnTokens(on_logits(loss))


def on_texts(loss: Callable[..., jax.Array]) -> Objective:
    """Makes an objective of a loss of whole texts.

    The loss takes the student's logits ``[B, L, V]`` first, then ``teacher_logits``,
    the ``tokens`` to predict or ``from_student``, identified by these names, and a
    ``mask`` by keyword. Its other keyword-only arguments are hyperparameters.

    Args:
      loss: Such as `kdjax.losses.sequence_nll`, `kdjax.losses.gkd` or, with
        ``teacher_share`` 0 for the student's own texts, `kdjax.losses.minillm`.

    Raises:
      TypeError: if an argument of the loss cannot be identified, or it takes no mask.
    """
    parameters = inspect.signature(loss).parameters
    if "mask" not in parameters:
        raise TypeError(f"on_texts: {name_of(loss)} takes no mask; use on_tokens")
    kinds = [p.name for p in parameters.values() if p.kind <= p.POSITIONAL_OR_KEYWORD]
    return _OnLogits(loss, _takes("on_texts", kinds, _TEXTS), masked=True)


def in_order(loss: Callable[..., jax.Array]) -> Objective:
    """Makes an objective of a loss between models with different tokens.

    The first predicted token of a text is compared with the teacher's first, and so on,
    as far as both go. The objective is the mean over these.

    Args:
      loss: As `on_logits` takes it, of distributions over different tokens, such as
        `kdjax.losses.uld`. Labels are those of the student's tokens.

    Raises:
      ValueError: at a call, if the teacher is not `kdjax.training.teacher`'s
        ``of_other_tokens``, or a view has changed the student's texts.

    References:
      Boizard et al., `Towards Cross-Tokenizer Distillation
      <https://arxiv.org/abs/2402.12030>`_, 2024, section 3.2.
    """
    return _InOrder(on_logits(loss))


def from_several(objective: Objective) -> Objective:
    """The objective with one of several teachers, whose logits are stored together.

    The stored logits are ``[B, teachers, classes]``. The index of the teacher is one
    more hyperparameter, ``teacher``, so one sweep can train students of all of them.
    """
    return _FromSeveral(objective)


def mutual(objective: Objective) -> Objective:
    """Two networks learn from each other, as in deep mutual learning.

    Each takes the objective with the other as its teacher, through which no gradient
    flows, and both losses are added. The model is `kdjax.models.with_peer`; a teacher
    of the training is ignored.

    Args:
      objective: Such as `on_logits` of `kdjax.losses.hinton`, with ``temperature`` 1
        and ``alpha`` 0.5 for half of the paper's loss.

    References:
      Zhang et al., `Deep Mutual Learning <https://arxiv.org/abs/1706.00384>`_, 2018,
      section 2.2; there the networks take turns.
    """
    return _Mutual(objective)


@dataclass(frozen=True)
class _OnLogits:
    # Not a partial with a signature, because annotations do not pickle.
    loss: Callable[..., jax.Array]
    takes: tuple[str, ...]  # "student" and some of "teacher" and arrays of the batch
    masked: bool = False  # whether it takes the mask of the labels

    def __call__(
        self, student: Outputs, teacher: Outputs, batch: Batch, **hyperparameters: Any
    ) -> jax.Array:
        of = {"student": student, "teacher": teacher}
        given = (of[n].logits if n in of else batch[n] for n in self.takes)
        if self.masked:
            hyperparameters["mask"] = batch["label"] >= 0
        return self.loss(*given, **hyperparameters)

    @property
    def __name__(self) -> str:
        return name_of(self.loss)

    @property
    def __signature__(self) -> inspect.Signature:
        parameters = signature(self.loss).parameters.values()
        own = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
        own = [p for p in own if p.name not in _NO_AXES]
        return _signature(("student", "teacher", "batch"), own)


@dataclass(frozen=True)
class _Around:
    """Another objective with the same name and hyperparameters."""

    objective: Objective

    @property
    def __name__(self) -> str:
        return name_of(self.objective)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self.objective)


class _OnTokens(_Around):
    def __call__(
        self, student: Outputs, teacher: Outputs, batch: Batch, **hyperparameters: Any
    ) -> jax.Array:
        values = self.objective(student, teacher, batch, **hyperparameters)
        return sequence_mean(values, batch["label"] >= 0)


class _InOrder(_Around):
    def __call__(
        self, student: Outputs, teacher: Outputs, batch: Batch, **hyperparameters: Any
    ) -> jax.Array:
        if "from_student" in batch:
            raise ValueError("in_order takes no view that writes other texts")
        labels = batch["label"], batch["teacher_label"]
        if teacher.logits.shape[:2] != jnp.shape(labels[1]):
            raise ValueError(
                f"the teacher's logits are {teacher.logits.shape}, but in_order takes "
                f"{(*jnp.shape(labels[1]), 'classes')}, as of teacher.of_other_tokens"
            )
        length = min(jnp.shape(label)[1] for label in labels)
        (own, label), (other, theirs) = (
            _first(outputs.logits, label, length)
            for outputs, label in zip((student, teacher), labels, strict=True)
        )
        batch = {**batch, "label": label}
        values = self.objective(Outputs(own), Outputs(other), batch, **hyperparameters)
        return sequence_mean(values, (label >= 0) & (theirs >= 0))


def _first(
    logits: jax.Array, label: jax.Array, length: int
) -> tuple[jax.Array, jax.Array]:
    """Logits ``[B, length, V]`` and labels, with those of predicted tokens first."""
    label = jnp.asarray(label)
    order = jnp.argsort(label < 0, axis=1, stable=True)[:, :length]
    moved = jnp.take_along_axis(logits, order[..., None], 1)
    return moved, jnp.take_along_axis(label, order, 1)


class _FromSeveral(_Around):
    def __call__(
        self,
        student: Outputs,
        teachers: Outputs,
        batch: Batch,
        *,
        teacher: jax.Array,
        **hyperparameters: Any,
    ) -> jax.Array:
        logits = jnp.take(teachers.logits, jnp.asarray(teacher).astype(int), axis=1)
        return self.objective(student, Outputs(logits), batch, **hyperparameters)

    @property
    def __signature__(self) -> inspect.Signature:
        parameters = inspect.signature(self.objective).parameters.values()
        own = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
        kind, annotation = inspect.Parameter.KEYWORD_ONLY, Annotated[jax.Array, INDEX]
        teacher = inspect.Parameter("teacher", kind, annotation=annotation)
        return _signature(("student", "teachers", "batch"), [*own, teacher])


class _Mutual(_Around):
    def __call__(
        self, student: Outputs, teacher: object, batch: Batch, **hyperparameters: Any
    ) -> jax.Array:
        if "peer" not in student.extras:
            raise TypeError(
                f"mutual({name_of(self.objective)}) takes a model with a peer: "
                "kdjax.models.with_peer(student, peer)"
            )
        peer = student.extras["peer"]
        learned = partial(self.objective, **hyperparameters)
        one = learned(student, jax.lax.stop_gradient(peer), batch)
        return one + learned(peer, jax.lax.stop_gradient(student), batch)


def _signature(
    positional: Sequence[str], own: Sequence[inspect.Parameter]
) -> inspect.Signature:
    kind = inspect.Parameter.POSITIONAL_ONLY
    return inspect.Signature([*(inspect.Parameter(n, kind) for n in positional), *own])


def signature(function: Callable) -> inspect.Signature:
    """A function's signature, with string annotations evaluated where possible."""
    try:
        return inspect.signature(function, eval_str=True)
    except Exception:  # a user's annotation may raise anything
        return inspect.signature(function)


def name_of(function: Callable) -> str:
    """The name of a function in messages; that of the inner one for a partial."""
    while isinstance(function, partial) and "__name__" not in vars(function):
        function = function.func
    return getattr(function, "__name__", type(function).__name__)


def _takes(
    adapter: str, names: Sequence[str], known: Mapping[str, str]
) -> tuple[str, ...]:
    """What the positional arguments of a loss are."""
    unknown = [name for name in names[1:] if name not in known]
    if not names or unknown or names[0] in known:
        *some, last = known
        raise TypeError(
            f"{adapter}: the loss takes {', '.join(names) or 'nothing'}, but after the "
            f"student's logits it may only take arguments named {', '.join(some)} and "
            f"{last}; hyperparameters must be keyword-only"
        )
    return ("student", *(known[name] for name in names[1:]))
