"""Every cell of the grid is run, and the summary is selected on validation."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from experiments.mnist import temperature_alpha
from kdjax import results
from kdjax.models import Outputs
from kdjax.study.selection import best_rates
from kdjax.study.study import Outcome
from paper_figs import fig06_temperature_alpha, fig07_softmax_at_temperature
from tests import arms

CONFIG = temperature_alpha.Config()


def test_every_width_has_every_arm_and_every_cell_its_own_rate(digits):
    all_arms = list(temperature_alpha.arms(CONFIG, digits))
    assert [tuple(arm.columns.values()) for arm in all_arms] == [
        (width, loss)
        for width in (30, 300)
        for loss in ("hinton", "label_smoothing", "teacher_argmax")
    ]
    cells = {"hinton": 9 * 5 + 1, "label_smoothing": 3, "teacher_argmax": 1}
    for arm in all_arms:
        count = cells[arm.columns["loss"]]
        assert arms.sizes(arm) == (4 * count, 5 * count)
        assert (arm.training.epochs, arm.training.batch_size) == (15, 128)
    for arm in all_arms[:3]:
        arms.check(arm)


@pytest.mark.parametrize("alphas, cells", [((0.0,), 1), ((0.0, 0.9), 4), ((0.9,), 3)])
def test_without_a_teacher_one_temperature_is_tried(alphas, cells, digits):
    config = replace(CONFIG, temperatures=(20.0, 4.0, 8.0), alphas=alphas)
    hinton, *_ = temperature_alpha.arms(config, digits)
    assert len(hinton.settings) == 4 * cells
    hard = hinton.settings.query("alpha == 0")
    assert set(hard["temperature"]) <= {4}


def teacher(test, wrong=()):
    """Test images and an outcome whose teacher is right except for some classes."""
    rng = np.random.default_rng(0)
    logits = 9 * np.eye(10)[test["label"]] + rng.normal(size=(len(test["label"]), 10))
    logits[np.isin(test["label"], wrong)] -= 20 * np.eye(10)[list(wrong)].sum(0)
    test = {**test, "teacher": Outputs(logits.astype(np.float32))}
    return test, Outcome({}, data=temperature_alpha.setup.data.Data(None, None, test))


def test_pictured_digits_are_right_and_differ_in_entropy(digits):
    test, outcome = teacher(digits.test)
    table = temperature_alpha.digits(outcome)
    assert list(table["kind"]) == 10 * ["plain", "doubtful"]
    assert list(table["label"]) == list(np.repeat(range(10), 2))
    logits = test["teacher"].logits.astype(float)
    log_p = logits - np.logaddexp.reduce(logits, -1, keepdims=True)
    entropy = -np.sum(np.exp(log_p) * log_p, -1)
    for label in range(10):
        right = (test["label"] == label) & (logits.argmax(-1) == label)
        plain, doubtful = entropy[table.query("label == @label")["test_index"]]
        assert np.mean(entropy[right] <= plain) == pytest.approx(0.5, abs=0.1)
        assert plain < doubtful and np.mean(entropy[right] <= doubtful) > 0.9
    pixels = table.filter(like="pixel").to_numpy().reshape(-1, 28, 28)
    shown = 255 * test["image"][table["test_index"]]
    np.testing.assert_allclose(pixels, shown, atol=0.5)


def test_a_class_of_which_no_image_is_right_has_no_picture(digits):
    _, outcome = teacher(digits.test, wrong=(0, 7))
    table = temperature_alpha.digits(outcome)
    assert list(table["label"]) == list(np.repeat([1, 2, 3, 4, 5, 6, 8, 9], 2))


def test_the_summary_is_selected_on_validation():
    names = ["loss", "temperature", "alpha", "smoothing", "errors", "accuracy"]
    cells = [
        ("hinton", 1, 0, np.nan, 50, 0.90),
        ("hinton", 1, 0.9, np.nan, 40, 0.99),
        ("hinton", 4, 0.9, np.nan, 30, 0.95),
        ("label_smoothing", np.nan, np.nan, 0.1, 45, 0.91),
        ("label_smoothing", np.nan, np.nan, 0.2, 46, 0.97),
        ("teacher_argmax", np.nan, np.nan, np.nan, 60, 0.5),
    ]
    rows = [(*cell, seed) for cell in cells for seed in range(2)]
    runs = pd.DataFrame(rows, columns=[*names, "seed"]).assign(student_width=30)
    runs["test_accuracy_last"] = runs["accuracy"]
    runs["validation_errors_last"] = runs["errors"]
    found = temperature_alpha.summary(runs.sample(frac=1, random_state=1))
    assert dict(found["accuracy"]) == {
        "hard labels": "90.00 ± 0.00",
        "hinton": "95.00 ± 0.00",
        "label_smoothing": "91.00 ± 0.00",
        "teacher_argmax": "50.00 ± 0.00",
    }
    assert tuple(found.loc["hinton", ["temperature", "alpha"]]) == (4, 0.9)
    assert found.loc["label_smoothing", "smoothing"] == 0.1


def test_committed_rates_are_those_that_the_search_chose():
    search, runs = (
        results.load("temperature_alpha", title).groupby(["student_width", "loss"])
        for title in ("search", "runs")
    )
    axes = [*temperature_alpha.SETTING, "learning_rate"]
    for arm, tried in search:
        used = runs.get_group(arm).query("seed == 0")[axes].reset_index(drop=True)
        chosen = best_rates(tried, axes)[axes].reset_index(drop=True)
        pd.testing.assert_frame_equal(used, chosen)


@pytest.mark.parametrize(
    "figure", [fig06_temperature_alpha, fig07_softmax_at_temperature]
)
def test_the_figures_are_drawn(figure):
    assert figure.draw("temperature_alpha").axes


@pytest.mark.parametrize(
    "changed, says",
    [
        ({"temperatures": (1.0, 0.0)}, "temperatures is 0.0"),
        ({"temperatures": (float("nan"),)}, "temperatures is nan"),
        ({"alphas": (1.5,)}, "alphas is 1.5"),
        ({"smoothings": ()}, "smoothings is"),
        ({"batch_size": 0}, "batch_size is 0"),
    ],
)
def test_a_config_that_cannot_be_is_refused(changed, says):
    with pytest.raises(ValueError, match=says):
        replace(CONFIG, **changed)
