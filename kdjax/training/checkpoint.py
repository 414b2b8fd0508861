"""Atomic checkpoints by orbax, each sealed with a digest.

The directory of a checkpoint is named after a fingerprint of the programs and their
inputs. Any change of these, such as of the model, the data, the key or the number of
steps per call, therefore starts anew.
"""

from collections.abc import Callable, Sequence
import hashlib
import json
from pathlib import Path
import shutil
import threading
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from kdjax import files
from kdjax.progress import console

Position = dict[str, Any]  # position of a run, JSON-serializable

# Concurrent saves from two threads steal each other's signals and stall for minutes.
_ORBAX = threading.Lock()


def cache_compilations() -> None:
    """Caches compiled programs on disk, so that the next run starts at once."""
    jax.config.update("jax_compilation_cache_dir", str(files.cache("xla").resolve()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def digest(tree: Any) -> str:
    """A hash of every array in ``tree``: its path, type, shape and values."""
    sha = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.asarray(leaf)
        sha.update(f"{jax.tree_util.keystr(path)}{array.dtype}{array.shape}".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()


def distinct(function: Callable, **options: Any) -> Any:
    """`jax.jit` for a `fingerprint`.

    The text of the program has all arguments. Without those that are not used, programs
    that read different arguments of equal shapes would have the same text.
    """
    return jax.jit(function, keep_unused=True, **options)


def fingerprint(programs: Sequence[jax.stages.Lowered], *numbers: Any) -> str:
    """A fingerprint of programs, jitted by `distinct`, and their inputs."""
    texts = [program.as_text() for program in programs]
    return files.fingerprint([jax.__version__, texts, *map(digest, numbers)])


def save(directory: Path, step: int, tree: Any, position: Position) -> bool:
    """Writes ``tree`` atomically, and keeps the two newest checkpoints.

    A failure is logged and not raised, since training can go on without a checkpoint.

    Returns:
      Whether the checkpoint was written.
    """
    path, seal = directory.resolve() / str(step), directory / f"{step}.json"
    try:
        seal.unlink(missing_ok=True)
        with _ORBAX, ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(path, tree, force=True)
        with files.atomic(seal) as temporary:
            temporary.write_text(json.dumps(_sealed(path, position)))
        # Later ones are damaged: the run has resumed from an earlier one.
        for old in [each for each in _steps(directory) if each <= step][:-2]:
            (directory / f"{old}.json").unlink(missing_ok=True)
            shutil.rmtree(directory / str(old))
    except Exception as error:  # orbax and tensorstore raise various types
        _clear_unfinished(directory)  # frees space if the disk is full
        reason = " ".join(str(error).split())[:200]
        console.print(
            f"no checkpoint written at step {step} in {directory}: training goes on, "
            f"but would resume from an earlier one ({reason})"
        )
        return False
    return True


def restore(
    directory: Path, like: Callable[[Position], Any]
) -> tuple[Position, Any] | None:
    """The position and the tree of the newest undamaged checkpoint, or None.

    Damaged and incomplete ones are logged and skipped without being read: after a
    failed read, orbax may fail again at any later time, in the garbage collector.

    Args:
      directory: Where `save` wrote.
      like: Returns, for a position, a tree with the structure and the placement on
        devices that the restored tree shall have.
    """
    _clear_unfinished(directory)
    for step in reversed(_steps(directory)):
        path = directory.resolve() / str(step)
        position = _position(path, directory / f"{step}.json")
        if position is None:
            console.print(f"damaged checkpoint {path} skipped")
            continue
        with _ORBAX, ocp.StandardCheckpointer() as checkpointer:
            return position, checkpointer.restore(path, like(position))
    return None


def _clear_unfinished(directory: Path) -> None:
    for path in directory.glob("*.orbax-checkpoint-tmp*"):  # interrupted while written
        shutil.rmtree(path, ignore_errors=True)


def _sealed(path: Path, position: Position) -> dict[str, Any]:
    sha = hashlib.sha256(json.dumps(position, sort_keys=True).encode())
    sha.update(_digest_of_files(path).encode())
    return {"sha256": sha.hexdigest(), "position": position}


def _position(path: Path, seal: Path) -> Position | None:
    """The position in the seal of a checkpoint, or None if the seal is invalid."""
    try:
        record = json.loads(seal.read_bytes())
        fits = record == _sealed(path, record["position"])
    except (OSError, ValueError, KeyError, TypeError):  # missing, truncated, other JSON
        return None
    return record["position"] if fits else None


def _digest_of_files(directory: Path) -> str:
    sha = hashlib.sha256()
    for path in sorted(p for p in directory.rglob("*") if p.is_file()):
        sha.update(str(path.relative_to(directory)).encode())
        sha.update(path.read_bytes())
    return sha.hexdigest()


def _steps(directory: Path) -> list[int]:
    return sorted(int(p.name) for p in directory.glob("*") if p.name.isdigit())
