"""Hinton's table: arms, their choice on validation, and what decides the claims."""

from dataclasses import replace

import numpy as np
import pytest

from experiments import hinton_mnist
from kdjax import results
from kdjax.data import Info
from paper_figs import fig6_hinton_mnist

CONFIG = hinton_mnist.Config()
TINY = replace(
    CONFIG,
    student_width=8,
    learning_rates=(1e-3, 1e-2),
    seeds=2,
    epochs=2,
    teacher_width=16,
    teacher_epochs=2,
)


@pytest.fixture
def ran(hasty, digits, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(results, "ROOT", tmp_path)
    info = Info("digits", "1", 10, *(len(split.y) for split in digits))
    monkeypatch.setattr("kdjax.data.load", lambda *_: (digits, info))
    hinton_mnist.main(TINY)
    return capsys.readouterr().out


def test_it_runs_from_end_to_end_and_once(ran, capsys):
    name = "hinton_mnist_mnist5k"
    assert "teacher:" in ran and "distilled, last epoch:" in ran
    rows, search = results.load(name), results.load(name, "search")
    for arm, tried in (("hard", 2), ("distilled", 4)):
        here = results.select(search, arm=arm)
        assert len(here["seed"]) == tried and (here["seed"] == 1000).all()
        assert not any(c.startswith("test") and c != "test_size" for c in here)
        best = here["learning_rate"][here["validation_errors_last"].argmin()]
        measured = results.select(rows, arm=arm)
        assert set(measured["seed"]) == {0, 1}
        errors = here["validation_errors_last"]
        if (errors == errors.min()).sum() == 1:
            assert (measured["learning_rate"] == best).all()
    assert (results.select(rows, arm="distilled")["temperature"] == 20).all()
    hinton_mnist.main(TINY)
    assert "nothing left to do" in capsys.readouterr().out
    fig6_hinton_mnist.draw(name)
    assert fig6_hinton_mnist.PAPER == hinton_mnist.PAPER


def test_a_claim_is_decided_by_the_share_of_errors():
    def rows(hard, distilled):
        return {
            "arm": np.repeat(["hard", "distilled"], len(hard)),
            "test_errors_last": np.array([*hard, *distilled], float),
        }

    found = hinton_mnist.statistics({"runs": rows([150, 140, 160], [75, 69, 81])})
    cut = found["dark_knowledge"]
    np.testing.assert_allclose(cut.value, 0.5, atol=2e-3)
    assert (
        0.48 < cut.low < cut.value < cut.high < 0.52
    )  # by pairs: errors vary together
    claims = hinton_mnist.CLAIMS
    assert results.verdict(claims["dark_knowledge"], cut) == "supported"
    none = hinton_mnist.statistics({"runs": rows([150, 150, 150], [151, 149, 150])})
    assert (
        results.verdict(claims["dark_knowledge"], none["dark_knowledge"]) == "refuted"
    )


@pytest.mark.parametrize(
    "changed, says",
    [
        ({"max_norm": 0.0}, "max_norm is 0.0"),
        ({"teacher_width": 0}, "teacher_width is 0"),
        ({"alphas": (2.0,)}, "alpha is 2.0"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"seeds": 0}, "seeds is 0"),
    ],
)
def test_a_config_that_cannot_be_is_refused(changed, says):
    with pytest.raises(ValueError, match=says):
        hinton_mnist.check(replace(CONFIG, **changed))
