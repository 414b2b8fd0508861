"""Losses of logits under every transform of JAX, all of them in one program."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.losses.formulas import LOSSES
from tests.losses.laws import DIVERGENCES, STUDENT, TEACHER, call, every
from tests.losses.programs import TRANSFORMS

BY_EXAMPLE = LOSSES.keys() - {"cakld"}  # it takes a mean over the batch
SWEPT = {
    "soft_kl": "temperature",
    "skew_forward_kl": "skew",
    "skew_reverse_kl": "skew",
    "jensen_shannon": "beta",
    "normalized_jensen_shannon": "beta",
    "alpha_divergence": "alpha",
    "renyi_divergence": "alpha",
}


@cache
def transformed(transform):
    return TRANSFORMS[transform](every(BY_EXAMPLE), STUDENT, TEACHER)


@pytest.mark.parametrize("name", sorted(BY_EXAMPLE))
@pytest.mark.parametrize("transform", ["jit", "vmap", "pmap"])
def test_the_same_under_every_transform(transform, name):
    assert len(jax.devices()) == 4
    found, expected = (transformed(t)[name] for t in (transform, "eager"))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", SWEPT)
def test_hyperparameters_may_be_traced(name):
    def at(value):
        return call(name, STUDENT, TEACHER, **{SWEPT[name]: value})

    values = np.float32([0.25, 0.5])
    swept = TRANSFORMS["vmap"](at, values)
    one_by_one = [at(float(v)) for v in values]
    np.testing.assert_allclose(swept, np.stack(one_by_one), rtol=1e-5)


@pytest.mark.parametrize("name", sorted(DIVERGENCES))
def test_low_precision_is_widened_before_anything_else(name):
    half = [z.astype(jnp.bfloat16) for z in (STUDENT, TEACHER)]
    found, wide = call(name, *half), call(name, *(z.astype(np.float32) for z in half))
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, wide)
