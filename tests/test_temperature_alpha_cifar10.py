"""Every arm learns from what its name says, and claims follow their rules."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from experiments.cifar10 import temperature_alpha
from experiments.mnist import what_is_dark
from kdjax.data import Data
from kdjax.models import Outputs
from kdjax.study.claims import measured, verdict
from kdjax.study.study import Outcome
from tests import arms

pytestmark = pytest.mark.usefixtures("one_device")
STUDY = temperature_alpha.STUDY
CONFIG = temperature_alpha.Config()
ERRORS, SCORE = "test_errors_last", "validation_errors_last"


@pytest.fixture(scope="module")
def seen():
    """Four images with a teacher's logits for six views."""
    logits = np.random.default_rng(0).normal(size=(4, 6, 10)).astype(np.float16)
    labels = np.arange(4, dtype=np.int32)
    images = np.zeros((4, 32, 32, 3), np.float32)
    train = {"image": images, "label": labels, "teacher": Outputs(logits)}
    return Data(train, train, train)


@pytest.fixture(scope="module")
def tried(seen):
    return {arm.columns["arm"]: arm for arm in temperature_alpha.arms(CONFIG, seen)}


def test_there_are_as_many_runs_as_it_says(tried):
    searched, measured = zip(*map(arms.sizes, tried.values()), strict=True)
    assert sum(searched) + sum(measured) == 143 and sum(searched) == 28
    says = " ".join(temperature_alpha.__doc__.split())
    assert "143 runs, 28 of them for selection" in says
    assert arms.sizes(tried["hinton"]) == (12, 75)
    assert all(arms.sizes(tried[name]) == (2, 5) for name in CONFIG.others)
    assert list(tried) == ["hinton", *CONFIG.others]


def test_all_cells_share_the_rate_with_the_lowest_median(tried):
    arm = tried["hinton"]
    search = arm.settings
    assert len(search) == 12
    for name, values in {"temperature": {1, 4, 20}, "alpha": {0.5, 1}}.items():
        assert set(search[name]) == values
    low = search["learning_rate"] == search["learning_rate"].min()
    # The larger rate is better at two temperatures of three, but worse on average.
    errors = np.where(low, 50, np.where(search["temperature"] > 2, 40, 900))
    chosen = arm.choose(search.assign(**{SCORE: errors}), list(arm.axes))
    assert len(chosen) == 15 and chosen["learning_rate"].round(6).eq(8e-3).all()
    assert set(chosen) == {"temperature", "alpha", "learning_rate"}


def test_arms_have_the_objectives_of_mnist_at_one_temperature(tried):
    for name in CONFIG.others:
        arm, axes = tried[name], {"learning_rate": CONFIG.learning_rates}
        assert arm.training.objective is what_is_dark.PARTS[name]
        if name in ("whole", "dkpp", "even", "top2", "nckd"):
            axes["temperature"] = [4.0]
        if name == "smoothing":
            axes["smoothing"] = [0.1]
        assert arm.axes == axes


def test_dkpp_alone_has_another_teacher(tried, seen):
    for name, arm in tried.items():
        same = np.array_equal(
            arm.data.train["teacher"].logits, seen.train["teacher"].logits
        )
        assert same == (name != "dkpp") and arms.same(arm.data.train, seen.train)
        assert arm.data.validation is seen.validation and arm.data.test is seen.test


def test_a_permutation_is_the_same_in_all_views_of_an_image():
    count = 50
    places = np.arange(10.0)
    logits = np.tile(places, (count, 6, 1)) + 100 * np.eye(10)[3]
    logits = logits + np.arange(6)[:, None] / 10  # views differ
    split = {"teacher": Outputs(logits.astype(np.float32))}
    found = temperature_alpha.permuted(split)["teacher"].logits
    np.testing.assert_allclose(found[..., 3], logits[..., 3], rtol=1e-6)
    np.testing.assert_allclose(np.sort(found), np.sort(logits), rtol=1e-6)
    moved = (found - np.arange(6)[:, None] / 10).round(3)
    assert (moved == moved[:, :1]).all()
    assert len({tuple(row) for row in moved[:, 0]}) == count  # by image, not alike


