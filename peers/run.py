"""Runs the peers' own functions, and compares with ``values.json`` or writes it.

    python -m peers.run            # fails on any difference
    python -m peers.run --write    # after a new peer or a new version

In an environment of the peers' own: see ``make peers``. Values and gradients by the
student are stored with the peer's version and convention; `tests.test_peers` compares
the losses with them.
"""

import argparse
from collections.abc import Callable
from importlib import import_module, metadata
import json
import os
from pathlib import Path
import sys
from types import ModuleType

os.environ["KERAS_BACKEND"] = "jax"
os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import jax
import jax.numpy as jnp
import keras
from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss
from liger_kernel.chunked_loss.cosine_similarity_loss import (
    LigerFusedLinearCosineSimilarityFunction,
)
import numpy as np
import optax
import torch
from torch.nn import functional
from torchdistill.losses import mid_level
from trl.experimental.gkd import GKDTrainer
from trl.experimental.sdpo import loss_utils

from peers import inputs

VALUES = Path(__file__).with_name("values.json")
PEERS: dict[str, tuple[str, str, str, str, Callable]] = {}
TOLERANCE = {"float32": 1e-5, "float64": 1e-11}


def peer(package: str, loss: str, convention: str, dtype: str = "float64") -> Callable:
    """Registers a function that gives a value and a gradient, under its name.

    ``loss`` is what we call it; ``dtype`` the narrowest that the peer computes in,
    whatever it is given.
    """

    def register(function: Callable) -> Callable:
        PEERS[function.__name__] = package, loss, convention, dtype, function
        return function

    return register


def load(name: str) -> ModuleType:
    """A module alone, without what its packages import and is not installed."""
    packages = name.split(".")[:-1]
    for i in range(len(packages)):
        bare = ModuleType(".".join(packages[: i + 1]))
        bare.__path__ = [
            str(Path(torch.__file__).parents[1].joinpath(*packages[: i + 1]))
        ]
        sys.modules.setdefault(bare.__name__, bare)
    return import_module(name)


textbrewer = load("textbrewer.losses")
modelopt = load("modelopt.torch.distill.losses")
speculators = load("speculators.losses.eager")
tunix_logit = load("tunix.distillation.strategies.logit")


def by_torch(loss: Callable, student: np.ndarray, *others: np.ndarray):
    student = torch.tensor(student, requires_grad=True)
    value = loss(student, *(torch.tensor(x) for x in others)).sum()
    value.backward()
    return value.item(), student.grad.numpy()


def by_jax(loss: Callable, student: np.ndarray, *others: np.ndarray):
    others = [jnp.asarray(x) for x in others]
    value, grad = jax.value_and_grad(lambda s: loss(s, *others))(jnp.asarray(student))
    return float(value), np.asarray(grad)


def channels_first(x: torch.Tensor) -> torch.Tensor:
    return x.movedim(-1, 1)


# torchdistill: modules take the outputs of named layers.

IMAGES = inputs.STUDENT, inputs.TEACHER
LAYER = {
    "student_module_path": "x",
    "student_module_io": "output",
    "teacher_module_path": "x",
    "teacher_module_io": "output",
}


def named(x: torch.Tensor) -> dict:
    return {"x": {"output": x}}


def torchdistill_of(module: Callable, *arrays: np.ndarray, io: Callable = named):
    return by_torch(lambda s, t, *rest: module(io(s), io(t), *rest), *arrays)


@peer("torchdistill", "hinton", "KDLoss: batch mean, T^2, alpha weighs the labels")
def torchdistill():
    module = mid_level.KDLoss(**LAYER, temperature=4.0, alpha=0.1)
    return torchdistill_of(module, *IMAGES, inputs.LABELS)


@peer("torchdistill", "forward_kl", "KDLoss without labels: batch mean, no T^2")
def torchdistill_without_labels():
    return torchdistill_of(mid_level.KDLoss(**LAYER, temperature=4.0, alpha=0), *IMAGES)


