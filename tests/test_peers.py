"""The losses agree with other systems' own functions, value and gradient.

What those gave, on the inputs of `peers.inputs`, is in ``peers/values.json``; ``make
peers`` runs them again.
"""

import inspect
import json
from pathlib import Path
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from kdjax import losses
from kdjax.losses import conventions
from peers import inputs, table
from tests.losses.programs import TRANSFORMS, value, value_and_grad

ROOT = Path(__file__).parents[1]
PEERS = json.loads((ROOT / "peers/values.json").read_text())
TEXTS = inputs.STUDENT_TEXT, inputs.TEACHER_TEXT
IMAGES = inputs.STUDENT, inputs.TEACHER
MASK = inputs.MASK


# Conventions: a name of a preset, where it is another than the peer's, and arguments.

GJSD = {"mask": MASK}
LABELLED = {"labels": inputs.TOKENS, "mask": MASK, "alpha": 0.5, "temperature": 2.0}
TUNIX = {"labels": inputs.TOKENS, "alpha": 0.3, "temperature": 2.0}
CONVENTIONS = {
    "torchdistill": ("", IMAGES, dict(labels=inputs.LABELS, alpha=0.1, temperature=4)),
    "torchdistill_without_labels": ("", IMAGES, dict(temperature=4.0)),
    "textbrewer_kd_ce": ("textbrewer", TEXTS, dict(temperature=2.0)),
    "modelopt_default": ("modelopt", TEXTS, dict(temperature=2.0)),
    "modelopt_batch_mean": ("", TEXTS, dict(temperature=2.0)),
    "trl_beta_0": ("trl", TEXTS, GJSD | dict(beta=0.0)),
    "trl_beta_01": ("trl", TEXTS, GJSD | dict(beta=0.1)),
    "trl_beta_09": ("trl", TEXTS, GJSD | dict(beta=0.9, temperature=2.0)),
    "trl_beta_1": ("trl", TEXTS, GJSD | dict(beta=1.0)),
    "trl_without_labels": ("", TEXTS, dict(beta=0.5)),
    "trl_accumulated": ("", TEXTS, GJSD | dict(tokens=21)),
    "trl_top_k": ("", TEXTS, GJSD | dict(k=3)),
    "trl_top_k_tail": ("", TEXTS, GJSD | dict(k=3)),
    "liger_beta_0": ("liger", TEXTS, LABELLED | dict(beta=0.0)),
    "liger_beta_01": ("liger", TEXTS, LABELLED | dict(beta=0.1)),
    "liger_beta_1": ("liger", TEXTS, LABELLED | dict(beta=1.0)),
    "tunix_full": ("tunix", TEXTS, TUNIX),
    "tunix_top_k": ("", TEXTS, TUNIX | dict(k=3)),
    "keras_logits": ("keras", TEXTS, dict(temperature=2.0)),
    "optax_kl": ("optax", IMAGES, {}),
}


def standardized(s, t):
    soft = losses.soft_kl(losses.standardize(s), losses.standardize(t), temperature=2.0)
    return 0.5 * losses.cross_entropy(s, inputs.LABELS).mean() + 9 * soft.mean()


def crd(s, t):
    banks = inputs.STUDENT_MEMORY, inputs.TEACHER_MEMORY
    memory = losses.Memory(*map(jnp.asarray, (*banks, 0.0, 0.0)))
    total = 0.0
    for _ in range(2):
        values, memory = losses.crd_with_memory(
            s, t, memory, inputs.PLACES, inputs.NEGATIVES
        )
        total += values.mean()
    return total


def averaged_over_heads(s, t):
    s, t = (x.mean(1, keepdims=True) for x in (s, t))
    return losses.attention_cross_entropy(s, t).mean()


def congruence(loss):
    return lambda s, t: jnp.sqrt(loss(s, t).mean()) / len(s)


def fsp(s, t):
    maps = (s[:, :, None], s[:, :, None, ::-1], t[:, :, None], t[:, :, None, ::-1])
    return losses.fsp(*maps).mean()


def sampled_token(s, t):
    reward = jax.lax.stop_gradient(losses.sampled_log_ratio(s, t, inputs.TOKENS))
    return (reward * losses.cross_entropy(s, inputs.TOKENS)).sum()


