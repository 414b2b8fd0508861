"""What theory says of the fits."""

from dataclasses import replace

import jax
import numpy as np
import optax
import pytest

from experiments.toy import mode_covering
from kdjax import results
from paper_figs import fig3_mode_covering

STUDY = mode_covering.STUDY
CONFIG = mode_covering.Config(points=60, steps=4_000, seeds=5)
LOSSES = mode_covering.divergences(CONFIG)


@pytest.fixture(scope="module")
def answer(hasty):
    return mode_covering.run(CONFIG)


@pytest.fixture(scope="module")
def densities(answer):
    return mode_covering.densities(answer)


@pytest.fixture(scope="module")
def fits(answer):
    """At their end, by student and loss."""
    ends = answer.tables["runs"].query("stage == 'end'")
    return ends.groupby(["student", "loss"]).get_group


@pytest.fixture(scope="module")
def teacher(densities):
    x, p = densities["x"], densities["teacher"]
    mean = np.sum(p * x)
    deviation = np.sqrt(np.sum(p * (x - mean) ** 2))
    return {"mean": mean, "deviation": deviation, "left": p[x < 0].sum()}


def test_tables_are_as_the_committed_ones(answer, densities):
    runs, committed = answer.tables["runs"], results.load("mode_covering")
    assert list(runs) == list(committed)
    names = ["student", "loss", "stage"]
    for name in names:
        assert list(runs[name].unique()) == list(committed[name].unique())
    assert list(runs["seed"]) == 24 * list(range(5))
    assert runs.query("student == 'free'")["gaussian_mean"].isna().all()
    assert list(densities) == list(results.load("mode_covering", "densities"))


def test_the_teacher_has_two_modes_of_the_weights_asked_for(teacher):
    np.testing.assert_allclose(teacher["left"], CONFIG.weights[0], atol=1e-3)


def test_under_forward_kl_a_gaussian_matches_mean_and_variance(fits, teacher):
    rows = fits(("gaussian", "forward_kl"))
    np.testing.assert_allclose(rows["mean"], teacher["mean"], atol=1e-3)
    np.testing.assert_allclose(rows["deviation"], teacher["deviation"], rtol=1e-3)


def test_under_reverse_kl_a_gaussian_sits_on_one_mode(fits):
    rows = fits(("gaussian", "reverse_kl"))
    side = np.where(rows["mass_left"] > 0.5, 0, 1)
    assert set(side) == {0, 1}  # which one hangs on the start
    sides = rows[["mass_left", "mass_right"]]
    np.testing.assert_allclose(sides.max(axis=1), 1, atol=2e-3)
    for name, values in (("mean", CONFIG.means), ("scale", CONFIG.scales)):
        expected = np.array(values)[side]
        np.testing.assert_allclose(rows[f"gaussian_{name}"], expected, atol=0.02)
    # What is lost is log of the mode's weight.
    weights = np.array(CONFIG.weights)[side]
    np.testing.assert_allclose(rows["reverse_kl"], -np.log(weights), atol=5e-3)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_free_categorical_reaches_the_teacher(fits, loss, teacher):
    rows = fits(("free", loss))
    for name in ("loss_value", "forward_kl", "reverse_kl", "head_error"):
        np.testing.assert_allclose(rows[name], 0, atol=2e-3)
    np.testing.assert_allclose(rows["mass_left"], teacher["left"], atol=1e-3)


def test_each_loss_is_least_where_it_was_the_loss(fits):
    for loss in ("forward_kl", "reverse_kl"):
        least = min(fits(("gaussian", other))[loss].min() for other in LOSSES)
        own = fits(("gaussian", loss))
        np.testing.assert_allclose(own[loss].min(), least, rtol=1e-4)
        np.testing.assert_allclose(own[loss], own["loss_value"])


def test_a_fit_is_looked_at_early_and_ends_the_same():
    config = replace(CONFIG, early_steps=3, steps=7)
    student, key = mode_covering.free(config), jax.random.split(jax.random.key(0), 1)
    loss = LOSSES["forward_kl"]
    found = mode_covering.fit(config, student, loss, key)
    params = student.init(key[0])
    adam = optax.adam(optax.cosine_decay_schedule(config.learning_rate, 7))
    state, teacher = adam.init(params), mode_covering.mixture(config)
    for done in range(1, 8):
        updates, state = adam.update(jax.grad(loss)(params, teacher), state)
        params = optax.apply_updates(params, updates)
        if done in (3, 7):
            stage = found["early" if done == 3 else "end"]
            np.testing.assert_allclose(stage[0], params, rtol=1e-4)


def test_densities_are_those_of_the_best_start(answer, densities):
    x, runs = densities["x"], answer.tables["runs"]
    for (student, loss, stage), rows in runs.groupby(["student", "loss", "stage"]):
        q = densities[f"{student}_{loss}_{stage}"]
        best = rows["mean"][rows["loss_value"].idxmin()]
        assert abs(np.sum(q) - 1) < 1e-5 and abs(np.sum(q * x) - best) < 1e-4


def test_between_equals_the_first_start_is_shown_in_any_order(answer):
    runs = answer.tables["runs"].assign(loss_value=1.0)
    best = mode_covering.best_starts(runs.sample(frac=1, random_state=0))
    assert (best["seed"] == 0).all() and len(best) == 24


def test_the_figure_is_drawn_and_the_table_shown(answer, capsys):
    assert fig3_mode_covering.draw(STUDY.name).axes
    STUDY.show(answer.tables, {})
    assert "gaussian student" in capsys.readouterr().out


@pytest.mark.parametrize(
    "changed, says",
    [
        ({"skew": 1.5}, "skew is 1.5"),
        ({"seeds": 0}, "seeds is 0"),
        ({"scales": (1.0, 0.0)}, "scales is 0.0"),
        ({"weights": (-1.0, 2.0)}, "weights is -1.0"),
        ({"means": (1.0, 2.0, 3.0)}, "means is .* takes 2 values"),
        ({"early_steps": 10_000}, "early_steps is 10000, but takes fewer than steps"),
    ],
)
def test_a_config_that_cannot_be_is_refused(changed, says):
    with pytest.raises(ValueError, match=says):
        replace(mode_covering.Config(), **changed)
