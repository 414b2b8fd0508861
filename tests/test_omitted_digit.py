"""The bias is the best there is, no student sees the digit, and claims are counted."""

from dataclasses import replace

import numpy as np
import pytest

from experiments import mnist, omitted_digit, tuning
from kdjax import results
from paper_figs import fig7_omitted_digit

CONFIG = omitted_digit.Config(
    omitted=(3,),
    naive_teachers=(3,),
    teacher_width=32,
    teacher_epochs=2,
    naive_teacher_epochs=1,
    student_width=16,
    learning_rates=(1e-2,),
    seeds=2,
    epochs=2,
)
NAME = "omitted_digit_mnist5k"
WITHOUT_3, ONLY = omitted_digit.transfers(CONFIG)


def guesses(seed, labels):
    """Logits ``[N, 10]`` that know something of the labels, but too little of the 3."""
    noise = np.random.default_rng(seed).normal(size=(len(labels), 10))
    logits = 2 * np.eye(10)[labels] + noise - 2 * np.eye(10)[3]
    return logits.astype(np.float32)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("moved", [(3,), (7, 8), (0, 1, 2, 3, 4, 5, 6, 9)])
def test_no_bias_makes_fewer_errors_and_none_as_few_is_nearer_to_0(moved, seed):
    labels = np.arange(60) % 10
    logits = guesses(seed, labels)
    added = np.isin(np.arange(10), moved)
    gaps = logits[:, ~added].max(-1).astype(float) - logits[:, added].max(-1)
    places = np.array([gaps.min() - 2, *np.sort(gaps), gaps.max() + 2])
    biases = np.array([0.0, *(places[1:] + places[:-1]) / 2])
    errors = [np.sum((logits + b * added).argmax(-1) != labels) for b in biases]
    best = biases[errors == np.min(errors)]
    chosen = omitted_digit.best_bias(logits, labels, moved)
    np.testing.assert_allclose(chosen, best[np.abs(best).argmin()])
    wrong = omitted_digit.predicted(logits, moved, chosen) != labels
    assert wrong.sum() == min(errors)


@pytest.mark.parametrize(
    "between, labels, best",
    [
        ((1, 3, -4), (1, 0, 0), 2),  # one error in (1, 3), and below -4
        ((-1, -3, 4), (0, 1, 1), -2),
        ((1, -1), (0, 1), 0),  # no error in (-1, 1)
        ((1, 1), (0, 1), 0),  # one error, whatever is done
        ((1, 3), (1, 1), 4),  # none above 3
        ((-1, -3), (0, 0), -4),
    ],
)
def test_of_equally_good_biases_it_is_the_nearest_to_0(between, labels, best):
    logits = np.stack([np.array(between), np.zeros(len(between))], -1)
    assert omitted_digit.best_bias(logits, np.array(labels), (1,)) == best


def test_no_bias_is_chosen_by_the_images_of_the_other_split(digits):
    logits = {
        "validation": guesses(0, digits.validation.y),
        "test": guesses(1, digits.test.y),
    }
    run, _ = omitted_digit.judge(logits, digits, WITHOUT_3)
    assert run["bias_held_out"] != 0 and run["bias_test"] != 0
    for split, bias in (("test", "bias_held_out"), ("validation", "bias_test")):
        poison = np.random.default_rng(2).normal(size=logits[split].shape)
        poisoned = logits | {split: 9 * poison}
        again, _ = omitted_digit.judge(poisoned, digits, WITHOUT_3)
        assert again[bias] == run[bias]


def test_errors_are_counted_before_and_after_and_class_by_class(digits):
    labels = digits.test.y
    logits = 9.0 * np.eye(10)[labels]
    logits[labels == 3] = 9 * np.eye(10)[0] + 8 * np.eye(10)[3]  # by 1 too little
    held_out = digits.validation.y
    validation = 9.0 * np.eye(10)[held_out]
    validation[held_out == 3] = 9 * np.eye(10)[0] + 6 * np.eye(10)[3]
    run, classes = omitted_digit.judge(
        {"validation": validation, "test": logits}, digits, WITHOUT_3
    )
    threes = np.sum(labels == 3)
    assert run["omitted_images"] == threes
    assert 3 < run["bias_held_out"] < 9 and 1 < run["bias_test"] < 9
    for stage, errors in zip(omitted_digit.STAGES, (threes, 0, 0), strict=True):
        assert run[f"errors_{stage}"] == run[f"omitted_errors_{stage}"] == errors
        accuracy = np.ones(10)
        accuracy[3] = 1 - errors / threes
        np.testing.assert_array_equal(classes[f"accuracy_{stage}"], accuracy)
    np.testing.assert_array_equal(classes["images"], np.bincount(labels))


