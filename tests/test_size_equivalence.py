"""Which network is as accurate, in numbers worked out by hand, and what decides."""

from dataclasses import replace
import math

import numpy as np
import pandas as pd
import pytest

from experiments.cifar10 import setup, size_equivalence
from kdjax.study.claims import measured, verdict
from kdjax.study.statistics import Estimate
from tests import arms

pytestmark = pytest.mark.usefixtures("one_device")
STUDY = size_equivalence.STUDY
CONFIG = size_equivalence.Config()
NEAR = 3e-3  # relative: sizes are read from a fine grid
SIZES = {0.25: 100, 0.5: 200, 1.0: 400, 2.0: 800, 4.0: 2000}
T = 4.302653  # 97.5 % point of Student's distribution for three seeds


def test_all_but_the_widest_are_distilled_and_one_is_trained_for_longer(digits):
    tried = list(size_equivalence.arms(CONFIG, digits))
    names = [(arm.columns["arm"], arm.columns["width"]) for arm in tried]
    assert names == [
        *((arm, width) for width in (0.25, 0.5) for arm in ("hard", "distilled")),
        *((arm, 1.0) for arm in ("hard", "hard_long", "distilled")),
        *(("hard", 2.0), ("distilled", 2.0), ("hard", 4.0)),
    ]
    assert [arm.training.epochs for arm in tried] == [15] * 5 + [30] + [15] * 4
    assert arms.runs(tried) == 10 * (2 + 5)
    sizes = [arm.columns["parameters"] for arm in tried]
    assert sizes == sorted(sizes) and sizes[0] == 2838 and sizes[-1] == 79818
    axes = {"temperature": [4.0], "alpha": [0.9], "learning_rate": (4e-3, 8e-3)}
    assert [arm.axes for arm in tried if arm.columns["arm"] == "distilled"] == [
        axes
    ] * 4


def equivalent(accuracies, hard, sizes=(100, 200, 400)):
    """As in the study; ``hard`` is ``[widths]``, the same for all seeds."""
    hard = np.tile(hard, (len(accuracies), 1)).astype(float)
    return size_equivalence.equivalent(np.array(accuracies), np.array(sizes), hard)


@pytest.mark.parametrize(
    "accuracy, size",
    [
        (45, 100 * 2**0.5),
        (50, 200),
        (57.5, 200 * 2**0.75),
        (30, 100),  # a bound
        (70, 400),  # a bound
    ],
)
def test_accuracy_is_linear_in_the_logarithm_of_size(accuracy, size):
    found = equivalent([accuracy] * 3, (40, 50, 60))
    assert found == pytest.approx((size, size, size), rel=NEAR)


def test_the_interval_ends_where_networks_differ_significantly():
    found = equivalent([49, 50, 51], (40, 50, 60))
    half = T / math.sqrt(3) / 10  # of a doubling
    assert found == pytest.approx((200, 200 * 2**-half, 200 * 2**half), rel=NEAR)
    wide = equivalent([40, 50, 60], (40, 50, 60))  # half is 24.8
    assert wide == pytest.approx((200, 100, 400), rel=NEAR)


def test_an_effect_of_the_seed_on_all_networks_is_not_noise():
    hard = np.array([[40, 50, 60]]) + np.array([[-3.0], [0], [3]])
    found = size_equivalence.equivalent(
        np.array([52.0, 55, 58]), np.array([100, 200, 400]), hard
    )
    assert found == pytest.approx([200 * 2**0.5] * 3, rel=NEAR)


def test_a_larger_network_that_is_worse_does_not_matter():
    sizes = (100, 200, 400, 800)
    found = equivalent([55] * 3, (40, 60, 50, 70), sizes)
    assert found == pytest.approx([100 * 2**0.75] * 3, rel=NEAR)
    found = equivalent([65] * 3, (40, 60, 50, 70), sizes)
    assert found == pytest.approx([400 * 2**0.75] * 3, rel=NEAR)


def test_nan_and_a_single_seed_are_unknown():
    assert np.isnan(equivalent([50, math.nan, 50], (40, 50, 60))).all()
    assert np.isnan(equivalent([50, 50], (40, math.nan, 60))).all()
    value, low, high = equivalent([50], (40, 50, 60))
    assert value == pytest.approx(200, rel=NEAR) and np.isnan([low, high]).all()


