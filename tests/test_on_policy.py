"""Methods on a student's own texts have the gradients that their papers say."""

from dataclasses import replace
from functools import partial
import itertools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from experiments.language import on_policy, translating
from kdjax import losses, models
from kdjax.models import Outputs
from kdjax.study import claims
from kdjax.training import views
from tests.test_translating import task as task
from tests.test_translating import teacher as teacher  # fixtures

RNG = np.random.default_rng(0)
TOKENS, PLACES = 3, 2
TEXTS = np.array(list(itertools.product(range(TOKENS), repeat=PLACES)))


def logits(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


def table(first, second):
    """Logits ``[texts, places, tokens]`` of all texts; later ones depend on before."""
    return jnp.stack([jnp.broadcast_to(first, (9, 3)), second[TEXTS[:, 0]]], 1)


def probabilities(z):
    log_q = jax.nn.log_softmax(z)
    own = jnp.take_along_axis(log_q, jnp.asarray(TEXTS)[..., None], -1)
    return jnp.exp(own[..., 0].sum(1))


@pytest.fixture(scope="module")
def models_of_texts():
    student = logits(TOKENS), logits(TOKENS, TOKENS)
    teacher = table(logits(TOKENS), logits(TOKENS, TOKENS))
    return student, teacher


def mean_gradient(objective, student, teacher):
    """Of all texts, weighted by the student's probability of each."""
    weights = probabilities(table(*student))
    batch = {"label": jnp.asarray(TEXTS)}

    def loss(student):
        values = objective(Outputs(table(*student)), Outputs(teacher), batch)
        return jnp.sum(weights * values)

    return jax.jit(jax.grad(loss))(student)


def test_without_the_exact_part_the_mean_gradient_is_the_same(models_of_texts):
    student, teacher = models_of_texts
    whole = partial(on_policy.minillm, share=0.0, normalised=False)
    found = mean_gradient(partial(whole, single=False), student, teacher)
    expected = mean_gradient(whole, student, teacher)

    def sequences(student):
        q, p = probabilities(table(*student)), probabilities(teacher)
        return jnp.sum(q * (jnp.log(q) - jnp.log(p))) / PLACES

    exact = jax.grad(sequences)(student)
    for one, other, third in zip(found, expected, exact, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
        np.testing.assert_allclose(one, third, atol=1e-6)


def test_values_are_per_token_and_masked():
    s, t = logits(2, 4, 5), logits(2, 4, 5)
    label = jnp.array([[1, 2, -1, -1], [0, 4, 3, 2]])
    batch = {"label": label, "from_student": jnp.array([True, False])}
    found = on_policy.minillm(Outputs(s), Outputs(t), batch)
    whole = losses.minillm(s, t, label, mask=label >= 0)
    np.testing.assert_allclose(found, whole / 3, rtol=1e-5)  # tokens of a text, mean
    both = on_policy.distillm_2(Outputs(s), Outputs(t), batch)
    values = (losses.skew_reverse_kl, losses.skew_forward_kl)
    for row, (loss, count) in enumerate(zip(values, (2, 4), strict=True)):
        expected = loss(s[row], t[row], skew=0.1)[:count].mean()
        np.testing.assert_allclose(both[row], expected, rtol=1e-5)
    changed = t.at[0, 2:].set(9.0)
    for objective in (on_policy.minillm, on_policy.minillm_code, on_policy.distillm_2):
        one, other = (objective(Outputs(s), Outputs(z), batch) for z in (t, changed))
        np.testing.assert_array_equal(one, other)


def test_the_gradient_of_minillms_code_is_its_advantages():
    s, t, label = logits(1, 3, 4), logits(1, 3, 4), jnp.array([[0, 2, 1]])
    batch = {"label": label}

    def gradient(objective):
        return jax.grad(lambda z: objective(Outputs(z), Outputs(t), batch).sum())(s)

    rewards = losses.sampled_log_ratio(s, t, label)[0]
    to_go = np.array(
        [
            (rewards[0] + 0.95 * rewards[1] + 0.95**2 * rewards[2]) / 3,
            (rewards[1] + 0.95 * rewards[2]) / 2,
            rewards[2],
        ]
    )
    advantages = (to_go - to_go.mean()) / to_go.std()

    def expected(student, teacher, batch):
        ce = losses.cross_entropy(student.logits, batch["label"])
        values = ce * advantages[None] + losses.reverse_kl(
            student.logits, teacher.logits
        )
        return values.mean(1)

    found = gradient(partial(on_policy.minillm_code, share=0.0))
    np.testing.assert_allclose(found, gradient(expected), atol=1e-5)


def test_the_importance_weight_is_clipped_with_the_ratio():
    s, t = jnp.zeros((1, 2, 3)), jnp.asarray(RNG.normal(size=(1, 2, 3)), jnp.float32)
    label = jnp.array([[int(jnp.argmin(t[0, 0])), int(jnp.argmax(t[0, 1]))]])
    weights = losses.importance_weights(s, t, label, teacher_share=0.9)[0]
    assert weights[0] > 1.2 and weights[1] < 0.8
    rewards = losses.sampled_log_ratio(s, t, label)[0]
    assert rewards[0] < 0 < rewards[1]
    batch = {"label": label}
    code = partial(on_policy.minillm_code, share=0.9)
    found = jax.grad(lambda z: code(Outputs(z), Outputs(t), batch).sum())(s)
    kl = jax.grad(lambda z: losses.reverse_kl(z, t).sum() / 2)(s)
    # The minimum with a clipped ratio does not clip bad tokens upwards, nor good ones
    # downwards: both have a gradient of their own beside that of reverse KL.
    assert (jnp.abs(found - kl).sum(-1) > 1e-3).all()


def test_texts_are_cut_to_those_that_have_places():
    lengths = np.array([3, 25, 5, 24], np.int32)
    ends = np.array([10, 40, 5 + 25, 48])
    places = np.arange(96)
    mask = (places < ends[:, None]).astype(np.int32)
    tokens = np.where(mask, places, 0)
    label = np.where(mask, places + 1, -1)
    batch = {"tokens": tokens, "mask": mask, "label": label, "prompt_length": lengths}
    found = on_policy.short(batch)
    assert found["prompt_length"].tolist() == [3, 24]
    for name in ("tokens", "mask", "label"):
        np.testing.assert_array_equal(found[name], batch[name][[0, 3], :48])
    narrow = {n: a if a.ndim == 1 else a[:, :40] for n, a in batch.items()}
    found = on_policy.short({n: a[:1] for n, a in narrow.items()})
    assert found["tokens"].shape == (1, 48) and (found["label"][0, 40:] == -1).all()


def test_a_method_is_selected_by_bleu_and_scored(task, teacher, monkeypatch):
    config = on_policy.Config(
        epochs=1, steps=1, learning_rates=(1e-4, 1e-2), seeds=1, width=32
    )
    many = {
        n: np.tile(a, (16, *[1] * (a.ndim - 1))) for n, a in task.data.train.items()
    }
    task = task._replace(data=task.data._replace(validation=task.data.train))
    shape = translating.shape(on_policy.Config(vocabulary=270, width=32), 1, 32)
    stream = on_policy.bucketed(on_policy.short(many), 32, lengths=[48], steps=1)
    begun = models.decoder(shape).init(jax.random.key(1), {})["params"]
    shared = on_policy.Trained(
        config,
        task,
        shape,
        teacher,
        on_policy.Data(stream, on_policy.short(task.data.train)),
        None,
        {"teacher": teacher.variables, "start": begun},
    )
    method = on_policy.methods(config, shape, teacher)["distillm"]
    scores = iter([3.0, 7.0, 5.0])
    monkeypatch.setattr(on_policy, "bleu", lambda *_: next(scores))
    runs, search, seconds = on_policy.of_method(shared, "distillm", method)
    assert search["validation_bleu"].tolist() == [3.0, 7.0]
    assert runs["learning_rate"].tolist() == pytest.approx([1e-2])
    assert runs["bleu"].tolist() == [5.0]
    assert seconds > 0 and (runs["method"] == "distillm").all()
    config = replace(config, steps=2, epochs=2, rounds=2)
    both = {"distillm": method, "off_policy": method._replace(view=views.unchanged)}
    turns = on_policy.timed(shared._replace(config=config), both)
    assert turns["method"].tolist() == [*both] * 2 and (turns["seconds"] > 0).all()
    assert turns["round"].tolist() == [0, 0, 1, 1]


def test_only_distillm_2_learns_from_the_teachers_texts(task, teacher, monkeypatch):
    given = []

    def sweep(*_, data, **__):
        given.append(data)
        return SimpleNamespace(
            runs=pd.DataFrame([{}]), seconds=1.0, extras={"greedy": 0}
        )

    monkeypatch.setattr(on_policy, "sweep", sweep)
    config = on_policy.Config(vocabulary=270, width=32)
    shape = translating.shape(config, 1, 32)
    own = on_policy.Trained(config, task, shape, teacher, "true", "taught", {})
    for name, method in on_policy.methods(config, shape, teacher).items():
        on_policy.swept(own, method, [1e-3], [0], task.data.test, name)
        assert given.pop() == ("taught" if name == "distillm_2" else "true")


@pytest.mark.parametrize("slow, worth", [(1.1, "supported"), (2.0, "refuted")])
def test_claims_follow_the_runs(slow, worth):
    scores = {"off_policy": 30.0, "off_policy_long": 34.0, "on_policy": 32.0}
    scores |= {"off_policy_reverse": 31.0}
    scores |= {"minillm": 33.0, "minillm_not_mixed": 32.0, "minillm_code": 32.8}
    scores |= {"minillm_not_normalised": 25.0, "minillm_not_single": 34.0}
    scores |= {"distillm": 32.1, "own_half": 32.2}
    seconds = {"on_policy": 100 * slow, "off_policy_long": 200.0}
    seconds |= {"own_half": 150.0, "distillm": 110.0}
    noise = 0.01 * RNG.normal(size=5)
    runs = [
        {"method": name, "seed": seed, "bleu": score + noise[seed]}
        | {"seconds": seconds.get(name, 100.0)}
        for name, score in scores.items()
        for seed in range(5)
    ]
    noise = 1 + 0.01 * RNG.normal(size=(len(scores), 3))
    turns = [
        {"method": name, "round": number, "seconds": seconds.get(name, 100.0) * by}
        for name, own in zip(scores, noise, strict=True)
        for number, by in enumerate(own)
    ]
    tables = {"runs": pd.DataFrame(runs), "timing": pd.DataFrame(turns)}
    found = {
        name: claims.verdict(each, claims.measured(each, tables))
        for name, each in on_policy.CLAIMS.items()
    }
    expected = {"faster": "refuted", "not_single": "refuted", "worth": worth}
    assert found == {name: expected.get(name, "supported") for name in found}
