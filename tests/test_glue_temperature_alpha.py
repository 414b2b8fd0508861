"""Temperatures and alphas on GLUE are compared on held-out texts, task by task."""

import itertools

import numpy as np
import pandas as pd

from experiments.glue import temperature_alpha
from kdjax.study import arms, claims
from kdjax.study.selection import best_rates

CONFIG = temperature_alpha.Config()


def table():
    """Errors fall by ten at T = 4 on SST-2 and at T = 8 on MRPC; alpha of 1 is best."""
    rows = []
    cells = [("hard", np.nan, np.nan)]
    cells += [
        ("hinton", t, a)
        for t, a in itertools.product(CONFIG.temperatures, CONFIG.alphas)
    ]
    for (task, best), (arm, temperature, alpha) in itertools.product(
        (("sst2", 4), ("mrpc", 8)), cells
    ):
        for seed in range(3):
            errors = 100 - 10 * (temperature == best) - 5 * (alpha == 1)
            row = {"task": task, "arm": arm, "temperature": temperature}
            rows.append(row | {"alpha": alpha, "seed": seed, "errors": errors})
    found = pd.DataFrame(rows)
    return found.assign(
        test_errors_last=found["errors"], validation_errors_last=found["errors"]
    )


def test_ranges_are_compared_with_the_best_of_the_others():
    runs = table()
    expected = {
        "usual_sst2": (-10, "supported"),
        "usual_mrpc": (10, "refuted"),
        "typical_alpha_sst2": (5, "refuted"),
        "typical_alpha_mrpc": (5, "refuted"),
    }
    assert set(expected) == set(temperature_alpha.CLAIMS)
    for name, (value, verdict) in expected.items():
        claim = temperature_alpha.CLAIMS[name]
        np.testing.assert_allclose(claim.measure(runs), [value] * 3)
        found = claims.measured(claim, {"runs": runs})
        assert claims.verdict(claim, found) == verdict


def test_all_cells_are_measured_without_a_search():
    axes = {"temperature": CONFIG.temperatures, "alpha": CONFIG.alphas}
    one = arms.Arm({}, None, None, 5, axes | {"learning_rate": [0.1]}, best_rates)
    assert arms._is_chosen(one) and len(one.settings) == 15
    two = arms.Arm({}, None, None, 5, axes | {"learning_rate": [0.1, 0.2]}, best_rates)
    assert not arms._is_chosen(two)
