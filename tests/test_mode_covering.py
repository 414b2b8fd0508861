"""What theory says of the fits, and that the experiment runs from end to end."""

from dataclasses import asdict, replace
import json

import numpy as np
import pytest

from experiments import mode_covering
from kdjax import files, results
from paper_figs import fig3_mode_covering

ROOT = results.ROOT
CONFIG = mode_covering.Config(points=60, steps=4_000, seeds=5)
NAME = "mode_covering_quick"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("results")
        patch.setattr(results, "ROOT", root)
        mode_covering.main(CONFIG, quick=True)
        yield root


@pytest.fixture(scope="module")
def tables(root):
    return {title: results.load(NAME, title) for title in ("runs", "densities")}


@pytest.fixture(scope="module")
def runs(tables):
    return results.select(tables["runs"], stage="end")


@pytest.fixture(scope="module")
def teacher(tables):
    x, p = tables["densities"]["x"], tables["densities"]["teacher"]
    mean = np.sum(p * x)
    deviation = np.sqrt(np.sum(p * (x - mean) ** 2))
    return {"mean": mean, "deviation": deviation, "left": p[x < 0].sum()}


def test_the_teacher_has_two_modes_of_the_weights_asked_for(teacher):
    np.testing.assert_allclose(teacher["left"], CONFIG.weights[0], atol=1e-3)


def test_under_forward_kl_a_gaussian_matches_mean_and_variance(runs, teacher):
    rows = results.select(runs, student="gaussian", loss="forward_kl")
    np.testing.assert_allclose(rows["mean"], teacher["mean"], atol=1e-3)
    np.testing.assert_allclose(rows["deviation"], teacher["deviation"], rtol=1e-3)


def test_under_reverse_kl_a_gaussian_sits_on_one_mode(runs):
    rows = results.select(runs, student="gaussian", loss="reverse_kl")
    side = np.where(rows["mass_left"] > 0.5, 0, 1)
    assert set(side) == {0, 1}  # which one hangs on the start
    np.testing.assert_allclose(
        np.maximum(rows["mass_left"], rows["mass_right"]), 1, atol=2e-3
    )
    for name, values in (("mean", CONFIG.means), ("scale", CONFIG.scales)):
        expected = np.array(values)[side]
        np.testing.assert_allclose(rows[f"gaussian_{name}"], expected, atol=0.02)
    # What is lost is log of the mode's weight.
    weights = np.array(CONFIG.weights)[side]
    np.testing.assert_allclose(rows["reverse_kl"], -np.log(weights), atol=5e-3)


@pytest.mark.parametrize("loss", mode_covering.divergences(CONFIG))
def test_a_free_categorical_reaches_the_teacher(runs, loss, teacher):
    rows = results.select(runs, student="free", loss=loss)
    for name in ("loss_value", "forward_kl", "reverse_kl", "head_error"):
        np.testing.assert_allclose(rows[name], 0, atol=2e-3)
    np.testing.assert_allclose(rows["mass_left"], teacher["left"], atol=1e-3)


def test_each_loss_is_least_where_it_was_the_loss(runs):
    for loss in ("forward_kl", "reverse_kl"):
        rows = results.select(runs, student="gaussian")
        least = rows[loss].min()
        own = results.select(rows, loss=loss)[loss].min()
        np.testing.assert_allclose(own, least, rtol=1e-4)


def test_densities_are_those_of_the_best_start(tables):
    runs, densities = tables["runs"], tables["densities"]
    x = densities["x"]
    for stage in ("early", "end"):
        for student in mode_covering.STUDENTS:
            for loss in mode_covering.divergences(CONFIG):
                q = densities[f"{student}_{loss}_{stage}"]
                rows = results.select(runs, stage=stage, student=student, loss=loss)
                best = rows["loss_value"].argmin()
                assert abs(np.sum(q) - 1) < 1e-5
                assert abs(np.sum(q * x) - rows["mean"][best]) < 1e-4


def test_a_second_time_nothing_is_left_to_do(root, capsys):
    assert results.meta(NAME)["config"] == json.loads(json.dumps(asdict(CONFIG)))
    mode_covering.main(CONFIG, quick=True)
    said = capsys.readouterr().out
    assert "nothing left to do" in said and "total_variation" in said


def test_the_figure_is_drawn_from_any_results(root):
    figure = fig3_mode_covering.draw(NAME)
    assert len(figure.axes) == 3 * 6


@pytest.mark.parametrize(
    "changed, says",
    [
        ({"skew": 1.5}, "skew is 1.5"),
        ({"seeds": 0}, "seeds is 0"),
        ({"scales": (1.0, 0.0)}, "scales are"),
        ({"weights": (-1.0, 2.0)}, "weights are"),
        ({"early_steps": 10_000}, "early_steps is 10000"),
    ],
)
def test_a_config_that_cannot_be_is_refused(changed, says):
    with pytest.raises(ValueError, match=says):
        mode_covering.check(replace(mode_covering.Config(), **changed))


def test_committed_results_are_those_of_the_config_in_the_code(monkeypatch):
    monkeypatch.setattr(results, "ROOT", ROOT)
    meta = results.meta("mode_covering")
    config = asdict(mode_covering.Config())
    assert meta["config"] == json.loads(json.dumps(config))
    assert meta["fingerprint"] == files.fingerprint(config)
    assert "dirty" not in meta["commit"]
