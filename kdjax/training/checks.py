"""Checks that the parts of a training fit each other and the data, before it runs."""

from collections.abc import Callable, Mapping
from functools import partial
import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd

from kdjax.data.checks import check_labels, check_teacher
from kdjax.data.source import ResidentFeed, Stream, feeder
from kdjax.data.types import Data
from kdjax.models import Batch, Model, Outputs, Projector
from kdjax.objectives import name_of
from kdjax.training import step as stepping
from kdjax.training import views
from kdjax.training.metrics import Measure
from kdjax.training.programs import measure
from kdjax.training.step import Training


def check_parts(training: Any) -> None:
    """Raises TypeError or ValueError if a part of a training has the wrong type."""
    _check_type("training", training, Training, "kdjax.training.Training(...)")
    _check_type(
        "model",
        training.model,
        Model,
        "kdjax.models.Model; kdjax.models.from_linen converts a flax module",
    )
    _check_type("projector", training.projector, Projector, "kdjax.models.Projector")
    for name in ("objective", "teacher", "view", "optimizer"):
        part = getattr(training, name)
        others = {"optimizer": optax.GradientTransformation, "view": views.Remembering}
        if not callable(part) and not isinstance(part, others.get(name, ())):
            raise TypeError(f"{name} is {_named(part)}, but takes a function")
    if "student_logits" in inspect.signature(training.objective).parameters:
        raise TypeError(
            f"objective {name_of(training.objective)} takes logits, but an objective "
            f"takes (student, teacher, batch); kdjax.objectives.on_logits converts it"
        )
    if training.measure_epochs < 1:
        raise ValueError(
            f"measure_epochs is {training.measure_epochs}, but takes at least 1"
        )
    if isinstance(training.measures, Measure):
        raise TypeError("measures is a Measure, but takes a tuple of them")
    for one in training.measures:
        _check_type("measures", one, Measure, "kdjax.training.Measure")
    if training.select is not None and training.select[1] not in ("max", "min"):
        raise ValueError(
            f"select is {training.select!r}, but takes a metric and 'max' or 'min'"
        )


def _check_type(name: str, value: Any, kind: type, takes: str) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{name} is {_named(value)}, but takes {takes}")


def _named(value: Any) -> str:
    """The representation of a value, or its type if that is long (as of a network)."""
    text = repr(value)
    brief = len(text) <= 60 and "\n" not in text
    return text if brief else f"of type {type(value).__name__}"


def check_fit(
    training: Training, data: Data, columns: Mapping[str, np.ndarray], fixed: Any
) -> None:
    """Traces each part of a step with abstract shapes, which is cheap.

    Raises:
      TypeError, ValueError: naming the part that does not accept its inputs.
    """
    feed = feeder(data.train, training.batch_size)
    if isinstance(feed, ResidentFeed) and not feed.steps:
        raise ValueError(
            f"batch_size is {training.batch_size}, but takes at most the "
            f"{feed.examples} examples of train"
        )
    if not feed.steps:
        raise ValueError(
            f"steps of the stream is {feed.steps}, but takes a positive integer"
        )
    key, batch = jax.random.key(0), feed.example()
    has = f"a batch has {', '.join(batch)}"
    if isinstance(fixed, Mapping):
        has += f", and fixed has {', '.join(fixed)}"
    variables = _variables(training.model, batch, has)
    if data.validation is None and views.watches(training.view):
        raise ValueError(
            "validation is None, but the view takes the metrics of validation examples"
        )
    view = _view(training, key, batch, variables["params"], fixed, has)
    outputs = _outputs(training.model, variables, view, has)
    for name, split in zip(Data._fields, data, strict=True):
        if split is not None:
            every = split
            if isinstance(split, Stream):
                split, every = batch, split.examples or batch
            check_labels(name, every, outputs)
            check_teacher(name, split, outputs)
    teacher_outputs = _shapes("teacher", has, training.teacher, fixed, view)
    has += f"; {_described('student', outputs)}"
    has += f"; {_described('teacher', teacher_outputs)}"
    state = _check_objective(
        training, columns, batch, view, teacher_outputs, fixed, has
    )
    _check_descent(training, training.epochs * feed.steps, state.params, columns)
    for name in ("validation", "test"):
        if getattr(data, name) is not None:
            _check_measures(training, variables, name, getattr(data, name), fixed)


def _shapes(what: str, has: str, function: Callable, *arguments: Any) -> Any:
    """`jax.eval_shape`; errors name the part, and what was available to it."""
    try:
        return jax.eval_shape(function, *arguments)
    except KeyError as error:
        raise ValueError(f"{what} takes {error}, but {has}") from error
    except IndexError as error:
        raise ValueError(f"{what} takes an element that is missing: {has}") from error
    except Exception as error:
        error.add_note(f"raised by the {what}, before training began: {has}")
        raise


def _described(whose: str, outputs: Outputs | None) -> str:
    """Describes the outputs that are available to an objective."""
    if outputs is None:
        return f"there is no {whose}"
    features, attention = (
        ", ".join(str(leaf.shape) for leaf in leaves) or "none"
        for leaves in (outputs.features, outputs.attention)
    )
    return (
        f"the {whose} has logits {outputs.logits.shape}, features {features}, "
        f"attention {attention}, extras {', '.join(outputs.extras) or 'none'}"
    )


