"""Transformer decoders in the form of Llama and Qwen2, with a cache for generation.

The parameters are plain arrays. Those of all layers are stacked, so that one loop over
them is compiled once. Matrices are ``[outputs, inputs]``, which a CPU reads fastest
when one token is generated at a time.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.models.linear import linear
from kdjax.models.types import Batch, Model, Outputs, Variables

Pairs = Literal["halves", "neighbours"]


@dataclass(frozen=True)
class DecoderShape:
    """The sizes of a decoder.

    Args:
      vocabulary: Number of tokens.
      layers: Number of layers.
      width: Size of hidden states.
      heads: Number of query heads; must divide the width.
      key_heads: Number of heads of keys and values, which groups of queries share;
        must divide heads.
      feed_forward: Width of the hidden layer of each block.
      context: The largest number of tokens of a text.
      rotary_base: Base of the frequencies of the rotary position embedding.
      pairs: Which numbers it rotates together: those of the two ``halves`` of a head,
        as in Hugging Face's form, or ``neighbours``, as in llama2.c and GGUF's llama.
      tied: Whether the table of embeddings is also the output layer.
      biases: Whether queries, keys and values have biases, as in Qwen2.
      epsilon: Added to the mean square in root-mean-square normalisation.
    """

    vocabulary: int
    layers: int
    width: int
    heads: int
    key_heads: int
    feed_forward: int
    context: int = 2048
    rotary_base: float = 10_000.0
    pairs: Pairs = "halves"
    tied: bool = True
    biases: bool = False
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        if self.layers < 1:
            raise ValueError(f"layers is {self.layers}, but takes at least 1")
        for name, whole in (("heads", "width"), ("key_heads", "heads")):
            own, other = getattr(self, name), getattr(self, whole)
            if own < 1 or other % own:
                raise ValueError(f"{name} is {own}, but must divide {whole}, {other}")
        if self.head_width % 2:
            raise ValueError(f"heads have width {self.head_width}, but takes even ones")
        if self.pairs not in (known := get_args(Pairs)):
            takes = ", ".join(known)
            raise ValueError(f"pairs is {self.pairs!r}, but takes one of {takes}")

    @property
    def head_width(self) -> int:
        return self.width // self.heads


class LanguageModel(NamedTuple):
    """A decoder's sizes and parameters."""

    shape: DecoderShape
    params: dict[str, Any]


class Cache(NamedTuple):
    """Keys and values of all tokens so far, ``[layers, B, S, key_heads, head_width]``.

    Row ``i`` of the axis ``S`` belongs to the token at position ``i``.
    """

    keys: jax.Array
    values: jax.Array


def decoder(shape: DecoderShape) -> Model:
    """A decoder of the batch's ``tokens`` and ``mask``, ``[B, L]`` each.

    The logits ``[B, L, vocabulary]`` at a position are of the next token. The mask is 1
    for tokens and 0 for padding, which must be at the end. Features are the hidden
    states ``[B, L, width]``: the embeddings, then one of each layer. Attention holds
    the scores of each layer before the softmax, ``[B, heads, L, L]``, without the mask.

    Args:
      shape: The sizes.

    References:
      Touvron et al., `Llama <https://arxiv.org/abs/2302.13971>`_, 2023; Ainslie et al.,
      `GQA <https://arxiv.org/abs/2305.13245>`_, 2023, on shared keys and values.
    """
    return Model(partial(_init, shape), partial(_apply, shape))


def sizes(shape: DecoderShape) -> dict[str, Any]:
    """The shapes of the parameters, in a tree as they are."""
    wide, inner = shape.width, shape.feed_forward
    narrow = shape.key_heads * shape.head_width
    layers = {
        "attention_norm": (wide,),
        "query": (wide, wide),
        "key": (narrow, wide),
        "value": (narrow, wide),
        "attention_out": (wide, wide),
        "norm": (wide,),
        "gate": (inner, wide),
        "up": (inner, wide),
        "down": (wide, inner),
    }
    if shape.biases:
        layers |= {"query_bias": (wide,), "key_bias": (narrow,)}
        layers |= {"value_bias": (narrow,)}
    found: dict[str, Any] = {
        "words": (shape.vocabulary, wide),
        "layers": {name: (shape.layers, *size) for name, size in layers.items()},
        "norm": (wide,),
    }
    return found if shape.tied else {**found, "output": (shape.vocabulary, wide)}


def _init(shape: DecoderShape, key: jax.Array, batch: Batch) -> Variables:
    leaves, tree = jax.tree.flatten_with_path(
        sizes(shape), is_leaf=lambda leaf: isinstance(leaf, tuple)
    )
    keys = jax.random.split(key, len(leaves))
    params = [
        _drawn(path[-1].key, size, shape.layers, each)
        for (path, size), each in zip(leaves, keys, strict=True)
    ]
    return {"params": jax.tree.unflatten(tree, params), "state": {}}


def _drawn(name: str, size: tuple, layers: int, key: jax.Array) -> jax.Array:
    """Weights as GPT-2 draws them: what is added to hidden states, smaller."""
    if name.endswith("norm"):
        return jnp.ones(size)
    if name.endswith("bias"):
        return jnp.zeros(size)
    added = name in ("attention_out", "down")
    scale = 0.02 / (2 * layers) ** 0.5 if added else 0.02
    return scale * jax.random.normal(key, size)


