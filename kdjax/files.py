"""Files that are either whole or not there, and where those for reuse lie."""

from collections.abc import Generator
from contextlib import contextmanager
import hashlib
import json
import os
from pathlib import Path
import tempfile
from typing import Any

from filelock import FileLock, Timeout
import numpy as np

from kdjax.progress import console


def cache(kind: str) -> Path:
    """The directory for what can be made again: ``$KDJAX_CACHE``, or ``.cache``."""
    path = Path(os.environ.get("KDJAX_CACHE", ".cache")) / kind
    path.mkdir(parents=True, exist_ok=True)
    return path


def fingerprint(content: Any) -> str:
    """Twelve hex digits that stand for ``content``, anything JSON can hold."""
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@contextmanager
def atomic(path: Path) -> Generator[Path]:
    """Gives a temporary path to write; at the end it becomes ``path`` at once.

    Raises:
      OSError: naming ``path``, if it cannot be written; what was there stays.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        temporary = Path(name)
        yield temporary
        temporary.chmod(0o644)
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or str(error)  # numpy's own have no number
        raise OSError(error.errno, reason, str(path)) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextmanager
def lock(path: Path, *, wait: bool) -> Generator[bool]:
    """Holds ``<path>.lock`` against other processes; one that is killed lets it go.

    Args:
      path: What is locked; a directory, as a rule.
      wait: Whether to wait until the other is done, which is logged.

    Returns:
      Whether it is held: always, if it was waited for.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(f"{path}.lock", thread_local=False)
    try:
        held.acquire(blocking=False)
    except Timeout:
        if not wait:
            yield False
            return
        console.print(f"another process works on {path}: waiting for it")
        held.acquire()
    try:
        yield True
    finally:
        held.release()


def save_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Writes an npz file whole or not at all."""
    with atomic(path) as temporary, open(temporary, "wb") as file:
        # pyrefly: ignore[bad-argument-type]  # none of them is named allow_pickle
        np.savez(file, **arrays)


def load_arrays(path: Path) -> dict[str, np.ndarray] | None:
    """What `save_arrays` wrote; None if it is missing, or damaged, which is logged."""
    try:
        with open(path, "rb") as file, np.load(file) as arrays:
            return dict(arrays)
    except FileNotFoundError:
        return None
    except Exception as error:  # zipfile, zlib and numpy raise many kinds
        console.print(f"damaged file {path} skipped: {error!r}")
        return None