def test_intervals_hold_the_size_as_often_as_they_say(monkeypatch):
    """The ladder is noisy, too, and shares no noise with the student."""
    monkeypatch.setattr(size_equivalence, "FINE", 100)
    rng, sizes = np.random.default_rng(0), np.array([100.0, 200, 400])
    held = []
    for _ in range(400):
        hard = np.array([40, 50, 60]) + rng.normal(0, 1, (5, 3))
        own = rng.normal(55, 1, 5)  # as accurate as a network of size 283
        _, low, high = size_equivalence.equivalent(own, sizes, hard)
        held.append(low <= 200 * 2**0.5 <= high)
    assert np.mean(held) == pytest.approx(0.95, abs=0.03)


def hand_made(factors, widths=SIZES, long=2.0, noise=0.1):
    """Accuracy rises by a point per doubling; students have these factors."""
    rows = []
    for seed, more in enumerate((-noise, 0, noise)):
        for width in widths:
            found = {"hard": 1.0}
            if width in factors:
                found["distilled"] = factors[width]
            if width == 1:
                found["hard_long"] = long
            for arm, factor in found.items():
                score = 50 + math.log2(factor * SIZES[width]) + more
                rows.append((arm, width, SIZES[width], seed, score / 100))
    names = ["arm", "width", "parameters", "seed", "test_accuracy_last"]
    return pd.DataFrame(rows, columns=names).sample(frac=1, random_state=0)


def test_claims_are_decided_by_the_factors():
    values, verdicts = arms.decided(STUDY, hand_made({0.25: 2.0, 0.5: 8.0, 1.0: 3.0}))
    assert values == pytest.approx(
        {"four_times": 3, "four_times_narrow": 8, "same_factor": 8 / 3}, rel=NEAR
    )
    assert verdicts["four_times"] == "refuted"
    assert verdicts["four_times_narrow"] == "supported"
    _, verdicts = arms.decided(STUDY, hand_made({0.25: 2.0, 0.5: 3.0, 1.0: 2.2}))
    assert verdicts == {
        "four_times": "refuted",
        "four_times_narrow": "refuted",
        "same_factor": "supported",
    }
    _, verdicts = arms.decided(STUDY, hand_made({0.25: 4.0, 0.5: 4.0, 1.0: 2.0}))
    assert verdicts["same_factor"] == "refuted"


def test_a_bound_beyond_the_rule_decides_it_and_no_other_claim():
    runs = hand_made({0.25: 2.0, 0.5: 3.0, 1.0: 9.0})  # the ladder ends at 5
    values, verdicts = arms.decided(STUDY, runs)
    assert values["four_times"] == pytest.approx(5) and np.isnan(values["same_factor"])
    assert verdicts["four_times"] == "supported"
    assert verdicts["same_factor"] == "not evaluated"
    runs = hand_made({0.25: 2.0, 0.5: 3.0, 1.0: 0.1})  # it begins at 0.25
    values, verdicts = arms.decided(STUDY, runs)
    assert values["four_times"] == pytest.approx(0.25)
    assert verdicts["four_times"] == "refuted"


def test_a_ladder_that_ends_before_the_rule_decides_nothing():
    short = hand_made({0.25: 2.0, 0.5: 8.0, 1.0: 1.5}, widths=(0.25, 0.5, 1.0, 2.0))
    values, verdicts = arms.decided(STUDY, short)  # at 2 and 4 times the size
    assert np.isnan([values["four_times"], values["four_times_narrow"]]).all()
    assert verdicts["four_times"] == verdicts["four_times_narrow"] == "not evaluated"


@pytest.mark.parametrize("arm, width", [("hard", 4.0), ("distilled", 1.0)])
def test_a_run_that_diverged_is_averaged_over_by_no_claim(arm, width):
    runs = hand_made({0.25: 2.0, 0.5: 8.0, 1.0: 3.0})
    gone = (runs["arm"] == arm) & (runs["width"] == width) & (runs["seed"] == 1)
    runs.loc[gone, "test_accuracy_last"] = np.nan
    _, verdicts = arms.decided(STUDY, runs)
    assert verdicts["four_times"] == verdicts["same_factor"] == "not evaluated"
    other = "supported" if arm == "distilled" else "not evaluated"
    assert verdicts["four_times_narrow"] == other