def _variables(model: Model, batch: Batch, has: str) -> Any:
    variables = _shapes("model", has, model.init, jax.random.key(0), batch)
    if not isinstance(variables, dict) or set(variables) != {"params", "state"}:
        raise TypeError(
            f"model: init returned {jax.tree.structure(variables)}, but must return a "
            f"dict with params and state"
        )
    return variables


def _outputs(model: Model, variables: Any, view: Batch, has: str) -> Outputs:
    given = _shapes("model", has, model.apply, variables, view)
    if type(given) is not tuple or not isinstance(given[0], Outputs):
        raise TypeError(
            f"model: apply returned {jax.tree.structure(given)}, but must return a "
            f"pair of kdjax.models.Outputs and the state"
        )
    return given[0]


def _view(
    training: Training, key: jax.Array, batch: Batch, params: Any, fixed: Any, has: str
) -> Batch:
    own, given = training.view, (batch, params, fixed)
    memory = _shapes("view", has, partial(views.beginning, own), *given)
    view, after = _shapes("view", has, partial(views.seen, own), key, *given, memory)
    if _shape(after) != _shape(memory):
        raise ValueError(
            f"memory of the view is {_shape(memory)} before a step and {_shape(after)} "
            f"after it, but must keep its shapes"
        )
    _check_view(view, len(jax.tree.leaves(batch)[0]))
    return view


def _check_view(view: Any, size: int) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(view):
        if leaf.shape[:1] != (size,):
            raise ValueError(
                f"view returned {jax.tree_util.keystr(path)} of shape {leaf.shape}, "
                f"but must return a batch of {size} examples, as it takes"
            )


def _check_objective(
    training: Training,
    columns: Mapping[str, np.ndarray],
    batch: Batch,
    view: Batch,
    teacher_outputs: Outputs | None,
    fixed: Any,
    has: str,
) -> stepping.State:
    key, name = jax.random.key(0), name_of(training.objective)
    first = {name: column[0] for name, column in columns.items()}

    def init(batch: Batch, fixed: Any) -> stepping.State:
        return stepping.init(training, 1, key, first, batch, fixed)

    def objective(state: Any, view: Any, teacher_outputs: Any) -> Any:
        return stepping.example_losses(
            training, state, state.params, view, teacher_outputs, key
        )

    state = _shapes("projector", has, init, batch, fixed)
    losses, after = _shapes(
        f"objective {name}", has, objective, state, view, teacher_outputs
    )
    wanted = jax.tree.leaves(view)[0].shape[:1]
    if jax.tree.structure(losses) != jax.tree.structure(0) or losses.shape != wanted:
        raise ValueError(
            f"objective {name} returned {_shape(losses)} for a batch of {wanted[0]}, "
            f"but must return one value per example, {wanted}"
        )
    before = {name: state.model_state[name] for name in after}
    if _shape(after) != _shape(before):
        raise ValueError(
            f"state of model and projector is {_shape(before)} before a "
            f"step and {_shape(after)} after it, but must keep its shapes"
        )
    return state


def _shape(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: (str(leaf.dtype), leaf.shape), tree)


def _check_descent(
    training: Training, steps: int, params: Any, columns: Mapping[str, np.ndarray]
) -> None:
    """Raises ValueError if the first update points along the gradient (here, ones)."""

    @jax.jit
    def along(chosen: dict[str, jax.Array]) -> jax.Array:
        zeros, ones = (
            jax.tree.map(
                lambda p, value=value: jnp.full(p.shape, value, p.dtype), params
            )
            for value in (0, 1)
        )
        optimizer = stepping.transformation(training.optimizer, chosen, steps)
        updates, _ = optimizer.update(ones, optimizer.init(zeros), zeros)
        return jnp.asarray(sum(jnp.sum(u) for u in jax.tree.leaves(updates)))

    own = {}
    if not isinstance(training.optimizer, optax.GradientTransformation):
        own = stepping.of(training.optimizer, columns, by_keyword=True)
    for row in pd.DataFrame(own).drop_duplicates().to_dict("records") or [{}]:
        if along(row) > 0:
            raise ValueError(
                f"optimizer: its first update points uphill, along the gradient, with "
                f"hyperparameters {row}, but it must be a complete transformation, "
                f"including learning rate and sign, such as optax.adam(1e-3) or "
                f"kdjax.training.optimizers.adam, not only optax.scale_by_adam()"
            )


def _check_measures(
    training: Training, variables: Any, name: str, split: Batch, fixed: Any
) -> None:
    metrics = _shapes(
        "measures",
        f"{name} has {', '.join(split)}",
        lambda variables, split, fixed: measure(training, variables, split, fixed),
        variables,
        split,
        fixed,
    )
    for metric, value in metrics.items():
        if value.shape:
            raise ValueError(
                f"measures returned {metric!r} of shape {value.shape}, but must return "
                f"scalars"
            )
    if training.select is not None and training.select[0] not in metrics:
        raise ValueError(
            f"select is {training.select!r}, but takes one of "
            f"{', '.join(metrics) or 'no metrics, so it must be None'}"
        )
