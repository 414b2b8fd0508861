"""Language models and tokenizers in the files of llama2.c."""

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
    except (ValueError, ZeroDivisionError) as error:
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


class Tokenizer:
    """The byte-pair encoding of llama2.c, with the scores of SentencePiece.

    Args:
      path: Such as ``tok512.bin``.
      vocabulary: Number of tokens.

    Raises:
      ValueError: if the file does not hold this number of tokens.
    """

    BEGIN, END = 1, 2

    def __init__(self, path: str | Path, vocabulary: int):
        data, at = Path(path).read_bytes(), 4
        self.tokens: list[bytes] = []
        self.scores: list[float] = []
        while at < len(data):
            if at + 8 > len(data):
                raise ValueError(f"{path} ends within a token, as if it was cut short")
            score, length = struct.unpack("<fi", data[at : at + 8])
            token = data[at + 8 : at + 8 + length]
            if length < 0 or len(token) != length:
                raise ValueError(f"{path} ends within a token, as if it was cut short")
            self.scores.append(score)
            self.tokens.append(token)
            at += 8 + length
        if len(self.tokens) != vocabulary:
            raise ValueError(
                f"{path} has {len(self.tokens)} tokens, but the model has {vocabulary}"
            )
        self._ids = {token: i for i, token in reversed(list(enumerate(self.tokens)))}

    def encode(self, text: str) -> list[int]:
        """The tokens of a text, with that which begins it, and without the last."""
        ids = [self.BEGIN]
        if text:
            ids.append(self._ids[b" "])
        for character in text:
            raw = character.encode()
            known = self._ids.get(raw)
            ids += [known] if known is not None else [3 + byte for byte in raw]
        while True:
            merged = [
                (self.scores[pair], -i, pair)
                for i in range(len(ids) - 1)
                if (pair := self._ids.get(self._both(ids, i), -1)) >= 0
            ]
            if not merged:
                return ids
            _, place, pair = max(merged)
            ids[-place : 2 - place] = [pair]

    def _both(self, ids: list[int], i: int) -> bytes:
        return self.tokens[ids[i]] + self.tokens[ids[i + 1]]

    def decode(self, ids: list[int]) -> str:
        """The text of tokens; those that begin or end it are left out."""
        found = bytearray()
        for before, token in zip([self.END, *ids], ids, strict=False):
            if token in (self.BEGIN, self.END):
                continue
            raw = self.tokens[token]
            if before == self.BEGIN:
                raw = raw.removeprefix(b" ")
            if 3 <= token < 259 and raw.startswith(b"<0x"):
                raw = bytes([token - 3])
            found += raw
        return found.decode(errors="replace")
