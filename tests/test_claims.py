"""The ledger is computed from committed rows, and README shows it."""

from pathlib import Path
import re

import pytest

from experiments import claims, running
from kdjax import results

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_readme_shows_the_ledger_of_the_committed_results():
    assert claims.as_markdown() in README, (
        "run: python -m experiments.claims --markdown"
    )


@pytest.mark.parametrize("module", claims.EXPERIMENTS)
def test_every_claim_has_a_statistic_and_rules_that_cannot_both_hold(module):
    experiment = module.EXPERIMENT
    for claim in experiment.claims.values():
        assert claim.says and claim.statistic
        for value in (-1e6, -1.0, 0.0, 0.01, 0.3, 0.6, 0.9, 1.0, 5.0, 1e6):
            point = results.Estimate(value, value - 1e-9, value + 1e-9)
            assert results.verdict(claim, point) in (
                "supported",
                "refuted",
                "undecided",
            )
        low, high = claim.supported
        other_low, other_high = claim.refuted
        assert low == other_high or high == other_low  # they meet and do not overlap
    if (results.ROOT / experiment.name).exists():
        found = experiment.statistics(running.loaded(experiment, experiment.name))
        assert found.keys() == experiment.claims.keys()


def test_verdicts_follow_the_rows(monkeypatch):
    """Rows that say otherwise change the ledger."""
    before = list(claims.ledger())
    assert len(before) >= 2
    load = results.load

    def flat(name, title="runs"):
        table = load(name, title)
        for column in table:
            if column.endswith("_compensated"):
                table[column] = 0 * table[column] + 1
        return table

    monkeypatch.setattr(results, "load", flat)
    verdicts = [row[4] for row in claims.ledger() if row[5] == "temperature_gradients"]
    assert verdicts == ["supported", "supported"]


def test_bounds_are_said_in_words():
    assert claims.within((0.5, None)) == "above 0.5"
    assert claims.within((None, 2)) == "below 2"
    assert claims.within((1, 2)) == "in 1 to 2"
    assert not re.search("None", claims.as_markdown())
