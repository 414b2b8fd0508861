"""Sequences: reductions, and shares of texts of both kinds."""

from functools import partial

import jax
from jax.sharding import Mesh, PartitionSpec
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from kdjax import losses
from tests.losses.formulas import jensen_shannon
from tests.losses.programs import (
    TRANSFORMS,
    assert_finite,
    run,
    value,
    value_and_grad,
)
from tests.losses.texts import MASK, STUDENT, TEACHER, TOKENS

INF = np.inf


def test_reductions_weigh_long_texts_differently():
    values = np.arange(16, dtype=np.float32).reshape(4, 4)
    of_all = value(losses.token_mean, values, MASK)
    np.testing.assert_allclose(of_all, values[MASK].mean())
    by_text = value(losses.sequence_mean, values, MASK)
    np.testing.assert_allclose(by_text, [1, 4, 9.5, 0])
    parts = [
        value(losses.global_token_mean, values[i : i + 2], MASK[i : i + 2], tokens=8)
        for i in (0, 2)
    ]
    np.testing.assert_allclose(sum(parts), of_all)


def test_values_of_tokens_that_do_not_count_are_never_seen():
    values = np.where(MASK, 1.0, np.nan).astype(np.float32)
    assert value(losses.token_mean, values, MASK) == 1
    assert value(losses.sequence_mean, values, MASK).tolist() == [1, 1, 1, 0]
    nothing = np.zeros_like(MASK)
    none, grad = value_and_grad(losses.token_mean, values, nothing)
    assert none == 0
    np.testing.assert_array_equal(grad, 0)


def mean_kl(s, t, mask, axis_name=None):
    values = losses.forward_kl(s, t)
    return losses.token_mean(values, mask, axis_name=axis_name)


def shard_of_mean_kl(s, t, mask):
    loss = partial(mean_kl, axis_name="batch")
    value, grad = jax.value_and_grad(loss)(s, t, mask)
    return jax.lax.pmean(value, "batch"), grad / 4


@pytest.mark.parametrize("how", ["pmap", "shard_map"])
def test_token_mean_over_uneven_shards_is_that_of_all_tokens(how):
    expected, slope = value_and_grad(mean_kl, STUDENT, TEACHER, MASK)
    batch = STUDENT, TEACHER, MASK
    if how == "pmap":
        by_device = jax.pmap(shard_of_mean_kl, axis_name="batch")
        found, grad = run(by_device, *(x[:, None] for x in batch))
        found, grad = found[0], grad[:, 0]
    else:
        mesh = Mesh(np.array(jax.devices()), ("batch",))
        rows, whole = PartitionSpec("batch"), PartitionSpec()
        by_device = jax.shard_map(
            shard_of_mean_kl,
            mesh=mesh,
            in_specs=(rows,) * 3,
            out_specs=(whole, rows),
        )
        found, grad = run(jax.jit(by_device), *batch)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(grad, slope, rtol=1e-5, atol=1e-7)


# SeqKD and GKD.


def test_sequence_nll_is_the_log_probability_of_the_text():
    s = STUDENT.astype(np.float64)
    log_q = np.take_along_axis(log_softmax(s, -1), TOKENS[..., None], -1)[..., 0]
    found, grad = value_and_grad(losses.sequence_nll, STUDENT, TOKENS, mask=MASK)
    np.testing.assert_allclose(found, -np.where(MASK, log_q, 0).sum(-1), rtol=1e-5)
    whole = value(losses.sequence_nll, STUDENT, TOKENS)
    np.testing.assert_allclose(whole, -log_q.sum(-1), rtol=1e-5)
    gap = softmax(STUDENT, -1) - np.eye(6)[TOKENS]
    np.testing.assert_allclose(grad, MASK[..., None] * gap, rtol=1e-4, atol=1e-6)


def gkd(student, teacher, own, share, mask=None, axis_name=None):
    options = {"student_share": share, "beta": 0.3}
    return losses.gkd(student, teacher, own, mask=mask, axis_name=axis_name, **options)


def apart(student, teacher, mask):
    values = losses.jensen_shannon(student, teacher, beta=0.3)
    return losses.sequence_mean(values, mask)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_gkd_mixes_both_kinds_of_texts_in_the_shares_asked_for(share):
    own = np.array([True, False, False, False])
    tokens = jensen_shannon(STUDENT.astype(float), TEACHER.astype(float), 0.3)
    each = np.where(MASK, tokens, 0).sum(-1) / np.maximum(MASK.sum(-1), 1)
    expected = share * each[0] + (1 - share) * each[1:3].mean()  # the last is empty
    found, grad = value_and_grad(gkd, STUDENT, TEACHER, own, share, MASK)
    np.testing.assert_allclose(found.mean(), expected, rtol=1e-5)
    _, slope = value_and_grad(apart, STUDENT, TEACHER, MASK)
    weights = np.where(own, share / 0.25, (1 - share) / 0.5)[:, None, None]
    np.testing.assert_allclose(grad, weights * slope, rtol=1e-5, atol=1e-7)
    for kind in (np.zeros(4, bool), np.ones(4, bool)):  # none of the other kind
        assert_finite(value(gkd, STUDENT, TEACHER, kind, share))


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_gkd_of_a_sharded_batch_is_that_of_the_whole(share):
    own = np.array([True, False, False, False])
    whole = value(gkd, STUDENT, TEACHER, own, share)
    by_device = jax.pmap(partial(gkd, share=share, axis_name="batch"), "batch")
    parts = run(by_device, *(x[:, None] for x in (STUDENT, TEACHER, own)))
    np.testing.assert_allclose(parts[:, 0], whole, rtol=1e-5, atol=1e-7)


LOSSES = {
    "sequence_nll": lambda s, t, y, w: losses.sequence_nll(s, y, mask=w),
    "sequence_mean": lambda s, t, y, w: losses.sequence_mean(
        losses.forward_kl(s, t), w
    ),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
@pytest.mark.parametrize("transform", ["jit", "vmap", "pmap"])
def test_the_same_under_every_transform(transform, loss):
    args = STUDENT, TEACHER, TOKENS, MASK
    found, expected = (TRANSFORMS[t](loss, *args) for t in (transform, "eager"))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scale", [1e2, 1e4])
def test_finite_at_extreme_logits_and_with_classes_ruled_out(scale):
    s, t = np.sign(STUDENT) * np.float32(scale), TEACHER.copy()
    s[0, 0, 2], t[0, 1, 3] = -INF, -INF
    assert_finite(value_and_grad(losses.sequence_nll, s, TOKENS, mask=MASK))
    own = np.array([True] * 4)
    assert_finite(value_and_grad(gkd, s, t, own, 0.5, MASK))
