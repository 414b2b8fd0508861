"""The three conventions at and near the ends of beta."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from experiments.mnist import jensen_shannon_ends
from kdjax import losses, models, results
from paper_figs import fig13_jensen_shannon_ends

STUDY = jensen_shannon_ends.STUDY
CONFIG = jensen_shannon_ends.Config()


@pytest.fixture(scope="module")
def pair():
    student, teacher = jax.random.normal(
        jax.random.key(0), (2, 100, 10)
    )  # as in the validation split
    return 2 * student, 3 * teacher


@pytest.fixture(scope="module")
def curves(pair):
    betas = jensen_shannon_ends.betas(CONFIG)
    found = jax.device_get(jensen_shannon_ends.measures(*pair, betas))
    return found | {"beta": betas}


@pytest.mark.parametrize("halvings", [1, 20, 24])
def test_betas_are_exact_and_go_from_0_to_1(halvings):
    betas = jensen_shannon_ends.betas(replace(CONFIG, halvings=halvings))
    assert betas[0] == 0 and betas[-1] == 1 and len(betas) == 2 * halvings + 1
    np.testing.assert_array_equal(np.float64(1) - betas, betas[::-1])
    assert betas[1] == 2.0**-halvings


@pytest.mark.parametrize("end, inner, loss", [(0, 1, "forward"), (-1, -2, "reverse")])
def test_one_vanishes_one_jumps_and_one_goes_on(pair, curves, end, inner, loss):
    kl = getattr(losses, f"{loss}_kl")(*pair).mean()
    share = min(curves["beta"][inner], 1 - curves["beta"][inner])
    assert curves["jensen_shannon"][end] == 0
    np.testing.assert_allclose(curves["jensen_shannon"][inner], share * kl, rtol=5e-3)
    np.testing.assert_allclose(curves["special_cased"][end], kl, rtol=1e-6)
    assert curves["special_cased"][end] > 1e5 * curves["special_cased"][inner]
    np.testing.assert_allclose(curves["normalized"][[end, inner]], kl, rtol=5e-3)


def test_gradients_vanish_jump_and_go_on_likewise(pair, curves):
    q, p = (jax.nn.softmax(z) for z in pair)
    forward = np.linalg.norm(q - p, axis=-1).mean()
    for name in ("special_cased", "normalized"):
        np.testing.assert_allclose(curves[f"{name}_gradient"][0], forward, rtol=1e-5)
    for end, inner in ((0, 1), (-1, -2)):
        assert curves["jensen_shannon_gradient"][end] < 1e-6
        cased = curves["special_cased_gradient"]
        assert cased[end] > 1e5 * cased[inner]
        normalized = curves["normalized_gradient"]
        np.testing.assert_allclose(normalized[end], normalized[inner], rtol=0.01)


def test_between_the_ends_the_three_differ_by_their_weight_alone(curves):
    inner = slice(1, -1)
    plain, beta = curves["jensen_shannon"][inner], np.float64(curves["beta"][inner])
    np.testing.assert_array_equal(curves["special_cased"][inner], plain)
    np.testing.assert_allclose(
        curves["normalized"][inner], plain / (beta * (1 - beta)), rtol=1e-4
    )


def test_a_student_is_measured_on_the_validation_images(digits, curves):
    model = models.mlp((), classes=10)
    variables = model.init(jax.random.key(0), digits.validation)
    alone = digits._replace(train=None, test=None)
    rows = jensen_shannon_ends.measure(CONFIG, alone, model, variables)
    committed = results.load(STUDY.name)
    assert list(rows) == list(committed)[-len(rows.columns) :]
    np.testing.assert_array_equal(rows["beta"], curves["beta"])
    q = model.apply(variables, digits.validation)[0].logits
    kl = losses.forward_kl(q, digits.validation["teacher"].logits).mean()
    np.testing.assert_allclose(rows["normalized"][0], kl, rtol=1e-5)


def test_the_figure_is_drawn_and_the_tables_shown(capsys):
    assert fig13_jensen_shannon_ends.draw(STUDY.name).axes
    STUDY.show(STUDY.tables(STUDY.name), {})
    assert "students: middle" in capsys.readouterr().out


@pytest.mark.parametrize("halvings", [0, 25, 1.5])
def test_a_config_that_cannot_be_is_refused(halvings):
    says = f"halvings is {halvings}, but takes an integer from 1 to 24"
    with pytest.raises(ValueError, match=says):
        replace(CONFIG, halvings=halvings)