def _apply(
    shape: DecoderShape,
    variables: Variables,
    batch: Batch,
    key: jax.Array | None = None,
) -> tuple[Outputs, Any]:
    tokens, params = batch["tokens"], variables["params"]
    length = tokens.shape[1]
    if length > shape.context:
        raise ValueError(
            f"tokens has {length} places, but the context is {shape.context}"
        )
    positions = jnp.broadcast_to(jnp.arange(length), tokens.shape)
    seen = np.tri(length, dtype=bool)[None] & (batch["mask"] != 0)[:, None]
    tokens = jnp.where(batch["mask"] != 0, tokens, 0)  # padding may be no token
    x = jnp.take(params["words"], tokens, axis=0)

    def body(x: jax.Array, own: Any) -> tuple[jax.Array, Any]:
        y, scores, _ = _layer(shape, own, x, positions, seen, None)
        return y, (y, scores)

    last, (hidden, scores) = jax.lax.scan(body, x, params["layers"])
    features = (x, *(hidden[i] for i in range(shape.layers)))
    attention = tuple(scores[i] for i in range(shape.layers))
    return Outputs(_logits(shape, params, last), features, attention), {}


def empty_cache(shape: DecoderShape, texts: int, places: int) -> Cache:
    """A cache for this number of texts and tokens of each."""
    size = (shape.layers, texts, places, shape.key_heads, shape.head_width)
    return Cache(jnp.zeros(size), jnp.zeros(size))


def continued(
    shape: DecoderShape,
    params: Any,
    cache: Cache,
    tokens: jax.Array,
    positions: jax.Array,
    last: jax.Array | None = None,
) -> tuple[jax.Array, Cache]:
    """Logits of the next tokens, after tokens that are added to a cache.

    Each token sees those of the cache at its own position and before.

    Args:
      shape: The sizes.
      params: The parameters.
      cache: What the texts have so far.
      tokens: ``[B, T]``, the tokens to add.
      positions: ``[B, T]``, their positions.
      last: ``[B]``, the index among the ``T`` tokens whose logits are wanted. By
        default, those of all.

    Returns:
      Logits ``[B, T, vocabulary]``, or ``[B, vocabulary]`` with ``last``, and the cache
      with the tokens.
    """
    places = jnp.arange(cache.keys.shape[2])
    seen = places[None, None] <= positions[..., None]

    def body(x: jax.Array, layer: Any) -> tuple[jax.Array, Cache]:
        own, before = layer
        y, _, after = _layer(shape, own, x, positions, seen, before)
        return y, after

    x, cache = jax.lax.scan(
        body, jnp.take(params["words"], tokens, axis=0), (params["layers"], cache)
    )
    if last is not None:
        x = jnp.take_along_axis(x, last[:, None, None], 1)[:, 0]
    return _logits(shape, params, x), cache


def _layer(
    shape: DecoderShape,
    own: Any,
    x: jax.Array,
    positions: jax.Array,
    seen: jax.Array,
    cache: Cache | None,
) -> tuple[jax.Array, jax.Array, Any]:
    """A layer's hidden states, scores, and the cache with the tokens' own."""
    normed = _normalised(x, own["attention_norm"], shape.epsilon)
    queries, keys, values = (
        _heads(shape, own, name, normed) for name in ("query", "key", "value")
    )
    queries, keys = (_rotated(shape, each, positions) for each in (queries, keys))
    if cache is not None:
        rows = jnp.arange(len(x))[:, None]
        before = zip(cache, (keys, values), strict=True)
        keys, values = (old.at[rows, positions].set(new) for old, new in before)
        cache = Cache(keys, values)
    grouped = queries.reshape(*queries.shape[:2], shape.key_heads, -1, shape.head_width)
    grouped = grouped * shape.head_width**-0.5
    scores = jnp.einsum("btkgd,bskd->bkgts", grouped, keys)
    lowest = jnp.finfo(scores.dtype).min
    weights = jax.nn.softmax(jnp.where(seen[:, None, None], scores, lowest), -1)
    context = jnp.einsum("bkgts,bskd->btkgd", weights, values).reshape(x.shape)
    x = x + linear(context, own["attention_out"])
    normed = _normalised(x, own["norm"], shape.epsilon)
    gated = jax.nn.silu(linear(normed, own["gate"])) * linear(normed, own["up"])
    scores = scores.reshape(len(x), shape.heads, *scores.shape[3:])
    return x + linear(gated, own["down"]), scores, cache


def _heads(shape: DecoderShape, own: Any, name: str, x: jax.Array) -> jax.Array:
    y = linear(x, own[name])
    if shape.biases:
        y = y + own[f"{name}_bias"][None, None]
    return y.reshape(*x.shape[:2], -1, shape.head_width)


def _normalised(x: jax.Array, scale: jax.Array, epsilon: float) -> jax.Array:
    scale = jnp.expand_dims(scale, tuple(range(x.ndim - 1)))
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + epsilon) * scale


def _rotated(shape: DecoderShape, x: jax.Array, positions: jax.Array) -> jax.Array:
    """Queries or keys ``[B, T, heads, head_width]``, turned by their positions."""
    half = shape.head_width // 2
    speeds = shape.rotary_base ** (-np.arange(half, dtype=np.float32) / half)
    angles = (positions[..., None] * speeds[None, None])[:, :, None]
    cosine, sine = jnp.cos(angles), jnp.sin(angles)
    if shape.pairs == "halves":
        a, b = x[..., :half], x[..., half:]
        return jnp.concatenate([a * cosine - b * sine, b * cosine + a * sine], -1)
    a, b = x[..., 0::2], x[..., 1::2]
    turned = jnp.stack([a * cosine - b * sine, b * cosine + a * sine], -1)
    return turned.reshape(x.shape)


def _logits(shape: DecoderShape, params: Any, x: jax.Array) -> jax.Array:
    table = params["words" if shape.tied else "output"]
    return linear(_normalised(x, params["norm"], shape.epsilon), table)
