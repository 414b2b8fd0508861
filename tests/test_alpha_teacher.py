"""Teachers and labels of each arm, and how the selected alphas decide the claims."""

from dataclasses import replace

import jax
import numpy as np
import pandas as pd
import pytest

from experiments.mnist import alpha_teacher, setup
from kdjax.training import teacher
from paper_figs import fig08_alpha_teacher
from tests import arms

CONFIG = alpha_teacher.Config()
TEACHERS = ["full", "early", "noisy", "small"]


@pytest.mark.parametrize("share", [0.2, 1.0])
def test_wrong_labels_are_as_many_as_said_and_of_any_other_class(share):
    labels = np.repeat(np.arange(10, dtype=np.int32), 900)
    found = alpha_teacher.wrong(labels, share)
    assert (found != labels).sum() == round(share * 9000)
    np.testing.assert_array_equal(labels, np.repeat(np.arange(10), 900))
    np.testing.assert_array_equal(found, alpha_teacher.wrong(labels, share))
    assert found.dtype == np.int32 and found.min() == 0 and found.max() == 9
    off = np.bincount((found - labels) % 10, minlength=10)[1:]
    np.testing.assert_allclose(off, share * 1000, atol=5 * np.sqrt(share * 1000))
    by_class = [(found != labels)[labels == c].mean() for c in range(10)]
    np.testing.assert_allclose(by_class, share, atol=0.07)


@pytest.fixture(scope="module")
def images(digits):
    plain = ({n: split[n] for n in ("image", "label")} for split in digits)
    return type(digits)(*plain)


@pytest.fixture(scope="module")
def prepared(images):
    """Data of students, facts and trainings; teacher i has constant logits i."""
    fitted = []

    def fit(training, seen, *, learning_rate):
        fitted.append((training, seen, learning_rate))
        number = float(len(fitted))
        data = teacher.store(lambda b: np.full((len(b["label"]), 10), number), seen)
        return setup.WithTeacher(data, {"seconds": 2})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setup, "fit", fit)
        data_by_teacher, facts = alpha_teacher.prepare(CONFIG, images, None)
    return data_by_teacher, facts, fitted


def test_teachers_are_what_their_names_say(prepared, images):
    data_by_teacher, facts, fitted = prepared
    assert list(data_by_teacher) == ["none", *TEACHERS]
    assert list(facts["teachers"]) == TEACHERS
    assert facts["seconds"] == 2 * 4
    assert [training.epochs for training, _, _ in fitted] == [100, 2, 30, 15]
    assert [training.constrain is None for training, _, _ in fitted] == 3 * [False] + [
        True
    ]
    batch = jax.tree.map(lambda a: a[:1], images.train)
    for (training, _, _), width in zip(fitted, [1200, 1200, 1200, 7], strict=True):
        shapes = jax.eval_shape(training.model.init, jax.random.key(0), batch)
        assert {a.shape for a in jax.tree.leaves(shapes)} >= {(784, width), (width, 10)}
    for name, (_, seen, rate) in zip(TEACHERS, fitted, strict=True):
        wrong = np.mean(seen.train["label"] != images.train["label"])
        assert wrong == (0.2 if name == "noisy" else 0) and rate == 1e-3
        np.testing.assert_array_equal(seen.train["image"], images.train["image"])
        assert seen.validation is images.validation and seen.test is images.test


def test_students_see_true_labels_and_their_own_teacher(prepared, images):
    cells = list(alpha_teacher.arms(CONFIG, prepared[0]))
    tried = [(arm.columns["fraction"], arm.columns["teacher"]) for arm in cells]
    assert tried == [(f, t) for f in (0.03, 1.0) for t in ("none", *TEACHERS)]
    for arm in cells:
        subset = setup.subsample(images.train, arm.columns["fraction"])
        assert arms.same(arm.data.train, subset)
        assert arms.same(arm.data.validation, images.validation)
        assert arms.same(arm.data.test, images.test)
        for split in arm.data:
            if arm.columns["teacher"] == "none":
                assert "teacher" not in split
            else:
                number = 1 + TEACHERS.index(arm.columns["teacher"])
                assert (split["teacher"].logits == number).all()


def test_every_alpha_has_its_own_rate_and_as_many_steps(prepared):
    cells = list(alpha_teacher.arms(CONFIG, prepared[0]))
    for arm in cells:
        assert arm.training.epochs == 15 and len(arm.data.train["label"]) == 700
        none = arm.columns["teacher"] == "none"
        assert arms.sizes(arm) == ((3, 10) if none else (15, 50))
        if none:
            assert arm.columns["alpha"] == 0
        else:
            assert "alpha" not in arm.columns
            assert (arm.settings["temperature"] == 4).all()
    assert arms.runs(cells) == 546
    for arm in cells[:2]:
        arms.check(arm)


