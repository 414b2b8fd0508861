"""Verdicts of claims."""

import math

import pandas as pd
import pytest

from kdjax.study.claims import Claim, above, below, measured, report, verdict
from kdjax.study.statistics import Estimate


def claim(bounds, measure=lambda runs: runs["x"]):
    return Claim("It is so", "the mean of x", measure, bounds)


@pytest.mark.parametrize(
    "bounds, low, high, decided",
    [
        (above(0.4), 0.5, 0.6, "supported"),
        (above(0.4), 0.4, 0.6, "supported"),
        (above(0.4), 0.3, 0.6, "undecided"),
        (above(0.4), 0.3, 0.4, "refuted"),
        (above(0.4), 0.4, 0.4, "undecided"),
        (below(0.4), 0.4, 0.4, "undecided"),
        (below(0.4), 0.3, 0.3, "supported"),
        (below(0.0), -2, -1, "supported"),
        (below(0.0), -2, 1, "undecided"),
        (below(0.0), 1, 2, "refuted"),
        (below(0.0), math.nan, math.nan, "not evaluated"),
        (below(0.0), -1, math.nan, "not evaluated"),
        (below(0.0), -math.inf, math.inf, "not evaluated"),
    ],
)
def test_the_whole_interval_decides(bounds, low, high, decided):
    assert verdict(claim(bounds), Estimate(0.0, low, high)) == decided


def test_a_rule_is_said_in_words_and_recorded():
    assert claim(above(0.5)).rule == "above 0.5" and claim(below(2)).rule == "below 2"
    assert claim(below(2)).record() == {"supported": (None, 2)}
    assert claim(above(2)).refuted == (None, 2)


def test_a_run_that_diverged_leaves_claims_not_evaluated():
    runs = pd.DataFrame({"x": [1.0, 1.1, 0.9], "diverged": [False, True, False]})
    found = measured(claim(above(0.5)), {"runs": runs})
    assert verdict(claim(above(0.5)), found) == "not evaluated"
    found = measured(claim(above(0.5)), {"runs": runs.assign(diverged=False)})
    assert verdict(claim(above(0.5)), found) == "supported"


def test_a_report_has_the_verdict_and_the_number():
    tables = {"runs": pd.DataFrame({"x": [1.0, 1.1, 0.9]})}
    said = report(claim(above(0.5)), tables, decides=True)
    assert said == "It is so: supported\n  the mean of x: 1 (0.752 to 1.25)"
    said = report(claim(above(0.5)), tables, decides=False)
    assert said == "It is so: not evaluated\n  the mean of x: 1 (0.752 to 1.25)"


def test_what_cannot_be_measured_is_an_error_of_the_published_results_alone():
    lacking = claim(above(0.5), lambda runs: runs["y"])
    tables = {"runs": pd.DataFrame({"x": [1.0]})}
    said = report(lacking, tables, decides=False)
    assert said == "It is so: not evaluated\n  the mean of x"
    with pytest.raises(KeyError):
        report(lacking, tables, decides=True)


def test_a_claim_may_be_of_another_table():
    of_other = claim(above(0.5))._replace(table="other")
    tables = {"runs": pd.DataFrame(), "other": pd.DataFrame({"x": [1.0, 1.0]})}
    assert "supported" in report(of_other, tables, decides=True)
