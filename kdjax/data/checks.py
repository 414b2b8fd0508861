"""Checks of the data for a training."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from kdjax.data.source import Stream
from kdjax.data.types import Data
from kdjax.models import Batch, Outputs
from kdjax.progress import console


def with_arrays(data: Any) -> Data:
    """The data with all arrays of types that jax keeps.

    Raises:
      TypeError, ValueError: naming the split or the array that is invalid.
    """
    if not isinstance(data, Data):
        raise TypeError(
            f"data is {type(data).__name__}, but takes kdjax.data.Data(train, "
            f"validation, test)"
        )
    if data.train is None:
        raise ValueError("train is None, but takes arrays by name or a Stream")
    return Data(*map(_arrays, Data._fields, data))


def _arrays(name: str, split: Any) -> Any:
    """The split, checked to have arrays of equal length, without float64."""
    if split is None or (name == "train" and isinstance(split, Stream)):
        return split
    if not isinstance(split, Mapping):
        raise TypeError(f"{name} is {type(split).__name__}, but takes arrays by name")
    if not isinstance(split.get("teacher"), Outputs | None):
        raise TypeError(
            f"{name}['teacher'] is {type(split['teacher']).__name__}, but takes "
            f"kdjax.models.Outputs, as kdjax.training.teacher.store adds"
        )
    if name == "train" and "index" in split:
        raise ValueError(
            "train has an array 'index', but this is the name under which a training "
            "adds the place of each example"
        )
    split = {part: value for part, value in split.items() if value is not None}
    named = {
        f"{part}{jax.tree_util.keystr(path)}": leaf
        for part, value in split.items()
        for path, leaf in jax.tree_util.tree_leaves_with_path(value)
    }
    for part, leaf in named.items():
        _check_array(f"{name} {part}", leaf)
    lengths = {part: len(leaf) for part, leaf in named.items()}
    if len(set(lengths.values())) != 1 or not all(lengths.values()):
        raise ValueError(
            f"{name} has arrays of lengths {lengths}, but takes arrays of equal, "
            f"positive length"
        )
    if "tokens" in split and "mask" in split:
        check_padding(f"{name} mask", split["mask"])
    wide = [part for part, leaf in named.items() if leaf.dtype == np.float64]
    if wide:
        console.print(f"{name} {', '.join(wide)}: float64, converted to float32")
    return jax.tree.map(_converted, split)


def check_padding(name: str, mask: Any) -> None:
    """Raises ValueError if a mask ``[N, L]`` has padding before a token."""
    there = np.asarray(mask) != 0
    if (there[:, 1:] > there[:, :-1]).any():
        raise ValueError(f"{name} has padding before a token, but takes it at the end")


def _check_array(name: str, leaf: Any) -> None:
    if not isinstance(leaf, np.ndarray | jax.Array) or leaf.ndim == 0:
        raise TypeError(f"{name} is {leaf!r}, but takes an array, one row per example")
    if leaf.dtype.kind in "OSUMm":
        raise TypeError(f"{name} is of type {leaf.dtype}, but takes numbers")


def _converted(array: Any) -> Any:
    return np.asarray(array, np.float32) if array.dtype == np.float64 else array


def check_labels(name: str, split: Batch, outputs: Outputs) -> None:
    """Raises ValueError unless all labels are classes of the model.

    Labels of tokens may also be -1, where none is to be predicted.
    """
    if "label" not in split:
        return
    *leading, classes = outputs.logits.shape
    labels = np.asarray(split["label"])
    wanted = (len(labels), *leading[1:])
    if len(wanted) == 2 and "tokens" in split:  # texts of each split have own lengths
        wanted = np.shape(split["tokens"])
    if labels.dtype.kind not in "iu" or labels.shape != wanted:
        raise ValueError(
            f"{name} labels have shape {labels.shape} and type {labels.dtype}, but a "
            f"model with logits {outputs.logits.shape} takes integers of shape {wanted}"
        )
    least = -1 if labels.ndim > 1 else 0
    if labels.min() < least or labels.max() >= classes:
        raise ValueError(
            f"{name} labels are in [{labels.min()}, {labels.max()}], but a model with "
            f"{classes} classes takes [{least}, {classes - 1}]"
        )


def check_teacher(name: str, split: Batch, outputs: Outputs) -> None:
    """Raises ValueError unless stored logits have the shape of the model's."""
    if split.get("teacher") is None:
        return
    stored = shape = split["teacher"].logits.shape
    wanted = (shape[0], *outputs.logits.shape[1:])
    if len(wanted) == 3 and "tokens" in split:  # texts of each split have own lengths
        wanted = (*np.shape(split["tokens"]), wanted[-1])
    if name == "train" and len(shape) == len(wanted) + 1:  # several teachers or views
        shape = (shape[0], *shape[2:])
    if shape != wanted:
        raise ValueError(
            f"{name} teacher's logits have shape {stored}, but a student with logits "
            f"{outputs.logits.shape} takes {wanted}"
        )
