"""Files that are either whole or not there, and where those for reuse lie."""

from collections.abc import Iterator
from contextlib import contextmanager
import fcntl
import hashlib
import json
import os
from pathlib import Path
import tempfile
from typing import Any

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
def atomic(path: Path) -> Iterator[Path]:
    """Gives a temporary path to write; at the end it becomes ``path`` at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def save_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Writes an npz file whole or not at all."""
    with atomic(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)


def load_arrays(path: Path) -> dict[str, np.ndarray] | None:
    """What `save_arrays` wrote; None if it is not there, or damaged, which is said."""
    try:
        with open(path, "rb") as file, np.load(file) as arrays:
            return dict(arrays)
    except FileNotFoundError:
        return None
    except Exception as error:  # zipfile, zlib and numpy raise many kinds
        console.print(f"damaged file {path} passed over: {error!r}")
        return None


@contextmanager
def alone_in(directory: Path) -> Iterator[None]:
    """Raises BlockingIOError if another process is at work in ``directory``."""
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(f"another process trains in {directory}") from error
        yield
