"""Files that are either whole or not there, and where those for reuse lie."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
import hashlib
import json
import os
from pathlib import Path
import tempfile
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import track as _track

console = Console(stderr=True)


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
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def track(rows: Sequence, description: str) -> Iterable:
    """``rows``, with a progress bar."""
    return _track(rows, description, console=console)


@contextmanager
def progress(description: str, epochs: int) -> Iterator[Callable[[int], None]]:
    """A bar with epochs and time left; gives a function to say how many are done."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("epochs"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )
    with bar:
        task = bar.add_task(description, total=epochs)
        yield lambda done: bar.update(task, completed=done)
