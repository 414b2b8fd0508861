"""Laws that losses of logits obey, whatever their formula.

A test file runs those of its module::

    @pytest.mark.parametrize("law, name", laws.of("skew_and_js"))
    def test_law(law, name):
        law(name)

What they need of a loss is one program, that of `run`, and that of `run_on_those_kept`.
"""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.losses.formulas import LOSSES, MODULES
from tests.losses.programs import assert_finite, check_gradients, value_and_grads

INF = np.inf
STUDENT, TEACHER = 3 * np.random.default_rng(0).normal(size=(2, 4, 6)).astype(
    np.float32
)
KEEP = np.array([True, True, False, True, False, True])

# Zero at student = teacher, but bound to more than the distribution; or never zero.
NEVER_ZERO = {
    "logit_mse",
    "teacher_argmax",
    "nkd",
    "hinton",
    "label_smoothing",
    "cross_entropy",
    "mft",
}
DIVERGENCES = LOSSES.keys() - NEVER_ZERO
# No gradient passes through the weights of these, or the teacher of the last.
FIXED = {"adaptive_kl", "adaptive_kl of DSKD", "cakld", "mft"}


def labels_of(student: np.ndarray) -> np.ndarray:
    return np.zeros(student.shape[:-1], np.int32)


def call(name: str, s: Any, t: Any, **options: Any) -> Any:
    """The loss as anyone would call it, with its hyperparameters as Python numbers."""
    loss = LOSSES[name]
    return loss.function(s, t, labels_of(s), **loss.hparams | options)


