"""That each student learns from the teacher it names, and what decides the claims."""

from dataclasses import replace

import numpy as np
import pytest

from experiments import capacity_gap_mnist as gap
from experiments import running, tuning
from kdjax import data, losses, results
from kdjax.sweep import Swept
from paper_figs import fig11_capacity_gap_mnist

CONFIG = gap.Config()
TINY = gap.Config(
    student_widths=(16,),
    teacher_widths=(256, 64, 32),
    early_epochs=1,
    full_epochs=2,
    temperatures=(1.0, 4.0),
    learning_rates=(1e-2,),
    seeds=1,  # more would be compiled for more devices
    epochs=1,
)
NAME = "capacity_gap_mnist_mnist5k"
PARAMETERS = [26506, 55050, 269322]
ARMS = ["kl", "kl_tuned", "dist", "standardized"]


def without_teacher(digits):
    return data.Data(*(split._replace(teacher_logits=None) for split in digits))


@pytest.fixture(scope="module")
def root(hasty, digits, tmp_path_factory):
    """Of a run from end to end, of those full teachers that the claims need."""
    full = [teacher for teacher in gap.schedules(TINY) if teacher[0] == "full"]
    images = without_teacher(digits)
    info = data.Info("digits", "1", 10, *(len(split.y) for split in images))
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("results")
        patch.setattr(results, "ROOT", root)
        patch.setattr("kdjax.data.load", lambda *_: (images, info))
        with patch.context() as short:
            short.setattr(gap, "schedules", lambda _: full)
            gap.main(TINY)
        yield root


def test_it_runs_from_end_to_end_and_once(root, capsys):
    rows, search = results.load(NAME), results.load(NAME, "search")
    assert list(dict.fromkeys(rows["arm"])) == ["hard", *ARMS]
    for arm in ARMS:
        here = results.select(rows, arm=arm)
        assert list(here["teacher"]) == [0, 1, 2]
        assert list(here["kind"]) == 3 * ["full"]
        assert list(here["teacher_width"]) == [32, 64, 256]
        assert list(here["ratio"]) == [13002 / n for n in PARAMETERS]
    hard = results.select(rows, arm="hard")
    assert hard["kind"] == ["none"] and np.isnan(hard["ratio"]).all()
    assert (results.select(rows, arm="kl")["temperature"] == 4).all()
    assert (results.select(rows, kind="none")["arm"] == "hard").all()
    assert len(search["seed"]) == 1 + 3 * (2 + 1 + 1)
    assert not any(c.startswith("test_") and c != "test_size" for c in search)
    gap.main(TINY)
    said = capsys.readouterr().out
    assert "nothing left to do" in said and "A teacher too large" in said


def test_teachers_are_described(root):
    teachers = results.load(NAME, "teachers")
    assert list(teachers["width"]) == [32, 64, 256]
    assert list(teachers["parameters"]) == PARAMETERS
    entropy, accuracy = teachers["train_entropy"], teachers["train_accuracy"]
    assert ((0 < entropy) & (entropy < np.log(10))).all()
    assert ((0.1 < accuracy) & (accuracy < 1)).all()


def test_teachers_are_of_every_kind_and_width():
    assert gap.schedules(TINY) == [
        (kind, width, epochs)
        for kind, epochs in (("early", 1), ("full", 2), ("over", 60))
        for width in (32, 64, 256)
    ]


def test_the_figure_is_drawn_from_any_results(root):
    figure = fig11_capacity_gap_mnist.draw(NAME)
    assert len(figure.axes) == 1 + 3
    assert list(fig11_capacity_gap_mnist.ARMS) == ARMS
    assert fig11_capacity_gap_mnist.SWEET == gap.SWEET


def test_all_teachers_lie_side_by_side_in_train_alone(digits, monkeypatch):
    """What they are is said of each: here sure, and right of 10 images an epoch."""

    def fit(training, images, *, learning_rate):
        wrong = np.arange(700) >= 10 * training.epochs
        logits = 40 * np.eye(10, dtype=np.float32)[(images.train.y + wrong) % 10]
        train = images.train._replace(teacher_logits=logits)
        quality = {s: {"accuracy": 0.5, "nll": 1.0} for s in ("validation", "test")}
        return gap.mnist.Taught(
            images._replace(train=train), training, None, quality | {"seconds": 7}
        )

    monkeypatch.setattr(gap.mnist, "fit", fit)
    images, teachers = gap.taught(TINY, without_teacher(digits))
    assert images.train.teacher_logits.shape == (700, 9, 10)
    answers = images.train.teacher_logits.argmax(-1)
    right = np.sum(answers == images.train.y[:, None], axis=0)
    np.testing.assert_array_equal(right, 10 * teachers["epochs"])
    assert images.validation.teacher_logits is None
    np.testing.assert_allclose(teachers["train_accuracy"], right / 700)
    np.testing.assert_allclose(teachers["train_entropy"], 0, atol=1e-6)


