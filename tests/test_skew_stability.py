"""Gradients are measured before they are clipped, and spikes are counted."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest

from experiments.language import grammars, skew_stability, students
from kdjax import losses, models
from kdjax.models import Outputs
from kdjax.study import claims
from kdjax.training import optimizers

CONFIG = replace(
    skew_stability.STUDY.quick_config(), skews=(0.0, 0.5), steps=8, parts=2, train=256
)


def test_the_optimizer_keeps_the_norm_and_clips():
    params, gradient = {"a": jnp.ones(3)}, {"a": jnp.array([3.0, 4.0, 0.0])}
    plain = optimizers.adam(learning_rate=0.1, steps=10)
    for clip, size in ((np.inf, 5.0), (0.5, 0.5)):
        own = skew_stability.adam(learning_rate=0.1, clip=clip, steps=10)
        _, state = own.update(gradient, own.init(params), params)
        assert float(state[0].norm) == pytest.approx(5.0)
        clipped = jax.tree.map(lambda g, size=size: g * size / 5, gradient)
        _, expected = plain.update(clipped, plain.init(params), params)
        moments = (
            optax.tree.get(state, "mu"),
            optax.tree.get(expected, "mu"),
        )
        np.testing.assert_allclose(*(each["a"] for each in moments), rtol=1e-6)


def test_settings_have_their_controls():
    rows = skew_stability.settings(skew_stability.Config())
    assert len(rows) == 6 + 5 + 1 and (rows["learning_rate"] == 0.01).all()
    assert np.isfinite(rows["clip"]).sum() == 1
    rng = np.random.default_rng(0)
    q, p = (rng.normal(size=(2, 3, 5)).astype(np.float32) for _ in range(2))
    student, teacher = (Outputs(each) for each in (q, p))
    batch = {"label": np.array([[1, 2, -1], [0, 0, 0]])}
    found = skew_stability.skewed(student, teacher, batch, skew=0.5, power=2.0)
    each = 4 * np.asarray(losses.skew_forward_kl(q, p, skew=0.5))
    np.testing.assert_allclose(found, [each[0, :2].sum(), each[1].sum()], rtol=1e-6)


def test_a_student_is_traced_in_every_step():
    data = grammars.splits(students.MIXTURE, CONFIG.train, CONFIG.measured)
    chosen = {"skew": 0.1, "power": 0.0, "clip": np.inf, "learning_rate": 0.01}
    chosen = {name: jnp.float32(value) for name, value in chosen.items()}
    make = jax.jit(partial(skew_stability.trained, CONFIG, data, None, 0))
    curves = jax.device_get(make(chosen))
    assert curves["norm"].shape == curves["loss"].shape == (8,)
    assert curves["test_both_kl"].shape == (2,) and (curves["norm"] > 0).all()
    assert curves["loss"][-1] < curves["loss"][0]
    model = models.decoder(students.shape_of("middle"))
    params = model.init(jax.random.key(0), data.train)["params"]
    zero, half = (float(skew_stability.alike(params, data, s)) for s in (0.0, 0.5))
    assert -1 <= zero < half <= 1


def test_a_row_has_percentiles_spikes_and_steps():
    config = replace(CONFIG, steps=200, parts=4)
    norm = np.full(200, 3.0)
    norm[7] = 30.0
    loss = np.full(200, 1.0)
    loss[[10, 120, 160]] = [9.0, 2.5, 1.9]  # the first has too few before it
    forward = np.array([5.0, 3.0, 1.5, 1.0])
    found = skew_stability.row(
        config, {"norm": norm, "loss": loss, "test_forward_kl": forward}, 2.0
    )
    assert (found["median_norm"], found["largest_norm"], found["spikes"]) == (3, 30, 1)
    assert found["steps_to_target"] == 150 and found["test_forward_kl"] == 1.0
    never = {"norm": norm, "loss": loss, "test_forward_kl": 9 + forward}
    assert skew_stability.row(config, never, 2.0)["steps_to_target"] == 200


def test_claims_compare_what_they_say():
    rows = skew_stability.settings(skew_stability.Config()).to_dict("records")
    runs = pd.DataFrame(
        [
            {**row, "start": start, "seed": seed}
            for row in rows
            for start in ("cold", "warm")
            for seed in (1, 0)
        ]
    ).assign(largest_norm=1.0, test_both_kl=2.0, steps_to_target=64.0)
    plain = (runs["skew"] == 0) & np.isinf(runs["clip"])
    runs.loc[plain & (runs["start"] == "cold"), "largest_norm"] = 100.0
    runs.loc[np.isfinite(runs["clip"]), "test_both_kl"] = 2.5
    runs.loc[runs["skew"] == 0.5, "steps_to_target"] = 128.0
    cosines = pd.DataFrame(
        {"skew": [0.0, 0.5] * 2, "seed": [0, 0, 1, 1], "cosine": [0.5, 0.75] * 2}
    )
    tables = {"runs": runs, "cosines": cosines}
    expected = {"calms": 2, "warm": 0, "clipping": 0.5, "slows": 2, "between": 0.25}
    for name, value in expected.items():
        found = claims.measured(skew_stability.CLAIMS[name], tables)
        assert found.value == pytest.approx(value), name
