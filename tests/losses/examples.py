"""Every public function of the losses with arguments that it takes."""

from collections.abc import Callable
import inspect
from typing import Any

import jax
import numpy as np

from kdjax import losses

B, L, C, HEADS, D = 4, 5, 7, 2, 8


def _normal(*shape: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


_IMAGES = {
    "student_logits": 3 * _normal(B, C, seed=0),
    "teacher_logits": 3 * _normal(B, C, seed=1),
    "labels": np.array([3, 0, 6, 2]),
}
_TEXTS = {
    "student_logits": 2 * _normal(B, L, C, seed=2),
    "teacher_logits": 2 * _normal(B, L, C, seed=3),
    "tokens": np.random.default_rng(4).integers(0, C, (B, L)),
    "labels": np.random.default_rng(5).integers(0, C, (B, L)),
    "mask": np.arange(L) < np.array([[3], [5], [1], [4]]),
}
_OTHERS = {
    "acceptance": np.float32(0.8),
    "advantages": _normal(B, L, seed=11),
    "alpha": 0.5,
    "classes": np.array([[3, 0], [1, 6], [2, 5], [0, 4]]),
    "cost": 0.1,
    "dataset_size": 9,
    "discount": 0.9,
    "drafted": 3,
    "draws": 2,
    "gap": np.float32([0.1, 0.3, 0.2, -0.1]),
    "from_student": np.array([True, False, False, False]),
    "head_logits": _normal(B, 2, L, C, seed=6),
    "heads": HEADS,
    "indices": np.array([3, 0, 7, 4]),
    "k": 2,
    "kept": np.arange(C) < np.array([[3], [5], [1], [4]]),
    "key": jax.random.key(0),
    "logits": _IMAGES["teacher_logits"],
    "log_probabilities": np.full((B, 2), -1.5, np.float32),
    "masked": np.arange(L) % 2 == np.array([[0], [1], [0], [1]]),
    "old_log_probabilities": -1 - _normal(B, L, seed=12) ** 2,
    "memory": losses.Memory(*_normal(2, 9, D, seed=7), *np.zeros(2, np.float32)),
    "negatives": np.array([[1, 2, 5], [8, 6, 2], [1, 1, 0], [5, 8, 3]]),
    "raw_variance": _normal(3, seed=8),
    "reference_gap": 0.2,
    "rewards": _normal(B, L, seed=9),
    "sampled": losses.Sampled(
        np.array([[0, 1]] * B), *np.ones((2, B, 2), dtype=np.float32)
    ),
    "size": C,
    "smoothing": 0.1,
    "student_scale": 5.0,
    "teacher_scale": 5.0,
    "temperature": 2.0,
    "values": _normal(B, L, seed=10),
    "width": D,
}
_HIDDEN = {"hidden_mse", "relation_kl", "pkd"}
_MAPS = {"attention_transfer", "attention_transfer_distance", "fsp", "nst", "vid"}
_MAPS |= {"hierarchical_context", "inter_channel_correlation"}
_OF_TEXTS = {"distilbert", "eagle", "gkd", "importance_weights", "medusa", "minillm"}
_OF_TEXTS |= {"reverse_kl_k1", "reverse_kl_k2", "reverse_kl_k3"}
_OF_TEXTS |= {"sampled_log_ratio", "sequence_nll", "clipped_policy_loss"}
_OF_TEXTS |= {"likelihood_gap"}


def _activations(function: str, name: str) -> np.ndarray:
    """Of a student or a teacher, as the function takes it."""
    seed = sum(map(ord, name))
    if "scores" in name:
        layers = (3,) * (function == "tinybert")
        return _normal(B, *layers, HEADS, L, L, seed=seed)
    if function == "tinybert":
        return _normal(B, 4, L, D, seed=seed)
    if function in _MAPS:
        return _normal(B, 4, 4, 3, seed=seed)
    hidden = ("hidden", "features", "queries", "keys", "values")
    if function in _HIDDEN or any(word in name for word in hidden):
        return _normal(B, L, D, seed=seed)
    return _normal(B, D, seed=seed)


def _arguments(function: str) -> dict[str, Any]:
    logits = _TEXTS if function in _OF_TEXTS else _IMAGES
    if function == "eagle3":
        logits = {name: x[:, None] for name, x in _TEXTS.items()}
    given = {}
    for name, parameter in inspect.signature(FUNCTIONS[function]).parameters.items():
        if name == "tokens" and function == "global_token_mean":
            given[name] = 13
        elif name == "mask":
            given[name] = logits.get("mask", _TEXTS["mask"])
        elif parameter.default is not parameter.empty:
            continue
        elif name in logits | _OTHERS:
            given[name] = (_OTHERS | logits)[name]
        else:
            given[name] = _activations(function, name)
    return given


FUNCTIONS: dict[str, Callable] = {
    name: f for name, f in vars(losses).items() if inspect.isfunction(f)
}
EXAMPLES = {name: _arguments(name) for name in FUNCTIONS}


def having(*parameters: str) -> list[tuple[str, str]]:
    """Functions with a parameter of one of these names, and the name."""
    return [
        (function, name)
        for function, f in FUNCTIONS.items()
        for name in parameters
        if name in inspect.signature(f).parameters
    ]
