"""Students of grammars are measured as papers measure them."""

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest

from experiments.language import divergences, grammars, students
from kdjax import losses
from kdjax.study import claims
from kdjax.study.arms import tuned

CONFIG = replace(divergences.STUDY.quick_config(), train=256, measured=512)
LOSS = partial(students.divergence, losses.reverse_kl)


@pytest.fixture(scope="module")
def data():
    return grammars.splits(students.MIXTURE, CONFIG.train, CONFIG.measured)


@pytest.fixture(scope="module")
def found(data, one_device):
    config = replace(CONFIG, learning_rates=(1e-3, 1e-2))
    arm = divergences.arm(config, data, "middle", "reverse_kl", LOSS, "student")
    return tuned(arm)


def test_settings_are_selected_by_both_divergences_on_validation(found):
    search = found.search
    best = search.loc[search["validation_both_kl"].idxmin(), "learning_rate"]
    assert (found.runs["learning_rate"] == best).all()
    assert search["validation_both_kl"].nunique() == 2
    assert not [name for name in search if name.startswith("test_")]


def test_divergences_are_what_the_texts_say(found, data):
    run = found.runs.iloc[0]
    entropy = -float(grammars.log_probability(students.MIXTURE, data.test).mean())
    # Of the same texts: exact sums over the vocabulary, and means of log ratios.
    assert run["test_forward_kl"] == pytest.approx(
        run["test_coverage_risk"] - entropy, abs=0.6
    )
    assert run["test_reverse_kl"] == pytest.approx(
        run["test_likelihood_risk"] - run["test_entropy"], abs=0.6
    )
    assert run["test_both_kl"] == pytest.approx(
        run["test_forward_kl"] + run["test_reverse_kl"]
    )
    assert 0 <= run["test_valid"] < 1 and 0 < run["test_distinct_3"] < 1


def test_shares_of_templates_are_of_valid_texts(data):
    texts = {name: np.array(array[:50]) for name, array in data.test.items()}
    before = grammars.is_valid(students.MIXTURE, texts)
    nowhere = students.MIXTURE.allowed[:, 0].sum(0) == 0  # first in no template
    texts["tokens"][:10, 1] = np.argmax(nowhere)
    valid = np.asarray(grammars.is_valid(students.MIXTURE, texts))
    assert before[:10].any() and not valid[:10].any() and valid.any()
    template = np.asarray(grammars.template_of(students.MIXTURE, texts))
    expected = np.bincount(template[valid], minlength=4) / valid.sum()
    np.testing.assert_allclose(students.shares(texts), expected, atol=1e-6)
    none = {name: array[:10] for name, array in texts.items()}
    assert np.isnan(students.shares(none)).all()


def test_distinct_counts_trigrams_of_a_text():
    written = np.array([[1, 2, 3, 1, 2, 3, 0, 0], [1, 2, 3, 4, 0, 0, 0, 0]])
    mask = np.arange(8)[None] < [[7], [5]]
    batch = grammars.batch(written, mask)
    # 123 231 312 123 230 and 123 234 340: eight, of which six differ.
    assert float(students.distinct(batch, 3)) == pytest.approx(6 / 8)


def test_every_divergence_has_all_texts_and_its_controls(data):
    arms = list(divergences.arms(divergences.Config(), data))
    names = [(a.columns["loss"], a.columns["texts"]) for a in arms]
    assert len(names) == 3 + 1 + 7 * 3 + 2 * 3 + 2
    middle = [a.columns for a in arms if a.columns["size"] == "middle"][1:]
    cells = [(each["loss"], each["texts"]) for each in middle]
    assert sorted(cells) == sorted(divergences.CORNERS)
    ample = [a for a in arms if a.columns["loss"].endswith("_4")]
    assert [a.columns["texts"] for a in ample] == ["teacher", "student"]
    assert [a.training[1].epochs for a in ample] == [16] * 2
    assert {a.columns["size"] for a in ample} == {"ample"}
    long = [a for a in arms if a.columns["loss"] == "long"]
    assert [(a.columns["size"], a.training[1].epochs) for a in long] == [("starved", 8)]
    betas = [a.axes["beta"] for a in arms if a.columns["loss"] == "jensen_shannon"]
    assert betas == [(0.1, 0.5, 0.9)] * 3 + [(0.5,)] * 2
    first = {(a.training[0].objective, a.training[0].epochs) for a in arms}
    assert first == {(students.likelihood, 1)}  # all begin alike