def mean(loss, **options):
    return lambda *x: loss(*x, **options).mean()


EMBEDDINGS = inputs.STUDENT_EMBEDDING, inputs.WIDE_TEACHER_EMBEDDING
MAPS = inputs.STUDENT_MAP, inputs.TEACHER_MAP
HIDDEN = inputs.STUDENT_HIDDEN, inputs.TEACHER_HIDDEN
SCORES = inputs.STUDENT_SCORES, inputs.TEACHER_SCORES
POOLED = dict(pooled=True, mask=MASK)
MFT = dict(labels=inputs.LABELS, temperature=2.0)
DIST = dict(temperature=4.0, inter_weight=1.5, intra_weight=0.5)
LOSSES = {
    "torchdistill_logit_std": (standardized, IMAGES),
    "torchdistill_dist": (mean(losses.dist, **DIST), IMAGES),
    "torchdistill_rkd_distance": (mean(losses.rkd_distance), EMBEDDINGS),
    "torchdistill_rkd_angle": (mean(losses.rkd_angle), EMBEDDINGS),
    "torchdistill_pkt": (mean(losses.pkt), EMBEDDINGS),
    "torchdistill_cckd": (congruence(losses.gram_correlation), EMBEDDINGS),
    "torchdistill_cckd_gaussian": (congruence(losses.gaussian_correlation), EMBEDDINGS),
    "torchdistill_spkd": (mean(losses.similarity_preserving, row_norm=1), EMBEDDINGS),
    "torchdistill_crd": (crd, (EMBEDDINGS[0], inputs.TEACHER_EMBEDDING)),
    "torchdistill_attention_transfer": (mean(losses.attention_transfer), MAPS),
    "torchdistill_attention_transfer_distance": (
        mean(losses.attention_transfer_distance),
        MAPS,
    ),
    "torchdistill_icc": (
        lambda s, t: losses.inter_channel_correlation(s, t).mean() / len(s),
        MAPS,
    ),
    "torchdistill_hierarchical_context": (mean(losses.hierarchical_context), MAPS),
    "torchdistill_factor_transfer": (mean(losses.factor_transfer), MAPS),
    "torchdistill_vid": (
        lambda s, t: losses.vid(s, t, jnp.asarray(inputs.VARIANCE)).mean(),
        MAPS,
    ),
    "textbrewer_kd_mse": (
        lambda s, t: losses.logit_mse(s / 2, t / 2).mean(),
        TEXTS,
    ),
    "textbrewer_att_mse": (mean(losses.attention_mse, **POOLED), SCORES),
    "textbrewer_att_ce": (mean(losses.attention_cross_entropy), SCORES),
    "textbrewer_att_ce_mean": (averaged_over_heads, SCORES),
    "textbrewer_hid_mse": (mean(losses.hidden_mse, **POOLED), HIDDEN),
    "textbrewer_cos": (
        lambda s, t: losses.token_mean(losses.cosine_distance(s, t), MASK),
        HIDDEN,
    ),
    "textbrewer_pkd": (
        lambda s, t: s.shape[-1] * losses.pkd(s[:, :1], t[:, :1]).mean(),
        HIDDEN,
    ),
    "textbrewer_fsp": (fsp, HIDDEN),
    "modelopt_mft": (mean(losses.mft, **MFT), IMAGES),
    "trl_sampled_token": (sampled_token, TEXTS),
    "liger_cosine": (lambda s, t: losses.cosine_distance(s, t).sum(), IMAGES),
    "optax_cosine": (lambda s, t: losses.cosine_distance(s, t).sum(), IMAGES),
    "torch_cross_entropy": (
        lambda s: losses.cross_entropy(s, inputs.LABELS).mean(),
        IMAGES[:1],
    ),
    "torch_label_smoothing": (
        lambda s: losses.label_smoothing(s, inputs.LABELS, smoothing=0.1).mean(),
        IMAGES[:1],
    ),
    "torch_mse": (mean(losses.hint), MAPS),
    "speculators_kl": (lambda s, t: losses.forward_kl(s, t).sum(), TEXTS),
    "speculators_reverse_kl": (lambda s, t: losses.reverse_kl(s, t).sum(), TEXTS),
    "speculators_js": (lambda s, t: losses.jensen_shannon(s, t).sum(), TEXTS),
    "speculators_argmax": (lambda s, t: losses.teacher_argmax(s, t).sum(), TEXTS),
    "speculators_tv": (lambda s, t: losses.total_variation(s, t).sum(), TEXTS),
    "speculators_nla": (
        lambda s, t: losses.negative_log_acceptance(s, t).sum(),
        TEXTS,
    ),
}


