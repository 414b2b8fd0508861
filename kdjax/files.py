"""Atomic file writes, locks, and the cache directory."""

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
    """A directory for reproducible files, under ``$KDJAX_CACHE`` or ``.cache``."""
    path = Path(os.environ.get("KDJAX_CACHE", ".cache")) / kind
    path.mkdir(parents=True, exist_ok=True)
    return path


def fingerprint(content: Any) -> str:
    """A hash of twelve hex digits of ``content``, which must be JSON-serializable."""
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@contextmanager
def atomic(path: Path) -> Generator[Path]:
    """Yields a temporary path to write to, which then replaces ``path`` atomically.

    Raises:
      OSError: naming ``path``, if it cannot be written; an existing file is kept.
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
        reason = error.strerror or str(error)  # those of numpy have no errno
        raise OSError(error.errno, reason, str(path)) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextmanager
def lock(path: Path, *, wait: bool) -> Generator[bool]:
    """Holds a lock on ``<path>.lock``, which is released if the process is killed.

    Args:
      path: What to lock, usually a directory.
      wait: Whether to wait for the current holder, and log this.

    Yields:
      Whether the lock was acquired; always true with ``wait``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(f"{path}.lock", thread_local=False)
    try:
        held.acquire(blocking=False)
    except Timeout:
        if not wait:
            yield False
            return
        console.print(f"waiting for another process that is working on {path}")
        held.acquire()
    try:
        yield True
    finally:
        held.release()


def save_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Writes an npz file atomically."""
    with atomic(path) as temporary, open(temporary, "wb") as file:
        # pyrefly: ignore[bad-argument-type]  # no array is named allow_pickle
        np.savez(file, **arrays)


def load_arrays(path: Path) -> dict[str, np.ndarray] | None:
    """Reads what `save_arrays` wrote; None if missing or, with a log line, damaged."""
    try:
        with open(path, "rb") as file, np.load(file) as arrays:
            return dict(arrays)
    except FileNotFoundError:
        return None
    except Exception as error:  # zipfile, zlib and numpy raise various types
        console.print(f"damaged file {path} skipped: {error!r}")
        return None
