"""Hinton's section 3, with held-out images and on all of them."""

import numpy as np
import pandas as pd
import pytest

from experiments.mnist import hinton, hinton_refit
from kdjax import results
from kdjax.study.claims import measured, verdict
from kdjax.study.selection import best_row

CONFIG = hinton.Config()


def rows(hard, distilled):
    seeds = range(len(hard))
    return pd.DataFrame(
        {
            "seed": [*seeds, *seeds],
            "arm": ["hard"] * len(hard) + ["distilled"] * len(distilled),
            "test_errors_last": [*hard, *distilled],
        }
    )


def test_two_arms_choose_from_rates_and_from_the_teachers_weights(digits):
    hard, distilled = hinton.arms(CONFIG, digits)
    assert hard.columns == {"arm": "hard", "student_width": 800}
    assert dict(hard.axes) == {"learning_rate": CONFIG.learning_rates}
    assert distilled.axes["temperature"] == [20.0]
    assert distilled.axes["alpha"] == (0.5, 1.0)
    for arm in (hard, distilled):
        assert arm.choose is best_row and arm.seeds == 10
        assert arm.training.epochs == 40 and arm.training.batch_size == 128


@pytest.mark.parametrize("claim", [hinton.CLAIMS, hinton_refit.CLAIMS])
def test_a_claim_is_decided_by_the_share_of_errors_pair_by_pair(claim):
    (claim,) = claim.values()
    found = measured(claim, {"runs": rows([150, 140, 160], [75, 69, 81])})
    np.testing.assert_allclose(found.value, 0.5, atol=2e-3)
    assert 0.48 < found.low < found.high < 0.52  # errors of a pair are correlated
    assert verdict(claim, found) == "supported"
    none = measured(claim, {"runs": rows([150, 150, 150], [151, 149, 150])})
    assert verdict(claim, none) == "refuted"


def test_the_order_of_the_rows_pairs_nothing():
    runs = rows([150, 140, 160], [75, 70, 80])
    shuffled = runs.sample(frac=1, random_state=0)
    np.testing.assert_allclose(hinton.share_taken(runs), [0.5, 0.5, 0.5])
    np.testing.assert_allclose(hinton.share_taken(shuffled), [0.5, 0.5, 0.5])


def test_a_refit_trains_on_every_image_that_is_not_for_testing(digits):
    images = hinton_refit.everything(digits)
    assert len(images.train["label"]) == len(images.train["image"]) == 800
    np.testing.assert_array_equal(
        images.train["label"][700:], digits.validation["label"]
    )
    assert images.validation is None and images.test is digits.test


def test_a_refit_takes_the_settings_that_were_selected():
    runs, config = results.load("hinton_mnist"), hinton_refit.Config()
    for arm, (_, settings) in hinton_refit.arms(config).items():
        used = runs[runs["arm"] == arm]
        for name, (value,) in settings.items():
            assert (used[name] == value).all()
    for name in ("student_width", "seeds", "epochs", "teacher_epochs", "max_norm"):
        assert getattr(config, name) == getattr(CONFIG, name)
