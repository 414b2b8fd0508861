import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import log_softmax, softmax

from kdjax import losses, models
from kdjax.data import Data, Split, jitter
from kdjax.metrics import expected_calibration_error, measure
from kdjax.train import make_training


def make(**options):
    defaults = {"epochs": 2, "batch_size": 100, "optimizer": optax.scale_by_adam()}
    return make_training(
        models.mlp((8,), classes=10), losses.hinton, **defaults | options
    )


HPARAMS = {
    "learning_rate": jnp.float32(0.01),
    "temperature": jnp.float32(4.0),
    "alpha": jnp.float32(0.9),
}


def test_an_epoch_is_the_plain_loop_that_one_would_write(digits):
    training, key = make(), jax.random.key(1)
    state = training.init(jax.random.key(0), HPARAMS, digits)
    variables = state.variables
    tx = optax.adam(optax.cosine_decay_schedule(0.01, 2 * 7))
    optimizer = tx.init(variables)
    after, metrics = jax.jit(training.epoch)(state, key, digits)

    order_key, _ = jax.random.split(key)
    order = np.asarray(jax.random.permutation(order_key, 700)).reshape(7, 100)
    values = []
    for i in order:
        x, y, teacher = (part[i] for part in digits.train)

        def objective(variables, x=x, y=y, teacher=teacher):
            logits = training.model.apply(variables, x).logits
            return losses.hinton(logits, teacher, y, temperature=4.0, alpha=0.9).mean()

        value, grads = jax.value_and_grad(objective)(variables)
        updates, optimizer = tx.update(grads, optimizer)
        variables = optax.apply_updates(variables, updates)
        values.append(value)
    np.testing.assert_allclose(metrics["train_loss"], np.mean(values), rtol=1e-5)
    for ours, plain in zip(
        jax.tree.leaves(after.variables), jax.tree.leaves(variables), strict=True
    ):
        np.testing.assert_allclose(ours, plain, rtol=1e-3, atol=1e-5)


def test_an_epoch_depends_on_its_key_and_on_nothing_hidden(digits):
    training = make()
    state = training.init(jax.random.key(0), HPARAMS, digits)
    epoch = jax.jit(training.epoch)
    losses_ = [
        epoch(state, jax.random.key(k), digits)[1]["train_loss"] for k in (0, 0, 1)
    ]
    assert losses_[0] == losses_[1] != losses_[2]


def test_the_best_variables_are_kept(digits):
    training = make(epochs=6)
    state = training.init(jax.random.key(0), HPARAMS, digits)
    seen = []
    for e in range(6):  # a rate that spoils as often as it helps
        state, metrics = training.epoch(state, jax.random.key(e), digits)
        seen.append((float(metrics["validation_accuracy"]), state.variables))
    best = max(seen, key=lambda pair: pair[0])
    assert state.best_accuracy == np.float32(best[0])
    again = training.evaluate(state.best_variables, digits.validation)
    assert again["accuracy"] == np.float32(best[0])


def test_augmented_views_reach_the_student(digits):
    nothing = make(augment=lambda key, x: jnp.zeros_like(x))
    state = nothing.init(jax.random.key(0), HPARAMS, digits)
    after, _ = nothing.epoch(state, jax.random.key(1), digits)
    first = [s.variables["params"]["Dense_0"]["kernel"] for s in (state, after)]
    np.testing.assert_array_equal(*first)  # no pixel, no gradient


def test_dropout_is_drawn_in_training_only(digits):
    model = models.mlp((50,), classes=10, dropout=0.5)
    x = digits.train.x[:4]
    variables = model.init(jax.random.key(0), x)
    a, b = (model.apply(variables, x, jax.random.key(k)).logits for k in (1, 2))
    assert (a != b).any()
    c, d = (model.apply(variables, x).logits for _ in range(2))
    np.testing.assert_array_equal(c, d)
    assert [f.shape for f in model.apply(variables, x).features] == [(4, 50)]


def test_evaluation_does_not_depend_on_how_it_is_cut(digits):
    training = make()
    variables = training.init(jax.random.key(0), HPARAMS, digits).variables
    split = Split(*(np.concatenate([part] * 3) for part in digits.train))  # 2,100
    whole = training.model.apply(variables, split.x).logits
    expected = measure(whole, split)
    for name, value in training.evaluate(variables, split).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-4, err_msg=name)


