"""Losses as objectives: their inputs and their hyperparameters."""

from functools import partial
import inspect
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import losses, objectives
from kdjax.models import Outputs

RNG = np.random.default_rng(0)
S, T = RNG.normal(size=(2, 5, 3)).astype(np.float32)
Y = np.array([0, 2, 1, 1, 0], np.int32)
STUDENT, TEACHER, BATCH = Outputs(S), Outputs(T), {"image": S, "label": Y}


def taken(objective):
    return {
        name
        for name, parameter in inspect.signature(objective).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }


def mine(student_logits, teacher_logits, *, alpha, class_mask=None):
    return alpha * losses.logit_mse(
        student_logits, teacher_logits, class_mask=class_mask
    )


def swapped(student_logits, labels, teacher_logits, *, alpha):
    return losses.hinton(
        student_logits, teacher_logits, labels, alpha=alpha, temperature=1
    )


@pytest.mark.parametrize(
    "loss, chosen, expected",
    [
        (losses.soft_kl, {"temperature": 2.0}, (S, T)),
        (losses.cross_entropy, {}, (S, Y)),
        (losses.hinton, {"temperature": 2.0, "alpha": 0.3}, (S, T, Y)),
        (losses.label_smoothing, {"smoothing": 0.1}, (S, Y)),
        (partial(losses.jensen_shannon, beta=0.1), {}, (S, T)),
        (partial(losses.jensen_shannon, beta=0.1), {"beta": 0.7}, (S, T)),
        (mine, {"alpha": 2.0}, (S, T)),
        (swapped, {"alpha": 0.3}, (S, Y, T)),
    ],
)
def test_a_loss_of_logits_or_labels_is_given_what_it_takes(loss, chosen, expected):
    objective = objectives.on_logits(loss)
    got = objective(STUDENT, TEACHER, BATCH, **chosen)
    np.testing.assert_array_equal(got, loss(*expected, **chosen))
    assert got.shape == (5,)
    again = pickle.loads(pickle.dumps(objective))
    np.testing.assert_array_equal(again(STUDENT, TEACHER, BATCH, **chosen), got)
    assert inspect.signature(again) == inspect.signature(objective)


def test_three_arguments_of_any_name_are_student_teacher_and_labels():
    objective = objectives.on_logits(
        lambda s, t, y, *, power: (s - t)[:, 0] ** power * y
    )
    expected = (S - T)[:, 0] ** 3 * Y
    got = objective(STUDENT, TEACHER, BATCH, power=3)
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    assert taken(objective) == {"power"}


def test_hyperparameters_are_those_of_the_loss_without_its_mask_and_devices():
    hinton = objectives.on_logits(losses.hinton)
    parameters = inspect.signature(hinton).parameters
    assert list(parameters) == ["student", "teacher", "batch", "temperature", "alpha"]
    own = objectives.signature(losses.hinton).parameters
    assert parameters["alpha"] == own["alpha"]  # with its range and default
    assert taken(objectives.on_logits(losses.cross_entropy)) == set()
    halves = objectives.on_logits(partial(losses.jensen_shannon, beta=0.1))
    assert inspect.signature(halves).parameters["beta"].default == 0.1
    assert taken(objectives.on_logits(losses.dist_intra)) == {"temperature"}


def test_an_annotation_that_cannot_be_evaluated_is_left_as_it_is():
    def loss(student_logits, labels, *, alpha):
        return alpha * losses.cross_entropy(student_logits, labels)

    loss.__annotations__["alpha"] = "NotImported"
    parameters = inspect.signature(objectives.on_logits(loss)).parameters
    assert parameters["alpha"].annotation == "NotImported"


@pytest.mark.parametrize(
    "loss, named",
    [
        (losses.hint, "student, teacher,"),
        (losses.sampled_kl, "student_logits, sampled,"),
        (losses.minillm, "student_logits, teacher_logits, tokens,"),
        (lambda y, t: y - t, "y, t,"),
        (lambda labels, logits: logits, "labels, logits,"),
        (lambda teacher_logits, logits, y: logits, "teacher_logits, logits, y,"),
        (lambda s, teacher_logits, labels, alpha=1: s, "alpha.*keyword-only"),
        (lambda *, alpha: alpha, "nothing"),
    ],
)
def test_a_loss_whose_arguments_are_not_clear_is_refused_by_their_names(loss, named):
    with pytest.raises(TypeError, match=f"on_logits: the loss takes .*{named}"):
        objectives.on_logits(loss)


