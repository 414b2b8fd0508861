"""Every arm matches its name, and claims follow their rules."""

from dataclasses import replace
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from experiments.mnist import setup, what_is_dark
from kdjax import data, losses
from kdjax.data import Info
from kdjax.models import Outputs
from kdjax.study.selection import best_row
from kdjax.study.types import InvalidConfig
from kdjax.training import views
from paper_figs import fig03_what_is_dark, fig04_telling_digits
from tests import arms

STUDY = what_is_dark.STUDY
CONFIG = what_is_dark.Config()
EVERY = what_is_dark.PARTS | what_is_dark.DISTANCES
T = 3.0


@pytest.mark.parametrize("classes", [3, 10])
def test_few_images_are_balanced_and_among_more(classes):
    labels = np.random.default_rng(2).integers(0, classes, 1000).astype(np.int32)
    split = {"image": np.arange(1000), "label": labels}
    seen = [set(setup.subsample(split, f)["image"]) for f in (0.05, 0.1, 1.0)]
    assert [len(s) for s in seen] == [50, 100, 1000]
    assert seen[0] < seen[1] < seen[2]
    for some in seen[:2]:
        counts = np.bincount(labels[list(some)], minlength=classes)
        assert counts.max() - counts.min() <= 1


def test_few_images_keep_labels_and_outputs_and_are_seen_alike_often(digits):
    subset, every = setup.subsample(digits.train, 0.1), digits.train
    rows = [
        np.flatnonzero((every["image"] == x).all((1, 2)))[0] for x in subset["image"]
    ]
    np.testing.assert_array_equal(subset["label"], every["label"][rows])
    outputs = every["teacher"].logits[rows]
    np.testing.assert_array_equal(subset["teacher"].logits, outputs)
    assert set(np.bincount(rows)) == {0, 10}


def test_a_share_that_holds_no_image_is_refused(digits):
    with pytest.raises(ValueError, match="fraction is 0.0001, but takes"):
        setup.subsample(digits.train, 0.0001)
    info = Info("digits", "1", 10, 700, 100, 200)
    with pytest.raises(InvalidConfig, match="fractions is 0.0001, but takes at least"):
        replace(CONFIG, fractions=(0.5, 0.0001)).check_data(info)
    with pytest.raises(InvalidConfig, match="batch_size is 128, but takes at most 127"):
        CONFIG.check_data(info._replace(train=127))
    CONFIG.check_data(info)


@pytest.fixture(scope="module")
def all_arms(digits):
    return list(what_is_dark.arms(CONFIG, digits))


def test_every_arm_takes_the_same_steps_on_any_share(all_arms):
    for arm in all_arms:
        assert arm.training.epochs == 15 and arm.training.batch_size == 128
        assert len(arm.data.train["label"]) == 700 and arm.seeds == 5
        assert arm.choose is best_row  # one setting per fraction is measured
    searched, measured = (sum(n) for n in zip(*map(arms.sizes, all_arms), strict=True))
    assert (searched, measured) == (408, 300)
    assert f"{searched + measured} runs, of which {searched}" in " ".join(
        what_is_dark.__doc__.split()
    )


def test_every_arm_is_tried_on_the_given_shares(all_arms):
    tried = [(arm.columns["fraction"], arm.columns["arm"]) for arm in all_arms]
    assert tried == [
        (fraction, arm)
        for fraction in CONFIG.fractions
        for arm in (EVERY if fraction in (0.03, 1) else what_is_dark.PARTS)
    ]
    assert len(what_is_dark.PARTS) == 12 and len(what_is_dark.DISTANCES) == 6


def test_shares_without_other_distances_can_be_asked_for(digits):
    config = replace(CONFIG, fractions=(0.1,))
    tried = [arm.columns["arm"] for arm in what_is_dark.arms(config, digits)]
    assert tried == list(what_is_dark.PARTS)