def ours(name):
    if name in LOSSES:
        return LOSSES[name]
    preset, arrays, options = CONVENTIONS[name]
    return lambda s, t: conventions.loss(preset or name, s, t, **options), arrays


@pytest.mark.parametrize("name", PEERS)
def test_value_and_gradient_are_the_peers(name):
    record = PEERS[name]
    tolerance = {"float64": 1e-9, "float32": 2e-6}[record["dtype"]]
    if name == "torchdistill_crd":
        tolerance = 1e-6  # it adds 1e-7 to its denominators
    with jax.enable_x64(True):
        loss, (student, *rest) = ours(name)
        found, grad = value_and_grad(lambda s: loss(s, *rest), student)
    grad = np.reshape(grad, np.shape(record["gradient"]))
    np.testing.assert_allclose(found, record["value"], rtol=tolerance)
    np.testing.assert_allclose(grad, record["gradient"], tolerance, tolerance)


# Presets of systems that no package brings: the formula of their code in NumPy.


def kl(a, b):
    return np.sum(a * (np.log(a) - np.log(b)), -1)


def entropy(p):
    return -np.sum(p * np.log(p), -1)


def probabilities(temperature=1.0):
    return (softmax(z / temperature, -1) for z in TEXTS)


def masked(values):
    return (values * MASK).sum() / MASK.sum()


def by_sequence(values):
    return ((values * MASK).sum(1) / MASK.sum(1)).mean()


def hard(s, y):
    return -np.take_along_axis(log_softmax(s, -1), y[..., None], -1)[..., 0]


def vision(alpha=0.9, temperature=4.0):
    q, p = (softmax(z / temperature, -1) for z in IMAGES)
    soft = temperature**2 * kl(p, q).sum() / len(p)
    return alpha * soft + (1 - alpha) * hard(IMAGES[0], inputs.LABELS).mean()


def mixed(skew):
    q, p = probabilities()
    return q, p, skew * p + (1 - skew) * q, (1 - skew) * p + skew * q


def jsd(beta):
    q, p = probabilities()
    m = beta * p + (1 - beta) * q
    return beta * kl(p, m) + (1 - beta) * kl(q, m)


def on_top_k(k=3):
    """Both on the teacher's likeliest classes: probabilities of all, and of those."""
    order = np.argsort(-inputs.TEACHER_TEXT, -1)[..., :k]
    return [np.take_along_axis(x, order, -1) for x in probabilities()]


def zero_of_distillkit():
    q, p = on_top_k()
    p = p / p.sum(-1, keepdims=True)
    return masked(kl(p, q))  # q is not renormalised


def js_zero_of_distillkit():
    q, p = on_top_k()
    p = p / p.sum(-1, keepdims=True)
    m = (p + q) / 2
    rest = (1 - q.sum(-1)) * np.log(2)  # of the student, where the teacher has 0
    return masked((kl(p, m) + kl(q, m) + rest) / 2)


def tv_zero_of_distillkit():
    q, p = on_top_k()
    p = p / p.sum(-1, keepdims=True)
    return masked((np.abs(p - q).sum(-1) + 1 - q.sum(-1)) / 2)


def tails():
    return [np.concatenate([x, 1 - x.sum(-1, keepdims=True)], -1) for x in on_top_k()]


def js_tail_of_distillkit():
    q, p = tails()
    return masked((kl(p, (p + q) / 2) + kl(q, (p + q) / 2)) / 2)


def tail_of_distillkit():
    q, p = tails()
    return masked(kl(p, q))


def cross(q, p):
    return kl(p, q) + entropy(p)


def forward(temperature=1.0):
    q, p = probabilities(temperature)
    return kl(p, q)


def maxtext():
    labels = masked(hard(TEXTS[0], inputs.TOKENS))
    return 0.3 * 4 * masked(forward(2.0)) + 0.7 * labels


