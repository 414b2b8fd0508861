"""The arms of the experiment, and how its claims are decided."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from experiments.mnist import temperature_width
from kdjax.study.study import Outcome
from paper_figs import fig05_temperature_width
from tests import arms

STUDY = temperature_width.STUDY
CONFIG = temperature_width.Config()


def test_every_width_has_its_seeds_and_every_cell_its_own_rate(digits):
    all_arms = list(temperature_width.arms(CONFIG, digits))
    assert [(arm.columns["arm"], arm.seeds) for arm in all_arms] == [
        (name, seeds) for seeds in (10, 10, 10, 5, 3) for name in ("hard", "distilled")
    ]
    for arm in all_arms:
        cells = 24 if arm.columns["arm"] == "distilled" else 1
        assert arms.sizes(arm) == (4 * cells, arm.seeds * cells)
        assert arm.training.epochs == 15 and arm.data is digits
    assert f"{arms.runs(all_arms):,} runs" in temperature_width.__doc__
    for arm in all_arms[:2]:  # the others differ in width
        arms.check(arm)


def rows(width, errors, seeds, hard=200.0):
    """Runs of a width with ``errors[t]`` errors plus a term of the seed."""
    found = [("hard", np.nan, np.nan, s, hard + 10 * s) for s in range(seeds)]
    for t, mean in errors.items():
        found += [("distilled", 1.0, t, s, mean + 10 * s) for s in range(seeds)]
        found += [("distilled", 0.9, t, s, 1) for s in range(seeds)]  # with labels
    names = ["arm", "alpha", "temperature", "seed", "test_errors_last"]
    table = pd.DataFrame(found, columns=names).assign(student_width=width)
    table["validation_errors_last"] = table["test_errors_last"] / 2
    table["test_accuracy_last"] = 1 - table["test_errors_last"] / 10_000
    return table.sample(frac=1, random_state=0)  # the order of rows must not matter


def decided(narrow, wide):
    return arms.decided(STUDY, pd.concat([rows(30, narrow, 4), rows(300, wide, 3)]))


LOW_BEST = {2: 120.0, 2.5: 100, 4: 102, 8: 110, 12: 130, 20: 150, 40: 190, 100: 220}
FLAT = {2: 200.0, 2.5: 150, 4: 90, 8: 100, 12: 100, 20: 100, 40: 104, 100: 102}


def test_claims_are_decided_by_their_statistics():
    values, verdicts = decided(LOW_BEST, FLAT)
    assert verdicts == {
        "noise": "refuted",
        "no_signal_wide": "refuted",
        "no_signal_narrow": "supported",
        "usual_wide": "supported",
        "usual_narrow": "refuted",
        "above_narrow": "supported",
        "below_narrow": "supported",
        "flat_wide": "supported",
    }
    assert values == pytest.approx(
        {
            "noise": 1 - (205 + 15) / 10_000,  # 15 is the mean term of the seeds
            "no_signal_wide": 200 - 103,
            "no_signal_narrow": 200 - 205,
            "usual_wide": 90 - 100,
            "usual_narrow": 102 - 100,
            "above_narrow": 101 - (110 + 130 + 150 + 190 + 220) / 5,
            "below_narrow": 101 - 120,
            "flat_wide": np.mean([3 / (100 + 10 * seed) for seed in range(3)]),
        }
    )


def test_other_rows_decide_otherwise():
    narrow = LOW_BEST | {40: 8000.0, 100: 8200, 2: 90, 2.5: 180, 4: 2000}
    _, verdicts = decided(narrow, FLAT | {4: 110.0, 40: 80, 100: 70})
    assert verdicts["noise"] == verdicts["no_signal_narrow"] == "supported"
    for name in ("usual_wide", "usual_narrow", "below_narrow", "flat_wide"):
        assert verdicts[name] == "refuted"
    _, verdicts = decided(LOW_BEST | {2.5: 300.0, 4: 310}, FLAT)
    assert verdicts["above_narrow"] == "refuted"


@pytest.mark.parametrize("width, temperature", [(30, 40), (30, 2.5), (300, 100)])
def test_a_run_that_diverged_is_averaged_over_by_no_claim(width, temperature):
    runs = pd.concat([rows(30, LOW_BEST, 4), rows(300, FLAT, 3)], ignore_index=True)
    one = "student_width == @width and temperature == @temperature and seed == 1"
    gone = runs.query(one).index
    runs.loc[gone, [name for name in runs if name.endswith("_last")]] = np.nan
    values, verdicts = arms.decided(STUDY, runs)
    touched = {
        (30, 40): {"noise", "no_signal_narrow", "above_narrow"},
        (30, 2.5): {"above_narrow", "below_narrow"},
        (300, 100): {"no_signal_wide", "flat_wide"},
    }[width, temperature]
    for name in touched:
        assert np.isnan(values[name]) and verdicts[name] == "not evaluated"


def test_claims_about_other_widths_or_temperatures_are_not_evaluated():
    cool = pd.concat([rows(30, {1.0: 100, 4: 90}, 4), rows(300, {1.0: 90, 4: 80}, 3)])
    left = STUDY.claims.keys() - set(arms.undecided(STUDY, cool))
    assert left == {"usual_wide", "usual_narrow", "below_narrow"}
    wide = STUDY.claims.keys() - set(arms.undecided(STUDY, rows(300, FLAT, 3)))
    assert wide == {"no_signal_wide", "usual_wide", "flat_wide"}


def test_a_seed_does_not_choose_its_own_luck():
    table = rows(30, dict.fromkeys([3.0, 4, 8, 9, 10, 12], 50.0), 4)
    lucky = (table["temperature"] == 9 + table["seed"]) & (table["seed"] < 2)
    for name in ("validation_errors_last", "test_errors_last"):
        table[name] -= 20.0 * lucky
    assert (temperature_width.usual_less_others(table, 30) <= 0).all()


def test_the_best_temperature_has_the_fewest_errors_and_moves_with_the_seeds():
    table = rows(30, {1.0: 50.0, 2: 40, 4: 41}, 6)
    table["test_errors_last"] += np.where(table["seed"] % 2, 8, -8) * (
        table["temperature"] == 4
    )
    alone = table.query("alpha == 1")
    best = temperature_width.best_temperatures(Outcome({"runs": alone}))
    assert best.to_dict("records") == [
        {"student_width": 30, "alpha": 1, "best": 2, "best_low": 2, "best_high": 4}
    ]


def test_the_figure_is_drawn():
    assert fig05_temperature_width.draw("temperature_width").axes


def test_one_number_of_seeds_is_for_all_widths():
    assert replace(CONFIG, seeds=(4,)).seeds == (4, 4, 4, 4, 4)


@pytest.mark.parametrize(
    "changed, says",
    [
        ({"seeds": (1, 2)}, "one for each of student_widths"),
        ({"student_widths": (10, 30, 300, 300, 800)}, "each value only once"),
        ({"alphas": (1.0, 2.0)}, "alphas is 2.0"),
        ({"learning_rates": (0.0,)}, "learning_rates is 0.0"),
        ({"seeds": (0, 2, 2, 2, 2)}, "seeds is 0"),
    ],
)
def test_a_config_that_cannot_be_is_refused(changed, says):
    with pytest.raises(ValueError, match=says):
        replace(CONFIG, **changed)
