"""All studies are listed, and their committed results match their config."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest

import experiments
from experiments.mnist import temperature_alpha
from kdjax import files, results
from kdjax.study.selection import best_rates

STUDIES = experiments.studies()


SIZES = {  # of training, validation and test splits
    "mnist": ([55_000, 5_000, 10_000], [60_000, 0, 10_000]),
    "cifar10_10k": ([10_000, 5_000, 10_000],),
    "cifar10": ([45_000, 5_000, 10_000],),
}


def _plain(value):
    return json.loads(json.dumps(value))


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_committed_results_are_those_of_the_config_in_the_code(study):
    if not (results.ROOT / study.name / "meta.json").exists():
        pytest.skip("not run on the published data set yet")
    meta = results.meta(study.name)
    config = study.config(**study.published)
    assert meta["config"] == _plain(study.record(config))
    assert meta["fingerprint"] == files.fingerprint(meta["config"])
    assert meta["experiment"] == study.name and _plain(study.paper) == meta.get("paper")
    assert "dirty" not in meta["commit"]
    if "dataset" in study.published:
        assert meta["dataset"]["name"] == study.published["dataset"]
        train, *others = (meta["dataset"][s] for s in ("train", "validation", "test"))
        assert [train, *others] in SIZES[study.published["dataset"]]
    assert not results.needs_run(study.name, study.record(config))


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_a_quick_config_is_one_that_can_be(study):
    assert not study.is_published(study.quick_config())
    assert study.question.strip() and study.cost
    assert study.question.split("\n")[0].endswith("?")


@pytest.mark.parametrize("module, study", STUDIES.items(), ids=STUDIES)
def test_its_docstring_has_the_commands_that_run_it(module, study):
    assert f"python -m {module}" in study.question


def test_every_question_is_listed_with_its_cost_and_its_results():
    listed = subprocess.run(
        [sys.executable, "-m", "experiments"],
        env={"PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for module, study in STUDIES.items():
        assert f"python -m {module}\n" in listed
        if (results.ROOT / study.name / "meta.json").exists():
            minutes = math.ceil(results.meta(study.name)["seconds"] / 60)
            assert f"    {minutes} minutes; results/{study.name}\n" in listed
        else:
            assert f"    about {study.cost}; no results yet\n" in listed


def test_committed_rates_are_those_that_the_search_selected():
    study = temperature_alpha.STUDY
    tables = study.tables(study.name)
    runs, search = tables["runs"], tables["search"]
    axes = ["temperature", "alpha", "smoothing", "learning_rate"]
    cells = runs[runs["seed"] == 0].groupby(["student_width", "loss"])
    for cell, tried in search.groupby(["student_width", "loss"]):
        own = [axis for axis in axes if tried[axis].notna().all()]
        chosen, used = best_rates(tried, own), cells.get_group(cell)
        np.testing.assert_array_equal(used[own], chosen[own])
