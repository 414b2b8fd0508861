"""The fits agree with theory."""

from dataclasses import replace
import itertools

import jax
import numpy as np
import optax
import pytest

from experiments.toy import mode_covering
from kdjax import losses
from paper_figs import fig11_mode_covering

STUDY = mode_covering.STUDY
CONFIG = mode_covering.Config(points=60, steps=4_000, seeds=5)
TWO = ("forward_kl", "reverse_kl")  # fitted here


@pytest.fixture(scope="module")
def here(one_device):
    """The tables of a run with few points and two divergences."""
    with pytest.MonkeyPatch.context() as patch:
        every = mode_covering.divergences(CONFIG)
        two = {name: every[name] for name in TWO}
        patch.setattr(mode_covering, "divergences", lambda config: two)
        outcome = mode_covering.run(CONFIG)
    return outcome.tables | {"densities": mode_covering.densities(outcome)}


@pytest.fixture(scope="module", params=["committed", "here"])
def tables(request):
    if request.param == "committed":
        return STUDY.tables(STUDY.name)
    return request.getfixturevalue("here")


@pytest.fixture(scope="module")
def densities(tables):
    return tables["densities"]


@pytest.fixture(scope="module")
def last(tables):
    return tables["runs"].query("stage == 'end'")


@pytest.fixture(scope="module")
def fits(last):
    """Looks up the fits of a student and loss."""
    return last.groupby(["student", "loss"]).get_group


@pytest.fixture(scope="module")
def teacher(densities):
    x, p = densities["x"], densities["teacher"]
    mean = np.sum(p * x)
    deviation = np.sqrt(np.sum(p * (x - mean) ** 2))
    return {"mean": mean, "deviation": deviation, "left": p[x < 0].sum()}


def test_tables_are_as_the_committed_ones(here):
    runs, committed = here["runs"], STUDY.tables(STUDY.name)
    assert list(runs) == list(committed["runs"])
    rows = itertools.product(("gaussian", "free"), TWO, ("early", "end"), range(5))
    names = ["student", "loss", "stage", "seed"]
    assert list(runs[names].itertuples(index=False, name=None)) == list(rows)
    assert runs.query("student == 'free'")["gaussian_mean"].isna().all()
    assert set(here["densities"]) <= set(committed["densities"])
    assert list(here["densities"])[:3] == ["x", "teacher", "gaussian_forward_kl_early"]
    assert len(here["densities"].columns) == 2 + 8
    known = committed["runs"]["loss"].unique()
    assert list(mode_covering.divergences(CONFIG)) == list(known)


def test_the_teacher_has_two_modes_of_the_weights_asked_for(teacher):
    np.testing.assert_allclose(teacher["left"], CONFIG.weights[0], atol=1e-3)


def test_under_forward_kl_a_gaussian_matches_mean_and_variance(fits, teacher):
    rows = fits(("gaussian", "forward_kl"))
    np.testing.assert_allclose(rows["mean"], teacher["mean"], atol=1e-3)
    np.testing.assert_allclose(rows["deviation"], teacher["deviation"], rtol=1e-3)


def test_under_reverse_kl_a_gaussian_sits_on_one_mode(fits):
    rows = fits(("gaussian", "reverse_kl"))
    side = np.where(rows["mass_left"] > 0.5, 0, 1)
    assert set(side) == {0, 1}  # which one depends on the start
    sides = rows[["mass_left", "mass_right"]]
    np.testing.assert_allclose(sides.max(axis=1), 1, atol=2e-3)
    for name, values in (("mean", CONFIG.means), ("scale", CONFIG.scales)):
        expected = np.array(values)[side]
        np.testing.assert_allclose(rows[f"gaussian_{name}"], expected, atol=0.02)
    # The loss is minus the log of the mode's weight.
    weights = np.array(CONFIG.weights)[side]
    np.testing.assert_allclose(rows["reverse_kl"], -np.log(weights), atol=5e-3)


def test_free_logits_reach_the_teacher_under_every_divergence(last, teacher):
    rows = last.query("student == 'free'")
    for name in ("loss_value", "forward_kl", "reverse_kl", "head_error"):
        np.testing.assert_allclose(rows[name], 0, atol=2e-3)
    np.testing.assert_allclose(rows["mass_left"], teacher["left"], atol=1e-3)


def test_each_loss_is_least_where_it_was_the_loss(last, fits):
    for loss in TWO:
        least = last.query("student == 'gaussian'")[loss].min()
        own = fits(("gaussian", loss))
        np.testing.assert_allclose(own[loss].min(), least, rtol=1e-4)
        np.testing.assert_allclose(own[loss], own["loss_value"], rtol=1e-6)


def test_a_fit_is_looked_at_early_and_ends_the_same(one_device):
    config = replace(CONFIG, early_steps=3, steps=7)
    student, key = mode_covering.free(config), jax.random.split(jax.random.key(0), 1)
    found = mode_covering.fit(config, student, losses.total_variation, key)
    adam = optax.adam(optax.cosine_decay_schedule(config.learning_rate, 7))
    teacher = mode_covering.mixture(config)

    @jax.jit
    def step(params, state):
        gradient = jax.grad(losses.total_variation)(params, teacher)
        updates, state = adam.update(gradient, state)
        return optax.apply_updates(params, updates), state

    params = student.init(key[0])
    state, after = adam.init(params), {}
    for done in range(1, 8):
        params, state = step(params, state)
        after[done] = params
    np.testing.assert_allclose(found["early"][0], after[3], rtol=1e-4)
    np.testing.assert_allclose(found["end"][0], after[7], rtol=1e-4)


def test_densities_are_those_of_the_best_start(tables, densities):
    x = densities["x"]
    for fit, rows in tables["runs"].groupby(mode_covering.FIT):
        q = densities["_".join(fit)]
        best = rows["mean"][rows["loss_value"].idxmin()]
        assert abs(np.sum(q) - 1) < 1e-5 and abs(np.sum(q * x) - best) < 1e-4


def test_between_equals_the_first_start_is_shown_in_any_order(here):
    runs = here["runs"].assign(loss_value=1.0)
    best = mode_covering.best_starts(runs.sample(frac=1, random_state=0))
    assert (best["seed"] == 0).all() and len(best) == 8


def test_the_figure_is_drawn_and_the_table_shown(tables, capsys):
    assert fig11_mode_covering.draw(STUDY.name).axes
    STUDY.show(tables, {})
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
