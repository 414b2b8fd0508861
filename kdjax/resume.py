"""Training that, killed at any moment and started again, ends with the same bits.

A checkpoint belongs to certain programs and the numbers that they are run on: its
directory is named by a fingerprint of both, so a change of model, loss, data,
hyperparameters or jax starts anew, and nothing else does.
"""

from collections.abc import Callable, Sequence
import hashlib
from pathlib import Path
import shutil
import threading
import time
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from kdjax import files
from kdjax.progress import console

# Two saves at once, from two threads, take each other's signals and wait for minutes.
_ORBAX = threading.Lock()


def cache_compilations() -> None:
    """Keeps compiled programs on disk, so that the next run need not wait."""
    jax.config.update("jax_compilation_cache_dir", str(files.cache("xla").resolve()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def digest(tree: Any) -> str:
    """A fingerprint of every number in ``tree`` and of its shape."""
    sha = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.asarray(leaf)
        sha.update(f"{jax.tree_util.keystr(path)}{array.dtype}{array.shape}".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()


def identity(programs: Sequence[jax.stages.Lowered], *numbers: Any) -> str:
    """Stands for programs and what they are run on."""
    texts = [program.as_text() for program in programs]
    return files.fingerprint([jax.__version__, texts, *map(digest, numbers)])


def save(directory: Path, epoch: int, tree: Any) -> None:
    """Writes ``tree`` whole or not at all; the one before it is kept, no older."""
    path, seal = directory.resolve() / str(epoch), directory / f"{epoch}.sha256"
    seal.unlink(missing_ok=True)
    with _ORBAX, ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, tree, force=True)
    with files.atomic(seal) as temporary:
        temporary.write_text(_digest_of_files(path))
    for old in _epochs(directory)[:-2]:
        (directory / f"{old}.sha256").unlink(missing_ok=True)
        shutil.rmtree(directory / str(old))


def restore(directory: Path, like: Any) -> tuple[int, Any] | None:
    """The newest undamaged checkpoint: its epoch, and its tree, placed as ``like``.

    What is damaged or half-written is said, and passed over unread: orbax, once it has
    failed to read, may fail again at any time later, in what it left to the collector.
    """
    for path in directory.glob("*.orbax-checkpoint-tmp*"):  # cut off while written
        shutil.rmtree(path)
    for epoch in reversed(_epochs(directory)):
        path, seal = directory.resolve() / str(epoch), directory / f"{epoch}.sha256"
        if not seal.exists() or seal.read_text() != _digest_of_files(path):
            console.print(f"damaged checkpoint {path} passed over")
            continue
        with _ORBAX, ocp.StandardCheckpointer() as checkpointer:
            return epoch, checkpointer.restore(path, like)
    return None


def _digest_of_files(directory: Path) -> str:
    sha = hashlib.sha256()
    for path in sorted(p for p in directory.rglob("*") if p.is_file()):
        sha.update(str(path.relative_to(directory)).encode())
        sha.update(path.read_bytes())
    return sha.hexdigest()


def _epochs(directory: Path) -> list[int]:
    return sorted(int(p.name) for p in directory.glob("*") if p.name.isdigit())


def blank(metrics: dict[str, Any], epochs: int) -> dict[str, np.ndarray]:
    """Curves ``[epochs, ...]`` for `run_epochs` to fill, and the seconds ``[epochs]``.

    Args:
      metrics: Shape and dtype of what an epoch gives.
      epochs: How many there will be.
    """
    curves = {n: np.zeros((epochs, *m.shape), m.dtype) for n, m in metrics.items()}
    return curves | {"seconds": np.zeros(epochs)}


def run_epochs(
    epoch: jax.stages.Compiled,
    state: Any,
    key: jax.Array,
    data: Any,
    *,
    curves: dict[str, np.ndarray],
    directory: Path,
    checkpoint_seconds: float,
    on_epoch: Callable[[int], None],
    keep_last: bool = False,
) -> tuple[Any, dict[str, np.ndarray]]:
    """Runs what is left of the epochs, with a checkpoint every so often.

    Args:
      epoch: ``epoch(state, key, data) -> state, metrics``.
      state: Where to begin if there is no checkpoint.
      key: Epoch e gets ``fold_in(key, e)``.
      data: Given to every epoch.
      curves: From `blank`.
      directory: Where the checkpoints lie.
      checkpoint_seconds: A checkpoint follows the first epoch to end so long after
        the one before.
      on_epoch: Called with the number of epochs done.
      keep_last: Whether to leave a checkpoint of the end.
    """
    epochs = len(curves["seconds"])
    done, (state, curves) = restore(directory, (state, curves)) or (0, (state, curves))
    curves = {name: np.array(values) for name, values in curves.items()}
    on_epoch(done)
    began = saved = time.monotonic()
    for e in range(done, epochs):
        state, metrics = epoch(state, jax.random.fold_in(key, e), data)
        for name, value in metrics.items():
            curves[name][e] = value
        on_epoch(e + 1)
        now = time.monotonic()
        curves["seconds"][e], began = now - began, now
        due = now - saved >= checkpoint_seconds and e + 1 < epochs
        if due or (keep_last and e + 1 == epochs):
            save(directory, e + 1, (state, curves))
            saved = time.monotonic()
    return state, curves
