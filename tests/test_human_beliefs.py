"""How claims about people's beliefs are decided, and a small run."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from experiments.cifar10 import belief_tables, human_beliefs, setup
from kdjax import data
from kdjax.data import Data
from kdjax.models import Outputs
from kdjax.study import arms as study_arms
from kdjax.study import claims

RNG = np.random.default_rng(0)
STUDY = human_beliefs.STUDY


def hand_made():
    """Tables of claims; every seed adds the same to all networks."""
    rows, both, cats, teachers = [], [], [], []
    for seed in range(3):
        own = {"seed": seed, "reference": "people"}
        for arm, more in {"hard": 0, "smoothing": 1, "argmax": 5, "larger": 2}.items():
            rows.append(own | {"arm": arm, "score": more})
        for teacher, better in (("resnet-20", 2), ("resnet-56", 4)):
            for t in (1.0, 4.0):
                kl = own | {"arm": "kl", "teacher": teacher, "temperature": t}
                rows.append(kl | {"score": better if t == 4 else 99})
                both.append(kl | {"score": better if t == 4 else 99})
                cats.append(kl | {"label": 3, "class5": 0.2, "class9": 0.01 * better})
                cats.append(kl | {"label": 5, "class5": 0.9, "class9": 0.9})
    each = pd.DataFrame(rows).fillna({"teacher": "none"})
    beliefs_ = pd.concat([each.assign(fitted=fitted) for fitted in (True, False)])
    scores = beliefs_["score"].where(beliefs_["fitted"], -99) + beliefs_["seed"]
    beliefs_ = beliefs_.assign(confusions=scores, second=2 * scores, kl=-scores)
    both = pd.DataFrame(both)
    both = both.assign(confusions=both["score"], second=0.0)
    both = both.assign(confusions_hard=1.0, second_hard=0.5)
    for teacher in human_beliefs.TEACHERS:
        for statistic, value in (("confusions", 0.4), ("softening", 0.3)):
            found = {"value": value, "low": value - 0.05, "high": value + 0.05}
            own = {"teacher": teacher, "statistic": statistic, "reference": "people"}
            teachers.append(own | found)
    return {
        "beliefs": beliefs_,
        "both_right": both,
        "confusions": pd.DataFrame(cats),
        "teachers": pd.DataFrame(teachers),
    }


VALUES = {
    "soft_labels_resnet-20": (0.4, "refuted"),
    "softened_resnet-20": (0.3, "supported"),
    "soft_labels_resnet-56": (0.4, "refuted"),
    "softened_resnet-56": (0.3, "supported"),
    "confusions_hard": (3, "supported"),
    "confusions_smoothing": (2, "supported"),
    "confusions_argmax": (-2, "refuted"),
    "confusions_larger": (1, "supported"),
    "second": (6, "supported"),
    "confusions_where_right": (2, "supported"),
    "second_where_right": (-0.5, "refuted"),
    "kl": (-3, "supported"),
    "cat": (0.17, "supported"),
}


def test_claims_are_paired_by_seed_and_are_means_over_teachers():
    tables = hand_made()
    assert STUDY.claims.keys() == VALUES.keys()
    for name, claim in STUDY.claims.items():
        found = claims.measured(claim, tables)
        decided = found.value, claims.verdict(claim, found)
        assert decided == (pytest.approx(VALUES[name][0]), VALUES[name][1]), name


def test_no_claim_is_evaluated_against_a_teacher_or_a_run_that_diverged():
    for name, claim in STUDY.claims.items():
        of_digits = {t: rows.assign(reference="x") for t, rows in hand_made().items()}
        says = claims.report(claim, of_digits, decides=False)
        assert says.endswith(f"not evaluated\n  {claim.statistic}"), name
    tables = hand_made()
    gone = tables["beliefs"].eval("seed == 1 and teacher == 'resnet-20'").to_numpy()
    tables["beliefs"].loc[gone, "confusions"] = np.nan
    claim = STUDY.claims["confusions_hard"]
    assert claims.verdict(claim, claims.measured(claim, tables)) == "not evaluated"


TINY = human_beliefs.Config(
    dataset="mnist5k",
    teachers=("plain-2",),
    larger="plain-2",
    teacher_epochs=1,
    epochs=1,
    seeds=2,
    learning_rates=(4e-3,),
    evaluated_at=(1.0, 2.0),
)


@pytest.fixture(scope="module")
def images():
    loaded, info = data.load("mnist5k")
    splits = (
        {name: array[::5][:size] for name, array in split.items()}
        for split, size in zip(loaded, (256, 60, 200), strict=True)
    )
    return Data(*splits), info


def test_arms_are_taught_by_their_teacher(images):
    with_colour = setup.in_colour(images[0])
    teachers = [
        setup.Teacher(name, 1, with_colour._replace(test=name), {}) for name in "ab"
    ]
    arms = list(human_beliefs.arms(human_beliefs.Config(), teachers, images[1]))
    assert [(arm.columns["arm"], arm.columns["teacher"]) for arm in arms] == [
        ("hard", "none"),
        ("larger", "none"),
        ("smoothing", "none"),
        *(("argmax", name) for name in "ab"),
        *(("kl", name) for name in "ab"),
    ]
    assert [arm.data.test for arm in arms] == ["b", "b", "b", "a", "b", "a", "b"]
    students = [arm.columns["student"] for arm in arms]
    assert students == ["plain-2", "plain-4", *["plain-2"] * 5]
    assert [len(arm.settings) for arm in arms] == [2, 2, 2, 2, 2, 4, 4]


def measured(outcome):
    return outcome.tables | {n: make(outcome) for n, make in STUDY.derived.items()}


def test_a_small_run_compares_every_network_with_people(images, tmp_path, monkeypatch):
    images, info = images
    labels = images.test["label"]
    others = RNG.multinomial(20, [0.1] * 10, len(labels))
    np.save(tmp_path / "counts.npy", 30 * np.eye(10, dtype=int)[labels] + others)
    monkeypatch.setenv("KDJAX_CIFAR10H", str(tmp_path / "counts.npy"))
    monkeypatch.setattr(belief_tables, "DRAWS", 20)
    config = replace(TINY, dataset="cifar10")
    outcome = human_beliefs.run(config, images, info._replace(name="cifar10"))
    runs = outcome.tables["runs"]
    counts = runs.groupby("arm").size().to_dict()
    assert counts == {"hard": 2, "larger": 2, "smoothing": 2, "argmax": 2, "kl": 4}
    assert outcome.facts["reference"] == "people"
    tables = measured(outcome)
    rows = tables["beliefs"].query("fitted")
    for row in runs.to_dict("records"):  # logits are those of their run
        own = rows[(rows["arm"] == row["arm"]) & (rows["seed"] == row["seed"])]
        own = own[own["temperature"].eq(row["temperature"]) | (row["arm"] != "kl")]
        assert own["accuracy"].tolist() == pytest.approx([row["test_accuracy_last"]])
    accuracy = outcome.facts["teachers"]["plain-2"]["test"]["accuracy"]
    (teacher,) = rows.query("arm == 'teacher'")["accuracy"]
    assert teacher == pytest.approx(accuracy, abs=0.011)  # of rounded logits
    assert np.isfinite(rows[["kl", "entropy", "confusions"]]).all(axis=None)
    assert len(tables["images"]) == human_beliefs.PICTURED
    human_beliefs.show(tables, outcome.facts)


def test_digits_are_compared_with_the_first_teacher(images, monkeypatch):
    logits = RNG.normal(size=(200, 10)).astype(np.float16)

    def teacher(name, config, images, info):
        test = images.test | {"teacher": Outputs(logits)}
        return setup.Teacher(name, 1, images._replace(test=test), {"seconds": 3})

    def untrained(arms):
        for arm in arms():
            runs = arm.settings.assign(seed=0)
            z = RNG.normal(size=(len(runs), 200, 10))
            yield arm, study_arms.Tuned(runs, runs, runs, 1.0, {"test": z})

    monkeypatch.setattr(belief_tables, "DRAWS", 20)
    monkeypatch.setattr(setup, "teacher", teacher)
    monkeypatch.setattr(human_beliefs, "all_tuned", untrained)
    images, info = images
    outcome = human_beliefs.run(replace(TINY, teachers=("plain-4",)), images, info)
    assert outcome.facts["reference"] == "plain-4" and outcome.facts["seconds"] == 8
    tables = measured(outcome)
    for table in STUDY.derived.keys() - {"images"}:
        assert set(tables[table]["reference"]) == {"plain-4"}
    own = tables["beliefs"].query("arm == 'teacher' and evaluated_at == 1")
    np.testing.assert_allclose(own["kl"], 0, atol=1e-9)
    np.testing.assert_allclose(own[["entropy", "confusions", "second"]], 1)
    human_beliefs.show(tables, outcome.facts)


def test_people_are_read_before_anything_is_trained(images, tmp_path, monkeypatch):
    monkeypatch.setenv("KDJAX_CIFAR10H", str(tmp_path / "nowhere.npy"))
    monkeypatch.setattr(setup, "teacher", None)
    images, info = images
    with pytest.raises(FileNotFoundError, match="CIFAR-10H is not in"):
        human_beliefs.run(TINY, images, info._replace(name="cifar10_10k"))