HOT = dict(temperature=2.0)
MAXTEXT = dict(labels=inputs.TOKENS, alpha=0.3, temperature=2.0, mask=MASK)
VISION = dict(labels=inputs.LABELS, alpha=0.9, temperature=4.0)
FORMULAS = {
    "hinton": (vision, IMAGES, VISION),
    "mdistiller": (vision, IMAGES, VISION),
    "repdistiller": (vision, IMAGES, VISION),
    "tinybert": (lambda: cross(*probabilities(2.0)).mean() / 7, TEXTS, HOT),
    "big_vision": (lambda: 4 * forward(2.0).mean(), TEXTS, HOT),
    "maxtext": (maxtext, TEXTS, MAXTEXT),
    "minillm_kd": (lambda: masked(cross(*probabilities())), TEXTS, {}),
    "distillm": (lambda: masked(cross(*probabilities())), TEXTS, {}),
    "distillm_reverse": (lambda: masked(kl(*probabilities())), TEXTS, {}),
    "distillm_js": (lambda: masked(jsd(0.1)), TEXTS, dict(lam=0.9)),
    "distillm_tv": (
        lambda: masked(1 - np.minimum(*probabilities()).sum(-1)),
        TEXTS,
        {},
    ),
    "distillm_skew_forward": (
        lambda: masked(cross(mixed(0.1)[2], mixed(0.1)[1])),
        TEXTS,
        dict(lam=0.1),
    ),
    "distillm_skew_reverse": (
        lambda: masked(kl(mixed(0.1)[0], mixed(0.1)[3])),
        TEXTS,
        dict(lam=0.1),
    ),
    "distillm2": (lambda: by_sequence(forward()), TEXTS, {}),
    "distillm2_skew_forward": (
        lambda: by_sequence(kl(*mixed(0.1)[1:3])),
        TEXTS,
        dict(alpha=0.1),
    ),
    "distillm2_skew_reverse": (
        lambda: by_sequence(kl(mixed(0.1)[0], mixed(0.1)[3])),
        TEXTS,
        dict(alpha=0.1),
    ),
    "distillm2_gkd": (lambda: by_sequence(jsd(0.9)), TEXTS, dict(alpha=0.9)),
    "distillkit": (lambda: 4 * masked(forward(2.0)), TEXTS, HOT),
    "distillkit_js": (lambda: masked(jsd(0.5)), TEXTS, {}),
    "distillkit_tv": (
        lambda: masked(1 - np.minimum(*probabilities()).sum(-1)),
        TEXTS,
        {},
    ),
    "distillkit_zero": (zero_of_distillkit, TEXTS, dict(k=3)),
    "distillkit_js_zero": (js_zero_of_distillkit, TEXTS, dict(k=3)),
    "distillkit_tv_zero": (tv_zero_of_distillkit, TEXTS, dict(k=3)),
    "distillkit_tail": (tail_of_distillkit, TEXTS, dict(k=3)),
    "distillkit_js_tail": (js_tail_of_distillkit, TEXTS, dict(k=3)),
    "distillkit_tv_tail": (
        lambda: masked(1 - np.minimum(*tails()).sum(-1)),
        TEXTS,
        dict(k=3),
    ),
    "eagle": (
        lambda: (cross(*probabilities()) * MASK).sum() / (MASK.sum() + 1e-5),
        TEXTS,
        {},
    ),
    "eagle3": (lambda: (cross(*probabilities()) * MASK).mean(), TEXTS, {}),
}
IGNORE_THE_MASK = {"hinton", "mdistiller", "repdistiller", "tinybert", "big_vision"}


@pytest.mark.parametrize("name", FORMULAS)
def test_value_is_the_formula_of_the_systems_code(name):
    formula, arrays, options = FORMULAS[name]
    if name not in IGNORE_THE_MASK:
        options = options | {"mask": MASK}
    with jax.enable_x64(True):
        found = value(lambda *z: conventions.loss(name, *z, **options), *arrays)
    np.testing.assert_allclose(found, formula(), rtol=1e-10)