@peer(
    "torchdistill",
    "standardize",
    "LogitStdKDLoss: batch mean, T^2, alpha labels, beta teacher",
)
def torchdistill_logit_std():
    module = mid_level.LogitStdKDLoss(**LAYER, temperature=2.0, alpha=0.5, beta=9)
    return torchdistill_of(module, *IMAGES, inputs.LABELS)


@peer("torchdistill", "dist", "DISTLoss: beta inter, gamma intra, tau^2")
def torchdistill_dist():
    module = mid_level.DISTLoss(**LAYER, beta=1.5, gamma=0.5, tau=4.0)
    return torchdistill_of(module, *IMAGES)


EMBEDDINGS = inputs.STUDENT_EMBEDDING, inputs.WIDE_TEACHER_EMBEDDING


def rkd(distance: float, angle: float):
    module = mid_level.RKDLoss("x", "x", distance, angle, "mean")
    return torchdistill_of(module, *EMBEDDINGS)


@peer("torchdistill", "rkd_distance", "RKDLoss, distances alone: mean over pairs")
def torchdistill_rkd_distance():
    return rkd(1.0, 0.0)


@peer("torchdistill", "rkd_angle", "RKDLoss, angles alone: mean over triples")
def torchdistill_rkd_angle():
    return rkd(0.0, 1.0)


@peer("torchdistill", "pkt", "PKTLoss: mean over pairs, eps 1e-7")
def torchdistill_pkt():
    loss = mid_level.PKTLoss(**LAYER).cosine_similarity_loss
    return by_torch(loss, *EMBEDDINGS)


@peer(
    "torchdistill",
    "gram_correlation",
    "CCKDLoss, bilinear: norm of the difference over B^2",
)
def torchdistill_cckd():
    module = mid_level.CCKDLoss("x", "x", {"type": "bilinear"}, "batchmean")
    return torchdistill_of(module, *EMBEDDINGS)


@peer(
    "torchdistill",
    "gaussian_correlation",
    "CCKDLoss, Gaussian: norm of the difference over B^2, of unit embeddings",
)
def torchdistill_cckd_gaussian():
    kernel = {"type": "gaussian", "gamma": 0.4, "max_p": 2}
    module = mid_level.CCKDLoss("x", "x", kernel, "batchmean")
    return torchdistill_of(
        module, *EMBEDDINGS, io=lambda x: named(functional.normalize(x))
    )


@peer(
    "torchdistill",
    "similarity_preserving",
    "SPKDLoss: mean over pairs, rows whose absolute values add to 1",
)
def torchdistill_spkd():
    return torchdistill_of(mid_level.SPKDLoss("x", "x", "batchmean"), *EMBEDDINGS)


@peer("torchdistill", "crd_with_memory", "CRDLoss with its memory: two steps, added")
def torchdistill_crd():
    module = mid_level.CRDLoss("x", "empty", "x", 5, 9, 3, 9)
    module.double()
    module.memory_v1 = torch.tensor(inputs.STUDENT_MEMORY)
    module.memory_v2 = torch.tensor(inputs.TEACHER_MEMORY)
    places = torch.tensor(inputs.PLACES)
    chosen = np.concatenate([inputs.PLACES[:, None], inputs.NEGATIVES], 1)

    def loss(s, t):
        s, t = (functional.normalize(x) for x in (s, t))
        where = {"pos_idx": places, "contrast_idx": torch.tensor(chosen)}
        step = [
            module(named(s) | {"empty": {"input": where}}, named(t)) for _ in range(2)
        ]
        return sum(step)

    return by_torch(loss, inputs.STUDENT_EMBEDDING, inputs.TEACHER_EMBEDDING)


MAPS = inputs.STUDENT_MAP, inputs.TEACHER_MAP
PAIR = {"io": "output", "path": "x"}


