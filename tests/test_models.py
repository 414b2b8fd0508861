"""Networks as two pure functions: their outputs and their state."""

import pickle

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import models

KEY = jax.random.key(0)
IMAGES = np.random.default_rng(0).normal(size=(6, 4, 4)).astype(np.float32)
BATCH = {"image": IMAGES, "label": np.arange(6)}


class Logits(nn.Module):
    """A network of two inputs that returns only logits."""

    @nn.compact
    def __call__(self, image, scale, *, train):
        return nn.Dense(3)(image.reshape(len(image), -1)) * scale[:, None]


class Normalized(nn.Module):
    @nn.compact
    def __call__(self, image, *, train):
        x = image.reshape(len(image), -1)
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
        return nn.Dense(3)(nn.Dropout(0.5, deterministic=not train)(x))


def init(model, batch=BATCH):
    return jax.jit(model.init)(KEY, batch)


def apply(model, variables, batch=BATCH, key=None):
    return jax.jit(model.apply)(variables, batch, key)


def test_an_mlps_features_are_its_hidden_activations():
    model = models.mlp((5, 7), classes=3)
    variables = init(model)
    outputs, state = apply(model, variables)
    assert state == variables["state"] == {}
    x, (a, b) = IMAGES.reshape(6, -1), outputs.features
    layers = [variables["params"][f"Dense_{i}"] for i in range(3)]
    for layer, before, after in zip(layers, (x, a, b), (a, b, None), strict=True):
        expected = before @ layer["kernel"] + layer["bias"][None]
        if after is None:
            np.testing.assert_allclose(outputs.logits, expected, rtol=1e-5, atol=1e-5)
        else:
            np.testing.assert_allclose(after, np.maximum(expected, 0), atol=1e-5)
    assert outputs.logits.shape == (6, 3) and outputs.attention == ()


def test_dropout_is_drawn_in_training_only():
    model = models.mlp((50,), classes=3, dropout=0.5, input_dropout=0.2)
    variables, applied = init(model), jax.jit(model.apply)
    one, same, other = (
        applied(variables, BATCH, jax.random.key(k))[0].logits for k in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
    plain, again = (applied(variables, BATCH)[0] for _ in range(2))
    np.testing.assert_array_equal(plain.logits, again.logits)
    assert (plain.logits != one).any()


def test_a_module_of_logits_alone_takes_its_inputs_by_name():
    model = models.from_linen(Logits(), inputs=("image", "scale"))
    batch = BATCH | {"scale": np.arange(6, dtype=np.float32)}
    variables = init(model, batch)
    outputs, _ = apply(model, variables, batch)
    assert isinstance(outputs, models.Outputs) and outputs.features == ()
    np.testing.assert_array_equal(outputs.logits[0], 0)
    unscaled, _ = apply(model, variables, batch | {"scale": np.ones(6, np.float32)})
    np.testing.assert_allclose(outputs.logits[3], 3 * unscaled.logits[3], rtol=1e-6)


def test_running_averages_are_state_and_move_in_training_only():
    model = models.from_linen(Normalized())
    variables = init(model)
    assert set(variables) == {"params", "state"}
    assert "batch_stats" not in variables["params"]
    _, resting = apply(model, variables)
    jax.tree.map(np.testing.assert_array_equal, resting, variables["state"])
    _, moved = apply(model, variables, key=KEY)
    assert jax.tree.structure(moved) == jax.tree.structure(resting)
    mean = moved["batch_stats"]["BatchNorm_0"]["mean"]
    expected = 0.1 * IMAGES.reshape(6, -1).mean(0)
    np.testing.assert_allclose(mean, expected, rtol=1e-5, atol=1e-7)
    before, after = (
        apply(model, variables | {"state": state})[0].logits
        for state in (resting, moved)
    )
    assert (before != after).any()  # in evaluation mode it uses the running averages


@pytest.mark.parametrize(
    "model",
    [models.mlp((5,), classes=3, dropout=0.1), models.from_linen(Normalized())],
)
def test_a_model_can_be_sent_to_another_process(model):
    again = pickle.loads(pickle.dumps(model))
    variables = init(model)
    jax.tree.map(np.testing.assert_array_equal, init(again), variables)
    one, other = (apply(m, variables)[0] for m in (model, again))
    np.testing.assert_array_equal(one.logits, other.logits)


def test_weights_into_a_unit_are_shortened_to_their_limit():
    short = jnp.array([[0.3, 0.6], [0.0, 0.8]])  # lengths 0.3 and 1
    expected = [[0.3, 0.3], [0.0, 0.4]]
    params = {"kernel": short, "bias": jnp.array([3.0])}
    bound = models.max_norm(params, 0.5)
    np.testing.assert_allclose(bound["kernel"], expected, rtol=1e-6)
    np.testing.assert_array_equal(bound["bias"], params["bias"])
    np.testing.assert_array_equal(models.max_norm(jnp.zeros((2, 2)), 0.5), 0)


def test_a_peer_is_beside_the_student_and_keeps_its_own_state():
    student, peer = models.mlp((5,), classes=3), models.from_linen(Normalized())
    both = models.with_peer(student, peer)
    variables = init(both)
    assert set(variables["params"]) == set(variables["state"]) == {"student", "peer"}
    outputs, state = apply(both, variables)
    each = {
        name: {kind: variables[kind][name] for kind in ("params", "state")}
        for name in ("student", "peer")
    }
    alone, _ = apply(student, each["student"])
    beside, _ = apply(peer, each["peer"])
    np.testing.assert_array_equal(outputs.logits, alone.logits)
    np.testing.assert_array_equal(outputs.features[0], alone.features[0])
    np.testing.assert_array_equal(outputs.extras["peer"].logits, beside.logits)
    trained, state = apply(both, variables, key=KEY)
    before, after = variables["state"]["peer"], state["peer"]
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), before, after)
    assert all(jax.tree.leaves(moved)) and state["student"] == {}
