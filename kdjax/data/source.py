"""Sources of batches: resident arrays, or a stream.

Both provide the inputs of the next few steps (``feed``), from which a program makes one
batch per step (``batch``). Resident arrays stay on the device, and the inputs are
indices, shuffled in each epoch. For a stream the inputs are the batches themselves.
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
    """Batches read on demand, with a position that is saved in checkpoints.

    Args:
      make: ``make(seed)`` returns an endless dataset of batches (dicts of arrays) whose
        iterator has ``get_state``, which returns a JSON-serializable value, and
        ``set_state``. In grain, for example: ``grain.MapDataset.source(rows)
        .seed(seed).shuffle().repeat().batch(32).to_iter_dataset()``. The seed of a run
        is drawn from its key.
      steps: Number of batches in an epoch.
      ragged: Whether shapes may differ between batches, as of texts in buckets of
        length. A step is compiled for each of them, and runs by itself.
      content: Arrays and numbers that the batches are made of, so that a cached result
        is not taken for that of other data. By default, one batch stands for all.
      examples: Arrays of all examples, if they are at hand, whose labels are checked
        before a training. By default, those of one batch are.
    """

    make: Callable[[int], Iterable[Batch]]
    steps: int
    ragged: bool = False
    content: Any = None
    examples: Batch | None = None

    @cached_property
    def example(self) -> Batch:
        """A batch that provides the shapes, of ragged ones the largest; read once."""
        batches = iter(self.make(0))
        if not self.ragged:
            return next(batches)
        return max(itertools.islice(batches, self.steps), key=_size)


def _size(batch: Batch) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(batch))


class ResidentFeed:
    """Indices of resident examples. A last partial batch of an epoch is dropped."""

    def __init__(self, arrays: Batch, batch_size: int):
        self.arrays = arrays
        self.examples = len(jax.tree.leaves(arrays)[0])
        self.batch_size = batch_size
        self.steps = self.examples // batch_size
        self._order: tuple[Any, Any] = (None, None)  # key and order of an epoch

    def example(self) -> Batch:
        """A batch that provides the shapes."""
        rows = jax.tree.map(lambda a: a[: self.batch_size], self.arrays)
        return {**rows, "index": np.arange(self.batch_size)}

    def fed(self, count: int) -> jax.ShapeDtypeStruct:
        """The result of `feed` for ``count`` steps, as a shape."""
        return jax.ShapeDtypeStruct((count, self.batch_size), np.int32)

    def begin(self, key: jax.Array, position: str | None) -> None:
        """Does nothing: the order is drawn from the key of each epoch."""

    def feed(self, key: jax.Array, first: int, count: int) -> jax.Array:
        """Indices ``[count, batch_size]`` for the steps of an epoch from ``first``."""
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
    """Batches of a `Stream`, stacked along an axis of steps unless they are ragged."""

    def __init__(self, stream: Stream):
        self.stream = stream
        self.steps = stream.steps
        self.arrays: Batch = {}
        self._iterator: Any = None

    def example(self) -> Batch:
        return self.stream.example

    def fed(self, count: int) -> Batch:
        """The result of `feed` for ``count`` steps, as shapes."""
        return jax.tree.map(
            lambda a: jax.ShapeDtypeStruct((count, *np.shape(a)), np.asarray(a).dtype),
            self.example(),
        )

    def begin(self, key: jax.Array, position: str | None) -> None:
        """Starts at the first batch, or at the position of a checkpoint."""
        seed = int(jax.random.bits(key) >> 1)
        self._iterator = cast(Any, iter(self.stream.make(seed)))
        if position:
            self._iterator.set_state(json.loads(position))

    def feed(self, key: jax.Array, first: int, count: int) -> Batch | list[Batch]:
        batches = list(itertools.islice(self._iterator, count))
        if len(batches) < count:
            raise ValueError(
                "train is a stream that has ended, but takes an endless one, such as "
                ".repeat() makes in grain"
            )
        if self.stream.ragged:
            return batches
        return jax.tree.map(lambda *parts: np.stack(parts), *batches)

    def position(self) -> str:
        return json.dumps(self._iterator.get_state())

    @staticmethod
    def batch(arrays: Batch, fed: Batch) -> Batch:
        return fed


def feeder(train: Batch | Stream, batch_size: int) -> ResidentFeed | StreamFeed:
    """The source of batches for a training split."""
    if isinstance(train, Stream):
        return StreamFeed(train)
    return ResidentFeed(train, batch_size)


@partial(jax.jit, static_argnums=1)
def _permutation(key: jax.Array, count: int) -> jax.Array:
    return jax.random.permutation(key, count)
