"""Who teaches whom with what labels, and how choices of alpha decide the claims."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from experiments import alpha_teacher, mnist, tuning
from kdjax import data, losses, results
from paper_figs import fig10_alpha_teacher

CONFIG = alpha_teacher.Config()
TINY = replace(
    CONFIG,
    teacher_width=16,
    teacher_epochs=1,
    early_epochs=1,  # one epoch for all three: one program
    noisy_epochs=1,
    small_width=4,
    student_width=8,
    alphas=(0.5, 1.0),
    learning_rates=(3e-3,),  # as many rows to choose by as to measure: one program
    seeds=1,  # more would be compiled for more devices
    epochs=1,
)
NAME = "alpha_teacher_mnist5k"
TEACHERS = ["full", "early", "noisy", "small"]


@pytest.fixture(scope="module")
def info():
    return data.Info("digits", "0", 10, 700, 100, 200)


@pytest.fixture(scope="module")
def images(digits):
    return data.Data(*(split._replace(teacher_logits=None) for split in digits))


@pytest.mark.parametrize("share", [0.2, 1.0])
def test_wrong_labels_are_as_many_as_said_and_of_any_other_class(share):
    labels = np.repeat(np.arange(10, dtype=np.int32), 900)
    found = alpha_teacher.wrong(labels, share, 10)
    assert (found != labels).sum() == round(share * 9000)
    np.testing.assert_array_equal(labels, np.repeat(np.arange(10), 900))
    np.testing.assert_array_equal(found, alpha_teacher.wrong(labels, share, 10))
    assert found.dtype == np.int32 and found.min() == 0 and found.max() == 9
    off = np.bincount((found - labels) % 10, minlength=10)[1:]
    np.testing.assert_allclose(off, share * 1000, atol=5 * np.sqrt(share * 1000))
    by_class = [(found != labels)[labels == c].mean() for c in range(10)]
    np.testing.assert_allclose(by_class, share, atol=0.07)


@pytest.fixture(scope="module")
def asked(images, info):
    """What teachers and students ask for, none of it run; teachers answer a number."""
    fitted = []

    def fit(training, seen, *, learning_rate):
        fitted.append((training, seen, learning_rate))
        answers = [
            split._replace(teacher_logits=np.full((len(split.y), 10), len(fitted)))
            for split in seen
        ]
        return mnist.Taught(data.Data(*answers), training, None, {})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mnist, "fit", fit)
        patch.setattr(tuning, "tuned", lambda *args, **named: (args, named))
        taught = alpha_teacher.teachers(CONFIG, images, info)
        return taught, fitted, list(alpha_teacher.run(CONFIG, taught, images, info))


def test_teachers_are_what_their_names_say(asked, images):
    taught, fitted, _ = asked
    assert list(taught) == TEACHERS
    assert [training.epochs for training, _, _ in fitted] == [100, 2, 30, 15]
    key, x = jax.random.key(0), images.train.x[:1]
    variables = [jax.eval_shape(t.model.init, key, x) for t, _, _ in fitted]
    widths = [max(v.shape[-1] for v in jax.tree.leaves(each)) for each in variables]
    assert widths == [1200, 1200, 1200, 10]  # and those of the small one are below 10
    for name, (_, seen, rate) in zip(taught, fitted, strict=True):
        wrong = np.mean(seen.train.y != images.train.y)
        assert wrong == (0.2 if name == "noisy" else 0) and rate == 1e-3
        np.testing.assert_array_equal(seen.train.x, images.train.x)
        assert seen.validation is images.validation and seen.test is images.test


def test_students_see_true_labels_and_their_own_teacher(asked, images):
    _, _, cells = asked
    tried = [(same["fraction"], same["teacher"]) for same, _ in cells]
    assert tried == [(f, t) for f in (0.03, 1.0) for t in ("none", *TEACHERS)]
    for same, (_, named) in cells:
        few = mnist.few(images.train, same["fraction"])
        there = named["data"]
        np.testing.assert_array_equal(there.train.x, few.x)
        np.testing.assert_array_equal(there.train.y, few.y)
        for split in there:
            if same["teacher"] == "none":
                assert split.teacher_logits is None
            else:
                answer = 1 + TEACHERS.index(same["teacher"])
                assert (split.teacher_logits == answer).all()
        for name in ("validation", "test"):
            own, true = getattr(there, name), getattr(images, name)
            np.testing.assert_array_equal(own.y, true.y)


def test_every_alpha_has_its_own_rate_and_as_many_steps(asked):
    _, _, cells = asked
    count = 0
    rates = np.float32(CONFIG.learning_rates)
    for same, ((training, columns), named) in cells:
        assert training.epochs == 15 and len(named["data"].train.y) == 700
        assert "choose" not in named and named["seeds"] == range(10)
        alphas = np.float32(CONFIG.alphas)
        if same["teacher"] == "none":
            assert training.loss is mnist.cross_entropy
            assert columns.keys() == {"learning_rate"} and same["alpha"] == 0
            alphas = alphas[:1]
        else:
            assert training.loss is losses.hinton and "alpha" not in same
            np.testing.assert_array_equal(columns["alpha"], alphas.repeat(len(rates)))
            assert (columns["temperature"] == 4).all()
        tried = np.tile(rates, len(alphas))
        np.testing.assert_array_equal(columns["learning_rate"], tried)
        count += len(tried) + 10 * len(alphas)
    assert count == 546


def hand_made(best, few=None, shift=0):
    """Students of each teacher that err least at its best alpha, in both counts.

    By 10 errors for each step away; ``shift`` are more in the test, at the best alpha.
    """
    alphas = np.array([0, 0.25, 0.5, 0.75, 0.9, 1.0])
    rows = []
    for fraction, chosen in ((0.03, few or best), (1.0, best)):
        for teacher, peak in chosen.items():
            steps = abs(np.arange(6) - alphas.tolist().index(peak))
            for alpha, errors in zip(alphas, 100 + 10 * steps, strict=True):
                name = teacher if alpha else "none"
                if alpha == 0 and teacher != "full":
                    continue  # once for each share
                for seed, more in enumerate((-4, 0, 4)):
                    test = errors + more + shift * (alpha == peak)
                    rows.append((fraction, name, alpha, seed, errors + more, test))
    names = ("fraction", "teacher", "alpha", "seed", "validation_errors_last")
    columns = map(np.array, zip(*rows, strict=True))
    return dict(zip((*names, "test_errors_last"), columns, strict=True))


def decided(table):
    found = alpha_teacher.statistics({"runs": table})
    assert found.keys() == alpha_teacher.CLAIMS.keys()
    verdicts = {
        n: results.verdict(alpha_teacher.CLAIMS[n], e) for n, e in found.items()
    }
    return [found[n].value for n in found], list(verdicts.values())


def test_verdicts_follow_the_best_alphas():
    values, verdicts = decided(
        hand_made({"full": 0.5, "noisy": 0.5}, few={"full": 1.0, "noisy": 0.9})
    )
    assert values == pytest.approx([-10, 10, 0.1])
    # A step of 0.1, the least on the grid and a bit less in floats, is a smaller alpha.
    assert verdicts == ["supported", "refuted", "supported"]
    values, verdicts = decided(
        hand_made({"full": 0.25, "noisy": 0.5}, few={"full": 0.9, "noisy": 0.9})
    )
    assert values == pytest.approx([10, -10, 0])
    assert verdicts == ["refuted", "supported", "refuted"]
    values, verdicts = decided(hand_made({"full": 0.5, "noisy": 0.75}))
    assert values[2] == pytest.approx(-0.25) and verdicts[2] == "refuted"


def test_alphas_are_chosen_on_validation_and_judged_on_test_errors():
    values, verdicts = decided(hand_made({"full": 0.75, "noisy": 0.9}, shift=50))
    # At 0.75 there are 150 in the test, at 0.25 and at 1 120. Test errors would choose
    # 0.5 for the full teacher, 110, and 0.75 for the noisy one.
    assert values == pytest.approx([30, 30, -0.15])
    assert verdicts == ["refuted", "refuted", "refuted"]


def test_no_teacher_is_among_the_alphas_to_choose_from():
    values, _ = decided(hand_made({"full": 0.0, "noisy": 0.25}))
    assert values[0] == pytest.approx(20)  # 0.5 is two steps away


def test_seeds_that_choose_differently_decide_nothing():
    table = hand_made({"full": 0.9, "noisy": 0.9})
    there = (table["teacher"] == "noisy") & (table["alpha"] == 0.5)
    table["validation_errors_last"][there & (table["seed"] == 0)] = 0
    _, verdicts = decided(table)
    assert verdicts[2] == "undecided"


@pytest.fixture(scope="module")
def root(hasty, digits, info, tmp_path_factory):
    """Of a run of few alphas, by small nets."""
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("results")
        patch.setattr(results, "ROOT", root)
        plain = data.Data(*(s._replace(teacher_logits=None) for s in digits))
        patch.setattr("kdjax.data.load", lambda *_: (plain, info))
        alpha_teacher.main(TINY)
        yield root


def test_it_runs_from_end_to_end(root):
    table, meta = results.load(NAME), results.meta(NAME)
    assert len(table["seed"]) == 2 * (1 + 4 * 2)
    assert set(table["alpha"]) == {0, 0.5, 1}
    np.testing.assert_array_equal(table["alpha"] == 0, table["teacher"] == "none")
    assert list(meta["teachers"]) == TEACHERS
    for quality in meta["teachers"].values():
        assert quality["test"].keys() == {"accuracy", "errors", "nll", "ece"}
    of_teachers = sum(quality["seconds"] for quality in meta["teachers"].values())
    assert meta["seconds"] >= of_teachers


def test_a_second_time_nothing_is_left_to_do(root, capsys):
    alpha_teacher.main(TINY)
    said = capsys.readouterr().out
    assert "nothing left to do" in said and "A worse teacher should" in said
    assert said.count("*") == 2 * 4 + 1  # each teacher's best on each share


def test_the_figure_is_drawn_from_any_results(root):
    figure = fig10_alpha_teacher.draw(NAME)
    assert len(figure.axes) == 2
    assert list(fig10_alpha_teacher.TEACHERS) == TEACHERS
    assert fig10_alpha_teacher.TYPICAL == alpha_teacher.TYPICAL


@pytest.mark.parametrize(
    "changed, says",
    [
        ({"alphas": (0.0, 0.5)}, "alphas are"),
        ({"alphas": (0.25, 1.0)}, "alphas are"),
        ({"alphas": (0.5, 2.0)}, "alpha is 2.0"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"wrong_share": 0.0}, "wrong_share is 0.0"),
        ({"fractions": (0.03, 0.5)}, "fractions are"),
        ({"fractions": (0.03, 1.0, 1.0)}, "fractions are"),
        ({"fractions": (0.03, 1.0, 2.0)}, "fractions are"),
        ({"learning_rates": ()}, "learning_rate"),
        ({"early_epochs": 0}, "early_epochs is 0"),
        ({"seeds": 0}, "seeds is 0"),
        ({"max_norm": 0.0}, "max_norm is 0.0"),
    ],
)
def test_a_config_that_cannot_be_is_refused(changed, says):
    alpha_teacher.check(CONFIG)
    with pytest.raises(ValueError, match=says):
        alpha_teacher.check(replace(CONFIG, **changed))