def test_a_view_with_another_top_class_keeps_its_own():
    logits = np.random.default_rng(1).normal(size=(30, 6, 10)).astype(np.float16)
    found = temperature_alpha.permuted({"teacher": Outputs(logits)})["teacher"].logits
    np.testing.assert_array_equal(found.argmax(-1), logits.argmax(-1))
    np.testing.assert_array_equal(np.sort(found), np.sort(logits))
    assert found.dtype == np.float16


def test_errors_on_two_classes_are_counted():
    labels = np.array([3, 3, 3, 5, 5, 0, 8])
    predicted = np.array([[3, 5, 0, 5, 3, 3, 5], [3, 3, 3, 5, 8, 0, 8]])
    found = temperature_alpha.errors_of(predicted, labels)
    assert found["errors"].tolist() == [3, 1] and found["between"].tolist() == [2, 0]


def test_every_run_has_its_own_errors_on_cats_and_dogs(tried):
    labels = np.array([3, 5, 0, 3])
    right = 9 * np.eye(10)[labels]
    wrong = 9 * np.eye(10)[[5, 5, 0, 7]]
    hinton = [("hinton", t, 1.0, s) for s in (0, 1) for t in (1.0, 4.0)]
    rows = [("hard", np.nan, np.nan, 0), ("hard", np.nan, np.nan, 1), *hinton]
    runs = pd.DataFrame(rows, columns=["arm", "temperature", "alpha", "seed"])
    outcome = Outcome(
        {"runs": runs},
        data=Data(None, None, {"label": labels}),
        extras=[
            (tried["hinton"], {"test": np.stack([right, wrong, right, right])}),
            (tried["hard"], {"test": np.stack([wrong, right])}),
        ],
    )
    table = temperature_alpha.alike(outcome)
    cells = table.set_index(["arm", "temperature", "seed"])["errors"].to_dict()
    expected = {("hinton", t, s): 0 for t in (1.0, 4.0) for s in (0, 1)}
    expected |= {("hinton", 4.0, 0): 2}
    assert {k: v for k, v in cells.items() if k[0] == "hinton"} == expected
    hard = table[table["arm"] == "hard"]
    assert hard["errors"].tolist() == [2, 0] and hard["between"].tolist() == [1, 0]
    np.testing.assert_allclose(hard["accuracy"], [1 / 3, 1])


MEANS = {"whole": 100, "hard": 200, "smoothing": 190, "dkpp": 170, "even": 140}
BY_T = {1: 130, 2: 110, 4: 100, 8: 105, 20: 125}
BY_ALPHA = {0.5: 90, 0.9: 95}  # at T = 4


def hand_made(by_t=BY_T, by_alpha=BY_ALPHA, means=MEANS):
    """Runs with these errors and a term of the seed."""
    cells = [(arm, np.nan, np.nan, mean) for arm, mean in means.items()]
    cells += [("hinton", t, 1.0, mean) for t, mean in by_t.items()]
    cells += [("hinton", 4.0, alpha, mean) for alpha, mean in by_alpha.items()]
    cells += [("hinton", 20.0, alpha, 0) for alpha in by_alpha]  # for no claim
    rows = [
        (*cell, s, cell[-1] + m) for cell in cells for s, m in enumerate((-1, 0, 1))
    ]
    names = ["arm", "temperature", "alpha", "mean", "seed", ERRORS]
    runs = pd.DataFrame(rows, columns=names).drop(columns="mean")
    runs[SCORE] = runs[ERRORS] / 2
    return runs.sample(frac=1, random_state=0)


def decided(runs, alike):
    tables = {"runs": runs, "alike": alike.rename(columns={ERRORS: "errors"})}
    found = {n: measured(claim, tables) for n, claim in STUDY.claims.items()}
    verdicts = {n: verdict(STUDY.claims[n], e) for n, e in found.items()}
    return {n: estimate.value for n, estimate in found.items()}, verdicts


ALIKE = MEANS | {"hard": 300, "dkpp": 260, "even": 120}


def test_claims_are_decided_by_the_rows():
    values, verdicts = decided(hand_made(), hand_made(means=ALIKE))
    assert values == pytest.approx(
        {
            "usual": 100 - 105,
            "typical_alpha": 90 - 100,
            "dark_knowledge_dkpp": 0.3,
            "dark_knowledge_even": 0.6,
            "dark_knowledge_dkpp_alike": 0.2,
            "dark_knowledge_even_alike": 0.9,
        }
    )
    assert verdicts == {
        "usual": "supported",
        "typical_alpha": "supported",
        "dark_knowledge_dkpp": "supported",
        "dark_knowledge_even": "refuted",
        "dark_knowledge_dkpp_alike": "supported",
        "dark_knowledge_even_alike": "refuted",
    }


