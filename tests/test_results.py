import json
import os

import numpy as np
import pytest

from kdjax import files, results

CONFIG = {"temperatures": [1.0, 4.0], "seeds": 5}
TABLE = {
    "loss": np.array(["hinton", "label_smoothing"]),
    "temperature": np.array([0.1, np.nan], np.float32),
    "errors": np.array([3, 70_000]),
}


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "ROOT", tmp_path / "results")
    return tmp_path / "results"


def test_what_is_saved_is_loaded():
    results.save("x", CONFIG, {"runs": TABLE}, device="cpu")
    table = results.load("x")
    np.testing.assert_array_equal(table["loss"], TABLE["loss"])
    np.testing.assert_array_equal(table["temperature"], [0.1, np.nan])
    np.testing.assert_array_equal(table["errors"], TABLE["errors"])
    meta = results.meta("x")
    assert meta["config"] == CONFIG and meta["device"] == "cpu"
    assert meta["fingerprint"] == files.fingerprint(CONFIG)
    assert meta["versions"]["jax"] and meta["versions"]["python"]


def test_float32_is_written_as_short_as_it_can_be_read_back(root):
    results.save("x", CONFIG, {"runs": TABLE})
    assert "hinton,0.1,3\n" in (root / "x" / "runs.csv").read_text()


def test_results_of_the_same_config_need_not_be_made_again():
    assert results.ready("x", CONFIG)
    results.save("x", CONFIG, {"runs": TABLE})
    assert not results.ready("x", CONFIG)
    assert not results.ready("x", CONFIG | {"temperatures": (1, 4)})  # as in JSON
    assert results.ready("x", CONFIG, force=True)


def test_results_of_another_config_are_not_overwritten():
    results.save("x", CONFIG, {"runs": TABLE})
    with pytest.raises(FileExistsError, match="seeds is 5 there and 6 here.*--force"):
        results.ready("x", CONFIG | {"seeds": 6})
    assert results.ready("x", CONFIG | {"seeds": 6}, force=True)


def test_a_results_directory_that_cannot_be_written(root):
    root.write_text("a file where the directory should be")
    with pytest.raises(PermissionError, match="results directory"):
        results.ready("x", CONFIG)


def test_a_run_killed_while_it_saves_leaves_no_meta(root, monkeypatch):
    results.save("x", CONFIG, {"runs": TABLE})

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", killed)
        results.save("x", CONFIG, {"runs": TABLE})
    assert results.ready("x", CONFIG)  # to be made again
    assert {p.name for p in (root / "x").iterdir()} == {"runs.csv"}  # and no litter


def test_select_and_concatenate():
    table = results.concatenate(
        [{"a": np.array([1, 2]), "b": np.array([3, 4])}, {"a": np.array([2])}]
    )
    np.testing.assert_array_equal(table["b"], [3, 4, np.nan])
    np.testing.assert_array_equal(results.select(table, a=2)["b"], [4, np.nan])


def test_the_setting_with_the_fewest_validation_errors_is_chosen():
    table = {
        "alpha": np.array([0.5, 0.9, 0.5, 0.9]),
        "validation_errors_last": np.array([3, 2, 3, 3]),
        "test_errors_last": np.array([0, 9, 0, 9]),
    }
    np.testing.assert_array_equal(results.choose(table, "alpha")["alpha"], [0.9, 0.9])


def test_interval_is_students():
    mean, half = results.interval(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    assert mean == 3 and abs(half - 2.776445 * np.sqrt(2.5 / 5)) < 1e-5
    assert np.isnan(results.interval(np.array([1.0]))[1])


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


def test_a_verdict_wants_the_whole_interval():
    claim = results.Claim("says", "measures", supported=(0.1, None), refuted=(None, 0))
    for low, high, expected in (
        (0.1, 5.0, "supported"),
        (0.05, 5.0, "undecided"),
        (-3.0, 0.0, "refuted"),
        (-3.0, 0.01, "undecided"),
    ):
        found = results.Estimate((low + high) / 2, low, high)
        assert results.verdict(claim, found) == expected
    within = claim._replace(supported=(0, 1), refuted=(1, 2))
    assert results.verdict(within, results.Estimate(0.5, 0.2, 0.8)) == "supported"
    assert results.verdict(within, results.Estimate(0.9, 0.2, 1.2)) == "undecided"


def test_a_bootstrap_draws_whole_seeds():
    seeds = np.repeat(np.arange(10.0), 4)
    table = {"seed": seeds, "value": np.tile(np.arange(4.0), 10) + seeds}
    found = results.bootstrap(lambda t: t["value"].mean(), table)
    assert found.value == 6.0 and found.low < found.value < found.high
    spread = np.std(np.arange(10)) / np.sqrt(10)  # rows of a seed are no more evidence
    np.testing.assert_allclose(found.high - found.low, 2 * 1.96 * spread, rtol=0.1)
    assert results.bootstrap(lambda t: t["value"].mean(), table) == found


def test_an_estimate_is_a_mean_and_its_interval():
    found = results.estimate(np.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(found.value, 2)
    np.testing.assert_allclose(found.high - 2, 4.303 / np.sqrt(3), rtol=1e-3)
    np.testing.assert_allclose(2 - found.low, found.high - 2)


def test_a_ratio_is_all_that_its_pairs_do_not_exclude():
    """Its ends are where the mean of ``part - end * whole`` just may be 0."""
    rng = np.random.default_rng(0)
    whole = rng.normal(10, 3, 6)
    part = 0.4 * whole + rng.normal(0, 2, 6)
    found = results.ratio(part, whole)
    assert found.value == pytest.approx(part.mean() / whole.mean())
    for end in found[1:]:
        mean, half = results.interval(part - end * whole)
        assert abs(mean) == pytest.approx(half)
    assert found.low < found.value < found.high
    exact = results.ratio(0.25 * whole, whole)
    assert exact == pytest.approx((0.25, 0.25, 0.25))


@pytest.mark.parametrize("whole", [[-3.0, 1, 2, 4], [1.0]])
def test_a_ratio_to_what_may_be_nothing_is_not_known(whole):
    found = results.ratio(np.ones(len(whole)), np.array(whole))
    assert np.isnan(found).all()
