"""The ledger is computed from committed rows, and README shows it."""

from pathlib import Path

import pytest

from experiments import claims, studies
from experiments.mnist import temperature_gradients
from kdjax import results

README = (Path(__file__).parents[1] / "README.md").read_text()
CLAIMS = [claim for study in studies().values() for claim in study.claims.values()]


def test_readme_shows_the_ledger_of_the_committed_results():
    assert claims.as_markdown() in README, (
        "run: python -m experiments.claims --markdown"
    )


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.statistic)
def test_every_claim_is_in_words_with_a_rule_of_one_bound(claim):
    assert claim.says and claim.statistic
    assert sorted(bound is None for bound in claim.supported) == [False, True]


def test_verdicts_follow_the_rows(monkeypatch):
    """Rows that say otherwise change the ledger."""
    load = results.load

    def flat(name, title="runs"):
        table = load(name, title)
        columns = table.columns[table.columns.str.endswith("_compensated")]
        return table.assign(**dict.fromkeys(columns, 1.0))

    def verdicts():
        return [row[4] for row in claims.ledger([temperature_gradients.STUDY])]

    assert verdicts() == ["refuted", "refuted"]
    monkeypatch.setattr(results, "load", flat)
    assert verdicts() == ["supported", "supported"]
