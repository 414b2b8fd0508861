"""Losses with a corrected teacher: laws, and what the correction does."""

import numpy as np
import pytest

from kdjax import losses
from tests.losses import laws
from tests.losses.programs import value, value_and_grads


@pytest.mark.parametrize("law, name", laws.of("corrected"))
def test_law(law, name):
    law(name)


def test_a_corrected_teacher_leads_with_the_label_and_is_held_fixed():
    teacher = np.log(np.float32([[0.6, 0.3, 0.1], [0.6, 0.3, 0.1], [0.9, 0.06, 0.04]]))
    student, labels = np.zeros((3, 3), np.float32), np.array([1, 0, 0])
    # A wrong choice is led by 0.2; a right one gains 0.2, up to 1.
    mixed = (0.3 + 0.2) / (1 + 0.3)
    corrected = [
        [0.6 * (1 - mixed), 0.3 + 0.7 * mixed, 0.1 * (1 - mixed)],
        [0.8, 0.15, 0.05],
        [1.0, 0.0, 0.0],
    ]
    assert abs(corrected[0][1] - corrected[0][0] - 0.2) < 1e-9
    found, (by_student, by_teacher) = value_and_grads(
        losses.mft, student, teacher, labels=labels
    )
    np.testing.assert_allclose(by_student, 1 / 3 - np.array(corrected), atol=1e-6)
    assert (by_teacher == 0).all()
    np.testing.assert_allclose(found[2], np.log(3), rtol=1e-6)


def test_a_label_outside_the_kept_classes_gives_nothing_to_mft():
    kept = np.array([True, True, False])
    z = np.float32([[1, 2, 3], [3, 2, 1]])
    found = value(losses.mft, z, z[::-1], np.array([2, 0]), class_mask=kept)
    expected = value(losses.mft, z[1:, :2], z[:1, :2], np.array([0]))
    np.testing.assert_allclose(found, [0, expected[0]], rtol=1e-5)
