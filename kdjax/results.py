"""Reads and writes ``results/<name>/``: tables as CSV, and their metadata.

``runs.csv`` has one row per run, ``curves.csv`` one row per run and epoch, and an
experiment may add further tables. ``meta.json`` holds the config, the versions and data
that were used, and a checksum of each table, which detects files that were truncated or
belong to another run. This module does not import jax.
"""

from collections.abc import Mapping
import csv
import hashlib
from importlib import metadata
import io
import json
import math
import os
from pathlib import Path
import platform
import subprocess
import tempfile
from typing import Any

import pandas as pd

from kdjax import files

ROOT = Path("results")
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "tensorflow-datasets")


class Damaged(ValueError):
    """A results file has changed since it was written."""

    def __init__(self, path: Path, line: int | None, fault: str):
        where = f"{path}, line {line}" if line else path
        super().__init__(
            f"{where}: {fault}; restore it from version control, or run the "
            f"experiment again with --force"
        )


def needs_run(name: str, config: Mapping[str, Any], *, force: bool = False) -> bool:
    """Whether ``config`` still has to be run; call this before computing anything.

    Returns False if ``results/<name>`` holds the complete results of the same config.

    Raises:
      Damaged: if it holds damaged results, unless ``force``.
      FileExistsError: if it holds results of another config, unless ``force``.
      PermissionError: if it is not writable.
    """
    directory = ROOT / name
    try:
        # Only `save` makes the folder, so that a run that fails leaves none.
        ROOT.mkdir(parents=True, exist_ok=True)
        there = directory if directory.exists() else ROOT
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        raise PermissionError(f"results directory {directory}: {error}") from error
    if force or not (directory / "meta.json").exists():
        return True
    record = meta(name)
    if differing := _differences(record["config"], config):
        raise FileExistsError(
            f"{directory} holds results of another config: {'; '.join(differing)}. "
            f"Pass --force to replace them"
        )
    for title in record.get("tables") or (p.stem for p in directory.glob("*.csv")):
        _whole_table(name, title)
    return False


def save(
    name: str,
    config: Mapping[str, Any],
    tables: Mapping[str, pd.DataFrame],
    **facts: Any,
) -> Path:
    """Writes each table as ``results/<name>/<title>.csv``, and ``meta.json``.

    Earlier results stay intact until all new files are on disk.

    Args:
      name: A folder under ``results``.
      config: The config, of values that JSON can represent; NaN becomes a string.
      tables: Data frames by title. Their index is not written.
      **facts: Further entries of ``meta.json``: the ``experiment``, the `commit` at the
        start of the run, the data set, the device, the seconds, and the numbers of the
        ``paper`` that a figure shows.

    Raises:
      OSError: naming the file that could not be written.
    """
    directory = ROOT / name
    written = {title: _to_csv(table) for title, table in tables.items()}
    sums = {t: hashlib.sha256(content).hexdigest() for t, content in written.items()}
    record = {
        "config": config,
        "fingerprint": files.fingerprint(_plain(config)),
        "versions": {p: metadata.version(p) for p in _PACKAGES}
        | {"python": platform.python_version()},
        **facts,
        "tables": {t: {"rows": len(tables[t]), "sha256": sums[t]} for t in tables},
    }
    text = json.dumps(_plain(record), indent=2, allow_nan=False) + "\n"
    contents = {directory / f"{title}.csv": table for title, table in written.items()}
    _replace_all(contents | {directory / "meta.json": text.encode()})
    return directory


def load(name: str, title: str = "runs") -> pd.DataFrame:
    """The table ``results/<name>/<title>.csv``. Only empty cells are read as NaN.

    Raises:
      Damaged: if it has changed since it was written.
    """
    file = io.BytesIO(_whole_table(name, title))
    # The default precision is exact from pandas 3.1 on.
    return pd.read_csv(file, keep_default_na=False, na_values=[""], low_memory=False)


