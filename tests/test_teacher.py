import jax
import numpy as np
import optax

from kdjax import losses, models, teacher
from kdjax.train import make_training
from tests.test_resume import damage


def cross_entropy(logits, _, labels):
    return losses.cross_entropy(logits, labels)


def fit(digits, directory, width=32, learning_rate=3e-3):
    training = make_training(
        models.mlp((width,), classes=10, dropout=0.2),
        cross_entropy,
        epochs=8,
        batch_size=64,
        optimizer=optax.scale_by_adam(),
    )
    plain = digits._replace(train=digits.train._replace(teacher_logits=None))
    variables, curves = teacher.fit(
        training, plain, learning_rate=learning_rate, directory=directory
    )
    return training, variables, curves


def test_a_teacher_is_trained_once_and_its_beliefs_are_given_back(digits, tmp_path):
    training, variables, curves = fit(digits, tmp_path)
    assert curves["validation_accuracy"][-1] > 0.7
    (kept,) = tmp_path.glob("*/8/_METADATA")
    written = kept.stat().st_mtime_ns
    _, again, curves_again = fit(digits, tmp_path)
    jax.tree.map(np.testing.assert_array_equal, variables, again)
    jax.tree.map(np.testing.assert_array_equal, curves, curves_again)
    assert kept.stat().st_mtime_ns == written
    labelled = teacher.label(training, variables, digits)
    expected = training.model.apply(variables, digits.test.x).logits
    np.testing.assert_allclose(labelled.test.teacher_logits, expected, atol=1e-5)
    assert labelled.train.teacher_logits.shape == (700, 10)
    assert teacher.label(training, variables, digits._replace(test=None)).test is None


def test_another_config_is_another_teacher(digits, tmp_path):
    fit(digits, tmp_path)
    fit(digits, tmp_path, learning_rate=1e-3)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_damaged_teacher_is_said_and_trained_again(digits, tmp_path, capsys):
    _, variables, _ = fit(digits, tmp_path)
    (place,) = tmp_path.iterdir()
    damage(place / "8", "truncated")
    _, again, _ = fit(digits, tmp_path)
    assert "damaged checkpoint" in capsys.readouterr().err.replace("\n", " ")
    jax.tree.map(np.testing.assert_array_equal, variables, again)
