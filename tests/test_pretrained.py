"""A model that lost layers begins from those that are left, and is measured."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from experiments.language import answering, pretrained, stories
from kdjax import losses, models
from kdjax.data import language
from kdjax.data.instructions import Instructions
from kdjax.models import Outputs
from kdjax.models.decoder import LanguageModel
from kdjax.study import claims
from tests.test_stories import task as task  # a fixture

RNG = np.random.default_rng(0)
CONFIG = replace(
    pretrained.STUDY.quick_config(),
    layers=2,
    length=64,
    prompt=60,
    parts=1,
    ways=pretrained.Config().ways,
    temperatures=(1.0, 8.0),
)
ASKED = Instructions(["tin", "a tale", "it"], ["in a tin", None, "is it"])


@pytest.fixture(scope="module")
def whole():
    shape = stories.shape(24, 3, 16)
    return LanguageModel(
        shape, models.decoder(shape).init(jax.random.key(0), {})["params"]
    )


@pytest.fixture(scope="module")
def own(whole, task):
    """Instructions as single characters, without the words around them."""
    special = ["<|im_end|>"]
    tokenizer = language.characters([answering.TURN, "flow "], 24, special)
    sizes = {"longest": 45, "new": 3}
    seeds, asked = (
        answering.asked(tokenizer, [ASKED], most=most, **sizes) for most in (None, 2)
    )
    return pretrained.Task(whole, task.data, seeds, asked)


def test_layers_are_kept_from_the_first_to_the_last(whole):
    less = pretrained.shorter(whole, 2)
    assert less.shape == replace(whole.shape, layers=2)
    for name, each in less.params["layers"].items():
        np.testing.assert_array_equal(
            each, np.asarray(whole.params["layers"][name])[[0, 2]]
        )
    np.testing.assert_array_equal(less.params["words"], whole.params["words"])
    all_of_them = pretrained.shorter(whole, 3)
    jax.tree.map(np.testing.assert_array_equal, all_of_them.params, whole.params)
    with pytest.raises(ValueError, match="layers is 4, but the model has only 3"):
        pretrained.shorter(whole, 4)


def test_acceptance_is_a_mean_over_tokens():
    s, t = (jnp.asarray(RNG.normal(size=(2, 3, 4)), jnp.float32) for _ in range(2))
    label = jnp.array([[1, 2, -1], [0, -1, -1]])
    measure = pretrained.acceptance()
    found = measure.finish(measure.sums(Outputs(s), Outputs(t), {"label": label}))
    q, p = (np.asarray(jax.nn.softmax(z)) for z in (s, t))
    each = np.minimum(p, q).sum(-1)
    expected = (each[0, 0] + each[0, 1] + each[1, 0]) / 3
    assert float(found["acceptance"]) == pytest.approx(expected, rel=1e-5)


def test_texts_of_the_student_have_another_divergence():
    s, t = (jnp.asarray(RNG.normal(size=(2, 3, 4)), jnp.float32) for _ in range(2))
    batch = {"label": jnp.zeros((2, 3), int), "from_student": jnp.array([True, False])}
    found = pretrained.mixed(Outputs(s), Outputs(t), batch)
    expected = (
        losses.reverse_kl(s[0], t[0]).mean(),
        losses.forward_kl(s[1], t[1]).mean(),
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_few_answers_are_seen_often_enough(own):
    texts = answering.of_whole(own.whole, own.seeds, "few answers")
    config = replace(pretrained.Config(), layers=2, length=64)
    arm = pretrained.arm(config, own, "answers", pretrained.mixed, [1.0], texts=texts)
    assert arm.data.train.steps == config.steps
    assert len(texts["tokens"]) < config.steps * config.batch_size


def test_acceptance_is_of_what_the_whole_model_wrote(own):
    stories = own.stories.test
    found = pretrained.with_continued(CONFIG, own).stories.test
    count = len(stories["tokens"])
    assert found["written"].tolist() == [0] * count + [1] * CONFIG.accepted
    beginnings = stories["tokens"][: CONFIG.accepted, : CONFIG.prompt]
    np.testing.assert_array_equal(found["tokens"][count:, : CONFIG.prompt], beginnings)
    before = CONFIG.prompt - 1
    assert (found["label"][count:, :before] == -1).all()
    assert (found["label"][count:, before:-1] >= 0).all()
    s, t = (jnp.asarray(RNG.normal(size=(2, 3, 4)), jnp.float32) for _ in range(2))
    batch = {"label": jnp.zeros((2, 3), int), "written": jnp.array([0, 1])}
    measure = pretrained.acceptance()
    for written in (0, 1):
        part = pretrained.of_rows(measure, bool(written))
        some = {"label": batch["label"][written : written + 1]}
        one = slice(written, written + 1)
        expected = measure.sums(Outputs(s[one]), Outputs(t[one]), some)
        sums = part.sums(Outputs(s), Outputs(t), batch)
        assert sums["of"] == expected["of"] == 3
        assert float(sums["accepted"]) == pytest.approx(float(expected["accepted"]))


@pytest.mark.usefixtures("one_device")
def test_a_small_run_measures_students_and_the_whole(own, capsys, monkeypatch):
    more = pretrained.with_continued(CONFIG, own)
    answers = answering.of_whole(own.whole, own.seeds, "answers")
    every = list(pretrained.others(CONFIG, more, answers, 3e-5))
    rates = [arm.axes["learning_rate"] for arm in every]
    assert rates == [[3e-5], *3 * [CONFIG.learning_rates], [3e-5]]
    names = [arm.columns["arm"] for arm in every]
    assert names == ["long", "t_1", "t_8", "on_policy", "answers"]
    assert [arm.training.epochs for arm in every] == [2, 1, 1, 1, 1]
    one, soft = (arm.training.objective for arm in every[1:3])
    s, t = (Outputs(jnp.asarray(RNG.normal(size=(2, 3, 4)), "f4")) for _ in range(2))
    batch = {"label": jnp.zeros((2, 3), int)}
    cooler = (Outputs(8 * each.logits) for each in (s, t))
    np.testing.assert_allclose(soft(*cooler, batch), 64 * one(s, t, batch), rtol=1e-4)
    monkeypatch.setattr(pretrained, "others", lambda *_: every[-2:])
    found = pretrained.run(CONFIG, own)
    runs = found.tables["runs"]
    assert runs["arm"].tolist() == ["stories", "on_policy", "answers"]
    assert runs["test_acceptance_last"].between(0, 1).all()
    assert found.facts["whole"]["acceptance"] == pytest.approx(1, abs=1e-5)
    assert found.facts["whole"]["teacher_kl"] == pytest.approx(0, abs=1e-5)
    assert found.facts["cut"]["teacher_kl"] > 0
    # A step at this rate hardly changes what the layers that are left say.
    nll = found.facts["cut"]["nll"]
    assert runs["test_nll_last"].to_numpy() == pytest.approx(nll, abs=0.05)
    sizes = found.facts["parameters"]
    assert sizes["whole"] > sizes["student"]
    pretrained.show(found.tables, found.facts)
    assert "students, on test stories" in capsys.readouterr().out


def test_claims_follow_the_runs():
    temperatures = {"t_1": 1.0, "t_4": 4.0, "t_8": 8.0}
    nll = {"t_4": 2.65, "t_8": 2.6} | {
        "stories": 3.0,
        "long": 2.8,
        "t_1": 2.7,
        "on_policy": 2.75,
        "answers": 3.5,
    }
    noise = 0.01 * RNG.normal(size=3)
    runs = [
        {"arm": arm, "seed": seed, "temperature": temperatures.get(arm)}
        | {f"{s}_nll_last": value + noise[seed] for s in ("test", "validation")}
        | {"test_acceptance_last": 1 - value / 10}
        | {"rouge_l": 10 * value}
        for arm, value in nll.items()
        for seed in range(3)
    ]
    found = {
        name: claims.verdict(each, claims.measured(each, {"runs": pd.DataFrame(runs)}))
        for name, each in pretrained.CLAIMS.items()
    }
    assert found == {
        "worth": "supported",
        "worth_long": "supported",
        "article": "supported",
        "on_policy": "refuted",  # as acceptance follows the likelihood here
        "answers": "supported",
        "draft": "supported",
    }
