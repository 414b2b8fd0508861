import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from kdjax.study.statistics import (
    Estimate,
    bootstrap,
    estimate,
    format_estimate,
    interval,
    magnitude,
    ratio,
)


def test_an_interval_is_students():
    mean, half = interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert mean == 3 and half == pytest.approx(2.776445 * np.sqrt(2.5 / 5))


def test_the_interval_of_a_single_value_is_unknown():
    mean, half = interval([3])
    assert mean == 3 and math.isnan(half)


def test_an_estimate_is_a_mean_and_its_interval():
    found = estimate(pd.Series([1.0, 2.0, 3.0]))
    assert found.value == 2
    assert found.high - 2 == pytest.approx(4.302653 / np.sqrt(3))
    assert 2 - found.low == pytest.approx(found.high - 2)


def test_a_magnitude_is_a_distance_from_zero():
    values = np.array([1.0, 2.0, 3.0])
    value, low, high = estimate(values + 9)
    assert magnitude(values + 9) == magnitude(-values - 9) == (value, low, high)
    value, low, high = estimate(values - 3)
    assert low < 0 < high and magnitude(values - 3) == (-value, 0, -low)
    assert np.isnan(magnitude([1.0, np.nan, 2.0])).all()


def test_intervals_hold_the_mean_as_often_as_they_say():
    samples = np.random.default_rng(0).normal(7, 3, (4000, 5))
    held = [found.low <= 7 <= found.high for found in map(estimate, samples)]
    assert np.mean(held) == pytest.approx(0.95, abs=0.01)


def test_a_ratio_is_all_that_its_pairs_do_not_exclude():
    """At its ends, the interval of the mean of ``part - end * whole`` touches 0."""
    rng = np.random.default_rng(0)
    whole = rng.normal(10, 3, 6)
    part = 0.4 * whole + rng.normal(0, 2, 6)
    found = ratio(part, whole)
    assert found.value == pytest.approx(part.mean() / whole.mean())
    for end in found[1:]:
        mean, half = interval(part - end * whole)
        assert abs(mean) == pytest.approx(half)
    assert found.low < found.value < found.high
    assert ratio(0.25 * whole, whole) == pytest.approx((0.25, 0.25, 0.25))


@pytest.mark.parametrize("whole", [[-3.0, 1, 2, 4], [1.0]])
def test_a_ratio_to_what_may_be_nothing_is_unknown(whole):
    assert np.isnan(ratio(np.ones(len(whole)), whole)).all()


@pytest.mark.parametrize("column", [np.array, pd.Series])
def test_nan_among_the_values_is_never_skipped(column):
    values, ones = column([1.0, math.nan, 3.0]), column([1.0, 1.1, 0.9])
    for found in (interval(values), estimate(values), ratio(values, ones)):
        assert np.isnan(found).all()
    assert np.isnan(ratio(ones, values)).all()
    frame = pd.DataFrame({"seed": [0, 1, 2], "value": values})
    assert np.isnan(bootstrap(mean_of_value, frame)).all()


def mean_of_value(frame: pd.DataFrame) -> float:
    return frame["value"].mean(skipna=False)


def test_a_bootstrap_draws_whole_seeds():
    seeds = np.repeat(np.arange(10.0), 4)
    frame = pd.DataFrame({"seed": seeds, "value": np.tile(np.arange(4.0), 10) + seeds})
    found = bootstrap(mean_of_value, frame)
    assert found.value == 6.0 and found.low < found.value < found.high
    spread = np.std(np.arange(10)) / np.sqrt(10)  # not narrower
    assert found.high - found.low == pytest.approx(2 * 1.96 * spread, rel=0.1)
    assert bootstrap(mean_of_value, frame) == found


def test_a_bootstrap_takes_rows_in_any_order_under_any_index():
    values = np.random.default_rng(0).normal(size=20)
    frame = pd.DataFrame({"seed": np.repeat(range(5), 4), "value": values})
    mixed = frame.sample(frac=1, random_state=0).set_index(np.zeros(20, int))
    assert bootstrap(mean_of_value, mixed) == pytest.approx(
        bootstrap(mean_of_value, frame)
    )


def test_a_seed_that_is_drawn_twice_counts_as_two():
    seen = []

    def gap(frame):
        wide = frame.pivot(index="seed", columns="arm", values="value")
        seen.append(wide)
        return (wide["b"] - wide["a"]).mean()

    frame = pd.DataFrame(
        {"seed": [3, 3, 5, 5], "arm": ["a", "b"] * 2, "value": [0.0, 1, 0, 5]}
    )
    found = bootstrap(gap, frame, draws=50)
    assert found == (3, 1, 5)
    assert len(seen) == 51 and {len(wide) for wide in seen} == {2}


def test_a_bootstrap_of_a_single_seed_has_no_interval():
    found = bootstrap(mean_of_value, pd.DataFrame({"seed": [4, 4], "value": [1.0, 2]}))
    assert found.value == 1.5 and np.isnan(found[1:]).all()


def test_an_estimate_is_said_with_three_digits():
    assert format_estimate(Estimate(0.12345, -1234.5, 2)) == "0.123 (-1.23e+03 to 2)"


@pytest.mark.parametrize("module", ["kdjax.results", "kdjax.study.statistics"])
def test_statistics_and_results_need_no_jax(module):
    code = f"import sys, {module}; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
