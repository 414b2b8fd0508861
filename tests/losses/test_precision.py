"""The digits of divergences: near zero, of large vocabularies, and never negative."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
import jax
import jax.numpy as jnp
import numpy as np

from tests.losses.laws import DIVERGENCES, every
from tests.losses.programs import value

divergences = every(DIVERGENCES)
# Of first order in the log-ratio, so an error of the normalisers does not cancel.
FIRST_ORDER = {"negative_log_acceptance", "total_variation"}


@given(
    arrays(
        np.float32,
        st.sampled_from([(2, 3, 1), (2, 3, 2), (2, 1, 5)]),
        elements=st.floats(-50, 50, width=32),
    )
)
@settings(deadline=None, max_examples=50)
def test_divergences_are_never_negative(z):
    for name, found in value(divergences, *z).items():
        assert (found >= -1e-6).all(), name
        if z.shape[-1] == 1:
            assert (found <= 1e-5).all(), name


def test_large_vocabulary_in_bfloat16():
    rng = np.random.default_rng(0)
    z = (5 * rng.normal(size=(2, 250_000))).astype(jnp.bfloat16)
    noise = (1e-2 * rng.normal(size=z.shape)).astype(jnp.bfloat16)
    s = np.stack([z[0], z[1] + noise[1]])
    for name, (same, near) in value(divergences, s, z).items():
        assert same == 0 and near > -1e-6, name


def test_nearly_equal_distributions_keep_three_digits():
    rng = np.random.default_rng(0)
    t = (5 * rng.normal(size=(8, 1000))).astype(np.float32)
    noise = rng.normal(size=t.shape)
    for size in (1e-2, 1e-3, 1e-4):
        s = (t + size * noise).astype(np.float32)
        found = value(divergences, s, t)
        with jax.enable_x64(True):
            exact = value(divergences, s.astype(np.float64), t.astype(np.float64))
        for name in sorted(DIVERGENCES):
            rtol = 2e-3 if name in FIRST_ORDER else 1e-3
            np.testing.assert_allclose(
                found[name], exact[name], rtol, 3e-12, err_msg=f"{name} at {size}"
            )
