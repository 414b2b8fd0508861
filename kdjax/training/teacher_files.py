"""A teacher's outputs on disk: computed once, in half precision, memory-mapped."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kdjax import files, progress
from kdjax.data.types import Data
from kdjax.losses import forward_kl
from kdjax.models import Batch, Model, Outputs, Variables
from kdjax.training import checkpoint

Views = Sequence[Callable[[jax.Array], jax.Array]]
_FLUSH = 20  # batches between two records of the progress
_ANSWERS = ("label", "score", "teacher")  # which a teacher does not read


class OnDisk(NamedTuple):
    """Data with a teacher's outputs, and what half precision costs."""

    data: Data
    facts: dict[str, Any]  # for meta.json


def whole(batch: Batch) -> Batch:
    """The batch as it is."""
    return batch


def logits_alone(outputs: Outputs) -> Outputs:
    """The logits, without features and attention."""
    return Outputs(outputs.logits)


def store_on_disk(
    model: Model,
    variables: Variables,
    data: Data,
    *,
    keep: Callable[[Outputs], Outputs] = logits_alone,
    views: Views = (),
    cut: Callable[[Batch], Batch] = whole,
    batch_size: int = 500,
    directory: Path | None = None,
) -> OnDisk:
    """`kdjax.training.teacher.store` for outputs that are slow to compute, or large.

    They are float16 files, named by a fingerprint of the teacher, the data and the
    views, and computed once: a later call maps them into memory, and one that was
    interrupted goes on where it stopped.

    Args:
      model: The teacher.
      variables: Its variables.
      data: Splits of arrays; those that are None stay None.
      keep: What to store of the outputs; the logits by default.
      views: If given, the training images' outputs are stored for each of these views,
        ``[N, views, ...]``, for `kdjax.training.views.of_stored`. Those of the other
        splits are of the images as they are.
      cut: Makes each batch smaller before the model sees it, as `kdjax.data.text.cut`
        does; what is stored must not depend on it.
      batch_size: Number of examples per call of the model.
      directory: Where the files lie; ``teachers`` in the cache by default.

    Returns:
      The data with `Outputs` as ``teacher``; and as facts the type, the largest error
      of a logit by rounding, and the mean KL in nats from exact to rounded outputs.
    """
    apply = jax.jit(lambda variables, batch: keep(model.apply(variables, batch)[0]))
    root = directory or files.cache("teachers")
    splits: list[Batch | None] = []
    facts: dict[str, Any] = {"type": "float16", "logit_error": 0.0, "mean_kl": 0.0}
    for name, split in zip(Data._fields, data, strict=True):
        if split is None:
            splits.append(None)
            continue
        if not isinstance(split, Mapping):
            kind = type(split).__name__
            raise TypeError(f"{name} is {kind}, but takes arrays by name")
        seen = tuple(views) if name == "train" else ()
        inputs = {n: a for n, a in split.items() if n not in _ANSWERS}
        job = _Job(apply, variables, inputs, seen, cut, batch_size)
        folder = root / job.fingerprint()
        with files.lock(folder, wait=True):
            outputs, found = job.run(folder, f"teacher's outputs, {name}")
        splits.append({**split, "teacher": outputs})
        facts["logit_error"] = float(np.maximum(facts["logit_error"], found["error"]))
        if name == "train":  # with a value for each view, or each token
            facts["mean_kl"] = found["kl"] / np.prod(outputs.logits.shape[:-1])
    return OnDisk(Data(*splits), facts)