@peer("torchdistill", "attention_transfer", "ATLoss, the code's form: mean over pixels")
def torchdistill_attention_transfer():
    module = mid_level.ATLoss({"one": {"student": PAIR, "teacher": PAIR}})
    return torchdistill_of(module, *MAPS, io=lambda x: named(channels_first(x)))


@peer("torchdistill", "inter_channel_correlation", "ChSimLoss: batch mean over B")
def torchdistill_icc():
    module = mid_level.ChSimLoss({"one": {"student": PAIR, "teacher": PAIR}})

    return torchdistill_of(
        module, *MAPS, io=lambda x: named(channels_first(x).contiguous())
    )


@peer(
    "torchdistill",
    "hierarchical_context",
    "HierarchicalContextLoss: maps of 4, 2 and 1, weights 1, 1/2 and 1/4",
)
def torchdistill_hierarchical_context():
    module = mid_level.HierarchicalContextLoss("x", "output", "x", "output")

    def loss(s, t):
        fused = {"x": {"output": (channels_first(s), None)}}
        return module(fused, named(channels_first(t)))

    return by_torch(loss, *MAPS)


@peer(
    "torchdistill",
    "attention_transfer_distance",
    "ATLoss, the paper's form: batch mean of distances",
)
def torchdistill_attention_transfer_distance():
    module = mid_level.ATLoss({"one": {"student": PAIR, "teacher": PAIR}}, mode="paper")
    return torchdistill_of(module, *MAPS, io=lambda x: named(channels_first(x)))


@peer("torchdistill", "factor_transfer", "FTLoss, p = 1: mean over elements")
def torchdistill_factor_transfer():
    module = mid_level.FTLoss(paraphraser_path="x", translator_path="x")
    return torchdistill_of(module, *MAPS)


@peer(
    "torchdistill",
    "vid",
    "VIDLoss: mean over elements, variance from RepDistiller's form",
)
def torchdistill_vid():
    module = mid_level.VIDLoss({"one": {"student": PAIR, "teacher": PAIR}})
    variance = functional.softplus(torch.tensor(inputs.VARIANCE)) + 1e-5

    def loss(s, t):
        spread = variance.view(1, -1, 1, 1)
        return module(named((channels_first(s), spread)), named(channels_first(t)))

    return by_torch(loss, *MAPS)


# TextBrewer.

TEXTS = inputs.STUDENT_TEXT, inputs.TEACHER_TEXT
HIDDEN = inputs.STUDENT_HIDDEN, inputs.TEACHER_HIDDEN


@peer(
    "textbrewer",
    "forward_kl",
    "kd_ce_loss: cross-entropy, mean over all positions, no T^2",
)
def textbrewer_kd_ce():
    return by_torch(lambda s, t: textbrewer.kd_ce_loss(s, t, 2.0), *TEXTS)


@peer("textbrewer", "logit_mse", "kd_mse_loss: mean over elements, logits over T")
def textbrewer_kd_mse():
    return by_torch(lambda s, t: textbrewer.kd_mse_loss(s, t, 2.0), *TEXTS)


@peer(
    "textbrewer",
    "attention_mse",
    "att_mse_loss: the sum over heads, over the sum of lengths^2",
)
def textbrewer_att_mse():
    scores = inputs.STUDENT_SCORES, inputs.TEACHER_SCORES
    return by_torch(textbrewer.att_mse_loss, *scores, inputs.MASK)


@peer(
    "textbrewer",
    "attention_cross_entropy",
    "att_ce_loss: mean over heads and queries",
)
def textbrewer_att_ce():
    scores = inputs.STUDENT_SCORES, inputs.TEACHER_SCORES
    return by_torch(textbrewer.att_ce_loss, *scores)


@peer(
    "textbrewer",
    "attention_cross_entropy",
    "att_ce_mean_loss: scores averaged over heads, mean over queries",
)
def textbrewer_att_ce_mean():
    scores = inputs.STUDENT_SCORES, inputs.TEACHER_SCORES
    return by_torch(textbrewer.att_ce_mean_loss, *scores)


