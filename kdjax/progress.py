"""Progress bars and the console for log lines."""

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager

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


def track(rows: Sequence, description: str) -> Iterable:
    """Iterates over ``rows`` with a progress bar."""
    return _track(rows, description, console=console)


@contextmanager
def epochs_done(description: str, epochs: int) -> Generator[Callable[[int], None]]:
    """A bar with epochs and time left; yields a function that sets the epochs done."""
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