@pytest.mark.parametrize("images", [49_400, 11_000, 130])
def test_steps_are_those_of_all_images_up_to_half_a_pass(images):
    steps = 15 * (55_000 // mnist.BATCH_SIZE)
    each = images // mnist.BATCH_SIZE
    passes = omitted_digit.passes(15, 55_000, images)
    assert abs(passes * each - steps) <= each / 2


@pytest.fixture(scope="module")
def ran(hasty, tmp_path_factory):
    """What was trained, and on what: its name, with the data."""
    trained = []

    def sweep(*args, name, data, sweep=tuning.sweep, **kwargs):
        trained.append((name, data))
        return sweep(*args, name=name, data=data, **kwargs)

    def taught(config, images, teach=mnist.taught):
        trained.append(("teacher", images))
        return teach(config, images)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "ROOT", tmp_path_factory.mktemp("results"))
        patch.setattr(tuning, "sweep", sweep)
        patch.setattr(mnist, "taught", taught)
        omitted_digit.main(CONFIG)
        yield trained


@pytest.fixture(scope="module")
def tables(ran):
    return {title: results.load(NAME, title) for title in ("runs", "classes")}


def test_no_student_and_no_search_sees_an_omitted_digit(ran):
    for transfer in (WITHOUT_3, ONLY):
        sweeps = [images for name, images in ran if transfer.name in name]
        assert len(sweeps) == 2 * (3 if transfer == WITHOUT_3 else 2)
        for images in sweeps:
            seen = set(range(10)) - set(transfer.omitted)
            assert set(images.train.y) == seen
            searches = images.test is None
            assert set(images.validation.y) == (seen if searches else set(range(10)))
        assert sum(images.test is None for images in sweeps) == len(sweeps) // 2


def test_the_naive_teacher_alone_does_not_see_the_digit(ran):
    full, naive = (images for name, images in ran if name == "teacher")
    assert set(full.train.y) == set(range(10))
    assert set(naive.train.y) == set(range(10)) - {3}
    logits = {
        name.split(",")[0]: images.train.teacher_logits[:, 3]
        for name, images in ran
        if "without 3" in name
    }
    assert logits["naive_teacher"].max() < logits["distilled"].max()
    np.testing.assert_array_equal(logits["hard"], logits["distilled"])


def test_a_row_a_run_and_a_row_a_class_of_it(tables):
    runs, classes = tables["runs"], tables["classes"]
    assert len(runs["seed"]) == 5 * CONFIG.seeds
    assert len(classes["seed"]) == 10 * len(runs["seed"])
    np.testing.assert_array_equal(runs["test_errors_last"], runs["errors_unbiased"])
    assert (runs["errors_bias_test"] <= runs["errors_unbiased"]).all()
    assert (runs["errors_bias_test"] <= runs["errors_bias_held_out"]).all()
    for stage in omitted_digit.STAGES:
        wrong = (1 - classes[f"accuracy_{stage}"]) * classes["images"]
        errors = wrong.reshape(-1, 10).sum(-1)
        np.testing.assert_allclose(errors, runs[f"errors_{stage}"], atol=1e-6)


def test_results_are_shown_and_drawn(tables, ran, capsys):
    omitted_digit.main(CONFIG)
    said = capsys.readouterr().out
    assert "nothing left to do" in said and "2.06 → (1.09)" in said
    assert len(fig7_omitted_digit.draw(NAME).axes) == 4 + 2
    assert fig7_omitted_digit.PAPER == omitted_digit.PAPER


def test_claims_are_counted_of_the_tables_alone():
    rows = [  # transfer, arm, seed, errors, errors on omitted digits
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
    names = ("transfer", "arm", "seed")
    names += ("errors_bias_held_out", "omitted_errors_bias_held_out")
    columns = map(np.array, zip(*rows, strict=True))
    runs = dict(zip(names, columns, strict=True))
    runs["omitted_images"] = np.full(len(rows), 1000)
    found = omitted_digit.statistics({"runs": runs})
    assert found.keys() == omitted_digit.CLAIMS.keys()
    expected = {
        "unseen_class": [0.97, 0.95],
        "beyond_hard_labels": [(900 + 900) / 2, (1090 + 870) / 2],
        "beyond_naive_teacher": [-10, 20],
    }
    for name, values in expected.items():
        wanted = results.estimate(np.array(values))
        np.testing.assert_allclose(found[name], wanted, err_msg=name)


@pytest.mark.parametrize(
    "changed, says",
    [
        ({"omitted": (3, 10)}, "omitted is"),
        ({"omitted": (3, 3)}, "omitted is"),
        ({"omitted": (4,), "naive_teachers": (4,)}, "a claim is about the 3"),
        ({"omitted": (3,), "naive_teachers": (4,)}, "naive_teachers is"),
        ({"naive_teachers": ()}, "naive_teachers is"),
        ({"naive_teacher_epochs": 0}, "naive_teacher_epochs is 0"),
        ({"temperature": 0.0}, "temperature is 0"),
        ({"seeds": 0}, "seeds is 0"),
    ],
)
def test_a_config_that_cannot_be_is_refused(changed, says):
    with pytest.raises(ValueError, match=says):
        omitted_digit.check(replace(omitted_digit.Config(), **changed))
