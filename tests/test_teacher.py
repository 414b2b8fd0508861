"""Teachers: outputs of any function stored with the data, or a live model."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import losses, models, objectives
from kdjax.data import Data, Stream
from kdjax.models import Outputs
from kdjax.training import teacher
from tests import small

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def model():
    return models.mlp((16,), classes=3, dropout=0.2)


@pytest.fixture(scope="module")
def variables(model):
    return jax.jit(model.init)(KEY, small.data().train)


@pytest.mark.parametrize("block", [7, 1000])
def test_a_models_logits_are_stored_for_every_example(block, model, variables):
    data = small.data()
    stored = teacher.store(teacher.logits(model, variables), data, batch_size=block)
    for before, after in zip(data, stored, strict=True):
        expected = jax.jit(model.apply)(variables, before)[0].logits
        np.testing.assert_allclose(after["teacher"].logits, expected, atol=1e-5)
        assert isinstance(after["teacher"].logits, np.ndarray)
        assert after["teacher"].features == ()
        for name in ("image", "label"):
            assert after[name] is before[name]


def test_a_split_that_is_none_stays_none(model, variables):
    some = Data(small.data().train)
    stored = teacher.store(teacher.logits(model, variables), some)
    assert stored.validation is None and stored.test is None
    assert teacher.measured(stored) == {}


def test_stored_logits_are_measured_where_labels_are_held_out():
    logits = np.log([[0.7, 0.2, 0.1], [0.5, 0.25, 0.25]]).astype(np.float16)
    split = {"label": np.array([0, 1]), "teacher": Outputs(logits, (logits,))}
    found = teacher.measured(Data(split, None, split))
    assert set(found) == {"test"}
    nll = -np.log(0.7 * 0.25) / 2
    expected = {"accuracy": 0.5, "errors": 1, "nll": nll, "ece": 0.4}
    assert found["test"] == pytest.approx(expected, abs=1e-3)


def test_a_teacher_is_any_function_from_a_batch_to_logits():
    seen = []

    def rule(batch):  # without jax or kdjax
        seen.append(set(batch))
        return [1.0, 2.0, 3.0] * batch["image"][:, :3]

    data = small.data()
    stored = teacher.store(rule, data)
    expected = [1, 2, 3] * data.test["image"][:, :3]
    np.testing.assert_array_equal(stored.test["teacher"].logits, expected)
    assert all(names == {"image", "label"} for names in seen)  # no teacher


def test_or_to_whole_outputs():
    def rule(batch):
        image = jnp.asarray(batch["image"])
        return Outputs(image[:, :3], (image[:, 3:], image[:, None]), (image[:, :2],))

    data = small.data()
    stored = teacher.store(rule, data, batch_size=33).train["teacher"]
    image = data.train["image"]
    np.testing.assert_array_equal(stored.features[0], image[:, 3:])
    np.testing.assert_array_equal(stored.features[1], image[:, None])
    np.testing.assert_array_equal(stored.attention[0], image[:, :2])
    assert teacher.stored(None, {"teacher": stored}) is stored
    assert teacher.stored(None, data.train | {"teacher": None}) is None


@pytest.mark.parametrize(
    "rule, says",
    [
        (
            lambda batch: (Outputs(batch["image"]), {}),
            "returned tuple.*logits or Outputs",
        ),
        (lambda batch: None, "returned NoneType.*logits or Outputs"),
        (lambda batch: {"logits": batch["image"]}, "returned dict.*logits or Outputs"),
        (lambda batch: batch["image"][0], r"shape \(8,\) for 60 examples"),
        (lambda batch: Outputs(batch["image"], (np.ones(3),)), r"shape \(3,\)"),
    ],
)
def test_what_is_no_teacher_is_refused(rule, says):
    data = Data(small.data().validation)
    with pytest.raises(TypeError, match=f"apply .*{says}"):
        teacher.store(rule, data)


def test_a_stream_has_no_examples_to_store_outputs_with():
    with pytest.raises(TypeError, match="train is Stream, but takes arrays"):
        teacher.store(lambda batch: batch["image"], Data(Stream(iter, 3)))


class Normalized(nn.Module):
    @nn.compact
    def __call__(self, image, *, train):
        x = nn.BatchNorm(use_running_average=not train)(image)
        return nn.Dense(3)(nn.Dropout(0.5, deterministic=not train)(x))


def test_a_live_teacher_is_at_rest():
    model = models.from_linen(Normalized())
    batch = small.data().validation
    fixed = {"teacher": jax.jit(model.init)(KEY, batch)}
    outputs = jax.jit(teacher.live(model))(fixed, batch)
    params = fixed["teacher"]["params"]["Dense_0"]  # averages 0 and 1, and no dropout
    expected = batch["image"] @ params["kernel"] / np.sqrt(1 + 1e-5)
    np.testing.assert_allclose(outputs.logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fixed", [None, {}, {"Teacher": 1}])
def test_a_live_teacher_without_variables_says_where_they_go(fixed, model):
    with pytest.raises(ValueError, match="fixed is .*fixed={'teacher': variables}"):
        teacher.live(model)(fixed, small.data().train)


def test_a_teacher_that_is_absent_says_so_when_it_is_asked():
    absent, batch = teacher.present(None), {"label": np.array([1])}
    student = Outputs(np.zeros((1, 3), np.float32))
    with pytest.raises(ValueError, match="teacher's logits.*store.*live"):
        small.HINTON(student, absent, batch, temperature=1.0, alpha=0.5)
    hard = objectives.on_logits(losses.cross_entropy)
    np.testing.assert_allclose(hard(student, absent, batch), np.log(3), rtol=1e-6)
    outputs = Outputs(student.logits)
    assert teacher.present(outputs) is outputs
