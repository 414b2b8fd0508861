"""A student learns from a teacher with another tokenizer."""

import jax
import numpy as np
import pytest

from kdjax import losses, models, objectives
from kdjax.data import Data, language
from kdjax.models import DecoderShape, Outputs
from kdjax.training import Training, teacher, train

QUESTIONS = ["how are you", "who is there", "what is this"] * 8
ANSWERS = ["very well", "it is me, the cat", "a tree"] * 8
END = "<end>"
ULD = objectives.in_order(losses.uld)


def with_labels(student_logits, teacher_logits, labels, *, weight):
    hard = losses.cross_entropy(student_logits, labels)
    return hard + weight * losses.uld(student_logits, teacher_logits)


def texts(vocabulary, longest=99):
    tokenizer = language.byte_pairs(QUESTIONS + ANSWERS, vocabulary, [END])
    return language.prompted(tokenizer, QUESTIONS, ANSWERS, longest=longest, end=END)


def test_predicted_tokens_are_compared_in_order():
    rng = np.random.default_rng(0)
    own, other = (rng.normal(size=(2, *size)) for size in ((5, 3), (4, 6)))
    labels = {
        "label": np.array([[-1, 2, -1, 0, 1], [-1, -1, -1, -1, 2]]),
        "teacher_label": np.array([[3, -1, 1, -1], [-1, -1, -1, -1]]),
    }
    found = ULD(Outputs(own), Outputs(other), labels)
    pairs = ((1, 0), (3, 2))  # the first two of three predicted tokens
    each = [losses.uld(own[0, i], other[0, j]) for i, j in pairs]
    np.testing.assert_allclose(found, [np.mean(each), 0], rtol=1e-6)
    gradient = jax.grad(lambda z: ULD(Outputs(z), Outputs(other), labels).sum())(own)
    unused = np.ones(own.shape[:2], bool)
    unused[0, [1, 3]] = False
    assert not gradient[unused].any() and gradient[0, [1, 3]].any(-1).all()
    both = objectives.in_order(with_labels)(
        Outputs(own), Outputs(other), labels, weight=0.5
    )
    hard = [losses.cross_entropy(own[0, i], labels["label"][0, i]) for i, _ in pairs]
    expected = np.mean(hard) + 0.5 * np.mean(each)
    np.testing.assert_allclose(both, [expected, 0], rtol=1e-6)


def test_teachers_that_do_not_read_their_own_tokens_are_refused():
    labels = {"label": np.zeros((2, 5), int), "teacher_label": np.zeros((2, 4), int)}
    student, wrong = Outputs(np.zeros((2, 5, 3))), Outputs(np.zeros((2, 5, 6)))
    with pytest.raises(ValueError, match=r"takes \(2, 4, .*of_other_tokens"):
        ULD(student, wrong, labels)
    right, written = Outputs(np.zeros((2, 4, 6))), {"from_student": np.ones(2, bool)}
    with pytest.raises(ValueError, match="no view that writes"):
        ULD(student, right, labels | written)


def test_texts_that_one_of_both_leaves_out_are_left_out():
    wide, narrow = texts(285), texts(257, longest=20)
    both = language.in_both(wide, narrow)
    assert 0 < len(both["tokens"]) == len(narrow[1]) < len(wide[1])
    np.testing.assert_array_equal(both["teacher_tokens"], narrow[0]["tokens"])
    np.testing.assert_array_equal(both["tokens"], wide[0]["tokens"][narrow[1]])
    nothing = {name: array[:0] for name, array in narrow[0].items()}
    with pytest.raises(ValueError, match="no text in common"):
        language.in_both(wide, (nothing, narrow[1][:0]))
    with pytest.raises(TypeError, match="teacher takes texts and their places"):
        language.in_both(wide, narrow[0])


def test_a_student_learns_from_a_teacher_with_other_tokens(tmp_path):
    both = language.in_both(texts(270), texts(285))
    assert both["tokens"].shape != both["teacher_tokens"].shape
    small, large = (DecoderShape(n, 1, 16, 2, 2, 32, 64) for n in (270, 285))
    params = models.decoder(large).init(jax.random.key(0), both)["params"]
    sure = jax.tree.map(lambda a: 30 * a if a.ndim > 1 else a, params)
    training = Training(
        models.decoder(small),
        ULD,
        epochs=8,
        batch_size=8,
        teacher=teacher.of_other_tokens(models.decoder(large)),
        select=None,
    )
    result = train(
        training,
        {"learning_rate": 1e-2},
        data=Data(both, both),
        key=jax.random.key(1),
        fixed={"teacher": {"params": sure, "state": {}}},
        directory=tmp_path,
    )
    loss = result.curves["train_loss"]
    assert loss.iloc[-1] < 0.8 * loss.iloc[0]
    assert "validation_teacher_kl" not in result.curves
    assert np.isfinite(result.curves["validation_nll"]).all()
