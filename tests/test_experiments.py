"""Every experiment, end to end and small; and that results are those of its config."""

import json
import os
from pathlib import Path
import subprocess
import sys

import numpy as np
import pytest

from experiments import (
    claims,
    jensen_shannon_ends,
    running,
    temperature_alpha,
    tuning,
)
from kdjax import files, results

ROOT = Path(__file__).parents[1]


def command(module, *flags, cwd, **env):
    return subprocess.run(
        [sys.executable, "-m", module, *flags],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | env,
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    cwd = tmp_path_factory.mktemp("quick")
    done = command("experiments.temperature_alpha", "--quick", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return cwd, done


def test_quick_runs_end_to_end_and_says_where_it_wrote(quick):
    cwd, done = quick
    assert "wrote results/temperature_alpha_mnist5k_quick" in done.stdout
    assert "temperature" in done.stdout and "no teacher" in done.stdout
    folder = cwd / "results/temperature_alpha_mnist5k_quick"
    names = {"runs.csv", "curves.csv", "search.csv", "digits.csv", "meta.json"}
    assert {p.name for p in folder.iterdir()} == names


def test_the_table_has_every_arm_for_every_seed(quick, monkeypatch):
    monkeypatch.setattr(results, "ROOT", quick[0] / "results")
    table = results.load("temperature_alpha_mnist5k_quick")
    config = results.meta("temperature_alpha_mnist5k_quick")["config"]
    for loss, cells in (("hinton", 3 + 1), ("label_smoothing", 1)):
        rows = results.select(table, loss=loss)
        assert len(rows["seed"]) == cells * config["seeds"]
    assert (results.select(table, alpha=0)["temperature"] == 1).all()
    assert (table["test_accuracy_last"] > 0.7).all()
    assert (table["dataset"] == "mnist5k").all() and (table["train_size"] == 3500).all()
    assert set(table["seed"]) == set(range(config["seeds"]))


def test_a_second_time_nothing_is_left_to_do(quick):
    again = command("experiments.temperature_alpha", "--quick", cwd=quick[0])
    assert "nothing left to do" in again.stdout and "no teacher" in again.stdout


def test_results_of_another_config_are_kept(quick):
    folder = quick[0] / "results/temperature_alpha_mnist5k_quick"
    meta = json.loads((folder / "meta.json").read_text())
    meta["config"]["seeds"] = 77
    before = (folder / "runs.csv").read_bytes(), json.dumps(meta)
    (folder / "meta.json").write_text(before[1])
    done = command("experiments.temperature_alpha", "--quick", cwd=quick[0])
    assert done.returncode != 0 and "seeds is 77 there and 3 here" in done.stderr
    after = (folder / "runs.csv").read_bytes(), (folder / "meta.json").read_text()
    assert before == after


@pytest.mark.parametrize(
    "flags, says",
    [
        (("--temperatures", "1", "0"), "temperature is 0.0"),
        (("--temperatures", "nan"), "temperature is nan"),
        (("--temperatures", "warm"), "temperatures"),
        (("--alphas", "1.5"), "alpha is 1.5"),
        (("--alphas",), "alpha"),
        (("--seeds", "0"), "seeds is 0"),
        (("--dataset", "mnits"), "mnits"),
        (("--dataset", "mnist", "--data-dir", "nowhere"), "nowhere"),
    ],
)
def test_bad_flags_are_refused_before_anything_is_written(flags, says, tmp_path):
    done = command("experiments.temperature_alpha", *flags, cwd=tmp_path)
    assert done.returncode != 0
    assert says in done.stderr + done.stdout
    assert not list(tmp_path.glob("results/*/*"))


def test_figures_are_drawn_from_any_results_with_the_same_bytes(quick):
    name = "temperature_alpha_mnist5k_quick"
    folder = quick[0] / "results" / name
    for script in ("fig1_temperature_alpha", "fig2_softmax_at_temperature"):
        drawn = []
        for _ in range(2):
            done = command(f"paper_figs.{script}", name, cwd=quick[0])
            assert done.returncode == 0, done.stderr
            both = (folder / f"{script}.{s}" for s in ("png", "pdf"))
            drawn.append([path.read_bytes() for path in both])
        assert drawn[0] == drawn[1]


def test_the_rate_is_chosen_by_errors_and_then_likelihood():
    search = {
        "validation_errors_last": np.array([1, 2, 3, 3]),
        "validation_nll_last": np.array([0.5, 0.1, 0.4, 0.3]),
    }
    columns = {"learning_rate": np.array([1, 2, 1, 2])}
    chosen = tuning.best_rates(search, columns)
    np.testing.assert_array_equal(chosen["learning_rate"], [1, 2])
    search["validation_errors_last"][2:] = 1
    chosen = tuning.best_row(search, columns)
    np.testing.assert_array_equal(chosen["learning_rate"], [2])


@pytest.mark.parametrize(
    "module", [temperature_alpha, jensen_shannon_ends, *claims.EXPERIMENTS]
)
def test_committed_results_are_those_of_the_config_in_the_code(module):
    name = module.EXPERIMENT.name
    if not (results.ROOT / name).exists():
        pytest.skip("not run on whole MNIST yet")
    meta = results.meta(name)
    config = running.asked(module.EXPERIMENT, module.Config(dataset="mnist"))
    assert meta["config"] == json.loads(json.dumps(config))
    assert meta["fingerprint"] == files.fingerprint(meta["config"])
    assert meta["dataset"]["name"] == "mnist" and meta["dataset"]["train"] == 55_000
    assert "dirty" not in meta["commit"]


def test_committed_rates_are_those_that_the_search_chose():
    search = results.load("temperature_alpha", "search")
    runs = results.load("temperature_alpha")
    for width in np.unique(runs["student_width"]):
        for loss in np.unique(runs["loss"]):
            tried = results.select(search, student_width=width, loss=loss)
            chosen = tuning.best_rates(tried, tried)
            used = results.select(runs, student_width=width, loss=loss, seed=0)
            for name in ("temperature", "alpha", "smoothing", "learning_rate"):
                np.testing.assert_array_equal(used[name], chosen[name])
