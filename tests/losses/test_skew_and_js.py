"""Divergences to a mixture: laws, the official code's values, bounds and ends."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from kdjax import losses
from tests.losses import golden, laws, texts
from tests.losses.formulas import forward, kl, reverse
from tests.losses.laws import STUDENT, TEACHER
from tests.losses.programs import value, value_and_grad


@pytest.mark.parametrize("law, name", laws.of("skew_and_js"))
def test_law(law, name):
    law(name)


@pytest.mark.parametrize(
    "loss, options, expected",
    [
        (losses.jensen_shannon, {"beta": 0.1}, 0.1425460892),
        (losses.jensen_shannon, {"beta": 0.5}, 0.3738643543),
        (losses.jensen_shannon, {"beta": 0.9}, 0.1745886804),
        (losses.skew_forward_kl, {"skew": 0.1}, 1.1959152892),
        (losses.skew_forward_kl, {"skew": 0.5}, 0.4103606563),
        (losses.skew_reverse_kl, {"skew": 0.1}, 1.3233736482),
        (losses.skew_reverse_kl, {"skew": 0.5}, 0.3373680524),
    ],
)
def test_golden_value_of_the_official_code(loss, options, expected):
    golden.check(loss, expected, **options)


@given(
    arrays(
        np.float32,
        st.sampled_from([(2, 3, 1), (2, 3, 2), (2, 1, 5)]),
        elements=st.floats(-50, 50, width=32),
    ),
    st.floats(0.0, 1.0, width=32),
)
@settings(deadline=None, max_examples=50)
def test_bounded_whatever_the_logits(z, share):
    entropy = -share * np.log(max(share, 1e-30))
    entropy -= (1 - share) * np.log(max(1 - share, 1e-30))
    assert (value(losses.jensen_shannon, *z, beta=share) <= entropy + 1e-5).all()
    if share > 0:
        for skewed in (losses.skew_forward_kl, losses.skew_reverse_kl):
            assert (value(skewed, *z, skew=share) <= -np.log(share) + 1e-5).all()


def test_skew_ends_at_nothing():
    for loss in (losses.skew_forward_kl, losses.skew_reverse_kl):
        found = value(loss, STUDENT, TEACHER, skew=1.0)
        np.testing.assert_allclose(found, 0, atol=1e-7)


def test_normalized_jensen_shannon_is_continuous_to_its_ends():
    for end, formula in ((0.0, forward), (1.0, reverse)):
        for step in (0.0, 1e-6, 1e-5):
            found = value(
                losses.normalized_jensen_shannon,
                STUDENT,
                TEACHER,
                beta=abs(end - step),
            )
            np.testing.assert_allclose(found, formula(STUDENT, TEACHER), rtol=1e-3)


def test_a_class_the_student_rules_out_counts_in_a_mixture():
    s = np.array([1.0, -np.inf, 0.5], np.float32)
    t = np.array([0.3, 2.0, -0.2], np.float32)
    p, q = softmax(t), softmax(s)
    found = value(losses.skew_forward_kl, s, t, skew=0.1)  # finite as it is, so exact
    np.testing.assert_allclose(found, kl(p, 0.1 * p + 0.9 * q), rtol=1e-5)


def test_the_likelihood_gap_is_that_of_geometric_means():
    log_p, log_q = (
        np.take_along_axis(log_softmax(z, -1), texts.TOKENS[..., None], -1)[..., 0]
        for z in (texts.TEACHER.astype(np.float64), texts.STUDENT.astype(np.float64))
    )
    pair = texts.STUDENT, texts.TEACHER, texts.TOKENS
    found, grad = value_and_grad(losses.likelihood_gap, *pair, mask=texts.MASK)
    for i, mask in enumerate(texts.MASK[:3]):
        expected = np.exp(log_p[i, mask].mean()) - np.exp(log_q[i, mask].mean())
        np.testing.assert_allclose(found[i], expected, rtol=1e-5)
    assert found[3] == 0  # a text without a token
    assert (grad == 0).all()
    swapped = value(losses.likelihood_gap, *pair[1::-1], pair[2], mask=texts.MASK)
    np.testing.assert_allclose(swapped, -found, rtol=1e-6)


def test_an_adaptive_skew_is_that_of_the_official_code():
    gaps = np.float32([0.3, 0.25, 0.2, 1e-4, 0, -0.2, 0.9])
    found = value(losses.adaptive_skew, gaps, reference_gap=0.25, base_skew=0.1)
    expected = np.clip(1 - 0.9 * 0.25 / (gaps + 1e-5), 0.01, 0.1)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    # Of two texts the one with the smaller gap has the smaller skew.
    between = np.float32([0.23, 0.24, 0.249])
    skews = value(losses.adaptive_skew, between, reference_gap=0.25, base_skew=0.1)
    assert 0.01 < skews[0] < skews[1] < skews[2] < 0.1