def test_dkpp_alone_has_another_teacher_and_jitter_other_images(all_arms, digits):
    for arm in all_arms:
        subset = setup.subsample(digits.train, arm.columns["fraction"])
        there = arm.data.train
        assert arms.same(there, subset) and arm.data.validation is digits.validation
        equal = np.array_equal(there["teacher"].logits, subset["teacher"].logits)
        assert equal == (arm.columns["arm"] != "dkpp")
        plain = arm.training.view is views.unchanged
        assert plain == (arm.columns["arm"] != "jitter")
    key, images = jax.random.key(0), digits.train["image"][:5]
    seen = what_is_dark.VIEWS["jitter"](key, {"image": images}, None, None)
    np.testing.assert_array_equal(seen["image"], data.jitter(key, images))


def test_predictions_are_kept_of_two_arms_on_all_images(all_arms):
    kept = [arm for arm in all_arms if arm.extras]
    assert [(a.columns["fraction"], a.columns["arm"]) for a in kept] == [
        (1, "hard"),
        (1, "whole"),
    ]


@pytest.mark.parametrize("name", ["jitter", "dkpp", "smoothing", "top2", "mse"])
def test_arms_can_be_trained(all_arms, name):
    (arm,) = (a for a in all_arms if tuple(a.columns.values())[:2] == (0.03, name))
    arms.check(arm)


def test_dkpp_keeps_probabilities_and_the_top_class_alone(digits):
    before = digits.train["teacher"].logits
    after = what_is_dark.permuted(digits.train)["teacher"].logits
    np.testing.assert_array_equal(np.sort(after), np.sort(before))
    np.testing.assert_array_equal(after.argmax(-1), before.argmax(-1))
    second = [np.argsort(logits)[:, -2] for logits in (before, after)]
    assert np.mean(second[0] == second[1]) < 0.2  # one in nine by chance


def log_softmax(logits):
    return logits - np.logaddexp.reduce(logits, -1, keepdims=True)


def of_most_probable(student, teacher, k):
    """The teacher restricted to its ``k`` most probable classes, in NumPy."""
    values = []
    for s, t in zip(student / T, teacher / T, strict=True):
        kept = np.argsort(t)[-k:]
        log_p = log_softmax(t[kept])
        gap = log_p - log_softmax(s)[kept]
        values.append(T**2 * np.sum(np.exp(log_p) * gap))
    return np.array(values)


def expected(arm, s, t, y):
    divergences = {
        "reverse_kl": losses.reverse_kl,
        "skew_forward_kl": losses.skew_forward_kl,
        "jensen_shannon": losses.normalized_jensen_shannon,
        "total_variation": losses.total_variation,
    }
    hard = losses.cross_entropy(s, y)
    match arm:
        case "hard" | "jitter":
            return hard
        case "smoothing":
            return losses.label_smoothing(s, y, smoothing=0.1)
        case "argmax":
            return losses.cross_entropy(s, t.argmax(-1))
        case "cwtm":
            return losses.confidence_weighted(s, t, y)
        case "dkpp" | "whole":
            return losses.soft_kl(s, t, temperature=T)
        case "even":
            p = np.exp(log_softmax(t / T)).max(-1, keepdims=True)
            top = np.arange(10) == t.argmax(-1)[:, None]
            mean = np.where(top, p, (1 - p) / 9)
            return losses.soft_kl(s, T * np.log(mean), temperature=T)
        case "tckd":
            return losses.tckd(s, t, y, temperature=T)
        case "nckd":
            return hard + losses.nckd(s, t, y, temperature=T)
        case "top2" | "top3":
            return of_most_probable(s, t, int(arm[-1]))
        case "mse":
            return losses.logit_mse(s, t)
        case "centered_mse":
            return losses.centered_logit_mse(s, t)
        case _:
            return T**2 * divergences[arm](s / T, t / T)