@peer("textbrewer", "hidden_mse", "hid_mse_loss: mean over all tokens that count")
def textbrewer_hid_mse():
    return by_torch(textbrewer.hid_mse_loss, *HIDDEN, inputs.MASK)


@peer("textbrewer", "cosine_distance", "cos_loss: mean over all tokens that count")
def textbrewer_cos():
    return by_torch(
        lambda s, t: textbrewer.cos_loss(s, t, torch.tensor(inputs.MASK)), *HIDDEN
    )


@peer("textbrewer", "pkd", "pkd_loss: sum over features, batch mean, first token")
def textbrewer_pkd():
    return by_torch(textbrewer.pkd_loss, *HIDDEN)


@peer(
    "textbrewer",
    "fsp",
    "fsp_loss: mean over elements, of one layer and itself reversed",
)
def textbrewer_fsp():
    def loss(s, t):
        return textbrewer.fsp_loss([s, s.flip(-1)], [t, t.flip(-1)])

    return by_torch(loss, *HIDDEN)


# modelopt.


@peer("nvidia-modelopt", "soft_kl", "LogitsDistillationLoss: mean over elements, T^2")
def modelopt_default():
    return by_torch(modelopt.LogitsDistillationLoss(temperature=2.0), *TEXTS)


@peer("nvidia-modelopt", "soft_kl", "LogitsDistillationLoss, batchmean: T^2")
def modelopt_batch_mean():
    module = modelopt.LogitsDistillationLoss(temperature=2.0, reduction="batchmean")
    return by_torch(module, *TEXTS)


@peer(
    "nvidia-modelopt",
    "mft",
    "MFTLoss, batchmean: T^2, teacher corrected by 0.2, 1e-7 in denominators",
    "float32",
)
def modelopt_mft():
    module = modelopt.MFTLoss(temperature=2.0, threshold=0.2)
    return by_torch(module, *IMAGES, inputs.LABELS)


# TRL.


def gkd(masked: bool = True, **options):
    labels = torch.tensor(np.where(inputs.MASK, inputs.TOKENS, -100))
    options |= {"labels": labels} if masked else {}
    return by_torch(
        lambda s, t: GKDTrainer.generalized_jsd_loss(s, t, **options), *TEXTS
    )


@peer(
    "trl",
    "forward_kl",
    "generalized_jsd_loss, beta 0: forward KL, mean over tokens that count",
)
def trl_beta_0():
    return gkd(beta=0)


@peer(
    "trl",
    "jensen_shannon",
    "generalized_jsd_loss, beta 0.1: mean over tokens that count",
)
def trl_beta_01():
    return gkd(beta=0.1)


@peer("trl", "jensen_shannon", "generalized_jsd_loss, beta 0.9, temperature 2: no T^2")
def trl_beta_09():
    return gkd(beta=0.9, temperature=2.0)


@peer(
    "trl",
    "reverse_kl",
    "generalized_jsd_loss, beta 1: reverse KL, mean over tokens that count",
)
def trl_beta_1():
    return gkd(beta=1)


@peer(
    "trl",
    "jensen_shannon",
    "generalized_jsd_loss without labels: the sum over the batch's size",
)
def trl_without_labels():
    return gkd(masked=False, beta=0.5)


@peer(
    "trl",
    "global_token_mean",
    "generalized_jsd_loss: the sum over num_items_in_batch, 21",
)
def trl_accumulated():
    return gkd(beta=0.5, num_items_in_batch=21)


def student_top_k(tail: bool):
    def loss(s, t):
        values = loss_utils.compute_topk_self_distillation_loss(
            s,
            t,
            distillation_topk=3,
            distillation_alpha=0.5,
            distillation_add_tail=tail,
        )
        return values[torch.tensor(inputs.MASK)].mean()

    return by_torch(loss, *TEXTS)


