"""Losses that treat the label's class apart: laws, and the official code's values."""

import numpy as np
import pytest
from scipy.special import softmax

from kdjax import losses
from tests.losses import golden, laws
from tests.losses.laws import STUDENT, TEACHER
from tests.losses.programs import value


@pytest.mark.parametrize("law, name", laws.of("decoupled"))
def test_law(law, name):
    law(name)


@pytest.mark.parametrize(
    "loss, options, expected",
    [
        (losses.dkd, {}, 27.4422886411),
        (losses.tckd, {"temperature": 4.0}, 0.2569505151),
        (losses.nckd, {"temperature": 4.0}, 3.3981672658),
        (losses.nkd, {}, 3.9677440978),
    ],
)
def test_golden_value_of_the_official_code(loss, options, expected):
    golden.check(loss, expected, labels=golden.LABELS, **options)


def test_dkd_with_the_weights_of_kl_is_kl():
    labels = np.array([0, 1, 2, 3])
    p = softmax(TEACHER / 4, -1)[np.arange(4), labels]
    target, nontarget = (
        value(loss, STUDENT, TEACHER, labels, temperature=4.0)
        for loss in (losses.tckd, losses.nckd)
    )
    expected = value(losses.soft_kl, STUDENT, TEACHER, temperature=4.0)
    np.testing.assert_allclose(target + (1 - p) * nontarget, expected, rtol=1e-5)
