"""What the files of decoders have in common: tensors by name, to be put together."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kdjax.models.decoder import DecoderShape, LanguageModel, sizes
from kdjax.models.hugging_face import InvalidCheckpoint


def assembled(
    path: Path,
    shape: DecoderShape,
    names: Mapping[str, str],
    found: Mapping[str, tuple[int, ...]],
    read: Callable[[str], np.ndarray],
) -> LanguageModel:
    """A language model from the tensors of a file.

    Args:
      path: The file, for errors.
      shape: The sizes that it says the model has.
      names: The name of the tensor for each parameter, with ``{}`` for the number of a
        layer, and those of layers under ``layers.`` and their own name.
      found: The shapes of all tensors of the file by name.
      read: Returns a tensor by name.

    Raises:
      InvalidCheckpoint: naming the tensors that are missing, misshapen or unknown.
    """
    whole = sizes(shape)
    layers = whole.pop("layers")
    wanted: dict[tuple[str, ...], tuple[list[str], tuple[int, ...]]] = {
        (name,): ([names[name]], size) for name, size in whole.items()
    }
    for name, (_, *size) in layers.items():
        each = [names[f"layers.{name}"].format(i) for i in range(shape.layers)]
        wanted["layers", name] = each, tuple(size)
    wrong, known = [], set()
    for each, size in wanted.values():
        known.update(each)
        wrong += [f"{name} is missing" for name in each if name not in found]
        bad = [name for name in each if found.get(name, size) != size]
        wrong += [f"{name} has shape {found[name]}, not {size}" for name in bad]
    if shape.tied:
        known.add(names["output"])  # a copy
    wrong += [f"{name} has no place" for name in sorted(found.keys() - known)]
    if wrong:
        raise InvalidCheckpoint(f"{path} does not fit its sizes: {'; '.join(wrong)}")
    params: dict[str, Any] = {"layers": {}}
    for where, (each, _) in wanted.items():
        arrays = [np.asarray(read(name), np.float32) for name in each]
        if len(where) == 2:
            params["layers"][where[1]] = np.stack(arrays)
        else:
            params[where[0]] = arrays[0]
    return LanguageModel(shape, params)