def test_other_rows_decide_otherwise():
    runs = hand_made(by_t=BY_T | {8: 80}, by_alpha={0.5: 150, 0.9: 110})
    values, verdicts = decided(runs, hand_made())
    assert values["usual"] == 20 and values["typical_alpha"] == 110 - 100
    assert verdicts["usual"] == verdicts["typical_alpha"] == "refuted"
    _, verdicts = decided(hand_made(means=MEANS | {"hard": 80}), hand_made())
    assert verdicts["typical_alpha"] == "refuted"  # hard labels are alpha 0


def test_a_share_of_no_gain_decides_nothing():
    values, verdicts = decided(hand_made(means=MEANS | {"hard": 90}), hand_made())
    assert np.isnan(values["dark_knowledge_dkpp"])
    assert verdicts["dark_knowledge_even"] == "not evaluated"


@pytest.mark.parametrize("arm", ["hard", "whole", "hinton", "dkpp"])
def test_a_run_that_diverged_is_averaged_over_by_no_claim(arm):
    runs = hand_made()
    gone = (runs["arm"] == arm) & (runs["seed"] == 1)
    runs.loc[gone, [ERRORS, SCORE]] = np.nan
    _, verdicts = decided(runs, runs)
    unknown = {name for name, each in verdicts.items() if each == "not evaluated"}
    of_dkpp, of_even = (
        {f"dark_knowledge_{name}", f"dark_knowledge_{name}_alike"}
        for name in ("dkpp", "even")
    )
    on_hinton = {"usual", "typical_alpha"}
    both = of_dkpp | of_even
    expected = {"hard": both, "whole": both, "hinton": on_hinton, "dkpp": of_dkpp}
    assert unknown == expected[arm]


def test_shares_are_of_all_images_and_of_two_classes():
    alike = hand_made(means=ALIKE).rename(columns={ERRORS: "errors"})
    outcome = Outcome({"runs": hand_made(), "alike": alike})
    table = temperature_alpha.shares(outcome)
    found = table.pivot(index="arm", columns="images", values="share")
    assert set(found.index) == MEANS.keys() - {"hard", "whole"}
    np.testing.assert_allclose(found.loc["even", ["all", "alike"]], [0.6, 0.9])


def test_a_tiny_run_has_every_table(few_digits):
    images, info = few_digits
    config = replace(
        CONFIG,
        dataset="mnist5k",
        teacher="plain-2",
        teacher_epochs=1,
        temperatures=(4.0,),
        alphas=(0.5, 1.0),
        others=("whole", "hard", "dkpp"),
        epochs=1,
        seeds=2,
        learning_rates=(1e-3,),
    )
    outcome = STUDY.run(config, images, info)
    runs = outcome.tables["runs"]
    counts = runs.groupby("arm").size().to_dict()
    assert counts == {"hinton": 4, "whole": 2, "hard": 2, "dkpp": 2}
    for title, make in STUDY.derived.items():
        outcome.tables[title] = make(outcome)
    alike = outcome.tables["alike"]
    assert len(alike) == len(runs) and alike["accuracy"].between(0, 1).all()
    wrong = runs.merge(alike, on=["arm", "temperature", "alpha", "seed"])
    assert len(wrong) == len(runs) and (wrong["errors"] <= wrong[ERRORS]).all()
    assert len(outcome.tables["shares"]) == 2  # of dkpp
    temperature_alpha.show(outcome.tables, {})


@pytest.mark.parametrize(
    "changed, says",
    [
        ({"temperatures": (0.0,)}, "temperatures is 0.0"),
        ({"alphas": (2.0,)}, "alphas is 2.0"),
        ({"smoothing": 2.0}, "smoothing is 2.0"),
        ({"others": ()}, "others is"),
    ],
)
def test_a_config_that_cannot_be_is_refused(changed, says):
    with pytest.raises(ValueError, match=says):
        replace(CONFIG, **changed)
