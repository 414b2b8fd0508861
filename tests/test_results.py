import json
import math
import os
from pathlib import Path
import subprocess

import numpy as np
import pandas as pd
import pytest

from kdjax import files, results

COMMITTED = Path(__file__).parents[1] / "results"
FOLDERS = [
    path.parent
    for path in sorted(COMMITTED.glob("*/meta.json"))
    if not path.parent.name.endswith(("_mnist5k", "_quick"))  # git ignores them
]
CONFIG = {"temperatures": [1.0, 4.0], "seeds": 5}
RUNS = pd.DataFrame(
    {
        "loss": ["hinton", "none", "NA", "label, smoothing"],
        "temperature": np.float32([0.1, np.nan, 1e9, 4]),
        "errors": [3, 70_000, 0, 1],
    }
)
CURVES = pd.DataFrame({"epoch": [1, 2], "nll": [0.1, np.inf]})
TABLES = {"runs": RUNS, "curves": CURVES}


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "ROOT", tmp_path / "results")
    return tmp_path / "results"


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_commit_with_new_code_is_dirty(tmp_path, monkeypatch):
    def git(*arguments):
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True)

    for folder in ("kdjax", "experiments", "results"):
        (tmp_path / folder).mkdir()
    (code := tmp_path / "kdjax/results.py").write_text("")
    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "first")
    monkeypatch.setattr(results, "__file__", str(code))
    clean = results.commit()
    (tmp_path / "results/meta.json").write_text("{}")
    assert results.commit() == clean and "dirty" not in clean
    (new := tmp_path / "experiments/mine.py").write_text("")
    assert results.commit() == f"{clean}-dirty"
    new.unlink()
    code.write_text("#")
    assert results.commit() == f"{clean}-dirty"


def test_what_is_saved_is_loaded():
    assert results.save("x", CONFIG, TABLES) == results.ROOT / "x"
    runs = results.load("x")
    assert list(runs["loss"]) == ["hinton", "none", "NA", "label, smoothing"]
    np.testing.assert_array_equal(runs["temperature"], [0.1, np.nan, 1e9, 4])
    assert runs["errors"].dtype == int and list(runs["errors"]) == [3, 70_000, 0, 1]
    pd.testing.assert_frame_equal(results.load("x", "curves"), CURVES)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_committed_tables_are_saved_as_they_were(folder, root, monkeypatch):
    titles = [path.stem for path in folder.glob("*.csv")]
    with monkeypatch.context() as patch:
        patch.setattr(results, "ROOT", COMMITTED)
        tables = {title: results.load(folder.name, title) for title in titles}
        record = results.meta(folder.name)
        assert folder.name.startswith(record["experiment"])  # or as --name says
        assert not results.needs_run(folder.name, record["config"])
    results.save("x", record["config"], tables)
    again = results.meta("x")
    assert again["fingerprint"] == record["fingerprint"]
    assert again["tables"] == record["tables"]
    for title in titles:
        written = (root / "x" / f"{title}.csv").read_bytes()
        assert written == (folder / f"{title}.csv").read_bytes()


def test_every_float_is_read_back_exactly():
    bits = np.random.default_rng(0).integers(0, 2**64, 20_000, np.uint64)
    numbers = bits.view(np.float64)
    numbers = numbers[np.isfinite(numbers)]
    results.save("x", CONFIG, {"runs": pd.DataFrame({"number": numbers})})
    np.testing.assert_array_equal(results.load("x")["number"], numbers)


def test_float32_has_the_digits_that_it_needs_and_keeps_them(root):
    bits = np.random.default_rng(0).integers(0, 2**32, 20_000, np.uint32)
    numbers = np.append(bits.view(np.float32), np.float32(0.1))
    numbers = numbers[np.isfinite(numbers)]
    results.save("x", CONFIG, {"runs": pd.DataFrame({"number": numbers})})
    loaded = results.load("x")
    np.testing.assert_array_equal(loaded["number"].astype(np.float32), numbers)
    assert (root / "x" / "runs.csv").read_text().endswith("\n0.1\n")
    results.save("y", CONFIG, {"runs": loaded})
    assert contents(root / "x")["runs.csv"] == contents(root / "y")["runs.csv"]


def test_meta_says_what_was_asked_and_what_was_made():
    results.save("x", CONFIG, TABLES, device="cpu", paper={"hard": np.int64(146)})
    meta = results.meta("x")
    assert meta["config"] == CONFIG and meta["device"] == "cpu"
    assert meta["paper"] == {"hard": 146}
    assert meta["fingerprint"] == files.fingerprint(CONFIG)
    assert meta["versions"]["jax"] and meta["versions"]["python"]
    assert {t: table["rows"] for t, table in meta["tables"].items()} == {
        "runs": 4,
        "curves": 2,
    }


