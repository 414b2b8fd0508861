"""One classifier's training, as pure functions that a sweep can vmap and resume."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from kdjax.data.types import Data, Split
from kdjax.metrics import measure
from kdjax.models import Model

Metrics = dict[str, jax.Array]
Hyperparameters = dict[str, jax.Array]


class State(NamedTuple):
    """All of one run between two epochs."""

    hyperparameters: Hyperparameters
    variables: Any
    optimizer: Any
    best_variables: Any  # those of the epoch with the best validation accuracy
    best_accuracy: jax.Array  # []


class Training(NamedTuple):
    """What `make_training` gives."""

    init: Callable[[jax.Array, Hyperparameters, Data], State]
    epoch: Callable[[State, jax.Array, Data], tuple[State, Metrics]]
    evaluate: Callable[[Any, Split], Metrics]
    model: Model
    loss: Callable[..., jax.Array]
    epochs: int


def make_training(
    model: Model,
    loss: Callable[..., jax.Array],
    *,
    epochs: int,
    batch_size: int,
    optimizer: optax.GradientTransformation,
    augment: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
    constrain: Callable[[Any], Any] | None = None,
) -> Training:
    """The three pure functions of a training.

    What is given here is fixed for every run; what varies between runs is in
    ``hyperparameters``: ``learning_rate``, which falls towards 0 along a cosine, and
    the keyword arguments of ``loss``. The key of an epoch is an argument and no part of
    the state, so that runs vmapped over states share their batches.

    Args:
      model: What to train.
      loss: ``loss(logits, teacher_logits, labels, **hyperparameters)``, each
        ``[B, ...]``, gives ``[B]``. On data without a teacher the second is None.
      epochs: How many there will be: the learning rate would reach 0 one step on.
      batch_size: Examples a step. The few left over sit the epoch out.
      optimizer: Direction of the update; the learning rate is applied after it.
      augment: ``augment(key, x)``, a random view of a batch. The stored logits of a
        teacher are those of the inputs as they are.
      constrain: ``constrain(variables)``, after every step: see `models.max_norm`.
    """

    def init(key: jax.Array, hyperparameters: Hyperparameters, data: Data) -> State:
        variables = model.init(key, data.train.x[:1])
        best = (jax.tree.map(jnp.zeros_like, variables), jnp.array(-1.0))
        return State(
            hyperparameters,
            variables,
            _transform(optimizer, hyperparameters).init(variables),
            *best,
        )

    def epoch(state: State, key: jax.Array, data: Data) -> tuple[State, Metrics]:
        x, y, teacher_logits = jax.tree.map(jnp.asarray, data.train)
        steps = len(y) // batch_size
        if not steps:
            raise ValueError(f"batch_size is {batch_size}, but takes up to {len(y)}")
        order_key, noise_key = jax.random.split(key)
        order = jax.random.permutation(order_key, len(y))[: steps * batch_size]
        tx = _transform(optimizer, state.hyperparameters, epochs * steps)
        extra = {k: v for k, v in state.hyperparameters.items() if k != "learning_rate"}

        def step(carry, at):
            variables, optimizer_state = carry
            i, key = at
            view_key, dropout_key = jax.random.split(key)
            view = x[i] if augment is None else augment(view_key, x[i])
            teacher = None if teacher_logits is None else teacher_logits[i]

            def objective(variables):
                logits = model.apply(variables, view, dropout_key).logits
                return jnp.mean(loss(logits, teacher, y[i], **extra))

            value, grads = jax.value_and_grad(objective)(variables)
            updates, optimizer_state = tx.update(grads, optimizer_state, variables)
            variables = optax.apply_updates(variables, updates)
            if constrain is not None:
                variables = constrain(variables)
            return (variables, optimizer_state), value

        at = (order.reshape(steps, batch_size), jax.random.split(noise_key, steps))
        carry, values = jax.lax.scan(step, (state.variables, state.optimizer), at)
        measured = evaluate(carry[0], data.validation)
        metrics = {f"validation_{name}": value for name, value in measured.items()}
        state = _keep_best(state, *carry, accuracy=measured["accuracy"])
        return state, {"train_loss": jnp.mean(values), **metrics}

    evaluate = partial(_evaluate, model)
    return Training(init, epoch, evaluate, model, loss, epochs)


def _transform(
    optimizer: optax.GradientTransformation,
    hyperparameters: Hyperparameters,
    steps: int = 1,
) -> optax.GradientTransformation:
    # A schedule with peak 1 and a scale after it, for optax's schedules with a warm-up
    # do not take a traced peak.
    return optax.chain(
        optimizer,
        optax.scale_by_schedule(optax.cosine_decay_schedule(1.0, steps)),
        optax.scale(-hyperparameters["learning_rate"]),
    )


def _keep_best(
    state: State, variables: Any, optimizer: Any, *, accuracy: jax.Array
) -> State:
    better = accuracy > state.best_accuracy
    best = jax.tree.map(
        lambda new, old: jnp.where(better, new, old),
        (variables, accuracy),
        (state.best_variables, state.best_accuracy),
    )
    return State(state.hyperparameters, variables, optimizer, *best)


def _evaluate(model: Model, variables: Any, split: Split) -> Metrics:
    # A thousand at a time: hidden activations of many runs at once are large.
    logits = jax.lax.map(
        lambda x: model.apply(variables, x[None]).logits[0],
        jnp.asarray(split.x),
        batch_size=1000,
    )
    return measure(logits, split)
