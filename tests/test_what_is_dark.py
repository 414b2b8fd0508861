"""That every arm is what its name says, and the claims what their rules say."""

from dataclasses import asdict, replace
import itertools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import mnist, tuning, what_is_dark
from kdjax import data, losses, results
from paper_figs import fig8_what_is_dark, fig12_telling_digits

CONFIG = what_is_dark.Config()
TINY = what_is_dark.Config(student_width=8, teacher_width=16, teacher_epochs=1)
TINY = replace(TINY, seeds=1, epochs=1)  # more would be compiled for more devices
NAME = "what_is_dark_mnist5k_quick"
T = 3.0


@pytest.fixture(scope="module")
def batch():
    """A student's logits, a teacher's that is not always right, and labels."""
    rng = np.random.default_rng(1)
    student, teacher = 3 * rng.normal(size=(2, 6, 10)).astype(np.float32)
    return student, teacher, np.array([3, 1, 4, 1, 5, 9])


@pytest.mark.parametrize("classes", [3, 10])
def test_few_images_are_balanced_and_among_more(classes):
    labels = np.random.default_rng(2).integers(0, classes, 1000).astype(np.int32)
    rows = np.arange(1000)
    split = data.Split(rows, labels, rows)
    seen = [set(mnist.few(split, f).x) for f in (0.05, 0.1, 1.0)]
    assert [len(s) for s in seen] == [50, 100, 1000]
    assert seen[0] < seen[1] < seen[2]
    for some in seen[:2]:
        counts = np.bincount(labels[list(some)], minlength=classes)
        assert counts.max() - counts.min() <= 1


def test_few_images_keep_labels_and_answers_and_are_seen_alike_often(digits):
    here = mnist.few(digits.train, 0.1)
    rows = [np.flatnonzero((digits.train.x == x).all((1, 2)))[0] for x in here.x]
    np.testing.assert_array_equal(here.y, digits.train.y[rows])
    np.testing.assert_array_equal(
        here.teacher_logits, digits.train.teacher_logits[rows]
    )
    assert set(np.bincount(rows)) == {0, 10}