@peer("trl", "top_k", "SDPO: the student's three likeliest, renormalised")
def trl_top_k():
    return student_top_k(tail=False)


@peer("trl", "tail_bucket", "SDPO: the student's three likeliest and a tail bucket")
def trl_top_k_tail():
    return student_top_k(tail=True)


@peer(
    "trl",
    "sampled_log_ratio",
    "SDPO: log-ratio of the tokens written, held fixed, times log q",
)
def trl_sampled_token():
    def loss(s, t, tokens):
        return loss_utils.compute_sampled_token_self_distillation_loss(
            s, t, tokens, distillation_alpha=1.0
        )

    return by_torch(loss, *TEXTS, inputs.TOKENS)


# Liger: a head and a divergence in one; here the head is the identity.


def liger(beta: float):
    words = torch.eye(7, dtype=torch.float64)
    labels = torch.tensor(np.where(inputs.MASK, inputs.TOKENS, -100)).reshape(-1)
    module = LigerFusedLinearJSDLoss(
        weight_hard_loss=0.5,
        weight_soft_loss=0.5,
        beta=beta,
        temperature=2.0,
        compiled=False,
    )
    student, teacher = (x.reshape(-1, 7) for x in TEXTS)
    return by_torch(lambda s, t: module(s, words, t, words, labels), student, teacher)


@peer(
    "liger-kernel",
    "forward_kl",
    "LigerFusedLinearJSDLoss, beta 0: no T^2, half labels",
    "float32",
)
def liger_beta_0():
    return liger(0.0)


@peer(
    "liger-kernel",
    "jensen_shannon",
    "LigerFusedLinearJSDLoss, beta 0.1: no T^2, half labels",
    "float32",
)
def liger_beta_01():
    return liger(0.1)


@peer(
    "liger-kernel",
    "reverse_kl",
    "LigerFusedLinearJSDLoss, beta 1: no T^2, half labels",
    "float32",
)
def liger_beta_1():
    return liger(1.0)


@peer(
    "liger-kernel",
    "cosine_distance",
    "LigerFusedLinearCosineSimilarityLoss: the sum over rows",
)
def liger_cosine():
    loss = LigerFusedLinearCosineSimilarityFunction.distillation_loss_fn
    return by_torch(lambda s, t: loss(s, t, beta=1.0), *IMAGES)


# Losses of drafts.


def speculator(name: str):
    return by_torch(getattr(speculators, name), *TEXTS)


@peer("speculators", "forward_kl", "kl_div_loss: a value a position, added", "float32")
def speculators_kl():
    return speculator("kl_div_loss")


@peer(
    "speculators",
    "reverse_kl",
    "reverse_kl_div_loss: a value a position, added",
    "float32",
)
def speculators_reverse_kl():
    return speculator("reverse_kl_div_loss")


@peer(
    "speculators", "jensen_shannon", "js_div_loss: a value a position, added", "float32"
)
def speculators_js():
    return speculator("js_div_loss")


@peer(
    "speculators", "teacher_argmax", "ce_loss: the target's likeliest as label, added"
)
def speculators_argmax():
    return speculator("ce_loss")


@peer("speculators", "total_variation", "tv_loss: a value a position, added", "float32")
def speculators_tv():
    return speculator("tv_loss")


@peer(
    "speculators",
    "negative_log_acceptance",
    "neg_log_acceptance_loss: a value a position, added",
    "float32",
)
def speculators_nla():
    return speculator("neg_log_acceptance_loss")


# PyTorch itself.


@peer("torch", "cross_entropy", "cross_entropy: batch mean")
def torch_cross_entropy():
    return by_torch(functional.cross_entropy, inputs.STUDENT, inputs.LABELS)