def test_meta_is_json_whatever_the_numbers(root):
    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    config = {"alpha": math.nan, "bounds": (-math.inf, np.float32(np.inf))}
    results.save("x", config, TABLES, nll=math.nan, mean=np.float64(2), where=Path("a"))
    text = (root / "x" / "meta.json").read_text()
    meta = json.loads(text, parse_constant=refuse)
    assert meta["config"] == {"alpha": "NaN", "bounds": ["-Infinity", "Infinity"]}
    assert (meta["nll"], meta["mean"], meta["where"]) == ("NaN", 2, "a")


def test_results_of_the_same_config_need_no_run():
    assert results.needs_run("x", CONFIG)
    results.save("x", CONFIG, TABLES)
    assert not results.needs_run("x", CONFIG)
    assert not results.needs_run("x", CONFIG | {"temperatures": (1, 4)})  # as in JSON
    assert results.needs_run("x", CONFIG, force=True)


def test_a_config_with_nan_is_the_same_as_itself(root):
    config = {"alpha": math.nan, "seeds": 5}
    results.save("x", config, TABLES)
    assert not results.needs_run("x", config)
    path = root / "x" / "meta.json"
    path.write_text(path.read_text().replace('"NaN"', "NaN"))  # as in older files
    assert not results.needs_run("x", config)
    with pytest.raises(FileExistsError, match="alpha is 'NaN' there and 1 here"):
        results.needs_run("x", config | {"alpha": 1})


def test_results_of_another_config_are_not_overwritten():
    config = CONFIG | {"claims": {"gap": {"above": 0.2}, "sweet": {"above": 0.1}}}
    results.save("x", config, TABLES)
    other = json.loads(json.dumps(config | {"seeds": 6}))
    other["claims"]["gap"]["above"] = 0.3
    with pytest.raises(FileExistsError) as error:
        results.needs_run("x", other)
    assert str(error.value) == (
        f"{results.ROOT / 'x'} holds results of another config: claims.gap.above is "
        f"0.2 there and 0.3 here; seeds is 5 there and 6 here. Pass --force to replace "
        f"them"
    )
    assert results.needs_run("x", other, force=True)


def test_a_results_directory_that_cannot_be_written(root):
    root.write_text("a file where the directory should be")
    with pytest.raises(PermissionError, match="results directory"):
        results.needs_run("x", CONFIG)


@pytest.mark.parametrize("place, name", [(0, "runs"), (1, "curves"), (2, "meta")])
def test_a_full_disk_leaves_the_old_results_whole(place, name, root, monkeypatch):
    results.save("x", CONFIG, TABLES)
    before, calls = contents(root / "x"), []

    def full(_):
        calls.append(1)
        if len(calls) == place + 1:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match=f"No space left.*x/{name}\\."):
            results.save("x", CONFIG, {t: table[:1] for t, table in TABLES.items()})
    assert contents(root / "x") == before


def test_a_fact_that_json_cannot_hold_costs_no_results(root):
    results.save("x", CONFIG, TABLES, teacher=object())
    assert results.meta("x")["teacher"].startswith("<object")


@pytest.mark.parametrize("renamed", range(3))
def test_a_mixture_of_old_and_new_is_noticed(renamed, root, monkeypatch):
    results.save("x", CONFIG, TABLES)
    before, replace, calls = contents(root / "x"), os.replace, []

    def killed(*paths):
        if len(calls) == renamed:
            raise KeyboardInterrupt
        calls.append(paths)
        replace(*paths)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", killed)
        results.save("x", CONFIG, {t: table + table for t, table in TABLES.items()})
    after = contents(root / "x")
    assert after.keys() == before.keys()  # no temporary files
    assert after["meta.json"] == before["meta.json"]  # is renamed last
    if not renamed:
        assert after == before and not results.needs_run("x", CONFIG)
        return
    with pytest.raises(results.Damaged, match=r"runs\.csv: .*--force"):
        results.needs_run("x", CONFIG)
    with pytest.raises(results.Damaged, match="not the table that meta.json was saved"):
        results.load("x")
    assert results.needs_run("x", CONFIG, force=True)


