"""One training step as a pure function, to vmap for a sweep and scan for an epoch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
import inspect
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax

from kdjax.models import Batch, Model, Outputs, Projector, Variables, projectors
from kdjax.objectives import Objective, signature
from kdjax.training import optimizers, start, teacher, views
from kdjax.training.metrics import Measure, Metrics, classification

Hyperparameters = dict[str, jax.Array]
Optimizer = Callable[..., optax.GradientTransformation] | optax.GradientTransformation


@dataclass(frozen=True)
class Training:
    """A student and how to train it; the same for all runs of a sweep.

    Hyperparameters, which vary between runs, are the keyword-only arguments of the
    objective and the projector, and the arguments of the optimizer, by name.

    Args:
      model: The student.
      objective: ``(student, teacher, batch, *, hyperparameters) -> [B]``, whose mean is
        minimised; see `kdjax.objectives`.
      epochs: Passes over the training examples, or over the ``steps`` of a `Stream`.
      batch_size: Examples per step; ignored for a `Stream`. A last partial batch is
        dropped.
      optimizer: A function of hyperparameters, and of the number of ``steps`` if it has
        such an argument, as in `kdjax.training.optimizers`; or an optax transformation.
      teacher: ``(fixed, batch) -> Outputs``, stored in the batch or computed live.
      projector: Maps the outputs of student and teacher before the objective, and
        learns with the student; see `kdjax.models.projectors`.
      view: Changes each batch before the student and a live teacher see it.
      start: ``start(variables, fixed)`` returns the variables at the first step, given
        those that the model draws; see `kdjax.training.start.pretrained`.
      constrain: ``constrain(params)``, applied to the student after every step; see
        `kdjax.models.max_norm`.
      measures: Metrics of the student, computed after epochs and at the end.
      select: A validation metric and ``"max"`` or ``"min"``, which define the best
        epoch. None selects no epoch.
      measure_batch: Number of examples per block when metrics are computed.
      measure_epochs: Number of epochs between two measurements of the validation
        examples. The last epoch is always measured; others have NaN in the curves.
    """

    model: Model
    objective: Objective
    epochs: int
    batch_size: int
    optimizer: Optimizer = optimizers.adam
    teacher: Callable[[Any, Batch], Outputs | None] = teacher.stored
    projector: Projector = projectors.identity
    view: views.View = views.unchanged
    start: Callable[[Variables, Any], Variables] = start.drawn
    constrain: Callable[[Any], Any] | None = None
    measures: tuple[Measure, ...] = field(default_factory=lambda: (classification(),))
    select: tuple[str, str] | None = ("accuracy", "max")
    measure_batch: int = 1000
    measure_epochs: int = 1


class State(NamedTuple):
    """The state of a run, with variables of ``student`` and ``projector`` by name.

    The ``model_state`` also has the memory of the ``view``.
    """

    hyperparameters: Hyperparameters
    params: dict[str, Any]
    model_state: dict[str, Any]
    opt_state: Any


def init(
    training: Training,
    steps: int,
    key: jax.Array,
    hyperparameters: Hyperparameters,
    batch: Batch,
    fixed: Any,
    student: Any = None,
) -> State:
    """The state before the first step.

    Args:
      training: What to train.
      steps: Total number of steps.
      key: Random key for the initial parameters.
      hyperparameters: Scalars by name.
      batch: A batch that provides the shapes.
      fixed: Constants, as teacher and view take them.
      student: Variables of an earlier phase to continue from, if any.
    """
    if student is None:
        student = training.start(training.model.init(key, batch), fixed)
    view_key = jax.random.fold_in(key, 2)
    memory = views.beginning(training.view, batch, student["params"], fixed)
    view, _ = views.seen(
        training.view, view_key, batch, student["params"], fixed, memory
    )
    outputs, _ = training.model.apply(student, view)
    teacher_outputs = teacher.present(training.teacher(fixed, view))
    projector = training.projector.init(
        jax.random.fold_in(key, 1), outputs, teacher_outputs
    )
    both = {"student": student, "projector": projector}
    params = {name: variables["params"] for name, variables in both.items()}
    return State(
        hyperparameters,
        params,
        {name: variables["state"] for name, variables in both.items()}
        | {"view": memory},
        transformation(training.optimizer, hyperparameters, steps).init(params),
    )


def step(
    training: Training,
    steps: int,
    state: State,
    batch: Batch,
    key: jax.Array,
    fixed: Any,
) -> tuple[State, Metrics]:
    """One update on a batch, and its mean ``loss`` as the only metric."""
    view_key, model_key = jax.random.split(key)
    view, memory = jax.lax.stop_gradient(
        views.seen(
            training.view,
            view_key,
            batch,
            state.params["student"],
            fixed,
            state.model_state["view"],
        )
    )
    teacher_outputs = jax.lax.stop_gradient(training.teacher(fixed, view))

    def mean_loss(params: Any) -> tuple[jax.Array, Any]:
        losses, model_state = example_losses(
            training, state, params, view, teacher_outputs, model_key
        )
        return jnp.mean(losses), model_state

    (loss, model_state), gradients = jax.value_and_grad(mean_loss, has_aux=True)(
        state.params
    )
    optimizer = transformation(training.optimizer, state.hyperparameters, steps)
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = cast(dict, optax.apply_updates(state.params, updates))
    if training.constrain is not None:
        params = {**params, "student": training.constrain(params["student"])}
    model_state = {**model_state, "view": memory}
    return State(state.hyperparameters, params, model_state, opt_state), {"loss": loss}


def example_losses(
    training: Training,
    state: State,
    params: Any,
    batch: Batch,
    teacher_outputs: Outputs | None,
    key: jax.Array,
) -> tuple[jax.Array, Any]:
    """The objective of each example ``[B]``, and the updated model states."""
    chosen = state.hyperparameters
    student, student_state = training.model.apply(
        {"params": params["student"], "state": state.model_state["student"]}, batch, key
    )
    between = {
        "params": params["projector"],
        "state": state.model_state["projector"],
    }
    pair, projector_state = training.projector.apply(
        between,
        student,
        teacher.present(teacher_outputs),
        batch,
        jax.random.fold_in(key, 1),
        **of(training.projector.apply, chosen),
    )
    losses = training.objective(*pair, batch, **of(training.objective, chosen))
    return losses, {"student": student_state, "projector": projector_state}


def transformation(
    optimizer: Optimizer, hyperparameters: Hyperparameters, steps: int
) -> optax.GradientTransformation:
    """The optimizer with these hyperparameters."""
    if isinstance(optimizer, optax.GradientTransformation):
        return optimizer
    arguments = of(optimizer, hyperparameters, by_keyword=True)
    if "steps" in inspect.signature(optimizer).parameters:
        arguments["steps"] = steps
    return optimizer(**arguments)


def of(
    function: Callable, hyperparameters: Mapping[str, Any], *, by_keyword: bool = False
) -> dict[str, Any]:
    """Selects the hyperparameters that a function takes; see `takes`."""
    names = takes(function, by_keyword=by_keyword)
    return {name: hyperparameters[name] for name in names if name in hyperparameters}


@cache
def takes(
    function: Callable, *, by_keyword: bool = False
) -> dict[str, inspect.Parameter]:
    """The keyword-only arguments of a function, or all that can be given by keyword."""
    own = inspect.Parameter.KEYWORD_ONLY
    kinds = (own, inspect.Parameter.POSITIONAL_OR_KEYWORD) if by_keyword else (own,)
    parameters = signature(function).parameters
    return {n: p for n, p in parameters.items() if p.kind in kinds and n != "steps"}
