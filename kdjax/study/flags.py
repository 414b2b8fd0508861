"""Command-line flags, parsed by tyro. Mistakes give one line and status 2."""

from collections.abc import Callable
import contextlib
import functools
import io
import re
import sys
from typing import Any, NoReturn

import tyro

from kdjax.progress import console


def run(function: Callable, **options: Any) -> Any:
    """Calls a function with arguments from flags."""

    @functools.wraps(function)
    def bound(*arguments: Any, **named: Any) -> Callable:
        return functools.partial(function, *arguments, **named)

    return parse(bound, **options)()


def parse(target: Callable | Any, **options: Any) -> Any:
    """`tyro.cli`, but an invalid flag prints one line instead of a box."""
    heard = io.StringIO()
    usual: dict[str, Any] = {"prog": _command()}
    usual["config"] = (tyro.conf.FlagCreatePairsOff,)
    try:
        with contextlib.redirect_stderr(heard):
            return tyro.cli(target, **(usual | options))
    except SystemExit as stop:
        if stop.code:
            fail(_message(heard.getvalue()))
        raise


def fail(error: Exception | str) -> NoReturn:
    """Prints an error in one line, and ends the program with status 2."""
    console.print(
        str(error), style="red", markup=False, highlight=False, soft_wrap=True
    )
    sys.exit(2)


def _command() -> str:
    """The command without machine-specific paths."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return f"python -m {spec.name.removesuffix('.__main__')}" if spec else "python"


def _message(box: str) -> str:
    """The first section of tyro's message, without frame and colours."""
    plain = re.sub(r"\x1b\[[0-9;]*m|│", "", box)
    sections = re.split(r".*[─-]{5}.*", plain)  # at rules
    message = " ".join((sections[1] if len(sections) > 1 else plain).split())
    return f"{message.rstrip('.')}; --help lists all flags"
