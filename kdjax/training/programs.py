"""The compiled functions of a phase, for one run or a vectorized group."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.stages import Wrapped

from kdjax.data.source import ResidentFeed, StreamFeed
from kdjax.models import Batch, Variables
from kdjax.training import checkpoint, views
from kdjax.training import step as stepping
from kdjax.training.metrics import Metrics
from kdjax.training.step import State, Training

_STEPS_A_CALL = 500  # at most, because checkpoints fall between calls
_BYTES_A_CALL = 2**28  # at most, because a stream's batches are held in memory
Lift = Callable[[Callable, Any], Callable]  # like `jax.vmap`: (function, in_axes)


class Run(NamedTuple):
    """The state of a run and the record of its best epoch."""

    state: State
    best: Variables  # the student's, of the best epoch so far
    best_value: jax.Array  # [], of the metric for selection
    finite: jax.Array  # [], whether all losses so far were


class Phase(NamedTuple):
    """The compiled functions of one phase: all that the loop needs of it."""

    training: Training
    feed: ResidentFeed | StreamFeed
    begin: Wrapped  # -> Run
    program: Wrapped  # -> Run, summed loss: several steps if scanned, otherwise one
    finish: Wrapped  # -> Run, Metrics: at the end of an epoch
    scanned: bool  # whether the program loops over steps
    steps_a_call: int

    def beside(self) -> tuple:
        """What a fingerprint needs besides the text of the programs."""
        known: list[Any] = [self.training.epochs, self.feed.steps, self.feed.example()]
        if self.training.measure_epochs != 1:
            known.append(self.training.measure_epochs)
        if isinstance(self.feed, StreamFeed):
            known.append(self.feed.stream.content)
        return tuple(known)

    def advance(
        self, run: Run, fed: Any, keys: jax.Array, arrays: Batch, fixed: Any
    ) -> tuple[Run, jax.Array]:
        """Takes one step for each key; returns the loss of each program's call."""
        if self.scanned:
            run, loss = self.program(run, fed, keys, arrays, fixed)
            return run, loss[None]
        losses = []
        for i in range(len(keys)):
            ragged = isinstance(fed, list)
            here = fed[i] if ragged else jax.tree.map(lambda a, i=i: a[i], fed)
            run, loss = self.program(run, here, keys[i], arrays, fixed)
            losses.append(loss)
        return run, jnp.stack(losses)


