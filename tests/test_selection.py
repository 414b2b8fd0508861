import numpy as np
import pandas as pd
import pytest

from kdjax.study.selection import (
    best_by_others,
    best_setting,
    largest,
    range_less_others,
    smallest_rates,
)

RUNS = pd.DataFrame(
    {
        "alpha": [0.5, 0.9, 0.5, 0.9],
        "seed": [0, 0, 1, 1],
        "validation_errors_last": [3, 2, 3, 3],
        "validation_nll_last": [0.1, 0.9, 0.1, 0.9],
        "test_errors_last": [0, 9, 0, 9],
    }
)


def chosen(runs, *names):
    return best_setting(runs, *names).sort_values("seed").reset_index(drop=True)


def test_the_setting_with_the_fewest_validation_errors_is_chosen():
    best = best_setting(RUNS, "alpha")
    pd.testing.assert_frame_equal(best, RUNS[RUNS["alpha"] == 0.9])


def test_a_candidate_that_failed_is_not_the_best():
    errors = np.array([[2.0, 1.0, 1.0], [9.0, 9.0, np.nan], [3.0, 3.0, 3.0]])
    found = best_by_others(np.arange(9.0).reshape(3, 3), errors)
    np.testing.assert_array_equal(found, [0, 1, 2])


def test_a_setting_has_all_of_its_names():
    runs = RUNS.assign(temperature=[1, 1, 4, 4])
    best = best_setting(runs, "alpha", "temperature")
    assert best[["alpha", "temperature"]].values.tolist() == [[0.9, 1]]


def test_a_setting_with_fewer_runs_has_no_advantage():
    best = best_setting(RUNS.drop(index=2), "alpha")
    assert (best["alpha"] == 0.9).all() and len(best) == 2


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("nll, alpha", [([0.3, 0.2, 0.1, 0.2], 0.5), (None, 0.1)])
def test_ties_are_broken_alike_in_any_order(nll, alpha, seed):
    """Floating-point sums of 0.1, 0.2 and 0.3 depend on the order."""
    runs = pd.DataFrame(
        {
            "alpha": np.repeat([0.9, 0.5, 0.1], 4),
            "seed": np.tile(range(4), 3),
            "validation_errors_last": 3,
        }
    )
    if nll:
        runs["validation_nll_last"] = [*nll[::-1], *nll, *np.add(nll, 1)]
    mixed = runs.sample(frac=1, random_state=seed)
    assert (best_setting(mixed, "alpha")["alpha"] == alpha).all()
    pd.testing.assert_frame_equal(chosen(mixed, "alpha"), chosen(runs, "alpha"))


def test_of_many_equals_the_smallest_setting_is_chosen():
    runs = pd.DataFrame({"alpha": np.arange(99)[::-1], "validation_errors_last": 3})
    assert best_setting(runs, "alpha")["alpha"].tolist() == [0]


def test_a_setting_with_nan_among_its_scores_comes_last():
    runs = RUNS.assign(validation_errors_last=[3, np.nan, 3, 0])
    assert (best_setting(runs, "alpha")["alpha"] == 0.5).all()


def test_a_setting_may_be_nan():
    runs = RUNS.assign(alpha=[0.5, np.nan, 0.5, np.nan])
    assert best_setting(runs, "alpha").index.tolist() == [1, 3]


def test_a_range_is_compared_with_what_is_outside_by_other_seeds():
    errors = {1.0: [10, 14], 3.0: [8, 9], 5.0: [7, 7], 8.0: [9, 11]}
    rows = [
        {"t": t, "seed": seed, "validation_errors_last": t, "test_errors_last": each}
        for t, of_seeds in errors.items()
        for seed, each in enumerate(of_seeds)
    ]
    mixed = pd.DataFrame(rows).sample(frac=1, random_state=0)
    # The least validation errors are those of the smallest value of each group.
    assert range_less_others(mixed, "t", 3, 5).tolist() == [8 - 10, 9 - 14]
    assert range_less_others(mixed, "t", 4, 8).tolist() == [7 - 10, 7 - 14]


def test_the_largest_score_is_selected_and_the_smaller_setting_of_two():
    search = pd.DataFrame({"weight": [3.0, 2.0, 1.0, 0.5], "f1": [0.7, 0.9, 0.9, None]})
    assert largest(search, ["weight"], score="f1")["weight"].tolist() == [1.0]
    tied = search.assign(f1=0.5, validation_nll_last=[0.3, 0.1, 0.4, 0.2])
    assert largest(tied, ["weight"], score="f1").equals(tied[1:2])


def test_the_smallest_score_is_selected_and_diverged_runs_never():
    rates, nll = [1e-3, 2e-3, 4e-3, 8e-3], [3.0, 2.0, 2.0, np.nan]
    search = pd.DataFrame({"learning_rate": rates, "nll": nll, "errors": [1, 9, 9, 0]})
    best = smallest_rates(search, ["learning_rate"], score="nll")
    assert best["learning_rate"].tolist() == [2e-3]
