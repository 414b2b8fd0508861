"""No student sees the omitted digit; errors and claims are computed correctly."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from experiments.mnist import omitted_digit, setup
from kdjax.data import Info
from kdjax.study.arms import Tuned
from kdjax.study.statistics import estimate
from kdjax.training import teacher
from paper_figs import fig02_omitted_digit
from tests import arms

STUDY = omitted_digit.STUDY
CONFIG = replace(omitted_digit.Config(), omitted=(3, 4), naive_teachers=(3,), seeds=2)
OTHERS = (0, 1, 2, 3, 4, 5, 6, 9)
INFO = Info("digits", "1", 10, 700, 100, 200)


def test_each_digit_is_left_out_and_then_all_but_two():
    found = omitted_digit.transfers(CONFIG)
    assert found == {
        "without 3": ((3,), (3,)),
        "without 4": ((4,), (4,)),
        "only 7 and 8": (OTHERS, (7, 8)),
    }
    assert len(omitted_digit.transfers(omitted_digit.Config())) == 11


@pytest.mark.parametrize("images", [49_400, 11_000, 130])
def test_steps_are_those_of_all_images_up_to_half_a_pass(images):
    steps = 15 * (55_000 // setup.BATCH_SIZE)
    each = images // setup.BATCH_SIZE
    passes = omitted_digit.passes(15, 55_000, images)
    assert abs(passes * each - steps) <= each / 2


def classes_of(split):
    return set(np.unique(split["label"]))


def test_no_student_and_no_search_sees_an_omitted_digit(digits):
    data_by_arm = dict.fromkeys(("distilled", "hard", "naive_teacher"), digits)
    for omitted in ((3,), OTHERS):
        all_arms = list(omitted_digit.arms(CONFIG, "some", omitted, data_by_arm))
        assert [arm.columns["arm"] for arm in all_arms] == list(data_by_arm)
        for arm in all_arms:
            left = set(range(10)) - set(omitted)
            assert classes_of(arm.data.train) == classes_of(arm.select_on) == left
            assert classes_of(arm.data.validation) == set(range(10))
            assert classes_of(arm.data.test) == set(range(10))
            size = len(arm.data.train["label"])
            assert arm.columns["transfer_size"] == size
            epochs = omitted_digit.passes(15, 700, size)
            assert arm.training.epochs == arm.columns["epochs"] == epochs
            assert arms.sizes(arm) == (3, 2)
            hard = arm.columns["arm"] == "hard"
            assert arm.training.objective is (setup.HARD if hard else setup.HINTON)
            soft = {} if hard else {"temperature": [20.0], "alpha": [1.0]}
            assert arm.axes == {**soft, "learning_rate": (3e-4, 1e-3, 3e-3)}


def test_every_arm_can_be_trained(digits):
    for arm in omitted_digit.arms(
        CONFIG, "without 3", (3,), {"hard": digits, "naive_teacher": digits}
    ):
        arms.check(arm)


def logits_of_runs(labels, behind):
    """Correct logits ``[N, 10]``, except that class 3 is ``behind`` for threes."""
    logits = 9.0 * np.eye(10)[labels]
    logits[labels == 3] = 9 * np.eye(10)[0] + (9 - behind) * np.eye(10)[3]
    return logits


@pytest.mark.parametrize("order", [("validation", "test"), ("test", "validation")])
@pytest.mark.parametrize("behind, left", [((3, 1), (1, 0, 0)), ((1, 7), (1, 1, 0))])
def test_errors_are_counted_before_and_after_and_by_class(behind, left, order, digits):
    """The bias is halfway between the gap and 9."""
    labels = {"validation": digits.validation["label"], "test": digits.test["label"]}
    both = dict(zip(labels, behind, strict=True))
    logits = {split: logits_of_runs(labels[split], both[split]) for split in order}
    run, classes = omitted_digit.judge(logits, digits, (3,), (3,))
    threes = np.sum(labels["test"] == 3)
    assert run["omitted_images"] == threes
    middles = [(9 + b) / 2 for b in behind]
    assert [run["bias_held_out"], run["bias_test"]] == middles
    for stage, wrong in zip(omitted_digit.STAGES, left, strict=True):
        errors = run[f"errors_{stage}"], run[f"omitted_errors_{stage}"]
        assert errors == (wrong * threes, wrong * threes)
        accuracy = np.ones(10)
        accuracy[3] = 1 - wrong
        np.testing.assert_array_equal(classes[f"accuracy_{stage}"], accuracy)
    np.testing.assert_array_equal(classes["images"], np.bincount(labels["test"]))


@pytest.fixture(scope="module")
def ran(digits):
    """The outcome of a run without training, and the labels seen by teachers.

    Students on hard labels and the second seed of naive students diverge.
    """
    seen = []

    def hinton_teacher(config, images):
        seen.append((config.teacher_epochs, images))
        number = float(len(seen))
        data = teacher.store(lambda b: np.full((len(b["label"]), 10), number), images)
        return setup.WithTeacher(data, {"seconds": 2, "number": number})

    def tuned(arm):
        data = arm.data
        extras = {
            split: np.stack(
                2 * [logits_of_runs(getattr(data, split)["label"], behind=2)]
            )
            for split in ("validation", "test")
        }
        diverged = {"hard": [True, True], "naive_teacher": [False, True]}
        runs = pd.DataFrame(
            {
                "seed": [0, 1],
                "best_epoch": 1,
                "diverged": diverged.get(arm.columns["arm"], [False, False]),
                "test_errors_best": 1,
                "test_errors_last": 2,
                "teacher": data.train["teacher"].logits.mean(),
            }
        )
        return Tuned(runs, runs, runs, 1.0, extras)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setup, "hinton_teacher", hinton_teacher)
        patch.setattr(omitted_digit, "tuned", tuned)
        yield omitted_digit.run(CONFIG, digits, INFO), seen


def test_the_naive_teacher_alone_does_not_see_the_digit(ran):
    outcome, seen = ran
    (epochs, full), (naive_epochs, naive) = seen
    assert (epochs, naive_epochs) == (100, 30)
    assert classes_of(full.train) == set(range(10))
    assert classes_of(naive.train) == set(range(10)) - {3}
    teachers = outcome.tables["runs"].groupby("arm")["teacher"].unique()
    assert teachers.map(list).to_dict() == {
        "distilled": [1],
        "hard": [1],
        "naive_teacher": [2],
    }
    assert outcome.facts["teacher"]["number"] == 1
    assert list(outcome.facts["naive_teachers"]) == ["without 3"]
    assert outcome.facts["seconds"] == 2 * 2 + 7


def test_a_row_a_run_and_a_row_a_class_of_it(ran):
    runs, classes = ran[0].tables["runs"], STUDY.derived["classes"](ran[0])
    assert list(runs)[:7] == [*INFO.columns(), "transfer", "arm"]
    assert not any("best" in name for name in runs)
    assert len(runs) == (3 + 2 + 2) * 2 and set(runs["train_size"]) == {700}
    assert list(classes)[:5] == ["transfer", "arm", "seed", "class", "images"]
    keys = ["transfer", "arm", "seed"]
    finished = runs[~runs["diverged"]].set_index(keys)
    assert len(classes) == 10 * len(finished) == 10 * 7
    for stage in omitted_digit.STAGES:
        wrong = (1 - classes[f"accuracy_{stage}"]) * classes["images"]
        errors = wrong.groupby([classes[name] for name in keys]).sum()
        pd.testing.assert_series_equal(
            errors, finished[f"errors_{stage}"].sort_index(), check_names=False
        )
    assert (finished["errors_bias_test"] <= finished["errors_unbiased"]).all()


def test_nothing_is_said_of_a_run_that_diverged(ran):
    runs = ran[0].tables["runs"]
    own = [n for n in runs if n.startswith(("bias", "errors", "omitted_errors"))]
    assert len(own) == 2 + 3 + 3
    assert runs.loc[runs["diverged"], own].isna().all(axis=None)
    assert runs.loc[~runs["diverged"], own].notna().all(axis=None)
    assert np.isnan(omitted_digit.spared(runs, "hard")).all()


ROWS = [  # transfer, arm, seed, errors, errors on omitted digits
    ("without 3", "distilled", 1, 110, 50),
    ("without 3", "distilled", 0, 100, 30),
    ("without 4", "distilled", 0, 200, 70),
    ("without 4", "distilled", 1, 230, 70),
    ("only 7 and 8", "distilled", 0, 1500, 1400),
    ("only 7 and 8", "distilled", 1, 1500, 1400),
    ("without 3", "hard", 0, 1000, 900),
    ("without 3", "hard", 1, 1200, 900),
    ("without 4", "hard", 0, 1100, 900),
    ("without 4", "hard", 1, 1100, 900),
    ("only 7 and 8", "hard", 0, 8000, 8000),
    ("only 7 and 8", "hard", 1, 8000, 8000),
    ("without 3", "naive_teacher", 0, 90, 900),
    ("without 3", "naive_teacher", 1, 130, 900),
]


@pytest.fixture
def runs():
    names = ["transfer", "arm", "seed", "errors_bias_held_out"]
    table = pd.DataFrame(ROWS, columns=[*names, "omitted_errors_bias_held_out"])
    return table.assign(omitted_images=1000)


def test_claims_are_counted_of_the_tables_alone(runs):
    expected = {
        "unseen_class": [0.97, 0.95],
        "beyond_hard_labels": [(900 + 900) / 2, (1090 + 870) / 2],
        "beyond_naive_teacher": [-10, 20],
    }
    assert expected.keys() == STUDY.claims.keys()
    for name, values in expected.items():
        found = estimate(STUDY.claims[name].measure(runs))
        np.testing.assert_allclose(found, estimate(values), err_msg=name)
    _, verdicts = arms.decided(STUDY, runs)
    assert list(verdicts.values()) == ["undecided", "supported", "undecided"]


def test_a_run_that_diverged_leaves_no_mean_for_its_seed(runs):
    runs.loc[
        runs.query("transfer == 'without 4' and seed == 1").index,
        "errors_bias_held_out",
    ] = np.nan
    spared = omitted_digit.spared(runs, "hard")
    assert spared[0] == 900 and np.isnan(spared[1])


def test_claims_about_other_digits_or_arms_are_not_evaluated(runs):
    assert arms.undecided(STUDY, runs.query("transfer == 'without 4'")) == [
        "unseen_class",
        "beyond_naive_teacher",
    ]


def test_results_are_shown_beside_the_papers_and_drawn(capsys):
    tables = {"runs": omitted_digit.STUDY.tables("omitted_digit")["runs"]}
    meta = {"dataset": {"test": 10_000}, "paper": omitted_digit.PAPER}
    omitted_digit.show(tables, meta)
    said = " ".join(capsys.readouterr().out.replace("│", "").split())
    assert "only 7 and 8, paper 47.3 - 13.2" in said
    assert "without 3, distilled 2.13 1.38 1.33" in said
    assert "without 3, paper 2.06 - 1.09" in said
    assert "without 3, paper 13.17 - 1.39" in said
    assert len(fig02_omitted_digit.draw("omitted_digit").axes) == 3 + 1


@pytest.mark.parametrize(
    "changed, says",
    [
        ({"omitted": (3, 10)}, "omitted is 10"),
        ({"omitted": (3, 3)}, "omitted is"),
        ({"omitted": (3,), "naive_teachers": (4,)}, "naive_teachers is"),
        ({"naive_teachers": ()}, "naive_teachers is"),
        ({"naive_teacher_epochs": 0}, "naive_teacher_epochs is 0"),
        ({"temperature": 0.0}, "temperature is 0"),
    ],
)
def test_a_config_that_cannot_be_is_refused(changed, says):
    with pytest.raises(ValueError, match=says):
        replace(omitted_digit.Config(), **changed)


def test_one_digit_alone_can_be_asked_for():
    assert replace(omitted_digit.Config(), omitted=(3,)).naive_teachers
