"""Laws of losses over the pairs of a batch, and the same for batches in shards.

A test file runs those of its module::

    @pytest.mark.parametrize("law, name", batches.of("relations"))
    def test_law(law, name):
        law(name)
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
import numpy as np
import pytest

from kdjax import losses
from tests.losses.programs import assert_finite, run, value_and_grad

MODULES = {
    "relations": {
        "rkd_distance": losses.rkd_distance,
        "rkd_angle": losses.rkd_angle,
        "similarity_preserving": losses.similarity_preserving,
        "pkt": losses.pkt,
        "similarity_preserving, absolute": partial(
            losses.similarity_preserving, row_norm=1
        ),
        "gram_correlation": losses.gram_correlation,
        "gaussian_correlation": losses.gaussian_correlation,
        "consecutive_correlation": losses.consecutive_correlation,
    },
    "contrastive": {"crd": partial(losses.crd, dataset_size=50)},
    "correlations": {
        "cka": losses.cka,
        "cka debiased": partial(losses.cka, debiased=True),
        "dist_intra": losses.dist_intra,
        "dist": losses.dist,
    },
}
BATCH = {name: loss for table in MODULES.values() for name, loss in table.items()}
RELATIONS = BATCH.keys() - {"dist", "dist_intra"}
SAME_WIDTH = {"consecutive_correlation", "crd"}
TAKES_TWO = BATCH.keys() & MODULES["correlations"].keys()
AXIS = "batch"
STUDENT, TEACHER = np.random.default_rng(0).normal(size=(2, 8, 5)).astype(np.float32)


def mean_and_grad(name: str, s: np.ndarray, t: np.ndarray) -> tuple:
    """The mean of the batch, and its gradient by the student."""
    values, grad = value_and_grad(BATCH[name], s, t)
    return values.mean(), grad / values.size


def values_of(name: str, s: np.ndarray, t: np.ndarray) -> np.ndarray:
    return value_and_grad(BATCH[name], s, t)[0]


def check_formula(name: str, formula: Callable) -> None:
    """Value and gradient are those of the paper's formula, in float64."""
    s, t = (x.astype(np.float64) for x in (STUDENT, TEACHER))
    t = t if name in SAME_WIDTH else t[:, :4]
    with jax.enable_x64(True):
        values, grad = value_and_grad(BATCH[name], s, t)
    np.testing.assert_allclose(values, formula(s, t), rtol=1e-5, atol=1e-9)
    for i, j in ((0, 0), (3, 2), (7, 4)):
        step = np.zeros_like(s)
        step[i, j] = 1e-5
        slope = (np.mean(formula(s + step, t)) - np.mean(formula(s - step, t))) / 2e-5
        np.testing.assert_allclose(
            grad[i, j] / values.size, slope, rtol=1e-4, atol=1e-8
        )


def zero_and_stationary_where_student_is_teacher(name):
    mean, grad = mean_and_grad(name, STUDENT, STUDENT)
    assert abs(mean) < 1e-6
    np.testing.assert_allclose(grad, 0, atol=1e-5)


def blind_to_the_scale_of_either_side(name):
    expected = values_of(name, STUDENT, TEACHER)
    for s, t in ((3 * STUDENT, TEACHER), (STUDENT, 5 * TEACHER)):
        found = values_of(name, s, t)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)


def blind_to_a_rotation(name):
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(5, 5)))[0]
    found = values_of(name, (STUDENT @ rotation).astype(np.float32), TEACHER)
    expected = values_of(name, STUDENT, TEACHER)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def examples_in_another_order_give_values_in_that_order(name):
    order = np.random.default_rng(2).permutation(8)
    values = values_of(name, STUDENT, TEACHER)
    expected = values[order] if values.ndim else values
    found = values_of(name, STUDENT[order], TEACHER[order])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def finite_for_degenerate_batches(name):
    for kind in ("equal rows", "zero rows", "huge"):
        s, t = STUDENT.copy(), TEACHER.copy()
        if kind == "huge":
            s, t = np.float32(1e4) * s, np.float32(1e4) * t
        else:
            s[:2], t[2:4] = (1, 1) if kind == "equal rows" else (0, 0)
        assert_finite(mean_and_grad(name, s, t))