class _Job(NamedTuple):
    """The outputs of one split."""

    apply: Callable[[Variables, Batch], Outputs]
    variables: Variables  # an argument of the programs, which would keep constants
    inputs: Batch
    views: tuple[Callable[[jax.Array], jax.Array], ...]
    cut: Callable[[Batch], Batch]
    batch_size: int

    @property
    def examples(self) -> int:
        return len(next(iter(self.inputs.values())))

    def rows(self, first: int, size: int) -> Batch:
        return {
            name: array[first : first + size] for name, array in self.inputs.items()
        }

    def fingerprint(self) -> str:
        """A hash of the program, the teacher's variables and the inputs."""
        given = self.variables, self.rows(0, self.batch_size)
        lowered = checkpoint.distinct(self.outputs).lower(*given)
        return checkpoint.fingerprint([lowered], self.variables, self.inputs)

    def outputs(self, variables: Variables, batch: Batch) -> Outputs:
        """Of a batch: ``[B, ...]``, or ``[B, views, ...]``."""
        apply = partial(self.apply, variables)
        if not self.views:
            return apply(batch)
        images = batch["image"]
        seen = [apply({**batch, "image": view(images)}) for view in self.views]
        return jax.tree.map(lambda *parts: jnp.stack(parts, 1), *seen)

    def run(self, folder: Path, label: str) -> tuple[Outputs, dict[str, float]]:
        """Computes what is missing, and maps the files."""
        count = self.examples
        shapes = jax.eval_shape(self.outputs, self.variables, self.rows(0, 1))
        record = _read(folder, shapes, count)
        if record["rows"] < count:
            if not record["rows"]:  # before the files that it tells of are emptied
                (folder / "record.json").unlink(missing_ok=True)
            arrays = _mapped(folder, shapes, count, "r+" if record["rows"] else "w+")
            compiled = jax.jit(_rounded_outputs(self.outputs))
            starts = range(record["rows"], count, self.batch_size)
            for number, first in enumerate(progress.track(starts, label), 1):
                rows = slice(first, first + self.batch_size)
                given = self.rows(first, self.batch_size)
                outputs, error, kl = compiled(self.variables, self.cut(given))
                for array, part in zip(arrays, jax.tree.leaves(outputs), strict=True):
                    array[rows] = part
                record["error"] = float(np.maximum(record["error"], error))
                record["kl"] += float(kl)
                record["rows"] = min(first + self.batch_size, count)
                if number % _FLUSH == 0 or record["rows"] == count:
                    _flush(folder, arrays, record)
        arrays = _mapped(folder, shapes, count, "r")
        return jax.tree.unflatten(jax.tree.structure(shapes), arrays), record


def _rounded_outputs(outputs: Callable[[Variables, Batch], Outputs]) -> Callable:
    """A function to outputs in float16, with what rounding cost."""

    def rounded(
        variables: Variables, batch: Batch
    ) -> tuple[Outputs, jax.Array, jax.Array]:
        exact = outputs(variables, batch)
        half = jax.tree.map(lambda a: a.astype(jnp.float16), exact)
        error = jnp.max(jnp.abs(half.logits.astype(jnp.float32) - exact.logits))
        return half, error, jnp.sum(forward_kl(half.logits, exact.logits))

    return rounded


def _mapped(folder: Path, shapes: Any, count: int, mode: Any) -> list[np.ndarray]:
    folder.mkdir(parents=True, exist_ok=True)
    if mode == "r":
        return [
            np.load(folder / f"{i}.npy", mmap_mode="r")
            for i, _ in enumerate(jax.tree.leaves(shapes))
        ]
    return [
        np.lib.format.open_memmap(
            folder / f"{i}.npy", mode, np.float16, (count, *leaf.shape[1:])
        )
        for i, leaf in enumerate(jax.tree.leaves(shapes))
    ]


def _flush(folder: Path, arrays: list[Any], record: dict[str, float]) -> None:
    """Writes the rows, and only then that they are there."""
    for array in arrays:
        array.flush()
    with files.atomic(folder / "record.json") as path:
        path.write_text(json.dumps(record))


def _read(folder: Path, shapes: Any, count: int) -> dict[str, Any]:
    """The progress of an earlier call; none if a file is missing or damaged."""
    try:
        record = json.loads((folder / "record.json").read_text())
        for i, leaf in enumerate(jax.tree.leaves(shapes)):
            array = np.load(folder / f"{i}.npy", mmap_mode="r")
            if array.shape != (count, *leaf.shape[1:]):
                raise ValueError(f"{i}.npy has shape {array.shape}")
        return record
    except FileNotFoundError:
        pass
    except (ValueError, OSError) as error:
        progress.console.print(f"damaged outputs in {folder} discarded: {error}")
    return {"rows": 0, "error": 0.0, "kl": 0.0}