@pytest.mark.parametrize("arm", EVERY)
def test_each_loss_is_what_its_name_says(arm):
    student, teacher = 3 * np.random.default_rng(1).normal(size=(2, 6, 10))
    s, t = student.astype(np.float32), teacher.astype(np.float32)
    y = np.array([3, 1, 4, 1, 5, 9])  # the teacher is not always right
    axes = setup.search_grid(EVERY[arm], CONFIG)
    assert axes.pop("learning_rate") == CONFIG.learning_rates
    assert axes in ({}, {"temperature": (2, 5, 20)}, {"smoothing": (0.05, 0.1)})
    values = {"temperature": T, "smoothing": 0.1}
    own = {n: values[n] for n in axes}
    found = EVERY[arm](Outputs(s), Outputs(t), {"label": y}, **own)
    np.testing.assert_allclose(found, expected(arm, s, t, y), rtol=2e-5)


def test_even_others_pull_as_dkpp_does_on_average():
    student = jnp.array([0.5, -1.0, 2.0, 0.0])

    def pull(arm):
        def loss(student, teacher):
            return EVERY[arm](Outputs(student), Outputs(teacher), {}, temperature=T)

        return jax.jit(jax.grad(loss))

    orders = itertools.permutations([1.0, 0.0, -2.0])
    pulls = [pull("dkpp")(student, jnp.array([3.0, *others])) for others in orders]
    even = pull("even")(student, jnp.array([3.0, 1.0, 0.0, -2.0]))
    np.testing.assert_allclose(even, np.mean(pulls, 0), atol=1e-5)


def hand_made(whole=100):
    """Runs with these errors; on few images ten times more, and no gain by parts."""
    means = {"hard": 200, "dkpp": 170, "even": 140, "whole": whole}
    means |= {"mse": 120, "centered_mse": 100}
    subset = {arm: 10 * (whole if arm == "whole" else 200) for arm in means}
    rows = [
        (fraction, arm, seed, mean + more, 1 - (mean + more) / 10_000)
        for fraction, errors in ((0.03, subset), (1.0, means))
        for arm, mean in errors.items()
        for seed, more in enumerate((-1, 0, 1))
    ]
    names = ["fraction", "arm", "seed", "test_errors_last", "test_accuracy_last"]
    return pd.DataFrame(rows, columns=names).sample(frac=1, random_state=0)


def test_claims_are_decided_by_the_rows():
    values, verdicts = arms.decided(STUDY, hand_made())
    assert values == pytest.approx(
        {
            "dark_knowledge": 0.3,
            "dark_knowledge_even": 0.6,
            "few_images": 10.0,
            "mse_raw": 0.2,
            "mse_centered": 0.0,
        }
    )
    # An effect of the seed on all of its students is not noise.
    assert verdicts == {
        "dark_knowledge": "supported",
        "dark_knowledge_even": "refuted",
        "few_images": "supported",
        "mse_raw": "supported",
        "mse_centered": "refuted",
    }


def test_a_share_of_no_gain_decides_nothing():
    for whole in (200, 230):
        assert np.isnan(what_is_dark.share(hand_made(whole), "dkpp")).all()
    _, verdicts = arms.decided(STUDY, hand_made(whole=200))
    assert verdicts["dark_knowledge"] == "not evaluated"


@pytest.mark.parametrize("arm", ["hard", "whole", "dkpp"])
def test_a_run_that_diverged_is_averaged_over_by_no_claim(arm):
    runs = hand_made()
    gone = (runs["arm"] == arm) & (runs["seed"] == 1)
    runs.loc[gone, ["test_errors_last", "test_accuracy_last"]] = np.nan
    _, verdicts = arms.decided(STUDY, runs)
    assert verdicts["dark_knowledge"] == "not evaluated"
    if arm == "whole":
        assert set(verdicts.values()) == {"not evaluated"}


