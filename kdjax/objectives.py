"""Losses bound to what models give: the objective that a training minimises.

An objective is any function ``(student, teacher, batch, *, hyperparameters) -> [B]`` of
two `Outputs` and the batch; a recipe of several terms is a function of three lines::

    def hint_and_soft(student, teacher, batch, *, temperature, weight):
        hint = losses.hint(student.features[-1], teacher.features[-1])
        soft = losses.soft_kl(student.logits, teacher.logits, temperature=temperature)
        return soft + weight * hint
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
import inspect
from typing import Any

import jax
import jax.numpy as jnp

from kdjax.models import Batch, Outputs

Objective = Callable[..., jax.Array]
_NO_AXES = ("class_mask", "mask", "axis_name")  # of a loss; arrays and names of devices


def on_logits(loss: Callable[..., jax.Array]) -> Objective:
    """A loss of logits, of labels or of both, as an objective.

    The loss takes the student's logits, and after them the ``teacher_logits`` or the
    ``labels`` or both, known by these names; three arguments of any name are taken for
    student, teacher and labels. Its keyword-only arguments become the objective's.

    Args:
      loss: `kdjax.losses.hinton`, `kdjax.losses.cross_entropy`, or one of your own.

    Raises:
      TypeError: if it is not clear what an argument of the loss stands for.
    """
    parameters = inspect.signature(loss).parameters.values()
    takes = _takes([p.name for p in parameters if p.kind <= p.POSITIONAL_OR_KEYWORD])
    return _OnLogits(loss, takes)


def from_several(objective: Objective) -> Objective:
    """The objective, taught by one of several teachers whose logits lie side by side.

    The batch's stored logits are ``[B, teachers, classes]``, and which of them teaches
    is one more hyperparameter, ``teacher``: a sweep then has students of all of them.
    """
    return _FromSeveral(objective)


@dataclass(frozen=True)
class _OnLogits:
    # Not a partial with a signature: the annotations in one do not pickle.
    loss: Callable[..., jax.Array]
    takes: tuple[str, ...]  # of "student", "teacher" and "label", in its order

    def __call__(
        self, student: Outputs, teacher: Outputs, batch: Batch, **hyperparameters: Any
    ) -> jax.Array:
        gives = {
            "student": lambda: student.logits,
            "teacher": lambda: teacher.logits,
            "label": lambda: batch["label"],
        }
        return self.loss(*(gives[name]() for name in self.takes), **hyperparameters)

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
class _FromSeveral:
    objective: Objective

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
    def __name__(self) -> str:
        return name_of(self.objective)

    @property
    def __signature__(self) -> inspect.Signature:
        parameters = inspect.signature(self.objective).parameters.values()
        own = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
        teacher = inspect.Parameter("teacher", inspect.Parameter.KEYWORD_ONLY)
        return _signature(("student", "teachers", "batch"), [*own, teacher])


def _signature(
    positional: Sequence[str], own: Sequence[inspect.Parameter]
) -> inspect.Signature:
    kind = inspect.Parameter.POSITIONAL_ONLY
    return inspect.Signature([*(inspect.Parameter(n, kind) for n in positional), *own])


def signature(function: Callable) -> inspect.Signature:
    """A function's signature; annotations that are strings evaluated if they can be."""
    try:
        return inspect.signature(function, eval_str=True)
    except Exception:  # whatever a user's annotation raises
        return inspect.signature(function)


def name_of(function: Callable) -> str:
    """What to call a function in a message, also one behind `functools.partial`."""
    while isinstance(function, partial) and "__name__" not in vars(function):
        function = function.func
    return getattr(function, "__name__", type(function).__name__)


def _takes(names: list[str]) -> tuple[str, ...]:
    known = {"teacher_logits": "teacher", "labels": "label"}
    own = len(names) == 3 and not {*names[:2]} & known.keys()  # a user's names
    if own and names[2] != "teacher_logits":
        return ("student", "teacher", "label")
    unknown = [name for name in names[1:] if name not in known]
    if not names or unknown or names[0] in known:
        raise TypeError(
            f"on_logits: the loss takes {', '.join(names) or 'nothing'}, but after the "
            f"student's logits it may take teacher_logits and labels, by these names; "
            f"what else it takes must be keyword-only, a hyperparameter"
        )
    return ("student", *(known[name] for name in names[1:]))
