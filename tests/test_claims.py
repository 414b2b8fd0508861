"""The ledger is computed from committed rows, and docs/claims.md shows it."""

import pytest

from experiments import claims, studies
from experiments.mnist import temperature_gradients
from kdjax import results

CLAIMS = [claim for study in studies().values() for claim in study.claims.values()]


def test_the_page_shows_the_ledger_of_the_committed_results():
    says = "run: python -m experiments.claims --write"
    assert claims.PAGE.read_text() == claims.page(), says


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.statistic)
def test_every_claim_is_in_words_with_a_rule_of_one_bound(claim):
    assert claim.says and claim.statistic
    assert sorted(bound is None for bound in claim.supported) == [False, True]


def test_verdicts_follow_the_rows(monkeypatch):
    """Different rows change the verdicts."""
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