@peer("torch", "label_smoothing", "cross_entropy, label_smoothing 0.1: batch mean")
def torch_label_smoothing():
    return by_torch(
        lambda s, y: functional.cross_entropy(s, y, label_smoothing=0.1),
        inputs.STUDENT,
        inputs.LABELS,
    )


@peer("torch", "hint", "mse_loss: mean over elements")
def torch_mse():
    return by_torch(functional.mse_loss, *MAPS)


# In JAX.


def tunix(**options):
    strategy = tunix_logit.LogitStrategy(
        None, None, None, temperature=2.0, alpha=0.3, **options
    )
    labels = jax.nn.one_hot(inputs.TOKENS, 7)
    return by_jax(lambda s, t: strategy.compute_loss(s, t, labels)[0], *TEXTS)


@peer(
    "google-tunix",
    "hinton",
    "LogitStrategy: mean over all positions, T^2, alpha weighs teacher",
    "float32",
)
def tunix_full():
    return tunix()


@peer(
    "google-tunix",
    "top_k",
    "LogitStrategy: the teacher's three likeliest, renormalised",
    "float32",
)
def tunix_top_k():
    return tunix(distill_top_k=3)


@peer(
    "keras",
    "soft_kl",
    "LogitsDistillation: mean over positions, T^2, clipped at 1e-7",
    "float32",
)
def keras_logits():
    # Its default, the name of the loss, takes logits for probabilities in 3.15.1.
    loss = keras.distillation.LogitsDistillation(2.0, keras.losses.KLDivergence())
    return by_jax(lambda s, t: loss.compute_loss(t, s), *TEXTS)


@peer("optax", "forward_kl", "kl_divergence: a value an example, here the mean")
def optax_kl():
    def loss(s, t):
        return optax.kl_divergence(jax.nn.log_softmax(s), jax.nn.softmax(t)).mean()

    return by_jax(loss, *IMAGES)


@peer("optax", "cosine_distance", "cosine_distance: a value an example, here the sum")
def optax_cosine():
    return by_jax(lambda s, t: optax.cosine_distance(s, t).sum(), *IMAGES)


def records() -> dict[str, dict]:
    found = {}
    for name, (package, loss, convention, dtype, function) in PEERS.items():
        value, gradient = function()
        found[name] = {
            "package": package,
            "version": metadata.version(package).split("+")[0],
            "loss": loss,
            "convention": convention,
            "dtype": dtype,
            "value": value,
            "gradient": gradient.tolist(),
        }
        print(f"{name:45}{value: .12f}  {package} {found[name]['version']}")
    return found


def differences(found: dict[str, dict], there: dict[str, dict]) -> list[str]:
    lines = [f"{n}: in one of both only" for n in found.keys() ^ there.keys()]
    for name in found.keys() & there.keys():
        new, old = found[name], there[name]
        for key in ("package", "version", "loss", "convention", "dtype"):
            if new[key] != old[key]:
                lines.append(f"{name}: {key} is {new[key]!r} and was {old[key]!r}")
        tolerance = TOLERANCE[old["dtype"]]
        for key in ("value", "gradient"):
            if not np.allclose(new[key], old[key], rtol=tolerance, atol=tolerance):
                lines.append(f"{name}: {key} is {new[key]} and was {old[key]}")
    return sorted(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="replace values.json")
    write = parser.parse_args().write
    jax.config.update("jax_enable_x64", True)
    torch.set_default_dtype(torch.float64)
    found = records()
    if write:
        lines = [f"  {json.dumps(n)}: {json.dumps(r)}" for n, r in found.items()]
        VALUES.write_text("{\n" + ",\n".join(lines) + "\n}\n")
        print(f"wrote {VALUES}")
        return
    found_differences = differences(found, json.loads(VALUES.read_text()))
    if found_differences:
        sys.exit("\n".join(["peers differ from values.json:", *found_differences]))
    print(f"{len(found)} peers give what values.json says")


if __name__ == "__main__":
    main()