def test_one_of_several_teachers_is_a_hyperparameter():
    hinton = objectives.on_logits(losses.hinton)
    several = objectives.from_several(hinton)
    assert taken(several) == {"temperature", "alpha", "teacher"}
    teachers, chosen = np.stack([T, 2 * T, -T]), {"temperature": 2.0, "alpha": 0.3}

    @jax.jit
    def both(one):  # a float, as in an axis
        side_by_side = Outputs(jnp.moveaxis(teachers, 0, 1))
        return (
            several(STUDENT, side_by_side, BATCH, teacher=one, **chosen),
            hinton(
                STUDENT,
                Outputs(jnp.asarray(teachers)[one.astype(int)]),
                BATCH,
                **chosen,
            ),
        )

    values = [both(jnp.float32(i)) for i in range(3)]
    for got, expected in values:
        np.testing.assert_allclose(got, expected, rtol=1e-6)
    assert len({float(got[0]) for got, _ in values}) == 3
    again = pickle.loads(pickle.dumps(several))
    assert inspect.signature(again) == inspect.signature(several)


def test_a_function_is_called_by_its_name_in_messages():
    assert objectives.name_of(objectives.on_logits(losses.hinton)) == "hinton"
    halves = partial(partial(losses.jensen_shannon, beta=0.1))
    assert objectives.name_of(objectives.on_logits(halves)) == "jensen_shannon"
    several = objectives.from_several(objectives.on_logits(losses.soft_kl))
    assert objectives.name_of(partial(several, teacher=0)) == "soft_kl"


def test_a_loss_of_tokens_is_a_mean_over_those_to_predict():
    logits, other = RNG.normal(size=(2, 3, 4, 5)).astype(np.float32)
    label = np.array([[1, 2, -1, -1], [0, 0, 0, 3], [-1, -1, -1, -1]], np.int32)
    both, batch = (Outputs(logits), Outputs(other)), {"label": label}
    objective = pickle.loads(pickle.dumps(objectives.on_tokens(losses.skew_reverse_kl)))
    values = np.asarray(losses.skew_reverse_kl(logits, other, skew=0.3))
    expected = [values[0, :2].mean(), values[1].mean(), 0]
    np.testing.assert_allclose(objective(*both, batch, skew=0.3), expected, rtol=1e-6)
    assert taken(objective) == {"skew"}
    nll = objectives.on_tokens(losses.cross_entropy)(*both, batch)
    own = np.asarray(jax.nn.log_softmax(logits))
    assert float(nll[0]) == pytest.approx(-(own[0, 0, 1] + own[0, 1, 2]) / 2)


def test_a_loss_of_texts_is_given_what_it_takes():
    q, p = RNG.normal(size=(2, 3, 4, 5)).astype(np.float32)
    label = np.array([[1, 2, -1, -1], [0, 4, 0, 3], [-1, -1, -1, -1]], np.int32)
    own = np.array([True, False, True])
    batch = {"label": label, "from_student": own}
    both, mask = (Outputs(q), Outputs(p)), label >= 0
    for loss, chosen, expected in (
        (losses.sequence_nll, {}, (q, label)),
        (losses.gkd, {"student_share": 0.2, "beta": 0.4}, (q, p, own)),
        (losses.minillm, {"teacher_share": 0.1}, (q, p, label)),
    ):
        objective = pickle.loads(pickle.dumps(objectives.on_texts(loss)))
        got = objective(*both, batch, **chosen)
        np.testing.assert_array_equal(got, loss(*expected, mask=mask, **chosen))
        assert got.shape == (3,) and taken(objective) == set(chosen)
    with pytest.raises(TypeError, match="forward_kl takes no mask; use on_tokens"):
        objectives.on_texts(losses.forward_kl)
    says = "on_texts: the loss takes student_logits, tokens, old.* named teacher_logits"
    with pytest.raises(TypeError, match=says):
        objectives.on_texts(losses.clipped_policy_loss)


def test_mutual_learning_is_the_objective_with_the_other_as_a_fixed_teacher():
    hinton = objectives.on_logits(losses.hinton)
    mutual = objectives.mutual(hinton)
    settings = {"temperature": 2.0, "alpha": 0.3}
    assert taken(mutual) == set(settings)

    def both(student, peer):
        outputs = Outputs(student, extras={"peer": Outputs(peer)})
        return mutual(outputs, None, BATCH, **settings)

    one = partial(losses.hinton, labels=Y, **settings)
    expected = one(S, T) + one(T, S)
    np.testing.assert_allclose(both(S, T), expected, rtol=1e-6)
    for argument, other in ((0, T), (1, S)):
        found = jax.grad(lambda *z: both(*z).sum(), argument)(
            jnp.array(S), jnp.array(T)
        )
        own = (S, T)[argument]
        wanted = jax.grad(lambda z, other=other: one(z, other).sum())(jnp.array(own))
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-7)
    with pytest.raises(TypeError, match="with_peer"):
        mutual(STUDENT, TEACHER, BATCH, **settings)