def table():
    """Students with numbers that differ in one way at a time."""
    rows = []
    for size, texts in (("starved", t) for t in students.TEXTS):
        for loss in divergences.LOSSES:
            betas = (0.1, 0.5) if loss == "jensen_shannon" else (np.nan,)
            rows += [
                {"size": size, "texts": texts, "loss": loss, "beta": b} for b in betas
            ]
    rows += [
        {"size": "starved", "texts": "teacher", "loss": n}
        for n in ("long", "likelihood")
    ]
    pairs = (divergences.FORWARD, divergences.REVERSE)
    rows += [{"size": "ample", "texts": t, "loss": f"{n}_4"} for n, t in pairs]
    runs = pd.concat(
        [pd.DataFrame(rows).assign(seed=s) for s in (0, 1)], ignore_index=True
    )
    runs["test_likelihood_risk"], runs["test_coverage_risk"] = 10.0, 12.0
    for number, weight in enumerate(students.MIXTURE.weights):
        runs[f"test_template_{number}"] = weight * (1 + runs["seed"] / 100)
    runs["test_both_kl"] = 5.0
    runs["test_forward_kl"] = runs["test_reverse_kl"] = 2.5
    return runs


def test_claims_compare_what_they_say():
    runs = table()
    reverse = (runs["loss"] == "reverse_kl") & (runs["size"] == "starved")
    own = reverse & (runs["texts"] == "student")
    runs.loc[own, "test_likelihood_risk"] -= 2
    runs.loc[own, "test_coverage_risk"] += 3
    runs.loc[own, "test_template_1"] /= 5
    runs.loc[runs["loss"] == "long", "test_both_kl"] = 4.5
    runs.loc[runs["loss"] == "likelihood", "test_both_kl"] = 5.25
    half = (runs["beta"] == 0.5) & (runs["texts"] == "mixed")
    runs.loc[half, "test_both_kl"] = 4.0
    mixed = (runs["loss"] == "forward_kl") & (runs["texts"] == "mixed")
    runs.loc[mixed, "test_both_kl"] = 4.75
    ample = (runs["size"] == "ample") & (runs["loss"] == "reverse_kl_4")
    runs.loc[ample, "test_forward_kl"] += 0.25  # their sum is that of forward KL
    runs.loc[ample, "test_reverse_kl"] -= 0.25
    expected = {
        "seeks": grammars.entropy(students.MIXTURE) - 8,
        "covers": 3,
        "drops": 0.2,
        "same_texts": 2,
        "compromise": 0.75,
    }
    expected |= {"worth": -0.5, "soft": 0.25, "ample": 0.25}
    for name, value in expected.items():
        measured = claims.measured(divergences.CLAIMS[name], {"runs": runs})
        assert measured.value == pytest.approx(value), name
    # Texts differ by 1 for both losses; losses by 1 of the teacher's and 3 of own ones.
    starved = runs["size"] == "starved"
    for loss, texts, value in (
        ("forward_kl", "student", 6),
        ("reverse_kl", "teacher", 4),
        ("reverse_kl", "student", 3),
    ):
        cell = starved & (runs["loss"] == loss) & (runs["texts"] == texts)
        runs.loc[cell, "test_both_kl"] = value
    measured = claims.measured(divergences.CLAIMS["texts"], {"runs": runs})
    assert measured.value == pytest.approx(1 - 2)
    # A sample of finite size says nearly the same of the teacher's entropy.
    few = students.MIXTURE.sample(4096, seed=1)
    entropy = -float(grammars.log_probability(students.MIXTURE, few).mean())
    assert grammars.entropy(students.MIXTURE) == pytest.approx(entropy, abs=0.1)