def run(
    name: str, s: np.ndarray, t: np.ndarray, class_mask: np.ndarray | bool = True
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Values and both gradients, by the one program of the loss."""
    loss = LOSSES[name]
    class_mask = np.broadcast_to(class_mask, s.shape)
    return value_and_grads(
        loss.function, s, t, labels=labels_of(s), class_mask=class_mask, **loss.hparams
    )


def run_on_those_kept(name: str) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """The same in float64, of the classes in `KEEP` and without ``class_mask``."""
    loss = LOSSES[name]
    s, t = (z[:, KEEP].astype(np.float64) for z in (STUDENT, TEACHER))
    with jax.enable_x64(True):
        return value_and_grads(loss.function, s, t, labels=labels_of(s), **loss.hparams)


def every(names: Iterable[str]) -> Callable:
    """A function that gives all these losses: what they share is compiled once."""
    names = sorted(names)
    return lambda s, t: {name: call(name, s, t) for name in names}


# Values and gradients.


def value_is_the_formula_of_the_paper(name):
    for scale in (0.1, 1.0, 10.0):
        s, t = (np.float32(scale) * z for z in (STUDENT, TEACHER))
        expected = LOSSES[name].formula(s.astype(np.float64), t.astype(np.float64))
        np.testing.assert_allclose(
            run(name, s, t)[0], expected, rtol=2e-5, atol=1e-6, err_msg=f"x {scale}"
        )


def gradient_is_the_difference_quotient_of_the_formula(name):
    s, t = (z.astype(np.float64) for z in (STUDENT, TEACHER))
    formula, step = LOSSES[name].formula, 1e-5
    expected = np.zeros_like(s)
    for i, e in enumerate(step * np.eye(6)):
        expected[:, i] = (formula(s + e, t) - formula(s - e, t)) / (2 * step)
    _, grads = run(name, STUDENT, TEACHER)
    np.testing.assert_allclose(grads[0], expected, rtol=1e-4, atol=1e-5)


def gradient_passes_finite_differences(name):
    s, t = (z[:, KEEP] for z in (STUDENT, TEACHER))
    loss = LOSSES[name]
    check_gradients(
        loss.function, s, t + np.float32(0.1), labels=labels_of(s), **loss.hparams
    )


def zero_and_stationary_where_student_is_teacher(name):
    values, grads = run(name, STUDENT, STUDENT)
    np.testing.assert_array_equal(values, 0)
    np.testing.assert_allclose(grads[0], 0, atol=1e-6)


# Which logits mean the same.


def unchanged_by_a_constant_added_to_all_logits(name):
    shifted, _ = run(name, STUDENT + np.float32(7), TEACHER - np.float32(3))
    expected, _ = run(name, STUDENT, TEACHER)
    np.testing.assert_allclose(shifted, expected, rtol=2e-5, atol=1e-6)


def offsets_cost_no_digits(name):
    s, t = (np.round(64 * z) / 64 for z in (STUDENT, TEACHER))  # exact with them, too
    expected, _ = run(name, s, t)
    for size in (100.0, 1e4):
        for a, b in ((size, -size), (-size, size), (0, size), (size, 0)):
            shifted, _ = run(name, s + np.float32(a), t + np.float32(b))
            np.testing.assert_allclose(shifted, expected, rtol=1e-5, atol=1e-6)


def a_masked_class_is_absent_in_value_and_gradient(name):
    values, grads = run(name, STUDENT, TEACHER, class_mask=KEEP)
    expected, slopes = run_on_those_kept(name)
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    np.testing.assert_allclose(grads[0][:, KEEP], slopes[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(grads[0][:, ~KEEP], 0)


def a_class_that_is_minus_infinity_for_both_is_absent(name):
    s, t = (np.where(KEEP, z, np.float32(-INF)) for z in (STUDENT, TEACHER))
    expected, _ = run_on_those_kept(name)
    np.testing.assert_allclose(run(name, s, t)[0], expected, rtol=1e-5)


def the_least_number_is_a_mask_as_minus_infinity_is(name):
    masked = np.array([False, False, True, False, True, False])
    for least in (np.finfo(np.float32).min, np.float32(jnp.finfo(jnp.bfloat16).min)):
        for side in (0, 1):
            a, b = ([STUDENT.copy(), TEACHER.copy()] for _ in "ab")
            a[side][:, masked], b[side][:, masked] = least, -INF
            here, there = (run(name, *z) for z in (a, b))
            np.testing.assert_array_equal(here[0], there[0])
            np.testing.assert_array_equal(here[1][0], there[1][0])


# Extreme inputs.


def finite_with_classes_ruled_out(name):
    for side in ("student", "teacher", "both"):
        s, t = STUDENT.copy(), TEACHER.copy()
        if side != "teacher":
            s[:, 2] = -INF
        if side != "student":
            t[:, 3] = -INF
        assert_finite(run(name, s, t))


def finite_at_extreme_logits(name):
    for scale in (1e2, 1e4):
        for s, t in ((STUDENT, TEACHER), (TEACHER, STUDENT)):
            assert_finite(run(name, np.sign(s) * np.float32(scale), t))


def a_row_without_any_class_gives_zero(name):
    class_mask = np.array([[True], [False], [True], [False]])
    values, grads = run(name, STUDENT, TEACHER, class_mask=class_mask)
    np.testing.assert_array_equal(values[1::2], 0)
    np.testing.assert_array_equal(grads[0][1::2], 0)
    assert_finite((values, grads[0]))


def a_row_in_which_a_side_has_no_class_gives_zero(name):
    of_labels = {"cross_entropy", "label_smoothing", "hinton", "teacher_argmax"}
    for sides in ((0,), (1,), (0, 1)):
        z = [STUDENT.copy(), TEACHER.copy()]
        for side in sides:
            z[side][1] = -INF
        values, grads = run(name, *z)
        assert_finite((values, grads[0]))
        if name != "nkd" and not (sides == (1,) and name in of_labels):
            assert values[1] == 0, sides


def nan_in_is_nan_out(name):
    s = STUDENT.copy()
    s[1, 2] = np.nan
    s[2] = np.nan  # a student that has diverged
    values, grads = run(name, s, TEACHER)
    np.testing.assert_array_equal(np.isnan(values[:3]), [False, True, True])
    assert np.isnan(grads[0][2]).any()


ALL = LOSSES.keys()
LAWS = {
    value_is_the_formula_of_the_paper: ALL,
    gradient_is_the_difference_quotient_of_the_formula: ALL - FIXED,
    gradient_passes_finite_differences: ALL - FIXED,
    zero_and_stationary_where_student_is_teacher: DIVERGENCES,
    unchanged_by_a_constant_added_to_all_logits: ALL - {"logit_mse"},
    offsets_cost_no_digits: ALL - {"logit_mse"},
    a_masked_class_is_absent_in_value_and_gradient: ALL,
    a_class_that_is_minus_infinity_for_both_is_absent: ALL,
    the_least_number_is_a_mask_as_minus_infinity_is: ALL
    - {"logit_mse", "centered_logit_mse"},
    finite_with_classes_ruled_out: ALL,
    finite_at_extreme_logits: ALL,
    a_row_without_any_class_gives_zero: DIVERGENCES | {"logit_mse"},
    a_row_in_which_a_side_has_no_class_gives_zero: ALL,
    nan_in_is_nan_out: ALL - {"teacher_argmax"},
}


def of(module: str) -> list:
    """Every law with every loss of the module that is to obey it."""
    return [
        pytest.param(law, name, id=f"{law.__name__}-{name}")
        for law, names in LAWS.items()
        for name in MODULES[module]
        if name in names
    ]
