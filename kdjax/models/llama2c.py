"""Language models in the files of llama2.c."""

from pathlib import Path
import struct
from typing import Any

import numpy as np

from kdjax.models.decoder import DecoderShape, LanguageModel, sizes

_HEADER = 7  # integers of four bytes
_NAMES = (
    *("attention_norm", "query", "key", "value", "attention_out", "norm"),
    *("gate", "down", "up"),
)


def load(path: str | Path) -> LanguageModel:
    """Opens a model in the format that llama2.c calls version 0.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if its header is none of a model, or it has another size than this
        says, because it was cut short, for example.
    """
    path = Path(path)
    data = path.read_bytes()
    if len(data) < 4 * _HEADER:
        raise ValueError(f"{path} has {len(data)} bytes, but takes a header of 28")
    header = struct.unpack("<7i", data[: 4 * _HEADER])
    width, feed_forward, layers, heads, key_heads, vocabulary, context = header
    try:
        shape = DecoderShape(
            abs(vocabulary),
            layers,
            width,
            heads,
            key_heads,
            feed_forward,
            context,
            pairs="neighbours",
            tied=vocabulary > 0,  # a negative number says that they are not
        )
    except ValueError as error:
        raise ValueError(f"{path} is no model of llama2.c: {error}") from error
    whole = sizes(shape)
    places = [("words",), *(("layers", name) for name in _NAMES), ("norm",)]
    # Its tables of sines and cosines follow, which we compute.
    expected = [_at(whole, where) for where in places]
    tables = context * shape.head_width
    if not shape.tied:
        expected.append(whole["output"])
    count = sum(int(np.prod(size)) for size in expected) + tables
    if len(data) != 4 * (_HEADER + count):
        raise ValueError(
            f"{path} has {len(data)} bytes, but its header asks for "
            f"{4 * (_HEADER + count)}"
        )
    numbers = np.frombuffer(data, "<f4", offset=4 * _HEADER)
    params: dict[str, Any] = {"layers": {}}
    first = 0
    for where, size in zip(places, expected, strict=False):
        last = first + int(np.prod(size))
        tree = params["layers"] if len(where) == 2 else params
        tree[where[-1]] = numbers[first:last].reshape(size).copy()
        first = last
    if not shape.tied:
        params["output"] = numbers[first + tables :].reshape(whole["output"]).copy()
    return LanguageModel(shape, params)


def _at(tree: Any, where: tuple[str, ...]) -> Any:
    for key in where:
        tree = tree[key]
    return tree