def meta(name: str) -> dict[str, Any]:
    """The contents of ``results/<name>/meta.json``.

    Raises:
      Damaged: if it is not valid JSON with a config.
    """
    path = ROOT / name / "meta.json"
    try:
        record = json.loads(path.read_bytes())
    except ValueError as error:  # not JSON, or not even text
        line, fault = getattr(error, "lineno", None), getattr(error, "msg", error)
        raise Damaged(path, line, str(fault)) from error
    if not isinstance(record, dict) or "config" not in record:
        raise Damaged(path, 1, "it has no config")
    return record


def commit() -> str | None:
    """The current commit, with ``-dirty`` appended if there are uncommitted changes.

    New files count if they are code: in ``kdjax`` or ``experiments``.
    """
    try:
        known = _git("describe", "--always", "--dirty", "--exclude=*")
        code = [f":/{folder}/*.py" for folder in ("kdjax", "experiments")]
        new = _git("ls-files", "--others", "--exclude-standard", "--", *code)
    except (OSError, subprocess.CalledProcessError):
        return None
    return known + ("-dirty" if new and not known.endswith("-dirty") else "")


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments],
        cwd=os.path.dirname(__file__),
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def _to_csv(table: pd.DataFrame) -> bytes:
    """The table as CSV, with the fewest digits that round-trip at each precision."""
    narrow = table.select_dtypes(["float16", "float32"])
    digits = {str(n): column.to_numpy().astype(str) for n, column in narrow.items()}
    table = table.assign(**{n: cells.astype(float) for n, cells in digits.items()})
    return table.to_csv(index=False, lineterminator="\n").encode()


def _replace_all(contents: Mapping[Path, bytes]) -> None:
    """Writes all files under temporary names, then renames them in order.

    If one cannot be written, none is renamed.
    """
    beside = {path: path.with_name(f".{path.name}.{os.getpid()}") for path in contents}
    path = ROOT
    try:
        for path, content in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(beside[path], "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for path in contents:
            os.replace(beside[path], path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        for temporary in beside.values():
            temporary.unlink(missing_ok=True)


def _whole_table(name: str, title: str) -> bytes:
    """The bytes of a table, verified against the checksum in ``meta.json``."""
    path = ROOT / name / f"{title}.csv"
    has_meta = path.with_name("meta.json").exists()
    recorded = meta(name).get("tables", {}) if has_meta else {}
    known = recorded.get(title, {})
    if known and not path.exists():
        raise Damaged(path, None, "it is missing")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() == known.get("sha256"):
        return content
    line, fault = _first_fault(content, known.get("rows"))
    if recorded and not fault:
        fault = "it is not the table that meta.json was saved with"
    if fault:
        raise Damaged(path, line, fault)
    return content


def _first_fault(content: bytes, rows: int | None) -> tuple[int | None, str]:
    """The first malformed line and a description; an empty one if none is found."""
    text = content.decode(errors="replace")
    reader = csv.reader(io.StringIO(text, newline=""))
    header, count = next(reader, []), 0
    try:
        for cells in reader:
            if len(cells) != len(header):
                fault = f"{len(cells)} cells where the header has {len(header)}"
                return reader.line_num, fault
            count += 1
    except csv.Error as error:  # a stray quote turns the rest into one huge cell
        return reader.line_num, str(error)
    if not text.endswith("\n"):
        return max(1, reader.line_num), "it ends without a newline"
    if rows is not None and count != rows:
        fault = f"it ends after {count} rows where meta.json records {rows}"
        return reader.line_num, fault
    return None, ""


def _plain(value: Any) -> Any:
    """A value that JSON can represent; NaN and infinities become strings."""
    if hasattr(value, "tolist"):  # an array or a NumPy scalar
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    return value if isinstance(value, str | int | float | None) else str(value)


def _differences(there: Any, here: Any) -> list[str]:
    """Describes each value in which two configs differ."""
    there, here = _leaves(_plain(there)), _leaves(_plain(here))
    return [
        f"{key} is {there.get(key)!r} there and {here.get(key)!r} here"
        for key in sorted(there.keys() | here.keys())
        if there.get(key) != here.get(key)
    ]


def _leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Flattens nested dictionaries to values by dotted path."""
    if not isinstance(value, dict) or not value:
        return {path: value}
    inner = ((f"{path}.{key}" if path else key, v) for key, v in value.items())
    return {k: leaf for key, v in inner for k, leaf in _leaves(v, key).items()}