@pytest.mark.parametrize("old", [False, True])
def test_a_table_cut_anywhere_is_damaged(old, root):
    """Older results lack checksums, so truncation between rows goes unnoticed."""
    results.save("x", CONFIG, TABLES)
    path, meta = root / "x" / "runs.csv", root / "x" / "meta.json"
    if old:
        record = json.loads(meta.read_text())
        del record["tables"]
        meta.write_text(json.dumps(record))
        assert not results.needs_run("x", CONFIG)
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        if old and whole[:size].endswith(b"\n"):
            assert len(results.load("x")) == whole[:size].count(b"\n") - 1
            continue
        for look in (lambda: results.needs_run("x", CONFIG), lambda: results.load("x")):
            with pytest.raises(results.Damaged) as error:
                look()
            line = max(1, len(whole[:size].splitlines()))
            assert f"{path}, line {line}: " in str(error.value)


def test_what_is_wrong_with_a_table_is_said(root):
    results.save("x", CONFIG, TABLES)
    path = root / "x" / "runs.csv"
    lines = path.read_text().splitlines(keepends=True)
    advice = (
        "; restore it from version control, or run the experiment again with --force"
    )

    def says(text):
        path.write_text(text)
        with pytest.raises(results.Damaged) as error:
            results.load("x")
        message = str(error.value).removeprefix(str(path))
        assert message.endswith(advice)
        return message.removesuffix(advice)

    cut = "".join(lines)[:-3]  # without the last comma
    assert says(cut) == ", line 5: 2 cells where the header has 3"
    assert says("".join(lines)[:-1]) == ", line 5: it ends without a newline"
    fault = ", line 3: it ends after 2 rows where meta.json records 4"
    assert says("".join(lines[:3])) == fault
    assert says("".join([lines[0], "a,1\n", *lines[2:]])).startswith(
        ", line 2: 2 cells"
    )
    other = ": it is not the table that meta.json was saved with"
    assert says("".join(lines).replace("70000", "70001")) == other
    quote = "".join([lines[0], '"', 140_000 * "x"])
    assert "field larger than field limit" in says(quote)


def test_a_table_that_is_missing_or_another_one(root):
    results.save("x", CONFIG, TABLES)
    (root / "x" / "curves.csv").rename(root / "x" / "search.csv")
    with pytest.raises(results.Damaged, match="search.csv: it is not the table"):
        results.load("x", "search")
    with pytest.raises(results.Damaged, match="curves.csv: it is missing"):
        results.needs_run("x", CONFIG)
    with pytest.raises(FileNotFoundError):
        results.load("y")


def test_tables_without_meta_are_loaded_but_need_a_run(root):
    results.save("x", CONFIG, TABLES)
    (root / "x" / "meta.json").unlink()
    assert len(results.load("x")) == 4 and results.needs_run("x", CONFIG)


def test_meta_cut_anywhere_is_damaged(root):
    results.save("x", CONFIG, TABLES)
    path = root / "x" / "meta.json"
    whole = path.read_bytes()
    for size in range(len(whole) - 1):  # the last newline is not part of the JSON
        path.write_bytes(whole[:size])
        for look in (lambda: results.needs_run("x", CONFIG), lambda: results.meta("x")):
            with pytest.raises(results.Damaged, match=rf"{path}, line \d+: .*--force"):
                look()
    assert results.needs_run("x", CONFIG, force=True)
    path.write_bytes(whole[: whole.index(b'"seeds"')])
    line = whole[: whole.index(b'"seeds"')].count(b"\n") + 1
    with pytest.raises(results.Damaged, match=f"meta.json, line {line}: Expecting"):
        results.meta("x")


@pytest.mark.parametrize(
    "content", [b"null\n", b"{}\n", b'{"config": "\xff"}', b"\0" * 9]
)
def test_meta_that_is_something_else_is_damaged(content, root):
    (root / "x").mkdir(parents=True)
    (root / "x" / "meta.json").write_bytes(content)
    with pytest.raises(results.Damaged, match=r"meta\.json.*--force"):
        results.needs_run("x", CONFIG)


def test_atomic_is_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "file"
    with files.atomic(path) as temporary:
        temporary.write_text("whole")
    with pytest.raises(RuntimeError), files.atomic(path) as temporary:
        temporary.write_text("ha")
        raise RuntimeError
    assert path.read_text() == "whole" and len(list(path.parent.iterdir())) == 1


def test_fingerprint_is_of_content():
    assert files.fingerprint({"a": 1, "b": (2,)}) == files.fingerprint(
        json.loads('{"b": [2], "a": 1}')
    )
    assert files.fingerprint({"a": 1}) != files.fingerprint({"a": 2})