def phase(
    training: Training,
    feed: ResidentFeed | StreamFeed,
    *,
    lift: Lift = lambda function, in_axes: function,
    scanned: bool = True,
    steps_a_call: int | None = None,
) -> Phase:
    """Builds the functions of a phase, for a `Loop`.

    Args:
      training: What to train.
      feed: The source of its batches.
      lift: A transformation ``lift(function, in_axes)`` to many runs, like `jax.vmap`.
      scanned: Whether the program loops over steps, or takes a single one.
      steps_a_call: Maximum number of steps between two checkpoints.
    """
    total = training.epochs * feed.steps
    fed = sum(a.size * a.dtype.itemsize for a in jax.tree.leaves(feed.fed(1)))
    most = min(steps_a_call or _STEPS_A_CALL, max(1, _BYTES_A_CALL // fed))
    calls = -(-feed.steps // most)
    one = partial(_step, training, total, feed.batch)
    program = lift(_scan(one) if scanned else one, (0, *4 * [None]))
    begin = lift(partial(_begin, training, total), (None, 0, None, None, 0))
    finish = lift(partial(_finish, training), (0, None, None))
    return Phase(
        training,
        feed,
        checkpoint.distinct(begin),
        checkpoint.distinct(program, donate_argnums=0),
        checkpoint.distinct(finish, donate_argnums=0),
        scanned,
        -(-feed.steps // calls),
    )


def _scan(one: Callable) -> Callable:
    def advance(run: Run, fed: Any, keys: jax.Array, arrays: Batch, fixed: Any):
        def body(run: Run, at: tuple[Any, jax.Array]) -> tuple[Run, jax.Array]:
            return one(run, *at, arrays, fixed)

        run, losses = jax.lax.scan(body, run, (fed, keys))
        return run, jnp.sum(losses)

    return advance


def first_states(
    phases: Sequence[Phase], key: jax.Array, hyperparameters: Any, fixed: Any
) -> list[Run]:
    """The initial state of every phase, as shapes."""
    states: list[Run] = []
    for each in phases:
        student = student_of(states[-1].state) if states else None
        arguments = (key, hyperparameters, each.feed.example(), fixed, student)
        states.append(jax.eval_shape(each.begin, *arguments))
    return states


def lowered(
    phases: Sequence[Phase],
    hyperparameters: Any,
    splits: Sequence[tuple[Batch, Batch | None]],
    fixed: Any,
) -> list[jax.stages.Lowered]:
    """Lowers every program of the phases without compiling, for a fingerprint."""
    key, programs, student = jax.random.key(0), [], None
    states = first_states(phases, key, hyperparameters, fixed)
    for each, state, (arrays, validation) in zip(phases, states, splits, strict=True):
        fed, keys = (
            each.feed.fed(each.steps_a_call),
            jax.random.split(key, each.steps_a_call),
        )
        if not each.scanned:
            fed, keys = jax.tree.map(
                lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), (fed, keys)
            )
        example = each.feed.example()
        programs += [
            each.begin.lower(key, hyperparameters, example, fixed, student),
            each.program.lower(state, fed, keys, arrays, fixed),
            each.finish.lower(state, validation, fixed),
        ]
        student = student_of(state.state)
    return programs


def student_of(state: State) -> Variables:
    """The variables of the student, for `kdjax.models.Model.apply`."""
    return {"params": state.params["student"], "state": state.model_state["student"]}


def measure(
    training: Training, variables: Variables, split: Batch, fixed: Any
) -> Metrics:
    """Measures a student on a split, in blocks of ``training.measure_batch``."""

    def sums(rows: Batch) -> list[dict[str, jax.Array]]:
        student, _ = training.model.apply(variables, rows)
        teacher_outputs = training.teacher(fixed, rows)
        return [
            measure.sums(student, teacher_outputs, rows)
            for measure in training.measures
        ]

    count = len(jax.tree.leaves(split)[0])
    block = min(training.measure_batch, count)
    whole = count - count % block
    blocks = jax.tree.map(
        lambda a: jnp.reshape(a[:whole], (-1, block, *a.shape[1:])), split
    )
    parts = jax.lax.map(sums, blocks)
    totals = jax.tree.map(lambda part: jnp.sum(part, 0), parts)
    if whole < count:
        rest = sums(jax.tree.map(lambda a: a[whole:], split))
        totals = jax.tree.map(jnp.add, totals, rest)
    metrics: Metrics = {}
    for one, total in zip(training.measures, totals, strict=True):
        metrics |= one.finish(total)
    return metrics


def _begin(
    training: Training,
    steps: int,
    key: jax.Array,
    hyperparameters: dict[str, jax.Array],
    example: Batch,
    fixed: Any,
    student: Variables | None,
) -> Run:
    state = stepping.init(
        training, steps, key, hyperparameters, example, fixed, student
    )
    worst = -jnp.inf if training.select and training.select[1] == "max" else jnp.inf
    state = _as_typed(state)
    return Run(state, student_of(state), jnp.float32(worst), jnp.array(True))


def _as_typed(state: State) -> State:
    """The state without weak types, which would cause recompilation."""
    return jax.tree.map(
        lambda a: jax.lax.convert_element_type(a, jnp.asarray(a).dtype), state
    )


def _step(
    training: Training,
    steps: int,
    batch_of: Callable[[Batch, Any], Batch],
    run: Run,
    fed: Any,
    key: jax.Array,
    arrays: Batch,
    fixed: Any,
) -> tuple[Run, jax.Array]:
    batch = batch_of(arrays, fed)
    state, metrics = stepping.step(training, steps, run.state, batch, key, fixed)
    finite = run.finite & jnp.isfinite(metrics["loss"])
    return run._replace(state=_as_typed(state), finite=finite), metrics["loss"]


def _finish(
    training: Training, run: Run, validation: Batch | None, fixed: Any
) -> tuple[Run, Metrics]:
    if validation is None:
        return run, {}
    student = student_of(run.state)
    metrics = measure(training, student, validation, fixed)
    named = {f"validation_{name}": value for name, value in metrics.items()}
    run = _remembered(training, run, named)
    if training.select is None:
        return run, named
    name, direction = training.select
    value = metrics[name].astype(run.best_value.dtype)
    better = value > run.best_value if direction == "max" else value < run.best_value
    best, best_value = jax.tree.map(
        lambda new, old: jnp.where(better & run.finite, new, old),
        (student, value),
        (run.best, run.best_value),
    )
    return run._replace(best=best, best_value=best_value), named


def _remembered(training: Training, run: Run, metrics: Metrics) -> Run:
    """The run with the memory of its view after these metrics, if it has one."""
    if not isinstance(view := training.view, views.Remembering):
        return run
    memory = view.measured(run.state.model_state["view"], metrics)
    state = {**run.state.model_state, "view": memory}
    return run._replace(state=_as_typed(run.state._replace(model_state=state)))