def test_a_loss_takes_the_teacher_it_is_told():
    rng = np.random.default_rng(0)
    student = rng.normal(size=(5, 10)).astype(np.float32)
    teachers = 3 * rng.normal(size=(5, 4, 10)).astype(np.float32)
    labels = np.array([0, 3, 9, 9, 1])
    hard, one = losses.cross_entropy(student, labels), teachers[:, 2]
    spread = [(z - z.mean(-1, keepdims=True)) for z in (student, one)]
    spread = [z / z.std(-1, ddof=1, keepdims=True) for z in spread]
    soft = losses.soft_kl(student, one, temperature=3.0)
    expected = {
        "kl": 0.9 * soft + 0.1 * hard,
        "dist": hard + 2 * losses.dist(student, one, temperature=3.0),
        "standardized": hard + 2 * losses.soft_kl(*spread, temperature=3.0),
    }
    for family in gap.families(CONFIG):
        name = family.loss.__name__
        weight = {"alpha": 0.9} if name == "kl" else {"weight": 2.0}
        found = family.loss(
            student, teachers, labels, teacher=np.float32(2), temperature=3.0, **weight
        )
        np.testing.assert_allclose(found, expected[name], rtol=1e-5)


def test_a_kind_shares_its_rate_and_a_pair_has_its_temperature(monkeypatch):
    """The i-th kind does best at the i-th rate, at T = 4 one on; but one teacher."""
    calls, rates = [], np.float32(CONFIG.learning_rates)

    def sweep(training, columns, *, data, seeds, name, keep=None):
        rows = len(next(iter(columns.values())))
        calls.append((data, list(seeds), rows))
        teacher = columns.get("teacher", np.zeros(rows))
        warm = columns.get("temperature", np.zeros(rows))
        other = teacher % 7 == 3  # its luck is at another rate
        at = rates[((teacher // 7 + (warm == 4) + other) % 3).astype(int)]
        errors = 100.0 * (columns["learning_rate"] != at)
        errors += warm != np.where(teacher % 2, 8, 16)
        runs = {n: np.tile(c, len(seeds)) for n, c in columns.items()}
        runs["seed"] = np.repeat(seeds, rows)
        runs["validation_errors_last"] = np.tile(errors, len(seeds))
        runs["validation_nll_last"] = np.zeros(len(seeds) * rows)
        return Swept(runs, {"seed": np.array([])}, 1.0, {})

    monkeypatch.setattr(tuning, "sweep", sweep)
    split = data.Split(None, None)
    info = data.Info("digits", "1", 10, 1, 1, 1)
    found = gap.run(CONFIG, data.Data(split, split, split), info)
    tables, seconds = tuning.gather(found)
    rows = tables["runs"]
    for arm, on in (("kl", 1), ("kl_tuned", 0)):
        here = results.select(rows, arm=arm)
        own = 4 if on else np.where(here["teacher"] % 2, 8, 16)
        assert (here["temperature"] == own).all()
        expected = rates[((here["teacher"] // 7 + on) % 3).astype(int)]
        np.testing.assert_array_equal(here["learning_rate"], expected)
    for arm in ARMS:
        here = results.select(rows, arm=arm, seed=9, student_width=64)
        np.testing.assert_array_equal(here["teacher"], np.arange(21))
    searches = [c for c in calls if c[1] == [tuning.SEARCH_SEED]]
    assert all(data.test is None for data, *_ in searches)
    assert seconds == len(calls) == 2 * len(searches)
    assert sum(len(seeds) * rows for _, seeds, rows in calls) == gap.runs(CONFIG)
    assert gap.runs(CONFIG) == 6470


SHARES = (0.5, 0.2, 0.05, 0.01)  # of the teachers' parameters, from the smallest up


def hand_made(accuracy, arm="kl", seeds=4):
    """Rows of full teachers: ``accuracy(student, teacher, seed)`` in points."""
    rows = [
        (arm, "full", width, teacher, share, seed, accuracy(width, teacher, seed) / 100)
        for seed in range(seeds)
        for width in (8, 4, 16)
        for teacher, share in enumerate(SHARES, 7)
    ]
    names = ("arm", "kind", "student_width", "teacher", "ratio", "seed", gap.TEST)
    table = dict(zip(names, map(np.array, zip(*rows, strict=True)), strict=True))
    return table | {"validation_errors_last": 5000 * (1 - table[gap.TEST])}


def verdicts(kl, tuned):
    """Of students whose accuracy is 90 points and what is given, more with the seed."""
    tables = [
        hand_made(lambda width, teacher, seed, a=a: 90 + a[teacher - 7] + seed, arm)
        for a, arm in ((kl, "kl"), (tuned, "kl_tuned"))
    ]
    found = gap.statistics({"runs": results.concatenate(tables)})
    for estimate in found.values():  # what a seed shares is no noise
        assert estimate.high - estimate.low < 1e-6
    return {
        name: (round(e.value, 3), results.verdict(gap.CLAIMS[name], e))
        for name, e in found.items()
    }


def test_claims_are_decided_by_the_rows():
    assert verdicts(kl=(2, 3, 1, 0), tuned=(0, 1, 2, 3)) == {
        "capacity_gap": (3.0, "supported"),
        "capacity_gap_tuned": (0.0, "refuted"),
        "sweet_spot": (1.0, "supported"),  # 3 less 2 of the smaller teacher
        "sweet_spot_tuned": (-2.0, "refuted"),  # 1 less 3 of the largest
    }


def test_the_median_student_of_a_seed_decides():
    def accuracy(width, teacher, seed):
        return 50 - teacher * (20 if width == 4 else 1 if width == 8 else 0.1)

    table = results.concatenate([hand_made(accuracy, a) for a in ("kl", "kl_tuned")])
    points = gap.gap(table, "kl", "full")
    np.testing.assert_allclose(points, np.repeat([[60], [3], [0.3]], 4, 1), atol=1e-4)
    assert gap.statistics({"runs": table})["capacity_gap"].value == pytest.approx(3)
    found = gap.gaps(table)
    assert list(found["student_width"]) == 2 * [4, 8, 16]
    np.testing.assert_allclose(found["value"][:3], (60, 3, 0.3), rtol=1e-4)


def test_a_seed_does_not_choose_its_own_luck():
    """Each seed has its lucky teacher; what others would choose gains nothing by it."""
    lucky = hand_made(lambda width, teacher, seed: 90 + (teacher - 7 == seed))
    points = gap.gap(lucky, "kl", "full")
    assert (points <= 1e-9).all()


def test_a_students_accuracy_goes_with_the_right_trait():
    """Full teachers are the better the larger; brief ones are worse, and contrary."""
    full = hand_made(lambda width, teacher, seed: 80 + teacher + 0.01 * seed)
    full["teacher"] = full["teacher"] - 3
    brief = hand_made(lambda width, teacher, seed: 70 - teacher + 0.01 * seed)
    brief |= {"teacher": brief["teacher"] - 7, "kind": np.full(48, "early")}
    teachers = {
        "kind": np.repeat(["early", "full"], 4),
        "parameters": np.array(2 * [1, 2, 3, 4]),
        "validation_nll": np.array(2 * [0.4, 0.3, 0.2, 0.1]),
        "train_entropy": np.repeat([0.2, 0.1], 4),
    }
    found = gap.explains(results.concatenate([brief, full]), teachers)
    traits = list(fig11_capacity_gap_mnist.TRAITS)
    assert list(found["trait"]) == 2 * traits
    assert list(found["kind"]) == 3 * ["all"] + 3 * ["full"]
    for name in ("value", "low", "high"):
        expected = [0, 0, -32 / np.sqrt(32 * 42), 1, -1, 0]
        np.testing.assert_allclose(found[name], expected, atol=1e-9)


def test_where_two_rates_do_alike_a_kind_still_has_one():
    rates = CONFIG.learning_rates
    columns = {
        "teacher": np.repeat(np.arange(7), 3),
        "temperature": np.ones(21),
        "learning_rate": np.tile(rates, 7),
    }
    errors = np.array([[5, 5, 9], [4, 6, 9], [6, 4, 9], *4 * [[5, 5, 9]]])
    search = columns | {"validation_errors_last": errors.reshape(-1).astype(float)}
    chosen = gap.choose_from(CONFIG, search, columns)
    assert set(chosen["learning_rate"]) == {rates[0]}
    np.testing.assert_array_equal(chosen["teacher"], np.arange(7))


@pytest.mark.parametrize(
    "changed, says",
    [
        ({"student_widths": (0,)}, "student_widths is"),
        ({"teacher_widths": (32, 32)}, "teacher_widths is"),
        ({"teacher_widths": (2048,)}, "teacher_widths are .*0.1 to 0.3"),
        ({"student_widths": (4,)}, "a larger and a smaller one"),
        ({"student_widths": (64,), "teacher_widths": (32, 256)}, "a larger and a"),
        ({"full_epochs": 2}, "early_epochs, full_epochs, over_epochs are"),
        ({"teacher_learning_rate": 0.0}, "teacher_learning_rate is 0.0"),
        ({"temperatures": (1.0, 2.0)}, "temperatures are .*4.0"),
        ({"temperatures": (0.0, 4.0)}, "temperature is 0.0"),
        ({"alpha": 2.0}, "alpha is 2.0"),
        ({"dist_temperature": 0.0}, "temperature is 0.0"),
        ({"learning_rates": ()}, "learning_rate"),
        ({"seeds": 0}, "seeds is 0"),
    ],
)
def test_a_config_that_cannot_be_is_refused(changed, says):
    with pytest.raises(ValueError, match=says):
        gap.check(replace(CONFIG, **changed))


def test_the_config_is_one_that_can_be():
    gap.check(CONFIG)
    gap.check(running.quicker(CONFIG, gap.QUICK))