@pytest.fixture(scope="module")
def asked(digits):
    """What every arm asks for, with none of it run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "tuned", lambda *args, **named: (args, named))
        info = data.Info("digits", "0", 10, 700, 100, 200)
        return list(what_is_dark.run(CONFIG, digits, info))


def test_every_arm_takes_the_same_steps_on_any_share(asked):
    taken = set()
    for _, ((training, _), named) in asked:
        taken.add((training.epochs, len(named["data"].train.y), mnist.BATCH_SIZE))
    assert taken == {(15, 700, 128)}


def test_the_runs_are_as_many_as_it_says(asked):
    count = 0
    for _, ((_, columns), named) in asked:
        count += len(columns["learning_rate"]) + len(named["seeds"])
        assert named["choose"] is tuning.best_row  # one setting a share is measured
    assert count == what_is_dark.runs(CONFIG) == 708


def test_every_arm_is_tried_on_the_shares_asked_for(asked):
    parts, distances = what_is_dark.parts(CONFIG), what_is_dark.distances(CONFIG)
    tried = [(same["fraction"], same["arm"]) for same, _ in asked]
    expected = {(f, arm) for f in CONFIG.fractions for arm in parts}
    expected |= {(f, arm) for f in (0.03, 1.0) for arm in distances}
    assert set(tried) == expected and len(tried) == len(expected)


def test_dkpp_alone_has_another_teacher_and_jitter_other_images(asked, digits):
    for same, (_, named) in asked:
        here = mnist.few(digits.train, same["fraction"])
        there = named["data"].train
        np.testing.assert_array_equal(there.x, here.x)
        equal = (there.teacher_logits == here.teacher_logits).all()
        assert equal == (same["arm"] != "dkpp")
        assert named["data"].validation is digits.validation
    arms = what_is_dark.arms(CONFIG, 1.0)
    assert [n for n, a in arms.items() if a.augment is data.jitter] == ["jitter"]
    assert arms["dkpp"].loss is arms["whole"].loss


def test_dkpp_keeps_probabilities_and_the_likeliest_class_alone(digits):
    before = digits.train.teacher_logits
    after = what_is_dark.permuted(digits.train).teacher_logits
    np.testing.assert_array_equal(np.sort(after), np.sort(before))
    np.testing.assert_array_equal(after.argmax(-1), before.argmax(-1))
    second = [np.argsort(logits)[:, -2] for logits in (before, after)]
    assert np.mean(second[0] == second[1]) < 0.2  # one in nine by chance


def log_softmax(logits):
    return logits - np.logaddexp.reduce(logits, -1, keepdims=True)


def of_likeliest(student, teacher, k):
    """Each teacher cut to its ``k`` likeliest classes, in NumPy."""
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
            return of_likeliest(s, t, int(arm[-1]))
        case "mse":
            return losses.logit_mse(s, t)
        case "centered_mse":
            return losses.centered_logit_mse(s, t)
        case _:
            return T**2 * divergences[arm](s / T, t / T)


@pytest.mark.parametrize("arm", what_is_dark.arms(CONFIG, 1.0))
def test_each_loss_is_what_its_name_says(arm, batch):
    asked = what_is_dark.arms(CONFIG, 1.0)[arm]
    values = {"temperature": T, "smoothing": 0.1}
    found = asked.loss(*batch, **{n: values[n] for n in asked.axes})
    np.testing.assert_allclose(found, expected(arm, *batch), rtol=2e-5)
    axes = {**asked.axes, "learning_rate": CONFIG.learning_rates}
    tried = what_is_dark.settings(CONFIG, asked)
    every = itertools.product(*map(np.float32, axes.values()))
    assert list(zip(*tried.values(), strict=True)) == list(every)
    assert tried.keys() == axes.keys()


def test_even_others_pull_as_dkpp_does_on_average():
    student, teacher = jnp.array([0.5, -1.0, 2.0, 0.0]), jnp.array([3.0, 1.0, 0.0, -2])
    named = {"temperature": T}
    pulls = [
        jax.grad(what_is_dark.whole)(student, jnp.array([3.0, *p]), None, **named)
        for p in itertools.permutations([1.0, 0.0, -2.0])
    ]
    even = jax.grad(what_is_dark.even_others)(student, teacher, None, **named)
    np.testing.assert_allclose(even, np.mean(pulls, 0), atol=1e-5)


def hand_made(whole=100):
    """Students that err so often; on few images ten times as often, parts in vain."""
    means = {"hard": 200, "dkpp": 170, "even": 140, "whole": whole}
    means |= {"mse": 120, "centered_mse": 100}
    few = {arm: 10 * (whole if arm == "whole" else 200) for arm in means}
    rows = [
        (fraction, arm, seed, mean + more, 1 - (mean + more) / 10_000)
        for fraction, errors in ((0.03, few), (1.0, means))
        for arm, mean in errors.items()
        for seed, more in enumerate((-1, 0, 1))
    ]
    names = ("fraction", "arm", "seed", "test_errors_last", "test_accuracy_last")
    return dict(zip(names, map(np.array, zip(*rows, strict=True)), strict=True))


def test_statistics_are_those_of_the_rows():
    found = what_is_dark.statistics({"runs": hand_made()})
    assert found.keys() == what_is_dark.CLAIMS.keys()
    values = {name: estimate.value for name, estimate in found.items()}
    assert values == pytest.approx(
        {
            "dark_knowledge": 0.3,
            "dark_knowledge_even": 0.6,
            "few_images": 10.0,
            "mse_raw": 0.2,
            "mse_centered": 0.0,
        }
    )
    # What seeds share is no noise: every student of a seed errs as much more.
    for estimate in found.values():
        assert estimate.high - estimate.low < 1e-6
    verdicts = {n: results.verdict(what_is_dark.CLAIMS[n], e) for n, e in found.items()}
    assert verdicts == {
        "dark_knowledge": "supported",
        "dark_knowledge_even": "refuted",
        "few_images": "supported",
        "mse_raw": "supported",
        "mse_centered": "refuted",
    }


def test_a_share_of_no_gain_decides_nothing():
    table = hand_made(whole=200)
    found = what_is_dark.statistics({"runs": table})["dark_knowledge"]
    assert math.isnan(found.low) and math.isnan(found.high)
    claim = what_is_dark.CLAIMS["dark_knowledge"]
    assert results.verdict(claim, found) == "undecided"


def test_shares_have_a_row_for_each_arm_but_the_ends():
    shares = what_is_dark.shares(hand_made())
    arms = {"dkpp", "even", "mse", "centered_mse"}
    assert set(shares["arm"]) == arms and len(shares["arm"]) == 8
    for fraction, share in ((0.03, 0.0), (1.0, 0.8)):
        row = results.select(shares, arm="mse", fraction=fraction)
        for name in ("share", "share_low", "share_high"):
            assert row[name] == pytest.approx(share)


def test_telling_digits_are_those_that_most_seeds_differ_on(digits, monkeypatch):
    y = digits.test.y[:5]
    split = data.Split(*(part[:5] for part in digits.test))
    wrong = (y + 1) % 10
    answers = {
        "whole": np.stack([y, y, [*y[:4], wrong[4]]]),
        "hard": np.stack(
            [
                [y[0], wrong[1], y[2], wrong[3], y[4]],
                [y[0], wrong[1], wrong[2], wrong[3], y[4]],
                [y[0], y[1], wrong[2], wrong[3], y[4]],
            ]
        ),
    }
    monkeypatch.setattr(what_is_dark, "PICTURED", 3)
    table = what_is_dark.telling(answers, split)
    np.testing.assert_array_equal(table["test_index"], [3, 1, 2])
    np.testing.assert_allclose(table["hard_right"], [0, 1 / 3, 1 / 3])
    np.testing.assert_allclose(table["whole_right"], 1)
    np.testing.assert_array_equal(table["label"], y[[3, 1, 2]])
    np.testing.assert_array_equal(table["hard_answer"], wrong[[3, 1, 2]])
    shown = np.stack([table[f"pixel{i}"] for i in range(28 * 28)], -1)
    pixels = np.round(255 * split.x[[3, 1, 2]]).astype(int)
    np.testing.assert_array_equal(shown.reshape(3, 28, 28), pixels)
    assert table["logit7"][0] == split.teacher_logits[3, 7]
    answers["hard"][:, 0] = y[0]
    answers["whole"][:2, 0] = wrong[0]
    assert what_is_dark.each_way(answers, y) == {"hard": 1, "whole": 3}


@pytest.fixture(scope="module")
def root(hasty, tmp_path_factory):
    """Of a run of the arms that the claims need."""
    every = what_is_dark.arms(CONFIG, 1.0)
    few = ("hard", "dkpp", "even", "whole", "mse", "centered_mse")
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("results")
        patch.setattr(results, "ROOT", root)
        with patch.context() as short:
            arms = {name: every[name] for name in few}
            short.setattr(what_is_dark, "arms", lambda *_: arms)
            what_is_dark.main(TINY, quick=True)
        yield root


def test_it_runs_from_end_to_end(root):
    table = results.load(NAME)
    assert len(table["seed"]) == 2 * 6
    assert set(table["fraction"]) == {0.03, 1.0}
    assert (table["train_size"] == 3500).all()
    meta = results.meta(NAME)
    assert set(meta["config"]["claims"]) == set(what_is_dark.CLAIMS)
    shares = results.load(NAME, "shares")
    assert len(shares["share"]) == 2 * 4
    shown = results.load(NAME, "digits")
    assert len(shown["label"]) == what_is_dark.PICTURED
    assert set(shown["whole_right"]) <= {0, 1}  # of one seed


def test_a_second_time_nothing_is_left_to_do(root, capsys):
    what_is_dark.main(TINY, quick=True)
    said = capsys.readouterr().out
    assert "nothing left to do" in said and "Soft labels teach more" in said


def test_the_figure_is_drawn_from_any_results(root):
    figure = fig8_what_is_dark.draw(NAME)
    assert len(figure.axes) == 2
    assert len(fig12_telling_digits.draw(NAME).axes) == 2 * what_is_dark.PICTURED


def test_the_figure_has_a_place_for_every_arm():
    arms = what_is_dark.arms(CONFIG, 1.0).keys() - {"hard", "whole"}
    assert fig8_what_is_dark.places().keys() == arms


@pytest.mark.parametrize(
    "changed, says",
    [
        ({"fractions": (0.03, 0.0, 1.0)}, "fractions are"),
        ({"fractions": (0.03, 1.0, 1.0)}, "fractions are"),
        ({"fractions": (0.01, 1.0)}, "fractions are"),
        ({"distance_fractions": (0.03, 0.5, 1.0)}, "distance_fractions are"),
        ({"distance_fractions": (1.0,)}, "distance_fractions are"),
        ({"temperatures": (0.0,)}, "temperature is 0.0"),
        ({"smoothings": (2.0,)}, "smoothing is 2.0"),
        ({"learning_rates": ()}, "learning_rate"),
        ({"seeds": 0}, "seeds is 0"),
        ({"max_norm": 0.0}, "max_norm is 0.0"),
    ],
)
def test_a_config_that_cannot_be_is_refused(changed, says):
    with pytest.raises(ValueError, match=says):
        what_is_dark.check(replace(CONFIG, **changed))


def test_the_config_is_what_json_holds():
    assert json.loads(json.dumps(asdict(CONFIG)))["fractions"] == [0.01, 0.03, 0.1, 1]
    what_is_dark.check(CONFIG)