def test_one_seed_decides_nothing():
    runs = hand_made({0.25: 2.0, 0.5: 8.0, 1.0: 3.0}).query("seed == 0")
    for claim in STUDY.claims.values():
        found = measured(claim, {"runs": runs})
        assert verdict(claim, found) == "not evaluated"


def test_a_factor_at_an_end_of_the_ladder_is_shown_as_a_bound(capsys):
    runs = hand_made({0.25: 2.0, 0.5: 3.0, 1.0: 9.0}, noise=0)
    table = size_equivalence.factors(runs)
    assert set(zip(table["arm"], table["width"], strict=True)) == {
        *(("distilled", width) for width in (0.25, 0.5, 1.0)),
        ("hard_long", 1.0),
    }
    row = table.set_index(["arm", "width"]).loc["distilled", 1.0]
    assert (row["least"], row["most"], row["factor"]) == (0.25, 5, 5)
    assert row["test_accuracy_last"] == pytest.approx(0.5 + math.log2(3600) / 100)
    assert size_equivalence.in_words(row) == "≥ 5 (≥ 5 to ≥ 5)"
    low = row.copy()
    low["factor"], low["factor_low"], low["factor_high"] = 0.5, 0.25, math.nan
    assert size_equivalence.in_words(low) == "0.5 (≤ 0.25 to nan)"
    long = table.set_index("arm").loc["hard_long"]
    assert long[["factor", "least", "most"]].tolist() == pytest.approx(
        [2, 0.25, 5], rel=NEAR
    )
    size_equivalence.show({"runs": runs, "factors": table}, {})
    assert "≥ 5" in capsys.readouterr().out


def test_the_change_of_the_factor_has_the_interval_of_a_ratio(monkeypatch):
    logs = {0.25: np.log([2.0, 2, 2]), 1.0: np.log([3.0, 4, 5])}
    monkeypatch.setattr(
        size_equivalence, "of_each_seed", lambda runs, width: np.exp(logs[width])
    )
    ratios = np.log([1.5, 2, 2.5])
    mean, half = ratios.mean(), T * ratios.std(ddof=1) / math.sqrt(3)
    found = size_equivalence.change(None, 0.25, 1.0)
    assert half < mean
    assert found == pytest.approx(np.exp([mean, mean - half, mean + half]))
    assert size_equivalence.change(None, 1.0, 0.25) == pytest.approx(found)
    logs[1.0] = np.log([1.0, 2, 5])
    found = size_equivalence.change(None, 0.25, 1.0)
    assert isinstance(found, Estimate) and found.low == 1 < found.value < found.high


def test_a_tiny_run_has_a_factor_for_every_student(few_digits):
    images, info = few_digits
    config = replace(
        CONFIG,
        dataset="mnist5k",
        teacher="plain-2",
        teacher_epochs=1,
        widths=(0.5, 0.25),
        epochs=1,
        seeds=2,
        learning_rates=(1e-3,),
    )
    config.check_data(info)
    outcome = STUDY.run(config, images, info)
    runs = outcome.tables["runs"]
    assert runs.groupby(["arm", "width"]).size().to_dict() == {
        ("hard", 0.25): 2,
        ("distilled", 0.25): 2,
        ("hard", 0.5): 2,
    }
    assert np.isfinite(runs["test_teacher_kl_last"]).all()
    table = STUDY.derived["factors"](outcome)
    assert len(table) == 1 and 1 <= table["most"][0] < 5954 / 2838 + 1e-6
    facts = outcome.facts["teacher"]
    size = setup.parameters(setup.model("plain-2", "mnist5k"))
    assert facts["parameters"] == size and facts["stored"]["type"] == "float16"
    size_equivalence.show({"runs": runs, "factors": table}, {})


@pytest.mark.parametrize(
    "changed, says",
    [
        ({"widths": (0.0, 1.0)}, "widths is 0.0"),
        ({"widths": (1.0, 1.0)}, "each value only once"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"alpha": 2.0}, "alpha is 2.0"),
    ],
)
def test_a_config_that_cannot_be_is_refused(changed, says):
    with pytest.raises(ValueError, match=says):
        replace(CONFIG, **changed)