def test_every_preset_equals_a_peer_or_a_formula():
    tested = {preset or name for name, (preset, *_) in CONVENTIONS.items()}
    assert tested | FORMULAS.keys() == conventions.PRESETS.keys()
    assert set(LOSSES) | set(CONVENTIONS) == PEERS.keys()


def test_the_page_of_losses_is_what_their_docstrings_say():
    assert table.README.read_text() == table.page(), "run: python -m peers.table"
    rows = set(re.findall(r"^\| `(\w+)` \|", table.page(), re.MULTILINE))
    public = {n for n, f in vars(losses).items() if inspect.isfunction(f)}
    assert rows == public | conventions.PRESETS.keys()


# What conventions agree and differ on.


def test_a_detached_mixture_has_the_value_and_another_gradient():
    def loss(name, **options):
        return value_and_grad(
            lambda s: conventions.loss(name, s, TEXTS[1], mask=MASK, **options),
            TEXTS[0],
        )

    with jax.enable_x64(True):
        custom = conventions.PRESETS["distillm2_skew_forward"]._replace(
            divergence=losses.skew_reverse_kl
        )
        attached = loss(custom, alpha=0.1)
        detached = loss("distillm2_skew_reverse", alpha=0.1)
        np.testing.assert_allclose(attached[0], detached[0], rtol=1e-12)
        q, p = probabilities()
        slope = np.log(q / (0.9 * p + 0.1 * q))
        tokens = (MASK / MASK.sum(1, keepdims=True) / 2)[..., None]
        expected = tokens * q * (slope - (q * slope).sum(-1, keepdims=True))
        np.testing.assert_allclose(detached[1], expected, rtol=1e-9, atol=1e-12)
        assert np.abs(attached[1] - detached[1]).max() > 1e-3


def trl(student, teacher, **options):
    return conventions.loss("trl", student, teacher, **options)


def test_beta_jumps_at_both_ends_as_it_does_there():
    def at(beta):
        return value(trl, *TEXTS, beta=beta)

    assert max(at(1e-6), at(1 - 1e-6)) < 1e-4
    assert min(at(0.0), at(1.0)) > 1


def test_cross_entropy_has_the_gradient_of_kl():
    without, within = (
        value_and_grad(
            lambda s, c=c: conventions.loss(c, s, TEXTS[1], mask=MASK), TEXTS[0]
        )[1]
        for c in (conventions.PRESETS["distillm"]._replace(entropy=False), "distillm")
    )
    np.testing.assert_allclose(without, within, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "preset, options, message",
    [
        ("hinton", {"alpha": 0.5}, "needs labels"),
        ("hinton", {"labels": inputs.LABELS}, "needs alpha"),
        ("keras", {"labels": inputs.LABELS}, "has no use for labels"),
        ("distillkit_tail", {}, "needs k"),
        ("trl", {"k": 3}, "has no use for k"),
        ("trl_accumulated", {}, "needs tokens"),
        ("trl", {"tokens": 3}, "has no use for tokens"),
        ("distillm", {"beta": 0.5}, "beta"),
        ("keras", {"alpha": 0.5}, "alpha"),
    ],
)
def test_what_a_convention_lacks_or_does_not_take_is_refused(preset, options, message):
    with pytest.raises(TypeError, match=message):
        jax.eval_shape(lambda *z: conventions.loss(preset, *z, **options), *IMAGES)


@pytest.mark.parametrize("name", ["hinton", "torchdistill", "tunix", "maxtext"])
def test_without_labels_and_alpha_the_teachers_term_is_left(name):
    weight = {"labels": inputs.LABELS, "alpha": 0.0 if name == "torchdistill" else 1.0}
    found, expected = (
        value(lambda *z, o=o: conventions.loss(name, *z, temperature=4.0, **o), *IMAGES)
        for o in ({}, weight)
    )
    assert found == expected > 0


def test_a_preset_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="is 'nobody', but takes one of hinton, torch"):
        conventions.loss("nobody", *IMAGES)


def test_conventions_trace_their_numbers():
    def at(beta):
        return trl(*TEXTS, temperature=2.0, beta=beta)

    betas = np.float32([0, 0.3, 1])
    swept = TRANSFORMS["vmap"](at, betas)
    np.testing.assert_allclose(swept, [at(float(b)) for b in betas], rtol=1e-5)
