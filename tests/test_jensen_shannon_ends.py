"""The three conventions at and near their ends, and the experiment end to end."""

from dataclasses import asdict, replace
import json

import jax
import numpy as np
import pytest

from experiments import jensen_shannon_ends
from kdjax import losses, results
from kdjax.data import Info
from paper_figs import fig5_jensen_shannon_ends

CONFIG = jensen_shannon_ends.Config()
TINY = replace(
    CONFIG, student_width=8, seeds=2, epochs=2, teacher_width=16, teacher_epochs=1
)


@pytest.fixture(scope="module")
def pair():
    student, teacher = jax.random.normal(jax.random.key(0), (2, 50, 10))
    return 2 * student, 3 * teacher


@pytest.fixture(scope="module")
def curves(pair):
    betas = jensen_shannon_ends.betas(CONFIG)
    measures = jensen_shannon_ends.measure(*pair, betas)
    return {n: np.asarray(c) for n, c in measures.items()} | {"beta": betas}


def test_betas_are_exact_and_go_from_0_over_a_millionth_to_1():
    betas = jensen_shannon_ends.betas(CONFIG)
    assert betas[0] == 0 and 0 < betas[1] < 1e-6 and betas[-1] == 1
    np.testing.assert_array_equal(np.float64(1) - betas, betas[::-1])


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


@pytest.mark.parametrize(
    "changed, says",
    [({"halvings": 25}, "halvings is 25"), ({"seeds": 0}, "seeds is 0")],
)
def test_a_config_that_cannot_be_is_refused(changed, says):
    with pytest.raises(ValueError, match=says):
        jensen_shannon_ends.check(replace(CONFIG, **changed))


def test_it_runs_from_end_to_end(digits, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(results, "ROOT", tmp_path)
    info = Info("digits", "1", 10, *(len(split.y) for split in digits))
    monkeypatch.setattr("kdjax.data.load", lambda *_: (digits, info))
    jensen_shannon_ends.main(TINY)
    name = "jensen_shannon_ends_mnist5k"
    assert "students: start" in capsys.readouterr().out
    assert results.meta(name)["config"] == json.loads(json.dumps(asdict(TINY)))
    rows = 3 * TINY.seeds * len(jensen_shannon_ends.betas(TINY))
    assert len(results.load(name)["seed"]) == rows
    jensen_shannon_ends.main(TINY)
    assert "nothing left to do" in capsys.readouterr().out
    fig5_jensen_shannon_ends.draw(name)
