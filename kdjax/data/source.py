"""Where a training's batches come from: resident arrays, or a stream.

Both hand out the batches of the next few steps (``feed``), which a program turns into a
batch each (``batch``). Resident arrays lie on the device and are fed indices, in an
order drawn anew for each epoch; a stream is fed the batches themselves.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, partial
import itertools
import json
from typing import Any, cast

import jax
import numpy as np

from kdjax.models import Batch


@dataclass(frozen=True)
class Stream:
    """Batches read as they are needed, with a position that a checkpoint keeps.

    Args:
      make: ``make(seed)`` gives an endless dataset of batches (dicts of arrays) whose
        iterator has ``get_state``, which gives what JSON can hold, and ``set_state``:
        one of grain, say ``grain.MapDataset.source(rows).seed(seed).shuffle().repeat()
        .batch(32).to_iter_dataset()``. A run's seed is drawn from its key.
      steps: How many of them make an epoch, after which the student is validated.
    """

    make: Callable[[int], Iterable[Batch]]
    steps: int

    @cached_property
    def example(self) -> Batch:
        """A batch, of which only the shapes matter; read once."""
        return next(iter(self.make(0)))


class ResidentFeed:
    """Indices of resident examples, the few left over in an epoch sitting it out."""

    def __init__(self, arrays: Batch, batch_size: int):
        self.arrays = arrays
        self.examples = len(jax.tree.leaves(arrays)[0])
        self.batch_size = batch_size
        self.steps = self.examples // batch_size
        self._order: tuple[Any, Any] = (None, None)  # of one epoch, by its key

    def example(self) -> Batch:
        """A batch, of which only the shapes matter."""
        rows = jax.tree.map(lambda a: a[: self.batch_size], self.arrays)
        return {**rows, "index": np.arange(self.batch_size)}

    def fed(self, count: int) -> jax.ShapeDtypeStruct:
        """The shape of what `feed` gives for so many steps."""
        return jax.ShapeDtypeStruct((count, self.batch_size), np.int32)

    def begin(self, key: jax.Array, position: str | None) -> None:
        """Nothing: an epoch's order is drawn from the epoch's key."""

    def feed(self, key: jax.Array, first: int, count: int) -> jax.Array:
        """``[count, batch_size]`` for the steps of an epoch from ``first`` on."""
        name = jax.random.key_data(key).tobytes()
        if self._order[0] != name:
            size = self.steps * self.batch_size
            order = _permutation(key, self.examples)[:size]
            self._order = (name, order.reshape(self.steps, self.batch_size))
        return self._order[1][first : first + count]

    def position(self) -> str:
        return ""

    @staticmethod
    def batch(arrays: Batch, rows: jax.Array) -> Batch:
        return {**jax.tree.map(lambda a: a[rows], arrays), "index": rows}


class StreamFeed:
    """Batches of a `Stream`, stacked for as many steps as are asked for."""

    def __init__(self, stream: Stream):
        self.stream = stream
        self.steps = stream.steps
        self.arrays: Batch = {}
        self._iterator: Any = None

    def example(self) -> Batch:
        return self.stream.example

    def fed(self, count: int) -> Batch:
        """The shapes of what `feed` gives for so many steps."""
        return jax.tree.map(
            lambda a: jax.ShapeDtypeStruct((count, *np.shape(a)), np.asarray(a).dtype),
            self.example(),
        )

    def begin(self, key: jax.Array, position: str | None) -> None:
        """Starts at a run's first batch, or where its checkpoint says."""
        seed = int(jax.random.bits(key) >> 1)
        self._iterator = cast(Any, iter(self.stream.make(seed)))
        if position:
            self._iterator.set_state(json.loads(position))

    def feed(self, key: jax.Array, first: int, count: int) -> Batch:
        batches = list(itertools.islice(self._iterator, count))
        if len(batches) < count:
            raise ValueError(
                "train is a stream that has come to its end, but takes one without an "
                "end: .repeat() in grain"
            )
        return jax.tree.map(lambda *parts: np.stack(parts), *batches)

    def position(self) -> str:
        return json.dumps(self._iterator.get_state())

    @staticmethod
    def batch(arrays: Batch, fed: Batch) -> Batch:
        return fed


def feeder(train: Batch | Stream, batch_size: int) -> ResidentFeed | StreamFeed:
    """What hands out the batches of a training split."""
    if isinstance(train, Stream):
        return StreamFeed(train)
    return ResidentFeed(train, batch_size)


@partial(jax.jit, static_argnums=1)
def _permutation(key: jax.Array, count: int) -> jax.Array:
    return jax.random.permutation(key, count)
