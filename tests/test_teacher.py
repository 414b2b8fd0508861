"""A teacher's outputs, stored with the examples or live."""

import jax
import numpy as np

from kdjax import models
from kdjax.models import Outputs
from kdjax.training import teacher

MODEL = models.mlp((4,), classes=10)


def bare(digits):
    splits = ({k: v for k, v in s.items() if k != "teacher"} for s in digits)
    return type(digits)(*splits)


def test_any_function_from_a_batch_to_logits_is_a_teacher(digits):
    def sure(batch):
        assert set(batch) == {"image", "label"}
        return np.eye(10, dtype=np.float32)[batch["label"]]

    taught = teacher.store(sure, bare(digits)._replace(test=None), batch_size=64)
    for split in taught[:2]:
        right = split["teacher"].logits.argmax(-1) == split["label"]
        assert right.all() and split["teacher"].features == ()
    assert taught.test is None


def test_stored_outputs_are_the_models_whatever_the_size_of_a_batch(digits):
    variables = MODEL.init(jax.random.key(0), digits.train)
    logits = teacher.logits(MODEL, variables)
    some, all_ = (teacher.store(logits, digits, batch_size=n) for n in (33, 1000))
    whole, _ = MODEL.apply(variables, digits.test)
    for found in (some, all_):
        logits = found.test["teacher"].logits
        np.testing.assert_allclose(logits, whole.logits, rtol=1e-5, atol=1e-6)


def test_a_teacher_may_give_features(digits):
    def wide(batch):
        count = len(batch["label"])
        return Outputs(np.zeros((count, 10)), (np.arange(count)[:, None],))

    taught = teacher.store(wide, digits, batch_size=350)
    np.testing.assert_array_equal(
        taught.train["teacher"].features[0][:, 0], np.tile(np.arange(350), 2)
    )


def test_a_live_teacher_is_asked_about_the_batch(digits):
    variables = MODEL.init(jax.random.key(0), digits.test)
    ask = teacher.live(MODEL)
    found = ask({"teacher": variables}, digits.test)
    np.testing.assert_array_equal(
        found.logits, MODEL.apply(variables, digits.test)[0].logits
    )
    assert teacher.stored(None, digits.test) is digits.test["teacher"]
    assert teacher.stored(None, {}) is None
