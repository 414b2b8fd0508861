"""The format of ``results/<name>/``: tables of rows, and what they are of.

``runs.csv`` has one row a run, ``curves.csv`` one row an epoch of a run, and an
experiment may add tables of its own. ``meta.json`` has the config that asked for them,
what they were made with and on which data, and a checksum of every table, so that a
file that was cut or belongs to another run is noticed. Nothing here imports jax.
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
    """A file of results is not as it was written."""

    def __init__(self, path: Path, line: int | None, fault: str):
        where = f"{path}, line {line}" if line else path
        super().__init__(
            f"{where}: {fault}; restore it from version control, or run the "
            f"experiment again with --force"
        )


def needs_run(name: str, config: Mapping[str, Any], *, force: bool = False) -> bool:
    """Whether ``config`` still has to be run, to ask before anything is computed.

    Returns False if ``results/<name>`` holds the whole results of this very config.

    Raises:
      Damaged: if it holds results, but not as they were written, and not ``force``.
      FileExistsError: if it holds those of another config, and not ``force``.
      PermissionError: if it cannot be written.
    """
    directory = ROOT / name
    try:
        directory.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=directory).close()
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

    Older results stay whole until all new files are safely on the disk.

    Args:
      name: A folder under ``results``.
      config: What was asked for. Values are those of JSON; NaN becomes a word there.
      tables: Data frames by title. Their index is not written.
      **facts: What else ``meta.json`` should say: the ``experiment``, the `commit`
        when the run began, the data set, the device, the seconds, and the numbers of
        the ``paper`` that a figure shows.

    Raises:
      OSError: naming the file, if one cannot be written.
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
    """The table ``results/<name>/<title>.csv``. Empty cells are NaN, and no words are.

    Raises:
      Damaged: if it is not as it was written.
    """
    file = io.BytesIO(_whole_table(name, title))
    # The default precision is exact from pandas 3.1 on.
    return pd.read_csv(file, keep_default_na=False, na_values=[""], low_memory=False)


def meta(name: str) -> dict[str, Any]:
    """The contents of ``results/<name>/meta.json``.

    Raises:
      Damaged: if they are not as they were written.
    """
    path = ROOT / name / "meta.json"
    try:
        record = json.loads(path.read_bytes())
    except ValueError as error:  # no JSON, or no text at all
        line, fault = getattr(error, "lineno", None), getattr(error, "msg", error)
        raise Damaged(path, line, str(fault)) from error
    if not isinstance(record, dict) or "config" not in record:
        raise Damaged(path, 1, "there is no config in it")
    return record


def commit() -> str | None:
    """The commit of the code that runs, with ``-dirty`` if it was changed since."""
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty", "--exclude=*"],
            cwd=os.path.dirname(__file__),
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _to_csv(table: pd.DataFrame) -> bytes:
    """As CSV, numbers with the fewest digits that their own precision reads back."""
    narrow = table.select_dtypes(["float16", "float32"])
    digits = {str(n): column.to_numpy().astype(str) for n, column in narrow.items()}
    table = table.assign(**{n: cells.astype(float) for n, cells in digits.items()})
    return table.to_csv(index=False, lineterminator="\n").encode()


def _replace_all(contents: Mapping[Path, bytes]) -> None:
    """Writes every file beside the old one, and renames them once all are on the disk.

    The last one is renamed last. If one cannot be written, none is renamed.
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
    """The bytes of a table, if they are those that ``meta.json`` records."""
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
    """The line where CSV first goes wrong, and how; no words if it looks whole."""
    text = content.decode(errors="replace")
    reader = csv.reader(io.StringIO(text, newline=""))
    header, count = next(reader, []), 0
    try:
        for cells in reader:
            if len(cells) != len(header):
                fault = f"{len(cells)} cells where the header has {len(header)}"
                return reader.line_num, fault
            count += 1
    except csv.Error as error:  # a quote out of place makes the rest one huge cell
        return reader.line_num, str(error)
    if not text.endswith("\n"):
        return max(1, reader.line_num), "it ends without a newline"
    if rows is not None and count != rows:
        fault = f"it ends after {count} rows where meta.json records {rows}"
        return reader.line_num, fault
    return None, ""


def _plain(value: Any) -> Any:
    """As JSON can hold it: NaN and infinities are words, which equal themselves."""
    if hasattr(value, "tolist"):  # an array or one of its numbers
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    return value if isinstance(value, str | int | float | None) else str(value)


def _differences(there: Any, here: Any) -> list[str]:
    """In which values two configs differ, in words."""
    there, here = _leaves(_plain(there)), _leaves(_plain(here))
    return [
        f"{key} is {there.get(key)!r} there and {here.get(key)!r} here"
        for key in sorted(there.keys() | here.keys())
        if there.get(key) != here.get(key)
    ]


def _leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Values by dotted path, of dictionaries inside each other."""
    if not isinstance(value, dict) or not value:
        return {path: value}
    inner = ((f"{path}.{key}" if path else key, v) for key, v in value.items())
    return {k: leaf for key, v in inner for k, leaf in _leaves(v, key).items()}