def nan_in_is_nan_out(name):
    s = STUDENT.copy()
    s[3, 1] = np.nan
    assert np.isnan(values_of(name, s, TEACHER).mean())


def a_batch_of_one_relates_to_nothing(name):
    mean, grad = mean_and_grad(name, STUDENT[:1], TEACHER[:1])
    assert np.isfinite(grad).all()
    if name != "gram_correlation":
        np.testing.assert_allclose(mean, 0, atol=1e-6)
        np.testing.assert_allclose(grad, 0, atol=1e-6)


def a_batch_too_small_to_correlate_is_refused(name):
    one = np.ones((1, 2), np.float32)
    with pytest.raises(ValueError, match="batch of 1, but takes [24] or more"):
        jax.eval_shape(BATCH[name], one, one)


def embeddings_of_other_shapes_are_refused(name):
    for shapes in (((4, 2), (5, 2)), ((4, 2, 2), (4, 2, 2))):
        with pytest.raises(AssertionError):
            jax.eval_shape(BATCH[name], *(np.ones(x, np.float32) for x in shapes))


# Shards: the same as the whole batch, for a student with a parameter.


def by_pmap(loss: Callable, w: Any, s: Any, t: Any) -> tuple:
    def shard(w, s, t):
        def mean(w):
            return jnp.mean(loss(s @ w, t, axis_name=AXIS))

        return jax.lax.pmean(jax.value_and_grad(mean)(w), AXIS)

    parts = (x.reshape(4, 2, -1) for x in (s, t))
    value, grad = run(jax.pmap(shard, AXIS, in_axes=(None, 0, 0)), w, *parts)
    return value[0], grad[0]


def by_shard_map(loss: Callable, w: Any, s: Any, t: Any) -> tuple:
    mesh = Mesh(np.array(jax.devices()), (AXIS,))
    spec = PartitionSpec

    def value(w, s, t):
        return jax.lax.pmean(jnp.mean(loss(s @ w, t, axis_name=AXIS)), AXIS)

    sharded = jax.shard_map(
        value, mesh=mesh, in_specs=(spec(), spec(AXIS), spec(AXIS)), out_specs=spec()
    )
    return run(jax.jit(jax.value_and_grad(sharded)), w, s, t)


def a_sharded_batch_gives_value_and_gradient_of_the_whole(name):
    w = np.random.default_rng(3).normal(size=(5, 5)).astype(np.float32)
    mean, slope = mean_and_grad(name, STUDENT @ w, TEACHER)
    for by in (by_pmap, by_shard_map):
        value, grad = by(BATCH[name], w, STUDENT, TEACHER)
        np.testing.assert_allclose(value, mean, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(grad, STUDENT.T @ slope, rtol=1e-4, atol=1e-6)


LAWS = {
    zero_and_stationary_where_student_is_teacher: BATCH.keys() - {"crd"},
    blind_to_the_scale_of_either_side: RELATIONS
    - {"gram_correlation", "consecutive_correlation"},
    blind_to_a_rotation: RELATIONS - SAME_WIDTH,
    examples_in_another_order_give_values_in_that_order: BATCH.keys()
    - {"consecutive_correlation"},
    finite_for_degenerate_batches: BATCH.keys(),
    nan_in_is_nan_out: BATCH.keys(),
    a_batch_of_one_relates_to_nothing: BATCH.keys() - TAKES_TWO,
    a_batch_too_small_to_correlate_is_refused: TAKES_TWO,
    embeddings_of_other_shapes_are_refused: RELATIONS,
    a_sharded_batch_gives_value_and_gradient_of_the_whole: BATCH.keys(),
}


def of(module: str) -> list:
    """Every law with every loss of the module that is to obey it."""
    return [
        pytest.param(law, name, id=f"{law.__name__}-{name}")
        for law, names in LAWS.items()
        for name in MODULES[module]
        if name in names
    ]
