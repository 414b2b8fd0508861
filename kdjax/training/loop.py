"""The training loop over phases and epochs, which resumes with identical bits.

It is the same for one student and a vectorized group of them, and for batches from
resident arrays and from a stream.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from pathlib import Path
import time
from typing import Any

import jax
import numpy as np

from kdjax.models import Batch, Variables
from kdjax.training import checkpoint
from kdjax.training.programs import Phase, Run, first_states, student_of

Curves = dict[str, np.ndarray]
OnEpoch = Callable[[int, dict[str, np.ndarray]], None]
OnCall = Callable[[int], None]


class Loop:
    """Trains one run, or a vectorized group of runs, through its phases.

    Args:
      phases: Trained in turn. The student is kept between phases; optimizer, projector
        and the record of the best epoch are initialised again.
      key: Random key for the initial parameters; ``fold_in(key, e)`` determines the
        order of examples and the randomness of the steps in epoch ``e``.
      hyperparameters: Scalars by name, or arrays with a leading axis of runs.
      splits: The resident training arrays and the validation split of each phase.
      fixed: Constants, as view and teacher take them.
      sharding: Sharding of the state.
      feed_sharding: Sharding of the inputs of each call; by default the same.
    """

    def __init__(
        self,
        phases: Sequence[Phase],
        key: jax.Array,
        hyperparameters: dict[str, Any],
        splits: Sequence[tuple[Batch, Batch | None]],
        fixed: Any,
        *,
        sharding: jax.sharding.Sharding,
        feed_sharding: jax.sharding.Sharding | None = None,
    ):
        # A feed has a position, and groups may run concurrently.
        self.phases = [each._replace(feed=copy(each.feed)) for each in phases]
        self.splits, self.fixed = splits, fixed
        self.init_key, self.key = jax.random.split(jax.device_put(key, sharding))
        self.hyperparameters = jax.device_put(hyperparameters, sharding)
        self.sharding, self.feed_sharding = sharding, feed_sharding or sharding
        self.epochs = sum(phase.training.epochs for phase in phases)
        self.at = {"phase": 0, "epoch": 0, "step": 0, "done": 0, "steps": 0}
        states = self._shapes()
        self.curves = _empty_curves(self.phases, states, splits, fixed)
        self.losses = np.zeros(states[0].finite.shape)  # sum over the current epoch
        self.run: Any = None  # a `Run`, once training has begun

    def to_the_end(
        self,
        *,
        directory: Path,
        checkpoint_seconds: float = 60.0,
        checkpoint_steps: int | None = None,
        keep_last: bool = False,
        on_epoch: OnEpoch = lambda done, metrics: None,
        on_call: OnCall = lambda done: None,
    ) -> tuple[Run, Curves]:
        """Trains to the end, resuming from a checkpoint if there is one.

        Args:
          directory: Directory of the checkpoints.
          checkpoint_seconds: Least time between checkpoints.
          checkpoint_steps: If given, the least number of steps between them instead.
          keep_last: Whether to write a checkpoint at the end.
          on_epoch: Called after each epoch, and when a run resumes, with the number of
            epochs done and the metrics of the last.
          on_call: Called after each call of a program, which is more often, with the
            number of epochs done. An exception it raises ends the run.

        Returns:
          The final state, and the metrics and ``seconds`` of every epoch.
        """
        self._resume(directory)
        if self.at["done"]:
            self._tell(on_epoch)
            on_call(self.at["done"])
        saved, steps_saved = time.monotonic(), self.at["steps"]
        for _ in self._calls(on_epoch):
            on_call(self.at["done"])
            due = time.monotonic() - saved >= checkpoint_seconds
            if checkpoint_steps is not None:
                due |= self.at["steps"] - steps_saved >= checkpoint_steps
            ended = self.at["done"] == self.epochs
            if (due and not ended) or (ended and keep_last):
                self._save(directory)
                saved, steps_saved = time.monotonic(), self.at["steps"]
        return self.run, self.curves

    def _calls(self, on_epoch: OnEpoch) -> Iterator[None]:
        """Trains to the end; yields after each call of a program."""
        at = self.at
        while at["done"] < self.epochs:
            phase = self.phases[at["phase"]]
            order_key, noise_key = jax.random.split(
                jax.random.fold_in(self.key, at["done"])
            )
            keys = jax.random.split(noise_key, phase.feed.steps)
            while at["step"] < phase.feed.steps:
                with self._clock():
                    self._advance(phase, order_key, keys)
                if at["step"] < phase.feed.steps:
                    yield
            with self._clock():
                self._measure(phase)
            self._finish_epoch(phase)
            self._tell(on_epoch)
            yield

    def _advance(self, phase: Phase, order_key: jax.Array, keys: jax.Array) -> None:
        first = self.at["step"]
        last = min(first + phase.steps_a_call, phase.feed.steps)
        fed = phase.feed.feed(order_key, first, last - first)
        self.run, losses = phase.advance(
            self.run,
            jax.device_put(fed, self.feed_sharding),
            keys[first:last],
            self.splits[self.at["phase"]][0],
            self.fixed,
        )
        for loss in np.asarray(losses, np.float64):  # the same, however calls are cut
            self.losses = self.losses + loss
        self.at["step"], self.at["steps"] = last, self.at["steps"] + last - first

    def _measure(self, phase: Phase) -> None:
        validation, done = self.splits[self.at["phase"]][1], self.at["done"]
        epoch, training = self.at["epoch"] + 1, phase.training
        if epoch % training.measure_epochs == 0 or epoch == training.epochs:
            self.run, metrics = phase.finish(self.run, validation, self.fixed)
            for name, value in metrics.items():
                self.curves[name][done] = value
        self.curves["train_loss"][done] = self.losses / phase.feed.steps

    def _finish_epoch(self, phase: Phase) -> None:
        at = self.at
        self.losses = np.zeros_like(self.losses)
        at.update(done=at["done"] + 1, epoch=at["epoch"] + 1, step=0)
        if at["epoch"] == phase.training.epochs and at["phase"] + 1 < len(self.phases):
            self._begin(at["phase"] + 1)

    def _begin(self, phase: int, source: str | None = None) -> None:
        """Starts a phase with the student of the previous one, if any."""
        if source is None:
            student = None if self.run is None else student_of(self.run.state)
            self.run = self._first(phase, student)
            self.at.update(phase=phase, epoch=0)
        feed_key = jax.random.fold_in(self.init_key, phase)
        self.phases[phase].feed.begin(feed_key, source)

    def _first(self, phase: int, student: Variables | None) -> Run:
        return self.phases[phase].begin(
            jax.random.fold_in(self.init_key, phase) if phase else self.init_key,
            self.hyperparameters,
            self.phases[phase].feed.example(),
            self.fixed,
            student,
        )

    def _shapes(self) -> list[Run]:
        """The state of every phase as shapes with shardings."""
        states = first_states(
            self.phases, self.init_key, self.hyperparameters, self.fixed
        )
        return jax.tree.map(
            lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=self.sharding),
            states,
        )

    def _resume(self, directory: Path) -> None:
        def like(position: checkpoint.Position) -> Any:
            run = self._shapes()[position["phase"]]
            return run, self.curves, self.losses

        found = checkpoint.restore(directory, like)
        if found is None:
            return self._begin(0)
        position, (self.run, curves, losses) = found
        source = position.pop("source")
        self.at = position
        self.curves = {name: np.array(values) for name, values in curves.items()}
        self.losses = np.array(losses)
        self._begin(position["phase"], source)

    def _save(self, directory: Path) -> None:
        source = self.phases[self.at["phase"]].feed.position()
        tree = (self.run, self.curves, self.losses)
        position = {**self.at, "source": source}
        checkpoint.save(directory, self.at["steps"], tree, position)

    @contextmanager
    def _clock(self) -> Generator[None]:
        """Adds the time spent in the context to the seconds of the epoch."""
        began, done = time.monotonic(), self.at["done"]
        yield
        self.curves["seconds"][done] += time.monotonic() - began

    def _tell(self, on_epoch: OnEpoch) -> None:
        done = self.at["done"]
        on_epoch(done, {name: values[done - 1] for name, values in self.curves.items()})


def _empty_curves(
    phases: Sequence[Phase],
    states: Sequence[Run],
    splits: Sequence[tuple[Batch, Batch | None]],
    fixed: Any,
) -> Curves:
    """Curves ``[epochs, ...]`` to fill in; NaN where some phase does not measure."""
    epochs = sum(phase.training.epochs for phase in phases)
    metrics = [
        jax.eval_shape(phase.finish, state, validation, fixed)[1]
        for phase, state, (_, validation) in zip(phases, states, splits, strict=True)
    ]
    curves: Curves = {"seconds": np.zeros(epochs)}
    curves["train_loss"] = np.zeros((epochs, *states[0].finite.shape), np.float32)
    each_epoch = all(phase.training.measure_epochs == 1 for phase in phases)
    for name, value in {n: v for own in metrics for n, v in own.items()}.items():
        everywhere = all(name in own for own in metrics) and each_epoch
        dtype = value.dtype if everywhere else np.float32
        fill = 0 if everywhere else np.nan
        curves[name] = np.full((epochs, *value.shape), fill, dtype)
    return curves
