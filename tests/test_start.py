"""A student starts from given weights, in a single run, a sweep, and phases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import models
from kdjax.sweep import sweep
from kdjax.training import start, step, train
from tests import small

KEY = jax.random.key(0)


def training(**more):
    return small.training(small.HINTON, start=start.pretrained, epochs=1, **more)


def given(seed=7):
    """The variables of another student, without its last layer."""
    model = training().model
    params = dict(model.init(jax.random.key(seed), small.data().train)["params"])
    params.pop(sorted(params)[-1])
    return params


def first_state(fixed):
    chosen = {n: jnp.float32(v) for n, v in small.ONE.items()}
    return step.init(training(), 10, KEY, chosen, small.data().train, fixed)


def test_what_is_given_replaces_what_is_drawn():
    parts = given()
    state = first_state({"start": parts})
    drawn = training().model.init(KEY, small.data().train)["params"]
    for name, part in state.params["student"].items():
        expected = parts.get(name, drawn[name])
        same = jax.tree.map(np.array_equal, part, expected)
        assert all(jax.tree.leaves(same))
    assert parts and drawn.keys() - parts.keys()


def test_runs_and_sweeps_start_there():
    fixed = {"start": given()}
    still = small.ONE | {"learning_rate": 1e-9}
    single = train(training(), still, data=small.data(), key=KEY, fixed=fixed)
    for name, part in fixed["start"].items():
        close = jax.tree.map(
            lambda a, b: np.allclose(a, b, atol=1e-6),
            single.variables["params"][name],
            part,
        )
        assert all(jax.tree.leaves(close))
    table = {n: [v] for n, v in still.items()}

    def weights(variables, data):
        return {"hidden": variables["params"]["hidden"]}

    found = sweep(
        training(),
        table,
        data=small.data(),
        seeds=[0, 1],
        fixed=fixed,
        extras=weights,
    )
    assert len(found.extras["hidden"]) == 2
    for run in found.extras["hidden"]:
        np.testing.assert_allclose(run, fixed["start"]["hidden"], atol=1e-6)


def test_later_phases_go_on_from_the_earlier_one():
    first = small.training(small.HINTON, epochs=2)
    fixed = {"start": given()}
    both = train(
        [first, training()], small.ONE, data=small.data(), key=KEY, fixed=fixed
    )
    alone = train(
        [first, small.training(small.HINTON, epochs=1)],
        small.ONE,
        data=small.data(),
        key=KEY,
    )
    same = jax.tree.map(np.array_equal, both.variables, alone.variables)
    assert all(jax.tree.leaves(same))


def test_parameters_that_do_not_fit_are_named():
    parts = given()
    name = min(parts)
    with pytest.raises(ValueError, match="has other, but the student's"):
        first_state({"start": parts | {"other": parts[name]}})
    wrong = {name: np.zeros(99)}
    with pytest.raises(ValueError, match=rf"has {name} of shape \(99,\), but the"):
        first_state({"start": wrong})
    with pytest.raises(ValueError, match="takes parameters as fixed\\['start'\\]"):
        first_state({"teacher": parts})
    with pytest.raises(ValueError, match="takes parameters as fixed\\['start'\\]"):
        first_state({"start": {}})
    with pytest.raises(ValueError, match="fixed is NoneType, but takes parameters"):
        train(training(), small.ONE, data=small.data(), key=KEY)


def test_running_averages_do_not_start_as_drawn():
    model = models.plain(2, classes=3)
    image = {"image": np.ones((2, 32, 32, 3), np.float32)}
    variables = jax.eval_shape(model.init, KEY, image)
    with pytest.raises(ValueError, match="has a state, batch_stats, which cannot"):
        start.pretrained(variables, {"start": variables["params"]})


def test_an_encoder_starts_from_some_layers():
    shape = models.Shape(20, layers=2, width=8, heads=2, feed_forward=8, positions=9)
    rows = {n: np.ones((2, 5), np.int32) for n in ("tokens", "mask", "segments")}
    big = models.bert(shape).init(jax.random.key(5), rows)["params"]
    params = {n: p for n, p in big.items() if n not in ("layer1", "classifier")}
    own = models.bert(shape, classes=7).init(KEY, rows)
    begun = start.pretrained(own, {"start": params})["params"]
    assert begun["layer0"]["up"]["kernel"] is params["layer0"]["up"]["kernel"]
    assert begun["layer1"] is own["params"]["layer1"]
    assert begun["classifier"]["bias"].shape == (7,)