def test_claims_about_other_shares_are_not_evaluated():
    runs = hand_made()
    left = STUDY.claims.keys() - set(arms.undecided(STUDY, runs.query("fraction < 1")))
    assert left == {"few_images"}
    assert arms.undecided(STUDY, runs.query("fraction == 1")) == ["few_images"]


def test_shares_have_a_row_for_each_arm_but_the_ends():
    shares = what_is_dark.shares(hand_made())
    assert set(shares["arm"]) == {"dkpp", "even", "mse", "centered_mse"}
    assert list(shares)[2:] == ["share", "share_low", "share_high"] and len(shares) == 8
    of_mse = shares.query("arm == 'mse'").set_index("fraction")
    for fraction, share in ((0.03, 0.0), (1.0, 0.8)):
        assert of_mse.loc[fraction].drop("arm").to_list() == pytest.approx(3 * [share])


@pytest.fixture
def predicted(digits):
    """Predictions of three seeds on five test images, and these images."""
    split = jax.tree.map(lambda a: a[:5], digits.test)
    y = split["label"]
    wrong = (y + 1) % 10
    predicted = {
        "whole": np.stack([y, y, [*y[:4], wrong[4]]]),
        "hard": np.stack(
            [
                [y[0], wrong[1], y[2], wrong[3], y[4]],
                [y[0], wrong[1], wrong[2], wrong[3], y[4]],
                [y[0], y[1], wrong[2], wrong[3], y[4]],
            ]
        ),
    }
    return predicted, split


def test_telling_digits_are_those_that_most_seeds_differ_on(predicted, monkeypatch):
    predicted, split = predicted
    y = split["label"]
    monkeypatch.setattr(what_is_dark, "PICTURED", 3)
    table = what_is_dark.telling(predicted, split)
    np.testing.assert_array_equal(table["test_index"], [3, 1, 2])
    np.testing.assert_allclose(table["hard_right"], [0, 1 / 3, 1 / 3])
    np.testing.assert_allclose(table["whole_right"], 1)
    np.testing.assert_array_equal(table["label"], y[[3, 1, 2]])
    np.testing.assert_array_equal(table["hard_answer"], (y[[3, 1, 2]] + 1) % 10)
    shown = table.filter(like="pixel").to_numpy().reshape(3, 28, 28)
    np.testing.assert_allclose(shown, 255 * split["image"][[3, 1, 2]], atol=0.5)
    assert table["logit7"][0] == split["teacher"].logits[3, 7]


def test_images_that_most_seeds_of_one_arm_alone_get_right_are_counted(predicted):
    predicted, split = predicted
    assert what_is_dark.each_way(predicted, split["label"]) == {"hard": 0, "whole": 3}
    predicted["hard"][:, 0] = split["label"][0]
    predicted["whole"][:2, 0] += 1
    assert what_is_dark.each_way(predicted, split["label"]) == {"hard": 1, "whole": 3}


def test_the_figures_are_drawn_and_have_a_place_for_every_arm():
    assert len(fig03_what_is_dark.draw("what_is_dark").axes) == 4
    drawn = fig04_telling_digits.draw("what_is_dark")
    assert len(drawn.axes) == 2 * what_is_dark.PICTURED
    assert fig03_what_is_dark.HEIGHTS.keys() == EVERY.keys() - {"hard", "whole"}


@pytest.mark.parametrize(
    "changed, says",
    [
        ({"fractions": (0.03, 0.0, 1.0)}, "fractions is 0.0"),
        ({"fractions": (0.03, 1.0, 1.0)}, "fractions is"),
        ({"distance_fractions": (2.0,)}, "distance_fractions is 2.0"),
        ({"temperatures": (0.0,)}, "temperatures is 0.0"),
        ({"smoothings": (2.0,)}, "smoothings is 2.0"),
        ({"learning_rates": ()}, "learning_rates is"),
    ],
)
def test_a_config_that_cannot_be_is_refused(changed, says):
    with pytest.raises(ValueError, match=says):
        replace(CONFIG, **changed)
