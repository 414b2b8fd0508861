"""Optimizers of optax, and ours with all numbers as hyperparameters."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kdjax import checks
from kdjax.training import optimizers
from kdjax.training import step as stepping
from tests import small

STEPS = 8
START = {"kernel": np.float32([[1.0, -2.0], [3.0, 0.5]]), "bias": np.float32([0.1, 2])}


def descend(optimizer, chosen):
    """Parameters ``[steps, ...]`` after each of eight steps on a quadratic."""
    tx = stepping.transformation(optimizer, chosen, STEPS)

    def down(carry, _):
        params, state = carry
        gradients = jax.tree.map(lambda p: p * (1 + p**2), params)
        updates, state = tx.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    start = jax.tree.map(jnp.asarray, START)
    return jax.lax.scan(down, (start, tx.init(start)), length=STEPS)[1]


def assert_same_path(optimizer, chosen, expected):
    """Compares ours with traced hyperparameters to optax with constants."""
    got = jax.jit(partial(descend, optimizer))(dict(chosen))
    wanted = jax.jit(lambda: descend(expected, {}))()
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), got, wanted)
    assert (np.abs(got["kernel"][-1]) < np.abs(START["kernel"])).all()


def rise(warmup_steps, rate):
    """A linear warm-up times a cosine decay to 0."""
    fall = optax.cosine_decay_schedule(rate, STEPS)
    return lambda t: fall(t) * jnp.minimum(1, (t + 1) / warmup_steps)


def decayed_sgd(rate, momentum, weight_decay):
    return optax.chain(
        optax.add_decayed_weights(weight_decay), optax.sgd(rate, momentum)
    )


@pytest.mark.parametrize(
    "optimizer, chosen, expected",
    [
        (optax.adam, {"learning_rate": 0.02}, optax.adam(0.02)),
        (optax.adam, {"learning_rate": 0.02, "b1": 0.5}, optax.adam(0.02, b1=0.5)),
        (
            optax.adamw,
            {"learning_rate": 0.02, "weight_decay": 0.3},
            optax.adamw(0.02, weight_decay=0.3),
        ),
        (optax.sgd, {"learning_rate": 0.02}, optax.sgd(0.02)),
        (
            optax.sgd,
            {"learning_rate": 0.02, "momentum": 0.7},
            optax.sgd(0.02, momentum=0.7),
        ),
        (
            optimizers.adam,
            {"learning_rate": 0.02},
            optax.adam(optax.cosine_decay_schedule(0.02, STEPS)),
        ),
        (
            optimizers.adamw,
            {"learning_rate": 0.02, "weight_decay": 0.3, "warmup": 0.5},
            optax.adamw(rise(4, 0.02), weight_decay=0.3),
        ),
        (
            optimizers.adamw,
            {"learning_rate": 0.02},
            optax.adamw(rise(1, 0.02), weight_decay=1e-4),
        ),
        (
            optimizers.sgd,
            {
                "learning_rate": 0.02,
                "momentum": 0.7,
                "weight_decay": 0.3,
                "warmup": 0.25,
            },
            decayed_sgd(rise(2, 0.02), 0.7, 0.3),
        ),
        (
            optimizers.sgd,
            {"learning_rate": 0.02},
            decayed_sgd(rise(1, 0.02), 0.9, 0.0),
        ),
    ],
)
def test_every_number_is_a_hyperparameter(optimizer, chosen, expected):
    assert_same_path(optimizer, chosen, expected)


def test_runs_with_different_numbers_train_side_by_side():
    columns = {
        "learning_rate": np.float32([0.01, 0.02]),
        "momentum": np.float32([0, 0.9]),
    }
    both = jax.jit(jax.vmap(partial(descend, optimizers.sgd)))(columns)
    for i, (rate, momentum) in enumerate([(0.01, 0.0), (0.02, 0.9)]):
        expected = jax.jit(
            lambda rate=rate, momentum=momentum: descend(
                decayed_sgd(rise(1, rate), momentum, 0.0), {}
            )
        )()
        np.testing.assert_allclose(both["kernel"][i], expected["kernel"], rtol=1e-5)


@pytest.mark.parametrize("optimizer", [optax.adam(1e-2), optax.sgd(0.1)])
def test_an_optax_transformation_is_taken_as_it_is_and_descends(optimizer):
    data = small.data()
    training = small.training(small.SOFT, optimizer=optimizer, batch_size=200)
    columns = checks.columns({"temperature": [2.0]}, [training])
    checks.prepared([training], columns, [data], None)  # no error
    chosen, rows = {"temperature": np.float32(2)}, data.train

    @jax.jit
    def losses(key):
        state = stepping.init(training, 20, key, chosen, rows, None)

        def one(state, key):
            state, metrics = stepping.step(training, 20, state, rows, key, None)
            return state, metrics["loss"]

        return jax.lax.scan(one, state, jax.random.split(key, 20))[1]

    seen = losses(jax.random.key(0))
    assert (np.diff(seen) < 0).all() and seen[-1] < 0.95 * seen[0]


@pytest.mark.parametrize(
    "optimizer, rates",
    [
        (optax.scale_by_adam(), None),
        (optax.scale_by_adam, None),
        (optax.trace(0.9), None),
        (optax.chain(optax.scale_by_adam(), optax.scale(1e-3)), None),
        (optax.adam(-1e-3), None),
        (optax.adam, [1e-3, -1e-3]),
    ],
)
def test_an_update_that_points_uphill_is_an_error(optimizer, rates):
    training = small.training(small.SOFT, optimizer=optimizer)
    axes = {"temperature": [2.0] * 2} | ({"learning_rate": rates} if rates else {})
    columns = checks.columns(axes, [training])
    with pytest.raises(ValueError, match=r"optimizer.*uphill.*optax\.adam\(1e-3\)"):
        checks.prepared([training], columns, [small.data()], None)


def test_a_schedule_that_begins_at_zero_is_no_error():
    slow = optax.warmup_cosine_decay_schedule(0, 0.1, 3, STEPS)
    training = small.training(small.SOFT, optimizer=optax.sgd(slow))
    columns = checks.columns({"temperature": [2.0]}, [training])
    checks.prepared([training], columns, [small.data()], None)
