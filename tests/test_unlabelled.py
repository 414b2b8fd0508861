"""Students learn from texts without labels before they learn a task."""

from dataclasses import replace

import jax
import numpy as np

from experiments.glue import recipes, setup, unlabelled
from experiments.glue.students import WIDE, Student
from kdjax.models import hugging_face
from tests import encoders
from tests.published import needs_minilm

pytestmark = needs_minilm
RATES = {"general_rate": 3e-3, "words_rate": 3e-3}
CONFIG = replace(recipes.STUDY.quick_config(), general_epochs=2, **RATES)


def half(teacher):
    return {WIDE: Student(replace(teacher, layers=1), (2,), (1,))}


def test_distilbert_begins_from_layers_and_the_encoder_stays(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(unlabelled, "students", half)
    own = encoders.small(tmp_path)
    texts = setup.corpus(CONFIG, own, None)
    before = jax.tree.map(np.array, own.params)
    layers = unlabelled.beginning(WIDE, "layers", CONFIG, texts, own)
    whole = hugging_face.Pretrained(own.shape, own.params)
    expected = hugging_face.with_layers(whole, (1,)).params
    jax.tree.map(np.testing.assert_array_equal, layers.params, expected)
    learned = unlabelled.beginning(WIDE, "distilbert", CONFIG, texts, own)
    assert jax.tree.structure(learned.params) == jax.tree.structure(layers.params)
    assert learned.seconds > 0 == layers.seconds
    changes = jax.tree.map(lambda a, b: np.abs(a - b).max(), learned.params, expected)
    assert changes["layer0"]["up"]["kernel"] > 1e-3
    kernels = [own.params[f"layer{i}"]["up"]["kernel"].ravel() for i in range(2)]
    new = learned.params["layer0"]["up"]["kernel"].ravel()
    other, same = (np.corrcoef(new, each)[0, 1] for each in kernels)
    assert same > 0.5 > abs(other)
    jax.tree.map(np.testing.assert_array_equal, own.params, before)


def test_only_the_head_for_words_learns():
    params = {
        "student": {"words": np.ones(2), "word_norm": {"scale": np.ones(2)}},
        "projector": {},
    }
    transformation = unlabelled.of_word_head(learning_rate=1e-2, steps=10)
    grads = jax.tree.map(np.ones_like, params)
    updates, _ = transformation.update(grads, transformation.init(params), params)
    assert (updates["student"]["words"] == 0).all()
    assert (updates["student"]["word_norm"]["scale"] < 0).all()