def test_metrics_are_what_they_are_called(digits):
    rng = np.random.default_rng(0)
    split = digits.validation
    z = 3 * rng.normal(size=(len(split.y), 10)).astype(np.float32)
    got = measure(z, split)
    correct = z.argmax(-1) == split.y
    teacher = split.teacher_logits.astype(np.float64)
    p, log_q = softmax(teacher, -1), log_softmax(z.astype(np.float64), -1)
    assert got["errors"] == (~correct).sum()
    expected = {
        "accuracy": correct.mean(),
        "nll": -log_q[np.arange(len(z)), split.y].mean(),
        "agreement": (z.argmax(-1) == teacher.argmax(-1)).mean(),
        "teacher_kl": (p * (log_softmax(teacher, -1) - log_q)).sum(-1).mean(),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-4, err_msg=name)
    confidence = np.exp(log_q.max(-1))
    gaps = 0.0
    for low in range(15):
        here = (confidence * 15 >= low) & (confidence * 15 < low + 1)
        if here.any():
            gaps += here.mean() * abs(confidence[here].mean() - correct[here].mean())
    np.testing.assert_allclose(got["ece"], gaps, rtol=1e-4)


def test_a_calibrated_classifier_has_no_calibration_error():
    confidence = jnp.array([0.5, 0.5, 1.0, 1.0])
    correct = jnp.array([True, False, True, True])
    assert expected_calibration_error(confidence, correct) == 0


def test_jitter_shifts_by_up_to_two_pixels():
    image = np.zeros((500, 9, 9), np.float32)
    image[:, 4, 4] = 1
    moved = jitter(jax.random.key(0), image, pixels=2)
    _, rows, columns = np.nonzero(np.asarray(moved))
    assert set(rows) == set(columns) == {2, 3, 4, 5, 6}
    edge = np.zeros((500, 9, 9), np.float32)
    edge[:, 0, 0] = 1
    assert set(np.asarray(jitter(jax.random.key(0), edge)).sum((1, 2))) == {0.0, 1.0}


def test_a_batch_larger_than_the_data_is_refused(digits):
    training = make(batch_size=701)
    state = training.init(jax.random.key(0), HPARAMS, digits)
    with pytest.raises(ValueError, match="batch_size is 701.*700"):
        training.epoch(state, jax.random.key(0), digits)


def test_data_without_a_teacher_can_be_learnt_from(digits):
    def loss(logits, teacher_logits, labels):
        assert teacher_logits is None
        return losses.cross_entropy(logits, labels)

    training = make_training(
        models.mlp((8,), classes=10),
        loss,
        epochs=1,
        batch_size=100,
        optimizer=optax.scale_by_adam(),
    )
    plain = Data(*(s._replace(teacher_logits=None) for s in digits))
    hparams = {"learning_rate": jnp.float32(0.01)}
    state = training.init(jax.random.key(0), hparams, plain)
    _, metrics = training.epoch(state, jax.random.key(0), plain)
    assert "validation_agreement" not in metrics


def test_weights_into_a_unit_stay_within_their_length(digits):
    limit = 0.5
    training = make(constrain=lambda v: models.max_norm(v, limit))
    state = training.init(jax.random.key(0), HPARAMS, digits)
    free, _ = jax.jit(make().epoch)(state, jax.random.key(1), digits)
    bound, _ = jax.jit(training.epoch)(state, jax.random.key(1), digits)

    def lengths(state):
        leaves = jax.tree.leaves(state.variables)
        return np.concatenate(
            [np.linalg.norm(x, axis=0) for x in leaves if x.ndim == 2]
        )

    assert lengths(free).max() > limit + 0.1
    np.testing.assert_array_less(lengths(bound), limit + 1e-6)
    short = jnp.array([[0.3, 0.6], [0.0, 0.8]])  # lengths .3 and 1
    expected = [[0.3, 0.3], [0.0, 0.4]]
    np.testing.assert_allclose(models.max_norm(short, limit), expected, rtol=1e-6)
    bias = jnp.array([3.0])
    np.testing.assert_array_equal(models.max_norm(bias, limit), bias)