def hand_made(best, subset=None, shift=0):
    """Runs with the fewest validation and test errors at each teacher's best alpha.

    Each step away adds 10 errors. ``shift`` adds test errors at the best alpha.
    """
    alphas = np.array([0, 0.25, 0.5, 0.75, 0.9, 1.0])
    rows = []
    for fraction, chosen in ((0.03, subset or best), (1.0, best)):
        for name, peak in chosen.items():
            steps = abs(np.arange(6) - alphas.tolist().index(peak))
            for alpha, errors in zip(alphas, 100 + 10 * steps, strict=True):
                if alpha == 0 and name != "full":
                    continue  # once per fraction
                of = name if alpha else "none"
                for seed, more in enumerate((-4, 0, 4)):
                    test = errors + more + shift * (alpha == peak)
                    rows.append((fraction, of, alpha, seed, errors + more, test))
    names = ["fraction", "teacher", "alpha", "seed", "validation_errors_last"]
    table = pd.DataFrame(rows, columns=[*names, "test_errors_last"])
    return table.sample(frac=1, random_state=0)  # the order of rows must not matter


def decided(table):
    values, verdicts = arms.decided(alpha_teacher.STUDY, table)
    return list(values.values()), list(verdicts.values())


def test_verdicts_follow_the_best_alphas():
    values, verdicts = decided(
        hand_made({"full": 0.5, "noisy": 0.5}, subset={"full": 1.0, "noisy": 0.9})
    )
    assert values == pytest.approx([-10, 10, 0.1])
    # The smallest step on the grid, 0.1 up to rounding, is a smaller alpha.
    assert verdicts == ["supported", "refuted", "supported"]
    values, verdicts = decided(
        hand_made({"full": 0.25, "noisy": 0.5}, subset={"full": 0.9, "noisy": 0.9})
    )
    assert values == pytest.approx([10, -10, 0])
    assert verdicts == ["refuted", "supported", "refuted"]


def test_alphas_are_selected_on_validation_and_judged_on_test_errors():
    values, verdicts = decided(hand_made({"full": 0.75, "noisy": 0.9}, shift=50))
    # There are 150 test errors at 0.75, and 120 at 0.25 and 1. Test errors would select
    # 0.5 for the full teacher (110), and 0.75 for the noisy one.
    assert values == pytest.approx([30, 30, -0.15])
    assert verdicts == ["refuted", "refuted", "refuted"]


def test_hard_labels_are_among_the_alphas_to_choose_from():
    errors = alpha_teacher.typical_less_others(hand_made({"full": 0.0}), 1.0)
    np.testing.assert_array_equal(errors, 20)  # 0.5 is two steps away


def test_seeds_that_choose_differently_decide_nothing():
    table = hand_made({"full": 0.9, "noisy": 0.9})
    there = (table["teacher"] == "noisy") & (table["alpha"] == 0.5)
    table.loc[there & (table["seed"] == 0), "validation_errors_last"] = 0
    found = alpha_teacher.full_less_noisy(table)
    assert found.low < 0.05 < found.high


def test_claims_about_other_shares_or_without_other_alphas_are_not_evaluated():
    table = hand_made({"full": 0.5, "noisy": 0.5})
    study = alpha_teacher.STUDY
    undecided = arms.undecided(study, table.query("fraction == 1"))
    assert undecided == ["typical_alpha_few", "worse_teacher"]
    undecided = arms.undecided(study, table.query("0.5 <= alpha <= 0.9"))
    assert undecided == ["typical_alpha", "typical_alpha_few"]
    assert (
        len(arms.undecided(study, table.query("seed == 0"))) < 3
    )  # shown, but not decided


def test_an_alpha_at_which_a_run_diverged_is_not_the_best():
    table = hand_made({"full": 0.9, "noisy": 0.5})
    gone = (table["alpha"] == 0.9) & (table["seed"] == 0)
    table.loc[gone, ["validation_errors_last", "test_errors_last"]] = np.nan
    values, verdicts = decided(table)
    # The best others are 0.75 and 1, one step away each.
    assert values[:2] == pytest.approx([0, 0]) and values[2] in (0.25, 0.5)
    gone = table["alpha"].isin((0.5, 0.75, 0.9)) & (table["seed"] == 0)
    table.loc[gone, ["validation_errors_last", "test_errors_last"]] = np.nan
    values, verdicts = decided(table)
    assert np.isnan(values[:2]).all()
    assert verdicts[:2] == ["not evaluated", "not evaluated"]


def test_the_figure_is_drawn_and_every_teacher_is_in_it():
    assert len(fig08_alpha_teacher.draw("alpha_teacher").axes) == 2
    assert list(fig08_alpha_teacher.TEACHERS) == TEACHERS


@pytest.mark.parametrize(
    "changed, says",
    [
        ({"alphas": (0.0, 0.5)}, "alphas is 0.0"),
        ({"alphas": (0.5, 2.0)}, "alphas is 2.0"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"wrong_share": 0.0}, "wrong_share is 0.0"),
        ({"fractions": (0.03, 1.0, 1.0)}, "fractions is"),
        ({"fractions": (0.0, 1.0)}, "fractions is 0.0"),
        ({"early_epochs": 0}, "early_epochs is 0"),
        ({"max_norm": 0.0}, "max_norm is 0.0"),
    ],
)
def test_a_config_that_cannot_be_is_refused(changed, says):
    with pytest.raises(ValueError, match=says):
        replace(CONFIG, **changed)
